//! A per-second rate over the last sixteen samples, as behind INFO's `instantaneous_ops_per_sec`.
//!
//! A sample is taken at most every 100 ms and only when the event loop turns, so an idle server is never woken for
//! it; a rate whose last sample is old reads as what happened since, which for an idle server is nothing.

/// Samples kept, as in Redis.
const SAMPLES: usize = 16;
/// Least time between two samples, microseconds.
const SAMPLE_US: u64 = 100_000;
/// A rate is only spoken of when its newest sample is at most this old, microseconds.
const STALE_US: u64 = 1_000_000;

/// One reading of a counter.
#[derive(Clone, Copy, Default, Debug)]
pub struct RateSample {
    /// Monotonic time of the reading, microseconds.
    pub mono_us: u64,
    /// The counter's value then.
    pub value: u64,
}

/// The recent history of one counter.
#[derive(Clone, Default, Debug)]
pub struct Rate {
    ring: [RateSample; SAMPLES],
    newest: usize,
    filled: usize,
}

impl Rate {
    /// Takes a sample if the last one is old enough.
    pub fn sample(&mut self, mono_us: u64, value: u64) {
        if self.filled > 0 && mono_us < self.ring[self.newest].mono_us + SAMPLE_US {
            return;
        }
        self.newest = (self.newest + 1) % SAMPLES;
        self.ring[self.newest] = RateSample { mono_us, value };
        self.filled = (self.filled + 1).min(SAMPLES);
    }

    /// Growth of the counter per second, from the oldest kept sample to the newest.
    pub fn per_second(&self, mono_us: u64) -> f64 {
        if self.filled < 2 || mono_us > self.ring[self.newest].mono_us + STALE_US {
            return 0.0;
        }
        let newest = self.ring[self.newest];
        let oldest = self.ring[(self.newest + SAMPLES + 1 - self.filled) % SAMPLES];
        let us = newest.mono_us.saturating_sub(oldest.mono_us);
        if us == 0 {
            return 0.0;
        }
        newest.value.saturating_sub(oldest.value) as f64 * 1e6 / us as f64
    }
}

/// How long a maximum is remembered, at least; twice as long at most. Microseconds; about as in Redis.
const RECENT_US: u64 = 4_000_000;

/// The largest value of the last few seconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Recent {
    now: u64,
    before: u64,
    since_us: u64,
}

impl Recent {
    /// Takes note of a value.
    #[inline]
    pub fn note(&mut self, value: u64) {
        if value > self.now {
            self.now = value;
        }
    }

    /// Time passes.
    pub fn turn(&mut self, mono_us: u64) {
        if mono_us > self.since_us + RECENT_US {
            self.before = if mono_us > self.since_us + 2 * RECENT_US { 0 } else { self.now };
            (self.now, self.since_us) = (0, mono_us);
        }
    }

    /// The largest.
    pub fn max(self) -> u64 {
        self.now.max(self.before)
    }

    /// Takes in another shard's.
    pub fn absorb(&mut self, other: Recent) {
        self.note(other.max());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_reads_as_its_rate() {
        let mut r = Rate::default();
        for i in 0..40u64 {
            r.sample(i * 100_000, i * 50);
        }
        assert_eq!(r.per_second(3_900_000), 500.0);
    }

    #[test]
    fn samples_closer_than_a_tenth_of_a_second_are_not_kept() {
        let mut r = Rate::default();
        r.sample(0, 0);
        r.sample(10, 1_000_000);
        assert_eq!(r.per_second(20), 0.0);
    }

    #[test]
    fn an_idle_counter_reads_as_zero() {
        let mut r = Rate::default();
        r.sample(0, 0);
        r.sample(100_000, 100);
        assert!(r.per_second(200_000) > 0.0);
        assert_eq!(r.per_second(5_000_000), 0.0);
    }

    #[test]
    fn a_recent_maximum_is_forgotten_after_a_while() {
        let mut recent = Recent::default();
        recent.turn(RECENT_US + 1);
        recent.note(9);
        recent.turn(2 * RECENT_US + 2);
        assert_eq!(recent.max(), 9);
        recent.note(3);
        recent.turn(3 * RECENT_US + 3);
        assert_eq!(recent.max(), 3);
        recent.turn(9 * RECENT_US);
        assert_eq!(recent.max(), 0, "nothing came for long");
    }
}
