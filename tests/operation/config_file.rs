//! The configuration file as it is read: by us and by a real redis-server, the same lines, and what is in force then. A row is one
//! start of each server. What is only ours (what errors say, the sample) is below.

use super::harness::{Client, Server, Value, annulus_bin, redis_bin};

/// A line, the directive to ask for, and what is in force; `None` if the server does not start with it.
const LINES: &[(&str, &str, Option<&str>)] = &[
    ("timeout 7", "timeout", Some("7")),
    ("TimeOut 7", "timeout", Some("7")),
    ("  timeout\t7  ", "timeout", Some("7")),
    ("timeout '7'", "timeout", Some("7")),
    ("timeout \"\\x37\"", "timeout", Some("7")),
    ("timeout 7 8", "timeout", None),
    ("timeout", "timeout", None),
    ("timeout x", "timeout", None),
    ("timeout -1", "timeout", None),
    ("timeout \"7", "timeout", None),
    ("timeout \"7\"8", "timeout", None),
    ("timeout 7 # no comment here", "timeout", None),
    ("nonsense 1", "timeout", None),
    ("timeout 1\ntimeout 2", "timeout", Some("2")),
    ("maxmemory 1", "maxmemory", Some("1")),
    ("maxmemory 1b", "maxmemory", Some("1")),
    ("maxmemory 1k", "maxmemory", Some("1000")),
    ("maxmemory 1kb", "maxmemory", Some("1024")),
    ("maxmemory 1M", "maxmemory", Some("1000000")),
    ("maxmemory 1mB", "maxmemory", Some("1048576")),
    ("maxmemory 1g", "maxmemory", Some("1000000000")),
    ("maxmemory 1GB", "maxmemory", Some("1073741824")),
    ("maxmemory 1tb", "maxmemory", None),
    ("maxmemory 1.5gb", "maxmemory", None),
    ("maxmemory-clients 5%", "maxmemory-clients", Some("5%")),
    ("maxmemory-clients 1mb", "maxmemory-clients", Some("1048576")),
    ("maxmemory-clients 101%", "maxmemory-clients", None),
    ("unixsocketperm 700", "unixsocketperm", Some("700")),
    ("unixsocketperm 999", "unixsocketperm", None),
    ("maxmemory-policy ALLKEYS-lru", "maxmemory-policy", Some("allkeys-lru")),
    ("maxmemory-policy lru", "maxmemory-policy", None),
    ("appendonly NO", "appendonly", Some("no")),
    ("appendonly maybe", "appendonly", None),
    ("save 1 2", "save", Some("1 2")),
    ("save 1 2\nsave 3 4", "save", Some("1 2 3 4")),
    ("save 1 2 3 4", "save", Some("1 2 3 4")),
    ("save \"1 2 3 4\"", "save", Some("1 2 3 4")),
    ("save 1 2\nsave \"\"", "save", Some("")),
    ("save \"\"\nsave 1 2", "save", Some("1 2")),
    ("save 1", "save", None),
    ("client-output-buffer-limit pubsub 1mb 2kb 3", "client-output-buffer-limit", Some(PUBSUB_LIMITED)),
    (
        "client-output-buffer-limit pubsub 5 5 5\nclient-output-buffer-limit pubsub 1mb 2kb 3",
        "client-output-buffer-limit",
        Some(PUBSUB_LIMITED),
    ),
    ("client-output-buffer-limit nobody 1 1 1", "client-output-buffer-limit", None),
    ("client-output-buffer-limit normal 1 1", "client-output-buffer-limit", None),
    ("requirepass \"a\\x62\\n\\\"c\"", "requirepass", Some("ab\n\"c")),
    ("requirepass 'a\\x62'", "requirepass", Some("a\\x62")),
    ("requirepass 'it\\'s'", "requirepass", Some("it's")),
    ("bind 127.0.0.1 -::1", "bind", Some("127.0.0.1 -::1")),
    ("slave-priority 5", "replica-priority", Some("5")),
    ("hash-max-ziplist-entries 5", "hash-max-listpack-entries", Some("5")),
    ("oom-score-adj-values 1 2 3", "oom-score-adj-values", Some("1 2 3")),
    ("oom-score-adj-values 1 2", "oom-score-adj-values", None),
    ("notify-keyspace-events KEA", "notify-keyspace-events", Some("AKE")),
    ("notify-keyspace-events q", "notify-keyspace-events", None),
    ("latency-tracking-info-percentiles 50.0 99", "latency-tracking-info-percentiles", Some("50 99")),
    ("shutdown-on-sigterm nosave now", "shutdown-on-sigterm", Some("nosave now")),
    ("rename-command CONFIG conf\nrename-command conf CONFIG", "timeout", Some("0")),
    ("include DIR/none.conf", "timeout", None),
    ("include DIR/none*.conf", "timeout", Some("0")),
    ("include DIR/part*.conf", "timeout", Some("2")),
    ("include part-1.conf", "timeout", Some("1")),
    ("include nested.conf", "timeout", Some("2")),
    ("include nested.conf\ntimeout 9", "timeout", Some("9")),
    ("timeout 9\ninclude nested.conf", "timeout", Some("2")),
    ("include part-1.conf part-2.conf", "timeout", None),
];

const PUBSUB_LIMITED: &str = "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 2048 3";

const HEAD: &str = "port PORT\nbind 127.0.0.1\ndir DIR\nsave \"\"\n";

fn ask(client: &mut Client, name: &str, text: &str) -> String {
    if text.contains("requirepass") {
        let password: &[u8] = match text {
            _ if text.contains("'a") => b"a\\x62",
            _ if text.contains("'it") => b"it's",
            _ => b"ab\n\"c",
        };
        assert_eq!(client.command(&[b"AUTH", password]).text(), "OK", "{text}");
    }
    match client.command(&["CONFIG", "GET", name]) {
        Value::Array(pair) if pair.len() == 2 => pair[1].text(),
        other => panic!("{name}: {other}"),
    }
}

/// What is in force with this text, or `None` if the server does not start with it.
fn started(program: &std::path::Path, text: &str, name: &str) -> Option<String> {
    // Points of `save` would add up with those of the head.
    let head = if text.starts_with("save") { HEAD.replace("save \"\"\n", "") } else { HEAD.to_owned() };
    let server = Server::with_file_and(program, &format!("{head}{text}\n"), |dir| {
        std::fs::write(dir.join("part-1.conf"), "timeout 1\n").unwrap();
        std::fs::write(dir.join("part-2.conf"), "timeout 2\n").unwrap();
        std::fs::write(dir.join("nested.conf"), "include part-1.conf\r\n\r\n# x\r\ninclude part-2.conf\r\n").unwrap();
    })?;
    Some(ask(&mut server.connect(), name, text))
}

#[test]
fn lines_of_a_file_mean_what_they_mean_to_redis() {
    let oracle = Server::redis(&[]).is_some();
    let mut wrong = Vec::new();
    for (text, name, expected) in LINES {
        let ours = started(&annulus_bin(), text, name);
        if ours.as_deref() != *expected {
            wrong.push(format!("{text:?}: ours {ours:?}, expected {expected:?}"));
        }
        let theirs = if oracle { started(&redis_bin(), text, name) } else { expected.map(str::to_owned) };
        if theirs.as_deref() != *expected {
            wrong.push(format!("{text:?}: redis {theirs:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Redis takes it for an empty list, `save` without words for no saving at all.
#[test]
fn a_list_without_words_is_taken_for_a_mistake() {
    for line in ["save", "client-output-buffer-limit", "bind"] {
        assert_eq!(started(&annulus_bin(), line, "timeout"), None, "{line}");
    }
    assert_eq!(started(&annulus_bin(), "save \"\"", "save"), Some(String::new()));
}

#[test]
fn a_wrong_line_is_told_with_file_line_and_what_is_allowed() {
    for (text, expected) in [
        ("port 1\n\nhz ten\n", "server.conf:3: 'hz' wants a number from 0 up, got 'ten'"),
        ("appendfsync sometimes\n", "server.conf:1: 'appendfsync' wants one of everysec, always, no, got 'sometimes'"),
        ("prot 1\n", "server.conf:1: 'prot' is not a directive; did you mean 'port'?"),
        ("include server.conf\n", "server.conf:1: files include each other more than 16 deep; is this a loop?"),
        ("requirepass a b\n", "server.conf:1: 'requirepass' wants one word (put quotes around blanks), got 2 words"),
    ] {
        let dir = std::env::temp_dir().join(format!("annulus-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("server.conf"), text).unwrap();
        let run = std::process::Command::new(annulus_bin()).arg("server.conf").current_dir(&dir).output().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(run.status.code(), Some(1), "{text}");
        assert_eq!(String::from_utf8_lossy(&run.stderr).trim_end(), expected, "{text}");
    }
}

#[test]
fn the_sample_starts_a_server() {
    let sample = std::process::Command::new(annulus_bin()).arg("--print-config").output().unwrap();
    let text = String::from_utf8(sample.stdout).unwrap();
    assert!(sample.status.success() && text.lines().count() > 500, "{text}");
    let server = Server::with_file(&annulus_bin(), &format!("{text}\nport PORT\nbind 127.0.0.1\ndir DIR\n"), &[]);
    assert_eq!(ask(&mut server.connect(), "timeout", ""), "0");
}
