//! The coordinator's side of a plan: it turns calls into messages and answers into values.
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
use crate::base::{DbIndex, ShardId};
use crate::resp::CommandError;
use crate::resp::{Reply, Resp};
use crate::session::SessionKey;
use crate::shard::Shard;
use crate::shard::cx::WriteCx;
use crate::shard::message::{Answer, CallFn};
use crate::shard::slots::SlotMap;
use crate::shard::waiters::WaitEvent;
use crate::types::DataType;

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
    /// When the command came.
    pub now: Now,
}

#[derive(Default)]
struct Port {
    /// Calls that the driver has yet to send.
    outgoing: Vec<(ShardId, u32, CallFn)>,
    /// Answers by call; a call's slot stays its own.
    answers: Vec<Option<Answer>>,
    /// Whether and until when the plan waits for data, monotonic microseconds.
    waits: Option<Option<u64>>,
    /// What a plan that waits has been told and has not taken note of.
    events: VecDeque<WaitEvent>,
}

/// A plan's way to the shards. See the module.
#[derive(Clone)]
pub struct Coordinator {
    port: Rc<RefCell<Port>>,
    origin: Origin,
    slots: SlotMap,
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

    /// An empty reply in the client's protocol.
    pub fn reply(&self) -> Reply {
        let mut reply = Reply::default();
        reply.set_proto(self.origin.proto);
        reply
    }

    /// Sends `f` to a shard at once; the future waits for what it returns.
    pub fn call<T, F>(&self, shard: ShardId, f: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Shard) -> T + Send + 'static,
    {
        let mut port = self.port.borrow_mut();
        let slot = port.answers.len();
        port.answers.push(None);
        let run: CallFn = Box::new(move |shard| Box::new(f(shard)) as Box<dyn Any + Send>);
        port.outgoing.push((shard, u32::try_from(slot).expect("a plan makes few calls"), run));
        drop(port);
        let port = self.port.clone();
        poll_fn(move |_| match port.borrow_mut().answers[slot].take() {
            Some(answer) => Poll::Ready(*answer.downcast::<T>().expect("the call returned this type")),
            None => Poll::Pending,
        })
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

    /// The end of a slice of long work: other clients of this core have their turn before the plan goes on.
    pub fn yield_core(&self) -> impl Future<Output = ()> + use<> {
        self.call(self.origin.shard, |_| ())
    }

    /// From now on the plan waits for data, until this time if there is one, and its driver passes events on.
    pub(super) fn begin_wait(&self, until_us: Option<u64>) {
        self.port.borrow_mut().waits = Some(until_us);
    }

    /// It does not any more.
    pub(super) fn end_wait(&self) {
        self.port.borrow_mut().waits = None;
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

    /// Sends `f` to all shards at once and waits for all; the results are in shard order.
    pub async fn call_all<T: Send + 'static>(&self, f: impl Fn(&mut Shard) -> T + Clone + Send + 'static) -> Vec<T> {
        let calls: Vec<_> = self
            .slots
            .all()
            .map(|shard| {
                let f = f.clone();
                self.call(shard, move |shard| f(shard))
            })
            .collect();
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(call.await);
        }
        results
    }
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
    /// Starts a plan; nothing runs before the first [`Driver::drive`].
    pub fn new(origin: Origin, slots: SlotMap, start: impl FnOnce(Coordinator) -> Plan) -> Driver {
        let port = Rc::new(RefCell::new(Port::default()));
        let plan = start(Coordinator { port: port.clone(), origin, slots });
        Driver { plan, port }
    }

    /// Runs the plan as far as it gets without an answer. What it wants to call is then in [`Driver::take_calls`].
    pub fn drive(&mut self) -> Progress {
        match self.plan.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Progress::Waiting,
            Poll::Ready(result) => Progress::Done(result),
        }
    }

    /// The calls that the plan made since the last time: to which shard, under which number, and what to run.
    pub fn take_calls(&mut self) -> Vec<(ShardId, u32, CallFn)> {
        std::mem::take(&mut self.port.borrow_mut().outgoing)
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
