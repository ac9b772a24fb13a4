//! The command table and the handlers, a file per family.
//!
//! A family file holds the family's rows and, below them, its handlers. Whoever adds a command adds one row and one function
//! there, and a behaviour test; whatever else speaks about commands reads the rows.
//!
//! Handlers do not call each other across files, do not know sockets, and learn everything about their caller through the
//! context that their row's `Run` gives them.

pub mod acl;
pub mod bitmap;
mod blocking;
pub mod categories;
mod client;
pub mod client_tracking;
pub mod cluster;
pub mod command;
pub mod compression;
pub mod connection;
pub mod docs;
pub mod dump;
mod element;
pub mod generic;
pub mod geo;
pub mod hash;
pub mod hash_expiry;
pub mod help;
pub mod hyperloglog;
pub mod keys;
mod lcs;
pub mod list;
pub mod lolwut;
pub mod monitor;
mod page;
pub mod permission;
pub mod persistence;
pub mod pubsub;
pub mod server;
pub mod set;
pub mod sort;
pub mod sorted_set;
pub mod stream;
pub mod stream_claim;
mod stream_effects;
pub mod stream_group;
pub mod stream_info;
pub mod stream_read;
mod stream_syntax;
pub mod string;
pub mod table;
pub mod transaction;
mod walk;
pub mod zset_algebra;
pub mod zset_range;

use table::Row;

/// Every family.
pub static FAMILIES: &[&[Row]] = &[
    acl::ROWS,
    bitmap::ROWS,
    cluster::ROWS,
    command::ROWS,
    compression::ROWS,
    connection::ROWS,
    dump::ROWS,
    generic::ROWS,
    geo::ROWS,
    hash::ROWS,
    hash_expiry::ROWS,
    hyperloglog::ROWS,
    list::ROWS,
    lolwut::ROWS,
    persistence::ROWS,
    monitor::ROWS,
    pubsub::ROWS,
    server::ROWS,
    set::ROWS,
    sort::ROWS,
    sorted_set::ROWS,
    stream::ROWS,
    stream_claim::ROWS,
    stream_group::ROWS,
    stream_info::ROWS,
    stream_read::ROWS,
    string::ROWS,
    transaction::ROWS,
    zset_algebra::ROWS,
    zset_range::ROWS,
];
