//! TLS sessions that clients may resume instead of shaking hands in full (`tls-session-caching`). One table for all cores, behind a lock.
//!
//! The lock is the one exception to "cores share no memory": a client that comes back is dealt to whichever core has the fewest
//! clients, and the table is looked at once per handshake, which costs a hundred times as much.
//!
//! Invariants: at most `sessions_max` entries, the oldest go first (0: any number); what is older than the timeout is never given out,
//! and is dropped when a later one is put in. `order` and `sessions` hold the same entries.
//! Absent on purpose: sharing between contexts: a reload may have changed who is trusted.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;

/// See the module.
pub(super) struct Resumption {
    sessions_max: usize,
    timeout_ns: u64,
    clock_ns: fn() -> u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, Entry, ahash::RandomState>,
    /// Their keys, oldest first.
    order: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

struct Entry {
    number: u64,
    put_ns: u64,
    value: Vec<u8>,
}

impl Kept {
    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.sessions.remove(key)?;
        self.order.remove(&entry.number);
        Some(entry)
    }
}

impl Resumption {
    /// An empty table.
    pub(super) fn new(sessions_max: usize, timeout_seconds: u64, clock_ns: fn() -> u64) -> Resumption {
        let timeout_ns = timeout_seconds.saturating_mul(1_000_000_000);
        Resumption { sessions_max, timeout_ns, clock_ns, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked with the lock held has stopped the process; no half-made change is ever seen.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self, entry: &Entry) -> bool {
        (self.clock_ns)().saturating_sub(entry.put_ns) <= self.timeout_ns
    }
}

impl StoresServerSessions for Resumption {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let put_ns = (self.clock_ns)();
        let mut kept = self.kept();
        kept.remove(&key);
        while let Some((_, oldest)) = kept.order.first_key_value() {
            let full = self.sessions_max > 0 && kept.sessions.len() >= self.sessions_max;
            if !full && self.is_fresh(&kept.sessions[oldest]) {
                break;
            }
            let oldest = oldest.clone();
            kept.remove(&oldest);
        }
        let number = kept.next;
        kept.next += 1;
        kept.order.insert(number, key.clone());
        kept.sessions.insert(key, Entry { number, put_ns, value });
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().sessions.get(key).filter(|entry| self.is_fresh(entry)).map(|entry| entry.value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().remove(key).filter(|entry| self.is_fresh(entry)).map(|entry| entry.value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The entries are secrets.
        write!(f, "Resumption({} sessions)", self.kept().sessions.len())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW_NS: Cell<u64> = const { Cell::new(0) };
    }

    fn table(sessions_max: usize, seconds: u64) -> Resumption {
        Resumption::new(sessions_max, seconds, || NOW_NS.get())
    }

    fn put(table: &Resumption, key: u8) {
        table.put(vec![key], vec![key, key]);
    }

    #[test]
    fn the_oldest_session_makes_room_for_the_newest() {
        let table = table(3, 300);
        for key in 0..5 {
            put(&table, key);
        }
        let there: Vec<u8> = (0..5).filter(|key| table.get(&[*key]).is_some()).collect();
        assert_eq!(there, [2, 3, 4]);
        assert_eq!(table.take(&[3]), Some(vec![3, 3]));
        assert_eq!(table.take(&[3]), None, "a ticket is good for once");
        put(&table, 9);
        assert!(table.get(&[2]).is_some(), "there was room");
    }

    #[test]
    fn a_session_is_forgotten_after_the_timeout() {
        let table = table(0, 10);
        put(&table, 1);
        NOW_NS.set(10_000_000_000);
        assert!(table.get(&[1]).is_some());
        NOW_NS.set(10_000_000_001);
        assert!(table.get(&[1]).is_none());
        put(&table, 2);
        assert_eq!(table.kept().sessions.len(), 1, "what is too old does not stay");
        assert_eq!(table.kept().order.len(), 1);
    }

    #[test]
    fn the_same_key_again_takes_the_place_of_the_first() {
        let table = table(0, 10);
        put(&table, 1);
        table.put(vec![1], b"new".to_vec());
        assert_eq!(table.get(&[1]), Some(b"new".to_vec()));
        let kept = table.kept();
        assert_eq!((kept.sessions.len(), kept.order.len()), (1, 1));
    }
}
