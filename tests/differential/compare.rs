//! When two replies count as equal.
//!
//! Byte for byte, unless the command asks the clock, replies in no order, or stands in the list of intended differences.

use super::differences::{DIFFERENCES, is};
use super::harness::resp::{Value, decode};

/// How a command's replies are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Byte for byte.
    Exact,
    /// Integers that depend on the clock may differ by this much; everything else byte for byte.
    Near(i64),
    /// Elements of an array in any order.
    AnyOrder,
    /// Numbers by their value: Redis prints scores with 17 digits in 7.0 and in their shortest form since 7.2.
    Numbers,
    /// Pairs of a flat array or a map, in any order.
    AnyPairs,
    /// A page of SCAN: a cursor and some keys; where it ends is each server's own affair. Errors byte for byte.
    Page,
    /// A key or nothing.
    AnyKey,
    /// Idle times in entries that are pending may differ by as much as the clocks; everything else byte for byte.
    Idle,
    /// What XINFO tells, without what Redis 7.0 does not know, and without the inner nodes of its tree.
    StreamInfo,
    /// The name of an encoding: Redis 7.2 packs lists and sets that 7.0 does not.
    Encoding,
    /// The same type of reply on the wire.
    SameType,
    /// Not at all: the command must not be in a script.
    NotSent,
}

/// The servers answer a batch within this many seconds of each other, even on a loaded machine.
const CLOCK_SECS: i64 = 60;

/// How the replies to this command are to be compared.
pub fn how(argv: &[Vec<u8>]) -> How {
    if let Some(difference) = DIFFERENCES.iter().find(|difference| (difference.concerns)(argv)) {
        return difference.how;
    }
    let name = argv[0].to_ascii_lowercase();
    match name.as_slice() {
        b"ttl" | b"expiretime" => How::Near(CLOCK_SECS),
        b"pttl" | b"pexpiretime" => How::Near(CLOCK_SECS * 1000),
        b"keys" | b"smembers" | b"sinter" | b"sunion" | b"sdiff" => How::AnyOrder,
        b"hgetall" => How::AnyPairs,
        b"hkeys" | b"hvals" => How::AnyOrder,
        b"sscan" | b"hscan" | b"zscan" => How::Page,
        b"dump" => How::SameType,
        b"srandmember" | b"hrandfield" | b"zrandmember" => How::SameType,
        b"object" if is(argv, 1, "encoding") => How::Encoding,
        b"xpending" => How::Idle,
        b"scan" => How::Page,
        b"randomkey" => How::AnyKey,
        _ if name.starts_with(b"z") || name.starts_with(b"bz") || name.starts_with(b"geo") => How::Numbers,
        _ => How::Exact,
    }
}

/// Whether the two replies, as they came over the wire, are equal in this sense.
pub fn equal(how: How, theirs: &[u8], ours: &[u8]) -> bool {
    if theirs == ours {
        return true;
    }
    match (how, &decode(theirs).0, &decode(ours).0) {
        (How::Near(distance), Value::Int(a), Value::Int(b)) => *a >= 0 && *b >= 0 && a.abs_diff(*b) <= distance as u64,
        (How::AnyOrder, Value::Array(a), Value::Array(b)) => sorted(a) == sorted(b),
        (How::AnyOrder, Value::Set(a), Value::Set(b)) => sorted(a) == sorted(b),
        (How::Numbers, a, b) => same_numbers(a, b),
        (How::Idle | How::StreamInfo, a, b) => same_streams(a, b),
        (How::AnyPairs, a, b) => matches!((pairs(a), pairs(b)), (Some(a), Some(b)) if a == b),
        (How::Page, a, b) => is_page(a) && is_page(b),
        (How::Encoding, Value::Bulk(theirs), Value::Bulk(ours)) => {
            ours == b"listpack" && (theirs == b"quicklist" || theirs == b"hashtable")
        }
        (How::AnyKey, Value::Bulk(_), Value::Bulk(_)) => true,
        (How::SameType, _, _) => theirs[0] == ours[0],
        _ => false,
    }
}

/// The strings in this reply, sorted.
pub fn sorted(values: &[Value]) -> Vec<&[u8]> {
    let mut strings: Vec<&[u8]> = values.iter().filter_map(Value::bytes).collect();
    strings.sort_unstable();
    strings
}

fn same_numbers(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (a.elements(), b.elements()) {
        return a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_numbers(a, b));
    }
    let number = |value: &Value| match value {
        Value::Bulk(text) | Value::Double(text) => std::str::from_utf8(text).ok()?.parse::<f64>().ok(),
        _ => None,
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) if a == b => true,
        _ => a == b,
    }
}

/// Times by which replies about streams may differ.
fn near(a: &Value, b: &Value) -> bool {
    matches!((a, b), (Value::Int(a), Value::Int(b)) if a.abs_diff(*b) <= CLOCK_SECS as u64 * 1000)
}

/// See [`How::Idle`] and [`How::StreamInfo`].
fn same_streams(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (info_fields(a), info_fields(b)) {
        return a.len() == b.len()
            && a.iter().zip(&b).all(|((name, a), (other, b))| {
                let is_time = matches!(*name, b"seen-time" | b"idle");
                name == other && if is_time { near(a, b) } else { same_streams(a, b) }
            });
    }
    let (Some(a), Some(b)) = (a.elements(), b.elements()) else { return a == b };
    let time = match a {
        // Name of the entry, consumer, time, deliveries; or without the consumer.
        [Value::Bulk(_), Value::Bulk(_), Value::Int(_), Value::Int(_)] => Some(2),
        [Value::Bulk(_), Value::Int(_), Value::Int(_)] => Some(1),
        _ => None,
    };
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .enumerate()
            .all(|(at, (a, b))| if Some(at) == time { near(a, b) } else { same_streams(a, b) })
}

/// The fields of a reply of XINFO that can be compared: those of a map, or of an array that begins like one.
fn info_fields(value: &Value) -> Option<Vec<(&[u8], &Value)>> {
    let fields: Vec<(&[u8], &Value)> = match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| Some((name.bytes()?, value))).collect::<Option<_>>()?,
        Value::Array(elements)
            if elements.first().and_then(Value::bytes).is_some_and(|name| name == b"length" || name == b"name") =>
        {
            elements.chunks(2).map(|pair| Some((pair[0].bytes()?, pair.get(1)?))).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let absent_in_7_0 = |name: &[u8]| matches!(name, b"active-time" | b"inactive" | b"radix-tree-nodes");
    Some(fields.into_iter().filter(|(name, _)| !absent_in_7_0(name)).collect())
}

/// The pairs of a map, or of an array whose elements alternate, sorted; none if it is neither.
fn pairs(value: &Value) -> Option<Vec<(&[u8], &[u8])>> {
    let mut pairs: Vec<(&[u8], &[u8])> = match value {
        Value::Map(pairs) => pairs.iter().map(|(a, b)| Some((a.bytes()?, b.bytes()?))).collect::<Option<_>>()?,
        Value::Array(elements) => {
            elements.chunks(2).map(|pair| Some((pair[0].bytes()?, pair.get(1)?.bytes()?))).collect::<Option<_>>()?
        }
        _ => return None,
    };
    pairs.sort_unstable();
    Some(pairs)
}

fn is_page(value: &Value) -> bool {
    matches!(value.elements(), Some([Value::Bulk(cursor), Value::Array(keys)])
        if cursor.iter().all(u8::is_ascii_digit) && keys.iter().all(|key| matches!(key, Value::Bulk(_))))
}
