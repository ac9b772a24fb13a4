//! MULTI, EXEC, DISCARD, WATCH and UNWATCH, by what clients see. Scripts are data: who sends what, and the reply. Each runs on a
//! redis-server 7.0 first, when there is one, so that nothing is expected here that Redis does not do; then on ours with 1 and with
//! 4 shards; each in both protocols.
//!
//! Keys `a` to `f` lie on all four shards. Who acts is a letter; a connection opens when it is first named. `{…}` is not a command:
//! `{close}` closes the connection, `{closed}` expects that the server did, `{sleep N}` waits milliseconds, `{send X}` sends without
//! reading the reply, `{reply}` reads one that is due.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Client, Server, Value};
use super::{show, words};

/// Who, what, and the reply; `*` is any.
type Row = (&'static str, &'static str, &'static str);

struct Stage {
    servers: Vec<(&'static str, Server)>,
}

impl Stage {
    fn new() -> Stage {
        let debug = ["--enable-debug-command", "yes"];
        let oracle = Server::redis(&debug).map(|server| ("redis-server", server));
        let ours = [("1 shard", Server::annulus(1, &debug)), ("4 shards", Server::annulus(4, &debug))];
        Stage { servers: oracle.into_iter().chain(ours).collect() }
    }

    /// Plays the script on empty servers.
    #[track_caller]
    fn play(&self, rows: &[Row]) {
        let faults = self.faults(rows);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// What went otherwise than the script says, by server.
    fn faults(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, server) in &self.servers {
            for protocol in [2, 3] {
                faults.extend(
                    play_on(server, protocol, rows).err().map(|wrong| format!("{name}, RESP{protocol}: {wrong}")),
                );
            }
        }
        faults
    }
}

#[track_caller]
fn play(rows: &[Row]) {
    Stage::new().play(rows);
}

fn connect(server: &Server, protocol: u8) -> Client {
    if protocol == 3 { server.connect_resp3() } else { server.connect() }
}

fn play_on(server: &Server, protocol: u8, rows: &[Row]) -> Result<(), String> {
    let mut control = server.connect();
    assert_eq!(control.line("FLUSHALL").text(), "OK");
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    let mut said = Vec::new();
    for (who, what, expected) in rows {
        let client = clients.entry(who).or_insert_with(|| connect(server, protocol));
        let shown = match what.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("close") => {
                clients.remove(who);
                until_closed(&mut control, clients.len() + 1);
                continue;
            }
            Some("closed") => client.is_closed().to_string(),
            Some("reply") => show(&client.reply()),
            Some(other) => {
                if let Some(millis) = other.strip_prefix("sleep ") {
                    thread::sleep(Duration::from_millis(millis.parse().expect("a number")));
                } else if let Some(command) = other.strip_prefix("send ") {
                    client.send(&words(command));
                } else {
                    panic!("{other} means nothing");
                }
                continue;
            }
            None => show(&client.command(&words(what))),
        };
        // Scores have a type of their own in RESP3.
        let shown = shown.replace("(double) ", "");
        said.push(format!("{who}: {what} -> {shown}"));
        if *expected != "*" && shown != *expected {
            return Err(format!("should be {expected}:\n{}", said.join("\n")));
        }
    }
    Ok(())
}

/// A server notices that a client is gone when it next looks.
fn until_closed(control: &mut Client, left: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while control.line("CLIENT LIST").text().lines().filter(|line| !line.is_empty()).count() > left {
        assert!(Instant::now() < deadline, "the server should notice that a client is gone");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn commands_are_queued_and_run_together() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "SET a 1", "QUEUED"),
        ("x", "INCR a", "QUEUED"),
        ("x", "RPUSH b x y", "QUEUED"),
        ("x", "MGET a c", "QUEUED"),
        ("y", "EXISTS a b", "0"),
        ("x", "EXEC", "[OK, 2, 2, [2, (nil)]]"),
        ("y", "GET a", "2"),
        ("x", "GET a", "2"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "[]"),
    ]);
}

#[test]
fn an_error_at_queue_time_refuses_the_whole() {
    let stage = Stage::new();
    for (command, error) in [
        ("NOSUCH a", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' "),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("SET a", "-ERR wrong number of arguments for 'set' command"),
        ("CLIENT NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
        ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command"),
    ] {
        stage.play(&[
            ("x", "MULTI", "OK"),
            ("x", "SET a 1", "QUEUED"),
            ("x", command, error),
            ("x", "SET b 1", "QUEUED"),
            ("x", "EXEC", "-EXECABORT Transaction discarded because of previous errors."),
            ("x", "EXISTS a b", "0"),
            ("x", "EXEC", "-ERR EXEC without MULTI"),
            ("x", "MULTI", "OK"),
            ("x", "SET a 2", "QUEUED"),
            ("x", "EXEC", "[OK]"),
        ]);
    }
}

#[test]
fn an_error_at_run_time_is_one_of_the_replies() {
    play(&[
        ("x", "SET a text", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "INCR a", "QUEUED"),
        ("x", "LPUSH a x", "QUEUED"),
        ("x", "SET b 1", "QUEUED"),
        ("x", "SET c 1 EX notanumber", "QUEUED"),
        ("x", "RENAME none d", "QUEUED"),
        ("x", "GET b", "QUEUED"),
        (
            "x",
            "EXEC",
            "[-ERR value is not an integer or out of range, -WRONGTYPE Operation against a key holding the wrong kind of value, \
             OK, -ERR value is not an integer or out of range, -ERR no such key, 1]",
        ),
        ("y", "MGET a b c", "[text, 1, (nil)]"),
    ]);
}

#[test]
fn discard_forgets_what_was_queued() {
    play(&[
        ("x", "DISCARD", "-ERR DISCARD without MULTI"),
        ("x", "EXEC", "-ERR EXEC without MULTI"),
        ("x", "MULTI", "OK"),
        ("x", "SET a 1", "QUEUED"),
        ("x", "DISCARD", "OK"),
        ("x", "DISCARD", "-ERR DISCARD without MULTI"),
        ("x", "EXEC", "-ERR EXEC without MULTI"),
        ("x", "EXISTS a", "0"),
        // After an error as well.
        ("x", "MULTI", "OK"),
        ("x", "GET", "*"),
        ("x", "DISCARD", "OK"),
        ("x", "SET a 1", "OK"),
    ]);
}

#[test]
fn multi_and_watch_within_multi_are_refused_and_change_nothing() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "MULTI", "-ERR MULTI calls can not be nested"),
        ("x", "SET a 1", "QUEUED"),
        ("x", "WATCH a", "-ERR WATCH inside MULTI is not allowed"),
        ("y", "SET a 2", "OK"),
        ("x", "EXEC", "[OK]"),
        ("x", "GET a", "1"),
    ]);
}

#[test]
fn wrong_numbers_of_arguments_are_errors_like_others() {
    play(&[
        ("x", "MULTI now", "-ERR wrong number of arguments for 'multi' command"),
        ("x", "EXEC now", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"),
        ("x", "DISCARD now", "-ERR wrong number of arguments for 'discard' command"),
        ("x", "UNWATCH a", "-ERR wrong number of arguments for 'unwatch' command"),
        ("x", "WATCH", "-ERR wrong number of arguments for 'watch' command"),
        ("x", "MULTI", "OK"),
        ("x", "MULTI now", "-ERR wrong number of arguments for 'multi' command"),
        ("x", "EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("x", "MULTI", "OK"),
        ("x", "SET a 1", "QUEUED"),
        ("x", "EXEC now", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"),
        ("x", "EXEC", "-ERR EXEC without MULTI"),
        ("x", "EXISTS a", "0"),
    ]);
}

/// What another client does between WATCH and EXEC, and whether EXEC is refused. All of it to key `a`, with other keys on other
/// shards; database 1 holds `b` and `c`.
const TOUCHES: &[(&[&str], &str, bool)] = &[
    (&["SET a 1"], "GET a", false),
    (&["SET a 1"], "SET a 1", true),
    (&["SET a 1"], "SET b 1", false),
    (&[], "SET a 1", true),
    (&[], "GET a", false),
    (&["SET a 1"], "SETNX a 2", false),
    (&["SET a 1"], "SET a 2 NX", false),
    (&["SET a 1"], "GETSET a 1", true),
    (&["SET a 1"], "GETEX a", false),
    (&["SET a 1"], "GETEX a PERSIST", false),
    (&["SET a 1"], "GETEX a EX 100", true),
    (&["SET a 1"], "GETDEL a", true),
    (&[], "GETDEL a", false),
    (&["SET a 1"], "APPEND a 2", true),
    (&["SET a 1"], "SETRANGE a 0 \"\"", false),
    (&["SET a 1"], "SETRANGE a 0 1", true),
    (&["SET a 1"], "INCR a", true),
    (&["SET a x"], "INCR a", false),
    (&["SET a 1"], "MSET b 1 a 1", true),
    (&["SET a 1"], "MSETNX b 1 a 1", false),
    (&[], "MSETNX b 1 a 1", true),
    (&["SET a 1"], "SETBIT a 1 1", true),
    (&["SET a 1"], "BITFIELD a GET u8 0", false),
    (&["SET a 1"], "BITFIELD a SET u8 0 1", true),
    (&["SET a 1"], "EXPIRE a 100", true),
    (&["SET a 1"], "EXPIRE a -1", true),
    (&["SET a 1"], "PERSIST a", false),
    (&["SET a 1 EX 100"], "PERSIST a", true),
    (&[], "EXPIRE a 100", false),
    (&["SET a 1"], "TOUCH a", false),
    (&["SET a 1"], "DEL a", true),
    (&["SET a 1"], "UNLINK b a", true),
    (&[], "DEL a", false),
    (&["SET a 1", "SET b 1"], "RENAME b a", true),
    (&["SET a 1"], "RENAME a b", true),
    (&["SET a 1", "SET b 1"], "RENAMENX a b", false),
    (&["SET b 1"], "RENAME b a", true),
    (&["SET b 1"], "COPY b a", true),
    (&["SET a 1"], "COPY a b", false),
    (&["SET a 1", "SET b 1"], "COPY b a", false),
    (&["SET a 1"], "MOVE a 1", true),
    (&["SET a 1"], "MOVE a 0", false),
    (&["SET a 1"], "FLUSHDB", true),
    (&["SET a 1"], "FLUSHALL", true),
    (&["SET a 1"], "FLUSHALL ASYNC", true),
    (&["SET b 1"], "FLUSHDB", false),
    (&["SET b 1"], "FLUSHALL", false),
    (&[], "FLUSHALL", false),
    (&["SET a 1"], "SWAPDB 0 1", true),
    (&["SET a 1", "SELECT 1", "SET a 1", "SELECT 0"], "SWAPDB 0 1", true),
    (&["SELECT 1", "SET a 1", "SELECT 0"], "SWAPDB 1 0", true),
    (&["SET b 1"], "SWAPDB 0 1", false),
    (&["SET a 1"], "SWAPDB 1 2", false),
    (&["RPUSH a x"], "LPUSH a y", true),
    (&[], "LPUSHX a y", false),
    (&["RPUSH a x"], "LPOP a", true),
    (&[], "LPOP a", false),
    (&["RPUSH a x"], "LSET a 0 x", true),
    (&["RPUSH a x"], "LREM a 0 y", false),
    (&["RPUSH a x"], "LRANGE a 0 -1", false),
    (&["RPUSH a x", "RPUSH b y"], "LMOVE b a LEFT LEFT", true),
    (&["RPUSH a x", "RPUSH b y"], "LMOVE a b LEFT LEFT", true),
    (&["RPUSH a x"], "LMOVE b a LEFT LEFT", false),
    (&["RPUSH a x"], "BLMOVE a b LEFT LEFT 0", true),
    (&["RPUSH a x"], "BLPOP b a 0", true),
    (&["RPUSH a x"], "BLPOP b c 0.001", false),
    (&["SADD a x"], "SADD a x", false),
    (&["SADD a x"], "SADD a y", true),
    (&["SADD a x"], "SREM a y", false),
    (&["SADD a x"], "SMOVE a b x", true),
    (&["SADD b x", "SADD a y"], "SMOVE b a x", true),
    (&["SADD a x"], "SMOVE a b y", false),
    (&["SADD b x"], "SUNIONSTORE a b c", true),
    (&["SADD a x"], "SUNIONSTORE b a c", false),
    (&["SADD a x"], "SINTERSTORE a b c", true),
    (&[], "SINTERSTORE a b c", false),
    (&["HSET a f v"], "HSET a f v", true),
    (&["HSET a f v"], "HSETNX a f w", false),
    (&["HSET a f v"], "HDEL a g", false),
    (&["HSET a f v"], "HDEL a f", true),
    (&["ZADD a 1 x"], "ZADD a 1 x", false),
    (&["ZADD a 1 x"], "ZADD a 2 x", true),
    (&["ZADD a 1 x"], "ZREM a y", false),
    (&["ZADD a 1 x"], "ZPOPMIN a", true),
    (&["ZADD b 1 x"], "ZUNIONSTORE a 2 b c", true),
    (&["ZADD b 1 x"], "ZRANGESTORE a b 0 -1", true),
    (&["ZADD a 1 x"], "BZPOPMIN b a 0", true),
    (&["SET b x"], "BITOP NOT a b", true),
    (&["PFADD a x"], "PFADD a x", false),
    (&["PFADD a x"], "PFADD a y", true),
    (&["PFADD b y"], "PFMERGE a b", true),
    (&["RPUSH a x"], "LINSERT a BEFORE none y", false),
    (&["RPUSH a x"], "LINSERT a BEFORE x y", true),
    (&["RPUSH a x"], "LTRIM a 0 -1", true),
    (&["RPUSH a x"], "LTRIM a 5 6", true),
    (&["RPUSH a x"], "LSET a 5 y", false),
    (&["RPUSH a x"], "LPOP a 0", false),
    (&["RPUSH a x"], "LMOVE a a LEFT RIGHT", true),
    (&["RPUSH a x"], "LMPOP 2 b a LEFT", true),
    (&["SADD a x"], "SPOP a 0", false),
    (&["SADD a x"], "SPOP a", true),
    (&["SADD a x"], "SMOVE a a x", false),
    (&["SADD a x", "SADD b x"], "SMOVE b a x", false),
    (&["SADD a x"], "SDIFFSTORE a b c", true),
    (&["HSET a f 1"], "HINCRBY a f 0", true),
    (&["HSET a f x"], "HINCRBY a f 1", false),
    (&["ZADD a 1 x"], "ZADD a NX 2 x", false),
    (&[], "ZADD a XX 2 x", false),
    (&["ZADD a 1 x"], "ZADD a GT 1 x", false),
    (&["ZADD a 1 x"], "ZINCRBY a 0 x", false),
    (&["ZADD a 1 x"], "ZPOPMIN a 0", false),
    (&["ZADD a 1 x"], "ZREMRANGEBYSCORE a 5 6", false),
    (&["ZADD a 1 x"], "ZREMRANGEBYRANK a 0 0", true),
    (&["ZADD a 1 x"], "ZRANGESTORE a b 0 -1", true),
    (&[], "ZRANGESTORE a b 0 -1", false),
    (&["GEOADD a 13 38 p"], "GEOADD a 13 38 p", false),
    (&["GEOADD b 13 38 p"], "GEOSEARCHSTORE a b FROMMEMBER p BYRADIUS 1 km", true),
    (&["SET a 1"], "SET a 2 XX", true),
    (&[], "SET a 2 XX", false),
    (&["SET a 1"], "SET a 2 GET", true),
    (&["SET a 1"], "GETEX a EXAT 1", true),
    (&["SET a 1 EX 100"], "EXPIRE a 200 NX", false),
    (&["SET a 1 EX 100"], "EXPIRE a 50 GT", false),
    (&["SET a 1"], "RENAME a a", false),
    (&["SET a 1"], "INCRBY a 0", true),
    (&["SET a 1"], "APPEND a \"\"", true),
    (&["SET a 1"], "LPUSH a x", false),
];

#[test]
fn exec_is_refused_when_what_was_watched_was_touched() {
    let stage = Stage::new();
    let mut wrong = Vec::new();
    for (prepare, touch, refused) in TOUCHES {
        let mut rows: Vec<Row> = prepare.iter().map(|command| ("x", *command, "*")).collect();
        rows.extend([
            ("x", "WATCH d a e", "OK"),
            ("y", touch, "*"),
            ("x", "MULTI", "OK"),
            ("x", "SET f done", "QUEUED"),
            ("x", "EXEC", if *refused { "(nil)" } else { "[OK]" }),
            ("x", "GET f", if *refused { "(nil)" } else { "done" }),
            // Nothing is watched any more.
            ("y", "DEL a", "*"),
            ("x", "MULTI", "OK"),
            ("x", "EXEC", "[]"),
        ]);
        let faults = stage.faults(&rows);
        if !faults.is_empty() {
            let places: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
            let should = if *refused { "touches" } else { "does not touch" };
            wrong.push(format!("{touch} after {prepare:?} {should} a: otherwise with {}", places.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ones_own_touch_counts_before_multi_and_not_within() {
    play(&[
        ("x", "WATCH a", "OK"),
        ("x", "SET a 1", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "SET b 1", "QUEUED"),
        ("x", "EXEC", "(nil)"),
        ("x", "WATCH a b", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "SET a 2", "QUEUED"),
        ("x", "SET b 2", "QUEUED"),
        ("x", "EXEC", "[OK, OK]"),
    ]);
}

#[test]
fn a_touch_after_multi_counts_too() {
    play(&[
        ("x", "WATCH a b c d", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "SET e 1", "QUEUED"),
        ("y", "SET d 1", "OK"),
        ("x", "EXEC", "(nil)"),
        ("x", "EXISTS e", "0"),
    ]);
}

#[test]
fn a_transaction_touches_what_it_writes_for_others() {
    play(&[
        ("x", "WATCH c", "OK"),
        ("z", "WATCH d", "OK"),
        ("y", "MULTI", "OK"),
        ("y", "SET a 1", "QUEUED"),
        ("y", "SET c 1", "QUEUED"),
        ("y", "GET d", "QUEUED"),
        ("y", "EXEC", "[OK, OK, (nil)]"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "(nil)"),
        ("z", "MULTI", "OK"),
        ("z", "EXEC", "[]"),
    ]);
}

#[test]
fn watching_ends_with_unwatch_discard_exec_and_reset() {
    let stage = Stage::new();
    let ends: [&[Row]; 5] = [
        &[("x", "UNWATCH", "OK")],
        &[("x", "MULTI", "OK"), ("x", "DISCARD", "OK")],
        &[("x", "MULTI", "OK"), ("x", "EXEC", "[]")],
        &[("x", "MULTI", "OK"), ("x", "GET", "*"), ("x", "EXEC", "*")],
        &[("x", "RESET", "RESET")],
    ];
    for end in ends {
        let mut rows: Vec<Row> = vec![("x", "WATCH a b", "OK"), ("x", "WATCH c", "OK")];
        rows.extend(end);
        rows.extend([
            ("y", "MSET a 1 b 1 c 1", "OK"),
            ("x", "MULTI", "OK"),
            ("x", "GET c", "QUEUED"),
            ("x", "EXEC", "[1]"),
        ]);
        stage.play(&rows);
    }
}

#[test]
fn unwatch_within_multi_is_queued() {
    play(&[
        ("x", "WATCH a", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "UNWATCH", "QUEUED"),
        ("y", "SET a 1", "OK"),
        ("x", "EXEC", "(nil)"),
        ("x", "MULTI", "OK"),
        ("x", "UNWATCH", "QUEUED"),
        ("x", "EXEC", "[OK]"),
    ]);
}

#[test]
fn a_watched_key_that_expires_is_touched() {
    let stage = Stage::new();
    for activity in ["DEBUG SET-ACTIVE-EXPIRE 0", "DEBUG SET-ACTIVE-EXPIRE 1"] {
        stage.play(&[
            ("y", activity, "OK"),
            ("x", "SET a 1 PX 500", "OK"),
            ("x", "WATCH a", "OK"),
            ("y", "{sleep 600}", ""),
            ("x", "MULTI", "OK"),
            ("x", "SET b 1", "QUEUED"),
            ("x", "EXEC", "(nil)"),
            ("x", "EXISTS b", "0"),
            ("y", "DEBUG SET-ACTIVE-EXPIRE 1", "OK"),
        ]);
    }
}

#[test]
fn a_key_that_had_expired_before_it_was_watched_is_not_there() {
    play(&[
        ("y", "DEBUG SET-ACTIVE-EXPIRE 0", "OK"),
        ("x", "SET a 1 PX 10", "OK"),
        ("y", "{sleep 40}", ""),
        ("x", "WATCH a", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "EXISTS a", "QUEUED"),
        ("x", "EXEC", "[0]"),
        ("x", "SET a 1 PX 10", "OK"),
        ("y", "{sleep 40}", ""),
        ("x", "WATCH a", "OK"),
        ("y", "DEL a", "0"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "[]"),
        ("x", "SET a 1 PX 10", "OK"),
        ("y", "{sleep 40}", ""),
        ("x", "WATCH a", "OK"),
        ("y", "SET a 2", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "(nil)"),
        ("y", "DEBUG SET-ACTIVE-EXPIRE 1", "OK"),
    ]);
}

#[test]
fn a_key_is_watched_in_the_database_of_then() {
    play(&[
        ("x", "WATCH a", "OK"),
        ("x", "SELECT 1", "OK"),
        ("y", "SET a 1", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "(nil)"),
        ("x", "WATCH a", "OK"),
        ("y", "SET a 2", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "[]"),
        ("x", "SELECT 0", "OK"),
    ]);
}

#[test]
fn select_within_multi_holds_for_what_follows_and_afterwards() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "SET a zero", "QUEUED"),
        ("x", "SELECT 1", "QUEUED"),
        ("x", "SET a one", "QUEUED"),
        ("x", "SELECT 99", "QUEUED"),
        ("x", "SET b one", "QUEUED"),
        ("x", "EXEC", "[OK, OK, OK, -ERR DB index is out of range, OK]"),
        ("x", "MGET a b", "[one, one]"),
        ("y", "MGET a b", "[zero, (nil)]"),
        // What is discarded selects nothing.
        ("x", "MULTI", "OK"),
        ("x", "SELECT 2", "QUEUED"),
        ("x", "DISCARD", "OK"),
        ("x", "GET a", "one"),
        ("x", "SELECT 0", "OK"),
    ]);
}

#[test]
fn commands_of_the_connection_run_within_exec() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "CLIENT SETNAME worker", "QUEUED"),
        ("x", "CLIENT GETNAME", "QUEUED"),
        ("x", "PING hello", "QUEUED"),
        ("x", "ECHO word", "QUEUED"),
        ("x", "CLIENT NO-EVICT off", "QUEUED"),
        ("x", "CLIENT REPLY ON", "QUEUED"),
        ("x", "CLIENT SETNAME \"a b\"", "QUEUED"),
        ("x", "CLIENT UNBLOCK 999999", "QUEUED"),
        (
            "x",
            "EXEC",
            "[OK, worker, hello, word, OK, OK, -ERR Client names cannot contain spaces, newlines or special characters., 0]",
        ),
        ("x", "CLIENT GETNAME", "worker"),
        ("x", "MULTI", "OK"),
        ("x", "CLIENT ID", "QUEUED"),
        ("x", "CLIENT INFO", "QUEUED"),
        ("x", "EXEC", "*"),
    ]);
}

#[test]
fn reset_within_multi_ends_it_at_once() {
    play(&[
        ("x", "WATCH a", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "SET b 1", "QUEUED"),
        ("x", "RESET", "RESET"),
        ("x", "EXEC", "-ERR EXEC without MULTI"),
        ("x", "EXISTS b", "0"),
        ("y", "SET a 1", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "EXEC", "[]"),
    ]);
}

#[test]
fn quit_within_multi_runs_nothing() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "SET a 1", "QUEUED"),
        ("x", "QUIT", "OK"),
        ("x", "{closed}", "true"),
        ("y", "EXISTS a", "0"),
    ]);
}

#[test]
fn a_client_that_goes_away_leaves_nothing_done_and_nobody_waiting() {
    let stage = Stage::new();
    let steps = ["WATCH a b c d", "MULTI", "SET a 1", "SET b 1", "SET c 1", "BLPOP d 0"];
    for count in 1..=steps.len() {
        let mut rows: Vec<Row> = steps[..count].iter().map(|step| ("x", *step, "*")).collect();
        rows.extend([
            ("x", "{close}", ""),
            ("y", "MGET a b c d", "[(nil), (nil), (nil), (nil)]"),
            ("y", "MSET a 1 b 2 c 3 d 4", "OK"),
            ("z", "MULTI", "OK"),
            ("z", "MGET a b c d", "QUEUED"),
            ("z", "EXEC", "[[1, 2, 3, 4]]"),
        ]);
        stage.play(&rows);
    }
}

/// All or nothing, and nobody is held up afterwards.
#[test]
fn a_client_that_goes_away_without_reading_the_replies_did_all_or_nothing() {
    let stage = Stage::new();
    for (name, server) in &stage.servers {
        for _ in 0..20 {
            let mut control = server.connect();
            control.line("FLUSHALL");
            let mut client = server.connect();
            client.send_raw(b"MULTI\r\nSET a 1\r\nSET b 1\r\nSET c 1\r\nSET d 1\r\nEXEC\r\n");
            drop(client);
            until_closed(&mut control, 1);
            let mut seen = control.line("MGET a b c d").to_string();
            seen.retain(|c| c == '1');
            assert!(seen.is_empty() || seen == "1111", "{name}: half of a transaction");
            assert_eq!(control.line("MSET a 2 b 2 c 2 d 2").text(), "OK", "{name}");
        }
    }
}

#[test]
fn half_a_transaction_of_a_silent_client_holds_nobody_up() {
    play(&[
        ("x", "WATCH a b c d e f", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "MSET a 1 b 1 c 1", "QUEUED"),
        ("y", "MSET a 2 b 2 c 2 d 2", "OK"),
        ("y", "RENAME a f", "OK"),
        ("y", "MULTI", "OK"),
        ("y", "MGET a b f", "QUEUED"),
        ("y", "EXEC", "[[(nil), 2, 2]]"),
        ("y", "FLUSHALL", "OK"),
        ("x", "EXEC", "(nil)"),
    ]);
}

#[test]
fn what_would_wait_does_not_within_exec() {
    play(&[
        ("x", "RPUSH b x y", "2"),
        ("x", "ZADD e 1 m 2 n", "2"),
        ("x", "MULTI", "OK"),
        ("x", "BLPOP a c 0", "QUEUED"),
        ("x", "BLPOP a b 0", "QUEUED"),
        ("x", "BRPOP a 0", "QUEUED"),
        ("x", "BLMOVE a b LEFT RIGHT 0", "QUEUED"),
        ("x", "BLMOVE b c LEFT RIGHT 0", "QUEUED"),
        ("x", "BRPOPLPUSH a b 0", "QUEUED"),
        ("x", "BLMPOP 0 2 a b LEFT", "QUEUED"),
        ("x", "BLMPOP 0 2 a c LEFT", "QUEUED"),
        ("x", "BZPOPMIN d 0", "QUEUED"),
        ("x", "BZPOPMAX d e 0", "QUEUED"),
        ("x", "BZMPOP 0 2 d e MIN", "QUEUED"),
        ("x", "BZMPOP 0 1 d MIN", "QUEUED"),
        ("x", "WAIT 0 0", "QUEUED"),
        ("x", "BLPOP a -1", "QUEUED"),
        (
            "x",
            "EXEC",
            "[(nil), [b, x], (nil), (nil), y, (nil), (nil), [c, [y]], (nil), [e, n, 2], [e, [[m, 1]]], (nil), 0, -ERR timeout is \
             negative]",
        ),
        ("x", "DBSIZE", "0"),
    ]);
}

#[test]
fn those_who_wait_are_served_after_the_transaction() {
    play(&[
        ("x", "{send BLPOP a b 0}", ""),
        ("y", "{sleep 50}", ""),
        ("y", "MULTI", "OK"),
        ("y", "RPUSH b 1", "QUEUED"),
        ("y", "RPUSH b 2", "QUEUED"),
        ("y", "LRANGE b 0 -1", "QUEUED"),
        ("y", "EXEC", "[1, 2, [1, 2]]"),
        ("x", "{reply}", "[b, 1]"),
        ("y", "LPOP b", "2"),
        ("x", "{send BLPOP a b c 0}", ""),
        ("y", "{sleep 50}", ""),
        // What comes and goes within a transaction was never there.
        ("y", "MULTI", "OK"),
        ("y", "RPUSH c 1", "QUEUED"),
        ("y", "DEL c", "QUEUED"),
        ("y", "EXEC", "[1, 1]"),
        ("y", "EXISTS c", "0"),
        ("y", "RPUSH c 3", "1"),
        ("x", "{reply}", "[c, 3]"),
        ("x", "{send BLMOVE a f LEFT RIGHT 0}", ""),
        ("z", "{send BLPOP f 0}", ""),
        ("y", "{sleep 50}", ""),
        ("y", "MULTI", "OK"),
        ("y", "RPUSH a 4", "QUEUED"),
        ("y", "SET d 1", "QUEUED"),
        ("y", "EXEC", "[1, OK]"),
        ("x", "{reply}", "4"),
        ("z", "{reply}", "[f, 4]"),
    ]);
}

#[test]
fn commands_over_all_keys_run_within_exec() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "MSET a 1 b 2 c 3", "QUEUED"),
        ("x", "DBSIZE", "QUEUED"),
        ("x", "KEYS [a]", "QUEUED"),
        ("x", "FLUSHALL", "QUEUED"),
        ("x", "DBSIZE", "QUEUED"),
        ("x", "RANDOMKEY", "QUEUED"),
        ("x", "SET d 4", "QUEUED"),
        ("x", "RANDOMKEY", "QUEUED"),
        ("x", "SWAPDB 0 1", "QUEUED"),
        ("x", "DBSIZE", "QUEUED"),
        ("x", "SELECT 1", "QUEUED"),
        ("x", "KEYS *", "QUEUED"),
        ("x", "FLUSHDB", "QUEUED"),
        ("x", "SELECT 0", "QUEUED"),
        ("x", "EXEC", "[OK, 3, [a], OK, 0, (nil), OK, d, OK, 0, OK, [d], OK, OK]"),
        ("x", "SET e 1", "OK"),
        ("x", "MULTI", "OK"),
        ("x", "SCAN 0 COUNT 1000", "QUEUED"),
        ("x", "MSETNX a 1 e 2", "QUEUED"),
        ("x", "RENAME e a", "QUEUED"),
        ("x", "COPY a b", "QUEUED"),
        ("x", "MOVE a 1", "QUEUED"),
        ("x", "EXISTS a b e", "QUEUED"),
        ("x", "EXEC", "[[0, [e]], 0, OK, 1, 1, 1]"),
        ("x", "MULTI", "OK"),
        ("x", "CONFIG SET maxmemory-samples 7", "QUEUED"),
        ("x", "CONFIG RESETSTAT", "QUEUED"),
        ("x", "EXEC", "[OK, OK]"),
        ("x", "MULTI", "OK"),
        ("x", "INFO server", "QUEUED"),
        ("x", "CONFIG GET maxmemory-samples", "QUEUED"),
        ("x", "COMMAND COUNT", "QUEUED"),
        ("x", "TIME", "QUEUED"),
        ("x", "CLIENT LIST", "QUEUED"),
        ("x", "MEMORY USAGE b", "QUEUED"),
        ("x", "OBJECT ENCODING b", "QUEUED"),
        ("x", "EXEC", "*"),
        ("x", "GET b", "1"),
    ]);
}

#[test]
fn each_command_sees_what_those_before_it_did() {
    play(&[
        ("x", "MULTI", "OK"),
        ("x", "RPUSH a 3 1 2", "QUEUED"),
        ("x", "COPY a b", "QUEUED"),
        ("x", "LRANGE b 0 -1", "QUEUED"),
        ("x", "SADD c x y", "QUEUED"),
        ("x", "SMOVE c d x", "QUEUED"),
        ("x", "SUNIONSTORE e c d", "QUEUED"),
        ("x", "SCARD e", "QUEUED"),
        ("x", "ZADD f 1 x 2 y", "QUEUED"),
        ("x", "ZUNIONSTORE e 2 f c", "QUEUED"),
        ("x", "ZSCORE e y", "QUEUED"),
        ("x", "LMOVE b a RIGHT LEFT", "QUEUED"),
        ("x", "LRANGE a 0 -1", "QUEUED"),
        ("x", "PEXPIRE a 0", "QUEUED"),
        ("x", "EXISTS a b", "QUEUED"),
        ("x", "EXEC", "[3, 1, [3, 1, 2], 2, 1, 2, 2, 2, 2, 3, 2, [2, 3, 1, 2], 1, 1]"),
    ]);
}

#[test]
fn hello_within_exec_changes_the_protocol() {
    // Its reply is a list of facts that differ; what comes after it says which protocol is spoken.
    for (name, server) in &Stage::new().servers {
        let mut client = server.connect();
        client.line("MULTI");
        assert_eq!(client.line("HELLO 3").text(), "QUEUED", "{name}");
        assert_eq!(client.line("GET none").text(), "QUEUED", "{name}");
        client.line("EXEC");
        assert_eq!(client.command_bytes(&["GET", "none"]), b"_\r\n", "{name}");
        client.line("MULTI");
        client.line("HELLO 2");
        client.line("EXEC");
        assert_eq!(client.command_bytes(&["GET", "none"]), b"$-1\r\n", "{name}");
    }
}

#[test]
fn a_refused_exec_is_a_null_of_its_protocol() {
    for (name, server) in &Stage::new().servers {
        for (protocol, null) in [(2, b"*-1\r\n".as_slice()), (3, b"_\r\n")] {
            let mut client = connect(server, protocol);
            client.line("WATCH a");
            server.connect().line("SET a 1");
            client.line("MULTI");
            client.line("SET b 1");
            assert_eq!(client.command_bytes(&["EXEC"]), null, "{name}");
        }
    }
}

#[test]
fn ten_thousand_commands_are_one_transaction() {
    for (name, server) in &Stage::new().servers {
        let mut client = server.connect();
        client.line("FLUSHALL");
        let mut bytes = b"MULTI\r\n".to_vec();
        for number in 0..10_000 {
            bytes.extend(format!("SET key{number} {number}\r\n").into_bytes());
        }
        bytes.extend(b"DBSIZE\r\nEXEC\r\n");
        client.send_raw(&bytes);
        assert_eq!(client.reply().text(), "OK");
        for _ in 0..10_001 {
            assert_eq!(client.reply().text(), "QUEUED", "{name}");
        }
        let replies = client.reply();
        let replies = replies.elements().expect("an array");
        assert_eq!(replies.len(), 10_001, "{name}");
        assert_eq!(replies[10_000], Value::Int(10_000), "{name}");
        assert_eq!(client.line("GET key9999").text(), "9999");
    }
}

#[test]
fn replies_within_exec_may_be_large() {
    for (name, server) in &Stage::new().servers {
        let mut client = server.connect();
        let value = vec![b'v'; 3_000_000];
        for key in ["a", "b", "c", "d"] {
            assert_eq!(client.command(&[b"SET", key.as_bytes(), &value]).text(), "OK");
        }
        client.line("MULTI");
        for key in ["a", "b", "c", "d"] {
            client.command(&["GET", key]);
        }
        client.command(&["MGET", "a", "b", "c", "d"]);
        let replies = client.line("EXEC");
        let replies = replies.elements().expect("an array");
        assert!(replies[..4].iter().all(|reply| reply.bytes() == Some(&value)), "{name}");
        assert!(replies[4].elements().expect("an array").iter().all(|reply| reply.bytes() == Some(&value)), "{name}");
    }
}

#[test]
fn a_transaction_in_one_piece_with_others_is_answered_in_order() {
    for (name, server) in &Stage::new().servers {
        let mut client = server.connect();
        client.line("FLUSHALL");
        let mut bytes = Vec::new();
        for round in 0..50 {
            bytes.extend(
                format!("SET a {round}\r\nMULTI\r\nGET a\r\nSET b {round}\r\nEXEC\r\nMGET a b\r\n").into_bytes(),
            );
        }
        client.send_raw(&bytes);
        for round in 0..50 {
            let replies: Vec<String> = (0..6).map(|_| show(&client.reply())).collect();
            let expected = ["OK", "OK", "QUEUED", "QUEUED", &format!("[{round}, OK]"), &format!("[{round}, {round}]")];
            assert_eq!(replies, expected, "{name}");
        }
    }
}

/// What is sent in one piece, the bytes that come back, and whether the server then closes the connection.
const IN_ONE_PIECE: &[(&str, &str, bool)] = &[
    // Replies that are not wanted are not sent, and the transaction runs.
    ("CLIENT REPLY OFF\r\nMULTI\r\nSET a 1\r\nEXEC\r\nCLIENT REPLY ON\r\nGET a\r\n", "+OK\r\n$1\r\n1\r\n", false),
    ("CLIENT REPLY SKIP\r\nMULTI\r\nSET a 2\r\nEXEC\r\n", "+QUEUED\r\n*1\r\n+OK\r\n", false),
    // Nothing is no command.
    ("MULTI\r\n\r\n*0\r\nPING\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n", false),
    ("MULTI\r\nSET a 3\r\nGET a\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n3\r\n", false),
    // Some commands are for nobody's transaction.
    (
        "MULTI\r\nSHUTDOWN ABORT\r\nEXEC\r\n",
        "+OK\r\n-ERR Command not allowed inside a transaction\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        false,
    ),
    (
        "MULTI\r\nAUTH a b\r\nHELLO 9\r\nHELLO 3 AUTH a b\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n\
         -NOPROTO unsupported protocol version\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        false,
    ),
    ("MULTI\r\nSET a 4\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nQUIT\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n+OK\r\n", true),
    ("MULTI\r\nSET a 4\r\n*x\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n-ERR Protocol error: invalid multibulk length\r\n", true),
    ("GET a\r\n", "$1\r\n3\r\n", false),
];

#[test]
fn bytes_in_one_piece_are_answered_byte_for_byte() {
    for (name, server) in &Stage::new().servers {
        for (bytes, expected, closes) in IN_ONE_PIECE {
            let mut client = server.connect();
            client.send_raw(bytes.as_bytes());
            let mut said = Vec::new();
            while said.len() < expected.len() {
                said.extend(client.reply_bytes());
            }
            assert_eq!(String::from_utf8_lossy(&said), *expected, "{name}: {bytes:?}");
            if *closes {
                assert!(client.is_closed(), "{name}: {bytes:?}");
            } else {
                assert_eq!(client.line("PING").text(), "PONG", "{name}: {bytes:?}");
            }
        }
    }
}

#[test]
fn a_client_that_kills_itself_within_exec_gets_its_replies() {
    for (name, server) in &Stage::new().servers {
        let mut client = server.connect();
        let id = show(&client.line("CLIENT ID"));
        client.send_raw(format!("MULTI\r\nSET a 1\r\nSET b 2\r\nCLIENT KILL ID {id} SKIPME no\r\nEXEC\r\n").as_bytes());
        let replies: Vec<String> = (0..5).map(|_| show(&client.reply())).collect();
        assert_eq!(replies, ["OK", "QUEUED", "QUEUED", "QUEUED", "[OK, OK, 1]"], "{name}");
        assert!(client.is_closed(), "{name}");
        assert_eq!(show(&server.connect().line("MGET a b")), "[1, 2]", "{name}");
    }
}
