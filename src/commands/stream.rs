//! Streams: adding entries, ranges of them, removing and trimming. Rows first, then the handlers by subject.
//!
//! Reading that may wait is in [`super::stream_read`], groups of consumers in [`super::stream_group`] and
//! [`super::stream_claim`], XINFO in [`super::stream_info`].

use super::keys::{KeyFlags, KeySpec};
use super::stream_syntax::{STREAM, id_text, push_id, push_range, range_end, range_start, strict_id, time_only};
use super::table::{Flags, Row, Run};
use crate::base::num::{format_u64, parse_i64};
use crate::resp::{Args, CommandError, Reply};
use crate::shard::cx::{DataFn, Env, ReadCx, WriteCx};
use crate::types::stream::{BLOCK_BYTES_MAX, Exactness, Keep, Log, Stream, StreamId};

/// The family's rows about entries.
pub const ROWS: &[Row] = &[
    Row {
        name: "xadd",
        usage: "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]",
        summary: "Appends an entry to a stream, and may trim it.",
        complexity: "O(1) to add; O(N) to trim, where N is the number of entries removed.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Write(xadd)),
        ..STREAM
    },
    Row {
        name: "xdel",
        usage: "key id [id ...]",
        summary: "Removes entries.",
        complexity: "O(log(N)) for each entry, where N is the number of blocks.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(xdel)),
        ..STREAM
    },
    Row {
        name: "xlen",
        usage: "key",
        summary: "Replies with the number of entries.",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(xlen)),
        ..STREAM
    },
    Row {
        name: "xrange",
        usage: "key start end [COUNT count]",
        summary: "Replies with entries in order. A long range is sent piece by piece.",
        complexity: "O(log(B)+N) where B is the number of blocks and N the number of entries in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(xrange)),
        ..STREAM
    },
    Row {
        name: "xrevrange",
        usage: "key end start [COUNT count]",
        summary: "Replies with entries in reverse order. A long range is sent piece by piece.",
        complexity: "O(log(B)+N) where B is the number of blocks and N the number of entries in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(xrevrange)),
        ..STREAM
    },
    Row {
        name: "xsetid",
        usage: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
        summary: "Sets the greatest name that a stream has given, and its counters.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(xsetid)),
        ..STREAM
    },
    Row {
        name: "xtrim",
        usage: "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
        summary: "Removes the oldest entries.",
        complexity: "O(N) where N is the number of entries removed.",
        arity: -4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Write(xtrim)),
        ..STREAM
    },
];

type Done = Result<(), CommandError>;

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NotAnInteger)
}

// Adding and trimming.

/// The name that an entry is to get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NewId {
    /// `*`
    Clock,
    /// `ms-*`
    Time(u64),
    /// Written out.
    Given(StreamId),
}

impl NewId {
    fn parse(text: &[u8]) -> Result<NewId, CommandError> {
        match text {
            b"*" => Ok(NewId::Clock),
            _ => match time_only(text) {
                Some(ms) => Ok(NewId::Time(ms)),
                None => Ok(NewId::Given(strict_id(text, 0)?)),
            },
        }
    }

    /// The name behind `last`; none if there can be none.
    #[inline]
    fn behind(self, last: StreamId, now_ms: i64) -> Option<StreamId> {
        let id = match self {
            NewId::Clock => {
                let now_ms = u64::try_from(now_ms).unwrap_or(0);
                if now_ms > last.ms { StreamId::new(now_ms, 0) } else { last.next()? }
            }
            NewId::Time(ms) if ms == last.ms => StreamId::new(ms, last.seq.checked_add(1)?),
            NewId::Time(ms) => StreamId::new(ms, 0),
            NewId::Given(id) => id,
        };
        (id > last).then_some(id)
    }
}

/// How a stream is to be trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trimming {
    keep: Keep,
    whole_blocks: bool,
    /// LIMIT.
    limit: Option<u64>,
}

impl Trimming {
    fn run(self, log: &mut Log, env: &Env<'_>) -> u64 {
        let exactness = if self.whole_blocks {
            // Unless it is told how much, it does not go beyond a hundred blocks, or 10,000 entries if blocks have no limit.
            let usual = match env.config.stream_node_max_entries.saturating_mul(100) {
                ..=0 => 10_000,
                entries => entries.min(1_000_000) as u64,
            };
            Exactness::Blocks { entries_max: self.limit.unwrap_or(usual) }
        } else {
            Exactness::Exact
        };
        log.trim(self.keep, exactness)
    }
}

/// The options of XADD and XTRIM.
#[derive(Default)]
struct Options {
    trimming: Option<Trimming>,
    no_make: bool,
}

impl Options {
    /// Reads them up to the first argument that is none, and says where that is. XTRIM has nothing else.
    fn parse(args: Args<'_>, of_xadd: bool) -> Result<(Options, usize), CommandError> {
        let mut options = Options::default();
        let (mut limit, mut keep, mut whole_blocks) = (None, None, false);
        let mut at = 2;
        while at < args.len() {
            let word = args.get(at);
            let more = args.len() - 1 - at;
            let is = |name: &str| more > 0 && word.eq_ignore_ascii_case(name.as_bytes());
            if of_xadd && word == b"*" {
                break;
            } else if is("maxlen") || is("minid") {
                if keep.is_some() {
                    return Err(CommandError::Custom(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let sign = args.get(at + 1);
                whole_blocks = more >= 2 && sign == b"~";
                if whole_blocks || more >= 2 && sign == b"=" {
                    at += 1;
                }
                let threshold = args.get(at + 1);
                keep = Some(if is("maxlen") {
                    let count = u64::try_from(integer(threshold)?);
                    Keep::Newest(count.map_err(|_| CommandError::Custom("ERR The MAXLEN argument must be >= 0."))?)
                } else {
                    Keep::From(strict_id(threshold, 0)?)
                });
                at += 1;
            } else if is("limit") {
                let count = u64::try_from(integer(args.get(at + 1))?);
                limit = Some(count.map_err(|_| CommandError::Custom("ERR The LIMIT argument must be >= 0."))?);
                at += 1;
            } else if of_xadd && word.eq_ignore_ascii_case(b"nomkstream") {
                options.no_make = true;
            } else if of_xadd {
                break;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        // What is no option has to be a name, whatever else is wrong.
        if of_xadd && at < args.len() {
            NewId::parse(args.get(at))?;
        }
        if keep.is_none() && limit.is_some_and(|limit| limit > 0) {
            return Err(CommandError::Custom(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if keep.is_none() && !of_xadd {
            return Err(CommandError::Custom("ERR syntax error, XTRIM must be called with a trimming strategy"));
        }
        if limit.is_some() && !whole_blocks {
            return Err(CommandError::Custom("ERR syntax error, LIMIT cannot be used without the special ~ option"));
        }
        options.trimming = keep.map(|keep| Trimming { keep, whole_blocks, limit });
        Ok((options, at))
    }
}

fn xadd(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (options, id_at) = match args.get(2) {
        b"*" => (Options::default(), 2),
        _ => Options::parse(args, true)?,
    };
    let fields_at = id_at + 1;
    let fields = args.len().saturating_sub(fields_at);
    if fields < 2 || !fields.is_multiple_of(2) {
        return Err(CommandError::WrongArity("xadd"));
    }
    let new_id = NewId::parse(args.get(id_at))?;
    if new_id == NewId::Given(StreamId::MIN) {
        return Err(CommandError::Custom("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let fields = args.slice(fields_at).iter();
    let bytes = fields.clone().map(<[u8]>::len).sum();
    if bytes > BLOCK_BYTES_MAX {
        return Err(CommandError::Custom("ERR Elements are too large to be stored"));
    }
    let add = |stream: &mut Stream, env: &mut Env<'_>| {
        let log = stream.log_mut();
        if log.last_id() == StreamId::MAX {
            return Err(CommandError::Custom(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = new_id.behind(log.last_id(), env.now.millis().0).ok_or(CommandError::Custom(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ))?;
        log.append(id, fields, bytes, env.config.stream_limits());
        env.changed(1);
        env.event("xadd");
        if let Some(trimming) = options.trimming {
            env.event_if(trimming.run(log, env) > 0, "xtrim");
        }
        Ok((id, log.len()))
    };
    let added = match options.no_make {
        false => Some(cx.modify_or_create(args.get(1), add)?),
        true => cx.modify(args.get(1), add)?,
    };
    match added.transpose()? {
        Some((id, len)) => {
            if cx.is_logged() {
                let trimmed_to = options.trimming.map(|_| len);
                log_added(cx, args.get(1), id, trimmed_to, args.slice(fields_at));
            }
            push_id(reply, id);
        }
        None => reply.null(),
    }
    Ok(())
}

/// What the log is told of XADD: the name that the entry got, and how many are left if it was to be trimmed. Where blocks end may be
/// another matter when it is run again.
fn log_added(cx: &mut WriteCx<'_>, key: &[u8], id: StreamId, trimmed_to: Option<u64>, fields: Args<'_>) {
    let (id, len) = (id_text(id), format_u64(trimmed_to.unwrap_or(0)));
    let mut words: Vec<&[u8]> = vec![b"XADD", key];
    if trimmed_to.is_some() {
        words.extend::<[&[u8]; 3]>([b"MAXLEN", b"=", len.as_bytes()]);
    }
    words.push(&id);
    words.extend(fields.iter());
    cx.effect(key, &words);
}

fn xtrim(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (options, _) = Options::parse(args, false)?;
    let removed = cx.modify(args.get(1), |stream: &mut Stream, env| {
        let removed = options.trimming.map_or(0, |trimming| trimming.run(stream.log_mut(), env));
        env.changed(removed);
        env.event_if(removed > 0, "xtrim");
        (removed, stream.log().len())
    })?;
    let (removed, left) = removed.unwrap_or_default();
    if removed > 0 {
        cx.effect(args.get(1), &[b"XTRIM", args.get(1), b"MAXLEN", b"=", format_u64(left).as_bytes()]);
    }
    reply.int(removed as i64);
    Ok(())
}

fn xdel(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let removed = cx.modify(args.get(1), |stream: &mut Stream, env| {
        // All names are looked at before the first entry goes.
        let ids = args.slice(2).iter().map(|text| strict_id(text, 0)).collect::<Result<Vec<_>, _>>()?;
        let removed = ids.into_iter().filter(|id| stream.log_mut().remove(*id)).count();
        env.changed(removed as u64);
        env.event_if(removed > 0, "xdel");
        Ok(removed)
    })?;
    reply.int(removed.transpose()?.unwrap_or(0) as i64);
    Ok(())
}

fn xsetid(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let id = strict_id(args.get(2), 0)?;
    let (mut entries_added, mut max_deleted) = (None, StreamId::MIN);
    let mut at = 3;
    while at < args.len() {
        let word = args.get(at);
        let Some(value) = (at + 1 < args.len()).then(|| args.get(at + 1)) else { return Err(CommandError::Syntax) };
        if word.eq_ignore_ascii_case(b"entriesadded") {
            let count = u64::try_from(integer(value)?);
            entries_added = Some(count.map_err(|_| CommandError::Custom("ERR entries_added must be positive"))?);
        } else if word.eq_ignore_ascii_case(b"maxdeletedid") {
            max_deleted = strict_id(value, 0)?;
            if id < max_deleted {
                return Err(CommandError::Custom(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    let done = cx.modify(args.get(1), |stream: &mut Stream, env| {
        let log = stream.log_mut();
        let error = if id < log.last_entry_id() {
            "ERR The ID specified in XSETID is smaller than the target stream top item"
        } else if entries_added.is_some_and(|count| count < log.len()) {
            "ERR The entries_added specified in XSETID is smaller than the target stream length"
        } else {
            log.set_id(id, entries_added, Some(max_deleted).filter(|id| *id != StreamId::MIN));
            env.changed(1);
            env.event("xsetid");
            return Ok(());
        };
        Err(CommandError::Custom(error))
    })?;
    done.ok_or(CommandError::NoSuchKey)??;
    reply.ok();
    Ok(())
}

// Reading.

fn xlen(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let len = cx.typed::<Stream>(args.get(1))?.map_or(0, |stream| stream.log().len());
    reply.int(len as i64);
    Ok(())
}

fn range(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, backwards: bool) -> Done {
    let (start, end) = if backwards { (3, 2) } else { (2, 3) };
    let (from, to) = (range_start(args.get(start))?, range_end(args.get(end))?);
    let mut most = None;
    let mut at = 4;
    while at < args.len() {
        if !args.get(at).eq_ignore_ascii_case(b"count") || at + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        let count = integer(args.get(at + 1))?;
        most = Some(u64::try_from(count).unwrap_or(0));
        at += 2;
    }
    match cx.typed::<Stream>(args.get(1))? {
        None => reply.array(0),
        Some(_) if most == Some(0) => reply.null_array(),
        Some(stream) => push_range(reply, stream.log(), from, to, backwards, most.unwrap_or(u64::MAX)),
    }
    Ok(())
}

fn xrange(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    range(cx, args, reply, false)
}

fn xrevrange(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    range(cx, args, reply, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_behind_the_last() {
        let last = StreamId::new(5, 7);
        assert_eq!(NewId::Clock.behind(last, 9), Some(StreamId::new(9, 0)));
        assert_eq!(NewId::Clock.behind(last, 5), Some(StreamId::new(5, 8)));
        assert_eq!(NewId::Clock.behind(last, -1), Some(StreamId::new(5, 8)));
        assert_eq!(NewId::Clock.behind(StreamId::new(5, u64::MAX), 1), Some(StreamId::new(6, 0)));
        assert_eq!(NewId::Time(5).behind(last, 0), Some(StreamId::new(5, 8)));
        assert_eq!(NewId::Time(4).behind(last, 9), None);
        assert_eq!(NewId::Time(5).behind(StreamId::new(5, u64::MAX), 9), None);
        assert_eq!(NewId::Given(last).behind(last, 9), None);
        assert_eq!(NewId::Clock.behind(StreamId::MAX, 9), None);
    }
}
