//! One run: two servers, one script, batches, and what happens when replies differ.
//!
//! Batches go to both servers before the replies of either are read. A mismatch is replayed on emptied databases from the
//! recent past, and pieces of the past are left out as long as the servers still differ.

use std::collections::BTreeMap;
use std::time::Instant;

use super::compare::{How, equal, how, sorted};
use super::differences::DIFFERENCES;
use super::harness::Server;
use super::harness::resp::{Client, Value, decode, encode};
use super::script::{DATABASES, Script};
use annulus::base::rng::Rng;
use annulus::commands::table::table;

/// What the clients speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    V2,
    V3,
}

pub type Argv = Vec<Vec<u8>>;

/// A batch is sent in one piece before its replies are read; its bytes fit into the sockets' buffers.
const BATCH_COMMANDS_MAX: usize = 100;
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Batches between two full scans of the database.
const BATCHES_PER_SCAN: usize = 20;

/// Commands of the past that a mismatch is looked for in.
const HISTORY_MAX: usize = 400;

/// The two servers, by a connection to each.
pub struct Pair {
    pub theirs: Client,
    pub ours: Client,
}

/// A command that the servers answered differently.
struct Mismatch {
    argv: Argv,
    theirs: Vec<u8>,
    ours: Vec<u8>,
}

/// Runs one script and panics with the shortest way to a difference if there is one.
pub fn run(shards: usize, protocol: Protocol) {
    // The limit on the length of strings is also that on the work of one LCS, which would take seconds at its default.
    // Short scripts see a HyperLogLog become dense only with a low threshold; `hyperloglog.rs` has the default one.
    // Trimming a stream by whole nodes shows only if they are small.
    let limit = [
        "--proto-max-bulk-len",
        "8mb",
        "--hll-sparse-max-bytes",
        "100",
        "--stream-node-max-entries",
        "6",
        "--stream-node-max-bytes",
        "300",
    ];
    let Some(redis) = Server::redis(&limit) else { return };
    let annulus = Server::annulus(shards, &limit);
    let connect = |server: &Server| match protocol {
        Protocol::V2 => server.connect(),
        Protocol::V3 => server.connect_resp3(),
    };
    let mut pair = Pair { theirs: connect(&redis), ours: connect(&annulus) };
    let seed =
        setting("ANNULUS_DIFF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(annulus.port()));
    let commands = setting("ANNULUS_DIFF_COMMANDS").unwrap_or(26_000);
    println!("{commands} commands, {shards} shards, {protocol:?}, ANNULUS_DIFF_SEED={seed}");

    let started = Instant::now();
    let mut script = Script::new(seed);
    let mut rng = Rng::seed(!seed);
    let mut history: Vec<Argv> = Vec::new();
    let mut succeeded: BTreeMap<String, u64> = script.names().map(|name| (name, 0)).collect();
    let (mut sent, mut batches) = (0, 0);
    while sent < commands {
        let batch = next_batch(&mut script);
        sent += batch.len() as u64;
        batches += 1;
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        history.extend(batch.iter().cloned());
        match pair.compare_batch(&batch) {
            Ok(replies) => {
                for (argv, reply) in batch.iter().zip(replies) {
                    let entry = succeeded.iter_mut().find(|(name, _)| is_call_of(argv, name));
                    if let Some((_, count)) = entry
                        && reply[0] != b'-'
                    {
                        *count += 1;
                    }
                }
            }
            Err(mismatch) => fail(&mut pair, history, &mismatch, seed),
        }
        if batches % BATCHES_PER_SCAN == 0 {
            pair.compare_scans(&mut rng, seed);
        }
    }
    pair.compare_contents(seed);
    println!("equal, {:.1} s. Intended differences:", started.elapsed().as_secs_f64());
    DIFFERENCES.iter().for_each(|difference| println!("  {}: {}", difference.name, difference.reason));
    for (name, count) in &succeeded {
        let argv: Argv = name.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let excused = DIFFERENCES.iter().any(|d| d.how == How::NotSent && (d.concerns)(&argv));
        assert!(
            *count > 0 || excused || commands < GUARDED_COMMANDS_MIN,
            "{name} was never answered without an error: see script.rs"
        );
    }
}

/// From so many commands on each of them must have succeeded once: shorter runs leave that to chance.
const GUARDED_COMMANDS_MIN: u64 = 60_000;

pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn is_call_of(argv: &[Vec<u8>], name: &str) -> bool {
    name.split(' ').zip(argv).filter(|(word, arg)| arg.eq_ignore_ascii_case(word.as_bytes())).count()
        == name.split(' ').count()
}

fn next_batch(script: &mut Script) -> Vec<Argv> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_COMMANDS_MAX && bytes < BATCH_BYTES_MAX {
        let argv = script.next();
        bytes += argv.iter().map(|arg| arg.len() + 16).sum::<usize>();
        batch.push(argv);
    }
    batch
}

impl Pair {
    /// Sends the batch to both and compares all replies; gives ours.
    fn compare_batch(&mut self, batch: &[Argv]) -> Result<Vec<Vec<u8>>, Mismatch> {
        let bytes: Vec<u8> = batch.iter().flat_map(|argv| encode(argv)).collect();
        self.theirs.send_raw(&bytes);
        self.ours.send_raw(&bytes);
        let mut replies = Vec::with_capacity(batch.len());
        let mut mismatch = None;
        // All replies are read even if one differs, so that the connections can be used to find out why.
        for argv in batch {
            let (theirs, ours) = (self.theirs.reply_bytes(), self.ours.reply_bytes());
            if mismatch.is_none() && !equal(how(argv), &theirs, &ours) {
                mismatch = Some(Mismatch { argv: argv.clone(), theirs, ours });
            } else {
                replies.push(ours);
            }
        }
        mismatch.map_or(Ok(replies), Err)
    }

    /// Goes through the selected database with SCAN on both and compares what was found.
    fn compare_scans(&mut self, rng: &mut Rng, seed: u64) {
        let options: &[&[&str]] = &[
            &[],
            &["COUNT", "1"],
            &["COUNT", "100000"],
            &["MATCH", "k*"],
            &["MATCH", "{tag}*", "COUNT", "3"],
            &["MATCH", "k1"],
            &["TYPE", "string"],
            &["TYPE", "hash"],
            &["TYPE", "STRING", "MATCH", "*[05]"],
        ];
        let options = *rng.pick(options);
        let (theirs, ours) = (scan(&mut self.theirs, options), scan(&mut self.ours, options));
        assert_eq!(show_keys(&theirs), show_keys(&ours), "SCAN {options:?} found other keys than Redis; seed {seed}");
    }

    /// Compares all keys of all databases with their values, encodings and times.
    pub fn compare_contents(&mut self, seed: u64) {
        for db in self.databases() {
            self.select(db);
            let mut keys = Vec::new();
            for client in [&mut self.theirs, &mut self.ours] {
                let reply = client.command(&["KEYS", "*"]);
                let elements = reply.elements().expect("KEYS replies with an array");
                keys.push(sorted(elements).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
            assert_eq!(show_keys(&keys[0]), show_keys(&keys[1]), "keys of database {db}; seed {seed}");
            for key in &keys[0] {
                for words in [
                    "GET k",
                    "PTTL k",
                    "OBJECT ENCODING k",
                    "LRANGE k 0 -1",
                    "SMEMBERS k",
                    "HGETALL k",
                    "ZRANGE k 0 -1 WITHSCORES",
                    "XRANGE k - +",
                    "XINFO STREAM k FULL COUNT 0",
                ] {
                    let word = |word: &str| if word == "k" { key.clone() } else { word.as_bytes().to_vec() };
                    let argv: Argv = words.split(' ').map(word).collect();
                    if table().find(&argv[0]).is_none() {
                        continue;
                    }
                    if let Err(mismatch) = self.compare_batch(std::slice::from_ref(&argv)) {
                        panic!("database {db} differs at the end: {}; seed {seed}", mismatch.show());
                    }
                }
            }
        }
    }

    fn databases(&self) -> std::ops::Range<i64> {
        if Script::new(0).selects() { 0..DATABASES } else { 0..1 }
    }

    fn select(&mut self, db: i64) {
        if Script::new(0).selects() {
            let argv = [b"SELECT".to_vec(), db.to_string().into_bytes()];
            assert_eq!(self.theirs.command(&argv), self.ours.command(&argv));
        }
    }

    /// Empties all databases that scripts use.
    fn clear(&mut self) {
        for db in self.databases().rev() {
            self.select(db);
            for client in [&mut self.theirs, &mut self.ours] {
                let reply = client.command(&["KEYS", "*"]);
                let keys = reply.elements().expect("KEYS replies with an array").iter().filter_map(Value::bytes);
                for key in keys {
                    client.command(&[b"DEL", key]);
                }
            }
        }
    }

    /// Whether these commands, one by one on empty databases, end in a difference.
    fn differs(&mut self, commands: &[Argv]) -> bool {
        self.clear();
        commands.iter().any(|argv| self.compare_batch(std::slice::from_ref(argv)).is_err())
    }
}

fn scan(client: &mut Client, options: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut argv = vec![b"SCAN".as_slice(), &cursor];
        argv.extend(options.iter().map(|word| word.as_bytes()));
        let reply = client.command(&argv);
        let Some([Value::Bulk(next), Value::Array(keys)]) = reply.elements() else {
            panic!("SCAN replied {reply}");
        };
        found.extend(keys.iter().filter_map(Value::bytes).map(<[u8]>::to_vec));
        cursor = next.clone();
        if cursor == b"0" {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

impl Mismatch {
    fn show(&self) -> String {
        let reply = |bytes: &[u8]| {
            let shown = decode(bytes).0.to_string();
            if shown.len() > 400 { format!("{} bytes, {}", bytes.len(), cut(&shown, 400)) } else { shown }
        };
        let bytes = |bytes: &[u8]| cut(&bytes.escape_ascii().to_string(), 400);
        format!(
            "{}\n  redis-server {}\n               {}\n  annulus      {}\n               {}",
            show(&self.argv),
            reply(&self.theirs),
            bytes(&self.theirs),
            reply(&self.ours),
            bytes(&self.ours)
        )
    }
}

/// Looks for the shortest script that ends in a difference, and panics with it.
fn fail(pair: &mut Pair, history: Vec<Argv>, mismatch: &Mismatch, seed: u64) -> ! {
    let end = history.iter().rposition(|argv| *argv == mismatch.argv).expect("it was just sent");
    let mut script: Vec<Argv> = history[..=end].to_vec();
    let reproduced = pair.differs(&script);
    if reproduced {
        // Whole pieces first, single commands last.
        let mut piece = script.len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < script.len() {
                let mut shorter = script.clone();
                shorter.drain(at..(at + piece).min(script.len()));
                if pair.differs(&shorter) {
                    script = shorter;
                } else {
                    at += piece;
                }
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    } else {
        let keys = |argv: &Argv| argv[1..].iter().any(|arg| mismatch.argv[1..].contains(arg));
        script.retain(keys);
        script.drain(..script.len().saturating_sub(20));
    }
    let lines: Vec<String> = script.iter().map(|argv| show(argv)).collect();
    let how =
        if reproduced { "the shortest way there" } else { "not reproduced alone; the last commands on its arguments" };
    panic!("replies differ, ANNULUS_DIFF_SEED={seed}:\n{}\n{how}:\n{}", mismatch.show(), lines.join("\n"));
}

pub fn show(argv: &[Vec<u8>]) -> String {
    let word = |arg: &Vec<u8>| {
        let text = arg.escape_ascii().to_string();
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if plain { cut(&text, 60) } else { format!("\"{}\"", cut(&text, 60)) }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn show_keys(keys: &[Vec<u8>]) -> Vec<String> {
    keys.iter().map(|key| cut(&key.escape_ascii().to_string(), 80)).collect()
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max { text.to_owned() } else { format!("{}…({} in all)", &text[..max], text.len()) }
}
