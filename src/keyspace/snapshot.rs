//! The databases of one shard as they were at one instant, the cut, written out in slices while clients go on changing them:
//! a snapshot without fork.
//!
//! # How it works
//! The table is sorted by hash, so a walk over it has a position, and stays in order whatever splits, merges or shrinks
//! meanwhile. What lies before the position is written; whoever changes it is none of the walk's business. What lies ahead is
//! written by whoever comes first: the walk, or the first change.
//!
//! ```text
//!    hash 0                     position                                  2^64
//!      [ written, free to change    │    ·   ·   ✓   ·   ·   ✓   ✓   ·    ]
//!                                   │            └───────────┴───┴ stamped: written before its first change,
//!                                   └ the walk goes on here           or made after the cut
//! ```
//!
//! A record ahead that has been written early carries a *stamp*, two bits in its head that were free, and so does one that was
//! made after the cut: it is not part of it. The walk passes over stamped records and takes the stamp off, so when it has come
//! to the end there is none left. A record that is removed ahead is written first, and leaves nothing to be remembered.
//!
//! So the bookkeeping costs no memory at all, however many keys change, come or go: what grows is the output that nobody has
//! taken away yet. Records with equal hashes are told apart by their stamps, and a record that moves (to another slot by a
//! split, to another block because it has grown) takes its stamp along.
//!
//! *Rejected*: a set of the hashes that are ahead and done (16 bytes per key that changes, a tenth of the data or more, and
//! equal hashes need care); a version per segment, as others have per bucket (the first change in a segment would write all
//! its 800 records: a pause of half a millisecond in a command of one microsecond); marking records the other way round, so
//! that the walk marks what it has written (it would make every cache line of the keyspace dirty).
//!
//! # Who sees to it
//! A table gives no record away to be changed, takes none out and puts none in without a [`Leave`], and only this file makes
//! one, where it preserves the record. [`EntryMut`](super::EntryMut) and [`Db`] ask for it, active expiry included; so there is
//! no way for a command to forget it. While no snapshot runs, a leave costs one comparison of the key's hash with a number that none
//! reaches. The access word alone may change unseen: the cut has the latest.
//!
//! # What becomes of databases
//! The walk belongs to the [`Db`], with the index that it had at the cut. SWAPDB takes it along. A database that is emptied
//! whole (FLUSHALL) is kept by the [`Keyspace`] until it is written, and handed out to be freed then.
//!
//! # Giving up
//! [`Keyspace::abort_snapshot`] is instant. Stamps that are left ahead of the position are swept away by further calls of
//! [`Keyspace::snapshot_step`]. The next snapshot need not wait for that: it has another stamp, to which those say nothing,
//! and takes off all that it meets. There are three stamps; should three snapshots in a row have been given up before any
//! sweep came to its end, the fourth sweeps before it begins, which takes some 20 ns per key.
//!
//! # Limits
//! - An entry is written in one go, by the walk or by the command that changes it: a list of 10 M elements holds its shard up
//!   for as long as it takes to encode it. So do records with equal tags, which takes equal hashes to be many.
//! - Commands write entries whether somebody takes the output away or not. If the disk is slower than clients are, the
//!   output grows, to the size of the cut at worst. [`Keyspace::snapshot_waiting_bytes`] says how much waits: the driver may
//!   pause the walk, or hold commands up.
//!
//! Owned by the shard, on its core. Absent on purpose: files, the format of an entry ([`EntrySink`]), a clock of its own.

use std::sync::Arc;

use super::db::Db;
use super::record::{Entry, Record, Slot};
use super::table::{HashKey, Spot};
use super::{DbIndex, Keyspace};
use crate::base::time::Millis;

/// How entries become bytes.
pub trait EntrySink: Send + Sync {
    /// What stands before entries of this database. Said again after entries of others, and after output was taken.
    fn database(&self, db: DbIndex, out: &mut Vec<u8>);

    /// One entry of it, as it was at the cut. Key, value, expiry and access word are all there is to it.
    fn entry(&self, entry: Entry<'_>, out: &mut Vec<u8>);
}

/// Where a step ends, at the latest. It does at least something, and goes beyond by one entry at most (more if there are many
/// with equal hashes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotBudget {
    /// So many entries were looked at. What is passed over counts, too.
    pub entries: usize,
    /// So many bytes were written.
    pub bytes: usize,
    /// So much time has passed, in nanoseconds. The clock is read every [`ENTRIES_PER_LOOK`] entries or [`BYTES_PER_LOOK`]
    /// bytes.
    pub nanos: u64,
}

/// See [`SnapshotBudget::nanos`]: about a microsecond's work, of which reading the clock is a fiftieth.
const ENTRIES_PER_LOOK: usize = 16;
/// See above.
const BYTES_PER_LOOK: usize = 4096;

/// What a step has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotProgress {
    /// There is more to do.
    More,
    /// All is written, though perhaps not taken away. Or there was nothing to do.
    Done,
}

/// What is left of a budget.
struct Purse {
    entries: usize,
    bytes: usize,
    deadline_ns: u64,
    clock_ns: fn() -> u64,
    entries_to_look: usize,
    bytes_to_look: usize,
    is_empty: bool,
}

impl Purse {
    fn new(budget: SnapshotBudget, clock_ns: fn() -> u64) -> Purse {
        Purse {
            entries: budget.entries,
            bytes: budget.bytes,
            deadline_ns: clock_ns().saturating_add(budget.nanos),
            clock_ns,
            entries_to_look: ENTRIES_PER_LOOK,
            bytes_to_look: BYTES_PER_LOOK,
            is_empty: false,
        }
    }

    /// Accounts for one entry, or one segment. Whether there is something left.
    fn spend(&mut self, bytes: usize) -> bool {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.entries_to_look -= 1;
        self.bytes_to_look = self.bytes_to_look.saturating_sub(bytes);
        if self.entries_to_look == 0 || self.bytes_to_look == 0 {
            (self.entries_to_look, self.bytes_to_look) = (ENTRIES_PER_LOOK, BYTES_PER_LOOK);
            self.is_empty |= (self.clock_ns)() >= self.deadline_ns;
        }
        self.is_empty |= self.entries == 0 || self.bytes == 0;
        !self.is_empty
    }
}

/// The leave to change one record, or to put one in, or to take one out: whatever runs has preserved it. Made in this file
/// alone, and there is no way to the records of a table without one, except to read them.
#[must_use]
pub(super) struct Leave(());

/// What a database knows about the snapshot that runs, or about what earlier ones have left in it.
pub(super) struct CutWalk {
    /// The first hash that the walk has not passed: records from here on are preserved. `u64::MAX` when no walk runs, which a
    /// hash may be, too: what is behind the comparison asks again.
    ahead_from: u64,
    /// The stamp of the present snapshot, or of the last one: 1, 2 or 3.
    stamp: u8,
    /// That many of the last stamps may still be found in the table, though their snapshots are over.
    stale: u8,
    state: State,
}

enum State {
    Idle,
    /// A snapshot runs, and has something to write here.
    Walking(Box<Cut>),
    /// Stamps that a snapshot has left are taken off; none is before this hash.
    Sweeping(u64),
}

/// The cut of one database.
struct Cut {
    /// The index that the database had.
    db: DbIndex,
    /// When it was. What had expired then is no part of it.
    at: Millis,
    sink: Arc<dyn EntrySink>,
    out: Vec<u8>,
    written: u64,
    /// Whether there is a stamp in the table, or was.
    has_stamped: bool,
}

/// How many stamps there are. The two bits have one more value, for none.
const STAMPS: u8 = 3;

impl Cut {
    fn write(&mut self, entry: Entry<'_>) {
        if !entry.is_expired(self.at) {
            if self.out.is_empty() {
                self.sink.database(self.db, &mut self.out);
            }
            self.sink.entry(entry, &mut self.out);
            self.written += 1;
        }
    }
}

impl Default for CutWalk {
    fn default() -> CutWalk {
        CutWalk { ahead_from: u64::MAX, stamp: 0, stale: 0, state: State::Idle }
    }
}

impl CutWalk {
    /// To be told of every record that has expired, and is dropped.
    pub(super) fn preserve_expired<H: HashKey>(&mut self, record: &Record, hasher: &H) -> Leave {
        if let State::Walking(cut) = &mut self.state
            && record.entry().stamp() != self.stamp
            && hasher.hash_key(record.key()) >= self.ahead_from
        {
            cut.write(record.entry());
        }
        Leave(())
    }

    /// To be told of every record that is put into the table.
    #[inline]
    pub(super) fn stamp_new(&mut self, hash: u64, record: &mut Record) -> Leave {
        debug_assert_eq!(record.entry().stamp(), 0, "only records in a table have a stamp");
        if hash >= self.ahead_from {
            self.stamp_ahead(record);
        }
        Leave(())
    }

    #[cold]
    fn stamp_ahead(&mut self, record: &mut Record) {
        if let State::Walking(cut) = &mut self.state {
            cut.has_stamped = true;
            record.set_stamp(self.stamp);
        }
    }

    /// The walk is over, if there is one, however it has ended.
    fn end(&mut self) -> Option<Box<Cut>> {
        self.ahead_from = u64::MAX;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Walking(cut) => Some(cut),
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl<H: HashKey> Db<H> {
    /// To be called before a record is changed where it is, or taken out.
    #[inline]
    pub(super) fn preserve(&mut self, at: Spot, hash: u64) -> Leave {
        if hash >= self.walk.ahead_from {
            self.write_ahead(at);
        }
        Leave(())
    }

    #[cold]
    fn write_ahead(&mut self, at: Spot) {
        let stamp = self.walk.stamp;
        let slot = self.table.slot_mut(at, Leave(()));
        if let State::Walking(cut) = &mut self.walk.state
            && let Some(entry) = slot.entry()
            && entry.stamp() != stamp
        {
            cut.write(entry);
            cut.has_stamped = true;
            slot.set_stamp(stamp);
        }
    }

    /// Whether a snapshot has yet to write something that is here.
    pub fn is_in_snapshot(&self) -> bool {
        matches!(self.walk.state, State::Walking(_))
    }

    fn begin_walk(&mut self, db: DbIndex, at: Millis, sink: &Arc<dyn EntrySink>) {
        assert!(!self.is_in_snapshot(), "one snapshot at a time");
        if self.walk.stale == STAMPS {
            self.walk_slice(&mut Purse::new(
                SnapshotBudget { entries: usize::MAX, bytes: usize::MAX, nanos: u64::MAX },
                || 0,
            ));
        }
        if self.is_empty() {
            return;
        }
        self.walk.stamp = self.walk.stamp % STAMPS + 1;
        self.walk.ahead_from = 0;
        let cut = Cut { db, at, sink: Arc::clone(sink), out: Vec::new(), written: 0, has_stamped: false };
        self.walk.state = State::Walking(Box::new(cut));
    }

    /// Walks on; true if there is more.
    fn walk_slice(&mut self, purse: &mut Purse) -> bool {
        let (walk, table) = (&mut self.walk, &mut self.table);
        loop {
            let next = match &mut walk.state {
                State::Idle => return false,
                State::Walking(cut) => {
                    let next = table.walk_segment(walk.ahead_from, |slot| {
                        let before = cut.out.len();
                        let stamp = stamp_of(slot);
                        if stamp != walk.stamp
                            && let Some(entry) = slot.entry()
                        {
                            cut.write(entry);
                        }
                        take_off(slot, stamp);
                        purse.spend(cut.out.len() - before)
                    });
                    // The rest is behind the walk from now on.
                    walk.ahead_from = next.unwrap_or(u64::MAX);
                    next
                }
                State::Sweeping(from) => {
                    let next = table.walk_segment(*from, |slot| {
                        take_off(slot, stamp_of(slot));
                        purse.spend(0)
                    });
                    *from = next.unwrap_or(u64::MAX);
                    next
                }
            };
            if next.is_none() {
                walk.stale = 0;
                if let State::Sweeping(_) = walk.state {
                    walk.state = State::Idle;
                }
                return false;
            }
            // An empty segment costs something, too.
            if !purse.spend(0) {
                return true;
            }
        }
    }

    /// Gives up what has not been written. What was is lost.
    fn abort_walk(&mut self) {
        let from = self.walk.ahead_from;
        if let Some(cut) = self.walk.end()
            && (cut.has_stamped || self.walk.stale > 0)
        {
            self.walk.stale += 1;
            self.walk.state = State::Sweeping(from);
        }
    }

    /// Panics if a record has a stamp that it should not have. Reads every record.
    pub(super) fn check_stamps(&self) {
        let from = match self.walk.state {
            State::Walking(_) => self.walk.ahead_from,
            State::Sweeping(from) => from,
            State::Idle => u64::MAX,
        };
        self.table.walk_from(0, |entry| {
            let is_ahead = self.hash(entry.key()) >= from && !matches!(self.walk.state, State::Idle);
            assert!(entry.stamp() == 0 || is_ahead, "there are no stamps behind the walk");
            true
        });
    }
}

fn stamp_of(slot: &Slot) -> u8 {
    slot.entry().map_or(0, Entry::stamp)
}

/// Most records have none, and their memory is not written to.
fn take_off(slot: &mut Slot, stamp: u8) {
    if stamp != 0 {
        slot.set_stamp(0);
    }
}

/// What the keyspace as a whole knows about its snapshot.
#[derive(Default)]
pub(super) struct Snapshot {
    runs: bool,
    /// Databases that were emptied and have yet to be written.
    kept: Vec<Db>,
    /// Those that have been.
    released: Vec<Db>,
    /// Output of databases that are through.
    pieces: Vec<Vec<u8>>,
    /// Entries written by them.
    written: u64,
}

impl Snapshot {
    /// Keeps a database that was emptied, if it has yet to be written.
    pub(super) fn keep(&mut self, taken: Db) -> Option<Db> {
        if taken.is_in_snapshot() {
            self.kept.push(taken);
            None
        } else {
            Some(taken)
        }
    }

    fn collect(&mut self, db: &mut Db) {
        if let Some(cut) = db.walk.end() {
            self.written += cut.written;
            if !cut.out.is_empty() {
                self.pieces.push(cut.out);
            }
        }
    }
}

impl Keyspace {
    /// The present state is the cut: from now on every entry of it is written once, as it is now, except those that have
    /// expired `at` that time. Takes no time. Panics if a snapshot runs, or the last one's output has not been taken.
    pub fn begin_snapshot(&mut self, at: Millis, sink: &Arc<dyn EntrySink>) {
        assert!(!self.snapshot.runs, "one snapshot at a time");
        assert!(self.snapshot.pieces.is_empty(), "the output of the last snapshot was taken away or given up");
        self.snapshot.runs = true;
        self.snapshot.written = 0;
        for (index, db) in self.dbs.iter_mut().enumerate() {
            db.begin_walk(DbIndex(index as u16), at, sink);
        }
    }

    /// Whether one runs.
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.runs
    }

    /// Walks on, until all is written or the budget is spent. After [`Keyspace::abort_snapshot`], sweeps.
    pub fn snapshot_step(&mut self, budget: SnapshotBudget, clock_ns: fn() -> u64) -> SnapshotProgress {
        let mut purse = Purse::new(budget, clock_ns);
        // First what gives memory back.
        while let Some(mut db) = self.snapshot.kept.pop() {
            if db.walk_slice(&mut purse) {
                self.snapshot.kept.push(db);
                return SnapshotProgress::More;
            }
            self.snapshot.collect(&mut db);
            self.snapshot.released.push(db);
        }
        for db in &mut self.dbs {
            if db.walk_slice(&mut purse) {
                return SnapshotProgress::More;
            }
            self.snapshot.collect(db);
        }
        self.snapshot.runs = false;
        SnapshotProgress::Done
    }

    /// Gives the snapshot up, if one runs: nothing is written any more, and what nobody has taken is thrown away.
    /// [`Keyspace::snapshot_step`] is to be called until it is done, or until another snapshot begins.
    pub fn abort_snapshot(&mut self) {
        self.snapshot.runs = false;
        self.snapshot.pieces.clear();
        let Snapshot { kept, released, .. } = &mut self.snapshot;
        kept.iter_mut().for_each(Db::abort_walk);
        released.append(kept);
        self.dbs.iter_mut().for_each(Db::abort_walk);
    }

    /// Bytes that were written and that nobody has taken.
    pub fn snapshot_waiting_bytes(&self) -> usize {
        let cuts = self.cuts().map(|cut| cut.out.len());
        cuts.chain(self.snapshot.pieces.iter().map(Vec::len)).sum()
    }

    /// Entries that the present snapshot has written, or the last one if none runs.
    pub fn snapshot_entries(&self) -> u64 {
        self.snapshot.written + self.cuts().map(|cut| cut.written).sum::<u64>()
    }

    /// Takes what was written. The pieces in any order are a part of the whole: each begins with its database.
    pub fn take_snapshot_output(&mut self) -> Vec<Vec<u8>> {
        let mut pieces = std::mem::take(&mut self.snapshot.pieces);
        for db in self.snapshot.kept.iter_mut().chain(&mut self.dbs) {
            if let State::Walking(cut) = &mut db.walk.state
                && !cut.out.is_empty()
            {
                pieces.push(std::mem::take(&mut cut.out));
            }
        }
        pieces
    }

    /// Databases that a snapshot has kept and that nobody needs any more, to be freed.
    pub fn take_released(&mut self) -> Vec<Db> {
        std::mem::take(&mut self.snapshot.released)
    }

    fn cuts(&self) -> impl Iterator<Item = &Cut> {
        self.snapshot.kept.iter().chain(&self.dbs).filter_map(|db| match &db.walk.state {
            State::Walking(cut) => Some(&**cut),
            State::Idle | State::Sweeping(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::keyspace::db::tests::{Chosen, HASHES};
    use crate::keyspace::{EntryMut, Lookup, NewValue};
    use crate::types::hash::HashLimits;
    use crate::types::{DataType, Hash, Object};

    const CUT: Millis = Millis(1000);
    const ZERO: DbIndex = DbIndex(0);
    const ALL: SnapshotBudget = SnapshotBudget { entries: usize::MAX, bytes: usize::MAX, nanos: u64::MAX };
    const LIMITS: HashLimits = HashLimits { listpack_entries: 8, listpack_value: 64 };

    /// A line for each entry.
    struct Lines;

    fn line(entry: Entry<'_>) -> String {
        let value = match entry.value().is_string() {
            true => String::from_utf8_lossy(&entry.value().text()).into_owned(),
            false => format!("{:?}", entry.value()),
        };
        format!("{} {:?} {value}\n", String::from_utf8_lossy(entry.key()), entry.expire_at())
    }

    impl EntrySink for Lines {
        fn database(&self, db: DbIndex, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("db {}\n", db.0).as_bytes());
        }

        fn entry(&self, entry: Entry<'_>, out: &mut Vec<u8>) {
            out.extend_from_slice(line(entry).as_bytes());
        }
    }

    fn lines() -> Arc<dyn EntrySink> {
        Arc::new(Lines)
    }

    fn sorted(text: &[u8]) -> Vec<String> {
        let text = String::from_utf8(text.to_vec()).expect("lines are text");
        let mut lines: Vec<String> = text.lines().filter(|line| !line.starts_with("db ")).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    fn contents<H: HashKey>(db: &Db<H>) -> Vec<String> {
        let mut text = String::new();
        assert_eq!(db.scan(0, usize::MAX, CUT, |entry| text += &line(entry)), 0);
        sorted(text.as_bytes())
    }

    fn step<H: HashKey>(db: &mut Db<H>, budget: SnapshotBudget) -> bool {
        db.walk_slice(&mut Purse::new(budget, || 0))
    }

    /// Walks to the end; what was written in all.
    fn finish<H: HashKey>(db: &mut Db<H>) -> Vec<String> {
        assert!(!step(db, ALL));
        let cut = db.walk.end().expect("a snapshot ran");
        db.check_invariants();
        sorted(&cut.out)
    }

    fn hash_of(fields: usize) -> NewValue<'static> {
        let mut hash = Hash::default();
        for field in 0..fields {
            hash.set(field.to_string().as_bytes(), b"x", LIMITS);
        }
        NewValue::Object(Box::new(hash.into_object()))
    }

    fn add_field(object: &mut Object, due: Option<Millis>) {
        let hash = Hash::of_mut(object).expect("only hashes are stored");
        let field = hash.len().to_string();
        hash.set(field.as_bytes(), b"x", LIMITS);
        hash.set_deadline(field.as_bytes(), due);
    }

    type Change = fn(EntryMut<'_, Chosen>);

    /// Everything that one can do to an entry.
    const CHANGES: &[(&str, Change)] = &[
        ("assign in place", |mut entry| entry.assign(NewValue::Int(77), entry.expire_at(), 0)),
        ("assign", |mut entry| entry.assign(NewValue::string(&[b'l'; 9000]), None, 0)),
        ("set_value", |mut entry| entry.set_value(hash_of(3))),
        ("set_expire", |mut entry| entry.set_expire(Some(Millis(123_456)))),
        ("persist", |mut entry| entry.set_expire(None)),
        ("append", |mut entry| {
            if entry.value().is_string() {
                entry.append(b"tail");
            }
        }),
        ("with_blob_mut", |mut entry| {
            if entry.value().is_string() {
                entry.with_blob_mut(|bytes| bytes.push(b'!'));
            }
        }),
        ("with_bytes_mut", |mut entry| {
            if entry.value().is_string() {
                entry.with_bytes_mut(|bytes| bytes.fill(b'?'));
            }
        }),
        ("with_object", |mut entry| {
            entry.with_object(|object| add_field(object, None));
        }),
        ("remove", |entry| drop(entry.remove())),
        ("bury", |entry| entry.bury()),
    ];

    fn key_of(number: u64) -> Vec<u8> {
        format!("key:{number}").into_bytes()
    }

    fn fill<H: HashKey>(db: &mut Db<H>, keys: u64) {
        for number in 0..keys {
            db.set(&key_of(number), NewValue::Int(1), None, 0);
        }
    }

    fn some_value<'t>(rng: &mut Rng, text: &'t mut Vec<u8>) -> NewValue<'t> {
        let len_max = if rng.chance(1, 20) { 6000 } else { 40 };
        *text = vec![b'a' + rng.below(26) as u8; rng.below(len_max) as usize];
        match rng.below(3) {
            0 => NewValue::Int(rng.below(1000) as i64),
            1 => hash_of(1 + rng.below(3) as usize),
            _ => NewValue::Bytes { bytes: text, raw: false },
        }
    }

    /// One random change of the database.
    fn change(db: &mut Db<Chosen>, rng: &mut Rng, keys: u64, removal_percent: u64) {
        let key = key_of(rng.below(keys));
        let expire = rng.chance(1, 4).then(|| Millis(rng.range(500..=3000)));
        if rng.below(100) < removal_percent {
            db.remove(&key);
            return;
        }
        match rng.below(8) {
            0..=2 => drop(db.set(&key, some_value(rng, &mut Vec::new()), expire, rng.below(99) as u32)),
            3 | 4 => {
                let (_, how) = rng.pick(CHANGES);
                if let Some(entry) = db.find_mut(&key) {
                    how(entry);
                }
            }
            5 => {
                if let Lookup::Vacant(place) = db.lookup(&key) {
                    place.insert(some_value(rng, &mut Vec::new()), expire, 0);
                }
            }
            6 => {
                if let Some(record) = db.remove(&key) {
                    let replaced = db.insert_record(record.with_key(&key_of(rng.below(keys))));
                    if let Some(record) = replaced {
                        drop(db.insert_record(record.with_key(&key_of(rng.below(keys)))));
                    }
                }
            }
            _ => drop(db.expire_due(Millis(rng.range(900..=2000)), 5, |_| ())),
        }
    }

    #[test]
    fn what_is_written_is_the_cut_whatever_the_hashes() {
        let seeds = if cfg!(miri) { 1 } else { 12 };
        for hashes in HASHES {
            for seed in 0..seeds {
                let context = format!("{hashes:?}, seed {seed}");
                let mut rng = Rng::seed(seed);
                let keys = if cfg!(miri) { 30 } else { hashes.at_most(*rng.pick(&[5, 60, 600, 3000])) };
                let mut db = Db::new(hashes);
                let (mut expected, mut running) = (Vec::new(), false);
                let mut removal_percent = 5;
                for at in 0..if cfg!(miri) { 200 } else { 1000 } {
                    if at % 200 == 0 {
                        removal_percent = *rng.pick(&[5, 5, 40, 90]);
                    }
                    for _ in 0..rng.below(8) {
                        change(&mut db, &mut rng, keys, removal_percent);
                    }
                    match running {
                        false if rng.chance(1, 20) => {
                            expected = contents(&db);
                            db.begin_walk(ZERO, CUT, &lines());
                            running = db.is_in_snapshot();
                        }
                        true if rng.chance(1, 300) => {
                            db.abort_walk();
                            running = false;
                        }
                        _ => {
                            let entries = 1 + rng.below(30) as usize;
                            if !step(&mut db, SnapshotBudget { entries, ..ALL }) && running {
                                let cut = db.walk.end().expect("it ran");
                                running = false;
                                assert_eq!(sorted(&cut.out), expected, "{context}");
                                assert_eq!(cut.written as usize, expected.len(), "{context}");
                                db.check_invariants();
                            }
                        }
                    }
                }
                if running {
                    assert_eq!(finish(&mut db), expected, "{context}");
                }
                db.check_invariants();
            }
        }
    }

    /// Hashes that differ in their first ten bits, or not before the twentieth.
    #[derive(Clone, Copy)]
    struct Clusters;

    impl HashKey for Clusters {
        fn hash_key(&self, key: &[u8]) -> u64 {
            let good = Chosen::Uniform.hash_key(key);
            good & !(0x1ff << 45)
        }
    }

    #[test]
    fn a_walk_that_stopped_among_hashes_that_become_one_tag_divides_them_by_hash() {
        let mut db = Db::new(Clusters);
        fill(&mut db, 24_000);
        for stop in 0..if cfg!(miri) { 0 } else { 3 } {
            let before = contents(&db);
            db.begin_walk(ZERO, CUT, &lines());
            step(&mut db, SnapshotBudget { entries: 12_000 + 5 * stop, ..ALL });
            // Nothing is left but the cluster in which the walk has stopped: a single segment, which cannot tell its records
            // apart by their tags.
            let cluster = db.walk.ahead_from >> 54;
            let mut gone = Vec::new();
            db.table.walk_from(0, |entry| {
                if Clusters.hash_key(entry.key()) >> 54 != cluster {
                    gone.push(entry.key().to_vec());
                }
                true
            });
            gone.iter().for_each(|key| drop(db.remove(key)));
            db.check_invariants();
            assert!((10..=184).contains(&db.len()), "{} keys are left", db.len());
            assert_eq!(finish(&mut db), before, "stopped after {stop}");
            fill(&mut db, 24_000);
        }
    }

    #[test]
    fn every_way_to_change_an_entry_has_it_written_first() {
        let values: [fn() -> NewValue<'static>; 4] = [
            || NewValue::Int(42),
            || NewValue::string(b"short"),
            || NewValue::Bytes { bytes: &[b'x'; 5000], raw: true },
            || hash_of(2),
        ];
        for value in values {
            for expire in [None, Some(Millis(2000))] {
                for (name, how) in CHANGES {
                    let mut db = Db::new(Chosen::Uniform);
                    db.set(b"key", value(), expire, 7);
                    let before = contents(&db);
                    db.begin_walk(ZERO, CUT, &lines());
                    how(db.find_mut(b"key").expect("it was set"));
                    assert_eq!(finish(&mut db), before, "{name}, once");
                    db.set(b"key", value(), expire, 7);
                    db.begin_walk(ZERO, CUT, &lines());
                    for (then, how) in CHANGES {
                        if let Some(entry) = db.find_mut(b"key") {
                            how(entry);
                        } else {
                            db.set(b"key", NewValue::Int(5), None, 0);
                        }
                        if let Some(record) = db.remove(b"key") {
                            db.insert_record(record);
                        }
                        assert!(db.is_in_snapshot(), "{then}");
                    }
                    assert_eq!(finish(&mut db), before, "{name}, and everything else");
                }
            }
        }
    }

    #[test]
    fn what_expires_during_a_snapshot_is_written_first_and_what_had_expired_at_the_cut_is_not() {
        let mut db = Db::new(Chosen::Uniform);
        for (number, at) in [(1, 999), (2, 1000), (3, 1001)] {
            db.set(&key_of(number), NewValue::Int(1), Some(Millis(at)), 0);
        }
        let mut hash = hash_of(0);
        if let NewValue::Object(object) = &mut hash {
            add_field(object, Some(Millis(1500)));
        }
        db.set(b"fields", hash, None, 0);
        let before = contents(&db);
        assert_eq!(before.len(), 3);
        db.begin_walk(ZERO, CUT, &lines());
        let expired = db.expire_parts(Millis(9999), |_, object| {
            Hash::of_mut(object).expect("it is a hash").expire(Millis(9999), 9, |_| {})
        });
        assert!(expired.is_some_and(|parts| parts.dead));
        while db.expire_due(Millis(9999), 1, |_| ()).more {}
        assert!(db.is_empty());
        // A new life of what had expired is not in the cut either.
        db.set(&key_of(1), NewValue::Int(2), None, 0);
        assert_eq!(finish(&mut db), before);
    }

    #[test]
    fn the_access_word_may_change_before_an_entry_is_written() {
        let mut db = Db::new(Chosen::Uniform);
        db.set(b"key", NewValue::Int(1), None, 1);
        db.begin_walk(ZERO, CUT, &lines());
        db.find_mut(b"key").expect("it was set").set_access(9);
        let State::Walking(cut) = &db.walk.state else { panic!("it runs") };
        assert!(cut.out.is_empty());
    }

    #[test]
    fn snapshots_that_were_given_up_leave_nothing_that_later_ones_stumble_over() {
        for swept in [false, true] {
            let mut db = Db::new(Chosen::Uniform);
            let mut rng = Rng::seed(1);
            fill(&mut db, 3000);
            for round in 0..10 {
                let before = contents(&db);
                db.begin_walk(ZERO, CUT, &lines());
                for _ in 0..400 {
                    change(&mut db, &mut rng, 3000, 20);
                }
                step(&mut db, SnapshotBudget { entries: 200, ..ALL });
                if round % 6 == 5 {
                    assert_eq!(finish(&mut db), before, "round {round}, swept: {swept}");
                    continue;
                }
                db.abort_walk();
                db.check_invariants();
                assert!(db.walk.stale > 0);
                assert!(!db.is_in_snapshot());
                if swept {
                    while step(&mut db, SnapshotBudget { entries: 100, ..ALL }) {}
                    assert_eq!(db.walk.stale, 0);
                    db.check_invariants();
                }
            }
        }
    }

    #[test]
    fn a_snapshot_that_is_given_up_before_anything_has_changed_needs_no_sweep() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 3000);
        db.begin_walk(ZERO, CUT, &lines());
        assert!(step(&mut db, SnapshotBudget { entries: 100, ..ALL }));
        db.abort_walk();
        assert!(matches!(db.walk.state, State::Idle) && db.walk.stale == 0);
    }

    #[test]
    fn a_step_ends_where_its_budget_does() {
        let mut db = Db::new(Chosen::Uniform);
        fill(&mut db, 30_000);
        let mut written = |budget: SnapshotBudget, clock_ns: fn() -> u64| {
            db.begin_walk(ZERO, CUT, &lines());
            assert!(db.walk_slice(&mut Purse::new(budget, clock_ns)));
            let cut = db.walk.end().expect("it ran");
            (cut.written as usize, cut.out.len())
        };
        for entries in [0, 1, 2, 1000, 5000] {
            let (got, _) = written(SnapshotBudget { entries, ..ALL }, || 0);
            assert!((entries * 99 / 100..=entries + 2).contains(&got) && got > 0, "{entries}: {got}");
        }
        for bytes in [0, 1, 100, 10_000] {
            let (_, got) = written(SnapshotBudget { bytes, ..ALL }, || 0);
            assert!((bytes..=bytes + 60).contains(&got), "{bytes}: {got}");
        }
        thread_local!(static NOW: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
        let (got, _) = written(SnapshotBudget { nanos: 1000, ..ALL }, || {
            NOW.set(NOW.get() + 100);
            NOW.get()
        });
        assert!((10 * ENTRIES_PER_LOOK - 20..=10 * ENTRIES_PER_LOOK + 20).contains(&got), "{got}");
    }

    #[test]
    fn entries_are_written_under_the_index_that_they_had_at_the_cut() {
        let mut keyspace = Keyspace::new(4, &ahash::RandomState::with_seeds(1, 2, 3, 4));
        for index in [0, 2] {
            keyspace.db_mut(DbIndex(index)).set(b"key", NewValue::Int(index.into()), None, 0);
        }
        keyspace.begin_snapshot(CUT, &lines());
        keyspace.swap(DbIndex(0), DbIndex(3));
        let kept = keyspace.take(DbIndex(2));
        assert!(kept.is_none() && keyspace.db(DbIndex(2)).is_empty(), "it is kept until it is written");
        keyspace.db_mut(DbIndex(2)).set(b"new", NewValue::Int(9), None, 0);
        keyspace.db_mut(DbIndex(3)).set(b"key", NewValue::Int(9), None, 0);
        assert_eq!(keyspace.take_snapshot_output(), [b"db 0\nkey None 0\n"]);
        assert_eq!(keyspace.snapshot_step(ALL, || 0), SnapshotProgress::Done);
        assert!(!keyspace.has_snapshot());
        assert_eq!((keyspace.snapshot_waiting_bytes(), keyspace.snapshot_entries()), (16, 2));
        assert_eq!(keyspace.take_snapshot_output(), [b"db 2\nkey None 2\n"]);
        let released = keyspace.take_released();
        assert_eq!((released.len(), released[0].len()), (1, 1));
        assert!(keyspace.take(DbIndex(2)).is_some_and(|db| db.len() == 1));
    }

    #[test]
    fn a_database_that_was_kept_is_released_when_the_snapshot_is_given_up() {
        let mut keyspace = Keyspace::new(2, &ahash::RandomState::with_seeds(1, 2, 3, 4));
        fill(keyspace.db_mut(ZERO), 2000);
        keyspace.begin_snapshot(CUT, &lines());
        keyspace.db_mut(ZERO).set(&key_of(7), NewValue::Int(2), None, 0);
        assert!(keyspace.take(ZERO).is_none());
        keyspace.snapshot_step(SnapshotBudget { entries: 100, ..ALL }, || 0);
        keyspace.abort_snapshot();
        assert_eq!(keyspace.snapshot_waiting_bytes(), 0);
        let mut released = keyspace.take_released();
        assert_eq!(released.len(), 1);
        while released[0].free_slice(100) {}
        assert_eq!(keyspace.snapshot_step(ALL, || 0), SnapshotProgress::Done);
    }
}
