//! Which keys a pipeline will want next: a glance at what the parser has not come to.
//!
//! Belongs to one read of one connection. Absent on purpose: what the commands are; the first argument is taken for a key.

use super::engine::Engine;
use crate::base::{DbIndex, ShardId};
use crate::keyspace::{Db, Lookahead};
use crate::resp::peek;
use crate::shard::slots::SlotMap;

impl Engine {
    /// Looks at the first command of a read that is to be run soon; of most clients it is the only one. Which database the client has
    /// chosen is not asked: nearly all choose none.
    pub fn look_ahead(&self, window: &mut Lookahead, received: &[u8]) {
        let (slots, here) = (self.shard.slots, self.shard.id);
        let key = peek::glance(received).map(|glance| glance.key).filter(|key| slots.shard_of(key) == here);
        window.ask(self.shard.keyspace.db(DbIndex::default()), key);
    }
}

/// Looks a few commands ahead in a pipeline and asks for the memory that those of this shard will want. What goes to other shards is
/// looked at there, when it arrives as a batch.
pub(super) struct Ahead {
    /// How far it has looked.
    seen: usize,
    window: Lookahead,
    /// What is this shard's; none if all is, as far as this connection goes.
    owned: Option<(SlotMap, ShardId)>,
}

impl Ahead {
    /// For a connection of this shard; to a node's all keys are the node's.
    pub(super) fn new(slots: SlotMap, here: ShardId, node: bool) -> Ahead {
        let owned = (slots.shards() > 1 && !node).then_some((slots, here));
        Ahead { seen: 0, window: Lookahead::default(), owned }
    }

    #[inline]
    pub(super) fn look(&mut self, input: &[u8], at: usize, db: &Db) {
        self.seen = self.seen.max(at);
        // One command leaves the window and one enters; at the start of a read it is filled.
        self.window.passed();
        while self.window.wants() {
            let Some(glance) = peek::glance(&input[self.seen..]) else { break };
            self.seen += glance.len;
            let ours = self.owned.is_none_or(|(slots, here)| slots.shard_of(glance.key) == here);
            self.window.ask(db, ours.then_some(glance.key));
        }
    }
}
