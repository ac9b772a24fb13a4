//! Lists, by what a client sees: both ends, ranges, searching, moving, and waiting where nothing is there.
//! Each shape is tried packed and as a sequence of nodes where that could matter.

use super::harness::Server;
use super::{check, check_that};

/// A list of the numbers 0 to 299, which is longer than one node of the limit that is set first.
fn long() -> Vec<String> {
    let numbers: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    vec!["CONFIG SET list-max-listpack-size 16".to_owned(), format!("RPUSH k {}", numbers.join(" "))]
}

#[track_caller]
fn check_long(commands: &[&str], expected: &str) {
    let long = long();
    let all: Vec<&str> = long.iter().map(String::as_str).chain(commands.iter().copied()).collect();
    check(&all, expected);
    check(&["CONFIG SET list-max-listpack-size -2"], "OK");
}

#[test]
fn elements_are_pushed_and_popped_at_both_ends() {
    check(&["RPUSH k a b c", "LPUSH k x y", "LRANGE k 0 -1"], "[y, x, a, b, c]");
    check(&["RPUSH k a b c", "LPOP k"], "a");
    check(&["RPUSH k a b c", "RPOP k"], "c");
    check(&["RPUSH k a b c", "LPOP k 2"], "[a, b]");
    check(&["RPUSH k a b c", "RPOP k 9"], "[c, b, a]");
    check(&["RPUSH k a b c", "RPOP k 9", "EXISTS k"], "0");
    check(&["RPUSH k a", "LPOP k 0"], "[]");
    check(&["LPOP k"], "(nil)");
    check(&["LPOP k 1"], "(nil)");
    check(&["RPUSH k a", "LPOP k -1"], "-ERR value is out of range, must be positive");
    check(&["RPUSH k a", "LPOP k 9223372036854775807"], "[a]");
    check_long(&["LPOP k", "RPOP k", "LLEN k"], "298");
    check_long(&["LPOP k 40", "LINDEX k 0"], "40");
}

#[test]
fn a_push_may_ask_for_the_list_to_be_there() {
    check(&["LPUSHX k a"], "0");
    check(&["RPUSHX k a", "EXISTS k"], "0");
    check(&["RPUSH k a", "LPUSHX k b c", "RPUSHX k d", "LRANGE k 0 -1"], "[c, b, a, d]");
}

#[test]
fn ranges_and_indexes_count_from_either_end() {
    check(&["RPUSH k a b c d", "LRANGE k 1 2"], "[b, c]");
    check(&["RPUSH k a b c d", "LRANGE k -2 100"], "[c, d]");
    check(&["RPUSH k a b c d", "LRANGE k 3 1"], "[]");
    check(&["RPUSH k a b c d", "LRANGE k -9223372036854775808 9223372036854775807"], "[a, b, c, d]");
    check(&["LRANGE k 0 -1"], "[]");
    check(&["RPUSH k a b c", "LINDEX k -1"], "c");
    check(&["RPUSH k a b c", "LINDEX k 3"], "(nil)");
    check(&["RPUSH k a b c", "LINDEX k -9223372036854775808"], "(nil)");
    check(&["RPUSH k a", "LINDEX k x"], "-ERR value is not an integer or out of range");
    check_long(&["LINDEX k 150"], "150");
    check_long(&["LRANGE k 148 151"], "[148, 149, 150, 151]");
}

#[test]
fn a_long_range_is_whole_though_the_list_changes_behind_it() {
    let numbers: Vec<String> = (0..30_000).map(|n| format!("element:{n}")).collect();
    let push = format!("RPUSH k {}", numbers.join(" "));
    let whole = format!("[{}]", numbers.join(", "));
    check(&[&push, "LRANGE k 0 -1"], &whole);
    let server = Server::annulus(4, &[]);
    let mut client = server.connect();
    client.line(&push);
    client.send_raw(b"LRANGE k 0 -1\r\nLTRIM k 1 0\r\nLLEN k\r\n");
    let reply = client.reply();
    let elements = reply.elements().expect("LRANGE replies with an array");
    assert_eq!(elements.len(), numbers.len());
    for (element, number) in elements.iter().zip(&numbers) {
        assert_eq!(element.text(), *number);
    }
    assert_eq!(client.reply().text(), "OK");
    assert_eq!(client.reply().text(), "(integer) 0");
}

#[test]
fn elements_are_set_inserted_removed_and_trimmed() {
    check(&["RPUSH k a b c", "LSET k -1 z", "LRANGE k 0 -1"], "[a, b, z]");
    check(&["LSET k 0 a"], "-ERR no such key");
    check(&["RPUSH k a", "LSET k 1 a"], "-ERR index out of range");
    check(&["RPUSH k a b", "LINSERT k BEFORE b x", "LINSERT k AFTER b y", "LRANGE k 0 -1"], "[a, x, b, y]");
    check(&["RPUSH k a", "LINSERT k BEFORE nothing x"], "-1");
    check(&["LINSERT k BEFORE a x"], "0");
    check(&["LINSERT k BESIDE a x"], "-ERR syntax error");
    check(&["RPUSH k a b a c a", "LREM k 2 a", "LRANGE k 0 -1"], "[b, c, a]");
    check(&["RPUSH k a b a c a", "LREM k -2 a", "LRANGE k 0 -1"], "[a, b, c]");
    check(&["RPUSH k a b a c a", "LREM k 0 a", "LRANGE k 0 -1"], "[b, c]");
    check(&["RPUSH k a", "LREM k 0 a", "EXISTS k"], "0");
    check(&["RPUSH k a b c d", "LTRIM k 1 -2", "LRANGE k 0 -1"], "[b, c]");
    check(&["RPUSH k a b", "LTRIM k 5 9", "EXISTS k"], "0");
    check_long(&["LSET k 100 x", "LINSERT k AFTER x y", "LRANGE k 99 102"], "[99, x, y, 101]");
    check_long(&["LREM k 1 200", "LTRIM k 100 250", "LLEN k"], "151");
}

#[test]
fn lpos_finds_matches_by_rank_count_and_length() {
    check(&["RPUSH k a b a c a", "LPOS k a"], "0");
    check(&["RPUSH k a b a c a", "LPOS k a RANK 2"], "2");
    check(&["RPUSH k a b a c a", "LPOS k a RANK -1"], "4");
    check(&["RPUSH k a b a c a", "LPOS k a COUNT 0"], "[0, 2, 4]");
    check(&["RPUSH k a b a c a", "LPOS k a COUNT 2 RANK -1"], "[4, 2]");
    check(&["RPUSH k a b a c a", "LPOS k c MAXLEN 3"], "(nil)");
    check(&["LPOS k a COUNT 1"], "[]");
    check(&["RPUSH k a", "LPOS k a COUNT -1"], "-ERR COUNT can't be negative");
    check(&["RPUSH k a", "LPOS k a MAXLEN -1"], "-ERR MAXLEN can't be negative");
}

#[test]
fn lpos_rank_min_is_refused_cve_2022_31144_kin() {
    check(
        &["RPUSH k a", "LPOS k a RANK -9223372036854775808"],
        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
}

#[test]
fn an_element_moves_between_lists_of_any_shards() {
    for (source, destination) in [("a", "b"), ("{t}a", "{t}b"), ("x1", "x2"), ("same", "same")] {
        let fill = format!("RPUSH {source} 1 2 3");
        check(&[&fill, &format!("LMOVE {source} {destination} LEFT RIGHT")], "1");
        check(&[&fill, &format!("RPOPLPUSH {source} {destination}"), &format!("LINDEX {destination} 0")], "3");
    }
    check(&["LMOVE a b LEFT RIGHT"], "(nil)");
    check(
        &["RPUSH a 1", "SET b x", "LMOVE a b LEFT LEFT"],
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
    );
    check(&["RPUSH a 1", "SET b x", "LMOVE a b LEFT LEFT", "LLEN a"], "1");
    check(&["LMOVE a b UP LEFT"], "-ERR syntax error");
}

#[test]
fn lmpop_takes_from_the_first_list_that_has_any() {
    check(&["RPUSH c 1 2 3", "LMPOP 3 a b c LEFT COUNT 2"], "[c, [1, 2]]");
    check(&["RPUSH c 1 2 3", "LMPOP 1 c RIGHT"], "[c, [3]]");
    check(&["LMPOP 2 a b LEFT"], "(nil)");
    check(&["LMPOP 0 a LEFT"], "-ERR numkeys should be greater than 0");
    check(&["LMPOP 1 a LEFT COUNT 0"], "-ERR count should be greater than 0");
    check(&["LMPOP 5 a LEFT"], "-ERR syntax error");
    check(&["SET a x", "LMPOP 2 a b LEFT"], "-WRONGTYPE Operation against a key holding the wrong kind of value");
}

#[test]
fn commands_of_other_types_are_refused_by_a_list() {
    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    for command in ["GET k", "INCR k", "APPEND k x", "SETRANGE k 0 x", "GETSET k x", "GETDEL k", "STRLEN k", "LCS k k2"]
    {
        check_that(&["RPUSH k a", "SET k2 x", command], WRONG, |shown| shown == WRONG || command == "LCS k k2");
    }
    check(&["RPUSH k a", "MGET k"], "[(nil)]");
    check(&["RPUSH k a", "SET k v", "GET k"], "v");
    for command in
        ["LPUSH k a", "LPOP k", "LLEN k", "LRANGE k 0 1", "LSET k 0 x", "LREM k 0 x", "LTRIM k 0 1", "LPOS k a"]
    {
        check(&["SET k v", command], WRONG);
    }
    check(&["RPUSH k a", "TYPE k"], "list");
    check(&["RPUSH k a", "OBJECT ENCODING k"], "listpack");
    check_long(&["OBJECT ENCODING k"], "quicklist");
    check(&["RPUSH k a b", "COPY k copy", "LPOP k", "LRANGE copy 0 -1"], "[a, b]");
    check(&["RPUSH k a b", "RENAME k other", "LRANGE other 0 -1"], "[a, b]");
    check(&["RPUSH k a b", "MOVE k 1", "SELECT 1", "LLEN k"], "2");
    check(&["RPUSH k a", "SCAN 0 TYPE list COUNT 1000"], "[0, [k]]");
}

#[test]
fn what_is_there_is_taken_without_waiting() {
    check(&["RPUSH b 1 2", "BLPOP a b 0"], "[b, 1]");
    check(&["RPUSH b 1 2", "BRPOP a b 0"], "[b, 2]");
    check(&["RPUSH a 1 2", "BLMOVE a b LEFT RIGHT 0"], "1");
    check(&["RPUSH a 1 2", "BRPOPLPUSH a b 0"], "2");
    check(&["RPUSH b 1 2 3", "BLMPOP 0 2 a b RIGHT COUNT 2"], "[b, [3, 2]]");
    check(&["BLPOP a b 0.01"], "(nil)");
    check(&["BLMOVE a b LEFT LEFT 0.01"], "(nil)");
    check(&["SET a x", "BLPOP a 0"], "-WRONGTYPE Operation against a key holding the wrong kind of value");
    check(&["BLPOP a x"], "-ERR timeout is not a float or out of range");
    check(&["BLPOP a -1"], "-ERR timeout is negative");
}
