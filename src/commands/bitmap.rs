//! Strings as arrays of bits: single bits, ranges, fields of integers, and strings combined bit by bit.
//!
//! Rows first, then the handlers. BITOP with keys on several shards is a plan that fetches its sources, long ones by
//! reference, and combines them on the client's core. The work on bytes is that of [`crate::types::bits`].
//!
//! Replies, error texts and the order of checks are those of redis-server 7.2: BITCOUNT and BITPOS look at all of their
//! arguments before they look for the key. Beyond it: BITOP with `DIFF`, `DIFF1`, `ANDOR` and `ONE`, which came with 8.2.

use super::docs::Group;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Row, Run};
use crate::base::Blob;
use crate::base::num::parse_i64;
use crate::config::{Config, EventClass};
use crate::keyspace::Value;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::shard::cx::{DataFn, Env, ReadCx, Ttl, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::bits::{self, Combine, Field, Overflow};

const READ: KeyFlags = KeyFlags::RO.and(KeyFlags::ACCESS);
const CHANGE: KeyFlags = KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE);
const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// What all rows of this file share.
const BITMAP: Row = Row { group: Group::Bitmap, ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "bitcount",
        usage: "key [start end [BYTE | BIT]]",
        summary: "Counts the bits of a string, or of a part of it, that are 1.",
        since: "2.6.0",
        complexity: "O(N) where N is the number of bytes that are looked at.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(bitcount)),
        ..BITMAP
    },
    Row {
        name: "bitfield",
        usage: "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] \
                <SET encoding offset value | INCRBY encoding offset increment>> ...]",
        summary: "Reads, sets and counts up integers of any width at any place of a string.",
        since: "3.2.0",
        complexity: "O(1) for each operation.",
        arity: -2,
        flags: WRITE,
        keys: &[KeySpec::one(1, CHANGE.and(KeyFlags::VARIABLE_FLAGS))],
        run: Run::Data(DataFn::Write(bitfield)),
        ..BITMAP
    },
    Row {
        name: "bitfield_ro",
        usage: "key [GET encoding offset [GET encoding offset ...]]",
        summary: "Reads integers of any width at any place of a string.",
        since: "6.0.0",
        complexity: "O(1) for each operation.",
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(bitfield_ro)),
        ..BITMAP
    },
    Row {
        name: "bitop",
        usage: "<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
        summary: "Combines strings bit by bit and stores the result.",
        since: "2.6.0",
        complexity: "O(N) where N is the number of bytes in all strings.",
        arity: -4,
        flags: WRITE,
        keys: &[KeySpec::one(2, KeyFlags::OW.and(KeyFlags::UPDATE)), KeySpec::rest(3, 1, READ)],
        run: Run::Hops(DataFn::Write(bitop), bitop_plan),
        ..BITMAP
    },
    Row {
        name: "bitpos",
        usage: "key bit [start [end [BYTE | BIT]]]",
        summary: "Finds the first bit of a string, or of a part of it, that is 0 or 1.",
        since: "2.8.7",
        complexity: "O(N) where N is the number of bytes that are looked at.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(bitpos)),
        ..BITMAP
    },
    Row {
        name: "getbit",
        usage: "key offset",
        summary: "Replies with a bit of a string.",
        since: "2.2.0",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, READ)],
        run: Run::Data(DataFn::Read(getbit)),
        ..BITMAP
    },
    Row {
        name: "setbit",
        usage: "key offset value",
        summary: "Sets a bit of a string, which grows with zeros if it is too short, and replies with what it was.",
        since: "2.2.0",
        arity: 4,
        flags: WRITE,
        keys: &[KeySpec::one(1, CHANGE)],
        run: Run::Data(DataFn::Write(setbit)),
        ..BITMAP
    },
];

type Done = Result<(), CommandError>;

// Single bits.

fn setbit(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let offset = bit_offset(args.get(2), None, cx.config())?;
    let on = match parse_i64(args.get(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(CommandError::NotABit),
    };
    let old = cx.overwrite_string(args.get(1), bytes_with(offset), |bytes, env| {
        let old = bits::set_bit(bytes, offset, on);
        env.changed(u64::from(old != on));
        env.event_if(env.has_changed(), "setbit");
        env.touched();
        old
    })?;
    reply.int(i64::from(old));
    Ok(())
}

fn getbit(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let offset = bit_offset(args.get(2), None, cx.config())?;
    let on = cx.string(args.get(1))?.is_some_and(|value| bits::bit(&value.text(), offset));
    reply.int(i64::from(on));
    Ok(())
}

/// The place of a bit: not negative, and in a byte that a string may have. With a width, `#7` is the place behind seven fields
/// of it.
fn bit_offset(text: &[u8], width: Option<u32>, config: &Config) -> Result<u64, CommandError> {
    let (number, unit) = match (text, width) {
        ([b'#', number @ ..], Some(width)) => (number, width),
        _ => (text, 1),
    };
    let offset = parse_i64(number).and_then(|number| number.checked_mul(i64::from(unit)));
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < config.proto_max_bulk_len).ok_or(CommandError::BitOffset)
}

/// The length of the shortest string with this bit.
fn bytes_with(offset: u64) -> usize {
    usize::try_from(offset / 8 + 1).unwrap_or(usize::MAX)
}

// Ranges.

fn bitcount(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let range = match args.len() {
        2 => None,
        // The word for the unit is looked at last.
        4 | 5 => Some(integer(args.get(2)).and(integer(args.get(3))).and_then(|_| Range::parse(args, 2))?),
        _ => return Err(CommandError::Syntax),
    };
    let count = match cx.string(args.get(1))? {
        None => 0,
        Some(value) => {
            let text = value.text();
            match range {
                None => bits::count_ones(&text),
                // Two places from the end in the wrong order are nothing, even where both lie in front of the string.
                Some(Range { start, end: Some(end), .. }) if start < 0 && end < 0 && start > end => 0,
                Some(range) => {
                    range.clip(&text).map_or(0, |(first, last)| bits::count_ones_between(&text, first, last))
                }
            }
        }
    };
    reply.int(count as i64);
    Ok(())
}

fn bitpos(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let on = match integer(args.get(2))? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::Custom("ERR The bit argument must be 1 or 0.")),
    };
    let range = match args.len() {
        3 => Range::WHOLE,
        4..=6 => Range::parse(args, 3)?,
        _ => return Err(CommandError::Syntax),
    };
    let found = match cx.string(args.get(1))? {
        // A key that is not there is a string of zeros without end.
        None => (!on).then_some(0),
        Some(value) => {
            let text = value.text();
            range.clip(&text).and_then(|(first, last)| {
                let found = bits::find_between(&text, on, first, last);
                // Without an end the string goes on in zeros.
                found.or((!on && range.end.is_none()).then_some(text.len() as u64 * 8))
            })
        }
    };
    reply.int(found.map_or(-1, |at| at as i64));
    Ok(())
}

/// A part of a string as a client gives it.
struct Range {
    start: i64,
    end: Option<i64>,
    /// Both count bits and not bytes.
    in_bits: bool,
}

impl Range {
    const WHOLE: Range = Range { start: 0, end: None, in_bits: false };

    /// Reads `start [end [BYTE | BIT]]` from argument `at` on.
    fn parse(args: Args<'_>, at: usize) -> Result<Range, CommandError> {
        let start = integer(args.get(at))?;
        let in_bits = match args.iter().nth(at + 2) {
            None => false,
            Some(word) if word.eq_ignore_ascii_case(b"bit") => true,
            Some(word) if word.eq_ignore_ascii_case(b"byte") => false,
            Some(_) => return Err(CommandError::Syntax),
        };
        let end = args.iter().nth(at + 1).map(integer).transpose()?;
        Ok(Range { start, end, in_bits })
    }

    /// The first and the last bit of what there is of it.
    fn clip(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let total = i64::try_from(bytes.len()).ok()?.checked_mul(if self.in_bits { 8 } else { 1 })?;
        let from_front = |at: i64| if at < 0 { (total + at).max(0) } else { at };
        let (start, end) = (from_front(self.start), from_front(self.end.unwrap_or(-1)).min(total - 1));
        if start > end {
            return None;
        }
        let (start, end) = (start as u64, end as u64);
        Some(if self.in_bits { (start, end) } else { (start * 8, end * 8 + 7) })
    }
}

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NotAnInteger)
}

// Fields.

fn bitfield(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let steps = parse_steps(args, cx.config())?;
    let last_written = steps.iter().filter(|step| step.action != Action::Get).map(Step::last_bit).max();
    let Some(last) = last_written else { return read_fields(cx, args.get(1), &steps, reply) };
    reply.array(steps.len());
    cx.overwrite_string(args.get(1), bytes_with(last), |bytes, env| {
        let mut written = false;
        for step in &steps {
            match step.run(bytes, env) {
                Some(number) => {
                    written |= step.action != Action::Get;
                    reply.int(number);
                }
                None => reply.null(),
            }
        }
        env.event_if(written && env.has_changed(), "setbit");
    })
}

fn bitfield_ro(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let steps = parse_steps(args, cx.config())?;
    if steps.iter().any(|step| step.action != Action::Get) {
        return Err(CommandError::Custom("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(cx, args.get(1), &steps, reply)
}

fn read_fields(cx: &mut ReadCx<'_>, key: &[u8], steps: &[Step], reply: &mut Reply) -> Done {
    let text = cx.string(key)?.map(Value::text);
    let bytes = text.as_deref().unwrap_or_default();
    reply.array(steps.len());
    steps.iter().for_each(|step| reply.int(step.field.get(bytes, step.offset)));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    IncrBy(i64),
}

/// One operation of BITFIELD.
struct Step {
    action: Action,
    field: Field,
    offset: u64,
    overflow: Overflow,
}

impl Step {
    fn last_bit(&self) -> u64 {
        self.offset + u64::from(self.field.bits()) - 1
    }

    /// Replies with what the field holds, held, or may not hold.
    fn run(&self, bytes: &mut [u8], env: &mut Env<'_>) -> Option<i64> {
        let old = self.field.get(bytes, self.offset);
        let exact = match self.action {
            Action::Get => return Some(old),
            Action::Set(number) => self.field.argument(number),
            Action::IncrBy(increment) => i128::from(old) + i128::from(increment),
        };
        let new = self.field.fit(exact, self.overflow)?;
        self.field.set(bytes, self.offset, new);
        env.changed(u64::from(new != old));
        env.touched();
        Some(if matches!(self.action, Action::Set(_)) { old } else { new })
    }
}

fn parse_steps(args: Args<'_>, config: &Config) -> Result<Vec<Step>, CommandError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let word = args.get(at);
        let behind = args.len() - at - 1;
        let is = |name: &str, takes: usize| word.eq_ignore_ascii_case(name.as_bytes()) && behind >= takes;
        if is("overflow", 1) {
            overflow = match args.get(at + 1) {
                how if how.eq_ignore_ascii_case(b"wrap") => Overflow::Wrap,
                how if how.eq_ignore_ascii_case(b"sat") => Overflow::Saturate,
                how if how.eq_ignore_ascii_case(b"fail") => Overflow::Fail,
                _ => return Err(CommandError::Custom("ERR Invalid OVERFLOW type specified")),
            };
            at += 2;
            continue;
        }
        let takes = match () {
            () if is("get", 2) => 2,
            () if is("set", 3) || is("incrby", 3) => 3,
            () => return Err(CommandError::Syntax),
        };
        let field = Field::parse(args.get(at + 1)).ok_or(CommandError::Custom(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))?;
        let offset = bit_offset(args.get(at + 2), Some(field.bits()), config)?;
        let action = match takes {
            2 => Action::Get,
            _ if is("set", 3) => Action::Set(integer(args.get(at + 3))?),
            _ => Action::IncrBy(integer(args.get(at + 3))?),
        };
        steps.push(Step { action, field, offset, overflow });
        at += 1 + takes;
    }
    Ok(steps)
}

// BITOP.

/// All keys on one shard.
fn bitop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let combine = parse_combine(args)?;
    let sources = args.slice(3).iter().map(|key| source(cx, key)).collect::<Result<Vec<_>, _>>()?;
    let result = combine_sources(combine, &sources);
    drop(sources);
    reply.int(store(cx, args.get(2), result));
    Ok(())
}

/// Keys on several: the sources come here, the result goes to its owner.
fn bitop_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let combine = parse_combine(args)?;
        let asked: Vec<_> = args
            .slice(3)
            .iter()
            .map(|key| {
                let name = key.to_vec();
                coordinator.with_key(key, move |cx| source(cx, &name))
            })
            .collect();
        let mut sources = Vec::with_capacity(asked.len());
        for answer in asked {
            sources.push(answer.await);
        }
        let sources = sources.into_iter().collect::<Result<Vec<_>, _>>()?;
        let result = combine_sources(combine, &sources);
        drop(sources);
        let destination = args.get(2).to_vec();
        let len = coordinator.with_key(args.get(2), move |cx| store(cx, &destination, result)).await;
        let mut reply = coordinator.reply();
        reply.int(len);
        Ok(reply)
    })
}

fn parse_combine(args: Args<'_>) -> Result<Combine, CommandError> {
    const NAMES: [(&str, Combine); 8] = [
        ("and", Combine::And),
        ("or", Combine::Or),
        ("xor", Combine::Xor),
        ("not", Combine::Not),
        ("diff", Combine::Diff),
        ("diff1", Combine::Diff1),
        ("andor", Combine::AndOr),
        ("one", Combine::One),
    ];
    let word = args.get(1);
    let found = NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    let (name, combine) = *found.ok_or(CommandError::Syntax)?;
    let sources = args.len() - 3;
    match combine {
        Combine::Not if sources != 1 => {
            Err(CommandError::Custom("ERR BITOP NOT must be called with a single source key."))
        }
        Combine::Diff | Combine::Diff1 | Combine::AndOr if sources < 2 => {
            let name = name.to_ascii_uppercase();
            Err(CommandError::Message(format!("ERR BITOP {name} must be called with at least two source keys.")))
        }
        _ => Ok(combine),
    }
}

/// A string to combine: a long one is shared, a short one copied.
enum Source {
    Bytes(Vec<u8>),
    Blob(Blob),
}

fn source(cx: &mut ReadCx<'_>, key: &[u8]) -> Result<Source, CommandError> {
    Ok(match cx.string(key)? {
        None => Source::Bytes(Vec::new()),
        Some(Value::Blob(blob)) => Source::Blob(Blob::clone(blob)),
        Some(value) => Source::Bytes(value.text().to_vec()),
    })
}

fn combine_sources(combine: Combine, sources: &[Source]) -> Vec<u8> {
    let bytes: Vec<&[u8]> = sources
        .iter()
        .map(|source| match source {
            Source::Bytes(bytes) => bytes.as_slice(),
            Source::Blob(blob) => blob.as_slice(),
        })
        .collect();
    combine.apply(&bytes)
}

/// Stores the result, or removes the key if it is empty; gives its length.
fn store(cx: &mut WriteCx<'_>, key: &[u8], result: Vec<u8>) -> i64 {
    let len = result.len() as i64;
    if result.is_empty() {
        cx.remove(key);
    } else {
        cx.set_raw(key, result, Ttl::Clear);
        cx.notify(EventClass::STRING, "set", key);
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(words: &str) -> Result<Vec<Step>, CommandError> {
        let argv: Vec<&str> = "bitfield k".split(' ').chain(words.split_whitespace()).collect();
        parse_steps(OwnedArgs::from_slices(&argv).as_args(), &Config::default())
    }

    #[test]
    fn overflow_holds_for_what_follows_it() {
        let steps = steps("set u8 0 1 overflow sat incrby u8 #3 1 get i5 2 OVERFLOW FAIL set u8 0 1").expect("legal");
        let how: Vec<Overflow> = steps.iter().map(|step| step.overflow).collect();
        assert_eq!(how, [Overflow::Wrap, Overflow::Saturate, Overflow::Saturate, Overflow::Fail]);
        assert_eq!(steps[1].offset, 24);
    }

    #[test]
    fn an_offset_lies_within_the_longest_string() {
        let config = Config::default();
        assert_eq!(bit_offset(b"4294967295", None, &config), Ok(4_294_967_295));
        for text in ["4294967296", "-1", "x", "#1", "", "9223372036854775807"] {
            assert_eq!(bit_offset(text.as_bytes(), None, &config), Err(CommandError::BitOffset), "{text}");
        }
        assert_eq!(bit_offset(b"#67108863", Some(64), &config), Ok(4_294_967_232));
        for text in ["#67108864", "#9223372036854775807", "#-1", "##1", "#"] {
            assert_eq!(bit_offset(text.as_bytes(), Some(64), &config), Err(CommandError::BitOffset), "{text}");
        }
    }

    #[test]
    fn a_range_is_clipped_to_the_string() {
        let clip = |start, end, in_bits| Range { start, end, in_bits }.clip(b"abc");
        assert_eq!(clip(0, None, false), Some((0, 23)));
        assert_eq!(clip(-1, Some(100), false), Some((16, 23)));
        assert_eq!(clip(-1, Some(100), true), Some((23, 23)));
        assert_eq!(clip(3, None, false), None);
        assert_eq!(clip(i64::MIN, Some(i64::MIN), false), Some((0, 7)));
        assert_eq!(clip(i64::MAX, Some(i64::MIN), false), None);
        assert_eq!(Range::WHOLE.clip(b""), None);
    }
}
