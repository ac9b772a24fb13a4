//! The algebra of several sorted sets, and of sets, whose members have the score 1.
//!
//! The algebra works on copies of its operands, which share all that is large with them, wherever they are. What takes longer than
//! a few thousand members is done in slices: a reply is worked out while it is sent, and a command that stores is a plan that yields
//! its core in between. The result is stored after all of it is known.

use std::collections::HashMap;

use super::docs::Group;
use super::element::FREED_PER_PIECE;
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::sorted_set::{push_header, push_member};
use super::table::{Flags, Row, Run};
use super::zset_range::{MemberPieces, store};
use crate::base::float::parse_f64;
use crate::base::num::parse_i64;
use crate::keyspace::Value;
use crate::resp::{Args, CommandError, OwnedArgs, Pieces, Reply, Resp};
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::dict::DictSnapshot;
use crate::types::listpack::Item;
use crate::types::zset::{Zset, ZsetLimits, ZsetSnapshot};
use crate::types::{DataType, Object, Set};

/// What all rows of this file share.
const ZSET: Row = Row { group: Group::SortedSet, ..Row::DEFAULT };

/// The family's rows about several sets.
pub const ROWS: &[Row] = &[
    Row {
        name: "zdiff",
        usage: "numkeys key [key ...] [WITHSCORES]",
        summary: "Replies with the members of the first set that are in none of the others.",
        since: "6.2.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec {
            flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Read(zdiff), zdiff_plan),
        ..ZSET
    },
    Row {
        name: "zdiffstore",
        usage: "destination numkeys key [key ...]",
        summary: "Stores the members of the first set that are in none of the others.",
        since: "6.2.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec {
                flags: KeyFlags::RO.and(KeyFlags::ACCESS),
                begin: Begin::Index(2),
                find: Find::Count { count_at: 0, first: 1, step: 1 },
            },
        ],
        run: Run::Steps(DataFn::Write(zdiffstore), zdiffstore_plan),
        ..ZSET
    },
    Row {
        name: "zinter",
        usage: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
        summary: "Replies with the members that all sets have.",
        since: "6.2.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec {
            flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Read(zinter), zinter_plan),
        ..ZSET
    },
    Row {
        name: "zintercard",
        usage: "numkeys key [key ...] [LIMIT limit]",
        summary: "Counts the members that all sets have.",
        since: "7.0.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec {
            flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Read(zintercard), zintercard_plan),
        ..ZSET
    },
    Row {
        name: "zinterstore",
        usage: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
        summary: "Stores the members that all sets have.",
        since: "2.0.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec {
                flags: KeyFlags::RO.and(KeyFlags::ACCESS),
                begin: Begin::Index(2),
                find: Find::Count { count_at: 0, first: 1, step: 1 },
            },
        ],
        run: Run::Steps(DataFn::Write(zinterstore), zinterstore_plan),
        ..ZSET
    },
    Row {
        name: "zunion",
        usage: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
        summary: "Replies with the members that any of the sets has.",
        since: "6.2.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec {
            flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Read(zunion), zunion_plan),
        ..ZSET
    },
    Row {
        name: "zunionstore",
        usage: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
        summary: "Stores the members that any of the sets has.",
        since: "2.0.0",
        complexity: "O(N*log(N)) where N is the number of members of all sets.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec {
                flags: KeyFlags::RO.and(KeyFlags::ACCESS),
                begin: Begin::Index(2),
                find: Find::Count { count_at: 0, first: 1, step: 1 },
            },
        ],
        run: Run::Steps(DataFn::Write(zunionstore), zunionstore_plan),
        ..ZSET
    },
];

type Done = Result<(), CommandError>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// How the scores of one member become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            // An infinity and its opposite are nothing together, as in Redis.
            Aggregate::Sum => Some(a + b).filter(|sum| !sum.is_nan()).unwrap_or(0.0),
            Aggregate::Min => a.min(b),
            Aggregate::Max => a.max(b),
        }
    }
}

/// What a command asks for.
#[derive(Clone, PartialEq, Debug)]
struct Request {
    operation: Operation,
    keys: Vec<Vec<u8>>,
    /// One for each key.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Of ZINTERCARD; 0 is none.
    limit: usize,
    /// What is wrong with the options. It counts only if all keys are of the right type, as in Redis.
    fault: Option<CommandError>,
}

/// Which options a command takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Reply,
    Store,
    Count,
}

impl Request {
    /// Reads it from the argument with the number of keys on.
    fn parse(
        args: Args<'_>,
        at: usize,
        operation: Operation,
        kind: Kind,
        name: &'static str,
    ) -> Result<Request, CommandError> {
        let count = parse_i64(args.get(at)).ok_or(CommandError::NotAnInteger)?;
        if count < 1 {
            return Err(CommandError::Message(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let count = usize::try_from(count).ok().filter(|count| *count < args.len() - at);
        let count = count.ok_or(CommandError::Syntax)?;
        let keys: Vec<Vec<u8>> = args.slice(at + 1).iter().take(count).map(<[u8]>::to_vec).collect();
        let mut request = Request {
            operation,
            weights: vec![1.0; count],
            keys,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
            fault: None,
        };
        request.fault = request.parse_options(args, at + 1 + count, kind).err();
        Ok(request)
    }

    fn parse_options(&mut self, args: Args<'_>, mut at: usize, kind: Kind) -> Result<(), CommandError> {
        let (operation, count) = (self.operation, self.keys.len());
        while at < args.len() {
            let word = args.get(at);
            let left = args.len() - at - 1;
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let weighs = operation != Operation::Difference && kind != Kind::Count;
            match () {
                () if weighs && is("weights") && left >= count => {
                    for (weight, text) in self.weights.iter_mut().zip(args.slice(at + 1).iter()) {
                        *weight = parse_f64(text).ok_or(CommandError::Custom("ERR weight value is not a float"))?;
                    }
                    at += count;
                }
                () if weighs && is("aggregate") && left >= 1 => {
                    self.aggregate = match args.get(at + 1) {
                        word if word.eq_ignore_ascii_case(b"sum") => Aggregate::Sum,
                        word if word.eq_ignore_ascii_case(b"min") => Aggregate::Min,
                        word if word.eq_ignore_ascii_case(b"max") => Aggregate::Max,
                        _ => return Err(CommandError::Syntax),
                    };
                    at += 1;
                }
                () if kind == Kind::Reply && is("withscores") => self.with_scores = true,
                () if kind == Kind::Count && is("limit") && left >= 1 => {
                    let limit = parse_i64(args.get(at + 1)).and_then(|limit| usize::try_from(limit).ok());
                    self.limit = limit.ok_or(CommandError::Custom("ERR LIMIT can't be negative"))?;
                    at += 1;
                }
                () => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        Ok(())
    }
}

/// What has come out of the sets that were visited so far.
#[derive(Default)]
struct Outcome {
    scores: HashMap<Box<[u8]>, f64, ahash::RandomState>,
}

/// A set or a sorted set: a copy.
enum Operand {
    Missing,
    Set(Set),
    Zset(Zset),
}

impl Operand {
    fn find(cx: &mut ReadCx<'_>, key: &[u8]) -> Result<Operand, CommandError> {
        match cx.get(key).map(|entry| entry.value()) {
            None => Ok(Operand::Missing),
            Some(Value::Object(Object::Set(set))) => Ok(Operand::Set(set.clone())),
            Some(Value::Object(Object::Zset(zset))) => Ok(Operand::Zset(zset.clone())),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    fn into_object(self) -> Option<Object> {
        match self {
            Operand::Missing => None,
            Operand::Set(set) => Some(Object::Set(set)),
            Operand::Zset(zset) => Some(Object::Zset(zset)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Operand::Missing => 0,
            Operand::Set(set) => set.len(),
            Operand::Zset(zset) => zset.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Operand::Missing => None,
            Operand::Set(set) => set.contains(member).then_some(1.0),
            Operand::Zset(zset) => zset.score(member),
        }
    }

    fn walk(&self, mut visit: impl FnMut(Item<'_>, f64)) {
        match self {
            Operand::Missing => {}
            Operand::Set(set) => set.walk(|member| {
                visit(member, 1.0);
                true
            }),
            Operand::Zset(zset) => zset.walk(0, false, |member, score| {
                visit(member, score);
                true
            }),
        }
    }

    fn free_some(&mut self) -> bool {
        match self {
            Operand::Missing => false,
            Operand::Set(set) => set.free_some(FREED_PER_PIECE),
            Operand::Zset(zset) => zset.free_some(FREED_PER_PIECE),
        }
    }
}

impl Request {
    /// An infinity times nothing is nothing, as in Redis.
    fn weighed(&self, number: usize, score: f64) -> f64 {
        Some(self.weights[number] * score).filter(|score| !score.is_nan()).unwrap_or(0.0)
    }

    /// The operands whose members are looked at one by one.
    fn walked(&self, operands: &[Operand]) -> Vec<usize> {
        match self.operation {
            Operation::Union => (0..operands.len()).collect(),
            Operation::Intersection => {
                (0..operands.len()).min_by_key(|number| operands[*number].len()).into_iter().collect()
            }
            Operation::Difference => vec![0],
        }
    }

    /// Whether it looks at too many members for one slice.
    fn is_long(&self, operands: &[Operand]) -> bool {
        self.walked(operands).into_iter().map(|number| operands[number].len()).sum::<usize>() > SLICE_MEMBERS
    }
}

/// Members that an operation over long sets looks at in one slice. With no more of them it is done at once.
const SLICE_MEMBERS: usize = 4096;

/// What is left of an operand that is being read.
enum Reading {
    Set(DictSnapshot<Box<[u8]>>),
    Zset(ZsetSnapshot),
}

/// An operation over long sets, in slices.
struct Work {
    request: Request,
    operands: Vec<Operand>,
    /// The numbers of those that are looked at, the next one last.
    walked: Vec<usize>,
    reading: Option<(usize, Reading)>,
    limits: ZsetLimits,
    /// Whether members are collected, or counted only.
    collects: bool,
    found: usize,
    result: Zset,
}

impl Work {
    fn new(request: Request, operands: Vec<Operand>, limits: ZsetLimits) -> Work {
        let mut walked = request.walked(&operands);
        walked.reverse();
        let result = Zset::default();
        Work { request, operands, walked, reading: None, limits, collects: true, found: 0, result }
    }

    /// Looks at some members; whether there are more.
    fn step(&mut self) -> bool {
        let Work { request, operands, walked, reading, limits, collects, found, result } = self;
        let mut look = |number: usize, member: &[u8], score: f64| {
            let score = match request.operation {
                Operation::Difference => {
                    let elsewhere = operands[1..].iter().any(|other| other.score(member).is_some());
                    if elsewhere { None } else { Some(score) }
                }
                Operation::Union => {
                    let score = request.weighed(number, score);
                    Some(result.score(member).map_or(score, |old| request.aggregate.join(old, score)))
                }
                Operation::Intersection => {
                    let scores = operands.iter().enumerate().map(|(other, operand)| {
                        let score = if other == number { Some(score) } else { operand.score(member) };
                        score.map(|score| request.weighed(other, score))
                    });
                    scores.reduce(|a, b| Some(request.aggregate.join(a?, b?))).flatten()
                }
            };
            if let Some(score) = score {
                *found += 1;
                if *collects {
                    result.set(member, score, *limits);
                }
            }
            request.limit == 0 || *found < request.limit
        };
        if reading.is_none() {
            let Some(number) = walked.pop() else { return false };
            *reading = match &operands[number] {
                Operand::Set(set) if set.snapshot().is_some() => {
                    set.snapshot().map(|snapshot| (number, Reading::Set(snapshot)))
                }
                Operand::Zset(zset) if zset.len() > SLICE_MEMBERS => {
                    Some((number, Reading::Zset(zset.snapshot(0, false, zset.len()))))
                }
                // The small encodings fit into a slice.
                small => {
                    small.walk(|member, score| {
                        look(number, &member.text(), score);
                    });
                    None
                }
            };
        }
        if let Some((number, members)) = reading {
            let mut left = SLICE_MEMBERS;
            let more = match members {
                Reading::Set(snapshot) => snapshot.read_on(|member| {
                    left -= 1;
                    look(*number, member, 1.0) && left > 0
                }),
                Reading::Zset(snapshot) => snapshot.read_on(|member, score| {
                    left -= 1;
                    look(*number, &member.text(), score) && left > 0
                }),
            };
            if !more {
                *reading = None;
            }
        }
        let enough = self.request.limit > 0 && self.found >= self.request.limit;
        !enough && (self.reading.is_some() || !self.walked.is_empty())
    }

    /// How many there are; only if they are not collected.
    fn count(&self) -> i64 {
        match self.request.limit {
            0 => self.found as i64,
            limit => self.found.min(limit) as i64,
        }
    }

    /// Frees some of what is not needed any more; whether there is more. The copies may be the last to have it.
    fn free_some(&mut self) -> bool {
        self.reading = None;
        if let Some(operand) = self.operands.last_mut()
            && !operand.free_some()
        {
            self.operands.pop();
        }
        !self.operands.is_empty()
    }
}

/// The reply of an operation over long sets: worked out, then sent, both in slices.
struct WorkPieces {
    work: Work,
    /// Whether it has been worked out and its header was sent.
    is_done: bool,
    members: Option<MemberPieces>,
    proto: Resp,
}

impl Pieces for WorkPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        if let Some(members) = &mut self.members {
            if !members.append_next(out, bytes_max) {
                self.members = None;
            }
            return true;
        }
        if self.is_done {
            return self.work.free_some();
        }
        if self.work.step() {
            return true;
        }
        self.is_done = true;
        let (with_scores, proto) = (self.work.request.with_scores, self.proto);
        let work = &mut self.work;
        let mut reply = Reply::with_proto(proto);
        if work.collects {
            let result = std::mem::take(&mut work.result);
            push_header(&mut reply, result.len(), with_scores);
            self.members = Some(MemberPieces { members: result.snapshot(0, false, result.len()), with_scores, proto });
        } else {
            reply.int(work.count());
        }
        out.extend_from_slice(reply.as_bytes().expect("a header is bytes"));
        true
    }
}

impl Outcome {
    fn of(request: &Request, operands: &[Operand]) -> Outcome {
        let mut outcome = Outcome::default();
        for (number, operand) in operands.iter().enumerate() {
            outcome.visit(request, number, operand);
        }
        outcome
    }

    /// Takes the set with this number into account.
    fn visit(&mut self, request: &Request, number: usize, operand: &Operand) {
        match request.operation {
            _ if number == 0 => operand.walk(|member, score| {
                self.scores.insert(member.text().to_vec().into(), request.weighed(number, score));
            }),
            Operation::Union => operand.walk(|member, score| {
                let score = request.weighed(number, score);
                let member = member.text();
                match self.scores.get_mut(&*member) {
                    Some(old) => *old = request.aggregate.join(*old, score),
                    None => {
                        self.scores.insert(member.to_vec().into(), score);
                    }
                }
            }),
            Operation::Intersection => self.scores.retain(|member, old| match operand.score(member) {
                Some(score) => {
                    *old = request.aggregate.join(*old, request.weighed(number, score));
                    true
                }
                None => false,
            }),
            Operation::Difference => self.scores.retain(|member, _| operand.score(member).is_none()),
        }
    }

    fn sorted(self) -> Vec<(Box<[u8]>, f64)> {
        let mut all: Vec<(Box<[u8]>, f64)> = self.scores.into_iter().collect();
        all.sort_unstable_by(|a, b| a.1.partial_cmp(&b.1).expect("no score is NaN").then_with(|| a.0.cmp(&b.0)));
        all
    }

    fn push(self, request: &Request, reply: &mut Reply) {
        push_header(reply, self.scores.len(), request.with_scores);
        for (member, score) in self.sorted() {
            push_member(reply, Item::Bytes(&member), request.with_scores.then_some(score));
        }
    }

    fn into_zset(self, limits: ZsetLimits) -> Zset {
        let mut zset = Zset::default();
        for (member, score) in self.sorted() {
            zset.set(&member, score, limits);
        }
        zset
    }
}

/// Copies of the operands at these keys of this shard.
fn operands(cx: &mut ReadCx<'_>, request: &Request) -> Result<Vec<Operand>, CommandError> {
    let operands = request.keys.iter().map(|key| Operand::find(cx, key)).collect::<Result<_, _>>()?;
    request.fault.clone().map_or(Ok(operands), Err)
}

/// As [`operands`], wherever they are. The first one of another type, in the order of the keys, decides.
async fn fetch_all(coordinator: &Coordinator, request: &Request) -> Result<Vec<Operand>, CommandError> {
    let fetch = |key: &Vec<u8>| {
        let name = key.clone();
        coordinator.with_key(key, move |cx| Operand::find(cx, &name))
    };
    let calls: Vec<_> = request.keys.iter().map(fetch).collect();
    let mut found = Vec::with_capacity(calls.len());
    for call in calls {
        found.push(call.await);
    }
    let operands = found.into_iter().collect::<Result<_, _>>()?;
    request.fault.clone().map_or(Ok(operands), Err)
}

/// Replies with the result or its size, or leaves it to be worked out while it is sent.
fn push_result(request: Request, operands: Vec<Operand>, kind: Kind, limits: ZsetLimits, reply: &mut Reply) {
    let (is_long, proto) = (request.is_long(&operands), reply.proto());
    if !is_long && kind == Kind::Reply {
        return Outcome::of(&request, &operands).push(&request, reply);
    }
    let mut work = Work::new(request, operands, limits);
    work.collects = kind == Kind::Reply;
    if is_long {
        reply.stream(Box::new(WorkPieces { work, is_done: false, members: None, proto }));
    } else {
        while work.step() {}
        reply.int(work.count());
    }
}

fn reply_here(
    cx: &mut ReadCx<'_>,
    args: Args<'_>,
    reply: &mut Reply,
    operation: Operation,
    kind: Kind,
    name: &'static str,
) -> Done {
    let request = Request::parse(args, 1, operation, kind, name)?;
    let operands = operands(cx, &request)?;
    push_result(request, operands, kind, cx.config().zset_limits(), reply);
    Ok(())
}

fn store_here(
    cx: &mut WriteCx<'_>,
    args: Args<'_>,
    reply: &mut Reply,
    operation: Operation,
    name: &'static str,
) -> Done {
    let request = Request::parse(args, 2, operation, Kind::Store, name)?;
    let operands = operands(cx, &request)?;
    let result = Outcome::of(&request, &operands).into_zset(cx.config().zset_limits());
    store(cx, args.get(1), result, name, reply);
    Ok(())
}

fn reply_plan(coordinator: Coordinator, args: OwnedArgs, operation: Operation, kind: Kind, name: &'static str) -> Plan {
    Box::pin(async move {
        let request = Request::parse(args.as_args(), 1, operation, kind, name)?;
        let operands = fetch_all(&coordinator, &request).await?;
        let limits = coordinator.call(coordinator.origin().shard, |shard| shard.config.zset_limits()).await;
        let mut reply = coordinator.reply();
        push_result(request, operands, kind, limits, &mut reply);
        Ok(reply)
    })
}

/// One step where all keys are on one shard and their sets are not long; otherwise on copies, a slice at a time.
fn store_plan(coordinator: Coordinator, args: OwnedArgs, operation: Operation, name: &'static str) -> Plan {
    Box::pin(async move {
        let request = Request::parse(args.as_args(), 2, operation, Kind::Store, name)?;
        let (destination, mut reply) = (args.as_args().get(1).to_vec(), coordinator.reply());
        let owner = coordinator.slots().shard_of(&destination);
        let mut work = if request.keys.iter().all(|key| coordinator.slots().shard_of(key) == owner) {
            let begun = coordinator.with_data(owner, move |cx| {
                let operands = operands(cx, &request)?;
                let limits = cx.config().zset_limits();
                if request.is_long(&operands) {
                    return Ok((Some(Work::new(request, operands, limits)), reply));
                }
                let result = Outcome::of(&request, &operands).into_zset(limits);
                store(cx, args.as_args().get(1), result, name, &mut reply);
                Ok((None, reply))
            });
            match begun.await? {
                (None, reply) => return Ok(reply),
                (Some(work), empty) => {
                    reply = empty;
                    work
                }
            }
        } else {
            let operands = fetch_all(&coordinator, &request).await?;
            let limits = coordinator.call(coordinator.origin().shard, |shard| shard.config.zset_limits()).await;
            Work::new(request, operands, limits)
        };
        while work.step() {
            coordinator.yield_core().await;
        }
        let (key, result) = (destination.clone(), std::mem::take(&mut work.result));
        let stored = coordinator.with_key(&destination, move |cx| {
            store(cx, &key, result, name, &mut reply);
            reply
        });
        let reply = stored.await;
        coordinator.bury(work.operands.into_iter().filter_map(Operand::into_object).collect());
        Ok(reply)
    })
}

fn zunion(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Union, Kind::Reply, "zunion")
}

fn zinter(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Intersection, Kind::Reply, "zinter")
}

fn zdiff(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Difference, Kind::Reply, "zdiff")
}

fn zunionstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    store_here(cx, args, reply, Operation::Union, "zunionstore")
}

fn zinterstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    store_here(cx, args, reply, Operation::Intersection, "zinterstore")
}

fn zdiffstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    store_here(cx, args, reply, Operation::Difference, "zdiffstore")
}

fn zintercard(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Intersection, Kind::Count, "zintercard")
}

fn zunion_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Union, Kind::Reply, "zunion")
}

fn zinter_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Intersection, Kind::Reply, "zinter")
}

fn zdiff_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Difference, Kind::Reply, "zdiff")
}

fn zunionstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    store_plan(coordinator, args, Operation::Union, "zunionstore")
}

fn zinterstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    store_plan(coordinator, args, Operation::Intersection, "zinterstore")
}

fn zdiffstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    store_plan(coordinator, args, Operation::Difference, "zdiffstore")
}

fn zintercard_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Intersection, Kind::Count, "zintercard")
}
