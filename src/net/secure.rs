//! TLS connections in the event loop: how ciphertext gets from the ring to the dispatcher, and replies back.
//!
//! ```text
//!   Received ─> Stream::take ─> engine.receive          each receive buffer at once, plaintext never waits here
//!   session.out ─> unsent ─> Stream::put ─> one send    at most SLICE bytes of plaintext at a time
//! ```
//!
//! What makes a secure connection dear is its handshake: signing costs a core as much as a thousand commands. So only
//! `max-new-tls-connections-per-cycle` handshakes go on in one turn of the loop; what comes for others is held, at most
//! [`HELD_BYTES_MAX`] bytes of it, and is worked on in the turns that follow, in order. A handshake that is not over after
//! `tls-handshake-timeout` is ended: a client that says nothing takes a place, and `timeout` is off by default.
//!
//! Belongs to the event loop of the core that serves the connection. Invariants:
//! - before the handshake is over nothing reaches the session, and nothing of it is sent;
//! - what was taken from a session and is not encrypted yet is `unsent`, and counts for its output limits as before;
//! - a killed connection has no plaintext left anywhere: [`Secure`] goes with it, and nobody else knows of it (in Redis a list of
//!   connections with plaintext that nobody has read outlived them: CVE-2026-56684).
//!
//! Absent on purpose: receiving a large argument straight into its place, which ciphertext cannot be.

use std::collections::VecDeque;
use std::mem;

use super::connection::Connection;
use super::reactor::{PROTECTED_MODE, Reactor};
use crate::commands::connection::certified;
use crate::config::TlsClientUser;
use crate::dispatch::Engine;
use crate::resp::Reply;
use crate::rt::ring::{Payload, Segments, Unsent};
use crate::rt::socket;
use crate::session::{Closing, SessionKey};
use crate::shard::message::AdoptedTls;
use crate::tls::{Stream, TlsFault};

/// Plaintext that is encrypted for one send. A large value is encrypted in slices of this size, between which others have their turn:
/// about 30 microseconds of work each. Bytes.
const SLICE: usize = 128 * 1024;
/// Ciphertext that is held for a handshake that waits for its turn; past it the socket is not read. Bytes. Some more may be on its way
/// then.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Nobody has so much to say before it has heard an answer: rustls takes handshake messages of up to 64 KiB. Bytes.
const HELD_BYTES_LEGAL_MAX: usize = 128 * 1024;
/// A buffer of ciphertext larger than this is not kept for the next send. Bytes.
const WIRE_KEPT_BYTES_MAX: usize = 16 * 1024;
/// Failed handshakes that are logged within a second; the others only at a lower level. Anybody can make them fail.
const COMPLAINTS_PER_SECOND: u32 = 10;

/// What is between one socket and its session. See the module.
pub struct Secure {
    stream: Stream,
    client_user: TlsClientUser,
    denied: bool,
    /// The handshake is over.
    ready: bool,
    /// Ciphertext that waits until this connection's handshake may go on.
    held: Vec<u8>,
    /// Whether it is in the list of those that wait.
    queued: bool,
    /// The peer has finished behind what is held.
    ended: bool,
    /// Replies that are not encrypted yet.
    unsent: Unsent,
    /// Plaintext bytes of the send that is in flight.
    in_flight: usize,
    /// An empty buffer for the next send.
    spare: Vec<u8>,
}

impl Secure {
    /// For a connection that is to shake hands.
    pub fn new(adopted: &AdoptedTls) -> Result<Secure, TlsFault> {
        Ok(Secure {
            stream: Stream::new(&adopted.context)?,
            client_user: adopted.context.client_user,
            denied: adopted.denied,
            ready: false,
            held: Vec::new(),
            queued: false,
            ended: false,
            unsent: Unsent::default(),
            in_flight: 0,
            spare: Vec::new(),
        })
    }

    /// Whether everything that was taken from the session is encrypted and handed over.
    pub fn is_drained(&self) -> bool {
        self.unsent.left() == 0
    }

    /// Whether the socket is not to be read for now.
    pub fn is_full(&self) -> bool {
        self.held.len() >= HELD_BYTES_MAX
    }

    /// Whether a send would have something to say beside what the session has.
    pub fn has_more(&self) -> bool {
        self.unsent.left() > 0 || self.stream.has_own()
    }

    /// Plaintext bytes that were taken from the session and that the socket has not taken yet.
    pub fn bytes_on_the_way(&self) -> usize {
        self.unsent.left() + self.in_flight
    }

    /// The next send: what TLS has to say, and of the replies as much as a slice has room for. `out` is `None` while they wait for the
    /// log. Also whether a reply is being worked on that has nothing to send yet.
    pub fn next_send(&mut self, mut out: Option<&mut Reply>) -> (Vec<u8>, bool) {
        let mut wire = mem::take(&mut self.spare);
        self.stream.take_own(&mut wire);
        self.in_flight = 0;
        let mut working = false;
        while self.ready {
            let room = SLICE - self.in_flight;
            let left = self.unsent.left();
            if left > 0 {
                self.unsent.take(room, |plain| self.stream.put(plain, &mut wire));
                self.in_flight += left - self.unsent.left();
                if self.unsent.left() > 0 {
                    break;
                }
                self.unsent = Unsent::default();
                continue;
            }
            let Some(out) = out.as_deref_mut().filter(|out| room > 0 && !out.is_empty()) else { break };
            let (mut bytes, blobs) = out.take_sendable();
            if bytes.is_empty() && blobs.is_empty() {
                working = wire.is_empty() && !out.is_empty();
                break;
            }
            if blobs.is_empty() && bytes.len() <= room {
                self.stream.put(&bytes, &mut wire);
                self.in_flight += bytes.len();
                if bytes.capacity() <= super::reactor::SENT_KEPT_BYTES_MAX {
                    bytes.clear();
                    out.reuse(bytes);
                }
            } else {
                self.unsent = Unsent::new(Segments { bytes, blobs });
            }
        }
        (wire, working)
    }

    /// A send is over: its buffer comes back. Returns how many bytes of plaintext it had.
    pub fn sent(&mut self, payload: &mut Payload) -> usize {
        if let Payload::Bytes(wire) = payload {
            self.keep(mem::take(wire));
        }
        mem::take(&mut self.in_flight)
    }

    /// Takes a buffer back for the next send.
    pub fn keep(&mut self, mut wire: Vec<u8>) {
        if wire.capacity() <= WIRE_KEPT_BYTES_MAX {
            wire.clear();
            self.spare = wire;
        }
    }
}

/// Tells the peer of a connection that is about to be closed, on which no send is in flight, what is left to tell: an alert, or that
/// this is the end and not somebody who cut the line. What the socket does not take at once it will not hear.
pub fn say_farewell(connection: &mut Connection) {
    if let Some(tls) = connection.tls.as_deref_mut()
        && !connection.sending
    {
        let mut wire = Vec::new();
        tls.stream.say_farewell(&mut wire);
        socket::send_now(&connection.socket, &wire);
    }
}

/// The handshakes of one core.
#[derive(Default)]
pub struct Handshakes {
    /// How many more may go on in this turn.
    left: u32,
    /// Connections that have something held, oldest first.
    waiting: VecDeque<SessionKey>,
    /// When handshakes began, monotonic microseconds, oldest first. May name some that are over.
    begun: VecDeque<(u64, SessionKey)>,
    complaints: u32,
    complaints_since_us: u64,
}

impl Handshakes {
    /// A turn of the loop begins, in which so many may go on.
    #[inline]
    pub fn begin_turn(&mut self, handshakes_max: i32) {
        self.left = handshakes_max.unsigned_abs();
    }

    /// Whether there is nothing to look after.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.begun.is_empty()
    }

    /// Whether some wait for the next turn.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the oldest has lasted too long, monotonic microseconds.
    pub fn next_us(&self, timeout_secs: i32) -> Option<u64> {
        let (began_us, _) = self.begun.front()?;
        timeout_us(timeout_secs).map(|timeout_us| began_us.saturating_add(timeout_us))
    }

    /// Logs why a handshake failed.
    fn complain(&mut self, mono_us: u64, peer: &str, local: &str, reason: &dyn std::fmt::Display) {
        if mono_us >= self.complaints_since_us + 1_000_000 {
            self.complaints_since_us = mono_us;
            self.complaints = 0;
        }
        self.complaints += 1;
        if self.complaints <= COMPLAINTS_PER_SECOND {
            tracing::warn!("Error accepting a client connection: {reason} (addr={peer} laddr={local})");
        } else {
            tracing::debug!("Error accepting a client connection: {reason} (addr={peer} laddr={local})");
        }
    }
}

fn timeout_us(secs: i32) -> Option<u64> {
    (secs > 0).then(|| u64::from(secs.unsigned_abs()) * 1_000_000)
}

impl Reactor {
    /// A secure connection was opened.
    pub(super) fn begin_handshake(&mut self, key: SessionKey) {
        let Reactor { engine, connections, handshakes, .. } = self;
        if timeout_us(engine.shard.config.tls_handshake_timeout).is_none() {
            return;
        }
        // Those that are over stay listed until they are the oldest: one that takes its time must not make the list long.
        if handshakes.begun.len() > 2 * engine.shard.sessions.len() + 64 {
            handshakes.begun.retain(|(_, key)| is_shaking(connections, *key));
        }
        handshakes.begun.push_back((engine.shard.now.mono_us, key));
    }

    /// Ciphertext came from a connection.
    pub(super) fn receive_secure(&mut self, key: SessionKey, wire: &[u8]) {
        let Some(tls) = secure(&mut self.connections, key) else { return };
        if !tls.ready && (self.handshakes.left == 0 || tls.queued) {
            tls.held.extend_from_slice(wire);
            if !mem::replace(&mut tls.queued, true) {
                self.handshakes.waiting.push_back(key);
            }
            if tls.held.len() > HELD_BYTES_LEGAL_MAX {
                self.give_up(key, &"more came than a handshake has");
            } else if tls.is_full() {
                // So that the socket is not read further.
                self.engine.mark_dirty(key);
            }
            return;
        }
        self.work_out(key, wire);
    }

    /// The peer of a secure connection has finished. True if that is to be noted later, behind what is held.
    pub(super) fn ends_later(&mut self, key: SessionKey) -> bool {
        let Some(tls) = secure(&mut self.connections, key) else { return false };
        if !tls.ready
            && let Some(session) = self.engine.shard.sessions.get(key)
        {
            tracing::debug!(
                "Error accepting a client connection: the peer left during the handshake (addr={} laddr={})",
                session.peer,
                session.local
            );
        }
        tls.ended = tls.queued;
        tls.ended
    }

    /// Lets handshakes go on that waited for this turn, and ends those that have lasted too long.
    pub(super) fn look_after_handshakes(&mut self) {
        for _ in 0..self.handshakes.waiting.len() {
            if self.handshakes.left == 0 {
                break;
            }
            let Some(key) = self.handshakes.waiting.pop_front() else { break };
            let Some(tls) = secure(&mut self.connections, key) else { continue };
            tls.queued = false;
            let ended = mem::take(&mut tls.ended);
            let wire = mem::take(&mut tls.held);
            self.work_out(key, &wire);
            if ended {
                self.engine.end_of_input(key);
            }
            // The socket may be read again.
            self.engine.mark_dirty(key);
        }
        let mono_us = self.engine.shard.now.mono_us;
        let Some(timeout_us) = timeout_us(self.engine.shard.config.tls_handshake_timeout) else {
            return self.handshakes.begun.clear();
        };
        while let Some(&(began_us, key)) = self.handshakes.begun.front() {
            if is_shaking(&self.connections, key) {
                if mono_us < began_us.saturating_add(timeout_us) {
                    break;
                }
                self.give_up(key, &"the handshake took too long");
            }
            self.handshakes.begun.pop_front();
        }
    }

    /// Takes ciphertext in, and hands on what it holds.
    fn work_out(&mut self, key: SessionKey, mut wire: &[u8]) {
        let Reactor { engine, connections, handshakes, .. } = self;
        let Some(tls) = secure(connections, key) else { return };
        while !wire.is_empty() {
            let had_own = tls.stream.has_own();
            let taken = tls.stream.take(&mut wire);
            if !tls.ready {
                // What has made us answer is what was dear.
                if !had_own && tls.stream.has_own() {
                    handshakes.left = handshakes.left.saturating_sub(1);
                }
                if !tls.stream.is_handshaking() {
                    tls.ready = true;
                    introduce(engine, key, tls);
                }
            }
            tls.stream.drain(|plain| engine.receive(key, plain));
            match taken {
                Ok(false) => {}
                Ok(true) => return engine.end_of_input(key),
                Err(fault) => return self.give_up(key, &fault),
            }
        }
        if tls.stream.has_own() {
            engine.mark_dirty(key);
        }
    }

    /// Closes a connection whose peer does not speak TLS as it should.
    fn give_up(&mut self, key: SessionKey, reason: &dyn std::fmt::Display) {
        let ready = secure(&mut self.connections, key).is_none_or(|tls| tls.ready);
        let shard = &mut self.engine.shard;
        if let Some(session) = shard.sessions.get_mut(key) {
            if ready {
                tracing::debug!("Error reading from client {}: {reason}", session.peer);
            } else {
                self.handshakes.complain(shard.now.mono_us, &session.peer, &session.local, reason);
            }
            session.closing = Closing::Now;
        }
        self.engine.mark_dirty(key);
    }
}

/// A handshake is over: who the client is, and whether it may stay.
fn introduce(engine: &mut Engine, key: SessionKey, tls: &Secure) {
    let shard = &mut engine.shard;
    let Some(session) = shard.sessions.get_mut(key) else { return };
    tracing::debug!("Client {} speaks {}", session.peer, tls.stream.agreed());
    if tls.denied {
        shard.metrics.connections_rejected += 1;
        session.out.raw(PROTECTED_MODE);
        session.close_after_reply();
    } else if tls.client_user == TlsClientUser::CommonName
        && let Some(name) = tls.stream.client_name()
    {
        let shown = name.escape_ascii();
        if certified(&shard.acl, session, &name) {
            tracing::debug!("Client {} is user '{shown}' by its certificate", session.peer);
        } else {
            tracing::debug!("Client {} shows a certificate of '{shown}', which is no user", session.peer);
        }
    }
    engine.mark_dirty(key);
}

/// The TLS of a connection that is here, is secure and is not being closed.
fn secure(connections: &mut [Option<Connection>], key: SessionKey) -> Option<&mut Secure> {
    let connection = connections.get_mut(key.index as usize)?.as_mut();
    connection.filter(|connection| connection.key == key && !connection.closing)?.tls.as_deref_mut()
}

fn is_shaking(connections: &[Option<Connection>], key: SessionKey) -> bool {
    let connection = connections.get(key.index as usize).and_then(Option::as_ref);
    let connection = connection.filter(|connection| connection.key == key && !connection.closing);
    connection.and_then(|connection| connection.tls.as_deref()).is_some_and(|tls| !tls.ready)
}
