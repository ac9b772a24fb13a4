//! Replies of one connection that wait for other shards, and how they are put back into request order.
//!
//! A read that touches other shards becomes one [`PendingBatch`]: a list of routes in request order, and a source per shard
//! (this one included) that holds the replies of the commands which went there, in the order in which they were sent.
//!
//! ```text
//!   GET a   MGET b c   PING   GET d          a, c, d on shard 1; b on shard 0 = here
//!   routes   One(1)  Split(Elements, 2) One(0) One(1)  One(0)  One(1)
//!   source 0 (here)     b, PING
//!   source 1            a, c, d              one message there, one back
//! ```
//!
//! When every source is complete and the batch is the oldest, the routes are walked once and each takes the next reply of
//! its source. Invariant: a source yields exactly as many replies as routes name it.

use crate::resp::{Mark, Reply, Resp};

/// How the parts of a split command become one reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merge {
    /// Each part is an array of one element; the reply is the array of all (MGET).
    Elements,
    /// Each part is an integer; the reply is their sum (DEL, EXISTS).
    Sum,
    /// Each part is `OK`; so is the reply (MSET).
    AllOk,
}

/// The way of one command's reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The next reply of this source.
    One(u16),
    /// The next reply of this source, which the client does not want to see (CLIENT REPLY).
    Silent(u16),
    /// The next so many routes are parts of one command.
    Split {
        /// How they are joined.
        merge: Merge,
        /// How many parts follow.
        parts: u32,
        /// The client's protocol.
        proto: Resp,
        /// Whether the client wants to see it.
        silent: bool,
    },
}

/// Replies from one shard, in the order of the commands that were sent there.
#[derive(Default)]
pub struct Source {
    /// Encoded replies.
    pub reply: Reply,
    /// Where each ends in `reply`.
    pub ends: Vec<Mark>,
    next: usize,
}

impl Source {
    /// These replies, which end there.
    pub fn new(reply: Reply, ends: Vec<Mark>) -> Source {
        Source { reply, ends, next: 0 }
    }

    /// The next reply's extent.
    fn advance(&mut self) -> (Mark, Mark) {
        let start = if self.next == 0 { Mark::default() } else { self.ends[self.next - 1] };
        let end = self.ends[self.next];
        self.next += 1;
        (start, end)
    }

    /// Empties it for another batch.
    pub fn clear(&mut self) {
        self.reply.clear();
        self.ends.clear();
        self.next = 0;
    }
}

/// Something that stands between earlier replies and later ones.
pub enum Pending {
    /// Commands on their way to shards and back.
    Batch(PendingBatch),
    /// A plan; its reply is written here when it is done. What comes behind it waits unparsed.
    Plan(Option<Reply>),
    /// Messages that are to follow what was pending when they came.
    Message(Reply),
}

impl Pending {
    /// Whether nothing more is awaited.
    pub fn ready(&self) -> bool {
        match self {
            Pending::Batch(b) => b.is_complete(),
            Pending::Plan(reply) => reply.is_some(),
            Pending::Message(_) => true,
        }
    }

    /// A message, in the protocol that it is encoded in.
    pub fn message(frame: &Reply) -> Pending {
        let mut message = Reply::default();
        message.append_copy(frame);
        Pending::Message(message)
    }

    /// Bytes of what was sent to other shards and has not come back.
    pub fn bytes_away(&self) -> usize {
        match self {
            Pending::Batch(b) if b.outstanding > 0 => b.sent_bytes,
            _ => 0,
        }
    }

    /// Bytes of replies held.
    pub fn bytes(&self) -> usize {
        match self {
            Pending::Batch(b) => b.sources.iter().map(|s| s.reply.total_bytes()).sum(),
            Pending::Plan(reply) => reply.as_ref().map_or(0, Reply::total_bytes),
            Pending::Message(messages) => messages.total_bytes(),
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct PendingBatch {
    /// The session's number for it.
    pub seq: u64,
    /// In request order.
    pub routes: Vec<Route>,
    /// By source number; source 0 is this shard.
    pub sources: Vec<Source>,
    /// Messages that have not come back.
    pub outstanding: u16,
    /// Shards that have yet to acknowledge invalidations (`tracking`). Below zero when one has done so before the message has come back
    /// that counts it.
    pub fences: i64,
    /// Bytes of arguments that were sent to other shards.
    pub sent_bytes: usize,
}

/// Reply buffers larger than this are not kept for the next batch. Bytes.
const KEPT_BYTES_MAX: usize = 16 * 1024;

impl PendingBatch {
    /// Whether all replies are here and may leave.
    pub fn is_complete(&self) -> bool {
        self.outstanding == 0 && self.fences == 0
    }

    /// Empties it for another batch; false if its buffers grew too large to be kept.
    pub fn clear(&mut self) -> bool {
        self.routes.clear();
        self.sources.iter_mut().for_each(Source::clear);
        self.outstanding = 0;
        self.fences = 0;
        self.sent_bytes = 0;
        self.routes.capacity() <= 2048 && self.sources.iter().all(|s| s.reply.allocated_bytes() <= KEPT_BYTES_MAX)
    }

    /// Writes all replies in request order. `error` is told the code of an error that came out of joining parts.
    pub fn assemble(&mut self, out: &mut Reply) {
        debug_assert_eq!(self.outstanding, 0);
        let mut routes = self.routes.iter();
        // Neighbours from one source are copied in one piece.
        let mut run: Option<(u16, Mark, Mark)> = None;
        while let Some(route) = routes.next() {
            match *route {
                Route::One(s) => {
                    let (start, end) = self.sources[usize::from(s)].advance();
                    match &mut run {
                        Some((source, _, stop)) if *source == s && *stop == start => *stop = end,
                        _ => {
                            flush(&mut self.sources, run.take(), out);
                            run = Some((s, start, end));
                        }
                    }
                }
                Route::Silent(s) => {
                    self.sources[usize::from(s)].advance();
                }
                Route::Split { merge, parts, proto, silent } => {
                    flush(&mut self.sources, run.take(), out);
                    let mark = out.mark();
                    out.set_proto(proto);
                    let sources = &mut self.sources;
                    let extents = routes.by_ref().take(parts as usize).map(|route| {
                        let Route::One(s) = *route else { unreachable!("parts are plain routes") };
                        let (start, end) = sources[usize::from(s)].advance();
                        (s, start, end)
                    });
                    // Collected so that the sources can be read while the reply is written; splits are rare and short.
                    let extents: Vec<_> = extents.collect();
                    join(merge, &extents, &mut self.sources, out);
                    if silent {
                        out.truncate(mark);
                    }
                }
            }
        }
        flush(&mut self.sources, run, out);
    }
}

fn flush(sources: &mut [Source], run: Option<(u16, Mark, Mark)>, out: &mut Reply) {
    if let Some((s, start, end)) = run {
        out.append_range(&mut sources[usize::from(s)].reply, start, end);
    }
}

/// The array header in front of each part of [`Merge::Elements`].
const ONE_ELEMENT: &[u8] = b"*1\r\n";

fn part_bytes<'s>(sources: &'s [Source], &(s, start, end): &(u16, Mark, Mark)) -> &'s [u8] {
    sources[usize::from(s)].reply.bytes_between(start, end)
}

fn join(merge: Merge, parts: &[(u16, Mark, Mark)], sources: &mut [Source], out: &mut Reply) {
    // A part that failed speaks for the whole command, as the first failing key would in one shard.
    if let Some(failed) = parts.iter().find(|part| part_bytes(sources, part).first() == Some(&b'-')) {
        let (s, start, end) = *failed;
        out.append_range(&mut sources[usize::from(s)].reply, start, end);
        return;
    }
    match merge {
        Merge::Elements => {
            out.array(parts.len());
            for &(s, start, end) in parts {
                let reply = &mut sources[usize::from(s)].reply;
                debug_assert!(reply.bytes_between(start, end).starts_with(ONE_ELEMENT));
                out.append_range(reply, start.behind(ONE_ELEMENT.len()), end);
            }
        }
        Merge::Sum => {
            let mut sum = 0;
            for part in parts {
                let text = part_bytes(sources, part);
                let digits = text.strip_prefix(b":").and_then(|t| t.strip_suffix(b"\r\n"));
                match digits.and_then(crate::base::num::parse_i64) {
                    Some(n) => sum += n,
                    None => unreachable!("a summed command's parts reply with integers"),
                }
            }
            out.int(sum);
        }
        Merge::AllOk => out.ok(),
    }
}
