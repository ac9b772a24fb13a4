//! Nothing that was acknowledged is lost: logs, snapshots and loading.
//!
//! ```text
//!               shard 0                                         every core
//!   SAVE … ──> [conductor] ── cut: a transaction over all ──> [shard] effects, walk over the keyspace
//!                   │                                            │ bytes
//!                   ├── jobs: open, write, sync, rename ─────> [driver] ── background tasks ──> files
//!                   └<──────────────── told ──────────────────────┘
//! ```
//!
//! - [`driver`]: one per core, beside its loop. Moves bytes between the shard and the disk, and does the jobs that plans ask for.
//! - [`conductor`]: a plan on shard 0 that lives as long as the server: it loads at the start, closes epochs, runs snapshots and
//!   rewrites, and ends the server.
//! - `start`: how a server begins, from what is on the disk.
//! - [`load`]: what is on the disk becomes keys again.
//! - [`files`]: what the files are called and which of them count.
//! - [`request`]: how commands talk to the conductor.
//!
//! # What is promised, and why it holds
//!
//! The log of each shard is cut into epochs by transactions that claim all keys of all shards for reading, so the end of an epoch is
//! one point in the serial order of everything. After a crash all shards go back to the last epoch whose end is in the log of every
//! shard. So what returns is always one state that was, transactions are there whole or not at all, and a write is safe when the
//! end of its epoch is on the disks of all shards: that is what `appendfsync always` waits for before it tells anybody.
//!
//! An fsync that has failed says nothing about what was written before, and a later one that succeeds does not either. So a log
//! whose fsync failed is never gone on with: writes are refused until a rewrite has put everything that is in memory into new files.
//!
//! Files are never changed in place and never removed before what replaces them is complete on the disk, named by the manifest, and
//! the manifest itself is. What was found damaged at load is left as it was found.

pub mod conductor;
pub mod driver;
pub mod files;
pub mod host;
pub mod load;
pub mod request;
mod start;
