//! The checksum of an RDB file, of bytes that come piece by piece and from several writers.
//!
//! It is Jones's CRC64 (polynomial 0xad93d23594c935a9, reflected, initial value 0, nothing added at the end), as Redis has computed it
//! since version 5 of the format. It is linear, so the sum of two parts one behind the other follows from the sums of the two and the
//! length of the second: shards sum up their parts alone, and a header may be written when all else is known.
//!
//! Plain values. The arithmetic is that of the crate `crc-fast`, by carry-less multiplication. Absent on purpose: payloads of DUMP, which
//! are so short that a table is as fast.

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

/// The sum of some bytes, and how many there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    crc: u64,
    bytes: u64,
}

impl Sum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.update(bytes);
        sum
    }

    /// Adds what follows. Pieces of some kilobytes are fastest.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Redis, self.crc);
        digest.update(bytes);
        self.crc = digest.finalize();
        self.bytes += bytes.len() as u64;
    }

    /// The sum of these bytes and `next` behind them. Takes some hundred microseconds.
    pub fn then(self, next: Sum) -> Sum {
        Sum {
            crc: checksum_combine(CrcAlgorithm::Crc64Redis, self.crc, next.crc, next.bytes),
            bytes: self.bytes + next.bytes,
        }
    }

    /// The checksum, which a file has in little-endian order.
    pub fn crc64(self) -> u64 {
        self.crc
    }

    /// How many bytes were summed.
    pub fn bytes(self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn it_is_the_checksum_of_redis() {
        assert_eq!(Sum::of(b"123456789").crc64(), 0xe9c6_d914_c4b8_d9ca);
        let mut rng = Rng::seed(5);
        for len in (0..300).chain([1000, 4096, 65_537]) {
            let mut bytes = vec![0; len];
            rng.fill(&mut bytes);
            assert_eq!(Sum::of(&bytes).crc64(), crc64::crc64(0, &bytes), "{len} bytes");
        }
    }

    #[test]
    fn pieces_and_parts_sum_up_to_the_whole() {
        let mut rng = Rng::seed(6);
        let mut bytes = vec![0; 5000];
        rng.fill(&mut bytes);
        let whole = Sum::of(&bytes);
        for cut in [0, 1, 9, 63, 64, 2500, 4999, 5000] {
            let (front, back) = bytes.split_at(cut);
            let mut pieces = Sum::of(front);
            pieces.update(back);
            assert_eq!(pieces, whole, "in pieces, cut at {cut}");
            assert_eq!(Sum::of(front).then(Sum::of(back)), whole, "in parts, cut at {cut}");
        }
    }
}
