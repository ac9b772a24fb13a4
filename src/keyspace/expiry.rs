//! Finding the keys that are due, without looking at the others.
//!
//! Each segment knows a lower bound of its records' expiry, and so does the database. Nothing is done before the
//! database's bound has passed. From then on a *pass* walks over the segments in the order of their hashes, in slices
//! of bounded work, and opens those whose bound has passed; that makes their bounds exact. When the pass has gone round, the
//! smallest of them is the database's new bound.
//!
//! ```text
//!   segments   [ – ][ 12:07 ][ – ][ 12:01 ][ 14:30 ][ – ] …      now 12:05: the fourth is opened, the others are not
//!                              └ the pass goes on here next time
//! ```
//!
//! A bound may be too early (the key that set it was deleted or persisted, or went to the other half in a split): the
//! price is one look. It is never too late.
//!
//! Opening a segment reads all its records that expire. If a database of a million keys loses ten a second, most looks
//! find one due key among hundreds. Callers who give less work per second make the pass slower, and each look finds
//! more: memory for CPU, as in Redis.
//!
//! Absent on purpose: lazy expiry on access (the caller sees [`super::Entry::is_expired`]), timers, notifications.

use super::db::Db;
use super::packing::PackedCount;
use super::record::Record;
use super::table::HashKey;
use crate::base::time::Millis;

/// Reading one record costs as much as reading so many segment headers.
const HEADERS_PER_RECORD: usize = 4;

/// How many keys the mean time to live is estimated from, and how many may be looked at to find them.
const TTL_SAMPLE: usize = 32;
const TTL_SAMPLE_KEYS_MAX: usize = 256;

/// Where the walk over the segments is, and what it has learned.
#[derive(Clone, Copy)]
pub(super) struct ExpiryPass {
    /// The first hash that has not been looked at.
    position: u64,
    /// Lower bound of the expiry of all keys, i64::MAX if none expires.
    earliest: i64,
    /// The same for the keys before `position` and all that were noted since the pass began.
    earliest_seen: i64,
}

impl Default for ExpiryPass {
    fn default() -> ExpiryPass {
        ExpiryPass { position: 0, earliest: i64::MAX, earliest_seen: i64::MAX }
    }
}

impl ExpiryPass {
    pub(super) fn earliest(&self) -> i64 {
        self.earliest
    }

    /// To be told of every expiry that any record gets.
    pub(super) fn note(&mut self, expire_at: Millis) {
        self.earliest = self.earliest.min(expire_at.0);
        self.earliest_seen = self.earliest_seen.min(expire_at.0);
    }
}

/// What one slice of a pass has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpireProgress {
    /// Keys taken out.
    pub expired: usize,
    /// Records looked at.
    pub examined: usize,
    /// Whether the budget ended before the work did.
    pub more: bool,
}

impl<H: HashKey> Db<H> {
    /// Takes out keys that have expired, shows their records to `on_expired`, gives them up, and stops after about `budget` records
    /// were looked at (the segment that is open then is finished: up to 812 more). Goes on where the last call
    /// stopped.
    pub fn expire_due(&mut self, now: Millis, budget: usize, mut on_expired: impl FnMut(&Record)) -> ExpireProgress {
        let mut progress = ExpireProgress::default();
        let mut headers = 0;
        let mut graves = Vec::new();
        while self.pass.earliest < now.0 {
            if progress.examined + headers / HEADERS_PER_RECORD >= budget {
                progress.more = true;
                break;
            }
            let (mut expires, mut bytes) = (0, 0);
            let packed = &mut self.packed;
            let walk = &mut self.walk;
            let visited = self.table.expire_due_at(self.pass.position, now, |record, hasher| {
                expires += 1;
                bytes += record.bytes();
                packed.take(PackedCount::of(&record));
                on_expired(&record);
                let leave = walk.preserve_expired(&record, hasher);
                graves.push(record);
                leave
            });
            for record in graves.drain(..) {
                self.bury(record);
            }
            self.expires -= expires;
            self.record_bytes -= bytes;
            headers += 1;
            progress.expired += visited.expired;
            progress.examined += visited.examined;
            self.pass.earliest_seen = self.pass.earliest_seen.min(visited.earliest);
            self.pass.position = visited.next.unwrap_or(0);
            if visited.next.is_none() {
                // Once around. What has become due behind the pass is for the next call: this one must end.
                self.pass.earliest = std::mem::replace(&mut self.pass.earliest_seen, i64::MAX);
                progress.more = self.pass.earliest < now.0;
                break;
            }
        }
        progress
    }

    /// No key expires before this. None if no key expires, so there is nothing to wake up for.
    pub fn earliest_expiry(&self) -> Option<Millis> {
        (self.pass.earliest < i64::MAX && self.expires_len() > 0).then_some(Millis(self.pass.earliest))
    }

    /// Estimates the mean time to live of the keys that expire, in milliseconds, from a few of them; 0 if none does.
    pub fn avg_ttl(&self, now: Millis) -> i64 {
        if self.expires_len() == 0 {
            return 0;
        }
        let (mut sum, mut sampled, mut seen) = (0i128, 0, 0);
        // Any place will do, as hashes are random; the pass's moves with time.
        self.table.walk_from(self.pass.position, |entry| {
            seen += 1;
            if let Some(at) = entry.expire_at() {
                sum += i128::from(at.0.saturating_sub(now.0).max(0));
                sampled += 1;
            }
            sampled < TTL_SAMPLE && seen < TTL_SAMPLE_KEYS_MAX
        });
        i64::try_from(sum / (sampled.max(1) as i128)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::keyspace::NewValue;

    fn key_of(number: usize) -> Vec<u8> {
        format!("key:{number}").into_bytes()
    }

    fn db_of(expiries: &[Option<i64>]) -> Db {
        let mut db = Db::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        for (number, at) in expiries.iter().enumerate() {
            db.set(&key_of(number), NewValue::Int(1), at.map(Millis), 0);
        }
        db
    }

    /// Runs passes until nothing is left to do; returns how many records were looked at.
    fn expire_all(db: &mut Db, now: i64, budget: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut gone, mut examined) = (Vec::new(), 0);
        loop {
            let progress = db.expire_due(Millis(now), budget, |record| gone.push(record.key().to_vec()));
            examined += progress.examined;
            if !progress.more {
                return (gone, examined);
            }
        }
    }

    #[test]
    fn exactly_the_keys_that_are_due_are_taken_out() {
        for seed in 0..10 {
            let mut rng = Rng::seed(seed);
            let keys = 1 + rng.below(20_000) as usize;
            let expiries: Vec<_> = (0..keys).map(|_| rng.chance(1, 3).then(|| rng.range(0..=10_000))).collect();
            let mut db = db_of(&expiries);
            let mut now = 0;
            while now < 11_000 {
                now += rng.range(1..=4000);
                let budget = 1 + rng.below(500) as usize;
                let (gone, _) = expire_all(&mut db, now, budget);
                assert!(gone.iter().all(|key| db.find(key).is_none()));
                db.check_invariants();
                for (number, at) in expiries.iter().enumerate() {
                    let due = at.is_some_and(|at| at < now);
                    assert_eq!(db.find(&key_of(number)).is_none(), due, "seed {seed}, key {number} at {now}");
                }
            }
            assert_eq!((db.expires_len(), db.earliest_expiry()), (0, None));
        }
    }

    #[test]
    fn a_key_that_expires_now_has_not_expired_yet() {
        let mut db = db_of(&[Some(100)]);
        assert_eq!(expire_all(&mut db, 100, 100).0.len(), 0);
        assert_eq!(expire_all(&mut db, 101, 100).0.len(), 1);
    }

    #[test]
    fn nothing_is_looked_at_before_something_is_due() {
        let mut db = db_of(&vec![Some(5000); 10_000]);
        assert_eq!(db.expire_due(Millis(5000), 1000, |_| ()), ExpireProgress::default());
        assert_eq!(db.earliest_expiry(), Some(Millis(5000)));
    }

    #[test]
    fn only_segments_with_something_due_are_opened() {
        let mut db = db_of(&vec![Some(5000); 50_000]);
        db.set_expire(&key_of(77), Some(Millis(10)));
        let (gone, examined) = expire_all(&mut db, 11, 1000);
        assert_eq!(gone, [key_of(77)]);
        assert!(examined <= 896, "{examined} records were looked at for one that was due");
        assert_eq!(db.earliest_expiry(), Some(Millis(5000)));
    }

    #[test]
    fn one_call_does_not_exceed_its_budget_by_more_than_a_segment() {
        let mut db = db_of(&vec![Some(10); 50_000]);
        let progress = db.expire_due(Millis(11), 1000, |_| ());
        assert!((1000..1896).contains(&progress.examined), "{progress:?}");
        assert_eq!(progress.expired, progress.examined);
        assert!(progress.more);
        assert_eq!(db.len(), 50_000 - progress.expired);
    }

    #[test]
    fn keys_that_get_an_expiry_behind_the_pass_are_found_by_the_next() {
        for seed in 0..20 {
            let mut rng = Rng::seed(seed);
            let mut db = db_of(&vec![Some(10); 5000]);
            let mut now = 11;
            for number in 0..3000 {
                db.expire_due(Millis(now), 1 + rng.below(200) as usize, |_| ());
                let at = Millis(now + rng.range(-5..=50));
                match rng.below(3) {
                    0 => drop(db.set_expire(&key_of(rng.below(5000) as usize), Some(at))),
                    1 => drop(db.set(&key_of(6000 + number), NewValue::Int(1), Some(at), 0)),
                    _ => drop(db.remove(&key_of(rng.below(9000) as usize))),
                }
                now += rng.range(0..=3);
            }
            db.check_invariants();
            expire_all(&mut db, now + 1000, 300);
            assert_eq!((db.expires_len(), db.earliest_expiry()), (0, None), "seed {seed}");
            db.check_invariants();
        }
    }

    #[test]
    fn the_mean_time_to_live_is_about_right_and_never_negative() {
        assert_eq!(db_of(&[None; 100]).avg_ttl(Millis(0)), 0);
        assert_eq!(db_of(&[Some(500); 1000]).avg_ttl(Millis(200)), 300);
        assert_eq!(db_of(&[Some(500); 1000]).avg_ttl(Millis(900)), 0);
        assert_eq!(db_of(&[Some(i64::MAX); 100]).avg_ttl(Millis(-1)), i64::MAX);
    }
}
