//! Logs: what we write is taken by redis-check-aof and redis-server, what redis-server writes is read here, and the subcommands that
//! convert them and go back in time give folders that redis-server loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use annulus::base::crc::key_slot;
use annulus::persist::aof::annotation::{Epoch, push_epoch, push_time, push_transaction};
use annulus::persist::aof::effect::{EXEC, MULTI, push_command, push_select};
use annulus::persist::aof::epochs::{Ending, FileScan, FileSum};
use annulus::persist::aof::manifest::{LogFile, Manifest, Set, Stream, base_name, incremental_name, manifest_name};
use annulus::persist::aof::scan::Limits;
use annulus::persist::manifest_lines::FileName;

use super::harness::{Client, Server, Value, annulus_bin};

/// A folder of its own that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("annulus-aof-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        Folder(folder)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("the folder is writable");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn annulus(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(annulus_bin()).args(args).output().expect("it can be started");
    let Output { status, stdout, stderr } = output;
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a name in UTF-8")
}

/// The verdict and the words of redis-check-aof; none if it is not installed.
fn redis_check(path: &Path) -> Option<(bool, String)> {
    let output = Command::new("redis-check-aof").arg(path).output().ok()?;
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn sum(bytes: &[u8]) -> FileSum {
    let mut scan = FileScan::new(0, Limits::default());
    scan.feed(bytes);
    scan.finish()
}

/// All strings of all databases, by database and key.
fn strings(client: &mut Client) -> BTreeMap<(u16, String), String> {
    let text = |value: Value| value.text();
    let mut all = BTreeMap::new();
    for db in 0..16u16 {
        client.command(&["SELECT", &db.to_string()]);
        let Value::Array(keys) = client.command(&["KEYS", "*"]) else { panic!("an array") };
        for key in keys.into_iter().map(text) {
            let value = text(client.command(&["GET", &key]));
            all.insert((db, key), value);
        }
    }
    all
}

/// A redis-server on a copy of this folder of logs, named `appendonly.aof`.
fn redis_on(folder: &Path) -> Option<Server> {
    let parent = shown(folder.parent().expect("a folder in a folder"));
    let name = folder.file_name().expect("a name").to_str().expect("UTF-8");
    Server::redis(&["--dir", parent, "--appendonly", "yes", "--appenddirname", name])
}

fn two_effects(log: &mut Vec<u8>, n: u32) {
    push_command(log, [&b"SET"[..], format!("k{n}").as_bytes(), b"\r\n#EPOCH:1:1\r\n"]);
    push_command(log, [&b"SET"[..], format!("l{n}").as_bytes(), b""]);
}

#[test]
fn redis_takes_logs_with_every_annotation_everywhere() {
    let folder = Folder::new("annotations");
    let mut log = Vec::new();
    push_epoch(&mut log, Epoch { number: 1, unix_ms: 1_700_000_000_000 });
    push_select(&mut log, 0);
    push_time(&mut log, 1_700_000_000);
    two_effects(&mut log, 1);
    push_epoch(&mut log, Epoch { number: 2, unix_ms: 1_700_000_000_100 });
    push_transaction(&mut log, 3, 77);
    log.extend_from_slice(MULTI);
    push_time(&mut log, 1_700_000_001);
    two_effects(&mut log, 2);
    push_transaction(&mut log, 3, 78);
    push_epoch(&mut log, Epoch { number: u64::MAX, unix_ms: u64::MAX });
    log.extend_from_slice(EXEC);
    push_epoch(&mut log, Epoch { number: 3, unix_ms: 1_700_000_000_200 });
    assert_eq!((sum(&log).ending, sum(&log).records), (Ending::Whole, 7));

    fs::create_dir(folder.0.join("logs")).expect("the folder is writable");
    let path = folder.file("logs/appendonly.aof.1.incr.aof", &log);
    folder.file("logs/appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
    if let Some((whole, words)) = redis_check(&path) {
        assert!(whole, "{words}");
        assert!(words.contains(&format!("ok_up_to={}", log.len())), "{words}");
    }
    let Some(redis) = redis_on(&folder.0.join("logs")) else { return };
    let found = strings(&mut redis.connect());
    let names: Vec<&str> = found.keys().map(|(_, key)| key.as_str()).collect();
    assert_eq!(names, ["k1", "k2", "l1", "l2"]);
}

#[test]
fn where_a_log_may_be_cut_redis_agrees() {
    let folder = Folder::new("cuts");
    let mut log = Vec::new();
    push_select(&mut log, 0);
    two_effects(&mut log, 1);
    log.extend_from_slice(MULTI);
    two_effects(&mut log, 2);
    log.extend_from_slice(EXEC);
    for end in (1..log.len()).step_by(3) {
        let path = folder.file("cut.aof", &log[..end]);
        let ours = sum(&log[..end]);
        let Some((whole, words)) = redis_check(&path) else { return };
        assert_eq!(whole, ours.ending == Ending::Whole, "cut at {end}: {words}");
        assert!(words.contains(&format!("ok_up_to={},", ours.valid_up_to)), "cut at {end}: {ours:?} {words}");
    }
}

#[test]
fn what_redis_writes_is_read() {
    let directives = ["--appendonly", "yes", "--aof-timestamp-enabled", "yes", "--appendfsync", "always"];
    let Some(redis) = Server::redis(&directives) else { return };
    let mut client = redis.connect();
    for line in ["SET a 1", "MULTI", "SET b 2", "RPUSH l x y", "EXEC", "SELECT 3", "SET c 3"] {
        client.line(line);
    }
    let logs = redis.dir().join("appendonlydir");
    let manifest = |logs: &Path| {
        let text = fs::read(logs.join("appendonly.aof.manifest")).expect("there is one");
        let manifest = Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()));
        assert_eq!(manifest.print(), text, "printed as it was");
        manifest.streams.into_iter().next().expect("one stream")
    };
    let stream = manifest(&logs);
    let log = fs::read(stream.incremental[0].name.in_folder(&logs)).expect("it is there");
    let found = sum(&log);
    assert_eq!((found.ending, found.records), (Ending::Whole, 8), "{}", log.escape_ascii());
    assert!(!found.times.is_empty());
    let (code, words) = annulus(&["check", shown(&logs)]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("one log, as Redis writes it") && words.contains("8 commands"), "{words}");

    client.command(&["BGREWRITEAOF"]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while manifest(&logs).base.is_none_or(|base| base.seq < 2) || !manifest(&logs).history.is_empty() {
        assert!(std::time::Instant::now() < until, "rewriting takes too long");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    client.line("SET d 4");
    let (code, words) = annulus(&["check", shown(&logs)]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("database 0: 3 keys"), "{words}");

    // An old log: RDB, and commands behind it.
    let stream = manifest(&logs);
    let mut old = fs::read(stream.base.expect("rewritten").name.in_folder(&logs)).expect("it is there");
    old.extend(fs::read(stream.incremental[0].name.in_folder(&logs)).expect("it is there"));
    let old_path = redis.dir().join("old.aof");
    fs::write(&old_path, &old).expect("the folder is writable");
    let (code, words) = annulus(&["check", shown(&old_path)]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("the RDB part is whole and ends at byte ") && words.contains("2 commands"), "{words}");
    fs::write(&old_path, &old[..old.len() - 1]).expect("the folder is writable");
    assert_eq!(annulus(&["check", shown(&old_path)]).0, Some(1));
}

#[test]
fn a_log_of_redis_goes_back_in_time() {
    let directives = ["--appendonly", "yes", "--aof-timestamp-enabled", "yes"];
    let Some(mut redis) = Server::redis(&directives) else { return };
    let mut client = redis.connect();
    client.line("SET early 1");
    let Value::Array(time) = client.command(&["TIME"]) else { panic!("an array") };
    let second: u64 = time[0].text().parse().expect("seconds");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    client.line("SET late 2");
    redis.stop();
    let (from, to) = (redis.dir().join("appendonlydir"), redis.dir().join("restored"));
    let (code, words) = annulus(&["restore", "--to", &(second + 1).to_string(), shown(&from), shown(&to)]);
    assert_eq!(code, Some(0), "{words}");
    let Some(back) = redis_on(&to) else { return };
    assert_eq!(strings(&mut back.connect()).into_keys().collect::<Vec<_>>(), [(0, "early".to_owned())]);
}

/// Logs of `shards` shards as our server writes them, with databases emptied and swapped in between, and what is in them in the end.
fn set_of_logs(folder: &Path, shards: usize) -> BTreeMap<(u16, String), String> {
    fs::create_dir(folder).expect("the folder is writable");
    let owner = |key: &str| usize::from(key_slot(key.as_bytes())) * shards / 16384;
    let mut logs: Vec<(Vec<u8>, u16)> = vec![(Vec::new(), u16::MAX); shards];
    let mut expected = BTreeMap::new();
    for step in 0..300u64 {
        let owned_by = |shard: usize, db: u16, all: &BTreeMap<(u16, String), String>| {
            all.keys().any(|(there, key)| *there == db && owner(key) == shard)
        };
        if step == 100 || step == 150 {
            for (shard, (log, current)) in logs.iter_mut().enumerate() {
                log.extend_from_slice(MULTI);
                for db in (0..4).filter(|db| step == 100 || *db == 2).filter(|db| owned_by(shard, *db, &expected)) {
                    push_select(log, db);
                    *current = db;
                    push_command(log, [&b"FLUSHDB"[..]]);
                }
                log.extend_from_slice(EXEC);
            }
            expected.retain(|(db, _), _| step == 150 && *db != 2);
            continue;
        }
        if step == 210 {
            for (log, _) in &mut logs {
                push_command(log, [&b"SWAPDB"[..], b"1", b"2"]);
            }
            let swapped = |db| if db == 1 || db == 2 { 3 - db } else { db };
            expected = expected.into_iter().map(|((db, key), value)| ((swapped(db), key), value)).collect();
            continue;
        }
        if step == 220 {
            // What was in database 2 when it was swapped away, and is in 1 now.
            for (shard, (log, current)) in logs.iter_mut().enumerate().filter(|(shard, _)| *shard != 1) {
                if owned_by(shard, 1, &expected) {
                    push_select(log, 1);
                    *current = 1;
                    push_command(log, [&b"FLUSHDB"[..]]);
                }
            }
            expected.retain(|(db, key), _| *db != 1 || owner(key) == 1);
            continue;
        }
        let (key, db, value) = (format!("key:{}", step % 70), (step % 4) as u16, step.to_string());
        let (log, current) = &mut logs[owner(&key)];
        if *current != db {
            push_select(log, db);
            *current = db;
        }
        push_command(log, [&b"SET"[..], key.as_bytes(), value.as_bytes()]);
        expected.insert((db, key), value);
        if step % 10 == 0 {
            for (log, _) in &mut logs {
                push_epoch(log, Epoch { number: step + 1, unix_ms: 1_700_000_000_000 + step });
            }
        }
    }
    for (log, _) in &mut logs {
        push_epoch(log, Epoch { number: 301, unix_ms: 1_700_000_000_300 });
    }
    // What one shard alone has of the next epoch does not count.
    push_command(&mut logs[0].0, [&b"SET"[..], b"too", b"late"]);
    let name = |name: String| FileName::new(name).expect("a name");
    let stream = |shard| Stream {
        incremental: vec![LogFile { name: name(incremental_name("appendonly.aof", 1, shard)), seq: 1 }],
        ..Stream::default()
    };
    let manifest = Manifest { set: Some(Set { generation: 1, epoch: 0 }), streams: (0..shards).map(stream).collect() };
    for ((log, _), stream) in logs.iter().zip(&manifest.streams) {
        fs::write(stream.incremental[0].name.in_folder(folder), log).expect("the folder is writable");
    }
    fs::write(folder.join(manifest_name("appendonly.aof")), manifest.print()).expect("the folder is writable");
    expected
}

#[test]
fn logs_of_shards_become_one_that_redis_loads() {
    for shards in [1, 3] {
        let folder = Folder::new(&format!("join-{shards}"));
        let (from, to) = (folder.0.join("set"), folder.0.join("one"));
        let expected = set_of_logs(&from, shards);
        let (code, words) = annulus(&["check", shown(&from)]);
        assert_eq!(code, Some(0), "{words}");
        assert!(words.contains("All shards have epoch 301 in common"), "{words}");
        let (code, words) = annulus(&["convert", shown(&from), shown(&to)]);
        assert_eq!(
            (code, words),
            (Some(0), format!("{}: one log of {shards} shards, up to epoch 301\n", to.display()))
        );
        if let Some((whole, words)) = redis_check(&to.join("appendonly.aof.manifest")) {
            assert!(whole, "{words}");
        }
        let Some(redis) = redis_on(&to) else { return };
        assert_eq!(strings(&mut redis.connect()), expected, "{shards} shards");
    }
}

#[test]
fn a_set_that_went_back_in_time_joins_and_loads_too() {
    let folder = Folder::new("back");
    let (from, back, to) = (folder.0.join("set"), folder.0.join("back"), folder.0.join("one"));
    let all = set_of_logs(&from, 3);
    let (code, words) = annulus(&["restore", "--to", "2023-11-14T22:13:20.095Z", shown(&from), shown(&back)]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("epoch 91, closed at 2023-11-14T22:13:20.09Z"), "{words}");
    assert_eq!(annulus(&["convert", shown(&back), shown(&to)]).0, Some(0));
    let Some(redis) = redis_on(&to) else { return };
    let found = strings(&mut redis.connect());
    // Before the flush: the last values that keys had up to step 90.
    let mut expected = BTreeMap::new();
    for step in 0..=90u64 {
        expected.insert(((step % 4) as u16, format!("key:{}", step % 70)), step.to_string());
    }
    assert_eq!(found, expected);
    assert_ne!(found, all);
}

#[test]
fn several_shards_do_not_load_in_redis_by_mistake() {
    let folder = Folder::new("refused");
    let from = folder.0.join("set");
    set_of_logs(&from, 2);
    if let Some((whole, words)) = redis_check(&from.join("appendonly.aof.manifest")) {
        assert!(!whole, "{words}");
    }
}

#[test]
fn bases_become_one_base() {
    let Some(redis) = Server::redis(&[]) else { return };
    let mut client = redis.connect();
    for n in 0..200 {
        client.command(&["SELECT", &(n % 3).to_string()]);
        client.command(&["SET", &format!("base:{n}"), &n.to_string()]);
    }
    let mut expected = strings(&mut client);
    client.command(&["SAVE"]);
    // One shard has emptied a database since.
    expected.retain(|(db, key), _| *db != 2 || key_slot(key.as_bytes()) / 5462 != 1);
    let (rdb, set) = (redis.dir().join("dump.rdb"), redis.dir().join("parts"));
    assert_eq!(annulus(&["convert", shown(&rdb), shown(&set), "--shards", "3"]).0, Some(0));

    // The parts are the bases of logs.
    let logs = redis.dir().join("logs");
    fs::create_dir(&logs).expect("the folder is writable");
    let name = |name: String| FileName::new(name).expect("a name");
    let mut streams = Vec::new();
    for shard in 0..3 {
        let base = name(base_name("appendonly.aof", 4, shard, true));
        fs::copy(set.join(format!("dump.1.shard-{shard}.rdb")), base.in_folder(&logs)).expect("it is there");
        let log = name(incremental_name("appendonly.aof", 4, shard));
        let mut words = Vec::new();
        if shard == 1 {
            push_select(&mut words, 2);
            push_command(&mut words, [&b"FLUSHDB"[..]]);
            push_epoch(&mut words, Epoch { number: 13, unix_ms: 1 });
        } else {
            push_epoch(&mut words, Epoch { number: 13, unix_ms: 1 });
        }
        fs::write(log.in_folder(&logs), words).expect("the folder is writable");
        let file = |name| LogFile { name, seq: 4 };
        streams.push(Stream { base: Some(file(base)), incremental: vec![file(log)], history: Vec::new() });
    }
    let manifest = Manifest { set: Some(Set { generation: 4, epoch: 12 }), streams };
    fs::write(logs.join("appendonly.aof.manifest"), manifest.print()).expect("the folder is writable");
    let to = redis.dir().join("one");
    let (code, words) = annulus(&["convert", shown(&logs), shown(&to)]);
    assert_eq!(code, Some(0), "{words}");
    let Some(other) = redis_on(&to) else { return };
    assert_eq!(strings(&mut other.connect()), expected);
}

#[test]
fn a_snapshot_is_split_and_joined() {
    let Some(redis) = Server::redis(&["--enable-debug-command", "yes"]) else { return };
    let mut client = redis.connect();
    for n in 0..500 {
        client.command(&["SELECT", &(n % 5).to_string()]);
        client.command(&["SET", &format!("key:{n}"), &n.to_string(), "EX", "100000"]);
    }
    for line in ["SELECT 0", "SADD s a b", "ZADD z 1.5 m", "HSET h f v", "XADD x 1-1 f v", "RPUSH l 1 2"] {
        client.line(line);
    }
    client.command(&["FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)"]);
    client.command(&["SAVE"]);
    let digest = client.command(&["DEBUG", "DIGEST"]).to_string();
    let (rdb, set, one) = (redis.dir().join("dump.rdb"), redis.dir().join("parts"), redis.dir().join("one.rdb"));
    let (code, words) = annulus(&["convert", "--shards", "4", shown(&rdb), shown(&set)]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = annulus(&["check", shown(&set)]);
    assert_eq!(code, Some(0), "{words}");
    for shard in 0..4 {
        let part = set.join(format!("dump.1.shard-{shard}.rdb"));
        let checked = Command::new("redis-check-rdb").arg(&part).output().expect("it can be started");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    let (code, words) = annulus(&["convert", shown(&set.join("dump.rdb.manifest")), shown(&one)]);
    assert_eq!(code, Some(0), "{words}");
    let dir = shown(redis.dir());
    let Some(other) = Server::redis(&["--dir", dir, "--dbfilename", "one.rdb", "--enable-debug-command", "yes"]) else {
        return;
    };
    let mut client = other.connect();
    assert_eq!(client.command(&["DEBUG", "DIGEST"]).to_string(), digest);
    assert!(client.command(&["FUNCTION", "LIST"]).to_string().contains("lib"));

    // A part of another snapshot is seen.
    fs::copy(set.join("dump.1.shard-0.rdb"), set.join("dump.1.shard-1.rdb")).expect("they are there");
    assert_eq!(annulus(&["check", shown(&set)]).0, Some(1));
    assert_eq!(annulus(&["convert", shown(&set), shown(&redis.dir().join("two.rdb"))]).0, Some(1));
}

/// A log of Redis that ends in a transaction without EXEC: what stands before the transaction counts, nothing of it does.
#[test]
fn a_log_that_ends_in_a_transaction_is_loaded_up_to_it() {
    let folder = Folder::new("open");
    let mut log = Vec::new();
    push_select(&mut log, 0);
    two_effects(&mut log, 1);
    log.extend_from_slice(MULTI);
    two_effects(&mut log, 2);
    fs::create_dir(folder.0.join("appendonlydir")).expect("the folder is writable");
    folder.file("appendonlydir/appendonly.aof.1.incr.aof", &log);
    folder.file("appendonlydir/appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
    let server = Server::annulus(2, &["--appendonly", "yes", "--dir", shown(&folder.0)]);
    let found = strings(&mut server.connect());
    assert_eq!(found.into_keys().map(|(_, key)| key).collect::<Vec<_>>(), ["k1", "l1"]);
}

/// The files of our own server, through every subcommand and into redis-server.
#[test]
fn files_of_the_server_are_checked_and_become_files_of_redis() {
    let directives = ["--appendonly", "yes", "--dbfilename", "d.rdb"];
    let mut server = Server::annulus(3, &directives);
    let mut client = server.connect();
    for n in 0..300 {
        client.command(&["SELECT", &(n % 3).to_string()]);
        client.command(&["SET", &format!("key:{}", n % 80), &n.to_string()]);
        match n {
            100 => drop(client.command(&["FLUSHDB"])),
            150 => drop(client.command(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4"])),
            200 => drop(client.command(&["SWAPDB", "0", "1"])),
            _ => {}
        }
    }
    assert_eq!(client.command(&["SAVE"]).text(), "OK");
    let expected = strings(&mut client);
    server.stop();
    let (logs, one) = (server.dir().join("appendonlydir"), server.dir().join("one"));
    // A folder of its own: Redis reads the manifest of `appendonlydir` also when it is to have no log, and refuses ours.
    let plain = server.dir().join("plain");
    fs::create_dir(&plain).expect("the folder is writable");
    let (snapshot, rdb) = (server.dir().join("d.rdb.manifest"), plain.join("one.rdb"));
    for path in [&logs, &snapshot] {
        let (code, words) = annulus(&["check", shown(path)]);
        assert_eq!(code, Some(0), "{words}");
    }
    for (from, to) in [(&logs, &one), (&snapshot, &rdb)] {
        let (code, words) = annulus(&["convert", shown(from), shown(to)]);
        assert_eq!(code, Some(0), "{words}");
    }
    let Some(redis) = redis_on(&one) else { return };
    assert_eq!(strings(&mut redis.connect()), expected, "of the logs");
    let Some(redis) = Server::redis(&["--dir", shown(&plain), "--dbfilename", "one.rdb"]) else { return };
    assert_eq!(strings(&mut redis.connect()), expected, "of the snapshot");

    // Now as it was a moment ago, which is a folder that the server goes on from.
    let back = server.dir().join("back");
    let (code, words) = annulus(&["restore", "--to", "4102444800", shown(&logs), shown(&back)]);
    assert_eq!(code, Some(0), "{words}");
    let dir = shown(server.dir());
    let again = Server::annulus(2, &["--appendonly", "yes", "--dir", dir, "--appenddirname", "back"]);
    assert_eq!(strings(&mut again.connect()), expected, "restored");
}
