//! Reading RDB files: bytes go in as they come, and records come out. What they look like is drawn in [`super::file`].
//!
//! ```text
//!   feed(bytes) ──> [ … read | record | record | rec ]        next() ──> Header, Aux …, Entry, Entry, NeedMore
//!                             ^start                  ^end    feed(more) …, or end_of_input() ──> Damage
//! ```
//!
//! A reader belongs to the task that loads one file. A record is tried only when it may be complete: after a try that ended too early
//! there must be as many bytes as were missing, and twice as many as there were. So a long value is decoded some few times in part and
//! once as a whole, whatever the pieces are. (It may ask for more than the record needs, so whoever has fed everything must say so.)
//!
//! Invariants. Nothing is allocated for what was only announced: memory follows the bytes that were fed, and those of one record are
//! held at most twice over, with its value. What follows the end of the file is not touched: in an AOF that begins with RDB, commands
//! follow at [`FileReader::offset`]. After damage the reader says the same again and nothing else.
//!
//! Absent on purpose: files, clocks, and keys. The reader does not know which keys it has seen ([`Reason::KeyTwice`] is said by who
//! does), nor what time it is: keys that have expired come out like others.

use std::borrow::Cow;

use super::file::{
    AUX, Damage, END, EXPIRES_MS, EXPIRES_SECS, FREQUENCY, FUNCTION, FUNCTION_RC, IDLE, KEY_META_OR_SLOT_IMPORT,
    MODULE, MODULE_AUX, MODULE_RC, RESIZE_DB, Reason, SELECT_DB, SLOT_INFO, Used, VERSION_BYTES, Version,
};
use super::{DecodeError, Decoded, Limits, Reader, Sum, decode, decode_valkey};
use crate::base::DbIndex;
use crate::base::time::Millis;

/// An empty buffer larger than this is given back.
const IDLE_BUFFER_BYTES: usize = 1 << 20;

/// What [`FileReader::next`] found.
#[derive(Debug)]
pub enum Step<'a> {
    /// The next record is not complete. Feed more, or say that there is no more.
    NeedMore,
    /// The version, which comes first.
    Header(Version),
    /// A field with a name.
    Aux(Cow<'a, [u8]>, Cow<'a, [u8]>),
    /// Keys of this database follow.
    SelectDb(DbIndex),
    /// The selected database has so many keys, and so many that expire. A hint, and whatever the file says.
    ResizeDb {
        /// Keys.
        keys: u64,
        /// Those of them that expire.
        expiring: u64,
    },
    /// The source of a function library.
    Function(Cow<'a, [u8]>),
    /// A key.
    Entry(Entry<'a>),
    /// A key whose value has no elements, which no server keeps; old ones wrote some. Redis skips it too.
    EmptyKey(DbIndex, Cow<'a, [u8]>),
    /// A key whose value belongs to the module type of this name. Comes only from a reader that was told to skip them; others call it
    /// damage, as whoever loads would lose the key.
    ModuleKey(DbIndex, Cow<'a, [u8]>, [u8; 9]),
    /// Something that is of no use here: the sizes of a slot, what a module kept beside its keys.
    Skipped(&'static str),
    /// The file is complete. What follows in the input is not its own.
    End(Checksum),
}

/// A key with all that the file says of it.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where its record begins, bytes from the start of the file.
    pub offset: u64,
    /// Its database.
    pub db: DbIndex,
    /// Its name.
    pub key: Cow<'a, [u8]>,
    /// When it expires, perhaps long ago.
    pub expires: Option<Millis>,
    /// How it was used.
    pub used: Used,
    /// The type of the value as the file has it.
    pub type_byte: u8,
    /// The value.
    pub value: Decoded,
}

/// What the end of a file says about all before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// It is right.
    Right,
    /// It was not compared, as was asked.
    Unchecked,
    /// There is none: an old version, or a server with `rdbchecksum no`.
    Absent,
}

/// See the module.
pub struct FileReader {
    limits: Limits,
    buffer: Vec<u8>,
    /// Up to here the buffer was read.
    start: usize,
    /// Up to here it was summed up.
    summed: usize,
    sum: Sum,
    verify: bool,
    skip_modules: bool,
    /// Where the buffer begins in the file.
    buffer_offset: u64,
    /// How many bytes must be there before the next try.
    wanted: usize,
    input_ended: bool,
    place: Place,
    db: DbIndex,
}

/// Where in the file the next byte stands.
#[derive(Clone, Copy)]
enum Place {
    Start,
    Records(Version),
    Behind(Checksum),
    Broken(Damage),
}

impl FileReader {
    /// A reader at the start of a file. `verify` says whether the checksum at the end is compared.
    pub fn new(limits: Limits, verify: bool) -> FileReader {
        FileReader {
            limits,
            buffer: Vec::new(),
            start: 0,
            summed: 0,
            sum: Sum::default(),
            verify,
            skip_modules: false,
            buffer_offset: 0,
            wanted: 0,
            input_ended: false,
            place: Place::Start,
            db: DbIndex(0),
        }
    }

    /// The same reader, going on behind values of modules.
    pub fn skipping_modules(self) -> FileReader {
        FileReader { skip_modules: true, ..self }
    }

    /// Adds what follows in the file. Pieces of some ten kilobytes or more are fastest.
    pub fn feed(&mut self, bytes: &[u8]) {
        assert!(!self.input_ended, "nothing follows the end");
        self.sum_up();
        self.buffer.drain(..self.start);
        self.buffer_offset += self.start as u64;
        (self.start, self.summed) = (0, 0);
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Says that nothing follows: what is not complete now is damage. Must be said, as [`Step::NeedMore`] may ask for more than the last
    /// records need.
    pub fn end_of_input(&mut self) {
        self.input_ended = true;
    }

    /// Up to where the file was read: behind the last record that came out, and at the end behind the file.
    pub fn offset(&self) -> u64 {
        self.buffer_offset + self.start as u64
    }

    /// What was fed and not read; after [`Step::End`] that is what follows the file.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The next record.
    #[expect(clippy::should_implement_trait, reason = "records borrow from the reader, which an iterator's cannot")]
    pub fn next(&mut self) -> Result<Step<'_>, Damage> {
        let input = &self.buffer[self.start..];
        if input.len() < self.wanted && !self.input_ended {
            return Ok(Step::NeedMore);
        }
        let mut reader = Reader::new(input);
        let record = match self.place {
            Place::Start => header(&mut reader),
            Place::Records(version) => record(&mut reader, version, self.db, self.skip_modules, &self.limits),
            Place::Behind(checksum) => return Ok(Step::End(checksum)),
            Place::Broken(damage) => return Err(damage),
        };
        let read = input.len() - reader.remaining();
        let offset = self.buffer_offset + self.start as u64;
        let record = match record {
            Ok(record) => record,
            Err(Reason::Bytes(DecodeError::Truncated)) if !self.input_ended => {
                let missing = usize::try_from(reader.missing()).unwrap_or(usize::MAX);
                self.wanted = input.len().saturating_add(missing.max(input.len()));
                return Ok(Step::NeedMore);
            }
            Err(reason) => {
                let (reason, stopped) = match reason {
                    Reason::Bytes(DecodeError::Truncated) => (Reason::EndsEarly, input.len()),
                    other => (other, read),
                };
                let damage = Damage { offset: offset + stopped as u64, record: offset, reason };
                self.place = Place::Broken(damage);
                return Err(damage);
            }
        };
        self.start += read;
        self.wanted = 0;
        Ok(match record {
            Record::Step(mut step) => {
                match &mut step {
                    Step::Header(version) => self.place = Place::Records(*version),
                    Step::SelectDb(db) => self.db = *db,
                    Step::Entry(entry) => entry.offset = offset,
                    _ => {}
                }
                step
            }
            Record::End { stated } => {
                let checksum = match stated {
                    None | Some(0) => Checksum::Absent,
                    Some(_) if !self.verify => Checksum::Unchecked,
                    Some(stated) => {
                        let checksum_at = self.start - size_of::<u64>();
                        self.sum.update(&self.buffer[self.summed..checksum_at]);
                        self.summed = self.start;
                        let computed = self.sum.crc64();
                        if stated != computed {
                            let at = offset + read as u64 - size_of::<u64>() as u64;
                            let damage = Damage::at(at, Reason::Checksum { stated, computed });
                            self.place = Place::Broken(damage);
                            return Err(damage);
                        }
                        Checksum::Right
                    }
                };
                self.place = Place::Behind(checksum);
                Step::End(checksum)
            }
        })
    }

    fn sum_up(&mut self) {
        if self.verify && !matches!(self.place, Place::Behind(_)) {
            self.sum.update(&self.buffer[self.summed..self.start]);
        }
        self.summed = self.start;
    }
}

enum Record<'a> {
    Step(Step<'a>),
    End { stated: Option<u64> },
}

type Read<'a> = Result<Record<'a>, Reason>;

impl From<DecodeError> for Reason {
    fn from(error: DecodeError) -> Reason {
        Reason::Bytes(error)
    }
}

fn header<'a>(reader: &mut Reader<'a>) -> Read<'a> {
    // What is no RDB should not have to be longer to be called so.
    let start = reader.clone().bytes(reader.remaining().min(VERSION_BYTES) as u64)?;
    if !b"REDIS".starts_with(&start[..start.len().min(5)]) && !b"VALKEY".starts_with(&start[..start.len().min(6)]) {
        return Err(Reason::NotRdb);
    }
    let version = Version::parse(&reader.array()?).ok_or(Reason::NotRdb)?;
    if version.is_known() { Ok(Record::Step(Step::Header(version))) } else { Err(Reason::Version(version)) }
}

fn record<'a>(reader: &mut Reader<'a>, version: Version, db: DbIndex, skip_modules: bool, limits: &Limits) -> Read<'a> {
    let string_max = limits.string_bytes_max;
    let mut ahead = reader.clone();
    let step = match ahead.u8()? {
        AUX => {
            *reader = ahead;
            Step::Aux(reader.string(string_max)?, reader.string(string_max)?)
        }
        SELECT_DB => {
            *reader = ahead;
            let number = reader.length()?;
            Step::SelectDb(DbIndex(u16::try_from(number).map_err(|_| Reason::Database(number))?))
        }
        RESIZE_DB => {
            *reader = ahead;
            Step::ResizeDb { keys: reader.length()?, expiring: reader.length()? }
        }
        FUNCTION => {
            *reader = ahead;
            Step::Function(reader.string(string_max)?)
        }
        SLOT_INFO => {
            *reader = ahead;
            for _ in 0..3 {
                reader.length()?;
            }
            Step::Skipped("the size of a slot")
        }
        MODULE_AUX => {
            *reader = ahead;
            skip_module_aux(reader, string_max)?;
            Step::Skipped("what a module kept beside its keys")
        }
        END => {
            *reader = ahead;
            let stated = match version.has_checksum() {
                true => Some(u64::from_le_bytes(reader.array()?)),
                false => None,
            };
            return Ok(Record::End { stated });
        }
        FUNCTION_RC => {
            return Err(Reason::Unsupported(FUNCTION_RC, "a function library of a release candidate of Redis 7.0"));
        }
        KEY_META_OR_SLOT_IMPORT => {
            let what = match version {
                Version::Redis(_) => "metadata that a module gave to a key",
                Version::Valkey(_) => "a slot that was being imported",
            };
            return Err(Reason::Unsupported(KEY_META_OR_SLOT_IMPORT, what));
        }
        _ => return key(reader, version, db, skip_modules, limits),
    };
    Ok(Record::Step(step))
}

fn key<'a>(reader: &mut Reader<'a>, version: Version, db: DbIndex, skip_modules: bool, limits: &Limits) -> Read<'a> {
    let (mut expires, mut used) = (None, Used::Unsaid);
    let type_byte = loop {
        let mut ahead = reader.clone();
        let byte = ahead.u8()?;
        match byte {
            EXPIRES_MS | EXPIRES_SECS | IDLE | FREQUENCY => *reader = ahead,
            _ => break byte,
        }
        match byte {
            // -1 says that it does not.
            EXPIRES_MS => expires = Some(reader.i64()?).filter(|due| *due != -1).map(Millis),
            EXPIRES_SECS => expires = Some(Millis(i64::from(i32::from_le_bytes(reader.array()?)) * 1000)),
            IDLE => used = Used::SecsAgo(reader.length()?),
            _ => used = Used::Often(reader.u8()?),
        }
    };
    if type_byte > TYPE_MAX {
        return Err(DecodeError::UnknownType(type_byte).into());
    }
    reader.u8()?;
    let key = reader.string(limits.string_bytes_max)?;
    let value = match (type_byte, version) {
        (MODULE, _) => {
            let name = module_name(reader.length()?);
            if !skip_modules {
                return Err(Reason::Module(name));
            }
            skip_module_items(reader, limits.string_bytes_max)?;
            return Ok(Record::Step(Step::ModuleKey(db, key, name)));
        }
        (MODULE_RC, _) => {
            return Err(Reason::Unsupported(MODULE_RC, "a value of a module, in a form before Redis 4.0"));
        }
        (_, Version::Redis(_)) => decode(type_byte, reader, limits),
        (_, Version::Valkey(_)) => decode_valkey(type_byte, reader, limits),
    };
    Ok(Record::Step(match value {
        Ok(value) => Step::Entry(Entry { offset: 0, db, key, expires, used, type_byte, value }),
        Err(DecodeError::Empty) => Step::EmptyKey(db, key),
        Err(error) => return Err(error.into()),
    }))
}

/// No type has a higher number than this; what does is looked at before its key is waited for.
const TYPE_MAX: u8 = 63;

const BAD_MODULE: DecodeError = DecodeError::Corrupt("what a module saved is damaged");

fn skip_module_aux(reader: &mut Reader<'_>, string_max: usize) -> Result<(), DecodeError> {
    reader.length()?;
    if reader.length()? != 2 {
        return Err(BAD_MODULE);
    }
    reader.length()?;
    skip_module_items(reader, string_max)
}

fn skip_module_items(reader: &mut Reader<'_>, string_max: usize) -> Result<(), DecodeError> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => {
                reader.length()?;
            }
            3 => {
                reader.bytes(4)?;
            }
            4 => {
                reader.bytes(8)?;
            }
            5 => {
                reader.string(string_max)?;
            }
            _ => return Err(BAD_MODULE),
        }
    }
}

/// Nine characters of six bits each; the ten bits below them are a version of the module's own.
fn module_name(id: u64) -> [u8; 9] {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::array::from_fn(|at| CHARACTERS[(id >> (58 - 6 * at)) as usize & 63])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits() -> Limits {
        Limits::of(&Config::default())
    }

    /// What comes out of a file that is fed in pieces of this many bytes, one line a step.
    fn shown(file: &[u8], piece: usize) -> Vec<String> {
        let mut reader = FileReader::new(limits(), true);
        let mut lines = Vec::new();
        let mut pieces = file.chunks(piece);
        loop {
            match reader.next() {
                Ok(Step::NeedMore) => match pieces.next() {
                    Some(bytes) => reader.feed(bytes),
                    None => reader.end_of_input(),
                },
                Ok(Step::End(checksum)) => {
                    lines.push(format!("End {checksum:?} at {}", reader.offset()));
                    return lines;
                }
                Ok(Step::Entry(entry)) => {
                    let text = match &entry.value {
                        Decoded::String(text) => text.clone(),
                        Decoded::Object(object) => format!("{object:?}").into_bytes(),
                    };
                    lines.push(format!(
                        "{} {} = {} {:?} {:?}",
                        entry.db.0,
                        entry.key.escape_ascii(),
                        text.escape_ascii(),
                        entry.expires.map(|due| due.0),
                        entry.used
                    ));
                }
                Ok(Step::Aux(name, value)) => {
                    lines.push(format!("{}={}", name.escape_ascii(), value.escape_ascii()));
                }
                Ok(step) => lines.push(format!("{step:?}")),
                Err(damage) => {
                    lines.push(damage.to_string());
                    assert_eq!(reader.next().map(|_| ()), Err(damage), "damage stays");
                    return lines;
                }
            }
        }
    }

    #[track_caller]
    fn check(file: &[u8], expected: &[&str]) {
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(shown(file, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn every_record_comes_out_whatever_the_pieces_are() {
        let mut file = b"REDIS0011\xfa\x01a\xc0\x07\xf5\x03lua\xf4\x05\x01\0\xfe\x00\xfb\x02\x01".to_vec();
        // A module's: a string, a float, a double, two numbers.
        file.extend(b"\xf7\x81\0\0\0\0\0\0\0\x01\x02\x02\x05\x02ab\x03ffff\x04dddddddd\x01\x07\x02\x40\x99\0");
        file.extend(b"\xfc\x40\x42\x0f\0\0\0\0\0\x00\x01k\x01v");
        file.extend(b"\xf8\x41\x00\x00\x01l\xc1\x00\x01\xf9\xff\x00\xc0\x03\x00\xfe\x40\x99");
        file.extend(b"\xfd\xff\xff\xff\xff\xf9\x01\x00\x01m\x01w\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01n\x01x");
        file.extend(b"\x01\x01e\x00\xff");
        let sum = Sum::of(&file).crc64();
        file.extend(sum.to_le_bytes());
        let len = file.len();
        file.extend(b"*1\r\n$4\r\nPING\r\n");
        check(
            &file,
            &[
                "Header(Redis(11))",
                "a=7",
                "Function([108, 117, 97])",
                "Skipped(\"the size of a slot\")",
                "SelectDb(DbIndex(0))",
                "ResizeDb { keys: 2, expiring: 1 }",
                "Skipped(\"what a module kept beside its keys\")",
                "0 k = v Some(1000000) Unsaid",
                "0 l = 256 None SecsAgo(256)",
                "0 3 =  None Often(255)",
                "SelectDb(DbIndex(153))",
                "153 m = w Some(-1000) Often(1)",
                "153 n = x None Unsaid",
                "EmptyKey(DbIndex(153), [101])",
                &format!("End Right at {len}"),
            ],
        );
    }

    #[test]
    fn the_end_says_where_it_was_and_leaves_the_rest() {
        let mut reader = FileReader::new(limits(), true);
        reader.feed(b"REDIS0009\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0*1\r\n");
        while !matches!(reader.next(), Ok(Step::End(Checksum::Absent))) {}
        assert_eq!((reader.offset(), reader.rest()), (23, &b"*1\r\n"[..]));
        reader.feed(b"$4\r\n");
        assert!(matches!(reader.next(), Ok(Step::End(Checksum::Absent))));
        assert_eq!((reader.offset(), reader.rest()), (23, &b"*1\r\n$4\r\n"[..]));
    }

    #[test]
    fn old_files_end_without_a_checksum() {
        check(
            b"REDIS0003\xfe\0\x00\x01k\x01v\xffrest",
            &["Header(Redis(3))", "SelectDb(DbIndex(0))", "0 k = v None Unsaid", "End Absent at 17"],
        );
    }

    #[track_caller]
    fn damaged(body: &[u8], expected: &str) {
        let file = [b"REDIS0011", body].concat();
        for piece in [1, 5, 1000] {
            let lines = shown(&file, piece);
            assert_eq!(lines.last().map(String::as_str), Some(expected), "in pieces of {piece}");
        }
    }

    #[test]
    fn damage_says_where_and_what_was_expected() {
        let ends = "expected more bytes; the file ends here";
        damaged(b"", &format!("at byte 9: {ends}"));
        damaged(b"\xfe", &format!("at byte 10 (in what begins at byte 9): {ends}"));
        damaged(b"\x00\x01k\x05v", &format!("at byte 14 (in what begins at byte 9): {ends}"));
        damaged(b"\x00\x01k\x01v\xff\x01\x02", &format!("at byte 17 (in what begins at byte 14): {ends}"));
        damaged(b"\x63", "at byte 9: expected the type of a value or another record; 99 is neither");
        damaged(
            b"\x08\x01k\x01v",
            "at byte 12 (in what begins at byte 9): expected the type of a value or another record; 8 is neither",
        );
        damaged(
            b"\xfe\x80\0\x01\0\0",
            "at byte 15 (in what begins at byte 9): expected the number of a database; 65536 is too high",
        );
        damaged(
            b"\x07\x01k\x81\x90\x0e\x2a\x5c\x9a\x6e\xd4\x01",
            "at byte 21 (in what begins at byte 9): expected a type of our own; this value belongs to the module type 'kA4qXJpu1'",
        );
        damaged(
            b"\xf6",
            "at byte 9: expected a record that is supported; 246 is a function library of a release candidate of Redis 7.0",
        );
        damaged(b"\xf3", "at byte 9: expected a record that is supported; 243 is metadata that a module gave to a key");
        damaged(
            b"\xfa\x81\0\0\0\0\x40\0\0\0",
            "at byte 19 (in what begins at byte 9): expected a valid record, but a string is longer than strings may be",
        );
    }

    #[test]
    fn what_is_no_rdb_is_told_at_its_first_bytes() {
        let wanted = "at byte 0: expected REDIS and four digits, or VALKEY and three";
        for text in [&b"*"[..], b"#TS", b"RX", b"REDIT", b"VALUE", b"\0\0"] {
            check(text, &[wanted]);
        }
        check(b"", &["at byte 0: expected more bytes; the file ends here"]);
        check(b"REDI", &["at byte 4 (in what begins at byte 0): expected more bytes; the file ends here"]);
        let later = "expected a version from REDIS0001 to REDIS0014, or VALKEY080; this is REDIS0099";
        check(b"REDIS0099\xff", &[&format!("at byte 9 (in what begins at byte 0): {later}")]);
    }

    #[test]
    fn any_changed_byte_is_found_by_the_checksum_at_the_latest() {
        let mut file = b"REDIS0011\xfe\0\x00\x01k\x05value\xfc\x40\x42\x0f\0\0\0\0\0\x00\x01l\x01w\xff".to_vec();
        let sum = Sum::of(&file).crc64();
        file.extend(sum.to_le_bytes());
        assert!(shown(&file, 10).last().is_some_and(|line| line.starts_with("End Right")));
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                let last = shown(&changed, 10).pop().unwrap_or_default();
                // A file that claims to be older than checksums has none.
                let aged = at == 8 && (b'1'..=b'4').contains(&changed[at]) || last.starts_with("End Absent");
                assert!(last.starts_with("at byte ") || aged, "byte {at}, bit {bit}: {last}");
            }
        }
    }

    #[test]
    fn a_long_value_is_tried_a_few_times_and_not_for_each_piece() {
        // A list of 300,000 elements, in pieces of 100 bytes: 6,000 tries of up to 600 kB each would take minutes.
        let mut file = b"REDIS0011\x01\x01l\x80\x00\x04\x93\xe0".to_vec();
        file.extend(b"\x01x".repeat(300_000));
        file.extend(b"\xff\0\0\0\0\0\0\0\0");
        let mut reader = FileReader::new(limits(), true);
        let (mut tries, mut wanted, mut elements) = (0, 0, 0);
        let mut pieces = file.chunks(100);
        loop {
            match reader.next().expect("a good file") {
                Step::NeedMore => match pieces.next() {
                    Some(piece) => reader.feed(piece),
                    None => reader.end_of_input(),
                },
                Step::Entry(entry) => {
                    let Decoded::Object(object) = entry.value else { panic!("a list") };
                    elements = object.len();
                }
                Step::End(_) => break,
                _ => {}
            }
            if reader.wanted != wanted {
                (tries, wanted) = (tries + 1, reader.wanted);
                assert!(tries < 40, "{tries} tries, and no end");
            }
        }
        assert_eq!(elements, 300_000);
    }

    #[test]
    fn a_long_string_is_waited_for_exactly() {
        let mut reader = FileReader::new(limits(), true);
        reader.feed(b"REDIS0011\x00\x01k\x80\x00\x10\x00\x00");
        assert!(matches!(reader.next(), Ok(Step::Header(_))));
        assert!(matches!(reader.next(), Ok(Step::NeedMore)));
        assert_eq!(reader.wanted, 8 + (1 << 20));
        for _ in 0..15 {
            reader.feed(&[b'x'; 1 << 16]);
            assert!(matches!(reader.next(), Ok(Step::NeedMore)));
        }
        reader.feed(&[b'x'; 1 << 16]);
        assert!(matches!(reader.next(), Ok(Step::Entry(_))));
    }
}
