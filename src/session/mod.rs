//! One connection's state: who the client is, what it has sent that is not yet a command, what it has yet to be sent.
//!
//! A session lives on the core that was dealt its socket, in that shard's [`Sessions`] table, and never moves. It is named
//! by a [`SessionKey`], whose generation makes a late message for a connection that is gone fall on deaf ears.
//!
//! Invariants: replies leave in request order. While [`Session::pending`] is empty a reply is written straight to
//! [`Session::out`]; otherwise it waits in its batch until everything before it is there.
//!
//! Absent on purpose: the socket and what is in flight on it (`net`), and running commands (`dispatch`).

mod outbox;
mod table;
mod tracking;
mod transaction;

pub use outbox::{Merge, Pending, PendingBatch, Route, Source};
pub use table::Sessions;
pub use tracking::{Redirect, TrackedSession};
pub use transaction::{Queued, Transaction, WatchedKey};

use std::collections::VecDeque;
use std::sync::Arc;

use crate::acl::{self, Acl, User};
use crate::base::time::Now;
use crate::base::{DbIndex, Epoch};
use crate::config::{AppendFsync, Config};
use crate::metrics::CommandId;
use crate::resp::{BigBulk, OwnedArgs, Parser, Reply, Resp};

/// A session's place in its shard's table, and which of the sessions that have had this place it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Place in the table.
    pub index: u32,
    /// Counts the sessions that had this place.
    pub generation: u32,
}

/// What CLIENT REPLY has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    /// Every command is answered.
    #[default]
    On,
    /// No command is answered.
    Off,
    /// The command after CLIENT REPLY SKIP, which is not answered.
    SkipNext,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// Not at all.
    No,
    /// When everything queued for it has been sent: QUIT, a protocol error, a kill by its own hand.
    AfterReply,
    /// At once: killed, over a limit, the peer is gone.
    Now,
}

/// How many subscriptions a connection has. Their names are in its shard's `pubsub`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subscriptions {
    /// SUBSCRIBE.
    pub channels: u32,
    /// PSUBSCRIBE.
    pub patterns: u32,
    /// SSUBSCRIBE.
    pub shard_channels: u32,
    /// MONITOR.
    pub monitor: u32,
    /// What their names take, bytes.
    pub name_bytes: u64,
}

/// What a subscription takes in the tables of channels and of clients, beside its name. Bytes.
const SUBSCRIPTION_BYTES: usize = 64;
/// What a prefix takes in the tables of tracking, beside its name. Bytes.
const PREFIX_BYTES: usize = 64;

impl Subscriptions {
    /// Whether there are any to channels.
    #[inline]
    pub fn any(self) -> bool {
        self.channels + self.patterns + self.shard_channels > 0
    }
}

/// CLIENT DURABILITY: how long replies that tell of writes wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// As `appendfsync` says.
    #[default]
    Default,
    /// Not at all.
    None,
    /// Not at all; the writes are on the disk a second later, whatever `appendfsync` says.
    EverySec,
    /// Until the writes are on the disk.
    Always,
}

/// One connection. See the module.
pub struct Session {
    /// The place in the table.
    pub key: SessionKey,
    /// The number that CLIENT ID tells: unique over all shards and the life of the server, in order of acceptance.
    pub id: u64,
    /// The client's address as CLIENT LIST prints it.
    pub peer: String,
    /// The server's address that it connected to.
    pub local: String,
    /// The descriptor's number, for CLIENT LIST.
    pub fd: i32,
    /// Whether it came through the Unix socket.
    pub unix: bool,
    /// Whether it came through the port of its shard, and sees this shard alone, as a node of a cluster.
    pub node: bool,
    /// CLIENT SETNAME; empty if none.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
    /// The selected database.
    pub db: DbIndex,
    /// The protocol its replies are written in.
    pub proto: Resp,
    /// As whom its commands run; `default` before anybody has logged in.
    user: Arc<User>,
    /// Whether it has logged in, or was let in without a password.
    authenticated: bool,
    /// Whether its commands have to be looked at: it has not logged in, or its user may not do everything.
    checked: bool,
    /// What it is subscribed to.
    pub subscriptions: Subscriptions,
    /// CLIENT TRACKING.
    pub tracking: Option<Box<TrackedSession>>,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT DURABILITY.
    pub durability: Durability,
    /// The epoch of the log that has its last write, or something it has read.
    pub last_epoch: Epoch,
    /// What is in `out` is not sent before this epoch of the log is safe.
    pub need: Epoch,
    /// Whether it is in the list of sessions that wait for that.
    pub gated: bool,
    /// When it connected.
    pub created: Now,
    /// When its last bytes came, monotonic microseconds.
    pub active_us: u64,
    /// The last command it ran.
    pub last_command: Option<CommandId>,
    /// Whether and when it is to be closed.
    pub closing: Closing,
    /// The peer will send no more: when what it has sent is run, the connection is closed after the replies.
    pub ended: bool,
    /// The largest piece of output of late, and since when, monotonic microseconds.
    pub output_peak: (usize, u64),
    /// Commands it has run.
    pub commands: u64,
    /// Bytes received from it.
    pub input_bytes: u64,
    /// Bytes handed to the socket for it.
    pub output_bytes: u64,

    /// How far the current command has been parsed.
    pub parser: Parser,
    /// Bytes received and not yet run: at most the query buffer limit.
    pub input: Vec<u8>,
    /// The large argument that is being received into its final allocation.
    pub big: Option<BigBulk>,
    /// Set while a plan runs for this session: what it sends meanwhile stays in `input`.
    pub plan_running: bool,
    /// The plan, while it waits for data (BLPOP).
    pub blocked: Option<u32>,
    /// Set while CLIENT PAUSE holds a command of this session back.
    pub paused: bool,
    /// Set while its next command waits for keys that a transaction has reserved.
    pub parked: bool,
    /// The command that it waits with, while it may have to wait for data: its user's rules may change meanwhile.
    pub waits_with: Option<Box<(CommandId, OwnedArgs)>>,
    /// Set while EXEC runs a command for it.
    pub in_exec: bool,
    /// What has been queued since MULTI.
    pub transaction: Option<Box<Transaction>>,
    /// What it watches.
    pub watches: Vec<WatchedKey>,

    /// Replies ready to be sent.
    pub out: Reply,
    /// Replies that wait for other shards, in request order.
    pub pending: VecDeque<Pending>,
    /// The number of the next pending batch.
    pub next_batch: u64,
    /// Bytes handed to the socket that it has not taken yet.
    pub sending_bytes: usize,
    /// Arguments of the command or transaction that a plan runs for it. Bytes.
    pub running_bytes: usize,
    /// What it takes as its shard has counted it last.
    pub counted_bytes: u64,
    /// Since when it has been over its soft output limit, monotonic microseconds.
    pub over_soft_limit_since_us: Option<u64>,
    /// Whether it is in the engine's list of those who were found over it.
    pub soft_limit_listed: bool,
    /// The command at the start of `input` has been parsed and waits: this many bytes.
    pub held_command: Option<usize>,
    /// Under `pipeline-order strict`: its next command waits until all that was sent to other shards has come back.
    pub ordered: bool,
    /// Whether it is in the engine's list of sessions to be looked at before the turn ends.
    pub dirty: bool,
    /// Whether it is in the engine's list of sessions whose input can go on.
    pub queued: bool,
}

/// Batches that one connection may have on their way to other shards. Past it the connection's input waits, so that what is
/// queued between shards is bounded by the number of connections.
pub const BATCHES_IN_FLIGHT_MAX: usize = 16;

/// Input that is taken in while a connection's commands have to wait; past it the socket is not read. Bytes.
pub const INPUT_BYTES_WAITING_MAX: usize = 1024 * 1024;

/// How long the largest piece of output is remembered. Microseconds; as in Redis.
const OUTPUT_PEAK_US: u64 = 5_000_000;

impl Session {
    /// A session for a connection that was just accepted.
    pub fn new(key: SessionKey, id: u64, fd: i32, peer: String, local: String, unix: bool, now: Now) -> Session {
        Session {
            key,
            id,
            peer,
            local,
            fd,
            unix,
            node: false,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            db: DbIndex(0),
            proto: Resp::V2,
            user: Arc::clone(acl::anybody()),
            authenticated: false,
            checked: true,
            subscriptions: Subscriptions::default(),
            tracking: None,
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            durability: Durability::Default,
            last_epoch: 0,
            need: 0,
            gated: false,
            created: now,
            active_us: now.mono_us,
            last_command: None,
            closing: Closing::No,
            ended: false,
            output_peak: (0, 0),
            commands: 0,
            input_bytes: 0,
            output_bytes: 0,
            parser: Parser::default(),
            input: Vec::new(),
            big: None,
            plan_running: false,
            blocked: None,
            paused: false,
            parked: false,
            waits_with: None,
            in_exec: false,
            transaction: None,
            watches: Vec::new(),
            out: Reply::default(),
            pending: VecDeque::new(),
            next_batch: 0,
            sending_bytes: 0,
            running_bytes: 0,
            counted_bytes: 0,
            over_soft_limit_since_us: None,
            soft_limit_listed: false,
            held_command: None,
            ordered: false,
            dirty: false,
            queued: false,
        }
    }

    /// As whom its commands run.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Whether it has logged in, or was let in without a password.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether its commands have to be looked at one by one.
    #[inline]
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// From now on its commands run as this user, who has shown who it is: by a password, a certificate, or otherwise.
    pub fn log_in(&mut self, user: Arc<User>) {
        self.authenticated = true;
        self.set_user(user);
    }

    /// Back to what it is when it has just connected.
    pub fn log_out(&mut self, acl: &Acl) {
        self.authenticated = acl.lets_strangers_in();
        self.set_user(Arc::clone(acl.default_user()));
    }

    /// Its user has been removed: nothing that it may still send is run.
    pub fn shut_out(&mut self, acl: &Acl) {
        self.authenticated = false;
        self.set_user(Arc::clone(acl.default_user()));
    }

    /// The rules of its user have changed.
    pub fn set_user(&mut self, user: Arc<User>) {
        self.checked = !self.authenticated || !user.unrestricted;
        self.user = user;
    }

    /// Whether it has yet to give a password. One that came while one was required and is none any more need not.
    pub fn must_authenticate(&self, acl: &Acl) -> bool {
        !self.authenticated && !acl.lets_strangers_in()
    }

    /// Whether it reads messages and confirmations only: RESP2 has no way to tell them from replies.
    #[inline]
    pub fn only_listens(&self) -> bool {
        self.proto == Resp::V2 && self.subscriptions.any()
    }

    /// Whether its next command has to wait.
    pub fn stalled(&self) -> bool {
        self.plan_running
            || self.paused
            || self.parked
            || self.ordered
            || (self.pending.len() >= BATCHES_IN_FLIGHT_MAX && self.in_flight() >= BATCHES_IN_FLIGHT_MAX)
            || self.closing != Closing::No
    }

    /// Whether input that is here waits for something other than more input: to be allowed to go on, or for its turn.
    pub fn waits(&self) -> bool {
        self.stalled() || self.queued || self.held_command.is_some()
    }

    /// Bytes received from it that are held in memory, those of commands in a transaction and on their way to other shards included.
    pub fn input_held(&self) -> usize {
        self.input.len()
            + self.big.as_ref().map_or(0, |b| b.allocated_bytes())
            + self.transaction.as_ref().map_or(0, |t| t.bytes)
            + self.pending.iter().map(Pending::bytes_away).sum::<usize>()
    }

    /// So many bytes are handed to the socket for it.
    #[inline]
    pub fn sends(&mut self, bytes: usize, mono_us: u64) {
        let (peak, since_us) = &mut self.output_peak;
        if bytes > *peak || mono_us.saturating_sub(*since_us) > OUTPUT_PEAK_US {
            (*peak, *since_us) = (bytes, mono_us);
        }
    }

    /// Bytes of replies held in memory for it.
    pub fn output_held(&self) -> usize {
        self.out.total_bytes() + self.sending_bytes + self.pending.iter().map(Pending::bytes).sum::<usize>()
    }

    /// Memory that is held for it, its share of what shards hold for it included: for `maxmemory-clients`, CLIENT LIST and INFO.
    pub fn memory_bytes(&self) -> usize {
        let text = self.peer.capacity() + self.local.capacity() + self.name.capacity();
        let input_room = self.input.capacity() - self.input.len() + self.parser.allocated_bytes();
        let output_room = self.out.allocated_bytes().saturating_sub(self.out.len());
        let watches: usize = self.watches.iter().map(|watch| size_of::<WatchedKey>() + watch.key.capacity()).sum();
        let tracking = self.tracking.as_ref().map_or(0, |tracking| {
            let prefixes = tracking.prefixes.iter().map(|prefix| PREFIX_BYTES + 2 * prefix.len());
            size_of::<TrackedSession>() + prefixes.sum::<usize>()
        });
        let Subscriptions { channels, patterns, shard_channels, name_bytes, .. } = self.subscriptions;
        let subscriptions = (channels + patterns + shard_channels) as usize * SUBSCRIPTION_BYTES + name_bytes as usize;
        size_of::<Session>()
            + text
            + self.input_held()
            + input_room
            + self.output_held()
            + output_room
            + self.running_bytes
            + watches
            + tracking
            + subscriptions
    }

    /// A reply tells of what is in this epoch of the log.
    #[inline]
    pub fn tells_of(&mut self, epoch: Epoch, config: &Config) {
        if epoch > self.last_epoch {
            self.last_epoch = epoch;
            if self.waits_for_disk(config) {
                self.need = epoch;
            }
        }
    }

    /// Whether its replies wait until what they tell of is on the disk.
    pub fn waits_for_disk(&self, config: &Config) -> bool {
        match self.durability {
            Durability::Default => config.appendfsync == AppendFsync::Always,
            Durability::None | Durability::EverySec => false,
            Durability::Always => true,
        }
    }

    /// Whether the keys that its next command reads are to be remembered.
    #[inline]
    pub fn remembers(&self) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| tracking.remembers())
    }

    /// Sends a message behind each of the entries that are pending now: whichever of them holds what it is about, it follows at once.
    pub fn push_behind_pending(&mut self, frame: &Reply) {
        let mut pending = VecDeque::with_capacity(self.pending.len() * 2);
        for entry in self.pending.drain(..) {
            match entry {
                Pending::Message(mut messages) => {
                    messages.append_copy(frame);
                    pending.push_back(Pending::Message(messages));
                }
                entry => {
                    if !matches!(pending.back(), None | Some(Pending::Message(_))) {
                        pending.push_back(Pending::message(frame));
                    }
                    pending.push_back(entry);
                }
            }
        }
        if !matches!(pending.back(), Some(Pending::Message(_))) {
            pending.push_back(Pending::message(frame));
        }
        self.pending = pending;
    }

    /// How many of its reads and plans wait for other shards.
    fn in_flight(&self) -> usize {
        self.pending.iter().filter(|entry| !matches!(entry, Pending::Message(_))).count()
    }

    /// Asks for the connection to be closed once everything before this has been answered.
    pub fn close_after_reply(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::AfterReply;
        }
    }

    /// Back to what it was when it connected, as RESET does. The caller decides about authentication, and ends what it watches and
    /// is subscribed to.
    pub fn reset(&mut self) {
        self.db = DbIndex(0);
        self.proto = Resp::V2;
        self.name.clear();
        self.subscriptions = Subscriptions::default();
        self.reply_mode = ReplyMode::On;
        self.no_evict = false;
        self.no_touch = false;
        self.durability = Durability::Default;
        self.transaction = None;
    }
}
