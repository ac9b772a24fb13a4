//! The port for metrics and health, at 1 and 4 shards: what it tells, and what it makes of requests that are none.
//! Deliberately absent: whether Prometheus can read it; its own parser says so in tests/clients.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::harness::Server;
use super::harness::until;

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Sends bytes and reads what comes until the connection ends.
fn raw(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes timeouts");
    // It may be refused before all of it was sent.
    let _ = stream.write_all(bytes);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).expect("text")
}

fn get(port: u16, path: &str) -> (String, String) {
    let text = raw(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text} has a head and a body"));
    (head.lines().next().expect("a status").to_owned(), body.to_owned())
}

/// Our server with a port for metrics. Between finding a free one and opening it somebody may take it; then the next is tried.
fn with_metrics(shards: usize, directives: &[&str]) -> (Server, u16) {
    let port = free_port();
    let text = port.to_string();
    let all = [&["--metrics-port", &text, "--metrics-bind", "127.0.0.1"], directives].concat();
    (Server::annulus(shards, &all), port)
}

fn sample(body: &str, name: &str) -> f64 {
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {body}"))
}

#[test]
fn metrics_are_those_of_all_shards() {
    for shards in [1, 4] {
        let (server, port) = with_metrics(shards, &["--slowlog-log-slower-than", "0"]);
        let mut client = server.connect();
        (0..100).for_each(|n| drop(client.line(&format!("SET key{n} v"))));
        client.line("SET secret-key hush EX 1000");
        client.line("INCR secret-key");
        let (status, body) = get(port, "/metrics?x=1");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert_eq!(sample(&body, "redis_up"), 1.0);
        assert_eq!(sample(&body, "redis_connected_clients"), 1.0);
        assert_eq!(sample(&body, "redis_db_keys{db=\"db0\"}"), 101.0);
        assert_eq!(sample(&body, "redis_db_keys_expiring{db=\"db0\"}"), 1.0);
        assert_eq!(sample(&body, "redis_commands_total{cmd=\"set\"}"), 101.0);
        assert_eq!(sample(&body, "redis_commands_failed_calls_total{cmd=\"incr\"}"), 1.0);
        assert_eq!(sample(&body, "redis_errors_total{err=\"ERR\"}"), 1.0);
        assert_eq!(sample(&body, "redis_slowlog_length"), 102.0);
        assert_eq!(sample(&body, "redis_slowlog_last_id"), 101.0);
        let keys: f64 = (0..shards).map(|at| sample(&body, &format!("annulus_shard_keys{{shard=\"{at}\"}}"))).sum();
        assert_eq!(keys, 101.0);
        assert!(!body.contains("secret-key") && !body.contains("hush"));
    }
}

#[test]
fn health_says_whether_clients_are_served() {
    for shards in [1, 4] {
        let (server, port) = with_metrics(shards, &["--enable-protected-configs", "yes"]);
        assert_eq!(get(port, "/healthz"), ("HTTP/1.1 200 OK".into(), "ok\n".into()));
        assert_eq!(get(port, "/").0, "HTTP/1.1 404 Not Found");
        // A snapshot that cannot be written has writes refused, and that is said.
        let mut client = server.connect();
        client.line("SET k v");
        let folder = server.dir().join("gone");
        std::fs::create_dir(&folder).expect("the folder can be made");
        for (name, value) in [("save", "3600 1"), ("dir", folder.to_str().expect("a name"))] {
            assert_eq!(client.command(&["CONFIG", "SET", name, value]).text(), "OK");
        }
        std::fs::remove_dir(&folder).expect("it is empty");
        client.line("SAVE");
        until("writes are refused", || client.line("SET k v").text().starts_with("MISCONF"));
        let (status, body) = get(port, "/healthz");
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{shards} shards");
        assert!(body.starts_with("writes are refused: "), "{body}");
        assert_eq!(sample(&get(port, "/metrics").1, "redis_rdb_last_bgsave_status"), 0.0);
        assert_eq!(client.command(&["CONFIG", "SET", "dir", server.dir().to_str().expect("a name")]).text(), "OK");
        assert_eq!(client.line("SAVE").text(), "OK");
        until("writes are taken", || client.line("SET k v").text() == "OK");
        assert_eq!(get(port, "/healthz").0, "HTTP/1.1 200 OK");
    }
}

#[test]
fn hostile_requests_get_an_error_and_harm_nobody() {
    let (server, port) = with_metrics(4, &[]);
    let mut client = server.connect();
    for (bytes, status) in [
        (&b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"[..], "405"),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", "505"),
        (b"*1\r\n$4\r\nPING\r\n", "400"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00", "400"),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", "400"),
        (&[&b"GET /"[..], &[b'a'; 20_000]].concat(), "414"),
        (&[&b"GET / HTTP/1.1\r\nX: "[..], &[b'a'; 20_000]].concat(), "431"),
        (b"HEAD /healthz HTTP/1.0\r\n\r\n", "200"),
    ] {
        let answer = raw(port, bytes);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{:?} gave {answer:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(50)])
        );
        assert_eq!(client.line("PING").text(), "PONG");
    }
    // Many that say nothing: some are turned away, and those that go make room.
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("the port is open")).collect();
    assert_eq!(client.line("PING").text(), "PONG");
    drop(silent);
    until("there is room again", || raw(port, b"GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    let (server, port) = with_metrics(4, &[]);
    let mut client = server.connect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                for _ in 0..10 {
                    let (status, body) = get(port, "/metrics");
                    assert_eq!(status, "HTTP/1.1 200 OK");
                    assert!(body.ends_with('\n') && body.contains("redis_up 1"));
                }
            });
        }
        (0..500).for_each(|n| drop(client.line(&format!("SET key{n} v"))));
    });
}
