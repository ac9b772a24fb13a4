//! What waits for its turn on this core, and what happens when it has come: steps of transactions, batches of other shards'
//! connections, commands of this core's connections.
//!
//! ```text
//!   command of this core    held at the start of its connection's input, with a place in the shard's table
//!   batch of another core   put away at the command that has to wait; later batches of that connection queue up behind it
//!   step of a transaction   put away; its sender is told so at once, and of its place if that was decided here
//! ```
//!
//! Part of the [`Engine`]: belongs to its core. Invariant: between two inputs of the engine nothing is runnable. Absent on purpose:
//! the order itself (`shard::reservations`).

use std::collections::{HashMap, VecDeque};

use super::claims;
use super::engine::Engine;
use crate::base::ShardId;
use crate::commands::table::Command;
use crate::resp::Args;
use crate::session::{Session, SessionKey};
use crate::shard::message::{Answer, Batch, Message, Standing, Ticket, Turn};
use crate::shard::reservations::{Next, Order};

/// Batches of one connection of another shard that wait, and behind which later ones wait, too.
pub(super) type ParkedBatches = HashMap<(ShardId, SessionKey), VecDeque<Box<Batch>>, ahash::RandomState>;

impl Engine {
    /// Whether a command of this shard has to wait for keys that are reserved; it has its place among those who wait then.
    #[cold]
    pub(super) fn park(&mut self, session: &mut Session, command: &Command, args: Args<'_>) -> bool {
        let Some(claims) = claims::in_the_way(command, args, &self.shard) else { return false };
        let order = self.shard.reservations.own_order(self.shard.id, (self.clock_ns)());
        self.shard.reservations.wait(order, claims, Next::Session(session.key));
        self.parked_sessions.insert(session.key, order);
        session.parked = true;
        true
    }

    /// A step of a transaction has come: it runs now, or waits for its turn.
    pub(super) fn take_turn(&mut self, from: ShardId, mut turn: Box<Turn>) {
        let table = &mut self.shard.reservations;
        let order = match &mut turn.standing {
            Standing::New { claims, at_least_ns } => {
                let order = table.next_order(turn.txn, *at_least_ns, (self.clock_ns)());
                let claims = std::mem::take(claims);
                if table.conflict(&claims) {
                    table.wait(order, claims, Next::Turn(from, turn));
                    return self.say_parked(from, Message::Placed(order));
                }
                if turn.keep {
                    table.hold(order, claims);
                }
                order
            }
            Standing::Settled(order) => {
                let order = *order;
                table.settle(order);
                if !table.may_run(order) {
                    table.wait_settled(order, Next::Turn(from, turn));
                    return self.say_parked(from, Message::Parked);
                }
                table.hold_settled(order);
                order
            }
        };
        let (ticket, answer) = self.run_turn(order, *turn);
        if from == self.shard.id {
            self.answer(ticket, answer);
        } else {
            self.outgoing.push((from, Message::Answer(ticket, answer)));
        }
    }

    fn say_parked(&mut self, from: ShardId, message: Message) {
        if from != self.shard.id {
            self.outgoing.push((from, message));
        }
    }

    fn run_turn(&mut self, order: Order, turn: Turn) -> (Ticket, Answer) {
        self.run.interrupt();
        let answer = (turn.run)(&mut self.shard, order);
        if turn.keep {
            self.shard.defer_ready(order.txn);
        } else {
            self.shard.release(order);
        }
        self.serve_ready();
        (turn.ticket, answer)
    }

    /// Runs what has waited for its turn. To be called whenever reservations may have ended and no session is out of its table.
    pub(super) fn run_turns(&mut self) {
        while let Some((order, next)) = self.shard.reservations.next_runnable() {
            self.run.interrupt();
            match next {
                Next::Turn(from, turn) => {
                    let (ticket, answer) = self.run_turn(order, *turn);
                    if from == self.shard.id {
                        self.answer(ticket, answer);
                    } else {
                        self.outgoing.push((from, Message::LateAnswer(ticket, answer)));
                    }
                }
                Next::Batch(from, batch, at) => self.go_on_with_batch(order, from, batch, at),
                Next::Session(key) => self.go_on_with_session(order, key),
            }
        }
    }

    /// Commands have come from a connection of another shard.
    pub(super) fn take_batch(&mut self, from: ShardId, batch: Box<Batch>) {
        let key = (from, batch.session.expect("a batch knows its session"));
        if !self.parked_batches.is_empty()
            && let Some(behind) = self.parked_batches.get_mut(&key)
        {
            behind.push_back(batch);
            self.outgoing.push((from, Message::Parked));
        } else if let Some(batch) = self.run_batch(from, batch, 0) {
            self.outgoing.push((from, Message::BatchDone(batch)));
        } else {
            self.parked_batches.insert(key, VecDeque::new());
            self.outgoing.push((from, Message::Parked));
        }
    }

    /// Runs commands of a batch from this one on. Returns the batch when all have run; else it waits in the shard's table.
    fn run_batch(&mut self, from: ShardId, mut batch: Box<Batch>, mut at: usize) -> Option<Box<Batch>> {
        let count = batch.commands.len();
        while at < count {
            // Commands of one shard reserve nothing: if nothing is reserved now, nothing will be during the batch.
            let stop = match self.shard.reservations.is_empty() {
                true => None,
                false => (at..count).find_map(|i| {
                    let command = self.table.get(batch.commands[i].id);
                    let args = batch.args.command(batch.commands[i].first, batch.commands[i].argc);
                    Some((i, claims::in_the_way(command, args, &self.shard)?))
                }),
            };
            let end = stop.as_ref().map_or(count, |(i, _)| *i);
            self.shard.run_batch(&mut batch, at..end, false);
            at = end;
            if let Some((_, claims)) = stop {
                let order = self.shard.reservations.own_order(self.shard.id, (self.clock_ns)());
                self.shard.reservations.wait(order, claims, Next::Batch(from, batch, at));
                return None;
            }
        }
        Some(batch)
    }

    /// The command at which a batch had to stop has its turn.
    fn go_on_with_batch(&mut self, order: Order, from: ShardId, mut batch: Box<Batch>, at: usize) {
        let key = (from, batch.session.expect("a batch knows its session"));
        self.shard.run_batch(&mut batch, at..at + 1, false);
        self.shard.release(order);
        self.serve_ready();
        let mut next = self.run_batch(from, batch, at + 1);
        while let Some(done) = next {
            self.outgoing.push((from, Message::LateBatch(done)));
            let behind = self.parked_batches.get_mut(&key).expect("it is there while one of them waits");
            let Some(batch) = behind.pop_front() else {
                self.parked_batches.remove(&key);
                return;
            };
            next = self.run_batch(from, batch, 0);
        }
    }

    /// The command at which a session of this core had to stop has its turn.
    fn go_on_with_session(&mut self, order: Order, key: SessionKey) {
        self.parked_sessions.remove(&key);
        let mut session = self.shard.sessions.take(key).expect("a session that goes takes its place in the table back");
        session.parked = false;
        self.granted = Some(order);
        self.run_kept_input(&mut session);
        if let Some(order) = self.granted.take() {
            // It did not run: the connection is being closed.
            self.shard.release(order);
            self.serve_ready();
        }
        self.settle(session);
    }
}
