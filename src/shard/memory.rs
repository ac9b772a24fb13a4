//! What this shard's memory is spent on, and `maxmemory-clients`: what the clients of all shards may take together.
//!
//! A client's account is what it makes the server hold: input that is not run yet, arguments of queued and running commands, replies
//! here and on their way from other shards, what it watches, follows and listens to. It is looked up each time the client has run
//! something or was sent something, and its difference goes to the shard's sum, which is on the board that all shards read. Nobody
//! pays for that while there is no limit.
//!
//! Who goes when the limit is passed is decided by a plan on the first shard, over the largest clients of all shards
//! (`dispatch::client_eviction`).
//!
//! Belongs to its shard. Absent on purpose: the limit on keys (`eviction`).

use super::Shard;
use crate::base::ShardId;
use crate::config::{Config, MemoryOrPercent};
use crate::keyspace::Db;
use crate::metrics::ShardMemory;
use crate::session::{Closing, Session, SessionKey};

/// A limit below this would keep everybody out, the operator included. Bytes; Redis's number.
const CLIENTS_BYTES_MIN: u64 = 128 * 1024;

/// How much memory clients may take together; none if there is no limit. A share of a `maxmemory` that is not set is no limit.
pub fn clients_limit(config: &Config) -> Option<u64> {
    let bytes = match config.maxmemory_clients {
        MemoryOrPercent::Bytes(0) => return None,
        MemoryOrPercent::Bytes(bytes) => bytes,
        MemoryOrPercent::Percent(_) if config.maxmemory == 0 => return None,
        MemoryOrPercent::Percent(percent) => (config.maxmemory as f64 * f64::from(percent) / 100.0) as u64,
    };
    Some(bytes.max(CLIENTS_BYTES_MIN))
}

/// Keys of a database of which the insides are looked up for an estimate.
const INSIDES_SAMPLE: usize = 64;

/// The clients of one shard, as far as their limit goes.
#[derive(Default)]
pub struct ClientMemory {
    /// What they take, as of when each was last looked at.
    pub bytes: u64,
    /// Whether `bytes` is kept up to date: there is a limit.
    pub is_counted: bool,
    /// On the first shard: whether somebody has found the limit passed.
    pub is_over: bool,
    /// On the first shard: whether a plan that closes clients is running.
    pub is_evicting: bool,
    /// When the first shard was told, monotonic microseconds, if the limit has been passed since.
    told_us: Option<u64>,
}

/// How long a shard waits before it tells the first one again that the limit is passed: those that are left may have asked to stay.
const TELL_AGAIN_US: u64 = 100_000;

/// A client that may have to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LargeClient {
    /// What it takes.
    pub bytes: u64,
    /// CLIENT ID.
    pub id: u64,
    /// Where it is served.
    pub shard: ShardId,
    /// Its place there.
    pub key: SessionKey,
}

impl Shard {
    /// A client has run something, or was sent something.
    #[inline]
    pub fn count_client(clients: &mut ClientMemory, session: &mut Session) {
        if clients.is_counted {
            let bytes = session.memory_bytes() as u64;
            clients.bytes = clients.bytes + bytes - session.counted_bytes;
            session.counted_bytes = bytes;
        }
    }

    /// As [`Shard::count_client`], by name.
    pub fn count_client_of(&mut self, key: SessionKey) {
        if self.client_memory.is_counted
            && let Some(session) = self.sessions.get_mut(key)
        {
            Shard::count_client(&mut self.client_memory, session);
        }
    }

    /// A client goes.
    pub fn discount_client(&mut self, session: &Session) {
        self.client_memory.bytes -= session.counted_bytes;
    }

    /// A turn ends: says what the clients take, and has somebody closed if that is too much.
    pub fn watch_clients(&mut self) {
        let limit = clients_limit(&self.config);
        if limit.is_some() != self.client_memory.is_counted {
            self.begin_counting(limit.is_some());
        }
        let Some(limit) = limit else { return };
        self.board.post_clients(self.id.index(), self.client_memory.bytes);
        let is_over = self.board.clients() >= limit;
        let (now_us, told) = (self.now.mono_us, &mut self.client_memory.told_us);
        if !is_over {
            *told = None;
        } else if told.is_none_or(|at| now_us >= at + TELL_AGAIN_US) {
            *told = Some(now_us);
            self.tell(ShardId(0), |first| first.client_memory.is_over = true);
        }
    }

    fn begin_counting(&mut self, counts: bool) {
        self.client_memory.is_counted = counts;
        self.client_memory.bytes = 0;
        for session in self.sessions.iter_mut() {
            session.counted_bytes = 0;
            Shard::count_client(&mut self.client_memory, session);
        }
        if !counts {
            self.board.post_clients(self.id.index(), 0);
        }
    }

    /// What the clients of this shard take, and the largest of those that may be closed, largest first.
    pub fn largest_clients(&mut self, count: usize) -> (u64, Vec<LargeClient>) {
        let mut all = 0;
        let mut large = Vec::new();
        for session in self.sessions.iter().filter(|session| session.closing != Closing::Now) {
            let bytes = session.memory_bytes() as u64;
            all += bytes;
            if !session.no_evict {
                large.push(LargeClient { bytes, id: session.id, shard: self.id, key: session.key });
            }
        }
        large.sort_unstable_by_key(|client| (std::cmp::Reverse(client.bytes), client.id));
        large.truncate(count);
        (all, large)
    }

    /// Closes a client to save memory, if it is still there and has not asked to stay.
    pub fn evict_client(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.closing == Closing::Now || session.no_evict {
            return;
        }
        tracing::info!("Evicting client {} ({}): {} bytes", session.id, session.peer, session.memory_bytes());
        session.closing = Closing::Now;
        self.metrics.evicted_clients += 1;
        self.disturbed.push(key);
    }

    /// What this shard's memory is spent on.
    pub fn memory_now(&self) -> ShardMemory {
        let keyspace = self.keyspace.memory();
        ShardMemory {
            tables: keyspace.table_bytes as u64,
            records: keyspace.record_bytes as u64,
            insides: self.keyspace.dbs().iter().map(|db| insides(db, self.now.mono_us)).sum(),
            clients: self.sessions.iter().map(|session| session.memory_bytes() as u64).sum(),
            log: (self.effects.waiting_bytes() + self.storage.writing_bytes) as u64,
            snapshot: if self.storage.sink.is_some() { self.keyspace.snapshot_waiting_bytes() as u64 } else { 0 },
            evicted_keys: self.metrics.evicted_keys,
            evicted_clients: self.metrics.evicted_clients,
        }
    }

    /// Values and records that wait to be freed in slices.
    pub fn pending_free(&self) -> u64 {
        let dropped: u64 = self.dropped.iter().map(|db| db.len() as u64 + db.pending_free()).sum();
        dropped + self.keyspace.pending_free()
    }
}

/// What lists, sets, hashes, sorted sets and streams of a database take beside their records, as far as some of its keys tell.
fn insides(db: &Db, somewhere: u64) -> u64 {
    let (mut seen, mut bytes) = (0, 0);
    // Hashes are random, so any place is as good as another; it is another each time.
    db.sample(somewhere.wrapping_mul(0x9e37_79b9_7f4a_7c15), INSIDES_SAMPLE, false, |entry| {
        seen += 1;
        bytes += entry.memory_bytes() - entry.bytes();
    });
    (bytes as u64).saturating_mul(db.len() as u64).checked_div(seen).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_clients_is_bytes_or_a_share_of_maxmemory_and_never_too_small() {
        let limit =
            |maxmemory_clients, maxmemory| clients_limit(&Config { maxmemory_clients, maxmemory, ..Config::default() });
        assert_eq!(limit(MemoryOrPercent::Bytes(0), 1 << 30), None);
        assert_eq!(limit(MemoryOrPercent::Bytes(1 << 20), 0), Some(1 << 20));
        assert_eq!(limit(MemoryOrPercent::Bytes(5), 0), Some(CLIENTS_BYTES_MIN));
        assert_eq!(limit(MemoryOrPercent::Percent(5), 1 << 30), Some(53_687_091));
        assert_eq!(limit(MemoryOrPercent::Percent(5), 0), None);
    }
}
