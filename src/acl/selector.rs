//! A selector: one set of commands, keys and channels that are allowed together. Every user has one of its own, the root, and may
//! have more; a command is allowed if one of them allows all of it.
//!
//! What is printed are the rules about commands in the order in which they were given, as Redis 7.2 does: a rule that is said again,
//! or taken back, moves to the end, and one about a container replaces those about its subcommands. Said from the start they give
//! the same set again, which a test holds.
//!
//! Invariants: while `all_commands` is set no bit is asked; `all_keys` and `all_channels` imply that there are no patterns.

use std::collections::BTreeMap;

use super::rule::{RuleError, has_blanks};
use super::vocabulary::Vocabulary;
use crate::base::glob;
use crate::metrics::CommandId;
use crate::resp::OwnedArgs;
use crate::resp::words::split_words;

/// What a command does with a key, or what a pattern allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyNeed {
    /// The value is used or returned.
    pub read: bool,
    /// The value is changed.
    pub write: bool,
}

impl KeyNeed {
    /// Only reading.
    pub const READ: KeyNeed = KeyNeed { read: true, write: false };
    /// Both.
    pub const BOTH: KeyNeed = KeyNeed { read: true, write: true };

    fn covers(self, need: KeyNeed) -> bool {
        (self.read || !need.read) && (self.write || !need.write)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct KeyPattern {
    allows: KeyNeed,
    pattern: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandRule {
    allow: bool,
    /// `get`, `config|get`, `@read`, `select|0`.
    name: Vec<u8>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    all_commands: bool,
    /// Whether commands that nobody has named yet would be allowed: the rules begin with `+@all`.
    from_all: bool,
    /// A bit for each command, by number.
    commands: Vec<u64>,
    /// First arguments with which a command is allowed that is not allowed otherwise.
    first_args: BTreeMap<CommandId, Vec<Vec<u8>>>,
    rules: Vec<CommandRule>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Nothing is allowed, or nothing but all channels (`acl-pubsub-default`).
    pub fn new(all_channels: bool) -> Selector {
        Selector { all_channels, ..Selector::default() }
    }

    /// Whether everything is allowed.
    pub fn allows_everything(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Whether all keys are allowed, and all commands and channels for which that is not asked here.
    pub fn all_keys(&self) -> bool {
        self.all_keys
    }

    /// Whether all channels are allowed.
    pub fn all_channels(&self) -> bool {
        self.all_channels
    }

    /// The channel patterns.
    pub fn channels(&self) -> &[Vec<u8>] {
        &self.channels
    }

    /// Whether a command may run that has this first argument, behind its name or its subcommand's.
    pub fn allows_command(&self, id: CommandId, first_arg: Option<&[u8]>) -> bool {
        self.all_commands || self.has(id) || self.allows_first_arg(id, first_arg)
    }

    fn has(&self, id: CommandId) -> bool {
        self.commands.get(usize::from(id.0 / 64)).is_some_and(|bits| bits >> (id.0 % 64) & 1 == 1)
    }

    #[cold]
    fn allows_first_arg(&self, id: CommandId, first_arg: Option<&[u8]>) -> bool {
        let (Some(known), Some(first_arg)) = (self.first_args.get(&id), first_arg) else { return false };
        known.iter().any(|known| known.eq_ignore_ascii_case(first_arg))
    }

    /// Whether this may be done with this key.
    pub fn allows_key(&self, key: &[u8], need: KeyNeed) -> bool {
        self.all_keys
            || self.keys.iter().any(|known| known.allows.covers(need) && glob::matches(&known.pattern, key, false))
    }

    /// Whether this may be done with any key there could be.
    pub fn allows_any_key(&self, need: KeyNeed) -> bool {
        self.all_keys || self.keys.iter().any(|known| known.allows.covers(need) && known.pattern == b"*")
    }

    /// Whether a channel, or a pattern of channels, may be used. A pattern has to be allowed as it is.
    pub fn allows_channel(&self, name: &[u8], is_pattern: bool) -> bool {
        self.all_channels || allows_channel(&self.channels, name, is_pattern)
    }

    /// Changes it by one rule.
    pub fn apply(&mut self, rule: &[u8], words: &Vocabulary) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            _ if is("allkeys") || is("~*") => (self.all_keys, self.keys) = (true, Vec::new()),
            _ if is("resetkeys") => (self.all_keys, self.keys) = (false, Vec::new()),
            _ if is("allchannels") || is("&*") => (self.all_channels, self.channels) = (true, Vec::new()),
            _ if is("resetchannels") => (self.all_channels, self.channels) = (false, Vec::new()),
            _ if is("allcommands") || is("+@all") => self.set_all(true, words),
            _ if is("nocommands") || is("-@all") => self.set_all(false, words),
            [b'~' | b'%', ..] => self.add_keys(rule)?,
            [b'&', pattern @ ..] => self.add_channels(pattern)?,
            [sign @ (b'+' | b'-'), b'@', name @ ..] => self.set_category(name, *sign == b'+', words)?,
            [b'+', name @ ..] => self.add_command(name, words)?,
            [b'-', name @ ..] => {
                let id = words.find(name).ok_or(RuleError::Unknown)?;
                self.set_command(id, false, words);
                self.note(words.word(id).full_name.as_bytes(), false);
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    /// Of the rules between parentheses. What would not be read back as it is printed, a quote or a closing parenthesis, is refused.
    pub fn parse(rules: &[u8], all_channels: bool, words: &Vocabulary) -> Result<Selector, RuleError> {
        let mut selector = Selector::new(all_channels);
        let mut split = OwnedArgs::new();
        split_words(rules, &mut split).map_err(|_| RuleError::Syntax)?;
        for rule in split.as_args().iter() {
            if rule.ends_with(b")") || rule.iter().any(|byte| b"\"'".contains(byte)) {
                return Err(RuleError::Syntax);
            }
            selector.apply(rule, words)?;
        }
        Ok(selector)
    }

    fn set_all(&mut self, allow: bool, words: &Vocabulary) {
        (self.all_commands, self.from_all) = (allow, allow);
        self.commands = vec![if allow { u64::MAX } else { 0 }; words.len().div_ceil(64)];
        self.first_args.clear();
        self.rules.clear();
    }

    fn set_bit(&mut self, id: CommandId, allow: bool, words: &Vocabulary) {
        let others = if self.from_all { u64::MAX } else { 0 };
        self.commands.resize(words.len().div_ceil(64), others);
        let bits = &mut self.commands[usize::from(id.0 / 64)];
        if allow {
            *bits |= 1 << (id.0 % 64);
        } else {
            *bits &= !(1 << (id.0 % 64));
            self.all_commands = false;
        }
        self.first_args.remove(&id);
    }

    /// A command, and with a container its subcommands.
    fn set_command(&mut self, id: CommandId, allow: bool, words: &Vocabulary) {
        self.set_bit(id, allow, words);
        for child in &words.word(id).children {
            self.set_bit(*child, allow, words);
        }
    }

    fn set_category(&mut self, name: &[u8], allow: bool, words: &Vocabulary) -> Result<(), RuleError> {
        let (name, members) = words.category(name).ok_or(RuleError::Unknown)?;
        for id in members {
            self.set_bit(*id, allow, words);
        }
        self.note(format!("@{name}").as_bytes(), allow);
        Ok(())
    }

    fn add_command(&mut self, name: &[u8], words: &Vocabulary) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let id = words.find(name).ok_or(RuleError::Unknown)?;
            self.set_command(id, true, words);
            self.note(words.word(id).full_name.as_bytes(), true);
            return Ok(());
        };
        let (command, first_arg) = (&name[..bar], &name[bar + 1..]);
        let id = words.find(command).ok_or(RuleError::Unknown)?;
        if words.word(id).parent.is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if first_arg.is_empty() || has_blanks(first_arg) {
            return Err(RuleError::Syntax);
        }
        if words.word(id).children.is_empty() {
            let known = self.first_args.entry(id).or_default();
            if !known.iter().any(|known| known.eq_ignore_ascii_case(first_arg)) {
                known.push(first_arg.to_vec());
            }
        } else {
            let id = words.find(name).ok_or(RuleError::Unknown)?;
            self.set_command(id, true, words);
        }
        self.note(name, true);
        Ok(())
    }

    /// Remembers a rule about commands, instead of what it makes void.
    fn note(&mut self, name: &[u8], allow: bool) {
        let name = name.to_ascii_lowercase();
        self.rules.retain(|rule| match rule.name.strip_prefix(&name[..]) {
            Some(rest) => !rest.is_empty() && rest[0] != b'|',
            None => true,
        });
        self.rules.push(CommandRule { allow, name });
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        let tilde = rule.iter().position(|byte| *byte == b'~').ok_or(RuleError::Syntax)?;
        let allows = match &rule[..tilde] {
            [] => KeyNeed::BOTH,
            [b'%', letters @ ..] => {
                let mut allows = KeyNeed::default();
                for letter in letters {
                    let part = match letter.to_ascii_uppercase() {
                        b'R' => &mut allows.read,
                        b'W' => &mut allows.write,
                        _ => return Err(RuleError::Syntax),
                    };
                    if std::mem::replace(part, true) {
                        return Err(RuleError::Syntax);
                    }
                }
                allows
            }
            _ => return Err(RuleError::Syntax),
        };
        let pattern = &rule[tilde + 1..];
        if allows == KeyNeed::default() || has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => {
                known.allows.read |= allows.read;
                known.allows.write |= allows.write;
            }
            None => self.keys.push(KeyPattern { allows, pattern: pattern.to_vec() }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelsAfterAll);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    /// The rules about commands, as ACL GETUSER shows them.
    pub fn print_commands(&self) -> Vec<u8> {
        let mut out = if self.from_all { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for rule in &self.rules {
            out.extend_from_slice(if rule.allow { b" +" } else { b" -" });
            out.extend_from_slice(&rule.name);
        }
        out
    }

    /// The key patterns, as ACL GETUSER shows them.
    pub fn print_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let one = |known: &KeyPattern| {
            let before: &[u8] = match (known.allows.read, known.allows.write) {
                (true, true) => b"~",
                (true, false) => b"%R~",
                (false, _) => b"%W~",
            };
            [before, &known.pattern].concat()
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }

    /// The channel patterns, as ACL GETUSER shows them.
    pub fn print_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        self.channels.iter().map(|known| [b"&", &known[..]].concat()).collect::<Vec<_>>().join(&b' ')
    }

    /// All of it, as ACL LIST shows it.
    pub fn print(&self) -> Vec<u8> {
        let mut out = self.print_keys();
        if !out.is_empty() {
            out.push(b' ');
        }
        if !self.all_channels {
            out.extend_from_slice(b"resetchannels ");
        }
        let channels = self.print_channels();
        if !channels.is_empty() {
            out.extend_from_slice(&channels);
            out.push(b' ');
        }
        out.extend_from_slice(&self.print_commands());
        out
    }
}

/// Whether one of these patterns allows a channel, or is this pattern of channels.
pub fn allows_channel(patterns: &[Vec<u8>], name: &[u8], is_pattern: bool) -> bool {
    patterns.iter().any(|known| if is_pattern { known == name } else { glob::matches(known, name, false) })
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::tests::sample;
    use super::*;

    fn selector(rules: &str) -> Selector {
        Selector::parse(rules.as_bytes(), false, &sample()).unwrap_or_else(|error| panic!("{rules}: {error}"))
    }

    fn printed(rules: &str) -> String {
        String::from_utf8(selector(rules).print()).unwrap()
    }

    fn allowed(rules: &str) -> Vec<String> {
        let (words, selector) = (sample(), selector(rules));
        let all = (0..words.len() as u16).map(CommandId);
        all.filter(|id| selector.allows_command(*id, None)).map(|id| words.word(id).full_name.clone()).collect()
    }

    #[test]
    fn rules_are_printed_in_their_order_and_the_last_word_counts() {
        for (rules, wanted) in [
            ("", "resetchannels -@all"),
            ("+get +set -get", "resetchannels -@all +set -get"),
            ("+get +get", "resetchannels -@all +get"),
            ("+@read -GET +@Read", "resetchannels -@all -get +@read"),
            ("+config|get -config", "resetchannels -@all -config"),
            ("+config -config|get +config|get", "resetchannels -@all +config +config|get"),
            ("+@all -@read", "resetchannels +@all -@read"),
            ("+get +@all", "resetchannels +@all"),
            ("+SELECT|A", "resetchannels -@all +select|a"),
            ("~a %R~b %W~b %w~c &x &x", "~a ~b %W~c resetchannels &x -@all"),
            ("allkeys allchannels allcommands", "~* &* +@all"),
            ("~* resetkeys ~x &* resetchannels &y +@all nocommands", "~x resetchannels &y -@all"),
        ] {
            assert_eq!(printed(rules), wanted, "{rules}");
            assert_eq!(printed(&printed(rules)), wanted, "{rules}, printed and read again");
            assert_eq!(allowed(&printed(rules)), allowed(rules), "{rules}, printed and read again");
        }
    }

    #[test]
    fn categories_and_containers_bring_what_they_hold() {
        assert_eq!(allowed("+@slow"), ["config", "config|get", "config|set"]);
        assert_eq!(allowed("+config -config|set"), ["config", "config|get"]);
        assert_eq!(allowed("+config|get"), ["config|get"]);
        assert_eq!(allowed("+@all -@admin -@fast"), ["config"]);
        assert!(
            !selector("+@all -get +get").allows_everything(),
            "as in Redis, one rule taken back is looked at for ever"
        );
    }

    #[test]
    fn a_first_argument_opens_a_command_that_is_closed() {
        let (words, select) = (sample(), CommandId(2));
        let selector = selector("+select|0 +select|x");
        for (arg, allowed) in [(Some(&b"0"[..]), true), (Some(b"X"), true), (Some(b"1"), false), (None, false)] {
            assert_eq!(selector.allows_command(select, arg), allowed, "{arg:?}");
        }
        let mut taken_back = selector.clone();
        taken_back.apply(b"-select", &words).unwrap();
        assert!(!taken_back.allows_command(select, Some(b"0")));
    }

    #[test]
    fn keys_and_channels_are_allowed_by_pattern() {
        let selector = selector("~a* %R~r* %W~w* &news.* &exact");
        let (read, write) = (KeyNeed::READ, KeyNeed { read: false, write: true });
        for (key, need, allowed) in [
            ("a1", KeyNeed::BOTH, true),
            ("r1", read, true),
            ("r1", write, false),
            ("w1", write, true),
            ("w1", KeyNeed::BOTH, false),
            ("w1", KeyNeed::default(), true),
            ("x", KeyNeed::default(), false),
        ] {
            assert_eq!(selector.allows_key(key.as_bytes(), need), allowed, "{key} {need:?}");
        }
        assert!(selector.allows_channel(b"news.a", false) && !selector.allows_channel(b"other", false));
        assert!(selector.allows_channel(b"news.*", true) && !selector.allows_channel(b"news.a*", true));
        assert!(!selector.allows_any_key(read) && self::selector("%R~*").allows_any_key(read));
        assert!(!self::selector("%R~*").allows_any_key(KeyNeed::BOTH) && self::selector("~*").allows_any_key(write));
    }

    #[test]
    fn cve_2024_31227_malformed_rules_are_errors() {
        for (rule, error) in [
            ("%", RuleError::Syntax),
            ("%~", RuleError::Syntax),
            ("%~a", RuleError::Syntax),
            ("%R", RuleError::Syntax),
            ("%RR~a", RuleError::Syntax),
            ("%X~a", RuleError::Syntax),
            ("%Ra", RuleError::Syntax),
            ("a~b", RuleError::Syntax),
            ("(+get)", RuleError::Syntax),
            ("foo", RuleError::Syntax),
            ("", RuleError::Syntax),
            ("~a b", RuleError::Syntax),
            ("&a\tb", RuleError::Syntax),
            ("+", RuleError::Unknown),
            ("+@", RuleError::Unknown),
            ("+nosuch", RuleError::Unknown),
            ("-select|0", RuleError::Unknown),
            ("+config|nosuch", RuleError::Unknown),
            ("+get|", RuleError::Syntax),
            ("+config|get|x", RuleError::FirstArgOfSubcommand),
            ("+@nosuch", RuleError::Unknown),
        ] {
            assert_eq!(Selector::new(false).apply(rule.as_bytes(), &sample()), Err(error), "{rule}");
        }
        let mut all = selector("~* &*");
        assert_eq!(all.apply(b"~a", &sample()), Err(RuleError::KeysAfterAll));
        assert_eq!(all.apply(b"&a", &sample()), Err(RuleError::ChannelsAfterAll));
        for rules in ["+get \"~a", "~\"a\\\"b\"", "~a) +get"] {
            assert_eq!(Selector::parse(rules.as_bytes(), false, &sample()), Err(RuleError::Syntax), "{rules}");
        }
    }
}
