//! Sockets: one event loop per core over that core's own ring.
//!
//! The loop ([`Reactor`]) moves bytes between the ring and the dispatcher, messages between the mailboxes and the dispatcher, and
//! decides when to sleep. It knows nothing of commands. [`connection`] is what it keeps for a socket, [`accept`] how shard 0
//! deals connections out, [`secure`] what is between the ring
//! and the dispatcher on connections that came through the TLS port.
//!
//! Invariant: a descriptor is closed only when nothing is in flight on it, so that its number cannot come to mean another
//! connection under an operation that was meant for this one.
//!
//! Absent on purpose: the ring's system calls (`rt`), the protocol and the certificates of TLS (`tls`).

mod accept;
mod connection;
mod packing;
mod reactor;
mod secure;
mod timers;

pub use accept::{Acceptor, Listener, Transport};
pub use reactor::{ConfigWatcher, Questions, Reactor, ReactorParts, SIGNAL_INTERRUPT, SIGNAL_TERMINATE};
