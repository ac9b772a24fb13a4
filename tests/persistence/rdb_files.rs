//! RDB files between us and redis-server 7.0: those that it saves are read here, those that are written here it loads, with equal
//! contents.
//!
//! The keys are of every type on both sides of each limit at which an encoding changes, in several databases, with and without times to
//! live and with what eviction needs to know.

use std::collections::BTreeMap;
use std::fs;

use super::harness::{Client, Server};
use super::values::content_of;
use super::{Contents, Name, by_commands, integer, limits, load_into, read_rdb, redis_tool};
use annulus::base::DbIndex;
use annulus::base::time::Millis;
use annulus::keyspace::Value;
use annulus::persist::dump::restore;
use annulus::persist::rdb::file::{Used, Version};
use annulus::persist::rdb::file_reader::Checksum;
use annulus::persist::rdb::file_writer::{self, BodyWriter, KeyFacts, Origin};
use annulus::persist::rdb::{Decoded, Sum};

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

const LIBRARY: &str = "#!lua name=shelf\nredis.register_function('book', function() return 1 end)";

/// Databases that have keys.
const DBS: [u16; 3] = [0, 3, 15];

/// 2100, when nobody runs this.
const LATER: i64 = 4_102_444_800_000;

/// The word `n` of many: numbers of all widths, short and long texts, some that compress and some that do not.
fn word(n: u64) -> String {
    match n % 8 {
        0 => n.to_string(),
        1 => format!("-{}", n * 40),
        2 => (n * 70_000).to_string(),
        3 => (i64::MAX - n as i64).to_string(),
        4 => format!("w{n}"),
        5 => format!("00{n}"),
        6 => "abcd".repeat(20) + &n.to_string(),
        _ => format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    }
}

/// Fills the selected database.
fn populate(client: &mut Client, db: u16) {
    let mut run = |words: Vec<String>| {
        let reply = client.command(&words);
        assert!(!reply.text().contains("ERR"), "{words:?} gave {reply}");
    };
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    run(argv(&["SELECT", &db.to_string()]));
    for (n, text) in ["", "v", "0", "-129", "65536", "2147483648", "9223372036854775807", "007"].iter().enumerate() {
        run(argv(&["SET", &format!("text {n}"), text]));
    }
    for len in [20, 21, 44, 45, 63, 64, 16_383, 16_384, 300_000] {
        run(argv(&["SET", &format!("text of {len}"), &"abc".repeat(len / 3 + 1)[..len]]));
    }
    run(argv(&["SET", "12345", "a key that is a number"]));
    run(argv(&["SET", &"long key ".repeat(9), "a key that can be compressed"]));
    for count in [1u64, 4, 5, 6, 7, 40] {
        let many = |make: &dyn Fn(u64) -> Vec<String>| -> Vec<String> { (0..count).flat_map(make).collect() };
        let mut one = |command: &str, kind: &str, rest: Vec<String>| {
            run([argv(&[command, &format!("{kind} of {count}")]), rest].concat());
        };
        one("RPUSH", "list", many(&|n| vec![word(n)]));
        one("RPUSH", "like elements", many(&|_| vec!["same ".repeat(9)]));
        one("SADD", "numbers", many(&|n| vec![(n * n * 3000).to_string()]));
        one("SADD", "wide numbers", many(&|n| vec![(i64::MIN + n as i64).to_string()]));
        one("SADD", "set", many(&|n| vec![word(n)]));
        one("HSET", "hash", many(&|n| vec![format!("f{n}"), n.to_string()]));
        one("HSET", "long hash", many(&|n| vec![word(n), word(n + 7)]));
        one("ZADD", "sorted set", many(&|n| vec![(n as i64 - 3).to_string(), format!("m{n}")]));
        let scores = ["0.1", "-inf", "+inf", "1e300", "-0", "5e-324", "3", "1234567890123.5"];
        one("ZADD", "long sorted set", many(&|n| vec![scores[n as usize % scores.len()].to_owned(), word(n)]));
        let stream = format!("stream of {count}");
        for n in 0..count {
            run(argv(&["XADD", &stream, &format!("{}-{n}", n / 3 + 1), "f", &word(n), "g", "v"]));
        }
        for group in ["g", "h"] {
            run(argv(&["XGROUP", "CREATE", &stream, group, "0"]));
        }
        run(argv(&["XREADGROUP", "GROUP", "g", "alice", "COUNT", "3", "STREAMS", &stream, ">"]));
        run(argv(&["XGROUP", "CREATECONSUMER", &stream, "g", "bob"]));
        run(argv(&["XDEL", &stream, "1-0"]));
        run(argv(&["PFADD", &format!("cardinality of {count}"), &word(count)]));
    }
    run(argv(&["PEXPIREAT", "text 1", &LATER.to_string()]));
    run(argv(&["PEXPIREAT", "list of 7", &(LATER + 1).to_string()]));
    run(argv(&["PEXPIREAT", "stream of 5", &(LATER + i64::from(u32::MAX)).to_string()]));
}

/// The payload of DUMP and the time to live of every key.
fn dumped(client: &mut Client) -> BTreeMap<Name, (Vec<u8>, Option<i64>)> {
    let mut all = BTreeMap::new();
    for db in 0..16u16 {
        client.line(&format!("SELECT {db}"));
        let keys = client.command(&["KEYS", "*"]);
        for key in keys.elements().expect("an array").iter().map(|key| key.bytes().expect("a key").to_vec()) {
            let payload = client.command(&[&b"DUMP"[..], &key]).bytes().expect("a payload").to_vec();
            let expires = integer(&client.command(&[&b"PEXPIRETIME"[..], &key]));
            all.insert((db, key), (payload, Some(expires).filter(|due| *due >= 0)));
        }
    }
    all
}

/// What commands show of every key.
fn shown(client: &mut Client, names: impl IntoIterator<Item = Name>) -> BTreeMap<Name, super::values::Content> {
    let mut all = BTreeMap::new();
    for (db, key) in names {
        client.line(&format!("SELECT {db}"));
        let content = by_commands(client, &key);
        all.insert((db, key), content);
    }
    all
}

/// Compares a file with the server that saved it.
fn compare(contents: &Contents, client: &mut Client) {
    let dumped = dumped(client);
    assert!(contents.keys.keys().eq(dumped.keys()), "the same keys in the same databases");
    let shown = shown(client, dumped.keys().cloned());
    for (name, found) in &contents.keys {
        let what = format!("{} of database {}", name.1.escape_ascii(), name.0);
        let (payload, expires) = &dumped[name];
        assert_eq!(found.expires, *expires, "{what}");
        let content = content_of(&found.value);
        let dumped = restore(payload, &limits()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert!(content == content_of(&dumped), "{what} is as in its payload");
        if content.0 != "stream" {
            assert!(content == shown[name], "{what} is as commands show it");
        }
    }
}

#[test]
fn what_redis_saves_is_read_with_equal_contents() {
    for (compression, checksum) in [("yes", "yes"), ("no", "yes"), ("yes", "no"), ("no", "no")] {
        let settings = ["--rdbcompression", compression, "--rdbchecksum", checksum];
        let Some(server) = Server::redis(&[&LIMITS[..], &settings].concat()) else { return };
        let mut client = server.connect();
        DBS.iter().for_each(|db| populate(&mut client, *db));
        assert_eq!(client.command(&["FUNCTION", "LOAD", LIBRARY]).text(), "shelf");
        assert_eq!(client.line("SAVE").text(), "OK");
        let file = fs::read(server.dir().join("dump.rdb")).expect("it was saved");
        for piece in [file.len(), 1 << 16, 1000, 7] {
            let contents = read_rdb(&file, piece).unwrap_or_else(|damage| panic!("in pieces of {piece}: {damage}"));
            assert_eq!(contents.version, Version::Redis(10));
            assert_eq!(contents.functions, [LIBRARY.as_bytes()]);
            assert!(contents.aux.iter().any(|(name, value)| name == "redis-ver" && value.starts_with("7.")));
            assert_eq!(contents.checksum, if checksum == "yes" { Checksum::Right } else { Checksum::Absent });
            assert_eq!(contents.end, file.len() as u64);
            assert_eq!(contents.keys.len(), DBS.len() * 85, "all that was made");
            if piece == file.len() {
                compare(&contents, &mut client);
            }
        }
    }
}

#[test]
fn how_keys_were_used_is_read_under_the_policies_that_say_it() {
    for (policy, option, value, expected) in [
        ("allkeys-lru", "IDLETIME", "5000", Used::SecsAgo(5000)),
        ("volatile-lfu", "FREQ", "200", Used::Often(200)),
        ("noeviction", "IDLETIME", "5000", Used::Unsaid),
    ] {
        let settings = ["--maxmemory-policy", policy, "--lfu-decay-time", "0"];
        let Some(server) = Server::redis(&settings) else { return };
        let mut client = server.connect();
        client.line("SET k v");
        let payload = client.line("DUMP k").bytes().expect("a payload").to_vec();
        let restored = [&b"RESTORE"[..], b"l", b"0", &payload, option.as_bytes(), value.as_bytes()];
        assert_eq!(client.command(&restored).text(), "OK");
        assert_eq!(client.line("SAVE").text(), "OK");
        let file = fs::read(server.dir().join("dump.rdb")).expect("it was saved");
        let contents = read_rdb(&file, 100).expect("a good file");
        let used = contents.keys[&(0, b"l".to_vec())].used;
        match (used, expected) {
            // A second may have passed.
            (Used::SecsAgo(secs), Used::SecsAgo(wanted)) => assert!((wanted..wanted + 60).contains(&secs), "{secs}"),
            (used, wanted) => assert_eq!(used, wanted, "{policy}"),
        }
    }
}

fn as_value(value: &Decoded) -> Value<'_> {
    match value {
        Decoded::String(text) => Value::Inline { bytes: text, raw: true },
        Decoded::Object(object) => Value::Object(object),
    }
}

/// A file of ours in so many parts, as if each were a shard's, with these keys.
fn written(
    keys: &BTreeMap<Name, (Vec<u8>, Option<i64>)>,
    parts: usize,
    (compression, checksum): (bool, bool),
    used: Used,
) -> Vec<u8> {
    let now = Millis(1_700_000_000_000);
    let mut opening = BodyWriter::new(compression);
    opening.origin(&Origin { redis_version: "7.4.0", now, used_memory: 1 << 20, aof_base: false });
    opening.aux(b"annulus-shards", parts.to_string().as_bytes());
    opening.function(LIBRARY.as_bytes());
    let mut all = vec![opening];
    for part in 0..parts {
        let mut body = BodyWriter::new(compression);
        for db in DBS {
            let own = keys.iter().enumerate().filter(|(n, ((of, _), _))| n % parts == part && *of == db);
            body.resize(DbIndex(db), own.count() as u64, 1);
        }
        for (n, ((db, key), (payload, expires))) in keys.iter().enumerate() {
            if n % parts == part {
                let value = restore(payload, &limits()).expect("a payload");
                let facts = KeyFacts { expires: expires.map(Millis), used };
                assert!(body.key(DbIndex(*db), key, as_value(&value), facts, now));
            }
        }
        all.push(body);
    }
    let version = file_writer::version(all.iter().map(BodyWriter::version_min).max().expect("some parts"));
    let (mut file, mut sum) = (version.to_vec(), Sum::of(&version));
    for mut part in all {
        part.take_into(&mut file);
        sum = sum.then(part.sum());
    }
    file.extend(file_writer::end(sum, checksum));
    file
}

#[test]
fn what_is_written_here_redis_loads_with_equal_contents() {
    let Some(mut server) = Server::redis(&LIMITS) else { return };
    let mut client = server.connect();
    DBS.iter().for_each(|db| populate(&mut client, *db));
    let keys = dumped(&mut client);
    let before = shown(&mut client, keys.keys().cloned());
    for (parts, options) in [(1, (true, true)), (4, (false, true)), (3, (true, false))] {
        let file = written(&keys, parts, options, Used::Unsaid);
        assert_eq!(&file[..9], b"REDIS0010", "streams and libraries need it, and nothing needs more");
        let ours = read_rdb(&file, 1000).expect("we read what we write");
        assert_eq!(ours.checksum, if options.1 { Checksum::Right } else { Checksum::Absent });

        let mut client = load_into(&mut server, &file);
        let path = server.dir().join("dump.rdb");
        if let Some((content, words)) = redis_tool("redis-check-rdb", &[path.to_str().expect("a path of ASCII")]) {
            assert!(content && words.contains("RDB looks OK"), "{words}");
        }
        assert_eq!(client.line("FUNCTION LIST").text().matches("shelf").count(), 1);
        let after = dumped(&mut client);
        assert!(after.keys().eq(keys.keys()), "the same keys in the same databases, in {parts} parts");
        for (name, (_, expires)) in &after {
            assert_eq!(*expires, keys[name].1, "{}", name.1.escape_ascii());
        }
        let shown = shown(&mut client, after.keys().cloned());
        for (name, content) in &before {
            assert!(*content == shown[name], "{} of database {} in {parts} parts", name.1.escape_ascii(), name.0);
        }
    }
}

#[test]
fn how_keys_were_used_arrives_at_redis() {
    for (policy, command, used, expected) in [
        ("allkeys-lru", "OBJECT IDLETIME k", Used::SecsAgo(70_000), 70_000..70_060),
        ("allkeys-lfu", "OBJECT FREQ k", Used::Often(123), 123..124),
    ] {
        let Some(mut server) = Server::redis(&["--maxmemory-policy", policy, "--lfu-decay-time", "0"]) else { return };
        server.connect().line("SET k v");
        let keys = dumped(&mut server.connect());
        let file = written(&keys, 1, (true, true), used);
        let found = integer(&load_into(&mut server, &file).line(command));
        assert!(expected.contains(&found), "{policy}: {found}");
    }
}

#[test]
fn a_file_without_streams_and_libraries_suits_redis_5() {
    let mut body = BodyWriter::new(true);
    body.key(DbIndex(0), b"k", Value::Int(7), KeyFacts::default(), Millis(0));
    assert_eq!(body.version_min(), 9);
    let version = file_writer::version(body.version_min());
    let mut file = version.to_vec();
    body.take_into(&mut file);
    file.extend(file_writer::end(Sum::of(&version).then(body.sum()), true));
    let Some(mut server) = Server::redis(&[]) else { return };
    assert_eq!(load_into(&mut server, &file).line("GET k").text(), "7");
}
