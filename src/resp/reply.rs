//! The reply writer: typed answers become bytes of the client's protocol version.
//!
//! ```text
//!   buf     +OK\r\n $100000\r\n ┊ \r\n :1\r\n         small things, written one behind the other
//!                               ┊
//!   blobs                 at 14: [ Arc<Vec<u8>> ]     large values, sent from where they are stored
//!   streams               at …:  [ dyn Pieces ]       long aggregates, encoded piece by piece while they are sent
//! ```
//!
//! A handler writes into the reply of the connection it serves, or, on another core, into one that travels back and is
//! appended there; blobs move by reference. [`Reply::chunks`] gives bytes and blobs in the order of the wire, for a
//! vectored send. A reply of a hundred thousand elements is not encoded by its handler, which would keep its core from everybody
//! else and hold all of it in memory: the handler leaves a [`Pieces`] over a snapshot of the value, and whoever sends asks it for
//! so many bytes as the socket takes ([`Reply::take_sendable`]).
//!
//! Invariants:
//! - positions of blobs and streams never decrease and lie within `buf`; no blob has the position of a stream, since bytes of
//!   `buf` lie between any two of them;
//! - no line break inside an error or a simple string reaches the wire, whatever its text holds: a client could take the
//!   rest for a reply of its own (CVE-2025-67733 is this mistake);
//! - deferred headers are finished innermost first, before the reply is sent.
//!
//! Absent on purpose: checks that as many elements follow as a header promised (the handler knows), output limits (the
//! session's), and the order of replies in a pipeline.

use super::error::{CommandError, ProtocolError};
use crate::base::float::push_f64_shortest;
use crate::base::num::push_i64;
use crate::base::{BLOB_BYTES_MIN, Blob};

/// The protocol version of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Resp {
    /// RESP2: every client speaks it; maps are flat arrays, doubles are strings, two kinds of nil.
    #[default]
    V2,
    /// RESP3, after `HELLO 3`.
    V3,
}

/// What writes a part of a reply when its time has come. Runs on the core that sends, so it owns all that it reads.
pub trait Pieces: Send {
    /// Appends the next elements, about `bytes_max` bytes at most; false if these were the last. A call may append nothing: it has
    /// worked for a while on what is to come. The aggregate's header has been written, for as many elements as all calls together
    /// append, or is what they append first.
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool;
}

/// A stream and the offset in the buffer in front of which it belongs.
type StreamAt = (usize, Box<dyn Pieces>);

/// Bytes of a stream that are encoded and sent at a time: enough for a send to be worth its price, little enough for the other
/// clients of the core not to notice.
const PIECE_BYTES: usize = 64 * 1024;

/// Replies on their way to one client.
#[derive(Default)]
pub struct Reply {
    buf: Vec<u8>,
    /// See [`Pieces`].
    streams: Vec<StreamAt>,
    /// Blobs and the offset in `buf` in front of which each belongs.
    blobs: Vec<(usize, Blob)>,
    /// Bytes of all blobs.
    blob_bytes: usize,
    /// Deferred headers that are not finished.
    deferred: usize,
    proto: Resp,
}

/// A place between two replies, to go back to or to copy from. Valid until something in front of it is taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    buf: usize,
    blobs: usize,
    streams: usize,
    deferred: usize,
}

impl Mark {
    /// The place `bytes` further on, where no blob lies between.
    pub fn behind(self, bytes: usize) -> Mark {
        Mark { buf: self.buf + bytes, ..self }
    }
}

/// A header whose number is not known yet; [`Reply::finish`] wants it back.
#[derive(Debug)]
#[must_use = "a deferred header must be finished, or the reply is not RESP"]
pub struct Deferred {
    at: usize,
    blobs: usize,
    depth: usize,
    kind: Aggregate,
}

/// Bytes to send as they are.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The blob that the bytes are a part of: whoever sends after the reply is gone holds on to it.
    pub blob: Option<&'a Blob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Array,
    Map,
    Set,
}

/// The header of nothing that a deferred one begins as.
const EMPTY_HEADER: &[u8] = b"*0\r\n";

impl Reply {
    /// An empty reply in RESP2, without memory.
    pub fn new() -> Reply {
        Reply::default()
    }

    /// An empty reply in the given version.
    pub fn with_proto(proto: Resp) -> Reply {
        Reply { proto, ..Reply::default() }
    }

    /// The version that is written from now on.
    pub fn set_proto(&mut self, proto: Resp) {
        self.proto = proto;
    }

    /// Makes room for so many more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.buf.reserve(bytes);
    }

    /// The version that is being written.
    pub fn proto(&self) -> Resp {
        self.proto
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.buf.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string, `+…`. Line breaks become spaces.
    pub fn simple(&mut self, text: &str) {
        self.buf.push(b'+');
        self.one_line(|buf| buf.extend_from_slice(text.as_bytes()));
    }

    /// `-` and the error's text. Line breaks become spaces.
    pub fn error(&mut self, error: &CommandError) {
        self.buf.push(b'-');
        self.one_line(|buf| error.append_to(buf));
    }

    /// `-` and a text that begins with its code, which need not be UTF-8: what a script or another server said. Line
    /// breaks become spaces.
    pub fn error_text(&mut self, text: &[u8]) {
        self.buf.push(b'-');
        self.one_line(|buf| buf.extend_from_slice(text));
    }

    /// The last words to a client that does not speak RESP.
    pub fn protocol_error(&mut self, error: &ProtocolError) {
        self.buf.extend_from_slice(b"-ERR ");
        self.one_line(|buf| error.append_to(buf));
    }

    /// An integer, `:…`
    #[inline]
    pub fn int(&mut self, n: i64) {
        match n {
            // The answers of EXISTS, EXPIRE, HSET…
            0 => self.buf.extend_from_slice(b":0\r\n"),
            1 => self.buf.extend_from_slice(b":1\r\n"),
            _ => {
                self.buf.push(b':');
                push_i64(&mut self.buf, n);
                self.buf.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A bulk string, copied.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.buf.reserve(bytes.len() + 24);
        self.header(b'$', bytes.len());
        self.buf.extend_from_slice(bytes);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A bulk string, by reference when it is [`BLOB_BYTES_MIN`] or longer.
    pub fn blob(&mut self, blob: &Blob) {
        if blob.len() < BLOB_BYTES_MIN {
            return self.bulk(blob);
        }
        self.header(b'$', blob.len());
        self.blobs.push((self.buf.len(), Blob::clone(blob)));
        self.blob_bytes += blob.len();
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string: what GET answers for a counter.
    pub fn bulk_int(&mut self, n: i64) {
        let mut digits = Vec::with_capacity(20);
        push_i64(&mut digits, n);
        self.bulk(&digits);
    }

    /// Nothing: `$-1` in RESP2, `_` in RESP3.
    #[inline]
    pub fn null(&mut self) {
        self.buf.extend_from_slice(match self.proto {
            Resp::V2 => b"$-1\r\n",
            Resp::V3 => b"_\r\n",
        });
    }

    /// Nothing where an array was asked for: `*-1` in RESP2, `_` in RESP3.
    #[inline]
    pub fn null_array(&mut self) {
        self.buf.extend_from_slice(match self.proto {
            Resp::V2 => b"*-1\r\n",
            Resp::V3 => b"_\r\n",
        });
    }

    /// The header of an array; `n` replies must follow.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n);
    }

    /// The header of a map; `2 * n` replies must follow. An array in RESP2.
    pub fn map(&mut self, n: usize) {
        let (tag, n) = Aggregate::Map.header(self.proto, n);
        self.header(tag, n);
    }

    /// The header of a set; `n` replies must follow. An array in RESP2.
    pub fn set(&mut self, n: usize) {
        let (tag, n) = Aggregate::Set.header(self.proto, n);
        self.header(tag, n);
    }

    /// The header of a message that is no answer (pub/sub, invalidation); `n` replies must follow. An array in RESP2.
    pub fn push(&mut self, n: usize) {
        let tag = if self.proto == Resp::V3 { b'>' } else { b'*' };
        self.header(tag, n);
    }

    /// The header of an attribute, in RESP3; `2 * n` replies and then the one it describes must follow. RESP2 has none:
    /// then nothing is written, the answer is false, and only the described reply may follow.
    #[must_use = "in RESP2 the attribute's pairs must not be written"]
    pub fn attribute(&mut self, n: usize) -> bool {
        if self.proto == Resp::V3 {
            self.header(b'|', n);
        }
        self.proto == Resp::V3
    }

    /// A floating point number in its shortest form: `,…` in RESP3, a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        match self.proto {
            Resp::V3 => {
                self.buf.push(b',');
                push_f64_shortest(&mut self.buf, value);
                self.buf.extend_from_slice(b"\r\n");
            }
            Resp::V2 => {
                let mut text = Vec::with_capacity(24);
                push_f64_shortest(&mut text, value);
                self.bulk(&text);
            }
        }
    }

    /// A truth value: `#t` and `#f` in RESP3, 1 and 0 in RESP2.
    pub fn bool(&mut self, value: bool) {
        self.buf.extend_from_slice(match (self.proto, value) {
            (Resp::V2, false) => b":0\r\n",
            (Resp::V2, true) => b":1\r\n",
            (Resp::V3, false) => b"#f\r\n",
            (Resp::V3, true) => b"#t\r\n",
        });
    }

    /// A text for people, with its format in three letters (`txt`, `mkd`): `=…` in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        assert_eq!(format.len(), 3, "a verbatim string's format has three letters");
        if self.proto == Resp::V2 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() + 4);
        self.buf.extend_from_slice(format.as_bytes());
        self.buf.push(b':');
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An integer of any size, in decimal: `(…` in RESP3, a bulk string in RESP2.
    pub fn big_number(&mut self, decimal: &str) {
        if self.proto == Resp::V2 {
            return self.bulk(decimal.as_bytes());
        }
        self.buf.push(b'(');
        self.one_line(|buf| buf.extend_from_slice(decimal.as_bytes()));
    }

    /// The header of an array whose length is known later.
    pub fn deferred_array(&mut self) -> Deferred {
        self.defer(Aggregate::Array)
    }

    /// The header of a map whose number of pairs is known later.
    pub fn deferred_map(&mut self) -> Deferred {
        self.defer(Aggregate::Map)
    }

    /// The header of a set whose length is known later.
    pub fn deferred_set(&mut self) -> Deferred {
        self.defer(Aggregate::Set)
    }

    /// Writes the number into a deferred header: elements, or pairs of a map. Panics when an inner one is not finished.
    ///
    /// The header grows in place, so from ten elements on what was written behind it moves by a few bytes: once per
    /// deferred array, at memory speed, which is cheaper than one more piece in the send.
    pub fn finish(&mut self, header: Deferred, n: usize) {
        assert_eq!(header.depth, self.deferred, "deferred headers are finished innermost first");
        self.deferred -= 1;
        let (tag, n) = header.kind.header(self.proto, n);
        let mut text = Vec::with_capacity(24);
        push_header(&mut text, tag, n);
        let grown = text.len() - EMPTY_HEADER.len();
        self.buf.splice(header.at..header.at + EMPTY_HEADER.len(), text);
        for (at, _) in &mut self.blobs[header.blobs..] {
            *at += grown;
        }
    }

    /// Replies that are already encoded in this version.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Appends another reply, whole, and empties it. Takes over its memory when there is nothing here yet.
    pub fn append(&mut self, other: &mut Reply) {
        assert_eq!(other.deferred, 0, "a reply travels when it is finished");
        if self.is_empty() && self.deferred == 0 && self.buf.capacity() < other.buf.len() {
            std::mem::swap(&mut self.buf, &mut other.buf);
            std::mem::swap(&mut self.blobs, &mut other.blobs);
            std::mem::swap(&mut self.streams, &mut other.streams);
            self.blob_bytes = other.blob_bytes;
        } else {
            let base = self.buf.len();
            self.buf.extend_from_slice(&other.buf);
            self.blobs.extend(other.blobs.drain(..).map(|(at, blob)| (base + at, blob)));
            self.streams.extend(other.streams.drain(..).map(|(at, stream)| (base + at, stream)));
            self.blob_bytes += other.blob_bytes;
        }
        other.clear();
    }

    /// Appends what another reply holds between two marks: one command's answer out of a batch. Streams are moved, so a range is
    /// to be taken once, and ranges in their order.
    pub fn append_range(&mut self, other: &mut Reply, from: Mark, to: Mark) {
        assert!(from.deferred == to.deferred, "a range holds finished replies");
        let base = self.buf.len();
        self.buf.extend_from_slice(&other.buf[from.buf..to.buf]);
        for (at, blob) in &other.blobs[from.blobs..to.blobs] {
            self.blobs.push((base + at - from.buf, Blob::clone(blob)));
            self.blob_bytes += blob.len();
        }
        for (at, stream) in &mut other.streams[from.streams..to.streams] {
            self.streams.push((base + *at - from.buf, std::mem::replace(stream, Box::new(Taken))));
        }
    }

    /// Appends a copy of another reply, which has no streams; its blobs are shared.
    pub fn append_copy(&mut self, other: &Reply) {
        assert!(other.streams.is_empty() && other.deferred == 0, "what is sent to many is whole");
        let base = self.buf.len();
        self.buf.extend_from_slice(&other.buf);
        self.blobs.extend(other.blobs.iter().map(|(at, blob)| (base + at, Blob::clone(blob))));
        self.blob_bytes += other.blob_bytes;
    }

    /// Leaves the rest of the reply's last aggregate to `pieces`.
    pub fn stream(&mut self, pieces: Box<dyn Pieces>) {
        self.streams.push((self.buf.len(), pieces));
    }

    /// Encodes all that was left to streams, for readers who want the reply as a whole.
    pub fn materialize(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let mut whole = Reply::with_proto(self.proto);
        while !self.is_empty() {
            let (bytes, blobs) = self.take_sendable();
            let base = whole.buf.len();
            whole.buf.extend_from_slice(&bytes);
            whole.blob_bytes += blobs.iter().map(|(_, blob)| blob.len()).sum::<usize>();
            whole.blobs.extend(blobs.into_iter().map(|(at, blob)| (base + at, blob)));
        }
        *self = whole;
    }

    /// The present end.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { buf: self.buf.len(), blobs: self.blobs.len(), streams: self.streams.len(), deferred: self.deferred }
    }

    /// Takes back what was written behind the mark, deferred headers included: the handler failed half-way.
    pub fn truncate(&mut self, mark: Mark) {
        assert!(mark.buf <= self.buf.len() && mark.blobs <= self.blobs.len(), "a mark of this reply");
        self.buf.truncate(mark.buf);
        self.blob_bytes -= self.blobs.drain(mark.blobs..).map(|(_, blob)| blob.len()).sum::<usize>();
        self.streams.truncate(mark.streams);
        self.deferred = mark.deferred;
    }

    /// Forgets everything and keeps the memory. The version stays.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.blobs.clear();
        self.streams.clear();
        self.blob_bytes = 0;
        self.deferred = 0;
    }

    /// Moves everything out, memory included. The version stays.
    pub fn take(&mut self) -> Reply {
        let proto = self.proto;
        std::mem::replace(self, Reply::with_proto(proto))
    }

    /// Moves out what can be sent next: bytes, and blobs with their positions in them. That is everything if there are no
    /// streams; otherwise what lies before the first, or a piece of it. The version stays.
    pub fn take_sendable(&mut self) -> (Vec<u8>, Vec<(usize, Blob)>) {
        debug_assert_eq!(self.deferred, 0, "a reply is sent when it is finished");
        if !self.streams.is_empty() {
            return self.take_before_stream();
        }
        self.blob_bytes = 0;
        (std::mem::take(&mut self.buf), std::mem::take(&mut self.blobs))
    }

    #[cold]
    fn take_before_stream(&mut self) -> (Vec<u8>, Vec<(usize, Blob)>) {
        let (at, stream) = &mut self.streams[0];
        if *at == 0 {
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
            if !stream.append_next(&mut piece, PIECE_BYTES) {
                self.streams.remove(0);
            }
            return (piece, Vec::new());
        }
        let at = *at;
        let rest = self.buf.split_off(at);
        let bytes = std::mem::replace(&mut self.buf, rest);
        let rest = self.blobs.split_off(self.blobs.partition_point(|(blob_at, _)| *blob_at < at));
        let blobs = std::mem::replace(&mut self.blobs, rest);
        self.blob_bytes -= blobs.iter().map(|(_, blob)| blob.len()).sum::<usize>();
        self.blobs.iter_mut().for_each(|(blob_at, _)| *blob_at -= at);
        self.streams.iter_mut().for_each(|(stream_at, _)| *stream_at -= at);
        (bytes, blobs)
    }

    /// Takes an empty buffer back into use, if nothing was written meanwhile.
    #[inline]
    pub fn reuse(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty());
        if self.buf.capacity() == 0 {
            self.buf = buffer;
        }
    }

    /// The bytes between two marks, without blobs: enough to see what kind of reply is there.
    pub fn bytes_between(&self, from: Mark, to: Mark) -> &[u8] {
        &self.buf[from.buf..to.buf]
    }

    /// Gives back memory beyond `bytes_max` of an empty reply, for a connection that goes idle after a large answer.
    pub fn shrink_to(&mut self, bytes_max: usize) {
        self.buf.shrink_to(bytes_max);
        self.blobs.shrink_to(bytes_max / size_of::<(usize, Blob)>());
    }

    /// Empties it, and gives memory beyond `bytes_max` back.
    pub fn shrink_after_use(&mut self, bytes_max: usize) {
        self.clear();
        if self.allocated_bytes() > bytes_max {
            self.shrink_to(bytes_max);
        }
    }

    /// Whether nothing was written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty() && self.streams.is_empty()
    }

    /// Bytes that were copied here: all but blobs.
    #[inline]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Bytes that will be sent. What streams will encode is not counted: nobody knows, and it takes no memory before.
    #[inline]
    pub fn total_bytes(&self) -> usize {
        self.buf.len() + self.blob_bytes
    }

    /// Memory held for this reply alone, in bytes: blobs belong to the keyspace as well and are not counted.
    pub fn allocated_bytes(&self) -> usize {
        self.buf.capacity() + self.blobs.capacity() * size_of::<(usize, Blob)>()
    }

    /// The reply when it has no blobs, as most have none: one plain send.
    #[inline]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        (self.blobs.is_empty() && self.streams.is_empty()).then_some(&self.buf)
    }

    /// Everything in the order of the wire. No chunk is empty.
    pub fn chunks(&self) -> Chunks<'_> {
        self.chunks_from(0)
    }

    /// What is left to send when `sent` bytes went out. No chunk is empty.
    pub fn chunks_from(&self, sent: usize) -> Chunks<'_> {
        debug_assert!(self.streams.is_empty(), "a reply with streams is sent by pieces");
        debug_assert_eq!(self.deferred, 0, "a reply is sent when it is finished");
        Chunks { reply: self, buf_at: 0, next_blob: 0, skip: sent }
    }

    /// The whole reply as it goes over the wire, copied: for tests, logs and scripts.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.total_bytes());
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk.bytes));
        bytes
    }

    #[inline]
    fn header(&mut self, tag: u8, n: usize) {
        push_header(&mut self.buf, tag, n);
    }

    fn defer(&mut self, kind: Aggregate) -> Deferred {
        self.deferred += 1;
        let header = Deferred { at: self.buf.len(), blobs: self.blobs.len(), depth: self.deferred, kind };
        self.buf.extend_from_slice(EMPTY_HEADER);
        header
    }

    /// Ends the line whose text `write` appends, after making it one line.
    fn one_line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buf.len();
        write(&mut self.buf);
        for byte in &mut self.buf[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.buf.extend_from_slice(b"\r\n");
    }
}

impl Aggregate {
    fn header(self, proto: Resp, n: usize) -> (u8, usize) {
        match (self, proto) {
            (Aggregate::Array, _) | (Aggregate::Set, Resp::V2) => (b'*', n),
            (Aggregate::Map, Resp::V2) => (b'*', n * 2),
            (Aggregate::Map, Resp::V3) => (b'%', n),
            (Aggregate::Set, Resp::V3) => (b'~', n),
        }
    }
}

/// A bulk string, for [`Pieces`] that write one element behind the other.
#[inline]
pub fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// `tag`, a number, and the end of the line.
#[inline]
fn push_header(buf: &mut Vec<u8>, tag: u8, n: usize) {
    if n < 10 {
        buf.extend_from_slice(&[tag, b'0' + n as u8, b'\r', b'\n']);
    } else if n < 100 {
        buf.extend_from_slice(&[tag, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
    } else {
        buf.push(tag);
        push_i64(buf, n as i64);
        buf.extend_from_slice(b"\r\n");
    }
}

/// What is left in the place of a stream that was moved elsewhere.
struct Taken;

impl Pieces for Taken {
    fn append_next(&mut self, _: &mut Vec<u8>, _: usize) -> bool {
        unreachable!("a stream is moved out of a batch with its reply, once")
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.buf.escape_ascii())?;
        write!(f, " with {} blobs and {} streams", self.blobs.len(), self.streams.len())
    }
}

/// See [`Reply::chunks`].
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    reply: &'a Reply,
    buf_at: usize,
    next_blob: usize,
    /// Bytes of the front that were sent before.
    skip: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        loop {
            let Reply { buf, blobs, .. } = self.reply;
            let next_blob = blobs.get(self.next_blob);
            let until = next_blob.map_or(buf.len(), |(at, _)| *at);
            let (bytes, blob) = if self.buf_at < until {
                (&buf[self.buf_at..until], None)
            } else {
                let (_, blob) = next_blob?;
                self.next_blob += 1;
                (&blob[..], Some(blob))
            };
            if blob.is_none() {
                self.buf_at = until;
            }
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            if skipped < bytes.len() {
                return Some(Chunk { bytes: &bytes[skipped..], blob });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    /// What both versions write.
    #[track_caller]
    fn check(write: impl Fn(&mut Reply), v2: &str, v3: &str) {
        for (proto, expected) in [(Resp::V2, v2), (Resp::V3, v3)] {
            let mut reply = Reply::with_proto(proto);
            write(&mut reply);
            assert_eq!(reply.to_vec().escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        }
    }

    #[test]
    fn each_type_is_written_in_the_clients_version() {
        check(|r| r.ok(), "+OK\r\n", "+OK\r\n");
        check(|r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n");
        check(|r| r.error(&CommandError::Syntax), "-ERR syntax error\r\n", "-ERR syntax error\r\n");
        for n in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            check(|r| r.int(n), &format!(":{n}\r\n"), &format!(":{n}\r\n"));
            let text = n.to_string();
            let bulk = format!("${}\r\n{text}\r\n", text.len());
            check(|r| r.bulk_int(n), &bulk, &bulk);
        }
        check(|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n");
        check(|r| r.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n");
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.array(0), "*0\r\n", "*0\r\n");
        check(|r| r.array(12), "*12\r\n", "*12\r\n");
        check(|r| r.array(123_456), "*123456\r\n", "*123456\r\n");
        check(|r| r.map(7), "*14\r\n", "%7\r\n");
        check(|r| r.set(3), "*3\r\n", "~3\r\n");
        check(|r| r.push(3), "*3\r\n", ">3\r\n");
        check(|r| r.bool(true), ":1\r\n", "#t\r\n");
        check(|r| r.bool(false), ":0\r\n", "#f\r\n");
        check(|r| r.verbatim("txt", b"Some text"), "$9\r\nSome text\r\n", "=13\r\ntxt:Some text\r\n");
        let big = "1234567999999999999999999999999999999";
        check(|r| r.big_number(big), &format!("$37\r\n{big}\r\n"), &format!("({big}\r\n"));
        check(
            |r| {
                if r.attribute(1) {
                    r.simple("key-popularity");
                    r.int(5);
                }
                r.ok();
            },
            "+OK\r\n",
            "|1\r\n+key-popularity\r\n:5\r\n+OK\r\n",
        );
    }

    #[test]
    fn doubles_are_short_and_infinities_have_names() {
        check(|r| r.double(3.25), "$4\r\n3.25\r\n", ",3.25\r\n");
        check(|r| r.double(10.0), "$2\r\n10\r\n", ",10\r\n");
        check(|r| r.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
        check(|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(|r| r.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    }

    #[test]
    fn no_line_break_of_an_errors_text_reaches_the_wire() {
        let check = |write: &dyn Fn(&mut Reply), expected: &str| {
            let mut reply = Reply::new();
            write(&mut reply);
            assert_eq!(reply.to_vec().escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        };
        check(&|r| r.error_text(b"ERR x\r\n+OK\r\n"), "-ERR x  +OK  \r\n");
        check(&|r| r.error(&CommandError::Message("ERR a\nb".into())), "-ERR a b\r\n");
        check(&|r| r.simple("a\r\nb"), "+a  b\r\n");
        check(
            &|r| r.protocol_error(&ProtocolError::ExpectedDollar(b'\n')),
            "-ERR Protocol error: expected '$', got ' '\r\n",
        );
        let args = OwnedArgs::from_slices(&[&b"fo\r\no"[..], b"\r\n:1\r\n"]);
        check(
            &|r| r.error(&CommandError::unknown_command(args.as_args())),
            "-ERR unknown command 'fo  o', with args beginning with: '  :1  ' \r\n",
        );
    }

    #[test]
    fn large_values_go_out_by_reference() {
        let large = Blob::new(vec![b'x'; BLOB_BYTES_MIN]);
        let small = Blob::new(vec![b'y'; BLOB_BYTES_MIN - 1]);
        let mut reply = Reply::new();
        reply.array(3);
        reply.blob(&large);
        reply.blob(&small);
        reply.blob(&large);
        assert_eq!(Blob::strong_count(&large), 3);
        assert_eq!(Blob::strong_count(&small), 1);
        assert!(reply.as_bytes().is_none());
        let mut copied = Reply::new();
        copied.array(3);
        [&large, &small, &large].iter().for_each(|blob| copied.bulk(blob));
        assert_eq!(reply.to_vec(), copied.to_vec());
        assert_eq!(reply.total_bytes(), copied.len());
        assert!(reply.len() < copied.len() - 2 * BLOB_BYTES_MIN + 1);
        assert_eq!(reply.chunks().filter(|chunk| chunk.blob.is_some()).count(), 2);
        assert!(reply.chunks().all(|chunk| !chunk.bytes.is_empty()));
    }

    #[test]
    fn a_short_send_goes_on_where_it_stopped() {
        let mut reply = Reply::new();
        let blob = Blob::new((0..BLOB_BYTES_MIN).map(|i| (i % 251) as u8).collect());
        reply.blob(&blob);
        reply.int(7);
        reply.blob(&blob);
        let whole = reply.to_vec();
        for sent in [0, 1, 7, 8, 9, BLOB_BYTES_MIN, BLOB_BYTES_MIN + 8, whole.len() - 3, whole.len() - 1, whole.len()] {
            let rest: Vec<u8> = reply.chunks_from(sent).flat_map(|chunk| chunk.bytes).copied().collect();
            assert_eq!(rest, whole[sent..], "{sent}");
        }
    }

    #[test]
    fn a_deferred_header_gets_its_number_later() {
        for n in [0, 1, 9, 10, 99, 100, 12_345] {
            let mut reply = Reply::with_proto(Resp::V3);
            let blob = Blob::new(vec![b'z'; BLOB_BYTES_MIN]);
            reply.blob(&blob);
            let outer = reply.deferred_array();
            reply.blob(&blob);
            let inner = reply.deferred_map();
            reply.blob(&blob);
            reply.int(5);
            reply.finish(inner, n);
            reply.blob(&blob);
            reply.finish(outer, n + 1);
            let bulk = format!("${}\r\n{}\r\n", BLOB_BYTES_MIN, "z".repeat(BLOB_BYTES_MIN));
            let expected = format!("{bulk}*{}\r\n{bulk}%{n}\r\n{bulk}:5\r\n{bulk}", n + 1);
            assert!(reply.to_vec() == expected.as_bytes(), "{n}");
        }
    }

    #[test]
    #[should_panic(expected = "innermost first")]
    fn deferred_headers_do_not_cross() {
        let mut reply = Reply::new();
        let outer = reply.deferred_array();
        let _inner = reply.deferred_array();
        reply.finish(outer, 1);
    }

    #[test]
    fn a_failed_handler_leaves_no_trace() {
        let blob = Blob::new(vec![b'x'; BLOB_BYTES_MIN]);
        let mut reply = Reply::new();
        reply.blob(&blob);
        let before = reply.to_vec();
        let mark = reply.mark();
        let _never_finished = reply.deferred_array();
        reply.blob(&blob);
        reply.int(1);
        reply.truncate(mark);
        assert_eq!(reply.to_vec(), before);
        assert_eq!(reply.total_bytes(), before.len());
        assert_eq!(Blob::strong_count(&blob), 2);
        let list = reply.deferred_array();
        reply.finish(list, 0);
        assert_eq!(reply.to_vec(), [&before[..], b"*0\r\n"].concat());
    }

    #[test]
    fn replies_of_several_cores_are_joined_in_request_order() {
        let blob = Blob::new(vec![b'x'; BLOB_BYTES_MIN]);
        let (mut here, mut there) = (Reply::new(), Reply::new());
        let mut marks = vec![there.mark()];
        for n in 0..4 {
            there.int(n);
            if n % 2 == 1 {
                there.blob(&blob);
            }
            marks.push(there.mark());
        }
        here.ok();
        here.blob(&blob);
        for n in [3, 0, 1] {
            here.append_range(&mut there, marks[n], marks[n + 1]);
            here.ok();
        }
        let mut expected = Reply::new();
        expected.ok();
        expected.bulk(&blob);
        for n in [3, 0, 1] {
            expected.int(n);
            if n % 2 == 1 {
                expected.bulk(&blob);
            }
            expected.ok();
        }
        assert!(here.to_vec() == expected.to_vec());
        assert_eq!(here.total_bytes(), expected.total_bytes());

        let (a, b) = (here.to_vec(), there.to_vec());
        here.append(&mut there);
        assert!(there.is_empty() && there.total_bytes() == 0);
        assert!(here.to_vec() == [&a[..], &b].concat());
        let mut empty = Reply::new();
        empty.append(&mut here);
        assert!(empty.to_vec() == [&a[..], &b].concat());
        assert_eq!(empty.total_bytes(), a.len() + b.len());
        assert!(here.is_empty());
    }

    #[test]
    fn clear_keeps_memory_and_take_moves_it() {
        let mut reply = Reply::with_proto(Resp::V3);
        reply.bulk(&[1; 500]);
        let capacity = reply.buf.capacity();
        reply.clear();
        assert_eq!(reply.buf.capacity(), capacity);
        reply.null();
        let taken = reply.take();
        assert_eq!(taken.to_vec(), b"_\r\n");
        assert_eq!(reply.buf.capacity(), 0);
        assert_eq!(reply.proto(), Resp::V3);
        reply.clear();
        reply.bulk(&[1; 5000]);
        reply.clear();
        reply.shrink_to(64);
        assert!(reply.allocated_bytes() < 5000);
    }

    /// Elements `next..end` as bulks, three at a time whatever is asked for.
    struct Counting {
        next: u32,
        end: u32,
    }

    impl Pieces for Counting {
        fn append_next(&mut self, out: &mut Vec<u8>, _: usize) -> bool {
            for _ in 0..3.min(self.end - self.next) {
                out.extend_from_slice(format!(":{}\r\n", self.next).as_bytes());
                self.next += 1;
            }
            self.next < self.end
        }
    }

    #[test]
    fn streams_are_sent_in_their_place_by_pieces() {
        let numbers = |from: u32, to: u32| (from..to).map(|n| format!(":{n}\r\n")).collect::<String>();
        let write = |reply: &mut Reply| {
            reply.ok();
            reply.blob(&Blob::new(vec![b'x'; BLOB_BYTES_MIN]));
            reply.array(10);
            reply.stream(Box::new(Counting { next: 0, end: 10 }));
            reply.array(4);
            reply.stream(Box::new(Counting { next: 10, end: 14 }));
            reply.int(7);
            reply.blob(&Blob::new(vec![b'y'; BLOB_BYTES_MIN]));
        };
        let expected = format!(
            "+OK\r\n${n}\r\n{}\r\n*10\r\n{}*4\r\n{}:7\r\n${n}\r\n{}\r\n",
            "x".repeat(BLOB_BYTES_MIN),
            numbers(0, 10),
            numbers(10, 14),
            "y".repeat(BLOB_BYTES_MIN),
            n = BLOB_BYTES_MIN,
        );
        let mut reply = Reply::new();
        write(&mut reply);
        let mut sent = Reply::new();
        let mut pieces = 0;
        while !reply.is_empty() {
            let (buf, blobs) = reply.take_sendable();
            pieces += 1;
            sent.append(&mut Reply { buf, blobs, ..Reply::default() });
        }
        assert_eq!(String::from_utf8(sent.to_vec()).unwrap(), expected);
        assert_eq!(pieces, 1 + 4 + 1 + 2 + 1);

        // The same through another core's reply, and as a whole.
        let mut there = Reply::new();
        let start = there.mark();
        write(&mut there);
        let end = there.mark();
        let mut here = Reply::new();
        here.append_range(&mut there, start, end);
        let mark = here.mark();
        write(&mut here);
        here.truncate(mark);
        here.materialize();
        assert_eq!(String::from_utf8(here.to_vec()).unwrap(), expected);
    }
}
