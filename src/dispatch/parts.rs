//! Data commands of one transaction, sorted by the shards that run them, and how their replies come back into order.
//!
//! ```text
//!   SET a 1   MGET b c   GET d            a, d on shard 1; b on shard 2; c on shard 1
//!   shard 1   SET a 1, MGET c, GET d      one step there
//!   shard 2   MGET b                      and one here
//! ```
//!
//! A command over several shards that is split key by key (MGET, DEL) is a transaction of this kind by itself, EXEC is one with
//! more commands. Invariant: commands of one shard run there in the order in which they were added.

use std::sync::Arc;

use super::routing::{Owner, owner};
use crate::base::{DbIndex, ShardId};
use crate::commands::client_tracking::keys_of;
use crate::commands::table::{Command, Flags, Run};
use crate::resp::{Args, Reply, Resp};
use crate::session::{Merge, PendingBatch, Route, Source};
use crate::shard::Shard;
use crate::shard::cx::DataFn;
use crate::shard::message::{Batch, BatchCommand, KeysFn};
use crate::shard::slots::SlotMap;
use crate::shard::timing::Slow;
use crate::txn::Coordinator;

/// On behalf of whom the commands run.
#[derive(Clone, Copy)]
pub struct Client {
    /// The selected database.
    pub db: DbIndex,
    /// The protocol of the replies.
    pub proto: Resp,
    /// Whether lookups touch keys.
    pub touch: bool,
    /// Whether the keys that it reads are remembered for it.
    pub remembers: bool,
    /// The shard of the connection: data commands without keys run there.
    pub home: ShardId,
}

impl Client {
    /// A command of this client, or a part of one that is counted elsewhere.
    fn command(&self, command: &Command, run: DataFn, part: bool, argc: usize, split: Option<u16>) -> BatchCommand {
        let Client { db, proto, touch, remembers, .. } = *self;
        let remember: Option<KeysFn> = (remembers && command.row.flags.has(Flags::READONLY)).then_some(keys_of);
        let brief = split.is_none() && command.is_brief(argc);
        BatchCommand { run, id: command.id, argc: 0, first: 0, db, proto, touch, part, brief, split, remember }
    }
}

/// What a batch will hold.
struct Room {
    commands: usize,
    args: usize,
    bytes: usize,
}

/// Room for the reply to one command, bytes: most are shorter.
const REPLY_BYTES: usize = 64;

/// Something about a shard on which it depends whether its commands run.
pub type Condition = Arc<dyn Fn(&Shard) -> bool + Send + Sync>;

/// See the module.
pub struct Parts {
    /// Whether the parts of a split command are counted as one, on one of the shards; else whoever started it counts it.
    counts: bool,
    replies: PendingBatch,
    /// By source number.
    batches: Vec<(ShardId, Box<Batch>)>,
    /// Commands of EXEC that were split, to add up how long they took.
    splits: Vec<Slow>,
}

impl Parts {
    /// The one command of a plan, which is counted with its plan.
    pub fn of_plan() -> Parts {
        Parts { counts: false, replies: PendingBatch::default(), batches: Vec::new(), splits: Vec::new() }
    }

    /// Commands of EXEC, each of which is counted where it runs.
    pub fn of_exec() -> Parts {
        Parts { counts: true, ..Parts::of_plan() }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a command if it is of the kind that is run by data steps alone; false if it is not.
    pub fn add(&mut self, command: &Command, args: Args<'_>, client: Client, slots: SlotMap) -> bool {
        let (f, split) = match command.row.run {
            Run::Data(f) | Run::Hops(f, _) => (f, None),
            Run::Split(f, merge) => (f, Some(merge)),
            // Where everything is on one shard, one step does it.
            Run::Steps(f, _) if slots.shards() == 1 => (f, None),
            Run::Steps(..) | Run::Session(_) | Run::Server(_) | Run::Spread(..) | Run::Exec | Run::Container => {
                return false;
            }
        };
        match (owner(command, args, slots, client.home), split) {
            (Owner::One(shard), _) => {
                let room = Room { commands: 1, args: args.len(), bytes: args.iter().map(<[u8]>::len).sum() };
                let all = (0..args.len()).map(|at| (args, at));
                self.send(shard, client.command(command, f, !self.counts, args.len(), None), &room, all);
            }
            (Owner::Several, None) => return false,
            (Owner::Several, Some(merge)) => self.split(command, f, merge, args, client, slots, |_, _| ()),
        }
        true
    }

    /// Adds a command key by key, and shows each key with its owner.
    #[expect(clippy::too_many_arguments, reason = "a command, what it runs and is made of, and for whom")]
    pub fn split<'a>(
        &mut self,
        command: &Command,
        f: DataFn,
        merge: Merge,
        args: Args<'a>,
        client: Client,
        slots: SlotMap,
        mut each: impl FnMut(ShardId, &'a [u8]),
    ) {
        let (first, _, step) = command.key_range.expect("split commands have their keys at a fixed distance");
        let (first, step) = (first as usize, step as usize);
        // A plan of its own is timed as a whole.
        let split = self.counts.then(|| {
            self.splits.push(Slow::new(command.id, 0, args));
            (self.splits.len() - 1) as u16
        });
        let parts = ((args.len() - first) / step) as u32;
        self.replies.routes.reserve(parts as usize + 1);
        self.replies.routes.push(Route::Split { merge, parts, proto: client.proto, silent: false });
        // Each shard gets room for all of it: growing piece by piece cost more than the work itself.
        let commands = parts as usize;
        let bytes = args.iter().map(<[u8]>::len).sum::<usize>() + args.get(0).len() * commands;
        let room = Room { commands, args: (step + 1) * commands, bytes };
        for at in (first..args.len()).step_by(step) {
            let shard = slots.shard_of(args.get(at));
            each(shard, args.get(at));
            let positions = std::iter::once(0).chain(at..at + step).map(|i| (args, i));
            let part = at != first || !self.counts;
            self.send(shard, client.command(command, f, part, args.len(), split), &room, positions);
        }
    }

    fn send<'a>(
        &mut self,
        shard: ShardId,
        command: BatchCommand,
        room: &Room,
        args: impl Iterator<Item = (Args<'a>, usize)>,
    ) {
        let found = self.batches.iter().position(|(to, _)| *to == shard);
        let source = found.unwrap_or_else(|| {
            let mut batch: Box<Batch> = Box::default();
            batch.reserve(room.commands, room.args, room.bytes);
            batch.reply.reserve(room.commands * REPLY_BYTES);
            self.batches.push((shard, batch));
            self.batches.len() - 1
        });
        self.batches[source].1.push(command, args);
        self.replies.routes.push(Route::One(source as u16));
    }

    /// Runs all of it as one step and appends the replies, in the order of the commands.
    pub async fn run(self, coordinator: &Coordinator, reply: &mut Reply) {
        let done = self.run_if(coordinator, Arc::new(|_| true), reply).await;
        assert!(done, "there was no condition");
    }

    /// As [`Parts::run`], if `condition` holds then on the one shard that runs something. Returns whether it held.
    pub async fn run_if(mut self, coordinator: &Coordinator, condition: Condition, reply: &mut Reply) -> bool {
        let steps = self.batches.drain(..).map(|(shard, mut batch)| {
            let condition = Arc::clone(&condition);
            let step = move |shard: &mut Shard| {
                let holds = condition(shard);
                if holds {
                    let all = 0..batch.commands.len();
                    shard.run_batch(&mut batch, all, true);
                }
                (holds, batch)
            };
            (shard, step)
        });
        let steps = steps.collect();
        let mut done = true;
        for (holds, batch) in coordinator.transact(steps).await {
            done &= holds;
            for (split, ns) in batch.split_ns {
                self.splits[usize::from(split)].ns += ns;
            }
            coordinator.were_slow(batch.slow);
            self.replies.sources.push(Source::new(batch.reply, batch.ends));
        }
        if done {
            // Those that are not slow are sorted out where the thresholds are known.
            coordinator.were_slow(self.splits);
            self.replies.assemble(reply);
        }
        done
    }
}
