//! The bytes of a HyperLogLog, which GET shows, after the same PFADDs and PFMERGEs on both servers, from the first element to well
//! past the default threshold between sparse and dense.

use super::harness::{Client, Server, Value};
use annulus::base::rng::Rng;

/// What a command replies, on both servers.
fn same(ours: &mut Client, theirs: &mut Client, argv: &[String], seed: u64) -> Value {
    let (our, their) = (ours.command_bytes(argv), theirs.command_bytes(argv));
    let shown: Vec<&str> = argv.iter().map(String::as_str).take(6).collect();
    assert!(our == their, "{shown:?}… differs; seed {seed}\n  {}\n  {}", our.escape_ascii(), their.escape_ascii());
    super::harness::resp::decode(&our).0
}

#[test]
fn a_hyperloglog_is_byte_equal_at_every_step() {
    let Some(oracle) = Server::redis(&[]) else { return };
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let (mut ours, mut theirs) = (server.connect(), oracle.connect());
        same(&mut ours, &mut theirs, &["FLUSHALL".to_owned()], 0);
        let seed = u64::from(std::process::id()) * 8 + shards as u64;
        let mut rng = Rng::seed(seed);
        for step in 0..1500 {
            let name = |number: u64| format!("p{number}");
            let key = name(rng.below(6));
            let mut argv = match rng.below(12) {
                0 => vec!["PFMERGE".to_owned(), key.clone()],
                1 => vec!["PFCOUNT".to_owned(), key.clone()],
                _ => vec!["PFADD".to_owned(), key.clone()],
            };
            match argv[0].as_str() {
                "PFADD" => {
                    // Key p5 stays small, the others grow to some thousand elements each.
                    let (count, range) = if key == "p5" { (2, 500) } else { (1 + rng.below(60), 1_000_000) };
                    argv.extend((0..count).map(|_| format!("element:{}", rng.below(range))));
                }
                "PFMERGE" if key == "p5" => argv.push(key.clone()),
                _ => argv.extend((0..rng.below(3)).map(|_| name(rng.below(6)))),
            }
            same(&mut ours, &mut theirs, &argv, seed);
            same(&mut ours, &mut theirs, &["GET".to_owned(), key], seed);
            if step % 100 == 0 {
                let all: Vec<String> = (0..6).map(name).collect();
                same(&mut ours, &mut theirs, &[&["PFCOUNT".to_owned()], &all[..]].concat(), seed);
            }
        }
        let dense = (0..6).filter(|n| {
            same(&mut ours, &mut theirs, &["STRLEN".to_owned(), format!("p{n}")], seed) == Value::Int(12_304)
        });
        assert!((1..6).contains(&dense.count()), "some became dense and some did not; seed {seed}");
    }
}
