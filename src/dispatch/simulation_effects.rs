//! What the log says, run again on another shard, leads to the same keys: random commands of all families through the real handlers,
//! on one shard and on several, with clients that wait, transactions, and time that goes on; then the log of each shard by itself,
//! command by command, on a shard whose clock stands at the beginning of time and whose dice fall otherwise.
//!
//! Compared is what clients can see of a key, to the last bit, and when it expires: not how it is encoded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::simulation::{Sim, encode};
use crate::base::DbIndex;
use crate::base::rng::Rng;
use crate::base::time::{Millis, Now};
use crate::config::Config;
use crate::keyspace::{Entry, Value};
use crate::persist::dump;
use crate::session::SessionKey;
use crate::shard::Shard;
use crate::shard::cx::Observers;
use crate::types::listpack::Item;
use crate::types::stream::StreamId;
use crate::types::{DataType, Hash, List, Object, Set, Stream, Zset};

/// By database and key: what it holds, and when it expires.
type Contents = BTreeMap<(u16, String), (String, Option<Millis>)>;

const DATABASES: u64 = 2;

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn show_stream(stream: &Stream, text: &mut String) {
    let log = stream.log();
    let counters = (log.last_id(), log.max_deleted_id(), log.entries_added());
    write!(text, "stream {counters:?}").expect("a string grows");
    log.walk(StreamId::MIN, StreamId::MAX, false, |entry| {
        let fields: Vec<_> = entry.fields().map(|(name, value)| (shown(&name.text()), shown(&value.text()))).collect();
        write!(text, " {:?}={fields:?}", entry.id).expect("a string grows");
        true
    });
    for (name, group) in stream.groups() {
        let place = (group.last_id(), group.entries_read());
        write!(text, "\n  group {} {place:?}", shown(name)).expect("a string grows");
        for (id, pending) in group.pending_from(StreamId::MIN) {
            let consumer = shown(group.consumer(pending.consumer).name());
            let how = (pending.delivered_ms, pending.deliveries);
            write!(text, "\n    {id:?} {consumer} {how:?}").expect("a string grows");
        }
        for consumer in group.consumers() {
            // When it was last seen is told when it is made or gets something. Reading nothing is no change. DUMP does not say when
            // it last got something.
            let is = (consumer.pending_len(), consumer.seen_ms > 1_000_000_000_000);
            write!(text, "\n    consumer {} {is:?}", shown(consumer.name())).expect("a string grows");
        }
    }
}

fn show_object(object: &Object, at: Millis) -> String {
    let mut parts = Vec::new();
    let mut text = String::new();
    let item = |item: Item<'_>| shown(&item.text());
    if let Some(list) = List::of(object) {
        list.walk(0, false, |element| {
            parts.push(item(element));
            true
        });
    } else if let Some(set) = Set::of(object) {
        set.walk(|member| {
            parts.push(item(member));
            true
        });
        parts.sort();
    } else if let Some(zset) = Zset::of(object) {
        zset.walk(0, false, |member, score| {
            parts.push(format!("{}:{:x}", item(member), score.to_bits()));
            true
        });
    } else if let Some(hash) = Hash::of(object) {
        hash.walk(at, |field, value| {
            parts.push(format!("{}={} {:?}", item(field), item(value), hash.deadline(&field.text())));
            true
        });
        parts.sort();
    } else if let Some(stream) = Stream::of(object) {
        show_stream(stream, &mut text);
    }
    format!("{} {parts:?}{text}", object.type_name())
}

/// What clients see; none of a hash whose fields have all expired.
fn show(entry: &Entry<'_>, at: Millis) -> Option<String> {
    match entry.value() {
        Value::Object(object) if Hash::of(object).is_some_and(|hash| hash.live_len(at) == 0) => None,
        Value::Object(object) => Some(show_object(object, at)),
        value => Some(format!("string {}", shown(&value.text()))),
    }
}

fn contents_of(shard: &Shard, at: Millis) -> Contents {
    let mut contents = Contents::new();
    for (index, db) in shard.keyspace.dbs().iter().enumerate() {
        let mut cursor = 0;
        loop {
            cursor = db.scan(cursor, usize::MAX, at, |entry| {
                if let Some(value) = show(&entry, at) {
                    contents.insert((index as u16, shown(entry.key())), (value, entry.expire_at()));
                }
            });
            if cursor == 0 {
                break;
            }
        }
    }
    contents
}

/// The commands of a log, each with its bytes.
fn commands_of(mut log: &[u8]) -> Vec<&[u8]> {
    fn line<'b>(bytes: &'b [u8], at: &mut usize) -> &'b [u8] {
        let rest = &bytes[*at..];
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("lines end");
        *at += end + 2;
        &rest[..end]
    }
    let number = |line: &[u8]| String::from_utf8_lossy(&line[1..]).parse::<usize>().expect("a number");
    let mut commands = Vec::new();
    while !log.is_empty() {
        let mut at = 0;
        // What is said beside commands: of which transaction they are a part.
        while log[at..].starts_with(b"#") {
            line(log, &mut at);
        }
        let start = at;
        for _ in 0..number(line(log, &mut at)) {
            at += number(line(log, &mut at)) + 2;
        }
        commands.push(&log[start..at]);
        log = &log[at..];
    }
    commands
}

/// Runs a log on a shard of its own.
fn replay(log: &[u8], seed: u64, context: &str) -> Sim {
    let mut sim = Sim::new(1, seed ^ 0x5eed, &Config::default());
    sim.now = Now::default();
    let client = sim.connect(0);
    for command in commands_of(log) {
        sim.send(0, client, command);
        sim.settle();
        let reply = sim.output(0, client);
        let refused = sim.engines[0].shard.metrics.error_replies > 0;
        assert!(!refused, "{context}: {} was answered {}", shown(command), shown(&reply));
    }
    sim
}

/// What a command is made of, beside dice.
struct Known {
    now: Millis,
    /// Something that RESTORE takes.
    payload: Vec<u8>,
    /// Names of entries of streams.
    ids: Vec<StreamId>,
}

struct Play {
    sim: Sim,
    workers: Vec<(usize, SessionKey)>,
    waiters: Vec<(usize, SessionKey)>,
    seed: u64,
}

impl Play {
    fn new(seed: u64, shards: u16) -> Play {
        let mut sim = Sim::new(shards, seed, &Config::default());
        for engine in &mut sim.engines {
            engine.shard.effects.set_active(true, 1);
        }
        let mut two_clients = || {
            let homes = (0..2).map(|at| at % usize::from(shards));
            homes.map(|home| (home, sim.connect(home))).collect()
        };
        let workers = two_clients();
        let waiters = two_clients();
        Play { sim, workers, waiters, seed }
    }

    /// Looks at what is there, for commands that need to know.
    fn look(&mut self) -> Known {
        let at = self.sim.rng.below(self.sim.engines.len() as u64) as usize;
        let now = self.sim.now.millis();
        let mut known = Known { now, payload: Vec::new(), ids: Vec::new() };
        if self.sim.rng.chance(1, 2) {
            return known;
        }
        let rng = &mut self.sim.rng;
        self.sim.engines[at].shard.keyspace.dbs()[0].scan(0, usize::MAX, now, |entry| {
            if known.payload.is_empty() || rng.chance(1, 4) {
                known.payload = dump::dump(entry.value(), now, true).unwrap_or_default();
            }
            if let Value::Object(object) = entry.value()
                && let Some(stream) = Stream::of(object)
            {
                stream.log().walk(StreamId::MIN, StreamId::MAX, true, |entry| {
                    known.ids.push(entry.id);
                    known.ids.len() < 60
                });
            }
        });
        known
    }

    fn pass_time(&mut self) {
        let most = if self.sim.rng.chance(1, 10) { 20_000 } else { 60 };
        let ms = 1 + self.sim.rng.below(most);
        self.sim.now.unix_us += 1000 * ms as i64;
        self.sim.now.mono_us += 1000 * ms;
        let now = self.sim.now.millis();
        let at = self.sim.rng.below(self.sim.engines.len() as u64) as usize;
        let shard = &mut self.sim.engines[at].shard;
        let mut observers = Observers {
            waiters: &mut shard.waiters,
            watched: &mut shard.watched,
            tracking: &mut shard.tracking,
            effects: &mut shard.effects,
        };
        let index = DbIndex(self.sim.rng.below(DATABASES) as u16);
        let db = shard.keyspace.db_mut(index);
        if self.sim.rng.chance(1, 2) {
            db.expire_due(now, 20, |record| observers.expired(index, record.key()));
        }
        if self.sim.rng.chance(1, 2) {
            db.expire_parts(now, |key, object| observers.expire_fields(index, key, object, now, 2));
        }
    }

    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for _ in 0..1 + self.sim.rng.below(6) {
                let known = self.look();
                let (shard, client) = self.workers[self.sim.rng.below(2) as usize];
                let mut bytes = Vec::new();
                if self.sim.rng.chance(1, 12) {
                    encode(&[b"MULTI"], &mut bytes);
                    for _ in 0..self.sim.rng.below(5) {
                        command(&mut self.sim.rng, &known, COMMANDS, &mut bytes);
                    }
                    encode(&[b"EXEC"], &mut bytes);
                } else {
                    command(&mut self.sim.rng, &known, COMMANDS, &mut bytes);
                }
                self.sim.send(shard, client, &bytes);
            }
            let (shard, client) = self.waiters[self.sim.rng.below(2) as usize];
            if self.sim.rng.chance(1, 3) && self.sim.is_quiet(shard, client) {
                let mut bytes = Vec::new();
                let known = self.look();
                command(&mut self.sim.rng, &known, WAITING, &mut bytes);
                self.sim.send(shard, client, &bytes);
            }
            for _ in 0..self.sim.rng.below(8) {
                let at = self.sim.rng.below(self.sim.engines.len() as u64) as usize;
                self.sim.turn(at);
            }
            if self.sim.rng.chance(1, 2) {
                self.sim.settle();
                self.pass_time();
            }
            for (shard, client) in self.workers.clone() {
                self.sim.output(shard, client);
            }
        }
        self.sim.settle();
        let now = self.sim.now.millis();
        for at in 0..self.sim.engines.len() {
            let shard = &mut self.sim.engines[at].shard;
            let log = shard.effects.take(Vec::new());
            let expected = contents_of(shard, now);
            let context = format!("seed {}, shard {at}", self.seed);
            let again = replay(&log, self.seed, &context);
            let got = contents_of(&again.engines[0].shard, now);
            if expected != got {
                let keys: std::collections::BTreeSet<_> = expected.keys().chain(got.keys()).collect();
                let key = keys.into_iter().find(|key| expected.get(*key) != got.get(*key)).expect("they differ");
                for command in commands_of(&log).iter().map(|command| shown(command)) {
                    let about = command.contains(&key.1) || command.contains("FLUSH") || command.contains("SWAPDB");
                    if about || command.contains("SELECT") || command.contains("MULTI") || command.contains("EXEC") {
                        println!("{command}");
                    }
                }
                let (was, is) = (expected.get(key), got.get(key));
                panic!("{context}, now {now:?}: {key:?} was\n{was:?}\nand is after its log has run\n{is:?}");
            }
        }
    }
}

/// A few keys of each type, so that most commands find what they work on, and a few that may hold anything.
fn key(rng: &mut Rng, kind: &str) -> String {
    match rng.below(12) {
        0 => format!("any{}", rng.below(4)),
        _ => format!("{kind}{}", rng.below(4)),
    }
}

/// One of these commands. What ends in `$` stands for something random.
fn command(rng: &mut Rng, known: &Known, lines: &[&str], out: &mut Vec<u8>) {
    let line = lines[rng.below(lines.len() as u64) as usize];
    let words: Vec<Vec<u8>> = line.split(' ').map(|word| expand(rng, known, word)).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    encode(&words, out);
}

fn expand(rng: &mut Rng, known: &Known, word: &str) -> Vec<u8> {
    let now = known.now;
    let small = |rng: &mut Rng| rng.below(12);
    let text = match word {
        "s$" => key(rng, "str"),
        "l$" => key(rng, "list"),
        "S$" => key(rng, "set"),
        "h$" => key(rng, "hash"),
        "z$" => key(rng, "zset"),
        "x$" => key(rng, "stream"),
        "p$" => key(rng, "hll"),
        "k$" => {
            let kind = ["str", "list", "set", "hash", "zset", "stream", "hll"][rng.below(7) as usize];
            key(rng, kind)
        }
        "n$" => small(rng).to_string(),
        "f$" => format!("{}.{}", rng.range(-9..=9), small(rng)),
        "i$" => format!("f{}", rng.below(8)),
        "v$" if rng.chance(1, 10) => "v".repeat(rng.below(300) as usize),
        "v$" => rng.below(40).to_string(),
        "db$" => rng.below(DATABASES).to_string(),
        // Times: so that some of them are over soon, and some are over already.
        "ms$" => [1, 5, 30, 100, 100_000][rng.below(5) as usize].to_string(),
        "sec$" => [0, 1, 10, 1000][rng.below(4) as usize].to_string(),
        "atms$" => (now.0 + rng.range(-20..=200)).to_string(),
        "atsec$" => (now.0 / 1000 + rng.range(-1..=9)).to_string(),
        "if$" => ["NX", "XX", "GT", "LT"][rng.below(4) as usize].to_owned(),
        "end$" => ["LEFT", "RIGHT"][rng.below(2) as usize].to_owned(),
        "minmax$" => ["MIN", "MAX"][rng.below(2) as usize].to_owned(),
        "g$" => format!("g{}", rng.below(2)),
        "c$" => format!("c{}", rng.below(3)),
        // Names of entries near those that the clock gives.
        "id$" if !known.ids.is_empty() && rng.chance(3, 4) => {
            let id = known.ids[rng.below(known.ids.len() as u64) as usize];
            format!("{}-{}", id.ms, id.seq)
        }
        "id$" if rng.chance(1, 3) => format!("{}-{}", now.0 - rng.range(0..=60), rng.below(2)),
        "id$" => format!("{}-{}", 1_600_000_000_000u64 + rng.below(30), rng.below(3)),
        "payload$" => return known.payload.clone(),
        word => word.to_owned(),
    };
    text.into_bytes()
}

const COMMANDS: &[&str] = &[
    // Strings.
    "SET s$ v$",
    "SET s$ v$ EX sec$",
    "SET s$ v$ PX ms$",
    "SET s$ v$ EXAT atsec$",
    "SET s$ v$ PXAT atms$ NX",
    "SET s$ v$ XX KEEPTTL GET",
    "SET s$ v$ IFEQ v$",
    "SET s$ v$ IFNE v$ PX ms$",
    "SETEX s$ sec$ v$",
    "PSETEX s$ ms$ v$",
    "SETNX s$ v$",
    "GETSET s$ v$",
    "GETDEL s$",
    "GETEX s$ PX ms$",
    "GETEX s$ EXAT atsec$",
    "GETEX s$ PERSIST",
    "APPEND s$ v$",
    "SETRANGE s$ n$ v$",
    "INCR s$",
    "DECRBY s$ n$",
    "INCRBYFLOAT s$ f$",
    "MSET s$ v$ s$ v$",
    "MSETNX s$ v$ s$ v$",
    "SETBIT s$ n$ 1",
    "BITFIELD s$ OVERFLOW FAIL INCRBY u4 n$ n$ SET i8 3 n$",
    "BITOP XOR s$ s$ s$",
    "DELIFEQ s$ v$",
    "PFADD p$ v$ v$ v$",
    "PFCOUNT p$",
    "PFCOUNT p$ p$",
    "PFMERGE p$ p$",
    "PFDEBUG GETREG p$",
    // Keys.
    "DEL k$ k$",
    "UNLINK k$",
    "EXPIRE k$ sec$",
    "EXPIRE k$ sec$ if$",
    "PEXPIRE k$ ms$ if$",
    "PEXPIRE k$ ms$",
    "EXPIREAT k$ atsec$ if$",
    "PEXPIREAT k$ atms$ if$",
    "PERSIST k$",
    "RENAME k$ k$",
    "RENAMENX k$ k$",
    "COPY k$ k$",
    "COPY k$ k$ DB db$ REPLACE",
    "MOVE k$ db$",
    "SELECT db$",
    "SELECT 0",
    "SWAPDB 0 1",
    "RESTORE k$ ms$ payload$",
    "RESTORE k$ 0 payload$ REPLACE IDLETIME 10",
    "RESTORE k$ atms$ payload$ REPLACE ABSTTL",
    "TYPE k$",
    "TTL k$",
    "SORT S$ STORE l$",
    "SORT S$ BY nosort STORE l$",
    "SORT S$ BY w* ALPHA DESC LIMIT 0 5 STORE l$",
    "SORT l$ ALPHA GET # GET s* STORE l$",
    // Lists.
    "LPUSH l$ v$ v$",
    "RPUSH l$ v$ v$ v$",
    "RPUSHX l$ v$",
    "LPOP l$",
    "RPOP l$ n$",
    "LSET l$ n$ v$",
    "LINSERT l$ BEFORE v$ v$",
    "LREM l$ n$ v$",
    "LTRIM l$ n$ -2",
    "LMOVE l$ l$ end$ end$",
    "RPOPLPUSH l$ l$",
    "LMPOP 2 l$ l$ end$ COUNT n$",
    "BLPOP l$ 1",
    // Sets.
    "SADD S$ n$ n$ v$",
    "SADD S$ v$ v$ v$",
    "SREM S$ n$",
    "SPOP S$",
    "SPOP S$ n$",
    "SMOVE S$ S$ n$",
    "SUNIONSTORE S$ S$ S$",
    "SDIFFSTORE S$ S$ S$",
    "SINTERSTORE S$ S$ S$",
    // Hashes.
    "HSET h$ i$ v$ i$ v$",
    "HMSET h$ i$ v$",
    "HSETNX h$ i$ v$",
    "HDEL h$ i$ i$",
    "HINCRBY h$ i$ n$",
    "HINCRBYFLOAT h$ i$ f$",
    "HEXPIRE h$ sec$ FIELDS 2 i$ i$",
    "HPEXPIRE h$ ms$ FIELDS 2 i$ i$",
    "HPEXPIRE h$ ms$ if$ FIELDS 3 i$ i$ i$",
    "HPEXPIREAT h$ atms$ FIELDS 2 i$ i$",
    "HEXPIREAT h$ atsec$ if$ FIELDS 1 i$",
    "HPERSIST h$ FIELDS 2 i$ i$",
    "HGETDEL h$ FIELDS 2 i$ i$",
    "HGETEX h$ PX ms$ FIELDS 2 i$ i$",
    "HGETEX h$ EXAT atsec$ FIELDS 1 i$",
    "HGETEX h$ PERSIST FIELDS 2 i$ i$",
    "HGETEX h$ FIELDS 2 i$ i$",
    "HSETEX h$ PX ms$ FIELDS 2 i$ v$ i$ v$",
    "HSETEX h$ FNX EXAT atsec$ FIELDS 1 i$ v$",
    "HSETEX h$ FXX KEEPTTL FIELDS 1 i$ v$",
    "HSETEX h$ FIELDS 1 i$ v$",
    "HGETALL h$",
    "HRANDFIELD h$ 3",
    // Sorted sets.
    "ZADD z$ f$ i$ f$ i$",
    "ZADD z$ GT CH n$ i$ n$ v$",
    "ZADD z$ XX INCR f$ i$",
    "ZINCRBY z$ f$ i$",
    "ZINCRBY z$ -inf i$",
    "ZADD z$ INCR inf i$",
    "ZREM z$ i$",
    "ZPOPMIN z$ n$",
    "ZPOPMAX z$",
    "ZMPOP 2 z$ z$ minmax$ COUNT n$",
    "ZRANGESTORE z$ z$ 0 n$",
    "ZREMRANGEBYRANK z$ 0 n$",
    "ZREMRANGEBYSCORE z$ n$ n$",
    "ZUNIONSTORE z$ 2 z$ z$ WEIGHTS n$ f$ AGGREGATE SUM",
    "ZINTERSTORE z$ 2 z$ S$",
    "ZDIFFSTORE z$ 2 z$ z$",
    "GEOADD z$ n$ n$ i$ n$ 38.5 i$",
    "GEOSEARCHSTORE z$ z$ FROMLONLAT 5 5 BYRADIUS 900 km COUNT 2 ANY",
    "GEORADIUS z$ 5 5 2000 km STOREDIST z$",
    // Streams.
    "XADD x$ * i$ v$",
    "XADD x$ * i$ v$ i$ v$",
    "XADD x$ id$ i$ v$",
    "XADD x$ 1600000000010-* i$ v$",
    "XADD x$ MAXLEN ~ n$ * i$ v$",
    "XADD x$ NOMKSTREAM MAXLEN n$ * i$ v$",
    "XADD x$ MINID = id$ * i$ v$",
    "XADD x$ MINID ~ id$ LIMIT n$ * i$ v$",
    "XTRIM x$ MAXLEN n$",
    "XTRIM x$ MAXLEN ~ n$ LIMIT 0",
    "XTRIM x$ MINID ~ id$",
    "XDEL x$ id$ id$",
    "XSETID x$ 1900000000000-n$",
    "XSETID x$ id$ ENTRIESADDED 30 MAXDELETEDID id$",
    "XGROUP CREATE x$ g$ $ MKSTREAM",
    "XGROUP CREATE x$ g$ 0",
    "XGROUP CREATE x$ g$ id$ ENTRIESREAD n$",
    "XGROUP SETID x$ g$ 0",
    "XGROUP SETID x$ g$ $ ENTRIESREAD n$",
    "XGROUP CREATECONSUMER x$ g$ c$",
    "XGROUP DELCONSUMER x$ g$ c$",
    "XGROUP DESTROY x$ g$",
    "XREADGROUP GROUP g$ c$ STREAMS x$ >",
    "XREADGROUP GROUP g$ c$ COUNT n$ STREAMS x$ >",
    "XREADGROUP GROUP g$ c$ COUNT 2 STREAMS x$ x$ > >",
    "XREADGROUP GROUP g$ c$ NOACK STREAMS x$ >",
    "XREADGROUP GROUP g$ c$ COUNT n$ STREAMS x$ 0",
    "XREADGROUP GROUP g$ c$ STREAMS x$ id$",
    "XCLAIM x$ g$ c$ 0 id$ id$",
    "XCLAIM x$ g$ c$ ms$ id$ id$ id$ FORCE JUSTID",
    "XCLAIM x$ g$ c$ 0 id$ IDLE n$ RETRYCOUNT n$ FORCE",
    "XCLAIM x$ g$ c$ 0 id$ TIME atms$ LASTID id$",
    "XAUTOCLAIM x$ g$ c$ 0 0",
    "XAUTOCLAIM x$ g$ c$ ms$ 0 COUNT 3 JUSTID",
    "XACK x$ g$ id$ id$",
    "XREADGROUP GROUP g$ c$ COUNT n$ STREAMS x$ >",
    "XAUTOCLAIM x$ g$ c$ 0 0 COUNT n$",
];

const WAITING: &[&str] = &[
    "BLPOP l$ l$ 0",
    "BRPOP l$ 0",
    "BLMOVE l$ l$ end$ end$ 0",
    "BRPOPLPUSH l$ l$ 0",
    "BLMPOP 0 2 l$ l$ end$ COUNT n$",
    "BZPOPMIN z$ z$ 0",
    "BZPOPMAX z$ 0",
    "BZMPOP 0 2 z$ z$ minmax$ COUNT n$",
    "XREADGROUP GROUP g$ c$ BLOCK 0 STREAMS x$ >",
    "XREAD BLOCK 0 STREAMS x$ $",
];

fn check(seeds: std::ops::Range<u64>, rounds: usize) {
    for seed in seeds {
        let mut play = Play::new(seed, [1, 1, 2, 3][(seed % 4) as usize]);
        play.run(rounds);
    }
}

#[test]
fn a_log_that_is_run_again_leads_to_the_same_keys() {
    // EFFECT_SEEDS=1000 runs as many.
    let seeds = std::env::var("EFFECT_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    check(0..seeds, 150);
}

// What is said, family by family.

/// The words of commands of a log, without the selection of a database.
fn words_of(log: &[u8]) -> Vec<String> {
    let words = |command: &&[u8]| {
        let text = shown(command);
        let lines: Vec<&str> = text.split("\\r\\n").collect();
        lines.iter().skip(2).step_by(2).copied().collect::<Vec<_>>().join(" ")
    };
    commands_of(log).iter().map(words).filter(|line| !line.starts_with("SELECT")).collect()
}

/// Runs commands, each a line; `+ms` lets time pass. Returns what the last says in the log, at 1,700,000,000,000 ms or later.
fn said(lines: &[&str]) -> Vec<String> {
    let mut sim = Sim::new(1, 1, &Config::default());
    sim.engines[0].shard.effects.set_active(true, 1);
    let client = sim.connect(0);
    for line in lines {
        sim.engines[0].shard.effects.take(Vec::new());
        if let Some(ms) = line.strip_prefix('+') {
            sim.now.unix_us += 1000 * ms.parse::<i64>().expect("milliseconds");
            continue;
        }
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        encode(&words, &mut bytes);
        sim.send(0, client, &bytes);
        sim.settle();
    }
    words_of(&sim.engines[0].shard.effects.take(Vec::new()))
}

#[track_caller]
fn says(lines: &[&str], expected: &[&str]) {
    assert_eq!(said(lines), expected, "{lines:?}");
}

#[test]
fn times_that_count_from_now_are_said_as_points_in_time() {
    says(&["SET k v EX 10"], &["SET k v PXAT 1700000010000"]);
    says(&["SETEX k 10 v"], &["SET k v PXAT 1700000010000"]);
    says(&["PSETEX k 10 v"], &["SET k v PXAT 1700000000010"]);
    says(&["SET k v", "GETEX k EX 10"], &["PEXPIREAT k 1700000010000"]);
    says(&["SET k v", "GETEX k EXAT 1"], &["DEL k"]);
    says(&["SET k v", "EXPIRE k 10 NX"], &["PEXPIREAT k 1700000010000"]);
    says(&["SET k v", "EXPIREAT k 1"], &["DEL k"]);
    says(&["SET k v", "EXPIRE k 10 XX"], &[]);
    says(&["HSET h f v", "HEXPIRE h 10 FIELDS 2 f none"], &["HPEXPIREAT h 1700000010000 FIELDS 1 f"]);
    says(&["HSET h f v", "HEXPIRE h 0 FIELDS 1 f"], &["HDEL h f"]);
    says(&["HSETEX h FNX EX 10 FIELDS 1 f v"], &["HSETEX h PXAT 1700000010000 FIELDS 1 f v"]);
    says(&["HSET h f v", "HGETEX h PX 10 FIELDS 1 f"], &["HPEXPIREAT h 1700000000010 FIELDS 1 f"]);
}

#[test]
fn conditions_that_were_met_are_not_said_and_those_that_were_not_change_nothing() {
    says(&["SET k v NX"], &["SET k v"]);
    says(&["SET k v", "SET k w NX GET"], &[]);
    says(&["SET k v", "SET k w IFEQ v KEEPTTL"], &["SET k w KEEPTTL"]);
    says(&["SET k v", "DELIFEQ k v"], &["DEL k"]);
    says(&["SET k v", "GETDEL k"], &["DEL k"]);
    says(&["HSETEX h FIELDS 1 f v"], &["HSET h f v"]);
    says(&["HSET h f v", "HGETDEL h FIELDS 2 f none"], &["HDEL h f"]);
    says(&["GET k"], &[]);
    says(&["RPUSH k v", "INCR k"], &[]);
}

#[test]
fn what_was_drawn_or_computed_is_said_as_it_came_out() {
    says(&["SADD s a", "SPOP s"], &["SREM s a"]);
    says(&["SADD s a", "SPOP s 5"], &["DEL s"]);
    says(&["INCRBYFLOAT k 1.5"], &["SET k 1.5 KEEPTTL"]);
    says(&["HINCRBYFLOAT h f 1.5"], &["HSET h f 1.5"]);
    let expires = "HSETEX h PX 50 FIELDS 1 f 1";
    says(&[expires, "HINCRBYFLOAT h f 1.5"], &["HSETEX h KEEPTTL FIELDS 1 f 2.5"]);
    says(&["XADD x * f v"], &["XADD x 1700000000000-0 f v"]);
    says(&["XADD x 5-* f v"], &["XADD x 5-0 f v"]);
    says(&["XADD x 1-1 f v", "XADD x MAXLEN ~ 1 2-1 f v"], &["XADD x MAXLEN = 2 2-1 f v"]);
    says(&["XADD x 1-1 f v", "XADD x 2-1 f v", "XTRIM x MINID 2"], &["XTRIM x MAXLEN = 1"]);
}

#[test]
fn pops_from_one_of_several_keys_name_the_key() {
    says(&["RPUSH b v w", "LMPOP 2 a b LEFT COUNT 3"], &["LPOP b 3"]);
    says(&["ZADD b 1 v", "ZMPOP 2 a b MAX"], &["ZPOPMAX b 1"]);
    says(&["RPUSH b v", "BLPOP a b 0"], &["LPOP b"]);
    says(&["ZADD b 1 v", "BZPOPMIN a b 0"], &["ZPOPMIN b"]);
    says(&["RPUSH b v", "BLMOVE b c LEFT RIGHT 0"], &["LMOVE b c LEFT RIGHT"]);
}

#[test]
fn a_client_that_is_served_says_so_behind_what_served_it() {
    let mut sim = Sim::new(1, 1, &Config::default());
    sim.engines[0].shard.effects.set_active(true, 1);
    let (waits, pushes) = (sim.connect(0), sim.connect(0));
    for (client, line) in [(waits, "BLPOP a b 0"), (pushes, "RPUSH b v w")] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        encode(&words, &mut bytes);
        sim.send(0, client, &bytes);
        sim.settle();
    }
    assert_eq!(words_of(&sim.engines[0].shard.effects.take(Vec::new())), ["RPUSH b v w", "LPOP b"]);
}

#[test]
fn what_a_group_delivers_is_said_as_claims_and_how_far_it_has_read() {
    let group = ["XADD x 1-1 f v", "XADD x 2-1 f v", "XGROUP CREATE x g 0"];
    let after = |lines: &[&'static str]| [&group[..], lines].concat();
    let claim = "XCLAIM x g c 0 1-1 2-1 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID";
    let read = "XGROUP SETID x g 2-1 ENTRIESREAD 2";
    says(&after(&["XREADGROUP GROUP g c STREAMS x >"]), &["MULTI", claim, read, "EXEC"]);
    let made = ["XGROUP CREATECONSUMER x g c", "XCLAIM x g c 0 0-0 TIME 1700000000000 JUSTID"];
    let quiet = after(&["XREADGROUP GROUP g c NOACK STREAMS x >"]);
    says(&quiet, &["MULTI", made[0], made[1], read, "EXEC"]);
    says(&after(&["XGROUP CREATECONSUMER x g c"]), &["MULTI", made[0], made[1], "EXEC"]);
    let reads = "XREADGROUP GROUP g c COUNT 1 STREAMS x >";
    says(
        &after(&[reads, "+7", "XREADGROUP GROUP g c STREAMS x 0"]),
        &["XCLAIM x g c 0 1-1 TIME 1700000000007 RETRYCOUNT 2 FORCE JUSTID"],
    );
    says(
        &after(&[reads, "+7", "XCLAIM x g d 0 1-1 IDLE 3"]),
        &["XCLAIM x g d 0 1-1 TIME 1700000000004 RETRYCOUNT 2 FORCE JUSTID"],
    );
    says(&after(&[reads, "XDEL x 1-1", "XGROUP CREATECONSUMER x g d", "XAUTOCLAIM x g d 0 0"]), &["XACK x g 1-1"]);
    says(&after(&[reads, "XCLAIM x g c 0 9-9 LASTID 2-0"]), &["XGROUP SETID x g 2-0 ENTRIESREAD 1"]);
    says(&after(&[reads, "XREADGROUP GROUP g c STREAMS x 5"]), &[]);
}

#[test]
fn counters_beyond_what_commands_take_come_back_with_the_stream() {
    const MOST: &str = "9223372036854775807";
    for lines in [
        vec![
            "XADD x 1-1 f v",
            "XGROUP CREATE x g 0",
            "XREADGROUP GROUP g c STREAMS x >",
            "XCLAIM x g c 0 1-1 RETRYCOUNT MOST",
        ]
        .into_iter()
        .chain(["XCLAIM x g c 0 1-1"])
        .collect(),
        vec!["XADD x 1-1 f v", "XGROUP CREATE x g 0 ENTRIESREAD MOST", "XREADGROUP GROUP g c STREAMS x >"],
        vec!["XADD x 1-1 f v", "XSETID x 2-1 ENTRIESADDED MOST", "XADD x 3-1 f v", "XGROUP CREATE x g $", "COPY x y"],
    ] {
        let mut sim = Sim::new(1, 1, &Config::default());
        sim.engines[0].shard.effects.set_active(true, 1);
        let client = sim.connect(0);
        let mut bytes = Vec::new();
        for line in lines {
            let line = line.replace("MOST", MOST);
            encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>(), &mut bytes);
        }
        sim.send(0, client, &bytes);
        sim.settle();
        assert_eq!(sim.engines[0].shard.metrics.error_replies, 0);
        let log = sim.engines[0].shard.effects.take(Vec::new());
        let now = sim.now.millis();
        let expected = contents_of(&sim.engines[0].shard, now);
        let again = replay(&log, 1, "counters");
        assert_eq!(contents_of(&again.engines[0].shard, now), expected);
        for db in sim.engines[0].shard.keyspace.dbs() {
            db.scan(0, usize::MAX, now, |entry| {
                let payload = dump::dump(entry.value(), now, false).expect("it holds something");
                let limits = crate::persist::rdb::Limits::of(&Config::default());
                let Ok(crate::persist::rdb::Decoded::Object(object)) = dump::restore(&payload, &limits) else {
                    panic!("what DUMP makes, RESTORE takes: {}", shown(&payload));
                };
                assert_eq!(show_object(&object, now), show(&entry, now).expect("it holds something"));
            });
        }
    }
}

#[test]
fn fields_whose_time_has_come_are_said_in_front_of_the_command_that_found_them() {
    let made = ["HSET h f 1 g 2", "HPEXPIRE h 5 FIELDS 1 f", "+10"];
    let after = |line: &'static str| [&made[..], &[line]].concat();
    says(&after("HSETNX h f 3"), &["MULTI", "HDEL h f", "HSETNX h f 3", "EXEC"]);
    says(&after("HDEL h none"), &["HDEL h f"]);
    // An error changes nothing else.
    says(&["HSET h f 1 g x", "HPEXPIRE h 5 FIELDS 1 f", "+10", "HINCRBY h g 1"], &["HDEL h f"]);
    // The key has lost all its fields here and would be gone where the log runs, with the time that it has to live.
    let empty = ["HSET h f 1", "PEXPIRE h 90000", "HPEXPIRE h 5 FIELDS 1 f", "+10", "HSET h g 3"];
    let said = said(&empty);
    assert_eq!((said.len(), said[1].as_str()), (4, "HDEL h f"), "{said:?}");
    assert!(said[2].starts_with("RESTORE h 1700000090000 ") && said[2].ends_with(" REPLACE ABSTTL"), "{said:?}");
}
