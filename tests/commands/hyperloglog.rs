//! HyperLogLogs, by what a client sees: adding, counting, merging, and the string that GET shows.
//! Sparse and dense where that could matter; the differential tests compare the bytes with Redis's at every step.

use super::check;

const WRONG: &str = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
const CORRUPTED: &str = "-INVALIDOBJ Corrupted HLL object detected";

/// `PFADD key` with so many elements from a number on.
fn add(key: &str, from: u64, count: u64) -> String {
    let elements: Vec<String> = (from..from + count).map(|n| format!("e{n}")).collect();
    format!("PFADD {key} {}", elements.join(" "))
}

#[test]
fn elements_are_added_and_counted() {
    check(&["PFADD k a b c"], "1");
    check(&["PFADD k a b c", "PFADD k b"], "0");
    check(&["PFADD k a b c", "PFCOUNT k"], "3");
    check(&["PFADD k a b c", "PFCOUNT k", "PFADD k d", "PFCOUNT k"], "4");
    check(&["PFADD k"], "1");
    check(&["PFADD k", "PFADD k"], "0");
    check(&["PFADD k", "PFCOUNT k"], "0");
    check(&["PFCOUNT k"], "0");
    check(&[&add("k", 0, 5000), "PFCOUNT k"], "4968");
    check(&["PFADD k a", "EXPIRE k 1000", "PFADD k b", "TTL k"], "1000");
    check(&[&add("k", 0, 5000), "EXPIRE k 1000", "PFADD k b", "TTL k"], "1000");
}

#[test]
fn several_keys_are_counted_as_one_set() {
    check(&["PFADD a x y z", "PFADD b y z w", "PFCOUNT a b"], "4");
    check(&["PFADD a x y z", "PFADD b y z w", "PFCOUNT a b nokey c d e"], "4");
    check(&["PFADD a x y z", "PFCOUNT a a"], "3");
    check(&["PFCOUNT a b"], "0");
    check(&[&add("a", 0, 3000), &add("b", 2000, 3000), "PFADD c x", "PFCOUNT a b c"], "4969");
}

#[test]
fn merging_adds_what_others_have_seen() {
    check(&["PFADD a x y z", "PFADD b y z w", "PFMERGE c a b"], "OK");
    check(&["PFADD a x y z", "PFADD b y z w", "PFMERGE c a b", "PFCOUNT c"], "4");
    check(&["PFADD a x y z", "PFADD b y z w", "PFMERGE a b", "PFCOUNT a"], "4");
    check(&["PFADD a x", "PFMERGE a", "PFCOUNT a"], "1");
    check(&["PFMERGE a b c", "PFCOUNT a"], "0");
    check(&["PFMERGE a", "GET a", "STRLEN a"], "18");
    check(&["PFADD a x", &add("b", 0, 3000), "PFMERGE a b", "PFDEBUG ENCODING a"], "dense");
    check(&[&add("a", 0, 3000), "PFADD b x", "EXPIRE a 1000", "PFMERGE a b", "TTL a"], "1000");
}

#[test]
fn a_sparse_one_becomes_dense_when_it_grows() {
    check(&["PFADD k a", "PFDEBUG ENCODING k"], "sparse");
    check(&["PFADD k a", "PFDEBUG DECODE k"], "Z:12711 v:2,1 Z:3672");
    check(&[&add("k", 0, 3000), "PFDEBUG ENCODING k"], "dense");
    check(&[&add("k", 0, 3000), "PFDEBUG DECODE k"], "-ERR HLL encoding is not sparse");
    check(&["PFADD k a", "PFDEBUG TODENSE k"], "1");
    check(&["PFADD k a", "PFDEBUG TODENSE k", "PFDEBUG TODENSE k"], "0");
    check(&["PFADD k a", "PFDEBUG TODENSE k", "PFADD k a"], "0");
    check(&["PFADD k a", "PFDEBUG TODENSE k", "PFCOUNT k"], "1");
    check(&["PFADD k a", "PFDEBUG TODENSE k", "STRLEN k"], "12304");
    check(&["PFADD k a", "PFDEBUG GETREG k", "PFDEBUG ENCODING k"], "dense");
    check(&["PFDEBUG ENCODING k"], "-ERR The specified key does not exist");
    check(&["PFADD k a", "PFDEBUG FOO k"], "-ERR Unknown PFDEBUG subcommand 'FOO'");
    check(&["PFSELFTEST"], "OK");
    let limit = |bytes: u32| format!("CONFIG SET hll-sparse-max-bytes {bytes}");
    check(&[&limit(18), "PFADD k a", &limit(3000), "PFDEBUG ENCODING k"], "dense");
}

#[test]
fn the_string_is_that_of_redis() {
    check(&["PFADD k a", "GETRANGE k 0 7"], "HYLL\u{1}\0\0\0");
    check(&["PFADD k a", "OBJECT ENCODING k"], "raw");
    check(&["PFADD k a", "PFCOUNT k", "GETRANGE k 8 15"], "\u{1}\0\0\0\0\0\0\0");
    check(&["PFADD k a", "COPY k other", "PFADD other b", "PFCOUNT k"], "1");
}

#[test]
fn what_is_no_hyperloglog_is_refused() {
    for command in ["PFADD k a", "PFCOUNT k", "PFCOUNT other k", "PFMERGE k", "PFMERGE r k", "PFDEBUG GETREG k"] {
        check(&["SET k foo", command], WRONG);
        check(&["SET k 12", command], WRONG);
        check(&["SET k \"HYLL and sixteen bytes\"", command], WRONG);
        check(&["RPUSH k foo", command], "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }
    check(&["PFADD k a", "APPEND k x", "PFDEBUG TODENSE k"], CORRUPTED);
}
