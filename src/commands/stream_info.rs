//! XINFO: what a stream, its groups and their consumers are like.
//!
//! Where Redis tells of its radix tree we tell of our blocks, which are as full as its nodes: `radix-tree-keys` is their number,
//! `radix-tree-nodes` an estimate of what their index would take there.

use super::help::help;
use super::keys::{KeyFlags, KeySpec};
use super::stream_syntax::{STREAM, no_group_of_key, push_entry, push_id, push_range};
use super::table::{Flags, Row, Run};
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, Reply};
use crate::shard::cx::{DataFn, ReadCx};
use crate::types::stream::{Group, Log, Stream, StreamId};

/// The family's rows about itself.
pub const ROWS: &[Row] = &[Row {
    name: "xinfo",
    summary: "Replies with what is known about streams.",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: XINFO,
    ..STREAM
}];

const XINFO: &[Row] = &[
    Row {
        name: "consumers",
        usage: "key group",
        summary: "Replies with the consumers of a group.",
        complexity: "O(N) where N is the number of consumers.",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(consumers)),
        ..STREAM
    },
    Row {
        name: "groups",
        usage: "key",
        summary: "Replies with the groups of a stream.",
        complexity: "O(N) where N is the number of groups.",
        arity: 3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(groups)),
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
        name: "stream",
        usage: "key [FULL [COUNT count]]",
        summary: "Replies with what a stream is like, or with all that is in it.",
        complexity: "O(1), or O(N) with FULL, where N is the number of entries, groups, consumers and pending entries shown.",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(stream)),
        ..STREAM
    },
];

type Done = Result<(), CommandError>;

fn number(reply: &mut Reply, name: &str, number: i64) {
    reply.bulk(name.as_bytes());
    reply.int(number);
}

fn number_or_null(reply: &mut Reply, name: &str, number: Option<i64>) {
    reply.bulk(name.as_bytes());
    match number {
        Some(number) => reply.int(number),
        None => reply.null(),
    }
}

fn id(reply: &mut Reply, name: &str, id: StreamId) {
    reply.bulk(name.as_bytes());
    push_id(reply, id);
}

fn text(reply: &mut Reply, name: &str, text: &[u8]) {
    reply.bulk(name.as_bytes());
    reply.bulk(text);
}

fn stream(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let stream = cx.typed::<Stream>(args.get(2))?.ok_or(CommandError::NoSuchKey)?;
    let bad_syntax = || CommandError::subcommand_syntax("XINFO", args.get(1));
    // None, or as many entries of each kind as are shown.
    let full = match args.len() {
        3 => None,
        4 | 6 if !args.get(3).eq_ignore_ascii_case(b"full") => return Err(bad_syntax()),
        4 => Some(10),
        6 if args.get(4).eq_ignore_ascii_case(b"count") => {
            match parse_i64(args.get(5)).ok_or(CommandError::NotAnInteger)? {
                ..0 => Some(10),
                0 => Some(u64::MAX),
                count => Some(count as u64),
            }
        }
        _ => return Err(bad_syntax()),
    };
    let log = stream.log();
    reply.map(if full.is_some() { 9 } else { 10 });
    number(reply, "length", log.len() as i64);
    number(reply, "radix-tree-keys", log.blocks_len() as i64);
    number(reply, "radix-tree-nodes", log.blocks_len() as i64 + 1);
    id(reply, "last-generated-id", log.last_id());
    id(reply, "max-deleted-entry-id", log.max_deleted_id());
    number(reply, "entries-added", log.entries_added() as i64);
    id(reply, "recorded-first-entry-id", log.first_id());
    match full {
        None => {
            number(reply, "groups", stream.groups().len() as i64);
            edge(reply, log, "first-entry", false);
            edge(reply, log, "last-entry", true);
        }
        Some(most) => {
            reply.bulk(b"entries");
            push_range(reply, log, StreamId::MIN, StreamId::MAX, false, most);
            reply.bulk(b"groups");
            reply.array(stream.groups().len());
            for (name, group) in stream.groups() {
                whole_group(reply, log, name, group, usize::try_from(most).unwrap_or(usize::MAX));
            }
        }
    }
    Ok(())
}

fn edge(reply: &mut Reply, log: &Log, name: &str, backwards: bool) {
    reply.bulk(name.as_bytes());
    if log.is_empty() {
        return reply.null();
    }
    log.walk(StreamId::MIN, StreamId::MAX, backwards, |entry| {
        push_entry(reply, &entry);
        false
    });
}

fn whole_group(reply: &mut Reply, log: &Log, name: &[u8], group: &Group, most: usize) {
    reply.map(7);
    text(reply, "name", name);
    id(reply, "last-delivered-id", group.last_id());
    number_or_null(reply, "entries-read", group.entries_read().map(|read| read as i64));
    number_or_null(reply, "lag", group.lag(log));
    number(reply, "pel-count", group.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(most));
    for (id, pending) in group.pending_from(StreamId::MIN).take(most) {
        reply.array(4);
        push_id(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.int(pending.delivered_ms);
        reply.int(pending.deliveries as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(5);
        text(reply, "name", consumer.name());
        number(reply, "seen-time", consumer.seen_ms);
        number(reply, "active-time", consumer.active_ms.unwrap_or(-1));
        number(reply, "pel-count", consumer.pending_len() as i64);
        reply.bulk(b"pending");
        reply.array(consumer.pending_len().min(most));
        for id in consumer.pending_from(StreamId::MIN).take(most) {
            let pending = group.pending(id).expect("what a consumer has is pending");
            reply.array(3);
            push_id(reply, id);
            reply.int(pending.delivered_ms);
            reply.int(pending.deliveries as i64);
        }
    }
}

fn groups(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let stream = cx.typed::<Stream>(args.get(2))?.ok_or(CommandError::NoSuchKey)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        text(reply, "name", name);
        number(reply, "consumers", group.consumers().len() as i64);
        number(reply, "pending", group.pending_len() as i64);
        id(reply, "last-delivered-id", group.last_id());
        number_or_null(reply, "entries-read", group.entries_read().map(|read| read as i64));
        number_or_null(reply, "lag", group.lag(stream.log()));
    }
    Ok(())
}

fn consumers(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let now_ms = cx.now().millis().0;
    let (key, name) = (args.get(2), args.get(3));
    let stream = cx.typed::<Stream>(key)?.ok_or(CommandError::NoSuchKey)?;
    let group = stream.group(name).ok_or_else(|| no_group_of_key(key, name))?;
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(4);
        text(reply, "name", consumer.name());
        number(reply, "pending", consumer.pending_len() as i64);
        number(reply, "idle", now_ms.saturating_sub(consumer.seen_ms).max(0));
        let inactive = consumer.active_ms.map_or(-1, |active_ms| now_ms.saturating_sub(active_ms).max(0));
        number(reply, "inactive", inactive);
    }
    Ok(())
}
