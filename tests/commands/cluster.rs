//! `cluster-shard-nodes`: every shard as a node of a Redis Cluster, by what a client of its port sees, and what one of the main port
//! sees beside it. At 1, 2 and 3 shards; texts and shapes are those of a redis-server 7.0 in a cluster, which one test asks itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::harness::{Client, Server, Value};
use super::{show, words};

const CROSS_SLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot";
const SLOTS: u32 = 16384;

/// Our server in the mode, with further directives.
fn start(shards: usize, directives: &[&str]) -> Server {
    let mut all = vec!["--cluster-shard-nodes", "yes", "--enable-debug-command", "yes"];
    all.extend(directives);
    Server::annulus(shards, &all)
}

fn on_nodes(test: impl Fn(&Server, usize)) {
    for shards in [1, 2, 3] {
        println!("{shards} shards");
        test(&start(shards, &[]), shards);
    }
}

/// By default the nodes' ports follow the main one.
fn node(server: &Server, shard: usize) -> Client {
    Client::connect(server.port() + 1 + shard as u16)
}

fn shown(client: &mut Client, line: &str) -> String {
    show(&client.command(&words(line)))
}

/// Runs the lines and compares the last reply.
#[track_caller]
fn expect(client: &mut Client, lines: &[&str], expected: &str) {
    let replies: Vec<String> = lines.iter().map(|line| shown(client, line)).collect();
    assert_eq!(replies.last().map(String::as_str), Some(expected), "{lines:?} gave {replies:?}");
}

/// The slots of a shard: contiguous ranges of as equal a size as can be.
fn range(shard: usize, shards: usize) -> (u32, u32) {
    let first = |shard: usize| (shard as u32 * SLOTS).div_ceil(shards as u32);
    (first(shard), first(shard + 1) - 1)
}

fn owner(slot: u32, shards: usize) -> usize {
    (0..shards)
        .find(|shard| (range(*shard, shards).0..=range(*shard, shards).1).contains(&slot))
        .expect("every slot has an owner")
}

fn slot_of(client: &mut Client, key: &str) -> u32 {
    shown(client, &format!("CLUSTER KEYSLOT {key}")).parse().expect("a slot")
}

/// A key of each shard, with a hashtag of its own.
fn keys(client: &mut Client, shards: usize) -> Vec<String> {
    let mut keys: Vec<Option<String>> = vec![None; shards];
    for n in 0.. {
        let key = format!("{{{n}}}");
        keys[owner(slot_of(client, &key), shards)].get_or_insert(key);
        if keys.iter().all(Option::is_some) {
            break;
        }
    }
    keys.into_iter().flatten().collect()
}

#[test]
fn a_key_is_served_by_the_node_of_its_slot_and_the_others_say_where_it_is() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        for at in 0..shards {
            let mut client = node(server, at);
            for key in ["a", "b", "foo", "{user1}.name", "x", "y", "z"] {
                let slot = slot_of(&mut main, key);
                let there = owner(slot, shards);
                let reply = shown(&mut client, &format!("SET {key} {key}-{at}"));
                if there == at {
                    assert_eq!(reply, "OK", "{key} at node {at} of {shards}");
                    assert_eq!(shown(&mut main, &format!("GET {key}")), format!("{key}-{at}"));
                } else {
                    assert_eq!(reply, format!("-MOVED {slot} 127.0.0.1:{}", server.port() + 1 + there as u16));
                }
            }
        }
        assert_eq!(shown(&mut main, "DBSIZE"), "7", "each key was taken by one node");
    });
}

#[test]
fn keys_of_several_slots_are_refused_even_on_one_node() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        for (at, tag) in keys(&mut main, shards).iter().enumerate() {
            let mut client = node(server, at);
            expect(
                &mut client,
                &[&format!("MSET {tag}1 1 {tag}2 2"), &format!("MGET {tag}1 {tag}2 {tag}3")],
                "[1, 2, (nil)]",
            );
            for line in [
                "MGET a b",
                "MSET a 1 b",
                "DEL a b c",
                "RENAME a b",
                "SINTERSTORE a a b",
                "ZUNIONSTORE a 1 b",
                "BLPOP a b 0",
                "LMOVE a b LEFT LEFT",
                "BLMOVE a b LEFT LEFT 0",
                "XREAD STREAMS a b 0 0",
                "PFCOUNT a b",
                "BITOP NOT a b",
                "SORT a STORE b",
                "COPY a b DB 1",
                "WATCH a b",
                "GEORADIUS a 1 1 1 m STORE b",
                "SSUBSCRIBE a b",
                "LMPOP 2 a b LEFT",
            ] {
                expect(&mut client, &[line], CROSS_SLOT);
            }
            // What contradicts the specification is the handler's to say.
            expect(&mut client, &["ZUNIONSTORE a x b"], "-ERR value is not an integer or out of range");
            expect(&mut client, &["GET"], "-ERR wrong number of arguments for 'get' command");
        }
    });
}

#[test]
fn a_transaction_is_of_one_slot_and_a_command_of_another_node_breaks_it() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        let tags = keys(&mut main, shards);
        for (at, tag) in tags.iter().enumerate() {
            let mut client = node(server, at);
            let set = format!("SET {tag}1 1");
            expect(&mut client, &["MULTI", &set, &format!("INCR {tag}2"), "DBSIZE", "EXEC"], "[OK, 1, 2]");
            expect(&mut client, &["MULTI", "EXEC"], "[]");
            expect(&mut client, &["EXEC"], "-ERR EXEC without MULTI");
            expect(
                &mut client,
                &["MULTI", "MGET a b", "EXEC"],
                "-EXECABORT Transaction discarded because of previous errors.",
            );
            expect(&mut client, &["UNWATCH", &format!("WATCH {tag}1"), &set, "MULTI", &set, "EXEC"], "(nil)");
            // Two slots of the same node: each is queued, and EXEC says what is wrong, as a cluster's node does.
            let other = (0..).map(|n| format!("k{n}")).find(|key| {
                let slot = slot_of(&mut main, key);
                owner(slot, shards) == at && slot != slot_of(&mut main, tag)
            });
            let other = format!("SET {} 1", other.unwrap());
            expect(&mut client, &["MULTI", &set, &other], "QUEUED");
            expect(&mut client, &["EXEC"], CROSS_SLOT);
            expect(&mut client, &["EXEC"], "-ERR EXEC without MULTI");
            expect(&mut client, &[&format!("WATCH {tag}1"), "MULTI", &other, "EXEC"], "[OK]");
            if shards > 1 {
                let elsewhere = &tags[(at + 1) % shards];
                expect(&mut client, &["MULTI", &set], "QUEUED");
                assert!(shown(&mut client, &format!("GET {elsewhere}")).starts_with("-MOVED "));
                expect(&mut client, &["EXEC"], "-EXECABORT Transaction discarded because of previous errors.");
                assert!(shown(&mut client, &format!("WATCH {elsewhere}")).starts_with("-MOVED "));
            }
            expect(&mut client, &["FLUSHALL"], "OK");
        }
    });
}

#[test]
fn a_node_has_one_database_and_names_no_keys_by_pattern() {
    on_nodes(|server, shards| {
        let tag = &keys(&mut server.connect(), shards)[0];
        let mut client = node(server, 0);
        expect(&mut client, &["SELECT 0"], "OK");
        for line in ["SELECT 1", "SELECT 99", "SELECT -1"] {
            expect(&mut client, &[line], "-ERR SELECT is not allowed in cluster mode");
        }
        expect(&mut client, &["SELECT x"], "-ERR value is not an integer or out of range");
        expect(&mut client, &["SWAPDB 0 0"], "-ERR SWAPDB is not allowed in cluster mode");
        expect(&mut client, &[&format!("MOVE {tag} 1")], "-ERR MOVE is not allowed in cluster mode");
        let copy = format!("COPY {tag} {tag}2");
        expect(&mut client, &[&format!("SET {tag} v"), &format!("{copy} DB 0 REPLACE")], "1");
        expect(
            &mut client,
            &[&format!("{copy} DB 1")],
            "-ERR Copying to another database is not allowed in cluster mode",
        );
        expect(&mut client, &[&format!("{copy} DB 99")], "-ERR DB index is out of range");
        expect(&mut client, &[&format!("{copy} FOO DB 1")], "-ERR syntax error");
        let sort = format!("SORT {tag}l");
        expect(&mut client, &[&format!("RPUSH {tag}l 2 1"), &format!("{sort} BY nosort DESC")], "[1, 2]");
        expect(&mut client, &[&format!("{sort} BY w*")], "-ERR BY option of SORT denied in Cluster mode.");
        expect(&mut client, &[&format!("{sort} LIMIT 0 1 GET #")], "-ERR GET option of SORT denied in Cluster mode.");
        expect(&mut client, &["RESET", "SELECT 1"], "-ERR SELECT is not allowed in cluster mode");
        expect(&mut server.connect(), &["SELECT 1"], "OK");
    });
}

#[test]
fn commands_over_all_keys_tell_of_the_node_alone() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        for n in 0..3000 {
            main.send(&["SET", &format!("key:{n}"), "v"]);
        }
        for _ in 0..3000 {
            assert_eq!(main.reply().text(), "OK");
        }
        let (mut sum, mut walked, mut listed) = (0, Vec::new(), 0);
        for at in 0..shards {
            let mut client = node(server, at);
            let size: usize = shown(&mut client, "DBSIZE").parse().unwrap();
            sum += size;
            let mut cursor = "0".to_owned();
            loop {
                let reply = client.line(&format!("SCAN {cursor} COUNT 100"));
                let [next, keys] = reply.elements().unwrap() else { panic!("{reply}") };
                walked.extend(keys.elements().unwrap().iter().map(Value::text));
                cursor = next.text();
                if cursor == "0" {
                    break;
                }
            }
            listed += client.line("KEYS key:*").elements().unwrap().len();
            let random = shown(&mut client, "RANDOMKEY");
            assert_eq!(shown(&mut client, &format!("EXISTS {random}")), "1", "a key of another node was drawn");
            let info = client.line("INFO keyspace").text();
            assert!(info.contains(&format!("db0:keys={size},")), "{info}");
            let in_transaction = "MULTI/DBSIZE/EXEC".split('/').map(|line| shown(&mut client, line)).last().unwrap();
            assert_eq!(in_transaction, format!("[{size}]"));
        }
        assert_eq!((sum, walked.len(), listed), (3000, 3000, 3000));
        assert_eq!(walked.iter().collect::<BTreeSet<_>>().len(), 3000, "no key is seen twice");

        let mut last = node(server, shards - 1);
        let own: usize = shown(&mut last, "DBSIZE").parse().unwrap();
        expect(&mut last, &["FLUSHALL", "DBSIZE"], "0");
        expect(&mut last, &["RANDOMKEY"], "(nil)");
        assert_eq!(shown(&mut main, "DBSIZE"), (3000 - own).to_string(), "other nodes keep theirs");
        expect(&mut last, &["MULTI", "FLUSHDB", "DBSIZE", "EXEC"], "[OK, 0]");
        assert_eq!(shown(&mut main, "DBSIZE"), (3000 - own).to_string());
        expect(&mut main, &["FLUSHALL"], "OK");
        (0..shards).for_each(|at| expect(&mut node(server, at), &["DBSIZE"], "0"));
    });
}

#[test]
fn a_flush_of_one_node_tells_whoever_may_have_copies() {
    let server = start(2, &[]);
    let tags = keys(&mut server.connect(), 2);
    let mut tracked = server.connect_resp3();
    expect(&mut tracked, &["CLIENT TRACKING ON"], "OK");
    for tag in &tags {
        expect(&mut tracked, &[&format!("SET {tag} v"), &format!("GET {tag}")], "v");
    }
    expect(&mut node(&server, 1), &["FLUSHALL"], "OK");
    assert_eq!(show(&tracked.reply()), "[invalidate, (nil)]");
}

#[test]
fn the_keys_of_a_slot_are_counted_and_listed() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        let tag = keys(&mut main, shards).pop().unwrap();
        let (slot, keys) = (slot_of(&mut main, &tag), 9000);
        for n in 0..keys {
            main.send(&["SET", &format!("{tag}{n}"), "v"]);
            main.send(&["SET", &format!("other:{n}"), "v"]);
        }
        for _ in 0..2 * keys {
            assert_eq!(main.reply().text(), "OK");
        }
        for client in [&mut main, &mut node(server, shards - 1)] {
            let more: i64 = shown(client, &format!("CLUSTER COUNTKEYSINSLOT {slot}")).parse().unwrap();
            assert!((keys..keys + 9).contains(&more), "{more}");
            let listed = client.line(&format!("CLUSTER GETKEYSINSLOT {slot} 100000"));
            let listed: BTreeSet<String> = listed.elements().unwrap().iter().map(Value::text).collect();
            assert_eq!(listed.len() as i64, more);
            assert!((0..keys).all(|n| listed.contains(&format!("{tag}{n}"))));
            assert_eq!(client.line(&format!("CLUSTER GETKEYSINSLOT {slot} 7")).elements().unwrap().len(), 7);
            expect(client, &[&format!("CLUSTER GETKEYSINSLOT {slot} 0")], "[]");
            expect(client, &["MULTI", &format!("CLUSTER COUNTKEYSINSLOT {slot}"), "EXEC"], &format!("[{more}]"));
            expect(client, &["CLUSTER COUNTKEYSINSLOT 16384"], "-ERR Invalid slot");
            expect(client, &["CLUSTER COUNTKEYSINSLOT x"], "-ERR value is not an integer or out of range");
            expect(client, &["CLUSTER GETKEYSINSLOT 16384 1"], "-ERR Invalid slot or number of keys");
            expect(client, &[&format!("CLUSTER GETKEYSINSLOT {slot} -1")], "-ERR Invalid slot or number of keys");
        }
        if shards > 1 {
            let mut elsewhere = node(server, 0);
            expect(&mut elsewhere, &[&format!("CLUSTER COUNTKEYSINSLOT {slot}")], "0");
            expect(&mut elsewhere, &[&format!("CLUSTER GETKEYSINSLOT {slot} 9")], "[]");
        }
    });
}

/// The names of the nodes, by shard.
fn ids(server: &Server, shards: usize) -> Vec<String> {
    let ids: Vec<String> = (0..shards).map(|at| shown(&mut node(server, at), "CLUSTER MYID")).collect();
    assert!(ids.iter().all(|id| id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit())), "{ids:?}");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), shards);
    ids
}

#[test]
fn every_port_tells_of_the_same_nodes() {
    on_nodes(|server, shards| {
        let ids = ids(server, shards);
        let port = |at: usize| server.port() + 1 + at as u16;
        let slots: Vec<String> = (0..shards)
            .map(|at| {
                let (first, last) = range(at, shards);
                format!("[{first}, {last}, [127.0.0.1, {}, {}, []]]", port(at), ids[at])
            })
            .collect();
        let slots = format!("[{}]", slots.join(", "));
        // A map is a list of twice the length in RESP2.
        let groups = |open: &str, of: &str, close: &str| -> String {
            let group = |at: usize| {
                let ((first, last), id, port) = (range(at, shards), &ids[at], port(at));
                format!(
                    "{open}slots{of}[{first}, {last}], nodes{of}[{open}id{of}{id}, port{of}{port}, ip{of}127.0.0.1, \
                     endpoint{of}127.0.0.1, role{of}master, replication-offset{of}0, health{of}online{close}]{close}"
                )
            };
            format!("[{}]", (0..shards).map(group).collect::<Vec<_>>().join(", "))
        };
        for at in 0..=shards {
            // The last round is the main port.
            let mut client = if at < shards { node(server, at) } else { server.connect() };
            expect(&mut client, &["CLUSTER SLOTS"], &slots);
            expect(&mut client, &["CLUSTER SHARDS"], &groups("[", ", ", "]"));
            expect(&mut client, &["HELLO 3", "CLUSTER SHARDS"], &groups("{", ": ", "}"));
            expect(&mut client, &["CLUSTER SLOTS"], &slots.replace("[]", "{}"));
            expect(&mut client, &["CLUSTER LINKS"], "[]");
            expect(&mut client, &[&format!("CLUSTER REPLICAS {}", ids[0])], "[]");
            expect(&mut client, &[&format!("CLUSTER SLAVES {}", ids[0])], "[]");
            expect(&mut client, &[&format!("CLUSTER COUNT-FAILURE-REPORTS {}", ids[0])], "0");
            expect(&mut client, &["CLUSTER REPLICAS nobody"], "-ERR Unknown node nobody");
            expect(&mut client, &["CLUSTER COUNT-FAILURE-REPORTS nobody"], "-ERR Unknown node nobody");
            let info = client.line("CLUSTER INFO").text();
            for field in ["cluster_state:ok", "cluster_slots_assigned:16384", "cluster_slots_ok:16384"] {
                assert!(info.contains(field), "{info}");
            }
            assert!(info.contains(&format!("cluster_known_nodes:{shards}\r\ncluster_size:{shards}\r\n")), "{info}");
            let group = shown(&mut client, "CLUSTER MYSHARDID");
            assert!(group.len() == 40 && !ids.contains(&group), "{group}");
            let text = client.line("CLUSTER NODES").text().trim_start_matches("txt:").to_owned();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), shards, "{text}");
            let me = shown(&mut client, "CLUSTER MYID");
            for (shard, line) in lines.iter().enumerate() {
                let words: Vec<&str> = line.split(' ').collect();
                let (first, last) = range(shard, shards);
                let flags = if ids[shard] == me { "myself,master" } else { "master" };
                assert_eq!(
                    words[..5],
                    [&ids[shard], &format!("127.0.0.1:{}@0", port(shard)), flags, "-", "0"],
                    "{line}"
                );
                assert_eq!(
                    words[6..],
                    [(shard + 1).to_string(), "connected".into(), format!("{first}-{last}")],
                    "{line}"
                );
            }
            if at < shards {
                assert_eq!(me, ids[at]);
            }
            for line in ["READONLY", "READWRITE", "ASKING", "CLUSTER SAVECONFIG"] {
                expect(&mut client, &[line], "OK");
            }
            assert!(show(&client.line("CLUSTER HELP")).starts_with("[CLUSTER <subcommand>"));
        }
    });
}

#[test]
fn nodes_are_announced_as_the_settings_say() {
    let server = start(2, &[]);
    let ids = ids(&server, 2);
    let tag = &keys(&mut server.connect(), 2)[1];
    let mut client = node(&server, 0);
    let slot = slot_of(&mut client, tag);
    let get = format!("GET {tag}");
    let own = server.port() + 1;
    let set = |name: &str, value: &str| {
        assert_eq!(server.connect().command(&["CONFIG", "SET", name, value]).text(), "OK");
    };
    let first_node = |client: &mut Client| {
        let reply = client.line("CLUSTER SLOTS");
        show(&reply.elements().unwrap()[0].elements().unwrap()[2])
    };
    set("cluster-announce-ip", "10.0.0.7");
    set("cluster-announce-port", "7000");
    expect(&mut client, &[&get], &format!("-MOVED {slot} 10.0.0.7:7001"));
    assert_eq!(first_node(&mut client), format!("[10.0.0.7, 7000, {}, []]", ids[0]));
    set("cluster-announce-port", "0");
    set("cluster-announce-hostname", "cache.example");
    assert_eq!(first_node(&mut client), format!("[10.0.0.7, {own}, {}, [hostname, cache.example]]", ids[0]));
    set("cluster-preferred-endpoint-type", "hostname");
    expect(&mut client, &[&get], &format!("-MOVED {slot} cache.example:{}", own + 1));
    assert_eq!(first_node(&mut client), format!("[cache.example, {own}, {}, [ip, 10.0.0.7]]", ids[0]));
    let line = client.line("CLUSTER NODES").text();
    assert!(line.starts_with(&format!("{} 10.0.0.7:{own}@0,cache.example myself,master", ids[0])), "{line}");
    let groups = show(&client.line("CLUSTER SHARDS"));
    assert!(
        groups.contains("ip, 10.0.0.7, endpoint, cache.example, hostname, cache.example, role, master"),
        "{groups}"
    );
    set("cluster-preferred-endpoint-type", "unknown-endpoint");
    expect(&mut client, &[&get], &format!("-MOVED {slot} :{}", own + 1));
    assert_eq!(first_node(&mut client), format!("[(nil), {own}, {}, [ip, 10.0.0.7, hostname, cache.example]]", ids[0]));
    set("cluster-announce-hostname", "");
    set("cluster-preferred-endpoint-type", "hostname");
    expect(&mut client, &[&get], &format!("-MOVED {slot} ?:{}", own + 1));
}

#[test]
fn what_would_change_the_cluster_is_refused() {
    let server = start(2, &[]);
    for mut client in [node(&server, 1), server.connect()] {
        for line in [
            "CLUSTER MEET 127.0.0.1 7000",
            "CLUSTER ADDSLOTS 1",
            "CLUSTER ADDSLOTSRANGE 1 2",
            "CLUSTER DELSLOTS 1",
            "CLUSTER DELSLOTSRANGE 1 2",
            "CLUSTER FLUSHSLOTS",
            "CLUSTER SETSLOT 1 STABLE",
            "CLUSTER FORGET x",
            "CLUSTER FAILOVER",
            "CLUSTER REPLICATE x",
            "CLUSTER RESET HARD",
            "CLUSTER BUMPEPOCH",
            "CLUSTER SET-CONFIG-EPOCH 1",
        ] {
            let name = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
            let refusal =
                format!("-ERR {name} is not possible: the nodes are the shards of one server (cluster-shard-nodes)");
            expect(&mut client, &[line], &refusal);
        }
        expect(&mut client, &["CLUSTER MEET"], "-ERR wrong number of arguments for 'cluster|meet' command");
        expect(&mut client, &["CLUSTER FOO"], "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.");
    }
}

#[test]
fn a_node_says_that_it_is_one_and_the_main_port_stays_what_it_was() {
    on_nodes(|server, shards| {
        for at in 0..shards {
            let mut client = node(server, at);
            assert!(shown(&mut client, "HELLO").contains("mode, cluster,"));
            let server_info = client.line("INFO server").text();
            assert!(server_info.contains("redis_mode:cluster\r\n"), "{server_info}");
            assert!(server_info.contains(&format!("tcp_port:{}\r\n", server.port() + 1 + at as u16)), "{server_info}");
            assert!(server_info.contains(&format!("shards:{shards}\r\n")), "{server_info}");
            assert_eq!(client.line("INFO cluster").text(), "# Cluster\r\ncluster_enabled:1\r\n");
        }
        let mut main = server.connect();
        assert!(shown(&mut main, "HELLO").contains("mode, standalone,"));
        assert!(main.line("INFO server").text().contains("redis_mode:standalone\r\n"));
        assert_eq!(main.line("INFO cluster").text(), "# Cluster\r\ncluster_enabled:0\r\n");
        expect(&mut main, &["MSET a 1 b 2 c 3", "MGET a b c"], "[1, 2, 3]");
        expect(&mut main, &["MULTI", "INCR a", "INCR b", "EXEC"], "[2, 3]");
        expect(&mut main, &["SELECT 3"], "OK");
    });
}

#[test]
fn a_node_serves_its_keys_without_a_hop() {
    let server = start(3, &[]);
    let tags = keys(&mut server.connect(), 3);
    for (at, tag) in tags.iter().enumerate() {
        let mut client = node(&server, at);
        let hops = |client: &mut Client| {
            let info = client.line("INFO shards").text();
            let line = info.lines().find(|line| line.starts_with(&format!("shard{at}:"))).unwrap();
            let count = |name: &str| -> u64 {
                line.split(',').find_map(|field| field.strip_prefix(name)).unwrap().parse().unwrap()
            };
            count("hops_out=")
        };
        let before = hops(&mut client);
        for n in 0..1000 {
            client.send(&["SET", &format!("{tag}{n}"), "v"]);
            client.send(&["GET", &format!("{tag}{n}")]);
        }
        (0..2000).for_each(|_| assert!(["OK", "v"].contains(&client.reply().text().as_str())));
        // INFO asks every shard.
        assert!(hops(&mut client) - before < 10, "commands of node {at} went to other shards");
    }
}

#[test]
fn messages_reach_the_subscribers_of_all_ports_once() {
    on_nodes(|server, shards| {
        let mut listeners: Vec<Client> = (0..shards).map(|at| node(server, at)).collect();
        listeners.push(server.connect());
        listeners.iter_mut().for_each(|client| expect(client, &["SUBSCRIBE news"], "[subscribe, news, 1]"));
        for at in 0..shards {
            let mut client = node(server, at);
            expect(&mut client, &[&format!("PUBLISH news from-{at}")], &(shards + 1).to_string());
            expect(&mut client, &["PUBSUB NUMSUB news"], &format!("[news, {}]", in_listing(server, at)));
        }
        expect(&mut server.connect(), &["PUBLISH news last"], &(shards + 1).to_string());
        for client in &mut listeners {
            let mut heard: Vec<String> = (0..=shards).map(|_| show(&client.reply())).collect();
            assert_eq!(heard.pop().unwrap(), "[message, news, last]");
            heard.sort();
            let all: Vec<String> = (0..shards).map(|at| format!("[message, news, from-{at}]")).collect();
            assert_eq!(heard, all);
        }
    });
}

/// Clients of this shard that listen to a channel: that of its node's port, and perhaps the one of the main port.
fn in_listing(server: &Server, at: usize) -> usize {
    let info = node(server, at).line("INFO clients").text();
    info.lines().find_map(|line| line.strip_prefix("pubsub_clients:")).expect("a field").parse().expect("a number")
}

#[test]
fn shard_channels_belong_to_the_node_of_their_slot() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        for (at, tag) in keys(&mut main, shards).iter().enumerate() {
            let mut listener = node(server, at);
            expect(&mut listener, &[&format!("SSUBSCRIBE {tag} {tag}2")], &format!("[ssubscribe, {tag}, 1]"));
            assert_eq!(show(&listener.reply()), format!("[ssubscribe, {tag}2, 2]"));
            let mut of_main = server.connect();
            expect(&mut of_main, &[&format!("SSUBSCRIBE {tag}")], &format!("[ssubscribe, {tag}, 1]"));
            expect(&mut node(server, at), &[&format!("SPUBLISH {tag} hi")], "2");
            expect(&mut main, &[&format!("SPUBLISH {tag} ho")], "2");
            for client in [&mut listener, &mut of_main] {
                assert_eq!(show(&client.reply()), format!("[smessage, {tag}, hi]"));
                assert_eq!(show(&client.reply()), format!("[smessage, {tag}, ho]"));
            }
            if shards > 1 {
                let slot = slot_of(&mut main, tag);
                let moved = format!("-MOVED {slot} 127.0.0.1:{}", server.port() + 1 + at as u16);
                let mut elsewhere = node(server, (at + 1) % shards);
                for line in [format!("SSUBSCRIBE {tag}"), format!("SUNSUBSCRIBE {tag}"), format!("SPUBLISH {tag} x")] {
                    expect(&mut elsewhere, &[&line], &moved);
                }
            }
        }
    });
}

#[test]
fn a_node_tells_of_what_happens_to_its_own_keys() {
    let server = start(2, &["--notify-keyspace-events", "K$"]);
    let mut main = server.connect();
    let tags = keys(&mut main, 2);
    let mut listeners = [node(&server, 0), node(&server, 1), server.connect()];
    for client in &mut listeners {
        expect(client, &["PSUBSCRIBE __keyspace@0__:*"], "[psubscribe, __keyspace@0__:*, 1]");
    }
    for tag in &tags {
        expect(&mut main, &[&format!("SET {tag} v")], "OK");
    }
    expect(&mut main, &["PUBLISH __keyspace@0__:end x"], "3");
    let event = |tag: &str| format!("[pmessage, __keyspace@0__:*, __keyspace@0__:{tag}, set]");
    let end = "[pmessage, __keyspace@0__:*, __keyspace@0__:end, x]";
    for (client, tag) in listeners.iter_mut().zip(&tags) {
        assert_eq!([show(&client.reply()), show(&client.reply())], [event(tag), end.to_owned()]);
    }
    let mut heard: Vec<String> = (0..3).map(|_| show(&listeners[2].reply())).collect();
    heard.sort();
    let mut all = vec![event(&tags[0]), event(&tags[1]), end.to_owned()];
    all.sort();
    assert_eq!(heard, all);
}

#[test]
fn a_client_that_waits_at_a_node_is_served_by_a_push_from_anywhere() {
    on_nodes(|server, shards| {
        let mut main = server.connect();
        for (at, tag) in keys(&mut main, shards).iter().enumerate() {
            let mut waiter = node(server, at);
            for pusher in [&mut main, &mut node(server, at)] {
                waiter.send(&["BLPOP", &format!("{tag}1"), &format!("{tag}2"), "0"]);
                let until = Instant::now() + Duration::from_secs(10);
                while !pusher.line("INFO clients").text().contains("blocked_clients:1") {
                    assert!(Instant::now() < until, "it does not wait");
                }
                expect(pusher, &[&format!("RPUSH {tag}2 x")], "1");
                assert_eq!(show(&waiter.reply()), format!("[{tag}2, x]"));
            }
        }
    });
}

#[test]
fn a_killed_server_comes_back_with_its_data_and_the_names_of_its_nodes() {
    for shards in [1, 3] {
        let mut server = start(shards, &["--appendonly", "yes", "--appendfsync", "always"]);
        let names = ids(&server, shards);
        let tags = keys(&mut server.connect(), shards);
        for (at, tag) in tags.iter().enumerate() {
            let mut client = node(&server, at);
            expect(&mut client, &[&format!("SET {tag} v{at}"), "DBSIZE"], "1");
        }
        // One node's keys go, the others' stay.
        expect(&mut node(&server, 0), &["FLUSHALL"], "OK");
        server.kill();
        server.restart();
        assert_eq!(ids(&server, shards), names);
        for (at, tag) in tags.iter().enumerate() {
            let kept = if at == 0 { "(nil)".to_owned() } else { format!("v{at}") };
            expect(&mut node(&server, at), &[&format!("GET {tag}")], &kept);
        }
        // Keys go to other shards, and a shard that was there keeps its name.
        server.kill();
        server.restart_with(&["--shards", "4"]);
        assert_eq!(ids(&server, 4)[..shards], names);
        assert_eq!(shown(&mut server.connect(), "DBSIZE"), (shards - 1).to_string());
    }
}

#[test]
fn a_file_of_another_server_is_not_taken_for_ours() {
    let mut server = start(1, &[]);
    let path = server.dir().join("nodes.conf");
    server.kill();
    let foreign =
        "07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004 myself,master - 0 0 1 connected 0-16383\n";
    std::fs::write(&path, foreign).unwrap();
    assert_eq!(server.restart_refused().code(), Some(1));
    assert!(server.log().contains("was not written by this server"), "{}", server.log());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
}

#[test]
fn the_bus_of_a_cluster_is_absent_and_the_log_says_so() {
    let server = Server::annulus(1, &["--cluster-enabled", "yes"]);
    assert!(
        server.log().contains("'cluster-enabled' has no effect: the cluster bus is not there yet"),
        "{}",
        server.log()
    );
    let mut client = server.connect();
    expect(&mut client, &["CLUSTER INFO"], "-ERR This instance has cluster support disabled");
}

#[test]
fn a_node_replies_as_one_of_a_real_cluster() {
    let bus = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
    let Some((first, _)) = start_oracle(&bus) else { return };
    let Some((second, bus_port)) = start_oracle(&bus) else { return };
    let mut client = first.connect();
    expect(&mut client, &["CLUSTER ADDSLOTSRANGE 0 8191"], "OK");
    expect(&mut second.connect(), &["CLUSTER ADDSLOTSRANGE 8192 16383"], "OK");
    expect(&mut client, &[&format!("CLUSTER MEET 127.0.0.1 {} {bus_port}", second.port())], "OK");
    let until = Instant::now() + Duration::from_secs(20);
    let meets = |info: String| info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
    while !meets(client.line("CLUSTER INFO").text()) {
        assert!(Instant::now() < until, "the real nodes do not meet");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ours = start(2, &[]);
    let mut wrong = Vec::new();
    for script in SCRIPTS {
        let replies = |port: u16, next: u16| -> Vec<String> {
            let mut client = Client::connect(port);
            let there = format!("127.0.0.1:{next}");
            script.split('/').map(|line| shown(&mut client, line.trim()).replace(&there, "OTHER")).collect()
        };
        let (wanted, got) = (replies(first.port(), second.port()), replies(ours.port() + 1, ours.port() + 2));
        if wanted != got {
            wrong.push(format!("{script}\n  real {wanted:?}\n  ours {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The bus needs a port, 10,000 above, that exists and is free.
fn start_oracle(directives: &[&str]) -> Option<(Server, String)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let bus = listener.local_addr().expect("it is bound").port().to_string();
    drop(listener);
    let mut all = directives.to_vec();
    all.extend(["--cluster-port", &bus]);
    Server::redis(&all).map(|server| (server, bus.clone()))
}

/// Of `a`, `b` and `f`, the first is the other node's; `b` and `f` have different slots. A connection for each script.
const SCRIPTS: &[&str] = &[
    "FLUSHALL / SET b 1 / SET a 1 / GET b / MSET a 1 b 2 / MSET a 1 b / MGET {b}1 {b}2 / MGET {a}1 {a}2 / DEL b f / EXISTS a",
    "MULTI / SET b 1 / SET f 1 / EXEC / PING / EXEC",
    "MULTI / SET b 1 / SET a 1 / EXEC / EXEC",
    "MULTI / SET b 1 / SET f 1 / SET a 1 / EXEC / EXEC",
    "MULTI / MGET a b / EXEC",
    "MULTI / SPUBLISH b x / SET f 1 / EXEC",
    "MULTI / SELECT 0 / PING / EXEC / MULTI / EXEC",
    "MULTI / CLUSTER KEYSLOT b / DBSIZE / EXEC",
    "WATCH b / MULTI / SET f 1 / EXEC",
    "WATCH a / WATCH b f / WATCH b {b}2 / UNWATCH",
    "SSUBSCRIBE a / SSUBSCRIBE b f / SPUBLISH a x / SPUBLISH b x / SUNSUBSCRIBE a / SUNSUBSCRIBE b f / SUNSUBSCRIBE",
    "SUBSCRIBE a / GET a / GET b",
    "GET / ZUNIONSTORE a x b / ZUNIONSTORE b 9 b / ZUNIONSTORE b 1 a",
    "CLUSTER COUNTKEYSINSLOT 3300 / CLUSTER GETKEYSINSLOT 3300 10 / CLUSTER GETKEYSINSLOT 3300 -1 / CLUSTER GETKEYSINSLOT x 1",
    "CLUSTER GETKEYSINSLOT 1 y / CLUSTER COUNTKEYSINSLOT -1 / CLUSTER COUNTKEYSINSLOT x / CLUSTER SETSLOT 1 / CLUSTER FOO / CLUSTER",
    "CLUSTER KEYSLOT b / CLUSTER REPLICAS x / CLUSTER COUNT-FAILURE-REPORTS x / READONLY / READWRITE / ASKING",
    "SET b 1 / COPY b c FOO DB 1 / COPY b {b}c FOO DB 1 / COPY b {b}c DB 99 / COPY b {b}c DB 9 / COPY b {b}c DB 0 / MOVE b 0 / MOVE a 1",
    "SELECT 99 / SELECT -1 / SELECT x / SELECT 0 / SWAPDB 0 1 / SWAPDB x y",
    "SORT b BY x*y GET / SORT b BY x*y LIMIT 0 / SORT b LIMIT 0 / SORT b GET / SORT {b}l BY nosort / SORT_RO {b}l GET # / SORT b STORE a",
    "OBJECT ENCODING b / OBJECT FREQ a / XGROUP CREATE a g 0 / XINFO STREAM a / MEMORY USAGE a / GEORADIUS b 1 1 1 m STORE a",
    "XREADGROUP GROUP g c STREAMS a > / XREAD STREAMS a b 0 0 / PFCOUNT a b / RENAME a b / LMOVE b f LEFT LEFT / TOUCH a b",
    "BLPOP b f 0 / BLPOP a 0 / RPUSH {b}l 1 / BLPOP {b}l {b}m 0 / BLMOVE {b}l a LEFT LEFT 0 / LMPOP 2 a b LEFT / SMOVE b f 1",
    "PUBSUB SHARDNUMSUB a b / PUBSUB NUMSUB a / PUBSUB CHANNELS / INFO cluster / CLUSTER REPLICAS / ZADD a 1 1 / BITOP NOT a b",
    "FLUSHALL / DBSIZE / KEYS * / RANDOMKEY / SCAN 0 / SET b 1 / DBSIZE / KEYS * / RANDOMKEY / SCAN 0 / FLUSHDB / DBSIZE",
];
