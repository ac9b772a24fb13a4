//! The names that rules can say: commands, subcommands and categories.
//!
//! Plain data, built once from the command table and shared by all cores. Names are those of the rows: `rename-command` does not
//! change what a rule means. Absent on purpose: everything else about a command.

use std::collections::HashMap;

use crate::metrics::CommandId;

/// A command or subcommand.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// `get`, or `config|get`.
    pub full_name: String,
    /// The container, for a subcommand.
    pub parent: Option<CommandId>,
    /// The subcommands, for a container.
    pub children: Vec<CommandId>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    words: Vec<Word>,
    by_name: HashMap<String, CommandId>,
    categories: Vec<(&'static str, Vec<CommandId>)>,
}

impl Vocabulary {
    /// Of these commands, by number; `is_in` says which belong to which category.
    pub fn new(
        words: Vec<Word>,
        categories: &[&'static str],
        is_in: impl Fn(CommandId, &'static str) -> bool,
    ) -> Vocabulary {
        let ids = || (0..words.len()).map(|at| CommandId(u16::try_from(at).expect("a few hundred commands")));
        let by_name = ids().map(|id| (words[usize::from(id.0)].full_name.clone(), id)).collect();
        let members = |category: &'static str| {
            // A container takes all its subcommands along, whatever they are by themselves.
            let own = ids().filter(|id| is_in(*id, category));
            let mut members: Vec<CommandId> = own
                .flat_map(|id| std::iter::once(id).chain(words[usize::from(id.0)].children.iter().copied()))
                .collect();
            members.sort_unstable();
            members.dedup();
            (category, members)
        };
        let categories = categories.iter().map(|category| members(category)).collect();
        Vocabulary { words, by_name, categories }
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The command of this full name, in any case.
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.by_name.get(&name).copied()
    }

    /// By number.
    pub fn word(&self, id: CommandId) -> &Word {
        &self.words[usize::from(id.0)]
    }

    /// A category's name as it is printed, and its commands with the subcommands of its containers; the name in any case.
    pub fn category(&self, name: &[u8]) -> Option<(&'static str, &[CommandId])> {
        let found = self.categories.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        found.map(|(name, members)| (*name, &members[..]))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// get, set, select, config, config|get, config|set, publish: @read, @write and so on.
    pub fn sample() -> Vocabulary {
        let names = ["get", "set", "select", "config", "config|get", "config|set", "publish"];
        let id = |name: &str| names.iter().position(|known| *known == name).map(|at| CommandId(at as u16));
        let words = names.iter().map(|name| Word {
            full_name: name.to_string(),
            parent: name.split_once('|').and_then(|(parent, _)| id(parent)),
            children: names
                .iter()
                .filter(|other| other.split_once('|').is_some_and(|(parent, _)| parent == *name))
                .filter_map(|other| id(other))
                .collect(),
        });
        let members: [(&str, &[&str]); 5] = [
            ("read", &["get"]),
            ("write", &["set"]),
            ("admin", &["config|get", "config|set"]),
            ("slow", &["config", "config|get", "config|set"]),
            ("fast", &["get", "set", "select", "publish"]),
        ];
        Vocabulary::new(words.collect(), &["read", "write", "admin", "slow", "fast"], |id, category| {
            members.iter().any(|(name, members)| *name == category && members.contains(&names[usize::from(id.0)]))
        })
    }

    #[test]
    fn names_are_found_in_any_case_and_containers_bring_their_subcommands() {
        let vocabulary = sample();
        assert_eq!(vocabulary.find(b"GET"), Some(CommandId(0)));
        assert_eq!(vocabulary.find(b"Config|Get"), Some(CommandId(4)));
        for unknown in [&b""[..], b"config|nosuch", b"get|x", b"\xff", b"nosuch"] {
            assert_eq!(vocabulary.find(unknown), None);
        }
        assert_eq!(vocabulary.category(b"SLOW").unwrap().1.len(), 3);
        assert!(vocabulary.category(b"all").is_none() && vocabulary.category(b"").is_none());
    }
}
