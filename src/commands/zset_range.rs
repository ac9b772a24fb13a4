//! Ranges of sorted sets: by rank, by score, by name, read, counted, removed or stored.
//!
//! Every range becomes one of ranks before anything is done with it: its two ends are two searches, and what follows is the same
//! for all of them.

use super::docs::Group;
use super::element::{FREED_PER_PIECE, STREAMED_ELEMENTS_MIN};
use super::keys::{KeyFlags, KeySpec};
use super::sorted_set::{push_header, push_member};
use super::table::{Flags, Row, Run};
use crate::base::float::parse_f64_lenient;
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, OwnedArgs, Pieces, Reply, Resp};
use crate::shard::cx::{DataFn, ReadCx, Ttl, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::zset::{Zset, ZsetLimits, ZsetSnapshot};
use crate::types::{DataType, Object};

/// What all rows of this file share.
const ZSET: Row = Row { group: Group::SortedSet, ..Row::DEFAULT };

/// The family's rows about ranges.
pub const ROWS: &[Row] = &[
    Row {
        name: "zcount",
        usage: "key min max",
        summary: "Counts the members in a range of scores.",
        since: "2.0.0",
        complexity: "O(log(N)) where N is the number of members.",
        arity: 4,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zcount)),
        ..ZSET
    },
    Row {
        name: "zlexcount",
        usage: "key min max",
        summary: "Counts the members in a range of names.",
        since: "2.8.9",
        complexity: "O(log(N)) where N is the number of members.",
        arity: 4,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zlexcount)),
        ..ZSET
    },
    Row {
        name: "zrange",
        usage: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        summary: "Replies with a range by rank, score or name.",
        since: "1.2.0",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(zrange)),
        ..ZSET
    },
    Row {
        name: "zrangebylex",
        usage: "key min max [LIMIT offset count]",
        summary: "Replies with a range by name.",
        since: "2.8.9",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `BYLEX` argument")),
        run: Run::Data(DataFn::Read(zrangebylex)),
        ..ZSET
    },
    Row {
        name: "zrangebyscore",
        usage: "key min max [WITHSCORES] [LIMIT offset count]",
        summary: "Replies with a range by score.",
        since: "1.0.5",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `BYSCORE` argument")),
        run: Run::Data(DataFn::Read(zrangebyscore)),
        ..ZSET
    },
    Row {
        name: "zrangestore",
        usage: "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        summary: "Stores a range by rank, score or name.",
        since: "6.2.0",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
        ],
        run: Run::Hops(DataFn::Write(zrangestore), zrangestore_plan),
        ..ZSET
    },
    Row {
        name: "zremrangebylex",
        usage: "key min max",
        summary: "Removes a range by name.",
        since: "2.8.9",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(zremrangebylex)),
        ..ZSET
    },
    Row {
        name: "zremrangebyrank",
        usage: "key start stop",
        summary: "Removes a range by rank.",
        since: "2.0.0",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(zremrangebyrank)),
        ..ZSET
    },
    Row {
        name: "zremrangebyscore",
        usage: "key min max",
        summary: "Removes a range by score.",
        since: "1.2.0",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(zremrangebyscore)),
        ..ZSET
    },
    Row {
        name: "zrevrange",
        usage: "key start stop [WITHSCORES]",
        summary: "Replies with a range by rank, from the highest score.",
        since: "1.2.0",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` argument")),
        run: Run::Data(DataFn::Read(zrevrange)),
        ..ZSET
    },
    Row {
        name: "zrevrangebylex",
        usage: "key max min [LIMIT offset count]",
        summary: "Replies with a range by name, the last first.",
        since: "2.8.9",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")),
        run: Run::Data(DataFn::Read(zrevrangebylex)),
        ..ZSET
    },
    Row {
        name: "zrevrangebyscore",
        usage: "key max min [WITHSCORES] [LIMIT offset count]",
        summary: "Replies with a range by score, the highest first.",
        since: "2.2.0",
        complexity: "O(log(N)+M) where N is the number of members and M the number in the range.",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")),
        run: Run::Data(DataFn::Read(zrevrangebyscore)),
        ..ZSET
    },
];

type Done = Result<(), CommandError>;

/// The end of a range of scores.
#[derive(Clone, Copy, PartialEq, Debug)]
struct ScoreBound {
    score: f64,
    exclusive: bool,
}

impl ScoreBound {
    fn parse(text: &[u8]) -> Result<ScoreBound, CommandError> {
        let (exclusive, number) = match text {
            [b'(', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let score = parse_f64_lenient(number).ok_or(CommandError::Custom("ERR min or max is not a float"))?;
        Ok(ScoreBound { score, exclusive })
    }
}

/// The end of a range of names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum LexBound {
    Lowest,
    Highest,
    At { name: Vec<u8>, exclusive: bool },
}

impl LexBound {
    fn parse(text: &[u8]) -> Result<LexBound, CommandError> {
        match text {
            b"-" => Ok(LexBound::Lowest),
            b"+" => Ok(LexBound::Highest),
            [b'(', name @ ..] => Ok(LexBound::At { name: name.to_vec(), exclusive: true }),
            [b'[', name @ ..] => Ok(LexBound::At { name: name.to_vec(), exclusive: false }),
            _ => Err(CommandError::Custom("ERR min or max not valid string range item")),
        }
    }

    /// Whether a member lies in front of a range that begins here.
    fn begins_behind(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::At { name, exclusive } => member < &name[..] || (*exclusive && member == &name[..]),
        }
    }

    /// Whether a member does not lie behind a range that ends here.
    fn ends_not_before(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::At { name, exclusive } => member < &name[..] || (!*exclusive && member == &name[..]),
        }
    }
}

/// Members of a long range, encoded while they are sent.
pub struct MemberPieces {
    /// Those that are to come.
    pub members: ZsetSnapshot,
    /// Whether each is followed by its score.
    pub with_scores: bool,
    /// The client's.
    pub proto: Resp,
}

impl Pieces for MemberPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let mut part = Reply::with_proto(self.proto);
        let more = self.members.read_on(|member, score| {
            push_member(&mut part, member, self.with_scores.then_some(score));
            part.len() < bytes_max
        });
        out.extend_from_slice(part.as_bytes().expect("members are copied"));
        // Nobody else may have the set any more.
        more || self.members.free_some(FREED_PER_PIECE)
    }
}

/// Which members are meant.
#[derive(Clone, PartialEq, Debug)]
enum Bounds {
    /// Both inclusive; negative ones count from the end. Of a reversed range they count from the highest rank.
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Names(LexBound, LexBound),
}

impl Bounds {
    fn scores(min: &[u8], max: &[u8]) -> Result<Bounds, CommandError> {
        Ok(Bounds::Scores(ScoreBound::parse(min)?, ScoreBound::parse(max)?))
    }

    fn names(min: &[u8], max: &[u8]) -> Result<Bounds, CommandError> {
        Ok(Bounds::Names(LexBound::parse(min)?, LexBound::parse(max)?))
    }

    fn ranks(start: &[u8], stop: &[u8]) -> Result<Bounds, CommandError> {
        let number = |text| parse_i64(text).ok_or(CommandError::NotAnInteger);
        Ok(Bounds::Ranks(number(start)?, number(stop)?))
    }

    /// The first rank, from the lowest score, and how many members there are.
    fn resolve(&self, zset: &Zset, reversed: bool) -> (usize, usize) {
        let len = zset.len();
        match self {
            Bounds::Ranks(start, stop) => {
                let from_front = |rank: i64| match rank {
                    0.. => usize::try_from(rank).ok(),
                    _ => len.checked_sub(usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX)),
                };
                let start = from_front(*start).unwrap_or(0);
                let Some(stop) = from_front(*stop) else { return (0, 0) };
                let end = stop.saturating_add(1).min(len);
                match (start < end, reversed) {
                    (false, _) => (0, 0),
                    (true, false) => (start, end - start),
                    (true, true) => (len - end, end - start),
                }
            }
            Bounds::Scores(min, max) => {
                let start = zset.count_while(|score, _| score < min.score || (min.exclusive && score == min.score));
                let end = zset.count_while(|score, _| score < max.score || (!max.exclusive && score == max.score));
                (start, end.saturating_sub(start))
            }
            Bounds::Names(min, max) => {
                let start = zset.count_while(|_, member| min.begins_behind(member));
                let end = zset.count_while(|_, member| max.ends_not_before(member));
                (start, end.saturating_sub(start))
            }
        }
    }
}

/// A range with its options.
#[derive(Clone, PartialEq, Debug)]
struct Range {
    bounds: Bounds,
    reversed: bool,
    /// How many members at its beginning are left out; negative: all.
    offset: i64,
    /// How many are taken at most; negative: no limit.
    limit: i64,
    with_scores: bool,
}

/// What a command's name says already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Any,
    Rank,
    Score,
    Name,
}

impl Range {
    /// Reads the two ends at argument `at` and the options behind them. `reversed` is none if an option says so.
    fn parse(args: Args<'_>, at: usize, by: By, reversed: Option<bool>, stores: bool) -> Result<Range, CommandError> {
        let (mut kind, mut direction) = (by, reversed);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut option = at + 2;
        while option < args.len() {
            let word = args.get(option);
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            match () {
                () if !stores && is("withscores") => with_scores = true,
                () if is("limit") && option + 2 < args.len() => {
                    let number = |text| parse_i64(text).ok_or(CommandError::NotAnInteger);
                    (offset, limit) = (number(args.get(option + 1))?, number(args.get(option + 2))?);
                    option += 2;
                }
                () if direction.is_none() && is("rev") => direction = Some(true),
                () if kind == By::Any && is("bylex") => kind = By::Name,
                () if kind == By::Any && is("byscore") => kind = By::Score,
                () => return Err(CommandError::Syntax),
            }
            option += 1;
        }
        let reversed = direction.unwrap_or(false);
        if limit != -1 && matches!(kind, By::Any | By::Rank) {
            return Err(CommandError::Custom(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && kind == By::Name {
            return Err(CommandError::Custom("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (first, second) = (args.get(at), args.get(at + 1));
        let (min, max) = if reversed { (second, first) } else { (first, second) };
        let bounds = match kind {
            By::Any | By::Rank => Bounds::ranks(first, second)?,
            By::Score => Bounds::scores(min, max)?,
            By::Name => Bounds::names(min, max)?,
        };
        if matches!(bounds, Bounds::Ranks(..)) {
            offset = 0;
        }
        Ok(Range { bounds, reversed, offset, limit, with_scores })
    }

    /// The rank to begin at and how many members to go on from there, in the range's direction.
    fn resolve(&self, zset: &Zset) -> (usize, usize) {
        let (first, mut count) = self.bounds.resolve(zset, self.reversed);
        let skipped = usize::try_from(self.offset).unwrap_or(usize::MAX).min(count);
        count -= skipped;
        if let Ok(limit) = usize::try_from(self.limit) {
            count = count.min(limit);
        }
        match self.reversed {
            false => (first + skipped, count),
            true => {
                let total = self.bounds.resolve(zset, true).1;
                ((first + total).saturating_sub(1 + skipped), count)
            }
        }
    }

    fn walk<'z>(&self, zset: &'z Zset, mut visit: impl FnMut(crate::types::listpack::Item<'z>, f64)) {
        let (start, mut left) = self.resolve(zset);
        if left > 0 {
            zset.walk(start, self.reversed, |member, score| {
                visit(member, score);
                left -= 1;
                left > 0
            });
        }
    }

    fn push(&self, zset: Option<&Zset>, reply: &mut Reply) {
        let Some(zset) = zset else {
            reply.array(0);
            return;
        };
        let (start, count) = self.resolve(zset);
        push_header(reply, count, self.with_scores);
        if count >= STREAMED_ELEMENTS_MIN {
            let members = zset.snapshot(start, self.reversed, count);
            return reply.stream(Box::new(MemberPieces {
                members,
                with_scores: self.with_scores,
                proto: reply.proto(),
            }));
        }
        self.walk(zset, |member, score| push_member(reply, member, self.with_scores.then_some(score)));
    }

    /// The members as a sorted set of their own.
    fn copy(&self, zset: Option<&Zset>, limits: ZsetLimits) -> Zset {
        let mut copy = Zset::default();
        if let Some(zset) = zset {
            self.walk(zset, |member, score| {
                copy.set(&member.text(), score, limits);
            });
        }
        copy
    }
}

// Reading.

fn read(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, by: By, reversed: Option<bool>) -> Done {
    let range = Range::parse(args, 2, by, reversed, false)?;
    range.push(cx.typed::<Zset>(args.get(1))?, reply);
    Ok(())
}

fn zrange(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, By::Any, None)
}

fn zrevrange(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, By::Rank, Some(true))
}

fn zrangebyscore(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, By::Score, Some(false))
}

fn zrevrangebyscore(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, By::Score, Some(true))
}

fn zrangebylex(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, By::Name, Some(false))
}

fn zrevrangebylex(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, By::Name, Some(true))
}

fn count(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, bounds: &Bounds) -> Done {
    let count = cx.typed::<Zset>(args.get(1))?.map_or(0, |zset| bounds.resolve(zset, false).1);
    reply.int(count as i64);
    Ok(())
}

fn zcount(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    count(cx, args, reply, &Bounds::scores(args.get(2), args.get(3))?)
}

fn zlexcount(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    count(cx, args, reply, &Bounds::names(args.get(2), args.get(3))?)
}

// Removing.

fn remove(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, bounds: &Bounds, event: &'static str) -> Done {
    let removed = cx.modify(args.get(1), |zset: &mut Zset, env| {
        let (first, count) = bounds.resolve(zset, false);
        if let Some(old) = zset.remove_ranks(first, count) {
            env.bury(old);
        }
        env.changed(count as u64);
        env.event_if(count > 0, event);
        count
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn zremrangebyrank(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    remove(cx, args, reply, &Bounds::ranks(args.get(2), args.get(3))?, "zremrangebyrank")
}

fn zremrangebyscore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    remove(cx, args, reply, &Bounds::scores(args.get(2), args.get(3))?, "zremrangebyscore")
}

fn zremrangebylex(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    remove(cx, args, reply, &Bounds::names(args.get(2), args.get(3))?, "zremrangebylex")
}

// Storing.

/// Puts a result in the place of whatever is at a key; an empty one takes the key away.
pub fn store(cx: &mut WriteCx<'_>, destination: &[u8], result: Zset, event: &'static str, reply: &mut Reply) {
    reply.int(result.len() as i64);
    cx.put_object(destination, Object::Zset(result), Ttl::Clear, event);
}

fn zrangestore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let range = Range::parse(args, 3, By::Any, None, true)?;
    let limits = cx.config().zset_limits();
    let copy = range.copy(cx.typed::<Zset>(args.get(2))?, limits);
    store(cx, args.get(1), copy, "zrangestore", reply);
    Ok(())
}

fn zrangestore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let range = Range::parse(args, 3, By::Any, None, true)?;
        let source = args.get(2).to_vec();
        let copy = coordinator
            .with_key(args.get(2), move |cx| {
                let limits = cx.config().zset_limits();
                Ok(range.copy(cx.typed::<Zset>(&source)?, limits))
            })
            .await?;
        let (destination, mut reply) = (args.get(1).to_vec(), coordinator.reply());
        let reply = coordinator
            .with_key(args.get(1), move |cx| {
                store(cx, &destination, copy, "zrangestore", &mut reply);
                reply
            })
            .await;
        Ok(reply)
    })
}
