//! Who is told that a command was slow: the slow log and the latency monitor of the client's shard.
//!
//! ```text
//!   command of this core     measured behind it, with its arguments at hand; a run that ends with another command, or with the
//!                            read, finds them in the input again
//!   of another core's        comes back with its batch, arguments and all
//!   plan                     has its arguments kept from its start, cut short
//!   within EXEC              as the second; pieces of a command over several shards are added up
//! ```
//!
//! Part of the [`Engine`]: belongs to its core. Nothing here runs unless somebody wants to hear of slow commands. Absent on purpose:
//! how time is measured (`shard::timing`), and EXEC itself, which is not told of: the commands in it are.

use super::engine::Engine;
use super::plans::RunningPlan;
use crate::commands::monitor::may_be_shown;
use crate::commands::table::{Command, Flags};
use crate::metrics::CommandId;
use crate::metrics::slowlog::Argv;
use crate::resp::{Args, ParseLimits, Parser, Step};
use crate::session::Session;
use crate::shard::timing::{Slow, SlowKind};

/// Buffers of arguments that are kept for other plans.
const SPARE_ARGVS: usize = 64;
/// One that grew past this is not kept. Bytes.
const SPARE_ARGV_BYTES_MAX: usize = 8 * 1024;

/// How a slow command is to be told.
pub(super) fn slow_kind(command: &Command) -> SlowKind {
    SlowKind { fast: command.row.flags.has(Flags::FAST), logged: !command.row.flags.has(Flags::SKIP_SLOWLOG) }
}

impl Engine {
    /// The command that has just run ends its run, or the one before it has ended one that took long. `before` is that one.
    #[inline(never)]
    pub(super) fn measure(&mut self, session: &Session, args: Args<'_>, before: &[u8]) {
        if let Some((id, ns)) = self.run.take_late() {
            self.note_slow_again(session, id, ns, before);
        }
        let latency = self.shard.config.latency_tracking;
        let now_ns = (self.clock_ns)();
        if let Some((id, ns)) = self.run.end(&mut self.shard.metrics, latency, now_ns) {
            let argv = Argv::of(args.len(), may_be_shown(self.table.get(id), args));
            self.note_slow(Some(session), Slow { id, ns, argv });
        }
    }

    /// A read is over, and its last run with it. `input` is its last command.
    #[inline(never)]
    pub(super) fn measure_last(&mut self, session: &Session, input: &[u8]) {
        let latency = self.shard.config.latency_tracking;
        let now_ns = (self.clock_ns)();
        if let Some((id, ns)) = self.run.end(&mut self.shard.metrics, latency, now_ns) {
            self.note_slow_again(session, id, ns, input);
        }
    }

    /// A command was slow that is not at hand any more, but where it stood in the input. A large argument does not stand there: then it is told
    /// of without arguments.
    #[cold]
    pub(super) fn note_slow_again(&mut self, session: &Session, id: CommandId, ns: u64, input: &[u8]) {
        let mut parser = Parser::default();
        let command = self.table.get(id);
        let argv = match parser.step(input, &ParseLimits::default()) {
            Step::Command { consumed } => {
                let args = parser.args(&input[..consumed]);
                Argv::of(args.len(), may_be_shown(command, args))
            }
            _ => Argv::of(1, |_| command.name.as_bytes()),
        };
        self.note_slow(Some(session), Slow { id, ns, argv });
    }

    /// A command of one of this core's clients was slow; none if the client has gone.
    #[cold]
    pub(super) fn note_slow(&mut self, session: Option<&Session>, slow: Slow) {
        let kind = slow_kind(self.table.get(slow.id));
        self.shard.note_slow(slow, kind, session.map(|session| (session.peer.as_str(), session.name.as_slice())));
    }

    /// A copy of a command's arguments for as long as its plan runs, if somebody may want to see them.
    pub(super) fn argv(&mut self, command: &Command, args: Args<'_>) -> Option<Argv> {
        if !self.run.watches() || command.row.flags.has(Flags::SKIP_SLOWLOG) {
            return None;
        }
        let mut argv = self.spare_argvs.pop().unwrap_or_default();
        argv.fill(args.len(), may_be_shown(command, args));
        Some(argv)
    }

    /// A plan is over, and took so long without its waits.
    pub(super) fn plan_took(&mut self, plan: &mut RunningPlan, session: Option<&Session>, ns: u64) {
        let Some(argv) = plan.argv.take() else {
            for slow in plan.driver.take_slow() {
                if self.run.is_slow(slow.ns) {
                    self.note_slow(session, slow);
                }
            }
            return;
        };
        if self.run.is_slow(ns) {
            self.note_slow(session, Slow { id: plan.command.id, ns, argv });
        } else if self.spare_argvs.len() < SPARE_ARGVS && argv.allocated_bytes() <= SPARE_ARGV_BYTES_MAX {
            self.spare_argvs.push(argv);
        }
    }
}
