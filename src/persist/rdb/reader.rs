//! Reading the small parts of RDB: lengths, strings, numbers. Every read is checked against the bytes that are there.
//!
//! ```text
//!   length   00llllll                                  0 to 63
//!            01llllll llllllll                         up to 16383, high byte first
//!            10000000 llllllll × 4                     32 bits, big-endian
//!            10000001 llllllll × 8                     64 bits, big-endian
//!            11eeeeee                                  no length: a string in encoding e follows
//!
//!   string   length | bytes
//!            11000000 | i8                             the decimal text of that number
//!            11000001 | i16, little-endian
//!            11000010 | i32, little-endian
//!            11000011 | length of the stream | length of the text | LZF stream
//! ```
//!
//! A reader lives on the stack of one decode. Invariant: nothing is allocated for a length that was only announced; a compressed
//! string is at most 88 times as long as its stream. Absent on purpose: files; who reads one hands over what it has, and more of it
//! when [`DecodeError::Truncated`] says that it ended too early.

use std::borrow::Cow;

use super::DecodeError;
use crate::base::lzf;
use crate::base::num;

/// See the module.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    missing: u64,
}

/// What stands where a length may stand.
enum Length {
    Of(u64),
    Encoding(u8),
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, missing: 0 }
    }

    /// How many bytes were not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// After [`DecodeError::Truncated`]: how many bytes more than there were would have got it past that place.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    fn truncated(&mut self, wanted: u64) -> DecodeError {
        self.missing = wanted - self.rest.len() as u64;
        DecodeError::Truncated
    }

    /// Whether all bytes were read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next bytes.
    pub fn bytes(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        match usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len)) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.truncated(len)),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(self.truncated(N as u64)),
        }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A point in time or another 64-bit number, little-endian.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A double in eight bytes, little-endian.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A double as old versions wrote it: the length of its text and the text, or one of three bytes for what has none.
    pub fn f64_text(&mut self) -> Result<f64, DecodeError> {
        match self.u8()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => Ok(f64::NAN),
            len => {
                let text = self.bytes(u64::from(len))?;
                crate::base::float::parse_f64(text).ok_or(DecodeError::Corrupt("a score is no number"))
            }
        }
    }

    fn length_or_encoding(&mut self) -> Result<Length, DecodeError> {
        let first = self.u8()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Of(u64::from(low)),
            1 => Length::Of(u64::from(low) << 8 | u64::from(self.u8()?)),
            3 => Length::Encoding(low),
            _ => match first {
                0x80 => Length::Of(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Of(u64::from_be_bytes(self.array()?)),
                _ => return Err(DecodeError::Corrupt("a length has an unknown form")),
            },
        })
    }

    /// A length, a count, or another number that is written like one.
    pub fn length(&mut self) -> Result<u64, DecodeError> {
        match self.length_or_encoding()? {
            Length::Of(len) => Ok(len),
            Length::Encoding(_) => Err(DecodeError::Corrupt("a string stands where a length should")),
        }
    }

    /// A string of at most `bytes_max` bytes.
    pub fn string(&mut self, bytes_max: usize) -> Result<Cow<'a, [u8]>, DecodeError> {
        let number = match self.length_or_encoding()? {
            // The limit first: nobody may be made to wait for exabytes.
            Length::Of(len) if len > bytes_max as u64 => return Err(TOO_LONG),
            Length::Of(len) => return self.bytes(len).map(Cow::Borrowed),
            Length::Encoding(0) => i64::from(i8::from_le_bytes(self.array()?)),
            Length::Encoding(1) => i64::from(i16::from_le_bytes(self.array()?)),
            Length::Encoding(2) => i64::from(i32::from_le_bytes(self.array()?)),
            Length::Encoding(3) => {
                let (stream_len, len) = (self.length()?, self.length()?);
                if stream_len.max(len) > bytes_max as u64 {
                    return Err(TOO_LONG);
                }
                let (stream, len) = (self.bytes(stream_len)?, len as usize);
                let text = lzf::decompress(stream, len);
                return text.map(Cow::Owned).ok_or(DecodeError::Corrupt("a compressed string is damaged"));
            }
            Length::Encoding(_) => return Err(DecodeError::Corrupt("a string has an unknown encoding")),
        };
        Ok(Cow::Owned(num::format_i64(number).as_bytes().to_vec()))
    }
}

const TOO_LONG: DecodeError = DecodeError::Corrupt("a string is longer than strings may be");

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        Reader::new(bytes).string(1000).map(Cow::into_owned)
    }

    #[test]
    fn lengths_are_read_as_drawn() {
        for (bytes, len) in [
            (&b"\x00"[..], 0),
            (b"\x3f", 63),
            (b"\x40\x05", 5),
            (b"\x7f\xff", 16_383),
            (b"\x80\x00\x01\x00\x00", 65_536),
            (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.length(), Ok(len));
            assert!(reader.is_at_end());
            (0..bytes.len())
                .for_each(|cut| assert_eq!(Reader::new(&bytes[..cut]).length(), Err(DecodeError::Truncated)));
        }
        for bytes in [&b"\x82\0\0\0\0"[..], b"\xbf\0\0\0\0", b"\xc0\0"] {
            assert!(matches!(Reader::new(bytes).length(), Err(DecodeError::Corrupt(_))));
        }
    }

    #[test]
    fn strings_are_read_in_each_encoding() {
        assert_eq!(string(b"\x03abc").as_deref(), Ok(&b"abc"[..]));
        assert_eq!(string(b"\xc0\x80").as_deref(), Ok(&b"-128"[..]));
        assert_eq!(string(b"\xc1\x00\x80").as_deref(), Ok(&b"-32768"[..]));
        assert_eq!(string(b"\xc2\xff\xff\xff\x7f").as_deref(), Ok(&b"2147483647"[..]));
        assert_eq!(
            string(b"\xc3\x04\x06\x02abc").map(|text| text.len()),
            Err(DecodeError::Corrupt("a compressed string is damaged"))
        );
        assert_eq!(string(b"\xc3\x06\x06\x02abc\x20\x02").as_deref(), Ok(&b"abcabc"[..]));
    }

    #[test]
    fn what_is_missing_is_counted() {
        for (bytes, missing) in [(&b"\x43\xe8abc"[..], 997), (b"\x43", 1), (b"\x80\0", 3), (b"", 1), (b"\x03ab", 1)] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.string(1000), Err(DecodeError::Truncated));
            assert_eq!(reader.missing(), missing, "{bytes:?}");
        }
    }

    #[test]
    fn strings_that_are_not_there_or_too_long_are_refused() {
        assert_eq!(string(b"\x43\xe8abc"), Err(DecodeError::Truncated));
        assert_eq!(string(b"\x81\xff\xff\xff\xff\xff\xff\xff\xffabc"), Err(TOO_LONG));
        assert_eq!(string(b"\xc4\0"), Err(DecodeError::Corrupt("a string has an unknown encoding")));
        // Sixteen exabytes and a gigabyte, out of six bytes.
        assert_eq!(string(b"\xc3\x06\x81\xff\xff\xff\xff\xff\xff\xff\xff\x02abc\x20\x02"), Err(TOO_LONG));
        assert_eq!(string(b"\xc3\x06\x80\x40\0\0\0\x02abc\x20\x02"), Err(TOO_LONG));
        assert_eq!(string(&[&[0x44, 0][..], &[b'x'; 1024]].concat()), Err(TOO_LONG));
    }
}
