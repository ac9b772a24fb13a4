//! Thousands of short histories of every command that touches several keys, on databases that begin empty: each has an order.
//!
//! A round is a dozen calls by each of a few clients, all starting together. Keys are few and on all shards, so that calls meet.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use annulus::base::rng::Rng;

use super::harness::{Client, Server, Value};
use super::model::{Call, shown, shown_command};
use super::search::{Event, has_an_order};
use super::setting;

const ROUNDS: u64 = 300;
const CLIENTS: usize = 5;
const CALLS: usize = 10;

/// Every command of the model with places for keys of each type and for values.
const COMMANDS: &[&str] = &[
    "GET s",
    "SET s v",
    "GETDEL s",
    "APPEND s v",
    "MGET s s s",
    "MGET s s s s",
    "MSET s v s v",
    "MSET s v s v s v s v",
    "MSETNX s v s v",
    "DEL k k",
    "EXISTS k k k",
    "RENAME s s",
    "RENAME l l",
    "RENAME t t",
    "RENAMENX s s",
    "COPY s s REPLACE",
    "COPY t t",
    "COPY l l REPLACE",
    "MOVE k d",
    "RPUSH l v",
    "RPUSH l v",
    "LPOP l",
    "LRANGE l 0 -1",
    "LMOVE l l LEFT RIGHT",
    "LMOVE l l RIGHT LEFT",
    "SADD t v",
    "SADD t v",
    "SMOVE t t v",
    "SMEMBERS t",
    "SUNION t t t",
    "SUNIONSTORE t t t",
    "SINTERSTORE t t t",
    "SDIFFSTORE t t t",
    "DBSIZE",
    "KEYS *",
];
/// Now and then.
const RARE: &[&str] = &["SWAPDB 0 1", "FLUSHALL", "FLUSHDB"];
const WAITING: &[&str] =
    &["BLPOP l l l 0.01", "BRPOP l l 0.01", "BLMOVE l l LEFT RIGHT 0.01", "BLMOVE l l RIGHT LEFT 0.01"];

fn fill_in(rng: &mut Rng, pattern: &str, db: usize) -> Vec<String> {
    let mut used = Vec::new();
    let mut fill = |rng: &mut Rng, word: &str| {
        let key = |rng: &mut Rng, letter: char| format!("{letter}{}", rng.below(4));
        match word {
            "s" | "l" | "t" => {
                // A key stands in a command once: what Redis does with RENAME a a and the like is another test's.
                let letter = word.chars().next().expect("one letter");
                let mut name = key(rng, letter);
                while used.contains(&name) {
                    name = key(rng, letter);
                }
                used.push(name.clone());
                name
            }
            "k" => {
                let letter = *rng.pick(&['s', 'l', 't']);
                let mut name = key(rng, letter);
                while used.contains(&name) {
                    name = key(rng, letter);
                }
                used.push(name.clone());
                name
            }
            "v" => rng.below(6).to_string(),
            "d" => (1 - db).to_string(),
            other => other.to_owned(),
        }
    };
    pattern.split(' ').map(|word| fill(rng, word)).collect()
}

struct Player<'r> {
    number: usize,
    db: usize,
    client: Client,
    rng: Rng,
    clock: &'r Instant,
    transactions: bool,
    events: Vec<Event>,
}

impl Player<'_> {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn command(&mut self) -> Vec<String> {
        let patterns = if self.rng.chance(1, 40) { RARE } else { COMMANDS };
        let pattern = *self.rng.pick(patterns);
        fill_in(&mut self.rng, pattern, self.db)
    }

    fn play(&mut self) {
        if self.rng.chance(1, 4) {
            self.db = self.rng.below(2) as usize;
            let select = self.client.command(&["SELECT".to_owned(), self.db.to_string()]);
            assert_eq!(select.text(), "OK");
        }
        match self.rng.below(20) {
            0..=3 if self.transactions => self.exec(),
            4..=5 if self.transactions => self.watch(),
            6 => {
                let pattern = *self.rng.pick(WAITING);
                let argv = fill_in(&mut self.rng, pattern, self.db);
                self.call(argv);
            }
            _ => {
                let argv = self.command();
                self.call(argv);
            }
        }
    }

    fn call(&mut self, argv: Vec<String>) {
        let invoked = self.now();
        let reply = self.client.command(&argv);
        let call = Call::Command(argv);
        let reply = shown(&call, &reply);
        self.event(invoked, call, reply);
    }

    fn event(&mut self, invoked: u64, call: Call, reply: String) {
        let completed = self.now();
        self.events.push(Event { client: self.number, db: self.db, invoked, completed, call, reply });
    }

    fn queue(&mut self) -> Vec<Vec<String>> {
        let commands: Vec<Vec<String>> = (0..1 + self.rng.below(4)).map(|_| self.command()).collect();
        assert_eq!(self.client.line("MULTI").text(), "OK");
        for argv in &commands {
            assert_eq!(self.client.command(argv).text(), "QUEUED", "{argv:?}");
        }
        commands
    }

    fn exec(&mut self) {
        let commands = self.queue();
        let invoked = self.now();
        let reply = self.client.line("EXEC");
        let call = Call::Exec(commands);
        let reply = shown(&call, &reply);
        self.event(invoked, call, reply);
    }

    /// What was read of watched keys holds when EXEC is not refused, so it is read again in the model's transaction.
    fn watch(&mut self) {
        let pattern = *self.rng.pick(&["MGET s s", "LRANGE l 0 -1", "SMEMBERS t"]);
        let read = fill_in(&mut self.rng, pattern, self.db);
        let mut watch = vec!["WATCH".to_owned()];
        watch.extend(read[1..].iter().filter(|word| word.parse::<i32>().is_err()).cloned());
        assert_eq!(self.client.command(&watch).text(), "OK");
        let seen = self.client.command(&read);
        let commands = self.queue();
        let invoked = self.now();
        let reply = self.client.line("EXEC");
        if matches!(reply, Value::NilArray) {
            return self.event(invoked, Call::Refused, String::new());
        }
        let all = std::iter::once(&read).chain(&commands);
        let replies = std::iter::once(&seen).chain(reply.elements().unwrap_or_else(|| panic!("EXEC gave {reply}")));
        let shown: Vec<String> = all.clone().zip(replies).map(|(argv, reply)| shown_command(argv, reply)).collect();
        let call = Call::Exec(all.cloned().collect());
        self.event(invoked, call, format!("[{}]", shown.join(" ")));
    }
}

/// Plays rounds until one has no order, and gives that one.
fn find_disorder(server: &Server, transactions: bool, seed: u64, rounds: u64) -> Option<String> {
    let clock = Instant::now();
    let mut control = server.connect();
    let player = |number| Player {
        number,
        db: 0,
        client: server.connect(),
        rng: Rng::seed(seed * 1000 + number as u64),
        clock: &clock,
        transactions,
        events: Vec::new(),
    };
    let mut players: Vec<Player> = (0..CLIENTS).map(player).collect();
    for round in 0..rounds {
        assert_eq!(control.line("FLUSHALL").text(), "OK");
        let together = Barrier::new(CLIENTS);
        thread::scope(|scope| {
            for player in &mut players {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    (0..CALLS).for_each(|_| player.play());
                });
            }
        });
        let mut events: Vec<Event> = players.iter_mut().flat_map(|player| player.events.drain(..)).collect();
        if !has_an_order(&events) {
            events.sort_by_key(|event| event.invoked);
            let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
            return Some(format!("no order explains round {round}:\n{lines}"));
        }
    }
    None
}

fn short_histories_have_an_order(transactions: bool) {
    let seed = setting("ANNULUS_HISTORY_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = setting("ANNULUS_HISTORY_OPS").map_or(ROUNDS, |operations| operations / (CLIENTS * CALLS) as u64);
    for shards in [1, 2, 4] {
        println!("{shards} shards, {rounds} rounds, ANNULUS_HISTORY_SEED={seed}");
        let server = Server::annulus(shards, &[]);
        if let Some(disorder) = find_disorder(&server, transactions, seed, rounds) {
            panic!("{shards} shards, ANNULUS_HISTORY_SEED={seed}: {disorder}");
        }
    }
}

#[test]
fn short_histories_of_commands_have_an_order() {
    short_histories_have_an_order(false);
}

#[test]
fn short_histories_of_transactions_have_an_order() {
    short_histories_have_an_order(true);
}

/// The model is right: a redis-server never contradicts it.
#[test]
fn short_histories_of_a_redis_server_have_an_order() {
    let Some(server) = Server::redis(&[]) else { return };
    // Fewer, because it looks at the times of those who wait only ten times a second.
    if let Some(disorder) = find_disorder(&server, true, 1, ROUNDS / 4) {
        panic!("the model is not Redis: {disorder}");
    }
}
