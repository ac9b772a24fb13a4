//! The payload of DUMP and RESTORE: one value with its version and checksum.
//!
//! ```text
//!   [ type: u8 | body … | RDB version: u16, little-endian | CRC64 of all before it: u64, little-endian ]
//! ```
//!
//! The version is the lowest that has this value's form: 6 (Redis 2.6) for most, so that a payload may go to any server, 8 for
//! sorted sets, 10 (Redis 7.0) for streams, 12 (Redis 7.4) for hashes with fields that expire. Payloads up to [`VERSION_MAX`] are
//! read. The checksum is Jones's CRC64, from the crate `crc64`.
//!
//! Pure functions. Invariant: a payload is the value and nothing else. Redis overlooks bytes behind the value, and reads a value that
//! ends too early on into version and checksum; both are refused here. Absent on purpose: keys and their expiry, which DUMP does not
//! carry.

use super::rdb::{self, DecodeError, Decoded, Limits, Reader, Writer};
use crate::base::time::Millis;
use crate::keyspace::Value;

/// The latest RDB version that is read: that of Redis 7.4.
pub const VERSION_MAX: u16 = 12;

/// Version and checksum.
const FOOTER_BYTES: usize = 2 + 8;

/// Why a payload was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadError {
    /// It was damaged on the way, or comes from a later version.
    VersionOrChecksum,
    /// The checksum is right and the value is not.
    Value(DecodeError),
}

/// The payload of a value as it is at `now`; none if nothing is left of it (a hash whose last field has expired).
pub fn dump(value: Value<'_>, now: Millis, compress: bool) -> Option<Vec<u8>> {
    let form = rdb::form_of(value, now)?;
    let mut out = vec![form.type_byte];
    let mut writer = Writer::new(&mut out, compress);
    rdb::encode(value, now, &mut writer);
    let version = form.version.max(writer.version_min());
    seal(&mut out, version);
    Some(out)
}

/// Adds version and checksum to a type byte and a body.
pub fn seal(out: &mut Vec<u8>, version: u16) {
    out.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64::crc64(0, out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The value of a payload.
pub fn restore(payload: &[u8], limits: &Limits) -> Result<Decoded, PayloadError> {
    let value = open(payload).ok_or(PayloadError::VersionOrChecksum)?;
    let mut reader = Reader::new(value);
    let decoded = reader.u8().and_then(|type_byte| rdb::decode(type_byte, &mut reader, limits));
    let decoded = decoded.map_err(PayloadError::Value)?;
    match reader.is_at_end() {
        true => Ok(decoded),
        false => Err(PayloadError::Value(DecodeError::Trailing)),
    }
}

/// Type byte and body, if version and checksum are right.
fn open(payload: &[u8]) -> Option<&[u8]> {
    let (value, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_BYTES)?)?;
    let (version, checksum) = footer.split_first_chunk::<2>()?;
    let summed = &payload[..payload.len() - checksum.len()];
    let known = u16::from_le_bytes(*version) <= VERSION_MAX;
    (known && *checksum == crc64::crc64(0, summed).to_le_bytes()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BLOB_BYTES_MIN;

    fn limits() -> Limits {
        Limits::of(&crate::config::Config::default())
    }

    #[test]
    fn the_checksum_is_the_one_of_redis() {
        assert_eq!(crc64::crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        // DUMP of redis-server 7.0 after SET k v, but for the version.
        assert_eq!(
            dump(Value::Inline { bytes: b"v", raw: false }, Millis(0), true).expect("it has a value")[..5],
            *b"\0\x01v\x06\0"
        );
    }

    #[test]
    fn a_payload_that_was_changed_anywhere_is_refused() {
        let payload = dump(Value::Inline { bytes: b"hello", raw: false }, Millis(0), true).expect("it has a value");
        assert_eq!(restore(&payload, &limits()).map(|_| ()), Ok(()));
        for at in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[at] ^= 4;
            assert_eq!(restore(&damaged, &limits()).map(|_| ()), Err(PayloadError::VersionOrChecksum), "byte {at}");
            assert_eq!(
                restore(&payload[..at], &limits()).map(|_| ()),
                Err(PayloadError::VersionOrChecksum),
                "{at} bytes"
            );
        }
    }

    #[test]
    fn later_versions_are_refused_and_earlier_ones_are_not() {
        for (version, known) in [(0, true), (6, true), (12, true), (13, false), (80, false), (u16::MAX, false)] {
            let mut payload = b"\0\x01v".to_vec();
            seal(&mut payload, version);
            assert_eq!(restore(&payload, &limits()).is_ok(), known, "version {version}");
        }
    }

    #[test]
    fn what_stands_behind_the_value_is_refused() {
        let mut payload = b"\0\x01vx".to_vec();
        seal(&mut payload, 6);
        assert_eq!(restore(&payload, &limits()).map(|_| ()), Err(PayloadError::Value(DecodeError::Trailing)));
        let mut payload = b"\0\x05v".to_vec();
        seal(&mut payload, 6);
        assert_eq!(restore(&payload, &limits()).map(|_| ()), Err(PayloadError::Value(DecodeError::Truncated)));
        let mut payload = Vec::new();
        seal(&mut payload, 6);
        assert_eq!(restore(&payload, &limits()).map(|_| ()), Err(PayloadError::Value(DecodeError::Truncated)));
    }

    #[test]
    fn a_long_string_comes_back_compressed_or_not() {
        let long = vec![b'x'; 10 * BLOB_BYTES_MIN];
        for compress in [false, true] {
            let payload = dump(Value::Inline { bytes: &long, raw: true }, Millis(0), compress).expect("it has a value");
            assert_eq!(payload.len() < long.len() / 50, compress);
            assert!(matches!(restore(&payload, &limits()), Ok(Decoded::String(text)) if text == long));
        }
    }
}
