//! Annulus: a Redis-compatible in-memory data store for Linux. One executor per CPU core owns a disjoint part of the keys; cores
//! share no memory and talk by messages.
//!
//! ```text
//!          clients (TCP, TLS, Unix socket)
//!      │            │            │            │
//! ┌────▼─────┐ ┌────▼─────┐ ┌────▼─────┐ ┌────▼─────┐   one thread per core, pinned
//! │ shard 0  │ │ shard 1  │ │ shard 2  │ │ shard 3  │   glommio executor: background tasks, disk
//! │ net ring │ │ net ring │ │ net ring │ │ net ring │   our own io_uring for sockets
//! │ sessions │ │ sessions │ │ sessions │ │ sessions │   the clients that were dealt to this core
//! │ keyspace │ │ keyspace │ │ keyspace │ │ keyspace │   slots 0..4095 │ ..8191 │ ..12287 │ ..16383
//! └────┬─────┘ └────┬─────┘ └────┬─────┘ └────┬─────┘
//!      └────────────┴── mailboxes ┴────────────┘        bounded single-producer queues, one per ordered pair
//! ```
//!
//! # Where things are
//!
//! The folders are layers. A file may use only layers above its own; `tests/tidy.rs` holds the order as data.
//!
//! | layer | what is there |
//! |---|---|
//! | [`base`] | numbers as Redis parses and prints them, globs, checksums, LZF, randomness, points in time |
//! | [`resp`], [`types`] | bytes to arguments and replies to bytes; how values are stored |
//! | [`config`], [`metrics`] | the table of directives and their values; what a shard counts, and what was slow |
//! | [`keyspace`] | one shard's keys: lookup, expiry, scan, snapshots without fork |
//! | [`rt`] | glommio, io_uring and every other system call: ring, mailboxes, parking, clocks, signals |
//! | [`tls`] | certificates and keys, and the records of one TLS connection |
//! | [`persist`] | what values and logs look like outside of the process: RDB, AOF, manifests, the payloads of DUMP |
//! | [`acl`] | who the users are, what each may do, and what was refused |
//! | [`session`] | one connection's state, and its replies in request order |
//! | [`pubsub`] | who listens to which channel, here and on which other shards |
//! | [`tracking`] | which clients may have copies of which keys, and how none of them is stale |
//! | [`shard`] | one core's keys, sessions and counts; every message that crosses cores |
//! | [`txn`] | commands over several shards and transactions: plans of calls, and how they are put in one order |
//! | [`durability`] | logs, snapshots and loading: who moves bytes to and from the disk, and who decides when |
//! | [`commands`] | the table and the handlers, a file per family |
//! | [`dispatch`] | the gate, then: run it here, elsewhere, or as a plan |
//! | [`net`] | a core's event loop: sockets, mailboxes, timers |
//! | [`server`] | boot and shutdown; the check of files that are at rest |
//!
//! # The life of one SET
//!
//! ```text
//! socket > net/reactor > resp/parse > dispatch/gate > row > owner is this core? call it : shard/message over rt/mesh
//!                        owner's core: WriteCx > commands/string::set > keyspace/db
//!                                      shard/effects > durability/driver > files (holds the reply back while it must)
//! socket < net/reactor < session/outbox < reply bytes, already in the client's RESP version
//! ```
//!
//! # What must stay true, everywhere
//!
//! - A handler's signature is its permission: what gets a [`shard::cx::ReadCx`] cannot write, and neither can suspend.
//! - Nothing that borrows a shard's data lives across an await; commands over several shards are plans of calls that copy.
//! - What crosses from one core to another is a [`shard::message::Message`], and every request is answered by one reply.
//! - Below `rt` nothing reads a clock, touches a file or draws a random number that it was not handed.
//! - Unsafe code is denied, except in the leaves that say why: `keyspace::record` and files of `rt`.
//! - A broken invariant stops the process with a report. A store that broke half-way through a write must not go on.
//! - What the log is told means the same whenever it is run again; the end of an epoch is one instant on all shards: [`durability`].
//! - A client of a shard's own port (`cluster-shard-nodes`) sees that shard alone, and the gate lets through nothing that is elsewhere.
//! - One order of all commands and transactions explains what every client sees; how, is told in [`txn`].
//!
//! Absent so far: replication, scripts. The layers leave room for each; the README says what users can expect today.

pub mod acl;
pub mod base;
pub mod commands;
pub mod config;
pub mod dispatch;
pub mod durability;
pub mod keyspace;
pub mod metrics;
pub mod net;
pub mod persist;
pub mod pubsub;
pub mod resp;
pub mod rt;
pub mod server;
pub mod session;
pub mod shard;
pub mod tls;
pub mod tracking;
pub mod txn;
pub mod types;
