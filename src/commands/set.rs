//! Sets: members, random ones, and the algebra of several sets. Rows first, then the handlers by subject.
//!
//! The algebra works on copies of its operands, which cost eight bytes a segment for a large set, wherever they are: so the same
//! function serves sets of one shard and of several. What takes longer than a few thousand members is done in slices: a reply is
//! worked out while it is sent, and a command that stores is a plan that yields its core in between. A result is stored after all
//! of it is known.
//!
//! More than a few thousand members are not encoded by the handler but read out of a snapshot while they are sent.

use super::docs::Group;
use super::element::{FREED_PER_PIECE, STREAMED_ELEMENTS_MIN, push_item};
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::page::{Page, parse_cursor};
use super::table::{Flags, Row, Run};
use crate::base::num::parse_i64;
use crate::base::rng::Rng;
use crate::resp::{Args, CommandError, OwnedArgs, Pieces, Reply, Resp, push_bulk};
use crate::shard::cx::{DataFn, ReadCx, Ttl, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::dict::DictSnapshot;
use crate::types::listpack::Item;
use crate::types::set::{Set, SetLimits};
use crate::types::{DataType, Object};

/// What all rows of this file share.
const SET: Row = Row { group: Group::Set, ..Row::DEFAULT };

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "sadd",
        usage: "key member [member ...]",
        summary: "Adds members to a set.",
        complexity: "O(N) where N is the number of members.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(sadd)),
        ..SET
    },
    Row {
        name: "scard",
        usage: "key",
        summary: "Replies with the number of members of a set.",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(scard)),
        ..SET
    },
    Row {
        name: "sdiff",
        usage: "key [key ...]",
        summary: "Replies with the members of the first set that are in none of the others.",
        complexity: "O(N) where N is the number of members of all sets.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Hops(DataFn::Read(sdiff), sdiff_plan),
        ..SET
    },
    Row {
        name: "sdiffstore",
        usage: "destination key [key ...]",
        summary: "Stores the members of the first set that are in none of the others.",
        complexity: "O(N) where N is the number of members of all sets.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec::rest(2, 1, KeyFlags::RO.and(KeyFlags::ACCESS)),
        ],
        run: Run::Steps(DataFn::Write(sdiffstore), sdiffstore_plan),
        ..SET
    },
    Row {
        name: "sinter",
        usage: "key [key ...]",
        summary: "Replies with the members that all sets have.",
        complexity: "O(N*M) where N is the number of members of the smallest set and M the number of sets.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Hops(DataFn::Read(sinter), sinter_plan),
        ..SET
    },
    Row {
        name: "sintercard",
        usage: "numkeys key [key ...] [LIMIT limit]",
        summary: "Counts the members that all sets have.",
        since: "7.0.0",
        complexity: "O(N*M) where N is the number of members of the smallest set and M the number of sets.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec {
            flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        }],
        run: Run::Hops(DataFn::Read(sintercard), sintercard_plan),
        ..SET
    },
    Row {
        name: "sinterstore",
        usage: "destination key [key ...]",
        summary: "Stores the members that all sets have.",
        complexity: "O(N*M) where N is the number of members of the smallest set and M the number of sets.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec::rest(2, 1, KeyFlags::RO.and(KeyFlags::ACCESS)),
        ],
        run: Run::Steps(DataFn::Write(sinterstore), sinterstore_plan),
        ..SET
    },
    Row {
        name: "sismember",
        usage: "key member",
        summary: "Tells whether a member is in a set.",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        run: Run::Data(DataFn::Read(sismember)),
        ..SET
    },
    Row {
        name: "smembers",
        usage: "key",
        summary: "Replies with all members of a set. Those of a large one are sent piece by piece.",
        complexity: "O(N) where N is the number of members.",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Data(DataFn::Read(smembers)),
        ..SET
    },
    Row {
        name: "smismember",
        usage: "key member [member ...]",
        summary: "Tells of several members whether each is in a set.",
        since: "6.2.0",
        complexity: "O(N) where N is the number of members asked for.",
        arity: -3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(smismember)),
        ..SET
    },
    Row {
        name: "smove",
        usage: "source destination member",
        summary: "Moves a member from one set to another.",
        arity: 4,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[
            KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
            KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT)),
        ],
        run: Run::Hops(DataFn::Write(smove), smove_plan),
        ..SET
    },
    Row {
        name: "spop",
        usage: "key [count]",
        summary: "Takes members out of a set at random.",
        complexity: "O(N) where N is the number of members taken.",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Write(spop)),
        ..SET
    },
    Row {
        name: "srandmember",
        usage: "key [count]",
        summary: "Replies with members of a set at random.",
        complexity: "O(N) where N is the number of members asked for.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(srandmember)),
        ..SET
    },
    Row {
        name: "srem",
        usage: "key member [member ...]",
        summary: "Removes members from a set.",
        complexity: "O(N) where N is the number of members.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(srem)),
        ..SET
    },
    Row {
        name: "sscan",
        usage: "key cursor [MATCH pattern] [COUNT count]",
        summary: "Goes through the members of a set, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls from start to end, where N is the number of members.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(sscan)),
        ..SET
    },
    Row {
        name: "sunion",
        usage: "key [key ...]",
        summary: "Replies with the members that any of the sets has.",
        complexity: "O(N) where N is the number of members of all sets.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output_order"],
        run: Run::Hops(DataFn::Read(sunion), sunion_plan),
        ..SET
    },
    Row {
        name: "sunionstore",
        usage: "destination key [key ...]",
        summary: "Stores the members that any of the sets has.",
        complexity: "O(N) where N is the number of members of all sets.",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec::rest(2, 1, KeyFlags::RO.and(KeyFlags::ACCESS)),
        ],
        run: Run::Steps(DataFn::Write(sunionstore), sunionstore_plan),
        ..SET
    },
];

type Done = Result<(), CommandError>;

// Members.

fn sadd(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let added = cx.modify_or_create(args.get(1), |set: &mut Set, env| {
        let limits = env.config.set_limits();
        set.expect(args.len() - 2, limits);
        let added = args.slice(2).iter().filter(|member| set.add(member, limits)).count();
        env.changed(added as u64);
        env.event_if(added > 0, "sadd");
        added
    })?;
    reply.int(added as i64);
    Ok(())
}

fn srem(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let removed = cx.modify(args.get(1), |set: &mut Set, env| {
        let removed = args.slice(2).iter().filter(|member| set.remove(member)).count();
        env.changed(removed as u64);
        env.event_if(removed > 0, "srem");
        removed
    })?;
    reply.int(removed.unwrap_or(0) as i64);
    Ok(())
}

fn scard(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let len = cx.typed::<Set>(args.get(1))?.map_or(0, DataType::len);
    reply.int(len as i64);
    Ok(())
}

fn sismember(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let is = cx.typed::<Set>(args.get(1))?.is_some_and(|set| set.contains(args.get(2)));
    reply.int(i64::from(is));
    Ok(())
}

fn smismember(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let set = cx.typed::<Set>(args.get(1))?;
    reply.array(args.len() - 2);
    for member in args.slice(2).iter() {
        reply.int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

/// The members of a large set, read out while they are sent.
struct MemberPieces(DictSnapshot<Box<[u8]>>);

impl Pieces for MemberPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        self.0.read_on(|member| {
            push_bulk(out, member);
            out.len() < bytes_max
        })
    }
}

/// All members, as a set.
fn push_members(reply: &mut Reply, set: &Set) {
    reply.set(set.len());
    match set.snapshot().filter(|_| set.len() >= STREAMED_ELEMENTS_MIN) {
        Some(snapshot) => reply.stream(Box::new(MemberPieces(snapshot))),
        None => set.walk(|member| {
            push_item(reply, member);
            true
        }),
    }
}

fn smembers(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    match cx.typed::<Set>(args.get(1))? {
        Some(set) => push_members(reply, set),
        None => reply.set(0),
    }
    Ok(())
}

fn sscan(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let cursor = parse_cursor(args.get(2)).ok_or(CommandError::InvalidCursor)?;
    reply.array(2);
    let Some(set) = cx.typed::<Set>(args.get(1))? else {
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let page = Page::parse(args, 3, false)?;
    if page.no_values {
        return Err(CommandError::Custom("ERR NOVALUES option can only be used in HSCAN"));
    }
    let mut found = Vec::new();
    let next = set.scan(cursor, page.count, |member| {
        let member = member.text();
        if page.matches(&member) {
            found.push(member.to_vec());
        }
    });
    reply.bulk(next.to_string().as_bytes());
    reply.array(found.len());
    found.iter().for_each(|member| reply.bulk(member));
    Ok(())
}

// At random.

fn spop(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    if args.len() == 2 {
        let popped = cx.modify(args.get(1), |set: &mut Set, env| {
            let member = set.random(|n| env.rng.below(n)).map(|member| member.to_vec());
            let member = member.expect("a set that is stored has members");
            set.remove(&member);
            env.changed(1);
            env.event("spop");
            member
        })?;
        match popped {
            Some(member) => {
                cx.effect(args.get(1), &[b"SREM", args.get(1), &member]);
                reply.bulk(&member);
            }
            None => reply.null(),
        }
        return Ok(());
    }
    let count = parse_i64(args.get(2)).and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(CommandError::MustBePositive)?;
    let popped = cx.modify(args.get(1), |set: &mut Set, env| {
        if count >= set.len() {
            push_members(reply, set);
            env.changed(set.len() as u64);
            env.event("spop");
            env.bury(std::mem::take(set));
            return Popped::All;
        }
        if set.len() - count < count / 4 && set.snapshot().is_some() {
            // Most of a large set: it is quicker to say who stays.
            let mut rest = Set::default();
            rest.expect(set.len(), env.config.set_limits());
            for member in set.sample(set.len() - count, |n| env.rng.below(n)) {
                rest.add(&member.text(), env.config.set_limits());
            }
            let popped = set.snapshot().expect("it was just asked for");
            reply.set(count);
            reply.stream(Box::new(PoppedPieces { popped, stay: rest.clone() }));
            env.changed(count as u64);
            env.event("spop");
            env.bury(std::mem::replace(set, rest));
            return Popped::AllButFew;
        }
        let members: Vec<Vec<u8>> = set.sample(count, |n| env.rng.below(n)).iter().map(Item::to_vec).collect();
        reply.set(members.len());
        for member in &members {
            reply.bulk(member);
            set.remove(member);
        }
        env.changed(members.len() as u64);
        env.event_if(!members.is_empty(), "spop");
        Popped::Members(members)
    })?;
    let key = args.get(1);
    match popped {
        None => reply.set(0),
        Some(Popped::All) => cx.effect(key, &[b"DEL", key]),
        Some(Popped::AllButFew) => cx.state_effect(key),
        Some(Popped::Members(members)) if cx.is_logged() => {
            for some in members.chunks(MEMBERS_PER_EFFECT) {
                let words: Vec<&[u8]> = [b"SREM", key].into_iter().chain(some.iter().map(Vec::as_slice)).collect();
                cx.effect(key, &words);
            }
        }
        Some(Popped::Members(_)) => {}
    }
    Ok(())
}

/// Members that one command of the log takes out: a command of a million words is more than some read.
const MEMBERS_PER_EFFECT: usize = 1024;

/// What SPOP has taken, for the log.
enum Popped {
    All,
    AllButFew,
    Members(Vec<Vec<u8>>),
}

/// The members of a large set but for a few, read out while they are sent.
struct PoppedPieces {
    popped: DictSnapshot<Box<[u8]>>,
    stay: Set,
}

impl Pieces for PoppedPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        self.popped.read_on(|member| {
            if !self.stay.contains(member) {
                push_bulk(out, member);
            }
            out.len() < bytes_max
        })
    }
}

/// Members drawn one by one, each from all of them, while they are sent: so any number may be asked for.
struct DrawnPieces {
    set: Set,
    rng: Rng,
    left: u64,
}

impl Pieces for DrawnPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        while self.left > 0 && out.len() < bytes_max {
            let member = self.set.random(|n| self.rng.below(n)).expect("a set that is stored has members");
            push_bulk(out, &member.text());
            self.left -= 1;
        }
        self.left > 0
    }
}

fn srandmember(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let mut rng = Rng::seed(cx.rng().next_u64());
    if args.len() == 2 {
        match cx.typed::<Set>(args.get(1))?.and_then(|set| set.random(|n| rng.below(n))) {
            Some(member) => push_item(reply, member),
            None => reply.null(),
        }
        return Ok(());
    }
    let count = parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
    if count == i64::MIN {
        return Err(CommandError::NotBetween(-i64::MAX, i64::MAX));
    }
    let Some(set) = cx.typed::<Set>(args.get(1))?.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(());
    };
    let asked = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        reply.array(asked);
        if asked >= STREAMED_ELEMENTS_MIN {
            reply.stream(Box::new(DrawnPieces { set: set.clone(), rng, left: asked as u64 }));
        } else {
            for _ in 0..asked {
                let member = set.random(|n| rng.below(n)).expect("a set that is stored has members");
                push_item(reply, member);
            }
        }
        return Ok(());
    }
    if asked >= set.len()
        && set.len() >= STREAMED_ELEMENTS_MIN
        && let Some(snapshot) = set.snapshot()
    {
        reply.array(set.len());
        reply.stream(Box::new(MemberPieces(snapshot)));
        return Ok(());
    }
    let members = set.sample(asked, |n| rng.below(n));
    reply.array(members.len());
    members.into_iter().for_each(|member| push_item(reply, member));
    Ok(())
}

// From one set to another.

fn smove(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (source, destination, member) = (args.get(1), args.get(2), args.get(3));
    let moved = match cx.lookup_typed::<Set>(source)? {
        None => false,
        Some(set) => {
            let has = set.contains(member);
            cx.lookup_typed::<Set>(destination)?;
            if has && source != destination {
                take_member(cx, source, member)?;
                put_member(cx, destination, member)?;
            }
            has
        }
    };
    reply.int(i64::from(moved));
    Ok(())
}

fn take_member(cx: &mut WriteCx<'_>, key: &[u8], member: &[u8]) -> Result<bool, CommandError> {
    let taken = cx.modify(key, |set: &mut Set, env| {
        let taken = set.remove(member);
        env.changed(u64::from(taken));
        env.event_if(taken, "srem");
        taken
    })?;
    Ok(taken.unwrap_or(false))
}

fn put_member(cx: &mut WriteCx<'_>, key: &[u8], member: &[u8]) -> Result<(), CommandError> {
    cx.modify_or_create(key, |set: &mut Set, env| {
        let added = set.add(member, env.config.set_limits());
        env.changed(u64::from(added));
        env.event_if(added, "sadd");
    })
}

fn smove_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (source, destination, member) = (args.get(1).to_vec(), args.get(2).to_vec(), args.get(3).to_vec());
        let mut reply = coordinator.reply();
        let (name, wanted) = (source.clone(), member.clone());
        let has = coordinator
            .with_key(&source, move |cx| Ok(cx.lookup_typed::<Set>(&name)?.map(|set| set.contains(&wanted))))
            .await?;
        let Some(has) = has else {
            reply.int(0);
            return Ok(reply);
        };
        let name = destination.clone();
        coordinator.with_key(&destination, move |cx| cx.lookup_typed::<Set>(&name).map(|_| ())).await?;
        let (name, wanted) = (source.clone(), member.clone());
        let take = move |cx: &mut WriteCx<'_>| {
            let taken = take_member(cx, &name, &wanted)?;
            if taken {
                cx.effect(&name, &[b"SREM", &name, &wanted]);
            }
            Ok(taken)
        };
        let taken = has && coordinator.with_key(&source, take).await?;
        if taken {
            let put = move |cx: &mut WriteCx<'_>| {
                put_member(cx, &destination, &member)?;
                cx.effect(&destination, &[b"SADD", &destination, &member]);
                Ok(())
            };
            coordinator.with_key(args.get(2), put).await?;
        }
        reply.int(i64::from(taken));
        Ok(reply)
    })
}

// The algebra.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

impl Operation {
    /// Whether it looks at too many members for one slice.
    fn is_long(self, sets: &[Option<Set>]) -> bool {
        let mut lengths = sets.iter().map(|set| set.as_ref().map_or(0, DataType::len));
        let looked_at = match self {
            Operation::Union => lengths.sum(),
            Operation::Intersection => lengths.min().unwrap_or(0),
            Operation::Difference => lengths.next().unwrap_or(0),
        };
        looked_at > SLICE_MEMBERS
    }

    /// The event of a result that was stored.
    fn stored(self) -> &'static str {
        match self {
            Operation::Union => "sunionstore",
            Operation::Intersection => "sinterstore",
            Operation::Difference => "sdiffstore",
        }
    }

    /// Shows each member of the result once, until `visit` returns false.
    fn walk(self, sets: &[Option<Set>], mut visit: impl FnMut(Item<'_>) -> bool) {
        match self {
            Operation::Union => {
                let limits = SetLimits { intset_entries: 512, listpack_entries: 128, listpack_value: 64 };
                let mut seen = Set::default();
                for set in sets.iter().flatten() {
                    let mut go_on = true;
                    set.walk(|member| {
                        go_on = !seen.add(&member.text(), limits) || visit(member);
                        go_on
                    });
                    if !go_on {
                        return;
                    }
                }
            }
            Operation::Intersection => {
                let Some(mut sets) = sets.iter().map(Option::as_ref).collect::<Option<Vec<&Set>>>() else { return };
                sets.sort_by_key(|set| set.len());
                let Some((smallest, others)) = sets.split_first() else { return };
                smallest.walk(|member| {
                    let everywhere = others.iter().all(|set| set.contains(&member.text()));
                    !everywhere || visit(member)
                });
            }
            Operation::Difference => {
                let Some((Some(first), others)) = sets.split_first() else { return };
                first.walk(|member| {
                    let elsewhere = others.iter().flatten().any(|set| set.contains(&member.text()));
                    elsewhere || visit(member)
                });
            }
        }
    }

    fn push(self, sets: &[Option<Set>], reply: &mut Reply) {
        let header = reply.deferred_set();
        let mut found = 0;
        self.walk(sets, |member| {
            push_item(reply, member);
            found += 1;
            true
        });
        reply.finish(header, found);
    }

    fn result(self, sets: &[Option<Set>], limits: SetLimits) -> Set {
        let mut result = Set::default();
        self.walk(sets, |member| {
            result.add(&member.text(), limits);
            true
        });
        result
    }
}

/// Members that an operation over long sets looks at in one slice. With no more of them it is done at once.
const SLICE_MEMBERS: usize = 4096;

/// An operation over long sets, in slices. It works on copies, which share what they hold with the sets that were copied.
struct Work {
    operation: Operation,
    /// Sets whose members are looked at one by one, the next one last.
    walked: Vec<Set>,
    /// What is left of the one that is being read.
    reading: Option<DictSnapshot<Box<[u8]>>>,
    /// Sets that are asked for each of these members.
    asked: Vec<Set>,
    limits: SetLimits,
    /// Ends when there are so many; 0 is no limit.
    limit: usize,
    /// Whether members are collected, or counted only.
    collects: bool,
    found: usize,
    result: Set,
}

impl Work {
    fn new(operation: Operation, sets: Vec<Option<Set>>, limits: SetLimits) -> Work {
        let (mut walked, mut asked) = (Vec::new(), Vec::new());
        match operation {
            Operation::Union => walked = sets.into_iter().rev().flatten().collect(),
            Operation::Intersection => {
                if let Some(mut sets) = sets.into_iter().collect::<Option<Vec<Set>>>() {
                    sets.sort_by_key(DataType::len);
                    asked = sets.split_off(1);
                    walked = sets;
                }
            }
            Operation::Difference => {
                let mut sets = sets.into_iter();
                walked.extend(sets.next().flatten());
                asked.extend(sets.flatten());
            }
        }
        let result = Set::default();
        Work { operation, walked, reading: None, asked, limits, limit: 0, collects: true, found: 0, result }
    }

    /// Looks at some members; whether there are more.
    fn step(&mut self) -> bool {
        let Work { operation, walked, reading, asked, limits, limit, collects, found, result } = self;
        let mut looked_at = 0;
        let mut look = |member: &[u8]| {
            looked_at += 1;
            let belongs = match operation {
                Operation::Union => true,
                Operation::Intersection => asked.iter().all(|set| set.contains(member)),
                Operation::Difference => !asked.iter().any(|set| set.contains(member)),
            };
            *found += usize::from(belongs && (!*collects || result.add(member, *limits)));
            *limit == 0 || *found < *limit
        };
        if reading.is_none() {
            match walked.pop() {
                None => return false,
                Some(set) => match set.snapshot() {
                    Some(snapshot) => *reading = Some(snapshot),
                    // The small encodings fit into a slice.
                    None => set.walk(|member| look(&member.text())),
                },
            }
        }
        if let Some(snapshot) = reading {
            let mut left = SLICE_MEMBERS;
            let more = snapshot.read_on(|member| {
                left -= 1;
                look(member) && left > 0
            });
            if !more {
                *reading = None;
            }
        }
        let enough = self.limit > 0 && self.found >= self.limit;
        !enough && (self.reading.is_some() || !self.walked.is_empty())
    }

    /// Frees some of what is not needed any more; whether there is more. The copies may be the last to have it.
    fn free_some(&mut self) -> bool {
        self.reading = None;
        self.walked.append(&mut self.asked);
        if let Some(set) = self.walked.last_mut()
            && !set.free_some(FREED_PER_PIECE)
        {
            self.walked.pop();
        }
        !self.walked.is_empty()
    }
}

/// The reply of an operation over long sets: worked out, then sent, both in slices.
struct WorkPieces {
    work: Work,
    /// Whether it has been worked out and its header was sent.
    is_done: bool,
    members: Option<DictSnapshot<Box<[u8]>>>,
    proto: Resp,
}

impl WorkPieces {
    fn boxed(work: Work, proto: Resp) -> Box<WorkPieces> {
        Box::new(WorkPieces { work, is_done: false, members: None, proto })
    }
}

impl Pieces for WorkPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        if let Some(members) = &mut self.members {
            let more = members.read_on(|member| {
                push_bulk(out, member);
                out.len() < bytes_max
            });
            if !more {
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
        let mut reply = Reply::with_proto(self.proto);
        if self.work.collects {
            let result = std::mem::take(&mut self.work.result);
            reply.set(result.len());
            self.members = result.snapshot();
            if self.members.is_none() {
                result.walk(|member| {
                    push_item(&mut reply, member);
                    true
                });
            }
        } else {
            reply.int(self.work.found as i64);
        }
        out.extend_from_slice(reply.as_bytes().expect("members are copied"));
        true
    }
}

/// Copies of the sets at these keys of this shard.
fn operands<'k>(cx: &mut ReadCx<'_>, keys: impl Iterator<Item = &'k [u8]>) -> Result<Vec<Option<Set>>, CommandError> {
    keys.map(|key| Ok(cx.typed::<Set>(key)?.cloned())).collect()
}

/// Copies of the sets at these keys, wherever they are. The first one of another type, in the order of the keys, decides.
async fn fetch_all(coordinator: &Coordinator, keys: &[Vec<u8>]) -> Result<Vec<Option<Set>>, CommandError> {
    let calls: Vec<_> = keys.iter().map(|key| coordinator.fetch::<Set>(key)).collect();
    let mut sets = Vec::with_capacity(calls.len());
    for call in calls {
        sets.push(call.await);
    }
    sets.into_iter().collect()
}

fn store(cx: &mut WriteCx<'_>, destination: &[u8], result: Set, event: &'static str, reply: &mut Reply) {
    reply.int(result.len() as i64);
    cx.put_object(destination, Object::Set(result), Ttl::Clear, event);
}

/// Replies with the result, or leaves it to be worked out while it is sent.
fn push_result(operation: Operation, sets: Vec<Option<Set>>, limits: SetLimits, reply: &mut Reply) {
    if operation.is_long(&sets) {
        reply.stream(WorkPieces::boxed(Work::new(operation, sets, limits), reply.proto()));
    } else {
        operation.push(&sets, reply);
    }
}

/// As [`push_result`], for the number of members that all sets have; 0 is no limit.
fn push_count(sets: Vec<Option<Set>>, limit: usize, limits: SetLimits, reply: &mut Reply) {
    if Operation::Intersection.is_long(&sets) {
        let work = Work::new(Operation::Intersection, sets, limits);
        reply.stream(WorkPieces::boxed(Work { limit, collects: false, ..work }, reply.proto()));
        return;
    }
    let mut count = 0;
    Operation::Intersection.walk(&sets, |_| {
        count += 1;
        count != limit
    });
    reply.int(count as i64);
}

fn reply_here(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, operation: Operation) -> Done {
    let sets = operands(cx, args.slice(1).iter())?;
    push_result(operation, sets, cx.config().set_limits(), reply);
    Ok(())
}

fn store_here(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, operation: Operation) -> Done {
    let sets = operands(cx, args.slice(2).iter())?;
    let result = operation.result(&sets, cx.config().set_limits());
    drop(sets);
    store(cx, args.get(1), result, operation.stored(), reply);
    Ok(())
}

fn reply_plan(coordinator: Coordinator, args: OwnedArgs, operation: Operation) -> Plan {
    Box::pin(async move {
        let keys: Vec<Vec<u8>> = args.as_args().slice(1).iter().map(<[u8]>::to_vec).collect();
        let sets = fetch_all(&coordinator, &keys).await?;
        let limits = coordinator.call(coordinator.origin().shard, |shard| shard.config.set_limits()).await;
        let mut reply = coordinator.reply();
        push_result(operation, sets, limits, &mut reply);
        Ok(reply)
    })
}

/// One step where all keys are on one shard and their sets are not long; otherwise on copies, a slice at a time.
fn store_plan(coordinator: Coordinator, args: OwnedArgs, operation: Operation) -> Plan {
    Box::pin(async move {
        let keys: Vec<Vec<u8>> = args.as_args().slice(2).iter().map(<[u8]>::to_vec).collect();
        let (destination, mut reply) = (args.as_args().get(1).to_vec(), coordinator.reply());
        let owner = coordinator.slots().shard_of(&destination);
        let mut work = if keys.iter().all(|key| coordinator.slots().shard_of(key) == owner) {
            let begun = coordinator.with_data(owner, move |cx| {
                let args = args.as_args();
                let sets = operands(cx, args.slice(2).iter())?;
                if operation.is_long(&sets) {
                    return Ok((Some(Work::new(operation, sets, cx.config().set_limits())), reply));
                }
                let result = operation.result(&sets, cx.config().set_limits());
                drop(sets);
                store(cx, args.get(1), result, operation.stored(), &mut reply);
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
            let sets = fetch_all(&coordinator, &keys).await?;
            let limits = coordinator.call(coordinator.origin().shard, |shard| shard.config.set_limits()).await;
            Work::new(operation, sets, limits)
        };
        while work.step() {
            coordinator.yield_core().await;
        }
        let (name, result) = (destination.clone(), std::mem::take(&mut work.result));
        let stored = coordinator.with_key(&destination, move |cx| {
            store(cx, &name, result, operation.stored(), &mut reply);
            reply
        });
        let reply = stored.await;
        let copies = work.asked.into_iter().chain(work.walked).map(Object::Set).collect();
        coordinator.bury(copies);
        Ok(reply)
    })
}

fn sunion(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Union)
}

fn sinter(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Intersection)
}

fn sdiff(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    reply_here(cx, args, reply, Operation::Difference)
}

fn sunionstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    store_here(cx, args, reply, Operation::Union)
}

fn sinterstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    store_here(cx, args, reply, Operation::Intersection)
}

fn sdiffstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    store_here(cx, args, reply, Operation::Difference)
}

fn sunion_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Union)
}

fn sinter_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Intersection)
}

fn sdiff_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    reply_plan(coordinator, args, Operation::Difference)
}

fn sunionstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    store_plan(coordinator, args, Operation::Union)
}

fn sinterstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    store_plan(coordinator, args, Operation::Intersection)
}

fn sdiffstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    store_plan(coordinator, args, Operation::Difference)
}

/// The keys and the limit of SINTERCARD; a limit of 0 is none.
fn parse_card(args: Args<'_>) -> Result<(usize, usize), CommandError> {
    let keys = parse_i64(args.get(1)).filter(|keys| *keys > 0);
    let keys = keys.ok_or(CommandError::Custom("ERR numkeys should be greater than 0"))?;
    let keys = usize::try_from(keys).ok().filter(|keys| *keys <= args.len() - 2);
    let keys = keys.ok_or(CommandError::Custom("ERR Number of keys can't be greater than number of args"))?;
    let (mut at, mut limit) = (2 + keys, 0);
    while at < args.len() {
        if !args.get(at).eq_ignore_ascii_case(b"limit") || at + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        let given = parse_i64(args.get(at + 1)).and_then(|limit| usize::try_from(limit).ok());
        limit = given.ok_or(CommandError::Custom("ERR LIMIT can't be negative"))?;
        at += 2;
    }
    Ok((keys, limit))
}

fn sintercard(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (keys, limit) = parse_card(args)?;
    let sets = operands(cx, args.slice(2).iter().take(keys))?;
    push_count(sets, limit, cx.config().set_limits(), reply);
    Ok(())
}

fn sintercard_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let (keys, limit) = parse_card(args.as_args())?;
        let keys: Vec<Vec<u8>> = args.as_args().slice(2).iter().take(keys).map(<[u8]>::to_vec).collect();
        let sets = fetch_all(&coordinator, &keys).await?;
        let limits = coordinator.call(coordinator.origin().shard, |shard| shard.config.set_limits()).await;
        let mut reply = coordinator.reply();
        push_count(sets, limit, limits, &mut reply);
        Ok(reply)
    })
}
