//! MONITOR: every command that any client sends, as a line, while somebody watches.
//!
//! A watcher is a subscriber of its own kind ([`Kind::Monitor`]), so all shards know whether somebody watches and where. The
//! dispatcher asks that with one branch for each command. What it writes down during a turn leaves at the turn's end, in one piece
//! for each shard that has watchers; so the lines of one connection are in their order, and those of different connections as they
//! came together.
//!
//! Commands for operators are not shown, nor passwords: see [`line`]. Absent on purpose: a limit of its own. A watcher that does not
//! read is closed at the limit for subscribers.

use super::docs::Group;
use super::table::{Command, Flags, Row, Run};
use crate::pubsub::{Kind, Name};
use crate::resp::words::push_quoted;
use crate::resp::{Args, OwnedArgs};
use crate::session::Session;
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

/// Whether watchers see this command.
pub fn is_shown(command: &Command) -> bool {
    // EXEC is told where it is sent, behind what it runs.
    let skipped = command.row.flags.has(Flags::SKIP_MONITOR) && !matches!(command.row.run, Run::Exec);
    !command.row.flags.has(Flags::ADMIN) && !skipped
}

/// Appends the line of a command to `out`.
pub fn line(out: &mut Vec<u8>, shard: &Shard, session: &Session, command: &Command, args: Args<'_>) {
    let us = shard.now.unix_us;
    let (secs, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    out.extend_from_slice(format!("+{secs}.{micros:06} [{} ", session.db.0).as_bytes());
    if session.unix {
        out.extend_from_slice(b"unix:");
        out.extend_from_slice(session.peer.strip_suffix(":0").unwrap_or(&session.peer).as_bytes());
    } else {
        out.extend_from_slice(session.peer.as_bytes());
    }
    out.push(b']');
    let secret = secrets(command.row.name, args);
    for (at, arg) in args.iter().enumerate() {
        out.push(b' ');
        push_quoted(out, if secret(at) { REDACTED } else { arg });
    }
    out.extend_from_slice(b"\r\n");
}

/// Says of each argument whether it is a secret.
fn secrets<'a>(name: &str, args: Args<'a>) -> impl Fn(usize) -> bool + use<'a> {
    // The words behind which secrets stand, and how many do: HELLO's AUTH takes a user and a password, MIGRATE's a password.
    let behind: &'static [(&[u8], usize)] = match name {
        "hello" => &[(b"AUTH", 2)],
        "migrate" => &[(b"AUTH", 1), (b"AUTH2", 2)],
        _ => &[],
    };
    let all = name == "auth";
    move |at| {
        let stands_behind = |(word, count): &(&[u8], usize)| {
            (1..=*count).any(|distance| at > distance && args.get(at - distance).eq_ignore_ascii_case(word))
        };
        (all && at > 0) || behind.iter().any(stands_behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(words: &str) -> String {
        let args = OwnedArgs::from_slices(&words.split(' ').collect::<Vec<_>>());
        let args = args.as_args();
        let name = String::from_utf8(args.get(0).to_ascii_lowercase()).unwrap();
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
        ] {
            assert_eq!(redacted(words), shown);
        }
    }
}
