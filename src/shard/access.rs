//! How lookups stamp records, depending on the eviction policy in force: with the time (LRU) or a frequency (LFU).
//!
//! Plain arithmetic on 24 bits; the formats are in `keyspace::access`. Absent on purpose: eviction.

use crate::base::rng::Rng;
use crate::base::time::Millis;
use crate::config::{Config, MaxmemoryPolicy};
use crate::keyspace::access::{
    lfu_access, lfu_counter, lfu_idle_secs, lfu_initial, lfu_used, lru_clock, lru_idle_secs,
};

/// What the 24 bits of a record's access word mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessPolicy {
    /// When it was last used.
    Lru,
    /// How often it is used.
    Lfu {
        /// `lfu-log-factor`.
        log_factor: u32,
        /// `lfu-decay-time`, minutes.
        decay_minutes: u32,
    },
    /// The same word for all keys, whatever happens to them: while a log is run, which does not tell.
    Fixed(u32),
}

impl AccessPolicy {
    /// The policy that these settings ask for.
    #[inline]
    pub fn of(config: &Config) -> AccessPolicy {
        if matches!(config.maxmemory_policy, MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu) {
            AccessPolicy::Lfu {
                log_factor: config.lfu_log_factor.unsigned_abs(),
                decay_minutes: config.lfu_decay_time.unsigned_abs(),
            }
        } else {
            AccessPolicy::Lru
        }
    }

    /// The word of a key that is made now.
    #[inline]
    pub fn fresh(self, now: Millis) -> u32 {
        match self {
            AccessPolicy::Lru => lru_clock(now),
            AccessPolicy::Lfu { .. } => lfu_initial(now),
            AccessPolicy::Fixed(word) => word,
        }
    }

    /// The word of a key that is used now.
    #[inline]
    pub fn touched(self, access: u32, now: Millis, rng: &mut Rng) -> u32 {
        match self {
            AccessPolicy::Lru => lru_clock(now),
            AccessPolicy::Lfu { log_factor, decay_minutes } => {
                let draw = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                lfu_used(access, log_factor, decay_minutes, now, draw)
            }
            AccessPolicy::Fixed(word) => word,
        }
    }

    /// For how long a key with this word has not been used, in seconds: to the minute under LFU. A fixed word says nothing: 0.
    pub fn idle_secs(self, access: u32, now: Millis) -> u32 {
        match self {
            AccessPolicy::Lru => lru_idle_secs(access, now),
            AccessPolicy::Lfu { .. } => lfu_idle_secs(access, now),
            AccessPolicy::Fixed(_) => 0,
        }
    }

    /// The word of a key whose value is replaced now: a frequency outlives the value.
    #[inline]
    pub fn overwritten(self, access: u32, now: Millis) -> u32 {
        match self {
            AccessPolicy::Lru => lru_clock(now),
            AccessPolicy::Lfu { decay_minutes, .. } => lfu_access(lfu_counter(access, decay_minutes, now), now),
            AccessPolicy::Fixed(word) => word,
        }
    }
}
