//! Where each shard's ring can be reached, so that another shard can ring its bell.
//!
//! Shared by all shards, written once by each: a ring publishes its descriptor when it is made and takes it back when
//! it is dropped. A bell rung at a ring that has just gone fails or wakes somebody for nothing; both are harmless,
//! because a wake-up carries no meaning of its own: who is woken looks into its mailboxes.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::base::ShardId;

/// The descriptors of all shards' rings.
#[derive(Debug)]
pub struct PeerBoard {
    rings: Box<[AtomicI32]>,
}

impl PeerBoard {
    /// A board for `shards` shards, none of them reachable yet.
    pub fn new(shards: usize) -> Arc<PeerBoard> {
        Arc::new(PeerBoard { rings: (0..shards).map(|_| AtomicI32::new(-1)).collect() })
    }

    /// The shard's ring, once it exists.
    pub fn ring(&self, shard: ShardId) -> Option<RawFd> {
        let fd = self.rings[shard.index()].load(Ordering::Acquire);
        (fd >= 0).then_some(fd)
    }

    /// How many shards have a ring.
    pub fn reachable(&self) -> usize {
        self.rings.iter().filter(|fd| fd.load(Ordering::Acquire) >= 0).count()
    }

    pub(super) fn publish(&self, shard: ShardId, fd: RawFd) {
        let before = self.rings[shard.index()].swap(fd, Ordering::AcqRel);
        assert_eq!(before, -1, "shard {shard} has two rings");
    }

    pub(super) fn withdraw(&self, shard: ShardId) {
        self.rings[shard.index()].store(-1, Ordering::Release);
    }
}
