//! A string that is kept compressed (LZ4, by the crate lz4_flex) and handed out as it was.
//!
//! ```text
//!   text     [ 64 KiB ][ 64 KiB ] …  [ the rest ]
//!   packed   [ n: u32 ][ n bytes ] [ n: u32 ][ n bytes ] …       little-endian; the top bit of n says: kept as it was
//! ```
//!
//! The text is cut into blocks that are packed on their own. So a part of a long text is read by unpacking its blocks alone, and a long
//! text can be packed a block at a time, between other work: [`Packer`]. LZ4 looks back 64 KiB at most, so longer blocks would gain
//! little. A value of this type is only ever read or replaced, never changed: whoever writes to the string unpacks it.
//!
//! Belongs to its record, on its shard's core. Absent on purpose: dictionaries shared by values, and a stronger method. A read pays for the
//! unpacking each time, about a microsecond for 2 KB.

use super::object::{DataType, in_object};
use crate::base::num::DIGITS_MAX;

/// Bytes of text in one block.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Texts shorter than this are not packed: what a packed value costs beside its bytes would eat the gain.
pub const TEXT_BYTES_MIN: usize = 64;

/// What a packed text must be shorter by, as a part of the text: an eighth.
const GAIN_MIN_PART: usize = 8;

/// In the length of a block: it is kept as it was, since LZ4 would have made it longer.
const PLAIN: u32 = 1 << 31;

const _: () = assert!(TEXT_BYTES_MIN > DIGITS_MAX, "integers are never packed");
const _: () = assert!(BLOCK_BYTES < PLAIN as usize, "the length of a block leaves its top bit free");

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Packed {
    bytes: Box<[u8]>,
    text_len: usize,
}

impl Packed {
    /// Packs a text; none if that gains less than an eighth.
    pub fn pack(text: &[u8]) -> Option<Packed> {
        if text.len() < TEXT_BYTES_MIN {
            return None;
        }
        let mut packer = Packer::default();
        while !packer.step(text) {
            if packer.is_hopeless() {
                return None;
            }
        }
        packer.finish(text)
    }

    /// The length of the text.
    pub fn text_len(&self) -> usize {
        self.text_len
    }

    /// The length of what is kept of it.
    pub fn packed_len(&self) -> usize {
        self.bytes.len()
    }

    /// The text.
    pub fn text(&self) -> Vec<u8> {
        self.part(0..self.text_len)
    }

    /// A part of the text. Panics if the range does not lie within it.
    pub fn part(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        assert!(range.start <= range.end && range.end <= self.text_len, "the part lies within the text");
        let mut text = Vec::with_capacity(range.len());
        let mut block = [0; BLOCK_BYTES];
        let (mut rest, mut at) = (&*self.bytes, 0);
        while text.len() < range.len() {
            let (stored, plain, behind) = first_block(rest);
            let len = (self.text_len - at).min(BLOCK_BYTES);
            let wanted = range.start.clamp(at, at + len) - at..range.end.clamp(at, at + len) - at;
            if plain {
                text.extend_from_slice(&stored[wanted]);
            } else if !wanted.is_empty() {
                let unpacked = lz4_flex::block::decompress_into(stored, &mut block[..len]);
                assert_eq!(unpacked.ok(), Some(len), "what was packed here can be unpacked");
                text.extend_from_slice(&block[wanted]);
            }
            (rest, at) = (behind, at + len);
        }
        text
    }
}

/// The first block's stored bytes, whether they are as they were, and what follows them.
fn first_block(packed: &[u8]) -> (&[u8], bool, &[u8]) {
    let (head, rest) = packed.split_first_chunk().expect("there are as many blocks as the text has");
    let head = u32::from_le_bytes(*head);
    let (stored, behind) = rest.split_at((head & !PLAIN) as usize);
    (stored, head & PLAIN != 0, behind)
}

/// A text that is being packed, a block at a time. The caller hands in the same text with every step.
#[derive(Default)]
pub struct Packer {
    bytes: Vec<u8>,
    done: usize,
}

impl Packer {
    /// Packs the next block; true when it was the last.
    pub fn step(&mut self, text: &[u8]) -> bool {
        let block = &text[self.done..(self.done + BLOCK_BYTES).min(text.len())];
        let head_at = self.bytes.len();
        let bound = lz4_flex::block::get_maximum_output_size(block.len());
        self.bytes.resize(head_at + size_of::<u32>() + bound, 0);
        let room = &mut self.bytes[head_at + size_of::<u32>()..];
        let packed = lz4_flex::block::compress_into(block, room).expect("there is room for the worst case");
        let (len, flag) = if packed < block.len() {
            (packed, 0)
        } else {
            room[..block.len()].copy_from_slice(block);
            (block.len(), PLAIN)
        };
        self.bytes.truncate(head_at + size_of::<u32>() + len);
        let head = u32::try_from(len).expect("a block is short") | flag;
        self.bytes[head_at..head_at + size_of::<u32>()].copy_from_slice(&head.to_le_bytes());
        self.done += block.len();
        self.done == text.len()
    }

    /// Whether what was packed so far has gained nothing: what follows is hardly better.
    pub fn is_hopeless(&self) -> bool {
        self.bytes.len() >= self.done
    }

    /// The packed text, if it has gained enough. Panics unless all blocks were packed.
    pub fn finish(mut self, text: &[u8]) -> Option<Packed> {
        assert_eq!(self.done, text.len(), "all blocks were packed");
        if self.bytes.len() > text.len() - text.len() / GAIN_MIN_PART {
            return None;
        }
        self.bytes.shrink_to_fit();
        Some(Packed { bytes: self.bytes.into_boxed_slice(), text_len: text.len() })
    }
}

impl DataType for Packed {
    const NAME: &'static str = "string";
    const DIES_EMPTY: bool = false;

    fn len(&self) -> usize {
        self.text_len
    }

    fn encoding(&self) -> &'static str {
        "lz4"
    }

    fn allocated_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn parts(&self) -> usize {
        1
    }

    fn free_some(&mut self, _elements_max: usize) -> bool {
        self.bytes = Box::default();
        false
    }

    in_object!(Packed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// Words from a small set, with some noise between them.
    fn text_of(rng: &mut Rng, len: usize, noise: u64) -> Vec<u8> {
        let words: [&[u8]; 4] = [b"session:", b"\"user\":{\"id\":", b"true,", b"        "];
        let mut text = Vec::new();
        while text.len() < len {
            match rng.below(100) < noise {
                true => text.push(rng.next_u64() as u8),
                false => text.extend_from_slice(words[rng.below(4) as usize]),
            }
        }
        text.truncate(len);
        text
    }

    #[test]
    fn what_is_packed_is_handed_out_as_it_was_whole_and_in_parts() {
        let mut rng = Rng::seed(11);
        for len in [64, 65, 1000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7] {
            for noise in [0, 30] {
                let text = text_of(&mut rng, len, noise);
                let packed = Packed::pack(&text).unwrap_or_else(|| panic!("{len} bytes of words can be packed"));
                assert!(packed.packed_len() < len, "{len}");
                assert_eq!(packed.text_len(), len);
                assert!(packed.text() == text, "{len}");
                for _ in 0..50 {
                    let (a, b) = (rng.below(len as u64 + 1) as usize, rng.below(len as u64 + 1) as usize);
                    let range = a.min(b)..a.max(b);
                    assert!(packed.part(range.clone()) == text[range.clone()], "{range:?} of {len}");
                }
            }
        }
    }

    #[test]
    fn noise_and_short_texts_are_left_as_they_are() {
        let mut rng = Rng::seed(12);
        assert_eq!(Packed::pack(&text_of(&mut rng, 5000, 100)), None);
        assert_eq!(Packed::pack(&text_of(&mut rng, 5 * BLOCK_BYTES, 100)), None);
        assert_eq!(Packed::pack(&[b'x'; TEXT_BYTES_MIN - 1]), None);
        assert!(Packed::pack(&[b'x'; TEXT_BYTES_MIN]).is_some());
    }

    #[test]
    fn a_block_of_noise_between_blocks_of_words_is_kept_as_it_was() {
        let mut rng = Rng::seed(13);
        let mut text = text_of(&mut rng, BLOCK_BYTES, 0);
        text.extend(text_of(&mut rng, BLOCK_BYTES, 100));
        text.extend(text_of(&mut rng, BLOCK_BYTES / 2, 0));
        let packed = Packed::pack(&text).unwrap();
        assert!(packed.packed_len() > BLOCK_BYTES && packed.packed_len() < 2 * BLOCK_BYTES);
        assert!(packed.text() == text);
        assert!(packed.part(BLOCK_BYTES + 5..BLOCK_BYTES + 9) == text[BLOCK_BYTES + 5..BLOCK_BYTES + 9]);
    }
}
