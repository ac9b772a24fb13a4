//! The hash table of one database on one shard: extendible hashing over small sorted segments.
//!
//! # The problem
//! A hash table that doubles in one go stalls: a flat table of 7 M entries takes 0.4 s to do it. Redis keeps two tables
//! and moves a few buckets with each command, which makes every lookup look in both, holds 1.5 times the memory for as
//! long, and still allocates and clears one huge array at once. And SCAN has to promise something while all that goes on.
//!
//! # The shape
//! ```text
//!   hash of the key, 64 bits
//!   ┌─────────┬───────────────────┬──────────────────────────────────┐
//!   │ depth   │ tag, 19 bits      │ unused                           │
//!   └────┬────┴─────────┬─────────┴──────────────────────────────────┘
//!        │              └───────────────────────┐
//!        │   directory                          │ home = tag × homes / 2^19
//!        │   ┌─────┐                   segment 0│(depth 2)
//!        ├─▶ │ 00  │ ────────────────▶ [ 03▸ 1f▸ 20▸ ·· 47▸ 47▸ ·· 7c▸ ]   ▸ = one record: key, value, expiry
//!            │ 01  │ ──────────┐
//!            │ 10  │ ──┐       └─────▶ [ ·· 11▸ ·· 52▸ 53▸ 71▸ ]           segments have their own capacity
//!            │ 11  │ ──┴─────────────▶ [ 00▸ 05▸ ·· 30▸ ·· 6d▸ ]           depth 1: two directory entries
//!            └─────┘
//! ```
//! The directory has 2^depth entries and is indexed by the top bits of the hash. A segment is a sorted array of 8-byte
//! slots ([`super::segment`]), so that the table as a whole is **sorted by hash**. A lookup reads a directory entry,
//! the segment's 32 bytes, one cache line of slots (most often), and the record.
//!
//! # What happens when it changes
//! - *A segment fills up*: it moves to the next size class, 14 to 25% larger, up to a maximum of 512 to 896 slots that
//!   depends on its position ([`CAPACITIES_MAX`]). Then it splits in two by the next bit of the hash, and half of its
//!   directory entries point to the new one. That is the longest thing an insertion does: up to 812 slots move, and in
//!   one of four splits their keys are hashed again. Some 0.1 ms with cold caches, measured up to 10 M keys.
//! - *A segment splits that only one directory entry points to*: the directory doubles. It is 4 bytes per entry, one or
//!   two entries per segment: 1 MiB at 50 M keys. Segments live in chunks, so their headers never move.
//! - *Keys go away*: a segment shrinks by size classes, and merges with its other half when both are nearly empty. When
//!   no segment needs the directory's last bit, it halves. All of it is done by the removal that caused it.
//!
//! # SCAN
//! Because the table is sorted by hash, a position in it is a hash prefix, and stays one whatever splits or merges. The
//! cursor is the first 40 bits of the hash at which to go on (so that it fits a double together with a shard number).
//! A call visits whole groups of records with equal position, and what lies before the cursor has been visited: a key
//! that is there from start to end is visited exactly once. Positions have the resolution of the segment's tags; when a
//! merge makes that coarser, a group that was partly visited is visited again as a whole. Growing makes it only finer.
//!
//! # Limits
//! Keys with equal hashes cannot be divided. The seed is random per process, so nobody can choose such keys; if they
//! come anyway, their segment grows beyond its maximum (32 slots per key at worst: see the slack in
//! [`super::segment`]), each search compares them all, and the directory refuses to grow for their sake.
//!
//! # Rejected
//! *hashbrown per segment*: its groups are fast to probe, but it wants powers of two (half empty after each growth),
//! keeps no order to scan by, and a byte of tag cannot be split without hashing again. *A flat table with incremental
//! rehash*: the two large arrays are what it is all about. *Chained buckets*: 8 bytes more per key, a miss more per step.
//!
//! Records are changed by leave of a snapshot that may run ([`super::snapshot`]): each way to them asks for one.
//!
//! Owned by one [`Db`](super::db::Db), on one core. Absent on purpose: what records mean, counting their bytes, time.

use super::record::{Entry, Record, Slot};
use super::segment::{Probe, Segment};
use super::snapshot::Leave;
use crate::base::time::Millis;

/// Bits of a SCAN cursor.
pub const CURSOR_BITS: u32 = 40;

/// From this capacity on a segment splits instead of growing, by the first two bits of its hashes. Small enough that
/// moving all slots takes a few microseconds; large enough that directory and headers stay under half a byte per key.
///
/// Different ones, because hashes are uniform: segments that all split at the same size would do so at the same time,
/// and the table's bytes per key would go up and down with each doubling. Worse, they would all leave one size class
/// for the next together, and the allocator would be left with pages of which a few slots are used: 4.3 bytes per key
/// of 5 M were lost so (jemalloc's statistics: the class of 2560 bytes at 27% use). Now each class gets new arrays while it loses old ones, at any size of the table.
const CAPACITIES_MAX: [usize; 4] = [512, 768, 640, 896];

/// The largest of them.
const CAPACITY_MAX: usize = 896;

/// The directory has at most 2^30 entries: 4 GiB, for some 200 G keys.
const DEPTH_MAX: u32 = 30;

/// The directory may have so many entries per segment. Uniform hashes need 2 to 4.
const DIRECTORY_SPREAD_MAX: usize = 8;

/// Two halves merge at this number of records or fewer: 40% of what makes the smallest segments split, so that no mix
/// of insertions and removals makes a segment go back and forth.
const MERGE_LEN_MAX: usize = 184;

/// Segments per chunk. A chunk is 16 KiB.
const CHUNK: usize = 512;

/// A scan call looks at so many slots per key that it is asked for, and at one segment more, before it gives up on
/// finding that many.
const SCAN_SLOTS_PER_KEY: usize = 16;

/// How many slots before its turn a walk asks for a record's memory.
const WALK_PREFETCH: usize = 8;

/// Draws of a random slot before the exact way is taken. One draw in about four hits.
const RANDOM_DRAWS_MAX: usize = 128;

const _: () = {
    let mut at = 0;
    while at < CAPACITIES_MAX.len() {
        assert!(CAPACITIES_MAX[at] <= CAPACITY_MAX);
        at += 1;
    }
};
const _: () = assert!(DEPTH_MAX <= CURSOR_BITS, "a cursor can name the end of every segment");
const _: () = assert!(CHUNK * size_of::<Segment>() == 16 * 1024, "a chunk is what its comment says");

/// How a table hashes its keys. Not `BuildHasher`, so that tests can choose hashes.
pub trait HashKey {
    /// The hash; all 64 bits should be good, the top ones are used first.
    fn hash_key(&self, key: &[u8]) -> u64;
}

impl HashKey for ahash::RandomState {
    #[inline]
    fn hash_key(&self, key: &[u8]) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.build_hasher();
        // Without the length that `Hash for [u8]` writes first: ahash mixes it in by itself.
        hasher.write(key);
        hasher.finish()
    }
}

/// Where a record is, or would be. Good until the next change of the table.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    segment: u32,
    slot: usize,
}

/// See the module's documentation.
pub(super) struct Table<H> {
    hasher: H,
    /// Indices of segments, by the top `depth` bits of the hash.
    directory: Vec<u32>,
    depth: u32,
    segments: Segments,
    len: usize,
    /// How many segments are as deep as the directory.
    deepest: usize,
    /// The largest capacity that a segment ever had, if more than [`CAPACITY_MAX`].
    capacity_max: usize,
    slot_bytes: usize,
}

impl<H: HashKey> Table<H> {
    pub(super) fn new(hasher: H) -> Table<H> {
        let mut segments = Segments::default();
        let first = segments.add(Segment::empty(0));
        Table {
            hasher,
            directory: vec![first],
            depth: 0,
            segments,
            len: 0,
            deepest: 1,
            capacity_max: CAPACITY_MAX,
            slot_bytes: 0,
        }
    }

    pub(super) fn hasher(&self) -> &H {
        &self.hasher
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Directory, segments and slots; not the records.
    pub(super) fn bytes(&self) -> usize {
        self.directory.capacity() * size_of::<u32>() + self.segments.bytes() + self.slot_bytes
    }

    /// Finds the key, or the place where it would be inserted.
    #[inline]
    pub(super) fn probe(&self, hash: u64, key: &[u8]) -> Result<Spot, Spot> {
        let segment = self.segment_of(hash);
        match self.segments.get(segment).probe(hash, key) {
            Probe::Found(slot) => Ok(Spot { segment, slot }),
            Probe::Vacant(slot) => Err(Spot { segment, slot }),
        }
    }

    /// Finds the key, to read it.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Entry<'_>> {
        let segment = self.segments.get(self.segment_of(hash));
        match segment.probe(hash, key) {
            Probe::Found(slot) => segment.slots()[slot].entry(),
            Probe::Vacant(_) => None,
        }
    }

    /// The slot of a record that was found.
    #[inline]
    pub(super) fn slot(&self, at: Spot) -> &Slot {
        &self.segments.get(at.segment).slots()[at.slot]
    }

    /// The slot of a record that was found; it must stay as full as it is.
    #[inline]
    pub(super) fn slot_mut(&mut self, at: Spot, _: Leave) -> &mut Slot {
        self.segments.get_mut(at.segment).slot_mut(at.slot)
    }

    /// Changes the access word of a record that was found, and hands the record out.
    #[inline]
    pub(super) fn touched(&mut self, at: Spot, touch: impl FnOnce(u32) -> u32) -> Entry<'_> {
        self.segments.get_mut(at.segment).slot_mut(at.slot).touched(touch)
    }

    /// Sets the access word of a record that was found, which is nobody's business.
    #[inline]
    pub(super) fn set_access(&mut self, at: Spot, access: u32) {
        self.segments.get_mut(at.segment).slot_mut(at.slot).set_access(access);
    }

    /// To be told of every expiry that a record gets.
    pub(super) fn note_expiry(&mut self, at: Spot, expire_at: Millis) {
        self.segments.get_mut(at.segment).note_expiry(expire_at);
    }

    /// Inserts a record whose key is not there, at the place that `probe` gave.
    pub(super) fn insert(&mut self, mut at: Spot, hash: u64, mut record: Record, _: Leave) -> Spot {
        loop {
            match self.segments.get_mut(at.segment).insert(at.slot, hash, record) {
                Ok(()) => {
                    self.len += 1;
                    return at;
                }
                Err(back) => record = back,
            }
            self.make_room(hash);
            at.segment = self.segment_of(hash);
            at.slot = self.segments.get(at.segment).vacancy(hash);
        }
    }

    /// Takes the record out of the slot where it was found. Its stamp stays behind.
    pub(super) fn remove(&mut self, at: Spot, hash: u64, _: Leave) -> Record {
        let mut record = self.segments.get_mut(at.segment).remove(at.slot);
        record.set_stamp(0);
        self.len -= 1;
        self.tidy_up(hash);
        record
    }

    /// Asks for the cache line of slots in which the search for this hash will start.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.segments.get(self.segment_of(hash)).prefetch_home(hash);
    }

    /// Asks for the record that the search for this hash will find. Reads the slots: worth it some 100 ns after
    /// `prefetch`.
    #[inline]
    pub(super) fn prefetch_record(&self, hash: u64) {
        self.segments.get(self.segment_of(hash)).prefetch_records(hash);
    }

    /// Visits records from the cursor on, until `count` visits returned true or enough slots were looked at. Returns
    /// the cursor to go on with, 0 at the end. See the module's documentation for what it promises.
    pub(super) fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Entry<'_>) -> bool) -> u64 {
        let count = count.max(1);
        let slots_max = count.saturating_mul(SCAN_SLOTS_PER_KEY);
        let (mut cursor, mut counted, mut slots_read) = (cursor, 0, 0);
        while cursor >> CURSOR_BITS == 0 {
            let base = cursor << (64 - CURSOR_BITS);
            let segment = self.segments.get(self.segment_of(base));
            let from_tag = segment.tag_of(base);
            let from = segment.home(from_tag);
            let mut group = None;
            for slot in segment.slots().get(from..).unwrap_or_default() {
                let Some(entry) = slot.entry() else { continue };
                if slot.tag() < from_tag {
                    continue;
                }
                let position = segment.first_hash(base, slot.tag()) >> (64 - CURSOR_BITS);
                if group != Some(position) {
                    if counted >= count {
                        return position;
                    }
                    group = Some(position);
                }
                counted += usize::from(visit(entry));
            }
            slots_read += segment.slots().len() - from;
            cursor = end_of_segment(base, segment.depth()).map_or(0, |hash| hash >> (64 - CURSOR_BITS));
            if cursor == 0 || counted >= count || slots_read >= slots_max {
                return cursor;
            }
        }
        0
    }

    /// A record, each with the same probability. `below(n)` draws from `0..n`.
    pub(super) fn random(&self, mut below: impl FnMut(u64) -> u64) -> Option<Entry<'_>> {
        if self.len == 0 {
            return None;
        }
        // Every slot of every segment is drawn with the same probability, empty and missing ones too; what is not a
        // record is drawn again. A shallow segment has several directory entries, of which only the first counts.
        let slots = match self.directory.len() {
            1 => self.segments.get(self.directory[0]).slots().len(),
            _ => self.capacity_max,
        };
        for _ in 0..RANDOM_DRAWS_MAX {
            let at = below(self.directory.len() as u64) as usize;
            let segment = self.segments.get(self.directory[at]);
            let slot = segment.slots().get(below(slots as u64) as usize);
            if self.is_first_entry(at, segment)
                && let Some(entry) = slot.and_then(Slot::entry)
            {
                return Some(entry);
            }
        }
        // Few records in a large table. Exact, too: draw the rank and count.
        let mut rank = below(self.len as u64) as usize;
        for segment in self.in_order() {
            if rank < segment.len() {
                return segment.slots().iter().filter_map(Slot::entry).nth(rank);
            }
            rank -= segment.len();
        }
        unreachable!("the rank is below the number of records")
    }

    /// Visits records in the order of their hashes, from a random one on and around the end, until `visit` returns
    /// false or all were visited.
    pub(super) fn walk_from(&self, hash: u64, mut visit: impl FnMut(Entry<'_>) -> bool) {
        let mut base = hash;
        let (mut left, mut first) = (self.len, true);
        while left > 0 {
            let segment = self.segments.get(self.segment_of(base));
            let from = if first { segment.home(segment.tag_of(base)) } else { 0 };
            first = false;
            for entry in segment.slots().get(from..).unwrap_or_default().iter().filter_map(Slot::entry) {
                if left == 0 || !visit(entry) {
                    return;
                }
                left -= 1;
            }
            base = end_of_segment(base, segment.depth()).unwrap_or(0);
        }
    }

    /// Visits records that expire, in the order of their hashes, from this one on and around the end, until `visit` returns false or
    /// all were visited; those of the first segment may be visited again at the end. Segments in which nothing expires cost a look
    /// at their heads; of the others, the slots tell.
    pub(super) fn walk_expiring(&self, hash: u64, mut visit: impl FnMut(Entry<'_>) -> bool) {
        let mut base = hash;
        let first = self.segments.get(self.segment_of(hash));
        let mut from = first.home(first.tag_of(hash));
        for _ in 0..=self.segments.len() {
            let segment = self.segments.get(self.segment_of(base));
            if segment.earliest() < i64::MAX {
                let slots = segment.slots().get(from..).unwrap_or_default().iter();
                for entry in slots.filter(|slot| slot.expires()).filter_map(Slot::entry) {
                    if !visit(entry) {
                        return;
                    }
                }
            }
            from = 0;
            base = end_of_segment(base, segment.depth()).unwrap_or(0);
        }
    }

    /// Visits the records of the segment that holds `from`, in the order of their hashes and from that one on, until `visit`
    /// returns false. Records with equal tags are visited together: a visit may come after one that returned false. Returns
    /// the hash before which all was visited, none at the end of the table. For the walk of a snapshot alone.
    pub(super) fn walk_segment(&mut self, from: u64, mut visit: impl FnMut(&mut Slot) -> bool) -> Option<u64> {
        let index = self.segment_of(from);
        let Table { hasher, segments, .. } = self;
        let segment = segments.get_mut(index);
        let from_tag = segment.tag_of(from);
        // Only if tags have become coarser since `from` was returned; then those with this one are on both sides of it.
        let is_divided = segment.first_hash(from, from_tag) < from;
        let (mut goes_on, mut group) = (true, from_tag);
        for at in segment.home(from_tag)..segment.slots().len() {
            if let Some(ahead) = segment.slots().get(at + WALK_PREFETCH) {
                ahead.prefetch_record();
            }
            let slot = &segment.slots()[at];
            let (tag, Some(entry)) = (slot.tag(), slot.entry()) else { continue };
            if tag < from_tag || (is_divided && tag == from_tag && hasher.hash_key(entry.key()) < from) {
                continue;
            }
            if !goes_on && tag != group {
                return Some(segment.first_hash(from, tag));
            }
            group = tag;
            goes_on &= visit(segment.slot_mut(at));
        }
        end_of_segment(from, segment.depth())
    }

    /// Lets the segment that holds this hash expire what is due; `on_expired` gets each record with a way to know its hash.
    /// Returns what the caller's walk needs to know.
    pub(super) fn expire_due_at(
        &mut self,
        hash: u64,
        now: Millis,
        mut on_expired: impl FnMut(Record, &H) -> Leave,
    ) -> ExpiredSegment {
        let index = self.segment_of(hash);
        let segment = self.segments.get_mut(index);
        let next = end_of_segment(hash, segment.depth());
        let mut expired = 0;
        let examined = segment.expire_due(now, |record| {
            expired += 1;
            let _: Leave = on_expired(record, &self.hasher);
        });
        let earliest = segment.earliest();
        self.len -= expired;
        if expired > 0 {
            self.tidy_up(hash);
        }
        ExpiredSegment { expired, examined, earliest, next }
    }

    /// Empties the table at once, and hands out what was in it for freeing it little by little.
    pub(super) fn take_ruins(&mut self) -> Ruins
    where
        H: Clone,
    {
        let fresh = Table::new(self.hasher.clone());
        let old = std::mem::replace(self, fresh);
        Ruins { segments: old.segments, slots: Vec::new(), len: old.len }
    }

    /// Panics if an invariant does not hold. Reads every record.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.directory.len(), 1 << self.depth);
        let (mut len, mut slot_bytes, mut deepest, mut count) = (0, 0, 0, 0);
        let mut at = 0;
        while at < self.directory.len() {
            let index = self.directory[at];
            let segment = self.segments.get(index);
            assert!(segment.depth() <= self.depth);
            let span = 1 << (self.depth - segment.depth());
            assert_eq!(at % span, 0, "a segment starts at a multiple of its span");
            assert!(self.directory[at..at + span].iter().all(|&other| other == index), "and has all of it");
            let prefix = if self.depth == 0 { 0 } else { (at as u64) << (64 - self.depth) };
            segment.check_invariants(prefix, |key| self.hash(key));
            assert!(segment.slots().len() <= self.capacity_max);
            deepest += usize::from(segment.depth() == self.depth);
            len += segment.len();
            slot_bytes += std::mem::size_of_val(segment.slots());
            count += 1;
            at += span;
        }
        assert_eq!(len, self.len);
        assert_eq!(slot_bytes, self.slot_bytes);
        assert_eq!(deepest, self.deepest);
        assert_eq!(count, self.segments.len(), "every segment is in the directory");
        assert!(deepest > 0, "the directory is as small as it can be");
    }

    #[inline]
    fn directory_at(&self, hash: u64) -> usize {
        // In two steps, since a shift by 64 is not one.
        (hash >> 1 >> (63 - self.depth)) as usize
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> u32 {
        self.directory[self.directory_at(hash)]
    }

    fn is_first_entry(&self, at: usize, segment: &Segment) -> bool {
        at & ((1 << (self.depth - segment.depth())) - 1) == 0
    }

    fn in_order(&self) -> impl Iterator<Item = &Segment> {
        let entries = self.directory.iter().enumerate();
        entries.filter_map(|(at, &index)| {
            let segment = self.segments.get(index);
            self.is_first_entry(at, segment).then_some(segment)
        })
    }

    /// Grows or splits the segment in which this hash belongs.
    fn make_room(&mut self, hash: u64) {
        let at = self.directory_at(hash);
        let index = self.directory[at];
        let may_double = self.depth < DEPTH_MAX && self.directory.len() < DIRECTORY_SPREAD_MAX * self.segments.len();
        let segment = self.segments.get_mut(index);
        let depth = segment.depth();
        // A segment that is not deep enough to have one position of the four takes the maximum of its first key.
        let is_small = segment.slots().len() < CAPACITIES_MAX[(hash >> 62) as usize];
        if is_small || (depth == self.depth && !may_double) {
            self.slot_bytes -= std::mem::size_of_val(segment.slots());
            segment.grow();
            self.slot_bytes += std::mem::size_of_val(segment.slots());
            self.capacity_max = self.capacity_max.max(segment.slots().len());
            return;
        }
        if depth == self.depth {
            self.double_directory();
        }
        self.split(hash);
    }

    fn double_directory(&mut self) {
        let mut directory = Vec::with_capacity(self.directory.len() * 2);
        directory.extend(self.directory.iter().flat_map(|&index| [index, index]));
        self.directory = directory;
        self.depth += 1;
        self.deepest = 0;
    }

    fn split(&mut self, hash: u64) {
        let at = self.directory_at(hash);
        let index = self.directory[at];
        let segment = std::mem::replace(self.segments.get_mut(index), Segment::empty(0));
        let span = 1 << (self.depth - segment.depth());
        self.slot_bytes -= std::mem::size_of_val(segment.slots());
        let (left, right) = segment.split(|key| self.hasher.hash_key(key));
        self.slot_bytes += std::mem::size_of_val(left.slots()) + std::mem::size_of_val(right.slots());
        let capacity = left.slots().len().max(right.slots().len());
        self.capacity_max = self.capacity_max.max(capacity);
        if left.depth() == self.depth {
            self.deepest += 2;
        }
        *self.segments.get_mut(index) = left;
        let right = self.segments.add(right);
        let start = at & !(span - 1);
        self.directory[start + span / 2..start + span].fill(right);
    }

    /// After removals from the segment that held this hash: gives back what is not needed any more.
    fn tidy_up(&mut self, hash: u64) {
        let segment = self.segments.get_mut(self.segment_of(hash));
        let before = std::mem::size_of_val(segment.slots());
        segment.shrink_if_sparse();
        self.slot_bytes = self.slot_bytes - before + std::mem::size_of_val(segment.slots());
        while self.merge(hash) {}
        while self.deepest == 0 {
            self.halve_directory();
        }
    }

    /// Merges the segment of this hash with its other half if both are nearly empty.
    fn merge(&mut self, hash: u64) -> bool {
        let at = self.directory_at(hash);
        let index = self.directory[at];
        let segment = self.segments.get(index);
        if segment.depth() == 0 || segment.len() > MERGE_LEN_MAX {
            return false;
        }
        let depth = segment.depth();
        let span = 1 << (self.depth - depth);
        let start = at & !(span - 1);
        let other_index = self.directory[start ^ span];
        let other = self.segments.get(other_index);
        if other.depth() != depth || segment.len() + other.len() > MERGE_LEN_MAX {
            return false;
        }
        let left_start = start & !span;
        let (left_index, right_index) = (self.directory[left_start], self.directory[left_start + span]);
        let left = std::mem::replace(self.segments.get_mut(left_index), Segment::empty(0));
        let right = self.segments.remove(right_index);
        self.slot_bytes -= std::mem::size_of_val(left.slots()) + std::mem::size_of_val(right.slots());
        let base = (left_start as u64) << (64 - self.depth);
        let merged = Segment::merge(left, right, base);
        self.slot_bytes += std::mem::size_of_val(merged.slots());
        if depth == self.depth {
            self.deepest -= 2;
        }
        *self.segments.get_mut(left_index) = merged;
        self.directory[left_start + span..left_start + 2 * span].fill(left_index);
        true
    }

    fn halve_directory(&mut self) {
        self.directory = self.directory.iter().copied().step_by(2).collect();
        self.depth -= 1;
        self.deepest = self.in_order().filter(|segment| segment.depth() == self.depth).count();
    }
}

/// What [`Table::expire_due_at`] did to one segment.
pub(super) struct ExpiredSegment {
    pub(super) expired: usize,
    pub(super) examined: usize,
    /// Lower bound of what is left in it, i64::MAX if nothing expires.
    pub(super) earliest: i64,
    /// The first hash of the next segment, none at the end of the table.
    pub(super) next: Option<u64>,
}

/// The first hash behind the segment of this depth that holds `hash`.
fn end_of_segment(hash: u64, depth: u32) -> Option<u64> {
    let span = 1u64.checked_shl(64 - depth)?;
    (hash & !(span - 1)).checked_add(span)
}

/// What is left of a table that was emptied: records to be freed in slices.
#[derive(Default)]
pub(super) struct Ruins {
    segments: Segments,
    slots: Vec<Slot>,
    len: usize,
}

impl Ruins {
    /// How many records are left.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Hands out the next record, none when all are gone.
    pub(super) fn pop(&mut self) -> Option<Record> {
        loop {
            while let Some(mut slot) = self.slots.pop() {
                if let Some(record) = slot.take() {
                    self.len -= 1;
                    return Some(record);
                }
            }
            self.slots = self.segments.pop()?.take_slots();
        }
    }
}

/// All segments of a table. They live in chunks, so that no more than one chunk is ever allocated, and nothing copied,
/// when there come to be more of them.
#[derive(Default)]
struct Segments {
    chunks: Vec<Vec<Segment>>,
    /// Places of segments that were removed.
    free: Vec<u32>,
    len: usize,
}

impl Segments {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> usize {
        let segments: usize = match self.chunks.as_slice() {
            [full @ .., last] => full.len() * CHUNK + last.capacity(),
            [] => 0,
        };
        let chunks = self.chunks.capacity() * size_of::<Vec<Segment>>();
        segments * size_of::<Segment>() + chunks + self.free.capacity() * size_of::<u32>()
    }

    #[inline]
    fn get(&self, index: u32) -> &Segment {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    #[inline]
    fn get_mut(&mut self, index: u32) -> &mut Segment {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn add(&mut self, segment: Segment) -> u32 {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            *self.get_mut(index) = segment;
            return index;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            // The first chunk grows as it needs to: most databases of most shards stay empty.
            let capacity = if self.chunks.is_empty() { 1 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let chunks = self.chunks.len();
        let last = self.chunks.last_mut().expect("a chunk with room was made above");
        last.push(segment);
        u32::try_from((chunks - 1) * CHUNK + last.len() - 1).expect("the directory's depth limits the segments to 2^30")
    }

    fn remove(&mut self, index: u32) -> Segment {
        self.len -= 1;
        self.free.push(index);
        std::mem::replace(self.get_mut(index), Segment::empty(0))
    }

    /// Takes any segment, to tear everything down.
    fn pop(&mut self) -> Option<Segment> {
        while let Some(last) = self.chunks.last_mut() {
            if let Some(segment) = last.pop() {
                return Some(segment);
            }
            self.chunks.pop();
        }
        None
    }
}
