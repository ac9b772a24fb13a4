//! Transactions of several connections, one step at a time in a random order, to us and to a redis-server; every reply compared.
//!
//! ```text
//!   connection 0   WATCH k1        MULTI   SADD s1 a          EXEC
//!   connection 1           SET k1 x              MULTI  GET k1       DISCARD
//! ```
//!
//! The commands are those of the random scripts. What EXEC replies is compared command by command, each in its own way. A mismatch
//! is replayed on new connections and cut down to the steps that it takes.
//! `ANNULUS_DIFF_SEED` repeats a run, `ANNULUS_DIFF_STEPS` makes it longer.

use super::compare::{How, equal, how};
use super::differences::is;
use super::harness::Server;
use super::harness::resp::{Client, decode};
use super::run::{Argv, Pair, Protocol, setting, show};
use super::script::Script;
use annulus::base::rng::Rng;

const CONNECTIONS: u64 = 3;
const STEPS: u64 = 6_000;
/// Commands about groups of streams, which are left out: see `next_argv`.
const OF_GROUPS: [&str; 6] = ["xack", "xautoclaim", "xclaim", "xgroup", "xreadgroup", "xsetid"];
/// Steps of the past that a mismatch is looked for in.
const HISTORY_MAX: usize = 1500;

/// What one connection sends.
#[derive(Clone)]
struct Step {
    connection: usize,
    argv: Argv,
}

/// One connection to each server, and the commands that wait for EXEC.
struct Both {
    theirs: Client,
    ours: Client,
    queued: Vec<Argv>,
}

struct Servers {
    redis: Server,
    annulus: Server,
    protocol: Protocol,
}

/// What was answered to a step.
struct Answers {
    theirs: Vec<u8>,
    ours: Vec<u8>,
    are_equal: bool,
}

impl Servers {
    fn connect(&self) -> Vec<Both> {
        let open = |server: &Server| match self.protocol {
            Protocol::V2 => server.connect(),
            Protocol::V3 => server.connect_resp3(),
        };
        let both = |_| Both { theirs: open(&self.redis), ours: open(&self.annulus), queued: Vec::new() };
        (0..CONNECTIONS).map(both).collect()
    }

    fn clear(&self) {
        for server in [&self.redis, &self.annulus] {
            assert_eq!(server.connect().line("FLUSHALL").text(), "OK");
        }
    }

    /// Whether these steps, on empty databases and new connections, end in a difference.
    fn differs(&self, steps: &[Step]) -> bool {
        self.clear();
        let mut connections = self.connect();
        steps.iter().any(|step| !connections[step.connection].run(&step.argv).are_equal)
    }

    /// Looks for the fewest steps that end in a difference.
    fn shortest(&self, mut steps: Vec<Step>) -> (bool, Vec<Step>) {
        if !self.differs(&steps) {
            return (false, steps);
        }
        let mut piece = steps.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < steps.len() {
                let mut shorter = steps.clone();
                shorter.drain(at..(at + piece).min(steps.len()));
                if self.differs(&shorter) {
                    steps = shorter;
                } else {
                    at += piece;
                }
            }
            if piece <= 1 {
                return (true, steps);
            }
            piece = piece.div_ceil(2);
        }
    }
}

impl Both {
    fn run(&mut self, argv: &Argv) -> Answers {
        self.theirs.send(argv);
        self.ours.send(argv);
        let (theirs, ours) = (self.theirs.reply_bytes(), self.ours.reply_bytes());
        let are_equal = if is(argv, 0, "exec") {
            exec_is_equal(&self.queued, &theirs, &ours)
        } else if theirs.starts_with(b"+QUEUED") {
            theirs == ours
        } else {
            equal(how(argv), &theirs, &ours)
        };
        if theirs.starts_with(b"+QUEUED") {
            self.queued.push(argv.clone());
        } else if ["multi", "exec", "discard"].iter().any(|name| is(argv, 0, name)) {
            // A nested MULTI is refused and changes nothing.
            if !theirs.starts_with(b"-ERR MULTI") {
                self.queued.clear();
            }
        }
        Answers { theirs, ours, are_equal }
    }
}

/// Replies of the same number, each compared as its command wants it.
fn exec_is_equal(queued: &[Argv], theirs: &[u8], ours: &[u8]) -> bool {
    let (Some(theirs_each), Some(ours_each)) = (elements(theirs), elements(ours)) else { return theirs == ours };
    theirs_each.len() == queued.len()
        && ours_each.len() == queued.len()
        && queued.iter().zip(theirs_each.iter().zip(&ours_each)).all(|(argv, (a, b))| {
            let how = if a[0] == b'-' || b[0] == b'-' { How::Exact } else { how(argv) };
            equal(how, a, b)
        })
}

/// The bytes of each element of an array; none if it is no array.
fn elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let count: usize = std::str::from_utf8(bytes.strip_prefix(b"*")?.get(..end - 1)?).ok()?.parse().ok()?;
    let mut rest = &bytes[end + 2..];
    let mut found = Vec::new();
    for _ in 0..count {
        let (_, used) = decode(rest);
        found.push(&rest[..used]);
        rest = &rest[used..];
    }
    Some(found)
}

/// Whether it is a SET that ends at a given time. If that is over, Redis counts the key in DBSIZE until it comes across it, which a moment
/// decides; here there is no such key.
fn sets_until(argv: &Argv) -> bool {
    is(argv, 0, "set") && (3..argv.len()).any(|at| is(argv, at, "exat") || is(argv, at, "pxat"))
}

/// The next step of a connection: what it has begun it mostly ends.
fn next_argv(script: &mut Script, rng: &mut Rng, in_multi: bool) -> Argv {
    let word = |text: &str| vec![text.as_bytes().to_vec()];
    match rng.below(40) {
        0..=3 if in_multi => word("EXEC"),
        4 if in_multi => word("DISCARD"),
        5 => word("UNWATCH"),
        6..=9 if !in_multi => word("MULTI"),
        10..=13 if !in_multi => {
            // Keys that commands are about.
            let keys = (0..rng.range(1..=3)).filter_map(|_| script.next().get(1).cloned());
            std::iter::once(b"WATCH".to_vec()).chain(keys).collect()
        }
        14 if rng.chance(1, 4) => {
            let words =
                ["MULTI", "EXEC", "DISCARD", "WATCH", "MULTI x", "DISCARD x", "EXEC x", "UNWATCH x", "WATCH k1"];
            rng.pick(&words).split(' ').map(|word| word.as_bytes().to_vec()).collect()
        }
        15 if rng.chance(1, 8) => {
            let words = ["FLUSHDB", "FLUSHALL", "SWAPDB 0 1", "SWAPDB 2 0", "DBSIZE", "KEYS *"];
            rng.pick(&words).split(' ').map(|word| word.as_bytes().to_vec()).collect()
        }
        // What happens to groups of a stream touches it for those who watch it, here and not in Redis. And reading for a consumer makes
        // it since 7.2, though nothing is found: the script makes it before, but the two may come apart between connections.
        _ => std::iter::repeat_with(|| script.next())
            .find(|argv| !OF_GROUPS.iter().any(|name| is(argv, 0, name)) && !sets_until(argv))
            .expect("there is always a next command"),
    }
}

fn run(shards: usize, protocol: Protocol) {
    let limit = ["--proto-max-bulk-len", "8mb", "--hll-sparse-max-bytes", "100"];
    let Some(redis) = Server::redis(&limit) else { return };
    let annulus = Server::annulus(shards, &limit);
    let seed =
        setting("ANNULUS_DIFF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(annulus.port()));
    let steps = setting("ANNULUS_DIFF_STEPS").unwrap_or(STEPS);
    println!("{steps} steps of {CONNECTIONS} connections, {shards} shards, {protocol:?}, ANNULUS_DIFF_SEED={seed}");
    let servers = Servers { redis, annulus, protocol };
    let mut connections = servers.connect();
    let (mut script, mut rng) = (Script::new(seed), Rng::seed(!seed));
    let mut history: Vec<Step> = Vec::new();
    let mut in_multi = [false; CONNECTIONS as usize];
    let (mut ran, mut refused, mut discarded) = (0, 0, 0);
    for _ in 0..steps {
        let connection = rng.below(CONNECTIONS) as usize;
        let argv = next_argv(&mut script, &mut rng, in_multi[connection]);
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        history.push(Step { connection, argv: argv.clone() });
        let Answers { theirs, ours, are_equal } = connections[connection].run(&argv);
        if !are_equal {
            drop(connections);
            let (reproduced, shortest) = servers.shortest(history);
            let how =
                if reproduced { "the shortest way there" } else { "not reproduced on empty databases; the last steps" };
            let lines: Vec<String> =
                shortest.iter().map(|step| format!("{}: {}", step.connection, show(&step.argv))).collect();
            panic!(
                "replies differ, {shards} shards, {protocol:?}, ANNULUS_DIFF_SEED={seed}:\n{}\n  redis-server {}\n  annulus      \
                 {}\n{how}:\n{}",
                show(&argv),
                decode(&theirs).0,
                decode(&ours).0,
                lines.join("\n")
            );
        }
        match theirs.as_slice() {
            [b'+', b'O', b'K', ..] if is(&argv, 0, "multi") => in_multi[connection] = true,
            _ if is(&argv, 0, "exec") || is(&argv, 0, "discard") => {
                // Only DISCARD with a wrong number of arguments leaves it open.
                let open = in_multi[connection] && theirs.starts_with(b"-ERR wrong number");
                in_multi[connection] = open;
                match theirs[0] {
                    b'*' if theirs.len() > 5 => ran += 1,
                    b'*' | b'_' => refused += 1,
                    _ => discarded += 1,
                }
            }
            _ => {}
        }
    }
    println!("equal: {ran} transactions ran, {refused} were refused or empty, {discarded} discarded or never there");
    assert!(steps < STEPS || (ran > 50 && refused > 10 && discarded > 10), "too few of a kind: see next_argv");
    drop(connections);
    let mut pair = Pair { theirs: servers.redis.connect(), ours: servers.annulus.connect() };
    pair.compare_contents(seed);
}

#[test]
fn one_shard_interleaves_transactions_as_redis_does_in_resp2() {
    run(1, Protocol::V2);
}

#[test]
fn four_shards_interleave_transactions_as_redis_does_in_resp2() {
    run(4, Protocol::V2);
}

#[test]
fn four_shards_interleave_transactions_as_redis_does_in_resp3() {
    run(4, Protocol::V3);
}
