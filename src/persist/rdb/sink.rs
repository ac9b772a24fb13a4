//! What makes bytes of RDB of the entries that a snapshot's walk comes to.
//!
//! One for each snapshot and shard. What it writes is the body of a file (see [`super::file`]): it says by itself to which databases
//! its keys belong. Invariant: an entry is written as it was at the cut. Absent on purpose: the head and the end of a file, sums.

use std::sync::atomic::{AtomicU16, Ordering};

use super::file::Used;
use super::file_writer::{KeyFacts, VERSION_MIN, select_db, write_key};
use crate::base::DbIndex;
use crate::base::time::Millis;
use crate::config::{Config, MaxmemoryPolicy};
use crate::keyspace::access::{lfu_counter, lru_idle_secs};
use crate::keyspace::{Entry, EntrySink};

/// See the module.
#[derive(Debug)]
pub struct RdbSink {
    at: Millis,
    compress: bool,
    policy: MaxmemoryPolicy,
    lfu_decay_minutes: u32,
    version_min: AtomicU16,
}

impl RdbSink {
    /// For a cut at this time.
    pub fn new(config: &Config, at: Millis) -> RdbSink {
        RdbSink {
            at,
            compress: config.rdbcompression,
            policy: config.maxmemory_policy,
            lfu_decay_minutes: config.lfu_decay_time.unsigned_abs(),
            version_min: AtomicU16::new(VERSION_MIN),
        }
    }

    /// The lowest version of a file that holds what was written so far.
    pub fn version_min(&self) -> u16 {
        self.version_min.load(Ordering::Relaxed)
    }

    /// Redis writes what it would evict by.
    fn used(&self, access: u32) -> Used {
        match self.policy {
            MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => {
                Used::SecsAgo(u64::from(lru_idle_secs(access, self.at)))
            }
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => {
                Used::Often(lfu_counter(access, self.lfu_decay_minutes, self.at))
            }
            _ => Used::Unsaid,
        }
    }
}

impl EntrySink for RdbSink {
    fn database(&self, db: DbIndex, out: &mut Vec<u8>) {
        select_db(out, db);
    }

    fn entry(&self, entry: Entry<'_>, out: &mut Vec<u8>) {
        let facts = KeyFacts { expires: entry.expire_at(), used: self.used(entry.access()) };
        if let Some(version) = write_key(out, entry.key(), entry.value(), facts, self.at, self.compress) {
            self.version_min.fetch_max(version, Ordering::Relaxed);
        }
    }
}
