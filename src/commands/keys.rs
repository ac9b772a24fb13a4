//! Where a command's keys are: one specification, read by routing, reservations, ACL checks and COMMAND GETKEYS alike, so that
//! the keys that are checked are always the keys that are used.
//!
//! The form is that of Redis 7's key specifications: where the search begins, how the keys lie from there, and what the
//! command does with them.

use super::table::{Command, Flags};
use crate::resp::Args;

/// What a command does with the keys of one specification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyFlags(pub u16);

impl KeyFlags {
    /// Reads and writes the value.
    pub const RW: KeyFlags = KeyFlags(1);
    /// Only reads it.
    pub const RO: KeyFlags = KeyFlags(1 << 1);
    /// Overwrites it unseen.
    pub const OW: KeyFlags = KeyFlags(1 << 2);
    /// Removes it.
    pub const RM: KeyFlags = KeyFlags(1 << 3);
    /// Returns or uses the data.
    pub const ACCESS: KeyFlags = KeyFlags(1 << 4);
    /// Changes the data depending on what it was.
    pub const UPDATE: KeyFlags = KeyFlags(1 << 5);
    /// Adds data without looking at it.
    pub const INSERT: KeyFlags = KeyFlags(1 << 6);
    /// Deletes part of the data.
    pub const DELETE: KeyFlags = KeyFlags(1 << 7);
    /// Not a key at all, but routed like one.
    pub const NOT_KEY: KeyFlags = KeyFlags(1 << 8);
    /// There may be more keys than this specification finds.
    pub const INCOMPLETE: KeyFlags = KeyFlags(1 << 9);
    /// Some arguments change the flags.
    pub const VARIABLE_FLAGS: KeyFlags = KeyFlags(1 << 10);

    const NAMES: [(KeyFlags, &'static str); 11] = [
        (KeyFlags::RW, "RW"),
        (KeyFlags::RO, "RO"),
        (KeyFlags::OW, "OW"),
        (KeyFlags::RM, "RM"),
        (KeyFlags::ACCESS, "access"),
        (KeyFlags::UPDATE, "update"),
        (KeyFlags::INSERT, "insert"),
        (KeyFlags::DELETE, "delete"),
        (KeyFlags::NOT_KEY, "not_key"),
        (KeyFlags::INCOMPLETE, "incomplete"),
        (KeyFlags::VARIABLE_FLAGS, "variable_flags"),
    ];

    /// Both.
    pub const fn and(self, other: KeyFlags) -> KeyFlags {
        KeyFlags(self.0 | other.0)
    }

    /// Whether all of `other` is set.
    pub const fn has(self, other: KeyFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names that COMMAND INFO shows, in its order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(f, _)| self.has(*f)).map(|(_, n)| n)
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument; the command's name is argument 0.
    Index(usize),
    /// Behind this word, which is looked for from this argument on (negative: backwards from the end).
    Keyword(&'static str, i32),
    /// Behind this word where it stands for an option from this argument on, the last time if there are several; the other words
    /// are options with so many arguments, which are passed over. Clients are told that it cannot be told: Redis has no name for it.
    Option(&'static str, usize, &'static [(&'static str, usize)]),
    /// As `Option`, where clients are told of a [`Begin::Keyword`], as Redis tells them: a client that looks for the word alone may find it
    /// where it is an argument of another option, and would take other keys for those that are used.
    OptionKeyword {
        /// What clients are told.
        told: (&'static str, i32),
        /// Where options begin.
        from: usize,
        /// Whether the last one counts; else the first ends the options.
        last: bool,
        /// Other options, with so many arguments.
        others: &'static [(&'static str, usize)],
    },
    /// Cannot be told without the data: such keys are not among those that a command names.
    Unknown,
}

/// How the keys lie from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// Up to `last` arguments behind the first (negative: counted from the end, -1 the last one), each `step` apart; of what is
    /// left of the arguments only one in `limit`, if that is above 1.
    Range {
        /// See above.
        last: i32,
        /// See above.
        step: i32,
        /// See above.
        limit: i32,
    },
    /// Argument `count_at` behind the beginning says how many; the first stands `first` behind it, each `step` apart.
    Count {
        /// See above.
        count_at: i32,
        /// See above.
        first: i32,
        /// See above.
        step: i32,
    },
    /// Cannot be told.
    Unknown,
}

/// One key specification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySpec {
    /// What is done with the keys.
    pub flags: KeyFlags,
    /// Where to begin.
    pub begin: Begin,
    /// How to go on.
    pub find: Find,
}

impl KeySpec {
    /// One key, at argument `at`.
    pub const fn one(at: usize, flags: KeyFlags) -> KeySpec {
        KeySpec { flags, begin: Begin::Index(at), find: Find::Range { last: 0, step: 1, limit: 0 } }
    }

    /// Keys from argument `at` to the end, each `step` apart.
    pub const fn rest(at: usize, step: i32, flags: KeyFlags) -> KeySpec {
        KeySpec { flags, begin: Begin::Index(at), find: Find::Range { last: -1, step, limit: 0 } }
    }

    /// First, last and step, as the old fields of COMMAND INFO give them; last is counted from the front or, if negative, from the
    /// end.
    pub fn as_range(&self) -> Option<(i32, i32, i32)> {
        match (self.begin, self.find) {
            (Begin::Index(at), Find::Range { last, step, limit: 0 | 1 }) => {
                let first = at as i32;
                Some((first, if last >= 0 { first + last } else { last }, step))
            }
            _ => None,
        }
    }

    /// The position of the first key, where it does not depend on the arguments.
    pub fn first_position(&self) -> Option<usize> {
        match (self.begin, self.find) {
            (Begin::Index(at), Find::Range { .. }) => Some(at),
            _ => None,
        }
    }

    /// Calls `visit` with the position of each key in these arguments. Err if the arguments contradict the specification.
    fn visit(&self, args: Args<'_>, visit: &mut impl FnMut(usize, KeyFlags)) -> Result<(), BadKeys> {
        let argc = args.len() as i64;
        let begin = match self.begin {
            Begin::Index(at) => at as i64,
            Begin::Keyword(word, from) => match find_keyword(args, word, from) {
                Some(at) => at + 1,
                None => return Ok(()),
            },
            Begin::Option(word, from, others) => match find_option(args, word, from, true, others) {
                Some(at) => at,
                None => return Ok(()),
            },
            Begin::OptionKeyword { told: (word, _), from, last, others } => {
                match find_option(args, word, from, last, others) {
                    Some(at) => at,
                    None => return Ok(()),
                }
            }
            Begin::Unknown => return Ok(()),
        };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let last = match i64::from(last) {
                    l if l >= 0 => begin + l,
                    l if limit > 1 => begin + (argc - begin) / i64::from(limit) + l,
                    l => argc + l,
                };
                (begin, last, i64::from(step))
            }
            Find::Count { count_at, first, step } => {
                let at = begin + i64::from(count_at);
                if at >= argc {
                    return Err(BadKeys);
                }
                let count = leading_number(args.get(at as usize)).ok_or(BadKeys)?;
                if !(0..argc).contains(&count) {
                    return Err(BadKeys);
                }
                let first = begin + i64::from(first);
                (first, first + (count - 1) * i64::from(step), i64::from(step))
            }
            Find::Unknown => return Err(BadKeys),
        };
        if first < 1 || last >= argc || step < 1 {
            return Err(BadKeys);
        }
        let mut at = first;
        while at <= last {
            visit(at as usize, self.flags);
            at += step;
        }
        Ok(())
    }
}

/// The arguments do not have the keys that the command's specification says they have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadKeys;

fn find_keyword(args: Args<'_>, word: &str, from: i32) -> Option<i64> {
    let argc = args.len();
    let is_word = |i: &usize| args.get(*i).eq_ignore_ascii_case(word.as_bytes());
    if from >= 0 {
        (from as usize..argc).find(is_word).map(|i| i as i64)
    } else {
        let start = argc.checked_sub(from.unsigned_abs() as usize)?;
        (1..=start).rev().find(is_word).map(|i| i as i64)
    }
}

/// The argument of the last option of this name, or of the first.
fn find_option(args: Args<'_>, word: &str, from: usize, last: bool, others: &[(&str, usize)]) -> Option<i64> {
    let is = |at: usize, word: &str| args.get(at).eq_ignore_ascii_case(word.as_bytes());
    let (mut at, mut found) = (from, None);
    while at < args.len() {
        if is(at, word) && at + 1 < args.len() {
            found = Some(at as i64 + 1);
            if !last {
                return found;
            }
            at += 1;
        } else {
            at += others.iter().find(|(other, _)| is(at, other)).map_or(0, |(_, arguments)| *arguments);
        }
        at += 1;
    }
    found
}

/// Calls `visit` with the position and flags of each key of a command.
///
/// Err when the arguments do not fit a specification, for example a count of keys that is larger than what follows; the keys of the
/// others have been visited all the same.
#[inline]
pub fn each_key(command: &Command, args: Args<'_>, mut visit: impl FnMut(usize, KeyFlags)) -> Result<(), BadKeys> {
    let mut outcome = Ok(());
    for spec in command.row.keys {
        if !spec.flags.has(KeyFlags::NOT_KEY) {
            outcome = outcome.and(spec.visit(args, &mut visit));
        }
    }
    outcome
}

/// As [`each_key`], with flags that say what this call does with the key, where its arguments decide. This is what access is checked
/// by and what COMMAND GETKEYSANDFLAGS tells.
#[inline]
pub fn each_key_used(command: &Command, args: Args<'_>, mut visit: impl FnMut(usize, KeyFlags)) -> Result<(), BadKeys> {
    each_key(command, args, |at, flags| visit(at, decided(command, args, flags)))
}

/// What is done with a key, where arguments decide.
fn decided(command: &Command, args: Args<'_>, flags: KeyFlags) -> KeyFlags {
    if !flags.has(KeyFlags::VARIABLE_FLAGS) {
        return flags;
    }
    let says = |word: &[u8], from: usize| args.iter().skip(from).any(|arg| arg.eq_ignore_ascii_case(word));
    match command.row.name {
        // It reads the old value if it is to return it, or looks whether it is the one that is to be replaced.
        "set" if !says(b"GET", 3) && !says(b"IFEQ", 3) && !says(b"IFNE", 3) => KeyFlags::OW.and(KeyFlags::UPDATE),
        "bitfield" if !says(b"SET", 2) && !says(b"INCRBY", 2) => KeyFlags::RO.and(KeyFlags::ACCESS),
        _ => KeyFlags(flags.0 & !KeyFlags::VARIABLE_FLAGS.0),
    }
}

/// As [`each_key`], with what is no key and routed like one (shard channels).
pub fn each_routed(command: &Command, args: Args<'_>, mut visit: impl FnMut(usize)) -> Result<(), BadKeys> {
    command.row.keys.iter().try_for_each(|spec| spec.visit(args, &mut |at, _| visit(at)))
}

/// Whether the command names keys at all, be it only with some arguments.
pub fn has_keys(command: &Command) -> bool {
    command.row.keys.iter().any(|k| !k.flags.has(KeyFlags::NOT_KEY))
}

/// Whether a call of this command without any key is in order.
pub fn keys_are_optional(command: &Command) -> bool {
    command.row.flags.has(Flags::NO_MANDATORY_KEYS)
}

/// The number that a word begins with, as C's `atoi` reads it: Redis looks for keys by that, before anything asks for a proper number.
fn leading_number(word: &[u8]) -> Option<i64> {
    let word = word.trim_ascii_start();
    let sign = usize::from(matches!(word.first(), Some(b'-' | b'+')));
    let digits = word[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = str::from_utf8(&word[sign..sign + digits]).ok()?.parse::<i64>().ok()?;
    Some(if word.first() == Some(&b'-') { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn positions(spec: KeySpec, words: &[&str]) -> Result<Vec<usize>, BadKeys> {
        let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let args = OwnedArgs::from_slices(&words);
        let mut found = Vec::new();
        spec.visit(args.as_args(), &mut |at, _| found.push(at))?;
        Ok(found)
    }

    #[test]
    fn one_key_is_where_it_is_said_to_be() {
        assert_eq!(positions(KeySpec::one(1, KeyFlags::RO), &["get", "k"]), Ok(vec![1]));
        assert_eq!(positions(KeySpec::one(2, KeyFlags::RO), &["object", "freq"]), Err(BadKeys));
    }

    #[test]
    fn every_second_argument_may_be_a_key() {
        let spec = KeySpec::rest(1, 2, KeyFlags::OW);
        assert_eq!(positions(spec, &["mset", "a", "1", "b", "2"]), Ok(vec![1, 3]));
    }

    #[test]
    fn a_limit_halves_what_is_left() {
        let spec = KeySpec {
            flags: KeyFlags::RO,
            begin: Begin::Keyword("STREAMS", 1),
            find: Find::Range { last: -1, step: 1, limit: 2 },
        };
        assert_eq!(positions(spec, &["xread", "count", "5", "streams", "a", "b", "1", "2"]), Ok(vec![4, 5]));
    }

    #[test]
    fn a_count_of_keys_is_checked_against_what_follows() {
        let spec = KeySpec {
            flags: KeyFlags::RO,
            begin: Begin::Index(1),
            find: Find::Count { count_at: 0, first: 1, step: 1 },
        };
        assert_eq!(positions(spec, &["lmpop", "2", "a", "b", "left"]), Ok(vec![2, 3]));
        // The handler refuses such a count, and users are asked for what Redis asks them for until it does.
        assert_eq!(positions(spec, &["lmpop", "1e3", "a", "left"]), Ok(vec![2]));
        assert_eq!(positions(spec, &["lmpop", "x1", "a"]), Err(BadKeys));
        assert_eq!(positions(spec, &["lmpop", "9", "a"]), Err(BadKeys));
        assert_eq!(positions(spec, &["lmpop", "-1", "a"]), Err(BadKeys));
        assert_eq!(positions(spec, &["lmpop", "9223372036854775807", "a"]), Err(BadKeys));
    }

    #[test]
    fn an_option_is_not_mistaken_for_an_argument_of_another() {
        let spec = KeySpec {
            flags: KeyFlags::OW,
            begin: Begin::Option("STORE", 2, &[("LIMIT", 2), ("GET", 1)]),
            find: Find::Range { last: 0, step: 1, limit: 0 },
        };
        assert_eq!(positions(spec, &["sort", "k", "get", "store", "store", "a"]), Ok(vec![5]));
        assert_eq!(
            positions(spec, &["sort", "k", "limit", "store", "x", "desc", "store", "a", "STORE", "b"]),
            Ok(vec![9])
        );
        assert_eq!(positions(spec, &["sort", "k", "store", "store", "a"]), Ok(vec![3]));
        assert_eq!(positions(spec, &["sort", "k", "store"]), Ok(vec![]));
        assert_eq!(positions(spec, &["sort", "store"]), Ok(vec![]));
    }

    #[test]
    fn a_keyword_is_found_where_the_command_finds_it() {
        let streams = KeySpec {
            flags: KeyFlags::RO,
            begin: Begin::OptionKeyword {
                told: ("STREAMS", 4),
                from: 1,
                last: false,
                others: &[("COUNT", 1), ("GROUP", 2)],
            },
            find: Find::Range { last: -1, step: 1, limit: 2 },
        };
        let words = ["xreadgroup", "count", "1", "group", "STREAMS", "c", "STREAMS", "streams", ">"];
        assert_eq!(positions(streams, &words), Ok(vec![7]));
        let store = KeySpec {
            flags: KeyFlags::OW,
            begin: Begin::OptionKeyword { told: ("STORE", 6), from: 6, last: true, others: &[("STOREDIST", 1)] },
            find: Find::Range { last: 0, step: 1, limit: 0 },
        };
        let words = "georadius k 1 2 3 km STOREDIST STORE store a store b";
        assert_eq!(positions(store, &words.split(' ').collect::<Vec<_>>()), Ok(vec![11]));
    }

    #[test]
    fn a_keyword_may_be_looked_for_from_the_end() {
        let spec = KeySpec {
            flags: KeyFlags::RW,
            begin: Begin::Keyword("KEYS", -2),
            find: Find::Range { last: -1, step: 1, limit: 0 },
        };
        assert_eq!(positions(spec, &["migrate", "h", "1", "", "0", "9", "keys", "a", "b"]), Ok(vec![7, 8]));
    }
}
