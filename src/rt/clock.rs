//! The clocks, read once per turn of a shard's loop. The only place in the server that asks what time it is.
//!
//! All shards count from the same start. A wall clock that is set back moves expiry with it, as in Redis; durations are measured
//! with the monotonic one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::Now;

/// Reads both clocks. The monotonic one counts from when the process's first `Clock` was made, so that all shards
/// speak of the same instants.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// The process's clock.
    pub fn new() -> Clock {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Clock { start: *START.get_or_init(Instant::now) }
    }

    /// What the clocks say now. Two reads of the vDSO, about 50 ns.
    pub fn now(&self) -> Now {
        Now { unix_us: unix_us(SystemTime::now()), mono_us: self.mono_us() }
    }

    /// The monotonic clock alone, in microseconds: for durations inside a turn.
    pub fn mono_us(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

/// The monotonic clock in nanoseconds since the process's first `Clock`: to time commands. One read of the vDSO.
pub fn mono_ns() -> u64 {
    u64::try_from(Clock::new().start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// Microseconds since the Unix epoch, negative before it: a machine whose clock was never set must still start.
fn unix_us(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_the_systems_and_the_monotonic_one_never_goes_back() {
        let clock = Clock::new();
        let first = clock.now();
        let again = Clock::new().now();
        assert!(again.mono_us >= first.mono_us, "{first:?} {again:?}");
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        assert!((first.unix_secs() - system).abs() <= 1);
    }

    #[test]
    fn a_clock_before_the_epoch_reads_negative() {
        assert_eq!(unix_us(UNIX_EPOCH - Duration::from_millis(3)), -3000);
        assert_eq!(unix_us(UNIX_EPOCH + Duration::from_micros(7)), 7);
    }
}
