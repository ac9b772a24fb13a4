//! Double-precision numbers as Redis reads and prints them: scores, coordinates, RESP3 doubles.
//!
//! Absent on purpose: locale, and NaN as an input. No command of Redis accepts it.

use std::fmt::{self, Write};

use super::num;
use super::numeral::{self, Binary, Magnitude, Numeral};

/// Bits of a double's mantissa, and the exponent of its lowest bit when it is as small as it gets.
const PRECISION: u32 = 53;
const EXPONENT_MIN: i64 = -1074;
/// The largest exponent a mantissa of 53 bits can have before the number is infinite.
const EXPONENT_MAX: i64 = 971;

/// Reads an argument that must be a floating-point number: the whole text, by the rules of C's `strtod`, so
/// hexadecimal (`0x1.8p3`) and `inf` are numbers too.
///
/// `None` if it is anything else, begins with white space, is NaN, is too large for a double, or is not zero but too
/// small to be told from it (`1e-400`). Subnormal numbers are accepted. This is what redis-server 7.0 does for ZADD,
/// ZINCRBY, GEOADD and every other double argument except the bounds of a score range.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    match read(text)? {
        Reading::Exact(value) => Some(value),
        Reading::OutOfRange(_) => None,
    }
}

/// Reads the bound of a score range (ZRANGEBYSCORE, ZCOUNT…; without its `(`), where redis-server 7.0 is laxer: white
/// space in front is skipped, nothing at all is 0, a number too large is infinite, one too small is 0, and the text
/// ends at its first zero byte. NaN is still refused.
pub fn parse_f64_lenient(text: &[u8]) -> Option<f64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    if end == 0 {
        return Some(0.0);
    }
    let start = text[..end].iter().position(|byte| !is_space(byte))?;
    match read(&text[start..end])? {
        Reading::Exact(value) | Reading::OutOfRange(value) => Some(value),
    }
}

/// Reads a weight of SORT as redis-server 7.0 does, with C's `strtod` to the end of the text or its first zero byte: white space
/// in front is skipped and nothing at all is 0. `None` if it is no number, NaN, too large for a double, or so small that it
/// cannot be told exactly.
pub fn parse_f64_weight(text: &[u8]) -> Option<f64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    if end == 0 {
        return Some(0.0);
    }
    let start = text[..end].iter().position(|byte| !is_space(byte))?;
    match read(&text[start..end])? {
        Reading::Exact(value) if !value.is_subnormal() => Some(value),
        Reading::Exact(_) | Reading::OutOfRange(_) => None,
    }
}

enum Reading {
    Exact(f64),
    /// Infinity or zero, for a number that is neither.
    OutOfRange(f64),
}

/// `None` for what is not a number, NaN included.
fn read(text: &[u8]) -> Option<Reading> {
    if let Some(value) = read_small_integer(text) {
        return Some(Reading::Exact(value));
    }
    let Numeral { negative, magnitude } = numeral::parse(text)?;
    let (magnitude, is_zero) = match magnitude {
        Magnitude::NotANumber => return None,
        Magnitude::Infinite => {
            return Some(Reading::Exact(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        // What the grammar let through, the standard library reads as well, and rounds correctly.
        Magnitude::Decimal(decimal) => (str::from_utf8(text).ok()?.parse::<f64>().ok()?.abs(), decimal.is_zero()),
        Magnitude::Binary(binary) => (nearest_f64(&binary), binary.mantissa == 0),
    };
    let value = if negative { -magnitude } else { magnitude };
    let in_range = magnitude.is_finite() && (magnitude != 0.0 || is_zero);
    Some(if in_range { Reading::Exact(value) } else { Reading::OutOfRange(value) })
}

/// Most scores are integers: up to fifteen digits are exact in a double and need no general reader.
fn read_small_integer(text: &[u8]) -> Option<f64> {
    (text.len() <= 15).then(|| num::parse_i64(text)).flatten().map(|value| value as f64)
}

fn nearest_f64(binary: &Binary) -> f64 {
    let (mantissa, exponent) = binary.round(PRECISION, EXPONENT_MIN);
    if mantissa == 0 {
        return 0.0;
    }
    // Up to the top bit, or down to the least exponent, whichever comes first: then the fields are as stored.
    let shift = i64::from(mantissa.leading_zeros() - (64 - PRECISION)).min(exponent - EXPONENT_MIN);
    let (mantissa, exponent) = (mantissa << shift, exponent - shift);
    if exponent > EXPONENT_MAX {
        return f64::INFINITY;
    }
    // A subnormal number has no hidden bit, and the exponent field 0.
    let hidden = 1u64 << (PRECISION - 1);
    let field = if mantissa < hidden { 0 } else { (exponent - EXPONENT_MIN + 1) as u64 };
    f64::from_bits(field << (PRECISION - 1) | (mantissa & (hidden - 1)))
}

/// The longest text [`push_f64_shortest`] appends: a sign, seventeen digits and seven zeros.
pub const F64_LEN_MAX: usize = 25;

/// Appends the shortest text that reads back as the same double, laid out as Redis 7.2 does.
///
/// | value | text |
/// |---|---|
/// | whole, and not past 2^62 either way | plain digits: `1000000000000000000` |
/// | larger, with at most seven zeros to append to its digits | plain digits |
/// | with at most six digits after the point, or below 10^4 and with no more than three zeros after `0.` | a decimal fraction: `0.00012` |
/// | anything else | `1.2345123456789e+4`, `1e-7`, `5e-324`: the exponent has a sign and no leading zero |
/// | no number | `inf` `-inf` `nan`; negative zero is `-0` |
///
/// Redis takes its digits from a Grisu2 printer, which in about one value of a thousand is not the shortest or not
/// the nearest; ours always are, so those few differ in their last digit and still read back the same.
pub fn push_f64_shortest(out: &mut Vec<u8>, value: f64) {
    const WHOLE_MAX: f64 = (1u64 << 62) as f64;
    if value.is_nan() {
        out.extend_from_slice(b"nan");
        return;
    }
    if value.is_sign_negative() && (value == 0.0 || value.is_infinite()) {
        out.push(b'-');
    }
    if value.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if value.abs() <= WHOLE_MAX && value.trunc() == value {
        num::push_i64(out, value as i64);
    } else {
        if value < 0.0 {
            out.push(b'-');
        }
        push_laid_out(out, &Shortest::of(value.abs()));
    }
}

/// The shortest decimal digits of a positive finite number: `d₁.d₂d₃…dₙ × 10^exponent`.
#[derive(Default)]
struct Shortest {
    digits: [u8; 17],
    len: usize,
    exponent: i32,
}

impl Shortest {
    fn of(value: f64) -> Shortest {
        let mut writer = ShortestWriter::default();
        write!(writer, "{value:e}").expect("seventeen digits are enough for every double");
        let Shortest { digits, len, exponent } = writer.number;
        Shortest { digits, len, exponent: if writer.exponent_is_negative { -exponent } else { exponent } }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

/// Takes `1.2345e-67` apart while the standard library writes it, piece by piece.
#[derive(Default)]
struct ShortestWriter {
    number: Shortest,
    in_exponent: bool,
    exponent_is_negative: bool,
}

impl Write for ShortestWriter {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for byte in piece.bytes() {
            match byte {
                b'e' => self.in_exponent = true,
                b'-' => self.exponent_is_negative = true,
                b'0'..=b'9' if self.in_exponent => {
                    self.number.exponent = self.number.exponent * 10 + i32::from(byte - b'0');
                }
                b'0'..=b'9' => {
                    *self.number.digits.get_mut(self.number.len).ok_or(fmt::Error)? = byte;
                    self.number.len += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The layout of Redis 7.2's printer, stated over the same two numbers it looks at: how many digits there are, and
/// the power of ten that the last of them stands for.
fn push_laid_out(out: &mut Vec<u8>, number: &Shortest) {
    let digits = number.digits();
    let first_power = number.exponent;
    let last_power = first_power + 1 - digits.len() as i32;
    if (0..8).contains(&last_power) {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', last_power as usize));
    } else if last_power < 0 && (last_power > -7 || first_power.abs() < 4) {
        if first_power >= 0 {
            let (whole, fraction) = digits.split_at(first_power as usize + 1);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        } else {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', first_power.unsigned_abs() as usize - 1));
            out.extend_from_slice(digits);
        }
    } else {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'e');
        out.push(if first_power < 0 { b'-' } else { b'+' });
        num::push_u64(out, u64::from(first_power.unsigned_abs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn arguments_read_as_redis_reads_them() {
        let rows: &[(&str, Option<f64>)] = &[
            ("1", Some(1.0)),
            ("+1", Some(1.0)),
            ("-7", Some(-7.0)),
            ("007", Some(7.0)),
            ("-0", Some(-0.0)),
            ("3.", Some(3.0)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("9007199254740993", Some(9_007_199_254_740_992.0)),
            ("0.1", Some(0.1)),
            ("inf", Some(f64::INFINITY)),
            ("+INF", Some(f64::INFINITY)),
            ("-infinity", Some(f64::NEG_INFINITY)),
            ("1e308", Some(1e308)),
            ("1e309", None),
            ("-1e400", None),
            ("1e-310", Some(1e-310)),
            ("4e-324", Some(5e-324)),
            ("1e-400", None),
            ("0e-400", Some(0.0)),
            ("0e99999999999999999999", Some(0.0)),
            ("1e99999999999999999999", None),
            ("0x10", Some(16.0)),
            ("0x1.8p3", Some(12.0)),
            ("-0x.8p1", Some(-1.0)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1075", None),
            ("0x1.8p-1075", Some(5e-324)),
            ("0x1p-2000", None),
            ("0x1p1024", None),
            ("0x0p-2000", Some(0.0)),
            ("0x1.fffffffffffffp1023", Some(f64::MAX)),
            ("0x1.fffffffffffff7p1023", Some(f64::MAX)),
            ("0x1.fffffffffffff8p1023", None),
            ("0x20000000000001", Some(9_007_199_254_740_992.0)),
            ("0x20000000000003", Some(9_007_199_254_740_996.0)),
            ("0x200000000000010000000000000000000000000000000000000001p-160", Some(9_007_199_254_740_994.0)),
            ("0x0.0000000000001p-1022", Some(5e-324)),
            ("0x1p-1022", Some(f64::MIN_POSITIVE)),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1\0", None),
            ("abc", None),
            ("nan", None),
            ("nan(1)", None),
            ("1e", None),
            ("0x", None),
        ];
        for (text, value) in rows {
            let read = parse_f64(text.as_bytes());
            assert_eq!(read.map(f64::to_bits), value.map(f64::to_bits), "{text}: {read:?}");
        }
    }

    #[test]
    fn bounds_of_score_ranges_are_read_more_laxly() {
        let rows: &[(&str, Option<f64>)] = &[
            ("", Some(0.0)),
            ("\0abc", Some(0.0)),
            ("5\0abc", Some(5.0)),
            (" \t\n\x0b\x0c\r1", Some(1.0)),
            ("1 ", None),
            (" ", None),
            ("1e400", Some(f64::INFINITY)),
            ("-0x1p5000", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("+inf", Some(f64::INFINITY)),
            ("nan", None),
            ("1e", None),
            ("x", None),
        ];
        for (text, value) in rows {
            assert_eq!(parse_f64_lenient(text.as_bytes()), *value, "{text:?}");
        }
    }

    fn printed(value: f64) -> String {
        let mut out = Vec::new();
        push_f64_shortest(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_print_in_the_layout_of_redis_7_2() {
        let rows: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-42.0, "-42"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (3.0000000000000004, "3.0000000000000004"),
            (1e15, "1000000000000000"),
            (1e18, "1000000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (4611686018427388928.0, "4611686018427389000"),
            (-1e19, "-1e+19"),
            (1.2345678901234567e19, "12345678901234567000"),
            (1.2345678901234e21, "1.2345678901234e+21"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (0.00012, "0.00012"),
            (0.000123456789, "1.23456789e-4"),
            (0.00123456789, "0.00123456789"),
            (0.12345678, "0.12345678"),
            (1234.123456789, "1234.123456789"),
            (12345.123456789, "1.2345123456789e+4"),
            (1234567.123456, "1234567.123456"),
            (1e10 + 0.5, "10000000000.5"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-f64::NAN, "nan"),
        ];
        for (value, text) in rows {
            assert_eq!(printed(*value), *text);
        }
    }

    #[test]
    fn every_printed_double_reads_back_as_itself() {
        let seed = 0xf10a7;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for round in 0..100_000u64 {
            let value = match round % 3 {
                0 => f64::from_bits(rng.next_u64()),
                1 => rng.range(-1_000_000..=1_000_000) as f64 / 1000.0,
                _ => rng.next_u64() as f64 / (1u64 << rng.below(64)) as f64,
            };
            if !value.is_nan() {
                let text = printed(value);
                assert!(text.len() <= F64_LEN_MAX, "{text}");
                assert_eq!(parse_f64(text.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{text}");
            }
        }
    }
}
