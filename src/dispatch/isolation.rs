//! Whether what many clients see of each other's transactions has one explanation: random histories of the simulation, checked
//! for strict serializability. No sockets, no threads; a seed that fails can be run again.
//!
//! Clients append to lists (RPUSH tells the new length, so the order of all appends to a key is known) and read lengths, singly
//! and in EXEC. Every reply says between which two appends its reader stood:
//!
//! ```text
//!   n-th append to k ──► who read the length n ──► n + 1st append to k
//!   who had its reply ──► who began after that
//! ```
//!
//! A cycle of these arrows, between transactions, is something that no order explains.

use std::collections::HashMap;

use super::simulation::{Sim, encode};
use crate::base::rng::Rng;
use crate::config::Config;
use crate::session::SessionKey;

/// One command or transaction that a client has sent.
struct Step {
    began: u64,
    ended: u64,
    /// Key, whether it appends, and the length that was replied.
    seen: Vec<(u64, bool, usize)>,
}

struct Player {
    shard: usize,
    key: SessionKey,
    sent: Option<(u64, Vec<(u64, bool)>)>,
}

/// Draws what a client sends: keys, and whether it appends to each.
fn draw(rng: &mut Rng, keys: u64, bytes: &mut Vec<u8>) -> Vec<(u64, bool)> {
    let count = if rng.below(3) == 0 { 1 } else { 2 + rng.below(3) };
    let ops: Vec<(u64, bool)> = (0..count).map(|_| (rng.below(keys), rng.below(2) == 0)).collect();
    if ops.len() > 1 {
        encode(&[b"MULTI"], bytes);
    }
    for (key, appends) in &ops {
        let name = format!("k{key}");
        match appends {
            true => encode(&[b"RPUSH", name.as_bytes(), b"x"], bytes),
            false => encode(&[b"LLEN", name.as_bytes()], bytes),
        }
    }
    if ops.len() > 1 {
        // Now and then something that goes the long way.
        if rng.below(4) == 0 {
            encode(&[b"SELECT", b"0"], bytes);
        }
        encode(&[b"EXEC"], bytes);
    }
    ops
}

/// The integers in a reply, in order.
fn integers(reply: &[u8]) -> Vec<usize> {
    let lines = reply.split(|b| *b == b'\n').filter(|line| line.first() == Some(&b':'));
    lines.map(|line| String::from_utf8_lossy(&line[1..]).trim().parse().expect("an integer")).collect()
}

/// Plays a random history and returns it.
fn play(seed: u64, shards: u16, enforced: bool) -> Vec<Step> {
    let mut sim = Sim::new(shards, seed, &Config::default());
    for engine in sim.engines() {
        engine.shard.reservations.enforce(enforced);
    }
    let (clients, keys) = (2 + sim.rng().below(6), 2 + sim.rng().below(6));
    let mut players: Vec<Player> = (0..clients)
        .map(|_| {
            let shard = sim.rng().below(u64::from(shards)) as usize;
            Player { shard, key: sim.connect(shard), sent: None }
        })
        .collect();
    let mut history = Vec::new();
    let mut time = 0;
    let mut left = 150;
    while left > 0 || players.iter().any(|p| p.sent.is_some()) {
        time += 1;
        assert!(time < 1_000_000, "seed {seed}: every command is answered some day");
        let at = sim.rng().below(clients) as usize;
        let player = &mut players[at];
        if let Some((began, ops)) = &player.sent {
            if sim.is_quiet(player.shard, player.key) {
                let lengths = integers(&sim.output(player.shard, player.key));
                assert_eq!(lengths.len(), ops.len(), "seed {seed}: all of it was answered");
                let seen = ops.iter().zip(lengths).map(|(&(key, appends), len)| (key, appends, len)).collect();
                history.push(Step { began: *began, ended: time, seen });
                player.sent = None;
            }
        } else if left > 0 {
            left -= 1;
            let mut bytes = Vec::new();
            let ops = draw(sim.rng(), keys, &mut bytes);
            sim.send(player.shard, player.key, &bytes);
            player.sent = Some((time, ops));
        }
        let shard = sim.rng().below(u64::from(shards)) as usize;
        sim.turn(shard);
    }
    sim.settle();
    for engine in sim.engines() {
        assert!(engine.shard.reservations.is_empty(), "seed {seed}: nothing stays reserved");
    }
    history
}

/// What contradicts in a history, if anything does.
fn contradiction(history: &[Step]) -> Option<String> {
    let mut appended: HashMap<(u64, usize), usize> = HashMap::new();
    for (at, step) in history.iter().enumerate() {
        for &(key, appends, len) in &step.seen {
            if appends && appended.insert((key, len), at).is_some() {
                return Some(format!("two appends made k{key} {len} long"));
            }
        }
    }
    let mut after: Vec<Vec<usize>> = history.iter().map(|_| Vec::new()).collect();
    for (at, step) in history.iter().enumerate() {
        for &(key, appends, len) in &step.seen {
            let before = if appends { len - 1 } else { len };
            let neighbours = [(before, true), (len + 1, false)];
            for (position, comes_before) in neighbours {
                if let Some(&other) = appended.get(&(key, position))
                    && other != at
                {
                    let (from, to) = if comes_before { (other, at) } else { (at, other) };
                    after[from].push(to);
                }
            }
        }
        for (other, later) in history.iter().enumerate() {
            if step.ended < later.began {
                after[at].push(other);
            }
        }
    }
    // What can be put in order is taken away, from the front; a cycle stays.
    let mut incoming = vec![0; history.len()];
    after.iter().flatten().for_each(|&to| incoming[to] += 1);
    let mut free: Vec<usize> = (0..history.len()).filter(|&at| incoming[at] == 0).collect();
    let mut ordered = 0;
    while let Some(at) = free.pop() {
        ordered += 1;
        for &to in &after[at] {
            incoming[to] -= 1;
            if incoming[to] == 0 {
                free.push(to);
            }
        }
    }
    (ordered < history.len()).then(|| format!("{} steps are before and after each other", history.len() - ordered))
}

#[test]
fn there_is_one_order_of_all_transactions_whatever_the_messages_do() {
    for seed in 0..400 {
        let shards = [1, 2, 3, 5][seed as usize % 4];
        let found = contradiction(&play(seed, shards, true));
        assert!(found.is_none(), "seed {seed}, {shards} shards: {}", found.unwrap_or_default());
    }
}

#[test]
fn without_reservations_there_is_none_and_the_check_says_so() {
    let found = (0..40).filter(|&seed| contradiction(&play(seed, 3, false)).is_some()).count();
    assert!(found > 20, "only {found} of 40 histories contradict themselves");
}
