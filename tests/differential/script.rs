//! Random commands out of the rows of the command table.
//!
//! A row's usage is parsed into the tree that COMMAND DOCS shows; a walk through the tree makes an argv: each value by its type
//! and name, options left out, repeated, in any case. One command in eight is then bent: a word lost, doubled, swapped,
//! replaced by something else entirely.
//!
//! What is avoided on purpose: times so near that a key dies between the two servers (a time to live is long or in the past),
//! and strings of hundreds of megabytes.

use std::collections::VecDeque;

use annulus::base::rng::Rng;
use annulus::commands::docs::{ArgType, Argument, Group, parse_usage};
use annulus::commands::table::{Command, table};

use super::compare::{How, how};
use super::differences::{is, number};

/// Databases that scripts use.
pub const DATABASES: i64 = 4;

/// Makes commands; the same seed makes the same ones.
pub struct Script {
    rng: Rng,
    subjects: Vec<Subject>,
    selects: bool,
    /// Where in the command that is being made the number of its keys stands.
    numkeys_at: Option<usize>,
    /// The family of the command that is being made: its keys are mostly those of its own type.
    group: Group,
    /// Commands that come before any other.
    queued: VecDeque<Vec<Vec<u8>>>,
    /// The time in the name of the last entry that was added.
    stream_ms: u64,
}

/// A command that is tested.
struct Subject {
    /// The words of its name.
    name: Vec<String>,
    tree: Vec<Argument>,
    group: Group,
}

impl Subject {
    fn new(command: &Command) -> Subject {
        let row = command.row;
        let tree = parse_usage(&command.full_name, row.usage, row.keys.len());
        let tree = tree.unwrap_or_else(|error| panic!("the usage of {}: {error}", command.full_name));
        Subject { name: command.full_name.split('|').map(str::to_owned).collect(), tree, group: row.group }
    }
}

/// Commands that wait when nothing is there.
const BLOCKING: [&str; 8] = ["blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop"];

/// The families that scripts are made of. `ANNULUS_DIFF_GROUPS=list,set` picks some; `generic` is always among them.
fn groups() -> Vec<Group> {
    const FAMILIES: &[Group] = &[
        Group::String,
        Group::Generic,
        Group::List,
        Group::Set,
        Group::Hash,
        Group::SortedSet,
        Group::Stream,
        Group::Bitmap,
        Group::HyperLogLog,
        Group::Geo,
    ];
    let Ok(names) = std::env::var("ANNULUS_DIFF_GROUPS") else { return FAMILIES.to_vec() };
    let picked = |group: &Group| *group == Group::Generic || names.split(',').any(|name| name == group.name());
    FAMILIES.iter().copied().filter(picked).collect()
}

impl Script {
    pub fn new(seed: u64) -> Script {
        let wanted = groups();
        let chosen = table().all().filter(|command| wanted.contains(&command.row.group));
        let subjects = chosen.filter(|command| command.children.is_empty()).map(Subject::new).collect();
        Script {
            rng: Rng::seed(seed),
            subjects,
            selects: table().find(b"select").is_some(),
            numkeys_at: None,
            group: Group::Generic,
            queued: VecDeque::new(),
            stream_ms: 1,
        }
    }

    /// The names of the commands that scripts are made of.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.subjects.iter().map(|subject| subject.name.join(" "))
    }

    /// Whether the command table lets a script select databases.
    pub fn selects(&self) -> bool {
        self.selects
    }

    /// The next command.
    pub fn next(&mut self) -> Vec<Vec<u8>> {
        if let Some(argv) = self.queued.pop_front() {
            return argv;
        }
        loop {
            let mut argv = self.command();
            if self.group == Group::Stream && self.rng.chance(1, 3) {
                argv = self.growth_of_a_stream();
            }
            // One that waits must not wait long.
            if self.rng.chance(1, 8) && !BLOCKING.iter().any(|name| is(&argv, 0, name)) {
                self.bend(&mut argv);
            }
            self.make_safe(&mut argv);
            self.keep_names_apart(&mut argv);
            if how(&argv) != How::NotSent {
                self.queued.extend(consumers_of(&argv));
                self.queued.push_back(argv);
                return self.queued.pop_front().expect("one was just queued");
            }
        }
    }

    fn command(&mut self) -> Vec<Vec<u8>> {
        if self.selects && self.rng.chance(1, 60) {
            return vec![b"SELECT".to_vec(), self.rng.range(0..=DATABASES - 1).to_string().into_bytes()];
        }
        let mut at = self.rng.below(self.subjects.len() as u64) as usize;
        if BLOCKING.contains(&self.subjects[at].name[0].as_str()) && self.rng.chance(7, 8) {
            // They take their time.
            at = self.rng.below(self.subjects.len() as u64) as usize;
        }
        self.group = self.subjects[at].group;
        self.numkeys_at = None;
        let mut argv: Vec<Vec<u8>> = Vec::new();
        for word in self.subjects[at].name.clone() {
            let word = self.any_case(&word);
            argv.push(word);
        }
        let tree = self.subjects[at].tree.clone();
        let fixed = argv.len() + tree.iter().take_while(|argument| !argument.optional).count();
        for argument in &tree {
            self.argument(argument, &mut argv);
        }
        self.balance_streams(&mut argv);
        // Options come in any order, which matters to the errors that come first.
        let waits = BLOCKING.iter().any(|name| is(&argv, 0, name));
        if !waits && self.rng.chance(1, 6) && argv.len() > fixed {
            self.rng.shuffle(&mut argv[fixed..]);
        }
        argv
    }

    fn argument(&mut self, argument: &Argument, argv: &mut Vec<Vec<u8>>) {
        if argument.optional && !self.rng.chance(1, 3) {
            return;
        }
        let times = if argument.multiple { self.rng.range(1..=4) } else { 1 };
        if argument.kind == ArgType::Key
            && let Some(at) = self.numkeys_at.take()
            && self.rng.chance(15, 16)
        {
            argv[at] = times.to_string().into_bytes();
        }
        for time in 0..times {
            if let Some(token) = &argument.token
                && (time == 0 || argument.multiple_token)
            {
                let token = self.any_case(token);
                argv.push(token);
            }
            match argument.kind {
                ArgType::PureToken => {}
                ArgType::OneOf => {
                    let part = self.rng.pick(&argument.parts).clone();
                    self.argument(&part, argv);
                }
                ArgType::Block => argument.parts.iter().for_each(|part| self.argument(part, argv)),
                kind => {
                    if argument.name == "numkeys" {
                        self.numkeys_at = Some(argv.len());
                    }
                    let value = self.value(kind, &argument.name);
                    argv.push(value);
                }
            }
        }
    }

    fn value(&mut self, kind: ArgType, name: &str) -> Vec<u8> {
        if self.group == Group::Stream
            && kind != ArgType::Key
            && let Some(value) = self.stream_value(name)
        {
            return value;
        }
        match kind {
            ArgType::Key => self.key(),
            ArgType::Pattern => self.pattern(),
            ArgType::Double if name == "timeout" => self.word(&["0.001", "0.002", "0.01", "1e-3", "-1", "x"]),
            // Around Sicily mostly, so that areas hold places.
            ArgType::Double if name == "longitude" && self.rng.chance(7, 8) => self.degrees(12, 16),
            ArgType::Double if name == "latitude" && self.rng.chance(7, 8) => self.degrees(36, 39),
            ArgType::Double if name == "longitude" => self.degrees(-181, 181),
            ArgType::Double if name == "latitude" => self.degrees(-86, 86),
            ArgType::Double if matches!(name, "radius" | "width" | "height") && self.rng.chance(7, 8) => {
                self.rng.range(0..=400).to_string().into_bytes()
            }
            _ if name == "min" || name == "max" => self.bound(),
            ArgType::Double if name == "score" || name == "increment" || name == "weight" => match self.rng.below(6) {
                0 => self.float(),
                1 => self.word(&["inf", "-inf", "0", "-0", "1e300", "nan"]),
                _ => self.rng.range(-6..=6).to_string().into_bytes(),
            },
            ArgType::Double => self.float(),
            ArgType::UnixTime => self.unix_time(),
            ArgType::Integer => match name {
                "seconds" => self.lifetime(1),
                "milliseconds" => self.lifetime(1000),
                "ttl" => self.word(&["0", "0", "100000000", "4102444800000", "-1", "x"]),
                "destination-db" | "db" => self.rng.range(-1..=DATABASES - 1).to_string().into_bytes(),
                "cursor" => {
                    self.word(&["0", "0", "0", "1", "", "-1", "+3", "17", "9007199254740992", "18446744073709551615"])
                }
                "count" => self.word(&["1", "3", "10", "1000", "0", "-1"]),
                "offset" if self.group == Group::Bitmap => self.bit_offset(),
                "value" | "bit" if self.rng.chance(3, 4) => self.word(&["0", "1"]),
                "start" | "end" | "stop" | "offset" | "min-match-len" => self.position(),
                "index" | "rank" | "num-matches" | "numkeys" | "limit" | "len" => match self.rng.below(8) {
                    0 => self.integer(),
                    _ => self.rng.range(-3..=5).to_string().into_bytes(),
                },
                _ => self.integer(),
            },
            _ => match name {
                "serialized-value" if self.rng.chance(7, 8) => self.rng.pick(super::dump::samples()).clone(),
                "type" => self.word(&["string", "STRING", "list", "set", "hash", "zset", "stream", "nothing"]),
                "db" | "destination-db" => self.rng.range(-1..=DATABASES - 1).to_string().into_bytes(),
                "start" | "stop" => self.bound(),
                "encoding" => self
                    .word(&["u8", "u1", "i1", "i5", "u16", "i32", "i64", "u63", "u7", "i13", "u64", "i0", "8", "U8"]),
                "subcommand" if self.group == Group::HyperLogLog => {
                    self.word(&["GETREG", "DECODE", "encoding", "ToDense", "foo"])
                }
                "element" if self.group == Group::HyperLogLog => match self.rng.below(4) {
                    0 => self.string(),
                    _ => format!("e{}", self.rng.below(5000)).into_bytes(),
                },
                "element" | "pivot" | "member" | "member1" | "member2" | "field" if self.rng.chance(3, 4) => {
                    self.element()
                }
                _ => self.string(),
            },
        }
    }

    fn word(&mut self, words: &[&str]) -> Vec<u8> {
        self.rng.pick(words).as_bytes().to_vec()
    }

    fn any_case(&mut self, word: &str) -> Vec<u8> {
        let mut word = word.as_bytes().to_vec();
        match self.rng.below(3) {
            0 => word.make_ascii_uppercase(),
            1 => word.make_ascii_lowercase(),
            _ => word.iter_mut().for_each(|byte| {
                if self.rng.chance(1, 2) {
                    byte.make_ascii_uppercase();
                } else {
                    byte.make_ascii_lowercase();
                }
            }),
        }
        word
    }

    /// Few enough keys that commands meet, on all shards, with and without hashtags, some with bytes that hurt.
    fn key(&mut self) -> Vec<u8> {
        const ODD: [&[u8]; 8] =
            [b"", b" ", b"\0", b"a\r\nb", b"\xff\xfe{x}", b"{}", b"{a}{b}", b"key with spaces and \"quotes\""];
        match self.rng.below(12) {
            0 => self.rng.pick(&ODD).to_vec(),
            1 => {
                let long = self.rng.pick(&[60usize, 300, 70_000]);
                vec![b'L'; *long]
            }
            2 | 3 => {
                let group = self.group_of_key();
                format!("{{tag}}{group}{}", self.rng.below(3)).into_bytes()
            }
            _ => {
                let group = self.group_of_key();
                format!("{group}{}", self.rng.below(8)).into_bytes()
            }
        }
    }

    /// What the names of a family's keys begin with. Commands meet their own type most of the time, and another often enough.
    fn group_of_key(&mut self) -> &'static str {
        const LETTERS: [&str; 9] = ["k", "l", "s", "h", "z", "g", "b", "p", "x"];
        match self.group {
            _ if self.rng.chance(1, 12) => LETTERS[self.rng.below(9) as usize],
            Group::String => "k",
            Group::List => "l",
            Group::Set => "s",
            Group::Hash => "h",
            Group::SortedSet => "z",
            Group::Geo => "g",
            Group::Stream => "x",
            Group::Bitmap => "b",
            Group::HyperLogLog => "p",
            _ => LETTERS[self.rng.below(9) as usize],
        }
    }

    /// What makes streams grow and have groups, without which the other commands find nothing.
    fn growth_of_a_stream(&mut self) -> Vec<Vec<u8>> {
        let (key, group) = (self.key(), self.word(&["g", "h"]));
        match self.rng.below(8) {
            0 => {
                let id = self.word(&["0", "0", "$", "5-0"]);
                vec![b"XGROUP".to_vec(), b"CREATE".to_vec(), key, group, id, b"MKSTREAM".to_vec()]
            }
            1 | 2 => {
                let consumer = self.word(&["a", "b", "c"]);
                let words = [b"XREADGROUP".to_vec(), b"GROUP".to_vec(), group, consumer, b"STREAMS".to_vec(), key];
                [&words[..], &[b">".to_vec()]].concat()
            }
            _ => {
                let mut argv = vec![b"XADD".to_vec(), key, self.new_stream_id()];
                for _ in 0..self.rng.range(1..=3) {
                    argv.push(self.word(&["f", "f", "field", "7", "name"]));
                    argv.push(if self.rng.chance(1, 3) { self.string() } else { self.element() });
                }
                argv
            }
        }
    }

    fn stream_value(&mut self, name: &str) -> Option<Vec<u8>> {
        Some(match name {
            "group" => self.word(&["g", "g", "g", "h", "h", "", "nogroup"]),
            "consumer" => self.word(&["a", "a", "b", "b", "c", "d", ""]),
            "field" => self.word(&["f", "f", "field", "7", "name"]),
            "id" | "lastid" | "last-id" | "max-deleted-id" | "threshold" if self.rng.chance(1, 8) => {
                self.odd_stream_id()
            }
            "threshold" if self.rng.chance(2, 3) => self.rng.range(-1..=20).to_string().into_bytes(),
            "id" | "lastid" | "last-id" | "max-deleted-id" | "threshold" => self.stream_id(),
            "start" | "end" => match self.rng.below(6) {
                0 => self.odd_stream_id(),
                1 | 2 => self.word(&["-", "+", "0", "(0"]),
                3 => [b"(".as_slice(), &self.stream_id()].concat(),
                _ => self.stream_id(),
            },
            // Idle times are an hour apart, more than a run takes.
            "min-idle-time" => self.word(&["0", "0", "0", "3600000", "7200000", "-1", "9223372036854775807", "x"]),
            "ms" => self.word(&["0", "1800000", "5400000", "9000000", "-1", "9223372036854775807", "x"]),
            "unix-time-milliseconds" => self.word(&["0", "1000", "-1", "99999999999999", "x"]),
            "entries-added" | "entries-read" => {
                self.word(&["0", "1", "5", "40", "-1", "-2", "9223372036854775807", "x"])
            }
            "milliseconds" => self.word(&["1", "2", "-1", "x"]),
            "count" => self.word(&[
                "1",
                "2",
                "3",
                "10",
                "100",
                "0",
                "-1",
                "9223372036854775807",
                "576460752303423487",
                "576460752303423488",
                "x",
            ]),
            _ => return None,
        })
    }

    /// The name of an entry that may be there.
    fn stream_id(&mut self) -> Vec<u8> {
        let ms = self.stream_ms.saturating_sub(self.rng.below(60));
        match self.rng.below(4) {
            0 => ms.to_string().into_bytes(),
            _ => format!("{ms}-{}", self.rng.below(3)).into_bytes(),
        }
    }

    /// One that is behind those of most streams.
    fn new_stream_id(&mut self) -> Vec<u8> {
        self.stream_ms += self.rng.below(2);
        match self.rng.below(8) {
            0 => format!("{}-*", self.stream_ms).into_bytes(),
            1 => self.stream_ms.to_string().into_bytes(),
            2 => format!("{}-{}", self.stream_ms, self.rng.next_u64() >> self.rng.below(64)).into_bytes(),
            _ => format!("{}-{}", self.stream_ms, self.rng.below(20)).into_bytes(),
        }
    }

    fn odd_stream_id(&mut self) -> Vec<u8> {
        match self.rng.below(20) {
            0 => self.string(),
            1 => self.word(&[
                "18446744073709551615-18446744073709551615",
                "18446744073709551615",
                "18446744073709551615-18446744073709551614",
                "(18446744073709551615-18446744073709551615",
                "18446744073709551616-0",
                "0-18446744073709551616",
            ]),
            _ => self.word(&[
                "0", "0-0", "0-1", "-", "+", "$", ">", "(", "(-", "(+", "(0-0", "5-*", "0-*", "*", "5-", "-5", "1-2-3",
                " 5-1", "007-1", "+5", "1--01", "1--1", "x-1", "1-x", "", "5 ", "0x5",
            ]),
        }
    }

    /// As many names as keys behind STREAMS, most of the time.
    fn balance_streams(&mut self, argv: &mut Vec<Vec<u8>>) {
        let reads = ["xread", "xreadgroup"].iter().any(|name| is(argv, 0, name));
        let Some(at) = argv.iter().position(|arg| arg.eq_ignore_ascii_case(b"streams")).filter(|_| reads) else {
            return;
        };
        argv.truncate(at + 1);
        let streams = self.rng.range(1..=3);
        for _ in 0..streams {
            let key = self.key();
            argv.push(key);
        }
        for _ in 0..streams {
            let id = match self.rng.below(8) {
                0 => self.odd_stream_id(),
                1 | 2 => self.stream_id(),
                3 => b"0".to_vec(),
                _ if is(argv, 0, "xread") => self.word(&["0", "0", "$"]),
                _ => b">".to_vec(),
            };
            argv.push(id);
        }
    }

    fn string(&mut self) -> Vec<u8> {
        match self.rng.below(16) {
            0..=3 => self.integer(),
            4 | 5 => self.float(),
            6 => Vec::new(),
            7 => {
                let mut bytes = vec![0; self.rng.below(50) as usize];
                self.rng.fill(&mut bytes);
                bytes
            }
            8 => vec![b'e'; self.rng.range(42..=46) as usize],
            9 => {
                let lengths = [100, 100, 100, 1000, 4095, 4096, 4097, 17_000];
                let len = *self.rng.pick(&lengths);
                (0..len).map(|_| b'a' + self.rng.below(4) as u8).collect()
            }
            _ => (0..self.rng.below(12)).map(|_| b'a' + self.rng.below(4) as u8).collect(),
        }
    }

    fn degrees(&mut self, from: i64, to: i64) -> Vec<u8> {
        format!("{}.{:04}", self.rng.range(from..=to), self.rng.below(10_000)).into_bytes()
    }

    /// An end of a range, of any kind.
    fn bound(&mut self) -> Vec<u8> {
        let exclusive = *self.rng.pick(&["(", "[", "", "", "("]);
        match self.rng.below(5) {
            0 => self.word(&["-", "+", "-inf", "+inf", "inf", "", "(", "[", "(inf", "x"]),
            1 => self.position(),
            2 | 3 => format!("{exclusive}{}", self.rng.range(-6..=6)).into_bytes(),
            _ => [exclusive.as_bytes(), &self.element()].concat(),
        }
    }

    /// A member of something, from a few that meet often.
    fn element(&mut self) -> Vec<u8> {
        match self.rng.below(4) {
            0 => self.rng.below(30).to_string().into_bytes(),
            1 => format!("-{}", self.rng.below(300_000)).into_bytes(),
            _ => vec![b'a' + self.rng.below(12) as u8; 1 + self.rng.below(2) as usize],
        }
    }

    fn integer(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.word(&[
                "9223372036854775807",
                "-9223372036854775808",
                "9223372036854775806",
                "9223372036854775808",
                "-9223372036854775809",
                "18446744073709551615",
                "123456789012345678901234567890",
            ]),
            1 => self.word(&["", " 1", "1 ", "+1", "-0", "00", "007", "1.0", "1e3", "0x10", "abc", "-", "1\0"]),
            2 => (self.rng.next_u64() as i64).to_string().into_bytes(),
            _ => self.rng.range(-20..=20_000).to_string().into_bytes(),
        }
    }

    fn position(&mut self) -> Vec<u8> {
        match self.rng.below(10) {
            0 => self.integer(),
            1 => self.word(&["536870911", "536870912", "536870913", "4294967296"]),
            _ => self.rng.range(-60..=60).to_string().into_bytes(),
        }
    }

    /// The place of a bit, or of a field among fields of its width.
    fn bit_offset(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0 => self.position(),
            1 => self.rng.range(0..=70_000).to_string().into_bytes(),
            2 => self.word(&["67108863", "67108864", "#8388607", "#1048575", "#-1", "#", "##1", "#x"]),
            3..=5 => format!("#{}", self.rng.range(0..=20)).into_bytes(),
            _ => self.rng.range(0..=200).to_string().into_bytes(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        match self.rng.below(6) {
            0 => self.word(&[
                "inf", "-inf", "nan", "1e400", "1e4932", "1e5000", "-1e4900", "1e-400", "1e-5000", "0x1p3", "3.0e",
                ".5", "5.", "", " 1.5", "1.5 ", "1,5", "abc", "1e", "--1", "infinity", "0x", "+2.5", "1e17", "1.1e-5",
            ]),
            1 => self.integer(),
            2 => format!("{}e{}", self.rng.range(-999..=999), self.rng.range(-30..=30)).into_bytes(),
            3 => format!("{:.17}", self.rng.unit_f64()).into_bytes(),
            _ => format!("{}.{}", self.rng.range(-300..=300), self.rng.below(100_000)).into_bytes(),
        }
    }

    /// A time to live in units of `1 / per_second` seconds: over eleven days or not in the future at all. The numbers are spread
    /// out, so that `EXPIRE … GT` compares the same way though the two servers run at different instants.
    fn lifetime(&mut self, per_second: i64) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.word(&["0", "-1", "-100", "-9223372036854775808", "-9223372036854775"]),
            1 => self.word(&[
                "9223372036854775807",
                "9223372036854775",
                "9223372036854776",
                "9223370000000000",
                "9223372036854775808",
                "abc",
                "",
                "1.5",
            ]),
            _ => (self.rng.range(1_000_000..=2_000_000_000) * per_second).to_string().into_bytes(),
        }
    }

    fn unix_time(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.word(&["0", "-1", "1", "1000000000", "-9223372036854775808"]),
            1 => self.word(&["9223372036854775807", "9223372036854775", "9223372036854776", "abc", ""]),
            // Far in the future, be it read as seconds or as milliseconds; or in the past as milliseconds.
            2..=4 => self.rng.range(4_102_444_800..=99_102_444_800).to_string().into_bytes(),
            _ => self.rng.range(4_102_444_800_000..=99_102_444_800_000).to_string().into_bytes(),
        }
    }

    fn pattern(&mut self) -> Vec<u8> {
        self.word(&[
            "*",
            "k*",
            "k?",
            "k[0-4]",
            "k[^0-4]*",
            "{tag}*",
            "{tag}[1-3]",
            "*1",
            "",
            "k1",
            "\\k1",
            "[",
            "k[",
            "*L",
            "??",
            "k[a",
            "{}",
            "{}*",
            "a\r\nb",
            "*[]",
            "k[9-0]",
            "nothing*",
        ])
    }

    /// Makes a command wrong, or at least unusual.
    fn bend(&mut self, argv: &mut Vec<Vec<u8>>) {
        let at = self.rng.below(argv.len() as u64) as usize;
        match self.rng.below(8) {
            0 => drop(argv.pop()),
            1 => {
                let extra = self.string();
                argv.push(extra);
            }
            2 => argv.insert(at + 1, argv[at].clone()),
            3 => {
                let other = self.rng.below(argv.len() as u64) as usize;
                if at > 0 && other > 0 {
                    argv.swap(at, other);
                }
            }
            4 if at > 0 => argv[at] = self.integer(),
            5 if at > 0 => argv[at] = self.string(),
            6 => argv.truncate(at + 1),
            7 if self.rng.chance(1, 4) => argv[0] = self.key(),
            _ => {
                let words =
                    ["NX", "XX", "GET", "EX", "PX", "KEEPTTL", "PERSIST", "GT", "LT", "IDX", "LEN", "COUNT", "REPLACE"];
                let word = self.word(&words);
                argv.push(word);
            }
        }
        if argv.is_empty() {
            argv.push(b"GET".to_vec());
        }
    }

    /// Ranges by name mean something only where all scores are the same: they have keys of their own, with such members.
    fn keep_names_apart(&mut self, argv: &mut Vec<Vec<u8>>) {
        let by_name = argv[0].to_ascii_lowercase().windows(3).any(|word| word == b"lex")
            || (1..argv.len()).any(|at| is(argv, at, "bylex"));
        let key = format!("y{}", self.rng.below(3)).into_bytes();
        let at = if is(argv, 0, "zrangestore") { 2 } else { 1 };
        if by_name && argv.len() > at {
            argv[at] = key;
        } else if is(argv, 0, "zadd") && self.rng.chance(1, 5) {
            *argv = vec![b"ZADD".to_vec(), key];
            for _ in 0..self.rng.range(1..=4) {
                argv.push(b"0".to_vec());
                argv.push(self.element());
            }
        }
    }

    /// Keeps out what would race with the clock, wait, or fill the memory; see the module.
    fn make_safe(&mut self, argv: &mut [Vec<u8>]) {
        for at in 1..argv.len() {
            let Some(n) = number(&argv[at]) else { continue };
            let relative = match at {
                2 => ["expire", "pexpire", "setex", "psetex"].iter().any(|name| is(argv, 0, name)),
                _ => (is(argv, 0, "set") || is(argv, 0, "getex")) && (is(argv, at - 1, "ex") || is(argv, at - 1, "px")),
            };
            let milliseconds = is(argv, 0, "pexpire") || is(argv, 0, "psetex") || is(argv, at - 1, "px");
            let soonest = if milliseconds { 1_000_000_000 } else { 1_000_000 };
            if relative && (1..soonest).contains(&n) {
                argv[at] = (n + soonest + self.rng.range(0..=soonest)).to_string().into_bytes();
            }
            let absolute = ["expireat", "pexpireat", "set", "getex"].iter().any(|name| is(argv, 0, name));
            // Around the present, in seconds or milliseconds.
            let near =
                (1_500_000_000..4_000_000_000).contains(&n) || (1_500_000_000_000..4_000_000_000_000).contains(&n);
            if absolute && near {
                argv[at] = b"4102444800000".to_vec();
            }
            if is(argv, 0, "setrange") && at == 2 && (100_000..=536_870_912).contains(&n) {
                argv[at] = b"536870912".to_vec();
            }
        }
        // The servers would make names by their own clocks, and wait by them.
        for at in 1..argv.len() {
            if is(argv, 0, "xadd") && argv[at] == b"*" {
                argv[at] = self.new_stream_id();
            }
            if is(argv, at - 1, "block") && number(&argv[at]).is_some_and(|ms| !(1..20).contains(&ms)) {
                argv[at] = b"1".to_vec();
            }
        }
        // An offset of the whole limit is refused, but for an empty patch.
        if is(argv, 0, "setrange") && argv.len() == 4 && is(argv, 2, "536870912") && argv[3].is_empty() {
            argv[3] = b"x".to_vec();
        }
    }
}

/// Commands that make the consumer for which a group is read. Since 7.2 reading and claiming make it though there is nothing to be
/// had; in 7.0 only what is had makes it.
fn consumers_of(argv: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    if (is(argv, 0, "xclaim") || is(argv, 0, "xautoclaim")) && argv.len() > 3 {
        return vec![[&[b"XGROUP".to_vec(), b"CREATECONSUMER".to_vec()], &argv[1..4]].concat()];
    }
    let position = |word: &str| (0..argv.len()).find(|at| is(argv, *at, word));
    let (Some(group), Some(streams)) = (position("group"), position("streams")) else { return Vec::new() };
    if !is(argv, 0, "xreadgroup") || group + 2 >= argv.len() {
        return Vec::new();
    }
    let behind = &argv[streams + 1..];
    let make = |key: &Vec<u8>| {
        [&[b"XGROUP".to_vec(), b"CREATECONSUMER".to_vec(), key.clone()], &argv[group + 1..=group + 2]].concat()
    };
    behind[..behind.len() / 2].iter().map(make).collect()
}
