//! TLS clients that mean no good: whatever they send, the fault is theirs alone, and the memory they take is bounded.
//! Tests named `cve_…` are published faults of servers of this family, by number.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use annulus::base::rng::Rng;

use super::certificates::{End, TlsClient, until_closed};
use super::harness::{Value, resp::encode};
use super::{Secured, used_memory};

/// Opens a bare connection to the TLS port.
fn bare(secured: &Secured) -> TcpStream {
    TcpStream::connect(("127.0.0.1", secured.port)).expect("the server listens")
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn plain_text_on_the_tls_port_gets_an_alert() {
    for shards in [1, 2] {
        let secured = Secured::start("plain-text", shards, &[]);
        let mut neighbour = secured.connect();
        for text in ["*1\r\n$4\r\nPING\r\n", "PING\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\0\0\0\0\0\0\0\0"] {
            let mut socket = bare(&secured);
            socket.write_all(text.as_bytes()).unwrap();
            let answer = until_closed(&mut socket, SOON).expect("it is closed");
            assert_eq!(answer.first(), Some(&21), "{text:?} got {answer:?}, not an alert");
            assert_eq!(neighbour.line("PING").text(), "PONG");
        }
        assert!(secured.server.log().contains("Error accepting a client connection: "), "{}", secured.server.log());
    }
}

#[test]
fn garbage_ends_the_connection_it_came_on_and_no_other() {
    for shards in [1, 2] {
        let secured = Secured::start("garbage", shards, &[]);
        let seed = 7 + shards as u64;
        let mut rng = Rng::seed(seed);
        let config = secured.files.client_config(Some("a neighbour"));
        let mut neighbour = TlsClient::connect(secured.port, &config);
        for round in 0..100 {
            let mut noise = vec![0; 1 + rng.below(5000) as usize];
            rng.fill(&mut noise);
            if rng.chance(1, 2) {
                // The header of a record, so that it gets further; of a handshake, data, or an alert.
                let kind = *rng.pick(&[22, 23, 21, 20]);
                let header = [kind, 3, 3, (noise.len() >> 8) as u8, noise.len() as u8];
                noise.splice(..0, header);
            }
            if rng.chance(1, 2) {
                // In the middle of what was a good connection.
                let mut client = TlsClient::connect(secured.port, &config);
                assert_eq!(client.line("SET k v").text(), "OK");
                client.send_wire(&noise);
                client.send_wire(&[0; 20_000]);
                assert_ne!(client.end().0, End::Open, "seed {seed}, round {round}");
            } else {
                let mut socket = bare(&secured);
                // It may be closed in the middle of this.
                let _ = socket.write_all(&noise).and_then(|()| socket.write_all(&[0; 20_000]));
                assert!(until_closed(&mut socket, SOON).is_some(), "seed {seed}, round {round}: it stays open");
            }
            assert_eq!(neighbour.line("GET none"), Value::Nil, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn a_handshake_that_is_not_finished_is_ended() {
    for shards in [1, 2] {
        let secured = Secured::start("half-open", shards, &["--tls-handshake-timeout", "3"]);
        let config = secured.files.client_config(Some("never done"));
        let mut silent = bare(&secured);
        let mut half = bare(&secured);
        half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
        let mut good = TlsClient::connect(secured.port, &config);
        assert!(until_closed(&mut silent, SOON).is_some(), "who says nothing is cut off");
        assert!(until_closed(&mut half, SOON).is_some(), "who stops in the middle is cut off");
        assert_eq!(good.line("PING").text(), "PONG", "who was done in time stays");
        let log = secured.server.log();
        assert!(log.contains("Error accepting a client connection: the handshake took too long"), "{log}");
        // Closed, it does not count any more.
        let listed = secured.server.connect().line("CLIENT LIST").text();
        assert_eq!(listed.lines().count(), 2, "{listed}");
    }
}

#[test]
fn half_open_connections_take_little_memory_each() {
    let secured = Secured::start("half-open-memory", 2, &["--tls-handshake-timeout", "0"]);
    let mut watcher = secured.server.connect();
    let before = used_memory(&mut watcher);
    // A handshake message of 64 KiB is announced, and most of it comes.
    let mut hello = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    hello.resize(5 + 0x4000, 0);
    let sockets: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut socket = bare(&secured);
            socket.write_all(&hello).unwrap();
            socket
        })
        .collect();
    for _ in 0..20 {
        watcher.line("PING");
        std::thread::sleep(Duration::from_millis(20));
    }
    let each = used_memory(&mut watcher).saturating_sub(before) / sockets.len() as u64;
    assert!(each < 80_000, "{each} bytes for each connection");
    assert_eq!(secured.connect().line("PING").text(), "PONG");
}

#[test]
fn a_record_longer_than_tls_allows_is_refused() {
    let secured = Secured::start("huge-record", 1, &[]);
    let mut client = secured.connect();
    assert_eq!(client.line("PING").text(), "PONG");
    let mut record = vec![23, 3, 3, 0xff, 0xff];
    record.resize(70_000, 1);
    client.send_wire(&record);
    assert_ne!(client.end().0, End::Open);
    assert_eq!(secured.connect().line("PING").text(), "PONG");
}

/// In Redis a connection with plaintext that nobody had read yet stood in a list that outlived it.
#[test]
fn cve_2026_56684_killing_tls_clients_that_have_buffered_plaintext_hurts_nobody() {
    for shards in [1, 2] {
        let secured = Secured::start("killed", shards, &[]);
        let config = secured.files.client_config(Some("a victim"));
        let mut neighbour = TlsClient::connect(secured.port, &config);
        let mut killer = secured.server.connect();
        for round in 0..12 {
            let mut victims: Vec<TlsClient> = (0..8).map(|_| TlsClient::connect(secured.port, &config)).collect();
            let mut ids = Vec::new();
            for victim in &mut victims {
                let Value::Int(id) = victim.line("CLIENT ID") else { panic!("CLIENT ID is a number") };
                ids.push(id);
            }
            for (n, victim) in victims.iter_mut().enumerate() {
                // A command that waits, with more plaintext behind it than is taken in; or a kill among its own commands; or just a lot.
                let load = encode(&[b"SET".as_slice(), b"k", &vec![b'x'; 3000]]).repeat(20);
                match n % 3 {
                    0 => victim.send(&[b"BLPOP nothing 0\r\n".to_vec(), load].concat()),
                    1 => {
                        let kill = format!("CLIENT KILL ID {}\r\n", ids[(n + 1) % ids.len()]).into_bytes();
                        victim.send(&[load.clone(), kill, load].concat());
                    }
                    _ => victim.send(&load),
                }
            }
            for id in &ids {
                // Some have killed each other already.
                killer.line(&format!("CLIENT KILL ID {id}"));
            }
            for victim in &mut victims {
                assert_ne!(victim.end().0, End::Open, "round {round}");
            }
            assert_eq!(neighbour.line("PING").text(), "PONG", "round {round}");
        }
        let listed = killer.line("CLIENT LIST").text();
        assert_eq!(listed.lines().count(), 2, "{listed}");
    }
}

#[test]
fn who_is_one_too_many_is_not_answered_in_plain_text() {
    let secured = Secured::start("full", 1, &["--maxclients", "1"]);
    let first = secured.connect();
    let mut second = bare(&secured);
    let answer = until_closed(&mut second, SOON).expect("it is closed");
    assert_eq!(answer, b"", "nothing can be said before the handshake");
    drop(first);
}
