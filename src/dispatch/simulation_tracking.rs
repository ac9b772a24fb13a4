//! The rule of client-side caching, over engines whose messages come in random orders: once the reply of a write is in its client's
//! output, no client makes of what is in its own an older value of the key that it takes for current.
//!
//! Each key has one writer, whose values grow; so a cached value that is less than what was confirmed is stale. A client that has
//! its invalidations on a connection of their own does not keep what was invalidated while it waited for it.

use std::collections::HashMap;

use super::simulation::{Sim, encode};
use crate::config::Config;
use crate::session::SessionKey;

/// As much of RESP3 as the clients here read.
#[derive(Debug, PartialEq)]
enum Frame {
    Push(Vec<Frame>),
    Array(Vec<Frame>),
    Text(String),
    Null,
}

fn line<'b>(bytes: &'b [u8], at: &mut usize) -> &'b str {
    let len = bytes[*at..].iter().position(|b| *b == b'\n').expect("outputs hold whole frames") + 1;
    let text = std::str::from_utf8(&bytes[*at..*at + len - 2]).expect("text");
    *at += len;
    text
}

fn frame(bytes: &[u8], at: &mut usize) -> Frame {
    let head = line(bytes, at);
    let count = || head[1..].parse::<usize>().expect("a length");
    match head.as_bytes()[0] {
        b'>' => Frame::Push((0..count()).map(|_| frame(bytes, at)).collect()),
        b'*' => Frame::Array((0..count()).map(|_| frame(bytes, at)).collect()),
        b'$' => Frame::Text(line(bytes, at).to_owned()),
        b'_' => Frame::Null,
        _ => Frame::Text(head[1..].to_owned()),
    }
}

const KEYS: u64 = 8;

fn number(key: &Frame) -> u64 {
    let Frame::Text(key) = key else { panic!("a key is text") };
    key[1..].parse().expect("a number")
}

#[derive(Default)]
struct Player {
    shard: usize,
    key: Option<SessionKey>,
    /// Of each reply that is due the keys whose values are in it, or what a writer has written.
    due: Vec<Due>,
    cache: HashMap<u64, u64>,
    /// Where its invalidations come, if not among its replies.
    ear: Option<(usize, SessionKey)>,
    /// Behind each reply that is due, the keys in it that have been invalidated since it was asked for.
    spoilt: Vec<Vec<u64>>,
    /// The same of the reply that is looked at.
    last_spoilt: Vec<u64>,
}

#[derive(Clone)]
enum Due {
    Reads(Vec<u64>),
    Writes(Vec<(u64, u64)>),
    /// A write if there was something to delete.
    Deletes(u64, u64),
    Nothing,
}

impl Player {
    /// What comes on the connection for invalidations.
    fn hear(&mut self, bytes: &[u8]) {
        let mut at = 0;
        self.spoilt.resize(self.due.len(), Vec::new());
        while at < bytes.len() {
            let Frame::Push(items) = frame(bytes, &mut at) else { panic!("nothing was asked for there") };
            let keys: Vec<u64> = match &items[1] {
                Frame::Null => (0..KEYS).collect(),
                Frame::Array(keys) => keys.iter().map(number).collect(),
                other => panic!("{other:?}"),
            };
            for key in keys {
                self.cache.remove(&key);
                self.spoilt.iter_mut().for_each(|spoilt| spoilt.push(key));
            }
        }
    }

    fn take_due(&mut self) -> Due {
        self.last_spoilt = if self.spoilt.is_empty() { Vec::new() } else { self.spoilt.remove(0) };
        self.due.remove(0)
    }

    fn take(&mut self, bytes: &[u8], confirmed: &mut HashMap<u64, u64>) {
        let mut at = 0;
        while at < bytes.len() {
            match frame(bytes, &mut at) {
                Frame::Push(items) => match &items[1] {
                    Frame::Null => self.cache.clear(),
                    Frame::Array(keys) => self.cache.retain(|key, _| !keys.iter().any(|gone| number(gone) == *key)),
                    other => panic!("{other:?}"),
                },
                reply => match self.take_due() {
                    Due::Deletes(..) if reply == Frame::Text("0".to_owned()) => {}
                    Due::Deletes(key, value) => drop(confirmed.insert(key, value)),
                    Due::Nothing => {}
                    Due::Reads(keys) => {
                        let values = if let Frame::Array(values) = reply { values } else { vec![reply] };
                        for (key, value) in keys.iter().zip(values) {
                            match value {
                                Frame::Text(_) if self.last_spoilt.contains(key) => drop(self.cache.remove(key)),
                                Frame::Text(value) => drop(self.cache.insert(*key, value.parse().expect("a number"))),
                                Frame::Null => drop(self.cache.remove(key)),
                                other => panic!("{other:?}"),
                            }
                        }
                    }
                    Due::Writes(written) => {
                        for (key, value) in written {
                            let known = confirmed.entry(key).or_default();
                            *known = value.max(*known);
                        }
                    }
                },
            }
        }
    }
}

/// Plays with this seed. Returns how many cached values were held against what was confirmed, or which was stale.
fn play(seed: u64, shards: u16, options: &str) -> Result<u64, String> {
    let mut sim = Sim::new(shards, seed, &Config::default());
    let mut players: Vec<Player> = (0..6)
        .map(|_| {
            let shard = sim.rng().below(u64::from(shards)) as usize;
            Player { shard, key: Some(sim.connect(shard)), ..Player::default() }
        })
        .collect();
    for player in &mut players[2..] {
        let mut options = options.to_owned();
        if let Some(rest) = options.strip_prefix(" REDIRECT") {
            let shard = sim.rng().below(u64::from(shards)) as usize;
            let ear = sim.connect(shard);
            sim.send(shard, ear, b"HELLO 3\r\nCLIENT ID\r\n");
            sim.settle();
            let said = String::from_utf8(sim.output(shard, ear)).expect("text");
            let id = said.rsplit(':').next().expect("an integer").trim();
            options = format!(" REDIRECT {id}{rest}");
            player.ear = Some((shard, ear));
        }
        let tracking = format!("HELLO 3\r\nCLIENT TRACKING ON{options}\r\n");
        sim.send(player.shard, player.key.expect("connected"), tracking.as_bytes());
    }
    sim.settle();
    for player in &players {
        sim.output(player.shard, player.key.expect("connected"));
    }
    let (mut confirmed, mut value, mut held) = (HashMap::new(), 0, 0);
    for _ in 0..400 {
        let at = sim.rng().below(6);
        let player = &mut players[at as usize];
        if player.due.len() < 6 {
            let mut bytes = Vec::new();
            let name = |key: u64| format!("k{key}").into_bytes();
            if at < 2 {
                // Keys of this writer.
                let key = |rng: &mut crate::base::rng::Rng| rng.below(KEYS / 2) * 2 + at;
                let (a, b) = (key(sim.rng()), key(sim.rng()));
                value += 1;
                let text = value.to_string().into_bytes();
                // FLUSHALL is what has more than one step to it for those who are told elsewhere.
                let kinds = if options.contains("REDIRECT") { 16 } else { 12 };
                match sim.rng().below(kinds) {
                    0..6 => {
                        encode(&[b"SET", &name(a), &text], &mut bytes);
                        player.due.push(Due::Writes(vec![(a, value)]));
                    }
                    6..9 => {
                        encode(&[b"MSET", &name(a), &text, &name(b), &text], &mut bytes);
                        player.due.push(Due::Writes(vec![(a, value), (b, value)]));
                    }
                    9 => {
                        encode(&[b"DEL", &name(a)], &mut bytes);
                        player.due.push(Due::Deletes(a, value));
                    }
                    10 | 12.. => {
                        // What was confirmed before is gone; of what is on its way nobody knows.
                        encode(&[b"FLUSHALL"], &mut bytes);
                        let gone = confirmed.iter().map(|(key, value)| (*key, value + 1)).collect();
                        player.due.push(Due::Writes(gone));
                    }
                    _ => {
                        encode(&[b"MULTI"], &mut bytes);
                        encode(&[b"SET", &name(a), &text], &mut bytes);
                        encode(&[b"SET", &name(b), &text], &mut bytes);
                        encode(&[b"EXEC"], &mut bytes);
                        player.due.extend([Due::Nothing, Due::Nothing, Due::Nothing]);
                        player.due.push(Due::Writes(vec![(a, value), (b, value)]));
                    }
                }
            } else {
                for _ in 0..1 + sim.rng().below(3) {
                    let keys: Vec<u64> = (0..1 + sim.rng().below(3)).map(|_| sim.rng().below(KEYS)).collect();
                    let names: Vec<Vec<u8>> = keys.iter().map(|key| name(*key)).collect();
                    let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(names.iter().map(|n| &n[..])).collect();
                    match keys.len() {
                        1 => encode(&[b"GET", &names[0]], &mut bytes),
                        _ => encode(&words, &mut bytes),
                    }
                    player.due.push(Due::Reads(keys));
                }
            }
            sim.send(player.shard, player.key.expect("connected"), &bytes);
        }
        let shard = sim.rng().below(u64::from(shards)) as usize;
        sim.turn(shard);
        // What the other shards have not looked at yet is not in anybody's output.
        for player in &mut players {
            if let Some((shard, ear)) = player.ear {
                player.hear(&sim.output(shard, ear));
            }
            let bytes = sim.output(player.shard, player.key.expect("connected"));
            player.take(&bytes, &mut confirmed);
        }
        for (at, player) in players.iter().enumerate() {
            for (key, cached) in &player.cache {
                held += 1;
                let floor = confirmed.get(key).copied().unwrap_or(0);
                if *cached < floor {
                    return Err(format!("client {at} has k{key} as {cached}, and {floor} was confirmed"));
                }
            }
        }
    }
    sim.settle();
    for player in &mut players {
        let bytes = sim.output(player.shard, player.key.expect("connected"));
        player.take(&bytes, &mut confirmed);
        if !player.due.is_empty() {
            return Err("a reply is held for ever".to_owned());
        }
    }
    Ok(held)
}

fn check(options: &[&str], shards: &[u16], seeds: u64) {
    let mut held_in_all = 0;
    for seed in 0..seeds {
        let shards = shards[seed as usize % shards.len()];
        let options = options[seed as usize / 4 % options.len()];
        match play(seed, shards, options) {
            Ok(held) => held_in_all += held,
            Err(fault) => panic!("seed {seed}, {shards} shards,{options}: {fault}"),
        }
    }
    assert!(held_in_all > 100 * seeds, "only {held_in_all} cached values were held against what was confirmed");
}

#[test]
fn no_cached_value_is_stale_once_a_write_was_answered_whatever_the_messages_do() {
    check(&["", " BCAST", " NOLOOP", " BCAST PREFIX k"], &[1, 2, 3, 5], 240);
}

#[test]
fn nor_is_one_of_a_client_that_is_told_on_another_connection() {
    check(&[" REDIRECT", " REDIRECT", " REDIRECT BCAST"], &[2, 5, 3, 5], 200);
}
