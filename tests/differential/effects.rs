//! What a random script leaves in our log, run again by us and by a redis-server, against what was there when it was written.
//!
//! ```text
//!   script ──> annulus, appendonly yes ──> keys ──────────────────────────────┐
//!                        └─> log of each shard ──┬──> annulus, started again ─┼─> equal?
//!                                                └──> redis-server ───────────┘
//! ```
//!
//! The commands are those of the random scripts, without those that redis-server 7.0 does not know. Compared is what clients see of a
//! key, and when it expires; not how it is encoded. `ANNULUS_DIFF_SEED` repeats a run, `ANNULUS_DIFF_COMMANDS` makes it longer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::compare::How;
use super::differences::DIFFERENCES;
use super::harness::{Client, Server, Value};
use super::run::{setting, show};
use super::script::{DATABASES, Script};

/// By database and key: type, what it holds, and when it expires.
type Contents = BTreeMap<(i64, Vec<u8>), String>;

/// Of each database, what clients see.
fn contents(client: &mut Client) -> Contents {
    let mut contents = Contents::new();
    for db in 0..DATABASES {
        client.line(&format!("SELECT {db}"));
        let keys = client.line("KEYS *");
        for key in keys.elements().expect("an array") {
            let key = key.bytes().expect("a key is a bulk");
            let kind = client.command(&[b"TYPE", key]).text();
            let expires = client.command(&[b"PEXPIRETIME", key]);
            let value = value(client, key, &kind);
            contents.insert((db, key.to_vec()), format!("{kind} {value} {expires}"));
        }
    }
    contents
}

fn value(client: &mut Client, key: &[u8], kind: &str) -> String {
    let mut ask = |words: &[&[u8]]| client.command(words);
    match kind {
        "string" => ask(&[b"GET", key]).to_string(),
        "list" => ask(&[b"LRANGE", key, b"0", b"-1"]).to_string(),
        "set" => in_any_order(ask(&[b"SMEMBERS", key]).elements().expect("an array").chunks(1)),
        "hash" => in_any_order(ask(&[b"HGETALL", key]).elements().expect("an array").chunks(2)),
        "zset" => {
            let members = ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]);
            let members = members.elements().expect("an array").chunks(2);
            // 7.0 prints 17 digits of a score, and forgets the sign of zero.
            let score = |text: &Value| (text.text().parse::<f64>().expect("a score is a number") + 0.0).to_bits();
            members.map(|pair| format!("{}={:x} ", pair[0], score(&pair[1]))).collect()
        }
        "stream" => {
            let entries = ask(&[b"XRANGE", key, b"-", b"+"]);
            let mut text = entries.to_string();
            describe(&ask(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"]), &mut text);
            text
        }
        other => panic!("nothing makes a {other}"),
    }
}

fn in_any_order<'v>(parts: impl Iterator<Item = &'v [Value]>) -> String {
    let mut parts: Vec<String> = parts.map(|part| part.iter().map(|item| format!("{item} ")).collect()).collect();
    parts.sort();
    parts.concat()
}

/// What XINFO says, but for how a stream is stored and when consumers were seen.
fn describe(value: &Value, text: &mut String) {
    const LEFT_OUT: [&str; 5] = ["radix-tree-keys", "radix-tree-nodes", "seen-time", "active-time", "entries"];
    let Some(elements) = value.elements() else {
        text.push_str(&format!(" {value}"));
        return;
    };
    text.push_str(" [");
    let mut elements = elements.iter();
    while let Some(element) = elements.next() {
        if LEFT_OUT.contains(&element.text().as_str()) {
            elements.next();
        } else {
            describe(element, text);
        }
    }
    text.push(']');
}

/// The logs of all shards, in the order of the shards.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(dir.join("appendonlydir")).expect("there is a log");
    let mut paths: Vec<PathBuf> = folder.map(|file| file.expect("it can be listed").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".incr.aof"));
    paths.sort();
    paths
}

fn differ(before: &Contents, after: &Contents, who: &str) -> Option<String> {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let wrong: Vec<_> = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).collect();
    let (db, key) = wrong.first()?;
    let name = (*db, key.clone());
    let (was, is) = (before.get(&name), after.get(&name));
    let key = key.escape_ascii();
    Some(format!("{} keys differ in {who}; {key} of database {db} was\n{was:?}\nand is\n{is:?}", wrong.len()))
}

fn run(shards: usize) {
    // Nothing is written beside the log, and the snapshot that it begins with is empty.
    let mut annulus = Server::annulus(shards, &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]);
    let seed =
        setting("ANNULUS_DIFF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(annulus.port()));
    let commands = setting("ANNULUS_DIFF_COMMANDS").unwrap_or(4_000);
    println!("{commands} commands, {shards} shards, ANNULUS_DIFF_SEED={seed}");
    let mut script = Script::new(seed);
    let mut client = annulus.connect();
    let mut history = Vec::new();
    for _ in 0..commands {
        let argv = script.next();
        let unknown = DIFFERENCES.iter().any(|other| other.how == How::NotSent && (other.concerns)(&argv));
        if !unknown {
            client.command_bytes(&argv);
            history.push(argv);
        }
    }
    let before = contents(&mut client);
    drop(client);
    assert!(annulus.stop().success());
    let logs: Vec<Vec<u8>> =
        logs(annulus.dir()).iter().map(|path| fs::read(path).expect("a log can be read")).collect();
    assert_eq!(logs.len(), shards);
    annulus.restart();
    let mut found = vec![differ(&before, &contents(&mut annulus.connect()), "a server that was started again")];

    if let Some(mut redis) = Server::redis(&["--appendonly", "yes"]) {
        redis.kill();
        let folder = redis.dir().join("appendonlydir");
        fs::remove_dir_all(&folder).expect("it made one");
        fs::create_dir(&folder).expect("the folder is ours");
        let mut manifest = String::new();
        for (number, log) in (1..).zip(&logs) {
            let name = format!("appendonly.aof.{number}.incr.aof");
            // Which database is selected is said at the start of each log.
            fs::write(folder.join(&name), log).expect("the folder is writable");
            manifest.push_str(&format!("file {name} seq {number} type i\n"));
        }
        fs::write(folder.join("appendonly.aof.manifest"), manifest).expect("the folder is writable");
        redis.restart();
        let mut client = redis.connect();
        let errors = client.line("INFO errorstats").text();
        found.push(errors.contains("errorstat_").then(|| format!("redis-server refused some of it: {errors}")));
        found.push(differ(&before, &contents(&mut client), "a redis-server"));
    }
    let found: Vec<String> = found.into_iter().flatten().collect();
    if !found.is_empty() {
        let from = history.len().saturating_sub(20);
        history[from..].iter().for_each(|argv| println!("{}", show(argv)));
        panic!("seed {seed}: {}", found.join("\n"));
    }
}

#[test]
fn the_log_of_one_shard_leads_to_the_same_keys_here_and_in_redis() {
    run(1);
}

#[test]
fn the_logs_of_four_shards_lead_to_the_same_keys_here_and_in_redis() {
    run(4);
}

#[test]
fn names_that_clients_do_not_know_stand_in_the_log_all_the_same() {
    let names = [("FLUSHDB", ""), ("FLUSHALL", "wipe"), ("SET", "put"), ("PEXPIREAT", ""), ("PING", "")];
    let mut directives = vec!["--appendonly", "yes"];
    for (name, other) in names {
        directives.extend(["--rename-command", name, other]);
    }
    let mut annulus = Server::annulus(2, &directives);
    let mut client = annulus.connect();
    for line in ["put gone 1", "wipe", "put k 1", "put second 2", "EXPIRE k 1000"] {
        assert!(!matches!(client.line(line), Value::Error(_)), "{line}");
    }
    let before = contents(&mut client);
    drop(client);
    assert!(annulus.stop().success());
    annulus.restart();
    assert_eq!(differ(&before, &contents(&mut annulus.connect()), "a server that was started again"), None);
    let log =
        logs(annulus.dir()).iter().map(|path| fs::read(path).expect("a log can be read")).collect::<Vec<_>>().concat();
    let log = String::from_utf8_lossy(&log).to_ascii_lowercase();
    assert!(log.contains("flushdb") && log.contains("pexpireat") && !log.contains("put"), "{log}");
}
