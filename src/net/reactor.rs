//! The event loop of one core.
//!
//! ```text
//!   one turn:  completions ─> engine ┐
//!              mailboxes   ─> engine ├─> replies and messages ─> sends queued, mail published ─> park
//!              timers      ─> engine ┘                            (one enter submits and waits)
//! ```
//!
//! Everything that a turn produces leaves in the one `io_uring_enter` with which the next wait begins: at most one send
//! per connection, wake-ups of sleeping shards included. Belongs to its core's executor and is its only task that touches
//! the ring.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::accept::{ACCEPT_RETRY_MS, Acceptor, Listener, Transport, least_loaded};
use super::connection::{Connection, Named, Receiving, connection_token, named, special_token};
use super::secure::{Handshakes, Secure, say_farewell};
use crate::base::{Epoch, ShardId};
use crate::commands::server::info::exposition::{Question, answer};
use crate::config::Config;
use crate::dispatch::{Delivery, Engine};
use crate::durability::conductor;
use crate::durability::driver::Driver;
use crate::durability::host::ShardHost;
use crate::keyspace::Lookahead;
use crate::metrics::latency::Event;
use crate::rt::buffers::BufferRing;
use crate::rt::clock::Clock;
use crate::rt::mesh::{Endpoint, Mail};
use crate::rt::park::Parker;
use crate::rt::ring::{Completion, Payload, Ring, Segments, Token};
use crate::rt::{memory, socket};
use crate::session::{Closing, Session, SessionKey};
use crate::shard::message::{Adopted, AdoptedTls, Message};
use crate::shard::storage::{Request, Told};
use crate::shard::{Shard, Stop};

/// A large argument of which at least this much is to come is received straight into its allocation. Bytes. Below it,
/// switching from the ring's buffers and back costs more than the copy.
const DIRECT_BYTES_MIN: usize = 256 * 1024;
/// A direct receive asks for at most this much at once, so that a timer or a kill is not far away. Bytes.
const DIRECT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages taken from the mailboxes in one turn before the sockets are looked at again.
const MESSAGES_PER_TURN: usize = 1024;
/// A sent buffer larger than this is not kept for the session's next reply. Bytes.
pub(super) const SENT_KEPT_BYTES_MAX: usize = 64 * 1024;
/// Replies of at most so many bytes are taken to fit the socket's buffer. Bytes.
const PROMPT_BYTES_MAX: usize = 16 * 1024;
/// How long a turn waits for replies that are on their way out when the loop is about to end.
const STOPPING_TURN: Duration = Duration::from_millis(10);
/// How often counts are taken for the report of a crash, microseconds.
const COUNT_US: u64 = 100_000;
/// What the signal pipe carries for SIGINT.
pub const SIGNAL_INTERRUPT: u8 = b'I';
/// What it carries for SIGTERM.
pub const SIGNAL_TERMINATE: u8 = b'T';
/// The signal pipe's number among special tokens; listeners count from zero.
const SIGNALS: u32 = u32::MAX;
/// That of the bell behind which questions wait.
const QUESTIONS: u32 = u32::MAX - 1;

/// What a reactor is made of.
pub struct ReactorParts {
    /// The dispatcher over this core's shard.
    pub engine: Engine,
    /// This core's ring, joined to the board.
    pub ring: Ring,
    /// This core's mailboxes.
    pub endpoint: Endpoint<Message>,
    /// How it waits.
    pub parker: Parker,
    /// On shard 0: the listeners.
    pub acceptor: Option<Acceptor>,
    /// On shard 0: becomes readable when a signal asks the process to stop.
    pub signals: Option<OwnedFd>,
    /// On shard 0: what threads outside of the shards ask.
    pub questions: Option<Questions>,
    /// The clocks.
    pub clock: Clock,
    /// This core's way to the disk.
    pub disk: Driver<ShardHost>,
    /// On one shard: told of settings that concern the process as a whole when they have changed.
    pub on_config: Option<ConfigWatcher>,
}

/// Questions of threads that are no shards, and what becomes readable when there is one.
pub struct Questions {
    /// A byte for each.
    pub bell: OwnedFd,
    /// In order.
    pub queue: Receiver<Question>,
}

/// Takes note of changed settings outside the shards, such as the log's level.
pub type ConfigWatcher = Box<dyn Fn(&Config)>;

/// One core's event loop. See the module.
pub struct Reactor {
    pub(super) engine: Engine,
    ring: Ring,
    buffers: Rc<BufferRing>,
    endpoint: Endpoint<Message>,
    parker: Parker,
    acceptor: Option<Acceptor>,
    signals: Option<OwnedFd>,
    questions: Option<Questions>,
    clock: Clock,
    /// By session index.
    pub(super) connections: Vec<Option<Connection>>,
    pub(super) handshakes: Handshakes,
    /// Messages that found no credit, by receiver. Bounded: a connection has a bounded number of batches on their way.
    waiting: Vec<VecDeque<Message>>,
    disk: Driver<ShardHost>,
    dirty: Vec<SessionKey>,
    /// Sessions whose output waits until the log is safe.
    gated: Vec<SessionKey>,
    /// What was safe when they were last looked at.
    gated_at: Epoch,
    /// Whether a reply is being worked on while it is sent, or has begun to wait for the log, so that the next turn comes at once.
    working: bool,
    timers: super::timers::Timers,
    on_config: Option<ConfigWatcher>,
    /// The last change of settings that was looked at.
    config_seen: u64,
    /// When counts are taken again for the report of a crash, monotonic microseconds.
    count_from_us: u64,
}

impl Reactor {
    /// A loop over these parts, on the thread that will run it.
    pub fn new(parts: ReactorParts) -> Reactor {
        let buffers = parts.ring.buffers();
        let waiting = (0..parts.endpoint.shards()).map(|_| VecDeque::new()).collect();
        Reactor {
            engine: parts.engine,
            ring: parts.ring,
            buffers,
            endpoint: parts.endpoint,
            parker: parts.parker,
            acceptor: parts.acceptor,
            signals: parts.signals,
            questions: parts.questions,
            clock: parts.clock,
            connections: Vec::new(),
            handshakes: Handshakes::default(),
            waiting,
            disk: parts.disk,
            dirty: Vec::new(),
            gated: Vec::new(),
            gated_at: 0,
            working: false,
            timers: super::timers::Timers::default(),
            on_config: parts.on_config,
            config_seen: 0,
            count_from_us: 0,
        }
    }

    /// Runs until the shard is told to stop. Returns the shard, for what is to be done with its data then.
    pub async fn run(mut self) -> Shard {
        self.arm_listeners();
        if let Some(acceptor) = &self.acceptor {
            let doors = |transport| {
                socket::TcpDoors::over(acceptor.sockets(transport)).unwrap_or_else(|error| {
                    tracing::error!("the listeners cannot be moved by CONFIG SET: {error}");
                    socket::TcpDoors::default()
                })
            };
            self.engine.shard.tcp_doors = doors(Transport::Tcp);
            self.engine.shard.tls_doors = doors(Transport::Tls);
        }
        if let Some(signals) = &self.signals {
            self.ring.recv_multi(signals.as_fd(), special_token(SIGNALS));
        }
        if let Some(questions) = &self.questions {
            self.ring.recv_multi(questions.bell.as_fd(), special_token(QUESTIONS));
        }
        if self.engine.shard.id == ShardId(0) {
            self.engine.begin_turn(self.clock.now());
            self.engine.shard.storage.conductor = Some(self.engine.start_service(conductor::plan));
        }
        loop {
            let now = self.clock.now();
            self.engine.begin_turn(now);
            self.engine.shard.metrics.slept = self.parker.slept();
            let mut events = 0;
            self.handshakes.begin_turn(self.engine.shard.config.max_new_tls_connections_per_cycle);
            if !self.handshakes.is_idle() {
                self.look_after_handshakes();
            }
            let (mut window, mut seen) = (Lookahead::default(), 0);
            while let Some(completion) = self.ring.next() {
                self.look_ahead(&mut window, &mut seen);
                self.complete(completion);
                events += 1;
            }
            let mut messages = 0;
            for _ in 0..MESSAGES_PER_TURN {
                let Some((from, mail)) = self.endpoint.next() else { break };
                self.deliver(from, mail);
                messages += 1;
            }
            if messages > 0 {
                self.engine.shard.metrics.found_mail(messages);
            }
            events += messages;
            let more_to_run = self.engine.run_waiting();
            let timers_busy = self.timers.run(&mut self.engine, now, &self.clock);
            if self.acceptor.as_ref().and_then(|a| a.retry_at_us).is_some_and(|at| at <= now.mono_us) {
                self.arm_listeners();
            }
            if self.engine.shard.config_version != self.config_seen {
                self.take_in_config();
            }
            let disk = self.disk.turn(&mut self.engine.shard, now);
            self.engine.pass_on();
            self.post();
            self.release_gated();
            self.flush();
            // What flushing closed may have told other shards.
            self.post();
            let ring = &mut self.ring;
            self.endpoint.notify(|to| {
                ring.wake(to);
            });
            let metrics = &mut self.engine.shard.metrics;
            metrics.loop_turns += 1;
            metrics.sample_rates(now.mono_us);
            if self.engine.shard.id == ShardId(0) {
                memory::note_peak(&self.engine.shard.board, 0, now.mono_us);
            }
            if events > 0 {
                let busy_us = self.clock.mono_us().saturating_sub(now.mono_us);
                metrics.loop_busy_us += busy_us;
                self.engine.shard.note_latency(Event::EventLoop, busy_us);
            }
            if now.mono_us >= self.count_from_us {
                self.count_from_us = now.mono_us + COUNT_US;
                self.engine.count_for_report();
            }
            let stopping = self.engine.shard.stop != Stop::No;
            if stopping && !self.replies_in_flight() {
                self.connections.iter_mut().flatten().filter(|c| !c.closing).for_each(say_farewell);
                // The last wake-ups and sends are still queued.
                if let Err(error) = self.ring.poll() {
                    tracing::warn!("shard {}: leaving with unsent replies: {error}", self.engine.shard.id);
                }
                break;
            }
            // What flushing closed may have left work behind, too.
            let hurry = more_to_run || timers_busy || disk.more || self.working || self.handshakes.has_waiting();
            let timeout = if hurry || self.engine.has_waiting() {
                Some(Duration::ZERO)
            } else if stopping {
                Some(STOPPING_TURN)
            } else {
                self.next_deadline(now.mono_us, disk.at_us)
            };
            if let Err(error) = self.parker.park(&mut self.ring, &self.endpoint, timeout).await {
                panic!("shard {}: its ring failed: {error}", self.engine.shard.id);
            }
        }
        self.engine.shard
    }

    /// Replies that have been accepted for sending are sent before the process goes. A peer that does not read is not waited
    /// for: what the socket takes is in the kernel's hands after one turn.
    fn replies_in_flight(&mut self) -> bool {
        self.timers.stopping_turn() && self.connections.iter().flatten().any(|c| c.sending)
    }

    /// Settings have changed that this loop, or the process, keeps a copy of.
    #[cold]
    fn take_in_config(&mut self) {
        let shard = &mut self.engine.shard;
        for (doors, transport) in [(&mut shard.tcp_doors, Transport::Tcp), (&mut shard.tls_doors, Transport::Tls)] {
            let (Some(next), Some(acceptor)) = (doors.take_next(), &mut self.acceptor) else { continue };
            let named = |listener: socket::Listener| Listener {
                name: listener.address.to_string(),
                socket: listener.socket,
                transport,
                node: None,
            };
            acceptor.move_to(transport, next.into_iter().map(named));
        }
        self.arm_listeners();
        let config = &self.engine.shard.config;
        self.config_seen = self.engine.shard.config_version;
        self.parker.set_busy_poll(Duration::from_micros(u64::from(config.busy_poll_usec)));
        if let Some(watcher) = &self.on_config {
            watcher(config);
        }
    }

    fn next_deadline(&mut self, mono_us: u64, disk_us: Option<u64>) -> Option<Duration> {
        let retry = self.acceptor.as_ref().and_then(|a| a.retry_at_us);
        let pause = self.engine.pause_ends_in_ms().map(|ms| mono_us.saturating_add(ms.saturating_mul(1000)));
        let timer = self.timers.next_us(&self.engine, mono_us);
        let handshake = self.handshakes.next_us(self.engine.shard.config.tls_handshake_timeout);
        let deadlines = [retry, pause, timer, disk_us, handshake, self.engine.next_deadline_us()];
        let at = deadlines.into_iter().flatten().min()?;
        // The clock has moved on since the turn began; a deadline that has passed means at once.
        Some(Duration::from_micros(at.saturating_sub(self.clock.mono_us())))
    }

    // ---- completions

    /// Asks for the memory that the requests behind this completion will want. `seen`: how many of them were looked at.
    fn look_ahead(&self, window: &mut Lookahead, seen: &mut usize) {
        window.passed();
        *seen = seen.saturating_sub(1);
        while window.wants()
            && let Some(received) = self.ring.upcoming(*seen)
        {
            *seen += 1;
            self.engine.look_ahead(window, received);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, buffer, more } => {
                match named(token) {
                    Named::Connection(_) => {
                        if let Some(connection) = self.connection(token) {
                            if !more {
                                connection.receiving = Receiving::Off;
                            }
                            let key = connection.key;
                            if connection.closing {
                            } else if connection.tls.is_some() {
                                let buffers = Rc::clone(&self.buffers);
                                self.receive_secure(key, buffers.bytes(&buffer));
                            } else {
                                self.engine.receive(key, self.buffers.bytes(&buffer));
                            }
                            self.after_completion(token);
                        }
                    }
                    Named::Special(QUESTIONS) => {
                        self.questioned();
                        if !more && let Some(questions) = &self.questions {
                            self.ring.recv_multi(questions.bell.as_fd(), token);
                        }
                    }
                    Named::Special(_) => self.signalled(self.buffers.bytes(&buffer).first() == Some(&SIGNAL_INTERRUPT)),
                }
                self.buffers.recycle(buffer);
            }
            Completion::Sent { token, payload, result } => self.sent(token, payload, result.is_ok()),
            Completion::Eof { token } => self.receiving_ended(token, true),
            Completion::RecvFailed { token, .. } => self.receiving_ended(token, false),
            Completion::RecvNoBuffers { token } | Completion::RecvCancelled { token } => {
                if let Named::Special(number) = named(token) {
                    let bell = self.questions.as_ref().map(|questions| &questions.bell);
                    let socket = if number == QUESTIONS { bell } else { self.signals.as_ref() };
                    if let Some(socket) = socket {
                        self.ring.recv_multi(socket.as_fd(), token);
                    }
                } else if let Some(connection) = self.connection(token) {
                    connection.receiving = Receiving::Off;
                    let key = connection.key;
                    self.engine.mark_dirty(key);
                    self.after_completion(token);
                }
            }
            Completion::ReceivedInto { token, buf, result } => self.received_direct(token, buf, result.ok()),
            Completion::Accepted { token, result, more } => self.accepted(token, result, more),
            Completion::Closed { .. } | Completion::Woken => {}
        }
    }

    /// The connection that a token names, if it is still the same one.
    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        let Named::Connection(index) = named(token) else { return None };
        self.connections.get_mut(index as usize)?.as_mut().filter(|c| connection_token(c.key) == token)
    }

    /// Nothing more comes from a peer: because it has finished (`orderly`), or because the connection is broken.
    fn receiving_ended(&mut self, token: Token, orderly: bool) {
        let Some(connection) = self.connection(token) else { return };
        connection.receiving = Receiving::Ended;
        let (key, secure) = (connection.key, connection.tls.is_some());
        if orderly {
            if !(secure && self.ends_later(key)) {
                self.engine.end_of_input(key);
            }
        } else if let Some(session) = self.engine.shard.sessions.get_mut(key) {
            session.closing = Closing::Now;
            self.engine.mark_dirty(key);
        }
        self.after_completion(token);
    }

    fn received_direct(&mut self, token: Token, buf: Vec<u8>, received: Option<usize>) {
        let Some(connection) = self.connection(token) else { return };
        connection.receiving = Receiving::Off;
        let (key, closing) = (connection.key, connection.closing);
        match received {
            Some(n) if n > 0 => {
                if !closing {
                    self.engine.receive_into_big(key, buf, n);
                }
                self.after_completion(token);
            }
            Some(_) => self.receiving_ended(token, true),
            None => self.receiving_ended(token, false),
        }
    }

    fn sent(&mut self, token: Token, mut payload: Payload, ok: bool) {
        let Some(connection) = self.connection(token) else { return };
        connection.sending = false;
        let key = connection.key;
        // Of a secure connection: how much plaintext that was, and whether there is more to send.
        let secure = connection.tls.as_deref_mut().map(|tls| (tls.sent(&mut payload), tls.has_more()));
        if let Some(session) = self.engine.shard.sessions.get_mut(key) {
            let (sent, more) = secure.unwrap_or((session.sending_bytes, false));
            session.sending_bytes -= sent;
            if let Payload::Bytes(mut bytes) = payload
                && secure.is_none()
                && bytes.capacity() <= SENT_KEPT_BYTES_MAX
            {
                bytes.clear();
                session.out.reuse(bytes);
            }
            if ok {
                session.output_bytes += sent as u64;
                let metrics = &mut self.engine.shard.metrics;
                metrics.net_output_bytes += sent as u64;
                metrics.writes += 1;
            } else {
                session.closing = Closing::Now;
            }
            self.engine.shard.count_client_of(key);
            let session = self.engine.shard.sessions.get(key).expect("it was just there");
            if more || !session.out.is_empty() || session.closing != Closing::No {
                self.engine.mark_dirty(key);
            }
        }
        self.after_completion(token);
    }

    /// A connection that is being closed is let go when its last operation has ended.
    fn after_completion(&mut self, token: Token) {
        let Named::Connection(index) = named(token) else { return };
        let place = &mut self.connections[index as usize];
        if place.as_ref().is_some_and(|c| c.closing && !c.in_flight()) {
            let connection = place.take().expect("it was just there");
            self.let_go(connection);
        }
    }

    fn let_go(&mut self, connection: Connection) {
        self.engine.shard.sessions.release(connection.key);
        self.ring.close(connection.socket, connection_token(connection.key));
    }

    // ---- accepting

    fn arm_listeners(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        acceptor.retry_at_us = None;
        for (number, listener) in acceptor.listeners.iter().enumerate() {
            let Some(listener) = listener else { continue };
            if !std::mem::replace(&mut acceptor.armed[number], true) {
                self.ring.accept_multi(listener.socket.as_fd(), special_token(number as u32));
            }
        }
    }

    fn accepted(&mut self, token: Token, result: std::io::Result<OwnedFd>, more: bool) {
        let Named::Special(number) = named(token) else { unreachable!("only listeners accept") };
        let mono_us = self.engine.shard.now.mono_us;
        let Some(acceptor) = &mut self.acceptor else { return };
        let Some(listener) = acceptor.listeners[number as usize].as_ref() else { return };
        let (transport, node) = (listener.transport, listener.node);
        let name = (transport == Transport::Unix).then(|| listener.name.clone());
        if !more {
            if !acceptor.disarmed(number as usize) && result.is_err() {
                // It listens no more, as it was told.
                return;
            }
            acceptor.retry_at_us = Some(match &result {
                Ok(_) => mono_us,
                Err(_) => mono_us + ACCEPT_RETRY_MS * 1000,
            });
        }
        match result {
            Ok(socket) => self.welcome(socket, transport, name.as_deref(), node),
            // The peer gave up before we looked.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => self.timers.log_accept_error(mono_us, &error),
        }
    }

    /// `unix_path`: of the Unix socket that it came in by; `node`: whose port it was.
    fn welcome(&mut self, socket: OwnedFd, transport: Transport, unix_path: Option<&str>, node: Option<ShardId>) {
        let acceptor = self.acceptor.as_mut().expect("only the accepting shard comes here");
        let (unix, secure) = (unix_path.is_some(), transport == Transport::Tls);
        let shard = &mut self.engine.shard;
        let clients: u64 = shard.clients_by_shard.iter().map(|n| u64::from(*n)).sum();
        if clients >= u64::from(shard.config.maxclients) {
            shard.metrics.connections_rejected += 1;
            if !secure {
                // Without a handshake nothing can be said to the others.
                socket::refuse(&socket, b"-ERR max number of clients reached\r\n");
            }
            return;
        }
        let mut denied = false;
        let (peer, local) = if let Some(path) = unix_path {
            (format!("{path}:0"), format!("{path}:0"))
        } else {
            let peer = socket::peer_address(socket.as_fd());
            denied = shard.config.protected_mode && shard.acl.default_user().nopass && !peer.is_local();
            if denied && !secure {
                shard.metrics.connections_rejected += 1;
                socket::refuse(&socket, PROTECTED_MODE);
                return;
            }
            (peer.to_string(), socket::local_address(socket.as_fd()).to_string())
        };
        let to = node.unwrap_or_else(|| least_loaded(&shard.clients_by_shard));
        shard.clients_by_shard[to.index()] += 1;
        let context = shard.tls.clone().filter(|_| secure);
        let tls = context.map(|context| AdoptedTls { context, denied });
        assert_eq!(tls.is_some(), secure, "a TLS port is opened only where there is a certificate");
        let adopted = Adopted { socket, id: acceptor.next_id(), peer, local, unix, node: node.is_some(), tls };
        if to == self.engine.shard.id {
            self.open(adopted);
        } else {
            self.send_message(to, Message::Adopt(Box::new(adopted)));
        }
    }

    fn open(&mut self, adopted: Adopted) {
        let Adopted { socket, id, peer, local, unix, node, tls } = adopted;
        let fd = socket.as_raw_fd();
        let shard = &mut self.engine.shard;
        let mut secure = None;
        if let Some(adopted) = tls {
            match Secure::new(&adopted) {
                Ok(tls) => secure = Some(Box::new(tls)),
                Err(fault) => {
                    tracing::warn!("Error accepting a client connection: {fault} (addr={peer} laddr={local})");
                    return self.count_out();
                }
            }
        }
        shard.metrics.connections_received += 1;
        let now = shard.now;
        let acl = &shard.acl;
        let key = shard.sessions.insert(|key| {
            let mut session = Session::new(key, id, fd, peer, local, unix, now);
            session.log_out(acl);
            session.node = node;
            session
        });
        let index = key.index as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        debug_assert!(self.connections[index].is_none(), "a seat is released with its connection");
        self.ring.recv_multi(socket.as_fd(), connection_token(key));
        let receiving = Receiving::Buffers;
        let handshake = secure.is_some();
        let connection = Connection { socket, key, receiving, sending: false, closing: false, tls: secure };
        self.connections[index] = Some(connection);
        if handshake {
            self.begin_handshake(key);
        }
    }

    fn deliver(&mut self, from: ShardId, mail: Mail<Message>) {
        let (Mail::Request(message) | Mail::Reply(message)) = mail;
        match self.engine.deliver(from, message) {
            Delivery::Done | Delivery::Adopted => {}
            Delivery::Adopt(adopted) => {
                self.open(*adopted);
                self.endpoint.reply(from, Message::AdoptDone);
            }
        }
    }

    // ---- leaving

    /// Sends the engine's messages, or keeps the requests that find no credit.
    fn post(&mut self) {
        for to in 0..self.waiting.len() {
            while let Some(message) = self.waiting[to].pop_front() {
                if let Err(message) = self.endpoint.send(ShardId(to as u16), message) {
                    self.waiting[to].push_front(message);
                    break;
                }
            }
        }
        if !self.engine.has_outgoing() {
            return;
        }
        let (engine, endpoint, waiting) = (&mut self.engine, &mut self.endpoint, &mut self.waiting);
        for (to, message) in engine.take_outgoing() {
            post_one(endpoint, waiting, to, message);
        }
    }

    fn send_message(&mut self, to: ShardId, message: Message) {
        post_one(&mut self.endpoint, &mut self.waiting, to, message);
    }

    /// Looks at sessions whose output waits for the log again when more of it is safe.
    fn release_gated(&mut self) {
        let effects = &self.engine.shard.effects;
        let durable = effects.durable_epoch();
        if durable == self.gated_at {
            return;
        }
        self.gated_at = durable;
        for key in std::mem::take(&mut self.gated) {
            if let Some(session) = self.engine.shard.sessions.get_mut(key) {
                session.gated = false;
                self.engine.mark_dirty(key);
            }
        }
    }

    /// Sends what sessions have to say, closes those that are done, and turns receiving on and off.
    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.engine.take_dirty(&mut dirty);
        self.working = false;
        for &key in &dirty {
            self.flush_session(key);
        }
        self.dirty = dirty;
    }

    fn flush_session(&mut self, key: SessionKey) {
        let mut working = false;
        let mono_us = self.engine.shard.now.mono_us;
        let Some(session) = self.engine.shard.sessions.get_mut(key) else { return };
        let Some(connection) = self.connections[key.index as usize].as_mut() else { return };
        debug_assert_eq!(connection.key, key);
        let effects = &mut self.engine.shard.effects;
        let need = if effects.is_behind() { session.last_epoch } else { session.need };
        let gated = need > self.gated_at;
        if gated && !session.gated && session.closing != Closing::Now {
            session.gated = true;
            effects.want(need);
            self.gated.push(key);
            // The disk has had its turn before, and is to hear of it now and not when the loop happens to wake up.
            self.working = true;
        }
        if let Some(tls) = connection.tls.as_deref_mut() {
            if session.closing != Closing::Now && !connection.sending {
                let (wire, busy) = tls.next_send((!gated).then_some(&mut session.out));
                working = busy;
                session.sending_bytes = tls.bytes_on_the_way();
                connection.sending = !wire.is_empty();
                if connection.sending {
                    self.ring.send(connection.socket.as_fd(), connection_token(key), wire);
                } else {
                    tls.keep(wire);
                }
            }
        } else if session.closing != Closing::Now && !connection.sending && !session.out.is_empty() && !gated {
            let (bytes, blobs) = session.out.take_sendable();
            // A reply that is being worked on has nothing to send yet.
            connection.sending = !bytes.is_empty() || !blobs.is_empty();
            let token = connection_token(key);
            session.sends(bytes.len() + blobs.iter().map(|(_, blob)| blob.len()).sum::<usize>(), mono_us);
            if !connection.sending {
                working = !session.out.is_empty();
            } else if blobs.is_empty() {
                session.sending_bytes = bytes.len();
                let over = session.closing == Closing::No && session.out.is_empty();
                if over && bytes.len() <= PROMPT_BYTES_MAX {
                    self.ring.send_prompt(connection.socket.as_fd(), token, bytes);
                } else {
                    self.ring.send(connection.socket.as_fd(), token, bytes);
                }
            } else {
                let segments = Segments { bytes, blobs };
                session.sending_bytes = segments.len();
                self.ring.send_segments(connection.socket.as_fd(), token, segments);
            }
        }
        match session.closing {
            Closing::No => self.steer_receiving(key),
            Closing::Now => self.close(key),
            Closing::AfterReply => {
                if session.pending.is_empty() && session.out.is_empty() && connection.is_drained() {
                    self.close(key);
                }
            }
        }
        if working {
            self.working = true;
            self.engine.mark_dirty(key);
        }
    }

    /// Arms, cancels or changes how a connection is received from.
    fn steer_receiving(&mut self, key: SessionKey) {
        let shard = &mut self.engine.shard;
        let Some(session) = shard.sessions.get_mut(key) else { return };
        let Some(connection) = self.connections[key.index as usize].as_mut() else { return };
        let token = connection_token(key);
        let waits = session.waits() && session.input.len() >= crate::dispatch::INPUT_BYTES_WAITING_MAX;
        let full = waits || connection.tls.as_ref().is_some_and(|tls| tls.is_full());
        // A direct receive tells of its bytes only at its end: where idle clients are closed, a slow one would look idle. And
        // ciphertext has to be received before it can be read.
        let watched = shard.config.timeout > 0 || connection.tls.is_some();
        let direct =
            !full && !watched && session.big.as_ref().is_some_and(|big| big.body_remaining() >= DIRECT_BYTES_MIN);
        match connection.receiving {
            Receiving::Buffers if full || direct => {
                connection.receiving = Receiving::Cancelling;
                self.ring.cancel_recv(token);
            }
            Receiving::Off if direct => {
                let big = session.big.as_mut().expect("it was just there");
                let body = big.lend();
                let want = (body.capacity() - body.len()).min(DIRECT_BYTES_MAX);
                connection.receiving = Receiving::Direct;
                self.ring.recv_into(connection.socket.as_fd(), token, body, want);
            }
            Receiving::Off if !full => {
                connection.receiving = Receiving::Buffers;
                self.ring.recv_multi(connection.socket.as_fd(), token);
            }
            _ => {}
        }
    }

    /// Ends a connection: its session is gone at once, the descriptor when nothing is in flight on it.
    fn close(&mut self, key: SessionKey) {
        self.engine.remove_session(key);
        let index = key.index as usize;
        let token = connection_token(key);
        if let Some(connection) = self.connections[index].as_mut() {
            connection.closing = true;
            say_farewell(connection);
            if connection.in_flight() {
                // Ends what is in flight; the completions let the descriptor go.
                socket::shut_down(&connection.socket);
                if connection.receiving == Receiving::Direct {
                    self.ring.cancel_recv_into(token);
                }
            } else {
                let connection = self.connections[index].take().expect("it was just there");
                self.let_go(connection);
            }
        }
        self.count_out();
    }

    /// Tells the shard that deals connections out that this one has one less.
    fn count_out(&mut self) {
        let here = self.engine.shard.id;
        if here == ShardId(0) {
            self.engine.shard.clients_by_shard[here.index()] -= 1;
        } else {
            self.engine.tell(ShardId(0), move |shard: &mut Shard| shard.clients_by_shard[here.index()] -= 1);
        }
    }

    // ---- questions and signals

    fn questioned(&mut self) {
        let asked: Vec<Question> = self.questions.iter().flat_map(|questions| questions.queue.try_iter()).collect();
        for question in asked {
            self.engine.start_service(|coordinator| answer(coordinator, question));
        }
    }

    /// `interrupt`: it was SIGINT.
    fn signalled(&mut self, interrupt: bool) {
        tracing::warn!("Received a signal, scheduling shutdown...");
        let shard = &mut self.engine.shard;
        if shard.storage.status.loading_since.is_some() {
            // Nothing has been taken that could be lost.
            for to in shard.slots.all() {
                shard.tell(to, |shard| shard.stop = Stop::Shutdown);
            }
        } else {
            let how = if interrupt { shard.config.shutdown_on_sigint } else { shard.config.shutdown_on_sigterm };
            let save = if how.save {
                Some(true)
            } else if how.nosave {
                Some(false)
            } else {
                None
            };
            shard.tell_conductor(Told::Wish(Request::Shutdown { save, force: how.force }));
        }
        self.engine.pass_on();
    }
}

fn post_one(endpoint: &mut Endpoint<Message>, waiting: &mut [VecDeque<Message>], to: ShardId, message: Message) {
    if !message.is_request() {
        return endpoint.reply(to, message);
    }
    let queue = &mut waiting[to.index()];
    if !queue.is_empty() {
        return queue.push_back(message);
    }
    if let Err(message) = endpoint.send(to, message) {
        queue.push_back(message);
    }
}

/// What a client from elsewhere reads when nobody has set a password. The first word is what clients look at.
pub(super) const PROTECTED_MODE: &[u8] =
    b"-DENIED protected mode is on: with no password set and no addresses bound, connections \
are taken from this machine only. To accept others, set requirepass, or bind to an address, or turn protected-mode off \
after making sure that the port cannot be reached from outside.\r\n";
