//! Servers that are killed in the middle of their work, and what they remember.
//!
//! Each client appends numbers to a list of its own and moves money between accounts that lie on all shards, in transactions. After each
//! kill: the money is all there, each list counts up without a hole, and with `appendfsync always` it has everything that was
//! acknowledged. Under the other policies the lists together are one cut: if a client saw another's number before it wrote, that is
//! there, too. The kills fall into rewrites, snapshots and loading as well.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use super::harness::{Server, Value, resp::encode};
use annulus::base::rng::Rng;

const ACCOUNTS: u64 = 12;
const MONEY: i64 = 12_000;
const CLIENTS: usize = 4;

/// A connection that may be cut at any time.
struct Line {
    reader: BufReader<TcpStream>,
}

impl Line {
    fn connect(port: u16) -> Option<Line> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        Some(Line { reader: BufReader::new(stream) })
    }

    /// Sends commands and reads so many lines of replies.
    fn ask(&mut self, commands: &[&[&str]], lines: usize) -> Option<Vec<String>> {
        let bytes: Vec<u8> = commands.iter().flat_map(|argv| encode(argv)).collect();
        self.reader.get_mut().write_all(&bytes).ok()?;
        let mut replies = Vec::new();
        for _ in 0..lines {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line).ok()?;
            if read == 0 || !line.ends_with('\n') {
                return None;
            }
            replies.push(line.trim_end().to_owned());
        }
        Some(replies)
    }
}

/// What one client does until its connection is cut. `written` is the last number that was acknowledged.
fn work(port: u16, client: usize, from: i64, seed: u64, written: &AtomicI64, stop: &AtomicBool) {
    let mut rng = Rng::seed(seed);
    let Some(mut line) = Line::connect(port) else { return };
    let list = format!("list:{client}");
    let mut number = from;
    while !stop.load(Ordering::Relaxed) {
        let (a, b) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
        let (a, b, sum) = (format!("account:{a}"), format!("account:{b}"), rng.below(50).to_string());
        let transfer: [&[&str]; 4] = [&["MULTI"], &["DECRBY", &a, &sum], &["INCRBY", &b, &sum], &["EXEC"]];
        let Some(replies) = line.ask(&transfer, 6) else { return };
        assert_eq!(replies[3], "*2", "{replies:?}");
        number += 1;
        let text = number.to_string();
        let Some(replies) = line.ask(&[&["RPUSH", &list, &text]], 1) else { return };
        assert!(replies[0].starts_with(':'), "{replies:?}");
        written.store(number, Ordering::SeqCst);
    }
}

fn integer(value: &Value) -> i64 {
    value.text().parse().expect("a number")
}

/// What every restart must find. Gives the length of each list.
fn check(server: &Server, acknowledged: Option<&[i64]>, what: &str) -> Vec<i64> {
    let mut client = server.connect();
    let mut sum = 0;
    for account in 0..ACCOUNTS {
        sum += integer(&client.line(&format!("GET account:{account}")));
    }
    assert_eq!(sum, MONEY, "{what}: money was lost or made");
    let mut lengths = Vec::new();
    for at in 0..CLIENTS {
        let list = client.line(&format!("LRANGE list:{at} 0 -1"));
        let numbers: Vec<i64> = list.elements().expect("an array").iter().map(integer).collect();
        let expected: Vec<i64> = (1..=numbers.len() as i64).collect();
        assert_eq!(numbers, expected, "{what}: list {at} has a hole");
        if let Some(acknowledged) = acknowledged {
            let missing = acknowledged[at] - numbers.len() as i64;
            assert!(missing <= 0, "{what}: the last {missing} numbers that were acknowledged to client {at} are gone");
        }
        lengths.push(numbers.len() as i64);
    }
    lengths
}

fn kill_again_and_again(policy: &str, rounds: usize) {
    let seed = std::env::var("ANNULUS_CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand);
    println!("ANNULUS_CRASH_SEED={seed}");
    let mut rng = Rng::seed(seed);
    let directives = ["--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-min-size", "20kb"];
    let mut server = Server::annulus(2, &directives);
    {
        let mut client = server.connect();
        for account in 0..ACCOUNTS {
            client.line(&format!("SET account:{account} {}", MONEY / ACCOUNTS as i64));
        }
        assert_eq!(client.line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
    }
    let mut lengths = vec![0; CLIENTS];
    for round in 0..rounds {
        let what = format!("{policy}, round {round}");
        let stop = Arc::new(AtomicBool::new(false));
        let written: Vec<Arc<AtomicI64>> = lengths.iter().map(|n| Arc::new(AtomicI64::new(*n))).collect();
        let port = server.port();
        let workers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, written, from) = (stop.clone(), written[client].clone(), lengths[client]);
                let seed = rng.next_u64();
                thread::spawn(move || work(port, client, from, seed, &written, &stop))
            })
            .collect();
        thread::sleep(Duration::from_millis(rng.below(400)));
        // What it is in the middle of when it dies.
        if let Some(mut line) = Line::connect(port) {
            match rng.below(4) {
                0 => drop(line.ask(&[&["BGREWRITEAOF"]], 1)),
                1 => drop(line.ask(&[&["BGSAVE"]], 1)),
                _ => {}
            }
        }
        thread::sleep(Duration::from_millis(rng.below(30)));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().expect("a client met something that it did not expect"));
        let acknowledged: Vec<i64> = written.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        if rng.below(3) == 0 {
            // It dies again before it is ready.
            server.start_and_kill(Duration::from_millis(rng.below(40)));
        }
        let shards = (1 + rng.below(3)).to_string();
        match rng.below(2) {
            0 => server.restart_with(&["--shards", &shards]),
            _ => server.restart(),
        }
        lengths = check(&server, (policy == "always").then_some(&acknowledged[..]), &what);
    }
    assert!(server.stop().success());
    server.restart();
    assert_eq!(check(&server, Some(&lengths), "after an orderly end"), lengths);
}

fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[test]
fn always_loses_nothing_that_was_acknowledged() {
    kill_again_and_again("always", 12);
}

#[test]
fn everysec_returns_to_one_cut() {
    kill_again_and_again("everysec", 12);
}

#[test]
fn no_returns_to_one_cut() {
    kill_again_and_again("no", 8);
}

#[test]
fn a_client_of_its_own_durability_loses_nothing() {
    let mut server = Server::annulus(2, &["--appendonly", "yes", "--appendfsync", "no"]);
    for round in 0..6 {
        let mut client = server.connect();
        assert_eq!(client.line("CLIENT DURABILITY always").text(), "OK");
        for n in 0..20 {
            assert_eq!(client.line(&format!("SET payment:{round}:{n} paid")).text(), "OK");
        }
        server.kill();
        server.restart();
        let mut client = server.connect();
        for n in 0..20 {
            let key = format!("payment:{round}:{n}");
            assert_eq!(client.line(&format!("GET {key}")).text(), "paid", "{key} was acknowledged and is gone");
        }
    }
}

#[test]
fn what_was_read_by_who_waits_is_still_there() {
    // Another client's write that nobody was promised anything about: who waits for the disk hears of it when it is safe.
    let mut server = Server::annulus(2, &["--appendonly", "yes", "--appendfsync", "no"]);
    for round in 0..6 {
        let (mut careless, mut careful) = (server.connect(), server.connect());
        assert_eq!(careful.line("CLIENT DURABILITY always").text(), "OK");
        let mut seen = Vec::new();
        for n in 0..20 {
            let key = format!("cache:{round}:{n}");
            assert_eq!(careless.line(&format!("SET {key} v")).text(), "OK");
            if careful.line(&format!("GET {key}")).text() == "v" {
                seen.push(key);
            }
        }
        assert_eq!(seen.len(), 20);
        server.kill();
        server.restart();
        let mut client = server.connect();
        for key in seen {
            assert_eq!(client.line(&format!("GET {key}")).text(), "v", "{key} was read and is gone");
        }
    }
}
