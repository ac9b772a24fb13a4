//! One core's dispatcher: see the module above. Its inputs are bytes, messages and the turn of the clock; its outputs are
//! sessions with something to send, and messages.
//!
//! Invariants: a session that runs commands is out of its table, and back in it before anything else runs; the batch that a read has
//! opened is sealed before the read ends; a plan that was started is run to its end, whether or not its client stays; a data
//! command runs only if no reservation that conflicts stands before it, else it is parked with a place of its own.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::ahead::Ahead;
use super::claims::{self, Collector};
use super::exec;
use super::gate::{Verdict, admit};
use super::limits::{self, Passed};
use super::parts::{Client, Parts};
use super::plans::{LocalStep, RunningPlan};
use super::routing::{Building, Owner, SpareBatches, owner};
use super::tracked::{forget_caching, reads};
use super::turns::ParkedBatches;
use crate::base::ShardId;
use crate::base::time::Now;
use crate::commands::client_tracking::keys_of;
use crate::commands::monitor;
use crate::commands::stream_read::asks_to_wait;
use crate::commands::table::{Command, Flags, Run, SessionCx, Table, table};
use crate::commands::transaction::forget_watches;
use crate::config::PipelineOrder;
use crate::metrics::CommandId;
use crate::metrics::slowlog::Argv;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::crash::{self, Trace};
use crate::session::{Closing, Merge, Pending, PendingBatch, ReplyMode, Route, Session, SessionKey, Subscriptions};
use crate::shard::Shard;
use crate::shard::cx::{DataFn, ServiceFn};
use crate::shard::message::{Adopted, Batch, BatchCommand, Call, CallFn, KeysFn, Message, Ticket};
use crate::shard::reservations::Order;
use crate::shard::timing::Run as TimedRun;
use crate::shard::waiters::{WaitEvent, WaiterId};
use crate::txn::{ClaimsByShard, Coordinator, Plan};

/// What a message leaves for the event loop to do, since it concerns sockets.
pub enum Delivery {
    /// Nothing.
    Done,
    /// Serve this connection, then answer the shard with [`Message::AdoptDone`].
    Adopt(Box<Adopted>),
    /// A connection that was dealt to this peer has been taken over.
    Adopted,
}

/// Commands that one session may run before others of its core have their turn.
pub(super) const COMMANDS_PER_TURN: usize = 1024;
/// Batches kept for reuse.
const SPARE_BATCHES: usize = 64;
/// When a session over its soft output limit that need not go yet is looked at again, microseconds.
const SOFT_LIMIT_LOOK_US: u64 = 1_000_000;

/// Whether the session goes on with its next command.
pub(super) enum Flow {
    Next,
    /// The command waits where it is, at the start of the input.
    Hold,
}

/// See the module.
pub struct Engine {
    /// This core's shard.
    pub shard: Shard,
    pub(super) table: &'static Table,
    pub(super) clock_ns: fn() -> u64,
    pub(super) plans: HashMap<u32, RunningPlan, ahash::RandomState>,
    pub(super) next_plan: u32,
    /// When waits of plans are over: monotonic microseconds and the plan.
    pub(super) deadlines: BTreeSet<(u64, u32)>,
    pub(super) local_steps: VecDeque<LocalStep>,
    pub(super) outgoing: Vec<(ShardId, Message)>,
    ready: VecDeque<SessionKey>,
    dirty: Vec<SessionKey>,
    held: Vec<SessionKey>,
    /// Sessions that were found over their soft output limit, by when that has lasted too long.
    over_soft_limit: BTreeSet<(u64, SessionKey)>,
    /// The places of sessions of this core whose next command waits for keys.
    pub(super) parked_sessions: HashMap<SessionKey, Order, ahash::RandomState>,
    /// Batches behind one that has a place. The one with the place is in the shard's table.
    pub(super) parked_batches: ParkedBatches,
    /// The place of the command that is to run next: its turn has come.
    pub(super) granted: Option<Order>,
    pub(super) building: Option<Building>,
    spare_batches: SpareBatches,
    /// Connections, their batches, and how many more shards have acknowledged invalidations.
    pub(super) acknowledged_batches: Vec<(SessionKey, u64, i64)>,
    pub(super) spare_buildings: Vec<Building>,
    pub(super) run: TimedRun,
    /// Taken by the read that is run.
    pub(super) ahead: Option<Box<Ahead>>,
    /// Arguments of plans that are over, to be used again.
    pub(super) spare_argvs: Vec<Argv>,
    /// What a report of a crash will tell of this core.
    trace: &'static Trace,
}

impl Engine {
    /// An engine over a new shard.
    pub fn new(mut shard: Shard) -> Engine {
        let trace = crash::trace(shard.id);
        shard.keys_of = keys_of;
        Engine {
            run: TimedRun::begin(0, &shard.config, trace),
            ahead: None,
            spare_argvs: Vec::new(),
            table: table(),
            clock_ns: shard.clock_ns,
            trace,
            shard,
            plans: HashMap::default(),
            next_plan: 0,
            deadlines: BTreeSet::new(),
            over_soft_limit: BTreeSet::new(),
            local_steps: VecDeque::new(),
            outgoing: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            held: Vec::new(),
            parked_sessions: HashMap::default(),
            parked_batches: HashMap::default(),
            granted: None,
            building: None,
            spare_batches: Vec::new(),
            acknowledged_batches: Vec::new(),
            spare_buildings: Vec::new(),
        }
    }

    /// Begins a turn of the event loop at this instant.
    pub fn begin_turn(&mut self, now: Now) {
        self.shard.now = now;
        self.run.turn((self.clock_ns)(), &self.shard.config);
        self.shard.look_at_memory();
        if self.shard.pause.is_some_and(|p| p.until <= now.millis()) {
            self.shard.pause = None;
        }
        self.release_held();
        while let Some(&(due_us, plan)) = self.deadlines.first()
            && due_us <= now.mono_us
        {
            self.deadlines.pop_first();
            self.shard.timeouts = self.deadlines.len();
            self.tell_plan(plan, WaitEvent::TimedOut);
        }
    }

    /// Commands that CLIENT PAUSE has held back go on once there is no pause.
    fn release_held(&mut self) {
        if self.shard.pause.is_none() && !self.held.is_empty() {
            for key in std::mem::take(&mut self.held) {
                if let Some(session) = self.shard.sessions.get_mut(key) {
                    session.paused = false;
                    self.make_ready(key);
                }
            }
        }
    }

    /// Runs what is left to run after sockets and messages have been served: sessions whose input had to wait, and steps of
    /// plans on this shard. Bounded; true if there is more.
    pub fn run_waiting(&mut self) -> bool {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            if let Some(mut session) = self.shard.sessions.take(key) {
                session.queued = false;
                self.run_kept_input(&mut session);
                self.settle(session);
            }
        }
        self.run_turns();
        if !self.local_steps.is_empty() {
            self.run_local_steps();
        }
        if !self.shard.shown.is_empty() {
            self.shard.show_commands();
        }
        self.broadcast();
        self.pass_on();
        self.release_batches();
        if self.shard.config.maxmemory > 0 {
            self.keep_within_memory();
        } else {
            self.shard.board.post_own(self.shard.id.index());
        }
        self.shard.watch_clients();
        self.evict_clients();
        // A call of this turn may have ended the pause, and nothing else need happen here for a long time.
        self.release_held();
        self.notice_disturbed();
        let latency = self.shard.config.latency_tracking;
        self.run.end(&mut self.shard.metrics, latency, (self.clock_ns)());
        self.has_work()
    }

    /// Serves those who wait for keys that have changed, publishes what has happened, and passes on what that tells others.
    pub fn serve_ready(&mut self) {
        self.shard.serve_ready();
        self.pass_on();
    }

    /// Hands what commands have to tell to those who wait, here and on other shards. Before any answer leaves: a plan that takes
    /// its waiters back relies on having heard by then whether one was served.
    pub fn pass_on(&mut self) {
        if self.shard.told.is_empty()
            && self.shard.wait_events.is_empty()
            && self.shard.tracking.acknowledged.is_empty()
        {
            return;
        }
        for (shard, run) in std::mem::take(&mut self.shard.told) {
            self.tell(shard, run);
        }
        self.take_acknowledgements();
        while !self.shard.wait_events.is_empty() {
            for (plan, event) in std::mem::take(&mut self.shard.wait_events) {
                self.tell_plan(plan, event);
            }
        }
    }

    /// When the next wait for data is over, monotonic microseconds.
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.first().map(|(due_us, _)| *due_us)
    }

    /// Removes a session whose connection is going. If it waits for data, the wait ends: on this shard at once, so that nothing
    /// is taken for it any more, on others as soon as its plan has told them.
    pub fn remove_session(&mut self, key: SessionKey) {
        let Some(mut session) = self.shard.sessions.remove(key) else { return };
        if session.subscriptions != Subscriptions::default() {
            self.shard.unsubscribe_all(key);
        }
        if let Some(plan) = session.blocked {
            self.shard.waiters.cancel(WaiterId { home: self.shard.id, plan });
            self.shard.serve_ready();
            self.shard.wait_events.push((plan, WaitEvent::Gone));
            if let Some(plan) = self.plans.get_mut(&plan) {
                plan.gone = true;
            }
        }
        if let Some(order) = self.parked_sessions.remove(&key) {
            self.shard.release(order);
            self.shard.serve_ready();
        }
        forget_watches(&mut session, &mut self.shard);
        self.shard.stop_tracking(&mut session);
        self.shard.discount_client(&session);
        self.pass_on();
        self.run_turns();
        self.notice_disturbed();
    }

    /// Whether [`Engine::run_waiting`] has something to do, or sessions have something to send that was not looked at.
    pub fn has_waiting(&self) -> bool {
        self.has_work() || !self.dirty.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.local_steps.is_empty() || self.shard.eviction.goes_on
    }

    /// Sessions that have output to send, are to be closed, or have gone quiet again. Each is listed once.
    pub fn take_dirty(&mut self, into: &mut Vec<SessionKey>) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
        for key in into.iter() {
            if let Some(session) = self.shard.sessions.get_mut(*key) {
                session.dirty = false;
            }
        }
    }

    /// Puts a session on that list.
    pub fn mark_dirty(&mut self, key: SessionKey) {
        if let Some(session) = self.shard.sessions.get_mut(key)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Messages for other shards, in order.
    pub fn take_outgoing(&mut self) -> std::vec::Drain<'_, (ShardId, Message)> {
        self.outgoing.drain(..)
    }

    /// Whether there are messages to send.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Plans that have not ended.
    pub fn plans_running(&self) -> usize {
        self.plans.len()
    }

    /// When commands held by CLIENT PAUSE are to be looked at again, in milliseconds from now.
    pub fn pause_ends_in_ms(&self) -> Option<u64> {
        let pause = self.shard.pause.filter(|_| !self.held.is_empty())?;
        Some(u64::try_from(pause.until.0 - self.shard.now.millis().0).unwrap_or(0))
    }

    /// Bytes came from a connection.
    pub fn receive(&mut self, key: SessionKey, data: &[u8]) {
        let Some(mut session) = self.shard.sessions.take(key) else { return };
        self.shard.metrics.net_input_bytes += data.len() as u64;
        self.shard.metrics.reads += 1;
        self.shard.metrics.input_max.note((session.input.len() + data.len()) as u64);
        session.input_bytes += data.len() as u64;
        session.active_us = self.shard.now.mono_us;
        if session.closing == Closing::No {
            self.take_in(&mut session, data);
        }
        self.settle(session);
    }

    /// Bytes came from a connection straight into the large argument that it is receiving.
    pub fn receive_into_big(&mut self, key: SessionKey, body: Vec<u8>, received: usize) {
        let Some(mut session) = self.shard.sessions.take(key) else { return };
        self.shard.metrics.net_input_bytes += received as u64;
        self.shard.metrics.reads += 1;
        session.input_bytes += received as u64;
        session.active_us = self.shard.now.mono_us;
        if let Some(big) = &mut session.big {
            big.give_back(body);
        }
        self.take_in(&mut session, &[]);
        self.settle(session);
    }

    /// The peer has sent all it will. What came before is run and answered; half a command at the end is forgotten.
    pub fn end_of_input(&mut self, key: SessionKey) {
        let Some(mut session) = self.shard.sessions.take(key) else { return };
        session.ended = true;
        if session.blocked.is_some() {
            // Nobody is there to be served any more.
            session.closing = Closing::Now;
        }
        self.settle(session);
    }

    #[inline]
    pub(super) fn command_at(&mut self, session: &mut Session, args: Args<'_>, granted: Option<Order>) -> Flow {
        if self.shard.config.maxmemory > 0 && self.shard.make_room() {
            self.tell_of_evicted(session);
        }
        let command = match admit(session, &self.shard, self.table, args) {
            Verdict::Run(command) => command,
            Verdict::Refuse(error, id) => return self.refuse(session, error, id),
            Verdict::Deny(command, denied) => {
                let error = self.deny(session, command, denied, args);
                return self.refuse(session, error, Some(command.id));
            }
            Verdict::Hold => {
                session.paused = true;
                self.held.push(session.key);
                return Flow::Hold;
            }
            Verdict::CrossProtocol => {
                tracing::warn!(
                    "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to this \
                     server. Connection from {} aborted.",
                    session.peer
                );
                session.closing = Closing::Now;
                return Flow::Next;
            }
        };
        let queued = session.transaction.is_some() && !exec::runs_inside_multi(command);
        let flow = if queued {
            self.enqueue(session, command, args);
            Flow::Next
        } else if session.is_checked() && self.fails_on_patterns(session, command, args) {
            Flow::Next
        } else {
            self.route(session, command, args, granted)
        };
        if session.plan_running
            && let Flow::Next = flow
        {
            session.running_bytes += args.iter().map(<[u8]>::len).sum::<usize>();
        }
        if session.tracking.is_some()
            && let Flow::Next = flow
        {
            forget_caching(session, Some(command), self.table);
        }
        if self.shard.pubsub.is_watched()
            && !queued
            && monitor::is_shown(command)
            && let Flow::Next = flow
        {
            let mut shown = std::mem::take(&mut self.shard.shown);
            monitor::line(&mut shown, &self.shard, session, command, args);
            self.shard.shown = shown;
        }
        flow
    }

    /// Replies with what is wrong with a command that is not run.
    fn refuse(&mut self, session: &mut Session, error: CommandError, id: Option<CommandId>) -> Flow {
        if let Some(id) = id {
            self.shard.metrics.commands.record_rejected(id);
        }
        let error = self.refused_in_transaction(session, error, id);
        forget_caching(session, id.map(|id| self.table.get(id)), self.table);
        self.shard.metrics.count_error(error.code());
        let silent = self.silent(session);
        self.reply_here(session, silent, |reply| reply.error(&error));
        Flow::Next
    }

    /// Runs an admitted command, or sends it to where it runs.
    #[inline]
    fn route(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        granted: Option<Order>,
    ) -> Flow {
        match command.row.run {
            Run::Data(f) => match self.owner(session, command, args) {
                Owner::One(shard) => self.data(session, command, f, shard, args, granted),
                Owner::Several => unreachable!("a command of several keys is not a plain data command"),
            },
            Run::Split(f, merge) => match self.owner(session, command, args) {
                Owner::One(shard) => self.data(session, command, f, shard, args, granted),
                Owner::Several => self.split(session, command, f, merge, args),
            },
            Run::Hops(_, plan) if command.row.flags.has(Flags::BLOCKING) && asks_to_wait(args) => {
                let claims = self.claims(session, command, args);
                let (argv, args) = (args, OwnedArgs::from_args(args));
                let reads = reads(session, command);
                self.start_waiting(session, command, argv, claims, args, |coordinator, args| {
                    exec::waiting(coordinator, plan, args, reads)
                })
            }
            Run::Hops(f, plan) => match self.owner(session, command, args) {
                Owner::One(shard) => self.data(session, command, f, shard, args, granted),
                Owner::Several => {
                    self.shard.look_at(command.id, session.db, args);
                    let claims = self.claims(session, command, args);
                    let (argv, args) = (args, OwnedArgs::from_args(args));
                    let reads = reads(session, command);
                    self.start_plan(session, command, argv, claims, |coordinator| {
                        exec::isolated(coordinator, plan, args, reads)
                    })
                }
            },
            Run::Steps(f, _)
                if self.owner(session, command, args) == Owner::One(self.shard.id)
                    && claims::is_one_step(command, args, self.shard.keyspace.db(session.db)) =>
            {
                self.data(session, command, f, self.shard.id, args, granted)
            }
            Run::Steps(_, plan) => {
                self.shard.look_at(command.id, session.db, args);
                let claims = self.claims(session, command, args);
                let (argv, args) = (args, OwnedArgs::from_args(args));
                let reads = reads(session, command);
                self.start_plan(session, command, argv, claims, |coordinator| {
                    exec::isolated(coordinator, plan, args, reads)
                })
            }
            Run::Server(plan) => {
                let claims = self.claims(session, command, args);
                let (argv, args) = (args, OwnedArgs::from_args(args));
                if command.row.flags.has(Flags::BLOCKING) {
                    return self.start_waiting(session, command, argv, claims, args, plan);
                }
                self.start_plan(session, command, argv, claims, |coordinator| plan(coordinator, args))
            }
            Run::Spread(f, others, _) => {
                let others = others(&mut self.shard, args);
                let flow = match others.is_empty() {
                    true => self.data(session, command, DataFn::Service(f), self.shard.id, args, granted),
                    false => self.spread(session, command, f, &others, args),
                };
                self.shard.catch_up(session);
                flow
            }
            Run::Session(f) => {
                self.session_command(session, command, f, args);
                Flow::Next
            }
            Run::Exec => self.exec(session, command, args),
            Run::Container => unreachable!("the gate refuses a bare container"),
        }
    }

    /// Who owns a command's keys. To a node the gate lets through nothing but what is here.
    #[inline]
    fn owner(&self, session: &Session, command: &Command, args: Args<'_>) -> Owner {
        if session.node { Owner::One(self.shard.id) } else { owner(command, args, self.shard.slots, self.shard.id) }
    }

    /// Starts a command that may wait for data. What it is stays with the session: the rules of its user may change meanwhile.
    fn start_waiting(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        argv: Args<'_>,
        claims: ClaimsByShard,
        args: OwnedArgs,
        start: impl FnOnce(Coordinator, OwnedArgs) -> Plan,
    ) -> Flow {
        let waits_with = Box::new((command.id, args.clone()));
        let flow = self.start_plan(session, command, argv, claims, |coordinator| start(coordinator, args));
        session.waits_with = session.plan_running.then_some(waits_with);
        flow
    }

    /// What a command claims, by shard.
    fn claims(&self, session: &Session, command: &Command, args: Args<'_>) -> ClaimsByShard {
        // Plans are not timed as runs are, and are noted here.
        self.trace.note(command.id, args);
        let mut claims = Collector::new(self.shard.slots, self.shard.id, session.node, &self.shard.keyspace);
        claims.add(command, args, false);
        claims.finish()
    }

    /// Takes the counts that a report of a crash tells.
    pub fn count_for_report(&self) {
        let shard = &self.shard;
        let keys = shard.keyspace.dbs().iter().map(|db| db.len()).sum();
        self.trace.count(shard.now.mono_us, shard.sessions.len(), keys, shard.metrics.commands_processed);
    }

    /// A command whose keys have one owner.
    #[inline]
    fn data(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        f: DataFn,
        shard: ShardId,
        args: Args<'_>,
        granted: Option<Order>,
    ) -> Flow {
        if self.must_wait(session, Some(shard)) {
            return Flow::Hold;
        }
        if shard == self.shard.id
            && !self.shard.reservations.is_empty()
            && granted.is_none()
            && self.park(session, command, args)
        {
            return Flow::Hold;
        }
        let silent = self.silent(session);
        self.count(session, command);
        let remember: Option<KeysFn> = reads(session, command).map(|_| keys_of as KeysFn);
        if shard != self.shard.id {
            self.send(session, command, f, shard, args, silent, remember);
            return Flow::Next;
        }
        if silent || remember.is_some() || !self.shard.tracking.is_idle() {
            self.enter(command.id, command.is_brief(args.len()), args);
            self.data_tracked(session, command, f, args, silent, remember);
            return Flow::Next;
        }
        self.run_here(session, command, f, args);
        Flow::Next
    }

    /// A command of a client of this core begins here: it is counted, and its time.
    #[inline]
    fn enter(&mut self, id: CommandId, brief: bool, args: Args<'_>) {
        self.shard.metrics.commands_processed += 1;
        let latency = self.shard.config.latency_tracking;
        self.run.enter(id, brief, true, &mut self.shard.metrics, latency, self.clock_ns, args);
    }

    /// Puts a command into the batch for the shard that has its keys.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "a command, for whom, where to, and what of its reply")]
    pub(super) fn send(
        &mut self,
        session: &Session,
        command: &'static Command,
        f: DataFn,
        shard: ShardId,
        args: Args<'_>,
        silent: bool,
        remember: Option<KeysFn>,
    ) {
        self.shard.metrics.hops_out += 1;
        let part = BatchCommand {
            run: f,
            id: command.id,
            argc: 0,
            first: 0,
            db: session.db,
            proto: session.proto,
            touch: !session.no_touch,
            part: false,
            brief: command.is_brief(args.len()),
            split: None,
            remember,
        };
        let building = self.building.get_or_insert_with(|| self.spare_buildings.pop().unwrap_or_default());
        building.send(shard, part, args, silent, &mut self.spare_batches);
    }

    /// Runs a command on this shard, for a client that sees its reply and remembers nothing, while nobody is tracked.
    #[inline]
    pub(super) fn run_here(&mut self, session: &mut Session, command: &'static Command, f: DataFn, args: Args<'_>) {
        self.enter(command.id, command.is_brief(args.len()), args);
        let (db, proto, touch) = (session.db, session.proto, !session.no_touch);
        if self.building.is_none() && session.pending.is_empty() {
            let out = &mut session.out;
            out.set_proto(proto);
            self.shard.run(f, command.id, db, touch, args, out);
            self.shard.serve_ready();
        } else {
            let building = self.building.get_or_insert_with(|| self.spare_buildings.pop().unwrap_or_default());
            let shard = &mut self.shard;
            building.reply_here(false, |reply| {
                reply.set_proto(proto);
                shard.run(f, command.id, db, touch, args, reply);
                shard.serve_ready();
            });
        }
        session.tells_of(self.shard.effects.take_need(), &self.shard.config);
    }

    /// A command that is run key by key on the owners of its keys, all of them at one point of the serial order.
    fn split(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        f: DataFn,
        merge: Merge,
        args: Args<'_>,
    ) -> Flow {
        let (client, slots) = (self.client(session), self.shard.slots);
        let access = claims::access(command, command.row.keys[0].flags);
        let mut claims = Collector::new(slots, self.shard.id, session.node, &self.shard.keyspace);
        let mut parts = Parts::of_plan();
        parts.split(command, f, merge, args, client, slots, |owner, key| claims.add_key(owner, key, access));
        let claims = claims.finish();
        self.start_plan(session, command, args, claims, |coordinator| {
            Box::pin(async move {
                let mut reply = coordinator.reply();
                parts.run(&coordinator, &mut reply).await;
                Ok(reply)
            })
        })
    }

    /// On whose behalf a session's commands run.
    pub(super) fn client(&self, session: &Session) -> Client {
        let (db, proto, touch, remembers) = (session.db, session.proto, !session.no_touch, session.remembers());
        Client { db, proto, touch, remembers, home: self.shard.id }
    }

    /// A command that is run here and on other shards, with all its arguments.
    fn spread(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        f: ServiceFn,
        others: &[ShardId],
        args: Args<'_>,
    ) -> Flow {
        if self.must_wait(session, None) {
            return Flow::Hold;
        }
        let silent = self.silent(session);
        self.count(session, command);
        let (id, db, proto, touch) = (command.id, session.db, session.proto, !session.no_touch);
        let mut building = self.building.take().unwrap_or_else(|| self.spare_buildings.pop().unwrap_or_default());
        let parts = others.len() as u32 + 1;
        building.pending.routes.push(Route::Split { merge: Merge::Sum, parts, proto, silent });
        self.enter(id, false, args);
        let run = DataFn::Service(f);
        let shard = &mut self.shard;
        building.reply_here(false, |reply| shard.run(run, id, db, touch, args, reply));
        for &other in others {
            self.shard.metrics.hops_out += 1;
            let remember = None;
            let part = BatchCommand {
                run,
                id,
                argc: 0,
                first: 0,
                db,
                proto,
                touch,
                part: true,
                brief: true,
                split: None,
                remember,
            };
            building.send(other, part, args, false, &mut self.spare_batches);
        }
        self.building = Some(building);
        Flow::Next
    }

    /// `pipeline-order strict`: whether the command has to wait until what was sent to other shards has come back.
    fn must_wait(&mut self, session: &mut Session, to: Option<ShardId>) -> bool {
        if self.shard.config.pipeline_order != PipelineOrder::Strict || self.shard.slots.shards() == 1 {
            return false;
        }
        let elsewhere = match (&self.building, to) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(building), Some(to)) if to == self.shard.id => building.has_remote(),
            (Some(building), Some(to)) => building.has_local() || building.only_target() != Some(to),
        };
        // What an earlier read sent is on its way, in order per shard only.
        if elsewhere || !session.pending.is_empty() {
            session.ordered = true;
            return true;
        }
        false
    }

    fn session_command(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        f: crate::commands::table::SessionFn,
        args: Args<'_>,
    ) {
        self.shard.catch_up(session);
        self.count(session, command);
        self.enter(command.id, command.is_brief(args.len()), args);
        let before = session.reply_mode;
        if before == ReplyMode::SkipNext {
            session.reply_mode = ReplyMode::On;
        }
        let mut reply = Reply::default();
        reply.set_proto(session.proto);
        let shard = &mut self.shard;
        if let Err(error) = f(&mut SessionCx { session, shard, row: command }, args, &mut reply) {
            reply.clear();
            reply.error(&error);
            self.shard.metrics.count_error(error.code());
            self.shard.metrics.commands.record_failed(command.id);
        }
        let silent = match before {
            ReplyMode::On => false,
            ReplyMode::SkipNext => true,
            ReplyMode::Off => session.reply_mode == ReplyMode::Off,
        };
        let silent = silent && !command.listens;
        self.reply_here(session, silent, |out| out.append(&mut reply));
    }

    /// Has another shard run `f`; nobody waits for it.
    pub fn tell(&mut self, shard: ShardId, f: impl FnOnce(&mut Shard) + Send + 'static) {
        let run: CallFn = Box::new(move |shard| {
            f(shard);
            Box::new(())
        });
        self.shard.metrics.hops_out += 1;
        // No plan has this number while it would matter: plans are counted up from zero and end.
        self.outgoing.push((shard, Message::Call(Call { ticket: Ticket(u64::MAX), run })));
    }

    /// Writes everything that is ready to the output, in order.
    pub(super) fn drain_pending(&mut self, session: &mut Session) {
        while session.pending.front().is_some_and(Pending::ready) {
            match session.pending.pop_front() {
                Some(Pending::Batch(mut batch)) => {
                    batch.assemble(&mut session.out);
                    self.keep_building(batch);
                }
                Some(Pending::Plan(reply)) => {
                    session.out.append(&mut reply.expect("it is ready"));
                }
                Some(Pending::Message(mut messages)) => session.out.append(&mut messages),
                None => break,
            }
        }
        if session.pending.is_empty() {
            session.ordered = false;
        }
        if !session.stalled() && (!session.input.is_empty() || session.held_command.is_some()) {
            self.queue(session);
        }
    }

    fn keep_building(&mut self, mut pending: PendingBatch) {
        if self.spare_buildings.len() < SPARE_BATCHES && pending.clear() {
            self.spare_buildings.push(Building { pending, messages: Vec::new() });
        }
    }

    /// Ends the batch that this read has opened: its messages leave, its replies wait in line.
    pub(super) fn seal(&mut self, session: &mut Session) {
        let Some(mut building) = self.building.take() else { return };
        let mut pending = building.pending;
        pending.seq = session.next_batch;
        session.next_batch += 1;
        pending.outstanding = 0;
        for (source, message) in building.messages.drain(..).enumerate() {
            let Some((shard, mut batch)) = message else { continue };
            batch.home = self.shard.id;
            batch.session = Some(session.key);
            batch.seq = pending.seq;
            batch.source = source as u16;
            pending.outstanding += 1;
            pending.sent_bytes += batch.args.bytes();
            self.outgoing.push((shard, Message::Batch(batch)));
        }
        session.pending.push_back(Pending::Batch(pending));
        self.drain_pending(session);
    }

    /// A message came from another shard.
    pub fn deliver(&mut self, from: ShardId, message: Message) -> Delivery {
        match message {
            Message::Batch(batch) => {
                self.run.interrupt();
                self.shard.metrics.hops_in += batch.commands.len() as u64;
                self.take_batch(from, batch);
            }
            Message::BatchDone(batch) => self.batch_done(batch),
            Message::Call(Call { ticket, run }) => {
                self.run.interrupt();
                self.shard.metrics.hops_in += 1;
                let answer = run(&mut self.shard);
                self.serve_ready();
                self.outgoing.push((from, Message::Answer(ticket, answer)));
            }
            Message::Turn(turn) => {
                self.shard.metrics.hops_in += 1;
                self.take_turn(from, turn);
            }
            Message::Answer(ticket, answer) => self.answer(ticket, answer),
            Message::LateAnswer(ticket, answer) => {
                self.outgoing.push((from, Message::Noted));
                self.answer(ticket, answer);
            }
            Message::LateBatch(batch) => {
                self.outgoing.push((from, Message::Noted));
                self.batch_done(batch);
            }
            Message::Placed(order) => self.shard.reservations.settle(order),
            Message::Parked | Message::Noted => {}
            Message::Adopt(adopted) => return Delivery::Adopt(adopted),
            Message::AdoptDone => return Delivery::Adopted,
        }
        self.run_turns();
        Delivery::Done
    }

    fn batch_done(&mut self, mut batch: Box<Batch>) {
        let key = batch.session.expect("a batch knows its session");
        if let Some(mut session) = self.shard.sessions.take(key) {
            let waiting = session.pending.iter_mut().find_map(|p| match p {
                Pending::Batch(b) if b.seq == batch.seq => Some(b),
                _ => None,
            });
            let waiting = waiting.expect("a batch that is on its way is pending");
            let source = &mut waiting.sources[usize::from(batch.source)];
            debug_assert_eq!(batch.ends.len(), batch.commands.len());
            std::mem::swap(&mut source.reply, &mut batch.reply);
            std::mem::swap(&mut source.ends, &mut batch.ends);
            waiting.outstanding -= 1;
            waiting.fences += i64::from(batch.fences);
            let complete = waiting.is_complete();
            session.tells_of(batch.need, &self.shard.config);
            for slow in batch.slow.drain(..) {
                self.note_slow(Some(&session), slow);
            }
            if complete {
                self.drain_pending(&mut session);
            }
            self.settle(session);
        }
        if self.spare_batches.len() < SPARE_BATCHES && batch.recycle() {
            self.spare_batches.push(batch);
        }
    }

    /// Gives a session that has run back to its table, with its limits checked and its output announced.
    pub(super) fn settle(&mut self, mut session: Box<Session>) {
        debug_assert!(self.building.is_none(), "a read's batch is sealed before the next read");
        self.shard.catch_up(&mut session);
        if session.ended && !session.waits() {
            session.close_after_reply();
        }
        let waiting = session.out.total_bytes() + session.sending_bytes;
        self.shard.metrics.output_max.note(waiting as u64);
        if let Some(passed) = limits::check(&mut session, &self.shard.acl, &self.shard.config, self.shard.now) {
            self.close_for(&mut session, passed);
        }
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(session.key);
        }
        Shard::count_client(&mut self.shard.client_memory, &mut session);
        self.shard.sessions.give_back(session);
    }

    #[cold]
    fn close_for(&mut self, session: &mut Session, passed: Passed) {
        if session.closing == Closing::Now {
            return;
        }
        if let Passed::Soft(may_last_us) = passed {
            // One microsecond later it has been passed for longer.
            let due_us = self.shard.now.mono_us.saturating_add(may_last_us).saturating_add(1);
            if !std::mem::replace(&mut session.soft_limit_listed, true) {
                self.over_soft_limit.insert((due_us, session.key));
            }
            return;
        }
        session.closing = Closing::Now;
        match passed {
            Passed::Soft(_) => unreachable!("dealt with above"),
            Passed::Input(held, max) => {
                self.shard.metrics.query_buffer_disconnects += 1;
                tracing::warn!(
                    "Closing client {} ({}): {held} bytes of input wait, {max} are allowed",
                    session.id,
                    session.peer
                );
            }
            Passed::Output(held, max) => {
                self.shard.metrics.output_buffer_disconnects += 1;
                tracing::warn!(
                    "Closing client {} ({}): {held} bytes of replies wait, {max} are allowed",
                    session.id,
                    session.peer
                );
            }
        }
    }

    pub(super) fn queue(&mut self, session: &mut Session) {
        if !session.queued {
            session.queued = true;
            self.ready.push_back(session.key);
        }
    }

    fn make_ready(&mut self, key: SessionKey) {
        if let Some(session) = self.shard.sessions.get_mut(key)
            && !session.queued
        {
            session.queued = true;
            self.ready.push_back(key);
        }
    }

    /// When a soft limit may have been passed for too long, monotonic microseconds.
    pub fn next_soft_limit_us(&self) -> Option<u64> {
        self.over_soft_limit.first().map(|(due_us, _)| *due_us)
    }

    /// Looks again at those who were over their soft output limit, now that their time is over: who has read meanwhile is let be.
    pub fn check_soft_limits(&mut self, now: Now) {
        while let Some(&(due_us, key)) = self.over_soft_limit.first()
            && due_us <= now.mono_us
        {
            self.over_soft_limit.pop_first();
            let Some(mut session) = self.shard.sessions.take(key) else { continue };
            session.soft_limit_listed = false;
            if let Some(passed) = limits::check(&mut session, &self.shard.acl, &self.shard.config, now) {
                self.close_for(&mut session, passed);
            } else if session.over_soft_limit_since_us.is_some() {
                // It was under its limit for a while, or the limit was changed.
                session.soft_limit_listed = true;
                self.over_soft_limit.insert((now.mono_us + SOFT_LIMIT_LOOK_US, key));
            }
            self.shard.sessions.give_back(session);
            self.mark_dirty(key);
        }
    }

    /// Sessions that a call has closed or woken, or that were sent messages, are looked at by the event loop.
    pub fn notice_disturbed(&mut self) {
        while let Some(key) = self.shard.disturbed.pop() {
            let Shard { sessions, acl, config, now, .. } = &mut self.shard;
            if let Some(session) = sessions.get_mut(key)
                && let Some(passed) = limits::check(session, acl, config, *now)
                && let Some(mut session) = self.shard.sessions.take(key)
            {
                self.close_for(&mut session, passed);
                self.shard.sessions.give_back(session);
            }
            self.shard.count_client_of(key);
            self.mark_dirty(key);
        }
    }

    /// Writes a reply of this core in its place in the order.
    pub(super) fn reply_here(&mut self, session: &mut Session, silent: bool, write: impl FnOnce(&mut Reply)) {
        let proto = session.proto;
        if self.building.is_none() && session.pending.is_empty() {
            if !silent {
                session.out.set_proto(proto);
                write(&mut session.out);
            }
        } else {
            let building = self.building.get_or_insert_with(|| self.spare_buildings.pop().unwrap_or_default());
            building.reply_here(silent, |reply| {
                reply.set_proto(proto);
                write(reply);
            });
        }
    }

    /// Whether the client does not want to see the reply of the command that comes now.
    #[inline]
    pub(super) fn silent(&mut self, session: &mut Session) -> bool {
        match session.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                session.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    #[inline]
    pub(super) fn count(&mut self, session: &mut Session, command: &'static Command) {
        session.commands += 1;
        session.last_command = Some(command.id);
    }
}
