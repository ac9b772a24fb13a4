//! LATENCY: how long commands take.
//!
//! HISTOGRAM reads the same histograms as INFO latencystats. The latency monitor, which keeps the times of slow events, is not
//! here; what asks for its events finds none, as in a Redis whose `latency-monitor-threshold` is 0.

use super::{NONDETERMINISTIC, SERVER};
use crate::commands::help::help;
use crate::commands::table::{Command, Flags, Row, Run, SessionCx, table};
use crate::metrics::{CommandStats, CommandTimes};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::txn::{Coordinator, Plan};

const FLAGS: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);
const TIPS: &[&str] = &[NONDETERMINISTIC, "request_policy:all_nodes", "response_policy:special"];

const SUB: Row = Row { since: "2.8.13", flags: FLAGS, tips: TIPS, ..SERVER };

/// See the module.
pub const ROW: Row = Row {
    name: "latency",
    summary: "A container for commands about latencies.",
    since: "2.8.13",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: &[
        Row {
            name: "help",
            summary: "Prints this help.",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            tips: &[],
            run: Run::Session(help),
            ..SUB
        },
        Row {
            name: "histogram",
            usage: "[command [command ...]]",
            summary: "How many calls of each command were done within 1, 2, 4… microseconds.",
            since: "7.0.0",
            complexity: "O(N) with N commands that have been used",
            arity: -2,
            run: Run::Server(histogram),
            ..SUB
        },
        Row {
            name: "history",
            usage: "event",
            summary: "When an event was slow; nothing is recorded.",
            arity: 3,
            run: Run::Session(nothing),
            ..SUB
        },
        Row {
            name: "latest",
            summary: "The last slow event of each kind; nothing is recorded.",
            arity: 2,
            run: Run::Session(nothing),
            ..SUB
        },
        Row {
            name: "reset",
            usage: "[event [event ...]]",
            summary: "Forgets slow events; replies with how many kinds there were.",
            arity: -2,
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            run: Run::Session(reset),
            ..SUB
        },
    ],
    ..SERVER
};

fn nothing(_: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.array(0);
    Ok(())
}

fn reset(_: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.int(0);
    Ok(())
}

fn histogram(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let parts = coordinator.call_seen(|shard| shard.metrics.commands.copy(true)).await;
        let mut stats = CommandStats::default();
        parts.iter().for_each(|part| stats.absorb(part));
        let used: Vec<_> = asked_for(args.as_args())
            .into_iter()
            .filter_map(|command| Some((command, stats.get(command.id)?)))
            .filter_map(|(command, times)| Some((command, times, buckets(times)?)))
            .collect();
        let mut reply = coordinator.reply();
        reply.map(used.len());
        for (command, times, buckets) in used {
            reply.bulk(command.full_name.as_bytes());
            reply.map(2);
            reply.bulk(b"calls");
            reply.int(times.calls as i64);
            reply.bulk(b"histogram_usec");
            reply.map(buckets.len());
            for (us, calls) in buckets {
                reply.int(us as i64);
                reply.int(calls as i64);
            }
        }
        Ok(reply)
    })
}

/// The commands named behind `LATENCY HISTOGRAM`, containers with all their subcommands; all if none is named.
fn asked_for(args: Args<'_>) -> Vec<&'static Command> {
    if args.len() == 2 {
        return table().all().collect();
    }
    let mut commands = Vec::new();
    for name in args.slice(2).iter() {
        if let Some(command) = table().find_full(name) {
            commands.push(command);
            commands.extend(command.children.iter().map(|id| table().get(*id)));
        }
    }
    commands
}

/// The narrowest bucket ends here; each further one at twice that. Nanoseconds, of which Redis shows whole microseconds.
const BUCKET_NS: u64 = 1024;

/// Calls that took at most so many microseconds, without buckets that add none.
fn buckets(times: &CommandTimes) -> Option<Vec<(u64, u64)>> {
    let latency = times.latency.as_ref()?;
    let mut buckets = Vec::new();
    let mut counted = 0;
    let mut end_ns = BUCKET_NS;
    while counted < latency.len() {
        let within = latency.count_between(0, end_ns);
        if within > counted {
            buckets.push((end_ns / 1000, within));
            counted = within;
        }
        end_ns *= 2;
    }
    Some(buckets).filter(|b| !b.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CommandId;

    #[test]
    fn buckets_are_cumulative_and_double() {
        let mut stats = CommandStats::default();
        stats.record_run(CommandId(1), 3, 1500, true);
        stats.record_run(CommandId(1), 1, 3000, true);
        stats.record_run(CommandId(1), 1, 900_000_000, true);
        let buckets = buckets(stats.get(CommandId(1)).unwrap()).unwrap();
        assert_eq!(buckets[0], (1, 3));
        assert_eq!(buckets[1], (4, 4));
        assert_eq!(buckets.last().unwrap().1, 5);
        assert_eq!(buckets.len(), 3, "{buckets:?}");
    }

    #[test]
    fn a_container_stands_for_its_subcommands() {
        let args = OwnedArgs::from_slices(&["LATENCY", "HISTOGRAM", "config", "nope"]);
        let names: Vec<_> = asked_for(args.as_args()).iter().map(|c| c.full_name.as_str()).collect();
        assert!(names.contains(&"config") && names.contains(&"config|get") && !names.contains(&"get"), "{names:?}");
    }
}
