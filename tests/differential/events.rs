//! Keyspace events of random commands: what a subscriber to all of them reads from us is what it reads from redis-server.
//!
//! After each command the events are collected up to markers that are published on every shard. With one shard they come in Redis's
//! order; with several, those of one command may come in any, since keys of several shards have no common order.
//!
//! `ANNULUS_DIFF_SEED` repeats a run, `ANNULUS_DIFF_EVENTS` makes it longer.

use super::differences::is;
use super::harness::{Client, Server, Value};
use super::script::Script;

/// Connections that publish markers: with so many each of four shards has one.
const PUBLISHERS: usize = 8;

struct Watched {
    client: Client,
    listener: Client,
    publishers: Vec<Client>,
}

impl Watched {
    fn new(server: &Server) -> Watched {
        let mut client = server.connect();
        assert_eq!(client.line("FLUSHALL").text(), "OK");
        assert_eq!(client.line("CONFIG SET notify-keyspace-events AKEmn").text(), "OK");
        let mut listener = server.connect();
        listener.line("PSUBSCRIBE __key*__:* marker");
        listener.reply();
        Watched { client, listener, publishers: (0..PUBLISHERS).map(|_| server.connect()).collect() }
    }

    /// The events of a command, as lines, and its reply.
    fn run(&mut self, argv: &[Vec<u8>]) -> (Vec<String>, Value) {
        let reply = self.client.command(argv);
        for publisher in &mut self.publishers {
            assert_eq!(publisher.line("PUBLISH marker x"), Value::Int(1));
        }
        let (mut events, mut markers) = (Vec::new(), 0);
        while markers < PUBLISHERS {
            let message = self.listener.reply();
            let words = message.elements().expect("a message");
            match words[2].bytes() {
                Some(b"marker") => markers += 1,
                _ => events.push(format!("{} {}", words[2], words[3])),
            }
        }
        (events, reply)
    }
}

/// Commands whose events Redis has made different since, or that are not there in 7.0.
fn is_left_out(argv: &[Vec<u8>]) -> bool {
    // What is random differs, and what waits is compared elsewhere.
    ["spop", "flushall", "swapdb", "randomkey"].iter().any(|name| is(argv, 0, name))
}

fn compare(shards: usize) {
    let Some(oracle) = Server::redis(&[]) else { return };
    let server = Server::annulus(shards, &[]);
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = setting("ANNULUS_DIFF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 8 | shards as u64);
    let commands: u64 = setting("ANNULUS_DIFF_EVENTS").unwrap_or(2000);
    println!("{shards} shards, ANNULUS_DIFF_SEED={seed}");
    let mut script = Script::new(seed);
    let (mut ours, mut theirs) = (Watched::new(&server), Watched::new(&oracle));
    let mut history: Vec<String> = Vec::new();
    let mut total = 0;
    for _ in 0..commands {
        let argv = script.next();
        if is_left_out(&argv) {
            continue;
        }
        let shown: Vec<String> = argv.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        history.push(shown.join(" "));
        let (mut our_events, our_reply) = ours.run(&argv);
        let (mut their_events, their_reply) = theirs.run(&argv);
        total += their_events.len();
        for (events, reply) in [(&mut our_events, &our_reply), (&mut their_events, &their_reply)] {
            // A key whose time has come is found by chance or by a timer; its own test compares that.
            events.retain(|event| !event.contains("expired"));
            if shards > 1 {
                // Several shards look for their keys at once, before the first of them finds a value of the wrong type.
                events.retain(|event| !(matches!(reply, Value::Error(_)) && event.contains("keymiss")));
                events.sort();
            }
        }
        let recent = history[history.len().saturating_sub(12)..].join("\n  ");
        assert!(
            our_events == their_events,
            "seed {seed}, {shards} shards:\n  {recent}\nours   {our_reply}\n{our_events:#?}\nredis  {their_reply}\n{their_events:#?}"
        );
    }
    assert!(total as u64 > commands / 4, "{total} events of {commands} commands");
}

#[test]
fn one_shard_tells_of_its_keys_what_redis_tells() {
    compare(1);
}

#[test]
fn four_shards_tell_of_their_keys_what_redis_tells() {
    compare(4);
}
