//! Append-only files: commands in RESP, lines of annotation between them, and the manifest that says which files make up a log.
//!
//! ```text
//!   *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n                             a record: an array of bulk strings, as clients send commands
//!   *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n
//!   #EPOCH:41:1700000000100\r\n                                   everything above belongs to epochs up to 41   (ours)
//!   #TS:1700000000\r\n                                            what follows was written from this second on  (Redis)
//!   #TXN:0-5\r\n                                                  the next record is transaction 5 of shard 0    (ours)
//!   *1\r\n$5\r\nMULTI\r\n … *1\r\n$4\r\nEXEC\r\n                  records that take effect together or not at all
//! ```
//!
//! | | |
//! |---|---|
//! | [`effect`], [`annotation`] | what writes records and annotations |
//! | [`scan`] | what reads them, piece by piece |
//!
//! A log is written and read on its shard's core; what is here keeps no files and no clock. All of it are legal Redis files: a server
//! since 7.0 skips lines that begin with `#`, also inside of a transaction, and so does redis-check-aof.

pub mod annotation;
pub mod effect;
pub mod scan;
