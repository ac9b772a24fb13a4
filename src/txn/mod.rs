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
//! Absent on purpose: a runtime. A plan waits for nothing but answers to its calls, so its driver polls it when one has come, and
//! needs no waker.

mod coordinator;

pub use coordinator::{Coordinator, Driver, Origin, Plan, Progress};
