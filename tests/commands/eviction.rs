//! `maxmemory` by what clients see: who is refused when memory is full, which keys go under each policy, and who is told of it.
//! Every case has servers of its own; what is refused in which words is compared with redis-server in `tests/differential`.

use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Client, Server, Value, until};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const MIB: u64 = 1 << 20;

/// Two tags, of the slots 15495 and 3300, which two shards divide between them.
const HERE: &str = "{a}";
const THERE: &str = "{b}";

fn on(counts: &[usize], directives: &[&str], case: impl Fn(&Server, usize)) {
    for &shards in counts {
        println!("{shards} shards");
        case(&Server::annulus(shards, directives), shards);
    }
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.line("INFO everything").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).parse().expect("it is a number")
}

fn number(value: Value) -> i64 {
    match value {
        Value::Int(number) => number,
        other => panic!("not a number: {other}"),
    }
}

fn ok(client: &mut Client, line: &str) {
    assert_eq!(client.line(line).text(), "OK", "{line}");
}

/// The limit is this far above what is used now.
fn limit_at(client: &mut Client, room: u64) {
    let used = info(client, "used_memory");
    ok(client, &format!("CONFIG SET maxmemory {}", used + room));
}

/// Sets keys in one pipeline; the replies that are not OK.
fn fill(client: &mut Client, prefix: &str, numbers: std::ops::Range<u64>, value: &str, tail: &str) -> Vec<String> {
    let mut errors = Vec::new();
    for chunk in numbers.collect::<Vec<_>>().chunks(500) {
        let lines: String = chunk.iter().map(|n| format!("SET {prefix}{n} {value}{tail}\r\n")).collect();
        client.send_raw(lines.as_bytes());
        errors.extend(chunk.iter().map(|_| client.reply().text()).filter(|reply| reply != "OK"));
    }
    errors
}

#[test]
fn a_full_server_refuses_what_wants_memory_and_goes_on_with_the_rest() {
    on(&[1, 4], &[], |server, _| {
        let mut client = server.connect();
        ok(&mut client, "MSET a 1 b 2 c 3 d 4");
        client.line("RPUSH list x y");
        ok(&mut client, "CONFIG SET maxmemory 1");
        // The keys lie on several shards, and so does what MSET, BLMOVE and SUNIONSTORE touch.
        for line in
            ["SET a 2", "MSET a 1 b 2 c 3 d 4", "LPUSH l x", "INCR a", "SUNIONSTORE a b c", "BLMOVE l m LEFT LEFT 0"]
        {
            assert_eq!(client.line(line).text(), OOM, "{line}");
        }
        for (line, reply) in
            [("GET a", "\"1\""), ("DEL d", "(integer) 1"), ("EXISTS a b c d", "(integer) 3"), ("LPOP list", "\"x\"")]
        {
            assert_eq!(client.line(line).to_string(), reply, "{line}");
        }
        assert_eq!(client.line("SET a").text(), "ERR wrong number of arguments for 'set' command");
        ok(&mut client, "CONFIG SET maxmemory 0");
        ok(&mut client, "SET a 2");
        assert_eq!((info(&mut client, "evicted_keys"), number(client.line("DBSIZE"))), (0, 4));
    });
}

#[test]
fn a_transaction_takes_memory_while_it_is_queued_and_when_it_runs() {
    on(&[1, 4], &[], |server, _| {
        let mut client = server.connect();
        ok(&mut client, "CONFIG SET maxmemory 1");
        for (line, reply) in [
            ("MULTI", "OK"),
            ("GET a", OOM),
            ("EXEC", "EXECABORT Transaction discarded because of previous errors."),
            ("MULTI", "OK"),
            ("DISCARD", "OK"),
        ] {
            assert_eq!(client.line(line).text(), reply, "{line}");
        }
        let mut other = server.connect();
        ok(&mut client, "CONFIG SET maxmemory 0");
        for line in ["MULTI", "SET a 1", "SET b 2"] {
            client.line(line);
        }
        ok(&mut other, "CONFIG SET maxmemory 1");
        assert_eq!(client.line("EXEC").text(), format!("EXECABORT Transaction discarded because of: {OOM}"));
        assert_eq!(number(client.line("EXISTS a b")), 0);
        ok(&mut other, "CONFIG SET maxmemory 0");
        for line in ["MULTI", "GET a"] {
            client.line(line);
        }
        ok(&mut other, "CONFIG SET maxmemory 1");
        assert_eq!(client.line("EXEC").to_string(), "[(nil)]", "what it does takes no memory");
    });
}

#[test]
fn a_client_that_waits_is_served_by_what_frees_memory_and_refused_nothing_while_it_waits() {
    on(&[1, 4], &[], |server, _| {
        let mut client = server.connect();
        let mut waiting = server.connect();
        client.line("RPUSH list x");
        waiting.send(&["BLPOP", "other", "0"]);
        until("it waits", || info(&mut client, "blocked_clients") == 1);
        ok(&mut client, "CONFIG SET maxmemory 1");
        assert_eq!(client.line("RPUSH other y").text(), OOM);
        assert_eq!(client.line("RENAME list other").text(), "OK");
        assert_eq!(waiting.reply().to_string(), "[\"other\", \"x\"]");
    });
}

#[test]
fn under_policies_over_all_keys_writes_go_on_and_memory_stays_at_the_limit() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        on(&[1, 2], &["--maxmemory-policy", policy], |server, shards| {
            let mut client = server.connect();
            limit_at(&mut client, 3 * MIB);
            let errors = fill(&mut client, "key:", 0..40_000, &"v".repeat(200), "");
            assert!(errors.is_empty(), "{policy}: {errors:?}");
            until("every key is there or was evicted", || {
                number(client.line("DBSIZE")) as u64 + info(&mut client, "evicted_keys") == 40_000
            });
            let keys = number(client.line("DBSIZE"));
            // A key with such a value takes 240 bytes and its place in the table.
            assert!((7_000..16_000).contains(&keys), "{policy}, {shards} shards: {keys} keys stay");
            let (used, limit) = (info(&mut client, "used_memory"), info(&mut client, "maxmemory"));
            assert!(used < limit + MIB, "{policy}: {used} of {limit}");
        });
    }
}

#[test]
fn under_volatile_policies_keys_without_expiry_stay_and_the_rest_is_refused() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        on(&[1, 2], &["--maxmemory-policy", policy], |server, _| {
            let mut client = server.connect();
            limit_at(&mut client, 3 * MIB);
            assert!(fill(&mut client, "stays:", 0..4_000, &"v".repeat(200), "").is_empty());
            assert!(fill(&mut client, "goes:", 0..12_000, &"v".repeat(200), " EX 1000").is_empty(), "{policy}");
            assert!(info(&mut client, "evicted_keys") > 1_000, "{policy}");
            let errors = fill(&mut client, "more:", 0..20_000, &"v".repeat(200), "");
            assert!(!errors.is_empty() && errors.iter().all(|error| error == OOM), "{policy}: {:?}", errors.first());
            let stays = (0..4_000).map(|n| format!("stays:{n}"));
            let line: Vec<String> = std::iter::once("EXISTS".to_owned()).chain(stays).collect();
            assert_eq!(number(client.command(&line)), 4_000, "{policy}");
            let goes = (0..12_000).map(|n| format!("goes:{n}"));
            let line: Vec<String> = std::iter::once("EXISTS".to_owned()).chain(goes).collect();
            assert_eq!(
                number(client.command(&line)),
                0,
                "{policy}: all that may go has gone before anybody is refused"
            );
        });
    }
}

#[test]
fn a_limit_that_is_lowered_takes_effect_at_once_and_without_a_command() {
    on(&[1, 2], &["--maxmemory-policy", "allkeys-lru"], |server, _| {
        let mut client = server.connect();
        assert!(fill(&mut client, "key:", 0..30_000, &"v".repeat(200), "").is_empty());
        let used = info(&mut client, "used_memory");
        ok(&mut client, &format!("CONFIG SET maxmemory {}", used - 4 * MIB));
        // A server that waited for commands that want memory would wait for ever.
        until("keys go without anybody writing", || number(client.line("DBSIZE")) < 20_000);
        until("every key is there or was evicted", || {
            number(client.line("DBSIZE")) as u64 + info(&mut client, "evicted_keys") == 30_000
        });
        assert!(number(client.line("DBSIZE")) > 2_000, "what fits stays");
        ok(&mut client, "CONFIG SET maxmemory-policy noeviction");
        ok(&mut client, "CONFIG SET maxmemory 1");
        assert_eq!(client.line("SET k v").text(), OOM);
        ok(&mut client, "CONFIG SET maxmemory-policy allkeys-random");
        until("all keys go under another policy", || number(client.line("DBSIZE")) == 0);
        assert_eq!(client.line("SET k v").text(), OOM, "there is nothing left to evict");
        assert!(info(&mut client, "current_eviction_exceeded_time") < 20_000);
        assert!(info(&mut client, "total_eviction_exceeded_time") > 0);
    });
}

#[test]
fn a_shard_that_is_written_to_has_another_evict_what_is_colder() {
    let server = Server::annulus(2, &["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.connect();
    assert!(fill(&mut client, &format!("{HERE}old:"), 0..10_000, &"v".repeat(200), "").is_empty());
    // A key's age is known in seconds.
    thread::sleep(Duration::from_millis(3_100));
    limit_at(&mut client, MIB / 2);
    assert!(fill(&mut client, &format!("{THERE}new:"), 0..10_000, &"v".repeat(200), "").is_empty());
    let mut count = |prefix: String| {
        let keys = (0..10_000).map(|n| format!("{prefix}{n}"));
        let line: Vec<String> = std::iter::once("EXISTS".to_owned()).chain(keys).collect();
        number(client.command(&line))
    };
    // Eviction goes on behind the writes. If its core does not get to run for a while, the other shard does not wait for it.
    until("the old keys make room", || count(format!("{HERE}old:")) < 4_000);
    let new = count(format!("{THERE}new:"));
    assert!(new > 6_000, "{new} of the new keys stay");
}

#[test]
fn what_is_used_stays_and_what_is_not_goes() {
    for (policy, pause_ms) in [("allkeys-lru", 2_100), ("allkeys-lfu", 0)] {
        on(&[1, 2], &["--maxmemory-policy", policy], |server, _| {
            let mut client = server.connect();
            assert!(fill(&mut client, "key:", 0..40_000, &"v".repeat(200), "").is_empty());
            thread::sleep(Duration::from_millis(pause_ms));
            let hot: Vec<String> = (0..1_000).map(|n| format!("key:{n}")).collect();
            for _ in 0..20 {
                let line: Vec<&str> = std::iter::once("MGET").chain(hot.iter().map(String::as_str)).collect();
                client.command(&line);
            }
            let used = info(&mut client, "used_memory");
            ok(&mut client, &format!("CONFIG SET maxmemory {}", used - 2 * MIB));
            until("keys go", || info(&mut client, "evicted_keys") > 3_000);
            let line: Vec<&str> = std::iter::once("EXISTS").chain(hot.iter().map(String::as_str)).collect();
            let stay = number(client.command(&line));
            let evicted = info(&mut client, "evicted_keys");
            assert!(stay > 950, "{policy}: {stay} of 1,000 that were used stay; {evicted} of 40,000 went");
        });
    }
}

#[test]
fn those_who_listen_watch_or_have_copies_are_told_of_an_eviction() {
    on(&[1, 4], &["--maxmemory-policy", "allkeys-lru", "--notify-keyspace-events", "KEe"], |server, _| {
        let mut client = server.connect();
        ok(&mut client, "SET k v");
        ok(&mut client, "SET watched v");
        let mut listener = server.connect();
        listener.line("SUBSCRIBE __keyevent@0__:evicted");
        let mut reader = server.connect_resp3();
        ok(&mut reader, "CLIENT TRACKING ON");
        assert_eq!(reader.line("GET k").text(), "v");
        let mut watcher = server.connect();
        ok(&mut watcher, "WATCH watched");
        ok(&mut client, "CONFIG SET maxmemory 1");
        until("all keys go", || number(client.line("DBSIZE")) == 0);
        ok(&mut client, "CONFIG SET maxmemory 0");
        let mut told: Vec<String> = (0..2).map(|_| listener.reply().to_string().replace('"', "")).collect();
        told.sort();
        assert_eq!(told, ["[message, __keyevent@0__:evicted, k]", "[message, __keyevent@0__:evicted, watched]"]);
        assert_eq!(reader.reply().to_string().replace('"', ""), "push[invalidate, [k]]");
        ok(&mut watcher, "MULTI");
        watcher.line("SET x 1");
        assert_eq!(watcher.line("EXEC").to_string(), "(nil array)");
        assert_eq!(info(&mut client, "evicted_keys"), 2);
        ok(&mut client, "CONFIG RESETSTAT");
        assert_eq!(info(&mut client, "evicted_keys"), 0);
    });
}

#[test]
fn a_client_hears_that_its_copy_is_gone_before_the_reply_to_its_own_command() {
    let server = Server::annulus(1, &["--maxmemory-policy", "volatile-ttl"]);
    let mut client = server.connect_resp3();
    ok(&mut client, "SET k v EX 1000");
    ok(&mut client, "CLIENT TRACKING ON");
    client.line("GET k");
    // Both come in one read, so the second is what finds the server over its limit.
    client.send_raw(b"CONFIG SET maxmemory 1\r\nGET k\r\n");
    let frames: Vec<String> = (0..3).map(|_| client.reply().to_string().replace('"', "")).collect();
    let (told, reply) =
        (frames.iter().position(|f| f == "push[invalidate, [k]]"), frames.iter().position(|f| f == "(nil)"));
    assert!(told.is_some() && told < reply, "{frames:?}");
}

#[test]
fn what_was_evicted_does_not_come_back_with_the_log() {
    for shards in [1, 2] {
        let mut server = Server::annulus(shards, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut client = server.connect();
        assert!(fill(&mut client, "key:", 0..200, "v", " EX 10000").is_empty());
        assert!(fill(&mut client, "stays:", 0..200, "v", "").is_empty());
        ok(&mut client, "CONFIG SET maxmemory-policy volatile-random");
        ok(&mut client, "CONFIG SET maxmemory 1");
        until("all keys that may go have gone", || number(client.line("DBSIZE")) == 200);
        drop(client);
        server.stop();
        server.restart();
        assert_eq!(number(server.connect().line("DBSIZE")), 200, "{shards} shards");
    }
}

#[test]
fn large_values_are_evicted_and_freed_in_slices() {
    on(&[1, 2], &["--maxmemory-policy", "allkeys-lru"], |server, _| {
        let mut client = server.connect();
        for list in 0..20 {
            let elements: Vec<String> = (0..20_000).map(|n| format!("element:{n}")).collect();
            let key = format!("set:{list}");
            let line: Vec<&str> = ["SADD", &key].into_iter().chain(elements.iter().map(String::as_str)).collect();
            assert_eq!(number(client.command(&line)), 20_000);
        }
        let used = info(&mut client, "used_memory");
        ok(&mut client, &format!("CONFIG SET maxmemory {}", used / 2));
        until("half of it is freed", || info(&mut client, "used_memory") < used / 2 + MIB);
        until("nothing waits", || info(&mut client, "lazyfree_pending_objects") == 0);
        let left = number(client.line("DBSIZE")) as u64;
        assert!((5..=15).contains(&left), "{left} of 20 sets stay");
        assert!(info(&mut client, "lazyfreed_objects") >= 20 - left);
    });
}

#[test]
fn a_snapshot_has_what_was_there_at_its_cut_whatever_is_evicted_meanwhile() {
    let mut server = Server::annulus(2, &["--save", ""]);
    let mut client = server.connect();
    assert!(fill(&mut client, "key:", 0..60_000, &"v".repeat(100), "").is_empty());
    ok(&mut client, "CONFIG SET maxmemory-policy allkeys-random");
    client.send_raw(b"BGSAVE\r\nCONFIG SET maxmemory 1\r\n");
    assert!(client.reply().text().starts_with("Background saving"));
    assert_eq!(client.reply().text(), "OK");
    until("all keys go", || number(client.line("DBSIZE")) == 0);
    until("the snapshot is there", || info(&mut client, "rdb_bgsave_in_progress") == 0);
    drop(client);
    server.kill();
    server.restart();
    assert_eq!(number(server.connect().line("DBSIZE")), 60_000);
}

#[test]
fn a_server_at_its_limit_holds_it_under_writes_from_everywhere() {
    const SECONDS: u64 = 8;
    let server = Server::annulus(2, &["--maxmemory", "24mb", "--maxmemory-policy", "allkeys-lfu"]);
    let port = server.port();
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            thread::spawn(move || {
                let mut client = Client::connect(port);
                let value = "v".repeat(400);
                let (mut from, mut errors) = (writer << 32, Vec::new());
                while Instant::now() < until {
                    errors.extend(fill(&mut client, "key:", from..from + 500, &value, ""));
                    from += 500;
                }
                (from - (writer << 32), errors)
            })
        })
        .collect();
    let mut client = server.connect();
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(info(&mut client, "used_memory_rss"));
        thread::sleep(Duration::from_millis(100));
    }
    let mut written = 0;
    for writer in writers {
        let (count, errors) = writer.join().expect("a writer does not panic");
        assert!(errors.is_empty(), "{:?}", errors.first());
        written += count;
    }
    let (used, evicted) = (info(&mut client, "used_memory"), info(&mut client, "evicted_keys"));
    println!("{written} written, {evicted} evicted, {used} used, {most} resident at most");
    assert!(evicted > 0, "{written} written, {evicted} evicted");
    assert!(used < 24 * MIB * 11 / 10, "{used} used");
    assert!(most < 24 * MIB * 13 / 10 + 32 * MIB, "{most} resident; the program itself and its rings are a part of it");
}
