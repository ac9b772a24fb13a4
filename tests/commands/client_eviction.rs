//! `maxmemory-clients` by what clients see: the largest are closed, over all shards, until the others fit.
//! Every case has servers of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::harness::{Client, Server, Value, until};

const MIB: usize = 1 << 20;

fn on(case: impl Fn(&Server)) {
    for shards in [1, 4] {
        println!("{shards} shards");
        case(&Server::annulus(shards, &[]));
    }
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.line("INFO everything").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).parse().expect("it is a number")
}

fn names(client: &mut Client) -> Vec<String> {
    let text = client.line("CLIENT LIST").text();
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("name=")).map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names
}

/// A client with half a command of this size in its input.
fn half_a_command(server: &Server, name: &str, bytes: usize) -> Client {
    let mut client = server.connect();
    assert_eq!(client.line(&format!("CLIENT SETNAME {name}")).text(), "OK");
    client.send_raw(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 2 * bytes).as_bytes());
    client.send_raw(&vec![b'x'; bytes]);
    client
}

#[test]
fn the_largest_clients_go_and_the_others_stay() {
    on(|server| {
        let mut client = server.connect();
        let mut kept: Vec<Client> = (1..=3).map(|n| half_a_command(server, &format!("small{n}"), 100_000)).collect();
        let mut gone: Vec<Client> = (1..=4).map(|n| half_a_command(server, &format!("large{n}"), 3 * MIB)).collect();
        until("all of it has arrived", || info(&mut client, "mem_clients_normal") > 12 * MIB as u64);
        assert_eq!(client.line("CONFIG SET maxmemory-clients 2mb").text(), "OK");
        until("the large ones go", || names(&mut client).iter().all(|name| name.starts_with("small")));
        assert_eq!(names(&mut client), ["small1", "small2", "small3"]);
        assert!(gone.iter_mut().all(Client::is_closed));
        assert_eq!(info(&mut client, "evicted_clients"), 4);
        assert!(info(&mut client, "mem_clients_normal") < 2 * MIB as u64);
        // They go on where they were.
        for small in &mut kept {
            small.send_raw(&vec![b'x'; 100_000]);
            small.send_raw(b"\r\n");
            assert_eq!(small.reply().text(), "OK");
        }
    });
}

#[test]
fn queued_commands_and_unread_replies_count() {
    on(|server| {
        let mut client = server.connect();
        let value = "v".repeat(MIB);
        client.command(&["SET", "{a}value", &value]);
        assert_eq!(client.line("CONFIG SET maxmemory-clients 8mb").text(), "OK");
        let mut queues = server.connect();
        queues.line("MULTI");
        for _ in 0..20 {
            // It is closed somewhere on the way.
            let bytes = super::harness::resp::encode(&["SET", "k", &value]);
            if try_send(&mut queues, &bytes).is_err() {
                break;
            }
        }
        until("who queues too much goes", || info(&mut client, "evicted_clients") == 1);
        let mut reads = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
        // Nothing is read; a snapshot of the value would be shared, what GETRANGE makes is not.
        let line = format!("GETRANGE {{a}}value 0 {}\r\n", MIB - 2).repeat(64);
        reads.write_all(line.as_bytes()).expect("it is small");
        until("who does not read goes", || info(&mut client, "evicted_clients") == 2);
        let mut rest = Vec::new();
        // How it ends is the kernel's to say.
        let _ = reads.read_to_end(&mut rest);
        assert!(rest.len() < 64 * MIB);
    });
}

fn try_send(client: &mut Client, bytes: &[u8]) -> std::io::Result<()> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.send_raw(bytes)))
        .map_err(|_| std::io::Error::other("closed"))
}

#[test]
fn who_asks_to_stay_stays_and_counts() {
    on(|server| {
        let mut client = server.connect();
        assert_eq!(client.line("CLIENT NO-EVICT ON").text(), "OK");
        let mut stays = server.connect();
        assert_eq!(stays.line("CLIENT NO-EVICT ON").text(), "OK");
        assert_eq!(stays.line("CLIENT SETNAME stays").text(), "OK");
        stays.send_raw(format!("*2\r\n$4\r\nECHO\r\n${}\r\n", 2 * MIB).as_bytes());
        stays.send_raw(&vec![b'x'; MIB]);
        let mut goes = half_a_command(server, "goes", 200_000);
        until("all of it has arrived", || info(&mut client, "mem_clients_normal") > MIB as u64);
        assert_eq!(client.line("CONFIG SET maxmemory-clients 1mb").text(), "OK");
        assert!(goes.is_closed(), "what stays leaves no room for it");
        until("it is not listed", || names(&mut client) == ["stays"]);
        stays.send_raw(&vec![b'x'; MIB]);
        stays.send_raw(b"\r\n");
        assert_eq!(stays.reply().text().len(), 2 * MIB);
        assert_eq!(info(&mut client, "evicted_clients"), 1);
    });
}

#[test]
fn a_share_of_maxmemory_is_a_limit() {
    on(|server| {
        let mut client = server.connect();
        let mut goes = half_a_command(server, "goes", 8 * MIB);
        until("it has arrived", || info(&mut client, "mem_clients_normal") > 8 * MIB as u64);
        assert_eq!(client.line("CONFIG SET maxmemory-clients 5%").text(), "OK");
        assert_eq!(client.line("CONFIG GET maxmemory-clients").to_string(), "[\"maxmemory-clients\", \"5%\"]");
        thread::sleep(Duration::from_millis(50));
        assert_eq!(names(&mut client), ["goes"], "without maxmemory there is nothing to take a share of");
        assert_eq!(client.line("CONFIG SET maxmemory 100mb").text(), "OK");
        assert!(goes.is_closed());
    });
}

/// Tells the threads that it lends itself to that it is over, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends lines over a connection of their own, and waits for something to come back; it may be closed before, between or behind.
fn send(port: u16, bytes: &[u8], wait: Duration) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let _ = stream.write_all(bytes);
    let _ = stream.set_read_timeout(Some(wait));
    let _ = stream.read(&mut [0; 512]);
}

/// Clients wait for data with much in their input behind it, are closed to save memory, are killed and are served, all at once.
#[test]
fn clients_that_wait_for_data_are_closed_safely_in_the_middle_of_everything() {
    const ROUNDS: usize = 40;
    on(|server| {
        let port = server.port();
        let mut client = server.connect();
        assert_eq!(client.line("CLIENT NO-EVICT ON").text(), "OK");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let ends = Ends(&done);
            for waiter in 0..4 {
                let done = &done;
                scope.spawn(move || {
                    let mut round = 0;
                    while !done.load(Ordering::Relaxed) {
                        round += 1;
                        let command = match (waiter + round) % 4 {
                            0 => "BLPOP a b c d 0\r\n",
                            1 => "BLMOVE a b LEFT RIGHT 0\r\n",
                            2 => "BLMPOP 0 4 d c b a LEFT\r\n",
                            _ => "BZPOPMIN za zb zc 0\r\n",
                        };
                        send(port, &[command.as_bytes(), &[b'x'; 60_000]].concat(), Duration::from_millis(30));
                    }
                });
            }
            for round in 0..ROUNDS {
                let limit = if round % 2 == 0 { "130kb" } else { "0" };
                assert_eq!(client.line(&format!("CONFIG SET maxmemory-clients {limit}")).text(), "OK");
                let pushes = ["a", "b", "c", "d"].map(|key| format!("RPUSH {key} {round}\r\n")).concat();
                send(port, format!("{pushes}ZADD zb {round} {round}\r\n").as_bytes(), Duration::from_millis(30));
                if round % 3 == 0 {
                    client.line("CLIENT KILL TYPE normal SKIPME yes");
                }
                thread::sleep(Duration::from_millis(15));
            }
            drop(ends);
        });
        assert!(info(&mut client, "evicted_clients") > 0);
        until("nobody waits any more", || info(&mut client, "blocked_clients") == 0);
        until("the others have gone", || info(&mut client, "connected_clients") == 1);
        assert_eq!(client.line("CONFIG SET maxmemory-clients 0").text(), "OK");
        for key in ["a", "b", "c", "d"] {
            let len = client.line(&format!("LLEN {key}")).to_string();
            let all = client.line(&format!("LRANGE {key} 0 -1"));
            let Value::Array(all) = all else { panic!("a list: {all}") };
            assert_eq!(len, format!("(integer) {}", all.len()));
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}
