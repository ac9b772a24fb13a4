//! HOTKEYS: which keys are used most, on all shards together.
//!
//! START, STOP, GET and RESET are those of Redis 8.6: a collection of the time and the bytes that keys take, which counts every command
//! while it runs. LIST is our own: the load of keys that every shard estimates all the time from a few commands
//! (`metrics::hot_keys`), so it needs no beginning and tells of about the last minute.
//!
//! Every shard collects over the commands that run on it; what is told is the sum. Whether a collection runs is decided on
//! shard 0, so that of two clients that START one wins. Absent: SLOTS, which Redis refuses as well unless it is in cluster mode.

use super::{NONDETERMINISTIC, SERVER};
use crate::base::crc::key_slot;
use crate::base::{ShardId, num};
use crate::commands::help::help;
use crate::commands::table::{Flags, Row, Run};
use crate::metrics::hot_keys::{Counted, Tracking, TrackingOptions, sort_counted};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::process::{self, Whose};
use crate::shard::slots::SLOTS;
use crate::txn::{Coordinator, Plan};

const SUB: Row = Row { since: "8.6.0", flags: Flags::ADMIN.and(Flags::NOSCRIPT), ..SERVER };

/// See the module.
pub const ROW: Row = Row {
    name: "hotkeys",
    summary: "A container for commands about the keys that are used most.",
    since: "8.6.0",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: &[
        Row {
            name: "get",
            summary: "What the last collection has found so far; null if there was none.",
            complexity: "O(N) with N keys that it tells",
            arity: 2,
            tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
            run: Run::Server(get),
            ..SUB
        },
        Row {
            name: "help",
            summary: "Prints this help.",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            run: Run::Session(help),
            ..SUB
        },
        Row {
            name: "list",
            usage: "[COUNT count] [RESET]",
            summary: "The keys that are used most of late, with an estimate of their operations per second; RESET forgets them behind that. \
                      Needs no collection.",
            complexity: "O(N) with N keys that it tells",
            arity: -2,
            tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
            run: Run::Server(list),
            ..SUB
        },
        Row {
            name: "reset",
            summary: "Forgets what the last collection has found.",
            arity: 2,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            run: Run::Server(reset),
            ..SUB
        },
        Row {
            name: "start",
            usage: "METRICS count [CPU] [NET] [COUNT k] [DURATION seconds] [SAMPLE ratio] [SLOTS count slot [slot ...]]",
            summary: "Begins a collection of the time or the bytes that keys take.",
            arity: -2,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            run: Run::Server(start),
            ..SUB
        },
        Row {
            name: "stop",
            summary: "Ends a collection; what it has found stays.",
            arity: 2,
            tips: &["request_policy:all_shards", "response_policy:special"],
            run: Run::Server(stop),
            ..SUB
        },
    ],
    ..SERVER
};

/// Decides whether a collection runs.
const HOME: ShardId = ShardId(0);
/// Keys that are told if nobody says how many.
const COUNT: usize = 10;
/// The most that a collection can be asked for.
const COUNT_MAX: i64 = 64;
/// The most that LIST can be asked for: what a shard keeps.
const LIST_MAX: i64 = 128;
/// The longest collection, seconds.
const DURATION_SECS_MAX: i64 = 1_000_000;

fn within(arg: &[u8], range: std::ops::RangeInclusive<i64>, error: &'static str) -> Result<i64, CommandError> {
    num::parse_i64(arg).filter(|n| range.contains(n)).ok_or(CommandError::Custom(error))
}

fn parse(args: Args<'_>) -> Result<TrackingOptions, CommandError> {
    let is = |at: usize, word: &str| at < args.len() && args.get(at).eq_ignore_ascii_case(word.as_bytes());
    if args.len() < 4 || !is(2, "METRICS") {
        return Err(CommandError::Custom("ERR METRICS parameter is required"));
    }
    let metrics = within(args.get(3), 1..=2, "ERR METRICS count must be > 0 and <= 2")? as usize;
    if args.len() < 4 + metrics {
        return Err(CommandError::Custom("ERR METRICS count does not match number of metric types provided"));
    }
    let mut options = TrackingOptions { keys: COUNT, ratio: 1, ..TrackingOptions::default() };
    for at in 4..4 + metrics {
        let (metric, twice) = match () {
            () if is(at, "CPU") => (&mut options.cpu, "ERR METRICS CPU defined more than once!"),
            () if is(at, "NET") => (&mut options.net, "ERR METRICS NET defined more than once!"),
            // As in Redis: one that it does not know counts, and is passed over.
            () => continue,
        };
        if std::mem::replace(metric, true) {
            return Err(CommandError::Custom(twice));
        }
    }
    if !options.cpu && !options.net {
        return Err(CommandError::Custom("ERR METRICS no valid metrics passed. Supported: CPU|NET"));
    }
    let mut at = 4 + metrics;
    while at < args.len() {
        let value = |error| if at + 1 < args.len() { Ok(args.get(at + 1)) } else { Err(error) };
        match () {
            () if is(at, "COUNT") => {
                let count = within(value(CommandError::Syntax)?, 1..=COUNT_MAX, "ERR COUNT must be between 1 and 64")?;
                options.keys = count as usize;
            }
            () if is(at, "DURATION") => {
                let error = "ERR DURATION must be between 1 and 1000000";
                options.duration_ms = within(value(CommandError::Syntax)?, 1..=DURATION_SECS_MAX, error)? * 1000;
            }
            () if is(at, "SAMPLE") => {
                let error = "ERR SAMPLE ratio must be positive";
                options.ratio = within(value(CommandError::Syntax)?, 1..=i64::from(i32::MAX), error)? as u32;
            }
            () if is(at, "SLOTS") => {
                return Err(CommandError::Custom("ERR SLOTS parameter cannot be used in non-cluster mode"));
            }
            () => return Err(CommandError::Syntax),
        }
        at += 2;
    }
    Ok(options)
}

fn simple(coordinator: &Coordinator, text: &str) -> Result<Reply, CommandError> {
    let mut reply = coordinator.reply();
    reply.simple(text);
    Ok(reply)
}

fn start(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let options = parse(args.as_args())?;
        let wanted = options.clone();
        let started = coordinator
            .call(HOME, move |shard| {
                let now_ms = shard.now.millis().0;
                let free = !shard.hot_keys.tracks(now_ms);
                if free {
                    let cpu = process::cpu_time(Whose::Process);
                    shard.hot_keys.start(wanted, now_ms, (cpu.user, cpu.system));
                }
                free
            })
            .await;
        if !started {
            return Err(CommandError::Custom("ERR hotkey tracking session already in progress"));
        }
        coordinator
            .call_all(move |shard| {
                if shard.id != HOME {
                    shard.hot_keys.start(options.clone(), shard.now.millis().0, Default::default());
                }
            })
            .await;
        simple(&coordinator, "OK")
    })
}

fn stop(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let stopped = coordinator.call_all(|shard| shard.hot_keys.stop(shard.now.millis().0)).await;
        if stopped[HOME.index()] {
            return simple(&coordinator, "OK");
        }
        let mut reply = coordinator.reply();
        reply.null();
        Ok(reply)
    })
}

fn reset(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let active = coordinator.call(HOME, |shard| shard.hot_keys.tracks(shard.now.millis().0)).await;
        if active {
            return Err(CommandError::Custom("ERR hotkey tracking session in progress, stop tracking first"));
        }
        coordinator.call_all(|shard| shard.hot_keys.reset()).await;
        simple(&coordinator, "OK")
    })
}

/// What one shard has collected.
struct Part {
    tracking: Tracking,
    now_ms: i64,
}

fn get(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let parts = coordinator
            .call_all(|shard| {
                let tracking = shard.hot_keys.tracking()?.clone();
                Some(Part { tracking, now_ms: shard.now.millis().0 })
            })
            .await;
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        let mut reply = coordinator.reply();
        match parts.first() {
            // One collection, in an array as Redis has it.
            Some(first) => {
                reply.array(1);
                report(&mut reply, first, &parts);
            }
            None => reply.null(),
        }
        Ok(reply)
    })
}

fn report(reply: &mut Reply, first: &Part, parts: &[Part]) {
    let Tracking { options, started_ms, cpu_before, .. } = &first.tracking;
    let sum = |of: fn(&Tracking) -> u64| parts.iter().map(|part| of(&part.tracking)).sum::<u64>() as i64;
    // A key's commands all run on its owner, so no key is in two of the lists.
    let top = |of: fn(&Tracking, usize) -> Vec<Counted>| {
        let mut all: Vec<Counted> = parts.iter().flat_map(|part| of(&part.tracking, options.keys)).collect();
        sort_counted(&mut all);
        all.truncate(options.keys);
        all
    };
    let fields = 7 + if options.cpu { 3 } else { 0 } + if options.net { 2 } else { 0 };
    reply.map(fields);
    let mut int = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    int("tracking-active", i64::from(first.tracking.is_active(first.now_ms)));
    int("sample-ratio", i64::from(options.ratio));
    int("all-commands-all-slots-us", sum(|tracking| tracking.all_ns) / 1000);
    int("net-bytes-all-commands-all-slots", sum(|tracking| tracking.all_bytes));
    int("collection-start-time-unix-ms", *started_ms);
    int("collection-duration-ms", first.tracking.lasted_ms(first.now_ms));
    if options.cpu {
        let now = process::cpu_time(Whose::Process);
        int("total-cpu-time-user-ms", now.user.saturating_sub(cpu_before.0).as_millis() as i64);
        int("total-cpu-time-sys-ms", now.system.saturating_sub(cpu_before.1).as_millis() as i64);
    }
    if options.net {
        int("total-net-bytes", sum(|tracking| tracking.all_bytes));
    }
    reply.bulk(b"selected-slots");
    reply.array(1);
    reply.array(2);
    reply.int(0);
    reply.int(i64::from(SLOTS) - 1);
    let mut list = |name: &str, keys: Vec<Counted>, unit: f64| {
        reply.bulk(name.as_bytes());
        reply.array(keys.len() * 2);
        for Counted { key, count, .. } in keys {
            reply.bulk(&key);
            reply.int((count / unit) as i64);
        }
    };
    if options.cpu {
        list("by-cpu-time-us", top(|tracking, count| tracking.cpu.top(count)), 1000.0);
    }
    if options.net {
        list("by-net-bytes", top(|tracking, count| tracking.net.top(count)), 1.0);
    }
}

fn list(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let (mut count, mut forget, mut at) = (COUNT, false, 2);
        while at < args.len() {
            let word = args.get(at);
            if word.eq_ignore_ascii_case(b"RESET") {
                forget = true;
                at += 1;
            } else if word.eq_ignore_ascii_case(b"COUNT") && at + 1 < args.len() {
                count = within(args.get(at + 1), 1..=LIST_MAX, "ERR COUNT must be between 1 and 128")? as usize;
                at += 2;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let parts = coordinator
            .call_all(move |shard| {
                let busiest = shard.hot_keys.busiest(shard.now.mono_us, count);
                if forget {
                    shard.hot_keys.forget_load(shard.now.mono_us);
                }
                busiest
            })
            .await;
        // A key of commands over several shards may be counted on more than one.
        let mut all: Vec<Counted> = Vec::new();
        for counted in parts.into_iter().flatten() {
            match all.iter_mut().find(|known| known.db == counted.db && known.key == counted.key) {
                Some(known) => known.count += counted.count,
                None => all.push(counted),
            }
        }
        sort_counted(&mut all);
        all.truncate(count);
        let mut reply = coordinator.reply();
        reply.array(all.len());
        for Counted { db, key, count } in all {
            reply.map(5);
            reply.bulk(b"key");
            reply.bulk(&key);
            reply.bulk(b"db");
            reply.int(i64::from(db.0));
            reply.bulk(b"slot");
            reply.int(i64::from(key_slot(&key)));
            reply.bulk(b"shard");
            reply.int(i64::from(coordinator.slots().shard_of(&key).0));
            reply.bulk(b"ops-per-sec");
            reply.int(count.round() as i64);
        }
        Ok(reply)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<TrackingOptions, String> {
        let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
        parse(args.as_args()).map_err(|error| error.to_string())
    }

    #[test]
    fn start_takes_the_options_of_redis() {
        let options = parsed("HOTKEYS START METRICS 2 net CPU count 5 DURATION 3 SAMPLE 100").unwrap();
        let wanted = TrackingOptions { cpu: true, net: true, keys: 5, duration_ms: 3000, ratio: 100 };
        assert_eq!(options, wanted);
        let options = parsed("HOTKEYS START METRICS 1 CPU").unwrap();
        assert_eq!((options.cpu, options.net, options.keys, options.ratio), (true, false, 10, 1));
    }

    #[test]
    fn start_refuses_what_redis_refuses() {
        for (line, error) in [
            ("HOTKEYS START", "ERR METRICS parameter is required"),
            ("HOTKEYS START COUNT 1 METRICS 1 CPU", "ERR METRICS parameter is required"),
            ("HOTKEYS START METRICS 0 CPU", "ERR METRICS count must be > 0 and <= 2"),
            ("HOTKEYS START METRICS 2 CPU", "ERR METRICS count does not match number of metric types provided"),
            ("HOTKEYS START METRICS 2 CPU CPU", "ERR METRICS CPU defined more than once!"),
            ("HOTKEYS START METRICS 1 OPS", "ERR METRICS no valid metrics passed. Supported: CPU|NET"),
            ("HOTKEYS START METRICS 1 CPU COUNT 65", "ERR COUNT must be between 1 and 64"),
            ("HOTKEYS START METRICS 1 CPU DURATION 0", "ERR DURATION must be between 1 and 1000000"),
            ("HOTKEYS START METRICS 1 CPU SAMPLE 0", "ERR SAMPLE ratio must be positive"),
            ("HOTKEYS START METRICS 1 CPU SAMPLE", "ERR syntax error"),
            ("HOTKEYS START METRICS 1 CPU NOPE", "ERR syntax error"),
        ] {
            assert_eq!(parsed(line), Err(error.to_owned()), "{line}");
        }
    }
}
