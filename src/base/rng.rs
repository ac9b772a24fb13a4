//! A small pseudo-random generator whose whole state is its seed: for sampling, eviction, tests and simulation.
//!
//! The algorithm is xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna (public domain, <https://prng.di.unimi.it/>),
//! seeded through SplitMix64 as its authors advise. Bounded draws use Daniel Lemire's multiply-and-reject method
//! ("Fast Random Integer Generation in an Interval", ACM TOMACS 2019).
//!
//! Owned by whoever draws; one per shard. Absent on purpose: a default seed (whoever starts the process brings one, so
//! a run can be repeated) and secrecy: tokens, hash keys and passwords must not come from here.

use std::ops::RangeInclusive;

/// A generator. Equal seeds give equal sequences on every machine and in every version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator whose sequence is a function of `seed` alone; every seed is as good as any other.
    pub fn seed(seed: u64) -> Rng {
        // SplitMix64 visits each 64-bit value once, so four in a row are never all zero, the one state that is stuck.
        let mut counter = seed;
        let state = std::array::from_fn(|_| {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Rng { state }
    }

    /// The next 64 bits, all of them usable.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let result = s0.wrapping_add(s3).rotate_left(23).wrapping_add(s0);
        let (s2, s3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17), s3.rotate_left(45)];
        result
    }

    /// A number in `0..n`, each with the same probability. Panics if `n` is 0: there is nothing to draw.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a draw needs at least one outcome");
        // The high half of a product maps 2^64 inputs onto n outcomes. The first `2^64 mod n` values of each outcome's
        // low half are the surplus; redrawing them leaves every outcome with equally many inputs.
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let surplus = n.wrapping_neg() % n;
            while (product as u64) < surplus {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// A number in the range, both ends included. Panics if the range is empty.
    pub fn range(&mut self, range: RangeInclusive<i64>) -> i64 {
        let (low, high) = range.into_inner();
        assert!(low <= high, "an empty range has nothing to draw");
        let span = high.wrapping_sub(low) as u64;
        let offset = match span.checked_add(1) {
            Some(outcomes) => self.below(outcomes),
            None => self.next_u64(),
        };
        low.wrapping_add(offset as i64)
    }

    /// True `num` times out of `den` on average. Panics if `den` is 0.
    pub fn chance(&mut self, num: u64, den: u64) -> bool {
        self.below(den) < num
    }

    /// An element of the slice. Panics if it is empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A number in `0.0..1.0`, with all 53 bits of precision.
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Overwrites the buffer with random bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Puts the slice in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for last in (1..slice.len()).rev() {
            slice.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_published_algorithm() {
        // The reference implementation in C, started from the state 1, 2, 3, 4.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let first: [u64; 5] = std::array::from_fn(|_| rng.next_u64());
        assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205]);
    }

    #[test]
    fn equal_seeds_give_equal_sequences_and_different_seeds_do_not() {
        assert_eq!(Rng::seed(7).next_u64(), Rng::seed(7).next_u64());
        assert_ne!(Rng::seed(7).next_u64(), Rng::seed(8).next_u64());
        // SplitMix64 of 0, from its reference implementation.
        assert_eq!(Rng::seed(0).state[0], 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn bounded_draws_stay_in_bounds_and_reach_every_outcome_equally() {
        let mut rng = Rng::seed(1);
        for n in [1u64, 2, 3, 7, 10, 100] {
            let mut seen = vec![0u32; n as usize];
            let draws = 20_000 * n;
            for _ in 0..draws {
                seen[rng.below(n) as usize] += 1;
            }
            // Six standard deviations of a binomial with 20,000 expected hits.
            assert!(seen.iter().all(|&count| (19_150..20_850).contains(&count) || n == 1), "{n}: {seen:?}");
        }
        for _ in 0..1000 {
            assert!(rng.below(u64::MAX) < u64::MAX);
            assert!((-3..=5).contains(&rng.range(-3..=5)));
            assert!((0.0..1.0).contains(&rng.unit_f64()));
        }
        assert_eq!(rng.range(9..=9), 9);
        rng.range(i64::MIN..=i64::MAX);
    }

    #[test]
    fn a_bound_far_above_half_the_range_is_still_unbiased() {
        // With n = 3 * 2^62, plain `next_u64() % n` would give the lowest third half of all draws.
        let (mut rng, n) = (Rng::seed(2), 3u64 << 62);
        let low = (0..30_000).filter(|_| rng.below(n) < 1 << 62).count();
        assert!((9_500..10_500).contains(&low), "{low}");
    }

    #[test]
    fn chance_keeps_its_odds() {
        let mut rng = Rng::seed(3);
        let hits = (0..100_000).filter(|_| rng.chance(1, 4)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!(!rng.chance(0, 5) && rng.chance(5, 5));
    }

    #[test]
    fn fill_covers_every_byte_of_any_length() {
        for len in 0..40 {
            let (mut rng, mut ored) = (Rng::seed(len as u64), vec![0u8; len]);
            for _ in 0..64 {
                let mut buffer = vec![0; len];
                rng.fill(&mut buffer);
                ored.iter_mut().zip(&buffer).for_each(|(all, byte)| *all |= byte);
            }
            assert!(ored.iter().all(|&byte| byte == 0xff));
        }
    }

    #[test]
    fn a_shuffle_keeps_what_it_was_given() {
        let mut rng = Rng::seed(4);
        let mut deck: Vec<u32> = (0..52).collect();
        rng.shuffle(&mut deck);
        assert_ne!(deck, (0..52).collect::<Vec<_>>());
        assert!(deck.contains(rng.pick(&deck.clone())));
        deck.sort_unstable();
        assert_eq!(deck, (0..52).collect::<Vec<_>>());
    }
}
