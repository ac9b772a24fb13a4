//! `maxmemory`: what happens when the process as a whole takes more than it may, and which keys of this shard go.
//!
//! # One limit, many shards
//! What counts is the memory of the whole process: each shard knows its own to the byte, at any time, and what all others have taken as
//! of the beginning of its turn ([`crate::rt::memory::Board`]). So every command is preceded by one subtraction, and nobody writes to memory that another
//! core writes to. Buffers of the log and output of a snapshot do not count, as in Redis: to evict for their sake would make more of
//! them.
//!
//! A shard that finds the process over its limit *shares out* what is to be freed: each shard is asked for a part, by a figure on the
//! board and, if it may be asleep, by a message that wakes it. Each then frees its own part on its own turns.
//!
//! ```text
//!   part of a shard  ~  bytes of its keys that may be evicted  x  closeness of its coldest key to the coldest of all
//! ```
//!
//! Keys that are spread evenly make equal parts, and each shard makes room for what it has taken. If all writes go to one shard and the
//! cold keys lie on another, the other one frees. The closeness falls steeply, so that keys go about in the order in which one shard
//! would evict them, and not to nothing, so that a figure that is a little old does no harm. To keep messages rare a little more is
//! asked for than is missing ([`SLACK_BYTES_MAX`]).
//!
//! # Which keys
//! As in Redis: some keys are looked at (`maxmemory-samples`), neighbours in the table from a random place on, which is a random choice
//! since the table is sorted by hash. The coldest that were seen wait in a pool of sixteen, and the coldest of those goes. Unlike in
//! Redis, one that was used while it waited is passed over. Keys that a running transaction has reserved are nobody's to evict.
//!
//! # How long
//! Eviction takes a multiple of the time that the commands of its turn have taken, and what `maxmemory-eviction-tenacity` grants
//! beyond that; what is left is gone on with in the next turn. Meanwhile commands are allowed, as in Redis: `-OOM` is for when no
//! shard has anything to evict. A large value is gone at once and freed in slices; until it is, its bytes do not count.
//!
//! Belongs to its shard. Invariant: an evicted key leaves what a deleted one does: a DEL in the log, an entry in a running snapshot,
//! news for those who watch it, wait for it or may have a copy. Absent on purpose: who is refused (`dispatch::gate`), clients
//! (`shard::memory`).

use super::Shard;
use super::cx::Observers;
use crate::base::time::Millis;
use crate::base::{DbIndex, ShardId};
use crate::config::{Config, EventClass, MaxmemoryPolicy};
use crate::keyspace::Entry;
use crate::keyspace::access::{LFU_INITIAL, lfu_counter, lru_idle_secs};
use crate::metrics::latency::Event;
use crate::rt::memory::Posted;
use crate::shard::reservations::Access;
use crate::types::Object;

/// Candidates that are kept from one eviction to the next: as many as Redis keeps.
const POOL: usize = 16;
/// More is asked for than is missing: this part of the limit, but not more than these bytes. One shard has nobody to ask.
const SLACK_PARTS: i64 = 1024;
/// See above: some hundred small keys, so that other shards are woken once for as many writes.
const SLACK_BYTES_MAX: i64 = 64 * 1024;
/// The same for one shard.
const SLACK_ALONE_BYTES_MAX: i64 = 4096;
/// A shard that has not done any of its part for so long is not counted on, and woken again. Microseconds.
const STUCK_US: u64 = 100_000;
/// A key of which nothing is known takes so much. Bytes.
const KEY_BYTES_GUESS: u64 = 64;
/// One evicted key's part in the mean.
const KEY_BYTES_WEIGHT: u64 = 16;
/// Keys that are evicted between two looks at the clock.
const KEYS_PER_LOOK: usize = 8;
/// Eviction may take so many times what the rest of the turn has taken: what a pipeline of writes takes in a microsecond each may take
/// two or three to evict.
const TURN_TIMES: u64 = 3;
/// What a turn may take beyond that at the most, whatever the tenacity. Nanoseconds.
const TURN_NS_MAX: u64 = 4_000_000;
/// Rounds of looking for a key before a turn gives up: those that were seen are reserved, or were used a moment ago.
const ROUNDS_MAX: usize = 8;
/// Keys that one round looks at, whatever `maxmemory-samples` says.
const SAMPLES_MAX: usize = 1024;

/// A key that may be evicted.
struct Candidate {
    temperature: u64,
    db: DbIndex,
    key: Vec<u8>,
}

/// What came of looking for a key to evict.
enum Evicted {
    /// One has gone, and so many bytes with it.
    Key(i64),
    /// Those that were seen may not go now.
    NoneNow,
    /// No key of this shard may be evicted.
    NoneLeft,
}

/// What a shard knows of its part in the limit. See the module.
#[derive(Default)]
pub struct Eviction {
    /// Coldest last.
    pool: Vec<Candidate>,
    /// The policy that `pool` and what was posted are about.
    policy: MaxmemoryPolicy,
    /// The limit that was in force when this shard last looked.
    limit: u64,
    /// What counts beside this shard's memory, as of the beginning of the turn.
    others: i64,
    /// Own memory that does not count, as of then; the log's is looked up anew.
    aside: i64,
    /// Bytes of large values that were evicted and are being freed.
    freeing: i64,
    key_bytes: u64,
    coldest: u64,
    next_db: usize,
    /// What the other shards owed when they were last looked at, and since when none of it has been paid.
    owing: Vec<(i64, u64)>,
    /// When the turn began, and what eviction has taken of it. Nanoseconds.
    turn_ns: u64,
    spent_ns: u64,
    /// Since when the process has been over its limit, monotonic microseconds.
    over_since_us: Option<u64>,
    /// Whether the process is over its limit and nothing can be evicted: commands that want memory are refused.
    pub is_full: bool,
    /// Whether this shard has more to evict, so that its next turn is to come at once.
    pub goes_on: bool,
}

/// What a policy looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Measure {
    Lru,
    Lfu,
    Ttl,
    Random,
}

fn measure(policy: MaxmemoryPolicy) -> Measure {
    use MaxmemoryPolicy as P;
    match policy {
        P::AllkeysLru | P::VolatileLru => Measure::Lru,
        P::AllkeysLfu | P::VolatileLfu => Measure::Lfu,
        P::VolatileTtl => Measure::Ttl,
        P::AllkeysRandom | P::VolatileRandom | P::NoEviction => Measure::Random,
    }
}

fn is_volatile(policy: MaxmemoryPolicy) -> bool {
    use MaxmemoryPolicy as P;
    matches!(policy, P::VolatileLru | P::VolatileLfu | P::VolatileRandom | P::VolatileTtl)
}

/// How cold a key is, in the words of the policy: lower is colder, and never 0. When it was last used, how often it is, or when it
/// expires.
fn temperature(measure: Measure, entry: Entry<'_>, config: &Config, now: Millis) -> u64 {
    match measure {
        Measure::Lru => {
            let secs = u64::try_from(now.0 / 1000).unwrap_or(0);
            secs.saturating_sub(lru_idle_secs(entry.access(), now).into()).max(1)
        }
        Measure::Lfu => 1 + u64::from(lfu_counter(entry.access(), config.lfu_decay_time.unsigned_abs(), now)),
        Measure::Ttl => entry.expire_at().map_or(u64::MAX, |due| u64::try_from(due.0).unwrap_or(0).max(1)),
        Measure::Random => 1,
    }
}

/// How close the coldest key of one shard is to the coldest of all, from 0.0 to 1.0.
fn closeness(measure: Measure, own: u64, coldest: u64, now: Millis) -> f64 {
    // A shard that has not looked yet is taken at its best.
    if own == 0 || own <= coldest {
        return 1.0;
    }
    let secs = |now: Millis| u64::try_from(now.0 / 1000).unwrap_or(0);
    match measure {
        Measure::Lru => {
            let idle = |last: u64| secs(now).saturating_sub(last) as f64 + 1.0;
            (idle(own) / idle(coldest)).powi(4)
        }
        // Most keys have one of a few low counters, and all with the lowest should go before any with the next. A shard that has
        // some of them sees one with every look, so there is no noise to be gentle with.
        Measure::Lfu => 0.015625f64.powi(i32::try_from(own - coldest).unwrap_or(64)),
        Measure::Ttl => {
            let left = |due: u64| due.saturating_sub(u64::try_from(now.0).unwrap_or(0)) as f64 + 1000.0;
            (left(coldest) / left(own)).powi(4)
        }
        Measure::Random => 1.0,
    }
}

/// What each shard is asked for of so many bytes; nothing if there is nothing to evict anywhere.
fn parts(bytes: i64, posted: &[Posted], measure: Measure, now: Millis) -> Option<Vec<i64>> {
    let coldest = posted.iter().filter(|p| p.keys > 0 && p.coldest > 0).map(|p| p.coldest).min().unwrap_or(0);
    let weight = |p: &Posted| {
        let key_bytes = if p.key_bytes == 0 { KEY_BYTES_GUESS } else { p.key_bytes };
        p.keys as f64 * key_bytes as f64 * closeness(measure, p.coldest, coldest, now)
    };
    let weights: Vec<f64> = posted.iter().map(weight).collect();
    let all: f64 = weights.iter().sum();
    if all <= 0.0 {
        return None;
    }
    let mut parts: Vec<i64> = weights.iter().map(|weight| (bytes as f64 * weight / all) as i64).collect();
    // What rounding has lost is the business of whoever has most to give.
    let most = (0..parts.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b]))?;
    parts[most] += bytes - parts.iter().sum::<i64>();
    Some(parts)
}

/// `maxmemory-eviction-tenacity`: how long eviction may take beyond what the turn's commands have taken. Redis's scale, but for its end:
/// a core serves others, too.
fn tenacity_ns(tenacity: i32) -> u64 {
    match tenacity {
        ..=10 => 50_000 * u64::from(tenacity.max(0).unsigned_abs()),
        11..=99 => ((500_000.0 * 1.15f64.powi(tenacity - 10)) as u64).min(TURN_NS_MAX),
        _ => TURN_NS_MAX,
    }
}

impl Shard {
    /// A turn begins: this shard says what it has taken, and learns what others have.
    #[inline]
    pub fn look_at_memory(&mut self) {
        let own = self.board.own_bytes();
        if self.config.maxmemory == 0 {
            self.board.post_bytes(self.id.index(), own, 0);
            if self.eviction.is_full || self.eviction.goes_on {
                self.eviction = Eviction::default();
            }
            return;
        }
        self.look_closely(own);
    }

    fn look_closely(&mut self, own: i64) {
        let snapshot = if self.storage.sink.is_some() { self.keyspace.snapshot_waiting_bytes() } else { 0 };
        if self.eviction.freeing > 0 && !self.keyspace.has_buried() {
            self.eviction.freeing = 0;
        }
        let eviction = &mut self.eviction;
        eviction.limit = self.config.maxmemory;
        eviction.aside = (snapshot + self.storage.writing_bytes) as i64;
        eviction.others = self.board.others(self.id.index());
        eviction.turn_ns = (self.clock_ns)();
        eviction.spent_ns = 0;
        if eviction.policy != self.config.maxmemory_policy {
            eviction.policy = self.config.maxmemory_policy;
            eviction.pool.clear();
            eviction.coldest = 0;
        }
        self.post_memory(own);
    }

    fn post_memory(&self, own: i64) {
        self.board.post_bytes(self.id.index(), own, self.uncounted_bytes());
        let Eviction { policy, key_bytes, coldest, .. } = self.eviction;
        let keys = if is_volatile(policy) { self.keyspace.expires_len() } else { self.keyspace.len() };
        self.board.post_keys(self.id.index(), keys as u64, key_bytes, coldest);
    }

    /// What of this shard's memory does not count for the limit.
    fn uncounted_bytes(&self) -> i64 {
        self.eviction.aside + self.eviction.freeing + self.effects.waiting_bytes() as i64
    }

    /// How far the process is over its limit; below zero, how far it is from it.
    #[inline]
    fn over_limit(&self) -> i64 {
        let limit = i64::try_from(self.config.maxmemory).unwrap_or(i64::MAX);
        (self.board.own_bytes() - self.uncounted_bytes() + self.eviction.others).saturating_sub(limit)
    }

    /// What was known at the beginning of the turn is not about the settings that are in force now.
    #[inline]
    fn take_in_settings(&mut self) {
        if self.eviction.limit != self.config.maxmemory || self.eviction.policy != self.config.maxmemory_policy {
            self.look_closely(self.board.own_bytes());
        }
    }

    /// A command is about to run, and there is a limit: makes room if need be. Whether keys have gone, of which those who wait or have
    /// copies are yet to be told.
    #[inline]
    pub fn make_room(&mut self) -> bool {
        self.take_in_settings();
        let over = self.over_limit();
        if over <= 0 {
            self.eviction.is_full = false;
            return false;
        }
        self.evict(over)
    }

    /// A turn ends: this shard makes room, its part of what others have asked for included. As [`Shard::make_room`].
    pub fn keep_within_memory(&mut self) -> bool {
        self.take_in_settings();
        let over = self.over_limit();
        let mono_us = self.now.mono_us;
        self.count_time_over(over > 0, mono_us);
        let mut evicted = false;
        if over > 0 {
            evicted = self.evict(over);
        } else {
            self.eviction.is_full = false;
            self.eviction.goes_on = false;
            if self.board.posted(self.id.index()).owed > 0 {
                if self.may_evict() && self.config.maxmemory_policy != MaxmemoryPolicy::NoEviction {
                    evicted = self.pay();
                } else {
                    self.board.forgive(self.id.index());
                }
            }
        }
        self.post_memory(self.board.own_bytes());
        evicted
    }

    fn count_time_over(&mut self, is_over: bool, mono_us: u64) {
        let since = &mut self.eviction.over_since_us;
        match (*since, is_over) {
            (None, true) => *since = Some(mono_us),
            (Some(began), false) => {
                self.metrics.over_memory_us += mono_us.saturating_sub(began);
                *since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// For how long the process has been over its limit now, microseconds.
    pub fn over_memory_now_us(&self) -> u64 {
        self.eviction.over_since_us.map_or(0, |since| self.now.mono_us.saturating_sub(since))
    }

    fn slack(&self) -> i64 {
        let limit = i64::try_from(self.config.maxmemory).unwrap_or(i64::MAX);
        let max = if self.board.shards() > 1 { SLACK_BYTES_MAX } else { SLACK_ALONE_BYTES_MAX };
        (limit / SLACK_PARTS).min(max)
    }

    /// Not while data is loaded, nor while the server is paused: then everything is left as it is, and nobody is refused.
    fn may_evict(&self) -> bool {
        let paused = self.pause.is_some_and(|pause| self.now.millis() < pause.until);
        self.storage.status.loading_since.is_none() && !paused
    }

    #[cold]
    fn evict(&mut self, over: i64) -> bool {
        self.eviction.is_full = false;
        self.eviction.goes_on = false;
        if !self.may_evict() {
            self.board.forgive(self.id.index());
            return false;
        }
        if self.config.maxmemory_policy == MaxmemoryPolicy::NoEviction {
            self.eviction.is_full = true;
            return false;
        }
        self.post_memory(self.board.own_bytes());
        let shared_out = self.share_out(over);
        let evicted = shared_out && self.pay();
        if self.over_limit() > 0 {
            // What is being freed elsewhere (FLUSHALL ASYNC, a large value) will make room, so it is waited for.
            let anything = |at: usize| self.board.posted(at).keys > 0;
            let freeing = !self.dropped.is_empty() || self.keyspace.has_buried();
            self.eviction.is_full = !freeing && !(0..self.board.shards()).any(anything);
            // If everybody has done its part and it was not enough, it is shared out again.
            let owing = |at: usize| at != self.id.index() && self.board.posted(at).owed > 0;
            self.eviction.goes_on |= !self.eviction.is_full && !(0..self.board.shards()).any(owing);
        }
        evicted
    }

    /// Asks shards for what is missing and was not asked for yet. False if nobody has anything to give.
    fn share_out(&mut self, over: i64) -> bool {
        let (here, shards, now_us) = (self.id.index(), self.board.shards(), self.now.mono_us);
        let posted: Vec<Posted> = (0..shards).map(|at| self.board.posted(at)).collect();
        self.eviction.owing.resize(shards, (0, now_us));
        let mut owed = 0;
        for (at, (was, since_us)) in self.eviction.owing.iter_mut().enumerate() {
            let is = posted[at].owed;
            if is <= 0 || is < *was {
                *since_us = now_us;
            }
            *was = is;
            let stuck = at != here && now_us.saturating_sub(*since_us) > STUCK_US;
            owed += if stuck { 0 } else { is.max(0) };
        }
        let missing = over - owed;
        if missing <= 0 {
            return true;
        }
        let measure = measure(self.eviction.policy);
        let Some(parts) = parts(missing + self.slack(), &posted, measure, self.now.millis()) else { return false };
        for (at, part) in parts.into_iter().enumerate().filter(|(_, part)| *part > 0) {
            let all = self.board.owe(at, part);
            let (was, since_us) = &mut self.eviction.owing[at];
            *was = all;
            let stuck = now_us.saturating_sub(*since_us) > STUCK_US;
            if at != here && (all == part || stuck) {
                // It may be asleep: that a message comes is all that it needs.
                *since_us = now_us;
                self.told.push((ShardId(at as u16), Box::new(|_| ())));
            }
        }
        true
    }

    /// Evicts what this shard owes, as far as the time allows. Whether any key has gone.
    fn pay(&mut self) -> bool {
        let here = self.id.index();
        let began_ns = (self.clock_ns)();
        let mut owed = self.board.posted(here).owed;
        let (mut keys, enough) = (0, -2 * self.slack());
        while owed > 0 {
            if self.over_limit() < enough {
                // Somebody else has made room, or has given some back.
                self.board.forgive(here);
                break;
            }
            if keys % KEYS_PER_LOOK == 0 && (keys > 0 || self.eviction.spent_ns > 0) && !self.has_time(began_ns) {
                self.eviction.goes_on = true;
                break;
            }
            match self.evict_one() {
                Evicted::Key(bytes) => {
                    keys += 1;
                    owed = self.board.owe(here, -bytes);
                }
                Evicted::NoneNow => {
                    self.eviction.goes_on = true;
                    break;
                }
                Evicted::NoneLeft => {
                    self.board.forgive(here);
                    break;
                }
            }
        }
        let took_ns = (self.clock_ns)().saturating_sub(began_ns);
        self.eviction.spent_ns += took_ns;
        self.note_latency(Event::EvictionCycle, took_ns / 1000);
        self.post_memory(self.board.own_bytes());
        keys > 0
    }

    /// Whether eviction may take more of this turn.
    fn has_time(&self, began_ns: u64) -> bool {
        let now_ns = (self.clock_ns)();
        let spent = self.eviction.spent_ns + now_ns.saturating_sub(began_ns);
        let rest = now_ns.saturating_sub(self.eviction.turn_ns).saturating_sub(spent);
        spent < tenacity_ns(self.config.maxmemory_eviction_tenacity) + TURN_TIMES * rest
    }

    fn evict_one(&mut self) -> Evicted {
        let measure = measure(self.eviction.policy);
        let mut seen = false;
        for _ in 0..ROUNDS_MAX {
            let found = if measure == Measure::Random { self.draw() } else { self.fill_pool(measure) };
            if !found {
                break;
            }
            seen = true;
            while let Some(candidate) = self.eviction.pool.pop() {
                if let Some(bytes) = self.evict_candidate(measure, &candidate) {
                    return Evicted::Key(bytes);
                }
            }
        }
        if seen { Evicted::NoneNow } else { Evicted::NoneLeft }
    }

    /// Puts one key into the pool, drawn from the next database that has any; false if there is none.
    fn draw(&mut self) -> bool {
        let volatile = is_volatile(self.eviction.policy);
        let Shard { keyspace, eviction, rng, .. } = self;
        let databases = keyspace.dbs().len();
        for _ in 0..databases {
            let index = DbIndex((eviction.next_db % databases) as u16);
            eviction.next_db = (eviction.next_db + 1) % databases;
            let db = keyspace.db(index);
            let pool = &mut eviction.pool;
            let mut take = |entry: Entry<'_>| {
                pool.push(Candidate { temperature: 1, db: index, key: entry.key().to_vec() });
            };
            if !volatile {
                db.random(|n| rng.below(n)).into_iter().for_each(&mut take);
            } else if db.expires_len() > 0 {
                db.sample(rng.next_u64(), 1, true, take);
            }
            if !eviction.pool.is_empty() {
                return true;
            }
        }
        false
    }

    /// Looks at some keys of each database and keeps the coldest; false if there is none that may be evicted.
    fn fill_pool(&mut self, measure: Measure) -> bool {
        let volatile = is_volatile(self.eviction.policy);
        let now = self.now.millis();
        let Shard { keyspace, eviction, rng, config, .. } = self;
        let samples = usize::try_from(config.maxmemory_samples).unwrap_or(1).clamp(1, SAMPLES_MAX);
        let mut found = false;
        for (at, db) in keyspace.dbs().iter().enumerate() {
            let keys = if volatile { db.expires_len() } else { db.len() };
            if keys == 0 {
                continue;
            }
            found = true;
            let db_index = DbIndex(at as u16);
            db.sample(rng.next_u64(), samples, volatile, |entry| {
                let temperature = temperature(measure, entry, config, now);
                keep_coldest(&mut eviction.pool, temperature, db_index, entry.key());
            });
        }
        if let Some(coldest) = eviction.pool.last() {
            // Under LFU keys that are made meanwhile may be colder than what was seen; then all shards are as cold as those.
            let fresh = if measure == Measure::Lfu { 1 + u64::from(LFU_INITIAL) } else { u64::MAX };
            eviction.coldest = coldest.temperature.min(fresh);
        }
        found
    }

    /// Evicts a key, unless it has gone, was used meanwhile, or is reserved.
    fn evict_candidate(&mut self, measure: Measure, candidate: &Candidate) -> Option<i64> {
        let Candidate { temperature: was, db, key } = candidate;
        let volatile = is_volatile(self.eviction.policy);
        let now = self.now.millis();
        let hash = self.keyspace.hash(key);
        let is_reserved = !self.reservations.is_empty() && self.reservations.conflict_at(hash, Access::Exclusive);
        let entry = self.keyspace.db_mut(*db).find_mut_hashed(hash, key)?;
        let seen = entry.entry();
        if is_reserved
            || (volatile && seen.expire_at().is_none())
            || temperature(measure, seen, &self.config, now) > *was
        {
            return None;
        }
        let bytes = seen.memory_bytes() as i64;
        let freed_later = match seen.value() {
            crate::keyspace::Value::Object(object) => object.parts() > Object::FREED_AT_ONCE_MAX,
            _ => false,
        };
        entry.bury();
        if freed_later {
            self.eviction.freeing += bytes;
        }
        let mean = &mut self.eviction.key_bytes;
        *mean =
            if *mean == 0 { bytes as u64 } else { (*mean * (KEY_BYTES_WEIGHT - 1) + bytes as u64) / KEY_BYTES_WEIGHT };
        self.metrics.evicted_keys += 1;
        let Shard { waiters, watched, tracking, effects, events, config, .. } = self;
        Observers { waiters, watched, tracking, effects }.evicted(*db, key);
        events.note(config, EventClass::EVICTED, "evicted", *db, key);
        Some(bytes)
    }
}

/// Puts a key into the pool if it is colder than what is there, or there is room.
fn keep_coldest(pool: &mut Vec<Candidate>, temperature: u64, db: DbIndex, key: &[u8]) {
    let at = pool.partition_point(|other| other.temperature > temperature);
    if pool.len() < POOL {
        pool.insert(at, Candidate { temperature, db, key: key.to_vec() });
    } else if at > 0 {
        // The warmest leaves, and its memory is used again.
        pool[..at].rotate_left(1);
        let place = &mut pool[at - 1];
        place.temperature = temperature;
        place.db = db;
        place.key.clear();
        place.key.extend_from_slice(key);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::base::time::Now;
    use crate::keyspace::NewValue;
    use crate::rt::memory::Board;
    use crate::shard::{About, ShardSeed};

    thread_local! {
        static BYTES: Cell<i64> = const { Cell::new(0) };
        static TICKS: Cell<u64> = const { Cell::new(0) };
    }

    fn ticks() -> u64 {
        TICKS.set(TICKS.get() + 100);
        TICKS.get()
    }

    const NOW: Now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1 };

    /// Shards of one process, whose memory is what the test says.
    fn shards(count: u16, policy: MaxmemoryPolicy, maxmemory: u64) -> Vec<Shard> {
        let board = Arc::new(Board::new(usize::from(count), || BYTES.get()));
        (0..count)
            .map(|id| {
                let config = Config { maxmemory, maxmemory_policy: policy, databases: 4, ..Config::default() };
                let mut shard = Shard::new(ShardSeed {
                    id: ShardId(id),
                    shards: count,
                    config,
                    seed: 7 + u64::from(id),
                    hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
                    about: Arc::new(About::default()),
                    board: Arc::clone(&board),
                    now: NOW,
                    clock_ns: ticks,
                });
                turn(&mut shard, 0);
                shard
            })
            .collect()
    }

    /// A turn of a shard that has taken so much.
    fn turn(shard: &mut Shard, bytes: i64) {
        BYTES.set(bytes);
        shard.look_at_memory();
        shard.keep_within_memory();
    }

    fn key(number: usize) -> Vec<u8> {
        format!("key:{number}").into_bytes()
    }

    fn secs_ago(secs: u64) -> u32 {
        crate::keyspace::access::lru_access_idle_for(secs as u32, NOW.millis())
    }

    fn is_there(shard: &Shard, db: u16, number: usize) -> bool {
        shard.keyspace.db(DbIndex(db)).find(&key(number)).is_some()
    }

    #[test]
    fn the_coldest_keys_go_first_under_lru() {
        let mut shard = shards(1, MaxmemoryPolicy::AllkeysLru, 1 << 20).remove(0);
        for number in 0..1000 {
            let access = secs_ago(if number < 500 { 1000 } else { 10 });
            shard.keyspace.db_mut(DbIndex(0)).set(&key(number), NewValue::Int(1), None, access);
        }
        turn(&mut shard, (1 << 20) + 4000);
        let gone = shard.metrics.evicted_keys;
        assert!((50..400).contains(&gone), "{gone}");
        let young = (500..1000).filter(|n| !is_there(&shard, 0, *n)).count();
        assert_eq!(young, 0, "of {gone} keys that went");
        shard.keyspace.db(DbIndex(0)).check_invariants();
    }

    #[test]
    fn the_least_used_keys_go_first_under_lfu() {
        let mut shard = shards(1, MaxmemoryPolicy::AllkeysLfu, 1 << 20).remove(0);
        for number in 0..1000 {
            let counter = if number < 500 { 2 } else { 200 };
            let access = crate::keyspace::access::lfu_access(counter, NOW.millis());
            shard.keyspace.db_mut(DbIndex(1)).set(&key(number), NewValue::Int(1), None, access);
        }
        turn(&mut shard, (1 << 20) + 4000);
        assert!(shard.metrics.evicted_keys > 50);
        assert_eq!((500..1000).filter(|n| !is_there(&shard, 1, *n)).count(), 0);
    }

    #[test]
    fn under_volatile_policies_keys_without_expiry_stay_and_the_server_is_full_in_the_end() {
        use MaxmemoryPolicy as P;
        for policy in [P::VolatileLru, P::VolatileLfu, P::VolatileRandom, P::VolatileTtl] {
            let mut shard = shards(1, policy, 1 << 20).remove(0);
            for number in 0..2000 {
                let due = (number % 200 == 7).then(|| Millis(NOW.millis().0 + 1000 * (1 + number as i64)));
                shard.keyspace.db_mut(DbIndex(2)).set(&key(number), NewValue::Int(1), due, secs_ago(5));
            }
            turn(&mut shard, (1 << 20) + 100_000);
            assert_eq!((shard.metrics.evicted_keys, shard.keyspace.len()), (10, 1990), "{policy:?}");
            assert!(shard.eviction.is_full && !shard.eviction.goes_on, "{policy:?}");
            turn(&mut shard, 1 << 19);
            assert!(!shard.eviction.is_full);
        }
    }

    #[test]
    fn what_expires_soonest_goes_first() {
        let mut shard = shards(1, MaxmemoryPolicy::VolatileTtl, 1 << 20).remove(0);
        for number in 0..1000 {
            let due = Millis(NOW.millis().0 + if number < 500 { 1000 } else { 1_000_000 });
            shard.keyspace.db_mut(DbIndex(0)).set(&key(number), NewValue::Int(1), Some(due), secs_ago(5));
        }
        turn(&mut shard, (1 << 20) + 4000);
        assert!(shard.metrics.evicted_keys > 50);
        assert_eq!((500..1000).filter(|n| !is_there(&shard, 0, *n)).count(), 0);
    }

    #[test]
    fn random_policies_evict_from_all_databases() {
        let mut shard = shards(1, MaxmemoryPolicy::AllkeysRandom, 1 << 20).remove(0);
        for number in 0..400 {
            shard.keyspace.db_mut(DbIndex(number as u16 % 4)).set(&key(number), NewValue::Int(1), None, 0);
        }
        turn(&mut shard, (1 << 20) + 4000);
        for db in 0..4 {
            assert!(shard.keyspace.db(DbIndex(db)).len() < 100, "database {db}");
        }
    }

    #[test]
    fn without_a_policy_nothing_goes_and_the_server_is_full() {
        let mut shard = shards(1, MaxmemoryPolicy::NoEviction, 1 << 20).remove(0);
        shard.keyspace.db_mut(DbIndex(0)).set(b"k", NewValue::Int(1), None, 0);
        turn(&mut shard, (1 << 20) + 1);
        assert!(shard.eviction.is_full && shard.keyspace.len() == 1);
        assert!(shard.over_memory_now_us() == 0 && shard.eviction.over_since_us.is_some());
    }

    #[test]
    fn a_key_that_was_used_while_it_waited_in_the_pool_is_passed_over() {
        let mut shard = shards(1, MaxmemoryPolicy::AllkeysLru, 1 << 20).remove(0);
        for number in 0..POOL {
            shard.keyspace.db_mut(DbIndex(0)).set(&key(number), NewValue::Int(1), None, secs_ago(100));
        }
        shard.fill_pool(Measure::Lru);
        assert!(!shard.eviction.pool.is_empty());
        for number in 0..POOL - 1 {
            let mut entry = shard.keyspace.db_mut(DbIndex(0)).find_mut(&key(number)).expect("it was set");
            entry.set_access(secs_ago(0));
        }
        shard.config.maxmemory_samples = 64;
        assert!(matches!(shard.evict_one(), Evicted::Key(_)));
        assert!(!is_there(&shard, 0, POOL - 1) && shard.keyspace.len() == POOL - 1);
    }

    #[test]
    fn the_pool_keeps_the_coldest_in_order() {
        let mut pool = Vec::new();
        for temperature in (0..100).map(|n| 1 + (n * 37) % 100) {
            keep_coldest(&mut pool, temperature, DbIndex(0), &key(temperature as usize));
        }
        let kept: Vec<u64> = pool.iter().map(|candidate| candidate.temperature).collect();
        assert_eq!(kept, (1..=POOL as u64).rev().collect::<Vec<_>>());
        assert!(pool.iter().all(|candidate| candidate.key == key(candidate.temperature as usize)));
    }

    #[test]
    fn the_limit_is_the_whole_process_and_the_shard_with_the_keys_makes_room() {
        let mut shards = shards(2, MaxmemoryPolicy::AllkeysLru, 1 << 20);
        let mut second = shards.pop().expect("there are two");
        let mut first = shards.pop().expect("there are two");
        for number in 0..3000 {
            second.keyspace.db_mut(DbIndex(0)).set(&key(number), NewValue::Int(1), None, secs_ago(9));
        }
        turn(&mut second, 900_000);
        // The first one has no keys, and is what takes the process over its limit.
        turn(&mut first, 200_000);
        assert!(!first.eviction.is_full, "there is something to evict elsewhere");
        assert_eq!(first.told.len(), 1, "the other one is woken");
        turn(&mut second, 900_000);
        assert!(second.metrics.evicted_keys > 500, "{}", second.metrics.evicted_keys);
    }

    #[test]
    fn shards_with_keys_as_cold_as_each_other_make_room_together() {
        let mut shards = shards(2, MaxmemoryPolicy::AllkeysLru, 1 << 20);
        for shard in &mut shards {
            for number in 0..3000 {
                shard.keyspace.db_mut(DbIndex(0)).set(&key(number), NewValue::Int(1), None, secs_ago(9));
            }
        }
        for _ in 0..3 {
            for shard in &mut shards {
                turn(shard, 540_000);
            }
        }
        let gone: Vec<u64> = shards.iter().map(|shard| shard.metrics.evicted_keys).collect();
        assert!(gone.iter().all(|gone| *gone > 100) && gone[0].abs_diff(gone[1]) < gone[0] / 2, "{gone:?}");
    }

    #[test]
    fn the_colder_shard_is_asked_for_more() {
        let posted = |coldest| Posted { keys: 1000, key_bytes: 100, coldest, ..Posted::default() };
        let secs = 1_700_000_000;
        let now = NOW.millis();
        let share = |a, b, measure| parts(1000, &[posted(a), posted(b)], measure, now).expect("there are keys")[0];
        assert_eq!(share(secs - 10, secs - 10, Measure::Lru), 500);
        assert!(share(secs - 100, secs - 10, Measure::Lru) > 990);
        assert!(share(secs - 12, secs - 10, Measure::Lru) > 600);
        assert!(share(3, 8, Measure::Lfu) > 900);
        assert_eq!(share(3, 8, Measure::Random), 500);
        assert_eq!(share(0, secs, Measure::Lru), 500, "who has not looked yet is asked as well");
        assert!(parts(1000, &[Posted::default(); 3], Measure::Lru, now).is_none());
    }

    #[test]
    fn a_limit_that_is_set_during_a_turn_is_kept_at_its_end() {
        let mut shard = shards(1, MaxmemoryPolicy::NoEviction, 0).remove(0);
        for number in 0..1000 {
            shard.keyspace.db_mut(DbIndex(0)).set(&key(number), NewValue::Int(1), None, secs_ago(9));
        }
        BYTES.set(1 << 20);
        shard.look_at_memory();
        shard.config.maxmemory = 1 << 19;
        shard.config.maxmemory_policy = MaxmemoryPolicy::AllkeysRandom;
        shard.keep_within_memory();
        assert!(shard.metrics.evicted_keys > 0);
        assert_eq!(shard.board.posted(0).keys, shard.keyspace.len() as u64);
    }

    #[test]
    fn a_large_value_is_gone_at_once_and_does_not_count_while_it_is_freed() {
        let mut shard = shards(1, MaxmemoryPolicy::AllkeysLru, 1 << 20).remove(0);
        let mut list = crate::types::List::default();
        let limits = crate::types::list::ListLimits { node_size: 10, compress_depth: 0 };
        for _ in 0..10_000 {
            list.push_back(b"element", limits);
        }
        let object = NewValue::Object(Box::new(crate::types::DataType::into_object(list)));
        shard.keyspace.db_mut(DbIndex(0)).set(b"list", object, None, secs_ago(9));
        shard.keyspace.db_mut(DbIndex(0)).set(b"other", NewValue::Int(1), None, secs_ago(5));
        turn(&mut shard, (1 << 20) + 10_000);
        assert_eq!((shard.keyspace.len(), shard.keyspace.pending_free()), (1, 1));
        assert!(shard.over_limit() < 0, "what is being freed does not count");
        while shard.keyspace.free_buried(1000) {}
        turn(&mut shard, 1 << 19);
        assert_eq!((shard.eviction.freeing, shard.keyspace.take_freed(), shard.keyspace.len()), (0, 1, 1));
    }

    #[test]
    fn tenacity_is_redis_scale_up_to_what_a_core_can_spare() {
        assert_eq!(
            [0, 10, 11, 20, 99, 100].map(tenacity_ns),
            [0, 500_000, 575_000, 2_022_778, TURN_NS_MAX, TURN_NS_MAX]
        );
    }
}
