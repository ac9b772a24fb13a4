//! Values to bytes: the forms are drawn in [`super`].
//!
//! A value is walked once, on the core that owns it, and written element by element; fields that have expired are left out. Invariant:
//! what is written is what [`form_of`] said of the same value at the same time. Absent on purpose: packed blobs. They would be a little
//! shorter, and would tie the payload to servers that know them.

use super::stream::{self, STREAM_7};
use super::{HASH, HASH_DEADLINES, LIST, SET, SET_INTSET, STRING, Writer, ZSET};
use crate::base::time::Millis;
use crate::keyspace::Value;
use crate::types::{DataType, Hash, List, Object, Set, Zset};

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// What stands in front of the body (in a file, in front of the key).
    pub type_byte: u8,
    /// The first RDB version that has this type.
    pub version: u16,
}

/// How [`encode`] writes this value at `now`; none if nothing is left of it.
pub fn form_of(value: Value<'_>, now: Millis) -> Option<Form> {
    let (type_byte, version) = match value {
        Value::Int(_) | Value::Inline { .. } | Value::Blob(_) => (STRING, 6),
        Value::Packed(_) | Value::Object(Object::Packed(_)) => (STRING, 6),
        Value::Object(Object::List(_)) => (LIST, 6),
        Value::Object(Object::Set(set)) if set.as_ints().is_some() => (SET_INTSET, 6),
        Value::Object(Object::Set(_)) => (SET, 6),
        Value::Object(Object::Zset(_)) => (ZSET, 8),
        Value::Object(Object::Stream(_)) => (STREAM_7, 10),
        Value::Object(Object::Hash(hash)) => match live_fields(hash, now) {
            (0, _) => return None,
            (_, None) => (HASH, 6),
            (_, Some(_)) => (HASH_DEADLINES, 12),
        },
    };
    Some(Form { type_byte, version })
}

/// Writes the body of a value in the form that [`form_of`] gave for the same `now`.
pub fn encode(value: Value<'_>, now: Millis, writer: &mut Writer<'_>) {
    match value {
        Value::Int(number) => writer.number(number),
        Value::Inline { bytes, .. } => writer.string(bytes),
        Value::Blob(blob) => writer.string(blob),
        Value::Packed(packed) | Value::Object(Object::Packed(packed)) => writer.string(&packed.text()),
        Value::Object(Object::List(list)) => encode_list(list, writer),
        Value::Object(Object::Set(set)) => encode_set(set, writer),
        Value::Object(Object::Zset(zset)) => encode_zset(zset, writer),
        Value::Object(Object::Stream(stream)) => stream::encode(stream, writer),
        Value::Object(Object::Hash(hash)) => encode_hash(hash, now, writer),
    }
}

fn encode_list(list: &List, writer: &mut Writer<'_>) {
    writer.length(list.len() as u64);
    list.walk(0, false, |item| {
        writer.item(item);
        true
    });
}

fn encode_set(set: &Set, writer: &mut Writer<'_>) {
    if let Some(ints) = set.as_ints() {
        return writer.string(ints.as_bytes());
    }
    writer.length(set.len() as u64);
    set.walk(|member| {
        writer.item(member);
        true
    });
}

/// From the highest score down, as Redis does: a reader that inserts in front is done sooner.
fn encode_zset(zset: &Zset, writer: &mut Writer<'_>) {
    writer.length(zset.len() as u64);
    let Some(last) = zset.len().checked_sub(1) else { return };
    zset.walk(last, true, |member, score| {
        writer.item(member);
        writer.f64(score);
        true
    });
}

fn encode_hash(hash: &Hash, now: Millis, writer: &mut Writer<'_>) {
    let (fields, least) = live_fields(hash, now);
    if let Some(least) = least {
        writer.i64(least.0);
    }
    writer.length(fields as u64);
    hash.walk(now, |field, value| {
        if let Some(least) = least {
            let due = hash.deadline(&field.text());
            writer.length(due.map_or(0, |due| due.0.abs_diff(least.0) + 1));
        }
        writer.item(field);
        writer.item(value);
        true
    });
}

/// How many fields are there at `now`, and the first deadline among them.
fn live_fields(hash: &Hash, now: Millis) -> (usize, Option<Millis>) {
    if hash.next_expiry().is_none() {
        return (hash.len(), None);
    }
    let (mut fields, mut least) = (0, None);
    hash.walk(now, |field, _| {
        fields += 1;
        let due = hash.deadline(&field.text());
        least = [least, due].into_iter().flatten().min();
        true
    });
    (fields, least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hash::HashLimits;
    use crate::types::list::ListLimits;
    use crate::types::set::SetLimits;
    use crate::types::zset::ZsetLimits;

    #[track_caller]
    fn check(object: Object, now: i64, type_byte: u8, version: u16, body: &[u8]) {
        let value = Value::Object(&object);
        assert_eq!(form_of(value, Millis(now)), Some(Form { type_byte, version }));
        let mut out = Vec::new();
        encode(value, Millis(now), &mut Writer::new(&mut out, true));
        assert_eq!(out, body, "{}", out.escape_ascii());
    }

    #[test]
    fn every_type_is_written_as_drawn() {
        let mut list = List::default();
        ["a", "7"]
            .iter()
            .for_each(|text| list.push_back(text.as_bytes(), ListLimits { node_size: -2, compress_depth: 0 }));
        check(list.into_object(), 0, 1, 6, b"\x02\x01a\xc0\x07");
        let limits = SetLimits { intset_entries: 8, listpack_entries: 8, listpack_value: 8 };
        let mut set = Set::default();
        set.add(b"258", limits);
        check(set.clone().into_object(), 0, 11, 6, b"\x0a\x02\0\0\0\x01\0\0\0\x02\x01");
        set.add(b"a", limits);
        check(set.into_object(), 0, 2, 6, b"\x02\xc1\x02\x01\x01a");
        let mut zset = Zset::default();
        for (member, score) in [(&b"low"[..], 0.0), (b"high", 1.0)] {
            zset.set(member, score, ZsetLimits { listpack_entries: 8, listpack_value: 8 });
        }
        check(zset.into_object(), 0, 5, 8, b"\x02\x04high\0\0\0\0\0\0\xf0\x3f\x03low\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn fields_have_deadlines_as_long_as_one_that_lives_has() {
        let mut hash = Hash::default();
        for (field, due) in [(&b"a"[..], Some(500)), (b"b", None), (b"c", Some(600))] {
            hash.set(field, b"v", HashLimits { listpack_entries: 8, listpack_value: 8 });
            hash.set_deadline(field, due.map(Millis));
        }
        let object = hash.into_object();
        check(object.clone(), 0, 24, 12, b"\xf4\x01\0\0\0\0\0\0\x03\x01\x01a\x01v\x00\x01b\x01v\x40\x65\x01c\x01v");
        check(object.clone(), 500, 24, 12, b"\x58\x02\0\0\0\0\0\0\x02\x00\x01b\x01v\x01\x01c\x01v");
        check(object.clone(), 600, 4, 6, b"\x01\x01b\x01v");
        let Object::Hash(mut hash) = object else { unreachable!("it is a hash") };
        hash.remove(b"b");
        assert_eq!(form_of(Value::Object(&hash.into_object()), Millis(600)), None);
    }
}
