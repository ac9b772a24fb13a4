//! What a command claims, by shard: its keys as its row's specifications find them, or everything.
//!
//! Pure functions over rows and arguments, run on the core of the connection. Invariant: every shard that will run a data step of
//! the command is among its claims, be it with no key. Absent on purpose: what claims are good for (`shard::reservations`).

use super::routing::{Owner, owner};
use crate::base::ShardId;
use crate::commands::keys::{KeyFlags, each_key};
use crate::commands::table::{Command, Flags, Reach};
use crate::keyspace::{Db, Keyspace, Value};
use crate::resp::Args;
use crate::session::WatchedKey;
use crate::shard::Shard;
use crate::shard::reservations::{Access, Claims};
use crate::shard::slots::SlotMap;
use crate::txn::ClaimsByShard;

/// How a key of these flags is accessed by a command. One that writes, though it has no key that is not only read, changes them all:
/// the specification of XREADGROUP is that of Redis.
pub fn access(command: &Command, flags: KeyFlags) -> Access {
    let writes_them =
        command.row.flags.has(Flags::WRITE) && command.row.keys.iter().all(|spec| spec.flags.has(KeyFlags::RO));
    if flags.has(KeyFlags::RO) && !writes_them { Access::Shared } else { Access::Exclusive }
}

/// What a command whose keys are all on this shard claims, if something that it conflicts with is reserved; else nothing.
pub fn in_the_way(command: &Command, args: Args<'_>, shard: &Shard) -> Option<Claims> {
    let mut conflict = false;
    // Arguments that contradict the specification are for the handler to complain about: it will touch no key.
    let _ = each_key(command, args, |at, flags| {
        let hash = shard.keyspace.hash(args.get(at));
        conflict = conflict || shard.reservations.conflict_at(hash, access(command, flags));
    });
    conflict.then(|| of_one_shard(command, args, &shard.keyspace))
}

/// Whether the arguments point to keys that only data tell.
fn points_elsewhere(command: &Command, args: Args<'_>) -> bool {
    matches!(command.row.reach, Reach::Pointed(words, _) if args.iter().skip(2).any(|arg| is_among(arg, words)))
}

/// Whether a command that can be run in steps is done at once instead: its keys, which are all here, hold few elements, and its
/// arguments point to no others.
pub fn is_one_step(command: &Command, args: Args<'_>, db: &Db) -> bool {
    let mut elements = 0;
    let _ = each_key(command, args, |at, _| {
        if let Some(Value::Object(object)) = db.find(args.get(at)).map(|entry| entry.value()) {
            elements += object.len();
        }
    });
    elements <= ONE_STEP_ELEMENTS_MAX && !points_elsewhere(command, args)
}

/// Some tenths of a millisecond of work.
const ONE_STEP_ELEMENTS_MAX: usize = 4096;

/// The claims of a command whose keys are all on one shard.
#[cold]
fn of_one_shard(command: &Command, args: Args<'_>, keyspace: &Keyspace) -> Claims {
    let mut keys = Vec::new();
    let _ = each_key(command, args, |at, flags| keys.push((keyspace.hash(args.get(at)), access(command, flags))));
    Claims::keys(keys)
}

fn is_among(arg: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| arg.eq_ignore_ascii_case(word.as_bytes()))
}

/// Collects what the commands of one transaction claim.
pub struct Collector<'a> {
    slots: SlotMap,
    keyspace: &'a Keyspace,
    here: ShardId,
    /// Whether the client sees this shard alone.
    node: bool,
    keys: Vec<Vec<(u64, Access)>>,
    takes_part: Vec<bool>,
    everything: Option<Access>,
}

impl<'a> Collector<'a> {
    /// For a transaction that this shard coordinates, of a client that sees its keys alone if `node`. All shards hash keys alike, so
    /// any keyspace will do.
    pub fn new(slots: SlotMap, here: ShardId, node: bool, keyspace: &'a Keyspace) -> Collector<'a> {
        let shards = usize::from(slots.shards());
        Collector {
            slots,
            keyspace,
            here,
            node,
            keys: vec![Vec::new(); shards],
            takes_part: vec![false; shards],
            everything: None,
        }
    }

    /// Adds a command's keys. A data command that names none takes part where its client is. Inside a transaction (`within`) a
    /// command that walks over all keys sees one instant.
    pub fn add(&mut self, command: &Command, args: Args<'_>, within: bool) {
        match command.row.reach {
            Reach::Everything(access) => self.everything = self.everything.max(Some(access)),
            Reach::Walk(access) if within => self.everything = self.everything.max(Some(access)),
            Reach::Pointed(_, access) if points_elsewhere(command, args) => {
                self.everything = self.everything.max(Some(access));
            }
            Reach::Walk(_) | Reach::Pointed(..) | Reach::Named => {}
        }
        let slots = self.slots;
        let _ = each_key(command, args, |at, flags| {
            self.add_key(slots.shard_of(args.get(at)), args.get(at), access(command, flags));
        });
        if command.is_data()
            && let Owner::One(shard) = owner(command, args, slots, self.here)
        {
            self.takes_part[shard.index()] = true;
        }
    }

    /// Adds a key of which the owner is known.
    pub fn add_key(&mut self, owner: ShardId, key: &[u8], access: Access) {
        self.takes_part[owner.index()] = true;
        self.keys[owner.index()].push((self.keyspace.hash(key), access));
    }

    /// Adds keys that are watched: EXEC reads their versions.
    pub fn add_watched(&mut self, watches: &[WatchedKey]) {
        for watch in watches {
            self.add_key(watch.shard, &watch.key, Access::Shared);
        }
    }

    /// All of it, by shard.
    pub fn finish(self) -> ClaimsByShard {
        let Collector { everything, node, here, .. } = self;
        let all = self.slots.all().zip(self.keys.into_iter().zip(self.takes_part));
        all.filter(|(shard, (_, takes_part))| *takes_part || everything.is_some() && (!node || *shard == here))
            .map(|(shard, (keys, _))| {
                let mut claims = Claims::keys(keys);
                claims.everything = everything;
                (shard, claims)
            })
            .collect()
    }
}
