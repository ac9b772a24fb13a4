//! COMMAND INFO and COMMAND DOCS of every command that both know, compared with redis-server 7.0 field by field.
//!
//! What clients compute from these replies (where keys are, what may be retried, how to complete a line) must not depend on which
//! server they talk to. Texts are our own, so of the documentation the tree of arguments is compared: types, words, options.

use super::harness::{Client, Server, Value};

/// Fields of COMMAND INFO that mean to differ: command, field, why.
const INFO_DIFFERENCES: &[(&str, &str, &str)] = &[
    ("blmove", "flags", "may be called by scripts, as in 7.2"),
    ("blpop", "flags", "may be called by scripts, as in 7.2"),
    ("brpop", "flags", "may be called by scripts, as in 7.2"),
    ("brpoplpush", "flags", "may be called by scripts, as in 7.2"),
    ("bzpopmax", "flags", "may be called by scripts, as in 7.2"),
    ("bzpopmin", "flags", "may be called by scripts, as in 7.2"),
    ("sinterstore", "keys", "its destination is overwritten unseen, as in 7.2"),
    ("zrank", "arity", "WITHSCORE came with 7.2"),
    ("zrevrank", "arity", "WITHSCORE came with 7.2"),
    ("acl|deluser", "tips", "as in 7.2"),
    ("acl|save", "tips", "as in 7.2"),
    ("acl|setuser", "tips", "as in 7.2"),
    ("client", "subcommands", "NO-TOUCH and SETINFO came with 7.2"),
    ("client|setname", "tips", "as in 7.2"),
    ("cluster", "subcommands", "MYSHARDID came with 7.2"),
    ("cluster|shards", "flags", "allowed while loading, as in 7.4"),
    ("cluster|slots", "flags", "allowed while loading, as in 7.4"),
    ("command|getkeys", "arity", "a command may be asked for without arguments, as in 7.2"),
    ("command|getkeysandflags", "arity", "as GETKEYS"),
    ("config|resetstat", "tips", "as in 7.2"),
    ("config|rewrite", "tips", "as in 7.2"),
    ("latency|reset", "tips", "as in 7.2"),
    ("msetnx", "tips", "as in 7.4: parts that fail apart cannot be summed up"),
    ("randomkey", "flags", "touches_arbitrary_keys came with 7.2"),
    ("randomkey", "tips", "as in 7.2"),
    ("save", "arity", "it takes MERGED"),
    ("scan", "flags", "touches_arbitrary_keys came with 7.2"),
    ("scan", "tips", "as in 7.2"),
    ("wait", "flags", "as in 7.2"),
    ("wait", "categories", "follows from the flags"),
];

/// Commands whose arguments mean to differ, and why.
const DOCS_DIFFERENCES: &[(&str, &str)] = &[
    ("acl|cat", "named category, as in 7.2"),
    ("bitop", "the operations are told apart, as in 7.2"),
    ("client|kill", "filters are alternatives of which one at least is there, not options; MAXAGE came with 7.4"),
    ("client|list", "the list of ids is one repeated argument, without a block around it"),
    ("cluster|meet", "named cluster-bus-port, as in 7.2"),
    ("command|getkeys", "the whole command is an argument, as in 7.2"),
    ("command|getkeysandflags", "the whole command is an argument, as in 7.2"),
    ("config|get", "the pattern is one repeated argument, without a block around it"),
    ("debug", "its arguments are shown"),
    ("save", "it takes MERGED"),
    ("psubscribe", "the pattern is one repeated argument, without a block around it"),
    ("geosearch", "the two lengths behind BYBOX are a block of their own"),
    ("geosearchstore", "the two lengths behind BYBOX are a block of their own"),
    ("zrank", "WITHSCORE came with 7.2"),
    ("zrevrank", "WITHSCORE came with 7.2"),
    ("lcs", "named min-match-len, as in 7.2"),
    ("hscan", "NOVALUES came with 7.4"),
    ("xclaim", "LASTID is named lastid, as in 7.2"),
    ("xgroup|create", "names of arguments as in 7.2"),
    ("xgroup|createconsumer", "names of arguments as in 7.2"),
    ("xgroup|delconsumer", "names of arguments as in 7.2"),
    ("xgroup|destroy", "names of arguments as in 7.2"),
    ("xgroup|setid", "names of arguments as in 7.2"),
    ("xinfo|consumers", "names of arguments as in 7.2"),
    ("xinfo|stream", "FULL is a word of its own, as in 7.2"),
    ("xsetid", "names of arguments as in 7.2"),
    ("xtrim", "its arguments are shown without a block around them"),
    ("set", "IFEQ and IFNE are later options"),
];

const FIELDS: [&str; 10] =
    ["name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "keys", "subcommands"];

/// Names that both servers know.
fn common_names(ours: &mut Client, theirs: &mut Client) -> Vec<String> {
    let names = ours.line("COMMAND LIST");
    let names: Vec<String> = names.elements().expect("a list").iter().map(Value::text).collect();
    let known = |name: &String| matches!(&info(theirs, name), Value::Array(_));
    names.into_iter().filter(known).collect()
}

fn info(client: &mut Client, name: &str) -> Value {
    client.line(&format!("COMMAND INFO {name}")).elements().expect("a list")[0].clone()
}

/// Without what may differ freely: notes on key specifications, and what stands behind a subcommand's name.
fn comparable(field: usize, value: &Value) -> Value {
    match field {
        8 => Value::Array(value.elements().expect("key specifications").iter().map(without_notes).collect()),
        9 => {
            let subs = value.elements().expect("subcommands").iter();
            let mut names: Vec<String> = subs.map(|sub| sub.elements().expect("a command")[0].text()).collect();
            names.sort();
            Value::Array(names.into_iter().map(|name| Value::Bulk(name.into_bytes())).collect())
        }
        _ => value.clone(),
    }
}

fn without_notes(spec: &Value) -> Value {
    let notes = Value::Bulk(b"notes".to_vec());
    match spec {
        Value::Array(flat) if flat[0] == notes => Value::Array(flat[2..].to_vec()),
        Value::Map(pairs) => Value::Map(pairs.iter().filter(|(name, _)| *name != notes).cloned().collect()),
        other => other.clone(),
    }
}

#[test]
fn command_info_is_that_of_redis_for_every_command_both_have() {
    let Some(oracle) = Server::redis(&[]) else { return };
    let server = Server::annulus(1, &[]);
    for (mut ours, mut theirs) in
        [(server.connect(), oracle.connect()), (server.connect_resp3(), oracle.connect_resp3())]
    {
        let mut wrong = Vec::new();
        for name in common_names(&mut ours, &mut theirs) {
            let (our, their) = (info(&mut ours, &name), info(&mut theirs, &name));
            let (our, their) = (our.elements().expect("fields"), their.elements().expect("fields"));
            assert_eq!(our.len(), FIELDS.len(), "{name}");
            for (at, field) in FIELDS.iter().enumerate() {
                let intended = INFO_DIFFERENCES.iter().any(|(n, f, _)| *n == name && f == field);
                let (our, their) = (comparable(at, &our[at]), comparable(at, &their[at]));
                if our != their && !intended {
                    wrong.push(format!("{name}: {field} is {our}, in Redis {their}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The arguments of a command as a text that leaves out what is ours to choose: the names of groups and of plain words, and
/// since when there is an argument.
fn tree(arguments: Option<&Value>) -> String {
    let Some(arguments) = arguments else { return String::new() };
    let one = |argument: &Value| {
        let get = |name: &str| entry(argument, name);
        let text = |name: &str| get(name).map(Value::text).unwrap_or_default();
        let kind = text("type");
        let name = if ["oneof", "block", "pure-token"].contains(&kind.as_str()) { String::new() } else { text("name") };
        let flags: Vec<String> =
            get("flags").and_then(Value::elements).unwrap_or_default().iter().map(Value::text).collect();
        format!(
            "{name}:{kind} token={} key={} {flags:?} [{}]",
            text("token"),
            get("key_spec_index").map(Value::to_string).unwrap_or_default(),
            tree(get("arguments"))
        )
    };
    arguments.elements().expect("arguments").iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The value of a key in a RESP3 map.
fn entry<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    match map {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value),
        other => panic!("{other} is a map"),
    }
}

#[test]
fn command_docs_has_the_same_arguments_as_redis() {
    let Some(oracle) = Server::redis(&[]) else { return };
    let server = Server::annulus(1, &[]);
    let (mut ours, mut theirs) = (server.connect_resp3(), oracle.connect_resp3());
    let mut wrong = Vec::new();
    for name in common_names(&mut ours, &mut theirs) {
        let docs = |client: &mut Client| match client.line(&format!("COMMAND DOCS {name}")) {
            Value::Map(mut pairs) => pairs.pop().expect("both know it").1,
            other => panic!("COMMAND DOCS {name} gave {other}"),
        };
        let (our, their) = (docs(&mut ours), docs(&mut theirs));
        assert_eq!(entry(&our, "group"), entry(&their, "group"), "{name}");
        let (our, their) = (tree(entry(&our, "arguments")), tree(entry(&their, "arguments")));
        if our != their && !DOCS_DIFFERENCES.iter().any(|(n, _)| *n == name) {
            wrong.push(format!("{name}:\n  {our}\n  {their}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn getkeys_finds_what_redis_finds() {
    let Some(oracle) = Server::redis(&[]) else { return };
    let server = Server::annulus(1, &[]);
    let (mut ours, mut theirs) = (server.connect_resp3(), oracle.connect_resp3());
    for call in [
        "get k",
        "mset a 1 b 2",
        "set k v",
        "set k v get",
        "SET k v EX 5 GET",
        "copy a b",
        "rename a b",
        "del a b c",
        "lcs a b",
        "memory usage k",
        "object freq k",
        "object freq",
        "object nosuch k",
        "get a b",
        "nosuch k",
        "config get x",
        "ping x",
        "scan 0",
        "getrange k 0 1",
    ] {
        for sub in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let line = format!("COMMAND {sub} {call}");
            assert_eq!(ours.line(&line), theirs.line(&line), "{line}");
        }
    }
}
