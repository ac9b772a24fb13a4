//! Strings: GET, SET and their kin. Rows first, then the handlers in the order of the rows' subjects.
//!
//! Every handler here is a plain function over one shard, but for MSETNX with keys on several shards, which is a plan.
//! LCS has a file of its own.
//!
//! Replies, error texts and the order of checks are those of redis-server 7.0; the differential tests hold them.
//! Beyond it: `SET … IFEQ value` and `SET … IFNE value`, which compare before they write.

use std::sync::Arc;

use super::docs::Group;
use super::keys::{KeyFlags, KeySpec};
use super::lcs;
use super::table::{Flags, Row, Run};
use crate::base::longdouble::LongDouble;
use crate::base::num::{format_i64, parse_i64};
use crate::base::time::Millis;
use crate::base::{BLOB_BYTES_MIN, Blob, ShardId};
use crate::config::EventClass;
use crate::keyspace::{EMBSTR_BYTES_MAX, NewValue, Value};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::Merge;
use crate::shard::cx::{DataFn, ReadCx, Ttl, WriteCx};
use crate::txn::{Coordinator, Plan};

const READ: KeyFlags = KeyFlags::RO.and(KeyFlags::ACCESS);
const CHANGE: KeyFlags = KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE);
const OVERWRITE: KeyFlags = KeyFlags::OW.and(KeyFlags::UPDATE);
const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const WRITE_FAST: Flags = WRITE.and(Flags::FAST);

/// What all rows of this file share.
const STRING: Row = Row { group: Group::String, ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "append",
        usage: "key value",
        summary: "Adds a value to the end of a string, which is made if it is not there.",
        since: "2.0.0",
        complexity: "O(1), amortised over growing the string.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(append)),
        ..STRING
    },
    Row {
        name: "decr",
        usage: "key",
        summary: "Takes one from the integer at a key; a missing key counts as 0.",
        arity: 2,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(decr)),
        ..STRING
    },
    Row {
        name: "decrby",
        usage: "key decrement",
        summary: "Takes a number from the integer at a key; a missing key counts as 0.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(decrby)),
        ..STRING
    },
    Row {
        name: "get",
        usage: "key",
        summary: "Replies with the string at a key.",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(get)),
        ..STRING
    },
    Row {
        name: "getdel",
        usage: "key",
        summary: "Replies with the string at a key and removes the key.",
        since: "6.2.0",
        arity: 2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(getdel)),
        ..STRING
    },
    Row {
        name: "getex",
        usage: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        summary: "Replies with the string at a key and sets or removes the key's time to live.",
        since: "6.2.0",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(getex)),
        ..STRING
    },
    Row {
        name: "getrange",
        usage: "key start end",
        summary: "Replies with a part of a string; negative positions count from its end.",
        since: "2.4.0",
        complexity: "O(N) where N is the length of the reply.",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(getrange)),
        ..STRING
    },
    Row {
        name: "getset",
        usage: "key value",
        summary: "Sets a string and replies with what was there before.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, CHANGE)],
        deprecated: Some(("6.2.0", "`SET` with the `GET` argument")),
        run: Run::Data(DataFn::Write(getset)),
        ..STRING
    },
    Row {
        name: "incr",
        usage: "key",
        summary: "Adds one to the integer at a key; a missing key counts as 0.",
        arity: 2,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(incr)),
        ..STRING
    },
    Row {
        name: "incrby",
        usage: "key increment",
        summary: "Adds a number to the integer at a key; a missing key counts as 0.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(incrby)),
        ..STRING
    },
    Row {
        name: "incrbyfloat",
        usage: "key increment",
        summary: "Adds a floating point number to the number at a key; a missing key counts as 0.",
        since: "2.6.0",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(incrbyfloat)),
        ..STRING
    },
    Row {
        name: "lcs",
        usage: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        summary: "Finds the longest common subsequence of two strings.",
        since: "7.0.0",
        complexity: "O(N*M) where N and M are the lengths of the strings.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec {
            flags: READ,
            begin: super::keys::Begin::Index(1),
            find: super::keys::Find::Range { last: 1, step: 1, limit: 0 },
        }],
        run: Run::Hops(DataFn::Read(lcs::on_one_shard), lcs::plan),
        ..STRING
    },
    Row {
        name: "mget",
        usage: "key [key ...]",
        summary: "Replies with the strings at all these keys, in their order.",
        complexity: "O(N) where N is the number of keys.",
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::rest(1, 1, READ)],
        tips: &["request_policy:multi_shard"],
        run: Run::Split(DataFn::Read(mget), Merge::Elements),
        ..STRING
    },
    Row {
        name: "mset",
        usage: "key value [key value ...]",
        summary: "Sets many strings, whatever was there before.",
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys.",
        arity: -3,
        flags: WRITE,
        keys: &[KeySpec::rest(1, 2, OVERWRITE)],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        run: Run::Split(DataFn::Write(mset), Merge::AllOk),
        ..STRING
    },
    Row {
        name: "msetnx",
        usage: "key value [key value ...]",
        summary: "Sets many strings if none of the keys is there yet.",
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys.",
        arity: -3,
        flags: WRITE,
        keys: &[KeySpec::rest(1, 2, KeyFlags::OW.and(KeyFlags::INSERT))],
        run: Run::Hops(DataFn::Write(msetnx), msetnx_plan),
        ..STRING
    },
    Row {
        name: "psetex",
        usage: "key milliseconds value",
        summary: "Sets a string that expires after so many milliseconds.",
        since: "2.6.0",
        arity: 4,
        flags: WRITE,
        keys: &[KeySpec::one(1, OVERWRITE)],
        deprecated: Some(("2.6.12", "`SET` with the `PX` argument")),
        run: Run::Data(DataFn::Write(psetex)),
        ..STRING
    },
    Row {
        name: "set",
        usage: "key value [NX | XX | IFEQ comparison-value | IFNE comparison-value] [GET] \
                [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        summary: "Sets a string, unconditionally or on a condition, and its time to live.",
        arity: -3,
        flags: WRITE,
        keys: &[KeySpec::one(1, CHANGE.and(KeyFlags::VARIABLE_FLAGS))],
        run: Run::Data(DataFn::Write(set)),
        ..STRING
    },
    Row {
        name: "setex",
        usage: "key seconds value",
        summary: "Sets a string that expires after so many seconds.",
        since: "2.0.0",
        arity: 4,
        flags: WRITE,
        keys: &[KeySpec::one(1, OVERWRITE)],
        deprecated: Some(("2.6.12", "`SET` with the `EX` argument")),
        run: Run::Data(DataFn::Write(setex)),
        ..STRING
    },
    Row {
        name: "setnx",
        usage: "key value",
        summary: "Sets a string if the key is not there yet.",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::OW.and(KeyFlags::INSERT))],
        deprecated: Some(("2.6.12", "`SET` with the `NX` argument")),
        run: Run::Data(DataFn::Write(setnx)),
        ..STRING
    },
    Row {
        name: "setrange",
        usage: "key offset value",
        summary: "Overwrites a part of a string, which grows with zero bytes if it is too short.",
        since: "2.2.0",
        complexity: "O(M) where M is the length of the value, and the bytes that the string has to grow by.",
        arity: 4,
        flags: WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(setrange)),
        ..STRING
    },
    Row {
        name: "strlen",
        usage: "key",
        summary: "Replies with the length of a string in bytes.",
        since: "2.2.0",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(strlen)),
        ..STRING
    },
    Row {
        name: "substr",
        usage: "key start end",
        summary: "Replies with a part of a string; the old name of GETRANGE.",
        complexity: "O(N) where N is the length of the reply.",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, READ)],
        deprecated: Some(("2.0.0", "`GETRANGE`")),
        run: Run::Data(DataFn::Read(getrange)),
        ..STRING
    },
];

type Done = Result<(), CommandError>;

// Reading.

fn get(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    match cx.string(args.get(1))? {
        Some(value) => push_value(reply, value),
        None => reply.null(),
    }
    Ok(())
}

fn mget(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply.array(args.len() - 1);
    for key in args.slice(1).iter() {
        match cx.string(key) {
            Ok(Some(value)) => push_value(reply, value),
            // Another type is as good as absent here.
            Ok(None) | Err(_) => reply.null(),
        }
    }
    Ok(())
}

fn strlen(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let len = cx.string(args.get(1))?.map_or(0, Value::len);
    reply.int(len as i64);
    Ok(())
}

fn getrange(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let start = integer(args.get(2))?;
    let end = integer(args.get(3))?;
    match cx.string(args.get(1))? {
        Some(value) => {
            let part = clip(start, end, value.len());
            match value {
                Value::Packed(packed) => reply.bulk(&packed.part(part)),
                _ => reply.bulk(&value.text()[part]),
            }
        }
        None => reply.bulk(b""),
    }
    Ok(())
}

/// The part of a string of `len` bytes from `start` to `end`, both included and both counted from the end if negative.
///
/// What lies in front of the string counts as its first byte, so `-100 -50` of `abc` is `a`: only if `start` is behind
/// `end` as they were given is there nothing. That is what Redis does.
fn clip(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let total = i64::try_from(len).expect("no string has 2^63 bytes");
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    let from_front = |at: i64| if at < 0 { (total + at).max(0) } else { at };
    let (start, end) = (from_front(start), from_front(end).min(total - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

/// A string as a bulk reply: large ones by reference.
fn push_value(reply: &mut Reply, value: Value<'_>) {
    match value {
        Value::Inline { bytes, .. } => reply.bulk(bytes),
        Value::Blob(blob) => reply.blob(blob),
        Value::Int(_) => reply.bulk(&value.text()),
        Value::Packed(packed) if packed.text_len() < BLOB_BYTES_MIN => reply.bulk(&packed.text()),
        Value::Packed(packed) => reply.blob(&Blob::new(packed.text())),
        Value::Object(_) => unreachable!("only strings are handed in"),
    }
}

// Writing whole strings.

/// What the log is told of a SET that was to be done on a condition, or at a time that counts from now: what it did.
fn log_set(cx: &mut WriteCx<'_>, key: &[u8], value: &[u8], ttl: Ttl) {
    match ttl {
        Ttl::Clear => cx.effect(key, &[b"SET", key, value]),
        Ttl::Keep => cx.effect(key, &[b"SET", key, value, b"KEEPTTL"]),
        Ttl::At(due) => cx.effect(key, &[b"SET", key, value, b"PXAT", format_i64(due.0).as_bytes()]),
    }
}

/// An argument as a value to store, without a copy if it was received as a blob.
fn new_value<'a>(args: Args<'a>, at: usize) -> NewValue<'a> {
    match args.blob(at) {
        Some(blob) => NewValue::Blob(Blob::clone(blob)),
        None => NewValue::string(args.get(at)),
    }
}

/// Stores a string, and says so.
#[inline]
fn put(cx: &mut WriteCx<'_>, key: &[u8], value: NewValue<'_>, ttl: Ttl) {
    cx.set(key, value, ttl);
    cx.notify(EventClass::STRING, "set", key);
    if matches!(ttl, Ttl::At(_)) {
        cx.notify(EventClass::GENERIC, "expire", key);
    }
}

fn set(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    // By far the most frequent form goes first.
    if args.len() == 3 {
        put(cx, args.get(1), new_value(args, 2), Ttl::Clear);
        reply.ok();
        return Ok(());
    }
    set_with_options(cx, args, reply)
}

fn set_with_options(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let options = Options::parse(args, 3, Family::Set)?;
    let ttl = match options.lifetime {
        Lifetime::Keep => Ttl::Keep,
        Lifetime::Unchanged | Lifetime::Persist => Ttl::Clear,
        Lifetime::Until { at, clock } => Ttl::At(clock.deadline(args.get(at), cx.now().millis(), "set")?),
    };
    if options.get {
        match cx.string(key)? {
            Some(value) => push_value(reply, value),
            None => reply.null(),
        }
    }
    let met = match options.condition {
        Condition::None => true,
        Condition::Missing => cx.lookup(key).is_none(),
        Condition::Present => cx.lookup(key).is_some(),
        Condition::Equals(at) => cx.lookup_string(key)?.is_some_and(|old| *old.text() == args[at]),
        Condition::Differs(at) => cx.lookup_string(key)?.is_none_or(|old| *old.text() != args[at]),
    };
    if met {
        put(cx, key, new_value(args, 2), ttl);
        if args.len() > 3 {
            log_set(cx, key, args.get(2), ttl);
        }
    }
    match (options.get, met) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

fn setnx(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let absent = cx.lookup(key).is_none();
    if absent {
        put(cx, key, new_value(args, 2), Ttl::Clear);
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn setex(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_for(cx, args, reply, Clock::SECONDS, "setex")
}

fn psetex(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_for(cx, args, reply, Clock::MILLISECONDS, "psetex")
}

fn set_for(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, clock: Clock, name: &'static str) -> Done {
    let due = clock.deadline(args.get(2), cx.now().millis(), name)?;
    put(cx, args.get(1), new_value(args, 3), Ttl::At(due));
    log_set(cx, args.get(1), args.get(3), Ttl::At(due));
    reply.ok();
    Ok(())
}

fn getset(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    match cx.string(key)? {
        Some(value) => push_value(reply, value),
        None => reply.null(),
    }
    put(cx, key, new_value(args, 2), Ttl::Clear);
    Ok(())
}

fn getdel(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    match cx.string(key)? {
        Some(value) => {
            push_value(reply, value);
            cx.remove(key);
            cx.effect(key, &[b"DEL", key]);
        }
        None => reply.null(),
    }
    Ok(())
}

fn getex(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let options = Options::parse(args, 2, Family::GetEx)?;
    let now = cx.now().millis();
    // A missing key is answered before the time is looked at: a bad one goes unnoticed then, as in Redis.
    match cx.string(key)? {
        Some(value) => push_value(reply, value),
        None => {
            reply.null();
            return Ok(());
        }
    }
    match options.lifetime {
        Lifetime::Until { at, clock } => {
            let due = clock.deadline(args.get(at), now, "getex")?;
            if due <= now {
                cx.remove(key);
                cx.effect(key, &[b"DEL", key]);
            } else {
                cx.set_expire(key, Some(due));
                cx.effect(key, &[b"PEXPIREAT", key, format_i64(due.0).as_bytes()]);
            }
        }
        Lifetime::Persist => {
            if cx.peek(key).is_some_and(|entry| entry.expire_at().is_some()) {
                cx.set_expire(key, None);
                cx.effect(key, &[b"PERSIST", key]);
            }
        }
        Lifetime::Keep | Lifetime::Unchanged => {}
    }
    Ok(())
}

fn mset(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("mset"));
    }
    for at in (1..args.len()).step_by(2) {
        put(cx, args.get(at), new_value(args, at + 1), Ttl::Clear);
    }
    reply.ok();
    Ok(())
}

fn msetnx(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("msetnx"));
    }
    let pairs = args.slice(1);
    let free = none_present(cx, pairs);
    if free {
        set_pairs(cx, pairs);
    }
    reply.int(i64::from(free));
    Ok(())
}

/// MSETNX over several shards: one round of questions, and one of writes if every answer was no.
fn msetnx_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let mut reply = coordinator.reply();
        let args = args.as_args();
        if args.len().is_multiple_of(2) {
            return Err(CommandError::WrongArity("msetnx"));
        }
        let shares: Vec<_> = pairs_by_owner(&coordinator, args).into_iter().map(|(s, p)| (s, Arc::new(p))).collect();
        let mut free = true;
        let asked = shares.iter().map(|(shard, pairs)| {
            let pairs = pairs.clone();
            coordinator.with_data(*shard, move |cx| none_present(cx, pairs.as_args()))
        });
        for answer in asked.collect::<Vec<_>>() {
            free &= answer.await;
        }
        if free {
            let told = shares
                .into_iter()
                .map(|(shard, pairs)| coordinator.with_data(shard, move |cx| set_pairs(cx, pairs.as_args())));
            for answer in told.collect::<Vec<_>>() {
                answer.await;
            }
        }
        reply.int(i64::from(free));
        Ok(reply)
    })
}

/// The pairs behind the command's name, sorted by the shard that owns the key and in their order otherwise.
fn pairs_by_owner(coordinator: &Coordinator, args: Args<'_>) -> Vec<(ShardId, OwnedArgs)> {
    let mut shares: Vec<(ShardId, OwnedArgs)> = Vec::new();
    for at in (1..args.len()).step_by(2) {
        let owner = coordinator.slots().shard_of(args.get(at));
        let share = match shares.iter().position(|(shard, _)| *shard == owner) {
            Some(share) => share,
            None => {
                shares.push((owner, OwnedArgs::new()));
                shares.len() - 1
            }
        };
        let pairs = &mut shares[share].1;
        pairs.push(args.get(at));
        match args.blob(at + 1) {
            Some(blob) => pairs.push_blob(Blob::clone(blob)),
            None => pairs.push(args.get(at + 1)),
        }
    }
    shares
}

fn none_present(cx: &mut WriteCx<'_>, pairs: Args<'_>) -> bool {
    (0..pairs.len()).step_by(2).all(|at| cx.lookup(pairs.get(at)).is_none())
}

fn set_pairs(cx: &mut WriteCx<'_>, pairs: Args<'_>) {
    for at in (0..pairs.len()).step_by(2) {
        put(cx, pairs.get(at), new_value(pairs, at + 1), Ttl::Clear);
    }
}

// Changing strings.

fn append(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (key, tail) = (args.get(1), args.get(2));
    let len = match cx.lookup_string(key)? {
        None => {
            cx.set(key, new_value(args, 2), Ttl::Clear);
            tail.len()
        }
        Some(old) => {
            let len = old.len();
            check_length(cx, len, tail.len())?;
            cx.append(key, tail)
        }
    };
    cx.notify(EventClass::STRING, "append", key);
    reply.int(len as i64);
    Ok(())
}

fn setrange(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (key, patch) = (args.get(1), args.get(3));
    let offset = usize::try_from(integer(args.get(2))?).map_err(|_| CommandError::OffsetOutOfRange)?;
    let old_len = cx.lookup_string(key)?.map(Value::len);
    if patch.is_empty() {
        reply.int(old_len.unwrap_or(0) as i64);
        return Ok(());
    }
    check_length(cx, offset, patch.len())?;
    let end = offset + patch.len();
    let len = match old_len {
        Some(_) => cx.edit_string(key, |bytes| {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[offset..end].copy_from_slice(patch);
            bytes.len()
        }),
        None => {
            // Zeroed by the allocator: for a large offset the pages in front are never touched.
            let mut bytes = vec![0; end];
            bytes[offset..].copy_from_slice(patch);
            cx.set_raw(key, bytes, Ttl::Clear);
            end
        }
    };
    cx.notify(EventClass::STRING, "setrange", key);
    reply.int(len as i64);
    Ok(())
}

/// Refuses a string of `front + more` bytes if that is past `proto-max-bulk-len`. Where that was raised, the allocator is asked
/// as well: an offset of 2^62 must not end the process.
fn check_length(cx: &ReadCx<'_>, front: usize, more: usize) -> Done {
    /// The usual `proto-max-bulk-len`; below it nobody is asked.
    const ALWAYS_TRIED_BYTES: usize = 512 << 20;
    let has_room = |len| len <= ALWAYS_TRIED_BYTES || Vec::<u8>::new().try_reserve_exact(len).is_ok();
    let fits = front.checked_add(more).is_some_and(|len| len as u64 <= cx.config().proto_max_bulk_len && has_room(len));
    if fits { Ok(()) } else { Err(CommandError::StringTooLong) }
}

fn incr(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    add(cx, args, reply, 1)
}

fn decr(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    add(cx, args, reply, -1)
}

fn incrby(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let increment = integer(args.get(2))?;
    add(cx, args, reply, increment)
}

fn decrby(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let decrement = integer(args.get(2))?;
    let increment = decrement.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    add(cx, args, reply, increment)
}

fn add(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, increment: i64) -> Done {
    let sum = cx.update_integer(args.get(1), |old| {
        let old = match old {
            None => 0,
            Some(Value::Int(number)) => number,
            // What was appended to or overwritten in part keeps its bytes, but may well be a number.
            Some(text) => integer(&text.text())?,
        };
        old.checked_add(increment).ok_or(CommandError::Overflow)
    })?;
    cx.notify(EventClass::STRING, "incrby", args.get(1));
    reply.int(sum);
    Ok(())
}

fn incrbyfloat(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let old = match cx.lookup_string(key)? {
        None => LongDouble::from_i64(0),
        Some(Value::Int(number)) => LongDouble::from_i64(number),
        Some(value) => LongDouble::parse(&value.text()).ok_or(CommandError::NotAFloat)?,
    };
    let increment = LongDouble::parse(args.get(2)).ok_or(CommandError::NotAFloat)?;
    let sum = old.add(increment);
    if !sum.is_finite() {
        return Err(CommandError::NanOrInfinity);
    }
    let mut text = Vec::new();
    sum.push_human(&mut text);
    // Stored as text even when it reads as an integer, as OBJECT ENCODING in Redis shows.
    cx.set(key, NewValue::Bytes { bytes: &text, raw: text.len() > EMBSTR_BYTES_MAX }, Ttl::Keep);
    // Another machine may compute another sum.
    log_set(cx, key, &text, Ttl::Keep);
    cx.notify(EventClass::STRING, "incrbyfloat", key);
    reply.bulk(&text);
    Ok(())
}

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NotAnInteger)
}

// Options of SET and GETEX.

/// Which command's options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Set,
    GetEx,
}

/// When SET writes. Numbers are positions of arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    None,
    Missing,
    Present,
    Equals(usize),
    Differs(usize),
}

/// What is asked for the key's time to live.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    /// No option: SET clears it, GETEX leaves it.
    Unchanged,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// A time, given by the argument at this position.
    Until { at: usize, clock: Clock },
}

/// How a time argument is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Clock {
    /// Milliseconds in one of its units.
    unit_ms: i64,
    /// Counted from the epoch and not from now.
    absolute: bool,
}

impl Clock {
    const SECONDS: Clock = Clock { unit_ms: 1000, absolute: false };
    const MILLISECONDS: Clock = Clock { unit_ms: 1, absolute: false };

    /// The point in time that the argument names. Zero and negative numbers are refused, and so is what overflows;
    /// `command` is named in the error. The result may lie in the past.
    fn deadline(self, text: &[u8], now: Millis, command: &'static str) -> Result<Millis, CommandError> {
        let number = integer(text)?;
        let base = if self.absolute { 0 } else { now.0 };
        let due = number.checked_mul(self.unit_ms).and_then(|ms| ms.checked_add(base)).filter(|_| number > 0);
        due.map(Millis).ok_or(CommandError::InvalidExpire(command))
    }
}

struct Options {
    condition: Condition,
    get: bool,
    lifetime: Lifetime,
}

impl Options {
    /// Reads the options from argument `from` on. A repeated option is fine and the last time given wins; options that
    /// exclude each other are a syntax error.
    fn parse(args: Args<'_>, from: usize, family: Family) -> Result<Options, CommandError> {
        let mut options = Options { condition: Condition::None, get: false, lifetime: Lifetime::Unchanged };
        let mut at = from;
        while at < args.len() {
            let word = args.get(at);
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let condition = match family {
                Family::GetEx => None,
                Family::Set if is("nx") => Some(Condition::Missing),
                Family::Set if is("xx") => Some(Condition::Present),
                Family::Set if is("ifeq") => Some(Condition::Equals(at + 1)),
                Family::Set if is("ifne") => Some(Condition::Differs(at + 1)),
                Family::Set => None,
            };
            let clock = |unit_ms, absolute| Some(Lifetime::Until { at: at + 1, clock: Clock { unit_ms, absolute } });
            let lifetime = match family {
                _ if is("ex") => clock(1000, false),
                _ if is("px") => clock(1, false),
                _ if is("exat") => clock(1000, true),
                _ if is("pxat") => clock(1, true),
                Family::Set if is("keepttl") => Some(Lifetime::Keep),
                Family::GetEx if is("persist") => Some(Lifetime::Persist),
                _ => None,
            };
            if let Some(condition) = condition {
                options.add_condition(condition)?;
            } else if let Some(lifetime) = lifetime {
                options.add_lifetime(lifetime)?;
            } else if family == Family::Set && is("get") {
                options.get = true;
            } else {
                return Err(CommandError::Syntax);
            }
            let takes_argument = matches!(condition, Some(Condition::Equals(_) | Condition::Differs(_)))
                || matches!(lifetime, Some(Lifetime::Until { .. }));
            at += 1 + usize::from(takes_argument);
        }
        // An option at the end whose argument is not there.
        if at > args.len() { Err(CommandError::Syntax) } else { Ok(options) }
    }

    fn add_condition(&mut self, condition: Condition) -> Result<(), CommandError> {
        if self.condition != Condition::None && self.condition != condition {
            return Err(CommandError::Syntax);
        }
        self.condition = condition;
        Ok(())
    }

    fn add_lifetime(&mut self, lifetime: Lifetime) -> Result<(), CommandError> {
        let compatible = match (self.lifetime, lifetime) {
            (Lifetime::Unchanged, _) => true,
            (Lifetime::Until { clock: old, .. }, Lifetime::Until { clock: new, .. }) => old == new,
            (old, new) => old == new,
        };
        if !compatible {
            return Err(CommandError::Syntax);
        }
        self.lifetime = lifetime;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    #[test]
    fn a_range_is_clipped_as_redis_clips_it() {
        let of_abc = |start, end| &"abc"[clip(start, end, 3)];
        assert_eq!(of_abc(0, -1), "abc");
        assert_eq!(of_abc(1, 1), "b");
        assert_eq!(of_abc(-2, 100), "bc");
        assert_eq!(of_abc(3, 5), "");
        assert_eq!(of_abc(2, 1), "");
        assert_eq!(of_abc(-1, -2), "");
        assert_eq!(of_abc(-100, -50), "a", "what lies in front counts as the first byte");
        assert_eq!(of_abc(i64::MIN, i64::MAX), "abc");
        assert_eq!(of_abc(i64::MAX, i64::MIN), "");
        assert_eq!(clip(0, -1, 0), 0..0);
    }

    #[test]
    fn a_deadline_must_be_positive_and_fit_64_bits_of_milliseconds() {
        let seconds = |text: &str| Clock::SECONDS.deadline(text.as_bytes(), NOW, "set");
        assert_eq!(seconds("10"), Ok(Millis(NOW.0 + 10_000)));
        for text in ["0", "-1", "9223372036854776", "9223372036854775", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(seconds(text), Err(CommandError::InvalidExpire("set")), "{text}");
        }
        assert_eq!(seconds("1.5"), Err(CommandError::NotAnInteger));
        let absolute = Clock { unit_ms: 1, absolute: true };
        assert_eq!(absolute.deadline(b"9223372036854775807", NOW, "set"), Ok(Millis(i64::MAX)));
        assert_eq!(
            Clock::MILLISECONDS.deadline(b"9223372036854775807", NOW, "set"),
            Err(CommandError::InvalidExpire("set"))
        );
    }

    fn parse(words: &str, family: Family) -> Result<Options, CommandError> {
        let words: Vec<&str> = words.split_whitespace().collect();
        Options::parse(OwnedArgs::from_slices(&words).as_args(), 0, family)
    }

    #[test]
    fn options_may_be_repeated_but_not_contradict_each_other() {
        for good in
            ["nx nx", "xx get get", "ex 1 EX 2", "keepttl KeepTTL nx", "nx get px 5", "ifeq a get", "ifne b ex 1"]
        {
            assert!(parse(good, Family::Set).is_ok(), "{good}");
        }
        for bad in [
            "nx xx",
            "ex 1 px 1",
            "ex 1 keepttl",
            "exat 1 ex 1",
            "ex",
            "persist",
            "foo",
            "ifeq",
            "ifeq a nx",
            "ifeq a ifeq b",
        ] {
            assert!(matches!(parse(bad, Family::Set), Err(CommandError::Syntax)), "{bad}");
        }
        for good in ["", "persist persist", "pxat 1", "ex 1 ex 2"] {
            assert!(parse(good, Family::GetEx).is_ok(), "{good}");
        }
        for bad in ["nx", "keepttl", "get", "persist ex 1", "ex 1 persist", "px"] {
            assert!(matches!(parse(bad, Family::GetEx), Err(CommandError::Syntax)), "{bad}");
        }
    }

    #[test]
    fn the_last_of_repeated_times_wins() {
        let options = parse("ex 1 ex 2", Family::Set).expect("both are EX");
        assert!(matches!(options.lifetime, Lifetime::Until { at: 3, .. }));
    }
}
