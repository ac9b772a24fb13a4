//! What an operator does with the server and sees of it: its configuration file, its life under a service manager, what it says when it
//! crashes, and what it lets clients take.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "../harness/mod.rs"]
mod harness;

mod config_file;
mod config_rewrite;
mod crash;
mod directives;
mod limits;
mod service;
