//! What the allocator says of this process's memory. Process-wide: any core may ask.
//!
//! jemalloc keeps its counts per thread and adds them up when it is asked to begin an epoch; that costs some microseconds, so
//! this is for INFO and for a timer, not for every command.
//!
//! The largest sample and the first one are kept between calls. They are the only state that cores share here, and nothing
//! depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

use tikv_jemalloc_ctl::{epoch, stats};

static PEAK: AtomicU64 = AtomicU64::new(0);
/// When the peak is to be looked at again, monotonic microseconds.
static NOTE_AT_US: AtomicU64 = AtomicU64::new(0);
/// How often it is, microseconds: as often as Redis does.
const NOTE_EVERY_US: u64 = 100_000;
/// What the last sample found.
static LAST: AtomicU64 = AtomicU64::new(0);
static STARTUP: AtomicU64 = AtomicU64::new(0);

/// One look at the allocator. Bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allocator {
    /// Handed out to the program.
    pub allocated: u64,
    /// In pages that hold something which is handed out.
    pub active: u64,
    /// In pages that the kernel has backed with memory.
    pub resident: u64,
    /// The most that any sample found allocated.
    pub peak: u64,
    /// What the first sample found.
    pub startup: u64,
}

/// Looks now. Whoever wants a peak that means something calls this from time to time.
pub fn sample() -> Allocator {
    let read = |value: Result<usize, tikv_jemalloc_ctl::Error>| value.map_or(0, |bytes| bytes as u64);
    // Without an epoch the counts are those of the last one, which is still an answer.
    let _ = epoch::advance();
    let allocated = read(stats::allocated::read());
    LAST.store(allocated, Ordering::Relaxed);
    let peak = PEAK.fetch_max(allocated, Ordering::Relaxed).max(allocated);
    let startup = match STARTUP.compare_exchange(0, allocated, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => allocated,
        Err(first) => first,
    };
    Allocator { allocated, active: read(stats::active::read()), resident: read(stats::resident::read()), peak, startup }
}

/// What the last sample found allocated, bytes. For a report of a crash, which must not ask the allocator.
pub fn last_allocated() -> u64 {
    LAST.load(Ordering::Relaxed)
}

/// Samples for the sake of the peak, if the last time is long enough ago. One shard calls it once a turn, so that an idle
/// server is not woken for it.
#[inline]
pub fn note_peak(mono_us: u64) {
    if mono_us >= NOTE_AT_US.load(Ordering::Relaxed) {
        NOTE_AT_US.store(mono_us + NOTE_EVERY_US, Ordering::Relaxed);
        sample();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_never_falls_and_the_start_never_changes() {
        let first = sample();
        let block = std::hint::black_box(vec![1u8; 1 << 20]);
        let second = sample();
        drop(block);
        let third = sample();
        assert!(second.peak >= first.peak && third.peak >= second.peak);
        assert!(third.peak >= third.allocated);
        assert_eq!(first.startup, third.startup);
    }
}
