//! Several engines in one thread, with messages between them delivered in an order drawn from a seed: what the event loops do,
//! without sockets, rings or time. A failure found with a seed can be run again.
//!
//! Order is kept per pair of shards, as the mailboxes keep it, and nowhere else.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Delivery, Engine};
use crate::acl;
use crate::base::ShardId;
use crate::base::rng::Rng;
use crate::base::time::{Millis, Now};
use crate::config::{Config, PipelineOrder};
use crate::session::{Closing, Session, SessionKey};
use crate::shard::message::Message;
use crate::shard::{About, Pause, Shard, ShardSeed};

pub(super) struct Sim {
    pub(super) engines: Vec<Engine>,
    /// In flight, by sender and receiver: order holds per pair and nowhere else.
    mail: Vec<Vec<VecDeque<Message>>>,
    pub(super) rng: Rng,
    pub(super) now: Now,
    /// Clients that have connected, wherever that was; they are numbered in that order.
    clients: u64,
    /// Requests that each shard has received from each and not answered.
    owed: Vec<Vec<u64>>,
}

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// The clock of all shards of a simulation: every reading is later than the one before.
fn ticks() -> u64 {
    TICKS.set(TICKS.get() + 1);
    TICKS.get()
}

impl Sim {
    pub(super) fn new(shards: u16, seed: u64, config: &Config) -> Sim {
        let hasher = ahash::RandomState::with_seeds(seed, 1, 2, 3);
        let now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1 };
        let engines = (0..shards)
            .map(|id| {
                let shard = Shard::new(ShardSeed {
                    id: ShardId(id),
                    shards,
                    config: config.clone(),
                    seed: seed ^ u64::from(id),
                    hasher: hasher.clone(),
                    board: Default::default(),
                    about: Arc::new(About::default()),
                    now,
                    clock_ns: ticks,
                });
                Engine::new(shard)
            })
            .collect();
        let mail = (0..shards).map(|_| (0..shards).map(|_| VecDeque::new()).collect()).collect();
        let owed = vec![vec![0; usize::from(shards)]; usize::from(shards)];
        Sim { engines, mail, rng: Rng::seed(seed), now, clients: 0, owed }
    }

    pub(super) fn engines(&mut self) -> &mut [Engine] {
        &mut self.engines
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// A client sends this.
    pub(super) fn send(&mut self, shard: usize, key: SessionKey, bytes: &[u8]) {
        self.engines[shard].begin_turn(self.now);
        self.engines[shard].receive(key, bytes);
    }

    /// Whether a client has got all its replies.
    pub(super) fn is_quiet(&self, shard: usize, key: SessionKey) -> bool {
        let session = self.engines[shard].shard.sessions.get(key).expect("it is connected");
        !session.waits() && session.pending.is_empty() && session.input.is_empty()
    }

    pub(super) fn connect(&mut self, shard: usize) -> SessionKey {
        self.clients += 1;
        let (now, id) = (self.now, self.clients);
        self.engines[shard].shard.sessions.insert(|key| {
            let mut session = Session::new(key, id, 5, "peer".into(), "local".into(), false, now);
            session.log_in(Arc::clone(acl::anybody()));
            session
        })
    }

    /// One turn of one engine: a random number of messages from random senders, in order per sender.
    /// True if it has more to do without being sent anything.
    pub(super) fn turn(&mut self, at: usize) -> bool {
        self.engines[at].begin_turn(self.now);
        for from in 0..self.engines.len() {
            let take = self.rng.below(self.mail[from][at].len() as u64 + 1);
            for _ in 0..take {
                let message = self.mail[from][at].pop_front().expect("it was counted");
                self.owed[at][from] += u64::from(message.is_request());
                match self.engines[at].deliver(ShardId(from as u16), message) {
                    Delivery::Done => {}
                    Delivery::Adopt(_) | Delivery::Adopted => panic!("nobody accepts here"),
                }
            }
        }
        let more = self.engines[at].run_waiting();
        for (to, message) in self.engines[at].take_outgoing() {
            if !message.is_request() {
                let owed = &mut self.owed[at][to.index()];
                *owed = owed.checked_sub(1).expect("a reply answers exactly one request");
            }
            self.mail[at][to.index()].push_back(message);
        }
        // A reply that waited for something would hold a place in the queue that this something may need.
        assert!(self.owed[at].iter().all(|owed| *owed == 0), "every request is answered in the turn that receives it");
        more
    }

    pub(super) fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 50 {
            let at = self.rng.below(self.engines.len() as u64) as usize;
            let more = self.turn(at);
            let idle = !more && self.mail.iter().flatten().all(VecDeque::is_empty);
            quiet = if idle { quiet + 1 } else { 0 };
        }
    }

    pub(super) fn output(&mut self, shard: usize, key: SessionKey) -> Vec<u8> {
        let session = self.engines[shard].shard.sessions.get_mut(key).expect("it is connected");
        session.out.materialize();
        let bytes = session.out.to_vec();
        session.out.clear();
        bytes
    }
}

pub(super) fn encode(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A random script of commands whose replies do not depend on the number of shards.
fn script(rng: &mut Rng, commands: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..commands {
        let key = |rng: &mut Rng| format!("k{}", rng.below(20)).into_bytes();
        let (a, b, c) = (key(rng), key(rng), key(rng));
        let value = format!("{}", rng.next_u64()).into_bytes();
        let small = format!("{}", rng.below(100)).into_bytes();
        match rng.below(19) {
            0 | 1 => encode(&[b"GET", &a], &mut out),
            2 | 3 => encode(&[b"SET", &a, &value], &mut out),
            4 => encode(&[b"MGET", &a, &b, &c], &mut out),
            5 => encode(&[b"MSET", &a, &value, &b, &small], &mut out),
            6 => encode(&[b"DEL", &a, &b], &mut out),
            7 => encode(&[b"EXISTS", &a, &b, &c, &a], &mut out),
            8 => encode(&[b"INCR", &a], &mut out),
            9 => encode(&[b"RENAME", &a, &b], &mut out),
            10 => encode(&[b"NOSUCH", &a], &mut out),
            11 => encode(&[b"MSETNX", &a, &value, &b, &small], &mut out),
            12 => encode(&[b"ECHO", &small], &mut out),
            13 => encode(&[b"HELLO", if rng.below(2) == 0 { b"2" } else { b"3" }], &mut out),
            14 => encode(&[b"CLIENT", b"REPLY", b"SKIP"], &mut out),
            15 => encode(&[b"CLIENT", b"REPLY", if rng.below(3) == 0 { b"OFF" } else { b"ON" }], &mut out),
            16 => encode(&[b"SELECT", if rng.below(2) == 0 { b"0" } else { b"1" }], &mut out),
            17 => encode(&[b"DBSIZE"], &mut out),
            _ => encode(&[b"APPEND", &a, &small], &mut out),
        }
    }
    out
}

/// Feeds `bytes` in random pieces to a client of a random shard, with CLIENT PAUSE coming and going on each shard by itself, and
/// returns everything it is sent.
fn run(shards: u16, seed: u64, config: &Config, bytes: &[u8]) -> Vec<u8> {
    let mut sim = Sim::new(shards, seed, config);
    let home = sim.rng.below(u64::from(shards)) as usize;
    let key = sim.connect(home);
    let mut at = 0;
    while at < bytes.len() {
        let piece = (sim.rng.below(400) as usize + 1).min(bytes.len() - at);
        sim.engines[home].begin_turn(sim.now);
        sim.engines[home].receive(key, &bytes[at..at + piece]);
        at += piece;
        if sim.rng.below(4) == 0 {
            let shard = sim.rng.below(u64::from(shards)) as usize;
            let writes_only = sim.rng.below(2) == 0;
            let pause = Pause { until: Millis(i64::MAX), writes_only };
            sim.engines[shard].shard.pause = (sim.rng.below(2) == 0).then_some(pause);
        }
        for _ in 0..sim.rng.below(4) {
            let shard = sim.rng.below(u64::from(shards)) as usize;
            sim.turn(shard);
        }
    }
    for engine in &mut sim.engines {
        engine.shard.pause = None;
    }
    sim.settle();
    let session = sim.engines[home].shard.sessions.get(key).expect("it is connected");
    assert!(session.pending.is_empty() && session.input.is_empty(), "seed {seed}: everything was answered");
    sim.output(home, key)
}

fn count_replies(bytes: &[u8]) -> usize {
    // Every script ends in an ECHO whose reply is looked for instead of parsing the stream.
    bytes.windows(b"the-end".len()).filter(|w| w == b"the-end").count()
}

#[test]
fn a_pipeline_gets_the_same_replies_from_one_shard_and_from_many() {
    let strict = Config { pipeline_order: PipelineOrder::Strict, ..Config::default() };
    for seed in 0..60 {
        let mut rng = Rng::seed(seed);
        let mut bytes = script(&mut rng, 300);
        encode(&[b"CLIENT", b"REPLY", b"ON"], &mut bytes);
        encode(&[b"ECHO", b"the-end"], &mut bytes);
        let one = run(1, seed, &Config::default(), &bytes);
        assert_eq!(count_replies(&one), 1, "seed {seed}");
        for shards in [2, 4, 7] {
            for config in [&Config::default(), &strict] {
                let many = run(shards, seed, config, &bytes);
                assert!(
                    one == many,
                    "seed {seed}, {shards} shards, {:?}:\n{}\n---\n{}",
                    config.pipeline_order,
                    String::from_utf8_lossy(&one),
                    String::from_utf8_lossy(&many)
                );
            }
        }
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind_that_others_trip_over() {
    for seed in 0..40 {
        let mut sim = Sim::new(4, seed, &Config::default());
        for round in 0..30 {
            let home = sim.rng.below(4) as usize;
            let key = sim.connect(home);
            let mut rng = Rng::seed(seed * 1000 + round);
            let bytes = script(&mut rng, 20);
            sim.engines[home].begin_turn(sim.now);
            sim.engines[home].receive(key, &bytes);
            for _ in 0..sim.rng.below(6) {
                let shard = sim.rng.below(4) as usize;
                sim.turn(shard);
            }
            sim.engines[home].remove_session(key);
            sim.engines[home].shard.sessions.release(key);
        }
        sim.settle();
        assert!(sim.engines.iter().all(|e| e.plans_running() == 0), "seed {seed}: every plan ran to its end");
        let key = sim.connect(0);
        let mut bytes = Vec::new();
        encode(&[b"ECHO", b"the-end"], &mut bytes);
        sim.engines[0].receive(key, &bytes);
        sim.settle();
        assert_eq!(sim.output(0, key), b"$7\r\nthe-end\r\n");
    }
}

#[test]
fn garbage_closes_its_own_connection_after_the_replies_before_it() {
    let mut sim = Sim::new(2, 1, &Config::default());
    let (bad, good) = (sim.connect(0), sim.connect(0));
    let mut bytes = Vec::new();
    for i in 0..10 {
        encode(&[b"SET", format!("k{i}").as_bytes(), b"v"], &mut bytes);
    }
    bytes.extend_from_slice(b"*1\r\nGARBAGE\r\n");
    sim.engines[0].receive(bad, &bytes);
    sim.settle();
    let out = sim.output(0, bad);
    let expected = [b"+OK\r\n".repeat(10), b"-ERR Protocol error: expected '$', got 'G'\r\n".to_vec()].concat();
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    assert_eq!(sim.engines[0].shard.sessions.get(bad).unwrap().closing, Closing::AfterReply);
    assert_eq!(sim.engines[0].shard.sessions.get(good).unwrap().closing, Closing::No);
}

#[test]
fn what_was_received_before_the_end_of_the_stream_is_all_answered() {
    let mut long = Vec::new();
    for _ in 0..3000 {
        encode(&[b"PING"], &mut long);
    }
    let mut plans = Vec::new();
    for _ in 0..50 {
        encode(&[b"DBSIZE"], &mut plans);
        encode(&[b"PING"], &mut plans);
    }
    for shards in [1, 3] {
        for (bytes, replies) in [(&long, b"+PONG\r\n".repeat(3000)), (&plans, b":0\r\n+PONG\r\n".repeat(50))] {
            let mut sim = Sim::new(shards, 7, &Config::default());
            let key = sim.connect(0);
            // The peer closes its side in the middle of a command.
            sim.engines[0].receive(key, &[bytes.as_slice(), b"*2\r\n$3\r\nGE"].concat());
            sim.engines[0].end_of_input(key);
            sim.settle();
            let out = sim.output(0, key);
            assert!(out == replies, "{shards} shards: {} bytes instead of {}", out.len(), replies.len());
            assert_eq!(sim.engines[0].shard.sessions.get(key).unwrap().closing, Closing::AfterReply);
        }
    }
}

#[test]
fn a_session_whose_turn_is_to_come_runs_nothing_before_it() {
    let mut sim = Sim::new(1, 1, &Config::default());
    let key = sim.connect(0);
    let mut bytes = Vec::new();
    for _ in 0..1500 {
        encode(&[b"PING"], &mut bytes);
    }
    sim.engines[0].begin_turn(sim.now);
    for _ in 0..100 {
        sim.engines[0].receive(key, &bytes);
    }
    let session = sim.engines[0].shard.sessions.get(key).unwrap();
    assert_eq!(session.commands, super::engine::COMMANDS_PER_TURN as u64, "one share of commands in one turn");
    assert!(session.waits() && session.input.len() > crate::dispatch::INPUT_BYTES_WAITING_MAX);
    sim.settle();
    assert_eq!(sim.output(0, key).len(), 150_000 * 7);
}

#[test]
fn a_client_that_wants_no_replies_is_not_told_of_its_protocol_error_either() {
    let mut sim = Sim::new(1, 1, &Config::default());
    let key = sim.connect(0);
    let mut bytes = Vec::new();
    encode(&[b"CLIENT", b"REPLY", b"OFF"], &mut bytes);
    bytes.extend_from_slice(b"*1\r\nGARBAGE\r\n");
    sim.engines[0].receive(key, &bytes);
    assert!(sim.output(0, key).is_empty());
    assert_eq!(sim.engines[0].shard.sessions.get(key).unwrap().closing, Closing::AfterReply);
}

#[test]
fn a_client_that_gave_no_password_is_let_in_when_none_is_required_any_more() {
    let locked = Config { requirepass: "secret".into(), ..Config::default() };
    let mut sim = Sim::new(1, 1, &locked);
    let key = sim.connect(0);
    let shard = &mut sim.engines[0].shard;
    shard.sessions.get_mut(key).unwrap().log_out(&shard.acl);
    sim.engines[0].receive(key, b"*1\r\n$4\r\nPING\r\n");
    assert_eq!(sim.output(0, key), b"-NOAUTH Authentication required.\r\n");
    let acl = &mut sim.engines[0].shard.acl;
    acl.users = acl.users.with_default_password(b"");
    let long = [b'x'; 20_000];
    let mut bytes = Vec::new();
    encode(&[b"ECHO", &long], &mut bytes);
    sim.engines[0].receive(key, &bytes);
    assert!(sim.output(0, key) == [b"$20000\r\n", long.as_slice(), b"\r\n"].concat());
}

/// Calls, rejected and failed calls of a command over all shards.
fn counts(sim: &Sim, name: &[u8]) -> (u64, u64, u64) {
    let id = crate::commands::table::table().find(name).expect("it is a command").id;
    let all = sim.engines.iter().filter_map(|e| e.shard.metrics.commands.get(id));
    all.fold((0, 0, 0), |(calls, rejected, failed), t| (calls + t.calls, rejected + t.rejected, failed + t.failed))
}

#[test]
fn every_command_is_counted_once_wherever_it_runs() {
    for shards in [1, 4] {
        let mut sim = Sim::new(shards, 3, &Config::default());
        let key = sim.connect(0);
        let mut bytes = Vec::new();
        for i in 0..20 {
            let (a, b) = (format!("a{i}"), format!("b{i}"));
            encode(&[b"MSET", a.as_bytes(), b"x", b.as_bytes(), b"2"], &mut bytes);
            encode(&[b"MGET", a.as_bytes(), b.as_bytes(), b"none"], &mut bytes);
            encode(&[b"INCR", a.as_bytes()], &mut bytes);
            encode(&[b"RENAME", b"none", b.as_bytes()], &mut bytes);
            encode(&[b"GET"], &mut bytes);
            encode(&[b"DBSIZE"], &mut bytes);
        }
        sim.engines[0].begin_turn(sim.now);
        sim.engines[0].receive(key, &bytes);
        sim.engines[0].run_waiting();
        sim.settle();
        let all: Vec<_> =
            [&b"mset"[..], b"mget", b"incr", b"rename", b"get", b"dbsize"].iter().map(|n| counts(&sim, n)).collect();
        let once = (20, 0, 0);
        assert_eq!(all, [once, once, (20, 0, 20), (20, 0, 20), (0, 20, 0), once], "{shards} shards");
        let sum = |f: fn(&Shard) -> u64| sim.engines.iter().map(|e| f(&e.shard)).sum::<u64>();
        assert_eq!(sum(|s| s.metrics.commands_processed), 100, "{shards} shards");
        assert_eq!(sum(|s| s.metrics.error_replies), 60, "{shards} shards");
    }
}

#[test]
fn who_goes_while_its_command_gets_in_line_takes_nothing() {
    for seed in 1..30 {
        let mut sim = Sim::new(3, seed, &Config::default());
        let (gone, other) = (sim.connect(0), sim.connect(1));
        for key in [&b"a"[..], b"b", b"c", b"d"] {
            let mut bytes = Vec::new();
            encode(&[b"BLPOP", key, b"0"], &mut bytes);
            sim.send(0, gone, &bytes);
        }
        for _ in 0..sim.rng.below(4) {
            let at = sim.rng.below(3) as usize;
            sim.turn(at);
        }
        sim.engines[0].remove_session(gone);
        sim.settle();
        let mut bytes = Vec::new();
        for key in [&b"a"[..], b"b", b"c", b"d"] {
            encode(&[b"RPUSH", key, b"x"], &mut bytes);
        }
        encode(&[b"EXISTS", b"a", b"b", b"c", b"d"], &mut bytes);
        sim.send(1, other, &bytes);
        sim.settle();
        assert_eq!(sim.output(1, other), b":1\r\n:1\r\n:1\r\n:1\r\n:4\r\n", "seed {seed}");
        assert!(sim.engines.iter().all(|engine| engine.plans_running() == 0), "seed {seed}");
    }
}
