//! Access control over several cores, with messages in an order drawn from a seed, and random commands of a user that may use some keys:
//! none of them reads or changes another. A failure found with a seed can be run again.
//!
//! For tests alone. Absent on purpose: what the rules mean (`acl`, `commands::permission`) and what clients read (`tests/commands/acl.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::routing::{Owner, owner};
use super::simulation::{Sim, encode};
use crate::base::ShardId;
use crate::base::rng::Rng;
use crate::commands::keys::{each_key, each_key_used};
use crate::commands::table::{Command, Flags, table};
use crate::config::Config;
use crate::resp::OwnedArgs;
use crate::session::{Closing, SessionKey};
use crate::shard::slots::SlotMap;

/// Sends a line and runs everything to its end.
fn say(sim: &mut Sim, shard: usize, key: SessionKey, line: &str) -> String {
    start(sim, shard, key, line);
    sim.settle();
    String::from_utf8_lossy(&sim.output(shard, key)).into_owned()
}

fn start(sim: &mut Sim, shard: usize, key: SessionKey, line: &str) {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut bytes = Vec::new();
    encode(&words, &mut bytes);
    sim.send(shard, key, &bytes);
}

/// A connection of this user.
fn connect_as(sim: &mut Sim, shard: usize, name: &str) -> SessionKey {
    let key = sim.connect(shard);
    let shard = &mut sim.engines[shard].shard;
    let user = Arc::clone(shard.acl.users.get(name.as_bytes()).expect("the test has made it"));
    shard.sessions.get_mut(key).unwrap().log_in(user);
    key
}

/// Words that mean something to this command, and keys.
fn random_argv(rng: &mut Rng, command: &Command) -> Vec<Vec<u8>> {
    const COMMON: &[&str] = &[
        "0",
        "1",
        "2",
        "3",
        "-1",
        "5",
        "0-0",
        ">",
        "$",
        "+",
        "*",
        "b*",
        "c1",
        "x",
        "GET",
        "SET",
        "STORE",
        "STREAMS",
        "GROUP",
        "g",
        "LEFT",
        "COUNT",
        "LIMIT",
        "BY",
        "u8",
        "AND",
        "km",
        "FROMMEMBER",
        "BYRADIUS",
        "MATCH",
        "WEIGHTS",
        "REPLACE",
        "DB",
    ];
    let own: Vec<String> = command
        .row
        .usage
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'-'))
        .map(str::to_owned)
        .collect();
    let mut argv: Vec<Vec<u8>> = command.full_name.split('|').map(|word| word.as_bytes().to_vec()).collect();
    let least = usize::from(command.row.arity.unsigned_abs());
    let len = least.max(argv.len()) + if command.row.arity < 0 { rng.below(8) as usize } else { 0 };
    while argv.len() < len {
        let word = match rng.below(10) {
            0..=3 => format!("a{}", rng.below(8)),
            4 => format!("b{}", rng.below(8)),
            5 | 6 if !own.is_empty() => rng.pick(&own).clone(),
            _ => rng.pick(COMMON).to_string(),
        };
        argv.push(word.into_bytes());
    }
    argv
}

#[test]
fn a_command_is_routed_by_the_keys_that_are_checked_and_told() {
    let (seed, here) = (7, ShardId(0));
    let mut rng = Rng::seed(seed);
    let slots = SlotMap::new(4);
    let mut compared = 0;
    for command in table().all().filter(|command| command.is_data() && !command.row.keys.is_empty()) {
        for _ in 0..300 {
            let argv = OwnedArgs::from_slices(&random_argv(&mut rng, command));
            let args = argv.as_args();
            let (mut checked, mut routed) = (Vec::new(), Vec::new());
            let whole = each_key_used(command, args, |at, _| checked.push(at));
            assert_eq!(each_key(command, args, |at, _| routed.push(at)), whole);
            assert_eq!(checked, routed, "{argv:?}");
            if whole.is_err() || !command.accepts(args.len()) {
                continue;
            }
            let owners: BTreeSet<ShardId> = checked.iter().map(|at| slots.shard_of(args.get(*at))).collect();
            let expected = match owners.len() {
                0 => Owner::One(here),
                1 => Owner::One(*owners.first().unwrap()),
                _ => Owner::Several,
            };
            // MSET with a key too many goes anywhere: it is refused.
            if command.row.name.starts_with("mset") && args.len().is_multiple_of(2) {
                continue;
            }
            assert_eq!(owner(command, args, slots, here), expected, "{argv:?}");
            compared += 1;
        }
    }
    assert!(compared > 10_000, "{compared}");
}

/// One key of each type under this letter, with this text in all of them.
fn fill(sim: &mut Sim, admin: SessionKey, letter: char, text: &str) {
    for line in [
        format!("SET {letter}1 {text}"),
        format!("RPUSH {letter}2 {text} {text}2 3"),
        format!("SADD {letter}3 {text} {text}2"),
        format!("HSET {letter}4 {text} {text} f 1"),
        format!("ZADD {letter}5 1 {text} 2 {text}2"),
        format!("XADD {letter}6 1-1 {text} {text}"),
        format!("XGROUP CREATE {letter}6 g 0"),
        format!("GEOADD {letter}7 1 2 {text}"),
    ] {
        let reply = say(sim, 0, admin, &line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
}

#[test]
fn cve_2023_41053_and_redis_15478_the_keys_that_are_checked_are_the_keys_that_are_used() {
    for (shards, seed) in [(1, 1), (3, 2), (3, 3)] {
        let mut sim = Sim::new(shards, seed, &Config::default());
        let admin = sim.connect(0);
        fill(&mut sim, admin, 'b', "SECRET");
        fill(&mut sim, admin, 'a', "public");
        // What names no keys, or all, is not what this is about.
        let rules = "on nopass ~a* ~g ~x +@all -@admin -@dangerous -scan -randomkey -swapdb +sort +sort_ro +restore";
        assert_eq!(say(&mut sim, 0, admin, &format!("ACL SETUSER ann {rules}")), "+OK\r\n");
        let forbidden = |sim: &mut Sim| {
            let mut all = say(sim, 0, admin, "EXISTS b0");
            for at in 1..=7 {
                all += &say(sim, 0, admin, &format!("DUMP b{at}"));
            }
            all
        };
        let before = forbidden(&mut sim);
        let mut rng = Rng::seed(seed);
        let commands: Vec<&Command> =
            table().all().filter(|c| !c.row.keys.is_empty() && !c.row.flags.has(Flags::BLOCKING)).collect();
        // XREAD and XREADGROUP may wait, and do not without BLOCK.
        let streams: Vec<&Command> = table().all().filter(|c| c.row.name.starts_with("xread")).collect();
        let (mut allowed, mut denied) = (0, 0);
        for round in 0..9000 {
            let command = if round % 10 == 0 { *rng.pick(&streams) } else { *rng.pick(&commands) };
            let argv = random_argv(&mut rng, command);
            if argv.iter().any(|word| word.eq_ignore_ascii_case(b"BLOCK")) {
                continue;
            }
            let shard = rng.below(u64::from(shards)) as usize;
            let ann = connect_as(&mut sim, shard, "ann");
            let mut bytes = Vec::new();
            encode(&argv.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut bytes);
            sim.send(shard, ann, &bytes);
            sim.settle();
            let reply = String::from_utf8_lossy(&sim.output(shard, ann)).into_owned();
            let shown: Vec<_> = argv.iter().map(|word| word.escape_ascii().to_string()).collect();
            assert!(!reply.contains("SECRET"), "seed {seed}: {shown:?} replied {reply}");
            *(if reply.starts_with("-NOPERM") { &mut denied } else { &mut allowed }) += 1;
            sim.engines[shard].remove_session(ann);
            if round % 300 == 0 {
                assert!(forbidden(&mut sim) == before, "seed {seed}: a key has changed; the last was {shown:?}");
                // What commands have removed is there again.
                say(&mut sim, 0, admin, "DEL a1 a2 a3 a4 a5 a6 a7");
                fill(&mut sim, admin, 'a', "public");
            }
        }
        assert!(forbidden(&mut sim) == before, "seed {seed}: a key has changed");
        assert!(allowed > 1000 && denied > 1000, "{allowed} {denied}");
    }
}

#[test]
fn every_core_has_the_new_rules_when_the_change_has_been_answered() {
    for seed in 1..40 {
        let mut sim = Sim::new(3, seed, &Config::default());
        let admins: Vec<SessionKey> = (0..3).map(|shard| sim.connect(shard)).collect();
        say(&mut sim, 0, admins[0], "ACL SETUSER ann on nopass +@all ~*");
        let anns: Vec<SessionKey> = (0..3).map(|shard| connect_as(&mut sim, shard, "ann")).collect();
        for round in 0..30 {
            let by = sim.rng().below(3) as usize;
            let allow = round % 2 == 1;
            start(&mut sim, by, admins[by], if allow { "ACL SETUSER ann +set" } else { "ACL SETUSER ann -set" });
            while sim.output(by, admins[by]).is_empty() {
                let at = sim.rng().below(3) as usize;
                sim.turn(at);
            }
            for (shard, ann) in anns.iter().enumerate() {
                start(&mut sim, shard, *ann, "SET k v");
            }
            sim.settle();
            for (shard, ann) in anns.iter().enumerate() {
                let reply = sim.output(shard, *ann);
                assert_eq!(reply == b"+OK\r\n", allow, "seed {seed}, round {round}: {}", reply.escape_ascii());
            }
        }
    }
}

#[test]
fn changes_that_cross_leave_the_same_users_everywhere_and_nobody_of_a_user_that_was_removed() {
    for seed in 1..60 {
        let mut sim = Sim::new(3, seed, &Config::default());
        let admins: Vec<SessionKey> = (0..3).map(|shard| sim.connect(shard)).collect();
        say(&mut sim, 0, admins[0], "ACL SETUSER ann on nopass +@all ~*");
        let anns: Vec<SessionKey> = (0..3).map(|shard| connect_as(&mut sim, shard, "ann")).collect();
        // Each core hears of the three in an order of its own.
        start(&mut sim, 0, admins[0], "ACL DELUSER ann");
        for _ in 0..sim.rng().below(12) {
            let at = sim.rng().below(3) as usize;
            sim.turn(at);
        }
        start(&mut sim, 1, admins[1], "ACL SETUSER ann on nopass +@all ~*");
        start(&mut sim, 2, admins[2], "CONFIG SET requirepass pw");
        sim.settle();
        let removed_first = sim.engines[0].shard.acl.users.get(b"ann").is_some_and(|ann| ann.birth > 1);
        let printed = |sim: &Sim, shard: usize| crate::acl::print_file(&sim.engines[shard].shard.acl.users);
        assert!((0..3).all(|shard| printed(&sim, shard) == printed(&sim, 0)), "seed {seed}");
        let closed = |sim: &Sim, shard: usize| {
            sim.engines[shard].shard.sessions.get(anns[shard]).is_none_or(|ann| ann.closing == Closing::Now)
        };
        let gone = sim.engines[0].shard.acl.users.get(b"ann").is_none();
        assert!(removed_first || gone, "seed {seed}");
        assert!(
            (0..3).all(|shard| closed(&sim, shard)),
            "seed {seed}: somebody is still connected as a user that was removed"
        );
        for (shard, admin) in admins.iter().enumerate() {
            assert!(say(&mut sim, shard, *admin, "PING").ends_with("+PONG\r\n"), "seed {seed}");
        }
    }
}
