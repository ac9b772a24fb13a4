//! Lists: both ends, ranges, searching, and queues between clients. Rows first, then the handlers by subject.
//!
//! LMOVE with two lists on two shards looks at both, takes the element out of one and puts it into the other; both are reserved
//! meanwhile. Commands that wait try, and are served, by the functions that their kin without a wait are made of.
//!
//! A range of more than [`STREAMED_ELEMENTS_MIN`] elements is not encoded by its handler but read out of a snapshot while it is
//! sent: see `resp::reply::Pieces`.

use std::sync::Arc;

use super::blocking::{or_timed_out, timeout_us};
use super::docs::Group;
use super::element::{STREAMED_ELEMENTS_MIN, push_item};
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::table::{Flags, Row, Run};
use crate::base::num::{format_u64, parse_i64};
use crate::resp::{Args, CommandError, OwnedArgs, Pieces, Reply, push_bulk};
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::txn::{Attempt, Coordinator, Plan, Wait};
use crate::types::DataType;
use crate::types::list::{List, ListSnapshot};
use crate::types::listpack::Item;

/// What all rows of this file share.
const LIST: Row = Row { group: Group::List, ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "blmove",
        usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        summary: "Moves an element from one list to another and waits for one if there is none.",
        since: "6.2.0",
        arity: 6,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING),
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT)),
        ],
        run: Run::Server(blmove),
        ..LIST
    },
    Row {
        name: "blmpop",
        usage: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        summary: "Takes elements from the first list that has any, and waits if none has.",
        since: "7.0.0",
        complexity: "O(N+M) where N is the number of keys and M the number of elements taken.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::BLOCKING),
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(2),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Server(blmpop),
        ..LIST
    },
    Row {
        name: "blpop",
        usage: "key [key ...] timeout",
        summary: "Takes the first element of the first list that has any, and waits if none has.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of keys.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::BLOCKING),
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(1),
            find: Find::Range { last: -2, step: 1, limit: 0 },
        }],
        run: Run::Server(blpop),
        ..LIST
    },
    Row {
        name: "brpop",
        usage: "key [key ...] timeout",
        summary: "Takes the last element of the first list that has any, and waits if none has.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of keys.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::BLOCKING),
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(1),
            find: Find::Range { last: -2, step: 1, limit: 0 },
        }],
        run: Run::Server(brpop),
        ..LIST
    },
    Row {
        name: "brpoplpush",
        usage: "source destination timeout",
        summary: "Moves the last element of one list to the front of another and waits for one if there is none.",
        since: "2.2.0",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING),
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT)),
        ],
        deprecated: Some(("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")),
        run: Run::Server(brpoplpush),
        ..LIST
    },
    Row {
        name: "lindex",
        usage: "key index",
        summary: "Replies with the element at an index.",
        complexity: "O(N) where N is the number of nodes up to the index.",
        arity: 3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(lindex)),
        ..LIST
    },
    Row {
        name: "linsert",
        usage: "key <BEFORE | AFTER> pivot element",
        summary: "Inserts an element in front of or behind another.",
        since: "2.2.0",
        complexity: "O(N) where N is the number of elements in front of that one.",
        arity: 5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(linsert)),
        ..LIST
    },
    Row {
        name: "llen",
        usage: "key",
        summary: "Replies with the length of a list.",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(llen)),
        ..LIST
    },
    Row {
        name: "lmove",
        usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        summary: "Moves an element from an end of one list to an end of another.",
        since: "6.2.0",
        arity: 5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT)),
        ],
        run: Run::Hops(DataFn::Write(lmove), lmove_plan),
        ..LIST
    },
    Row {
        name: "lmpop",
        usage: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        summary: "Takes elements from the first list that has any.",
        since: "7.0.0",
        complexity: "O(N+M) where N is the number of keys and M the number of elements taken.",
        arity: -4,
        flags: Flags::WRITE,
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Write(lmpop), lmpop_plan),
        ..LIST
    },
    Row {
        name: "lpop",
        usage: "key [count]",
        summary: "Takes elements from the front of a list.",
        complexity: "O(N) where N is the number of elements taken.",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(lpop)),
        ..LIST
    },
    Row {
        name: "lpos",
        usage: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        summary: "Replies with where in a list an element is.",
        since: "6.0.6",
        complexity: "O(N) where N is the number of elements looked at.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(lpos)),
        ..LIST
    },
    Row {
        name: "lpush",
        usage: "key element [element ...]",
        summary: "Inserts elements in front of a list.",
        complexity: "O(N) where N is the number of elements.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(lpush)),
        ..LIST
    },
    Row {
        name: "lpushx",
        usage: "key element [element ...]",
        summary: "Inserts elements in front of a list that is there.",
        since: "2.2.0",
        complexity: "O(N) where N is the number of elements.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(lpushx)),
        ..LIST
    },
    Row {
        name: "lrange",
        usage: "key start stop",
        summary: "Replies with a range of a list. A long one is sent piece by piece.",
        complexity: "O(S+N) where S is the number of nodes up to the start and N the number of elements in the range.",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(lrange)),
        ..LIST
    },
    Row {
        name: "lrem",
        usage: "key count element",
        summary: "Removes elements that equal a value.",
        complexity: "O(N) where N is the length of the list.",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(lrem)),
        ..LIST
    },
    Row {
        name: "lset",
        usage: "key index element",
        summary: "Replaces the element at an index.",
        complexity: "O(N) where N is the number of nodes up to the index.",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(lset)),
        ..LIST
    },
    Row {
        name: "ltrim",
        usage: "key start stop",
        summary: "Keeps a range of a list and drops the rest.",
        complexity: "O(N) where N is the number of elements dropped.",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(ltrim)),
        ..LIST
    },
    Row {
        name: "rpop",
        usage: "key [count]",
        summary: "Takes elements from the back of a list.",
        complexity: "O(N) where N is the number of elements taken.",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(rpop)),
        ..LIST
    },
    Row {
        name: "rpoplpush",
        usage: "source destination",
        summary: "Moves the last element of one list to the front of another.",
        since: "1.2.0",
        arity: 3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT)),
        ],
        deprecated: Some(("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")),
        run: Run::Hops(DataFn::Write(rpoplpush), rpoplpush_plan),
        ..LIST
    },
    Row {
        name: "rpush",
        usage: "key element [element ...]",
        summary: "Appends elements to a list.",
        complexity: "O(N) where N is the number of elements.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(rpush)),
        ..LIST
    },
    Row {
        name: "rpushx",
        usage: "key element [element ...]",
        summary: "Appends elements to a list that is there.",
        since: "2.2.0",
        complexity: "O(N) where N is the number of elements.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(rpushx)),
        ..LIST
    },
];

type Done = Result<(), CommandError>;

/// One end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Left,
    Right,
}

impl End {
    fn parse(word: &[u8]) -> Result<End, CommandError> {
        match word {
            _ if word.eq_ignore_ascii_case(b"left") => Ok(End::Left),
            _ if word.eq_ignore_ascii_case(b"right") => Ok(End::Right),
            _ => Err(CommandError::Syntax),
        }
    }

    /// The event of an element that was added at this end.
    fn pushed(self) -> &'static str {
        match self {
            End::Left => "lpush",
            End::Right => "rpush",
        }
    }

    /// The event of an element that was taken from this end.
    fn popped(self) -> &'static str {
        match self {
            End::Left => "lpop",
            End::Right => "rpop",
        }
    }

    /// As commands name it.
    fn word(self) -> &'static [u8] {
        match self {
            End::Left => b"LEFT",
            End::Right => b"RIGHT",
        }
    }

    fn push_command(self) -> &'static [u8] {
        match self {
            End::Left => b"LPUSH",
            End::Right => b"RPUSH",
        }
    }

    fn pop_command(self) -> &'static [u8] {
        match self {
            End::Left => b"LPOP",
            End::Right => b"RPOP",
        }
    }
}

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NotAnInteger)
}

// Both ends.

fn push(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, end: End, create: bool) -> Done {
    let change = |list: &mut List, env: &mut crate::shard::cx::Env<'_>| {
        let limits = env.config.list_limits();
        for element in args.slice(2).iter() {
            match end {
                End::Left => list.push_front(element, limits),
                End::Right => list.push_back(element, limits),
            }
        }
        env.changed(args.len() as u64 - 2);
        env.event(end.pushed());
        list.len()
    };
    let len = match create {
        true => cx.modify_or_create(args.get(1), change)?,
        false => cx.modify(args.get(1), change)?.unwrap_or(0),
    };
    reply.int(len as i64);
    Ok(())
}

fn lpush(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push(cx, args, reply, End::Left, true)
}

fn rpush(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push(cx, args, reply, End::Right, true)
}

fn lpushx(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push(cx, args, reply, End::Left, false)
}

fn rpushx(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    push(cx, args, reply, End::Right, false)
}

/// Takes one element and shows it to `take`; none if there is no list.
fn pop_one<R>(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    end: End,
    take: impl FnOnce(Item<'_>) -> R,
) -> Result<Option<R>, CommandError> {
    let popped = cx.modify(key, |list: &mut List, env| {
        let limits = env.config.list_limits();
        env.changed(1);
        env.event(end.popped());
        match end {
            End::Left => list.pop_front(limits, take),
            End::Right => list.pop_back(limits, take),
        }
    })?;
    Ok(popped.flatten())
}

/// Takes up to `count` elements and replies with an array of them; false, and no reply, if there is no list.
fn pop_some(cx: &mut WriteCx<'_>, key: &[u8], end: End, count: usize, reply: &mut Reply) -> Result<bool, CommandError> {
    let popped = cx.modify(key, |list: &mut List, env| {
        let limits = env.config.list_limits();
        let count = count.min(list.len());
        reply.array(count);
        for _ in 0..count {
            match end {
                End::Left => list.pop_front(limits, |item| push_item(reply, item)),
                End::Right => list.pop_back(limits, |item| push_item(reply, item)),
            };
        }
        env.changed(count as u64);
        env.event_if(count > 0, end.popped());
    })?;
    Ok(popped.is_some())
}

fn pop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, end: End, name: &'static str) -> Done {
    let key = args.get(1);
    if args.len() == 2 {
        if pop_one(cx, key, end, |item| push_item(reply, item))?.is_none() {
            reply.null();
        }
        return Ok(());
    }
    if args.len() > 3 {
        return Err(CommandError::WrongArity(name));
    }
    let count = parse_i64(args.get(2)).and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(CommandError::MustBePositive)?;
    if !pop_some(cx, key, end, count, reply)? {
        reply.null_array();
    }
    Ok(())
}

fn lpop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    pop(cx, args, reply, End::Left, "lpop")
}

fn rpop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    pop(cx, args, reply, End::Right, "rpop")
}

// Reading.

fn llen(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let len = cx.typed::<List>(args.get(1))?.map_or(0, DataType::len);
    reply.int(len as i64);
    Ok(())
}

/// An index as clients give it, from the front; none if it is in front of all. It may lie behind the last.
fn from_front(index: i64, len: usize) -> Option<usize> {
    match index {
        0.. => Some(usize::try_from(index).unwrap_or(usize::MAX)),
        _ => len.checked_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    }
}

fn lindex(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    match cx.typed::<List>(args.get(1))? {
        None => reply.null(),
        Some(list) => {
            let index = integer(args.get(2))?;
            let shown = from_front(index, list.len()).and_then(|index| list.get(index, |item| push_item(reply, item)));
            if shown.is_none() {
                reply.null();
            }
        }
    }
    Ok(())
}

/// The part of `len` elements that two inclusive indexes name: where it starts and how many there are.
fn clip(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let start = from_front(start, len).unwrap_or(0);
    let Some(stop) = from_front(stop, len) else { return (0, 0) };
    let end = stop.saturating_add(1).min(len);
    if start >= end { (0, 0) } else { (start, end - start) }
}

fn lrange(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let Some(list) = cx.typed::<List>(args.get(1))? else {
        reply.array(0);
        return Ok(());
    };
    let (start, count) = clip(start, stop, list.len());
    reply.array(count);
    if count >= STREAMED_ELEMENTS_MIN {
        reply.stream(Box::new(RangePieces(list.snapshot(start, count))));
    } else if count > 0 {
        let mut left = count;
        list.walk(start, false, |item| {
            push_item(reply, item);
            left -= 1;
            left > 0
        });
    }
    Ok(())
}

/// A long range, read out while it is sent.
struct RangePieces(ListSnapshot);

impl Pieces for RangePieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        self.0.read_on(|item| {
            push_bulk(out, &item.text());
            out.len() < bytes_max
        })
    }
}

fn lpos(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (mut rank, mut count, mut maxlen) = (1i64, None, 0usize);
    let mut at = 3;
    while at < args.len() {
        let word = args.get(at);
        let Some(value) = (at + 1 < args.len()).then(|| args.get(at + 1)) else { return Err(CommandError::Syntax) };
        let not_negative =
            |error| parse_i64(value).and_then(|n| usize::try_from(n).ok()).ok_or(CommandError::Custom(error));
        if word.eq_ignore_ascii_case(b"rank") {
            rank = integer(value)?;
            if rank == i64::MIN {
                return Err(CommandError::NotBetween(-i64::MAX, i64::MAX));
            }
            if rank == 0 {
                return Err(CommandError::Custom(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to \
                     start from the end of the list",
                ));
            }
        } else if word.eq_ignore_ascii_case(b"count") {
            count = Some(not_negative("ERR COUNT can't be negative")?);
        } else if word.eq_ignore_ascii_case(b"maxlen") {
            maxlen = not_negative("ERR MAXLEN can't be negative")?;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    let element = args.get(2);
    let list = cx.typed::<List>(args.get(1))?;
    let header = count.map(|_| reply.deferred_array());
    let mut found = 0;
    if let Some(list) = list {
        let wanted = Item::of(element);
        let (backwards, len) = (rank < 0, list.len());
        let mut skip = rank.unsigned_abs() - 1;
        let most = match count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let mut seen = 0;
        list.walk(if backwards { len - 1 } else { 0 }, backwards, |item| {
            if item == wanted {
                if skip == 0 {
                    reply.int(if backwards { len - 1 - seen } else { seen } as i64);
                    found += 1;
                } else {
                    skip -= 1;
                }
            }
            seen += 1;
            found < most && seen != maxlen
        });
    }
    match header {
        Some(header) => reply.finish(header, found),
        None if found == 0 => reply.null(),
        None => {}
    }
    Ok(())
}

// Changing what is inside.

fn lset(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let done = cx.modify(args.get(1), |list: &mut List, env| {
        let index = integer(args.get(2))?;
        let index = from_front(index, list.len()).filter(|index| *index < list.len());
        list.set(index.ok_or(CommandError::IndexOutOfRange)?, args.get(3), env.config.list_limits());
        env.changed(1);
        env.event("lset");
        Ok(())
    })?;
    done.ok_or(CommandError::NoSuchKey)??;
    reply.ok();
    Ok(())
}

fn linsert(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let behind = match args.get(2) {
        word if word.eq_ignore_ascii_case(b"after") => 1,
        word if word.eq_ignore_ascii_case(b"before") => 0,
        _ => return Err(CommandError::Syntax),
    };
    let len = cx.modify(args.get(1), |list: &mut List, env| {
        let pivot = Item::of(args.get(3));
        let (mut at, mut found) = (0, false);
        list.walk(0, false, |item| {
            found = item == pivot;
            at += usize::from(!found);
            !found
        });
        if !found {
            return -1;
        }
        list.insert(at + behind, args.get(4), env.config.list_limits());
        env.changed(1);
        env.event("linsert");
        list.len() as i64
    })?;
    reply.int(len.unwrap_or(0));
    Ok(())
}

fn lrem(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let count = integer(args.get(2))?;
    let most = match count {
        0 => usize::MAX,
        _ => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let removed = cx.modify(args.get(1), |list: &mut List, env| {
        let removed = list.remove_equal(args.get(3), most, count < 0, env.config.list_limits());
        env.changed(removed as u64);
        env.event_if(removed > 0, "lrem");
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn ltrim(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    cx.modify(args.get(1), |list: &mut List, env| {
        let len = list.len();
        let (start, count) = clip(start, stop, len);
        list.keep(start, count, env.config.list_limits());
        env.changed((len - count) as u64);
        env.event("ltrim");
        env.touched();
    })?;
    reply.ok();
    Ok(())
}

// From one list to another.

/// Puts an element at an end of a list, which is made if it is not there.
fn put(cx: &mut WriteCx<'_>, key: &[u8], end: End, element: &[u8]) -> Result<(), CommandError> {
    cx.modify_or_create(key, |list: &mut List, env| {
        let limits = env.config.list_limits();
        // The move counts as one change, with the element that was taken.
        env.touched();
        match end {
            End::Left => list.push_front(element, limits),
            End::Right => list.push_back(element, limits),
        }
        env.event(end.pushed());
    })
}

/// Moves an element within one list, which is never empty meanwhile.
fn rotate(cx: &mut WriteCx<'_>, key: &[u8], from: End, to: End) -> Result<(), CommandError> {
    cx.modify(key, |list: &mut List, env| {
        let limits = env.config.list_limits();
        let taken = match from {
            End::Left => list.pop_front(limits, |item| item.to_vec()),
            End::Right => list.pop_back(limits, |item| item.to_vec()),
        };
        let element = taken.expect("a list that is stored has elements");
        match to {
            End::Left => list.push_front(&element, limits),
            End::Right => list.push_back(&element, limits),
        }
        env.changed(1);
        env.event(to.pushed());
        env.event(from.popped());
    })?;
    Ok(())
}

/// Moves an element between two lists of this shard and replies with it; false, and no reply, if there is none.
fn move_here(
    cx: &mut WriteCx<'_>,
    (source, from): (&[u8], End),
    (destination, to): (&[u8], End),
    reply: &mut Reply,
) -> Result<bool, CommandError> {
    let Some(list) = cx.lookup_typed::<List>(source)? else { return Ok(false) };
    let at = match from {
        End::Left => 0,
        End::Right => list.len() - 1,
    };
    let element = list.get(at, |item| item.to_vec()).expect("a list that is stored has elements");
    cx.lookup_typed::<List>(destination)?;
    if source == destination {
        rotate(cx, source, from, to)?;
    } else {
        // The element arrives before it leaves: so do the events.
        put(cx, destination, to, &element)?;
        pop_one(cx, source, from, |_| ())?;
    }
    reply.bulk(&element);
    Ok(true)
}

fn lmove(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (from, to) = (End::parse(args.get(3))?, End::parse(args.get(4))?);
    if !move_here(cx, (args.get(1), from), (args.get(2), to), reply)? {
        reply.null();
    }
    Ok(())
}

fn rpoplpush(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    if !move_here(cx, (args.get(1), End::Right), (args.get(2), End::Left), reply)? {
        reply.null();
    }
    Ok(())
}

/// Moves an element between lists of two shards; none if there is none.
async fn move_over(
    coordinator: Coordinator,
    (source, from): (Vec<u8>, End),
    (destination, to): (Vec<u8>, End),
) -> Result<Option<Reply>, CommandError> {
    let name = source.clone();
    if !coordinator.with_key(&source, move |cx| Ok(cx.lookup_typed::<List>(&name)?.is_some())).await? {
        return Ok(None);
    }
    let name = destination.clone();
    let fits = coordinator.with_key(&destination, move |cx| cx.lookup_typed::<List>(&name).is_ok()).await;
    if !fits {
        return Err(WRONG_DESTINATION);
    }
    let name = source.clone();
    let popped = coordinator
        .with_key(&source, move |cx| {
            let popped = pop_one(cx, &name, from, |item| item.to_vec())?;
            if popped.is_some() {
                cx.effect(&name, &[from.pop_command(), &name]);
            }
            Ok(popped)
        })
        .await?;
    let Some(element) = popped else { return Ok(None) };
    let given = element.clone();
    coordinator
        .with_key(&destination.clone(), move |cx| {
            put(cx, &destination, to, &given)?;
            cx.effect(&destination, &[to.push_command(), &destination, &given]);
            Ok(())
        })
        .await?;
    let mut reply = coordinator.reply();
    reply.bulk(&element);
    Ok(Some(reply))
}

fn or_null(coordinator: &Coordinator, reply: Option<Reply>) -> Reply {
    reply.unwrap_or_else(|| {
        let mut reply = coordinator.reply();
        reply.null();
        reply
    })
}

fn lmove_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (from, to) = (End::parse(args.get(3))?, End::parse(args.get(4))?);
        let (source, destination) = ((args.get(1).to_vec(), from), (args.get(2).to_vec(), to));
        let moved = move_over(coordinator.clone(), source, destination).await?;
        Ok(or_null(&coordinator, moved))
    })
}

fn rpoplpush_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (source, destination) = ((args.get(1).to_vec(), End::Right), (args.get(2).to_vec(), End::Left));
        let moved = move_over(coordinator.clone(), source, destination).await?;
        Ok(or_null(&coordinator, moved))
    })
}

// The first of several lists.

/// What LMPOP and BLMPOP ask for, from the argument with the number of keys on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct MultiPop {
    first_key: usize,
    keys: usize,
    end: End,
    count: usize,
}

impl MultiPop {
    fn parse(args: Args<'_>, at: usize) -> Result<MultiPop, CommandError> {
        let positive = |text, error| {
            let number = parse_i64(text).filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
            number.ok_or(CommandError::Custom(error))
        };
        let keys = positive(args.get(at), "ERR numkeys should be greater than 0")?;
        let end_at = at.checked_add(keys).and_then(|at| at.checked_add(1)).filter(|at| *at < args.len());
        let end_at = end_at.ok_or(CommandError::Syntax)?;
        let end = End::parse(args.get(end_at))?;
        let mut count = None;
        let mut option = end_at + 1;
        while option < args.len() {
            if count.is_some() || !args.get(option).eq_ignore_ascii_case(b"count") || option + 1 == args.len() {
                return Err(CommandError::Syntax);
            }
            count = Some(positive(args.get(option + 1), "ERR count should be greater than 0")?);
            option += 2;
        }
        Ok(MultiPop { first_key: at + 1, keys, end, count: count.unwrap_or(1) })
    }

    fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        args.slice(self.first_key).iter().take(self.keys)
    }
}

/// The reply of LMPOP from one list; false, and no reply, if it is not there.
fn pop_named(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    end: End,
    count: usize,
    reply: &mut Reply,
) -> Result<bool, CommandError> {
    let mark = reply.mark();
    reply.array(2);
    reply.bulk(key);
    let popped = pop_some(cx, key, end, count, reply)?;
    if popped {
        cx.effect(key, &[end.pop_command(), key, format_u64(count as u64).as_bytes()]);
    } else {
        reply.truncate(mark);
    }
    Ok(popped)
}

fn lmpop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let wanted = MultiPop::parse(args, 1)?;
    for key in wanted.keys(args) {
        if pop_named(cx, key, wanted.end, wanted.count, reply)? {
            return Ok(());
        }
    }
    reply.null_array();
    Ok(())
}

fn lmpop_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let wanted = MultiPop::parse(args, 1)?;
        for key in wanted.keys(args) {
            let (name, mut reply) = (key.to_vec(), coordinator.reply());
            let popped = coordinator
                .with_key(key, move |cx| {
                    Ok(pop_named(cx, &name, wanted.end, wanted.count, &mut reply)?.then_some(reply))
                })
                .await?;
            if let Some(reply) = popped {
                return Ok(reply);
            }
        }
        let mut reply = coordinator.reply();
        reply.null_array();
        Ok(reply)
    })
}

// Waiting.

fn blocking_pop(coordinator: Coordinator, args: OwnedArgs, end: End) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let last = args.len() - 1;
        let wait = Wait {
            timeout_us: timeout_us(args.get(last))?,
            keys: args.iter().take(last).skip(1).map(<[u8]>::to_vec).collect(),
            on_absence: false,
        };
        let serve = Arc::new(move |cx: &mut WriteCx<'_>, key: &[u8], reply: &mut Reply| {
            let mark = reply.mark();
            reply.array(2);
            reply.bulk(key);
            let popped = pop_one(cx, key, end, |item| push_item(reply, item))?.is_some();
            if popped {
                cx.effect(key, &[end.pop_command(), key]);
            } else {
                reply.truncate(mark);
            }
            Ok(popped)
        });
        let served = coordinator.block(wait, serve).await?;
        Ok(or_timed_out(&coordinator, served))
    })
}

fn blpop(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    blocking_pop(coordinator, args, End::Left)
}

fn brpop(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    blocking_pop(coordinator, args, End::Right)
}

fn blmpop(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let wanted = MultiPop::parse(args, 2)?;
        let timeout_us = timeout_us(args.get(1))?;
        let wait = Wait { timeout_us, keys: wanted.keys(args).map(<[u8]>::to_vec).collect(), on_absence: false };
        let serve = Arc::new(move |cx: &mut WriteCx<'_>, key: &[u8], reply: &mut Reply| {
            pop_named(cx, key, wanted.end, wanted.count, reply)
        });
        let served = coordinator.block(wait, serve).await?;
        Ok(or_timed_out(&coordinator, served))
    })
}

/// The destination is of another type: an error even for a client that waits, unlike a source that has become another type.
const WRONG_DESTINATION: CommandError =
    CommandError::Custom("WRONGTYPE Operation against a key holding the wrong kind of value");

async fn blocking_move(
    coordinator: Coordinator,
    source: (Vec<u8>, End),
    destination: (Vec<u8>, End),
    timeout: Vec<u8>,
) -> Result<Reply, CommandError> {
    let wait = Wait { timeout_us: timeout_us(&timeout)?, keys: vec![source.0.clone()], on_absence: false };
    let from = source.1;
    let slots = coordinator.slots();
    let served = if slots.shard_of(&source.0) == slots.shard_of(&destination.0) {
        let serve = Arc::new(move |cx: &mut WriteCx<'_>, key: &[u8], reply: &mut Reply| {
            if cx.lookup_typed::<List>(key)?.is_none() {
                return Ok(false);
            }
            cx.lookup_typed::<List>(&destination.0).map_err(|_| WRONG_DESTINATION)?;
            let (destination, to) = (destination.0.as_slice(), destination.1);
            let moved = move_here(cx, (key, from), (destination, to), reply)?;
            if moved {
                cx.no_effect(destination);
                cx.effect(key, &[b"LMOVE", key, destination, from.word(), to.word()]);
            }
            Ok(moved)
        });
        coordinator.block(wait, serve).await?
    } else {
        let attempt =
            |key: Vec<u8>| -> Attempt { Box::pin(move_over(coordinator.clone(), (key, from), destination.clone())) };
        coordinator.block_on_plan(wait, attempt).await?
    };
    // Inside a transaction, where nothing is waited for, the reply is LMOVE's.
    if coordinator.is_held() { Ok(or_null(&coordinator, served)) } else { Ok(or_timed_out(&coordinator, served)) }
}

fn blmove(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (from, to) = (End::parse(args.get(3))?, End::parse(args.get(4))?);
        let (source, destination) = ((args.get(1).to_vec(), from), (args.get(2).to_vec(), to));
        blocking_move(coordinator, source, destination, args.get(5).to_vec()).await
    })
}

fn brpoplpush(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (source, destination) = ((args.get(1).to_vec(), End::Right), (args.get(2).to_vec(), End::Left));
        blocking_move(coordinator, source, destination, args.get(3).to_vec()).await
    })
}
