//! What a snapshot writes is what was there at the cut, whatever clients do while it is written: random commands through the
//! real handlers, with snapshot steps of random budgets in between, against a deep copy made at the cut.
//!
//! Entries are compared by their DUMP payload and their expiry. Each shard has a cut of its own here: that all have the same is
//! for the transaction in which they begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::simulation::{Sim, encode};
use crate::base::DbIndex;
use crate::base::rng::Rng;
use crate::base::time::Millis;
use crate::config::Config;
use crate::keyspace::{Entry, EntrySink, SnapshotBudget, SnapshotProgress, Value};
use crate::persist::dump;
use crate::session::SessionKey;
use crate::shard::Shard;
use crate::types::{DataType, Hash};

/// By database and key: payload, and when it expires.
type Contents = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<Millis>)>;

/// Writes entries in a form that the test reads.
struct Plain {
    at: Millis,
}

fn payload(value: Value<'_>, at: Millis) -> Vec<u8> {
    dump::dump(value, at, false).unwrap_or_default()
}

impl EntrySink for Plain {
    fn database(&self, db: DbIndex, out: &mut Vec<u8>) {
        out.push(b'D');
        out.extend_from_slice(&db.0.to_le_bytes());
    }

    fn entry(&self, entry: Entry<'_>, out: &mut Vec<u8>) {
        out.push(b'E');
        out.extend_from_slice(&entry.expire_at().map_or(-1, |at| at.0).to_le_bytes());
        for bytes in [entry.key(), &payload(entry.value(), self.at)] {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> &'b [u8; N] {
    bytes.split_off(..N).and_then(|taken| taken.try_into().ok()).expect("pieces hold whole entries")
}

/// Adds a piece of output to what is known. Panics if an entry comes twice.
fn read(mut piece: &[u8], contents: &mut Contents, context: &str) {
    assert_eq!(piece[0], b'D', "{context}: a piece begins with its database");
    let mut db = 0;
    while !piece.is_empty() {
        if take::<1>(&mut piece) == b"D" {
            db = u16::from_le_bytes(*take(&mut piece));
            continue;
        }
        let expire_at = i64::from_le_bytes(*take(&mut piece));
        let [key, payload] = [(); 2].map(|()| {
            let len = u64::from_le_bytes(*take(&mut piece)) as usize;
            piece.split_off(..len).expect("pieces hold whole entries").to_vec()
        });
        let entry = (payload, (expire_at >= 0).then_some(Millis(expire_at)));
        let twice = contents.insert((db, key.clone()), entry);
        assert!(twice.is_none(), "{context}: {} came twice", String::from_utf8_lossy(&key));
    }
}

/// What is there now.
fn contents_of(shard: &Shard, at: Millis) -> Contents {
    let mut contents = Contents::new();
    for (index, db) in shard.keyspace.dbs().iter().enumerate() {
        let mut cursor = 0;
        loop {
            cursor = db.scan(cursor, usize::MAX, at, |entry| {
                let is = (payload(entry.value(), at), entry.expire_at());
                contents.insert((index as u16, entry.key().to_vec()), is);
            });
            if cursor == 0 {
                break;
            }
        }
    }
    contents
}

/// A snapshot that runs on one shard.
struct Running {
    at: Millis,
    expected: Contents,
    got: Contents,
}

struct Play {
    sim: Sim,
    clients: Vec<(usize, SessionKey)>,
    running: Vec<Option<Running>>,
    seed: u64,
    keys: u64,
    completed: usize,
}

const DATABASES: u64 = 3;

impl Play {
    fn new(seed: u64, shards: u16, keys: u64) -> Play {
        let mut sim = Sim::new(shards, seed, &Config::default());
        let clients = (0..3).map(|at| (at % usize::from(shards), sim.connect(at % usize::from(shards)))).collect();
        let running = (0..shards).map(|_| None).collect();
        Play { sim, clients, running, seed, keys, completed: 0 }
    }

    fn context(&self, shard: usize) -> String {
        format!("seed {}, shard {shard}", self.seed)
    }

    /// Something happens to snapshots of one shard.
    fn snapshot(&mut self, at: usize) {
        let shard = &mut self.sim.engines[at].shard;
        match &self.running[at] {
            None if self.sim.rng.chance(1, 3) => {
                // As if another shard's clock were ahead or behind a little.
                let now = Millis(shard.now.millis().0 + self.sim.rng.range(-2..=2));
                self.running[at] = Some(Running { at: now, expected: contents_of(shard, now), got: Contents::new() });
                let sink: Arc<dyn EntrySink> = Arc::new(Plain { at: now });
                shard.begin_snapshot(now, &sink);
            }
            Some(_) if self.sim.rng.chance(1, 60) => {
                shard.abort_snapshot();
                self.running[at] = None;
                assert_eq!(shard.snapshot_waiting_bytes(), 0);
            }
            _ => self.step(at),
        }
    }

    fn step(&mut self, at: usize) {
        let context = self.context(at);
        let shard = &mut self.sim.engines[at].shard;
        let rng = &mut self.sim.rng;
        let most = [1, 3, 20, 200][rng.below(4) as usize];
        let any = |rng: &mut Rng| if rng.chance(1, 2) { usize::MAX } else { 1 + rng.below(most) as usize };
        let budget = SnapshotBudget { entries: any(rng), bytes: any(rng), nanos: 1 + rng.below(most) };
        let progress = shard.snapshot_step(budget);
        if let Some(running) = &mut self.running[at]
            && (progress == SnapshotProgress::Done || rng.chance(1, 3))
        {
            shard.take_snapshot_output().iter().for_each(|piece| read(piece, &mut running.got, &context));
            assert_eq!(shard.snapshot_waiting_bytes(), 0, "{context}");
            assert_eq!(shard.keyspace.snapshot_entries() as usize, running.got.len(), "{context}");
        }
        if progress == SnapshotProgress::Done
            && let Some(Running { at: cut, expected, got }) = self.running[at].take()
        {
            self.completed += 1;
            shard.keyspace.dbs().iter().for_each(|db| db.check_invariants());
            if expected != got {
                for (key, is) in &expected {
                    assert_eq!(got.get(key), Some(is), "{context}, cut at {cut:?}: {key:?} is as it was at the cut");
                }
                let more: Vec<_> = got.keys().filter(|key| !expected.contains_key(key)).collect();
                panic!("{context}: {more:?} were not there at the cut");
            }
        }
    }

    /// What a shard does because time has passed.
    fn pass_time(&mut self, at: usize) {
        let shard = &mut self.sim.engines[at].shard;
        let now = self.sim.now.millis();
        for index in 0..DATABASES {
            let db = shard.keyspace.db_mut(DbIndex(index as u16));
            db.expire_due(now, 1 + self.sim.rng.below(20) as usize, |_| ());
            if self.sim.rng.chance(1, 2) {
                db.expire_parts(now, |_, object| Hash::of_mut(object).map_or(0, |hash| hash.expire(now, 3, |_| {})));
            }
        }
        shard.keyspace.free_buried(20);
        if let Some(db) = shard.dropped.last_mut()
            && !db.free_slice(20)
        {
            shard.dropped.pop();
        }
    }

    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let (shard, key) = self.clients[self.sim.rng.below(self.clients.len() as u64) as usize];
            let mut bytes = Vec::new();
            for _ in 0..self.sim.rng.below(12) {
                command(&mut self.sim.rng, self.keys, &mut bytes);
            }
            self.sim.send(shard, key, &bytes);
            for _ in 0..self.sim.rng.below(6) {
                let at = self.sim.rng.below(self.sim.engines.len() as u64) as usize;
                self.sim.turn(at);
                self.snapshot(at);
            }
            self.sim.output(shard, key);
            if self.sim.rng.chance(1, 4) {
                self.sim.now.unix_us += 1000 * self.sim.rng.below(30) as i64;
                let at = self.sim.rng.below(self.sim.engines.len() as u64) as usize;
                self.pass_time(at);
            }
        }
        self.sim.settle();
        for at in 0..self.running.len() {
            while self.running[at].is_some() {
                self.step(at);
            }
            let shard = &mut self.sim.engines[at].shard;
            let all = SnapshotBudget { entries: usize::MAX, bytes: usize::MAX, nanos: u64::MAX };
            assert_eq!(shard.snapshot_step(all), SnapshotProgress::Done);
            shard.keyspace.dbs().iter().for_each(|db| db.check_invariants());
        }
    }
}

/// One random command of those that write, and of a few that read.
fn command(rng: &mut Rng, keys: u64, out: &mut Vec<u8>) {
    let (a, b, c) = (key(rng, keys), key(rng, keys), key(rng, keys));
    let small = rng.below(12).to_string().into_bytes();
    let other = rng.below(12).to_string().into_bytes();
    let db = rng.below(DATABASES).to_string().into_bytes();
    let second_db = rng.below(DATABASES).to_string().into_bytes();
    let soon = (1 + rng.below(80)).to_string().into_bytes();
    let value = match rng.below(5) {
        0 => vec![b'v'; rng.below(6000) as usize],
        1 => vec![b'w'; rng.below(60) as usize],
        _ => rng.next_u64().to_string().into_bytes(),
    };
    let words: &[&[u8]] = match rng.below(88) {
        0..6 => &[b"SET", &a, &value],
        6 | 7 => &[b"SET", &a, &value, b"PX", &soon],
        8 => &[b"SET", &a, &value, b"KEEPTTL"],
        9 => &[b"GETSET", &a, &value],
        10 => &[b"GETDEL", &a],
        11 => &[b"GETEX", &a, b"PX", &soon],
        12 => &[b"APPEND", &a, &value],
        13 => &[b"SETRANGE", &a, &small, b"xyz"],
        14 => &[b"SETBIT", &a, &small, b"1"],
        15 => &[b"INCR", &a],
        16 => &[b"INCRBYFLOAT", &a, b"0.5"],
        17 => &[b"MSET", &a, &value, &b, &small, &c, b"x"],
        18 => &[b"BITOP", b"OR", &a, &b, &c],
        19 | 20 => &[b"RPUSH", &a, &small, &value],
        21 => &[b"LPUSH", &a, &small, &other],
        22 => &[b"LPOP", &a],
        23 => &[b"RPOP", &a],
        24 => &[b"LSET", &a, b"0", &value],
        25 => &[b"LTRIM", &a, b"0", &small],
        26 => &[b"LREM", &a, b"0", &small],
        27 => &[b"LMOVE", &a, &b, b"LEFT", b"RIGHT"],
        28 => &[b"LINSERT", &a, b"BEFORE", &small, b"x"],
        29 | 30 => &[b"HSET", &a, &small, &value, &other, b"y"],
        31 => &[b"HDEL", &a, &small],
        32 => &[b"HINCRBY", &a, &small, b"1"],
        33 | 34 => &[b"HPEXPIRE", &a, &soon, b"FIELDS", b"1", &small],
        35 => &[b"HSETEX", &a, b"PX", &soon, b"FIELDS", b"1", &small, &other],
        36 | 37 => &[b"SADD", &a, &small, &other, &value],
        38 => &[b"SREM", &a, &small],
        39 | 40 => &[b"SPOP", &a, b"2"],
        41 => &[b"SMOVE", &a, &b, &small],
        42 => &[b"SUNIONSTORE", &a, &b, &c],
        43 => &[b"SINTERSTORE", &a, &b, &c],
        44 | 45 => &[b"ZADD", &a, &small, &other, b"1", &value],
        46 => &[b"ZREM", &a, &other],
        47 => &[b"ZINCRBY", &a, b"2", &other],
        48 => &[b"ZPOPMIN", &a],
        49 => &[b"ZUNIONSTORE", &a, b"2", &b, &c],
        50 => &[b"ZRANGESTORE", &a, &b, b"0", &small],
        51 | 52 => &[b"XADD", &a, b"*", &small, &value],
        53 => &[b"XTRIM", &a, b"MAXLEN", &small],
        54 => &[b"XGROUP", b"CREATE", &a, &small, b"0"],
        55 => &[b"XREADGROUP", b"GROUP", &small, b"me", b"STREAMS", &a, b">"],
        56 => &[b"XSETID", &a, b"99999999999999-1"],
        57 => &[b"PFADD", &a, &value],
        58 => &[b"PFCOUNT", &a],
        59 => &[b"PFMERGE", &a, &b],
        60 => &[b"GEOADD", &a, b"13.3", b"38.1", &value],
        61 => &[b"SORT", &a, b"STORE", &b],
        62..65 => &[b"DEL", &a, &b],
        65 => &[b"UNLINK", &a],
        66 | 67 => &[b"RENAME", &a, &b],
        68 => &[b"RENAMENX", &a, &b],
        69 | 70 => &[b"MOVE", &a, &db],
        71 => &[b"COPY", &a, &b],
        72 => &[b"COPY", &a, &a, b"DB", &db, b"REPLACE"],
        73 | 74 => &[b"PEXPIRE", &a, &soon],
        75 => &[b"PERSIST", &a],
        76 | 77 => &[b"SELECT", &db],
        78 if rng.chance(1, 3) => &[b"FLUSHDB"],
        79 if rng.chance(1, 8) => &[b"FLUSHALL", b"ASYNC"],
        80 => &[b"SWAPDB", &db, &second_db],
        81 => &[b"MULTI"],
        82 => &[b"EXEC"],
        83 => &[b"GET", &a],
        84 => &[b"HGETALL", &a],
        85 => &[b"EXISTS", &a, &b],
        86 => &[b"RPOPLPUSH", &a, &b],
        87 => {
            for _ in 0..rng.below(400) {
                let (key, value) = (key(rng, keys), rng.below(10_000).to_string().into_bytes());
                encode(&[b"SET", &key, &value], out);
            }
            return;
        }
        _ => {
            for _ in 0..rng.below(400) {
                encode(&[b"DEL", &key(rng, keys)], out);
            }
            return;
        }
    };
    encode(words, out);
}

fn key(rng: &mut Rng, keys: u64) -> Vec<u8> {
    // A few keys are used again and again, so that values grow.
    let number = if rng.chance(1, 2) { rng.below(10) } else { rng.below(keys) };
    format!("key:{number}").into_bytes()
}

fn check(seeds: std::ops::Range<u64>, rounds: usize) {
    let mut completed = 0;
    for seed in seeds {
        let mut play = Play::new(seed, 1 + (seed % 3) as u16, [12, 100, 1500, 20_000][(seed / 3 % 4) as usize]);
        play.run(rounds);
        completed += play.completed;
    }
    assert!(completed > 0, "some snapshots came to their end");
}

#[test]
fn a_snapshot_is_what_was_there_at_the_cut_whatever_clients_do() {
    check(0..100, 80);
}
