//! XREAD and XREADGROUP: reading on from where a client or a group is, and waiting for what comes.
//!
//! A read takes two rounds over its streams. The first says for each from where on it is read, and finds what is wrong; the second
//! reads. Where all streams have one owner, both are one step there; otherwise each stream is asked where it is. A command that
//! found nothing and may wait is served by the first stream to which something comes.
//!
//! Without BLOCK, and inside a transaction, the step on the owner is all there is: it replies with nothing instead of waiting.

use std::sync::Arc;

use super::blocking::or_timed_out;
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::stream_effects::{self, Consumer, Progress};
use super::stream_syntax::{STREAM, push_entry, push_id, push_range, strict_id};
use super::table::{Flags, Row, Run};
use crate::base::ShardId;
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, OwnedArgs, Reply, Resp};
use crate::shard::Shard;
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::txn::{Coordinator, Plan, Wait};
use crate::types::stream::{ConsumerId, Group, Log, Pending, Stream, StreamId};

/// Where the keys of both commands are: the first half of what is behind STREAMS, which a group may be called, too.
const fn keys(from: i32) -> KeySpec {
    KeySpec {
        flags: KeyFlags::RO.and(KeyFlags::ACCESS),
        begin: Begin::OptionKeyword {
            told: ("STREAMS", from),
            from: 1,
            last: false,
            others: &[("COUNT", 1), ("BLOCK", 1), ("GROUP", 2)],
        },
        find: Find::Range { last: -1, step: 1, limit: 2 },
    }
}

/// The family's rows about reading on.
pub const ROWS: &[Row] = &[
    Row {
        name: "xread",
        usage: "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
        summary: "Replies with the entries of streams behind given ones, and may wait for some.",
        complexity: "O(log(B)+N) for each stream, where B is the number of blocks and N the number of entries in the reply.",
        arity: -4,
        flags: Flags::READONLY.and(Flags::BLOCKING),
        keys: &[keys(1)],
        run: Run::Hops(DataFn::Read(xread), xread_plan),
        ..STREAM
    },
    Row {
        name: "xreadgroup",
        usage: "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
        summary: "Delivers entries to a consumer of a group, new ones or those it has not acknowledged, and may wait for new ones.",
        complexity: "O(log(B)+M*log(P)) for each stream, where B is the number of blocks, M the number of entries in the reply and P \
                     the number of pending ones.",
        arity: -7,
        flags: Flags::WRITE.and(Flags::BLOCKING),
        keys: &[keys(4)],
        run: Run::Hops(DataFn::Write(xreadgroup), xreadgroup_plan),
        ..STREAM
    },
];

type Done = Result<(), CommandError>;

/// What a command asks for, and where in its arguments the streams are.
#[derive(Debug)]
struct Reading {
    /// The names of group and consumer.
    group: Option<(Vec<u8>, Vec<u8>)>,
    no_ack: bool,
    /// COUNT.
    most: u64,
    /// BLOCK: for how long, in microseconds, or for ever.
    wait_us: Option<Option<u64>>,
    first_key: usize,
    keys: usize,
}

/// From where on a stream is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// What is behind this name; of a consumer's pending entries, if a group reads.
    Behind(StreamId),
    /// What no consumer of the group has been given.
    New,
}

impl Reading {
    fn parse(args: Args<'_>, of_group: bool) -> Result<Reading, CommandError> {
        let mut reading = Reading { group: None, no_ack: false, most: u64::MAX, wait_us: None, first_key: 0, keys: 0 };
        let mut at = 1;
        while at < args.len() {
            let word = args.get(at);
            let more = args.len() - 1 - at;
            let is = |name: &str, arguments: usize| more >= arguments && word.eq_ignore_ascii_case(name.as_bytes());
            if is("block", 1) {
                reading.wait_us = Some(parse_wait(args.get(at + 1))?);
                at += 1;
            } else if is("count", 1) {
                let count = parse_i64(args.get(at + 1)).ok_or(CommandError::NotAnInteger)?;
                reading.most = u64::try_from(count).ok().filter(|count| *count > 0).unwrap_or(u64::MAX);
                at += 1;
            } else if is("streams", 1) {
                reading.first_key = at + 1;
                break;
            } else if is("group", 2) {
                if !of_group {
                    return Err(CommandError::Custom(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                reading.group = Some((args.get(at + 1).to_vec(), args.get(at + 2).to_vec()));
                at += 2;
            } else if is("noack", 0) {
                if !of_group {
                    return Err(CommandError::Custom(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                reading.no_ack = true;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        if reading.first_key == 0 {
            return Err(CommandError::Syntax);
        }
        let words = args.len() - reading.first_key;
        if !words.is_multiple_of(2) {
            // XREADGROUP says the same, word for word.
            return Err(CommandError::Custom(
                "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
            ));
        }
        if of_group && reading.group.is_none() {
            return Err(CommandError::Custom("ERR Missing GROUP option for XREADGROUP"));
        }
        reading.keys = words / 2;
        Ok(reading)
    }

    /// The streams, and what was said about where to begin.
    fn streams<'a>(&self, args: Args<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let (first, keys) = (self.first_key, self.keys);
        (0..keys).map(move |n| (args.get(first + n), args.get(first + keys + n)))
    }
}

/// Milliseconds, as microseconds; none for ever.
fn parse_wait(text: &[u8]) -> Result<Option<u64>, CommandError> {
    let millis = parse_i64(text).ok_or(CommandError::TimeoutNotAnInteger)?;
    let millis = u64::try_from(millis).map_err(|_| CommandError::TimeoutNegative)?;
    Ok(Some(millis.saturating_mul(1000)).filter(|us| *us > 0))
}

// The first round.

/// Where reading the stream at `key` begins.
fn resolve(cx: &mut ReadCx<'_>, reading: &Reading, key: &[u8], id: &[u8]) -> Result<From, CommandError> {
    let stream = cx.typed::<Stream>(key)?;
    let Some((group, _)) = &reading.group else {
        return Ok(From::Behind(match id {
            b"$" => stream.map_or(StreamId::MIN, |stream| stream.log().last_id()),
            // The last entry, if there is one.
            b"+" => stream.map_or(StreamId::MIN, |stream| {
                stream.log().last_entry_id().prev().unwrap_or(StreamId::MIN).max(empty_from(stream))
            }),
            b">" => {
                return Err(CommandError::Custom(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            _ => strict_id(id, 0)?,
        }));
    };
    stream.and_then(|stream| stream.group(group)).ok_or_else(|| group_is_gone(key, group))?;
    match id {
        b">" => Ok(From::New),
        b"$" => Err(CommandError::Custom(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
             specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
        )),
        // The greatest name means the same as `>`, as in Redis.
        _ => Ok(match strict_id(id, 0)? {
            StreamId::MAX => From::New,
            id => From::Behind(id),
        }),
    }
}

/// Where to wait for the next entry of a stream without entries.
fn empty_from(stream: &Stream) -> StreamId {
    if stream.log().is_empty() { stream.log().last_id() } else { StreamId::MIN }
}

fn group_is_gone(key: &[u8], group: &[u8]) -> CommandError {
    CommandError::of_pieces(&[
        b"NOGROUP No such key '",
        key,
        b"' or consumer group '",
        group,
        b"' in XREADGROUP with GROUP option",
    ])
}

// The second round.

/// The name of a stream, under which its entries follow.
fn push_name(reply: &mut Reply, key: &[u8]) {
    if reply.proto() == Resp::V2 {
        reply.array(2);
    }
    reply.bulk(key);
}

/// The header of so many streams.
fn push_header(reply: &mut Reply, streams: usize) {
    match reply.proto() {
        Resp::V2 => reply.array(streams),
        Resp::V3 => reply.map(streams),
    }
}

/// Whether there is something behind this name.
fn has_more(log: &Log, behind: StreamId) -> bool {
    !log.is_empty() && log.last_id() > behind && log.last_entry_id() > behind
}

/// Replies with what is behind a name; false, and no reply, if there is nothing.
fn read(cx: &mut ReadCx<'_>, key: &[u8], behind: StreamId, most: u64, reply: &mut Reply) -> Result<bool, CommandError> {
    let found = cx.peek_typed::<Stream>(key)?.map(Stream::log).filter(|log| has_more(log, behind));
    if let Some(log) = found {
        push_behind(reply, key, log, behind, most);
    }
    Ok(found.is_some())
}

/// A stream and what is behind a name in it, which is something.
fn push_behind(reply: &mut Reply, key: &[u8], log: &Log, behind: StreamId, most: u64) {
    push_name(reply, key);
    let from = behind.next().expect("something is behind it");
    push_range(reply, log, from, StreamId::MAX, false, most);
}

/// Replies with what a group delivers to a consumer; false, and no reply, if there is nothing new.
fn read_group(
    cx: &mut WriteCx<'_>,
    reading: &Reading,
    key: &[u8],
    from: From,
    reply: &mut Reply,
) -> Result<bool, CommandError> {
    let (name, consumer_name) = reading.group.as_ref().expect("XREADGROUP has a group");
    let outcome = cx.modify(key, |stream: &mut Stream, env| {
        let (log, group) = stream.with_group(name)?;
        let now_ms = env.now.millis().0;
        let known = group.consumer_id(consumer_name);
        let consumer = match known {
            Some(consumer) => consumer,
            None => {
                env.changed(1);
                env.event("xgroup-createconsumer");
                group.add_consumer(consumer_name, now_ms)?
            }
        };
        group.consumer_mut(consumer).seen_ms = now_ms;
        let mut done = Read { served: true, made: known.is_none(), delivered: Vec::new(), progress: None };
        match from {
            From::New if !has_more(log, group.last_id()) => {
                done.served = false;
                return Some(done);
            }
            From::New => {
                push_name(reply, key);
                done.delivered = deliver_new(log, group, consumer, reading, now_ms, reply);
                done.progress = Some(Progress::of(group));
            }
            From::Behind(id) => {
                push_name(reply, key);
                done.delivered = deliver_again(log, group, consumer, (id, reading.most), now_ms, reply);
            }
        }
        env.changed(1);
        Some(done)
    })?;
    let done = outcome.flatten().ok_or_else(|| group_is_gone(key, name))?;
    let consumer = Consumer { key, group: name, name: consumer_name };
    done.log(cx, consumer);
    Ok(done.served)
}

/// What reading has done to a group, for the log.
struct Read {
    served: bool,
    made: bool,
    /// What is pending now, and how often it was delivered.
    delivered: Vec<(StreamId, u64)>,
    progress: Option<Progress>,
}

impl Read {
    fn log(&self, cx: &mut WriteCx<'_>, by: Consumer<'_>) {
        let now_ms = cx.now().millis().0;
        // A consumer that was seen, and nothing else: nobody has to know.
        cx.no_effect(by.key);
        if self.made && self.delivered.is_empty() {
            stream_effects::consumer_made(cx, by, now_ms);
        }
        stream_effects::delivered(cx, by, now_ms, &self.delivered);
        if let Some(progress) = self.progress {
            stream_effects::read_on(cx, by.key, by.group, progress);
        }
    }
}

/// Gives a consumer what is new; the entries that are pending for it now.
fn deliver_new(
    log: &Log,
    group: &mut Group,
    consumer: ConsumerId,
    reading: &Reading,
    now_ms: i64,
    reply: &mut Reply,
) -> Vec<(StreamId, u64)> {
    let from = group.last_id().next().expect("something is behind it");
    let mut left = log.count(from, StreamId::MAX, reading.most);
    let mut delivered = Vec::new();
    reply.array(left as usize);
    log.walk(from, StreamId::MAX, false, |entry| {
        group.advance(log, entry.id);
        push_entry(reply, &entry);
        if !reading.no_ack {
            group.set_pending(entry.id, Pending { consumer, delivered_ms: now_ms, deliveries: 1 });
            group.consumer_mut(consumer).active_ms = Some(now_ms);
            delivered.push((entry.id, 1));
        }
        left -= 1;
        left > 0
    });
    delivered
}

/// The pending entries of a consumer behind a name, once more. Of those that were removed meanwhile only the name is left.
fn deliver_again(
    log: &Log,
    group: &mut Group,
    consumer: ConsumerId,
    (behind, most): (StreamId, u64),
    now_ms: i64,
    reply: &mut Reply,
) -> Vec<(StreamId, u64)> {
    let mut delivered = Vec::new();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let ids: Vec<StreamId> = match behind.next() {
        Some(from) => group.consumer(consumer).pending_from(from).take(most).collect(),
        None => Vec::new(),
    };
    reply.array(ids.len());
    for id in ids {
        match (log.get(id), group.pending(id)) {
            (Some(entry), Some(pending)) => {
                push_entry(reply, &entry);
                let deliveries = pending.deliveries.wrapping_add(1);
                group.set_pending(id, Pending { delivered_ms: now_ms, deliveries, ..pending });
                delivered.push((id, deliveries));
            }
            _ => {
                reply.array(2);
                push_id(reply, id);
                reply.null_array();
            }
        }
    }
    delivered
}

// One owner.

/// A stream and what was said about where to begin.
type Asked<'a> = (&'a [u8], &'a [u8]);

/// Both rounds of XREAD; where to go on if there was nothing, and then no reply.
fn read_here<'a>(
    cx: &mut ReadCx<'_>,
    reading: &Reading,
    streams: impl Iterator<Item = Asked<'a>> + Clone,
    reply: &mut Reply,
) -> Result<Option<Vec<From>>, CommandError> {
    let mut froms = Vec::with_capacity(reading.keys);
    for (key, id) in streams.clone() {
        froms.push(resolve(cx, reading, key, id)?);
    }
    // The second look is counted, and tells of a miss, as in Redis.
    let mut due = Vec::new();
    for ((key, _), from) in streams.zip(&froms) {
        let found = cx.typed::<Stream>(key)?;
        if let From::Behind(behind) = *from
            && found.is_some_and(|stream| has_more(stream.log(), behind))
        {
            due.push((key, behind));
        }
    }
    if due.is_empty() {
        return Ok(Some(froms));
    }
    push_header(reply, due.len());
    for (key, behind) in due {
        let stream = cx.peek_typed::<Stream>(key)?.expect("it was just there");
        push_behind(reply, key, stream.log(), behind, reading.most);
    }
    Ok(None)
}

/// As [`read_here`], of XREADGROUP.
fn read_groups_here<'a>(
    cx: &mut WriteCx<'_>,
    reading: &Reading,
    streams: impl Iterator<Item = Asked<'a>> + Clone,
    reply: &mut Reply,
) -> Result<Option<Vec<From>>, CommandError> {
    let mut froms = Vec::with_capacity(reading.keys);
    for (key, id) in streams.clone() {
        froms.push(resolve(cx, reading, key, id)?);
    }
    let mark = reply.mark();
    let header = match reply.proto() {
        Resp::V2 => reply.deferred_array(),
        Resp::V3 => reply.deferred_map(),
    };
    let mut served = 0;
    for ((key, _), from) in streams.zip(&froms) {
        served += usize::from(read_group(cx, reading, key, *from, reply)?);
    }
    reply.finish(header, served);
    if served > 0 {
        return Ok(None);
    }
    reply.truncate(mark);
    Ok(Some(froms))
}

fn xread(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let reading = Reading::parse(args, false)?;
    if read_here(cx, &reading, reading.streams(args), reply)?.is_some() {
        reply.null_array();
    }
    Ok(())
}

fn xreadgroup(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let reading = Reading::parse(args, true)?;
    if read_groups_here(cx, &reading, reading.streams(args), reply)?.is_some() {
        reply.null_array();
    }
    Ok(())
}

// Several owners, and waiting.

/// Reads one stream in the second round.
fn read_one(
    cx: &mut WriteCx<'_>,
    reading: &Reading,
    key: &[u8],
    from: From,
    reply: &mut Reply,
) -> Result<bool, CommandError> {
    match (&reading.group, from) {
        (None, From::Behind(behind)) => read(cx, key, behind, reading.most, reply),
        _ => read_group(cx, reading, key, from, reply),
    }
}

/// Serves a command that waits from one stream. A consumer whose group is gone, or whose stream has become something else, does
/// not wait any longer.
fn serve_waiter(
    cx: &mut WriteCx<'_>,
    reading: &Reading,
    key: &[u8],
    from: From,
    reply: &mut Reply,
) -> Result<bool, CommandError> {
    if let Some((name, _)) = &reading.group {
        let stream = cx
            .lookup_typed::<Stream>(key)
            .map_err(|_| CommandError::Custom("WRONGTYPE Operation against a key holding the wrong kind of value"))?;
        // Looking does not count as a change, after which everyone in line would be asked again.
        let stream = stream.filter(|stream| stream.group(name).is_some()).ok_or_else(|| group_is_gone(key, name))?;
        if stream.group(name).is_some_and(|group| !has_more(stream.log(), group.last_id())) {
            return Ok(false);
        }
    }
    let mark = reply.mark();
    push_header(reply, 1);
    let served = read_one(cx, reading, key, from, reply)?;
    if !served {
        reply.truncate(mark);
    }
    Ok(served)
}

/// What the two rounds found: the reply, or where to go on with each stream.
enum Outcome {
    Replied(Reply),
    GoOn(Vec<From>),
}

/// Both rounds in one step on the owner of all streams.
async fn at_once(
    coordinator: &Coordinator,
    owner: ShardId,
    reading: &Arc<Reading>,
    args: &Arc<OwnedArgs>,
) -> Result<Outcome, CommandError> {
    let (reading, args, mut reply) = (Arc::clone(reading), Arc::clone(args), coordinator.reply());
    let (db, touch) = (coordinator.origin().db, coordinator.origin().touch);
    let step = move |shard: &mut Shard| {
        let streams = reading.streams(args.as_args());
        let nothing = match reading.group {
            None => read_here(&mut ReadCx::new(shard.data_cx(db, touch)), &reading, streams, &mut reply)?,
            Some(_) => read_groups_here(&mut WriteCx::new(shard.data_cx(db, touch)), &reading, streams, &mut reply)?,
        };
        Ok(nothing.map_or(Outcome::Replied(reply), Outcome::GoOn))
    };
    coordinator.transact(vec![(owner, step)]).await.pop().expect("one shard, one result")
}

/// Both rounds, stream by stream. To be called while the streams are reserved.
async fn one_by_one(
    coordinator: &Coordinator,
    reading: &Arc<Reading>,
    args: &Arc<OwnedArgs>,
) -> Result<Outcome, CommandError> {
    let mut froms = Vec::with_capacity(reading.keys);
    for (key, id) in reading.streams(args.as_args()) {
        let (owned_key, id, reading) = (key.to_vec(), id.to_vec(), Arc::clone(reading));
        froms.push(coordinator.with_key(key, move |cx| resolve(cx, &reading, &owned_key, &id)).await?);
    }
    let mut parts = Vec::new();
    for ((key, _), &from) in reading.streams(args.as_args()).zip(&froms) {
        let (owned_key, reading, mut part) = (key.to_vec(), Arc::clone(reading), coordinator.reply());
        let step = move |cx: &mut WriteCx<'_>| {
            if reading.group.is_none() {
                // As in `read_here`.
                cx.get(&owned_key);
            }
            Ok::<_, CommandError>(read_one(cx, &reading, &owned_key, from, &mut part)?.then_some(part))
        };
        let read = coordinator.with_key(key, step).await?;
        parts.extend(read);
    }
    if parts.is_empty() {
        return Ok(Outcome::GoOn(froms));
    }
    let mut reply = coordinator.reply();
    push_header(&mut reply, parts.len());
    parts.iter_mut().for_each(|part| reply.append(part));
    Ok(Outcome::Replied(reply))
}

fn plan(coordinator: Coordinator, args: OwnedArgs, of_group: bool) -> Plan {
    Box::pin(async move {
        let args = Arc::new(args);
        let reading = Arc::new(Reading::parse(args.as_args(), of_group)?);
        let owner = {
            let mut owners = coordinator.participants();
            owners.next().filter(|_| owners.len() == 0)
        };
        let found = match owner {
            Some(owner) if !coordinator.is_held() => at_once(&coordinator, owner, &reading, &args).await?,
            _ => coordinator.isolated(one_by_one(&coordinator, &reading, &args)).await?,
        };
        let froms = match found {
            Outcome::Replied(reply) => return Ok(reply),
            Outcome::GoOn(froms) => froms,
        };
        let Some(timeout_us) = reading.wait_us.filter(|_| !coordinator.is_held()) else {
            return Ok(or_timed_out(&coordinator, None));
        };
        let streams: Vec<(Vec<u8>, From)> =
            reading.streams(args.as_args()).map(|(key, _)| key.to_vec()).zip(froms).collect();
        let keys = streams.iter().map(|(key, _)| key.clone()).collect();
        let wait = Wait { keys, timeout_us, on_absence: of_group };
        let serve = Arc::new(move |cx: &mut WriteCx<'_>, key: &[u8], reply: &mut Reply| {
            let stream = streams.iter().find(|(name, _)| name == key);
            let (_, from) = stream.expect("only what is waited for is served");
            serve_waiter(cx, &reading, key, *from, reply)
        });
        let served = coordinator.block(wait, serve).await?;
        Ok(or_timed_out(&coordinator, served))
    })
}

fn xread_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    plan(coordinator, args, false)
}

fn xreadgroup_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    plan(coordinator, args, true)
}

/// Whether the command may have to wait: whether BLOCK is among its options.
pub fn asks_to_wait(args: Args<'_>) -> bool {
    let mut at = 1;
    while at < args.len() {
        let is = |word: &str| args.get(at).eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("streams") => return false,
            () if is("block") => return true,
            // A group may have any name.
            () if is("group") => at += 3,
            () if is("count") => at += 2,
            () => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_be_called_as_an_option_is() {
        for (line, waits) in [
            ("XREADGROUP GROUP streams c BLOCK 0 STREAMS k >", true),
            ("XREADGROUP GROUP block block STREAMS k >", false),
            ("XREAD COUNT 1 BLOCK 0 STREAMS k $", true),
            ("XREAD STREAMS block 0", false),
        ] {
            let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(asks_to_wait(args.as_args()), waits, "{line}");
        }
    }
}
