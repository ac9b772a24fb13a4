//! Hashes, by what a client sees: fields, values, numbers in them, random ones, and when they expire.
//! Each shape is tried packed and as a table where that could matter.

use std::time::{Duration, Instant};

use super::harness::{Server, Value};
use super::{check, check_that};

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

/// Hashes `k` in each encoding, with `a` = 1, `b` = 2 and, in the large one, many more.
fn shapes() -> Vec<(&'static str, Vec<String>)> {
    let many: Vec<String> = (0..600).map(|n| format!("f{n} v{n}")).collect();
    vec![
        ("listpack", vec!["HSET k a 1 b 2".to_owned()]),
        ("hashtable", vec!["HSET k a 1 b 2".to_owned(), format!("HSET k {}", many.join(" "))]),
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
fn fields_are_set_read_and_removed() {
    check(&["HSET k a 1 b 2"], "2");
    check(&["HSET k a 1", "HSET k a 2 b 3"], "1");
    check_shapes(&["HGET k b"], "2");
    check_shapes(&["HGET k nothing"], "(nil)");
    check_shapes(&["HMGET k a nothing b"], "[1, (nil), 2]");
    check_shapes(&["HSET k a changed", "HGET k a"], "changed");
    check_shapes(&["HDEL k a nothing", "HEXISTS k a"], "0");
    check_shapes(&["HSTRLEN k a"], "1");
    check_shapes(&["HSETNX k a 9", "HGET k a"], "1");
    check_shapes(&["HSETNX k c 9", "HGET k c"], "9");
    check(&["HMSET k a 1", "HGET k a"], "1");
}

#[test]
fn all_fields_and_values_are_listed() {
    check_that(&["HSET k a 1", "HGETALL k"], "a and 1", |shown| shown == "[a, 1]" || shown == "{a: 1}");
    check(&["HSET k a 1", "HKEYS k"], "[a]");
    check(&["HSET k a 1", "HVALS k"], "[1]");
    check(&["HSET k a 1 b 2", "HLEN k"], "2");
    check(&["HLEN k"], "0");
    check(&["HKEYS k"], "[]");
    check(&["HSET k a 1", "HDEL k a", "EXISTS k"], "0");
    check(&["HSET k a 1", "TYPE k"], "hash");
    check(&["HSET k a 1 b 2", "HSCAN k 0"], "[0, [a, 1, b, 2]]");
    check(&["HSET k a 1 b 2", "HSCAN k 0 MATCH b NOVALUES"], "[0, [b]]");
    check(&["HSET k a"], "-ERR wrong number of arguments for 'hset' command");
    check(&["HMSET k a 1 b"], "-ERR wrong number of arguments for 'hmset' command");
}

#[test]
fn all_fields_of_a_large_hash_arrive_though_it_goes_away() {
    let server = Server::annulus(4, &[]);
    let mut client = server.connect();
    let fields: Vec<String> = (0..20_000).map(|n| format!("f{n} v{n}")).collect();
    client.line(&format!("HSET k {}", fields.join(" ")));
    client.send_raw(b"HGETALL k\r\nDEL k\r\nHLEN k\r\n");
    let reply = client.reply();
    let elements = reply.elements().expect("an array in RESP2");
    let mut pairs: Vec<String> =
        elements.chunks(2).map(|pair| format!("{} {}", pair[0].text(), pair[1].text())).collect();
    pairs.sort_unstable();
    let mut expected = fields;
    expected.sort_unstable();
    assert!(pairs == expected, "{} of {} pairs", pairs.len(), expected.len());
    assert_eq!(client.reply().text(), "(integer) 1");
    assert_eq!(client.reply().text(), "(integer) 0");
}

#[test]
fn numbers_in_fields_are_counted() {
    check_shapes(&["HINCRBY k a 41"], "42");
    check_shapes(&["HINCRBY k new -3", "HGET k new"], "-3");
    check_shapes(&["HINCRBYFLOAT k a 0.5"], "1.5");
    check(&["HSET k a x", "HINCRBY k a 1"], "-ERR hash value is not an integer");
    check(&["HSET k a x", "HINCRBYFLOAT k a 1"], "-ERR hash value is not a float");
    check(&["HSET k a 9223372036854775807", "HINCRBY k a 1"], "-ERR increment or decrement would overflow");
    check(&["HINCRBY k a 1.5"], "-ERR value is not an integer or out of range");
    check(&["HINCRBYFLOAT k a inf"], "-ERR value is NaN or Infinity");
    check(&["HINCRBY k a x", "EXISTS k"], "0");
}

#[test]
fn fields_are_drawn_at_random() {
    check(&["HSET k a 1", "HRANDFIELD k"], "a");
    check(&["HRANDFIELD k"], "(nil)");
    check(&["HRANDFIELD k 3"], "[]");
    check(&["HSET k a 1", "HRANDFIELD k -3"], "[a, a, a]");
    check(&["HSET k a 1", "HRANDFIELD k 5"], "[a]");
    check(&["HSET k a 1", "HRANDFIELD k 0"], "[]");
    check_that(&["HSET k a 1", "HRANDFIELD k 1 WITHVALUES"], "a with 1", |shown| {
        shown == "[a, 1]" || shown == "[[a, 1]]"
    });
    check(&["HSET k a 1", "HRANDFIELD k 1 VALUES"], "-ERR syntax error");
    check(
        &["HSET k a 1", "HRANDFIELD k -9223372036854775808"],
        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
    check(&["HSET k a 1", "HRANDFIELD k 9223372036854775807 WITHVALUES"], "-ERR value is out of range");
}

#[test]
fn fields_get_deadlines_and_lose_them() {
    check_shapes(&["HEXPIRE k 1000 FIELDS 2 a nothing"], "[1, -2]");
    check_shapes(&["HEXPIRE k 1000 FIELDS 1 a", "HTTL k FIELDS 3 a b nothing"], "[1000, -1, -2]");
    check_shapes(&["HPEXPIRE k 1000000 FIELDS 1 a", "HTTL k FIELDS 1 a"], "[1000]");
    check_shapes(&["HEXPIREAT k 4102444800 FIELDS 1 a", "HEXPIRETIME k FIELDS 1 a"], "[4102444800]");
    check_shapes(&["HPEXPIREAT k 4102444800123 FIELDS 1 a", "HPEXPIRETIME k FIELDS 1 a"], "[4102444800123]");
    check_shapes(&["HEXPIRE k 1000 FIELDS 1 a", "HPERSIST k FIELDS 3 a b nothing"], "[1, -1, -2]");
    check_shapes(&["HEXPIRE k 1000 FIELDS 1 a", "HPERSIST k FIELDS 1 a", "HTTL k FIELDS 1 a"], "[-1]");
    check_shapes(&["HEXPIREAT k 1 FIELDS 1 a", "HEXISTS k a"], "0");
    check_shapes(&["HEXPIREAT k 1 FIELDS 2 a b"], "[2, 2]");
    check_that(&["HSET k a 1", "HEXPIRE k 900 FIELDS 1 a", "HPTTL k FIELDS 1 a"], "some time", |shown| {
        shown.trim_matches(['[', ']']).parse().is_ok_and(|ms: i64| (1..=900_000).contains(&ms))
    });
    check(&["HSET k a 1", "HEXPIREAT k 1 FIELDS 1 a", "EXISTS k"], "0");
    check(&["HTTL k FIELDS 2 a b"], "[-2, -2]");
    check(&["HEXPIRE k 10 FIELDS 2 a b"], "[-2, -2]");
    check(&["HPERSIST k FIELDS 1 a"], "[-2]");
    check(&["HSET k a 1", "HEXPIRE k 1000 FIELDS 1 a", "HSET k a 2", "HTTL k FIELDS 1 a"], "[-1]");
    check(&["HSET k a 1", "HEXPIRE k 1000 FIELDS 1 a", "HINCRBY k a 2", "HTTL k FIELDS 1 a"], "[1000]");
    check(&["HSET k a 1", "HEXPIRE k 1000 FIELDS 1 a", "OBJECT ENCODING k"], "listpackex");
    check(&["HSET k a 1", "HEXPIRE k 1000 FIELDS 1 a", "RENAME k other", "HTTL other FIELDS 1 a"], "[1000]");
    check(&["HSET k a 1", "HEXPIRE k 1000 FIELDS 1 a", "COPY k other", "HTTL other FIELDS 1 a"], "[1000]");
}

#[test]
fn a_deadline_may_depend_on_the_one_that_is_there() {
    let set = "HSET k a 1";
    check(&[set, "HEXPIRE k 100 XX FIELDS 1 a"], "[0]");
    check(&[set, "HEXPIRE k 100 NX FIELDS 1 a"], "[1]");
    check(&[set, "HEXPIRE k 100 FIELDS 1 a", "HEXPIRE k 200 NX FIELDS 1 a"], "[0]");
    check(&[set, "HEXPIRE k 100 GT FIELDS 1 a"], "[0]");
    check(&[set, "HEXPIRE k 100 LT FIELDS 1 a"], "[1]");
    check(&[set, "HEXPIRE k 100 FIELDS 1 a", "HEXPIRE k 200 GT FIELDS 1 a"], "[1]");
    check(&[set, "HEXPIRE k 100 FIELDS 1 a", "HEXPIRE k 200 LT FIELDS 1 a"], "[0]");
}

#[test]
fn what_stands_wrong_around_fields_is_refused() {
    check(&["HSET k a 1", "HEXPIRE k -1 FIELDS 1 a"], "-ERR invalid expire time, must be >= 0");
    check(&["HSET k a 1", "HEXPIRE k x FIELDS 1 a"], "-ERR value is not an integer or out of range");
    check(&["HEXPIRE k 9223372036854775807 FIELDS 1 a"], "-ERR invalid expire time in 'hexpire' command");
    check(&["HPEXPIRE k 9223372036854775807 FIELDS 1 a"], "-ERR invalid expire time in 'hpexpire' command");
    check(&["HEXPIRE k 10 NX FELDS 1 a"], "-ERR Mandatory argument FIELDS is missing or not at the right position");
    check(&["HEXPIRE k 10 FIELDS 0 a"], "-ERR Parameter `numFields` should be greater than 0");
    check(&["HTTL k FIELDS 2 a"], "-ERR The `numfields` parameter must match the number of arguments");
    check(
        &["HTTL k FIELDS 9223372036854775807 a"],
        "-ERR The `numfields` parameter must match the number of arguments",
    );
}

#[test]
fn values_and_deadlines_change_together() {
    check_shapes(&["HGETDEL k FIELDS 2 a nothing"], "[1, (nil)]");
    check_shapes(&["HGETDEL k FIELDS 1 a", "HEXISTS k a"], "0");
    check(&["HSET k a 1", "HGETDEL k FIELDS 1 a", "EXISTS k"], "0");
    check(&["HGETDEL k FIELDS 1 a"], "[(nil)]");
    check_shapes(&["HGETEX k EX 100 FIELDS 2 a nothing"], "[1, (nil)]");
    check_shapes(&["HGETEX k EX 100 FIELDS 1 a", "HTTL k FIELDS 1 a"], "[100]");
    check_shapes(&["HGETEX k EX 100 FIELDS 1 a", "HGETEX k PERSIST FIELDS 1 a", "HTTL k FIELDS 1 a"], "[-1]");
    check_shapes(&["HGETEX k EX 100 FIELDS 1 a", "HGETEX k FIELDS 1 a", "HTTL k FIELDS 1 a"], "[100]");
    check_shapes(&["HGETEX k PXAT 1 FIELDS 1 a", "HEXISTS k a"], "0");
    check(&["HSETEX k EX 100 FIELDS 2 a 1 b 2", "HTTL k FIELDS 2 a b"], "[100, 100]");
    check(&["HSETEX k FIELDS 1 a 1", "HTTL k FIELDS 1 a"], "[-1]");
    check(&["HSETEX k EX 100 FIELDS 1 a 1", "HSETEX k KEEPTTL FIELDS 1 a 2", "HTTL k FIELDS 1 a"], "[100]");
    check(&["HSETEX k EX 100 FIELDS 1 a 1", "HSETEX k FIELDS 1 a 2", "HTTL k FIELDS 1 a"], "[-1]");
    check(&["HSETEX k FNX FIELDS 1 a 1", "HSETEX k FNX FIELDS 2 a 9 b 9"], "0");
    check(&["HSETEX k FXX FIELDS 1 a 1", "EXISTS k"], "0");
    check(&["HSET k a 1 b 2", "HSETEX k FXX FIELDS 2 a 8 b 9", "HMGET k a b"], "[8, 9]");
    check(&["HSETEX k EX 100 FXX FIELDS 1 a 1"], "0");
    check(&["HSETEX k PXAT 1 FIELDS 1 a 1", "EXISTS k"], "0");
}

#[test]
fn what_stands_wrong_around_values_and_deadlines_is_refused() {
    let missing = "-ERR Mandatory argument FIELDS is missing or not at the right position";
    check(&["HGETEX k EX 10 PERSIST FIELDS 1 a"], missing);
    check(&["HGETEX k FOO FIELDS 1 a"], missing);
    check(&["HGETDEL k FELDS 1 a"], missing);
    check(&["HGETEX k EX x FIELDS 1 a"], "-ERR value is not an integer or out of range");
    check(&["HGETEX k EX -1 FIELDS 1 a"], "-ERR invalid expire time, must be >= 0");
    for command in ["HGETEX k", "HGETDEL k", "HTTL k", "HPERSIST k"] {
        check(&[&format!("{command} FIELDS 0 a")], "-ERR Number of fields must be a positive integer");
        let unequal = "-ERR The `numfields` parameter must match the number of arguments";
        check(&[&format!("{command} FIELDS 2 a")], unequal);
        // The type comes first.
        check(&["SET k v", &format!("{command} FIELDS 0 a")], WRONG);
    }
    check(&["SET k v", "HEXPIRE k x FIELDS 1 a"], WRONG);
    let two = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    check(&["HSETEX k EX 1 PX 1 FIELDS 1 a 1"], two);
    check(&["HSETEX k KEEPTTL EX 1 FIELDS 1 a 1"], two);
    check(&["HSETEX k FNX FXX FIELDS 1 a 1"], "-ERR Only one of FXX or FNX arguments can be specified");
    check(&["HSETEX k FOO FIELDS 1 a 1"], "-ERR unknown argument: FOO");
    check(&["HSETEX k FIELDS 0 a 1"], "-ERR invalid number of fields");
    check(&["HSETEX k FIELDS 2 a 1"], "-ERR wrong number of arguments for 'hsetex' command");
    check(&["HSETEX k FIELDS 1 a 1 b"], "-ERR wrong number of arguments for 'hsetex' command");
    check(&["HSETEX k FNX KEEPTTL FNX EX"], "-ERR Only one of FXX or FNX arguments can be specified");
    check(&["HSETEX k FNX FXX1 KEEPTTL EX"], "-ERR unknown argument: FXX1");
    check(&["HSETEX k FNX EX 5 EX"], two);
    check(&["SET k v", "HSETEX k EX 5 FIELDS 1 a 1"], WRONG);
}

/// Fields are gone for every command from their millisecond on, and from memory soon after; a hash without fields is no key.
#[test]
fn a_field_expires() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        client.line("HSET k stays 1 goes 2");
        client.line("HSET whole a 1 b 2");
        assert_eq!(client.line("HLEN k").to_string(), "(integer) 2");
        client.line("HPEXPIRE k 60 FIELDS 1 goes");
        client.line("HPEXPIRE whole 60 FIELDS 2 a b");
        let deadline = Instant::now() + Duration::from_secs(10);
        while client.line("EXISTS whole").to_string() != "(integer) 0" {
            assert!(Instant::now() < deadline, "the hash is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(client.line("HLEN k").to_string(), "(integer) 1");
        assert_eq!(client.line("HGET k stays").text(), "1");
        assert_eq!(client.line("HGET k goes").to_string(), "(nil)");
        assert_eq!(client.line("HKEYS k").elements().map(<[_]>::len), Some(1));
        assert_eq!(client.line("HSETNX k goes 3").to_string(), "(integer) 1");
        assert!(client.line("INFO stats").text().contains("expired_subkeys:"));
    }
}

#[test]
fn commands_of_other_types_are_refused() {
    for command in
        ["HSET k a 1", "HGET k a", "HDEL k a", "HLEN k", "HGETALL k", "HINCRBY k a 1", "HTTL k FIELDS 1 a", "HSCAN k 0"]
    {
        check(&["SET k v", command], WRONG);
    }
    check(&["HSET k a 1", "SADD k a"], WRONG);
}

/// Twenty thousand fields are due in the same millisecond: whoever writes then takes out a few, and the rest goes away behind
/// everybody's back. None of them is seen meanwhile.
#[test]
fn many_fields_that_are_due_at_once_hold_up_nobody() {
    let server = Server::annulus(1, &["--enable-debug-command", "yes"]);
    let mut client = server.connect();
    assert_eq!(client.line("DEBUG SET-ACTIVE-EXPIRE 0").text(), "OK");
    for part in 0..20 {
        let fields: Vec<String> = (0..1000).map(|n| format!("f{part}:{n}")).collect();
        let pairs: Vec<String> = fields.iter().map(|field| format!("{field} v")).collect();
        client.line(&format!("HSETEX k PXAT 33000000000000 FIELDS 1000 {}", pairs.join(" ")));
    }
    let due = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() + 1500;
    for part in 0..20 {
        let fields: Vec<String> = (0..1000).map(|n| format!("f{part}:{n}")).collect();
        client.line(&format!("HPEXPIREAT k {due} FIELDS 1000 {}", fields.join(" ")));
    }
    client.line("HSET k stays 1");
    while client.line("HEXISTS k f0:0") == Value::Int(1) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.line("HLEN k"), Value::Int(1));
    assert_eq!(client.line("HSETNX k f19:999 new"), Value::Int(1));
    assert_eq!(client.line("HSET k f18:999 new f17:999 new f17:999 newer"), Value::Int(2));
    assert_eq!(client.line("HDEL k f16:999"), Value::Int(0));
    assert_eq!(client.line("HINCRBY k f15:999 5"), Value::Int(5));
    assert_eq!(client.line("HGETDEL k FIELDS 1 f14:999").to_string(), "[(nil)]");
    assert_eq!(client.line("HSETEX k FNX FIELDS 1 f13:999 new"), Value::Int(1));
    assert_eq!(client.line("HEXPIRE k 100 FIELDS 2 f12:999 stays").to_string(), "[(integer) -2, (integer) 1]");
    assert_eq!(client.line("HTTL k FIELDS 2 f19:999 f18:999").to_string(), "[(integer) -1, (integer) -1]");
    assert_eq!(client.line("HLEN k"), Value::Int(6));
    assert_eq!(client.line("HRANDFIELD k 100").elements().map(<[_]>::len), Some(6));
    assert_eq!(client.line("DEBUG SET-ACTIVE-EXPIRE 1").text(), "OK");
    let deadline = Instant::now() + Duration::from_secs(20);
    let expired = |client: &mut super::Client| {
        let info = client.line("INFO stats").text();
        let line = info.lines().find_map(|line| line.strip_prefix("expired_subkeys:")).expect("a line");
        line.trim().parse::<u64>().expect("a number")
    };
    while expired(&mut client) < 19_000 {
        assert!(Instant::now() < deadline, "fields that are due are still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.line("HLEN k"), Value::Int(6));
}
