//! Values on their way between us and redis-server 7.0 as payloads of DUMP: there, back, and damaged.
//!
//! Every type on both sides of each limit at which either server changes an encoding, made here and there; then every byte of such
//! payloads changed, with the checksum put right, to see that both servers refuse the same and that what both take has the same
//! content. Where we refuse what Redis takes, the reason has to be in [`STRICTER`]; the other way round is a fault.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::harness::{Client, Server, Value};
use annulus::base::rng::Rng;
use annulus::persist::dump::{PayloadError, restore, seal};
use annulus::persist::rdb::{DecodeError, Limits};

/// Low limits, so that short values cross them.
const LIMITS: [&str; 16] = [
    "--hash-max-listpack-entries",
    "6",
    "--hash-max-listpack-value",
    "12",
    "--zset-max-listpack-entries",
    "6",
    "--zset-max-listpack-value",
    "12",
    "--set-max-intset-entries",
    "6",
    "--list-max-listpack-size",
    "4",
    "--list-compress-depth",
    "1",
    "--stream-node-max-entries",
    "3",
];

/// The word `n` of many: numbers of all widths, short and long texts, some that compress and some that do not.
fn word(n: u64) -> String {
    match n % 9 {
        0 => n.to_string(),
        1 => format!("-{}", n * 40),
        2 => (n * 70_000).to_string(),
        3 => (i64::MAX - n as i64).to_string(),
        4 => format!("w{n}"),
        5 => format!("{n}.5"),
        6 => format!("00{n}"),
        7 => "abcd".repeat(20) + &n.to_string(),
        _ => format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    }
}

/// Commands that each make a value at `k`, with its name.
fn shapes(streams: bool) -> Vec<(String, Vec<Vec<String>>)> {
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for (at, text) in
        ["", "v", "0", "127", "-129", "65536", "2147483648", "9223372036854775807", "007", "1.5"].iter().enumerate()
    {
        all.push((format!("string {at}"), vec![argv(&["SET", "k", text])]));
    }
    for len in [20, 21, 44, 45, 63, 64, 16_383, 16_384, 70_000] {
        all.push((format!("string of {len}"), vec![argv(&["SET", "k", &"ab".repeat(len / 2 + 1)[..len]])]));
    }
    for count in [1, 2, 4, 5, 6, 7, 13, 40] {
        let many = |make: &dyn Fn(u64) -> Vec<String>| -> Vec<String> { (0..count).flat_map(make).collect() };
        let one = |command: &str, rest: Vec<String>| vec![[argv(&[command, "k"]), rest].concat()];
        all.push((format!("list of {count}"), one("RPUSH", many(&|n| vec![word(n)]))));
        all.push((format!("list of {count} like ones"), one("RPUSH", many(&|_| vec!["same ".repeat(9)]))));
        all.push((format!("numbers of {count}"), one("SADD", many(&|n| vec![(n * n * 3000).to_string()]))));
        all.push((format!("wide numbers of {count}"), one("SADD", many(&|n| vec![(i64::MIN + n as i64).to_string()]))));
        all.push((format!("set of {count}"), one("SADD", many(&|n| vec![word(n)]))));
        all.push((format!("hash of {count}"), one("HSET", many(&|n| vec![format!("f{n}"), n.to_string()]))));
        all.push((format!("long hash of {count}"), one("HSET", many(&|n| vec![word(n), word(n + 7)]))));
        all.push((
            format!("sorted set of {count}"),
            one("ZADD", many(&|n| vec![(n as i64 - 3).to_string(), format!("m{n}")])),
        ));
        let scores = ["0.1", "-inf", "+inf", "1e300", "-0", "5e-324", "3", "1234567890123.5"];
        let scored = many(&|n| vec![scores[n as usize % scores.len()].to_owned(), word(n)]);
        all.push((format!("long sorted set of {count}"), one("ZADD", scored)));
        if streams {
            let mut commands: Vec<Vec<String>> = (0..count)
                .map(|n| {
                    [
                        argv(&["XADD", "k", &format!("{}-{}", 5 + n / 2, 1 + n % 2), "name", &word(n), "other"]),
                        vec![word(n + 1)],
                    ]
                    .concat()
                })
                .collect();
            commands.push(argv(&["XADD", "k", "100-1", "third", "x"]));
            all.push((format!("stream of {count}"), commands.clone()));
            commands.push(argv(&["XDEL", "k", "5-1"]));
            commands.push(argv(&["XGROUP", "CREATE", "k", "g", "0"]));
            commands.push(argv(&["XGROUP", "CREATE", "k", "idle", "$"]));
            commands.push(argv(&["XREADGROUP", "GROUP", "g", "alice", "COUNT", "2", "STREAMS", "k", ">"]));
            commands.push(argv(&["XREADGROUP", "GROUP", "g", "bob", "COUNT", "1", "STREAMS", "k", ">"]));
            all.push((format!("stream of {count} with groups"), commands));
        }
    }
    for (at, commands) in [
        vec![argv(&["RPUSH", "k", &"x".repeat(9000), "y", &"z".repeat(70_000)])],
        vec![argv(&["ZADD", "k", "1", &"x".repeat(300)])],
        vec![argv(&["HSET", "k", &"f".repeat(300), &"v".repeat(5000)])],
        vec![argv(&["PFADD", "k", "a", "b", "c"])],
        vec![argv(&["SETBIT", "k", "1000", "1"])],
    ]
    .into_iter()
    .enumerate()
    {
        all.push((format!("special {at}"), commands));
    }
    all
}

/// Payloads that redis-server made, of all types.
pub fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let lines = include_str!("../fuzz/restore_samples.txt").lines().filter(|line| !line.starts_with('#'));
        let hex = lines.map(|line| line.split_once(' ').expect("a name and bytes").1);
        hex.map(|hex| {
            let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).expect("hexadecimal") as u8).collect();
            digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        })
        .collect()
    })
}

fn dump(client: &mut Client, key: &str) -> Vec<u8> {
    match client.command(&["DUMP", key]) {
        Value::Bulk(payload) => payload,
        other => panic!("DUMP replies with a payload, not {other}"),
    }
}

fn restore_as(client: &mut Client, key: &str, payload: &[u8]) -> String {
    client.command(&[&b"RESTORE"[..], key.as_bytes(), b"0", payload, b"REPLACE"]).text()
}

/// What is at a key, in a form that does not depend on the server's order and number format.
fn content(client: &mut Client, key: &str) -> String {
    let kind = client.command(&["TYPE", key]).text();
    let flat = |reply: Value| -> Vec<Vec<u8>> {
        let elements = reply.elements().unwrap_or_default().iter();
        elements.map(|element| element.bytes().expect("strings in a row").to_vec()).collect()
    };
    let shown = match kind.as_str() {
        "string" => vec![client.command(&["GET", key]).bytes().expect("a string").to_vec()],
        "list" => flat(client.command(&["LRANGE", key, "0", "-1"])),
        "set" => {
            let mut members = flat(client.command(&["SMEMBERS", key]));
            members.sort();
            members
        }
        "hash" => {
            let fields = flat(client.command(&["HGETALL", key]));
            let pairs: BTreeMap<_, _> = fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            pairs.into_iter().flat_map(|(field, value)| [field, value]).collect()
        }
        "zset" => {
            let mut rows = flat(client.command(&["ZRANGE", key, "0", "-1", "WITHSCORES"]));
            for score in rows.iter_mut().skip(1).step_by(2) {
                let number: f64 =
                    std::str::from_utf8(score).expect("a score is text").parse().expect("a score is a number");
                // Zero has a sign that no order sees.
                *score = format!("{:?}", number + 0.0).into_bytes();
            }
            rows
        }
        "stream" => {
            let full = client.command(&["XINFO", "STREAM", key, "FULL", "COUNT", "0"]).to_string();
            // How full the tree is, is each server's own affair; when a consumer was seen is not: it travels.
            let from = full.find("\"last-generated-id\"").expect("a field of XINFO");
            // When a consumer was active is told since 7.2.
            let mut pieces = full[from..].split("\"active-time\"");
            let first = pieces.next().unwrap_or_default().to_owned();
            return pieces.fold(format!("stream {first}"), |shown, piece| {
                shown + piece.find("\"pel-count\"").map_or("", |at| &piece[at..])
            });
        }
        other => panic!("nothing is known of {other}"),
    };
    format!("{kind} {}", shown.iter().map(|text| format!("{} ", text.escape_ascii())).collect::<String>())
}

fn make(client: &mut Client, commands: &[Vec<String>]) {
    client.command(&["DEL", "k"]);
    for argv in commands {
        let reply = client.command(argv);
        assert!(!matches!(reply, Value::Error(_)), "{argv:?} gave {reply}");
    }
}

#[test]
fn values_travel_in_both_directions_and_back() {
    let Some(redis) = Server::redis(&LIMITS) else { return };
    let annulus = Server::annulus(1, &LIMITS);
    let (mut theirs, mut ours) = (redis.connect(), annulus.connect());
    ours.command(&["CONFIG", "SET", "set-max-listpack-entries", "6", "set-max-listpack-value", "12"]);
    let we_have_streams = !matches!(ours.line("XLEN none"), Value::Error(_));
    for compressed in ["yes", "no"] {
        for client in [&mut theirs, &mut ours] {
            client.command(&["CONFIG", "SET", "rdbcompression", compressed]);
        }
        for (name, commands) in shapes(true) {
            let is_stream = name.starts_with("stream");
            make(&mut theirs, &commands);
            let expected = content(&mut theirs, "k");
            assert_eq!(restore_as(&mut ours, "k", &dump(&mut theirs, "k")), "OK", "{name} from Redis to us");
            if we_have_streams || !is_stream {
                assert_eq!(content(&mut ours, "k"), expected, "{name} from Redis to us");
            }
            assert_eq!(restore_as(&mut theirs, "back", &dump(&mut ours, "k")), "OK", "{name} back to Redis");
            assert_eq!(content(&mut theirs, "back"), expected, "{name} back to Redis");
            if !we_have_streams && is_stream {
                continue;
            }
            make(&mut ours, &commands);
            let expected = content(&mut ours, "k");
            assert_eq!(restore_as(&mut theirs, "k", &dump(&mut ours, "k")), "OK", "{name} from us to Redis");
            assert_eq!(content(&mut theirs, "k"), expected, "{name} from us to Redis");
            assert_eq!(restore_as(&mut ours, "back", &dump(&mut theirs, "k")), "OK", "{name} back to us");
            assert_eq!(content(&mut ours, "back"), expected, "{name} back to us");
        }
    }
}

#[test]
fn refusals_have_the_words_and_the_order_of_redis() {
    let Some(redis) = Server::redis(&[]) else { return };
    let annulus = Server::annulus(2, &[]);
    let (mut theirs, mut ours) = (redis.connect(), annulus.connect());
    let mut good = b"\0\x01v".to_vec();
    seal(&mut good, 6);
    let mut later = b"\0\x01v".to_vec();
    seal(&mut later, 999);
    let mut bad = b"\x0b\x01v".to_vec();
    seal(&mut bad, 6);
    let mut wrong_sum = good.clone();
    wrong_sum[4] ^= 1;
    let payloads = [&good[..], &later, &bad, &wrong_sum, b"", b"short"];
    let options: [&[&str]; 22] = [
        &[],
        &["REPLACE"],
        &["replace", "ABSTTL"],
        &["IDLETIME", "5"],
        &["IDLETIME", "-1"],
        &["IDLETIME", "x"],
        &["IDLETIME"],
        &["FREQ", "5"],
        &["FREQ", "-1"],
        &["FREQ", "256"],
        &["FREQ", "x"],
        &["FREQ"],
        &["IDLETIME", "5", "FREQ", "5"],
        &["FREQ", "5", "IDLETIME", "5"],
        &["IDLETIME", "0", "IDLETIME", "1", "REPLACE"],
        &["IDLETIME", "9223372036854775807", "REPLACE"],
        &["nonsense"],
        &["REPLACE", "nonsense"],
        &["IDLETIME", "-1", "nonsense"],
        &["nonsense", "IDLETIME", "-1"],
        &["ABSTTL", "REPLACE"],
        &["ABSTTL"],
    ];
    for ttl in ["0", "100000", "1", "-1", "x", "9999999999999", "9223372036854775808"] {
        for key in ["there", "absent"] {
            for payload in payloads {
                for options in options {
                    // They differ in what a cluster lets them do, which does not matter here.
                    let command = if options.len() % 2 == 0 { "RESTORE" } else { "RESTORE-ASKING" };
                    let mut argv: Vec<&[u8]> = vec![command.as_bytes(), key.as_bytes(), ttl.as_bytes(), payload];
                    argv.extend(options.iter().map(|option| option.as_bytes()));
                    for client in [&mut theirs, &mut ours] {
                        client.line("SET there x");
                        client.line("DEL absent");
                    }
                    let (their, our) = (theirs.command(&argv), ours.command(&argv));
                    assert_eq!(our, their, "{command} {key} {ttl} {} {options:?}", payload.escape_ascii());
                    if ttl != "1" {
                        assert_eq!(
                            ours.command(&["GET", key]),
                            theirs.command(&["GET", key]),
                            "{key} after {options:?}"
                        );
                    }
                }
            }
        }
    }
}

/// Why we refuse what Redis takes.
const STRICTER: &[(DecodeError, &str)] = &[
    (DecodeError::Truncated, "Redis reads on into the version and the checksum"),
    (DecodeError::Trailing, "Redis does not look at what is left"),
    (DecodeError::Corrupt("a string stands where a length should"), "Redis takes the number of the encoding"),
    (
        DecodeError::Corrupt("a length has an unknown form"),
        "Redis does not check the names that streams and groups remember",
    ),
    (DecodeError::Corrupt("a compressed string is damaged"), "Redis does not look at the stream of an empty string"),
    (DecodeError::Corrupt("a listpack is damaged"), "Redis does not count the items of a stream's blocks"),
    (DecodeError::Corrupt("a score is no number"), "Redis takes as much of the text as is a number"),
    (
        DecodeError::Corrupt("a stream contradicts itself"),
        "Redis does not check counters, the order of entries, and owners",
    ),
];

#[test]
fn damaged_payloads_are_refused_where_redis_refuses_them() {
    let sanitized: Vec<&str> = LIMITS.into_iter().chain(["--sanitize-dump-payload", "yes"]).collect();
    let Some(mut redis) = Server::redis(&sanitized) else { return };
    let annulus = Server::annulus(1, &LIMITS);
    let (mut theirs, mut ours) = (redis.connect(), annulus.connect());
    let we_have_streams = !matches!(ours.line("XLEN none"), Value::Error(_));
    let limits = Limits::of(&annulus::config::Config::default());
    let seed = u64::from(std::process::id());
    let mut rng = Rng::seed(seed);
    let (mut refused, mut taken, mut stricter, mut crashed) = (0, 0, BTreeMap::<String, (u32, String)>::new(), 0);
    for (name, commands) in shapes(true) {
        // Damage to long values is damage to their strings; some of each length are enough.
        if commands.iter().flatten().map(String::len).sum::<usize>() > 1500 {
            continue;
        }
        let is_stream = name.starts_with("stream");
        make(&mut theirs, &commands);
        let their_payload = dump(&mut theirs, "k");
        assert_eq!(restore_as(&mut ours, "k", &their_payload), "OK", "{name}");
        for (from, payload) in [("Redis", &their_payload), ("us", &dump(&mut ours, "k"))] {
            let body = &payload[..payload.len() - 10];
            for _ in 0..60.min(body.len() * 2) {
                let at = rng.below(body.len() as u64) as usize;
                let mut damaged = body.to_vec();
                match rng.below(8) {
                    0 => damaged[at] = *rng.pick(&[0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xfe, 0xff]),
                    1 => drop(damaged.remove(at)),
                    2 => damaged.insert(at, rng.below(256) as u8),
                    3 => damaged[at] = damaged[at].wrapping_add(1),
                    4 => damaged[at] = damaged[at].wrapping_sub(1),
                    _ => damaged[at] ^= 1 << rng.below(8),
                }
                // Types that redis-server 7.0 does not know yet.
                if damaged[0] > 19 {
                    continue;
                }
                seal(&mut damaged, 10);
                let what = format!(
                    "{name} from {from}, {} became {}; seed {seed}",
                    body.escape_ascii(),
                    damaged.escape_ascii()
                );
                let our = restore_as(&mut ours, "k", &damaged);
                assert!(our == "OK" || our == "ERR Bad data format", "{our}: {what}");
                theirs.send(&[&b"RESTORE"[..], b"k", b"0", &damaged, b"REPLACE"]);
                let their = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| theirs.reply().text()));
                let Ok(their) = their else {
                    // Redis did not survive it.
                    crashed += 1;
                    redis.kill();
                    redis.restart();
                    theirs = redis.connect();
                    continue;
                };
                match (our.as_str(), their.as_str()) {
                    ("OK", "OK") => {
                        taken += 1;
                        if is_stream && we_have_streams {
                            // Counters that are damaged are taken over there, and put right here.
                            assert_eq!(ours.line("XRANGE k - +"), theirs.line("XRANGE k - +"), "{what}");
                        } else if !is_stream {
                            let (our, their) = (content(&mut ours, "k"), content(&mut theirs, "k"));
                            // Redis takes a sorted set over in whatever order it came.
                            let sorted = |text: &str| {
                                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                                words.sort();
                                words
                            };
                            let equal = our == their || our.starts_with("zset") && sorted(&our) == sorted(&their);
                            assert!(equal, "{our} is not {their}; {what}");
                        }
                    }
                    ("OK", _) => panic!("we took what Redis refuses with {their}: {what}"),
                    (_, "OK") => {
                        let reason = match restore(&damaged, &limits) {
                            Err(PayloadError::Value(reason)) => reason,
                            other => panic!("{other:?} is no reason: {what}"),
                        };
                        let known = STRICTER.iter().any(|(known, _)| *known == reason);
                        let entry = stricter.entry(format!("{reason:?}")).or_default();
                        entry.0 += 1;
                        if !known {
                            entry.1 = what;
                        }
                    }
                    _ => refused += 1,
                }
            }
        }
    }
    println!("both refused {refused}, both took {taken}, we alone refused {stricter:?}, Redis crashed {crashed} times");
    assert!(
        stricter.values().all(|(_, unknown)| unknown.is_empty()),
        "we refuse for reasons that are not listed: {stricter:#?}"
    );
    assert!(refused > 100 && taken > 100);
}
