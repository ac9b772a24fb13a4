//! Streams: a log of entries and the groups of consumers that read it.
//!
//! ```text
//!   Stream ─> [ log: blocks of entries, counters ]      see `stream_log`
//!             [ groups by name ]                        see `stream_group`
//! ```
//!
//! A stream that has no entries is a stream all the same: its key stays. Reading through a group needs the log and changes the
//! group; [`Stream::with_group`] lends both.
//!
//! A value of one key, used on its shard's core. Invariants: those of the log and the groups. Absent on purpose: waiting, and the
//! syntax of ranges.
//!
//! To write a stream down: [`Stream::log`] has the counters and the packed blocks, [`Stream::groups`] the groups, each with its
//! consumers and pending entries. To make one from such parts: [`StreamBuilder`].

use std::collections::BTreeMap;

pub use super::stream_group::{Consumer, ConsumerId, Group, Pending};
pub use super::stream_id::StreamId;
pub use super::stream_log::{BLOCK_BYTES_MAX, Entry, Exactness, Fields, Keep, Log, LogSnapshot, StreamLimits};

use super::listpack::Listpack;
use super::object::{DataType, in_object};

#[derive(Clone, Default)]
struct Parts {
    log: Log,
    groups: BTreeMap<Box<[u8]>, Group>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Stream(Box<Parts>);

impl DataType for Stream {
    const NAME: &'static str = "stream";
    const DIES_EMPTY: bool = false;

    fn len(&self) -> usize {
        self.0.log.len() as usize
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    fn allocated_bytes(&self) -> usize {
        // Some groups stand for the others.
        const LOOKED_AT: usize = 16;
        let groups = &self.0.groups;
        let some: usize = groups.iter().take(LOOKED_AT).map(|(name, group)| name.len() + group.allocated_bytes()).sum();
        let each = size_of::<(Box<[u8]>, Group)>() * 3 / 2;
        let all = some * groups.len() / groups.len().clamp(1, LOOKED_AT);
        size_of::<Parts>() + self.0.log.allocated_bytes() + all + groups.len() * each
    }

    fn parts(&self) -> usize {
        // A group stands for its consumers and what is pending, which may be far more than there are entries.
        let pending: usize = self.0.groups.values().take(64).map(|group| 1 + group.pending_len()).sum();
        self.len().saturating_add(pending)
    }

    fn free_some(&mut self, elements_max: usize) -> bool {
        let mut freed = self.0.log.free_some(elements_max);
        while freed < elements_max
            && let Some(mut last) = self.0.groups.last_entry()
        {
            match last.get_mut().free_some(elements_max - freed) {
                0 => {
                    last.remove();
                    freed += 1;
                }
                some => freed += some,
            }
        }
        !self.0.log.is_empty() || !self.0.groups.is_empty()
    }

    in_object!(Stream);
}

impl Stream {
    /// Entries and counters.
    #[inline]
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// As [`Stream::log`], to change them.
    #[inline]
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.0.log
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.0.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// The group of this name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.0.groups.get(name)
    }

    /// The log, and the group of this name to be changed.
    pub fn with_group(&mut self, name: &[u8]) -> Option<(&Log, &mut Group)> {
        let Parts { log, groups } = &mut *self.0;
        Some((log, groups.get_mut(name)?))
    }

    /// Adds a group; false if there is one of this name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.0.groups.contains_key(name) {
            return false;
        }
        self.0.groups.insert(name.into(), group);
        true
    }

    /// Removes a group; false if there is none of this name.
    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        self.0.groups.remove(name).is_some()
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        self.0.groups.values().for_each(Group::check_invariants);
    }
}

/// What a stream was to be made of does not make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadStream;

/// Makes a stream of parts that come from outside, and refuses what is not one.
///
/// Blocks first, in order; then each group: [`StreamBuilder::group`], its pending entries ([`StreamBuilder::pending`]), its
/// consumers ([`StreamBuilder::consumer`]) and behind each of them the entries that are its own ([`StreamBuilder::owned`]). That is
/// the order of an RDB file. Every pending entry must get one owner.
pub struct StreamBuilder {
    stream: Stream,
    group: Option<OpenGroup>,
}

struct OpenGroup {
    name: Box<[u8]>,
    group: Group,
    /// Entries without an owner so far: when they were delivered and how often.
    pending: BTreeMap<StreamId, (i64, u64)>,
    consumer: Option<ConsumerId>,
}

impl StreamBuilder {
    /// A stream with these counters: see [`Log`]. Files that have none say 0 for `max_deleted_id` and the number of entries for
    /// `entries_added`.
    pub fn new(last_id: StreamId, max_deleted_id: StreamId, entries_added: u64) -> StreamBuilder {
        let log = Log::from_counters(last_id, max_deleted_id, entries_added);
        StreamBuilder { stream: Stream(Box::new(Parts { log, groups: BTreeMap::new() })), group: None }
    }

    /// Adds a block: the name under which it stands, and a listpack in the layout of [`super::stream_log`].
    ///
    /// # Errors
    /// If the layout is broken, no entry in it lives, or its entries do not lie behind those before and up to `last_id`.
    pub fn block(&mut self, first: StreamId, pack: Listpack) -> Result<(), BadStream> {
        if self.stream.0.log.push_block(first, pack) { Ok(()) } else { Err(BadStream) }
    }

    /// Begins a group.
    ///
    /// # Errors
    /// If there is one of this name, or the one before is not complete.
    pub fn group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> Result<(), BadStream> {
        self.close_group()?;
        if self.stream.group(name).is_some() {
            return Err(BadStream);
        }
        self.group = Some(OpenGroup {
            name: name.into(),
            group: Group::new(last_id, entries_read),
            pending: BTreeMap::new(),
            consumer: None,
        });
        Ok(())
    }

    /// As [`StreamBuilder::group`], where nobody has counted how many entries were read: as many as can be told. All blocks must
    /// be there.
    ///
    /// # Errors
    /// As [`StreamBuilder::group`].
    pub fn group_without_count(&mut self, name: &[u8], last_id: StreamId) -> Result<(), BadStream> {
        let log = &mut self.stream.0.log;
        log.find_first();
        let read = log.ordinal(last_id);
        self.group(name, last_id, read)
    }

    /// Adds a pending entry of the group.
    ///
    /// # Errors
    /// If the group has it already.
    pub fn pending(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) -> Result<(), BadStream> {
        let open = self.group.as_mut().ok_or(BadStream)?;
        match open.pending.insert(id, (delivered_ms, deliveries)) {
            None => Ok(()),
            Some(_) => Err(BadStream),
        }
    }

    /// Adds a consumer of the group.
    ///
    /// # Errors
    /// If the group has one of this name.
    pub fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: Option<i64>) -> Result<(), BadStream> {
        let open = self.group.as_mut().ok_or(BadStream)?;
        let id = open.group.add_consumer(name, seen_ms).ok_or(BadStream)?;
        open.group.consumer_mut(id).active_ms = active_ms;
        open.consumer = Some(id);
        Ok(())
    }

    /// Gives a pending entry to the last consumer.
    ///
    /// # Errors
    /// If the entry is not pending, or has an owner.
    pub fn owned(&mut self, id: StreamId) -> Result<(), BadStream> {
        let open = self.group.as_mut().ok_or(BadStream)?;
        let consumer = open.consumer.ok_or(BadStream)?;
        let (delivered_ms, deliveries) = open.pending.remove(&id).ok_or(BadStream)?;
        open.group.set_pending(id, Pending { consumer, delivered_ms, deliveries });
        Ok(())
    }

    /// The stream.
    ///
    /// # Errors
    /// If the last group is not complete, or the counters do not fit the entries.
    pub fn finish(mut self) -> Result<Stream, BadStream> {
        self.close_group()?;
        if self.stream.0.log.finish() { Ok(self.stream) } else { Err(BadStream) }
    }

    fn close_group(&mut self) -> Result<(), BadStream> {
        let Some(open) = self.group.take() else { return Ok(()) };
        if !open.pending.is_empty() {
            return Err(BadStream);
        }
        self.stream.0.groups.insert(open.name, open.group);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Model;

    use super::*;
    use crate::base::rng::Rng;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn fields_of(entry: &Entry<'_>) -> Fields {
        entry.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    fn append(stream: &mut Stream, id: StreamId, fields: &Fields, limits: StreamLimits) {
        let flat: Vec<&[u8]> = fields.iter().flat_map(|(name, value)| [&**name, &**value]).collect();
        let bytes = flat.iter().map(|text| text.len()).sum();
        stream.log_mut().append(id, flat.iter().copied(), bytes, limits);
    }

    fn some_fields(rng: &mut Rng) -> Fields {
        let mut text = |most: u64| match rng.below(4) {
            0 => rng.range(-300..=300_000).to_string().into_bytes(),
            1 => vec![b'v'; rng.below(most) as usize],
            _ => vec![b'a' + rng.below(3) as u8],
        };
        let fields = [1, 1, 1, 2, 3][text(3).len() % 5];
        (0..fields).map(|n| (if n == 0 { b"name".to_vec() } else { text(3) }, text(200))).collect()
    }

    fn check(stream: &Stream, model: &Model<StreamId, Fields>) {
        let log = stream.log();
        let mut seen = Vec::new();
        log.walk(StreamId::MIN, StreamId::MAX, false, |entry| {
            seen.push((entry.id, fields_of(&entry)));
            true
        });
        assert_eq!(log.len() as usize, model.len());
        assert!(model.iter().eq(seen.iter().map(|(id, fields)| (id, fields))));
        assert_eq!(log.first_id(), model.keys().next().copied().unwrap_or_default());
        assert_eq!(log.last_entry_id(), model.keys().next_back().copied().unwrap_or_default());
        let living: u64 = log.blocks().map(|(_, pack)| pack.iter().next().unwrap().as_i64().unwrap() as u64).sum();
        assert_eq!(living, log.len());
    }

    fn rebuilt(stream: &Stream) -> Result<Stream, BadStream> {
        let log = stream.log();
        let mut builder = StreamBuilder::new(log.last_id(), log.max_deleted_id(), log.entries_added());
        for (first, pack) in log.blocks() {
            builder.block(first, Listpack::from_bytes(pack.as_bytes()).ok_or(BadStream)?)?;
        }
        for (name, group) in stream.groups() {
            builder.group(name, group.last_id(), group.entries_read())?;
            for (id, pending) in group.pending_from(StreamId::MIN) {
                builder.pending(id, pending.delivered_ms, pending.deliveries)?;
            }
            for consumer in group.consumers() {
                builder.consumer(consumer.name(), consumer.seen_ms, consumer.active_ms)?;
                consumer.pending_from(StreamId::MIN).try_for_each(|id| builder.owned(id))?;
            }
        }
        builder.finish()
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_map() {
        let seed = 52;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for limits in [(4096, 100), (0, 7), (300, 0), (0, 0), (1, 1)] {
            let limits = StreamLimits { node_bytes: limits.0, node_entries: limits.1 };
            let (mut stream, mut model) = (Stream::default(), Model::new());
            let mut last = StreamId::MIN;
            for step in 0..1500u64 {
                let some_id = |rng: &mut Rng, model: &Model<StreamId, Fields>| match rng.below(4) {
                    0 => StreamId::new(rng.below(last.ms + 2), rng.below(4)),
                    _ => model.keys().nth(rng.below(model.len() as u64 + 1) as usize).copied().unwrap_or(last),
                };
                match rng.below(if step % 500 < 350 { 10 } else { 14 }) {
                    0..=6 => {
                        last = if rng.chance(1, 3) {
                            last.next().unwrap()
                        } else {
                            StreamId::new(last.ms + 1 + rng.below(9), rng.below(3))
                        };
                        let fields = some_fields(&mut rng);
                        append(&mut stream, last, &fields, limits);
                        model.insert(last, fields);
                    }
                    7 | 8 => {
                        let (from, to) = (some_id(&mut rng, &model), some_id(&mut rng, &model));
                        let backwards = rng.chance(1, 2);
                        let most = rng.below(20) + 1;
                        let mut seen = Vec::new();
                        stream.log().walk(from, to, backwards, |entry| {
                            seen.push(entry.id);
                            (seen.len() as u64) < most
                        });
                        let mut ids: Vec<StreamId> =
                            model.keys().copied().filter(|id| (from..=to).contains(id)).collect();
                        assert_eq!(stream.log().count(from, to, u64::MAX), ids.len() as u64, "{from} to {to}");
                        assert_eq!(stream.log().count(from, to, most), most.min(ids.len() as u64));
                        if backwards {
                            ids.reverse();
                        }
                        ids.truncate(most as usize);
                        assert_eq!(seen, ids);
                        let mut snapshot = stream.log().snapshot(from, to, backwards, most);
                        let mut pieces = Vec::new();
                        let mut more = true;
                        while more {
                            let mut piece = rng.below(4) + 1;
                            more = snapshot.read_on(|entry| {
                                pieces.push(entry.id);
                                piece -= 1;
                                piece > 0
                            });
                        }
                        assert_eq!(pieces, ids);
                        let id = some_id(&mut rng, &model);
                        assert_eq!(stream.log().get(id).as_ref().map(fields_of), model.get(&id).cloned());
                    }
                    9..=11 => {
                        let id = some_id(&mut rng, &model);
                        assert_eq!(stream.log_mut().remove(id), model.remove(&id).is_some());
                    }
                    12 => {
                        let keep = model.len() as u64 - rng.below(model.len() as u64 / 4 + 1);
                        let exact = rng.chance(1, 2);
                        let how =
                            if exact { Exactness::Exact } else { Exactness::Blocks { entries_max: rng.below(30) } };
                        let removed = stream.log_mut().trim(Keep::Newest(keep), how);
                        assert!(!exact || removed == model.len() as u64 - keep);
                        (0..removed).for_each(|_| drop(model.pop_first()));
                        assert!(model.len() as u64 >= keep);
                    }
                    _ => {
                        let id = some_id(&mut rng, &model);
                        if rng.chance(1, 3) {
                            let removed = stream.log_mut().trim(Keep::From(id), Exactness::Exact);
                            let kept = model.split_off(&id);
                            assert_eq!(removed as usize, model.len());
                            model = kept;
                        }
                    }
                }
                if step % 10 == 0 {
                    check(&stream, &model);
                }
            }
            check(&stream, &model);
            check(&rebuilt(&stream).unwrap(), &model);
            let copy = stream.clone();
            stream.log_mut().trim(Keep::Newest(0), Exactness::Exact);
            check(&stream, &Model::new());
            check(&copy, &model);
        }
    }

    #[test]
    fn entries_with_the_names_of_the_first_do_not_repeat_them() {
        let limits = StreamLimits { node_bytes: 4096, node_entries: 100 };
        let mut stream = Stream::default();
        let long_name = vec![b'n'; 60];
        for n in 1..=50 {
            append(&mut stream, StreamId::new(n, 0), &vec![(long_name.clone(), b"1".to_vec())], limits);
        }
        let (_, pack) = stream.log().blocks().next().unwrap();
        assert_eq!(stream.log().blocks_len(), 1);
        assert!(pack.bytes_len() < 62 + 50 * 11 + 20, "{}", pack.bytes_len());
    }

    #[test]
    fn every_pending_entry_has_one_owner_whatever_happens() {
        let seed = 4;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        let limits = StreamLimits { node_bytes: 4096, node_entries: 100 };
        let mut stream = Stream::default();
        (1..=40).for_each(|n| append(&mut stream, StreamId::new(n, 0), &vec![(b"f".to_vec(), b"v".to_vec())], limits));
        stream.add_group(b"g", Group::new(StreamId::MIN, Some(0)));
        for _ in 0..4000 {
            let (_, group) = stream.with_group(b"g").unwrap();
            let name = [b'a' + rng.below(6) as u8];
            let id = StreamId::new(rng.below(60), 0);
            match rng.below(12) {
                0 => drop(group.remove_consumer(&name)),
                1..=3 => drop(group.forget_pending(id)),
                _ => {
                    let consumer = group.consumer_id(&name).or_else(|| group.add_consumer(&name, 5));
                    let pending = Pending { consumer: consumer.unwrap(), delivered_ms: 9, deliveries: rng.below(5) };
                    group.set_pending(id, pending);
                }
            }
            stream.check_invariants();
        }
        let again = rebuilt(&stream).unwrap();
        again.check_invariants();
        assert_eq!(again.group(b"g").unwrap().pending_len(), stream.group(b"g").unwrap().pending_len());
    }

    #[test]
    fn parts_that_do_not_make_a_stream_are_refused() {
        let limits = StreamLimits { node_bytes: 4096, node_entries: 2 };
        let mut stream = Stream::default();
        (1..=4).for_each(|n| append(&mut stream, StreamId::new(n, 0), &vec![(b"f".to_vec(), b"v".to_vec())], limits));
        let blocks: Vec<(StreamId, Listpack)> = stream.log().blocks().map(|(id, pack)| (id, pack.clone())).collect();
        let last = StreamId::new(4, 0);
        let new = || StreamBuilder::new(last, StreamId::MIN, 4);

        let mut backwards = new();
        backwards.block(blocks[1].0, blocks[1].1.clone()).unwrap();
        assert!(backwards.block(blocks[0].0, blocks[0].1.clone()).is_err());
        let mut beyond = StreamBuilder::new(StreamId::new(1, 0), StreamId::MIN, 4);
        assert!(beyond.block(blocks[0].0, blocks[0].1.clone()).is_err());
        let (first, pack) = &blocks[0];
        for at in 0..pack.len() {
            for number in [-1, 0, 1, 2, 5, 77, i64::MAX, i64::MIN] {
                let mut broken = pack.clone();
                let place = broken.seek(at as i64).unwrap();
                broken.replace_int(place, number);
                // Whatever was made of it, it can be read.
                let mut builder = new();
                if builder.block(*first, broken).is_ok()
                    && let Ok(stream) = builder.finish()
                {
                    stream.log().walk(StreamId::MIN, StreamId::MAX, true, |entry| entry.fields().count() > 0);
                }
            }
            let mut short = pack.clone();
            let place = short.seek(at as i64).unwrap();
            short.remove(place);
            let _ = new().block(*first, short);
        }

        let shared = |owners: &[&[u8]]| {
            let mut builder = new();
            builder.group(b"g", last, None)?;
            builder.pending(last, 1, 1)?;
            for owner in owners {
                builder.consumer(owner, 1, None)?;
                builder.owned(last)?;
            }
            builder.finish()
        };
        assert!(shared(&[b"a"]).is_ok());
        assert!(shared(&[b"a", b"b"]).is_err(), "two owners");
        assert!(shared(&[]).is_err(), "no owner");
        assert!(shared(&[b"a", b"a"]).is_err(), "one name twice");
    }

    #[test]
    fn a_large_stream_is_freed_in_slices() {
        let limits = StreamLimits { node_bytes: 4096, node_entries: 100 };
        let mut stream = Stream::default();
        stream.add_group(b"g", Group::new(StreamId::MIN, None));
        for n in 1..=20_000 {
            let id = StreamId::new(n, 0);
            append(&mut stream, id, &vec![(b"f".to_vec(), b"v".to_vec())], limits);
            let (_, group) = stream.with_group(b"g").unwrap();
            let consumer = group.consumer_id(b"c").or_else(|| group.add_consumer(b"c", 0)).unwrap();
            group.set_pending(id, Pending { consumer, delivered_ms: 0, deliveries: 1 });
        }
        assert_eq!(stream.parts(), 40_001);
        let mut slices = 1;
        while stream.free_some(5000) {
            slices += 1;
        }
        assert!((12..=14).contains(&slices), "{slices}");
    }
}
