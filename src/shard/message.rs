//! Everything that crosses from one core to another.
//!
//! There are requests, each answered by exactly one reply, and nothing else: so a queue that admits a request only while it
//! has room for the reply can never block a reply (see `rt::mesh`). A message owns what it carries; nothing in it refers to
//! memory of the sender's shard. The one kind of shared memory is a [`crate::base::Blob`], which nobody changes while it is
//! shared.
//!
//! A request is answered in the step that receives it, always: were an answer to wait for a reservation, its credit would wait,
//! too, and with enough of them the message that ends the reservation could not be sent. What has to wait for its turn is
//! answered with [`Message::Parked`], and its result comes later as a request of its own.

use std::any::Any;
use std::os::fd::OwnedFd;

use super::Shard;
use super::cx::DataFn;
use super::reservations::{Claims, Order, TxnId};
use super::timing::Slow;
use crate::base::{DbIndex, Epoch, ShardId};
use crate::metrics::CommandId;
use crate::resp::{Args, OwnedArgs};
use crate::resp::{Mark, Reply, Resp};
use crate::session::SessionKey;
use crate::tls;

/// One message from one shard to another.
pub enum Message {
    /// Commands for keys that the receiver owns.
    Batch(Box<Batch>),
    /// The same batch on its way back, with the replies.
    BatchDone(Box<Batch>),
    /// A function to be run on the receiver's shard.
    Call(Call),
    /// A step of a transaction, to be run when its turn has come.
    Turn(Box<Turn>),
    /// What a call or a turn returned.
    Answer(Ticket, Answer),
    /// The batch or turn waits; what comes of it comes as one of the next two.
    Parked,
    /// The same of a turn that has got its final place by this. The sender's own shard is to know of it before the turn comes: what
    /// stands there behind a place that is not final cannot run, and it may be what the turn waits for.
    Placed(Order),
    /// The result of a turn that was parked.
    LateAnswer(Ticket, Answer),
    /// A batch that was parked, with the replies.
    LateBatch(Box<Batch>),
    /// It has arrived.
    Noted,
    /// A connection that the receiver is to serve.
    Adopt(Box<Adopted>),
    /// It has been taken over.
    AdoptDone,
}

impl Message {
    /// Whether this message is answered by another, and so takes a credit.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Message::Batch(_)
                | Message::Call(_)
                | Message::Turn(_)
                | Message::LateAnswer(..)
                | Message::LateBatch(_)
                | Message::Adopt(_)
        )
    }
}

/// Names the call that an answer belongs to, on the shard that asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Ticket(pub u64);

/// What a call returned; the asker knows the type.
pub type Answer = Box<dyn Any + Send>;

/// A function that runs on another shard, to its end, like a command.
pub type CallFn = Box<dyn FnOnce(&mut Shard) -> Answer + Send>;

/// A call and where its answer goes.
pub struct Call {
    /// Given back with the answer.
    pub ticket: Ticket,
    /// What to run.
    pub run: CallFn,
}

/// A function that runs on another shard when its transaction's turn has come there, at this place in the order.
pub type TurnFn = Box<dyn FnOnce(&mut Shard, Order) -> Answer + Send>;

/// Where a transaction stands on a shard that is sent a step of it.
pub enum Standing {
    /// It has no place there: it gets the next one, not before this instant, and that is its final one.
    New {
        /// What it claims.
        claims: Claims,
        /// Monotonic nanoseconds.
        at_least_ns: u64,
    },
    /// It has proposed one, and this is the final one.
    Settled(Order),
}

/// One step of a transaction on one shard. See `txn`.
pub struct Turn {
    /// Given back with the answer.
    pub ticket: Ticket,
    /// Whose step it is.
    pub txn: TxnId,
    /// Its place.
    pub standing: Standing,
    /// Whether its claims stay until they are released; else they end with the step.
    pub keep: bool,
    /// What to do.
    pub run: TurnFn,
}

/// A connection that was accepted on one core and is served on another.
pub struct Adopted {
    /// The connected socket.
    pub socket: OwnedFd,
    /// The client's number.
    pub id: u64,
    /// Its address.
    pub peer: String,
    /// The address it connected to.
    pub local: String,
    /// Whether it came through the Unix socket.
    pub unix: bool,
    /// Whether it came through the port of the receiver's node.
    pub node: bool,
    /// Set if it came through the TLS port.
    pub tls: Option<AdoptedTls>,
}

/// What goes with a connection that is to shake hands first.
#[derive(Clone, Debug)]
pub struct AdoptedTls {
    /// What it is made from.
    pub context: tls::Context,
    /// Protected mode keeps it out; it is told so when it can read it.
    pub denied: bool,
}

/// One command of a batch.
#[derive(Clone, Copy)]
pub struct BatchCommand {
    /// What runs it.
    pub run: DataFn,
    /// Which command it is, for statistics.
    pub id: CommandId,
    /// Its arguments, the name included: this many…
    pub argc: u32,
    /// …from this one of the batch's on.
    pub first: u32,
    /// The client's database.
    pub db: DbIndex,
    /// The client's protocol.
    pub proto: Resp,
    /// Whether its lookups touch keys.
    pub touch: bool,
    /// Whether it is a part of a command that its own shard counts.
    pub part: bool,
    /// Whether it is known to be short: see [`super::timing`].
    pub brief: bool,
    /// In a transaction: of which of its split commands this is a piece.
    pub split: Option<u16>,
    /// Finds the keys that it reads, if they are to be remembered for the client (CLIENT TRACKING).
    pub remember: Option<KeysFn>,
}

/// Hands each key of a command to the visitor.
pub type KeysFn = fn(CommandId, Args<'_>, &mut dyn FnMut(&[u8]));

/// Commands of one read of one connection that belong to one shard; then their replies. The box goes there and back and
/// is used again, so a hop allocates nothing.
#[derive(Default)]
pub struct Batch {
    /// The shard that sent it.
    pub home: ShardId,
    /// The connection, on that shard.
    pub session: Option<SessionKey>,
    /// The connection's number for this read.
    pub seq: u64,
    /// Which source of the pending batch this is.
    pub source: u16,
    /// In request order.
    pub commands: Vec<BatchCommand>,
    /// The arguments of all commands, back to back.
    pub args: OwnedArgs,
    /// The replies of all commands, back to back.
    pub reply: Reply,
    /// Where each reply ends.
    pub ends: Vec<Mark>,
    /// Shards that will acknowledge invalidations; the replies are held until they have.
    pub fences: u32,
    /// The epoch of the log that is safe before the replies are sent to a client that waits for that.
    pub need: Epoch,
    /// Commands that were slow.
    pub slow: Vec<Slow>,
    /// How long pieces of split commands took, nanoseconds.
    pub split_ns: Vec<(u16, u64)>,
}

/// A batch whose buffers grew past this is not kept for reuse. Bytes.
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl Batch {
    /// Makes room for so many more commands with so many arguments and bytes altogether.
    pub fn reserve(&mut self, commands: usize, args: usize, bytes: usize) {
        self.commands.reserve(commands);
        self.ends.reserve(commands);
        self.args.reserve(args, bytes);
    }

    /// Adds a command with all these arguments, which are copied.
    #[inline]
    pub fn push_whole(&mut self, command: BatchCommand, args: Args<'_>) {
        let (first, argc) = (self.args.len() as u32, args.len() as u32);
        self.args.extend_framed(args);
        self.commands.push(BatchCommand { first, argc, ..command });
    }

    /// Adds a command of these arguments, which are copied.
    pub fn push<'a>(&mut self, command: BatchCommand, args: impl Iterator<Item = (Args<'a>, usize)>) {
        let first = self.args.len() as u32;
        let mut argc = 0;
        for (args, at) in args {
            match args.blob(at) {
                Some(blob) => self.args.push_blob(blob.clone()),
                None => self.args.push(args.get(at)),
            }
            argc += 1;
        }
        self.commands.push(BatchCommand { first, argc, ..command });
    }

    /// Empties it; false if it is too large to be kept.
    pub fn recycle(&mut self) -> bool {
        self.session = None;
        self.commands.clear();
        self.args.clear();
        self.reply.clear();
        self.ends.clear();
        self.fences = 0;
        self.need = 0;
        self.slow.clear();
        self.split_ns.clear();
        self.args.allocated_bytes() + self.reply.allocated_bytes() <= SPARE_BYTES_MAX && self.commands.capacity() <= 512
    }
}

// A message is moved through queues by value; what is large in it is boxed.
const _: () = assert!(size_of::<Message>() <= 32);
