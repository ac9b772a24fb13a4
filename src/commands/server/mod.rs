//! Commands about the server as a whole. Rows first; INFO, CONFIG, DEBUG, FLUSHALL, HOTKEYS, LATENCY, MEMORY, SHARDS and SLOWLOG
//! have files of their own beside this one, COMMAND and LOLWUT next to it.
//!
//! What concerns all shards is a plan: it asks each for a copy of what it knows, or has each do its part, and puts the answers
//! together on the core of the connection that asked.

mod config;
mod debug;
mod flush;
mod hot_keys;
pub mod info;
mod latency;
mod memory;
mod shards;
mod slowlog;

use super::docs::Group;
use super::persistence::shut_down;
use super::table::{Flags, Reach, Row, Run, SessionCx};
use crate::base::{DbIndex, num};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::Session;
use crate::shard::cx::WriteCx;
use crate::shard::reservations::Access;
use crate::txn::{Coordinator, Plan};

/// The version of Redis whose commands and replies clients may count on. Many of them ask for it.
pub use crate::persist::rdb::REDIS_VERSION;

/// What the rows of all files here share.
const SERVER: Row = Row { group: Group::Server, ..Row::DEFAULT };

/// Answered by every shard, in an order of their own.
const NONDETERMINISTIC: &str = "nondeterministic_output";

/// Rows of containers and of commands with files of their own stand there.
pub const ROWS: &[Row] = &[
    config::ROW,
    Row {
        name: "dbsize",
        summary: "How many keys the selected database has.",
        complexity: "O(1) on each shard",
        flags: Flags::READONLY.and(Flags::FAST),
        acl: &["keyspace"],
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        run: Run::Server(dbsize),
        reach: Reach::Everything(Access::Shared),
        ..SERVER
    },
    debug::ROW,
    flush::FLUSHALL,
    flush::FLUSHDB,
    hot_keys::ROW,
    info::ROW,
    latency::ROW,
    memory::ROW,
    Row {
        name: "role",
        summary: "Whether this server leads or follows others, and whom.",
        since: "2.8.12",
        flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST),
        acl: &["admin", "dangerous"],
        run: Run::Session(role),
        ..SERVER
    },
    shards::ROW,
    Row {
        name: "shutdown",
        usage: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        summary: "Ends the server.",
        complexity: "O(N) with N keys if they are saved, else O(1)",
        arity: -1,
        flags: Flags::ADMIN
            .and(Flags::NOSCRIPT)
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::NO_MULTI)
            .and(Flags::ALLOW_BUSY),
        run: Run::Server(shutdown),
        ..SERVER
    },
    slowlog::ROW,
    Row {
        name: "swapdb",
        usage: "index1 index2",
        summary: "Exchanges two databases; connections that use one see the keys of the other.",
        since: "4.0.0",
        complexity: "O(1) on each shard",
        arity: 3,
        flags: Flags::WRITE.and(Flags::FAST),
        acl: &["keyspace", "dangerous"],
        run: Run::Server(swapdb),
        reach: Reach::Everything(Access::Exclusive),
        ..SERVER
    },
    Row {
        name: "time",
        summary: "The server's clock: seconds since the epoch, and microseconds.",
        since: "2.6.0",
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        tips: &[NONDETERMINISTIC],
        run: Run::Session(time),
        ..SERVER
    },
];

fn dbsize(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let db = coordinator.origin().db;
        let sizes = coordinator.transact_seen(move |shard| shard.keyspace.db(db).len() as i64).await;
        let mut reply = coordinator.reply();
        reply.int(sizes.into_iter().sum());
        Ok(reply)
    })
}

fn role(_: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.array(3);
    reply.bulk(b"master");
    reply.int(0);
    reply.array(0);
    Ok(())
}

fn time(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let us = cx.shard.now.unix_us;
    reply.array(2);
    reply.bulk_int(us.div_euclid(1_000_000));
    reply.bulk_int(us.rem_euclid(1_000_000));
    Ok(())
}

/// What SHUTDOWN is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct ShutdownOptions {
    save: bool,
    nosave: bool,
    now: bool,
    force: bool,
    abort: bool,
}

impl ShutdownOptions {
    fn parse(args: Args<'_>) -> Result<ShutdownOptions, CommandError> {
        let mut options = ShutdownOptions::default();
        for word in args.slice(1).iter() {
            let option = match word.to_ascii_lowercase().as_slice() {
                b"save" => &mut options.save,
                b"nosave" => &mut options.nosave,
                b"now" => &mut options.now,
                b"force" => &mut options.force,
                b"abort" => &mut options.abort,
                _ => return Err(CommandError::Syntax),
            };
            *option = true;
        }
        let contradicts = options.save && options.nosave;
        if contradicts || (options.abort && args.len() > 2) { Err(CommandError::Syntax) } else { Ok(options) }
    }
}

fn shutdown(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let options = ShutdownOptions::parse(args.as_args())?;
        if options.abort {
            // A shutdown waits for nothing, so there is never one to be stopped.
            return Err(CommandError::Custom("ERR No shutdown in progress."));
        }
        tracing::warn!("User requested shutdown...");
        let save = if options.save {
            Some(true)
        } else if options.nosave {
            Some(false)
        } else {
            None
        };
        // If it goes well the connection closes without a reply, as in Redis: clients take that as the answer.
        shut_down(&coordinator, save, options.force).await?;
        std::future::pending().await
    })
}

fn swapdb(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let number = |arg, error| num::parse_i64(arg).filter(|n| i32::try_from(*n).is_ok()).ok_or(error);
        let first = number(args.get(1), CommandError::InvalidFirstDbIndex)?;
        let second = number(args.get(2), CommandError::InvalidSecondDbIndex)?;
        let home = coordinator.origin().shard;
        let databases = coordinator.call(home, |shard| shard.keyspace.dbs().len()).await;
        let index = |n: i64| {
            let n = u16::try_from(n).map_err(|_| CommandError::DbIndexOutOfRange)?;
            if usize::from(n) < databases { Ok(DbIndex(n)) } else { Err(CommandError::DbIndexOutOfRange) }
        };
        let (first, second) = (index(first)?, index(second)?);
        coordinator
            .transact_all(move |shard| {
                WriteCx::new(shard.data_cx(first, true)).swap_dbs(first, second);
            })
            .await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

/// Whether a client sits on this machine, for what only such may do: it came through the Unix socket or the loopback.
fn is_local(session: &Session) -> bool {
    session.unix
        || session.peer.starts_with("127.")
        || session.peer.starts_with("[::1]")
        || session.peer.starts_with("::1:")
}

/// As [`is_local`], for the client of a plan. A client that has gone is nobody.
async fn client_is_local(coordinator: &Coordinator) -> bool {
    let (home, key) = (coordinator.origin().shard, coordinator.origin().session);
    coordinator.call(home, move |shard| shard.sessions.get(key).is_some_and(is_local)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_options_must_not_contradict() {
        let parse = |line: &str| {
            let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
            ShutdownOptions::parse(args.as_args())
        };
        assert!(parse("SHUTDOWN").is_ok());
        assert!(parse("SHUTDOWN nosave NOW force").is_ok_and(|o| o.nosave && o.now && o.force && !o.save));
        assert!(parse("SHUTDOWN ABORT").is_ok_and(|o| o.abort));
        for line in ["SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW", "SHUTDOWN maybe"] {
            assert_eq!(parse(line), Err(CommandError::Syntax), "{line}");
        }
    }
}
