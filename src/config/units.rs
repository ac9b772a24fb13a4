//! The spellings of numbers that only redis.conf has: loose integers inside lists, file modes in octal.
//!
//! Strict integers are `base::num`, amounts of memory are `base::size`. A number that does not fit is refused, never
//! wrapped or clamped as in C: a limit that silently becomes another one is worse than an error.

/// An integer as C's `strtoll` reads it, which Redis uses inside lists (`save`, `oom-score-adj-values`): blanks in
/// front, a `+` and leading zeros are fine, an empty text is zero.
pub(super) fn loose_integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    if text.is_empty() { Some(0) } else { text.parse().ok() }
}

/// A file mode such as `700` or `0700`.
pub(super) fn octal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_inside_a_list_may_be_written_loosely() {
        for (text, number) in [("", 0), ("+1", 1), ("\t7", 7), ("007", 7), ("-3", -3)] {
            assert_eq!(loose_integer(text.as_bytes()), Some(number), "{text}");
        }
        for text in ["1x", "x", "99999999999999999999", "1 "] {
            assert_eq!(loose_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal(b"0700"), Some(0o700));
        for text in ["", "8", "-1", "7x", "+7", "77777777777777"] {
            assert_eq!(octal(text.as_bytes()), None, "{text}");
        }
    }
}
