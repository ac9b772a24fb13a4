//! MONITOR: every command that any client sends, as a line, while somebody watches.
//!
//! A watcher is a subscriber of its own kind ([`Kind::Monitor`]), so all shards know whether somebody watches and where. The
//! dispatcher asks that with one branch for each command. What it writes down during a turn leaves at the turn's end, in one piece
//! for each shard that has watchers; so the lines of one connection are in their order, and those of different connections as they
//! came together.
//!
//! What MULTI queues is shown by the EXEC that runs it: see [`transaction`]. Commands for operators are not shown, nor passwords: see
//! [`line`]; what is a secret is
//! decided here for SLOWLOG, too. Absent on purpose: a limit of its own. A watcher that does not read is closed at the limit for subscribers.

use super::docs::Group;
use super::table::{Command, Flags, Row, Run, Table};
use crate::base::DbIndex;
use crate::base::num;
use crate::config::is_secret;
use crate::pubsub::{Kind, Name};
use crate::resp::words::push_quoted;
use crate::resp::{Args, OwnedArgs};
use crate::session::{Queued, Session};
use crate::shard::Shard;
use crate::txn::{Coordinator, Plan};

/// See the module.
pub const ROWS: &[Row] = &[Row {
    name: "monitor",
    summary: "Shows every command that the server runs from now on.",
    group: Group::Server,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    run: Run::Server(monitor),
    ..Row::DEFAULT
}];

fn monitor(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let listening = super::pubsub::listen(&coordinator, Kind::Monitor, vec![Name::from(&b""[..])]).await;
        let mut reply = coordinator.reply();
        // Who watches already gets no reply, as in Redis.
        if listening.iter().any(|(_, _, new)| *new) {
            reply.ok();
        }
        Ok(reply)
    })
}

/// What stands in place of a secret.
const REDACTED: &[u8] = b"(redacted)";

/// Whether watchers see this command. EXEC has [`transaction`].
pub fn is_shown(command: &Command) -> bool {
    let skipped = command.row.flags.has(Flags::SKIP_MONITOR) || matches!(command.row.run, Run::Exec);
    !command.row.flags.has(Flags::ADMIN) && !skipped
}

/// What watchers see of an EXEC.
#[derive(Default)]
pub struct ShownTransaction {
    /// If it runs what was queued.
    pub done: Vec<u8>,
    /// If it does not, since a watched key has changed or it was refused.
    pub dropped: Vec<u8>,
}

/// The lines of a transaction: what was queued, each with the database that will be selected then, and EXEC behind it.
pub fn transaction(shard: &Shard, session: &Session, table: &Table, exec: Args<'_>) -> ShownTransaction {
    let mut shown = ShownTransaction::default();
    line_in(&mut shown.dropped, shard, session, session.db, "exec", exec);
    let mut db = session.db;
    let queued = session.transaction.as_ref().map_or(&[][..], |transaction| &transaction.commands);
    for Queued { id, args } in queued {
        let command = table.get(*id);
        if command.row.name == "select" {
            let index = num::parse_i64(args.as_args().get(1)).and_then(|index| usize::try_from(index).ok());
            let there = index.filter(|index| *index < shard.keyspace.dbs().len());
            db = there.map_or(db, |index| DbIndex(u16::try_from(index).expect("databases are few")));
        }
        if is_shown(command) {
            line_in(&mut shown.done, shard, session, db, &command.full_name, args.as_args());
        }
    }
    line_in(&mut shown.done, shard, session, db, "exec", exec);
    shown
}

/// Appends the line of a command to `out`.
pub fn line(out: &mut Vec<u8>, shard: &Shard, session: &Session, command: &Command, args: Args<'_>) {
    line_in(out, shard, session, session.db, &command.full_name, args);
}

fn line_in(out: &mut Vec<u8>, shard: &Shard, session: &Session, db: DbIndex, name: &str, args: Args<'_>) {
    let us = shard.now.unix_us;
    let (secs, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    out.extend_from_slice(format!("+{secs}.{micros:06} [{} ", db.0).as_bytes());
    if session.unix {
        out.extend_from_slice(b"unix:");
        out.extend_from_slice(session.peer.strip_suffix(":0").unwrap_or(&session.peer).as_bytes());
    } else {
        out.extend_from_slice(session.peer.as_bytes());
    }
    out.push(b']');
    let secret = secrets(name, args);
    for (at, arg) in args.iter().enumerate() {
        out.push(b' ');
        push_quoted(out, if secret(at) { REDACTED } else { arg });
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether some arguments of the command with this full name may be secrets.
pub fn has_secrets(full_name: &str) -> bool {
    ["auth", "hello", "migrate", "config|set", "acl|setuser", "acl|getuser", "acl|deluser"].contains(&full_name)
}

/// The arguments of a command, as MONITOR and SLOWLOG may show them.
pub fn may_be_shown<'a>(command: &Command, args: Args<'a>) -> impl Fn(usize) -> &'a [u8] + use<'a> {
    let secret = command.has_secrets.then(|| secrets(&command.full_name, args));
    move |at| if secret.as_ref().is_some_and(|secret| secret(at)) { REDACTED } else { args.get(at) }
}

/// Says of each argument whether it is a secret.
pub fn secrets<'a>(full_name: &str, args: Args<'a>) -> impl Fn(usize) -> bool + use<'a> {
    // The words behind which secrets stand, and how many do: HELLO's AUTH takes a user and a password, MIGRATE's a password.
    let behind: &'static [(&[u8], usize)] = match full_name {
        "hello" => &[(b"AUTH", 2)],
        "migrate" => &[(b"AUTH", 1), (b"AUTH2", 2)],
        _ => &[],
    };
    // From here on all are.
    let all_from = match full_name {
        "auth" => 1,
        "acl|setuser" | "acl|getuser" | "acl|deluser" => 2,
        _ => usize::MAX,
    };
    let settings = full_name == "config|set";
    move |at| {
        let stands_behind = |(word, count): &(&[u8], usize)| {
            (1..=*count).any(|distance| at > distance && args.get(at - distance).eq_ignore_ascii_case(word))
        };
        // CONFIG SET takes pairs.
        let is_secret_setting = settings && at > 2 && at % 2 == 1 && is_secret(args.get(at - 1));
        at >= all_from || is_secret_setting || behind.iter().any(stands_behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(words: &str) -> String {
        let args = OwnedArgs::from_slices(&words.split(' ').collect::<Vec<_>>());
        let args = args.as_args();
        let name = String::from_utf8(args.get(0).to_ascii_lowercase()).unwrap();
        let with_sub = format!("{name}|{}", String::from_utf8(args.get(1).to_ascii_lowercase()).unwrap());
        let name = if has_secrets(&with_sub) { with_sub } else { name };
        let secret = secrets(&name, args);
        let shown: Vec<_> = (0..args.len()).map(|at| if secret(at) { &b"*"[..] } else { args.get(at) }).collect();
        String::from_utf8(shown.join(&b' ')).unwrap()
    }

    #[test]
    fn passwords_are_not_shown() {
        for (words, shown) in [
            ("AUTH secret", "AUTH *"),
            ("auth user secret", "auth * *"),
            ("AUTH a b c", "AUTH * * *"),
            ("HELLO 3 AUTH user secret SETNAME x", "HELLO 3 AUTH * * SETNAME x"),
            ("HELLO 3 SETNAME x auth user secret", "HELLO 3 SETNAME x auth * *"),
            ("MIGRATE h 1 k 0 5 AUTH secret KEYS a", "MIGRATE h 1 k 0 5 AUTH * KEYS a"),
            ("MIGRATE h 1 k 0 5 AUTH2 user secret KEYS a", "MIGRATE h 1 k 0 5 AUTH2 * * KEYS a"),
            ("SET AUTH secret", "SET AUTH secret"),
            ("CONFIG SET requirepass secret", "CONFIG SET requirepass *"),
            ("config set maxclients 5 MASTERAUTH secret", "config set maxclients 5 MASTERAUTH *"),
            ("CONFIG GET requirepass x", "CONFIG GET requirepass x"),
            ("ACL SETUSER joe on >secret", "ACL SETUSER * * *"),
            ("ACL DELUSER ann bob", "ACL DELUSER * *"),
            ("ACL GETUSER ann", "ACL GETUSER *"),
            ("ACL WHOAMI", "ACL WHOAMI"),
            ("CONFIG SET port 1 requirepass secret MasterAuth secret", "CONFIG SET port 1 requirepass * MasterAuth *"),
            ("CONFIG GET requirepass", "CONFIG GET requirepass"),
        ] {
            assert_eq!(redacted(words), shown);
        }
    }
}
