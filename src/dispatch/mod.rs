//! From bytes to replies: parses what a connection sent, asks the gate, and runs each command here, on its owner's core, or as a
//! plan over several.
//!
//! One [`Engine`] per core, owned by that core's event loop (`net`), which feeds it bytes, messages and time, and takes from
//! it output for sockets and messages for other cores. It has no socket, no clock and no thread of its own, so a test can run
//! several of them in one thread.
//!
//! ```text
//!   bytes ─> parser ─> gate ─┬─ data, owner is here ──────> handler ──────────────┐
//!                            ├─ data, owner elsewhere ─> batch ─> message … back ─┤─> replies in request order
//!                            ├─ several owners ─────────> parts of batches, or a plan ┤
//!                            └─ connection, server ─────> handler, or a plan ─────┘
//! ```
//!
//! Absent on purpose: what a command does (`commands`), how plans wait for each other (`txn`).

mod ahead;
mod claims;
mod client_eviction;
mod denied;
mod engine;
mod exec;
mod gate;
#[cfg(test)]
mod isolation;
mod limits;
mod node;
mod parts;
mod plans;
mod reads;
pub mod replay;
mod routing;
mod service;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod simulation_acl;
#[cfg(test)]
mod simulation_durability;
#[cfg(test)]
mod simulation_effects;
#[cfg(test)]
mod simulation_machine;
#[cfg(test)]
mod simulation_pubsub;
#[cfg(test)]
mod simulation_snapshot;
#[cfg(test)]
mod simulation_tracking;
mod slow;
mod tracked;
mod turns;

pub use crate::session::INPUT_BYTES_WAITING_MAX;
pub use engine::{Delivery, Engine};
