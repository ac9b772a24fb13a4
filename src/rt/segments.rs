//! A reply with large values in it, sent as it lies: small pieces and values by reference, one vectored send.
//!
//! ```text
//!   bytes:  $5000000\r\n | \r\n+OK\r\n          blobs: [(10, the value)]
//!   wire:   $5000000\r\n  <the value>  \r\n+OK\r\n
//! ```
//!
//! [`Segments`] is what the caller builds, [`Unsent`] how far it has got, `Gather` one on its way through the ring. Invariant: the
//! pieces that a `Gather` names to the kernel belong to its `Segments`, which nobody changes until it is done.
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

/// Segments of which some bytes have been dealt with, from the front.
#[derive(Debug, Default)]
pub struct Unsent {
    segments: Segments,
    /// The first piece that is not done with, and how much of it is.
    piece: usize,
    offset: usize,
    left: usize,
}

impl Unsent {
    /// None of them has been.
    pub fn new(segments: Segments) -> Unsent {
        let ascending = segments.blobs.is_sorted_by_key(|(position, _)| *position);
        let inside = segments.blobs.last().is_none_or(|(position, _)| *position <= segments.bytes.len());
        assert!(ascending && inside, "blobs are spliced in at ascending positions inside the bytes");
        let left = segments.len();
        Unsent { segments, piece: 0, offset: 0, left }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes pieces from the front, at most `bytes_max` bytes of them.
    pub fn take(&mut self, bytes_max: usize, mut to: impl FnMut(&[u8])) {
        let mut taken = 0;
        self.ahead(bytes_max, usize::MAX, |piece| {
            taken += piece.len();
            to(piece);
        });
        self.advance(taken);
    }

    /// The segments, when they are done with.
    pub(super) fn into_segments(self) -> Segments {
        self.segments
    }

    /// Shows what comes next: so many pieces and bytes at most.
    fn ahead<'a>(&'a self, bytes_max: usize, pieces_max: usize, mut to: impl FnMut(&'a [u8])) {
        let (mut piece, mut offset, mut room, mut shown) = (self.piece, self.offset, bytes_max, 0);
        while piece < self.segments.pieces() && shown < pieces_max && room > 0 {
            let bytes = &self.segments.piece(piece)[offset..];
            let take = bytes.len().min(room);
            if take > 0 {
                to(&bytes[..take]);
                shown += 1;
            }
            room -= take;
            piece += 1;
            offset = 0;
        }
    }

    /// Moves past `done` more bytes.
    pub(super) fn advance(&mut self, mut done: usize) {
        assert!(done <= self.left, "more was sent than there was");
        self.left -= done;
        while done > 0 {
            let rest = self.segments.piece(self.piece).len() - self.offset;
            if done < rest {
                self.offset += done;
                return;
            }
            done -= rest;
            self.piece += 1;
            self.offset = 0;
        }
    }
}

/// A vectored send: boxed, because the kernel is told the addresses of `header` and `window`.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) token: Token,
    pub(super) fd: RawFd,
    pub(super) unsent: Unsent,
    window: Vec<libc::iovec>,
    pub(super) header: libc::msghdr,
}

impl Gather {
    /// Nothing is out yet.
    pub(super) fn new(token: Token, fd: RawFd, segments: Segments) -> Gather {
        // SAFETY: a msghdr of zeroes is valid: no name, no control data, no pieces.
        let header: libc::msghdr = unsafe { mem::zeroed() };
        let window = Vec::with_capacity(segments.pieces().min(PIECES_MAX));
        Gather { token, fd, unsent: Unsent::new(segments), window, header }
    }

    /// Names the next pieces in `window` and `header`.
    pub(super) fn aim(&mut self) {
        self.window.clear();
        let window = &mut self.window;
        self.unsent.ahead(super::ring::OPERATION_BYTES_MAX, PIECES_MAX, |bytes| {
            window.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        });
        self.header.msg_iov = self.window.as_mut_ptr();
        self.header.msg_iovlen = self.window.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_the_order_of_the_wire_whatever_their_sizes() {
        let blobs =
            vec![(2, Blob::new(b"first".to_vec())), (2, Blob::new(Vec::new())), (4, Blob::new(b"second".to_vec()))];
        let segments = Segments { bytes: b"ab\r\n".to_vec(), blobs };
        for bytes_max in 1..20 {
            let mut unsent = Unsent::new(segments.clone());
            let mut wire = Vec::new();
            while unsent.left() > 0 {
                let before = wire.len();
                unsent.take(bytes_max, |piece| wire.extend_from_slice(piece));
                let taken = wire.len() - before;
                assert!(taken == bytes_max || unsent.left() == 0, "{taken} of {bytes_max}");
            }
            assert_eq!(wire, b"abfirst\r\nsecond", "{bytes_max} at a time");
        }
    }
}
