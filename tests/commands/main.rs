//! Commands by what a client sees, one module per family and one for what means no good; every row runs at 1 and at 4 shards
//! and in RESP2 and RESP3.
//!
//! `check(&["SET k v", "GET k"], "v")` runs the commands on empty servers and compares the last reply, shown as below, so that
//! internals can move. The servers are started by the first test that needs them, shared by all that run meanwhile, and go
//! away with the last.
//!
//! ```text
//!   bulk and simple strings    their text          nothing              (nil)
//!   integers                   their digits        arrays, sets         [a, b, [c]]
//!   errors                     -ERR …              maps                 {a: b} in RESP3, [a, b] in RESP2
//! ```
//!
//! Words of a row are separated by spaces; a word in double quotes may hold spaces and escapes as redis-cli takes them.

#[path = "../harness/mod.rs"]
mod harness;

mod acl;
mod bitmap;
mod blocking;
mod client_eviction;
mod cluster;
mod compression;
mod connection;
mod dump;
mod events;
mod eviction;
mod generic;
mod geo;
mod hash;
mod hostile;
mod hostile_payloads;
mod hyperloglog;
mod latency;
mod list;
mod long_values;
mod memory;
mod metrics;
mod monitor;
mod multi;
mod persistence;
mod pubsub;
mod seeing;
mod server;
mod set;
mod slowlog;
mod sort;
mod sorted_set;
mod stream;
mod string;
mod tracking;
mod transaction;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use harness::{Client, Server, Value};

/// Our server at both shard counts, with a connection in each protocol.
struct Servers {
    clients: Mutex<Vec<(usize, &'static str, Client)>>,
    /// They run as long as this value lives.
    _processes: Vec<Server>,
}

impl Servers {
    fn start() -> Servers {
        let mut clients = Vec::new();
        let mut processes = Vec::new();
        for shards in [1, 4] {
            let server = Server::annulus(shards, &["--enable-debug-command", "yes"]);
            clients.push((shards, "RESP2", server.connect()));
            clients.push((shards, "RESP3", server.connect_resp3()));
            processes.push(server);
        }
        Servers { clients: Mutex::new(clients), _processes: processes }
    }

    /// Those that another test is using now, or new ones.
    fn shared() -> Arc<Servers> {
        static SHARED: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Servers::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }
}

/// Runs the commands on empty servers and compares the reply to the last one.
#[track_caller]
fn check(commands: &[&str], expected: &str) {
    check_that(commands, &format!("{expected:?}"), |shown| shown == expected);
}

/// As [`check`], where the reply may be one of several; `what` says which.
#[track_caller]
fn check_that(commands: &[&str], what: &str, is_right: impl Fn(&str) -> bool) {
    let servers = Servers::shared();
    let mut wrong = Vec::new();
    let mut clients = servers.clients.lock().unwrap_or_else(PoisonError::into_inner);
    for (shards, protocol, client) in clients.iter_mut() {
        client.line("SELECT 0");
        assert_eq!(client.line("FLUSHALL").text(), "OK");
        let replies: Vec<String> = commands.iter().map(|command| show(&client.command(&words(command)))).collect();
        if !replies.last().is_some_and(|shown| is_right(shown)) {
            wrong.push(format!("{shards} shards, {protocol}: {replies:?}"));
        }
    }
    drop(clients);
    assert!(wrong.is_empty(), "{commands:?} should end in {what}:\n{}", wrong.join("\n"));
}

/// As the module's documentation says.
fn show(value: &Value) -> String {
    let list = |values: &[Value]| format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", "));
    match value {
        Value::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Value::Int(number) => number.to_string(),
        Value::Nil | Value::NilArray => "(nil)".to_owned(),
        Value::Array(values) | Value::Set(values) | Value::Push(values) => list(values),
        Value::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{}: {}", show(name), show(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.text(),
    }
}

/// Splits a row.
fn words(row: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = row.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => {}
            b'"' => {
                let mut word = Vec::new();
                loop {
                    match bytes.next().unwrap_or_else(|| panic!("an open quote in {row}")) {
                        b'"' => break,
                        b'\\' => match bytes.next() {
                            Some(b'r') => word.push(b'\r'),
                            Some(b'n') => word.push(b'\n'),
                            Some(b'0') => word.push(0),
                            Some(other) => word.push(other),
                            None => panic!("an open escape in {row}"),
                        },
                        other => word.push(other),
                    }
                }
                words.push(word);
            }
            first => {
                let mut word = vec![first];
                while let Some(next) = bytes.next_if(|byte| *byte != b' ') {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    words
}
