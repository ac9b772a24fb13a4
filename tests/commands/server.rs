//! The server family: INFO, CONFIG, FLUSHALL and their kin, COMMAND, DEBUG, LATENCY, MEMORY, LOLWUT, SHUTDOWN, CLUSTER. What
//! disturbs a server, or counts what it did, runs on servers of its own.

use super::check;
use super::harness::{Client, Server, Value};

/// Runs `test` on servers of our own, at 1 and at 4 shards: for what must not disturb the shared ones.
fn on_own_servers(directives: &[&str], test: impl Fn(&mut Server)) {
    for shards in [1, 4] {
        test(&mut Server::annulus(shards, directives));
    }
}

/// The value of a field of INFO.
fn info(client: &mut Client, section: &str, field: &str) -> String {
    let text = client.line(&format!("INFO {section}")).text();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

fn ok(client: &mut Client, line: &str) {
    assert_eq!(client.line(line).text(), "OK", "{line}");
}

fn texts(value: &Value) -> Vec<String> {
    value.elements().unwrap_or_else(|| panic!("{value} is a list")).iter().map(Value::text).collect()
}

#[test]
fn dbsize_flushdb_and_swapdb_see_all_shards() {
    check(&["MSET a 1 b 2 c 3 d 4 e 5", "DBSIZE"], "5");
    check(&["MSET a 1 b 2 c 3", "FLUSHDB", "DBSIZE"], "0");
    check(&["MSET a 1 b 2", "SELECT 1", "SET c 3", "FLUSHDB SYNC", "SELECT 0", "DBSIZE"], "2");
    check(&["SET a 1", "FLUSHALL ASYNC", "DBSIZE"], "0");
    check(&["SET a 1", "SELECT 1", "FLUSHALL SYNC", "SELECT 0", "DBSIZE"], "0");
    check(&["FLUSHALL foo"], "-ERR syntax error");
    check(&["FLUSHDB SYNC ASYNC"], "-ERR syntax error");
    check(&["MSET a 1 b 2 c 3", "SWAPDB 0 1", "DBSIZE"], "0");
    check(&["MSET a 1 b 2 c 3", "SWAPDB 0 1", "SELECT 1", "MGET a b c"], "[1, 2, 3]");
    check(&["SWAPDB x 1"], "-ERR invalid first DB index");
    check(&["SWAPDB 1 x"], "-ERR invalid second DB index");
    check(&["SWAPDB 0 99"], "-ERR DB index is out of range");
    check(&["SWAPDB 0 0"], "OK");
}

#[test]
fn many_keys_are_flushed_in_slices() {
    on_own_servers(&["--enable-debug-command", "yes"], |server| {
        let mut client = server.connect();
        ok(&mut client, "DEBUG POPULATE 20000 key 30");
        assert_eq!(client.line("DBSIZE"), Value::Int(20_000));
        ok(&mut client, "FLUSHALL SYNC");
        assert_eq!(client.line("DBSIZE"), Value::Int(0));
        assert_eq!(info(&mut client, "memory", "lazyfree_pending_objects"), "0");
        ok(&mut client, "DEBUG POPULATE 20000");
        ok(&mut client, "FLUSHDB ASYNC");
        assert_eq!(client.line("DBSIZE"), Value::Int(0));
    });
}

#[test]
fn info_has_the_fields_that_dashboards_read() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        let _others: Vec<Client> = (0..3).map(|_| server.connect_resp3()).collect();
        ok(&mut client, "MSET a 1 b 2 c 3");
        ok(&mut client, "SET d 4 EX 100");
        client.line("GET a");
        client.line("GET none");
        client.line("NOSUCH");
        client.line("GET");
        let text = client.line("INFO everything").text();
        for field in FIELDS {
            assert!(text.contains(&format!("\r\n{field}:")), "no {field} in {text}");
        }
        assert_eq!(info(&mut client, "server", "server_name"), "annulus");
        assert!(info(&mut client, "server", "redis_version").starts_with("7.4."));
        assert_eq!(info(&mut client, "server", "tcp_port"), server.port().to_string());
        assert_eq!(info(&mut client, "server", "process_id"), server.pid().to_string());
        assert_eq!(info(&mut client, "server", "run_id").len(), 40);
        assert_eq!(info(&mut client, "clients", "connected_clients"), "4");
        let db0 = info(&mut client, "keyspace", "db0");
        assert!(db0.starts_with("keys=4,expires=1,avg_ttl="), "{db0}");
        assert_eq!(info(&mut client, "stats", "keyspace_hits"), "1");
        assert_eq!(info(&mut client, "stats", "keyspace_misses"), "1");
        assert_eq!(info(&mut client, "stats", "total_error_replies"), "2");
        assert_eq!(info(&mut client, "errorstats", "errorstat_ERR"), "count=2");
        let get = info(&mut client, "commandstats", "cmdstat_get");
        assert!(get.starts_with("calls=2,") && get.ends_with("rejected_calls=1,failed_calls=0"), "{get}");
        let get = info(&mut client, "latencystats", "latency_percentiles_usec_get");
        assert!(get.starts_with("p50=") && get.contains(",p99.9="), "{get}");
        let used: u64 = info(&mut client, "memory", "used_memory").parse().unwrap();
        let peak: u64 = info(&mut client, "memory", "used_memory_peak").parse().unwrap();
        assert!(used > 100_000 && peak >= 100_000, "{used} of {peak}");
        ok(&mut client, "CONFIG RESETSTAT");
        assert_eq!(info(&mut client, "stats", "keyspace_hits"), "0");
        assert_eq!(info(&mut client, "stats", "total_error_replies"), "0");
    });
}

#[test]
fn info_takes_sections_in_any_case_and_ignores_others() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        assert_eq!(client.line("INFO nosuch").text(), "");
        assert_eq!(client.line("info CLUSTER cluster").text(), "# Cluster\r\ncluster_enabled:0\r\n");
        let text = client.line("INFO keyspace replication").text();
        assert!(
            text.starts_with("# Replication\r\nrole:master\r\n") && text.contains("\r\n\r\n# Keyspace\r\n"),
            "{text}"
        );
        let default = client.line("INFO").text();
        assert!(default.contains("# Shards\r\n") && !default.contains("# Commandstats"), "{default}");
        let bytes = server.connect_resp3().command_bytes(&["INFO", "cluster"]);
        assert_eq!(bytes.escape_ascii().to_string(), r"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n");
    });
}

#[test]
fn config_set_changes_every_shard_or_none() {
    on_own_servers(&[], |server| {
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        ok(&mut clients[0], "CONFIG SET maxmemory-samples 7 lfu-log-factor 3");
        for client in &mut clients {
            assert_eq!(texts(&client.line("CONFIG GET maxmemory-samples")), ["maxmemory-samples", "7"]);
        }
        let error = clients[1].line("CONFIG SET maxmemory-samples 9 hz x").text();
        assert!(error.starts_with("ERR CONFIG SET failed (possibly related to argument 'hz') - "), "{error}");
        for client in &mut clients {
            assert_eq!(texts(&client.line("CONFIG GET maxmemory-samples")), ["maxmemory-samples", "7"]);
        }
    });
}

#[test]
fn concurrent_config_sets_end_equal_on_all_shards() {
    let server = Server::annulus(4, &[]);
    let threads: Vec<_> = (1..=4)
        .map(|n| {
            let mut client = server.connect();
            std::thread::spawn(move || {
                for round in 0..50 {
                    ok(&mut client, &format!("CONFIG SET maxmemory-samples {}", n * 100 + round));
                    ok(&mut client, &format!("CONFIG SET lfu-log-factor {}", n * 100 + round));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    let seen: Vec<_> = clients.iter_mut().map(|c| c.line("CONFIG GET maxmemory-samples lfu-log-factor")).collect();
    assert!(seen.iter().all(|s| *s == seen[0]), "{seen:?}");
    assert!(["149", "249", "349", "449"].contains(&texts(&seen[0])[1].as_str()), "the last of somebody's: {}", seen[0]);
}

#[test]
fn config_refuses_in_redis_words() {
    for (line, error) in [
        ("CONFIG SET foo bar", "ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
        ("CONFIG SET maxmemory", "ERR wrong number of arguments for 'config|set' command"),
        ("CONFIG SET maxmemory 1 hz", "ERR syntax error"),
        (
            "CONFIG SET databases 3",
            "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        (
            "CONFIG SET maxmemory 1 maxmemory 2",
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter",
        ),
        ("CONFIG REWRITE", "ERR The server is running without a config file"),
        ("CONFIG GET", "ERR wrong number of arguments for 'config|get' command"),
        ("CONFIG FOO", "ERR unknown subcommand 'FOO'. Try CONFIG HELP."),
    ] {
        check(&[line], &format!("-{error}"));
    }
}

#[test]
fn config_set_requirepass_takes_effect_for_new_connections_on_every_shard() {
    on_own_servers(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "CONFIG SET requirepass pw");
        assert_eq!(admin.line("PING").text(), "PONG", "who is in stays in");
        for _ in 0..8 {
            let mut client = server.connect();
            assert_eq!(client.line("PING").text(), "NOAUTH Authentication required.");
            ok(&mut client, "AUTH pw");
        }
    });
}

#[test]
fn time_and_role_tell_of_this_server() {
    check(&["ROLE"], "[master, 0, []]");
    on_own_servers(&[], |server| {
        let time = texts(&server.connect().line("TIME"));
        let seconds: u64 = time[0].parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(seconds.abs_diff(now) <= 2 && time[1].parse::<u32>().unwrap() < 1_000_000, "{time:?}");
    });
}

#[test]
fn lolwut_draws_and_tells_the_version() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        let picture = client.line("LOLWUT").text();
        assert!(picture.lines().count() > 20, "{picture}");
        assert!(picture.lines().last().unwrap().starts_with("Redis ver. 7.4."), "{picture}");
        assert_ne!(picture, client.line("LOLWUT VERSION 5").text());
        assert_eq!(client.line("LOLWUT VERSION x").text(), "ERR value is not an integer or out of range");
    });
}

#[test]
fn debug_is_off_unless_allowed() {
    let refused = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
                   local connection, otherwise you need to set this option in the configuration file, and then restart the \
                   server.";
    on_own_servers(&["--enable-debug-command", "no"], |server| {
        assert_eq!(server.connect().line("DEBUG JMAP").text(), refused);
    });
    on_own_servers(&["--enable-debug-command", "local"], |server| ok(&mut server.connect(), "DEBUG JMAP"));
}

#[test]
fn debug_looks_at_keys_and_disturbs_the_server() {
    on_own_servers(&["--enable-debug-command", "yes"], |server| {
        let mut client = server.connect();
        for n in 0..8 {
            ok(&mut client, &format!("SET key{n} hello"));
            let line = client.line(&format!("DEBUG OBJECT key{n}")).text();
            assert!(
                line.starts_with("Value at:0x") && line.contains(" refcount:1 encoding:embstr serializedlength:6 lru:")
            );
        }
        assert_eq!(client.line("DEBUG OBJECT none").text(), "ERR no such key");
        assert!(client.line("DEBUG SDSLEN key1").text().starts_with("key_sds_len:4, "));
        assert_eq!(client.command(&["DEBUG", "ERROR", "MY error"]), Value::Error(b"MY error".to_vec()));
        assert_eq!(client.line("DEBUG STRINGMATCH-LEN h*o hello"), Value::Int(1));
        assert_eq!(
            client.line("DEBUG FOO").text(),
            "ERR unknown subcommand or wrong number of arguments for 'FOO'. Try DEBUG HELP."
        );
        ok(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
        ok(&mut client, "SET gone v PX 1");
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(client.line("DBSIZE"), Value::Int(9), "nobody has removed it");
        assert_eq!(client.line("GET gone"), Value::Nil);
        ok(&mut client, "DEBUG SET-ACTIVE-EXPIRE 1");
        for line in ["DEBUG CHANGE-REPL-ID", "DEBUG LOG hi", "DEBUG QUICKLIST-PACKED-THRESHOLD 1", "DEBUG SLEEP 0"] {
            ok(&mut client, line);
        }
        assert!(client.line("DEBUG HTSTATS 0").text().contains("number of elements"));
        assert!(texts(&client.line("DEBUG HELP")).len() > 20);
        assert!(server.log().contains("DEBUG LOG: hi"));
    });
}

#[test]
fn debug_sleep_stops_every_core() {
    on_own_servers(&["--enable-debug-command", "yes"], |server| {
        let mut sleeper = server.connect();
        let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        let begun = std::time::Instant::now();
        sleeper.send(&["DEBUG", "SLEEP", "0.3"]);
        std::thread::sleep(std::time::Duration::from_millis(50));
        clients.iter_mut().for_each(|client| assert_eq!(client.line("PING").text(), "PONG"));
        assert_eq!(sleeper.reply().text(), "OK");
        assert!(begun.elapsed().as_millis() >= 300);
    });
}

#[test]
fn debug_panic_ends_the_process() {
    on_own_servers(&["--enable-debug-command", "yes"], |server| {
        server.connect().send(&["DEBUG", "PANIC"]);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while server.is_running() && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!server.is_running());
        assert!(server.log().contains("DEBUG PANIC"), "the log says why");
    });
}

#[test]
fn memory_usage_grows_with_the_value() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        ok(&mut client, "SET small v");
        client.command(&["SET", "large", &"x".repeat(100_000)]);
        let (Value::Int(small), Value::Int(large)) =
            (client.line("MEMORY USAGE small"), client.line("MEMORY USAGE large SAMPLES 5"))
        else {
            panic!("MEMORY USAGE answers integers")
        };
        assert!((16..=128).contains(&small) && (100_000..140_000).contains(&large), "{small} {large}");
        assert!(client.line("MEMORY DOCTOR").text().contains("too little data"));
    });
    check(&["MEMORY USAGE none"], "(nil)");
    check(&["SET k v", "MEMORY USAGE k SAMPLES x"], "-ERR value is not an integer or out of range");
    check(&["SET k v", "MEMORY USAGE k SAMPLES -1"], "-ERR syntax error");
    check(&["SET k v", "MEMORY USAGE k FOO 1"], "-ERR syntax error");
}

#[test]
fn latency_histogram_counts_calls_of_all_shards() {
    on_own_servers(&[], |server| {
        let mut client = server.connect_resp3();
        (0..10).for_each(|n| ok(&mut client, &format!("SET key{n} v")));
        let Value::Map(commands) = client.line("LATENCY HISTOGRAM set nosuch") else { panic!("a map") };
        assert_eq!(commands.len(), 1);
        let (name, Value::Map(facts)) = &commands[0] else { panic!("a map in a map") };
        assert_eq!(name.text(), "set");
        assert_eq!(facts[0], (Value::Bulk(b"calls".to_vec()), Value::Int(10)));
        let Value::Map(buckets) = &facts[1].1 else { panic!("the histogram is a map") };
        assert_eq!(buckets.last().unwrap().1, Value::Int(10), "the last bucket has all");
    });
    check(&["LATENCY LATEST"], "[]");
    check(&["LATENCY HISTORY command"], "[]");
    check(&["LATENCY RESET"], "0");
}

#[test]
fn command_answers_from_the_table() {
    check(&["COMMAND GETKEYS MSET a 1 b 2"], "[a, b]");
    check(&["COMMAND GETKEYS MEMORY USAGE k"], "[k]");
    check(&["COMMAND GETKEYSANDFLAGS SET k v"], "[[k, [OW, update]]]");
    check(&["COMMAND GETKEYSANDFLAGS SET k v GET"], "[[k, [RW, access, update]]]");
    check(&["COMMAND GETKEYS nope x"], "-ERR Invalid command specified");
    check(&["COMMAND GETKEYS config get x"], "-ERR The command has no key arguments");
    check(&["COMMAND GETKEYS get a b"], "-ERR Invalid number of arguments specified for command");
    check(&["COMMAND LIST FILTERBY PATTERN conf*|g*"], "[config|get]");
    check(&["COMMAND LIST FILTERBY ACLCAT nosuch"], "[]");
    check(&["COMMAND LIST FILTERBY MODULE json"], "[]");
    check(&["COMMAND LIST FILTERBY foo bar"], "-ERR syntax error");
    check(&["COMMAND INFO nosuch"], "[(nil)]");
    check(&["COMMAND foo"], "-ERR unknown subcommand 'foo'. Try COMMAND HELP.");
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        let Value::Int(count) = client.line("COMMAND COUNT") else { panic!("an integer") };
        assert_eq!(client.line("COMMAND").elements().unwrap().len() as i64, count);
        assert_eq!(client.line("COMMAND INFO").elements().unwrap().len() as i64, count);
        assert_eq!(client.line("COMMAND DOCS").elements().unwrap().len() as i64, 2 * count);
        assert!(texts(&client.line("COMMAND LIST")).len() as i64 > count, "subcommands are listed");
        assert!(texts(&client.line("COMMAND HELP"))[0].starts_with("COMMAND <subcommand>"));
    });
}

#[test]
fn a_command_that_is_renamed_away_is_not_told_of() {
    on_own_servers(&["--rename-command", "FLUSHALL", ""], |server| {
        let mut client = server.connect();
        assert_eq!(client.line("COMMAND INFO flushall"), Value::Array(vec![Value::NilArray]));
        assert!(!texts(&client.line("COMMAND LIST")).contains(&"flushall".to_owned()));
        assert!(client.line("FLUSHALL").text().starts_with("ERR unknown command 'FLUSHALL'"));
    });
}

#[test]
fn cluster_commands_say_that_it_is_off() {
    let off = "-ERR This instance has cluster support disabled";
    for line in CLUSTER_CALLS {
        check(&[line], off);
    }
    check(&["CLUSTER MEET"], "-ERR wrong number of arguments for 'cluster|meet' command");
    check(&["CLUSTER FOO"], "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.");
}

#[test]
fn shutdown_closes_without_a_reply_and_ends_the_process() {
    check(&["SHUTDOWN foo"], "-ERR syntax error");
    check(&["SHUTDOWN SAVE NOSAVE"], "-ERR syntax error");
    check(&["SHUTDOWN ABORT"], "-ERR No shutdown in progress.");
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        let mut other = server.connect();
        client.send(&["SHUTDOWN", "NOSAVE"]);
        assert!(client.is_closed() && other.is_closed());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while server.is_running() && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!server.is_running());
        assert!(server.log().contains("ready to exit, bye bye"));
    });
}

#[test]
fn containers_help() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        for line in [
            "CLIENT HELP",
            "COMMAND HELP",
            "CONFIG HELP",
            "HOTKEYS HELP",
            "LATENCY HELP",
            "MEMORY HELP",
            "OBJECT HELP",
            "SLOWLOG HELP",
        ] {
            let container = line.split(' ').next().unwrap();
            let lines = texts(&client.line(line));
            let title = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
            assert_eq!(lines[0], title);
            assert_eq!(lines[lines.len() - 2], "HELP", "{line}");
        }
    });
}

/// Each command about the cluster, as one may call it.
const CLUSTER_CALLS: &[&str] = &[
    "ASKING",
    "READONLY",
    "READWRITE",
    "CLUSTER ADDSLOTS 1",
    "CLUSTER ADDSLOTSRANGE 1 2",
    "CLUSTER BUMPEPOCH",
    "CLUSTER COUNT-FAILURE-REPORTS id",
    "CLUSTER COUNTKEYSINSLOT 1",
    "CLUSTER DELSLOTS 1",
    "CLUSTER DELSLOTSRANGE 1 2",
    "CLUSTER FAILOVER",
    "CLUSTER FLUSHSLOTS",
    "CLUSTER FORGET id",
    "CLUSTER GETKEYSINSLOT 1 10",
    "CLUSTER HELP",
    "CLUSTER INFO",
    "CLUSTER KEYSLOT k",
    "CLUSTER LINKS",
    "CLUSTER MEET 127.0.0.1 7000",
    "CLUSTER MYID",
    "CLUSTER MYSHARDID",
    "CLUSTER NODES",
    "CLUSTER REPLICAS id",
    "CLUSTER REPLICATE id",
    "CLUSTER RESET",
    "CLUSTER SAVECONFIG",
    "CLUSTER SET-CONFIG-EPOCH 1",
    "CLUSTER SETSLOT 1 STABLE",
    "CLUSTER SHARDS",
    "CLUSTER SLAVES id",
    "CLUSTER SLOTS",
];

/// What exporters and dashboards look for.
const FIELDS: &[&str] = &[
    "redis_mode",
    "uptime_in_seconds",
    "blocked_clients",
    "maxclients",
    "tracking_clients",
    "pubsub_clients",
    "watching_clients",
    "clients_in_timeout_table",
    "total_watched_keys",
    "total_blocking_keys",
    "client_recent_max_input_buffer",
    "client_recent_max_output_buffer",
    "used_memory_rss",
    "used_memory_peak",
    "used_memory_lua",
    "used_memory_overhead",
    "used_memory_startup",
    "used_memory_dataset",
    "maxmemory",
    "maxmemory_policy",
    "allocator_allocated",
    "allocator_active",
    "allocator_resident",
    "allocator_frag_ratio",
    "allocator_rss_ratio",
    "mem_fragmentation_ratio",
    "mem_fragmentation_bytes",
    "mem_clients_normal",
    "mem_clients_slaves",
    "mem_aof_buffer",
    "mem_replication_backlog",
    "lazyfree_pending_objects",
    "lazyfreed_objects",
    "loading",
    "async_loading",
    "rdb_changes_since_last_save",
    "rdb_bgsave_in_progress",
    "rdb_last_save_time",
    "rdb_last_bgsave_status",
    "rdb_last_bgsave_time_sec",
    "rdb_saves",
    "rdb_last_load_keys_loaded",
    "aof_enabled",
    "aof_rewrite_in_progress",
    "aof_last_bgrewrite_status",
    "aof_last_write_status",
    "total_connections_received",
    "total_commands_processed",
    "instantaneous_ops_per_sec",
    "rejected_connections",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "expired_keys",
    "expired_subkeys",
    "expired_stale_perc",
    "evicted_keys",
    "evicted_clients",
    "pubsub_channels",
    "pubsub_patterns",
    "pubsubshard_channels",
    "unexpected_error_replies",
    "dump_payload_sanitizations",
    "client_query_buffer_limit_disconnections",
    "client_output_buffer_limit_disconnections",
    "acl_access_denied_auth",
    "eventloop_cycles",
    "role",
    "connected_slaves",
    "master_repl_offset",
    "repl_backlog_size",
    "used_cpu_sys",
    "used_cpu_user",
    "cluster_enabled",
    "db0",
];
