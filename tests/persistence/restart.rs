//! Orderly ends, other servers' files, damaged files, full disks: what a server does that is started on what another life has left, by
//! what its clients and its log say.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Client, Server, Value};

/// Fills a server with every type, in small and large, in two databases, with and without expiry.
fn fill(client: &mut Client) {
    for db in [0, 3] {
        client.line(&format!("SELECT {db}"));
        for n in 0..200 {
            client.line(&format!("SET string:{n} value:{n}"));
            client.line(&format!("SET number:{n} {n}"));
            client.line(&format!("PEXPIREAT string:{n} {}", 4_000_000_000_000_u64 + n));
            client.line(&format!("RPUSH list:{} {n} x{n}", n % 7));
            client.line(&format!("SADD numbers:{} {n}", n % 5));
            client.line(&format!("SADD words:{} w{n}", n % 5));
            client.line(&format!("HSET hash:{} f{n} v{n}", n % 5));
            client.line(&format!("ZADD zset:{} {n}.5 m{n}", n % 5));
            client.line(&format!("XADD stream:{} {}-1 f v", n % 3, n + 1));
        }
        client.line("XGROUP CREATE stream:0 readers 0");
        client.line("XREADGROUP GROUP readers ann COUNT 2 STREAMS stream:0 >");
        client.command(&["SET", "long", &"x".repeat(100_000)]);
        client.line("PFADD hll a b c d");
    }
    client.line("SELECT 0");
}

/// All keys with what they hold, as text that two servers can be compared by.
fn contents(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    for db in [0, 3] {
        client.line(&format!("SELECT {db}"));
        let keys = client.line("KEYS *");
        let mut keys: Vec<String> = keys.elements().expect("an array").iter().map(Value::text).collect();
        keys.sort();
        for key in keys {
            let due = client.line(&format!("PEXPIRETIME {key}")).text();
            let kind = client.line(&format!("TYPE {key}")).text();
            let read: Vec<String> = match kind.as_str() {
                "string" => vec![format!("GET {key}")],
                "list" => vec![format!("LRANGE {key} 0 -1")],
                "set" => vec![format!("SMEMBERS {key}")],
                "hash" => vec![format!("HGETALL {key}")],
                "zset" => vec![format!("ZRANGE {key} 0 -1 WITHSCORES")],
                "stream" => vec![format!("XRANGE {key} - +"), format!("XINFO GROUPS {key}")],
                other => panic!("{key} is a {other}"),
            };
            let mut values = Vec::new();
            for command in read {
                let reply = client.line(&command);
                let mut texts: Vec<String> = match reply.elements() {
                    Some(elements) => elements.iter().map(Value::to_string).collect(),
                    None => vec![reply.to_string()],
                };
                if kind == "set" {
                    texts.sort();
                }
                if kind == "hash" {
                    let mut pairs: Vec<String> = texts.chunks(2).map(|pair| pair.join("=")).collect();
                    pairs.sort();
                    texts = pairs;
                }
                values.push(texts.join(","));
            }
            all.push(format!("{db} {key} {kind} {due} {}", values.join(" ")));
        }
    }
    client.line("SELECT 0");
    all
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn snapshots_and_logs_come_back_with_any_number_of_shards() {
    for log in ["no", "yes"] {
        let mut server = Server::annulus(2, &["--appendonly", log]);
        fill(&mut server.connect());
        let expected = contents(&mut server.connect());
        for (shards, save) in
            [("2", "SAVE"), ("3", "SAVE"), ("1", "SAVE MERGED"), ("4", "SAVE"), ("4", "SAVE MERGED"), ("2", "SAVE")]
        {
            assert_eq!(server.connect().line(save).text(), "OK");
            assert!(server.stop().success());
            server.restart_with(&["--shards", shards]);
            assert_same(&contents(&mut server.connect()), &expected);
        }
    }
}

#[test]
fn an_end_by_signal_saves_if_there_are_save_points() {
    let mut server = Server::annulus(2, &["--save", "3600", "1"]);
    fill(&mut server.connect());
    let expected = contents(&mut server.connect());
    assert!(server.stop().success());
    server.restart();
    assert_same(&contents(&mut server.connect()), &expected);
    server.connect().line("FLUSHALL");
    server.connect().send(&["SHUTDOWN", "NOSAVE"]);
    server.wait_until_gone();
    server.restart();
    assert_same(&contents(&mut server.connect()), &expected);
}

#[test]
fn save_points_save_by_themselves() {
    let mut server = Server::annulus(2, &["--save", "1", "10"]);
    for n in 0..20 {
        server.connect().line(&format!("SET k{n} v"));
    }
    let mut client = server.connect();
    let saved = |client: &mut Client| client.line("INFO persistence").text().contains("rdb_changes_since_last_save:0");
    for _ in 0..200 {
        if saved(&mut client) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(saved(&mut client), "nothing was saved:\n{}", server.log());
    server.kill();
    server.restart();
    assert_eq!(server.connect().line("DBSIZE").to_string(), "(integer) 20");
}

#[test]
fn a_log_that_is_switched_on_holds_what_was_there() {
    let mut server = Server::annulus(3, &[]);
    fill(&mut server.connect());
    let mut client = server.connect();
    assert_eq!(client.line("CONFIG SET appendonly yes").text(), "OK");
    client.line("SET later 1");
    assert_eq!(client.line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
    let expected = contents(&mut client);
    for _ in 0..400 {
        if client.line("INFO persistence").text().contains("aof_rewrite_in_progress:0") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    server.kill();
    server.restart_with(&["--appendonly", "yes"]);
    assert_same(&contents(&mut server.connect()), &expected);
    assert_eq!(server.connect().line("CONFIG SET appendonly no").text(), "OK");
    assert_eq!(server.connect().line("SET more 1").text(), "OK");
}

/// A file that every shard's RDB, and the merged one, must please.
fn check_with(tool: &str, file: &Path) {
    match Command::new(tool).arg(file).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{tool} refuses {}:\n{text}", file.display());
        }
        Err(_) => assert!(!super::in_ci(), "{tool} is not installed, and in CI it may not be missing"),
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("it can be read").path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    found
}

#[test]
fn a_real_server_reads_what_we_write() {
    let server = Server::annulus(3, &["--appendonly", "yes"]);
    fill(&mut server.connect());
    let expected = contents(&mut server.connect());
    assert_eq!(server.connect().line("SAVE").text(), "OK");
    let parts = files(server.dir(), ".rdb");
    assert_eq!(parts.len(), 3, "{parts:?}");
    parts.iter().for_each(|part| check_with("redis-check-rdb", part));
    assert_eq!(server.connect().line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
    let logs = files(&server.dir().join("appendonlydir"), ".incr.aof");
    assert_eq!(logs.len(), 3, "{logs:?}");
    logs.iter().for_each(|log| check_with("redis-check-aof", log));
    assert_eq!(server.connect().line("SAVE MERGED").text(), "OK");
    let merged = server.dir().join("dump.rdb");
    check_with("redis-check-rdb", &merged);
    let Some(mut oracle) = Server::redis(&[]) else { return };
    oracle.kill();
    fs::copy(&merged, oracle.dir().join("dump.rdb")).expect("it can be copied");
    oracle.restart();
    let theirs = contents(&mut oracle.connect());
    assert_same(&theirs, &expected);
}

#[test]
fn the_log_of_one_shard_is_a_log_of_redis() {
    let mut server = Server::annulus(1, &["--appendonly", "yes"]);
    fill(&mut server.connect());
    assert_eq!(server.connect().line("BGREWRITEAOF").text(), "Background append only file rewriting started");
    server.connect().line("SET behind 1");
    let expected = contents(&mut server.connect());
    assert!(server.stop().success());
    let Some(mut oracle) = Server::redis(&["--appendonly", "yes"]) else { return };
    oracle.kill();
    let to = oracle.dir().join("appendonlydir");
    fs::remove_dir_all(&to).expect("it was there");
    fs::create_dir_all(&to).expect("it can be made");
    for file in files(&server.dir().join("appendonlydir"), "") {
        fs::copy(&file, to.join(file.file_name().expect("it has a name"))).expect("it can be copied");
    }
    oracle.restart();
    assert_same(&contents(&mut oracle.connect()), &expected);
}

#[test]
fn we_read_what_a_real_server_writes() {
    for preamble in ["yes", "no"] {
        let directives = ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"];
        let Some(oracle) = Server::redis(&directives) else { return };
        let mut client = oracle.connect();
        fill(&mut client);
        client.line("SET gone v PX 1");
        assert!(!matches!(client.line("BGREWRITEAOF"), Value::Error(_)));
        for _ in 0..400 {
            if client.line("INFO persistence").text().contains("aof_rewrite_in_progress:0") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        client.line("RPUSH list:1 behind");
        client.line("DEL string:1");
        assert_eq!(client.line("SAVE").text(), "OK");
        let expected = contents(&mut client);
        for (log, shards) in [("no", 1), ("no", 3), ("yes", 1), ("yes", 3)] {
            let mut ours = Server::annulus(shards, &["--appendonly", log]);
            ours.kill();
            let folder = ours.dir().join("appendonlydir");
            let _ = fs::remove_dir_all(&folder);
            fs::copy(oracle.dir().join("dump.rdb"), ours.dir().join("dump.rdb")).expect("it can be copied");
            if log == "yes" {
                fs::create_dir_all(&folder).expect("it can be made");
                for file in files(&oracle.dir().join("appendonlydir"), "") {
                    fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("it can be copied");
                }
            }
            ours.restart();
            assert_same(&contents(&mut ours.connect()), &expected);
            // And from then on it is ours.
            ours.connect().line("SET ours 1");
            if log == "yes" {
                assert!(ours.stop().success());
                ours.restart();
                assert_eq!(ours.connect().line("GET ours").text(), "1");
            }
        }
    }
}

#[test]
fn a_log_of_one_file_from_before_version_7_is_read() {
    let Some(oracle) = Server::redis(&[]) else { return };
    let mut client = oracle.connect();
    fill(&mut client);
    assert_eq!(client.line("SAVE").text(), "OK");
    client.line("SET behind 1");
    let expected = contents(&mut client);
    let mut log = fs::read(oracle.dir().join("dump.rdb")).expect("it was saved");
    log.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$6\r\nbehind\r\n$1\r\n1\r\n");
    // The last record was not written whole.
    log.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1");
    let mut ours = Server::annulus(2, &["--appendonly", "yes"]);
    ours.kill();
    fs::remove_dir_all(ours.dir().join("appendonlydir")).expect("it was there");
    fs::write(ours.dir().join("appendonly.aof"), &log).expect("it can be written");
    ours.restart_with(&["--aof-load-truncated", "yes"]);
    assert_same(&contents(&mut ours.connect()), &expected);
    assert!(ours.log().contains("short read"), "{}", ours.log());
}

#[test]
fn what_is_damaged_is_refused_and_left_as_it_is() {
    let mut server = Server::annulus(2, &["--appendonly", "yes"]);
    fill(&mut server.connect());
    assert!(server.stop().success());
    let log = files(&server.dir().join("appendonlydir"), "shard-1.incr.aof").pop().expect("it has a log");
    let whole = fs::read(&log).expect("it can be read");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 3;
    damaged[middle..middle + 8].fill(b'!');
    // As if it had been written long before what follows.
    fs::write(&log, &damaged).expect("it can be written");
    let text = refused(&mut server);
    assert!(text.contains("shard-1.incr.aof"), "{text}");
    assert_eq!(fs::read(&log).expect("it can be read"), damaged, "a log that was refused was changed");
    fs::write(&log, &whole).expect("it can be written");
    server.restart();
    assert_eq!(server.connect().line("SAVE").text(), "OK");
    assert!(server.stop().success());

    let part = files(server.dir(), "shard-0.rdb").pop().expect("it was saved");
    let whole = fs::read(&part).expect("it can be read");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x20;
    fs::write(&part, &damaged).expect("it can be written");
    server.args(&["--appendonly", "no"]);
    let text = refused(&mut server);
    assert!(text.contains("shard-0.rdb") && text.contains("byte"), "{text}");
    assert_eq!(fs::read(&part).expect("it can be read"), damaged, "a snapshot that was refused was changed");
    fs::remove_file(&part).expect("it can be removed");
    let text = refused(&mut server);
    assert!(text.contains("shard-0.rdb"), "{text}");
    fs::write(&part, &whole).expect("it can be written");
    server.restart();
    assert!(server.connect().line("DBSIZE").to_string() != "(integer) 0");
}

/// What the server says when it refuses to start.
fn refused(server: &mut Server) -> String {
    let status = server.restart_refused();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    server.log()
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("annulus-full-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&folder).status();
    if !mounted.is_ok_and(|status| status.success()) {
        let _ = fs::remove_dir(&folder);
        assert!(!super::in_ci(), "a small file system cannot be mounted (root is needed), and in CI that may not be");
        println!("SKIPPED: a small file system cannot be mounted");
        return;
    }
    let _mount = Mount(folder.clone());
    let dir = folder.to_string_lossy().into_owned();
    let mut server = Server::annulus(2, &["--appendonly", "yes", "--appendfsync", "always", "--dir", &dir]);
    let mut client = server.connect();
    let value = "x".repeat(2000);
    let mut written = 0;
    let refused = loop {
        let mut line = Client::connect(server.port());
        match line.command_within(&["SET", &format!("k{written}"), &value], 2) {
            Some(Value::Simple(_)) => written += 1,
            Some(error) => break error.text(),
            // Acknowledged it will be when there is space.
            None => continue,
        }
        assert!(written < 5000, "it writes to a disk that is full");
    };
    assert_eq!(refused, "MISCONF Errors writing to the AOF file: No space left on device");
    assert_eq!(client.line("GET k0").text(), value);
    let grown = Command::new("mount").args(["-o", "remount,size=60m"]).arg(&folder).status();
    assert!(grown.is_ok_and(|status| status.success()));
    for _ in 0..200 {
        if client.line("SET after 1").text() == "OK" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(client.line("SET after 2").text(), "OK");
    server.kill();
    server.restart();
    let mut client = server.connect();
    for n in 0..written {
        assert_eq!(
            client.line(&format!("STRLEN k{n}")).to_string(),
            "(integer) 2000",
            "k{n} was acknowledged and is gone"
        );
    }
    assert_eq!(client.line("GET after").text(), "2");
    // A snapshot that finds no space fails, and leaves the last one alone.
    server.kill();
}

struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn who_connects_while_data_is_loaded_is_told_so() {
    let mut server = Server::annulus(2, &["--enable-debug-command", "yes"]);
    assert_eq!(server.connect().line("DEBUG POPULATE 60000 key 100").text(), "OK");
    assert_eq!(server.connect().line("SAVE MERGED").text(), "OK");
    server.kill();
    let mut told = 0;
    server.restart_and(|port| {
        // It listens before it is ready. What the one that was killed has left of its listener takes connections for a moment, too.
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
        let mut first = [0; 8];
        if stream.write_all(b"PING\r\nPING\r\n").and_then(|()| stream.read_exact(&mut first)).is_err() {
            return false;
        }
        if &first == b"+PONG\r\n+" {
            return true;
        }
        // As in Redis: that a server answers PING with PONG means that it is ready.
        assert_eq!(&first, b"-LOADING");
        let mut client = Client::connect(port);
        let info = client.line("INFO persistence").text();
        if info.contains("loading:1") {
            assert!(info.contains("loading_loaded_bytes:"), "{info}");
            told += 1;
        }
        false
    });
    println!("{told} were told to wait");
    assert_eq!(server.connect().line("DBSIZE").to_string(), "(integer) 60000");
    assert!(server.connect().line("INFO persistence").text().contains("loading:0"));
}
