//! Every integer argument of every command about data, through the edges of the integers, one at a time, beside redis-server.
//!
//! The commands and the places of their integers come from the rows' usages: each command is made with its mandatory arguments
//! and, one by one, with each option and each alternative. So a new row is in the matrix without a line here. Replies are compared
//! where redis-server 7.0 knows the command and does not differ on purpose; in any case the server stays up and small.
//!
//! Not sent to redis-server, which would fill the memory: bits beyond 128 MiB of a string. Sent to neither: a negative count of
//! random members (a reply without end here, all of it in memory there), which `cve_2023_22458…` has a test for.

use std::collections::BTreeSet;

use annulus::commands::docs::{ArgType, Argument, Group, parse_usage};
use annulus::commands::table::{Command, Flags, table};

use super::compare::{How, equal, how};
use super::differences::{is, number};
use super::harness::{Client, Server};

/// What all keys hold before a command that is tried.
const SETUP: [&str; 9] = [
    "FLUSHALL",
    "SET k1 hello",
    "RPUSH l1 a b c a",
    "SADD s1 a b c",
    "HSET h1 a 1 b 2 c 3",
    "ZADD z1 1 a 2 b 3 c",
    "SET b1 abc",
    "PFADD p1 a b c",
    "GEOADD g1 13.361389 38.115556 a 15.087269 37.502669 b",
];

/// The families about data.
const DATA: [Group; 10] = [
    Group::Generic,
    Group::String,
    Group::List,
    Group::Set,
    Group::Hash,
    Group::SortedSet,
    Group::Stream,
    Group::Bitmap,
    Group::HyperLogLog,
    Group::Geo,
];

fn edges() -> Vec<String> {
    let limits = [
        0,
        i128::from(i32::MIN),
        i128::from(i32::MAX),
        i128::from(u32::MAX),
        i128::from(i64::MIN),
        i128::from(i64::MAX),
        i128::from(u64::MAX),
    ];
    let all: BTreeSet<i128> = limits.into_iter().flat_map(|limit| [limit - 1, limit, limit + 1]).collect();
    all.iter().map(i128::to_string).collect()
}

/// One way to call a command: the words, and which of them are integers.
#[derive(Default)]
struct Call {
    argv: Vec<String>,
    integers: Vec<usize>,
}

/// Walks through a usage. Every option and every choice has a number, in the order in which it is met; options are left out and
/// the first alternative is taken, but for the one with the number `turned`.
struct Walk {
    group: Group,
    call: Call,
    turned: Option<usize>,
    met: usize,
}

impl Walk {
    fn turn(&mut self) -> bool {
        self.met += 1;
        self.turned == Some(self.met - 1)
    }

    fn arguments(&mut self, arguments: &[Argument]) {
        for argument in arguments {
            if argument.optional && !self.turn() {
                continue;
            }
            self.call.argv.extend(argument.token.clone());
            match argument.kind {
                ArgType::PureToken => {}
                ArgType::OneOf => {
                    let mut chosen = 0;
                    for at in 1..argument.parts.len() {
                        if self.turn() {
                            chosen = at;
                        }
                    }
                    // An alternative is not an option of its own.
                    let part = Argument { optional: false, ..argument.parts[chosen].clone() };
                    self.arguments(&[part]);
                }
                ArgType::Block => self.arguments(&argument.parts),
                kind => {
                    if kind == ArgType::Integer || kind == ArgType::UnixTime {
                        self.call.integers.push(self.call.argv.len());
                    }
                    let word = self.word(kind, &argument.name);
                    self.call.argv.push(word);
                }
            }
        }
    }

    fn word(&self, kind: ArgType, name: &str) -> String {
        let key = match self.group {
            Group::List => "l1",
            Group::Set => "s1",
            Group::Hash => "h1",
            Group::SortedSet => "z1",
            Group::Stream => "x1",
            Group::Bitmap => "b1",
            Group::HyperLogLog => "p1",
            Group::Geo => "g1",
            _ => "k1",
        };
        match (kind, name) {
            (ArgType::Key, _) => key,
            (ArgType::UnixTime, _) => "4102444800",
            (ArgType::Pattern, _) => "*",
            (ArgType::Double, "timeout") => "0.001",
            (ArgType::Integer, "cursor" | "db" | "destination-db" | "bit" | "offset" | "start") => "0",
            (ArgType::Integer, "seconds") => "100000",
            (ArgType::Integer, "milliseconds") => "100000000",
            (ArgType::Integer | ArgType::Double, _) => "1",
            (_, "encoding") => "u8",
            (_, "type") => "string",
            (_, "id") => "*",
            (_, "min" | "max" | "start" | "stop" | "end") => "1",
            _ => "a",
        }
        .to_owned()
    }
}

/// The ways to call a command that have an integer in them.
fn calls(command: &Command) -> Vec<Call> {
    let tree =
        parse_usage(&command.full_name, command.row.usage, command.row.keys.len()).expect("a test checks usages");
    let mut calls: Vec<Call> = Vec::new();
    let (mut at, mut most) = (None, 0);
    loop {
        let name = command.full_name.split('|').map(str::to_owned).collect();
        let call = Call { argv: name, integers: Vec::new() };
        let mut walk = Walk { group: command.row.group, call, turned: at, met: 0 };
        walk.arguments(&tree);
        most = most.max(walk.met);
        // What an option brings is in its own call; the mandatory ones need not be tried with each of them.
        if !walk.call.integers.is_empty() && calls.iter().all(|call| call.argv != walk.call.argv) {
            calls.push(walk.call);
        }
        at = Some(at.map_or(0, |at| at + 1));
        if at >= Some(most) {
            return calls;
        }
    }
}

/// A reply that nobody can keep, or that never ends.
fn is_endless(argv: &[Vec<u8>]) -> bool {
    let random = ["srandmember", "hrandfield", "zrandmember"].iter().any(|name| is(argv, 0, name));
    random && argv.get(2).and_then(|count| number(count)).is_some_and(|count| count < -20_000)
}

/// A string of hundreds of megabytes; ours are pages that nobody has written to.
fn fills_redis(argv: &[Vec<u8>]) -> bool {
    let bits = is(argv, 0, "setbit") || is(argv, 0, "bitfield");
    bits && argv.iter().filter_map(|arg| number(arg)).any(|at| (1 << 30..1 << 32).contains(&at))
}

fn set_up(client: &mut Client) {
    let lines: String = SETUP.map(|line| format!("{line}\r\n")).concat();
    client.send_raw(lines.as_bytes());
    SETUP.iter().for_each(|_| drop(client.reply()));
}

fn resident_mib(server: &Server) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).expect("the server runs");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4 / 1024
}

#[test]
fn every_integer_argument_takes_the_edges_of_the_integers() {
    let oracle = Server::redis(&[]);
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let (mut ours, mut theirs) = (server.connect(), oracle.as_ref().map(Server::connect));
        let at_start = resident_mib(&server);
        let (mut tried, mut integers, mut wrong) = (0, 0, Vec::new());
        let data = table().all().filter(|command| DATA.contains(&command.row.group) && command.children.is_empty());
        for command in data {
            for call in calls(command) {
                integers += call.integers.len();
                for &at in &call.integers {
                    set_up(&mut ours);
                    theirs.iter_mut().for_each(set_up);
                    for edge in edges() {
                        let mut argv: Vec<Vec<u8>> = call.argv.iter().map(|word| word.clone().into_bytes()).collect();
                        argv[at] = edge.into_bytes();
                        let how = if is_endless(&argv) { continue } else { how(&argv) };
                        let our = ours.command_bytes(&argv);
                        tried += 1;
                        let compared = how != How::NotSent && !fills_redis(&argv);
                        if let Some(theirs) = theirs.as_mut().filter(|_| compared) {
                            let their = theirs.command_bytes(&argv);
                            let is_known = !their.starts_with(b"-ERR unknown command");
                            if is_known && !equal(how, &their, &our) {
                                let shown = argv.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>();
                                wrong.push(format!(
                                    "{}\n    {}    {}",
                                    shown.join(" "),
                                    their.escape_ascii(),
                                    our.escape_ascii()
                                ));
                            }
                        }
                        if command.row.flags.has(Flags::WRITE) {
                            set_up(&mut ours);
                            theirs.iter_mut().for_each(set_up);
                        }
                    }
                }
            }
        }
        println!("{tried} commands with {integers} integers in {} ways, at {shards} shards", edges().len());
        assert!(wrong.is_empty(), "at {shards} shards:\n{}", wrong.join("\n"));
        assert!(integers > 150, "{integers} integers were found");
        assert_eq!(ours.line("PING").text(), "PONG");
        let grown = resident_mib(&server).saturating_sub(at_start);
        assert!(grown < 256, "the server has grown by {grown} MiB");
    }
}
