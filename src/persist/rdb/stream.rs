//! Streams to bytes and back.
//!
//! ```text
//!   type  since      body (n: a length; s: a string; id: two n, time and number; key: 16 bytes, the two big-endian; ms: i64)
//!    15   5.0        blocks | n entries | id last | groups
//!    19   7.0   w    blocks | n entries | id last | id first | id greatest deleted | n ever added | groups
//!    21   7.2        as 19
//!    26   8.6        as 21, then idempotence
//!    27   8.8        as 26, and behind the consumers of each group: n [ key ], what was handed back
//!
//!   blocks   n [ s key | s listpack, as in types::stream_log ]
//!   groups   n [ s name | id last delivered | n entries read, from 19 on | pending | consumers ]
//!   pending  n [ key | ms delivered | n times ]
//!   consumer n [ s name | ms seen | ms active, from 21 on | n [ key ] ]
//!   idempotence  n seconds kept | n kept at most | n [ s producer | n [ s its name for an entry | id ] ] | n named | n refused
//! ```
//!
//! 2^64 - 1 entries read (or any number past 2^63) means that nobody knows; -1 as a time that there was none. Of a consumer, 19 does not say when it was last
//! active: whoever reads that takes when it was last seen, as Redis does.
//!
//! What a stream remembers of names that its producers gave to entries is read and let go: it only guards against adding one twice within
//! some seconds, by commands that are not ours.
//!
//! Entries that a consumer handed back (XNACK) are pending and nobody's, for which there is no place here: such a stream is refused.
//!
//! What is pending has one owner: an entry that two consumers claim, or none, makes the stream corrupt (two owners of one such
//! entry were freed twice elsewhere). So do counts in a block that are not those of its entries. Both are the builder's to see.

use super::{DecodeError, Limits, Reader, Writer};
use crate::types::listpack::Listpack;
use crate::types::stream::{Stream, StreamBuilder, StreamId};

pub(super) const STREAM_5: u8 = 15;
pub(super) const STREAM_7: u8 = 19;
pub(super) const STREAM_7_2: u8 = 21;
pub(super) const STREAM_8_6: u8 = 26;
pub(super) const STREAM_8_8: u8 = 27;

const BAD: DecodeError = DecodeError::Corrupt("a stream contradicts itself");
/// Nobody knows how many entries a group has read.
const UNKNOWN: u64 = u64::MAX;
/// Such a time there was none.
const NEVER: i64 = -1;

pub(super) fn encode(stream: &Stream, writer: &mut Writer<'_>) {
    let log = stream.log();
    writer.length(log.blocks_len() as u64);
    for (first, pack) in log.blocks() {
        writer.string(&key(first));
        writer.string(pack.as_bytes());
    }
    writer.length(log.len());
    id(writer, log.last_id());
    id(writer, log.first_id());
    id(writer, log.max_deleted_id());
    writer.length(log.entries_added());
    writer.length(stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        writer.string(name);
        id(writer, group.last_id());
        writer.length(group.entries_read().unwrap_or(UNKNOWN));
        writer.length(group.pending_len() as u64);
        for (entry, pending) in group.pending_from(StreamId::MIN) {
            writer.bytes(&key(entry));
            writer.i64(pending.delivered_ms);
            writer.length(pending.deliveries);
        }
        writer.length(group.consumers().len() as u64);
        for consumer in group.consumers() {
            writer.string(consumer.name());
            writer.i64(consumer.seen_ms);
            writer.length(consumer.pending_len() as u64);
            consumer.pending_from(StreamId::MIN).for_each(|entry| writer.bytes(&key(entry)));
        }
    }
}

pub(super) fn decode(type_byte: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Stream, DecodeError> {
    let mut blocks = Vec::new();
    for _ in 0..reader.length()? {
        let first = reader.string(limits.string_bytes_max)?;
        let first = read_key(first.first_chunk().filter(|key| key.len() == first.len()).ok_or(BAD)?);
        let pack = Listpack::from_bytes(&reader.string(limits.string_bytes_max)?);
        blocks.push((first, pack.ok_or(DecodeError::Corrupt("a listpack is damaged"))?));
    }
    let entries = reader.length()?;
    let last = read_id(reader)?;
    let (max_deleted, added) = match type_byte {
        STREAM_5 => (StreamId::MIN, entries),
        _ => {
            // The first entry is the first that lives, whatever stands here.
            read_id(reader)?;
            (read_id(reader)?, reader.length()?)
        }
    };
    let mut builder = StreamBuilder::new(last, max_deleted, added);
    for (first, pack) in blocks {
        builder.block(first, pack).map_err(|_| BAD)?;
    }
    for _ in 0..reader.length()? {
        group(type_byte, reader, limits, &mut builder)?;
    }
    if matches!(type_byte, STREAM_8_6 | STREAM_8_8) {
        skip_idempotence(reader, limits)?;
    }
    let stream = builder.finish().map_err(|_| BAD)?;
    if stream.log().len() == entries { Ok(stream) } else { Err(BAD) }
}

fn group(
    type_byte: u8,
    reader: &mut Reader<'_>,
    limits: &Limits,
    builder: &mut StreamBuilder,
) -> Result<(), DecodeError> {
    let name = reader.string(limits.string_bytes_max)?;
    let last = read_id(reader)?;
    let begun = match type_byte {
        STREAM_5 => builder.group_without_count(&name, last),
        _ => {
            let read = Some(reader.length()?).filter(|read| *read != UNKNOWN);
            builder.group(&name, last, read)
        }
    };
    begun.map_err(|_| BAD)?;
    for _ in 0..reader.length()? {
        let entry = read_key(&reader.array()?);
        let (delivered_ms, deliveries) = (time(reader)?, reader.length()?);
        builder.pending(entry, delivered_ms, deliveries).map_err(|_| BAD)?;
    }
    for _ in 0..reader.length()? {
        let name = reader.string(limits.string_bytes_max)?;
        let seen_ms = time(reader)?;
        let active_ms = match type_byte {
            STREAM_7_2 | STREAM_8_6 | STREAM_8_8 => Some(reader.i64()?).filter(|ms| *ms != NEVER).map(|ms| ms.max(0)),
            _ => Some(seen_ms),
        };
        builder.consumer(&name, seen_ms, active_ms).map_err(|_| BAD)?;
        for _ in 0..reader.length()? {
            builder.owned(read_key(&reader.array()?)).map_err(|_| BAD)?;
        }
    }
    if type_byte == STREAM_8_8 && reader.length()? > 0 {
        return Err(DecodeError::Corrupt("a stream has pending entries that are nobody's (XNACK)"));
    }
    Ok(())
}

fn skip_idempotence(reader: &mut Reader<'_>, limits: &Limits) -> Result<(), DecodeError> {
    read_id(reader)?;
    for _ in 0..reader.length()? {
        reader.string(limits.string_bytes_max)?;
        for _ in 0..reader.length()? {
            reader.string(limits.string_bytes_max)?;
            read_id(reader)?;
        }
    }
    // How long names are kept and how many, above; how many there were, here: numbers in pairs, as ids are.
    read_id(reader)?;
    Ok(())
}

/// A time that others may subtract from theirs.
fn time(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    Ok(reader.i64()?.max(0))
}

fn id(writer: &mut Writer<'_>, id: StreamId) {
    writer.length(id.ms);
    writer.length(id.seq);
}

fn read_id(reader: &mut Reader<'_>) -> Result<StreamId, DecodeError> {
    Ok(StreamId::new(reader.length()?, reader.length()?))
}

fn key(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

fn read_key(bytes: &[u8; 16]) -> StreamId {
    let number = u128::from_be_bytes(*bytes);
    StreamId::new((number >> 64) as u64, number as u64)
}
