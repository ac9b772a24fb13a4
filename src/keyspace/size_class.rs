//! What an allocation really costs.
//!
//! jemalloc rounds each request up to a size class: multiples of 16 bytes up to 128, then four classes per doubling
//! (jemalloc 5 manual, "SIZE CLASSES", with the 16-byte quantum of 64-bit machines). Records and segments ask for whole
//! classes: nothing is lost to rounding that could have held a longer value or another slot, and the memory we report
//! is the memory that is gone.
//!
//! Absent on purpose: asking the allocator. Under another one the numbers are a close guess, and nothing breaks.

/// The size of the block that the allocator hands out for a request of `bytes`; at least 16.
pub(super) const fn size_class(bytes: usize) -> usize {
    let quantum = match bytes {
        0 => return 16,
        1..=128 => 16,
        _ => 1 << ((bytes - 1).ilog2() - 2),
    };
    bytes.next_multiple_of(quantum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_jemalloc_manual() {
        let classes = [
            16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536,
            1792, 2048, 2560, 3072, 3584, 4096, 5120,
        ];
        let mut smaller = 0;
        for class in classes {
            for bytes in smaller + 1..=class {
                assert_eq!(size_class(bytes), class, "for {bytes} bytes");
            }
            smaller = class;
        }
    }
}
