//! Random subscriptions and messages of several clients on both servers: each client reads the same frames with the same counts.
//!
//! Replies and pushes are compared apart, since a message that a client sends to itself comes before the reply in redis-server 7.0
//! and after it here, as in 7.2. Where Redis has no order of its own (patterns that match one message, names that end together)
//! neighbours are sorted.

use super::harness::{Client, Server, Value};
use annulus::base::rng::Rng;

const CLIENTS: usize = 6;

fn line(rng: &mut Rng) -> String {
    let name = |rng: &mut Rng| format!("c{}", rng.below(4));
    let pattern = |rng: &mut Rng| ["c*", "c1", "*", "c[0-2]", "c?", "\\c3", "x*"][rng.below(7) as usize].to_owned();
    let some = |rng: &mut Rng, least: u64, make: &dyn Fn(&mut Rng) -> String| -> String {
        (0..least + rng.below(3)).map(|_| format!(" {}", make(rng))).collect()
    };
    match rng.below(16) {
        0 | 1 => format!("SUBSCRIBE{}", some(rng, 1, &name)),
        2 | 3 => format!("PSUBSCRIBE{}", some(rng, 1, &pattern)),
        4 => format!("SSUBSCRIBE{}", some(rng, 1, &name)),
        5 => format!("UNSUBSCRIBE{}", some(rng, 0, &name)),
        6 => format!("PUNSUBSCRIBE{}", some(rng, 0, &pattern)),
        7 => format!("SUNSUBSCRIBE{}", some(rng, 0, &name)),
        8 => ["PUBSUB CHANNELS", "PUBSUB CHANNELS c[01]", "PUBSUB SHARDCHANNELS", "PUBSUB NUMPAT"]
            [rng.below(4) as usize]
            .to_owned(),
        9 => format!("PUBSUB NUMSUB{}", some(rng, 0, &name)),
        10 => format!("PUBSUB SHARDNUMSUB{}", some(rng, 0, &name)),
        11 => ["PING", "PING x", "RESET", "HELLO 3", "HELLO 2", "GET k", "PUBLISH c", "SUBSCRIBE"]
            [rng.below(8) as usize]
            .to_owned(),
        12 => format!("SPUBLISH {} m{}", name(rng), rng.below(1000)),
        _ => format!("PUBLISH {} m{}", name(rng), rng.below(1000)),
    }
}

/// What a client reads up to the echo of a marker: replies, and pushes or what looks like them.
fn read(client: &mut Client, marker: &str, replies: &mut Vec<String>, pushes: &mut Vec<String>) {
    // Both answers of PING hold the marker.
    client.send(&["PING", marker]);
    loop {
        let value = client.reply();
        let text = value.to_string();
        if text.contains(marker) {
            break;
        }
        let is_push = matches!(&value, Value::Push(_))
            || matches!(&value, Value::Array(items) if items.first().is_some_and(|first| first.text().contains("message") || first.text().contains("subscribe")));
        if is_push {
            pushes.push(text);
        } else if text.contains("proto") {
            replies.push("a greeting".to_owned());
        } else {
            replies.push(text);
        }
    }
}

/// Neighbours whose order is nobody's business, in one order. Counts that fall with each end of a subscription are kept in theirs.
fn in_order(mut pushes: Vec<String>) -> Vec<String> {
    let mut at = 0;
    while at < pushes.len() {
        let is = |text: &String, word: &str| text.contains(&format!("\"{word}\""));
        let word = ["pmessage", "unsubscribe", "punsubscribe", "sunsubscribe"].into_iter().find(|w| is(&pushes[at], w));
        let run = word.map_or(1, |word| pushes[at..].iter().take_while(|text| is(text, word)).count());
        pushes[at..at + run].sort();
        at += run;
    }
    pushes
}

/// An array of names, sorted.
fn as_set(line: &str, reply: String) -> String {
    if line.contains("CHANNELS") {
        let mut names: Vec<&str> = reply.trim_matches(['[', ']']).split(", ").collect();
        names.sort_unstable();
        return names.join(" ");
    }
    reply
}

/// Without the names, where all of a kind end: each server ends them in an order of its own.
fn without_names(line: &str, pushes: Vec<String>) -> Vec<String> {
    if !["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"].contains(&line) {
        return pushes;
    }
    let (mut names, mut counts) = (Vec::new(), Vec::new());
    for push in pushes {
        let mut words = push.split(", ").map(str::to_owned);
        names.push(format!("{:?} {:?}", words.next(), words.next()));
        counts.push(format!("{:?}", words.next()));
    }
    names.sort();
    counts.sort();
    names.into_iter().chain(counts).collect()
}

#[test]
fn subscribers_read_what_they_read_from_redis() {
    let Some(oracle) = Server::redis(&[]) else { return };
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        for round in 0..6 {
            let seed = u64::from(std::process::id()) * 100 + round;
            let mut rng = Rng::seed(seed);
            let mut ours: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
            let mut theirs: Vec<Client> = (0..CLIENTS).map(|_| oracle.connect()).collect();
            for at in (0..CLIENTS).step_by(2) {
                ours[at].line("HELLO 3");
                theirs[at].line("HELLO 3");
            }
            let mut history = Vec::new();
            for step in 0..400 {
                let (at, line) = (rng.below(CLIENTS as u64) as usize, line(&mut rng));
                history.push(format!("{at}: {line}"));
                let mut both = [&mut ours, &mut theirs].map(|clients| {
                    clients[at].send_raw(format!("{line}\r\n").as_bytes());
                    // The sender's frames first, so that all that it has done is done; then everybody else's.
                    let order = std::iter::once(at).chain((0..CLIENTS).filter(|other| *other != at));
                    order
                        .map(|client| {
                            let (mut replies, mut pushes) = (Vec::new(), Vec::new());
                            read(&mut clients[client], &format!("marker-{step}"), &mut replies, &mut pushes);
                            let replies: Vec<String> = replies.into_iter().map(|reply| as_set(&line, reply)).collect();
                            (client, replies, without_names(&line, in_order(pushes)))
                        })
                        .collect::<Vec<_>>()
                });
                let (ours, theirs) = (std::mem::take(&mut both[0]), std::mem::take(&mut both[1]));
                assert_eq!(
                    ours,
                    theirs,
                    "seed {seed}, {shards} shards, left is ours, after\n{}",
                    history[history.len().saturating_sub(30)..].join("\n")
                );
            }
            // The next round begins with nobody there.
            drop((ours, theirs));
            for server in [&server, &oracle] {
                let mut client = server.connect();
                while client.line("PUBSUB NUMPAT") != Value::Int(0)
                    || client.line("PUBSUB CHANNELS") != Value::Array(Vec::new())
                    || client.line("PUBSUB SHARDCHANNELS") != Value::Array(Vec::new())
                {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
        }
    }
}
