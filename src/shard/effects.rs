//! What the shard's log is told: the effects of writes, as commands that mean the same whenever and wherever they are run again.
//!
//! ```text
//!   a data command changed something     its own words, unless the handler said better ones    [`WriteCx::effect`]
//!   a step of a plan changed keys        each key as it is at the end of the step, unless the step said how
//!   a key's time has come                DEL
//! ```
//!
//! What one command, step or transaction says is a *unit*: between MULTI and EXEC if it is more than one command. Units follow one
//! another in the order in which the shard ran them. The log is cut into *epochs*: a transaction over all shards closes the open one
//! ([`Effects::close_epoch`]), so an epoch is one point in the serial order on all shards at once. Whoever writes the log tells when an
//! epoch is safe; whoever must not be told of what is not safe waits for the epoch that [`Effects::take_need`] names.
//!
//! Belongs to its shard. Costs one comparison for each write while nobody reads it. Invariant: between two messages no unit is open.
//! Absent on purpose: files (`persist`), when epochs are closed and who waits for them (`durability`).
//!
//! [`WriteCx::effect`]: super::cx::WriteCx::effect

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Shard;
use crate::base::{DbIndex, Epoch, num};
use crate::keyspace::Value;
use crate::persist::aof::{annotation, effect};
use crate::persist::dump;
use crate::resp::Args;
use crate::shard::reservations::TxnId;
use crate::shard::storage::Told;
use crate::shard::waiters::WaiterId;

/// Bytes of the log that may wait for the disk before replies to whoever has written them wait for it, too.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What is noted of changes while a unit is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    /// A command runs: its words say what it changes, unless it says so itself.
    #[default]
    Command,
    /// A step runs: keys that change are remembered, and logged as they are in the end.
    Step,
}

/// What a command or step that is about to begin has to put back when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    mode: Mode,
    spoken: bool,
    changes: u64,
}

/// See the module.
#[derive(Default)]
pub struct Effects {
    active: bool,
    /// Units that nobody has taken yet.
    out: Vec<u8>,
    /// Those of them that belong to the file before the one that `out` goes to.
    sealed: Option<Vec<u8>>,
    /// The database that whoever reads `out` from its start has selected where it ends.
    selected: Option<DbIndex>,
    /// Units inside of units are a part of the outermost.
    depth: u32,
    unit_at: usize,
    unit_commands: u32,
    /// The transaction over several shards that the unit is a part of.
    unit_txn: Option<TxnId>,
    mode: Mode,
    /// The command has said itself what it does.
    spoken: bool,
    /// Changes that the command counted and that have been logged: keys whose time had come.
    logged_changes: u64,
    /// Keys that steps have changed.
    touched: Vec<(DbIndex, Vec<u8>)>,
    has_content: bool,
    /// The log has just begun and is not whole yet: nobody waits for it.
    provisional: bool,
    open: Epoch,
    durable: Epoch,
    /// What the log says of that.
    said_synced: Epoch,
    /// Somebody waits until this one is safe.
    wanted: Epoch,
    /// Plans that are told when an epoch is.
    waiting: Vec<(Epoch, WaiterId)>,
    need: Epoch,
    /// Whether somebody may have to wait for what others have written.
    watches_reads: bool,
    /// Up to this epoch nobody noted what changed: all of it is seen by every read.
    watched_from: Epoch,
    /// By hash of key and database: the last epoch that changed it, if that is not known to be safe.
    unsafe_keys: HashMap<u64, Epoch, ahash::RandomState>,
}

impl Effects {
    /// Whether anybody reads the log.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Begins or ends to keep a log. What begins is a new file: nothing is selected there, and `open` is its first epoch.
    pub fn set_active(&mut self, active: bool, open: Epoch) {
        self.active = active;
        self.out = Vec::new();
        self.sealed = None;
        self.selected = None;
        self.touched.clear();
        self.need = 0;
        self.unsafe_keys.clear();
        self.provisional = false;
        self.open = open;
        self.durable = open.saturating_sub(1);
        self.said_synced = self.durable;
    }

    /// Whether reads are to tell which epoch they have seen something of.
    pub fn watch_reads(&mut self, watches: bool) {
        if watches && !self.watches_reads {
            // Which keys have changed before is not known.
            self.watched_from = self.open;
        }
        self.watches_reads = watches;
        if !watches {
            self.unsafe_keys.clear();
        }
    }

    // ---- epochs

    /// The epoch that what is written now belongs to.
    pub fn open_epoch(&self) -> Epoch {
        self.open
    }

    /// Nobody has to wait for what comes after this one: it is safe, or there is no log to be safe in.
    pub fn durable_epoch(&self) -> Epoch {
        if self.active && !self.provisional { self.durable } else { Epoch::MAX }
    }

    /// All up to this one are on the disks of all shards, together with what was there before the log began.
    pub fn synced_epoch(&self) -> Epoch {
        self.durable
    }

    /// Whether the log has not said yet which epoch that is.
    pub fn is_news_synced(&mut self) -> bool {
        !self.provisional && std::mem::replace(&mut self.said_synced, self.durable) < self.durable
    }

    /// Whether this epoch is on the disks.
    pub fn is_safe(&self, epoch: Epoch) -> bool {
        self.active && !self.provisional && epoch <= self.durable
    }

    /// Ends an epoch: whatever comes from now on belongs to the next. `line` is the annotation that says so in the log.
    pub fn close_epoch(&mut self, epoch: Epoch, line: &[u8]) {
        debug_assert!(self.is_between_units() && epoch >= self.open);
        self.open = epoch + 1;
        self.has_content = false;
        if self.active {
            self.out.extend_from_slice(line);
            self.unit_at = self.out.len();
        }
    }

    /// Whether what was said is whole: the step that closes an epoch says nothing itself.
    fn is_between_units(&self) -> bool {
        self.depth == 0 || self.unit_commands == 0
    }

    /// What comes from now on goes to another file. If no log was kept, it is kept from now on.
    pub fn begin_file(&mut self) {
        debug_assert!(self.is_between_units());
        self.selected = None;
        if self.active {
            let sealed = std::mem::take(&mut self.out);
            self.sealed.get_or_insert_default().extend_from_slice(&sealed);
        } else {
            self.set_active(true, self.open);
            self.provisional = true;
        }
        self.unit_at = self.out.len();
    }

    /// All up to this epoch are on the disks of all shards.
    pub fn set_durable(&mut self, epoch: Epoch) {
        if epoch > self.durable {
            self.durable = epoch;
            self.unsafe_keys.retain(|_, changed| *changed > epoch);
        }
    }

    /// Somebody waits until this epoch is safe.
    pub fn want(&mut self, epoch: Epoch) {
        self.wanted = self.wanted.max(epoch);
    }

    /// A plan is told when this epoch is safe.
    pub fn tell_when_durable(&mut self, epoch: Epoch, plan: WaiterId) {
        self.waiting.push((epoch, plan));
    }

    /// The epoch that somebody waits for, if it is not safe yet.
    pub fn wanted(&self) -> Option<Epoch> {
        (self.wanted > self.durable_epoch()).then_some(self.wanted)
    }

    /// The epoch that must be safe before somebody may hear of what ran since the last call; 0 if none.
    #[inline]
    pub fn take_need(&mut self) -> Epoch {
        std::mem::take(&mut self.need)
    }

    /// Somebody is shown the last thing that was written here.
    pub fn needs_all(&mut self) {
        if self.active {
            self.need = self.open;
        }
    }

    /// A key is looked at.
    #[inline]
    pub fn saw(&mut self, db: DbIndex, key: &[u8]) {
        if self.watches_reads && self.watched_from > self.durable {
            self.need = self.need.max(self.watched_from);
        }
        if !self.unsafe_keys.is_empty()
            && let Some(epoch) = self.unsafe_keys.get(&self.hash(db, key))
        {
            self.need = self.need.max(*epoch);
        }
    }

    /// Two keys of one hash make a reader wait for nothing now and then.
    fn hash(&self, db: DbIndex, key: &[u8]) -> u64 {
        self.unsafe_keys.hasher().hash_one((db.0, key))
    }

    /// All keys are looked at, or their number.
    pub fn saw_all(&mut self) {
        if let Some(epoch) = self.unsafe_keys.values().max() {
            self.need = self.need.max(*epoch);
        }
    }

    // ---- what is logged

    /// Whether the open epoch has any.
    pub fn has_content(&self) -> bool {
        self.has_content
    }

    /// Whether so much waits for the disk that whoever writes more waits, too.
    pub fn is_behind(&self) -> bool {
        self.out.len() > WAITING_BYTES_MAX
    }

    /// Bytes of units that wait to be taken.
    pub fn waiting_bytes(&self) -> usize {
        self.out.len()
    }

    /// Whether what comes last goes to another file, and nobody has taken up what remains for the one before.
    pub fn has_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Takes what remains to be written to the last file but one, if there is one.
    pub fn take_sealed(&mut self) -> Option<Vec<u8>> {
        self.sealed.take()
    }

    /// Takes what is to be written next, in exchange for an empty buffer.
    pub fn take(&mut self, empty: Vec<u8>) -> Vec<u8> {
        debug_assert!(self.depth == 0, "a unit is written whole");
        std::mem::replace(&mut self.out, empty)
    }

    /// Logs a command in a database.
    pub fn emit<'a>(&mut self, db: DbIndex, args: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
        if !self.active {
            return;
        }
        if self.selected != Some(db) {
            self.selected = Some(db);
            effect::push_select(&mut self.out, db.0);
        }
        effect::push_command(&mut self.out, args);
        self.unit_commands += 1;
        self.has_content = true;
        self.need = self.need.max(self.open);
    }

    /// A key is gone because its time had come.
    pub fn expired(&mut self, db: DbIndex, key: &[u8]) {
        // Nobody waits for this one: the clock alone would have told the same.
        let need = self.need;
        self.emit(db, [b"DEL", key].into_iter());
        self.need = need;
    }

    /// The same, where the command that found it counts it as a change.
    pub fn expired_and_counted(&mut self, db: DbIndex, key: &[u8]) {
        self.logged_changes += 1;
        self.expired(db, key);
    }

    /// Fields of a hash are gone because their time had come.
    pub fn fields_expired(&mut self, db: DbIndex, key: &[u8], fields: &[Vec<u8>]) {
        let need = self.need;
        let words: Vec<&[u8]> = [b"HDEL", key].into_iter().chain(fields.iter().map(Vec::as_slice)).collect();
        self.emit(db, words.into_iter());
        self.need = need;
    }

    /// The same, where the command that found them counts each as a change. If none was left, the command goes on with a key that
    /// another server has removed by now: it is logged as it is in the end.
    pub fn fields_expired_and_counted(&mut self, db: DbIndex, key: &[u8], fields: &[Vec<u8>], none_left: bool) {
        self.logged_changes += fields.len() as u64;
        self.fields_expired(db, key, fields);
        if none_left {
            self.say_state(db, key);
        }
    }

    /// A key has changed, come or gone.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8]) {
        if self.active {
            self.note_change(db, key);
        }
    }

    fn note_change(&mut self, db: DbIndex, key: &[u8]) {
        if self.mode == Mode::Step {
            self.touched.push((db, key.to_vec()));
        }
        if self.watches_reads {
            self.unsafe_keys.insert(self.hash(db, key), self.open);
        }
    }

    /// The command, or the step as far as this key is concerned, does this.
    pub fn say<'a>(&mut self, db: DbIndex, key: &[u8], args: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
        self.say_nothing(db, key);
        self.emit(db, args);
    }

    /// The command, or the step as far as this key is concerned, does nothing that is to be logged.
    pub fn say_nothing(&mut self, db: DbIndex, key: &[u8]) {
        match self.mode {
            Mode::Command => self.spoken = true,
            Mode::Step => self.touched.retain(|(d, k)| (*d, &**k) != (db, key)),
        }
    }

    /// The command, or the step as far as this key is concerned, leaves the key as it will be when it ends.
    pub fn say_state(&mut self, db: DbIndex, key: &[u8]) {
        if self.active {
            self.spoken = true;
            self.touched.push((db, key.to_vec()));
        }
    }

    fn begin_unit(&mut self) {
        if self.depth == 0 {
            self.unit_at = self.out.len();
            self.unit_commands = 0;
        }
        self.depth += 1;
    }

    fn end_unit(&mut self) {
        self.depth -= 1;
        if self.depth == 0 && self.unit_commands > 1 {
            self.out.splice(self.unit_at..self.unit_at, effect::MULTI.iter().copied());
            self.out.extend_from_slice(effect::EXEC);
        }
        if self.depth == 0
            && let Some(txn) = self.unit_txn.take()
            && self.unit_commands > 0
        {
            let mut line = Vec::new();
            annotation::push_transaction(&mut line, txn.home.0, txn.number);
            self.out.splice(self.unit_at..self.unit_at, line);
        }
    }

    fn begin(&mut self, mode: Mode, changes: u64) -> Outer {
        self.begin_unit();
        self.logged_changes = 0;
        Outer {
            mode: std::mem::replace(&mut self.mode, mode),
            spoken: std::mem::replace(&mut self.spoken, false),
            changes,
        }
    }
}

/// By the names that clients know: the names of commands that were given others.
static RENAMED: OnceLock<Vec<(String, String)>> = OnceLock::new();

/// Commands that clients know by other names: each with that name, and its own, under which it is logged. So the log means the same to
/// a server whose names are others. To be called before a shard is made, once; later calls change nothing.
pub fn rename(names: Vec<(String, String)>) {
    // A second caller would be a test.
    let _ = RENAMED.set(names);
}

/// The name of a command that clients know by this one; none if it is the same.
fn original_name(name: &[u8]) -> Option<&'static [u8]> {
    let renamed = RENAMED.get()?.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    renamed.map(|(_, original)| original.as_bytes())
}

impl Shard {
    /// The log is whole from now on: a snapshot of what was there before it is safe.
    pub fn log_is_whole(&mut self) {
        self.effects.provisional = false;
        self.epoch_is_durable(self.effects.durable);
    }

    /// All up to this epoch are on the disks of all shards.
    pub fn epoch_is_durable(&mut self, epoch: Epoch) {
        self.effects.set_durable(epoch);
        if self.effects.provisional {
            return;
        }
        let safe = self.effects.waiting.extract_if(.., |(awaited, _)| *awaited <= epoch).collect::<Vec<_>>();
        for (_, plan) in safe {
            self.tell_plan(plan, Told::Answer(Ok("OK")));
        }
    }

    /// A data command begins, if there is a log; to be ended by [`Shard::end_command`].
    pub fn begin_command(&mut self) -> Outer {
        let changes = self.metrics.changes;
        self.effects.begin(Mode::Command, changes)
    }

    /// It is over: logs it if it has changed something and not said so itself.
    pub fn end_command(&mut self, outer: Outer, db: DbIndex, args: Args<'_>) {
        let changed = self.metrics.changes - outer.changes > self.effects.logged_changes;
        if changed && !self.effects.spoken {
            match original_name(args.get(0)) {
                None => self.effects.emit(db, args.iter()),
                Some(name) => {
                    let words = (0..args.len()).map(|at| if at == 0 { name } else { args.get(at) });
                    self.effects.emit(db, words);
                }
            }
        }
        self.end(outer);
    }

    /// A step of a plan begins, or a waiter is being served; to be ended by [`Shard::end_step`]. The log tells which transaction it is a
    /// part of, if that is said.
    pub fn begin_step(&mut self, txn: Option<TxnId>) -> Option<Outer> {
        if !self.effects.active {
            return None;
        }
        if self.effects.depth == 0 {
            self.effects.unit_txn = txn;
        }
        let changes = self.metrics.changes;
        Some(self.effects.begin(Mode::Step, changes))
    }

    /// It is over.
    pub fn end_step(&mut self, outer: Option<Outer>) {
        if let Some(outer) = outer {
            self.end(outer);
        }
    }

    fn end(&mut self, outer: Outer) {
        if !self.effects.touched.is_empty() {
            self.log_touched();
        }
        self.effects.mode = outer.mode;
        self.effects.spoken = outer.spoken;
        self.effects.end_unit();
    }

    /// Logs keys as they are now.
    #[cold]
    fn log_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.effects.touched);
        touched.sort();
        touched.dedup();
        let now = self.now.millis();
        for (db, key) in touched {
            let entry = self.keyspace.db(db).find(&key);
            let Some(entry) = entry.filter(|entry| !entry.is_expired(now)) else {
                self.effects.emit(db, [b"DEL", &*key].into_iter());
                continue;
            };
            let due = entry.expire_at().map(|due| due.0.to_string());
            let (number, unpacked);
            let string = match entry.value() {
                Value::Int(n) => {
                    number = num::format_i64(n);
                    Some(number.as_bytes())
                }
                Value::Inline { bytes, .. } => Some(bytes),
                Value::Blob(bytes) => Some(&bytes[..]),
                Value::Packed(packed) => {
                    unpacked = packed.text();
                    Some(&unpacked[..])
                }
                Value::Object(_) => None,
            };
            match (string, &due) {
                (Some(text), None) => self.effects.emit(db, [b"SET", &*key, text].into_iter()),
                (Some(text), Some(due)) => {
                    self.effects.emit(db, [b"SET", &*key, text, b"PXAT", due.as_bytes()].into_iter());
                }
                (None, _) => match dump::dump(entry.value(), now, self.config.rdbcompression) {
                    None => self.effects.emit(db, [b"DEL", &*key].into_iter()),
                    Some(payload) => {
                        let due = due.as_deref().unwrap_or("0").as_bytes();
                        let args: [&[u8]; 6] = [b"RESTORE", &key, due, &payload, b"REPLACE", b"ABSTTL"];
                        self.effects.emit(db, args.into_iter());
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(effects: &mut Effects) -> String {
        String::from_utf8(effects.take(Vec::new())).expect("the test logs text").replace("\r\n", " ")
    }

    fn active() -> Effects {
        let mut effects = Effects::default();
        effects.set_active(true, 1);
        effects
    }

    #[test]
    fn nothing_is_kept_while_nobody_reads() {
        let mut effects = Effects::default();
        effects.emit(DbIndex(0), [&b"FLUSHDB"[..]].into_iter());
        effects.changed(DbIndex(0), b"k");
        assert_eq!((text(&mut effects), effects.take_need()), (String::new(), 0));
    }

    #[test]
    fn a_database_is_selected_where_it_changes_and_at_the_start_of_a_file() {
        let mut effects = active();
        for db in [0, 0, 3] {
            effects.emit(DbIndex(db), [&b"X"[..]].into_iter());
        }
        effects.begin_file();
        let first = effects.take_sealed().expect("the first file has content");
        effects.emit(DbIndex(3), [&b"X"[..]].into_iter());
        let x = "*1 $1 X ";
        let three = "*2 $6 SELECT $1 3 ";
        let first = String::from_utf8(first).expect("the test logs text").replace("\r\n", " ");
        assert_eq!(first, format!("*2 $6 SELECT $1 0 {x}{x}{three}{x}"));
        assert_eq!(text(&mut effects), format!("{three}{x}"));
    }

    #[test]
    fn a_unit_of_several_commands_is_a_transaction_and_one_within_another_is_not() {
        let mut effects = active();
        effects.emit(DbIndex(0), [&b"A"[..]].into_iter());
        let outer = effects.begin(Mode::Step, 0);
        for word in [&b"B"[..], b"C"] {
            effects.begin(Mode::Command, 0);
            effects.emit(DbIndex(0), [word].into_iter());
            effects.end_unit();
        }
        effects.mode = outer.mode;
        effects.end_unit();
        let select = "*2 $6 SELECT $1 0 ";
        let unit = "*1 $5 MULTI *1 $1 B *1 $1 C *1 $4 EXEC ";
        assert_eq!(text(&mut effects), format!("{select}*1 $1 A {unit}"));
    }

    #[test]
    fn who_sees_what_is_not_safe_needs_its_epoch() {
        let mut effects = active();
        effects.watch_reads(true);
        effects.saw(DbIndex(0), b"k");
        assert_eq!(effects.take_need(), 1, "what changed before is not known");
        effects.close_epoch(1, b"");
        effects.set_durable(1);
        effects.changed(DbIndex(0), b"k");
        effects.close_epoch(2, b"");
        effects.saw(DbIndex(0), b"other");
        effects.saw(DbIndex(1), b"k");
        assert_eq!(effects.take_need(), 0);
        effects.saw(DbIndex(0), b"k");
        assert_eq!(effects.take_need(), 2);
        effects.set_durable(2);
        effects.saw(DbIndex(0), b"k");
        effects.saw_all();
        assert_eq!(effects.take_need(), 0);
    }
}
