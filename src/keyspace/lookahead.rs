//! What commands that run one after the other will want from memory, asked for while the commands before them run.
//!
//! In a pipeline the time of a short command goes to two cache misses: the slot of its key and the record behind it. Belongs to one
//! read of a connection or to one batch of another shard, on the core that owns the keys.
//!
//! Invariant: nothing depends on it. A wrong guess asks for memory that nobody needs.

use super::Db;

/// The next few commands' keys. Room is made by [`Lookahead::passed`], and filled by [`Lookahead::ask`].
#[derive(Default)]
pub struct Lookahead {
    /// Hashes of the keys whose slots were asked for, by the command's number modulo the length; none for a command without a key of
    /// this shard.
    hashes: [Option<u64>; Lookahead::COMMANDS],
    /// Numbers of the commands in the window.
    next: usize,
    end: usize,
}

impl Lookahead {
    /// Commands between asking for a key's slot and running its command. The record is asked for half-way.
    pub const COMMANDS: usize = 4;

    /// A command is about to run: its place is free.
    #[inline]
    pub fn passed(&mut self) {
        self.next = self.end.min(self.next + 1);
    }

    /// Whether it wants to know of one more command.
    #[inline]
    pub fn wants(&self) -> bool {
        self.end < self.next + Lookahead::COMMANDS
    }

    /// The next command not yet asked for has this key, or none of interest.
    #[inline]
    pub fn ask(&mut self, db: &Db, key: Option<&[u8]>) {
        const LATER: usize = Lookahead::COMMANDS / 2;
        let hash = key.map(|key| db.hash(key));
        if let Some(hash) = hash {
            db.prefetch(hash);
        }
        self.hashes[self.end % Lookahead::COMMANDS] = hash;
        if self.end >= self.next + LATER
            && let Some(hash) = self.hashes[(self.end - LATER) % Lookahead::COMMANDS]
        {
            db.prefetch_record(hash);
        }
        self.end += 1;
    }
}
