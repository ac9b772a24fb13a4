//! Streams, by what a client sees: adding, ranges, trimming, reading on, groups of consumers, and what XINFO tells.
//! Waiting is in `blocking.rs`.

use super::harness::Server;
use super::{check, check_that};

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const BAD_ID: &str = "-ERR Invalid stream ID specified as stream command argument";

/// A stream `k` of the entries 1-0 to 5-0, and a group `g` that has read none of them.
const FIVE: &[&str] = &[
    "XADD k 1-0 f a",
    "XADD k 2-0 f b",
    "XADD k 3-0 other c",
    "XADD k 4-0 f d f e",
    "XADD k 5-0 f 17",
    "XGROUP CREATE k g 0",
];

#[track_caller]
fn check_five(commands: &[&str], expected: &str) {
    check(&[FIVE, commands].concat(), expected);
}

/// As [`check_five`], where a map of RESP3 is a flat array in RESP2.
#[track_caller]
fn check_flat(commands: &[&str], expected: &str) {
    let flat = |text: &str| text.replace(['{', '}', '[', ']'], "").replace(": ", ", ");
    check_that(&[FIVE, commands].concat(), &format!("{expected:?}, flat"), |shown| flat(shown) == flat(expected));
}

#[test]
fn entries_get_the_names_they_are_given_in_ascending_order() {
    check(&["XADD k 1-1 f v"], "1-1");
    check(&["XADD k 5 f v"], "5-0");
    check(&["XADD k 5-* f v", "XADD k 5-* f v"], "5-1");
    check(&["XADD k 0-* f v"], "0-1");
    check(&["XADD k 5-7 f v", "XADD k 6-* f v"], "6-0");
    check(&["XADD k 18446744073709551615-5 f v", "XADD k * f v"], "18446744073709551615-6");
    check_that(&["XADD k * f v"], "a name of this time", |shown| shown.len() >= 15 && shown.ends_with("-0"));
    check(
        &["XADD k 1-1 f v", "XADD k 1-1 f v"],
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    check(&["XADD k 0-0 f v"], "-ERR The ID specified in XADD must be greater than 0-0");
    check(&["XADD k 0-0 f v", "EXISTS k"], "0");
    check(
        &["XADD k 18446744073709551615-18446744073709551615 f v", "XADD k * f v"],
        "-ERR The stream has exhausted the last possible ID, unable to add more items",
    );
    check(&["XADD k x f v"], BAD_ID);
    check(&["XADD k 1-1 f"], "-ERR wrong number of arguments for 'xadd' command");
    check(&["XADD k 1-1 f v g"], "-ERR wrong number of arguments for 'xadd' command");
    check(&["XADD k NOMKSTREAM 1-1 f v"], "(nil)");
    check(&["SET k v", "XADD k 1-1 f v"], WRONG);
}

#[test]
fn a_stream_is_a_key_like_others_and_stays_when_it_is_empty() {
    check_five(&["XLEN k"], "5");
    check_five(&["TYPE k"], "stream");
    check_five(&["OBJECT ENCODING k"], "stream");
    check_five(&["COPY k {k}2", "XADD k 6-0 f v", "XLEN {k}2"], "5");
    check_five(&["RENAME k other", "XRANGE other 5 5"], "[[5-0, [f, 17]]]");
    check_five(&["DEL k", "XLEN k"], "0");
    check_five(&["XTRIM k MAXLEN 0", "EXISTS k"], "1");
    check_five(&["GET k"], WRONG);
    check_that(&[FIVE, &["MEMORY USAGE k"]].concat(), "some bytes", |shown| {
        shown.parse::<u32>().is_ok_and(|n| n > 100)
    });
}

#[test]
fn ranges_are_between_names() {
    check_five(&["XRANGE k - + COUNT 2"], "[[1-0, [f, a]], [2-0, [f, b]]]");
    check_five(&["XRANGE k 3 4"], "[[3-0, [other, c]], [4-0, [f, d, f, e]]]");
    check_five(&["XRANGE k (4-0 +"], "[[5-0, [f, 17]]]");
    check_five(&["XREVRANGE k + - COUNT 1"], "[[5-0, [f, 17]]]");
    check_five(&["XREVRANGE k (3-0 1"], "[[2-0, [f, b]], [1-0, [f, a]]]");
    check_five(&["XRANGE k 9 +"], "[]");
    check_five(&["XRANGE k + -"], "[]");
    check_five(&["XRANGE k - + COUNT 0"], "(nil)");
    check_five(&["XRANGE k - + COUNT -1"], "(nil)");
    check_five(&["XRANGE k - + COUNT 1 x"], "-ERR syntax error");
    check_five(&["XRANGE k x +"], BAD_ID);
    check_five(&["XRANGE k (18446744073709551615-18446744073709551615 +"], "-ERR invalid start ID for the interval");
    check_five(&["XRANGE k - (0-0"], "-ERR invalid end ID for the interval");
    check(&["XRANGE k - +"], "[]");
}

#[test]
fn a_long_range_is_whole_though_the_stream_changes_behind_it() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut client = server.connect();
        let add: String = (1..=10_000).map(|n| format!("XADD k {n}-0 field value:{n}\r\n")).collect();
        client.send_raw(add.as_bytes());
        (0..10_000).for_each(|_| drop(client.reply()));
        for (command, backwards) in
            [("XRANGE k - +", false), ("XREVRANGE k + -", true), ("XREAD COUNT 9000 STREAMS k 0", false)]
        {
            client.send_raw(format!("{command}\r\nXDEL k 5000-0\r\n").as_bytes());
            let reply = client.reply().to_string().replace('"', "");
            let wanted = if command.starts_with("XREAD") { 9000 } else { 10_000 };
            let names: Vec<&str> =
                reply.split("[field, value:").skip(1).filter_map(|rest| rest.split(']').next()).collect();
            let mut expected: Vec<String> = (1..=wanted).map(|n| n.to_string()).collect();
            if backwards {
                expected.reverse();
            }
            assert_eq!(names, expected, "{command}, {shards} shards");
            client.reply();
            client.line("DEL k");
            client.send_raw(add.as_bytes());
            (0..10_000).for_each(|_| drop(client.reply()));
        }
    }
}

#[test]
fn entries_are_removed_by_name() {
    check_five(&["XDEL k 2-0 9-0 4"], "2");
    check_five(&["XDEL k 2-0 4", "XRANGE k 1 4"], "[[1-0, [f, a]], [3-0, [other, c]]]");
    check_five(&["XDEL k 2-0 x"], BAD_ID);
    check_five(&["XDEL k 2-0 x", "XLEN k"], "5");
    check_five(
        &["XDEL k 1-0 2-0 3-0 4-0 5-0", "XADD k 5-0 f v"],
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    check(&["XDEL k 1-0"], "0");
}

#[test]
fn trimming_keeps_the_newest() {
    check_five(&["XTRIM k MAXLEN 2"], "3");
    check_five(&["XTRIM k MAXLEN = 2", "XRANGE k - + COUNT 1"], "[[4-0, [f, d, f, e]]]");
    check_five(&["XTRIM k MINID 3", "XLEN k"], "3");
    check_five(&["XTRIM k MAXLEN ~ 2"], "0");
    check_five(&["XTRIM k MAXLEN ~ 0 LIMIT 3"], "0");
    check_five(&["XTRIM k MAXLEN ~ 0 LIMIT 5"], "5");
    check_five(&["XADD k MAXLEN 2 6-0 f v", "XLEN k"], "2");
    check_five(&["XADD k MINID = 5 6-0 f v", "XLEN k"], "2");
    check(&["XTRIM k MAXLEN 0"], "0");
    check_five(&["XTRIM k MAXLEN -1"], "-ERR The MAXLEN argument must be >= 0.");
    check_five(&["XTRIM k MAXLEN ~ 1 LIMIT -1"], "-ERR The LIMIT argument must be >= 0.");
    check_five(&["XTRIM k MAXLEN 1 LIMIT 1"], "-ERR syntax error, LIMIT cannot be used without the special ~ option");
    check_five(
        &["XTRIM k MAXLEN 1 MINID 1"],
        "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
    );
    check_five(&["XTRIM k x 1"], "-ERR syntax error");
}

#[test]
fn trimming_by_whole_blocks_leaves_what_shares_a_block() {
    let mut commands = vec!["CONFIG SET stream-node-max-entries 10".to_owned()];
    commands.extend((1..=35).map(|n| format!("XADD k {n}-0 f v")));
    commands.push("XTRIM k MAXLEN ~ 12".to_owned());
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    check(&commands, "20");
    check(&[&commands[..], &["XTRIM k MINID ~ 25"]].concat(), "0");
    check(&[&commands[..], &["XTRIM k MINID ~ 31"]].concat(), "10");
    check(&["CONFIG SET stream-node-max-entries 100"], "OK");
}

#[test]
fn xsetid_moves_the_greatest_name_and_the_counters() {
    check_five(
        &["XSETID k 9-0", "XADD k 8-0 f v"],
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    check_five(&["XSETID k 9-0 ENTRIESADDED 100 MAXDELETEDID 7-0"], "OK");
    check_five(&["XSETID k 4-0"], "-ERR The ID specified in XSETID is smaller than the target stream top item");
    check_five(
        &["XSETID k 9-0 ENTRIESADDED 4"],
        "-ERR The entries_added specified in XSETID is smaller than the target stream length",
    );
    check_five(&["XSETID k 9-0 ENTRIESADDED -4"], "-ERR entries_added must be positive");
    check_five(
        &["XSETID k 9-0 MAXDELETEDID 10-0"],
        "-ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
    );
    check(&["XSETID k 1-0"], "-ERR no such key");
}

#[test]
fn reading_on_finds_what_is_behind_a_name() {
    check_flat(&["XREAD STREAMS k 3-0"], "[[k, [[4-0, [f, d, f, e]], [5-0, [f, 17]]]]]");
    check_flat(&["XREAD COUNT 1 STREAMS none k 0 0"], "[[k, [[1-0, [f, a]]]]]");
    check_flat(
        &["XADD m 1-0 x y", "XADD n 1-0 x y", "XREAD COUNT 1 STREAMS n k m 0 4 0"],
        "[[n, [[1-0, [x, y]]]], [k, [[5-0, [f, 17]]]], [m, [[1-0, [x, y]]]]]",
    );
    check_flat(&["XREAD STREAMS k +"], "[[k, [[5-0, [f, 17]]]]]");
    check_five(&["XREAD STREAMS k $"], "(nil)");
    check_five(&["XREAD STREAMS k 5-0"], "(nil)");
    check_five(&["XREAD BLOCK 1 STREAMS k m n o p $ $ $ $ $"], "(nil)");
    check_five(
        &["XREAD STREAMS k >"],
        "-ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
    );
    check_five(
        &["XREAD STREAMS k m 1"],
        "-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
    );
    check_five(&["XREAD BLOCK -1 STREAMS k 0"], "-ERR timeout is negative");
    check_five(&["XREAD BLOCK x STREAMS k 0"], "-ERR timeout is not an integer or out of range");
    check_five(
        &["XREAD NOACK STREAMS k 0"],
        "-ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
    );
    check_five(&["XREAD COUNT 1 k 0"], "-ERR syntax error");
    check_five(&["SET m v", "XREAD STREAMS k m 0 0"], WRONG);
}

#[test]
fn inside_a_transaction_nobody_waits() {
    check_five(&["MULTI", "XREAD BLOCK 0 STREAMS k $", "EXEC"], "[(nil)]");
    check_five(&["MULTI", "XREAD BLOCK 0 STREAMS k m n o p $ $ $ $ $", "XLEN k", "EXEC"], "[(nil), 5]");
    check_five(&["XGROUP SETID k g $", "MULTI", "XREADGROUP GROUP g ann BLOCK 0 STREAMS k >", "EXEC"], "[(nil)]");
    check_flat(&["MULTI", "XADD k 6-0 f v", "XREAD BLOCK 0 STREAMS k 5", "EXEC"], "[6-0, [[k, [[6-0, [f, v]]]]]]");
}

#[test]
fn a_group_delivers_each_entry_once_and_remembers_it_until_it_is_acknowledged() {
    check_flat(&["XREADGROUP GROUP g ann COUNT 1 STREAMS k >"], "[[k, [[1-0, [f, a]]]]]");
    let read = ["XREADGROUP GROUP g ann COUNT 2 STREAMS k >", "XREADGROUP GROUP g bob STREAMS k >"];
    let after = |more: &[&'static str]| [&read[..], more].concat();
    check_flat(&after(&["XREADGROUP GROUP g ann STREAMS k 0"]), "[[k, [[1-0, [f, a]], [2-0, [f, b]]]]]");
    check_flat(&after(&["XREADGROUP GROUP g ann STREAMS k 1"]), "[[k, [[2-0, [f, b]]]]]");
    check_flat(&after(&["XDEL k 2-0", "XREADGROUP GROUP g ann STREAMS k 1"]), "[[k, [[2-0, (nil)]]]]");
    check_five(&after(&["XREADGROUP GROUP g ann STREAMS k >"]), "(nil)");
    check_five(&after(&["XPENDING k g"]), "[5, 1-0, 5-0, [[ann, 2], [bob, 3]]]");
    check_five(&after(&["XACK k g 1-0 2-0 9-0", "XPENDING k g"]), "[3, 3-0, 5-0, [[bob, 3]]]");
    check_five(&after(&["XACK k g 1-0 2-0 9-0"]), "2");
    check_five(&after(&["XACK k g 1-0 x"]), BAD_ID);
    check_five(&["XACK k nogroup x"], "0");
    check_five(&["XREADGROUP GROUP g ann NOACK STREAMS k >", "XPENDING k g"], "[0, (nil), (nil), (nil)]");
    check_five(
        &["XREADGROUP GROUP x ann STREAMS k >"],
        "-NOGROUP No such key 'k' or consumer group 'x' in XREADGROUP with GROUP option",
    );
    check_five(&["XREADGROUP COUNT 1 COUNT 1 STREAMS k >"], "-ERR Missing GROUP option for XREADGROUP");
    check_flat(
        &["XADD m 1-0 x y", "XGROUP CREATE m g 0", "XREADGROUP GROUP g ann COUNT 1 STREAMS m k > >"],
        "[[m, [[1-0, [x, y]]]], [k, [[1-0, [f, a]]]]]",
    );
}

#[test]
fn pending_entries_are_listed_by_range_consumer_and_idle_time() {
    let read = ["XREADGROUP GROUP g ann COUNT 2 STREAMS k >", "XREADGROUP GROUP g bob STREAMS k >"];
    let names = |shown: &str| {
        let parts: Vec<String> = shown.split("], [").map(|part| part.replace(['[', ']'], "")).collect();
        parts.iter().map(|part| part.split(", ").take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; ")
    };
    for (command, expected) in [
        ("XPENDING k g - + 10", "1-0 ann; 2-0 ann; 3-0 bob; 4-0 bob; 5-0 bob"),
        ("XPENDING k g (1 4 2", "2-0 ann; 3-0 bob"),
        ("XPENDING k g - + 10 ann", "1-0 ann; 2-0 ann"),
        ("XPENDING k g - + 10 nobody", ""),
        ("XPENDING k g IDLE 100000 - + 10", ""),
        ("XPENDING k g - + 0", ""),
    ] {
        check_that(&[FIVE, &read[..], &[command]].concat(), expected, |shown| names(shown) == expected);
    }
    check_five(&["XPENDING k g - +"], "-ERR syntax error");
    check_five(&["XPENDING k x"], "-NOGROUP No such key 'k' or consumer group 'x'");
    check(&["XPENDING k x - + 1"], "-NOGROUP No such key 'k' or consumer group 'x'");
}

#[test]
fn entries_can_be_claimed_from_other_consumers() {
    let read = "XREADGROUP GROUP g ann COUNT 3 STREAMS k >";
    check_five(&[read, "XCLAIM k g bob 0 1-0 2-0 9-0"], "[[1-0, [f, a]], [2-0, [f, b]]]");
    check_five(&[read, "XCLAIM k g bob 0 1-0 JUSTID"], "[1-0]");
    check_five(&[read, "XCLAIM k g bob 100000 1-0"], "[]");
    check_five(&[read, "XCLAIM k g bob 0 1-0", "XPENDING k g"], "[3, 1-0, 3-0, [[ann, 2], [bob, 1]]]");
    check_five(&[read, "XCLAIM k g bob 0 5-0"], "[]");
    check_five(&[read, "XCLAIM k g bob 0 5-0 FORCE JUSTID"], "[5-0]");
    check_five(&[read, "XCLAIM k g bob 0 5-0 FORCE", "XACK k g 5-0"], "1");
    check_five(&[read, "XDEL k 1-0", "XCLAIM k g bob 0 1-0", "XPENDING k g"], "[2, 2-0, 3-0, [[ann, 2]]]");
    check_that(
        &[FIVE, &[read, "XCLAIM k g bob 0 1-0 IDLE 5000 RETRYCOUNT 7", "XPENDING k g IDLE 5000 - + 1 bob"]].concat(),
        "one entry of seven deliveries",
        |shown| shown.starts_with("[[1-0, bob, 5") && shown.ends_with(", 7]]"),
    );
    check_five(&["XCLAIM k g bob x 1-0"], "-ERR Invalid min-idle-time argument for XCLAIM");
    check_five(&["XCLAIM k g bob 0 1-0 nonsense"], "-ERR Unrecognized XCLAIM option 'nonsense'");
    check_five(&["XCLAIM k x bob 0 1-0"], "-NOGROUP No such key 'k' or consumer group 'x'");
    check_five(
        &["XCLAIM k g bob 0 1-0 LASTID 4-0", "XREADGROUP GROUP g bob STREAMS k >", "XPENDING k g"],
        "[1, 5-0, 5-0, [[bob, 1]]]",
    );
}

#[test]
fn what_has_been_pending_for_long_is_claimed_in_pages() {
    let read = "XREADGROUP GROUP g ann STREAMS k >";
    check_five(&[read, "XAUTOCLAIM k g bob 0 - COUNT 2"], "[3-0, [[1-0, [f, a]], [2-0, [f, b]]], []]");
    check_five(&[read, "XAUTOCLAIM k g bob 0 4-0"], "[0-0, [[4-0, [f, d, f, e]], [5-0, [f, 17]]], []]");
    check_five(&[read, "XAUTOCLAIM k g bob 0 (4-0 JUSTID"], "[0-0, [5-0], []]");
    check_five(&[read, "XAUTOCLAIM k g bob 100000 -"], "[0-0, [], []]");
    check_five(&[read, "XDEL k 1-0 3-0", "XAUTOCLAIM k g bob 0 - COUNT 3 JUSTID"], "[4-0, [2-0], [1-0, 3-0]]");
    check_five(&[read, "XDEL k 1-0", "XAUTOCLAIM k g bob 0 -", "XPENDING k g"], "[4, 2-0, 5-0, [[bob, 4]]]");
    check_five(&[read, "XAUTOCLAIM k g bob 0 - COUNT 0"], "-ERR COUNT must be > 0");
    // Nothing is reserved for a count, however large.
    check_five(
        &[read, "XAUTOCLAIM k g bob 0 - COUNT 576460752303423487 JUSTID"],
        "[0-0, [1-0, 2-0, 3-0, 4-0, 5-0], []]",
    );
    check_five(&[read, "XAUTOCLAIM k g bob 0 - COUNT 9223372036854775807"], "-ERR COUNT must be > 0");
    check_five(&["XAUTOCLAIM k g bob x -"], "-ERR Invalid min-idle-time argument for XAUTOCLAIM");
    check_five(&["XAUTOCLAIM k x bob 0 -"], "-NOGROUP No such key 'k' or consumer group 'x'");
}

#[test]
fn groups_and_consumers_are_made_and_removed() {
    const NO_KEY: &str = "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
                          MKSTREAM option to create an empty stream automatically.";
    check(&["XGROUP CREATE k g 0"], NO_KEY);
    check(&["XGROUP CREATE k g $ MKSTREAM", "XLEN k"], "0");
    check(&["XGROUP CREATE k g $ MKSTREAM", "TYPE k"], "stream");
    check_five(&["XGROUP CREATE k g 0"], "-BUSYGROUP Consumer Group name already exists");
    check_five(&["XGROUP CREATE k h x"], BAD_ID);
    check_five(&["XGROUP CREATE k h 0 ENTRIESREAD -2"], "-ERR value for ENTRIESREAD must be positive or -1");
    check_five(
        &["XGROUP CREATE k h 0 nonsense"],
        "-ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.",
    );
    check_five(&["XGROUP CREATECONSUMER k g ann", "XGROUP CREATECONSUMER k g ann"], "0");
    check_five(&["XGROUP CREATECONSUMER k x ann"], "-NOGROUP No such consumer group 'x' for key name 'k'");
    check_five(&["XREADGROUP GROUP g ann COUNT 3 STREAMS k >", "XGROUP DELCONSUMER k g ann"], "3");
    check_five(
        &["XREADGROUP GROUP g ann COUNT 3 STREAMS k >", "XGROUP DELCONSUMER k g ann", "XPENDING k g"],
        "[0, (nil), (nil), (nil)]",
    );
    check_five(&["XGROUP DELCONSUMER k g nobody"], "0");
    check_five(
        &["XGROUP SETID k g 4-0", "XREADGROUP GROUP g ann STREAMS k >", "XPENDING k g"],
        "[1, 5-0, 5-0, [[ann, 1]]]",
    );
    check_five(&["XGROUP SETID k g $", "XREADGROUP GROUP g ann STREAMS k >"], "(nil)");
    check_five(&["XGROUP DESTROY k g"], "1");
    check_five(&["XGROUP DESTROY k x"], "0");
    check_five(&["XGROUP DESTROY k g", "XGROUP SETID k g 0"], "-NOGROUP No such consumer group 'g' for key name 'k'");
    check_that(&["XGROUP HELP"], "a help", |shown| shown.contains("CREATECONSUMER") && shown.contains("MKSTREAM"));
}

#[test]
fn xinfo_tells_of_the_stream_and_its_groups() {
    check_flat(
        &["XDEL k 1-0", "XINFO STREAM k"],
        "{length: 4, radix-tree-keys: 1, radix-tree-nodes: 2, last-generated-id: 5-0, max-deleted-entry-id: 1-0, \
         entries-added: 5, recorded-first-entry-id: 2-0, groups: 1, first-entry: [2-0, [f, b]], last-entry: [5-0, [f, 17]]}",
    );
    check_flat(
        &["XREADGROUP GROUP g ann COUNT 2 STREAMS k >", "XINFO GROUPS k"],
        "[{name: g, consumers: 1, pending: 2, last-delivered-id: 2-0, entries-read: 2, lag: 3}]",
    );
    check_flat(
        &["XREADGROUP GROUP g ann COUNT 2 STREAMS k >", "XDEL k 3-0", "XINFO GROUPS k"],
        "[{name: g, consumers: 1, pending: 2, last-delivered-id: 2-0, entries-read: 2, lag: (nil)}]",
    );
    check_five(&["XINFO CONSUMERS k x"], "-NOGROUP No such consumer group 'x' for key name 'k'");
    check(&["XINFO STREAM k"], "-ERR no such key");
    check_five(
        &["XINFO STREAM k FULL COUNT"],
        "-ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.",
    );
    check_that(&["XINFO HELP"], "a help", |shown| shown.contains("CONSUMERS") && shown.contains("FULL"));
    check_that(
        &[FIVE, &["XREADGROUP GROUP g ann COUNT 1 STREAMS k >", "XINFO STREAM k FULL COUNT 2"]].concat(),
        "entries, groups, consumers and what is pending",
        |shown| {
            ["[[1-0, [f, a]], [2-0, [f, b]]]", "pel-count", "active-time", "[[1-0, ann, "]
                .iter()
                .all(|part| shown.contains(part))
        },
    );
}

#[test]
fn a_consumer_is_seen_when_it_tries_and_active_when_it_gets_something() {
    let inactive = |shown: &str| shown.replace(": ", ", ").contains("inactive, -1");
    let consumers = "XINFO CONSUMERS k g";
    check_that(&[FIVE, &["XGROUP CREATECONSUMER k g ann", consumers]].concat(), "never active", inactive);
    check_that(
        &[FIVE, &["XGROUP SETID k g $", "XREADGROUP GROUP g ann STREAMS k >", consumers]].concat(),
        "there, and never active",
        inactive,
    );
    check_that(&[FIVE, &["XREADGROUP GROUP g ann STREAMS k >", consumers]].concat(), "active", |shown| {
        shown.contains("inactive") && !inactive(shown)
    });
}
