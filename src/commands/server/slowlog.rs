//! SLOWLOG: the commands that took longest of late, on all shards together.
//!
//! Each looks at all shards first: entries that nobody has looked at lie where their clients are, without a number (see
//! `metrics::slowlog`). So a client finds in the log what was logged before it asked, wherever that ran.

use super::{NONDETERMINISTIC, SERVER};
use crate::base::{ShardId, num};
use crate::commands::help::help;
use crate::commands::table::{Flags, Row, Run};
use crate::metrics::slowlog::SlowCommand;
use crate::resp::{CommandError, OwnedArgs};
use crate::shard::Shard;
use crate::txn::{Coordinator, Plan};

const SUB: Row = Row { since: "2.2.12", flags: Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE), arity: 2, ..SERVER };

/// See the module.
pub const ROW: Row = Row {
    name: "slowlog",
    summary: "A container for commands about the slow log.",
    since: "2.2.12",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: &[
        Row {
            name: "get",
            usage: "[count]",
            summary: "The newest commands that were slow: number, time, microseconds, arguments, client's address and name. Ten, or as \
                      many as asked for; -1 asks for all.",
            complexity: "O(N) with N entries",
            arity: -2,
            tips: &["request_policy:all_nodes", NONDETERMINISTIC],
            run: Run::Server(get),
            ..SUB
        },
        Row {
            name: "help",
            summary: "Prints this help.",
            since: "6.2.0",
            flags: Flags::LOADING.and(Flags::STALE),
            run: Run::Session(help),
            ..SUB
        },
        Row {
            name: "len",
            summary: "How many slow commands are in the log.",
            complexity: "O(N) with N entries that nobody has looked at",
            tips: &["request_policy:all_nodes", "response_policy:agg_sum", NONDETERMINISTIC],
            run: Run::Server(len),
            ..SUB
        },
        Row {
            name: "reset",
            summary: "Empties the slow log.",
            complexity: "O(N) with N entries",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            run: Run::Server(reset),
            ..SUB
        },
    ],
    ..SERVER
};

/// Where entries have their numbers.
const HOME: ShardId = ShardId(0);
/// Entries that GET gives if it is not told how many.
const COUNT: usize = 10;

/// Has shard 0 number what is new on all shards, and then asks it. Entries that have their numbers are forgotten elsewhere.
pub async fn with_log<T: Send + 'static>(
    coordinator: &Coordinator,
    ask: impl FnOnce(&Shard) -> T + Send + 'static,
) -> T {
    let parts = coordinator.call_all(|shard| shard.slowlog.copy()).await;
    let filled: Vec<bool> = parts.iter().map(|part| !part.entries.is_empty()).collect();
    let (answer, seen) = coordinator
        .call(HOME, move |shard| {
            let len_max = usize::try_from(shard.config.slowlog_max_len).unwrap_or(usize::MAX);
            shard.numbered_slowlog.take_in(parts, len_max);
            (ask(shard), shard.numbered_slowlog.seen().to_vec())
        })
        .await;
    for (shard, _) in coordinator.slots().all().zip(filled).filter(|(_, filled)| *filled) {
        let seen = seen[shard.index()];
        // Nobody waits: what is still there when somebody looks again is known to be seen.
        drop(coordinator.call(shard, move |shard| shard.slowlog.forget(seen)));
    }
    answer
}

fn get(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let count = match args.len() {
            2 => COUNT,
            3 => {
                let count = num::parse_i64(args.get(2)).filter(|count| *count >= -1);
                let count = count.ok_or(CommandError::Custom("ERR count should be greater than or equal to -1"))?;
                usize::try_from(count).unwrap_or(usize::MAX)
            }
            _ => return Err(CommandError::subcommand_syntax("SLOWLOG", args.get(1))),
        };
        let entries: Vec<(u64, SlowCommand)> =
            with_log(&coordinator, move |shard| shard.numbered_slowlog.newest(count).cloned().collect()).await;
        let mut reply = coordinator.reply();
        reply.array(entries.len());
        for (id, entry) in entries {
            reply.array(6);
            reply.int(id as i64);
            reply.int(entry.unix_us.div_euclid(1_000_000));
            reply.int(entry.us as i64);
            reply.array(entry.argv.iter().len());
            entry.argv.iter().for_each(|arg| reply.bulk(arg));
            reply.bulk(entry.peer.as_bytes());
            reply.bulk(&entry.name);
        }
        Ok(reply)
    })
}

fn len(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let len = with_log(&coordinator, |shard| shard.numbered_slowlog.len()).await;
        let mut reply = coordinator.reply();
        reply.int(len as i64);
        Ok(reply)
    })
}

fn reset(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let logged = coordinator.call_all(|shard| shard.slowlog.reset()).await;
        coordinator.call(HOME, move |shard| shard.numbered_slowlog.reset(&logged)).await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}
