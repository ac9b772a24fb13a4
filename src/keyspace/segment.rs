//! A few hundred records in one array of slots, sorted by hash. The leaf of the [table](super::table).
//!
//! ```text
//!    hash    [ depth bits: which segment | ← 19 bits: tag → | …  ]
//!    slots   [ 02 | 07 | .. | .. | 31 | 31 | 32 | 40 | .. | 55 | 7e | 7f | 7f ]
//!               │              └ home of 31: tag × homes / 2^19      └ slack ┘
//!               └ full slots are in the order of their tags, each at its home or pushed right by its left neighbours
//! ```
//!
//! Robin Hood linear probing, with the home proportional to the tag instead of taken modulo a power of two: the order
//! of the slots is the order of the hashes, and the capacity may be any number. A search starts at the home and ends at
//! the first tag that is not smaller; an empty slot has the largest by definition. Insertion shifts the run up to the
//! next empty slot one place right, removal shifts it back: there are no tombstones. Homes end a little before the array
//! does, so that the last run rarely falls off the end; when it does, the segment grows early.
//!
//! **Tags slide.** A tag holds the 19 bits below the first `tag_depth` bits of the hash. When a segment splits, the bit
//! that divides it is the tag's top bit; the halves keep their tags and look at them one bit further down (`slide`).
//! So a split moves slots and touches no record, until after four splits too few bits would be left: only then are the
//! keys hashed again. Merging goes the other way and never needs the keys: the bits that a coarser tag wants are the
//! segment's own position.
//!
//! Invariants: full slots are sorted by tag; no empty slot between a full one and its home; `slide() <= SLIDE_MAX`;
//! `earliest` is not later than the first expiry in the segment. All records agree in the first `depth` bits of their
//! hashes; the table sees to that.
//!
//! Absent on purpose: the directory, counters over all segments, and any knowledge of what a record holds.

use super::record::{self, Entry, Record, Slot, TAG_BITS, TAG_MAX};
use super::size_class::size_class;
use crate::base::time::Millis;

/// The smallest capacity of a segment that is not empty.
const CAPACITY_MIN: usize = 8;

/// How many bits of a tag may have become part of the segment's position before the keys are hashed again. Fifteen bits
/// are left then to tell a few hundred records apart, so about one search in a hundred compares a wrong key.
const SLIDE_MAX: u32 = 4;

/// A segment is full at 29/32 of its capacity: a key is five slots behind its home then on average, and two at the
/// mean load of 26/32. Most searches read one cache line or two neighbours.
const LOAD_MAX: usize = 29;
/// A segment gives memory back under 12/32.
const LOAD_MIN: usize = 12;
/// Where growing, splitting and merging leave a segment at most, so that the next insertions find room.
const LOAD_NEW: usize = 26;
const LOAD_UNIT: usize = 32;

/// How many slots a search looks at together: as many as a cache line has. The search knows that it is eight.
const BLOCK: usize = 8;

/// See the module's documentation.
pub(super) struct Segment {
    slots: Box<[Slot]>,
    /// Lower bound of the expiry of all records, i64::MAX if none expires.
    earliest: i64,
    len: u32,
    depth: u8,
    tag_depth: u8,
}

/// Where a search ended: at the key's slot, or at the place where the key would be inserted.
#[derive(Clone, Copy)]
pub(super) enum Probe {
    Found(usize),
    Vacant(usize),
}

impl Segment {
    /// A segment without memory of its own.
    pub(super) fn empty(depth: u32) -> Segment {
        Segment { slots: Box::default(), earliest: i64::MAX, len: 0, depth: depth as u8, tag_depth: depth as u8 }
    }

    /// A segment of the given slots, which are full and sorted by tag.
    fn sorted(slots: Vec<Slot>, depth: u32, tag_depth: u32, earliest: i64) -> Segment {
        let earliest = if slots.iter().any(Slot::expires) { earliest } else { i64::MAX };
        let mut segment = Segment { earliest, tag_depth: tag_depth as u8, ..Segment::empty(depth) };
        segment.fill(slots, 0);
        segment
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many bits of the hash all records share.
    pub(super) fn depth(&self) -> u32 {
        u32::from(self.depth)
    }

    /// All slots, full and empty.
    #[inline]
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// One slot, which must stay as full as it is.
    #[inline]
    pub(super) fn slot_mut(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }

    /// Lower bound of the expiry of all records, i64::MAX if none expires.
    pub(super) fn earliest(&self) -> i64 {
        self.earliest
    }

    /// To be told of every expiry that a record of the segment gets.
    pub(super) fn note_expiry(&mut self, at: Millis) {
        self.earliest = self.earliest.min(at.0);
    }

    /// Gives all memory and all records away, unsorted and with gaps.
    pub(super) fn take_slots(&mut self) -> Vec<Slot> {
        self.len = 0;
        self.earliest = i64::MAX;
        std::mem::take(&mut self.slots).into_vec()
    }

    /// The tag of a hash in this segment.
    #[inline]
    pub(super) fn tag_of(&self, hash: u64) -> u64 {
        (hash << self.tag_depth) >> (64 - TAG_BITS)
    }

    /// The inverse of `tag_of`: the first hash with this tag. `base` is the hash of any key of the segment.
    pub(super) fn first_hash(&self, base: u64, tag: u64) -> u64 {
        let below = 64 - u32::from(self.tag_depth);
        let prefix = if below == 64 { 0 } else { base >> below << below };
        prefix | tag << (below - TAG_BITS)
    }

    fn slide(&self) -> u32 {
        u32::from(self.depth - self.tag_depth)
    }

    /// The slot where the search for a tag starts.
    #[inline]
    pub(super) fn home(&self, tag: u64) -> usize {
        home(tag, self.slide(), self.slots.len())
    }

    /// Searches for a key with this hash.
    #[inline]
    pub(super) fn probe(&self, hash: u64, key: &[u8]) -> Probe {
        let tag = self.tag_of(hash);
        let mut at = self.first_not_below(tag);
        while let Some(slot) = self.slots.get(at)
            && slot.tag() == tag
            && let Some(entry) = slot.entry()
        {
            if entry.key() == key {
                return Probe::Found(at);
            }
            at += 1;
        }
        Probe::Vacant(at)
    }

    /// The first slot whose tag is not smaller than this one: where a record with this tag is, or would be inserted.
    #[inline]
    fn first_not_below(&self, tag: u64) -> usize {
        let mut at = self.home(tag);
        // Slots from the home on are sorted, gaps or not: what comes after a gap has a later home, so a larger tag. And
        // the answer is most often among the next eight, where it is found without a branch that depends on the key;
        // one that is mispredicted costs more than all of this.
        while let Some(block) = self.slots[at..].first_chunk::<BLOCK>() {
            if block[BLOCK - 1].is_below(tag) {
                at += BLOCK;
                continue;
            }
            let half = 4 * usize::from(block[3].is_below(tag));
            let rest = block[half..half + 3].iter().map(|slot| usize::from(slot.is_below(tag)));
            return at + half + rest.sum::<usize>();
        }
        at + self.slots[at..].iter().filter(|slot| slot.is_below(tag)).count()
    }

    /// Where a record with this hash can be inserted.
    pub(super) fn vacancy(&self, hash: u64) -> usize {
        self.first_not_below(self.tag_of(hash))
    }

    /// Asks for the cache lines in which the search for this hash will start.
    pub(super) fn prefetch_home(&self, hash: u64) {
        let home = self.slots.as_ptr().wrapping_add(self.home(self.tag_of(hash)));
        record::prefetch(home);
        // The search reads on from there, into the next line as often as not.
        record::prefetch(home.wrapping_add(BLOCK - 1));
    }

    /// Asks for the records that the search for this hash will compare.
    pub(super) fn prefetch_records(&self, hash: u64) {
        let tag = self.tag_of(hash);
        let run = self.slots[self.first_not_below(tag)..].iter().take_while(|slot| slot.tag() == tag);
        run.for_each(Slot::prefetch_record);
    }

    /// Puts a record where `probe` or `vacancy` said; gives it back if there is no room, and then the segment must grow
    /// or split before the next try.
    pub(super) fn insert(&mut self, at: usize, hash: u64, record: Record) -> Result<(), Record> {
        if (self.len() + 1) * LOAD_UNIT > self.slots.len() * LOAD_MAX {
            return Err(record);
        }
        if !self.slots[at..].iter().any(Slot::is_empty) {
            return Err(record);
        }
        if let Some(expire_at) = record.expire_at() {
            self.note_expiry(expire_at);
        }
        let mut moving = Slot::new(self.tag_of(hash), record);
        for slot in &mut self.slots[at..] {
            std::mem::swap(slot, &mut moving);
            if moving.is_empty() {
                break;
            }
        }
        self.len += 1;
        Ok(())
    }

    /// Takes the record out of a full slot. The records behind it may move one place left.
    pub(super) fn remove(&mut self, at: usize) -> Record {
        let record = self.slots[at].take().expect("only a full slot is removed");
        for here in at + 1..self.slots.len() {
            if self.slots[here].is_empty() || self.home(self.slots[here].tag()) == here {
                break;
            }
            self.slots.swap(here - 1, here);
        }
        self.len -= 1;
        if self.len == 0 {
            self.earliest = i64::MAX;
        }
        record
    }

    /// Moves to the next size class.
    pub(super) fn grow(&mut self) {
        let capacity_min = self.slots.len() + 1;
        let slots = self.full_slots();
        self.fill(slots, capacity_min);
    }

    /// Gives memory back if far too much of it is empty.
    pub(super) fn shrink_if_sparse(&mut self) {
        if self.slots.len() > CAPACITY_MIN && self.len() * LOAD_UNIT < self.slots.len() * LOAD_MIN {
            let slots = self.full_slots();
            self.fill(slots, 0);
        }
    }

    /// Divides the records by the next bit of their hashes. Hashes keys only if the tags have slid too far.
    pub(super) fn split(mut self, hash_key: impl Fn(&[u8]) -> u64) -> (Segment, Segment) {
        if self.slide() == SLIDE_MAX {
            self.retag(hash_key);
        }
        let (depth, tag_depth, earliest) = (self.depth() + 1, u32::from(self.tag_depth), self.earliest);
        let bit = 1 << (TAG_BITS - 1 - self.slide());
        let mut left = self.full_slots();
        let right = left.split_off(left.partition_point(|slot| slot.tag() & bit == 0));
        (Segment::sorted(left, depth, tag_depth, earliest), Segment::sorted(right, depth, tag_depth, earliest))
    }

    /// Undoes a split. `base` is the hash of any key of `left`.
    pub(super) fn merge(mut left: Segment, mut right: Segment, base: u64) -> Segment {
        assert!(left.depth == right.depth && left.depth > 0, "only the halves of one segment merge");
        let depth = left.depth() - 1;
        let tag_depth = left.tag_depth.min(right.tag_depth).min(left.depth - 1);
        let earliest = left.earliest.min(right.earliest);
        let right_base = base | 1 << (63 - depth);
        let mut slots = left.coarsened(tag_depth, base);
        slots.append(&mut right.coarsened(tag_depth, right_base));
        Segment::sorted(slots, depth, u32::from(tag_depth), earliest)
    }

    /// Visits every record that has an expiry, if one of them may be due. Each that is due is taken out and given away.
    /// Returns how many were looked at. Afterwards `earliest` is exact.
    pub(super) fn expire_due(&mut self, now: Millis, mut on_expired: impl FnMut(Record)) -> usize {
        if self.earliest >= now.0 {
            return 0;
        }
        let (mut examined, mut earliest, mut at) = (0, i64::MAX, 0);
        while at < self.slots.len() {
            let expire_at = match self.slots[at].expires() {
                true => self.slots[at].entry().and_then(Entry::expire_at),
                false => None,
            };
            examined += usize::from(expire_at.is_some());
            match expire_at {
                // The slot is looked at again: another record may have moved into it.
                Some(when) if now > when => on_expired(self.remove(at)),
                Some(when) => {
                    earliest = earliest.min(when.0);
                    at += 1;
                }
                None => at += 1,
            }
        }
        self.earliest = earliest;
        examined
    }

    /// Panics if an invariant does not hold. `prefix` is the position of the segment, in the top bits.
    pub(super) fn check_invariants(&self, prefix: u64, hash_key: impl Fn(&[u8]) -> u64) {
        assert!(self.tag_depth <= self.depth && self.slide() <= SLIDE_MAX);
        let mut len = 0;
        let mut gap_at = None;
        let mut last_tag = 0;
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(entry) = slot.entry() else {
                assert!(!slot.expires());
                gap_at = Some(at);
                continue;
            };
            len += 1;
            let hash = hash_key(entry.key());
            assert!(self.depth == 0 || (hash ^ prefix) >> (64 - self.depth()) == 0, "the record is in its segment");
            assert_eq!(slot.tag(), self.tag_of(hash), "the tag is that of the key");
            assert!(last_tag <= slot.tag(), "tags are sorted");
            last_tag = slot.tag();
            let home = self.home(slot.tag());
            assert!(home <= at && gap_at.is_none_or(|gap| gap < home), "no gap between a record and its home");
            assert_eq!(slot.expires(), entry.expire_at().is_some(), "slot and record agree about the expiry");
            assert!(entry.expire_at().is_none_or(|when| self.earliest <= when.0), "`earliest` is a lower bound");
        }
        assert_eq!(len, self.len());
        assert!(len * LOAD_UNIT <= self.slots.len() * LOAD_MAX);
    }

    /// The full slots in order; the segment is left empty.
    fn full_slots(&mut self) -> Vec<Slot> {
        let slots = std::mem::take(&mut self.slots).into_vec();
        slots.into_iter().filter(|slot| !slot.is_empty()).collect()
    }

    /// Takes these slots, which are full and sorted, as its own, in an array of suitable capacity.
    fn fill(&mut self, slots: Vec<Slot>, capacity_min: usize) {
        self.len =
            u32::try_from(slots.len()).expect("a segment of 2^32 records is far beyond the memory of its machine");
        let capacity_min = capacity_min.max((slots.len() * LOAD_UNIT).div_ceil(LOAD_NEW));
        if capacity_min == 0 {
            self.slots = Box::default();
            return;
        }
        let slide = self.slide();
        let mut capacity = capacity_class(capacity_min);
        while !fits(&slots, slide, capacity) {
            capacity = capacity_class(capacity + 1);
        }
        let mut array = Vec::with_capacity(capacity);
        for slot in slots {
            while array.len() < home(slot.tag(), slide, capacity) {
                array.push(Slot::EMPTY);
            }
            array.push(slot);
        }
        array.resize_with(capacity, || Slot::EMPTY);
        self.slots = array.into_boxed_slice();
    }

    /// Hashes all keys again to have tags that start at the segment's own depth.
    fn retag(&mut self, hash_key: impl Fn(&[u8]) -> u64) {
        let slots = self.full_slots();
        self.tag_depth = self.depth;
        slots.iter().for_each(Slot::prefetch_record);
        let retagged = slots.into_iter().map(|slot| {
            let hash = slot.entry().map_or(0, |entry| hash_key(entry.key()));
            slot.with_tag(self.tag_of(hash))
        });
        let mut slots: Vec<Slot> = retagged.collect();
        let expiries = slots.iter().filter(|slot| slot.expires()).filter_map(|slot| slot.entry()?.expire_at());
        self.earliest = expiries.map(|at| at.0).min().unwrap_or(i64::MAX);
        // What had equal tags may differ now. Otherwise the order stays, which the sort notices.
        slots.sort_by_key(Slot::tag);
        self.fill(slots, 0);
    }

    /// The full slots with tags that start at `tag_depth`, not below the present ones.
    fn coarsened(&mut self, tag_depth: u8, base: u64) -> Vec<Slot> {
        let steps = u32::from(self.tag_depth - tag_depth);
        let slots = self.full_slots();
        if steps == 0 {
            return slots;
        }
        let position = ((base << tag_depth) >> (64 - steps)) << (TAG_BITS - steps);
        let recast = slots.into_iter().map(|slot| {
            let tag = position | slot.tag() >> steps;
            slot.with_tag(tag)
        });
        recast.collect()
    }
}

/// How many of an array's slots are homes. The rest is room for the last run to end in.
#[inline]
fn homes(capacity: usize) -> usize {
    capacity.saturating_sub(2 + capacity / 32)
}

#[inline]
fn home(tag: u64, slide: u32, capacity: usize) -> usize {
    let below_position = (tag << slide) & TAG_MAX;
    (below_position as usize * homes(capacity)) >> TAG_BITS
}

/// The capacity of the smallest array that holds at least so many slots and wastes nothing of its size class.
fn capacity_class(capacity_min: usize) -> usize {
    size_class(capacity_min.max(CAPACITY_MIN) * size_of::<Slot>()) / size_of::<Slot>()
}

/// Whether the last run ends before the array does.
fn fits(slots: &[Slot], slide: u32, capacity: usize) -> bool {
    let end = slots.iter().fold(0, |end: usize, slot| end.max(home(slot.tag(), slide, capacity)) + 1);
    end <= capacity
}
