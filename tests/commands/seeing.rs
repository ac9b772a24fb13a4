//! What an operator sees: SHARDS, HOTKEYS, and the figures of INFO and CLIENT LIST that are easily untrue.
//! Deliberately absent: SLOWLOG, LATENCY and the port for metrics, which have files of their own.

use super::check;
use super::harness::{Client, Server, Value, until};

/// A map in either protocol.
fn pairs(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name.text(), value.clone())).collect(),
        flat => {
            let flat = flat.elements().expect("a map or a list");
            flat.chunks(2).map(|pair| (pair[0].text(), pair[1].clone())).collect()
        }
    }
}

fn field(value: &Value, name: &str) -> Value {
    let found = pairs(value).into_iter().find(|(field, _)| field == name);
    found.unwrap_or_else(|| panic!("no {name} in {value}")).1
}

fn int(value: &Value) -> i64 {
    let Value::Int(n) = value else { panic!("{value} is a number") };
    *n
}

fn info(client: &mut Client, section: &str, name: &str) -> String {
    let text = client.line(&format!("INFO {section}")).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn shards_tells_of_every_core_in_both_protocols() {
    check(&["SHARDS x"], "-ERR wrong number of arguments for 'shards' command");
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        for client in &mut [server.connect(), server.connect_resp3()] {
            client.line("FLUSHALL");
            (0..100).for_each(|n| drop(client.line(&format!("SET key{n} v EX 1000"))));
            let reply = client.line("SHARDS");
            let all = reply.elements().expect("a list");
            assert_eq!(all.len(), shards);
            let sum = |name: &str| all.iter().map(|shard| int(&field(shard, name))).sum::<i64>();
            assert_eq!((sum("slots"), sum("keys"), sum("expires")), (16384, 100, 100));
            assert!(sum("memory") > 0 && sum("clients") >= 1 && sum("commands") >= 100, "{reply}");
            assert_eq!(sum("hops-out") > 0, shards > 1, "{reply}");
            assert_eq!(sum("transactions"), 0, "{reply}");
            for (at, shard) in all.iter().enumerate() {
                assert_eq!(int(&field(shard, "shard")), at as i64);
                assert_eq!(field(shard, "state").text(), "serving");
                assert_eq!(
                    (field(shard, "snapshot").text(), field(shard, "log").text()),
                    ("idle".into(), "off".into())
                );
                let busy: f64 = field(shard, "busy-share")
                    .text()
                    .trim_start_matches(|c: char| !c.is_ascii_digit())
                    .parse()
                    .expect("a share");
                assert!((0.0..=1.0).contains(&busy), "{shard}");
            }
            let lines = client.line("INFO shards").text();
            assert_eq!(lines.lines().filter(|line| line.starts_with("shard")).count(), shards, "{lines}");
            assert!(lines.contains(",mailbox=") && lines.contains(",busy_share=") && lines.contains(",state=serving"));
        }
    }
}

#[test]
fn hotkeys_collects_time_and_bytes_as_in_redis() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        for client in &mut [server.connect(), server.connect_resp3()] {
            assert_eq!(client.line("HOTKEYS GET").bytes(), None);
            assert_eq!(client.line("HOTKEYS STOP").bytes(), None);
            assert_eq!(client.line("HOTKEYS RESET").text(), "OK");
            assert_eq!(client.line("HOTKEYS START METRICS 2 CPU NET COUNT 2").text(), "OK");
            let busy = "ERR hotkey tracking session already in progress";
            assert_eq!(client.line("HOTKEYS START METRICS 1 CPU").text(), busy);
            for n in 0..200 {
                client.line(&format!("SET hot {}", "x".repeat(100)));
                client.line("GET warm");
                client.line(&format!("GET cold{n}"));
            }
            client.line("MGET hot warm");
            let refused = "ERR hotkey tracking session in progress, stop tracking first";
            assert_eq!(client.line("HOTKEYS RESET").text(), refused);
            let reply = client.line("HOTKEYS GET");
            let [session] = reply.elements().expect("a list") else { panic!("one collection: {reply}") };
            assert_eq!(int(&field(session, "tracking-active")), 1);
            assert_eq!(int(&field(session, "sample-ratio")), 1);
            let slots = field(session, "selected-slots");
            assert_eq!(slots, Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(16383)])]));
            let by_bytes = field(session, "by-net-bytes");
            let by_bytes = by_bytes.elements().expect("keys and bytes");
            assert_eq!((by_bytes.len(), by_bytes[0].text(), by_bytes[2].text()), (4, "hot".into(), "warm".into()));
            // Each SET is 130 bytes and its reply 5.
            assert!(int(&by_bytes[1]) >= 200 * 135 && int(&by_bytes[1]) < 200 * 135 + 400, "{reply}");
            let total = int(&field(session, "net-bytes-all-commands-all-slots"));
            assert!(total > int(&by_bytes[1]) + int(&by_bytes[3]), "{reply}");
            assert_eq!(field(session, "by-cpu-time-us").elements().map(<[Value]>::len), Some(4));
            assert!(int(&field(session, "total-cpu-time-user-ms")) >= 0);
            assert_eq!(client.line("HOTKEYS STOP").text(), "OK");
            client.line("SET hot v");
            let stopped = client.line("HOTKEYS GET");
            let stopped = &stopped.elements().expect("a list")[0];
            assert_eq!(int(&field(stopped, "tracking-active")), 0);
            assert_eq!(int(&field(stopped, "net-bytes-all-commands-all-slots")), total);
            assert_eq!(client.line("HOTKEYS RESET").text(), "OK");
            assert_eq!(client.line("HOTKEYS GET").bytes(), None);
        }
    }
    check(&["HOTKEYS START"], "-ERR METRICS parameter is required");
    check(&["HOTKEYS START METRICS 1 CPU SLOTS 1 5"], "-ERR SLOTS parameter cannot be used in non-cluster mode");
    check(&["HOTKEYS NOPE"], "-ERR unknown subcommand 'NOPE'. Try HOTKEYS HELP.");
}

#[test]
fn hotkeys_list_needs_no_collection() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        let load = |client: &mut Client| {
            for round in 0..40 {
                let commands: String =
                    (0..500).map(|n| format!("GET hot\r\nGET cold{}\r\n", round * 500 + n)).collect();
                client.send_raw(commands.as_bytes());
                (0..1000).for_each(|_| drop(client.reply()));
            }
        };
        load(&mut client);
        // 40,000 commands of which about one in 512 was looked at, half of them of one key.
        let reply = client.line("HOTKEYS LIST COUNT 5");
        let list = reply.elements().expect("a list");
        let first = &list[0];
        assert_eq!(field(first, "key").text(), "hot", "{reply}");
        assert!(int(&field(first, "ops-per-sec")) > 0, "{reply}");
        assert_eq!(int(&field(first, "db")), 0);
        assert_eq!(int(&field(first, "slot")), 6093, "the slot of `hot`");
        assert!(int(&field(first, "shard")) < shards as i64);
        client.line("HOTKEYS LIST RESET");
        let empty = client.line("HOTKEYS LIST");
        assert!(empty.elements().expect("a list").iter().all(|key| field(key, "key").text() != "hot"), "{empty}");
    }
    check(&["HOTKEYS LIST COUNT 0"], "-ERR COUNT must be between 1 and 128");
    check(&["HOTKEYS LIST NOPE"], "-ERR syntax error");
}

#[test]
fn info_counts_who_waits_and_until_when() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        let mut waiting: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        waiting[0].send(&["BLPOP", "a", "b", "0"]);
        waiting[1].send(&["BLPOP", "a", "100"]);
        waiting[2].send(&["XREAD", "BLOCK", "100000", "STREAMS", "s", "$"]);
        assert_eq!(waiting[3].line("WATCH w x").text(), "OK");
        until("three wait", || info(&mut client, "clients", "blocked_clients") == "3");
        assert_eq!(info(&mut client, "clients", "clients_in_timeout_table"), "2");
        assert_eq!(info(&mut client, "clients", "total_blocking_keys"), "3");
        assert_eq!(info(&mut client, "clients", "watching_clients"), "1");
        assert_eq!(info(&mut client, "clients", "total_watched_keys"), "2");
        client.line("RPUSH a 1 2");
        until("two are served", || info(&mut client, "clients", "blocked_clients") == "1");
        assert_eq!(info(&mut client, "clients", "clients_in_timeout_table"), "1");
    }
}

#[test]
fn info_has_figures_of_sockets_loops_and_payloads() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        client.command(&["SET", "k", &"x".repeat(50_000)]);
        client.line("GET k");
        let figure = |client: &mut Client, section: &str, name: &str| -> f64 {
            info(client, section, name).parse().unwrap_or_else(|_| panic!("{name} is a number"))
        };
        assert!(figure(&mut client, "clients", "client_recent_max_input_buffer") >= 4_000.0);
        for (name, least) in [
            ("total_reads_processed", 3.0),
            ("total_writes_processed", 2.0),
            ("eventloop_cycles", 3.0),
            ("eventloop_duration_sum", 1.0),
            ("total_net_input_bytes", 50_000.0),
            ("total_net_output_bytes", 50_000.0),
        ] {
            let value = figure(&mut client, "stats", name);
            assert!(value >= least, "{shards} shards: {name} is {value}");
        }
        for name in [
            "expired_stale_perc",
            "expire_cycle_cpu_milliseconds",
            "unexpected_error_replies",
            "io_threaded_reads_processed",
            "io_threaded_writes_processed",
            "reply_buffer_shrinks",
            "reply_buffer_expands",
            "instantaneous_eventloop_cycles_per_sec",
            "instantaneous_eventloop_duration_usec",
            "client_query_buffer_limit_disconnections",
            "client_output_buffer_limit_disconnections",
        ] {
            figure(&mut client, "stats", name);
        }
        assert_eq!(info(&mut client, "stats", "dump_payload_sanitizations"), "0");
        client.line("RESTORE r 0 nonsense");
        assert_eq!(info(&mut client, "stats", "dump_payload_sanitizations"), "1");
        client.line("NOSUCH");
        assert_eq!(info(&mut client, "stats", "total_error_replies"), "2");
        assert_eq!(client.line("CONFIG RESETSTAT").text(), "OK");
        assert_eq!(info(&mut client, "stats", "total_error_replies"), "0");
        assert_eq!(info(&mut client, "stats", "dump_payload_sanitizations"), "0");
        let stats = client.line("INFO commandstats errorstats latencystats").text();
        assert!(!stats.contains("cmdstat_set:") && !stats.contains("errorstat_"), "{stats}");
        assert!(!stats.contains("usec_set:"), "{stats}");
        assert!(client.line("LATENCY HISTOGRAM set").elements().is_some_and(<[Value]>::is_empty));
    }
}

/// The fields of a line of CLIENT LIST.
fn fields(line: &str) -> Vec<(String, String)> {
    let field = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    line.split_ascii_whitespace().map(|word| field(word).unwrap_or_else(|| panic!("{word} is a field"))).collect()
}

fn line_of(client: &mut Client, name: &str) -> Vec<(String, String)> {
    let list = client.line("CLIENT LIST").text();
    let line = list.lines().find(|line| line.contains(&format!(" name={name} ")));
    fields(line.unwrap_or_else(|| panic!("{name} is in {list}")))
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    let found = fields.iter().find(|(field, _)| field == name);
    &found.unwrap_or_else(|| panic!("no {name} in {fields:?}")).1
}

#[test]
fn client_list_has_the_fields_of_redis_8_in_their_order() {
    const FIELDS: &str = "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem \
                          rbs rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver io-thread tot-net-in \
                          tot-net-out tot-cmds shard";
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        client.line("CLIENT SETNAME me");
        let names: Vec<String> = line_of(&mut client, "me").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.join(" "), FIELDS);
        let own = fields(&client.line("CLIENT INFO").text());
        assert_eq!(value(&own, "cmd"), "client|info");
        if let Some(oracle) = Server::redis(&[]) {
            // Every field of Redis 7.0 is there, in its order.
            let theirs = fields(&oracle.connect().line("CLIENT LIST").text());
            let mut ours = FIELDS.split_ascii_whitespace();
            assert!(theirs.iter().all(|(name, _)| ours.any(|field| field == name)), "{theirs:?}");
        }
    }
}

#[test]
fn client_list_tells_the_truth_about_buffers_and_traffic() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let (mut client, mut other) = (server.connect(), server.connect());
        other.line("CLIENT SETNAME other");
        let greeting = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$5\r\nother\r\n".len();
        let line = line_of(&mut client, "other");
        assert_eq!(value(&line, "tot-net-in"), greeting.to_string());
        assert_eq!((value(&line, "tot-net-out"), value(&line, "tot-cmds")), ("5", "1"));
        assert_eq!((value(&line, "flags"), value(&line, "events"), value(&line, "multi")), ("N", "r", "-1"));
        // A transaction holds memory, and half a command does.
        other.line("MULTI");
        other.line("SET k v");
        other.send_raw(b"*2\r\n$3\r\nGET\r\n$10000\r\nhalf a key");
        until("it has come", || value(&line_of(&mut client, "other"), "qbuf") != "0");
        let line = line_of(&mut client, "other");
        assert_eq!(
            (value(&line, "flags"), value(&line, "multi"), value(&line, "tot-cmds")),
            ("x", "1", "2"),
            "what is queued has not run"
        );
        let number = |name: &str| value(&line, name).parse::<usize>().expect("a number");
        assert!(number("multi-mem") > 0 && number("qbuf") >= 30, "{line:?}");
        assert!(number("tot-mem") > number("multi-mem") + number("qbuf") + number("qbuf-free"), "{line:?}");
        other.send_raw(&[&[b'x'; 9_990], &b"\r\n"[..]].concat());
        assert_eq!(other.reply().text(), "QUEUED");
        assert_eq!(other.line("EXEC").elements().map(<[Value]>::len), Some(2));
        let large = "y".repeat(3_000);
        other.command(&["SET", "large", &large]);
        assert_eq!(other.line("GET large").text(), large);
        let line = line_of(&mut client, "other");
        let peak: usize = value(&line, "rbp").parse().expect("a number");
        assert!(peak >= 3_000, "{line:?}");
        assert_eq!(value(&line, "multi-mem"), "0");
    }
}

#[test]
fn client_kill_and_list_are_refused_in_the_words_of_redis() {
    let lines = [
        "CLIENT KILL",
        "CLIENT KILL ID",
        "CLIENT KILL ID abc",
        "CLIENT KILL ID 0",
        "CLIENT KILL ID 999999",
        "CLIENT KILL 1 2 3",
        "CLIENT KILL a b",
        "CLIENT KILL TYPE nope",
        "CLIENT KILL TYPE master",
        "CLIENT KILL TYPE slave",
        "CLIENT KILL TYPE pubsub",
        "CLIENT KILL USER nobody",
        "CLIENT KILL SKIPME x",
        "CLIENT KILL SKIPME yes ID 999999",
        "CLIENT KILL ADDR 1.2.3.4:5",
        "CLIENT KILL LADDR 1.2.3.4:5",
        "CLIENT KILL ADDR 1.2.3.4:5 LADDR",
        "CLIENT KILL 1.2.3.4:5",
        "CLIENT LIST TYPE",
        "CLIENT LIST TYPE master",
        "CLIENT LIST TYPE nope",
        "CLIENT LIST ID",
        "CLIENT LIST ID x",
        "CLIENT LIST ID -1",
        "CLIENT LIST ID 999999",
        "CLIENT NO-EVICT x",
        "CLIENT NO-EVICT on",
        "CLIENT TRACKINGINFO",
        "CLIENT PAUSE x",
        "CLIENT PAUSE 0",
        "CLIENT UNPAUSE",
        "CLIENT UNPAUSE x",
        "CLIENT GETREDIR",
    ];
    let Some(oracle) = Server::redis(&[]) else { return };
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        for (mut ours, mut theirs) in
            [(server.connect(), oracle.connect()), (server.connect_resp3(), oracle.connect_resp3())]
        {
            for line in lines {
                assert_eq!(ours.line(line), theirs.line(line), "{shards} shards: {line}");
            }
        }
    }
}

#[test]
fn client_kill_takes_every_filter_over_all_shards() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        let mut others: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        let left = |client: &mut Client| client.line("CLIENT LIST").text().lines().count();
        others[0].line("SUBSCRIBE c");
        assert_eq!(client.line("CLIENT KILL TYPE pubsub"), Value::Int(1));
        assert!(others[0].is_closed());
        let address = |client: &mut Client, what: &str| {
            let own = fields(&client.line("CLIENT INFO").text());
            value(&own, what).to_owned()
        };
        let peer = address(&mut others[1], "addr");
        assert_eq!(client.line(&format!("CLIENT KILL {peer}")).text(), "OK");
        let peer = address(&mut others[2], "addr");
        assert_eq!(client.line(&format!("CLIENT KILL ADDR {peer}")), Value::Int(1));
        let Value::Int(id) = others[3].line("CLIENT ID") else { panic!("a number") };
        assert_eq!(client.line(&format!("CLIENT KILL ID {id} TYPE pubsub")), Value::Int(0), "all filters hold");
        assert_eq!(client.line(&format!("CLIENT KILL ID {id} USER default")), Value::Int(1));
        assert_eq!(client.line("CLIENT KILL MAXAGE 100000"), Value::Int(0));
        until("they are gone", || left(&mut client) == 5);
        let local = address(&mut client, "laddr");
        assert_eq!(client.line(&format!("CLIENT KILL LADDR {local} SKIPME no")), Value::Int(5));
        assert!(client.is_closed());
        assert_eq!(left(&mut server.connect()), 1);
    }
}
