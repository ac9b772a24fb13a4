//! Keys of this shard that clients watch (WATCH), each with a version that every change counts up.
//!
//! A client that watches a key is told its version and comes back with it at EXEC: if the version is still the same, nothing has
//! touched the key. The shard does not know who watches, only how many do, so a change costs one search, and nothing at all
//! while no key of the shard is watched.
//!
//! Belongs to its shard. Invariant: a key is here while at least one client watches it; versions are never used twice, so that one
//! from before a key was forgotten is not mistaken for a later one. Absent on purpose: the clients' lists (`session`).

use std::collections::HashMap;

use super::waiters::Place;
use crate::base::DbIndex;

struct Watch {
    version: u64,
    watchers: u32,
}

/// See the module.
#[derive(Default)]
pub struct Watched {
    keys: HashMap<Place, Watch, ahash::RandomState>,
    last_version: u64,
}

impl Watched {
    /// Whether no key is watched.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// One more client watches a key. Returns the key's version.
    pub fn watch(&mut self, db: DbIndex, key: &[u8]) -> u64 {
        let watch = self.keys.entry((db, key.to_vec())).or_insert_with(|| {
            self.last_version += 1;
            Watch { version: self.last_version, watchers: 0 }
        });
        watch.watchers += 1;
        watch.version
    }

    /// A client does not watch a key any more.
    pub fn forget(&mut self, db: DbIndex, key: &[u8]) {
        let place = (db, key.to_vec());
        let watch = self.keys.get_mut(&place).expect("only what is watched is forgotten");
        watch.watchers -= 1;
        if watch.watchers == 0 {
            self.keys.remove(&place);
        }
    }

    /// Whether a watched key has still this version.
    pub fn is_unchanged(&self, db: DbIndex, key: &[u8], version: u64) -> bool {
        self.keys.get(&(db, key.to_vec())).is_some_and(|watch| watch.version == version)
    }

    /// To be told of each change of a key.
    #[inline]
    pub fn touch(&mut self, db: DbIndex, key: &[u8]) {
        if !self.keys.is_empty() {
            self.touch_watched(db, key);
        }
    }

    #[cold]
    fn touch_watched(&mut self, db: DbIndex, key: &[u8]) {
        if let Some(watch) = self.keys.get_mut(&(db, key.to_vec())) {
            self.last_version += 1;
            watch.version = self.last_version;
        }
    }

    /// Touches the watched keys of a database for which `changes` says so.
    pub fn touch_db(&mut self, db: DbIndex, changes: impl Fn(&[u8]) -> bool) {
        for (_, watch) in self.keys.iter_mut().filter(|(place, _)| place.0 == db && changes(&place.1)) {
            self.last_version += 1;
            watch.version = self.last_version;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: DbIndex = DbIndex(0);

    #[test]
    fn a_change_is_seen_by_all_who_watched_before_it_and_by_nobody_after() {
        let mut watched = Watched::default();
        let before = watched.watch(DB, b"k");
        assert!(watched.is_unchanged(DB, b"k", before));
        watched.touch(DB, b"other");
        watched.touch(DbIndex(1), b"k");
        assert!(watched.is_unchanged(DB, b"k", before));
        watched.touch(DB, b"k");
        let after = watched.watch(DB, b"k");
        assert!(!watched.is_unchanged(DB, b"k", before) && watched.is_unchanged(DB, b"k", after));
    }

    #[test]
    fn a_version_is_not_given_out_again_when_a_key_was_forgotten() {
        let mut watched = Watched::default();
        let old = watched.watch(DB, b"k");
        watched.forget(DB, b"k");
        assert!(watched.is_empty() && !watched.is_unchanged(DB, b"k", old));
        assert_ne!(watched.watch(DB, b"k"), old);
    }
}
