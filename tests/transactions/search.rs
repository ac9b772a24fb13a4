//! Is there any order at all? A search over short histories of arbitrary commands, after Wing and Gong (1993) with Lowe's memory
//! of states that led nowhere (2017).
//!
//! The checker of long histories ([`super::check`]) must be able to read who wrote what. This one needs nothing of the kind: it
//! tries the commands in every order that the clock allows on a model of the store ([`super::model`]). The price is that a history
//! may have some dozens of commands by a few clients, no more; so there are many of them.

use std::collections::HashSet;
use std::fmt;

use super::model::{Call, Store};

/// One call of a client with what it was answered.
#[derive(Clone, Debug)]
pub struct Event {
    pub client: usize,
    pub db: usize,
    pub invoked: u64,
    pub completed: u64,
    pub call: Call,
    pub reply: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = match &self.call {
            Call::Command(argv) => argv.join(" "),
            Call::Exec(commands) => {
                format!("EXEC of {}", commands.iter().map(|c| c.join(" ")).collect::<Vec<_>>().join("; "))
            }
            Call::Refused => "EXEC, refused".to_owned(),
        };
        let micros = |instant: u64| instant as f64 / 1000.0;
        let (from, to) = (micros(self.invoked), micros(self.completed));
        write!(f, "client {} db {} from {from:.1} to {to:.1} µs: {call} -> {}", self.client, self.db, self.reply)
    }
}

/// Calls of one history: they are bits of a set.
pub const EVENTS_MAX: usize = 128;

/// True if some order of the events that agrees with the clock explains every reply, from an empty store on.
pub fn has_an_order(events: &[Event]) -> bool {
    assert!(events.len() <= EVENTS_MAX);
    let mut seen: HashSet<(u128, Store)> = HashSet::new();
    let mut open = vec![(0u128, Store::default())];
    let all = if events.len() == EVENTS_MAX { u128::MAX } else { (1 << events.len()) - 1 };
    while let Some((done, store)) = open.pop() {
        if done == all {
            return true;
        }
        let missing = |at: &usize| done & (1 << at) == 0;
        // Whoever began after another was over comes after it.
        let first_end = (0..events.len()).filter(missing).map(|at| events[at].completed).min().unwrap_or(u64::MAX);
        for at in (0..events.len()).filter(missing).filter(|at| events[*at].invoked <= first_end) {
            for next in store.after(events[at].db, &events[at].call, &events[at].reply) {
                let state = (done | 1 << at, next);
                if !seen.contains(&state) {
                    seen.insert(state.clone());
                    open.push(state);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(from: u64, to: u64, calls: &str, reply: &str) -> Event {
        let mut commands: Vec<Vec<String>> =
            calls.split("; ").map(|call| call.split(' ').map(str::to_owned).collect()).collect();
        let call = if commands.len() == 1 { Call::Command(commands.remove(0)) } else { Call::Exec(commands) };
        Event { client: 0, db: 0, invoked: from, completed: to, call, reply: reply.to_owned() }
    }

    #[test]
    fn overlapping_calls_may_happen_in_any_order() {
        let events = [event(0, 9, "SET a 1", "OK"), event(0, 9, "GET a", "1"), event(0, 9, "RENAME a b", "OK")];
        assert!(has_an_order(&events));
    }

    #[test]
    fn a_reply_from_the_past_has_no_order() {
        let events = [event(0, 1, "SET a 1", "OK"), event(2, 3, "SET a 2", "OK"), event(4, 5, "GET a", "1")];
        assert!(!has_an_order(&events));
    }

    #[test]
    fn half_of_a_command_has_no_order() {
        for (write, prepare, read, whole, half) in [
            ("MSET a 1 b 1", "SET c 0", "MGET a b", "[1 1]", "[1 nil]"),
            ("RENAME c b", "SET c 0", "EXISTS b c", "1", "2"),
            ("RENAME c b", "SET c 0", "MGET b c", "[0 nil]", "[nil nil]"),
        ] {
            let reply = "OK";
            let run = |seen: &str| {
                has_an_order(&[event(0, 1, prepare, "OK"), event(2, 9, write, reply), event(2, 9, read, seen)])
            };
            assert!(run(whole) && !run(half), "{write}");
        }
        let moved = |seen: &str| {
            let events =
                [event(0, 1, "RPUSH l x", "1"), event(2, 9, "LMOVE l m LEFT LEFT", "x"), event(2, 9, "KEYS *", seen)];
            has_an_order(&events)
        };
        assert!(moved("[l]") && moved("[m]") && !moved("[l m]") && !moved("[]"));
    }

    #[test]
    fn a_transaction_is_one_step_and_an_element_is_taken_once() {
        let exec = event(0, 9, "RPUSH l x; RPUSH m y", "[1 1]");
        let taken = |one: &str, other: &str| {
            has_an_order(&[exec.clone(), event(1, 9, "BLPOP l m 0", one), event(1, 9, "BLPOP l m 0", other)])
        };
        assert!(taken("[l x]", "[m y]") && taken("[m y]", "[l x]"));
        assert!(!taken("[l x]", "[l x]"));
        assert!(!has_an_order(&[exec.clone(), event(1, 9, "EXISTS l m", "1")]));
        assert!(!has_an_order(&[exec, event(10, 11, "BLPOP l 0.1", "nil")]));
    }
}
