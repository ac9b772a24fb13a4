//! DUMP and RESTORE, by what a client sees: values that travel, times to live, and what is refused in which order. What the bytes are
//! and which forms of older servers are read, tests beside a real redis-server and in `tests/fuzz` hold.

use super::check;
use super::harness::{Client, Server, Value};
use annulus::persist::dump::seal;

/// Runs `test` with a connection to servers of our own, at 1 and at 4 shards.
fn on_servers(directives: &[&str], test: impl Fn(&mut Client)) {
    for shards in [1, 4] {
        test(&mut Server::annulus(shards, directives).connect());
    }
}

fn dump(client: &mut Client, key: &str) -> Vec<u8> {
    match client.command(&["DUMP", key]) {
        Value::Bulk(payload) => payload,
        other => panic!("DUMP {key} gave {other}"),
    }
}

/// RESTORE with options; the reply as text.
fn restore(client: &mut Client, key: &str, ttl: &str, payload: &[u8], options: &str) -> String {
    let mut argv = vec![&b"RESTORE"[..], key.as_bytes(), ttl.as_bytes(), payload];
    argv.extend(options.split_whitespace().map(str::as_bytes));
    client.command(&argv).text()
}

/// A payload of these bytes.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut payload = body.to_vec();
    seal(&mut payload, 9);
    payload
}

#[test]
fn dump_of_a_key_that_is_not_there_is_nil() {
    check(&["DUMP none"], "(nil)");
    check(&["SET k v", "PEXPIRE k -1", "DUMP k"], "(nil)");
    check(&["DUMP"], "-ERR wrong number of arguments for 'dump' command");
    check(&["DUMP a b"], "-ERR wrong number of arguments for 'dump' command");
}

#[test]
fn a_payload_ends_in_the_lowest_version_that_holds_it() {
    on_servers(&[], |client| {
        for (line, version) in [
            ("SET k v", 6),
            ("RPUSH k a b", 6),
            ("SADD k 1 2", 6),
            ("SADD k a b", 6),
            ("HSET k f v", 6),
            ("ZADD k 1 a", 8),
        ] {
            client.line("DEL k");
            client.line(line);
            let payload = dump(client, "k");
            assert_eq!(payload[payload.len() - 10..][..2], [version, 0], "{line}");
        }
        client.line("DEL k");
        client.line("HSET k f v g w");
        client.line("HEXPIRE k 1000 FIELDS 1 f");
        let payload = dump(client, "k");
        assert_eq!(payload[payload.len() - 10..][..2], [12, 0]);
    });
}

#[test]
fn values_come_back_on_both_sides_of_every_limit() {
    let limits =
        ["--hash-max-listpack-entries", "4", "--zset-max-listpack-entries", "4", "--set-max-intset-entries", "4"];
    let more = ["--set-max-listpack-entries", "4", "--list-max-listpack-size", "4", "--list-compress-depth", "1"];
    on_servers(&[limits, more].concat(), |client| {
        for count in [1, 4, 5, 30] {
            let many = |make: &dyn Fn(usize) -> String| (0..count).map(make).collect::<Vec<_>>().join(" ");
            let rows = [
                (format!("RPUSH k {}", many(&|n| format!("element{n}"))), "LRANGE k 0 -1"),
                (format!("SADD k {}", many(&|n| n.to_string())), "SMEMBERS k"),
                (format!("SADD k {}", many(&|n| format!("m{n}"))), "SMEMBERS k"),
                (format!("HSET k {}", many(&|n| format!("f{n} v{n}"))), "HGETALL k"),
                (format!("ZADD k {}", many(&|n| format!("{n}.25 m{n}"))), "ZRANGE k 0 -1 WITHSCORES"),
                (format!("SET k {}", "x".repeat(count * 3000)), "GET k"),
                (format!("SET k {count}"), "GET k"),
            ];
            for (line, read) in rows {
                client.line("DEL k");
                client.line(&line);
                let payload = dump(client, "k");
                let sorted = |client: &mut Client| {
                    let reply = client.line(read);
                    let mut words: Vec<String> = reply
                        .elements()
                        .map_or_else(|| vec![reply.text()], |all| all.iter().map(Value::text).collect());
                    if !read.contains('0') {
                        words.sort();
                    }
                    (words, client.line("OBJECT ENCODING k").text(), client.line("TYPE k").text())
                };
                let before = sorted(client);
                assert_eq!(restore(client, "k", "0", &payload, "REPLACE"), "OK", "{line}");
                assert_eq!(sorted(client), before, "{line}");
                assert_eq!(client.line("TTL k"), Value::Int(-1));
            }
        }
    });
}

#[test]
fn a_name_that_is_taken_is_kept_unless_it_shall_be_replaced() {
    on_servers(&[], |client| {
        client.line("RPUSH list a b");
        let payload = dump(client, "list");
        client.line("SET k v");
        client.line("EXPIRE k 1000");
        assert_eq!(
            client.command(&[&b"RESTORE"[..], b"k", b"0", &payload]),
            Value::Error(b"BUSYKEY Target key name already exists.".to_vec())
        );
        assert_eq!(client.line("GET k").text(), "v");
        assert_eq!(restore(client, "k", "0", &payload, "replace"), "OK");
        assert_eq!(client.line("LRANGE k 0 -1").to_string(), r#"["a", "b"]"#);
        assert_eq!(client.line("TTL k"), Value::Int(-1));
        assert_eq!(client.command(&[&b"RESTORE-ASKING"[..], b"new", b"0", &payload]).text(), "OK");
        assert_eq!(client.line("LLEN new"), Value::Int(2));
    });
}

#[test]
fn a_time_to_live_counts_from_now_or_is_a_point_in_time() {
    on_servers(&[], |client| {
        let payload = sealed(b"\0\x01v");
        assert_eq!(restore(client, "k", "100000", &payload, ""), "OK");
        assert!(matches!(client.line("TTL k"), Value::Int(1..=100)));
        assert_eq!(restore(client, "k", "4102444800123", &payload, "ABSTTL REPLACE"), "OK");
        assert_eq!(client.line("PEXPIRETIME k"), Value::Int(4_102_444_800_123));
        // It died on the way. What it was to replace goes, too.
        assert_eq!(restore(client, "k", "1000", &payload, "ABSTTL REPLACE"), "OK");
        assert_eq!(client.line("EXISTS k"), Value::Int(0));
        assert_eq!(restore(client, "k", "1000", &payload, "ABSTTL"), "OK");
        assert_eq!(client.line("EXISTS k"), Value::Int(0));
        assert_eq!(restore(client, "k", "0", &payload, "ABSTTL"), "OK");
        assert_eq!(client.line("TTL k"), Value::Int(-1));
        assert_eq!(restore(client, "k", &i64::MAX.to_string(), &payload, "REPLACE"), "OK");
        assert_eq!(client.line("GET k").text(), "v");
    });
}

#[test]
fn idle_time_and_frequency_come_with_a_value() {
    on_servers(&[], |client| {
        let payload = sealed(b"\0\x01v");
        assert_eq!(restore(client, "k", "0", &payload, "IDLETIME 1000"), "OK");
        assert!(matches!(client.line("OBJECT IDLETIME k"), Value::Int(1000..=1100)));
        assert_eq!(restore(client, "k", "0", &payload, "REPLACE"), "OK");
        assert!(matches!(client.line("OBJECT IDLETIME k"), Value::Int(0..=100)));
        // Under the other policy each is taken and means nothing.
        assert_eq!(restore(client, "k", "0", &payload, "REPLACE FREQ 200"), "OK");
        client.line("CONFIG SET maxmemory-policy allkeys-lfu");
        assert_eq!(restore(client, "k", "0", &payload, "REPLACE FREQ 200"), "OK");
        assert_eq!(client.line("OBJECT FREQ k"), Value::Int(200));
        assert_eq!(restore(client, "k", "0", &payload, "REPLACE IDLETIME 1000"), "OK");
        assert_eq!(client.line("OBJECT FREQ k"), Value::Int(5));
    });
}

#[test]
fn arguments_are_refused_in_the_order_of_redis() {
    on_servers(&[], |client| {
        let payload = sealed(b"\0\x01v");
        let bad = sealed(b"\x01\x05\x01v");
        client.line("SET taken x");
        for (key, ttl, payload, options, error) in [
            ("k", "x", &b""[..], "NONSENSE", "ERR syntax error"),
            ("k", "x", b"", "IDLETIME -1", "ERR Invalid IDLETIME value, must be >= 0"),
            ("k", "x", b"", "IDLETIME x", "ERR value is not an integer or out of range"),
            ("k", "x", b"", "FREQ 256", "ERR Invalid FREQ value, must be >= 0 and <= 255"),
            ("k", "x", b"", "FREQ 1 IDLETIME 1", "ERR syntax error"),
            ("k", "x", b"", "IDLETIME", "ERR syntax error"),
            ("taken", "x", b"", "", "BUSYKEY Target key name already exists."),
            ("k", "x", b"", "", "ERR value is not an integer or out of range"),
            ("k", "-1", b"", "", "ERR Invalid TTL value, must be >= 0"),
            ("k", "0", b"", "", "ERR DUMP payload version or checksum are wrong"),
            ("k", "0", &payload[..payload.len() - 1], "", "ERR DUMP payload version or checksum are wrong"),
            ("taken", "0", &bad, "REPLACE", "ERR Bad data format"),
        ] {
            assert_eq!(restore(client, key, ttl, payload, options), error);
        }
        assert_eq!(client.line("GET taken").text(), "x", "what was refused has changed nothing");
        assert_eq!(client.line("EXISTS k"), Value::Int(0));
    });
}

#[test]
fn fields_keep_their_deadlines_and_those_that_have_expired_stay_behind() {
    on_servers(&["--enable-debug-command", "yes"], |client| {
        client.line("DEBUG SET-ACTIVE-EXPIRE 0");
        client.line("HSET k f 1 g 2 h 3");
        client.line("HPEXPIREAT k 4102444800123 FIELDS 1 f");
        client.line("HPEXPIREAT k 4102444900123 FIELDS 1 g");
        let payload = dump(client, "k");
        assert_eq!(restore(client, "copy", "0", &payload, ""), "OK");
        let times = client.line("HPEXPIRETIME copy FIELDS 3 f g h").to_string();
        assert_eq!(times, "[(integer) 4102444800123, (integer) 4102444900123, (integer) -1]");
        assert_eq!(client.line("OBJECT ENCODING copy").text(), "listpackex");
        // One that was there when the payload was made and is due when it is read.
        let due = [&b"\x16\x02\x01\x01f\x01v\x00\x01g\x01w"[..]].concat();
        assert_eq!(restore(client, "k", "0", &sealed(&due), "REPLACE"), "OK");
        assert_eq!(client.line("HGET k f"), Value::Nil);
        assert_eq!(client.line("HGET k g").text(), "w");
        let payload = dump(client, "k");
        assert_eq!(restore(client, "k", "0", &payload, "REPLACE"), "OK");
        assert_eq!(client.line("HLEN k"), Value::Int(1));
        assert_eq!(client.line("OBJECT ENCODING k").text(), "listpack");
    });
}

#[test]
fn a_list_that_is_restored_serves_who_waits_for_it() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let (mut waiter, mut client) = (server.connect(), server.connect());
        client.line("RPUSH source a b");
        let payload = dump(&mut client, "source");
        waiter.send(&["BLPOP", "k", "10"]);
        while client.line("INFO clients").text().contains("blocked_clients:0") {}
        assert_eq!(restore(&mut client, "k", "0", &payload, ""), "OK");
        assert_eq!(waiter.reply().to_string(), r#"["k", "a"]"#);
        assert_eq!(client.line("LLEN k"), Value::Int(1));
    }
}

#[test]
fn modules_and_what_no_type_is_are_refused() {
    on_servers(&[], |client| {
        for type_byte in 0..=255u8 {
            let reply = restore(client, "k", "0", &sealed(&[type_byte, 0x81]), "");
            assert_eq!(reply, "ERR Bad data format", "type {type_byte}");
        }
        // No value is without elements.
        for body in [&b"\x01\0"[..], b"\x02\0", b"\x03\0", b"\x04\0", b"\x05\0", b"\x0e\0", b"\x12\0", b"\x16\0"] {
            assert_eq!(restore(client, "k", "0", &sealed(body), ""), "ERR Bad data format", "{body:?}");
        }
    });
}

#[test]
fn inner_nodes_of_a_list_are_compressed_as_far_as_configured() {
    on_servers(&["--list-max-listpack-size", "-1"], |client| {
        let fill = |client: &mut Client, key: &str| {
            let elements: Vec<String> = (0..2000).map(|n| format!("a rather regular element {n}")).collect();
            client.line(&format!(
                "RPUSH {key} {}",
                elements.iter().map(|e| e.replace(' ', "_")).collect::<Vec<_>>().join(" ")
            ));
            match client.line(&format!("MEMORY USAGE {key}")) {
                Value::Int(bytes) => bytes,
                other => panic!("MEMORY USAGE gave {other}"),
            }
        };
        let plain = fill(client, "plain");
        client.line("CONFIG SET list-compress-depth 1");
        let compressed = fill(client, "compressed");
        assert!(compressed * 2 < plain, "{compressed} of {plain}");
        assert_eq!(client.line("CONFIG GET list-compress-depth").to_string(), r#"["list-compress-depth", "1"]"#);
        for line in ["LRANGE x 0 -1", "LINDEX x 1000", "LPOS x a_rather_regular_element_1500", "LRANGE x 500 700"] {
            let reply = client.line(&line.replace('x', "compressed"));
            assert_eq!(reply, client.line(&line.replace('x', "plain")), "{line}");
        }
        for line in
            ["LSET x 1000 y", "LINSERT x BEFORE y z", "LREM x 1 z", "LTRIM x 100 1800", "LPOP x 300", "RPOP x 300"]
        {
            let reply = client.line(&line.replacen('x', "compressed", 1));
            assert_eq!(reply, client.line(&line.replacen('x', "plain", 1)), "{line}");
        }
        assert_eq!(client.line("LRANGE compressed 0 -1"), client.line("LRANGE plain 0 -1"));
    });
}
