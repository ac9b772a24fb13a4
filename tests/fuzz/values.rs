//! What must hold for any bytes that reach the reader of RDB values, whoever makes them up: they are refused, or give a value that
//! keeps the rules of its type and comes back the same when it is written and read again. And nothing absurd is allocated.
//!
//! Also the writers of forms that no server writes any more, and of those that redis-server 7.0 does not write yet: tests need them,
//! the server does not.

#![allow(dead_code, reason = "each test crate uses the part that it needs")]

use std::collections::BTreeSet;

use annulus::base::time::Millis;
use annulus::config::Config;
use annulus::keyspace::Value;
use annulus::persist::dump::seal;
use annulus::persist::rdb::{DecodeError, Decoded, Limits, Reader, Writer, decode, encode, form_of};
use annulus::types::listpack::Listpack;
use annulus::types::stream::StreamId;
use annulus::types::{DataType, Hash, List, Object, Set, Stream, Zset};

/// The limits of a server that was not configured otherwise.
pub fn limits() -> Limits {
    Limits::of(&Config::default())
}

/// A value as it would be compared: its type, then its strings, those of sets and hashes sorted.
pub type Content = (&'static str, Vec<Vec<u8>>);

/// Reads a type byte and a body, checks what must hold, and gives the content if there is a value.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<Content, DecodeError> {
    let mut reader = Reader::new(bytes);
    let type_byte = reader.u8()?;
    let value = decode(type_byte, &mut reader, limits)?;
    let content = content_of(&value);
    let written = write(&value);
    let mut again = Reader::new(&written);
    let type_byte = again.u8().expect("a type was written");
    let back = decode(type_byte, &mut again, limits).expect("what was written is read");
    assert!(again.is_at_end(), "all of it");
    assert_eq!(content_of(&back), content, "what was written reads back");
    if reader.is_at_end() { Ok(content) } else { Err(DecodeError::Trailing) }
}

/// Type byte and body.
pub fn write(value: &Decoded) -> Vec<u8> {
    let value = match value {
        Decoded::String(text) => Value::Inline { bytes: text, raw: true },
        Decoded::Object(object) => Value::Object(object),
    };
    let form = form_of(value, Millis(i64::MIN)).expect("no field has expired before time began");
    let mut out = vec![form.type_byte];
    encode(value, Millis(i64::MIN), &mut Writer::new(&mut out, true));
    out
}

/// The payload of a type byte and a body.
pub fn payload(body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    seal(&mut out, 10);
    out
}

/// The content of a value.
pub fn content_of(value: &Decoded) -> Content {
    match value {
        Decoded::String(text) => ("string", vec![text.clone()]),
        Decoded::Object(Object::List(list)) => ("list", list_content(list)),
        Decoded::Object(Object::Set(set)) => ("set", set_content(set)),
        Decoded::Object(Object::Hash(hash)) => ("hash", hash_content(hash)),
        Decoded::Object(Object::Zset(zset)) => ("zset", zset_content(zset)),
        Decoded::Object(Object::Stream(stream)) => ("stream", stream_content(stream)),
        Decoded::Object(Object::Packed(_)) => unreachable!("no payload has one"),
    }
}

fn list_content(list: &List) -> Vec<Vec<u8>> {
    let (mut all, mut back) = (Vec::new(), Vec::new());
    list.walk(0, false, |item| {
        all.push(item.to_vec());
        true
    });
    list.walk(list.len() - 1, true, |item| {
        back.push(item.to_vec());
        true
    });
    assert_eq!(all.len(), list.len());
    assert!(all.iter().rev().eq(&back), "a list is the same from both ends");
    all
}

fn set_content(set: &Set) -> Vec<Vec<u8>> {
    let mut all = BTreeSet::new();
    set.walk(|member| {
        assert!(all.insert(member.to_vec()), "no member twice");
        true
    });
    assert_eq!(all.len(), set.len());
    assert!(all.iter().all(|member| set.contains(member)));
    all.into_iter().collect()
}

fn hash_content(hash: &Hash) -> Vec<Vec<u8>> {
    let mut all = BTreeSet::new();
    hash.walk(Millis(i64::MIN), |field, value| {
        let due = hash.deadline(&field.text()).map_or(0, |due| due.0);
        assert!((0..1 << 48).contains(&due));
        assert!(all.insert((field.to_vec(), value.to_vec(), due)));
        true
    });
    assert_eq!(all.len(), hash.len());
    let fields: BTreeSet<&Vec<u8>> = all.iter().map(|(field, ..)| field).collect();
    assert_eq!(fields.len(), all.len(), "no field twice");
    for (field, value, _) in &all {
        assert_eq!(hash.get(field, Millis(i64::MIN)).map(|found| found.to_vec()).as_ref(), Some(value));
    }
    all.into_iter().flat_map(|(field, value, due)| [field, value, due.to_string().into_bytes()]).collect()
}

fn zset_content(zset: &Zset) -> Vec<Vec<u8>> {
    let mut all: Vec<(f64, Vec<u8>)> = Vec::new();
    zset.walk(0, false, |member, score| {
        all.push((score, member.to_vec()));
        true
    });
    assert_eq!(all.len(), zset.len());
    assert!(all.windows(2).all(|two| two[0] < two[1]), "members ascend, and none is there twice");
    for (rank, (score, member)) in all.iter().enumerate() {
        assert_eq!((zset.score(member), zset.rank(member)), (Some(*score), Some(rank)));
    }
    // Zero has a sign that no order sees, and that a packed score does not keep.
    all.into_iter().flat_map(|(score, member)| [format!("{:?}", score + 0.0).into_bytes(), member]).collect()
}

fn stream_content(stream: &Stream) -> Vec<Vec<u8>> {
    let log = stream.log();
    let mut all = vec![
        format!("{} {} {} {}", log.last_id(), log.first_id(), log.max_deleted_id(), log.entries_added()).into_bytes(),
    ];
    let mut ids = Vec::new();
    log.walk(StreamId::MIN, StreamId::MAX, false, |entry| {
        ids.push(entry.id);
        all.push(entry.id.to_string().into_bytes());
        all.extend(entry.fields().flat_map(|(name, value)| [name.to_vec(), value.to_vec()]));
        true
    });
    assert_eq!(ids.len() as u64, log.len());
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "entries ascend");
    assert!(ids.last().is_none_or(|last| *last <= log.last_id()));
    assert_eq!(ids.first().copied().unwrap_or_default(), log.first_id());
    let mut back = 0;
    log.walk(StreamId::MIN, StreamId::MAX, true, |_| {
        back += 1;
        true
    });
    assert_eq!(back, ids.len());
    for (name, group) in stream.groups() {
        all.push(name.to_vec());
        all.push(format!("{} {:?}", group.last_id(), group.entries_read()).into_bytes());
        let mut owned = 0;
        for consumer in group.consumers() {
            all.push(consumer.name().to_vec());
            all.push(consumer.seen_ms.to_string().into_bytes());
            for id in consumer.pending_from(StreamId::MIN) {
                let pending = group.pending(id).expect("what a consumer owns is pending");
                all.push(format!("{id} {} {}", pending.delivered_ms, pending.deliveries).into_bytes());
                owned += 1;
            }
        }
        assert_eq!(owned, group.pending_len(), "every pending entry has one owner");
    }
    all
}

/// A length, in the shortest form.
pub fn length(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out, false).length(len as u64);
    out
}

/// A string as it is, neither compressed nor a number.
pub fn string(text: &[u8]) -> Vec<u8> {
    [length(text.len()), text.to_vec()].concat()
}

/// A ziplist of these entries, as `persist::rdb` draws it.
pub fn ziplist(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0; 10];
    let (mut last, mut before) = (10, 0);
    for entry in entries {
        last = out.len();
        if before < 254 {
            out.push(before as u8);
        } else {
            out.push(254);
            out.extend((before as u32).to_le_bytes());
        }
        match std::str::from_utf8(entry)
            .ok()
            .and_then(|text| text.parse::<i64>().ok().filter(|n| n.to_string() == text))
        {
            Some(n @ 0..=12) => out.push(0xf1 + n as u8),
            Some(n) if i8::try_from(n).is_ok() => out.extend([0xfe, n as u8]),
            Some(n) if i16::try_from(n).is_ok() => out.extend([&[0xc0][..], &n.to_le_bytes()[..2]].concat()),
            Some(n) if (-0x80_0000..0x80_0000).contains(&n) => {
                out.extend([&[0xf0][..], &n.to_le_bytes()[..3]].concat())
            }
            Some(n) if i32::try_from(n).is_ok() => out.extend([&[0xd0][..], &n.to_le_bytes()[..4]].concat()),
            Some(n) => out.extend([&[0xe0][..], &n.to_le_bytes()].concat()),
            None => {
                match entry.len() {
                    0..=63 => out.push(entry.len() as u8),
                    64..=16_383 => out.extend((0x4000 | entry.len() as u16).to_be_bytes()),
                    len => out.extend([&[0x80][..], &(len as u32).to_be_bytes()].concat()),
                }
                out.extend(entry);
            }
        }
        before = out.len() - last;
    }
    out.push(0xff);
    let total = out.len() as u32;
    out[..4].copy_from_slice(&total.to_le_bytes());
    out[4..8].copy_from_slice(&(last as u32).to_le_bytes());
    out[8..10].copy_from_slice(&(entries.len().min(0xffff) as u16).to_le_bytes());
    out
}

/// A zipmap of these keys and values; every value is followed by `unused` bytes.
pub fn zipmap(entries: &[Vec<u8>], unused: u8) -> Vec<u8> {
    let pairs = entries.len() / 2;
    let mut out = vec![pairs.min(254) as u8];
    let push_length = |out: &mut Vec<u8>, len: usize| match len {
        0..=253 => out.push(len as u8),
        _ => out.extend([&[254][..], &(len as u32).to_le_bytes()].concat()),
    };
    for (at, entry) in entries.iter().enumerate() {
        push_length(&mut out, entry.len());
        if at % 2 == 1 {
            out.push(unused);
        }
        out.extend(entry);
        if at % 2 == 1 {
            out.extend(vec![b'?'; usize::from(unused)]);
        }
    }
    out.push(0xff);
    out
}

/// A listpack of these entries.
pub fn listpack(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut pack = Listpack::new();
    entries.iter().for_each(|entry| pack.push_back(entry));
    pack.as_bytes().to_vec()
}

/// An intset of these numbers, which ascend.
pub fn intset(numbers: &[i64], width: usize) -> Vec<u8> {
    let mut out = [(width as u32).to_le_bytes(), (numbers.len() as u32).to_le_bytes()].concat();
    numbers.iter().for_each(|number| out.extend(&number.to_le_bytes()[..width]));
    out
}

/// A stream of two entries with one group, one of whose two consumers owns a pending entry, in one of the five forms.
pub fn stream(type_byte: u8) -> Vec<u8> {
    let key = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01";
    let words = ["2", "0", "1", "name", "0", "2", "0", "0", "v", "4", "2", "3", "1", "w", "4"];
    let block = listpack(&words.map(|word| word.as_bytes().to_vec()));
    let ms = 1_700_000_000_000i64.to_le_bytes();
    // One block; two entries; the last is 8-2.
    let mut out = [&[type_byte, 1][..], &string(key), &string(&block), b"\x02\x08\x02"].concat();
    if type_byte > 15 {
        // The first is 5-1, none was deleted, two were added.
        out.extend(b"\x05\x01\0\0\x02");
    }
    out.extend(b"\x01\x01g\x05\x01");
    if type_byte > 15 {
        out.push(1);
    }
    out.extend([b"\x01", &key[..], &ms, b"\x03\x02"].concat());
    for (name, owned) in [(b"alice", 1), (b"robot", 0)] {
        out.extend([&string(name)[..], &ms].concat());
        if type_byte >= 21 {
            out.extend(if owned > 0 { ms } else { (-1i64).to_le_bytes() });
        }
        out.push(owned as u8);
        out.extend(key.repeat(owned));
    }
    if type_byte == 27 {
        // None was handed back.
        out.push(0);
    }
    if type_byte >= 26 {
        // Names are kept for 100 seconds, 100 of them; one producer gave one, to 8-2; one in all, one was refused.
        out.extend(b"\x40\x64\x40\x64\x01\x01p\x01\x02n1\x08\x02\x01\x01");
    }
    out
}
