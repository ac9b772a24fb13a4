//! How one value is written in RDB: a type byte and a body, for each type in each form that a server ever gave it.
//!
//! ```text
//!   type  since      body (n: a length; s: a string; [ ]: repeated; see `reader` for both and `packed` for blobs)
//!     0   2.x   w    string            s
//!     1   2.x   w    list              n [ s ]
//!     2   2.x   w    set               n [ s ]
//!     3   2.x        sorted set        n [ s | score as text ]
//!     4   2.x   w    hash              n [ s field | s value ]
//!     5   4.0   w    sorted set        n [ s | score: f64, little-endian ]
//!     9   2.4        hash              s zipmap
//!    10   2.6        list              s ziplist
//!    11   2.6   w    set               s intset
//!    12   2.6        sorted set        s ziplist: member, score …
//!    13   2.6        hash              s ziplist: field, value …
//!    14   3.2        list              n [ s ziplist ]
//!    16   7.0        hash              s listpack: field, value …
//!    17   7.0        sorted set        s listpack: member, score …
//!    18   7.0        list              n [ n container | s ]: 1 is one element, 2 a listpack of them
//!    20   7.2        set               s listpack
//!    22   7.4 RC     hash              n [ n deadline or 0 | s field | s value ]
//!    23   7.4 RC     hash              s listpack: field, value, deadline or 0 …
//!    24   7.4   w    hash              least deadline: i64 | n [ n 0, or deadline - least + 1 | s field | s value ]
//!    25   7.4        hash              least deadline: i64 | s listpack as in 23
//! ```
//!
//! Files that begin with `VALKEY` have another 22, since 9.0: n [ s field | s value | deadline or -1: i64 ], and none after it.
//!
//! Streams, types 15, 19, 21, 26 and 27, are drawn in `stream`. [`decode`] reads all of them. [`encode`] writes those with a `w`: the oldest that holds the value, so that it goes to any server
//! that knows the type at all; how a value is packed in memory is each server's own affair. Deadlines are Unix milliseconds, and fields
//! that have one can be said since 7.4 only. Types 6 and 7 belong to modules and are refused.
//!
//! Neither knows where the bytes come from or go to: a payload of DUMP, or a file (`file` draws one, `file_writer` and `file_reader`
//! write and read it). Invariants: a value that was decoded keeps every rule
//! of its type, whatever the bytes were; nothing is allocated for a count that was only announced. Absent on purpose: disks and
//! clocks.

mod decode;
mod encode;
pub mod file;
pub mod file_reader;
pub mod file_writer;
mod packed;
pub mod reader;
mod sink;
mod stream;
pub mod sum;
pub mod survey;
pub mod writer;

/// The version of Redis whose commands are spoken. Clients look at it (they use expiry of hash fields and their own caches from 7.4 on),
/// and files name it; what is in a file is of the oldest version that holds it, whatever this says.
pub const REDIS_VERSION: &str = "7.4.7";

pub use decode::{decode, decode_valkey};
pub use encode::{Form, encode, form_of};
pub use file_reader::FileReader;
pub use file_writer::{BodyWriter, Origin, PACKED_NEXT, VERSION_MIN, end, version};
pub use reader::Reader;
pub use sink::RdbSink;
pub use sum::Sum;
pub use writer::Writer;

use std::fmt;

use crate::config::Config;
use crate::types::Object;
use crate::types::hash::HashLimits;
use crate::types::list::ListLimits;
use crate::types::set::SetLimits;
use crate::types::zset::ZsetLimits;

const STRING: u8 = 0;
const LIST: u8 = 1;
const SET: u8 = 2;
const ZSET_TEXT: u8 = 3;
const HASH: u8 = 4;
const ZSET: u8 = 5;
const HASH_ZIPMAP: u8 = 9;
const LIST_ZIPLIST: u8 = 10;
const SET_INTSET: u8 = 11;
const ZSET_ZIPLIST: u8 = 12;
const HASH_ZIPLIST: u8 = 13;
const LIST_ZIPLISTS: u8 = 14;
const HASH_LISTPACK: u8 = 16;
const ZSET_LISTPACK: u8 = 17;
const LIST_NODES: u8 = 18;
const SET_LISTPACK: u8 = 20;
const HASH_DEADLINES_RC: u8 = 22;
const HASH_LISTPACK_DEADLINES_RC: u8 = 23;
const HASH_DEADLINES: u8 = 24;
const HASH_LISTPACK_DEADLINES: u8 = 25;
/// Of Valkey 9, in its files alone.
const HASH_DEADLINES_VALKEY: u8 = 22;

/// A container of [`LIST_NODES`].
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

/// The latest deadline of a field that Redis takes, 2^48 - 2 ms.
const DEADLINE_MAX: u64 = (1 << 48) - 2;

/// Why bytes are no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// They end too early. The reader of a file may come again with more of them.
    Truncated,
    /// They contradict themselves, or the rules of their type.
    Corrupt(&'static str),
    /// A type that is not known, or a module's.
    UnknownType(u8),
    /// A value without elements: Redis has none such.
    Empty,
    /// More bytes follow where the value should be all.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => write!(f, "the value ends too early"),
            DecodeError::Corrupt(what) => write!(f, "{what}"),
            DecodeError::UnknownType(byte) => write!(f, "type {byte} is not known"),
            DecodeError::Empty => write!(f, "the value has no elements"),
            DecodeError::Trailing => write!(f, "there is more behind the value"),
        }
    }
}

/// When values that are read change their encodings, and how long a string may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`ListLimits`].
    pub list: ListLimits,
    /// See [`SetLimits`].
    pub set: SetLimits,
    /// See [`HashLimits`].
    pub hash: HashLimits,
    /// See [`ZsetLimits`].
    pub zset: ZsetLimits,
    /// The longest string, bytes.
    pub string_bytes_max: usize,
}

impl Limits {
    /// Those that are configured.
    pub fn of(config: &Config) -> Limits {
        Limits {
            list: config.list_limits(),
            set: config.set_limits(),
            hash: config.hash_limits(),
            zset: config.zset_limits(),
            string_bytes_max: usize::try_from(config.proto_max_bulk_len).unwrap_or(usize::MAX),
        }
    }
}

/// A value that was read.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A string.
    String(Vec<u8>),
    /// A value of another type. It is not empty.
    Object(Object),
}
