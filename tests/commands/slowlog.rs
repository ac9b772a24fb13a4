//! SLOWLOG: what is logged, in which shape and in whose words, on 1 and on 4 shards, and compared with redis-server where that is
//! definite. With `slowlog-log-slower-than 0` every command is slow, so nothing here depends on time.

use std::thread;

use super::check;
use super::harness::{Client, Server, Value};

/// One entry of SLOWLOG GET.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    id: i64,
    us: i64,
    argv: Vec<String>,
    peer: String,
    name: String,
}

fn int(value: &Value) -> i64 {
    let Value::Int(n) = value else { panic!("{value} is a number") };
    *n
}

/// The whole log, oldest first.
fn log(client: &mut Client) -> Vec<Entry> {
    let entries = client.line("SLOWLOG GET -1");
    let mut log: Vec<Entry> = entries
        .elements()
        .expect("a list")
        .iter()
        .map(|entry| {
            let fields = entry.elements().expect("an entry");
            assert_eq!(fields.len(), 6, "{entry}");
            assert!(int(&fields[1]) > 1_600_000_000, "{entry}");
            Entry {
                id: int(&fields[0]),
                us: int(&fields[2]),
                argv: fields[3].elements().expect("arguments").iter().map(Value::text).collect(),
                peer: fields[4].text(),
                name: fields[5].text(),
            }
        })
        .collect();
    log.reverse();
    assert!(log.windows(2).all(|pair| pair[0].id < pair[1].id), "numbers grow: {log:?}");
    log
}

fn argvs(log: &[Entry]) -> Vec<String> {
    log.iter().map(|entry| entry.argv.join(" ")).collect()
}

/// Commands of one connection: of one key and of several, refused and failed, in transactions, with secrets and long arguments.
fn script() -> Vec<Vec<String>> {
    let long = "y".repeat(200);
    let many: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    let mut script: Vec<Vec<String>> = [
        "SET k v",
        "GET k",
        "get k",
        "GET",
        "NOSUCH command",
        "INCR k",
        "MSET a 1 b 2 c 3 d 4",
        "MGET a b c d",
        "DEL a b c",
        "RENAME d e",
        "SADD s1 x y",
        "SADD s2 y z",
        "SUNIONSTORE s3 s1 s2",
        "SORT s1 ALPHA",
        "CLIENT SETNAME me",
        "PING",
        "AUTH wrong",
        "HELLO 2 AUTH default wrong",
        "CONFIG SET masterauth sesame hz 10",
        "CONFIG SET MASTERAUTH \"\"",
        "CONFIG GET hz",
        "SELECT 1",
        "SELECT 0",
        "MULTI",
        "SET t 1",
        "GET t",
        "EXEC",
        "MULTI",
        "SET t 1",
        "MSET ta 1 tb 2 tc 3 td 4",
        "SELECT 0",
        "PING",
        "EXEC",
        "MULTI",
        "NOSUCH",
        "EXEC",
        "WATCH k",
        "UNWATCH",
        "BLPOP nothing 0.01",
        "DBSIZE",
        "CLIENT NO-EVICT on",
        "SLOWLOG LEN",
        "SLOWLOG GET 1",
        "SLOWLOG HELP",
        "PUBLISH channel message",
        "LATENCY RESET",
        "FLUSHALL",
    ]
    .iter()
    .map(|line| line.split(' ').map(|word| word.trim_matches('"').to_owned()).collect())
    .collect();
    script.push(vec!["SET".into(), "k".into(), long]);
    script.push([vec!["RPUSH".to_owned(), "l".to_owned()], many.clone()].concat());
    script.push([vec!["MGET".to_owned()], many[..31].to_vec()].concat());
    script.push([vec!["MGET".to_owned()], many[..32].to_vec()].concat());
    script
}

fn logged(server: &Server) -> Vec<String> {
    let mut client = server.connect();
    client.line("SLOWLOG RESET");
    script().iter().for_each(|argv| drop(client.command(argv)));
    let log = log(&mut client);
    let mine = &log[0].peer;
    assert!(mine.starts_with("127.0.0.1:") && log.iter().all(|entry| entry.peer == *mine), "{log:?}");
    assert!(!server.log().contains("sesame"), "no secret is in the server's own log");
    log.iter().map(|entry| format!("{} | {}", entry.argv.join(" "), entry.name)).collect()
}

#[test]
fn what_is_logged_is_what_redis_logs() {
    let directives = ["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000"];
    let mut ours = [1, 4].map(|shards| logged(&Server::annulus(shards, &directives)));
    assert!(ours[0].iter().all(|line| !line.contains("sesame") && !line.contains("wrong")), "{:#?}", ours[0]);
    assert!(!ours[0].iter().any(|line| line.starts_with("EXEC") || line.starts_with("NOSUCH")), "{:#?}", ours[0]);
    if let Some(oracle) = Server::redis(&directives) {
        let theirs = logged(&oracle);
        assert_eq!(ours[0], theirs);
    }
    // What one transaction does on several shards has no order among them.
    ours.iter_mut().for_each(|log| log.sort());
    assert_eq!(ours[0], ours[1]);
}

#[test]
fn slowlog_arguments_and_refusals_are_those_of_redis() {
    check(&["SLOWLOG GET x"], "-ERR count should be greater than or equal to -1");
    check(&["SLOWLOG GET -2"], "-ERR count should be greater than or equal to -1");
    check(&["SLOWLOG GET 1 2"], "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.");
    check(&["SLOWLOG LEN x"], "-ERR wrong number of arguments for 'slowlog|len' command");
    check(&["SLOWLOG"], "-ERR wrong number of arguments for 'slowlog' command");
    check(&["SLOWLOG NOPE"], "-ERR unknown subcommand 'NOPE'. Try SLOWLOG HELP.");
    check(&["SLOWLOG RESET", "SLOWLOG LEN"], "0");
    check(&["SLOWLOG GET 0"], "[]");
}

#[test]
fn the_log_is_one_over_all_shards_and_as_long_as_it_may_be() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--slowlog-log-slower-than", "0", "--slowlog-max-len", "50"]);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || (0..100).for_each(|n| drop(client.line(&format!("SET key{n} v")))));
            }
        });
        let first = log(&mut clients[0]);
        assert_eq!(first.len(), 50);
        assert!(first.iter().all(|entry| entry.argv[0] == "SET"), "{first:?}");
        // Everything has had a number, also what nobody has seen.
        assert_eq!(first.last().map(|entry| entry.id), Some(8 * 100 - 1), "{shards} shards");
        assert_eq!(clients[1].line("SLOWLOG LEN"), Value::Int(50));
        let again = log(&mut clients[2]);
        for entry in &again {
            let before = first.iter().find(|known| known.id == entry.id);
            assert!(before.is_none_or(|known| known == entry), "a number stays an entry's");
        }
        assert_eq!(clients[3].line("SLOWLOG GET").elements().map(<[Value]>::len), Some(10));
        clients[3].line("CONFIG SET slowlog-max-len 3");
        assert_eq!(clients[4].line("SLOWLOG LEN"), Value::Int(3));
        clients[3].line("CONFIG SET slowlog-log-slower-than -1");
        clients[3].line("SLOWLOG RESET");
        clients[5].line("SET k v");
        assert_eq!(clients[6].line("SLOWLOG LEN"), Value::Int(0));
        clients[3].line("CONFIG SET slowlog-log-slower-than 0");
        clients[7].line("SET k v");
        let last = log(&mut clients[0]);
        assert!(last[0].id > again.last().expect("entries").id, "numbers go on after RESET: {last:?}");
    }
}

#[test]
fn a_client_finds_what_it_has_just_run_wherever_that_was() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000"]);
        let mut client = server.connect();
        for n in 0..100 {
            client.line(&format!("SET key{n} v"));
            let newest = log(&mut client).pop().expect("an entry");
            assert_eq!(newest.argv.join(" "), format!("SET key{n} v"), "{shards} shards");
        }
    }
}

#[test]
fn a_pipeline_is_logged_command_by_command() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000"]);
        let mut client = server.connect();
        let commands: String = (0..300).map(|n| format!("SET key{n} v\r\nINCR n{n}\r\n")).collect();
        client.send_raw(commands.as_bytes());
        (0..600).for_each(|_| drop(client.reply()));
        let mut found = argvs(&log(&mut client));
        let mut wanted: Vec<String> = (0..300).flat_map(|n| [format!("SET key{n} v"), format!("INCR n{n}")]).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{shards} shards");
    }
}

#[test]
fn only_what_was_slow_is_logged_with_the_time_it_took() {
    for shards in [1, 4] {
        let server = Server::annulus(
            shards,
            &[
                "--slowlog-log-slower-than",
                "100000",
                "--enable-debug-command",
                "yes",
                "--latency-monitor-threshold",
                "100",
            ],
        );
        let mut client = server.connect();
        client.line("SET k v");
        client.line("DEBUG SLEEP 0.2");
        // The waits of others, and of one's own for data, are not work.
        client.line("BLPOP nothing 0.3");
        let log: Vec<Entry> = log(&mut client).into_iter().filter(|entry| entry.argv[0] != "SET").collect();
        assert_eq!(argvs(&log), ["DEBUG SLEEP 0.2"], "{shards} shards");
        assert!(log[0].us >= 200_000, "{log:?}");
        let latest = client.line("LATENCY LATEST");
        let names: Vec<String> = latest
            .elements()
            .expect("events")
            .iter()
            .map(|event| event.elements().expect("fields")[0].text())
            .collect();
        assert!(names.contains(&"command".to_owned()), "{names:?}");
    }
}

#[test]
fn a_pause_of_the_server_is_nobodys_time() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--slowlog-log-slower-than", "100000"]);
        let (mut client, mut other) = (server.connect(), server.connect());
        client.line("CLIENT PAUSE 300 WRITE");
        assert_eq!(other.line("SET k v").text(), "OK");
        assert_eq!(argvs(&log(&mut client)), Vec::<String>::new(), "{shards} shards");
    }
}
