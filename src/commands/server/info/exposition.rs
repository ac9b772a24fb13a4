//! What `/metrics` and `/healthz` tell: the figures of INFO for Prometheus, and whether the server serves.
//!
//! ```text
//!   HTTP thread ── Question ──> shard 0: a plan asks all shards ── Told ──> HTTP thread renders
//! ```
//!
//! The plan takes copies, as INFO does, and nothing else happens on the shards; text is made of them on the thread that asked
//! ([`render`]). Names are those of redis_exporter (`redis_…`) where it has the figure, so that its dashboards work; what belongs to
//! one shard, which it does not know, is `annulus_shard_…{shard="0"}`. A family is there whether or not it has samples.
//!
//! Absent on purpose: keys, client names and anything else that a client has chosen, and a password: whoever reaches the port may read
//! this.

use std::fmt;
use std::sync::mpsc::SyncSender;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{REDIS_VERSION, Report};
use crate::commands::server::slowlog::with_log;
use crate::commands::table::table;
use crate::config::Choice;
use crate::shard::storage::WriteError;
use crate::txn::{Coordinator, Plan};

/// What somebody outside of the shards wants to know.
pub struct Question {
    /// What.
    pub what: Wanted,
    /// Where the answer goes. Nobody may be waiting any more.
    pub answer: SyncSender<Told>,
}

/// See [`Question`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Everything.
    Metrics,
    /// Whether clients are served.
    Health,
}

/// The answer.
pub enum Told {
    /// To be rendered.
    Metrics(Box<Snapshot>),
    /// Why clients are not served, or not all of them; none if all is well.
    Health(Option<String>),
}

/// What all shards knew at about one time.
pub struct Snapshot {
    report: Report,
    slowlog: SlowLogFigures,
}

/// The slow log in three figures.
#[derive(Clone, Copy, Debug, Default)]
struct SlowLogFigures {
    len: usize,
    last_id: Option<u64>,
    last_us: u64,
}

/// The plan that finds the answer.
pub fn answer(coordinator: Coordinator, question: Question) -> Plan {
    Box::pin(async move {
        let told = match question.what {
            Wanted::Metrics => {
                let slowlog = with_log(&coordinator, |shard| {
                    let last = shard.numbered_slowlog.newest(1).next();
                    SlowLogFigures {
                        len: shard.numbered_slowlog.len(),
                        last_id: last.map(|(id, _)| *id),
                        last_us: last.map_or(0, |(_, entry)| entry.us),
                    }
                })
                .await;
                let report = Report::collect(&coordinator, true, true).await;
                Told::Metrics(Box::new(Snapshot { report, slowlog }))
            }
            Wanted::Health => {
                let troubles = coordinator
                    .call_all(|shard| {
                        let status = &shard.storage.status;
                        match (&status.loading_since, &status.write_error) {
                            (Some(_), _) => Some("loading the data".to_owned()),
                            (None, Some(WriteError::Log(error))) => {
                                Some(format!("writes are refused: the append-only file cannot be written: {error}"))
                            }
                            (None, Some(WriteError::Snapshot)) => {
                                Some("writes are refused: the last snapshot failed".to_owned())
                            }
                            (None, None) => None,
                        }
                    })
                    .await;
                Told::Health(troubles.into_iter().flatten().next())
            }
        };
        // Whoever asked may have gone.
        let _ = question.answer.try_send(told);
        Ok(coordinator.reply())
    })
}

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text that Prometheus reads.
pub fn render(snapshot: &Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families(snapshot))));
    let mut text = String::with_capacity(64 * 1024);
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, f64)>,
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, kind, samples } in &self.0 {
            let counter = matches!(kind, MetricType::Counter);
            let kind = if counter { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in samples {
                match (labels.is_empty(), counter) {
                    (true, true) => family.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
                    (true, false) => family.encode_gauge(value)?,
                    (false, true) => {
                        family.encode_family(labels)?.encode_counter::<NoLabelSet, f64, f64>(value, None)?
                    }
                    (false, false) => family.encode_family(labels)?.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}

/// Collects families in their order.
#[derive(Default)]
struct Page(Vec<Family>);

impl Page {
    fn family(&mut self, kind: MetricType, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) {
        self.0.push(Family { name, help, kind, samples });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(MetricType::Gauge, name, help, vec![(Vec::new(), value)]);
    }

    /// `_total` is added to the name of a counter.
    fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(MetricType::Counter, name, help, vec![(Vec::new(), value)]);
    }
}

/// A time in the seconds that Prometheus wants.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn families(snapshot: &Snapshot) -> Vec<Family> {
    let Snapshot { report, slowlog } = snapshot;
    let mut page = Page::default();
    server(&mut page, report);
    page.gauge("redis_slowlog_length", "Commands in the slow log", slowlog.len as f64);
    page.gauge("redis_slowlog_last_id", "Number of the last of them, -1 if there is none", {
        slowlog.last_id.map_or(-1.0, |id| id as f64)
    });
    let last = "How long the last of them took";
    page.gauge("redis_last_slow_execution_duration_seconds", last, seconds(slowlog.last_us));
    traffic(&mut page, report);
    memory(&mut page, report);
    persistence(&mut page, report);
    keyspace(&mut page, report);
    commands(&mut page, report);
    shards(&mut page, report);
    page.0
}

fn server(page: &mut Page, report: &Report) {
    let about = &report.about;
    page.gauge("redis_up", "Whether the server answers", 1.0);
    let label = |name, value: &str| (name, value.to_owned());
    let info = vec![
        label("redis_version", REDIS_VERSION),
        label("annulus_version", env!("CARGO_PKG_VERSION")),
        label("redis_mode", "standalone"),
        label("role", "master"),
        label("os", &about.os),
        label("run_id", &about.run_id),
        label("process_id", &about.pid.to_string()),
        label("tcp_port", &report.config.port.to_string()),
        label("maxmemory_policy", report.config.maxmemory_policy.name()),
    ];
    page.family(MetricType::Gauge, "redis_instance_info", "What this server is", vec![(info, 1.0)]);
    let uptime = report.now.mono_us.saturating_sub(about.started_mono_us);
    page.gauge("redis_uptime_in_seconds", "Since the server began", (uptime / 1_000_000) as f64);
    page.gauge("redis_start_time_seconds", "When it began, since the Unix epoch", about.started_unix as f64);
    page.counter("redis_cpu_sys_seconds", "CPU time in the kernel", report.cpu.system.as_secs_f64());
    page.counter("redis_cpu_user_seconds", "CPU time in user mode", report.cpu.user.as_secs_f64());
}

fn traffic(page: &mut Page, report: &Report) {
    let (m, clients) = (&report.metrics, &report.clients);
    for (name, help, value) in [
        ("redis_connected_clients", "Connections of clients", clients.connected),
        ("redis_max_clients", "The most that are allowed", u64::from(report.config.maxclients)),
        ("redis_blocked_clients", "Clients that wait for data", clients.blocked),
        ("redis_tracking_clients", "Clients with client-side caching", clients.tracked),
        ("redis_pubsub_clients", "Clients that subscribe", clients.subscribers),
        ("redis_watching_clients", "Clients that watch keys", clients.watching),
        ("redis_client_recent_max_input_buffer_bytes", "The largest query buffer of late", m.input_max.max()),
        ("redis_client_recent_max_output_buffer_bytes", "The largest output of late", m.output_max.max()),
    ] {
        page.gauge(name, help, value as f64);
    }
    let ops: f64 = report.parts.iter().map(|part| part.ops_per_sec).sum();
    page.gauge("redis_instantaneous_ops_per_sec", "Commands per second of late", ops.round());
    for (name, help, value) in [
        ("redis_connections_received", "Connections accepted", m.connections_received),
        ("redis_rejected_connections", "Connections refused", m.connections_rejected),
        ("redis_commands_processed", "Commands run", m.commands_processed),
        ("redis_net_input_bytes", "Bytes received", m.net_input_bytes),
        ("redis_net_output_bytes", "Bytes sent", m.net_output_bytes),
        ("redis_keyspace_hits", "Lookups that found a key", m.keyspace_hits),
        ("redis_keyspace_misses", "Lookups that found none", m.keyspace_misses),
        ("redis_expired_keys", "Keys whose time had come", m.expired_keys),
        ("redis_unexpected_error_replies", "Errors of the server's own making", 0),
        ("redis_total_error_replies", "Error replies", m.error_replies),
    ] {
        page.counter(name, help, value as f64);
    }
    let errors = m.errors.iter().map(|(code, count)| (vec![("err", code.clone())], *count as f64)).collect();
    page.family(MetricType::Counter, "redis_errors", "Error replies by their first word", errors);
}

fn memory(page: &mut Page, report: &Report) {
    let allocator = &report.allocator;
    for (name, help, value) in [
        ("redis_memory_used_bytes", "Bytes in use", allocator.allocated),
        ("redis_memory_used_rss_bytes", "Bytes resident", report.resident),
        ("redis_memory_used_peak_bytes", "The most bytes that were in use", allocator.peak),
        ("redis_memory_max_bytes", "The limit, 0 if there is none", report.config.maxmemory),
        ("redis_total_system_memory_bytes", "Memory of the machine", report.system_memory),
        ("redis_allocator_active_bytes", "Bytes in pages that are in use", allocator.active),
        ("redis_allocator_resident_bytes", "Bytes that the allocator holds", allocator.resident),
    ] {
        page.gauge(name, help, value as f64);
    }
    let ratio = report.resident as f64 / allocator.allocated.max(1) as f64;
    page.gauge("redis_mem_fragmentation_ratio", "Resident bytes over used ones", ratio);
}

fn persistence(page: &mut Page, report: &Report) {
    let status = &report.status;
    let flag = |set: bool| if set { 1.0 } else { 0.0 };
    let unsaved: u64 = report.parts.iter().map(|part| part.storage.unsaved).sum();
    let log_fails = matches!(status.write_error, Some(WriteError::Log(_)));
    for (name, help, value) in [
        ("redis_loading_dump_file", "Whether data is being loaded", flag(status.loading_since.is_some())),
        ("redis_rdb_changes_since_last_save", "Changes since the last snapshot", unsaved as f64),
        ("redis_rdb_bgsave_in_progress", "Whether a snapshot is being written", flag(status.save_since.is_some())),
        ("redis_rdb_last_save_timestamp_seconds", "When the last was complete", status.last_save as f64),
        ("redis_rdb_last_bgsave_status", "Whether the last one succeeded", flag(!status.last_save_failed)),
        ("redis_aof_enabled", "Whether a log is kept", flag(status.aof_on)),
        ("redis_aof_rewrite_in_progress", "Whether it is being rewritten", flag(status.rewrite_since.is_some())),
        ("redis_aof_last_bgrewrite_status", "Whether the last rewrite succeeded", flag(!status.last_rewrite_failed)),
        ("redis_aof_last_write_status", "Whether the log can be written", flag(!log_fails)),
    ] {
        page.gauge(name, help, value);
    }
}

fn keyspace(page: &mut Page, report: &Report) {
    let mut by_db = Vec::new();
    for index in 0..report.config.databases as usize {
        let all = || report.parts.iter().filter_map(move |part| part.dbs.get(index));
        let (keys, expires) = all().fold((0, 0), |(keys, expires), db| (keys + db.keys, expires + db.expires));
        // As in redis_exporter, with the first database there in any case.
        if keys > 0 || index == 0 {
            by_db.push((vec![("db", format!("db{index}"))], keys as f64, expires as f64));
        }
    }
    let keys = by_db.iter().map(|(db, keys, _)| (db.clone(), *keys)).collect();
    page.family(MetricType::Gauge, "redis_db_keys", "Keys of a database", keys);
    let expires = by_db.into_iter().map(|(db, _, expires)| (db, expires)).collect();
    page.family(MetricType::Gauge, "redis_db_keys_expiring", "Those of them with an end", expires);
}

fn commands(page: &mut Page, report: &Report) {
    let stats = &report.metrics.commands;
    let used: Vec<_> = table()
        .all()
        .filter_map(|command| Some((vec![("cmd", command.full_name.clone())], stats.get(command.id)?)))
        .filter(|(_, times)| times.calls + times.rejected + times.failed > 0)
        .collect();
    let mut family = |name, help, of: fn(&crate::metrics::CommandTimes) -> f64| {
        let samples = used.iter().map(|(cmd, times)| (cmd.clone(), of(times))).collect();
        page.family(MetricType::Counter, name, help, samples);
    };
    family("redis_commands", "Calls of a command", |times| times.calls as f64);
    family("redis_commands_duration_seconds", "Time that it took", |times| times.ns as f64 / 1e9);
    family("redis_commands_rejected_calls", "Calls that were refused before they ran", |times| times.rejected as f64);
    family("redis_commands_failed_calls", "Calls that ended with an error", |times| times.failed as f64);
    let mut percentiles = Vec::new();
    for (cmd, times) in &used {
        let Some(latency) = times.latency.as_ref().filter(|latency| !latency.is_empty()) else { continue };
        for percentile in &report.config.latency_tracking_info_percentiles {
            let mut labels = cmd.clone();
            labels.push(("quantile", (percentile / 100.0).to_string()));
            percentiles.push((labels, latency.value_at_percentile(*percentile) as f64 / 1000.0));
        }
    }
    let help = "Microseconds within which this share of its calls was done";
    page.family(MetricType::Gauge, "redis_latency_percentiles_usec", help, percentiles);
}

fn shards(page: &mut Page, report: &Report) {
    use super::ShardView;
    let mut family = |kind, name, help, of: fn(&ShardView) -> f64| {
        let samples = report.parts.iter().map(|part| (vec![("shard", part.view.shard.to_string())], of(&part.view)));
        page.family(kind, name, help, samples.collect());
    };
    use MetricType::{Counter, Gauge};
    family(Gauge, "annulus_shard_slots", "Slots that a shard owns", |view| view.slots as f64);
    family(Gauge, "annulus_shard_keys", "Keys of a shard", |view| view.keys as f64);
    family(Gauge, "annulus_shard_keys_expiring", "Those of them with an end", |view| view.expires as f64);
    family(Gauge, "annulus_shard_memory_bytes", "Bytes of its data", |view| view.memory as f64);
    family(Gauge, "annulus_shard_clients", "Connections that it serves", |view| view.clients as f64);
    family(Gauge, "annulus_shard_ops_per_sec", "Commands per second of late", |view| view.ops_per_sec as f64);
    family(Gauge, "annulus_shard_busy_ratio", "The share of its time that it works", |view| view.busy_share);
    family(Gauge, "annulus_shard_mailbox", "Messages that a turn has found", |view| view.mailbox.0 as f64);
    family(Gauge, "annulus_shard_mailbox_max", "The most that one has found", |view| view.mailbox.1 as f64);
    let transactions = "Transactions and commands that hold or wait for keys";
    family(Gauge, "annulus_shard_transactions", transactions, |view| view.transactions as f64);
    family(Counter, "annulus_shard_commands", "Commands run", |view| view.commands as f64);
    family(Counter, "annulus_shard_hops_out", "Commands and calls sent to others", |view| view.hops.0 as f64);
    family(Counter, "annulus_shard_hops_in", "Commands and calls of others", |view| view.hops.1 as f64);
    family(Counter, "annulus_shard_turns", "Turns of its loop", |view| view.turns.0 as f64);
    family(Counter, "annulus_shard_busy_seconds", "Time that its loop worked", |view| seconds(view.turns.1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_declared_once_and_every_sample_is_a_number() {
        let snapshot = Snapshot { report: super::super::tests::report(), slowlog: SlowLogFigures::default() };
        let text = render(&snapshot).unwrap();
        let mut declared: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(!declared.contains(&name), "{name} twice");
                declared.push(name);
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                assert_eq!(declared.last(), Some(&name), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for line in [
            "redis_up 1",
            "redis_connected_clients 6",
            "redis_keyspace_hits_total 20",
            "redis_db_keys{db=\"db2\"} 2",
            "redis_commands_total{cmd=\"ping\"} 8",
            "annulus_shard_keys{shard=\"1\"} 3",
            "redis_errors_total{err=\"ERR\"} 2",
        ] {
            let starts = |found: &str| found.strip_prefix(line).is_some_and(|rest| rest.is_empty() || rest == ".0");
            assert!(text.lines().any(starts), "{line} in\n{text}");
        }
    }
}
