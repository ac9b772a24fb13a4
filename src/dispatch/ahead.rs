//! What a pipeline will want from memory next, asked for while the commands before it run.
//!
//! Belongs to one read of one connection. Absent on purpose: what the commands are; the first argument is taken for a key.

use crate::keyspace::Db;
use crate::resp::peek;

/// Looks a few commands ahead in a pipeline and asks for the memory that they will want: for a slot four commands before it is
/// needed, for the record behind it two. With several shards most keys are elsewhere, unless the client is one of this
/// shard's own port, and the owner does the same for the batches that it gets.
#[derive(Default)]
pub(super) struct Ahead {
    /// How far it has looked.
    seen: usize,
    /// Hashes of the keys whose slots were asked for, the oldest first.
    hashes: [u64; AHEAD],
    count: usize,
}

/// Commands between asking for a key's slot and running its command.
const AHEAD: usize = 4;

impl Ahead {
    #[inline]
    pub(super) fn look(&mut self, input: &[u8], at: usize, db: &Db) {
        self.seen = self.seen.max(at);
        // One command leaves the window and one enters; at the start of a read it is filled.
        self.count = self.count.saturating_sub(1);
        while self.count < AHEAD {
            let Some(glance) = peek::glance(&input[self.seen..]) else { break };
            self.seen += glance.len;
            let hash = db.hash(glance.key);
            db.prefetch(hash);
            self.hashes.rotate_left(1);
            self.hashes[AHEAD - 1] = hash;
            self.count += 1;
            if self.count > AHEAD / 2 {
                db.prefetch_record(self.hashes[AHEAD / 2 - 1]);
            }
        }
    }
}
