//! Subscriptions that come and go while messages are published from every shard, over queues whose delays are drawn from a seed.
//!
//! What must hold whatever the delays: a subscriber reads no message of a channel before the confirmation, none after the end of its
//! subscription, and of each publisher a run of consecutive numbers; it begins no later than with the first message that was sent
//! after the confirmation was read. When all is over, what each shard believes of the others is true.

use std::collections::HashMap;

use super::simulation::{Sim, encode};
use crate::config::Config;
use crate::pubsub::Kind;
use crate::session::SessionKey;

struct Subscriber {
    shard: usize,
    key: SessionKey,
    channel: usize,
    /// Confirmed, and not ended by the client since.
    listening: bool,
    /// By publisher: the number of the first message that was sent after the confirmation was read, and the next number that must
    /// come if one has come already.
    wanted: HashMap<usize, (u64, Option<u64>)>,
    unread: Vec<u8>,
}

struct Publisher {
    shard: usize,
    key: SessionKey,
    /// By channel: the number of its next message.
    next: [u64; CHANNELS],
}

const CHANNELS: usize = 3;

/// The next whole frame of three bulks or two bulks and an integer, as words.
fn take_frame(unread: &mut Vec<u8>) -> Option<Vec<String>> {
    let text = String::from_utf8(unread.clone()).expect("the test publishes text");
    if text.is_empty() {
        return None;
    }
    let mut words = Vec::new();
    let mut lines = text.split("\r\n");
    let mut used = lines.next()?.len() + 2;
    assert!(text.starts_with(">3") || text.starts_with(">4"), "{text}");
    let elements: usize = text[1..2].parse().unwrap();
    for _ in 0..elements {
        let header = lines.next()?;
        used += header.len() + 2;
        if let Some(number) = header.strip_prefix(':') {
            words.push(number.to_owned());
        } else {
            let word = lines.next()?;
            used += word.len() + 2;
            words.push(word.to_owned());
        }
    }
    unread.drain(..used);
    Some(words)
}

impl Subscriber {
    fn read(&mut self, sim: &mut Sim, publishers: &[Publisher], seed: u64) {
        let bytes = sim.output(self.shard, self.key);
        self.unread.extend(bytes);
        while let Some(words) = take_frame(&mut self.unread) {
            match words[0].as_str() {
                "subscribe" | "psubscribe" if self.listening => {}
                "subscribe" | "psubscribe" => {
                    self.listening = true;
                    for (at, publisher) in publishers.iter().enumerate() {
                        self.wanted.insert(at, (publisher.next[self.channel], None));
                    }
                }
                "unsubscribe" | "punsubscribe" => self.listening = false,
                _ => {
                    assert!(self.listening, "seed {seed}: {words:?} outside of the subscription");
                    let message = words.last().unwrap();
                    let (publisher, number) = message.split_once(' ').expect("publisher and number");
                    let (publisher, number): (usize, u64) = (publisher.parse().unwrap(), number.parse().unwrap());
                    let (first, next) = self.wanted.get_mut(&publisher).expect("it is confirmed");
                    match next {
                        Some(next) => assert_eq!(number, *next, "seed {seed}: one by one"),
                        // What was on its way when the confirmation was read may come, too.
                        None => assert!(number <= *first, "seed {seed}: {number} comes first, {first} is missing"),
                    }
                    *next = Some(number + 1);
                }
            }
        }
    }
}

#[test]
fn a_confirmed_subscriber_misses_nothing_and_reads_nothing_twice() {
    for seed in 0..60 {
        let shards = [1, 2, 4][seed as usize % 3];
        let mut sim = Sim::new(shards, seed, &Config::default());
        let any = |sim: &mut Sim| sim.rng.below(u64::from(shards)) as usize;
        let mut subscribers: Vec<Subscriber> = (0..8)
            .map(|n| {
                let shard = any(&mut sim);
                let key = sim.connect(shard);
                let mut hello = Vec::new();
                encode(&[b"HELLO", b"3"], &mut hello);
                sim.engines[shard].receive(key, &hello);
                sim.output(shard, key);
                Subscriber {
                    shard,
                    key,
                    channel: n % CHANNELS,
                    listening: false,
                    wanted: HashMap::new(),
                    unread: Vec::new(),
                }
            })
            .collect();
        let mut publishers: Vec<Publisher> = (0..4)
            .map(|_| {
                let shard = any(&mut sim);
                Publisher { shard, key: sim.connect(shard), next: [0; CHANNELS] }
            })
            .collect();
        for _ in 0..600 {
            let mut bytes = Vec::new();
            match sim.rng.below(10) {
                0..3 => {
                    let at = sim.rng.below(8) as usize;
                    let subscriber = &mut subscribers[at];
                    let (word, name) = match at % 2 {
                        0 => ("SUBSCRIBE", format!("c{}", subscriber.channel)),
                        _ => ("PSUBSCRIBE", format!("c{}*", subscriber.channel)),
                    };
                    let ends = sim.rng.below(2) == 0;
                    let word = if ends { word.replace("SUB", "UNSUB") } else { word.to_owned() };
                    encode(&[word.as_bytes(), name.as_bytes()], &mut bytes);
                    // Replies of other shards that are awaited must not let anything overtake.
                    sim.engines[subscriber.shard].receive(subscriber.key, &bytes);
                }
                3..6 => {
                    let at = sim.rng.below(4) as usize;
                    for _ in 0..=sim.rng.below(3) {
                        let channel = sim.rng.below(CHANNELS as u64) as usize;
                        let number = &mut publishers[at].next[channel];
                        let message = format!("{at} {number}");
                        *number += 1;
                        encode(&[b"PUBLISH", format!("c{channel}").as_bytes(), message.as_bytes()], &mut bytes);
                    }
                    let (shard, key) = (publishers[at].shard, publishers[at].key);
                    sim.engines[shard].receive(key, &bytes);
                }
                _ => {
                    let at = any(&mut sim);
                    sim.turn(at);
                }
            }
            for subscriber in &mut subscribers {
                subscriber.read(&mut sim, &publishers, seed);
            }
        }
        sim.settle();
        for subscriber in &mut subscribers {
            subscriber.read(&mut sim, &publishers, seed);
            if subscriber.listening {
                for (at, publisher) in publishers.iter().enumerate() {
                    let (first, next) = subscriber.wanted[&at];
                    assert_eq!(next.unwrap_or(first), publisher.next[subscriber.channel], "seed {seed}: all has come");
                }
            }
        }
        check_beliefs(&mut sim, shards, seed);
        for subscriber in &subscribers {
            sim.engines[subscriber.shard].remove_session(subscriber.key);
        }
        sim.settle();
        assert!(
            sim.engines.iter().all(|engine| engine.shard.pubsub.is_silent()),
            "seed {seed}: nothing is left behind"
        );
    }
}

/// Each shard sends messages for a name to exactly those others that have subscribers for it.
fn check_beliefs(sim: &mut Sim, shards: u16, seed: u64) {
    for channel in 0..CHANNELS {
        for (kind, name) in [(Kind::Channel, format!("c{channel}")), (Kind::Pattern, format!("c{channel}*"))] {
            let has: Vec<bool> =
                sim.engines.iter().map(|e| e.shard.pubsub.subscribers(kind, name.as_bytes()) > 0).collect();
            for here in 0..usize::from(shards) {
                sim.engines[here].shard.pubsub.check_invariants();
                let mut believed = sim.engines[here].shard.pubsub.interested_in(kind, name.as_bytes()).to_vec();
                believed.sort_unstable();
                let true_ones: Vec<_> = sim.engines[here].shard.others().filter(|other| has[other.index()]).collect();
                assert_eq!(believed, true_ones, "seed {seed}: shard {here} on {name}");
            }
        }
    }
}

#[test]
fn a_client_that_leaves_while_it_subscribes_leaves_nothing_behind() {
    for seed in 0..60 {
        let mut sim = Sim::new(4, seed, &Config::default());
        let mut kept = Vec::new();
        for round in 0..40 {
            let shard = sim.rng.below(4) as usize;
            let key = sim.connect(shard);
            let mut bytes = Vec::new();
            encode(&[b"SET", b"k", b"v"], &mut bytes);
            encode(&[b"SUBSCRIBE", b"a", b"b"], &mut bytes);
            encode(&[b"PSUBSCRIBE", b"a*", b"b"], &mut bytes);
            if round % 3 == 0 {
                encode(&[b"UNSUBSCRIBE", b"a"], &mut bytes);
            }
            sim.engines[shard].begin_turn(sim.now);
            sim.engines[shard].receive(key, &bytes);
            for _ in 0..sim.rng.below(12) {
                let at = sim.rng.below(4) as usize;
                sim.turn(at);
            }
            if round % 4 == 0 {
                kept.push((shard, key));
            } else {
                sim.engines[shard].remove_session(key);
                sim.engines[shard].shard.sessions.release(key);
            }
        }
        sim.settle();
        for engine in &mut sim.engines {
            engine.shard.pubsub.check_invariants();
        }
        for (shard, key) in kept {
            sim.engines[shard].remove_session(key);
        }
        sim.settle();
        assert!(sim.engines.iter().all(|engine| engine.shard.pubsub.is_silent()), "seed {seed}");
    }
}

#[test]
fn a_confirmation_waits_for_replies_that_were_asked_for_before_it() {
    for seed in 0..40 {
        let mut sim = Sim::new(3, seed, &Config::default());
        let (listener, sender) = (sim.connect(0), sim.connect(1));
        let mut bytes = Vec::new();
        for i in 0..10 {
            encode(&[b"SET", format!("k{i}").as_bytes(), b"v"], &mut bytes);
        }
        encode(&[b"SUBSCRIBE", b"c"], &mut bytes);
        sim.engines[0].begin_turn(sim.now);
        sim.engines[0].receive(listener, &bytes);
        let mut message = Vec::new();
        encode(&[b"PUBLISH", b"c", b"m"], &mut message);
        for _ in 0..20 {
            for _ in 0..sim.rng.below(3) {
                let at = sim.rng.below(3) as usize;
                sim.turn(at);
            }
            sim.engines[1].receive(sender, &message);
        }
        sim.settle();
        let out = String::from_utf8(sim.output(0, listener)).unwrap();
        let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
        let rest =
            out.strip_prefix(&("+OK\r\n".repeat(10) + confirmed)).unwrap_or_else(|| panic!("seed {seed}: {out:?}"));
        assert!(rest.replace("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", "").is_empty(), "seed {seed}: {rest:?}");
    }
}
