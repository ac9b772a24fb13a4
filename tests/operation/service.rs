//! The life of the process: under a service manager, as a daemon, with a log that is rotated. Each test starts processes of its own, since
//! what is looked at is their environment, their streams and how they begin and end.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::harness::{Client, Server, annulus_bin, free_port};

/// A loaded machine may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of a test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("annulus-service-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is litter in the temporary folder, not a failed test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that dies with its value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(folder: &Path, port: u16) -> Command {
    let mut command = Command::new(annulus_bin());
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--shards", "2", "--dir"])
        .arg(folder);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// A connection to a server that is starting, once it serves.
fn ready(port: u16) -> Client {
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut client = Client::connect(port);
    until("it serves", || client.line("PING").text() == "PONG");
    client
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a message has all of these lines, and gives those before it.
#[track_caller]
fn told(socket: &UnixDatagram, lines: &[&str]) -> Vec<String> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut before = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{lines:?} after {before:?}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if lines.iter().all(|line| message.lines().any(|told| told.starts_with(line))) {
            return before;
        }
        before.push(message);
    }
}

#[test]
fn systemd_is_told_of_loading_readiness_reloads_life_and_the_end() {
    for supervised in ["systemd", "auto"] {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
        let port = free_port();
        let start = || {
            let mut command = command(&folder.0, port);
            command.args(["--supervised", supervised, "--daemonize", "yes", "--appendonly", "yes"]);
            command.env("NOTIFY_SOCKET", folder.path("notify")).env("WATCHDOG_USEC", "400000");
            Process(command.spawn().unwrap())
        };
        let mut process = start();
        told(&socket, &["READY=1", "STATUS=Ready"]);
        let mut client = Client::connect(port);
        assert_eq!(client.line("SET k v").text(), "OK", "who is told that it is ready finds it so");
        assert_eq!(client.line("INFO server").text().matches(&format!("process_id:{}\r", process.0.id())).count(), 1);
        for _ in 0..3 {
            told(&socket, &["WATCHDOG=1"]);
        }
        signal(process.0.id(), "HUP");
        told(&socket, &["RELOADING=1", "MONOTONIC_USEC="]);
        told(&socket, &["READY=1"]);
        signal(process.0.id(), "TERM");
        told(&socket, &["STOPPING=1"]);
        assert!(process.0.wait().unwrap().success());

        let _process = start();
        let before = told(&socket, &["READY=1"]);
        assert!(before.iter().any(|message| message.contains("STATUS=Loading ")), "{before:?}");
    }
}

#[test]
fn without_being_asked_nobody_is_told() {
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = free_port();
    let _process = Process(command(&folder.0, port).env("NOTIFY_SOCKET", folder.path("notify")).spawn().unwrap());
    ready(port);
    assert!(socket.recv(&mut [0; 16]).is_err());
}

#[test]
fn a_manager_that_was_asked_for_and_is_not_there_is_missed_in_the_log() {
    for (supervised, expected) in [
        ("systemd", "systemd supervision requested, but NOTIFY_SOCKET not found"),
        ("upstart", "upstart supervision requested, but UPSTART_JOB not found"),
    ] {
        let server = Server::annulus(1, &["--supervised", supervised]);
        assert!(server.log().contains(expected), "{}", server.log());
    }
}

#[test]
fn upstart_sees_the_process_stop_when_it_is_ready() {
    let folder = Folder::new();
    let port = free_port();
    let process =
        Process(command(&folder.0, port).args(["--supervised", "upstart"]).env("UPSTART_JOB", "x").spawn().unwrap());
    let state = || fs::read_to_string(format!("/proc/{}/stat", process.0.id())).unwrap_or_default();
    until("it stops", || state().contains(") T "));
    signal(process.0.id(), "CONT");
    assert_eq!(Client::connect(port).line("PING").text(), "PONG");
}

#[test]
fn a_daemon_serves_when_its_parent_has_left_and_removes_its_pidfile() {
    let folder = Folder::new();
    fs::write(folder.path("pid"), "1\n").unwrap();
    let port = free_port();
    let mut command = command(&folder.0, port);
    command.args(["--daemonize", "yes", "--pidfile", "pid", "--logfile", "log"]);
    // Reads to the end of both streams: a daemon that kept them would keep this waiting.
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let mut client = Client::connect(port);
    assert_eq!(client.line("PING").text(), "PONG", "it is ready when the parent leaves");
    let pid: u32 = fs::read_to_string(folder.path("pid")).unwrap().trim().parse().unwrap();
    assert!(pid > 1, "a stale pidfile is written over");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!((fields[3], fields[4]), (pid.to_string().as_str(), "0"), "a session of its own, without a terminal");
    let log = fs::read_to_string(folder.path("log")).unwrap();
    assert!(log.contains("Ready to accept connections") && log.contains(&format!("{pid}:M ")), "{log}");
    signal(pid, "TERM");
    until("the pidfile goes", || !folder.path("pid").exists());
    until("the process goes", || !Path::new(&format!("/proc/{pid}/fd/0")).exists());
}

#[test]
fn a_daemon_that_cannot_start_says_so_to_whoever_started_it() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = command(&folder.0, taken.local_addr().unwrap().port());
    command.args(["--daemonize", "yes", "--logfile", "log"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("Address already in use"), "{said}");

    let mut command = self::command(&folder.0, free_port());
    fs::write(folder.path("dump.rdb"), "REDIS no").unwrap();
    command.args(["--daemonize", "yes"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "data that cannot be loaded: {said}");
    assert!(said.contains("cannot load the data"), "{said}");
}

#[test]
fn a_pidfile_that_cannot_be_written_is_missed_in_the_log() {
    let server = Server::annulus(1, &["--pidfile", "/nonexistent/pid"]);
    assert!(server.log().contains("Failed to write PID file '/nonexistent/pid': No such file"), "{}", server.log());
    assert_eq!(server.connect().line("PING").text(), "PONG");
}

#[test]
fn another_servers_pidfile_is_left_alone() {
    let mut server = Server::annulus(1, &["--pidfile", "pid"]);
    let path = server.dir().join("pid");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", server.pid()));
    fs::write(&path, "4711\n").unwrap();
    server.stop();
    assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
}

#[test]
fn a_log_that_was_renamed_is_made_anew_with_and_without_a_signal() {
    let folder = Folder::new();
    let port = free_port();
    let mut command = command(&folder.0, port);
    command.args(["--logfile", "log", "--enable-debug-command", "yes"]);
    let process = Process(command.spawn().unwrap());
    let read = |name: &str| fs::read_to_string(folder.path(name)).unwrap_or_default();
    until("it serves", || read("log").contains("Ready to accept connections"));
    let mut client = Client::connect(port);
    fs::rename(folder.path("log"), folder.path("log.1")).unwrap();
    assert_eq!(client.line("DEBUG LOG one").text(), "OK");
    assert!(read("log").contains("DEBUG LOG: one") && !read("log.1").contains("DEBUG LOG"));
    for (number, name) in ["HUP", "USR1"].into_iter().enumerate() {
        fs::rename(folder.path("log"), folder.path(&format!("log.{}", number + 2))).unwrap();
        signal(process.0.id(), name);
        until("it is made anew", || read("log").contains("The log file was opened anew, as a signal asked"));
    }
    assert_eq!(client.line("PING").text(), "PONG");
}

#[test]
fn sockets_that_the_service_manager_has_opened_are_served() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new("sh");
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" --port 1 --save "" --shards 2 3<&0 </dev/null"#;
    command.args(["-c", script]).arg(annulus_bin()).current_dir(&folder.0);
    command.stdin(std::os::fd::OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    let _process = Process(command.spawn().unwrap());
    ready(port);
}

#[test]
fn the_out_of_memory_score_follows_the_settings() {
    let server = Server::annulus(1, &[]);
    let score = || fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid())).unwrap().trim().to_owned();
    let before: i32 = score().parse().unwrap();
    let mut client = server.connect();
    let mut set = |words: &[&str]| {
        let all: Vec<&str> = ["CONFIG", "SET"].iter().chain(words).copied().collect();
        assert_eq!(client.command(&all).text(), "OK", "{words:?}");
    };
    set(&["oom-score-adj", "relative", "oom-score-adj-values", "7 200 800"]);
    assert_eq!(score(), (before + 7).min(1000).to_string());
    set(&["oom-score-adj-values", "9 200 800"]);
    assert_eq!(score(), (before + 9).min(1000).to_string());
    set(&["oom-score-adj", "absolute", "oom-score-adj-values", "900 900 900"]);
    assert_eq!(score(), "900");
}

#[test]
fn each_signal_stops_as_its_own_setting_says() {
    for (name, is_saved) in [("INT", false), ("TERM", true)] {
        let mut server = Server::annulus(2, &["--shutdown-on-sigint", "nosave", "--shutdown-on-sigterm", "save"]);
        assert_eq!(server.connect().line("SET k v").text(), "OK");
        server.signal(name);
        server.wait_until_gone();
        let files = fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let saved = files.into_iter().any(|name| name.to_string_lossy().contains("dump"));
        assert_eq!(saved, is_saved, "SIG{name}");
    }
}
