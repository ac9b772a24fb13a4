//! Mailboxes between shards: one bounded single-producer queue per ordered pair, one word per shard to say which of
//! its mailboxes have something, and accounts that make sure a reply always has room.
//!
//! ```text
//!   shard 0 ──[0→1]──► shard 1        every arrow is a queue of `capacity` slots
//!           ◄─[1→0]──                 bell of shard 1:  | ASLEEP | … bit 2 | bit 1 | bit 0 |
//!           ──[0→2]──► shard 2                            63       mail from shard 2, 1, 0
//! ```
//!
//! # The bell
//!
//! A shard must not look into 63 empty mailboxes on every turn, and must not sleep while one of them has mail. Both
//! questions are answered by one atomic word per receiving shard, its *bell*. Bit `from % 63` says that a shard with
//! that remainder has put mail in; bit 63 says that the receiver sleeps.
//!
//! ```text
//!   sender, once per turn and receiver          receiver
//!   ──────────────────────────────────          ────────
//!   push … push                                 awake:     word = swap(bell, 0); look where bits are set
//!   before = fetch_or(bell, my bit)             to sleep:  compare_exchange(bell, 0, ASLEEP)
//!   if before == ASLEEP { wake the receiver }                fails if any bit is set: there is mail, do not sleep
//!                                               woken:     swap(bell, 0)
//! ```
//!
//! All of it happens to one word, so its modification order decides every race, and no fences between different
//! variables are needed. Either the sender's bit comes before the receiver's compare-exchange, which then fails and the
//! receiver stays awake; or it comes after, and then the first sender after it sees exactly `ASLEEP` and wakes the
//! receiver. Later senders see `ASLEEP` with bits of others and know that somebody has woken it already. The release
//! half of `fetch_or` and the acquire half of `swap` make the pushed messages visible with the bit. (The textbook
//! alternative, a `sleeping` flag beside the queues, needs a sequentially consistent fence on each side and a look into
//! every queue before sleeping.)
//!
//! A wake-up may come for nothing: the receiver may have woken for another reason in between. It never goes missing.
//!
//! # Why nobody waits in a circle
//!
//! A shard never blocks on a full mailbox, and a reply never finds one. The accounts:
//!
//! - Of a mailbox's `capacity` slots half are for requests of the sender, half for replies to requests of the other
//!   side. A shard holds `capacity / 2` *credits* for each peer.
//! - [`Endpoint::send`] takes a credit. Without one it hands the message back, and the caller keeps it on its side:
//!   the client that sent it is not read further, so the pressure goes back to where it comes from.
//! - Each request is answered by exactly one [`Endpoint::reply`], which returns the credit when it is collected. A
//!   request that needs no answer gets an empty one.
//! - So a→b holds at most `capacity / 2` requests (credits of a), and at most `capacity / 2` replies (each belongs to
//!   an unreturned credit of b). The sum fits. A reply that finds no room is a broken invariant and stops the process.
//!
//! Running a request therefore needs no room that somebody else must free first: whoever has received one can always
//! finish and answer it, and whoever waits for credits waits only for shards that can always answer. There is no cycle
//! to wait in, whatever the load. Both sides count (`credits` here, `owed` there), and both assert.
//!
//! # Memory
//!
//! 64 shards make 4,032 queues. A slot is a message and one word; with boxed messages (16 bytes a slot) and 256 slots
//! that is 4 KiB a queue and 18 MiB resident in all with glibc's allocator, whose bookkeeping touches each block at once
//! (a test holds this under 24 MiB). Keep messages boxed or small, and mailboxes no longer than needed.
//!
//! An [`Endpoint`] belongs to one shard. Absent on purpose: waiting. An endpoint knows when its shard may sleep
//! ([`Inbox`]); how it sleeps and how a bell is rung from outside is the caller's (`park`, and `Ring::wake`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::ShardId;

/// The bit of a bell that says its shard sleeps.
const ASLEEP: u64 = 1 << 63;

/// How many bits of a bell stand for senders. With more shards than this several share a bit.
const BELL_BITS: usize = 63;

/// Messages taken from one mailbox before the next one has its turn.
const BURST: u32 = 32;

/// What a sleeping shard needs to know about its mail. [`Endpoint`] is one; `()` never has mail.
pub trait Inbox {
    /// Whether mail has come in. May say yes for nothing until the inbox has been emptied.
    fn has_mail(&self) -> bool;
    /// Announces that the shard is about to sleep. False when it must not, because there is mail.
    fn announce_sleep(&self) -> bool;
    /// The shard is awake again. Must follow every `announce_sleep` that returned true.
    fn awake(&self);
}

impl Inbox for () {
    fn has_mail(&self) -> bool {
        false
    }
    fn announce_sleep(&self) -> bool {
        true
    }
    fn awake(&self) {}
}

/// A message with its place in the accounts.
#[derive(Debug, PartialEq, Eq)]
pub enum Mail<M> {
    /// The sender waits for exactly one reply.
    Request(M),
    /// The answer to a request of ours; its credit is back.
    Reply(M),
}

/// One bell per shard, each on its own cache lines: they are written by everybody.
#[derive(Debug)]
#[repr(align(128))]
struct Bell(AtomicU64);

/// Builds the queues.
#[derive(Debug)]
pub struct Mesh;

impl Mesh {
    /// One endpoint per shard, to be moved to its thread. `capacity` slots per ordered pair, at least two; half of them
    /// are for requests.
    pub fn build<M: Send>(shards: usize, capacity: usize) -> Vec<Endpoint<M>> {
        assert!(capacity >= 2, "a mailbox needs room for a request and a reply");
        assert!(shards <= usize::from(u16::MAX), "shards are numbered with 16 bits");
        let credits = u32::try_from(capacity / 2).expect("a mailbox with less than 2^33 slots");
        let bells: Arc<[Bell]> = (0..shards).map(|_| Bell(AtomicU64::new(0))).collect();
        let mut endpoints: Vec<Endpoint<M>> = (0..shards)
            .map(|me| Endpoint {
                me: ShardId(me as u16),
                out: (0..shards).map(|_| None).collect(),
                inn: (0..shards).map(|_| None).collect(),
                bells: Arc::clone(&bells),
                credits: vec![credits; shards],
                owed: vec![0; shards],
                credits_max: credits,
                unannounced: Vec::new(),
                announced: vec![true; shards],
                bits: 0,
                cursor: 0,
                burst: 0,
            })
            .collect();
        for from in 0..shards {
            for to in (0..shards).filter(|&to| to != from) {
                let (producer, consumer) = RingBuffer::new(capacity);
                endpoints[from].out[to] = Some(producer);
                endpoints[to].inn[from] = Some(consumer);
            }
        }
        endpoints
    }
}

/// One shard's end of all its mailboxes.
pub struct Endpoint<M> {
    me: ShardId,
    out: Vec<Option<Producer<Mail<M>>>>,
    inn: Vec<Option<Consumer<Mail<M>>>>,
    bells: Arc<[Bell]>,
    /// Requests that may still be sent, per peer.
    credits: Vec<u32>,
    /// Requests received and not answered yet, per peer.
    owed: Vec<u32>,
    credits_max: u32,
    /// Peers that were sent something since the last `notify`, and the same as a table.
    unannounced: Vec<ShardId>,
    announced: Vec<bool>,
    /// Bits taken from the bell whose mailboxes are not known to be empty.
    bits: u64,
    /// The mailbox being emptied, and how many messages it may still give.
    cursor: usize,
    burst: u32,
}

impl<M> std::fmt::Debug for Endpoint<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("me", &self.me)
            .field("credits", &self.credits)
            .field("owed", &self.owed)
            .finish()
    }
}

impl<M: Send> Endpoint<M> {
    /// Whose end this is.
    pub fn me(&self) -> ShardId {
        self.me
    }

    /// How many shards there are, this one included.
    pub fn shards(&self) -> usize {
        self.out.len()
    }

    /// Requests that `to` would take now.
    pub fn credits(&self, to: ShardId) -> u32 {
        self.credits[to.index()]
    }

    /// Requests sent to `to` and not answered yet.
    pub fn outstanding(&self, to: ShardId) -> u32 {
        self.credits_max - self.credits[to.index()]
    }

    /// Requests of `from` that this shard has received and not answered yet.
    pub fn owed(&self, from: ShardId) -> u32 {
        self.owed[from.index()]
    }

    /// Whether every one of these peers would take a request now: for a command that needs all of them or none.
    /// Credits only grow while this shard is busy with something else, so the answer stays true until it sends.
    pub fn can_send(&self, to: impl IntoIterator<Item = ShardId>) -> bool {
        to.into_iter().all(|shard| self.credits(shard) > 0)
    }

    /// Sends a request. Without a credit the message comes back: keep it, stop reading what feeds it, and try again
    /// after the next reply from there. The receiver learns of it at the next [`Endpoint::notify`].
    pub fn send(&mut self, to: ShardId, message: M) -> Result<(), M> {
        assert_ne!(to, self.me, "a shard does not send to itself");
        let credits = &mut self.credits[to.index()];
        if *credits == 0 {
            return Err(message);
        }
        *credits -= 1;
        self.push(to, Mail::Request(message));
        Ok(())
    }

    /// Answers a request of `to`. There is always room, or the accounts are wrong and the process stops.
    pub fn reply(&mut self, to: ShardId, message: M) {
        let owed = &mut self.owed[to.index()];
        *owed = owed.checked_sub(1).expect("a reply answers exactly one request");
        self.push(to, Mail::Reply(message));
    }

    fn push(&mut self, to: ShardId, mail: Mail<M>) {
        let queue = self.out[to.index()].as_mut().expect("every other shard has a mailbox");
        if queue.push(mail).is_err() {
            panic!("shard {}: the mailbox to shard {to} is full, against the accounts", self.me);
        }
        if std::mem::replace(&mut self.announced[to.index()], false) {
            self.unannounced.push(to);
        }
    }

    /// Publishes what was sent since the last call, and calls `wake` for each receiver that sleeps. Once per turn,
    /// before the shard waits.
    pub fn notify(&mut self, mut wake: impl FnMut(ShardId)) {
        for to in self.unannounced.drain(..) {
            self.announced[to.index()] = true;
            let before = self.bells[to.index()].0.fetch_or(bit(self.me), Ordering::AcqRel);
            if before == ASLEEP {
                wake(to);
            }
        }
    }

    /// Whether something was sent and not published yet.
    pub fn must_notify(&self) -> bool {
        !self.unannounced.is_empty()
    }

    /// The next message for this shard, with its sender. Takes turns between senders. A reply returns its credit.
    #[expect(clippy::should_implement_trait, reason = "a for loop over an endpoint would hold it borrowed")]
    pub fn next(&mut self) -> Option<(ShardId, Mail<M>)> {
        if self.bits == 0 {
            // A plain load first: an idle turn must not take the cache line away from those who write it.
            if self.bell().load(Ordering::Relaxed) & !ASLEEP == 0 {
                return None;
            }
            self.bits = self.bell().swap(0, Ordering::AcqRel) & !ASLEEP;
        }
        loop {
            if self.burst == 0 && !self.advance() {
                return None;
            }
            let from = self.cursor;
            if let Some(Ok(mail)) = self.inn[from].as_mut().map(Consumer::pop) {
                self.burst -= 1;
                let from = ShardId(from as u16);
                match &mail {
                    Mail::Request(_) => {
                        self.owed[from.index()] += 1;
                        assert!(self.owed[from.index()] <= self.credits_max, "shard {from} sends without credit");
                    }
                    Mail::Reply(_) => {
                        self.credits[from.index()] += 1;
                        assert!(
                            self.credits[from.index()] <= self.credits_max,
                            "shard {from} answers what nobody asked"
                        );
                    }
                }
                return Some((from, mail));
            }
            self.burst = 0;
        }
    }

    /// Moves the cursor to the next mailbox that has mail; clears the bits of those that have none.
    fn advance(&mut self) -> bool {
        while self.bits != 0 {
            // All senders of a bit, from the bit behind the cursor's onwards, wrapping around.
            let turned = self.bits.rotate_right(((self.cursor + 1) % BELL_BITS) as u32);
            let next = (turned.trailing_zeros() as usize + (self.cursor + 1) % BELL_BITS) % 64;
            let has_mail = |from: &usize| self.inn[*from].as_ref().is_some_and(|queue| !queue.is_empty());
            // Behind the cursor first, so that those who share a bit take turns too.
            let sharing = (next..self.inn.len()).step_by(BELL_BITS);
            let found = sharing
                .clone()
                .find(|from| *from > self.cursor && has_mail(from))
                .or_else(|| sharing.clone().find(has_mail));
            match found {
                Some(from) => {
                    self.cursor = from;
                    self.burst = BURST;
                    return true;
                }
                None => self.bits &= !(1 << next),
            }
        }
        false
    }

    fn bell(&self) -> &AtomicU64 {
        &self.bells[self.me.index()].0
    }
}

impl<M: Send> Inbox for Endpoint<M> {
    fn has_mail(&self) -> bool {
        self.bits != 0 || self.bell().load(Ordering::Acquire) & !ASLEEP != 0
    }

    fn announce_sleep(&self) -> bool {
        assert!(self.unannounced.is_empty(), "shard {} would sleep on mail it has not published", self.me);
        self.bits == 0 && self.bell().compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn awake(&self) {
        self.bell().fetch_and(!ASLEEP, Ordering::AcqRel);
    }
}

fn bit(from: ShardId) -> u64 {
    1 << (from.index() % BELL_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::sync::Barrier;
    use std::thread::{self, Thread};
    use std::time::{Duration, Instant};

    const ZERO: ShardId = ShardId(0);
    const ONE: ShardId = ShardId(1);

    fn pair(capacity: usize) -> (Endpoint<u64>, Endpoint<u64>) {
        let mut endpoints = Mesh::build(2, capacity).into_iter();
        (endpoints.next().unwrap(), endpoints.next().unwrap())
    }

    #[test]
    fn a_request_is_answered_and_its_credit_comes_back() {
        let (mut a, mut b) = pair(8);
        assert_eq!(a.credits(ONE), 4);
        a.send(ONE, 10).unwrap();
        assert!(a.must_notify() && b.next().is_none(), "not published yet");
        a.notify(|_| panic!("nobody sleeps"));
        assert!(b.has_mail());
        assert_eq!(b.next(), Some((ZERO, Mail::Request(10))));
        assert_eq!((b.owed(ZERO), a.outstanding(ONE), b.next()), (1, 1, None));
        b.reply(ZERO, 11);
        b.notify(|_| panic!("nobody sleeps"));
        assert_eq!(a.next(), Some((ONE, Mail::Reply(11))));
        assert_eq!(a.next(), None);
        assert_eq!((a.credits(ONE), b.owed(ZERO), a.has_mail()), (4, 0, false));
    }

    #[test]
    fn without_credits_the_message_comes_back_and_replies_still_have_room() {
        let (mut a, mut b) = pair(8);
        for n in 0..4 {
            a.send(ONE, n).unwrap();
            b.send(ZERO, 100 + n).unwrap();
        }
        assert_eq!((a.send(ONE, 4), a.can_send([ONE])), (Err(4), false));
        a.notify(|_| ());
        b.notify(|_| ());
        // Both mailboxes are half full of requests; all replies fit beside them before anybody collects one.
        for n in 0..4 {
            assert_eq!(a.next(), Some((ONE, Mail::Request(100 + n))));
            assert_eq!(b.next(), Some((ZERO, Mail::Request(n))));
            a.reply(ONE, n);
            b.reply(ZERO, n);
        }
        a.notify(|_| ());
        b.notify(|_| ());
        assert_eq!(a.next(), Some((ONE, Mail::Reply(0))));
        assert_eq!(a.send(ONE, 5), Ok(()), "one credit is back");
    }

    #[test]
    #[should_panic(expected = "a reply answers exactly one request")]
    fn a_reply_without_a_request_stops_the_process() {
        let (mut a, _b) = pair(8);
        a.reply(ONE, 1);
    }

    #[test]
    fn a_sleeper_is_woken_once_and_mail_keeps_it_awake() {
        let mut endpoints: Vec<Endpoint<u64>> = Mesh::build(3, 8);
        let (mut c, mut b, a) = (endpoints.pop().unwrap(), endpoints.pop().unwrap(), endpoints.pop().unwrap());
        assert!(a.announce_sleep());
        let mut woken = Vec::new();
        b.send(ZERO, 1).unwrap();
        b.notify(|shard| woken.push(shard));
        c.send(ZERO, 2).unwrap();
        c.notify(|shard| woken.push(shard));
        assert_eq!(woken, [ZERO], "the second sender sees that it is being woken");
        a.awake();
        assert!(a.has_mail() && !a.announce_sleep());
    }

    #[test]
    fn nobody_is_starved_by_a_busy_sender() {
        let mut endpoints: Vec<Endpoint<u64>> = Mesh::build(3, 1024);
        let (mut c, mut b, mut a) = (endpoints.pop().unwrap(), endpoints.pop().unwrap(), endpoints.pop().unwrap());
        for n in 0..500 {
            b.send(ZERO, n).unwrap();
        }
        c.send(ZERO, 7).unwrap();
        b.notify(|_| ());
        c.notify(|_| ());
        let position = std::iter::from_fn(|| a.next()).position(|(from, _)| from == ShardId(2)).unwrap();
        assert!(position <= BURST as usize, "{position} messages of the other came first");
    }

    #[test]
    fn shards_that_share_a_bit_of_the_bell_all_get_through() {
        let mut endpoints: Vec<Endpoint<u64>> = Mesh::build(130, 4);
        let mut receiver = endpoints.remove(5);
        for endpoint in &mut endpoints {
            let me = endpoint.me().index() as u64;
            endpoint.send(ShardId(5), me).unwrap();
            endpoint.notify(|_| ());
        }
        let mut got: Vec<u64> = std::iter::from_fn(|| receiver.next())
            .map(|(from, mail)| {
                assert_eq!(mail, Mail::Request(from.index() as u64));
                from.index() as u64
            })
            .collect();
        got.sort_unstable();
        assert_eq!(got, (0..130).filter(|&n| n != 5).collect::<Vec<_>>());
        assert!(!receiver.has_mail());
    }

    #[test]
    fn the_mailboxes_of_sixty_four_shards_are_small() {
        let before = crate::rt::process::resident_bytes();
        let endpoints: Vec<Endpoint<Box<u64>>> = Mesh::build(64, 256);
        let grown = crate::rt::process::resident_bytes().saturating_sub(before);
        println!("{grown} bytes resident");
        assert!(grown < 24 << 20, "{grown} bytes resident");
        drop(endpoints);
    }

    /// Shards as threads that sleep with `thread::park`: everybody sends requests to everybody, with pauses, tiny
    /// mailboxes and sleeping at every chance. A lost wake-up shows as a sleep that lasts; lost or reordered mail
    /// shows in the numbers.
    fn storm(shards: usize, capacity: usize, requests: u64, seed: u64) {
        println!("{shards} shards, capacity {capacity}, {requests} requests each, seed {seed}");
        let endpoints: Vec<Endpoint<u64>> = Mesh::build(shards, capacity);
        let start = Arc::new(Barrier::new(shards));
        let threads: Arc<std::sync::Mutex<Vec<Option<Thread>>>> = Arc::new(std::sync::Mutex::new(vec![None; shards]));
        let done = Arc::new(AtomicU64::new(0));
        let bodies = endpoints.into_iter().map(|mut me| {
            let (start, threads, done) = (Arc::clone(&start), Arc::clone(&threads), Arc::clone(&done));
            thread::spawn(move || {
                threads.lock().unwrap()[me.me().index()] = Some(thread::current());
                start.wait();
                let peers: Vec<Option<Thread>> = threads.lock().unwrap().clone();
                let wake = |shard: ShardId| peers[shard.index()].as_ref().unwrap().unpark();
                let mut rng = Rng::seed(seed + me.me().index() as u64);
                let (mut sent, mut answered, mut sleeps) = (vec![0u64; shards], vec![0u64; shards], 0u64);
                let mut served = vec![0u64; shards];
                let mut announced_done = false;
                loop {
                    while let Some((from, mail)) = me.next() {
                        match mail {
                            Mail::Request(n) => {
                                assert_eq!(n, served[from.index()], "in order, none lost");
                                served[from.index()] += 1;
                                me.reply(from, n);
                            }
                            Mail::Reply(n) => {
                                assert_eq!(n, answered[from.index()], "in order, none lost");
                                answered[from.index()] += 1;
                            }
                        }
                    }
                    for _ in 0..rng.below(4) {
                        let to = rng.below(shards as u64) as usize;
                        let peer = ShardId(to as u16);
                        if to != me.me().index() && sent[to] < requests && me.send(peer, sent[to]).is_ok() {
                            sent[to] += 1;
                        }
                    }
                    me.notify(wake);
                    let all = |counts: &[u64]| (0..shards).all(|s| s == me.me().index() || counts[s] == requests);
                    if !announced_done && all(&answered) && all(&served) {
                        announced_done = true;
                        if done.fetch_add(1, Ordering::AcqRel) + 1 == shards as u64 {
                            peers.iter().flatten().for_each(Thread::unpark);
                        }
                    }
                    if done.load(Ordering::Acquire) == shards as u64 {
                        return sleeps;
                    }
                    // Sleeps when it has nothing to send, or is in the mood while it waits for replies.
                    let waits = (0..shards).any(|s| sent[s] > answered[s]);
                    if (all(&sent) || (waits && rng.chance(1, 2))) && me.announce_sleep() {
                        sleeps += 1;
                        let asleep = Instant::now();
                        thread::park_timeout(Duration::from_secs(5));
                        assert!(asleep.elapsed() < Duration::from_secs(4), "shard {} was not woken: {me:?}", me.me());
                        me.awake();
                    }
                }
            })
        });
        let bodies: Vec<_> = bodies.collect();
        let sleeps: u64 = bodies.into_iter().map(|body| body.join().unwrap()).sum();
        println!("{sleeps} sleeps");
        assert!(sleeps > 0);
    }

    #[test]
    fn no_wake_up_is_lost_between_two_shards() {
        storm(2, 2, 100_000, 1);
        storm(2, 64, 300_000, 2);
    }

    #[test]
    fn no_wake_up_is_lost_among_four_shards() {
        storm(4, 4, 30_000, 3);
        storm(4, 256, 100_000, 4);
    }
}
