//! What the server says when it crashes, by a panic or a fault: enough to act on, and nothing that belongs to users. Each test starts a
//! server that is allowed to be crashed, and reads what it leaves.

use std::fs;

use super::harness::Server;

/// A server with something to give away, after it was crashed by this command, and the report.
fn crashed(shards: usize, directives: &[&str], crash: impl Fn(&Server)) -> (Server, String) {
    let mut all = vec!["--enable-debug-command", "yes", "--requirepass", "geheim-1", "--timeout", "777"];
    all.extend(directives);
    let mut server = Server::annulus(shards, &all);
    let mut client = server.connect();
    client.line("AUTH geheim-1");
    for n in 0..8 {
        assert_eq!(client.line(&format!("SET geheim-2-{n} geheim-3")).text(), "OK");
    }
    client.line("LPUSH geheim-2 geheim-3 geheim-4");
    crash(&server);
    server.wait_until_gone();
    let log = server.log();
    (server, log)
}

fn debug(server: &Server, how: &str) {
    let mut client = server.connect();
    client.line("AUTH geheim-1");
    client.send(&["DEBUG", how]);
}

#[track_caller]
fn tells(report: &str, parts: &[&str]) {
    let found = report.find("=== CRASH REPORT: annulus ").unwrap_or_else(|| panic!("no report in\n{report}"));
    let report = &report[found..];
    for part in parts {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
    assert!(report.contains("=== END"), "{report}");
    assert_eq!(report.matches("=== CRASH REPORT").count(), 1, "one report:\n{report}");
    assert!(!report.contains("geheim"), "it gives something away:\n{report}");
}

const ALWAYS: &[&str] = &[
    "thread: shard-",
    ", up ",
    "bytes allocated at the last look",
    "settings that are not defaults (without passwords):\n",
    "  timeout 777\n",
    "  debug 2 arguments of ",
    "stack:\n",
];

#[test]
fn a_panic_is_reported_with_place_and_message() {
    for shards in [1, 3] {
        let (_server, log) = crashed(shards, &[], |server| debug(server, "PANIC"));
        tells(&log, ALWAYS);
        tells(&log, &["place: src/commands/server/debug.rs:", "message: DEBUG PANIC", "  set 3 arguments of "]);
        tells(&log, &[&format!("shard {}:", shards - 1)]);
        assert!(log.matches("commands/server/debug.rs").count() > 1, "the stack leads there:\n{log}");
    }
}

#[test]
fn a_fault_is_reported_with_signal_address_and_stack() {
    for shards in [1, 3] {
        let (_server, log) = crashed(shards, &[], |server| debug(server, "SEGFAULT"));
        tells(&log, ALWAYS);
        tells(&log, &["signal: 11 SIGSEGV, code 1, address 0x8\n", "segfault\n", "  lpush 4 arguments of "]);
    }
}

#[test]
fn a_signal_from_outside_is_reported_as_such() {
    for (name, line) in [("ABRT", "6 SIGABRT"), ("BUS", "7 SIGBUS"), ("FPE", "8 SIGFPE"), ("ILL", "4 SIGILL")] {
        let (_server, log) = crashed(1, &[], |server| server.signal(name));
        tells(&log, &[&format!("signal: {line}, code 0, sent by a process\n"), "settings that are not defaults"]);
    }
}

#[test]
fn reports_can_be_switched_off() {
    for how in ["PANIC", "SEGFAULT"] {
        let (_server, log) = crashed(1, &["--crash-log-enabled", "no"], |server| debug(server, how));
        assert!(!log.contains("CRASH REPORT"), "{log}");
        assert_eq!(log.contains("=== DEBUG PANIC"), how == "PANIC", "a panic still says why, on one line: {log}");
    }
    let (_server, log) = crashed(1, &["--crash-log-enabled", "no"], |server| {
        let mut client = server.connect();
        client.line("AUTH geheim-1");
        assert_eq!(client.line("CONFIG SET crash-log-enabled yes timeout 778").text(), "OK");
        assert_eq!(client.line("PING").text(), "PONG");
        debug(server, "SEGFAULT");
    });
    tells(&log, &["  timeout 778\n"]);
}

#[test]
fn a_rotated_log_file_gets_the_report() {
    let dir = std::env::temp_dir().join(format!("annulus-crash-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (log, moved) = (dir.join("log"), dir.join("log.1"));
    let port = super::harness::free_port();
    let mut process = std::process::Command::new(super::harness::annulus_bin())
        .args(["--port", &port.to_string(), "--save", "", "--shards", "2", "--enable-debug-command", "yes"])
        .args(["--bind", "127.0.0.1", "--logfile", "log", "--dir"])
        .arg(&dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("Ready to accept connections")) {
        assert!(process.try_wait().unwrap().is_none(), "it does not start");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut client = super::harness::Client::connect(port);
    fs::rename(&log, &moved).unwrap();
    assert_eq!(client.line("DEBUG LOG here").text(), "OK");
    client.send(&["DEBUG", "SEGFAULT"]);
    let status = process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(11), "it ends as the signal does");
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    tells(&text, &["signal: 11 SIGSEGV", "=== END"]);
}
