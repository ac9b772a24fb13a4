//! MONITOR by what a watcher reads: every command of every client, in the order of each, and no secrets.
//! Lines are compared without their time and address; the same lines come from redis-server where it is installed.

use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Client, Server, Value};

/// A watcher's next line, without the time, and without the port.
fn line(watcher: &mut Client) -> String {
    let text = watcher.reply().text();
    let (time, rest) = text.split_once(' ').unwrap_or_else(|| panic!("no line: {text}"));
    let (secs, micros) = time.split_once('.').expect("seconds and microseconds");
    assert!(secs.parse::<u64>().is_ok_and(|secs| secs > 1_600_000_000) && micros.len() == 6, "{text}");
    let (place, words) = rest.split_once("] ").expect("an address");
    let (place, port) = place.rsplit_once(':').expect("a port");
    assert!(port.parse::<u16>().is_ok(), "{text}");
    format!("{place} {words}")
}

/// A script whose lines are the same everywhere.
const SCRIPT: &[&[&str]] = &[
    &["PING"],
    &["SET", "key", "va\"l\\ue\n\t\x07"],
    &["SELECT", "3"],
    &["get", "key"],
    &["MGET", "a", "b", "c", "d"],
    &["DEL", "a", "b", "c", "d"],
    &["NOSUCH", "x"],
    &["GET"],
    &["INCR", "key"],
    &["LPUSH", "key", ""],
    &["CONFIG", "SET", "maxclients", "5000"],
    &["CONFIG", "GET", "maxclients"],
    &["AUTH", "secret"],
    &["AUTH", "default", "secret"],
    &["HELLO", "2", "AUTH", "default", "secret", "SETNAME", "me"],
    &["CLIENT", "LIST"],
    &["CLIENT", "ID"],
    &["PUBLISH", "c", "m"],
    &["SUBSCRIBE", "c"],
    &["UNSUBSCRIBE"],
    &["BLPOP", "none", "0.01"],
    &["MULTI"],
    &["SET", "key", "v"],
    &["LPUSH", "list", "v"],
    &["EXEC"],
    // What is queued is shown by the EXEC that runs it, and not at all if none does.
    &["MULTI"],
    &["SET", "key", "discarded"],
    &["DISCARD"],
    &["MULTI"],
    &["SET", "key", "refused"],
    &["NOSUCH"],
    &["EXEC"],
    &["WATCH", "key"],
    &["SET", "key", "changed"],
    &["MULTI"],
    &["SET", "key", "dropped"],
    &["exec"],
    &["WATCH", "key", "other"],
    &["MULTI"],
    &["get", "key"],
    &["SELECT", "99"],
    &["SELECT", "5"],
    &["SET", "key", "w"],
    &["CONFIG", "GET", "port"],
    &["MGET", "a", "b", "c"],
    &["Exec"],
    &["EXEC"],
    &["RESET"],
    &["ECHO", "the-end"],
];

fn watched(server: &Server) -> Vec<String> {
    let mut watcher = server.connect();
    assert_eq!(watcher.line("MONITOR").text(), "OK");
    let mut client = server.connect();
    SCRIPT.iter().for_each(|argv| drop(client.command(argv)));
    let mut lines = Vec::new();
    while lines.last().is_none_or(|last: &String| !last.contains("the-end")) {
        lines.push(line(&mut watcher));
    }
    lines
}

#[test]
fn a_watcher_reads_what_a_watcher_of_redis_reads() {
    let ours: Vec<Vec<String>> = [1, 4].map(|shards| watched(&Server::annulus(shards, &[]))).into();
    assert_eq!(ours[0], ours[1]);
    assert!(ours[0].contains(&r#"[0 127.0.0.1 "SET" "key" "va\"l\\ue\n\t\a""#.to_owned()), "{ours:#?}");
    assert!(ours[0].iter().all(|line| !line.contains("secret")), "{ours:#?}");
    if let Some(oracle) = Server::redis(&[]) {
        assert_eq!(ours[0], watched(&oracle));
    }
}

#[test]
fn all_shards_come_in_one_stream_in_each_connections_order() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut watchers: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        for watcher in &mut watchers {
            assert_eq!(watcher.line("MONITOR").text(), "OK");
        }
        thread::scope(|scope| {
            for at in 0..4 {
                let mut client = server.connect();
                scope.spawn(move || {
                    for n in 0..200 {
                        client.send_raw(
                            format!("SET k{n} c{at}\r\nMSET a {n} b c{at} c 1 d 1\r\nECHO c{at}-{n}\r\n").as_bytes(),
                        );
                        (0..3).for_each(|_| drop(client.reply()));
                    }
                });
            }
        });
        for watcher in &mut watchers {
            let lines: Vec<String> = (0..4 * 600).map(|_| line(watcher)).collect();
            for at in 0..4 {
                let name = format!("c{at}");
                let own: Vec<&String> = lines.iter().filter(|line| line.contains(&name)).collect();
                let expected = (0..200).flat_map(|n| {
                    [
                        format!(r#"[0 127.0.0.1 "SET" "k{n}" "c{at}""#),
                        format!(r#"[0 127.0.0.1 "MSET" "a" "{n}" "b" "c{at}" "c" "1" "d" "1""#),
                        format!(r#"[0 127.0.0.1 "ECHO" "c{at}-{n}""#),
                    ]
                });
                assert!(own.iter().copied().eq(expected.collect::<Vec<_>>().iter()), "{shards} shards, client {at}");
            }
        }
    }
}

#[test]
fn a_watcher_goes_on_as_a_client_and_ends_with_reset() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut watcher = server.connect_resp3();
        let mut client = server.connect();
        assert_eq!(watcher.line("MONITOR").text(), "OK");
        assert!(client.line("CLIENT LIST").text().contains(" flags=O "));
        watcher.send(&["MONITOR"]);
        watcher.send(&["SET", "k", "v"]);
        // The second MONITOR is not answered; a reply from another shard may come behind the line about its command.
        let mut read = [watcher.reply(), watcher.reply()];
        read.sort_by_key(|value| value.text() != "OK");
        assert_eq!(read[0].text(), "OK");
        assert!(read[1].text().ends_with(r#"] "SET" "k" "v""#), "{}", read[1]);
        watcher.send(&["RESET"]);
        assert_eq!(watcher.reply().text(), "RESET");
        // Other shards may show what they ran before they heard of it.
        client.line("SET k w");
        watcher.send(&["ECHO", "here"]);
        while watcher.reply().text() != "here" {}
        client.line("SET k x");
        assert_eq!(watcher.line("GET k").text(), "x");
    }
}

#[test]
fn a_watcher_that_does_not_read_is_closed_and_the_server_goes_on() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--client-output-buffer-limit", "pubsub 1mb 512kb 60"]);
        let mut watcher = server.connect();
        assert_eq!(watcher.line("MONITOR").text(), "OK");
        let mut client = server.connect();
        let value = "x".repeat(100_000);
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.line("CLIENT LIST").text().contains(" flags=O ") {
            assert!(Instant::now() < deadline, "a watcher that does not read is closed");
            for _ in 0..20 {
                assert_eq!(client.command(&["SET", "k", &value]), Value::Simple(b"OK".to_vec()));
            }
        }
        assert!(watcher.is_closed());
        assert_eq!(client.command(&["STRLEN", "k"]), Value::Int(100_000));
    }
}
