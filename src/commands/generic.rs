//! Keys of any type: their life, their names, what is known about them. Rows first, then the handlers by subject.
//!
//! Commands over all keys of a database (KEYS, SCAN, RANDOMKEY) have their handlers in [`super::walk`].
//!
//! RENAME and COPY with keys on two shards are plans, whose keys are reserved. RENAME takes the record out of one shard and then
//! puts it into the other; its driver runs every plan to its end, so no record is lost on the way, whatever becomes of the client.
//!
//! DUMP and RESTORE are in [`super::dump`]. Absent: MIGRATE and SORT.

use super::docs::Group;
use super::help;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Reach, Row, Run, SessionCx};
use super::walk;
use crate::base::DbIndex;
use crate::base::num::{format_i64, parse_i64};
use crate::base::time::Millis;
use crate::config::{Config, EventClass, MaxmemoryPolicy};
use crate::keyspace::access::{lfu_counter, lru_idle_secs};
use crate::keyspace::{Entry, Record, Value};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::Merge;
use crate::shard::access::AccessPolicy;
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::shard::reservations::Access;
use crate::txn::{Coordinator, Plan};

const READ: KeyFlags = KeyFlags::RO.and(KeyFlags::ACCESS);
const UPDATE: KeyFlags = KeyFlags::RW.and(KeyFlags::UPDATE);
const REMOVE: KeyFlags = KeyFlags::RM.and(KeyFlags::DELETE);
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);

/// What all rows of this file share.
const GENERIC: Row = Row { group: Group::Generic, ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "copy",
        usage: "source destination [DB destination-db] [REPLACE]",
        summary: "Copies a key with its value and time to live to another name or database.",
        since: "6.2.0",
        complexity: "O(1) for strings, which share their bytes until one of them changes if they are large.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[KeySpec::one(1, READ), KeySpec::one(2, KeyFlags::OW.and(KeyFlags::UPDATE))],
        run: Run::Hops(DataFn::Write(copy), copy_plan),
        ..GENERIC
    },
    Row {
        name: "del",
        usage: "key [key ...]",
        summary: "Removes keys and replies with how many were there.",
        complexity: "O(N) where N is the number of keys.",
        arity: -2,
        flags: Flags::WRITE,
        keys: &[KeySpec::rest(1, 1, REMOVE)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Split(DataFn::Write(del), Merge::Sum),
        ..GENERIC
    },
    Row {
        name: "delifeq",
        usage: "key value",
        summary: "Removes a key if it holds this very string: how the owner of a lock gives it back.",
        since: "9.0.0",
        complexity: "O(N) where N is the length of the value.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RM.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(delifeq)),
        ..GENERIC
    },
    Row {
        name: "exists",
        usage: "key [key ...]",
        summary: "Replies with how many of the keys are there; one that is named twice counts twice.",
        complexity: "O(N) where N is the number of keys.",
        arity: -2,
        flags: READ_FAST,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Split(DataFn::Read(exists), Merge::Sum),
        ..GENERIC
    },
    Row {
        name: "expire",
        usage: "key seconds [NX | XX | GT | LT]",
        summary: "Lets a key expire after so many seconds.",
        arity: -3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, UPDATE)],
        run: Run::Data(DataFn::Write(expire)),
        ..GENERIC
    },
    Row {
        name: "expireat",
        usage: "key unix-time-seconds [NX | XX | GT | LT]",
        summary: "Lets a key expire at a point in time, in seconds since 1970.",
        since: "1.2.0",
        arity: -3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, UPDATE)],
        run: Run::Data(DataFn::Write(expireat)),
        ..GENERIC
    },
    Row {
        name: "expiretime",
        usage: "key",
        summary: "Replies with the point in time at which a key expires, in seconds since 1970.",
        since: "7.0.0",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(expiretime)),
        ..GENERIC
    },
    Row {
        name: "keys",
        usage: "pattern",
        summary: "Replies with all keys that match a pattern. Looks at every key of the database.",
        complexity: "O(N) where N is the number of keys in the database.",
        arity: 2,
        flags: Flags::READONLY,
        acl: &["dangerous"],
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        run: Run::Server(walk::keys),
        reach: Reach::Everything(Access::Shared),
        ..GENERIC
    },
    Row {
        name: "move",
        usage: "key db",
        summary: "Moves a key to another database, unless it is there already.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(move_to_db)),
        ..GENERIC
    },
    Row {
        name: "object",
        summary: "Commands that look at how a key is kept.",
        since: "2.2.3",
        complexity: "Depends on the subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: OBJECT,
        ..GENERIC
    },
    Row {
        name: "persist",
        usage: "key",
        summary: "Takes away a key's time to live.",
        since: "2.2.0",
        arity: 2,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, UPDATE)],
        run: Run::Data(DataFn::Write(persist)),
        ..GENERIC
    },
    Row {
        name: "pexpire",
        usage: "key milliseconds [NX | XX | GT | LT]",
        summary: "Lets a key expire after so many milliseconds.",
        since: "2.6.0",
        arity: -3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, UPDATE)],
        run: Run::Data(DataFn::Write(pexpire)),
        ..GENERIC
    },
    Row {
        name: "pexpireat",
        usage: "key unix-time-milliseconds [NX | XX | GT | LT]",
        summary: "Lets a key expire at a point in time, in milliseconds since 1970.",
        since: "2.6.0",
        arity: -3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, UPDATE)],
        run: Run::Data(DataFn::Write(pexpireat)),
        ..GENERIC
    },
    Row {
        name: "pexpiretime",
        usage: "key",
        summary: "Replies with the point in time at which a key expires, in milliseconds since 1970.",
        since: "7.0.0",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(pexpiretime)),
        ..GENERIC
    },
    Row {
        name: "pttl",
        usage: "key",
        summary: "Replies with a key's time to live in milliseconds.",
        since: "2.6.0",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(pttl)),
        ..GENERIC
    },
    Row {
        name: "randomkey",
        summary: "Replies with a key of the database, picked at random.",
        arity: 1,
        flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        run: Run::Server(walk::randomkey),
        reach: Reach::Everything(Access::Shared),
        ..GENERIC
    },
    Row {
        name: "rename",
        usage: "key newkey",
        summary: "Gives a key another name, in place of any key that has it.",
        arity: 3,
        flags: Flags::WRITE,
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::OW.and(KeyFlags::UPDATE)),
        ],
        run: Run::Hops(DataFn::Write(rename), rename_plan),
        ..GENERIC
    },
    Row {
        name: "renamenx",
        usage: "key newkey",
        summary: "Gives a key another name, unless a key has that name already.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::OW.and(KeyFlags::INSERT)),
        ],
        run: Run::Hops(DataFn::Write(renamenx), renamenx_plan),
        ..GENERIC
    },
    Row {
        name: "scan",
        usage: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        summary: "Goes through the keys of the database, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls from start to end, where N is the number of keys.",
        arity: -2,
        flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        run: Run::Server(walk::scan),
        reach: Reach::Walk(Access::Shared),
        ..GENERIC
    },
    Row {
        name: "touch",
        usage: "key [key ...]",
        summary: "Marks keys as used now and replies with how many are there.",
        since: "3.2.1",
        complexity: "O(N) where N is the number of keys.",
        arity: -2,
        flags: READ_FAST,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Split(DataFn::Read(touch), Merge::Sum),
        ..GENERIC
    },
    Row {
        name: "ttl",
        usage: "key",
        summary: "Replies with a key's time to live in seconds.",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(ttl)),
        ..GENERIC
    },
    Row {
        name: "type",
        usage: "key",
        summary: "Replies with the type of the value at a key.",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(type_of)),
        ..GENERIC
    },
    Row {
        name: "unlink",
        usage: "key [key ...]",
        summary: "Removes keys and replies with how many were there.",
        since: "4.0.0",
        complexity: "O(N) where N is the number of keys.",
        arity: -2,
        flags: WRITE_FAST,
        keys: &[KeySpec::rest(1, 1, REMOVE)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Split(DataFn::Write(del), Merge::Sum),
        ..GENERIC
    },
    Row {
        name: "wait",
        usage: "numreplicas timeout",
        summary: "Replies with how many replicas have all writes of this client. There are none yet: 0, at once.",
        since: "3.0.0",
        arity: 3,
        flags: Flags::BLOCKING,
        acl: &["connection"],
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        run: Run::Session(wait),
        ..GENERIC
    },
];

const OBJECT_LOOKUP: Row = Row {
    usage: "key",
    since: "2.2.3",
    arity: 3,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(2, KeyFlags::RO)],
    tips: &["nondeterministic_output"],
    ..GENERIC
};

const OBJECT: &[Row] = &[
    Row {
        name: "encoding",
        summary: "Replies with the name of the way in which a value is stored.",
        run: Run::Data(DataFn::Read(object_encoding)),
        ..OBJECT_LOOKUP
    },
    Row {
        name: "freq",
        summary: "Replies with the logarithmic count of a key's uses, under an LFU policy.",
        since: "4.0.0",
        run: Run::Data(DataFn::Read(object_freq)),
        ..OBJECT_LOOKUP
    },
    Row {
        name: "help",
        summary: "Lists the subcommands.",
        since: "6.2.0",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        run: Run::Session(help::help),
        ..GENERIC
    },
    Row {
        name: "idletime",
        summary: "Replies with the seconds since a key was last used, under any policy but LFU.",
        run: Run::Data(DataFn::Read(object_idletime)),
        ..OBJECT_LOOKUP
    },
    Row {
        name: "refcount",
        summary: "Replies with how many references a value has.",
        run: Run::Data(DataFn::Read(object_refcount)),
        ..OBJECT_LOOKUP
    },
];

type Done = Result<(), CommandError>;

// Is it there?

fn exists(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let found = args.slice(1).iter().filter(|key| cx.get_untouched(key).is_some()).count();
    reply.int(found as i64);
    Ok(())
}

fn touch(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let found = args.slice(1).iter().filter(|key| cx.get(key).is_some()).count();
    reply.int(found as i64);
    Ok(())
}

fn type_of(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply.simple(cx.get_untouched(args.get(1)).map_or("none", |entry| entry.value().type_name()));
    Ok(())
}

fn del(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let removed = args.slice(1).iter().filter(|key| cx.remove(key)).count();
    reply.int(removed as i64);
    Ok(())
}

fn delifeq(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let equal = cx.lookup_string(key)?.is_some_and(|value| *value.text() == args[2]);
    if equal {
        cx.remove(key);
        cx.effect(key, &[b"DEL", key]);
    }
    reply.int(i64::from(equal));
    Ok(())
}

// How long will it be there?

fn expire(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    set_deadline(cx, args, reply, 1000, now, "expire")
}

fn pexpire(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    set_deadline(cx, args, reply, 1, now, "pexpire")
}

fn expireat(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_deadline(cx, args, reply, 1000, Millis(0), "expireat")
}

fn pexpireat(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_deadline(cx, args, reply, 1, Millis(0), "pexpireat")
}

/// EXPIRE and its kin: the argument counts units of `unit_ms` from `base` on. A deadline in the past removes the key.
fn set_deadline(
    cx: &mut WriteCx<'_>,
    args: Args<'_>,
    reply: &mut Reply,
    unit_ms: i64,
    base: Millis,
    name: &'static str,
) -> Done {
    let key = args.get(1);
    let rule = DeadlineRule::parse(args)?;
    let number = parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
    let due = number.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base.0));
    let due = due.map(Millis).ok_or(CommandError::InvalidExpire(name))?;
    let old = cx.lookup(key).map(|entry| entry.expire_at());
    let applies = old.is_some_and(|old| rule.allows(old, due));
    if applies {
        if due <= cx.now().millis() {
            cx.remove(key);
            cx.effect(key, &[b"DEL", key]);
        } else {
            cx.set_expire(key, Some(due));
            cx.effect(key, &[b"PEXPIREAT", key, format_i64(due.0).as_bytes()]);
        }
    }
    reply.int(i64::from(applies));
    Ok(())
}

const RULES_EXCLUDE: CommandError =
    CommandError::Custom("ERR NX and XX, GT or LT options at the same time are not compatible");
const ORDERS_EXCLUDE: CommandError = CommandError::Custom("ERR GT and LT options at the same time are not compatible");

/// On what condition EXPIRE sets a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct DeadlineRule {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl DeadlineRule {
    fn parse(args: Args<'_>) -> Result<DeadlineRule, CommandError> {
        let mut rule = DeadlineRule::default();
        for word in args.slice(3).iter() {
            let place = match word {
                w if w.eq_ignore_ascii_case(b"nx") => &mut rule.if_none,
                w if w.eq_ignore_ascii_case(b"xx") => &mut rule.if_some,
                w if w.eq_ignore_ascii_case(b"gt") => &mut rule.if_later,
                w if w.eq_ignore_ascii_case(b"lt") => &mut rule.if_earlier,
                other => return Err(CommandError::echo("Unsupported option ", other)),
            };
            *place = true;
        }
        if rule.if_none && (rule.if_some || rule.if_later || rule.if_earlier) {
            return Err(RULES_EXCLUDE);
        }
        if rule.if_later && rule.if_earlier {
            return Err(ORDERS_EXCLUDE);
        }
        Ok(rule)
    }

    /// A key that does not expire counts as one that expires after all others.
    fn allows(self, old: Option<Millis>, new: Millis) -> bool {
        !(self.if_none && old.is_some()
            || self.if_some && old.is_none()
            || self.if_later && old.is_none_or(|old| new <= old)
            || self.if_earlier && old.is_some_and(|old| new >= old))
    }
}

fn persist(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let expires = cx.lookup(key).is_some_and(|entry| entry.expire_at().is_some());
    if expires {
        cx.set_expire(key, None);
    }
    reply.int(i64::from(expires));
    Ok(())
}

fn ttl(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_deadline(cx, args, reply, |due, now| in_seconds(time_left(due, now)))
}

fn pttl(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_deadline(cx, args, reply, time_left)
}

fn expiretime(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_deadline(cx, args, reply, |due, _| in_seconds(due.0))
}

fn pexpiretime(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_deadline(cx, args, reply, |due, _| due.0)
}

/// Replies -2 for a missing key, -1 for one that does not expire.
fn reply_deadline(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, show: fn(Millis, Millis) -> i64) -> Done {
    let now = cx.now().millis();
    let shown = match cx.get_untouched(args.get(1)).map(|entry| entry.expire_at()) {
        None => -2,
        Some(None) => -1,
        Some(Some(due)) => show(due, now),
    };
    reply.int(shown);
    Ok(())
}

/// Milliseconds until then, 0 if it is past.
fn time_left(due: Millis, now: Millis) -> i64 {
    due.0.saturating_sub(now.0).max(0)
}

/// Rounded to the nearest second.
fn in_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

// Another name, another database.

fn rename(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (from, to) = (args.get(1), args.get(2));
    if cx.lookup(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    if from != to {
        give_name(cx, from, to);
    }
    reply.ok();
    Ok(())
}

fn renamenx(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (from, to) = (args.get(1), args.get(2));
    if cx.lookup(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    let free = from != to && cx.lookup(to).is_none();
    if free {
        give_name(cx, from, to);
    }
    reply.int(i64::from(free));
    Ok(())
}

fn give_name(cx: &mut WriteCx<'_>, from: &[u8], to: &[u8]) {
    let record = cx.take(from).expect("the handler looked the key up");
    cx.put(record.with_key(to));
    cx.notify(EventClass::GENERIC, "rename_from", from);
    cx.notify(EventClass::GENERIC, "rename_to", to);
}

/// The half of RENAME on the shard of the old name.
fn take_away(cx: &mut WriteCx<'_>, key: &[u8]) -> Option<Record> {
    let record = cx.take(key)?;
    cx.notify(EventClass::GENERIC, "rename_from", key);
    Some(record)
}

/// The half of RENAME on the shard of the new name.
fn bring(cx: &mut WriteCx<'_>, record: Record) {
    let key = record.key().to_vec();
    cx.put(record);
    cx.notify(EventClass::GENERIC, "rename_to", &key);
}

/// RENAME from one shard to another.
fn rename_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let mut reply = coordinator.reply();
        let (from, to) = (args.as_args().get(1), args.as_args().get(2));
        let name = from.to_vec();
        let record = coordinator.with_key(from, move |cx| take_away(cx, &name)).await.ok_or(CommandError::NoSuchKey)?;
        let record = record.with_key(to);
        coordinator.with_key(to, move |cx| bring(cx, record)).await;
        reply.ok();
        Ok(reply)
    })
}

/// RENAMENX from one shard to another.
fn renamenx_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let mut reply = coordinator.reply();
        let (from, to) = (args.as_args().get(1), args.as_args().get(2));
        let is_there = |key: &[u8]| {
            let name = key.to_vec();
            coordinator.with_key(key, move |cx| cx.lookup(&name).is_some())
        };
        let (source, target) = (is_there(from), is_there(to));
        let (source, target) = (source.await, target.await);
        if !source {
            return Err(CommandError::NoSuchKey);
        }
        let mut renamed = false;
        if !target {
            let name = from.to_vec();
            // It may have expired since it was looked at.
            let record =
                coordinator.with_key(from, move |cx| take_away(cx, &name)).await.ok_or(CommandError::NoSuchKey)?;
            let record = record.with_key(to);
            coordinator.with_key(to, move |cx| bring(cx, record)).await;
            renamed = true;
        }
        reply.int(i64::from(renamed));
        Ok(reply)
    })
}

fn move_to_db(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let target = database(args.get(2), cx.config().databases)?;
    if target == cx.db_index() {
        return Err(CommandError::SameObject);
    }
    let moves = cx.lookup(key).is_some() && cx.in_db(target, |cx| cx.lookup(key).is_none());
    if moves {
        let record = cx.take(key).expect("it was looked up above");
        cx.put_into(target, record);
        cx.notify(EventClass::GENERIC, "move_from", key);
        cx.in_db(target, |cx| cx.notify(EventClass::GENERIC, "move_to", key));
    }
    reply.int(i64::from(moves));
    Ok(())
}

fn copy(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (from, to) = (args.get(1), args.get(2));
    let options = CopyOptions::parse(args, cx.db_index(), cx.config().databases)?;
    if options.db == cx.db_index() && from == to {
        return Err(CommandError::SameObject);
    }
    let copied = match cx.get(from).map(|entry| copy_as(entry, to)) {
        None => false,
        Some(record) => put_copy(cx, options, record),
    };
    reply.int(i64::from(copied));
    Ok(())
}

/// COPY from one shard to another.
fn copy_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let mut reply = coordinator.reply();
        let args = args.as_args();
        let (from, to) = (args.get(1), args.get(2));
        let selected = coordinator.origin().db;
        let databases = coordinator.call(coordinator.origin().shard, |shard| shard.config.databases).await;
        let options = CopyOptions::parse(args, selected, databases)?;
        let (name, new_name) = (from.to_vec(), to.to_vec());
        let record = coordinator.with_key(from, move |cx| cx.get(&name).map(|entry| copy_as(entry, &new_name))).await;
        let copied = match record {
            None => false,
            Some(record) => coordinator.with_key(to, move |cx| put_copy(cx, options, record)).await,
        };
        reply.int(i64::from(copied));
        Ok(reply)
    })
}

/// A record of its own under another name, with the same value, expiry and access word.
fn copy_as(entry: Entry<'_>, key: &[u8]) -> Record {
    Record::new(key, entry.value().to_new(), entry.expire_at(), entry.access())
}

fn put_copy(cx: &mut WriteCx<'_>, options: CopyOptions, record: Record) -> bool {
    let put = cx.in_db(options.db, |cx| cx.lookup(record.key()).is_none()) || options.replace;
    if put {
        let key = record.key().to_vec();
        cx.put_into(options.db, record);
        cx.in_db(options.db, |cx| cx.notify(EventClass::GENERIC, "copy_to", &key));
    }
    put
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CopyOptions {
    db: DbIndex,
    replace: bool,
}

impl CopyOptions {
    fn parse(args: Args<'_>, selected: DbIndex, databases: u32) -> Result<CopyOptions, CommandError> {
        let mut options = CopyOptions { db: selected, replace: false };
        let mut at = 3;
        while at < args.len() {
            let word = args.get(at);
            if word.eq_ignore_ascii_case(b"replace") {
                options.replace = true;
            } else if word.eq_ignore_ascii_case(b"db") && at + 1 < args.len() {
                options.db = database(args.get(at + 1), databases)?;
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }
}

/// The number of a database as MOVE and COPY read it.
fn database(text: &[u8], databases: u32) -> Result<DbIndex, CommandError> {
    let number = parse_i64(text).ok_or(CommandError::NotAnInteger)?;
    let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
    if !(min..=max).contains(&number) {
        return Err(CommandError::NotBetween(min, max));
    }
    match u16::try_from(number) {
        Ok(index) if u32::from(index) < databases => Ok(DbIndex(index)),
        _ => Err(CommandError::DbIndexOutOfRange),
    }
}

// How is it kept?

fn object_encoding(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    match cx.examine(args.get(2)) {
        Some(entry) => reply.bulk(entry.value().encoding_name().as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// Redis shares the integers below this between keys.
const SHARED_INTEGERS: i64 = 10_000;

/// What Redis replies for a shared integer.
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

/// Whether Redis shares them: not while it has to know the age of each value.
fn shares_integers(config: &Config) -> bool {
    use MaxmemoryPolicy::{AllkeysLfu, AllkeysLru, VolatileLfu, VolatileLru};
    config.maxmemory == 0 || !matches!(config.maxmemory_policy, AllkeysLru | AllkeysLfu | VolatileLru | VolatileLfu)
}

/// Values have one owner here; small integers cost no memory, and Redis's number for those that it shares says as much.
fn object_refcount(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let shares = shares_integers(cx.config());
    match cx.examine(args.get(2)).map(|entry| entry.value()) {
        Some(Value::Int(number)) if shares && (0..SHARED_INTEGERS).contains(&number) => reply.int(SHARED_REFCOUNT),
        Some(_) => reply.int(1),
        None => reply.null(),
    }
    Ok(())
}

fn object_idletime(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (now, policy) = (cx.now().millis(), cx.access_policy());
    match cx.examine(args.get(2)).map(|entry| entry.access()) {
        None => reply.null(),
        Some(_) if policy != AccessPolicy::Lru => {
            return Err(CommandError::Custom(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Some(access) => reply.int(i64::from(lru_idle_secs(access, now))),
    }
    Ok(())
}

fn object_freq(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (now, policy) = (cx.now().millis(), cx.access_policy());
    match cx.examine(args.get(2)).map(|entry| entry.access()) {
        None => reply.null(),
        Some(access) => match policy {
            AccessPolicy::Lfu { decay_minutes, .. } => {
                reply.int(i64::from(lfu_counter(access, decay_minutes, now)));
            }
            AccessPolicy::Lru | AccessPolicy::Fixed(_) => {
                return Err(CommandError::Custom(
                    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
                     when switching between policies at runtime LRU and LFU data will take some time to adjust.",
                ));
            }
        },
    }
    Ok(())
}

// Replicas.

/// Without replicas nothing will ever be acknowledged, so there is nothing to wait for either.
fn wait(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    parse_i64(args.get(1)).ok_or(CommandError::NotAnInteger)?;
    if parse_i64(args.get(2)).ok_or(CommandError::TimeoutNotAnInteger)? < 0 {
        return Err(CommandError::TimeoutNegative);
    }
    reply.int(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(words: &str) -> Result<DeadlineRule, CommandError> {
        let argv: Vec<&str> = "expire k 1".split(' ').chain(words.split_whitespace()).collect();
        DeadlineRule::parse(OwnedArgs::from_slices(&argv).as_args())
    }

    #[test]
    fn a_key_without_expiry_counts_as_one_that_expires_last() {
        let allows = |words: &str, old: Option<i64>, new: i64| {
            rule(words).expect("a legal rule").allows(old.map(Millis), Millis(new))
        };
        assert!(allows("", None, 5) && allows("", Some(9), 5));
        assert!(allows("nx", None, 5) && !allows("nx", Some(9), 5));
        assert!(!allows("xx", None, 5) && allows("XX", Some(9), 5));
        assert!(!allows("gt", None, 5) && !allows("gt", Some(5), 5) && allows("gt", Some(4), 5));
        assert!(allows("lt", None, 5) && !allows("lt", Some(5), 5) && allows("lt", Some(6), 5));
        assert!(!allows("xx lt", None, 5) && allows("xx lt", Some(6), 5));
    }

    #[test]
    fn rules_that_exclude_each_other_are_told_apart_from_unknown_ones() {
        assert_eq!(rule("nx xx"), Err(RULES_EXCLUDE));
        assert_eq!(rule("nx gt lt"), Err(RULES_EXCLUDE));
        assert_eq!(rule("gt lt"), Err(ORDERS_EXCLUDE));
        assert_eq!(rule("nx foo").expect_err("unknown").to_string(), "ERR Unsupported option foo");
    }

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        assert_eq!([0, 499, 500, 1499, 1500].map(in_seconds), [0, 0, 1, 1, 2]);
        assert_eq!(in_seconds(i64::MAX), 9_223_372_036_854_776);
    }

    #[test]
    fn a_database_is_a_number_below_their_count() {
        assert_eq!(database(b"15", 16), Ok(DbIndex(15)));
        for text in ["16", "-1", "65536", "2147483647"] {
            assert_eq!(database(text.as_bytes(), 16), Err(CommandError::DbIndexOutOfRange), "{text}");
        }
        assert!(matches!(database(b"4294967296", 16), Err(CommandError::NotBetween(_, _))));
        assert_eq!(database(b"x", 16), Err(CommandError::NotAnInteger));
    }
}
