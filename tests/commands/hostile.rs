//! Commands that mean no good. Tests named `cve_…`, or after another server's report, are published faults of servers of this
//! family, by number; what concerns bytes and connections rather than commands is in `tests/clients/hostile.py`.

use annulus::base::rng::Rng;
use annulus::commands::table::table;

use super::check;
use super::harness::{Server, Value};

/// Integers where implementations break.
const EDGES: [i64; 11] = [
    0,
    1,
    -1,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 32,
    (1 << 53) + 1,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
];

/// Runs `test` on servers of our own, at 1 and at 4 shards.
fn on_own_servers(test: impl Fn(&Server)) {
    for shards in [1, 4] {
        test(&Server::annulus(shards, &[]));
    }
}

#[test]
fn cve_2022_35977_setrange_beyond_the_longest_string_is_refused() {
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    for offset in [536_870_911, 1 << 32, i64::MAX - 1, i64::MAX] {
        check(&[&format!("SETRANGE k {offset} xx")], too_long);
        check(&["SET k v", &format!("SETRANGE k {offset} xx"), "GET k"], "v");
    }
    check(&["SETRANGE k -1 x"], "-ERR offset is out of range");
    check(&[&format!("SETRANGE k {} x", i64::MIN)], "-ERR offset is out of range");
    check(&[&format!("SETRANGE k {} \"\"", i64::MAX)], "0");
}

#[test]
fn cve_2022_35977_every_integer_argument_takes_the_edges_of_its_range() {
    on_own_servers(|server| {
        let mut client = server.connect();
        for edge in EDGES {
            for other in EDGES {
                client.line("SET k hello");
                let range = client.line(&format!("GETRANGE k {edge} {other}")).text();
                assert!("hello".contains(&range), "GETRANGE k {edge} {other} gave {range}");
                client.line(&format!("SET n {edge}"));
                let sum = client.line(&format!("INCRBY n {other}"));
                let overflow = || Value::Error(b"ERR increment or decrement would overflow".to_vec());
                assert_eq!(sum, edge.checked_add(other).map_or_else(overflow, Value::Int), "{edge} + {other}");
                client.line(&format!("SCAN {} COUNT {other}", edge as u64));
                for condition in ["NX", "XX", "GT", "LT"] {
                    client.line(&format!("EXPIRE k {edge} {condition}"));
                }
                client.line(&format!("SET k v PX {edge} KEEPTTL"));
            }
            for line in [
                "EXPIRE k",
                "PEXPIRE k",
                "EXPIREAT k",
                "PEXPIREAT k",
                "SELECT",
                "DECRBY n",
                "SET k v EX",
                "GETEX k PXAT",
            ] {
                client.line(&format!("{line} {edge}"));
                client.line("SELECT 0");
            }
            client.line(&format!("PSETEX k {edge} v"));
            client.line(&format!("LCS k n IDX MINMATCHLEN {edge}"));
            client.line(&format!("MEMORY USAGE k SAMPLES {edge}"));
            client.line(&format!("CLIENT LIST ID {edge}"));
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}

#[test]
fn dragonfly_4466_any_cursor_of_scan_is_a_place_or_behind_the_end() {
    on_own_servers(|server| {
        let mut client = server.connect();
        for n in 0..100 {
            client.line(&format!("SET key:{n} v"));
        }
        let mut rng = Rng::seed(4466);
        let edges = (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, !(1 << bit)]);
        for cursor in edges.chain((0..200).map(|_| rng.next_u64())) {
            let reply = client.line(&format!("SCAN {cursor} COUNT 10"));
            let Value::Array(parts) = &reply else { panic!("SCAN {cursor} gave {reply}") };
            assert!(parts[0].text().parse::<u64>().unwrap() < 1 << 53, "SCAN {cursor} gave {reply}");
        }
        assert_eq!(client.line("SCAN 18446744073709551616").text(), "ERR invalid cursor");
    });
}

#[test]
fn cve_2023_41056_the_largest_bulk_length_allowed_asks_for_no_memory() {
    on_own_servers(|server| {
        let mut client = server.connect();
        assert_eq!(client.line(&format!("CONFIG SET proto-max-bulk-len {}", i64::MAX)).text(), "OK");
        for length in [i64::MAX, i64::MAX - 1, i64::MAX - 3, 1 << 40, i32::MAX.into()] {
            let mut announcer = server.connect();
            announcer.send_raw(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${length}\r\nabc").as_bytes());
            assert_eq!(client.line("PING").text(), "PONG", "{length} bytes were announced");
        }
        assert_eq!(client.line("EXISTS k"), Value::Int(0));
        for offset in [i64::MAX, i64::MAX - 1] {
            let refused = client.line(&format!("SETRANGE k {offset} x")).text();
            assert!(refused.starts_with("ERR "), "SETRANGE k {offset} gave {refused}");
        }
    });
}

#[test]
fn cve_2025_67733_an_error_is_one_line_whatever_it_quotes() {
    on_own_servers(|server| {
        let mut client = server.connect();
        let evil = "x\r\n+OK\r\n$-1\r\n:1";
        for command in [
            vec![evil],
            vec!["nosuch", evil],
            vec!["CLIENT", evil],
            vec!["CONFIG", "SET", evil, "1"],
            vec!["CONFIG", "SET", "hz", evil],
            vec!["HELLO", "2", evil],
            vec!["CLIENT", "SETINFO", evil, "x"],
            vec!["CLIENT", "KILL", "USER", evil],
            vec!["CLIENT", "LIST", "TYPE", evil],
            vec!["OBJECT", evil, "k"],
            vec!["INCRBY", "k", evil],
            vec!["SET", "k", "v", evil],
        ] {
            let reply = client.command_bytes(&command);
            assert_eq!(reply[0], b'-', "{command:?} gave {}", reply.escape_ascii());
            assert_eq!(client.command(&["ECHO", "next"]).text(), "next", "{command:?} left bytes behind");
        }
    });
}

#[test]
fn cve_2023_36824_getkeys_takes_any_arguments_for_any_command() {
    on_own_servers(|server| {
        let mut client = server.connect();
        let mut rng = Rng::seed(36_824);
        let words =
            ["k", "1", "0", "-1", "9223372036854775807", "2147483647", "", "GET", "STORE", "KEYS", "USAGE", "HELP"];
        for command in table().all() {
            for round in 0..30 {
                let mut argv = vec!["COMMAND", if round % 2 == 0 { "GETKEYS" } else { "GETKEYSANDFLAGS" }];
                argv.extend(command.full_name.split('|'));
                argv.extend((0..rng.next_u64() % 12).map(|_| words[rng.next_u64() as usize % words.len()]));
                let arguments: Vec<Value> =
                    argv[3..].iter().map(|word| Value::Bulk(word.as_bytes().to_vec())).collect();
                match client.command(&argv) {
                    Value::Error(_) => {}
                    Value::Array(keys) => {
                        for key in keys {
                            let name = key.elements().map_or_else(|| key.clone(), |pair| pair[0].clone());
                            assert!(arguments.contains(&name), "{argv:?} found a key {name}");
                        }
                    }
                    other => panic!("{argv:?} gave {other}"),
                }
            }
        }
    });
}

#[test]
fn cve_2022_36021_a_pattern_of_many_stars_ends() {
    on_own_servers(|server| {
        let mut client = server.connect();
        client.command(&["SET", &"a".repeat(10_000), "v"]);
        let stars = format!("{}b", "a*".repeat(50_000));
        let brackets = "[".repeat(100_000);
        let begun = std::time::Instant::now();
        for pattern in [stars.as_str(), &brackets] {
            assert_eq!(client.command(&["KEYS", pattern]), Value::Array(Vec::new()));
            let scanned = client.command(&["SCAN", "0", "MATCH", pattern, "COUNT", "100"]);
            assert_eq!(scanned.elements().unwrap()[1], Value::Array(Vec::new()));
            client.command(&["CONFIG", "GET", pattern]);
            client.command(&["COMMAND", "LIST", "FILTERBY", "PATTERN", pattern]);
        }
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    });
}

#[test]
fn cve_2023_28425_msetnx_with_a_key_twice_sets_the_last() {
    check(&["MSETNX k 1 k 2", "GET k"], "2");
    check(&["MSETNX k 1 k 2", "MSETNX k 3 other 4", "MGET k other"], "[2, (nil)]");
}

#[test]
fn cve_2025_32023_a_crafted_sparse_hyperloglog_is_refused() {
    on_own_servers(|server| {
        let mut client = server.connect();
        let header = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80";
        let mut crafted: Vec<Vec<u8>> = vec![
            Vec::new(),
            vec![0x40],
            b"\x7f\xff\x7f\xff".to_vec(),
            // Runs whose sum wraps a 32-bit number around to a negative one, as in the report.
            b"\x7f\xff".repeat(131_072),
            [b"\x7f\xff".repeat(131_071), b"\x80".to_vec()].concat(),
            b"\xff".repeat(5000),
        ];
        let mut rng = Rng::seed(32_023);
        crafted.extend((0..200).map(|_| (0..rng.below(60)).map(|_| rng.next_u64() as u8).collect()));
        for runs in crafted {
            let string = [&header[..], &runs].concat();
            assert_eq!(client.command(&[b"SET".as_slice(), b"k", &string]).text(), "OK");
            client.line("PFADD other x");
            for command in ["PFCOUNT k", "PFCOUNT k other", "PFMERGE other k", "PFMERGE k other", "PFDEBUG TODENSE k"] {
                let reply = client.line(command);
                assert_eq!(reply.text(), "INVALIDOBJ Corrupted HLL object detected", "{command} of {runs:?}");
            }
            for element in 0..50 {
                client.line(&format!("PFADD k {element}"));
            }
        }
        assert_eq!(client.line("PFCOUNT other"), Value::Int(1));
    });
}

#[test]
fn cve_2022_35977_bits_and_fields_take_the_edges_of_their_range() {
    on_own_servers(|server| {
        let mut client = server.connect();
        for edge in EDGES {
            for other in EDGES {
                client.line("SET k hello");
                client.line("HSET h a 1 b 2");
                for line in [
                    format!("BITCOUNT k {edge} {other}"),
                    format!("BITCOUNT k {edge} {other} BIT"),
                    format!("BITPOS k 1 {edge} {other} BIT"),
                    format!("BITPOS k 0 {edge} {other}"),
                    format!("BITFIELD_RO k GET u63 {edge} GET i64 #{other}"),
                    format!("BITFIELD k OVERFLOW SAT SET i64 0 {edge} INCRBY i64 0 {other} INCRBY u63 9 {other}"),
                    format!("BITFIELD k OVERFLOW FAIL SET u1 0 {edge} INCRBY i1 3 {other}"),
                    format!("HINCRBY h a {edge}"),
                    format!("HPEXPIRE h {edge} LT FIELDS 1 b"),
                    format!("HEXPIREAT h {edge} GT FIELDS 1 b"),
                    format!("HSETEX h PX {edge} FIELDS 1 c {other}"),
                    format!("HGETEX h EX {edge} FIELDS {other} c"),
                    format!("HSCAN h {} COUNT {other}", edge as u64),
                ] {
                    client.line(&line);
                }
            }
            client.line(&format!("GETBIT k {edge}"));
            client.line(&format!("SETBIT k {edge} 2"));
            client.line(&format!("HTTL h FIELDS {edge} a"));
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}

#[test]
fn cve_2023_25155_any_number_of_random_fields_may_be_asked_for() {
    on_own_servers(|server| {
        let mut client = server.connect();
        client.line("HSET h a 1 b 2 c 3");
        for edge in EDGES.into_iter().filter(|edge| *edge >= -1) {
            for values in ["", "WITHVALUES"] {
                client.line(&format!("HRANDFIELD h {edge} {values}"));
            }
        }
        // As many as this are sent one by one; nobody reads them, and nobody else waits.
        for count in [i64::from(i32::MIN), -i64::MAX, i64::MIN, i64::MIN / 2] {
            for values in ["", " WITHVALUES"] {
                let mut asking = server.connect();
                asking.send_raw(format!("HRANDFIELD h {count}{values}\r\n").as_bytes());
                assert_eq!(client.line("HLEN h"), Value::Int(3), "while {count} fields are sent");
            }
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}

#[test]
fn cve_2023_28856_a_field_never_becomes_infinite_or_no_number() {
    for increment in ["nan", "inf", "-inf", "+inf", "1e5000"] {
        let expected = match increment {
            "nan" | "1e5000" => "-ERR value is not a valid float",
            _ => "-ERR value is NaN or Infinity",
        };
        check(&["HSET h a 1", &format!("HINCRBYFLOAT h a {increment}")], expected);
    }
    check(&["HSET h a inf", "HINCRBYFLOAT h a 1"], "-ERR increment would produce NaN or Infinity");
    check(&["HSET h a inf", "HINCRBYFLOAT h a 1", "HGET h a"], "inf");
    check(&["HSET h a nan", "HINCRBYFLOAT h a 1"], "-ERR hash value is not a float");
    check(&["HINCRBYFLOAT h a inf", "EXISTS h"], "0");
}

#[test]
fn cve_2022_35977_sort_takes_any_limit() {
    on_own_servers(|server| {
        let mut client = server.connect();
        client.line("RPUSH l 3 1 2");
        client.line("SADD s 3 1 2");
        client.line("ZADD z 3 3 1 1 2 2");
        for offset in EDGES {
            for count in EDGES {
                let skipped = usize::try_from(offset.max(0)).expect("not negative").min(3);
                let left = usize::try_from(count).map_or(3 - skipped, |count| count.min(3 - skipped));
                for line in
                    ["SORT l", "SORT s DESC", "SORT z", "SORT l BY nosort", "SORT z BY nosort DESC", "SORT_RO s BY w_*"]
                {
                    let reply = client.line(&format!("{line} LIMIT {offset} {count}"));
                    assert_eq!(
                        reply.elements().map(<[Value]>::len),
                        Some(left),
                        "{line} LIMIT {offset} {count} gave {reply}"
                    );
                }
                let stored = client.line(&format!("SORT l LIMIT {offset} {count} GET # GET # STORE d"));
                assert_eq!(stored, Value::Int(2 * left as i64), "LIMIT {offset} {count}");
            }
        }
    });
}

#[test]
fn cve_2023_22458_any_number_of_random_members_may_be_asked_for() {
    on_own_servers(|server| {
        let mut client = server.connect();
        client.line("SADD s a b c");
        client.line("ZADD z 1 a 2 b 3 c");
        for edge in EDGES.into_iter().filter(|edge| *edge >= -1) {
            for line in ["SRANDMEMBER s", "ZRANDMEMBER z"] {
                let reply = client.line(&format!("{line} {edge}"));
                let len = reply.elements().map(<[Value]>::len);
                assert_eq!(len, Some(edge.unsigned_abs().min(3) as usize), "{line} {edge} gave {reply}");
            }
            client.line(&format!("ZRANDMEMBER z {edge} WITHSCORES"));
        }
        for (line, error) in [
            (
                "SRANDMEMBER s -9223372036854775808",
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
            (
                "ZRANDMEMBER z -9223372036854775808",
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
            ("ZRANDMEMBER z -4611686018427387905 WITHSCORES", "ERR value is out of range"),
            ("ZRANDMEMBER z 4611686018427387905 WITHSCORES", "ERR value is out of range"),
        ] {
            assert_eq!(client.line(line).text(), error, "{line}");
        }
        // As many as this are sent one by one; nobody reads them, and nobody else waits.
        for count in [i64::from(i32::MIN), -i64::MAX, i64::MIN / 2] {
            for command in ["SRANDMEMBER s", "ZRANDMEMBER z"] {
                let mut asking = server.connect();
                asking.send_raw(format!("{command} {count}\r\n").as_bytes());
                assert_eq!(client.line("SCARD s"), Value::Int(3), "while {count} members are sent");
            }
        }
    });
}

#[test]
fn cve_2023_41053_the_keys_that_are_named_are_the_keys_that_are_used() {
    for (command, keys) in [
        ("SORT_RO a BY w_* GET v_*", "[a]"),
        ("SORT a BY STORE GET STORE STORE b", "[a, b]"),
        ("SORT a LIMIT 0 1 STORE b STORE c", "[a, c]"),
        ("GEORADIUS a 1 1 1 km STORE b", "[a, b]"),
        ("GEORADIUSBYMEMBER a m 1 km STOREDIST b", "[a, b]"),
        ("GEORADIUS_RO a 1 1 1 km", "[a]"),
    ] {
        check(&[&format!("COMMAND GETKEYS {command}")], keys);
    }
    // What was not named as the destination stays as it was, and SORT_RO has none.
    check(&["RPUSH a 1", "SET b v", "SORT a STORE b STORE c", "GET b"], "v");
    check(&["RPUSH a 1", "SORT_RO a STORE b", "EXISTS b"], "0");
    check(&["RPUSH a 1", "SORT a BY STORE GET STORE STORE b", "EXISTS b STORE"], "1");
}

#[test]
fn redis_15478_a_word_that_is_an_argument_is_no_option() {
    check(&["RPUSH l 1", "SORT l BY LIMIT GET ALPHA", "LLEN l"], "1");
    check(&["RPUSH l 1", "SORT l BY LIMIT GET ALPHA"], "[(nil)]");
    check(&["RPUSH l 1", "SORT l BY STORE STORE DESC", "LRANGE DESC 0 -1"], "[1]");
    check(&["COMMAND GETKEYS SORT l BY STORE STORE DESC"], "[l, DESC]");
    check(&["RPUSH l 1", "SORT l LIMIT STORE d"], "-ERR value is not an integer or out of range");
}

#[test]
fn cve_2024_31228_a_long_pattern_does_not_nest() {
    on_own_servers(|server| {
        let mut client = server.connect();
        client.command(&["SET", &"a".repeat(100_000), "v"]);
        client.command(&["SADD", "s", &"a".repeat(100_000), "b"]);
        client.command(&["HSET", "h", &"a".repeat(100_000), "b"]);
        client.command(&["ZADD", "z", "1", &"a".repeat(100_000)]);
        for pattern in ["*".repeat(1_000_000), "*?".repeat(500_000), "\\*".repeat(500_000), "a[a-".repeat(250_000)] {
            for line in [
                ["KEYS", ""].as_slice(),
                &["SCAN", "0", "MATCH"],
                &["SSCAN", "s", "0", "MATCH"],
                &["HSCAN", "h", "0", "MATCH"],
                &["ZSCAN", "z", "0", "MATCH"],
            ] {
                let mut argv: Vec<&str> = line.iter().copied().filter(|word| !word.is_empty()).collect();
                argv.push(&pattern);
                let reply = client.command(&argv);
                assert!(reply.elements().is_some(), "{:?} gave {reply}", &argv[..argv.len() - 1]);
            }
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}

#[test]
fn cve_2021_32687_small_encodings_take_any_limit() {
    for (directive, commands, expected) in [
        ("set-max-intset-entries", ["SADD", "s", "", "SCARD"], 3000),
        ("set-max-listpack-entries", ["SADD", "s", "m", "SCARD"], 3000),
        ("hash-max-listpack-entries", ["HSET", "h", "m", "HLEN"], 3000),
        ("zset-max-listpack-entries", ["ZADD", "z", "", "ZCARD"], 3000),
        ("list-max-listpack-size", ["RPUSH", "l", "m", "LLEN"], 3000),
    ] {
        on_own_servers(|server| {
            let mut client = server.connect();
            for limit in [4_294_967_295, i64::from(i32::MAX), i64::MAX] {
                client.line(&format!("CONFIG SET {directive} {limit}"));
            }
            let [add, key, letter, count] = commands;
            let pair = if matches!(add, "HSET" | "ZADD") { 2 } else { 1 };
            for chunk in 0..6 {
                let words = (0..500).map(|n| match pair {
                    2 => format!("{} {letter}{}", chunk * 500 + n, chunk * 500 + n),
                    _ => format!("{letter}{}", chunk * 500 + n),
                });
                client.line(&format!("{add} {key} {}", words.collect::<Vec<_>>().join(" ")));
            }
            assert_eq!(client.line(&format!("{count} {key}")), Value::Int(expected), "{directive}");
            client.line(&format!("CONFIG SET {directive} 0"));
            client.line(&format!("{add} {key} {}", if add == "HSET" { "x 1" } else { ["1 x", "x"][2 - pair] }));
            assert_eq!(client.line(&format!("{count} {key}")), Value::Int(expected + 1), "{directive}");
        });
    }
}
