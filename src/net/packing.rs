//! Compresses strings by itself, where the settings ask for it: long ones (`compress-values-larger-than`) and those that nobody has
//! used for a while (`compress-cold-after`).
//!
//! One pass after the other over the databases of this core's shard, in slices of half a millisecond between turns of the loop. The
//! pause between two slices is such that they take `compress-cpu-percent` of the core and no more. A shard in which nothing is left to
//! pack sleeps: for long strings the next pass begins when something was written since the last one began, and cold ones are looked for
//! four times within the period that makes them cold.
//!
//! Absent on purpose: making strings plain again because they are read often. Who reads them so can say UNCOMPRESS; and writing does.

use crate::base::DbIndex;
use crate::base::time::{Millis, Now};
use crate::keyspace::{Entry, PackPass};
use crate::rt::clock::Clock;
use crate::shard::Shard;
use crate::shard::access::AccessPolicy;

/// Time that one slice takes, microseconds.
const SLICE_US: u64 = 500;
/// Pause between two passes at least, microseconds.
const PASS_PAUSE_US: u64 = 1_000_000;
/// Passes within the time that makes a string cold.
const PASSES_PER_COLD: u64 = 4;

/// One core's passes.
#[derive(Default)]
pub struct Packing {
    pass: PackPass,
    running: bool,
    db: usize,
    /// Not before this time, monotonic microseconds.
    from_us: u64,
    /// The count of changes when the last pass began.
    changes: Option<u64>,
}

/// Which strings are wanted.
#[derive(Clone, Copy)]
struct Wanted {
    larger_than: Option<usize>,
    cold_after_secs: Option<u32>,
    access: AccessPolicy,
    now: Millis,
}

impl Wanted {
    fn of(shard: &Shard) -> Wanted {
        let config = &shard.config;
        let some = |bytes: u64| (bytes > 0).then(|| usize::try_from(bytes).unwrap_or(usize::MAX));
        Wanted {
            larger_than: some(config.compress_values_larger_than),
            cold_after_secs: u32::try_from(config.compress_cold_after).ok().filter(|secs| *secs > 0),
            access: AccessPolicy::of(config),
            now: shard.now.millis(),
        }
    }

    fn takes(self, entry: Entry<'_>) -> bool {
        self.larger_than.is_some_and(|bytes| entry.value().len() > bytes)
            || self.cold_after_secs.is_some_and(|secs| self.access.idle_secs(entry.access(), self.now) >= secs)
    }
}

impl Packing {
    /// Works for a slice if it is time.
    pub fn run(&mut self, shard: &mut Shard, now: Now, clock: &Clock) {
        if now.mono_us < self.from_us || !self.has_work(shard) {
            return;
        }
        if !self.running {
            self.running = true;
            self.changes = Some(shard.metrics.changes);
            self.db = 0;
            self.pass = PackPass::default();
        }
        let begun_us = clock.mono_us();
        let wanted = Wanted::of(shard);
        let databases = shard.keyspace.dbs().len();
        while self.db < databases {
            let db = shard.keyspace.db_mut(DbIndex(self.db as u16));
            if !db.pack_step(&mut self.pass, wanted.now, |entry| wanted.takes(entry)) {
                self.db += 1;
                self.pass = PackPass::default();
            }
            if clock.mono_us().saturating_sub(begun_us) >= SLICE_US {
                break;
            }
        }
        let taken_us = clock.mono_us().saturating_sub(begun_us);
        self.from_us = begun_us + taken_us * 100 / u64::from(shard.config.compress_cpu_percent.max(1));
        if self.db >= databases {
            self.running = false;
            let cold_us = wanted.cold_after_secs.map(|secs| u64::from(secs) * 1_000_000 / PASSES_PER_COLD);
            let pause_us = match wanted.larger_than {
                Some(_) => PASS_PAUSE_US,
                None => cold_us.unwrap_or(0).max(PASS_PAUSE_US),
            };
            self.from_us = self.from_us.max(begun_us + pause_us);
        }
    }

    /// When the next slice is due, monotonic microseconds; none if nothing is to be done.
    pub fn next_us(&self, shard: &Shard) -> Option<u64> {
        self.has_work(shard).then_some(self.from_us)
    }

    fn has_work(&self, shard: &Shard) -> bool {
        let config = &shard.config;
        let cold = config.compress_cold_after > 0;
        let long = config.compress_values_larger_than > 0;
        (cold || long)
            && shard.storage.status.loading_since.is_none()
            && !shard.keyspace.is_empty()
            && (self.running || cold || self.changes != Some(shard.metrics.changes))
    }
}
