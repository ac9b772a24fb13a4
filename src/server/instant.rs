//! Points in time as operators write and read them: Unix seconds, Unix milliseconds, or RFC 3339.
//!
//! ```text
//!   1700000000      1700000000123      2023-11-14T22:13:20Z      2023-11-15T00:13:20.123+02:00
//! ```
//!
//! A number of eleven digits or fewer is seconds: as milliseconds it would be before 1973. Used by the subcommands, offline. Absent on
//! purpose: local time; an offset has to be said.

use crate::base::num::parse_u64;

/// From this number on a number is milliseconds.
const MILLIS_MIN: u64 = 100_000_000_000;

/// Milliseconds since 1970, if the text is a point in time since then.
pub(super) fn parse(text: &str) -> Option<u64> {
    match parse_u64(text.as_bytes()) {
        Some(number) if number < MILLIS_MIN => Some(number * 1000),
        Some(number) => Some(number),
        None => u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok(),
    }
}

/// The same in RFC 3339 and UTC; the number itself if it is beyond the year 9999.
pub(super) fn print(unix_ms: u64) -> String {
    let timestamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| format!("{unix_ms} ms"), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        for (text, unix_ms) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("99999999999", 99_999_999_999_000),
            ("1700000000123", 1_700_000_000_123),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-15T00:13:20.123+02:00", 1_700_000_000_123),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(parse(text), Some(unix_ms), "{text}");
        }
        for text in ["", "now", "-5", "1.5", "2023-11-14", "2023-11-14T22:13:20", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        assert_eq!(print(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse(&print(1_700_000_000_000)), Some(1_700_000_000_000));
        assert_eq!(print(u64::MAX), "18446744073709551615 ms");
    }
}
