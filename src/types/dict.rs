//! A hash table that never stalls: what large sets and hashes are, and how large sorted sets find their members.
//!
//! ```text
//!   directory     [ 0 0 1 2 2 2 2 3 ]       by the hash's top bits; grows by doubling, four bytes an entry
//!                   └─┘ │ └─────┘ │
//!   segments      Arc  Arc   Arc  Arc       a segment owns the hashes with one prefix; a full one splits in two
//!   a segment     index [ tag, place | tag, place | – | … ]     open addressing by 16 bits of the hash
//!                 entries [ e e e e e ]                         dense, in no order
//! ```
//!
//! No step moves more than one segment's entries (a few hundred), so a table of ten million grows without a pause; the largest
//! step is the doubling of the directory, a copy of four bytes for every hundred entries or so. A segment is shared with copies and
//! snapshots of the table until one of them changes it.
//!
//! The caller hashes and compares ([`DictKey`] for entries that carry their key, or closures where the key is elsewhere). A scan
//! goes by hash, and its cursor is a position among the hashes: growing and shrinking in between changes nothing about it.
//!
//! A value of one key, used on its shard's core; snapshots may travel. Invariants: an entry is in the segment of its hash's prefix;
//! `len` is the sum of the segments'. Absent on purpose: hashing (seeded, the caller's: see [`hash`]), and iteration while changing.

use std::sync::{Arc, OnceLock};

/// Entries at which a segment splits.
const SEGMENT_MAX: usize = 512;
/// Two halves that together have at most so many entries are joined.
const SEGMENT_JOIN_MAX: usize = 160;
/// Prefixes are at most this long: 2^28 segments.
const DEPTH_MAX: u32 = 28;
/// Bits of the hash that order a scan. A cursor is below 2^48, which every client can hold.
const SCAN_BITS: u32 = 48;

/// The hash of a key, seeded at random once per process: nobody can choose members that collide.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    static SEED: OnceLock<ahash::RandomState> = OnceLock::new();
    SEED.get_or_init(ahash::RandomState::new).hash_one(key)
}

/// An entry that carries its own key.
pub trait DictKey {
    /// The key.
    fn key(&self) -> &[u8];
}

impl DictKey for Box<[u8]> {
    fn key(&self) -> &[u8] {
        self
    }
}

/// One place of a segment's index: empty, or 16 bits of the hash above and the entry's place plus one below.
type Slot = u32;
const EMPTY: Slot = 0;

#[inline]
fn tag_of(hash: u64) -> u32 {
    // The top bits choose the segment, so these are other ones.
    (hash & 0xffff) as u32
}

#[derive(Clone)]
struct Segment<E> {
    /// How many top bits of the hash all entries have in common.
    depth: u32,
    index: Box<[Slot]>,
    entries: Vec<E>,
}

impl<E> Segment<E> {
    fn new(depth: u32) -> Segment<E> {
        Segment { depth, index: vec![EMPTY; 8].into_boxed_slice(), entries: Vec::new() }
    }

    #[inline]
    fn mask(&self) -> usize {
        self.index.len() - 1
    }

    /// The index place of an entry, and its place among the entries.
    #[inline]
    fn find(&self, hash: u64, eq: impl Fn(&E) -> bool) -> Option<(usize, usize)> {
        let tag = tag_of(hash);
        let mut at = tag as usize & self.mask();
        loop {
            let slot = self.index[at];
            if slot == EMPTY {
                return None;
            }
            let place = (slot & 0xffff) as usize - 1;
            if slot >> 16 == tag && eq(&self.entries[place]) {
                return Some((at, place));
            }
            at = (at + 1) & self.mask();
        }
    }

    fn place_in_index(&mut self, tag: u32, place: usize) {
        let mut at = tag as usize & self.mask();
        while self.index[at] != EMPTY {
            at = (at + 1) & self.mask();
        }
        self.index[at] = tag << 16 | (place as u32 + 1);
    }

    fn push(&mut self, hash: u64, entry: E) {
        // Three quarters full at most.
        if (self.entries.len() + 1) * 4 > self.index.len() * 3 {
            self.resize_index(self.index.len() * 2);
        }
        if self.entries.len() == self.entries.capacity() {
            // By an eighth: thousands of segments have their slack at the same time.
            self.entries.reserve_exact((self.entries.len() / 8).max(4));
        }
        self.place_in_index(tag_of(hash), self.entries.len());
        self.entries.push(entry);
    }

    fn resize_index(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.index, vec![EMPTY; slots].into_boxed_slice());
        for slot in old.iter().filter(|slot| **slot != EMPTY) {
            self.place_in_index(slot >> 16, (slot & 0xffff) as usize - 1);
        }
    }

    /// Takes an entry out; the last one moves into its place.
    fn take(&mut self, at: usize, place: usize, hash_of: impl Fn(&E) -> u64) -> E {
        self.empty_slot(at);
        let last = self.entries.len() - 1;
        if place != last {
            // The index must name the last entry by its new place.
            let tag = tag_of(hash_of(&self.entries[last]));
            let (old, new) = (tag << 16 | (last as u32 + 1), tag << 16 | (place as u32 + 1));
            let mut at = tag as usize & self.mask();
            while self.index[at] != old {
                at = (at + 1) & self.mask();
            }
            self.index[at] = new;
        }
        let entry = self.entries.swap_remove(place);
        if self.entries.len() * 8 < self.index.len() * 2 && self.index.len() > 8 {
            self.resize_index(self.index.len() / 2);
        }
        if self.entries.len() * 2 + 8 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 8);
        }
        entry
    }

    /// See [`Dict::retain`]. Hashes nothing: an index place has what it needs.
    fn retain(&mut self, keep: &mut impl FnMut(&mut E) -> bool) {
        // The new place plus one; 0 of an entry that goes.
        let mut places = Vec::with_capacity(self.entries.len());
        let mut kept = 0;
        self.entries.retain_mut(|entry| {
            let stays = keep(entry);
            kept += u32::from(stays);
            places.push(if stays { kept } else { 0 });
            stays
        });
        if self.entries.len() == places.len() {
            return;
        }
        let slots = (self.entries.len() * 4 / 3 + 1).next_power_of_two().max(8);
        let old = std::mem::replace(&mut self.index, vec![EMPTY; slots].into_boxed_slice());
        for slot in old.iter().filter(|slot| **slot != EMPTY) {
            if let Some(place) = places[(slot & 0xffff) as usize - 1].checked_sub(1) {
                self.place_in_index(slot >> 16, place as usize);
            }
        }
        self.entries.shrink_to(self.entries.len() + self.entries.len() / 8);
    }

    /// Empties an index place and moves those behind it forward that it kept from their own.
    fn empty_slot(&mut self, mut at: usize) {
        let mask = self.mask();
        let mut next = (at + 1) & mask;
        loop {
            let slot = self.index[next];
            if slot == EMPTY {
                break;
            }
            let home = (slot >> 16) as usize & mask;
            // Whether `at` lies between its home and where it is, going round.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.index[at] = slot;
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.index[at] = EMPTY;
    }

    fn allocated_bytes(&self) -> usize {
        16 + size_of::<Segment<E>>() + self.index.len() * size_of::<Slot>() + self.entries.capacity() * size_of::<E>()
    }
}

/// See the module.
#[derive(Clone)]
pub struct Dict<E> {
    /// By the hash's top `depth` bits.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Arc<Segment<E>>>,
    len: usize,
}

impl<E> Default for Dict<E> {
    fn default() -> Dict<E> {
        Dict { directory: vec![0], depth: 0, segments: vec![Arc::new(Segment::new(0))], len: 0 }
    }
}

impl<E: Clone> Dict<E> {
    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn slot_of(&self, hash: u64) -> usize {
        // A shift by 64 is none in two steps.
        (hash >> 1 >> (63 - self.depth)) as usize
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        self.directory[self.slot_of(hash)] as usize
    }

    /// The entry with this hash that `eq` accepts.
    #[inline]
    pub fn find(&self, hash: u64, eq: impl Fn(&E) -> bool) -> Option<&E> {
        let segment = &self.segments[self.segment_of(hash)];
        let (_, place) = segment.find(hash, eq)?;
        Some(&segment.entries[place])
    }

    /// As [`Dict::find`], to change what is not its key.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, eq: impl Fn(&E) -> bool) -> Option<&mut E> {
        let number = self.segment_of(hash);
        let (_, place) = self.segments[number].find(hash, eq)?;
        Some(&mut Arc::make_mut(&mut self.segments[number]).entries[place])
    }

    /// Adds an entry that is not there. `hash_of` hashes entries anew when a segment splits.
    pub fn insert_new(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
        let mut number = self.segment_of(hash);
        while self.segments[number].entries.len() >= SEGMENT_MAX && self.segments[number].depth < DEPTH_MAX {
            self.split(number, &hash_of);
            number = self.segment_of(hash);
        }
        Arc::make_mut(&mut self.segments[number]).push(hash, entry);
        self.len += 1;
    }

    /// Removes the entry with this hash that `eq` accepts.
    pub fn remove(&mut self, hash: u64, eq: impl Fn(&E) -> bool, hash_of: impl Fn(&E) -> u64) -> Option<E> {
        let number = self.segment_of(hash);
        let (at, place) = self.segments[number].find(hash, eq)?;
        let segment = Arc::make_mut(&mut self.segments[number]);
        let entry = segment.take(at, place, &hash_of);
        self.len -= 1;
        if segment.depth > 0 && segment.entries.len() < SEGMENT_JOIN_MAX / 2 {
            self.join(number, hash, &hash_of);
        }
        Some(entry)
    }

    /// Takes out all entries that `keep` refuses; it may change those that it keeps, but for their keys. Looks at every entry: for when
    /// a good part of them goes.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut E) -> bool, hash_of: impl Fn(&E) -> u64) {
        for segment in &mut self.segments {
            Arc::make_mut(segment).retain(&mut keep);
        }
        self.len = self.segments.iter().map(|segment| segment.entries.len()).sum();
        if self.len < self.segments.len() * SEGMENT_JOIN_MAX / 4 {
            let thin = std::mem::take(self);
            for entry in thin.iter() {
                self.insert_new(hash_of(entry), entry.clone(), &hash_of);
            }
        }
    }

    /// Divides a segment by the next bit of its entries' hashes.
    fn split(&mut self, number: usize, hash_of: impl Fn(&E) -> u64) {
        let depth = self.segments[number].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|number| [*number, *number]).collect();
            self.depth += 1;
        }
        let old = std::mem::replace(&mut self.segments[number], Arc::new(Segment::new(depth + 1)));
        let entries = Arc::try_unwrap(old).map_or_else(|shared| shared.entries.clone(), |segment| segment.entries);
        let mut halves = [Segment::new(depth + 1), Segment::new(depth + 1)];
        halves.iter_mut().for_each(|half| half.entries.reserve_exact(entries.len() / 2 + entries.len() / 16));
        let mut upper_slot = None;
        for entry in entries {
            let hash = hash_of(&entry);
            let upper = (hash >> (63 - depth) & 1) as usize;
            if upper == 1 && upper_slot.is_none() {
                upper_slot = Some(self.slot_of(hash));
            }
            halves[upper].push(hash, entry);
        }
        let [lower, upper] = halves;
        self.segments[number] = Arc::new(lower);
        let new = self.segments.len() as u32;
        self.segments.push(Arc::new(upper));
        // The directory entries of the old segment are neighbours; the upper half of them gets the new one.
        let any = match upper_slot {
            Some(slot) => slot,
            None => {
                self.directory.iter().position(|n| *n as usize == number).expect("every segment is in the directory")
            }
        };
        let span = 1usize << (self.depth - depth);
        let first = any / span * span;
        self.directory[first + span / 2..first + span].fill(new);
    }

    /// Joins a segment with the other half of its prefix, if that is small as well and as deep.
    fn join(&mut self, number: usize, hash: u64, hash_of: impl Fn(&E) -> u64) {
        let depth = self.segments[number].depth;
        let span = 1usize << (self.depth - depth);
        let first = self.slot_of(hash) / span * span;
        let other_first = first ^ span;
        let other = self.directory[other_first] as usize;
        if self.segments[other].depth != depth
            || self.segments[other].entries.len() + self.segments[number].entries.len() > SEGMENT_JOIN_MAX
        {
            return;
        }
        let moved = std::mem::replace(&mut self.segments[other], Arc::new(Segment::new(depth)));
        let entries = Arc::try_unwrap(moved).map_or_else(|shared| shared.entries.clone(), |segment| segment.entries);
        let segment = Arc::make_mut(&mut self.segments[number]);
        segment.depth -= 1;
        for entry in entries {
            segment.push(hash_of(&entry), entry);
        }
        self.directory[other_first..other_first + span].fill(number as u32);
        // The last segment takes the number that is free now.
        let last = self.segments.len() - 1;
        self.segments.swap_remove(other);
        if other != last {
            let moved = &self.segments[other];
            let span = 1usize << (self.depth - moved.depth);
            match moved.entries.first() {
                Some(entry) => {
                    let first = self.slot_of(hash_of(entry)) / span * span;
                    self.directory[first..first + span].fill(other as u32);
                }
                // Without an entry nobody knows its prefix.
                None => self.directory.iter_mut().filter(|n| **n as usize == last).for_each(|n| *n = other as u32),
            }
        }
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.segments.iter().flat_map(|segment| segment.entries.iter())
    }

    /// An entry at random: each with the same probability. `below(n)` draws from `0..n`.
    pub fn random(&self, mut below: impl FnMut(u64) -> u64) -> Option<&E> {
        if self.is_empty() {
            return None;
        }
        // A segment, then a place up to the fullest that there may be: what falls behind its end is drawn again. Segments are
        // about equally full, so that takes few draws, unless nearly everything was removed.
        let fullest = if self.segments.len() == 1 { self.segments[0].entries.len() } else { SEGMENT_MAX };
        for _ in 0..1000 {
            let segment = &self.segments[below(self.segments.len() as u64) as usize];
            let place = below(fullest as u64) as usize;
            if let Some(entry) = segment.entries.get(place) {
                return Some(entry);
            }
        }
        let mut left = below(self.len as u64) as usize;
        for segment in &self.segments {
            if left < segment.entries.len() {
                return Some(&segment.entries[left]);
            }
            left -= segment.entries.len();
        }
        unreachable!("the length is the sum of the segments' lengths")
    }

    /// One call of a scan: start with cursor 0 and go on with what is returned, until that is 0. Every entry that is there from
    /// start to end is visited, once unless its hash's first 48 bits are those of another. At least `count` entries are visited,
    /// if there are as many.
    pub fn scan(&self, cursor: u64, count: usize, hash_of: impl Fn(&E) -> u64, mut visit: impl FnMut(&E)) -> u64 {
        let mut position = cursor;
        let mut left = count.max(1);
        while position >> SCAN_BITS == 0 {
            let hash = position << (64 - SCAN_BITS);
            let segment = &self.segments[self.segment_of(hash)];
            let mut found: Vec<(u64, &E)> = segment
                .entries
                .iter()
                .map(|entry| (hash_of(entry) >> (64 - SCAN_BITS), entry))
                .filter(|(place, _)| *place >= position)
                .collect();
            if found.len() > left {
                found.sort_unstable_by_key(|(place, _)| *place);
                let last = found[left - 1].0;
                found.iter().take_while(|(place, _)| *place <= last).for_each(|(_, entry)| visit(entry));
                return (last + 1) & ((1 << SCAN_BITS) - 1);
            }
            found.iter().for_each(|(_, entry)| visit(entry));
            left -= found.len();
            // The first position of the next segment.
            let span = 1u64 << (SCAN_BITS - segment.depth);
            position = (position / span + 1) * span;
            if left == 0 {
                break;
            }
        }
        if position >> SCAN_BITS == 0 { position } else { 0 }
    }

    /// Frees about so many entries of a table that nobody will read again; true while there are more.
    pub fn free_some(&mut self, entries_max: usize) -> bool {
        self.directory = Vec::new();
        let mut freed = 0;
        while freed < entries_max {
            let Some(segment) = self.segments.pop() else { return false };
            freed += segment.entries.len().max(1);
        }
        !self.segments.is_empty()
    }

    /// Bytes of the table, without what its entries point to; from a few segments, which stand for the others.
    pub fn allocated_bytes(&self) -> usize {
        let few = self.segments.len().min(8);
        let sum: usize = self.segments[..few].iter().map(|segment| segment.allocated_bytes()).sum();
        self.directory.capacity() * 4
            + self.segments.capacity() * size_of::<usize>()
            + sum * self.segments.len() / few.max(1)
    }

    /// A reader of all entries, with a snapshot of its own: eight bytes a segment.
    pub fn snapshot(&self) -> DictSnapshot<E> {
        DictSnapshot { segments: self.segments.clone(), at: 0 }
    }
}

impl<E: DictKey + Clone> Dict<E> {
    /// The entry of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&E> {
        self.find(hash(key), |entry| entry.key() == key)
    }

    /// As [`Dict::get`], to change what is not its key.
    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut E> {
        self.find_mut(hash(key), |entry| entry.key() == key)
    }

    /// Adds what `make` makes unless the key is there; whether it was added.
    #[inline]
    pub fn add(&mut self, key: &[u8], make: impl FnOnce() -> E) -> bool {
        let hashed = hash(key);
        if self.find(hashed, |entry| entry.key() == key).is_some() {
            return false;
        }
        self.insert_new(hashed, make(), |entry| hash(entry.key()));
        true
    }

    /// Removes the entry of a key.
    pub fn remove_key(&mut self, key: &[u8]) -> Option<E> {
        self.remove(hash(key), |entry| entry.key() == key, |entry| hash(entry.key()))
    }

    /// See [`Dict::scan`].
    pub fn scan_keys(&self, cursor: u64, count: usize, visit: impl FnMut(&E)) -> u64 {
        self.scan(cursor, count, |entry| hash(entry.key()), visit)
    }
}

/// The entries of a table as they were at one moment.
pub struct DictSnapshot<E> {
    segments: Vec<Arc<Segment<E>>>,
    at: usize,
}

impl<E> DictSnapshot<E> {
    /// Shows the next entries until `visit` returns false; whether there are more after that.
    pub fn read_on(&mut self, mut visit: impl FnMut(&E) -> bool) -> bool {
        while let Some(segment) = self.segments.last() {
            while let Some(entry) = segment.entries.get(self.at) {
                self.at += 1;
                if !visit(entry) {
                    let segment_ends = self.at == segment.entries.len();
                    return !segment_ends || self.segments.iter().rev().skip(1).any(|s| !s.entries.is_empty());
                }
            }
            self.segments.pop();
            self.at = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::base::rng::Rng;

    type Set = Dict<Box<[u8]>>;

    fn key(n: u64) -> Vec<u8> {
        format!("member:{n}").into_bytes()
    }

    fn check(dict: &Set, model: &BTreeSet<Vec<u8>>) {
        assert_eq!(dict.len(), model.len());
        let all: BTreeSet<Vec<u8>> = dict.iter().map(|entry| entry.to_vec()).collect();
        assert_eq!(all, *model);
        assert_eq!(dict.directory.len(), 1 << dict.depth);
        for (slot, number) in dict.directory.iter().enumerate() {
            let segment = &dict.segments[*number as usize];
            for entry in &segment.entries {
                let hashed = hash(entry);
                assert_eq!(dict.directory[dict.slot_of(hashed)], *number);
                assert!(segment.find(hashed, |other| other == entry).is_some());
            }
            assert!(segment.depth <= dict.depth);
            let _ = slot;
        }
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_tree() {
        let seed = 4711;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        let (mut dict, mut model) = (Set::default(), BTreeSet::new());
        for (rounds, grow) in [(12_000, 8), (12_000, 2), (9000, 7), (30_000, 1)] {
            for step in 0..rounds {
                let name = key(rng.below(9000));
                if rng.below(10) < grow {
                    assert_eq!(dict.add(&name, || name.clone().into()), model.insert(name));
                } else {
                    assert_eq!(dict.remove_key(&name).is_some(), model.remove(&name));
                }
                if step % 4000 == 0 {
                    check(&dict, &model);
                }
            }
            let copy = dict.clone();
            let kept = model.clone();
            for n in 0..500 {
                dict.remove_key(&key(n));
                model.remove(&key(n));
            }
            check(&copy, &kept);
            check(&dict, &model);
        }
        for name in model.clone() {
            assert!(dict.get(&name).is_some());
            dict.remove_key(&name);
        }
        check(&dict, &BTreeSet::new());
    }

    #[test]
    fn a_scan_visits_all_that_stays_while_the_table_changes() {
        let mut rng = Rng::seed(5);
        let mut dict = Set::default();
        (0..3000).for_each(|n| assert!(dict.add(&key(n), || key(n).into())));
        for change in [0, 1, 2] {
            let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
            let (mut cursor, mut calls) = (0, 0);
            loop {
                let mut page = 0;
                cursor = dict.scan_keys(cursor, 10, |entry| {
                    *seen.entry(entry.to_vec()).or_default() += 1;
                    page += 1;
                });
                assert!(page <= 12, "{page}");
                calls += 1;
                for _ in 0..20 {
                    let n = 3000 + rng.below(40_000);
                    match change {
                        1 => {
                            dict.add(&key(n), || key(n).into());
                        }
                        2 => {
                            dict.remove_key(&key(n));
                        }
                        _ => {}
                    }
                }
                if cursor == 0 {
                    break;
                }
            }
            assert!(calls >= 290);
            (0..3000).for_each(|n| assert_eq!(seen.get(&key(n)), Some(&1), "{n}"));
        }
    }

    #[test]
    fn every_entry_is_as_likely_as_any_other() {
        let mut rng = Rng::seed(6);
        let mut dict = Set::default();
        (0..2000).for_each(|n| assert!(dict.add(&key(n), || key(n).into())));
        let mut drawn: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for _ in 0..200_000 {
            *drawn.entry(dict.random(|n| rng.below(n)).unwrap().to_vec()).or_default() += 1;
        }
        assert_eq!(drawn.len(), 2000);
        let (low, high) = (drawn.values().min().unwrap(), drawn.values().max().unwrap());
        assert!(*low > 50 && *high < 160, "{low} to {high} of 100");
    }

    #[test]
    fn what_is_retained_is_found_and_the_rest_is_not() {
        for one_of in [1, 2, 3, 50, 4000, 100_000] {
            let mut dict = Set::default();
            for n in 0..40_000u64 {
                dict.add(&key(n), || key(n).into());
            }
            let copy = dict.clone();
            let stays = |n: u64| n % one_of == 1 % one_of;
            let kept: std::collections::HashSet<Vec<u8>> = (0..40_000).filter(|n| stays(*n)).map(key).collect();
            dict.retain(|entry| kept.contains(&entry[..]), |entry| hash(entry));
            assert_eq!(dict.len(), kept.len());
            assert!(dict.segments.len() <= 1 + dict.len() * 4 / SEGMENT_JOIN_MAX, "thin segments are joined");
            for n in 0..40_000 {
                assert_eq!(dict.get(&key(n)).is_some(), stays(n));
                assert!(copy.get(&key(n)).is_some(), "a copy keeps its entries");
                assert_eq!(dict.add(&key(n), || key(n).into()), !stays(n));
            }
            assert_eq!(dict.len(), 40_000);
        }
    }

    #[test]
    fn no_insertion_moves_more_than_a_segment() {
        let mut dict = Set::default();
        let mut most = 0;
        for n in 0..300_000u64 {
            let before = dict.segments.len();
            dict.add(&key(n), || key(n).into());
            most = most.max(dict.segments.len() - before);
        }
        assert_eq!(most, 1, "segments that were made by one insertion");
        assert!(dict.segments.iter().all(|segment| segment.entries.len() <= SEGMENT_MAX));
        assert!(dict.directory.len() <= 8 * dict.segments.len());
        let mut snapshot = dict.snapshot();
        let mut read = 0;
        while snapshot.read_on(|_| {
            read += 1;
            read % 1000 != 0
        }) {}
        assert_eq!(read, 300_000);
        let mut slices = 1;
        while dict.free_some(10_000) {
            slices += 1;
        }
        assert!((28..=31).contains(&slices), "{slices}");
    }
}
