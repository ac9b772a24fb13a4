//! The properties of `tests/fuzz/harness.rs` before libFuzzer. How to run it stands in `Cargo.toml` beside this file.
//!
//! The first four bytes of a case choose limits and pieces, the rest is the wire.
#![no_main]

#[path = "../harness.rs"]
mod harness;

use annulus::resp::ParseLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: &[u8]| {
    let Some((&[kind, first, second, third], wire)) = case.split_first_chunk::<4>() else { return };
    let limits = ParseLimits {
        bulk_bytes_max: [512 << 20, 20_000, 5, i64::MAX as u64][usize::from(kind & 3)],
        args_max: if kind & 4 == 0 { 1_048_576 } else { 3 },
        authenticated: kind & 8 == 0,
    };
    let unit = if kind & 16 == 0 { 1 } else { 301 };
    let pieces = [first, second, third].map(|piece| 1 + usize::from(piece) * unit);
    harness::check(wire, &[wire.len()], &limits);
    harness::check(wire, &pieces, &limits);
});
