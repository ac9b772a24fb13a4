//! LATENCY: how long commands take, and what has held a core up.
//!
//! HISTOGRAM reads the same histograms as INFO latencystats, of all shards together. The others read the latency monitor of every shard
//! (`metrics::latency`) and join the series: a second has one sample, the worst of any core.

use super::{NONDETERMINISTIC, SERVER};
use crate::commands::help::help;
use crate::commands::table::{Command, Flags, Row, Run, table};
use crate::config::Config;
use crate::metrics::latency::{Event, LatencyMonitor, Spike, Spikes, Summary};
use crate::metrics::{CommandStats, CommandTimes};
use crate::resp::{Args, CommandError, OwnedArgs};
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
            name: "doctor",
            summary: "Says in words what was slow, and what can be done about it.",
            complexity: "O(1)",
            arity: 2,
            run: Run::Server(doctor),
            ..SUB
        },
        Row {
            name: "graph",
            usage: "event",
            summary: "Draws when an event was slow, and how much.",
            arity: 3,
            run: Run::Server(graph),
            ..SUB
        },
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
            summary: "When an event was slow, and how many milliseconds it took: the last 160 seconds that had one.",
            arity: 3,
            run: Run::Server(history),
            ..SUB
        },
        Row {
            name: "latest",
            summary: "The last slow event of each kind: when, milliseconds, and the worst so far.",
            arity: 2,
            run: Run::Server(latest),
            ..SUB
        },
        Row {
            name: "reset",
            usage: "[event [event ...]]",
            summary: "Forgets slow events; replies with how many kinds there were.",
            arity: -2,
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            run: Run::Server(reset),
            ..SUB
        },
    ],
    ..SERVER
};

/// The series of all shards, joined.
async fn joined(coordinator: &Coordinator) -> LatencyMonitor {
    let mut all = LatencyMonitor::default();
    coordinator.call_all(|shard| shard.latency.clone()).await.iter().for_each(|part| all.absorb(part));
    all
}

fn latest(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let all = joined(&coordinator).await;
        let mut reply = coordinator.reply();
        let latest: Vec<_> = all.iter().filter_map(|(event, spikes)| Some((event, spikes, spikes.latest()?))).collect();
        reply.array(latest.len());
        for (event, spikes, Spike { unix_secs, ms }) in latest {
            reply.array(4);
            reply.bulk(event.name().as_bytes());
            reply.int(unix_secs);
            reply.int(ms as i64);
            reply.int(spikes.max_ms() as i64);
        }
        Ok(reply)
    })
}

fn history(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let all = joined(&coordinator).await;
        let spikes = Event::named(args.as_args().get(2)).and_then(|event| all.get(event));
        let mut reply = coordinator.reply();
        reply.array(spikes.map_or(0, |spikes| spikes.iter().len()));
        for Spike { unix_secs, ms } in spikes.into_iter().flat_map(Spikes::iter) {
            reply.array(2);
            reply.int(*unix_secs);
            reply.int(*ms as i64);
        }
        Ok(reply)
    })
}

fn reset(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let named = args.as_args().slice(2);
        // A name that is none resets nothing.
        let events: Vec<Event> = match named.len() {
            0 => Event::ALL.to_vec(),
            _ => named.iter().filter_map(Event::named).collect(),
        };
        let forgotten = coordinator
            .call_all(move |shard| {
                let there: Vec<Event> = shard.latency.iter().map(|(event, _)| event).collect();
                events.iter().for_each(|event| shard.latency.reset(*event));
                there.into_iter().filter(|event| events.contains(event)).collect::<Vec<_>>()
            })
            .await;
        // An event that several shards had is one.
        let mut kinds: Vec<Event> = forgotten.into_iter().flatten().collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut reply = coordinator.reply();
        reply.int(kinds.len() as i64);
        Ok(reply)
    })
}

fn graph(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let all = joined(&coordinator).await;
        let name = args.as_args().get(2);
        let now = coordinator.origin().now.unix_secs();
        let drawn = Event::named(name).and_then(|event| draw(event, all.get(event)?, now));
        let refusal = || CommandError::of_pieces(&[b"ERR No samples available for event '", name, b"'"]);
        let text = drawn.ok_or_else(refusal)?;
        let mut reply = coordinator.reply();
        reply.verbatim("txt", text.as_bytes());
        Ok(reply)
    })
}

/// Columns of a graph: one for each sample, the newest at the right.
const COLUMNS: usize = 72;
/// Rows of a graph.
const ROWS: u64 = 8;

/// Bars over how long ago they were.
fn draw(event: Event, spikes: &Spikes, now_secs: i64) -> Option<String> {
    let summary = spikes.summary(now_secs)?;
    let shown: Vec<&Spike> = spikes.iter().rev().take(COLUMNS).rev().collect();
    let high = shown.iter().map(|spike| spike.ms).max()?.max(1);
    let mut text = format!(
        "{}: {} samples, from {} ms to {} ms; the worst ever was {} ms\n\n",
        event.name(),
        summary.count,
        summary.low_ms,
        summary.high_ms,
        spikes.max_ms()
    );
    for row in (1..=ROWS).rev() {
        // Each row stands for an eighth of the worst that is shown; a bar reaches up to the row that its time comes to.
        let scale = if row == ROWS || row == 1 { format!("{:>7} ms", high * row / ROWS) } else { " ".repeat(10) };
        let bars = shown.iter().map(|spike| if spike.ms * ROWS > high * (row - 1) { '#' } else { ' ' });
        text.push_str(format!("{scale} |{}", bars.collect::<String>()).trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{}+{}\n", " ".repeat(11), "-".repeat(shown.len())));
    // How long ago, written downwards under each bar.
    let ages: Vec<Vec<char>> =
        shown.iter().map(|spike| short_time(now_secs - spike.unix_secs).chars().collect()).collect();
    for line in 0..ages.iter().map(Vec::len).max()? {
        let letters: String = ages.iter().map(|age| age.get(line).copied().unwrap_or(' ')).collect();
        text.push_str(format!("{}{letters}", " ".repeat(12)).trim_end());
        text.push('\n');
    }
    Some(text)
}

/// A duration in its largest unit.
fn short_time(secs: i64) -> String {
    match secs.max(0) {
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3600 => format!("{}m", secs / 60),
        secs @ 3600..86_400 => format!("{}h", secs / 3600),
        secs => format!("{}d", secs / 86_400),
    }
}

fn doctor(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let all = joined(&coordinator).await;
        let home = coordinator.origin().shard;
        let config = coordinator.call(home, |shard| shard.config.clone()).await;
        let text = diagnosis(&all, coordinator.origin().now.unix_secs(), &config);
        let mut reply = coordinator.reply();
        reply.verbatim("txt", text.as_bytes());
        Ok(reply)
    })
}

/// What can be done about an event.
fn advice(event: Event, config: &Config) -> &'static [&'static str] {
    match event {
        Event::Command if config.slowlog_log_slower_than < 0 => &[
            "The slow log is off. With `CONFIG SET slowlog-log-slower-than 10000` it keeps the commands that took more than 10 ms.",
        ],
        Event::Command => &[
            "SLOWLOG GET shows which commands they were, and whose. What walks over a large value, such as SORT, LREM or a union of large \
             sets, keeps one core busy to its end: several smaller values spread it over time and cores.",
        ],
        Event::FastCommand => &[
            "Commands that do little work were held up, so look at the machine: other processes on the same cores (shard-cpus pins \
             shards elsewhere), swapping, or a virtual machine whose host is busy.",
        ],
        Event::ExpireCycle => {
            &["Many keys come to their end at the same time. Times to live that differ by chance spread that."]
        }
        Event::EvictionCycle => &[
            "Memory is full and keys go to make room, large ones among them. A higher maxmemory, or smaller values, make that rarer.",
        ],
        Event::AofWrite | Event::AofFsync | Event::AofFsyncAlways => &[
            "The disk is slow, or others use it. `appendfsync everysec` waits for it less often than `always`; clients that need more can \
             ask for it with CLIENT DURABILITY.",
        ],
        Event::SnapshotSlice => {
            &["A value is written to a snapshot in one piece: one of many elements holds its core up meanwhile."]
        }
        Event::EventLoop => &[
            "A turn of a shard's loop took long as a whole, be it one long command or very many short ones. INFO shards and SHARDS show \
             whether one core has more to do than others, HOTKEYS LIST which keys it is about.",
        ],
    }
}

fn diagnosis(all: &LatencyMonitor, now_secs: i64, config: &Config) -> String {
    if all.iter().len() == 0 {
        return if config.latency_monitor_threshold == 0 {
            "Nothing is watched: the latency monitor is off. `CONFIG SET latency-monitor-threshold 100` has it take note of \
             whatever holds a core up for 100 ms or more; choose what your clients would notice.\n"
                .to_owned()
        } else {
            format!("All is well: nothing has taken {} ms or more.\n", config.latency_monitor_threshold)
        };
    }
    let mut text = String::from("These have held a core up:\n\n");
    let mut hints: Vec<&str> = Vec::new();
    for (at, (event, spikes)) in all.iter().enumerate() {
        let Some(Summary { count, mean_ms, deviation_ms, period_secs, .. }) = spikes.summary(now_secs) else {
            continue;
        };
        text.push_str(&format!(
            "{}. {}: {count} times, {mean_ms:.0} ms on average (give or take {deviation_ms:.0} ms), about every {period_secs:.0} \
             seconds. The worst took {} ms.\n",
            at + 1,
            event.name(),
            spikes.max_ms()
        ));
        for hint in advice(event, config) {
            if !hints.contains(hint) {
                hints.push(hint);
            }
        }
    }
    text.push_str("\nWhat may help:\n\n");
    hints.iter().for_each(|hint| text.push_str(&format!("- {hint}\n")));
    text
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

    fn monitor() -> LatencyMonitor {
        let mut monitor = LatencyMonitor::default();
        for (ago, ms) in [(7200, 40), (130, 160), (5, 80)] {
            monitor.note(Event::Command, 100_000 - ago, ms);
        }
        monitor
    }

    #[test]
    fn a_graph_has_a_bar_for_each_sample_and_its_age_below() {
        let text = draw(Event::Command, monitor().get(Event::Command).unwrap(), 100_000).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("command: 3 samples, from 40 ms to 160 ms"), "{text}");
        let bars: Vec<&str> = lines.iter().filter_map(|line| line.split_once('|')).map(|(_, bars)| bars).collect();
        assert_eq!(bars, [" #", " #", " #", " #", " ##", " ##", "###", "###"], "{text}");
        assert_eq!(&lines[lines.len() - 2..], ["            225", "            hms"], "{text}");
    }

    #[test]
    fn the_doctor_speaks_of_what_was_slow_and_of_nothing_else() {
        let text = diagnosis(&monitor(), 100_000, &Config::default());
        assert!(text.contains("1. command: 3 times, 93 ms on average"), "{text}");
        assert!(text.contains("SLOWLOG GET") && !text.contains("disk"), "{text}");
        assert!(diagnosis(&LatencyMonitor::default(), 0, &Config::default()).contains("is off"));
        let on = Config { latency_monitor_threshold: 5, ..Config::default() };
        assert!(diagnosis(&LatencyMonitor::default(), 0, &on).contains("All is well"));
        for event in Event::ALL {
            assert!(!advice(event, &on).is_empty());
        }
    }

    #[test]
    fn a_container_stands_for_its_subcommands() {
        let args = OwnedArgs::from_slices(&["LATENCY", "HISTOGRAM", "config", "nope"]);
        let names: Vec<_> = asked_for(args.as_args()).iter().map(|c| c.full_name.as_str()).collect();
        assert!(names.contains(&"config") && names.contains(&"config|get") && !names.contains(&"get"), "{names:?}");
    }
}
