//! What commands that run one after the other will want from memory, asked for while the commands before them run.
//!
//! In a pipeline the time of a short command goes to two cache misses: the slot of its key and the record behind it. Belongs to one
//! read of a connection or to one batch of another shard, on the core that owns the keys.
//!
//! Invariant: nothing depends on it. A wrong guess asks for memory that nobody needs.

use super::Db;

/// Commands between asking for a key's slot and running its command. The record is asked for half-way.
const AHEAD: usize = 4;

/// The next few commands' keys. Room is made by [`Lookahead::passed`], and filled by [`Lookahead::ask`].
#[derive(Default)]
pub struct Lookahead {
    /// Hashes of the keys whose slots were asked for, the oldest first; none for a command without a key of this shard.
    hashes: [Option<u64>; AHEAD],
    count: usize,
}

impl Lookahead {
    /// A command is about to run: its place is free.
    #[inline]
    pub fn passed(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Whether it wants to know of one more command.
    #[inline]
    pub fn wants(&self) -> bool {
        self.count < AHEAD
    }

    /// The next command not yet asked for has this key, or none of interest.
    #[inline]
    pub fn ask(&mut self, db: &Db, key: Option<&[u8]>) {
        let hash = key.map(|key| db.hash(key));
        if let Some(hash) = hash {
            db.prefetch(hash);
        }
        self.hashes.rotate_left(1);
        self.hashes[AHEAD - 1] = hash;
        self.count += 1;
        if self.count > AHEAD / 2
            && let Some(hash) = self.hashes[AHEAD / 2 - 1]
        {
            db.prefetch_record(hash);
        }
    }
}
