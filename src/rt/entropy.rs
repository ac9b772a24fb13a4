//! Randomness from the kernel: seeds for the generators below `rt`, identifiers of runs.
//!
//! Not for a hot path: each call is a system call. Whoever needs many numbers seeds a `base::rng::Rng`.
#![expect(unsafe_code, reason = "getrandom(2)")]

/// Fills the buffer from the kernel's generator. Blocks only in the first moments of a machine's life. The system call
/// exists since 3.17 and cannot fail with these arguments; if it does, the process cannot go on safely.
pub fn fill(buffer: &mut [u8]) {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        // SAFETY: `rest` is writable for its length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => {
                let error = std::io::Error::last_os_error();
                assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "getrandom: {error}");
            }
        }
    }
}

/// A random number.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Forty random hex digits: the form of Redis's run and replication identifiers.
pub fn hex_id() -> String {
    let mut bytes = [0; 20];
    fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_identifier_is_forty_hex_digits_and_each_is_another() {
        let ids: Vec<String> = (0..3).map(|_| super::hex_id()).collect();
        assert!(ids.iter().all(|id| id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(ids[0] != ids[1] && ids[1] != ids[2]);
        assert_ne!(super::u64(), super::u64());
    }
}
