//! `maxmemory-clients`: closes the largest clients of all shards until the others fit.
//!
//! A shard that finds the limit passed tells the first one, which runs this plan of the server's own: it asks all shards for their
//! largest clients, picks the largest of all, and has their shards close them. Meanwhile a client may have gone, or asked to stay; then
//! it is not closed, and the next round looks again. A client that waits for data ends its wait as one that was killed does: the plan
//! that waits is told, whatever it is doing, and nothing of it is freed under it.
//!
//! Part of the [`Engine`]: belongs to the first core. Absent on purpose: what a client takes (`shard::memory`).

use super::engine::Engine;
use crate::base::ShardId;
use crate::resp::{CommandError, Reply};
use crate::shard::memory::{LargeClient, clients_limit};
use crate::txn::Coordinator;

/// Clients of one shard that one round looks at.
const CLIENTS_PER_ROUND: usize = 64;
/// Rounds before the plan leaves the rest to the next one.
const ROUNDS_MAX: usize = 16;

/// The largest clients that leave at most `limit` when they have gone.
fn victims(shards: Vec<(u64, Vec<LargeClient>)>, limit: u64) -> Vec<LargeClient> {
    let mut left: u64 = shards.iter().map(|(bytes, _)| bytes).sum();
    let mut clients: Vec<LargeClient> = shards.into_iter().flat_map(|(_, clients)| clients).collect();
    clients.sort_unstable_by_key(|client| (std::cmp::Reverse(client.bytes), client.id));
    let mut victims = Vec::new();
    for client in clients {
        // Redis's comparison: a limit that is just reached is passed.
        if left < limit {
            break;
        }
        left -= client.bytes.min(left);
        victims.push(client);
    }
    victims
}

async fn plan(coordinator: Coordinator) -> Result<Reply, CommandError> {
    for _ in 0..ROUNDS_MAX {
        let Some(limit) = coordinator.call(ShardId(0), |shard| clients_limit(&shard.config)).await else { break };
        let shards = coordinator.call_all(|shard| shard.largest_clients(CLIENTS_PER_ROUND)).await;
        let victims = victims(shards, limit);
        if victims.is_empty() {
            break;
        }
        let close = |client: LargeClient| coordinator.call(client.shard, move |shard| shard.evict_client(client.key));
        let calls: Vec<_> = victims.into_iter().map(close).collect();
        for call in calls {
            call.await;
        }
    }
    coordinator.call(ShardId(0), |shard| shard.client_memory.is_evicting = false).await;
    Ok(coordinator.reply())
}

impl Engine {
    /// Starts the plan if somebody has found the limit passed and none is running.
    #[inline]
    pub(super) fn evict_clients(&mut self) {
        let clients = &mut self.shard.client_memory;
        if clients.is_over && !clients.is_evicting {
            clients.is_over = false;
            clients.is_evicting = true;
            self.start_service(|coordinator| Box::pin(plan(coordinator)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionKey;

    #[test]
    fn the_largest_go_until_the_rest_fits_wherever_they_are() {
        let client = |bytes, id, shard| {
            let key = SessionKey { index: id as u32, generation: 0 };
            LargeClient { bytes, id, shard: ShardId(shard), key }
        };
        // Clients that are not listed, because they are small or have asked to stay, count all the same.
        let shards = || {
            vec![(1000, vec![client(400, 1, 0), client(100, 2, 0)]), (900, vec![client(500, 3, 1), client(300, 4, 1)])]
        };
        let ids = |limit| victims(shards(), limit).iter().map(|client| client.id).collect::<Vec<_>>();
        assert_eq!(ids(2000), [] as [u64; 0]);
        assert_eq!(ids(1900), [3]);
        assert_eq!(ids(1001), [3, 1]);
        assert_eq!(ids(1000), [3, 1, 4]);
        assert_eq!(ids(10), [3, 1, 4, 2]);
    }
}
