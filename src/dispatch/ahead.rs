//! What a pipeline will want from memory next, asked for while the commands before it run.
//!
//! Belongs to one read of one connection. Absent on purpose: what the commands are; the first argument is taken for a key.

use super::engine::Engine;
use crate::base::{DbIndex, ShardId};
use crate::keyspace::{Db, Lookahead};
use crate::resp::Short;
use crate::shard::slots::SlotMap;

impl Engine {
    /// Looks at the first command of a read that is to be run soon; of most clients it is the only one. Which database the client has
    /// chosen is not asked: nearly all choose none.
    pub fn look_ahead(&self, window: &mut Lookahead, received: &[u8]) {
        let (slots, here) = (self.shard.slots, self.shard.id);
        let mut command = Short::default();
        let args = command.read(received).then(|| command.args(received)).filter(|args| args.len() > 1);
        let key = args.map(|args| args.get(1)).filter(|key| slots.shard_of(key) == here);
        window.ask(self.shard.keyspace.db(DbIndex::default()), key);
    }
}

/// Looks a few commands ahead in a pipeline and asks for the memory that they will want: for a slot four commands before it is
/// needed, for the record behind it two. What it has read is not read again: commands are taken from here as long as there are some,
/// with the owners of their keys. What goes to other shards is looked at there, when it arrives as a batch.
///
/// Invariant: the commands in the window stand one behind the other in the input, and the first begins where the next command to be
/// run does.
#[derive(Default)]
pub(super) struct Ahead {
    /// Where what was not looked at begins.
    seen: usize,
    /// What was asked for. Holds as many commands as there are from `next` on.
    window: Lookahead,
    /// Commands by number, modulo the length, and the owners of their keys. The window is from `next` on; what was taken last is kept in
    /// front of it.
    commands: [Short; PLACES],
    owners: [ShardId; PLACES],
    next: usize,
    end: usize,
}

/// A power of two, for the commands in the window and the one that runs.
const PLACES: usize = (Lookahead::COMMANDS + 1).next_power_of_two();

impl Ahead {
    /// Another read begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        (self.seen, self.next, self.end) = (0, 0, 0);
        self.window = Lookahead::default();
    }

    /// Looks on, where the next command begins at `at`. `slots`: where keys are, unless all are `here` as far as this connection goes.
    #[inline]
    pub(super) fn look(&mut self, input: &[u8], at: usize, db: &Db, slots: Option<SlotMap>, here: ShardId) {
        self.seen = self.seen.max(at);
        // One command leaves the window and one enters; at the start of a read it is filled.
        while self.window.wants() {
            let place = self.end % PLACES;
            let command = &mut self.commands[place];
            if !command.read(&input[self.seen..]) {
                break;
            }
            let args = command.args(&input[self.seen..]);
            let key = (args.len() > 1).then(|| args.get(1));
            let owner = key.zip(slots).map_or(here, |(key, slots)| slots.shard_of(key));
            self.window.ask(db, key.filter(|_| owner == here));
            self.owners[place] = owner;
            self.seen += self.commands[place].bytes();
            self.end += 1;
        }
    }

    /// Takes the next command, if it has been seen: its number.
    #[inline]
    pub(super) fn take(&mut self) -> Option<usize> {
        if self.next == self.end {
            return None;
        }
        self.next += 1;
        self.window.passed();
        Some(self.next - 1)
    }

    /// Who owns the first argument of the command that was taken last, if that is a key; this shard if there is none.
    #[inline]
    pub(super) fn owner(&self, number: usize) -> ShardId {
        debug_assert!(number + 1 == self.next);
        self.owners[number % PLACES]
    }

    /// The command that was taken last.
    #[inline]
    pub(super) fn taken(&self, number: usize) -> &Short {
        debug_assert!(number + 1 == self.next);
        &self.commands[number % PLACES]
    }
}
