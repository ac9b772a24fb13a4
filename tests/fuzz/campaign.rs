//! A fuzz target's main loop: cases by their seeds, for as long as `ANNULUS_FUZZ_SECONDS` says (2 unless said otherwise), from
//! `ANNULUS_FUZZ_SEED` on. A failure prints the seed of its case, and the same seed gives the same case.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use annulus::base::rng::Rng;

/// Runs cases and counts their outcomes.
pub fn run(mut case: impl FnMut(&mut Rng) -> String) -> BTreeMap<String, u64> {
    let first = setting("ANNULUS_FUZZ_SEED", 1);
    let budget = Duration::from_secs(setting("ANNULUS_FUZZ_SECONDS", 2));
    let started = Instant::now();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut cases = 0;
    while started.elapsed() < budget || cases == 0 {
        for _ in 0..64 {
            let seed = first.wrapping_add(cases);
            match catch_unwind(AssertUnwindSafe(|| case(&mut Rng::seed(seed)))) {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(panic) => {
                    eprintln!("failed at ANNULUS_FUZZ_SEED={seed}");
                    resume_unwind(panic);
                }
            }
            cases += 1;
        }
    }
    println!("{cases} cases from seed {first}: {outcomes:#?}");
    outcomes
}

/// Changes a few bytes where it hurts.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, interesting: &[u8]) {
    for _ in 0..rng.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.below(bytes.len() as u64) as usize;
        let some = (1 + rng.below(12) as usize).min(bytes.len() - at);
        match rng.below(8) {
            0 | 1 => bytes[at] = *rng.pick(interesting),
            2 => bytes[at] ^= 1 << rng.below(8),
            3 => bytes.insert(at, *rng.pick(interesting)),
            4 => drop(bytes.drain(at..at + some)),
            5 => {
                let copy = bytes[at..at + some].to_vec();
                let to = rng.below(bytes.len() as u64) as usize;
                bytes.splice(to..to, copy);
            }
            6 => bytes.truncate(at),
            _ => bytes[at..at + some].fill(0),
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}
