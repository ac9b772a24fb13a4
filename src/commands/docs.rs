//! What COMMAND DOCS tells of a command: its family, and its arguments as a tree.
//!
//! The tree is not written down a second time: it is parsed from the row's `usage`, the notation in which a person reads it.
//!
//! ```text
//!   key value [NX | XX] [EX seconds | PX milliseconds | KEEPTTL] [KEYS key [key ...]]
//!
//!   lower case     a value, by its name                       key, seconds, pattern
//!   UPPER CASE     a word to be typed as it is; the values behind it, up to the next word or bracket, belong to it
//!   [ … ]          may be left out
//!   a | b          one of them, inside [ … ] or < … >
//!   x [x ...]      one or more; x may be several values (key value [key value ...]) or begin with a word, which
//!                  is then typed each time (GET pattern [GET pattern ...])
//!   [x ...]        any number, none included
//! ```
//!
//! Types follow from names: the table of them is [`type_of`]. Pure: the same text always gives the same tree.
//! Absent on purpose: the history of each argument, and names that Redis invented for groups of arguments (a group is called
//! after its parts).

use std::fmt;

/// The families of commands, by their names in COMMAND DOCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Hashes.
    Hash,
    /// Sorted sets.
    SortedSet,
    /// Streams.
    Stream,
    /// Strings as arrays of bits.
    Bitmap,
    /// Strings that estimate the size of a set.
    HyperLogLog,
    /// Sorted sets of places.
    Geo,
    /// One's own and others' connections.
    Connection,
    /// The server as a whole.
    Server,
    /// MULTI and what goes with it.
    Transactions,
    /// Cluster mode.
    Cluster,
    /// Messages between clients.
    Pubsub,
}

impl Group {
    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::Hash => "hash",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
            Group::HyperLogLog => "hyperloglog",
            Group::Geo => "geo",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Transactions => "transactions",
            Group::Cluster => "cluster",
            Group::Pubsub => "pubsub",
        }
    }
}

/// What an argument is, by its name in COMMAND DOCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgType {
    /// A byte string.
    String,
    /// A signed 64-bit integer.
    Integer,
    /// A floating point number.
    Double,
    /// The name of a key.
    Key,
    /// A glob pattern.
    Pattern,
    /// A point in time, seconds or milliseconds since the epoch.
    UnixTime,
    /// A word and nothing behind it.
    PureToken,
    /// One of several.
    OneOf,
    /// Several, in this order.
    Block,
}

impl ArgType {
    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            ArgType::String => "string",
            ArgType::Integer => "integer",
            ArgType::Double => "double",
            ArgType::Key => "key",
            ArgType::Pattern => "pattern",
            ArgType::UnixTime => "unix-time",
            ArgType::PureToken => "pure-token",
            ArgType::OneOf => "oneof",
            ArgType::Block => "block",
        }
    }
}

/// One argument and, if it is a group, its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: ArgType,
    /// For a key: which of the command's key specifications finds it.
    pub key_spec: Option<usize>,
    /// The word in front of it, or the word that it is.
    pub token: Option<String>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// With its word each time.
    pub multiple_token: bool,
    /// The parts of a `OneOf` or `Block`.
    pub parts: Vec<Argument>,
}

impl Argument {
    fn new(name: String, kind: ArgType) -> Argument {
        Argument {
            name,
            kind,
            key_spec: None,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            parts: Vec::new(),
        }
    }

    /// The flags that COMMAND DOCS lists, in its order.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        [(self.optional, "optional"), (self.multiple, "multiple"), (self.multiple_token, "multiple_token")]
            .into_iter()
            .filter_map(|(set, name)| set.then_some(name))
    }
}

/// A usage that is not in the notation. Rows are constants, so a test finds it before a client does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadUsage {
    /// What is wrong.
    pub reason: &'static str,
    /// The rest of the text from there.
    pub near: String,
}

impl fmt::Display for BadUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} near '{}'", self.reason, self.near)
    }
}

/// The arguments that `usage` describes. `command` is the full name (`client|kill`), on which the types of some names depend;
/// `key_specs` is how many key specifications the command has.
pub fn parse_usage(command: &str, usage: &str, key_specs: usize) -> Result<Vec<Argument>, BadUsage> {
    let words = split(usage);
    let mut rest = words.as_slice();
    let items = read_sequence(&mut rest)?;
    if let Some(word) = rest.first() {
        return Err(bad("unexpected", std::slice::from_ref(word)));
    }
    let mut arguments = Tree { command, keyed: key_specs > 0 }.sequence(&items)?;
    number_keys(&mut arguments, key_specs, &mut 0);
    Ok(arguments)
}

/// What stands in a usage, before words are bound to what follows them.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item<'a> {
    Token(&'a str),
    Name(&'a str),
    /// `[a | b]`, or an optional sequence if there is one branch only.
    Optional(Vec<Vec<Item<'a>>>),
    /// `<a | b>`
    Choice(Vec<Vec<Item<'a>>>),
    /// `...`
    Ellipsis,
}

fn split(usage: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for mut word in usage.split_ascii_whitespace() {
        while let Some(rest) = word.strip_prefix(['[', '<']) {
            words.push(&word[..1]);
            word = rest;
        }
        let body = word.trim_end_matches([']', '>']);
        if !body.is_empty() {
            words.push(body);
        }
        let closing = &word[body.len()..];
        words.extend((0..closing.len()).map(|i| &closing[i..i + 1]));
    }
    words
}

fn bad(reason: &'static str, rest: &[&str]) -> BadUsage {
    BadUsage { reason, near: rest.join(" ") }
}

/// Reads up to `|`, a closing bracket or the end.
fn read_sequence<'a>(rest: &mut &[&'a str]) -> Result<Vec<Item<'a>>, BadUsage> {
    let mut items = Vec::new();
    while let Some((word, behind)) = rest.split_first() {
        match *word {
            "|" | "]" | ">" => break,
            "[" | "<" => {
                let close = if *word == "[" { "]" } else { ">" };
                *rest = behind;
                let branches = read_branches(rest, close)?;
                items.push(if close == "]" { Item::Optional(branches) } else { Item::Choice(branches) });
                continue;
            }
            "..." => items.push(Item::Ellipsis),
            word if word.bytes().any(|b| b.is_ascii_lowercase()) => items.push(Item::Name(word)),
            word => items.push(Item::Token(word)),
        }
        *rest = behind;
    }
    Ok(items)
}

fn read_branches<'a>(rest: &mut &[&'a str], close: &str) -> Result<Vec<Vec<Item<'a>>>, BadUsage> {
    let mut branches = Vec::new();
    loop {
        let branch = read_sequence(rest)?;
        if branch.is_empty() {
            return Err(bad("an empty branch", rest));
        }
        branches.push(branch);
        match rest.split_first() {
            Some((&"|", behind)) => *rest = behind,
            Some((word, behind)) if *word == close => {
                *rest = behind;
                return Ok(branches);
            }
            _ => return Err(bad("a bracket that does not close", rest)),
        }
    }
}

/// Makes arguments of items.
struct Tree<'a> {
    command: &'a str,
    /// Whether the command has keys: otherwise nothing is one, whatever its name.
    keyed: bool,
}

impl Tree<'_> {
    fn sequence(&self, items: &[Item<'_>]) -> Result<Vec<Argument>, BadUsage> {
        let mut arguments: Vec<Argument> = Vec::new();
        let mut at = 0;
        while at < items.len() {
            let taken = self.repeated(&items[at..]);
            let (argument, used) = match taken {
                Some((unit, used)) => {
                    let mut argument = self.unit(&items[at..at + unit])?;
                    argument.multiple = true;
                    argument.multiple_token = matches!(items[at], Item::Token(_));
                    (argument, used)
                }
                None => self.next(&items[at..])?,
            };
            arguments.push(argument);
            at += used;
        }
        Ok(arguments)
    }

    /// Whether these items begin with `unit [unit ...]`: the lengths of the unit and of the whole.
    fn repeated(&self, items: &[Item<'_>]) -> Option<(usize, usize)> {
        let unit = items.iter().position(|i| matches!(i, Item::Optional(_) | Item::Choice(_)))?;
        let Item::Optional(branches) = &items[unit] else { return None };
        let [branch] = branches.as_slice() else { return None };
        match branch.split_last()? {
            (Item::Ellipsis, again) if unit > 0 && again == &items[..unit] => Some((unit, unit + 1)),
            _ => None,
        }
    }

    /// One argument from the front of the items, and how many of them it took.
    fn next(&self, items: &[Item<'_>]) -> Result<(Argument, usize), BadUsage> {
        match &items[0] {
            Item::Name(name) => Ok((self.value(name), 1)),
            Item::Optional(branches) => {
                let mut argument = self.optional(branches)?;
                argument.optional = true;
                Ok((argument, 1))
            }
            Item::Choice(branches) => Ok((self.choice(branches)?, 1)),
            Item::Ellipsis => Err(bad("nothing to repeat", &["..."])),
            Item::Token(token) => self.token(token, &items[1..]),
        }
    }

    /// A word and what belongs to it.
    fn token(&self, token: &str, behind: &[Item<'_>]) -> Result<(Argument, usize), BadUsage> {
        if let [Item::Choice(branches), ..] = behind {
            let mut argument = self.choice(branches)?;
            argument.token = Some(token.to_owned());
            return Ok((argument, 2));
        }
        let mut used = 0;
        while used < behind.len() {
            match &behind[used] {
                Item::Name(_) => used += 1,
                Item::Optional(branches) if used > 0 && ends_in_ellipsis(branches) => used += 1,
                _ => break,
            }
        }
        let mut parts = self.sequence(&behind[..used])?;
        let mut argument = match parts.len() {
            0 => Argument::new(token.to_ascii_lowercase(), ArgType::PureToken),
            1 => parts.remove(0),
            _ => self.block(parts),
        };
        argument.token = Some(token.to_owned());
        Ok((argument, used + 1))
    }

    /// What stands in square brackets.
    fn optional(&self, branches: &[Vec<Item<'_>>]) -> Result<Argument, BadUsage> {
        let [branch] = branches else { return self.choice(branches) };
        match branch.split_last() {
            Some((Item::Ellipsis, again)) => {
                let mut argument = self.unit(again)?;
                argument.multiple = true;
                argument.multiple_token = matches!(again[0], Item::Token(_)) && again.len() > 1;
                Ok(argument)
            }
            _ => self.unit(branch),
        }
    }

    fn choice(&self, branches: &[Vec<Item<'_>>]) -> Result<Argument, BadUsage> {
        let mut parts = Vec::with_capacity(branches.len());
        for branch in branches {
            parts.push(self.optional(std::slice::from_ref(branch))?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut argument = Argument::new(joined(&parts), ArgType::OneOf);
        argument.parts = parts;
        Ok(argument)
    }

    /// A sequence as one argument.
    fn unit(&self, items: &[Item<'_>]) -> Result<Argument, BadUsage> {
        let mut parts = self.sequence(items)?;
        match parts.len() {
            0 => Err(bad("nothing", &[])),
            1 => Ok(parts.remove(0)),
            _ => Ok(self.block(parts)),
        }
    }

    fn block(&self, parts: Vec<Argument>) -> Argument {
        let mut argument = Argument::new(joined(&parts), ArgType::Block);
        argument.parts = parts;
        argument
    }

    fn value(&self, name: &str) -> Argument {
        let kind = match type_of(self.command, name) {
            ArgType::Key if !self.keyed => ArgType::String,
            kind => kind,
        };
        Argument::new(name.to_owned(), kind)
    }
}

fn ends_in_ellipsis(branches: &[Vec<Item<'_>>]) -> bool {
    matches!(branches, [branch] if branch.last() == Some(&Item::Ellipsis))
}

fn joined(parts: &[Argument]) -> String {
    parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join("_")
}

/// The type that goes with a name.
fn type_of(command: &str, name: &str) -> ArgType {
    // The same word means different things to different commands.
    match (command, name) {
        ("incrbyfloat" | "hincrbyfloat", "increment") => return ArgType::Double,
        ("client|pause" | "wait" | "migrate", "timeout") | ("setbit" | "bitfield", "value") => {
            return ArgType::Integer;
        }
        ("zlexcount" | "zrangebylex" | "zrevrangebylex" | "zremrangebylex" | "zrangestore", "min" | "max")
        | ("zrange", "start" | "stop") => return ArgType::String,
        ("xrange" | "xrevrange" | "xpending" | "xautoclaim", "start" | "end") => return ArgType::String,
        ("xclaim" | "xautoclaim", "min-idle-time") => return ArgType::String,
        ("zrangestore", "dst" | "src") => return ArgType::Key,
        ("lpos", "rank" | "num-matches") | ("sintercard" | "zintercard", "limit") => return ArgType::Integer,
        (_, "weight") => return ArgType::Integer,
        _ => {}
    }
    match name {
        "key" | "newkey" | "destination" | "destkey" | "source" | "sourcekey" => ArgType::Key,
        "pattern" => ArgType::Pattern,
        "seconds" | "milliseconds" | "count" | "cursor" | "offset" | "numkeys" | "db" | "destination-db" | "index"
        | "index1" | "index2" | "increment" | "decrement" | "start" | "end" | "stop" | "client-id" | "protover"
        | "version" | "len" | "min-match-len" | "bit" | "port" | "numreplicas" | "maxage" | "ttl" | "frequency"
        | "slot" | "start-slot" | "end-slot" | "config-epoch" | "cluster-bus-port" | "min-idle-time" | "ms"
        | "entries-read" | "entries-added" | "bits" => ArgType::Integer,
        "timeout" | "score" | "min" | "max" | "longitude" | "latitude" | "radius" | "width" | "height" => {
            ArgType::Double
        }
        _ if name.starts_with("unix-time") => ArgType::UnixTime,
        _ if name.strip_prefix("key").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) => ArgType::Key,
        _ => ArgType::String,
    }
}

/// Keys stand in the order of the specifications that find them; where there are fewer of those, the last finds all the rest.
/// Patterns that name keys (SORT's) share the one behind the first key, if there is one to spare.
fn number_keys(arguments: &mut [Argument], key_specs: usize, next: &mut usize) {
    let keys = arguments.iter().filter(|argument| argument.kind == ArgType::Key).count();
    let shares = |argument: &Argument| argument.kind == ArgType::Pattern && argument.token.is_some() && key_specs > 1;
    let mut shared = None;
    for argument in arguments {
        if argument.kind == ArgType::Key {
            argument.key_spec = Some((*next).min(key_specs.saturating_sub(1)));
            *next += 1;
        } else if shares(argument) && keys > 0 {
            argument.key_spec = Some(*shared.get_or_insert_with(|| {
                *next += 1;
                *next - 1
            }));
        }
        number_keys(&mut argument.parts, key_specs, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree on one line: `name:type`, `TOKEN>` in front, `?` optional, `+` multiple, `#` multiple with its token.
    fn show(arguments: &[Argument]) -> String {
        let one = |a: &Argument| {
            let mut text = String::new();
            if let Some(token) = &a.token {
                text += &format!("{token}>");
            }
            text += &format!("{}:{}", a.name, a.kind.name());
            if let Some(spec) = a.key_spec {
                text += &format!("@{spec}");
            }
            for flag in a.flags() {
                text += match flag {
                    "optional" => "?",
                    "multiple" => "+",
                    _ => "#",
                };
            }
            if !a.parts.is_empty() {
                text += &format!("({})", show(&a.parts));
            }
            text
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(command: &str, usage: &str, key_specs: usize, expected: &str) {
        match parse_usage(command, usage, key_specs) {
            Ok(tree) => assert_eq!(show(&tree), expected, "{command} {usage}"),
            Err(error) => panic!("{command} {usage}: {error}"),
        }
    }

    #[test]
    fn names_are_values_whose_type_follows_from_the_name() {
        check("get", "key", 1, "key:key@0");
        check("rename", "key newkey", 2, "key:key@0 newkey:key@1");
        check("lcs", "key1 key2", 1, "key1:key@0 key2:key@0");
        check("setex", "key seconds value", 1, "key:key@0 seconds:integer value:string");
        check("incrbyfloat", "key increment", 1, "key:key@0 increment:double");
        check("keys", "pattern", 0, "pattern:pattern");
        check("command|getkeys", "command [arg ...]", 0, "command:string arg:string?+");
    }

    #[test]
    fn a_word_takes_the_values_behind_it() {
        check("scan", "cursor [MATCH pattern]", 0, "cursor:integer MATCH>pattern:pattern?");
        check("sort", "[LIMIT offset count]", 1, "LIMIT>offset_count:block?(offset:integer count:integer)");
        check("restore", "key [ABSTTL]", 1, "key:key@0 ABSTTL>absttl:pure-token?");
    }

    #[test]
    fn alternatives_become_one_of() {
        check(
            "set",
            "[NX | XX] [EX seconds | KEEPTTL]",
            1,
            "nx_xx:oneof?(NX>nx:pure-token XX>xx:pure-token) \
             seconds_keepttl:oneof?(EX>seconds:integer KEEPTTL>keepttl:pure-token)",
        );
        check("client|reply", "<ON | OFF>", 0, "on_off:oneof(ON>on:pure-token OFF>off:pure-token)");
        check(
            "client|list",
            "[TYPE <NORMAL | MASTER>]",
            0,
            "TYPE>normal_master:oneof?(NORMAL>normal:pure-token MASTER>master:pure-token)",
        );
    }

    #[test]
    fn what_is_repeated_is_said_once() {
        check("del", "key [key ...]", 1, "key:key@0+");
        check("mset", "key value [key value ...]", 1, "key_value:block+(key:key@0 value:string)");
        check("info", "[section [section ...]]", 0, "section:string?+");
        check("info", "[section ...]", 0, "section:string?+");
        check("sort", "[GET pattern [GET pattern ...]]", 1, "GET>pattern:pattern?+#");
        check("migrate", "[KEYS key [key ...]]", 1, "KEYS>key:key@0?+");
        check("client|list", "[ID client-id [client-id ...]]", 0, "ID>client-id:integer?+");
        check("xread", "STREAMS key [key ...] id [id ...]", 1, "STREAMS>key_id:block(key:key@0+ id:string+)");
    }

    #[test]
    fn brackets_nest() {
        check(
            "hello",
            "[protover [AUTH username password] [SETNAME clientname]]",
            0,
            "protover_username_password_clientname:block?(protover:integer \
             AUTH>username_password:block?(username:string password:string) SETNAME>clientname:string?)",
        );
        check(
            "client|kill",
            "<ip:port | <ID client-id | ADDR ip:port> ...>",
            0,
            "ip:port_client-id_ip:port:oneof(ip:port:string client-id_ip:port:oneof+(ID>client-id:integer ADDR>ip:port:string))",
        );
    }

    #[test]
    fn broken_usages_are_told_apart_from_good_ones() {
        for usage in ["[key", "key]", "<a | >", "[]", "...", "[a | ]"] {
            assert!(parse_usage("x", usage, 0).is_err(), "{usage}");
        }
    }
}
