//! The algebra of several sorted sets, and of sets, whose members have the score 1.
//!
//! The sets are visited one after the other, in the order in which they are named, with what has come out so far: on their own
//! shard each, so no set is copied to another core. The result is stored after all of them have been visited.

use std::collections::HashMap;

use super::docs::Group;
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::sorted_set::{push_header, push_member};
use super::table::{Flags, Row, Run};
use super::zset_range::store;
use crate::base::float::parse_f64;
use crate::base::num::parse_i64;
use crate::keyspace::Value;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::listpack::Item;
use crate::types::zset::{Zset, ZsetLimits};
use crate::types::{DataType, Set};

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
        run: Run::Hops(DataFn::Write(zdiffstore), zdiffstore_plan),
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
        run: Run::Hops(DataFn::Write(zinterstore), zinterstore_plan),
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
        run: Run::Hops(DataFn::Write(zunionstore), zunionstore_plan),
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

/// A set or a sorted set.
enum Operand<'a> {
    Missing,
    Set(&'a Set),
    Zset(&'a Zset),
}

impl<'a> Operand<'a> {
    fn find(cx: &'a mut ReadCx<'_>, key: &[u8]) -> Result<Operand<'a>, CommandError> {
        match cx.get(key).map(|entry| entry.value()) {
            None => Ok(Operand::Missing),
            Some(Value::Object(object)) => match (Set::of(object), Zset::of(object)) {
                (Some(set), _) => Ok(Operand::Set(set)),
                (_, Some(zset)) => Ok(Operand::Zset(zset)),
                _ => Err(CommandError::WrongType),
            },
            Some(_) => Err(CommandError::WrongType),
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
}

impl Outcome {
    /// Takes the set with this number into account.
    fn visit(&mut self, request: &Request, number: usize, operand: &Operand<'_>) {
        let weight = request.weights[number];
        // An infinity times nothing is nothing, as in Redis.
        let weighed = |score: f64| Some(weight * score).filter(|score| !score.is_nan()).unwrap_or(0.0);
        match request.operation {
            _ if number == 0 => operand.walk(|member, score| {
                self.scores.insert(member.text().to_vec().into(), weighed(score));
            }),
            Operation::Union => operand.walk(|member, score| {
                let score = weighed(score);
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
                    *old = request.aggregate.join(*old, weighed(score));
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

    fn count(&self, request: &Request) -> i64 {
        match request.limit {
            0 => self.scores.len() as i64,
            limit => self.scores.len().min(limit) as i64,
        }
    }
}

fn compute(cx: &mut ReadCx<'_>, request: &Request) -> Result<Outcome, CommandError> {
    let mut outcome = Outcome::default();
    for (number, key) in request.keys.iter().enumerate() {
        outcome.visit(request, number, &Operand::find(cx, key)?);
    }
    request.fault.clone().map_or(Ok(outcome), Err)
}

/// As [`compute`], with the sets anywhere: the outcome goes from one to the next.
async fn gather(coordinator: &Coordinator, request: &Request) -> Result<Outcome, CommandError> {
    let mut outcome = Outcome::default();
    for (number, key) in request.keys.iter().enumerate() {
        let (name, request) = (key.clone(), request.clone());
        outcome = coordinator
            .with_key(key, move |cx| {
                outcome.visit(&request, number, &Operand::find(cx, &name)?);
                Ok(outcome)
            })
            .await?;
    }
    request.fault.clone().map_or(Ok(outcome), Err)
}

fn reply_here(
    cx: &mut ReadCx<'_>,
    args: Args<'_>,
    reply: &mut Reply,
    operation: Operation,
    name: &'static str,
) -> Done {
    let request = Request::parse(args, 1, operation, Kind::Reply, name)?;
    compute(cx, &request)?.push(&request, reply);
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
    let result = compute(cx, &request)?.into_zset(cx.config().zset_limits());
    store(cx, args.get(1), result, name, reply);
    Ok(())
}

fn reply_plan(coordinator: Coordinator, args: OwnedArgs, operation: Operation, name: &'static str) -> Plan {
    Box::pin(async move {
        let request = Request::parse(args.as_args(), 1, operation, Kind::Reply, name)?;
        let outcome = gather(&coordinator, &request).await?;
        let mut reply = coordinator.reply();
        outcome.push(&request, &mut reply);
        Ok(reply)
    })
}

fn store_plan(coordinator: Coordinator, args: OwnedArgs, operation: Operation, name: &'static str) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let request = Request::parse(args, 2, operation, Kind::Store, name)?;
        let outcome = gather(&coordinator, &request).await?;
        let (destination, mut reply) = (args.get(1).to_vec(), coordinator.reply());
        let reply = coordinator
            .with_key(args.get(1), move |cx| {
                let result = outcome.into_zset(cx.config().zset_limits());
                store(cx, &destination, result, name, &mut reply);
                reply
            })
            .await;
        Ok(reply)
    })
}

fn zunion(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Union, "zunion")
}

fn zinter(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Intersection, "zinter")
}

fn zdiff(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Difference, "zdiff")
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
    let request = Request::parse(args, 1, Operation::Intersection, Kind::Count, "zintercard")?;
    let count = compute(cx, &request)?.count(&request);
    reply.int(count);
    Ok(())
}

fn zunion_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Union, "zunion")
}

fn zinter_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Intersection, "zinter")
}

fn zdiff_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Difference, "zdiff")
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
    Box::pin(async move {
        let request = Request::parse(args.as_args(), 1, Operation::Intersection, Kind::Count, "zintercard")?;
        let outcome = gather(&coordinator, &request).await?;
        let mut reply = coordinator.reply();
        reply.int(outcome.count(&request));
        Ok(reply)
    })
}
