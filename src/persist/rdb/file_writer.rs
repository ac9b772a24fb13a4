//! Writing RDB files, in parts: what each part looks like is drawn in [`super::file`].
//!
//! ```text
//!   version(10)   opening.take()   body of shard 0   body of shard 1   end(sum of all that, checksum)
//!   9 bytes       AUX, libraries   SELECTDB, keys    SELECTDB, keys    9 bytes
//! ```
//!
//! A [`BodyWriter`] makes one part: it belongs to the core whose keys it writes, and is drained whenever enough has come together. A
//! part says by itself to which databases its keys belong, and has a [`Sum`] of its own: parts of several shards stand one behind the
//! other in one file, or each in a file of its own, and nobody reads them again to seal it.
//!
//! The version stands in front and should be the lowest that holds what follows, so that older servers load the file: 10 for streams and
//! libraries, 12 for fields that expire. Who writes to a file leaves room for it and writes it when all parts have said what they need
//! ([`BodyWriter::version_min`]): `version(9)` is as long as `version(12)`, and the sum of the file is put together at the end anyway.
//! Who writes to a socket has to choose before; nothing that is asked of a keyspace beforehand stays true while it is walked.
//!
//! Sans-IO: bytes and nothing else; the time comes in. Invariant: a part ends behind a whole record whenever its caller looks. A value is
//! written in one piece, so a buffer is as long as the longest value at least. Absent on purpose: types that only later servers know,
//! where an older form holds the same value.

use super::file::{AUX, END, EXPIRES_MS, FREQUENCY, FUNCTION, IDLE, RESIZE_DB, SELECT_DB, Used, VERSION_BYTES};
use super::{Sum, Writer, encode, form_of};
use crate::base::DbIndex;
use crate::base::time::Millis;
use crate::keyspace::Value;

/// The lowest version that is written: that of Redis 5.0, the first to know how keys are used.
pub const VERSION_MIN: u16 = 9;
/// The highest: that of Redis 7.4, for fields that expire.
pub const VERSION_MAX: u16 = 12;
const VERSION_OF_FUNCTIONS: u16 = 10;

/// Behind the last part: the mark and the checksum.
pub const END_BYTES: usize = 1 + 8;

/// What a file begins with.
pub fn version(number: u16) -> [u8; VERSION_BYTES] {
    assert!((VERSION_MIN..=VERSION_MAX).contains(&number), "version {number} is not one that is written");
    let mut bytes = *b"REDIS0000";
    bytes[7] += (number / 10) as u8;
    bytes[8] += (number % 10) as u8;
    bytes
}

/// What a file ends with, after parts that sum up to `before`, the version included. `rdbchecksum no` writes zeros for a checksum.
pub fn end(before: Sum, rdbchecksum: bool) -> [u8; END_BYTES] {
    let mut bytes = [0; END_BYTES];
    bytes[0] = END;
    if rdbchecksum {
        let mut sum = before;
        sum.update(&bytes[..1]);
        bytes[1..].copy_from_slice(&sum.crc64().to_le_bytes());
    }
    bytes
}

/// What Redis tells of itself at the start of a file. Redis logs some of it at load; all of it may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The Redis version that this server speaks for.
    pub redis_version: &'a str,
    /// When the file was begun.
    pub now: Millis,
    /// Bytes in use.
    pub used_memory: u64,
    /// Whether an AOF is appended to this.
    pub aof_base: bool,
}

/// What a file says of a key besides its value.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyFacts {
    /// When it expires.
    pub expires: Option<Millis>,
    /// See [`Used`]. Redis writes it only under a policy that evicts by it.
    pub used: Used,
}

/// One part of a file. See the module.
#[derive(Debug)]
pub struct BodyWriter {
    out: Vec<u8>,
    taken: Sum,
    db: Option<DbIndex>,
    compress: bool,
    version_min: u16,
}

impl BodyWriter {
    /// `compress` is `rdbcompression`.
    pub fn new(compress: bool) -> BodyWriter {
        BodyWriter { out: Vec::new(), taken: Sum::default(), db: None, compress, version_min: VERSION_MIN }
    }

    /// The lowest version of a file that holds what was written.
    pub fn version_min(&self) -> u16 {
        self.version_min
    }

    /// How many bytes wait to be taken.
    pub fn waiting_bytes(&self) -> usize {
        self.out.len()
    }

    /// What was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        self.taken.update(&self.out);
        std::mem::take(&mut self.out)
    }

    /// As [`BodyWriter::take`], to the end of a buffer; what this writer allocated stays with it.
    pub fn take_into(&mut self, buffer: &mut Vec<u8>) {
        self.taken.update(&self.out);
        buffer.append(&mut self.out);
    }

    /// Of all that was taken, which has to be all that was written.
    pub fn sum(&self) -> Sum {
        assert!(self.out.is_empty(), "the end of a part was not taken");
        self.taken
    }

    /// The fields that Redis writes first.
    pub fn origin(&mut self, origin: &Origin<'_>) {
        self.aux(b"redis-ver", origin.redis_version.as_bytes());
        self.aux(b"redis-bits", usize::BITS.to_string().as_bytes());
        self.aux(b"ctime", origin.now.0.div_euclid(1000).to_string().as_bytes());
        self.aux(b"used-mem", origin.used_memory.to_string().as_bytes());
        self.aux(b"aof-base", if origin.aof_base { b"1" } else { b"0" });
    }

    /// A field with a name. Servers overlook those that they do not know; ours begin with `annulus-`.
    pub fn aux(&mut self, name: &[u8], value: &[u8]) {
        self.out.push(AUX);
        self.writer(|writer| {
            writer.string(name);
            writer.string(value);
        });
    }

    /// A library of functions, by its source.
    pub fn function(&mut self, source: &[u8]) {
        self.out.push(FUNCTION);
        self.writer(|writer| writer.string(source));
        self.version_min = self.version_min.max(VERSION_OF_FUNCTIONS);
    }

    /// How many keys a database has or is about to get, and how many of them expire. A hint; it may be given more than once.
    pub fn resize(&mut self, db: DbIndex, keys: u64, expiring: u64) {
        self.select(db);
        self.out.push(RESIZE_DB);
        self.writer(|writer| {
            writer.length(keys);
            writer.length(expiring);
        });
    }

    /// A key as it is at `now`. False if nothing is left of its value (a hash whose last field has expired): then nothing is written.
    /// A key that has expired as a whole is written all the same; Redis loads it and lets it expire.
    pub fn key(&mut self, db: DbIndex, key: &[u8], value: Value<'_>, facts: KeyFacts, now: Millis) -> bool {
        let mark = self.out.len();
        let selected = self.db;
        self.select(db);
        match write_key(&mut self.out, key, value, facts, now, self.compress) {
            Some(version) => {
                self.version_min = self.version_min.max(version);
                true
            }
            None => {
                self.out.truncate(mark);
                self.db = selected;
                false
            }
        }
    }

    fn select(&mut self, db: DbIndex) {
        if self.db != Some(db) {
            self.db = Some(db);
            self.out.push(SELECT_DB);
            self.writer(|writer| writer.length(u64::from(db.0)));
        }
    }

    fn writer(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        let mut writer = Writer::new(&mut self.out, self.compress);
        write(&mut writer);
        self.version_min = writer.version_min().max(self.version_min);
    }
}

/// The name of a field that stands before a key whose string was kept compressed, so that it is again when it was loaded. Other servers
/// overlook it, as they do every field that they do not know, wherever it stands.
pub const PACKED_NEXT: &[u8] = b"annulus-packed";

/// Appends what says that keys of this database follow.
pub fn select_db(out: &mut Vec<u8>, db: DbIndex) {
    out.push(SELECT_DB);
    Writer::new(out, false).length(u64::from(db.0));
}

/// Appends a key as it is at `now`, and gives the lowest version of a file that holds it; none, and nothing is appended, if nothing is
/// left of its value.
pub fn write_key(
    out: &mut Vec<u8>,
    key: &[u8],
    value: Value<'_>,
    facts: KeyFacts,
    now: Millis,
    compress: bool,
) -> Option<u16> {
    let form = form_of(value, now)?;
    if matches!(value, Value::Packed(_)) {
        out.push(AUX);
        let mut writer = Writer::new(out, compress);
        writer.string(PACKED_NEXT);
        writer.string(b"1");
    }
    if let Some(due) = facts.expires {
        out.push(EXPIRES_MS);
        out.extend_from_slice(&due.0.to_le_bytes());
    }
    match facts.used {
        Used::Unsaid => {}
        Used::SecsAgo(secs) => {
            out.push(IDLE);
            Writer::new(out, compress).length(secs);
        }
        Used::Often(count) => out.extend_from_slice(&[FREQUENCY, count]),
    }
    out.push(form.type_byte);
    let mut writer = Writer::new(out, compress);
    writer.string(key);
    encode(value, now, &mut writer);
    Some(form.version.max(writer.version_min()))
}

#[cfg(test)]
mod tests {
    use super::super::file_reader::{Checksum, Step};
    use super::super::{Decoded, FileReader, Limits};
    use super::*;
    use crate::base::rng::Rng;
    use crate::config::Config;
    use crate::types::hash::HashLimits;
    use crate::types::{DataType, Hash, Object};

    const NOW: Millis = Millis(1_700_000_000_000);

    fn text(bytes: &[u8]) -> Value<'_> {
        Value::Inline { bytes, raw: true }
    }

    #[test]
    fn a_part_is_written_as_drawn() {
        let mut part = BodyWriter::new(true);
        part.aux(b"annulus-shard", b"3");
        part.function(b"#!lua");
        part.resize(DbIndex(0), 2, 1);
        let facts = KeyFacts { expires: Some(Millis(1_000_000)), used: Used::SecsAgo(256) };
        assert!(part.key(DbIndex(0), b"k", text(b"v"), facts, NOW));
        assert!(part.key(DbIndex(0), b"12", Value::Int(7), KeyFacts::default(), NOW));
        let facts = KeyFacts { expires: None, used: Used::Often(255) };
        assert!(part.key(DbIndex(9), b"l", text(b""), facts, NOW));
        let expected = [
            &b"\xfa\x0dannulus-shard\xc0\x03\xf5\x05#!lua\xfe\x00\xfb\x02\x01"[..],
            b"\xfc\x40\x42\x0f\0\0\0\0\0\xf8\x41\x00\x00\x01k\x01v\x00\xc0\x0c\xc0\x07",
            b"\xfe\x09\xf9\xff\x00\x01l\x00",
        ];
        let written = part.take();
        assert_eq!(written, expected.concat(), "{}", written.escape_ascii());
        assert_eq!(part.sum(), Sum::of(&written));
    }

    #[test]
    fn the_version_follows_from_what_was_written() {
        assert_eq!((&version(9), &version(10), &version(12)), (b"REDIS0009", b"REDIS0010", b"REDIS0012"));
        let mut part = BodyWriter::new(true);
        part.key(DbIndex(0), b"k", text(b"v"), KeyFacts::default(), NOW);
        assert_eq!(part.version_min(), 9);
        part.function(b"#!lua");
        assert_eq!(part.version_min(), 10);
        let mut hash = Hash::default();
        hash.set(b"f", b"v", HashLimits { listpack_entries: 8, listpack_value: 8 });
        hash.set_deadline(b"f", Some(Millis(NOW.0 + 1)));
        let object = hash.into_object();
        assert!(part.key(DbIndex(0), b"h", Value::Object(&object), KeyFacts::default(), NOW));
        assert_eq!(part.version_min(), 12);
        part.take();
        assert!(!part.key(DbIndex(5), b"h", Value::Object(&object), KeyFacts::default(), Millis(NOW.0 + 1)));
        assert_eq!(part.waiting_bytes(), 0, "of a hash that has expired nothing is left, not even its database");
    }

    type Key = (u16, Vec<u8>, Option<i64>, Used, Vec<u8>);

    fn keys(rng: &mut Rng) -> Vec<Key> {
        let mut all: Vec<Key> = (0..rng.below(60))
            .map(|n| {
                let mut value = vec![b'x'; *rng.pick(&[0, 1, 63, 64, 300, 20_000])];
                if rng.chance(1, 2) {
                    rng.fill(&mut value);
                }
                let used = match rng.below(3) {
                    0 => Used::Unsaid,
                    1 => Used::SecsAgo(rng.next_u64() >> rng.below(64)),
                    _ => Used::Often(rng.below(256) as u8),
                };
                let expires = rng.chance(1, 3).then(|| (rng.next_u64() >> 1) as i64);
                (
                    *rng.pick(&[0, 0, 1, 15, 300]),
                    format!("{n}").repeat(1 + n as usize % 9).into_bytes(),
                    expires,
                    used,
                    value,
                )
            })
            .collect();
        all.sort_by_key(|(db, ..)| *db);
        all
    }

    #[test]
    fn parts_of_several_writers_make_one_file_that_reads_back() {
        for seed in 0..200 {
            let mut rng = Rng::seed(seed);
            let mut opening = BodyWriter::new(rng.chance(1, 2));
            opening.origin(&Origin { redis_version: "7.4.0", now: NOW, used_memory: 1 << 30, aof_base: false });
            let mut file = version(10).to_vec();
            file.extend(opening.take());
            let mut sum = Sum::of(&version(10)).then(opening.sum());
            let mut expected = Vec::new();
            for _ in 0..rng.below(4) {
                let mut part = BodyWriter::new(rng.chance(1, 2));
                let part_keys = keys(&mut rng);
                for (db, key, expires, used, value) in &part_keys {
                    let facts = KeyFacts { expires: expires.map(Millis), used: *used };
                    assert!(part.key(DbIndex(*db), key, text(value), facts, NOW));
                    if part.waiting_bytes() > 30_000 {
                        part.take_into(&mut file);
                    }
                }
                file.extend(part.take());
                sum = sum.then(part.sum());
                expected.extend(part_keys);
            }
            assert_eq!(sum, Sum::of(&file), "seed {seed}");
            let checksum = rng.chance(1, 2);
            file.extend(end(sum, checksum));

            let mut reader = FileReader::new(Limits::of(&Config::default()), true);
            let (mut found, mut names) = (Vec::new(), Vec::new());
            let mut pieces = file.chunks(1 + rng.below(5000) as usize);
            let ended = loop {
                match reader.next().unwrap_or_else(|damage| panic!("seed {seed}: {damage}")) {
                    Step::NeedMore => match pieces.next() {
                        Some(piece) => reader.feed(piece),
                        None => reader.end_of_input(),
                    },
                    Step::Aux(name, _) => names.push(String::from_utf8_lossy(&name).into_owned()),
                    Step::Entry(entry) => {
                        let Decoded::String(value) = entry.value else { panic!("seed {seed}: a string") };
                        let expires = entry.expires.map(|due| due.0);
                        found.push((entry.db.0, entry.key.into_owned(), expires, entry.used, value));
                    }
                    Step::End(checksum) => break checksum,
                    _ => {}
                }
            };
            assert!(found == expected, "seed {seed}");
            assert_eq!(names, ["redis-ver", "redis-bits", "ctime", "used-mem", "aof-base"]);
            assert_eq!(ended, if checksum { Checksum::Right } else { Checksum::Absent });
            assert_eq!((reader.offset(), reader.rest()), (file.len() as u64, &b""[..]));
        }
    }

    #[test]
    #[should_panic(expected = "was not taken")]
    fn the_sum_of_a_part_waits_for_its_end() {
        let mut part = BodyWriter::new(true);
        part.key(DbIndex(0), b"k", text(b"v"), KeyFacts::default(), NOW);
        part.sum();
    }

    #[test]
    fn objects_keep_their_type() {
        let mut hash = Hash::default();
        hash.set(b"f", b"v", HashLimits { listpack_entries: 8, listpack_value: 8 });
        let object = hash.into_object();
        let mut part = BodyWriter::new(true);
        part.key(DbIndex(0), b"h", Value::Object(&object), KeyFacts::default(), NOW);
        let mut reader = FileReader::new(Limits::of(&Config::default()), false);
        reader.feed(&[&version(9)[..], &part.take()].concat());
        while let Ok(step) = reader.next() {
            if let Step::Entry(entry) = step {
                assert_eq!(entry.type_byte, 4);
                assert!(matches!(entry.value, Decoded::Object(Object::Hash(_))));
                return;
            }
        }
        panic!("no key was read");
    }
}
