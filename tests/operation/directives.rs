//! Every directive that Redis 7.2 knows is known here: read, shown, and either does what it says or tells why it does not. The names of
//! 7.0 and their defaults are asked of a real redis-server; what came later is a list.

use annulus::config::{DIRECTIVES, Effect, FILE_ONLY, directive};

use super::harness::{Server, Value};

/// What Redis 7.2 added to 7.0.
const ADDED_BY_7_2: &[&str] = &[
    "aof-disable-auto-gc",
    "cluster-announce-human-nodename",
    "enable-debug-command",
    "latency-tracking",
    "list-max-listpack-size",
    "locale-collate",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "loading-process-events-interval-bytes",
];

/// What Redis 7.4 added to 7.2.
const ADDED_BY_7_4: &[&str] =
    &["hide-user-data-from-log", "max-new-connections-per-cycle", "max-new-tls-connections-per-cycle"];

/// Lines of a file that are no settings.
const NO_SETTINGS: &[&str] = &["include", "loadmodule", "rename-command", "user"];

#[test]
fn every_directive_of_redis_is_known() {
    let mut names: Vec<String> = ADDED_BY_7_2.iter().chain(ADDED_BY_7_4).map(|name| name.to_string()).collect();
    if let Some(redis) = Server::redis(&[]) {
        let Value::Array(all) = redis.connect().line("CONFIG GET *") else { panic!("no list") };
        names.extend(all.chunks_exact(2).map(|pair| pair[0].text()));
        assert!(names.len() > 180, "{}", names.len());
    }
    let unknown: Vec<&String> = names.iter().filter(|name| directive(name.as_bytes()).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in NO_SETTINGS {
        assert!(FILE_ONLY.iter().any(|known| known.name == *name), "{name}");
    }
}

#[test]
fn defaults_are_those_of_redis() {
    let Some(redis) = Server::redis(&[]) else { return };
    let ours = Server::annulus(1, &[]);
    let Value::Array(theirs) = redis.connect().line("CONFIG GET *") else { panic!("no list") };
    let mut client = ours.connect();
    // What the harness sets, what belongs to the machine, and what is another in 7.2.
    let differ = ["port", "dir", "pidfile", "set-max-listpack-entries", "maxclients"];
    let mut wrong = Vec::new();
    for pair in theirs.chunks_exact(2).filter(|pair| !differ.contains(&pair[0].text().as_str())) {
        let Value::Array(own) = client.command(&["CONFIG", "GET", &pair[0].text()]) else { panic!("no answer") };
        if own.get(1).map(Value::text) != Some(pair[1].text()) {
            wrong.push(format!("{}: redis {}, ours {:?}", pair[0], pair[1], own.get(1).map(Value::text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_has_no_effect_says_why_at_the_start() {
    let idle = DIRECTIVES.iter().find(|directive| directive.name == "activerehashing").expect("it is in the table");
    let Effect::Accepted(reason) = idle.effect else { panic!("it has an effect now: take another for this test") };
    let server = Server::annulus(1, &["--activerehashing", "no"]);
    let line = format!("command line: 'activerehashing' has no effect: {reason}");
    assert_eq!(server.log().matches(&line).count(), 1, "{}", server.log());
}
