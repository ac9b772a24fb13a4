//! Commands over several shards, and transactions: which shards, in what order, how they wait.
//!
//! A [`Plan`] is the future of one command. It runs on the core of the connection that sent the command, and reaches data only
//! by calls: functions that are sent to the owner, run there to their end, and return copies. So no plan ever holds a reference
//! into a shard, and no shard ever waits for a plan while it runs something.
//!
//! # The problem
//!
//! Two clients send `MSET a 1 b 1` and `MSET a 2 b 2`; `a` and `b` live on different cores. If each core runs what arrives when it
//! arrives, `a` may end as 1 and `b` as 2. A reader of both may see one of them changed and the other not yet. What users are
//! promised is *strict serializability*: there is one order of all commands and transactions in which each sees exactly what is
//! before it, and who has got a reply before another begins is before it in that order.
//!
//! Locks taken one after the other give that and deadlock, unless they are taken in a fixed order, which costs one round trip a
//! shard. A counter shared by all cores gives numbers to order by, and a cache line that every core fights for. Sending all that
//! is to be ordered through one core makes it the one that everybody waits for.
//!
//! # The scheme
//!
//! Each shard proposes a place, the latest proposal wins. This is Skeen's way of ordering messages to several receivers (described
//! by Birman and Joseph in 1987, used for transactions by Granola, Cowling and Liskov 2012); the reservation of keys, so that what
//! does not conflict does not wait, is that of VLL (Ren, Thomson, Abadi 2013).
//!
//! ```text
//!             coordinator               shard 1                        shard 2
//!   claim     a on 1, b on 2 ─────────► propose 17, a is reserved      propose 23, b is reserved
//!             the latest is 23 ◄─────── 17                             23
//!   turn      at 23 ──────────────────► move from 17 to 23; wait until nothing before 23 claims a;
//!                                       run, release, answer           the same with b
//! ```
//!
//! - A **place** ([`Order`](crate::shard::reservations::Order)) is an instant of the monotonic clock, with the transaction's
//!   name to decide between equals. A shard never proposes one that is not later than all it knows of.
//! - A **reservation** stands in the shard's table from the proposal until the transaction is done there. Whatever conflicts and
//!   comes later waits behind it, commands of a single key included; what does not conflict passes. With an empty table a command
//!   of one shard costs one comparison more than without any of this.
//! - The **turn** has come when the place is final and nothing that conflicts stands before it.
//! - A plan that needs its keys for several calls (RENAME, EXEC with SELECT in it) has a turn that does nothing but keep the
//!   reservation; it makes its calls when it has it everywhere, and **releases** in the end ([`Coordinator::isolated`]).
//!
//! Fewer messages where it can be: with one shard besides the coordinator's own, home proposes first and sends its proposal along;
//! the other's place is final, and the step runs there at once if it may: one round trip for an MSET on a machine with two
//! shards. If it may not, the shard tells the place at once and answers later: home's entry must become final, since others wait
//! behind it, and among them may be the one that the other shard waits for. With one shard alone there is nothing to propose.
//!
//! # Why it is right
//!
//! *Serializable.* On each shard conflicting steps run in the order of their places, and the places are the same on all shards. A
//! command of one shard has a place, too, between those that ran before and those that are proposed after it.
//!
//! *Strict.* A place lies between the begin and the end of its transaction, as an instant of a clock that all cores share: it was
//! read by a shard that had received the claim, and the end comes after the turn. If one transaction has ended before another
//! begins, all proposals of the second are later readings. Linux's `CLOCK_MONOTONIC` never runs backwards from one core to the
//! next. Were it a little off, strictness would suffer by that little; serializability does not depend on it.
//!
//! *No deadlock.* A transaction whose place is final waits for earlier places only. One whose place is not final waits for answers
//! to proposals, which are given at once. So of all that wait, the earliest can go on.
//!
//! *No starvation.* Places are handed out in order of arrival, and what is behind cannot pass.
//!
//! # When somebody dies
//!
//! A plan belongs to its core's engine, not to its client: once started it runs to its end, and the reply of a client that has gone
//! is dropped. What a client has queued after MULTI lies in its session and reserves nothing. A session whose command waits
//! for its turn takes its entry with it when it goes; a batch of a session that has gone runs, unread. A core that stops takes the
//! process with it.
//!
//! # Waiting for data
//!
//! BLPOP and its kin reserve while they try and while they get in line, and nothing while they wait: see [`block`]. What a
//! transaction pushes serves those who wait when the transaction is released, not within it.
//!
//! Invariants: the calls of a plan run in the order in which they are made, per shard; commands of the same connection wait for the
//! plan, and the plan for those before it. Absent on purpose: a runtime. A plan waits for answers to its calls, or (in [`block`])
//! for what its shards and its driver tell it; its driver polls it when one has come, and needs no waker. Undoing: a command that
//! fails leaves what it has done, as in Redis.

mod block;
mod coordinator;

pub use block::{Attempt, Wait};
pub use coordinator::{ClaimsByShard, Coordinator, Driver, Origin, Outgoing, Plan, Progress};
