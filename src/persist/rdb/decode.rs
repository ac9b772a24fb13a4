//! Bytes to values: the forms are drawn in [`super`].
//!
//! Every element goes in by the type's own insertion, which keeps the type's rules; what it refuses (a member twice) and what it cannot
//! see (a score that is no number, an odd number of entries) makes the whole value corrupt.

use std::borrow::Cow;

use super::packed::{each_of_listpack, each_of_ziplist, each_of_zipmap};
use super::stream::{self, STREAM_5, STREAM_7, STREAM_7_2, STREAM_8_6, STREAM_8_8};
use super::*;
use crate::base::float::parse_f64;
use crate::base::time::Millis;
use crate::types::intset::IntSet;
use crate::types::listpack::Item;
use crate::types::{DataType, Hash, List, Set, Zset};

type Done = Result<(), DecodeError>;

/// Reads the body of a value of this type.
pub fn decode(type_byte: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Decoded, DecodeError> {
    let mut body = Body { reader, limits };
    let object = match type_byte {
        STRING => return Ok(Decoded::String(body.string()?.into_owned())),
        LIST | LIST_ZIPLIST | LIST_ZIPLISTS | LIST_NODES => body.list(type_byte)?.into_object(),
        SET | SET_INTSET | SET_LISTPACK => body.set(type_byte)?.into_object(),
        ZSET_TEXT | ZSET | ZSET_ZIPLIST | ZSET_LISTPACK => body.zset(type_byte)?.into_object(),
        HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK => body.hash(type_byte)?.into_object(),
        HASH_DEADLINES | HASH_DEADLINES_RC | HASH_LISTPACK_DEADLINES | HASH_LISTPACK_DEADLINES_RC => {
            body.hash_with_deadlines(type_byte)?.into_object()
        }
        STREAM_5 | STREAM_7 | STREAM_7_2 | STREAM_8_6 | STREAM_8_8 => {
            stream::decode(type_byte, body.reader, limits)?.into_object()
        }
        other => return Err(DecodeError::UnknownType(other)),
    };
    if object.is_dead() { Err(DecodeError::Empty) } else { Ok(Decoded::Object(object)) }
}

/// As [`decode`], for files that begin with `VALKEY`: from 22 on their types are others than those of Redis.
pub fn decode_valkey(type_byte: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Decoded, DecodeError> {
    match type_byte {
        HASH_DEADLINES_VALKEY => {
            let object = Body { reader, limits }.hash_of_valkey()?.into_object();
            if object.is_dead() { Err(DecodeError::Empty) } else { Ok(Decoded::Object(object)) }
        }
        later if later > HASH_DEADLINES_VALKEY => Err(DecodeError::UnknownType(later)),
        shared => decode(shared, reader, limits),
    }
}

struct Body<'r, 'a> {
    reader: &'r mut Reader<'a>,
    limits: &'r Limits,
}

impl<'a> Body<'_, 'a> {
    fn string(&mut self) -> Result<Cow<'a, [u8]>, DecodeError> {
        self.reader.string(self.limits.string_bytes_max)
    }

    /// Calls `read` as often as the count says that stands here.
    fn each(&mut self, mut read: impl FnMut(&mut Self) -> Done) -> Done {
        // Every element takes a byte, so a count that lies ends with the bytes.
        for _ in 0..self.reader.length()? {
            read(self)?;
        }
        Ok(())
    }

    fn list(&mut self, type_byte: u8) -> Result<List, DecodeError> {
        let limits = self.limits.list;
        let mut list = List::default();
        let mut push = |text: &[u8]| list.push_back(text, limits);
        let mut push_item = |item: Item<'_>| {
            push(&item.text());
            Ok(())
        };
        match type_byte {
            LIST_ZIPLIST => each_of_ziplist(&self.string()?, push_item)?,
            LIST_ZIPLISTS => self.each(|body| each_of_ziplist(&body.string()?, &mut push_item))?,
            LIST_NODES => self.each(|body| match body.reader.length()? {
                NODE_PLAIN => push_item(Item::Bytes(&body.string()?)),
                NODE_PACKED => each_of_listpack(&body.string()?, &mut push_item),
                _ => Err(DecodeError::Corrupt("a list has a node of an unknown kind")),
            })?,
            _ => self.each(|body| push_item(Item::Bytes(&body.string()?)))?,
        }
        Ok(list)
    }

    fn set(&mut self, type_byte: u8) -> Result<Set, DecodeError> {
        let limits = self.limits.set;
        let mut set = Set::default();
        let mut add = |member: &[u8]| match set.add(member, limits) {
            true => Ok(()),
            false => Err(DecodeError::Corrupt("a set has a member twice")),
        };
        match type_byte {
            SET_INTSET => {
                let blob = self.string()?;
                let ints = IntSet::from_bytes(&blob).ok_or(DecodeError::Corrupt("an intset is damaged"))?;
                ints.iter().try_for_each(|number| add(&Item::Int(number).text()))?;
            }
            SET_LISTPACK => each_of_listpack(&self.string()?, |item| add(&item.text()))?,
            _ => self.each(|body| add(&body.string()?))?,
        }
        Ok(set)
    }

    fn zset(&mut self, type_byte: u8) -> Result<Zset, DecodeError> {
        let limits = self.limits.zset;
        let mut zset = Zset::default();
        let mut add = |member: &[u8], score: f64| {
            if score.is_nan() {
                return Err(DecodeError::Corrupt("a score is not a number"));
            }
            match zset.set(member, score, limits) {
                None => Ok(()),
                Some(_) => Err(DecodeError::Corrupt("a sorted set has a member twice")),
            }
        };
        let mut pairs = Tuples::<2>::default();
        let mut entry = |item: Item<'_>| match pairs.next(item) {
            Some([member, _]) => add(member, score_of(item)?),
            None => Ok(()),
        };
        match type_byte {
            ZSET_ZIPLIST => each_of_ziplist(&self.string()?, &mut entry)?,
            ZSET_LISTPACK => each_of_listpack(&self.string()?, &mut entry)?,
            _ => {
                return self
                    .each(|body| {
                        let member = body.string()?;
                        let score = if type_byte == ZSET { body.reader.f64()? } else { body.reader.f64_text()? };
                        add(&member, score)
                    })
                    .map(|()| zset);
            }
        }
        pairs.end()?;
        Ok(zset)
    }

    fn hash(&mut self, type_byte: u8) -> Result<Hash, DecodeError> {
        let mut fields = Fields { hash: Hash::default(), limits: self.limits.hash };
        let mut pairs = Tuples::<2>::default();
        let mut entry = |item: Item<'_>| match pairs.next(item) {
            Some([field, value]) => fields.add(field, value, None),
            None => Ok(()),
        };
        match type_byte {
            HASH_ZIPLIST => each_of_ziplist(&self.string()?, entry)?,
            HASH_LISTPACK => each_of_listpack(&self.string()?, entry)?,
            HASH_ZIPMAP => each_of_zipmap(&self.string()?, |field, value| {
                entry(Item::Bytes(field))?;
                entry(Item::Bytes(value))
            })?,
            _ => self.each(|body| {
                entry(Item::Bytes(&body.string()?))?;
                entry(Item::Bytes(&body.string()?))
            })?,
        }
        pairs.end()?;
        Ok(fields.hash)
    }

    fn hash_of_valkey(&mut self) -> Result<Hash, DecodeError> {
        let mut fields = Fields { hash: Hash::default(), limits: self.limits.hash };
        self.each(|body| {
            let (field, value) = (body.string()?, body.string()?);
            let due = match body.reader.i64()? {
                -1 => None,
                due => Some(deadline(i128::from(due))?),
            };
            fields.add(&field, &value, due)
        })?;
        Ok(fields.hash)
    }

    fn hash_with_deadlines(&mut self, type_byte: u8) -> Result<Hash, DecodeError> {
        let mut fields = Fields { hash: Hash::default(), limits: self.limits.hash };
        let has_least = matches!(type_byte, HASH_DEADLINES | HASH_LISTPACK_DEADLINES);
        let least = if has_least { self.reader.i64()? } else { 0 };
        if matches!(type_byte, HASH_DEADLINES | HASH_DEADLINES_RC) {
            self.each(|body| {
                let due = match body.reader.length()? {
                    0 => None,
                    // Relative to the least deadline since 7.4; what does not fit 64 bits is past every limit.
                    later if has_least => Some(deadline(i128::from(least) + i128::from(later) - 1)?),
                    due => Some(deadline(i128::from(due))?),
                };
                let (field, value) = (body.string()?, body.string()?);
                fields.add(&field, &value, due)
            })?;
        } else {
            let mut triples = Tuples::<3>::default();
            each_of_listpack(&self.string()?, |item| match triples.next(item) {
                Some([field, value, _]) => {
                    let due = item.as_i64().ok_or(DecodeError::Corrupt("the deadline of a field is no number"))?;
                    let due = if due == 0 { None } else { Some(deadline(i128::from(due))?) };
                    fields.add(field, value, due)
                }
                None => Ok(()),
            })?;
            triples.end()?;
        }
        Ok(fields.hash)
    }
}

fn deadline(due: i128) -> Result<Millis, DecodeError> {
    match i64::try_from(due) {
        Ok(due @ 0..) if due.unsigned_abs() <= DEADLINE_MAX => Ok(Millis(due)),
        _ => Err(DecodeError::Corrupt("the deadline of a field is out of range")),
    }
}

fn score_of(item: Item<'_>) -> Result<f64, DecodeError> {
    match item {
        Item::Int(number) => Ok(number as f64),
        Item::Bytes(text) => parse_f64(text).ok_or(DecodeError::Corrupt("a score is no number")),
    }
}

struct Fields {
    hash: Hash,
    limits: HashLimits,
}

impl Fields {
    fn add(&mut self, field: &[u8], value: &[u8], due: Option<Millis>) -> Done {
        if !self.hash.set(field, value, self.limits) {
            return Err(DecodeError::Corrupt("a hash has a field twice"));
        }
        if due.is_some() {
            self.hash.set_deadline(field, due);
        }
        Ok(())
    }
}

/// Entries that belong together by twos or threes.
struct Tuples<const N: usize> {
    texts: [Vec<u8>; N],
    have: usize,
}

impl<const N: usize> Default for Tuples<N> {
    fn default() -> Self {
        Tuples { texts: std::array::from_fn(|_| Vec::new()), have: 0 }
    }
}

impl<const N: usize> Tuples<N> {
    /// The tuple that this entry makes complete.
    fn next(&mut self, item: Item<'_>) -> Option<&[Vec<u8>; N]> {
        let text = &mut self.texts[self.have];
        text.clear();
        text.extend_from_slice(&item.text());
        self.have = (self.have + 1) % N;
        (self.have == 0).then_some(&self.texts)
    }

    /// All entries were seen: none of them is left over.
    fn end(&self) -> Done {
        if self.have == 0 { Ok(()) } else { Err(DecodeError::Corrupt("an entry of a pair is missing")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[track_caller]
    fn refused(body: &[u8], error: DecodeError) {
        let limits = Limits::of(&Config::default());
        let decoded = decode(body[0], &mut Reader::new(&body[1..]), &limits);
        assert_eq!(decoded.map(|_| ()), Err(error), "{}", body.escape_ascii());
    }

    #[test]
    fn what_breaks_the_rules_of_its_type_is_refused() {
        refused(b"\x02\x02\x01a\x01a", DecodeError::Corrupt("a set has a member twice"));
        refused(b"\x02\x02\xc0\x05\x015", DecodeError::Corrupt("a set has a member twice"));
        refused(b"\x04\x02\x01f\x01v\x01f\x01w", DecodeError::Corrupt("a hash has a field twice"));
        refused(b"\x03\x02\x01m\x011\x01m\x012", DecodeError::Corrupt("a sorted set has a member twice"));
        refused(b"\x03\x01\x01m\xfd", DecodeError::Corrupt("a score is not a number"));
        refused(b"\x03\x01\x01m\x03x.5", DecodeError::Corrupt("a score is no number"));
        refused(b"\x0b\x0a\x03\0\0\0\x01\0\0\0\x02\x01", DecodeError::Corrupt("an intset is damaged"));
        refused(b"\x12\x01\x03\x01a", DecodeError::Corrupt("a list has a node of an unknown kind"));
        refused(b"\x01\0", DecodeError::Empty);
        refused(b"\x0e\x01\x0b\x0b\0\0\0\x0a\0\0\0\0\0\xff", DecodeError::Empty);
        refused(b"\x01\x05\x01a", DecodeError::Truncated);
    }

    #[test]
    fn modules_and_unknown_types_are_refused() {
        for type_byte in [6, 7, 8, 28, 29, 99, 250, 255] {
            refused(&[type_byte, 1, 1, 1], DecodeError::UnknownType(type_byte));
        }
    }

    #[test]
    fn type_22_of_valkey_is_a_hash_of_its_own_form() {
        let body = b"\x02\x01f\x01v\xff\xff\xff\xff\xff\xff\xff\xff\x01g\x01w\x40\x42\x0f\0\0\0\0\0";
        let limits = Limits::of(&Config::default());
        let decoded = decode_valkey(22, &mut Reader::new(body), &limits).expect("a hash");
        let Decoded::Object(crate::types::Object::Hash(hash)) = decoded else { panic!("a hash") };
        assert_eq!((hash.len(), hash.deadline(b"f"), hash.deadline(b"g")), (2, None, Some(Millis(1_000_000))));
        for later in 23..30 {
            let decoded = decode_valkey(later, &mut Reader::new(body), &limits);
            assert_eq!(decoded.map(|_| ()), Err(DecodeError::UnknownType(later)));
        }
    }

    #[test]
    fn deadlines_lie_within_what_a_server_can_keep() {
        let bad = DecodeError::Corrupt("the deadline of a field is out of range");
        refused(b"\x16\x01\x81\0\x00\xff\xff\xff\xff\xff\xff\x01f\x01v", bad);
        refused(b"\x18\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x02\x01f\x01v", bad);
        refused(b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x01f\x01v", bad);
        refused(b"\x18\0\0\0\0\0\0\0\0\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01f\x01v", bad);
    }
}
