//! When fields of hashes expire: the HEXPIRE family of Redis 7.4, and HGETDEL, HGETEX and HSETEX of Redis 8.
//!
//! Every command names its fields behind the word FIELDS and their number, and replies with one number or value for each:
//! -2 there is no such field, -1 it does not expire, 0 the condition is not met, 1 done, 2 the time has passed and the field is gone.
//!
//! Fields that are due are taken out before a command writes; how deadlines are kept is told in `types::hash`.

use super::docs::Group;
use super::element::push_item;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Row, Run};
use crate::base::num::{format_i64, parse_i64};
use crate::base::time::Millis;
use crate::resp::{Args, CommandError, Reply};
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::types::hash::Hash;

/// What all rows of this file share.
const HASH: Row = Row { group: Group::Hash, ..Row::DEFAULT };

/// The rows of hashes that are about expiry.
pub const ROWS: &[Row] = &[
    Row {
        name: "hexpire",
        usage: "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Lets fields expire after so many seconds.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hexpire)),
        ..HASH
    },
    Row {
        name: "hexpireat",
        usage: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Lets fields expire at a point in time, in seconds since 1970.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hexpireat)),
        ..HASH
    },
    Row {
        name: "hexpiretime",
        usage: "key FIELDS numfields field [field ...]",
        summary: "Replies with when fields expire, in seconds since 1970.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(hexpiretime)),
        ..HASH
    },
    Row {
        name: "hgetdel",
        usage: "key FIELDS numfields field [field ...]",
        summary: "Replies with the values of fields and removes them.",
        since: "8.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(hgetdel)),
        ..HASH
    },
    Row {
        name: "hgetex",
        usage: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
        summary: "Replies with the values of fields and changes when they expire.",
        since: "8.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hgetex)),
        ..HASH
    },
    Row {
        name: "hpersist",
        usage: "key FIELDS numfields field [field ...]",
        summary: "Takes away when fields expire.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hpersist)),
        ..HASH
    },
    Row {
        name: "hpexpire",
        usage: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Lets fields expire after so many milliseconds.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hpexpire)),
        ..HASH
    },
    Row {
        name: "hpexpireat",
        usage: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Lets fields expire at a point in time, in milliseconds since 1970.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hpexpireat)),
        ..HASH
    },
    Row {
        name: "hpexpiretime",
        usage: "key FIELDS numfields field [field ...]",
        summary: "Replies with when fields expire, in milliseconds since 1970.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(hpexpiretime)),
        ..HASH
    },
    Row {
        name: "hpttl",
        usage: "key FIELDS numfields field [field ...]",
        summary: "Replies with the time to live of fields in milliseconds.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(hpttl)),
        ..HASH
    },
    Row {
        name: "hsetex",
        usage: "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
        summary: "Gives fields values and says when they expire.",
        since: "8.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hsetex)),
        ..HASH
    },
    Row {
        name: "httl",
        usage: "key FIELDS numfields field [field ...]",
        summary: "Replies with the time to live of fields in seconds.",
        since: "7.4.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -5,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(httl)),
        ..HASH
    },
];

type Done = Result<(), CommandError>;

const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_MET: i64 = 0;
const DONE: i64 = 1;
const GONE: i64 = 2;

/// The latest deadline of a field, milliseconds since 1970: 46 bits, as in Redis.
const DEADLINE_MAX: i64 = (0xffff_ffff_ffff - 1) >> 2;

const COUNT_TOO_LOW: CommandError = CommandError::Custom("ERR Parameter `numFields` should be greater than 0");
const COUNT_NOT_POSITIVE: CommandError = CommandError::Custom("ERR Number of fields must be a positive integer");

/// Reads `FIELDS numfields` from argument `at` on; the fields are the last arguments of the command. Returns where the first is.
fn fields(args: Args<'_>, at: usize, bad_count: CommandError) -> Result<usize, CommandError> {
    if at + 1 >= args.len() || !args.get(at).eq_ignore_ascii_case(b"fields") {
        return Err(CommandError::Custom("ERR Mandatory argument FIELDS is missing or not at the right position"));
    }
    let count = parse_i64(args.get(at + 1)).filter(|count| *count > 0).ok_or(bad_count)?;
    if usize::try_from(count) != Ok(args.len() - at - 2) {
        return Err(CommandError::Custom("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(at + 2)
}

/// In which unit a time is given, and whether it counts from now.
#[derive(Clone, Copy)]
struct Unit {
    millis: i64,
    from_now: bool,
}

const SECONDS: Unit = Unit { millis: 1000, from_now: true };
const MILLISECONDS: Unit = Unit { millis: 1, from_now: true };
const UNIX_SECONDS: Unit = Unit { millis: 1000, from_now: false };
const UNIX_MILLISECONDS: Unit = Unit { millis: 1, from_now: false };

impl Unit {
    fn deadline(self, text: &[u8], now: Millis, command: &'static str) -> Result<Millis, CommandError> {
        let number = parse_i64(text).ok_or(CommandError::NotAnInteger)?;
        if number < 0 {
            return Err(CommandError::Custom("ERR invalid expire time, must be >= 0"));
        }
        let base = if self.from_now { now.0 } else { 0 };
        let due = number.checked_mul(self.millis).and_then(|millis| millis.checked_add(base));
        due.filter(|due| *due <= DEADLINE_MAX).map(Millis).ok_or(CommandError::InvalidExpire(command))
    }
}

/// Under which condition a deadline is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    Always,
    None,
    Some,
    Later,
    Earlier,
}

impl Condition {
    fn parse(word: &[u8]) -> Option<Condition> {
        let words = [
            (&b"nx"[..], Condition::None),
            (b"xx", Condition::Some),
            (b"gt", Condition::Later),
            (b"lt", Condition::Earlier),
        ];
        words.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, condition)| condition)
    }

    /// No deadline is later than any.
    fn met(self, old: Option<Millis>, new: Millis) -> bool {
        match self {
            Condition::Always => true,
            Condition::None => old.is_none(),
            Condition::Some => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

/// What the log is told of a command that names its fields behind the word FIELDS: its name and what follows the key, and the fields
/// that it has changed. Nothing if there are none.
fn log_fields(cx: &mut WriteCx<'_>, key: &[u8], words: &[&[u8]], fields: &[&[u8]]) {
    if !fields.is_empty() && cx.is_logged() {
        let count = format_i64(fields.len() as i64);
        let head = [&[words[0], key][..], &words[1..], &[b"FIELDS", count.as_bytes()]].concat();
        cx.effect(key, &[&head, fields].concat());
    }
}

fn log_removed(cx: &mut WriteCx<'_>, key: &[u8], fields: &[&[u8]]) {
    if !fields.is_empty() && cx.is_logged() {
        cx.effect(key, &[&[b"HDEL", key][..], fields].concat());
    }
}

fn set_deadlines(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, unit: Unit, name: &'static str) -> Done {
    cx.lookup_typed::<Hash>(args.get(1))?;
    let now = cx.now().millis();
    let due = unit.deadline(args.get(2), now, name)?;
    let condition = Condition::parse(args.get(3));
    let first = fields(args, if condition.is_some() { 4 } else { 3 }, COUNT_TOO_LOW)?;
    let condition = condition.unwrap_or(Condition::Always);
    let names = args.slice(first);
    reply.array(names.len());
    let mark = reply.mark();
    let done = cx.modify(args.get(1), |hash: &mut Hash, env| {
        env.settle(hash, names.iter());
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        for field in names.iter() {
            let outcome = match hash.get(field, now) {
                None => NO_FIELD,
                Some(_) if !condition.met(hash.deadline(field), due) => NOT_MET,
                Some(_) if due <= now => {
                    hash.remove(field);
                    GONE
                }
                Some(_) => {
                    hash.set_deadline(field, Some(due));
                    DONE
                }
            };
            env.changed(u64::from(outcome > NOT_MET));
            match outcome {
                DONE => set.push(field),
                GONE => gone.push(field),
                _ => {}
            }
            reply.int(outcome);
        }
        env.event_if(!set.is_empty(), "hexpire");
        env.event_if(!gone.is_empty(), "hdel");
        (set, gone)
    })?;
    match done {
        Some((set, gone)) => {
            log_fields(cx, args.get(1), &[b"HPEXPIREAT", format_i64(due.0).as_bytes()], &set);
            log_removed(cx, args.get(1), &gone);
        }
        None => {
            reply.truncate(mark);
            names.iter().for_each(|_| reply.int(NO_FIELD));
        }
    }
    Ok(())
}

fn hexpire(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_deadlines(cx, args, reply, SECONDS, "hexpire")
}

fn hpexpire(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_deadlines(cx, args, reply, MILLISECONDS, "hpexpire")
}

fn hexpireat(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_deadlines(cx, args, reply, UNIX_SECONDS, "hexpireat")
}

fn hpexpireat(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    set_deadlines(cx, args, reply, UNIX_MILLISECONDS, "hpexpireat")
}

fn show_deadlines(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, show: impl Fn(Millis) -> i64) -> Done {
    let now = cx.now().millis();
    let hash = cx.typed::<Hash>(args.get(1))?;
    let names = args.slice(fields(args, 2, COUNT_NOT_POSITIVE)?);
    reply.array(names.len());
    for field in names.iter() {
        reply.int(match hash.filter(|hash| hash.get(field, now).is_some()) {
            None => NO_FIELD,
            Some(hash) => hash.deadline(field).map_or(NO_DEADLINE, &show),
        });
    }
    Ok(())
}

/// Seconds, the part of one counted as a whole.
fn up_to_seconds(millis: i64) -> i64 {
    millis.saturating_add(999) / 1000
}

fn httl(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    show_deadlines(cx, args, reply, |due| up_to_seconds(due.0 - now.0))
}

fn hpttl(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    show_deadlines(cx, args, reply, |due| due.0 - now.0)
}

fn hexpiretime(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    show_deadlines(cx, args, reply, |due| up_to_seconds(due.0))
}

fn hpexpiretime(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    show_deadlines(cx, args, reply, |due| due.0)
}

fn hpersist(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    cx.lookup_typed::<Hash>(args.get(1))?;
    let now = cx.now().millis();
    let names = args.slice(fields(args, 2, COUNT_NOT_POSITIVE)?);
    reply.array(names.len());
    let done = cx.modify(args.get(1), |hash: &mut Hash, env| {
        env.settle(hash, names.iter());
        let mut persists = false;
        for field in names.iter() {
            let outcome = match hash.get(field, now) {
                None => NO_FIELD,
                Some(_) if hash.deadline(field).is_none() => NO_DEADLINE,
                Some(_) => {
                    hash.set_deadline(field, None);
                    env.changed(1);
                    persists = true;
                    DONE
                }
            };
            reply.int(outcome);
        }
        env.event_if(persists, "hpersist");
    })?;
    if done.is_none() {
        names.iter().for_each(|_| reply.int(NO_FIELD));
    }
    Ok(())
}

// Values and deadlines together.

/// What HGETEX and HSETEX do with the deadline of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lifetime {
    /// Nothing was said: HGETEX leaves it, HSETEX drops it.
    Unsaid,
    Until(Millis),
    Persist,
    Keep,
}

/// The unit that a word announces a time in.
fn unit(word: &[u8]) -> Option<Unit> {
    let words: [(&[u8], Unit); 4] =
        [(b"ex", SECONDS), (b"px", MILLISECONDS), (b"exat", UNIX_SECONDS), (b"pxat", UNIX_MILLISECONDS)];
    words.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
}

/// The options of HSETEX, which may come in any order.
struct SetOptions {
    lifetime: Lifetime,
    /// FNX (none of the fields may be there) or FXX (all of them must be).
    all_there: Option<bool>,
    /// Where the first field is.
    first: usize,
}

impl SetOptions {
    fn parse(args: Args<'_>, now: Millis) -> Result<SetOptions, CommandError> {
        const TWO_LIFETIMES: CommandError =
            CommandError::Custom("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
        const TWO_CONDITIONS: CommandError =
            CommandError::Custom("ERR Only one of FXX or FNX arguments can be specified");
        let mut options = SetOptions { lifetime: Lifetime::Unsaid, all_there: None, first: 2 };
        loop {
            let at = options.first;
            let Some(word) = args.iter().nth(at) else { return Err(CommandError::WrongArity("hsetex")) };
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let unit = unit(word);
            if is(b"fields") {
                options.first = pairs(args, at)?;
                return Ok(options);
            } else if unit.is_some() || is(b"keepttl") {
                if options.lifetime != Lifetime::Unsaid {
                    return Err(TWO_LIFETIMES);
                }
                options.lifetime = match unit {
                    None => Lifetime::Keep,
                    Some(_) if at + 1 == args.len() => return Err(CommandError::Custom("ERR missing expire time")),
                    Some(unit) => Lifetime::Until(unit.deadline(args.get(at + 1), now, "hsetex")?),
                };
            } else if is(b"fnx") || is(b"fxx") {
                if options.all_there.is_some() {
                    return Err(TWO_CONDITIONS);
                }
                options.all_there = Some(is(b"fxx"));
            } else {
                return Err(CommandError::echo("unknown argument: ", word));
            }
            options.first += if unit.is_some() { 2 } else { 1 };
        }
    }
}

/// Reads `FIELDS numfields field value …` from argument `at` to the last. Returns where the first field is.
fn pairs(args: Args<'_>, at: usize) -> Result<usize, CommandError> {
    let first = at + 2;
    if first + 1 >= args.len() {
        return Err(CommandError::WrongArity("hsetex"));
    }
    let count = parse_i64(args.get(at + 1)).filter(|count| (1..=i64::from(i32::MAX)).contains(count));
    let count = count.ok_or(CommandError::Custom("ERR invalid number of fields"))?;
    if 2 * count == (args.len() - first) as i64 { Ok(first) } else { Err(CommandError::WrongArity("hsetex")) }
}

fn hgetdel(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    cx.lookup_typed::<Hash>(args.get(1))?;
    let names = args.slice(fields(args, 2, COUNT_NOT_POSITIVE)?);
    reply.array(names.len());
    let done = cx.modify(args.get(1), |hash: &mut Hash, env| {
        let now = env.now.millis();
        env.settle(hash, names.iter());
        let mut removed = Vec::new();
        for field in names.iter() {
            match hash.get(field, now) {
                Some(value) => push_item(reply, value),
                None => reply.null(),
            }
            removed.extend(hash.remove(field).then_some(field));
        }
        env.changed(removed.len() as u64);
        env.event_if(!removed.is_empty(), "hdel");
        removed
    })?;
    match done {
        Some(removed) => log_removed(cx, args.get(1), &removed),
        None => names.iter().for_each(|_| reply.null()),
    }
    Ok(())
}

fn hgetex(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    cx.lookup_typed::<Hash>(args.get(1))?;
    let now = cx.now().millis();
    let (lifetime, at) = match (unit(args.get(2)), args.get(2)) {
        (Some(unit), _) => (Lifetime::Until(unit.deadline(args.get(3), now, "hgetex")?), 4),
        (None, word) if word.eq_ignore_ascii_case(b"persist") => (Lifetime::Persist, 3),
        (None, _) => (Lifetime::Unsaid, 2),
    };
    let names = args.slice(fields(args, at, COUNT_NOT_POSITIVE)?);
    reply.array(names.len());
    let done = cx.modify(args.get(1), |hash: &mut Hash, env| {
        env.settle(hash, names.iter());
        let mut changed = Vec::new();
        for field in names.iter() {
            let Some(value) = hash.get(field, now) else {
                reply.null();
                continue;
            };
            push_item(reply, value);
            match lifetime {
                Lifetime::Until(due) if due <= now => {
                    hash.remove(field);
                }
                Lifetime::Until(due) => hash.set_deadline(field, Some(due)),
                Lifetime::Persist => hash.set_deadline(field, None),
                Lifetime::Unsaid | Lifetime::Keep => continue,
            }
            changed.push(field);
        }
        env.changed(changed.len() as u64);
        if !changed.is_empty() {
            env.event(match lifetime {
                Lifetime::Until(due) if due <= now => "hdel",
                Lifetime::Until(_) => "hexpire",
                _ => "hpersist",
            });
        }
        changed
    })?;
    let Some(changed) = done else {
        names.iter().for_each(|_| reply.null());
        return Ok(());
    };
    let key = args.get(1);
    match lifetime {
        Lifetime::Until(due) if due <= now => log_removed(cx, key, &changed),
        Lifetime::Until(due) => log_fields(cx, key, &[b"HPEXPIREAT", format_i64(due.0).as_bytes()], &changed),
        Lifetime::Persist => log_fields(cx, key, &[b"HPERSIST"], &changed),
        Lifetime::Unsaid | Lifetime::Keep => {}
    }
    Ok(())
}

fn hsetex(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let options = SetOptions::parse(args, now)?;
    let pairs = args.slice(options.first);
    let names = || pairs.iter().step_by(2);
    let set = cx.modify_or_create(args.get(1), |hash: &mut Hash, env| {
        env.settle(hash, names());
        let met = match options.all_there {
            None => true,
            Some(there) => names().all(|field| hash.get(field, now).is_some() == there),
        };
        if !met {
            return false;
        }
        let limits = env.config.hash_limits();
        for at in (0..pairs.len()).step_by(2) {
            let (field, value) = (pairs.get(at), pairs.get(at + 1));
            match options.lifetime {
                Lifetime::Keep => {
                    hash.set_keeping_deadline(field, value, limits);
                }
                Lifetime::Until(due) if due <= now => {
                    hash.remove(field);
                }
                Lifetime::Until(due) => {
                    hash.set(field, value, limits);
                    hash.set_deadline(field, Some(due));
                }
                Lifetime::Unsaid | Lifetime::Persist => {
                    hash.set(field, value, limits);
                }
            }
            env.changed(1);
        }
        match options.lifetime {
            Lifetime::Until(due) if due <= now => env.event("hdel"),
            Lifetime::Until(_) => {
                env.event("hset");
                env.event("hexpire");
            }
            _ => env.event("hset"),
        }
        true
    })?;
    if set && cx.is_logged() {
        log_set(cx, args.get(1), options.lifetime, pairs, now);
    }
    reply.int(i64::from(set));
    Ok(())
}

/// What the log is told of HSETEX: what it did.
fn log_set(cx: &mut WriteCx<'_>, key: &[u8], lifetime: Lifetime, pairs: Args<'_>, now: Millis) {
    let count = format_i64(pairs.len() as i64 / 2);
    let due = format_i64(if let Lifetime::Until(due) = lifetime { due.0 } else { 0 });
    let fields = [&b"FIELDS"[..], count.as_bytes()];
    let mut words = match lifetime {
        Lifetime::Until(due) if due <= now => {
            let names: Vec<&[u8]> = pairs.iter().step_by(2).collect();
            return log_removed(cx, key, &names);
        }
        Lifetime::Until(_) => [&[b"HSETEX", key, b"PXAT", due.as_bytes()][..], &fields].concat(),
        Lifetime::Keep => [&[b"HSETEX", key, b"KEEPTTL"][..], &fields].concat(),
        Lifetime::Unsaid | Lifetime::Persist => vec![b"HSET", key],
    };
    words.extend(pairs.iter());
    cx.effect(key, &words);
}
