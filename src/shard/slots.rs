//! Which shard owns a key: slot = CRC16 of the key or its {hashtag}, and contiguous slot ranges belong to shards.
//!
//! Every core holds its own copy; it is derived from the shard count alone and never changes while the server runs.

use crate::base::ShardId;
use crate::base::crc::{self, key_slot};

/// Slots of a Redis Cluster, and so of this server.
pub const SLOTS: u32 = crc::SLOTS as u32;

/// The map from slots to shards.
#[derive(Clone, Copy, Debug)]
pub struct SlotMap {
    shards: u16,
}

impl SlotMap {
    /// A map for `shards` shards, at least one.
    pub fn new(shards: u16) -> SlotMap {
        assert!(shards > 0, "a server has at least one shard");
        SlotMap { shards }
    }

    /// How many shards there are.
    pub fn shards(self) -> u16 {
        self.shards
    }

    /// All shards in order.
    pub fn all(self) -> impl DoubleEndedIterator<Item = ShardId> + ExactSizeIterator {
        (0..self.shards).map(ShardId)
    }

    /// The shard that owns a slot below [`SLOTS`].
    pub fn owner(self, slot: u16) -> ShardId {
        debug_assert!(u32::from(slot) < SLOTS);
        ShardId((u32::from(slot) * u32::from(self.shards) / SLOTS) as u16)
    }

    /// The slots of a shard, the last one included.
    pub fn range(self, shard: ShardId) -> (u16, u16) {
        let first = |shard: u32| (shard * SLOTS).div_ceil(u32::from(self.shards));
        (first(u32::from(shard.0)) as u16, (first(u32::from(shard.0) + 1) - 1) as u16)
    }

    /// How many slots a shard owns.
    pub fn slots_of(self, shard: ShardId) -> u32 {
        let (first, last) = self.range(shard);
        u32::from(last - first) + 1
    }

    /// The shard that owns a key. With one shard nothing is hashed.
    #[inline]
    pub fn shard_of(self, key: &[u8]) -> ShardId {
        if self.shards == 1 { ShardId(0) } else { self.owner(key_slot(key)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_contiguous_and_even() {
        for shards in [1u16, 2, 3, 4, 7, 64] {
            let map = SlotMap::new(shards);
            let mut counts = vec![0u32; usize::from(shards)];
            let mut last = 0;
            for slot in 0..SLOTS as u16 {
                let owner = map.owner(slot).0;
                assert!(owner == last || owner == last + 1, "contiguous");
                last = owner;
                counts[usize::from(owner)] += 1;
            }
            for shard in map.all() {
                let (first, last) = map.range(shard);
                assert_eq!((map.owner(first), map.owner(last)), (shard, shard), "{shards} shards");
                assert_eq!(u32::from(last - first) + 1, counts[shard.index()], "{shards} shards");
            }
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= 1, "{shards} shards: {min}..{max}");
            for shard in map.all() {
                assert_eq!(map.slots_of(shard), counts[usize::from(shard.0)] as u32, "{shards} shards, shard {shard}");
            }
        }
    }

    #[test]
    fn a_hashtag_keeps_keys_together() {
        let map = SlotMap::new(64);
        assert_eq!(map.shard_of(b"{user7}:name"), map.shard_of(b"{user7}:mail"));
    }
}
