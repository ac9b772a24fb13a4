//! Commands that wait for data: BLPOP and its kin.
//!
//! A plan first tries its keys in order. Finding nothing, it leaves a waiter with each shard that owns one of them and waits for
//! the first of: served, the time is over, CLIENT UNBLOCK, the client is gone. Then it takes its waiters back. Inside a
//! transaction it tries, and that is all.
//!
//! ```text
//!   keys on one shard       one turn tries and, in the same step, gets in line; the shard serves the waiter by itself
//!   keys on several, or     the plan reserves them, tries, gets in line, and releases them. The lines hold offers: the shard
//!   an action over shards   wakes the plan, which reserves its keys, tries again, and either has its reply or declines. Two
//!                           shards may offer at once; the plan answers one after the other.
//! ```
//!
//! What can go wrong at each step: a waiter that was served while its time ran out has its reply in the post, which arrives
//! before the answer to the call that takes the waiter back, and counts; an offer to a plan whose wait is over is answered by
//! that same call; a client that goes away ends its wait like any other. Nothing is reserved while it waits: see
//! `shard::waiters`.

use std::pin::Pin;
use std::sync::Arc;

use super::coordinator::Coordinator;
use crate::base::ShardId;
use crate::resp::{CommandError, Reply};
use crate::shard::Shard;
use crate::shard::cx::WriteCx;
use crate::shard::waiters::{ServeFn, WaitEvent, Waiter, WaiterId};

/// What a plan waits for.
pub struct Wait {
    /// In the order in which they are tried.
    pub keys: Vec<Vec<u8>>,
    /// For how long, in microseconds; none for ever.
    pub timeout_us: Option<u64>,
    /// Whether it wants to be tried when a key has gone, too.
    pub on_absence: bool,
}

/// What a step over several shards returns: the reply, or none if there is nothing yet.
pub type Attempt = Pin<Box<dyn Future<Output = Result<Option<Reply>, CommandError>>>>;

/// How a waiter gets its reply.
enum Action<'a> {
    /// In one step on the owner of the key.
    Serve(ServeFn),
    /// By a plan of its own.
    Plan(&'a dyn Fn(Vec<u8>) -> Attempt),
}

impl Coordinator {
    /// Serves the command from the first of its keys that `serve` finds something in, and waits for that if need be. None if
    /// the time is over, or at once inside a transaction, which never waits.
    pub async fn block(&self, wait: Wait, serve: ServeFn) -> Result<Option<Reply>, CommandError> {
        let mut participants = self.participants();
        if let (Some(shard), None, false) = (participants.next(), participants.next(), self.is_held()) {
            drop(participants);
            let mut reply = self.reply();
            let (try_now, waiter) = (serve.clone(), self.waiter(shard, &wait, Some(serve)));
            let claimed = self.claimed_hashes(shard);
            let db = self.origin().db;
            let step = move |shard: &mut Shard| {
                for key in &waiter.keys {
                    if try_now(&mut WriteCx::new(shard.data_cx(db, true)), key, &mut reply)? {
                        return Ok(Some(reply));
                    }
                }
                get_in_line(shard, waiter, &claimed);
                Ok(None)
            };
            let served = self.transact(vec![(shard, step)]).await.pop().expect("one shard, one result")?;
            if served.is_some() {
                return Ok(served);
            }
            return self.wait(&wait, &[shard], None).await;
        }
        self.try_then_wait(&wait, &Action::Serve(serve)).await
    }

    /// As [`Coordinator::block`], for an action that concerns several shards.
    pub async fn block_on_plan(
        &self,
        wait: Wait,
        attempt: impl Fn(Vec<u8>) -> Attempt,
    ) -> Result<Option<Reply>, CommandError> {
        self.try_then_wait(&wait, &Action::Plan(&attempt)).await
    }

    async fn try_then_wait(&self, wait: &Wait, action: &Action<'_>) -> Result<Option<Reply>, CommandError> {
        if self.is_held() {
            return self.attempt(&wait.keys, action).await;
        }
        self.reserve().await;
        let found = self.attempt(&wait.keys, action).await;
        if !matches!(found, Ok(None)) {
            self.release();
            return found;
        }
        // Nothing can come to a key between the attempt and this: they are reserved.
        let shards = self.owners(&wait.keys);
        for &shard in &shards {
            let waiter = self.waiter(shard, wait, None);
            self.call(shard, move |shard| get_in_line(shard, waiter, &[])).await;
        }
        self.release();
        self.wait(wait, &shards, Some(action)).await
    }

    /// Waits until something ends the wait, and takes the waiters back.
    async fn wait(
        &self,
        wait: &Wait,
        shards: &[ShardId],
        action: Option<&Action<'_>>,
    ) -> Result<Option<Reply>, CommandError> {
        // A time that is so far away that the clock cannot say it never comes.
        self.begin_wait(wait.timeout_us.and_then(|us| self.origin().now.mono_us.checked_add(us)));
        let outcome = loop {
            match self.wait_event().await {
                WaitEvent::Served(result) => break result.map(Some),
                WaitEvent::Offered(key) => {
                    let action = action.expect("only lines of waiters that cannot be served on the spot make offers");
                    self.reserve().await;
                    let found = self.attempt(std::slice::from_ref(&key), action).await;
                    self.release();
                    match found {
                        Ok(None) => self.decline(key).await,
                        // What has become of another type meanwhile is waited out.
                        Err(CommandError::WrongType) => self.decline(key).await,
                        done => break done,
                    }
                }
                WaitEvent::TimedOut | WaitEvent::Gone | WaitEvent::Unblocked { with_error: false } => break Ok(None),
                WaitEvent::Unblocked { with_error: true } => break Err(CommandError::Unblocked),
                WaitEvent::Refused(error) => break Err(error),
                WaitEvent::Told(_) => unreachable!("who waits for data has asked no disk"),
            }
        };
        self.end_wait();
        let id = self.waiter_id();
        let served = matches!(outcome, Ok(Some(_)));
        for &shard in shards {
            self.call(shard, move |shard| {
                if served {
                    shard.effects.needs_all();
                }
                shard.waiters.cancel(id);
            })
            .await;
        }
        // Served while the wait ended for another reason: the value was taken for this client, so it gets it.
        while let Some(event) = self.next_event() {
            if let WaitEvent::Served(result) = event {
                return result.map(Some);
            }
        }
        outcome
    }

    /// Tries these keys in their order. To be called while they are reserved.
    async fn attempt(&self, keys: &[Vec<u8>], action: &Action<'_>) -> Result<Option<Reply>, CommandError> {
        for key in keys {
            let found = match action {
                Action::Plan(attempt) => attempt(key.clone()).await?,
                Action::Serve(serve) => {
                    let (serve, mut reply, key) = (Arc::clone(serve), self.reply(), key.clone());
                    let owner = self.slots().shard_of(&key);
                    self.with_data(owner, move |cx| Ok(serve(cx, &key, &mut reply)?.then_some(reply))).await?
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn decline(&self, key: Vec<u8>) {
        let (id, db) = (self.waiter_id(), self.origin().db);
        self.call(self.slots().shard_of(&key), move |shard| shard.decline_offer(id, db, &key)).await;
    }

    fn claimed_hashes(&self, shard: ShardId) -> Vec<u64> {
        self.claims_on(shard).map_or_else(Vec::new, |claims| claims.hashes().collect())
    }

    /// The owners of these keys, each once.
    fn owners(&self, keys: &[Vec<u8>]) -> Vec<ShardId> {
        let mut owners: Vec<ShardId> = Vec::new();
        for key in keys {
            let owner = self.slots().shard_of(key);
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        owners
    }

    fn waiter_id(&self) -> WaiterId {
        WaiterId { home: self.origin().shard, plan: self.origin().plan }
    }

    fn waiter(&self, shard: ShardId, wait: &Wait, serve: Option<ServeFn>) -> Waiter {
        let here = |key: &&Vec<u8>| self.slots().shard_of(key) == shard;
        Waiter {
            id: self.waiter_id(),
            db: self.origin().db,
            proto: self.origin().proto,
            keys: wait.keys.iter().filter(here).cloned().collect(),
            serve,
            on_absence: wait.on_absence,
            changes: Vec::new(),
        }
    }
}

/// Puts a waiter in line, with those keys of its command that it does not wait for noted as what serving it changes.
fn get_in_line(shard: &mut Shard, mut waiter: Waiter, claimed: &[u64]) {
    let waits_for: Vec<u64> = waiter.keys.iter().map(|key| shard.keyspace.db(waiter.db).hash(key)).collect();
    waiter.changes = claimed.iter().copied().filter(|hash| !waits_for.contains(hash)).collect();
    shard.waiters.add(waiter);
}
