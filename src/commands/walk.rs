//! KEYS, SCAN and RANDOMKEY: the commands over all keys of a database, whatever shards they are on.
//!
//! Each is a plan of calls, and a call looks at no more than [`SLICE_KEYS`] keys before its core goes on with other clients. KEYS and
//! RANDOMKEY reserve all keys for reading meanwhile, so what they tell was true at one instant and writers wait; SCAN does not.
//!
//! ```text
//!   SCAN's cursor     0 ┊ position in the shard's table: 40 bits │ shard        below 2^53, so that a double holds it
//! ```
//!
//! A shard's positions are in the order of its keys' hashes and stay valid while the table grows, and the shards are visited in
//! order: a key that is there from the first call to the last is seen. Cursor 0 is the start of shard 0 and, as a reply, the
//! end. A cursor that we did not give out is a position like any other, or lies behind the end.
//!
//! A client that sees one shard alone, as a node of a cluster, is told of that shard's keys; its cursors are the positions there.
//!
//! A pattern without wildcards in front of its `{hashtag}` can match keys of one slot only, so its shard alone is visited.

use std::collections::HashSet;

use super::page::{Page, parse_cursor};
use crate::base::crc::key_slot;
use crate::base::glob;
use crate::base::num::format_u64;
use crate::base::rng::Rng;
use crate::base::{DbIndex, ShardId};
use crate::keyspace::CURSOR_BITS;
use crate::resp::{CommandError, OwnedArgs, Reply};
use crate::shard::Shard;
use crate::shard::cx::WriteCx;
use crate::shard::slots::SlotMap;
use crate::txn::{Coordinator, Plan};

/// How many keys one call looks at: some 0.2 ms of work.
const SLICE_KEYS: usize = 4096;

/// Draws of RANDOMKEY on one shard before it is taken to have no live key.
const RANDOM_DRAWS_MAX: usize = 100;

/// What KEYS and SCAN look for. Goes to the owners in every call, so it is small.
#[derive(Clone, Default)]
struct Filter {
    pattern: Option<Vec<u8>>,
    type_name: Option<Vec<u8>>,
    slot: Option<u16>,
}

impl Filter {
    fn new(pattern: Option<&[u8]>, type_name: Option<&[u8]>) -> Filter {
        Filter {
            pattern: pattern.filter(|p| *p != b"*").map(<[u8]>::to_vec),
            type_name: type_name.map(<[u8]>::to_vec),
            slot: None,
        }
    }

    /// The only shard where keys can match, if the pattern tells.
    fn only_shard(&self, slots: SlotMap) -> Option<ShardId> {
        let pattern = self.pattern.as_deref()?;
        let literal = pattern.iter().position(|b| b"*?[\\".contains(b)).map_or(pattern, |at| &pattern[..at]);
        if literal.len() == pattern.len() || has_hashtag(literal) { Some(slots.shard_of(literal)) } else { None }
    }
}

/// Whether these first bytes of a key decide its slot: the first brace is closed, and not at once.
fn has_hashtag(prefix: &[u8]) -> bool {
    let Some(open) = prefix.iter().position(|&b| b == b'{') else { return false };
    prefix[open + 1..].iter().position(|&b| b == b'}').is_some_and(|len| len > 0)
}

/// What one call found.
struct Slice {
    /// Where to go on; 0 at the end of the shard.
    cursor: u64,
    /// Keys looked at.
    seen: usize,
    /// Keys that match.
    keys: OwnedArgs,
}

/// Looks at about `count` keys of one shard from `cursor` on.
fn walk_slice(shard: &mut Shard, db: DbIndex, cursor: u64, count: usize, filter: &Filter) -> Slice {
    let now = shard.now.millis();
    let mut slice = Slice { cursor: 0, seen: 0, keys: OwnedArgs::new() };
    slice.cursor = shard.keyspace.db(db).scan(cursor, count, now, |entry| {
        slice.seen += 1;
        let of_type = |name: &[u8]| entry.value().type_name().as_bytes().eq_ignore_ascii_case(name);
        if filter.pattern.as_deref().is_none_or(|pattern| glob::matches(pattern, entry.key(), false))
            && filter.type_name.as_deref().is_none_or(of_type)
            && filter.slot.is_none_or(|slot| slot == key_slot(entry.key()))
        {
            slice.keys.push(entry.key());
        }
    });
    slice
}

/// KEYS pattern
pub(super) fn keys(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let filter = Filter::new(Some(args.as_args().get(1)), None);
        let db = coordinator.origin().db;
        let mut reply = coordinator.reply();
        let header = reply.deferred_array();
        let mut total = 0;
        // Each shard with the position to go on at, and what was found there last: when a table shrinks between two calls,
        // the few keys at the position may come twice.
        let only = filter.only_shard(coordinator.slots());
        let wanted = coordinator.seen().filter(|shard| only.is_none_or(|only| only == *shard));
        let mut shards: Vec<(ShardId, u64, OwnedArgs)> = wanted.map(|shard| (shard, 0, OwnedArgs::new())).collect();
        coordinator
            .isolated(async {
                while !shards.is_empty() {
                    let calls = shards.iter().map(|&(shard, cursor, _)| {
                        let filter = filter.clone();
                        coordinator.call(shard, move |shard| walk_slice(shard, db, cursor, SLICE_KEYS, &filter))
                    });
                    for (call, (_, cursor, last)) in calls.collect::<Vec<_>>().into_iter().zip(&mut shards) {
                        let slice = call.await;
                        let known: HashSet<&[u8]> = last.as_args().iter().collect();
                        for key in slice.keys.as_args().iter().filter(|key| !known.contains(key)) {
                            reply.bulk(key);
                            total += 1;
                        }
                        (*cursor, *last) = (slice.cursor, slice.keys);
                    }
                    shards.retain(|(_, cursor, _)| *cursor != 0);
                }
            })
            .await;
        reply.finish(header, total);
        Ok(reply)
    })
}

/// Up to `count` keys of a slot, of the first database, in the order of the walk. None if the client does not see the shard.
pub(super) async fn keys_of_slot(coordinator: &Coordinator, slot: u16, count: usize) -> OwnedArgs {
    let shard = coordinator.slots().owner(slot);
    let mut keys = OwnedArgs::new();
    if coordinator.node().is_some_and(|node| node != shard) || count == 0 {
        return keys;
    }
    let (mut cursor, mut last) = (0, OwnedArgs::new());
    loop {
        let filter = Filter { slot: Some(slot), ..Filter::default() };
        let call = coordinator.call(shard, move |shard| walk_slice(shard, DbIndex(0), cursor, SLICE_KEYS, &filter));
        let slice = call.await;
        // As in KEYS: a table that shrinks may show a few keys twice.
        let known: HashSet<&[u8]> = last.as_args().iter().collect();
        for key in slice.keys.as_args().iter().filter(|key| !known.contains(key)) {
            keys.push(key);
            if keys.len() == count {
                return keys;
            }
        }
        if slice.cursor == 0 {
            return keys;
        }
        (cursor, last) = (slice.cursor, slice.keys);
    }
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
pub(super) fn scan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let cursor = parse_cursor(args.get(1)).ok_or(CommandError::InvalidCursor)?;
        let page = Page::parse(args, 2, true)?;
        let (filter, count) = (Filter::new(page.pattern, page.type_name), page.count);
        let (slots, node) = (coordinator.slots(), coordinator.node());
        let db = coordinator.origin().db;
        let mut place = match node {
            Some(shard) => Some(Place { shard, position: cursor & POSITION }),
            None => Place::from_cursor(cursor, slots),
        };
        let mut left = count;
        let mut found: Vec<OwnedArgs> = Vec::new();
        while let Some(Place { shard, position }) = place {
            if let Some(only) = filter.only_shard(slots)
                && only != shard
            {
                place = (shard < only && node.is_none()).then_some(Place { shard: only, position: 0 });
                continue;
            }
            let filter = filter.clone();
            let many = left.min(SLICE_KEYS);
            let call = coordinator.call(shard, move |shard| walk_slice(shard, db, position, many, &filter));
            let slice = call.await;
            place = match slice.cursor {
                0 if node.is_some() => None,
                0 => Place::next_shard(shard, slots),
                position => Some(Place { shard, position }),
            };
            found.push(slice.keys);
            left = left.saturating_sub(slice.seen);
            if left == 0 {
                break;
            }
        }
        let mut reply = coordinator.reply();
        reply.array(2);
        let cursor = |place: Place| if node.is_some() { place.position } else { place.to_cursor(slots) };
        reply.bulk(&format_u64(place.map_or(0, cursor)));
        reply.array(found.iter().map(OwnedArgs::len).sum());
        for keys in &found {
            keys.as_args().iter().for_each(|key| reply.bulk(key));
        }
        Ok(reply)
    })
}

/// Where a SCAN goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    shard: ShardId,
    position: u64,
}

const _: () = assert!(CURSOR_BITS + 13 <= 53, "a cursor over 8192 shards is exact as a double");

/// Bits of a position.
const POSITION: u64 = (1 << CURSOR_BITS) - 1;

/// Bits of a cursor that hold the shard.
fn shard_bits(slots: SlotMap) -> u32 {
    u32::from(slots.shards()).next_power_of_two().trailing_zeros()
}

impl Place {
    /// None if the cursor lies behind the end.
    fn from_cursor(cursor: u64, slots: SlotMap) -> Option<Place> {
        let bits = shard_bits(slots);
        let shard = cursor & ((1 << bits) - 1);
        let position = cursor >> bits & POSITION;
        (shard < u64::from(slots.shards())).then_some(Place { shard: ShardId(shard as u16), position })
    }

    fn to_cursor(self, slots: SlotMap) -> u64 {
        debug_assert!(self.position >> CURSOR_BITS == 0);
        self.position << shard_bits(slots) | u64::from(self.shard.0)
    }

    fn next_shard(shard: ShardId, slots: SlotMap) -> Option<Place> {
        let next = ShardId(shard.0 + 1);
        (next.0 < slots.shards()).then_some(Place { shard: next, position: 0 })
    }
}

/// RANDOMKEY: a shard by its number of keys, then a key of it. As good as uniform while few keys have expired unnoticed.
pub(super) fn randomkey(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move { coordinator.isolated(draw(&coordinator)).await })
}

async fn draw(coordinator: &Coordinator) -> Result<Reply, CommandError> {
    let db = coordinator.origin().db;
    let shards: Vec<ShardId> = coordinator.seen().collect();
    let sizes = coordinator.call_seen(move |shard| (shard.keyspace.db(db).len() as u64, shard.rng.next_u64())).await;
    let mut rng = Rng::seed(sizes.iter().fold(0, |seed, (_, random)| seed ^ random));
    let mut sizes: Vec<u64> = sizes.into_iter().map(|(len, _)| len).collect();
    let mut reply = coordinator.reply();
    loop {
        let total: u64 = sizes.iter().sum();
        if total == 0 {
            reply.null();
            return Ok(reply);
        }
        let mut drawn = rng.below(total);
        let place = sizes.iter().position(|&len| match drawn.checked_sub(len) {
            None => true,
            Some(rest) => {
                drawn = rest;
                false
            }
        });
        let place = place.expect("what is drawn is below the sum");
        if let Some(key) = coordinator.with_data(shards[place], random_live_key).await {
            reply.bulk(&key);
            return Ok(reply);
        }
        sizes[place] = 0;
    }
}

fn random_live_key(cx: &mut WriteCx<'_>) -> Option<Vec<u8>> {
    for _ in 0..RANDOM_DRAWS_MAX {
        let mut rng = Rng::seed(cx.rng().next_u64());
        let key = cx.db().random(|n| rng.below(n))?.key().to_vec();
        // Looking it up removes it if it has expired.
        if cx.peek(&key).is_some() {
            return Some(key);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_a_shard_and_a_position_and_stays_below_2_to_the_53() {
        for shards in [1u16, 2, 3, 4, 7, 64, 1000] {
            let slots = SlotMap::new(shards);
            for shard in slots.all() {
                for position in [0, 1, 12_345, (1 << CURSOR_BITS) - 1] {
                    let place = Place { shard, position };
                    let cursor = place.to_cursor(slots);
                    assert!(cursor < 1 << 53);
                    assert_eq!(Place::from_cursor(cursor, slots), Some(place));
                }
            }
        }
        assert_eq!(Place::from_cursor(0, SlotMap::new(4)), Some(Place { shard: ShardId(0), position: 0 }));
        assert_eq!(Place::from_cursor(3, SlotMap::new(3)), None, "there is no such shard");
    }

    #[test]
    fn a_pattern_names_its_shard_if_its_literal_start_decides_the_slot() {
        let slots = SlotMap::new(64);
        let only = |pattern: &str| Filter::new(Some(pattern.as_bytes()), None).only_shard(slots);
        assert_eq!(only("{user7}:*"), Some(slots.shard_of(b"{user7}")));
        assert_eq!(only("a{user7}?"), Some(slots.shard_of(b"{user7}")));
        assert_eq!(only("plain"), Some(slots.shard_of(b"plain")));
        assert_eq!(only("{}x"), Some(slots.shard_of(b"{}x")), "without wildcards the pattern is the key");
        for pattern in ["*", "user*", "{user*}", "{}*", "*{user7}", "[a]{user7}", "\\{user7}", "{user7"] {
            let expected = (pattern == "{user7").then(|| slots.shard_of(b"{user7"));
            assert_eq!(only(pattern), expected, "{pattern}");
        }
    }
}
