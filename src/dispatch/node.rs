//! What a shard lets through on a port of its own, where it is a node of a cluster: commands whose keys are all of one slot, and that
//! slot its own. Who asks for another's key is told where it is.
//!
//! Pure functions, asked by the gate for sessions of such a port, so that what runs behind it need not look where a key is: it is here.
//! The errors are Redis Cluster's, word for word, and come in its order. What differs: where Redis queues a command of [`beyond`]
//! between MULTI and EXEC and refuses it when it runs, it is refused at once, and breaks the transaction.
//!
//! Absent on purpose: which shards a command without keys concerns (`Coordinator::seen`), and the text of MOVED (`shard::nodes`).

use crate::base::crc::key_slot;
use crate::base::num::parse_i64;
use crate::commands::keys::each_routed;
use crate::commands::table::{Command, Run, Table};
use crate::resp::{Args, CommandError};
use crate::session::Session;
use crate::shard::Shard;
use crate::shard::nodes::{Announced, CROSS_SLOT};

/// Checks a command of a client that sees this shard alone.
#[inline]
pub fn admit(
    session: &Session,
    shard: &Shard,
    table: &Table,
    command: &Command,
    args: Args<'_>,
) -> Result<(), CommandError> {
    // One key at a fixed place, and it is here: what this port is for.
    if let Some((first, last, _)) = command.key_range
        && first == last
        && args.len() > first as usize
        && shard.slots.shard_of(args.get(first as usize)) == shard.id
        && !command.beyond_node
    {
        return Ok(());
    }
    let slot = match command.row.run {
        Run::Exec => slot_of_transaction(session, table)?,
        _ => slot_of(command, args)?,
    };
    if let Some(slot) = slot {
        let owner = shard.slots.owner(slot);
        if owner != shard.id {
            return Err(Announced::to(session, shard).moved(slot, owner));
        }
    }
    if command.beyond_node { beyond(command, args, shard.keyspace.dbs().len()) } else { Ok(()) }
}

/// The slot of all keys of a command; none if it has no keys, or its arguments contradict its specification and are for the handler to
/// complain about.
fn slot_of(command: &Command, args: Args<'_>) -> Result<Option<u16>, CommandError> {
    let mut slot = None;
    let mut several = false;
    let found = each_routed(command, args, |at| {
        let next = key_slot(args.get(at));
        several |= slot.is_some_and(|slot| slot != next);
        slot = Some(next);
    });
    match (found, several) {
        (Err(_), _) => Ok(None),
        (Ok(()), true) => Err(CROSS_SLOT),
        (Ok(()), false) => Ok(slot),
    }
}

/// The slot of all keys of what EXEC is to run.
fn slot_of_transaction(session: &Session, table: &Table) -> Result<Option<u16>, CommandError> {
    let mut slot = None;
    for queued in session.transaction.iter().flat_map(|transaction| &transaction.commands) {
        let next = slot_of(table.get(queued.id), queued.args.as_args())?;
        if slot.is_some() && next.is_some() && slot != next {
            return Err(CROSS_SLOT);
        }
        slot = next.or(slot);
    }
    Ok(slot)
}

/// Refuses what no node of a cluster does: other databases than the first, and keys that only data tell. What is wrong with the
/// arguments otherwise is for the handler to say.
fn beyond(command: &Command, args: Args<'_>, databases: usize) -> Result<(), CommandError> {
    let refused = match command.row.name {
        "select" => {
            parse_i64(args.get(1)).is_some_and(|db| db != 0).then_some("ERR SELECT is not allowed in cluster mode")
        }
        "swapdb" => Some("ERR SWAPDB is not allowed in cluster mode"),
        "move" => Some("ERR MOVE is not allowed in cluster mode"),
        "copy" => names_another_database(args, databases)
            .then_some("ERR Copying to another database is not allowed in cluster mode"),
        _ => pattern_of_sort(args),
    };
    refused.map_or(Ok(()), |text| Err(CommandError::Custom(text)))
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Whether the options of COPY are in order and name a database that is not the first.
fn names_another_database(args: Args<'_>, databases: usize) -> bool {
    let (mut at, mut another) = (3, false);
    while at < args.len() {
        if is(args.get(at), "REPLACE") {
            at += 1;
        } else if is(args.get(at), "DB") && at + 1 < args.len() {
            match parse_i64(args.get(at + 1)).and_then(|db| usize::try_from(db).ok()) {
                Some(db) if db < databases => another = db != 0,
                _ => return false,
            }
            at += 2;
        } else {
            return false;
        }
    }
    another
}

/// The refusal of the first option of SORT that names keys by a pattern.
fn pattern_of_sort(args: Args<'_>) -> Option<&'static str> {
    let mut at = 2;
    while at < args.len() {
        let (arg, more) = (args.get(at), args.len() - at - 1);
        if is(arg, "BY") && more > 0 {
            if args.get(at + 1).contains(&b'*') {
                return Some("ERR BY option of SORT denied in Cluster mode.");
            }
            at += 2;
        } else if is(arg, "GET") && more > 0 {
            return Some("ERR GET option of SORT denied in Cluster mode.");
        } else if is(arg, "LIMIT") && more > 1 {
            at += 3;
        } else if is(arg, "STORE") && more > 0 {
            at += 2;
        } else if ["ASC", "DESC", "ALPHA"].iter().any(|word| is(arg, word)) {
            at += 1;
        } else {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table::table;
    use crate::resp::OwnedArgs;

    fn args(line: &str) -> OwnedArgs {
        OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn the_slot_of_a_command_is_that_of_all_its_keys_and_channels() {
        let slot = |line: &str| {
            let args = args(line);
            slot_of(table().find(args.as_args().get(0)).expect(line), args.as_args())
        };
        let (a, b) = (key_slot(b"a"), key_slot(b"b"));
        for (line, wanted) in [
            ("PING", Ok(None)),
            ("GET a", Ok(Some(a))),
            ("MGET {a}1 a {a}2", Ok(Some(a))),
            ("MGET a b", Err(CROSS_SLOT)),
            ("MSET a 1 b", Err(CROSS_SLOT)),
            ("SORT b STORE a", Err(CROSS_SLOT)),
            ("SSUBSCRIBE b {b}1", Ok(Some(b))),
            ("SSUBSCRIBE a b", Err(CROSS_SLOT)),
            ("SPUBLISH a x", Ok(Some(a))),
            ("SUNSUBSCRIBE", Ok(None)),
            ("ZUNIONSTORE a x b", Ok(None)),
            ("ZUNIONSTORE a 9 b", Ok(None)),
            ("ZUNIONSTORE a 1 b", Err(CROSS_SLOT)),
        ] {
            assert_eq!(slot(line), wanted, "{line}");
        }
    }

    #[test]
    fn other_databases_and_patterns_are_refused_and_other_faults_left_to_the_handler() {
        let refused = |line: &str| {
            let args = args(line);
            let command = table().find(args.as_args().get(0)).expect(line);
            assert!(command.beyond_node, "{line}");
            beyond(command, args.as_args(), 16).err().map(|error| error.to_string())
        };
        for line in [
            "SELECT 0",
            "SELECT x",
            "COPY a b",
            "COPY a b DB 0",
            "COPY a b DB 99",
            "COPY a b FOO DB 1",
            "COPY a b DB",
            "SORT a",
            "SORT a BY nosort LIMIT 0 1 ALPHA",
            "SORT a LIMIT 0",
            "SORT a STORE GET",
            "SORT_RO a GET",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
        for (line, word) in [
            ("SELECT 1", "SELECT"),
            ("SELECT -1", "SELECT"),
            ("SWAPDB 0 0", "SWAPDB"),
            ("MOVE a 0", "MOVE"),
            ("COPY a b REPLACE DB 1", "Copying"),
            ("SORT a BY w*", "BY option"),
            ("SORT a LIMIT 0 1 GET #", "GET option"),
            ("SORT_RO a DESC BY w*", "BY option"),
        ] {
            assert!(refused(line).is_some_and(|text| text.starts_with(&format!("ERR {word}"))), "{line}");
        }
    }
}
