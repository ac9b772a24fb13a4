//! What a hop between two shards costs in CPU, without sockets and system calls: two engines in one thread, messages handed
//! over directly. The difference between `here` and `there` is the price of a command whose key another core owns, without
//! the wake-up.
//!
//! Run with `cargo bench --bench hop`.

use std::hint::black_box;
use std::sync::Arc;

use annulus::base::ShardId;
use annulus::base::time::Now;
use annulus::config::Config;
use annulus::dispatch::Engine;
use annulus::rt::clock::mono_ns;
use annulus::session::{Session, SessionKey};
use annulus::shard::{About, Shard, ShardSeed};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

struct Pair {
    engines: Vec<Engine>,
    client: SessionKey,
    now: Now,
}

impl Pair {
    fn new() -> Pair {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1 };
        let mut engines: Vec<Engine> = (0..2)
            .map(|id| {
                Engine::new(Shard::new(ShardSeed {
                    id: ShardId(id),
                    shards: 2,
                    config: Config::default(),
                    seed: u64::from(id),
                    hasher: hasher.clone(),
                    board: Default::default(),
                    about: Arc::new(About::default()),
                    now,
                    clock_ns: mono_ns,
                }))
            })
            .collect();
        let client = engines[0].shard.sessions.insert(|key| {
            let mut session = Session::new(key, 1, 5, String::new(), String::new(), false, now);
            session.log_in(Arc::clone(annulus::acl::anybody()));
            session
        });
        Pair { engines, client, now }
    }

    /// One read of the client, the hop there and the hop back, and its replies.
    fn round(&mut self, bytes: &[u8]) -> usize {
        self.engines[0].begin_turn(self.now);
        self.engines[0].receive(self.client, bytes);
        self.engines[0].run_waiting();
        let mut dirty = Vec::new();
        let there: Vec<_> = self.engines[0].take_outgoing().collect();
        if !there.is_empty() {
            self.engines[1].begin_turn(self.now);
            for (_, message) in there {
                self.engines[1].deliver(ShardId(0), message);
            }
            self.engines[1].run_waiting();
            let back: Vec<_> = self.engines[1].take_outgoing().collect();
            self.engines[0].begin_turn(self.now);
            for (_, message) in back {
                self.engines[0].deliver(ShardId(1), message);
            }
            self.engines[0].run_waiting();
        }
        self.engines[0].take_dirty(&mut dirty);
        let session = self.engines[0].shard.sessions.get_mut(self.client).expect("it is connected");
        let sent = session.out.len();
        session.out.clear();
        sent
    }
}

/// A pipeline of SETs and GETs of keys that all belong to one shard.
fn pipeline(pair: &Pair, owner: ShardId, commands: usize) -> Vec<u8> {
    let slots = pair.engines[0].shard.slots;
    let keys: Vec<String> = (0..)
        .map(|i| format!("key:{i:012}"))
        .filter(|k| slots.shard_of(k.as_bytes()) == owner)
        .take(commands)
        .collect();
    let mut bytes = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        if i % 2 == 0 {
            bytes.extend_from_slice(format!("*3\r\n$3\r\nSET\r\n$16\r\n{key}\r\n$32\r\n{key}{key}\r\n").as_bytes());
        } else {
            bytes.extend_from_slice(format!("*2\r\n$3\r\nGET\r\n$16\r\n{key}\r\n").as_bytes());
        }
    }
    bytes
}

fn hop(c: &mut Criterion) {
    for commands in [1, 16, 100] {
        let mut group = c.benchmark_group(format!("pipeline of {commands}"));
        group.throughput(Throughput::Elements(commands as u64));
        for (name, owner) in [("here", ShardId(0)), ("there", ShardId(1))] {
            let mut pair = Pair::new();
            let bytes = pipeline(&pair, owner, commands);
            assert!(pair.round(&bytes) > 0);
            group.bench_function(name, |b| b.iter(|| black_box(pair.round(black_box(&bytes)))));
        }
        group.finish();
    }
}

criterion_group!(benches, hop);
criterion_main!(benches);
