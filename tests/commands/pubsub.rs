//! Publish and subscribe, by the exact frames that clients read; every case has servers of its own, with 1 and with 4 shards.
//! Four connections of one server sit on four shards, so most messages here cross cores.

use std::collections::HashMap;
use std::thread;

use super::check;
use super::harness::{Client, Server, Value, until};

fn at_both_counts(directives: &[&str], case: impl Fn(&Server)) {
    for shards in [1, 4] {
        println!("{shards} shards");
        case(&Server::annulus(shards, directives));
    }
}

/// The next reply as a line: `[message, c, hello]`, `push[…]` in RESP3.
fn next(client: &mut Client) -> String {
    client.reply().to_string().replace('"', "").replace("(integer) ", "")
}

/// Sends a line and returns the next reply.
fn say(client: &mut Client, line: &str) -> String {
    client.send_raw(format!("{line}\r\n").as_bytes());
    next(client)
}

#[test]
fn each_name_is_confirmed_by_itself_and_counted() {
    at_both_counts(&[], |server| {
        let mut client = server.connect();
        client.send(&["SUBSCRIBE", "a", "b", "a"]);
        assert_eq!(client.reply_bytes(), b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        assert_eq!(next(&mut client), "[subscribe, b, 2]");
        assert_eq!(next(&mut client), "[subscribe, a, 2]");
        assert_eq!(say(&mut client, "PSUBSCRIBE x*"), "[psubscribe, x*, 3]");
        assert_eq!(say(&mut client, "SSUBSCRIBE a"), "[ssubscribe, a, 1]");
        assert_eq!(say(&mut client, "UNSUBSCRIBE zz"), "[unsubscribe, zz, 3]");
        assert_eq!(say(&mut client, "UNSUBSCRIBE b a"), "[unsubscribe, b, 2]");
        assert_eq!(next(&mut client), "[unsubscribe, a, 1]");
        assert_eq!(say(&mut client, "UNSUBSCRIBE"), "[unsubscribe, (nil), 1]");
        assert_eq!(say(&mut client, "SUNSUBSCRIBE"), "[sunsubscribe, a, 0]");
        assert_eq!(say(&mut client, "PUNSUBSCRIBE"), "[punsubscribe, x*, 0]");
        client.send(&["PUNSUBSCRIBE"]);
        assert_eq!(client.reply_bytes(), b"*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n");
        assert_eq!(say(&mut client, "GET k"), "(nil)");
    });
}

#[test]
fn resp3_pushes_stand_beside_replies() {
    at_both_counts(&[], |server| {
        let mut client = server.connect_resp3();
        let mut other = server.connect();
        client.send(&["SUBSCRIBE", "a"]);
        assert_eq!(client.reply_bytes(), b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        assert_eq!(say(&mut client, "SET k v"), "+OK");
        assert_eq!(say(&mut client, "PING"), "+PONG");
        assert_eq!(say(&mut other, "PUBLISH a hello"), "1");
        assert_eq!(client.reply_bytes(), b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n");
        assert_eq!(say(&mut client, "GET k"), "v");
        assert_eq!(say(&mut client, "UNSUBSCRIBE"), "push[unsubscribe, a, 0]");
        assert_eq!(say(&mut client, "UNSUBSCRIBE"), "push[unsubscribe, (nil), 0]");
    });
}

#[test]
fn what_a_client_sends_to_itself_follows_the_reply() {
    at_both_counts(&[], |server| {
        let mut client = server.connect_resp3();
        assert_eq!(say(&mut client, "SUBSCRIBE a"), "push[subscribe, a, 1]");
        client.send_raw(b"PUBLISH a 1\r\nPUBLISH a 2\r\nUNSUBSCRIBE a\r\nPUBLISH a 3\r\n");
        let frames: Vec<String> = (0..6).map(|_| next(&mut client)).collect();
        let expected = ["1", "push[message, a, 1]", "1", "push[message, a, 2]", "push[unsubscribe, a, 0]", "0"];
        assert_eq!(frames, expected);
    });
}

#[test]
fn a_subscriber_in_resp2_may_only_listen() {
    at_both_counts(&[], |server| {
        let mut client = server.connect();
        say(&mut client, "SUBSCRIBE a");
        for (line, name) in [
            ("GET k", "get"),
            ("SET k v", "set"),
            ("PUBLISH a x", "publish"),
            ("CLIENT ID", "client|id"),
            ("PUBSUB NUMPAT", "pubsub|numpat"),
            ("HELLO 3", "hello"),
            ("MGET a b c", "mget"),
        ] {
            let refusal = format!(
                "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed \
                 in this context"
            );
            assert_eq!(say(&mut client, line), refusal);
        }
        assert_eq!(say(&mut client, "GET"), "-ERR wrong number of arguments for 'get' command");
        client.send(&["PING"]);
        assert_eq!(client.reply_bytes(), b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        assert_eq!(say(&mut client, "PING hey"), "[pong, hey]");
        assert_eq!(say(&mut client, "PING a b"), "-ERR wrong number of arguments for 'ping' command");
        assert_eq!(say(&mut client, "SSUBSCRIBE s"), "[ssubscribe, s, 1]");
        assert_eq!(say(&mut client, "UNSUBSCRIBE"), "[unsubscribe, a, 0]");
        assert!(say(&mut client, "GET k").starts_with("-ERR Can't execute 'get'"), "a shard channel is left");
        assert_eq!(say(&mut client, "SUNSUBSCRIBE"), "[sunsubscribe, s, 0]");
        assert_eq!(say(&mut client, "PING"), "+PONG");
        say(&mut client, "PSUBSCRIBE *");
        assert_eq!(say(&mut client, "RESET"), "+RESET");
        assert_eq!(say(&mut client, "GET k"), "(nil)");
        assert_eq!(server.connect().line("PUBLISH a x"), Value::Int(0));
        say(&mut client, "SUBSCRIBE a");
        assert_eq!(say(&mut client, "QUIT"), "+OK");
        assert!(client.is_closed());
    });
}

#[test]
fn a_message_reaches_every_channel_and_pattern_on_every_shard() {
    at_both_counts(&[], |server| {
        let mut listeners: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        for (at, client) in listeners.iter_mut().enumerate() {
            match at % 2 {
                0 => assert_eq!(say(client, "SUBSCRIBE news"), "[subscribe, news, 1]"),
                _ => assert_eq!(say(client, "PSUBSCRIBE n*s ?ews x*"), "[psubscribe, n*s, 1]"),
            };
        }
        for client in listeners.iter_mut().skip(1).step_by(2) {
            assert_eq!(next(client), "[psubscribe, ?ews, 2]");
            assert_eq!(next(client), "[psubscribe, x*, 3]");
        }
        for _ in 0..4 {
            assert_eq!(server.connect().line("PUBLISH news hi"), Value::Int(12));
        }
        for (at, client) in listeners.iter_mut().enumerate() {
            for _ in 0..4 {
                if at % 2 == 0 {
                    assert_eq!(next(client), "[message, news, hi]");
                } else {
                    let mut both = [next(client), next(client)];
                    both.sort_unstable();
                    assert_eq!(both, ["[pmessage, ?ews, news, hi]", "[pmessage, n*s, news, hi]"]);
                }
            }
        }
    });
}

#[test]
fn shard_channels_are_apart_from_channels() {
    at_both_counts(&[], |server| {
        let (mut shard, mut plain, mut pattern) = (server.connect(), server.connect(), server.connect());
        say(&mut shard, "SSUBSCRIBE c");
        say(&mut plain, "SUBSCRIBE c");
        say(&mut pattern, "PSUBSCRIBE *");
        let mut sender = server.connect();
        assert_eq!(say(&mut sender, "SPUBLISH c one"), "1");
        assert_eq!(say(&mut sender, "PUBLISH c two"), "2");
        assert_eq!(next(&mut shard), "[smessage, c, one]");
        assert_eq!(next(&mut plain), "[message, c, two]");
        assert_eq!(next(&mut pattern), "[pmessage, *, c, two]");
        assert_eq!(say(&mut shard, "PING"), "[pong, ]");
    });
}

#[test]
fn pubsub_tells_of_all_shards() {
    check(&["PUBSUB CHANNELS"], "[]");
    check(&["PUBSUB NUMPAT"], "0");
    check(&["PUBSUB NUMSUB"], "[]");
    check(&["PUBSUB SHARDCHANNELS *"], "[]");
    check(&["PUBSUB SHARDNUMSUB"], "[]");
    check(
        &["PUBSUB CHANNELS a b"],
        "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.",
    );
    check(&["PUBSUB NUMPAT x"], "-ERR wrong number of arguments for 'pubsub|numpat' command");
    at_both_counts(&[], |server| {
        let mut listeners: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        for (at, client) in listeners.iter_mut().enumerate() {
            say(client, "SUBSCRIBE all");
            say(client, &format!("SUBSCRIBE c{}", at % 2));
            say(client, "PSUBSCRIBE p*");
            say(client, &format!("PSUBSCRIBE q{}*", at % 3));
            say(client, "SSUBSCRIBE s");
        }
        let mut client = server.connect();
        let mut names: Vec<String> =
            client.line("PUBSUB CHANNELS").elements().expect("an array").iter().map(Value::text).collect();
        names.sort_unstable();
        assert_eq!(names, ["all", "c0", "c1"]);
        assert_eq!(say(&mut client, "PUBSUB CHANNELS a*"), "[all]");
        assert_eq!(say(&mut client, "PUBSUB NUMSUB all c0 none all"), "[all, 6, c0, 3, none, 0, all, 6]");
        assert_eq!(say(&mut client, "PUBSUB NUMPAT"), "4");
        assert_eq!(say(&mut client, "PUBSUB SHARDCHANNELS"), "[s]");
        assert_eq!(say(&mut client, "PUBSUB SHARDNUMSUB s x"), "[s, 6, x, 0]");
        let help = client.line("PUBSUB HELP");
        assert!(help.elements().is_some_and(|lines| lines.len() > 10), "{help}");
        let info = client.line("INFO").text();
        for field in ["pubsub_clients:6", "pubsub_channels:3", "pubsub_patterns:4", "pubsubshard_channels:1"] {
            assert!(info.contains(&format!("\r\n{field}\r\n")), "{field}");
        }
        let list = client.line("CLIENT LIST TYPE pubsub").text();
        assert_eq!(list.lines().count(), 6, "{list}");
        assert!(
            list.lines().all(|line| line.contains(" flags=P ") && line.contains(" sub=2 psub=2 ssub=1 ")),
            "{list}"
        );
        assert_eq!(client.line("CLIENT LIST TYPE normal").text().lines().count(), 1);
        assert_eq!(say(&mut client, "CLIENT KILL TYPE pubsub"), "6");
        until("the names of killed clients go", || client.line("PUBSUB CHANNELS") == Value::Array(vec![]));
        until("and their patterns", || client.line("PUBSUB NUMPAT") == Value::Int(0));
    });
}

#[test]
fn a_client_that_leaves_listens_no_more() {
    at_both_counts(&[], |server| {
        let mut sender = server.connect();
        for _ in 0..4 {
            let mut listener = server.connect();
            say(&mut listener, "SUBSCRIBE a");
            say(&mut listener, "PSUBSCRIBE *");
            assert_eq!(say(&mut sender, "PUBLISH a x"), "2");
            drop(listener);
            until("its subscriptions end", || say(&mut sender, "PUBLISH a x") == "0");
        }
    });
}

#[test]
fn client_reply_off_lets_messages_and_confirmations_through() {
    at_both_counts(&[], |server| {
        let mut client = server.connect_resp3();
        client.send_raw(b"CLIENT REPLY OFF\r\nSET k v\r\nSUBSCRIBE a\r\n");
        assert_eq!(next(&mut client), "push[subscribe, a, 1]");
        assert_eq!(server.connect().line("PUBLISH a x"), Value::Int(1));
        assert_eq!(next(&mut client), "push[message, a, x]");
        client.send_raw(b"GET k\r\nUNSUBSCRIBE a\r\nCLIENT REPLY ON\r\n");
        assert_eq!(next(&mut client), "push[unsubscribe, a, 0]");
        assert_eq!(next(&mut client), "+OK");
    });
}

#[test]
fn large_messages_and_odd_bytes_arrive_whole() {
    at_both_counts(&[], |server| {
        let (mut two, mut three) = (server.connect(), server.connect_resp3());
        let channel = b"\0\r\n$";
        for client in [&mut two, &mut three] {
            client.command(&[&b"SUBSCRIBE"[..], channel]);
        }
        let large: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
        let mut sender = server.connect();
        for message in [&large[..], b"", b"\r\n:1\r\n", &large[..20_000]] {
            assert_eq!(sender.command(&[&b"PUBLISH"[..], channel, message]), Value::Int(2));
            let parts = vec![Value::Bulk(b"message".into()), Value::Bulk(channel.into()), Value::Bulk(message.into())];
            assert!(two.reply() == Value::Array(parts.clone()), "{} bytes", message.len());
            assert!(three.reply() == Value::Push(parts), "{} bytes", message.len());
        }
    });
}

#[test]
fn messages_of_a_pipeline_come_in_its_order_and_so_do_the_counts() {
    at_both_counts(&[], |server| {
        let mut listeners: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        for (at, client) in listeners.iter_mut().enumerate() {
            say(client, &format!("SUBSCRIBE all c{at}"));
            next(client);
        }
        let mut sender = server.connect();
        let mut pipeline = Vec::new();
        for round in 0..300 {
            pipeline.extend_from_slice(
                format!("PUBLISH c{} {round}\r\nSET k{round} v\r\nPUBLISH all {round}\r\n", round % 4).as_bytes(),
            );
        }
        sender.send_raw(&pipeline);
        for _ in 0..300 {
            assert_eq!([next(&mut sender), next(&mut sender), next(&mut sender)], ["1", "+OK", "4"]);
        }
        for (at, client) in listeners.iter_mut().enumerate() {
            for round in 0..300 {
                if round % 4 == at {
                    assert_eq!(next(client), format!("[message, c{at}, {round}]"));
                }
                assert_eq!(next(client), format!("[message, all, {round}]"));
            }
        }
    });
}

/// Publishers and subscribers on every shard at once: each subscriber reads each publisher's numbers one by one from the first that
/// was sent after its confirmation, also while others come and go.
#[test]
fn every_subscriber_reads_every_message_once_and_in_order() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 2000;
    at_both_counts(&[], |server| {
        let steady: Vec<Client> = (0..4)
            .map(|at| {
                let mut client = server.connect();
                say(&mut client, if at % 2 == 0 { "SUBSCRIBE c0 c1" } else { "PSUBSCRIBE c0* c1*" });
                next(&mut client);
                client
            })
            .collect();
        thread::scope(|scope| {
            for mut client in steady {
                scope.spawn(move || {
                    let mut seen: HashMap<String, usize> = HashMap::new();
                    while seen.values().sum::<usize>() < PUBLISHERS * MESSAGES {
                        let reply = client.reply();
                        let words: Vec<String> = reply.elements().expect("a message").iter().map(Value::text).collect();
                        let (source, number) = words.last().expect("a payload").split_once(' ').expect("two words");
                        let wanted = seen.entry(format!("{source} on {}", words[words.len() - 2])).or_default();
                        // A publisher's numbers go to the two channels in turn.
                        let number: usize = number.parse().expect("a number");
                        assert_eq!(number / 2, *wanted, "{words:?}");
                        *wanted += 1;
                    }
                });
            }
            for at in 0..PUBLISHERS {
                let mut client = server.connect();
                scope.spawn(move || {
                    for number in (0..MESSAGES).step_by(10) {
                        for n in number..number + 10 {
                            client.send(&["PUBLISH", &format!("c{}", n % 2), &format!("p{at} {n}")]);
                        }
                        for _ in 0..10 {
                            assert!(matches!(client.reply(), Value::Int(n) if n >= 4));
                        }
                    }
                });
            }
            for at in 0..3 {
                scope.spawn(move || {
                    for round in 0..60 {
                        let mut client = server.connect();
                        let mut sender = server.connect();
                        let channel = format!("c{}", at % 2);
                        assert_eq!(client.command(&["SUBSCRIBE", &channel]).elements().map(<[Value]>::len), Some(3));
                        // After the confirmation nothing is missed, whoever sends it.
                        let mine = format!("mine {at} {round}");
                        client.send(&["SUBSCRIBE", &mine]);
                        while client.reply().elements().expect("a frame")[0].text() != "subscribe" {}
                        assert_eq!(sender.command(&["PUBLISH", &mine, "x"]), Value::Int(1));
                        while client.reply().elements().expect("a frame")[1].text() != mine {}
                    }
                });
            }
        });
    });
}

#[test]
fn a_subscriber_that_stops_reading_is_cut_and_others_lose_nothing() {
    let directives = ["--client-output-buffer-limit", "pubsub 1mb 512kb 60"];
    at_both_counts(&directives, |server| {
        let mut readers: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        readers.iter_mut().for_each(|client| assert_eq!(say(client, "SUBSCRIBE c"), "[subscribe, c, 1]"));
        let mut deaf: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        deaf.iter_mut().for_each(|client| assert_eq!(say(client, "SUBSCRIBE c"), "[subscribe, c, 1]"));
        let mut sender = server.connect();
        let body = "x".repeat(8000);
        let mut sent = 0;
        // What the sockets take is not held here, so that it takes more than the limit to be cut.
        while sender.line("PUBSUB NUMSUB c").to_string() != "[\"c\", (integer) 2]" {
            assert!(sent < 10_000, "three subscribers hold 80 MB each");
            for _ in 0..50 {
                sender.command(&["PUBLISH", "c", &format!("{sent} {body}")]);
                for client in &mut readers {
                    let message = client.reply();
                    let payload = message.elements().expect("a message")[2].text();
                    assert!(payload.starts_with(&format!("{sent} ")), "{} is missing", sent);
                }
                sent += 1;
            }
        }
        deaf.iter_mut().for_each(|client| assert!(client.is_closed()));
        let info = sender.line("INFO").text();
        assert!(info.contains("client_output_buffer_limit_disconnections:3\r\n"), "all three are counted");
        let list = sender.line("CLIENT LIST TYPE pubsub").text();
        assert_eq!(list.lines().count(), 2);
    });
}

#[test]
fn a_transaction_publishes_when_it_runs() {
    at_both_counts(&[], |server| {
        let mut listeners: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        listeners.iter_mut().for_each(|client| assert_eq!(say(client, "SUBSCRIBE a"), "[subscribe, a, 1]"));
        let mut client = server.connect_resp3();
        assert_eq!(say(&mut client, "MULTI"), "+OK");
        for line in ["SET k v", "PUBLISH a one", "SPUBLISH a x", "SUBSCRIBE mine", "PUBLISH a two", "PUBSUB NUMSUB a"] {
            assert_eq!(say(&mut client, line), "+QUEUED");
        }
        assert_eq!(server.connect().line("PUBLISH a zero"), Value::Int(4));
        assert_eq!(say(&mut client, "EXEC"), "[+OK, 4, 0, push[subscribe, mine, 1], 4, [a, 4]]");
        for listener in &mut listeners {
            for message in ["zero", "one", "two"] {
                assert_eq!(next(listener), format!("[message, a, {message}]"));
            }
        }
        assert_eq!(server.connect().line("PUBLISH mine x"), Value::Int(1));
        assert_eq!(next(&mut client), "push[message, mine, x]");
    });
}
