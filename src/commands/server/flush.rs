//! FLUSHDB and FLUSHALL.
//!
//! Emptying a database is one step on each shard, whatever its size, and one step to all clients: the full table is taken out and
//! put among the shard's dropped ones, whose memory is given back in slices. ASYNC leaves that to the event loop; SYNC has it done slice by slice
//! and answers when all is free, but for what a snapshot has yet to write. Either way other clients wait for a slice at most. A client that
//! sees one shard alone, as a node of a cluster, empties that shard's.

use std::collections::BTreeMap;

use super::SERVER;
use crate::base::{DbIndex, ShardId};
use crate::commands::table::{Flags, Reach, Row, Run};
use crate::resp::{Args, CommandError, OwnedArgs};
use crate::shard::Shard;
use crate::shard::cx::WriteCx;
use crate::shard::reservations::Access;
use crate::shard::tracked::Detour;
use crate::txn::{Coordinator, Plan};

/// What both rows share.
const FLUSH: Row = Row {
    usage: "[ASYNC | SYNC]",
    complexity: "O(N) with N keys removed; with ASYNC they are freed in the background",
    arity: -1,
    flags: Flags::WRITE,
    reach: Reach::Everything(Access::Exclusive),
    acl: &["keyspace", "dangerous"],
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..SERVER
};

/// See the module.
pub const FLUSHALL: Row =
    Row { name: "flushall", summary: "Removes all keys of all databases.", run: Run::Server(flushall), ..FLUSH };

/// See the module.
pub const FLUSHDB: Row =
    Row { name: "flushdb", summary: "Removes all keys of the selected database.", run: Run::Server(flushdb), ..FLUSH };

/// Records freed in one step of SYNC: about a tenth of a millisecond.
const RECORDS_PER_SLICE: usize = 1024;

fn flushall(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(flush(coordinator, args, None))
}

fn flushdb(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    let db = coordinator.origin().db;
    Box::pin(flush(coordinator, args, Some(db)))
}

/// Whether to wait for the memory; `None` leaves it to the configuration.
fn parse(args: Args<'_>) -> Result<Option<bool>, CommandError> {
    match args.len() {
        1 => Ok(None),
        2 if args.get(1).eq_ignore_ascii_case(b"SYNC") => Ok(Some(true)),
        2 if args.get(1).eq_ignore_ascii_case(b"ASYNC") => Ok(Some(false)),
        _ => Err(CommandError::Syntax),
    }
}

/// Empties one database, or all.
async fn flush(
    coordinator: Coordinator,
    args: OwnedArgs,
    only: Option<DbIndex>,
) -> Result<crate::resp::Reply, CommandError> {
    let sync = parse(args.as_args())?;
    let fence = coordinator.fence();
    let flushed = coordinator
        .transact_seen(move |shard| {
            drop_databases(shard, only);
            let asides = shard.tracking.set_aside(fence);
            let lazy = shard.config.lazyfree_lazy_user_flush;
            Flushed { shard: shard.id, lazy, has_tracked: shard.tracking.clients > 0, asides }
        })
        .await;
    tell_tracked(&coordinator, &flushed).await;
    if sync.unwrap_or(!flushed[0].lazy) {
        while coordinator.call_seen(free_slice).await.contains(&true) {}
    }
    let mut reply = coordinator.reply();
    reply.ok();
    Ok(reply)
}

/// What a shard says when its keys have gone.
struct Flushed {
    shard: ShardId,
    lazy: bool,
    /// Whether clients of it are tracked.
    has_tracked: bool,
    /// Whether somebody may have copies of keys that were here.
    asides: bool,
}

/// Tells clients that are tracked, on the shards that have some or were not asked because no key of theirs has gone, and then those that
/// they are redirected to. What was set aside is forgotten behind that: until then a write to a key that has gone must find who has read
/// it.
async fn tell_tracked(coordinator: &Coordinator, flushed: &[Flushed]) {
    let (fence, by) = (coordinator.fence(), coordinator.client());
    let without = |shard: &ShardId| flushed.iter().any(|f| f.shard == *shard && !f.has_tracked);
    let tell = |shard| coordinator.call(shard, move |shard| shard.invalidate_all(by));
    let calls: Vec<_> = coordinator.slots().all().filter(|shard| !without(shard)).map(tell).collect();
    let mut detours: BTreeMap<ShardId, Vec<Detour>> = BTreeMap::new();
    for call in calls {
        for detour in call.await {
            detours.entry(detour.to.home).or_default().push(detour);
        }
    }
    let tell =
        |(shard, detours): (ShardId, Vec<Detour>)| coordinator.call(shard, move |shard| shard.finish_detours(&detours));
    let calls: Vec<_> = detours.into_iter().map(tell).collect();
    for call in calls {
        call.await;
    }
    for flushed in flushed.iter().filter(|f| f.asides) {
        drop(coordinator.call(flushed.shard, move |shard| shard.tracking.forget_aside(fence)));
    }
}

fn drop_databases(shard: &mut Shard, only: Option<DbIndex>) {
    for index in (0..shard.keyspace.dbs().len()).map(|index| DbIndex(index as u16)) {
        if only.is_none_or(|only| only == index) && !shard.keyspace.db(index).is_empty() {
            let dropped = WriteCx::new(shard.data_cx(index, true)).take_db();
            shard.dropped.extend(dropped);
        }
    }
}

/// Frees some of what was dropped; whether there is more. It may free what another FLUSHALL has dropped: whoever waits, waits
/// for all.
fn free_slice(shard: &mut Shard) -> bool {
    if let Some(db) = shard.dropped.last_mut()
        && !db.free_slice(RECORDS_PER_SLICE)
    {
        shard.dropped.pop();
    }
    !shard.dropped.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_is_taken_at_most() {
        let parse = |line: &str| {
            let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
            parse(args.as_args())
        };
        assert_eq!(parse("FLUSHALL"), Ok(None));
        assert_eq!(parse("FLUSHALL sync"), Ok(Some(true)));
        assert_eq!(parse("FLUSHDB ASYNC"), Ok(Some(false)));
        assert_eq!(parse("FLUSHDB now"), Err(CommandError::Syntax));
        assert_eq!(parse("FLUSHDB SYNC ASYNC"), Err(CommandError::Syntax));
    }
}
