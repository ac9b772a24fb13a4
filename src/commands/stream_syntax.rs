//! What the commands of streams have in common: names of entries as clients write them, and entries as clients get them.
//!
//! Pure functions. Absent on purpose: anything that changes a stream.

use super::docs::Group;
use super::element::{STREAMED_ELEMENTS_MIN, push_item};
use super::table::Row;
use crate::base::num::{format_u64, push_u64};
use crate::resp::{CommandError, Pieces, Reply, push_bulk};
use crate::types::stream::{Entry, Log, LogSnapshot, StreamId};

/// What all rows of the family share.
pub const STREAM: Row = Row { group: Group::Stream, since: "5.0.0", ..Row::DEFAULT };

const INVALID_ID: CommandError = CommandError::Custom("ERR Invalid stream ID specified as stream command argument");

/// A name; a text without a number gets this one.
///
/// # Errors
/// In Redis's words, if it is none.
pub fn strict_id(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    StreamId::parse(text, missing_seq).ok_or(INVALID_ID)
}

/// As [`strict_id`], or `-` and `+` for the least and the greatest.
///
/// # Errors
/// As [`strict_id`].
pub fn lenient_id(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => strict_id(text, missing_seq),
    }
}

/// The time of `ms-*`; none if that is not what it is.
pub fn time_only(text: &[u8]) -> Option<u64> {
    StreamId::parse_time_only(text)
}

/// The first name of a range, of which `(` leaves out its own.
///
/// # Errors
/// In Redis's words.
pub fn range_start(text: &[u8]) -> Result<StreamId, CommandError> {
    let none_behind = CommandError::Custom("ERR invalid start ID for the interval");
    match text {
        [b'(', id @ ..] if !id.is_empty() => strict_id(id, 0)?.next().ok_or(none_behind),
        _ => lenient_id(text, 0),
    }
}

/// The last name of a range.
///
/// # Errors
/// In Redis's words.
pub fn range_end(text: &[u8]) -> Result<StreamId, CommandError> {
    let none_in_front = CommandError::Custom("ERR invalid end ID for the interval");
    match text {
        [b'(', id @ ..] if !id.is_empty() => strict_id(id, u64::MAX)?.prev().ok_or(none_in_front),
        _ => lenient_id(text, u64::MAX),
    }
}

/// There is no such key, or no such group.
pub fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    CommandError::of_pieces(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"])
}

/// There is no such group, where the key is there.
pub fn no_group_of_key(key: &[u8], group: &[u8]) -> CommandError {
    CommandError::of_pieces(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

/// A name as text.
pub fn id_text(id: StreamId) -> Vec<u8> {
    let mut text = Vec::new();
    id.append_to(&mut text);
    text
}

/// A name as a bulk.
#[inline]
pub fn push_id(reply: &mut Reply, id: StreamId) {
    let (ms, seq) = (format_u64(id.ms), format_u64(id.seq));
    let (ms, seq) = (ms.as_bytes(), seq.as_bytes());
    let mut text = [0; 41];
    text[..ms.len()].copy_from_slice(ms);
    text[ms.len()] = b'-';
    text[ms.len() + 1..][..seq.len()].copy_from_slice(seq);
    reply.bulk(&text[..ms.len() + 1 + seq.len()]);
}

/// An entry: its name, and an array of names and values of its fields.
pub fn push_entry(reply: &mut Reply, entry: &Entry<'_>) {
    reply.array(2);
    push_id(reply, entry.id);
    reply.array(2 * entry.fields_len());
    for (name, value) in entry.fields() {
        push_item(reply, name);
        push_item(reply, value);
    }
}

/// An array of the entries between two names, at most so many. A long one is sent piece by piece.
pub fn push_range(reply: &mut Reply, log: &Log, from: StreamId, to: StreamId, backwards: bool, most: u64) {
    let count = log.count(from, to, most);
    reply.array(count as usize);
    if count >= STREAMED_ELEMENTS_MIN as u64 {
        reply.stream(Box::new(EntryPieces(log.snapshot(from, to, backwards, count))));
    } else if count > 0 {
        let mut left = count;
        log.walk(from, to, backwards, |entry| {
            push_entry(reply, &entry);
            left -= 1;
            left > 0
        });
    }
}

/// A long range, read out while it is sent.
struct EntryPieces(LogSnapshot);

impl Pieces for EntryPieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let mut id = Vec::new();
        self.0.read_on(|entry| {
            id.clear();
            entry.id.append_to(&mut id);
            out.extend_from_slice(b"*2\r\n");
            push_bulk(out, &id);
            out.push(b'*');
            push_u64(out, 2 * entry.fields_len() as u64);
            out.extend_from_slice(b"\r\n");
            for (name, value) in entry.fields() {
                push_bulk(out, &name.text());
                push_bulk(out, &value.text());
            }
            out.len() < bytes_max
        })
    }
}
