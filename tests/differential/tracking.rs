//! A tracked reader and random writers on both servers: after every command each client has read the same frames.
//!
//! With several shards the frames of one step come in the order of the shards, a broadcast is one frame per shard, and a frame may come
//! twice where replies were pending; so what is compared then is the set of keys. Its seed is printed; `ANNULUS_DIFF_SEED` repeats it.

use super::harness::{Client, Server, Value};
use annulus::base::rng::Rng;

const CLIENTS: usize = 5;

/// Who sends what. Clients 0 to 2 are in RESP3 and read, 3 is in RESP2 and listens for 1, 4 writes.
fn line(rng: &mut Rng, client: usize) -> String {
    let key = |rng: &mut Rng| format!("{}{}", ["a", "b", "ab"][rng.below(3) as usize], rng.below(5));
    let (k, l) = (key(rng), key(rng));
    let read = |rng: &mut Rng| match rng.below(8) {
        0..3 => format!("GET {k}"),
        3 => format!("MGET {k} {l}"),
        4 => format!("EXISTS {k} {l}"),
        5 => format!("STRLEN {k}"),
        6 => format!("TYPE {l}"),
        _ => format!("LCS {k} {l}"),
    };
    let write = |rng: &mut Rng| match rng.below(14) {
        0..4 => format!("SET {k} {}", rng.below(100)),
        4 => format!("MSET {k} 1 {l} 2"),
        5 => format!("DEL {k} {l}"),
        6 => format!("APPEND {k} x"),
        7 => format!("RENAME {k} {l}"),
        8 => format!("GETDEL {k}"),
        9 => format!("EXPIRE {k} 1000"),
        10 => format!("SETNX {k} 1"),
        11 => format!("COPY {k} {l} REPLACE"),
        12 => ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"][rng.below(3) as usize].to_owned(),
        _ => format!("PERSIST {k}"),
    };
    let mode = |rng: &mut Rng| match rng.below(12) {
        0..3 => "CLIENT TRACKING ON".to_owned(),
        3 => "CLIENT TRACKING ON NOLOOP".to_owned(),
        4 => "CLIENT TRACKING ON OPTIN".to_owned(),
        5 => "CLIENT TRACKING ON OPTOUT".to_owned(),
        6 => "CLIENT TRACKING ON BCAST".to_owned(),
        7 => "CLIENT TRACKING ON BCAST PREFIX a NOLOOP".to_owned(),
        8 => "CLIENT TRACKING ON BCAST PREFIX ab PREFIX b".to_owned(),
        9 => "CLIENT TRACKING OFF".to_owned(),
        10 => ["CLIENT CACHING YES", "CLIENT CACHING NO"][rng.below(2) as usize].to_owned(),
        _ => "CLIENT TRACKINGINFO".to_owned(),
    };
    match (client, rng.below(10)) {
        (4, _) => write(rng),
        (3, _) => "PING x".to_owned(),
        (_, 0 | 1) => mode(rng),
        (_, 2) => write(rng),
        _ => read(rng),
    }
}

/// What has come up to the echo of a marker: replies, and frames of invalidation.
fn read(client: &mut Client, marker: &str) -> (Vec<String>, Vec<String>) {
    client.send(&["PING", marker]);
    let (mut replies, mut frames) = (Vec::new(), Vec::new());
    loop {
        let value = client.reply();
        let text = value.to_string();
        if text.contains(marker) {
            return (replies, frames);
        }
        let is_frame = matches!(&value, Value::Push(_))
            || matches!(&value, Value::Array(items) if items.first().is_some_and(|first| first.text() == "message"));
        if is_frame { frames.push(text) } else { replies.push(text) }
    }
}

/// The keys that frames name, each once; the null of FLUSHALL as it is.
fn keys(frames: &[String]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for frame in frames {
        let from = frame.rfind('[').map_or(0, |at| at + 1);
        match frame.contains("(nil)") {
            true => keys.push("all".to_owned()),
            false => keys.extend(frame[from..].trim_end_matches(']').split(", ").map(str::to_owned)),
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

fn compare(shards: usize) {
    let Some(oracle) = Server::redis(&[]) else { return };
    let ours = Server::annulus(shards, &[]);
    let seed = std::env::var("ANNULUS_DIFF_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 8 | shards as u64);
    println!("{shards} shards, ANNULUS_DIFF_SEED={seed}");
    let mut rng = Rng::seed(seed);
    let mut sides: Vec<Vec<Client>> = [&ours, &oracle]
        .map(|server| (0..CLIENTS).map(|at| if at < 3 { server.connect_resp3() } else { server.connect() }).collect())
        .into();
    for clients in &mut sides {
        let id = clients[3].line("CLIENT ID").to_string().replace("(integer) ", "");
        clients[3].line("SUBSCRIBE __redis__:invalidate");
        clients[1].line(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    }
    let mut history = Vec::new();
    for step in 0..1500 {
        let who = rng.below(CLIENTS as u64) as usize;
        let mut said = line(&mut rng, who);
        if who == 1 && said.contains("TRACKING") {
            // It stays redirected.
            said = "GET a1".to_owned();
        }
        history.push(format!("{who}: {said}"));
        let mut seen = Vec::new();
        for clients in &mut sides {
            clients[who].send_raw(format!("{said}\r\n").as_bytes());
            let marker = format!("marker-{step}");
            // What is sent behind a command before its reply has come may be answered before its own invalidations.
            let mut before = Vec::new();
            let reply = loop {
                let value = clients[who].reply();
                match value {
                    Value::Push(_) => before.push(value.to_string()),
                    value => break value.to_string(),
                }
            };
            let (_, behind) = read(&mut clients[who], &marker);
            before.extend(behind);
            let mut all = vec![(vec![reply], before)];
            let others = (0..CLIENTS).filter(|at| *at != who);
            all.extend(others.map(|at| read(&mut clients[at], &marker)).collect::<Vec<_>>());
            seen.push(all);
        }
        let same = seen[0].iter().zip(&seen[1]).all(|(ours, theirs)| {
            ours.0 == theirs.0
                && match shards {
                    1 => ours.1 == theirs.1,
                    _ => keys(&ours.1) == keys(&theirs.1),
                }
        });
        let recent = history[history.len().saturating_sub(25)..].join("\n  ");
        assert!(same, "seed {seed}, {shards} shards:\n  {recent}\nours  {:#?}\nredis {:#?}", seen[0], seen[1]);
    }
}

#[test]
fn invalidations_of_one_shard_are_those_of_redis() {
    compare(1);
}

#[test]
fn invalidations_of_four_shards_name_the_keys_that_redis_names() {
    compare(4);
}
