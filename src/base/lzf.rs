//! LZF, the compression of RDB strings and of inner nodes of long lists: small, quick, and byte-oriented.
//!
//! ```text
//!   000nnnnn  byte × (n + 1)                    literals: 1 to 32 bytes as they are
//!   lllooooo oooooooo                           copy l + 2 bytes (3 to 8) from o + 1 bytes back (1 to 8192)
//!   111ooooo llllllll oooooooo                  the same for l + 9 bytes (9 to 264)
//! ```
//!
//! The length of the original is not in the stream: whoever keeps the stream keeps it too, and [`decompress`] holds the two against
//! each other. Three bytes give 264 at most, so a length that the stream cannot reach is refused before anything is allocated.
//!
//! Pure functions. Invariant: what [`compress`] makes, [`decompress`] turns back. Absent on purpose: checksums, and streams that
//! come in pieces.

/// The longest run of literals.
const LITERALS_MAX: usize = 32;
/// The shortest and the longest copy.
const COPY_MIN: usize = 3;
const COPY_MAX: usize = 264;
/// How far back a copy reaches.
const DISTANCE_MAX: usize = 1 << 13;
/// Where three bytes were last seen: at most so many places are remembered, a power of two of `u32`.
const TABLE_BITS_MAX: u32 = 13;

/// The bytes compressed, if that takes at most `bytes_max`.
pub fn compress(input: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    // Places are kept in 32 bits; nobody compresses 4 GiB in one piece.
    if input.len() < COPY_MIN + 1 || u32::try_from(input.len()).is_err() {
        return None;
    }
    let bits = (input.len().ilog2() + 1).clamp(4, TABLE_BITS_MAX);
    // Place + 1 of the last triple with this hash; 0 is none.
    let mut seen = vec![0u32; 1 << bits];
    let mut out = Vec::with_capacity(bytes_max.min(input.len()));
    let (mut at, mut literals_from) = (0, 0);
    while at + COPY_MIN <= input.len() {
        let slot = &mut seen[hash(&input[at..], bits)];
        let before = *slot as usize;
        *slot = at as u32 + 1;
        if before == 0 || at + 1 - before > DISTANCE_MAX {
            at += 1;
            continue;
        }
        let from = before - 1;
        let len = common(&input[from..], &input[at..]);
        if len < COPY_MIN {
            at += 1;
            continue;
        }
        push_literals(&mut out, &input[literals_from..at]);
        push_copy(&mut out, at - from, len);
        if out.len() > bytes_max {
            return None;
        }
        // The triples at the end of the copy are remembered too: what follows often goes on from there.
        let end = at + len;
        for inside in (end - 2..end).filter(|inside| inside + COPY_MIN <= input.len()) {
            seen[hash(&input[inside..], bits)] = inside as u32 + 1;
        }
        at = end;
        literals_from = end;
    }
    push_literals(&mut out, &input[literals_from..]);
    (out.len() <= bytes_max).then_some(out)
}

/// The original, if these bytes are a stream of exactly `len` bytes.
pub fn decompress(input: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > input.len().div_ceil(COPY_MIN).saturating_mul(COPY_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = input;
    while let Some((&control, behind)) = rest.split_first() {
        let long = usize::from(control >> 5);
        if long == 0 {
            let (literals, behind) = behind.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(literals);
            rest = behind;
        } else {
            let (extra, behind) = if long == 7 { split_byte(behind)? } else { (0, behind) };
            let (low, behind) = split_byte(behind)?;
            let distance = (usize::from(control & 0x1f) << 8 | low) + 1;
            let mut left = long + extra + 2;
            let from = out.len().checked_sub(distance)?;
            if out.len() + left > len {
                return None;
            }
            // A copy may reach into what it writes: it repeats the last `distance` bytes then, twice as many with each round.
            while left > 0 {
                let piece = left.min(out.len() - from);
                out.extend_from_within(from..from + piece);
                left -= piece;
            }
            rest = behind;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

fn split_byte(bytes: &[u8]) -> Option<(usize, &[u8])> {
    bytes.split_first().map(|(first, rest)| (usize::from(*first), rest))
}

fn hash(bytes: &[u8], bits: u32) -> usize {
    let triple = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    // Knuth's multiplicative hash: the upper bits are the mixed ones.
    (triple.wrapping_mul(2_654_435_761) >> (32 - bits)) as usize
}

/// How many bytes two places have in common, as far as one copy reaches.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take(COPY_MAX).take_while(|(a, b)| a == b).count()
}

fn push_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn push_copy(out: &mut Vec<u8>, distance: usize, len: usize) {
    let [high, low] = (distance as u16 - 1).to_be_bytes();
    let long = len - 2;
    if long < 7 {
        out.push((long as u8) << 5 | high);
    } else {
        out.push(7 << 5 | high);
        out.push((long - 7) as u8);
    }
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn some_bytes(rng: &mut Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        let longest = if rng.chance(1, 10) { 30_000 } else { 400 };
        let len = rng.below(longest) as usize;
        let letters = *rng.pick(&[1, 2, 4, 26, 256]);
        while bytes.len() < len {
            if rng.chance(1, 3) && !bytes.is_empty() {
                let from = rng.below(bytes.len() as u64) as usize;
                let to = bytes.len().min(from + rng.below(400) as usize);
                let piece = bytes[from..to].to_vec();
                bytes.extend(piece);
            } else {
                let run = rng.below(50);
                bytes.extend((0..run).map(|_| rng.below(letters) as u8));
            }
        }
        bytes
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let seed = 12;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        let mut shrunk = 0;
        for _ in 0..600 {
            let bytes = some_bytes(&mut rng);
            let Some(packed) = compress(&bytes, usize::MAX) else {
                assert!(bytes.len() < 4);
                continue;
            };
            shrunk += u32::from(packed.len() < bytes.len());
            assert_eq!(decompress(&packed, bytes.len()).as_deref(), Some(&bytes[..]));
            assert_eq!(compress(&bytes, packed.len()).as_ref(), Some(&packed));
            assert_eq!(compress(&bytes, packed.len() - 1), None);
            assert_eq!(decompress(&packed, bytes.len() + 1), None);
            assert_eq!(decompress(&packed, bytes.len() - 1), None);
        }
        assert!(shrunk > 150, "{shrunk}");
    }

    #[test]
    fn a_repeated_byte_takes_three_bytes_for_264() {
        let packed = compress(&[b'a'; 10_000], 200).expect("it repeats");
        assert!(packed.len() <= 2 + 38 * 3, "{}", packed.len());
        assert_eq!(decompress(&packed, 10_000), Some(vec![b'a'; 10_000]));
    }

    #[test]
    fn streams_by_hand_are_read_as_drawn() {
        assert_eq!(decompress(b"\x02abc", 3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(decompress(b"\x02abc\x20\x02", 6).as_deref(), Some(&b"abcabc"[..]));
        assert_eq!(decompress(b"\x00a\xe0\x01\x00", 11).as_deref(), Some(&b"aaaaaaaaaaa"[..]));
        assert_eq!(decompress(b"", 0).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn damaged_streams_are_refused() {
        // Literals, a length and a distance that are not there; a copy from before the start; more than was said.
        for (stream, len) in
            [(&b"\x02ab"[..], 3), (b"\x00a\xe0", 9), (b"\x00a\x20", 4), (b"\x00a\x20\x01", 4), (b"\x02abc\x20\x02", 5)]
        {
            assert_eq!(decompress(stream, len), None, "{stream:?}");
        }
    }

    #[test]
    fn a_length_that_no_stream_of_this_size_gives_is_refused_unread() {
        assert_eq!(decompress(b"\x00a\xe0\xff\x00", usize::MAX), None);
        assert_eq!(decompress(b"\x00a\xe0\xff\x00", 1 << 40), None);
        assert_eq!(decompress(b"\x00a\xe0\xff\x00", 265).map(|bytes| bytes.len()), Some(265));
    }

    #[test]
    fn random_streams_never_give_more_than_was_said() {
        let seed = 5;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for _ in 0..20_000 {
            let mut stream = vec![0; rng.below(30) as usize];
            rng.fill(&mut stream);
            let len = rng.below(300) as usize;
            assert!(decompress(&stream, len).is_none_or(|out| out.len() == len));
        }
    }
}
