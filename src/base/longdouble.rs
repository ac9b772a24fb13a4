//! The 80-bit extended-precision number of x86, in software: what Redis computes INCRBYFLOAT and HINCRBYFLOAT with.
//!
//! Redis adds `long double`s and stores the decimal text, so a replica, a reload or a later read must see the very
//! digits that x87 hardware gives; a double would differ in the third addition of 0.1. One sign bit, a mantissa of 64
//! bits with its top bit explicit, exponents as in Intel's manual (volume 1, 4.2.2), round to nearest with ties to
//! even, gradual underflow.
//!
//! Reading and printing are exact and correctly rounded for any input, as glibc's `strtold` and `printf` are. Short
//! numbers take a path in 128-bit integers; the rest goes through `bignum`, at a cost bounded by
//! [`TEXT_BYTES_MAX`].
//!
//! Absent on purpose: NaN as an input, multiplication, comparison. No command needs them.

use super::bignum::Natural;
use super::num;
use super::numeral::{self, Binary, Decimal, Magnitude, Numeral};

/// A text must be shorter than this to be read: the size of the buffer Redis reads from (`MAX_LONG_DOUBLE_CHARS`).
pub const TEXT_BYTES_MAX: usize = 5 * 1024;

const PRECISION: u32 = 64;
/// The exponent of the lowest mantissa bit of the smallest numbers; they alone may have an unset top bit.
const EXPONENT_MIN: i64 = -16445;
/// The exponent of the lowest mantissa bit of the largest numbers.
const EXPONENT_MAX: i64 = 16320;

/// How many digits after the point are printed; Redis chose 17 as what surprises people least.
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u64 = 10u64.pow(FRACTION_DIGITS as u32);

/// An extended-precision number.
#[derive(Clone, Copy, Debug)]
pub struct LongDouble {
    negative: bool,
    class: Class,
}

#[derive(Clone, Copy, Debug)]
enum Class {
    /// `mantissa × 2^exponent`. The top bit of the mantissa is set unless the exponent is `EXPONENT_MIN`, which is
    /// also the exponent of zero: so each number has one form.
    Finite {
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
    NotANumber,
}

impl LongDouble {
    /// Reads an argument or a stored value by the rules of `strtold`: the whole text, `inf` and hexadecimal included.
    ///
    /// `None` if it is anything else, begins with white space, is NaN, is too large for the format, is not zero but
    /// rounds to it, is empty, or has [`TEXT_BYTES_MAX`] bytes or more.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let Numeral { negative, magnitude } = numeral::parse(text)?;
        let (number, is_zero) = match magnitude {
            Magnitude::NotANumber => return None,
            Magnitude::Infinite => {
                return Some(LongDouble { negative, class: Class::Infinite });
            }
            Magnitude::Decimal(decimal) => (from_decimal(negative, &decimal)?, decimal.is_zero()),
            Magnitude::Binary(binary) => (LongDouble::nearest(negative, &binary), binary.mantissa == 0),
        };
        let in_range = number.is_finite() && (is_zero || !number.is_zero());
        in_range.then_some(number)
    }

    /// The integer itself: 64 bits of mantissa hold every one.
    pub fn from_i64(value: i64) -> LongDouble {
        let exact = Binary { mantissa: u128::from(value.unsigned_abs()), exponent: 0, inexact: false };
        LongDouble::nearest(value < 0, &exact)
    }

    /// False for the infinities and for NaN (infinity minus infinity), which Redis refuses to store.
    pub fn is_finite(&self) -> bool {
        matches!(self.class, Class::Finite { .. })
    }

    fn is_zero(&self) -> bool {
        matches!(self.class, Class::Finite { mantissa: 0, .. })
    }

    /// The nearest number of the format; infinite if it is too large.
    fn nearest(negative: bool, exact: &Binary) -> LongDouble {
        let (mantissa, exponent) = exact.round(PRECISION, EXPONENT_MIN);
        if mantissa == 0 {
            return LongDouble { negative, class: Class::Finite { mantissa: 0, exponent: EXPONENT_MIN } };
        }
        let shift = i64::from(mantissa.leading_zeros()).min(exponent - EXPONENT_MIN);
        let (mantissa, exponent) = (mantissa << shift, exponent - shift);
        let class = if exponent > EXPONENT_MAX { Class::Infinite } else { Class::Finite { mantissa, exponent } };
        LongDouble { negative, class }
    }

    /// The sum, rounded once, as the hardware does. May be infinite, or NaN for infinities of opposite sign.
    #[expect(clippy::should_implement_trait, reason = "the sum must be checked with is_finite; `+` hides that")]
    pub fn add(self, other: LongDouble) -> LongDouble {
        let ((a_mantissa, a_exponent), (b_mantissa, b_exponent)) = match (self.class, other.class) {
            (Class::Finite { mantissa: a, exponent: ae }, Class::Finite { mantissa: b, exponent: be }) => {
                ((a, ae), (b, be))
            }
            (Class::NotANumber, _) | (_, Class::Finite { .. }) => return self,
            (Class::Finite { .. }, _) | (_, Class::NotANumber) => return other,
            (Class::Infinite, Class::Infinite) if self.negative == other.negative => return self,
            (Class::Infinite, Class::Infinite) => {
                return LongDouble { negative: true, class: Class::NotANumber };
            }
        };
        // The larger magnitude first. Each number has one form, so exponent and mantissa compare in that order.
        let swap = (b_exponent, b_mantissa) > (a_exponent, a_mantissa);
        let (large, large_exponent, large_negative) =
            if swap { (b_mantissa, b_exponent, other.negative) } else { (a_mantissa, a_exponent, self.negative) };
        let (small, small_exponent) = if swap { (a_mantissa, a_exponent) } else { (b_mantissa, b_exponent) };

        // 62 bits of room below the larger mantissa and one above for the carry. A smaller number that reaches below
        // that room is cut off there and its last bit set: the result then has over 100 bits before the cut, so a set
        // bit so far down stands for "a little more" as well as the bits themselves would.
        const ROOM: u32 = 62;
        let distance = large_exponent - small_exponent;
        let large = u128::from(large) << ROOM;
        let small = match u32::try_from(distance) {
            Ok(distance) if distance <= ROOM => u128::from(small) << (ROOM - distance),
            _ => {
                let below = (distance - i64::from(ROOM)).min(127) as u32;
                let kept = u128::from(small) >> below;
                kept | u128::from(kept << below != u128::from(small))
            }
        };
        let sum = if self.negative == other.negative { large + small } else { large - small };
        if sum == 0 {
            // Rounding to nearest, x - x is +0; only -0 + -0 stays negative.
            let negative = self.negative && other.negative;
            return LongDouble { negative, class: Class::Finite { mantissa: 0, exponent: EXPONENT_MIN } };
        }
        let exact = Binary { mantissa: sum, exponent: large_exponent - i64::from(ROOM), inexact: false };
        LongDouble::nearest(large_negative, &exact)
    }

    /// Appends the number as INCRBYFLOAT stores and replies it: never an exponent, at most 17 digits after the point
    /// (correctly rounded), no zeros at the end, no lone point, and no sign on a zero. `inf`, `-inf`, `nan` if it is
    /// not finite. At most 4934 bytes.
    pub fn push_human(&self, out: &mut Vec<u8>) {
        let (mantissa, exponent) = match self.class {
            Class::Finite { mantissa, exponent } => (mantissa, exponent),
            Class::Infinite => {
                return out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            }
            Class::NotANumber => return out.extend_from_slice(b"nan"),
        };
        if exponent >= 0 {
            if self.negative && mantissa != 0 {
                out.push(b'-');
            }
            match exponent {
                0 => num::push_u64(out, mantissa),
                _ => Natural::from_u64(mantissa).shifted_left(exponent as u32).push_decimal(out),
            }
            return;
        }
        // 10^17 is below 2^57, so the number in units of 10^-17 fits 121 bits before the fraction is rounded away.
        let scaled = u128::from(mantissa) * u128::from(FRACTION_SCALE);
        let units = divide_by_power_of_two(scaled, exponent.unsigned_abs());
        if self.negative && units != 0 {
            out.push(b'-');
        }
        let (whole, fraction) = (units / u128::from(FRACTION_SCALE), units % u128::from(FRACTION_SCALE));
        // The exponent is below zero, so the whole part is at most 2^63, reached by rounding up.
        num::push_u64(out, whole as u64);
        if fraction != 0 {
            out.push(b'.');
            let digits = num::format_u64(fraction as u64);
            out.extend(std::iter::repeat_n(b'0', FRACTION_DIGITS - digits.len()));
            let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
            out.extend_from_slice(&digits[..digits.len() - zeros]);
        }
    }
}

/// `value / 2^power` rounded to the nearest integer, a tie to the even one.
fn divide_by_power_of_two(value: u128, power: u64) -> u128 {
    let Some(half) = u32::try_from(power - 1).ok().and_then(|below| 1u128.checked_shl(below)) else {
        return 0;
    };
    let quotient = value / half / 2;
    let rest = value - quotient * half * 2;
    quotient + u128::from(rest > half || (rest == half && quotient % 2 == 1))
}

/// The nearest number of the format; `None` when a look at the digits shows that it is far too large or too small.
fn from_decimal(negative: bool, decimal: &Decimal<'_>) -> Option<LongDouble> {
    let digits = || decimal.integer.iter().chain(decimal.fraction);
    let leading_zeros = digits().take_while(|&&digit| digit == b'0').count();
    let trailing_zeros = digits().rev().take_while(|&&digit| digit == b'0').count();
    let len = decimal.integer.len() + decimal.fraction.len();
    if leading_zeros == len {
        return Some(LongDouble::nearest(negative, &Binary { mantissa: 0, exponent: 0, inexact: false }));
    }
    let significant = || digits().take(len - trailing_zeros).skip(leading_zeros);
    let count = (len - trailing_zeros - leading_zeros) as i64;
    // The value is `significant × 10^power`, and at least 10^(power + count - 1).
    let power = decimal.exponent - decimal.fraction.len() as i64 + trailing_zeros as i64;
    // The largest number is about 1.2e4932, the smallest about 3.6e-4951.
    if !(-4960..=4940).contains(&(power + count)) {
        return None;
    }
    let exact = if count <= 19 && power.abs() <= 27 {
        let integer = significant().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        from_short_decimal(integer, power as i32)
    } else {
        from_long_decimal(Natural::from_decimal(significant()), power as i32)
    };
    Some(LongDouble::nearest(negative, &exact))
}

/// `integer × 10^power` for a power whose `5^|power|` fits 64 bits.
fn from_short_decimal(integer: u64, power: i32) -> Binary {
    let fives = 5u64.pow(power.unsigned_abs());
    if power >= 0 {
        let mantissa = u128::from(integer) * u128::from(fives);
        return Binary { mantissa, exponent: i64::from(power), inexact: false };
    }
    // With the dividend's top bit at 127 and a divisor below 2^63, the quotient has 65 bits or more.
    let shift = integer.leading_zeros() + 64;
    let (dividend, divisor) = (u128::from(integer) << shift, u128::from(fives));
    let exponent = i64::from(power) - i64::from(shift);
    Binary { mantissa: dividend / divisor, exponent, inexact: dividend % divisor != 0 }
}

/// `integer × 10^power` for any integer but zero.
fn from_long_decimal(mut integer: Natural, power: i32) -> Binary {
    if power >= 0 {
        integer.multiply_by_power_of_five(power.unsigned_abs());
        let (mantissa, dropped, inexact) = integer.top_128();
        return Binary { mantissa, exponent: i64::from(power) + i64::from(dropped), inexact };
    }
    let mut divisor = Natural::from_u64(1);
    divisor.multiply_by_power_of_five(power.unsigned_abs());
    let (mantissa, scale, inexact) = integer.quotient_bits(divisor, PRECISION + 2);
    Binary { mantissa, exponent: i64::from(power) - scale, inexact }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// Sign and exponent field, then mantissa, as the ten bytes of the hardware format hold them.
    fn fields(number: LongDouble) -> (u16, u64) {
        let (exponent, mantissa) = match number.class {
            Class::Finite { mantissa, exponent } if mantissa >> 63 == 0 => {
                assert_eq!(exponent, EXPONENT_MIN, "only the smallest numbers have no top bit");
                (0, mantissa)
            }
            Class::Finite { mantissa, exponent } => ((exponent - EXPONENT_MIN + 1) as u16, mantissa),
            Class::Infinite => (0x7fff, 1 << 63),
            Class::NotANumber => (0x7fff, 3 << 62),
        };
        (exponent | u16::from(number.negative) << 15, mantissa)
    }

    fn read(text: &str) -> LongDouble {
        LongDouble::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
    }

    fn printed(number: LongDouble) -> String {
        let mut out = Vec::new();
        number.push_human(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_read_to_the_bits_that_strtold_gives() {
        // From glibc 2.36 on x86-64.
        let rows: &[(&str, u16, u64)] = &[
            ("0", 0x0000, 0),
            ("-0", 0x8000, 0),
            ("0e99999", 0x0000, 0),
            ("1", 0x3fff, 0x8000000000000000),
            ("-1", 0xbfff, 0x8000000000000000),
            ("+.1", 0x3ffb, 0xcccccccccccccccd),
            ("3.0e3", 0x400a, 0xbb80000000000000),
            ("0x1.8p-3", 0x3ffc, 0xc000000000000000),
            ("9999999999999999999", 0x403e, 0x8ac7230489e7ffff),
            // Either side of where 64-bit powers of five end.
            ("1e27", 0x4058, 0xcecb8f27f4200f3a),
            ("1e28", 0x405c, 0x813f3978f8940984),
            ("1e-27", 0x3fa5, 0x9e74d1b791e07e48),
            ("1e-28", 0x3fa1, 0xfd87b5f28300ca0e),
            ("12345678901234567890123456789e-40", 0x3fd7, 0xadbffef492b3a45b),
            // Halfway between two numbers, and the least bit to either side of it.
            ("18446744073709551615", 0x403e, 0xffffffffffffffff),
            ("18446744073709551617", 0x403f, 0x8000000000000000),
            ("36893488147419103233", 0x4040, 0x8000000000000000),
            ("36893488147419103235", 0x4040, 0x8000000000000001),
            ("18446744073709551614.5", 0x403e, 0xfffffffffffffffe),
            ("18446744073709551615.5", 0x403f, 0x8000000000000000),
            ("18446744073709551615.49999999999999999999999", 0x403e, 0xffffffffffffffff),
            ("36893488147419103234", 0x4040, 0x8000000000000000),
            ("36893488147419103234.00000000000000000000000000001", 0x4040, 0x8000000000000001),
            ("36893488147419103238", 0x4040, 0x8000000000000002),
            ("0x1.00000000000000010p0", 0x3fff, 0x8000000000000000),
            ("0x1.00000000000000011p0", 0x3fff, 0x8000000000000001),
            ("0x1.00000000000000030p0", 0x3fff, 0x8000000000000002),
            // The largest numbers.
            ("1e4932", 0x7ffe, 0xd72cb2a95c7ef6cd),
            ("1.189731495357231765e4932", 0x7ffe, 0xffffffffffffffff),
            ("0x1.fffffffffffffffep16383", 0x7ffe, 0xffffffffffffffff),
            ("-inf", 0xffff, 0x8000000000000000),
            ("Infinity", 0x7fff, 0x8000000000000000),
            // The smallest normal ones, and the subnormal ones below.
            ("3.3621031431120935063e-4932", 0x0001, 0x8000000000000000),
            ("3.36210314311209350608e-4932", 0x0000, 0x7fffffffffffffff),
            ("3.36e-4932", 0x0000, 0x7feb808eb42c83a2),
            ("1e-4950", 0x0000, 3),
            ("1.9e-4951", 0x0000, 1),
            ("0x1.8p-16446", 0x0000, 1),
        ];
        for &(text, exponent, mantissa) in rows {
            assert_eq!(fields(read(text)), (exponent, mantissa), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_out_of_range_is_refused() {
        let texts = [
            "",
            " 1",
            "1 ",
            "1\0",
            "abc",
            "1e",
            "0x",
            "nan",
            "-nan(1)",
            "--1",
            "1.19e4932",
            "-1e5000",
            "1e99999999999999999999",
            "0x1.ffffffffffffffffp16383",
            "0x1p16384",
            "1.8e-4951",
            "1e-4960",
            "-1e-99999",
            "0x1p-16446",
            "0x1p-99999",
        ];
        for text in texts {
            assert!(LongDouble::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_text_may_fill_the_buffer_of_redis_but_not_more() {
        let fits = "0".repeat(TEXT_BYTES_MAX - 2) + "7";
        assert_eq!(printed(read(&fits)), "7");
        assert!(LongDouble::parse(("0".to_owned() + &fits).as_bytes()).is_none());
    }

    #[test]
    fn a_carry_deep_in_the_digits_decides_a_tie() {
        // 1 + 2^-64 is halfway between 1 and the next number; its expansion is exact after 64 places.
        let half = "1.0000000000000000000542101086242752217003726400434970855712890625";
        assert_eq!(fields(read(half)), (0x3fff, 1 << 63));
        assert_eq!(fields(read(&(half.to_owned() + &"0".repeat(4000)))), (0x3fff, 1 << 63));
        assert_eq!(fields(read(&(half.to_owned() + &"0".repeat(4000) + "1"))), (0x3fff, (1 << 63) + 1));
    }

    #[test]
    fn sums_print_as_incrbyfloat_replies_them() {
        // INCRBYFLOAT of redis-server 7.0.15.
        let rows: &[(&str, &str, &str)] = &[
            ("0.1", "0.2", "0.3"),
            ("0.3", "0.6", "0.9"),
            ("3.0", "1.1", "4.1"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("1", "-1", "0"),
            ("-0", "-0", "0"),
            ("-2.50", "0.5", "-2"),
            ("100", "-0.01", "99.99"),
            ("9007199254740993", "0.5", "9007199254740993.5"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551614", "0.5", "18446744073709551614"),
            ("18446744073709551615", "0.5", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("1e20", "1", "100000000000000000000"),
            ("1e30", "-1e30", "0"),
            ("1e30", "1e10", "1000000000000000000024696061952"),
            ("123456789.123456789", "0.000000001", "123456789.12345678999554366"),
            ("3.36e-4932", "-3.3e-4932", "0"),
        ];
        for (a, b, sum) in rows {
            assert_eq!(printed(read(a).add(read(b))), *sum, "{a} + {b}");
            assert_eq!(printed(read(b).add(read(a))), *sum, "{b} + {a}");
        }
    }

    #[test]
    fn seventeen_places_are_printed_and_the_rest_rounded_to_even() {
        let rows: &[(&str, &str)] = &[
            ("-1e-18", "0"),
            ("-0.000000000000000005", "0"),
            ("0.000000000000000015", "0.00000000000000002"),
            ("1.00000000000000000762939453125", "1.00000000000000001"),
            ("0.99999999999999999999", "1"),
            ("99999999999999999.99999999999999999", "100000000000000000"),
            // The eighteenth place is an exact half here: 2^-18 ends in …625, 3 × 2^-18 in …875.
            ("0x1p-17", "0.00000762939453125"),
            ("0x1p-18", "0.00000381469726562"),
            ("-0x3p-18", "-0.00001144409179688"),
            ("17179869184.5", "17179869184.5"),
            ("120", "120"),
            ("1e-4950", "0"),
        ];
        for (text, human) in rows {
            assert_eq!(printed(read(text)), *human, "{text}");
        }
    }

    #[test]
    fn the_largest_number_prints_all_its_digits() {
        let text = printed(read("1.189731495357231765e4932"));
        assert_eq!(text.len(), 4933);
        assert!(
            text.starts_with("118973149535723176502126385303") && text.ends_with("04419552086811989770240"),
            "{text}"
        );
        assert_eq!(fields(read(&text)), (0x7ffe, u64::MAX));
        assert_eq!(printed(read("-inf")), "-inf");
    }

    #[test]
    fn sums_past_the_largest_number_are_not_finite() {
        let max = read("0x1.fffffffffffffffep16383");
        assert!(!max.add(max).is_finite());
        assert!(!read("1e4932").add(read("1e4932")).is_finite());
        // Half a unit in the last place rounds up to infinity, a little less does not.
        assert!(!max.add(read("0x1p16319")).is_finite());
        assert!(max.add(read("0x1.fffffffffffffffep16318")).is_finite());
        let infinite = read("inf");
        assert!(!infinite.add(read("-1")).is_finite());
        assert_eq!(printed(read("1").add(infinite)), "inf");
        assert_eq!(printed(infinite.add(read("-inf"))), "nan");
        assert_eq!(printed(infinite.add(read("-inf")).add(read("1"))), "nan");
    }

    #[test]
    fn a_number_far_below_the_last_bit_still_breaks_a_tie() {
        let odd = read("0x1.0000000000000002p64");
        for tiny in ["0x1p0", "0x1p-3", "0x1p-62", "0x1p-63", "0x1p-200", "0x1p-16445"] {
            // A unit in the last place is 2: plus one is a tie and goes to the even neighbour above; a tiny bit less
            // stays, a tiny bit more goes up.
            let tie = odd.add(read("1"));
            assert_eq!(fields(tie).1, 0x8000000000000002);
            assert_eq!(fields(odd.add(read(tiny))).1, if tiny == "0x1p0" { 0x8000000000000002 } else { 1 << 63 | 1 });
        }
        // Just below a power of two the spacing halves: 1 - 2^-65 is a tie, the rest of the row is not.
        let rows = [("-0x1p-64", u64::MAX), ("-0x1p-65", 1 << 63), ("-0x1.8p-65", u64::MAX), ("-0x1p-300", 1 << 63)];
        for (text, mantissa) in rows {
            assert_eq!(fields(read("1").add(read(text))).1, mantissa, "1 {text}");
        }
    }

    #[test]
    fn integers_survive_the_way_through_the_format() {
        let seed = 0x1d;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        let mut values = vec![0, 1, -1, i64::MAX, i64::MIN];
        values.extend((0..2_000).map(|_| (rng.next_u64() as i64) >> rng.below(64)));
        for value in values {
            assert_eq!(printed(LongDouble::from_i64(value)), value.to_string());
            assert_eq!(fields(LongDouble::from_i64(value)), fields(read(&value.to_string())), "{value}");
        }
    }

    #[test]
    fn the_short_and_the_long_way_to_read_agree() {
        let seed = 0x2d;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for _ in 0..20_000 {
            let integer = (rng.next_u64() >> rng.below(60) >> 1).max(1);
            let power = rng.range(-27..=27) as i32;
            let short = LongDouble::nearest(false, &from_short_decimal(integer, power));
            let long = LongDouble::nearest(false, &from_long_decimal(Natural::from_u64(integer), power));
            assert_eq!(fields(short), fields(long), "{integer}e{power}");
        }
    }
}
