//! Is this history strictly serializable? A checker in the manner of Elle (Kingsbury and Alvaro, VLDB 2020).
//!
//! If there is one order of all operations that explains what everyone saw and agrees with the clock, then it holds every one of
//! the constraints below, and their graph has no cycle. So each cycle proves that there is no such order; it is printed with its
//! operations. What is seen need not be guessed, because histories are made to be read:
//!
//! - **Lists that are only appended to** show the order of their versions: a list `[1, 2]` was `[1]` before. The longest list that
//!   anyone saw is the order of all appends to that key.
//! - **Registers** take unique values, so it is known whom a reader saw. Which write follows which is known where an operation
//!   reads a register and then writes it, where a reader found nothing, and by the clock: what was over when I began to read, and
//!   which I did not see, comes before what I saw; what began after the write that I saw was over comes after me.
//! - **Places**, queues and sets, hold elements that come and go once: it was put there, then it was seen there, then it was taken.
//! - **The clock**: what was over before another began precedes it.
//!
//! Some contradictions need no graph and are reported by themselves: values from nowhere, from aborted transactions, from the
//! middle of one, an element that was delivered twice, two lists that are no prefix of one another, two transactions that both
//! replaced the same version.
//!
//! Time and memory are linear in the size of the history, but for the search of the cycle to print.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::graph::{Builder, Graph, Why};
use super::history::{Micro, NOTHING, Operation, Outcome};

/// The classes of Adya (1999) where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Anomaly {
    /// A value that nobody wrote, or wrote there.
    FromNowhere,
    /// An operation did not see what it did itself a step before, or saw a key change between two of its steps.
    Internal,
    /// A value of an aborted transaction was seen.
    G1a,
    /// A value was seen that its own transaction replaced.
    G1b,
    /// An element was delivered to two, or is in a list twice.
    Twice,
    /// Two lists of one key that are no prefix of one another.
    IncompatibleOrders,
    /// Two transactions read the same version of a key and both replaced it.
    LostUpdate,
    /// A cycle of writes over writes.
    G0,
    /// A cycle of writes over writes and reads of writes.
    G1c,
    /// A cycle with one read of what was replaced.
    GSingle,
    /// A cycle with several of them.
    G2,
    /// A cycle that exists only because the clock says so.
    RealTime,
}

/// One contradiction.
pub struct Finding {
    pub anomaly: Anomaly,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.anomaly, self.text)
    }
}

/// What the checker found, and how much it looked at.
pub struct Verdict {
    pub findings: Vec<Finding>,
    pub edges: usize,
}

/// Findings that are told; more of them tell nothing new.
const FINDINGS_MAX: usize = 4;

/// Concurrent writes that are looked at one by one: as many as there can be clients.
const CONCURRENT_MAX: usize = 64;

pub fn check(history: &[Operation]) -> Verdict {
    let mut checker = Checker::new(history);
    checker.lists();
    checker.registers();
    checker.places();
    checker.clock();
    let Checker { graph, mut findings, .. } = checker;
    let graph = graph.build();
    let edges = graph.edges();
    for component in graph.components() {
        if findings.len() >= FINDINGS_MAX {
            break;
        }
        findings.push(explain(history, &graph, &component));
    }
    findings.truncate(FINDINGS_MAX);
    Verdict { findings, edges }
}

/// Who made a value.
#[derive(Clone, Copy)]
struct Maker {
    operation: u32,
    key: u32,
    /// The operation did not replace it itself.
    is_final: bool,
}

struct Checker<'h> {
    history: &'h [Operation],
    graph: Builder,
    findings: Vec<Finding>,
    /// By value.
    makers: Vec<Option<Maker>>,
}

/// An operation saw these elements of a list, its own left out.
struct ListRead<'h> {
    reader: u32,
    seen: &'h [u32],
}

/// What an operation has seen of a list at first, and appended to it since.
struct OwnList<'h> {
    key: u32,
    seen: Option<&'h [u32]>,
    appended: Vec<u32>,
}

#[derive(Default)]
struct ListKey<'h> {
    reads: Vec<ListRead<'h>>,
    /// The longest that anyone saw, own elements included.
    longest: &'h [u32],
    longest_reader: u32,
    /// In the order of the history.
    appends: Vec<(u32, u32)>,
}

#[derive(Default)]
struct RegisterKey {
    /// Readers with the value that they found.
    reads: Vec<(u32, u32)>,
    writes: Vec<u32>,
}

impl<'h> Checker<'h> {
    fn new(history: &'h [Operation]) -> Checker<'h> {
        let mut checker =
            Checker { history, graph: Builder::new(history.len()), findings: Vec::new(), makers: Vec::new() };
        for (at, operation) in history.iter().enumerate() {
            for (step, micro) in operation.steps.iter().enumerate() {
                let (Micro::Append { key, element: value } | Micro::Write { key, value }) = *micro else { continue };
                let is_final = !operation.steps[step + 1..].iter().any(|later| match (micro, later) {
                    (Micro::Append { .. }, Micro::Append { key: other, .. }) => *other == key,
                    (Micro::Write { .. }, Micro::Write { key: other, .. }) => *other == key,
                    _ => false,
                });
                let value = value as usize;
                if checker.makers.len() <= value {
                    checker.makers.resize(value + 1, None);
                }
                assert!(checker.makers[value].is_none(), "{value} is written twice: the recorder is wrong");
                checker.makers[value] = Some(Maker { operation: at as u32, key, is_final });
            }
        }
        checker
    }

    fn find(&mut self, anomaly: Anomaly, what: String, operations: &[u32]) {
        if self.findings.len() < FINDINGS_MAX {
            let lines = operations.iter().map(|at| format!("\n    {}", self.history[*at as usize]));
            self.findings.push(Finding { anomaly, text: what + &lines.collect::<String>() });
        }
    }

    fn operation(&self, at: u32) -> &'h Operation {
        &self.history[at as usize]
    }

    /// Whether `reader` may have seen this value of `key`; who made it, if anyone did.
    fn maker(&mut self, value: u32, key: u32, reader: u32) -> Option<Maker> {
        let maker = self.makers.get(value as usize).copied().flatten().filter(|maker| maker.key == key);
        let Some(maker) = maker else {
            self.find(Anomaly::FromNowhere, format!("nobody wrote {value} there"), &[reader]);
            return None;
        };
        if self.operation(maker.operation).outcome == Outcome::Aborted {
            self.find(
                Anomaly::G1a,
                format!("{value} is of an aborted transaction and was seen"),
                &[maker.operation, reader],
            );
            return None;
        }
        Some(maker)
    }

    fn lists(&mut self) {
        let mut keys: HashMap<u32, ListKey<'h>> = HashMap::new();
        for at in 0..self.history.len() as u32 {
            self.lists_of(at, &mut keys);
        }
        for (key, list) in &keys {
            self.order_of_list(*key, list);
        }
    }

    fn lists_of(&mut self, at: u32, keys: &mut HashMap<u32, ListKey<'h>>) {
        let operation = self.operation(at);
        let mut own: Vec<OwnList> = Vec::new();
        for micro in &operation.steps {
            let (Micro::Append { key, .. } | Micro::List { key, .. }) = micro else { continue };
            let slot = own.iter().position(|own| own.key == *key).unwrap_or_else(|| {
                own.push(OwnList { key: *key, seen: None, appended: Vec::new() });
                own.len() - 1
            });
            let OwnList { seen, appended, .. } = &mut own[slot];
            match micro {
                Micro::Append { key, element } => {
                    appended.push(*element);
                    if operation.outcome == Outcome::Done {
                        keys.entry(*key).or_default().appends.push((at, *element));
                    }
                }
                Micro::List { key, elements } if operation.outcome == Outcome::Done => {
                    let elements: &'h [u32] = elements;
                    let Some(before) = elements.strip_suffix(appended.as_slice()) else {
                        self.find(Anomaly::Internal, format!("l{key} does not end with what was just appended"), &[at]);
                        continue;
                    };
                    match seen {
                        Some(first) if *first != before => {
                            self.find(Anomaly::Internal, format!("l{key} changed within one transaction"), &[at]);
                            continue;
                        }
                        Some(_) => {}
                        None => {
                            *seen = Some(before);
                            if !self.may_be_seen(*key, before, at) {
                                continue;
                            }
                            keys.entry(*key).or_default().reads.push(ListRead { reader: at, seen: before });
                        }
                    }
                    let list = keys.entry(*key).or_default();
                    if elements.len() > list.longest.len() {
                        (list.longest, list.longest_reader) = (elements, at);
                    }
                }
                _ => {}
            }
        }
    }

    /// Elements that others appended: each is known, each comes once, and the last one is not from the middle of a transaction.
    fn may_be_seen(&mut self, key: u32, seen: &[u32], reader: u32) -> bool {
        let mut sorted = seen.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            self.find(Anomaly::Twice, format!("{} is in l{key} twice", pair[0]), &[reader]);
            return false;
        }
        let mut last = None;
        for element in seen {
            last = self.maker(*element, key, reader);
            if last.is_none() {
                return false;
            }
        }
        if let Some(maker) = last
            && !maker.is_final
            && maker.operation != reader
        {
            let what = format!("l{key} was seen in the middle of a transaction");
            self.find(Anomaly::G1b, what, &[maker.operation, reader]);
        }
        true
    }

    fn order_of_list(&mut self, key: u32, list: &ListKey<'h>) {
        let order: Vec<u32> = list
            .longest
            .iter()
            .map_while(|element| self.makers.get(*element as usize).copied().flatten())
            .map(|maker| maker.operation)
            .collect();
        for pair in order.windows(2) {
            self.graph.edge(pair[0], pair[1], Why::Ww);
        }
        // What nobody saw comes after everything that was seen.
        let seen: HashSet<u32> = list.longest.iter().copied().collect();
        let unseen: Vec<u32> =
            list.appends.iter().filter(|(_, element)| !seen.contains(element)).map(|(at, _)| *at).collect();
        if let Some(last) = order.last() {
            unseen.iter().take(CONCURRENT_MAX).for_each(|at| self.graph.edge(*last, *at, Why::Ww));
        }
        let mut replaced: HashMap<usize, u32> = HashMap::new();
        for read in &list.reads {
            let length = read.seen.len();
            if !list.longest.starts_with(read.seen) || order.len() < length {
                let what = format!("two orders of l{key}");
                self.find(Anomaly::IncompatibleOrders, what, &[list.longest_reader, read.reader]);
                continue;
            }
            if length > 0 {
                self.graph.edge(order[length - 1], read.reader, Why::Wr);
            }
            match order.get(length) {
                Some(next) => self.graph.edge(read.reader, *next, Why::Rw),
                None => {
                    unseen.iter().take(CONCURRENT_MAX).for_each(|at| self.graph.edge(read.reader, *at, Why::Rw));
                }
            }
            let appends = |micro: &Micro| matches!(micro, Micro::Append { key: of, .. } if *of == key);
            if self.operation(read.reader).steps.iter().any(appends)
                && let Some(other) = replaced.insert(length, read.reader)
            {
                let what = format!("both saw l{key} of {length} elements and appended to it");
                self.find(Anomaly::LostUpdate, what, &[other, read.reader]);
            }
        }
    }

    fn registers(&mut self) {
        let mut keys: HashMap<u32, RegisterKey> = HashMap::new();
        for at in 0..self.history.len() as u32 {
            self.registers_of(at, &mut keys);
        }
        for (key, register) in keys {
            self.order_of_register(key, register);
        }
    }

    fn registers_of(&mut self, at: u32, keys: &mut HashMap<u32, RegisterKey>) {
        let operation = self.operation(at);
        // The value that a further read within this operation must find.
        let mut own: Vec<(u32, u32)> = Vec::new();
        for micro in &operation.steps {
            match *micro {
                Micro::Write { key, value } => {
                    if operation.outcome != Outcome::Aborted && self.makers[value as usize].is_some_and(|m| m.is_final)
                    {
                        keys.entry(key).or_default().writes.push(at);
                    }
                    own.retain(|(of, _)| *of != key);
                    own.push((key, value));
                }
                Micro::Read { key, value } if operation.outcome == Outcome::Done => {
                    if let Some((_, known)) = own.iter().find(|(of, _)| *of == key) {
                        if *known != value {
                            let what = format!("r{key} was to be {known} within one transaction");
                            self.find(Anomaly::Internal, what, &[at]);
                        }
                        continue;
                    }
                    own.push((key, value));
                    if value != NOTHING {
                        let Some(maker) = self.maker(value, key, at) else { continue };
                        if !maker.is_final {
                            let what = format!("r{key} was seen in the middle of a transaction");
                            self.find(Anomaly::G1b, what, &[maker.operation, at]);
                        }
                        self.graph.edge(maker.operation, at, Why::Wr);
                    }
                    keys.entry(key).or_default().reads.push((at, value));
                }
                _ => {}
            }
        }
    }

    fn order_of_register(&mut self, key: u32, register: RegisterKey) {
        let RegisterKey { reads, writes } = register;
        let writers: HashSet<u32> = writes.iter().copied().collect();
        // An operation that read a value and wrote the next one.
        let mut next: HashMap<u32, u32> = HashMap::new();
        for (reader, value) in reads.iter().filter(|(reader, _)| writers.contains(reader)) {
            if let Some(other) = next.insert(*value, *reader) {
                self.find(Anomaly::LostUpdate, format!("both replaced {value} of r{key}"), &[other, *reader]);
            }
        }
        for (reader, value) in &reads {
            if let Some(next) = next.get(value) {
                self.graph.edge(*reader, *next, Why::Rw);
            }
        }
        self.order_by_clock(&reads, &writes);
    }

    /// A reader found value `a`. Writes that were over before it began come before the writer of `a`; writes that began after the
    /// writer of `a` was over come after the reader. Both by chains, and one by one where the writer or the reader itself is among
    /// them.
    fn order_by_clock(&mut self, reads: &[(u32, u32)], writes: &[u32]) {
        let history = self.history;
        let invoked = |at: u32| history[at as usize].invoked;
        let completed = |at: u32| history[at as usize].completed;
        let mut by_end: Vec<u32> =
            writes.iter().copied().filter(|at| self.operation(*at).outcome == Outcome::Done).collect();
        by_end.sort_unstable_by_key(|at| completed(*at));
        let mut by_start = writes.to_vec();
        by_start.sort_unstable_by_key(|at| invoked(*at));
        // Point i of the first chain comes after the writes 0..=i that ended; of the second before the writes i.. that began.
        let ended: Vec<u32> = by_end.iter().map(|_| self.graph.waypoint()).collect();
        let begun: Vec<u32> = by_start.iter().map(|_| self.graph.waypoint()).collect();
        for (at, write) in by_end.iter().enumerate() {
            self.graph.edge(*write, ended[at], Why::Chain);
            if at > 0 {
                self.graph.edge(ended[at - 1], ended[at], Why::Chain);
            }
        }
        for (at, write) in by_start.iter().enumerate() {
            self.graph.edge(begun[at], *write, Why::Chain);
            if at > 0 {
                self.graph.edge(begun[at - 1], begun[at], Why::Chain);
            }
        }
        let position: HashMap<u32, usize> = by_start.iter().enumerate().map(|(at, write)| (*write, at)).collect();
        for (reader, value) in reads.iter().copied() {
            let (from, why) = match value {
                NOTHING => (0, Why::Rw),
                value => {
                    let maker = self.makers[value as usize].expect("a value that was seen has a maker").operation;
                    self.order_before(maker, reader, &by_end, &ended);
                    (by_start.partition_point(|at| invoked(*at) <= completed(maker)), Why::RwByTime)
                }
            };
            let rest = match position.get(&reader).filter(|own| **own >= from) {
                Some(own) => {
                    by_start[from..*own].iter().take(CONCURRENT_MAX).for_each(|at| self.graph.edge(reader, *at, why));
                    *own + 1
                }
                None => from,
            };
            if let Some(point) = begun.get(rest) {
                self.graph.edge(reader, *point, why);
            }
        }
    }

    fn order_before(&mut self, maker: u32, reader: u32, by_end: &[u32], ended: &[u32]) {
        let history = self.history;
        let (began, maker_op) = (history[reader as usize].invoked, &history[maker as usize]);
        let over = by_end.partition_point(|at| history[*at as usize].completed < began);
        // Those before the maker itself, by the chain.
        let before_maker = by_end.partition_point(|at| history[*at as usize].completed < maker_op.completed).min(over);
        if before_maker > 0 {
            self.graph.edge(ended[before_maker - 1], maker, Why::WwByTime);
        }
        for at in by_end[before_maker..over].iter().take(CONCURRENT_MAX) {
            // One that began after the maker was over makes the reader's value a stale one; `begun` tells.
            if history[*at as usize].invoked > maker_op.completed {
                break;
            }
            self.graph.edge(*at, maker, Why::WwByTime);
        }
    }

    fn places(&mut self) {
        let history = self.history;
        let mut puts: HashMap<(u32, u32), u32> = HashMap::new();
        let mut takes: HashMap<(u32, u32), u32> = HashMap::new();
        for (at, operation) in history.iter().enumerate() {
            for micro in &operation.steps {
                match micro {
                    Micro::Put { place, element } => {
                        puts.insert((*place, *element), at as u32);
                    }
                    Micro::Take { place, element } if operation.outcome == Outcome::Done => {
                        if let Some(other) = takes.insert((*place, *element), at as u32) {
                            let what = format!("{element} left q{place} twice");
                            self.find(Anomaly::Twice, what, &[other, at as u32]);
                        }
                    }
                    _ => {}
                }
            }
        }
        for (at, operation) in history.iter().enumerate().filter(|(_, o)| o.outcome == Outcome::Done) {
            let at = at as u32;
            for micro in &operation.steps {
                let (place, elements, is_take) = match micro {
                    Micro::Take { place, element } => (*place, std::slice::from_ref(element), true),
                    Micro::See { place, elements } => (*place, &**elements, false),
                    _ => continue,
                };
                for element in elements {
                    match puts.get(&(place, *element)) {
                        None => self.find(Anomaly::FromNowhere, format!("nobody put {element} into q{place}"), &[at]),
                        Some(put) if self.operation(*put).outcome == Outcome::Aborted => {
                            self.find(Anomaly::G1a, format!("{element} of an aborted transaction"), &[*put, at]);
                        }
                        Some(put) => self.graph.edge(*put, at, Why::Wr),
                    }
                    if let Some(taker) = takes.get(&(place, *element)).filter(|_| !is_take) {
                        self.graph.edge(at, *taker, Why::Rw);
                    }
                }
            }
        }
    }

    /// A waypoint for each end; whoever begins afterwards comes after it.
    fn clock(&mut self) {
        let mut ends: Vec<(u64, u32)> = Vec::new();
        let mut begins: Vec<(u64, u32)> = Vec::new();
        for (at, operation) in self.history.iter().enumerate() {
            if operation.outcome != Outcome::Aborted {
                begins.push((operation.invoked, at as u32));
            }
            if operation.outcome == Outcome::Done {
                ends.push((operation.completed, at as u32));
            }
        }
        ends.sort_unstable();
        begins.sort_unstable();
        let (mut last, mut next) = (None, 0);
        for (began, operation) in begins {
            while let Some((_, ended)) = ends.get(next).filter(|(end, _)| *end < began) {
                let point = self.graph.waypoint();
                self.graph.edge(*ended, point, Why::Chain);
                if let Some(last) = last {
                    self.graph.edge(last, point, Why::Chain);
                }
                last = Some(point);
                next += 1;
            }
            if let Some(last) = last {
                self.graph.edge(last, operation, Why::Time);
            }
        }
    }
}

/// The smallest cycle of the worst kind that the component has.
fn explain(history: &[Operation], graph: &Graph, component: &[u32]) -> Finding {
    const KINDS: [&[Why]; 4] = [
        &[Why::Ww],
        &[Why::Ww, Why::Wr],
        &[Why::Ww, Why::Wr, Why::Rw],
        &[Why::Ww, Why::Wr, Why::Rw, Why::WwByTime, Why::RwByTime, Why::Time],
    ];
    for (kind, allowed) in KINDS.iter().enumerate() {
        let Some(cycle) = graph.shortest_cycle(component, history.len() as u32, |why| allowed.contains(&why)) else {
            continue;
        };
        let anomaly = match (kind, cycle.iter().filter(|(_, why)| *why == Why::Rw).count()) {
            (0, _) => Anomaly::G0,
            (1, _) => Anomaly::G1c,
            (2, 1) => Anomaly::GSingle,
            (2, _) => Anomaly::G2,
            _ => Anomaly::RealTime,
        };
        return Finding { anomaly, text: show(history, &cycle) };
    }
    Finding { anomaly: Anomaly::RealTime, text: format!("a cycle among {} nodes", component.len()) }
}

fn show(history: &[Operation], cycle: &[(u32, Why)]) -> String {
    let mut text = format!("a cycle of {}", cycle.len());
    for (number, (at, why)) in cycle.iter().enumerate() {
        let next = (number + 1) % cycle.len();
        let reason = match why {
            Why::Ww => "wrote what was replaced by",
            Why::Wr => "wrote what was seen by",
            Why::Rw => "saw what was replaced by",
            Why::WwByTime => "was over, and not seen by one who saw",
            Why::RwByTime => "saw what was there before the beginning of",
            Why::Time | Why::Chain => "was over before the beginning of",
        };
        text += &format!("\n    T{number}: {}\n        {reason} T{next}", history[*at as usize]);
    }
    text
}
