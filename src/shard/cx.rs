//! What a data command may touch: the permission that its signature asks for.
//!
//! A handler is a plain function over one database of one shard. [`ReadCx`] finds keys, [`WriteCx`] also changes them;
//! neither reaches a connection, another shard, a clock or a file, and since nothing here is async a handler runs to its
//! end before anything else on its core does. Both live for one command on the stack of the core that owns the data.
//!
//! Lookups do what Redis does on the way: a key whose time has come is removed and counted, a key that is found is
//! touched for LRU or LFU, reads count hits and misses. Every change goes through a [`WriteCx`] method, which is where the
//! change count lives and where the log will read the effect. What keyspace events tell is said there too where it follows from the
//! change (a key was made, removed, has expired), and by the handler where only it knows.

use crate::base::rng::Rng;
use crate::base::time::{Millis, Now};
use crate::base::{BLOB_BYTES_MIN, Blob, DbIndex, ShardId};
use crate::config::{Config, EventClass};
use crate::keyspace::{Db, Entry, EntryMut, Keyspace, Lookup, NewValue, Record, Value};
use crate::metrics::ShardMetrics;
use crate::resp::{Args, CommandError, Reply};
use crate::shard::Shard;
use crate::shard::access::AccessPolicy;
use crate::shard::effects::Effects;
use crate::shard::events::KeyEvents;
use crate::shard::slots::SlotMap;
use crate::shard::waiters::Waiters;
use crate::shard::watched::Watched;
use crate::tracking::Tracking;
use crate::types::{DataType, Hash, Object};

/// A handler that reads one shard's data.
pub type ReadFn = fn(&mut ReadCx<'_>, Args<'_>, &mut Reply) -> Result<(), CommandError>;
/// A handler that may change one shard's data.
pub type WriteFn = fn(&mut WriteCx<'_>, Args<'_>, &mut Reply) -> Result<(), CommandError>;

/// A handler that works on what a shard has beside its keys.
pub type ServiceFn = fn(&mut Shard, Args<'_>, &mut Reply) -> Result<(), CommandError>;

/// A handler that runs on one shard to its end, with the permission it asks for.
#[derive(Clone, Copy)]
pub enum DataFn {
    /// Reads.
    Read(ReadFn),
    /// Writes.
    Write(WriteFn),
    /// Works on services.
    Service(ServiceFn),
}

impl DataFn {
    /// Runs the handler on the database it was sent to.
    #[inline]
    pub fn call(
        self,
        shard: &mut Shard,
        db: DbIndex,
        touch: bool,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), CommandError> {
        match self {
            DataFn::Read(f) => f(&mut ReadCx { cx: shard.data_cx(db, touch) }, args, reply),
            DataFn::Write(f) if shard.effects.is_active() => {
                let outer = shard.begin_command();
                let result = f(&mut WriteCx { read: ReadCx { cx: shard.data_cx(db, touch) } }, args, reply);
                shard.end_command(outer, db, args);
                result
            }
            DataFn::Write(f) => f(&mut WriteCx { read: ReadCx { cx: shard.data_cx(db, touch) } }, args, reply),
            DataFn::Service(f) => f(shard, args, reply),
        }
    }
}

/// The parts of a shard that a data handler works on, borrowed for one command.
pub struct DataCx<'a> {
    /// All databases of this shard.
    pub keyspace: &'a mut Keyspace,
    /// The client's selected database.
    pub db: DbIndex,
    /// The instant of this turn of the loop.
    pub now: Now,
    /// Hits, misses, expired keys, changes.
    pub metrics: &'a mut ShardMetrics,
    /// Settings in force.
    pub config: &'a Config,
    /// The shard's own stream of random numbers.
    pub rng: &'a mut Rng,
    /// What happens to keys, for those who have asked for it.
    pub events: &'a mut KeyEvents,
    /// Who is to know of changes.
    pub observers: Observers<'a>,
    /// How a lookup stamps the record it finds.
    pub access: AccessPolicy,
    /// False under CLIENT NO-TOUCH: lookups leave the record's access word alone.
    pub touch: bool,
    /// Which shard this is.
    pub shard: ShardId,
    /// Who owns what.
    pub slots: SlotMap,
}

/// Those who are told of every change of a key, be it by a command or because its time has come.
pub struct Observers<'a> {
    /// Clients that wait for data.
    pub waiters: &'a mut Waiters,
    /// Keys that clients watch.
    pub watched: &'a mut Watched,
    /// Who may have a copy.
    pub tracking: &'a mut Tracking,
    /// What the log is told.
    pub effects: &'a mut Effects,
}

impl Observers<'_> {
    /// A key has changed, come or gone.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8]) {
        self.waiters.signal(db, key);
        self.watched.touch(db, key);
        self.tracking.changed(key, false);
        self.effects.changed(db, key);
    }

    /// A key has come to its end, with nobody to blame, and that is counted as a change.
    #[inline]
    pub fn expired(&mut self, db: DbIndex, key: &[u8]) {
        self.effects.expired_and_counted(db, key);
        self.fields_expired(db, key);
    }

    /// A key was removed because memory was full. Nobody waits for that to be on the disk: it may as well have been removed later.
    pub fn evicted(&mut self, db: DbIndex, key: &[u8]) {
        self.effects.expired(db, key);
        self.fields_expired(db, key);
    }

    /// Takes some of the fields that are due out of a hash, and says so; how many there were.
    pub fn expire_fields(
        &mut self,
        db: DbIndex,
        key: &[u8],
        object: &mut Object,
        now: Millis,
        fields_max: usize,
    ) -> usize {
        self.fields_expired(db, key);
        let Some(hash) = Hash::of_mut(object) else { return 0 };
        let mut names = Vec::new();
        let logged = self.effects.is_active();
        let expired = hash.expire(now, fields_max, |field| names.extend(logged.then(|| field.to_vec())));
        if !names.is_empty() {
            self.effects.fields_expired(db, key, &names);
        }
        expired
    }

    /// The same of parts of a key.
    #[inline]
    fn fields_expired(&mut self, db: DbIndex, key: &[u8]) {
        self.waiters.signal(db, key);
        self.watched.touch(db, key);
        self.tracking.changed(key, true);
    }
}

/// A key that is there, and what says how it is stamped.
struct FoundLive<'a> {
    entry: EntryMut<'a>,
    access: AccessPolicy,
    rng: &'a mut Rng,
    touch: bool,
}

/// Permission to read. See the module.
pub struct ReadCx<'a> {
    cx: DataCx<'a>,
}

/// Permission to read and change. See the module.
pub struct WriteCx<'a> {
    read: ReadCx<'a>,
}

impl<'a> std::ops::Deref for WriteCx<'a> {
    type Target = ReadCx<'a>;
    fn deref(&self) -> &ReadCx<'a> {
        &self.read
    }
}

impl std::ops::DerefMut for WriteCx<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.read
    }
}

impl<'a> ReadCx<'a> {
    /// A context that only reads, over these parts.
    pub fn new(cx: DataCx<'a>) -> ReadCx<'a> {
        ReadCx { cx }
    }

    /// The instant of this turn of the loop: the same for every command in it.
    pub fn now(&self) -> Now {
        self.cx.now
    }

    /// The client's selected database.
    pub fn db_index(&self) -> DbIndex {
        self.cx.db
    }

    /// A payload is checked in depth; counted.
    pub fn note_payload(&mut self) {
        self.cx.metrics.payloads_checked += 1;
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        self.cx.config
    }

    /// The shard's random numbers.
    pub fn rng(&mut self) -> &mut Rng {
        self.cx.rng
    }

    /// Which shard this is.
    pub fn shard(&self) -> ShardId {
        self.cx.shard
    }

    /// Whether a key is one of this shard's.
    pub fn owns(&self, key: &[u8]) -> bool {
        self.cx.slots.shard_of(key) == self.cx.shard
    }

    /// How access words are to be read (LRU or LFU).
    pub fn access_policy(&self) -> AccessPolicy {
        self.cx.access
    }

    /// The selected database, for commands over all keys (SCAN, KEYS, RANDOMKEY, DBSIZE).
    pub fn db(&mut self) -> &Db {
        self.cx.observers.effects.saw_all();
        self.cx.keyspace.db(self.cx.db)
    }

    /// Says what has happened to a key of the selected database.
    #[inline]
    pub fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.cx.events.note(self.cx.config, class, event, self.cx.db, key);
    }

    /// Finds a live key. One whose time has come is removed on the way.
    #[inline]
    fn find(&mut self, key: &[u8], counted: bool, touched: bool) -> Option<Entry<'_>> {
        let now = self.cx.now.millis();
        let found = self.find_live(key, counted)?;
        let FoundLive { entry, access, rng, touch } = found;
        if touched && touch {
            Some(entry.into_touched(|old| access.touched(old, now, rng)))
        } else {
            Some(entry.into_entry())
        }
    }

    /// Finds a live key to change it. One whose time has come is removed on the way.
    #[inline]
    fn find_live(&mut self, key: &[u8], counted: bool) -> Option<FoundLive<'_>> {
        let DataCx { keyspace, db, now, metrics, access, rng, touch, config, events, observers, .. } = &mut self.cx;
        observers.effects.saw(*db, key);
        match keyspace.db_mut(*db).lookup(key) {
            Lookup::Found(entry) if !entry.is_expired(now.millis()) => {
                metrics.keyspace_hits += u64::from(counted);
                return Some(FoundLive { entry, access: *access, rng, touch: *touch });
            }
            Lookup::Found(expired) => {
                expired.bury();
                metrics.expired_keys += 1;
                metrics.changes += 1;
                events.note(config, EventClass::EXPIRED, "expired", *db, key);
                observers.expired(*db, key);
            }
            Lookup::Vacant(_) => {}
        }
        if counted {
            metrics.keyspace_misses += 1;
            events.note(config, EventClass::MISS, "keymiss", *db, key);
        }
        None
    }

    /// Finds a live key to change it, neither counted nor touched. One whose time has come is removed on the way.
    #[inline]
    fn find_mut(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        self.find_live(key, false).map(|found| found.entry)
    }

    /// Counts a hit or a miss and tells of a miss, for a command that changes what it finds and yet counts as reading it.
    pub fn count_found(&mut self, key: &[u8], found: bool) {
        let DataCx { db, metrics, config, events, .. } = &mut self.cx;
        metrics.keyspace_hits += u64::from(found);
        metrics.keyspace_misses += u64::from(!found);
        if !found {
            events.note(config, EventClass::MISS, "keymiss", *db, key);
        }
    }

    /// Looks a key up as a read command does: counts a hit or a miss and touches the key.
    #[inline]
    pub fn get(&mut self, key: &[u8]) -> Option<Entry<'_>> {
        self.find(key, true, true)
    }

    /// Looks a key up as TTL, TYPE and EXISTS do: counts a hit or a miss, but leaves the access word alone.
    #[inline]
    pub fn get_untouched(&mut self, key: &[u8]) -> Option<Entry<'_>> {
        self.find(key, true, false)
    }

    /// Looks a key up as OBJECT does: counts a hit or a miss, but leaves the access word alone and tells nobody of a miss.
    pub fn examine(&mut self, key: &[u8]) -> Option<Entry<'_>> {
        let found = self.find(key, false, false).is_some();
        self.cx.metrics.keyspace_hits += u64::from(found);
        self.cx.metrics.keyspace_misses += u64::from(!found);
        self.peek(key)
    }

    /// Looks a key up without touching it or counting anything (OBJECT, DEBUG, write commands that only look).
    #[inline]
    pub fn peek(&mut self, key: &[u8]) -> Option<Entry<'_>> {
        self.find(key, false, false)
    }

    /// The string at `key` for a read command; [`CommandError::WrongType`] if another type is there.
    #[inline]
    pub fn string(&mut self, key: &[u8]) -> Result<Option<Value<'_>>, CommandError> {
        self.get(key).map(|entry| string_of(entry.value())).transpose()
    }

    /// The value of type `T` at `key` for a read command; [`CommandError::WrongType`] if another type is there.
    #[inline]
    pub fn typed<T: DataType>(&mut self, key: &[u8]) -> Result<Option<&T>, CommandError> {
        self.get(key).map(|entry| of_type(entry.value())).transpose()
    }
}

impl ReadCx<'_> {
    /// As [`ReadCx::typed`], for a second look: nothing is counted or touched.
    pub fn peek_typed<T: DataType>(&mut self, key: &[u8]) -> Result<Option<&T>, CommandError> {
        self.peek(key).map(|entry| of_type(entry.value())).transpose()
    }
}

/// The value, if it is a string.
#[inline]
fn string_of(value: Value<'_>) -> Result<Value<'_>, CommandError> {
    match value {
        Value::Int(_) | Value::Inline { .. } | Value::Blob(_) | Value::Packed(_) => Ok(value),
        Value::Object(_) => Err(CommandError::WrongType),
    }
}

/// The value, if it is of this type.
#[inline]
fn of_type<T: DataType>(value: Value<'_>) -> Result<&T, CommandError> {
    match value {
        Value::Object(object) => T::of(object).ok_or(CommandError::WrongType),
        Value::Int(_) | Value::Inline { .. } | Value::Blob(_) | Value::Packed(_) => Err(CommandError::WrongType),
    }
}

/// Refuses a string that the allocator has no room for. Commands have held its length against `proto-max-bulk-len`; where that
/// was raised, an offset of 2^62 must not end the process.
fn check_room(len: usize) -> Result<(), CommandError> {
    /// The usual `proto-max-bulk-len`; below it nobody is asked.
    const ALWAYS_TRIED_BYTES: usize = 512 << 20;
    let has_room = len <= ALWAYS_TRIED_BYTES || Vec::<u8>::new().try_reserve_exact(len).is_ok();
    if has_room { Ok(()) } else { Err(CommandError::StringTooLong) }
}

/// A string that was put together in place: `raw`, however short it is. A long one is moved out of the vector.
fn raw_value(bytes: &mut Vec<u8>) -> NewValue<'_> {
    if bytes.len() < BLOB_BYTES_MIN {
        NewValue::Bytes { bytes, raw: true }
    } else {
        NewValue::Blob(Blob::new(std::mem::take(bytes)))
    }
}

/// Adds zeros to the end. Where that is most of the new string, they come from the allocator.
fn lengthen(bytes: &mut Vec<u8>, len: usize) {
    if len / 2 > bytes.len() {
        let mut longer = vec![0; len];
        longer[..bytes.len()].copy_from_slice(bytes);
        *bytes = longer;
    } else {
        bytes.resize(len, 0);
    }
}

/// What a change of a value may need beside the value.
pub struct Env<'e> {
    /// The settings in force.
    pub config: &'e Config,
    /// The instant of this turn of the loop.
    pub now: Now,
    /// The shard's random numbers.
    pub rng: &'e mut Rng,
    changes: u64,
    buried: Option<Object>,
    events: [Option<&'static str>; 3],
    touched: bool,
    logged: bool,
    gone: Option<Gone>,
}

/// Fields of a hash whose time had come when a command looked at it.
struct Gone {
    fields: Vec<Vec<u8>>,
    none_left: bool,
}

impl<'e> Env<'e> {
    fn new(config: &'e Config, now: Now, rng: &'e mut Rng, changes: u64) -> Env<'e> {
        Env { config, now, rng, changes, buried: None, events: [None; 3], touched: false, logged: false, gone: None }
    }

    /// Takes those of these fields that are due out of a hash, and a few others, and counts them as changes. Then a writer may go on
    /// with these fields as if there were no deadlines.
    #[inline]
    pub fn settle<'f>(&mut self, hash: &mut Hash, fields: impl IntoIterator<Item = &'f [u8]>) {
        let (logged, mut names) = (self.logged, Vec::new());
        let expired = hash.settle(self.now.millis(), fields, |field| names.extend(logged.then(|| field.to_vec())));
        if expired > 0 {
            self.changed(expired as u64);
            self.event("hexpired");
            self.gone = logged.then(|| Gone { fields: names, none_left: hash.is_empty() });
        }
    }

    /// Leaves what a value has given up to be freed in slices.
    pub fn bury(&mut self, value: impl DataType) {
        self.buried = Some(value.into_object());
    }

    /// Counts changes, as Redis counts them for its save points. Nothing counted means that nothing was changed.
    pub fn changed(&mut self, changes: u64) {
        self.changes += changes;
    }

    /// Whether something was, that the value was made or has grown included.
    pub fn has_changed(&self) -> bool {
        self.changes > 0
    }

    /// Says what has happened to the key, in the class of its type. That it was made or removed is said by itself.
    #[inline]
    pub fn event(&mut self, event: &'static str) {
        let place = self.events.iter_mut().find(|place| place.is_none());
        *place.expect("a change is told in three words") = Some(event);
    }

    /// The same, if it has.
    #[inline]
    pub fn event_if(&mut self, happened: bool, event: &'static str) {
        if happened {
            self.event(event);
        }
    }

    /// Nothing was changed, and those who watch the key are to think so all the same (LTRIM that removes nothing).
    pub fn touched(&mut self) {
        self.touched = true;
    }

    /// Whether observers are to be told.
    fn is_news(&self) -> bool {
        self.changes > 0 || self.touched
    }
}

/// The class of events of a type, by its name.
fn class_of(type_name: &str) -> EventClass {
    match type_name {
        "list" => EventClass::LIST,
        "set" => EventClass::SET,
        "hash" => EventClass::HASH,
        "zset" => EventClass::ZSET,
        "stream" => EventClass::STREAM,
        _ => EventClass::STRING,
    }
}

/// What happens to a key's time to live when its value is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// Any expiry is dropped (plain SET).
    Clear,
    /// The key keeps the one it has (SET KEEPTTL, INCR, APPEND).
    Keep,
    /// The key expires then.
    At(Millis),
}

impl<'a> WriteCx<'a> {
    /// A context that may write, over these parts.
    pub fn new(cx: DataCx<'a>) -> WriteCx<'a> {
        WriteCx { read: ReadCx { cx } }
    }

    /// Looks a key up as a write command does: touches it, counts neither hit nor miss.
    #[inline]
    pub fn lookup(&mut self, key: &[u8]) -> Option<Entry<'_>> {
        self.find(key, false, true)
    }

    /// The string at `key` for a write command; [`CommandError::WrongType`] if another type is there.
    #[inline]
    pub fn lookup_string(&mut self, key: &[u8]) -> Result<Option<Value<'_>>, CommandError> {
        self.lookup(key).map(|entry| string_of(entry.value())).transpose()
    }

    /// The value of type `T` at `key` for a write command that only looks; [`CommandError::WrongType`] if another type is there.
    #[inline]
    pub fn lookup_typed<T: DataType>(&mut self, key: &[u8]) -> Result<Option<&T>, CommandError> {
        self.lookup(key).map(|entry| of_type(entry.value())).transpose()
    }

    /// Lets `change` at the value of type `T`, in one search; none if there is no such key. A value that is empty afterwards
    /// goes away with its key, unless its type may be empty. `change` says through [`Env::changed`] what it has changed.
    #[inline]
    pub fn modify<T: DataType, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<Option<R>, CommandError> {
        self.change_typed(key, false, change)
    }

    /// As [`WriteCx::modify`], but a key that is not there starts as `T::default()`. It is made only if its value is not
    /// empty afterwards, or its type may be empty.
    #[inline]
    pub fn modify_or_create<T: DataType, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<R, CommandError> {
        Ok(self.change_typed(key, true, change)?.expect("a key that is missing was made"))
    }

    #[inline]
    fn change_typed<T: DataType, R>(
        &mut self,
        key: &[u8],
        create: bool,
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<Option<R>, CommandError> {
        let DataCx { keyspace, db: index, now, metrics, access, rng, touch, config, observers, events, .. } =
            &mut self.read.cx;
        let millis = now.millis();
        let db = keyspace.db_mut(*index);
        if let Lookup::Found(mut entry) = db.lookup(key) {
            if !entry.is_expired(millis) {
                let old = entry.access();
                if *touch {
                    let new = access.touched(old, millis, rng);
                    if new != old {
                        entry.set_access(new);
                    }
                }
                let mut env = Env::new(config, *now, rng, 0);
                env.logged = observers.effects.is_active();
                let outcome = entry.with_object(|object| {
                    let value = T::of_mut(object)?;
                    let before = value.next_expiry();
                    let result = change(value, &mut env);
                    Some((result, T::DIES_EMPTY && value.is_empty(), before, value.next_expiry()))
                });
                metrics.changes += env.changes;
                let told = env.events;
                let is_news = env.is_news();
                let (buried, gone) = (env.buried, env.gone);
                let (result, dead, before, after) = outcome.flatten().ok_or(CommandError::WrongType)?;
                for event in told.into_iter().flatten() {
                    events.note(config, class_of(T::NAME), event, *index, key);
                }
                if dead {
                    entry.bury();
                    events.note(config, EventClass::GENERIC, "del", *index, key);
                }
                if let Some(object) = buried {
                    db.bury_object(object);
                }
                // Only hashes have parts that expire; for the other types this is nothing.
                if before != after {
                    db.note_parts(key, before, after.filter(|_| !dead));
                }
                if is_news {
                    observers.changed(*index, key);
                }
                if let Some(Gone { fields, none_left }) = gone {
                    observers.effects.fields_expired_and_counted(*index, key, &fields, none_left && !dead);
                }
                return Ok(Some(result));
            }
            entry.bury();
            metrics.expired_keys += 1;
            metrics.changes += 1;
            events.note(config, EventClass::EXPIRED, "expired", *index, key);
            observers.expired(*index, key);
        }
        if !create {
            return Ok(None);
        }
        let mut value = T::default();
        let mut env = Env::new(config, *now, rng, 0);
        let result = change(&mut value, &mut env);
        metrics.changes += env.changes;
        let told = env.events;
        if !(T::DIES_EMPTY && value.is_empty()) {
            events.note(config, EventClass::NEW, "new", *index, key);
            for event in told.into_iter().flatten() {
                events.note(config, class_of(T::NAME), event, *index, key);
            }
            let Lookup::Vacant(place) = db.lookup(key) else { unreachable!("it was not there a moment ago") };
            place.insert(NewValue::Object(Box::new(value.into_object())), None, access.fresh(millis));
            observers.changed(*index, key);
        }
        Ok(Some(result))
    }

    /// Gives `key` this object, whatever was there, and says so in the class of its type; one that is dead is not stored, and the
    /// key goes away.
    pub fn put_object(&mut self, key: &[u8], object: Object, ttl: Ttl, event: &'static str) {
        if object.is_dead() {
            self.remove(key);
        } else {
            let class = class_of(object.type_name());
            self.set(key, NewValue::Object(Box::new(object)), ttl);
            self.notify(class, event, key);
        }
    }

    /// Gives `key` this value, whatever was there.
    #[inline]
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, ttl: Ttl) {
        let DataCx { keyspace, db, now, metrics, access, observers, config, events, rng, touch, .. } =
            &mut self.read.cx;
        let now = now.millis();
        let fresh = access.fresh(now);
        metrics.changes += 1;
        observers.changed(*db, key);
        match keyspace.db_mut(*db).lookup(key) {
            Lookup::Vacant(vacant) => {
                events.note(config, EventClass::NEW, "new", *db, key);
                let expire = if let Ttl::At(due) = ttl { Some(due) } else { None };
                vacant.insert(value, expire, fresh);
            }
            Lookup::Found(mut entry) => {
                let expire = match ttl {
                    Ttl::Clear => None,
                    Ttl::At(due) => Some(due),
                    Ttl::Keep => entry.expire_at().filter(|due| *due >= now),
                };
                if entry.is_expired(now) {
                    metrics.expired_keys += 1;
                    observers.effects.expired(*db, key);
                    events.note(config, EventClass::EXPIRED, "expired", *db, key);
                    events.note(config, EventClass::NEW, "new", *db, key);
                }
                // A new value is a new life for LRU; LFU keeps its count, and it is a use, as in Redis.
                let old = entry.access();
                let access = if *touch { access.touched(old, now, rng) } else { access.overwritten(old, now) };
                entry.assign(value, expire, access);
            }
        }
    }

    /// Gives `key` the integer that `change` makes of the string there, in one search; the expiry stays, a missing key is made.
    /// When `change` fails, nothing was changed.
    #[inline]
    pub fn update_integer(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<Value<'_>>) -> Result<i64, CommandError>,
    ) -> Result<i64, CommandError> {
        let DataCx { keyspace, db: index, now, metrics, access, rng, touch, config, events, observers, .. } =
            &mut self.read.cx;
        let now = now.millis();
        let db = keyspace.db_mut(*index);
        let number = match db.lookup(key) {
            Lookup::Found(mut entry) if !entry.is_expired(now) => {
                let number = change(Some(string_of(entry.value())?))?;
                let old = entry.access();
                let stamp = if *touch { access.touched(old, now, rng) } else { old };
                let expire = entry.expire_at();
                entry.assign(NewValue::Int(number), expire, stamp);
                number
            }
            Lookup::Found(mut expired) => {
                let number = change(None);
                metrics.expired_keys += 1;
                metrics.changes += 1;
                events.note(config, EventClass::EXPIRED, "expired", *index, key);
                observers.expired(*index, key);
                match number {
                    Ok(number) => {
                        expired.assign(NewValue::Int(number), None, access.fresh(now));
                        events.note(config, EventClass::NEW, "new", *index, key);
                    }
                    Err(_) => expired.bury(),
                }
                number?
            }
            Lookup::Vacant(place) => {
                let number = change(None)?;
                place.insert(NewValue::Int(number), None, access.fresh(now));
                events.note(config, EventClass::NEW, "new", *index, key);
                number
            }
        };
        metrics.changes += 1;
        observers.changed(*index, key);
        Ok(number)
    }

    /// Lets `edit` change a string in place; it sees the bytes and may lengthen or shorten them. The key must exist and hold a
    /// string. Its encoding is `raw` afterwards, as in Redis.
    pub fn edit_string<R>(&mut self, key: &[u8], edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.changed(1);
        self.signal(key);
        let mut entry = self.find_mut(key).expect("the handler looked the key up before editing it");
        entry.with_blob_mut(edit)
    }

    /// Gives `key` a string that was put together by a command, with the encoding `raw`, whatever was there.
    pub fn set_raw(&mut self, key: &[u8], mut bytes: Vec<u8>, ttl: Ttl) {
        self.set(key, raw_value(&mut bytes), ttl);
    }

    /// Lets `change` overwrite bytes of the string at `key`, in one search and without a copy. A key that is not there, or a
    /// string of less than `len_min` bytes, has zeros in their place; that counts as a change, others are for `change` to count.
    /// The encoding is `raw` afterwards.
    pub fn overwrite_string<R>(
        &mut self,
        key: &[u8],
        len_min: usize,
        change: impl FnOnce(&mut [u8], &mut Env<'_>) -> R,
    ) -> Result<R, CommandError> {
        let DataCx { keyspace, db: index, now, metrics, access, rng, touch, config, observers, events, .. } =
            &mut self.read.cx;
        let millis = now.millis();
        let db = keyspace.db_mut(*index);
        if let Lookup::Found(mut entry) = db.lookup(key) {
            if !entry.is_expired(millis) {
                let len = string_of(entry.value())?.len();
                if *touch {
                    let new = access.touched(entry.access(), millis, rng);
                    entry.set_access(new);
                }
                let mut env = Env::new(config, *now, rng, u64::from(len < len_min));
                let result = if len < len_min {
                    check_room(len_min)?;
                    entry.with_blob_mut(|bytes| {
                        lengthen(bytes, len_min);
                        change(bytes, &mut env)
                    })
                } else {
                    entry.with_bytes_mut(|bytes| change(bytes, &mut env))
                };
                metrics.changes += env.changes;
                for event in env.events.into_iter().flatten() {
                    events.note(config, EventClass::STRING, event, *index, key);
                }
                if env.is_news() {
                    observers.changed(*index, key);
                }
                return Ok(result);
            }
            entry.bury();
            metrics.expired_keys += 1;
            metrics.changes += 1;
            observers.effects.expired_and_counted(*index, key);
            events.note(config, EventClass::EXPIRED, "expired", *index, key);
        }
        check_room(len_min)?;
        // Zeroed by the allocator: pages that nobody writes to are never touched.
        let mut bytes = vec![0; len_min];
        let mut env = Env::new(config, *now, rng, 1);
        let result = change(&mut bytes, &mut env);
        metrics.changes += env.changes;
        events.note(config, EventClass::NEW, "new", *index, key);
        for event in env.events.into_iter().flatten() {
            events.note(config, EventClass::STRING, event, *index, key);
        }
        let Lookup::Vacant(place) = db.lookup(key) else { unreachable!("it was not there a moment ago") };
        place.insert(raw_value(&mut bytes), None, access.fresh(millis));
        observers.changed(*index, key);
        Ok(result)
    }

    /// Appends to a string, which must exist, and returns its new length.
    pub fn append(&mut self, key: &[u8], tail: &[u8]) -> usize {
        self.changed(1);
        self.signal(key);
        let mut entry = self.find_mut(key).expect("the handler looked the key up before appending to it");
        entry.append(tail)
    }

    /// Sets or clears the expiry of a key, and says so; false if there is no such key.
    pub fn set_expire(&mut self, key: &[u8], expire: Option<Millis>) -> bool {
        let Some(mut entry) = self.find_mut(key) else { return false };
        entry.set_expire(expire);
        self.changed(1);
        self.notify(EventClass::GENERIC, if expire.is_some() { "expire" } else { "persist" }, key);
        self.signal(key);
        true
    }

    /// Says when or how often a key was used (RESTORE); false if there is no such key.
    pub fn set_access(&mut self, key: &[u8], access: u32) -> bool {
        let Some(mut entry) = self.find_mut(key) else { return false };
        entry.set_access(access);
        true
    }

    /// Keeps a string compressed; false if there is none, or too little would be gained. Nobody but the allocator can tell.
    pub fn pack(&mut self, key: &[u8]) -> bool {
        self.find_mut(key).is_some_and(|mut entry| entry.pack())
    }

    /// Keeps a string as it is; false if it was not compressed.
    pub fn unpack(&mut self, key: &[u8]) -> bool {
        self.find_mut(key).is_some_and(|mut entry| entry.unpack())
    }

    /// Removes a key, and says so; false if there was none.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.find_mut(key) else { return false };
        entry.bury();
        self.changed(1);
        self.signal(key);
        self.notify(EventClass::GENERIC, "del", key);
        true
    }

    /// Removes a key and hands out its record, expiry included.
    pub fn take(&mut self, key: &[u8]) -> Option<Record> {
        let record = self.find_mut(key)?.remove();
        self.changed(1);
        self.signal(key);
        Some(record)
    }

    /// Puts a record into the selected database in place of any key of its name.
    pub fn put(&mut self, record: Record) {
        self.put_into(self.read.cx.db, record);
    }

    /// Puts a record into another database of this shard (MOVE, COPY … DB).
    pub fn put_into(&mut self, db: DbIndex, record: Record) {
        let DataCx { events, config, .. } = &mut self.read.cx;
        events.note(config, EventClass::NEW, "new", db, record.key());
        self.read.cx.observers.changed(db, record.key());
        let db = self.read.cx.keyspace.db_mut(db);
        if let Some(old) = db.insert_record(record) {
            db.bury(old);
        }
        self.changed(1);
    }

    /// Runs `f` with another database selected.
    pub fn in_db<R>(&mut self, db: DbIndex, f: impl FnOnce(&mut WriteCx<'a>) -> R) -> R {
        let selected = std::mem::replace(&mut self.read.cx.db, db);
        let result = f(self);
        self.read.cx.db = selected;
        result
    }

    /// Empties the selected database and hands out what was in it, so that the caller can free it at its leisure. None if a
    /// snapshot keeps it.
    pub fn take_db(&mut self) -> Option<Db> {
        let DataCx { keyspace, db, observers, .. } = &mut self.read.cx;
        observers.watched.touch_db(*db, |key| keyspace.db(*db).find(key).is_some());
        observers.waiters.signal_db(*db);
        let changes = keyspace.db(*db).len() as u64;
        let taken = keyspace.take(*db);
        observers.effects.emit(*db, [&b"FLUSHDB"[..]].into_iter());
        self.changed(changes);
        taken
    }

    /// Exchanges two databases of this shard.
    pub fn swap_dbs(&mut self, a: DbIndex, b: DbIndex) {
        if a == b {
            return;
        }
        self.read.cx.keyspace.swap(a, b);
        for (db, other) in [(a, b), (b, a)] {
            let DataCx { keyspace, observers, .. } = &mut self.read.cx;
            let is_there = |db: DbIndex, key: &[u8]| keyspace.db(db).find(key).is_some();
            observers.watched.touch_db(db, |key| is_there(db, key) || is_there(other, key));
            observers.waiters.signal_db(db);
        }
        self.changed(1);
        let (first, second) = (a.0.to_string(), b.0.to_string());
        let words = [&b"SWAPDB"[..], first.as_bytes(), second.as_bytes()];
        self.read.cx.observers.effects.emit(a, words.into_iter());
    }

    // ---- what the log is told

    /// Whether there is a log that effects would go to: what is made for [`WriteCx::effect`] alone need not be made otherwise.
    #[inline]
    pub fn is_logged(&self) -> bool {
        self.read.cx.observers.effects.is_active()
    }

    /// What this command does, in words that do the same whenever they are run, instead of its own. May be called several times. In a
    /// step of a plan it speaks for this key alone; the others are logged as they are in the end.
    pub fn effect(&mut self, key: &[u8], words: &[&[u8]]) {
        let DataCx { db, observers, .. } = &mut self.read.cx;
        observers.effects.say(*db, key, words.iter().copied());
    }

    /// This command, or step as far as the key is concerned, has counted a change and there is nothing to log.
    pub fn no_effect(&mut self, key: &[u8]) {
        let DataCx { db, observers, .. } = &mut self.read.cx;
        observers.effects.say_nothing(*db, key);
    }

    /// Has the key logged as it is at the end of the command, instead of the command. For what cannot be said otherwise: the whole
    /// value is written.
    pub fn state_effect(&mut self, key: &[u8]) {
        let DataCx { db, observers, .. } = &mut self.read.cx;
        observers.effects.say_state(*db, key);
    }

    /// Tells those who wait for the key that it has changed.
    fn signal(&mut self, key: &[u8]) {
        self.read.cx.observers.changed(self.read.cx.db, key);
    }

    /// Counts changes beyond the one that each method here counts by itself.
    pub fn changed(&mut self, changes: u64) {
        self.read.cx.metrics.changes += changes;
    }
}
