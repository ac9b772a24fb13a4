//! Client-side caching: which clients may hold a copy of which keys, as far as this shard has to know.
//!
//! A client that has asked for it (CLIENT TRACKING) is told of changes of the keys that it has read, or of all keys that begin in a
//! certain way (BCAST). Every shard has one [`Tracking`]. What is known where:
//!
//! ```text
//!   owner of a key      readers: key -> the clients (home shard and session) that have read it since it changed last
//!                       prefixes: prefix -> the shards with clients that follow it, and keys that changed this turn
//!   home of a client    how it is tracked (`session`), which of its sessions follow which prefix
//! ```
//!
//! **The rule**: once the reply of a write has been seen, nobody who reads what the server has sent to him takes an old value for a
//! current one. Redis has it for nothing, since one thread puts the invalidation into the reader's output before the reply into the
//! writer's. Here three things give it:
//!
//! 1. A read is remembered in the same step in which it reads, on the shard that owns the key; so a write is either before the read
//!    or finds the reader.
//! 2. The owner counts the shards to which a step's invalidations go, and the count travels with the reply of the write. Each of
//!    them says to the writer's shard when it has put the invalidations into its clients' output (through the shard of the client that
//!    they are redirected to, if there is one). The reply of the write is held until all have said so: see [`Fence`]. No step is ever
//!    held, only the reply; and nothing is counted where no tracked key was hit on another core.
//! 3. A reader's own replies may be on their way from the owner, or wait in line for another shard, when the invalidation comes: one
//!    that shows the old value would follow it. So a client that has replies pending is told at once (it may have had the key before),
//!    and once more behind each of them.
//!
//! With REDIRECT the invalidations are on another connection than the replies, and in Redis, too, nothing orders the two. What holds
//! is the rule for a client that does not keep what it reads if the key was invalidated between its request and the reply, as
//! Redis's documentation asks of it: the owner counts an invalidation as told when it is in the output of whoever it is redirected to.
//!
//! FLUSHALL empties the tables in its step and tells everybody afterwards; until all have been told, those that others are redirected
//! to included, what was remembered stays at hand, so that a write in between finds its readers. Then it is answered.
//!
//! What is guaranteed to a writer and a reader on different cores is thus: when the reply of the write leaves its shard, the
//! invalidation is in the output of every client that was sent the old value; and whoever is sent it later, since it was read before,
//! is sent the invalidation right behind it. What a client does to a key itself is told behind the reply, as in Redis. The
//! rule speaks of the reply of the write: a third client may read the new value a moment before the others have been told, while in
//! Redis that is one instant.
//!
//! Invariants: a reader is listed for a key once; the keys in the list of places and in the map are the same.
//!
//! Absent on purpose: messages between shards and frames (`shard`), the rules of the command (`commands`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::base::ShardId;
use crate::base::rng::Rng;
use crate::session::SessionKey;

/// A connection, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Client {
    /// Its shard.
    pub home: ShardId,
    /// Its place there.
    pub session: SessionKey,
}

/// A reply that is held until shards have acknowledged invalidations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    /// Where it is held.
    pub home: ShardId,
    /// Which it is.
    pub reply: HeldReply,
}

/// See [`Fence`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldReply {
    /// That of a batch.
    Batch {
        /// The connection.
        session: SessionKey,
        /// The connection's number for the batch.
        seq: u64,
    },
    /// That of a plan.
    Plan(u32),
}

/// Why a client is told of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It was changed by somebody else, or has expired.
    Other,
    /// The client has changed it itself.
    Own,
    /// The table was full: the key has not changed.
    Evicted,
}

/// A client that is to be told of a key that it has read.
#[derive(Clone, Debug)]
pub struct Due {
    /// Who.
    pub reader: Client,
    /// Of what.
    pub key: Arc<[u8]>,
    /// Why.
    pub cause: Cause,
}

/// Who has read a key: mostly one.
enum Readers {
    One(Client),
    Many(HashSet<Client, ahash::RandomState>),
}

impl Readers {
    /// False if it is among them.
    fn add(&mut self, client: Client) -> bool {
        match self {
            Readers::One(reader) if *reader == client => false,
            Readers::One(reader) => {
                *self = Readers::Many([*reader, client].into_iter().collect());
                true
            }
            Readers::Many(readers) => readers.insert(client),
        }
    }

    fn len(&self) -> usize {
        match self {
            Readers::One(_) => 1,
            Readers::Many(readers) => readers.len(),
        }
    }

    fn list(self) -> Vec<Client> {
        match self {
            Readers::One(reader) => vec![reader],
            Readers::Many(readers) => readers.into_iter().collect(),
        }
    }
}

/// Keys with the client that changed each last; nobody if it has expired.
pub type ChangedKeys = BTreeMap<Vec<u8>, Option<Client>>;

/// What one shard is told at the end of a turn.
#[derive(Default)]
pub struct Broadcast {
    /// Keys that have changed, by prefix.
    pub changes: Vec<(Vec<u8>, ChangedKeys)>,
    /// Replies that wait for it.
    pub fences: Vec<Fence>,
}

/// What is known of a prefix on every shard.
#[derive(Default)]
struct Prefix {
    /// By shard, how many of its clients follow it.
    homes: BTreeMap<ShardId, u32>,
    /// What has changed since the last broadcast.
    changed: ChangedKeys,
}

/// Which clients have read which keys.
#[derive(Default)]
struct Table {
    /// Places in `entries`.
    places: HashMap<Arc<[u8]>, u32, ahash::RandomState>,
    entries: Vec<(Arc<[u8]>, Readers)>,
    items: usize,
}

impl Table {
    fn add(&mut self, client: Client, key: &[u8]) {
        let new = match self.places.get(key) {
            Some(&place) => self.entries[place as usize].1.add(client),
            None => {
                let key: Arc<[u8]> = Arc::from(key);
                let place = u32::try_from(self.entries.len()).expect("fewer keys are read than fit in memory");
                self.places.insert(key.clone(), place);
                self.entries.push((key, Readers::One(client)));
                true
            }
        };
        self.items += usize::from(new);
    }

    fn take(&mut self, key: &[u8]) -> Option<(Arc<[u8]>, Readers)> {
        let place = self.places.remove(key)?;
        let (key, readers) = self.entries.swap_remove(place as usize);
        if let Some((moved, _)) = self.entries.get(place as usize)
            && let Some(of_moved) = self.places.get_mut(moved)
        {
            *of_moved = place;
        }
        self.items -= readers.len();
        Some((key, readers))
    }
}

/// See the module.
#[derive(Default)]
pub struct Tracking {
    readers: Table,
    /// Tables from before databases were emptied, until all clients have been told of that.
    aside: Vec<(Fence, Table)>,
    prefixes: BTreeMap<Vec<u8>, Prefix>,
    /// The lengths of prefixes, and how many have each.
    lengths: BTreeMap<usize, u32>,
    /// Prefixes with changes that were not broadcast yet.
    touched: BTreeSet<Vec<u8>>,
    /// Shards that this step's changes will be broadcast to.
    concerned: BTreeSet<ShardId>,
    /// By shard, the replies that wait for the next broadcast.
    owed: BTreeMap<ShardId, Vec<Fence>>,
    due: Vec<Due>,
    /// Sessions of this shard by the prefix that they follow.
    followers: BTreeMap<Vec<u8>, BTreeSet<SessionKey>>,
    /// For whom the step runs that runs now.
    pub actor: Option<Client>,
    /// Replies of this shard for which so many more shards have acknowledged, or (below zero) will; for the dispatcher.
    pub acknowledged: Vec<(HeldReply, i64)>,
    /// How many sessions of this shard are tracked.
    pub clients: usize,
    /// How many of them are redirected to a client of another shard.
    pub led_away: usize,
}

impl Tracking {
    /// Whether no change of a key of this shard concerns anybody.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.readers.entries.is_empty() && self.prefixes.is_empty() && self.aside.is_empty()
    }

    /// Whether somebody is to be told what this step has changed.
    #[inline]
    pub fn has_news(&self) -> bool {
        !self.due.is_empty() || !self.concerned.is_empty()
    }

    /// Keys that somebody has read.
    pub fn keys_len(&self) -> usize {
        self.readers.entries.len()
    }

    /// Readers of all keys.
    pub fn items_len(&self) -> usize {
        self.readers.items
    }

    /// Prefixes that somebody anywhere follows.
    pub fn prefixes_len(&self) -> usize {
        self.prefixes.len()
    }

    /// A client has read a key.
    pub fn remember(&mut self, client: Client, key: &[u8]) {
        self.readers.add(client, key);
    }

    /// Forgets keys, drawn at random, until there are no more than this, and tells their readers so.
    pub fn trim(&mut self, keys_max: usize, rng: &mut Rng) {
        while self.readers.entries.len() > keys_max {
            let place = rng.below(self.readers.entries.len() as u64);
            let key = self.readers.entries[place as usize].0.clone();
            if let Some((key, readers)) = self.readers.take(&key) {
                let due = |reader| Due { reader, key: key.clone(), cause: Cause::Evicted };
                self.due.extend(readers.list().into_iter().map(due));
            }
        }
    }

    /// A key has changed, come or gone, be it that it has expired.
    #[inline]
    pub fn changed(&mut self, key: &[u8], expired: bool) {
        if !self.is_idle() {
            self.note_change(key, expired);
        }
    }

    #[cold]
    fn note_change(&mut self, key: &[u8], expired: bool) {
        let actor = self.actor;
        let Tracking { readers, aside, due, .. } = self;
        for table in std::iter::once(readers).chain(aside.iter_mut().map(|(_, table)| table)) {
            let Some((key, readers)) = table.take(key) else { continue };
            for reader in readers.list() {
                let cause = if actor == Some(reader) { Cause::Own } else { Cause::Other };
                due.push(Due { reader, key: key.clone(), cause });
            }
        }
        let Tracking { prefixes, lengths, touched, concerned, .. } = self;
        for len in lengths.range(..=key.len()).map(|(len, _)| *len) {
            if let Some(prefix) = prefixes.get_mut(&key[..len]) {
                prefix.changed.insert(key.to_vec(), actor.filter(|_| !expired));
                concerned.extend(prefix.homes.keys());
                touched.insert(key[..len].to_vec());
            }
        }
    }

    /// All keys have gone, or all of one database. Their readers are told without names, a moment later; until then a write must find
    /// who has read before, so what was remembered is set aside. Whether that was anything.
    pub fn set_aside(&mut self, by: Fence) -> bool {
        if self.readers.entries.is_empty() {
            return false;
        }
        self.aside.push((by, std::mem::take(&mut self.readers)));
        true
    }

    /// They have been told.
    pub fn forget_aside(&mut self, by: Fence) {
        self.aside.retain(|(other, _)| *other != by);
    }

    /// Who is to be told what.
    pub fn take_due(&mut self) -> Vec<Due> {
        std::mem::take(&mut self.due)
    }

    /// A step is over. Its reply, if there is one to be held, waits for the next broadcast to other shards; how many these are. Who
    /// follows a prefix here is told before the reply leaves, unless somebody elsewhere is told in his place.
    pub fn end_step(&mut self, here: ShardId, fence: Option<Fence>) -> u32 {
        let concerned = std::mem::take(&mut self.concerned);
        let Some(fence) = fence else { return 0 };
        let mut awaited = 0;
        let is_awaited = |home: &ShardId| *home != here || self.led_away > 0;
        for home in concerned.into_iter().filter(is_awaited) {
            self.owed.entry(home).or_default().push(fence);
            awaited += 1;
        }
        awaited
    }

    /// Whether [`Tracking::take_broadcast`] has something.
    #[inline]
    pub fn has_broadcast(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What has changed since the last time, by shard and prefix, with the replies that wait for that shard.
    pub fn take_broadcast(&mut self) -> BTreeMap<ShardId, Broadcast> {
        let mut by_home: BTreeMap<ShardId, Broadcast> = BTreeMap::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(prefix) = self.prefixes.get_mut(&name) else { continue };
            let changed = std::mem::take(&mut prefix.changed);
            for home in prefix.homes.keys() {
                by_home.entry(*home).or_default().changes.push((name.clone(), changed.clone()));
            }
        }
        for (home, fences) in std::mem::take(&mut self.owed) {
            by_home.entry(home).or_default().fences.extend(fences);
        }
        by_home
    }

    /// One more client of a shard follows a prefix, or one less.
    pub fn note_follower(&mut self, prefix: &[u8], home: ShardId, follows: bool) {
        if follows {
            if !self.prefixes.contains_key(prefix) {
                *self.lengths.entry(prefix.len()).or_default() += 1;
            }
            *self.prefixes.entry(prefix.to_vec()).or_default().homes.entry(home).or_default() += 1;
            return;
        }
        let Some(state) = self.prefixes.get_mut(prefix) else { return };
        if let Some(count) = state.homes.get_mut(&home) {
            *count -= 1;
            if *count == 0 {
                state.homes.remove(&home);
            }
        }
        if state.homes.is_empty() {
            self.prefixes.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// A session of this shard follows a prefix from now on.
    pub fn follow(&mut self, prefix: &[u8], session: SessionKey) {
        self.followers.entry(prefix.to_vec()).or_default().insert(session);
    }

    /// It does not any more.
    pub fn unfollow(&mut self, prefix: &[u8], session: SessionKey) {
        if let Some(sessions) = self.followers.get_mut(prefix) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.followers.remove(prefix);
            }
        }
    }

    /// The sessions of this shard that follow a prefix.
    pub fn followers_of(&self, prefix: &[u8]) -> Vec<SessionKey> {
        self.followers.get(prefix).map_or_else(Vec::new, |sessions| sessions.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(index: u32) -> Client {
        Client { home: ShardId(index as u16 % 3), session: SessionKey { index, generation: 1 } }
    }

    fn told(tracking: &mut Tracking) -> Vec<(u32, Cause)> {
        let mut told: Vec<_> = tracking.take_due().iter().map(|due| (due.reader.session.index, due.cause)).collect();
        told.sort_by_key(|(index, _)| *index);
        told
    }

    #[test]
    fn who_has_read_a_key_is_told_once_of_its_change() {
        let mut tracking = Tracking::default();
        for reader in [1, 2, 1] {
            tracking.remember(client(reader), b"k");
        }
        tracking.remember(client(1), b"other");
        assert_eq!((tracking.keys_len(), tracking.items_len()), (2, 3));
        tracking.actor = Some(client(2));
        tracking.changed(b"k", false);
        tracking.changed(b"k", false);
        assert_eq!(told(&mut tracking), [(1, Cause::Other), (2, Cause::Own)]);
        assert_eq!((tracking.keys_len(), tracking.items_len()), (1, 1));
    }

    #[test]
    fn a_table_that_is_too_large_forgets_keys_and_tells_their_readers() {
        let mut tracking = Tracking::default();
        for n in 0..100 {
            tracking.remember(client(n), format!("k{n}").as_bytes());
        }
        tracking.trim(30, &mut Rng::seed(7));
        assert_eq!((tracking.keys_len(), tracking.items_len()), (30, 30));
        let forgotten = told(&mut tracking);
        assert_eq!(forgotten.len(), 70);
        assert!(forgotten.iter().all(|(_, cause)| *cause == Cause::Evicted));
        for n in 0..100 {
            tracking.changed(format!("k{n}").as_bytes(), false);
        }
        assert_eq!(told(&mut tracking).len(), 30, "the others are still known");
        assert!(tracking.is_idle());
    }

    #[test]
    fn changes_are_broadcast_by_prefix_to_the_shards_that_follow_it() {
        let mut tracking = Tracking::default();
        tracking.note_follower(b"", ShardId(0), true);
        tracking.note_follower(b"ab", ShardId(1), true);
        tracking.note_follower(b"ab", ShardId(1), true);
        tracking.note_follower(b"ab", ShardId(1), false);
        tracking.changed(b"abc", false);
        tracking.changed(b"x", false);
        let fence = Fence { home: ShardId(2), reply: HeldReply::Plan(7) };
        assert_eq!(tracking.end_step(ShardId(0), Some(fence)), 1, "shard 0 is this one");
        let broadcast = tracking.take_broadcast();
        let keys = |home: u16| -> Vec<Vec<Vec<u8>>> {
            broadcast[&ShardId(home)].changes.iter().map(|(_, keys)| keys.keys().cloned().collect()).collect()
        };
        assert_eq!(keys(0), [[b"abc".to_vec(), b"x".to_vec()]]);
        assert_eq!(keys(1), [[b"abc".to_vec()]]);
        assert_eq!((broadcast[&ShardId(0)].fences.len(), &broadcast[&ShardId(1)].fences[..]), (0, &[fence][..]));
        tracking.note_follower(b"ab", ShardId(1), false);
        tracking.note_follower(b"", ShardId(0), false);
        assert!(tracking.is_idle() && !tracking.has_broadcast());
    }
}
