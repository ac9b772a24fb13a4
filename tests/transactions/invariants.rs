//! What must never change, seen from outside while many clients change everything else.
//!
//! Writers do one thing over and over until the readers have looked often enough; keys lie on all four shards. Each test names the
//! property; a reader that sees it broken prints what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annulus::base::rng::Rng;

use super::harness::{Client, Server, Value, resp};
use super::setting;

/// How often each reader looks, or each writer writes where nobody reads.
fn rounds() -> u64 {
    setting("ANNULUS_HISTORY_OPS").map_or(400, |operations| operations / 20)
}

/// A redis-server comes first: what fails there is wrong here.
fn at_all_counts(case: impl Fn(&Server)) {
    if let Some(server) = Server::redis(&[]) {
        case(&server);
    }
    for shards in [1, 2, 4] {
        println!("{shards} shards");
        case(&Server::annulus(shards, &[]));
    }
}

/// Sends all commands in one piece, and gives the replies.
fn pipeline<S: AsRef<str>>(client: &mut Client, commands: &[S]) -> Vec<Value> {
    let argv = |line: &S| resp::encode(&line.as_ref().split(' ').collect::<Vec<_>>());
    client.send_raw(&commands.iter().flat_map(argv).collect::<Vec<u8>>());
    commands.iter().map(|_| client.reply()).collect()
}

/// MULTI, the commands, EXEC: the replies, or `None` if it was refused.
fn exec<S: AsRef<str>>(client: &mut Client, commands: &[S]) -> Option<Vec<Value>> {
    let mut lines = vec!["MULTI".to_owned()];
    lines.extend(commands.iter().map(|line| line.as_ref().to_owned()));
    lines.push("EXEC".to_owned());
    let mut replies = pipeline(client, &lines);
    match replies.pop().expect("EXEC has a reply") {
        Value::Array(replies) => {
            assert_eq!(replies.len(), commands.len());
            Some(replies)
        }
        Value::NilArray | Value::Nil => None,
        other => panic!("EXEC gave {other}"),
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Nil => 0,
        Value::Int(number) => *number,
        other => other.text().parse().unwrap_or_else(|_| panic!("{other} is no number")),
    }
}

/// What a client does once, with its choices.
type Action<'a> = &'a (dyn Fn(&mut Client, &mut Rng) + Sync);

/// So many writers write over and over until each of so many readers has looked [`rounds`] times.
fn while_writing(server: &Server, (writers, write): (u64, Action), (readers, read): (u64, Action)) {
    let seed = setting("ANNULUS_HISTORY_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("ANNULUS_HISTORY_SEED={seed}");
    let over = AtomicBool::new(false);
    /// All stop when one fails, too.
    struct Stop<'o>(&'o AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        for number in 0..writers {
            let (over, mut client, mut rng) = (&over, server.connect(), Rng::seed(seed + number));
            scope.spawn(move || {
                let _stop = Stop(over);
                while !over.load(Ordering::Relaxed) {
                    write(&mut client, &mut rng);
                }
            });
        }
        let _stop = Stop(&over);
        let reader = |number| {
            let (mut client, mut rng) = (server.connect(), Rng::seed(!seed - number));
            scope.spawn(move || (0..rounds()).for_each(|_| read(&mut client, &mut rng)))
        };
        let threads: Vec<_> = (0..readers).map(reader).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

const ACCOUNTS: u64 = 12;
const EACH: i64 = 100;

fn open_accounts(server: &Server) {
    let mut client = server.connect();
    for account in 0..ACCOUNTS {
        client.line(&format!("SET account{account} {EACH}"));
    }
}

fn two_accounts(rng: &mut Rng) -> (u64, u64) {
    let from = rng.below(ACCOUNTS);
    (from, (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS)
}

fn the_sum_is_right(client: &mut Client, rng: &mut Rng) {
    let names: Vec<String> = (0..ACCOUNTS).map(|account| format!("account{account}")).collect();
    let values = if rng.chance(1, 2) {
        let reply = client.line(&format!("MGET {}", names.join(" ")));
        reply.elements().unwrap_or_else(|| panic!("MGET gave {reply}")).to_vec()
    } else {
        let gets: Vec<String> = names.iter().map(|name| format!("GET {name}")).collect();
        exec(client, &gets).expect("nothing is watched")
    };
    let balances: Vec<i64> = values.iter().map(integer).collect();
    assert_eq!(balances.iter().sum::<i64>(), EACH * ACCOUNTS as i64, "money came or went: {balances:?}");
}

#[test]
fn transfers_in_multi_keep_the_sum() {
    at_all_counts(|server| {
        open_accounts(server);
        let transfer = |client: &mut Client, rng: &mut Rng| {
            let (from, to) = two_accounts(rng);
            let amount = rng.range(1..=50);
            exec(client, &[format!("DECRBY account{from} {amount}"), format!("INCRBY account{to} {amount}")]);
        };
        while_writing(server, (6, &transfer), (4, &the_sum_is_right));
    });
}

#[test]
fn transfers_of_what_was_watched_keep_the_sum_and_no_account_is_overdrawn() {
    at_all_counts(|server| {
        open_accounts(server);
        let transfer = |client: &mut Client, rng: &mut Rng| {
            let (from, to) = two_accounts(rng);
            let lines = [format!("WATCH account{from} account{to}"), format!("MGET account{from} account{to}")];
            let replies = pipeline(client, &lines);
            let balances: Vec<i64> = replies[1].elements().expect("MGET gives two").iter().map(integer).collect();
            let amount = rng.range(1..=50);
            if balances[0] < amount {
                client.line("UNWATCH");
                return;
            }
            let sets = [
                format!("SET account{from} {}", balances[0] - amount),
                format!("SET account{to} {}", balances[1] + amount),
            ];
            exec(client, &sets);
        };
        while_writing(server, (6, &transfer), (4, &the_sum_is_right));
        let names: Vec<String> = (0..ACCOUNTS).map(|account| format!("account{account}")).collect();
        let last = server.connect().line(&format!("MGET {}", names.join(" ")));
        assert!(last.elements().expect("an array").iter().all(|balance| integer(balance) >= 0), "{last}");
    });
}

#[test]
fn counters_that_are_read_watched_and_set_lose_no_update() {
    const WRITERS: u64 = 8;
    at_all_counts(|server| {
        let each = rounds() / 4;
        thread::scope(|scope| {
            for number in 0..WRITERS {
                let mut client = server.connect();
                scope.spawn(move || {
                    let mut rng = Rng::seed(number);
                    for _ in 0..each {
                        // A counter on one shard, and a total that is most likely on another.
                        let counter = rng.below(4);
                        loop {
                            let reads = [
                                format!("WATCH counter{counter} total"),
                                format!("GET counter{counter}"),
                                "GET total".to_owned(),
                            ];
                            let replies = pipeline(&mut client, &reads);
                            let (one, all) = (integer(&replies[1]) + 1, integer(&replies[2]) + 1);
                            if exec(&mut client, &[format!("SET counter{counter} {one}"), format!("SET total {all}")])
                                .is_some()
                            {
                                break;
                            }
                        }
                    }
                });
            }
        });
        let reply = server.connect().line("MGET counter0 counter1 counter2 counter3 total");
        let counts: Vec<i64> = reply.elements().expect("an array").iter().map(integer).collect();
        assert_eq!(counts[4], (each * WRITERS) as i64, "{counts:?}");
        assert_eq!(counts[..4].iter().sum::<i64>(), counts[4], "{counts:?}");
    });
}

#[test]
fn mset_and_msetnx_are_seen_whole_or_not_at_all() {
    at_all_counts(|server| {
        let keys = ["a", "b", "c", "d", "e", "f"];
        let write = |client: &mut Client, rng: &mut Rng| {
            let value = rng.next_u64() % 1000;
            let mut keys = keys;
            rng.shuffle(&mut keys);
            let pairs: Vec<String> = keys.iter().map(|key| format!("{key} {value}")).collect();
            match rng.below(4) {
                0 => client.line("DEL f e d c b a"),
                1 => client.line(&format!("MSETNX {}", pairs.join(" "))),
                _ => client.line(&format!("MSET {}", pairs.join(" "))),
            };
        };
        let read = |client: &mut Client, rng: &mut Rng| {
            let mut keys = keys;
            rng.shuffle(&mut keys);
            let seen = match rng.below(3) {
                0 => {
                    let reply = client.line(&format!("EXISTS {}", keys.join(" ")));
                    assert!(matches!(reply, Value::Int(0 | 6)), "some of the keys are there: {reply}");
                    return;
                }
                1 => client.line(&format!("MGET {}", keys.join(" "))).elements().expect("an array").to_vec(),
                _ => exec(client, &keys.map(|key| format!("GET {key}"))).expect("nothing is watched"),
            };
            let different: BTreeSet<String> = seen.iter().map(Value::to_string).collect();
            assert_eq!(different.len(), 1, "half of an MSET: {different:?}");
        };
        while_writing(server, (5, &write), (4, &read));
    });
}

#[test]
fn a_key_that_is_renamed_has_exactly_one_name() {
    at_all_counts(|server| {
        server.connect().line("SET name0 x");
        let rename = |client: &mut Client, rng: &mut Rng| {
            let command = *rng.pick(&["RENAME", "RENAMENX"]);
            client.line(&format!("{command} name{} name{}", rng.below(6), rng.below(6)));
        };
        let read = |client: &mut Client, rng: &mut Rng| match rng.below(4) {
            0 => {
                let reply = client.line("EXISTS name0 name1 name2 name3 name4 name5");
                assert_eq!(reply, Value::Int(1), "so many names at once");
            }
            1 => assert_eq!(client.line("DBSIZE"), Value::Int(1)),
            2 => assert_eq!(client.line("KEYS name*").elements().expect("an array").len(), 1),
            _ => {
                let replies = exec(client, &[0, 1, 2, 3, 4, 5].map(|n| format!("EXISTS name{n}")));
                let names: i64 = replies.expect("nothing is watched").iter().map(integer).sum();
                assert_eq!(names, 1, "so many names at once");
            }
        };
        while_writing(server, (5, &rename), (4, &read));
    });
}

#[test]
fn a_copy_is_its_original() {
    at_all_counts(|server| {
        let write = |client: &mut Client, rng: &mut Rng| {
            let value = rng.next_u64() % 1000;
            exec(client, &[format!("SET original {value}"), "COPY original copy1 REPLACE".to_owned()]);
            exec(client, &[format!("SET original {value}"), "COPY original copy1 REPLACE".to_owned()]);
        };
        let read = |client: &mut Client, _: &mut Rng| {
            let reply = client.line("MGET original copy1");
            let values = reply.elements().expect("an array");
            assert_eq!(values[0], values[1], "a copy that is none");
        };
        while_writing(server, (4, &write), (4, &read));
    });
}

#[test]
fn a_member_that_moves_is_in_exactly_one_set() {
    at_all_counts(|server| {
        server.connect().line("SADD set0 m");
        let write = |client: &mut Client, rng: &mut Rng| {
            client.line(&format!("SMOVE set{} set{} m", rng.below(5), rng.below(5)));
        };
        let read = |client: &mut Client, rng: &mut Rng| match rng.below(3) {
            0 => assert_eq!(client.line("SUNION set0 set1 set2 set3 set4").elements().map(<[Value]>::len), Some(1)),
            1 => assert_eq!(client.line("EXISTS set0 set1 set2 set3 set4"), Value::Int(1)),
            _ => {
                let replies = exec(client, &[0, 1, 2, 3, 4].map(|n| format!("SISMEMBER set{n} m")));
                assert_eq!(replies.expect("nothing is watched").iter().map(integer).sum::<i64>(), 1);
            }
        };
        while_writing(server, (5, &write), (4, &read));
    });
}

#[test]
fn elements_that_move_are_neither_doubled_nor_gone() {
    at_all_counts(|server| {
        server.connect().line("RPUSH list0 a b c d e f g h");
        let write = |client: &mut Client, rng: &mut Rng| {
            let (from, to) = (rng.below(5), rng.below(5));
            let (wherefrom, whereto) = (*rng.pick(&["LEFT", "RIGHT"]), *rng.pick(&["LEFT", "RIGHT"]));
            match rng.below(3) {
                0 => client.line(&format!("BLMOVE list{from} list{to} {wherefrom} {whereto} 0.01")),
                1 => client.line(&format!("RPOPLPUSH list{from} list{to}")),
                _ => client.line(&format!("LMOVE list{from} list{to} {wherefrom} {whereto}")),
            };
        };
        let read = |client: &mut Client, _: &mut Rng| {
            let replies = exec(client, &[0, 1, 2, 3, 4].map(|n| format!("LRANGE list{n} 0 -1"))).expect("not watched");
            let mut all: Vec<String> =
                replies.iter().flat_map(|r| r.elements().expect("an array")).map(Value::text).collect();
            all.sort();
            assert_eq!(all.concat(), "abcdefgh");
        };
        while_writing(server, (5, &write), (4, &read));
    });
}

#[test]
fn a_swap_of_databases_is_seen_on_all_shards_at_once() {
    at_all_counts(|server| {
        let mut setup = server.connect();
        setup.line("MSET a 0 b 0 c 0 d 0 e 0 f 0");
        setup.line("SELECT 1");
        setup.line("MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1 h 1");
        let swap = |client: &mut Client, _: &mut Rng| {
            assert_eq!(client.line("SWAPDB 0 1").text(), "OK");
        };
        let read = |client: &mut Client, rng: &mut Rng| {
            if rng.chance(1, 3) {
                let replies = exec(client, &["DBSIZE", "GET a"]).expect("nothing is watched");
                assert_eq!(integer(&replies[0]), 6 + 2 * integer(&replies[1]), "a mixture of databases");
                return;
            }
            let reply = client.line("MGET a b c d e f");
            let different: BTreeSet<String> =
                reply.elements().expect("an array").iter().map(Value::to_string).collect();
            assert_eq!(different.len(), 1, "a mixture of databases: {reply}");
        };
        while_writing(server, (2, &swap), (4, &read));
    });
}

#[test]
fn flushed_keys_are_all_there_or_all_gone() {
    at_all_counts(|server| {
        let write = |client: &mut Client, rng: &mut Rng| {
            client.line("MSET a 1 b 1 c 1 d 1 e 1 f 1");
            let command = *rng.pick(&["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"]);
            client.line(command);
        };
        let read = |client: &mut Client, rng: &mut Rng| match rng.below(4) {
            0 => assert!(matches!(client.line("DBSIZE"), Value::Int(0 | 6))),
            1 => assert!(matches!(client.line("KEYS *").elements().map(<[Value]>::len), Some(0 | 6))),
            _ => {
                let asked = ["EXISTS a", "EXISTS b", "DBSIZE", "EXISTS c", "EXISTS d", "EXISTS e f"];
                let replies: Vec<i64> = exec(client, &asked).expect("nothing is watched").iter().map(integer).collect();
                assert!(replies == [0; 6] || replies == [1, 1, 6, 1, 1, 2], "half of a FLUSHALL: {replies:?}");
            }
        };
        while_writing(server, (3, &write), (4, &read));
    });
}

/// Sources change together, so that whoever mixes two states of them makes a result that there never was.
#[test]
fn results_that_are_stored_are_of_one_moment() {
    at_all_counts(|server| {
        let sources = |client: &mut Client, rng: &mut Rng| {
            let n = rng.below(2);
            let mut lines: Vec<String> = Vec::new();
            for key in 0..4 {
                lines.push(format!("DEL set{key} zset{key}"));
                lines.push(format!("SADD set{key} round{n}"));
                lines.push(format!("ZADD zset{key} {n} member"));
                lines.push(format!("SET bits{key} {}", ["aaaa", "bbbb"][n as usize]));
            }
            exec(client, &lines);
        };
        let store = |client: &mut Client, rng: &mut Rng| {
            let command = *rng.pick(&[
                "SINTERSTORE common set0 set1 set2 set3",
                "SUNIONSTORE all set0 set1 set2 set3",
                "ZUNIONSTORE sum 4 zset0 zset1 zset2 zset3",
                "ZINTERSTORE sum 4 zset0 zset1 zset2 zset3",
                "BITOP XOR xor bits0 bits1 bits2 bits3",
            ]);
            client.line(command);
        };
        let read = |client: &mut Client, rng: &mut Rng| match rng.below(5) {
            // Each result is missing before the first time.
            0 => assert_ne!(client.line("SCARD all"), Value::Int(2), "members of two moments"),
            1 => {
                let sum = client.line("ZSCORE sum member");
                assert!(matches!(sum.text().as_str(), "0" | "4" | "(nil)"), "scores of two moments: {sum}");
            }
            2 => {
                let xor = client.line("GET xor");
                assert!(xor == Value::Nil || xor.bytes() == Some(&[0; 4]), "bits of two moments: {xor}");
            }
            3 => {
                let reply = client.line("SINTER set0 set1 set2 set3");
                assert!(matches!(reply.elements().map(<[Value]>::len), Some(0 | 1)), "{reply}");
                let union = client.line("SUNION set0 set1 set2 set3");
                assert!(matches!(union.elements().map(<[Value]>::len), Some(0 | 1)), "{union}");
            }
            _ => {
                let replies = exec(client, &["SINTERSTORE mine set0 set1 set2 set3", "SUNION set0 set1 set2 set3"]);
                let replies = replies.expect("nothing is watched");
                assert_eq!(integer(&replies[0]), replies[1].elements().map_or(0, <[Value]>::len) as i64);
            }
        };
        let write = |client: &mut Client, rng: &mut Rng| {
            if rng.chance(1, 2) { sources(client, rng) } else { store(client, rng) }
        };
        while_writing(server, (4, &write), (4, &read));
    });
}

#[test]
fn a_merged_hyperloglog_counts_what_was_there_at_one_moment() {
    at_all_counts(|server| {
        let write = |client: &mut Client, rng: &mut Rng| {
            let n = rng.below(2);
            let mut lines: Vec<String> = vec!["DEL hll0 hll1 hll2 hll3".to_owned()];
            lines.extend((0..4).map(|key| format!("PFADD hll{key} element{n}")));
            exec(client, &lines);
        };
        let read = |client: &mut Client, rng: &mut Rng| {
            let count = if rng.chance(1, 2) {
                client.line("PFCOUNT hll0 hll1 hll2 hll3")
            } else {
                let merged = exec(client, &["DEL merged", "PFMERGE merged hll0 hll1 hll2 hll3", "PFCOUNT merged"]);
                merged.expect("nothing is watched").remove(2)
            };
            assert!(matches!(count, Value::Int(0 | 1)), "elements of two moments: {count}");
        };
        while_writing(server, (4, &write), (3, &read));
    });
}

/// Who waits for what, and how the element is read out of the reply.
const CONSUMERS: [&str; 6] = [
    "BLPOP jobs0 jobs1 jobs2 jobs3 0",
    "BRPOP jobs1 jobs3 jobs0 0",
    "BLMOVE jobs2 done0 LEFT RIGHT 0",
    "BLMPOP 0 3 jobs3 jobs0 jobs2 LEFT COUNT 3",
    "BZPOPMIN zjobs0 zjobs1 zjobs2 zjobs3 0",
    "BZMPOP 0 2 zjobs1 zjobs3 MIN COUNT 2",
];

/// The elements in a reply: every text that has a producer and a number.
fn elements_of(reply: &Value, found: &mut Vec<(u64, u64)>) {
    if let Some(elements) = reply.elements() {
        elements.iter().for_each(|element| elements_of(element, found));
    } else if let Some((producer, number)) = reply.text().split_once(':') {
        found.push((producer.parse().expect("a producer"), number.parse().expect("a number")));
    }
}

#[test]
fn each_element_is_delivered_to_one_of_those_who_wait() {
    const PRODUCERS: u64 = 4;
    at_all_counts(|server| {
        let each = rounds() / 2;
        let mut delivered: Vec<(u64, u64)> = thread::scope(|scope| {
            let consumers: Vec<_> = (0..2 * CONSUMERS.len())
                .map(|number| {
                    let mut client = server.connect();
                    scope.spawn(move || {
                        let mut mine = Vec::new();
                        loop {
                            let reply = client.line(CONSUMERS[number % CONSUMERS.len()]);
                            assert!(!matches!(reply, Value::Nil | Value::NilArray), "nobody's time ran out");
                            let before = mine.len();
                            // One that was ended says so.
                            if let Value::Error(text) = &reply {
                                assert!(text.starts_with(b"UNBLOCKED"), "{reply}");
                                return mine;
                            }
                            elements_of(&reply, &mut mine);
                            assert!(mine.len() > before, "{reply}");
                        }
                    })
                })
                .collect();
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|producer| {
                    let mut client = server.connect();
                    scope.spawn(move || {
                        let mut rng = Rng::seed(producer);
                        let mut number = 0;
                        while number < each {
                            let mut lines = Vec::new();
                            for _ in 0..1 + rng.below(3) {
                                let queue = rng.below(4);
                                lines.push(match rng.below(4) {
                                    0 => format!("ZADD zjobs{queue} {number} {producer}:{number}"),
                                    1 => format!("LPUSH jobs{queue} {producer}:{number}"),
                                    _ => format!("RPUSH jobs{queue} {producer}:{number}"),
                                });
                                number += 1;
                            }
                            if rng.chance(1, 2) {
                                exec(&mut client, &lines);
                            } else {
                                pipeline(&mut client, &lines);
                            }
                        }
                        number
                    })
                })
                .collect();
            let made: u64 = producers.into_iter().map(|thread| thread.join().expect("it pushes")).sum();
            // When all queues are empty, those who still wait are sent home.
            let mut control = server.connect();
            loop {
                let sizes = [0, 1, 2, 3].map(|n| format!("EXISTS jobs{n} zjobs{n}"));
                let left: i64 = pipeline(&mut control, &sizes).iter().map(integer).sum();
                if left == 0 {
                    break;
                }
                thread::sleep(std::time::Duration::from_millis(2));
            }
            let clients = control.line("CLIENT LIST").text();
            for line in clients.lines().filter(|line| !line.contains("cmd=exists")) {
                let id = line.split(' ').next().and_then(|word| word.strip_prefix("id=")).expect("an id first");
                control.line(&format!("CLIENT UNBLOCK {id} ERROR"));
            }
            // Whoever was between two waits then, waits now.
            while !consumers.iter().all(|thread| thread.is_finished()) {
                let clients = control.line("CLIENT LIST").text();
                for line in clients.lines() {
                    let id = line.split(' ').next().and_then(|word| word.strip_prefix("id=")).expect("an id first");
                    control.line(&format!("CLIENT UNBLOCK {id} ERROR"));
                }
                thread::sleep(std::time::Duration::from_millis(5));
            }
            let all: Vec<(u64, u64)> =
                consumers.into_iter().flat_map(|thread| thread.join().expect("it waits")).collect();
            assert_eq!(all.len() as u64, made, "so many were delivered, and so many made");
            all
        });
        delivered.sort_unstable();
        let twice: Vec<_> = delivered.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "delivered twice: {twice:?}");
    });
}

/// What one producer appends to one queue comes out in its order, whoever gets it: instants of one consumer do not go back.
#[test]
fn each_consumer_gets_the_elements_of_a_producer_in_their_order() {
    const PRODUCERS: u64 = 4;
    at_all_counts(|server| {
        let each = rounds() / 2;
        thread::scope(|scope| {
            let consumers: Vec<_> = (0..8)
                .map(|number| {
                    let mut client = server.connect();
                    scope.spawn(move || {
                        let command = [
                            "BLPOP jobs0 jobs1 jobs2 jobs3 0",
                            "BLMPOP 0 2 jobs0 jobs2 LEFT",
                            "BLMOVE jobs1 done1 LEFT RIGHT 0",
                            "BLPOP jobs3 0",
                        ][number % 4];
                        // By producer and queue, the last number seen.
                        let mut last: BTreeMap<(u64, u64), u64> = BTreeMap::new();
                        loop {
                            let mut got = Vec::new();
                            let reply = client.line(command);
                            elements_of(&reply, &mut got);
                            for (producer, number) in got {
                                if number == u64::MAX {
                                    return;
                                }
                                // The queue is the number's remainder.
                                let before = last.insert((producer, number % 4), number);
                                assert!(before.is_none_or(|before| before < number), "{before:?} came before {number}");
                            }
                        }
                    })
                })
                .collect();
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|producer| {
                    let mut client = server.connect();
                    scope.spawn(move || {
                        for number in 0..each {
                            let push = format!("RPUSH jobs{} {producer}:{number}", number % 4);
                            if number % 3 == 0 { drop(exec(&mut client, &[push])) } else { drop(client.line(&push)) }
                        }
                    })
                })
                .collect();
            producers.into_iter().for_each(|thread| thread.join().expect("it pushes"));
            // Everyone goes home after a last element; more of them than there are consumers of each queue.
            let mut control = server.connect();
            while !consumers.iter().all(|thread| thread.is_finished()) {
                for queue in 0..4 {
                    if control.line(&format!("EXISTS jobs{queue}")) == Value::Int(0) {
                        control.line(&format!("RPUSH jobs{queue} 0:{}", u64::MAX));
                    }
                }
                thread::sleep(std::time::Duration::from_millis(1));
            }
        });
    });
}
