//! The table of directives: one row each, from which everything else follows.
//!
//! A row gives the field of [`Config`], the name and perhaps an old name of the directive, the type, the default as
//! redis.conf would write it, the rule that reads and prints it, when it may change, and whether it has an effect in
//! this server. The file parser, the command line, CONFIG GET and SET and `--help` read the rows; nothing is said
//! twice. Names, defaults and bounds are those of Redis 7.0.15, with the directives that 7.2 and 7.4 added.
//!
//! Invariants, held by tests: names and old names are unique and lower case; every default is legal and prints as it
//! is written; a row that has no effect says why.
//!
//! To add a directive, add a row. To make one work, change its effect to `Works` where the code reads the field.

use super::rule::{
    ANY_BYTES, ANY_TEXT, AOF_FILE_NAME, AOF_FOLDER_NAME, DB_FILE_NAME, FOLDER, FileMode, HOST_NAME, MemoryShare,
    NODE_NAME, Refusal, Rule, TITLE_TEMPLATE, YesNo, memory, number, one_of,
};
use super::rule_lists::{
    Addresses, CpuList, Events, Master, OomScores, OutputLimitGroups, Percentiles, SavePoints, ShutdownWords,
};
use super::values::{
    AclPubsubDefault, AppendFsync, DisklessLoad, EndpointType, EventClasses, LogLevel, MasterAddress, MaxmemoryPolicy,
    MemoryOrPercent, OomScoreAdj, OutputLimits, PipelineOrder, PropagationError, ProtectedAction, RenamedCommand,
    SanitizeDump, SavePoint, ShutdownFlags, Supervised, SyslogFacility, Text, TlsAuthClients, TlsClientUser, UserLine,
};

/// When a directive may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At any time, by CONFIG SET.
    Live,
    /// Only in the configuration file and on the command line.
    AtStart,
    /// By CONFIG SET, when `enable-protected-configs` allows it.
    Protected,
}

/// Whether a directive does anything in this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It does what it says.
    Works,
    /// It is stored and shown, and changes nothing, for this reason (which follows "has no effect: ").
    Accepted(&'static str),
}

/// Who gets to see a directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// Everyone.
    Open,
    /// Everyone who asks for it by name; patterns and `--help` pass over it. For tests and debugging.
    Hidden,
    /// Everyone who may use CONFIG GET, but its value must not reach logs, MONITOR or SLOWLOG.
    Secret,
}

/// One row of the table.
pub struct Directive {
    /// The name, in lower case.
    pub name: &'static str,
    /// The name it had in older versions, which still works everywhere.
    pub alias: Option<&'static str>,
    /// Takes any number of words instead of exactly one.
    pub many: bool,
    /// The value before anybody set one, as redis.conf would write it.
    pub default: &'static str,
    /// When it may change.
    pub when: When,
    /// Whether it does anything.
    pub effect: Effect,
    /// Who gets to see it.
    pub sight: Sight,
    /// What it is for, in one sentence without a full stop.
    pub about: &'static str,
    pub(super) print: fn(&Config) -> Vec<u8>,
    pub(super) spell: fn(&Config) -> Vec<u8>,
    pub(super) assign: fn(&mut Config, &[&[u8]]) -> Result<(), Refusal>,
    pub(super) wants: fn() -> String,
}

impl Directive {
    /// What values are allowed, to follow the word "wants".
    pub fn wants(&self) -> String {
        (self.wants)()
    }

    /// The words of one argument: those between single blanks when the directive takes many (none for an empty
    /// argument, as in `CONFIG SET save ""`), the argument itself otherwise.
    pub(super) fn words<'text>(&self, text: &'text [u8]) -> Vec<&'text [u8]> {
        match (self.many, text) {
            (true, b"") => Vec::new(),
            (true, _) => text.split(|byte| *byte == b' ').collect(),
            (false, _) => vec![text],
        }
    }
}

/// Ties a row's rule to the type of its field, so that the compiler can infer the rule's own type.
const fn rule_of<V, R: Rule<Value = V>>(rule: &R) -> &R {
    rule
}

const fn takes_many<R: Rule>(_: &R) -> bool {
    R::MANY
}

macro_rules! alias {
    () => {
        None
    };
    ($alias:literal) => {
        Some($alias)
    };
}

macro_rules! sight {
    () => {
        Sight::Open
    };
    ($sight:ident) => {
        Sight::$sight
    };
}

macro_rules! directives {
    ($(
        $field:ident $name:literal $(($alias:literal))? $([$sight:ident])?:
            $type:ty = $default:literal, $rule:expr, $when:ident, $effect:expr; $about:literal
    )*) => {
        /// The current value of every directive. Plain data: cloned to each core, replaced as a whole when it changes.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( #[doc = $about] pub $field: $type, )*
            /// The `rename-command` lines, in order. They stand in the configuration file only.
            pub renamed_commands: Vec<RenamedCommand>,
            /// The `user` lines, in order. They stand in the configuration file only, and are taken out when the server starts.
            pub users: Vec<UserLine>,
        }

        impl Config {
            /// Every field at the zero of its type: what the defaults are assigned to.
            fn blank() -> Config {
                Config { $( $field: Default::default(), )* renamed_commands: Vec::new(), users: Vec::new() }
            }
        }

        /// Every directive, in the order in which CONFIG GET lists them.
        pub static DIRECTIVES: &[Directive] = &[$(
            Directive {
                name: $name,
                alias: alias!($($alias)?),
                many: takes_many(rule_of::<$type, _>(&$rule)),
                default: $default,
                when: When::$when,
                effect: $effect,
                sight: sight!($($sight)?),
                about: $about,
                print: |config| rule_of::<$type, _>(&$rule).print(&config.$field),
                spell: |config| rule_of::<$type, _>(&$rule).spell(&config.$field),
                assign: |config, words| rule_of::<$type, _>(&$rule).assign(&mut config.$field, words),
                wants: || rule_of::<$type, _>(&$rule).wants(),
            },
        )*];
    };
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Config::blank();
        for directive in DIRECTIVES {
            let words = directive.words(directive.default.as_bytes());
            (directive.assign)(&mut config, &words).expect("a test checks that every default is legal");
        }
        config
    }
}

/// A directive that stands only in the configuration file or on the command line and has no value to show.
pub struct FileOnly {
    /// The name, in lower case.
    pub name: &'static str,
    /// How many words follow, at least and at most.
    pub words: (usize, usize),
    /// Whether it does anything.
    pub effect: Effect,
    /// What it is for, in one sentence without a full stop.
    pub about: &'static str,
}

/// The directives that are not settings.
pub static FILE_ONLY: &[FileOnly] = &[
    FileOnly {
        name: "include",
        words: (1, 1),
        effect: Works,
        about: "reads another file at this place; globs allowed",
    },
    FileOnly {
        name: "rename-command",
        words: (2, 2),
        effect: Works,
        about: "gives a command another name, or takes it away with \"\"",
    },
    FileOnly { name: "user", words: (1, usize::MAX), effect: Works, about: "declares a user and its permissions" },
    FileOnly { name: "loadmodule", words: (1, usize::MAX), effect: NO_MODULES, about: "loads a module" },
    FileOnly { name: "list-max-ziplist-entries", words: (1, 1), effect: GONE, about: "nothing since Redis 3.2" },
    FileOnly { name: "list-max-ziplist-value", words: (1, 1), effect: GONE, about: "nothing since Redis 3.2" },
    FileOnly { name: "lua-replicate-commands", words: (1, 1), effect: GONE, about: "nothing since Redis 7.0" },
];

use Effect::{Accepted, Works};

const ALWAYS_RDB: Effect = Accepted("a rewritten log always starts with a snapshot");
const NO_SYNC_FILES: Effect = Accepted("there are no files for replicas");
const NO_REPLICAS: Effect = Accepted("replication is not there yet");
const NO_CLUSTER: Effect =
    Accepted("the cluster bus is not there yet; cluster-shard-nodes shows the shards of one server as nodes");
const NO_TLS_CLIENT: Effect = Accepted("the server opens no connections to others");
const NO_TLS_CLUSTER: Effect = Accepted("neither replication nor a cluster bus is there yet");
const NO_FINITE_FIELDS: Effect = Accepted("keys are agreed on over elliptic curves alone");
const NO_SCRIPTS: Effect = Accepted("scripts are not there yet");
const NO_MODULES: Effect = Accepted("modules are not supported");
const ALWAYS_SANITIZED: Effect = Accepted("every payload is checked in depth");
const NO_LOGO: Effect = Accepted("the log has no logo");
const NO_LAZY_VALUES: Effect = Accepted("large values are always freed in slices, however they go");
const NO_DEFRAG: Effect = Accepted("values are not moved to close gaps; MEMORY PURGE gives free pages back");
const NO_REHASHING: Effect = Accepted("tables grow in small segments and are never rehashed");
const NO_IO_THREADS: Effect = Accepted("every shard does its own input and output; see shards");
const NO_SUCH_THREADS: Effect = Accepted("there are no such threads or processes here; see shard-cpus");
const NO_TITLE: Effect = Accepted("the title of the process is left as it was started");
const NO_MEMORY_TEST: Effect = Accepted("a crash is reported and its memory left as it is, for a core");
const NO_SOCKET_MARK: Effect = Accepted("sockets are not marked");
const NO_WATCHDOG: Effect = Accepted("it serves tests of the original server only");
const NO_LOCALE: Effect = Accepted("text is compared byte by byte");
const NO_DYNAMIC_HZ: Effect = Accepted("idle clients cost no periodic work, so hz need not grow with them");
const NO_CYCLE_LIMIT: Effect = Accepted("new connections are accepted by the kernel in batches");
const NO_CHECK: Effect = Accepted("there is no such check to silence");
const ALWAYS_HIDDEN: Effect = Accepted("values of users never reach the log");
const GONE: Effect = Accepted("it was given up long ago and is read only so that old files still load");

const I32_MAX: i64 = i32::MAX as i64;
const I32_MIN: i64 = i32::MIN as i64;
const I64_MAX_BYTES: u64 = i64::MAX as u64;
const MIB: u64 = 1 << 20;

/// The most shards one process can have: the queues between them are one per ordered pair.
pub const SHARDS_MAX: u16 = 256;

directives! {
    // Our own.
    shards "shards": u16 = "0", number(0, SHARDS_MAX as i64), AtStart, Works;
        "Shards, one thread each; 0 means as many as there are CPUs this process may use"
    shard_cpus "shard-cpus": Vec<u16> = "", CpuList, AtStart, Works;
        "CPUs that the shards are pinned to, in order; empty means those this process may use"
    pipeline_order "pipeline-order": PipelineOrder = "relaxed", one_of(), Live, Works;
        "With strict, commands of one pipeline never overtake each other, at the cost of speed"
    busy_poll_usec "busy-poll-usec": u32 = "0", number(0, 1_000_000), Live, Works;
        "Microseconds a shard looks for work before it sleeps: CPU time spent for lower latency"
    cluster_shard_nodes "cluster-shard-nodes": bool = "no", YesNo, AtStart, Works;
        "Each shard also listens on a port of its own and is shown to cluster clients as a node of a Redis Cluster"
    cluster_shard_port_base "cluster-shard-port-base": u16 = "0", number(0, 65535), AtStart, Works;
        "Port of the first shard's node, the others follow; 0 means port + 1"
    metrics_port "metrics-port": u16 = "0", number(0, 65535), AtStart, Works;
        "TCP port on which metrics are served to Prometheus over HTTP; 0 means none"
    metrics_bind "metrics-bind": Vec<String> = "", Addresses, AtStart, Works;
        "Addresses to serve metrics on; empty means those of bind"

    // Network.
    port "port": u16 = "6379", number(0, 65535), Live, Works; "TCP port to listen on; 0 means none"
    bind "bind": Vec<String> = "* -::*", Addresses, Live, Works;
        "Addresses to listen on; a leading - makes one optional"
    bind_source_addr "bind-source-addr": Text = "", ANY_TEXT, Live, NO_REPLICAS;
        "Address that outgoing connections come from"
    unixsocket "unixsocket": Text = "", ANY_TEXT, AtStart, Works; "Path of a Unix socket to listen on"
    unixsocketperm "unixsocketperm": u32 = "0", FileMode, AtStart, Works;
        "Mode of the Unix socket, in octal; 0 leaves it to the umask"
    tcp_backlog "tcp-backlog": i32 = "511", number(0, I32_MAX), AtStart, Works;
        "Connections that may wait to be accepted"
    tcp_keepalive "tcp-keepalive": i32 = "300", number(0, I32_MAX), Live, Works;
        "Seconds between keepalive probes of idle connections; 0 means none"
    socket_mark_id "socket-mark-id": u32 = "0", number(0, u32::MAX as i64), AtStart, NO_SOCKET_MARK;
        "Mark that packets carry, for routing and filters"
    protected_mode "protected-mode": bool = "yes", YesNo, Live, Works;
        "Without a password and without bind, serve only clients of this machine"
    timeout "timeout": i32 = "0", number(0, I32_MAX), Live, Works;
        "Seconds after which an idle client is disconnected; 0 means never"
    maxclients "maxclients": u32 = "10000", number(1, u32::MAX as i64), Live, Works; "Clients connected at one time"
    max_new_connections_per_cycle "max-new-connections-per-cycle": i32 = "10", number(1, 1000), Live, NO_CYCLE_LIMIT;
        "New connections taken in one turn of the event loop"
    max_new_tls_connections_per_cycle "max-new-tls-connections-per-cycle": i32 = "1", number(1, 1000), Live, Works;
        "TLS handshakes worked on in one turn of a shard's event loop"
    proto_max_bulk_len "proto-max-bulk-len": u64 = "536870912", memory(MIB, I64_MAX_BYTES), Live, Works;
        "Largest argument of a command, in bytes"
    client_query_buffer_limit "client-query-buffer-limit": u64 = "1073741824", memory(MIB, I64_MAX_BYTES), Live, Works;
        "Bytes of unfinished requests kept for one client"
    client_output_buffer_limit "client-output-buffer-limit": OutputLimits =
        "normal 0 0 0 replica 268435456 67108864 60 pubsub 33554432 8388608 60", OutputLimitGroups, Live, Works;
        "Bytes of replies kept for a client that does not read them, before it is disconnected"
    io_threads "io-threads": i32 = "1", number(1, 128), AtStart, NO_IO_THREADS; "Threads that read and write sockets"
    io_threads_do_reads "io-threads-do-reads": bool = "no", YesNo, AtStart, NO_IO_THREADS;
        "Whether I/O threads also read"
    tracking_table_max_keys "tracking-table-max-keys": i64 = "1000000", number(0, i64::MAX), Live, Works;
        "Keys remembered for client-side caching"

    // General.
    databases "databases": u32 = "16", number(1, 65536), AtStart, Works; "Number of databases"
    dir "dir": Text = ".", FOLDER, Protected, Works; "Folder in which the server works"
    pidfile "pidfile": Text = "", ANY_TEXT, AtStart, Works; "File that holds the process id while the server runs"
    daemonize "daemonize": bool = "no", YesNo, AtStart, Works; "Run in the background"
    supervised "supervised": Supervised = "no", one_of(), AtStart, Works; "Which service manager to notify"
    loglevel "loglevel": LogLevel = "notice", one_of(), Live, Works; "How much is logged"
    logfile "logfile": Text = "", ANY_TEXT, AtStart, Works; "File to log to; empty means standard output"
    syslog_enabled "syslog-enabled": bool = "no", YesNo, AtStart, Works; "Log to syslog"
    syslog_ident "syslog-ident": Text = "redis", ANY_TEXT, AtStart, Works; "Name in syslog"
    syslog_facility "syslog-facility": SyslogFacility = "local0", one_of(), AtStart, Works; "Facility in syslog"
    hide_user_data_from_log "hide-user-data-from-log": bool = "no", YesNo, Live, ALWAYS_HIDDEN;
        "Keep values of users out of the log"
    always_show_logo "always-show-logo": bool = "no", YesNo, AtStart, NO_LOGO;
        "Show the logo even when the log does not go to a terminal"
    set_proc_title "set-proc-title": bool = "yes", YesNo, AtStart, NO_TITLE; "Show the port in the title of the process"
    proc_title_template "proc-title-template": Text = "{title} {listen-addr} {server-mode}", TITLE_TEMPLATE, Live,
        NO_TITLE; "Form of the title of the process"
    hz "hz": u16 = "10", number(0, I32_MAX).kept_within(1, 500), Live, Works;
        "Rounds of periodic work in a second, kept between 1 and 500"
    dynamic_hz "dynamic-hz": bool = "yes", YesNo, Live, NO_DYNAMIC_HZ; "Raise hz when there are many clients"
    activerehashing "activerehashing": bool = "yes", YesNo, Live, NO_REHASHING; "Rehash tables in spare time"
    crash_log_enabled "crash-log-enabled": bool = "yes", YesNo, Live, Works; "Report crashes in the log"
    crash_memcheck_enabled "crash-memcheck-enabled": bool = "yes", YesNo, Live, NO_MEMORY_TEST;
        "Test the memory after a crash"
    disable_thp "disable-thp": bool = "yes", YesNo, AtStart, Works; "Turn transparent huge pages off"
    server_cpulist "server_cpulist": Text = "", ANY_TEXT, AtStart, NO_SUCH_THREADS; "CPUs of the main thread"
    bio_cpulist "bio_cpulist": Text = "", ANY_TEXT, AtStart, NO_SUCH_THREADS; "CPUs of the background threads"
    aof_rewrite_cpulist "aof_rewrite_cpulist": Text = "", ANY_TEXT, AtStart, NO_SUCH_THREADS;
        "CPUs of the process that rewrites the append-only file"
    bgsave_cpulist "bgsave_cpulist": Text = "", ANY_TEXT, AtStart, NO_SUCH_THREADS; "CPUs of the process that saves"
    ignore_warnings "ignore-warnings": Text = "", ANY_TEXT, Live, NO_CHECK; "Warnings at start to pass over"
    locale_collate "locale-collate": Text = "", ANY_TEXT, Live, NO_LOCALE; "Locale in which text is compared"
    oom_score_adj "oom-score-adj": OomScoreAdj = "no", one_of(), Live, Works;
        "How the kernel's out-of-memory score is set"
    oom_score_adj_values "oom-score-adj-values": [i32; 3] = "0 200 800", OomScores, Live, Works;
        "Out-of-memory scores of a master, a replica and a background process"
    shutdown_timeout "shutdown-timeout": i32 = "10", number(0, I32_MAX), Live, NO_REPLICAS;
        "Seconds a shutdown waits for replicas"
    shutdown_on_sigint "shutdown-on-sigint": ShutdownFlags = "default", ShutdownWords, Live, Works;
        "How the server stops at SIGINT"
    shutdown_on_sigterm "shutdown-on-sigterm": ShutdownFlags = "default", ShutdownWords, Live, Works;
        "How the server stops at SIGTERM"

    // Permissions.
    requirepass "requirepass" [Secret]: Text = "", ANY_BYTES, Live, Works; "Password that clients must give"
    aclfile "aclfile": Text = "", ANY_TEXT, AtStart, Works; "File with users and permissions"
    acllog_max_len "acllog-max-len": i64 = "128", number(0, i64::MAX), Live, Works; "Entries of the ACL log"
    acl_pubsub_default "acl-pubsub-default": AclPubsubDefault = "resetchannels", one_of(), Live, Works;
        "Channels of new users"
    enable_protected_configs "enable-protected-configs": ProtectedAction = "no", one_of(), AtStart, Works;
        "Who may change dir and dbfilename while the server runs"
    enable_debug_command "enable-debug-command": ProtectedAction = "no", one_of(), AtStart, Works;
        "Who may use DEBUG"
    enable_module_command "enable-module-command": ProtectedAction = "no", one_of(), AtStart, NO_MODULES;
        "Who may use MODULE"

    // Observation.
    slowlog_log_slower_than "slowlog-log-slower-than": i64 = "10000", number(-1, i64::MAX), Live, Works;
        "Microseconds from which a command enters the slow log; -1 means never"
    slowlog_max_len "slowlog-max-len": i64 = "128", number(0, i64::MAX), Live, Works; "Entries of the slow log"
    latency_tracking "latency-tracking": bool = "yes", YesNo, Live, Works; "Measure latencies of each command"
    latency_tracking_info_percentiles "latency-tracking-info-percentiles": Vec<f64> = "50 99 99.9", Percentiles, Live,
        Works; "Percentiles in INFO latencystats"
    latency_monitor_threshold "latency-monitor-threshold": i64 = "0", number(0, i64::MAX), Live, Works;
        "Milliseconds from which an event enters the latency monitor; 0 means never"
    notify_keyspace_events "notify-keyspace-events": EventClasses = "", Events, Live, Works;
        "Keyspace events that are published"

    // Expiry, memory, deletion.
    active_expire_effort "active-expire-effort": u8 = "1", number(1, 10), Live, Works;
        "How hard expired keys are looked for, from 1 to 10"
    lfu_log_factor "lfu-log-factor": i32 = "10", number(0, I32_MAX), Live, Works;
        "How slowly the access counter of a key grows"
    lfu_decay_time "lfu-decay-time": i32 = "1", number(0, I32_MAX), Live, Works;
        "Minutes after which an access counter loses one"
    compress_values_larger_than "compress-values-larger-than": u64 = "0", memory(0, I64_MAX_BYTES), Live, Works;
        "Keep strings of more bytes than this compressed; 0 means only those that COMPRESS names"
    compress_cold_after "compress-cold-after": i32 = "0", number(0, I32_MAX), Live, Works;
        "Keep strings compressed that were not used for so many seconds; 0 means it does not matter"
    compress_cpu_percent "compress-cpu-percent": u16 = "5", number(1, 100), Live, Works;
        "Part of a shard's CPU that looking for such strings and compressing them may take"
    maxmemory "maxmemory": u64 = "0", memory(0, u64::MAX), Live, Works;
        "Bytes of memory that data may take; 0 means no limit"
    maxmemory_policy "maxmemory-policy": MaxmemoryPolicy = "noeviction", one_of(), Live, Works;
        "What is thrown out when memory is full"
    maxmemory_samples "maxmemory-samples": i32 = "5", number(1, I32_MAX), Live, Works;
        "Keys compared to find one to throw out"
    maxmemory_eviction_tenacity "maxmemory-eviction-tenacity": i32 = "10", number(0, 100), Live, Works;
        "How long eviction may take at a time, from 0 to 100"
    maxmemory_clients "maxmemory-clients": MemoryOrPercent = "0", MemoryShare, Live, Works;
        "Memory of all clients together; 0 means no limit"
    lazyfree_lazy_eviction "lazyfree-lazy-eviction": bool = "no", YesNo, Live, NO_LAZY_VALUES;
        "Free evicted values in the background"
    lazyfree_lazy_expire "lazyfree-lazy-expire": bool = "no", YesNo, Live, NO_LAZY_VALUES;
        "Free expired values in the background"
    lazyfree_lazy_server_del "lazyfree-lazy-server-del": bool = "no", YesNo, Live, NO_LAZY_VALUES;
        "Free values that a command replaces in the background"
    lazyfree_lazy_user_del "lazyfree-lazy-user-del": bool = "no", YesNo, Live, NO_LAZY_VALUES; "Let DEL act as UNLINK"
    lazyfree_lazy_user_flush "lazyfree-lazy-user-flush": bool = "no", YesNo, Live, Works;
        "Let FLUSHDB and FLUSHALL be ASYNC unless they say SYNC"
    jemalloc_bg_thread "jemalloc-bg-thread": bool = "yes", YesNo, Live, NO_DEFRAG;
        "Let the allocator give memory back from a thread of its own"
    activedefrag "activedefrag": bool = "no", YesNo, Live, NO_DEFRAG; "Defragment memory while running"
    active_defrag_ignore_bytes "active-defrag-ignore-bytes": u64 = "104857600", memory(1, I64_MAX_BYTES), Live,
        NO_DEFRAG;
        "Waste below which defragmentation does not start"
    active_defrag_threshold_lower "active-defrag-threshold-lower": i32 = "10", number(0, 1000), Live, NO_DEFRAG;
        "Percent of waste at which defragmentation starts"
    active_defrag_threshold_upper "active-defrag-threshold-upper": i32 = "100", number(0, 1000), Live, NO_DEFRAG;
        "Percent of waste at which it works hardest"
    active_defrag_cycle_min "active-defrag-cycle-min": i32 = "1", number(1, 99), Live, NO_DEFRAG;
        "Percent of CPU that defragmentation takes at least"
    active_defrag_cycle_max "active-defrag-cycle-max": i32 = "25", number(1, 99), Live, NO_DEFRAG;
        "Percent of CPU that defragmentation takes at most"
    active_defrag_max_scan_fields "active-defrag-max-scan-fields": i64 = "1000", number(1, i64::MAX), Live, NO_DEFRAG;
        "Fields of one value that defragmentation visits at a time"

    // How data types are stored.
    hash_max_listpack_entries "hash-max-listpack-entries" ("hash-max-ziplist-entries"): i64 = "512",
        number(0, i64::MAX), Live, Works; "Fields up to which a hash is stored packed"
    hash_max_listpack_value "hash-max-listpack-value" ("hash-max-ziplist-value"): u64 = "64",
        memory(0, I64_MAX_BYTES), Live, Works; "Bytes of a field or value up to which a hash is stored packed"
    list_max_listpack_size "list-max-listpack-size" ("list-max-ziplist-size"): i32 = "-2",
        number(I32_MIN, I32_MAX), Live, Works; "Size of one node of a list: elements, or -1 to -5 for 4 to 64 KiB"
    list_compress_depth "list-compress-depth": i32 = "0", number(0, I32_MAX), Live, Works;
        "Nodes at each end of a list that are not compressed; 0 means none is"
    set_max_intset_entries "set-max-intset-entries": i64 = "512", number(0, i64::MAX), Live, Works;
        "Elements up to which a set of integers is stored as one array"
    set_max_listpack_entries "set-max-listpack-entries": i64 = "128", number(0, i64::MAX), Live, Works;
        "Elements up to which a set is stored packed"
    set_max_listpack_value "set-max-listpack-value": u64 = "64", memory(0, I64_MAX_BYTES), Live, Works;
        "Bytes of an element up to which a set is stored packed"
    zset_max_listpack_entries "zset-max-listpack-entries" ("zset-max-ziplist-entries"): i64 = "128",
        number(0, i64::MAX), Live, Works; "Elements up to which a sorted set is stored packed"
    zset_max_listpack_value "zset-max-listpack-value" ("zset-max-ziplist-value"): u64 = "64",
        memory(0, I64_MAX_BYTES), Live, Works; "Bytes of an element up to which a sorted set is stored packed"
    hll_sparse_max_bytes "hll-sparse-max-bytes": u64 = "3000", memory(0, I64_MAX_BYTES), Live, Works;
        "Bytes up to which a HyperLogLog is stored sparsely"
    stream_node_max_bytes "stream-node-max-bytes": u64 = "4096", memory(0, I64_MAX_BYTES), Live, Works;
        "Bytes of one node of a stream"
    stream_node_max_entries "stream-node-max-entries": i64 = "100", number(0, i64::MAX), Live, Works;
        "Entries of one node of a stream"
    sanitize_dump_payload "sanitize-dump-payload": SanitizeDump = "no", one_of(), Live, ALWAYS_SANITIZED;
        "Check payloads of RESTORE in depth"
    busy_reply_threshold "busy-reply-threshold" ("lua-time-limit"): i64 = "5000", number(0, i64::MAX), Live, NO_SCRIPTS;
        "Milliseconds after which a script makes other clients see BUSY"
    lua_enable_deprecated_api "lua-enable-deprecated-api" [Hidden]: bool = "no", YesNo, AtStart, NO_SCRIPTS;
        "Let scripts use functions that were given up"

    // Persistence.
    save "save": Vec<SavePoint> = "3600 1 300 100 60 10000", SavePoints, Live, Works;
        "Save when this many seconds have passed and this many changes were made; \"\" means never"
    dbfilename "dbfilename": Text = "dump.rdb", DB_FILE_NAME, Protected, Works; "Name of the snapshot"
    rdbcompression "rdbcompression": bool = "yes", YesNo, Live, Works;
        "Compress strings in snapshots and payloads of DUMP"
    rdb_single_file "rdb-single-file": bool = "no", YesNo, Live, Works;
        "Write snapshots as one file, which any server loads, instead of one for each shard"
    rdbchecksum "rdbchecksum": bool = "yes", YesNo, AtStart, Works; "Put a checksum at the end of snapshots"
    rdb_del_sync_files "rdb-del-sync-files": bool = "no", YesNo, Live, NO_SYNC_FILES;
        "Delete snapshots that were made for replication only"
    rdb_save_incremental_fsync "rdb-save-incremental-fsync": bool = "yes", YesNo, Live, Works;
        "Write snapshots through to the disk bit by bit"
    stop_writes_on_bgsave_error "stop-writes-on-bgsave-error": bool = "yes", YesNo, Live, Works;
        "Refuse writes when the last save failed"
    appendonly "appendonly": bool = "no", YesNo, Live, Works; "Log every write to the append-only file"
    appendfilename "appendfilename": Text = "appendonly.aof", AOF_FILE_NAME, AtStart, Works;
        "Base name of the append-only files"
    appenddirname "appenddirname": Text = "appendonlydir", AOF_FOLDER_NAME, AtStart, Works;
        "Folder of the append-only files"
    appendfsync "appendfsync": AppendFsync = "everysec", one_of(), Live, Works;
        "When the append-only file is forced to the disk"
    no_appendfsync_on_rewrite "no-appendfsync-on-rewrite": bool = "no", YesNo, Live, Works;
        "Do not force the append-only file to the disk during a rewrite"
    auto_aof_rewrite_percentage "auto-aof-rewrite-percentage": i32 = "100", number(0, I32_MAX), Live, Works;
        "Growth of the append-only file in percent at which it is rewritten"
    auto_aof_rewrite_min_size "auto-aof-rewrite-min-size": u64 = "67108864", memory(0, I64_MAX_BYTES), Live, Works;
        "Size of the append-only file below which it is not rewritten"
    aof_load_truncated "aof-load-truncated": bool = "yes", YesNo, Live, Works;
        "Load an append-only file whose last record is cut off"
    aof_use_rdb_preamble "aof-use-rdb-preamble": bool = "yes", YesNo, Live, ALWAYS_RDB;
        "Let a rewritten append-only file start with a snapshot"
    aof_timestamp_enabled "aof-timestamp-enabled": bool = "no", YesNo, Live, Works;
        "Write the time into the append-only file"
    aof_rewrite_incremental_fsync "aof-rewrite-incremental-fsync": bool = "yes", YesNo, Live, Works;
        "Write a rewritten append-only file through to the disk bit by bit"
    aof_disable_auto_gc "aof-disable-auto-gc": bool = "no", YesNo, Live, Works;
        "Keep append-only files that are no longer needed"
    rdb_key_save_delay "rdb-key-save-delay" [Hidden]: i32 = "0", number(I32_MIN, I32_MAX), Live, NO_WATCHDOG;
        "Microseconds to wait for each key saved, for tests"
    key_load_delay "key-load-delay" [Hidden]: i32 = "0", number(I32_MIN, I32_MAX), Live, NO_WATCHDOG;
        "Microseconds to wait for each key loaded, for tests"
    loading_process_events_interval_bytes "loading-process-events-interval-bytes" [Hidden]: i64 = "2097152",
        number(1024, I32_MAX), Live, NO_WATCHDOG; "Bytes loaded before clients are served once"
    watchdog_period "watchdog-period" [Hidden]: i32 = "0", number(0, I32_MAX), Live, NO_WATCHDOG;
        "Milliseconds after which a stalled server reports where it is"
    use_exit_on_panic "use-exit-on-panic" [Hidden]: bool = "no", YesNo, Live, NO_WATCHDOG;
        "Leave by exit instead of abort when a check fails"
    debug_context "debug-context" [Hidden]: Text = "", ANY_TEXT, Live, NO_WATCHDOG; "Text shown in a crash report"

    // Replication.
    replicaof "replicaof" ("slaveof"): Option<MasterAddress> = "no one", Master, AtStart, NO_REPLICAS;
        "Server to replicate from"
    masterauth "masterauth" [Secret]: Text = "", ANY_BYTES, Live, NO_REPLICAS; "Password for the master"
    masteruser "masteruser" [Secret]: Text = "", ANY_TEXT, Live, NO_REPLICAS; "User name for the master"
    replica_serve_stale_data "replica-serve-stale-data" ("slave-serve-stale-data"): bool = "yes", YesNo, Live,
        NO_REPLICAS; "Answer reads while the master is away"
    replica_read_only "replica-read-only" ("slave-read-only"): bool = "yes", YesNo, Live, NO_REPLICAS;
        "Refuse writes on a replica"
    replica_priority "replica-priority" ("slave-priority"): i32 = "100", number(0, I32_MAX), Live, NO_REPLICAS;
        "Which replica Sentinel promotes first: the lowest; 0 means never"
    replica_announced "replica-announced": bool = "yes", YesNo, Live, NO_REPLICAS; "Let Sentinel list this replica"
    replica_announce_ip "replica-announce-ip" ("slave-announce-ip"): Text = "", ANY_TEXT, Live, NO_REPLICAS;
        "Address that a replica tells its master"
    replica_announce_port "replica-announce-port" ("slave-announce-port"): u16 = "0", number(0, 65535), Live,
        NO_REPLICAS; "Port that a replica tells its master"
    replica_ignore_maxmemory "replica-ignore-maxmemory" ("slave-ignore-maxmemory"): bool = "yes", YesNo, Live,
        NO_REPLICAS; "Leave eviction to the master"
    replica_ignore_disk_write_errors "replica-ignore-disk-write-errors": bool = "no", YesNo, Live, NO_REPLICAS;
        "Let a replica go on when its disk fails"
    replica_lazy_flush "replica-lazy-flush" ("slave-lazy-flush"): bool = "no", YesNo, Live, NO_REPLICAS;
        "Free the old data set in the background before a full sync"
    close_on_replica_write "close-on-replica-write" [Hidden]: bool = "yes", YesNo, Live, NO_REPLICAS;
        "Disconnect a replica that sends writes"
    repl_diskless_sync "repl-diskless-sync": bool = "yes", YesNo, Live, NO_REPLICAS; "Send snapshots without a file"
    repl_diskless_sync_delay "repl-diskless-sync-delay": i32 = "5", number(0, I32_MAX), Live, NO_REPLICAS;
        "Seconds to wait for more replicas before a snapshot is sent"
    repl_diskless_sync_max_replicas "repl-diskless-sync-max-replicas": i32 = "0", number(0, I32_MAX), Live,
        NO_REPLICAS; "Replicas at which that wait ends; 0 means it does not"
    repl_diskless_load "repl-diskless-load": DisklessLoad = "disabled", one_of(), Live, NO_REPLICAS;
        "Load snapshots without a file"
    repl_disable_tcp_nodelay "repl-disable-tcp-nodelay": bool = "no", YesNo, Live, NO_REPLICAS;
        "Trade delay for fewer packets to replicas"
    repl_ping_replica_period "repl-ping-replica-period" ("repl-ping-slave-period"): i32 = "10", number(1, I32_MAX),
        Live, NO_REPLICAS; "Seconds between pings to replicas"
    repl_timeout "repl-timeout": i32 = "60", number(1, I32_MAX), Live, NO_REPLICAS;
        "Seconds of silence after which a link is given up"
    repl_backlog_size "repl-backlog-size": u64 = "1048576", memory(1, I64_MAX_BYTES).kept_at_least(16_384), Live,
        NO_REPLICAS;
        "Bytes of the stream kept for replicas that come back"
    repl_backlog_ttl "repl-backlog-ttl": i64 = "3600", number(0, i64::MAX), Live, NO_REPLICAS;
        "Seconds after which the backlog is freed when no replica is left; 0 means never"
    min_replicas_to_write "min-replicas-to-write" ("min-slaves-to-write"): i32 = "0", number(0, I32_MAX), Live,
        NO_REPLICAS; "Replicas that must be connected for writes to be accepted"
    min_replicas_max_lag "min-replicas-max-lag" ("min-slaves-max-lag"): i32 = "10", number(0, I32_MAX), Live,
        NO_REPLICAS; "Seconds a replica may lag behind to be counted"
    propagation_error_behavior "propagation-error-behavior": PropagationError = "ignore", one_of(), Live, NO_REPLICAS;
        "What happens when a replicated command fails"

    // Cluster.
    cluster_enabled "cluster-enabled": bool = "no", YesNo, AtStart, NO_CLUSTER; "Run as a node of a cluster"
    cluster_config_file "cluster-config-file": Text = "nodes.conf", ANY_TEXT, AtStart, Works;
        "File in which the names of the nodes are kept, with cluster-shard-nodes"
    cluster_node_timeout "cluster-node-timeout": i64 = "15000", number(0, i64::MAX), Live, NO_CLUSTER;
        "Milliseconds after which a silent node counts as failing"
    cluster_port "cluster-port": u16 = "0", number(0, 65535), AtStart, NO_CLUSTER;
        "Port of the cluster bus; 0 means port + 10000"
    cluster_migration_barrier "cluster-migration-barrier": i32 = "1", number(0, I32_MAX), Live, NO_CLUSTER;
        "Replicas a master keeps before one may move to another"
    cluster_allow_replica_migration "cluster-allow-replica-migration": bool = "yes", YesNo, Live, NO_CLUSTER;
        "Let replicas move to masters that have none"
    cluster_replica_validity_factor "cluster-replica-validity-factor" ("cluster-slave-validity-factor"): i32 = "10",
        number(0, I32_MAX), Live, NO_CLUSTER; "How old the data of a replica may be when it takes over"
    cluster_replica_no_failover "cluster-replica-no-failover" ("cluster-slave-no-failover"): bool = "no", YesNo, Live,
        NO_CLUSTER; "Never take over from the master"
    cluster_require_full_coverage "cluster-require-full-coverage": bool = "yes", YesNo, Live, NO_CLUSTER;
        "Serve nobody while a slot has no node"
    cluster_allow_reads_when_down "cluster-allow-reads-when-down": bool = "no", YesNo, Live, NO_CLUSTER;
        "Serve reads while the cluster is down"
    cluster_allow_pubsubshard_when_down "cluster-allow-pubsubshard-when-down": bool = "yes", YesNo, Live, NO_CLUSTER;
        "Serve sharded pub/sub while the cluster is down"
    cluster_link_sendbuf_limit "cluster-link-sendbuf-limit": u64 = "0", memory(0, u64::MAX), Live, NO_CLUSTER;
        "Bytes kept for a node that does not read; 0 means no limit"
    cluster_announce_ip "cluster-announce-ip": Text = "", ANY_TEXT, Live, Works;
        "Address that clients are told; empty means the one that they connected to"
    cluster_announce_hostname "cluster-announce-hostname": Text = "", HOST_NAME, Live, Works;
        "Host name told to clients"
    cluster_announce_human_nodename "cluster-announce-human-nodename": Text = "", NODE_NAME, Live, NO_CLUSTER;
        "Name shown in logs of other nodes"
    cluster_announce_port "cluster-announce-port": u16 = "0", number(0, 65535), Live, Works;
        "Port that clients are told for the first shard's node, the others follow; 0 means the true ones"
    cluster_announce_tls_port "cluster-announce-tls-port": u16 = "0", number(0, 65535), Live, NO_CLUSTER;
        "TLS port told to other nodes"
    cluster_announce_bus_port "cluster-announce-bus-port": u16 = "0", number(0, 65535), Live, NO_CLUSTER;
        "Port of the cluster bus told to other nodes"
    cluster_preferred_endpoint_type "cluster-preferred-endpoint-type": EndpointType = "ip", one_of(), Live, Works;
        "What clients are told to connect to"

    // TLS.
    tls_port "tls-port": u16 = "0", number(0, 65535), Live, Works; "TLS port to listen on; 0 means none"
    tls_cert_file "tls-cert-file": Text = "", ANY_TEXT, Live, Works; "Certificate of the server"
    tls_key_file "tls-key-file": Text = "", ANY_TEXT, Live, Works; "Private key of the server"
    tls_key_file_pass "tls-key-file-pass" [Secret]: Text = "", ANY_TEXT, Live, Works; "Password of the private key"
    tls_client_cert_file "tls-client-cert-file": Text = "", ANY_TEXT, Live, NO_TLS_CLIENT;
        "Certificate for outgoing connections"
    tls_client_key_file "tls-client-key-file": Text = "", ANY_TEXT, Live, NO_TLS_CLIENT;
        "Private key for outgoing connections"
    tls_client_key_file_pass "tls-client-key-file-pass" [Secret]: Text = "", ANY_TEXT, Live, NO_TLS_CLIENT;
        "Password of the private key for outgoing connections"
    tls_dh_params_file "tls-dh-params-file": Text = "", ANY_TEXT, Live, NO_FINITE_FIELDS; "Diffie-Hellman parameters"
    tls_ca_cert_file "tls-ca-cert-file": Text = "", ANY_TEXT, Live, Works; "Certificates of authorities"
    tls_ca_cert_dir "tls-ca-cert-dir": Text = "", ANY_TEXT, Live, Works; "Folder of certificates of authorities"
    tls_auth_clients "tls-auth-clients": TlsAuthClients = "yes", one_of(), Live, Works;
        "Whether clients must show a certificate"
    tls_auth_clients_user "tls-auth-clients-user": TlsClientUser = "off", one_of(), Live, Works;
        "Which field of its certificate says what user a client is, so that it need not authenticate"
    tls_handshake_timeout "tls-handshake-timeout": i32 = "10", number(0, I32_MAX), Live, Works;
        "Seconds that a TLS handshake may take; 0 means any time"
    tls_replication "tls-replication": bool = "no", YesNo, Live, NO_TLS_CLUSTER; "Replicate over TLS"
    tls_cluster "tls-cluster": bool = "no", YesNo, Live, NO_TLS_CLUSTER; "Run the cluster bus over TLS"
    tls_protocols "tls-protocols": Text = "", ANY_TEXT, Live, Works; "TLS versions that may be used"
    tls_ciphers "tls-ciphers": Text = "", ANY_TEXT, Live, Works; "Ciphers of TLS up to 1.2"
    tls_ciphersuites "tls-ciphersuites": Text = "", ANY_TEXT, Live, Works; "Ciphers of TLS 1.3"
    tls_prefer_server_ciphers "tls-prefer-server-ciphers": bool = "no", YesNo, Live, Works;
        "Let the server choose the cipher"
    tls_session_caching "tls-session-caching": bool = "yes", YesNo, Live, Works; "Let clients resume sessions"
    tls_session_cache_size "tls-session-cache-size": i32 = "20480", number(0, I32_MAX), Live, Works;
        "Sessions remembered; 0 means any number"
    tls_session_cache_timeout "tls-session-cache-timeout": i32 = "300", number(0, I32_MAX), Live, Works;
        "Seconds a session is remembered"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_old_names_are_unique_and_lower_case() {
        let mut seen = HashSet::new();
        let aliases = DIRECTIVES.iter().filter_map(|directive| directive.alias);
        let names = DIRECTIVES.iter().map(|directive| directive.name).chain(aliases);
        for name in names.chain(FILE_ONLY.iter().map(|directive| directive.name)) {
            assert!(seen.insert(name), "{name} stands in the table twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte)), "{name}");
        }
    }

    #[test]
    fn every_default_is_legal_and_prints_as_it_is_written() {
        let config = Config::default();
        for directive in DIRECTIVES {
            let printed = String::from_utf8((directive.print)(&config)).unwrap();
            // Redis takes `replica` and prints `slave`, and prints nothing for `no one`.
            let written = directive.default.replace("replica ", "slave ").replace("no one", "");
            assert_eq!(printed, written, "{}", directive.name);
        }
    }

    #[test]
    fn every_value_that_is_printed_can_be_read_again() {
        let mut config = Config::default();
        for directive in DIRECTIVES.iter().filter(|directive| directive.name != "replicaof") {
            let printed = (directive.print)(&config);
            (directive.assign)(&mut config, &directive.words(&printed)).expect(directive.name);
            assert_eq!((directive.print)(&config), printed, "{}", directive.name);
        }
    }

    #[test]
    fn every_row_says_what_it_is_for_and_what_it_wants() {
        for directive in DIRECTIVES {
            assert!(!directive.about.ends_with('.') && directive.about.len() > 5, "{}", directive.name);
            assert!(!directive.wants().is_empty(), "{}", directive.name);
            if let Accepted(reason) = directive.effect {
                assert!(!reason.is_empty() && !reason.ends_with('.'), "{}", directive.name);
            }
        }
    }

    #[test]
    fn settings_are_those_of_an_unconfigured_redis() {
        let config = Config::default();
        assert_eq!(config.port, 6379);
        assert_eq!(config.databases, 16);
        assert_eq!(config.bind, ["*", "-::*"]);
        assert_eq!(config.proto_max_bulk_len, 512 << 20);
        assert_eq!(config.client_output_buffer_limit.pubsub.hard_bytes, 32 << 20);
        assert_eq!(config.save.len(), 3);
        assert!(config.protected_mode);
    }
}
