//! INFO: what an operator reads.
//!
//! Section and field names are Redis's, because dashboards and clients look for them; what this server has not (yet) is shown
//! with the value that says so. Counters are sums over shards. The section `Shards` is our own: a line for each core.
//!
//! A client that sees one shard alone, as a node of a cluster, is shown what is counted there; memory in use, CPU time and what has become
//! of files are the process's.
//!
//! Every shard is asked once for a [`Part`], which holds what the wanted sections need and no more; the text is then made of
//! the parts by pure functions.

pub mod exposition;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use super::memory::Overview;
use super::shards::ShardView;
use super::{NONDETERMINISTIC, REDIS_VERSION, SERVER};
use crate::base::time::Now;
use crate::base::{Epoch, ShardId, size};
use crate::commands::table::{Flags, Row, Run, table};
use crate::config::{Choice, Config};
use crate::keyspace::PackedCount;
use crate::keyspace::access::lru_clock;
use crate::metrics::{ShardMemory, ShardMetrics};
use crate::pubsub::Kind;
use crate::resp::{Args, OwnedArgs};
use crate::rt::memory::{self, Allocator};
use crate::rt::process::{self, CpuTime, Whose};
use crate::shard::storage::{Status, WriteError};
use crate::shard::{About, Shard};
use crate::txn::{Coordinator, Plan};

/// See the module.
pub const ROW: Row = Row {
    name: "info",
    usage: "[section [section ...]]",
    summary: "Facts and counters of the server, by section.",
    arity: -1,
    flags: Flags::LOADING.and(Flags::STALE),
    acl: &["dangerous"],
    tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
    run: Run::Server(info),
    ..SERVER
};

/// The sections, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Modules,
    Shards,
    Commandstats,
    Errorstats,
    Latencystats,
    Cluster,
    Keyspace,
}

use Section as S;

impl Section {
    const ALL: [Section; 14] = [
        S::Server,
        S::Clients,
        S::Memory,
        S::Persistence,
        S::Stats,
        S::Replication,
        S::Cpu,
        S::Modules,
        S::Shards,
        S::Commandstats,
        S::Errorstats,
        S::Latencystats,
        S::Cluster,
        S::Keyspace,
    ];

    fn name(self) -> &'static str {
        match self {
            S::Server => "Server",
            S::Clients => "Clients",
            S::Memory => "Memory",
            S::Persistence => "Persistence",
            S::Stats => "Stats",
            S::Replication => "Replication",
            S::Cpu => "CPU",
            S::Modules => "Modules",
            S::Shards => "Shards",
            S::Commandstats => "Commandstats",
            S::Errorstats => "Errorstats",
            S::Latencystats => "Latencystats",
            S::Cluster => "Cluster",
            S::Keyspace => "Keyspace",
        }
    }

    /// Whether INFO without arguments shows it.
    fn is_default(self) -> bool {
        !matches!(self, S::Commandstats | S::Latencystats)
    }
}

/// The sections that these arguments ask for. A name that is none asks for nothing.
fn wanted(args: Args<'_>) -> BTreeSet<Section> {
    let default = || Section::ALL.into_iter().filter(|s| s.is_default());
    if args.len() == 1 {
        return default().collect();
    }
    let mut wanted = BTreeSet::new();
    for word in args.slice(1).iter() {
        match word.to_ascii_lowercase().as_slice() {
            b"default" => wanted.extend(default()),
            b"all" | b"everything" => wanted.extend(Section::ALL),
            word => wanted.extend(Section::ALL.into_iter().filter(|s| s.name().as_bytes().eq_ignore_ascii_case(word))),
        }
    }
    wanted
}

/// One database on one shard, or on all.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct DbCounts {
    keys: u64,
    expires: u64,
    /// Sum of the estimated times to live, milliseconds.
    ttl_sum: f64,
}

/// Connections on one shard, or on all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct ClientCounts {
    connected: u64,
    /// Those that wait for data until some time.
    timeouts: u64,
    blocked: u64,
    subscribers: u64,
    tracked: u64,
    /// Keys that clients wait for, and those of them where the key's going ends a wait.
    blocking_keys: (u64, u64),
    /// Clients that watch keys, and the keys.
    watching: u64,
    watched_keys: u64,
}

/// What one shard knows of its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct FileCounts {
    /// Changes since the last snapshot.
    unsaved: u64,
    /// Bytes of its log, its base included.
    log: u64,
    /// Bytes of the log that wait to be written.
    waiting: u64,
    /// The open epoch, and the last that is on the disks.
    epochs: (Epoch, Epoch),
    /// Bytes that it has loaded, and those that it is to load.
    loading: (u64, u64),
}

/// What one shard tells.
pub struct Part {
    /// What the shard says of itself.
    pub view: ShardView,
    storage: FileCounts,
    clients: ClientCounts,
    dbs: Vec<DbCounts>,
    packed: PackedCount,
    memory: ShardMemory,
    pending_free: u64,
    over_memory_us: u64,
    /// Names that clients listen to, by kind; each is counted on the first shard that has a subscriber.
    names: [u64; 3],
    /// Keys that clients have read and may have cached, how many have each, and prefixes that clients follow.
    remembered: [u64; 3],
    metrics: ShardMetrics,
    ops_per_sec: f64,
    input_per_sec: f64,
    output_per_sec: f64,
    turns_per_sec: f64,
}

impl Part {
    fn of(shard: &Shard, walk_clients: bool, latencies: bool) -> Part {
        let (metrics, mono_us) = (&shard.metrics, shard.now.mono_us);
        let mut clients = ClientCounts { connected: shard.sessions.len() as u64, ..ClientCounts::default() };
        if walk_clients {
            let (keys, on_absence) = shard.waiters.keys();
            clients.blocking_keys = (keys as u64, on_absence as u64);
            clients.watched_keys = shard.watched.len() as u64;
            clients.timeouts = shard.timeouts as u64;
            for session in shard.sessions.iter() {
                clients.blocked += u64::from(session.blocked.is_some());
                clients.subscribers += u64::from(session.subscriptions.any());
                clients.tracked += u64::from(session.tracking.is_some());
                clients.watching += u64::from(!session.watches.is_empty());
            }
        }
        let now = shard.now.millis();
        let dbs = shard.keyspace.dbs().iter().map(|db| {
            let expires = db.expires_len() as u64;
            let ttl_sum = if expires == 0 { 0.0 } else { db.avg_ttl(now) as f64 * expires as f64 };
            DbCounts { keys: db.len() as u64, expires, ttl_sum }
        });
        let storage = &shard.storage;
        Part {
            view: ShardView::of(shard),
            storage: FileCounts {
                unsaved: shard.unsaved_changes(),
                log: storage.log_bytes + storage.base_bytes,
                waiting: shard.effects.waiting_bytes() as u64,
                epochs: (shard.effects.open_epoch(), shard.effects.durable_epoch()),
                loading: storage.loading,
            },
            clients,
            dbs: dbs.collect(),
            packed: shard.keyspace.packed(),
            memory: if walk_clients { shard.memory_now() } else { ShardMemory::default() },
            pending_free: shard.pending_free(),
            over_memory_us: shard.over_memory_now_us(),
            remembered: [shard.tracking.keys_len(), shard.tracking.items_len(), shard.tracking.prefixes_len()]
                .map(|n| n as u64),
            names: [Kind::Channel, Kind::Pattern, Kind::Shard]
                .map(|kind| shard.pubsub.counted_here(kind, shard.id) as u64),
            metrics: metrics.copy(latencies),
            ops_per_sec: metrics.ops_rate.per_second(mono_us),
            input_per_sec: metrics.input_rate.per_second(mono_us),
            output_per_sec: metrics.output_rate.per_second(mono_us),
            turns_per_sec: metrics.turn_rate.per_second(mono_us),
        }
    }
}

/// All shards together, and what concerns the process as a whole. Made on the core that asks; whoever renders it may do so elsewhere.
pub struct Report {
    now: Now,
    about: Arc<About>,
    config: Config,
    status: Status,
    /// Of the shards that the client sees.
    parts: Vec<Part>,
    /// The only one, if it sees but one.
    node: Option<ShardId>,
    /// Of all shards.
    memory: ShardMemory,
    clients: ClientCounts,
    metrics: ShardMetrics,
    allocator: Allocator,
    resident: u64,
    system_memory: u64,
    cpu: CpuTime,
    cpu_children: CpuTime,
    cpu_thread: CpuTime,
}

fn info(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let wanted = wanted(args.as_args());
        let walk_clients = wanted.contains(&S::Clients) || wanted.contains(&S::Memory);
        let report = Report::collect(&coordinator, walk_clients, wanted.contains(&S::Latencystats)).await;
        let text = report.render(&wanted);
        let mut reply = coordinator.reply();
        reply.verbatim("txt", text.as_bytes());
        Ok(reply)
    })
}

impl Report {
    /// Asks all shards. Clients are looked at one by one, and histograms copied, only if that is wanted.
    pub async fn collect(coordinator: &Coordinator, walk_clients: bool, latencies: bool) -> Report {
        let home = coordinator.origin().shard;
        let told = coordinator
            .call_all(move |shard| {
                // The settings and the facts of the process are the same on every shard.
                let common = (shard.id == home)
                    .then(|| (shard.config.clone(), shard.about.clone(), shard.storage.status.clone()));
                (Part::of(shard, walk_clients, latencies), common)
            })
            .await;
        let (mut parts, mut common) = (Vec::with_capacity(told.len()), None);
        for (part, told) in told {
            parts.push(part);
            common = common.or(told);
        }
        let (config, about, status) = common.expect("the home shard is among all shards");
        Report::new(coordinator.origin().now, about, config, status, parts, coordinator.node())
    }

    fn new(
        now: Now,
        about: Arc<About>,
        config: Config,
        status: Status,
        mut parts: Vec<Part>,
        node: Option<ShardId>,
    ) -> Report {
        let mut memory = ShardMemory::default();
        parts.iter().for_each(|part| memory.absorb(&part.memory));
        parts.retain(|part| node.is_none_or(|node| node.0 == part.view.shard));
        let mut metrics = ShardMetrics::default();
        let mut clients = ClientCounts::default();
        for part in &parts {
            metrics.absorb(&part.metrics);
            clients.connected += part.clients.connected;
            clients.timeouts += part.clients.timeouts;
            clients.watching += part.clients.watching;
            clients.watched_keys += part.clients.watched_keys;
            clients.blocked += part.clients.blocked;
            clients.subscribers += part.clients.subscribers;
            clients.tracked += part.clients.tracked;
            clients.blocking_keys.0 += part.clients.blocking_keys.0;
            clients.blocking_keys.1 += part.clients.blocking_keys.1;
        }
        Report {
            now,
            about,
            config,
            status,
            parts,
            node,
            memory,
            clients,
            metrics,
            allocator: memory::sample(),
            resident: process::resident_bytes(),
            system_memory: process::system_memory_bytes(),
            cpu: process::cpu_time(Whose::Process),
            cpu_children: process::cpu_time(Whose::Children),
            cpu_thread: process::cpu_time(Whose::Thread),
        }
    }

    fn render(&self, wanted: &BTreeSet<Section>) -> String {
        let mut text = Text(String::with_capacity(8 * 1024));
        for section in wanted {
            if !text.0.is_empty() {
                text.0.push_str("\r\n");
            }
            text.line(&format!("# {}", section.name()));
            match section {
                S::Server => self.server(&mut text),
                S::Clients => self.clients(&mut text),
                S::Memory => self.memory(&mut text),
                S::Persistence => self.persistence(&mut text),
                S::Stats => self.stats(&mut text),
                S::Replication => self.replication(&mut text),
                S::Cpu => self.cpu(&mut text),
                S::Modules => {}
                S::Shards => self.shards(&mut text),
                S::Commandstats => self.commandstats(&mut text),
                S::Errorstats => self.errorstats(&mut text),
                S::Latencystats => self.latencystats(&mut text),
                S::Cluster => text.field("cluster_enabled", u8::from(self.node.is_some())),
                S::Keyspace => self.keyspace(&mut text),
            }
        }
        text.0
    }

    fn server(&self, text: &mut Text) {
        let uptime = self.now.mono_us.saturating_sub(self.about.started_mono_us) / 1_000_000;
        text.field("redis_version", REDIS_VERSION);
        text.field("server_name", "annulus");
        text.field("annulus_version", env!("CARGO_PKG_VERSION"));
        text.field("redis_git_sha1", "00000000");
        text.field("redis_git_dirty", 0);
        text.field("redis_build_id", 0);
        text.field("redis_mode", if self.node.is_some() { "cluster" } else { "standalone" });
        text.field("os", &self.about.os);
        text.field("arch_bits", usize::BITS);
        text.field("monotonic_clock", "POSIX clock_gettime");
        text.field("multiplexing_api", "io_uring");
        text.field("process_id", self.about.pid);
        text.field("process_supervised", self.config.supervised.name());
        text.field("run_id", &self.about.run_id);
        let listens = if self.config.port != 0 { self.config.port } else { self.config.tls_port };
        let port = self.node.map_or(listens, |node| self.about.nodes[node.index()].port);
        text.field("tcp_port", port);
        text.field("server_time_usec", self.now.unix_us);
        text.field("uptime_in_seconds", uptime);
        text.field("uptime_in_days", uptime / 86_400);
        text.field("hz", self.config.hz);
        text.field("configured_hz", self.config.hz);
        text.field("lru_clock", lru_clock(self.now.millis()));
        text.field("executable", &self.about.executable);
        text.field("config_file", &self.about.config_file);
        text.field("io_threads_active", 0);
        self.listeners(text);
        text.field("shards", self.config.shards);
    }

    /// As Redis 7.2 numbers them: by kind, whether or not the others are there.
    fn listeners(&self, text: &mut Text) {
        let config = &self.config;
        let addresses: String = config.bind.iter().map(|address| format!(",bind={address}")).collect();
        let tcp = |name: &str, port: u16| (port != 0).then(|| format!("name={name}{addresses},port={port}"));
        let unix = (!config.unixsocket.is_empty()).then(|| format!("name=unix,bind={}", config.unixsocket));
        let kinds = [tcp("tcp", config.port), unix, tcp("tls", config.tls_port)];
        for (number, listener) in kinds.into_iter().enumerate() {
            if let Some(listener) = listener {
                text.field(&format!("listener{number}"), listener);
            }
        }
    }

    fn clients(&self, text: &mut Text) {
        text.field("connected_clients", self.clients.connected);
        text.field("cluster_connections", 0);
        text.field("maxclients", self.config.maxclients);
        text.field("client_recent_max_input_buffer", self.metrics.input_max.max());
        text.field("client_recent_max_output_buffer", self.metrics.output_max.max());
        text.field("blocked_clients", self.clients.blocked);
        text.field("tracking_clients", self.clients.tracked);
        text.field("pubsub_clients", self.clients.subscribers);
        text.field("watching_clients", self.clients.watching);
        text.field("clients_in_timeout_table", self.clients.timeouts);
        text.field("total_watched_keys", self.clients.watched_keys);
        text.field("total_blocking_keys", self.clients.blocking_keys.0);
        text.field("total_blocking_keys_on_nokey", self.clients.blocking_keys.1);
    }

    fn memory(&self, text: &mut Text) {
        let Allocator { allocated: used, active, resident, muzzy, peak, startup } = self.allocator;
        let shards = self.memory;
        let overview = Overview { allocator: self.allocator, resident: self.resident, shards };
        let dataset = overview.dataset();
        text.bytes("used_memory", used);
        text.bytes("used_memory_rss", self.resident);
        text.bytes("used_memory_peak", peak);
        text.field("used_memory_peak_perc", Percent(used, peak));
        text.field("used_memory_overhead", overview.overhead());
        text.field("used_memory_startup", startup);
        text.field("used_memory_dataset", dataset);
        text.field("used_memory_dataset_perc", Percent(dataset, overview.since_start().max(dataset)));
        text.field("allocator_allocated", used);
        text.field("allocator_active", active);
        text.field("allocator_resident", resident);
        text.field("allocator_muzzy", muzzy);
        text.bytes("total_system_memory", self.system_memory);
        text.bytes("used_memory_lua", 0);
        text.field("used_memory_vm_eval", 0);
        text.field("used_memory_scripts_eval", 0);
        text.field("number_of_cached_scripts", 0);
        text.field("number_of_functions", 0);
        text.field("number_of_libraries", 0);
        text.field("used_memory_vm_functions", 0);
        text.bytes("used_memory_vm_total", 0);
        text.field("used_memory_functions", 0);
        text.bytes("used_memory_scripts", 0);
        text.bytes("maxmemory", self.config.maxmemory);
        text.field("maxmemory_policy", self.config.maxmemory_policy.name());
        text.ratio("allocator_frag_ratio", active, used);
        text.field("allocator_frag_bytes", active.saturating_sub(used));
        text.ratio("allocator_rss_ratio", resident, active);
        text.field("allocator_rss_bytes", difference(resident, active));
        text.ratio("rss_overhead_ratio", self.resident, resident);
        text.field("rss_overhead_bytes", difference(self.resident, resident));
        text.ratio("mem_fragmentation_ratio", self.resident, used);
        text.field("mem_fragmentation_bytes", difference(self.resident, used));
        text.field("mem_not_counted_for_evict", shards.log + shards.snapshot);
        for name in ["mem_replication_backlog", "mem_total_replication_buffers", "mem_clients_slaves"] {
            text.field(name, 0);
        }
        text.field("mem_clients_normal", shards.clients);
        text.field("mem_cluster_links", 0);
        text.field("mem_aof_buffer", shards.log);
        text.field("mem_snapshot_buffer", shards.snapshot);
        text.field("mem_allocator", "jemalloc");
        text.field("active_defrag_running", 0);
        let packed = self.parts.iter().fold(PackedCount::default(), |sum, part| sum.with(part.packed));
        text.field("compressed_strings", packed.values);
        text.field("compressed_strings_bytes", packed.packed_bytes);
        text.field("compressed_strings_plain_bytes", packed.text_bytes);
        text.field("lazyfree_pending_objects", self.parts.iter().map(|p| p.pending_free).sum::<u64>());
        text.field("lazyfreed_objects", self.metrics.lazyfreed_objects);
        for part in &self.parts {
            text.field(&format!("used_memory_shard_{}", part.view.shard), part.memory.total());
        }
    }

    fn persistence(&self, text: &mut Text) {
        let status = &self.status;
        let now = self.now.unix_secs();
        let since = |began: Option<i64>| began.map_or(-1, |began| now - began);
        let sum = |of: fn(&Part) -> u64| self.parts.iter().map(of).sum::<u64>();
        let fate = |failed: bool| if failed { "err" } else { "ok" };
        text.field("loading", u8::from(status.loading_since.is_some()));
        text.field("async_loading", 0);
        text.line("current_cow_peak:0\r\ncurrent_cow_size:0\r\ncurrent_cow_size_age:0\r\ncurrent_fork_perc:0.00");
        text.line("current_save_keys_processed:0\r\ncurrent_save_keys_total:0");
        text.field("rdb_changes_since_last_save", sum(|part| part.storage.unsaved));
        text.field("rdb_bgsave_in_progress", u8::from(status.save_since.is_some()));
        text.field("rdb_last_save_time", status.last_save);
        text.field("rdb_last_bgsave_status", fate(status.last_save_failed));
        text.field("rdb_last_bgsave_time_sec", status.last_save_secs);
        text.field("rdb_current_bgsave_time_sec", since(status.save_since));
        text.field("rdb_saves", status.saves);
        text.field("rdb_last_cow_size", 0);
        text.field("rdb_last_load_keys_expired", status.loaded.expired);
        text.field("rdb_last_load_keys_loaded", status.loaded.keys);
        text.field("aof_enabled", u8::from(status.aof_on));
        text.field("aof_rewrite_in_progress", u8::from(status.rewrite_since.is_some()));
        text.field("aof_rewrite_scheduled", u8::from(status.rewrite_scheduled));
        text.field("aof_last_rewrite_time_sec", status.last_rewrite_secs);
        text.field("aof_current_rewrite_time_sec", since(status.rewrite_since));
        text.field("aof_last_bgrewrite_status", fate(status.last_rewrite_failed));
        text.field("aof_rewrites", status.rewrites);
        text.field("aof_rewrites_consecutive_failures", status.rewrite_failures);
        text.field("aof_last_write_status", fate(matches!(status.write_error, Some(WriteError::Log(_)))));
        text.field("aof_last_cow_size", 0);
        text.field("module_fork_in_progress", 0);
        text.field("module_fork_last_cow_size", 0);
        if status.aof_on {
            text.field("aof_current_size", sum(|part| part.storage.log));
            text.field("aof_base_size", status.aof_base_bytes);
            text.field("aof_pending_rewrite", 0);
            text.field("aof_buffer_length", sum(|part| part.storage.waiting));
            text.field("aof_pending_bio_fsync", 0);
            text.field("aof_delayed_fsync", 0);
            text.field("aof_open_epoch", self.parts.iter().map(|part| part.storage.epochs.0).min().unwrap_or(0));
            text.field("aof_durable_epoch", self.parts.iter().map(|part| part.storage.epochs.1).min().unwrap_or(0));
        }
        if let Some(began) = status.loading_since {
            let loaded = sum(|part| part.storage.loading.0);
            let total = sum(|part| part.storage.loading.1);
            text.field("loading_start_time", began);
            text.field("loading_total_bytes", total);
            text.field("loading_rdb_used_mem", 0);
            text.field("loading_loaded_bytes", loaded);
            let share = if total == 0 { 0.0 } else { loaded as f64 * 100.0 / total as f64 };
            text.field("loading_loaded_perc", Fixed::<2>(share));
            let secs = (now - began).max(0) as f64;
            let eta = if loaded == 0 { 1 } else { (secs * (total - loaded) as f64 / loaded as f64).round() as i64 };
            text.field("loading_eta_seconds", eta);
        }
    }

    fn stats(&self, text: &mut Text) {
        let m = &self.metrics;
        let sum = |rate: fn(&Part) -> f64| self.parts.iter().map(rate).sum::<f64>();
        text.field("total_connections_received", m.connections_received);
        text.field("total_commands_processed", m.commands_processed);
        text.field("instantaneous_ops_per_sec", sum(|p| p.ops_per_sec).round() as u64);
        text.field("total_net_input_bytes", m.net_input_bytes);
        text.field("total_net_output_bytes", m.net_output_bytes);
        text.line("total_net_repl_input_bytes:0\r\ntotal_net_repl_output_bytes:0");
        text.field("instantaneous_input_kbps", Fixed::<2>(sum(|p| p.input_per_sec) / 1024.0));
        text.field("instantaneous_output_kbps", Fixed::<2>(sum(|p| p.output_per_sec) / 1024.0));
        text.line("instantaneous_input_repl_kbps:0.00\r\ninstantaneous_output_repl_kbps:0.00");
        text.field("rejected_connections", m.connections_rejected);
        text.line("sync_full:0\r\nsync_partial_ok:0\r\nsync_partial_err:0");
        text.field("expired_subkeys", m.expired_fields);
        text.field("expired_keys", m.expired_keys);
        // Keys are found by when they are due, not by sampling: those that are due and there are the next to go.
        text.field("expired_stale_perc", "0.00");
        text.field("expired_time_cap_reached_count", m.expire_cycles_capped);
        text.field("expire_cycle_cpu_milliseconds", m.expire_cycles_us / 1000);
        text.field("evicted_keys", m.evicted_keys);
        text.field("evicted_clients", m.evicted_clients);
        text.field("evicted_scripts", 0);
        let over_now_us = self.parts.iter().map(|part| part.over_memory_us).max().unwrap_or(0);
        text.field("total_eviction_exceeded_time", (m.over_memory_us + over_now_us) / 1000);
        text.field("current_eviction_exceeded_time", over_now_us / 1000);
        text.field("keyspace_hits", m.keyspace_hits);
        text.field("keyspace_misses", m.keyspace_misses);
        let names =
            self.parts.iter().fold([0; 3], |all: [u64; 3], part| [0, 1, 2].map(|kind| all[kind] + part.names[kind]));
        text.field("pubsub_channels", names[Kind::Channel as usize]);
        text.field("pubsub_patterns", names[Kind::Pattern as usize]);
        text.field("pubsubshard_channels", names[Kind::Shard as usize]);
        text.line("latest_fork_usec:0\r\ntotal_forks:0");
        text.line("migrate_cached_sockets:0\r\nslave_expires_tracked_keys:0\r\nactive_defrag_hits:0");
        text.line("active_defrag_misses:0\r\nactive_defrag_key_hits:0\r\nactive_defrag_key_misses:0");
        text.line("total_active_defrag_time:0\r\ncurrent_active_defrag_time:0");
        let remembered = |at: usize| self.parts.iter().map(|part| part.remembered[at]).sum::<u64>();
        text.field("tracking_total_keys", remembered(0));
        text.field("tracking_total_items", remembered(1));
        // Every shard knows all prefixes.
        text.field("tracking_total_prefixes", self.parts.first().map_or(0, |part| part.remembered[2]));
        text.field("unexpected_error_replies", 0);
        text.field("total_error_replies", m.error_replies);
        text.field("dump_payload_sanitizations", m.payloads_checked);
        text.field("total_reads_processed", m.reads);
        text.field("total_writes_processed", m.writes);
        // Every shard does its own input and output, with buffers that have no fixed size.
        text.line("io_threaded_reads_processed:0\r\nio_threaded_writes_processed:0");
        text.line("reply_buffer_shrinks:0\r\nreply_buffer_expands:0");
        text.field("client_query_buffer_limit_disconnections", m.query_buffer_disconnects);
        text.field("client_output_buffer_limit_disconnections", m.output_buffer_disconnects);
        text.field("acl_access_denied_auth", m.auth_failures);
        text.field("acl_access_denied_cmd", m.denied_commands);
        text.field("acl_access_denied_key", m.denied_keys);
        text.field("acl_access_denied_channel", m.denied_channels);
        text.field("eventloop_cycles", m.loop_turns);
        text.field("eventloop_duration_sum", m.loop_busy_us);
        let command_ns: u64 = table().all().filter_map(|c| m.commands.get(c.id)).map(|t| t.ns).sum();
        text.field("eventloop_duration_cmd_sum", command_ns / 1000);
        let turns = sum(|p| p.turns_per_sec);
        let busy_us: f64 = self.parts.iter().map(|p| p.view.busy_share * 1e6).sum();
        text.field("instantaneous_eventloop_cycles_per_sec", turns.round() as u64);
        let each_us = if turns > 0.0 { busy_us / turns } else { 0.0 };
        text.field("instantaneous_eventloop_duration_usec", each_us.round() as u64);
    }

    fn replication(&self, text: &mut Text) {
        text.line("role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover");
        text.field("master_replid", &self.about.run_id);
        text.field("master_replid2", "0".repeat(40));
        text.line("master_repl_offset:0\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:0");
        text.field("repl_backlog_size", self.config.repl_backlog_size);
        text.line("repl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0");
    }

    fn cpu(&self, text: &mut Text) {
        for (suffix, time) in [("", self.cpu), ("_children", self.cpu_children), ("_main_thread", self.cpu_thread)] {
            text.field(&format!("used_cpu_sys{suffix}"), Fixed::<6>(time.system.as_secs_f64()));
            text.field(&format!("used_cpu_user{suffix}"), Fixed::<6>(time.user.as_secs_f64()));
        }
    }

    /// A line for each core; [`ShardView`] tells what its fields are.
    fn shards(&self, text: &mut Text) {
        for Part { view, .. } in &self.parts {
            text.line(&format!("shard{}:{}", view.shard, view.line()));
        }
    }

    fn commandstats(&self, text: &mut Text) {
        for command in table().all() {
            let Some(times) = self.metrics.commands.get(command.id) else { continue };
            if times.calls + times.rejected + times.failed == 0 {
                continue;
            }
            let us = times.ns / 1000;
            let each = if times.calls == 0 { 0.0 } else { times.ns as f64 / 1000.0 / times.calls as f64 };
            text.line(&format!(
                "cmdstat_{}:calls={},usec={us},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                command.full_name, times.calls, times.rejected, times.failed
            ));
        }
    }

    fn errorstats(&self, text: &mut Text) {
        for (code, count) in &self.metrics.errors {
            text.line(&format!("errorstat_{code}:count={count}"));
        }
    }

    fn latencystats(&self, text: &mut Text) {
        for command in table().all() {
            let latency = self.metrics.commands.get(command.id).and_then(|t| t.latency.as_ref());
            let Some(latency) = latency.filter(|l| !l.is_empty()) else { continue };
            let values: Vec<String> = self
                .config
                .latency_tracking_info_percentiles
                .iter()
                .map(|p| format!("p{p}={:.3}", latency.value_at_percentile(*p) as f64 / 1000.0))
                .collect();
            text.line(&format!("latency_percentiles_usec_{}:{}", command.full_name, values.join(",")));
        }
    }

    fn keyspace(&self, text: &mut Text) {
        for index in 0..self.config.databases as usize {
            let mut sum = DbCounts::default();
            for db in self.parts.iter().filter_map(|p| p.dbs.get(index)) {
                sum.keys += db.keys;
                sum.expires += db.expires;
                sum.ttl_sum += db.ttl_sum;
            }
            if sum.keys > 0 {
                let ttl = if sum.expires == 0 { 0 } else { (sum.ttl_sum / sum.expires as f64) as i64 };
                text.line(&format!("db{index}:keys={},expires={},avg_ttl={ttl}", sum.keys, sum.expires));
            }
        }
    }
}

/// The text as it grows, a field a line.
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push_str("\r\n");
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a string takes everything");
    }

    /// A size, and again as people read it.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        let mut human = Vec::new();
        size::push_human(&mut human, bytes);
        self.field(&format!("{name}_human"), String::from_utf8_lossy(&human));
    }

    fn ratio(&mut self, name: &str, part: u64, whole: u64) {
        self.field(name, Fixed::<2>(if whole == 0 { 0.0 } else { part as f64 / whole as f64 }));
    }
}

/// A number with so many decimals.
struct Fixed<const DECIMALS: usize>(f64);

impl<const DECIMALS: usize> std::fmt::Display for Fixed<DECIMALS> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.*}", DECIMALS, self.0)
    }
}

/// A share of a whole.
struct Percent(u64, u64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}%", if self.1 == 0 { 0.0 } else { self.0 as f64 * 100.0 / self.1 as f64 })
    }
}

fn difference(a: u64, b: u64) -> i64 {
    a as i64 - b as i64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metrics::CommandId;

    fn sections(line: &str) -> Vec<Section> {
        let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
        wanted(args.as_args()).into_iter().collect()
    }

    fn part(shard: u16) -> Part {
        let mut metrics = ShardMetrics { keyspace_hits: 10, ..ShardMetrics::default() };
        metrics.commands.record_run(table().find(b"ping").unwrap().id, 4, 8_000, true);
        metrics.count_error("ERR");
        let view = ShardView {
            shard,
            slots: 8192,
            keys: 3,
            expires: 1,
            memory: 100,
            clients: 3,
            ops_per_sec: 5,
            commands: 0,
            hops: (0, 0),
            mailbox: (0, 0),
            transactions: 0,
            turns: (0, 0),
            busy_share: 0.25,
            asleep: true,
            state: "serving",
            snapshot: "idle",
            log: "off",
        };
        Part {
            view,
            storage: FileCounts::default(),
            clients: ClientCounts { connected: 3, ..ClientCounts::default() },
            dbs: vec![
                DbCounts { keys: 2, expires: 1, ttl_sum: 1000.0 * f64::from(shard + 1) },
                DbCounts::default(),
                DbCounts { keys: 1, ..DbCounts::default() },
            ],
            packed: PackedCount::default(),
            memory: ShardMemory::default(),
            pending_free: 0,
            over_memory_us: 0,
            names: [0; 3],
            remembered: [0; 3],
            metrics,
            ops_per_sec: 5.0,
            input_per_sec: 512.0,
            output_per_sec: 0.0,
            turns_per_sec: 0.0,
        }
    }

    pub(super) fn report() -> Report {
        let about = Arc::new(About { run_id: "a".repeat(40), ..About::default() });
        Report::new(Now::default(), about, Config::default(), Status::default(), vec![part(0), part(1)], None)
    }

    fn rendered(line: &str) -> String {
        report().render(&sections(line).into_iter().collect())
    }

    #[test]
    fn sections_are_chosen_by_name_in_any_case_and_shown_once_in_fixed_order() {
        assert_eq!(sections("INFO keyspace SERVER server"), [S::Server, S::Keyspace]);
        assert_eq!(sections("INFO nope"), []);
        assert_eq!(sections("INFO everything").len(), Section::ALL.len());
        assert!(!sections("INFO").contains(&S::Commandstats));
        assert_eq!(sections("INFO default"), sections("INFO"));
    }

    #[test]
    fn sections_are_separated_by_an_empty_line() {
        assert_eq!(rendered("INFO cluster modules"), "# Modules\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n");
        assert_eq!(rendered("INFO nope"), "");
    }

    #[test]
    fn keyspaces_are_summed_over_shards_and_empty_ones_left_out() {
        assert_eq!(
            rendered("INFO keyspace"),
            "# Keyspace\r\ndb0:keys=4,expires=2,avg_ttl=1500\r\ndb2:keys=2,expires=0,avg_ttl=0\r\n"
        );
    }

    #[test]
    fn command_statistics_are_summed_over_shards() {
        let text = rendered("INFO commandstats");
        assert!(
            text.contains("cmdstat_ping:calls=8,usec=16,usec_per_call=2.00,rejected_calls=0,failed_calls=0\r\n"),
            "{text}"
        );
        let text = rendered("INFO latencystats");
        assert!(text.contains("latency_percentiles_usec_ping:p50=2."), "{text}");
        assert!(text.contains(",p99=") && text.contains(",p99.9="), "{text}");
        assert!(rendered("INFO errorstats").contains("errorstat_ERR:count=2\r\n"));
    }

    #[test]
    fn every_line_is_a_heading_a_field_or_empty() {
        let text = rendered("INFO everything");
        for line in text.split_terminator("\r\n") {
            assert!(line.is_empty() || line.starts_with("# ") || line.contains(':'), "{line:?}");
            assert!(!line.contains('\n'), "{line:?}");
        }
        for field in
            ["connected_clients:6", "keyspace_hits:20", "instantaneous_ops_per_sec:10", "role:master", "loading:0"]
        {
            assert!(text.contains(&format!("{field}\r\n")), "{field}");
        }
    }

    #[test]
    fn a_command_that_was_only_refused_has_a_line() {
        let mut report = report();
        let id: CommandId = table().find(b"echo").unwrap().id;
        report.metrics.commands.record_rejected(id);
        let text = report.render(&sections("INFO commandstats").into_iter().collect());
        assert!(
            text.contains("cmdstat_echo:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"),
            "{text}"
        );
    }
}
