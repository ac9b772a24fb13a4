//! The receiver of one large argument: bytes go from the socket straight into the allocation that will be stored.
//!
//! Belongs to a connection, from [`Step::BigBulk`](super::Step::BigBulk) until
//! [`Parser::supply_blob`](super::Parser::supply_blob); see [`parse`](super::parse) for the contract between them.
//!
//! ```text
//!   announced:  $100000\r\n | <------------------ body, 100000 bytes ------------------> | \r\n
//!   received:               | ############################ |
//!   allocated:              | ############################ . . . . . . . . |    at most twice what was received
//! ```
//!
//! Invariants:
//! - memory follows the bytes that arrived, never the announced length: an idle connection that announced 512 MiB holds
//!   the first step of [`FIRST_BYTES`] and no more;
//! - a complete body's allocation is exactly as long as the body;
//! - the two bytes behind the body are consumed and not looked at, as Redis does.

use crate::base::Blob;

/// The first allocation, when the body is longer than this: one socket read's worth.
pub const FIRST_BYTES: usize = 64 * 1024;

/// A large argument on its way in.
#[derive(Debug)]
pub struct BigBulk {
    body: Vec<u8>,
    /// The announced length of the body.
    len: usize,
    /// Bytes of the CRLF behind the body that have been consumed, `0..=2`.
    trailer: usize,
    /// The room of a body that was handed out.
    lent: usize,
}

impl BigBulk {
    /// A receiver for a body of `len` bytes and the CRLF behind it. Allocates nothing yet.
    pub fn new(len: usize) -> BigBulk {
        BigBulk { body: Vec::new(), len, trailer: 0, lent: 0 }
    }

    /// Bytes still to come, the CRLF included. Zero says that [`into_blob`](BigBulk::into_blob) may be called.
    pub fn remaining(&self) -> usize {
        self.body_remaining() + 2 - self.trailer
    }

    /// Bytes of the body still to come, without the CRLF.
    pub fn body_remaining(&self) -> usize {
        assert!(self.body.len() <= self.len, "more was received into the spare room than the body is long");
        self.len - self.body.len()
    }

    /// Whether body and CRLF are in.
    pub fn is_complete(&self) -> bool {
        self.remaining() == 0
    }

    /// Bytes of memory held, for the connection's account; those of a body that was handed out, too.
    pub fn allocated_bytes(&self) -> usize {
        self.body.capacity() + self.lent
    }

    /// Takes what belongs to this bulk from the front of `input` and returns how many bytes that was: all of `input`,
    /// or fewer when the bulk is complete. The rest is the continuation of the command.
    pub fn fill(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        while taken < input.len() && self.body_remaining() > 0 {
            // One growth step at a time, so that a large `input` cannot skip the doubling.
            let room = self.spare_bytes().min(input.len() - taken);
            self.body.extend_from_slice(&input[taken..taken + room]);
            taken += room;
        }
        if self.body_remaining() == 0 {
            let trailer = (input.len() - taken).min(2 - self.trailer);
            self.trailer += trailer;
            taken += trailer;
        }
        taken
    }

    /// The body with room behind it, for a receive that writes into `capacity() - len()` and then sets the length. That
    /// room never reaches past the body, and there is some until the body is complete; the CRLF comes by
    /// [`fill`](BigBulk::fill). Whoever appends more than the room breaks an invariant and panics at the next call.
    pub fn spare(&mut self) -> &mut Vec<u8> {
        self.spare_bytes();
        &mut self.body
    }

    /// Hands the body out, with room behind it, to be received into; it must come back by
    /// [`give_back`](BigBulk::give_back) before anything else is asked of this bulk.
    pub fn lend(&mut self) -> Vec<u8> {
        let body = std::mem::take(self.spare());
        self.lent = body.capacity();
        body
    }

    /// Takes the body back, with what was received.
    pub fn give_back(&mut self, body: Vec<u8>) {
        debug_assert!(self.body.is_empty(), "only a body that was lent comes back");
        self.body = body;
        self.lent = 0;
    }

    /// The body as a shared buffer, in exactly as much memory as it needs. Panics before the bulk is complete.
    pub fn into_blob(self) -> Blob {
        assert!(self.is_complete(), "a bulk is handed over when its last byte has come");
        let mut body = self.body;
        body.shrink_to_fit();
        Blob::new(body)
    }

    /// Makes room for at least one byte of an incomplete body and returns how many bytes fit.
    fn spare_bytes(&mut self) -> usize {
        let wanted = self.body_remaining();
        if wanted > 0 && self.body.len() == self.body.capacity() {
            let target = self.len.min(FIRST_BYTES.max(self.body.len() * 2));
            self.body.reserve_exact(target - self.body.len());
        }
        (self.body.capacity() - self.body.len()).min(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_bytes_that_came() {
        let mut bulk = BigBulk::new(512 << 20);
        assert_eq!(bulk.allocated_bytes(), 0);
        let piece = [7; 1000];
        let mut received = 0;
        for _ in 0..5000 {
            received += bulk.fill(&piece);
            assert!(bulk.allocated_bytes() <= FIRST_BYTES.max(received * 2), "{received}");
        }
        assert_eq!(received, 5_000_000);
        assert_eq!(bulk.body_remaining(), (512 << 20) - received);
    }

    #[test]
    fn a_body_ends_in_an_allocation_of_its_own_length_and_leaves_the_rest() {
        for piece in [1, 2, 3, 1000, 65_536, 200_000] {
            let len = 150_001;
            let mut wire: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            wire.extend_from_slice(b"\r\n$1\r\nx\r\n");
            let mut bulk = BigBulk::new(len);
            let mut at = 0;
            for chunk in wire.chunks(piece) {
                let taken = bulk.fill(chunk);
                at += taken;
                if taken < chunk.len() {
                    break;
                }
            }
            assert_eq!(at, len + 2, "pieces of {piece}");
            assert_eq!(bulk.fill(b"more"), 0);
            let blob = bulk.into_blob();
            assert_eq!(blob[..], wire[..len]);
            assert_eq!(blob.capacity(), len);
        }
    }

    #[test]
    fn spare_room_never_reaches_past_the_body() {
        let len = 200_000;
        let mut bulk = BigBulk::new(len);
        while bulk.body_remaining() > 0 {
            let spare = bulk.spare();
            let room = spare.capacity() - spare.len();
            assert!(room > 0 && spare.capacity() <= len);
            spare.resize(spare.len() + room.min(7777), b'x');
        }
        assert_eq!(bulk.remaining(), 2);
        assert_eq!(bulk.fill(b"\r"), 1);
        assert!(!bulk.is_complete());
        assert_eq!(bulk.fill(b"\n*1"), 1);
        assert_eq!(bulk.into_blob().len(), len);
    }
}
