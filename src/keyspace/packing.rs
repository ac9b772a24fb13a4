//! Strings that are kept compressed: how they come to be so, how they are counted, and the pass that looks for more of them.
//!
//! A packed string is the same string to every reader ([`Value::Packed`]); the first write to it makes it plain again. So packing changes
//! nothing that a client, a log or a snapshot could tell, and may be done at any time: by COMPRESS, or by the pass.
//!
//! ```text
//!   records   … [ seen ][ seen ] | next: a few at a time, those that the caller wants packed are noted
//!   noted     key, key, key      | one a step; a long one is packed by its blocks, a block a step
//! ```
//!
//! The pass belongs to whoever drives it, on the shard's core, and works in steps of bounded length. A long string is packed from a shared
//! copy of its blob, while clients may go on to use it: if the key has got another value meanwhile, the work is thrown away.
//!
//! Absent on purpose: which strings are worth it, the clock, and the CPU budget (`net::packing`).

use super::db::{Db, EntryMut};
use super::record::{Entry, Record};
use super::table::HashKey;
use super::value::{NewValue, Value};
use crate::base::Blob;
use crate::base::time::Millis;
use crate::types::packed::{BLOCK_BYTES, Packer};
use crate::types::{Object, Packed};

/// Records that one step of a pass looks at.
const RECORDS_PER_STEP: usize = 32;

/// What is packed, and what that saves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PackedCount {
    /// Strings.
    pub values: usize,
    /// Their bytes as clients see them.
    pub text_bytes: usize,
    /// Their bytes as they are kept.
    pub packed_bytes: usize,
}

impl PackedCount {
    /// This record's part of the count.
    #[inline]
    pub(super) fn of(record: &Record) -> Option<(usize, usize)> {
        match record.value() {
            Value::Packed(packed) => Some((packed.text_len(), packed.packed_len())),
            Value::Int(_) | Value::Inline { .. } | Value::Blob(_) | Value::Object(_) => None,
        }
    }

    /// A record comes.
    #[inline]
    pub(super) fn add(&mut self, one: Option<(usize, usize)>) {
        if let Some((text, packed)) = one {
            self.values += 1;
            self.text_bytes += text;
            self.packed_bytes += packed;
        }
    }

    /// A record goes.
    #[inline]
    pub(super) fn take(&mut self, one: Option<(usize, usize)>) {
        if let Some((text, packed)) = one {
            self.values -= 1;
            self.text_bytes -= text;
            self.packed_bytes -= packed;
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: PackedCount) -> PackedCount {
        PackedCount {
            values: self.values + other.values,
            text_bytes: self.text_bytes + other.text_bytes,
            packed_bytes: self.packed_bytes + other.packed_bytes,
        }
    }
}

impl<H: HashKey> EntryMut<'_, H> {
    /// Keeps the string compressed from now on; false if the value is no plain string, or too little would be gained.
    pub fn pack(&mut self) -> bool {
        let packed = match self.value() {
            Value::Inline { bytes, .. } => Packed::pack(bytes),
            Value::Blob(blob) => Packed::pack(blob),
            Value::Int(_) | Value::Packed(_) | Value::Object(_) => None,
        };
        packed.map(|packed| self.set_packed(packed)).is_some()
    }

    fn set_packed(&mut self, packed: Packed) {
        self.set_value(NewValue::Object(Box::new(Object::Packed(packed))));
    }

    /// Keeps the string as it is from now on; false if it was not compressed.
    pub fn unpack(&mut self) -> bool {
        let Value::Packed(packed) = self.value() else { return false };
        let text = packed.text();
        self.set_value(NewValue::Blob(Blob::new(text)));
        true
    }
}

/// Where a pass over one database is.
#[derive(Default)]
pub struct PackPass {
    cursor: u64,
    scanned: bool,
    noted: Vec<Box<[u8]>>,
    long: Option<Long>,
}

/// A string of several blocks that is being packed.
struct Long {
    key: Box<[u8]>,
    text: Blob,
    packer: Packer,
}

impl<H: HashKey> Db<H> {
    /// One step of a pass: the next block of a long string, or one short string, or a look at a few more records; `wanted` says which of
    /// them are to be packed. False when the pass has been over the whole database.
    pub fn pack_step(&mut self, pass: &mut PackPass, now: Millis, wanted: impl Fn(Entry<'_>) -> bool) -> bool {
        if let Some(long) = &mut pass.long {
            if long.packer.step(&long.text) || long.packer.is_hopeless() {
                let Long { key, text, packer } = pass.long.take().expect("it has just been worked on");
                self.put_packed(&key, &text, packer);
            }
            return true;
        }
        if let Some(key) = pass.noted.pop() {
            let Some(mut entry) = self.find_mut(&key) else { return true };
            match entry.value() {
                Value::Blob(blob) if blob.len() > BLOCK_BYTES => {
                    pass.long = Some(Long { text: Blob::clone(blob), key, packer: Packer::default() });
                }
                _ => {
                    entry.pack();
                }
            }
            return true;
        }
        if pass.scanned {
            return false;
        }
        let noted = &mut pass.noted;
        pass.cursor = self.scan(pass.cursor, RECORDS_PER_STEP, now, |entry| {
            if matches!(entry.value(), Value::Inline { .. } | Value::Blob(_)) && wanted(entry) {
                noted.push(entry.key().into());
            }
        });
        pass.scanned = pass.cursor == 0;
        true
    }

    /// Puts a packed text in the place of the blob that it was made from, if that is still there.
    fn put_packed(&mut self, key: &[u8], text: &Blob, packer: Packer) {
        if packer.is_hopeless() {
            return;
        }
        if let Some(mut entry) = self.find_mut(key)
            && let Value::Blob(now) = entry.value()
            && Blob::ptr_eq(now, text)
            && let Some(packed) = packer.finish(text)
        {
            entry.set_packed(packed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn db() -> Db {
        Db::new(ahash::RandomState::with_seeds(1, 2, 3, 4))
    }

    fn words(len: usize) -> Vec<u8> {
        b"a phrase that comes again; ".iter().copied().cycle().take(len).collect()
    }

    fn run(db: &mut Db, pass: &mut PackPass) -> usize {
        let mut steps = 0;
        while db.pack_step(pass, NOW, |_| true) {
            steps += 1;
            assert!(steps < 100_000, "a pass ends");
        }
        steps
    }

    #[test]
    fn a_packed_string_reads_as_before_and_takes_less() {
        let mut db = db();
        for len in [100, 4096, 5000, 300_000] {
            db.set(b"k", NewValue::string(&words(len)), Some(Millis(NOW.0 + 5)), 77);
            let before = db.memory().record_bytes;
            assert!(db.find_mut(b"k").unwrap().pack(), "{len}");
            let entry = db.find(b"k").unwrap();
            assert!(*entry.value().text() == *words(len));
            assert_eq!((entry.value().len(), entry.value().encoding_name()), (len, "lz4"));
            assert_eq!((entry.expire_at(), entry.access()), (Some(Millis(NOW.0 + 5)), 77));
            assert!(db.memory().record_bytes < before, "{len}");
            assert_eq!((db.packed().values, db.packed().text_bytes), (1, len));
            db.check_invariants();
            assert!(db.find_mut(b"k").unwrap().unpack(), "{len}");
            assert!(*db.find(b"k").unwrap().value().text() == *words(len));
            assert_eq!(db.packed(), PackedCount::default());
        }
    }

    #[test]
    fn what_writes_to_a_packed_string_finds_it_plain() {
        let mut db = db();
        let packed = |db: &mut Db| {
            db.set(b"k", NewValue::string(&words(10_000)), None, 0);
            assert!(db.find_mut(b"k").unwrap().pack());
        };
        packed(&mut db);
        assert_eq!(db.find_mut(b"k").unwrap().append(b"!"), 10_001);
        assert!(db.find(b"k").unwrap().value().text().ends_with(b"!"));
        packed(&mut db);
        db.find_mut(b"k").unwrap().with_bytes_mut(|bytes| bytes[0] = b'X');
        assert!(db.find(b"k").unwrap().value().text().starts_with(b"X phrase"));
        packed(&mut db);
        db.find_mut(b"k").unwrap().with_blob_mut(|bytes| bytes.truncate(3));
        assert_eq!(*db.find(b"k").unwrap().value().text(), *b"a p");
        packed(&mut db);
        db.set(b"k", NewValue::Int(5), None, 0);
        assert_eq!(db.packed(), PackedCount::default());
        packed(&mut db);
        let mut copy = db.remove(b"k").unwrap();
        assert_eq!((copy.value().len(), db.packed()), (10_000, PackedCount::default()));
        copy.set_expire(Some(Millis(NOW.0 - 1)));
        db.insert_record(copy);
        assert_eq!(db.packed().values, 1);
        assert_eq!(db.expire_due(NOW, 100, |_| ()).expired, 1);
        assert_eq!(db.packed(), PackedCount::default());
        db.check_invariants();
    }

    #[test]
    fn a_pass_packs_what_is_wanted_and_leaves_the_rest() {
        let mut db = db();
        let mut rng = Rng::seed(5);
        for number in 0..2000 {
            let len = 10 + rng.below(3000) as usize;
            db.set(format!("key:{number}").as_bytes(), NewValue::string(&words(len)), None, 0);
        }
        let noise: Vec<u8> = (0..20_000).map(|_| rng.next_u64() as u8).collect();
        db.set(b"noise", NewValue::string(&noise), None, 0);
        db.set(b"number", NewValue::Int(3), None, 0);
        let mut pass = PackPass::default();
        while db.pack_step(&mut pass, NOW, |entry| entry.value().len() > 1000) {}
        let (mut packed, mut plain) = (0, 0);
        db.scan(0, usize::MAX, NOW, |entry| match entry.value() {
            Value::Packed(value) => {
                assert!(value.text_len() > 1000);
                packed += 1;
            }
            value => {
                assert!(value.len() <= 1000 || entry.key() == b"noise");
                plain += 1;
            }
        });
        assert!(packed > 1000 && plain > 500, "{packed} {plain}");
        assert_eq!(db.packed().values, packed);
        db.check_invariants();
    }

    #[test]
    fn a_long_string_is_packed_by_the_block_unless_it_changes_meanwhile() {
        let mut db = db();
        let long = words(10 * BLOCK_BYTES);
        db.set(b"long", NewValue::string(&long), None, 0);
        let mut pass = PackPass::default();
        assert!(run(&mut db, &mut pass) >= 10);
        assert_eq!(db.packed().values, 1);
        assert!(*db.find(b"long").unwrap().value().text() == *long);

        db.set(b"long", NewValue::string(&long), None, 0);
        let mut pass = PackPass::default();
        for _ in 0..5 {
            db.pack_step(&mut pass, NOW, |_| true);
        }
        db.find_mut(b"long").unwrap().append(b"!");
        run(&mut db, &mut pass);
        assert_eq!(db.packed().values, 0, "what was packed is not what is there");
        assert!(db.find(b"long").unwrap().value().text().ends_with(b"!"));
    }
}
