//! A server whose memory is full, beside a redis-server whose memory is: who is refused, in which words, and what goes on.
//!
//! A limit of one byte makes both full for good, so this is deterministic. Every command that both know is sent with as few arguments as
//! it takes, alone and within a transaction; then come rows about transactions and about the counters that the policies keep.

use std::collections::BTreeMap;

use super::harness::{Client, Server, Value};
use annulus::commands::table::{Flags, table};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// Not sent: they end the connection or the server, wait, or change how the connection is spoken to.
const NOT_SENT: &[&str] = &[
    "blmpop",
    "blpop",
    "brpop",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "debug",
    "exec",
    "hello",
    "monitor",
    "psubscribe",
    "quit",
    "reset",
    "save",
    "shutdown",
    "ssubscribe",
    "subscribe",
    "bgsave",
    "bgrewriteaof",
    "multi",
    "client",
    "wait",
    "waitaof",
    "flushall",
    "flushdb",
    "config",
    "restore-asking",
    "asking",
    "readonly",
    "readwrite",
    "auth",
    "select",
    "swapdb",
];

/// A call of each command, by name: as few arguments as it takes, at most one key.
fn calls(theirs: &mut Client) -> Vec<(String, Vec<String>, bool)> {
    let Value::Array(known) = theirs.line("COMMAND LIST") else { panic!("COMMAND LIST replies with an array") };
    let known: Vec<String> = known.iter().map(Value::text).collect();
    let rows = table().all().filter(|command| command.parent.is_none() && command.children.is_empty());
    rows.filter(|command| known.contains(&command.name) && !NOT_SENT.contains(&command.row.name))
        .map(|command| {
            let arity = command.row.arity.unsigned_abs() as usize;
            let mut argv = vec![command.name.clone()];
            argv.extend((1..arity).map(|_| "1".to_owned()));
            (command.name.clone(), argv, command.row.flags.has(Flags::DENYOOM))
        })
        .collect()
}

#[test]
fn every_command_that_wants_memory_is_refused_as_by_redis_and_no_other() {
    let Some(redis) = Server::redis(&["--maxmemory", "1"]) else { return };
    let mut theirs = redis.connect();
    let calls = calls(&mut theirs);
    assert!(calls.iter().filter(|(_, _, wants)| *wants).count() > 50);
    for shards in [1, 4] {
        let annulus = Server::annulus(shards, &["--maxmemory", "1"]);
        let mut ours = annulus.connect();
        for (name, argv, wants) in &calls {
            let replies = [&mut theirs, &mut ours].map(|client| client.command(argv).text() == OOM);
            assert_eq!(replies, [*wants; 2], "{name}: refused by redis-server, refused here, {shards} shards");
        }
        for (name, argv, _) in &calls {
            let transaction = |client: &mut Client| {
                let lines = [vec!["MULTI".to_owned()], argv.clone(), vec!["DISCARD".to_owned()]];
                lines.map(|line| client.command(&line).text())[1].clone()
            };
            if name == "discard" || name == "unwatch" {
                continue;
            }
            let replies = [transaction(&mut theirs), transaction(&mut ours)];
            assert_eq!(replies, [OOM, OOM].map(str::to_owned), "{name} within MULTI, {shards} shards");
        }
    }
}

/// What to send to `a` or `b`.
const ROWS: &[&str] = &[
    "a SET k v",
    "a RPUSH l x y z",
    "a MULTI",
    "a SET k 2",
    "a GET k",
    "b CONFIG SET maxmemory 1",
    "a EXEC",
    "a GET k",
    "a MULTI",
    "a GET k",
    "a EXEC",
    "a MULTI",
    "a EXEC",
    "a MULTI",
    "a WATCH k",
    "a UNWATCH",
    "a MULTI",
    "a RESET",
    "a SET k",
    "a NOSUCH",
    "a LPOP l",
    "a RENAME l m",
    "a EXPIRE m 100",
    "a COPY m n",
    "a LMPOP 1 m LEFT",
    "a PUBLISH c m",
    "a SETRANGE k 0 x",
    "a BITFIELD k GET u8 0",
    "a GETDEL k",
    "a OBJECT FREQ m",
    "b CONFIG SET maxmemory 0",
    "a SET k v",
    "a MULTI",
    "a GET k",
    "b CONFIG SET maxmemory 1",
    "a EXEC",
    "b CONFIG SET maxmemory 0",
    // A use is counted with certainty; a value that is set is a use. With a limit, Redis shares no numbers between keys.
    "b CONFIG SET maxmemory 1gb",
    "b CONFIG SET maxmemory-policy allkeys-lfu lfu-log-factor 0 lfu-decay-time 0",
    "a SET f 1",
    "a OBJECT FREQ f",
    "a SET f 2",
    "a SET f 3",
    "a OBJECT FREQ f",
    "a GET f",
    "a OBJECT FREQ f",
    "a INCR f",
    "a APPEND f x",
    "a OBJECT FREQ f",
    "a GETSET f 1",
    "a OBJECT FREQ f",
    "a EXISTS f",
    "a TTL f",
    "a OBJECT FREQ f",
    "a OBJECT IDLETIME f",
    "a OBJECT FREQ none",
    "b CONFIG SET maxmemory-policy volatile-ttl",
    "a OBJECT FREQ f",
    "b CONFIG SET maxmemory-policy nosuch",
    "b CONFIG SET maxmemory-samples 0",
    "b CONFIG SET maxmemory-eviction-tenacity 101",
    "b CONFIG SET maxmemory-clients 101%",
    "b CONFIG SET maxmemory-clients 5%",
    "b CONFIG GET maxmemory-clients",
];

#[test]
fn transactions_and_counters_are_as_in_redis_when_memory_is_full() {
    let Some(redis) = Server::redis(&[]) else { return };
    let servers = [redis, Server::annulus(1, &[]), Server::annulus(4, &[])];
    let replies = servers.map(|server| {
        let mut clients: BTreeMap<&str, Client> = ["a", "b"].map(|name| (name, server.connect())).into();
        ROWS.iter()
            .map(|row| {
                let (who, line) = row.split_once(' ').expect("a row names a client");
                clients.get_mut(who).expect("there are two").line(line).to_string()
            })
            .collect::<Vec<_>>()
    });
    let [theirs, ours @ ..] = replies;
    for (shards, ours) in [1, 4].into_iter().zip(ours) {
        for ((row, theirs), ours) in ROWS.iter().zip(&theirs).zip(ours) {
            assert_eq!(ours, *theirs, "{row}, {shards} shards");
        }
    }
}

#[test]
fn memory_stats_has_the_fields_of_redis_in_its_order() {
    let Some(redis) = Server::redis(&[]) else { return };
    let annulus = Server::annulus(2, &[]);
    let names = [&redis, &annulus].map(|server| {
        let mut client = server.connect_resp3();
        client.line("SET k v");
        let Value::Map(pairs) = client.line("MEMORY STATS") else { panic!("RESP3 has maps") };
        let inner = pairs.iter().find(|(name, _)| name.text() == "db.0").map(|(_, db)| match db {
            Value::Map(pairs) => pairs.iter().map(|(name, _)| name.text()).collect::<Vec<_>>(),
            other => panic!("a map: {other}"),
        });
        let names = pairs.iter().map(|(name, _)| name.text());
        // Later versions have it.
        (names.filter(|name| name != "allocator.muzzy").collect::<Vec<_>>(), inner)
    });
    assert_eq!(names[0], names[1]);
}
