//! HyperLogLogs: strings that estimate how many different elements were added to them.
//!
//! Rows first, then the handlers. PFCOUNT and PFMERGE with keys on several shards are plans that fetch the strings, dense ones
//! by reference, and work on the client's core. The format is that of [`crate::types::hll`], and GET shows it.
//!
//! Replies, error texts and the order of checks are those of redis-server 7.0. PFCOUNT of one key is a reader that writes: it
//! stores the count in the string, for the next time.

use super::docs::Group;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Row, Run, SessionCx};
use crate::base::Blob;
use crate::base::num::push_u64;
use crate::config::EventClass;
use crate::keyspace::Value;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::shard::cx::{DataFn, ReadCx, Ttl, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::hll::{self, Corrupted, Encoding, Mark, Registers};

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// What all rows of this file share.
const HYPERLOGLOG: Row = Row { group: Group::HyperLogLog, since: "2.8.9", ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "pfadd",
        usage: "key [element [element ...]]",
        summary: "Adds elements to a HyperLogLog, which is made if it is not there.",
        complexity: "O(1) for each element.",
        arity: -2,
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(pfadd)),
        ..HYPERLOGLOG
    },
    Row {
        name: "pfcount",
        usage: "key [key ...]",
        summary: "Estimates how many different elements were added to HyperLogLogs, all in all.",
        complexity: "O(1) for one key, and quick if nothing was added since the last time. O(N) with a large constant for N keys.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RW.and(KeyFlags::ACCESS))],
        run: Run::Hops(DataFn::Write(pfcount), pfcount_plan),
        ..HYPERLOGLOG
    },
    Row {
        name: "pfdebug",
        usage: "subcommand key",
        summary: "Shows how a HyperLogLog is stored, or makes it dense.",
        complexity: "N/A",
        arity: 3,
        flags: WRITE.and(Flags::ADMIN),
        keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Write(pfdebug)),
        ..HYPERLOGLOG
    },
    Row {
        name: "pfmerge",
        usage: "destkey sourcekey [sourcekey ...]",
        summary: "Adds what HyperLogLogs have seen to another one, which is made if it is not there.",
        complexity: "O(N) with a large constant where N is the number of keys.",
        arity: -2,
        flags: WRITE,
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::INSERT)),
            KeySpec::rest(2, 1, KeyFlags::RO.and(KeyFlags::ACCESS)),
        ],
        run: Run::Hops(DataFn::Write(pfmerge), pfmerge_plan),
        ..HYPERLOGLOG
    },
    Row {
        name: "pfselftest",
        usage: "",
        summary: "Checks that estimates are as close as they should be.",
        complexity: "N/A",
        arity: 1,
        flags: Flags::ADMIN,
        run: Run::Session(pfselftest),
        ..HYPERLOGLOG
    },
];

type Done = Result<(), CommandError>;

const NOT_A_HYPERLOGLOG: CommandError = CommandError::Custom("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPTED: CommandError = CommandError::Custom("INVALIDOBJ Corrupted HLL object detected");

fn corrupted(_: Corrupted) -> CommandError {
    CORRUPTED
}

/// The encoding of a string that must be a HyperLogLog.
fn encoding(value: Value<'_>) -> Result<Encoding, CommandError> {
    match value {
        Value::Int(_) => Err(NOT_A_HYPERLOGLOG),
        value => hll::encoding(&value.text()).ok_or(NOT_A_HYPERLOGLOG),
    }
}

fn sparse_bytes_max(cx: &ReadCx<'_>) -> usize {
    usize::try_from(cx.config().hll_sparse_max_bytes).unwrap_or(usize::MAX)
}

fn pfadd(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let key = args.get(1);
    let limit = sparse_bytes_max(cx);
    let marks = args.slice(2).iter().map(Mark::of);
    let changed = match cx.lookup_string(key)? {
        None => add_and_store(cx, key, hll::new(), 1, marks, limit)?,
        Some(value) => match encoding(value)? {
            Encoding::Dense => cx.overwrite_string(key, 0, |bytes, env| {
                let raised = marks.filter(|mark| hll::add_dense(bytes, *mark)).count() as u64;
                env.changed(raised);
                env.event_if(raised > 0, "pfadd");
                raised > 0
            })?,
            Encoding::Sparse => {
                // Most elements have been seen before: then the string is not copied.
                let text = value.text();
                let mut news = marks;
                let first =
                    news.find_map(|mark| hll::wants(&text, mark).map(|wants| wants.then_some(mark)).transpose());
                match first.transpose().map_err(corrupted)? {
                    None => false,
                    Some(first) => {
                        let bytes = text.to_vec();
                        add_and_store(cx, key, bytes, 0, std::iter::once(first).chain(news), limit)?
                    }
                }
            }
        },
    };
    reply.int(i64::from(changed));
    Ok(())
}

/// Adds to a string that is or was sparse, and stores it. `changes` is how many were made so far.
fn add_and_store(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    mut bytes: Vec<u8>,
    mut changes: u64,
    marks: impl Iterator<Item = Mark>,
    limit: usize,
) -> Result<bool, CommandError> {
    for mark in marks {
        changes += u64::from(hll::add(&mut bytes, mark, limit).map_err(corrupted)?);
    }
    if changes > 0 {
        hll::forget_count(&mut bytes);
        cx.set_raw(key, bytes, Ttl::Keep);
        cx.changed(changes - 1);
        cx.notify(EventClass::STRING, "pfadd", key);
    }
    Ok(changes > 0)
}

/// All keys on one shard.
fn pfcount(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    if args.len() > 2 {
        let mut registers = Registers::default();
        for key in args.slice(1).iter() {
            if let Some(value) = cx.string(key)? {
                encoding(value)?;
                registers.merge(&value.text()).map_err(corrupted)?;
            }
        }
        reply.int(registers.count() as i64);
        return Ok(());
    }
    let key = args.get(1);
    let Some(value) = cx.string(key)? else {
        reply.int(0);
        return Ok(());
    };
    encoding(value)?;
    let text = value.text();
    let count = match hll::stored_count(&text) {
        Some(count) => count,
        None => {
            let count = hll::count(&text).map_err(corrupted)?;
            cx.overwrite_string(key, 0, |bytes, env| {
                hll::store_count(bytes, count);
                env.changed(1);
            })?;
            count
        }
    };
    reply.int(count as i64);
    Ok(())
}

/// Keys on several shards.
fn pfcount_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let (registers, _) = merge_all(&coordinator, args.as_args().slice(1)).await?;
        let mut reply = coordinator.reply();
        reply.int(registers.count() as i64);
        Ok(reply)
    })
}

/// All keys on one shard.
fn pfmerge(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let mut registers = Registers::default();
    let mut dense = false;
    for key in args.slice(1).iter() {
        if let Some(value) = cx.string(key)? {
            dense |= encoding(value)? == Encoding::Dense;
            registers.merge(&value.text()).map_err(corrupted)?;
        }
    }
    merge_into(cx, args.get(1), &registers, dense)?;
    reply.ok();
    Ok(())
}

/// Keys on several shards. What is added to the destination meanwhile stays: registers are only raised.
fn pfmerge_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (registers, dense) = merge_all(&coordinator, args.slice(1)).await?;
        let key = args.get(1).to_vec();
        coordinator.with_key(args.get(1), move |cx| merge_into(cx, &key, &registers, dense)).await?;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

/// The registers of all keys, and whether one of them is dense.
async fn merge_all(coordinator: &Coordinator, keys: Args<'_>) -> Result<(Registers, bool), CommandError> {
    let asked: Vec<_> = keys
        .iter()
        .map(|key| {
            let name = key.to_vec();
            coordinator.with_key(key, move |cx| copy_of(cx, &name))
        })
        .collect();
    let mut copies = Vec::with_capacity(asked.len());
    for answer in asked {
        copies.push(answer.await);
    }
    let mut registers = Registers::default();
    let mut dense = false;
    for copy in copies {
        if let Some((encoding, bytes)) = copy? {
            dense |= encoding == Encoding::Dense;
            registers.merge(&bytes).map_err(corrupted)?;
        }
    }
    Ok((registers, dense))
}

/// A copy of a HyperLogLog, by reference if it is dense.
fn copy_of(cx: &mut ReadCx<'_>, key: &[u8]) -> Result<Option<(Encoding, Blob)>, CommandError> {
    let Some(value) = cx.string(key)? else { return Ok(None) };
    let bytes = match value {
        Value::Blob(blob) => Blob::clone(blob),
        value => Blob::new(value.text().to_vec()),
    };
    Ok(Some((encoding(value)?, bytes)))
}

/// Raises the registers of the HyperLogLog at a key, which is made if it is not there; as a dense one if `dense`.
fn merge_into(cx: &mut WriteCx<'_>, key: &[u8], registers: &Registers, dense: bool) -> Done {
    let limit = sparse_bytes_max(cx);
    let mut bytes = match cx.lookup_string(key)? {
        None => hll::new(),
        Some(value) if encoding(value)? == Encoding::Dense => {
            return cx.overwrite_string(key, 0, |bytes, env| {
                registers.write_to_dense(bytes);
                env.changed(1);
                env.event("pfadd");
            });
        }
        Some(value) => value.text().to_vec(),
    };
    if dense {
        hll::make_dense(&mut bytes).map_err(corrupted)?;
    }
    registers.write_to(&mut bytes, limit).map_err(corrupted)?;
    cx.set_raw(key, bytes, Ttl::Keep);
    cx.notify(EventClass::STRING, "pfadd", key);
    Ok(())
}

fn pfdebug(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (word, key) = (args.get(1), args.get(2));
    let Some(value) = cx.lookup_string(key)? else {
        return Err(CommandError::Custom("ERR The specified key does not exist"));
    };
    let encoding = encoding(value)?;
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if is(b"encoding") {
        reply.simple(if encoding == Encoding::Dense { "dense" } else { "sparse" });
    } else if is(b"decode") {
        if encoding != Encoding::Sparse {
            return Err(CommandError::Custom("ERR HLL encoding is not sparse"));
        }
        reply.bulk(hll::describe(&value.text()).as_bytes());
    } else if is(b"todense") || is(b"getreg") {
        let mut bytes = value.text().to_vec();
        if encoding == Encoding::Sparse {
            hll::make_dense(&mut bytes).map_err(corrupted)?;
            cx.set_raw(key, bytes.clone(), Ttl::Keep);
        }
        if is(b"todense") {
            reply.int(i64::from(encoding == Encoding::Sparse));
        } else {
            let mut registers = Registers::default();
            registers.merge(&bytes).map_err(corrupted)?;
            reply.array(registers.values().len());
            registers.values().iter().for_each(|value| reply.int(i64::from(*value)));
        }
    } else {
        let shown = word.split(|byte| *byte == 0).next().unwrap_or_default();
        return Err(CommandError::echo("Unknown PFDEBUG subcommand '", &[shown, b"'"].concat()));
    }
    Ok(())
}

/// Adds elements and compares estimates with their number at each power of ten.
fn pfselftest(_: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    const ELEMENTS: u64 = 100_000;
    /// Thrice the standard error of 16384 registers, in thousandths.
    const ERROR: u64 = 25;
    let mut bytes = hll::new();
    let mut text = Vec::new();
    let mut checked = 10;
    for number in 1..=ELEMENTS {
        text.clear();
        push_u64(&mut text, number);
        hll::add(&mut bytes, Mark::of(&text), 3000).map_err(corrupted)?;
        if number == checked {
            let estimate = hll::count(&bytes).map_err(corrupted)?;
            if estimate.abs_diff(number) * 1000 > number * ERROR {
                return Err(CommandError::Message(format!("TESTFAILED {number} elements are estimated as {estimate}")));
            }
            checked *= 10;
        }
    }
    reply.ok();
    Ok(())
}
