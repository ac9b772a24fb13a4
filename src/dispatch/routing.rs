//! Which shards a command concerns, and the batches that carry commands there.
//!
//! While one read of one connection is run, the first command for another shard opens a [`Building`]: from then on every reply
//! of that read is routed, so that replies leave in request order. At the end of the read it is sealed: one message per shard.

use crate::base::ShardId;
use crate::commands::keys::each_key;
use crate::commands::table::{Command, Run};
use crate::resp::Args;
use crate::resp::Reply;
use crate::session::{PendingBatch, Route, Source};
use crate::shard::message::{Batch, BatchCommand};
use crate::shard::slots::SlotMap;

/// Where a data command runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// All its keys are on this shard (or it has none and runs where its client is).
    One(ShardId),
    /// They are not.
    Several,
}

/// Finds the owner of a command's keys.
#[inline]
pub fn owner(command: &Command, args: Args<'_>, slots: SlotMap, here: ShardId) -> Owner {
    if slots.shards() == 1 {
        return Owner::One(here);
    }
    if let Some((first, last, _)) = command.key_range
        && first == last
    {
        return match args.len() > first as usize {
            true => Owner::One(slots.shard_of(args.get(first as usize))),
            false => Owner::One(here),
        };
    }
    if let (Run::Split(..), Some((first, _, step))) = (command.row.run, command.key_range) {
        let (first, step) = (first as usize, step as usize);
        if args.len() > first && (args.len() - first).is_multiple_of(step) {
            // Two owners are enough to know that there are several.
            let mut owners = (first..args.len()).step_by(step).map(|at| slots.shard_of(args.get(at)));
            let owner = owners.next().unwrap_or(here);
            return if owners.all(|other| other == owner) { Owner::One(owner) } else { Owner::Several };
        }
        // MSET with a key too many: any shard's handler knows the words for it.
        return Owner::One(here);
    }
    let mut owner = None;
    let mut several = false;
    // Arguments that contradict the specification are for the handler to complain about, wherever it runs.
    let _ = each_key(command, args, |at, _| {
        let shard = slots.shard_of(args.get(at));
        several |= owner.is_some_and(|o| o != shard);
        owner = Some(shard);
    });
    if several { Owner::Several } else { Owner::One(owner.unwrap_or(here)) }
}

/// Batches that have been there and back.
pub type SpareBatches = Vec<Box<Batch>>;

/// A pending batch that is being filled, with the messages that will leave for other shards.
#[derive(Default)]
pub struct Building {
    /// Routes and sources.
    pub pending: PendingBatch,
    /// By source number; source 0 is this shard and has none.
    pub messages: Vec<Option<(ShardId, Box<Batch>)>>,
}

impl Building {
    /// The replies of this shard's own commands.
    #[inline]
    pub fn here(&mut self) -> &mut Source {
        self.source_zero();
        &mut self.pending.sources[0]
    }

    #[inline]
    fn source_zero(&mut self) {
        if self.messages.is_empty() {
            self.messages.push(None);
            if self.pending.sources.is_empty() {
                self.pending.sources.push(Source::default());
            }
        }
    }

    /// The source number of another shard, with a message for it from `spare`.
    #[inline]
    fn source_of(&mut self, shard: ShardId, spare: &mut SpareBatches) -> u16 {
        self.source_zero();
        let found = self.messages.iter().position(|m| m.as_ref().is_some_and(|(to, _)| *to == shard));
        let source = found.unwrap_or_else(|| {
            self.messages.push(Some((shard, spare.pop().unwrap_or_default())));
            if self.pending.sources.len() < self.messages.len() {
                self.pending.sources.push(Source::default());
            }
            self.messages.len() - 1
        });
        source as u16
    }

    /// Adds a reply of this shard, which `write` encodes.
    #[inline]
    pub fn reply_here<R>(&mut self, silent: bool, write: impl FnOnce(&mut Reply) -> R) -> R {
        let source = self.here();
        let result = write(&mut source.reply);
        let end = source.reply.mark();
        source.ends.push(end);
        self.pending.routes.push(if silent { Route::Silent(0) } else { Route::One(0) });
        result
    }

    /// Adds a command for another shard; its arguments are copied into the message.
    #[inline]
    pub fn send(
        &mut self,
        shard: ShardId,
        command: BatchCommand,
        args: Args<'_>,
        silent: bool,
        spare: &mut SpareBatches,
    ) {
        let source = self.source_of(shard, spare);
        let (_, batch) = self.messages[usize::from(source)].as_mut().expect("another shard's source has a message");
        batch.push_whole(command, args);
        self.pending.routes.push(if silent { Route::Silent(source) } else { Route::One(source) });
    }

    /// The only other shard that this batch goes to so far, if there is just one.
    pub fn only_target(&self) -> Option<ShardId> {
        let mut targets = self.messages.iter().flatten().map(|(to, _)| *to);
        let first = targets.next();
        if targets.next().is_none() { first } else { None }
    }

    /// Whether commands for other shards are in it.
    pub fn has_remote(&self) -> bool {
        self.messages.iter().any(Option::is_some)
    }

    /// Whether this shard's own commands are in it.
    pub fn has_local(&self) -> bool {
        self.pending.sources.first().is_some_and(|s| !s.ends.is_empty())
    }
}
