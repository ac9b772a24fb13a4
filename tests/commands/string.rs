//! Strings, by what a client sees: read, written, counted, cut, compared.
//! Values are tried in each encoding where the encoding could matter: integer, short, long, large.

use super::{check, check_that};

#[test]
fn a_string_that_was_set_is_read_back() {
    check(&["SET k v", "GET k"], "v");
    check(&["SET k \"\"", "GET k"], "");
    check(&["SET \"a\\r\\n\\0b\" \"x\\r\\ny\"", "GET \"a\\r\\n\\0b\""], "x\r\ny");
    check(&["GET k"], "(nil)");
    check(&["SET k v", "STRLEN k"], "1");
    check(&["STRLEN k"], "0");
}

#[test]
fn setting_again_replaces_value_and_time_to_live() {
    check(&["SET k v EX 1000", "SET k w", "GET k"], "w");
    check(&["SET k v EX 1000", "SET k w", "TTL k"], "-1");
    check(&["SET k v EX 1000", "SET k w KEEPTTL", "TTL k"], "1000");
    check(&["SET k v EX 1000", "GETSET k w", "TTL k"], "-1");
    check(&["SET k v EX 1000", "MSET k w", "TTL k"], "-1");
}

#[test]
fn set_may_depend_on_whether_the_key_is_there() {
    check(&["SET k v NX"], "OK");
    check(&["SET k v", "SET k w NX"], "(nil)");
    check(&["SET k v XX"], "(nil)");
    check(&["SET k v", "SET k w XX", "GET k"], "w");
    check(&["SET k v", "SET k w NX GET"], "v");
    check(&["SET k v NX GET"], "(nil)");
    check(&["SET k v NX XX"], "-ERR syntax error");
    check(&["SETNX k v"], "1");
    check(&["SET k v", "SETNX k w"], "0");
}

#[test]
fn set_may_depend_on_the_value_that_is_there() {
    check(&["SET k v", "SET k w IFEQ v", "GET k"], "w");
    check(&["SET k v", "SET k w IFEQ x"], "(nil)");
    check(&["SET k w IFEQ x"], "(nil)");
    check(&["SET k 12", "SET k w IFEQ 12"], "OK");
    check(&["SET k v", "SET k w IFEQ x GET"], "v");
    check(&["SET k v", "SET k w IFNE v"], "(nil)");
    check(&["SET k v", "SET k w IFNE x", "GET k"], "w");
    check(&["SET k w IFNE x"], "OK");
    check(&["SET k w IFEQ a NX"], "-ERR syntax error");
}

#[test]
fn set_takes_a_time_to_live_in_four_forms() {
    check(&["SET k v EX 1000", "TTL k"], "1000");
    check(&["SET k v PX 1000000", "TTL k"], "1000");
    check(&["SET k v EXAT 4102444800", "EXPIRETIME k"], "4102444800");
    check(&["SET k v PXAT 4102444800123", "PEXPIRETIME k"], "4102444800123");
    check(&["SETEX k 1000 v", "TTL k"], "1000");
    check(&["PSETEX k 1000000 v", "TTL k"], "1000");
    check(&["SET k v EXAT 1", "GET k"], "(nil)");
}

#[test]
fn a_time_to_live_that_makes_no_sense_is_refused() {
    for time in ["0", "-1", "9223372036854775807"] {
        check(&[&format!("SET k v EX {time}")], "-ERR invalid expire time in 'set' command");
        check(&[&format!("SETEX k {time} v")], "-ERR invalid expire time in 'setex' command");
        check(&[&format!("PSETEX k {time} v")], "-ERR invalid expire time in 'psetex' command");
    }
    check(&["SET k v", "GETEX k EX 0"], "-ERR invalid expire time in 'getex' command");
    check(&["SET k v EX x"], "-ERR value is not an integer or out of range");
    check(&["SET k v EX 1 PX 1"], "-ERR syntax error");
    check(&["SET k v EX"], "-ERR syntax error");
}

#[test]
fn getex_reads_and_changes_the_time_to_live() {
    check(&["SET k v", "GETEX k EX 1000"], "v");
    check(&["SET k v", "GETEX k EX 1000", "TTL k"], "1000");
    check(&["SET k v EX 1000", "GETEX k PERSIST", "TTL k"], "-1");
    check(&["SET k v EX 1000", "GETEX k", "TTL k"], "1000");
    check(&["SET k v", "GETEX k PXAT 1", "EXISTS k"], "0");
    check(&["GETEX k EX 0"], "(nil)");
}

#[test]
fn getdel_and_getset_reply_with_what_was_there() {
    check(&["SET k v", "GETDEL k"], "v");
    check(&["SET k v", "GETDEL k", "EXISTS k"], "0");
    check(&["GETDEL k"], "(nil)");
    check(&["SET k v", "GETSET k w"], "v");
    check(&["GETSET k w"], "(nil)");
    check(&["GETSET k w", "GET k"], "w");
}

#[test]
fn many_keys_are_read_and_written_wherever_they_are() {
    check(&["MSET a 1 b 2 c 3 d 4 e 5", "MGET a b x c d e a"], "[1, 2, (nil), 3, 4, 5, 1]");
    check(&["MSET a 1 a 2", "GET a"], "2");
    check(&["MSET a 1 b"], "-ERR wrong number of arguments for 'mset' command");
    check(&["MSETNX a 1 b 2 c 3"], "1");
    check(&["MSETNX a 1 b 2 c 3", "MGET a b c"], "[1, 2, 3]");
    check(&["SET c x", "MSETNX a 1 b 2 c 3"], "0");
    check(&["SET c x", "MSETNX a 1 b 2 c 3", "EXISTS a b"], "0");
    check(&["MSETNX a 1 b"], "-ERR wrong number of arguments for 'msetnx' command");
}

#[test]
fn integers_are_counted_up_and_down() {
    check(&["INCR k"], "1");
    check(&["SET k 41", "INCR k", "GET k"], "42");
    check(&["DECR k"], "-1");
    check(&["INCRBY k 5", "DECRBY k 7"], "-2");
    check(&["SET k 1 EX 1000", "INCR k", "TTL k"], "1000");
    check(&["SET k 9223372036854775807", "INCR k"], "-ERR increment or decrement would overflow");
    check(&["SET k -9223372036854775808", "DECR k"], "-ERR increment or decrement would overflow");
    check(&["DECRBY k -9223372036854775808"], "-ERR decrement would overflow");
    check(&["SET k x", "INCR k"], "-ERR value is not an integer or out of range");
    check(&["SET k \" 1\"", "INCR k"], "-ERR value is not an integer or out of range");
    check(&["INCRBY k 1.5"], "-ERR value is not an integer or out of range");
    check(&["APPEND k 1", "APPEND k 2", "INCR k"], "13");
}

#[test]
fn floating_point_numbers_are_added_without_an_exponent() {
    check(&["SET k 10.50", "INCRBYFLOAT k 0.1"], "10.6");
    check(&["SET k 5.0e3", "INCRBYFLOAT k 2.0e2"], "5200");
    check(&["INCRBYFLOAT k -1.5"], "-1.5");
    check(&["SET k 3", "INCRBYFLOAT k 1", "OBJECT ENCODING k"], "embstr");
    check(&["SET k x", "INCRBYFLOAT k 1"], "-ERR value is not a valid float");
    check(&["INCRBYFLOAT k inf"], "-ERR increment would produce NaN or Infinity");
}

#[test]
fn strings_are_changed_in_place_and_keep_their_time_to_live() {
    check(&["APPEND k Hello"], "5");
    check(&["APPEND k Hello", "APPEND k World", "GET k"], "HelloWorld");
    check(&["SET k 12", "APPEND k 3", "GET k"], "123");
    check(&["SET k v EX 1000", "APPEND k w", "TTL k"], "1000");
    check(&["SET k \"Hello World\"", "SETRANGE k 6 Redis", "GET k"], "Hello Redis");
    check(&["SETRANGE k 3 x", "GET k"], "\0\0\0x");
    check(&["SETRANGE k 3 \"\""], "0");
    check(&["SET k abc", "SETRANGE k 100 \"\""], "3");
    check(&["SETRANGE k -1 x"], "-ERR offset is out of range");
    check(&["SETRANGE k 536870912 x"], "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    check(&["SET k v EX 1000", "SETRANGE k 2 w", "TTL k"], "1000");
}

#[test]
fn a_part_of_a_string_is_read_by_positions_from_either_end() {
    for name in ["GETRANGE", "SUBSTR"] {
        let read = |range: &str, expected: &str| {
            check(&["SET k \"This is a string\"", &format!("{name} k {range}")], expected);
        };
        read("0 3", "This");
        read("-3 -1", "ing");
        read("0 -1", "This is a string");
        read("10 100", "string");
        read("5 3", "");
        read("-100 -50", "T");
    }
    check(&["GETRANGE k 0 -1"], "");
    check(&["SET k 12345", "GETRANGE k 1 2"], "23");
}

#[test]
fn encodings_are_those_that_redis_names() {
    let encoding = |value: &str, expected: &str| check(&[&format!("SET k {value}"), "OBJECT ENCODING k"], expected);
    encoding("12345", "int");
    encoding("012", "embstr");
    encoding(&"x".repeat(44), "embstr");
    encoding(&"x".repeat(45), "raw");
    encoding(&"x".repeat(100_000), "raw");
    check(&["SET k 1", "APPEND k 2", "OBJECT ENCODING k"], "raw");
    check(&["SET k abc", "SETRANGE k 0 x", "OBJECT ENCODING k"], "raw");
}

#[test]
fn large_strings_come_back_whole_and_are_not_changed_by_copies() {
    let large = "x".repeat(300_000);
    let set = format!("SET k {large}");
    check_that(&[&set, "GET k"], "the 300,000 bytes", |shown| shown == large);
    check_that(&[&set, "MGET k nokey k"], "both", |shown| shown == format!("[{large}, (nil), {large}]"));
    check(&[&set, "COPY k other", "SETRANGE other 0 yy", "GETRANGE k 0 3"], "xxxx");
    check(&[&set, "APPEND k y", "GETRANGE k 299998 -1"], "xxy");
}

#[test]
fn the_longest_common_subsequence_is_found_across_shards() {
    let keys = "MSET k1 ohmytext k2 mynewtext";
    check(&[keys, "LCS k1 k2"], "mytext");
    check(&[keys, "LCS k1 k2 LEN"], "6");
    let ranges = "[[[4, 7], [5, 8]], [[2, 3], [0, 1]]]";
    let map = |matches: &str| [format!("[matches, {matches}, len, 6]"), format!("{{matches: {matches}, len: 6}}")];
    check_that(&[keys, "LCS k1 k2 IDX"], "two ranges", |shown| map(ranges).contains(&shown.to_owned()));
    check_that(&[keys, "LCS k1 k2 IDX MINMATCHLEN 4 WITHMATCHLEN"], "one range", |shown| {
        map("[[[4, 7], [5, 8], 4]]").contains(&shown.to_owned())
    });
    check(&["LCS k1 k2"], "");
    check(&["LCS k1 k2 IDX LEN"], "-ERR If you want both the length and indexes, please just use IDX.");
    check(&["LCS k1 k2 FOO"], "-ERR syntax error");
}

#[test]
fn lcs_refuses_what_would_take_too_long() {
    let large = format!("MSET k1 {} k2 {}", "a".repeat(12_000), "b".repeat(12_000));
    check(&[&large, "LCS k1 k2"], "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
}
