//! What one client waits for a reply while the server does something long, beside redis-server: prints Markdown.
//!
//! ```text
//!   cargo bench --bench latency                                all scenarios, about fifteen minutes, 8 GiB of memory
//!   cargo bench --bench latency -- --quick                     a first look: a tenth of the keys and of the time
//!   cargo bench --bench latency -- --only storm,values --ours  some scenarios (idle snapshot storm values growth), our side alone
//!   cargo bench --bench latency -- --into README.md            the tables replace those between the latency markers
//!   … -- --verbose --only growth --again                       the worst stalls, and growth in memory that the process has been given
//! ```
//!
//! ```text
//!   first core   the server; a calibrator that sleeps half a millisecond at a time
//!   second core  the load; the observer, one GET 100 µs after the last was answered; a calibrator
//! ```
//!
//! # Whose stall it is
//! A reply may be late because the server was busy, or because the server, the observer or both were not on their cores: another process,
//! an interrupt, the hypervisor. So beside each reply two more things are known. *CPU*: what the server's process has used between request
//! and reply, by its CPU clock, which stands while the server does not run. *Gaps*: for how long a calibrator, which has a real-time
//! priority and nothing to do, was not woken in time. What the server can have caused is at most the CPU time, and at most the reply's
//! time less the gaps: the less of both is called the server's own. It is an upper bound: page faults, system calls and whatever the
//! hypervisor takes without telling are in it.
//!
//! What the server says of itself, by `latency-monitor-threshold`, stands beside that; its clock is a wall clock and counts the gaps, too.

#![allow(unsafe_code, reason = "affinity, priority, and the CPU clock of another process")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulus::base::rng::Rng;
use harness::{Client, Server, resp};
use hdrhistogram::Histogram;

const VALUE: &str = "value of 16 byte";
/// The observer's key.
const OBSERVED: &str = "observed";
/// The observer waits so long before it asks again.
const OBSERVER_PAUSE: Duration = Duration::from_micros(100);
const CALIBRATOR_PERIOD: Duration = Duration::from_micros(500);
/// A calibrator that is so late has met a gap; less is what waking up takes.
const GAP_MIN: Duration = Duration::from_micros(200);
/// What is counted as a stall, and the threshold of the server's own monitor, milliseconds.
const STALL_MS: u64 = 2;
/// SETs in one piece of what a loader sends, and pieces that are under way.
const LOAD_BATCH: u64 = 100;
const LOAD_WINDOW: u64 = 2;
const CLIENTS: usize = 50;

// ---- the machine

#[derive(Clone, Copy)]
struct Cores {
    server: usize,
    load: usize,
}

impl Cores {
    /// The first two that this process may use, or twice the only one.
    fn of_this_process() -> Cores {
        // SAFETY: a set of CPUs is plain bits; the call fills as many of them as it is told that there are.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
            set
        };
        // SAFETY: the index is below the number of bits.
        let mut all = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) });
        let server = all.next().expect("a process runs somewhere");
        Cores { server, load: all.next().unwrap_or(server) }
    }
}

/// The calling thread, and what it starts from now on, runs there.
fn pin(cpu: usize) {
    // SAFETY: as above; the set is only read.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert_eq!(done, 0, "a thread can be pinned to a core of its process");
}

/// The calling thread is woken before any that has no such priority. False where that is not allowed.
fn be_first(priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters are only read. Zero is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}

/// The calling thread, and what it starts from now on, is preferred to other processes where that is allowed.
fn be_preferred() {
    // SAFETY: plain numbers. Zero is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -19) };
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let done = unsafe { libc::clock_gettime(id, &raw mut at) };
    assert_eq!(done, 0, "the clock is there");
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}

/// The CPU clock of all threads of a process: what clock_getcpuclockid(3) gives.
fn cpu_clock_of(pid: u32) -> libc::clockid_t {
    (!(pid as libc::clockid_t) << 3) | 2
}

// ---- the observer

/// Times in nanoseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are sound")
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// A reply that was late.
struct Late {
    from: Instant,
    took: Duration,
    cpu: Duration,
}

/// From when on, and for how long, a core did not do what it should have done.
struct Gap {
    from: Instant,
    length: Duration,
}

/// What was seen beside some work.
struct Seen {
    began: Instant,
    replies: Histogram<u64>,
    late: Vec<Late>,
    /// How late the calibrator of the server's core was.
    jitter: Histogram<u64>,
    gaps: Vec<Gap>,
}

impl Seen {
    /// What the server can have caused of a late reply: see the module.
    fn own(&self, late: &Late) -> Duration {
        let end = late.from + late.took;
        let overlap = |gap: &Gap| {
            let until = end.min(gap.from + gap.length);
            until.saturating_duration_since(gap.from.max(late.from))
        };
        let gaps: Duration = self.gaps.iter().map(overlap).sum();
        late.cpu.min(late.took.saturating_sub(gaps))
    }
}

/// Sleeps and looks whether it was woken in time.
fn calibrate(cpu: usize, over: &AtomicBool) -> (Histogram<u64>, Vec<Gap>) {
    pin(cpu);
    be_first(99);
    let (mut jitter, mut gaps) = (histogram(), Vec::new());
    let mut due = Instant::now() + CALIBRATOR_PERIOD;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let late = Instant::now().saturating_duration_since(due);
        record(&mut jitter, late);
        if late > GAP_MIN {
            gaps.push(Gap { from: due, length: late });
        }
        due = Instant::now() + CALIBRATOR_PERIOD;
    }
    (jitter, gaps)
}

/// One GET after the other.
fn ask(server: &Server, over: &AtomicBool) -> (Histogram<u64>, Vec<Late>) {
    let mut connection = Connection::new(server, "$16\r\n".len() + VALUE.len() + 2);
    let request = resp::encode(&["GET", OBSERVED]);
    let cpu_clock = cpu_clock_of(server.pid());
    let (mut replies, mut late) = (histogram(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let cpu = clock(cpu_clock);
        let from = Instant::now();
        connection.send(&request);
        connection.receive();
        let took = from.elapsed();
        record(&mut replies, took);
        if took > Duration::from_millis(STALL_MS) {
            late.push(Late { from, took, cpu: clock(cpu_clock) - cpu });
        }
        thread::sleep(OBSERVER_PAUSE);
    }
    (replies, late)
}

/// Runs some work beside the observer and the calibrators.
fn observe(server: &Server, cores: Cores, work: impl FnOnce()) -> Seen {
    assert_eq!(server.connect().command(&["SET", OBSERVED, VALUE]).text(), "OK");
    let (began, over) = (Instant::now(), AtomicBool::new(false));
    thread::scope(|scope| {
        let calibrators = [cores.server, cores.load].map(|cpu| {
            let over = &over;
            scope.spawn(move || calibrate(cpu, over))
        });
        let observer = scope.spawn(|| {
            be_first(50);
            ask(server, &over)
        });
        thread::sleep(Duration::from_millis(100));
        work();
        thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        let (replies, late) = observer.join().expect("the observer ends");
        let [(jitter, mut gaps), (_, more)] =
            calibrators.map(|calibrator| calibrator.join().expect("a calibrator ends"));
        // One second core gap within a first core gap would count twice; they are rare, and the bound stays one.
        gaps.extend(more.into_iter().filter(|_| cores.load != cores.server));
        Seen { began, replies, late, jitter, gaps }
    })
}

// ---- connections

/// One connection whose replies have a known length.
struct Connection {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl Connection {
    fn new(server: &Server, reply_bytes: usize) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
        Connection { stream, reply: vec![0; reply_bytes] }
    }

    fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("the server reads");
    }

    fn receive(&mut self) {
        if let Err(error) = self.stream.read_exact(&mut self.reply) {
            panic!("{error}: {}", self.reply.escape_ascii());
        }
        assert!(!self.reply.starts_with(b"-"), "{}", self.reply.escape_ascii());
    }
}

/// Sends pieces of requests, some at a time under way; each request has a reply of so many bytes.
fn pump(server: &Server, pieces: u64, reply_bytes: usize, mut piece: impl FnMut(u64, &mut Vec<u8>)) {
    let mut connection = Connection::new(server, reply_bytes);
    let mut bytes = Vec::new();
    for at in 0..pieces + LOAD_WINDOW {
        if at < pieces {
            bytes.clear();
            piece(at, &mut bytes);
            connection.send(&bytes);
        }
        if at >= LOAD_WINDOW {
            connection.receive();
        }
    }
}

/// Sets so many keys, from this number on; `more` are further arguments of each SET.
fn set_keys(server: &Server, from: u64, count: u64, mut more: impl FnMut() -> String) {
    pump(server, count / LOAD_BATCH, 5 * LOAD_BATCH as usize, |at, bytes| {
        for number in 0..LOAD_BATCH {
            let key = from + at * LOAD_BATCH + number;
            let more = more();
            if more.is_empty() {
                write!(bytes, "*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n$16\r\n{VALUE}\r\n")
            } else {
                let len = more.len();
                write!(
                    bytes,
                    "*5\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n$16\r\n{VALUE}\r\n$4\r\nPXAT\r\n${len}\r\n{more}\r\n"
                )
            }
            .expect("memory takes all");
        }
    });
}

/// GETs and SETs from many clients, one request under way for each, until it is said that it is over. `pause` between two rounds leaves
/// the server some room; without it, each reply is answered by the next request. Returns the times of all replies.
fn mixed_load(
    server: &Server,
    clients: usize,
    keys: u64,
    pause: Duration,
    mut is_over: impl FnMut() -> bool,
) -> Histogram<u64> {
    let mut rng = Rng::seed(1);
    let mut bytes = Vec::new();
    let mut times = histogram();
    // Reply lengths of both kinds of requests are known: 5 and 23 bytes; all keys are there.
    let mut next = |connection: &mut Connection, bytes: &mut Vec<u8>| {
        bytes.clear();
        let key = rng.below(keys);
        let reply = if rng.below(2) == 0 {
            write!(bytes, "*2\r\n$3\r\nGET\r\n$16\r\nkey:{key:012}\r\n").expect("memory takes all");
            "$16\r\n".len() + VALUE.len() + 2
        } else {
            write!(bytes, "*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n$16\r\n{VALUE}\r\n").expect("memory takes all");
            "+OK\r\n".len()
        };
        connection.reply.resize(reply, 0);
        connection.send(bytes);
        Instant::now()
    };
    let mut connections: Vec<Connection> = (0..clients).map(|_| Connection::new(server, 0)).collect();
    let mut sent: Vec<Instant> = connections.iter_mut().map(|connection| next(connection, &mut bytes)).collect();
    let mut polled: Vec<libc::pollfd> = connections
        .iter()
        .map(|connection| libc::pollfd { fd: connection.stream.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let mut over = false;
    let mut open = clients;
    while open > 0 {
        // SAFETY: the array is as long as it is said to be.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 10_000) };
        assert!(ready > 0, "no reply within ten seconds");
        for at in 0..clients {
            if polled[at].revents == 0 {
                continue;
            }
            connections[at].receive();
            record(&mut times, sent[at].elapsed());
            if over {
                polled[at].fd = -1;
                open -= 1;
            } else {
                sent[at] = next(&mut connections[at], &mut bytes);
            }
        }
        over = over || is_over();
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    times
}

fn value_of(server: &Server, section: &str, field: &str) -> String {
    let text = server.connect().command(&["INFO", section]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO {section} has no {field}:\n{text}")).trim().to_owned()
}

// ---- results

/// Rows of one table, in order.
#[derive(Default)]
struct Table {
    rows: Vec<String>,
}

fn us(nanos: u64) -> String {
    let us = nanos as f64 / 1e3;
    if us < 100.0 { format!("{us:.0} µs") } else { ms(Duration::from_nanos(nanos)) }
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

fn percentiles(times: &Histogram<u64>) -> String {
    let at = |share: f64| us(times.value_at_quantile(share));
    format!("{} | {} | {} | {}", at(0.5), at(0.99), at(0.999), us(times.max()))
}

const OURS: &str = "annulus";
const THEIRS: &str = "redis-server";

struct Run<'a> {
    server: &'a Server,
    side: &'static str,
    cores: Cores,
    options: &'a Options,
    tables: &'a mut BTreeMap<&'static str, Table>,
}

impl Run<'_> {
    /// A row of plain latencies.
    fn plain(&mut self, what: &str, times: &Histogram<u64>) {
        let row = format!("| {what} | {} | {} | {} |", self.side, percentiles(times), times.len());
        eprintln!("{row}");
        self.tables.entry("idle").or_default().rows.push(row);
    }

    /// A row of what the observer sees beside some work.
    fn beside(&mut self, table: &'static str, what: &str, work: impl FnOnce()) {
        let mut control = self.server.connect();
        control.command(&["LATENCY", "RESET"]);
        let seen = observe(self.server, self.cores, work);
        let own: Vec<Duration> = seen.late.iter().map(|late| seen.own(late)).collect();
        let stall = Duration::from_millis(STALL_MS);
        let stalls = own.iter().filter(|own| **own > stall).count();
        let longest = own.iter().max().map_or("–".to_owned(), |own| ms(*own));
        let row = format!(
            "| {what} | {} | {} | {} | {} | **{stalls}** | {longest} | {} | {} |",
            self.side,
            percentiles(&seen.replies),
            seen.replies.len(),
            seen.late.len(),
            monitored(&mut control),
            us(seen.jitter.max()),
        );
        eprintln!("{row}");
        if self.options.verbose {
            let mut late: Vec<_> = seen.late.iter().zip(&own).collect();
            late.sort_by_key(|(_, own)| std::cmp::Reverse(**own));
            for (late, own) in late.into_iter().take(30) {
                let after = late.from - seen.began;
                eprintln!("    after {}: {}, CPU {}, own {}", ms(after), ms(late.took), ms(late.cpu), ms(*own));
            }
        }
        self.tables.entry(table).or_default().rows.push(row);
    }
}

/// The worst of each event that the server's latency monitor has noted.
fn monitored(control: &mut Client) -> String {
    let latest = control.command(&["LATENCY", "LATEST"]);
    let events: Vec<String> = latest
        .elements()
        .unwrap_or_default()
        .iter()
        .filter_map(|event| {
            let fields = event.elements()?;
            let harness::Value::Int(ms) = fields[3] else { return None };
            Some(format!("{} {ms} ms", fields[0].text()))
        })
        .collect();
    if events.is_empty() { "–".to_owned() } else { events.join(", ") }
}

// ---- scenarios

struct Options {
    quick: bool,
    /// The table is emptied and grows again.
    again: bool,
    verbose: bool,
    shards: usize,
    /// Keys that the table grows to.
    keys: u64,
    /// Elements of a large value.
    elements: u64,
}

impl Options {
    fn secs(&self, secs: u64) -> Duration {
        Duration::from_millis(if self.quick { secs * 100 } else { secs * 1000 })
    }
}

/// Latencies of a server that has little else to do.
fn idle(run: &mut Run<'_>) {
    let mut client = Connection::new(run.server, "+PONG\r\n".len());
    let request = resp::encode(&["PING"]);
    let mut times = histogram();
    let until = Instant::now() + run.options.secs(30);
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(100));
        let from = Instant::now();
        client.send(&request);
        client.receive();
        record(&mut times, from.elapsed());
    }
    run.plain("PING after 100 ms of silence", &times);
    set_keys(run.server, 0, 100_000, String::new);
    for (what, clients) in [("GET and SET, 1 client", 1), ("GET and SET, 50 clients", CLIENTS)] {
        let duration = run.options.secs(10);
        mixed_load(run.server, clients, 100_000, Duration::ZERO, after(duration / 10));
        let times = mixed_load(run.server, clients, 100_000, Duration::ZERO, after(duration));
        run.plain(what, &times);
    }
}

fn after(duration: Duration) -> impl FnMut() -> bool {
    let until = Instant::now() + duration;
    move || Instant::now() >= until
}

/// A snapshot beside reads and writes of many clients, and the same without one.
fn snapshot(run: &mut Run<'_>) {
    let keys = if run.options.quick { 500_000 } else { 5_000_000 };
    set_keys(run.server, 0, keys, String::new);
    let server = run.server;
    let pause = Duration::from_micros(500);
    let duration = run.options.secs(10);
    run.beside("beside", "GET and SET of 50 clients", || {
        drop(mixed_load(server, CLIENTS, keys, pause, after(duration)))
    });
    let mut looked = Instant::now();
    run.beside("beside", &format!("the same, BGSAVE of {} M keys", keys as f64 / 1e6), || {
        server.connect().command(&["BGSAVE"]);
        mixed_load(server, CLIENTS, keys, pause, || {
            if looked.elapsed() < Duration::from_millis(100) {
                return false;
            }
            looked = Instant::now();
            value_of(server, "persistence", "rdb_bgsave_in_progress") == "0"
        });
    });
}

/// Many keys that expire within one second.
fn storm(run: &mut Run<'_>) {
    let keys = if run.options.quick { 100_000 } else { 1_000_000 };
    let server = run.server;
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis() as u64;
    let from_ms = unix_ms + 3_000 + keys / 200;
    let mut rng = Rng::seed(1);
    set_keys(server, 0, keys, || (from_ms + rng.below(1000)).to_string());
    run.beside("beside", &format!("{} M keys expire within one second", keys as f64 / 1e6), || {
        let mut control = server.connect();
        let began = Instant::now();
        while control.command(&["DBSIZE"]) != harness::Value::Int(1) {
            assert!(began.elapsed() < Duration::from_secs(120), "keys do not expire");
            thread::sleep(Duration::from_millis(50));
        }
    });
}

/// Large values that go.
fn values(run: &mut Run<'_>) {
    let elements = run.options.elements;
    let server = run.server;
    let kinds: [(&str, &str); 4] = [("list", "RPUSH"), ("set", "SADD"), ("hash", "HSET"), ("zset", "ZADD")];
    for (kind, add) in kinds {
        for delete in ["DEL", "UNLINK"] {
            build(server, kind, add, elements);
            run.beside("values", &format!("{delete} of a {kind} of {} M", elements as f64 / 1e6), || {
                let mut control = Connection::new(server, 4);
                control.send(&resp::encode(&[delete, "large"]));
                control.receive();
                // It may be freed later.
                let pending = || value_of(server, "memory", "lazyfree_pending_objects") != "0";
                while pending() {
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
    }
}

fn build(server: &Server, kind: &str, add: &str, elements: u64) {
    // Each command adds a hundred; the reply is a count whose length is not known beforehand.
    let mut client = server.connect();
    let count = 100;
    for piece in 0..elements / count / 10 {
        let mut bytes = Vec::new();
        for command in 0..10 {
            let first = (piece * 10 + command) * count;
            let mut argv = vec![add.to_owned(), "large".to_owned()];
            for number in first..first + count {
                match kind {
                    "hash" => argv.extend([format!("field:{number}"), format!("value:{number}")]),
                    "zset" => argv.extend([number.to_string(), format!("member:{number}")]),
                    _ => argv.push(format!("element:{number}")),
                }
            }
            bytes.extend(resp::encode(&argv));
        }
        client.send_raw(&bytes);
        for _ in 0..10 {
            let reply = client.reply();
            assert!(matches!(reply, harness::Value::Int(_)), "{add}: {reply}");
        }
    }
}

/// The table grows to its full size.
fn growth(run: &mut Run<'_>) {
    let keys = run.options.keys;
    let server = run.server;
    run.beside("beside", &format!("the table grows from 0 to {} M keys", keys as f64 / 1e6), || {
        set_keys(server, 0, keys, String::new)
    });
    if run.options.again {
        let mut control = Connection::new(server, 5);
        control.send(&resp::encode(&["FLUSHALL", "ASYNC"]));
        control.receive();
        while value_of(server, "memory", "lazyfree_pending_objects") != "0" {
            thread::sleep(Duration::from_millis(50));
        }
        run.beside("beside", "and again", || set_keys(server, 0, keys, String::new));
    }
}

type Scenario = fn(&mut Run<'_>);
const SCENARIOS: &[(&str, Scenario)] =
    &[("idle", idle), ("snapshot", snapshot), ("storm", storm), ("values", values), ("growth", growth)];

const HEAD_IDLE: &str = "| one core each | | p50 | p99 | p99.9 | most | replies |\n|---|---|---|---|---|---|---|";
const HEAD: &str = "| what an observer's GET sees | | p50 | p99 | p99.9 | most | replies | over 2 ms | of these the server's own | longest \
of its own | by the server's clock, over 2 ms | jitter of the core, most |\n|---|---|---|---|---|---|---|---|---|---|---|---|";

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| cpu.lines().find(|line| line.starts_with(name)).and_then(|line| line.split(": ").nth(1));
    let hypervisor = field("flags").is_some_and(|flags| flags.contains(" hypervisor"));
    format!(
        "{}, {} cores{}, Linux {}",
        field("model name").unwrap_or("unknown CPU"),
        cpu.matches("processor\t").count(),
        if hypervisor { ", virtual machine" } else { "" },
        read("/proc/sys/kernel/osrelease").trim()
    )
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    let number =
        |name: &str| value(name).map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} takes a number")));
    let quick = has("--quick");
    let options = Options {
        quick,
        again: has("--again"),
        verbose: has("--verbose"),
        shards: number("--shards").unwrap_or(1) as usize,
        keys: number("--keys").unwrap_or(if quick { 5_000_000 } else { 50_000_000 }) / LOAD_BATCH * LOAD_BATCH,
        elements: number("--elements").unwrap_or(if quick { 1_000_000 } else { 10_000_000 }),
    };
    let only: Option<Vec<String>> = value("--only").map(|list| list.split(',').map(str::to_owned).collect());
    for name in only.iter().flatten() {
        assert!(SCENARIOS.iter().any(|(scenario, _)| scenario == name), "{name} is no scenario");
    }
    let cores = Cores::of_this_process();
    be_preferred();
    let mut tables = BTreeMap::new();
    for (name, scenario) in SCENARIOS {
        if only.as_ref().is_some_and(|only| !only.iter().any(|wanted| wanted == name)) {
            continue;
        }
        for side in [OURS, THEIRS] {
            if (side == THEIRS && has("--ours")) || (side == OURS && has("--theirs")) {
                continue;
            }
            pin(cores.server);
            let directives = ["--latency-monitor-threshold", "2", "--save", ""];
            let started = match side {
                OURS => Some(Server::annulus(options.shards, &directives)),
                _ => Server::redis(&directives),
            };
            pin(cores.load);
            let Some(server) = started else { continue };
            scenario(&mut Run { server: &server, side, cores, options: &options, tables: &mut tables });
        }
    }
    let mut text = format!("Machine: {}; server on core {}, load on core {}.\n", machine(), cores.server, cores.load);
    for (name, head) in [("idle", HEAD_IDLE), ("beside", HEAD), ("values", HEAD)] {
        if let Some(table) = tables.get(name) {
            text += &format!("\n{head}\n{}\n", table.rows.join("\n"));
        }
    }
    println!("{text}");
    if let Some(path) = value("--into") {
        let page = fs::read_to_string(&path).expect("the page can be read");
        let (begin, end) = ("<!-- latency:begin -->", "<!-- latency:end -->");
        let (before, rest) = page.split_once(begin).expect("the page has a marker where the tables begin");
        let (_, after) = rest.split_once(end).expect("the page has a marker where they end");
        fs::write(&path, format!("{before}{begin}\n{text}{end}{after}")).expect("the page can be written");
    }
}
