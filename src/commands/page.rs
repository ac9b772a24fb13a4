//! What a page of a scan is asked for with: the cursor and the options that SCAN, SSCAN, HSCAN and ZSCAN share.
//!
//! Pure functions over arguments. Absent on purpose: the walks themselves.

use crate::base::glob;
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError};

/// The options of one call.
pub struct Page<'a> {
    /// MATCH; none if everything matches.
    pub pattern: Option<&'a [u8]>,
    /// COUNT: how many elements are to be looked at, at least 1.
    pub count: usize,
    /// TYPE, of SCAN.
    pub type_name: Option<&'a [u8]>,
    /// NOVALUES, of HSCAN.
    pub no_values: bool,
}

impl<'a> Page<'a> {
    /// Reads the options from argument `at` on. TYPE is SCAN's alone; NOVALUES is taken where TYPE is not, and the handlers of
    /// other scans refuse it.
    ///
    /// # Errors
    /// In Redis's words.
    pub fn parse(args: Args<'a>, mut at: usize, of_keys: bool) -> Result<Page<'a>, CommandError> {
        let mut page = Page { pattern: None, count: 10, type_name: None, no_values: false };
        while at < args.len() {
            let word = args.get(at);
            if !of_keys && word.eq_ignore_ascii_case(b"novalues") {
                page.no_values = true;
                at += 1;
                continue;
            }
            if at + 1 == args.len() {
                return Err(CommandError::Syntax);
            }
            let argument = args.get(at + 1);
            if word.eq_ignore_ascii_case(b"count") {
                let count = parse_i64(argument).ok_or(CommandError::NotAnInteger)?;
                if count < 1 {
                    return Err(CommandError::Syntax);
                }
                page.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if word.eq_ignore_ascii_case(b"match") {
                page.pattern = Some(argument).filter(|pattern| *pattern != b"*");
            } else if of_keys && word.eq_ignore_ascii_case(b"type") {
                page.type_name = Some(argument);
            } else {
                return Err(CommandError::Syntax);
            }
            at += 2;
        }
        Ok(page)
    }

    /// Whether a name belongs on the page.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, false))
    }
}

/// Reads a cursor as C's `strtoul` does, except for white space: an optional sign, then digits to the end or the first NUL, and
/// nothing at all is 0.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let (negative, digits) = match &text[..end] {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_redis_reads_them() {
        for (text, cursor) in [
            ("", 0),
            ("0", 0),
            ("+7", 7),
            ("-1", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("007", 7),
            ("1\0x", 1),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), Some(cursor), "{text:?}");
        }
        for text in ["abc", " 0", "0 ", "1x", "-", "+", "18446744073709551616", "1.5"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }
}
