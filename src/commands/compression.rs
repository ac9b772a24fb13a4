//! COMPRESS and UNCOMPRESS: whether strings are kept packed. Rows first, then the handlers.
//!
//! Neither changes a value that a client could read, so neither is logged, wakes anybody or counts as a change; DUMP, the AOF and
//! snapshots hold the plain string. How packing works is told in `keyspace::packing`, what packs by itself in `net::packing`.
//!
//! Absent on purpose: other types than strings. Small collections are packed in their own way, and large ones change too often.

use super::docs::Group;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Row, Run};
use crate::resp::{Args, CommandError, Reply};
use crate::session::Merge;
use crate::shard::cx::{DataFn, WriteCx};

/// What both rows share.
const COMPRESSION: Row = Row {
    group: Group::String,
    since: "8.0.0",
    complexity: "O(N) where N is the length of all the strings.",
    arity: -2,
    flags: Flags::WRITE,
    keys: &[KeySpec::rest(1, 1, KeyFlags::RW.and(KeyFlags::UPDATE))],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    ..Row::DEFAULT
};

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "compress",
        usage: "key [key ...]",
        summary: "Keeps strings compressed from now on and replies with how many were not before and have become smaller.",
        run: Run::Split(DataFn::Write(compress), Merge::Sum),
        ..COMPRESSION
    },
    Row {
        name: "uncompress",
        usage: "key [key ...]",
        summary: "Keeps strings as they are from now on and replies with how many were compressed.",
        run: Run::Split(DataFn::Write(uncompress), Merge::Sum),
        ..COMPRESSION
    },
];

type Done = Result<(), CommandError>;

fn compress(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let packed = args.slice(1).iter().filter(|key| cx.pack(key)).count();
    reply.int(packed as i64);
    Ok(())
}

fn uncompress(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let unpacked = args.slice(1).iter().filter(|key| cx.unpack(key)).count();
    reply.int(unpacked as i64);
    Ok(())
}
