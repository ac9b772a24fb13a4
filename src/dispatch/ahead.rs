//! What a pipeline will want from memory next, asked for while the commands before it run.
//!
//! Belongs to one read of one connection. Absent on purpose: what the commands are; the first argument is taken for a key.

use crate::keyspace::Db;
use crate::resp::Short;

/// Looks a few commands ahead in a pipeline and asks for the memory that they will want: for a slot four commands before it is
/// needed, for the record behind it two. What it has read is not read again: commands are taken from here as long as there are some.
/// With several shards most keys are elsewhere, unless the client is one of this shard's own port, and the owner does the same for
/// the batches that it gets.
///
/// Invariant: the commands in the window stand one behind the other in the input, and the first begins where the next command to be
/// run does.
#[derive(Default)]
pub(super) struct Ahead {
    /// Where what was not looked at begins.
    seen: usize,
    /// Commands by number, modulo the length, and hashes of their keys. The window is from `next` on; what was taken last is kept in
    /// front of it.
    commands: [Short; WINDOW],
    hashes: [u64; WINDOW],
    next: usize,
    end: usize,
}

/// Commands between asking for a key's slot and running its command.
const AHEAD: usize = 4;
/// A power of two, and more than there are in the window and the one that runs.
const WINDOW: usize = 8;

impl Ahead {
    /// Another read begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        (self.seen, self.next, self.end) = (0, 0, 0);
    }

    /// Looks on, where the next command begins at `at`.
    #[inline]
    pub(super) fn look(&mut self, input: &[u8], at: usize, db: &Db) {
        self.seen = self.seen.max(at);
        // One command leaves the window and one enters; at the start of a read it is filled.
        while self.end < self.next + AHEAD {
            let place = self.end % WINDOW;
            let command = &mut self.commands[place];
            if !command.read(&input[self.seen..]) {
                break;
            }
            let args = command.args(&input[self.seen..]);
            let hash = if args.len() > 1 { db.hash(args.get(1)) } else { 0 };
            db.prefetch(hash);
            self.hashes[place] = hash;
            self.seen += self.commands[place].bytes();
            self.end += 1;
            if self.end > self.next + AHEAD / 2 {
                db.prefetch_record(self.hashes[(self.end - 1 - AHEAD / 2) % WINDOW]);
            }
        }
    }

    /// Takes the next command, if it has been seen: its number.
    #[inline]
    pub(super) fn take(&mut self) -> Option<usize> {
        if self.next == self.end {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// The command that was taken last.
    #[inline]
    pub(super) fn taken(&self, number: usize) -> &Short {
        debug_assert!(number + 1 == self.next);
        &self.commands[number % WINDOW]
    }
}
