//! Byte strings packed one behind the other in one allocation: what small lists, sets, hashes and sorted sets, and the nodes of
//! large lists and streams, are made of.
//!
//! ```text
//!   [ bytes: u32 | count: u16 | entry … entry | 0xff ]
//!   entry = [ encoding and length | data | the length of both, to walk backwards ]
//! ```
//!
//! The layout is Redis's listpack (its `listpack.md`), byte for byte, so that a DUMP payload may copy it. The canonical text of an
//! integer is stored as an integer in 1 to 9 bytes; a text of up to 63 bytes has one byte of header.
//!
//! A value, used on its shard's core alone. Invariants: what is in `bytes` is a valid listpack at all times; every [`Pos`] names the
//! first byte of an entry and is good until the next change. Absent on purpose: limits (the types know theirs).

use crate::base::num::{self, Digits};

/// Bytes in front of the first entry.
const HEADER: usize = 6;
/// The byte behind the last entry.
const END: u8 = 0xff;
/// A count that does not fit: the entries have to be counted.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// The longest text that can be that of an integer.
const INT_TEXT_MAX: usize = num::DIGITS_MAX;

/// The longest text whose length its first byte tells.
const SHORT_TEXT_MAX: usize = 63;
/// The size of an entry with everything, by its first byte; 0 if that does not tell: it is a longer text.
const SIZES: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut first = 0;
    while first < sizes.len() {
        let body = match first {
            0..=0x7f => 1,
            0x80..=0xbf => 1 + (first & 0x3f),
            0xc0..=0xdf => 2,
            0xf1 => 3,
            0xf2 => 4,
            0xf3 => 5,
            0xf4 => 9,
            _ => 0,
        };
        sizes[first] = if body > 0 { body as u8 + 1 } else { 0 };
        first += 1;
    }
    sizes
};

/// Where an entry begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pos(usize);

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// The decimal text of this number.
    Int(i64),
    /// A text that is no canonical integer.
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    /// A text as an entry would hold it.
    #[inline]
    pub fn of(text: &'a [u8]) -> Item<'a> {
        if text.len() <= INT_TEXT_MAX
            && let Some(number) = num::parse_i64(text)
        {
            return Item::Int(number);
        }
        Item::Bytes(text)
    }

    /// Whether this is the entry for that text.
    #[inline]
    pub fn eq_bytes(&self, text: &[u8]) -> bool {
        match *self {
            Item::Bytes(bytes) => bytes == text,
            Item::Int(number) => text.len() <= INT_TEXT_MAX && num::parse_i64(text) == Some(number),
        }
    }

    /// The text, without allocating.
    #[inline]
    pub fn text(&self) -> ItemText<'a> {
        match *self {
            Item::Bytes(bytes) => ItemText::Borrowed(bytes),
            Item::Int(number) => ItemText::Digits(num::format_i64(number)),
        }
    }

    /// The text, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text().to_vec()
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        match *self {
            Item::Bytes(bytes) => bytes.len(),
            Item::Int(number) => num::i64_len(number),
        }
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number, if the text is the canonical text of one.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Item::Int(number) => Some(number),
            Item::Bytes(_) => None,
        }
    }
}

/// The text of an entry. Dereferences to it.
#[derive(Clone, Copy, Debug)]
pub enum ItemText<'a> {
    /// It lies in the listpack.
    Borrowed(&'a [u8]),
    /// It was printed for this reader.
    Digits(Digits),
}

impl std::ops::Deref for ItemText<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            ItemText::Borrowed(bytes) => bytes,
            ItemText::Digits(digits) => digits.as_bytes(),
        }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listpack {
    bytes: Vec<u8>,
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl Listpack {
    /// An empty one.
    pub fn new() -> Listpack {
        Listpack { bytes: vec![HEADER as u8 + 1, 0, 0, 0, 0, 0, END] }
    }

    /// A copy of these bytes, if they are a valid listpack to the last of them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Listpack> {
        Listpack::entries_of(bytes).map(|_| Listpack { bytes: bytes.to_vec() })
    }

    /// The entries in these bytes, if they are a valid listpack to the last of them.
    pub fn entries_of(bytes: &[u8]) -> Option<Iter<'_>> {
        let total = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        if total != bytes.len() || total < HEADER + 1 || bytes[total - 1] != END {
            return None;
        }
        let mut at = HEADER;
        let mut count = 0usize;
        while at < total - 1 {
            at = checked_end(bytes, at)?;
            count += 1;
        }
        let said = u16::from_le_bytes([bytes[4], bytes[5]]);
        let known = said != COUNT_UNKNOWN;
        (at == total - 1 && (!known || usize::from(said) == count)).then_some(Iter { bytes, at: HEADER })
    }

    /// The bytes of the format.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the format, as the limits of lists and streams count them.
    #[inline]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Number of entries. Constant time below 65,535 of them.
    #[inline]
    pub fn len(&self) -> usize {
        match u16::from_le_bytes([self.bytes[4], self.bytes[5]]) {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER + 1
    }

    /// The first entry.
    #[inline]
    pub fn first(&self) -> Option<Pos> {
        (!self.is_empty()).then_some(Pos(HEADER))
    }

    /// The last entry.
    pub fn last(&self) -> Option<Pos> {
        self.before(self.bytes.len() - 1)
    }

    /// The entry behind this one.
    #[inline]
    pub fn next(&self, at: Pos) -> Option<Pos> {
        let next = self.end_of(at.0);
        (self.bytes[next] != END).then_some(Pos(next))
    }

    /// The entry in front of this one.
    pub fn prev(&self, at: Pos) -> Option<Pos> {
        self.before(at.0)
    }

    /// The entry that ends at `end`.
    fn before(&self, end: usize) -> Option<Pos> {
        if end == HEADER {
            return None;
        }
        // The length is stored in groups of 7 bits, the last byte first; all but the first-written have the top bit set.
        let (mut size, mut shift, mut at) = (0usize, 0, end - 1);
        loop {
            let byte = self.bytes[at];
            size |= usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                break;
            }
            shift += 7;
            at -= 1;
        }
        Some(Pos(at - size))
    }

    /// The entry at a position.
    #[inline]
    pub fn get(&self, at: Pos) -> Item<'_> {
        item(&self.bytes, at.0)
    }

    /// Entry number `index`, from the end if it is negative (-1 is the last).
    pub fn seek(&self, index: i64) -> Option<Pos> {
        let len = self.len() as i64;
        let from_front = if index < 0 { len.checked_add(index)? } else { index };
        if !(0..len).contains(&from_front) {
            return None;
        }
        if from_front <= len / 2 {
            let mut at = self.first()?;
            for _ in 0..from_front {
                at = self.next(at)?;
            }
            Some(at)
        } else {
            let mut at = self.last()?;
            for _ in 0..len - 1 - from_front {
                at = self.prev(at)?;
            }
            Some(at)
        }
    }

    /// Appends an entry.
    #[inline]
    pub fn push_back(&mut self, text: &[u8]) {
        self.put(self.bytes.len() - 1, 0, Some(Item::of(text)));
        self.count_change(1);
    }

    /// Appends what `write` writes, about `bytes_about` bytes, and adds up counts and sizes once. Room grows by half, since whoever
    /// appends like this will do so again; see [`Listpack::shrink_to_fit`].
    #[inline]
    pub fn extend_with(&mut self, bytes_about: usize, write: impl FnOnce(&mut Writer<'_>)) {
        let len = self.bytes.len();
        if len + bytes_about > self.bytes.capacity() {
            self.bytes.reserve_exact(size_class((len + bytes_about).max(len + len / 2)) - len);
        }
        self.bytes.pop();
        let mut writer = Writer { bytes: &mut self.bytes, count: 0 };
        write(&mut writer);
        let count = writer.count;
        self.bytes.push(END);
        self.note_total();
        self.count_change(count);
    }

    /// Gives back room that is not used.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Replaces an entry by an integer.
    #[inline]
    pub fn replace_int(&mut self, at: Pos, number: i64) {
        self.put(at.0, self.end_of(at.0) - at.0, Some(Item::Int(number)));
    }

    /// Inserts an entry in front of all.
    pub fn push_front(&mut self, text: &[u8]) {
        self.insert_before(Pos(HEADER), text);
    }

    /// Inserts an entry in front of another, which is found behind it afterwards.
    pub fn insert_before(&mut self, at: Pos, text: &[u8]) {
        self.put(at.0, 0, Some(Item::of(text)));
        self.count_change(1);
    }

    /// Inserts an entry behind another and returns its place.
    pub fn insert_after(&mut self, at: Pos, text: &[u8]) -> Pos {
        let place = self.end_of(at.0);
        self.put(place, 0, Some(Item::of(text)));
        self.count_change(1);
        Pos(place)
    }

    /// Replaces an entry.
    pub fn replace(&mut self, at: Pos, text: &[u8]) {
        self.put(at.0, self.end_of(at.0) - at.0, Some(Item::of(text)));
    }

    /// Removes an entry; the one behind it is where it was, if there is one.
    pub fn remove(&mut self, at: Pos) -> Option<Pos> {
        self.remove_range(at, 1)
    }

    /// Removes so many entries from this one on, as far as there are; returns what is behind them.
    pub fn remove_range(&mut self, at: Pos, count: usize) -> Option<Pos> {
        let (mut end, mut removed) = (at.0, 0);
        while removed < count && self.bytes[end] != END {
            end = self.end_of(end);
            removed += 1;
        }
        self.put(at.0, end - at.0, None);
        self.count_change(-(removed as i64));
        (self.bytes[at.0] != END).then_some(at)
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        *self = Listpack::new();
    }

    /// All entries from the front.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(self.first())
    }

    /// The entries from this one on.
    pub fn iter_from(&self, at: Option<Pos>) -> Iter<'_> {
        Iter { bytes: &self.bytes, at: at.map_or(self.bytes.len() - 1, |at| at.0) }
    }

    /// The first entry for `text` from `at` on, looking at every `skip + 1`th only.
    #[inline]
    pub fn find(&self, text: &[u8], at: Pos, skip: usize) -> Option<Pos> {
        let wanted = Item::of(text);
        let bytes = &self.bytes[..];
        let mut at = at.0;
        // The first byte of the entry if it is a short text; of an integer's there is none.
        let (head, last) = match wanted {
            Item::Bytes(text) if text.len() <= SHORT_TEXT_MAX => (0x80 | text.len() as u8, text.last().copied()),
            Item::Bytes(_) | Item::Int(_) => (END, None),
        };
        loop {
            let first = bytes[at];
            // Texts that many entries begin with differ in their last bytes.
            let is_it = if first == head && head != END {
                last.is_none_or(|last| bytes[at + text.len()] == last) && bytes[at + 1..at + 1 + text.len()] == *text
            } else if head != END && SIZES[usize::from(first)] > 0 {
                false
            } else if first == END {
                return None;
            } else {
                item(bytes, at) == wanted
            };
            if is_it {
                return Some(Pos(at));
            }
            for _ in 0..=skip {
                at = self.end_of(at);
                if bytes[at] == END {
                    return None;
                }
            }
        }
    }

    /// Bytes that an entry for `text` takes.
    pub fn entry_bytes(text: &[u8]) -> usize {
        let body = match Item::of(text) {
            Item::Int(number) => int_encoding(number).1,
            Item::Bytes(bytes) => text_header(bytes.len()).1 + bytes.len(),
        };
        body + back_len_size(body)
    }

    #[inline]
    fn end_of(&self, at: usize) -> usize {
        match SIZES[usize::from(self.bytes[at])] {
            0 => self.end_of_long(at),
            size => at + usize::from(size),
        }
    }

    #[cold]
    fn end_of_long(&self, at: usize) -> usize {
        let body = body_len(&self.bytes, at);
        at + body + back_len_size(body)
    }

    /// Replaces `old` bytes at `at` by an entry for `item`, or by nothing.
    fn put(&mut self, at: usize, old: usize, item: Option<Item<'_>>) {
        let mut entry = EntryBytes::default();
        let mut tail: &[u8] = &[];
        match item {
            Some(Item::Int(number)) => {
                let (bytes, len) = int_encoding(number);
                entry.push(&bytes[..len]);
            }
            Some(Item::Bytes(bytes)) => {
                let (header, len) = text_header(bytes.len());
                entry.push(&header[..len]);
                tail = bytes;
            }
            None => {}
        }
        let body = entry.len + tail.len();
        let (back, back_len) = if item.is_some() { back_len(body) } else { ([0; 5], 0) };
        let new = body + back_len;
        let len = self.bytes.len();
        if new > old {
            let needed = len + new - old;
            if needed > self.bytes.capacity() {
                self.bytes.reserve_exact(size_class(needed) - len);
            }
            self.bytes.resize(len + new - old, 0);
            self.bytes.copy_within(at + old..len, at + new);
        } else if new < old {
            self.bytes.copy_within(at + old..len, at + new);
            self.bytes.truncate(len - (old - new));
            if self.bytes.capacity() > 2 * self.bytes.len() + 64 {
                self.bytes.shrink_to_fit();
            }
        }
        let place = &mut self.bytes[at..at + new];
        place[..entry.len].copy_from_slice(&entry.bytes[..entry.len]);
        place[entry.len..body].copy_from_slice(tail);
        place[body..].copy_from_slice(&back[..back_len]);
        self.note_total();
    }

    /// Writes the length in bytes into the header.
    #[inline]
    fn note_total(&mut self) {
        let total = u32::try_from(self.bytes.len()).expect("the types keep a listpack far below 4 GiB");
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
    }

    fn count_change(&mut self, by: i64) {
        let count = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        let new = if count == COUNT_UNKNOWN && by < 0 { self.iter().count() as i64 } else { i64::from(count) + by };
        let new = if count == COUNT_UNKNOWN && by > 0 { i64::from(COUNT_UNKNOWN) } else { new };
        let new = u16::try_from(new).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..6].copy_from_slice(&new.to_le_bytes());
    }
}

/// What the allocator gives for so many bytes, so that the room it gives anyway is used before it is asked again: multiples of 16
/// up to 128, then four steps to each doubling (jemalloc's classes).
#[inline]
fn size_class(bytes: usize) -> usize {
    let step = if bytes <= 128 { 16 } else { 1 << (usize::BITS - 3 - (bytes - 1).leading_zeros()) };
    bytes.next_multiple_of(step)
}

/// The first bytes of an entry: its header, or all of an integer.
#[derive(Default)]
struct EntryBytes {
    bytes: [u8; 9],
    len: usize,
}

impl EntryBytes {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len();
    }
}

/// Appends entries; see [`Listpack::extend_with`].
pub struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    count: i64,
}

impl Writer<'_> {
    /// An integer.
    #[inline]
    pub fn int(&mut self, number: i64) {
        let (bytes, len) = int_encoding(number);
        self.bytes.extend_from_slice(&bytes[..len]);
        // No integer is longer than what one byte can count.
        self.bytes.push(len as u8);
        self.count += 1;
    }

    /// A text, or the integer that it is.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        match Item::of(text) {
            Item::Int(number) => self.int(number),
            Item::Bytes(bytes) => {
                let (header, len) = text_header(bytes.len());
                self.bytes.extend_from_slice(&header[..len]);
                self.bytes.extend_from_slice(bytes);
                let (back, back_len) = back_len(len + bytes.len());
                self.bytes.extend_from_slice(&back[..back_len]);
                self.count += 1;
            }
        }
    }
}

/// Entries from front to back.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iter<'_> {
    /// Where the next entry is; none at the end.
    pub fn position(&self) -> Option<Pos> {
        (self.bytes[self.at] != END).then_some(Pos(self.at))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        if self.bytes[self.at] == END {
            return None;
        }
        let found = item(self.bytes, self.at);
        let body = body_len(self.bytes, self.at);
        self.at += body + back_len_size(body);
        Some(found)
    }
}

/// The entry at `at`, in bytes that are known to be valid.
#[inline]
fn item(bytes: &[u8], at: usize) -> Item<'_> {
    let first = bytes[at];
    let int = |from: usize, len: usize| {
        let mut wide = [0u8; 8];
        wide[8 - len..].copy_from_slice(&bytes[at + from..at + from + len]);
        // Moved to the top and back down, so that the sign fills the rest.
        Item::Int(i64::from_le_bytes(wide) >> (64 - 8 * len))
    };
    let text = |header: usize, len: usize| Item::Bytes(&bytes[at + header..at + header + len]);
    match first {
        0..=0x7f => Item::Int(i64::from(first)),
        0x80..=0xbf => text(1, usize::from(first & 0x3f)),
        0xc0..=0xdf => {
            let raw = i64::from(first & 0x1f) << 8 | i64::from(bytes[at + 1]);
            Item::Int(raw << 51 >> 51)
        }
        0xe0..=0xef => text(2, usize::from(first & 0x0f) << 8 | usize::from(bytes[at + 1])),
        0xf1 => int(1, 2),
        0xf2 => int(1, 3),
        0xf3 => int(1, 4),
        0xf4 => int(1, 8),
        _ => text(5, u32::from_le_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]]) as usize),
    }
}

/// Length of an entry's header and data, in bytes that are known to be valid.
#[inline]
fn body_len(bytes: &[u8], at: usize) -> usize {
    let first = bytes[at];
    match first {
        0..=0x7f => 1,
        0x80..=0xbf => 1 + usize::from(first & 0x3f),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 2 + (usize::from(first & 0x0f) << 8 | usize::from(bytes[at + 1])),
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        _ => 5 + u32::from_le_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]]) as usize,
    }
}

/// Where the entry at `at` ends, or none if it is not a valid one within `bytes` and their last byte.
fn checked_end(bytes: &[u8], at: usize) -> Option<usize> {
    let inside = bytes.len() - 1;
    let header = match bytes[at] {
        0..=0xbf => 1,
        0xc0..=0xef => 2,
        0xf0 => 5,
        0xf1..=0xf4 => 1,
        _ => return None,
    };
    if at + header > inside {
        return None;
    }
    let body = body_len(bytes, at);
    let (back, back_size) = back_len(body);
    let end = at.checked_add(body)?.checked_add(back_size)?;
    (end <= inside && bytes[end - back_size..end] == back[..back_size]).then_some(end)
}

/// The shortest encoding of an integer.
#[inline]
fn int_encoding(number: i64) -> ([u8; 9], usize) {
    let mut bytes = [0u8; 9];
    let wide = number.to_le_bytes();
    let (tag, len) = match number {
        0..=127 => {
            bytes[0] = number as u8;
            return (bytes, 1);
        }
        -4096..=4095 => {
            bytes[0] = 0xc0 | (number >> 8) as u8 & 0x1f;
            bytes[1] = number as u8;
            return (bytes, 2);
        }
        -0x8000..=0x7fff => (0xf1, 2),
        -0x80_0000..=0x7f_ffff => (0xf2, 3),
        -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
        _ => (0xf4, 8),
    };
    bytes[0] = tag;
    bytes[1..=len].copy_from_slice(&wide[..len]);
    (bytes, 1 + len)
}

/// The header of a text of this length.
#[inline]
fn text_header(len: usize) -> ([u8; 9], usize) {
    let mut bytes = [0u8; 9];
    match len {
        0..=63 => {
            bytes[0] = 0x80 | len as u8;
            (bytes, 1)
        }
        64..=4095 => {
            bytes[0] = 0xe0 | (len >> 8) as u8;
            bytes[1] = len as u8;
            (bytes, 2)
        }
        _ => {
            bytes[0] = 0xf0;
            bytes[1..5].copy_from_slice(&u32::try_from(len).expect("no entry has 4 GiB").to_le_bytes());
            (bytes, 5)
        }
    }
}

/// How many bytes the length behind an entry takes.
#[inline]
fn back_len_size(body: usize) -> usize {
    match body {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        2_097_152..=268_435_455 => 4,
        _ => 5,
    }
}

/// The length behind an entry: groups of 7 bits, the highest first, each but the first with its top bit set.
#[inline]
fn back_len(body: usize) -> ([u8; 5], usize) {
    let size = back_len_size(body);
    let mut bytes = [0u8; 5];
    let mut rest = body;
    for at in (0..size).rev() {
        bytes[at] = (rest & 127) as u8 | if at == 0 { 0 } else { 128 };
        rest >>= 7;
    }
    (bytes, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn text(rng: &mut Rng) -> Vec<u8> {
        match rng.below(6) {
            0 => rng.range(-200..=200).to_string().into_bytes(),
            1 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
            2 => vec![b'x'; *rng.pick(&[0, 1, 62, 63, 64, 65, 126, 127, 128, 4094, 4095, 4096, 17_000])],
            3 => b"007".to_vec(),
            _ => (0..rng.below(20)).map(|_| rng.below(256) as u8).collect(),
        }
    }

    fn shown(pack: &Listpack) -> Vec<Vec<u8>> {
        pack.iter().map(|item| item.to_vec()).collect()
    }

    #[track_caller]
    fn check(pack: &Listpack, model: &[Vec<u8>]) {
        assert_eq!(shown(pack), model);
        assert_eq!(pack.len(), model.len());
        assert_eq!(Listpack::from_bytes(pack.as_bytes()).as_ref(), Some(pack));
        let mut backwards = Vec::new();
        let mut at = pack.last();
        while let Some(pos) = at {
            backwards.push(pack.get(pos).to_vec());
            at = pack.prev(pos);
        }
        backwards.reverse();
        assert_eq!(backwards, model);
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_vector() {
        let seed = 0x115;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for _ in 0..60 {
            let (mut pack, mut model) = (Listpack::new(), Vec::<Vec<u8>>::new());
            for _ in 0..120 {
                let value = text(&mut rng);
                let at = rng.below(model.len() as u64 + 1) as usize;
                let pos = pack.seek(at as i64);
                assert_eq!(pos.is_some(), at < model.len());
                match (rng.below(8), pos) {
                    (0, _) => {
                        pack.push_front(&value);
                        model.insert(0, value);
                    }
                    (1, Some(pos)) => {
                        pack.insert_before(pos, &value);
                        model.insert(at, value);
                    }
                    (2, Some(pos)) => {
                        let placed = pack.insert_after(pos, &value);
                        assert!(pack.get(placed).eq_bytes(&value));
                        model.insert(at + 1, value);
                    }
                    (3, Some(pos)) => {
                        pack.replace(pos, &value);
                        model[at] = value;
                    }
                    (4, Some(pos)) => {
                        let next = pack.remove(pos);
                        model.remove(at);
                        assert_eq!(next.map(|p| pack.get(p).to_vec()), model.get(at).cloned());
                    }
                    (5, Some(pos)) => {
                        let count = rng.below(4) as usize;
                        pack.remove_range(pos, count);
                        model.drain(at..model.len().min(at + count));
                    }
                    _ => {
                        pack.push_back(&value);
                        model.push(value);
                    }
                }
                check(&pack, &model);
            }
            for (at, value) in model.iter().enumerate() {
                let first = model.iter().position(|other| other == value);
                let found = pack.find(value, pack.first().unwrap(), 0);
                assert_eq!(found, pack.seek(first.unwrap() as i64), "{value:?}");
                assert_eq!(pack.seek(at as i64 - model.len() as i64), pack.seek(at as i64));
            }
        }
    }

    #[test]
    fn room_grows_by_the_allocators_classes() {
        for (bytes, class) in
            [(1, 16), (16, 16), (17, 32), (128, 128), (129, 160), (160, 160), (161, 192), (257, 320), (4097, 5120)]
        {
            assert_eq!(size_class(bytes), class, "{bytes}");
        }
    }

    #[test]
    fn integers_take_the_bytes_that_the_format_says() {
        for (number, bytes) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (-1, 2),
            (4095, 2),
            (-4096, 2),
            (4096, 3),
            (-4097, 3),
            (32_767, 3),
            (32_768, 4),
            (8_388_607, 4),
            (8_388_608, 5),
            (i64::from(i32::MIN), 5),
            (i64::from(i32::MIN) - 1, 9),
            (i64::MAX, 9),
            (i64::MIN, 9),
        ] {
            let text = i64::to_string(&number).into_bytes();
            assert_eq!(Listpack::entry_bytes(&text), bytes + 1, "{number}");
            let mut pack = Listpack::new();
            pack.push_back(&text);
            assert_eq!(pack.get(pack.first().unwrap()), Item::Int(number));
            assert_eq!(pack.bytes_len(), 7 + bytes + 1);
        }
    }

    #[test]
    fn more_than_65534_entries_are_counted() {
        let mut pack = Listpack::new();
        for _ in 0..65_540 {
            pack.push_back(b"a");
        }
        assert_eq!(pack.len(), 65_540);
        pack.remove_range(pack.first().unwrap(), 100);
        assert_eq!(pack.len(), 65_440);
        assert_eq!(pack.as_bytes()[4..6], 65_440u16.to_le_bytes());
    }

    #[test]
    fn damaged_bytes_are_refused_or_are_another_listpack() {
        let seed = 0xbad;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for _ in 0..3000 {
            let mut pack = Listpack::new();
            for _ in 0..rng.below(12) {
                pack.push_back(&text(&mut rng));
            }
            let mut bytes = pack.as_bytes().to_vec();
            match rng.below(3) {
                0 => bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize),
                1 => bytes.push(rng.below(256) as u8),
                _ => {
                    for _ in 0..rng.range(1..=3) {
                        let at = rng.below(bytes.len() as u64) as usize;
                        bytes[at] = rng.below(256) as u8;
                    }
                }
            }
            if let Some(pack) = Listpack::from_bytes(&bytes) {
                let forwards = shown(&pack);
                check(&pack, &forwards);
            }
        }
    }
}
