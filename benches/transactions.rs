//! Commands over several keys and transactions, beside redis-server: rates, CPU per operation, what neighbours see, fairness.
//!
//! ```text
//!   cargo bench --bench transactions                   5 rounds, some minutes, Markdown on standard output
//!   cargo bench --bench transactions -- --quick        one short round: a first look, not a measurement
//!   cargo bench --bench transactions -- --shards 4     (default: 2); under `taskset -c 0,1` servers and load share two cores
//! ```
//!
//! Each round starts a fresh server of each side in turn, and gives it the same load. The load of most rows is one thread that goes
//! around 50 connections: it reads the reply that is due and sends the next request, so that 49 others are always under way, at two
//! system calls for each. Requests are made beforehand; replies have a known length. Fairness needs clients that compete, so there
//! each is a thread. CPU per operation is that of all the server's threads.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::base::rng::Rng;
use harness::{Server, resp};

const CLIENTS: usize = 50;
const KEYS: u64 = 100_000;
const VALUE: &str = "value of 16 byte";
/// Different requests of each load: enough that no cache has all their keys.
const REQUESTS: usize = 8192;

/// A load: its name, a maker of requests, the length of every reply, and the bounds that it should keep.
struct Load {
    name: &'static str,
    request: fn(&mut Rng) -> Vec<u8>,
    reply_bytes: usize,
    target: &'static str,
}

const TARGET: &str = "rate ≥ 1, CPU ≤ 1.5";
const EXEC_OF_4_BYTES: usize = "+OK\r\n".len() + 4 * "+QUEUED\r\n".len() + "*4\r\n".len() + 4 * "+OK\r\n".len();
const VALUE_BYTES: usize = "$16\r\n".len() + VALUE.len() + 2;

const LOADS: &[Load] = &[
    Load { name: "MSET of 3", request: |rng| mset(rng, 3), reply_bytes: 5, target: TARGET },
    Load { name: "MSET of 30", request: |rng| mset(rng, 30), reply_bytes: 5, target: TARGET },
    Load { name: "MGET of 3", request: |rng| mget(rng, 3), reply_bytes: 4 + 3 * VALUE_BYTES, target: TARGET },
    Load { name: "MGET of 30", request: |rng| mget(rng, 30), reply_bytes: 5 + 30 * VALUE_BYTES, target: TARGET },
    Load {
        name: "EXEC of 4 random SETs",
        request: |rng| exec_of_sets(&[(); 4].map(|()| key(rng))),
        reply_bytes: EXEC_OF_4_BYTES,
        target: TARGET,
    },
    Load {
        name: "EXEC of 4 SETs under one hashtag",
        request: |rng| {
            let tag = rng.below(KEYS / 4);
            exec_of_sets(&[0, 1, 2, 3].map(|n| format!("{{tag:{tag}}}:{n}")))
        },
        reply_bytes: EXEC_OF_4_BYTES,
        target: TARGET,
    },
];

/// All clients on the same four keys, in any order.
fn hot(rng: &mut Rng) -> Vec<u8> {
    let mut keys = [0, 1, 2, 3].map(|n| format!("hot:{n}"));
    rng.shuffle(&mut keys);
    exec_of_sets(&keys)
}

fn key(rng: &mut Rng) -> String {
    format!("key:{:012}", rng.below(KEYS))
}

fn mset(rng: &mut Rng, count: usize) -> Vec<u8> {
    let mut argv = vec!["MSET".to_owned()];
    for _ in 0..count {
        argv.extend([key(rng), VALUE.to_owned()]);
    }
    resp::encode(&argv)
}

fn mget(rng: &mut Rng, count: usize) -> Vec<u8> {
    let keys = (0..count).map(|_| key(rng));
    resp::encode(&std::iter::once("MGET".to_owned()).chain(keys).collect::<Vec<_>>())
}

fn exec_of_sets<S: AsRef<str>>(keys: &[S]) -> Vec<u8> {
    let mut bytes = resp::encode(&["MULTI"]);
    for key in keys {
        bytes.extend(resp::encode(&["SET", key.as_ref(), VALUE]));
    }
    bytes.extend(resp::encode(&["EXEC"]));
    bytes
}

/// One connection with a request under way, or none.
struct Connection {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl Connection {
    fn new(server: &Server, reply_bytes: usize) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        Connection { stream, reply: vec![0; reply_bytes] }
    }

    fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("the server reads");
    }

    /// A reply of another length than expected is an error, which is shorter: then this times out.
    fn receive(&mut self) {
        if let Err(error) = self.stream.read_exact(&mut self.reply) {
            panic!("{error}: {}", self.reply.escape_ascii());
        }
        assert!(!self.reply.contains(&b'-'), "{}", self.reply.escape_ascii());
    }
}

fn requests(make: fn(&mut Rng) -> Vec<u8>, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::seed(seed);
    (0..REQUESTS).map(|_| make(&mut rng)).collect()
}

/// One thread around all connections: operations, and the seconds they took.
fn go_around(server: &Server, load: &Load, duration: Duration) -> (u64, f64) {
    let requests = requests(load.request, 1);
    let mut connections: Vec<Connection> = (0..CLIENTS).map(|_| Connection::new(server, load.reply_bytes)).collect();
    let mut next = requests.iter().cycle();
    let mut send = |connection: &mut Connection| connection.send(next.next().expect("it is endless"));
    connections.iter_mut().for_each(&mut send);
    let began = Instant::now();
    let mut operations = 0;
    while began.elapsed() < duration {
        for connection in &mut connections {
            connection.receive();
            send(connection);
        }
        operations += CLIENTS as u64;
    }
    let took = began.elapsed().as_secs_f64();
    connections.iter_mut().for_each(Connection::receive);
    (operations, took)
}

/// A thread for each client: what each of them got done.
fn compete(server: &Server, make: fn(&mut Rng) -> Vec<u8>, duration: Duration) -> Vec<u64> {
    let (start, over) = (Barrier::new(CLIENTS + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let client = |number| {
            let (start, over) = (&start, &over);
            scope.spawn(move || {
                let requests = requests(make, number);
                let mut connection = Connection::new(server, EXEC_OF_4_BYTES);
                start.wait();
                let mut done = 0;
                for request in requests.iter().cycle() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    connection.send(request);
                    connection.receive();
                    done += 1;
                }
                done
            })
        };
        let clients: Vec<_> = (0..CLIENTS as u64).map(client).collect();
        start.wait();
        thread::sleep(duration);
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|thread| thread.join().expect("a client ends")).collect()
    })
}

/// Microseconds at 50 and 99 percent of GETs by one client, alone or beside a client whose EXEC sets many other keys.
fn neighbour(server: &Server, long_exec: Option<usize>, duration: Duration) -> (f64, f64) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        if let Some(commands) = long_exec {
            let over = &over;
            scope.spawn(move || {
                let keys: Vec<String> = (0..commands).map(|n| format!("long:{n}")).collect();
                let request = exec_of_sets(&keys);
                let replies = "+OK\r\n".len() + commands * ("+QUEUED\r\n".len() + "+OK\r\n".len());
                let mut connection = Connection::new(server, replies + format!("*{commands}\r\n").len());
                while !over.load(Ordering::Relaxed) {
                    connection.send(&request);
                    connection.receive();
                    // The machine is not to be busy with it alone.
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let mut connection = Connection::new(server, VALUE_BYTES);
        let requests = requests(|rng| resp::encode(&["GET".to_owned(), key(rng)]), 2);
        let mut times = Vec::new();
        let began = Instant::now();
        for request in requests.iter().cycle() {
            let sent = Instant::now();
            connection.send(request);
            connection.receive();
            times.push(sent.elapsed());
            if began.elapsed() > duration {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        over.store(true, Ordering::Relaxed);
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        (at(50), at(99))
    })
}

/// Every key is there before MGET asks for it.
fn fill(server: &Server) {
    let mut client = server.connect();
    for start in (0..KEYS).step_by(1000) {
        let pairs = (start..start + 1000).flat_map(|number| [format!("key:{number:012}"), VALUE.to_owned()]);
        let argv: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
        assert_eq!(client.command(&argv).text(), "OK");
    }
}

/// CPU time of all threads of the server so far, in seconds.
fn cpu_seconds(server: &Server) -> f64 {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let spent = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1e9
}

/// Samples by row, measure and side; rows in the order in which they came.
#[derive(Default)]
struct Table {
    rows: Vec<(String, String)>,
    samples: BTreeMap<(String, String), BTreeMap<&'static str, Vec<f64>>>,
}

impl Table {
    fn add(&mut self, row: &str, measure: &str, side: &'static str, value: f64) {
        let at = (row.to_owned(), measure.to_owned());
        if !self.rows.contains(&at) {
            self.rows.push(at.clone());
        }
        self.samples.entry(at).or_default().entry(side).or_default().push(value);
    }

    fn show(&self) {
        println!(
            "| load | measure | annulus | redis-server | ratio | target | annulus, all rounds | redis-server, all rounds |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for at in &self.rows {
            let sides = &self.samples[at];
            let median = |side: &str| sides.get(side).map(|values| median(values));
            let (ours, theirs) = (median(OURS), median(THEIRS));
            let shown = |value: Option<f64>| value.map_or(String::new(), number);
            let ratio = ours.zip(theirs).map_or(String::new(), |(ours, theirs)| format!("**{:.2}**", ours / theirs));
            let all = |side: &str| {
                let values = sides.get(side).map_or(&[][..], Vec::as_slice);
                values.iter().map(|value| number(*value)).collect::<Vec<_>>().join(" / ")
            };
            let (row, measure) = at;
            let target = LOADS.iter().find(|load| load.name == row).map_or("", |load| load.target);
            println!(
                "| {row} | {measure} | {} | {} | {ratio} | {target} | {} | {} |",
                shown(ours),
                shown(theirs),
                all(OURS),
                all(THEIRS)
            );
        }
    }
}

const OURS: &str = "annulus";
const THEIRS: &str = "redis-server";

fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn measure(server: &Server, side: &'static str, duration: Duration, table: &mut Table) {
    fill(server);
    for load in LOADS {
        // Warm, and every tagged key is there.
        go_around(server, load, duration / 4);
        let before = cpu_seconds(server);
        let (operations, took) = go_around(server, load, duration);
        let cpu = cpu_seconds(server) - before;
        table.add(load.name, "kops/s", side, operations as f64 / took / 1e3);
        table.add(load.name, "CPU µs per operation", side, cpu / operations as f64 * 1e6);
    }
    let rate = |done: &[u64]| done.iter().sum::<u64>() as f64 / duration.as_secs_f64() / 1e3;
    let fairness = |done: &[u64]| {
        let (least, most) = (done.iter().min().expect("clients"), done.iter().max().expect("clients"));
        *least as f64 / *most as f64
    };
    let apart = compete(server, LOADS[4].request, duration);
    let together = compete(server, hot, duration);
    let row = "EXEC of 4 SETs by 50 threads";
    table.add(row, "random keys, kops/s", side, rate(&apart));
    table.add(row, "the same 4 keys, kops/s", side, rate(&together));
    table.add(row, "the same 4 keys over random keys (≥ 0.33)", side, rate(&together) / rate(&apart));
    table.add(row, "random keys, least over most of a client", side, fairness(&apart));
    table.add(row, "the same 4 keys, least over most of a client", side, fairness(&together));
    for (row, long_exec) in [("GET alone", None), ("GET beside EXEC of 1000 SETs of other keys", Some(1000))] {
        let (p50, p99) = neighbour(server, long_exec, duration);
        table.add(row, "p50 µs", side, p50);
        table.add(row, "p99 µs", side, p99);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let quick = args.iter().any(|arg| arg == "--quick");
    let shards = value("--shards").map_or(2, |text| text.parse().expect("--shards takes a number"));
    let rounds = value("--rounds").map_or(5, |text| text.parse().expect("--rounds takes a number"));
    let (rounds, duration) =
        if quick { (1, Duration::from_millis(300)) } else { (rounds, Duration::from_millis(2000)) };
    let mut table = Table::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // The order alternates, so that neither always runs on the warmer machine.
        let sides = if round % 2 == 0 { [OURS, THEIRS] } else { [THEIRS, OURS] };
        for side in sides {
            let server = if side == OURS { Some(Server::annulus(shards, &[])) } else { Server::redis(&[]) };
            if let Some(server) = server {
                measure(&server, side, duration, &mut table);
            }
        }
    }
    println!("{shards} shards, {CLIENTS} clients, {KEYS} keys, {rounds} rounds, medians\n");
    table.show();
}
