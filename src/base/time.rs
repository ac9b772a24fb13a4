//! Points in time, as values that are passed in. Below `rt` nothing reads a clock: a test, a simulation and a replayed log can
//! all say what time it is.
//!
//! Plain values, copied freely. Absent on purpose: durations and time zones.

use std::fmt;

/// Milliseconds since the Unix epoch: the unit in which Redis counts expiry. May be negative (EXPIREAT takes it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(pub i64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What `rt` read from the clocks at the top of one turn of the event loop. Every command of the turn sees the same
/// instant, as in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Wall clock, microseconds since the Unix epoch.
    pub unix_us: i64,
    /// Monotonic clock, microseconds since an arbitrary start: timeouts and durations.
    pub mono_us: u64,
}

impl Now {
    /// The wall clock in milliseconds.
    pub fn millis(self) -> Millis {
        Millis(self.unix_us.div_euclid(1000))
    }

    /// The wall clock in whole seconds.
    pub fn unix_secs(self) -> i64 {
        self.unix_us.div_euclid(1_000_000)
    }
}
