//! Unsigned integers of any length, with just the arithmetic that reading and printing a long double exactly needs.
//!
//! Base 2^32, least significant limb first, no zero limb on top (zero has no limbs). Sizes here are bounded by the
//! format: at most some 35,000 bits. Absent on purpose: general division; see [`Natural::quotient_bits`].

use std::cmp::Ordering;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Natural {
    limbs: Vec<u32>,
}

impl Natural {
    pub(super) fn from_u64(value: u64) -> Natural {
        Natural { limbs: vec![value as u32, (value >> 32) as u32] }.trimmed()
    }

    /// The number that decimal digits (ASCII, any leading zeros) spell.
    pub(super) fn from_decimal<'a>(digits: impl Iterator<Item = &'a u8>) -> Natural {
        // Nine digits at a time: the largest power of ten below 2^32.
        let (mut number, mut chunk, mut scale) = (Natural::default(), 0u32, 1u32);
        for digit in digits {
            chunk = chunk * 10 + u32::from(digit - b'0');
            scale *= 10;
            if scale == 1_000_000_000 {
                number.multiply_add(scale, chunk);
                (chunk, scale) = (0, 1);
            }
        }
        number.multiply_add(scale, chunk);
        number
    }

    /// `self × factor + addend`
    pub(super) fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.limbs.push(carry as u32);
        }
    }

    /// `self × 5^power`
    pub(super) fn multiply_by_power_of_five(&mut self, mut power: u32) {
        // The largest power of five below 2^32 is the thirteenth.
        while power > 0 {
            let step = power.min(13);
            self.multiply_add(5u32.pow(step), 0);
            power -= step;
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    pub(super) fn bits(&self) -> u32 {
        self.limbs.last().map_or(0, |top| self.limbs.len() as u32 * 32 - top.leading_zeros())
    }

    pub(super) fn shifted_left(mut self, bits: u32) -> Natural {
        let (whole, part) = ((bits / 32) as usize, bits % 32);
        self.multiply_add(1 << part, 0);
        if !self.is_zero() {
            self.limbs.splice(0..0, std::iter::repeat_n(0, whole));
        }
        self
    }

    /// The top bits, at most 128 of them; how many bits were left out below; whether one of those was set.
    pub(super) fn top_128(&self) -> (u128, u32, bool) {
        let dropped = self.bits().saturating_sub(128);
        let (whole, part) = ((dropped / 32) as usize, dropped % 32);
        let below_limbs = self.limbs[..whole].iter().any(|&limb| limb != 0);
        // Five limbs hold any 128 bits; the fifth is there only if the cut runs through a limb.
        let mut top = 0u128;
        for (index, &limb) in self.limbs[whole..].iter().enumerate() {
            let limb = u128::from(limb);
            top |= if index == 0 { limb >> part } else { limb << (32 * index as u32 - part) };
        }
        let below_part = self.limbs.get(whole).is_some_and(|limb| limb & ((1 << part) - 1) != 0);
        (top, dropped, below_limbs || below_part)
    }

    /// `floor(self / divisor × 2^scale)` for the one `scale` that gives it `bits` or `bits + 1` bits; that scale; and
    /// whether there was a remainder. Neither number may be zero, and `bits` must be below 128.
    ///
    /// One subtraction per bit: a quotient here is as long as a mantissa, however long the operands are, so schoolbook
    /// division would save little and is much easier to get wrong.
    pub(super) fn quotient_bits(self, divisor: Natural, bits: u32) -> (u128, i64, bool) {
        debug_assert!(!self.is_zero() && !divisor.is_zero() && bits < 128);
        let (own_bits, divisor_bits) = (self.bits(), divisor.bits());
        // Of equal length, the ratio is between one half and two.
        let mut rest = self.shifted_left(divisor_bits.saturating_sub(own_bits));
        let divisor = divisor.shifted_left(own_bits.saturating_sub(divisor_bits));
        let mut quotient = 0u128;
        for step in 0..=bits {
            if step > 0 {
                rest.multiply_add(2, 0);
            }
            quotient <<= 1;
            if rest.at_least(&divisor) {
                rest.subtract(&divisor);
                quotient |= 1;
            }
        }
        (quotient, i64::from(bits) + i64::from(divisor_bits) - i64::from(own_bits), !rest.is_zero())
    }

    fn at_least(&self, other: &Natural) -> bool {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev())) != Ordering::Less
    }

    /// Takes away a number that is not larger.
    fn subtract(&mut self, other: &Natural) {
        let mut borrow = false;
        for (index, limb) in self.limbs.iter_mut().enumerate() {
            let taken = other.limbs.get(index).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(taken);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        assert!(!borrow, "only smaller numbers are subtracted");
        self.trim();
    }

    /// Appends the number in decimal.
    pub(super) fn push_decimal(mut self, out: &mut Vec<u8>) {
        let start = out.len();
        loop {
            let mut remainder = 0u64;
            for limb in self.limbs.iter_mut().rev() {
                let dividend = remainder << 32 | u64::from(*limb);
                *limb = (dividend / 1_000_000_000) as u32;
                remainder = dividend % 1_000_000_000;
            }
            self.trim();
            // Backwards, nine digits for every chunk but the last.
            for place in 0..9 {
                if self.is_zero() && place > 0 && remainder == 0 {
                    break;
                }
                out.push(b'0' + (remainder % 10) as u8);
                remainder /= 10;
            }
            if self.is_zero() {
                break;
            }
        }
        out[start..].reverse();
    }

    fn trimmed(mut self) -> Natural {
        self.trim();
        self
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn natural(value: u128) -> Natural {
        let mut number = Natural::from_u64((value >> 64) as u64).shifted_left(64);
        let low = Natural::from_u64(value as u64);
        number.limbs.resize(number.limbs.len().max(low.limbs.len()), 0);
        number.limbs.iter_mut().zip(&low.limbs).for_each(|(limb, low)| *limb |= low);
        number
    }

    fn decimal(number: Natural) -> String {
        let mut out = Vec::new();
        number.push_decimal(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_of_128_bits_agree_with_the_machine() {
        let seed = 0xb19;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for _ in 0..5_000 {
            let wide = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let value = wide >> rng.below(128);
            let text = value.to_string();
            assert_eq!(Natural::from_decimal(text.as_bytes().iter()), natural(value), "{value}");
            assert_eq!(decimal(natural(value)), text);
            assert_eq!(natural(value).bits(), 128 - value.leading_zeros());

            let shift = rng.below(200) as u32;
            let (top, dropped, inexact) = natural(value).shifted_left(shift).top_128();
            assert!(!inexact);
            assert_eq!(top, if value == 0 { 0 } else { value << (shift - dropped) }, "{value} << {shift}");

            let divisor = u128::from(rng.next_u64() >> rng.below(60)) + 1;
            if value != 0 {
                let (quotient, scale, inexact) = natural(value).quotient_bits(natural(divisor), 70);
                assert!((70..=71).contains(&(128 - quotient.leading_zeros())));
                // quotient = floor(value × 2^scale / divisor), checked by multiplying back.
                let back = {
                    let mut product = Natural::from_decimal(quotient.to_string().as_bytes().iter());
                    let mut sum = Natural::default();
                    for bit in 0..64 {
                        if divisor >> bit & 1 == 1 {
                            sum = add(&sum, &product);
                        }
                        product = product.shifted_left(1);
                    }
                    if divisor >> 64 & 1 == 1 { add(&sum, &product) } else { sum }
                };
                let scaled = natural(value).shifted_left(u32::try_from(scale.max(0)).unwrap());
                let back = back.shifted_left(u32::try_from((-scale).max(0)).unwrap());
                assert!(scaled.at_least(&back));
                assert_eq!(scaled != back, inexact, "{value} / {divisor}");
            }
        }
    }

    fn add(a: &Natural, b: &Natural) -> Natural {
        let (mut limbs, mut carry) = (Vec::new(), 0u64);
        for index in 0..a.limbs.len().max(b.limbs.len()) {
            carry += [a, b].iter().map(|n| u64::from(n.limbs.get(index).copied().unwrap_or(0))).sum::<u64>();
            limbs.push(carry as u32);
            carry >>= 32;
        }
        limbs.push(carry as u32);
        Natural { limbs }.trimmed()
    }

    #[test]
    fn a_cut_through_a_limb_reports_what_lies_below_it() {
        let number = Natural::from_decimal(b"1".iter()).shifted_left(150);
        assert_eq!(number.top_128(), (1 << 127, 23, false));
        let mut odd = number.clone();
        odd.limbs[0] |= 1;
        assert_eq!(odd.top_128(), (1 << 127, 23, true));
        odd.limbs[0] = 1 << 23;
        assert_eq!(odd.top_128(), (1 << 127 | 1, 23, false));
        assert_eq!(Natural::default().top_128(), (0, 0, false));
    }

    #[test]
    fn long_numbers_keep_their_digits() {
        let text = "1234567890".repeat(300) + "000000000000000000000";
        assert_eq!(decimal(Natural::from_decimal(text.as_bytes().iter())), text);
        let mut power = Natural::from_u64(1);
        power.multiply_by_power_of_five(60);
        assert_eq!(decimal(power.shifted_left(60)), format!("1{}", "0".repeat(60)));
        assert_eq!(decimal(Natural::default()), "0");
    }
}
