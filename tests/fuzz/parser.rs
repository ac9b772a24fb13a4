//! Hostile bytes for the request parser, from a seeded generator that knows the protocol's grammar.
//!
//! `ANNULUS_FUZZ_SECONDS` sets for how long to look (2 unless said otherwise), `ANNULUS_FUZZ_SEED` where to begin. A
//! failure prints the seed of its case; the same seed gives the same case. `tests/fuzz/libfuzzer` holds the same
//! properties before a coverage-guided fuzzer.

mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use annulus::base::rng::Rng;
use annulus::resp::{ParseLimits, ProtocolError};
use harness::{End, check, model, receive};

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "4",
    "9",
    "10",
    "11",
    "-1",
    "-0",
    "-5",
    "00",
    "01",
    "+1",
    " 1",
    "1 ",
    "",
    "-",
    "x",
    "16383",
    "16384",
    "16385",
    "65536",
    "1048576",
    "1048577",
    "2147483647",
    "2147483648",
    "536870912",
    "536870913",
    "999999999",
    "9999999999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
];

const BYTES: &[u8] = b"\0\r\n$*\"'\\x0193-+ \t\x0b\xff:,_#a";

/// An index or a length below `n`.
fn below(rng: &mut Rng, n: usize) -> usize {
    rng.below(n as u64) as usize
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    *rng.pick(from)
}

/// One piece of protocol, mostly right.
fn push_item(rng: &mut Rng, wire: &mut Vec<u8>) {
    match below(rng, 10) {
        0 => {
            let nothing: &[u8] = pick(rng, &[&b"\r\n"[..], b"\n", b"*0\r\n", b"*-1\r\n", b"  \t\r\n", b"*-7\r\n"]);
            wire.extend_from_slice(nothing);
        }
        1 | 2 => {
            for _ in 0..below(rng, 6) {
                let word: &[u8] = pick(
                    rng,
                    &[
                        &b"PING"[..],
                        b"\"a b\"",
                        b"'it\\'s'",
                        b"\"\\x41\\n\"",
                        b"\"",
                        b"'",
                        b"\"\"",
                        b"x\"y z\"",
                        b"\\",
                        b"\"\\\"",
                        b"\x0b",
                        b"*1",
                        b"$5",
                        b"a\rb",
                        b"a\x0bb",
                    ],
                );
                wire.extend_from_slice(word);
                wire.push(pick(rng, b"   \t\r"));
            }
            wire.extend_from_slice(pick(rng, &[&b"\r\n"[..], b"\n", b"\r\r\n"]));
        }
        3 => {
            wire.extend_from_slice(pick(rng, &[&b"*"[..], b"$", b"*1\r\n$"]));
            wire.extend_from_slice(pick(rng, NUMBERS).as_bytes());
            wire.extend_from_slice(pick(rng, &[&b"\r\n"[..], b"\r", b"\n", b""]));
        }
        _ => {
            let count = if rng.chance(1, 20) { 11 + below(rng, 30) } else { 1 + below(rng, 5) };
            wire.extend_from_slice(format!("*{count}\r\n").as_bytes());
            for _ in 0..count {
                let len = match below(rng, 40) {
                    0 => 16_380 + below(rng, 10),
                    1 if rng.chance(1, 4) => below(rng, 150_000),
                    2..=5 => below(rng, 300),
                    _ => below(rng, 12),
                };
                wire.extend_from_slice(format!("${len}\r\n").as_bytes());
                let byte = pick(rng, b"v\0\r\n*$");
                wire.resize(wire.len() + len, byte);
                wire.extend_from_slice(b"\r\n");
            }
        }
    }
}

fn mutate(rng: &mut Rng, wire: &mut Vec<u8>) {
    if wire.is_empty() {
        return;
    }
    let at = below(rng, wire.len());
    let some = 1 + below(rng, 8).min(wire.len() - at - 1);
    match below(rng, 7) {
        0 => wire[at] = pick(rng, BYTES),
        1 => wire.insert(at, pick(rng, BYTES)),
        2 => drop(wire.drain(at..at + some)),
        3 => {
            let copy = wire[at..at + some].to_vec();
            let to = below(rng, wire.len());
            wire.splice(to..to, copy);
        }
        4 => wire.truncate(at),
        5 => {
            // Another number in the next header.
            if let Some(tag) = wire[at..].iter().position(|b| matches!(b, b'*' | b'$')) {
                let start = at + tag + 1;
                let digits = wire[start..].iter().take_while(|b| b.is_ascii_digit()).count();
                wire.splice(start..start + digits, pick(rng, NUMBERS).bytes());
            }
        }
        _ => {
            let filler = pick(rng, b"a1 \0");
            let len = pick(rng, &[1, 20, 65_530, 65_536, 70_000]);
            wire.splice(at..at, std::iter::repeat_n(filler, len));
        }
    }
}

fn pieces(rng: &mut Rng, wire: &[u8]) -> Vec<usize> {
    match below(rng, 6) {
        0 => vec![wire.len()],
        1 if wire.len() < 3000 => vec![1],
        2 => vec![pick(rng, &[2, 3, 7, 16, 100, 4096, 16_384, 65_536])],
        3 => vec![1 + below(rng, wire.len() + 1), wire.len()],
        _ => {
            let longest = if rng.chance(1, 3) { 20_000 } else { 20 };
            (0..1 + below(rng, 8)).map(|_| 1 + below(rng, longest)).collect()
        }
    }
}

fn one_case(seed: u64) {
    let mut rng = Rng::seed(seed);
    let mut wire = Vec::new();
    for _ in 0..1 + below(&mut rng, 6) {
        push_item(&mut rng, &mut wire);
    }
    if !rng.chance(1, 4) {
        for _ in 0..1 + below(&mut rng, 3) {
            mutate(&mut rng, &mut wire);
        }
    }
    let limits = ParseLimits {
        bulk_bytes_max: pick(&mut rng, &[512 << 20, 512 << 20, 20_000, 5, i64::MAX as u64]),
        args_max: pick(&mut rng, &[1_048_576, 1_048_576, 3]),
        authenticated: !rng.chance(1, 4),
    };
    for _ in 0..3 {
        let pieces = pieces(&mut rng, &wire);
        check(&wire, &pieces, &limits);
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

#[test]
fn any_bytes_in_any_pieces_give_what_the_model_gives() {
    let first = setting("ANNULUS_FUZZ_SEED", 1);
    let budget = Duration::from_secs(setting("ANNULUS_FUZZ_SECONDS", 2));
    let started = Instant::now();
    let mut cases = 0;
    while started.elapsed() < budget || cases == 0 {
        for _ in 0..64 {
            let seed = first.wrapping_add(cases);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one_case(seed))) {
                eprintln!("failed at ANNULUS_FUZZ_SEED={seed}");
                resume_unwind(panic);
            }
            cases += 1;
        }
    }
    println!("{cases} cases from seed {first}");
}

#[test]
fn the_generator_makes_both_good_and_bad_streams() {
    let (mut errors, mut commands) = (std::collections::HashSet::new(), 0);
    for seed in 0..4_000 {
        let mut rng = Rng::seed(seed);
        let mut wire = Vec::new();
        for _ in 0..1 + below(&mut rng, 3) {
            push_item(&mut rng, &mut wire);
        }
        mutate(&mut rng, &mut wire);
        let limits = ParseLimits { authenticated: !rng.chance(1, 4), ..ParseLimits::default() };
        let (seen, end) = model(&wire, &limits);
        commands += seen.len();
        if let End::Error(error) = end {
            errors.insert(std::mem::discriminant(&error));
        }
    }
    // All but the one about 4 GiB of small arguments.
    assert_eq!(errors.len(), 9);
    assert!(commands > 2_000, "{commands}");
}

/// CVE-2026-27623: a server that did not forget the kind of an empty request read the next one as that kind.
#[test]
fn an_empty_request_leaves_nothing_behind_cut_at_every_byte() {
    let empties: [&[u8]; 4] = [b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n"];
    let commands: [&[u8]; 2] = [b"PING\r\n", b"*1\r\n$4\r\nPING\r\n"];
    for first in empties {
        for second in empties {
            for before in commands {
                for behind in commands {
                    let wire = [before, first, second, behind, first, behind, before].concat();
                    let limits = ParseLimits::default();
                    let (expected, end) = model(&wire, &limits);
                    assert_eq!((expected.len(), end), (4, End::Between));
                    for cut in 1..wire.len() {
                        check(&wire, &[cut, wire.len()], &limits);
                        check(&wire, &[cut, 1, wire.len()], &limits);
                    }
                    check(&wire, &[1], &limits);
                }
            }
        }
    }
}

/// CVE-2021-32675: a million arguments of half a gigabyte each, announced by someone who has not said who they are.
#[test]
fn announcements_before_authentication_are_refused_and_after_it_cost_nothing() {
    let anybody = ParseLimits { authenticated: false, ..ParseLimits::default() };
    let known = ParseLimits::default();
    let (_, end) = receive(b"*1000000\r\n$500000000\r\n", &[1], &anybody);
    assert_eq!(end, End::Error(ProtocolError::UnauthenticatedMultibulkLength));
    let (_, end) = receive(b"*2\r\n$500000000\r\n", &[1], &anybody);
    assert_eq!(end, End::Error(ProtocolError::UnauthenticatedBulkLength));
    // `receive` holds memory against the bytes that came.
    let (commands, end) = receive(b"*1000000\r\n$500000000\r\nabc", &[1], &known);
    assert_eq!((commands.len(), end), (0, End::Within));
    for _ in 0..1000 {
        receive(b"*1048576\r\n$536870912\r\n", &[11, 5], &known);
    }
}
