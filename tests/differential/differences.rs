//! Where we mean to differ from redis-server 7.0, and why. Every entry is data: what it concerns, and what can still be
//! compared. What is not in this list and not equal is a fault of ours.

use super::compare::How;
use annulus::base::num::parse_i64;

/// One intended difference.
pub struct Difference {
    /// What it is about.
    pub name: &'static str,
    /// Why it is so.
    pub reason: &'static str,
    /// Whether this command shows it.
    pub concerns: fn(&[Vec<u8>]) -> bool,
    /// What can still be compared.
    pub how: How,
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "DELIFEQ",
        reason: "a later command (Valkey 9) that redis-server 7.0 does not have; its behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "delifeq"),
        how: How::NotSent,
    },
    Difference {
        name: "COMPRESS, UNCOMPRESS",
        reason: "commands of ours; their behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "compress") || is(argv, 0, "uncompress"),
        how: How::NotSent,
    },
    Difference {
        name: "SET IFEQ, IFNE",
        reason: "later options of SET that redis-server 7.0 refuses; their behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "set") && (3..argv.len()).any(|at| is(argv, at, "ifeq") || is(argv, at, "ifne")),
        how: How::NotSent,
    },
    Difference {
        name: "BITOP DIFF, DIFF1, ANDOR, ONE",
        reason: "operations of 8.2 that redis-server 7.0 refuses; their behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "bitop") && ["diff", "diff1", "andor", "one"].iter().any(|op| is(argv, 1, op)),
        how: How::NotSent,
    },
    Difference {
        name: "BITCOUNT and BITPOS with bad arguments",
        reason: "since 7.2 they are refused, whether the key is there or not; in 7.0 a missing key comes first",
        concerns: has_bad_bit_range,
        how: How::NotSent,
    },
    Difference {
        name: "PFSELFTEST",
        reason: "takes seconds in Redis, and replies the same",
        concerns: |argv| is(argv, 0, "pfselftest"),
        how: How::NotSent,
    },
    Difference {
        name: "HELP texts",
        reason: "made from our rows, in our words",
        concerns: |argv| ["object", "xgroup", "xinfo"].iter().any(|name| is(argv, 0, name)) && is(argv, 1, "help"),
        how: How::SameType,
    },
    Difference {
        name: "OBJECT REFCOUNT",
        reason: "Redis keeps a table of shared small integers, and whether a key uses it depends on the key's history; we reply \
                 as if every small integer were shared",
        concerns: |argv| is(argv, 0, "object") && is(argv, 1, "refcount"),
        how: How::SameType,
    },
    Difference {
        name: "OBJECT IDLETIME",
        reason: "the idle time of a small integer in Redis is that of the shared number, not that of the key",
        concerns: |argv| is(argv, 0, "object") && is(argv, 1, "idletime"),
        how: How::SameType,
    },
    Difference {
        name: "WAIT for replicas",
        reason: "without replicas Redis waits for the timeout and then replies 0; we reply 0 at once",
        concerns: |argv| is(argv, 0, "wait") && argv.len() == 3 && number(&argv[1]).is_some_and(|n| n > 0),
        how: How::NotSent,
    },
    Difference {
        name: "LPOS with the lowest RANK",
        reason: "refused since 7.2; 7.0 overflows",
        concerns: |argv| is(argv, 0, "lpos") && argv.iter().any(|arg| number(arg) == Some(i64::MIN)),
        how: How::NotSent,
    },
    Difference {
        name: "SPOP",
        reason: "each server takes members by its own chance, and the sets would differ from then on; behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "spop"),
        how: How::NotSent,
    },
    Difference {
        name: "SRANDMEMBER of billions",
        reason: "redis-server 7.0 would write them all into its memory; we send them piece by piece",
        concerns: |argv| is(argv, 0, "srandmember") && argv.len() == 3 && number(&argv[2]).is_some_and(|n| n < -20_000),
        how: How::NotSent,
    },
    Difference {
        name: "WAITAOF",
        reason: "a later command (Redis 7.2) that redis-server 7.0 does not have; its behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "waitaof"),
        how: How::NotSent,
    },
    Difference {
        name: "HOTKEYS, SHARDS",
        reason: "a later command (Redis 8.6), and one of our own; their behaviour tests stand alone",
        concerns: |argv| is(argv, 0, "hotkeys") || is(argv, 0, "shards"),
        how: How::NotSent,
    },
    Difference {
        name: "fields that expire",
        reason: "later commands (Redis 7.4 and 8) that redis-server 7.0 does not have; their behaviour tests stand alone",
        concerns: |argv| {
            const LATER: [&str; 12] = [
                "hexpire",
                "hpexpire",
                "hexpireat",
                "hpexpireat",
                "httl",
                "hpttl",
                "hexpiretime",
                "hpexpiretime",
                "hpersist",
                "hgetdel",
                "hgetex",
                "hsetex",
            ];
            LATER.iter().any(|name| is(argv, 0, name))
        },
        how: How::NotSent,
    },
    Difference {
        name: "HSCAN NOVALUES, SSCAN NOVALUES",
        reason: "an option of 7.4",
        concerns: |argv| (2..argv.len()).any(|at| is(argv, at, "novalues")),
        how: How::NotSent,
    },
    Difference {
        name: "HRANDFIELD of billions",
        reason: "redis-server 7.0 would write them all into its memory; we send them piece by piece",
        concerns: |argv| is(argv, 0, "hrandfield") && argv.len() >= 3 && number(&argv[2]).is_some_and(|n| n < -20_000),
        how: How::NotSent,
    },
    Difference {
        name: "ZRANK, ZREVRANK WITHSCORE",
        reason: "an option of 7.2",
        concerns: |argv| (is(argv, 0, "zrank") || is(argv, 0, "zrevrank")) && argv.len() > 3,
        how: How::NotSent,
    },
    Difference {
        name: "ZRANDMEMBER of billions",
        reason: "redis-server 7.0 would write them all into its memory; we send them piece by piece",
        concerns: |argv| is(argv, 0, "zrandmember") && argv.len() >= 3 && number(&argv[2]).is_some_and(|n| n < -20_000),
        how: How::NotSent,
    },
    Difference {
        name: "XINFO CONSUMERS, XINFO STREAM",
        reason: "7.2 adds `inactive` and `active-time`, and `seen-time` tells of attempts; `radix-tree-nodes` counts the nodes of a \
                 tree that we do not have",
        concerns: |argv| is(argv, 0, "xinfo"),
        how: How::StreamInfo,
    },
    Difference {
        name: "XAUTOCLAIM of billions",
        reason: "redis-server 7.0 makes room for COUNT names first and fails; we make room for what is there",
        concerns: |argv| {
            is(argv, 0, "xautoclaim") && argv.iter().any(|arg| number(arg).is_some_and(|n| n > 1_000_000_000))
        },
        how: How::NotSent,
    },
    Difference {
        name: "consumers that find nothing",
        reason: "since 7.2 reading or claiming makes the consumer and counts as seeing it, in 7.0 only what is had does: scripts \
                 make the consumer first",
        concerns: |_| false,
        how: How::Exact,
    },
    Difference {
        name: "XREAD from +",
        reason: "the last entry, since 7.4; 7.0 refuses it",
        concerns: |argv| is(argv, 0, "xread") && argv.iter().any(|arg| arg == b"+"),
        how: How::NotSent,
    },
    Difference {
        name: "SORT by numbers, after other commands",
        reason: "redis-server 7.0 looks at an error number that it has not reset: when some command before has met a number out of \
                 range, sorting good numbers fails; they are compared in a script of their own",
        concerns: |argv| {
            (is(argv, 0, "sort") || is(argv, 0, "sort_ro")) && !(2..argv.len()).any(|at| is(argv, at, "alpha"))
        },
        how: How::NotSent,
    },
    Difference {
        name: "SORT whose order is open",
        reason: "elements of a set that are not to be sorted, and elements with the same word, are in an order of each server's own; \
                 what has one order is compared in a script of its own",
        concerns: |argv| {
            let has = |word| (2..argv.len()).any(|at| is(argv, at, word));
            is(argv, 0, "sort") && has("store") && (has("by") || has("get"))
        },
        how: How::NotSent,
    },
    Difference {
        name: "SORT whose order is open, with LIMIT",
        reason: "as above",
        concerns: |argv| {
            let has = |word| (2..argv.len()).any(|at| is(argv, at, word));
            (is(argv, 0, "sort") || is(argv, 0, "sort_ro")) && has("by") && (has("limit") || has("get"))
        },
        how: How::SameType,
    },
    Difference {
        name: "NUL in option words",
        reason: "Redis compares options as C strings, so `EX\\0junk` is EX there; we compare all bytes",
        concerns: |argv| argv.iter().skip(2).any(|arg| is_option_before_nul(arg)),
        how: How::NotSent,
    },
];

/// Whether argument `at` is this word, in any case.
pub fn is(argv: &[Vec<u8>], at: usize, word: &str) -> bool {
    argv.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

/// An argument as an integer, if it is one.
pub fn number(arg: &[u8]) -> Option<i64> {
    std::str::from_utf8(arg).ok()?.parse().ok()
}

fn has_bad_bit_range(argv: &[Vec<u8>]) -> bool {
    let (start, argc_max) = match () {
        () if is(argv, 0, "bitcount") => (2, 5),
        () if is(argv, 0, "bitpos") => (3, 6),
        () => return false,
    };
    let bad_number = |at: usize| argv.get(at).is_some_and(|arg| parse_i64(arg).is_none());
    let bad_unit = argv.len() > start + 2 && !is(argv, start + 2, "bit") && !is(argv, start + 2, "byte");
    bad_number(start) || bad_number(start + 1) || bad_unit || argv.len() > argc_max || (start == 2 && argv.len() == 3)
}

fn is_option_before_nul(arg: &[u8]) -> bool {
    arg.split(|&byte| byte == 0).next().is_some_and(|word| word.len() < arg.len() && (2..=12).contains(&word.len()))
}
