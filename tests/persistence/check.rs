//! `annulus check PATH`, as an operator calls it: what it prints and its exit code.
//!
//! What exactly it says is held beside its code; here are real files, and that it agrees with the tools of Redis.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::harness::{Server, annulus_bin};

/// Its exit code, what it printed, and its complaints.
fn check(path: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(annulus_bin()).arg("check").arg(path).output().expect("it can be started");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn sample(name: &str) -> (Option<i32>, String, String) {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/persistence/samples").join(name))
}

#[test]
fn a_file_that_redis_saved_is_whole_and_counted() {
    let Some(server) = Server::redis(&[]) else { return };
    let mut client = server.connect();
    for line in ["SET k v", "RPUSH l a b", "SET e v EX 100000", "SELECT 7", "ZADD z 1 a", "SAVE"] {
        client.line(line);
    }
    let path = server.dir().join("dump.rdb");
    let (code, words, complaints) = check(&path);
    assert_eq!((code, &complaints[..]), (Some(0), ""), "{words}");
    for wanted in [
        "RDB of version REDIS0010, ",
        "  redis-ver = 7.",
        "  database 0: 3 keys, 1 expires\n    list 1, string 2\n",
        "  database 7: 1 key\n    zset 1\n",
        "  the checksum is right\n",
        "dump.rdb is whole\n",
    ] {
        assert!(words.contains(wanted), "{wanted} is not in\n{words}");
    }

    let file = fs::read(&path).expect("it was saved");
    for (name, bytes) in [("cut.rdb", &file[..file.len() - 30]), ("short.rdb", &file[..9]), ("none.rdb", b"")] {
        let path = server.dir().join(name);
        fs::write(&path, bytes).expect("the folder is writable");
        let (code, words, complaints) = check(&path);
        assert_eq!((code, &complaints[..]), (Some(1), ""), "{words}");
    }
}

#[test]
fn files_of_modules_are_told_with_all_that_could_be_kept() {
    let (code, words, _) = sample("redis_8_6_all_types.rdb");
    assert_eq!(code, Some(1), "{words}");
    for wanted in ["REDIS0013", "1 key belongs to the module type 'ReJSON-RL'", "stream 2", "the checksum is right"] {
        assert!(words.contains(wanted), "{wanted} is not in\n{words}");
    }
    let (code, words, _) = sample("redis_7_4_all_types.rdb");
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn what_cannot_be_checked_is_said_on_standard_error_or_output() {
    let (code, words, complaints) = sample("none.rdb");
    assert_eq!((code, &words[..]), (Some(1), ""));
    assert!(complaints.contains("none.rdb: cannot be read: "), "{complaints}");
    let (code, words, _) = sample("README.md");
    assert_eq!(code, Some(1));
    assert!(words.contains("of no kind that can be checked"), "{words}");
}
