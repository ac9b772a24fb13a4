//! Clients that wait for data, by what they see: who is served, in which order, and what ends a wait.
//! Every case has servers of its own, with 1 and with 4 shards, and keys whose owners differ at 4.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Client, Server};

/// Keys on all four shards, in the order of the alphabet.
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn at_both_counts(case: impl Fn(&Server)) {
    for shards in [1, 4] {
        println!("{shards} shards");
        case(&Server::annulus(shards, &[]));
    }
}

/// Sends a command that will wait, and comes back when that many clients wait.
fn wait_for(server: &Server, command: &str, waiting: usize) -> Client {
    let mut client = server.connect();
    client.send_raw(format!("{command}\r\n").as_bytes());
    until_waiting(server, waiting);
    client
}

fn until_waiting(server: &Server, waiting: usize) {
    let mut control = server.connect();
    let deadline = Instant::now() + Duration::from_secs(20);
    let wanted = format!("blocked_clients:{waiting}\r\n");
    while !control.line("INFO clients").text().contains(&wanted) {
        assert!(Instant::now() < deadline, "{waiting} clients should wait");
        thread::sleep(Duration::from_millis(2));
    }
}

fn shown(client: &mut Client) -> String {
    client.reply().to_string().replace('"', "")
}

#[test]
fn the_first_to_wait_is_the_first_to_be_served() {
    at_both_counts(|server| {
        let mut clients: Vec<Client> = (1..=3).map(|n| wait_for(server, "BLPOP k 0", n)).collect();
        let mut pusher = server.connect();
        assert_eq!(pusher.line("RPUSH k x y").to_string(), "(integer) 2");
        assert_eq!(shown(&mut clients[0]), "[k, x]");
        assert_eq!(shown(&mut clients[1]), "[k, y]");
        assert_eq!(pusher.line("EXISTS k").to_string(), "(integer) 0");
        pusher.line("RPUSH k z");
        assert_eq!(shown(&mut clients[2]), "[k, z]");
    });
}

#[test]
fn one_element_serves_one_client_whatever_keys_it_waits_for() {
    at_both_counts(|server| {
        let mut both = wait_for(server, "BLPOP a b c d e f 0", 1);
        let mut one = wait_for(server, "BLPOP d 0", 2);
        let mut pusher = server.connect();
        pusher.line("RPUSH d first");
        assert_eq!(shown(&mut both), "[d, first]");
        pusher.line("RPUSH a stays");
        pusher.line("RPUSH d second");
        assert_eq!(shown(&mut one), "[d, second]");
        assert_eq!(pusher.line("LRANGE a 0 -1").to_string().replace('"', ""), "[stays]");
        until_waiting(server, 0);
    });
}

#[test]
fn a_wait_ends_after_its_time_and_takes_nothing_then() {
    at_both_counts(|server| {
        for command in
            ["BLPOP a b c d 0.05", "BLMOVE a b LEFT LEFT 0.05", "BZPOPMIN a b c d 0.05", "BLMPOP 0.05 2 a d LEFT"]
        {
            let began = Instant::now();
            let mut client = server.connect();
            assert_eq!(client.line(command).to_string(), "(nil array)", "{command}");
            assert!(began.elapsed() >= Duration::from_millis(50), "{command} came back too early");
            client.line("RPUSH a x");
            client.line("ZADD d 1 x");
            assert_eq!(client.line("DEL a d").to_string(), "(integer) 2", "{command}");
        }
        until_waiting(server, 0);
    });
}

#[test]
fn client_unblock_ends_a_wait() {
    at_both_counts(|server| {
        let mut client = server.connect();
        let id = client.line("CLIENT ID").to_string().replace("(integer) ", "");
        let mut control = server.connect();
        assert_eq!(control.line(&format!("CLIENT UNBLOCK {id}")).to_string(), "(integer) 0");
        for (how, reply) in [
            ("", "(nil array)"),
            ("TIMEOUT", "(nil array)"),
            ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        ] {
            client.send_raw(b"BLPOP a b c d 0\r\n");
            until_waiting(server, 1);
            assert_eq!(control.line(&format!("CLIENT UNBLOCK {id} {how}")).to_string(), "(integer) 1");
            assert!(shown(&mut client).contains(reply), "{how}");
        }
        control.line("RPUSH a x");
        assert_eq!(control.line("LLEN a").to_string(), "(integer) 1");
    });
}

#[test]
fn a_client_that_goes_away_takes_nothing() {
    at_both_counts(|server| {
        for command in ["BLPOP a 0", "BLPOP a b c d e f 0"] {
            drop(wait_for(server, command, 1));
            until_waiting(server, 0);
            let mut control = server.connect();
            control.line("RPUSH a x");
            assert_eq!(control.line("LPOP a").text(), "x", "{command}");
        }
        let mut killed = server.connect();
        let id = killed.line("CLIENT ID").to_string().replace("(integer) ", "");
        killed.send_raw(b"BLPOP a b c d 0\r\n");
        until_waiting(server, 1);
        let mut control = server.connect();
        assert_eq!(control.line(&format!("CLIENT KILL ID {id}")).to_string(), "(integer) 1");
        assert!(killed.is_closed());
        until_waiting(server, 0);
    });
}

/// Nothing else happens on the server between the client's going and the push: it must have taken note by itself.
#[test]
fn a_client_that_went_away_on_an_idle_server_takes_nothing() {
    at_both_counts(|server| {
        for command in ["BLPOP a 0", "BLPOP a b c d e f 0"] {
            let mut pusher = server.connect();
            pusher.line("PING");
            let waiting = wait_for(server, command, 1);
            thread::sleep(Duration::from_millis(50));
            drop(waiting);
            // Asking would give the server something to do. Half a second is plenty even for a loaded machine.
            thread::sleep(Duration::from_millis(500));
            assert_eq!(pusher.line("RPUSH a x").to_string(), "(integer) 1");
            assert_eq!(pusher.line("LPOP a").text(), "x", "{command}");
        }
    });
}

#[test]
fn an_element_moves_to_another_shard_when_it_comes() {
    at_both_counts(|server| {
        for destination in KEYS {
            let mut client = wait_for(server, &format!("BLMOVE a {destination} RIGHT LEFT 0"), 1);
            let mut control = server.connect();
            control.line("RPUSH a x");
            assert_eq!(client.reply().text(), "x");
            assert_eq!(control.line(&format!("LPOP {destination}")).text(), "x", "{destination}");
            assert_eq!(control.line("EXISTS a").to_string(), "(integer) 0");
        }
        let mut client = wait_for(server, "BLMOVE a b LEFT LEFT 0", 1);
        let mut control = server.connect();
        control.line("SET b string");
        control.line("RPUSH a x");
        assert!(client.reply().text().starts_with("WRONGTYPE"));
        assert_eq!(control.line("LLEN a").to_string(), "(integer) 1");
    });
}

#[test]
fn what_is_moved_serves_those_who_wait_for_it_there() {
    at_both_counts(|server| {
        let mut last = wait_for(server, "BLPOP c 0", 1);
        let mut second = wait_for(server, "BLMOVE b c LEFT LEFT 0", 2);
        let mut first = wait_for(server, "BLMOVE a b LEFT LEFT 0", 3);
        server.connect().line("RPUSH a x");
        assert_eq!(first.reply().text(), "x");
        assert_eq!(second.reply().text(), "x");
        assert_eq!(shown(&mut last), "[c, x]");
        for command in ["RENAME other k", "COPY other k", "LMOVE other k LEFT LEFT"] {
            let mut client = wait_for(server, "BLPOP k 0", 1);
            let mut control = server.connect();
            control.line("RPUSH other y");
            control.line(command);
            assert_eq!(shown(&mut client), "[k, y]", "{command}");
            control.line("DEL other");
        }
    });
}

#[test]
fn a_key_of_another_type_is_waited_out() {
    at_both_counts(|server| {
        let mut client = wait_for(server, "BZPOPMIN a b c d 0", 1);
        let mut control = server.connect();
        control.line("RPUSH c x");
        control.line("SET d x");
        assert_eq!(control.line("PING").text(), "PONG");
        until_waiting(server, 1);
        control.line("DEL c d");
        control.line("ZADD c 5 member 6 other");
        assert_eq!(shown(&mut client), "[c, member, 5]");
        assert_eq!(control.line("ZCARD c").to_string(), "(integer) 1");
    });
}

#[test]
fn several_elements_are_taken_at_once() {
    at_both_counts(|server| {
        let mut client = wait_for(server, "BLMPOP 0 3 a b c RIGHT COUNT 2", 1);
        server.connect().line("RPUSH b 1 2 3");
        assert_eq!(shown(&mut client), "[b, [3, 2]]");
        let mut client = wait_for(server, "BZMPOP 0 3 x y z MIN COUNT 2", 1);
        server.connect().line("ZADD y 1 m 2 n 3 o");
        assert_eq!(shown(&mut client), "[y, [[m, 1], [n, 2]]]");
    });
}

#[test]
fn a_wait_concerns_the_clients_database() {
    at_both_counts(|server| {
        let mut client = wait_for(server, "SELECT 1\r\nBLPOP k 0", 1);
        assert_eq!(client.reply().text(), "OK");
        let mut control = server.connect();
        control.line("RPUSH k elsewhere");
        until_waiting(server, 1);
        control.line("SWAPDB 0 1");
        assert_eq!(shown(&mut client), "[k, elsewhere]");
    });
}

#[test]
fn what_a_client_sends_behind_its_wait_is_run_after_it() {
    at_both_counts(|server| {
        let mut client = wait_for(server, "BLPOP a b c d 0\r\nSET after 1\r\nGET after", 1);
        let mut control = server.connect();
        assert_eq!(control.line("EXISTS after").to_string(), "(integer) 0");
        control.line("RPUSH c x");
        assert_eq!(shown(&mut client), "[c, x]");
        assert_eq!(client.reply().text(), "OK");
        assert_eq!(client.reply().text(), "1");
    });
}

/// Producers push to queues on all shards, workers wait for all of them, in different orders: every job is done once.
#[test]
fn a_work_queue_hands_out_every_job_once() {
    const JOBS: usize = 600;
    at_both_counts(|server| {
        let done: Vec<String> = thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    scope.spawn(move || {
                        let mut client = server.connect();
                        let mut keys = KEYS.to_vec();
                        keys.rotate_left(worker);
                        let command = format!("BLPOP {} 0", keys.join(" "));
                        let mut done = Vec::new();
                        loop {
                            let reply = client.line(&command);
                            let job = reply.elements().expect("a key and a job")[1].text();
                            if job == "end" {
                                return done;
                            }
                            done.push(job);
                        }
                    })
                })
                .collect();
            let producers: Vec<_> = (0..2)
                .map(|producer| {
                    scope.spawn(move || {
                        let mut client = server.connect();
                        for job in 0..JOBS / 2 {
                            let key = KEYS[(job * 7 + producer) % KEYS.len()];
                            client.line(&format!("RPUSH {key} {producer}:{job}"));
                        }
                    })
                })
                .collect();
            producers.into_iter().for_each(|producer| producer.join().expect("a producer"));
            let mut control = server.connect();
            let deadline = Instant::now() + Duration::from_secs(60);
            while control.line(&format!("EXISTS {}", KEYS.join(" "))).to_string() != "(integer) 0" {
                assert!(Instant::now() < deadline, "jobs are left");
                thread::sleep(Duration::from_millis(2));
            }
            for key in &KEYS[..4] {
                control.line(&format!("RPUSH {key} end"));
            }
            workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
        });
        assert_eq!(done.len(), JOBS, "no job was done twice");
        assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), JOBS, "every job was done");
    });
}

#[test]
fn everyone_who_waits_for_a_stream_gets_what_is_added() {
    at_both_counts(|server| {
        let mut adder = server.connect();
        adder.line("XADD a 1-0 f old");
        let mut clients: Vec<Client> =
            (1..=3).map(|n| wait_for(server, "XREAD BLOCK 0 STREAMS a b c d $ $ $ 0", n)).collect();
        let mut one = wait_for(server, "XREAD BLOCK 0 COUNT 1 STREAMS a 1-0", 4);
        assert_eq!(adder.line("XADD a 2-0 f new").text(), "2-0");
        for client in clients.iter_mut().chain([&mut one]) {
            assert_eq!(shown(client), "[[a, [[2-0, [f, new]]]]]");
        }
        until_waiting(server, 0);
    });
}

#[test]
fn an_entry_of_a_group_serves_the_consumer_that_waited_longest() {
    at_both_counts(|server| {
        let mut adder = server.connect();
        for key in KEYS {
            adder.line(&format!("XGROUP CREATE {key} g $ MKSTREAM"));
        }
        let mut ann = wait_for(server, "XREADGROUP GROUP g ann BLOCK 0 STREAMS a b c d > > > >", 1);
        let mut bob = wait_for(server, "XREADGROUP GROUP g bob BLOCK 0 STREAMS d >", 2);
        adder.line("XADD d 1-0 f first");
        assert_eq!(shown(&mut ann), "[[d, [[1-0, [f, first]]]]]");
        until_waiting(server, 1);
        adder.line("XADD d 2-0 f second");
        assert_eq!(shown(&mut bob), "[[d, [[2-0, [f, second]]]]]");
        let pending = adder.line("XPENDING d g").to_string().replace('"', "");
        assert!(pending.ends_with("1-0, 2-0, [[ann, 1], [bob, 1]]]"), "{pending}");
    });
}

#[test]
fn a_consumer_does_not_wait_for_a_group_that_is_gone() {
    at_both_counts(|server| {
        let mut control = server.connect();
        for (end, error) in
            [("XGROUP DESTROY d g", "NOGROUP"), ("DEL d", "NOGROUP"), ("SET d v", "WRONGTYPE"), ("FLUSHALL", "NOGROUP")]
        {
            for streams in ["STREAMS d >", "STREAMS a b c d > > > >"] {
                control.line("FLUSHALL");
                for key in KEYS {
                    control.line(&format!("XGROUP CREATE {key} g $ MKSTREAM"));
                }
                let mut client = wait_for(server, &format!("XREADGROUP GROUP g ann BLOCK 0 {streams}"), 1);
                control.line(end);
                let reply = shown(&mut client);
                assert!(reply.contains(error), "{end}: {reply}");
                until_waiting(server, 0);
            }
        }
    });
}

#[test]
fn a_reader_waits_out_a_stream_that_is_gone_or_something_else() {
    at_both_counts(|server| {
        let mut control = server.connect();
        for streams in ["STREAMS d $", "STREAMS a b c d $ $ $ $"] {
            control.line("XADD d 5-0 f v");
            let mut client = wait_for(server, &format!("XREAD BLOCK 0 {streams}"), 1);
            control.line("SET d v");
            control.line("DEL d");
            control.line("XADD d 1-0 f older");
            control.line("XADD d 6-0 f newer");
            assert_eq!(shown(&mut client), "[[d, [[6-0, [f, newer]]]]]");
            control.line("DEL d");
        }
        let began = Instant::now();
        assert_eq!(control.line("XREAD BLOCK 50 STREAMS a b $ $").to_string(), "(nil array)");
        assert!(began.elapsed() >= Duration::from_millis(50));
    });
}
