//! Passwords: kept as SHA-256 hashes, printed as hexadecimal digits, compared in constant time.
//!
//! As in Redis the hash has no salt: whoever can read the rules can attack weak passwords, so they are to be long and random (ACL
//! GENPASS). Absent on purpose: the password itself, once it was hashed.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The hash of one password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    /// Of this password.
    pub fn of(password: &[u8]) -> PasswordHash {
        PasswordHash(Sha256::digest(password).into())
    }

    /// From its 64 hexadecimal digits, in lower case.
    pub fn parse(hex: &[u8]) -> Option<PasswordHash> {
        if hex.len() != 64 {
            return None;
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(PasswordHash(hash))
    }

    /// Its 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether one of these is the hash of the password, in a time that does not tell which, nor how nearly.
    pub fn any_is_of(hashes: &[PasswordHash], password: &[u8]) -> bool {
        let given = PasswordHash::of(password);
        hashes.iter().fold(Choice::from(0), |found, hash| found | hash.0.ct_eq(&given.0)).into()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_standard_and_is_read_back() {
        let hash = PasswordHash::of(b"abc");
        assert_eq!(hash.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(PasswordHash::parse(hash.hex().as_bytes()), Some(hash));
        for bad in ["", "ba78", &hash.hex().to_uppercase(), &hash.hex().replace('b', "g"), &format!("{}0", hash.hex())]
        {
            assert_eq!(PasswordHash::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_found_among_several() {
        let hashes = [PasswordHash::of(b"one"), PasswordHash::of(b"two")];
        assert!(PasswordHash::any_is_of(&hashes, b"one") && PasswordHash::any_is_of(&hashes, b"two"));
        assert!(!PasswordHash::any_is_of(&hashes, b"three") && !PasswordHash::any_is_of(&[], b"one"));
    }

    #[test]
    fn a_hash_does_not_show_itself_in_debug_output() {
        let hash = PasswordHash::of(b"abc");
        assert!(!format!("{hash:?}").contains("ba78"));
    }
}
