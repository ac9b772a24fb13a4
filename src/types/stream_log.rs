//! The entries of a stream, in order: packed blocks, found through a tree by the name of their first entry.
//!
//! ```text
//!   5-0   ─> [ live dead | n name … name 0 | entry … entry ]      one listpack, a few KiB
//!   9-3   ─> [ … ]
//!
//!   entry  =  [ flags  ms  seq  value …                 count ]   names as in the block's head
//!             [ flags  ms  seq  n  name value … …       count ]   names of its own
//! ```
//!
//! `ms` and `seq` are distances from the name of the block, which is that of the first entry that was put into it; the names of the
//! head are that entry's. `count` is that of the items in front of it, the way back to the entry's start. The layout is that of a
//! Redis stream node, item for item: RDB files and DUMP payloads carry it as it is, and nodes are full when Redis's are, so that
//! trimming by whole blocks (`~`) leaves what it leaves there.
//!
//! A removed entry is marked, and goes with its block when nothing else lives in that. A block is shared by copies and snapshots
//! until one of them changes it: reading out a long range holds on to the blocks, eight bytes each, not to the stream.
//!
//! Counters and borders beside the blocks (`last_id` and so on) are what Redis keeps and reports; the lag of a group is computed
//! from them as Redis does, with the same blind spots.
//!
//! A value of one key, used on its shard's core; snapshots may travel. Invariants: in each block at least one entry lives; entries
//! ascend over all blocks; `len` is the sum of the living; `first_id` names the first of them, or is zero. Absent on purpose:
//! groups, and the clock.

use std::collections::btree_map::{BTreeMap, Range};
use std::sync::Arc;

use super::listpack::{Item, Iter, Listpack, Pos};
use super::stream_id::StreamId;

/// When a block is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamLimits {
    /// `stream-node-max-bytes`; 0 for no limit.
    pub node_bytes: u64,
    /// `stream-node-max-entries`; 0 for no limit.
    pub node_entries: i64,
}

/// A block never grows beyond this, and neither does an entry.
pub const BLOCK_BYTES_MAX: usize = 1 << 30;

/// The entry is marked as removed.
const DEAD: i64 = 1;
/// The entry has the names of its block's head.
const SAME_NAMES: i64 = 2;

#[derive(Clone)]
struct Block {
    /// Entries that live, as the head says.
    live: u32,
    pack: Arc<Listpack>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Log {
    blocks: BTreeMap<StreamId, Block>,
    len: u64,
    last_id: StreamId,
    first_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
}

/// One entry.
#[derive(Clone)]
pub struct Entry<'a> {
    /// Its name.
    pub id: StreamId,
    /// Number of its fields.
    len: usize,
    /// The names, if they are those of the head.
    names: Option<Iter<'a>>,
    values: Iter<'a>,
}

impl<'a> Entry<'a> {
    /// Number of its fields.
    pub fn fields_len(&self) -> usize {
        self.len
    }

    /// Its fields: name and value.
    pub fn fields(&self) -> Fields<'a> {
        Fields { names: self.names.clone(), values: self.values.clone(), left: self.len }
    }
}

/// Names and values of an entry.
pub struct Fields<'a> {
    names: Option<Iter<'a>>,
    values: Iter<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next(),
            None => self.values.next(),
        };
        Some((name?, self.values.next()?))
    }
}

/// An integer of the layout. That it is one was checked when the block came in.
fn int(item: Option<Item<'_>>) -> i64 {
    item.and_then(|item| item.as_i64()).expect("a block holds what it was checked to hold")
}

/// The head of a block.
struct Head<'a> {
    names_len: usize,
    names: Iter<'a>,
    /// The first entry.
    entries: Iter<'a>,
}

fn head(pack: &Listpack) -> Head<'_> {
    let mut items = pack.iter();
    // The two counts.
    items.next();
    items.next();
    let names_len = int(items.next()) as usize;
    let names = items.clone();
    // The names and the zero behind them.
    for _ in 0..=names_len {
        items.next();
    }
    Head { names_len, names, entries: items }
}

/// The entry that begins here, whether it is dead; the iterator then stands at the next.
fn read_entry<'a>(first: StreamId, head: &Head<'a>, items: &mut Iter<'a>) -> Option<(Entry<'a>, bool)> {
    let flags = items.next()?.as_i64().expect("an entry begins with its flags");
    let (ms, seq) = (int(items.next()), int(items.next()));
    let same = flags & SAME_NAMES != 0;
    let len = if same { head.names_len } else { int(items.next()) as usize };
    let values = items.clone();
    let skipped = if same { len } else { 2 * len };
    // The values, and the count behind them.
    for _ in 0..=skipped {
        items.next();
    }
    let names = same.then(|| head.names.clone());
    Some((Entry { id: first.at_distance(ms, seq), len, names, values }, flags & DEAD != 0))
}

/// The start of the entry in front of `at`, which is another's start or the end; none at the head.
fn entry_before(pack: &Listpack, at: Option<Pos>) -> Option<Pos> {
    let mut at = match at {
        Some(at) => pack.prev(at)?,
        None => pack.last()?,
    };
    let count = int(Some(pack.get(at)));
    for _ in 0..count {
        at = pack.prev(at)?;
    }
    (count > 0).then_some(at)
}

/// The name of the last entry of a block, dead or alive.
fn last_of(first: StreamId, pack: &Listpack) -> StreamId {
    let head = head(pack);
    let mut items = pack.iter_from(entry_before(pack, None));
    read_entry(first, &head, &mut items).map_or(first, |(entry, _)| entry.id)
}

/// The living entries of one block between two names, towards the end or the front, until `visit` returns false; false then.
fn walk_block<'a>(
    first: StreamId,
    pack: &'a Listpack,
    (from, to): (StreamId, StreamId),
    backwards: bool,
    visit: &mut impl FnMut(Entry<'a>) -> bool,
) -> bool {
    let head = head(pack);
    if backwards {
        let mut at = None;
        while let Some(start) = entry_before(pack, at) {
            let mut items = pack.iter_from(Some(start));
            let Some((entry, dead)) = read_entry(first, &head, &mut items) else { break };
            if entry.id < from {
                break;
            }
            if !dead && entry.id <= to && !visit(entry) {
                return false;
            }
            at = Some(start);
        }
        return true;
    }
    let mut items = head.entries.clone();
    while let Some((entry, dead)) = read_entry(first, &head, &mut items) {
        if entry.id > to {
            break;
        }
        if !dead && entry.id >= from && !visit(entry) {
            return false;
        }
    }
    true
}

/// What trimming is to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// So many of the newest entries.
    Newest(u64),
    /// Entries from this name on.
    From(StreamId),
}

/// How exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exactness {
    /// To the entry.
    Exact,
    /// Whole blocks only, and no more than so many entries if that is not zero.
    Blocks {
        /// See above.
        entries_max: u64,
    },
}

impl Log {
    /// Number of entries.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The greatest name that was ever given; new ones are greater.
    #[inline]
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The name of the first entry; zero if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The greatest name that was removed by XDEL.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// How many entries were ever added.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// Number of blocks.
    pub fn blocks_len(&self) -> usize {
        self.blocks.len()
    }

    /// The blocks in the form in which RDB files hold them: the name of a block, and its listpack.
    pub fn blocks(&self) -> impl Iterator<Item = (StreamId, &Listpack)> {
        self.blocks.iter().map(|(first, block)| (*first, &*block.pack))
    }

    /// Appends an entry, whose name must be greater than the last. `fields` are names and values in turn, of `bytes` bytes together,
    /// at most [`BLOCK_BYTES_MAX`].
    #[inline]
    pub fn append<'f, I>(&mut self, id: StreamId, fields: I, bytes: usize, limits: StreamLimits)
    where
        I: ExactSizeIterator<Item = &'f [u8]> + Clone,
    {
        assert!(id > self.last_id && bytes <= BLOCK_BYTES_MAX, "the caller has looked at the name and the size");
        let appended = match self.blocks.last_entry() {
            None => false,
            Some(mut last) => {
                let first = *last.key();
                append_to(last.get_mut(), first, id, fields.clone(), bytes, limits)
            }
        };
        if !appended {
            self.blocks.insert(id, new_block(fields, bytes));
        }
        self.len += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    /// Shows the entries between two names, both included, towards the end or the front, until `visit` returns false.
    pub fn walk<'a>(&'a self, from: StreamId, to: StreamId, backwards: bool, mut visit: impl FnMut(Entry<'a>) -> bool) {
        if from > to {
            return;
        }
        let mut step =
            |(first, block): (&StreamId, &'a Block)| walk_block(*first, &block.pack, (from, to), backwards, &mut visit);
        let blocks = self.blocks_over(from, to);
        // What is asked to go on while it returns true ends at the first false.
        let _ = if backwards { blocks.rev().all(&mut step) } else { blocks.into_iter().all(&mut step) };
    }

    /// The blocks that may hold entries between two names, of which the first is not the greater one.
    fn blocks_over(&self, from: StreamId, to: StreamId) -> Range<'_, StreamId, Block> {
        let start = self.blocks.range(..=from).next_back().map_or(from, |(first, _)| *first);
        self.blocks.range(start..=to.max(start))
    }

    /// The entry of this name.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        let mut found = None;
        self.walk(id, id, false, |entry| {
            found = Some(entry);
            false
        });
        found
    }

    /// Whether there is an entry of this name.
    pub fn contains(&self, id: StreamId) -> bool {
        self.get(id).is_some()
    }

    /// The name of the last entry, which may be in front of [`Log::last_id`]; zero if there is none.
    #[inline]
    pub fn last_entry_id(&self) -> StreamId {
        let mut last = StreamId::MIN;
        self.walk(StreamId::MIN, StreamId::MAX, true, |entry| {
            last = entry.id;
            false
        });
        last
    }

    /// How many entries lie between two names, but no more than `max`. Whole blocks are not looked into.
    pub fn count(&self, from: StreamId, to: StreamId, max: u64) -> u64 {
        if from > to {
            return 0;
        }
        if from <= self.first_id && to >= self.last_id {
            return self.len.min(max);
        }
        let mut count = 0;
        let mut blocks = self.blocks_over(from, to).peekable();
        let mut is_first = true;
        while let Some((first, block)) = blocks.next()
            && count < max
        {
            if is_first || blocks.peek().is_none() {
                let mut left = max - count;
                walk_block(*first, &block.pack, (from, to), false, &mut |_| {
                    count += 1;
                    left -= 1;
                    left > 0
                });
            } else {
                count += u64::from(block.live);
            }
            is_first = false;
        }
        count.min(max)
    }

    /// Entries between two names as they are now, to be read later: at most `count` of them.
    pub fn snapshot(&self, from: StreamId, to: StreamId, backwards: bool, count: u64) -> LogSnapshot {
        let mut held = 0;
        let mut blocks = Vec::new();
        let mut hold = |(first, block): (&StreamId, &Block)| {
            blocks.push((*first, Arc::clone(&block.pack)));
            // The first block may give less than what lives in it.
            held += if held == 0 { 1 } else { u64::from(block.live) };
            held <= count
        };
        if from <= to {
            let over = self.blocks_over(from, to);
            let _ = if backwards { over.rev().all(&mut hold) } else { over.into_iter().all(&mut hold) };
        }
        blocks.reverse();
        LogSnapshot { blocks, from, to, backwards, left: count }
    }

    /// Removes an entry; false if there is none of this name.
    pub fn remove(&mut self, id: StreamId) -> bool {
        if !self.remove_from_block(id) {
            return false;
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    fn remove_from_block(&mut self, id: StreamId) -> bool {
        let Some((&first, block)) = self.blocks.range_mut(..=id).next_back() else { return false };
        let Some(at) = position(first, &block.pack, id) else { return false };
        if block.live == 1 {
            self.blocks.remove(&first);
            return true;
        }
        block.live -= 1;
        let live = i64::from(block.live);
        let pack = Arc::make_mut(&mut block.pack);
        kill(pack, at);
        set_head(pack, live, 1);
        true
    }

    pub(super) fn find_first(&mut self) {
        let mut first = StreamId::MIN;
        self.walk(StreamId::MIN, StreamId::MAX, false, |entry| {
            first = entry.id;
            false
        });
        self.first_id = first;
    }

    /// Removes entries from the front; how many. Such removals are not noted in [`Log::max_deleted_id`], as in Redis.
    pub fn trim(&mut self, keep: Keep, exactness: Exactness) -> u64 {
        let mut removed = 0;
        while let Some(oldest) = self.blocks.first_entry() {
            if let Keep::Newest(count) = keep
                && self.len <= count
            {
                break;
            }
            let (first, live) = (*oldest.key(), u64::from(oldest.get().live));
            if let Exactness::Blocks { entries_max: max @ 1.. } = exactness
                && removed + live > max
            {
                break;
            }
            let whole = match keep {
                Keep::Newest(count) => self.len - live >= count,
                Keep::From(id) => first < id && last_of(first, &oldest.get().pack) < id,
            };
            if whole {
                oldest.remove();
                self.len -= live;
                removed += live;
                continue;
            }
            if exactness == Exactness::Exact {
                removed += self.trim_oldest_block(keep);
            }
            break;
        }
        if removed > 0 {
            self.find_first();
        }
        removed
    }

    /// Removes entries from the front of the first block, in which some will stay.
    fn trim_oldest_block(&mut self, keep: Keep) -> u64 {
        let Some(mut oldest) = self.blocks.first_entry() else { return 0 };
        let first = *oldest.key();
        let block = oldest.get_mut();
        let mut to_remove = match keep {
            Keep::Newest(count) => self.len - count,
            Keep::From(_) => u64::MAX,
        };
        let mut places = Vec::new();
        let head = head(&block.pack);
        let mut items = head.entries.clone();
        loop {
            let at = items.position();
            let Some((entry, dead)) = read_entry(first, &head, &mut items) else { break };
            if to_remove == 0 || matches!(keep, Keep::From(id) if entry.id >= id) {
                break;
            }
            if !dead {
                places.extend(at);
                to_remove -= 1;
            }
        }
        if places.is_empty() {
            return 0;
        }
        block.live -= places.len() as u32;
        let live = i64::from(block.live);
        self.len -= places.len() as u64;
        if live == 0 {
            // What is behind the living is dead.
            oldest.remove();
            return places.len() as u64;
        }
        let pack = Arc::make_mut(&mut block.pack);
        // Flags are one byte whatever they say, so that places stay what they are.
        places.iter().for_each(|at| kill(pack, *at));
        set_head(pack, live, places.len() as i64);
        places.len() as u64
    }

    /// XSETID: the name and the counters are what they are said to be. The caller has held them against the entries.
    pub fn set_id(&mut self, last_id: StreamId, entries_added: Option<u64>, max_deleted_id: Option<StreamId>) {
        self.last_id = last_id;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted_id.unwrap_or(self.max_deleted_id);
    }

    /// Whether entries were removed by XDEL from this name on, as far as can be told. What was removed in front of the first entry
    /// that is left does not count.
    pub(super) fn has_gaps_from(&self, id: StreamId) -> bool {
        let gap = self.max_deleted_id;
        self.len > 0 && gap != StreamId::MIN && gap >= self.first_id && id <= gap
    }

    /// How many entries were ever added up to and with this name; none if that cannot be told.
    pub(super) fn ordinal(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.entries_added);
        }
        if self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id {
            let before = self.entries_added.wrapping_sub(self.len);
            if id < self.first_id {
                return Some(before);
            }
            if id == self.first_id {
                return Some(before.wrapping_add(1));
            }
        }
        None
    }

    /// Bytes allocated, estimated from the first and the last block.
    pub(super) fn allocated_bytes(&self) -> usize {
        let ends = [self.blocks.first_key_value(), self.blocks.last_key_value()];
        let sum: usize = ends.iter().flatten().map(|(_, block)| block.pack.allocated_bytes()).sum();
        // Beside its bytes a block has its header, two counts, and a place in a tree whose nodes are half full or more.
        let beside = 16 + size_of::<Listpack>() + (size_of::<StreamId>() + size_of::<Block>()) * 3 / 2;
        self.blocks.len() * (sum / 2 + beside)
    }

    /// Frees about so many entries of a log that nobody will read again; how many.
    pub(super) fn free_some(&mut self, entries_max: usize) -> usize {
        let mut freed = 0;
        while freed < entries_max
            && let Some((_, block)) = self.blocks.pop_last()
        {
            freed += block.live as usize;
        }
        self.len = if self.blocks.is_empty() { 0 } else { self.len.saturating_sub(freed as u64) };
        freed
    }

    /// A log from what an RDB file says of it, to which blocks are then added.
    pub(super) fn from_counters(last_id: StreamId, max_deleted_id: StreamId, entries_added: u64) -> Log {
        Log { last_id, max_deleted_id, entries_added, ..Log::default() }
    }

    /// Adds a block behind the others, after a look at everything in it; false if it is not a valid one or not behind the others.
    pub(super) fn push_block(&mut self, first: StreamId, pack: Listpack) -> bool {
        let floor = self.blocks.last_key_value().map(|(first, block)| last_of(*first, &block.pack));
        let Some((live, last)) = checked(first, &pack, floor) else { return false };
        if last > self.last_id {
            return false;
        }
        self.len += u64::from(live);
        // Redis keeps a block of which nothing lives, if it was emptied by trimming in front of a dead entry.
        if live == 0 {
            return true;
        }
        self.blocks.insert(first, Block { live, pack: Arc::new(pack) });
        true
    }

    /// Whether the counters fit the blocks; `first_id` is made to.
    pub(super) fn finish(&mut self) -> bool {
        self.find_first();
        self.entries_added >= self.len
    }
}

fn new_block<'f, I: ExactSizeIterator<Item = &'f [u8]> + Clone>(fields: I, bytes: usize) -> Block {
    let names = fields.len() / 2;
    let mut pack = Listpack::new();
    pack.extend_with(bytes + 12 * (names + 1), |to| {
        to.int(1);
        to.int(0);
        to.int(names as i64);
        fields.clone().step_by(2).for_each(|name| to.text(name));
        to.int(0);
        to.int(SAME_NAMES);
        to.int(0);
        to.int(0);
        fields.skip(1).step_by(2).for_each(|value| to.text(value));
        to.int(names as i64 + 3);
    });
    Block { live: 1, pack: Arc::new(pack) }
}

/// Appends an entry to a block; false if the block is full.
fn append_to<'f, I: ExactSizeIterator<Item = &'f [u8]> + Clone>(
    block: &mut Block,
    first: StreamId,
    id: StreamId,
    fields: I,
    bytes: usize,
    limits: StreamLimits,
) -> bool {
    let bytes_max = usize::try_from(limits.node_bytes).unwrap_or(usize::MAX);
    let bytes_max = if bytes_max == 0 { BLOCK_BYTES_MAX } else { bytes_max.min(BLOCK_BYTES_MAX) };
    let full_of_bytes = block.pack.bytes_len() + bytes >= bytes_max;
    let mut items = block.pack.iter();
    let live = int(items.next());
    let dead = int(items.next());
    if full_of_bytes || (limits.node_entries > 0 && live + dead >= limits.node_entries) {
        // Nothing will be added to it any more.
        if let Some(pack) = Arc::get_mut(&mut block.pack) {
            pack.shrink_to_fit();
        }
        return false;
    }
    let names = fields.len() / 2;
    let same = int(items.next()) as usize == names
        && fields.clone().step_by(2).all(|name| items.next().is_some_and(|item| item.eq_bytes(name)));
    let (ms, seq) = id.distance_from(first);
    let pack = Arc::make_mut(&mut block.pack);
    pack.extend_with(bytes + 12 * (names + 1), |to| {
        to.int(if same { SAME_NAMES } else { 0 });
        to.int(ms);
        to.int(seq);
        if same {
            fields.skip(1).step_by(2).for_each(|value| to.text(value));
            to.int(names as i64 + 3);
        } else {
            to.int(names as i64);
            fields.for_each(|text| to.text(text));
            to.int(2 * names as i64 + 4);
        }
    });
    block.live += 1;
    let at = pack.first().expect("a block has a head");
    pack.replace_int(at, live + 1);
    true
}

/// Marks the entry at a place as dead.
fn kill(pack: &mut Listpack, at: Pos) {
    let flags = int(Some(pack.get(at)));
    pack.replace_int(at, flags | DEAD);
}

/// Writes the number of the living, and adds to that of the dead.
fn set_head(pack: &mut Listpack, live: i64, died: i64) {
    let at = pack.first().expect("a block has a head");
    pack.replace_int(at, live);
    let at = pack.next(at).expect("a head has two counts");
    let dead = int(Some(pack.get(at)));
    pack.replace_int(at, dead + died);
}

/// Where in a block the living entry of this name begins.
fn position(first: StreamId, pack: &Listpack, id: StreamId) -> Option<Pos> {
    let head = head(pack);
    let mut items = head.entries.clone();
    loop {
        let at = items.position();
        let (entry, dead) = read_entry(first, &head, &mut items)?;
        if entry.id >= id {
            return at.filter(|_| entry.id == id && !dead);
        }
    }
}

/// How many entries live in a block that came from outside and the name of its last, if it is a valid block whose entries lie
/// behind `floor`.
fn checked(first: StreamId, pack: &Listpack, floor: Option<StreamId>) -> Option<(u32, StreamId)> {
    let mut items = pack.iter();
    let next = |items: &mut Iter<'_>| items.next()?.as_i64();
    let (live, dead) = (next(&mut items)?, next(&mut items)?);
    let names = usize::try_from(next(&mut items)?).ok()?;
    for _ in 0..names {
        items.next()?;
    }
    if next(&mut items)? != 0 {
        return None;
    }
    let (mut found_live, mut found_dead, mut last) = (0i64, 0i64, floor);
    while items.position().is_some() {
        let flags = next(&mut items)?;
        let id = first.at_distance(next(&mut items)?, next(&mut items)?);
        if id < first || last.is_some_and(|last| id <= last) {
            return None;
        }
        last = Some(id);
        let mut count = 3i64;
        let values = if flags & SAME_NAMES != 0 {
            names
        } else {
            count += 1;
            usize::try_from(next(&mut items)?).ok()?.checked_mul(2)?
        };
        for _ in 0..values {
            items.next()?;
        }
        if next(&mut items)? != count.checked_add(i64::try_from(values).ok()?)? {
            return None;
        }
        if flags & DEAD != 0 {
            found_dead += 1;
        } else {
            found_live += 1;
        }
    }
    let said = found_live == live && found_dead == dead;
    Some((u32::try_from(live).ok()?, last?)).filter(|_| said)
}

/// See [`Log::snapshot`].
pub struct LogSnapshot {
    /// Those that are still to be read, the next one last.
    blocks: Vec<(StreamId, Arc<Listpack>)>,
    from: StreamId,
    to: StreamId,
    backwards: bool,
    left: u64,
}

impl LogSnapshot {
    /// Shows the next entries until `visit` returns false; whether there are more after that.
    pub fn read_on(&mut self, mut visit: impl FnMut(Entry<'_>) -> bool) -> bool {
        while self.left > 0
            && let Some((first, pack)) = self.blocks.last()
        {
            let mut last_seen = None;
            let ended = walk_block(*first, pack, (self.from, self.to), self.backwards, &mut |entry| {
                last_seen = Some(entry.id);
                self.left -= 1;
                visit(entry) && self.left > 0
            });
            if !ended {
                match last_seen {
                    Some(id) if self.backwards => self.to = id.prev().unwrap_or(StreamId::MIN),
                    Some(id) => self.from = id.next().unwrap_or(StreamId::MAX),
                    None => {}
                }
                return self.left > 0;
            }
            self.blocks.pop();
        }
        false
    }
}
