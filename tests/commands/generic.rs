//! Keys of any type, by what a client sees: removed, expired, renamed, copied, moved, scanned.
//! Names that lie on different shards are tried beside names that share one.

use super::{check, check_that};

#[test]
fn keys_are_counted_and_removed_wherever_they_are() {
    check(&["MSET a 1 b 2 c 3 d 4", "EXISTS a b c d x a"], "5");
    check(&["MSET a 1 b 2 c 3 d 4", "TOUCH a b x"], "2");
    check(&["MSET a 1 b 2 c 3 d 4", "DEL a b x a"], "2");
    check(&["MSET a 1 b 2 c 3 d 4", "UNLINK a b c d"], "4");
    check(&["MSET a 1 b 2 c 3 d 4", "DEL a b", "MGET a b c d"], "[(nil), (nil), 3, 4]");
    check(&["DEL"], "-ERR wrong number of arguments for 'del' command");
}

#[test]
fn a_key_is_removed_if_it_holds_the_value() {
    check(&["SET lock token", "DELIFEQ lock token"], "1");
    check(&["SET lock token", "DELIFEQ lock token", "EXISTS lock"], "0");
    check(&["SET lock other", "DELIFEQ lock token"], "0");
    check(&["SET lock 7", "DELIFEQ lock 7"], "1");
    check(&["DELIFEQ lock token"], "0");
}

#[test]
fn the_type_of_a_key_is_told() {
    check(&["SET k v", "TYPE k"], "string");
    check(&["TYPE k"], "none");
}

#[test]
fn a_time_to_live_is_set_told_and_taken_away() {
    check(&["SET k v", "EXPIRE k 1000"], "1");
    check(&["EXPIRE k 1000"], "0");
    check(&["SET k v", "EXPIRE k 1000", "TTL k"], "1000");
    check(&["SET k v", "PEXPIRE k 1000000", "TTL k"], "1000");
    check(&["SET k v", "EXPIREAT k 4102444800", "EXPIRETIME k"], "4102444800");
    check(&["SET k v", "PEXPIREAT k 4102444800500", "EXPIRETIME k"], "4102444801");
    check(&["SET k v", "PEXPIREAT k 9223372036854775807", "PEXPIRETIME k"], "9223372036854775807");
    check(&["SET k v", "EXPIRE k 1000", "PERSIST k", "TTL k"], "-1");
    check(&["SET k v", "PERSIST k"], "0");
    check(&["PERSIST k"], "0");
    for name in ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"] {
        check(&[&format!("{name} k")], "-2");
        check(&["SET k v", &format!("{name} k")], "-1");
    }
    check_that(&["SET k v PX 1000000", "PTTL k"], "a little less than 1,000,000", |shown| {
        shown.parse::<i64>().is_ok_and(|ms| (900_000..=1_000_000).contains(&ms))
    });
}

#[test]
fn a_deadline_in_the_past_removes_the_key() {
    for command in ["EXPIRE k -1", "EXPIRE k 0", "PEXPIRE k -1", "EXPIREAT k 1", "PEXPIREAT k -9223372036854775808"] {
        check(&["SET k v", command], "1");
        check(&["SET k v", command, "EXISTS k"], "0");
    }
}

#[test]
fn a_key_is_gone_when_its_time_has_come() {
    check(&["SET k v PX 1", "DEBUG SLEEP 0.01", "GET k"], "(nil)");
    check(&["SET k v PX 1", "DEBUG SLEEP 0.01", "INCR k"], "1");
    check(&["SET k v PX 1", "DEBUG SLEEP 0.01", "KEYS *"], "[]");
    check(&["SET k v PX 1", "DEBUG SLEEP 0.01", "SET k w KEEPTTL", "TTL k"], "-1");
}

#[test]
fn expire_may_depend_on_the_deadline_that_is_there() {
    let rule = |before: &str, command: &str, expected: &str| check(&[before, command], expected);
    rule("SET k v", "EXPIRE k 100 NX", "1");
    rule("SET k v EX 1000", "EXPIRE k 100 NX", "0");
    rule("SET k v", "EXPIRE k 100 XX", "0");
    rule("SET k v EX 1000", "EXPIRE k 100 XX", "1");
    rule("SET k v", "EXPIRE k 100 GT", "0");
    rule("SET k v EX 1000", "EXPIRE k 100 GT", "0");
    rule("SET k v EX 1000", "EXPIRE k 2000 GT", "1");
    rule("SET k v", "EXPIRE k 100 LT", "1");
    rule("SET k v EX 1000", "EXPIRE k 100 LT", "1");
    rule("SET k v EX 1000", "EXPIRE k 2000 LT", "0");
    rule("SET k v", "EXPIRE k 1 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible");
    rule("SET k v", "EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible");
    rule("SET k v", "EXPIRE k 1 FOO", "-ERR Unsupported option FOO");
    rule("SET k v", "EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command");
    rule("SET k v", "PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command");
    rule("SET k v", "EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command");
    rule("SET k v", "EXPIRE k x", "-ERR value is not an integer or out of range");
}

/// Names on the same and on different shards, at four shards.
const PAIRS: [(&str, &str); 4] = [("a", "b"), ("{t}a", "{t}b"), ("a", "c"), ("one", "two")];

#[test]
fn rename_moves_value_and_time_to_live_to_the_other_name() {
    for (a, b) in PAIRS {
        let set = format!("SET {a} v EX 1000");
        let rename = format!("RENAME {a} {b}");
        check(&[&set, &rename], "OK");
        check(&[&set, &rename, &format!("GET {b}")], "v");
        check(&[&set, &rename, &format!("TTL {b}")], "1000");
        check(&[&set, &rename, &format!("EXISTS {a}")], "0");
        check(&[&set, &format!("SET {b} w"), &rename, &format!("MGET {a} {b}")], "[(nil), v]");
        check(&[&rename], "-ERR no such key");
        check(&[&set, &format!("RENAME {a} {a}")], "OK");
        check(&[&format!("RENAME {a} {a}")], "-ERR no such key");
    }
}

#[test]
fn renamenx_leaves_a_name_that_is_taken() {
    for (a, b) in PAIRS {
        let set = format!("SET {a} v EX 1000");
        let rename = format!("RENAMENX {a} {b}");
        check(&[&set, &rename], "1");
        check(&[&set, &rename, &format!("TTL {b}")], "1000");
        check(&[&set, &format!("SET {b} w"), &rename], "0");
        check(&[&set, &format!("SET {b} w"), &rename, &format!("MGET {a} {b}")], "[v, w]");
        check(&[&format!("SET {b} w"), &rename], "-ERR no such key");
        check(&[&set, &format!("RENAMENX {a} {a}")], "0");
    }
}

#[test]
fn copy_makes_a_second_key_that_lives_its_own_life() {
    for (a, b) in PAIRS {
        let set = format!("SET {a} v EX 1000");
        let copy = format!("COPY {a} {b}");
        check(&[&set, &copy], "1");
        check(&[&set, &copy, &format!("TTL {b}")], "1000");
        check(&[&set, &copy, &format!("APPEND {b} w"), &format!("MGET {a} {b}")], "[v, vw]");
        check(&[&copy], "0");
        check(&[&set, &format!("SET {b} w"), &copy], "0");
        check(&[&set, &format!("SET {b} w"), &format!("{copy} REPLACE")], "1");
        check(&[&set, &format!("SET {b} w"), &format!("{copy} REPLACE"), &format!("GET {b}")], "v");
        check(&[&set, &format!("{copy} DB 1"), &format!("EXISTS {b}")], "0");
        check(&[&set, &format!("{copy} DB 1"), "SELECT 1", &format!("GET {b}")], "v");
        check(&[&format!("{copy} DB 99")], "-ERR DB index is out of range");
        check(&[&format!("{copy} FOO")], "-ERR syntax error");
    }
    check(&["SET k v", "COPY k k"], "-ERR source and destination objects are the same");
    check(&["SET k v", "COPY k k DB 1"], "1");
}

#[test]
fn move_takes_a_key_to_another_database() {
    check(&["SET k v EX 1000", "MOVE k 1"], "1");
    check(&["SET k v EX 1000", "MOVE k 1", "EXISTS k"], "0");
    check(&["SET k v EX 1000", "MOVE k 1", "SELECT 1", "TTL k"], "1000");
    check(&["SELECT 1", "SET k w", "SELECT 0", "SET k v", "MOVE k 1"], "0");
    check(&["MOVE k 1"], "0");
    check(&["MOVE k 0"], "-ERR source and destination objects are the same");
    check(&["MOVE k 99"], "-ERR DB index is out of range");
    check(&["MOVE k x"], "-ERR value is not an integer or out of range");
}

#[test]
fn keys_finds_what_matches_on_all_shards() {
    let set = "MSET one 1 two 2 three 3 {t}a 4 {t}b 5";
    let found = |pattern: &str, expected: &[&str]| {
        check_that(&[set, &format!("KEYS {pattern}")], &format!("{expected:?} in any order"), |shown| {
            elements(shown) == expected
        });
    };
    found("*", &["one", "three", "two", "{t}a", "{t}b"]);
    found("t*", &["three", "two"]);
    found("{t}*", &["{t}a", "{t}b"]);
    found("one", &["one"]);
    found("nothing", &[]);
    found("[ot]*e", &["one", "three"]);
}

/// The elements of a shown array of plain words, sorted.
fn elements(shown: &str) -> Vec<&str> {
    let inner = shown.trim_start_matches('[').trim_end_matches(']');
    let mut elements: Vec<&str> = inner.split(", ").filter(|element| !element.is_empty()).collect();
    elements.sort_unstable();
    elements
}

#[test]
fn scan_goes_through_all_shards_in_one_call_if_the_count_allows() {
    let set = "MSET one 1 two 2 three 3 {t}a 4 {t}b 5";
    let scanned = |options: &str, expected: &[&str]| {
        check_that(&[set, &format!("SCAN 0 COUNT 1000 {options}")], &format!("{expected:?} in any order"), |shown| {
            shown
                .strip_prefix("[0, ")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|keys| elements(keys) == expected)
        });
    };
    scanned("", &["one", "three", "two", "{t}a", "{t}b"]);
    scanned("MATCH t*", &["three", "two"]);
    scanned("MATCH {t}*", &["{t}a", "{t}b"]);
    scanned("TYPE string MATCH *e", &["one", "three"]);
    scanned("TYPE hash", &[]);
    scanned("TYPE nosuchtype", &[]);
}

#[test]
fn scan_refuses_what_is_no_cursor_and_no_option() {
    check(&["SCAN abc"], "-ERR invalid cursor");
    check(&["SCAN 18446744073709551616"], "-ERR invalid cursor");
    check(&["SCAN 0 COUNT 0"], "-ERR syntax error");
    check(&["SCAN 0 COUNT x"], "-ERR value is not an integer or out of range");
    check(&["SCAN 0 MATCH"], "-ERR syntax error");
    check(&["SCAN 0 FOO 1"], "-ERR syntax error");
    check_that(&["SCAN 18446744073709551615"], "an empty page", |shown| shown.ends_with("[]]"));
}

#[test]
fn randomkey_replies_with_one_of_the_keys() {
    check(&["RANDOMKEY"], "(nil)");
    check_that(&["MSET a 1 b 2 c 3", "RANDOMKEY"], "a key", |shown| ["a", "b", "c"].contains(&shown));
    check(&["SET k v PX 1", "DEBUG SLEEP 0.01", "RANDOMKEY"], "(nil)");
}

#[test]
fn object_tells_how_a_key_is_kept() {
    check(&["OBJECT ENCODING k"], "(nil)");
    check(&["SET k v", "OBJECT REFCOUNT k"], "1");
    check(&["SET k 7", "OBJECT REFCOUNT k"], "2147483647");
    check_that(&["SET k v", "OBJECT IDLETIME k"], "nearly nothing", |shown| ["0", "1"].contains(&shown));
    check_that(&["SET k v", "OBJECT FREQ k"], "an error", |shown| {
        shown.starts_with("-ERR An LFU maxmemory policy is not selected, access frequency not tracked.")
    });
    check(&["OBJECT FREQ k"], "(nil)");
    check(&["OBJECT FOO k"], "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.");
    check(&["OBJECT ENCODING"], "-ERR wrong number of arguments for 'object|encoding' command");
    check_that(&["OBJECT HELP"], "its subcommands", |shown| {
        ["ENCODING key", "FREQ key", "HELP", "IDLETIME key", "REFCOUNT key"].iter().all(|line| shown.contains(line))
    });
}

#[test]
fn wait_does_not_wait_for_replicas_that_are_not_there() {
    check(&["WAIT 0 0"], "0");
    check(&["WAIT 3 100000"], "0");
    check(&["WAIT x 0"], "-ERR value is not an integer or out of range");
    check(&["WAIT 0 x"], "-ERR timeout is not an integer or out of range");
    check(&["WAIT 0 -1"], "-ERR timeout is negative");
}
