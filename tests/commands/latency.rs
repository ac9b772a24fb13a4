//! LATENCY: events above the threshold, joined over all shards. DEBUG SLEEP makes a command as slow as is wanted, and never faster.
//! Deliberately absent: how long anything else takes.

use super::check;
use super::harness::{Client, Server, Value};

fn rows(value: &Value) -> Vec<Vec<String>> {
    let row = |row: &Value| row.elements().expect("a row").iter().map(Value::text).collect();
    value.elements().expect("rows").iter().map(row).collect()
}

fn number(text: &str) -> u64 {
    text.trim_start_matches("(integer) ").parse().unwrap_or_else(|_| panic!("{text} is a number"))
}

fn watched(shards: usize) -> Server {
    let server = Server::annulus(shards, &["--enable-debug-command", "yes", "--latency-monitor-threshold", "100"]);
    let mut client = server.connect();
    for pause in ["0.15", "0.3"] {
        assert_eq!(client.line(&format!("DEBUG SLEEP {pause}")).text(), "OK");
    }
    server
}

#[test]
fn latency_latest_and_history_tell_of_slow_commands() {
    for shards in [1, 4] {
        let server = watched(shards);
        let mut client = server.connect();
        let latest = rows(&client.line("LATENCY LATEST"));
        let command = latest.iter().find(|row| row[0] == "command").expect("a slow command");
        assert_eq!(command.len(), 4, "{command:?}");
        assert!(number(&command[3]) >= 300, "the worst: {command:?}");
        let history = rows(&client.line("LATENCY HISTORY command"));
        assert!((1..=2).contains(&history.len()), "one or two seconds: {history:?}");
        assert!(history.iter().any(|row| number(&row[1]) >= 300), "{history:?}");
        assert_eq!(client.line("LATENCY HISTORY Command"), client.line("LATENCY HISTORY command"));
        assert_eq!(client.line("LATENCY HISTORY nope"), Value::Array(Vec::new()));
        // A shard's own loop was held up, too.
        assert!(latest.iter().any(|row| row[0] == "eventloop"), "{latest:?}");
    }
}

#[test]
fn latency_reset_counts_kinds_of_events_once() {
    for shards in [1, 4] {
        let server = watched(shards);
        let mut client = server.connect();
        let kinds = rows(&client.line("LATENCY LATEST")).len();
        assert_eq!(client.line("LATENCY RESET nope"), Value::Int(0));
        assert_eq!(client.line("LATENCY RESET COMMAND nope"), Value::Int(1));
        assert_eq!(client.line("LATENCY RESET"), Value::Int(kinds as i64 - 1));
        assert_eq!(client.line("LATENCY LATEST"), Value::Array(Vec::new()));
        assert_eq!(client.line("LATENCY GRAPH command").text(), "ERR No samples available for event 'command'");
    }
}

#[test]
fn latency_graph_and_doctor_speak_to_people() {
    check(&["LATENCY GRAPH nope"], "-ERR No samples available for event 'nope'");
    check(&["LATENCY GRAPH"], "-ERR wrong number of arguments for 'latency|graph' command");
    for shards in [1, 4] {
        let server = watched(shards);
        for client in &mut [server.connect(), server.connect_resp3()] {
            let graph = client.line("LATENCY GRAPH command").text();
            assert!(graph.trim_start_matches("txt:").starts_with("command: ") && graph.contains('#'), "{graph}");
            let doctor = client.line("LATENCY DOCTOR").text();
            assert!(doctor.contains("command: ") && doctor.contains("SLOWLOG GET"), "{doctor}");
        }
    }
    let server = Server::annulus(1, &[]);
    let mut client = server.connect();
    assert!(client.line("LATENCY DOCTOR").text().contains("latency-monitor-threshold"));
    client.line("CONFIG SET latency-monitor-threshold 100000");
    assert!(client.line("LATENCY DOCTOR").text().starts_with("All is well"));
}

#[test]
fn latency_histogram_is_that_of_all_shards() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect_resp3();
        (0..200).for_each(|n| drop(client.line(&format!("SET key{n} v"))));
        let Value::Map(commands) = client.line("LATENCY HISTOGRAM set") else { panic!("a map") };
        let Value::Map(figures) = &commands[0].1 else { panic!("a map") };
        assert_eq!(figures[0].1, Value::Int(200), "{shards} shards");
        let Value::Map(buckets) = &figures[1].1 else { panic!("a map") };
        assert_eq!(buckets.last().map(|(_, calls)| calls), Some(&Value::Int(200)));
    }
}

#[test]
fn keys_that_expire_are_an_event_only_when_that_takes_long() {
    let server = Server::annulus(1, &["--latency-monitor-threshold", "10000"]);
    let mut client: Client = server.connect();
    (0..100).for_each(|n| drop(client.line(&format!("SET key{n} v PX 1"))));
    while client.line("DBSIZE") != Value::Int(0) {}
    assert_eq!(client.line("LATENCY LATEST"), Value::Array(Vec::new()));
}
