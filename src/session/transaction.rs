//! What a connection keeps between MULTI and EXEC, and what it watches.
//!
//! Nothing here holds anything on any shard but the count of watchers of a key: a client that sends half a transaction and
//! falls silent is in nobody's way.

use crate::base::{DbIndex, ShardId};
use crate::metrics::CommandId;
use crate::resp::OwnedArgs;

/// A command that waits for EXEC.
pub struct Queued {
    /// Which one.
    pub id: CommandId,
    /// Its arguments, the name included.
    pub args: OwnedArgs,
}

/// What has been queued since MULTI.
#[derive(Default)]
pub struct Transaction {
    /// In order.
    pub commands: Vec<Queued>,
    /// Whether some of them may write.
    pub writes: bool,
    /// Whether some of them are refused when memory is full.
    pub wants_memory: bool,
    /// Whether a command was refused, so that EXEC will be, too.
    pub broken: bool,
    /// Memory that the queued commands take.
    pub bytes: usize,
}

impl Transaction {
    /// Adds a command.
    pub fn push(&mut self, id: CommandId, args: OwnedArgs, writes: bool) {
        self.bytes += args.bytes() + size_of::<Queued>();
        self.writes |= writes;
        self.commands.push(Queued { id, args });
    }
}

/// A key that a connection watches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchedKey {
    /// The database that was selected.
    pub db: DbIndex,
    /// The key.
    pub key: Vec<u8>,
    /// Its owner.
    pub shard: ShardId,
    /// The version it had then.
    pub version: u64,
}
