//! The vocabulary every layer speaks: numbers as Redis parses and prints them, globs, checksums, LZF, time and randomness.
//!
//! Standard library only. Nothing here owns state, belongs to a core, reads a clock or draws a random number by itself:
//! what a function needs to know, it is told.

mod bignum;
pub mod crc;
pub mod float;
pub mod geo;
pub mod glob;
pub mod longdouble;
pub mod lzf;
pub mod num;
mod numeral;
pub mod rng;
pub mod size;
pub mod time;

use std::fmt;
use std::sync::Arc;

/// A byte string that is large enough to be shared instead of copied: a big value in the keyspace, the same value
/// while it is being sent to a client, a big argument that was received straight into its final allocation.
pub type Blob = Arc<Vec<u8>>;

/// From this many bytes on a string travels as a [`Blob`]: below it a copy is cheaper than a second allocation, a
/// reference count and a separate entry in a vectored send.
pub const BLOB_BYTES_MIN: usize = 16 * 1024;

/// Which shard, and so which core's executor: `0..shards`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard as an index into a table with one row per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of an epoch of the log: a point in the serial order of all shards. Counted from 1; 0 is before all.
pub type Epoch = u64;

/// One of the numbered databases, `0..databases` (16 unless configured otherwise).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct DbIndex(pub u16);

impl DbIndex {
    /// The database as an index into a shard's table of databases.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
