//! Transactions over all shards, proved from outside: random clients write down what they did and saw, and a checker looks for
//! contradictions; and what must never change does not.
//!
//! ```text
//!   record    clients, their commands, and the history of what they saw
//!   check     is there one order of everything that explains it?    graph    cycles in it
//!   strict    histories of our server, whole                        checker_finds    the checker itself
//! ```
//!
//! Every client is a thread with a socket of its own; nothing here knows the inside of the server.

#[path = "../harness/mod.rs"]
mod harness;

mod check;
mod checker_finds;
mod graph;
mod history;
mod invariants;
mod model;
mod record;
mod search;
mod short;
mod strict;

/// A number out of the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
