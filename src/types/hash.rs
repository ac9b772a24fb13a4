//! Hashes: a listpack of fields and values while small, a table above; fields may expire one by one.
//!
//! ```text
//!   listpack     [ f v f v ]                 up to hash-max-listpack-entries fields of up to hash-max-listpack-value bytes
//!   hashtable    Dict of [ length | field | value ], one allocation a field
//!   deadlines    field -> due, and (due, field) in order; absent until a field is given one
//! ```
//!
//! A field whose time has come is invisible from then on: readers say what time it is. Writers take out first what is due of the
//! fields that they name, and a few others ([`Hash::settle`]): a million of them may be due at once, and none shall have to wait for
//! all. The rest is for a background pass, which finds hashes by [`DataType::next_expiry`].
//!
//! A value of one key, used on its shard's core; copies and snapshots share the segments of a table. Invariants: no field twice;
//! every field with a deadline is there. Absent on purpose: a clock, and arithmetic on values.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::dict::{Dict, DictKey, DictSnapshot};
use super::listpack::{Item, Listpack, Pos};
use super::object::{DataType, in_object};
use crate::base::time::Millis;

/// When a hash changes its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashLimits {
    /// `hash-max-listpack-entries`, fields.
    pub listpack_entries: usize,
    /// `hash-max-listpack-value`, bytes of a field or value.
    pub listpack_value: usize,
}

/// A field with its value in one allocation: the field's length (one byte, or 255 and four), the field, the value.
#[derive(Clone)]
pub struct Field(Box<[u8]>);

const LONG_FIELD: u8 = 255;

impl Field {
    fn new(name: &[u8], value: &[u8]) -> Field {
        let mut bytes = Vec::with_capacity(1 + name.len() + value.len() + if name.len() < 255 { 0 } else { 4 });
        if name.len() < usize::from(LONG_FIELD) {
            bytes.push(name.len() as u8);
        } else {
            bytes.push(LONG_FIELD);
            bytes.extend_from_slice(&u32::try_from(name.len()).expect("no field has 4 GiB").to_le_bytes());
        }
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        Field(bytes.into_boxed_slice())
    }

    #[inline]
    fn split(&self) -> (&[u8], &[u8]) {
        let bytes = &self.0;
        match bytes[0] {
            LONG_FIELD => {
                let len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
                bytes[5..].split_at(len)
            }
            len => bytes[1..].split_at(usize::from(len)),
        }
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        self.split().0
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.split().1
    }
}

impl DictKey for Field {
    #[inline]
    fn key(&self) -> &[u8] {
        self.split().0
    }
}

/// When fields expire.
#[derive(Clone, Default)]
struct Deadlines {
    by_field: HashMap<Box<[u8]>, Millis, ahash::RandomState>,
    by_time: BTreeSet<(Millis, Box<[u8]>)>,
}

impl Deadlines {
    fn set(&mut self, field: &[u8], due: Option<Millis>) {
        let old = match due {
            Some(due) => {
                self.by_time.insert((due, field.into()));
                self.by_field.insert(field.into(), due).filter(|old| *old != due)
            }
            None => self.by_field.remove(field),
        };
        if let Some(old) = old {
            self.by_time.remove(&(old, field.into()));
        }
    }
}

#[derive(Clone)]
enum Repr {
    Packed(Listpack),
    Table(Box<Dict<Field>>),
}

/// See the module.
#[derive(Clone)]
pub struct Hash {
    form: Form,
}

/// Three words, so that the box of a small hash is one size class smaller than it would be with a word for the deadlines.
#[derive(Clone)]
enum Form {
    Plain(Repr),
    Timed(Box<Timed>),
}

#[derive(Clone)]
struct Timed {
    repr: Repr,
    deadlines: Deadlines,
}

const _: () = assert!(size_of::<Hash>() == 3 * size_of::<usize>());

impl Default for Hash {
    fn default() -> Hash {
        Hash { form: Form::Plain(Repr::Packed(Listpack::new())) }
    }
}

impl DataType for Hash {
    const NAME: &'static str = "hash";

    #[inline]
    fn len(&self) -> usize {
        match self.repr() {
            Repr::Packed(pack) => pack.len() / 2,
            Repr::Table(table) => table.len(),
        }
    }

    fn encoding(&self) -> &'static str {
        match (self.repr(), self.deadlines()) {
            (Repr::Packed(_), None) => "listpack",
            (Repr::Packed(_), Some(_)) => "listpackex",
            (Repr::Table(_), _) => "hashtable",
        }
    }

    fn allocated_bytes(&self) -> usize {
        let deadlines = self.deadlines().map_or(0, |deadlines| deadlines.by_field.len() * 96);
        deadlines
            + match self.repr() {
                Repr::Packed(pack) => pack.allocated_bytes(),
                Repr::Table(table) => {
                    // A few fields stand for the others.
                    let few: Vec<usize> =
                        table.iter().take(32).map(|field| field.0.len().next_multiple_of(16)).collect();
                    let mean = few.iter().sum::<usize>() / few.len().max(1);
                    size_of::<Dict<Field>>() + table.allocated_bytes() + table.len() * mean
                }
            }
    }

    fn free_some(&mut self, elements_max: usize) -> bool {
        match self.repr_mut() {
            Repr::Packed(_) => false,
            Repr::Table(table) => table.free_some(elements_max),
        }
    }

    #[inline]
    fn next_expiry(&self) -> Option<Millis> {
        let deadlines = self.deadlines()?;
        deadlines.by_time.first().map(|(due, _)| *due)
    }

    in_object!(Hash);
}

/// A field's place in a listpack: itself and its value.
fn find_in(pack: &Listpack, field: &[u8]) -> Option<(Pos, Pos)> {
    let at = pack.find(field, pack.first()?, 1)?;
    Some((at, pack.next(at).expect("every field has a value")))
}

impl Hash {
    #[inline]
    fn repr(&self) -> &Repr {
        match &self.form {
            Form::Plain(repr) => repr,
            Form::Timed(timed) => &timed.repr,
        }
    }

    #[inline]
    fn repr_mut(&mut self) -> &mut Repr {
        match &mut self.form {
            Form::Plain(repr) => repr,
            Form::Timed(timed) => &mut timed.repr,
        }
    }

    #[inline]
    fn deadlines(&self) -> Option<&Deadlines> {
        match &self.form {
            Form::Plain(_) => None,
            Form::Timed(timed) => Some(&timed.deadlines),
        }
    }

    #[inline]
    fn deadlines_mut(&mut self) -> Option<&mut Deadlines> {
        match &mut self.form {
            Form::Plain(_) => None,
            Form::Timed(timed) => Some(&mut timed.deadlines),
        }
    }

    /// The deadlines, from now on if there were none.
    fn timed(&mut self) -> &mut Deadlines {
        if let Form::Plain(repr) = &mut self.form {
            let repr = std::mem::replace(repr, Repr::Packed(Listpack::new()));
            self.form = Form::Timed(Box::new(Timed { repr, deadlines: Deadlines::default() }));
        }
        self.deadlines_mut().expect("they were just made")
    }

    /// Whether a field with a deadline is still there at `now`.
    fn is_live(&self, field: &[u8], now: Millis) -> bool {
        let Some(deadlines) = self.deadlines() else { return true };
        deadlines.by_field.get(field).is_none_or(|due| *due > now)
    }

    /// Fields that are there at `now`.
    pub fn live_len(&self, now: Millis) -> usize {
        let due = self.deadlines().map_or(0, |d| d.by_time.iter().take_while(|(due, _)| *due <= now).count());
        self.len() - due
    }

    /// The value of a field at `now`.
    #[inline]
    pub fn get(&self, field: &[u8], now: Millis) -> Option<Item<'_>> {
        let value = match self.repr() {
            Repr::Packed(pack) => pack.get(find_in(pack, field)?.1),
            Repr::Table(table) => Item::Bytes(table.get(field)?.value()),
        };
        self.is_live(field, now).then_some(value)
    }

    /// Gives a field a value, without a deadline; whether it is a new one. It must not be due.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: HashLimits) -> bool {
        if let Some(deadlines) = self.deadlines_mut() {
            deadlines.set(field, None);
        }
        self.set_keeping_deadline(field, value, limits)
    }

    /// As [`Hash::set`], but a deadline stays.
    pub fn set_keeping_deadline(&mut self, field: &[u8], value: &[u8], limits: HashLimits) -> bool {
        if let Repr::Packed(pack) = self.repr_mut() {
            if field.len().max(value.len()) <= limits.listpack_value {
                if let Some((_, at)) = find_in(pack, field) {
                    pack.replace(at, value);
                    return false;
                }
                pack.push_back(field);
                pack.push_back(value);
                if pack.len() / 2 > limits.listpack_entries {
                    self.make_table();
                }
                return true;
            }
            self.make_table();
        }
        let Repr::Table(table) = self.repr_mut() else { unreachable!("it was just made one") };
        match table.get_mut(field) {
            Some(found) => {
                *found = Field::new(field, value);
                false
            }
            None => table.add(field, || Field::new(field, value)),
        }
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if let Some(deadlines) = self.deadlines_mut() {
            deadlines.set(field, None);
        }
        match self.repr_mut() {
            Repr::Packed(pack) => match find_in(pack, field) {
                Some((at, _)) => {
                    pack.remove_range(at, 2);
                    true
                }
                None => false,
            },
            Repr::Table(table) => table.remove_key(field).is_some(),
        }
    }

    /// Shows all fields that are there at `now` with their values, until `visit` returns false.
    pub fn walk<'a>(&'a self, now: Millis, mut visit: impl FnMut(Item<'a>, Item<'a>) -> bool) {
        let timed = self.deadlines().is_some();
        match self.repr() {
            Repr::Packed(pack) => {
                let mut items = pack.iter();
                while let (Some(field), Some(value)) = (items.next(), items.next()) {
                    if (!timed || self.is_live(&field.text(), now)) && !visit(field, value) {
                        return;
                    }
                }
            }
            Repr::Table(table) => {
                for entry in table.iter() {
                    let (field, value) = entry.split();
                    if (!timed || self.is_live(field, now)) && !visit(Item::Bytes(field), Item::Bytes(value)) {
                        return;
                    }
                }
            }
        }
    }

    /// A field at random with its value; none if there are none. `below(n)` draws from `0..n`. What was due must have been taken
    /// out.
    pub fn random(&self, mut below: impl FnMut(u64) -> u64) -> Option<(Item<'_>, Item<'_>)> {
        if self.is_empty() {
            return None;
        }
        match self.repr() {
            Repr::Packed(pack) => {
                let at = pack.seek(2 * below(pack.len() as u64 / 2) as i64)?;
                Some((pack.get(at), pack.get(pack.next(at)?)))
            }
            Repr::Table(table) => {
                let (field, value) = table.random(below)?.split();
                Some((Item::Bytes(field), Item::Bytes(value)))
            }
        }
    }

    /// `count` different fields at random, or all if there are not as many. What was due must have been taken out.
    pub fn sample(&self, count: usize, mut below: impl FnMut(u64) -> u64) -> Vec<(Item<'_>, Item<'_>)> {
        let len = self.len();
        if count.saturating_mul(3) > len || matches!(self.repr(), Repr::Packed(_)) {
            let mut all = Vec::with_capacity(len);
            self.walk(Millis(i64::MIN), |field, value| {
                all.push((field, value));
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
        let Repr::Table(table) = self.repr() else { unreachable!("packed ones were dealt with above") };
        let mut names: HashSet<&[u8], ahash::RandomState> = HashSet::default();
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let (field, value) = table.random(&mut below).expect("it has fields").split();
            if names.insert(field) {
                drawn.push((Item::Bytes(field), Item::Bytes(value)));
            }
        }
        drawn
    }

    /// One call of a scan; see [`Dict::scan`]. A packed hash shows everything at once.
    pub fn scan(&self, now: Millis, cursor: u64, count: usize, mut visit: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        match self.repr() {
            Repr::Table(table) => table.scan_keys(cursor, count, |entry| {
                let (field, value) = entry.split();
                if self.is_live(field, now) {
                    visit(Item::Bytes(field), Item::Bytes(value));
                }
            }),
            Repr::Packed(_) => {
                self.walk(now, |field, value| {
                    visit(field, value);
                    true
                });
                0
            }
        }
    }

    /// A reader of all fields of a table without deadlines, with a snapshot of its own.
    pub fn snapshot(&self) -> Option<DictSnapshot<Field>> {
        match self.repr() {
            Repr::Table(table) if self.deadlines().is_none() => Some(table.snapshot()),
            Repr::Table(_) | Repr::Packed(_) => None,
        }
    }

    // ---- deadlines

    /// When a field expires, if it does.
    pub fn deadline(&self, field: &[u8]) -> Option<Millis> {
        self.deadlines()?.by_field.get(field).copied()
    }

    /// Sets or takes away the deadline of a field, which must be there.
    pub fn set_deadline(&mut self, field: &[u8], due: Option<Millis>) {
        if due.is_some() {
            self.timed().set(field, due);
        } else if let Some(deadlines) = self.deadlines_mut() {
            deadlines.set(field, None);
        }
    }

    /// Takes out fields whose time has come, `fields_max` at most, and shows each; how many there were.
    #[inline]
    pub fn expire(&mut self, now: Millis, fields_max: usize, mut gone: impl FnMut(&[u8])) -> usize {
        if self.deadlines().is_none() {
            return 0;
        }
        let mut expired = 0;
        while expired < fields_max
            && let Some(deadlines) = self.deadlines_mut()
            && let Some((due, _)) = deadlines.by_time.first()
            && *due <= now
        {
            let (_, field) = deadlines.by_time.first().cloned().expect("it was just there");
            self.remove(&field);
            gone(&field);
            expired += 1;
        }
        expired
    }

    /// Takes out those of these fields whose time has come, and a few others that are due, and shows each; how many there were. Then
    /// a writer may go on with these fields as if there were no deadlines.
    #[inline]
    pub fn settle<'f>(
        &mut self,
        now: Millis,
        fields: impl IntoIterator<Item = &'f [u8]>,
        gone: impl FnMut(&[u8]),
    ) -> usize {
        if self.next_expiry().is_none_or(|due| due > now) { 0 } else { self.settle_due(now, fields, gone) }
    }

    #[cold]
    fn settle_due<'f>(
        &mut self,
        now: Millis,
        fields: impl IntoIterator<Item = &'f [u8]>,
        mut gone: impl FnMut(&[u8]),
    ) -> usize {
        /// Some 20 µs of work.
        const OTHERS_MAX: usize = 64;
        let mut expired = self.expire(now, OTHERS_MAX, &mut gone);
        for field in fields {
            if self.deadline(field).is_some_and(|due| due <= now) {
                self.remove(field);
                gone(field);
                expired += 1;
            }
        }
        expired
    }

    fn make_table(&mut self) {
        let mut table = Box::<Dict<Field>>::default();
        self.walk(Millis(i64::MIN), |field, value| {
            let field = field.text();
            table.add(&field, || Field::new(&field, &value.text()));
            true
        });
        *self.repr_mut() = Repr::Table(table);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::rng::Rng;

    const LIMITS: HashLimits = HashLimits { listpack_entries: 12, listpack_value: 20 };

    #[test]
    fn random_changes_leave_what_they_leave_in_a_map() {
        let seed = 12;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for _ in 0..150 {
            let (mut hash, mut model) = (Hash::default(), BTreeMap::<Vec<u8>, (Vec<u8>, Option<i64>)>::new());
            let fields = rng.range(2..=40);
            let mut now = 0;
            for _ in 0..rng.below(120) {
                now += rng.range(0..=2);
                let due = hash.expire(Millis(now), usize::MAX, |_| {});
                let before = model.len();
                model.retain(|_, (_, due)| due.is_none_or(|due| due > now));
                assert_eq!(due, before - model.len());
                let field = format!("f{}", rng.below(fields as u64)).into_bytes();
                let value = match rng.below(20) {
                    0 => vec![b'v'; 300],
                    _ => rng.range(-500..=500).to_string().into_bytes(),
                };
                match rng.below(6) {
                    0 => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                    1 => {
                        if let Some((_, deadline)) = model.get_mut(&field) {
                            *deadline = rng.chance(2, 3).then(|| now + rng.range(1..=9));
                            hash.set_deadline(&field, deadline.map(Millis));
                        }
                    }
                    2 => {
                        let deadline = model.get(&field).and_then(|(_, deadline)| *deadline);
                        hash.set_keeping_deadline(&field, &value, LIMITS);
                        model.insert(field, (value, deadline));
                    }
                    _ => {
                        let new = model.insert(field.clone(), (value.clone(), None)).is_none();
                        assert_eq!(hash.set(&field, &value, LIMITS), new);
                    }
                }
                assert_eq!(hash.next_expiry().map(|due| due.0), model.values().filter_map(|(_, due)| *due).min());
                // A reader sees what is due as gone before anybody has taken it out.
                let later = now + 3;
                let mut all = BTreeMap::new();
                hash.walk(Millis(later), |field, value| all.insert(field.to_vec(), value.to_vec()).is_none());
                let live = model.iter().filter(|(_, (_, due))| due.is_none_or(|due| due > later));
                assert!(live.clone().map(|(field, (value, _))| (field, value)).eq(all.iter()));
                assert_eq!(hash.live_len(Millis(later)), all.len());
                for (field, (value, due)) in &model {
                    let there = due.is_none_or(|due| due > later);
                    assert_eq!(hash.get(field, Millis(later)).map(|item| item.to_vec()), there.then(|| value.clone()));
                    assert_eq!(hash.deadline(field).map(|due| due.0), *due);
                }
            }
            assert_eq!(hash.sample(5, |n| rng.below(n)).len(), 5.min(model.len()));
        }
    }

    #[test]
    fn encodings_change_at_their_limits() {
        let mut hash = Hash::default();
        for n in 0..12 {
            hash.set(n.to_string().as_bytes(), b"x", LIMITS);
        }
        assert_eq!(hash.encoding(), "listpack");
        hash.set_deadline(b"3", Some(Millis(5)));
        assert_eq!(hash.encoding(), "listpackex");
        hash.set(b"12", b"x", LIMITS);
        assert_eq!(hash.encoding(), "hashtable");
        let mut hash = Hash::default();
        hash.set(&[b'f'; 21], b"", LIMITS);
        assert_eq!(hash.encoding(), "hashtable");
        hash.set(&[b'f'; 300], b"long", LIMITS);
        assert_eq!(hash.get(&[b'f'; 300], Millis(0)), Some(Item::Bytes(b"long")));
    }
}
