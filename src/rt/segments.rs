//! A reply with large values in it, sent as it lies: small pieces and values by reference, one vectored send.
//!
//! ```text
//!   bytes:  $5000000\r\n | \r\n+OK\r\n          blobs: [(10, the value)]
//!   wire:   $5000000\r\n  <the value>  \r\n+OK\r\n
//! ```
//!
//! [`Segments`] is what the caller builds; `Gather` is one on its way through the ring. Invariant: the pieces that a
//! `Gather` names to the kernel belong to its `Segments`, which nobody changes until it is done.
#![expect(unsafe_code, reason = "an empty msghdr")]

use std::mem;
use std::os::fd::RawFd;

use crate::base::Blob;
use crate::rt::completion::Token;

/// The most pieces one vectored send names. IOV_MAX is 1024; the kernel copies the array, so a window is enough.
const PIECES_MAX: usize = 256;

/// Bytes to send with large values spliced in where they belong, without copying them.
#[derive(Debug, Default, Clone)]
pub struct Segments {
    /// The small pieces, one behind the other.
    pub bytes: Vec<u8>,
    /// `(position, blob)`: the blob goes out before `bytes[position]`. Positions ascend, `bytes.len()` is allowed.
    pub blobs: Vec<(usize, Blob)>,
}

impl Segments {
    /// All bytes that go out.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.blobs.iter().map(|(_, blob)| blob.len()).sum::<usize>()
    }

    /// Whether nothing would go out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Piece `index` of `2 * blobs + 1`: even ones are runs of `bytes`, odd ones are blobs.
    fn piece(&self, index: usize) -> &[u8] {
        let blob = index / 2;
        if index % 2 == 1 {
            return &self.blobs[blob].1;
        }
        let from = if blob == 0 { 0 } else { self.blobs[blob - 1].0 };
        let to = self.blobs.get(blob).map_or(self.bytes.len(), |(position, _)| *position);
        &self.bytes[from..to]
    }

    fn pieces(&self) -> usize {
        self.blobs.len() * 2 + 1
    }
}

/// A vectored send: boxed, because the kernel is told the addresses of `header` and `window`.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) token: Token,
    pub(super) fd: RawFd,
    pub(super) segments: Segments,
    /// The first piece that is not out yet, and how much of it is.
    piece: usize,
    offset: usize,
    pub(super) left: usize,
    window: Vec<libc::iovec>,
    pub(super) header: libc::msghdr,
}

impl Gather {
    /// Nothing is out yet.
    pub(super) fn new(token: Token, fd: RawFd, segments: Segments) -> Gather {
        let ascending = segments.blobs.is_sorted_by_key(|(position, _)| *position);
        let inside = segments.blobs.last().is_none_or(|(position, _)| *position <= segments.bytes.len());
        assert!(ascending && inside, "blobs are spliced in at ascending positions inside the bytes");
        // SAFETY: a msghdr of zeroes is valid: no name, no control data, no pieces.
        let header: libc::msghdr = unsafe { mem::zeroed() };
        let window = Vec::with_capacity(segments.pieces().min(PIECES_MAX));
        let left = segments.len();
        Gather { token, fd, segments, piece: 0, offset: 0, left, window, header }
    }

    /// Names the next pieces in `window` and `header`.
    pub(super) fn aim(&mut self) {
        self.window.clear();
        let (mut piece, mut offset, mut room) = (self.piece, self.offset, super::ring::OPERATION_BYTES_MAX);
        while piece < self.segments.pieces() && self.window.len() < PIECES_MAX && room > 0 {
            let bytes = &self.segments.piece(piece)[offset..];
            let take = bytes.len().min(room);
            if take > 0 {
                self.window.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: take });
            }
            room -= take;
            piece += 1;
            offset = 0;
        }
        self.header.msg_iov = self.window.as_mut_ptr();
        self.header.msg_iovlen = self.window.len();
    }

    /// Moves past `sent` more bytes.
    pub(super) fn advance(&mut self, mut sent: usize) {
        assert!(sent <= self.left, "the kernel sent more than there was");
        self.left -= sent;
        while sent > 0 {
            let rest = self.segments.piece(self.piece).len() - self.offset;
            if sent < rest {
                self.offset += sent;
                return;
            }
            sent -= rest;
            self.piece += 1;
            self.offset = 0;
        }
    }
}
