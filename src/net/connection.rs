//! What the event loop keeps for one socket: what is in flight on it.
//!
//! Who the client is and what it said is in its session, which has the same place in its table. A place is free again when
//! nothing is in flight any more, so a late completion can be told from one of the next connection there by its token.

use std::os::fd::OwnedFd;

use super::secure::Secure;
use crate::rt::ring::Token;
use crate::session::SessionKey;

/// How a connection is being received from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiving {
    /// Not at all; to be armed when there is room for input.
    Off,
    /// Into the ring's buffers.
    Buffers,
    /// That is being cancelled.
    Cancelling,
    /// Straight into a large argument.
    Direct,
    /// The peer has finished, or the connection is broken.
    Ended,
}

/// One socket and what is in flight on it.
pub struct Connection {
    /// The socket; gone when it was handed to the ring to be closed.
    pub socket: OwnedFd,
    /// The session's key, for its generation.
    pub key: SessionKey,
    /// How it is received from.
    pub receiving: Receiving,
    /// Whether a send is in flight.
    pub sending: bool,
    /// Whether it is being closed: its session is gone, and the descriptor follows when nothing is in flight.
    pub closing: bool,
    /// What is between the socket and the session, if it came through the TLS port.
    pub tls: Option<Box<Secure>>,
}

impl Connection {
    /// Whether the kernel still works on it.
    pub fn in_flight(&self) -> bool {
        self.sending || !matches!(self.receiving, Receiving::Off | Receiving::Ended)
    }

    /// Whether all replies that it has taken from its session are in the kernel's hands.
    pub fn is_drained(&self) -> bool {
        !self.sending && self.tls.as_ref().is_none_or(|tls| tls.is_drained())
    }
}

/// Tokens below this belong to connections; the others are listeners and the signal pipe.
const SPECIAL: u64 = 1 << 55;
const GENERATION_BITS: u32 = 23;

/// The token of a connection: its place and the low bits of its generation.
pub fn connection_token(key: SessionKey) -> Token {
    let generation = u64::from(key.generation) & ((1 << GENERATION_BITS) - 1);
    Token::new(generation << 32 | u64::from(key.index))
}

/// The token of something that is not a connection.
pub fn special_token(number: u32) -> Token {
    Token::new(SPECIAL | u64::from(number))
}

/// What a token names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// A connection's place, to be checked against its token.
    Connection(u32),
    /// Something else, by number.
    Special(u32),
}

/// Reads a token.
pub fn named(token: Token) -> Named {
    let value = token.value();
    if value & SPECIAL != 0 { Named::Special(value as u32) } else { Named::Connection(value as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_what_they_were_made_for() {
        let key = SessionKey { index: 77, generation: u32::MAX };
        assert_eq!(named(connection_token(key)), Named::Connection(77));
        assert_eq!(named(special_token(3)), Named::Special(3));
        assert_ne!(connection_token(key), connection_token(SessionKey { index: 77, generation: 1 }));
    }
}
