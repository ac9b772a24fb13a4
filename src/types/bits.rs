//! Strings as arrays of bits: counting, searching, combining, and integers of any width at any place.
//!
//! Bit 0 is the highest bit of the first byte, as in Redis. A string has no bits behind its last byte; what a command makes of
//! places there (they read as 0) is said at each function.
//!
//! Long strings are worked on in words, and combined in blocks that stay in the first cache while all operands pass by, so
//! that a string of 512 MB is read once. Pure functions over slices; absent on purpose: growing a string, which its owner does.

use crate::base::num::parse_i64;

/// Bytes of the result that are combined at a time: all operands' blocks of this size fit into a first-level cache of 32 KiB.
const BLOCK_BYTES: usize = 8 * 1024;

/// The bit at an offset, which may lie behind the end: then it is 0.
pub fn bit(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / 8).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0);
    byte & mask(offset) != 0
}

/// Sets a bit, which must exist, and returns what it was.
pub fn set_bit(bytes: &mut [u8], offset: u64, on: bool) -> bool {
    let byte = &mut bytes[usize::try_from(offset / 8).expect("the string has this byte")];
    let old = *byte & mask(offset) != 0;
    *byte = if on { *byte | mask(offset) } else { *byte & !mask(offset) };
    old
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// How many bits are 1.
pub fn count_ones(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum::<u64>()
        + tail.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// How many bits from `first` to `last`, both included, are 1. Both must lie in the string, in this order.
pub fn count_ones_between(bytes: &[u8], first: u64, last: u64) -> u64 {
    let part = &bytes[(first / 8) as usize..=(last / 8) as usize];
    let in_front = part[0] & !(0xff >> (first % 8));
    let behind = part[part.len() - 1] & (0x7f >> (last % 8));
    count_ones(part) - u64::from(in_front.count_ones()) - u64::from(behind.count_ones())
}

/// The first bit from `first` to `last`, both included, that is `on`. Both must lie in the string, in this order.
pub fn find_between(bytes: &[u8], on: bool, first: u64, last: u64) -> Option<u64> {
    // Bytes without what is looked for, and what turns a hit into a 1.
    let skip = if on { 0x00 } else { 0xff };
    let place_in = |byte: u8| u64::from((byte ^ skip).leading_zeros());
    let (from, to) = ((first / 8) as usize, (last / 8) as usize);
    let head = (bytes[from] ^ skip) & 0xff >> (first % 8);
    let found = if head != 0 {
        from as u64 * 8 + u64::from(head.leading_zeros())
    } else {
        let rest = &bytes[from + 1..=to];
        let (blocks, _) = rest.as_chunks::<64>();
        let clean = blocks.iter().take_while(|block| block.iter().fold(0, |any, byte| any | byte ^ skip) == 0).count();
        let at = rest[clean * 64..].iter().position(|byte| *byte != skip)? + clean * 64;
        (from + 1 + at) as u64 * 8 + place_in(rest[at])
    };
    (found <= last).then_some(found)
}

/// How BITOP makes one string of several. Operands that are shorter than the longest are padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combine {
    /// Bits that all operands have.
    And,
    /// Bits that any has.
    Or,
    /// Bits that an odd number of them have.
    Xor,
    /// Bits that the only operand does not have.
    Not,
    /// Bits of the first that no other has.
    Diff,
    /// Bits of any other that the first does not have.
    Diff1,
    /// Bits of the first that any other has.
    AndOr,
    /// Bits that exactly one has.
    One,
}

impl Combine {
    /// As long as the longest operand. There must be one operand at least.
    pub fn apply(self, operands: &[&[u8]]) -> Vec<u8> {
        let (first, others) = operands.split_at(1);
        let len = operands.iter().map(|operand| operand.len()).max().unwrap_or(0);
        let mut result = vec![0; len];
        for (number, bytes) in result.chunks_mut(BLOCK_BYTES).enumerate() {
            let mut block = Block { bytes, start: number * BLOCK_BYTES };
            match self {
                Combine::And => {
                    block.fold(first, |_, byte| byte);
                    block.fold(others, |all, byte| all & byte);
                }
                Combine::Or => block.fold(operands, |any, byte| any | byte),
                Combine::Xor => block.fold(operands, |odd, byte| odd ^ byte),
                Combine::Not => block.fold(first, |_, byte| !byte),
                Combine::Diff => {
                    block.fold(others, |any, byte| any | byte);
                    block.fold(first, |others, first| first & !others);
                }
                Combine::Diff1 => {
                    block.fold(others, |any, byte| any | byte);
                    block.fold(first, |others, first| others & !first);
                }
                Combine::AndOr => {
                    block.fold(others, |any, byte| any | byte);
                    block.fold(first, |others, first| others & first);
                }
                Combine::One => block.keep_single(operands),
            }
        }
        result
    }
}

/// A part of a result that is combined at once.
struct Block<'b> {
    bytes: &'b mut [u8],
    /// Where it begins in the result.
    start: usize,
}

impl Block<'_> {
    /// The same part of an operand, as much as there is of it.
    fn of<'o>(&self, operand: &'o [u8]) -> &'o [u8] {
        let end = self.start + self.bytes.len();
        &operand[self.start.min(operand.len())..end.min(operand.len())]
    }

    /// Replaces each byte by `f` of it and the byte of an operand, for one operand after the other.
    #[inline]
    fn fold(&mut self, operands: &[&[u8]], f: impl Fn(u8, u8) -> u8) {
        for operand in operands {
            let part = self.of(operand);
            let (common, behind) = self.bytes.split_at_mut(part.len());
            common.iter_mut().zip(part).for_each(|(byte, other)| *byte = f(*byte, *other));
            behind.iter_mut().for_each(|byte| *byte = f(*byte, 0));
        }
    }

    /// The bits that exactly one operand has.
    fn keep_single(&mut self, operands: &[&[u8]]) {
        let mut often = [0; BLOCK_BYTES];
        for operand in operands {
            let part = self.of(operand);
            for ((seen, often), byte) in self.bytes.iter_mut().zip(&mut often).zip(part) {
                *often |= *seen & byte;
                *seen |= byte;
            }
        }
        self.bytes.iter_mut().zip(often).for_each(|(seen, often)| *seen &= !often);
    }
}

/// What BITFIELD calls a type: `i8`, `u63`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    signed: bool,
    /// 1 to 64, and at most 63 if it is unsigned.
    bits: u32,
}

/// What happens to a number that a field cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// The bits that fit stay.
    Wrap,
    /// The nearest number that fits is taken.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl Field {
    /// Reads `i` or `u` and a width; none if there is no such field.
    pub fn parse(text: &[u8]) -> Option<Field> {
        let (signed, max) = match text.first()? {
            b'i' => (true, 64),
            b'u' => (false, 63),
            _ => return None,
        };
        let bits = parse_i64(&text[1..]).filter(|bits| (1..=max).contains(bits))?;
        Some(Field { signed, bits: bits as u32 })
    }

    /// Its width.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The number at a bit offset. Bits behind the end of the string are 0.
    pub fn get(self, bytes: &[u8], offset: u64) -> i64 {
        let window = Window::read(bytes, offset);
        let raw = (window.bits << (offset % 8)) >> (128 - self.bits);
        let unused = 64 - self.bits;
        if self.signed { ((raw as u64) << unused) as i64 >> unused } else { raw as i64 }
    }

    /// Writes the low bits of a number at a bit offset. All places must exist.
    pub fn set(self, bytes: &mut [u8], offset: u64, number: i64) {
        let at = 128 - self.bits - (offset % 8) as u32;
        let ones = u128::MAX >> (128 - self.bits);
        let mut window = Window::read(bytes, offset);
        window.bits = window.bits & !(ones << at) | (u128::from(number as u64) & ones) << at;
        window.write(bytes, offset + u64::from(self.bits));
    }

    /// What the field holds if it is given this number; none if the number does not fit and must then not be written.
    pub fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = match self.signed {
            true => (-1_i128 << (self.bits - 1), (1_i128 << (self.bits - 1)) - 1),
            false => (0, (1_i128 << self.bits) - 1),
        };
        if (min..=max).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(number.clamp(min, max) as i64),
            Overflow::Wrap => {
                let unused = 128 - self.bits;
                let low = (number as u128) << unused;
                Some(if self.signed { low as i128 >> unused } else { (low >> unused) as i128 } as i64)
            }
        }
    }

    /// The number that SET means by an argument: for an unsigned field its 64 bits without a sign.
    pub fn argument(self, number: i64) -> i128 {
        if self.signed { i128::from(number) } else { i128::from(number as u64) }
    }
}

/// Up to 16 bytes around a field, the first in the highest place. A field of 64 bits touches nine.
struct Window {
    first: usize,
    bits: u128,
}

impl Window {
    fn read(bytes: &[u8], offset: u64) -> Window {
        let first = usize::try_from(offset / 8).unwrap_or(usize::MAX).min(bytes.len());
        let part = &bytes[first..bytes.len().min(first + 9)];
        let mut word = [0; 16];
        word[..part.len()].copy_from_slice(part);
        Window { first, bits: u128::from_be_bytes(word) }
    }

    /// Writes back the bytes with bits in front of the offset `end`.
    fn write(&self, bytes: &mut [u8], end: u64) {
        let last = usize::try_from(end.div_ceil(8)).expect("the string has these bytes");
        let len = last - self.first;
        bytes[self.first..last].copy_from_slice(&self.bits.to_be_bytes()[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn random(rng: &mut Rng, len_max: u64) -> Vec<u8> {
        let mut bytes = vec![0; rng.below(len_max + 1) as usize];
        match rng.below(4) {
            0 => {}
            1 => bytes.fill(0xff),
            _ => rng.fill(&mut bytes),
        }
        bytes
    }

    fn bits_of(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|at| bit(bytes, at)).collect()
    }

    #[test]
    fn bit_0_is_the_highest_of_the_first_byte() {
        let mut bytes = [0; 2];
        assert!(!set_bit(&mut bytes, 0, true) && !set_bit(&mut bytes, 9, true));
        assert_eq!(bytes, [0x80, 0x40]);
        assert!(bit(&bytes, 9) && !bit(&bytes, 8) && !bit(&bytes, 16) && !bit(&bytes, u64::MAX));
        assert!(set_bit(&mut bytes, 9, false));
        assert_eq!(bytes, [0x80, 0]);
    }

    #[test]
    fn counting_and_finding_agree_with_looking_at_every_bit() {
        let seed = 0xb175;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for _ in 0..3000 {
            let mut bytes = random(&mut rng, 300);
            if bytes.is_empty() {
                continue;
            }
            if rng.chance(1, 2) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            let bits = bits_of(&bytes);
            let last = rng.below(bits.len() as u64);
            let first = rng.below(last + 1);
            let (a, b) = (first as usize, last as usize);
            let ones = |bits: &[bool]| bits.iter().filter(|on| **on).count() as u64;
            assert_eq!(count_ones(&bytes), ones(&bits));
            assert_eq!(count_ones_between(&bytes, first, last), ones(&bits[a..=b]), "{bytes:?} {first} {last}");
            for on in [false, true] {
                let expected = bits[a..=b].iter().position(|bit| *bit == on).map(|at| first + at as u64);
                assert_eq!(find_between(&bytes, on, first, last), expected, "{bytes:?} {on} {first} {last}");
            }
        }
    }

    #[test]
    fn strings_are_combined_bit_by_bit() {
        use Combine::{And, AndOr, Diff, Diff1, Not, One, Or, Xor};
        let seed = 0xc0b1;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for round in 0..400 {
            let len_max = if round % 20 == 0 { 20_000 } else { 40 };
            let owned: Vec<Vec<u8>> = (0..=rng.below(4)).map(|_| random(&mut rng, len_max)).collect();
            let operands: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
            let len = owned.iter().map(Vec::len).max().unwrap();
            for how in [And, Or, Xor, Not, Diff, Diff1, AndOr, One] {
                let operands = if how == Not { &operands[..1] } else { &operands[..] };
                let len = if how == Not { owned[0].len() } else { len };
                let expected: Vec<u8> = (0..len)
                    .map(|at| {
                        let column: Vec<u8> =
                            operands.iter().map(|bytes| bytes.get(at).copied().unwrap_or(0)).collect();
                        let others = column[1..].iter().fold(0, |any, byte| any | byte);
                        match how {
                            And => column.iter().fold(0xff, |all, byte| all & byte),
                            Or => column[0] | others,
                            Xor => column.iter().fold(0, |odd, byte| odd ^ byte),
                            Not => !column[0],
                            Diff => column[0] & !others,
                            Diff1 => others & !column[0],
                            AndOr => column[0] & others,
                            One => (0..8)
                                .map(|bit| 1 << bit)
                                .filter(|bit| column.iter().filter(|byte| *byte & bit != 0).count() == 1)
                                .sum(),
                        }
                    })
                    .collect();
                assert!(how.apply(operands) == expected, "{how:?}, round {round}");
            }
        }
    }

    #[test]
    fn fields_of_every_width_are_written_and_read_at_any_place() {
        let seed = 0xf1e1d;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for _ in 0..20_000 {
            let signed = rng.chance(1, 2);
            let bits = 1 + rng.below(if signed { 64 } else { 63 }) as u32;
            let field = Field { signed, bits };
            let offset = rng.below(40);
            let mut bytes = vec![0; (offset + u64::from(bits)).div_ceil(8) as usize + rng.below(3) as usize];
            rng.fill(&mut bytes);
            let before = bits_of(&bytes);
            let number = field.fit(i128::from(rng.next_u64() as i64), Overflow::Wrap).expect("it wraps");
            field.set(&mut bytes, offset, number);
            assert_eq!(field.get(&bytes, offset), number, "{field:?} at {offset}");
            for (at, (old, new)) in before.iter().zip(bits_of(&bytes)).enumerate() {
                let inside = (offset..offset + u64::from(bits)).contains(&(at as u64));
                assert!(inside || *old == new, "{field:?} at {offset} changed bit {at}");
            }
        }
    }

    #[test]
    fn a_field_behind_the_end_reads_as_zeros() {
        let u8s = Field::parse(b"u8").expect("a field");
        assert_eq!(u8s.get(&[0xff], 4), 0xf0);
        assert_eq!(u8s.get(&[0xff], 8), 0);
        assert_eq!(u8s.get(&[], u64::MAX), 0);
    }

    #[test]
    fn what_does_not_fit_wraps_saturates_or_fails() {
        let fit =
            |field: &str, number, overflow| Field::parse(field.as_bytes()).expect("a field").fit(number, overflow);
        assert_eq!(fit("u8", 255, Overflow::Fail), Some(255));
        assert_eq!(fit("u8", 256, Overflow::Fail), None);
        assert_eq!(fit("u8", 257, Overflow::Wrap), Some(1));
        assert_eq!(fit("u8", -1, Overflow::Wrap), Some(255));
        assert_eq!(fit("u8", -1, Overflow::Saturate), Some(0));
        assert_eq!(fit("i8", 128, Overflow::Wrap), Some(-128));
        assert_eq!(fit("i8", 128, Overflow::Saturate), Some(127));
        assert_eq!(fit("i8", -129, Overflow::Saturate), Some(-128));
        assert_eq!(fit("i64", i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(fit("i64", i128::from(i64::MIN) - 1, Overflow::Saturate), Some(i64::MIN));
        assert_eq!(fit("u63", i128::from(u64::MAX), Overflow::Saturate), Some(i64::MAX));
        assert_eq!(fit("i1", 1, Overflow::Wrap), Some(-1));
    }

    #[test]
    fn field_types_are_told_from_everything_else() {
        for good in ["i1", "i64", "u1", "u63"] {
            assert!(Field::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "i", "u", "i0", "i65", "u64", "u0", "I8", "x8", "8", "i-1", "i08", "i9223372036854775808"] {
            assert!(Field::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
