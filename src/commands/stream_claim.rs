//! Taking over what others have not acknowledged: XCLAIM and XAUTOCLAIM.
//!
//! A pending entry that is not in the stream any more cannot be taken over; it is dropped on the way.

use super::keys::{KeyFlags, KeySpec};
use super::stream_effects::{self, Consumer, Progress};
use super::stream_syntax::{STREAM, no_group, push_entry, push_id, range_start, strict_id};
use super::table::{Flags, Row, Run};
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, Reply};
use crate::shard::cx::{DataFn, Env, WriteCx};
use crate::types::stream::{ConsumerId, Group, Log, Pending, Stream, StreamId};

/// The family's rows about claiming.
pub const ROWS: &[Row] = &[
    Row {
        name: "xautoclaim",
        usage: "key group consumer min-idle-time start [COUNT count] [JUSTID]",
        summary: "Takes over entries that have been pending for some time, from one name on.",
        since: "6.2.0",
        complexity: "O(N*log(P)) where N is the number of entries looked at and P the number of pending ones.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::DELETE))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Write(xautoclaim)),
        ..STREAM
    },
    Row {
        name: "xclaim",
        usage: "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] \
                [JUSTID] [LASTID lastid]",
        summary: "Takes over given entries that have been pending for some time.",
        complexity: "O(log(N)) for each entry, where N is the number of pending ones.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Write(xclaim)),
        ..STREAM
    },
];

type Done = Result<(), CommandError>;

fn integer_or(text: &[u8], error: &'static str) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::Custom(error))
}

/// The consumer of this name, which has been seen then, and whether it was made: it is if it is not there.
fn seen_consumer(group: &mut Group, name: &[u8], at_ms: i64, env: &mut Env<'_>) -> (ConsumerId, bool) {
    if let Some(consumer) = group.consumer_id(name) {
        group.consumer_mut(consumer).seen_ms = at_ms;
        return (consumer, false);
    }
    env.changed(1);
    env.event("xgroup-createconsumer");
    (group.add_consumer(name, at_ms).expect("there is none of this name"), true)
}

/// What a command has done to a group, for the log.
struct Taken {
    delivered_ms: i64,
    /// With how often each was delivered.
    claimed: Vec<(StreamId, u64)>,
    /// Not pending any more.
    forgotten: Vec<StreamId>,
    made: bool,
    progress: Option<Progress>,
}

impl Taken {
    fn log(&self, cx: &mut WriteCx<'_>, by: Consumer<'_>) {
        if self.made && self.claimed.is_empty() {
            stream_effects::consumer_made(cx, by, cx.now().millis().0);
        }
        stream_effects::delivered(cx, by, self.delivered_ms, &self.claimed);
        stream_effects::forgotten(cx, by.key, by.group, &self.forgotten);
        if let Some(progress) = self.progress {
            stream_effects::read_on(cx, by.key, by.group, progress);
        }
    }
}

/// An entry that was taken over: its name alone, or all of it.
fn push_claimed(reply: &mut Reply, log: &Log, id: StreamId, just_id: bool) {
    match log.get(id).filter(|_| !just_id) {
        Some(entry) => push_entry(reply, &entry),
        None => push_id(reply, id),
    }
}

/// The options of XCLAIM, and the entries it asks for.
struct Claim {
    ids: Vec<StreamId>,
    idle_min_ms: i64,
    delivered_ms: i64,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl Claim {
    fn parse(args: Args<'_>, now_ms: i64) -> Result<Claim, CommandError> {
        let idle_min_ms = integer_or(args.get(4), "ERR Invalid min-idle-time argument for XCLAIM")?;
        let ids: Vec<StreamId> = args.slice(5).iter().map_while(|text| strict_id(text, 0).ok()).collect();
        let (mut delivered_ms, mut deliveries) = (-1, -1);
        let (mut force, mut just_id, mut last_id) = (false, false, StreamId::MIN);
        let mut at = 5 + ids.len();
        while at < args.len() {
            let word = args.get(at);
            let more = at + 1 < args.len();
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("force") {
                force = true;
            } else if is("justid") {
                just_id = true;
            } else if more && is("idle") {
                let idle = integer_or(args.get(at + 1), "ERR Invalid IDLE option argument for XCLAIM")?;
                delivered_ms = now_ms.wrapping_sub(idle);
                at += 1;
            } else if more && is("time") {
                delivered_ms = integer_or(args.get(at + 1), "ERR Invalid TIME option argument for XCLAIM")?;
                at += 1;
            } else if more && is("retrycount") {
                deliveries = integer_or(args.get(at + 1), "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                at += 1;
            } else if more && is("lastid") {
                last_id = strict_id(args.get(at + 1), 0)?;
                at += 1;
            } else {
                return Err(CommandError::of_pieces(&[b"ERR Unrecognized XCLAIM option '", word, b"'"]));
            }
            at += 1;
        }
        // A time that cannot be is now: clients compute it by clocks of their own. Where a log is run there is no now.
        if delivered_ms < 0 || (delivered_ms > now_ms && now_ms > 0) {
            delivered_ms = now_ms;
        }
        let deliveries = u64::try_from(deliveries).ok();
        Ok(Claim { ids, idle_min_ms: idle_min_ms.max(0), delivered_ms, deliveries, force, just_id, last_id })
    }
}

fn xclaim(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (key, name) = (args.get(1), args.get(2));
    let done = cx.modify(key, |stream: &mut Stream, env| {
        let now_ms = env.now.millis().0;
        let (log, group) = stream.with_group(name)?;
        let claim = match Claim::parse(args, now_ms) {
            Ok(claim) => claim,
            Err(error) => return Some(Err(error)),
        };
        let raised = group.raise_last_id(claim.last_id);
        env.changed(u64::from(raised));
        // Where a log is run, its word is the only clock.
        let at_ms = now_ms.max(claim.delivered_ms);
        let (consumer, made) = seen_consumer(group, args.get(3), at_ms, env);
        let header = reply.deferred_array();
        let (mut claimed, mut forgotten) = (Vec::new(), Vec::new());
        for &id in &claim.ids {
            let pending = group.pending(id);
            if !log.contains(id) {
                forgotten.extend(group.forget_pending(id).then_some(id));
                continue;
            }
            if let Some(pending) = pending
                && claim.idle_min_ms > 0
                && now_ms.saturating_sub(pending.delivered_ms) < claim.idle_min_ms
            {
                continue;
            }
            // One that was not pending counts as delivered by being claimed, before this delivery.
            let Some(before) = pending.map(|pending| pending.deliveries).or(claim.force.then_some(1)) else { continue };
            let after = claim.deliveries.unwrap_or(before.wrapping_add(u64::from(!claim.just_id)));
            group.set_pending(id, Pending { consumer, delivered_ms: claim.delivered_ms, deliveries: after });
            group.consumer_mut(consumer).active_ms = Some(at_ms);
            push_claimed(reply, log, id, claim.just_id);
            claimed.push((id, after));
        }
        env.changed((claimed.len() + forgotten.len()) as u64);
        reply.finish(header, claimed.len());
        let progress = raised.then(|| Progress::of(group));
        Some(Ok(Taken { delivered_ms: claim.delivered_ms, claimed, forgotten, made, progress }))
    })?;
    cx.count_found(key, done.is_some());
    let taken = done.flatten().ok_or_else(|| no_group(key, name))??;
    taken.log(cx, Consumer { key, group: name, name: args.get(3) });
    Ok(())
}

/// How many pending entries XAUTOCLAIM looks at for each that it may take.
const LOOKED_AT_FACTOR: u64 = 10;
/// The greatest COUNT of XAUTOCLAIM that Redis takes.
const COUNT_MAX: i64 = i64::MAX / 16;

fn xautoclaim(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (key, name) = (args.get(1), args.get(2));
    // It counts as reading the key, whatever is wrong with the rest.
    cx.get(key);
    let idle_min_ms = integer_or(args.get(4), "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = range_start(args.get(5))?;
    let (mut count, mut just_id) = (100, false);
    let mut at = 6;
    while at < args.len() {
        let word = args.get(at);
        if word.eq_ignore_ascii_case(b"count") && at + 1 < args.len() {
            let given = parse_i64(args.get(at + 1)).filter(|count| (1..=COUNT_MAX).contains(count));
            count = given.ok_or(CommandError::Custom("ERR COUNT must be > 0"))? as u64;
            at += 1;
        } else if word.eq_ignore_ascii_case(b"justid") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    let done = cx.modify(key, |stream: &mut Stream, env| {
        let now_ms = env.now.millis().0;
        let (log, group) = stream.with_group(name)?;
        let (consumer, made) = seen_consumer(group, args.get(3), now_ms, env);
        let found = look_for_idle(log, group, start, (now_ms, idle_min_ms), count);
        for id in &found.gone {
            group.forget_pending(*id);
        }
        reply.array(3);
        push_id(reply, found.next);
        reply.array(found.idle.len());
        let mut claimed = Vec::new();
        for (id, pending) in found.idle {
            let deliveries = pending.deliveries.wrapping_add(u64::from(!just_id));
            group.set_pending(id, Pending { consumer, delivered_ms: now_ms, deliveries });
            group.consumer_mut(consumer).active_ms = Some(now_ms);
            push_claimed(reply, log, id, just_id);
            claimed.push((id, deliveries));
        }
        reply.array(found.gone.len());
        found.gone.iter().for_each(|id| push_id(reply, *id));
        env.changed((claimed.len() + found.gone.len()) as u64);
        Some(Taken { delivered_ms: now_ms, claimed, forgotten: found.gone, made, progress: None })
    })?;
    let taken = done.flatten().ok_or_else(|| no_group(key, name))?;
    taken.log(cx, Consumer { key, group: name, name: args.get(3) });
    Ok(())
}

/// What XAUTOCLAIM finds.
struct Found {
    /// To be taken over.
    idle: Vec<(StreamId, Pending)>,
    /// Not in the stream any more.
    gone: Vec<StreamId>,
    /// Where to go on; zero at the end.
    next: StreamId,
}

fn look_for_idle(log: &Log, group: &Group, start: StreamId, (now_ms, idle_min_ms): (i64, i64), count: u64) -> Found {
    let mut found = Found { idle: Vec::new(), gone: Vec::new(), next: StreamId::MIN };
    let mut looks = count.saturating_mul(LOOKED_AT_FACTOR);
    let mut left = count;
    for (id, pending) in group.pending_from(start) {
        if looks == 0 || left == 0 {
            found.next = id;
            break;
        }
        looks -= 1;
        if !log.contains(id) {
            found.gone.push(id);
            left -= 1;
        } else if idle_min_ms == 0 || now_ms.saturating_sub(pending.delivered_ms) >= idle_min_ms {
            found.idle.push((id, pending));
            left -= 1;
        }
    }
    found
}
