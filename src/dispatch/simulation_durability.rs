//! Crashes at every call to the disk, under the real writer, conductor and loader, and what must be there afterwards.
//!
//! ```text
//!   clients ──> machine ──> disk ──(power cut or kill)──> disk ──> another machine loads it ──> compare, go on, crash again …
//! ```
//!
//! What is expected after each crash:
//! - the whole keyspace is as it was at the end of one epoch, and not of an older one than the server said was safe;
//! - of what each client wrote, one command after the other, a beginning is there, and nothing that it was told of and waited for, or
//!   that another who waits has read, is missing;
//! - transfers between accounts on several shards are there whole or not at all.
//!
//! `ANNULUS_CRASH_SEED` runs one seed, `ANNULUS_CRASH_SEEDS` that many instead of the few of a quick run. Absent on purpose: how a
//! server runs here ([`super::simulation_machine`]).

use std::collections::BTreeMap;

use super::simulation::encode;
use super::simulation_machine::{Contents, Cut, Machine, now};
use crate::base::rng::Rng;
use crate::base::time::Millis;
use crate::config::{AppendFsync, Config};
use crate::persist::sim_disk::{Call, EIO, ENOSPC, SimDisk};
use crate::session::{Durability, SessionKey};
use crate::shard::Stop;

const CLIENTS: usize = 6;
const ACCOUNTS: u64 = 5;

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    Text(Vec<u8>),
    Error(String),
    Nothing,
    Array(Vec<Answer>),
}

impl Answer {
    /// Reads one from the start of the bytes, if it is whole.
    fn read(bytes: &mut &[u8]) -> Option<Answer> {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let (line, mut rest) = (&bytes[1..end], &bytes[end + 2..]);
        let number = || std::str::from_utf8(line).expect("a number").parse::<i64>().expect("a number");
        let answer = match bytes[0] {
            b'-' => Answer::Error(String::from_utf8_lossy(line).into_owned()),
            b'$' | b'*' if number() < 0 => Answer::Nothing,
            b'$' => {
                let len = number() as usize;
                let text = rest.get(..len + 2)?[..len].to_vec();
                rest = &rest[len + 2..];
                Answer::Text(text)
            }
            b'*' => {
                let mut all = Vec::new();
                for _ in 0..number() {
                    all.push(Answer::read(&mut rest)?);
                }
                Answer::Array(all)
            }
            _ => Answer::Text(line.to_vec()),
        };
        *bytes = rest;
        Some(answer)
    }

    fn number(&self) -> i64 {
        match self {
            Answer::Text(text) => std::str::from_utf8(text).expect("a number").parse().expect("a number"),
            Answer::Nothing => 0,
            other => panic!("{other:?} is no number"),
        }
    }

    fn array(&self) -> &[Answer] {
        match self {
            Answer::Array(all) => all,
            other => panic!("{other:?} is no array"),
        }
    }
}

/// What one client has written, in its order. Each write has a number; it sets some keys to it and appends it to some lists.
#[derive(Default)]
struct Trail {
    /// What was there when the machine was started, by key.
    base: BTreeMap<Vec<u8>, Vec<u8>>,
    writes: Vec<(i64, Vec<Vec<u8>>)>,
    /// Everything up to this one was promised to be there.
    must: i64,
}

impl Trail {
    /// What is there after the write with this number.
    fn after(&self, number: i64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = self.base.clone();
        for (number, keys) in self.writes.iter().filter(|(n, _)| *n <= number) {
            for key in keys {
                let text = number.to_string();
                match key[0] {
                    b't' => drop(all.insert(key.clone(), text.into_bytes())),
                    _ => {
                        let list = all.entry(key.clone()).or_insert_with(|| b"list".to_vec());
                        list.push(b' ');
                        list.extend_from_slice(text.as_bytes());
                    }
                }
            }
        }
        all
    }

    /// The newest number in any of these.
    fn newest<'a>(texts: impl Iterator<Item = &'a Vec<u8>>) -> i64 {
        let newest = |text: &Vec<u8>| {
            let text = std::str::from_utf8(text).expect("numbers");
            text.rsplit(' ').next().expect("one at least").parse().expect("a number")
        };
        texts.map(newest).max().unwrap_or(0)
    }
}

#[derive(Debug)]
enum Doing {
    Setup(Durability),
    Write(i64),
    /// The trail of another, or one key of it.
    Read(usize, bool),
    Last(usize),
    Transfer,
    Sum,
    Noise,
    Fsync(AppendFsync),
    Admin,
}

struct Client {
    at: usize,
    key: SessionKey,
    wish: Durability,
    doing: Option<Doing>,
    replies: usize,
    /// Whether it waited for the disk when it sent its command.
    waited: bool,
    got: Vec<u8>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    crashes: u64,
    loads: u64,
    in_load: u64,
    promised: u64,
    refused: u64,
    rewrites: u64,
    saves: u64,
    went_back: u64,
}

/// The clients, and what they know.
struct World {
    seed: u64,
    life: u32,
    rng: Rng,
    trails: Vec<Trail>,
    clients: Vec<Client>,
    /// States that may come back, the oldest first.
    cuts: Vec<Cut>,
    /// Those before this one may not.
    floor: usize,
    next_number: i64,
    /// `appendfsync` is `always`, beyond doubt.
    always: bool,
    /// Calls to the disk may fail.
    faults: bool,
    verified: bool,
    /// What is written is on the disk within a second or two.
    timely: bool,
    /// A log is kept.
    logs: bool,
    /// How many of the machine's cuts are known here.
    seen: usize,
    /// Snapshots that were complete.
    saves: u64,
    counts: Counts,
}

fn trail_key(kind: char, client: usize, at: u64) -> Vec<u8> {
    format!("{kind}:{client}:{at}").into_bytes()
}

impl World {
    fn new(seed: u64) -> World {
        let empty = Cut { epoch: 0, at_us: 0, contents: Contents::new(), missing: 0 };
        World {
            seed,
            life: 0,
            rng: Rng::seed(seed ^ 0x5eed),
            trails: (0..CLIENTS).map(|_| Trail::default()).collect(),
            clients: Vec::new(),
            cuts: vec![empty],
            floor: 0,
            next_number: 1,
            always: false,
            faults: false,
            verified: false,
            timely: false,
            logs: true,
            seen: 0,
            saves: 0,
            counts: Counts::default(),
        }
    }

    fn context(&self) -> String {
        format!("seed {}, life {}", self.seed, self.life)
    }

    // ---- clients

    fn connect(&mut self, machine: &mut Machine) {
        self.clients.clear();
        for _ in 0..CLIENTS {
            let at = self.rng.below(machine.shards() as u64) as usize;
            let key = machine.connect(at);
            let wish = Durability::Default;
            let client = Client { at, key, wish, doing: None, replies: 0, waited: false, got: Vec::new() };
            self.clients.push(client);
        }
        for client in 0..if self.logs { CLIENTS } else { 0 } {
            let wish = *self.rng.pick(&[Durability::Default, Durability::Always, Durability::Always, Durability::None]);
            let word: &[u8] = match wish {
                Durability::Default => continue,
                Durability::None => b"none",
                Durability::EverySec => b"everysec",
                Durability::Always => b"always",
            };
            let mut bytes = Vec::new();
            encode(&[b"CLIENT", b"DURABILITY", word], &mut bytes);
            self.send(machine, client, Doing::Setup(wish), 1, &bytes);
        }
    }

    fn waits(&self, client: usize) -> bool {
        match self.clients[client].wish {
            Durability::Default => self.always,
            Durability::Always => true,
            Durability::None | Durability::EverySec => false,
        }
    }

    fn send(&mut self, machine: &mut Machine, client: usize, doing: Doing, replies: usize, bytes: &[u8]) {
        let waited = self.waits(client);
        let client = &mut self.clients[client];
        (client.doing, client.replies, client.waited) = (Some(doing), replies, waited);
        machine.send(client.at, client.key, bytes);
    }

    /// Some client that waits for nothing sends something.
    fn act(&mut self, machine: &mut Machine) {
        let client = self.rng.below(CLIENTS as u64) as usize;
        if self.clients[client].doing.is_some() {
            return;
        }
        let mut bytes = Vec::new();
        let other = self.rng.below(CLIENTS as u64) as usize;
        let (doing, replies) = match self.rng.below(100) {
            0..40 => self.write(client, &mut bytes),
            40..50 => {
                let keys = [0, 1, 2].map(|at| trail_key('t', other, at));
                encode(&[b"MGET", &keys[0], &keys[1], &keys[2]], &mut bytes);
                (Doing::Read(other, true), 1)
            }
            50..56 => {
                encode(&[b"GET", &trail_key('t', other, self.rng.below(3))], &mut bytes);
                (Doing::Read(other, false), 1)
            }
            56..60 => {
                encode(&[b"LRANGE", &trail_key('l', other, self.rng.below(2)), b"-1", b"-1"], &mut bytes);
                (Doing::Last(other), 1)
            }
            60..72 => {
                let amount = self.rng.below(100) as i64;
                let from = self.rng.below(ACCOUNTS);
                let to = (from + 1 + self.rng.below(ACCOUNTS - 1)) % ACCOUNTS;
                let [from, to] = [from, to].map(|at| format!("b:{at}").into_bytes());
                encode(&[b"MULTI"], &mut bytes);
                encode(&[b"INCRBY", &from, (-amount).to_string().as_bytes()], &mut bytes);
                encode(&[b"INCRBY", &to, amount.to_string().as_bytes()], &mut bytes);
                encode(&[b"EXEC"], &mut bytes);
                (Doing::Transfer, 4)
            }
            72..76 => {
                let keys: Vec<Vec<u8>> = (0..ACCOUNTS).map(|at| format!("b:{at}").into_bytes()).collect();
                let mut words: Vec<&[u8]> = vec![b"MGET"];
                words.extend(keys.iter().map(|key| &key[..]));
                encode(&words, &mut bytes);
                (Doing::Sum, 1)
            }
            76..96 => (Doing::Noise, noise(&mut self.rng, &mut bytes)),
            _ if client == 0 => self.admin(&mut bytes),
            _ => return,
        };
        self.send(machine, client, doing, replies, &bytes);
    }

    fn write(&mut self, client: usize, out: &mut Vec<u8>) -> (Doing, usize) {
        let number = self.next_number;
        self.next_number += 1;
        let text = number.to_string().into_bytes();
        let t = |rng: &mut Rng| trail_key('t', client, rng.below(3));
        let rng = &mut self.rng;
        let (keys, replies) = match rng.below(6) {
            0 | 1 => {
                let key = t(rng);
                encode(&[b"SET", &key, &text], out);
                (vec![key], 1)
            }
            2 => {
                let key = trail_key('l', client, rng.below(2));
                encode(&[b"RPUSH", &key, &text], out);
                (vec![key], 1)
            }
            3 => {
                let keys = [0, 1, 2].map(|at| trail_key('t', client, at));
                encode(&[b"MSET", &keys[0], &text, &keys[1], &text, &keys[2], &text], out);
                (keys.to_vec(), 1)
            }
            _ => {
                let keys = [trail_key('t', client, 0), trail_key('t', client, 1), trail_key('l', client, 0)];
                encode(&[b"MULTI"], out);
                encode(&[b"SET", &keys[0], &text], out);
                encode(&[b"SET", &keys[1], &text], out);
                encode(&[b"RPUSH", &keys[2], &text], out);
                encode(&[b"EXEC"], out);
                (keys.to_vec(), 5)
            }
        };
        self.trails[client].writes.push((number, keys));
        (Doing::Write(number), replies)
    }

    fn admin(&mut self, out: &mut Vec<u8>) -> (Doing, usize) {
        match self.rng.below(6) {
            0 | 1 if self.logs => encode(&[b"BGREWRITEAOF"], out),
            0..3 => encode(&[b"BGSAVE"], out),
            3 => encode(&[b"SAVE"], out),
            4 => encode(&[b"SAVE", b"MERGED"], out),
            _ => {
                let (policy, word) = *self.rng.pick(&[
                    (AppendFsync::Always, &b"always"[..]),
                    (AppendFsync::Everysec, b"everysec"),
                    (AppendFsync::No, b"no"),
                ]);
                encode(&[b"CONFIG", b"SET", b"appendfsync", word], out);
                self.always &= policy == AppendFsync::Always;
                self.timely &= policy != AppendFsync::No;
                return (Doing::Fsync(policy), 1);
            }
        }
        (Doing::Admin, 1)
    }

    /// What was sent to clients reaches them.
    fn hear(&mut self, machine: &mut Machine) {
        for (at, key, bytes) in std::mem::take(&mut machine.sent) {
            let mut clients = 0..CLIENTS;
            let client = clients.find(|c| (self.clients[*c].at, self.clients[*c].key) == (at, key)).expect("it is one");
            self.clients[client].got.extend_from_slice(&bytes);
            let mut rest = &self.clients[client].got[..];
            let mut answers = Vec::new();
            while answers.len() < self.clients[client].replies
                && let Some(answer) = Answer::read(&mut rest)
            {
                answers.push(answer);
            }
            if answers.len() == self.clients[client].replies {
                assert!(rest.is_empty(), "{}: no more than was asked for", self.context());
                self.clients[client].got.clear();
                let doing = self.clients[client].doing.take().expect("it has sent something");
                self.answered(client, doing, answers.last().expect("one at least"));
            }
        }
    }

    fn answered(&mut self, client: usize, doing: Doing, answer: &Answer) {
        let waits = self.clients[client].waited && self.waits(client);
        let context = self.context();
        if let Answer::Error(error) = answer {
            let refused = ["MISCONF", "LOADING", "EXECABORT"].iter().any(|code| error.starts_with(code));
            self.counts.refused += u64::from(refused);
            match doing {
                Doing::Write(number) => {
                    assert!(refused, "{context}: {error}");
                    let gone = self.trails[client].writes.pop().expect("it was written down");
                    assert_eq!(gone.0, number);
                }
                Doing::Transfer | Doing::Setup(_) => assert!(refused, "{context}: {error}"),
                Doing::Noise | Doing::Admin => {}
                _ => assert!(error.starts_with("LOADING"), "{context}: {doing:?}: {error}"),
            }
            return;
        }
        match doing {
            Doing::Setup(wish) => self.clients[client].wish = wish,
            Doing::Fsync(policy) => self.always = self.logs && policy == AppendFsync::Always,
            Doing::Write(number) => self.promise(waits, client, number),
            Doing::Read(other, false) => self.promise(waits, other, answer.number()),
            Doing::Read(other, true) => {
                let numbers: Vec<i64> = answer.array().iter().map(Answer::number).collect();
                let newest = numbers.iter().copied().max().unwrap_or(0);
                let after = self.trails[other].after(newest);
                for (at, number) in numbers.iter().enumerate() {
                    let expected =
                        after.get(&trail_key('t', other, at as u64)).map_or(0, |t| Trail::newest([t].into_iter()));
                    assert_eq!(*number, expected, "{context}: {client} reads {numbers:?} of {other}");
                }
                self.promise(waits, other, newest);
            }
            Doing::Last(other) => {
                let last = answer.array().first().map_or(0, Answer::number);
                self.promise(waits, other, last);
            }
            Doing::Sum => {
                let sum: i64 = answer.array().iter().map(Answer::number).sum();
                assert_eq!(sum, 0, "{context}: {answer:?}");
            }
            Doing::Transfer | Doing::Noise | Doing::Admin => {}
        }
    }

    fn promise(&mut self, waits: bool, client: usize, number: i64) {
        if waits && number > self.trails[client].must {
            self.trails[client].must = number;
            self.counts.promised += 1;
        }
    }

    // ---- crashes

    /// Whether the machine has loaded what it found.
    fn is_up(&self, machine: &Machine) -> bool {
        machine.all().all(|shard| shard.storage.status.last_save > 0 && shard.storage.status.loading_since.is_none())
    }

    /// One life of the process: until it stops, its disk halts or it has had so many steps.
    fn live(&mut self, machine: &mut Machine, steps: u32) {
        self.verified = false;
        self.clients.clear();
        (self.seen, self.saves) = (0, 0);
        for _ in 0..steps {
            self.one_step(machine, true);
            if machine.disk.is_halted() {
                return;
            }
            if machine.stop() != Stop::No {
                assert!(self.faults, "{}: what was left cannot be loaded", self.context());
                return;
            }
        }
    }

    fn one_step(&mut self, machine: &mut Machine, acts: bool) {
        machine.step();
        if !self.verified {
            if self.is_up(machine) {
                self.compare(machine);
                self.connect(machine);
                self.seen = machine.cuts.len();
            }
            return;
        }
        if acts && self.rng.chance(1, 2) {
            self.act(machine);
        }
        self.hear(machine);
        let known = self.cuts.len();
        while machine.cuts.get(self.seen).is_some_and(|cut| cut.missing == 0) {
            self.cuts.push(machine.cuts[self.seen].clone());
            self.seen += 1;
        }
        if let Some(durable) = machine.durable() {
            let safe = self.cuts.iter().rposition(|cut| cut.epoch <= durable).unwrap_or(0);
            self.floor = self.floor.max(safe);
        }
        let saves = machine.shard(0).storage.status.saves;
        if !self.logs && saves > self.saves {
            // Of the last cut that was before it was done; the next may have begun at once.
            self.saves = saves;
            self.floor = known - 1;
        }
    }

    /// What was loaded is what may have been left.
    fn compare(&mut self, machine: &Machine) {
        let context = self.context();
        let at = now().millis();
        let living = |contents: &Contents| -> Contents {
            let lives = |due: Option<Millis>| due.is_none_or(|due| due > at);
            contents
                .iter()
                .filter(|(_, (_, due))| lives(*due))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let loaded = living(&machine.contents());
        self.counts.loads += 1;
        let found = self.cuts.iter().rposition(|cut| living(&cut.contents) == loaded);
        match found {
            Some(found) if found >= self.floor => {
                self.counts.went_back += u64::from(found + 1 < self.cuts.len());
            }
            Some(found) => panic!(
                "{context}: what was loaded is the state of epoch {}, but epoch {} was safe",
                self.cuts[found].epoch, self.cuts[self.floor].epoch
            ),
            None => {
                let differences = |cut: &Cut| {
                    let is = living(&cut.contents);
                    let keys: std::collections::BTreeSet<_> = is.keys().chain(loaded.keys()).collect();
                    let differ = keys.into_iter().filter(|key| is.get(*key) != loaded.get(*key));
                    let show = |entry: Option<&(Vec<u8>, Option<Millis>)>| {
                        entry.map(|(text, due)| format!("{} {due:?}", text.escape_ascii()))
                    };
                    differ
                        .map(|key| {
                            format!(
                                "{}: was {:?}, is {:?}",
                                key.1.escape_ascii(),
                                show(is.get(key)),
                                show(loaded.get(key))
                            )
                        })
                        .collect::<Vec<_>>()
                };
                let (cut, differ) = self
                    .cuts
                    .iter()
                    .map(|cut| (cut, differences(cut)))
                    .min_by_key(|(_, differ)| differ.len())
                    .expect("there is one at least");
                panic!("{context}: what was loaded never was; next to it is epoch {}: {differ:#?}", cut.epoch);
            }
        }
        for client in 0..CLIENTS {
            let prefix = format!(":{client}:").into_bytes();
            let mine = loaded.iter().filter(|((db, key), _)| *db == 0 && key[1..].starts_with(&prefix));
            let mine: BTreeMap<Vec<u8>, Vec<u8>> =
                mine.map(|((_, key), (text, _))| (key.clone(), text.clone())).collect();
            let trail = &mut self.trails[client];
            let newest = Trail::newest(mine.values());
            assert_eq!(trail.after(newest), mine, "{context}: a beginning of what client {client} wrote");
            let must = trail.must;
            assert!(newest >= must, "{context}: client {client} was promised {must}, and {newest} is there");
            // From here on it may not vanish.
            *trail = Trail { base: mine, writes: Vec::new(), must: newest };
        }
        let account = |at: u64| loaded.get(&(0, format!("b:{at}").into_bytes())).map(|(text, _)| text.clone());
        let sum: i64 = (0..ACCOUNTS).filter_map(account).map(|text| Answer::Text(text).number()).sum();
        assert_eq!(sum, 0, "{context}: transfers are whole");
        self.cuts = vec![Cut { epoch: 0, at_us: 0, contents: loaded, missing: 0 }];
        self.floor = 0;
        self.verified = true;
    }
}

/// Some commands on keys that nobody else uses. Gives the number of replies.
fn noise(rng: &mut Rng, out: &mut Vec<u8>) -> usize {
    let mut key = || format!("n:{}", rng.below(12)).into_bytes();
    let (a, b) = (key(), key());
    let number = rng.below(50).to_string().into_bytes();
    let soon = (1 + rng.below(400)).to_string().into_bytes();
    let value = match rng.below(20) {
        0 => vec![b'v'; 3000],
        1..5 => vec![b'w'; 40],
        _ => rng.below(1000).to_string().into_bytes(),
    };
    let words: &[&[u8]] = match rng.below(26) {
        0..3 => &[b"SET", &a, &value],
        3 | 4 => &[b"SET", &a, &value, b"PX", &soon],
        5 => &[b"APPEND", &a, b"x"],
        6 => &[b"INCR", &a],
        7 => &[b"GETDEL", &a],
        8 => &[b"RPUSH", &a, &value, &number],
        9 => &[b"LPOP", &a],
        10 => &[b"LMOVE", &a, &b, b"LEFT", b"RIGHT"],
        11 | 12 => &[b"RENAME", &a, &b],
        13 => &[b"COPY", &a, &b, b"REPLACE"],
        14 => &[b"DEL", &a, &b],
        15 => &[b"SADD", &a, &number],
        16 => &[b"SPOP", &a],
        17 => &[b"SMOVE", &a, &b, &number],
        18 => &[b"HSET", &a, &number, &value],
        19 => &[b"ZADD", &a, &number, &value],
        20 => &[b"XADD", &a, b"*", b"f", &value],
        21 => &[b"PEXPIRE", &a, &soon],
        22 => &[b"PERSIST", &a],
        23 => &[b"SUNIONSTORE", &a, &b],
        24 => &[b"MOVE", &a, b"1"],
        _ => &[b"GETSET", &a, &value],
    };
    encode(words, out);
    1
}

/// How one life goes.
struct Life {
    shards: u16,
    config: Config,
    /// After so many calls the disk answers no more, and the machine dies.
    halt: Option<u64>,
    faults: bool,
    steps: u32,
    /// The process is killed; else the power is cut.
    is_kill: bool,
    /// Before that the disk heals, and everybody is answered.
    rests: bool,
}

impl Life {
    fn drawn(rng: &mut Rng, shards: u16, appendonly: bool) -> Life {
        let appendfsync =
            *rng.pick(&[AppendFsync::Always, AppendFsync::Everysec, AppendFsync::Everysec, AppendFsync::No]);
        let most = *rng.pick(&[30, 60, 100, 300]);
        Life {
            shards,
            config: Config { appendonly, appendfsync, save: Vec::new(), ..Config::default() },
            halt: Some(rng.below(most)),
            faults: rng.chance(1, 5),
            steps: *rng.pick(&[500, 1500, 4000]),
            is_kill: rng.chance(1, 4),
            rests: true,
        }
    }
}

impl World {
    /// Starts a machine on the disk, lets it live and die, and gives what it leaves.
    fn play(&mut self, disk: &SimDisk, life: Life) -> SimDisk {
        self.life += 1;
        let config = &life.config;
        self.always = config.appendonly && config.appendfsync == AppendFsync::Always;
        self.timely = config.appendonly && config.appendfsync != AppendFsync::No && !life.faults;
        self.faults = life.faults;
        self.logs = config.appendonly;
        if let Some(calls) = life.halt {
            disk.halt_after(calls);
        }
        if life.faults {
            let calls = [Call::Open, Call::Write, Call::Sync, Call::Sync, Call::Name, Call::SyncDir, Call::SetLen];
            let times = 1 + self.rng.below(4);
            disk.fail(*self.rng.pick(&calls), self.rng.below(60), times, *self.rng.pick(&[EIO, ENOSPC]));
        }
        let mut machine = Machine::start(life.shards, self.rng.next_u64(), config, disk);
        self.live(&mut machine, life.steps);
        if life.rests && machine.stop() == Stop::No && !disk.is_halted() {
            self.come_to_rest(&mut machine);
        }
        if self.timely && self.verified {
            // One second, and what a busy disk takes.
            let by_us = now().mono_us.saturating_sub(2_000_000);
            let safe = self.cuts.iter().rposition(|cut| cut.at_us <= by_us).unwrap_or(0);
            self.floor = self.floor.max(safe);
        }
        if is_one_seed() {
            self.tell(&life, disk);
        }
        self.counts.crashes += 1;
        self.counts.in_load += u64::from(!self.verified);
        self.counts.rewrites += machine.shard(0).storage.status.rewrites;
        self.counts.saves += machine.shard(0).storage.status.saves;
        if life.is_kill { disk.kill() } else { disk.crash() }
    }

    /// The disk works again, and everybody is answered in the end.
    fn come_to_rest(&mut self, machine: &mut Machine) {
        machine.disk.heal();
        self.faults = false;
        for _ in 0..100_000 {
            let refuses = machine.all().any(|shard| shard.storage.status.write_error.is_some());
            if self.verified && !refuses && self.clients.iter().all(|client| client.doing.is_none()) {
                return;
            }
            if machine.disk.is_halted() || machine.stop() != Stop::No {
                return;
            }
            self.one_step(machine, false);
        }
        let doing: Vec<_> = self.clients.iter().map(|client| &client.doing).collect();
        let status = &machine.shard(0).storage.status;
        panic!("{}: it does not come to rest: {doing:?}, {status:?}", self.context());
    }

    fn tell(&self, life: &Life, disk: &SimDisk) {
        println!(
            "life {}: {} shards, {:?}, up {}, faults {}, halted {}, killed {}; epochs to {}, safe to {}",
            self.life,
            life.shards,
            life.config.appendfsync,
            self.verified,
            life.faults,
            disk.is_halted(),
            life.is_kill,
            self.cuts.last().map_or(0, |cut| cut.epoch),
            self.cuts[self.floor].epoch
        );
        for path in disk.files() {
            println!("  {} {:?}", path.display(), disk.content(&path).map(|content| content.len()));
        }
    }
}

/// One disk through several lives and deaths.
fn play(seed: u64, appendonly: bool) -> Counts {
    let mut rng = Rng::seed(seed);
    let mut world = World::new(seed);
    let mut disk = SimDisk::new(seed);
    disk.set_delays(rng.below(5) as u32);
    let mut shards = 1 + rng.below(4) as u16;
    for _ in 0..8 {
        if rng.chance(1, 5) {
            shards = 1 + rng.below(4) as u16;
        }
        disk = world.play(&disk, Life::drawn(&mut rng, shards, appendonly));
    }
    world.play(&disk, Life { halt: None, faults: false, steps: 1000, ..Life::drawn(&mut rng, shards, appendonly) });
    world.counts
}

/// One seed need not meet everything.
fn is_one_seed() -> bool {
    std::env::var_os("ANNULUS_CRASH_SEED").is_some()
}

/// The seeds of a run.
fn seeds(quick: u64) -> Vec<u64> {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match setting("ANNULUS_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => (0..setting("ANNULUS_CRASH_SEEDS").unwrap_or(quick)).collect(),
    }
}

fn sum(all: impl Iterator<Item = Counts>) -> Counts {
    let sum = all.fold(Counts::default(), sum_of);
    println!("{sum:?}");
    sum
}

fn sum_of(a: Counts, b: Counts) -> Counts {
    Counts {
        crashes: a.crashes + b.crashes,
        loads: a.loads + b.loads,
        in_load: a.in_load + b.in_load,
        promised: a.promised + b.promised,
        refused: a.refused + b.refused,
        rewrites: a.rewrites + b.rewrites,
        saves: a.saves + b.saves,
        went_back: a.went_back + b.went_back,
    }
}

#[test]
fn whatever_crashes_what_was_promised_is_there_and_what_is_there_was_once() {
    let sum = sum(seeds(100).into_iter().map(|seed| play(seed, true)));
    assert!(is_one_seed() || (sum.promised > 0 && sum.rewrites > 0));
}

#[test]
fn without_a_log_the_last_snapshot_that_was_complete_is_there_or_a_later_one() {
    let sum = sum(seeds(30).into_iter().map(|seed| play(seed, false)));
    assert!(is_one_seed() || sum.saves > 0);
}

/// A short life is cut off at each of its calls to the disk, and the next at some of those with which it loads.
#[test]
fn a_crash_at_any_call_to_the_disk_leaves_what_was_promised() {
    let sum = sum(seeds(1).into_iter().map(|seed| {
        let mut counts = Counts::default();
        for halt in 0.. {
            let mut world = World::new(seed);
            let disk = SimDisk::new(seed * 1000 + halt);
            let mut rng = Rng::seed(seed);
            let life = |rng: &mut Rng, halt, steps| Life {
                halt,
                faults: false,
                steps,
                is_kill: false,
                ..Life::drawn(rng, 2, true)
            };
            let left = world.play(&disk, life(&mut rng, Some(halt), 1500));
            let second = rng.below(40);
            let left =
                world.play(&left, Life { is_kill: halt % 3 == 0, ..life(&mut rng, Some(halt * 7 % 40 + second), 200) });
            world.play(&left, life(&mut rng, None, 50));
            counts = sum_of(counts, world.counts);
            if !disk.is_halted() {
                break;
            }
        }
        counts
    }));
    assert!(is_one_seed() || sum.crashes > 0);
}

/// The disk fails again and again, and the process is killed and the power cut while it does.
#[test]
fn a_disk_that_fails_loses_nothing_that_was_promised() {
    let sum = sum(seeds(40).into_iter().map(|seed| {
        let mut world = World::new(seed);
        let mut disk = SimDisk::new(seed);
        let mut rng = Rng::seed(seed);
        for at in 0..6 {
            let life = Life::drawn(&mut rng, 1 + (seed % 3) as u16, true);
            let steps = 300 + rng.below(700) as u32;
            let faults = at % 2 == 0;
            disk = world.play(&disk, Life { halt: None, faults, steps, is_kill: faults, rests: !faults, ..life });
        }
        world.counts
    }));
    assert!(is_one_seed() || sum.refused > 0);
}
