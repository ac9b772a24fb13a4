//! What each command does to the keys and replies, for the search in [`super::search`]: the whole store as a map.
//!
//! Two databases; strings, lists and sets. Keys have their type by the first letter of their name, so that no command meets a
//! wrong one. Replies are compared as text, sets sorted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::harness::Value;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Data {
    Text(String),
    List(VecDeque<String>),
    Set(BTreeSet<String>),
}

/// The databases 0 and 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    dbs: [BTreeMap<String, Data>; 2],
}

/// What a client sent, and in which database it was.
#[derive(Clone, Debug)]
pub enum Call {
    Command(Vec<String>),
    /// The commands of a transaction that was run; first those that read watched keys beforehand.
    Exec(Vec<Vec<String>>),
    /// One that was refused because of what it watched: it did nothing.
    Refused,
}

impl Store {
    /// The states in which this call can leave the store, if it can give this reply: none says that it cannot have happened here.
    pub fn after(&self, db: usize, call: &Call, reply: &str) -> Vec<Store> {
        match call {
            Call::Refused => vec![self.clone()],
            Call::Command(argv) if argv[0].starts_with('B') => self.after_waiting(db, argv, reply),
            Call::Command(argv) => {
                let mut next = self.clone();
                if next.run(db, argv) == reply { vec![next] } else { Vec::new() }
            }
            Call::Exec(commands) => {
                let mut next = self.clone();
                let replies: Vec<String> = commands.iter().map(|argv| next.run(db, argv)).collect();
                if list(&replies) == reply { vec![next] } else { Vec::new() }
            }
        }
    }

    /// A command that waits: it takes from any of its keys that is there, since several may have come at once; it comes back
    /// empty-handed only where it found none.
    fn after_waiting(&self, db: usize, argv: &[String], reply: &str) -> Vec<Store> {
        let (keys, side) = match argv[0].as_str() {
            "BLPOP" | "BRPOP" => (&argv[1..argv.len() - 1], if argv[0] == "BLPOP" { "LEFT" } else { "RIGHT" }),
            _ => (&argv[1..2], argv[3].as_str()),
        };
        if reply == "nil" {
            return if keys.iter().any(|key| self.dbs[db].contains_key(key)) { Vec::new() } else { vec![self.clone()] };
        }
        let mut found = Vec::new();
        for key in keys.iter().filter(|key| self.dbs[db].contains_key(*key)) {
            let mut next = self.clone();
            let element = next.pop(db, key, side).expect("a key that is there has elements");
            let said = if argv[0] == "BLMOVE" {
                next.push(db, &argv[2], element.clone(), &argv[4]);
                element
            } else {
                list(&[key.clone(), element])
            };
            if said == reply {
                found.push(next);
            }
        }
        found
    }

    fn pop(&mut self, db: usize, key: &str, side: &str) -> Option<String> {
        let Some(Data::List(list)) = self.dbs[db].get_mut(key) else { return None };
        let element = if side == "LEFT" { list.pop_front() } else { list.pop_back() };
        if list.is_empty() {
            self.dbs[db].remove(key);
        }
        element
    }

    fn push(&mut self, db: usize, key: &str, element: String, side: &str) {
        let entry = self.dbs[db].entry(key.to_owned()).or_insert_with(|| Data::List(VecDeque::new()));
        let Data::List(list) = entry else { panic!("{key} is no list") };
        if side == "LEFT" { list.push_front(element) } else { list.push_back(element) }
    }

    fn members(&self, db: usize, key: &str) -> BTreeSet<String> {
        match self.dbs[db].get(key) {
            Some(Data::Set(set)) => set.clone(),
            _ => BTreeSet::new(),
        }
    }

    fn text(&self, db: usize, key: &str) -> String {
        match self.dbs[db].get(key) {
            Some(Data::Text(text)) => text.clone(),
            _ => nil(),
        }
    }

    fn put_set(&mut self, db: usize, key: &str, set: BTreeSet<String>) -> usize {
        let count = set.len();
        self.dbs[db].remove(key);
        if count > 0 {
            self.dbs[db].insert(key.to_owned(), Data::Set(set));
        }
        count
    }

    fn run(&mut self, db: usize, argv: &[String]) -> String {
        let arg = |at: usize| argv[at].as_str();
        let ok = || "OK".to_owned();
        match arg(0) {
            "GET" => self.text(db, arg(1)),
            "SET" => {
                self.dbs[db].insert(argv[1].clone(), Data::Text(argv[2].clone()));
                ok()
            }
            "GETDEL" => {
                let old = self.text(db, arg(1));
                self.dbs[db].remove(arg(1));
                old
            }
            "APPEND" => {
                let entry = self.dbs[db].entry(argv[1].clone()).or_insert_with(|| Data::Text(String::new()));
                let Data::Text(text) = entry else { panic!("{} is no string", arg(1)) };
                text.push_str(arg(2));
                text.len().to_string()
            }
            "MGET" => list(&argv[1..].iter().map(|key| self.text(db, key)).collect::<Vec<_>>()),
            "MSET" | "MSETNX" => {
                if arg(0) == "MSETNX" && argv[1..].chunks(2).any(|pair| self.dbs[db].contains_key(&pair[0])) {
                    return "0".to_owned();
                }
                for pair in argv[1..].chunks(2) {
                    self.dbs[db].insert(pair[0].clone(), Data::Text(pair[1].clone()));
                }
                if arg(0) == "MSET" { ok() } else { "1".to_owned() }
            }
            "DEL" => argv[1..].iter().filter(|key| self.dbs[db].remove(*key).is_some()).count().to_string(),
            "EXISTS" => argv[1..].iter().filter(|key| self.dbs[db].contains_key(*key)).count().to_string(),
            "RENAME" | "RENAMENX" => {
                if !self.dbs[db].contains_key(arg(1)) {
                    return "-ERR no such key".to_owned();
                }
                if arg(0) == "RENAMENX" && self.dbs[db].contains_key(arg(2)) {
                    return "0".to_owned();
                }
                let data = self.dbs[db].remove(arg(1)).expect("looked up above");
                self.dbs[db].insert(argv[2].clone(), data);
                if arg(0) == "RENAME" { ok() } else { "1".to_owned() }
            }
            "COPY" => {
                let replace = argv.len() > 3;
                let Some(data) = self.dbs[db].get(arg(1)).cloned() else { return "0".to_owned() };
                if !replace && self.dbs[db].contains_key(arg(2)) {
                    return "0".to_owned();
                }
                self.dbs[db].insert(argv[2].clone(), data);
                "1".to_owned()
            }
            "MOVE" => {
                let to: usize = arg(2).parse().expect("a database");
                if !self.dbs[db].contains_key(arg(1)) || self.dbs[to].contains_key(arg(1)) {
                    return "0".to_owned();
                }
                let data = self.dbs[db].remove(arg(1)).expect("looked up above");
                self.dbs[to].insert(argv[1].clone(), data);
                "1".to_owned()
            }
            "SWAPDB" => {
                self.dbs.swap(0, 1);
                ok()
            }
            "FLUSHALL" => {
                *self = Store::default();
                ok()
            }
            "FLUSHDB" => {
                self.dbs[db].clear();
                ok()
            }
            "DBSIZE" => self.dbs[db].len().to_string(),
            "KEYS" => list(&self.dbs[db].keys().cloned().collect::<Vec<_>>()),
            "RPUSH" => {
                self.push(db, arg(1), argv[2].clone(), "RIGHT");
                let Some(Data::List(list)) = self.dbs[db].get(arg(1)) else { panic!("just pushed") };
                list.len().to_string()
            }
            "LPOP" => self.pop(db, arg(1), "LEFT").unwrap_or_else(nil),
            "LRANGE" => match self.dbs[db].get(arg(1)) {
                Some(Data::List(elements)) => list(&elements.iter().cloned().collect::<Vec<_>>()),
                _ => list(&[]),
            },
            "LMOVE" => match self.pop(db, arg(1), arg(3)) {
                Some(element) => {
                    self.push(db, arg(2), element.clone(), arg(4));
                    element
                }
                None => nil(),
            },
            "SADD" => {
                let mut set = self.members(db, arg(1));
                let added = set.insert(argv[2].clone());
                self.put_set(db, arg(1), set);
                u8::from(added).to_string()
            }
            "SMOVE" => {
                let mut from = self.members(db, arg(1));
                if !from.remove(arg(3)) {
                    return "0".to_owned();
                }
                if arg(1) != arg(2) {
                    self.put_set(db, arg(1), from);
                    let mut to = self.members(db, arg(2));
                    to.insert(argv[3].clone());
                    self.put_set(db, arg(2), to);
                }
                "1".to_owned()
            }
            "SMEMBERS" => list(&self.members(db, arg(1)).into_iter().collect::<Vec<_>>()),
            "SUNION" => {
                let union: BTreeSet<String> = argv[1..].iter().flat_map(|key| self.members(db, key)).collect();
                list(&union.into_iter().collect::<Vec<_>>())
            }
            "SUNIONSTORE" => {
                let union = argv[2..].iter().flat_map(|key| self.members(db, key)).collect();
                self.put_set(db, arg(1), union).to_string()
            }
            "SINTERSTORE" | "SDIFFSTORE" => {
                let mut first = self.members(db, arg(2));
                for key in &argv[3..] {
                    let other = self.members(db, key);
                    first.retain(|member| other.contains(member) == (arg(0) == "SINTERSTORE"));
                }
                self.put_set(db, arg(1), first).to_string()
            }
            other => panic!("the model has no {other}"),
        }
    }
}

fn nil() -> String {
    "nil".to_owned()
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// A reply as the model would have it. The order of KEYS, SMEMBERS and SUNION is nobody's promise.
pub fn shown(call: &Call, reply: &Value) -> String {
    match call {
        Call::Exec(commands) => {
            let replies = reply.elements().unwrap_or_else(|| panic!("EXEC gave {reply}"));
            assert_eq!(replies.len(), commands.len(), "EXEC of {commands:?} gave {reply}");
            list(&commands.iter().zip(replies).map(|(argv, reply)| shown_command(argv, reply)).collect::<Vec<_>>())
        }
        Call::Command(argv) => shown_command(argv, reply),
        Call::Refused => String::new(),
    }
}

pub fn shown_command(argv: &[String], reply: &Value) -> String {
    match reply {
        Value::Nil | Value::NilArray => nil(),
        Value::Int(number) => number.to_string(),
        Value::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Value::Array(elements) => {
            let mut items: Vec<String> = elements.iter().map(|element| shown_command(&[], element)).collect();
            if argv.first().is_some_and(|name| matches!(name.as_str(), "KEYS" | "SMEMBERS" | "SUNION")) {
                items.sort();
            }
            list(&items)
        }
        other => other.text(),
    }
}
