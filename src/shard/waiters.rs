//! Clients that wait for data at keys of this shard: who waits, in which order, and how a change serves them.
//!
//! A blocking command that finds nothing leaves a [`Waiter`] with every shard that owns one of its keys. Nothing is locked
//! meanwhile: a waiter is a note, and other commands pass it by. A command that changes a key for which somebody waits puts
//! the key on the ready list; when that command (or the transaction around it) is over, the shard serves the key's line in
//! order of arrival.
//!
//! ```text
//!   all keys of the waiter here     served on the spot: the value is taken and the reply sent home
//!   keys on several shards          the key is offered: home is woken and tries, while the line behind it holds still;
//!                                   it takes the value (and leaves all lines), or declines, and the line goes on
//! ```
//!
//! So a value goes to one client, and of those who wait for one key the first comes first. An offer cannot last: home answers
//! it whatever has become of its client.
//!
//! Belongs to its shard. Invariants: a waiter stands once in the line of each of its keys; a key without a line is not in the
//! map; between two messages nothing is on the ready list. Absent on purpose: deadlines and connections (home has both).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::Shard;
use super::cx::WriteCx;
use super::storage::Told;
use crate::base::{DbIndex, ShardId};
use crate::resp::{CommandError, Reply, Resp};
use crate::tracking::{Fence, HeldReply};

/// Tries to serve a waiter from one key, on its owner: true if the reply was written, false if there is nothing for it yet. An
/// error ends the wait, but for [`CommandError::WrongType`] once the client waits: a key that becomes something else is waited out.
pub type ServeFn = Arc<dyn Fn(&mut WriteCx<'_>, &[u8], &mut Reply) -> Result<bool, CommandError> + Send + Sync>;

/// Names a waiter on all shards: the plan that waits, on the shard of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WaiterId {
    /// Where the client is connected.
    pub home: ShardId,
    /// The plan's number there.
    pub plan: u32,
}

/// What a plan that waits is told.
pub enum WaitEvent {
    /// Something is at this key, and the line there holds still until the plan has tried.
    Offered(Vec<u8>),
    /// The waiter was served, and is in no line any more.
    Served(Result<Reply, CommandError>),
    /// Its time is over.
    TimedOut,
    /// CLIENT UNBLOCK.
    Unblocked {
        /// Whether the client is to get an error instead of what a timeout gives.
        with_error: bool,
    },
    /// The rules of the client's user have changed, and it may not do this any more.
    Refused(CommandError),
    /// The client is gone.
    Gone,
    /// Something about files: see `storage`.
    Told(Box<Told>),
}

/// One client's wait for keys of this shard.
pub struct Waiter {
    /// Whose it is.
    pub id: WaiterId,
    /// The client's database.
    pub db: DbIndex,
    /// The client's protocol.
    pub proto: Resp,
    /// The keys, those of this shard.
    pub keys: Vec<Vec<u8>>,
    /// How to serve it here; none if its keys are offered.
    pub serve: Option<ServeFn>,
    /// Whether it wants to hear that a key has gone (XREADGROUP).
    pub on_absence: bool,
    /// Hashes of other keys of this shard that serving it changes (the destination of BLMOVE).
    pub changes: Vec<u64>,
}

#[derive(Default)]
struct Line {
    /// By arrival.
    waiters: BTreeMap<u64, WaiterId>,
    /// How many of them want to hear that the key has gone.
    on_absence: usize,
    /// Who has been offered the key and has not answered.
    offered: Option<u64>,
    /// The key has changed since it was offered.
    changed: bool,
    /// The key is on the ready list.
    ready: bool,
}

/// A key of a database.
pub type Place = (DbIndex, Vec<u8>);

/// Everyone who waits on this shard.
#[derive(Default)]
pub struct Waiters {
    lines: HashMap<Place, Line, ahash::RandomState>,
    waiters: HashMap<WaiterId, (u64, Waiter), ahash::RandomState>,
    ready: VecDeque<Place>,
    arrivals: u64,
}

impl Waiters {
    /// Whether nobody waits, so that there is nothing to tell.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Keys that somebody waits for, and those of them where somebody wants to hear that the key has gone.
    pub fn keys(&self) -> (usize, usize) {
        (self.lines.len(), self.lines.values().filter(|line| line.on_absence > 0).count())
    }

    /// Whether some keys wait to be served.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the keys that wait to be served.
    pub fn take_ready(&mut self) -> VecDeque<Place> {
        let ready = std::mem::take(&mut self.ready);
        for place in &ready {
            if let Some(line) = self.lines.get_mut(place) {
                line.ready = false;
            }
        }
        ready
    }

    /// To be told of each change of a key.
    #[inline]
    pub fn signal(&mut self, db: DbIndex, key: &[u8]) {
        if !self.lines.is_empty() {
            self.signal_line(db, key);
        }
    }

    #[cold]
    fn signal_line(&mut self, db: DbIndex, key: &[u8]) {
        let place = (db, key.to_vec());
        if let Some(line) = self.lines.get_mut(&place) {
            line.changed = true;
            if !line.ready {
                line.ready = true;
                self.ready.push_back(place);
            }
        }
    }

    /// Signals every key of a database that somebody waits for: it was emptied or exchanged.
    pub fn signal_db(&mut self, db: DbIndex) {
        let keys: Vec<Vec<u8>> = self.lines.keys().filter(|place| place.0 == db).map(|place| place.1.clone()).collect();
        for key in keys {
            self.signal_line(db, &key);
        }
    }

    /// Puts a waiter at the end of the lines of its keys.
    pub fn add(&mut self, mut waiter: Waiter) {
        waiter.keys.sort_unstable();
        waiter.keys.dedup();
        self.arrivals += 1;
        for key in &waiter.keys {
            let line = self.lines.entry((waiter.db, key.clone())).or_default();
            line.waiters.insert(self.arrivals, waiter.id);
            line.on_absence += usize::from(waiter.on_absence);
        }
        self.waiters.insert(waiter.id, (self.arrivals, waiter));
    }

    /// Takes a waiter out of all lines; what it was offered goes to the next.
    pub fn cancel(&mut self, id: WaiterId) {
        let Some((arrival, waiter)) = self.waiters.remove(&id) else { return };
        for key in waiter.keys {
            let place = (waiter.db, key);
            let line = self.lines.get_mut(&place).expect("a waiter stands in the line of each of its keys");
            line.waiters.remove(&arrival);
            line.on_absence -= usize::from(waiter.on_absence);
            let was_offered = line.offered == Some(arrival);
            if line.waiters.is_empty() {
                // If it is on the ready list, it will be found to be gone.
                self.lines.remove(&place);
            } else if was_offered {
                line.offered = None;
                self.signal_line(place.0, &place.1);
            }
        }
    }

    /// The waiter has tried what it was offered and found nothing for it: those behind it have their turn.
    pub fn decline(&mut self, id: WaiterId, db: DbIndex, key: &[u8]) -> Option<u64> {
        let arrival = self.waiters.get(&id)?.0;
        let line = self.lines.get_mut(&(db, key.to_vec()))?;
        if line.offered != Some(arrival) {
            return None;
        }
        line.offered = None;
        // What came meanwhile may be for those at the front.
        Some(if line.changed { 0 } else { arrival + 1 })
    }
}

impl Shard {
    /// Serves those who wait for keys that have changed, and publishes what has happened to keys. To be called when a command or
    /// transaction is over.
    #[inline]
    pub fn serve_ready(&mut self) {
        if self.waiters.has_ready() {
            self.serve_lines();
        }
        if !self.events.is_empty() {
            self.publish_events();
        }
        if self.tracking.has_news() {
            self.send_invalidations(None, None);
        }
    }

    #[cold]
    fn serve_lines(&mut self) {
        while let Some(place) = self.waiters.ready.pop_front() {
            if let Some(line) = self.waiters.lines.get_mut(&place) {
                line.ready = false;
                if line.offered.is_none() {
                    self.serve_line(&place, 0);
                }
            }
        }
    }

    /// A waiter declines what it was offered.
    pub fn decline_offer(&mut self, id: WaiterId, db: DbIndex, key: &[u8]) {
        if let Some(from) = self.waiters.decline(id, db, key) {
            self.serve_line(&(db, key.to_vec()), from);
        }
        self.serve_ready();
    }

    /// Serves the line of one key, from this arrival on.
    fn serve_line(&mut self, place: &Place, mut from: u64) {
        let (db, key) = (place.0, &place.1);
        loop {
            let Some(line) = self.waiters.lines.get_mut(place) else { return };
            let absent = self.keyspace.db(db).find(key).is_none();
            if absent && line.on_absence == 0 {
                return;
            }
            let Some((&arrival, &id)) = line.waiters.range(from..).next() else { return };
            from = arrival + 1;
            let (_, waiter) = &self.waiters.waiters[&id];
            if absent && !waiter.on_absence {
                continue;
            }
            // A transaction that is at this key, or is to be at one that serving it changes, comes first.
            let hash = self.keyspace.db(db).hash(key);
            if let Some(order) = self.reservations.blocks_serving(hash, &waiter.changes) {
                self.reservations.defer(order, place.clone());
                return;
            }
            let Some(serve) = waiter.serve.clone() else {
                line.offered = Some(arrival);
                line.changed = false;
                self.tell_waiter(id, WaitEvent::Offered(key.clone()));
                return;
            };
            let mut reply = Reply::with_proto(waiter.proto);
            self.tracking.actor = None;
            let outer = self.begin_step(None);
            let served = serve(&mut WriteCx::new(self.data_cx(db, true)), key, &mut reply);
            self.end_step(outer);
            let result = match served {
                Ok(true) => Ok(reply),
                Ok(false) | Err(CommandError::WrongType) => continue,
                Err(error) => Err(error),
            };
            self.waiters.cancel(id);
            if self.tracking.has_news() {
                self.hold_served(id);
            }
            self.tell_waiter(id, WaitEvent::Served(result));
        }
    }

    /// Tells who has read what serving a waiter has changed, and has its reply held until they know.
    #[cold]
    fn hold_served(&mut self, id: WaiterId) {
        let reply = HeldReply::Plan(id.plan);
        let awaited = i64::from(self.send_invalidations(Some(Fence { home: id.home, reply }), None));
        self.tell(id.home, move |home| home.tracking.acknowledged.push((reply, -awaited)));
    }

    /// Sends an event to the plan that waits.
    fn tell_waiter(&mut self, id: WaiterId, event: WaitEvent) {
        if id.home == self.id {
            self.wait_events.push((id.plan, event));
        } else {
            self.told.push((id.home, Box::new(move |home: &mut Shard| home.wait_events.push((id.plan, event)))));
        }
    }
}
