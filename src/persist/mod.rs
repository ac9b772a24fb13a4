//! What values look like outside of the process: the bytes of RDB, and the payloads of DUMP that carry them.
//!
//! ```text
//!   DUMP, RESTORE ──> dump   one value, its RDB version, a checksum
//!                      │
//!                     rdb    a type byte and a body for each kind of value
//!                      │
//!   snapshots, AOF  ──> file_writer, file_reader   RDB files, in parts and pieces
//!
//!   aof        logs: commands as clients send them, and lines of annotation between them
//!   sim_disk   a disk that crashes, for tests of everything that writes files
//! ```
//!
//! Plain functions over byte slices, called on the core that owns the value. Invariant: bytes from outside are read with checks into
//! our own structures, never taken over as they are. Absent on purpose in what is here: whatever waits for a disk.

pub mod aof;
pub mod dump;
pub mod rdb;
pub mod sim_disk;
