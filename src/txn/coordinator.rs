//! The coordinator's side of a plan: it turns calls into messages and answers into values, and reserves what the plan needs.
//!
//! Lives on the connection's core. The plan holds a [`Coordinator`], whoever drives it holds the [`Driver`]; both share one
//! small port, and never across an await.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::time::Now;
use crate::base::{DbIndex, Epoch, ShardId};
use crate::resp::CommandError;
use crate::resp::{Reply, Resp};
use crate::session::SessionKey;
use crate::shard::Shard;
use crate::shard::cx::WriteCx;
use crate::shard::message::{Answer, CallFn, Standing, TurnFn};
use crate::shard::reservations::{Access, Claims, Order, TxnId};
use crate::shard::slots::SlotMap;
use crate::shard::timing::Slow;
use crate::shard::waiters::WaitEvent;
use crate::tracking::{Client, Fence, HeldReply};
use crate::types::{DataType, Object};

/// A command that takes more than one step. Its output is the reply, or the error.
pub type Plan = Pin<Box<dyn Future<Output = Result<Reply, CommandError>>>>;

/// What a plan knows of the connection it runs for.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The plan's own number, unique on its shard while it runs.
    pub plan: u32,
    /// The connection.
    pub session: SessionKey,
    /// CLIENT ID.
    pub client: u64,
    /// The shard of the connection.
    pub shard: ShardId,
    /// Its database.
    pub db: DbIndex,
    /// Its protocol.
    pub proto: Resp,
    /// Whether its lookups touch keys.
    pub touch: bool,
    /// Whether the keys that it reads are remembered for it.
    pub remembers: bool,
    /// Whether the client sees the shard of its connection alone, as a node of a cluster.
    pub node: bool,
    /// When the command came.
    pub now: Now,
    /// The shard's monotonic clock, in nanoseconds.
    pub clock_ns: fn() -> u64,
}

/// What a plan sends to a shard.
pub enum Outgoing {
    /// Runs at once.
    Call(CallFn),
    /// Runs when the plan's turn has come there.
    Turn {
        /// The plan's place.
        standing: Standing,
        /// Whether its claims stay.
        keep: bool,
        /// What to run.
        run: TurnFn,
    },
}

#[derive(Default)]
struct Port {
    /// What the driver has yet to send.
    outgoing: Vec<(ShardId, u32, Outgoing)>,
    /// Answers by call; a call's slot stays its own.
    answers: Vec<Option<Answer>>,
    /// Whether and until when the plan waits for data, monotonic microseconds.
    waits: Option<Option<u64>>,
    /// What a plan that waits has been told and has not taken note of.
    events: VecDeque<WaitEvent>,
    /// Shards that acknowledge invalidations before the reply may leave.
    fences: u32,
    /// The epoch of the log that is safe before the reply may leave, for a client that waits for that.
    need: Epoch,
    /// Whether the plan's keys are reserved and it has its turn on all shards.
    held: bool,
    /// Commands of a transaction that may have been slow.
    slow: Vec<Slow>,
}

/// What a transaction claims, by shard, each shard once.
pub type ClaimsByShard = Vec<(ShardId, Claims)>;

/// A plan's way to the shards. See the module.
#[derive(Clone)]
pub struct Coordinator {
    port: Rc<RefCell<Port>>,
    origin: Origin,
    slots: SlotMap,
    claims: Rc<ClaimsByShard>,
}

impl Coordinator {
    /// The connection it runs for.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Who owns what.
    pub fn slots(&self) -> SlotMap {
        self.slots
    }

    /// The only shard that the client sees, if it sees but one.
    pub fn node(&self) -> Option<ShardId> {
        self.origin.node.then_some(self.origin.shard)
    }

    /// The shards that the client sees: what concerns all keys concerns those.
    pub fn seen(&self) -> impl Iterator<Item = ShardId> + use<> {
        let node = self.node();
        self.slots.all().filter(move |shard| node.is_none_or(|node| node == *shard))
    }

    /// An empty reply in the client's protocol.
    pub fn reply(&self) -> Reply {
        let mut reply = Reply::default();
        reply.set_proto(self.origin.proto);
        reply
    }

    /// The same plan on behalf of a command of a transaction, which may have changed the database or the protocol.
    pub fn within(&self, db: DbIndex, proto: Resp, touch: bool) -> Coordinator {
        Coordinator { origin: Origin { db, proto, touch, ..self.origin }, ..self.clone() }
    }

    /// The transaction that the plan is.
    pub fn txn(&self) -> TxnId {
        TxnId { home: self.origin.shard, number: u64::from(self.origin.plan) }
    }

    /// The same, if it concerns several shards.
    fn over_several(&self) -> Option<TxnId> {
        (self.claims.len() > 1).then(|| self.txn())
    }

    /// The connection, as the tables of who has read what name it.
    pub fn client(&self) -> Client {
        Client { home: self.origin.shard, session: self.origin.session }
    }

    /// The plan's reply, as something that is held until invalidations have arrived.
    pub fn fence(&self) -> Fence {
        Fence { home: self.origin.shard, reply: HeldReply::Plan(self.origin.plan) }
    }

    /// Commands of the transaction that the plan is took so long; whoever drives it looks whether that was too long.
    pub fn were_slow(&self, commands: impl IntoIterator<Item = Slow>) {
        self.port.borrow_mut().slow.extend(commands);
    }

    /// Whether what the plan does now is isolated: its keys are reserved on all shards, be it by itself or by the transaction
    /// around it.
    pub fn is_held(&self) -> bool {
        self.port.borrow().held
    }

    fn send<T: Send + 'static>(&self, shard: ShardId, what: Outgoing) -> impl Future<Output = T> + use<T> {
        let mut port = self.port.borrow_mut();
        let slot = port.answers.len();
        port.answers.push(None);
        port.outgoing.push((shard, u32::try_from(slot).expect("a plan makes few calls"), what));
        drop(port);
        let port = self.port.clone();
        poll_fn(move |_| {
            let mut port = port.borrow_mut();
            match port.answers[slot].take() {
                Some(answer) => {
                    let (end, result) = *answer.downcast::<(StepEnd, T)>().expect("the call returned this type");
                    port.fences += end.fences;
                    port.need = port.need.max(end.need);
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            }
        })
    }

    /// Sends `f` to a shard at once; the future waits for what it returns. It runs there as soon as it arrives: what the plan has
    /// not reserved may be in the middle of another transaction.
    pub fn call<T, F>(&self, shard: ShardId, f: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Shard) -> T + Send + 'static,
    {
        let (held, txn, client, fence) = (self.is_held(), self.txn(), self.client(), self.fence());
        let over_several = self.over_several();
        self.send(
            shard,
            Outgoing::Call(Box::new(move |shard| {
                shard.tracking.actor = Some(client);
                let unit = shard.begin_step(over_several);
                let result = f(shard);
                shard.end_step(unit);
                let end = end_step(shard, fence);
                // Who waits for what a transaction changes is served after it.
                if held {
                    shard.defer_ready(txn);
                }
                Box::new((end, result)) as Box<dyn Any + Send>
            })),
        )
    }

    /// Sends a data step to the owner of `key`, in the client's database.
    pub fn with_key<T, F>(&self, key: &[u8], f: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriteCx<'_>) -> T + Send + 'static,
    {
        self.with_data(self.slots.shard_of(key), f)
    }

    /// Sends a data step to a shard, in the client's database.
    pub fn with_data<T, F>(&self, shard: ShardId, f: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriteCx<'_>) -> T + Send + 'static,
    {
        let (db, touch) = (self.origin.db, self.origin.touch);
        self.call(shard, move |shard| f(&mut WriteCx::new(shard.data_cx(db, touch))))
    }

    /// A copy of the value of type `T` at `key`, wherever it is, looked up as a read command does; the error is
    /// [`CommandError::WrongType`].
    pub fn fetch<T: DataType>(&self, key: &[u8]) -> impl Future<Output = Result<Option<T>, CommandError>> + use<T> {
        let name = key.to_vec();
        self.with_key(key, move |cx| Ok(cx.typed::<T>(&name)?.cloned()))
    }

    /// Leaves copies that the plan has worked on to this shard, to be freed in slices: they may be the last to have what they hold.
    pub fn bury(&self, copies: Vec<Object>) {
        let db = self.origin.db;
        drop(self.call(self.origin.shard, move |shard| {
            copies.into_iter().for_each(|copy| shard.keyspace.db_mut(db).bury_object(copy));
        }));
    }

    /// The end of a slice of long work: other clients of this core have their turn before the plan goes on.
    pub fn yield_core(&self) -> impl Future<Output = ()> + use<> {
        self.call(self.origin.shard, |_| ())
    }

    /// Sends `f` to all shards at once and waits for all; the results are in shard order.
    pub async fn call_all<T: Send + 'static>(&self, f: impl Fn(&mut Shard) -> T + Clone + Send + 'static) -> Vec<T> {
        self.call_each(self.slots.all(), f).await
    }

    /// The same, to all that the client sees.
    pub async fn call_seen<T: Send + 'static>(&self, f: impl Fn(&mut Shard) -> T + Clone + Send + 'static) -> Vec<T> {
        self.call_each(self.seen(), f).await
    }

    async fn call_each<T: Send + 'static>(
        &self,
        shards: impl Iterator<Item = ShardId>,
        f: impl Fn(&mut Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let call = |shard| {
            let f = f.clone();
            self.call(shard, move |shard| f(shard))
        };
        let calls: Vec<_> = shards.map(call).collect();
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(call.await);
        }
        results
    }

    // ---- reservations

    /// The shards on which the command claims something.
    pub fn participants(&self) -> impl ExactSizeIterator<Item = ShardId> + '_ {
        self.claims.iter().map(|(shard, _)| *shard)
    }

    /// What the command claims on one shard.
    pub(super) fn claims_on(&self, shard: ShardId) -> Option<&Claims> {
        self.claims.iter().find(|(owner, _)| *owner == shard).map(|(_, claims)| claims)
    }

    /// The same plan with other claims than its command's keys: all keys of all shards.
    pub fn claiming_everything(&self, access: Access) -> Coordinator {
        let claims = self.slots.all().map(|shard| (shard, Claims::everything(access))).collect();
        Coordinator { claims: Rc::new(claims), ..self.clone() }
    }

    /// Reserves what the command claims and waits until it has its turn on every shard. From then on until
    /// [`Coordinator::release`] all calls of the plan are one step to everybody else. Nothing if that is so already.
    pub async fn reserve(&self) {
        if self.is_held() {
            return;
        }
        if !self.claims.is_empty() {
            let steps = self.claims.iter().map(|(shard, _)| (*shard, |_: &mut Shard| ())).collect();
            self.schedule(steps, true).await;
        }
        self.port.borrow_mut().held = true;
    }

    /// Ends the reservation. Does not wait: whatever this plan or its client sends to a shard from now on arrives there later.
    pub fn release(&self) {
        let txn = self.txn();
        self.port.borrow_mut().held = false;
        for (shard, _) in self.claims.iter() {
            drop(self.call(*shard, move |shard| shard.release_txn(txn)));
        }
    }

    /// Runs these steps as one: reserves before and releases after them, unless the transaction around does.
    pub async fn isolated<T>(&self, steps: impl Future<Output = T>) -> T {
        if self.is_held() {
            return steps.await;
        }
        self.reserve().await;
        let result = steps.await;
        self.release();
        result
    }

    /// Runs one step on every shard, all of them one step to everybody else. For commands that claim everything.
    pub async fn transact_all<T: Send + 'static>(
        &self,
        f: impl Fn(&mut Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let steps = self.slots.all().map(|shard| {
            let f = f.clone();
            (shard, move |shard: &mut Shard| f(shard))
        });
        self.transact(steps.collect()).await
    }

    /// The same, on every shard that the client sees.
    pub async fn transact_seen<T: Send + 'static>(
        &self,
        f: impl Fn(&mut Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let steps = self.seen().map(|shard| {
            let f = f.clone();
            (shard, move |shard: &mut Shard| f(shard))
        });
        self.transact(steps.collect()).await
    }

    /// Runs one step on each of these shards, all of them one step to everybody else, and returns what they return. The shards are
    /// those on which the command claims something.
    pub async fn transact<T, F>(&self, steps: Vec<(ShardId, F)>) -> Vec<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Shard) -> T + Send + 'static,
    {
        if self.is_held() || steps.is_empty() {
            let calls: Vec<_> = steps.into_iter().map(|(shard, step)| self.call(shard, step)).collect();
            let mut results = Vec::with_capacity(calls.len());
            for call in calls {
                results.push(call.await);
            }
            return results;
        }
        self.schedule(steps, false).await
    }

    /// The scheme that the module above tells of. The shards are exactly those of the claims.
    async fn schedule<T, F>(&self, steps: Vec<(ShardId, F)>, keep: bool) -> Vec<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Shard) -> T + Send + 'static,
    {
        let home = self.origin.shard;
        let last = match steps.iter().filter(|(shard, _)| *shard != home).count() {
            0 => home,
            1 => steps.iter().map(|(shard, _)| *shard).find(|shard| *shard != home).expect("it was counted"),
            _ => return self.schedule_several(steps, keep).await,
        };
        // One shard decides alone, with what home has proposed if home takes part.
        let proposed = match steps.len() {
            1 => None,
            _ => Some(self.propose(home).await),
        };
        let mut results: Vec<Option<T>> = steps.iter().map(|_| None).collect();
        let mut at_home = None;
        let mut order = None;
        for (at, (shard, step)) in steps.into_iter().enumerate() {
            if shard == last {
                let at_least_ns = proposed.map_or(0, |order: Order| order.ns);
                let standing = Standing::New { claims: self.claims_of(shard), at_least_ns };
                let (place, result) = self.turn(shard, standing, keep, step).await;
                order = Some(place);
                results[at] = Some(result);
            } else {
                at_home = Some((at, step));
            }
        }
        if let Some((at, step)) = at_home {
            let place = order.expect("the last shard has decided");
            results[at] = Some(self.turn(home, Standing::Settled(place), keep, step).await.1);
        }
        results.into_iter().map(|result| result.expect("every step has run")).collect()
    }

    async fn schedule_several<T, F>(&self, steps: Vec<(ShardId, F)>, keep: bool) -> Vec<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Shard) -> T + Send + 'static,
    {
        let proposals: Vec<_> = steps.iter().map(|(shard, _)| self.propose(*shard)).collect();
        let mut latest: Option<Order> = None;
        for proposal in proposals {
            latest = latest.max(Some(proposal.await));
        }
        let order = latest.expect("there are several shards");
        let turns: Vec<_> =
            steps.into_iter().map(|(shard, step)| self.turn(shard, Standing::Settled(order), keep, step)).collect();
        let mut results = Vec::with_capacity(turns.len());
        for turn in turns {
            results.push(turn.await.1);
        }
        results
    }

    fn claims_of(&self, shard: ShardId) -> Claims {
        self.claims_on(shard).expect("steps run on shards that the command claims something on").clone()
    }

    fn propose(&self, shard: ShardId) -> impl Future<Output = Order> + use<> {
        let (txn, claims) = (self.txn(), self.claims_of(shard));
        self.call(shard, move |shard| {
            let order = shard.reservations.next_order(txn, 0, (shard.clock_ns)());
            shard.reservations.propose(order, claims);
            order
        })
    }

    fn turn<T, F>(
        &self,
        shard: ShardId,
        standing: Standing,
        keep: bool,
        step: F,
    ) -> impl Future<Output = (Order, T)> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Shard) -> T + Send + 'static,
    {
        let (client, fence, over_several) = (self.client(), self.fence(), self.over_several());
        let run: TurnFn = Box::new(move |shard, order| {
            shard.tracking.actor = Some(client);
            let unit = shard.begin_step(over_several);
            let result = step(shard);
            shard.end_step(unit);
            Box::new((end_step(shard, fence), (order, result))) as Answer
        });
        self.send(shard, Outgoing::Turn { standing, keep, run })
    }

    // ---- waiting for data

    /// From now on the plan waits for data, until this time if there is one, and its driver passes events on.
    pub(super) fn begin_wait(&self, until_us: Option<u64>) {
        self.port.borrow_mut().waits = Some(until_us);
    }

    /// It does not any more.
    pub(super) fn end_wait(&self) {
        self.port.borrow_mut().waits = None;
    }

    /// The next event for a plan that has asked somebody else for something: [`WaitEvent::Told`]. Others come when the client has gone,
    /// or at the time that was given to [`Coordinator::wait_until`].
    pub fn next_told(&self) -> impl Future<Output = WaitEvent> + use<> {
        let port = self.port.clone();
        poll_fn(move |_| match port.borrow_mut().events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        })
    }

    /// From now on there is an event at this time, monotonic microseconds, at the latest.
    pub fn wait_until(&self, until_us: Option<u64>) {
        self.begin_wait(until_us);
    }

    /// Events come when they come again.
    pub fn end_wait_until(&self) {
        self.end_wait();
    }

    /// The next event, when it comes.
    pub(super) fn wait_event(&self) -> impl Future<Output = WaitEvent> {
        let port = self.port.clone();
        poll_fn(move |_| match port.borrow_mut().events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        })
    }

    /// The next event, if it is here.
    pub(super) fn next_event(&self) -> Option<WaitEvent> {
        self.port.borrow_mut().events.pop_front()
    }
}

/// What must have happened before anybody hears of a step.
struct StepEnd {
    /// So many shards have acknowledged invalidations.
    fences: u32,
    /// This epoch of the log is safe.
    need: Epoch,
}

/// A step is over: tells who has read what it has changed.
fn end_step(shard: &mut Shard, fence: Fence) -> StepEnd {
    shard.tracking.actor = None;
    let fences = if shard.tracking.has_news() { shard.send_invalidations(Some(fence), None) } else { 0 };
    StepEnd { fences, need: shard.effects.take_need() }
}

/// Where a plan stands after it was driven.
pub enum Progress {
    /// It waits for answers.
    Waiting,
    /// It is done.
    Done(Result<Reply, CommandError>),
}

/// Drives one plan.
pub struct Driver {
    plan: Plan,
    port: Rc<RefCell<Port>>,
}

impl Driver {
    /// Starts a plan for a command that claims this; nothing runs before the first [`Driver::drive`].
    pub fn new(
        origin: Origin,
        slots: SlotMap,
        claims: ClaimsByShard,
        start: impl FnOnce(Coordinator) -> Plan,
    ) -> Driver {
        let port = Rc::new(RefCell::new(Port::default()));
        let plan = start(Coordinator { port: port.clone(), origin, slots, claims: Rc::new(claims) });
        Driver { plan, port }
    }

    /// Runs the plan as far as it gets without an answer. What it wants to send is then in [`Driver::take_outgoing`].
    pub fn drive(&mut self) -> Progress {
        match self.plan.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Progress::Waiting,
            Poll::Ready(result) => Progress::Done(result),
        }
    }

    /// What the plan sends since the last time: to which shard, under which number, and what.
    pub fn take_outgoing(&mut self) -> Vec<(ShardId, u32, Outgoing)> {
        std::mem::take(&mut self.port.borrow_mut().outgoing)
    }

    /// How many shards have to acknowledge invalidations before the reply may leave.
    pub fn fences(&self) -> u32 {
        self.port.borrow().fences
    }

    /// The epoch of the log that must be safe before a client hears of the result that waits for that.
    pub fn need(&self) -> Epoch {
        self.port.borrow().need
    }

    /// Commands of the transaction that may have been slow.
    pub fn take_slow(&mut self) -> Vec<Slow> {
        std::mem::take(&mut self.port.borrow_mut().slow)
    }

    /// Whether the plan waits for data, and until when if there is a limit, monotonic microseconds.
    pub fn waits(&self) -> Option<Option<u64>> {
        self.port.borrow().waits
    }

    /// Tells a plan that waits, or is about to, what has happened.
    pub fn tell(&mut self, event: WaitEvent) {
        self.port.borrow_mut().events.push_back(event);
    }

    /// Hands in the answer to a call.
    pub fn answer(&mut self, call: u32, answer: Answer) {
        let mut port = self.port.borrow_mut();
        let slot = &mut port.answers[call as usize];
        assert!(slot.is_none(), "a call is answered once");
        *slot = Some(answer);
    }
}
