//! One numbered database of one shard: its table of records, and what is counted about them.
//!
//! Every way to change a record goes through here, because four things must stay true together: the table's order, the
//! number of keys that expire, the bytes in records, and the lower bounds of expiry by which due keys are found.
//!
//! A command hashes its key once, asks [`Db::lookup_hashed`] and then holds either an [`EntryMut`] or a [`Vacant`]
//! place, both of which go on without a second search. Commands that run in batches call [`Db::prefetch`] for each key
//! first, then [`Db::prefetch_record`] for each, then run: the memory is on its way while other keys are handled. Of a
//! million keys, 16 at a time are found in half the time so.
//!
//! Belongs to one shard, on its core. Absent on purpose: a clock (a key that has expired is found like any other; the
//! caller, who knows the time, asks [`Entry::is_expired`]), notifications, and anything a client would see.

use std::collections::BTreeSet;

use super::expiry::ExpiryPass;
use super::packing::PackedCount;
use super::record::{Entry, Record, Slot};
use super::snapshot::CutWalk;
use super::table::{HashKey, Ruins, Spot, Table};
use super::value::{NewValue, Value};
use crate::base::time::Millis;
use crate::types::Object;

/// See the module's documentation.
pub struct Db<H = ahash::RandomState> {
    pub(super) table: Table<H>,
    /// Keys that have an expiry.
    pub(super) expires: usize,
    /// Bytes allocated for the records of the table and of the ruins, values included.
    pub(super) record_bytes: usize,
    /// Strings of the table that are kept compressed.
    pub(super) packed: PackedCount,
    pub(super) pass: ExpiryPass,
    /// What a snapshot has yet to write.
    pub(super) walk: CutWalk,
    /// Tables that were emptied and are being freed in slices.
    ruins: Vec<Ruins>,
    /// Large values that nobody can reach any more and that are being freed in slices.
    buried: Vec<Object>,
    /// Values and records that were freed in slices, up to now.
    freed_later: u64,
    /// For each value of which parts expire (fields of a hash), when the first does, and its key.
    parts: BTreeSet<(Millis, Box<[u8]>)>,
}

/// What a database takes, in allocated bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DbMemory {
    /// Directory, segments and slots.
    pub table_bytes: usize,
    /// Records with their keys and values. A blob that two records share counts twice.
    pub record_bytes: usize,
}

/// What a search found.
pub enum Lookup<'a, 'k, H = ahash::RandomState> {
    /// The key is there, expired or not.
    Found(EntryMut<'a, H>),
    /// It is not.
    Vacant(Vacant<'a, 'k, H>),
}

/// What was done to a value of which parts were due.
pub struct Parts<R> {
    /// Its key.
    pub key: Box<[u8]>,
    /// What the caller made of it.
    pub result: R,
    /// Whether it went away, key and all.
    pub dead: bool,
}

impl<H: HashKey> Db<H> {
    /// An empty database. All databases of a process share one hasher, seeded at random.
    pub fn new(hasher: H) -> Db<H> {
        Db {
            table: Table::new(hasher),
            expires: 0,
            record_bytes: 0,
            packed: PackedCount::default(),
            pass: ExpiryPass::default(),
            walk: CutWalk::default(),
            ruins: Vec::new(),
            buried: Vec::new(),
            freed_later: 0,
            parts: BTreeSet::new(),
        }
    }

    /// The hash that the `_hashed` variants want. The same in all databases of the process.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.table.hash(key)
    }

    /// Number of keys, expired ones that nobody has removed yet included (as DBSIZE counts).
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys that have an expiry.
    pub fn expires_len(&self) -> usize {
        self.expires
    }

    /// Finds a key, expired or not, without counting it as used.
    pub fn find(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.find_hashed(self.hash(key), key)
    }

    /// As [`Db::find`].
    #[inline]
    pub fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<Entry<'_>> {
        self.table.find(hash, key)
    }

    /// Finds a key, expired or not, to change it.
    pub fn find_mut(&mut self, key: &[u8]) -> Option<EntryMut<'_, H>> {
        self.find_mut_hashed(self.hash(key), key)
    }

    /// As [`Db::find_mut`].
    #[inline]
    pub fn find_mut_hashed(&mut self, hash: u64, key: &[u8]) -> Option<EntryMut<'_, H>> {
        let at = self.table.probe(hash, key).ok()?;
        Some(EntryMut { db: self, hash, at })
    }

    /// Finds a key or the place to insert it.
    #[inline]
    pub fn lookup<'k>(&mut self, key: &'k [u8]) -> Lookup<'_, 'k, H> {
        self.lookup_hashed(self.hash(key), key)
    }

    /// As [`Db::lookup`].
    #[inline]
    pub fn lookup_hashed<'k>(&mut self, hash: u64, key: &'k [u8]) -> Lookup<'_, 'k, H> {
        match self.table.probe(hash, key) {
            Ok(at) => Lookup::Found(EntryMut { db: self, hash, at }),
            Err(at) => Lookup::Vacant(Vacant { db: self, hash, key, at }),
        }
    }

    /// Stores a value, whether the key was there or not; true if it was.
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, expire: Option<Millis>, access: u32) -> bool {
        self.set_hashed(self.hash(key), key, value, expire, access)
    }

    /// As [`Db::set`].
    #[inline]
    pub fn set_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        value: NewValue<'_>,
        expire: Option<Millis>,
        access: u32,
    ) -> bool {
        match self.lookup_hashed(hash, key) {
            Lookup::Found(mut entry) => {
                entry.assign(value, expire, access);
                true
            }
            Lookup::Vacant(place) => {
                place.insert(value, expire, access);
                false
            }
        }
    }

    /// Takes a key out, expired or not. The record is freed when it is dropped, which takes long if its value is large.
    pub fn remove(&mut self, key: &[u8]) -> Option<Record> {
        self.remove_hashed(self.hash(key), key)
    }

    /// As [`Db::remove`].
    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> Option<Record> {
        Some(self.find_mut_hashed(hash, key)?.remove())
    }

    /// Puts a record in, under its own key, and hands out the one that was there.
    pub fn insert_record(&mut self, record: Record) -> Option<Record> {
        let hash = self.hash(record.key());
        let probed = self.table.probe(hash, record.key());
        match probed {
            Ok(at) => Some(EntryMut { db: self, hash, at }.replace(record)),
            Err(at) => {
                self.insert_at(at, hash, record);
                None
            }
        }
    }

    /// Sets, changes or takes away the expiry of a key; false if there is no such key.
    pub fn set_expire(&mut self, key: &[u8], expire: Option<Millis>) -> bool {
        match self.find_mut(key) {
            Some(mut entry) => {
                entry.set_expire(expire);
                true
            }
            None => false,
        }
    }

    /// Asks for the memory that a search for this hash will read first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.table.prefetch(hash);
    }

    /// Asks for the record that a search for this hash will find. To be called some 100 ns after [`Db::prefetch`].
    #[inline]
    pub fn prefetch_record(&self, hash: u64) {
        self.table.prefetch_record(hash);
    }

    /// One call of SCAN. Start with cursor 0, go on with what is returned (below 2^[`super::CURSOR_BITS`]), until that
    /// is 0. Every key that is there from start to end is visited, and only once unless the database shrinks in
    /// between. At least `count` keys are visited, if the slots that one call may look at hold as many; keys that have
    /// expired are passed over. A cursor that was not given out by a scan is as good as any: it is a position.
    pub fn scan(&self, cursor: u64, count: usize, now: Millis, mut visit: impl FnMut(Entry<'_>)) -> u64 {
        self.table.scan(cursor, count, |entry| {
            let live = !entry.is_expired(now);
            if live {
                visit(entry);
            }
            live
        })
    }

    /// A key, each with the same probability, expired ones included; none if there are no keys. `below(n)` draws
    /// uniformly from `0..n`.
    pub fn random(&self, below: impl FnMut(u64) -> u64) -> Option<Entry<'_>> {
        self.table.random(below)
    }

    /// Visits up to `count` keys that are neighbours by hash, from a random hash on: a cheap sample for eviction. Of keys that expire
    /// alone, if that is said; some may be visited twice then, if there are few.
    pub fn sample(&self, hash: u64, count: usize, expiring: bool, mut visit: impl FnMut(Entry<'_>)) {
        let mut left = count;
        let take = |entry: Entry<'_>| {
            if left > 0 {
                visit(entry);
            }
            left = left.saturating_sub(1);
            left > 0
        };
        if expiring { self.table.walk_expiring(hash, take) } else { self.table.walk_from(hash, take) }
    }

    /// What the database takes, in allocated bytes; counted all along, so it costs nothing to ask.
    pub fn memory(&self) -> DbMemory {
        DbMemory { table_bytes: self.table.bytes(), record_bytes: self.record_bytes }
    }

    /// The strings that are kept compressed.
    pub fn packed(&self) -> PackedCount {
        self.packed
    }

    /// Leaves an empty database behind and hands out the full one, which a snapshot may need: see [`super::Keyspace::take`].
    #[must_use]
    pub(super) fn take(&mut self) -> Db<H>
    where
        H: Clone,
    {
        let empty = Db::new(self.table.hasher().clone());
        std::mem::replace(self, empty)
    }

    /// Gives up a record that was taken out. If freeing its value would take long, that is left to [`Db::free_buried`].
    pub fn bury(&mut self, mut record: Record) {
        self.forget_parts(&record);
        if let Some(object) = record.take_object() {
            self.bury_object(*object);
        }
    }

    /// The record leaves: nothing in it is to be found by its deadline any more.
    fn forget_parts(&mut self, record: &Record) {
        if let Value::Object(object) = record.value()
            && let Some(due) = object.next_expiry()
        {
            self.parts.remove(&(due, record.key().into()));
        }
    }

    /// The first part of the value at `key` that expires is another one now, or expires at another time.
    pub fn note_parts(&mut self, key: &[u8], before: Option<Millis>, after: Option<Millis>) {
        if before != after {
            if let Some(due) = before {
                self.parts.remove(&(due, key.into()));
            }
            self.parts.extend(after.map(|due| (due, key.into())));
        }
    }

    /// When the first part of any value expires.
    pub fn next_part_expiry(&self) -> Option<Millis> {
        self.parts.first().map(|(due, _)| *due)
    }

    /// Lets `expire` at one value of which parts are due; none if there is none. It takes out what is due, or some of it.
    pub fn expire_parts<R>(&mut self, now: Millis, expire: impl FnOnce(&[u8], &mut Object) -> R) -> Option<Parts<R>> {
        let (due, key) = self.parts.first().filter(|(due, _)| *due <= now)?.clone();
        let entry = self.find_mut(&key);
        let mut entry = entry.expect("a value of which parts expire is in the database");
        let (result, after, dead) = entry
            .with_object(|object| (expire(&key, object), object.next_expiry(), object.is_dead()))
            .expect("only objects have parts that expire");
        if dead {
            entry.bury();
        }
        self.note_parts(&key, Some(due), after.filter(|_| !dead));
        Some(Parts { key, result, dead })
    }

    /// As [`Db::bury`], for a value that was taken out of its record, or a part of one.
    pub fn bury_object(&mut self, object: Object) {
        if object.parts() > Object::FREED_AT_ONCE_MAX {
            self.buried.push(object);
        }
    }

    /// Whether values that were buried wait to be freed.
    pub fn has_buried(&self) -> bool {
        !self.buried.is_empty()
    }

    /// Frees about so many elements of values that were buried; true if there are more.
    pub fn free_buried(&mut self, elements_max: usize) -> bool {
        if let Some(object) = self.buried.last_mut()
            && !object.free_some(elements_max)
        {
            self.buried.pop();
            self.freed_later += 1;
        }
        !self.buried.is_empty()
    }

    /// Values that were buried, and records of what was emptied, that wait to be freed.
    pub fn pending_free(&self) -> u64 {
        (self.buried.len() + self.ruins.iter().map(Ruins::len).sum::<usize>()) as u64
    }

    /// How many such were freed since this was last asked.
    pub fn take_freed(&mut self) -> u64 {
        std::mem::take(&mut self.freed_later)
    }

    /// Takes any record out of a database that is being emptied: no key can be found after the first call.
    pub fn take_any(&mut self) -> Option<Record>
    where
        H: Clone,
    {
        if !self.is_empty() {
            self.ruins.push(self.table.take_ruins());
            self.parts.clear();
            self.expires = 0;
            self.packed = PackedCount::default();
            self.pass = ExpiryPass::default();
        }
        while let Some(ruins) = self.ruins.last_mut() {
            match ruins.pop() {
                Some(record) => {
                    self.record_bytes -= record.bytes();
                    return Some(record);
                }
                None => {
                    self.ruins.pop();
                }
            }
        }
        None
    }

    /// Empties the database little by little: no key can be found after the first call, each call frees at most so many
    /// records or elements of a large value, and the result is whether there is more to free. FLUSHDB ASYNC takes the
    /// database and frees it so.
    pub fn free_slice(&mut self, records_max: usize) -> bool
    where
        H: Clone,
    {
        assert!(!self.is_in_snapshot(), "the snapshot has yet to write what is to be freed");
        if !self.is_empty() {
            self.ruins.push(self.table.take_ruins());
            self.parts.clear();
            self.expires = 0;
            self.packed = PackedCount::default();
            self.pass = ExpiryPass::default();
        }
        if self.free_buried(records_max) {
            return true;
        }
        let mut left = records_max;
        while let Some(ruins) = self.ruins.last_mut() {
            if left == 0 {
                return true;
            }
            match ruins.pop() {
                Some(record) => {
                    self.record_bytes -= record.bytes();
                    self.freed_later += 1;
                    self.bury(record);
                    if !self.buried.is_empty() {
                        return true;
                    }
                    left -= 1;
                }
                None => drop(self.ruins.pop()),
            }
        }
        false
    }

    /// Panics if something that must hold does not. Reads every record.
    pub fn check_invariants(&self) {
        self.table.check_invariants();
        let (mut expires, mut bytes, mut earliest, mut packed) = (0, 0, i64::MAX, 0);
        self.table.walk_from(0, |entry| {
            if let Some(at) = entry.expire_at() {
                expires += 1;
                earliest = earliest.min(at.0);
            }
            bytes += entry.bytes();
            packed += usize::from(matches!(entry.value(), Value::Packed(_)));
            true
        });
        assert_eq!(expires, self.expires, "the keys that expire were counted");
        assert_eq!(packed, self.packed.values, "so were packed strings");
        assert!(self.pass.earliest() <= earliest, "no key expires unnoticed");
        if self.ruins.is_empty() {
            assert_eq!(bytes, self.record_bytes, "the bytes of the records were counted");
        }
        self.check_stamps();
    }

    fn take_at(&mut self, at: Spot, hash: u64) -> Record {
        let leave = self.preserve(at, hash);
        let record = self.table.remove(at, hash, leave);
        self.record_bytes -= record.bytes();
        self.packed.take(PackedCount::of(&record));
        self.expires -= usize::from(record.expire_at().is_some());
        self.forget_parts(&record);
        record
    }

    fn insert_at(&mut self, at: Spot, hash: u64, mut record: Record) -> Spot {
        let leave = self.walk.stamp_new(hash, &mut record);
        self.record_bytes += record.bytes();
        self.packed.add(PackedCount::of(&record));
        if let Some(expire_at) = record.expire_at() {
            self.expires += 1;
            self.pass.note(expire_at);
        }
        if let Value::Object(object) = record.value() {
            self.note_parts(record.key(), None, object.next_expiry());
        }
        self.table.insert(at, hash, record, leave)
    }
}

/// When the first part of a value expires, if parts of it do.
fn part_expiry(value: Value<'_>) -> Option<Millis> {
    match value {
        Value::Object(object) => object.next_expiry(),
        Value::Int(_) | Value::Inline { .. } | Value::Blob(_) | Value::Packed(_) => None,
    }
}

/// A place where a key would be.
pub struct Vacant<'a, 'k, H = ahash::RandomState> {
    db: &'a mut Db<H>,
    hash: u64,
    key: &'k [u8],
    at: Spot,
}

impl<'a, H: HashKey> Vacant<'a, '_, H> {
    /// Inserts the key that was searched for.
    pub fn insert(self, value: NewValue<'_>, expire: Option<Millis>, access: u32) -> EntryMut<'a, H> {
        let record = Record::new(self.key, value, expire, access);
        let at = self.db.insert_at(self.at, self.hash, record);
        EntryMut { db: self.db, hash: self.hash, at }
    }
}

/// A key that was found, with the right to change it.
pub struct EntryMut<'a, H = ahash::RandomState> {
    db: &'a mut Db<H>,
    hash: u64,
    at: Spot,
}

impl<'a, H: HashKey> EntryMut<'a, H> {
    /// Whether the key has expired by now. Does not touch the memory of a record that never expires.
    #[inline]
    pub fn is_expired(&self, now: Millis) -> bool {
        let slot = self.db.table.slot(self.at);
        slot.expires() && slot.entry().is_some_and(|entry| entry.is_expired(now))
    }

    /// Gives the access word another value, and hands the entry out for reading as long as the database was borrowed for.
    #[inline]
    pub fn into_touched(self, touch: impl FnOnce(u32) -> u32) -> Entry<'a> {
        self.db.table.touched(self.at, touch)
    }

    /// The entry, for reading.
    #[inline]
    pub fn entry(&self) -> Entry<'_> {
        self.db.table.slot(self.at).entry().expect("an EntryMut is made for a full slot only")
    }

    /// The entry, for reading as long as the database was borrowed for.
    #[inline]
    pub fn into_entry(self) -> Entry<'a> {
        self.db.table.slot(self.at).entry().expect("an EntryMut is made for a full slot only")
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.entry().key()
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        self.entry().value()
    }

    /// When the key expires, if it does.
    #[inline]
    pub fn expire_at(&self) -> Option<Millis> {
        self.entry().expire_at()
    }

    /// The access word, 24 bits; see [`super::access`].
    #[inline]
    pub fn access(&self) -> u32 {
        self.entry().access()
    }

    /// Sets the access word, of which 24 bits are kept.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        self.db.table.set_access(self.at, access);
    }

    /// Replaces everything but the key. In place, without allocating, while the size class stays the same.
    #[inline]
    pub fn assign(&mut self, value: NewValue<'_>, expire: Option<Millis>, access: u32) {
        if !self.overwrite(&value, expire, access) {
            self.assign_anew(value, expire, access);
        }
    }

    #[inline(never)]
    fn assign_anew(&mut self, value: NewValue<'_>, expire: Option<Millis>, access: u32) {
        let before = part_expiry(self.value());
        let after = if let NewValue::Object(object) = &value { object.next_expiry() } else { None };
        self.note_parts(before, after);
        let old = self.change(|record| {
            let old = record.take_object();
            record.assign(value, expire, access);
            old
        });
        if let Some(object) = old {
            self.db.bury_object(*object);
        }
    }

    /// Lets `change` at the value, if it is an object; none if it is a string.
    #[inline]
    pub fn with_object<R>(&mut self, change: impl FnOnce(&mut Object) -> R) -> Option<R> {
        self.slot_to_change().with_object(change)
    }

    /// The slot, with the right to change what is in it: a snapshot that has yet to write it has done so. Every change of a
    /// record in its place begins here, but for its access word's.
    #[inline]
    fn slot_to_change(&mut self) -> &mut Slot {
        let leave = self.db.preserve(self.at, self.hash);
        self.db.table.slot_mut(self.at, leave)
    }

    fn note_parts(&mut self, before: Option<Millis>, after: Option<Millis>) {
        if before != after {
            let key: Box<[u8]> = self.key().into();
            self.db.note_parts(&key, before, after);
        }
    }

    /// Takes the key out and gives it up.
    pub fn bury(self) {
        let record = self.db.take_at(self.at, self.hash);
        self.db.bury(record);
    }

    /// Replaces the value. Expiry and access word stay.
    pub fn set_value(&mut self, value: NewValue<'_>) {
        let (expire, access) = (self.expire_at(), self.access());
        self.assign(value, expire, access);
    }

    /// Sets, changes or takes away the expiry.
    pub fn set_expire(&mut self, expire: Option<Millis>) {
        self.change(|record| record.set_expire(expire));
    }

    /// Appends to the string and returns its new length. See [`Record::append`].
    pub fn append(&mut self, tail: &[u8]) -> usize {
        self.change(|record| record.append(tail))
    }

    /// Hands the string out as a vector to change at will. See [`Record::with_blob_mut`].
    pub fn with_blob_mut<R>(&mut self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.change(|record| record.with_blob_mut(change))
    }

    /// Hands the string's bytes out to be overwritten within their length. See [`Record::with_bytes_mut`].
    pub fn with_bytes_mut<R>(&mut self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        self.change(|record| record.with_bytes_mut(change))
    }

    /// Puts another record with the same key in this one's place.
    fn replace(&mut self, record: Record) -> Record {
        self.note_parts(part_expiry(self.value()), part_expiry(record.value()));
        self.change(|old| old.replace(record))
    }

    /// Takes the key out.
    pub fn remove(self) -> Record {
        self.db.take_at(self.at, self.hash)
    }

    /// The short way of the commonest change: nothing of what is counted changes. False if it cannot be gone.
    #[inline]
    fn overwrite(&mut self, value: &NewValue<'_>, expire: Option<Millis>, access: u32) -> bool {
        let done = self.slot_to_change().overwrite(value, expire, access);
        if done && let Some(expire_at) = expire {
            self.db.pass.note(expire_at);
            self.db.table.note_expiry(self.at, expire_at);
        }
        done
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Record) -> R) -> R {
        let (result, before, after) = self.slot_to_change().update(|record| {
            let before = (record.bytes(), record.expire_at(), PackedCount::of(record));
            let result = change(record);
            (result, before, (record.bytes(), record.expire_at(), PackedCount::of(record)))
        });
        let db = &mut *self.db;
        db.record_bytes = db.record_bytes - before.0 + after.0;
        if before.2 != after.2 {
            db.packed.take(before.2);
            db.packed.add(after.2);
        }
        if before.1 != after.1 {
            db.expires = db.expires - usize::from(before.1.is_some()) + usize::from(after.1.is_some());
            if let Some(expire_at) = after.1 {
                db.pass.note(expire_at);
                db.table.note_expiry(self.at, expire_at);
            }
        }
        result
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use super::*;
    use crate::base::rng::Rng;

    /// Hashes that a test chooses: good ones, ones that differ in a few bits only, and ones that collide.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) enum Chosen {
        Uniform,
        /// So many of the top bits are the same for all keys.
        SharedTop(u32),
        /// Only so many of the top bits differ: many equal hashes.
        FewBits(u32),
        /// All the same.
        Same,
    }

    impl HashKey for Chosen {
        fn hash_key(&self, key: &[u8]) -> u64 {
            let folded =
                key.iter().fold(key.len() as u64, |sum, &byte| sum.wrapping_mul(257).wrapping_add(byte.into()));
            let good = Rng::seed(folded).next_u64();
            match self {
                Chosen::Uniform => good,
                Chosen::SharedTop(bits) => good >> bits | 0xa5a5_a5a5_a5a5_a5a5 << (64 - bits),
                Chosen::FewBits(bits) => good >> (64 - bits) << (64 - bits),
                Chosen::Same => u64::MAX,
            }
        }
    }

    pub(in super::super) const HASHES: [Chosen; 6] = [
        Chosen::Uniform,
        Chosen::SharedTop(3),
        Chosen::SharedTop(20),
        Chosen::FewBits(4),
        Chosen::FewBits(10),
        Chosen::Same,
    ];

    impl Chosen {
        /// So many keys at most, since with equal hashes each search compares all of them.
        pub(in super::super) fn at_most(self, keys: u64) -> u64 {
            match self {
                Chosen::Uniform | Chosen::SharedTop(..10) | Chosen::FewBits(10..) => keys,
                Chosen::SharedTop(_) | Chosen::FewBits(_) | Chosen::Same => keys.min(700),
            }
        }
    }

    const NOW: Millis = Millis(1000);

    fn key_of(number: u64) -> Vec<u8> {
        format!("key:{number}").into_bytes()
    }

    fn fill(db: &mut Db<Chosen>, keys: std::ops::Range<u64>) {
        for number in keys {
            db.set(&key_of(number), NewValue::Int(number as i64), None, 0);
        }
    }

    #[derive(Clone, PartialEq, Debug)]
    struct Model {
        text: Vec<u8>,
        expire: Option<Millis>,
        access: u32,
    }

    fn model_of(entry: Entry<'_>) -> Model {
        Model { text: entry.value().text().to_vec(), expire: entry.expire_at(), access: entry.access() }
    }

    /// Random operations over `keys` keys, in phases that grow and shrink, against a `HashMap`.
    fn check_against_model(seed: u64, hashes: Chosen, keys: u64, operations: usize) {
        let context = format!("seed {seed}, {hashes:?}, {keys} keys");
        let mut rng = Rng::seed(seed);
        let mut db = Db::new(hashes);
        let mut model: HashMap<Vec<u8>, Model> = HashMap::new();
        let mut removal_percent = 10;
        for operation in 0..operations {
            if operation % (operations / 8).max(1) == 0 {
                removal_percent = if rng.chance(1, 2) { 10 } else { 80 };
                db.check_invariants();
            }
            let key = key_of(rng.below(keys));
            let expire = rng.chance(1, 4).then(|| Millis(rng.range(0..=2000)));
            let access = rng.below(1 << 24) as u32;
            if rng.below(100) < removal_percent {
                let removed = db.remove(&key).map(|record| model_of(record.entry()));
                assert_eq!(removed, model.remove(&key), "{context}");
                continue;
            }
            let len = if rng.chance(1, 50) { rng.below(9000) } else { rng.below(60) };
            let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
            match rng.below(9) {
                0..=3 => {
                    let replaced = db.set(&key, NewValue::string(&bytes), expire, access);
                    let before = model.insert(key, Model { text: bytes, expire, access });
                    assert_eq!(replaced, before.is_some(), "{context}");
                }
                4 => {
                    assert_eq!(db.set_expire(&key, expire), model.contains_key(&key), "{context}");
                    model.entry(key).and_modify(|entry| entry.expire = expire);
                }
                5 => {
                    let entry = db.find_mut(&key);
                    assert_eq!(entry.is_some(), model.contains_key(&key), "{context}");
                    if let (Some(mut entry), Some(expected)) = (entry, model.get_mut(&key)) {
                        expected.text.extend_from_slice(&bytes);
                        expected.access = access;
                        assert_eq!(entry.append(&bytes), expected.text.len(), "{context}");
                        entry.set_access(access);
                        assert_eq!(model_of(entry.into_entry()), *expected, "{context}");
                    }
                }
                6 => match db.lookup(&key) {
                    Lookup::Found(mut entry) => {
                        entry.set_value(NewValue::Int(5));
                        model.entry(key).and_modify(|entry| entry.text = b"5".to_vec());
                    }
                    Lookup::Vacant(place) => {
                        place.insert(NewValue::Int(6), expire, access);
                        assert_eq!(model.insert(key, Model { text: b"6".to_vec(), expire, access }), None, "{context}");
                    }
                },
                7 => {
                    // RENAME.
                    let to = key_of(rng.below(keys));
                    if let Some(record) = db.remove(&key) {
                        let replaced = db.insert_record(record.with_key(&to));
                        let moved = model.remove(&key).expect("the model has what the database has");
                        let before = model.insert(to, moved);
                        assert_eq!(replaced.map(|record| model_of(record.entry())), before, "{context}");
                    }
                }
                _ => assert_eq!(db.find(&key).map(model_of), model.get(&key).cloned(), "{context}"),
            }
            assert_eq!(db.len(), model.len(), "{context}");
        }
        db.check_invariants();
        assert_eq!(db.expires_len(), model.values().filter(|entry| entry.expire.is_some()).count(), "{context}");
        let mut seen = HashMap::new();
        let end = db.scan(0, usize::MAX, Millis(i64::MIN), |entry| {
            assert!(seen.insert(entry.key().to_vec(), model_of(entry)).is_none(), "{context}: a key was seen twice");
        });
        assert_eq!((end, seen), (0, model), "{context}");
    }

    #[test]
    fn a_database_does_what_a_map_does() {
        if cfg!(miri) {
            return HASHES.into_iter().for_each(|hashes| check_against_model(1, hashes, 40, 300));
        }
        for seed in 0..4 {
            for hashes in HASHES {
                check_against_model(seed, hashes, 40, 800);
                check_against_model(seed, hashes, 900, 3000);
            }
        }
        for seed in 0..2 {
            check_against_model(seed, Chosen::Uniform, 20_000, 50_000);
        }
    }

    #[test]
    fn keys_and_values_of_every_boundary_length_live_side_by_side() {
        let lens = [0usize, 1, 7, 8, 9, 16, 39, 40, 44, 45, 1000, 4095, 4096, 4097, 65_534, 65_535, 70_000];
        let mut db = Db::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        for round in 0..2u8 {
            for key_len in lens {
                for value_len in lens {
                    let mut key = vec![b'k'; key_len];
                    key.truncate(key_len);
                    let value = vec![round; value_len];
                    db.set(&key, NewValue::string(&value), None, 0);
                    let found = db.find(&key).expect("it was set");
                    assert_eq!((found.key(), &*found.value().text()), (&key[..], &value[..]));
                }
            }
            db.check_invariants();
            assert_eq!(db.len(), lens.len());
        }
    }

    #[test]
    fn a_scan_returns_each_key_once_while_the_database_grows() {
        for hashes in HASHES {
            for count in [1, 7, 100, 1000] {
                let mut db = Db::new(hashes);
                fill(&mut db, 0..700);
                let mut seen = BTreeMap::new();
                let (mut cursor, mut next) = (0, 700);
                loop {
                    cursor = db.scan(cursor, count, NOW, |entry| *seen.entry(entry.key().to_vec()).or_insert(0) += 1);
                    if cursor == 0 {
                        break;
                    }
                    assert_eq!(cursor >> super::super::CURSOR_BITS, 0);
                    // Manyfold, in steps that fall between the scan's.
                    fill(&mut db, next..(next + 2 * count as u64).min(hashes.at_most(20_000)).max(next));
                    next = db.len() as u64;
                }
                for number in 0..700 {
                    assert_eq!(seen.get(&key_of(number)), Some(&1), "{hashes:?}, count {count}, key {number}");
                }
                assert!(seen.values().all(|&times| times == 1), "{hashes:?}, count {count}");
            }
        }
    }

    #[test]
    fn a_scan_misses_no_key_while_others_are_removed() {
        for hashes in HASHES {
            for seed in 0..2 {
                let mut rng = Rng::seed(seed);
                let mut db = Db::new(hashes);
                let keys = hashes.at_most(8000);
                fill(&mut db, 0..keys);
                let mut seen = BTreeSet::new();
                let mut cursor = 0;
                loop {
                    cursor = db.scan(cursor, 20, NOW, |entry| {
                        seen.insert(entry.key().to_vec());
                    });
                    if cursor == 0 {
                        break;
                    }
                    for _ in 0..60 {
                        // One key in sixteen stays throughout.
                        let number = rng.below(keys);
                        if !number.is_multiple_of(16) {
                            db.remove(&key_of(number));
                        }
                    }
                }
                db.check_invariants();
                for number in (0..keys).step_by(16) {
                    assert!(seen.contains(&key_of(number)), "{hashes:?}, seed {seed}, key {number}");
                }
            }
        }
    }

    #[test]
    fn a_scan_gives_at_least_the_count_and_not_much_more() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 0..50_000);
        for count in [1, 10, 100, 5000] {
            let (mut cursor, mut total) = (0, 0);
            loop {
                let mut visited = 0;
                cursor = db.scan(cursor, count, NOW, |_| visited += 1);
                total += visited;
                if cursor == 0 {
                    break;
                }
                assert!((count..count + 5).contains(&visited), "asked for {count}, got {visited}");
            }
            assert_eq!(total, 50_000);
        }
    }

    #[test]
    fn a_scan_from_any_cursor_ends() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 0..3000);
        for start in [1, 12_345, (1 << 39) + 7, (1 << 40) - 1, 1 << 40, u64::MAX] {
            let (mut cursor, mut calls) = (start, 0);
            while cursor != 0 {
                cursor = db.scan(cursor, 10, NOW, |_| ());
                calls += 1;
                assert!(calls < 1000, "from {start}");
            }
        }
    }

    #[test]
    fn a_scan_passes_over_what_has_expired_and_reads_no_more_than_its_share() {
        let mut db = Db::new(Chosen::Uniform);
        for number in 0..20_000 {
            db.set(&key_of(number), NewValue::Int(1), Some(Millis(number as i64)), 0);
        }
        let (mut cursor, mut seen, mut calls) = (0, 0, 0);
        loop {
            cursor = db.scan(cursor, 10, Millis(19_990), |_| seen += 1);
            calls += 1;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen, 10);
        assert!(calls > 20, "a call must not walk the whole table for ten keys: {calls} calls");
    }

    #[test]
    fn a_database_that_lost_its_keys_gives_the_memory_back() {
        for hashes in HASHES {
            let mut db = Db::new(hashes);
            let keys = hashes.at_most(20_000);
            fill(&mut db, 0..keys);
            let full = db.memory();
            for number in 0..keys / 10 * 9 {
                db.remove(&key_of(number));
            }
            db.check_invariants();
            let tenth = db.memory();
            assert!(tenth.table_bytes * 4 < full.table_bytes, "{hashes:?}: {full:?}, then {tenth:?}");
            for number in keys / 10 * 9..keys {
                db.remove(&key_of(number));
            }
            db.check_invariants();
            let empty = db.memory();
            assert_eq!(empty.record_bytes, 0);
            assert!(empty.table_bytes < full.table_bytes / 20 + 1000, "{hashes:?}: {full:?}, then {empty:?}");
        }
    }

    #[test]
    fn equal_hashes_do_not_make_the_directory_explode() {
        for hashes in [Chosen::Same, Chosen::FewBits(2), Chosen::SharedTop(40)] {
            let mut db = Db::new(hashes);
            fill(&mut db, 0..1500);
            db.check_invariants();
            // Homes are a run's start only: what all share the last one needs 32 slots per record to end in the array.
            assert!(db.memory().table_bytes < 1500 * 8 * 40, "{hashes:?}: {:?}", db.memory());
        }
    }

    #[test]
    fn random_draws_every_key_about_as_often() {
        for keys in [1, 2, 50, 3000] {
            let mut db = Db::new(Chosen::Uniform);
            fill(&mut db, 0..keys);
            let mut rng = Rng::seed(keys);
            let mut drawn = vec![0u32; keys as usize];
            for _ in 0..keys * 200 {
                let entry = db.random(|n| rng.below(n)).expect("there are keys");
                let Value::Int(number) = entry.value() else { panic!("only integers were stored") };
                drawn[number as usize] += 1;
            }
            // Each count is close to a normal distribution around 200 with a deviation of 14.
            let (least, most) = (drawn.iter().min(), drawn.iter().max());
            assert!(least > Some(&130) && most < Some(&280), "{keys} keys: {least:?} to {most:?}");
        }
    }

    #[test]
    fn random_finds_the_last_keys_of_a_database_that_was_large() {
        let mut db = Db::new(Chosen::Uniform);
        assert!(db.random(|_| 0).is_none());
        fill(&mut db, 0..30_000);
        for number in 3..30_000 {
            db.remove(&key_of(number));
        }
        let mut rng = Rng::seed(1);
        let mut drawn = [0; 3];
        for _ in 0..3000 {
            let entry = db.random(|n| rng.below(n)).expect("there are keys");
            let Value::Int(number) = entry.value() else { panic!("only integers were stored") };
            drawn[number as usize] += 1;
        }
        assert!(drawn.iter().all(|&times| times > 850), "{drawn:?}");
        // A source that always misses ends, too.
        assert!(db.random(|n| n - 1).is_some());
    }

    #[test]
    fn a_sample_has_the_size_asked_for_and_no_key_twice() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 0..2000);
        for hash in [0, 1 << 63, u64::MAX] {
            for count in [0, 1, 5, 1999, 2000, 5000] {
                let mut seen = BTreeSet::new();
                let mut visits = 0;
                db.sample(hash, count, false, |entry| {
                    visits += 1;
                    seen.insert(entry.key().to_vec());
                });
                assert_eq!((visits, seen.len()), (count.min(2000), count.min(2000)), "from {hash}");
            }
        }
    }

    #[test]
    fn a_sample_of_keys_that_expire_finds_them_however_few_they_are() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 0..5000);
        let expiring: BTreeSet<Vec<u8>> = [3, 777, 4999].map(key_of).into();
        for key in &expiring {
            db.set_expire(key, Some(NOW));
        }
        for hash in [0, 1 << 62, 1 << 63, u64::MAX] {
            let (mut seen, mut visits) = (BTreeSet::new(), 0);
            db.sample(hash, 5, true, |entry| {
                visits += 1;
                seen.insert(entry.key().to_vec());
            });
            assert_eq!(seen, expiring, "from {hash}");
            assert!((3..=5).contains(&visits), "{visits} from {hash}");
        }
        for key in &expiring {
            db.set_expire(key, None);
        }
        db.sample(0, 5, true, |entry| panic!("{:?} does not expire", entry.key()));
    }

    #[test]
    fn a_database_is_freed_in_slices() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 0..5000);
        db.set(b"expires", NewValue::Int(1), Some(NOW), 0);
        let mut old = db.take();
        assert_eq!((db.len(), old.len(), db.memory().record_bytes), (0, 5001, 0));
        let mut slices = 0;
        let mut before = old.memory().record_bytes;
        while old.free_slice(100) {
            slices += 1;
            assert!(old.memory().record_bytes < before);
            before = old.memory().record_bytes;
            assert_eq!((old.len(), old.expires_len(), old.earliest_expiry()), (0, 0, None));
            assert_eq!(old.pending_free(), 5001 - 100 * slices);
        }
        assert_eq!((old.pending_free(), old.take_freed(), old.take_freed()), (0, 5001, 0));
        assert_eq!((slices, old.memory().record_bytes), (50, 0));
        fill(&mut old, 0..10);
        old.check_invariants();
    }

    #[test]
    fn a_database_that_is_half_freed_can_be_dropped() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 0..5000);
        assert!(db.free_slice(1234));
    }

    #[test]
    fn prefetching_is_only_a_hint() {
        let mut db = Db::new(Chosen::Uniform);
        for keys in [0, 10, 5000] {
            fill(&mut db, 0..keys);
            for number in 0..100 {
                let hash = db.hash(&key_of(number));
                db.prefetch(hash);
                db.prefetch_record(hash);
                assert_eq!(db.find_hashed(hash, &key_of(number)).is_some(), number < keys);
            }
        }
    }
}
