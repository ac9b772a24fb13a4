//! Sorted sets: a listpack of members and scores in order while small, a table and an ordered tree above.
//!
//! ```text
//!   listpack     [ member score member score ]          up to zset-max-listpack-entries members of zset-max-listpack-value bytes
//!   skiplist     slab:   handle -> (score, member)      the name is Redis's, and what OBJECT ENCODING says
//!                index:  hash of the member -> handle
//!                tree:   (score, handle) in order, with counts
//! ```
//!
//! Members of equal score are in the order of their bytes. A position in that order is a rank, and every range is one of ranks:
//! its ends are found by [`Zset::count_while`].
//!
//! A million members of 14 bytes take 76 bytes each, where redis-server 7.0 takes 117 (`benches/compare --only elements`): a pair in
//! the tree 12, its place in the slab 24, the member's own allocation 16, the index 11, and slack.
//!
//! A value of one key, used on its shard's core.
//! Invariants: no member twice, no score is NaN; slab, index and tree hold the same members. Absent on purpose: the syntax of
//! ranges.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::dict::{self, Dict};
use super::listpack::{Item, Listpack, Pos};
use super::object::{DataType, in_object};
use super::order_tree::{OrderTree, Pair};
use crate::base::float::{parse_f64, push_f64_shortest};

/// When a sorted set changes its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZsetLimits {
    /// `zset-max-listpack-entries`, members.
    pub listpack_entries: usize,
    /// `zset-max-listpack-value`, bytes of a member.
    pub listpack_value: usize,
}

/// Members of one chunk of a slab: no allocation is larger.
const CHUNK: usize = 512;

/// So many members, and one of so many, are removed in one go where they are neighbours: see [`Large::remove_many`]. Looking through the
/// index takes some 50 ns an entry, removing one member by itself a microsecond.
const MANY_MIN: usize = 512;
/// See above.
const MANY_SHARE: usize = 16;

/// A member with its score. A free place has NaN, which no member has.
type Place = (f64, Box<[u8]>);

/// Members by handle, in chunks that copies share until one of them changes. A freed place is used again.
///
/// Places beyond twice the number of members and a chunk are given up from the end, a few with every member that leaves: see
/// [`Large::give_up_places`].
#[derive(Clone, Default)]
struct Slab {
    /// All are full but the last.
    chunks: Vec<Arc<Vec<Place>>>,
    /// Free places. Those behind the end have been given up since; a place is only added at the end when the list is empty.
    free: Vec<u32>,
}

impl Slab {
    #[inline]
    fn get(&self, handle: u32) -> &Place {
        &self.chunks[handle as usize / CHUNK][handle as usize % CHUNK]
    }

    fn get_mut(&mut self, handle: u32) -> &mut Place {
        &mut Arc::make_mut(&mut self.chunks[handle as usize / CHUNK])[handle as usize % CHUNK]
    }

    /// Places, free ones included.
    fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    fn take_free(&mut self) -> Option<u32> {
        let len = self.len();
        while let Some(handle) = self.free.pop() {
            if (handle as usize) < len {
                return Some(handle);
            }
        }
        None
    }

    fn add(&mut self, score: f64, member: Box<[u8]>) -> u32 {
        if let Some(handle) = self.take_free() {
            *self.get_mut(handle) = (score, member);
            return handle;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunks of a set that will stay small are small.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Arc::new(Vec::with_capacity(room)));
        }
        let chunk = Arc::make_mut(self.chunks.last_mut().expect("there is one with room"));
        chunk.push((score, member));
        u32::try_from(self.len() - 1).expect("fewer than 2^32 members")
    }

    fn remove(&mut self, handle: u32) {
        drop(self.take(handle));
        self.free.push(handle);
    }

    /// Takes a member out of its place, which is for the caller to give to somebody else.
    fn take(&mut self, handle: u32) -> Place {
        std::mem::replace(self.get_mut(handle), (f64::NAN, Box::default()))
    }

    /// Gives up the last place and hands out its member, if there is one.
    fn pop(&mut self) -> Option<Place> {
        let chunk = Arc::make_mut(self.chunks.last_mut()?);
        let place = chunk.pop().expect("no chunk is empty");
        if chunk.is_empty() {
            self.chunks.pop();
        }
        if self.free.len() > 2 * self.len() + CHUNK {
            let len = self.len();
            self.free.retain(|handle| (*handle as usize) < len);
            self.free.shrink_to_fit();
        }
        Some(place).filter(|(score, _)| !score.is_nan())
    }
}

#[derive(Clone, Default)]
struct Large {
    slab: Slab,
    index: Dict<u32>,
    tree: OrderTree,
}

impl Large {
    fn handle(&self, member: &[u8]) -> Option<u32> {
        self.index.find(dict::hash(member), |handle| *self.slab.get(*handle).1 == *member).copied()
    }

    /// Whether a pair comes in front of a member with its score.
    fn is_before(slab: &Slab, pair: Pair, score: f64, member: &[u8]) -> bool {
        match pair.0.partial_cmp(&score) {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) => *slab.get(pair.1).1 < *member,
            Some(Ordering::Greater) | None => false,
        }
    }

    fn rank(&self, handle: u32) -> usize {
        let (score, member) = self.slab.get(handle);
        self.tree.count_while(|pair| Large::is_before(&self.slab, pair, *score, member))
    }

    fn add(&mut self, member: &[u8], score: f64) {
        let handle = self.slab.add(score, member.into());
        let slab = &self.slab;
        self.index.insert_new(dict::hash(member), handle, |handle| dict::hash(&slab.get(*handle).1));
        self.tree.insert((score, handle), |pair| Large::is_before(slab, pair, score, member));
    }

    fn change_score(&mut self, handle: u32, score: f64) {
        let rank = self.rank(handle);
        self.tree.remove_at(rank);
        self.slab.get_mut(handle).0 = score;
        let slab = &self.slab;
        self.tree.insert((score, handle), |pair| Large::is_before(slab, pair, score, &slab.get(handle).1));
    }

    fn forget(&mut self, handle: u32) {
        let slab = &self.slab;
        let hashed = dict::hash(&slab.get(handle).1);
        self.index.remove(hashed, |other| *other == handle, |other| dict::hash(&slab.get(*other).1));
        self.slab.remove(handle);
        self.give_up_places();
    }

    /// Removes a range of ranks in one go: the tree is cut, and the index looked through once instead of searched for each member, which
    /// is a third to a fifth of the work where half of the members go. Returns those that went, in a set to be freed and not to be read.
    fn remove_many(&mut self, rank: usize, count: usize) -> Large {
        let mut gone = Large { tree: self.tree.cut(rank, count), ..Large::default() };
        let stay = self.tree.len();
        if stay < count / 8 {
            // So few that they make a set of their own sooner.
            let mut rest = Large::default();
            self.tree.change_handles(|handle| {
                let (score, member) = self.slab.take(handle);
                let hash = dict::hash(&member);
                let new = rest.slab.add(score, member);
                rest.index.insert_new(hash, new, |handle| dict::hash(&rest.slab.get(*handle).1));
                new
            });
            (rest.tree, self.tree) = (std::mem::take(&mut self.tree), gone.tree);
            return std::mem::replace(self, rest);
        }
        if self.slab.len() > 2 * stay + CHUNK {
            // Those that stay move together.
            let mut old = std::mem::take(&mut self.slab);
            let slab = &mut self.slab;
            let mut moved = vec![u32::MAX; old.len()];
            self.tree.change_handles(|handle| {
                let (score, member) = old.take(handle);
                let new = slab.add(score, member);
                moved[handle as usize] = new;
                new
            });
            let stays = |handle: &mut u32| {
                *handle = moved[*handle as usize];
                *handle != u32::MAX
            };
            self.index.retain(stays, |handle| dict::hash(&slab.get(*handle).1));
            gone.slab = old;
        } else {
            let slab = &mut self.slab;
            slab.free.reserve(count);
            gone.tree.walk(0, false, |(_, handle)| {
                let (_, member) = slab.take(handle);
                gone.slab.add(f64::NAN, member);
                slab.free.push(handle);
                true
            });
            let slab = &self.slab;
            self.index.retain(|handle| !slab.get(*handle).0.is_nan(), |handle| dict::hash(&slab.get(*handle).1));
        }
        gone
    }

    /// Gives up some places at the end if most are free, and moves their members to free ones. Every member that leaves calls for
    /// at most two; twice as many are given up, so a set that was large once comes down with its members.
    fn give_up_places(&mut self) {
        for _ in 0..4 {
            if self.slab.len() <= 2 * self.tree.len() + CHUNK {
                break;
            }
            let old = u32::try_from(self.slab.len() - 1).expect("fewer than 2^32 members");
            let is_free = self.slab.get(old).0.is_nan();
            let rank = if is_free { 0 } else { self.rank(old) };
            let Some((score, member)) = self.slab.pop() else { continue };
            let hashed = dict::hash(&member);
            let new = self.slab.add(score, member);
            self.tree.set_handle(rank, new);
            if let Some(handle) = self.index.find_mut(hashed, |handle| *handle == old) {
                *handle = new;
            }
        }
    }
}

#[derive(Clone)]
enum Repr {
    Packed(Listpack),
    Large(Box<Large>),
}

/// See the module.
#[derive(Clone)]
pub struct Zset {
    repr: Repr,
}

impl Default for Zset {
    fn default() -> Zset {
        Zset { repr: Repr::Packed(Listpack::new()) }
    }
}

impl DataType for Zset {
    const NAME: &'static str = "zset";

    #[inline]
    fn len(&self) -> usize {
        match &self.repr {
            Repr::Packed(pack) => pack.len() / 2,
            Repr::Large(large) => large.tree.len(),
        }
    }

    fn encoding(&self) -> &'static str {
        match self.repr {
            Repr::Packed(_) => "listpack",
            Repr::Large(_) => "skiplist",
        }
    }

    fn allocated_bytes(&self) -> usize {
        match &self.repr {
            Repr::Packed(pack) => pack.allocated_bytes(),
            Repr::Large(large) => {
                let slab = &large.slab;
                // A few members stand for the others.
                let few: Vec<usize> = slab
                    .chunks
                    .iter()
                    .flat_map(|chunk| chunk.iter())
                    .take(32)
                    .map(|(_, member)| member.len().next_multiple_of(16))
                    .collect();
                let mean = few.iter().sum::<usize>() / few.len().max(1);
                size_of::<Large>()
                    + slab.chunks.len() * (CHUNK * 24 + 24)
                    + slab.free.capacity() * 4
                    + large.tree.len() * mean
                    + large.index.allocated_bytes()
                    + large.tree.allocated_bytes()
            }
        }
    }

    fn free_some(&mut self, elements_max: usize) -> bool {
        let Repr::Large(large) = &mut self.repr else { return false };
        let more_in_index = large.index.free_some(elements_max);
        let more_in_tree = large.tree.free_some(elements_max);
        let mut freed = 0;
        while freed < elements_max
            && let Some(chunk) = large.slab.chunks.pop()
        {
            freed += chunk.len();
        }
        more_in_index || more_in_tree || !large.slab.chunks.is_empty()
    }

    in_object!(Zset);
}

/// The score behind a member of a listpack.
fn score_at(pack: &Listpack, at: Pos) -> f64 {
    score_of(pack.get(at))
}

fn score_of(item: Item<'_>) -> f64 {
    match item {
        Item::Int(number) => number as f64,
        Item::Bytes(text) => parse_f64(text).expect("a score is stored as the text of a number"),
    }
}

fn score_text(score: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(24);
    push_f64_shortest(&mut text, score);
    text
}

/// The order of members: by score, then by bytes.
fn order(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0).expect("no score is NaN").then_with(|| a.1.cmp(b.1))
}

fn insert_into_pack(pack: &mut Listpack, member: &[u8], score: f64) {
    let mut at = pack.first();
    while let Some(pos) = at {
        let behind = pack.next(pos).expect("every member has a score");
        if order((score_at(pack, behind), &pack.get(pos).text()), (score, member)) == Ordering::Greater {
            break;
        }
        at = pack.next(behind);
    }
    match at {
        Some(pos) => {
            pack.insert_before(pos, &score_text(score));
            pack.insert_before(pos, member);
        }
        None => {
            pack.push_back(member);
            pack.push_back(&score_text(score));
        }
    }
}

fn find_in(pack: &Listpack, member: &[u8]) -> Option<Pos> {
    pack.find(member, pack.first()?, 1)
}

impl Zset {
    /// The score of a member.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.repr {
            Repr::Packed(pack) => {
                let at = find_in(pack, member)?;
                Some(score_at(pack, pack.next(at).expect("every member has a score")))
            }
            Repr::Large(large) => Some(large.slab.get(large.handle(member)?).0),
        }
    }

    /// Gives a member a score, which is not NaN; returns the one that it had.
    pub fn set(&mut self, member: &[u8], score: f64, limits: ZsetLimits) -> Option<f64> {
        match &mut self.repr {
            Repr::Large(large) => match large.handle(member) {
                Some(handle) => {
                    let old = large.slab.get(handle).0;
                    if old != score {
                        large.change_score(handle, score);
                    }
                    Some(old)
                }
                None => {
                    large.add(member, score);
                    None
                }
            },
            Repr::Packed(pack) => {
                if let Some(at) = find_in(pack, member) {
                    let old = score_at(pack, pack.next(at).expect("every member has a score"));
                    if old != score {
                        pack.remove_range(at, 2);
                        insert_into_pack(pack, member, score);
                    }
                    return Some(old);
                }
                if pack.len() / 2 + 1 > limits.listpack_entries || member.len() > limits.listpack_value {
                    self.make_large();
                    return self.set(member, score, limits);
                }
                insert_into_pack(pack, member, score);
                None
            }
        }
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Packed(pack) => match find_in(pack, member) {
                Some(at) => {
                    pack.remove_range(at, 2);
                    true
                }
                None => false,
            },
            Repr::Large(large) => match large.handle(member) {
                Some(handle) => {
                    let rank = large.rank(handle);
                    large.tree.remove_at(rank);
                    large.forget(handle);
                    true
                }
                None => false,
            },
        }
    }

    /// Removes `count` members from a rank on, which must be there. Where they are many they are not freed but returned, for the caller
    /// to do that at leisure.
    #[must_use = "freeing it may take long"]
    pub fn remove_ranks(&mut self, rank: usize, count: usize) -> Option<Zset> {
        let len = self.len();
        match &mut self.repr {
            Repr::Packed(pack) => {
                if let Some(at) = pack.seek(2 * rank as i64) {
                    pack.remove_range(at, 2 * count);
                }
            }
            Repr::Large(large) if count >= MANY_MIN && count >= len / MANY_SHARE => {
                return Some(Zset { repr: Repr::Large(Box::new(large.remove_many(rank, count))) });
            }
            Repr::Large(large) => {
                for _ in 0..count {
                    let (_, handle) = large.tree.remove_at(rank);
                    large.forget(handle);
                }
            }
        }
        None
    }

    /// A reader of `count` members from a rank on, with a snapshot of its own: eight bytes for some hundred members.
    pub fn snapshot(&self, rank: usize, backwards: bool, count: usize) -> ZsetSnapshot {
        ZsetSnapshot { zset: self.clone(), rank, backwards, left: count }
    }

    /// The rank of a member, from the lowest score.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.repr {
            Repr::Packed(pack) => {
                let wanted = Item::of(member);
                let mut items = pack.iter();
                let mut rank = 0;
                while let Some(item) = items.next() {
                    if item == wanted {
                        return Some(rank);
                    }
                    items.next();
                    rank += 1;
                }
                None
            }
            Repr::Large(large) => Some(large.rank(large.handle(member)?)),
        }
    }

    /// How many members at the front satisfy `in_front`, which must not become true again once it was false.
    pub fn count_while(&self, mut in_front: impl FnMut(f64, &[u8]) -> bool) -> usize {
        match &self.repr {
            Repr::Packed(pack) => {
                let mut items = pack.iter();
                let mut count = 0;
                while let (Some(member), Some(score)) = (items.next(), items.next()) {
                    if !in_front(score_of(score), &member.text()) {
                        break;
                    }
                    count += 1;
                }
                count
            }
            Repr::Large(large) => large.tree.count_while(|(score, handle)| in_front(score, &large.slab.get(handle).1)),
        }
    }

    /// Shows members from a rank on, towards higher ranks or lower ones, until `visit` returns false.
    pub fn walk<'a>(&'a self, rank: usize, backwards: bool, mut visit: impl FnMut(Item<'a>, f64) -> bool) {
        match &self.repr {
            Repr::Packed(pack) => {
                let mut at = pack.seek(2 * rank as i64);
                while let Some(pos) = at {
                    let behind = pack.next(pos).expect("every member has a score");
                    if !visit(pack.get(pos), score_at(pack, behind)) {
                        return;
                    }
                    at = if backwards { pack.prev(pos).and_then(|score| pack.prev(score)) } else { pack.next(behind) };
                }
            }
            Repr::Large(large) => {
                large.tree.walk(rank, backwards, |(score, handle)| visit(Item::Bytes(&large.slab.get(handle).1), score))
            }
        }
    }

    /// The member of a rank, which must be there, with its score.
    pub fn get(&self, rank: usize) -> (Item<'_>, f64) {
        match &self.repr {
            Repr::Packed(pack) => {
                let at = pack.seek(2 * rank as i64).expect("a rank is below the length");
                (pack.get(at), score_at(pack, pack.next(at).expect("every member has a score")))
            }
            Repr::Large(large) => {
                let (score, handle) = large.tree.get(rank);
                (Item::Bytes(&large.slab.get(handle).1), score)
            }
        }
    }

    /// `count` different ranks at random, or all if there are not as many. `below(n)` draws from `0..n`.
    pub fn sample(&self, count: usize, mut below: impl FnMut(u64) -> u64) -> Vec<usize> {
        let len = self.len();
        if count >= len {
            return (0..len).collect();
        }
        if count.saturating_mul(3) > len {
            let mut all: Vec<usize> = (0..len).collect();
            for at in 0..count {
                all.swap(at, at + below((len - at) as u64) as usize);
            }
            all.truncate(count);
            return all;
        }
        let mut drawn: HashSet<usize, ahash::RandomState> = HashSet::default();
        while drawn.len() < count {
            drawn.insert(below(len as u64) as usize);
        }
        drawn.into_iter().collect()
    }

    /// One call of a scan; see [`Dict::scan`]. A packed set shows everything at once.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'_>, f64)) -> u64 {
        match &self.repr {
            Repr::Large(large) => {
                let hash_of = |handle: &u32| dict::hash(&large.slab.get(*handle).1);
                large.index.scan(cursor, count, hash_of, |handle| {
                    let (score, member) = large.slab.get(*handle);
                    visit(Item::Bytes(member), *score);
                })
            }
            Repr::Packed(_) => {
                self.walk(0, false, |member, score| {
                    visit(member, score);
                    true
                });
                0
            }
        }
    }

    fn make_large(&mut self) {
        let mut large = Box::<Large>::default();
        self.walk(0, false, |member, score| {
            large.add(&member.text(), score);
            true
        });
        self.repr = Repr::Large(large);
    }
}

/// A part of a sorted set as it was at one moment. See [`Zset::snapshot`].
pub struct ZsetSnapshot {
    zset: Zset,
    rank: usize,
    backwards: bool,
    left: usize,
}

impl ZsetSnapshot {
    /// Shows the next members until `visit` returns false; whether there are more after that.
    pub fn read_on(&mut self, mut visit: impl FnMut(Item<'_>, f64) -> bool) -> bool {
        if self.left == 0 {
            return false;
        }
        let (mut read, left) = (0, self.left);
        self.zset.walk(self.rank, self.backwards, |member, score| {
            read += 1;
            visit(member, score) && read < left
        });
        self.left -= read;
        self.rank = if self.backwards { self.rank.saturating_sub(read) } else { self.rank + read };
        self.left > 0
    }

    /// Frees about so many members of a snapshot that nobody will read again; true while there are more. It may be the last to have
    /// them.
    pub fn free_some(&mut self, elements_max: usize) -> bool {
        self.left = 0;
        self.zset.free_some(elements_max)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::rng::Rng;

    const LIMITS: ZsetLimits = ZsetLimits { listpack_entries: 16, listpack_value: 20 };

    fn sorted(model: &BTreeMap<Vec<u8>, f64>) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<(Vec<u8>, f64)> = model.iter().map(|(member, score)| (member.clone(), *score)).collect();
        all.sort_by(|a, b| order((a.1, &a.0), (b.1, &b.0)));
        all
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_map() {
        let seed = 21;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for members in [8, 30, 400] {
            for _ in 0..12 {
                let (mut zset, mut model) = (Zset::default(), BTreeMap::<Vec<u8>, f64>::new());
                for step in 0..members * 6 {
                    let member = match rng.below(3) {
                        0 => rng.below(members).to_string().into_bytes(),
                        _ => format!("m{}", rng.below(members)).into_bytes(),
                    };
                    let score =
                        *rng.pick(&[0.0, -0.0, 1.0, 1.5, -3.25, f64::INFINITY, f64::NEG_INFINITY, 1e17, 0.1 + 0.2]);
                    match rng.below(8) {
                        0 | 1 => assert_eq!(zset.remove(&member), model.remove(&member).is_some()),
                        2 if rng.chance(1, 6) => {
                            let rank = rng.below(zset.len() as u64 + 1) as usize;
                            let count = rng.below((zset.len() - rank) as u64 + 1) as usize;
                            for (member, _) in &sorted(&model)[rank..rank + count] {
                                model.remove(member);
                            }
                            drop(zset.remove_ranks(rank, count));
                        }
                        _ => assert_eq!(zset.set(&member, score, LIMITS), model.insert(member, score)),
                    }
                    if step % 7 != 0 {
                        continue;
                    }
                    let expected = sorted(&model);
                    let mut all = Vec::new();
                    zset.walk(0, false, |member, score| {
                        all.push((member.to_vec(), score));
                        true
                    });
                    assert_eq!(all, expected);
                    for (rank, (member, score)) in expected.iter().enumerate() {
                        assert_eq!(zset.rank(member), Some(rank));
                        assert_eq!(zset.score(member), Some(*score));
                        assert_eq!(zset.get(rank).0.to_vec(), *member);
                    }
                    if !expected.is_empty() {
                        let from = rng.below(expected.len() as u64) as usize;
                        let mut back = Vec::new();
                        zset.walk(from, true, |member, score| {
                            back.push((member.to_vec(), score));
                            true
                        });
                        assert!(back.iter().eq(expected[..=from].iter().rev()));
                    }
                    let below = zset.count_while(|score, _| score < 1.0);
                    assert_eq!(below, expected.iter().filter(|(_, score)| *score < 1.0).count());
                    let mut scanned = Vec::new();
                    let mut cursor = 0;
                    loop {
                        cursor = zset.scan(cursor, 10, |member, score| scanned.push((member.to_vec(), score)));
                        if cursor == 0 {
                            break;
                        }
                    }
                    scanned.sort_by(|a, b| order((a.1, &a.0), (b.1, &b.0)));
                    assert_eq!(scanned, expected);
                    assert_eq!(zset.sample(5, |n| rng.below(n)).len(), 5.min(expected.len()));
                }
            }
        }
    }

    #[test]
    fn encodings_change_at_their_limits() {
        let mut zset = Zset::default();
        (0..16).for_each(|n: i32| assert_eq!(zset.set(n.to_string().as_bytes(), f64::from(n), LIMITS), None));
        assert_eq!(zset.encoding(), "listpack");
        zset.set(b"16", 1.0, LIMITS);
        assert_eq!(zset.encoding(), "skiplist");
        let mut zset = Zset::default();
        zset.set(&[b'm'; 21], 1.0, LIMITS);
        assert_eq!(zset.encoding(), "skiplist");
        assert!(zset.remove(&[b'm'; 21]));
        assert_eq!(zset.len(), 0);
    }

    #[test]
    fn what_a_large_one_took_goes_with_its_members() {
        let seed = 4;
        println!("seed {seed}");
        for order in ["first", "last", "any", "most at once"] {
            let mut rng = Rng::seed(seed);
            let mut zset = Zset::default();
            for n in 0..20_000 {
                zset.set(n.to_string().as_bytes(), rng.below(5000) as f64, LIMITS);
            }
            let full = zset.allocated_bytes();
            let copy = zset.clone();
            while zset.len() > 900 {
                let rank = match order {
                    "first" => 0,
                    "last" => zset.len() - 1,
                    "any" => rng.below(zset.len() as u64) as usize,
                    _ => {
                        drop(zset.remove_ranks(500, 19_100));
                        continue;
                    }
                };
                let (member, score) = zset.get(rank);
                let member = member.to_vec();
                assert_eq!(zset.score(&member), Some(score));
                assert!(zset.remove(&member));
                let Repr::Large(large) = &zset.repr else { panic!("it stays large") };
                assert!(large.slab.len() <= 2 * large.tree.len() + 2 * CHUNK, "{order}: {}", large.slab.len());
            }
            assert!(zset.allocated_bytes() * 10 < full, "{order}: {} of {full}", zset.allocated_bytes());
            let mut found = Vec::new();
            zset.walk(0, false, |member, score| {
                found.push((member.to_vec(), score));
                true
            });
            assert_eq!(found.len(), 900);
            for (rank, (member, score)) in found.iter().enumerate() {
                assert_eq!((zset.rank(member), zset.score(member)), (Some(rank), Some(*score)));
                assert_eq!(copy.score(member), Some(*score));
            }
            assert_eq!(copy.len(), 20_000);
            for n in 0..2000 {
                zset.set(format!("new{n}").as_bytes(), 1.0, LIMITS);
            }
            assert_eq!(zset.len(), 2900);
        }
    }

    #[test]
    fn many_neighbours_that_go_at_once_leave_the_others() {
        let seed = 5;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for round in 0..60 {
            let (mut zset, mut model) = (Zset::default(), BTreeMap::<Vec<u8>, f64>::new());
            for _ in 0..rng.range(1000..=12_000) {
                let member = format!("m{}", rng.below(20_000)).into_bytes();
                let score = rng.below(3000) as f64;
                zset.set(&member, score, LIMITS);
                model.insert(member, score);
            }
            let copy = zset.clone();
            let before = sorted(&model);
            for _ in 0..2 {
                let expected = sorted(&model);
                let rank = rng.below(expected.len() as u64 / 2) as usize;
                let count = match round % 3 {
                    0 => (expected.len() / 30 + MANY_MIN).min(expected.len() - rank),
                    1 => rng.below((expected.len() - rank) as u64 + 1) as usize,
                    _ => expected.len() - rank,
                };
                let gone = zset.remove_ranks(rank, count);
                assert_eq!(gone.as_ref().map_or(count, Zset::len), count);
                let mut gone = gone.unwrap_or_default();
                while gone.free_some(1000) {}
                for (member, _) in &expected[rank..rank + count] {
                    model.remove(member);
                }
                // Some come back.
                for (member, _) in expected[rank..rank + count].iter().step_by(3) {
                    assert_eq!(zset.score(member), None);
                    assert_eq!(zset.set(member, 7.5, LIMITS), None);
                    model.insert(member.clone(), 7.5);
                }
                let expected = sorted(&model);
                assert_eq!(zset.len(), expected.len());
                for (rank, (member, score)) in expected.iter().enumerate() {
                    assert_eq!((zset.rank(member), zset.score(member)), (Some(rank), Some(*score)));
                }
                let Repr::Large(large) = &zset.repr else { panic!("it is large") };
                assert_eq!(large.index.len(), expected.len());
                assert!(large.slab.len() <= 2 * large.tree.len() + 2 * CHUNK, "{} places", large.slab.len());
                if expected.is_empty() {
                    break;
                }
            }
            assert_eq!(copy.len(), before.len());
            for (rank, (member, score)) in before.iter().enumerate() {
                assert_eq!(
                    (copy.rank(member), copy.score(member)),
                    (Some(rank), Some(*score)),
                    "a copy keeps its members"
                );
            }
        }
    }

    #[test]
    fn a_snapshot_shows_what_was_there() {
        let mut zset = Zset::default();
        for n in 0..5000 {
            zset.set(n.to_string().as_bytes(), f64::from(n), LIMITS);
        }
        let mut forwards = zset.snapshot(10, false, 4000);
        let mut backwards = zset.snapshot(4000, true, 4001);
        let mut seen = [Vec::new(), Vec::new()];
        for step in 0.. {
            let rank = step * 7 % zset.len().max(1);
            if !zset.is_empty() {
                drop(zset.remove_ranks(rank, 300.min(zset.len() - rank)));
                zset.set(b"new", 2500.0, LIMITS);
            }
            let mut more = false;
            for (snapshot, seen) in [&mut forwards, &mut backwards].into_iter().zip(&mut seen) {
                let until = seen.len() + 100;
                more |= snapshot.read_on(|member, score| {
                    assert_eq!(member.to_vec(), score.to_string().into_bytes());
                    seen.push(score as usize);
                    seen.len() < until
                });
            }
            if !more {
                break;
            }
        }
        assert!(seen[0].iter().copied().eq(10..4010) && seen[1].iter().copied().eq((0..=4000).rev()));
        while forwards.free_some(1000) {}
    }

    #[test]
    fn a_large_one_is_freed_in_slices() {
        let mut zset = Zset::default();
        for n in 0..50_000 {
            zset.set(n.to_string().as_bytes(), f64::from(n), LIMITS);
        }
        let mut slices = 1;
        while zset.free_some(2000) {
            slices += 1;
        }
        assert!((20..40).contains(&slices), "{slices}");
    }
}
