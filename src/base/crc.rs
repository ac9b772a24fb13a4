//! The checksum that maps keys to slots: CRC16/XMODEM, as Redis Cluster fixed it, and the `{hashtag}` rule on top.
//!
//! CRC16/XMODEM: polynomial 0x1021, start value 0, most significant bit first, nothing inverted; the check value of
//! `123456789` is 0x31c3 (Redis Cluster specification, appendix A).
//!
//! Absent on purpose: CRC64, which belongs to the RDB format and comes from a crate.

use memchr::memchr;

/// Keys live in this many slots, whatever the number of shards or nodes.
pub const SLOTS: u16 = 16384;

/// `TABLES[n][b]` is the checksum of byte `b` followed by `n` zero bytes. A checksum is linear, so that of eight bytes
/// is the exclusive or of eight look-ups that do not wait for each other, where one table would make a chain of eight.
/// 4 KiB: small enough to stay in the first-level cache next to the keys.
static TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
};

/// CRC16/XMODEM of the bytes.
pub fn crc16(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut crc = 0u16;
    for &[b0, b1, b2, b3, b4, b5, b6, b7] in words {
        // The checksum so far meets the first two bytes; the other six enter as they are.
        let [high, low] = crc.to_be_bytes();
        crc = TABLES[7][usize::from(b0 ^ high)]
            ^ TABLES[6][usize::from(b1 ^ low)]
            ^ TABLES[5][usize::from(b2)]
            ^ TABLES[4][usize::from(b3)]
            ^ TABLES[3][usize::from(b4)]
            ^ TABLES[2][usize::from(b5)]
            ^ TABLES[1][usize::from(b6)]
            ^ TABLES[0][usize::from(b7)];
    }
    for &byte in rest {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

/// The part of a key that decides its slot: what stands between the first `{` and the first `}` after it if that is
/// not empty, the whole key otherwise.
pub fn hashtag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr(b'{', key) else {
        return key;
    };
    let inside = &key[open + 1..];
    match memchr(b'}', inside) {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

/// The slot of a key: `0..SLOTS`.
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hashtag(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn crc16_bit_by_bit(bytes: &[u8]) -> u16 {
        let mut crc = 0u16;
        for &byte in bytes {
            for bit in (0..8).rev() {
                let feedback = (crc >> 15) ^ u16::from(byte >> bit & 1);
                crc = (crc << 1) ^ (feedback * 0x1021);
            }
        }
        crc
    }

    #[test]
    fn the_check_value_is_that_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn eight_bytes_at_a_time_give_what_bit_by_bit_gives() {
        let seed = 0xc2c;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for _ in 0..3000 {
            let mut bytes = vec![0; rng.below(100) as usize];
            rng.fill(&mut bytes);
            assert_eq!(crc16(&bytes), crc16_bit_by_bit(&bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_hashtag_is_what_the_first_braces_hold_unless_that_is_nothing() {
        let rows: &[(&str, &str)] = &[
            ("", ""),
            ("foo", "foo"),
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
            ("foo}bar{", "foo}bar{"),
            ("}{a}", "a"),
            ("{", "{"),
            ("{}", "{}"),
            ("{a}", "a"),
        ];
        for (key, tag) in rows {
            assert_eq!(hashtag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // CLUSTER KEYSLOT of redis-server 7.0.15.
        let rows: &[(&str, u16)] = &[
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("hello", 866),
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
        ];
        for (key, slot) in rows {
            assert_eq!(key_slot(key.as_bytes()), *slot, "{key}");
        }
    }
}
