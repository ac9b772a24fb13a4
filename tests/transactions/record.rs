//! Clients that do random things and write down what they did and saw.
//!
//! A client is a thread with a connection. It does one thing after the other: a command, a pipeline of some, a MULTI with
//! commands for any shard, a WATCH with reads and a MULTI that depends on them; now and then it dies in the middle of one. Lists
//! are given up when they are long, so that reading them whole stays cheap.
//!
//! ```text
//!   l0, l1, …   lists that are appended to        RPUSH, LRANGE
//!   r0 … r11    registers                         SET, SET GET, GET, MSET, MGET
//!   q0, q1, …   queues, s0, s1, … sets            RPUSH, BLPOP, BRPOP, LMOVE, BLMOVE, LRANGE, SADD, SMOVE, SMEMBERS
//! ```
//!
//! An element goes from place n to place n + 1 and never back, so that it is in a place only once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use annulus::base::rng::Rng;

use super::harness::{Client, Value, resp};
use super::history::{Micro, NEVER, NOTHING, Operation, Outcome};

/// What the clients of a run do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// Commands alone, each of them atomic.
    Commands,
    /// MULTI, EXEC and WATCH as well.
    Transactions,
}

const REGISTERS: u64 = 12;
/// Lists that are in use at one time.
const LISTS: usize = 8;
/// Appends after which a list is given up.
const LIST_APPENDS: u32 = 40;
/// Queues are places `0..PLACES`, sets come after them.
const PLACES: u32 = 5;

/// State that the clients of a run share.
struct Shared {
    port: u16,
    mix: Mix,
    clock: Instant,
    values: AtomicU32,
    /// The number of the list that is in use, and how often it was appended to.
    lists: [(AtomicU32, AtomicU32); LISTS],
    next_list: AtomicU32,
    operations: AtomicU64,
    operations_max: u64,
}

/// One command, by what it means.
#[derive(Clone, Debug)]
enum Step {
    Append(u32, u32),
    List(u32),
    Write(u32, u32),
    WriteGet(u32, u32),
    Read(u32),
    WriteMany(Vec<(u32, u32)>),
    ReadMany(Vec<u32>),
    Put(u32, u32),
    See(u32),
    Take(u32),
    /// From this queue to the one after it.
    Move(u32),
    /// This member from this set to the one after it.
    MoveMember(u32, u32),
    TakeBlocking(Vec<u32>, bool),
    MoveBlocking(u32),
}

/// Runs so many clients until that many operations are done, and reads all keys at the end.
pub fn record(port: u16, mix: Mix, clients: u32, operations: u64, seed: u64) -> Vec<Operation> {
    let shared = Shared {
        port,
        mix,
        clock: Instant::now(),
        values: AtomicU32::new(1),
        lists: std::array::from_fn(|at| (AtomicU32::new(at as u32), AtomicU32::new(0))),
        next_list: AtomicU32::new(LISTS as u32),
        operations: AtomicU64::new(0),
        operations_max: operations,
    };
    let mut history = thread::scope(|scope| {
        let shared = &shared;
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let rng = Rng::seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                scope.spawn(move || Recorder::new(shared, number, rng).run())
            })
            .collect();
        let mut history = Vec::new();
        for thread in threads {
            history.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        history
    });
    let mut last = Recorder::new(&shared, clients, Rng::seed(seed));
    for list in 0..shared.next_list.load(Ordering::Relaxed) {
        last.run_one(Step::List(list));
    }
    (0..REGISTERS as u32).for_each(|register| last.run_one(Step::Read(register)));
    (0..2 * PLACES).for_each(|place| last.run_one(Step::See(place)));
    history.append(&mut last.history);
    nothing_is_lost(&history);
    history
}

/// What was put somewhere and not taken is there at the end. (Elements are handed out by commands whose answers were read.)
fn nothing_is_lost(history: &[Operation]) {
    let mut places: HashMap<(u32, u32), i32> = HashMap::new();
    for micro in history.iter().filter(|o| o.outcome == Outcome::Done).flat_map(|o| &o.steps) {
        match micro {
            Micro::Put { place, element } => *places.entry((*place, *element)).or_default() += 1,
            Micro::Take { place, element } => *places.entry((*place, *element)).or_default() -= 1,
            _ => {}
        }
    }
    let last = history.last().map_or(0, |operation| operation.client);
    for micro in history.iter().filter(|o| o.client == last).flat_map(|o| &o.steps) {
        if let Micro::See { place, elements } = micro {
            elements.iter().for_each(|element| *places.entry((*place, *element)).or_default() -= 1);
        }
    }
    let wrong: Vec<_> = places.iter().filter(|(_, count)| **count != 0).take(10).collect();
    assert!(wrong.is_empty(), "(place, element) that were put and are gone (1) or are there twice (-1): {wrong:?}");
}

struct Recorder<'s> {
    shared: &'s Shared,
    number: u32,
    rng: Rng,
    client: Client,
    history: Vec<Operation>,
    /// Sets that this client has put members into, if nobody else took them.
    members: Vec<(u32, u32)>,
}

impl<'s> Recorder<'s> {
    fn new(shared: &'s Shared, number: u32, rng: Rng) -> Recorder<'s> {
        Recorder { shared, number, rng, client: Client::connect(shared.port), history: Vec::new(), members: Vec::new() }
    }

    fn run(mut self) -> Vec<Operation> {
        while self.shared.operations.load(Ordering::Relaxed) < self.shared.operations_max {
            let before = self.history.len();
            match (self.shared.mix, self.rng.below(20)) {
                (Mix::Transactions, 0..=6) => self.exec(),
                (Mix::Transactions, 7..=9) => self.watch(),
                (Mix::Transactions, 10) if self.rng.chance(1, 20) => self.die(),
                (_, 11..=13) => self.pipeline(),
                _ => {
                    let step = self.step(true);
                    self.run_one(step);
                }
            }
            let done = self.history.len() - before;
            self.shared.operations.fetch_add(done as u64, Ordering::Relaxed);
        }
        self.history
    }

    fn now(&self) -> u64 {
        self.shared.clock.elapsed().as_nanos() as u64
    }

    fn value(&self) -> u32 {
        self.shared.values.fetch_add(1, Ordering::Relaxed)
    }

    fn list(&mut self, to_append: bool) -> u32 {
        let (list, appends) = &self.shared.lists[self.rng.below(LISTS as u64) as usize];
        if to_append && appends.fetch_add(1, Ordering::Relaxed) == LIST_APPENDS {
            list.store(self.shared.next_list.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            appends.store(0, Ordering::Relaxed);
        }
        list.load(Ordering::Relaxed)
    }

    fn register(&mut self) -> u32 {
        self.rng.below(REGISTERS) as u32
    }

    fn some_registers(&mut self) -> Vec<u32> {
        let mut all: Vec<u32> = (0..REGISTERS as u32).collect();
        self.rng.shuffle(&mut all);
        all.truncate(2 + self.rng.below(5) as usize);
        all
    }

    fn put(&mut self) -> Step {
        let value = self.value();
        if self.rng.chance(2, 3) {
            return Step::Put(0, value);
        }
        self.members.push((PLACES, value));
        Step::Put(PLACES, value)
    }

    /// A member moves to the next set, or a new one comes to the first.
    fn move_member(&mut self) -> Step {
        if self.members.is_empty() {
            return self.put();
        }
        let at = self.rng.below(self.members.len() as u64) as usize;
        let (set, member) = self.members.swap_remove(at);
        if set + 2 < 2 * PLACES {
            self.members.push((set + 1, member));
        }
        Step::MoveMember(set, member)
    }

    fn step(&mut self, may_block: bool) -> Step {
        match self.rng.below(28) {
            0..=3 => Step::Append(self.list(true), self.value()),
            4..=6 => Step::List(self.list(false)),
            7 => Step::Write(self.register(), self.value()),
            8 => Step::WriteGet(self.register(), self.value()),
            9 | 10 => Step::Read(self.register()),
            11..=14 => Step::WriteMany(self.some_registers().into_iter().map(|r| (r, self.value())).collect()),
            15..=18 => Step::ReadMany(self.some_registers()),
            19 | 20 => self.put(),
            21 => Step::See(self.rng.below(2 * u64::from(PLACES)) as u32),
            22 => Step::Take(self.rng.below(2 * u64::from(PLACES)) as u32),
            23 => Step::Move(self.rng.below(u64::from(PLACES) - 1) as u32),
            24 => self.move_member(),
            _ if !may_block => Step::ReadMany(self.some_registers()),
            25 | 26 => {
                let mut places: Vec<u32> = (0..PLACES).collect();
                self.rng.shuffle(&mut places);
                places.truncate(1 + self.rng.below(3) as usize);
                Step::TakeBlocking(places, self.rng.chance(1, 2))
            }
            _ => Step::MoveBlocking(self.rng.below(u64::from(PLACES) - 1) as u32),
        }
    }

    /// A step that is understood without its reply.
    fn write_step(&mut self) -> Step {
        match self.rng.below(3) {
            0 => Step::Append(self.list(true), self.value()),
            1 => Step::Write(self.register(), self.value()),
            _ => Step::WriteMany(self.some_registers().into_iter().map(|r| (r, self.value())).collect()),
        }
    }

    fn run_one(&mut self, step: Step) {
        let invoked = self.now();
        let reply = self.client.command(&step.argv());
        let steps = step.micros(Some(&reply));
        self.done(invoked, steps);
    }

    fn done(&mut self, invoked: u64, steps: Vec<Micro>) {
        let completed = self.now();
        self.history.push(Operation { client: self.number, invoked, completed, outcome: Outcome::Done, steps });
    }

    /// Several commands at once: each is an operation of its own, and they may happen in any order on different shards.
    fn pipeline(&mut self) {
        let steps: Vec<Step> = (0..2 + self.rng.below(6)).map(|_| self.step(false)).collect();
        let bytes: Vec<u8> = steps.iter().flat_map(|step| resp::encode(&step.argv())).collect();
        let invoked = self.now();
        self.client.send_raw(&bytes);
        for step in steps {
            let reply = self.client.reply();
            self.done(invoked, step.micros(Some(&reply)));
        }
    }

    fn some_steps(&mut self) -> Vec<Step> {
        (0..1 + self.rng.below(6)).map(|_| self.step(false)).collect()
    }

    fn exec(&mut self) {
        let steps = self.some_steps();
        if self.rng.chance(1, 8) {
            return self.discard(&steps);
        }
        let invoked = self.queue(&steps);
        let reply = self.client.reply();
        let micros = exec_micros(&steps, &reply).unwrap_or_else(|| panic!("an EXEC without WATCH gave {reply}"));
        self.done(invoked, micros);
    }

    /// MULTI and commands, by step or all at once, and EXEC; gives the instant before EXEC was sent.
    fn queue(&mut self, steps: &[Step]) -> u64 {
        let queued: Vec<u8> = steps.iter().flat_map(|step| resp::encode(&step.argv())).collect();
        let mut bytes = [resp::encode(&["MULTI"]), queued].concat();
        let at_once = self.rng.chance(1, 2);
        if at_once {
            bytes.extend(resp::encode(&["EXEC"]));
        }
        let invoked = self.now();
        self.client.send_raw(&bytes);
        assert_eq!(self.client.reply().text(), "OK");
        for step in steps {
            assert_eq!(self.client.reply().text(), "QUEUED", "{step:?}");
        }
        if at_once {
            return invoked;
        }
        let invoked = self.now();
        self.client.send(&["EXEC"]);
        invoked
    }

    fn discard(&mut self, steps: &[Step]) {
        let invoked = self.now();
        assert_eq!(self.client.line("MULTI").text(), "OK");
        for step in steps {
            assert_eq!(self.client.command(&step.argv()).text(), "QUEUED");
        }
        assert_eq!(self.client.line("DISCARD").text(), "OK");
        self.aborted(invoked, steps);
    }

    fn aborted(&mut self, invoked: u64, steps: &[Step]) {
        let completed = self.now();
        let steps = steps.iter().flat_map(|step| step.micros(None)).collect();
        self.history.push(Operation { client: self.number, invoked, completed, outcome: Outcome::Aborted, steps });
    }

    /// Reads of what is watched hold until EXEC, or it is refused: they belong to the transaction.
    fn watch(&mut self) {
        let mut reads: Vec<Step> = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let list = self.list(false);
            let register = self.register();
            reads.push(if self.rng.chance(1, 2) { Step::List(list) } else { Step::Read(register) });
        }
        let keys: Vec<String> =
            reads.iter().map(|step| String::from_utf8_lossy(&step.argv()[1]).into_owned()).collect();
        let mut argv = vec!["WATCH".to_owned()];
        argv.extend(keys);
        assert_eq!(self.client.command(&argv).text(), "OK");
        let mut seen = Vec::new();
        for step in &reads {
            let invoked = self.now();
            let reply = self.client.command(&step.argv());
            let steps = step.micros(Some(&reply));
            seen.extend(steps.iter().cloned());
            self.done(invoked, steps);
        }
        // It writes to one of those it has read, so that an update can be lost.
        let mut steps = self.some_steps();
        steps.push(match self.rng.pick(&reads) {
            Step::List(list) => Step::Append(*list, self.value()),
            Step::Read(register) => Step::Write(*register, self.value()),
            _ => unreachable!("only these are watched"),
        });
        let invoked = self.queue(&steps);
        let reply = self.client.reply();
        match exec_micros(&steps, &reply) {
            Some(micros) => {
                seen.extend(micros);
                self.done(invoked, seen);
            }
            None => self.aborted(invoked, &steps),
        }
    }

    /// Goes away at a random point of a transaction. Whether it was run nobody knows.
    fn die(&mut self) {
        let steps: Vec<Step> = (0..1 + self.rng.below(6)).map(|_| self.write_step()).collect();
        let mut bytes = resp::encode(&["MULTI"]);
        steps.iter().for_each(|step| bytes.extend(resp::encode(&step.argv())));
        bytes.extend(resp::encode(&["EXEC"]));
        if self.rng.chance(1, 2) {
            bytes.truncate(self.rng.below(bytes.len() as u64) as usize);
        }
        let invoked = self.now();
        self.client.send_raw(&bytes);
        self.client = Client::connect(self.shared.port);
        let steps = steps.iter().flat_map(|step| step.micros(None)).collect();
        let outcome = Outcome::Unknown;
        self.history.push(Operation { client: self.number, invoked, completed: NEVER, outcome, steps });
    }
}

/// What an EXEC did and saw, or `None` if it was refused.
fn exec_micros(steps: &[Step], reply: &Value) -> Option<Vec<Micro>> {
    if matches!(reply, Value::Nil | Value::NilArray) {
        return None;
    }
    let replies = reply.elements().unwrap_or_else(|| panic!("EXEC of {steps:?} gave {reply}"));
    assert_eq!(replies.len(), steps.len(), "EXEC of {steps:?} gave {reply}");
    Some(steps.iter().zip(replies).flat_map(|(step, reply)| step.micros(Some(reply))).collect())
}

fn place_name(place: u32) -> Vec<u8> {
    if place < PLACES { format!("q{place}") } else { format!("s{place}") }.into_bytes()
}

impl Step {
    fn argv(&self) -> Vec<Vec<u8>> {
        let name = |letter: char, number: u32| format!("{letter}{number}").into_bytes();
        let text = |number: u32| number.to_string().into_bytes();
        let word = |word: &str| word.as_bytes().to_vec();
        match self {
            Step::Append(key, element) => vec![word("RPUSH"), name('l', *key), text(*element)],
            Step::List(key) => vec![word("LRANGE"), name('l', *key), word("0"), word("-1")],
            Step::Write(key, value) => vec![word("SET"), name('r', *key), text(*value)],
            Step::WriteGet(key, value) => vec![word("SET"), name('r', *key), text(*value), word("GET")],
            Step::Read(key) => vec![word("GET"), name('r', *key)],
            Step::WriteMany(pairs) => {
                let pairs = pairs.iter().flat_map(|(key, value)| [name('r', *key), text(*value)]);
                std::iter::once(word("MSET")).chain(pairs).collect()
            }
            Step::ReadMany(keys) => {
                std::iter::once(word("MGET")).chain(keys.iter().map(|key| name('r', *key))).collect()
            }
            Step::Put(place, element) => {
                vec![word(if *place < PLACES { "RPUSH" } else { "SADD" }), place_name(*place), text(*element)]
            }
            Step::See(place) if *place < PLACES => vec![word("LRANGE"), place_name(*place), word("0"), word("-1")],
            Step::See(place) => vec![word("SMEMBERS"), place_name(*place)],
            Step::Take(place) => vec![word(if *place < PLACES { "LPOP" } else { "SPOP" }), place_name(*place)],
            Step::Move(place) => {
                vec![word("LMOVE"), place_name(*place), place_name(*place + 1), word("LEFT"), word("RIGHT")]
            }
            Step::MoveMember(set, member) => {
                vec![word("SMOVE"), place_name(*set), place_name(*set + 1), text(*member)]
            }
            Step::TakeBlocking(places, from_left) => {
                let command = word(if *from_left { "BLPOP" } else { "BRPOP" });
                let places = places.iter().map(|place| place_name(*place));
                std::iter::once(command).chain(places).chain([word("0.01")]).collect()
            }
            Step::MoveBlocking(place) => {
                let (from, to) = (place_name(*place), place_name(*place + 1));
                vec![word("BLMOVE"), from, to, word("LEFT"), word("RIGHT"), word("0.01")]
            }
        }
    }

    /// What the step did and saw; without a reply only what it would do in any case.
    fn micros(&self, reply: Option<&Value>) -> Vec<Micro> {
        let failed = |reply: &Value| panic!("{} gave {reply}", String::from_utf8_lossy(&self.argv().join(&b' ')));
        if let Some(reply @ Value::Error(_)) = reply {
            failed(reply);
        }
        match (self, reply) {
            (Step::Append(key, element), _) => vec![Micro::Append { key: *key, element: *element }],
            (Step::Write(key, value), _) | (Step::WriteGet(key, value), None) => {
                vec![Micro::Write { key: *key, value: *value }]
            }
            (Step::WriteGet(key, value), Some(reply)) => {
                vec![Micro::Read { key: *key, value: number(reply) }, Micro::Write { key: *key, value: *value }]
            }
            (Step::WriteMany(pairs), _) => {
                pairs.iter().map(|(key, value)| Micro::Write { key: *key, value: *value }).collect()
            }
            (Step::Put(place, element), _) => vec![Micro::Put { place: *place, element: *element }],
            (_, None) => Vec::new(),
            (Step::List(key), Some(reply)) => vec![Micro::List { key: *key, elements: numbers(reply) }],
            (Step::Read(key), Some(reply)) => vec![Micro::Read { key: *key, value: number(reply) }],
            (Step::ReadMany(keys), Some(reply)) => {
                let values = reply.elements().unwrap_or_else(|| failed(reply));
                keys.iter().zip(values).map(|(key, value)| Micro::Read { key: *key, value: number(value) }).collect()
            }
            (Step::See(place), Some(reply)) => vec![Micro::See { place: *place, elements: numbers(reply) }],
            (Step::Take(place), Some(reply)) => match number(reply) {
                NOTHING => Vec::new(),
                element => vec![Micro::Take { place: *place, element }],
            },
            (Step::MoveMember(_, _), Some(Value::Int(0))) => Vec::new(),
            (Step::MoveMember(set, member), Some(_)) => {
                vec![Micro::Take { place: *set, element: *member }, Micro::Put { place: *set + 1, element: *member }]
            }
            (Step::Move(place) | Step::MoveBlocking(place), Some(reply)) => match number(reply) {
                NOTHING => Vec::new(),
                element => {
                    vec![Micro::Take { place: *place, element }, Micro::Put { place: *place + 1, element }]
                }
            },
            (Step::TakeBlocking(..), Some(Value::Array(pair))) => {
                let name = pair[0].text();
                let place = name[1..].parse().expect("a queue's number");
                vec![Micro::Take { place, element: number(&pair[1]) }]
            }
            (Step::TakeBlocking(..), Some(_)) => Vec::new(),
        }
    }
}

fn number(reply: &Value) -> u32 {
    match reply {
        Value::Nil | Value::NilArray => NOTHING,
        other => other.text().parse().unwrap_or_else(|_| panic!("{other} is no value of ours")),
    }
}

fn numbers(reply: &Value) -> Box<[u32]> {
    reply.elements().unwrap_or_else(|| panic!("{reply} is no array")).iter().map(number).collect()
}
