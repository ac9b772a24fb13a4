//! The load under which `benches/gate` counts instructions: the engines of one or two shards in one thread, without sockets, rings and
//! clocks. What is counted is the path from request bytes to reply bytes: parser, gate, routing, handler, keyspace, reply, mailbox.
//! Allocations are counted here, by the allocator: those that are made, and those that are moved to be larger or smaller.
//!
//! ```text
//!   instructions SCENARIO OPERATIONS     one scenario, so many operations; prints how many there were, bytes of replies, allocations
//!   instructions                         all of them, natively, with the time each takes: a first look
//! ```
//!
//! Everything is fixed: keys, values, hash seeds, the clock. So two runs count the same, and the difference between a run of 2N and one of
//! N operations is N operations, without start and filling.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use annulus::base::ShardId;
use annulus::base::rng::Rng;
use annulus::base::time::Now;
use annulus::config::Config;
use annulus::dispatch::{Delivery, Engine};
use annulus::session::{Session, SessionKey};
use annulus::shard::slots::SlotMap;
use annulus::shard::{About, Shard, ShardSeed};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The server's allocator, which counts how often it is asked for memory. By a load and a store, since one thread runs.
struct Counting;

fn count_allocation() {
    ALLOCATIONS.store(ALLOCATIONS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

// SAFETY: every call is handed on as it came, to an allocator that keeps the contract.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { Jemalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        // SAFETY: as above.
        unsafe { Jemalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_allocation();
        // SAFETY: as above, and what was allocated here was allocated there.
        unsafe { Jemalloc.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { Jemalloc.dealloc(old, layout) }
    }
}

const KEYS: u64 = 20_000;
const VALUE: &str = "a value of thirty-two bytes, so.";
/// Reads of different keys that are made beforehand and gone around.
const REQUESTS: usize = 4096;

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// A clock that goes a microsecond on each time it is read.
fn ticks() -> u64 {
    TICKS.set(TICKS.get() + 1000);
    TICKS.get()
}

/// One thing that is measured.
struct Scenario {
    name: &'static str,
    shards: u16,
    /// Requests that arrive together.
    pipeline: usize,
    request: fn(&mut Rng, SlotMap) -> Vec<String>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "get-1", shards: 1, pipeline: 1, request: |rng, _| words(["GET", &any(rng)]) },
    Scenario { name: "get-16", shards: 1, pipeline: 16, request: |rng, _| words(["GET", &any(rng)]) },
    Scenario { name: "get-100", shards: 1, pipeline: 100, request: |rng, _| words(["GET", &any(rng)]) },
    Scenario { name: "set-1", shards: 1, pipeline: 1, request: |rng, _| words(["SET", &any(rng), VALUE]) },
    Scenario { name: "set-16", shards: 1, pipeline: 16, request: |rng, _| words(["SET", &any(rng), VALUE]) },
    Scenario { name: "set-100", shards: 1, pipeline: 100, request: |rng, _| words(["SET", &any(rng), VALUE]) },
    Scenario {
        name: "incr-16",
        shards: 1,
        pipeline: 16,
        request: |rng, _| words(["INCR", &format!("n{}", rng.below(1000))]),
    },
    Scenario { name: "mget10-1", shards: 1, pipeline: 1, request: |rng, _| mget(rng) },
    Scenario {
        name: "lpush-16",
        shards: 1,
        pipeline: 16,
        request: |rng, _| words(["LPUSH", &format!("l{}", rng.below(50)), VALUE]),
    },
    Scenario { name: "hset-16", shards: 1, pipeline: 16, request: |rng, _| hset(rng) },
    Scenario { name: "zadd-16", shards: 1, pipeline: 16, request: |rng, _| zadd(rng) },
    Scenario { name: "hop-get-1", shards: 2, pipeline: 1, request: |rng, slots| words(["GET", &far(rng, slots)]) },
    Scenario { name: "hop-get-16", shards: 2, pipeline: 16, request: |rng, slots| words(["GET", &far(rng, slots)]) },
    Scenario { name: "mixed-get-1", shards: 2, pipeline: 1, request: |rng, _| words(["GET", &any(rng)]) },
    Scenario { name: "mixed-get-16", shards: 2, pipeline: 16, request: |rng, _| words(["GET", &any(rng)]) },
    Scenario { name: "mixed-get-100", shards: 2, pipeline: 100, request: |rng, _| words(["GET", &any(rng)]) },
    Scenario { name: "mixed-set-1", shards: 2, pipeline: 1, request: |rng, _| words(["SET", &any(rng), VALUE]) },
    Scenario { name: "mixed-set-16", shards: 2, pipeline: 16, request: |rng, _| words(["SET", &any(rng), VALUE]) },
    Scenario { name: "mixed-set-100", shards: 2, pipeline: 100, request: |rng, _| words(["SET", &any(rng), VALUE]) },
    Scenario { name: "mixed-mget10-1", shards: 2, pipeline: 1, request: |rng, _| mget(rng) },
];

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn any(rng: &mut Rng) -> String {
    key(rng.below(KEYS))
}

/// A key that the client's shard, which is the first, does not own.
fn far(rng: &mut Rng, slots: SlotMap) -> String {
    loop {
        let key = any(rng);
        if slots.shard_of(key.as_bytes()) != ShardId(0) {
            return key;
        }
    }
}

fn mget(rng: &mut Rng) -> Vec<String> {
    std::iter::once("MGET".to_owned()).chain((0..10).map(|_| any(rng))).collect()
}

fn hset(rng: &mut Rng) -> Vec<String> {
    words(["HSET", &format!("h{}", rng.below(50)), &format!("field:{}", rng.below(100)), VALUE])
}

fn zadd(rng: &mut Rng) -> Vec<String> {
    words(["ZADD", &format!("z{}", rng.below(50)), &rng.below(1_000_000).to_string(), &format!("m{}", rng.below(2000))])
}

fn encode(words: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// The engines, and the client that is connected to the first.
struct Servers {
    engines: Vec<Engine>,
    client: SessionKey,
    now: Now,
}

impl Servers {
    fn new(shards: u16) -> Servers {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1 };
        let board = Default::default();
        let seed = |id| ShardSeed {
            id: ShardId(id),
            shards,
            config: Config::default(),
            seed: u64::from(id),
            hasher: hasher.clone(),
            board: Arc::clone(&board),
            about: Arc::new(About::default()),
            now,
            clock_ns: ticks,
        };
        let mut engines: Vec<Engine> = (0..shards).map(|id| Engine::new(Shard::new(seed(id)))).collect();
        let client = engines[0].shard.sessions.insert(|key| {
            let mut session = Session::new(key, 1, 5, "peer".into(), "local".into(), false, now);
            session.log_in(Arc::clone(annulus::acl::anybody()));
            session
        });
        Servers { engines, client, now }
    }

    /// What the event loops do with one read: run it, carry messages until there are none, take the replies. Their bytes.
    fn serve(&mut self, bytes: &[u8]) -> usize {
        self.now.mono_us += 10;
        self.engines[0].begin_turn(self.now);
        self.engines[0].receive(self.client, bytes);
        loop {
            let mut carried = false;
            for at in 0..self.engines.len() {
                if at > 0 {
                    self.engines[at].begin_turn(self.now);
                }
                while self.engines[at].run_waiting() {}
                let outgoing: Vec<_> = self.engines[at].take_outgoing().collect();
                for (to, message) in outgoing {
                    carried = true;
                    assert!(matches!(self.engines[to.index()].deliver(ShardId(at as u16), message), Delivery::Done));
                }
            }
            if !carried {
                break;
            }
        }
        let mut dirty = Vec::new();
        self.engines[0].take_dirty(&mut dirty);
        let session = self.engines[0].shard.sessions.get_mut(self.client).expect("it is connected");
        let replied = session.out.total_bytes();
        session.out.clear();
        replied
    }
}

/// Runs a scenario; how many bytes of replies came for how many operations.
fn run(scenario: &Scenario, operations: usize) -> (usize, usize) {
    let mut servers = Servers::new(scenario.shards);
    let slots = SlotMap::new(scenario.shards);
    let mut rng = Rng::seed(42);
    for number in 0..KEYS {
        let mut bytes = Vec::new();
        encode(&words(["SET", &key(number), VALUE]), &mut bytes);
        servers.serve(&bytes);
    }
    let batches: Vec<Vec<u8>> = (0..REQUESTS / scenario.pipeline)
        .map(|_| {
            let mut bytes = Vec::new();
            (0..scenario.pipeline).for_each(|_| encode(&(scenario.request)(&mut rng, slots), &mut bytes));
            bytes
        })
        .collect();
    let rounds = operations / scenario.pipeline;
    let replied = batches.iter().cycle().take(rounds).map(|bytes| servers.serve(bytes)).sum();
    (rounds * scenario.pipeline, replied)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match &words[..] {
        [] => {
            for scenario in SCENARIOS {
                let began = Instant::now();
                run(scenario, 0);
                let empty = began.elapsed();
                let began = Instant::now();
                let (operations, _) = run(scenario, 1_000_000);
                let ns = (began.elapsed().saturating_sub(empty)).as_nanos() as f64 / operations as f64;
                println!("{:16} {ns:8.1} ns/op", scenario.name);
            }
        }
        [list] if list == "--list" => SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name)),
        [name, operations] => {
            let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).expect("a scenario of this name");
            let (operations, replied) = run(scenario, operations.parse().expect("a number of operations"));
            let allocations = ALLOCATIONS.load(Ordering::Relaxed);
            println!("{operations} operations, {replied} bytes of replies, {allocations} allocations");
        }
        _ => panic!("instructions [--list | SCENARIO OPERATIONS]"),
    }
}
