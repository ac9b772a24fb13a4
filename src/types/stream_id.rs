//! Names of stream entries: a time in milliseconds and a number within it, in order.
//!
//! Plain values. Absent on purpose: the clock; and the words `-`, `+`, `$` and `>`, which mean something to commands only.

use std::fmt;

use crate::base::num::{parse_i64, parse_u64, push_u64};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    /// Milliseconds since the Unix epoch, where the server made it.
    pub ms: u64,
    /// Which one of that millisecond.
    pub seq: u64,
}

/// Texts longer than this are none.
const TEXT_BYTES_MAX: usize = 127;

impl StreamId {
    /// Below all entries.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The last one there can be.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// From its parts.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The one behind; none behind the last.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The one in front; none in front of the first.
    pub fn prev(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// Reads `ms-seq`, or `ms` alone with this number. Where Redis reads numbers more freely (leading zeros, spaces, signs), so do
    /// we.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        let (ms, seq) = split(text)?;
        let seq = seq.map_or(Some(missing_seq), parse_number)?;
        Some(StreamId { ms: parse_number(ms)?, seq })
    }

    /// The time of `ms-*`, if that is what it is.
    pub fn parse_time_only(text: &[u8]) -> Option<u64> {
        match split(text)? {
            (ms, Some(b"*")) => parse_number(ms),
            _ => None,
        }
    }

    /// Appends its text.
    pub fn append_to(self, out: &mut Vec<u8>) {
        push_u64(out, self.ms);
        out.push(b'-');
        push_u64(out, self.seq);
    }

    /// How far it is from another, as a block of entries stores it.
    pub(super) fn distance_from(self, first: StreamId) -> (i64, i64) {
        (self.ms.wrapping_sub(first.ms) as i64, self.seq.wrapping_sub(first.seq) as i64)
    }

    /// The one at that distance.
    pub(super) fn at_distance(self, ms: i64, seq: i64) -> StreamId {
        StreamId { ms: self.ms.wrapping_add(ms as u64), seq: self.seq.wrapping_add(seq as u64) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The texts in front of and behind the first dash. What stands behind a NUL is not looked at, as in Redis.
fn split(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let text = &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())];
    Some(match text.iter().position(|byte| *byte == b'-') {
        None => (text, None),
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
    })
}

fn parse_number(text: &[u8]) -> Option<u64> {
    if let Some(number) = parse_u64(text) {
        return Some(number);
    }
    if parse_i64(text).is_some() {
        return None;
    }
    parse_c_number(text)
}

/// C's `strtoull`: spaces in front, a sign that wraps around, leading zeros.
#[cold]
fn parse_c_number(text: &[u8]) -> Option<u64> {
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let (negative, digits) = match &text[spaces..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<(u64, u64)> {
        StreamId::parse(text.as_bytes(), 7).map(|id| (id.ms, id.seq))
    }

    #[test]
    fn ids_are_two_numbers_or_one() {
        assert_eq!(id("1-2"), Some((1, 2)));
        assert_eq!(id("5"), Some((5, 7)));
        assert_eq!(id("18446744073709551615-18446744073709551615"), Some((u64::MAX, u64::MAX)));
        for text in
            ["", "-", "+", "1-", "-1", "x", "1-x", "1-2-3", "1-*", "18446744073709551616", "1 ", "$", ">", "1--1"]
        {
            assert_eq!(id(text), None, "{text}");
        }
        assert_eq!(StreamId::parse_time_only(b"12-*"), Some(12));
        assert_eq!(StreamId::parse_time_only(b"12-**"), None);
    }

    #[test]
    fn numbers_are_read_as_freely_as_redis_reads_them() {
        assert_eq!(id(" 5-+6"), Some((5, 6)));
        assert_eq!(id("007-00"), Some((7, 0)));
        assert_eq!(id("1--01"), Some((1, u64::MAX)));
        assert_eq!(id("1-2\0junk"), Some((1, 2)));
    }

    #[test]
    fn ids_have_neighbours_up_to_the_limits() {
        assert_eq!(StreamId::new(1, u64::MAX).next(), Some(StreamId::new(2, 0)));
        assert_eq!(StreamId::new(2, 0).prev(), Some(StreamId::new(1, u64::MAX)));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::MIN.prev(), None);
    }
}
