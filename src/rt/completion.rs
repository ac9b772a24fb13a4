//! What a ring tells its shard: one [`Completion`] per thing that has happened, under the caller's [`Token`].
//!
//! Plain values, no system calls. Memory that the ring owned during an operation comes back inside them.

use std::io;
use std::os::fd::OwnedFd;

use crate::rt::buffers::Buffer;
use crate::rt::segments::Segments;

/// The caller's name for what an operation is about: 56 bits of its choosing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub(super) u64);

impl Token {
    /// The largest value a token can carry.
    pub const MAX: u64 = (1 << 56) - 1;

    /// A token of this value, which must fit 56 bits.
    pub fn new(value: u64) -> Token {
        assert!(value <= Token::MAX, "a token has 56 bits, {value:#x} has more");
        Token(value)
    }

    /// The value it was made from.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// What a send owned and gives back: capacity to use again, references to drop.
#[derive(Debug)]
pub enum Payload {
    /// From [`crate::rt::Ring::send`].
    Bytes(Vec<u8>),
    /// From [`crate::rt::Ring::send_segments`].
    Segments(Segments),
}

/// One thing that has happened.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted, or accepting failed (EMFILE…). Without `more` the listener must be armed again,
    /// after an error not at once.
    Accepted {
        /// The listener's.
        token: Token,
        /// The connection, close-on-exec and in blocking mode.
        result: io::Result<OwnedFd>,
        /// Whether the listener is still armed.
        more: bool,
    },
    /// Bytes have arrived: at least one, at most a buffer full.
    Received {
        /// The connection's.
        token: Token,
        /// To read with [`crate::rt::BufferRing::bytes`] and to give back with [`crate::rt::BufferRing::recycle`].
        buffer: Buffer,
        /// Whether the receive is still armed.
        more: bool,
    },
    /// The peer has finished sending. Receiving is over.
    Eof {
        /// The connection's.
        token: Token,
    },
    /// No receive buffer was free. Receiving is over; arm it again at once.
    RecvNoBuffers {
        /// The connection's.
        token: Token,
    },
    /// [`crate::rt::Ring::cancel_recv`] took effect. Receiving is over.
    RecvCancelled {
        /// The connection's.
        token: Token,
    },
    /// The connection is broken. Receiving is over.
    RecvFailed {
        /// The connection's.
        token: Token,
        /// ECONNRESET, ETIMEDOUT…
        error: io::Error,
    },
    /// A [`crate::rt::Ring::recv_into`] is over.
    ReceivedInto {
        /// The connection's.
        token: Token,
        /// The buffer, with whatever arrived behind what it held before.
        buf: Vec<u8>,
        /// How many bytes arrived: fewer than wanted only when the peer has finished sending or it was cancelled.
        result: io::Result<usize>,
    },
    /// A send is over: everything is in the kernel's hands, or nothing more will be.
    Sent {
        /// The connection's.
        token: Token,
        /// What was to be sent.
        payload: Payload,
        /// EPIPE, ECONNRESET, ECANCELED…
        result: io::Result<()>,
    },
    /// [`crate::rt::Ring::close`] has closed the descriptor. Other operations of the connection may still complete after it.
    Closed {
        /// The connection's.
        token: Token,
    },
    /// Another shard rang: look into the mailboxes.
    Woken,
}

/// What the ring has done since it was made.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RingStats {
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Entries submitted.
    pub sqes: u64,
    /// Completions collected.
    pub cqes: u64,
    /// Receives that ended for want of a buffer.
    pub enobufs: u64,
    /// Sends that the kernel finished only in part and that were continued.
    pub short_sends: u64,
    /// Prompt sends that were not taken at once.
    pub late_sends: u64,
    /// Times the submission queue was full.
    pub sq_full: u64,
    /// Times the completion queue had overflowed into the kernel's list.
    pub cq_overflow: u64,
    /// Times the kernel refused to take more for now (EBUSY, EAGAIN).
    pub busy: u64,
    /// Bells rung at other shards.
    pub wakes_sent: u64,
    /// Of these, the ones that failed (the shard has stopped).
    pub wakes_failed: u64,
    /// Times another shard rang here.
    pub wakes_received: u64,
}
