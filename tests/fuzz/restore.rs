//! Hostile bytes for the reader of RDB values, which RESTORE hands to it: real payloads, changed.
//!
//! Seeds are payloads of redis-server 7.0 (`restore_samples.txt`) and values in every form that older and later servers write. Each
//! case takes one, changes some bytes where it hurts, and holds `values::check`. `ANNULUS_FUZZ_SECONDS` sets for how long (2 unless
//! said otherwise), `ANNULUS_FUZZ_SEED` where to begin; a failure prints the seed of its case, and the same seed gives the same case.

mod forms;
mod values;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use annulus::base::rng::Rng;
use annulus::persist::rdb::{DecodeError, Limits};
use forms::{foreign, mutate};
use values::{check, length, limits, listpack, payload, stream, string, ziplist, zipmap};

/// The bodies of the committed payloads, by name.
fn samples() -> Vec<(String, Vec<u8>)> {
    let lines = include_str!("restore_samples.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and bytes");
            let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).expect("hexadecimal") as u8).collect();
            let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
            let body = bytes[..bytes.len() - 10].to_vec();
            assert_eq!(payload(&body), bytes, "{name} has version 10 and its checksum");
            (name.to_owned(), body)
        })
        .collect()
}

/// Knows how much a thread has allocated: an announced length must not cost what it announces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Reads one value and holds what was allocated for it, all in all, against its bytes: a compressed string may become 88 times as
/// long, it is copied some times until it is a value, and the checks copy it some times more.
fn check_with_memory(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().expect("the allocator counts");
    let before = allocated.get();
    let checked = check(bytes, limits).map(|_| ());
    let most = allocated.get() - before;
    assert!(most < 1_000_000 + bytes.len() as u64 * 88 * 100, "{most} bytes allocated for {}", bytes.len());
    checked
}

fn one_case(seed: u64, samples: &[(String, Vec<u8>)], limits: &Limits) -> Result<(), DecodeError> {
    let mut rng = Rng::seed(seed);
    let mut bytes = if rng.chance(1, 2) { rng.pick(samples).1.clone() } else { foreign(&mut rng) };
    if bytes.len() > 2000 && !rng.chance(1, 20) {
        bytes.truncate(2000);
    }
    for _ in 0..1 + rng.below(3) {
        mutate(&mut rng, &mut bytes);
    }
    check_with_memory(&bytes, limits)
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

#[test]
fn changed_values_are_refused_or_are_values() {
    let first = setting("ANNULUS_FUZZ_SEED", 1);
    let budget = Duration::from_secs(setting("ANNULUS_FUZZ_SECONDS", 2));
    let (samples, limits) = (samples(), limits());
    // Low ones too, so that short values leave their packed forms.
    let mut low = limits;
    (low.hash.listpack_entries, low.zset.listpack_entries, low.set.listpack_entries, low.set.intset_entries) =
        (3, 3, 3, 3);
    (low.list.node_size, low.list.compress_depth) = (2, 1);
    let started = Instant::now();
    let (mut cases, mut values) = (0, 0u64);
    let mut refusals: BTreeMap<String, u64> = BTreeMap::new();
    while started.elapsed() < budget || cases == 0 {
        for _ in 0..64 {
            let seed = first.wrapping_add(cases);
            let limits = if seed % 2 == 0 { &limits } else { &low };
            match catch_unwind(AssertUnwindSafe(|| one_case(seed, &samples, limits))) {
                Ok(Ok(())) => values += 1,
                Ok(Err(reason)) => {
                    let reason = if let DecodeError::UnknownType(_) = reason {
                        "unknown type".to_owned()
                    } else {
                        reason.to_string()
                    };
                    *refusals.entry(reason).or_default() += 1;
                }
                Err(panic) => {
                    eprintln!("failed at ANNULUS_FUZZ_SEED={seed}");
                    resume_unwind(panic);
                }
            }
            cases += 1;
        }
    }
    println!("{cases} cases from seed {first}: {values} values, and refused: {refusals:#?}");
}

#[test]
fn every_sample_and_every_form_is_read() {
    let limits = limits();
    for (name, body) in samples() {
        let (kind, content) = check(&body, &limits).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(name.starts_with(kind) || name == "hyperloglog", "{name} is a {kind}");
        assert!(!content.is_empty(), "{name}");
    }
    let mut seen = [0u32; 28];
    for seed in 0..2000 {
        let body = foreign(&mut Rng::seed(seed));
        seen[usize::from(body[0])] += 1;
        check_with_memory(&body, &limits).unwrap_or_else(|error| panic!("type {} of seed {seed}: {error}", body[0]));
    }
    assert_eq!(seen.iter().filter(|count| **count > 0).count(), 22, "all forms were made: {seen:?}");
}

#[test]
fn the_forms_of_one_value_have_one_content() {
    let limits = limits();
    let words =
        [&b"f"[..], b"12", b"g", b"-70000", b"h", b"9223372036854775807", b"long", &[b'v'; 300]].map(<[u8]>::to_vec);
    let each: Vec<u8> = words.iter().flat_map(|word| string(word)).collect();
    let hashes = [
        [&[4][..], &length(4), &each].concat(),
        [&[9][..], &string(&zipmap(&words, 2))].concat(),
        [&[13][..], &string(&ziplist(&words))].concat(),
        [&[16][..], &string(&listpack(&words))].concat(),
    ];
    let lists = [
        [&[1][..], &length(8), &each].concat(),
        [&[10][..], &string(&ziplist(&words))].concat(),
        [&[14][..], &length(2), &string(&ziplist(&words[..3])), &string(&ziplist(&words[3..]))].concat(),
        [&[18][..], &length(2), &length(2), &string(&listpack(&words[..7])), &length(1), &string(&words[7])].concat(),
    ];
    let sets = [[&[2][..], &length(8), &each].concat(), [&[20][..], &string(&listpack(&words))].concat()];
    for forms in [&hashes[..], &lists, &sets] {
        let contents: Vec<_> = forms.iter().map(|form| check(form, &limits).expect("a value")).collect();
        assert!(contents.iter().all(|content| *content == contents[0]), "{contents:?}");
    }
    let pair = [b"m".to_vec(), b"1.5".to_vec()];
    let score = 1.5f64.to_le_bytes();
    let zsets = [
        [&[3][..], &length(1), &string(b"m"), b"\x031.5"].concat(),
        [&[5][..], &length(1), &string(b"m"), &score].concat(),
        [&[12][..], &string(&ziplist(&pair))].concat(),
        [&[17][..], &string(&listpack(&pair))].concat(),
    ];
    for form in zsets {
        assert_eq!(check(&form, &limits), Ok(("zset", vec![b"1.5".to_vec(), b"m".to_vec()])));
    }
    let triple = [&b"f"[..], b"v", b"1900000000000", b"g", b"w", b"0"].map(<[u8]>::to_vec);
    let (due, least) = (1_900_000_000_000usize, 1_900_000_000_000i64.to_le_bytes());
    let timed = [
        [&[22][..], &length(2), &length(due), &string(b"f"), &string(b"v"), &length(0), &string(b"g"), &string(b"w")]
            .concat(),
        [&[23][..], &string(&listpack(&triple))].concat(),
        [
            &[24][..],
            &least,
            &length(2),
            &length(1),
            &string(b"f"),
            &string(b"v"),
            &length(0),
            &string(b"g"),
            &string(b"w"),
        ]
        .concat(),
        [&[25][..], &least, &string(&listpack(&triple))].concat(),
    ];
    for form in timed {
        assert_eq!(check(&form, &limits), Ok(("hash", triple.to_vec())));
    }
}

#[test]
fn a_stream_has_one_content_in_its_five_forms() {
    let limits = limits();
    let [old, new, newest, later, last] =
        [15, 19, 21, 26, 27].map(|type_byte| check(&stream(type_byte), &limits).expect("a stream"));
    assert_eq!(old, new, "what the old form does not count is made up as Redis does");
    assert_eq!((&newest, &later, &last), (&new, &new, &new));
    let shown: Vec<String> = new.1.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    assert_eq!(shown[..7], ["8-2 5-1 0-0 2", "5-1", "name", "v", "8-2", "name", "w"]);
    assert_eq!(shown[7..9], ["g", "5-1 Some(1)"]);
    assert_eq!(shown[9..], ["alice", "1700000000000", "5-1 1700000000000 3", "robot", "1700000000000"]);
}

#[test]
fn a_stream_with_entries_that_are_nobodys_is_refused() {
    let mut body = stream(27);
    let zone = body.len() - b"\0\x40\x64\x40\x64\x01\x01p\x01\x02n1\x08\x02\x01\x01".len();
    assert_eq!(body[zone], 0);
    body.splice(zone..=zone, *b"\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01");
    let refused = DecodeError::Corrupt("a stream has pending entries that are nobody's (XNACK)");
    assert_eq!(check(&body, &limits()), Err(refused));
}

/// Counts in the head of a block that are not those of its entries, and counters that do not fit.
#[test]
fn a_stream_whose_counts_lie_is_refused() {
    let limits = limits();
    let good = stream(19);
    let bad = DecodeError::Corrupt("a stream contradicts itself");
    let head = good.windows(7).position(|bytes| bytes == b"\x02\x01\0\x01\x01\x01\x84").expect("the head of the block");
    let counters = good.windows(8).position(|bytes| bytes == b"\x02\x08\x02\x05\x01\0\0\x02").expect("the counters");
    for (at, byte) in [
        (head, 1),
        (head, 3),
        (head + 2, 1),
        (head + 4, 2),
        (head + 4, 0),
        (counters, 1),
        (counters, 3),
        (counters + 1, 7),
        (counters + 7, 1),
    ] {
        let mut lying = good.clone();
        lying[at] = byte;
        assert_eq!(check(&lying, &limits), Err(bad), "byte {at} as {byte}");
    }
}

#[test]
fn the_mutations_leave_values_and_reach_most_refusals() {
    let (samples, limits) = (samples(), limits());
    let (mut values, mut reasons) = (0, std::collections::BTreeSet::new());
    for seed in 0..6000 {
        match one_case(seed, &samples, &limits) {
            Ok(()) => values += 1,
            Err(reason) => drop(reasons.insert(reason.to_string())),
        }
    }
    assert!(values > 500, "{values}");
    assert!(reasons.len() >= 18, "{reasons:#?}");
}
