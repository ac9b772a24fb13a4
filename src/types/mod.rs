//! Data structures and their encodings, plain Rust without a runtime.
//!
//! Strings live in the records of [`crate::keyspace`] themselves, so this layer is where lists, sets, hashes, sorted sets and
//! streams will be. A structure here knows nothing of keys, clients or other shards.
