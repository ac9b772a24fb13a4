//! Keyspace events by what a subscriber reads: which are published, where, and that nothing is while they are off. What each command
//! tells is compared with redis-server in tests/differential/events.rs; here are time, databases, waiting clients and later commands.

use super::harness::{Client, Server, Value};

fn at_both_counts(case: impl Fn(&Server)) {
    for shards in [1, 4] {
        println!("{shards} shards");
        case(&Server::annulus(shards, &["--enable-debug-command", "yes"]));
    }
}

/// A subscriber to all events of these classes.
fn listener(server: &Server, classes: &str) -> Client {
    let mut client = server.connect();
    assert_eq!(client.command(&["CONFIG", "SET", "notify-keyspace-events", classes]).text(), "OK");
    client.line("PSUBSCRIBE __key*__:*");
    client
}

/// The next event, as the end of its channel and its message.
fn event(listener: &mut Client) -> String {
    let message = listener.reply();
    let words = message.elements().unwrap_or_else(|| panic!("no message: {message}"));
    let channel = words[2].text();
    format!("{} {}", channel.trim_start_matches("__key"), words[3].text())
}

/// Reads so many events of one key, which come in their order.
fn events(listener: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| event(listener)).collect()
}

#[test]
fn both_channels_tell_of_the_same_event() {
    at_both_counts(|server| {
        let mut listener = listener(server, "KEA");
        let mut client = server.connect();
        client.line("SELECT 3");
        client.line("SET k v EX 100");
        let expected = ["space@3__:k set", "event@3__:set k", "space@3__:k expire", "event@3__:expire k"];
        assert_eq!(events(&mut listener, 4), expected);
    });
}

#[test]
fn only_the_classes_asked_for_are_published() {
    at_both_counts(|server| {
        let mut listener = listener(server, "El");
        let mut client = server.connect();
        client.line("SET k v");
        client.line("SADD s a");
        client.line("RPUSH l a");
        assert_eq!(event(&mut listener), "event@0__:rpush l");
        assert_eq!(client.command(&["CONFIG", "SET", "notify-keyspace-events", ""]).text(), "OK");
        client.line("RPUSH l b");
        assert_eq!(client.command(&["CONFIG", "SET", "notify-keyspace-events", "Kh"]).text(), "OK");
        client.line("HSET h f v");
        assert_eq!(event(&mut listener), "space@0__:h hset");
        // Classes without K or E are nowhere to be told.
        assert_eq!(client.command(&["CONFIG", "SET", "notify-keyspace-events", "A"]).text(), "OK");
        client.line("HSET h f w");
        assert_eq!(client.command(&["CONFIG", "SET", "notify-keyspace-events", "Eg"]).text(), "OK");
        client.line("DEL h");
        assert_eq!(event(&mut listener), "event@0__:del h");
    });
}

#[test]
fn a_key_whose_time_has_come_tells_so_once() {
    at_both_counts(|server| {
        let mut listener = listener(server, "Exn");
        let mut client = server.connect();
        // By the timer, with nobody looking.
        client.line("SET a v PX 20");
        assert_eq!(events(&mut listener, 2), ["event@0__:new a", "event@0__:expired a"]);
        // By whoever comes along.
        client.line("DEBUG SET-ACTIVE-EXPIRE 0");
        for (make, look) in [
            ("SET b v PX 20", "GET b"),
            ("SET b v PX 20", "SET b w"),
            ("SET b 1 PX 20", "INCR b"),
            ("SET b v PX 20", "RPUSH b x"),
            ("SET b v PX 20", "SETBIT b 7 1"),
            ("SET b v PX 20", "DEL b"),
        ] {
            client.line("DEL b");
            client.line(make);
            assert_eq!(event(&mut listener), "event@0__:new b", "{make}");
            std::thread::sleep(std::time::Duration::from_millis(30));
            client.line(look);
            assert_eq!(event(&mut listener), "event@0__:expired b", "{look}");
            if !look.starts_with("GET") && !look.starts_with("DEL") {
                assert_eq!(event(&mut listener), "event@0__:new b", "{look}");
            }
        }
    });
}

#[test]
fn fields_that_expire_tell_of_their_key() {
    at_both_counts(|server| {
        let mut listener = listener(server, "Egh");
        let mut client = server.connect();
        client.line("HSET h a 1 b 2");
        client.line("HEXPIRE h 100 FIELDS 1 a");
        client.line("HPERSIST h FIELDS 1 a");
        client.line("HEXPIRE h 0 FIELDS 1 a");
        client.line("HGETEX h EX 100 FIELDS 1 b");
        client.line("HSETEX h EX 100 FIELDS 1 c 3");
        client.line("HGETDEL h FIELDS 1 c");
        client.line("HPEXPIRE h 10 FIELDS 1 b");
        let names =
            ["hset", "hexpire", "hpersist", "hdel", "hexpire", "hset", "hexpire", "hdel", "hexpire", "hexpired"];
        let expected: Vec<String> = names.iter().map(|name| format!("event@0__:{name} h")).collect();
        assert_eq!(events(&mut listener, 10), expected);
        assert_eq!(event(&mut listener), "event@0__:del h");
    });
}

#[test]
fn a_client_that_waits_is_told_of_after_who_served_it() {
    at_both_counts(|server| {
        let mut listener = listener(server, "Elg");
        let mut waiting = server.connect();
        waiting.send(&["BLPOP", "l", "0"]);
        let mut client = server.connect();
        while !client.line("INFO clients").text().contains("blocked_clients:1\r\n") {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        client.line("RPUSH l x");
        assert_eq!(events(&mut listener, 3), ["event@0__:rpush l", "event@0__:lpop l", "event@0__:del l"]);
        assert_eq!(waiting.reply().elements().map(<[Value]>::len), Some(2));
    });
}

#[test]
fn moving_an_element_within_a_list_of_one_keeps_the_key() {
    at_both_counts(|server| {
        let mut client = server.connect();
        client.line("RPUSH l x");
        client.line("EXPIRE l 1000");
        let mut listener = listener(server, "EA");
        assert_eq!(client.line("LMOVE l l LEFT RIGHT").text(), "x");
        assert_eq!(events(&mut listener, 2), ["event@0__:rpush l", "event@0__:lpop l"]);
        assert!(matches!(client.line("TTL l"), Value::Int(ttl) if ttl > 900));
    });
}

#[test]
fn a_client_reads_events_of_its_own_commands_after_their_replies() {
    at_both_counts(|server| {
        let mut client = server.connect_resp3();
        client.command(&["CONFIG", "SET", "notify-keyspace-events", "E$"]);
        client.line("PSUBSCRIBE __key*__:*");
        for n in 0..8 {
            let key = format!("k{n}");
            client.send(&["SET", &key, "v"]);
            let mut read = [client.reply(), client.reply()];
            // An event from another shard may come first.
            read.sort_by_key(|value| matches!(value, Value::Push(_)));
            assert_eq!(read[0].text(), "OK");
            assert_eq!(read[1].elements().expect("a message")[3].text(), key);
        }
    });
}

#[test]
fn a_transaction_tells_of_each_of_its_commands() {
    at_both_counts(|server| {
        let mut listener = listener(server, "EA");
        let mut client = server.connect();
        for line in ["MULTI", "SET {k}a v", "RPUSH {k}l x", "SELECT 1", "SET {k}b v", "DEL {k}b", "EXEC"] {
            client.line(line);
        }
        let expected = ["@0__:set {k}a", "@0__:rpush {k}l", "@1__:set {k}b", "@1__:del {k}b"];
        assert_eq!(events(&mut listener, 4), expected.map(|text| format!("event{text}")));
    });
}
