//! One shard's keys: how they are found, how they change, how they die.
//!
//! ```text
//!   Keyspace ── Db 0 ── Table ── Segment ── Slot ── Record: key, value, expiry, access word
//!            ├─ Db 1      │         └ a few hundred slots, sorted by hash
//!            ┆            └ directory of segments; splits and merges them
//! ```
//!
//! Each shard owns one [`Keyspace`] on its core, and nobody else touches it. Start reading at [`table`] (how a table
//! that never stalls works), then [`record`] (how a key fits in 48 bytes), then [`db`] (what others call). How all of it is written
//! down as it was at one instant is told in [`snapshot`].
//!
//! Invariants: a key is in a database at most once; counters of keys, expiring keys and bytes are exact at every return.
//! Unsafe code is in `record` alone.
//!
//! Absent on purpose: clocks, randomness, sockets, other shards. What has expired by the clock stays until somebody who
//! knows the time takes it out.

pub mod access;
pub mod db;
pub mod expiry;
mod lookahead;
pub mod packing;
pub mod record;
mod segment;
mod size_class;
pub mod snapshot;
pub mod table;
pub mod value;

pub use db::{Db, DbMemory, EntryMut, Lookup, Parts, Vacant};
pub use expiry::ExpireProgress;
pub use lookahead::Lookahead;
pub use packing::{PackPass, PackedCount};
pub use record::{Entry, INLINE_BYTES_MAX, Record};
pub use snapshot::{EntrySink, SnapshotBudget, SnapshotProgress};
pub use table::{CURSOR_BITS, HashKey};
pub use value::{EMBSTR_BYTES_MAX, NewValue, Text, Value};

use crate::base::DbIndex;
use snapshot::Snapshot;

/// The numbered databases of one shard.
pub struct Keyspace {
    dbs: Vec<Db>,
    snapshot: Snapshot,
}

impl Keyspace {
    /// So many empty databases. The hasher is seeded at random once per process.
    pub fn new(databases: usize, hasher: &ahash::RandomState) -> Keyspace {
        Keyspace { dbs: (0..databases).map(|_| Db::new(hasher.clone())).collect(), snapshot: Snapshot::default() }
    }

    /// The hash of a key: the same in all databases of all shards of the process.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.dbs[0].hash(key)
    }

    /// A database. Panics if the index is not below the number of databases, which SELECT checks.
    #[inline]
    pub fn db(&self, index: DbIndex) -> &Db {
        &self.dbs[index.index()]
    }

    /// As [`Keyspace::db`], to change it.
    #[inline]
    pub fn db_mut(&mut self, index: DbIndex) -> &mut Db {
        &mut self.dbs[index.index()]
    }

    /// All databases, by index.
    pub fn dbs(&self) -> &[Db] {
        &self.dbs
    }

    /// All databases, by index, to change them.
    pub fn dbs_mut(&mut self) -> &mut [Db] {
        &mut self.dbs
    }

    /// Two databases at once (MOVE, COPY). Panics if they are the same.
    pub fn two_mut(&mut self, a: DbIndex, b: DbIndex) -> (&mut Db, &mut Db) {
        let pair = self.dbs.get_disjoint_mut([a.index(), b.index()]);
        let [a, b] = pair.expect("the caller asks for two different databases that exist");
        (a, b)
    }

    /// Whether anything expires: keys, or parts of values.
    pub fn has_expiry(&self) -> bool {
        self.dbs.iter().any(|db| db.expires_len() > 0 || db.next_part_expiry().is_some())
    }

    /// Whether large values wait to be freed.
    pub fn has_buried(&self) -> bool {
        self.dbs.iter().any(Db::has_buried)
    }

    /// Frees about so many elements of them; true if there are more.
    pub fn free_buried(&mut self, elements_max: usize) -> bool {
        self.dbs.iter_mut().find(|db| db.has_buried()).is_some_and(|db| db.free_buried(elements_max))
            || self.has_buried()
    }

    /// Large values that wait to be freed.
    pub fn pending_free(&self) -> u64 {
        self.dbs.iter().map(Db::pending_free).sum()
    }

    /// How many were freed since this was last asked.
    pub fn take_freed(&mut self) -> u64 {
        self.dbs.iter_mut().map(Db::take_freed).sum()
    }

    /// Empties a database and hands out what was in it, unless a snapshot has yet to write that: then it stays here until
    /// [`Keyspace::take_released`].
    #[must_use]
    pub fn take(&mut self, index: DbIndex) -> Option<Db> {
        let taken = self.db_mut(index).take();
        self.snapshot.keep(taken)
    }

    /// Exchanges two databases (SWAPDB). Does nothing if they are the same.
    pub fn swap(&mut self, a: DbIndex, b: DbIndex) {
        self.dbs.swap(a.index(), b.index());
    }

    /// Number of keys in all databases.
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Db::len).sum()
    }

    /// Whether no database has a key.
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(Db::is_empty)
    }

    /// Number of keys that expire, in all databases.
    pub fn expires_len(&self) -> usize {
        self.dbs.iter().map(Db::expires_len).sum()
    }

    /// The strings of all databases that are kept compressed.
    pub fn packed(&self) -> PackedCount {
        self.dbs.iter().map(Db::packed).fold(PackedCount::default(), PackedCount::with)
    }

    /// What all databases take, in allocated bytes.
    pub fn memory(&self) -> DbMemory {
        self.dbs.iter().map(Db::memory).fold(DbMemory::default(), |sum, db| DbMemory {
            table_bytes: sum.table_bytes + db.table_bytes,
            record_bytes: sum.record_bytes + db.record_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;

    const ZERO: DbIndex = DbIndex(0);
    const NINE: DbIndex = DbIndex(9);

    fn keyspace() -> Keyspace {
        Keyspace::new(16, &ahash::RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn databases_are_apart_and_can_be_exchanged() {
        let mut keyspace = keyspace();
        keyspace.db_mut(ZERO).set(b"key", NewValue::Int(1), Some(Millis(5)), 0);
        assert!(keyspace.db(ZERO).find(b"key").is_some() && keyspace.db(NINE).find(b"key").is_none());
        keyspace.swap(ZERO, NINE);
        keyspace.swap(ZERO, ZERO);
        assert!(keyspace.db(ZERO).find(b"key").is_none() && keyspace.db(NINE).find(b"key").is_some());
        assert_eq!((keyspace.len(), keyspace.expires_len(), keyspace.is_empty()), (1, 1, false));
        assert_eq!(keyspace.memory().record_bytes, 32);
    }

    #[test]
    fn a_record_moves_from_one_database_to_another() {
        let mut keyspace = keyspace();
        keyspace.db_mut(ZERO).set(b"key", NewValue::string(b"value"), None, 7);
        let (from, to) = keyspace.two_mut(ZERO, NINE);
        let record = from.remove(b"key").expect("it was set");
        assert!(to.insert_record(record).is_none());
        assert_eq!(
            to.find(b"key").map(|entry| (entry.value().text().to_vec(), entry.access())),
            Some((b"value".to_vec(), 7))
        );
        from.check_invariants();
        to.check_invariants();
    }

    #[test]
    fn an_empty_keyspace_takes_next_to_nothing() {
        // A server of 64 shards has 1024 databases.
        assert!(keyspace().memory().table_bytes <= 16 * 160, "{:?}", keyspace().memory());
    }

    #[test]
    fn a_keyspace_may_be_built_on_one_thread_and_used_on_another() {
        fn send<T: Send>() {}
        send::<Keyspace>();
        send::<Record>();
    }
}
