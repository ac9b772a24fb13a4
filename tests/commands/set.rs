//! Sets, by what a client sees: members, random ones, and the algebra of several sets, wherever they are.
//! Each shape is tried as an array of integers, packed, and as a table where that could matter.

use super::harness::Server;
use super::{check, check_that};

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

/// Sets `k` in each encoding, with three members that all have: 1, 2 and 3.
fn shapes() -> Vec<(&'static str, Vec<String>)> {
    let many: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
    vec![
        ("intset", vec!["SADD k 1 2 3".to_owned()]),
        ("listpack", vec!["SADD k 1 2 3 x".to_owned()]),
        ("hashtable", vec!["SADD k 1 2 3".to_owned(), format!("SADD k {}", many.join(" "))]),
    ]
}

#[track_caller]
fn check_shapes(commands: &[&str], expected: &str) {
    for (encoding, fill) in shapes() {
        let fill: Vec<&str> = fill.iter().map(String::as_str).collect();
        check(&[&fill[..], &["OBJECT ENCODING k"]].concat(), encoding);
        check(&[&fill[..], commands].concat(), expected);
    }
}

#[test]
fn members_are_added_removed_and_found() {
    check(&["SADD k a b a"], "2");
    check(&["SADD k a", "SADD k a b"], "1");
    check_shapes(&["SISMEMBER k 2"], "1");
    check_shapes(&["SISMEMBER k nobody"], "0");
    check_shapes(&["SMISMEMBER k 1 nobody 3"], "[1, 0, 1]");
    check_shapes(&["SREM k 1 nobody 2"], "2");
    check_shapes(&["SREM k 1", "SADD k 1"], "1");
    check(&["SMISMEMBER k a b"], "[0, 0]");
    check(&["SADD k 1 2 3", "SCARD k"], "3");
    check(&["SCARD k"], "0");
    check(&["SADD k a", "SREM k a", "EXISTS k"], "0");
    check(&["SADD k 5 1 3", "SMEMBERS k"], "[1, 3, 5]");
    check(&["SMEMBERS k"], "[]");
    check(&["SADD k a", "TYPE k"], "set");
}

#[test]
fn all_members_of_a_large_set_arrive_though_it_goes_away() {
    let members: Vec<String> = (0..20_000).map(|n| format!("member:{n}")).collect();
    let server = Server::annulus(4, &[]);
    let mut client = server.connect();
    client.line(&format!("SADD k {}", members.join(" ")));
    client.send_raw(b"SMEMBERS k\r\nDEL k\r\nSMEMBERS k\r\n");
    let reply = client.reply();
    let mut arrived: Vec<String> = reply.elements().expect("an array").iter().map(|member| member.text()).collect();
    arrived.sort_unstable();
    let mut expected = members;
    expected.sort_unstable();
    assert!(arrived == expected, "{} of {} members", arrived.len(), expected.len());
    assert_eq!(client.reply().text(), "(integer) 1");
    assert_eq!(client.reply().elements().map(<[_]>::len), Some(0));
}

#[test]
fn members_are_drawn_at_random() {
    let is_member = |shown: &str| ["1", "2", "3"].contains(&shown);
    check_that(&["SADD k 1 2 3", "SRANDMEMBER k"], "a member", is_member);
    check_that(&["SADD k 1 2 3", "SPOP k"], "a member", is_member);
    check(&["SADD k 1 2 3", "SPOP k", "SCARD k"], "2");
    check(&["SADD k 1 2 3", "SPOP k 2", "SCARD k"], "1");
    check(&["SADD k 1 2 3", "SPOP k 5"], "[1, 2, 3]");
    check(&["SADD k 1 2 3", "SPOP k 3", "EXISTS k"], "0");
    check_shapes(&["SPOP k 2", "SADD k again"], "1");
    check(&["SPOP k"], "(nil)");
    check(&["SPOP k 1"], "[]");
    check(&["SADD k 1", "SPOP k 0"], "[]");
    check(&["SADD k 1", "SPOP k -1"], "-ERR value is out of range, must be positive");
    check(&["SRANDMEMBER k"], "(nil)");
    check(&["SRANDMEMBER k 3"], "[]");
    check(&["SADD k 1", "SRANDMEMBER k 0"], "[]");
    check(&["SADD k 1 2 3", "SRANDMEMBER k 9"], "[1, 2, 3]");
    check(&["SADD k 7", "SRANDMEMBER k -3"], "[7, 7, 7]");
    for (_, fill) in shapes() {
        let mut commands: Vec<&str> = fill.iter().map(String::as_str).collect();
        commands.push("SRANDMEMBER k 3");
        check_that(&commands, "three different members", |shown| {
            let mut members: Vec<&str> = shown.trim_matches(['[', ']']).split(", ").collect();
            members.sort_unstable();
            members.dedup();
            members.len() == 3
        });
    }
}

/// The count is below what a list of that length could be announced with.
#[test]
fn srandmember_of_the_lowest_count_is_refused() {
    check(
        &["SADD k a", "SRANDMEMBER k -9223372036854775808"],
        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
}

/// Billions of members may be asked for: they are drawn while they are sent, so nothing is allocated for them.
#[test]
fn srandmember_of_billions_holds_no_memory() {
    let server = Server::annulus(1, &[]);
    let mut client = server.connect();
    client.line("SADD k a");
    client.send_raw(b"SRANDMEMBER k -9000000000000000000\r\n");
    let mut other = server.connect();
    for _ in 0..20 {
        assert_eq!(other.line("PING").text(), "PONG");
    }
    let memory = other.line("INFO memory").text();
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("INFO tells");
    assert!(used.parse::<u64>().expect("a number") < 64 << 20, "{used}");
}

#[test]
fn sets_are_united_intersected_and_subtracted_wherever_they_are() {
    for (a, b, c, d) in [("a", "b", "c", "d"), ("{t}a", "{t}b", "{t}c", "{t}d"), ("x1", "x2", "x3", "x4")] {
        let fill = [format!("SADD {a} 1 2 3 4"), format!("SADD {b} 3 4 5"), format!("SADD {c} 4 6")];
        let check = |command: String, expected: &str| {
            check(&[&fill[0], &fill[1], &fill[2], &command], expected);
        };
        check(format!("SINTER {a} {b} {c}"), "[4]");
        check(format!("SINTER {a} {b} nothing"), "[]");
        check(format!("SDIFF {a} {b} {c}"), "[1, 2]");
        check(format!("SDIFF nothing {a}"), "[]");
        check(format!("SUNIONSTORE {d} {a} {b} {c}"), "6");
        check(format!("SINTERSTORE {d} {a} {b}"), "2");
        check(format!("SDIFFSTORE {a} {a} {b}"), "2");
        check(format!("SINTERSTORE {d} {a} nothing"), "0");
        check(format!("SINTERCARD 2 {a} {b}"), "2");
        check(format!("SINTERCARD 2 {a} {b} LIMIT 1"), "1");
        check(format!("SINTERCARD 2 {a} {b} LIMIT 0"), "2");
        check(format!("SMOVE {a} {b} 1"), "1");
        check(format!("SMOVE {a} {b} nobody"), "0");
    }
    check(&["SADD a 1", "SADD b 2", "SUNIONSTORE c a b", "SMEMBERS c"], "[1, 2]");
    check(&["SADD a 1 2", "SMOVE a b 1", "SMEMBERS b"], "[1]");
    check(&["SADD a 1", "SMOVE a b 1", "EXISTS a"], "0");
    check(&["SET c x", "SINTERSTORE c a b", "EXISTS c"], "0");
    check(&["SADD a 1", "SET b x", "SUNION a b"], WRONG);
    check(&["SADD a 1", "SET b x", "SMOVE a b 1"], WRONG);
    check(&["SINTERCARD 0 a"], "-ERR numkeys should be greater than 0");
    check(&["SINTERCARD 2 a"], "-ERR Number of keys can't be greater than number of args");
    check(&["SINTERCARD 1 a LIMIT -1"], "-ERR LIMIT can't be negative");
}

#[test]
fn a_scan_goes_through_all_members() {
    check(&["SADD k 1 2 3", "SSCAN k 0"], "[0, [1, 2, 3]]");
    check(&["SADD k 1 2 13", "SSCAN k 0 MATCH 1*"], "[0, [1, 13]]");
    check(&["SSCAN k 0"], "[0, []]");
    check(&["SSCAN k x"], "-ERR invalid cursor");
    let server = Server::annulus(4, &[]);
    let mut client = server.connect();
    let members: Vec<String> = (0..5000).map(|n| format!("m{n}")).collect();
    client.line(&format!("SADD k {}", members.join(" ")));
    let (mut cursor, mut seen, mut calls) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = client.line(&format!("SSCAN k {cursor} COUNT 100"));
        let [next, page] = reply.elements().expect("a page") else { panic!("{reply}") };
        seen.extend(page.elements().expect("members").iter().map(|member| member.text()));
        calls += 1;
        cursor = next.text();
        if cursor == "0" {
            break;
        }
    }
    assert!((45..=55).contains(&calls), "{calls}");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 5000);
}

#[test]
fn commands_of_other_types_are_refused() {
    for command in
        ["SADD k a", "SREM k a", "SCARD k", "SMEMBERS k", "SPOP k", "SRANDMEMBER k", "SISMEMBER k a", "SSCAN k 0"]
    {
        check(&["SET k v", command], WRONG);
    }
    check(&["SADD k a", "LPUSH k a"], WRONG);
}
