//! SORT and SORT_RO: orders, patterns, windows and what is stored. Comparison with redis-server under random options is in
//! `tests/differential/sort.rs`.

use annulus::base::rng::Rng;

use super::check;
use super::harness::{Client, Server, Value};

const NO_NUMBER: &str = "-ERR One or more scores can't be converted into double";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";
const SYNTAX: &str = "-ERR syntax error";

const WEIGHTS: [&str; 4] = ["RPUSH l 1 2 3 4", "MSET w_1 30 w_2 10 w_3 20", "MSET v_1 one v_2 two v_4 four", "TYPE l"];

/// After the weights above.
fn check_weighed(command: &str, expected: &str) {
    check(&[&WEIGHTS[..], &[command]].concat(), expected);
}

#[test]
fn numbers_are_sorted_by_value_and_words_by_their_bytes() {
    check(&["RPUSH l 10 9 -1 1e2 0x10", "SORT l"], "[-1, 9, 10, 0x10, 1e2]");
    check(&["RPUSH l 10 9 -1", "SORT l DESC"], "[10, 9, -1]");
    check(&["RPUSH l 10 9 -1", "SORT l DESC ASC"], "[-1, 9, 10]");
    check(&["RPUSH l b A a B", "SORT l ALPHA"], "[A, B, a, b]");
    check(&["RPUSH l 10 9 b", "SORT_RO l ALPHA DESC"], "[b, 9, 10]");
    check(&["SADD s 3 1 2", "SORT s"], "[1, 2, 3]");
    check(&["SADD s c a b", "SORT_RO s ALPHA"], "[a, b, c]");
    check(&["ZADD z 9 1 8 2 7 3", "SORT z"], "[1, 2, 3]");
    check(&["SORT nothing"], "[]");
}

#[test]
fn what_is_no_number_cannot_be_sorted_as_one() {
    for word in ["x", "1x", "\" \"", "nan", "1e400", "1e-400", "5e-324", "\"1 \""] {
        check(&[&format!("RPUSH l 1 {word}"), "SORT l"], NO_NUMBER);
        check(&[&format!("RPUSH l 1 {word}"), "SORT_RO l LIMIT 0 0"], NO_NUMBER);
        check(&["RPUSH l 1", &format!("SET w_1 {word}"), "SORT l BY w_*"], NO_NUMBER);
    }
    check(&["RPUSH l 3 \"\" \" 2\" \"1\\0x\" -inf", "SORT l BY *", "SORT l LIMIT 0 2"], "[-inf, ]");
    check(&["RPUSH l 1 x", "SET d v", "SORT l STORE d", "GET d"], "v");
}

#[test]
fn keys_named_after_the_elements_decide_their_order() {
    check_weighed("SORT l BY w_*", "[4, 2, 3, 1]");
    check_weighed("SORT l BY w_* DESC", "[1, 3, 2, 4]");
    check_weighed("SORT_RO l BY v_* ALPHA", "[3, 4, 1, 2]");
    check_weighed("SORT l BY v_* ALPHA DESC", "[2, 1, 4, 3]");
    check(&["RPUSH l a b", "HSET h_a f 2 g x", "HSET h_b f 1", "SORT l BY h_*->f"], "[b, a]");
    // What is of another type, or no such field, is as if it was not there.
    check(&["RPUSH l c b a", "HSET w_a f 2", "SET w_b 1", "SORT l BY w_*"], "[a, c, b]");
    check(&["RPUSH l c b a", "HSET h_a f 2", "SET h_b 1", "SORT l BY h_*->f"], "[b, c, a]");
    check(&["RPUSH l c b a", "HSET h_a f 2", "SORT l BY h_*->"], "[a, b, c]");
}

#[test]
fn elements_of_the_same_weight_are_sorted_by_their_bytes() {
    check(&["RPUSH l c a b 10 9", "SORT l BY none_*"], "[10, 9, a, b, c]");
    check(&["RPUSH l c a b 10 9", "SORT l BY none_* DESC"], "[c, b, a, 9, 10]");
    check(&["RPUSH l 1 1.0 01 +1", "SORT l"], "[+1, 01, 1, 1.0]");
    check(&["RPUSH l c a b", "SORT l BY none_* ALPHA"], "[c, a, b]");
    check(&["RPUSH l c a b", "SORT l BY none_* ALPHA DESC"], "[c, a, b]");
    check(&["SADD s c a b", "SORT s BY none_* ALPHA"], "[a, b, c]");
}

#[test]
fn by_a_constant_nothing_is_sorted() {
    check(&["RPUSH l b x a", "SORT l BY nosort"], "[b, x, a]");
    check(&["RPUSH l b x a", "SORT l BY nosort DESC"], "[a, x, b]");
    check(&["RPUSH l b x a", "SORT_RO l BY nosort DESC LIMIT 1 1"], "[x]");
    check(&["RPUSH l b x a", "SORT l BY nosort DESC LIMIT 1 5"], "[x, b]");
    check(&["RPUSH l b x a", "SORT l BY nosort LIMIT 3 5"], "[]");
    check(&["ZADD z 3 a 2 b 1 c", "SORT z BY nosort"], "[c, b, a]");
    check(&["ZADD z 3 a 2 b 1 c", "SORT z BY nosort DESC LIMIT 0 2"], "[a, b]");
    check(&["ZADD z 3 a 2 b 1 c", "SORT z BY nosort DESC LIMIT 2 2"], "[c]");
    check(&["SADD s 3 1 2", "SORT s BY nosort LIMIT 1 1"], "[2]");
    // Said once, it holds.
    check(&["RPUSH l b a", "SORT l BY nosort BY w_*"], "[b, a]");
    check(&["RPUSH l b a", "SORT l BY w_* BY #"], "[b, a]");
}

#[test]
fn a_set_that_is_stored_unsorted_is_sorted_all_the_same() {
    check(&["SADD s c 10 9 a", "SORT s BY nosort STORE d", "LRANGE d 0 -1"], "[10, 9, a, c]");
    check(&["SADD s c 10 9 a", "SORT s BY nosort DESC STORE d", "LRANGE d 0 -1"], "[c, a, 9, 10]");
    check(&["RPUSH l c 10 9 a", "SORT l BY nosort STORE d", "LRANGE d 0 -1"], "[c, 10, 9, a]");
}

#[test]
fn get_replies_with_what_keys_hold() {
    check_weighed("SORT l GET v_*", "[one, two, (nil), four]");
    check_weighed("SORT l BY w_* GET # GET v_* GET w_*", "[4, four, (nil), 2, two, 10, 3, (nil), 20, 1, one, 30]");
    check_weighed("SORT_RO l GET constant LIMIT 0 2", "[(nil), (nil)]");
    check(
        &["RPUSH l 1", "HSET h_1 f v", "SORT l GET h_*->f GET h_*->g GET h_* GET h_1->f"],
        "[v, (nil), (nil), (nil)]",
    );
    check(&["RPUSH l 1 2", "SORT l GET l"], "[(nil), (nil)]");
    check(&["RPUSH l 1", "SET 1 v", "SET x1y w", "SORT l GET * GET x*y GET x*y*"], "[v, w, (nil)]");
    check(
        &["RPUSH l 1", &format!("SET v_1 {}", "x".repeat(70_000)), "SORT l GET v_*"],
        &format!("[{}]", "x".repeat(70_000)),
    );
}

#[test]
fn limit_takes_any_numbers() {
    check(&["RPUSH l 3 1 2", "SORT l LIMIT 1 1"], "[2]");
    for (limit, expected) in [
        ("0 0", "[]"),
        ("0 -1", "[1, 2, 3]"),
        ("-5 2", "[1, 2]"),
        ("1 -9223372036854775808", "[2, 3]"),
        ("-9223372036854775808 9223372036854775807", "[1, 2, 3]"),
        ("9223372036854775807 9223372036854775807", "[]"),
        ("2 9223372036854775807", "[3]"),
        ("3 1", "[]"),
    ] {
        check(&["RPUSH l 3 1 2", &format!("SORT l LIMIT {limit}")], expected);
        check(&["SADD l 3 1 2", &format!("SORT_RO l LIMIT {limit}")], expected);
        check(&["ZADD l 1 1 2 2 3 3", &format!("SORT l BY x LIMIT {limit}")], expected);
    }
    check(&["RPUSH l 1", "SORT l LIMIT 9223372036854775808 1"], NOT_AN_INTEGER);
    check(&["RPUSH l 1", "SORT l LIMIT 1 x"], NOT_AN_INTEGER);
    check(&["RPUSH l 1", "SORT l LIMIT 0"], SYNTAX);
}

#[test]
fn store_leaves_a_list() {
    check(&["RPUSH l 3 1 2", "SORT l STORE d"], "3");
    check(&["RPUSH l 3 1 2", "SORT l STORE d", "LRANGE d 0 -1"], "[1, 2, 3]");
    check(&["RPUSH l 3 1 2", "SORT l STORE l", "LRANGE l 0 -1"], "[1, 2, 3]");
    check(&["RPUSH l 3 1 2", "SET d v", "SORT l DESC STORE d", "TYPE d"], "list");
    check(&["SET d v", "SORT nothing STORE d", "EXISTS d"], "0");
    check(&["RPUSH l 1", "SET d v", "SORT l LIMIT 5 5 STORE d", "EXISTS d"], "0");
    check(&["RPUSH l 1", "SET d v EX 100", "SORT l STORE d", "TTL d"], "-1");
    check(&["RPUSH l 1", "SORT l STORE a STORE b", "EXISTS a b"], "1");
    let stored = [&WEIGHTS[..], &["SORT l BY w_* GET v_* GET # STORE d", "LRANGE d 0 -1"]].concat();
    check(&stored, "[four, 4, two, 2, , 3, one, 1]");
}

#[test]
fn a_waiting_client_is_served_what_was_stored() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let (mut waiting, mut other) = (server.connect(), server.connect());
        waiting.send(&["BLPOP", "d", "0"]);
        while !other.line("CLIENT LIST").text().contains("cmd=blpop") {}
        other.line("RPUSH l 2 1");
        assert_eq!(other.line("SORT l STORE d"), Value::Int(2));
        assert_eq!(
            waiting.reply().to_string(),
            Value::Array(vec![Value::Bulk(b"d".to_vec()), Value::Bulk(b"1".to_vec())]).to_string()
        );
    }
}

#[test]
fn what_cannot_be_sorted_is_refused() {
    check(&["SET s v", "SORT s"], "-WRONGTYPE Operation against a key holding the wrong kind of value");
    check(&["HSET h f v", "SORT_RO h BY nosort"], "-WRONGTYPE Operation against a key holding the wrong kind of value");
    check(&["SET s v", "SORT s LIMIT x 1"], NOT_AN_INTEGER);
    check(&["SET s v", "SORT s BY"], SYNTAX);
    check(&["SET s v", "SORT s FOO"], SYNTAX);
    check(&["RPUSH l 1", "SORT_RO l STORE d"], SYNTAX);
    check(&["SORT"], "-ERR wrong number of arguments for 'sort' command");
}

#[test]
fn getkeys_names_the_source_and_the_destination() {
    check(&["COMMAND GETKEYS SORT a BY x STORE b GET STORE LIMIT STORE STORE STORE c"], "[a, c]");
    check(&["COMMAND GETKEYS SORT a BY w_* GET v_*"], "[a]");
    check(&["COMMAND GETKEYS SORT_RO a BY x GET y STORE z"], "[a]");
    check(&["COMMAND GETKEYSANDFLAGS SORT a STORE b"], "[[a, [RO, access]], [b, [OW, update]]]");
}

/// The same command at 1 and at 4 shards, on long values: in slices, with a snapshot, and with patterns.
#[test]
fn long_values_are_sorted_as_short_ones_are() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        let mut rng = Rng::seed(seed);
        let mut numbers: Vec<u64> = (0..20_000).map(|_| rng.below(1_000_000)).collect();
        for chunk in numbers.chunks(1000) {
            let text = chunk.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            client.line(&format!("RPUSH l {text}"));
            client.line(&format!("SADD s {text}"));
            let pairs = chunk.iter().map(|n| format!("{n} {n}")).collect::<Vec<_>>().join(" ");
            client.line(&format!("ZADD z {pairs}"));
            let weights = chunk.iter().map(|n| format!("w_{n} -{n}")).collect::<Vec<_>>().join(" ");
            client.line(&format!("MSET {weights}"));
        }
        let unsorted = numbers.clone();
        numbers.sort_unstable();
        let mut members = numbers.clone();
        members.dedup();
        let reversed = |numbers: &[u64]| numbers.iter().rev().copied().collect::<Vec<_>>();
        let mut expect = |command: &str, expected: &[u64]| {
            let found: Vec<u64> = elements(&mut client, command);
            assert!(found == expected, "{command} at {shards} shards, seed {seed}");
        };
        expect("SORT l", &numbers);
        expect("SORT_RO l DESC", &reversed(&numbers));
        expect("SORT l LIMIT 7000 9000", &numbers[7000..16_000]);
        expect("SORT l LIMIT 10 20", &numbers[10..30]);
        expect("SORT s", &members);
        expect("SORT s DESC LIMIT 0 5", &reversed(&members)[..5]);
        expect("SORT z", &members);
        expect("SORT z BY nosort DESC", &reversed(&members));
        expect("SORT l BY nosort", &unsorted);
        expect("SORT l BY nosort DESC", &reversed(&unsorted));
        expect("SORT l BY nosort LIMIT 3 15000", &unsorted[3..15_003]);
        expect("SORT l BY nosort DESC LIMIT 3 15000", &reversed(&unsorted)[3..15_003]);
        expect("SORT l BY w_*", &reversed(&numbers));
        expect("SORT l BY w_* LIMIT 5000 5000 GET #", &reversed(&numbers)[5000..10_000]);
        let lines = ["SORT l STORE d", "SORT s BY w_* STORE d2", "SORT l BY nosort STORE d3"];
        let lengths = [numbers.len(), members.len(), numbers.len()];
        for (line, len) in lines.iter().zip(lengths) {
            assert_eq!(client.line(line), Value::Int(len as i64), "{line}");
        }
        assert_eq!(elements(&mut client, "LRANGE d 0 -1"), numbers);
        assert_eq!(elements(&mut client, "LRANGE d2 0 -1"), reversed(&members));
        assert_eq!(elements(&mut client, "LRANGE d3 0 -1"), unsorted);
    }
}

fn elements(client: &mut Client, command: &str) -> Vec<u64> {
    let reply = client.line(command);
    let elements = reply.elements().unwrap_or_else(|| panic!("{command} gave {reply}"));
    elements.iter().map(|element| element.text().parse().expect("numbers were stored")).collect()
}

#[test]
fn inside_a_transaction_it_sees_what_the_transaction_did() {
    let queued = ["MULTI", "RPUSH l 2 1 3", "MSET w_1 30 w_2 10 w_3 20", "SORT l BY w_* GET # STORE d"];
    check(&[&queued[..], &["LRANGE d 0 -1", "EXEC"]].concat(), "[3, OK, 3, [2, 3, 1]]");
    check(&["MULTI", "SADD s 2 1", "SORT s", "SUNIONSTORE t s", "SMEMBERS t", "EXEC"], "[2, [1, 2], 2, [1, 2]]");
}
