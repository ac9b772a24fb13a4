//! What the log is told of groups of streams: who has got which entries when, without the reading that gave them away.
//!
//! ```text
//!   delivered, claimed     XCLAIM key group consumer 0 id … TIME ms RETRYCOUNT n FORCE JUSTID
//!   read on                XGROUP SETID key group id ENTRIESREAD n
//!   a consumer was made    XGROUP CREATECONSUMER key group consumer, and when it was seen
//! ```
//!
//! redis-server 7.0 says the same in its AOF, one XCLAIM for each entry. Counters can be brought beyond what these commands take; then
//! the stream is logged as it is. Pure functions over a [`WriteCx`].

use std::collections::BTreeMap;

use super::stream_syntax::id_text;
use crate::base::num::{format_i64, format_u64};
use crate::shard::cx::WriteCx;
use crate::types::stream::{Group, StreamId};

/// Entries that one command of the log names: one of a million words is more than some read.
const ENTRIES_PER_EFFECT: usize = 1024;

/// A group of a stream, and one of its consumers.
#[derive(Clone, Copy)]
pub struct Consumer<'a> {
    /// The stream.
    pub key: &'a [u8],
    /// The group.
    pub group: &'a [u8],
    /// The consumer.
    pub name: &'a [u8],
}

/// How far a group has read.
#[derive(Clone, Copy)]
pub struct Progress {
    last_id: StreamId,
    entries_read: Option<u64>,
}

impl Progress {
    /// Of this group, now.
    pub fn of(group: &Group) -> Progress {
        Progress { last_id: group.last_id(), entries_read: group.entries_read() }
    }
}

/// These entries are pending for the consumer since then, and have been delivered so many times. They are in the stream.
pub fn delivered(cx: &mut WriteCx<'_>, to: Consumer<'_>, at_ms: i64, entries: &[(StreamId, u64)]) {
    if !cx.is_logged() {
        return;
    }
    let mut by_deliveries = BTreeMap::<u64, Vec<Vec<u8>>>::new();
    if entries.iter().any(|(_, deliveries)| i64::try_from(*deliveries).is_err()) {
        return cx.state_effect(to.key);
    }
    for (id, deliveries) in entries {
        by_deliveries.entry(*deliveries).or_default().push(id_text(*id));
    }
    let at = format_i64(at_ms);
    for (deliveries, ids) in &by_deliveries {
        let deliveries = format_u64(*deliveries);
        for ids in ids.chunks(ENTRIES_PER_EFFECT) {
            let mut words: Vec<&[u8]> = vec![b"XCLAIM", to.key, to.group, to.name, b"0"];
            words.extend(ids.iter().map(Vec::as_slice));
            let how = [b"TIME", at.as_bytes(), b"RETRYCOUNT", deliveries.as_bytes(), b"FORCE", b"JUSTID"];
            words.extend::<[&[u8]; 6]>(how);
            cx.effect(to.key, &words);
        }
    }
}

/// These entries are not pending any more.
pub fn forgotten(cx: &mut WriteCx<'_>, key: &[u8], group: &[u8], ids: &[StreamId]) {
    if !cx.is_logged() {
        return;
    }
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id_text(*id)).collect();
    for ids in ids.chunks(ENTRIES_PER_EFFECT) {
        let mut words: Vec<&[u8]> = vec![b"XACK", key, group];
        words.extend(ids.iter().map(Vec::as_slice));
        cx.effect(key, &words);
    }
}

/// The group has read so far.
pub fn read_on(cx: &mut WriteCx<'_>, key: &[u8], group: &[u8], progress: Progress) {
    let Ok(read) = progress.entries_read.map_or(Ok(-1), i64::try_from) else { return cx.state_effect(key) };
    let (id, read) = (id_text(progress.last_id), format_i64(read));
    cx.effect(key, &[b"XGROUP", b"SETID", key, group, &id, b"ENTRIESREAD", read.as_bytes()]);
}

/// The consumer was made then. No command says when; one that claims nothing is seen all the same.
pub fn consumer_made(cx: &mut WriteCx<'_>, made: Consumer<'_>, at_ms: i64) {
    let Consumer { key, group, name } = made;
    cx.effect(key, &[b"XGROUP", b"CREATECONSUMER", key, group, name]);
    cx.effect(key, &[b"XCLAIM", key, group, name, b"0", b"0-0", b"TIME", format_i64(at_ms).as_bytes(), b"JUSTID"]);
}
