//! Client-side caching: CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO, by the frames that clients read. Scripts are data, and run
//! on a redis-server 7.0 first, when there is one, then on ours with 1 and with 4 shards.
//!
//! Who acts is a letter, a large one in RESP3. A row is what a client sends and all frames that it is then sent, with ` | ` between
//! them; behind `any:` they may come in any order. `{…}` is not a command: `{next}` reads what has come by itself, `{nothing}` makes
//! sure that nothing has, `{close}` closes the connection, `{sleep N}` waits milliseconds, `{info}` reads four fields of INFO. `#b`
//! stands for the number of client b.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Client, Server};

/// Who, what, and the frames.
type Row = (&'static str, &'static str, &'static str);

fn connect(server: &Server, name: &str) -> Client {
    if name.starts_with(char::is_uppercase) { server.connect_resp3() } else { server.connect() }
}

fn next(client: &mut Client) -> String {
    client.reply().to_string().replace('"', "").replace("(integer) ", "")
}

fn info(client: &mut Client) -> String {
    client.send(&["INFO", "everything"]);
    let text = client.reply().to_string();
    let fields = ["tracking_clients:", "tracking_total_keys:", "tracking_total_items:", "tracking_total_prefixes:"];
    let value = |field: &&str| {
        let from = text.find(*field).expect("INFO has the field") + field.len();
        text[from..].chars().take_while(char::is_ascii_digit).collect::<String>()
    };
    fields.iter().map(value).collect::<Vec<_>>().join(" ")
}

fn play_on(server: &Server, rows: &[Row]) -> Result<(), String> {
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    // The numbers of those who have left, too.
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    let mut admin = server.connect();
    for line in ["FLUSHALL", "CONFIG SET tracking-table-max-keys 1000000"] {
        admin.line(line);
    }
    for (at, (who, what, expected)) in rows.iter().enumerate() {
        if !clients.contains_key(who) {
            let mut client = connect(server, who);
            client.send(&["CLIENT", "ID"]);
            let id = next(&mut client);
            ids.insert(who, id);
            clients.insert(who, client);
        }
        let mut line = what.to_string();
        for (name, id) in &ids {
            line = line.replace(&format!("#{name}"), id);
        }
        let client = clients.get_mut(who).expect("it was just connected");
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("{close}", _) => {
                clients.remove(who);
                // Until the server has noticed.
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            ("{sleep", ms) => {
                thread::sleep(Duration::from_millis(ms.trim_end_matches('}').parse().expect("milliseconds")));
                continue;
            }
            ("{next}", _) => {}
            ("{nothing}", _) => {
                client.send_raw(b"ECHO nothing\r\n");
                let got = next(client);
                if got != "nothing" {
                    return Err(format!("row {at}, {who}: expected nothing, got {got}"));
                }
                continue;
            }
            ("{info}", _) => {
                let got = info(client);
                if got != *expected {
                    return Err(format!("row {at}, {who} {what}: expected {expected}, got {got}"));
                }
                continue;
            }
            _ => client.send_raw(format!("{line}\r\n").as_bytes()),
        }
        let mut wanted = expected.to_string();
        for (name, id) in &ids {
            wanted = wanted.replace(&format!("#{name}"), id);
        }
        let client = clients.get_mut(who).expect("it was just there");
        let (any, wanted) = wanted.strip_prefix("any:").map_or((false, &wanted[..]), |rest| (true, rest));
        let mut wanted: Vec<&str> = wanted.split(" | ").map(str::trim).collect();
        let mut got: Vec<String> = wanted.iter().map(|_| next(client)).collect();
        if any {
            wanted.sort_unstable();
            got.sort_unstable();
        }
        if got != wanted {
            return Err(format!("row {at}, {who} {what}: expected {wanted:?}, got {got:?}"));
        }
    }
    Ok(())
}

#[track_caller]
fn play(rows: &[Row]) {
    let oracle = Server::redis(&[]).map(|server| ("redis-server", server));
    let ours = [("1 shard", Server::annulus(1, &[])), ("4 shards", Server::annulus(4, &[]))];
    let faults: Vec<String> = oracle
        .into_iter()
        .chain(ours)
        .filter_map(|(name, server)| play_on(&server, rows).err().map(|wrong| format!("{name}: {wrong}")))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn client_tracking_tells_a_reader_once_of_each_change() {
    play(&[
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("A", "GET k", "(nil)"),
        ("B", "SET k 1", "+OK"),
        ("A", "{next}", "push[invalidate, [k]]"),
        ("B", "SET k 2", "+OK"),
        ("A", "{nothing}", ""),
        ("A", "MGET a b c d", "[(nil), (nil), (nil), (nil)]"),
        ("A", "{info}", "1 4 4 0"),
        ("B", "MSET a 1 b 2 e 3", "+OK"),
        ("A", "{next}", "any:push[invalidate, [a]] | push[invalidate, [b]]"),
        ("B", "DEL a c", "1"),
        ("B", "SET c x", "+OK"),
        ("A", "{next}", "push[invalidate, [c]]"),
        ("A", "EXISTS k", "1"),
        ("A", "TTL k", "-1"),
        ("B", "EXPIRE k 100", "1"),
        ("A", "{next}", "push[invalidate, [k]]"),
        ("A", "SELECT 1", "+OK"),
        ("A", "GET k", "(nil)"),
        ("B", "APPEND k 3", "2"),
        ("A", "{next}", "push[invalidate, [k]]"),
        ("A", "{info}", "1 1 1 0"),
    ]);
}

#[test]
fn what_a_client_changes_itself_is_told_behind_the_reply() {
    play(&[
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("A", "GET k", "(nil)"),
        ("A", "SET k 1", "+OK | push[invalidate, [k]]"),
        ("A", "GET k", "1"),
        ("A", "GET l", "(nil)"),
        ("A", "MULTI", "+OK"),
        ("A", "SET k 2", "+QUEUED"),
        ("A", "GET k", "+QUEUED"),
        ("A", "EXEC", "[+OK, 2] | push[invalidate, [k]]"),
        ("A", "MSET k 3 l 4", "any:+OK | push[invalidate, [k]] | push[invalidate, [l]]"),
        ("A", "GET k", "3"),
        ("A", "FLUSHALL", "+OK | push[invalidate, (nil)]"),
        ("A", "CLIENT TRACKING ON NOLOOP", "+OK"),
        ("A", "GET k", "(nil)"),
        ("A", "SET k 5", "+OK"),
        ("A", "{nothing}", ""),
        ("B", "SET k 6", "+OK"),
        ("A", "{nothing}", ""),
        ("A", "GET k", "6"),
        ("B", "SET k 7", "+OK"),
        ("A", "{next}", "push[invalidate, [k]]"),
        ("A", "FLUSHDB", "+OK | push[invalidate, (nil)]"),
    ]);
}

#[test]
fn flushing_a_database_is_told_without_names() {
    play(&[
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("B", "CLIENT TRACKING ON BCAST PREFIX zz", "+OK"),
        ("C", "CLIENT TRACKING ON", "+OK"),
        ("C", "CLIENT TRACKING OFF", "+OK"),
        ("A", "GET k", "(nil)"),
        ("A", "SWAPDB 0 1", "+OK"),
        ("D", "SELECT 5", "+OK"),
        ("D", "FLUSHDB", "+OK"),
        ("A", "{next}", "push[invalidate, (nil)]"),
        ("B", "{next}", "push[invalidate, (nil)]"),
        ("C", "{nothing}", ""),
        ("D", "SET k 1", "+OK"),
        ("A", "{nothing}", ""),
        ("D", "MULTI", "+OK"),
        ("D", "FLUSHALL", "+QUEUED"),
        ("D", "EXEC", "[+OK]"),
        ("A", "{next}", "push[invalidate, (nil)]"),
        ("B", "{next}", "push[invalidate, (nil)]"),
    ]);
}

#[test]
fn a_key_that_expires_is_told_when_it_goes() {
    play(&[
        ("B", "SET k 1 PX 60", "+OK"),
        ("B", "SET l 1 PX 60", "+OK"),
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("A", "MGET k l", "[1, 1]"),
        ("A", "{next}", "any:push[invalidate, [k]] | push[invalidate, [l]]"),
        ("A", "GET k", "(nil)"),
        ("B", "SET k 1 PX 1", "+OK"),
        ("A", "{next}", "push[invalidate, [k]]"),
    ]);
}

#[test]
fn broadcasts_name_all_keys_of_a_prefix() {
    play(&[
        ("A", "CLIENT TRACKING ON BCAST PREFIX ab PREFIX c", "+OK"),
        ("B", "CLIENT TRACKING ON BCAST", "+OK"),
        ("C", "CLIENT TRACKING ON BCAST NOLOOP PREFIX ab", "+OK"),
        ("A", "{info}", "3 0 0 3"),
        ("D", "SET abc 1", "+OK"),
        ("A", "{next}", "push[invalidate, [abc]]"),
        ("B", "{next}", "push[invalidate, [abc]]"),
        ("C", "{next}", "push[invalidate, [abc]]"),
        ("D", "SET x 1", "+OK"),
        ("B", "{next}", "push[invalidate, [x]]"),
        ("A", "{nothing}", ""),
        // One shard, by its tag: one frame.
        ("D", "MSET ab{q}2 1 ab{q}1 2 ab{q}3 3 {q} 4", "+OK"),
        ("A", "{next}", "push[invalidate, [ab{q}1, ab{q}2, ab{q}3]]"),
        ("B", "{next}", "push[invalidate, [ab{q}1, ab{q}2, ab{q}3, {q}]]"),
        ("C", "{next}", "push[invalidate, [ab{q}1, ab{q}2, ab{q}3]]"),
        ("C", "SET abd 1", "+OK"),
        ("C", "{nothing}", ""),
        ("A", "{next}", "push[invalidate, [abd]]"),
        ("A", "SET ca 1", "+OK | push[invalidate, [ca]]"),
        ("A", "GET ca", "1"),
        ("A", "{info}", "3 0 0 3"),
        ("A", "CLIENT TRACKING OFF", "+OK"),
        ("D", "SET ca 1", "+OK"),
        ("A", "{nothing}", ""),
        ("A", "{info}", "2 0 0 2"),
        ("C", "RESET", "+RESET"),
        ("A", "{info}", "1 0 0 1"),
        ("B", "{close}", ""),
        ("A", "{info}", "0 0 0 0"),
    ]);
}

#[test]
fn client_caching_chooses_what_is_remembered() {
    play(&[
        ("A", "CLIENT TRACKING ON OPTIN", "+OK"),
        ("A", "GET a", "(nil)"),
        ("A", "CLIENT CACHING YES", "+OK"),
        ("A", "CLIENT TRACKINGINFO", "{flags: set{on, optin, caching-yes}, redirect: 0, prefixes: []}"),
        ("A", "GET b", "(nil)"),
        ("A", "GET c", "(nil)"),
        ("A", "CLIENT CACHING YES", "+OK"),
        ("A", "MULTI", "+OK"),
        ("A", "GET d", "+QUEUED"),
        ("A", "GET e", "+QUEUED"),
        ("A", "EXEC", "[(nil), (nil)]"),
        ("A", "GET f", "(nil)"),
        ("A", "MULTI", "+OK"),
        ("A", "GET g", "+QUEUED"),
        ("A", "CLIENT CACHING YES", "+QUEUED"),
        ("A", "GET h", "+QUEUED"),
        ("A", "EXEC", "[(nil), +OK, (nil)]"),
        ("A", "GET i", "(nil)"),
        ("A", "CLIENT CACHING YES", "+OK"),
        ("A", "GET", "-ERR wrong number of arguments for 'get' command"),
        ("A", "GET j", "(nil)"),
        ("B", "MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1 h 1 i 1 j 1", "+OK"),
        (
            "A",
            "{next}",
            "any:push[invalidate, [b]] | push[invalidate, [d]] | push[invalidate, [e]] | push[invalidate, [h]]",
        ),
        ("A", "{nothing}", ""),
        ("A", "CLIENT TRACKING OFF", "+OK"),
        ("A", "CLIENT TRACKING ON OPTOUT", "+OK"),
        ("A", "CLIENT CACHING NO", "+OK"),
        ("A", "CLIENT TRACKINGINFO", "{flags: set{on, optout, caching-no}, redirect: 0, prefixes: []}"),
        ("A", "GET a", "1"),
        ("A", "GET b", "1"),
        ("B", "MSET a 2 b 2", "+OK"),
        ("A", "{next}", "push[invalidate, [b]]"),
        ("A", "{nothing}", ""),
    ]);
}

#[test]
fn invalidations_go_to_another_connection() {
    play(&[
        ("b", "SUBSCRIBE __redis__:invalidate", "[subscribe, __redis__:invalidate, 1]"),
        ("a", "CLIENT TRACKING ON REDIRECT #b", "+OK"),
        ("a", "CLIENT GETREDIR", "#b"),
        ("a", "CLIENT TRACKINGINFO", "[flags, [on], redirect, #b, prefixes, []]"),
        ("a", "GET k", "(nil)"),
        ("c", "SET k 1", "+OK"),
        ("b", "{next}", "[message, __redis__:invalidate, [k]]"),
        ("a", "GET k", "1"),
        ("a", "SET k 2", "+OK"),
        ("b", "{next}", "[message, __redis__:invalidate, [k]]"),
        ("c", "FLUSHALL", "+OK"),
        ("b", "{next}", "[message, __redis__:invalidate, (nil)]"),
        ("D", "CLIENT TRACKING ON BCAST REDIRECT #b", "+OK"),
        ("c", "SET l 2", "+OK"),
        ("b", "{next}", "[message, __redis__:invalidate, [l]]"),
    ]);
}

#[test]
fn a_redirection_that_broke_is_told() {
    play(&[
        ("B", "GET x", "(nil)"),
        ("A", "CLIENT TRACKING ON REDIRECT #B", "+OK"),
        ("A", "GET k", "(nil)"),
        ("C", "SET k 1", "+OK"),
        ("B", "{next}", "push[invalidate, [k]]"),
        ("A", "GET k", "1"),
        ("B", "{close}", ""),
        ("C", "SET k 1", "+OK"),
        ("A", "{next}", "push[tracking-redir-broken, #B]"),
        ("A", "CLIENT TRACKINGINFO", "{flags: set{on, broken_redirect}, redirect: #B, prefixes: []}"),
        ("A", "GET k", "1"),
        ("A", "SET k 2", "+OK | push[tracking-redir-broken, #B]"),
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("A", "CLIENT TRACKINGINFO", "{flags: set{on}, redirect: 0, prefixes: []}"),
    ]);
}

#[test]
fn client_tracking_refuses_what_does_not_go_together() {
    play(&[
        ("A", "CLIENT TRACKING", "-ERR wrong number of arguments for 'client|tracking' command"),
        ("A", "CLIENT TRACKING MAYBE", "-ERR syntax error"),
        ("A", "CLIENT TRACKING ON WHAT", "-ERR syntax error"),
        ("A", "CLIENT TRACKING OFF WHAT", "-ERR syntax error"),
        ("A", "CLIENT TRACKING ON REDIRECT", "-ERR syntax error"),
        ("A", "CLIENT TRACKING ON REDIRECT x", "-ERR value is not an integer or out of range"),
        ("A", "CLIENT TRACKING ON REDIRECT 123456 WHAT", "-ERR The client ID you want redirect to does not exist"),
        ("A", "CLIENT TRACKING ON REDIRECT #A REDIRECT #A", "-ERR A client can only redirect to a single other client"),
        ("A", "CLIENT TRACKING ON PREFIX a", "-ERR PREFIX option requires BCAST mode to be enabled"),
        ("A", "CLIENT TRACKING ON OPTIN OPTOUT", "-ERR You can't specify both OPTIN mode and OPTOUT mode"),
        ("A", "CLIENT TRACKING ON BCAST OPTIN", "-ERR OPTIN and OPTOUT are not compatible with BCAST"),
        (
            "A",
            "CLIENT CACHING YES",
            "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ),
        ("A", "CLIENT GETREDIR", "-1"),
        ("A", "CLIENT TRACKINGINFO", "{flags: set{off}, redirect: -1, prefixes: []}"),
        ("A", "CLIENT TRACKING ON OPTIN", "+OK"),
        ("A", "CLIENT CACHING NO", "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."),
        ("A", "CLIENT CACHING MAYBE", "-ERR syntax error"),
        (
            "A",
            "CLIENT TRACKING ON OPTOUT",
            "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
             different mode.",
        ),
        (
            "A",
            "CLIENT TRACKING ON BCAST",
            "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
             different mode.",
        ),
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("A", "CLIENT TRACKING OFF", "+OK"),
        (
            "A",
            "CLIENT TRACKING ON BCAST PREFIX ab PREFIX abc",
            "-ERR Prefix 'ab' overlaps with another provided prefix 'abc'. Prefixes for a single client must not overlap.",
        ),
        ("A", "CLIENT TRACKING ON BCAST PREFIX ab PREFIX c", "+OK"),
        (
            "A",
            "CLIENT TRACKING ON BCAST PREFIX a",
            "-ERR Prefix 'a' overlaps with an existing prefix 'ab'. Prefixes for a single client must not overlap.",
        ),
        ("A", "CLIENT TRACKING ON BCAST NOLOOP", "+OK"),
        ("A", "CLIENT TRACKINGINFO", "{flags: set{on, bcast, noloop}, redirect: 0, prefixes: [, ab, c]}"),
        ("A", "RESET", "+RESET"),
        ("A", "CLIENT TRACKINGINFO", "[flags, [off], redirect, -1, prefixes, []]"),
    ]);
}

#[test]
fn a_client_in_resp2_that_is_not_redirected_is_told_nothing() {
    play(&[
        ("a", "CLIENT TRACKING ON", "+OK"),
        ("a", "GET k", "(nil)"),
        ("b", "SET k 1", "+OK"),
        ("a", "{nothing}", ""),
    ]);
}

#[test]
fn commands_over_several_keys_and_shards_are_remembered() {
    play(&[
        ("B", "RPUSH a 1 2", "2"),
        ("B", "SADD b x", "1"),
        ("B", "SADD c x", "1"),
        ("A", "CLIENT TRACKING ON", "+OK"),
        ("A", "SINTER b c d", "set{}"),
        ("A", "LCS e f", ""),
        ("A", "SORT_RO a", "[1, 2]"),
        ("A", "SMISMEMBER b x", "[1]"),
        ("A", "{info}", "1 6 6 0"),
        ("B", "SADD d x", "1"),
        ("A", "{next}", "push[invalidate, [d]]"),
        ("B", "SMOVE b c x", "1"),
        ("A", "{next}", "push[invalidate, [b]]"),
        ("B", "RENAME a f", "+OK"),
        ("A", "{next}", "any:push[invalidate, [a]] | push[invalidate, [f]]"),
        ("A", "{info}", "1 2 2 0"),
    ]);
}

#[test]
fn a_table_that_is_full_forgets_keys_and_says_so() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let mut reader = server.connect_resp3();
        for line in ["CONFIG SET tracking-table-max-keys 40", "CLIENT TRACKING ON"] {
            reader.line(line);
        }
        let mut cached = std::collections::BTreeSet::new();
        for n in 0..400 {
            reader.send_raw(format!("GET k{n}\r\n").as_bytes());
            loop {
                let frame = next(&mut reader);
                match frame.strip_prefix("push[invalidate, [") {
                    Some(key) => cached.remove(key.trim_end_matches("]]")),
                    None => break,
                };
            }
            cached.insert(format!("k{n}"));
        }
        reader.send_raw(b"ECHO end\r\n");
        loop {
            let frame = next(&mut reader);
            if frame == "end" {
                break;
            }
            let key = frame.strip_prefix("push[invalidate, [").expect("an invalidation").trim_end_matches("]]");
            cached.remove(key);
        }
        assert!((1..=40).contains(&cached.len()), "{shards} shards: {} keys are cached", cached.len());
        let known: usize =
            info(&mut server.connect()).split(' ').nth(1).expect("four fields").parse().expect("a number");
        assert!(known <= 40 && known >= cached.len(), "{known} keys are known, {} cached", cached.len());
    }
}

/// A client with a cache, as libraries have it: replies and invalidations in the order in which they come.
struct Caching {
    client: Client,
    cache: BTreeMap<String, u64>,
    /// Keys of reads on their way, in order.
    asked: Vec<String>,
}

impl Caching {
    fn take(&mut self) -> bool {
        let frame = next(&mut self.client);
        if let Some(rest) = frame.strip_prefix("push[invalidate, [") {
            for key in rest.trim_end_matches("]]").split(", ") {
                self.cache.remove(key);
            }
            return false;
        }
        let key = self.asked.remove(0);
        match frame.parse() {
            Ok(value) => {
                self.cache.insert(key, value);
            }
            Err(_) => assert!(["now", "(nil)"].contains(&&frame[..]), "{frame}"),
        }
        true
    }
}

/// Writers count keys up on all shards; readers fill caches in pipelines. A writer publishes what it has had confirmed; a reader looks
/// at that, then reads what the server has sent it until then, and no cached value may be older.
#[test]
fn no_stale_value_is_cached_once_the_write_was_answered() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    for options in ["", " BCAST", " BCAST PREFIX k"] {
        let server = Server::annulus(4, &[]);
        const KEYS: usize = 12;
        let confirmed: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (mut client, confirmed, stop) = (server.connect(), confirmed.clone(), stop.clone());
                thread::spawn(move || {
                    let mut value = 0;
                    while !stop.load(Ordering::Relaxed) {
                        value += 1;
                        for key in (writer..KEYS).step_by(4) {
                            let line = match value % 3 {
                                0 => format!("SET k{key} {value}\r\n"),
                                1 => format!("MSET k{key} {value} other{key} 1\r\n"),
                                _ => format!("SETEX k{key} 100 {value}\r\n"),
                            };
                            client.send_raw(line.as_bytes());
                            assert_eq!(next(&mut client), "+OK");
                            confirmed[key].store(value, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let mut client = server.connect_resp3();
                assert_eq!(client.line(&format!("CLIENT TRACKING ON{options}")).to_string(), "+OK");
                let confirmed = confirmed.clone();
                thread::spawn(move || {
                    let mut me = Caching { client, cache: BTreeMap::new(), asked: Vec::new() };
                    let end = Instant::now() + Duration::from_millis(1500);
                    let (mut round, mut held) = (reader, 0);
                    while Instant::now() < end {
                        round += 1;
                        let mut line = String::new();
                        for at in 0..5 {
                            let key = format!("k{}", (round * 7 + at * 5) % KEYS);
                            line.push_str(&format!("GET {key}\r\n"));
                            me.asked.push(key);
                        }
                        me.client.send_raw(line.as_bytes());
                        while !me.asked.is_empty() {
                            me.take();
                        }
                        // What is confirmed now has been told by the server before it answers this.
                        let floor: Vec<u64> = confirmed.iter().map(|value| value.load(Ordering::SeqCst)).collect();
                        me.asked.push(String::new());
                        me.client.send_raw(b"ECHO now\r\n");
                        while !me.take() {}
                        for (key, value) in &me.cache {
                            let at: usize = key[1..].parse().expect("a number");
                            assert!(*value >= floor[at], "{key} is cached as {value}, and {} was confirmed", floor[at]);
                            held += 1;
                        }
                    }
                    held
                })
            })
            .collect();
        let held: u64 = readers.into_iter().map(|reader| reader.join().expect("no reader has a stale value")).sum();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().expect("all writes are answered"));
        println!("tracking{options}: {held} cached values were looked at");
        assert!(held > 0);
    }
}
