//! One key with its value in one allocation, and the 8-byte slot that points to it. The keyspace's only unsafe code.
//!
//! ```text
//!            bit 0  2  4 5 6 7 8                 32               48               64
//!   head     [ k  | s |E|P|L|R|  access: 24 bits |  key length    |  inline length ]    8 bytes: k is the kind, s the stamp
//!   E        [ expiry, milliseconds since 1970                                    ]    8 bytes, if the key expires
//!   P        [ payload: the integer, or the pointer to the blob                   ]    8 bytes, if not inline
//!   L        [ key length                                                         ]    8 bytes, if over 65534
//!            [ the key's bytes … ][ the value's bytes, if inline … ][ unused to the end of the size class ]
//!
//!   slot     [ tag: 19 bits of the key's hash | address / 16: 44 bits | E ]            8 bytes, owns its record
//! ```
//!
//! A 16-byte key with a 16-byte string is 40 bytes, in a 48-byte block that also holds an expiry without growing. There
//! is no length field for the block: it follows from the head. A value is overwritten in place while it stays within
//! the size class.
//!
//! A value that is not a plain string is one kind, whose payload word is the pointer to the boxed [`Object`].
//!
//! A [`Record`] belongs to whoever holds it, a [`Slot`]'s record to the slot; both may move to another thread. Needs
//! nothing from the runtime, so it runs under Miri.
//!
//! The stamp is for whoever holds the table ([`super::snapshot`]): it says nothing about the record's parts, and stays with the
//! record whatever else changes.
//!
//! Absent on purpose: the hash (recomputed in the rare moments that want it) and a reference count (a record has one
//! owner; what outlives a command is copied or is a blob).
//!
//! # What the unsafe code relies on
//!
//! For every `Record`:
//! 1. its pointer came from `allocate(shape.bytes())`, where `shape` is what the head says now, and it has no other owner;
//! 2. the head, and each of the words E, P and L that the head announces, is initialised;
//! 3. L, or the head's key length when there is no L, is the number of initialised key bytes behind the words;
//! 4. the head's inline length is the number of initialised value bytes behind the key, and is 0 unless the kind is inline;
//! 5. P is there exactly if the kind is not inline; if the kind is blob or object, it holds a valid [`Blob`] or
//!    `Box<Object>` which the record owns.
//!
//! For every `Slot`: 6. it is empty, or its address bits are those of a pointer that came out of [`Record::into_raw`]
//! for this slot alone.
#![expect(unsafe_code, reason = "a record is a header and several variable parts in one block, which no safe type is")]

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::size_class::size_class;
use super::value::{EMBSTR_BYTES_MAX, NewValue, Value};
use crate::base::Blob;
use crate::base::time::Millis;
use crate::types::Object;

/// Up to this length a string lies inside its record, above it is a blob. A blob costs 56 bytes and two dependent cache
/// misses more: of two values of about this length, the blob takes a quarter longer to copy out and a third longer to
/// overwrite (benches/table.rs, "long values"). What speaks against more: an inline value is copied whenever its record
/// changes its size class.
pub const INLINE_BYTES_MAX: usize = 4096;

/// Every block starts at a multiple of this, which leaves four zero bits in its address.
const ALIGN: usize = 16;

/// A word of a record, and the size of its head.
const WORD: usize = 8;

/// A key length that says: see the word L.
const KEY_LEN_ESCAPE: usize = 0xffff;

/// What a blob costs beside its bytes: the block with two reference counts and the vector's three words.
const BLOB_HEAD_BYTES: usize = size_class(2 * WORD + size_of::<Vec<u8>>());

const _: () = assert!(INLINE_BYTES_MAX <= u16::MAX as usize, "the head has 16 bits for the inline length");
const _: () = assert!(size_of::<Blob>() == WORD && align_of::<Blob>() <= WORD, "a blob fits the payload word");
const _: () = assert!(size_of::<Box<Object>>() == WORD && align_of::<Box<Object>>() <= WORD, "so does a boxed object");
const _: () = assert!(size_of::<usize>() == 8, "slots hold 48-bit addresses");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Inline,
    Blob,
    Object,
}

/// The first word of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head(u64);

impl Head {
    const KIND: u64 = 0x3;
    const STAMP_AT: u32 = 2;
    const STAMP: u64 = 0x3 << Head::STAMP_AT;
    const EXPIRES: u64 = 1 << 4;
    const PAYLOAD: u64 = 1 << 5;
    const LONG_KEY: u64 = 1 << 6;
    const RAW: u64 = 1 << 7;
    const ACCESS_AT: u32 = 8;
    const KEY_LEN_AT: u32 = 32;
    const INLINE_LEN_AT: u32 = 48;
    const ACCESS: u64 = 0xff_ffff << Head::ACCESS_AT;
    const INLINE_LEN: u64 = 0xffff << Head::INLINE_LEN_AT;

    #[inline]
    fn kind(self) -> Kind {
        match self.0 & Head::KIND {
            0 => Kind::Int,
            1 => Kind::Inline,
            2 => Kind::Blob,
            _ => Kind::Object,
        }
    }

    #[inline]
    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline]
    fn access(self) -> u32 {
        ((self.0 & Head::ACCESS) >> Head::ACCESS_AT) as u32
    }

    #[inline]
    fn with_access(self, access: u32) -> Head {
        Head(self.0 & !Head::ACCESS | u64::from(access) << Head::ACCESS_AT & Head::ACCESS)
    }

    #[inline]
    fn inline_len(self) -> usize {
        (self.0 >> Head::INLINE_LEN_AT) as usize
    }

    #[inline]
    fn stamp(self) -> u8 {
        ((self.0 & Head::STAMP) >> Head::STAMP_AT) as u8
    }

    #[inline]
    fn with_stamp(self, stamp: u8) -> Head {
        Head(self.0 & !Head::STAMP | u64::from(stamp) << Head::STAMP_AT & Head::STAMP)
    }

    /// Where the payload word lies if there is one.
    #[inline]
    fn payload_at(self) -> usize {
        WORD + WORD * usize::from(self.has(Head::EXPIRES))
    }

    /// Where the long key length lies if there is one.
    #[inline]
    fn long_key_at(self) -> usize {
        self.payload_at() + WORD * usize::from(self.has(Head::PAYLOAD))
    }

    #[inline]
    fn key_at(self) -> usize {
        self.long_key_at() + WORD * usize::from(self.has(Head::LONG_KEY))
    }
}

/// Everything that decides where the parts of a record lie.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    head: Head,
    key_len: usize,
}

impl Shape {
    fn new(key_len: usize, value: &Stored<'_>, expires: bool, access: u32) -> Shape {
        let (kind, flags, inline_len) = match value {
            Stored::Int(_) => (Kind::Int, Head::PAYLOAD, 0),
            Stored::Inline { bytes, raw } => (Kind::Inline, if *raw { Head::RAW } else { 0 }, bytes.len()),
            Stored::Blob(_) => (Kind::Blob, Head::PAYLOAD | Head::RAW, 0),
            Stored::Object(_) => (Kind::Object, Head::PAYLOAD, 0),
        };
        let mut bits = kind as u64 | flags | (inline_len as u64) << Head::INLINE_LEN_AT;
        if expires {
            bits |= Head::EXPIRES;
        }
        Shape { head: Head(bits).with_access(access), key_len: 0 }.with_key_len(key_len)
    }

    fn with_key_len(self, key_len: usize) -> Shape {
        let long = key_len >= KEY_LEN_ESCAPE;
        let mut bits = self.head.0 & !(0xffff << Head::KEY_LEN_AT) & !Head::LONG_KEY;
        bits |= (key_len.min(KEY_LEN_ESCAPE) as u64) << Head::KEY_LEN_AT;
        if long {
            bits |= Head::LONG_KEY;
        }
        Shape { head: Head(bits), key_len }
    }

    #[inline]
    fn value_at(self) -> usize {
        self.head.key_at() + self.key_len
    }

    /// The size of the block.
    #[inline]
    fn bytes(self) -> usize {
        size_class(self.value_at() + self.head.inline_len())
    }
}

/// A value whose place has been decided.
enum Stored<'v> {
    Int(i64),
    Inline { bytes: &'v [u8], raw: bool },
    Blob(Blob),
    Object(Box<Object>),
}

/// What a record owns beside its block.
enum Owned {
    Nothing,
    Blob(Blob),
    Object(Box<Object>),
}

/// A key, its value, its expiry and its access word. Eight bytes that own one block of memory.
pub struct Record(NonNull<u8>);

// SAFETY: a record owns all it points to (1), and what it owns, bytes and a `Blob` or an `Object`, is `Send`.
unsafe impl Send for Record {}

impl Record {
    /// A record of its own, in no table.
    pub fn new(key: &[u8], value: NewValue<'_>, expire: Option<Millis>, access: u32) -> Record {
        match value {
            NewValue::Int(number) => Record::build(key, Stored::Int(number), expire, access),
            NewValue::Bytes { bytes, raw } if bytes.len() <= INLINE_BYTES_MAX => {
                Record::build(key, Stored::Inline { bytes, raw }, expire, access)
            }
            NewValue::Bytes { bytes, .. } => Record::build(key, Stored::Blob(Arc::new(bytes.to_vec())), expire, access),
            NewValue::Blob(blob) if blob.len() <= INLINE_BYTES_MAX => {
                let raw = blob.len() > EMBSTR_BYTES_MAX;
                Record::build(key, Stored::Inline { bytes: &blob, raw }, expire, access)
            }
            NewValue::Blob(blob) => Record::build(key, Stored::Blob(blob), expire, access),
            NewValue::Object(object) => Record::build(key, Stored::Object(object), expire, access),
        }
    }

    fn build(key: &[u8], value: Stored<'_>, expire: Option<Millis>, access: u32) -> Record {
        let shape = Shape::new(key.len(), &value, expire.is_some(), access);
        let block = allocate(shape.bytes());
        // SAFETY: the block has `shape.bytes()` bytes: room for the head, the words and `key.len()` bytes at `key_at`.
        // It is new, so `key` does not overlap it. `fill` below makes the rest of the record valid before it is used.
        unsafe {
            write_head(block, shape);
            ptr::copy_nonoverlapping(key.as_ptr(), block.as_ptr().add(shape.head.key_at()), key.len());
            let mut record = Record(block);
            record.fill(shape, value, expire);
            record
        }
    }

    /// Reads everything there is to read.
    #[inline]
    pub fn entry(&self) -> Entry<'_> {
        Entry { block: self.0, record: PhantomData }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.entry().key()
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        self.entry().value()
    }

    /// When the key expires, if it does.
    pub fn expire_at(&self) -> Option<Millis> {
        self.entry().expire_at()
    }

    /// See [`Entry::bytes`].
    pub fn bytes(&self) -> usize {
        self.entry().bytes()
    }

    /// Sets the access word, of which 24 bits are kept.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        let old = self.entry().head();
        let new = old.with_access(access);
        // Most keys in use were last used in the same second: a cache line that stays clean need not be written back.
        if old != new {
            // SAFETY: the head is initialised (2) and ours alone (1); the access bits change nothing about the shape.
            unsafe { self.0.cast::<Head>().write(new) }
        }
    }

    /// Sets the stamp, of which 2 bits are kept. A new record's is 0.
    #[inline]
    pub(super) fn set_stamp(&mut self, stamp: u8) {
        let old = self.entry().head();
        let new = old.with_stamp(stamp);
        if old != new {
            // SAFETY: the head is initialised (2) and ours alone (1); the stamp's bits change nothing about the shape.
            unsafe { self.0.cast::<Head>().write(new) }
        }
    }

    /// Replaces everything but the key: in place if the size class stays the same.
    pub fn assign(&mut self, value: NewValue<'_>, expire: Option<Millis>, access: u32) {
        match value {
            NewValue::Int(number) => self.store(Stored::Int(number), expire, access),
            NewValue::Bytes { bytes, raw } if bytes.len() <= INLINE_BYTES_MAX => {
                self.store(Stored::Inline { bytes, raw }, expire, access);
            }
            NewValue::Bytes { bytes, .. } => {
                let blob = self.blob_with(bytes);
                self.store(Stored::Blob(blob), expire, access);
            }
            NewValue::Blob(blob) if blob.len() <= INLINE_BYTES_MAX => {
                let raw = blob.len() > EMBSTR_BYTES_MAX;
                self.store(Stored::Inline { bytes: &blob, raw }, expire, access);
            }
            NewValue::Blob(blob) => self.store(Stored::Blob(blob), expire, access),
            NewValue::Object(object) => self.store(Stored::Object(object), expire, access),
        }
    }

    /// As [`Record::assign`] if that changes neither the place nor the number of any of the record's bytes; otherwise
    /// nothing happens and the result is false. What overwriting a value with one much like it needs, and no more.
    #[inline]
    pub(super) fn overwrite(&mut self, value: &NewValue<'_>, expire: Option<Millis>, access: u32) -> bool {
        let old = self.entry().shape();
        let value = match *value {
            NewValue::Int(number) => Stored::Int(number),
            NewValue::Bytes { bytes, raw } if bytes.len() <= INLINE_BYTES_MAX => Stored::Inline { bytes, raw },
            NewValue::Bytes { .. } | NewValue::Blob(_) | NewValue::Object(_) => return false,
        };
        let mut new = Shape::new(old.key_len, &value, expire.is_some(), access);
        new.head.0 |= old.head.0 & Head::STAMP;
        const SAME: u64 = Head::KIND | Head::EXPIRES | Head::PAYLOAD | Head::LONG_KEY;
        if (old.head.0 ^ new.head.0) & SAME != 0
            || (old.head.inline_len() != new.head.inline_len() && old.bytes() != new.bytes())
        {
            return false;
        }
        // SAFETY: of `reshape` is needed the head only, since all parts stay in their places in a block that stays as
        // large as it is. Both kinds are the same and neither is blob or object, so `fill` overwrites nothing that is owned.
        unsafe {
            self.0.cast::<Head>().write(new.head);
            self.fill(new, value, expire);
        }
        true
    }

    /// Puts another record in this one's place, under its stamp, and hands this one out.
    pub(super) fn replace(&mut self, mut other: Record) -> Record {
        other.set_stamp(self.entry().stamp());
        self.set_stamp(0);
        std::mem::replace(self, other)
    }

    /// Replaces the value; expiry and access word stay.
    pub fn set_value(&mut self, value: NewValue<'_>) {
        let (expire, access) = (self.expire_at(), self.entry().access());
        self.assign(value, expire, access);
    }

    /// Sets, changes or takes away the expiry. Moves the record only if the expiry's 8 bytes change the size class.
    pub fn set_expire(&mut self, expire: Option<Millis>) {
        let mut shape = self.entry().shape();
        if shape.head.has(Head::EXPIRES) != expire.is_some() {
            shape.head.0 ^= Head::EXPIRES;
            // SAFETY: the only part that `shape` has and the record does not is the expiry, which is written below.
            unsafe { self.reshape(shape) }
        }
        if let Some(Millis(at)) = expire {
            // SAFETY: the shape has an expiry word now; it lies behind the head.
            unsafe { self.0.add(WORD).cast::<i64>().write(at) }
        }
    }

    /// Appends to the string and returns its new length. Amortised constant time per byte, whatever the length: an
    /// inline string moves when it outgrows its size class, a blob has spare capacity.
    pub fn append(&mut self, tail: &[u8]) -> usize {
        if let Value::Int(number) = self.value() {
            let text = Value::Int(number).text();
            self.set_value(NewValue::Bytes { bytes: &text, raw: true });
        }
        let mut shape = self.entry().shape();
        let inline_len = shape.head.inline_len();
        if shape.head.kind() == Kind::Inline && inline_len + tail.len() <= INLINE_BYTES_MAX {
            let len = inline_len + tail.len();
            shape.head.0 = shape.head.0 & !Head::INLINE_LEN | (len as u64) << Head::INLINE_LEN_AT | Head::RAW;
            // SAFETY: `reshape` keeps what both shapes have, which leaves the last `tail.len()` bytes of the value:
            // they are written right after. `tail` cannot lie in this record, which is borrowed mutably.
            unsafe {
                self.reshape(shape);
                let end = self.0.as_ptr().add(shape.value_at() + inline_len);
                ptr::copy_nonoverlapping(tail.as_ptr(), end, tail.len());
            }
            return len;
        }
        self.with_blob_mut(|bytes| {
            let len = bytes.len() + tail.len();
            if len > bytes.capacity() {
                // Doubling, but not for what is large already: an eighth keeps the cost per byte constant, too.
                bytes.reserve_exact(tail.len() + if len < 1 << 20 { len } else { len / 8 });
            }
            bytes.extend_from_slice(tail);
            len
        })
    }

    /// Hands the string out as a vector to change at will, then finds the right place for what it has become. The
    /// string is `raw` from now on. For changes within the present length [`Record::with_bytes_mut`] is cheaper.
    pub fn with_blob_mut<R>(&mut self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let (expire, access) = (self.expire_at(), self.entry().access());
        let mut blob = match self.take_blob() {
            Some(blob) => blob,
            None => Arc::new(self.value().text().to_vec()),
        };
        // A copy is made here if somebody still sends the old string: they must not see the change.
        let result = change(Arc::make_mut(&mut blob));
        if blob.len() <= INLINE_BYTES_MAX {
            self.store(Stored::Inline { bytes: &blob, raw: true }, expire, access);
        } else {
            self.store(Stored::Blob(blob), expire, access);
        }
        result
    }

    /// Hands the string's bytes out to be overwritten; their number stays. The string is `raw` from now on.
    pub fn with_bytes_mut<R>(&mut self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        if let Value::Int(number) = self.value() {
            let text = Value::Int(number).text();
            self.set_value(NewValue::Bytes { bytes: &text, raw: true });
        }
        if let Value::Packed(packed) = self.value() {
            let text = Arc::new(packed.text());
            self.set_value(NewValue::Blob(text));
        }
        let mut shape = self.entry().shape();
        shape.head.0 |= Head::RAW;
        match shape.head.kind() {
            Kind::Inline => {
                // SAFETY: the flag changes nothing about the shape. The inline bytes are initialised (4) and ours alone.
                let bytes = unsafe {
                    self.0.cast::<Head>().write(shape.head);
                    std::slice::from_raw_parts_mut(self.0.as_ptr().add(shape.value_at()), shape.head.inline_len())
                };
                change(bytes)
            }
            Kind::Blob => {
                // SAFETY: the payload holds a valid blob (5) that is ours alone while `self` is borrowed mutably.
                let blob = unsafe { self.0.add(shape.head.payload_at()).cast::<Blob>().as_mut() };
                change(Arc::make_mut(blob).as_mut_slice())
            }
            Kind::Int => unreachable!("integers were turned into text above"),
            Kind::Object => unreachable!("the caller looked whether the value is a string"),
        }
    }

    /// The same record under another key (RENAME). A blob is handed over, not copied.
    #[must_use]
    pub fn with_key(self, key: &[u8]) -> Record {
        let old = self.entry().shape();
        let new = old.with_key_len(key.len());
        let (from, to) = (ManuallyDrop::new(self).0, allocate(new.bytes()));
        // SAFETY: `new` differs from `old` in the key and its length only, so expiry and payload lie at the same place
        // in both blocks, and they are all that lies between the head and `long_key_at`. The new block is large enough
        // for each part and does not overlap anything. The payload moves: the old block is freed without being dropped.
        unsafe {
            write_head(to, new);
            let words = old.head.long_key_at() - WORD;
            ptr::copy_nonoverlapping(from.as_ptr().add(WORD), to.as_ptr().add(WORD), words);
            ptr::copy_nonoverlapping(key.as_ptr(), to.as_ptr().add(new.head.key_at()), key.len());
            let inline = from.as_ptr().add(old.value_at());
            ptr::copy_nonoverlapping(inline, to.as_ptr().add(new.value_at()), old.head.inline_len());
            deallocate(from, old.bytes());
        }
        Record(to)
    }

    /// A second record that says the same (COPY). A blob is shared until one of the two changes.
    #[must_use]
    pub fn duplicate(&self) -> Record {
        Record::new(self.key(), self.value().to_new(), self.expire_at(), self.entry().access())
    }

    /// A blob with these bytes: the present one if nobody else has it and it is neither too small nor far too large.
    fn blob_with(&mut self, bytes: &[u8]) -> Blob {
        if let Some(mut blob) = self.take_blob()
            && let Some(old) = Arc::get_mut(&mut blob)
            && (bytes.len()..=bytes.len() + bytes.len() / 4).contains(&old.capacity())
        {
            old.clear();
            old.extend_from_slice(bytes);
            return blob;
        }
        Arc::new(bytes.to_vec())
    }

    /// Takes the blob out, if the value is one. The value is a meaningless integer then.
    fn take_blob(&mut self) -> Option<Blob> {
        if self.entry().head().kind() != Kind::Blob {
            return None;
        }
        match self.disown() {
            Owned::Blob(blob) => Some(blob),
            Owned::Object(_) | Owned::Nothing => unreachable!("the value is a blob"),
        }
    }

    /// Takes the object out, if the value is one. The value is a meaningless integer then, and the caller either stores
    /// another one or gives the record up.
    pub(super) fn take_object(&mut self) -> Option<Box<Object>> {
        if self.entry().head().kind() != Kind::Object {
            return None;
        }
        match self.disown() {
            Owned::Object(object) => Some(object),
            Owned::Blob(_) | Owned::Nothing => unreachable!("the value is an object"),
        }
    }

    /// Takes out whatever the record owns beside its block. If that is anything, the value is a meaningless integer then.
    fn disown(&mut self) -> Owned {
        let head = self.entry().head();
        if matches!(head.kind(), Kind::Int | Kind::Inline) {
            return Owned::Nothing;
        }
        // SAFETY: the payload holds a valid blob or box, as the kind says (5). It is read once: the kind becomes integer,
        // and so does the payload, so that the record is valid again and does not own it any more.
        unsafe {
            let payload = self.0.add(head.payload_at());
            let owned = match head.kind() {
                Kind::Blob => Owned::Blob(payload.cast::<Blob>().read()),
                Kind::Object => Owned::Object(payload.cast::<Box<Object>>().read()),
                Kind::Int | Kind::Inline => unreachable!("they were sorted out above"),
            };
            payload.cast::<i64>().write(0);
            self.0.cast::<Head>().write(Head(head.0 & !Head::KIND | Kind::Int as u64));
            owned
        }
    }

    /// The object, to change it; none if the value is a string.
    #[inline]
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        let head = self.entry().head();
        if head.kind() != Kind::Object {
            return None;
        }
        // SAFETY: the payload holds a valid box (5) that is ours alone while `self` is borrowed mutably.
        Some(unsafe { self.0.add(head.payload_at()).cast::<Box<Object>>().as_mut() })
    }

    fn store(&mut self, value: Stored<'_>, expire: Option<Millis>, access: u32) {
        let old = self.disown();
        let before = self.entry().shape();
        let mut shape = Shape::new(before.key_len, &value, expire.is_some(), access);
        shape.head.0 |= before.head.0 & Head::STAMP;
        // SAFETY: `fill` writes all that `reshape` may have left without a value; the record owns nothing in between.
        unsafe {
            self.reshape(shape);
            self.fill(shape, value, expire);
        }
        drop(old);
    }

    /// Gives the record another shape under the same key, moving it to another block if need be. Parts that both shapes
    /// have are kept: expiry, payload, key, and the inline value as far as both go.
    ///
    /// # Safety
    /// First, `new.key_len` is the present key's length. Second, the caller initialises every part of `new` that the record
    /// did not have, and sees to it that a payload is what the new kind says, before the record is used in any other way.
    unsafe fn reshape(&mut self, new: Shape) {
        let old = self.entry().shape();
        let keep = old.key_len + old.head.inline_len().min(new.head.inline_len());
        let from = self.0;
        let moves = old.bytes() != new.bytes();
        if !moves
            && old.head.key_at() == new.head.key_at()
            && old.head.has(Head::EXPIRES) == new.head.has(Head::EXPIRES)
        {
            // SAFETY: equal blocks, and every part that both have lies where it lay.
            unsafe { self.0.cast::<Head>().write(new.head) }
            return;
        }
        let to = if moves { allocate(new.bytes()) } else { from };
        // SAFETY: both words are within the block: a record without them is at least one size class (16 bytes) long, and
        // with an expiry there is a word behind it, or a key, or the rest of a class of 32. They may be uninitialised,
        // as `MaybeUninit` allows. Each is written back only if both shapes have it. `key_at..key_at + keep` is
        // initialised in the old block (3, 4) and within the new one; `copy` allows the overlap when the block stays.
        // The words are read before that copy, and written before `new.key_at()`, so nothing is lost to the overlap.
        unsafe {
            let expiry = from.add(WORD).cast::<MaybeUninit<u64>>().read();
            let payload = match old.head.has(Head::PAYLOAD) {
                true => from.add(old.head.payload_at()).cast::<MaybeUninit<u64>>().read(),
                false => MaybeUninit::uninit(),
            };
            ptr::copy(from.as_ptr().add(old.head.key_at()), to.as_ptr().add(new.head.key_at()), keep);
            write_head(to, new);
            if new.head.has(Head::EXPIRES) {
                to.add(WORD).cast::<MaybeUninit<u64>>().write(expiry);
            }
            if new.head.has(Head::PAYLOAD) {
                to.add(new.head.payload_at()).cast::<MaybeUninit<u64>>().write(payload);
            }
            if moves {
                deallocate(from, old.bytes());
            }
        }
        self.0 = to;
    }

    /// Writes value and expiry, for which `shape` was made.
    ///
    /// # Safety
    /// 1. The block, its head and its key are as `shape` says, and `shape` was made for this value and expiry.
    /// 2. The record owns neither blob nor object.
    #[inline]
    unsafe fn fill(&mut self, shape: Shape, value: Stored<'_>, expire: Option<Millis>) {
        // SAFETY: obligation 1 means that each part written here has its place in the block. `bytes` cannot overlap
        // the record, which is borrowed mutably. With 2, nothing is overwritten that would have to be dropped.
        unsafe {
            if let Some(Millis(at)) = expire {
                self.0.add(WORD).cast::<i64>().write(at);
            }
            let payload = self.0.add(shape.head.payload_at());
            match value {
                Stored::Int(number) => payload.cast::<i64>().write(number),
                Stored::Blob(blob) => payload.cast::<Blob>().write(blob),
                Stored::Object(object) => payload.cast::<Box<Object>>().write(object),
                Stored::Inline { bytes, .. } => {
                    let at = self.0.as_ptr().add(shape.value_at());
                    ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
                }
            }
        }
    }

    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let owned = self.disown();
        // SAFETY: the block is of this size and ours (1), and nothing that it owns is left in it.
        unsafe { deallocate(self.0, self.entry().shape().bytes()) }
        drop(owned);
    }
}

/// A record, borrowed for reading.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The block of a live record that nobody changes during `'a`.
    block: NonNull<u8>,
    record: PhantomData<&'a Record>,
}

impl<'a> Entry<'a> {
    #[inline]
    fn head(self) -> Head {
        // SAFETY: the head is initialised (2), aligned, and not changed during `'a`.
        unsafe { self.block.cast::<Head>().read() }
    }

    #[inline]
    fn shape(self) -> Shape {
        let head = self.head();
        let key_len = match head.has(Head::LONG_KEY) {
            // SAFETY: the head announces the word, so it is initialised (2).
            true => unsafe { self.block.add(head.long_key_at()).cast::<usize>().read() },
            false => (head.0 >> Head::KEY_LEN_AT) as u16 as usize,
        };
        Shape { head, key_len }
    }

    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        let shape = self.shape();
        // SAFETY: so many key bytes are initialised (3) and stay as they are during `'a`.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().add(shape.head.key_at()), shape.key_len) }
    }

    /// The value.
    #[inline]
    pub fn value(self) -> Value<'a> {
        let shape = self.shape();
        // SAFETY: the payload is initialised (2) unless the kind is inline, and is a blob or a box if the kind says so (5); as
        // many inline bytes are initialised as the head says (4). All of it stays as it is during `'a`.
        unsafe {
            let payload = self.block.add(shape.head.payload_at());
            match shape.head.kind() {
                Kind::Int => Value::Int(payload.cast::<i64>().read()),
                Kind::Inline => Value::Inline {
                    bytes: std::slice::from_raw_parts(
                        self.block.as_ptr().add(shape.value_at()),
                        shape.head.inline_len(),
                    ),
                    raw: shape.head.has(Head::RAW),
                },
                Kind::Blob => Value::Blob(payload.cast::<Blob>().as_ref()),
                Kind::Object => match payload.cast::<Box<Object>>().as_ref().as_ref() {
                    Object::Packed(packed) => Value::Packed(packed),
                    object => Value::Object(object),
                },
            }
        }
    }

    /// When the key expires, if it does.
    #[inline]
    pub fn expire_at(self) -> Option<Millis> {
        // SAFETY: the head announces the word, so it is initialised (2).
        self.head().has(Head::EXPIRES).then(|| Millis(unsafe { self.block.add(WORD).cast::<i64>().read() }))
    }

    /// Whether the key has expired by now. One that expires now has not: Redis, too, asks for `now > when`.
    #[inline]
    pub fn is_expired(self, now: Millis) -> bool {
        self.expire_at().is_some_and(|at| now > at)
    }

    /// The access word, 24 bits; see [`super::access`].
    #[inline]
    pub fn access(self) -> u32 {
        self.head().access()
    }

    /// See [`Record::set_stamp`].
    #[inline]
    pub(super) fn stamp(self) -> u8 {
        self.head().stamp()
    }

    /// The bytes allocated for this record, its string included. A blob that is shared counts in full. Of an object that is no
    /// string only its box counts, since what is in it changes without the record's knowledge.
    pub fn bytes(self) -> usize {
        let apart = match self.value() {
            Value::Blob(blob) => BLOB_HEAD_BYTES + size_class(blob.capacity()),
            Value::Object(_) => size_class(size_of::<Object>()),
            Value::Packed(packed) => size_class(size_of::<Object>()) + size_class(packed.packed_len()),
            Value::Int(_) | Value::Inline { .. } => 0,
        };
        self.shape().bytes() + apart
    }

    /// All bytes allocated for the key and its value; of an object as close as it can tell.
    pub fn memory_bytes(self) -> usize {
        match self.value() {
            Value::Object(object) => self.bytes() + object.allocated_bytes(),
            Value::Int(_) | Value::Inline { .. } | Value::Blob(_) | Value::Packed(_) => self.bytes(),
        }
    }
}

/// One place in a segment: empty, or a record with its tag. See the picture above.
pub(super) struct Slot {
    /// The record's pointer, turned into the slot's word; it keeps its provenance on the way there and back.
    word: *mut u8,
}

// SAFETY: a slot owns its record alone (6), and records are `Send`.
unsafe impl Send for Slot {}

/// How many bits of the hash a slot keeps.
pub(super) const TAG_BITS: u32 = 19;
/// The largest tag.
pub(super) const TAG_MAX: u64 = (1 << TAG_BITS) - 1;

const TAG_AT: u32 = 64 - TAG_BITS;
const ADDRESS_BITS: u32 = TAG_AT - 1;
const EXPIRES_BIT: usize = 1;
const EMPTY_WORD: *mut u8 = ptr::without_provenance_mut((TAG_MAX << TAG_AT) as usize);

impl Slot {
    /// No record. Its tag is the largest there is, so that a search for a tag stops here without asking.
    pub(super) const EMPTY: Slot = Slot { word: EMPTY_WORD };

    /// A slot that owns this record. `tag` is at most [`TAG_MAX`].
    #[inline]
    pub(super) fn new(tag: u64, record: Record) -> Slot {
        debug_assert!(tag <= TAG_MAX);
        let expires = usize::from(record.entry().head().has(Head::EXPIRES));
        let word = record.into_raw().as_ptr().map_addr(|address| {
            assert!(address >> ADDRESS_BITS >> ALIGN.ilog2() == 0, "user space addresses have at most 48 bits");
            (tag << TAG_AT) as usize | ((address / ALIGN) << 1) | expires
        });
        Slot { word }
    }

    /// The tag, [`TAG_MAX`] if empty.
    #[inline]
    pub(super) fn tag(&self) -> u64 {
        self.word.addr() as u64 >> TAG_AT
    }

    /// Whether the slot's tag is smaller than this one.
    #[inline]
    pub(super) fn is_below(&self, tag: u64) -> bool {
        // The same as comparing the tags, without taking this one out of its word.
        (self.word.addr() as u64) < tag << TAG_AT
    }

    /// Whether there is no record.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.word.addr() == EMPTY_WORD.addr()
    }

    /// Whether there is a record that has an expiry. Does not touch the record's memory.
    #[inline]
    pub(super) fn expires(&self) -> bool {
        self.word.addr() & EXPIRES_BIT != 0
    }

    /// The record, for reading.
    #[inline]
    pub(super) fn entry(&self) -> Option<Entry<'_>> {
        Some(Entry { block: self.block()?, record: PhantomData })
    }

    /// Takes the record out.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Record> {
        let block = self.block()?;
        self.word = EMPTY_WORD;
        // The block left this slot for good, so it has one owner again.
        Some(Record(block))
    }

    /// Changes the record where it is, keeping slot and record in step. Must not be called on an empty slot.
    pub(super) fn update<R>(&mut self, change: impl FnOnce(&mut Record) -> R) -> R {
        let tag = self.tag();
        let mut record = self.take().expect("only a full slot can be updated");
        let result = change(&mut record);
        *self = Slot::new(tag, record);
        result
    }

    /// Changes the record in a way that leaves it where it is, and leaves its expiry there or not there. Must not be
    /// called on an empty slot.
    #[inline]
    fn touch<R>(&mut self, change: impl FnOnce(&mut Record) -> R) -> R {
        let block = self.block().expect("only a full slot can be changed");
        // Only borrowed: the slot keeps the block.
        change(&mut ManuallyDrop::new(Record(block)))
    }

    /// Changes the access word, of which 24 bits are kept, and hands the record out. Must not be called on an empty slot.
    #[inline]
    pub(super) fn touched(&mut self, touch: impl FnOnce(u32) -> u32) -> Entry<'_> {
        let block = self.block().expect("only a full slot can be changed");
        // Only borrowed: the slot keeps the block.
        let mut record = ManuallyDrop::new(Record(block));
        let access = touch(record.entry().access());
        record.set_access(access);
        Entry { block, record: PhantomData }
    }

    /// Sets the access word, of which 24 bits are kept. Must not be called on an empty slot.
    #[inline]
    pub(super) fn set_access(&mut self, access: u32) {
        self.touch(|record| record.set_access(access));
    }

    /// See [`Record::set_stamp`]. Must not be called on an empty slot.
    #[inline]
    pub(super) fn set_stamp(&mut self, stamp: u8) {
        self.touch(|record| record.set_stamp(stamp));
    }

    /// Lets `change` at the object, if the value is one. Must not be called on an empty slot.
    #[inline]
    pub(super) fn with_object<R>(&mut self, change: impl FnOnce(&mut Object) -> R) -> Option<R> {
        self.touch(|record| record.object_mut().map(change))
    }

    /// See [`Record::overwrite`]. Must not be called on an empty slot.
    #[inline]
    pub(super) fn overwrite(&mut self, value: &NewValue<'_>, expire: Option<Millis>, access: u32) -> bool {
        self.touch(|record| record.overwrite(value, expire, access))
    }

    /// The same record under another tag. Does not touch the record's memory. An empty slot stays empty.
    pub(super) fn with_tag(mut self, tag: u64) -> Slot {
        debug_assert!(tag <= TAG_MAX);
        if !self.is_empty() {
            self.word = self.word.map_addr(|word| (tag << TAG_AT) as usize | word << TAG_BITS >> TAG_BITS);
        }
        self
    }

    /// Asks for the record's first cache lines: two, since a short record lies across two as often as not.
    #[inline]
    pub(super) fn prefetch_record(&self) {
        if let Some(block) = self.block() {
            prefetch(block.as_ptr());
            prefetch(block.as_ptr().wrapping_add(2 * ALIGN));
        }
    }

    #[inline]
    fn block(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.word.map_addr(|word| word << TAG_BITS >> (TAG_BITS + 1) << ALIGN.ilog2()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Asks for a cache line that will be needed soon. Any address will do, even one that cannot be read.
#[inline]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing and never faults; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// Writes the head and, if the key is long, its length.
///
/// # Safety
/// `block` has at least `shape.bytes()` bytes and is not shared.
unsafe fn write_head(block: NonNull<u8>, shape: Shape) {
    // SAFETY: a shape's block has room for its head and for the words that it announces.
    unsafe {
        block.cast::<Head>().write(shape.head);
        if shape.head.has(Head::LONG_KEY) {
            block.add(shape.head.long_key_at()).cast::<usize>().write(shape.key_len);
        }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGN).expect("a key and an inline value are far smaller than the address space")
}

fn allocate(bytes: usize) -> NonNull<u8> {
    let layout = layout(bytes);
    // SAFETY: no shape has a block of zero bytes; the smallest size class is 16.
    let block = unsafe { alloc::alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| alloc::handle_alloc_error(layout))
}

/// # Safety
/// `block` came from `allocate(bytes)` with the same `bytes` and is not used again.
unsafe fn deallocate(block: NonNull<u8>, bytes: usize) {
    // SAFETY: this is what the caller promises.
    unsafe { alloc::dealloc(block.as_ptr(), layout(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// Key lengths at both sides of every change of layout.
    const KEY_LENS: &[usize] =
        if cfg!(miri) { &[0, 1, 17, 65_535] } else { &[0, 1, 7, 8, 16, 17, 65_534, 65_535, 70_000] };

    fn bytes(len: usize, salt: u8) -> Vec<u8> {
        (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(salt)).collect()
    }

    fn text(record: &Record) -> Vec<u8> {
        record.value().text().to_vec()
    }

    /// Every kind of value, at the boundaries of size classes and places.
    fn values() -> Vec<NewValue<'static>> {
        let mut lens = if cfg!(miri) { vec![0, 17] } else { vec![0, 1, 8, 15, 16, 17, 44, 45, 100, 1000] };
        lens.extend([INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 3 * INLINE_BYTES_MAX]);
        let mut values = vec![NewValue::Int(0), NewValue::Int(i64::MIN), NewValue::Int(i64::MAX)];
        for len in lens {
            let leaked: &'static [u8] =
                LEAKED.get_or_init(|| bytes(4 * INLINE_BYTES_MAX, 9)).get(..len).expect("long enough");
            values.push(NewValue::Bytes { bytes: leaked, raw: len > EMBSTR_BYTES_MAX });
            values.push(NewValue::Bytes { bytes: leaked, raw: true });
            values.push(NewValue::Blob(Arc::new(leaked.to_vec())));
        }
        values
    }

    static LEAKED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();

    fn expected(value: &NewValue<'_>) -> Vec<u8> {
        match value {
            NewValue::Int(number) => number.to_string().into_bytes(),
            NewValue::Bytes { bytes, .. } => bytes.to_vec(),
            NewValue::Blob(blob) => blob.to_vec(),
            NewValue::Object(_) => unreachable!("only strings are tried here"),
        }
    }

    fn check(record: &Record, key: &[u8], value: &[u8], expire: Option<Millis>, access: u32) {
        assert_eq!(record.key(), key);
        assert_eq!(text(record), value);
        assert_eq!(record.value().len(), value.len());
        assert_eq!(record.expire_at(), expire);
        assert_eq!(record.entry().access(), access);
    }

    #[test]
    fn a_record_reads_back_what_it_was_made_of() {
        for &key_len in KEY_LENS {
            let key = bytes(key_len, 1);
            for value in values() {
                for expire in [None, Some(Millis(-5)), Some(Millis(i64::MAX))] {
                    let record = Record::new(&key, value.clone(), expire, 0xab_cdef);
                    check(&record, &key, &expected(&value), expire, 0xab_cdef);
                    check(&record.duplicate(), &key, &expected(&value), expire, 0xab_cdef);
                }
            }
        }
    }

    #[test]
    fn a_16_byte_key_with_a_16_byte_value_takes_48_bytes_with_and_without_an_expiry() {
        let value = NewValue::Bytes { bytes: &[b'v'; 16], raw: false };
        let mut record = Record::new(&[b'k'; 16], value, None, 0);
        let block = record.0;
        assert_eq!(record.bytes(), 48);
        record.set_expire(Some(Millis(1)));
        assert_eq!(record.bytes(), 48);
        assert_eq!(record.0, block, "it did not move");
        check(&record, &[b'k'; 16], &[b'v'; 16], Some(Millis(1)), 0);
    }

    #[test]
    fn any_value_may_follow_any_other() {
        for key_len in if cfg!(miri) { vec![5] } else { vec![0, 5, 16, 65_535] } {
            let key = bytes(key_len, 2);
            for from in values() {
                for to in values() {
                    for (expire, then) in [(None, None), (None, Some(Millis(7))), (Some(Millis(7)), None)] {
                        let mut record = Record::new(&key, from.clone(), expire, 1);
                        record.assign(to.clone(), then, 2);
                        check(&record, &key, &expected(&to), then, 2);
                    }
                }
            }
        }
    }

    #[test]
    fn an_expiry_comes_and_goes_without_touching_the_rest() {
        for &key_len in KEY_LENS {
            let key = bytes(key_len, 3);
            for value in values() {
                let mut record = Record::new(&key, value.clone(), None, 3);
                for expire in [Some(Millis(1)), Some(Millis(2)), None, None, Some(Millis(i64::MIN))] {
                    record.set_expire(expire);
                    check(&record, &key, &expected(&value), expire, 3);
                }
            }
        }
    }

    #[test]
    fn a_record_under_another_key_keeps_everything_else() {
        for &from in KEY_LENS {
            for &to in KEY_LENS {
                let (old, new) = (bytes(from, 4), bytes(to, 5));
                for value in values() {
                    for expire in [None, Some(Millis(4))] {
                        let record = Record::new(&old, value.clone(), expire, 5).with_key(&new);
                        check(&record, &new, &expected(&value), expire, 5);
                    }
                }
            }
        }
    }

    #[test]
    fn appending_gives_the_same_string_as_a_vector_would_through_every_encoding() {
        for seed in 0..if cfg!(miri) { 1 } else { 20 } {
            let mut rng = Rng::seed(seed);
            let start = rng.next_u64() as i64;
            let mut record = Record::new(b"key", NewValue::Int(start), Some(Millis(9)), 7);
            let mut model = start.to_string().into_bytes();
            while model.len() < 4 * INLINE_BYTES_MAX {
                let tail = bytes(rng.below(400) as usize, seed as u8);
                model.extend_from_slice(&tail);
                assert_eq!(record.append(&tail), model.len(), "seed {seed}");
                check(&record, b"key", &model, Some(Millis(9)), 7);
                assert_eq!(record.value().encoding_name(), "raw");
            }
        }
    }

    #[test]
    fn a_string_changed_in_place_is_raw_and_as_long_as_before() {
        for value in values() {
            let mut record = Record::new(b"key", value.clone(), Some(Millis(9)), 7);
            let mut model = expected(&value);
            model.iter_mut().for_each(|byte| *byte ^= 0x55);
            record.with_bytes_mut(|bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
            check(&record, b"key", &model, Some(Millis(9)), 7);
            assert_eq!(record.value().encoding_name(), "raw");
        }
    }

    #[test]
    fn a_string_changed_as_a_vector_finds_its_place_again() {
        for value in values() {
            for len in [0, 10, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1] {
                let mut record = Record::new(b"key", value.clone(), None, 7);
                let mut model = expected(&value);
                model.resize(len, 0);
                record.with_blob_mut(|bytes| bytes.resize(len, 0));
                check(&record, b"key", &model, None, 7);
                assert_eq!(record.value().encoding_name(), "raw");
                assert_eq!(matches!(record.value(), Value::Blob(_)), len > INLINE_BYTES_MAX);
            }
        }
    }

    #[test]
    fn a_blob_that_is_still_being_sent_does_not_change_under_its_reader() {
        let long = bytes(20_000, 1);
        let changes: [fn(&mut Record); 4] = [
            |record| assert_eq!(record.append(b"tail"), 20_004),
            |record| record.with_bytes_mut(|bytes| bytes.fill(0)),
            |record| record.with_blob_mut(Vec::clear),
            |record| record.set_value(NewValue::Bytes { bytes: &[1; 20_000], raw: true }),
        ];
        for change in changes {
            let blob = Arc::new(long.clone());
            let mut record = Record::new(b"key", NewValue::Blob(Arc::clone(&blob)), None, 0);
            change(&mut record);
            assert_eq!(*blob, long);
            assert_ne!(text(&record), long);
            drop(record);
            assert_eq!(Arc::strong_count(&blob), 1);
        }
    }

    #[test]
    fn overwriting_a_long_string_with_one_of_its_length_reuses_its_memory() {
        let mut record = Record::new(b"key", NewValue::Bytes { bytes: &[1; 9000], raw: true }, None, 0);
        let address = |record: &Record| record.value().text().as_ptr();
        let before = address(&record);
        record.set_value(NewValue::Bytes { bytes: &[2; 9000], raw: true });
        assert_eq!(address(&record), before);
        assert_eq!(text(&record), [2; 9000]);
    }

    #[test]
    fn a_slot_keeps_tag_and_record_apart() {
        for tag in [0, 1, TAG_MAX - 1, TAG_MAX] {
            for expire in [None, Some(Millis(1))] {
                let mut slot = Slot::new(tag, Record::new(b"key", NewValue::Int(1), expire, 0));
                assert!(!slot.is_empty());
                assert_eq!((slot.tag(), slot.expires()), (tag, expire.is_some()));
                slot = slot.with_tag(TAG_MAX - tag);
                assert_eq!((slot.tag(), slot.expires()), (TAG_MAX - tag, expire.is_some()));
                slot.update(|record| record.set_expire(Some(Millis(2))));
                slot.set_access(77);
                assert!(slot.expires());
                let entry = slot.entry().expect("full");
                assert_eq!((entry.key(), entry.access(), entry.expire_at()), (&b"key"[..], 77, Some(Millis(2))));
                assert_eq!(slot.take().map(|record| record.key().to_vec()), Some(b"key".to_vec()));
                assert!(slot.is_empty() && slot.take().is_none() && slot.entry().is_none());
                assert_eq!(slot.tag(), TAG_MAX);
            }
        }
    }

    #[test]
    fn the_access_word_has_24_bits_and_disturbs_nothing() {
        let mut record = Record::new(b"key", NewValue::Int(-1), Some(Millis(3)), u32::MAX);
        check(&record, b"key", b"-1", Some(Millis(3)), 0xff_ffff);
        record.set_access(0x1100_0001);
        check(&record, b"key", b"-1", Some(Millis(3)), 1);
    }
}
