//! Consumer groups of a stream: how far a group has read, who its consumers are, and what was delivered and not acknowledged.
//!
//! ```text
//!   pending    5-0 ─> consumer 1, when, how often        in order of names; the only record of a pending entry
//!              5-1 ─> consumer 0, …
//!   consumers  [ 0: "ann", pending { 5-1 } ] [ 1: "bob", pending { 5-0 } ] [ 2: free ]
//!   by name    "ann" ─> 0, "bob" ─> 1
//! ```
//!
//! A consumer's own set holds names only, to be listed and counted. So every pending entry has one owner: who it is stands in one
//! place, and is a number of this group, not a reference.
//!
//! A value of one key, used on its shard's core. Invariant: a name is in the set of a consumer if and only if `pending` says that
//! the entry is that consumer's. Absent on purpose: the entries themselves, and the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::stream_id::StreamId;
use super::stream_log::Log;

/// Names a consumer within its group, until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerId(u32);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// To whom.
    pub consumer: ConsumerId,
    /// When it was last, in milliseconds since the Unix epoch.
    pub delivered_ms: i64,
    /// How often.
    pub deliveries: u64,
}

/// Who reads from a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// When it last tried to read or claim, in milliseconds since the Unix epoch.
    pub seen_ms: i64,
    /// When it last got something; none if it never did.
    pub active_ms: Option<i64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many entries it has not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Their names from this one on.
    pub fn pending_from(&self, from: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending.range(from..).copied()
    }
}

/// See the module.
#[derive(Clone, Default)]
pub struct Group {
    last_id: StreamId,
    entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: Vec<Option<Consumer>>,
    by_name: BTreeMap<Arc<[u8]>, ConsumerId>,
}

impl Group {
    /// One that has read up to and with this name, so many entries if that is known.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    /// The last entry that was delivered.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// How many entries were read up to that one; none if that is not known.
    pub fn entries_read(&self) -> Option<u64> {
        self.entries_read
    }

    /// XGROUP SETID.
    pub fn set_id(&mut self, last_id: StreamId, entries_read: Option<u64>) {
        self.last_id = last_id;
        self.entries_read = entries_read;
    }

    /// XCLAIM LASTID: the group has read at least up to this name; false if that is nothing new.
    pub fn raise_last_id(&mut self, id: StreamId) -> bool {
        let raised = id > self.last_id;
        self.last_id = self.last_id.max(id);
        raised
    }

    /// An entry of the stream has been read by this group.
    pub fn advance(&mut self, log: &Log, id: StreamId) {
        if id <= self.last_id {
            return;
        }
        self.entries_read = match self.entries_read {
            Some(read) if !log.has_gaps_from(id) => Some(read.wrapping_add(1)),
            known if log.entries_added() == 0 => known,
            _ => log.ordinal(id),
        };
        self.last_id = id;
    }

    /// How many entries of the stream the group has yet to read; none if that cannot be told.
    pub fn lag(&self, log: &Log) -> Option<i64> {
        let read = match self.entries_read {
            _ if log.entries_added() == 0 => return Some(0),
            Some(read) if !log.has_gaps_from(self.last_id) => read,
            _ => log.ordinal(self.last_id)?,
        };
        Some(log.entries_added().wrapping_sub(read) as i64)
    }

    // Consumers.

    /// The consumer of this name.
    pub fn consumer_id(&self, name: &[u8]) -> Option<ConsumerId> {
        self.by_name.get(name).copied()
    }

    /// A consumer of this group.
    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        self.consumers[id.0 as usize].as_ref().expect("a number is given up with its consumer")
    }

    /// As [`Group::consumer`], to change its times.
    pub fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        self.consumers[id.0 as usize].as_mut().expect("a number is given up with its consumer")
    }

    /// All consumers, by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.by_name.values().map(|id| self.consumer(*id))
    }

    /// Makes a consumer that was last seen then; none if there is one of this name.
    pub fn add_consumer(&mut self, name: &[u8], seen_ms: i64) -> Option<ConsumerId> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let name: Arc<[u8]> = name.into();
        let consumer = Consumer { name: Arc::clone(&name), seen_ms, active_ms: None, pending: BTreeSet::new() };
        let at = match self.consumers.len() - self.by_name.len() {
            0 => {
                self.consumers.push(Some(consumer));
                self.consumers.len() - 1
            }
            _ => {
                let free = self.consumers.iter().position(Option::is_none).expect("fewer names than places");
                self.consumers[free] = Some(consumer);
                free
            }
        };
        let id = ConsumerId(u32::try_from(at).expect("fewer than 2^32 consumers"));
        self.by_name.insert(name, id);
        Some(id)
    }

    /// Removes a consumer and what is pending for it; how many entries that were, none if there is no such consumer.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.by_name.remove(name)?;
        let consumer = self.consumers[id.0 as usize].take().expect("a name leads to a consumer");
        for entry in &consumer.pending {
            self.pending.remove(entry);
        }
        Some(consumer.pending.len())
    }

    // Pending entries.

    /// Number of pending entries.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// What is known of a pending entry.
    pub fn pending(&self, id: StreamId) -> Option<Pending> {
        self.pending.get(&id).copied()
    }

    /// Pending entries from this name on.
    pub fn pending_from(&self, from: StreamId) -> impl DoubleEndedIterator<Item = (StreamId, Pending)> {
        self.pending.range(from..).map(|(id, pending)| (*id, *pending))
    }

    /// The entry is pending like this from now on, whoever had it.
    pub fn set_pending(&mut self, id: StreamId, pending: Pending) {
        let old = self.pending.insert(id, pending);
        if old.is_none_or(|old| old.consumer != pending.consumer) {
            if let Some(old) = old {
                self.consumer_mut(old.consumer).pending.remove(&id);
            }
            self.consumer_mut(pending.consumer).pending.insert(id);
        }
    }

    /// The entry is not pending any more; false if it was not.
    pub fn forget_pending(&mut self, id: StreamId) -> bool {
        let Some(old) = self.pending.remove(&id) else { return false };
        self.consumer_mut(old.consumer).pending.remove(&id);
        true
    }

    /// Bytes allocated, a close estimate.
    pub(super) fn allocated_bytes(&self) -> usize {
        // Nodes of trees are half full or more; names are short.
        let pending = size_of::<StreamId>() * 2 + size_of::<Pending>();
        let consumer = size_of::<Option<Consumer>>() + size_of::<(Arc<[u8]>, ConsumerId)>() + 32;
        self.pending.len() * pending * 3 / 2 + self.consumers.len() * consumer
    }

    /// Frees about so many parts of a group that nobody will use again; how many, 0 if nothing is left.
    pub(super) fn free_some(&mut self, parts_max: usize) -> usize {
        let mut freed = 0;
        while freed < parts_max && self.pending.pop_last().is_some() {
            freed += 1;
        }
        while freed < parts_max
            && let Some(consumer) = self.consumers.last_mut()
        {
            let set = consumer.as_mut().map(|consumer| &mut consumer.pending);
            let empty = match set {
                Some(set) => {
                    while freed < parts_max && set.pop_last().is_some() {
                        freed += 1;
                    }
                    set.is_empty()
                }
                None => true,
            };
            if empty {
                self.consumers.pop();
                freed += 1;
            }
        }
        while freed < parts_max && self.by_name.pop_last().is_some() {
            freed += 1;
        }
        freed
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let listed: usize = self.consumers().map(Consumer::pending_len).sum();
        assert_eq!(listed, self.pending.len());
        for (id, pending) in &self.pending {
            assert!(self.consumer(pending.consumer).pending.contains(id), "{id} is in the set of its owner");
        }
        assert_eq!(self.consumers.iter().flatten().count(), self.by_name.len());
        for (name, id) in &self.by_name {
            assert_eq!(self.consumer(*id).name(), &**name);
        }
    }
}
