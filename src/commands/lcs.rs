//! LCS: the longest common subsequence of two strings, as its length, as the string itself, or as the ranges that match.
//!
//! # The table
//! The textbook way keeps a number per pair of positions, and walks back through them from the end. The walk asks one thing of
//! a pair whose bytes differ: was the better neighbour the one with a byte less of `a`, or the one with a byte less of `b`?
//! So the numbers live in two rows, and what stays of each pair is that one bit: two strings of 11,000 bytes take 15 MiB here
//! and 480 MiB as numbers. Which neighbour wins a tie decides which of several longest subsequences is found; it is `b`'s, as
//! in Redis, so the ranges are the same.
//!
//! Redis refuses strings whose numbers would take more than `proto-max-bulk-len`; so do we, though we need a 32nd of it: it also
//! bounds the time, which is a nanosecond or two per pair. Absent on purpose, so far: giving way to other clients meanwhile.

use std::ops::Range;

use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::shard::cx::ReadCx;
use crate::txn::{Coordinator, Plan};

const NOT_STRINGS: CommandError = CommandError::Custom("ERR The specified keys must contain string values");
const AMBIGUOUS: CommandError =
    CommandError::Custom("ERR If you want both the length and indexes, please just use IDX.");
const TOO_LONG: CommandError = CommandError::Custom("ERR String too long for LCS");
const TOO_MUCH_MEMORY: CommandError =
    CommandError::Custom("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

/// Both keys on one shard.
pub(super) fn on_one_shard(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    // Both are looked up before either is complained about.
    let (a, b) = (string_at(cx, args.get(1)), string_at(cx, args.get(2)));
    let (a, b) = (a?, b?);
    let limit = cx.config().proto_max_bulk_len;
    answer(&a, &b, limit, args, reply)
}

/// The keys on two shards: one copy from each, and the work on the core of the client.
pub(super) fn plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let ask = |key: &[u8]| {
            let owned = key.to_vec();
            coordinator.with_key(key, move |cx| {
                let limit = cx.config().proto_max_bulk_len;
                string_at(cx, &owned).map(|string| (string, limit))
            })
        };
        let (a, b) = (ask(args.get(1)), ask(args.get(2)));
        let (a, b) = (a.await, b.await);
        let ((a, limit), (b, _)) = (a?, b?);
        let mut reply = coordinator.reply();
        answer(&a, &b, limit, args, &mut reply)?;
        Ok(reply)
    })
}

/// A copy of the string at a key; a missing one is empty.
fn string_at(cx: &mut ReadCx<'_>, key: &[u8]) -> Result<Vec<u8>, CommandError> {
    let value = cx.string(key).map_err(|_| NOT_STRINGS)?;
    Ok(value.map(|value| value.text().to_vec()).unwrap_or_default())
}

fn answer(a: &[u8], b: &[u8], limit: u64, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let options = Options::parse(args)?;
    if a.len().max(b.len()) >= u32::MAX as usize - 1 {
        return Err(TOO_LONG);
    }
    let cells = (a.len() as u64 + 1) * (b.len() as u64 + 1);
    if cells.checked_mul(size_of::<u32>() as u64).is_none_or(|bytes| bytes > limit) {
        return Err(TOO_MUCH_MEMORY);
    }
    match options.wanted {
        Wanted::Length => reply.int(i64::from(lengths(a, b, |_, _| {}))),
        Wanted::String => {
            let mut string: Vec<u8> = Vec::new();
            for found in matches(a, b).1.iter().rev() {
                string.extend_from_slice(&a[found.a.clone()]);
            }
            reply.bulk(&string);
        }
        Wanted::Ranges => {
            let (len, mut found) = matches(a, b);
            found.retain(|m| m.a.len() as i64 >= options.min_match_len);
            reply.map(2);
            reply.bulk(b"matches");
            reply.array(found.len());
            for found in found {
                reply.array(2 + usize::from(options.with_match_len));
                for range in [&found.a, &found.b] {
                    reply.array(2);
                    reply.int(range.start as i64);
                    reply.int(range.end as i64 - 1);
                }
                if options.with_match_len {
                    reply.int(found.a.len() as i64);
                }
            }
            reply.bulk(b"len");
            reply.int(i64::from(len));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    String,
    Length,
    Ranges,
}

struct Options {
    wanted: Wanted,
    min_match_len: i64,
    with_match_len: bool,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, CommandError> {
        let (mut len, mut idx) = (false, false);
        let mut options = Options { wanted: Wanted::String, min_match_len: 0, with_match_len: false };
        let mut at = 3;
        while at < args.len() {
            let word = args.get(at);
            if word.eq_ignore_ascii_case(b"idx") {
                idx = true;
            } else if word.eq_ignore_ascii_case(b"len") {
                len = true;
            } else if word.eq_ignore_ascii_case(b"withmatchlen") {
                options.with_match_len = true;
            } else if word.eq_ignore_ascii_case(b"minmatchlen") && at + 1 < args.len() {
                options.min_match_len = parse_i64(args.get(at + 1)).ok_or(CommandError::NotAnInteger)?;
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        options.wanted = match (len, idx) {
            (true, true) => return Err(AMBIGUOUS),
            (true, false) => Wanted::Length,
            (false, true) => Wanted::Ranges,
            (false, false) => Wanted::String,
        };
        Ok(options)
    }
}

/// A run of bytes that both strings have.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Match {
    a: Range<usize>,
    b: Range<usize>,
}

/// The length of the longest common subsequence. `drops_a(i, j)` is told of each pair of prefixes `a[..=i]`, `b[..=j]` whose
/// last bytes differ and which are better off without the last byte of `a` than without that of `b`.
fn lengths(a: &[u8], b: &[u8], mut drops_a: impl FnMut(usize, usize)) -> u32 {
    // `row[j]` belongs to `b[..=j]`; before it is overwritten it is that of the row above.
    let mut row = vec![0u32; b.len()];
    for (i, &byte) in a.iter().enumerate() {
        let (mut diagonal, mut left) = (0, 0);
        for (j, (&other, place)) in b.iter().zip(&mut row).enumerate() {
            let above = *place;
            if byte == other {
                left = diagonal + 1;
            } else if above > left {
                drops_a(i, j);
                left = above;
            }
            diagonal = above;
            *place = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The length, and the runs of the subsequence, the last one first.
fn matches(a: &[u8], b: &[u8]) -> (u32, Vec<Match>) {
    let mut bits = vec![0u64; (a.len() * b.len()).div_ceil(64)];
    let cell = |i: usize, j: usize| i * b.len() + j;
    let len = lengths(a, b, |i, j| bits[cell(i, j) / 64] |= 1 << (cell(i, j) % 64));
    let mut found: Vec<Match> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            match found.last_mut() {
                Some(run) if run.a.start == i + 1 && run.b.start == j + 1 => (run.a.start, run.b.start) = (i, j),
                _ => found.push(Match { a: i..i + 1, b: j..j + 1 }),
            }
        } else if bits[cell(i - 1, j - 1) / 64] >> (cell(i - 1, j - 1) % 64) & 1 == 1 {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    debug_assert_eq!(found.iter().map(|m| m.a.len()).sum::<usize>(), len as usize);
    (len, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_are_those_of_the_redis_documentation() {
        let (len, found) = matches(b"ohmytext", b"mynewtext");
        assert_eq!(len, 6);
        assert_eq!(found, [Match { a: 4..8, b: 5..9 }, Match { a: 2..4, b: 0..2 }]);
    }

    #[test]
    fn nothing_matches_nothing() {
        assert_eq!(matches(b"", b"abc"), (0, Vec::new()));
        assert_eq!(matches(b"abc", b""), (0, Vec::new()));
        assert_eq!(matches(b"abc", b"xyz"), (0, Vec::new()));
    }

    /// Every table in full, and the walk that asks it.
    fn plain(a: &[u8], b: &[u8]) -> (u32, Vec<(usize, usize)>) {
        let mut table = vec![vec![0u32; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] =
                    if a[i - 1] == b[j - 1] { table[i - 1][j - 1] + 1 } else { table[i - 1][j].max(table[i][j - 1]) };
            }
        }
        let (mut i, mut j, mut pairs) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                pairs.push((i, j));
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (table[a.len()][b.len()], pairs)
    }

    #[test]
    fn one_bit_per_pair_finds_what_the_full_table_finds() {
        for seed in 0..200 {
            let mut rng = crate::base::rng::Rng::seed(seed);
            let mut string = || (0..rng.below(40)).map(|_| b'a' + rng.below(3) as u8).collect::<Vec<u8>>();
            let (a, b) = (string(), string());
            let (len, found) = matches(&a, &b);
            let pairs = found.iter().flat_map(|m| m.a.clone().rev().zip(m.b.clone().rev())).collect::<Vec<_>>();
            assert_eq!((len, pairs), plain(&a, &b), "seed {seed}");
        }
    }
}
