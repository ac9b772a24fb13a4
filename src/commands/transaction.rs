//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! MULTI and its kin change the connection's state here; running what was queued is EXEC's, in `dispatch`, which alone can run
//! other commands. WATCH asks the owner of each key for its version: see `shard::watched`.

use super::docs::Group;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Row, Run, SessionCx};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::{Session, SessionKey, WatchedKey};
use crate::shard::Shard;
use crate::shard::cx::ReadCx;
use crate::txn::{Coordinator, Plan};

const CONTROL: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::ALLOW_BUSY);

/// What all rows of this file share.
const TRANSACTION: Row = Row { group: Group::Transactions, flags: CONTROL, ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "discard",
        summary: "Forgets what has been queued since MULTI.",
        since: "2.0.0",
        complexity: "O(N) with N the number of queued commands",
        run: Run::Session(discard),
        ..TRANSACTION
    },
    Row {
        name: "exec",
        summary: "Runs what has been queued since MULTI as one step.",
        since: "1.2.0",
        complexity: "Depends on the queued commands",
        flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::SKIP_SLOWLOG),
        run: Run::Exec,
        ..TRANSACTION
    },
    Row {
        name: "multi",
        summary: "Begins to queue commands for EXEC.",
        since: "1.2.0",
        run: Run::Session(multi),
        ..TRANSACTION
    },
    Row {
        name: "unwatch",
        summary: "Forgets what is watched.",
        since: "2.2.0",
        run: Run::Session(unwatch),
        ..TRANSACTION
    },
    Row {
        name: "watch",
        usage: "key [key ...]",
        summary: "Has the next EXEC run only if these keys do not change before it.",
        since: "2.2.0",
        complexity: "O(1) for each key",
        arity: -2,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO)],
        run: Run::Server(watch),
        ..TRANSACTION
    },
];

fn multi(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    if cx.session.transaction.is_some() {
        return Err(CommandError::Custom("ERR MULTI calls can not be nested"));
    }
    cx.session.transaction = Some(Box::default());
    reply.ok();
    Ok(())
}

fn discard(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    if cx.session.transaction.take().is_none() {
        return Err(CommandError::Custom("ERR DISCARD without MULTI"));
    }
    forget_watches(cx.session, cx.shard);
    reply.ok();
    Ok(())
}

fn unwatch(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    forget_watches(cx.session, cx.shard);
    reply.ok();
    Ok(())
}

/// Takes back what a connection watches.
pub fn forget_watches(session: &mut Session, shard: &mut Shard) {
    forget_all(std::mem::take(&mut session.watches), shard);
}

/// Tells the owners that these are not watched any more.
fn forget_all(watches: Vec<WatchedKey>, shard: &mut Shard) {
    for WatchedKey { db, key, shard: owner, .. } in watches {
        shard.tell(owner, move |owner| owner.watched.forget(db, &key));
    }
}

fn watch(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let (home, session, db) = (coordinator.origin().shard, coordinator.origin().session, coordinator.origin().db);
        let known =
            move |shard: &mut Shard| shard.sessions.get(session).map(|s| (s.transaction.is_some(), s.watches.clone()));
        let Some((in_transaction, known)) = coordinator.call(home, known).await else {
            return Ok(coordinator.reply());
        };
        if in_transaction {
            return Err(CommandError::Custom("ERR WATCH inside MULTI is not allowed"));
        }
        let mut keys: Vec<&[u8]> = args.as_args().slice(1).iter().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !known.iter().any(|watch| watch.db == db && watch.key == *key));
        let mut calls = Vec::new();
        for key in keys {
            let (owner, name) = (coordinator.slots().shard_of(key), key.to_vec());
            let version = move |shard: &mut Shard| {
                // One that has expired is removed first, so that its removal later is no change.
                ReadCx::new(shard.data_cx(db, false)).peek(&name);
                shard.watched.watch(db, &name)
            };
            calls.push((owner, key.to_vec(), coordinator.call(owner, version)));
        }
        let mut watches = Vec::new();
        for (shard, key, version) in calls {
            watches.push(WatchedKey { db, key, shard, version: version.await });
        }
        coordinator.call(home, move |shard| note(shard, session, watches)).await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

/// Writes down what a session watches from now on. If it has gone meanwhile, nobody does.
fn note(shard: &mut Shard, session: SessionKey, mut watches: Vec<WatchedKey>) {
    match shard.sessions.get_mut(session) {
        Some(session) => session.watches.append(&mut watches),
        None => forget_all(watches, shard),
    }
}
