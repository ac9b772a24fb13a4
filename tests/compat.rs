//! What the command table says holds elsewhere too: the README's compatibility section is made from it, and every row has a
//! behaviour test.
//!
//! `ANNULUS_UPDATE_README=1 cargo test --test compat` writes the section anew between its two markers. Which commands of Redis
//! are absent is data below (`ABSENT`, of the 8.0 command set); a command that gets a row has to leave that list.
//! Deliberately absent: whether a command behaves as in Redis. The tests in `tests/commands` and `tests/differential` hold that.

use std::fs;
use std::path::Path;

use annulus::commands::docs::Group;
use annulus::commands::table::{Command, table};

const BEGIN: &str = "<!-- compat:begin -->\n";
const END: &str = "<!-- compat:end -->";

/// A family of commands as Redis groups them, and what of it is absent here.
struct Family {
    name: &'static str,
    /// None while no row of the table belongs to it.
    group: Option<Group>,
    /// Full names, comma between them.
    absent: &'static str,
    /// What a reader should know of those that are there.
    remark: &'static str,
}

const ABSENT: &[Family] = &[
    Family {
        name: "generic",
        group: Some(Group::Generic),
        absent: "MIGRATE",
        remark: "RESTORE reads payloads of Redis 2.6 to 7.4; OBJECT FREQ needs an LFU `maxmemory-policy`; WAIT replies 0 at once, there are no replicas",
    },
    Family { name: "string", group: Some(Group::String), absent: "", remark: "" },
    Family {
        name: "connection",
        group: Some(Group::Connection),
        absent: "",
        remark: "no cached value is stale once the write was answered",
    },
    Family {
        name: "server",
        group: Some(Group::Server),
        absent: "FAILOVER, MODULE, PSYNC, REPLCONF, REPLICAOF, SFLUSH, SLAVEOF, SYNC",
        remark: "HOTKEYS as in Redis 8.6; HOTKEYS LIST and SHARDS are our own: see [Seeing inside](#seeing-inside)",
    },
    Family {
        name: "cluster",
        group: Some(Group::Cluster),
        absent: "",
        remark: "tell of the shards as nodes, with `cluster-shard-nodes yes`, and refuse to change them; else each answers that cluster \
                 mode is off",
    },
    Family {
        name: "transactions",
        group: Some(Group::Transactions),
        absent: "",
        remark: "isolated over all shards, as are commands of several keys",
    },
    Family { name: "list", group: Some(Group::List), absent: "", remark: "" },
    Family { name: "set", group: Some(Group::Set), absent: "", remark: "" },
    Family {
        name: "hash",
        group: Some(Group::Hash),
        absent: "",
        remark: "fields expire as in Redis 7.4; HGETDEL, HGETEX and HSETEX as in Redis 8",
    },
    Family { name: "sorted set", group: Some(Group::SortedSet), absent: "", remark: "scores print as in Redis 7.2" },
    Family {
        name: "stream",
        group: Some(Group::Stream),
        absent: "",
        remark: "as in Redis 7.2; XREAD from `+` as in 7.4",
    },
    Family {
        name: "bitmap",
        group: Some(Group::Bitmap),
        absent: "",
        remark: "BITOP knows DIFF, DIFF1, ANDOR and ONE, as in Redis 8.2",
    },
    Family {
        name: "hyperloglog",
        group: Some(Group::HyperLogLog),
        absent: "",
        remark: "the strings are those of Redis, byte for byte",
    },
    Family { name: "geo", group: Some(Group::Geo), absent: "", remark: "" },
    Family {
        name: "pub/sub",
        group: Some(Group::Pubsub),
        absent: "",
        remark: "a message that a client sends to itself follows the reply of PUBLISH, as in Redis 7.2",
    },
    Family {
        name: "scripting",
        group: None,
        absent: "EVAL, EVALSHA, EVALSHA_RO, EVAL_RO, FCALL, FCALL_RO, FUNCTION, SCRIPT",
        remark: "",
    },
];

/// Rows of one family as a reader wants them: upper case, subcommands in brackets behind their container.
fn there(group: Group) -> String {
    let one = |command: &Command| {
        let name = command.row.name.to_uppercase();
        let subs: Vec<String> = command
            .children
            .iter()
            .map(|id| table().get(*id).row.name.to_uppercase())
            .filter(|sub| sub != "HELP")
            .collect();
        if subs.is_empty() { name } else { format!("{name} ({})", subs.join(", ")) }
    };
    table().top_level().filter(|command| command.row.group == group).map(one).collect::<Vec<_>>().join(", ")
}

fn section() -> String {
    let mut text = String::from("| family | there | absent |\n|---|---|---|\n");
    for family in ABSENT {
        let mut there = family.group.map(there).unwrap_or_default();
        if !family.remark.is_empty() {
            there.push_str(&format!(". *{}*", family.remark));
        }
        let or_dash = |cell: String| if cell.is_empty() { "–".to_owned() } else { cell };
        text.push_str(&format!("| {} | {} | {} |\n", family.name, or_dash(there), or_dash(family.absent.to_owned())));
    }
    text
}

#[test]
fn the_readme_lists_the_commands_that_are_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md is readable");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the first marker");
    let (now, after) = rest.split_once(END).expect("README.md has the second marker");
    let wanted = section();
    if std::env::var_os("ANNULUS_UPDATE_README").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).expect("README.md is writable");
        return;
    }
    assert!(
        now == wanted,
        "the compatibility section is stale; ANNULUS_UPDATE_README=1 cargo test --test compat makes it anew:\n{wanted}"
    );
}

#[test]
fn what_has_a_row_is_not_called_absent() {
    for family in ABSENT {
        for name in family.absent.split(", ").filter(|name| !name.is_empty()) {
            let row = table().find_full(name.replace(' ', "|").as_bytes());
            assert!(row.is_none(), "{name} has a row: take it off the list of what is absent");
        }
    }
    for command in table().top_level() {
        let group = command.row.group;
        assert!(ABSENT.iter().any(|family| family.group == Some(group)), "no family for {}", command.full_name);
    }
}

/// A row of a behaviour test is a string that begins with the command's name, or a list of words that does.
fn is_tried(sources: &str, command: &Command) -> bool {
    let name = command.full_name.to_uppercase();
    let alone = format!("\"{}", name.replace('|', " "));
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || "-_".contains(next));
    let as_words = format!("\"{}\"", name.replace('|', "\", \""));
    sources.contains(&as_words) || sources.match_indices(&alone).any(|(at, _)| ends(&sources[at + alone.len()..]))
}

#[test]
fn every_row_has_a_behaviour_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands");
    let mut sources = String::new();
    for entry in fs::read_dir(folder).expect("tests/commands is there") {
        let path = entry.expect("its entries are readable").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path).expect("a source file is text"));
        }
    }
    let missing: Vec<&str> = table()
        .all()
        .filter(|command| !is_tried(&sources, command))
        .map(|command| command.full_name.as_str())
        .collect();
    assert!(missing.is_empty(), "no row of tests/commands/*.rs begins with: {}", missing.join(", "));
}

#[test]
fn a_name_within_another_is_not_taken_for_it() {
    let set = table().find(b"set").expect("SET has a row");
    assert!(is_tried(r#"check(&["SET k v"], "OK")"#, set));
    assert!(!is_tried(r#"check(&["SETEX k 1 v", "GET SET"], "OK")"#, set));
    let list = table().find_full(b"client|list").expect("CLIENT LIST has a row");
    assert!(is_tried(r#"client.send(&["CLIENT", "LIST"])"#, list));
    assert!(!is_tried(r#"check(&["CLIENT", "LISTS"], "")"#, list));
}
