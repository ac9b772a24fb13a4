//! Hostile bytes for the reader of RDB files: real files, changed.
//!
//! Seeds are files of many servers (`tests/persistence/samples`) and files made of values in every form that older and later servers
//! write. Each case takes one, changes some bytes where it hurts, and holds [`check`]. `ANNULUS_FUZZ_SECONDS` sets for how long (2 unless
//! said otherwise), `ANNULUS_FUZZ_SEED` where to begin; a failure prints the seed of its case, and the same seed gives the same case.

mod forms;
mod values;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use annulus::base::DbIndex;
use annulus::base::rng::Rng;
use annulus::base::time::Millis;
use annulus::keyspace::Value;
use annulus::persist::rdb::file::{Damage, Reason};
use annulus::persist::rdb::file_reader::Step;
use annulus::persist::rdb::file_writer::{self, BodyWriter, KeyFacts};
use annulus::persist::rdb::{DecodeError, Decoded, FileReader, Limits, Sum};
use forms::{foreign, mutate};
use values::{content_of, length, limits, string};

/// What came out of a file: a line for each record, and how it ended.
#[derive(PartialEq)]
struct Seen {
    lines: Vec<String>,
    damage: Option<Damage>,
    /// Up to where whole records reached.
    offset: u64,
}

/// How a file is read.
#[derive(Clone, Copy)]
struct How {
    verify: bool,
    skip_modules: bool,
}

/// Reads a file in pieces by turns of `pieces`. What holds for every step is held here: places only go forward, nothing that was not
/// fed is read, values keep the rules of their types (`content_of`), damage stays.
fn read(file: &[u8], pieces: &[usize], limits: Limits, how: How) -> Seen {
    let mut reader = FileReader::new(limits, how.verify);
    if how.skip_modules {
        reader = reader.skipping_modules();
    }
    let mut turns = pieces.iter().cycle();
    let (mut fed, mut before, mut ended) = (0, 0, false);
    let mut lines = Vec::new();
    loop {
        let line = match reader.next() {
            Ok(Step::NeedMore) => {
                assert!(!ended, "nothing more was there");
                let piece = &file[fed..file.len().min(fed + turns.next().expect("some pieces"))];
                fed += piece.len();
                if piece.is_empty() {
                    reader.end_of_input();
                    ended = true;
                } else {
                    reader.feed(piece);
                }
                continue;
            }
            Ok(Step::End(checksum)) => {
                lines.push(format!("{checksum:?}"));
                assert!(matches!(reader.next(), Ok(Step::End(again)) if again == checksum));
                let offset = reader.offset();
                assert_eq!(reader.rest(), &file[offset as usize..fed], "what follows is left alone");
                return Seen { lines, damage: None, offset };
            }
            Ok(Step::Entry(entry)) => {
                assert_eq!(entry.offset, before, "a record begins where the last one ended");
                let (key, expires) = (entry.key.escape_ascii(), entry.expires);
                let content = content_of(&entry.value);
                format!("{} {key} {expires:?} {:?} {} {content:?}", entry.db.0, entry.used, entry.type_byte)
            }
            Ok(step) => format!("{step:?}"),
            Err(damage) => {
                assert_eq!(reader.next().map(|_| ()), Err(damage), "damage stays");
                let whole = damage.record <= damage.offset && damage.offset <= file.len() as u64;
                assert!(whole && damage.record >= before, "{damage:?} after {before}");
                assert!(!damage.to_string().is_empty());
                return Seen { lines, damage: Some(damage), offset: damage.record };
            }
        };
        lines.push(line);
        assert!(reader.offset() > before && reader.offset() <= fed as u64, "{} after {before}", reader.offset());
        before = reader.offset();
    }
}

/// What must hold for any bytes: the pieces do not matter; what comes before damage can be kept, that is, reads alike when the file ends
/// there; and keys that were read can be written and read again.
fn check(file: &[u8], rng: &mut Rng, limits: Limits) -> Option<Reason> {
    let how = How { verify: rng.chance(1, 2), skip_modules: rng.chance(1, 2) };
    let whole = read(file, &[file.len().max(1)], limits, how);
    let pieces: Vec<usize> = (0..5).map(|_| 1 + rng.below(*rng.clone().pick(&[3, 50, 3000])) as usize).collect();
    let again = read(file, &pieces, limits, how);
    assert!(again.lines == whole.lines, "the same records in pieces of {pieces:?}");
    assert_eq!((again.damage, again.offset), (whole.damage, whole.offset), "in pieces of {pieces:?}");
    if let Some(damage) = whole.damage {
        let kept = read(&file[..damage.record as usize], &[1000], limits, how);
        assert!(kept.lines == whole.lines, "what is before the damage can be kept");
        let end = Damage::at(damage.record, Reason::EndsEarly);
        // At a wrong checksum all records were read, and its own was not counted as one.
        let at_checksum = matches!(damage.reason, Reason::Checksum { .. });
        assert!(kept.damage == Some(end) || at_checksum, "{:?} and not {end:?}", kept.damage);
    }
    write_again(file, limits);
    whole.damage.map(|damage| damage.reason)
}

fn write_again(file: &[u8], limits: Limits) {
    let mut reader = FileReader::new(limits, false).skipping_modules();
    reader.feed(file);
    reader.end_of_input();
    let mut part = BodyWriter::new(true);
    let mut keys = Vec::new();
    while let Ok(step) = reader.next() {
        match step {
            Step::Entry(entry) => {
                let value = match &entry.value {
                    Decoded::String(text) => Value::Inline { bytes: text, raw: true },
                    Decoded::Object(object) => Value::Object(object),
                };
                let facts = KeyFacts { expires: entry.expires, used: entry.used };
                // Before time began, so that no field has expired.
                assert!(part.key(entry.db, &entry.key, value, facts, Millis(i64::MIN)));
                keys.push((entry.db, entry.key.into_owned(), entry.expires, entry.used, content_of(&entry.value)));
            }
            Step::End(_) => break,
            _ => {}
        }
    }
    let version = file_writer::version(part.version_min());
    let mut written = [&version[..], &part.take()].concat();
    written.extend(file_writer::end(Sum::of(&version).then(part.sum()), true));
    let mut reader = FileReader::new(limits, true);
    reader.feed(&written);
    reader.end_of_input();
    let mut keys = keys.into_iter();
    loop {
        match reader.next().expect("what was written is read") {
            Step::Entry(entry) => {
                let back = (entry.db, entry.key.into_owned(), entry.expires, entry.used, content_of(&entry.value));
                assert!(Some(back) == keys.next(), "what was written reads back");
            }
            Step::End(_) => break,
            _ => {}
        }
    }
    assert!(keys.next().is_none(), "all of it");
}

/// The committed files, without those that are long and tell no more.
fn samples() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/persistence/samples");
    let entries =
        std::fs::read_dir(&folder).expect("the samples are there").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "rdb")).collect();
    paths.sort();
    let all = paths.iter().map(|path| std::fs::read(path).expect("it can be read"));
    let short: Vec<Vec<u8>> = all.filter(|file| file.len() < 3000).collect();
    assert!(short.len() > 20, "{}", short.len());
    short
}

/// A file of records of every kind and of values in every form, right to its end.
fn made(rng: &mut Rng) -> Vec<u8> {
    let valkey = rng.chance(1, 8);
    let mut file = match valkey {
        true => b"VALKEY080".to_vec(),
        false => format!("REDIS{:04}", 1 + rng.below(14)).into_bytes(),
    };
    let has_checksum = valkey || file[7..9] >= b"05"[..];
    for n in 0..rng.below(12) {
        match rng.below(16) {
            0 => file.extend([b"\xfa", &string(b"name")[..], &string(b"value")].concat()),
            1 => file.extend([b"\xfe", &length(rng.below(100) as usize)[..]].concat()),
            2 => file.extend([b"\xfb", &length(rng.below(1 << 20) as usize)[..], &length(7)].concat()),
            3 => file.extend([b"\xf5", &string(b"#!lua name=l")[..]].concat()),
            4 => file.extend(b"\xf4\x05\x40\x99\x01"),
            5 => file.extend(b"\xf7\x81abcdefgh\x02\x02\x05\x02ab\x03ffff\x04dddddddd\x01\x07\x02\x40\x99\0"),
            6 => file.extend(
                [&b"\x07"[..], &string(format!("m{n}").as_bytes()), b"\x81abcdefgh\x05\x01x\x02\x07\0"].concat(),
            ),
            _ => {
                if rng.chance(1, 4) {
                    file.extend([&b"\xfc"[..], &(rng.next_u64() as i64).to_le_bytes()].concat());
                } else if rng.chance(1, 8) {
                    file.extend([&b"\xfd"[..], &(rng.next_u64() as i32).to_le_bytes()].concat());
                }
                match rng.below(6) {
                    0 => file.extend([b"\xf8", &length(rng.below(1 << 30) as usize)[..]].concat()),
                    1 => file.extend([0xf9, rng.below(256) as u8]),
                    _ => {}
                }
                let mut value = foreign(rng);
                if valkey && value[0] >= 22 {
                    value = b"\x16\x01\x01f\x01v\x40\x42\x0f\0\0\0\0\0".to_vec();
                }
                file.extend([&value[..1], &string(format!("key {n}").as_bytes()), &value[1..]].concat());
            }
        }
    }
    file.push(0xff);
    if has_checksum {
        let sum = Sum::of(&file).crc64();
        file.extend(sum.to_le_bytes());
    }
    if rng.chance(1, 4) {
        file.extend(b"*1\r\n$4\r\nPING\r\n");
    }
    file
}

/// Knows how much a thread has allocated: an announced length must not cost what it announces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A compressed string may become 88 times as long as it is; it is copied some times until it is a value, and the checks read the file
/// four times, once in small pieces, and show what they find.
fn check_with_memory(file: &[u8], rng: &mut Rng, limits: Limits) -> Option<Reason> {
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().expect("the allocator counts");
    let before = allocated.get();
    let reason = check(file, rng, limits);
    let most = allocated.get() - before;
    assert!(most < 5_000_000 + file.len() as u64 * 88 * 500, "{most} bytes allocated for {}", file.len());
    reason
}

fn one_case(seed: u64, samples: &[Vec<u8>], limits: Limits) -> Option<Reason> {
    let mut rng = Rng::seed(seed);
    let mut file = if rng.chance(1, 2) { rng.pick(samples).clone() } else { made(&mut rng) };
    // A damaged version hides all else.
    let version = if rng.chance(1, 10) { 0 } else { file.len().min(9) };
    let mut records = file.split_off(version);
    for _ in 0..1 + rng.below(3) {
        mutate(&mut rng, &mut records);
    }
    file.extend(records);
    check_with_memory(&file, &mut rng, limits)
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

/// Without the numbers that differ from case to case.
fn kind(reason: Option<Reason>) -> String {
    match reason {
        None => "read to the end".to_owned(),
        Some(Reason::Bytes(DecodeError::UnknownType(_))) => "unknown type".to_owned(),
        Some(Reason::Bytes(error)) => error.to_string(),
        Some(other) => format!("{other:?}").split(['(', ' ', '{']).next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn changed_files_are_read_up_to_their_damage() {
    let first = setting("ANNULUS_FUZZ_SEED", 1);
    let budget = Duration::from_secs(setting("ANNULUS_FUZZ_SECONDS", 2));
    let (samples, limits) = (samples(), limits());
    let started = Instant::now();
    let mut cases = 0;
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    while started.elapsed() < budget || cases == 0 {
        for _ in 0..16 {
            let seed = first.wrapping_add(cases);
            match catch_unwind(AssertUnwindSafe(|| one_case(seed, &samples, limits))) {
                Ok(reason) => *ends.entry(kind(reason)).or_default() += 1,
                Err(panic) => {
                    eprintln!("failed at ANNULUS_FUZZ_SEED={seed}");
                    resume_unwind(panic);
                }
            }
            cases += 1;
        }
    }
    println!("{cases} cases from seed {first}: {ends:#?}");
}

#[test]
fn files_that_were_not_changed_are_read_to_the_end() {
    for seed in 0..500 {
        let mut rng = Rng::seed(seed);
        let file = made(&mut rng);
        let how = How { verify: true, skip_modules: true };
        let seen = read(&file, &[1 + rng.below(200) as usize], limits(), how);
        assert_eq!(seen.damage, None, "seed {seed}");
        assert_eq!(
            check_with_memory(&file, &mut rng, limits()).filter(|reason| !matches!(reason, Reason::Module(_))),
            None
        );
    }
}

#[test]
fn the_mutations_reach_most_reasons() {
    let samples = samples();
    let ends: std::collections::BTreeSet<String> =
        (0..1500).map(|seed| kind(one_case(seed, &samples, limits()))).collect();
    for wanted in ["read to the end", "NotRdb", "EndsEarly", "Module", "Checksum"] {
        assert!(ends.contains(wanted), "{wanted} is not among {ends:#?}");
    }
    assert!(ends.len() >= 20, "{ends:#?}");
}

#[test]
fn a_database_is_a_number_of_sixteen_bits() {
    let file = b"REDIS0011\xfe\x80\0\0\xff\xff\x00\x01k\x01v\xfe\x80\0\x01\0\0";
    let seen = read(file, &[100], limits(), How { verify: true, skip_modules: false });
    assert_eq!(seen.lines[1], format!("{:?}", Step::SelectDb(DbIndex(65_535))));
    assert_eq!(seen.damage.map(|damage| damage.reason), Some(Reason::Database(65_536)));
}
