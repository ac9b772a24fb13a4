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
//! [`EntryMut`](super::EntryMut) is the one way to change a record, and hands its slot out through one method that preserves
//! it; taking out and putting in go through one method each of [`Db`], active expiry included. So no command can forget it.
//! While no snapshot runs, each of them compares the key's hash with a number that none reaches. The access word alone may
//! change unseen: the cut has the latest.
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
    /// To be told of every record that was taken out of the table.
    #[inline]
    pub(super) fn preserve_taken(&mut self, hash: u64, record: &mut Record) {
        if hash >= self.ahead_from {
            self.write_taken(record);
        }
        record.set_stamp(0);
    }

    #[cold]
    fn write_taken(&mut self, record: &Record) {
        if let State::Walking(cut) = &mut self.state
            && record.entry().stamp() != self.stamp
        {
            cut.write(record.entry());
        }
    }

    /// To be told of every record that is put into the table.
    #[inline]
    pub(super) fn stamp_new(&mut self, hash: u64, record: &mut Record) {
        debug_assert_eq!(record.entry().stamp(), 0, "only records in a table have a stamp");
        if hash >= self.ahead_from {
            self.stamp_ahead(record);
        }
    }

    #[cold]
    fn stamp_ahead(&mut self, record: &mut Record) {
        if let State::Walking(_) = self.state {
            record.set_stamp(self.stamp);
        }
    }

    /// The walk is over, however it has ended.
    fn end(&mut self, next: State) -> Option<Cut> {
        self.ahead_from = u64::MAX;
        match std::mem::replace(&mut self.state, next) {
            State::Walking(cut) => Some(*cut),
            State::Idle | State::Sweeping(_) => None,
        }
    }
}

impl<H: HashKey> Db<H> {
    /// To be called before a record is changed where it is.
    #[inline]
    pub(super) fn preserve(&mut self, at: Spot, hash: u64) {
        if hash >= self.walk.ahead_from {
            self.write_ahead(at);
        }
    }

    #[cold]
    fn write_ahead(&mut self, at: Spot) {
        let stamp = self.walk.stamp;
        let slot = self.table.slot_mut(at);
        if let State::Walking(cut) = &mut self.walk.state
            && let Some(entry) = slot.entry()
            && entry.stamp() != stamp
        {
            cut.write(entry);
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
        self.walk.state = State::Walking(Box::new(Cut { db, at, sink: Arc::clone(sink), out: Vec::new(), written: 0 }));
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
        if self.is_in_snapshot() {
            self.walk.stale += 1;
            let from = self.walk.ahead_from;
            self.walk.end(State::Sweeping(from));
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
        if let Some(cut) = db.walk.end(State::Idle) {
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
