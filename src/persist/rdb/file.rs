//! What an RDB file looks like around its values, and what both its writer and its reader have to know.
//!
//! ```text
//!   file     version | record … | 255 | checksum: u64, little-endian, 0 for none; absent before version 5
//!   version  "REDIS" and four digits, or "VALKEY" and three
//!   key      [ 252 or 253 ] [ 248 ] [ 249 ] type | s key | value, as drawn in `rdb`
//!
//!   record   since   (n: a length; s: a string, as drawn in `reader`)
//!    243     8.6     metadata that modules give to a key, in Valkey 9 slots that are being imported: refused
//!    244     7.4     n slot | n keys | n that expire: sizes only, skipped
//!    245     7.0     s source of a function library
//!    246     7.0 RC  the same in another form: refused
//!    247     5.0     n module | n 2 | n when | what the module saved, item by item | n 0: skipped
//!                    an item is n 1 or n 2 and n; n 3 and 4 bytes; n 4 and 8 bytes; n 5 and s
//!                    (so is a value of a module, type 7: n module | item by item | n 0)
//!    250     3.0     s name | s value
//!    251     3.0     n keys | n that expire, of the database that was selected: room to make at once
//!    254             n database: the keys that follow lie there; 0 until the first
//!
//!    248     5.0     n seconds for which the key was not used
//!    249     5.0     u8, how often the key is used
//!    252     2.6     i64, little-endian: the key expires at this millisecond
//!    253             i32, little-endian: at this second
//! ```
//!
//! Versions: 1 (1.x), 2 (2.4), 5 (2.6 RC, checksums), 6 (2.6), 7 (3.2), 8 (4.0), 9 (5.0), 10 (7.0), 11 (7.2), 12 (7.4), 13 (8.6), 14 (8.8);
//! Valkey wrote 11 and writes 80 since 9.0. A later version only ever added types and records; each that is not known is refused by
//! itself as well.
//!
//! Plain values, no owner. Absent on purpose: what a reader does with keys that have expired, or that are there already; that is for the
//! one who loads them.

use std::fmt;

use super::DecodeError;

pub(super) const KEY_META_OR_SLOT_IMPORT: u8 = 243;
pub(super) const SLOT_INFO: u8 = 244;
pub(super) const FUNCTION: u8 = 245;
pub(super) const FUNCTION_RC: u8 = 246;
pub(super) const MODULE_AUX: u8 = 247;
pub(super) const IDLE: u8 = 248;
pub(super) const FREQUENCY: u8 = 249;
pub(super) const AUX: u8 = 250;
pub(super) const RESIZE_DB: u8 = 251;
pub(super) const EXPIRES_MS: u8 = 252;
pub(super) const EXPIRES_SECS: u8 = 253;
pub(super) const SELECT_DB: u8 = 254;
pub(super) const END: u8 = 255;

/// Types whose values belong to a module.
pub(super) const MODULE_RC: u8 = 6;
pub(super) const MODULE: u8 = 7;

/// How long a version is.
pub const VERSION_BYTES: usize = 9;
/// The first version with a checksum at the end.
pub const VERSION_OF_CHECKSUMS: u16 = 5;
/// The latest of Redis that is read.
pub const REDIS_VERSION_MAX: u16 = 14;
/// The only one of Valkey's own.
pub const VALKEY_VERSION: u16 = 80;

/// Who defined the format of a file, and which edition of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// A file that begins with `REDIS`, of Redis or of Valkey before 9.
    Redis(u16),
    /// A file that begins with `VALKEY`.
    Valkey(u16),
}

impl Version {
    /// What a file begins with; none if this is no version.
    pub fn parse(bytes: &[u8; VERSION_BYTES]) -> Option<Version> {
        let number = |digits: &[u8]| {
            digits
                .iter()
                .try_fold(0u16, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')))
        };
        match (bytes.strip_prefix(b"REDIS"), bytes.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => number(digits).map(Version::Redis),
            (_, Some(digits)) => number(digits).map(Version::Valkey),
            _ => None,
        }
    }

    /// Whether files of this version are read.
    pub fn is_known(self) -> bool {
        match self {
            Version::Redis(number) => (1..=REDIS_VERSION_MAX).contains(&number),
            Version::Valkey(number) => number == VALKEY_VERSION,
        }
    }

    /// Whether a checksum stands at the end.
    pub fn has_checksum(self) -> bool {
        match self {
            Version::Redis(number) => number >= VERSION_OF_CHECKSUMS,
            Version::Valkey(_) => true,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Redis(number) => write!(f, "REDIS{number:04}"),
            Version::Valkey(number) => write!(f, "VALKEY{number:03}"),
        }
    }
}

/// What a file says of how a key was used: which of the two depends on the eviction policy of the server that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Used {
    /// Nothing.
    #[default]
    Unsaid,
    /// Not for so many seconds (LRU policies).
    SecsAgo(u64),
    /// So often, on a logarithmic scale (LFU policies).
    Often(u8),
}

/// Where a file stops making sense, and what should stand there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where the reader stopped, bytes from the start of the file.
    pub offset: u64,
    /// Where the record begins in which it stopped. All before this was read and is right as far as one can see.
    pub record: u64,
    /// What it met.
    pub reason: Reason,
}

impl Damage {
    /// That begins with the record.
    pub fn at(offset: u64, reason: Reason) -> Damage {
        Damage { offset, record: offset, reason }
    }
}

/// Why a file is not read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It does not begin as RDB does.
    NotRdb,
    /// It was written by a later server.
    Version(Version),
    /// It ends inside of a record, or without an end.
    EndsEarly,
    /// A record or a value contradicts itself, or is of an unknown type.
    Bytes(DecodeError),
    /// A value belongs to the module of this name.
    Module([u8; 9]),
    /// A record of this kind is known and not supported; the text says what it is for.
    Unsupported(u8, &'static str),
    /// A database of a number that none can have.
    Database(u64),
    /// A key is there a second time. The reader keeps no keys: who loads them says this.
    KeyTwice,
    /// All bytes were read, and some of them are not those that were written.
    Checksum {
        /// What the file says.
        stated: u64,
        /// What its bytes give.
        computed: u64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotRdb => write!(f, "expected REDIS and four digits, or VALKEY and three"),
            Reason::Version(version) => write!(
                f,
                "expected a version from REDIS0001 to REDIS{REDIS_VERSION_MAX:04}, or VALKEY{VALKEY_VERSION:03}; this is {version}"
            ),
            Reason::EndsEarly => write!(f, "expected more bytes; the file ends here"),
            Reason::Bytes(DecodeError::UnknownType(byte)) => {
                write!(f, "expected the type of a value or another record; {byte} is neither")
            }
            Reason::Bytes(error) => write!(f, "expected a valid record, but {error}"),
            Reason::Module(name) => {
                write!(f, "expected a type of our own; this value belongs to the module type '{}'", name.escape_ascii())
            }
            Reason::Unsupported(byte, what) => write!(f, "expected a record that is supported; {byte} is {what}"),
            Reason::Database(number) => write!(f, "expected the number of a database; {number} is too high"),
            Reason::KeyTwice => write!(f, "expected a key that is not there yet"),
            Reason::Checksum { stated, computed } => {
                write!(f, "expected the checksum {computed:016x} of all bytes before; {stated:016x} stands here")
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if self.record != self.offset {
            write!(f, " (in what begins at byte {})", self.record)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for Damage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_written() {
        for (text, version, known) in [
            (b"REDIS0001", Version::Redis(1), true),
            (b"REDIS0014", Version::Redis(14), true),
            (b"REDIS0015", Version::Redis(15), false),
            (b"REDIS0000", Version::Redis(0), false),
            (b"REDIS9999", Version::Redis(9999), false),
            (b"VALKEY080", Version::Valkey(80), true),
            (b"VALKEY011", Version::Valkey(11), false),
        ] {
            assert_eq!(Version::parse(text), Some(version));
            assert_eq!((version.to_string().as_bytes(), version.is_known()), (&text[..], known));
        }
        for text in [b"REDIS 001", b"REDIS-001", b"redis0001", b"VALKEY08x", b"*3\r\n$3\r\nS"] {
            assert_eq!(Version::parse(text), None);
        }
    }
}
