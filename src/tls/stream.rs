//! One connection's TLS: ciphertext in and out of it, plaintext out of and into it.
//!
//! ```text
//!   take(&mut wire)        a piece of what came; then drain(|plaintext| …) what it held
//!   put(plaintext, &mut wire)     replies, encrypted in the same call
//!   take_own(&mut wire)           what TLS itself has to say: handshake messages, tickets, alerts
//! ```
//!
//! Belongs to the core that serves the connection. Invariants: whoever calls [`Stream::take`] drains before the next call, so that
//! received plaintext never piles up; nothing is put in before the handshake is over, since rustls would keep it unencrypted.
//! Absent on purpose: how much is encrypted at a time, and whether a handshake may go on now (`net`).

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;

use rustls::{CertificateError, Error, ServerConnection};

use super::{Context, subject};

/// See the module.
pub struct Stream {
    connection: ServerConnection,
}

/// Why a peer's bytes were not taken. `Display` is what the log says.
#[derive(Debug)]
pub struct TlsFault(Error);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        // What OpenSSL lets pass and people therefore have.
        let Error::InvalidCertificate(CertificateError::Other(why)) = &self.0 else { return Ok(()) };
        match why.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::UnsupportedCertVersion) => {
                f.write_str(" (X.509 version 1: sign it with extensions, such as openssl x509 -req -extfile FILE)")
            }
            Some(webpki::Error::CaUsedAsEndEntity) => {
                f.write_str(" (an authority's own certificate: let the authority sign another for the client)")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for TlsFault {}

impl Stream {
    /// The server's side of a new connection.
    pub fn new(context: &Context) -> Result<Stream, TlsFault> {
        let mut connection = ServerConnection::new(Arc::clone(&context.config)).map_err(TlsFault)?;
        // What is put in is taken out in the same call; a limit would only cut it.
        connection.set_buffer_limit(None);
        Ok(Stream { connection })
    }

    /// Whether the handshake is not over.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes some of what came from the front of `wire`, and works it out. True if the peer has said that nothing will follow. After a
    /// fault the connection is to be closed, with [`Stream::say_farewell`], which has an alert for the peer.
    pub fn take(&mut self, wire: &mut &[u8]) -> Result<bool, TlsFault> {
        let before = wire.len();
        let read = self.connection.read_tls(wire);
        let state = self.connection.process_new_packets().map_err(TlsFault)?;
        if state.peer_has_closed() {
            // Whatever it sends behind its farewell is not looked at.
            *wire = &[];
        } else if read.is_err() || wire.len() == before {
            return Err(TlsFault(Error::General("more came than can be taken in".into())));
        }
        Ok(state.peer_has_closed())
    }

    /// Hands on all plaintext that was received.
    pub fn drain(&mut self, mut to: impl FnMut(&[u8])) {
        let mut reader = self.connection.reader();
        // An error says that there is none now, or that there will be no more.
        while let Ok(plain) = reader.fill_buf()
            && !plain.is_empty()
        {
            to(plain);
            let len = plain.len();
            reader.consume(len);
        }
    }

    /// Encrypts and appends to `wire`. Not during the handshake.
    pub fn put(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        debug_assert!(!self.is_handshaking(), "plaintext would be kept");
        use std::io::Write as _;
        let taken = self.connection.writer().write_all(plain);
        assert!(taken.is_ok(), "a writer without a limit takes everything");
        self.take_own(wire);
    }

    /// Whether TLS itself has something to say.
    pub fn has_own(&self) -> bool {
        self.connection.wants_write()
    }

    /// Appends what TLS itself has to say to `wire`.
    pub fn take_own(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // A vector takes all that it is given.
            if self.connection.write_tls(wire).is_err() {
                return;
            }
        }
    }

    /// The last words: an alert that waits, or that nothing will follow (close_notify).
    pub fn say_farewell(&mut self, wire: &mut Vec<u8>) {
        if !self.is_handshaking() {
            self.connection.send_close_notify();
        }
        self.take_own(wire);
    }

    /// The common name in the client's certificate, which was verified. `None` without a certificate or a usable name.
    pub fn client_name(&self) -> Option<Vec<u8>> {
        subject::common_name(self.connection.peer_certificates()?.first()?)
    }

    /// The protocol and suite that were agreed on, for the log.
    pub fn agreed(&self) -> String {
        let version = self.connection.protocol_version().and_then(|version| version.as_str());
        let suite = self.connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        format!("{} {}", version.unwrap_or("?"), suite.unwrap_or("?"))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("handshaking", &self.is_handshaking()).finish_non_exhaustive()
    }
}
