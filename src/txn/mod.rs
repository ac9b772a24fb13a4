//! Commands over several shards: which shards, in what order, how they wait.
//!
//! A [`Plan`] is the future of one command. It runs on the core of the connection that sent the command, and reaches data only
//! by [`Coordinator::call`]: a function that is sent to the owner, runs there to its end, and returns a copy. So no plan ever
//! holds a reference into a shard, and no shard ever waits for a plan.
//!
//! What holds today: each call is atomic on its shard, the calls of one plan run in the order in which they are awaited, and
//! commands of the same connection wait for the plan. Two plans may interleave between their calls; reservations, which make a
//! plan atomic over shards, belong in this module and nowhere else.
//!
//! Absent on purpose: a runtime. A plan waits for answers to its calls, or (in [`block`]) for what its shards and its driver tell
//! it; its driver polls it when one has come, and needs no waker.

mod block;
mod coordinator;

pub use block::{Attempt, Wait};
pub use coordinator::{Coordinator, Driver, Origin, Plan, Progress};
