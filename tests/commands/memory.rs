//! MEMORY: STATS, DOCTOR, PURGE, MALLOC-STATS, by what they reply, and figures of INFO that must agree with each other.
//! USAGE is tested with the server family.

use super::harness::{Client, Server, Value};
use super::{check, check_that};

fn figures(client: &mut Client) -> Vec<(String, Value)> {
    let Value::Map(pairs) = client.line("MEMORY STATS") else { panic!("RESP3 has maps") };
    pairs.into_iter().map(|(name, value)| (name.text(), value)).collect()
}

fn figure(figures: &[(String, Value)], name: &str) -> i64 {
    match figures.iter().find(|(known, _)| known == name) {
        Some((_, Value::Int(number))) => *number,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn memory_stats_tell_what_the_keys_take_and_what_the_rest_does() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect_resp3();
        let before = figures(&mut client);
        assert!(!before.iter().any(|(name, _)| name.starts_with("db.")), "no database has a key");
        assert_eq!(figure(&before, "keys.count"), 0);
        let lines: String = (0..20_000).map(|n| format!("SET key:{n} {}\r\n", "v".repeat(100))).collect();
        client.send_raw(lines.as_bytes());
        (0..20_000).for_each(|_| assert_eq!(client.reply().text(), "OK"));
        client.line("SELECT 3");
        client.line("SET k v EX 1000");
        let after = figures(&mut client);
        assert_eq!(figure(&after, "keys.count"), 20_001);
        let grown = figure(&after, "dataset.bytes") - figure(&before, "dataset.bytes");
        assert!((2_400_000..7_000_000).contains(&grown), "{shards} shards: {grown} bytes more for 20,000 keys of 144");
        let total = figure(&after, "total.allocated");
        assert_eq!(total, figure(&after, "overhead.total") + figure(&after, "dataset.bytes"));
        assert!(figure(&after, "peak.allocated") >= total);
        assert!(figure(&after, "clients.normal") > 0);
        let (_, db) = after.iter().find(|(name, _)| name == "db.0").expect("database 0 has keys");
        let Value::Map(db) = db else { panic!("a map: {db}") };
        let Value::Int(table) = db[0].1 else { panic!("a number: {}", db[0].1) };
        assert!((20_000 * 8..20_000 * 20).contains(&table), "{table} bytes of tables");
        assert!(after.iter().any(|(name, _)| name == "db.3"));
    }
}

#[test]
fn memory_purge_and_malloc_stats_reach_the_allocator() {
    check(&["MEMORY PURGE"], "OK");
    check_that(&["MEMORY MALLOC-STATS"], "the allocator's report", |shown| shown.contains("Begin jemalloc statistics"));
    check_that(&["MEMORY DOCTOR"], "a diagnosis", |shown| shown.contains("too little data"));
    check_that(&["MEMORY HELP"], "a list of what there is", |shown| {
        shown.contains("MALLOC-STATS") && shown.contains("PURGE")
    });
    check(&["MEMORY STATS x"], "-ERR wrong number of arguments for 'memory|stats' command");
}

#[test]
fn memory_doctor_says_when_the_server_is_full() {
    let server = Server::annulus(2, &["--maxmemory", "1"]);
    let mut client = server.connect();
    client.line("SET k v");
    assert!(client.line("MEMORY DOCTOR").text().contains("Full: maxmemory"));
}

#[test]
fn what_is_deleted_is_given_back_to_the_kernel_by_a_purge() {
    let server = Server::annulus(1, &[]);
    let mut client = server.connect();
    let resident = |client: &mut Client| {
        let text = client.line("INFO memory").text();
        let field = text.lines().find_map(|line| line.strip_prefix("used_memory_rss:")).expect("INFO has it");
        field.parse::<u64>().expect("it is a number")
    };
    let value = "v".repeat(1000);
    let lines: String = (0..50_000).map(|n| format!("SET key:{n} {value}\r\n")).collect();
    client.send_raw(lines.as_bytes());
    (0..50_000).for_each(|_| assert_eq!(client.reply().text(), "OK"));
    let full = resident(&mut client);
    assert_eq!(client.line("FLUSHALL SYNC").text(), "OK");
    assert_eq!(client.line("MEMORY PURGE").text(), "OK");
    let empty = resident(&mut client);
    assert!(empty + (30 << 20) < full, "{full} bytes resident with 50 MB of data, {empty} without");
}
