//! MULTI, EXEC and what belongs to them: queueing commands, and running what was queued as one step.
//!
//! EXEC takes one of two ways:
//!
//! ```text
//!   data commands alone     sorted by shard (`parts`); each shard runs its part on its turn. Keys of one shard: one message
//!   anything else           reserve everything that any command names, look whether watched keys have changed, run the
//!                           commands one after the other (neighbours together where they can be), release
//! ```
//!
//! The second way serves transactions that select databases, talk to their own connection, move values between shards, or concern
//! all keys. Watched keys that are all on the one shard that does the work are looked at there, in the same step.
//!
//! Absent on purpose: undoing. A command that fails leaves its error in the reply, and the others run, as in Redis.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims::Collector;
use super::denied::{allows_all, refused_in_exec};
use super::engine::{Engine, Flow};
use super::parts::{Client, Condition, Parts};
use crate::base::ShardId;
use crate::commands::client_tracking::keys_of;
use crate::commands::monitor::{self, ShownTransaction, may_be_shown};
use crate::commands::table::{Command, Flags, PlanFn, Run, SessionCx, SessionFn, table};
use crate::commands::transaction::forget_watches;
use crate::metrics::CommandId;
use crate::metrics::slowlog::Argv;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::{Queued, Session, WatchedKey};
use crate::shard::Shard;
use crate::shard::nodes::CROSS_SLOT;
use crate::shard::slots::SlotMap;
use crate::shard::timing::{Slow, slow_ns};
use crate::txn::{Coordinator, Origin, Plan};

/// Commands that are not queued between MULTI and EXEC.
const RUN_INSIDE_MULTI: [&str; 6] = ["discard", "exec", "multi", "quit", "reset", "watch"];

/// Whether a command runs at once even between MULTI and EXEC.
pub fn runs_inside_multi(command: &Command) -> bool {
    command.parent.is_none() && RUN_INSIDE_MULTI.contains(&command.row.name)
}

/// Runs a plan of several steps as one. If the keys that `reads` finds are to be remembered for the client, that is a part of it.
pub fn isolated(coordinator: Coordinator, plan: PlanFn, args: OwnedArgs, reads: Option<CommandId>) -> Plan {
    Box::pin(async move {
        let steps = async {
            let Some(id) = reads else { return plan(coordinator.clone(), args).await };
            let keys = ReadKeys::of(id, args.as_args(), coordinator.slots());
            let result = plan(coordinator.clone(), args).await;
            keys.remember(&coordinator).await;
            result
        };
        coordinator.isolated(steps).await
    })
}

/// A plan that may wait for data. What it is told by somebody else's write comes after the invalidation of that, so the keys are
/// remembered before.
pub fn waiting(coordinator: Coordinator, plan: PlanFn, args: OwnedArgs, reads: Option<CommandId>) -> Plan {
    Box::pin(async move {
        if let Some(id) = reads {
            ReadKeys::of(id, args.as_args(), coordinator.slots()).remember(&coordinator).await;
        }
        plan(coordinator, args).await
    })
}

/// The keys that a command reads, by owner.
struct ReadKeys(BTreeMap<ShardId, Vec<Vec<u8>>>);

impl ReadKeys {
    fn of(id: CommandId, args: Args<'_>, slots: SlotMap) -> ReadKeys {
        let mut by_owner: BTreeMap<ShardId, Vec<Vec<u8>>> = BTreeMap::new();
        keys_of(id, args, &mut |key| by_owner.entry(slots.shard_of(key)).or_default().push(key.to_vec()));
        ReadKeys(by_owner)
    }

    async fn remember(self, coordinator: &Coordinator) {
        let call =
            |(owner, keys): (ShardId, Vec<Vec<u8>>)| coordinator.call(owner, move |shard| shard.remember_keys(&keys));
        let calls: Vec<_> = self.0.into_iter().map(call).collect();
        for call in calls {
            call.await;
        }
    }
}

/// Whether none of these keys of this shard has changed, or come to its end, since it was watched.
fn are_unchanged(shard: &Shard, watches: &[WatchedKey]) -> bool {
    let now = shard.now.millis();
    watches.iter().all(|watch| {
        shard.watched.is_unchanged(watch.db, &watch.key, watch.version)
            && shard.keyspace.db(watch.db).find(&watch.key).is_none_or(|entry| !entry.is_expired(now))
    })
}

impl Engine {
    /// Queues a command until EXEC.
    pub(super) fn enqueue(&mut self, session: &mut Session, command: &'static Command, args: Args<'_>) {
        let transaction = session.transaction.as_mut().expect("MULTI has begun one");
        transaction.wants_memory |= command.row.flags.has(Flags::DENYOOM);
        transaction.push(command.id, OwnedArgs::from_args(args), command.row.flags.has(Flags::WRITE));
        let silent = self.silent(session);
        self.reply_here(session, silent, |reply| reply.simple("QUEUED"));
    }

    /// A command was refused: a transaction that was being queued is broken. An EXEC that is refused ends its transaction, and
    /// says so in an error of its own.
    pub(super) fn refused_in_transaction(
        &mut self,
        session: &mut Session,
        error: CommandError,
        id: Option<CommandId>,
    ) -> CommandError {
        if id.is_some_and(|id| matches!(self.table.get(id).row.run, Run::Exec)) {
            session.transaction = None;
            forget_watches(session, &mut self.shard);
            if error == CROSS_SLOT {
                return error;
            }
            let text = error.to_string();
            let text = text.strip_prefix("ERR ").unwrap_or(&text);
            return CommandError::Message(format!("EXECABORT Transaction discarded because of: {text}"));
        }
        if let Some(transaction) = &mut session.transaction {
            transaction.broken = true;
        }
        error
    }

    /// EXEC.
    pub(super) fn exec(&mut self, session: &mut Session, command: &'static Command, args: Args<'_>) -> Flow {
        let watched = self.shard.pubsub.is_watched();
        let mut shown = watched.then(|| monitor::transaction(&self.shard, session, self.table, args));
        let refusal = match &session.transaction {
            None => Some(CommandError::Custom("ERR EXEC without MULTI")),
            Some(transaction) => transaction.broken.then_some(CommandError::ExecAbort),
        };
        if let Some(error) = refusal {
            if session.transaction.take().is_some() {
                forget_watches(session, &mut self.shard);
            }
            let flow = self.start_plan(session, command, args, Vec::new(), |_| Box::pin(async { Err(error) }));
            if let (Flow::Next, Some(shown)) = (&flow, shown) {
                self.shard.shown.extend_from_slice(&shown.dropped);
            }
            return flow;
        }
        // It is looked at before it is taken: if the plan cannot start yet, EXEC comes again.
        let transaction = session.transaction.as_ref().expect("it was just there");
        let (slots, client) = (self.shard.slots, self.client(session));
        let mut claims = Collector::new(slots, self.shard.id, session.node, &self.shard.keyspace);
        let mut parts = Parts::of_exec();
        let mut simple = true;
        for queued in &transaction.commands {
            let command = self.table.get(queued.id);
            claims.add(command, queued.args.as_args(), true);
            simple = simple && parts.add(command, queued.args.as_args(), client, slots);
        }
        // Looked at once more: the user, or its rules, may not be what they were.
        let checked = session.is_checked();
        simple = simple && (!checked || allows_all(session.user(), &transaction.commands));
        claims.add_watched(&session.watches);
        let claims = claims.finish();
        let alone = claims.len() == 1 && !parts.is_empty();
        let mut transaction = session.transaction.take();
        let mut watches = std::mem::take(&mut session.watches);
        let (count, bytes) = transaction.as_ref().map_or((0, 0), |t| (t.commands.len(), t.bytes));
        // Whether watched keys have changed is known when it has run.
        let shown_now = if watches.is_empty() { shown.take() } else { None };
        let flow = self.start_plan(session, command, args, claims, |coordinator| {
            let commands = transaction.take().map_or_else(Vec::new, |t| t.commands);
            let watches = std::mem::take(&mut watches);
            if simple && (watches.is_empty() || alone) {
                Box::pin(run_parts(coordinator, parts, count, watches, shown.take()))
            } else {
                Box::pin(run_one_by_one(coordinator, commands, watches, shown.take(), checked))
            }
        });
        if matches!(flow, Flow::Hold) {
            (session.transaction, session.watches) = (transaction, watches);
        } else {
            session.commands += count as u64;
            session.running_bytes = if session.plan_running { bytes } else { 0 };
            if let Some(shown) = shown_now {
                self.shard.shown.extend_from_slice(&shown.done);
            }
        }
        flow
    }
}

/// EXEC of data commands alone.
async fn run_parts(
    coordinator: Coordinator,
    parts: Parts,
    count: usize,
    watches: Vec<WatchedKey>,
    shown: Option<ShownTransaction>,
) -> Result<Reply, CommandError> {
    let mut reply = coordinator.reply();
    let mark = reply.mark();
    reply.array(count);
    if watches.is_empty() {
        parts.run(&coordinator, &mut reply).await;
        return Ok(reply);
    }
    let watches = Arc::new(watches);
    let watched = Arc::clone(&watches);
    let unchanged: Condition = Arc::new(move |shard| are_unchanged(shard, &watched));
    let done = parts.run_if(&coordinator, unchanged, &mut reply).await;
    forget(&coordinator, &watches);
    show(&coordinator, shown, done).await;
    if !done {
        reply.truncate(mark);
        reply.null_array();
    }
    Ok(reply)
}

/// Shows MONITOR what has become of a transaction that watched keys.
async fn show(coordinator: &Coordinator, shown: Option<ShownTransaction>, done: bool) {
    let Some(shown) = shown else { return };
    let lines = if done { shown.done } else { shown.dropped };
    coordinator.call(coordinator.origin().shard, move |shard| shard.shown.extend_from_slice(&lines)).await;
}

/// Takes back what was watched, without waiting for it.
fn forget(coordinator: &Coordinator, watches: &[WatchedKey]) {
    for watch in watches.iter().cloned() {
        drop(coordinator.call(watch.shard, move |shard| shard.watched.forget(watch.db, &watch.key)));
    }
}

/// EXEC of anything.
async fn run_one_by_one(
    coordinator: Coordinator,
    commands: Vec<Queued>,
    watches: Vec<WatchedKey>,
    shown: Option<ShownTransaction>,
    checked: bool,
) -> Result<Reply, CommandError> {
    let mut reply = coordinator.reply();
    coordinator
        .isolated(async {
            let unchanged = look_at_watched(&coordinator, &watches).await;
            forget(&coordinator, &watches);
            show(&coordinator, shown, unchanged).await;
            if unchanged {
                reply.array(commands.len());
                run_all(&coordinator, commands, checked, &mut reply).await;
            } else {
                reply.null_array();
            }
        })
        .await;
    Ok(reply)
}

async fn look_at_watched(coordinator: &Coordinator, watches: &[WatchedKey]) -> bool {
    let mut calls = Vec::new();
    for shard in coordinator.slots().all() {
        let here: Vec<WatchedKey> = watches.iter().filter(|watch| watch.shard == shard).cloned().collect();
        if !here.is_empty() {
            calls.push(coordinator.call(shard, move |shard| are_unchanged(shard, &here)));
        }
    }
    let mut unchanged = true;
    for call in calls {
        unchanged &= call.await;
    }
    unchanged
}

/// Runs the commands one after the other. Each is looked at before if the client is `checked`, or becomes it on the way.
async fn run_all(coordinator: &Coordinator, commands: Vec<Queued>, mut checked: bool, reply: &mut Reply) {
    let Origin { db, proto, touch, remembers, shard: home, session, .. } = *coordinator.origin();
    let mut client = Client { db, proto, touch, remembers, home };
    let mut parts = Parts::of_exec();
    for Queued { id, args } in commands {
        let command = table().get(id);
        if checked {
            let asked = args.clone();
            let refused = move |shard: &mut Shard| refused_in_exec(shard, session, command, asked.as_args());
            if let Some(error) = coordinator.call(home, refused).await {
                if !parts.is_empty() {
                    std::mem::replace(&mut parts, Parts::of_exec()).run(coordinator, reply).await;
                }
                reply.error(&error);
                continue;
            }
        }
        if parts.add(command, args.as_args(), client, coordinator.slots()) {
            continue;
        }
        if !parts.is_empty() {
            std::mem::replace(&mut parts, Parts::of_exec()).run(coordinator, reply).await;
        }
        match command.row.run {
            Run::Session(f) => client = run_for_session(coordinator, command, f, args, client, reply).await,
            Run::Hops(_, plan) | Run::Steps(_, plan) | Run::Server(plan) | Run::Spread(_, _, plan) => {
                run_plan(coordinator, command, plan, args, client, reply).await;
            }
            Run::Data(_) | Run::Split(..) | Run::Exec | Run::Container => {
                unreachable!("data steps were added above, and neither of the others is queued")
            }
        }
        // AUTH and HELLO, or ACL SETUSER and its kin.
        if command.row.flags.has(Flags::NO_AUTH) || command.row.flags.has(Flags::ADMIN) {
            let is_checked = move |shard: &mut Shard| shard.sessions.get(session).is_some_and(Session::is_checked);
            checked = coordinator.call(home, is_checked).await;
        }
    }
    if !parts.is_empty() {
        parts.run(coordinator, reply).await;
    }
}

/// Runs a command on the connection's state. Returns for whom the next commands run: it may have selected another database.
async fn run_for_session(
    coordinator: &Coordinator,
    command: &'static Command,
    f: SessionFn,
    args: OwnedArgs,
    client: Client,
    reply: &mut Reply,
) -> Client {
    let key = coordinator.origin().session;
    let run = move |shard: &mut Shard| {
        let mut reply = Reply::with_proto(client.proto);
        // If the client has gone, nobody reads the reply, but it has its place in the transaction's.
        let Some(mut session) = shard.sessions.take(key) else {
            reply.null();
            return (reply, client, None);
        };
        let begun_ns = (shard.clock_ns)();
        session.in_exec = true;
        let outcome = f(&mut SessionCx { session: &mut session, shard, row: command }, args.as_args(), &mut reply);
        if let Err(error) = outcome {
            reply.clear();
            reply.error(&error);
            shard.metrics.count_error(error.code());
            shard.metrics.commands.record_failed(command.id);
        }
        session.in_exec = false;
        let (db, proto, touch) = (session.db, session.proto, !session.no_touch);
        let client = Client { db, proto, touch, remembers: session.remembers(), ..client };
        shard.sessions.give_back(session);
        let ns = count(shard, command.id, begun_ns);
        let slow = (ns >= slow_ns(&shard.config)).then(|| {
            let argv = Argv::of(args.len(), may_be_shown(command, args.as_args()));
            Slow { id: command.id, ns, argv }
        });
        (reply, client, slow)
    };
    let (mut own, client, slow) = coordinator.call(coordinator.origin().shard, run).await;
    coordinator.were_slow(slow);
    reply.append(&mut own);
    client
}

/// Runs a command that takes several steps.
async fn run_plan(
    coordinator: &Coordinator,
    command: &'static Command,
    plan: PlanFn,
    args: OwnedArgs,
    client: Client,
    reply: &mut Reply,
) {
    let begun_ns = (coordinator.origin().clock_ns)();
    let argv = Argv::of(args.len(), may_be_shown(command, args.as_args()));
    let reads = (client.remembers && command.row.flags.has(Flags::READONLY))
        .then(|| ReadKeys::of(command.id, args.as_args(), coordinator.slots()));
    let outcome = plan(coordinator.within(client.db, client.proto, client.touch), args).await;
    if let Some(keys) = reads {
        keys.remember(coordinator).await;
    }
    let failed = outcome.as_ref().err().map(|error| error.code().to_owned());
    match outcome {
        Ok(mut own) => reply.append(&mut own),
        Err(error) => reply.error(&error),
    }
    let id = command.id;
    let ns = (coordinator.origin().clock_ns)().saturating_sub(begun_ns);
    // Whether that is slow is looked at when the transaction is over.
    coordinator.were_slow([Slow { id, ns, argv }]);
    drop(coordinator.call(coordinator.origin().shard, move |shard| {
        count(shard, id, begun_ns);
        if let Some(code) = failed {
            shard.metrics.count_error(&code);
            shard.metrics.commands.record_failed(id);
        }
    }));
}

fn count(shard: &mut Shard, id: CommandId, begun_ns: u64) -> u64 {
    let ns = (shard.clock_ns)().saturating_sub(begun_ns);
    shard.metrics.commands.record_run(id, 1, ns, shard.config.latency_tracking);
    shard.metrics.commands_processed += 1;
    ns
}
