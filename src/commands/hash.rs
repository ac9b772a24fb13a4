//! Hashes: fields and their values. Rows first, then the handlers by subject. When fields expire is in [`super::hash_expiry`].
//!
//! A field whose time has come is gone for every command: writers take such fields out first, readers pass them over.
//!
//! The fields of a large hash are not encoded by the handler but read out of a snapshot while they are sent.

use super::docs::Group;
use super::element::{STREAMED_ELEMENTS_MIN, push_item};
use super::keys::{KeyFlags, KeySpec};
use super::page::{Page, parse_cursor};
use super::table::{Flags, Row, Run};
use crate::base::longdouble::LongDouble;
use crate::base::num::{format_i64, parse_i64};
use crate::base::rng::Rng;
use crate::resp::{Args, CommandError, Pieces, Reply, Resp, push_bulk};
use crate::shard::cx::{DataFn, Env, ReadCx, WriteCx};
use crate::types::DataType;
use crate::types::dict::DictSnapshot;
use crate::types::hash::{Field, Hash};
use crate::types::listpack::Item;

/// What all rows of this file share.
const HASH: Row = Row { group: Group::Hash, ..Row::DEFAULT };

/// The family's rows, but for those about expiry.
pub const ROWS: &[Row] = &[
    Row {
        name: "hdel",
        usage: "key field [field ...]",
        summary: "Removes fields from a hash.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(hdel)),
        ..HASH
    },
    Row {
        name: "hexists",
        usage: "key field",
        summary: "Tells whether a field is in a hash.",
        since: "2.0.0",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(hexists)),
        ..HASH
    },
    Row {
        name: "hget",
        usage: "key field",
        summary: "Replies with the value of a field.",
        since: "2.0.0",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(hget)),
        ..HASH
    },
    Row {
        name: "hgetall",
        usage: "key",
        summary: "Replies with all fields and values. Those of a large hash are sent piece by piece.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Data(DataFn::Read(hgetall)),
        ..HASH
    },
    Row {
        name: "hincrby",
        usage: "key field increment",
        summary: "Adds an integer to the value of a field.",
        since: "2.0.0",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hincrby)),
        ..HASH
    },
    Row {
        name: "hincrbyfloat",
        usage: "key field increment",
        summary: "Adds a floating point number to the value of a field.",
        since: "2.6.0",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hincrbyfloat)),
        ..HASH
    },
    Row {
        name: "hkeys",
        usage: "key",
        summary: "Replies with all fields.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Data(DataFn::Read(hkeys)),
        ..HASH
    },
    Row {
        name: "hlen",
        usage: "key",
        summary: "Replies with the number of fields.",
        since: "2.0.0",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(hlen)),
        ..HASH
    },
    Row {
        name: "hmget",
        usage: "key field [field ...]",
        summary: "Replies with the values of several fields.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields asked for.",
        arity: -3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(hmget)),
        ..HASH
    },
    Row {
        name: "hmset",
        usage: "key field value [field value ...]",
        summary: "Gives fields values.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        deprecated: Some(("4.0.0", "`HSET` with multiple field-value pairs")),
        run: Run::Data(DataFn::Write(hmset)),
        ..HASH
    },
    Row {
        name: "hrandfield",
        usage: "key [count [WITHVALUES]]",
        summary: "Replies with fields at random.",
        since: "6.2.0",
        complexity: "O(N) where N is the number of fields asked for.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(hrandfield)),
        ..HASH
    },
    Row {
        name: "hscan",
        usage: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        summary: "Goes through the fields of a hash, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls from start to end, where N is the number of fields.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(hscan)),
        ..HASH
    },
    Row {
        name: "hset",
        usage: "key field value [field value ...]",
        summary: "Gives fields values and replies with how many are new.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(hset)),
        ..HASH
    },
    Row {
        name: "hsetnx",
        usage: "key field value",
        summary: "Gives a field a value unless it has one.",
        since: "2.0.0",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(hsetnx)),
        ..HASH
    },
    Row {
        name: "hstrlen",
        usage: "key field",
        summary: "Replies with the length of the value of a field.",
        since: "3.2.0",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(hstrlen)),
        ..HASH
    },
    Row {
        name: "hvals",
        usage: "key",
        summary: "Replies with all values.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields.",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Data(DataFn::Read(hvals)),
        ..HASH
    },
];

type Done = Result<(), CommandError>;

fn push_or_null(reply: &mut Reply, item: Option<Item<'_>>) {
    match item {
        Some(item) => push_item(reply, item),
        None => reply.null(),
    }
}

/// Changes some fields of the hash at `key`, which is made if it is not there, after what is due of them was taken out of it.
fn change<'f, R>(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    fields: impl IntoIterator<Item = &'f [u8]>,
    change: impl FnOnce(&mut Hash, &mut Env<'_>) -> R,
) -> Result<R, CommandError> {
    cx.modify_or_create(key, |hash: &mut Hash, env| {
        env.settle(hash, fields);
        change(hash, env)
    })
}

// Writing.

fn put(cx: &mut WriteCx<'_>, args: Args<'_>, name: &'static str) -> Result<usize, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(name));
    }
    let fields = args.slice(2).iter().step_by(2);
    change(cx, args.get(1), fields, |hash, env| {
        let limits = env.config.hash_limits();
        let pairs = (2..args.len()).step_by(2);
        env.changed(pairs.len() as u64);
        env.event("hset");
        pairs.filter(|at| hash.set(args.get(*at), args.get(at + 1), limits)).count()
    })
}

fn hset(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let added = put(cx, args, "hset")?;
    reply.int(added as i64);
    Ok(())
}

fn hmset(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    put(cx, args, "hmset")?;
    reply.ok();
    Ok(())
}

fn hsetnx(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (field, value) = (args.get(2), args.get(3));
    let set = change(cx, args.get(1), [field], |hash, env| {
        let set = hash.get(field, env.now.millis()).is_none();
        if set {
            hash.set(field, value, env.config.hash_limits());
            env.changed(1);
            env.event("hset");
        }
        set
    })?;
    reply.int(i64::from(set));
    Ok(())
}

fn hdel(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let removed = cx.modify(args.get(1), |hash: &mut Hash, env| {
        env.settle(hash, args.slice(2).iter());
        let removed = args.slice(2).iter().filter(|field| hash.remove(field)).count();
        env.changed(removed as u64);
        env.event_if(removed > 0, "hdel");
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn hincrby(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let field = args.get(2);
    let increment = parse_i64(args.get(3)).ok_or(CommandError::NotAnInteger)?;
    let sum = change(cx, args.get(1), [field], |hash, env| {
        let old = match hash.get(field, env.now.millis()) {
            None => 0,
            Some(Item::Int(number)) => number,
            Some(Item::Bytes(text)) => {
                parse_i64(text).ok_or(CommandError::Custom("ERR hash value is not an integer"))?
            }
        };
        let sum = old.checked_add(increment).ok_or(CommandError::Overflow)?;
        hash.set_keeping_deadline(field, format_i64(sum).as_bytes(), env.config.hash_limits());
        env.changed(1);
        env.event("hincrby");
        Ok(sum)
    })??;
    reply.int(sum);
    Ok(())
}

fn hincrbyfloat(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let field = args.get(2);
    let increment = LongDouble::parse(args.get(3)).ok_or(CommandError::NotAFloat)?;
    if !increment.is_finite() {
        return Err(CommandError::Custom("ERR value is NaN or Infinity"));
    }
    let (text, expires) = change(cx, args.get(1), [field], |hash, env| {
        let old = match hash.get(field, env.now.millis()) {
            None => LongDouble::from_i64(0),
            Some(item) => {
                LongDouble::parse(&item.text()).ok_or(CommandError::Custom("ERR hash value is not a float"))?
            }
        };
        let sum = old.add(increment);
        if !sum.is_finite() {
            return Err(CommandError::NanOrInfinity);
        }
        let mut text = Vec::new();
        sum.push_human(&mut text);
        hash.set_keeping_deadline(field, &text, env.config.hash_limits());
        env.changed(1);
        env.event("hincrbyfloat");
        Ok((text, hash.deadline(field).is_some()))
    })??;
    // Another machine may compute another sum.
    if expires {
        cx.effect(args.get(1), &[b"HSETEX", args.get(1), b"KEEPTTL", b"FIELDS", b"1", field, &text]);
    } else {
        cx.effect(args.get(1), &[b"HSET", args.get(1), field, &text]);
    }
    reply.bulk(&text);
    Ok(())
}

// Reading.

fn hget(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let value = cx.typed::<Hash>(args.get(1))?.and_then(|hash| hash.get(args.get(2), now));
    push_or_null(reply, value);
    Ok(())
}

fn hmget(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let hash = cx.typed::<Hash>(args.get(1))?;
    reply.array(args.len() - 2);
    for field in args.slice(2).iter() {
        push_or_null(reply, hash.and_then(|hash| hash.get(field, now)));
    }
    Ok(())
}

fn hexists(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let is = cx.typed::<Hash>(args.get(1))?.is_some_and(|hash| hash.get(args.get(2), now).is_some());
    reply.int(i64::from(is));
    Ok(())
}

fn hlen(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let len = cx.typed::<Hash>(args.get(1))?.map_or(0, |hash| hash.live_len(now));
    reply.int(len as i64);
    Ok(())
}

fn hstrlen(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let value = cx.typed::<Hash>(args.get(1))?.and_then(|hash| hash.get(args.get(2), now));
    reply.int(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

/// What of each field is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Fields,
    Values,
    Both,
}

/// The fields of a large hash, read out while they are sent.
struct FieldPieces {
    fields: DictSnapshot<Field>,
    part: Part,
}

impl Pieces for FieldPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let part = self.part;
        self.fields.read_on(|field| {
            if part != Part::Values {
                push_bulk(out, field.name());
            }
            if part != Part::Fields {
                push_bulk(out, field.value());
            }
            out.len() < bytes_max
        })
    }
}

fn push_all(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, part: Part) -> Done {
    let now = cx.now().millis();
    let hash = cx.typed::<Hash>(args.get(1))?;
    let len = hash.map_or(0, |hash| hash.live_len(now));
    match part {
        Part::Both => reply.map(len),
        Part::Fields | Part::Values => reply.array(len),
    }
    let Some(hash) = hash else { return Ok(()) };
    if len >= STREAMED_ELEMENTS_MIN
        && let Some(fields) = hash.snapshot()
    {
        reply.stream(Box::new(FieldPieces { fields, part }));
        return Ok(());
    }
    hash.walk(now, |field, value| {
        if part != Part::Values {
            push_item(reply, field);
        }
        if part != Part::Fields {
            push_item(reply, value);
        }
        true
    });
    Ok(())
}

fn hgetall(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push_all(cx, args, reply, Part::Both)
}

fn hkeys(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push_all(cx, args, reply, Part::Fields)
}

fn hvals(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push_all(cx, args, reply, Part::Values)
}

fn hscan(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let cursor = parse_cursor(args.get(2)).ok_or(CommandError::InvalidCursor)?;
    let now = cx.now().millis();
    reply.array(2);
    let Some(hash) = cx.typed::<Hash>(args.get(1))? else {
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let page = Page::parse(args, 3, false)?;
    let mut found = Vec::new();
    let next = hash.scan(now, cursor, page.count, |field, value| {
        let field = field.text();
        if page.matches(&field) {
            found.push(field.to_vec());
            if !page.no_values {
                found.push(value.to_vec());
            }
        }
    });
    reply.bulk(next.to_string().as_bytes());
    reply.array(found.len());
    found.iter().for_each(|text| reply.bulk(text));
    Ok(())
}

// At random.

/// Fields drawn one by one, each from all of them, while they are sent: so any number may be asked for.
struct DrawnPieces {
    hash: Hash,
    rng: Rng,
    left: u64,
    with_values: bool,
    proto: Resp,
}

impl Pieces for DrawnPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        while self.left > 0 && out.len() < bytes_max {
            let (field, value) = self.hash.random(|n| self.rng.below(n)).expect("it has fields");
            if self.with_values && self.proto == Resp::V3 {
                out.extend_from_slice(b"*2\r\n");
            }
            push_bulk(out, &field.text());
            if self.with_values {
                push_bulk(out, &value.text());
            }
            self.left -= 1;
        }
        self.left > 0
    }
}

/// Announces so many fields, with their values if they are wanted: pairs in RESP3, one behind the other in RESP2.
fn push_header(reply: &mut Reply, fields: usize, with_values: bool) {
    reply.array(if with_values && reply.proto() == Resp::V2 { fields * 2 } else { fields });
}

fn push_field(reply: &mut Reply, field: Item<'_>, value: Option<Item<'_>>) {
    if value.is_some() && reply.proto() == Resp::V3 {
        reply.array(2);
    }
    push_item(reply, field);
    if let Some(value) = value {
        push_item(reply, value);
    }
}

fn hrandfield(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now = cx.now().millis();
    let mut rng = Rng::seed(cx.rng().next_u64());
    let count = match args.len() {
        2 => None,
        _ => Some(parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?),
    };
    if count == Some(i64::MIN) {
        return Err(CommandError::NotBetween(-i64::MAX, i64::MAX));
    }
    let with_values = args.len() > 3;
    if args.len() > 4 || (with_values && !args.get(3).eq_ignore_ascii_case(b"withvalues")) {
        return Err(CommandError::Syntax);
    }
    if with_values && count.is_some_and(|count| count.unsigned_abs() > i64::MAX as u64 / 2) {
        return Err(CommandError::ValueOutOfRange);
    }
    let hash = cx.typed::<Hash>(args.get(1))?;
    // A reader may not take out what is due; a copy may.
    let live;
    let hash = match hash {
        Some(hash) if hash.next_expiry().is_some_and(|due| due <= now) => {
            let mut copy = hash.clone();
            copy.expire(now, usize::MAX, |_| {});
            live = copy;
            Some(&live).filter(|hash| !hash.is_empty())
        }
        hash => hash,
    };
    let Some(count) = count else {
        let field = hash.and_then(|hash| hash.random(|n| rng.below(n)));
        push_or_null(reply, field.map(|(field, _)| field));
        return Ok(());
    };
    let Some(hash) = hash.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(());
    };
    let asked = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        push_header(reply, asked, with_values);
        if asked >= STREAMED_ELEMENTS_MIN {
            let (hash, left, proto) = (hash.clone(), asked as u64, reply.proto());
            reply.stream(Box::new(DrawnPieces { hash, rng, left, with_values, proto }));
        } else {
            for _ in 0..asked {
                let (field, value) = hash.random(|n| rng.below(n)).expect("it has fields");
                push_field(reply, field, with_values.then_some(value));
            }
        }
        return Ok(());
    }
    let fields = hash.sample(asked, |n| rng.below(n));
    push_header(reply, fields.len(), with_values);
    for (field, value) in fields {
        push_field(reply, field, with_values.then_some(value));
    }
    Ok(())
}
