//! Writing the small parts of RDB: lengths, strings, numbers. The forms are drawn in [`super::reader`].
//!
//! A writer appends to a buffer that its caller owns, for one value or one file. Invariant: each number and string takes the shortest
//! form that Redis would give it. Absent on purpose: files and checksums.

use crate::base::lzf;
use crate::base::num;
use crate::types::listpack::Item;

/// The longest text that is tried as a 32-bit integer.
const INT_TEXT_MAX: usize = 11;
/// Strings of more bytes are compressed (`rdbcompression`), if that saves at least [`COMPRESSION_SAVES_BYTES`].
const COMPRESSED_ABOVE_BYTES: usize = 20;
const COMPRESSION_SAVES_BYTES: usize = 4;
/// The first version that has lengths of 64 bits.
const VERSION_OF_LONG_LENGTHS: u16 = 8;

/// See the module.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    compress: bool,
    version_min: u16,
}

impl<'a> Writer<'a> {
    /// Appends to this buffer; `compress` is `rdbcompression`.
    pub fn new(out: &'a mut Vec<u8>, compress: bool) -> Writer<'a> {
        Writer { out, compress, version_min: 0 }
    }

    /// The RDB version that what was written needs at least.
    pub fn version_min(&self) -> u16 {
        self.version_min
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A point in time or another 64-bit number, little-endian.
    pub fn i64(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }

    /// A double in eight bytes, little-endian.
    pub fn f64(&mut self, number: f64) {
        self.bytes(&number.to_le_bytes());
    }

    /// A length, a count, or another number that is written like one.
    pub fn length(&mut self, len: u64) {
        match len {
            0..=63 => self.out.push(len as u8),
            64..=16_383 => self.bytes(&(0x4000 | len as u16).to_be_bytes()),
            _ => match u32::try_from(len) {
                Ok(len) => {
                    self.out.push(0x80);
                    self.bytes(&len.to_be_bytes());
                }
                Err(_) => {
                    self.version_min = self.version_min.max(VERSION_OF_LONG_LENGTHS);
                    self.out.push(0x81);
                    self.bytes(&len.to_be_bytes());
                }
            },
        }
    }

    /// A string, in the shortest of its forms.
    pub fn string(&mut self, text: &[u8]) {
        if text.len() <= INT_TEXT_MAX
            && let Some(number) = num::parse_i64(text).and_then(|number| i32::try_from(number).ok())
        {
            return self.int_text(number);
        }
        if self.compress
            && text.len() > COMPRESSED_ABOVE_BYTES
            && let Some(stream) = lzf::compress(text, text.len() - COMPRESSION_SAVES_BYTES)
        {
            self.out.push(0xc3);
            self.length(stream.len() as u64);
            self.length(text.len() as u64);
            return self.bytes(&stream);
        }
        self.length(text.len() as u64);
        self.bytes(text);
    }

    /// The string of an element.
    pub fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Int(number) => self.number(number),
            Item::Bytes(text) => self.string(text),
        }
    }

    /// The decimal text of a number.
    pub fn number(&mut self, number: i64) {
        match i32::try_from(number) {
            Ok(number) => self.int_text(number),
            Err(_) => self.string(num::format_i64(number).as_bytes()),
        }
    }

    fn int_text(&mut self, number: i32) {
        if let Ok(number) = i8::try_from(number) {
            self.out.push(0xc0);
            self.bytes(&number.to_le_bytes());
        } else if let Ok(number) = i16::try_from(number) {
            self.out.push(0xc1);
            self.bytes(&number.to_le_bytes());
        } else {
            self.out.push(0xc2);
            self.bytes(&number.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, true));
        out
    }

    #[test]
    fn lengths_come_back_in_the_fewest_bytes() {
        let rows =
            [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 5), (u64::from(u32::MAX), 5), (1 << 32, 9), (u64::MAX, 9)];
        for (len, bytes) in rows {
            let out = written(|writer| writer.length(len));
            assert_eq!((out.len(), Reader::new(&out).length()), (bytes, Ok(len)));
        }
    }

    #[test]
    fn strings_come_back_in_the_form_that_redis_gives_them() {
        let long = [b'x'; 100];
        let rows: &[(&[u8], &[u8])] = &[
            (b"", b"\x00"),
            (b"abc", b"\x03abc"),
            (b"0", b"\xc0\x00"),
            (b"-128", b"\xc0\x80"),
            (b"128", b"\xc1\x80\x00"),
            (b"-32769", b"\xc2\xff\x7f\xff\xff"),
            (b"2147483647", b"\xc2\xff\xff\xff\x7f"),
            (b"2147483648", b"\x0a2147483648"),
            (b"007", b"\x03007"),
            (b"-0", b"\x02-0"),
            (&long[..20], b"\x14xxxxxxxxxxxxxxxxxxxx"),
        ];
        for (text, form) in rows {
            let out = written(|writer| writer.string(text));
            assert_eq!(out, *form, "{text:?}");
            assert_eq!(Reader::new(&out).string(1000).as_deref(), Ok(*text));
        }
        let out = written(|writer| writer.string(&long));
        assert!(out.len() < 12 && out[0] == 0xc3, "{out:?}");
        assert_eq!(Reader::new(&out).string(1000).as_deref(), Ok(&long[..]));
        let mut plain = Vec::new();
        Writer::new(&mut plain, false).string(&long);
        assert_eq!(plain.len(), 102);
    }

    #[test]
    fn only_lengths_of_64_bits_need_a_later_version() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, true);
        writer.length(u64::from(u32::MAX));
        assert_eq!(writer.version_min(), 0);
        writer.length(1 << 32);
        assert_eq!(writer.version_min(), 8);
    }
}
