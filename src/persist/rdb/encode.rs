//! Values to bytes: the forms are drawn in [`super`].

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
