//! The checker itself: each class of anomaly in a history of a few lines is found and named, and histories without one pass.
//!
//! A line is one operation: when it ran, and its steps. `!` before it: aborted; `?`: nobody knows.
//!
//! ```text
//!   a0=1    append 1 to list 0         l0=1,2   list 0 is 1, 2
//!   w0=1    write 1 to register 0      r0=1     register 0 is 1 (0: not there)
//!   p0=1    put 1 into place 0         t0=1     take it        s0=1,2  see 1 and 2 there
//! ```

use super::check::{Anomaly, check};
use super::history::{Micro, NEVER, Operation, Outcome};

fn operation(client: usize, line: &str) -> Operation {
    let (outcome, line) = match line.as_bytes()[0] {
        b'!' => (Outcome::Aborted, &line[1..]),
        b'?' => (Outcome::Unknown, &line[1..]),
        _ => (Outcome::Done, line),
    };
    let mut words = line.split_whitespace();
    let (invoked, completed) = words.next().and_then(|times| times.split_once('-')).expect("from-to");
    let steps = words.map(|word| {
        let (name, values) = word.split_once('=').expect("name=values");
        let key = name[1..].parse().expect("a key is a number");
        let values: Box<[u32]> =
            values.split(',').filter(|v| !v.is_empty()).map(|v| v.parse().expect("a value is a number")).collect();
        match name.as_bytes()[0] {
            b'a' => Micro::Append { key, element: values[0] },
            b'l' => Micro::List { key, elements: values },
            b'w' => Micro::Write { key, value: values[0] },
            b'r' => Micro::Read { key, value: values[0] },
            b'p' => Micro::Put { place: key, element: values[0] },
            b't' => Micro::Take { place: key, element: values[0] },
            _ => Micro::See { place: key, elements: values },
        }
    });
    let completed = if outcome == Outcome::Unknown { NEVER } else { completed.parse().expect("an instant") };
    Operation {
        client: client as u32,
        invoked: invoked.parse().expect("an instant"),
        completed,
        outcome,
        steps: steps.collect(),
    }
}

fn history(lines: &[&str]) -> Vec<Operation> {
    lines.iter().enumerate().map(|(client, line)| operation(client, line)).collect()
}

#[track_caller]
fn finds(anomaly: Anomaly, lines: &[&str]) {
    let verdict = check(&history(lines));
    let found: Vec<Anomaly> = verdict.findings.iter().map(|finding| finding.anomaly).collect();
    let texts: Vec<String> = verdict.findings.iter().map(ToString::to_string).collect();
    assert!(found.contains(&anomaly), "{anomaly:?} should be found:\n{}", texts.join("\n"));
}

#[track_caller]
fn passes(lines: &[&str]) {
    let texts: Vec<String> = check(&history(lines)).findings.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n"));
}

#[test]
fn a_serial_history_passes() {
    passes(&[
        "0-1 r0=0 w0=1 a0=2 l0=2",
        "2-3 r0=1 l0=2 w0=3 w0=4 r0=4",
        "4-5 a0=5 a0=6 l0=2,5,6 r0=4",
        "6-7 p0=7",
        "8-9 s0=7 s1=",
        "10-11 t0=7 p1=7",
        "12-13 s0= s1=7 l0=2,5,6",
    ]);
}

#[test]
fn what_overlaps_may_have_happened_in_any_order() {
    passes(&["0-100 w0=1 w1=2", "0-100 r0=1 r1=2", "0-100 r0=0 r1=0", "0-100 a0=3", "0-100 l0=", "0-100 l0=3"]);
    passes(&["0-10 w0=1", "5-15 w0=2", "20-30 r0=1", "31-32 r0=1"]);
    passes(&["0-10 w0=1", "5-15 w0=2", "6-16 r0=2", "20-30 r0=1"]);
}

#[test]
fn aborted_and_unknown_transactions_that_nobody_saw_pass() {
    passes(&["!0-1 w0=1 a0=2 p0=3", "?2-3 w0=4 a0=5", "6-7 r0=0 l0= s0="]);
    passes(&["?2-3 w0=4 a0=5", "6-7 r0=4 l0=5", "8-9 r0=4 l0=5"]);
}

#[test]
fn chains_of_reads_and_writes_of_one_register_pass() {
    passes(&["0-1 r0=0 w0=1", "2-9 r0=1 w0=2", "2-9 r0=2 w0=3", "2-9 r0=3 w0=4", "3-9 r0=1", "10-11 r0=4 w0=5"]);
}

#[test]
fn values_out_of_thin_air() {
    finds(Anomaly::FromNowhere, &["0-1 w0=1", "2-3 r0=7"]);
    finds(Anomaly::FromNowhere, &["0-1 w0=1", "2-3 r1=1"]);
    finds(Anomaly::FromNowhere, &["0-1 a0=1", "2-3 l0=1,2"]);
    finds(Anomaly::FromNowhere, &["0-1 p0=1", "2-3 t0=2"]);
    finds(Anomaly::FromNowhere, &["0-1 p0=1", "2-3 s1=1"]);
}

#[test]
fn a_transaction_that_does_not_see_itself() {
    finds(Anomaly::Internal, &["0-1 w0=1 r0=0"]);
    finds(Anomaly::Internal, &["0-1 a0=1 l0="]);
    finds(Anomaly::Internal, &["0-1 a0=1", "0-1 l0= l0=1"]);
    finds(Anomaly::Internal, &["0-1 w0=1", "0-1 r0=0 r0=1"]);
}

#[test]
fn g0_two_orders_of_writes() {
    finds(Anomaly::G0, &["0-9 a0=1 a1=2", "0-9 a0=3 a1=4", "10-11 l0=1,3", "10-11 l1=4,2"]);
}

#[test]
fn g1a_an_aborted_transaction_is_seen() {
    finds(Anomaly::G1a, &["!0-1 w0=1", "2-3 r0=1"]);
    finds(Anomaly::G1a, &["!0-1 a0=1", "2-3 l0=1"]);
    finds(Anomaly::G1a, &["!0-1 p0=1", "2-3 t0=1"]);
}

#[test]
fn g1b_the_middle_of_a_transaction_is_seen() {
    finds(Anomaly::G1b, &["0-1 a0=1 a0=2", "0-3 l0=1"]);
    finds(Anomaly::G1b, &["0-1 w0=1 w0=2", "0-3 r0=1"]);
}

#[test]
fn g1c_a_circle_of_information() {
    finds(Anomaly::G1c, &["0-9 a0=1 l1=2", "0-9 a1=2 l0=1"]);
    finds(Anomaly::G1c, &["0-9 w0=1 r1=2", "0-9 w1=2 r0=1"]);
}

#[test]
fn g_single_half_of_a_transaction_is_seen() {
    finds(Anomaly::GSingle, &["0-9 a0=1 a1=2", "0-9 l0=1 l1=", "10-11 l0=1 l1=2"]);
    finds(Anomaly::GSingle, &["0-9 w0=1 w1=2", "0-9 r0=1 r1=0"]);
    // A move from place 0 to place 1 that is seen at both.
    finds(Anomaly::GSingle, &["0-1 p0=1", "2-9 t0=1 p1=1", "2-9 s0=1 s1=1"]);
}

#[test]
fn g2_write_skew() {
    finds(Anomaly::G2, &["0-9 l0= a1=2", "0-9 l1= a0=1", "10-11 l0=1 l1=2"]);
    finds(Anomaly::G2, &["0-9 r0=0 w1=1", "0-9 r1=0 w0=2"]);
    // Two readers that saw two independent writes in two orders.
    finds(Anomaly::G2, &["0-99 w0=1", "0-99 w1=2", "0-99 r0=1 r1=0", "0-99 r0=0 r1=2"]);
}

#[test]
fn lost_updates() {
    finds(Anomaly::LostUpdate, &["0-1 w0=1", "2-9 r0=1 w0=2", "2-9 r0=1 w0=3"]);
    finds(Anomaly::LostUpdate, &["0-9 r0=0 w0=2", "0-9 r0=0 w0=3"]);
    finds(Anomaly::LostUpdate, &["0-9 l0= a0=1", "0-9 l0= a0=2", "10-11 l0=1,2"]);
    finds(Anomaly::LostUpdate, &["0-9 l0= a0=1", "0-9 l0= a0=2", "10-11 l0=1"]);
}

#[test]
fn lists_that_are_no_prefix_of_one_another() {
    finds(Anomaly::IncompatibleOrders, &["0-9 a0=1", "0-9 a0=2", "0-9 l0=1", "0-9 l0=2"]);
}

#[test]
fn an_element_that_is_delivered_twice() {
    finds(Anomaly::Twice, &["0-1 p0=1", "2-3 t0=1", "2-3 t0=1"]);
    finds(Anomaly::Twice, &["0-1 a0=1", "2-3 l0=1,1"]);
}

#[test]
fn what_is_old_by_the_clock() {
    // A register whose last value was over before the reader began.
    finds(Anomaly::RealTime, &["0-1 w0=1", "2-3 w0=2", "4-5 r0=1"]);
    finds(Anomaly::RealTime, &["0-1 a0=1", "2-3 l0=", "4-5 l0=1"]);
    // An append that was acknowledged and is gone.
    finds(Anomaly::RealTime, &["0-1 a0=1", "2-3 a0=2", "4-5 l0=1"]);
    // Half of the second MSET, the values being told apart by the clock alone.
    finds(Anomaly::RealTime, &["0-1 w0=1 w1=2", "2-9 w0=3 w1=4", "2-9 r0=3 r1=2"]);
    // Seen new by one who was over before another saw it old.
    finds(Anomaly::RealTime, &["0-1 w0=1", "2-99 w0=2", "3-4 r0=2", "5-6 r0=1"]);
    // An element that is taken before it was put.
    finds(Anomaly::RealTime, &["0-1 t0=1", "2-3 p0=1"]);
    // What was read and replaced long after it had been replaced by others.
    finds(Anomaly::RealTime, &["0-1 w0=1", "2-3 w0=2", "4-5 r0=1 w0=3"]);
}

#[test]
fn a_cycle_is_told_with_its_operations() {
    let found = check(&history(&["0-9 w0=1 w1=2", "0-9 r0=1 r1=0"]));
    let text = found.findings[0].to_string();
    assert!(text.contains("r0 := 1, r1 := 2") && text.contains("saw what was replaced by T"), "{text}");
}

/// Many operations in order, and the same with one stale read near their end.
#[test]
fn long_histories_are_checked_too() {
    let mut long: Vec<Operation> = Vec::new();
    let mut registers = [0u32; 8];
    for number in 1..=100_000u32 {
        let key = number % 8;
        let from = u64::from(number) * 10;
        let (old, value) = (registers[key as usize], number);
        let steps = match number % 3 {
            0 => vec![Micro::Read { key, value: old }, Micro::Write { key, value }],
            1 => vec![Micro::Write { key, value }],
            _ => vec![Micro::Read { key, value: old }],
        };
        if number % 3 != 2 {
            registers[key as usize] = value;
        }
        // Each overlaps with the four before it.
        let operation =
            Operation { client: number % 5, invoked: from, completed: from + 45, outcome: Outcome::Done, steps };
        long.push(operation);
    }
    assert!(check(&long).findings.is_empty());
    // A value of the first thousand.
    long[99_991].steps = vec![Micro::Read { key: 0, value: 16 }];
    let findings = check(&long).findings;
    assert_eq!(findings.len(), 1, "{}", findings.iter().map(ToString::to_string).collect::<String>());
    assert_eq!(findings[0].anomaly, Anomaly::RealTime);
}
