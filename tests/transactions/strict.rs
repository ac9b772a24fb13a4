//! Histories of random clients on a running server are strictly serializable.
//!
//! `ANNULUS_HISTORY_OPS` sets the number of operations of each history (a million takes some minutes), `ANNULUS_HISTORY_SEED` the
//! clients' choices. The interleaving is the machine's: a seed repeats what was sent, not what was seen.

use std::time::Instant;

use super::check::{Verdict, check};
use super::harness::Server;
use super::record::{Mix, record};
use super::setting;

const OPERATIONS: u64 = 40_000;
const CLIENTS: u32 = 24;

fn judge(server: &Server, mix: Mix, seed: u64, operations: u64) -> Verdict {
    let began = Instant::now();
    let history = record(server.port(), mix, CLIENTS, operations, seed);
    let recorded = began.elapsed();
    let verdict = check(&history);
    println!(
        "{} operations of {CLIENTS} clients in {:.1} s, {} edges checked in {:.1} s, {} anomalies",
        history.len(),
        recorded.as_secs_f64(),
        verdict.edges,
        (began.elapsed() - recorded).as_secs_f64(),
        verdict.findings.len()
    );
    verdict
}

fn histories_are_strictly_serializable(mix: Mix) {
    let seed = setting("ANNULUS_HISTORY_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let operations = setting("ANNULUS_HISTORY_OPS").unwrap_or(OPERATIONS);
    for shards in [1, 2, 4] {
        println!("{mix:?}, {shards} shards, ANNULUS_HISTORY_SEED={seed}");
        let server = Server::annulus(shards, &[]);
        let findings = judge(&server, mix, seed, operations).findings;
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "{mix:?}, {shards} shards, ANNULUS_HISTORY_SEED={seed}:\n{}", texts.join("\n"));
    }
}

#[test]
fn commands_are_strictly_serializable() {
    histories_are_strictly_serializable(Mix::Commands);
}

#[test]
fn transactions_are_strictly_serializable() {
    histories_are_strictly_serializable(Mix::Transactions);
}

/// The recorder tells the truth: of a server with one thread no history may have an anomaly.
#[test]
fn a_redis_server_is_strictly_serializable() {
    let Some(server) = Server::redis(&[]) else { return };
    let findings = judge(&server, Mix::Transactions, 1, 20_000).findings;
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n"));
}

/// The recorder and the checker would notice: with reservations switched off on purpose there are anomalies.
#[test]
fn without_reservations_anomalies_are_found() {
    let server = Server::annulus(4, &["--enable-debug-command", "yes"]);
    assert_eq!(server.connect().line("DEBUG RESERVATIONS off").text(), "OK", "the switch that breaks isolation");
    for attempt in 0..20 {
        server.connect().line("FLUSHALL");
        let findings = judge(&server, Mix::Transactions, attempt, 20_000).findings;
        if let Some(finding) = findings.first() {
            println!("as it should be, an anomaly:\n{finding}");
            return;
        }
    }
    panic!("20 histories of a server without isolation have no anomaly: the checker sees nothing");
}
