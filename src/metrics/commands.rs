//! Calls, time and latency of each command on one shard, for INFO commandstats and latencystats.
//!
//! Reading a clock before and after every command would cost as much as a short command itself. A *run* of equal commands that are
//! known to be short is timed as a whole and counted as that many calls of the mean duration; every other command is timed alone
//! (`shard::timing`). Totals are exact; within a run the histogram sees the mean.

use hdrhistogram::Histogram;

/// A command's place in the table, dense from zero. Subcommands have their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// Latencies above this are recorded as this: one second, as in Redis. Unit: nanoseconds.
pub const LATENCY_NS_MAX: u64 = 1_000_000_000;

/// What is known of one command.
#[derive(Clone, Default)]
pub struct CommandTimes {
    /// Times it ran to a reply, an error reply included.
    pub calls: u64,
    /// Time in its handler, nanoseconds.
    pub ns: u64,
    /// Times it was refused before it ran (arity, auth, OOM…).
    pub rejected: u64,
    /// Times it ran and replied with an error.
    pub failed: u64,
    /// Latency per call in nanoseconds, made on the first call: most commands are never used.
    pub latency: Option<Box<Histogram<u64>>>,
}

/// The table of all commands' times on one shard.
#[derive(Clone, Default)]
pub struct CommandStats {
    by_id: Vec<CommandTimes>,
}

impl CommandStats {
    fn at(&mut self, id: CommandId) -> &mut CommandTimes {
        let i = usize::from(id.0);
        if i >= self.by_id.len() {
            self.by_id.resize_with(i + 1, CommandTimes::default);
        }
        &mut self.by_id[i]
    }

    /// A run of `calls` executions of one command that took `ns` together. `histogram` is `latency-tracking`.
    pub fn record_run(&mut self, id: CommandId, calls: u64, ns: u64, histogram: bool) {
        let times = self.at(id);
        times.calls += calls;
        times.ns += ns;
        if histogram && calls > 0 {
            let h = times.latency.get_or_insert_with(|| {
                Box::new(
                    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are constants that it accepts"),
                )
            });
            let each = (ns / calls).clamp(1, LATENCY_NS_MAX);
            h.record_n(each, calls).expect("clamped to the histogram's range");
        }
    }

    /// A refusal before execution.
    pub fn record_rejected(&mut self, id: CommandId) {
        self.at(id).rejected += 1;
    }

    /// An execution that ended in an error reply. The call itself is counted by its run.
    pub fn record_failed(&mut self, id: CommandId) {
        self.at(id).failed += 1;
    }

    /// One command's figures; none if it never ran here.
    pub fn get(&self, id: CommandId) -> Option<&CommandTimes> {
        self.by_id.get(usize::from(id.0))
    }

    /// A copy; histograms are large and only taken along if they are asked for.
    pub fn copy(&self, latencies: bool) -> CommandStats {
        let copy = |times: &CommandTimes| CommandTimes {
            latency: times.latency.as_ref().filter(|_| latencies).cloned(),
            ..*times
        };
        CommandStats { by_id: self.by_id.iter().map(copy).collect() }
    }

    /// Adds another shard's table.
    pub fn absorb(&mut self, other: &CommandStats) {
        for (i, theirs) in other.by_id.iter().enumerate() {
            let ours = self.at(CommandId(u16::try_from(i).expect("ids are 16 bits")));
            ours.calls += theirs.calls;
            ours.ns += theirs.ns;
            ours.rejected += theirs.rejected;
            ours.failed += theirs.failed;
            if let Some(h) = &theirs.latency {
                match &mut ours.latency {
                    Some(mine) => mine.add(h.as_ref()).expect("both have the same bounds"),
                    None => ours.latency = Some(h.clone()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_all_its_calls_and_its_whole_time() {
        let mut s = CommandStats::default();
        s.record_run(CommandId(3), 10, 5_000, true);
        let t = s.get(CommandId(3)).unwrap();
        assert_eq!((t.calls, t.ns), (10, 5_000));
        let h = t.latency.as_ref().unwrap();
        assert_eq!(h.len(), 10);
        assert!((490..=510).contains(&h.value_at_percentile(50.0)));
    }

    #[test]
    fn without_latency_tracking_no_histogram_is_made() {
        let mut s = CommandStats::default();
        s.record_run(CommandId(0), 1, 5, false);
        assert!(s.get(CommandId(0)).unwrap().latency.is_none());
        assert!(s.get(CommandId(9)).is_none());
    }

    #[test]
    fn shards_add_up() {
        let mut a = CommandStats::default();
        let mut b = CommandStats::default();
        a.record_run(CommandId(1), 1, 100, true);
        b.record_run(CommandId(1), 2, 100, true);
        b.record_failed(CommandId(1));
        b.record_rejected(CommandId(2));
        a.absorb(&b);
        let t = a.get(CommandId(1)).unwrap();
        assert_eq!((t.calls, t.ns, t.failed), (3, 200, 1));
        assert_eq!(t.latency.as_ref().unwrap().len(), 3);
        assert_eq!(a.get(CommandId(2)).unwrap().rejected, 1);
    }
}
