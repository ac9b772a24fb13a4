//! Who has reserved which keys of this shard, in which order, and what waits for its turn.
//!
//! The scheme, and why it can neither deadlock nor starve, is told in `txn`. Here is the shard's half of it: a table of
//! *entries*, each with what it claims and its place in the serial order.
//!
//! ```text
//!   entries, by order     10 ──────── 17 ──────────── 23 ─────────── 31
//!                         held        proposed        waiting        waiting
//!                         a, b        b               a              c, b
//!   lines, by key         a: 10, 23   b: 10, 17, 31   c: 31
//! ```
//!
//! - *proposed*: a transaction over several shards that has a place here but not yet its final one, which may be later. It stands
//!   in the way of what comes behind it.
//! - *waiting*: its place is final; it runs as soon as nothing that it conflicts with stands before it. This is also how a command
//!   of one shard waits: it takes the next place and is final at once.
//! - *held*: it has had its turn and goes on, step by step, until it is released.
//!
//! Two claims conflict if they share a key (or one claims everything) and one of them is exclusive. Keys are known by their hash:
//! two keys with one hash conflict needlessly, and never wrongly pass each other.
//!
//! Belongs to its shard. Invariants: a new entry stands behind all that are there; an entry only moves backwards, and only while
//! it is proposed; what is on the runnable list has nothing before it, and stays so. While the table is empty, nobody pays for it
//! but by one comparison. Absent on purpose: what an entry does on its turn (`dispatch`).

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::message::{Batch, Turn};
use super::waiters::Place;
use crate::base::ShardId;
use crate::session::SessionKey;

/// Names a transaction while it runs. Those that never leave a shard have numbers of that shard's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TxnId {
    /// The shard that coordinates it.
    pub home: ShardId,
    /// Its number there.
    pub number: u64,
}

/// A place in the serial order of all shards. No two are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Order {
    /// An instant between the begin and the end of the transaction: monotonic nanoseconds.
    pub ns: u64,
    /// Decides between equal instants.
    pub txn: TxnId,
}

/// What is done with a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// It is read; others may read it, too.
    Shared,
    /// It may be changed.
    Exclusive,
}

impl Access {
    /// Whether two accesses to one key exclude each other.
    pub fn conflicts(self, other: Access) -> bool {
        self == Access::Exclusive || other == Access::Exclusive
    }
}

/// What a transaction claims on one shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// All keys of the shard, those that are not there included.
    pub everything: Option<Access>,
    /// Keys, by hash, each once, in ascending order.
    keys: Vec<(u64, Access)>,
}

impl Claims {
    /// All keys of a shard.
    pub fn everything(access: Access) -> Claims {
        Claims { everything: Some(access), keys: Vec::new() }
    }

    /// These keys, which may be named more than once.
    pub fn keys(mut keys: Vec<(u64, Access)>) -> Claims {
        // The exclusive claim of a key comes first, and stays.
        keys.sort_unstable_by_key(|&(hash, access)| (hash, std::cmp::Reverse(access)));
        keys.dedup_by_key(|(hash, _)| *hash);
        Claims { everything: None, keys }
    }

    /// The hashes of the keys, in ascending order.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + '_ {
        self.keys.iter().map(|(hash, _)| *hash)
    }

    /// The strongest access to any key.
    fn strongest(&self) -> Option<Access> {
        self.everything.into_iter().chain(self.keys.iter().map(|(_, access)| *access)).max()
    }

    fn conflicts(&self, other: &Claims) -> bool {
        let against_all = |all: Option<Access>, claims: &Claims| {
            all.is_some_and(|all| claims.strongest().is_some_and(|access| all.conflicts(access)))
        };
        if against_all(self.everything, other) || against_all(other.everything, self) {
            return true;
        }
        let (few, many) = if self.keys.len() <= other.keys.len() { (self, other) } else { (other, self) };
        few.keys.iter().any(|&(hash, access)| {
            let found = many.keys.binary_search_by_key(&hash, |(hash, _)| *hash);
            found.is_ok_and(|at| many.keys[at].1.conflicts(access))
        })
    }
}

/// What an entry does when its turn has come.
pub enum Next {
    /// A step of a transaction, and the shard that has sent it.
    Turn(ShardId, Box<Turn>),
    /// Commands of a connection of another shard go on at this one of the batch.
    Batch(ShardId, Box<Batch>, usize),
    /// The input of a connection of this shard goes on.
    Session(SessionKey),
}

enum Stage {
    Proposed,
    Waiting(Next),
    Held,
}

struct Entry {
    claims: Claims,
    stage: Stage,
    /// Whether it is on the runnable list.
    runnable: bool,
    /// Keys that somebody waits for and that cannot be served before this entry is gone.
    deferred: Vec<Place>,
}

/// One claim in a line.
type Stand = (Order, Access);

/// Takes a claim out of its line.
fn take_out(line: &mut Vec<Stand>, order: Order) {
    let at = line.binary_search_by_key(&order, |(o, _)| *o).expect("a claim stands in its line");
    line.remove(at);
}

/// See the module.
pub struct Reservations {
    entries: BTreeMap<Order, Entry>,
    /// By key, in order.
    lines: HashMap<u64, Vec<Stand>, ahash::RandomState>,
    /// Lines in which nobody stands any more, to be used again.
    spare_lines: Vec<Vec<Stand>>,
    /// The places of transactions over several shards.
    orders: HashMap<TxnId, Order, ahash::RandomState>,
    /// Entries that claim everything.
    of_everything: usize,
    runnable: VecDeque<Order>,
    /// The latest place known here.
    latest_ns: u64,
    /// Numbers for entries that never leave this shard.
    next_own: u64,
    /// False: nothing is in the way of anything. For tests that have to see what goes wrong then.
    enforced: bool,
}

/// Empty lines that are kept: as many keys as a few transactions claim.
const SPARE_LINES: usize = 64;

/// Numbers of a shard's own entries begin here; those of plans are below.
const OWN_NUMBERS: u64 = 1 << 63;

impl Default for Reservations {
    fn default() -> Reservations {
        Reservations {
            entries: BTreeMap::new(),
            lines: HashMap::default(),
            spare_lines: Vec::new(),
            orders: HashMap::default(),
            of_everything: 0,
            runnable: VecDeque::new(),
            latest_ns: 0,
            next_own: OWN_NUMBERS,
            enforced: true,
        }
    }
}

impl Reservations {
    /// Whether nothing is reserved: then every command of one shard may run at once.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many transactions and commands have a place here, be it that they wait or that they hold keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether conflicts are respected (they are, unless a test says otherwise).
    pub fn enforce(&mut self, enforced: bool) {
        self.enforced = enforced;
    }

    /// Whether a command that does this with the key of this hash, coming now, has to wait.
    #[inline]
    pub fn conflict_at(&self, hash: u64, access: Access) -> bool {
        if self.of_everything > 0 {
            return self.conflict(&Claims::keys(vec![(hash, access)]));
        }
        self.enforced
            && self.lines.get(&hash).is_some_and(|line| line.iter().any(|(_, theirs)| theirs.conflicts(access)))
    }

    /// Whether a command with these claims, coming now, has to wait.
    pub fn conflict(&self, claims: &Claims) -> bool {
        self.enforced && !self.free_before(None, claims)
    }

    /// Whether nothing that conflicts stands before `order`, or anywhere.
    fn free_before(&self, order: Option<Order>, claims: &Claims) -> bool {
        if !self.enforced || self.entries.is_empty() {
            return true;
        }
        let before = |o: &Order| order.is_none_or(|order| *o < order);
        if claims.everything.is_some() || self.of_everything > 0 {
            return !self.entries.iter().take_while(|(o, _)| before(o)).any(|(_, e)| e.claims.conflicts(claims));
        }
        claims.keys.iter().all(|(hash, access)| {
            let line = self.lines.get(hash).map_or(&[][..], Vec::as_slice);
            !line.iter().take_while(|(o, _)| before(o)).any(|(_, theirs)| theirs.conflicts(*access))
        })
    }

    /// The next place of a transaction, not before `at_least_ns`. `clock_ns` is the monotonic clock, read now: a place that was
    /// taken from an old reading could lie before the end of what the client has seen.
    pub fn next_order(&mut self, txn: TxnId, at_least_ns: u64, clock_ns: u64) -> Order {
        let ns = clock_ns.max(self.latest_ns + 1).max(at_least_ns);
        self.latest_ns = ns;
        Order { ns, txn }
    }

    /// A place for something that stays on this shard.
    pub fn own_order(&mut self, here: ShardId, clock_ns: u64) -> Order {
        self.next_own += 1;
        let txn = TxnId { home: here, number: self.next_own };
        self.next_order(txn, 0, clock_ns)
    }

    /// Enters a transaction that has yet to learn its final place.
    pub fn propose(&mut self, order: Order, claims: Claims) {
        self.orders.insert(order.txn, order);
        self.enter(order, claims, Stage::Proposed);
    }

    /// Moves a proposed transaction to its final place; nothing if it has not proposed one here. Its turn may not have come: see
    /// [`Reservations::may_run`].
    pub fn settle(&mut self, order: Order) {
        let Some(&proposed) = self.orders.get(&order.txn) else { return };
        assert!(proposed <= order, "a place only moves backwards");
        self.latest_ns = self.latest_ns.max(order.ns);
        if proposed == order {
            return;
        }
        let entry = self.entries.remove(&proposed).expect("an order has an entry");
        for (hash, access) in &entry.claims.keys {
            let line = self.lines.get_mut(hash).expect("a claim has a line");
            if let [alone] = &mut line[..] {
                alone.0 = order;
                continue;
            }
            take_out(line, proposed);
            let at = line.partition_point(|(o, _)| *o < order);
            line.insert(at, (order, *access));
        }
        self.orders.insert(order.txn, order);
        if self.entries.is_empty() {
            self.entries.insert(order, entry);
            return;
        }
        let claims = entry.claims.clone();
        self.entries.insert(order, entry);
        self.find_runnable(&claims);
    }

    /// Whether an entry's turn has come.
    pub fn may_run(&self, order: Order) -> bool {
        let is_first = self.entries.first_key_value().is_some_and(|(first, _)| *first == order);
        is_first || self.free_before(Some(order), &self.entries[&order].claims)
    }

    /// Enters something whose place is final and whose turn has not come.
    pub fn wait(&mut self, order: Order, claims: Claims, next: Next) {
        if order.txn.number < OWN_NUMBERS {
            self.orders.insert(order.txn, order);
        }
        self.enter(order, claims, Stage::Waiting(next));
    }

    /// As [`Reservations::wait`], for a transaction that has an entry.
    pub fn wait_settled(&mut self, order: Order, next: Next) {
        self.entries.get_mut(&order).expect("it was proposed").stage = Stage::Waiting(next);
    }

    /// Enters a transaction that runs on after its first step. Nothing may stand before it.
    pub fn hold(&mut self, order: Order, claims: Claims) {
        self.orders.insert(order.txn, order);
        self.enter(order, claims, Stage::Held);
    }

    /// As [`Reservations::hold`], for a transaction that has an entry.
    pub fn hold_settled(&mut self, order: Order) {
        self.entries.get_mut(&order).expect("it was proposed").stage = Stage::Held;
    }

    fn enter(&mut self, order: Order, claims: Claims, stage: Stage) {
        debug_assert!(self.entries.last_key_value().is_none_or(|(last, _)| *last < order), "new entries stand behind");
        let Reservations { lines, spare_lines, .. } = self;
        for (hash, access) in &claims.keys {
            let line = lines.entry(*hash).or_insert_with(|| spare_lines.pop().unwrap_or_default());
            line.push((order, *access));
        }
        self.of_everything += usize::from(claims.everything.is_some());
        let old = self.entries.insert(order, Entry { claims, stage, runnable: false, deferred: Vec::new() });
        assert!(old.is_none(), "a place is taken once");
    }

    /// The place of a transaction over several shards.
    pub fn order_of(&self, txn: TxnId) -> Option<Order> {
        self.orders.get(&txn).copied()
    }

    /// Removes an entry and returns the keys whose waiters had to be put off because of it. What waited behind it may run now.
    pub fn release(&mut self, order: Order) -> Vec<Place> {
        let Some(entry) = self.entries.remove(&order) else { return Vec::new() };
        self.orders.remove(&order.txn);
        for (hash, _) in &entry.claims.keys {
            if let std::collections::hash_map::Entry::Occupied(mut line) = self.lines.entry(*hash) {
                take_out(line.get_mut(), order);
                if line.get().is_empty() {
                    let line = line.remove();
                    if self.spare_lines.len() < SPARE_LINES {
                        self.spare_lines.push(line);
                    }
                }
            }
        }
        self.of_everything -= usize::from(entry.claims.everything.is_some());
        self.find_runnable(&entry.claims);
        entry.deferred
    }

    /// Puts entries on the runnable list that a claim was in the way of.
    fn find_runnable(&mut self, claims: &Claims) {
        if self.entries.is_empty() {
            return;
        }
        let mut found: Vec<Order> = Vec::new();
        if claims.everything.is_some() || self.of_everything > 0 {
            found.extend(self.entries.iter().filter(|(_, e)| e.is_idle()).map(|(o, _)| *o));
        } else {
            for (hash, _) in &claims.keys {
                let line = self.lines.get(hash).map_or(&[][..], Vec::as_slice);
                // Whoever stands first, and as long as they only read, those right behind.
                for (at, (order, access)) in line.iter().enumerate() {
                    if at > 0 && *access == Access::Exclusive {
                        break;
                    }
                    if self.entries[order].is_idle() {
                        found.push(*order);
                    }
                    if *access == Access::Exclusive {
                        break;
                    }
                }
            }
            found.sort_unstable();
            found.dedup();
        }
        for order in found {
            if self.may_run(order) {
                self.entries.get_mut(&order).expect("it was found").runnable = true;
                self.runnable.push_back(order);
            }
        }
    }

    /// Whether some entry's turn has come.
    #[inline]
    pub fn has_runnable(&self) -> bool {
        !self.runnable.is_empty()
    }

    /// The next entry whose turn has come, and what it does. It is held from now on, until it is released.
    pub fn next_runnable(&mut self) -> Option<(Order, Next)> {
        loop {
            let order = self.runnable.pop_front()?;
            // One that was released meanwhile (its client is gone) is not there any more.
            let Some(entry) = self.entries.get_mut(&order) else { continue };
            match std::mem::replace(&mut entry.stage, Stage::Held) {
                Stage::Waiting(next) => return Some((order, next)),
                Stage::Proposed | Stage::Held => unreachable!("only what waits becomes runnable"),
            }
        }
    }

    /// The entry that keeps a waiter from being served with the key of this hash: one that holds the key, or one that has any
    /// claim on another key that serving it changes.
    pub fn blocks_serving(&self, key: u64, others: &[u64]) -> Option<Order> {
        if self.entries.is_empty() || !self.enforced {
            return None;
        }
        if self.of_everything > 0
            && let Some((order, _)) =
                self.entries.iter().find(|(_, e)| e.claims.everything.is_some() && (e.is_held() || !others.is_empty()))
        {
            return Some(*order);
        }
        let line = |hash: &u64| self.lines.get(hash).into_iter().flatten().map(|(order, _)| *order);
        line(&key).find(|order| self.entries[order].is_held()).or_else(|| others.iter().flat_map(line).next())
    }

    /// Puts off serving the waiters of a key until this entry is gone.
    pub fn defer(&mut self, order: Order, place: Place) {
        let deferred = &mut self.entries.get_mut(&order).expect("it is in the way").deferred;
        if !deferred.contains(&place) {
            deferred.push(place);
        }
    }

    /// Panics if the table contradicts itself. Walks everything: for tests.
    pub fn check_invariants(&self) {
        for (order, entry) in &self.entries {
            for (hash, access) in &entry.claims.keys {
                assert!(self.lines[hash].contains(&(*order, *access)), "every claim stands in its line");
            }
            if entry.is_held() && self.enforced {
                assert!(self.free_before(Some(*order), &entry.claims), "nothing stands before what is held");
            }
        }
        let claims: usize = self.entries.values().map(|e| e.claims.keys.len()).sum();
        assert_eq!(claims, self.lines.values().map(Vec::len).sum::<usize>(), "lines hold nothing else");
        assert!(self.lines.values().all(|line| !line.is_empty() && line.is_sorted()), "lines are in order");
    }
}

impl Entry {
    /// Whether it waits for its turn and nobody has noticed that it has come.
    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_)) && !self.runnable
    }

    fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ShardId = ShardId(0);

    fn claims(words: &str) -> Claims {
        // Upper case is exclusive, * is everything.
        let access = |c: char| if c.is_ascii_uppercase() || c == '!' { Access::Exclusive } else { Access::Shared };
        match words {
            "*" | "!" => Claims::everything(access(words.chars().next().expect("one of two"))),
            keys => Claims::keys(keys.chars().map(|c| (u64::from(c.to_ascii_lowercase() as u32), access(c))).collect()),
        }
    }

    struct Table(Reservations);

    impl Table {
        fn propose(&mut self, number: u64, words: &str) -> Order {
            let order = self.0.next_order(TxnId { home: ShardId(1), number }, 0, 0);
            self.0.propose(order, claims(words));
            self.0.check_invariants();
            order
        }

        fn wait(&mut self, words: &str) -> Order {
            let order = self.0.own_order(HERE, 0);
            assert!(self.0.conflict(&claims(words)), "{words} has to wait");
            self.0.wait(order, claims(words), Next::Session(SessionKey { index: 0, generation: 0 }));
            self.0.check_invariants();
            order
        }

        /// What may run now, each released at once.
        fn run(&mut self) -> Vec<Order> {
            let mut ran = Vec::new();
            while let Some((order, _)) = self.0.next_runnable() {
                self.0.check_invariants();
                self.0.release(order);
                ran.push(order);
            }
            ran
        }
    }

    #[test]
    fn readers_pass_readers_and_nobody_passes_a_writer() {
        let mut table = Table(Reservations::default());
        table.propose(1, "aB");
        assert!(!table.0.conflict(&claims("a")) && !table.0.conflict(&claims("C")));
        for words in ["A", "b", "B", "cb", "*", "!"] {
            assert!(table.0.conflict(&claims(words)), "{words}");
        }
        table.propose(2, "*");
        assert!(table.0.conflict(&claims("C")) && !table.0.conflict(&claims("c")));
    }

    #[test]
    fn what_waits_for_a_key_runs_in_order_of_arrival_readers_together() {
        let mut table = Table(Reservations::default());
        let first = table.propose(1, "A");
        let [a, b, c, d] = ["a", "a", "A", "a"].map(|words| table.wait(words));
        assert!(table.run().is_empty());
        table.0.hold_settled(first);
        table.0.release(first);
        assert_eq!(table.0.runnable, [a, b]);
        assert_eq!(table.run(), [a, b, c, d]);
        assert!(table.0.is_empty() && table.0.lines.is_empty());
    }

    #[test]
    fn a_transaction_that_moves_backwards_lets_pass_what_is_before_its_new_place() {
        let mut table = Table(Reservations::default());
        let proposed = table.propose(1, "A");
        let waits = table.wait("A");
        table.0.settle(Order { ns: waits.ns + 5, ..proposed });
        table.0.check_invariants();
        assert_eq!(table.run(), [waits]);
        let order = table.0.order_of(proposed.txn).unwrap();
        assert!(table.0.may_run(order) && order.ns == waits.ns + 5);
        let late = table.wait("a");
        assert!(late > order, "what comes now comes behind it");
    }

    #[test]
    fn claims_of_everything_wait_for_all_that_is_before_them() {
        let mut table = Table(Reservations::default());
        let (one, two) = (table.propose(1, "A"), table.propose(2, "b"));
        let everything = table.wait("!");
        let behind = table.wait("c");
        table.0.release(one);
        assert!(table.run().is_empty());
        table.0.release(two);
        assert_eq!(table.run(), [everything, behind]);
    }

    #[test]
    fn a_waiter_is_not_served_with_a_key_that_is_held_or_into_one_that_is_claimed() {
        let mut table = Table(Reservations::default());
        let order = table.propose(1, "A");
        let (a, b) = (u64::from(b'a'), u64::from(b'b'));
        assert_eq!(table.0.blocks_serving(a, &[]), None, "it has not begun");
        assert_eq!(table.0.blocks_serving(b, &[a]), Some(order));
        table.0.hold_settled(order);
        assert_eq!(table.0.blocks_serving(a, &[]), Some(order));
        table.0.defer(order, (crate::base::DbIndex(0), b"a".to_vec()));
        assert_eq!(table.0.release(order), [(crate::base::DbIndex(0), b"a".to_vec())]);
    }
}
