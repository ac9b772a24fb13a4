//! The packed blobs inside RDB values, entry by entry: ziplists and zipmaps of old servers, listpacks of newer ones.
//!
//! ```text
//!   ziplist   [ bytes: u32 | offset of the last entry: u32 | entries: u16 | entry … entry | 0xff ]      little-endian
//!   entry   = [ length of the entry before: u8, or 0xfe and u32 | encoding and length | data ]
//!             00llllll                     text of up to 63 bytes
//!             01llllll llllllll            text of up to 16383 bytes, high byte first
//!             10...... llllllll × 4        text, big-endian length
//!             11000000 i16    11010000 i32    11100000 i64    11110000 i24    11111110 i8      little-endian
//!             1111iiii                     the number i - 1: 0 to 12
//!   entries of 0xffff: there are as many or more, and they have to be counted
//!
//!   zipmap    [ pairs: u8 | pair … pair | 0xff ]
//!   pair    = [ length | key | length | unused: u8 | value | that many unused bytes ]
//!   length  = [ u8 below 254 ], or [ 254 | u32, little-endian ];   pairs of 254 or more have to be counted
//! ```
//!
//! Everything that such a blob says twice is compared: sizes, offsets, counts, the length of each entry that its follower repeats. A
//! blob that says anything else than it holds is refused, as servers that trusted one were made to read beside it.
//!
//! Pure functions over borrowed bytes. Invariant: an iterator that ends without an error has seen a blob that is valid to its last
//! byte. Absent on purpose: writing. Our packed values leave in forms that every server reads.

use super::DecodeError;
use crate::types::listpack::{Item, Listpack};

/// Shows every entry of a listpack.
pub fn each_of_listpack<'a>(
    blob: &'a [u8],
    visit: impl FnMut(Item<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    Listpack::entries_of(blob).ok_or(DecodeError::Corrupt("a listpack is damaged"))?.try_for_each(visit)
}

/// Shows every entry of a ziplist.
pub fn each_of_ziplist<'a>(
    blob: &'a [u8],
    mut visit: impl FnMut(Item<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut entries = Ziplist::new(blob).ok_or(BAD_ZIPLIST)?;
    while let Some(item) = entries.next_entry().ok_or(BAD_ZIPLIST)? {
        visit(item)?;
    }
    Ok(())
}

/// Shows every pair of a zipmap.
pub fn each_of_zipmap<'a>(
    blob: &'a [u8],
    mut visit: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    const BAD: DecodeError = DecodeError::Corrupt("a zipmap is damaged");
    let (&said, mut rest) = blob.split_first().ok_or(BAD)?;
    let mut pairs = 0usize;
    while let Some((key, value)) = zipmap_pair(&mut rest).ok_or(BAD)? {
        visit(key, value)?;
        pairs += 1;
    }
    let counted = said < ZIPMAP_LONG && usize::from(said) != pairs;
    if counted || !rest.is_empty() { Err(BAD) } else { Ok(()) }
}

const BAD_ZIPLIST: DecodeError = DecodeError::Corrupt("a ziplist is damaged");
const END: u8 = 0xff;
const ZIPLIST_HEADER: usize = 10;
/// The length of the entry before takes five bytes, of which this is the first.
const ZIPLIST_LONG: u8 = 0xfe;
const ZIPMAP_LONG: u8 = 254;

struct Ziplist<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the entry before starts; at the first, where that starts.
    last: usize,
    seen: usize,
}

impl<'a> Ziplist<'a> {
    fn new(bytes: &'a [u8]) -> Option<Ziplist<'a>> {
        let total = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let whole = total == bytes.len() && total > ZIPLIST_HEADER && bytes[total - 1] == END;
        whole.then_some(Ziplist { bytes, at: ZIPLIST_HEADER, last: ZIPLIST_HEADER, seen: 0 })
    }

    /// The next entry, or none behind the last of a ziplist that is valid; no answer if it is not.
    fn next_entry(&mut self) -> Option<Option<Item<'a>>> {
        // The last byte is none of an entry.
        let mut rest = &self.bytes[self.at..self.bytes.len() - 1];
        if rest.is_empty() {
            let tail = u32::from_le_bytes(*self.bytes[4..].first_chunk()?) as usize;
            let said = u16::from_le_bytes(*self.bytes[8..].first_chunk()?);
            let counted = said == u16::MAX || usize::from(said) == self.seen;
            return (tail == self.last && counted).then_some(None);
        }
        let before = match take::<1>(&mut rest)?[0] {
            END => return None,
            ZIPLIST_LONG => u32::from_le_bytes(take(&mut rest)?) as usize,
            short => usize::from(short),
        };
        if before != self.at - self.last {
            return None;
        }
        let item = ziplist_data(&mut rest)?;
        self.last = self.at;
        self.at = self.bytes.len() - 1 - rest.len();
        self.seen += 1;
        Some(Some(item))
    }
}

fn ziplist_data<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    let first = take::<1>(rest)?[0];
    let len = match first >> 6 {
        0 => usize::from(first),
        1 => usize::from(first & 0x3f) << 8 | usize::from(take::<1>(rest)?[0]),
        2 => u32::from_be_bytes(take(rest)?) as usize,
        _ => {
            let number = match first {
                0xc0 => i64::from(i16::from_le_bytes(take(rest)?)),
                0xd0 => i64::from(i32::from_le_bytes(take(rest)?)),
                0xe0 => i64::from_le_bytes(take(rest)?),
                0xf0 => {
                    let [low, middle, high] = take(rest)?;
                    // Moved to the top and back down, so that the sign fills the rest.
                    i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
                }
                0xfe => i64::from(i8::from_le_bytes(take(rest)?)),
                0xf1..=0xfd => i64::from(first) - 0xf1,
                _ => return None,
            };
            return Some(Item::Int(number));
        }
    };
    let (text, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(Item::Bytes(text))
}

/// The next pair, or none at the end, which is taken; no answer if there is neither.
fn zipmap_pair<'a>(rest: &mut &'a [u8]) -> Option<Option<(&'a [u8], &'a [u8])>> {
    if rest.first() == Some(&END) {
        *rest = &rest[1..];
        return Some(None);
    }
    let len = zipmap_length(rest)?;
    let (key, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    let len = zipmap_length(rest)?;
    let unused = usize::from(take::<1>(rest)?[0]);
    let (value, behind) = rest.split_at_checked(len)?;
    *rest = behind.get(unused..)?;
    Some(Some((key, value)))
}

fn zipmap_length(rest: &mut &[u8]) -> Option<usize> {
    match take::<1>(rest)?[0] {
        END => None,
        ZIPMAP_LONG => Some(u32::from_le_bytes(take(rest)?) as usize),
        short => Some(usize::from(short)),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ziplist(blob: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
        let mut all = Vec::new();
        each_of_ziplist(blob, |item| {
            all.push(item.to_vec());
            Ok(())
        })?;
        Ok(all)
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn zipmap(blob: &[u8]) -> Result<Pairs, DecodeError> {
        let mut all = Vec::new();
        each_of_zipmap(blob, |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok(all)
    }

    /// The entries hello, 5, -2, 300, 100000 and a word of 80 bytes.
    fn sample() -> Vec<u8> {
        let mut blob = vec![0, 0, 0, 0, 0, 0, 0, 0, 6, 0];
        blob.extend(b"\0\x05hello");
        blob.extend(b"\x07\xf6");
        blob.extend(b"\x02\xfe\xfe");
        blob.extend(b"\x03\xc0\x2c\x01");
        blob.extend(b"\x04\xf0\xa0\x86\x01");
        let last = blob.len() as u32;
        blob.extend(b"\x05\x40\x50");
        blob.extend([b'w'; 80]);
        blob.push(0xff);
        let total = blob.len() as u32;
        blob[..4].copy_from_slice(&total.to_le_bytes());
        blob[4..8].copy_from_slice(&last.to_le_bytes());
        blob
    }

    #[test]
    fn a_ziplist_is_read_as_drawn() {
        let word = [b'w'; 80];
        assert_eq!(
            ziplist(&sample()),
            Ok([&b"hello"[..], b"5", b"-2", b"300", b"100000", &word].map(<[u8]>::to_vec).to_vec())
        );
        let empty = b"\x0b\0\0\0\x0a\0\0\0\0\0\xff";
        assert_eq!(ziplist(empty), Ok(Vec::new()));
        let number = b"\x15\0\0\0\x0a\0\0\0\x01\0\0\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\xff";
        assert_eq!(ziplist(number), Ok(vec![i64::MAX.to_string().into_bytes()]));
    }

    #[test]
    fn a_ziplist_that_contradicts_itself_is_refused() {
        let good = sample();
        for at in 0..10 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(ziplist(&bad), Err(BAD_ZIPLIST), "header byte {at}");
        }
        // The length that the second entry repeats; the length of the last text; the end.
        let damage =
            [(17, 6), (17, 8), (17, 0xff), (33, 0x51), (33, 0x4f), (good.len() - 1, 0xfe), (18, 0xff), (20, 0xf3)];
        for (at, byte) in damage {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(ziplist(&bad), Err(BAD_ZIPLIST), "byte {at} as {byte}");
        }
        (0..good.len()).for_each(|len| assert_eq!(ziplist(&good[..len]), Err(BAD_ZIPLIST), "{len} bytes"));
    }

    #[test]
    fn a_zipmap_is_read_as_drawn() {
        let pairs = |rows: &[(&[u8], &[u8])]| rows.iter().map(|(a, b)| (a.to_vec(), b.to_vec())).collect::<Pairs>();
        assert_eq!(
            zipmap(b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff"),
            Ok(pairs(&[(b"foo", b"bar"), (b"hello", b"world")]))
        );
        assert_eq!(zipmap(b"\x00\xff"), Ok(Vec::new()));
        let long = [&b"\xfe\xfe\x2c\x01\0\0"[..], &[b'k'; 300], b"\x01\0v\xff"].concat();
        assert_eq!(zipmap(&long), Ok(pairs(&[(&[b'k'; 300], b"v")])));
    }

    #[test]
    fn a_zipmap_that_contradicts_itself_is_refused() {
        let good = b"\x01\x03foo\x03\x00bar\xff";
        assert!(zipmap(good).is_ok());
        (0..good.len()).for_each(|len| assert!(zipmap(&good[..len]).is_err(), "{len} bytes"));
        for (at, byte) in [(0, 2), (0, 0), (1, 200), (5, 200), (6, 1), (10, 1), (1, 254), (5, 255)] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert!(zipmap(&bad).is_err(), "byte {at} as {byte}");
        }
        assert!(zipmap(b"\x01\x03foo\x03\x00bar\xff\xff").is_err());
    }
}
