//! What commands that wait have in common: how long, and what they reply when the time is over.
//!
//! Pure functions. How a wait works is told in `txn::block`; which key serves whom, in each family.

use crate::base::float::parse_f64_lenient;
use crate::base::longdouble::LongDouble;
use crate::resp::{CommandError, Reply};
use crate::txn::Coordinator;

/// A timeout in seconds as clients give it, in microseconds; none means for ever.
///
/// # Errors
/// In Redis's words, if it is no number, negative, or beyond 2^63 milliseconds.
pub fn timeout_us(text: &[u8]) -> Result<Option<u64>, CommandError> {
    // What is a number to Redis here is one in the wider range of its long doubles.
    let seconds =
        LongDouble::parse(text).and_then(|_| parse_f64_lenient(text)).ok_or(CommandError::TimeoutNotAFloat)?;
    let millis = (seconds * 1000.0).ceil();
    if millis > i64::MAX as f64 {
        return Err(CommandError::Custom("ERR timeout is out of range"));
    }
    if seconds < 0.0 {
        return Err(CommandError::TimeoutNegative);
    }
    Ok(Some((millis as u64).saturating_mul(1000)).filter(|us| *us > 0))
}

/// The reply of a command that has waited, or what a client gets whose time is over.
pub fn or_timed_out(coordinator: &Coordinator, reply: Option<Reply>) -> Reply {
    reply.unwrap_or_else(|| {
        let mut reply = coordinator.reply();
        reply.null_array();
        reply
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_a_fraction() {
        assert_eq!(timeout_us(b"0"), Ok(None));
        assert_eq!(timeout_us(b"1"), Ok(Some(1_000_000)));
        assert_eq!(timeout_us(b"0.5"), Ok(Some(500_000)));
        assert_eq!(timeout_us(b"0.0001"), Ok(Some(1000)));
        assert_eq!(timeout_us(b"-1"), Err(CommandError::TimeoutNegative));
        for bad in ["", "x", "nan", "1 "] {
            assert_eq!(timeout_us(bad.as_bytes()), Err(CommandError::TimeoutNotAFloat), "{bad}");
        }
        assert!(timeout_us(b"inf").is_err());
        assert!(timeout_us(b"1e300").is_err());
    }
}
