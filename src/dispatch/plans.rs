//! Plans that run on this core: commands of several steps, from their start to their reply.
//!
//! A plan belongs to the core of its client. Its calls go out as messages, or wait in [`Engine::local_steps`] where the shard is
//! this one; each answer runs it on. When it is done its reply takes the place that was kept for it in the session's line.
//!
//! Invariants: a plan that was started is run to its end, whether or not its client stays; a session has at most one; its
//! deadline stands in [`Engine::deadlines`] exactly while it waits for data with one.
//!
//! Absent on purpose: what a plan does (`txn`, `commands`) and the order in which shards run its steps (`turns`).

use super::engine::{Engine, Flow};
use super::tracked::forget_caching;
use crate::commands::table::Command;
use crate::metrics::slowlog::Argv;
use crate::resp::{Args, CommandError, Reply};
use crate::session::{Closing, Pending, Session, SessionKey};
use crate::shard::message::{Answer, Call, CallFn, Message, Ticket, Turn};
use crate::shard::reservations::TxnId;
use crate::shard::waiters::WaitEvent;
use crate::txn::{ClaimsByShard, Coordinator, Driver, Origin, Outgoing, Plan, Progress};

/// Time that plans' local steps may take in one turn before the sockets are looked at again. Nanoseconds.
const LOCAL_STEPS_NS: u64 = 500_000;

/// Whose the plans are that the server runs for itself.
pub(super) const NOBODY: SessionKey = SessionKey { index: u32::MAX, generation: u32::MAX };

pub(super) struct RunningPlan {
    pub(super) driver: Driver,
    pub(super) session: SessionKey,
    pub(super) command: &'static Command,
    pub(super) silent: bool,
    /// Its arguments, in case it is slow and somebody wants to hear of that.
    pub(super) argv: Option<Argv>,
    /// When it began, or last came out of a wait: the time that clients spend waiting for data is nobody's work.
    pub(super) started_ns: u64,
    /// Shards that have acknowledged invalidations.
    pub(super) acknowledged: i64,
    /// The result, while it is held until enough of them have.
    pub(super) held: Option<Result<Reply, CommandError>>,
    /// Whether it was told that its client has gone: once is enough, and it may have steps to take before it hears.
    pub(super) gone: bool,
    /// Its entry in [`Engine::deadlines`].
    pub(super) deadline_us: Option<u64>,
}

/// What a plan wants done on its own shard.
pub(super) enum LocalStep {
    Call(Ticket, CallFn),
    Turn(Box<Turn>),
}

impl Engine {
    /// Starts a command that takes several steps. What the client sent behind it waits; it waits for what was sent before it, if
    /// that has gone to other shards.
    pub(super) fn start_plan(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        claims: ClaimsByShard,
        start: impl FnOnce(Coordinator) -> Plan,
    ) -> Flow {
        self.seal(session);
        if !session.pending.is_empty() {
            session.ordered = true;
            return Flow::Hold;
        }
        self.shard.catch_up(session);
        let silent = self.silent(session) && !command.listens;
        self.count(session, command);
        self.shard.metrics.commands_processed += 1;
        let argv = self.argv(command, args);
        let id = self.next_plan;
        // The last number is for calls that nobody waits for.
        self.next_plan = (self.next_plan + 1) % u32::MAX;
        let origin = Origin {
            plan: id,
            session: session.key,
            client: session.id,
            shard: self.shard.id,
            db: session.db,
            proto: session.proto,
            touch: !session.no_touch,
            remembers: session.remembers(),
            node: session.node,
            now: self.shard.now,
            clock_ns: self.clock_ns,
        };
        let driver = Driver::new(origin, self.shard.slots, claims, start);
        session.plan_running = true;
        session.pending.push_back(Pending::Plan(None));
        let started_ns = (self.clock_ns)();
        let plan = RunningPlan {
            driver,
            session: session.key,
            command,
            silent,
            argv,
            started_ns,
            acknowledged: 0,
            held: None,
            gone: false,
            deadline_us: None,
        };
        self.plans.insert(id, plan);
        if let Some(result) = self.drive(id) {
            self.finish_plan(id, session, result);
        }
        Flow::Next
    }

    /// Runs a plan as far as it gets and sends its calls. Returns its result when it is done.
    fn drive(&mut self, id: u32) -> Option<Result<Reply, CommandError>> {
        let plan = self.plans.get_mut(&id).filter(|plan| plan.held.is_none())?;
        let progress = plan.driver.drive();
        for (shard, call, what) in plan.driver.take_outgoing() {
            let ticket = Ticket(u64::from(id) << 32 | u64::from(call));
            let here = shard == self.shard.id;
            self.shard.metrics.hops_out += u64::from(!here);
            match what {
                Outgoing::Call(run) if here => self.local_steps.push_back(LocalStep::Call(ticket, run)),
                Outgoing::Call(run) => self.outgoing.push((shard, Message::Call(Call { ticket, run }))),
                Outgoing::Turn { standing, keep, run } => {
                    let txn = TxnId { home: self.shard.id, number: u64::from(id) };
                    let turn = Box::new(Turn { ticket, txn, standing, keep, run });
                    if here {
                        self.local_steps.push_back(LocalStep::Turn(turn));
                    } else {
                        self.outgoing.push((shard, Message::Turn(turn)));
                    }
                }
            }
        }
        match progress {
            Progress::Waiting => {
                self.note_wait(id);
                None
            }
            Progress::Done(result) => {
                self.set_deadline(id, None);
                let plan = self.plans.get_mut(&id)?;
                plan.held = Some(result);
                plan.take_held()
            }
        }
    }

    /// Keeps what the session and the deadlines say of a plan's wait for data in step with the plan.
    fn note_wait(&mut self, id: u32) {
        let plan = self.plans.get_mut(&id).expect("the plan is running");
        let (waits, key) = (plan.driver.waits(), plan.session);
        // A wait begins with the answer to a call, so the session is in its place, or has gone since the command began.
        match self.shard.sessions.get_mut(key) {
            Some(session) => {
                session.blocked = waits.map(|_| id);
                if session.ended && waits.is_some() {
                    // Its peer went before it came to wait, and nobody is there to be served.
                    session.closing = Closing::Now;
                    self.mark_dirty(key);
                }
            }
            None if waits.is_some() && key != NOBODY && !plan.gone => {
                plan.gone = true;
                self.shard.wait_events.push((id, WaitEvent::Gone));
            }
            None => {}
        }
        self.set_deadline(id, waits.flatten());
    }

    fn set_deadline(&mut self, id: u32, deadline_us: Option<u64>) {
        let plan = self.plans.get_mut(&id).expect("the plan is running");
        if plan.deadline_us != deadline_us {
            if let Some(old) = std::mem::replace(&mut plan.deadline_us, deadline_us) {
                self.deadlines.remove(&(old, id));
            }
            self.deadlines.extend(deadline_us.map(|at| (at, id)));
            self.shard.timeouts = self.deadlines.len();
        }
    }

    /// An answer to a call has come.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let id = (ticket.0 >> 32) as u32;
        // A plan that ended without waiting for all its calls leaves answers that nobody asks for.
        let Some(plan) = self.plans.get_mut(&id) else { return };
        plan.driver.answer(ticket.0 as u32, answer);
        self.go_on(id);
    }

    /// Runs a plan that something has come for, and ends it if it is done.
    pub(super) fn go_on(&mut self, id: u32) {
        if let Some(result) = self.drive(id) {
            self.conclude(id, result);
        }
    }

    /// A plan is done, and its reply may leave.
    pub(super) fn conclude(&mut self, id: u32, result: Result<Reply, CommandError>) {
        match self.shard.sessions.take(self.plans[&id].session) {
            Some(mut session) => {
                self.finish_plan(id, &mut session, result);
                self.settle(session);
            }
            None => {
                // The client has gone meanwhile; its command was run to the end all the same.
                if let Some(mut plan) = self.plans.remove(&id) {
                    let ns = (self.clock_ns)().saturating_sub(plan.started_ns);
                    self.plan_took(&mut plan, None, ns);
                }
            }
        }
    }

    fn finish_plan(&mut self, id: u32, session: &mut Session, result: Result<Reply, CommandError>) {
        let mut plan = self.plans.remove(&id).expect("it has just run");
        let command = plan.command.id;
        let ns = (self.clock_ns)().saturating_sub(plan.started_ns);
        let latency = self.shard.config.latency_tracking;
        self.shard.metrics.commands.record_run(command, 1, ns, latency);
        self.plan_took(&mut plan, Some(session), ns);
        let mut reply = result.unwrap_or_else(|error| {
            self.shard.metrics.count_error(error.code());
            self.shard.metrics.commands.record_failed(command);
            let mut reply = Reply::default();
            reply.error(&error);
            reply
        });
        if plan.silent {
            reply.clear();
        }
        session.plan_running = false;
        session.running_bytes = 0;
        session.blocked = None;
        session.waits_with = None;
        session.tells_of(plan.driver.need(), &self.shard.config);
        forget_caching(session, Some(plan.command), self.table);
        let its_own = session.pending.iter_mut().rev().find(|entry| matches!(entry, Pending::Plan(None)));
        *its_own.expect("the plan is pending while it runs") = Pending::Plan(Some(reply));
        self.drain_pending(session);
    }

    /// Tells a plan that waits for data something, and runs it on. One that has ended meanwhile does not need to know.
    pub(super) fn tell_plan(&mut self, id: u32, event: WaitEvent) {
        let Some(plan) = self.plans.get_mut(&id) else { return };
        plan.started_ns = (self.clock_ns)();
        if let WaitEvent::TimedOut = event {
            // As in Redis: what was not served has done nothing that could have been slow.
            plan.argv = None;
        }
        plan.driver.tell(event);
        self.go_on(id);
    }

    pub(super) fn run_local_steps(&mut self) {
        self.run.interrupt();
        let deadline_ns = (self.clock_ns)().saturating_add(LOCAL_STEPS_NS);
        while let Some(step) = self.local_steps.pop_front() {
            match step {
                LocalStep::Call(ticket, run) => {
                    let answer = run(&mut self.shard);
                    self.serve_ready();
                    self.answer(ticket, answer);
                }
                LocalStep::Turn(turn) => self.take_turn(self.shard.id, turn),
            }
            self.run_turns();
            if !self.local_steps.is_empty() && (self.clock_ns)() > deadline_ns {
                break;
            }
        }
    }
}
