//! Data structures and their encodings, plain Rust without a runtime.
//!
//! Strings live in the records of [`crate::keyspace`] themselves. Everything else is an [`Object`] in a box that its record
//! owns: one of five types, or a packed string, each with the encodings that Redis has for it. A type knows nothing of keys, clients or other
//! shards; it is handed the limits at which it changes its encoding, and whatever is random or depends on the time.
//!
//! Each value belongs to one record of one shard and is used on that shard's core alone.

pub mod bits;
pub mod dict;
pub mod hash;
pub mod hll;
pub mod intset;
pub mod list;
pub mod listpack;
pub mod object;
pub mod order_tree;
pub mod packed;
pub mod set;
pub mod stream;
pub mod stream_group;
pub mod stream_id;
pub mod stream_log;
pub mod zset;

pub use hash::Hash;
pub use list::List;
pub use object::{DataType, Object};
pub use packed::Packed;
pub use set::Set;
pub use stream::Stream;
pub use zset::Zset;
