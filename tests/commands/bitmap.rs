//! Strings as arrays of bits, by what a client sees: single bits, ranges, strings combined, fields of integers.
//! Strings are tried short, long, and as integers where the encoding could matter.

use super::check;
use super::harness::{Server, Value};

#[test]
fn a_bit_is_set_and_read_back_and_the_string_grows() {
    check(&["SETBIT k 7 1"], "0");
    check(&["SETBIT k 7 1", "SETBIT k 7 0"], "1");
    check(&["SETBIT k 7 1", "GETBIT k 7"], "1");
    check(&["SETBIT k 7 1", "GETBIT k 6"], "0");
    check(&["SETBIT k 7 1", "GETBIT k 100000"], "0");
    check(&["GETBIT k 0"], "0");
    check(&["SETBIT k 7 1", "SETBIT k 23 0", "STRLEN k"], "3");
    check(&["SET k a", "SETBIT k 6 1", "SETBIT k 7 0", "GET k"], "b");
    check(&["SET k 12", "SETBIT k 7 0", "GET k"], "02");
    check(&["SETBIT k 100000 1", "SETBIT k 3 1", "BITCOUNT k"], "2");
    check(&["SET k v EX 1000", "SETBIT k 1 1", "TTL k"], "1000");
}

#[test]
fn a_string_with_a_bit_written_is_raw() {
    check(&["SETBIT k 0 1", "OBJECT ENCODING k"], "raw");
    check(&["SET k 1", "SETBIT k 3 1", "OBJECT ENCODING k"], "raw");
    check(&["SET k 1", "SETBIT k 3 1", "GET k"], "1");
}

#[test]
fn offsets_and_bits_that_make_no_sense_are_refused() {
    for offset in ["-1", "x", "4294967296", "9223372036854775807", "#1", "1.5"] {
        let refused = "-ERR bit offset is not an integer or out of range";
        check(&[&format!("SETBIT k {offset} 1")], refused);
        check(&[&format!("GETBIT k {offset}")], refused);
    }
    for bit in ["2", "-1", "x"] {
        check(&[&format!("SETBIT k 0 {bit}")], "-ERR bit is not an integer or out of range");
    }
}

#[test]
fn bits_are_counted_in_the_whole_or_in_a_part() {
    let count = |range: &str, expected: &str| check(&["SET k foobar", &format!("BITCOUNT k {range}")], expected);
    count("", "26");
    count("0 0", "4");
    count("1 1", "6");
    count("1 1 BYTE", "6");
    count("5 30 BIT", "17");
    count("-2 -1", "7");
    count("-1 -2", "0");
    count("-100 -50", "4");
    count("4 2", "0");
    count("100 200", "0");
    count("0", "-ERR syntax error");
    count("0 1 FOO", "-ERR syntax error");
    count("0 x", "-ERR value is not an integer or out of range");
    count("0 1 BIT 1", "-ERR syntax error");
    check(&["BITCOUNT k"], "0");
    check(&["BITCOUNT k 0 x"], "-ERR value is not an integer or out of range");
    check(&["SET k 7", "BITCOUNT k"], "5");
    check(&[&format!("SET k {}", "a".repeat(100_000)), "BITCOUNT k"], "300000");
}

#[test]
fn the_first_bit_of_a_kind_is_found() {
    let find = |value: &str, search: &str, expected: &str| {
        check(&[&format!("SET k {value}"), &format!("BITPOS k {search}")], expected);
    };
    find("\"\\0\\0a\"", "1", "17");
    find("\"\\0\\0a\"", "0", "0");
    find("\"\\0\\0a\"", "1 2", "17");
    find("\"\\0\\0a\"", "1 -1", "17");
    find("\"\\0\\0a\"", "1 0 1", "-1");
    find("\"\\0\\0a\"", "0 2 2 BYTE", "16");
    find("\"\\0\\0a\"", "0 17 20 BIT", "19");
    find("\"\\0\\0a\"", "1 18 20 BIT", "18");
    find("a", "0 1 2 BIT", "-1");
    find("\"\"", "0", "-1");
    check(&["SETRANGE k 0 x", "BITOP NOT k nokey", "BITPOS k 0"], "0");
    check(&["BITFIELD k SET i16 0 -1", "BITPOS k 0"], "16");
    check(&["BITFIELD k SET i16 0 -1", "BITPOS k 0 0 -1"], "-1");
    check(&["BITFIELD k SET i16 0 -1", "BITPOS k 0 1"], "16");
    check(&["BITPOS k 0"], "0");
    check(&["BITPOS k 1"], "-1");
    check(&["BITPOS k 2"], "-ERR The bit argument must be 1 or 0.");
    check(&["BITPOS k x"], "-ERR value is not an integer or out of range");
    check(&["BITPOS k 1 x"], "-ERR value is not an integer or out of range");
    check(&["BITPOS k 1 0 1 FOO"], "-ERR syntax error");
    check(&["BITPOS k 1 0 1 BIT 1"], "-ERR syntax error");
}

#[test]
fn strings_of_several_shards_are_combined() {
    let combine = |operation: &str, expected: &str| {
        check(&["MSET a abc b \"!bcd\" c aaa d \"\"", &format!("BITOP {operation}"), "GET r"], expected);
    };
    combine("AND r a b", "!bc\0");
    combine("OR r a b", "abcd");
    combine("XOR r a b", "@\0\0d");
    combine("XOR r a a", "\0\0\0");
    combine("AND r a", "abc");
    combine("OR r a nokey", "abc");
    combine("AND r a nokey", "\0\0\0");
    combine("DIFF r b a c", "\0\0\0d");
    combine("DIFF1 r c a b", "\0\x02\x02d");
    combine("ANDOR r a c b", "abc\0");
    combine("ONE r a b c", "\0\x01\0d");
    combine("OR a a b", "(nil)");
    check(&["MSET a abc b abcdef", "BITOP OR r a b"], "6");
    check(&["MSET a abc r old", "BITOP NOT r nokey"], "0");
    check(&["MSET a abc r old", "BITOP NOT r nokey", "EXISTS r"], "0");
    check(&["MSET a abc r old", "BITOP XOR a a r", "STRLEN a"], "3");
    check(&["SET r v EX 1000", "SET a abc", "BITOP AND r a", "TTL r"], "-1");
    check(&["SET a 12", "BITOP AND r a", "OBJECT ENCODING r"], "raw");
    let large = format!("SET a {}", "a".repeat(100_000));
    check(&[&large, "SET b \"!\"", "BITOP XOR r a b", "GETRANGE r 0 2"], "@aa");
    check(&[&large, "BITOP NOT r a", "BITOP NOT s r", "BITOP XOR t a s", "BITCOUNT t"], "0");
}

#[test]
fn bitop_says_what_it_wants() {
    check(&["BITOP FOO r a"], "-ERR syntax error");
    check(&["BITOP NOT r a b"], "-ERR BITOP NOT must be called with a single source key.");
    for operation in ["DIFF", "DIFF1", "ANDOR"] {
        let refused = format!("-ERR BITOP {operation} must be called with at least two source keys.");
        check(&[&format!("BITOP {operation} r a")], &refused);
    }
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    check(&["RPUSH l x", "SET a x", "BITOP OR r a l"], wrong);
    check(&["RPUSH l x", "SET a x", "BITOP OR l a", "TYPE l"], "string");
    for command in
        ["SETBIT l 0 1", "GETBIT l 0", "BITCOUNT l", "BITPOS l 1", "BITFIELD l SET u8 0 1", "BITFIELD_RO l GET u8 0"]
    {
        check(&["RPUSH l x", command], wrong);
    }
}

#[test]
fn fields_of_any_width_are_read_and_written() {
    check(&["BITFIELD k SET u8 0 97", "GET k"], "a");
    check(&["BITFIELD k SET i8 0 97 SET u8 #1 98", "GET k"], "ab");
    check(&["SET k abc", "BITFIELD k GET u8 0 GET u8 #2 GET i4 4 GET u8 100"], "[97, 99, 1, 0]");
    check(&["SET k abc", "BITFIELD_RO k GET u8 0 GET u16 8"], "[97, 25187]");
    check(&["BITFIELD k INCRBY i5 100 1 GET u4 0"], "[1, 0]");
    check(&["BITFIELD k INCRBY i5 100 1 GET u4 0", "STRLEN k"], "14");
    check(&["BITFIELD k SET i64 3 -9223372036854775808 GET i64 3"], "[0, -9223372036854775808]");
    check(&["BITFIELD k"], "[]");
    check(&["BITFIELD k GET u8 0", "EXISTS k"], "0");
    check(&["SET k v EX 1000", "BITFIELD k SET u1 0 1", "TTL k"], "1000");
}

#[test]
fn a_field_that_overflows_wraps_saturates_or_fails() {
    let count = "INCRBY u2 100 1";
    let four = |how: &str| format!("BITFIELD k OVERFLOW {how} {count} {count} {count} {count}");
    check(&[&four("WRAP")], "[1, 2, 3, 0]");
    check(&[&four("SAT")], "[1, 2, 3, 3]");
    check(&[&four("FAIL")], "[1, 2, 3, (nil)]");
    check(&["BITFIELD k SET i8 0 200 GET i8 0"], "[0, -56]");
    check(&["BITFIELD k OVERFLOW SAT SET i8 0 200 GET i8 0"], "[0, 127]");
    check(&["BITFIELD k OVERFLOW FAIL SET i8 0 200 GET i8 0"], "[(nil), 0]");
    check(&["BITFIELD k OVERFLOW SAT SET u8 0 -1 GET u8 0"], "[0, 255]");
    check(&["BITFIELD k SET i64 0 9223372036854775807 INCRBY i64 0 1"], "[0, -9223372036854775808]");
}

#[test]
fn bitfield_says_what_it_wants() {
    check(&["BITFIELD k GET u8"], "-ERR syntax error");
    check(&["BITFIELD k FOO u8 0"], "-ERR syntax error");
    check(&["BITFIELD k OVERFLOW FOO"], "-ERR Invalid OVERFLOW type specified");
    check(
        &["BITFIELD k GET u64 0"],
        "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    check(&["BITFIELD k GET u8 #-1"], "-ERR bit offset is not an integer or out of range");
    check(&["BITFIELD k SET u8 0 x"], "-ERR value is not an integer or out of range");
    check(&["BITFIELD_RO k SET u8 0 1"], "-ERR BITFIELD_RO only supports the GET subcommand");
}

#[test]
fn bits_of_a_string_of_half_a_gigabyte_are_reached_without_a_copy() {
    let server = Server::annulus(1, &[]);
    let mut client = server.connect();
    assert_eq!(client.line("SETBIT k 4294967295 1"), Value::Int(0));
    let begun = std::time::Instant::now();
    for n in 0..1000_u64 {
        client.line(&format!("SETBIT k {} 1", n * 4_000_000));
        assert_eq!(client.line(&format!("GETBIT k {}", n * 4_000_000)), Value::Int(1));
    }
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!(client.line("BITCOUNT k 0 0"), Value::Int(1));
    assert_eq!(client.line("BITFIELD k GET u8 4294967288").elements().expect("an array")[0], Value::Int(1));
}
