//! Groups of consumers: XGROUP, acknowledging, and what is pending. Rows first, then the handlers.
//!
//! Reading through a group is in [`super::stream_read`], taking over what others have not acknowledged in
//! [`super::stream_claim`].

use super::help::help;
use super::keys::{KeyFlags, KeySpec};
use super::stream_effects::{self, Consumer};
use super::stream_syntax::{STREAM, lenient_id, no_group, no_group_of_key, push_id, range_end, range_start, strict_id};
use super::table::{Flags, Row, Run};
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, Reply};
use crate::shard::cx::{DataFn, Env, ReadCx, WriteCx};
use crate::types::stream::{Group, Pending, Stream, StreamId};

/// The family's rows about groups.
pub const ROWS: &[Row] = &[
    Row {
        name: "xack",
        usage: "key group id [id ...]",
        summary: "Acknowledges entries: they are not pending any more.",
        complexity: "O(log(N)) for each entry, where N is the number of pending ones.",
        arity: -4,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(xack)),
        ..STREAM
    },
    Row {
        name: "xgroup",
        summary: "Makes, changes and removes groups and consumers.",
        complexity: "Depends on the subcommand.",
        arity: -2,
        subcommands: XGROUP,
        ..STREAM
    },
    Row {
        name: "xpending",
        usage: "key group [[IDLE min-idle-time] start end count [consumer]]",
        summary: "Replies with what is pending in a group: a summary, or the entries of a range.",
        complexity: "O(C) for the summary, where C is the number of consumers; O(log(P)+N) for a range, where P is the number of \
                     pending entries and N that of those looked at.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(xpending)),
        ..STREAM
    },
];

const XGROUP: &[Row] = &[
    Row {
        name: "create",
        usage: "key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
        summary: "Makes a group that has read up to an entry.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(create)),
        ..STREAM
    },
    Row {
        name: "createconsumer",
        usage: "key group consumer",
        summary: "Makes a consumer.",
        since: "6.2.0",
        arity: 5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT))],
        run: Run::Data(DataFn::Write(create_consumer)),
        ..STREAM
    },
    Row {
        name: "delconsumer",
        usage: "key group consumer",
        summary: "Removes a consumer and what is pending for it.",
        complexity: "O(N*log(P)) where N is the number of its pending entries and P that of the group.",
        arity: 5,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(delete_consumer)),
        ..STREAM
    },
    Row {
        name: "destroy",
        usage: "key group",
        summary: "Removes a group.",
        complexity: "O(N) where N is the number of its pending entries.",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::DELETE))],
        run: Run::Data(DataFn::Write(destroy)),
        ..STREAM
    },
    Row {
        name: "help",
        summary: "Prints this help.",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        run: Run::Session(help),
        ..STREAM
    },
    Row {
        name: "setid",
        usage: "key group <id | $> [ENTRIESREAD entries-read]",
        summary: "Sets up to which entry a group has read.",
        arity: -5,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(set_id)),
        ..STREAM
    },
];

type Done = Result<(), CommandError>;

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NotAnInteger)
}

// XGROUP. Arguments: the key is number 2, the group number 3.

const NO_STREAM: CommandError = CommandError::Custom(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to \
     create an empty stream automatically.",
);

/// The options of CREATE and SETID: whether the stream is to be made, and how many entries were read.
fn options(args: Args<'_>, of_create: bool) -> Result<(bool, Option<u64>), CommandError> {
    let (mut make, mut entries_read) = (false, None);
    let mut at = 5;
    while at < args.len() {
        let word = args.get(at);
        if of_create && word.eq_ignore_ascii_case(b"mkstream") {
            make = true;
            at += 1;
        } else if word.eq_ignore_ascii_case(b"entriesread") && at + 1 < args.len() {
            entries_read = match integer(args.get(at + 1))? {
                -1 => None,
                count => Some(
                    u64::try_from(count)
                        .map_err(|_| CommandError::Custom("ERR value for ENTRIESREAD must be positive or -1"))?,
                ),
            };
            at += 2;
        } else {
            return Err(CommandError::subcommand_syntax("XGROUP", args.get(1)));
        }
    }
    Ok((make, entries_read))
}

fn create(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (make, entries_read) = options(args, true)?;
    let (key, name) = (args.get(2), args.get(3));
    if cx.lookup_typed::<Stream>(key)?.is_none() && !make {
        return Err(NO_STREAM);
    }
    if args.len() > 8 {
        return Err(CommandError::subcommand_syntax("XGROUP", args.get(1)));
    }
    let id = match args.get(4) {
        b"$" => None,
        text => Some(strict_id(text, 0)?),
    };
    let added = cx.modify_or_create(key, |stream: &mut Stream, env| {
        let id = id.unwrap_or(stream.log().last_id());
        let added = stream.add_group(name, Group::new(id, entries_read));
        env.changed(u64::from(added));
        env.event_if(added, "xgroup-create");
        added
    })?;
    if !added {
        return Err(CommandError::Custom("BUSYGROUP Consumer Group name already exists"));
    }
    reply.ok();
    Ok(())
}

/// Lets `change` at a group, which must be there.
fn change_group<R>(
    cx: &mut WriteCx<'_>,
    args: Args<'_>,
    change: impl FnOnce(&mut Group, StreamId, &mut Env<'_>) -> Result<R, CommandError>,
) -> Result<R, CommandError> {
    let (key, name) = (args.get(2), args.get(3));
    let changed = cx.modify(key, |stream: &mut Stream, env| {
        let (log, group) = stream.with_group(name).ok_or_else(|| no_group_of_key(key, name))?;
        let last_id = log.last_id();
        change(group, last_id, env)
    })?;
    changed.ok_or(NO_STREAM)?
}

fn set_id(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (_, entries_read) = options(args, false)?;
    change_group(cx, args, |group, last_id, env| {
        if args.len() > 7 {
            return Err(CommandError::subcommand_syntax("XGROUP", args.get(1)));
        }
        let id = match args.get(4) {
            b"$" => last_id,
            text => lenient_id(text, 0)?,
        };
        group.set_id(id, entries_read);
        env.changed(1);
        env.event("xgroup-setid");
        Ok(())
    })?;
    reply.ok();
    Ok(())
}

fn destroy(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let removed = cx.modify(args.get(2), |stream: &mut Stream, env| {
        let removed = stream.remove_group(args.get(3));
        env.changed(u64::from(removed));
        env.event_if(removed, "xgroup-destroy");
        removed
    })?;
    reply.int(i64::from(removed.ok_or(NO_STREAM)?));
    Ok(())
}

fn create_consumer(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let added = change_group(cx, args, |group, _, env| {
        let added = group.add_consumer(args.get(4), env.now.millis().0).is_some();
        env.changed(u64::from(added));
        env.event_if(added, "xgroup-createconsumer");
        Ok(added)
    })?;
    if added {
        let made = Consumer { key: args.get(2), group: args.get(3), name: args.get(4) };
        stream_effects::consumer_made(cx, made, cx.now().millis().0);
    }
    reply.int(i64::from(added));
    Ok(())
}

fn delete_consumer(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let pending = change_group(cx, args, |group, _, env| {
        let removed = group.remove_consumer(args.get(4));
        env.changed(u64::from(removed.is_some()));
        env.event_if(removed.is_some(), "xgroup-delconsumer");
        Ok(removed.unwrap_or(0))
    })?;
    reply.int(pending as i64);
    Ok(())
}

// Pending entries.

fn xack(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let acknowledged = cx.modify(args.get(1), |stream: &mut Stream, env| {
        let Some((_, group)) = stream.with_group(args.get(2)) else { return Ok(0) };
        // All names are looked at before the first is acknowledged.
        let ids = args.slice(3).iter().map(|text| strict_id(text, 0)).collect::<Result<Vec<_>, _>>()?;
        let acknowledged = ids.into_iter().filter(|id| group.forget_pending(*id)).count();
        env.changed(acknowledged as u64);
        Ok(acknowledged)
    })?;
    cx.count_found(args.get(1), acknowledged.is_some());
    reply.int(acknowledged.transpose()?.unwrap_or(0) as i64);
    Ok(())
}

/// The range that XPENDING asks for.
struct PendingRange<'a> {
    idle_ms: i64,
    from: StreamId,
    to: StreamId,
    count: u64,
    consumer: Option<&'a [u8]>,
}

impl<'a> PendingRange<'a> {
    fn parse(args: Args<'a>) -> Result<Option<PendingRange<'a>>, CommandError> {
        match args.len() {
            3 => return Ok(None),
            6..=9 => {}
            _ => return Err(CommandError::Syntax),
        }
        let (mut at, mut idle_ms) = (3, 0);
        if args.get(3).eq_ignore_ascii_case(b"idle") {
            idle_ms = integer(args.get(4))?;
            if args.len() < 8 {
                return Err(CommandError::Syntax);
            }
            at = 5;
        }
        let count = u64::try_from(integer(args.get(at + 2))?).unwrap_or(0);
        let (from, to) = (range_start(args.get(at))?, range_end(args.get(at + 1))?);
        let consumer = (args.len() > at + 3).then(|| args.get(at + 3));
        Ok(Some(PendingRange { idle_ms, from, to, count, consumer }))
    }

    fn reply(&self, group: &Group, now_ms: i64, reply: &mut Reply) {
        let consumer = match self.consumer.map(|name| group.consumer_id(name)) {
            Some(None) => return reply.array(0),
            Some(found) => found,
            None => None,
        };
        let header = reply.deferred_array();
        let mut left = self.count;
        let mut show = |id: StreamId, pending: Pending| {
            let idle_ms = now_ms.saturating_sub(pending.delivered_ms);
            if left == 0 || id > self.to {
                return false;
            }
            if self.idle_ms == 0 || idle_ms >= self.idle_ms {
                left -= 1;
                reply.array(4);
                push_id(reply, id);
                reply.bulk(group.consumer(pending.consumer).name());
                reply.int(idle_ms.max(0));
                reply.int(pending.deliveries as i64);
            }
            true
        };
        match consumer {
            None => drop(group.pending_from(self.from).all(|(id, pending)| show(id, pending))),
            Some(consumer) => {
                let mut ids = group.consumer(consumer).pending_from(self.from);
                ids.all(|id| group.pending(id).is_some_and(|pending| show(id, pending)));
            }
        }
        reply.finish(header, (self.count - left) as usize);
    }
}

fn xpending(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let range = PendingRange::parse(args)?;
    let now_ms = cx.now().millis().0;
    let (key, name) = (args.get(1), args.get(2));
    let group = cx.typed::<Stream>(key)?.and_then(|stream| stream.group(name)).ok_or_else(|| no_group(key, name))?;
    match range {
        Some(range) => range.reply(group, now_ms, reply),
        None => summary(group, reply),
    }
    Ok(())
}

fn summary(group: &Group, reply: &mut Reply) {
    reply.array(4);
    reply.int(group.pending_len() as i64);
    let mut ids = group.pending_from(StreamId::MIN).map(|(id, _)| id);
    let Some(first) = ids.next() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    push_id(reply, first);
    push_id(reply, ids.next_back().unwrap_or(first));
    let some = || group.consumers().filter(|consumer| consumer.pending_len() > 0);
    reply.array(some().count());
    for consumer in some() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_len() as i64);
    }
}
