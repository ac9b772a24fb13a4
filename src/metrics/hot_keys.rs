//! Which keys are used most, found without counting all of them.
//!
//! A [`Sketch`] is Space-Saving (Metwally, Agrawal, El Abbadi 2005): a fixed number of counters. A key that has one is counted; one
//! that has none takes over the smallest counter with its count, and remembers that count as its error. A key whose share is
//! larger than one counter's is always among them, and what is told of a key is its count less its error, so nothing is called hot
//! that is not.
//!
//! There are two uses. [`Load`] is always on: of every [`STRIDE`] commands one is looked at, at random, and counts fade with a half-life of
//! [`HALF_LIFE_SECS`], so that they read as operations per second of about the last minute. A [`Tracking`] is what HOTKEYS START begins, as
//! in Redis 8.6: while it runs every command is timed and its bytes counted, for the time and the bytes that each key takes.
//!
//! A shard has one of each, over the commands that run on it. Keys longer than [`KEY_BYTES_MAX`] are not counted, so that the memory is
//! bounded. Absent on purpose: clocks and chance; both are handed in.

use std::time::Duration;

use crate::base::DbIndex;
use crate::base::rng::Rng;

/// One command of so many is looked at, on average. A look at a key that is none of those counted takes 1,900 instructions
/// (callgrind), and so less than four a command, beside two to count down.
pub const STRIDE: u32 = 512;
/// After so long a count is worth half.
pub const HALF_LIFE_SECS: f64 = 30.0;
/// Counters of [`Load`].
const LOAD_COUNTERS: usize = 128;
/// Counters of a [`Tracking`] for each key that it is asked for.
const TRACKING_COUNTERS_PER_KEY: usize = 10;
/// Longer keys are not counted.
pub const KEY_BYTES_MAX: usize = 1024;
/// Hashes that are compared in one go.
const HASHES_AT_ONCE: usize = 16;
/// Past this exponent fading counts are scaled down, long before they overflow.
const EXPONENT_MAX: f64 = 512.0;

/// A counter that is read.
#[derive(Clone, PartialEq, Debug)]
pub struct Counted {
    /// The database.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// What is certainly its own.
    pub count: f64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Sketch {
    hasher: ahash::RandomState,
    counters: usize,
    // Side by side, because a look goes through the hashes alone.
    hashes: Vec<u64>,
    counts: Vec<f64>,
    errors: Vec<f64>,
    keys: Vec<(DbIndex, Box<[u8]>)>,
}

impl Sketch {
    /// A sketch of so many counters.
    pub fn new(counters: usize, hasher: ahash::RandomState) -> Sketch {
        let (hashes, counts, errors, keys) = Default::default();
        Sketch { hasher, counters, hashes, counts, errors, keys }
    }

    /// Adds to a key's count.
    pub fn add(&mut self, db: DbIndex, key: &[u8], weight: f64) {
        if key.len() > KEY_BYTES_MAX || weight <= 0.0 {
            return;
        }
        let hash = self.hasher.hash_one((db.0, key));
        for (chunk, hashes) in self.hashes.chunks(HASHES_AT_ONCE).enumerate() {
            // Without an exit in the middle, so that several are compared at once.
            if !hashes.iter().fold(false, |found, h| found | (*h == hash)) {
                continue;
            }
            let first = chunk * HASHES_AT_ONCE;
            for at in (first..first + hashes.len()).filter(|at| self.hashes[*at] == hash) {
                if self.keys[at].0 == db && *self.keys[at].1 == *key {
                    self.counts[at] += weight;
                    return;
                }
            }
        }
        if self.hashes.len() < self.counters {
            self.hashes.push(hash);
            self.counts.push(weight);
            self.errors.push(0.0);
            self.keys.push((db, key.into()));
            return;
        }
        let mut at = 0;
        let mut least = f64::INFINITY;
        for (candidate, count) in self.counts.iter().enumerate() {
            if *count < least {
                (at, least) = (candidate, *count);
            }
        }
        self.hashes[at] = hash;
        self.errors[at] = self.counts[at];
        self.counts[at] += weight;
        self.keys[at] = (db, key.into());
    }

    fn scale(&mut self, factor: f64) {
        self.counts.iter_mut().chain(&mut self.errors).for_each(|count| *count *= factor);
    }

    /// The largest, largest first.
    pub fn top(&self, count: usize) -> Vec<Counted> {
        let mut all: Vec<Counted> = (0..self.keys.len())
            .map(|at| {
                let (db, key) = &self.keys[at];
                Counted { db: *db, key: key.clone(), count: self.counts[at] - self.errors[at] }
            })
            .collect();
        sort_counted(&mut all);
        all.truncate(count);
        all
    }
}

/// Largest first; equals by key, so that the order is one.
pub fn sort_counted(counted: &mut [Counted]) {
    counted.sort_by(|a, b| b.count.total_cmp(&a.count).then_with(|| a.key.cmp(&b.key)).then(a.db.0.cmp(&b.db.0)));
}

/// The load of keys, always on. See the module.
#[derive(Clone, Debug)]
struct Load {
    sketch: Sketch,
    /// When it was last empty, monotonic microseconds.
    since_us: u64,
    /// A sample at this time weighs one.
    base_us: u64,
}

fn half_lives(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6 / HALF_LIFE_SECS
}

impl Load {
    fn add(&mut self, now_us: u64, db: DbIndex, key: &[u8]) {
        let exponent = half_lives(self.base_us, now_us);
        if exponent > EXPONENT_MAX {
            self.sketch.scale((-exponent).exp2());
            self.base_us = now_us;
        }
        self.sketch.add(db, key, half_lives(self.base_us, now_us).exp2());
    }

    /// Operations per second by key.
    fn top(&self, now_us: u64, count: usize) -> Vec<Counted> {
        let fade = (-half_lives(self.base_us, now_us)).exp2();
        // A steady rate has this much of a second's worth in its count by now.
        let lives = half_lives(self.since_us, now_us);
        let window_secs = HALF_LIFE_SECS / std::f64::consts::LN_2 * (1.0 - (-lives).exp2());
        let per_sample = f64::from(STRIDE) * fade / window_secs.max(1e-3);
        let mut top = self.sketch.top(count);
        top.iter_mut().for_each(|counted| counted.count *= per_sample);
        top
    }
}

/// What HOTKEYS START asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackingOptions {
    /// Whether time is counted.
    pub cpu: bool,
    /// Whether bytes are.
    pub net: bool,
    /// How many keys are to be told.
    pub keys: usize,
    /// It ends by itself after so long, milliseconds; 0: never.
    pub duration_ms: i64,
    /// One command of so many is counted for its keys.
    pub ratio: u32,
}

/// A collection that HOTKEYS START has begun, on one shard.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// As asked.
    pub options: TrackingOptions,
    /// When it began, milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// The CPU time that the process had used by then, in user mode and in the kernel.
    pub cpu_before: (Duration, Duration),
    /// When it was over, if it is.
    pub stopped_ms: Option<i64>,
    /// Time of all commands with keys, nanoseconds.
    pub all_ns: u64,
    /// Bytes of all commands with keys.
    pub all_bytes: u64,
    /// Nanoseconds by key.
    pub cpu: Sketch,
    /// Bytes by key.
    pub net: Sketch,
}

impl Tracking {
    /// Whether commands are still counted at this time.
    pub fn is_active(&self, now_ms: i64) -> bool {
        self.stopped_ms.is_none() && !self.is_over(now_ms)
    }

    fn is_over(&self, now_ms: i64) -> bool {
        self.options.duration_ms > 0 && now_ms - self.started_ms >= self.options.duration_ms
    }

    /// How long it has collected, milliseconds.
    pub fn lasted_ms(&self, now_ms: i64) -> i64 {
        let lasted = self.stopped_ms.unwrap_or(now_ms) - self.started_ms;
        if self.options.duration_ms > 0 { lasted.min(self.options.duration_ms) } else { lasted }.max(0)
    }
}

/// What one command has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Time, nanoseconds.
    pub ns: u64,
    /// Bytes of the request and of the reply.
    pub bytes: u64,
}

/// One shard's. See the module.
#[derive(Clone, Debug)]
pub struct HotKeys {
    /// Commands until one is looked at.
    countdown: u32,
    /// Commands until one counts for the load, while a collection has every one looked at.
    to_load: u32,
    rng: Rng,
    hasher: ahash::RandomState,
    load: Load,
    tracking: Option<Box<Tracking>>,
}

impl HotKeys {
    /// Nothing counted.
    pub fn new(seed: u64, hasher: ahash::RandomState) -> HotKeys {
        let load = Load { sketch: Sketch::new(LOAD_COUNTERS, hasher.clone()), since_us: 0, base_us: 0 };
        let mut rng = Rng::seed(seed);
        let first = stride(&mut rng);
        HotKeys { countdown: first, to_load: first, rng, hasher, load, tracking: None }
    }

    /// Whether the command that comes now is to be looked at.
    #[inline]
    pub fn looks(&mut self) -> bool {
        self.countdown -= 1;
        self.countdown == 0
    }

    /// Whether it has to be timed, and its bytes counted. Only after [`HotKeys::looks`] has said yes.
    pub fn tracks(&self, now_ms: i64) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| tracking.is_active(now_ms))
    }

    /// A command was looked at: counts it, with what it has taken if it was to be timed, and decides which is next. `keys` visits its
    /// keys.
    pub fn counts(
        &mut self,
        now_us: u64,
        now_ms: i64,
        db: DbIndex,
        cost: Option<Cost>,
        keys: impl Fn(&mut dyn FnMut(&[u8])),
    ) {
        let Some(cost) = cost else {
            if let Some(tracking) = &mut self.tracking
                && tracking.stopped_ms.is_none()
                && tracking.is_over(now_ms)
            {
                tracking.stopped_ms = Some(tracking.started_ms + tracking.options.duration_ms);
            }
            keys(&mut |key| self.load.add(now_us, db, key));
            self.countdown = stride(&mut self.rng);
            return;
        };
        if let Some(tracking) = &mut self.tracking {
            track(tracking, &mut self.rng, db, cost, &keys);
        }
        self.to_load = self.to_load.saturating_sub(1);
        if self.to_load == 0 {
            keys(&mut |key| self.load.add(now_us, db, key));
            self.to_load = stride(&mut self.rng);
        }
        self.countdown = if self.tracks(now_ms) { 1 } else { self.to_load };
    }

    /// The keys used most, with their operations per second.
    pub fn busiest(&self, now_us: u64, count: usize) -> Vec<Counted> {
        self.load.top(now_us, count)
    }

    /// Forgets the load.
    pub fn forget_load(&mut self, now_us: u64) {
        self.load.sketch = Sketch::new(LOAD_COUNTERS, self.hasher.clone());
        (self.load.since_us, self.load.base_us) = (now_us, now_us);
    }

    /// Begins a collection.
    pub fn start(&mut self, options: TrackingOptions, now_ms: i64, cpu_before: (Duration, Duration)) {
        let counters = options.keys * TRACKING_COUNTERS_PER_KEY;
        let sketch = |wanted: bool| Sketch::new(if wanted { counters } else { 0 }, self.hasher.clone());
        let (cpu, net) = (sketch(options.cpu), sketch(options.net));
        let (started_ms, stopped_ms, all_ns, all_bytes) = (now_ms, None, 0, 0);
        let new = Tracking { options, started_ms, cpu_before, stopped_ms, all_ns, all_bytes, cpu, net };
        self.tracking = Some(Box::new(new));
        self.to_load = self.countdown;
        self.countdown = 1;
    }

    /// Ends it. False if none was active.
    pub fn stop(&mut self, now_ms: i64) -> bool {
        let active = self.tracks(now_ms);
        if active && let Some(tracking) = &mut self.tracking {
            tracking.stopped_ms = Some(now_ms);
        }
        active
    }

    /// Forgets what was collected.
    pub fn reset(&mut self) {
        self.tracking = None;
    }

    /// What was collected, or is being.
    pub fn tracking(&self) -> Option<&Tracking> {
        self.tracking.as_deref()
    }
}

/// At random, so that commands that come in a pattern are met alike.
fn stride(rng: &mut Rng) -> u32 {
    1 + rng.below(u64::from(2 * STRIDE - 1)) as u32
}

fn track(tracking: &mut Tracking, rng: &mut Rng, db: DbIndex, cost: Cost, keys: &impl Fn(&mut dyn FnMut(&[u8]))) {
    let mut count = 0u64;
    keys(&mut |_| count += 1);
    if count == 0 {
        return;
    }
    tracking.all_ns += cost.ns;
    tracking.all_bytes += cost.bytes;
    if tracking.options.ratio > 1 && rng.below(u64::from(tracking.options.ratio)) != 0 {
        return;
    }
    let (ns, bytes) = (cost.ns as f64 / count as f64, cost.bytes as f64 / count as f64);
    let (cpu, net) = (tracking.options.cpu, tracking.options.net);
    keys(&mut |key| {
        if cpu {
            tracking.cpu.add(db, key, ns);
        }
        if net {
            tracking.net.add(db, key, bytes);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: DbIndex = DbIndex(0);

    fn hasher() -> ahash::RandomState {
        ahash::RandomState::with_seeds(1, 2, 3, 4)
    }

    #[test]
    fn a_key_with_a_large_share_is_found_among_many() {
        let mut sketch = Sketch::new(16, hasher());
        for at in 0..10_000 {
            sketch.add(DB, format!("key:{at}").as_bytes(), 1.0);
            if at % 4 == 0 {
                sketch.add(DB, b"hot", 1.0);
            }
        }
        let top = sketch.top(3);
        assert_eq!(&*top[0].key, b"hot");
        assert!(top[0].count > 2_000.0 && top[0].count <= 2_500.0, "{top:?}");
        assert!(top[1].count < 10.0, "what is not hot is not called so: {top:?}");
    }

    #[test]
    fn the_same_key_of_two_databases_is_two_keys_and_a_long_one_none() {
        let mut sketch = Sketch::new(4, hasher());
        sketch.add(DbIndex(0), b"k", 1.0);
        sketch.add(DbIndex(1), b"k", 2.0);
        sketch.add(DB, &[0; KEY_BYTES_MAX + 1], 9.0);
        assert_eq!(sketch.top(9).iter().map(|c| (c.db.0, c.count)).collect::<Vec<_>>(), [(1, 2.0), (0, 1.0)]);
    }

    /// Commands of a core that runs so many a second on each of these keys, for so many seconds from this one on.
    fn run(hot: &mut HotKeys, from_secs: u64, secs: u64, rates: &[(&[u8], u64)]) {
        let all: u64 = rates.iter().map(|(_, rate)| rate).sum();
        let mut rng = Rng::seed(7);
        for at in 0..secs * all {
            let now_us = from_secs * 1_000_000 + at * 1_000_000 / all;
            let mut draw = rng.below(all);
            let key = rates.iter().find(|(_, rate)| {
                let its = draw < *rate;
                draw = draw.saturating_sub(*rate);
                its
            });
            let key = key.expect("the rates add up").0;
            if hot.looks() {
                let cost = hot.tracks((now_us / 1000) as i64).then_some(Cost { ns: 100, bytes: 10 });
                hot.counts(now_us, (now_us / 1000) as i64, DB, cost, |visit| visit(key));
            }
        }
    }

    #[test]
    fn a_steady_load_reads_as_its_rate_and_fades_when_it_ends() {
        for seed in 0..4 {
            let mut hot = HotKeys::new(seed, hasher());
            run(&mut hot, 0, 60, &[(b"hot", 15_000), (b"warm", 5_000)]);
            let top = hot.busiest(60_000_000, 2);
            assert_eq!(&*top[0].key, b"hot");
            assert!((10_000.0..20_000.0).contains(&top[0].count), "seed {seed}: {top:?}");
            assert!((3_000.0..7_000.0).contains(&top[1].count), "seed {seed}: {top:?}");
            let later = hot.busiest(120_000_000, 1);
            assert!(later[0].count < top[0].count / 2.0, "seed {seed}: {later:?}");
        }
    }

    #[test]
    fn fading_counts_do_not_overflow() {
        let mut hot = HotKeys::new(1, hasher());
        let year_us = 365 * 24 * 3600 * 1_000_000;
        for at in 0..20 {
            let now_us = at * year_us;
            hot.load.add(now_us, DB, b"k");
            assert!(hot.busiest(now_us + 1, 1)[0].count.is_finite());
        }
    }

    #[test]
    fn a_collection_counts_every_command_and_ends_by_itself() {
        let mut hot = HotKeys::new(1, hasher());
        let options = TrackingOptions { cpu: true, net: true, keys: 10, duration_ms: 5_000, ratio: 1 };
        hot.start(options, 0, Default::default());
        run(&mut hot, 0, 10, &[(b"a", 900), (b"b", 100)]);
        let tracking = hot.tracking().unwrap();
        assert_eq!((tracking.all_ns, tracking.all_bytes), (500_000, 50_000));
        assert_eq!(tracking.lasted_ms(60_000), 5_000);
        let top = tracking.cpu.top(2);
        assert_eq!(&*top[0].key, b"a");
        assert_eq!(top[0].count + top[1].count, 500_000.0);
        assert!(!hot.tracks(6_000) && !hot.stop(6_000));
        run(&mut hot, 10, 60, &[(b"a", 20_000)]);
        assert!(!hot.busiest(70_000_000, 1).is_empty(), "the load goes on");
    }

    #[test]
    fn a_sampled_collection_has_totals_of_all_commands() {
        let mut hot = HotKeys::new(3, hasher());
        hot.start(TrackingOptions { cpu: true, net: false, keys: 1, duration_ms: 0, ratio: 10 }, 0, Default::default());
        run(&mut hot, 0, 10, &[(b"a", 1_000)]);
        assert!(hot.stop(10_000));
        let tracking = hot.tracking().unwrap();
        assert_eq!(tracking.all_ns, 1_000_000);
        let counted = tracking.cpu.top(1)[0].count;
        assert!((70_000.0..130_000.0).contains(&counted), "{counted}");
        assert!(tracking.net.top(1).is_empty());
    }
}
