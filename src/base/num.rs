//! Whole numbers as Redis reads and prints them.
//!
//! Reading is strict, because the answer decides how a value is stored: a text is an integer only if printing that
//! integer gives the same bytes back. So there is no `+`, no space, no leading zero and no `-0`.
//!
//! Absent on purpose: allocation. Printing goes to a buffer the caller owns, or to [`Digits`] on the stack.

use std::ops::Deref;

/// The longest text either printer makes: `-9223372036854775808` and `18446744073709551615` are both twenty bytes.
pub const DIGITS_MAX: usize = 20;

/// Up to this many digits cannot overflow 64 bits, signed or not, so the loop that reads them needs no check.
const DIGITS_SAFE: usize = 18;

/// Two digits for each of 0..=99: half the divisions, and divisions are what printing costs.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Reads a signed integer that is written the way [`push_i64`] writes it; anything else is `None`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', magnitude @ ..] => match parse_u64(magnitude)? {
            0 => None,
            magnitude => 0i64.checked_sub_unsigned(magnitude),
        },
        magnitude => i64::try_from(parse_u64(magnitude)?).ok(),
    }
}

/// Reads an unsigned integer that is written the way [`push_u64`] writes it; anything else is `None`.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [] => return None,
        [b'0', rest @ ..] => return rest.is_empty().then_some(0),
        _ if text.len() > DIGITS_MAX => return None,
        _ => {}
    }
    let (safe, rest) = text.split_at(text.len().min(DIGITS_SAFE));
    let mut value = 0u64;
    for &byte in safe {
        value = value * 10 + decimal_digit(byte)?;
    }
    for &byte in rest {
        value = value.checked_mul(10)?.checked_add(decimal_digit(byte)?)?;
    }
    Some(value)
}

fn decimal_digit(byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// A printed integer on the stack. Dereferences to its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    bytes: [u8; DIGITS_MAX],
    start: u8,
}

impl Digits {
    /// The printed number.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

impl Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Digits {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Prints a signed integer without allocating.
pub fn format_i64(value: i64) -> Digits {
    let mut digits = format_u64(value.unsigned_abs());
    if value < 0 {
        // 19 digits is the longest magnitude of an i64, so one byte in front is always free.
        digits.start -= 1;
        digits.bytes[usize::from(digits.start)] = b'-';
    }
    digits
}

/// Prints an unsigned integer without allocating.
pub fn format_u64(mut value: u64) -> Digits {
    let mut bytes = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    while value >= 100 {
        start -= 2;
        bytes[start..start + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        start -= 2;
        bytes[start..start + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        start -= 1;
        bytes[start] = b'0' + value as u8;
    }
    Digits { bytes, start: start as u8 }
}

/// Appends a signed integer in decimal.
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    // Most integers a server prints are lengths, counts and small counters.
    if (0..10).contains(&value) {
        out.push(b'0' + value as u8);
    } else {
        out.extend_from_slice(&format_i64(value));
    }
}

/// Appends an unsigned integer in decimal.
pub fn push_u64(out: &mut Vec<u8>, value: u64) {
    if value < 10 {
        out.push(b'0' + value as u8);
    } else {
        out.extend_from_slice(&format_u64(value));
    }
}

/// How many bytes [`push_i64`] would append, the sign included: `1..=20`.
pub fn i64_len(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
    digits + usize::from(value < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn only_the_canonical_spelling_of_an_integer_is_one() {
        let accepted: &[(&str, i64)] = &[
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("10", 10),
            ("123456789012345678", 123_456_789_012_345_678),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9223372036854775807", -i64::MAX),
        ];
        for (text, value) in accepted {
            assert_eq!(parse_i64(text.as_bytes()), Some(*value), "{text}");
        }
        let refused = [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1\0",
            "1.0",
            "1e3",
            "0x10",
            "a",
            "1a",
            "--1",
            "٣",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
            "100000000000000000000",
            "-100000000000000000000",
            "12345678901234567x",
            "123456789012345678x",
        ];
        for text in refused {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn unsigned_reading_ends_at_two_to_the_64th() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"28446744073709551615"), None);
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_u64(b"0"), Some(0));
        assert_eq!(parse_u64(b"00"), None);
    }

    #[test]
    fn every_printed_integer_reads_back_and_has_the_stated_length() {
        let mut edges = vec![0, i64::MAX, i64::MIN];
        let mut power = 1i64;
        while let Some(next) = power.checked_mul(10) {
            edges.extend([power - 1, power, power + 1, -power - 1, -power, 1 - power]);
            power = next;
        }
        let seed = 0x0d16;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for _ in 0..100_000 {
            let width = rng.below(64);
            edges.push((rng.next_u64() >> width) as i64);
            edges.push(-((rng.next_u64() >> 1 >> width) as i64));
        }
        for value in edges {
            let mut out = Vec::new();
            push_i64(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
            assert_eq!(&*format_i64(value), out.as_slice());
            assert_eq!(i64_len(value), out.len(), "{value}");
            assert_eq!(parse_i64(&out), Some(value));

            let unsigned = value as u64;
            out.clear();
            push_u64(&mut out, unsigned);
            assert_eq!(out, unsigned.to_string().as_bytes());
            assert_eq!(format_u64(unsigned).as_ref(), out.as_slice());
            assert_eq!(parse_u64(&out), Some(unsigned));
        }
    }
}
