//! One shard: the keys of its slots, the clients of its core, its settings and its counts. One per core, owned by that
//! core's executor; nobody else can reach it but by a [`message::Message`].
//!
//! A shard is a state machine without clock, socket or thread: it is told the time, handed messages, and its answers are
//! collected by whoever drives it. `net` drives one per core; a test may drive any number of them in one thread.
//!
//! Invariant: between two messages every key of this shard's slots is in its keyspace, whole.
//! Absent on purpose: sockets (`net`), the order of transactions (`txn`), the command table (`commands`).

pub mod access;
pub mod cx;
pub mod effects;
pub mod events;
pub mod eviction;
pub mod memory;
pub mod message;
pub mod nodes;
pub mod reservations;
pub mod slots;
pub mod snapshot;
pub mod storage;
pub mod subscribers;
pub mod timing;
pub mod tracked;
pub mod users;
pub mod waiters;
pub mod watched;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::acl::{Acl, Users};
use crate::base::rng::Rng;
use crate::base::time::{Millis, Now};
use crate::base::{DbIndex, ShardId};
use crate::config::Config;
use crate::keyspace::{Db, Keyspace, Lookahead};
use crate::metrics::hot_keys::{Cost, HotKeys};
use crate::metrics::latency::LatencyMonitor;
use crate::metrics::slowlog::{NumberedLog, SlowLog};
use crate::metrics::{CommandId, ShardMetrics};
use crate::pubsub::PubSub;
use crate::resp::Args;
use crate::resp::Reply;
use crate::rt::crash;
use crate::rt::memory::Board;
use crate::rt::socket::TcpDoors;
use crate::session::{SessionKey, Sessions};
use crate::tracking::{Client, Fence, HeldReply, Tracking};
use access::AccessPolicy;
use cx::{DataCx, DataFn, Observers};
use effects::Effects;
use events::KeyEvents;
use eviction::Eviction;
use memory::ClientMemory;
use message::{Batch, KeysFn};
use reservations::{Order, Reservations, TxnId};
use slots::SlotMap;
use storage::Storage;
use timing::{Run, Slow};
use waiters::{WaitEvent, WaiterId, Waiters};
use watched::Watched;

/// What does not change while the server runs, for INFO and HELLO. Shared by all shards and never written to.
#[derive(Debug, Default)]
pub struct About {
    /// Forty hexadecimal digits, random per start.
    pub run_id: String,
    /// The process.
    pub pid: u32,
    /// The TCP port, 0 if none.
    pub port: u16,
    /// The shards as nodes of a cluster; none without `cluster-shard-nodes`.
    pub nodes: Vec<nodes::Node>,
    /// Where the program lies.
    pub executable: String,
    /// The configuration file, empty if none.
    pub config_file: String,
    /// Kernel and machine, as `uname` tells.
    pub os: String,
    /// When it started, seconds since the epoch.
    pub started_unix: i64,
    /// When it started, monotonic microseconds.
    pub started_mono_us: u64,
}

/// CLIENT PAUSE, as every shard keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pause {
    /// Commands wait until then.
    pub until: Millis,
    /// Whether only commands that may write wait.
    pub writes_only: bool,
}

/// What the process as a whole is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Go on.
    No,
    /// End the event loop after the replies of this turn are sent.
    Shutdown,
    /// The same, because the server cannot go on.
    Failed,
}

/// What another shard is told: run on it, to its end.
pub type TellFn = Box<dyn FnOnce(&mut Shard) + Send>;

/// One shard. See the module.
pub struct Shard {
    /// Which one.
    pub id: ShardId,
    /// Who owns what.
    pub slots: SlotMap,
    /// The keys.
    pub keyspace: Keyspace,
    /// The clients of this core.
    pub sessions: Sessions,
    /// Settings in force here. All shards are told of a change.
    pub config: Config,
    /// Orders concurrent CONFIG SETs: the number of the last change applied here (on shard 0: handed out).
    pub config_version: u64,
    /// Users, and what they were refused here. All shards are told of a change.
    pub acl: Acl,
    /// On shard 0: plans that write the ACL file. The first is at work, the others wait for it.
    pub acl_savers: VecDeque<WaiterId>,
    /// The counts.
    pub metrics: ShardMetrics,
    /// Commands of this shard's clients that were slow.
    pub slowlog: SlowLog,
    /// On shard 0: those of all shards that somebody has looked at.
    pub numbered_slowlog: NumberedLog,
    /// When something held this core up.
    pub latency: LatencyMonitor,
    /// Which keys of this shard are used most.
    pub hot_keys: HotKeys,
    /// Finds the keys of a command. Given by whoever knows the table.
    pub keys_of: KeysFn,
    /// Plans of this core that wait for data until some time.
    pub timeouts: usize,
    /// Random numbers of this shard.
    pub rng: Rng,
    /// The instant of this turn.
    pub now: Now,
    /// Fixed facts of the process.
    pub about: Arc<About>,
    /// What all shards tell each other of their memory.
    pub board: Arc<Board>,
    /// What becomes of keys when there is too little of it.
    pub eviction: Eviction,
    /// What clients take of it.
    pub client_memory: ClientMemory,
    /// How lookups stamp records, if not as the settings say.
    pub access: Option<AccessPolicy>,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: bool,
    /// CLIENT PAUSE.
    pub pause: Option<Pause>,
    /// Whether the process is to stop.
    pub stop: Stop,
    /// Sessions of this shard that something has closed or woken; the driver looks at each after every message.
    pub disturbed: Vec<SessionKey>,
    /// Databases that were emptied and are being freed in slices.
    pub dropped: Vec<Db>,
    /// Clients of any shard that wait for keys of this one.
    pub waiters: Waiters,
    /// Who listens to which channel.
    pub pubsub: PubSub,
    /// What happened to keys, until it is published.
    pub events: KeyEvents,
    /// Lines about this turn's commands, for those who watch (MONITOR).
    pub shown: Vec<u8>,
    /// Messages for the session that is out of its table because it runs its commands, by protocol: see [`subscribers`].
    pub late: [Reply; 2],
    /// Keys that clients of any shard watch.
    pub watched: Watched,
    /// Which clients may have copies of keys.
    pub tracking: Tracking,
    /// What the log is told.
    pub effects: Effects,
    /// What it knows of its files.
    pub storage: Storage,
    /// Which keys transactions have reserved, and what waits for that to end.
    pub reservations: Reservations,
    /// A monotonic clock in nanoseconds: times commands, and gives transactions their places. All shards have the same.
    pub clock_ns: fn() -> u64,
    /// What plans of this core that wait are to be told; the driver hands it to them.
    pub wait_events: Vec<(u32, WaitEvent)>,
    /// What other shards are to be told, in order; nobody waits for an answer.
    pub told: Vec<(ShardId, TellFn)>,
    /// On shard 0: what TLS connections that come are made from; none if there is no TLS port.
    pub tls: Option<crate::tls::Context>,
    /// On shard 0, which accepts: connections by the shard that serves them. Those on their way there count already.
    pub clients_by_shard: Vec<u32>,
    /// On shard 0: what listens to TCP, to be moved.
    pub tcp_doors: TcpDoors,
    /// The same for TLS.
    pub tls_doors: TcpDoors,
}

/// What a shard needs to begin.
pub struct ShardSeed {
    /// Which one it is.
    pub id: ShardId,
    /// Of how many.
    pub shards: u16,
    /// The settings.
    pub config: Config,
    /// For its random numbers; different for every shard.
    pub seed: u64,
    /// For its tables.
    pub hasher: ahash::RandomState,
    /// Fixed facts.
    pub about: Arc<About>,
    /// Where shards tell each other of their memory.
    pub board: Arc<Board>,
    /// The time.
    pub now: Now,
    /// See [`Shard::clock_ns`].
    pub clock_ns: fn() -> u64,
}

impl Shard {
    /// An empty shard.
    pub fn new(seed: ShardSeed) -> Shard {
        // Users that files declare are given to it before anybody connects.
        let users = Users::default().with_default_password(seed.config.requirepass.as_bytes());
        Shard {
            acl: Acl { users, ..Acl::default() },
            acl_savers: VecDeque::new(),
            id: seed.id,
            slots: SlotMap::new(seed.shards),
            keyspace: Keyspace::new(seed.config.databases as usize, &seed.hasher),
            sessions: Sessions::default(),
            config: seed.config,
            config_version: 0,
            metrics: ShardMetrics::default(),
            slowlog: SlowLog::default(),
            numbered_slowlog: NumberedLog::default(),
            latency: LatencyMonitor::default(),
            hot_keys: HotKeys::new(seed.seed, seed.hasher),
            keys_of: |_, _, _| (),
            timeouts: 0,
            rng: Rng::seed(seed.seed),
            now: seed.now,
            about: seed.about,
            board: seed.board,
            eviction: Eviction::default(),
            client_memory: ClientMemory::default(),
            access: None,
            active_expire: true,
            pause: None,
            stop: Stop::No,
            disturbed: Vec::new(),
            dropped: Vec::new(),
            waiters: Waiters::default(),
            pubsub: PubSub::default(),
            events: KeyEvents::default(),
            shown: Vec::new(),
            late: Default::default(),
            watched: Watched::default(),
            tracking: Tracking::default(),
            effects: Effects::default(),
            storage: Storage::default(),
            reservations: Reservations::default(),
            clock_ns: seed.clock_ns,
            wait_events: Vec::new(),
            told: Vec::new(),
            tls: None,
            tcp_doors: TcpDoors::default(),
            tls_doors: TcpDoors::default(),
            clients_by_shard: vec![0; usize::from(seed.shards)],
        }
    }

    /// The parts a data command works on.
    #[inline]
    pub fn data_cx(&mut self, db: DbIndex, touch: bool) -> DataCx<'_> {
        DataCx {
            keyspace: &mut self.keyspace,
            db,
            now: self.now,
            metrics: &mut self.metrics,
            access: self.access.unwrap_or_else(|| AccessPolicy::of(&self.config)),
            config: &self.config,
            rng: &mut self.rng,
            events: &mut self.events,
            observers: Observers {
                waiters: &mut self.waiters,
                watched: &mut self.watched,
                tracking: &mut self.tracking,
                effects: &mut self.effects,
            },
            touch,
            shard: self.id,
            slots: self.slots,
        }
    }

    /// Runs one data command and writes its reply or its error. True if it succeeded. Those who wait for what it has changed are
    /// served by the caller ([`Shard::serve_ready`]): after the command, or after the transaction that it is a part of.
    #[inline]
    pub fn run(
        &mut self,
        f: DataFn,
        id: CommandId,
        db: DbIndex,
        touch: bool,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> bool {
        if self.hot_keys.looks() {
            return self.run_and_look(f, id, db, touch, args, reply);
        }
        self.run_now(f, id, db, touch, args, reply)
    }

    #[inline]
    fn run_now(
        &mut self,
        f: DataFn,
        id: CommandId,
        db: DbIndex,
        touch: bool,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> bool {
        let mark = reply.mark();
        match f.call(self, db, touch, args, reply) {
            Ok(()) => true,
            Err(error) => {
                reply.truncate(mark);
                reply.error(&error);
                self.metrics.count_error(error.code());
                self.metrics.commands.record_failed(id);
                false
            }
        }
    }

    /// As [`Shard::run`], for a command whose keys are counted.
    #[cold]
    fn run_and_look(
        &mut self,
        f: DataFn,
        id: CommandId,
        db: DbIndex,
        touch: bool,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> bool {
        if !self.hot_keys.tracks(self.now.millis().0) {
            let done = self.run_now(f, id, db, touch, args, reply);
            self.count_keys(id, db, args, None);
            return done;
        }
        let (begun_ns, replied) = ((self.clock_ns)(), reply.total_bytes());
        let done = self.run_now(f, id, db, touch, args, reply);
        let ns = (self.clock_ns)().saturating_sub(begun_ns);
        let bytes = args.encoded_bytes() + reply.total_bytes().saturating_sub(replied);
        self.count_keys(id, db, args, Some(Cost { ns, bytes: bytes as u64 }));
        done
    }

    fn count_keys(&mut self, id: CommandId, db: DbIndex, args: Args<'_>, cost: Option<Cost>) {
        let (keys_of, now) = (self.keys_of, self.now);
        self.hot_keys.counts(now.mono_us, now.millis().0, db, cost, |visit| keys_of(id, args, visit));
    }

    /// A command over several shards begins here: its keys count towards the load where its client is.
    pub fn look_at(&mut self, id: CommandId, db: DbIndex, args: Args<'_>) {
        if self.hot_keys.looks() {
            self.count_keys(id, db, args, None);
        }
    }

    /// Runs commands of a batch and leaves the replies in it: as separate commands, after each of which waiters are served, or
    /// (`together`) as steps of one transaction, after which the caller has them served.
    pub fn run_batch(&mut self, batch: &mut Batch, commands: Range<usize>, together: bool) {
        let Batch { home, session, seq, commands: all, args, reply, ends, fences, need, slow, split_ns, .. } = batch;
        let client = session.map(|session| Client { home: *home, session });
        let fence = session.map(|session| Fence { home: *home, reply: HeldReply::Batch { session, seq: *seq } });
        let (clock_ns, latency) = (self.clock_ns, self.config.latency_tracking);
        // Parts of one command are timed with it, by whoever started it.
        let timed = !together || all[commands.clone()].iter().any(|command| !command.part);
        let mut run = Run::begin(if timed { clock_ns() } else { 0 }, &self.config, crash::trace(self.id));
        let unit = if together { self.begin_step(None) } else { None };
        let end = commands.end;
        let mut ahead = Lookahead::default();
        let mut seen = commands.start;
        for at in commands {
            let command = &all[at];
            let argv = args.command(command.first, command.argc);
            ahead.passed();
            seen = seen.max(at + 1);
            while ahead.wants() && seen < end {
                let next = &all[seen];
                let key = (next.argc > 1).then(|| args.command(next.first, next.argc).get(1));
                ahead.ask(self.keyspace.db(next.db), key);
                seen += 1;
            }
            if timed {
                run.enter(command.id, command.brief, !command.part, &mut self.metrics, latency, clock_ns, argv);
            }
            reply.set_proto(command.proto);
            if !together {
                self.tracking.actor = client;
            }
            self.run(command.run, command.id, command.db, command.touch, argv, reply);
            if let Some(keys) = command.remember {
                self.remember(keys, command.id, argv);
            }
            if !together {
                self.tracking.actor = None;
                if self.tracking.has_news() {
                    *fences += self.send_invalidations(fence, None);
                }
                self.serve_ready();
            }
            ends.push(reply.mark());
            self.metrics.commands_processed += u64::from(!command.part);
            if timed && (run.is_due() || (at + 1 == end && run.is_open())) {
                if let Some((id, ns)) = run.take_late() {
                    let before = &all[at - 1];
                    slow.push(Slow::new(id, ns, args.command(before.first, before.argc)));
                }
                let now_ns = clock_ns();
                match command.split {
                    // Whoever has split it adds its pieces up.
                    Some(split) => split_ns.push((split, run.end_piece(&mut self.metrics, latency, now_ns))),
                    None => {
                        if let Some((id, ns)) = run.end(&mut self.metrics, latency, now_ns) {
                            slow.push(Slow::new(id, ns, argv));
                        }
                    }
                }
            }
        }
        self.end_step(unit);
        if !together {
            *need = self.effects.take_need().max(*need);
        }
        if timed {
            run.end(&mut self.metrics, latency, clock_ns());
        }
    }

    /// Ends a reservation. Waiters that were put off because of it are looked at by the next [`Shard::serve_ready`].
    pub fn release(&mut self, order: Order) {
        for place in self.reservations.release(order) {
            self.waiters.signal(place.0, &place.1);
        }
    }

    /// As [`Shard::release`], by name; nothing if it has no reservation here.
    pub fn release_txn(&mut self, txn: TxnId) {
        if let Some(order) = self.reservations.order_of(txn) {
            self.release(order);
        }
    }

    /// Puts off serving those who wait for what a step of this transaction has changed until it is released.
    pub fn defer_ready(&mut self, txn: TxnId) {
        if self.waiters.has_ready()
            && let Some(order) = self.reservations.order_of(txn)
        {
            for place in self.waiters.take_ready() {
                self.reservations.defer(order, place);
            }
        }
    }

    /// Tells another shard, or this one at once.
    pub fn tell(&mut self, to: ShardId, run: impl FnOnce(&mut Shard) + Send + 'static) {
        if to == self.id {
            run(self);
        } else {
            self.told.push((to, Box::new(run)));
        }
    }
}
