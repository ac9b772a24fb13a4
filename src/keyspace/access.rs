//! The 24 bits in each record that say how recently (LRU) or how often (LFU) its key was used.
//!
//! Which of the two meanings holds is decided by `maxmemory-policy`, outside; a change of policy makes the words of old
//! records noise until they are used again, as in Redis.
//!
//! ```text
//!   LRU   [ 24 bits: seconds of the Unix clock, wraps after 194 days            ]
//!   LFU   [ 16 bits: minutes of the Unix clock, wraps after 45 days ][ 8 bits: logarithmic counter ]
//! ```
//!
//! Facts from Redis 7.0's `evict.c` and `server.h` (`LRU_BITS`, `LRU_CLOCK_RESOLUTION`, `LFU_INIT_VAL`). Pure functions:
//! absent on purpose are a clock and a source of randomness; both come in as arguments.

use crate::base::time::Millis;

/// The largest access word.
pub const ACCESS_MAX: u32 = (1 << 24) - 1;

/// The counter a new key starts with under LFU, so that it is not the first to be evicted.
pub const LFU_INITIAL: u8 = 5;

/// The LRU clock, to be stored in a record that is used now.
pub fn lru_clock(now: Millis) -> u32 {
    (now.0.div_euclid(1000) as u32) & ACCESS_MAX
}

/// Seconds since the record with this access word was used, `0..2^24`. Right for every key that was used within the
/// last 194 days, wherever the clock wrapped in between.
pub fn lru_idle_secs(access: u32, now: Millis) -> u32 {
    lru_clock(now).wrapping_sub(access) & ACCESS_MAX
}

/// The access word of a key that has been idle for so many seconds (RESTORE's IDLETIME, DEBUG): the inverse of
/// [`lru_idle_secs`]. Longer than the clock's range counts as just within it.
pub fn lru_access_idle_for(idle_secs: u32, now: Millis) -> u32 {
    lru_clock(now).wrapping_sub(idle_secs.min(ACCESS_MAX)) & ACCESS_MAX
}

/// The access word of a key that is written for the first time under LFU.
pub fn lfu_initial(now: Millis) -> u32 {
    lfu_access(LFU_INITIAL, now)
}

/// The access word that holds this counter as of now.
pub fn lfu_access(counter: u8, now: Millis) -> u32 {
    u32::from(lfu_minutes(now)) << 8 | u32::from(counter)
}

/// The counter as it stands now: one less for each full `decay_minutes` (`lfu-decay-time`; 0 means never) since the
/// word was written.
pub fn lfu_counter(access: u32, decay_minutes: u32, now: Millis) -> u8 {
    let counter = access as u8;
    let written = (access >> 8) as u16;
    let periods = match decay_minutes {
        0 => 0,
        _ => u32::from(lfu_minutes(now).wrapping_sub(written)) / decay_minutes,
    };
    u32::from(counter).saturating_sub(periods) as u8
}

/// The access word after one more use: decayed, then counted with probability `1 / (over * log_factor + 1)`, where
/// `over` is how far the counter is above [`LFU_INITIAL`] (`lfu-log-factor`; with 10, a million hits saturate it).
/// `draw` is uniform in `0.0..1.0`.
pub fn lfu_used(access: u32, log_factor: u32, decay_minutes: u32, now: Millis, draw: f64) -> u32 {
    let counter = lfu_counter(access, decay_minutes, now);
    let over = counter.saturating_sub(LFU_INITIAL);
    let probability = 1.0 / (f64::from(over) * f64::from(log_factor) + 1.0);
    let counted = if draw < probability { counter.saturating_add(1) } else { counter };
    lfu_access(counted, now)
}

/// Seconds since a record with this word was used, in whole minutes.
pub fn lfu_idle_secs(access: u32, now: Millis) -> u32 {
    u32::from(lfu_minutes(now).wrapping_sub((access >> 8) as u16)) * 60
}

fn lfu_minutes(now: Millis) -> u16 {
    now.0.div_euclid(60_000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn later(secs: i64) -> Millis {
        Millis(NOW.0 + secs * 1000)
    }

    #[test]
    fn idle_time_counts_across_the_wrap_of_the_clock() {
        for start in [0i64, (1 << 24) - 2, (1 << 24) - 1, 5 << 24] {
            let used = Millis(start * 1000);
            for idle in [0i64, 1, 2, 3600, (1 << 24) - 1] {
                let now = Millis((start + idle) * 1000 + 999);
                assert_eq!(i64::from(lru_idle_secs(lru_clock(used), now)), idle, "start {start}");
            }
        }
    }

    #[test]
    fn an_idle_time_that_is_set_reads_back() {
        for idle in [0, 1, 77, ACCESS_MAX] {
            assert_eq!(lru_idle_secs(lru_access_idle_for(idle, NOW), NOW), idle);
        }
        assert_eq!(lru_idle_secs(lru_access_idle_for(u32::MAX, NOW), NOW), ACCESS_MAX);
    }

    #[test]
    fn the_frequency_decays_by_one_each_period_and_stops_at_zero() {
        let access = lfu_access(3, NOW);
        assert_eq!(lfu_counter(access, 1, NOW), 3);
        assert_eq!(lfu_counter(access, 1, later(61)), 2);
        assert_eq!(lfu_counter(access, 2, later(61)), 3);
        assert_eq!(lfu_counter(access, 1, later(600)), 0);
        assert_eq!(lfu_counter(access, 0, later(1 << 20)), 3, "a decay time of 0 is no decay");
    }

    #[test]
    fn the_frequency_decays_across_the_wrap_of_its_clock() {
        let written = Millis(65_535 * 60_000);
        let access = lfu_access(9, written);
        assert_eq!(lfu_counter(access, 1, Millis(65_538 * 60_000)), 6);
    }

    #[test]
    fn a_million_uses_saturate_the_counter_at_the_default_factor_and_a_thousand_do_not() {
        let mut rng = Rng::seed(7);
        let mut access = lfu_initial(NOW);
        let mut at_thousand = 0;
        for use_number in 1..=1_000_000 {
            access = lfu_used(access, 10, 1, NOW, rng.unit_f64());
            if use_number == 1000 {
                at_thousand = lfu_counter(access, 1, NOW);
            }
        }
        // redis.conf gives 18 for 1,000 hits and 255 for 1 M hits at factor 10.
        assert!((10..=30).contains(&at_thousand), "{at_thousand}");
        assert!(lfu_counter(access, 1, NOW) > 250, "{}", lfu_counter(access, 1, NOW));
    }

    #[test]
    fn no_use_takes_the_word_out_of_its_24_bits() {
        for draw in [0.0, 0.999] {
            for counter in [0, 5, 254, 255] {
                for now in [NOW, Millis(-1), Millis(i64::MIN), Millis(i64::MAX)] {
                    assert!(lfu_used(lfu_access(counter, now), 10, 1, now, draw) <= ACCESS_MAX);
                    assert!(lru_clock(now) <= ACCESS_MAX);
                }
            }
        }
    }
}
