//! A sorted array of integers, as wide as the widest of them needs: what small sets of integers are.
//!
//! ```text
//!   [ bytes an element: u32 | elements: u32 | element … ]       little-endian; 2, 4 or 8 bytes an element
//! ```
//!
//! The layout is Redis's intset, so that a DUMP payload may copy it. Membership is a binary search; an insertion moves what is
//! behind it, which is why large sets are not kept so.
//!
//! A value, used on its shard's core alone. Invariants: ascending, no element twice, `width` suits all. Absent on purpose: limits.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntSet {
    bytes: Vec<u8>,
}

const HEADER: usize = 8;

impl Default for IntSet {
    fn default() -> IntSet {
        IntSet { bytes: vec![2, 0, 0, 0, 0, 0, 0, 0] }
    }
}

fn width_of(number: i64) -> usize {
    match number {
        _ if i16::try_from(number).is_ok() => 2,
        _ if i32::try_from(number).is_ok() => 4,
        _ => 8,
    }
}

impl IntSet {
    /// A copy of these bytes, if they are a valid intset.
    pub fn from_bytes(bytes: &[u8]) -> Option<IntSet> {
        let width = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let len = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
        if !matches!(width, 2 | 4 | 8) || width.checked_mul(len)?.checked_add(HEADER)? != bytes.len() {
            return None;
        }
        let set = IntSet { bytes: bytes.to_vec() };
        (1..len).all(|at| set.get(at - 1) < set.get(at)).then_some(set)
    }

    /// The bytes of the format.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        (self.bytes.len() - HEADER) / self.width()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// Element number `at`, which must be there; they ascend.
    pub fn get(&self, at: usize) -> i64 {
        let width = self.width();
        let from = HEADER + at * width;
        let mut wide = [0u8; 8];
        wide[8 - width..].copy_from_slice(&self.bytes[from..from + width]);
        i64::from_le_bytes(wide) >> (64 - 8 * width)
    }

    /// Where a number is, or where it would be.
    fn search(&self, number: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle).cmp(&number) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: i64) -> bool {
        self.search(number).is_ok()
    }

    /// Adds a number; whether it was not there.
    pub fn add(&mut self, number: i64) -> bool {
        let Err(at) = self.search(number) else { return false };
        if width_of(number) > self.width() {
            self.widen(width_of(number));
        }
        let (width, from, old) = (self.width(), HEADER + at * self.width(), self.bytes.len());
        self.bytes.reserve_exact(width);
        self.bytes.resize(old + width, 0);
        self.bytes.copy_within(from..old, from + width);
        self.bytes[from..from + width].copy_from_slice(&number.to_le_bytes()[..width]);
        self.note_len();
        true
    }

    /// Removes a number; whether it was there.
    pub fn remove(&mut self, number: i64) -> bool {
        let Ok(at) = self.search(number) else { return false };
        let from = HEADER + at * self.width();
        self.bytes.drain(from..from + self.width());
        self.note_len();
        true
    }

    /// All elements, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        (0..self.len()).map(|at| self.get(at))
    }

    fn widen(&mut self, width: usize) {
        let mut wider = Vec::with_capacity(HEADER + (self.len() + 1) * width);
        wider.extend_from_slice(&(width as u32).to_le_bytes());
        wider.extend_from_slice(&(self.len() as u32).to_le_bytes());
        self.iter().for_each(|number| wider.extend_from_slice(&number.to_le_bytes()[..width]));
        self.bytes = wider;
    }

    fn note_len(&mut self) {
        let len = self.len() as u32;
        self.bytes[4..HEADER].copy_from_slice(&len.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn random_changes_leave_what_they_leave_in_a_tree() {
        let seed = 99;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for bits in [8, 20, 40, 64] {
            let (mut set, mut model) = (IntSet::default(), BTreeSet::new());
            for _ in 0..800 {
                let number = rng.next_u64() as i64 >> (64 - bits) >> rng.below(6);
                if rng.chance(2, 3) {
                    assert_eq!(set.add(number), model.insert(number));
                } else {
                    let number = model.iter().next().copied().filter(|_| rng.chance(1, 2)).unwrap_or(number);
                    assert_eq!(set.remove(number), model.remove(&number));
                }
                assert!(set.iter().eq(model.iter().copied()));
                assert_eq!(set.contains(number), model.contains(&number));
            }
            assert_eq!(IntSet::from_bytes(set.as_bytes()), Some(set));
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut set = IntSet::default();
        [5, 7, 70_000].into_iter().for_each(|number| assert!(set.add(number)));
        let good = set.as_bytes().to_vec();
        assert_eq!(good[..8], [4, 0, 0, 0, 3, 0, 0, 0]);
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            assert_eq!(IntSet::from_bytes(&bytes), None);
        };
        refused(|bytes| bytes[0] = 3);
        refused(|bytes| bytes[4] = 4);
        refused(|bytes| bytes[7] = 0xff);
        refused(|bytes| bytes.truncate(7));
        refused(|bytes| bytes.push(0));
        refused(|bytes| bytes.swap(8, 12));
    }
}
