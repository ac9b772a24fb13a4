//! The same random script to us and to a real redis-server 7.0, and every reply compared byte for byte.
//!
//! ```text
//!   rows of the command table ──> argv, often right, sometimes wrong ──┬──> redis-server ──> reply ─┐
//!                                                                       └──> annulus ──────> reply ─┴─> equal?
//! ```
//!
//! Scripts are made from the rows ([`script`]), so a new row is tested without a line here. What cannot be equal byte for byte
//! (times, order) is compared by what it means ([`compare`]), and what shall not be equal stands in a list with its reason
//! ([`differences`]). A mismatch is replayed and cut down to the few commands that it takes.
//!
//! `ANNULUS_DIFF_SEED` repeats a run, `ANNULUS_DIFF_COMMANDS` makes it longer (26,000 commands for each of the four runs),
//! `ANNULUS_DIFF_GROUPS` keeps it to some families.

#[path = "../harness/mod.rs"]
mod harness;

mod acl;
mod command_table;
mod compare;
mod differences;
mod dump;
mod effects;
mod events;
mod full_memory;
mod hyperloglog;
mod interleaved;
mod matrix;
mod pubsub;
mod run;
mod script;
mod sort;
mod tracking;

use run::Protocol;

#[test]
fn one_shard_answers_as_redis_does_in_resp2() {
    run::run(1, Protocol::V2);
}

#[test]
fn one_shard_answers_as_redis_does_in_resp3() {
    run::run(1, Protocol::V3);
}

#[test]
fn four_shards_answer_as_redis_does_in_resp2() {
    run::run(4, Protocol::V2);
}

#[test]
fn four_shards_answer_as_redis_does_in_resp3() {
    run::run(4, Protocol::V3);
}
