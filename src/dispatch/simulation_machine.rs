//! A whole server without sockets and rings: engines, the drivers of their disks and the conductor, in one thread, on a simulated disk
//! and by a simulated clock. What the event loops do (`net::reactor`) is done here in the same order, the gate that holds replies back
//! until the log is safe included, and a core has a turn only if it would have woken up: a wake-up that was forgotten is a hang here, too.
//!
//! A failure found with a seed can be run again. For tests alone. Absent on purpose: clients, and what is expected
//! ([`super::simulation_durability`]).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Delivery, Engine, replay};
use crate::acl;
use crate::base::rng::Rng;
use crate::base::time::{Millis, Now};
use crate::base::{Epoch, ShardId};
use crate::config::Config;
use crate::durability::conductor;
use crate::durability::driver::{Ahead, Driver, Host};
use crate::keyspace::Value;
use crate::persist::dump;
use crate::persist::sim_disk::SimDisk;
use crate::session::{Session, SessionKey};
use crate::shard::message::Message;
use crate::shard::{About, Shard, ShardSeed, Stop};
use crate::types::listpack::Item;
use crate::types::{DataType, List};

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
    static TICK_NS: Cell<u64> = const { Cell::new(50) };
    static CUTS: RefCell<Vec<(ShardId, Epoch, Contents)>> = const { RefCell::new(Vec::new()) };
}

/// The monotonic clock of all cores: every reading is later than the one before.
fn clock_ns() -> u64 {
    NOW_NS.set(NOW_NS.get() + TICK_NS.get());
    NOW_NS.get()
}

/// The clocks.
pub(super) fn now() -> Now {
    let us = clock_ns() / 1000;
    Now { unix_us: 1_700_000_000_000_000 + us as i64, mono_us: us }
}

/// Time goes by.
pub(super) fn advance_us(us: u64) {
    NOW_NS.set(NOW_NS.get() + us * 1000);
}

/// By database and key: the value in a form that does not depend on how it is stored, and when it expires.
pub(super) type Contents = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<Millis>)>;

/// What a shard holds now.
pub(super) fn contents(shard: &Shard) -> Contents {
    let mut all = Contents::new();
    for (index, db) in shard.keyspace.dbs().iter().enumerate() {
        let mut cursor = 0;
        loop {
            cursor = db.scan(cursor, usize::MAX, Millis(0), |entry| {
                all.insert((index as u16, entry.key().to_vec()), (text(entry.value()), entry.expire_at()));
            });
            if cursor == 0 {
                break;
            }
        }
    }
    all
}

fn text(value: Value<'_>) -> Vec<u8> {
    match value {
        Value::Int(number) => number.to_string().into_bytes(),
        Value::Inline { bytes, .. } => bytes.to_vec(),
        Value::Blob(bytes) => bytes.to_vec(),
        Value::Packed(packed) => packed.text(),
        Value::Object(object) => match List::of(object) {
            Some(list) => {
                let mut out = b"list".to_vec();
                list.walk(0, false, |item| {
                    out.push(b' ');
                    match item {
                        Item::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
                        Item::Bytes(bytes) => out.extend_from_slice(bytes),
                    }
                    true
                });
                out
            }
            None => dump::dump(value, Millis(0), false).unwrap_or_default(),
        },
    }
}

/// What all shards held at the end of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) epoch: Epoch,
    pub(super) at_us: u64,
    pub(super) contents: Contents,
    /// Shards that have yet to close it.
    pub(super) missing: usize,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Where one core's driver runs.
struct SimHost {
    disk: Rc<SimDisk>,
    tasks: Rc<RefCell<Vec<Task>>>,
}

impl Host for SimHost {
    type Disk = SimDisk;

    fn disk(&self) -> Rc<SimDisk> {
        Rc::clone(&self.disk)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(Box::pin(task));
    }

    fn pause(&self) -> impl Future<Output = ()> + 'static {
        let mut paused = false;
        poll_fn(move |_| match std::mem::replace(&mut paused, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }
}

struct Core {
    engine: Engine,
    driver: Driver<SimHost>,
    tasks: Rc<RefCell<Vec<Task>>>,
    ahead: Ahead,
    /// A turn is to come at once.
    called: bool,
    gated: Vec<SessionKey>,
    gated_at: Epoch,
}

/// One life of the process.
pub(super) struct Machine {
    cores: Vec<Core>,
    /// In flight, by sender and receiver: order holds per pair and nowhere else.
    mail: Vec<Vec<VecDeque<Message>>>,
    pub(super) rng: Rng,
    pub(super) disk: SimDisk,
    /// What left for clients in the last turn.
    pub(super) sent: Vec<(usize, SessionKey, Vec<u8>)>,
    /// Epochs that were closed, in their order.
    pub(super) cuts: Vec<Cut>,
}

impl Machine {
    /// Starts on what is on the disk.
    pub(super) fn start(shards: u16, seed: u64, config: &Config, disk: &SimDisk) -> Machine {
        CUTS.take();
        let hasher = ahash::RandomState::with_seeds(seed, 1, 2, 3);
        let cores = (0..shards).map(|id| {
            let mut shard = Shard::new(ShardSeed {
                id: ShardId(id),
                shards,
                config: config.clone(),
                seed: seed ^ u64::from(id),
                hasher: hasher.clone(),
                board: Default::default(),
                about: Arc::new(About::default()),
                now: now(),
                clock_ns,
            });
            shard.storage.on_cut = Some(|shard, epoch| {
                CUTS.with_borrow_mut(|cuts| cuts.push((shard.id, epoch, contents(shard))));
            });
            let tasks: Rc<RefCell<Vec<Task>>> = Rc::default();
            let host = SimHost { disk: Rc::new(disk.clone()), tasks: Rc::clone(&tasks) };
            let driver = Driver::new(host, replay::replayers(hasher.clone(), clock_ns, now));
            let ahead = Ahead::default();
            Core { engine: Engine::new(shard), driver, tasks, ahead, called: true, gated: Vec::new(), gated_at: 0 }
        });
        let mail = (0..shards).map(|_| (0..shards).map(|_| VecDeque::new()).collect()).collect();
        let mut machine = Machine {
            cores: cores.collect(),
            mail,
            rng: Rng::seed(seed),
            disk: disk.clone(),
            sent: Vec::new(),
            cuts: Vec::new(),
        };
        let engine = &mut machine.cores[0].engine;
        engine.begin_turn(now());
        engine.shard.storage.conductor = Some(engine.start_service(conductor::plan));
        machine
    }

    pub(super) fn shards(&self) -> usize {
        self.cores.len()
    }

    pub(super) fn shard(&self, at: usize) -> &Shard {
        &self.cores[at].engine.shard
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Shard> {
        self.cores.iter().map(|core| &core.engine.shard)
    }

    /// What all shards hold.
    pub(super) fn contents(&self) -> Contents {
        self.all().flat_map(contents).collect()
    }

    /// How the process is to end, if it is.
    pub(super) fn stop(&self) -> Stop {
        self.all().map(|shard| shard.stop).find(|stop| *stop != Stop::No).unwrap_or(Stop::No)
    }

    /// The last epoch that the server says is safe; none if no log is kept, or not a whole one.
    pub(super) fn durable(&self) -> Option<Epoch> {
        let says = |shard: &Shard| shard.effects.is_active().then(|| shard.effects.durable_epoch());
        self.all().filter_map(says).filter(|epoch| *epoch != Epoch::MAX).max()
    }

    pub(super) fn connect(&mut self, at: usize) -> SessionKey {
        self.cores[at].engine.shard.sessions.insert(|key| {
            let mut session = Session::new(key, 1, 5, "peer".into(), "local".into(), false, now());
            session.log_in(Arc::clone(acl::anybody()));
            session
        })
    }

    /// A client sends this.
    pub(super) fn send(&mut self, at: usize, key: SessionKey, bytes: &[u8]) {
        let core = &mut self.cores[at];
        core.engine.begin_turn(now());
        core.engine.receive(key, bytes);
        core.called = true;
    }

    /// Something happens: a task goes on, a core has a turn, or time goes by.
    pub(super) fn step(&mut self) {
        TICK_NS.set(*self.rng.pick(&[20, 20, 1000, 40_000]));
        let at = self.rng.below(self.cores.len() as u64) as usize;
        for _ in 0..self.rng.below(4) {
            self.poll_one(at);
        }
        if self.is_awake(at) {
            self.turn(at);
        } else if self.rng.chance(1, 3) {
            let most = *self.rng.pick(&[20, 300, 3000, 20_000]);
            advance_us(self.rng.below(most));
        }
    }

    /// One of a core's tasks goes on.
    fn poll_one(&mut self, at: usize) {
        let core = &mut self.cores[at];
        let count = core.tasks.borrow().len() as u64;
        if count == 0 {
            return;
        }
        let mut task = core.tasks.borrow_mut().swap_remove(self.rng.below(count) as usize);
        match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => core.called = true,
            Poll::Pending => core.tasks.borrow_mut().push(task),
        }
    }

    /// Whether a core's loop would have a turn now.
    fn is_awake(&self, at: usize) -> bool {
        let core = &self.cores[at];
        let due = [core.ahead.at_us, core.engine.next_deadline_us()].into_iter().flatten().min();
        core.called
            || core.ahead.more
            || core.engine.has_waiting()
            || self.mail.iter().any(|from| !from[at].is_empty())
            || due.is_some_and(|due| due <= NOW_NS.get() / 1000)
    }

    /// One turn, as in `net::reactor`.
    fn turn(&mut self, at: usize) {
        let now = now();
        self.cores[at].called = false;
        self.cores[at].engine.begin_turn(now);
        for from in 0..self.cores.len() {
            for _ in 0..self.rng.below(self.mail[from][at].len() as u64 + 1) {
                let message = self.mail[from][at].pop_front().expect("it was counted");
                match self.cores[at].engine.deliver(ShardId(from as u16), message) {
                    Delivery::Done => {}
                    Delivery::Adopt(_) | Delivery::Adopted => panic!("nobody accepts here"),
                }
            }
        }
        let core = &mut self.cores[at];
        core.called |= core.engine.run_waiting();
        core.ahead = core.driver.turn(&mut core.engine.shard, now);
        core.engine.pass_on();
        self.post(at);
        self.flush(at);
        self.post(at);
        for (shard, epoch, contents) in CUTS.take() {
            self.note_cut(shard, epoch, contents);
        }
    }

    fn post(&mut self, at: usize) {
        for (to, message) in self.cores[at].engine.take_outgoing() {
            self.mail[at][to.index()].push_back(message);
        }
    }

    /// Sends what sessions have to say and may say.
    fn flush(&mut self, at: usize) {
        let Core { engine, gated, gated_at, called, .. } = &mut self.cores[at];
        let durable = engine.shard.effects.durable_epoch();
        if durable != *gated_at {
            *gated_at = durable;
            for key in std::mem::take(gated) {
                if let Some(session) = engine.shard.sessions.get_mut(key) {
                    session.gated = false;
                    engine.mark_dirty(key);
                }
            }
        }
        let mut dirty = Vec::new();
        engine.take_dirty(&mut dirty);
        for key in dirty {
            let Some(session) = engine.shard.sessions.get_mut(key) else { continue };
            if session.need > *gated_at {
                if !session.gated {
                    session.gated = true;
                    let need = session.need;
                    engine.shard.effects.want(need);
                    gated.push(key);
                    // The driver has yet to hear of it.
                    *called = true;
                }
            } else if !session.out.is_empty() {
                session.out.materialize();
                let bytes = session.out.to_vec();
                session.out.clear();
                self.sent.push((at, key, bytes));
            }
        }
    }

    fn note_cut(&mut self, _: ShardId, epoch: Epoch, contents: Contents) {
        let missing = self.cores.len();
        if self.cuts.last().is_none_or(|cut| cut.epoch != epoch) {
            assert!(self.cuts.last().is_none_or(|cut| cut.missing == 0), "epochs are closed one after the other");
            self.cuts.push(Cut { epoch, at_us: NOW_NS.get() / 1000, contents: Contents::new(), missing });
        }
        let cut = self.cuts.last_mut().expect("it was just there");
        cut.missing -= 1;
        cut.contents.extend(contents);
    }
}
