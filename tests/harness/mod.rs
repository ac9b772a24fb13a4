//! What the server tests stand on: a server process of ours or a real redis-server, and a bare RESP client.
//!
//! A `Server` lives in a folder of its own under the system's temporary folder, listens on a free port of 127.0.0.1 and
//! dies with its value; when the test that owns it panics, the end of its log is printed. Which binary is ours:
//! `ANNULUS_BIN` when set, else the one that cargo built beside the tests. The oracle is `REDIS_BIN`, else
//! `redis-server` on the PATH.
//! Deliberately absent: a client library. Replies are compared by their bytes, so the client shows those.

#![allow(dead_code, reason = "each test crate uses the part that it needs")]

pub mod resp;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use resp::{Client, Value};

/// A loaded machine may take this long to start a process; an idle one takes a few milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a server may take to leave after SIGTERM before the test calls it hung.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server process and the folder that is its working directory.
pub struct Server {
    process: Child,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    dir: PathBuf,
}

impl Server {
    /// Our server with `shards` shards and further directives such as `["--maxclients", "10"]`.
    pub fn annulus(shards: usize, directives: &[&str]) -> Server {
        let shards = shards.to_string();
        let mut args = vec!["--shards", &shards];
        args.extend(directives);
        Server::start(&annulus_bin(), &args)
    }

    /// The oracle, or `None` when it is not installed. In CI (`CI=true`) a missing oracle is a failure.
    pub fn redis(directives: &[&str]) -> Option<Server> {
        let program = redis_bin();
        if Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            assert!(!in_ci(), "{} is not installed, and in CI an oracle may not be missing", program.display());
            println!("SKIPPED: {} is not installed", program.display());
            return None;
        }
        let mut args = vec!["--appendonly", "no"];
        args.extend(directives);
        Some(Server::start(&program, &args))
    }

    /// Starts `program` on a free port and waits until its log says that it accepts connections.
    ///
    /// Between finding a free port and listening on it another test may take it; then the next one is tried.
    pub fn start(program: &Path, args: &[&str]) -> Server {
        Server::start_in(program, None, args)
    }

    /// As [`Server::start`], with a configuration file of this text, in which `PORT` and `DIR` stand for a free port and the folder. It is
    /// `server.conf` in the folder; no directive is given beside it but those of `args`.
    pub fn with_file(program: &Path, text: &str, args: &[&str]) -> Server {
        Server::start_in(program, Some(text), args)
    }

    /// As [`Server::with_file`], once `prepare` has put into the folder what it needs; `None` if the server does not start.
    pub fn with_file_and(program: &Path, text: &str, prepare: impl Fn(&Path)) -> Option<Server> {
        Server::try_start(program, Some(text), &[], prepare).ok()
    }

    fn start_in(program: &Path, text: Option<&str>, args: &[&str]) -> Server {
        let started = Server::try_start(program, text, args, |_| {});
        started.unwrap_or_else(|log| panic!("{} did not start:\n{}", program.display(), tail(&log, 30)))
    }

    /// The server, or what it said when it did not start.
    fn try_start(program: &Path, text: Option<&str>, args: &[&str], prepare: impl Fn(&Path)) -> Result<Server, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("annulus-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        for _ in 0..3 {
            // A server that did not start has taken its folder with it.
            fs::create_dir_all(&dir).expect("the temporary folder is writable");
            let has_nodes = args.iter().any(|arg| arg == "--cluster-shard-nodes");
            let port = if has_nodes { free_row() } else { free_port() };
            if let Some(text) = text {
                let text = text.replace("PORT", &port.to_string()).replace("DIR", &dir.display().to_string());
                fs::write(dir.join("server.conf"), text).expect("the server's folder is writable");
                prepare(&dir);
            }
            let process = spawn(program, &args, port, &dir);
            let mut server = Server { process, program: program.into(), args: args.clone(), port, dir: dir.clone() };
            if server.wait_until_ready() {
                return Ok(server);
            }
            let log = server.log();
            if !log.contains("in use") {
                return Err(log);
            }
        }
        panic!("three free ports in a row were taken by someone else");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new connection in RESP2.
    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// A new connection that has said HELLO 3.
    pub fn connect_resp3(&self) -> Client {
        let mut client = self.connect();
        let greeting = client.command(&["HELLO", "3"]);
        assert!(matches!(greeting, Value::Map(_)), "HELLO 3 gave {greeting}");
        client
    }

    /// SIGTERM, then the exit status. Panics when the server does not leave.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let until = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().expect("our own child can be waited for") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("process {} is still there {STOP_TIMEOUT:?} after SIGTERM", self.pid());
    }

    /// SIGKILL: what a crash leaves behind.
    pub fn kill(&mut self) {
        // Fails only when the process has already gone, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the same command line again in the same folder and on the same port, after `stop` or `kill`.
    pub fn restart(&mut self) {
        self.process = spawn(&self.program, &self.args, self.port, &self.dir);
        assert!(self.wait_until_ready(), "did not start again:\n{}", tail(&self.log(), 30));
    }

    /// As [`Server::restart`], with further directives, which win over those it had.
    pub fn restart_with(&mut self, directives: &[&str]) {
        self.args.extend(directives.iter().map(|word| word.to_string()));
        self.restart();
    }

    /// As [`Server::restart`], asking `ready` again and again until it says yes.
    pub fn restart_and(&mut self, mut ready: impl FnMut(u16) -> bool) {
        self.process = spawn(&self.program, &self.args, self.port, &self.dir);
        let until = Instant::now() + READY_TIMEOUT;
        while !ready(self.port) {
            assert!(self.is_running() && Instant::now() < until, "it does not start:\n{}", tail(&self.log(), 30));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Further directives for the next start.
    pub fn args(&mut self, directives: &[&str]) {
        self.args.extend(directives.iter().map(|word| word.to_string()));
    }

    /// Starts it, and kills it after this long.
    pub fn start_and_kill(&mut self, after: Duration) {
        self.process = spawn(&self.program, &self.args, self.port, &self.dir);
        std::thread::sleep(after);
        self.kill();
    }

    /// Waits until it has left by itself.
    pub fn wait_until_gone(&mut self) {
        let until = Instant::now() + STOP_TIMEOUT;
        while self.is_running() {
            assert!(Instant::now() < until, "process {} is still there", self.pid());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again, expecting that it refuses: its exit status. Panics if it gets ready, or takes too long.
    pub fn restart_refused(&mut self) -> ExitStatus {
        self.process = spawn(&self.program, &self.args, self.port, &self.dir);
        let until = Instant::now() + READY_TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().expect("our own child can be waited for") {
                return status;
            }
            assert!(!self.log().contains("Ready to accept connections"), "it started:\n{}", tail(&self.log(), 30));
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("it neither starts nor refuses to:\n{}", tail(&self.log(), 30));
    }

    /// Sends a signal by its name, such as `INT`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} could not be sent to {}", self.pid());
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Everything the server has written to its standard streams since it was last started.
    pub fn log(&self) -> String {
        fs::read(self.dir.join("log.txt")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) -> bool {
        let until = Instant::now() + READY_TIMEOUT;
        while Instant::now() < until && self.is_running() {
            if self.log().contains("Ready to accept connections") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {} on port {}:\n{}", self.program.display(), self.port, tail(&self.log(), 40));
        }
        // A folder that stays behind is litter in the temporary folder, not a failed test.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// True when a missing oracle must fail instead of being skipped.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Our program.
pub fn annulus_bin() -> PathBuf {
    std::env::var_os("ANNULUS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_annulus").into(), PathBuf::from)
}

/// The oracle.
pub fn redis_bin() -> PathBuf {
    std::env::var_os("REDIS_BIN").map_or_else(|| "redis-server".into(), PathBuf::from)
}

fn spawn(program: &Path, args: &[String], port: u16, dir: &Path) -> Child {
    let log = File::create(dir.join("log.txt")).expect("the server's folder is writable");
    let mut command = Command::new(program);
    if dir.join("server.conf").exists() {
        command.arg("server.conf");
    } else {
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir);
    }
    command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file handle can be duplicated"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()))
}

/// The first of a row of ports that nobody has, for servers whose shards listen on the next ones. Below the range from which connections
/// get theirs: there, of several in a row, one is often taken while others are tested.
fn free_row() -> u16 {
    const ROW: u16 = 8;
    static TRIES: AtomicU32 = AtomicU32::new(0);
    loop {
        let draw = std::process::id().wrapping_mul(2_654_435_761) ^ TRIES.fetch_add(1, Ordering::Relaxed) << 20;
        let first = 12_000 + (draw >> 12) as u16 % 2_500 * ROW;
        if (first..first + ROW).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}

/// Waits until something is so, and fails if it is not within twenty seconds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in twenty seconds: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
