//! Sorted sets, by what a client sees: scores, ranks, ranges by rank, score and name, both ends, and the algebra of several.
//! Each shape is tried packed and as table and tree where that could matter.

use super::check_that;

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

/// As [`super::check`]; a double of RESP3 may stand for its text.
#[track_caller]
fn check(commands: &[&str], expected: &str) {
    check_that(commands, &format!("{expected:?}"), |shown| shown.replace("(double) ", "") == expected);
}

/// Sorted sets `k` in each encoding, which begin with a = 1, b = 2 and c = 3.
fn shapes() -> Vec<(&'static str, Vec<String>)> {
    let many: Vec<String> = (0..200).map(|n| format!("{} m{n}", 1000 + n)).collect();
    vec![
        ("listpack", vec!["ZADD k 1 a 2 b 3 c".to_owned()]),
        ("skiplist", vec!["ZADD k 1 a 2 b 3 c".to_owned(), format!("ZADD k {}", many.join(" "))]),
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
fn members_get_scores() {
    check(&["ZADD k 1 a 2 b"], "2");
    check(&["ZADD k 1 a", "ZADD k 5 a 2 b"], "1");
    check(&["ZADD k 1 a", "ZADD k CH 5 a 2 b"], "2");
    check(&["ZADD k 1 a", "ZADD k NX 5 a", "ZSCORE k a"], "1");
    check(&["ZADD k XX 5 a", "EXISTS k"], "0");
    check(&["ZADD k 1 a", "ZADD k XX CH 5 a 6 b"], "1");
    check(&["ZADD k 5 a", "ZADD k GT CH 3 a"], "0");
    check(&["ZADD k 5 a", "ZADD k LT CH 3 a"], "1");
    check(&["ZADD k 5 a", "ZADD k INCR 3 a"], "8");
    check(&["ZADD k 5 a", "ZADD k NX INCR 3 a"], "(nil)");
    check_shapes(&["ZINCRBY k 0.5 b"], "2.5");
    check_shapes(&["ZSCORE k b"], "2");
    check_shapes(&["ZSCORE k nobody"], "(nil)");
    check_shapes(&["ZMSCORE k a nobody c"], "[1, (nil), 3]");
    check_shapes(&["ZREM k a nobody b"], "2");
    check(&["ZADD k 1 a", "ZREM k a", "EXISTS k"], "0");
    check(&["ZADD k 1 a 2 b", "ZCARD k"], "2");
    check(&["ZADD k 0.1 a", "ZSCORE k a"], "0.1");
    check(&["ZADD k inf a", "ZINCRBY k -inf a"], "-ERR resulting score is not a number (NaN)");
    check(&["ZADD k nan a"], "-ERR value is not a valid float");
    check(&["ZADD k 1"], "-ERR wrong number of arguments for 'zadd' command");
    check(&["ZADD k 1 a b"], "-ERR syntax error");
    check(&["ZADD k 1 a", "TYPE k"], "zset");
}

#[test]
fn members_have_ranks() {
    check_shapes(&["ZRANK k b"], "1");
    check_shapes(&["ZRANK k b WITHSCORE"], "[1, 2]");
    check_shapes(&["ZRANK k nobody"], "(nil)");
    check_shapes(&["ZRANK k nobody WITHSCORE"], "(nil)");
    check(&["ZADD k 1 a 2 b 3 c", "ZREVRANK k a"], "2");
    check(&["ZADD k 1 a 2 b 3 c", "ZREVRANK k a WITHSCORE"], "[2, 1]");
    check(&["ZADD k 1 b 1 a 1 c", "ZRANK k b"], "1");
    check(&["ZRANK k a b"], "-ERR syntax error");
}

#[test]
fn ranges_by_rank() {
    check_shapes(&["ZRANGE k 0 1"], "[a, b]");
    check(&["ZADD k 1 a 2 b 3 c", "ZRANGE k -2 -1"], "[b, c]");
    check(&["ZADD k 1 a 2 b 3 c", "ZRANGE k 0 -1 REV"], "[c, b, a]");
    check(&["ZADD k 1 a 2 b 3 c", "ZREVRANGE k 0 1"], "[c, b]");
    check(&["ZADD k 1 a 2 b 3 c", "ZRANGE k 2 1"], "[]");
    check_that(&["ZADD k 1 a 2 b", "ZRANGE k 0 -1 WITHSCORES"], "pairs in RESP3", |shown| {
        shown == "[a, 1, b, 2]" || shown == "[[a, (double) 1], [b, (double) 2]]"
    });
    check(&["ZRANGE k 0 -1"], "[]");
    check(
        &["ZRANGE k 0 1 LIMIT 0 1"],
        "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
    );
}

#[test]
fn ranges_by_score() {
    check_shapes(&["ZRANGEBYSCORE k 2 3"], "[b, c]");
    check_shapes(&["ZRANGE k (1 (3 BYSCORE"], "[b]");
    check_shapes(&["ZRANGEBYSCORE k -inf +inf LIMIT 1 2"], "[b, c]");
    check_shapes(&["ZREVRANGEBYSCORE k 3 -inf LIMIT 1 1"], "[b]");
    check_shapes(&["ZRANGE k 3 1 BYSCORE REV LIMIT 0 2"], "[c, b]");
    check_shapes(&["ZRANGEBYSCORE k 3 1"], "[]");
    check_shapes(&["ZRANGEBYSCORE k 1 3 LIMIT -1 2"], "[]");
    check_shapes(&["ZRANGEBYSCORE k 1 3 LIMIT 0 9223372036854775807"], "[a, b, c]");
    check_shapes(&["ZRANGEBYSCORE k 1 3 LIMIT 9223372036854775807 1"], "[]");
    check_shapes(&["ZCOUNT k (1 3"], "2");
    check(&["ZCOUNT k x 3"], "-ERR min or max is not a float");
}

#[test]
fn ranges_by_name() {
    let fill = "ZADD k 0 a 0 b 0 c 0 d";
    check(&[fill, "ZRANGEBYLEX k [b (d"], "[b, c]");
    check(&[fill, "ZRANGE k - + BYLEX LIMIT 1 2"], "[b, c]");
    check(&[fill, "ZREVRANGEBYLEX k + [c"], "[d, c]");
    check(&[fill, "ZLEXCOUNT k (a +"], "3");
    check(&[fill, "ZRANGEBYLEX k + -"], "[]");
    check(&[fill, "ZRANGEBYLEX k b c"], "-ERR min or max not valid string range item");
    check(&["ZRANGE k - + BYLEX WITHSCORES"], "-ERR syntax error, WITHSCORES not supported in combination with BYLEX");
}

#[test]
fn ranges_are_removed_and_stored() {
    check_shapes(&["ZREMRANGEBYRANK k 0 1", "ZRANGE k 0 0"], "[c]");
    check_shapes(&["ZREMRANGEBYSCORE k (1 3"], "2");
    check(&["ZADD k 0 a 0 b 0 c", "ZREMRANGEBYLEX k [b +"], "2");
    check(&["ZADD k 1 a", "ZREMRANGEBYRANK k 0 -1", "EXISTS k"], "0");
    for (source, destination) in [("a", "b"), ("{t}a", "{t}b"), ("x1", "x2"), ("same", "same")] {
        let fill = format!("ZADD {source} 1 a 2 b 3 c");
        check(&[&fill, &format!("ZRANGESTORE {destination} {source} 1 -1")], "2");
        check(&[&fill, &format!("ZRANGESTORE {destination} {source} 9 9"), &format!("EXISTS {destination}")], "0");
    }
}

#[test]
fn members_are_taken_from_both_ends() {
    check_shapes(&["ZPOPMIN k"], "[a, 1]");
    check(&["ZADD k 1 a 2 b", "ZPOPMAX k"], "[b, 2]");
    check_that(&["ZADD k 1 a 2 b", "ZPOPMIN k 5"], "pairs in RESP3", |shown| {
        shown == "[a, 1, b, 2]" || shown == "[[a, (double) 1], [b, (double) 2]]"
    });
    check(&["ZADD k 1 a", "ZPOPMIN k", "EXISTS k"], "0");
    check(&["ZPOPMIN k"], "[]");
    check(&["ZADD k 1 a", "ZPOPMIN k 0"], "[]");
    check(&["ZADD k 1 a", "ZPOPMIN k -1"], "-ERR value is out of range, must be positive");
    check(&["ZADD c 1 a 2 b", "ZMPOP 2 x c MAX COUNT 2"], "[c, [[b, 2], [a, 1]]]");
    check(&["ZADD c 1 a 2 b", "ZMPOP 1 c MIN"], "[c, [[a, 1]]]");
    check(&["ZMPOP 2 x y MIN"], "(nil)");
    check(&["ZMPOP 0 x MIN"], "-ERR numkeys should be greater than 0");
    check(&["ZADD b 1 x 2 y", "BZPOPMIN a b 0"], "[b, x, 1]");
    check(&["ZADD b 1 x 2 y", "BZPOPMAX a b 0"], "[b, y, 2]");
    check(&["ZADD b 1 x 2 y", "BZMPOP 0 2 a b MIN COUNT 9"], "[b, [[x, 1], [y, 2]]]");
    check(&["BZPOPMIN a b 0.01"], "(nil)");
}

#[test]
fn members_are_drawn_and_scanned() {
    check(&["ZADD k 1 a", "ZRANDMEMBER k"], "a");
    check(&["ZADD k 1 a", "ZRANDMEMBER k -3"], "[a, a, a]");
    check(&["ZADD k 1 a", "ZRANDMEMBER k 3"], "[a]");
    check(&["ZRANDMEMBER k"], "(nil)");
    check(&["ZRANDMEMBER k 2"], "[]");
    check(&["ZADD k 1 a 2 b", "ZSCAN k 0"], "[0, [a, 1, b, 2]]");
    check(&["ZADD k 1 a 2 b", "ZSCAN k 0 MATCH b"], "[0, [b, 2]]");
    check(
        &["ZADD k 1 a", "ZRANDMEMBER k -9223372036854775808"],
        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
}

#[test]
fn sorted_sets_are_united_intersected_and_subtracted_wherever_they_are() {
    for (a, b, d) in [("a", "b", "d"), ("{t}a", "{t}b", "{t}d"), ("x1", "x2", "x4")] {
        let fill = [format!("ZADD {a} 1 one 2 two 3 three"), format!("ZADD {b} 10 two 20 three 30 four")];
        let check = |command: String, expected: &str| check(&[&fill[0], &fill[1], &command], expected);
        check(format!("ZUNION 2 {a} {b}"), "[one, two, three, four]");
        check(format!("ZINTER 2 {a} {b}"), "[two, three]");
        check(format!("ZDIFF 2 {a} {b}"), "[one]");
        check(format!("ZINTERCARD 2 {a} {b}"), "2");
        check(format!("ZINTERCARD 2 {a} {b} LIMIT 1"), "1");
        check(format!("ZUNIONSTORE {d} 2 {a} {b}"), "4");
        check(format!("ZINTERSTORE {a} 2 {a} {b}"), "2");
        check(format!("ZDIFFSTORE {d} 2 {a} {b}"), "1");
        check(format!("ZINTERSTORE {d} 2 {a} nothing"), "0");
    }
    let fill = ["ZADD a 1 x 2 y", "ZADD b 10 x", "SADD s x z"];
    let stored = |command: &str, expected: &str| {
        check(&[fill[0], fill[1], fill[2], command, "ZMSCORE d x y z"], expected);
    };
    stored("ZUNIONSTORE d 2 a b", "[11, 2, (nil)]");
    stored("ZUNIONSTORE d 2 a b WEIGHTS 2 3", "[32, 4, (nil)]");
    stored("ZUNIONSTORE d 2 a b AGGREGATE MAX", "[10, 2, (nil)]");
    stored("ZUNIONSTORE d 2 a b AGGREGATE MIN", "[1, 2, (nil)]");
    stored("ZUNIONSTORE d 2 a s", "[2, 2, 1]");
    stored("ZINTERSTORE d 2 a s", "[2, (nil), (nil)]");
    check(&["ZUNION 0 a"], "-ERR at least 1 input key is needed for 'zunion' command");
    check(&["ZUNION 2 a"], "-ERR syntax error");
    check(&["ZUNION 1 a WEIGHTS x"], "-ERR weight value is not a float");
    check(&["ZDIFF 1 a WEIGHTS 1"], "-ERR syntax error");
    check(&["ZADD a 1 x", "SET b v", "ZUNION 2 a b"], WRONG);
}

/// The classic: points come in, the best ten are shown, one asks for their place.
#[test]
fn a_leaderboard() {
    let points: Vec<String> = (0..500).map(|n| format!("{} player:{n}", (n * 37) % 500)).collect();
    let fill = format!("ZADD board {}", points.join(" "));
    check(&[&fill, "ZINCRBY board 1000 player:5", "ZREVRANGE board 0 0"], "[player:5]");
    check(&[&fill, "ZINCRBY board 1000 player:5", "ZREVRANK board player:5"], "0");
    check(&[&fill, "ZCOUNT board 400 (500"], "100");
    check(&[&fill, "ZREMRANGEBYRANK board 0 -11", "ZCARD board"], "10");
}

#[test]
fn commands_of_other_types_are_refused() {
    for command in
        ["ZADD k 1 a", "ZSCORE k a", "ZRANGE k 0 -1", "ZREM k a", "ZPOPMIN k", "ZCARD k", "ZSCAN k 0", "ZINCRBY k 1 a"]
    {
        check(&["SET k v", command], WRONG);
    }
    check(&["ZADD k 1 a", "SADD k a"], WRONG);
}
