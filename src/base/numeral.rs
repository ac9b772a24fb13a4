//! The spelling of a floating-point number in C (`strtod` and `strtold` in the C locale, ISO C 7.22.1.3), and rounding
//! to a binary format. What [`super::float`] and [`super::longdouble`] have in common, and nothing else.
//!
//! ```text
//! [+-] ( digits [. digits] | . digits ) [ (e|E) [+-] digits ]
//! [+-] 0(x|X) ( hexits [. hexits] | . hexits ) [ (p|P) [+-] digits ]
//! [+-] ( inf | infinity | nan | nan(letters, digits, _) )             in any case
//! ```
//!
//! C reads the longest prefix that is a number; Redis then insists that nothing is left, so only whole texts count here.

/// Exponents past this are kept at it: far beyond any format's range, and no text is long enough to bring it back.
const EXPONENT_MAX: i64 = 1 << 50;

/// A hexadecimal mantissa keeps this many bits exactly; more than any format here rounds to.
const HEX_BITS_MAX: u32 = 120;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Numeral<'a> {
    pub(super) negative: bool,
    pub(super) magnitude: Magnitude<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Magnitude<'a> {
    NotANumber,
    Infinite,
    Decimal(Decimal<'a>),
    Binary(Binary),
}

/// `integer.fraction × 10^exponent`, the digits as they stand in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decimal<'a> {
    pub(super) integer: &'a [u8],
    pub(super) fraction: &'a [u8],
    pub(super) exponent: i64,
}

impl Decimal<'_> {
    pub(super) fn is_zero(&self) -> bool {
        self.integer.iter().chain(self.fraction).all(|&digit| digit == b'0')
    }
}

/// `mantissa × 2^exponent`, and a little more if `inexact`: then bits below the mantissa were not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Binary {
    pub(super) mantissa: u128,
    pub(super) exponent: i64,
    pub(super) inexact: bool,
}

impl Binary {
    /// The nearest `mantissa × 2^exponent` with at most `precision` bits (64 or fewer) and an exponent of at least
    /// `exponent_min`; a tie goes to the even mantissa. If `inexact`, the mantissa must have more than `precision`
    /// bits, or what lies below it could not be told from a tie.
    pub(super) fn round(&self, precision: u32, exponent_min: i64) -> (u64, i64) {
        let bits = 128 - self.mantissa.leading_zeros();
        debug_assert!(!self.inexact || bits > precision, "a bit below the last kept one decides");
        let drop = i64::from(bits.saturating_sub(precision)).max(exponent_min.saturating_sub(self.exponent));
        if drop <= 0 {
            return (self.mantissa as u64, self.exponent);
        }
        if drop > i64::from(bits) {
            // Less than half of the least number, or nothing to begin with.
            return (0, exponent_min);
        }
        // Now 1..=128, so each shift by one less stays below the width of the type.
        let drop = drop as u32;
        let from_half = self.mantissa >> (drop - 1);
        let below_half = self.inexact || self.mantissa.trailing_zeros() < drop - 1;
        let kept = from_half >> 1;
        let up = from_half & 1 == 1 && (below_half || kept & 1 == 1);
        let kept = kept + u128::from(up);
        let exponent = self.exponent + i64::from(drop);
        match kept >> precision {
            0 => (kept as u64, exponent),
            _ => ((kept >> 1) as u64, exponent + 1),
        }
    }
}

/// Reads the whole text as one number; `None` if it is not one.
pub(super) fn parse(text: &[u8]) -> Option<Numeral<'_>> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = match unsigned {
        [b'0', b'x' | b'X', rest @ ..] => Magnitude::Binary(parse_hexadecimal(rest)?),
        [b'0'..=b'9' | b'.', ..] => Magnitude::Decimal(parse_decimal(unsigned)?),
        _ => parse_word(unsigned)?,
    };
    Some(Numeral { negative, magnitude })
}

fn parse_decimal(text: &[u8]) -> Option<Decimal<'_>> {
    let (integer, fraction, rest) = split_mantissa(text, |byte| byte.is_ascii_digit())?;
    let exponent = parse_exponent(rest, b'e')?;
    Some(Decimal { integer, fraction, exponent })
}

fn parse_hexadecimal(text: &[u8]) -> Option<Binary> {
    let (integer, fraction, rest) = split_mantissa(text, |byte| byte.is_ascii_hexdigit())?;
    let mut number = Binary { mantissa: 0, exponent: parse_exponent(rest, b'p')?, inexact: false };
    number.exponent -= 4 * fraction.len() as i64;
    for &hexit in integer.iter().chain(fraction) {
        let value = (hexit as char).to_digit(16).expect("the mantissa was split at the first byte that is no hexit");
        if number.mantissa >> (HEX_BITS_MAX - 4) == 0 {
            number.mantissa = number.mantissa << 4 | u128::from(value);
        } else {
            number.inexact |= value != 0;
            number.exponent += 4;
        }
    }
    Some(number)
}

/// Splits `digits[.digits]rest`; at least one digit must be there.
fn split_mantissa(text: &[u8], is_digit: impl Fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let split = |text: &'_ [u8]| text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    let (integer, rest) = text.split_at(split(text));
    let (fraction, rest) = match rest {
        [b'.', after @ ..] => after.split_at(split(after)),
        _ => (&rest[..0], rest),
    };
    (!integer.is_empty() || !fraction.is_empty()).then_some((integer, fraction, rest))
}

/// Reads nothing at all as 0, or the marker, an optional sign and digits to the end of the text.
fn parse_exponent(text: &[u8], marker: u8) -> Option<i64> {
    let (negative, digits) = match text {
        [] => return Some(0),
        [byte, b'-', digits @ ..] if byte.eq_ignore_ascii_case(&marker) => (true, digits),
        [byte, b'+', digits @ ..] if byte.eq_ignore_ascii_case(&marker) => (false, digits),
        [byte, digits @ ..] if byte.eq_ignore_ascii_case(&marker) => (false, digits),
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0, |value: i64, digit| (value * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX));
    Some(if negative { -magnitude } else { magnitude })
}

fn parse_word<'a>(text: &[u8]) -> Option<Magnitude<'a>> {
    if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
        return Some(Magnitude::Infinite);
    }
    let (nan, tag) = text.split_at_checked(3)?;
    let tag_is_legal = match tag {
        [] => true,
        [b'(', inside @ .., b')'] => inside.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        _ => false,
    };
    (nan.eq_ignore_ascii_case(b"nan") && tag_is_legal).then_some(Magnitude::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_that_of_c_and_the_whole_text_counts() {
        let numbers = [
            "0",
            "1",
            "+1",
            "-1",
            "01",
            "1.",
            ".5",
            "1.5",
            "1e5",
            "1E+5",
            "1e-05",
            "0x1",
            "0X.8",
            "0x1.",
            "0xAp3",
            "0x1P-3",
            "-0x1p+3",
            "inf",
            "-INF",
            "+Infinity",
            "nan",
            "-NaN",
            "nan()",
            "nan(a_1)",
        ];
        for text in numbers {
            assert!(parse(text.as_bytes()).is_some(), "{text}");
        }
        let others = [
            "",
            "+",
            "-",
            ".",
            "+-1",
            "1 ",
            " 1",
            "1e",
            "1e+",
            "1e5.",
            "1e5e5",
            "e5",
            ".e5",
            "0x",
            "0x.",
            "0xp3",
            "0x1p",
            "0x1p-",
            "0x1e+5",
            "1p5",
            "1x",
            "0b1",
            "1_0",
            "1,5",
            "infi",
            "infinit",
            "infinityx",
            "na",
            "nan(",
            "nan(-)",
            "nanx",
            "1\0",
            "1f",
            "--1",
        ];
        for text in others {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn rounding_is_to_nearest_and_a_tie_goes_to_even() {
        let round = |mantissa, inexact| Binary { mantissa, exponent: 0, inexact }.round(3, -2);
        assert_eq!(round(0b111, false), (0b111, 0));
        assert_eq!(round(0b1001, false), (0b100, 1));
        assert_eq!(round(0b1011, false), (0b110, 1));
        assert_eq!(round(0b1001, true), (0b101, 1));
        assert_eq!(round(0b1111, false), (0b100, 2));
        assert_eq!(round(0, false), (0, 0));
    }

    #[test]
    fn below_the_least_exponent_bits_are_lost_until_nothing_is_left() {
        let round = |mantissa, exponent| Binary { mantissa, exponent, inexact: false }.round(3, -2);
        assert_eq!(round(0b111, -3), (0b100, -2));
        assert_eq!(round(0b100, -4), (0b1, -2));
        assert_eq!(round(0b100, -5), (0, -2));
        assert_eq!(round(0b101, -5), (1, -2));
        assert_eq!(round(0b111, -6), (0, -2));
        assert_eq!(round(u128::MAX, -130), (1, -2));
        assert_eq!(round(u128::MAX, -131), (0, -2));
        assert_eq!(round(1, -EXPONENT_MAX), (0, -2));
    }
}
