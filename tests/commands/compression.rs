//! COMPRESS and UNCOMPRESS, and strings that are compressed by themselves, by what a client sees: which are packed, that nothing else
//! differs, what becomes of them when they are written to, dumped, saved and loaded.

use super::check;
use super::harness::{Client, Server, Value, until};
use annulus::base::rng::Rng;

/// A text that packs well.
fn phrase(len: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(len).collect()
}

fn encoding(client: &mut Client, key: &str) -> String {
    client.line(&format!("OBJECT ENCODING {key}")).text()
}

fn integer(client: &mut Client, line: &str) -> Option<i64> {
    match client.line(line) {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.line("INFO memory").text();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO has {field}")).trim().parse().expect("a number")
}

#[test]
fn compress_counts_the_strings_that_it_has_made_smaller() {
    let text = "a".repeat(1000);
    let set = format!("SET k {text}");
    check(&[&set, "COMPRESS k"], "1");
    check(&[&set, "COMPRESS k", "COMPRESS k"], "0");
    check(&[&set, &format!("SET l {text}"), "COMPRESS k l none k"], "2");
    check(&["SET k short", "SET n 12345", "RPUSH list a", "COMPRESS k n list none"], "0");
    check(&[&set, "UNCOMPRESS k"], "0");
    check(&[&set, "COMPRESS k", "UNCOMPRESS k none"], "1");
    check(&["COMPRESS"], "-ERR wrong number of arguments for 'compress' command");
    check(&["UNCOMPRESS"], "-ERR wrong number of arguments for 'uncompress' command");
}

#[test]
fn a_compressed_string_shows_what_it_saves() {
    let mut server = Server::annulus(2, &[]);
    let mut client = server.connect();
    client.command(&[&b"SET"[..], b"k", &phrase(100_000)]);
    let before = integer(&mut client, "MEMORY USAGE k").expect("a number");
    assert_eq!(encoding(&mut client, "k"), "raw");
    assert_eq!(client.line("COMPRESS k"), Value::Int(1));
    let after = integer(&mut client, "MEMORY USAGE k").expect("a number");
    assert!(after * 10 < before, "{before} {after}");
    assert_eq!(encoding(&mut client, "k"), "lz4");
    assert_eq!(info(&mut client, "compressed_strings"), 1);
    assert_eq!(info(&mut client, "compressed_strings_plain_bytes"), 100_000);
    assert!(info(&mut client, "compressed_strings_bytes") < 10_000);
    client.line("APPEND k !");
    assert_eq!(encoding(&mut client, "k"), "raw");
    assert_eq!(info(&mut client, "compressed_strings"), 0);
    server.stop();
}

#[test]
fn compress_is_no_change_to_those_who_watch_or_count() {
    let mut server = Server::annulus(1, &[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.command(&[&b"SET"[..], b"k", &phrase(1000)]);
    client.line("WATCH k");
    assert_eq!(other.line("COMPRESS k"), Value::Int(1));
    client.line("MULTI");
    client.line("STRLEN k");
    client.line("UNCOMPRESS k");
    assert_eq!(client.line("EXEC").to_string(), "[(integer) 1000, (integer) 1]");
    server.stop();
}

/// One random command on strings, over few keys.
fn random_command(rng: &mut Rng) -> Vec<Vec<u8>> {
    let key = format!("k{}", rng.below(6));
    let text = |rng: &mut Rng| {
        let len = [0, 5, 63, 64, 200, 3000, 5000, 70_000, 200_000][rng.below(9) as usize];
        if rng.below(5) == 0 { (0..len).map(|_| rng.next_u64() as u8).collect() } else { phrase(len) }
    };
    let number = |rng: &mut Rng| [0, 1, -1, 30, 70_000, 131_072, -5000, 300_000][rng.below(8) as usize].to_string();
    let offset = |rng: &mut Rng| [0, 1, 8, 4097, 65_536, 100_000][rng.below(6) as usize].to_string();
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let with = |mut argv: Vec<Vec<u8>>, text: Vec<u8>| {
        argv.push(text);
        argv
    };
    match rng.below(24) {
        0..=3 => with(words(&["SET", &key]), text(rng)),
        4 => with(words(&["APPEND", &key]), text(rng)),
        5 => with(words(&["SETRANGE", &key, &offset(rng)]), b"patched".to_vec()),
        6 => words(&["GETRANGE", &key, &number(rng), &number(rng)]),
        7 => words(&["STRLEN", &key]),
        8 => words(&["SETBIT", &key, &offset(rng), "1"]),
        9 => words(&["GETBIT", &key, &offset(rng)]),
        10 => words(&["BITCOUNT", &key, &number(rng), &number(rng)]),
        11 => words(&["BITPOS", &key, "1"]),
        12 => words(&["GETDEL", &key]),
        13 => words(&["MGET", &key, "k0", "k5"]),
        14 => words(&["COPY", &key, "k1", "REPLACE"]),
        15 => words(&["RENAME", &key, "k2"]),
        16 => words(&["DUMP", &key]),
        17 => words(&["BITOP", "XOR", "k3", &key, "k4"]),
        18 => words(&["INCR", &key]),
        19 => words(&["GETEX", &key, "PERSIST"]),
        20 => words(&["PFCOUNT", &key]),
        21 => words(&["LCS", &key, "k0", "LEN"]),
        22 => words(&["LPUSH", &key, "a"]),
        _ => words(&["GET", &key]),
    }
}

#[test]
fn no_reply_tells_whether_strings_are_compressed() {
    for shards in [1, 3] {
        let seed = std::env::var("ANNULUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0xc0ffee);
        println!("ANNULUS_SEED={seed}");
        let mut rng = Rng::seed(seed);
        let by_itself = ["--compress-values-larger-than", "64", "--compress-cpu-percent", "100"];
        let mut servers =
            [Server::annulus(shards, &[]), Server::annulus(shards, &[]), Server::annulus(shards, &by_itself)];
        let [mut plain, mut packed, mut own] = servers.each_ref().map(Server::connect);
        let mut there = 0;
        for step in 0..3000 {
            if rng.below(3) == 0 {
                packed.line("COMPRESS k0 k1 k2 k3 k4 k5");
            }
            if step % 100 == 0 {
                let mut count = 0;
                for key in 0..6 {
                    count += u32::from(encoding(&mut packed, &format!("k{key}")) == "lz4");
                }
                there += count;
            }
            let argv = random_command(&mut rng);
            // What takes the square of the lengths takes too long over the longest.
            let long = |len: Option<i64>| len.is_none_or(|len| len > 5000);
            let strlen = |key: &[u8]| format!("STRLEN {}", String::from_utf8_lossy(key));
            if argv[0] == b"LCS" && argv[1..3].iter().any(|key| long(integer(&mut plain, &strlen(key)))) {
                continue;
            }
            let wanted = plain.command(&argv);
            for (name, client) in [("COMPRESS", &mut packed), ("by itself", &mut own)] {
                let got = client.command(&argv);
                assert!(got == wanted, "{shards} shards, step {step}, {name}: {:?}", String::from_utf8_lossy(&argv[0]));
            }
        }
        assert!(there > 30, "strings were compressed: {there}");
        for server in &mut servers {
            server.stop();
        }
    }
}

#[test]
fn long_strings_are_compressed_by_themselves_and_short_ones_left() {
    let mut server = Server::annulus(2, &["--compress-values-larger-than", "1kb"]);
    let mut client = server.connect();
    for number in 0..50 {
        client.command(&[b"SET", format!("long:{number}").as_bytes(), &phrase(2000)]);
        client.command(&[b"SET", format!("short:{number}").as_bytes(), &phrase(1024)]);
    }
    until("50 strings are compressed", || info(&mut client, "compressed_strings") == 50);
    assert_eq!(encoding(&mut client, "short:7"), "raw");
    // An idle server looks again when something was written.
    client.command(&[&b"SET"[..], b"another", &phrase(200_000)]);
    until("so is the next", || info(&mut client, "compressed_strings") == 51);
    server.stop();
}

#[test]
fn cold_strings_are_compressed_by_themselves_and_those_in_use_are_not() {
    let mut server = Server::annulus(1, &["--compress-cold-after", "2"]);
    let mut client = server.connect();
    client.command(&[&b"SET"[..], b"cold", &phrase(2000)]);
    client.command(&[&b"SET"[..], b"warm", &phrase(2000)]);
    until("the cold string is compressed", || {
        client.line("GET warm");
        info(&mut client, "compressed_strings") == 1
    });
    assert_eq!(encoding(&mut client, "cold"), "lz4");
    assert_eq!(encoding(&mut client, "warm"), "raw");
    server.stop();
}

#[test]
fn a_compressed_string_is_compressed_again_after_a_restart_and_plain_to_a_redis() {
    let mut server = Server::annulus(2, &[]);
    let mut client = server.connect();
    for key in ["a", "b", "c"] {
        client.command(&[b"SET", key.as_bytes(), &phrase(30_000)]);
    }
    assert_eq!(client.line("COMPRESS a b"), Value::Int(2));
    let payload = client.line("DUMP a");
    assert_eq!(client.line("SAVE MERGED").text(), "OK");
    if let Some(mut redis) = Server::redis(&[]) {
        redis.stop();
        std::fs::copy(server.dir().join("dump.rdb"), redis.dir().join("dump.rdb")).expect("the file is there");
        redis.restart();
        let mut other = redis.connect();
        assert_eq!(other.line("GET a"), Value::Bulk(phrase(30_000)));
        assert_eq!(other.line("DBSIZE"), Value::Int(3));
        redis.stop();
    }
    assert_eq!(client.line("SAVE").text(), "OK");
    server.stop();
    server.restart();
    let mut client = server.connect();
    assert_eq!(["a", "b", "c"].map(|key| encoding(&mut client, key)), ["lz4", "lz4", "raw"]);
    assert_eq!(client.line("GET a"), Value::Bulk(phrase(30_000)));
    assert_eq!(client.line("DUMP a"), payload);
    server.stop();
}
