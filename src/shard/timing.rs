//! How long commands take: for INFO commandstats and latencystats, SLOWLOG and LATENCY.
//!
//! # The problem
//!
//! A GET of a pipeline takes about 100 ns, reading the clock before and after it 50. So commands are timed in *runs*:
//!
//! ```text
//!   GET GET GET … GET | GET GET SET SET | ZUNIONSTORE | GET            | the clock is read here
//!   └──── GROUP ────┘   └─run─┘ └─run─┘   └─ alone ─┘   └─ end of the read
//! ```
//!
//! A run is of equal commands of one read of one connection (on the owner of the keys: of one message), and [`GROUP`] long at most. A
//! command that is not known to be *brief* ends its run: brief are those of constant or logarithmic time with few arguments, as
//! the table says ([`crate::shard::message::BatchCommand::brief`] carries it).
//!
//! # What is exact
//!
//! - Calls, and total times.
//! - The time of every command that is not brief, and of one that is when it is alone in its read: these are what SLOWLOG and
//!   LATENCY are about.
//! - Brief commands in a pipeline share their run's time. Where that passes a threshold, the last of them is logged with the time of
//!   the run: one of at most [`GROUP`] equal commands was held up, by the machine more likely than by its own work. From then on, for
//!   [`ALONE_NS`], the core times every command alone, so what goes on being slow is told exactly.
//! - If `slowlog-log-slower-than` or `latency-monitor-threshold` asks for less than [`COARSE_NS`], every command is timed alone.
//! - A plan (a command over several shards, or about the server) is timed from its start to its reply, with its messages and its turns
//!   behind other transactions; the wait for data or for the disk does not count.
//!
//! With both thresholds off there is no end of a read and no group, and runs go on until the command changes.
//!
//! Belongs to its core. Absent on purpose: a clock (handed in), and whom a slow command is told to ([`Shard::note_slow`]).

use super::Shard;
use crate::config::Config;
use crate::metrics::latency::Event;
use crate::metrics::slowlog::{Argv, SlowCommand};
use crate::metrics::{CommandId, ShardMetrics};
use crate::resp::Args;
use crate::rt::crash::Trace;

/// Brief commands that share a reading of the clock. At 25 ns for one that is less than a nanosecond a command.
pub const GROUP: u64 = 32;
/// A threshold below this has every command timed alone.
pub const COARSE_NS: u64 = 1_000_000;
/// How long commands are timed alone after a group was slow.
pub const ALONE_NS: u64 = 1_000_000_000;

/// A command that was slow, on the shard where it ran: what its client's shard has yet to complete.
#[derive(Clone, Debug)]
pub struct Slow {
    /// Which one.
    pub id: CommandId,
    /// How long it took.
    pub ns: u64,
    /// Its arguments.
    pub argv: Argv,
}

impl Slow {
    /// With these arguments, none of which is a secret.
    pub fn new(id: CommandId, ns: u64, args: Args<'_>) -> Slow {
        Slow { id, ns, argv: Argv::of(args.len(), |at| args.get(at)) }
    }
}

/// The least time that anybody wants to hear of, nanoseconds.
pub fn slow_ns(config: &Config) -> u64 {
    let slowlog = u64::try_from(config.slowlog_log_slower_than).map_or(u64::MAX, |us| us.saturating_mul(1_000));
    let latency = match u64::try_from(config.latency_monitor_threshold) {
        Ok(ms) if ms > 0 => ms.saturating_mul(1_000_000),
        _ => u64::MAX,
    };
    slowlog.min(latency)
}

/// Times runs of equal commands. See the module.
#[derive(Clone, Copy)]
pub struct Run {
    started_ns: u64,
    id: Option<CommandId>,
    /// Commands in the run, and those of them that count as calls.
    commands: u64,
    calls: u64,
    /// Commands after which it ends.
    group: u64,
    /// What takes so long is told.
    slow_ns: u64,
    due: bool,
    /// The run before took long, and has ended with the command that has just begun.
    late: Option<(CommandId, u64)>,
    /// Something else has run since the last reading.
    stale: bool,
    alone_until_ns: u64,
    /// What a report of a crash will tell of this core.
    trace: &'static Trace,
}

impl Run {
    /// Starts at this time, with no command yet.
    pub fn begin(now_ns: u64, config: &Config, trace: &'static Trace) -> Run {
        let mut run = Run {
            started_ns: 0,
            id: None,
            commands: 0,
            calls: 0,
            group: 0,
            slow_ns: 0,
            due: false,
            late: None,
            stale: false,
            alone_until_ns: 0,
            trace,
        };
        run.turn(now_ns, config);
        run
    }

    /// A turn of the loop begins at this time.
    pub fn turn(&mut self, now_ns: u64, config: &Config) {
        (self.id, self.commands, self.calls) = (None, 0, 0);
        self.started_ns = now_ns;
        (self.due, self.late, self.stale) = (false, None, false);
        self.slow_ns = slow_ns(config);
        self.group = match self.slow_ns {
            u64::MAX => u64::MAX,
            ns if ns < COARSE_NS || now_ns < self.alone_until_ns => 1,
            _ => GROUP,
        };
    }

    /// What runs now is none of the commands that are timed here.
    #[inline]
    pub fn interrupt(&mut self) {
        self.stale = true;
    }

    /// Whether anybody wants to hear of slow commands.
    #[inline]
    pub fn watches(&self) -> bool {
        self.slow_ns != u64::MAX
    }

    /// Whether so long a time is to be told.
    #[inline]
    pub fn is_slow(&self, ns: u64) -> bool {
        ns >= self.slow_ns && self.slow_ns != u64::MAX
    }

    /// The next command begins. Ends the run before it if that is of another command; if that took long, [`Run::take_late`] says so
    /// behind this command, which is due then.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "a command, how it counts, and where its time goes")]
    pub fn enter(
        &mut self,
        id: CommandId,
        brief: bool,
        counts: bool,
        metrics: &mut ShardMetrics,
        histogram: bool,
        clock_ns: impl Fn() -> u64,
        args: Args<'_>,
    ) {
        if self.id != Some(id) || self.stale {
            self.trace.note(id, args);
            self.switch(id, metrics, histogram, clock_ns);
        }
        self.commands += 1;
        self.calls += u64::from(counts);
        self.due |= self.commands >= self.group || (!brief && self.group != u64::MAX);
    }

    fn switch(&mut self, id: CommandId, metrics: &mut ShardMetrics, histogram: bool, clock_ns: impl Fn() -> u64) {
        if self.id.is_some() || self.stale {
            self.late = self.end(metrics, histogram, clock_ns());
            self.due = self.late.is_some();
        }
        self.stale = false;
        self.id = Some(id);
    }

    /// The run that ended with the command before this one, if it took long.
    pub fn take_late(&mut self) -> Option<(CommandId, u64)> {
        self.late.take()
    }

    /// Whether the command that has just run ends its run.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// Whether a run is open whose slowness somebody wants to hear of.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.id.is_some() && self.slow_ns != u64::MAX
    }

    /// The run is over. Returns how long it took, if that was long.
    pub fn end(&mut self, metrics: &mut ShardMetrics, histogram: bool, now_ns: u64) -> Option<(CommandId, u64)> {
        let ns = now_ns.saturating_sub(self.started_ns);
        let commands = std::mem::take(&mut self.commands);
        self.started_ns = now_ns;
        self.due = false;
        let id = self.id.take()?;
        metrics.commands.record_run(id, std::mem::take(&mut self.calls), ns, histogram);
        if !self.is_slow(ns) {
            return None;
        }
        if commands > 1 {
            self.alone_until_ns = now_ns.saturating_add(ALONE_NS);
            self.group = 1;
        }
        Some((id, ns))
    }
}

impl Run {
    /// As [`Run::end`], for a piece of a command: how long it took, whether or not that is long for a piece.
    pub fn end_piece(&mut self, metrics: &mut ShardMetrics, histogram: bool, now_ns: u64) -> u64 {
        let ns = now_ns.saturating_sub(self.started_ns);
        self.end(metrics, histogram, now_ns);
        ns
    }
}

/// What is to be known of a slow command besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowKind {
    /// Whether it is flagged as fast.
    pub fast: bool,
    /// Whether the slow log is to have it.
    pub logged: bool,
}

impl Shard {
    /// A command of a client of this shard (address and name; none if it has gone) was slow: it goes into the slow log and the latency monitor, each
    /// by its own threshold.
    #[cold]
    pub fn note_slow(&mut self, slow: Slow, kind: SlowKind, client: Option<(&str, &[u8])>) {
        let us = slow.ns / 1000;
        self.note_latency(if kind.fast { Event::FastCommand } else { Event::Command }, us);
        let asked = u64::try_from(self.config.slowlog_log_slower_than).is_ok_and(|least_us| us >= least_us);
        if kind.logged && asked {
            let (peer, name) = client.unwrap_or_default();
            let entry = SlowCommand {
                unix_us: self.now.unix_us,
                us,
                argv: slow.argv,
                peer: peer.to_owned(),
                name: name.to_vec(),
            };
            self.slowlog.push(entry, usize::try_from(self.config.slowlog_max_len).unwrap_or(usize::MAX));
        }
    }

    /// Something took so long, microseconds: the latency monitor has it if that passes its threshold.
    #[inline]
    pub fn note_latency(&mut self, event: Event, us: u64) {
        let threshold_ms = self.config.latency_monitor_threshold;
        if threshold_ms > 0 && us / 1000 >= threshold_ms.unsigned_abs() {
            self.latency.note(event, self.now.unix_secs(), us / 1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ShardId;
    use crate::resp::OwnedArgs;
    use crate::rt::crash;
    use std::cell::Cell;

    fn config(slower_than_us: i64, latency_ms: i64) -> Config {
        Config { slowlog_log_slower_than: slower_than_us, latency_monitor_threshold: latency_ms, ..Config::default() }
    }

    const GET: CommandId = CommandId(1);
    const SORT: CommandId = CommandId(2);

    /// Runs these commands (which, whether brief, nanoseconds) as one read; returns what was slow, and how often the clock was read.
    fn run(config: &Config, commands: &[(CommandId, bool, u64)]) -> (Vec<(CommandId, u64)>, u32) {
        let (now, reads) = (Cell::new(0), Cell::new(0));
        let clock = || {
            reads.set(reads.get() + 1);
            now.get()
        };
        let mut metrics = ShardMetrics::default();
        let mut run = Run::begin(0, config, crash::trace(ShardId(0)));
        let argv = OwnedArgs::from_slices(&["GET"]);
        let mut slow = Vec::new();
        for (id, brief, ns) in commands {
            run.enter(*id, *brief, true, &mut metrics, false, clock, argv.as_args());
            now.set(now.get() + ns);
            if run.is_due() {
                slow.extend(run.take_late());
                slow.extend(run.end(&mut metrics, false, clock()));
            }
        }
        if run.is_open() {
            slow.extend(run.end(&mut metrics, false, clock()));
        }
        run.end(&mut metrics, false, now.get());
        let total: u64 = [GET, SORT].iter().filter_map(|id| metrics.commands.get(*id)).map(|times| times.ns).sum();
        assert_eq!(total, now.get(), "every nanosecond is somebody's");
        (slow, reads.get())
    }

    #[test]
    fn a_pipeline_of_brief_commands_reads_the_clock_once_a_group() {
        let (slow, reads) = run(&config(10_000, 0), &[(GET, true, 100); 64]);
        assert_eq!((slow.len(), reads), (0, 2));
        let (_, reads) = run(&config(-1, 0), &[(GET, true, 100); 64]);
        assert_eq!(reads, 0, "nobody asks");
        let (slow, reads) = run(&config(0, 0), &[(GET, true, 100); 64]);
        assert_eq!((slow.len(), reads), (64, 64));
        let (_, reads) = run(&config(-1, 1), &[(GET, true, 100); 64]);
        assert_eq!(reads, 2, "a millisecond is coarse");
    }

    #[test]
    fn a_command_that_may_be_long_is_timed_alone() {
        let (slow, _) = run(&config(10_000, 0), &[(SORT, false, 5_000_000), (SORT, false, 12_000_000), (GET, true, 1)]);
        assert_eq!(slow, [(SORT, 12_000_000)]);
        let (slow, _) = run(&config(10_000, 0), &[(GET, true, 9_000_000), (SORT, false, 9_000_000)]);
        assert_eq!(slow, []);
    }

    #[test]
    fn after_a_slow_group_commands_are_timed_alone_for_a_while() {
        let mut commands = vec![(GET, true, 1_000_000); 64];
        commands.push((GET, true, 11_000_000));
        commands.push((GET, true, 1));
        let (slow, _) = run(&config(10_000, 0), &commands);
        assert_eq!(slow, [(GET, 32_000_000), (GET, 11_000_000)]);
    }

    #[test]
    fn a_run_that_ends_with_another_command_is_told_then() {
        let (slow, _) = run(&config(10_000, 0), &[(GET, true, 11_000_000), (SORT, false, 1)]);
        assert_eq!(slow, [(GET, 11_000_000)]);
    }

    #[test]
    fn what_runs_in_between_is_not_the_next_commands_time() {
        let now = Cell::new(0);
        let mut metrics = ShardMetrics::default();
        let mut run = Run::begin(0, &config(10_000, 0), crash::trace(ShardId(0)));
        run.interrupt();
        now.set(50_000_000);
        let argv = OwnedArgs::from_slices(&["GET"]);
        run.enter(GET, true, true, &mut metrics, false, || now.get(), argv.as_args());
        now.set(50_001_000);
        assert_eq!(run.end(&mut metrics, false, now.get()), None);
        assert_eq!(metrics.commands.get(GET).unwrap().ns, 1_000);
    }

    #[test]
    fn the_lower_threshold_counts() {
        assert_eq!(slow_ns(&config(-1, 0)), u64::MAX);
        assert_eq!(slow_ns(&config(0, 0)), 0);
        assert_eq!(slow_ns(&config(10_000, 5)), 5_000_000);
        assert_eq!(slow_ns(&config(10, 5)), 10_000);
        assert_eq!(slow_ns(&config(i64::MAX, i64::MAX)), u64::MAX);
    }
}
