//! Client-side caching, as far as it concerns how commands are run: whose reads are remembered, what follows a reply, and replies that
//! are held until other shards have told their clients.
//!
//! Part of the [`Engine`]: belongs to its core. The rule that it serves is told in [`tracking`]. Absent on purpose: who is told
//! what (`shard::tracked`).

use super::engine::Engine;
use super::plans::RunningPlan;
use crate::commands::table::{Command, Flags, Table};
use crate::metrics::CommandId;
use crate::resp::{Args, CommandError, Reply};
use crate::session::{Pending, Session};
use crate::shard::cx::DataFn;
use crate::shard::message::KeysFn;
use crate::tracking::{self, Fence, HeldReply};

impl Engine {
    /// Tells those who follow prefixes what this turn's commands have changed.
    pub fn broadcast(&mut self) {
        if self.shard.tracking.has_broadcast() {
            self.shard.broadcast_changes();
            self.pass_on();
        }
    }

    /// Shards have acknowledged invalidations, or will: see `tracking`.
    pub(super) fn take_acknowledgements(&mut self) {
        for (reply, count) in std::mem::take(&mut self.shard.tracking.acknowledged) {
            match reply {
                HeldReply::Batch { session, seq } => self.acknowledged_batches.push((session, seq, count)),
                HeldReply::Plan(id) => {
                    if let Some(plan) = self.plans.get_mut(&id) {
                        plan.acknowledged += count;
                        if let Some(result) = plan.take_held() {
                            self.conclude(id, result);
                        }
                    }
                }
            }
        }
    }

    /// Releases replies of batches that were held until invalidations had arrived. No session is out of its table now.
    pub(super) fn release_batches(&mut self) {
        while let Some((key, seq, count)) = self.acknowledged_batches.pop() {
            let Some(mut session) = self.shard.sessions.take(key) else { continue };
            let held = session.pending.iter_mut().find_map(|p| match p {
                Pending::Batch(batch) if batch.seq == seq => Some(batch),
                _ => None,
            });
            if let Some(batch) = held {
                batch.fences -= count;
                self.drain_pending(&mut session);
            }
            self.settle(session);
        }
    }

    /// A command of this shard's, when somebody may have to be told of what it changes, or what it reads is remembered, or its reply is
    /// not seen. Its own invalidations follow its reply; the reply is held if other shards have to tell their clients first.
    #[cold]
    pub(super) fn data_tracked(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        f: DataFn,
        args: Args<'_>,
        silent: bool,
        remember: Option<KeysFn>,
    ) {
        let here = self.shard.id;
        let (db, touch, proto) = (session.db, !session.no_touch, session.proto);
        let mut reply = Reply::with_proto(proto);
        self.shard.tracking.actor = Some(tracking::Client { home: here, session: session.key });
        self.shard.run(f, command.id, db, touch, args, &mut reply);
        if let Some(keys) = remember {
            self.shard.remember(keys, command.id, args);
        }
        self.shard.tracking.actor = None;
        let mut behind = Reply::with_proto(proto);
        let mut fences = 0;
        if self.shard.tracking.has_news() {
            let held = HeldReply::Batch { session: session.key, seq: session.next_batch };
            let fence = Fence { home: here, reply: held };
            fences = self.shard.send_invalidations(Some(fence), Some((session, &mut behind)));
        }
        self.shard.serve_ready();
        session.tells_of(self.shard.effects.take_need(), &self.shard.config);
        if fences > 0 {
            let building = self.building.get_or_insert_with(|| self.spare_buildings.pop().unwrap_or_default());
            building.pending.fences += i64::from(fences);
        }
        self.reply_here(session, silent, |out| out.append(&mut reply));
        if !behind.is_empty() {
            self.reply_here(session, false, |out| out.append(&mut behind));
        }
    }
}

impl Engine {
    /// Keys have been evicted for a command of this session that is about to run: those who wait for them, listen or may have copies
    /// are told, the session itself before the command's reply.
    #[cold]
    pub(super) fn tell_of_evicted(&mut self, session: &mut Session) {
        let mut ahead = Reply::with_proto(session.proto);
        if self.shard.tracking.has_news() {
            self.shard.send_invalidations(None, Some((session, &mut ahead)));
        }
        self.shard.serve_ready();
        if !ahead.is_empty() {
            self.reply_here(session, false, |out| out.append(&mut ahead));
        }
    }

    /// Makes room at the end of a turn, and tells of it. No session is out of its table now.
    pub(super) fn keep_within_memory(&mut self) {
        if self.shard.keep_within_memory() {
            self.serve_ready();
            self.broadcast();
        }
        self.pass_on();
    }
}

impl RunningPlan {
    /// The result, if it is there and no shard is waited for any more.
    pub(super) fn take_held(&mut self) -> Option<Result<Reply, CommandError>> {
        if i64::from(self.driver.fences()) > self.acknowledged { None } else { self.held.take() }
    }
}

/// Which command it is whose keys are to be remembered for its client, if it reads and they are.
#[inline]
pub(super) fn reads(session: &Session, command: &Command) -> Option<CommandId> {
    (session.remembers() && command.row.flags.has(Flags::READONLY)).then_some(command.id)
}

/// CLIENT CACHING is for the next command that is not CLIENT, or for the next transaction.
pub(super) fn forget_caching(session: &mut Session, command: Option<&Command>, table: &Table) {
    let is_client = |command: &Command| command.parent.is_some_and(|parent| table.get(parent).row.name == "client");
    if let Some(tracking) = &mut session.tracking
        && session.transaction.is_none()
        && !command.is_some_and(is_client)
    {
        tracking.caching = false;
    }
}
