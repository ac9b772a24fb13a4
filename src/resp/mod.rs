//! The Redis serialization protocol: bytes become arguments, replies become bytes.
//!
//! [`parse`] reads RESP2, RESP3 (which differ only in replies) and inline commands incrementally, [`bulk`] receives the
//! large arguments, [`words`] splits a line by its quotes, [`args`] is what a handler sees of a command, [`reply`] writes answers in the client's version, and
//! [`error`] holds the exact text of every error a client may match on.
//!
//! Owned by nobody: a connection has a parser and a reply writer of its own, on its core. Arguments and replies may
//! travel to another core; they own their memory or share it by reference count.
//!
//! Absent on purpose: sockets, buffers' sizes and the clients' limits (the connection has them), and any knowledge of
//! what a command means. In particular the detection of HTTP requests by their first word belongs to the gate.

pub mod args;
pub mod bulk;
pub mod error;
pub mod parse;
pub mod reply;
pub mod short;
pub mod words;

pub use args::{Args, OwnedArgs, Span};
pub use bulk::BigBulk;
pub use error::{CommandError, ProtocolError};
pub use parse::{ParseLimits, Parser, Step};
pub use reply::{Mark, Pieces, Reply, Resp, push_bulk};
pub use short::Short;
