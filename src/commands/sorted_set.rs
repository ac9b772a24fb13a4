//! Sorted sets: members, their scores and ranks, and taking from either end. Rows first, then the handlers by subject.
//!
//! Ranges are in [`super::zset_range`], the algebra of several sets in [`super::zset_algebra`]. Commands that wait try, and are
//! served, by the functions that their kin without a wait are made of.

use std::sync::Arc;

use super::blocking::{or_timed_out, timeout_us};
use super::docs::Group;
use super::element::{STREAMED_ELEMENTS_MIN, push_item};
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::page::{Page, parse_cursor};
use super::table::{Flags, Row, Run};
use crate::base::float::{parse_f64, push_f64_shortest};
use crate::base::num::{format_u64, parse_i64};
use crate::base::rng::Rng;
use crate::resp::{Args, CommandError, OwnedArgs, Pieces, Reply, Resp, push_bulk};
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::txn::{Coordinator, Plan, Wait};
use crate::types::DataType;
use crate::types::listpack::Item;
use crate::types::zset::Zset;

/// What all rows of this file share.
const ZSET: Row = Row { group: Group::SortedSet, ..Row::DEFAULT };

/// The family's rows about members.
pub const ROWS: &[Row] = &[
    Row {
        name: "bzmpop",
        usage: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
        summary: "Takes members from the first sorted set that has any, and waits if none has.",
        since: "7.0.0",
        complexity: "O(K+M*log(N)) where K is the number of keys, N the number of members and M the number taken.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::BLOCKING),
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(2),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Server(bzmpop),
        ..ZSET
    },
    Row {
        name: "bzpopmax",
        usage: "key [key ...] timeout",
        summary: "Takes the member with the highest score of the first sorted set that has any, and waits if none has.",
        since: "5.0.0",
        complexity: "O(log(N)) where N is the number of members.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::BLOCKING).and(Flags::FAST),
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(1),
            find: Find::Range { last: -2, step: 1, limit: 0 },
        }],
        run: Run::Server(bzpopmax),
        ..ZSET
    },
    Row {
        name: "bzpopmin",
        usage: "key [key ...] timeout",
        summary: "Takes the member with the lowest score of the first sorted set that has any, and waits if none has.",
        since: "5.0.0",
        complexity: "O(log(N)) where N is the number of members.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::BLOCKING).and(Flags::FAST),
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(1),
            find: Find::Range { last: -2, step: 1, limit: 0 },
        }],
        run: Run::Server(bzpopmin),
        ..ZSET
    },
    Row {
        name: "zadd",
        usage: "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
        summary: "Gives members scores.",
        since: "1.2.0",
        complexity: "O(log(N)) for each member, where N is the number of members.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(zadd)),
        ..ZSET
    },
    Row {
        name: "zcard",
        usage: "key",
        summary: "Replies with the number of members.",
        since: "1.2.0",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(zcard)),
        ..ZSET
    },
    Row {
        name: "zincrby",
        usage: "key increment member",
        summary: "Adds to the score of a member.",
        since: "1.2.0",
        complexity: "O(log(N)) where N is the number of members.",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(zincrby)),
        ..ZSET
    },
    Row {
        name: "zmpop",
        usage: "numkeys key [key ...] <MIN | MAX> [COUNT count]",
        summary: "Takes members from the first sorted set that has any.",
        since: "7.0.0",
        complexity: "O(K+M*log(N)) where K is the number of keys, N the number of members and M the number taken.",
        arity: -4,
        flags: Flags::WRITE,
        keys: &[KeySpec {
            flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Write(zmpop), zmpop_plan),
        ..ZSET
    },
    Row {
        name: "zmscore",
        usage: "key member [member ...]",
        summary: "Replies with the scores of several members.",
        since: "6.2.0",
        complexity: "O(N) where N is the number of members asked for.",
        arity: -3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zmscore)),
        ..ZSET
    },
    Row {
        name: "zpopmax",
        usage: "key [count]",
        summary: "Takes the members with the highest scores.",
        since: "5.0.0",
        complexity: "O(M*log(N)) where N is the number of members and M the number taken.",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(zpopmax)),
        ..ZSET
    },
    Row {
        name: "zpopmin",
        usage: "key [count]",
        summary: "Takes the members with the lowest scores.",
        since: "5.0.0",
        complexity: "O(M*log(N)) where N is the number of members and M the number taken.",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(zpopmin)),
        ..ZSET
    },
    Row {
        name: "zrandmember",
        usage: "key [count [WITHSCORES]]",
        summary: "Replies with members at random.",
        since: "6.2.0",
        complexity: "O(M*log(N)) where N is the number of members and M the number asked for.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(zrandmember)),
        ..ZSET
    },
    Row {
        name: "zrank",
        usage: "key member [WITHSCORE]",
        summary: "Replies with the rank of a member, from the lowest score.",
        since: "2.0.0",
        complexity: "O(log(N)) where N is the number of members.",
        arity: -3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zrank)),
        ..ZSET
    },
    Row {
        name: "zrem",
        usage: "key member [member ...]",
        summary: "Removes members.",
        since: "1.2.0",
        complexity: "O(M*log(N)) where N is the number of members and M the number removed.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(zrem)),
        ..ZSET
    },
    Row {
        name: "zrevrank",
        usage: "key member [WITHSCORE]",
        summary: "Replies with the rank of a member, from the highest score.",
        since: "2.0.0",
        complexity: "O(log(N)) where N is the number of members.",
        arity: -3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zrevrank)),
        ..ZSET
    },
    Row {
        name: "zscan",
        usage: "key cursor [MATCH pattern] [COUNT count]",
        summary: "Goes through the members, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls from start to end, where N is the number of members.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(zscan)),
        ..ZSET
    },
    Row {
        name: "zscore",
        usage: "key member",
        summary: "Replies with the score of a member.",
        since: "1.2.0",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zscore)),
        ..ZSET
    },
];

type Done = Result<(), CommandError>;

/// The header of so many members, with their scores if they are wanted: pairs in RESP3, one behind the other in RESP2.
pub fn push_header(reply: &mut Reply, members: usize, with_scores: bool) {
    reply.array(if with_scores && reply.proto() == Resp::V2 { members * 2 } else { members });
}

/// A member under such a header.
pub fn push_member(reply: &mut Reply, member: Item<'_>, score: Option<f64>) {
    if score.is_some() && reply.proto() == Resp::V3 {
        reply.array(2);
    }
    push_item(reply, member);
    if let Some(score) = score {
        reply.double(score);
    }
}

// Scores.

/// The options of ZADD.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl AddOptions {
    /// Reads them, and says where the first score is.
    fn parse(args: Args<'_>) -> Result<(AddOptions, usize), CommandError> {
        let mut options = AddOptions::default();
        let mut at = 2;
        while at < args.len() {
            let word = args.get(at);
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            match () {
                () if is("nx") => options.nx = true,
                () if is("xx") => options.xx = true,
                () if is("gt") => options.gt = true,
                () if is("lt") => options.lt = true,
                () if is("ch") => options.ch = true,
                () if is("incr") => options.incr = true,
                () => break,
            }
            at += 1;
        }
        let left = args.len() - at;
        if left == 0 || !left.is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        if options.nx && options.xx {
            return Err(CommandError::Custom("ERR XX and NX options at the same time are not compatible"));
        }
        if [options.gt, options.lt, options.nx].into_iter().filter(|option| *option).count() > 1 {
            return Err(CommandError::Custom("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if options.incr && left > 2 {
            return Err(CommandError::Custom("ERR INCR option supports a single increment-element pair"));
        }
        Ok((options, at))
    }

    /// The score that a member gets, if it gets one.
    fn score(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, CommandError> {
        let Some(old) = old else { return Ok((!self.xx).then_some(given)) };
        if self.nx {
            return Ok(None);
        }
        let new = if self.incr { old + given } else { given };
        if new.is_nan() {
            return Err(CommandError::Custom("ERR resulting score is not a number (NaN)"));
        }
        Ok(Some(new).filter(|new| !(self.lt && *new >= old || self.gt && *new <= old)))
    }
}

fn add(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, options: AddOptions, at: usize) -> Done {
    let mut scores = Vec::new();
    for at in (at..args.len()).step_by(2) {
        scores.push(parse_f64(args.get(at)).ok_or(CommandError::NotAFloat)?);
    }
    let outcome = cx.modify_or_create(args.get(1), |zset: &mut Zset, env| {
        let limits = env.config.zset_limits();
        let (mut added, mut updated, mut last) = (0, 0, None);
        for (given, at) in scores.iter().zip((at..args.len()).step_by(2)) {
            let member = args.get(at + 1);
            let old = zset.score(member);
            last = options.score(old, *given)?;
            if let Some(new) = last {
                zset.set(member, new, limits);
                added += u64::from(old.is_none());
                updated += u64::from(old.is_some_and(|old| old != new));
            }
        }
        env.changed(added + updated);
        env.event_if(added + updated > 0, if options.incr { "zincr" } else { "zadd" });
        Ok((added, updated, last))
    })?;
    let (added, updated, last) = outcome?;
    match (options.incr, last) {
        (true, Some(score)) => reply.double(score),
        (true, None) => reply.null(),
        (false, _) => reply.int(if options.ch { added + updated } else { added } as i64),
    }
    Ok(())
}

fn zadd(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (options, at) = AddOptions::parse(args)?;
    add(cx, args, reply, options, at)
}

fn zincrby(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    add(cx, args, reply, AddOptions { incr: true, ..AddOptions::default() }, 2)
}

fn zrem(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let removed = cx.modify(args.get(1), |zset: &mut Zset, env| {
        let removed = args.slice(2).iter().filter(|member| zset.remove(member)).count();
        env.changed(removed as u64);
        env.event_if(removed > 0, "zrem");
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn zcard(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let len = cx.typed::<Zset>(args.get(1))?.map_or(0, DataType::len);
    reply.int(len as i64);
    Ok(())
}

fn push_score(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let score = cx.typed::<Zset>(args.get(1))?.and_then(|zset| zset.score(args.get(2)));
    push_score(reply, score);
    Ok(())
}

fn zmscore(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let zset = cx.typed::<Zset>(args.get(1))?;
    reply.array(args.len() - 2);
    for member in args.slice(2).iter() {
        push_score(reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

fn rank(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, from_highest: bool) -> Done {
    let with_score = match args.len() {
        3 => false,
        4 if args.get(3).eq_ignore_ascii_case(b"withscore") => true,
        _ => return Err(CommandError::Syntax),
    };
    let member = args.get(2);
    let found = cx.typed::<Zset>(args.get(1))?.and_then(|zset| {
        let rank = zset.rank(member)?;
        let rank = if from_highest { zset.len() - 1 - rank } else { rank };
        Some((rank, zset.score(member).expect("what has a rank has a score")))
    });
    match (found, with_score) {
        (None, false) => reply.null(),
        (None, true) => reply.null_array(),
        (Some((rank, _)), false) => reply.int(rank as i64),
        (Some((rank, score)), true) => {
            reply.array(2);
            reply.int(rank as i64);
            reply.double(score);
        }
    }
    Ok(())
}

fn zrank(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    rank(cx, args, reply, false)
}

fn zrevrank(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    rank(cx, args, reply, true)
}

fn zscan(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let cursor = parse_cursor(args.get(2)).ok_or(CommandError::InvalidCursor)?;
    reply.array(2);
    let Some(zset) = cx.typed::<Zset>(args.get(1))? else {
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let page = Page::parse(args, 3, false)?;
    if page.no_values {
        return Err(CommandError::Custom("ERR NOVALUES option can only be used in HSCAN"));
    }
    let mut found = Vec::new();
    let next = zset.scan(cursor, page.count, |member, score| {
        let member = member.text();
        if page.matches(&member) {
            found.push((member.to_vec(), score));
        }
    });
    reply.bulk(next.to_string().as_bytes());
    reply.array(found.len() * 2);
    for (member, score) in found {
        let mut text = Vec::new();
        push_f64_shortest(&mut text, score);
        reply.bulk(&member);
        reply.bulk(&text);
    }
    Ok(())
}

// At random.

/// Members drawn one by one, each from all of them, while they are sent: so any number may be asked for.
struct DrawnPieces {
    members: Vec<(Vec<u8>, f64)>,
    rng: Rng,
    left: u64,
    with_scores: bool,
    proto: Resp,
}

impl Pieces for DrawnPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        while self.left > 0 && out.len() < bytes_max {
            let (member, score) = &self.members[self.rng.below(self.members.len() as u64) as usize];
            let mut reply = Reply::with_proto(self.proto);
            if self.with_scores {
                push_member(&mut reply, Item::Bytes(member), Some(*score));
                out.extend_from_slice(reply.as_bytes().unwrap_or_default());
            } else {
                push_bulk(out, member);
            }
            self.left -= 1;
        }
        self.left > 0
    }
}

fn zrandmember(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let mut rng = Rng::seed(cx.rng().next_u64());
    let count = match args.len() {
        2 => None,
        _ => Some(parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?),
    };
    if count == Some(i64::MIN) {
        return Err(CommandError::NotBetween(-i64::MAX, i64::MAX));
    }
    let with_scores = args.len() > 3;
    if args.len() > 4 || (with_scores && !args.get(3).eq_ignore_ascii_case(b"withscores")) {
        return Err(CommandError::Syntax);
    }
    if with_scores && count.is_some_and(|count| count.unsigned_abs() > i64::MAX as u64 / 2) {
        return Err(CommandError::ValueOutOfRange);
    }
    let zset = cx.typed::<Zset>(args.get(1))?;
    let Some(count) = count else {
        match zset {
            Some(zset) => push_item(reply, zset.get(rng.below(zset.len() as u64) as usize).0),
            None => reply.null(),
        }
        return Ok(());
    };
    let Some(zset) = zset.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(());
    };
    let asked = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let score = |score| with_scores.then_some(score);
    if count < 0 {
        push_header(reply, asked, with_scores);
        if asked >= STREAMED_ELEMENTS_MIN {
            let mut members = Vec::with_capacity(zset.len());
            zset.walk(0, false, |member, score| {
                members.push((member.to_vec(), score));
                true
            });
            let (left, proto) = (asked as u64, reply.proto());
            reply.stream(Box::new(DrawnPieces { members, rng, left, with_scores, proto }));
        } else {
            for _ in 0..asked {
                let (member, given) = zset.get(rng.below(zset.len() as u64) as usize);
                push_member(reply, member, score(given));
            }
        }
        return Ok(());
    }
    let ranks = zset.sample(asked, |n| rng.below(n));
    push_header(reply, ranks.len(), with_scores);
    for rank in ranks {
        let (member, given) = zset.get(rank);
        push_member(reply, member, score(given));
    }
    Ok(())
}

// Taking from the ends.

/// One end of a sorted set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Min,
    Max,
}

impl End {
    fn pop_command(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }
}

/// Takes up to `count` members and shows them with their scores, after their number; none if there is no such key.
fn pop_some(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    end: End,
    count: usize,
    reply: &mut Reply,
    header: impl FnOnce(&mut Reply, usize),
    each: impl Fn(&mut Reply, Item<'_>, f64),
) -> Result<bool, CommandError> {
    let popped = cx.modify(key, |zset: &mut Zset, env| {
        let len = zset.len();
        let count = count.min(len);
        header(reply, count);
        if count == 0 {
            return;
        }
        let (from, backwards, first) = match end {
            End::Min => (0, false, 0),
            End::Max => (len - 1, true, len - count),
        };
        let mut left = count;
        zset.walk(from, backwards, |member, score| {
            each(reply, member, score);
            left -= 1;
            left > 0
        });
        if let Some(old) = zset.remove_ranks(first, count) {
            env.bury(old);
        }
        env.changed(count as u64);
        env.event(match end {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        });
    })?;
    Ok(popped.is_some())
}

fn pop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, end: End) -> Done {
    let (count, pairs) = match args.len() {
        2 => (1, false),
        3 => {
            let count = parse_i64(args.get(2)).and_then(|count| usize::try_from(count).ok());
            (count.ok_or(CommandError::MustBePositive)?, reply.proto() == Resp::V3)
        }
        _ => return Err(CommandError::Syntax),
    };
    let header = |reply: &mut Reply, count: usize| reply.array(if pairs { count } else { count * 2 });
    let each = |reply: &mut Reply, member: Item<'_>, score: f64| {
        if pairs {
            reply.array(2);
        }
        push_item(reply, member);
        reply.double(score);
    };
    if !pop_some(cx, args.get(1), end, count, reply, header, each)? {
        reply.array(0);
    }
    Ok(())
}

fn zpopmin(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    pop(cx, args, reply, End::Min)
}

fn zpopmax(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    pop(cx, args, reply, End::Max)
}

/// What ZMPOP and BZMPOP ask for, from the argument with the number of keys on.
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
        let end = match args.get(end_at) {
            word if word.eq_ignore_ascii_case(b"min") => End::Min,
            word if word.eq_ignore_ascii_case(b"max") => End::Max,
            _ => return Err(CommandError::Syntax),
        };
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

    /// The reply of ZMPOP from one sorted set; false, and no reply, if it is not there.
    fn pop(&self, cx: &mut WriteCx<'_>, key: &[u8], reply: &mut Reply) -> Result<bool, CommandError> {
        let mark = reply.mark();
        reply.array(2);
        reply.bulk(key);
        let each = |reply: &mut Reply, member: Item<'_>, score: f64| {
            reply.array(2);
            push_item(reply, member);
            reply.double(score);
        };
        let popped = pop_some(cx, key, self.end, self.count, reply, Reply::array, each)?;
        if popped {
            cx.effect(key, &[self.end.pop_command(), key, format_u64(self.count as u64).as_bytes()]);
        } else {
            reply.truncate(mark);
        }
        Ok(popped)
    }
}

fn zmpop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let wanted = MultiPop::parse(args, 1)?;
    for key in wanted.keys(args) {
        if wanted.pop(cx, key, reply)? {
            return Ok(());
        }
    }
    reply.null_array();
    Ok(())
}

fn zmpop_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let wanted = MultiPop::parse(args, 1)?;
        for key in wanted.keys(args) {
            let (name, mut reply) = (key.to_vec(), coordinator.reply());
            let popped =
                coordinator.with_key(key, move |cx| Ok(wanted.pop(cx, &name, &mut reply)?.then_some(reply))).await?;
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
            reply.array(3);
            reply.bulk(key);
            let each = |reply: &mut Reply, member: Item<'_>, score: f64| {
                push_item(reply, member);
                reply.double(score);
            };
            let popped = pop_some(cx, key, end, 1, reply, |_, _| {}, each)?;
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

fn bzpopmin(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    blocking_pop(coordinator, args, End::Min)
}

fn bzpopmax(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    blocking_pop(coordinator, args, End::Max)
}

fn bzmpop(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let wanted = MultiPop::parse(args, 2)?;
        let timeout_us = timeout_us(args.get(1))?;
        let wait = Wait { timeout_us, keys: wanted.keys(args).map(<[u8]>::to_vec).collect(), on_absence: false };
        let serve = Arc::new(move |cx: &mut WriteCx<'_>, key: &[u8], reply: &mut Reply| wanted.pop(cx, key, reply));
        let served = coordinator.block(wait, serve).await?;
        Ok(or_timed_out(&coordinator, served))
    })
}
