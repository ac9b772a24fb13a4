//! Sets: a sorted array while all members are integers, a listpack while small, a table above.
//!
//! ```text
//!   intset      [ 1 5 9 ]                    up to set-max-intset-entries integers
//!   listpack    [ a 1 b ]                    up to set-max-listpack-entries members of up to set-max-listpack-value bytes
//!   hashtable   Dict of boxed members
//! ```
//!
//! A set changes to the right only, as in Redis 7.2: what it has become by growing it stays.
//!
//! A value of one key, used on its shard's core; copies and snapshots share the segments of a table. Invariant: no member twice.
//! Absent on purpose: the algebra of several sets, which is the commands'.

use std::collections::HashSet;

use super::dict::{Dict, DictSnapshot};
use super::intset::IntSet;
use super::listpack::{Item, Listpack};
use super::object::{DataType, in_object};

/// When a set changes its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetLimits {
    /// `set-max-intset-entries`.
    pub intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub listpack_entries: usize,
    /// `set-max-listpack-value`, bytes.
    pub listpack_value: usize,
}

type Table = Dict<Box<[u8]>>;

#[derive(Clone)]
enum Repr {
    Ints(IntSet),
    Packed(Listpack),
    Table(Box<Table>),
}

/// See the module.
#[derive(Clone)]
pub struct Set {
    repr: Repr,
}

impl Default for Set {
    fn default() -> Set {
        Set { repr: Repr::Ints(IntSet::default()) }
    }
}

impl DataType for Set {
    const NAME: &'static str = "set";

    #[inline]
    fn len(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.len(),
            Repr::Packed(pack) => pack.len(),
            Repr::Table(table) => table.len(),
        }
    }

    fn encoding(&self) -> &'static str {
        match self.repr {
            Repr::Ints(_) => "intset",
            Repr::Packed(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    fn allocated_bytes(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.allocated_bytes(),
            Repr::Packed(pack) => pack.allocated_bytes(),
            Repr::Table(table) => {
                // A few members stand for the others.
                let few: Vec<usize> = table.iter().take(32).map(|member| member.len().next_multiple_of(16)).collect();
                let mean = few.iter().sum::<usize>() / few.len().max(1);
                size_of::<Table>() + table.allocated_bytes() + table.len() * mean
            }
        }
    }

    fn free_some(&mut self, elements_max: usize) -> bool {
        match &mut self.repr {
            Repr::Ints(_) | Repr::Packed(_) => false,
            Repr::Table(table) => table.free_some(elements_max),
        }
    }

    in_object!(Set);
}

impl Set {
    /// Makes ready for so many members: a small encoding that they cannot keep is left before they come.
    pub fn expect(&mut self, members: usize, limits: SetLimits) {
        let too_many = match self.repr {
            // Whether they are integers will be seen.
            Repr::Ints(_) => members > limits.intset_entries.max(limits.listpack_entries),
            Repr::Packed(_) => members > limits.listpack_entries,
            Repr::Table(_) => false,
        };
        if too_many {
            self.make_table();
        }
    }

    /// Adds a member; whether it was not there.
    pub fn add(&mut self, member: &[u8], limits: SetLimits) -> bool {
        match &mut self.repr {
            Repr::Table(table) => table.add(member, || member.into()),
            Repr::Ints(ints) => {
                if let Item::Int(number) = Item::of(member) {
                    let added = ints.add(number);
                    if ints.len() > limits.intset_entries {
                        self.make_table();
                    }
                    return added;
                }
                let (lowest, highest) = (0, ints.len().saturating_sub(1));
                let widest = match ints.is_empty() {
                    true => 0,
                    false => [lowest, highest].into_iter().map(|at| Item::Int(ints.get(at)).len()).max().unwrap_or(0),
                };
                let packs = ints.len() < limits.listpack_entries && member.len().max(widest) <= limits.listpack_value;
                if packs {
                    let mut pack = Listpack::new();
                    ints.iter().for_each(|number| pack.push_back(&Item::Int(number).text()));
                    pack.push_back(member);
                    self.repr = Repr::Packed(pack);
                    return true;
                }
                self.make_table();
                self.add(member, limits)
            }
            Repr::Packed(pack) => {
                if let Some(first) = pack.first()
                    && pack.find(member, first, 0).is_some()
                {
                    return false;
                }
                if pack.len() < limits.listpack_entries && member.len() <= limits.listpack_value {
                    pack.push_back(member);
                    return true;
                }
                self.make_table();
                self.add(member, limits)
            }
        }
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Table(table) => table.remove_key(member).is_some(),
            Repr::Ints(ints) => Item::of(member).as_i64().is_some_and(|number| ints.remove(number)),
            Repr::Packed(pack) => match pack.first().and_then(|first| pack.find(member, first, 0)) {
                Some(at) => {
                    pack.remove(at);
                    true
                }
                None => false,
            },
        }
    }

    /// Whether a member is in the set.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.repr {
            Repr::Table(table) => table.get(member).is_some(),
            Repr::Ints(ints) => Item::of(member).as_i64().is_some_and(|number| ints.contains(number)),
            Repr::Packed(pack) => pack.first().is_some_and(|first| pack.find(member, first, 0).is_some()),
        }
    }

    /// Shows all members, in no order, until `visit` returns false.
    pub fn walk<'a>(&'a self, mut visit: impl FnMut(Item<'a>) -> bool) {
        match &self.repr {
            Repr::Ints(ints) => drop(ints.iter().all(|number| visit(Item::Int(number)))),
            Repr::Packed(pack) => drop(pack.iter().all(visit)),
            Repr::Table(table) => drop(table.iter().all(|member| visit(Item::Bytes(member)))),
        }
    }

    /// A member at random, all with the same probability; none if there are none. `below(n)` draws from `0..n`.
    pub fn random(&self, mut below: impl FnMut(u64) -> u64) -> Option<Item<'_>> {
        if self.is_empty() {
            return None;
        }
        match &self.repr {
            Repr::Ints(ints) => Some(Item::Int(ints.get(below(ints.len() as u64) as usize))),
            Repr::Packed(pack) => pack.seek(below(pack.len() as u64) as i64).map(|at| pack.get(at)),
            Repr::Table(table) => table.random(below).map(|member| Item::Bytes(member)),
        }
    }

    /// `count` different members at random, or all if there are not as many.
    pub fn sample(&self, count: usize, mut below: impl FnMut(u64) -> u64) -> Vec<Item<'_>> {
        let len = self.len();
        if count.saturating_mul(3) > len || !matches!(self.repr, Repr::Table(_)) {
            let mut all = Vec::with_capacity(len);
            self.walk(|member| {
                all.push(member);
                true
            });
            let count = count.min(len);
            if count < len {
                for at in 0..count {
                    all.swap(at, at + below((len - at) as u64) as usize);
                }
                all.truncate(count);
            }
            return all;
        }
        // Few of many: drawn until there are as many different ones.
        let mut drawn: HashSet<&[u8], ahash::RandomState> = HashSet::default();
        while drawn.len() < count {
            if let Some(Item::Bytes(member)) = self.random(&mut below) {
                drawn.insert(member);
            }
        }
        drawn.into_iter().map(Item::Bytes).collect()
    }

    /// One call of a scan; see [`Dict::scan`]. The small encodings show everything at once.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'_>)) -> u64 {
        match &self.repr {
            Repr::Table(table) => table.scan_keys(cursor, count, |member| visit(Item::Bytes(member))),
            Repr::Ints(_) | Repr::Packed(_) => {
                self.walk(|member| {
                    visit(member);
                    true
                });
                0
            }
        }
    }

    /// A reader of all members of a large set, with a snapshot of its own; none for the small encodings.
    pub fn snapshot(&self) -> Option<DictSnapshot<Box<[u8]>>> {
        match &self.repr {
            Repr::Table(table) => Some(table.snapshot()),
            Repr::Ints(_) | Repr::Packed(_) => None,
        }
    }

    /// The integers, if they are kept as such.
    pub fn as_ints(&self) -> Option<&IntSet> {
        match &self.repr {
            Repr::Ints(ints) => Some(ints),
            Repr::Packed(_) | Repr::Table(_) => None,
        }
    }

    fn make_table(&mut self) {
        let mut table = Box::<Table>::default();
        self.walk(|member| {
            table.add(&member.text(), || (*member.text()).into());
            true
        });
        self.repr = Repr::Table(table);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::rng::Rng;

    const LIMITS: SetLimits = SetLimits { intset_entries: 20, listpack_entries: 10, listpack_value: 8 };

    fn members(set: &Set) -> BTreeSet<Vec<u8>> {
        let mut all = BTreeSet::new();
        set.walk(|member| {
            assert!(all.insert(member.to_vec()), "no member twice");
            true
        });
        all
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_tree() {
        let seed = 3;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let (mut set, mut model) = (Set::default(), BTreeSet::new());
            let (range, words) = (rng.range(3..=40), rng.below(4));
            for _ in 0..rng.below(60) {
                let member = match rng.below(4) < words {
                    true => format!("m{}", rng.range(0..=range)).into_bytes(),
                    false => rng.range(-range..=range).to_string().into_bytes(),
                };
                assert_eq!(set.contains(&member), model.contains(&member));
                if rng.chance(3, 4) {
                    assert_eq!(set.add(&member, LIMITS), model.insert(member));
                } else {
                    assert_eq!(set.remove(&member), model.remove(&member));
                }
            }
            seen.insert(set.encoding());
            assert_eq!(members(&set), model);
            assert_eq!(set.len(), model.len());
            let count = rng.below(12) as usize;
            let sample: BTreeSet<Vec<u8>> = set.sample(count, |n| rng.below(n)).iter().map(Item::to_vec).collect();
            assert_eq!(sample.len(), count.min(model.len()));
            assert!(sample.is_subset(&model));
            assert_eq!(set.random(|n| rng.below(n)).is_some(), !model.is_empty());
        }
        assert_eq!(seen.len(), 3, "all encodings were tried: {seen:?}");
    }

    #[test]
    fn encodings_change_at_their_limits() {
        let mut set = Set::default();
        (0..20).for_each(|n: i32| assert!(set.add(n.to_string().as_bytes(), LIMITS)));
        assert_eq!(set.encoding(), "intset");
        set.add(b"20", LIMITS);
        assert_eq!(set.encoding(), "hashtable");

        let mut set = Set::default();
        (0..9).for_each(|n: i32| assert!(set.add(n.to_string().as_bytes(), LIMITS)));
        set.add(b"a", LIMITS);
        assert_eq!(set.encoding(), "listpack");
        set.add(b"b", LIMITS);
        assert_eq!(set.encoding(), "hashtable");

        let mut set = Set::default();
        set.add(b"12345678", LIMITS);
        set.add(b"123456789", LIMITS);
        set.add(b"a", LIMITS);
        assert_eq!(set.encoding(), "hashtable", "an integer of nine digits is too long for a listpack");

        let mut set = Set::default();
        set.add(b"abcdefghi", LIMITS);
        assert_eq!(set.encoding(), "hashtable");
    }
}
