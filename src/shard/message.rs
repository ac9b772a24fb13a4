//! Everything that crosses from one core to another.
//!
//! There are requests, each answered by exactly one reply, and nothing else: so a queue that admits a request only while it
//! has room for the reply can never block a reply (see `rt::mesh`). A message owns what it carries; nothing in it refers to
//! memory of the sender's shard. The one kind of shared memory is a [`crate::base::Blob`], which nobody changes while it is
//! shared.

use std::any::Any;
use std::os::fd::OwnedFd;

use super::Shard;
use super::cx::DataFn;
use crate::base::DbIndex;
use crate::metrics::CommandId;
use crate::resp::OwnedArgs;
use crate::resp::{Mark, Reply, Resp};
use crate::session::SessionKey;

/// One message from one shard to another.
pub enum Message {
    /// Commands for keys that the receiver owns.
    Batch(Box<Batch>),
    /// The same batch on its way back, with the replies.
    BatchDone(Box<Batch>),
    /// A function to be run on the receiver's shard.
    Call(Call),
    /// What it returned.
    Answer(Ticket, Answer),
    /// A connection that the receiver is to serve.
    Adopt(Box<Adopted>),
    /// It has been taken over.
    AdoptDone,
}

impl Message {
    /// Whether this message is answered by another, and so takes a credit.
    pub fn is_request(&self) -> bool {
        matches!(self, Message::Batch(_) | Message::Call(_) | Message::Adopt(_))
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
}

/// Commands of one read of one connection that belong to one shard; then their replies. The box goes there and back and
/// is used again, so a hop allocates nothing.
#[derive(Default)]
pub struct Batch {
    /// The connection, on the shard that sent it.
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
}

/// A batch whose buffers grew past this is not kept for reuse. Bytes.
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl Batch {
    /// Empties it; false if it is too large to be kept.
    pub fn recycle(&mut self) -> bool {
        self.session = None;
        self.commands.clear();
        self.args.clear();
        self.reply.clear();
        self.ends.clear();
        self.args.allocated_bytes() + self.reply.allocated_bytes() <= SPARE_BYTES_MAX && self.commands.capacity() <= 512
    }
}

// A message is moved through queues by value; what is large in it is boxed.
const _: () = assert!(size_of::<Message>() <= 32);
