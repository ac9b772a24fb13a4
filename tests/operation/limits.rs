//! What one client may take: limits that end by themselves, and storms that leave nothing behind. Limits that are about bytes on the wire
//! are tried by `tests/clients/hostile.py`; which test holds which published fault is told by `tests/hostile_rows.rs`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::harness::{Client, Server, Value};

/// A loaded machine may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.line("INFO everything").text();
    let line =
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_else(|| panic!("{field}"));
    line.parse().unwrap()
}

fn ok(client: &mut Client, line: &str) {
    assert_eq!(client.line(line).text(), "OK", "{line}");
}

/// A connection that takes little: the kernel keeps no more than it must for it.
fn slow(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_soft_limit_ends_by_itself_for_each_class() {
    for shards in [1, 3] {
        let server = Server::annulus(shards, &["--client-output-buffer-limit", "normal 0 1mb 1 pubsub 0 1mb 1"]);
        let mut admin = server.connect();
        assert_eq!(admin.line("SETRANGE big 30000000 x"), Value::Int(30_000_001));
        // It sends nothing more, and nobody sends anything to it.
        let mut reader = slow(&server);
        reader.write_all(b"GET big\r\n").unwrap();
        let mut listener = slow(&server);
        listener.write_all(b"SUBSCRIBE c\r\n").unwrap();
        until("it listens", || admin.line("PUBSUB NUMSUB c").to_string().contains("(integer) 1"));
        let message = "x".repeat(1 << 20);
        for _ in 0..16 {
            admin.command(&["PUBLISH", "c", &message]);
        }
        until("both are cut off", || info(&mut admin, "client_output_buffer_limit_disconnections") == 2);
        assert_eq!(info(&mut admin, "connected_clients"), 1);
        assert!(server.log().contains("1048576 are allowed"), "{}", server.log());
    }
}

#[test]
fn who_catches_up_within_the_time_of_a_soft_limit_stays() {
    let server = Server::annulus(2, &["--client-output-buffer-limit", "normal 0 1mb 3"]);
    let mut admin = server.connect();
    admin.line("SETRANGE big 20000000 x");
    let mut reader = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    reader.write_all(b"GET big\r\n").unwrap();
    let mut whole = vec![0; 11 + 20_000_001 + 2];
    reader.read_exact(&mut whole).unwrap();
    // Another one that was cut off says that the time is over.
    let mut other = slow(&server);
    other.write_all(b"GET big\r\n").unwrap();
    until("the other is cut off", || info(&mut admin, "client_output_buffer_limit_disconnections") == 1);
    reader.write_all(b"PING\r\n").unwrap();
    let mut pong = [0; 7];
    reader.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
}

#[test]
fn a_hard_limit_ends_at_once_for_each_class() {
    let server = Server::annulus(2, &["--client-output-buffer-limit", "normal 1mb 0 0 pubsub 2mb 0 0"]);
    let mut admin = server.connect();
    admin.line("SETRANGE big 30000000 x");
    let mut reader = slow(&server);
    reader.write_all(b"GET big\r\n").unwrap();
    until("the reader is cut off", || info(&mut admin, "client_output_buffer_limit_disconnections") == 1);
    let mut listener = slow(&server);
    listener.write_all(b"SUBSCRIBE c\r\n").unwrap();
    until("it listens", || admin.line("PUBSUB NUMSUB c").to_string().contains("(integer) 1"));
    let message = "x".repeat(1 << 20);
    until("the listener is cut off", || {
        admin.command(&["PUBLISH", "c", &message]);
        info(&mut admin, "client_output_buffer_limit_disconnections") == 2
    });
}

#[test]
fn what_multi_has_queued_counts_for_the_query_limit() {
    let server = Server::annulus(2, &["--client-query-buffer-limit", "1mb"]);
    let mut client = server.connect();
    ok(&mut client, "MULTI");
    let value = "x".repeat(100_000);
    let mut queued = 0;
    for _ in 0..20 {
        match client.try_command(&["SET", "k", &value]) {
            Some(reply) => assert_eq!(reply.text(), "QUEUED"),
            None => break,
        }
        queued += 1;
    }
    assert!((5..=10).contains(&queued), "{queued} commands of 100 kB were queued for a limit of 1 MiB");
    let mut admin = server.connect();
    assert_eq!(info(&mut admin, "client_query_buffer_limit_disconnections"), 1);
    assert_eq!(admin.line("EXISTS k"), Value::Int(0));
}

#[test]
fn idle_clients_go_and_those_who_listen_or_wait_stay() {
    let mut servers = vec![Server::annulus(3, &["--timeout", "1"])];
    servers.extend(Server::redis(&["--timeout", "1"]));
    for server in &servers {
        let (mut listener, mut monitor, mut blocked) = (server.connect(), server.connect(), server.connect());
        listener.line("SUBSCRIBE c");
        ok(&mut monitor, "MONITOR");
        blocked.send(&["BLPOP", "list", "0"]);
        for _ in 0..2 {
            let mut idle = server.connect();
            assert_eq!(idle.line("PING").text(), "PONG");
            assert!(idle.is_closed(), "an idle client is still connected");
        }
        let mut other = server.connect();
        assert_eq!(other.line("PUBLISH c x"), Value::Int(1));
        assert_eq!(other.line("RPUSH list x"), Value::Int(1));
        assert_eq!(listener.reply().to_string(), r#"["message", "c", "x"]"#);
        assert_eq!(blocked.reply().to_string(), r#"["list", "x"]"#);
        while !monitor.reply().text().contains("\"PING\"") {}
    }
}

#[test]
fn a_client_that_has_finished_sending_gets_its_replies() {
    let server = Server::annulus(3, &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"SET a 1\r\nSET b 2\r\nMGET a b\r\nPING\r\nGET hal").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert_eq!(replies, "+OK\r\n+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n+PONG\r\n");
}

/// Whether a keepalive timer runs for the server's end of this connection, by the kernel's table.
fn is_probed(stream: &TcpStream) -> bool {
    let (ours, theirs) = (stream.peer_addr().unwrap().port(), stream.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let row = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).find(|row| {
        row.len() > 5 && row[1].ends_with(&format!(":{ours:04X}")) && row[2].ends_with(&format!(":{theirs:04X}"))
    });
    row.expect("the connection is in the table")[5].starts_with("02:")
}

#[test]
fn silent_connections_are_probed_as_tcp_keepalive_says() {
    let server = Server::annulus(2, &["--tcp-keepalive", "100"]);
    let connect = || {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        stream
    };
    let before = connect();
    until("its keepalive timer runs", || is_probed(&before));
    ok(&mut server.connect(), "CONFIG SET tcp-keepalive 0");
    let after = connect();
    until("only data is timed, then nothing", || !is_probed(&after));
    assert!(is_probed(&before), "who is in keeps what it came in with");
}

#[test]
fn cve_2025_48367_tens_of_thousands_of_connects_leave_nothing_behind() {
    let server = Server::annulus(2, &[]);
    let mut admin = server.connect();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let port = server.port();
            std::thread::spawn(move || {
                let mut connected = 0;
                for round in 0..5000 {
                    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                    connected += 1;
                    // Without a trace in the kernel's tables: a reset instead of an orderly end.
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    if (round + number) % 3 == 0 {
                        // It may have been reset already.
                        let _ = stream.write_all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n");
                    }
                }
                connected
            })
        })
        .collect();
    let (mut served, mut connected) = (0, 0);
    while threads.iter().any(|thread| !thread.is_finished()) {
        assert_eq!(admin.line("PING").text(), "PONG");
        served += 1;
    }
    threads.into_iter().for_each(|thread| connected += thread.join().unwrap());
    // Those that were reset before anybody looked are not always handed over.
    let received = info(&mut admin, "total_connections_received") + info(&mut admin, "rejected_connections");
    println!("{connected} connected, {received} accepted, {served} PINGs meanwhile");
    assert!(served > 0 && received > 2000, "{connected} connected, {received} accepted");
    until("all are gone", || info(&mut admin, "connected_clients") == 1);
    assert_eq!(server.connect().line("PING").text(), "PONG");
}

#[test]
fn cve_2026_23479_blocked_clients_that_are_killed_while_they_are_served_lose_nothing() {
    let server = Server::annulus(2, &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = server.connect();
                    client.try_command(&["BLPOP", &format!("other-{number}"), "jobs", "0.05"]);
                }
            });
        }
        let mut admin = server.connect();
        for _ in 0..300 {
            admin.line("RPUSH jobs a b c");
            admin.line("CLIENT KILL TYPE normal SKIPME yes");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.connect().line("PING").text(), "PONG");
}

/// A list that is moved onto itself, and between two shards, while those who move it are killed.
#[test]
fn redis_15594_elements_that_go_round_under_kills_are_all_there() {
    let server = Server::annulus(3, &[]);
    let mut admin = server.connect();
    for n in 0..50 {
        admin.line(&format!("RPUSH a {n}"));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (from, to) in [("a", "a"), ("a", "b"), ("b", "c"), ("c", "a")] {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = server.connect();
                    for _ in 0..20 {
                        if client.try_command(&["BLMOVE", from, to, "LEFT", "RIGHT", "0.05"]).is_none() {
                            break;
                        }
                    }
                }
            });
        }
        for _ in 0..200 {
            admin.line("CLIENT KILL TYPE normal SKIPME yes");
            admin.line("PING");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut all: Vec<String> = Vec::new();
    for list in ["a", "b", "c"] {
        let Value::Array(elements) = admin.line(&format!("LRANGE {list} 0 -1")) else { panic!("no list") };
        all.extend(elements.iter().map(Value::text));
    }
    all.sort_by_key(|element| element.parse::<u32>().unwrap());
    assert_eq!(all, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn cve_2022_31144_xautoclaim_takes_any_count_and_passes_over_deleted_entries() {
    let mut servers = vec![Server::annulus(2, &[])];
    servers.extend(Server::redis(&[]));
    let mut replies: Vec<Vec<String>> = Vec::new();
    for server in &servers {
        let mut client = server.connect();
        for id in 1..=20 {
            client.line(&format!("XADD s {id}-0 f v"));
        }
        client.line("XGROUP CREATE s g 0");
        client.line("XREADGROUP GROUP g a STREAMS s >");
        client.line("XDEL s 3-0 4-0 20-0");
        let counts = ["0", "-1", "1", "2147483648", "576460752303423488", "9223372036854775807"];
        let asked =
            counts.iter().map(|count| client.line(&format!("XAUTOCLAIM s g b 0 0 COUNT {count} JUSTID")).to_string());
        replies.push(asked.collect());
    }
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "{replies:#?}");
}

#[test]
fn redis_15669_a_slot_out_of_range_in_a_snapshot_harms_nobody() {
    for slot in [16_383u16, 16_384, 0x3fff, 0x7fff] {
        let dir = std::env::temp_dir().join(format!("annulus-slot-{}-{slot}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // Opcode 244: slot, its size, its keys that expire; then one string key, the end, and no checksum.
        let mut file = b"REDIS0012\xfe\x00\xf4\x80\x00\x00".to_vec();
        file.extend_from_slice(&slot.to_be_bytes());
        file.extend_from_slice(b"\x01\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0");
        std::fs::write(dir.join("dump.rdb"), file).unwrap();
        let port = super::harness::free_port();
        let mut process = std::process::Command::new(super::harness::annulus_bin())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--logfile", "log", "--dir"])
            .arg(&dir)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        let mut left = None;
        until("it serves or refuses", || {
            left = process.try_wait().unwrap();
            left.is_some() || log().contains("Ready to accept connections")
        });
        let _ = process.kill();
        let _ = process.wait();
        let log = log();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(!log.contains("CRASH REPORT"), "slot {slot}: {log}");
        assert!(left.is_none_or(|status| status.code() == Some(1)), "slot {slot}: {left:?}\n{log}");
    }
}
