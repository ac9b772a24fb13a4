//! What one setting may be: how it is read from words, printed, and described to someone who got it wrong.
//!
//! A rule belongs to a row of the table and to the type of the field behind that row. Printing is exactly what Redis
//! prints for CONFIG GET, and a [`Refusal`] is exactly the reason that Redis gives in the error of CONFIG SET;
//! `wants` is our own wording for configuration files and the command line. Rules hold no state.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;

use super::units;
use super::values::{Choice, MemoryOrPercent, Text};
use crate::base::{num, size};

/// Why a value was not taken, in the words of Redis.
pub(super) type Refusal = Cow<'static, str>;

/// How the values of one setting are read and printed.
pub(super) trait Rule {
    /// The type of the field.
    type Value;
    /// Takes any number of words; other settings take exactly one.
    const MANY: bool = false;
    /// Changes `value` to what `words` say, or leaves it alone and says why.
    fn assign(&self, value: &mut Self::Value, words: &[&[u8]]) -> Result<(), Refusal>;
    /// The value as CONFIG GET shows it.
    fn print(&self, value: &Self::Value) -> Vec<u8>;
    /// The value as a person would write it into a file.
    fn spell(&self, value: &Self::Value) -> Vec<u8> {
        self.print(value)
    }
    /// What is allowed, to follow the word "wants".
    fn wants(&self) -> String;
}

pub(super) const WRONG_COUNT: Refusal = Cow::Borrowed("wrong number of arguments");

/// The only word, for rules that take one.
fn single<'word>(words: &[&'word [u8]]) -> Result<&'word [u8], Refusal> {
    match words {
        [word] => Ok(word),
        _ => Err(WRONG_COUNT),
    }
}

fn out_of_range(min: impl Display, max: impl Display) -> Refusal {
    format!("argument must be between {min} and {max} inclusive").into()
}

/// `yes` or `no`.
pub(super) struct YesNo;

impl Rule for YesNo {
    type Value = bool;

    fn assign(&self, value: &mut bool, words: &[&[u8]]) -> Result<(), Refusal> {
        let word = single(words)?;
        *value = if word.eq_ignore_ascii_case(b"yes") {
            true
        } else if word.eq_ignore_ascii_case(b"no") {
            false
        } else {
            return Err("argument must be 'yes' or 'no'".into());
        };
        Ok(())
    }

    fn print(&self, value: &bool) -> Vec<u8> {
        if *value { b"yes".to_vec() } else { b"no".to_vec() }
    }

    fn wants(&self) -> String {
        "yes or no".to_owned()
    }
}

/// An integer between two bounds, both included.
pub(super) struct Number<T> {
    min: i64,
    max: i64,
    /// What a legal value is pulled into before it is stored.
    kept_min: i64,
    kept_max: i64,
    field: PhantomData<T>,
}

/// An integer from `min` to `max`.
pub(super) const fn number<T>(min: i64, max: i64) -> Number<T> {
    Number { min, max, kept_min: min, kept_max: max, field: PhantomData }
}

impl<T> Number<T> {
    /// Values outside `kept_min..=kept_max` are legal but stored as the nearer bound.
    pub(super) const fn kept_within(mut self, kept_min: i64, kept_max: i64) -> Self {
        self.kept_min = kept_min;
        self.kept_max = kept_max;
        self
    }
}

impl<T: Copy + TryFrom<i64> + Into<i64>> Rule for Number<T> {
    type Value = T;

    fn assign(&self, value: &mut T, words: &[&[u8]]) -> Result<(), Refusal> {
        let number = num::parse_i64(single(words)?).ok_or("argument couldn't be parsed into an integer")?;
        if number < self.min || number > self.max {
            return Err(out_of_range(self.min, self.max));
        }
        let kept = number.clamp(self.kept_min, self.kept_max);
        *value = T::try_from(kept).map_err(|_| out_of_range(self.min, self.max))?;
        Ok(())
    }

    fn print(&self, value: &T) -> Vec<u8> {
        let number: i64 = (*value).into();
        number.to_string().into_bytes()
    }

    fn wants(&self) -> String {
        match (self.min, self.max) {
            (i64::MIN | -2_147_483_648, i64::MAX | 2_147_483_647) => "a whole number".to_owned(),
            (min, i64::MAX | 2_147_483_647 | 4_294_967_295) => format!("a number from {min} up"),
            (min, max) => format!("a number from {min} to {max}"),
        }
    }
}

/// A size in bytes, with or without a unit.
pub(super) struct Memory {
    min: u64,
    max: u64,
    /// What a smaller legal value is raised to before it is stored.
    kept_min: u64,
}

/// A size from `min` to `max` bytes.
pub(super) const fn memory(min: u64, max: u64) -> Memory {
    Memory { min, max, kept_min: min }
}

impl Memory {
    /// Values below `kept_min` are legal but stored as `kept_min`.
    pub(super) const fn kept_at_least(mut self, kept_min: u64) -> Self {
        self.kept_min = kept_min;
        self
    }
}

impl Rule for Memory {
    type Value = u64;

    fn assign(&self, value: &mut u64, words: &[&[u8]]) -> Result<(), Refusal> {
        let bytes = size::parse_bytes(single(words)?).ok_or("argument must be a memory value")?;
        if bytes < self.min || bytes > self.max {
            return Err(out_of_range(self.min, self.max));
        }
        *value = bytes.max(self.kept_min);
        Ok(())
    }

    fn print(&self, value: &u64) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    fn spell(&self, value: &u64) -> Vec<u8> {
        size::spell(*value).into_bytes()
    }

    fn wants(&self) -> String {
        match self.min {
            0 => "a size such as 1048576, 64kb, 100mb or 2gb".to_owned(),
            min => format!("a size such as 1048576, 64kb, 100mb or 2gb, at least {min} bytes"),
        }
    }
}

/// A size in bytes or a share in percent.
pub(super) struct MemoryShare;

impl Rule for MemoryShare {
    type Value = MemoryOrPercent;

    fn assign(&self, value: &mut MemoryOrPercent, words: &[&[u8]]) -> Result<(), Refusal> {
        let word = single(words)?;
        if let Some(bytes) = size::parse_bytes(word) {
            if bytes > i64::MAX as u64 {
                return Err(out_of_range(-100, i64::MAX));
            }
            *value = MemoryOrPercent::Bytes(bytes);
            return Ok(());
        }
        let percent = word.strip_suffix(b"%").and_then(num::parse_i64).filter(|percent| *percent >= 0);
        *value = match percent.ok_or("argument must be a memory or percent value")? {
            0 => MemoryOrPercent::Bytes(0),
            percent @ 1..=100 => MemoryOrPercent::Percent(percent as u8),
            _ => return Err("percentage argument must be less or equal to 100".into()),
        };
        Ok(())
    }

    fn print(&self, value: &MemoryOrPercent) -> Vec<u8> {
        match value {
            MemoryOrPercent::Bytes(bytes) => bytes.to_string(),
            MemoryOrPercent::Percent(percent) => format!("{percent}%"),
        }
        .into_bytes()
    }

    fn spell(&self, value: &MemoryOrPercent) -> Vec<u8> {
        match value {
            MemoryOrPercent::Bytes(bytes) => size::spell(*bytes).into_bytes(),
            MemoryOrPercent::Percent(_) => self.print(value),
        }
    }

    fn wants(&self) -> String {
        "a size such as 100mb, or a share such as 5%".to_owned()
    }
}

/// A file mode in octal.
pub(super) struct FileMode;

impl Rule for FileMode {
    type Value = u32;

    fn assign(&self, value: &mut u32, words: &[&[u8]]) -> Result<(), Refusal> {
        let mode = units::octal(single(words)?).ok_or("argument couldn't be parsed as an octal number")?;
        if mode > 0o777 {
            return Err(out_of_range(0, 777));
        }
        *value = mode;
        Ok(())
    }

    fn print(&self, value: &u32) -> Vec<u8> {
        format!("{value:o}").into_bytes()
    }

    fn wants(&self) -> String {
        "an octal mode from 0 to 777".to_owned()
    }
}

/// One name out of a fixed list.
pub(super) struct OneOf<E>(PhantomData<E>);

/// One of the names of the choice `E`.
pub(super) const fn one_of<E>() -> OneOf<E> {
    OneOf(PhantomData)
}

/// The names of a choice in the order in which Redis lists them.
fn names<E: Choice>() -> String {
    E::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl<E: Choice> Rule for OneOf<E> {
    type Value = E;

    fn assign(&self, value: &mut E, words: &[&[u8]]) -> Result<(), Refusal> {
        let word = single(words)?;
        let known = E::NAMES.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
        match known {
            Some((_, chosen)) => *value = *chosen,
            None => return Err(format!("argument(s) must be one of the following: {}", names::<E>()).into()),
        }
        Ok(())
    }

    fn print(&self, value: &E) -> Vec<u8> {
        value.name().as_bytes().to_vec()
    }

    fn wants(&self) -> String {
        format!("one of {}", names::<E>())
    }
}

/// Any string that a check lets through.
pub(super) struct Line {
    check: fn(&[u8]) -> Result<(), &'static str>,
    wants: &'static str,
}

/// Any string without a NUL byte: paths and names end up in system calls, which would cut them off there.
pub(super) const ANY_TEXT: Line = Line { check: no_nul, wants: "one word (put quotes around blanks)" };

/// Any string of bytes.
pub(super) const ANY_BYTES: Line = Line { check: |_| Ok(()), wants: "one word (put quotes around blanks)" };

/// A file name that is no path; may be empty.
pub(super) const DB_FILE_NAME: Line = Line {
    check: |name| base_name(name, "dbfilename can't be a path, just a filename"),
    wants: "a file name without a path",
};

/// A file name that is no path and not empty.
pub(super) const AOF_FILE_NAME: Line = Line {
    check: |name| match name {
        b"" => Err("appendfilename can't be empty"),
        _ => base_name(name, "appendfilename can't be a path, just a filename"),
    },
    wants: "a file name without a path",
};

/// A folder name that is no path and not empty.
pub(super) const AOF_FOLDER_NAME: Line = Line {
    check: |name| match name {
        b"" => Err("appenddirname can't be empty"),
        _ => base_name(name, "appenddirname can't be a path, just a dirname"),
    },
    wants: "a folder name without a path",
};

/// A folder; the caller enters it, which may still fail.
pub(super) const FOLDER: Line = Line {
    check: |path| if path.is_empty() { Err("dir can't be empty") } else { no_nul(path) },
    wants: "a folder that exists",
};

/// A DNS name or nothing.
pub(super) const HOST_NAME: Line = Line {
    check: |name| {
        if name.len() >= 256 {
            return Err("Hostnames must be less than 256 characters");
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if name.iter().all(allowed) {
            Ok(())
        } else {
            Err("Hostnames may only contain alphanumeric characters, hyphens or dots")
        }
    },
    wants: "a host name of letters, digits, hyphens and dots",
};

/// A name for people, shown in cluster logs.
pub(super) const NODE_NAME: Line = Line {
    check: |name| {
        if name.len() >= 256 {
            return Err("Human nodenames must be less than 256 characters");
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.iter().all(allowed) { Ok(()) } else { Err("Announced human node name contained invalid character") }
    },
    wants: "a name of letters, digits, hyphens, dots and underscores",
};

/// A template for the title of the process.
pub(super) const TITLE_TEMPLATE: Line = Line {
    check: |template| {
        if title_is_sound(template) { Ok(()) } else { Err("template format is invalid or contains unknown variables") }
    },
    wants: "text with {title}, {listen-addr}, {server-mode}, {port}, {tls-port}, {unixsocket} or {config-file} in it",
};

fn no_nul(text: &[u8]) -> Result<(), &'static str> {
    if text.contains(&0) { Err("argument can't contain a NUL byte") } else { Ok(()) }
}

fn base_name(name: &[u8], refusal: &'static str) -> Result<(), &'static str> {
    no_nul(name)?;
    if name.contains(&b'/') || name.contains(&b'\\') { Err(refusal) } else { Ok(()) }
}

/// Every `{variable}` is known and closed (`{{` stands for `{`), and something is left when those that may be empty
/// are empty.
fn title_is_sound(template: &[u8]) -> bool {
    let mut rest = template;
    let mut prints_something = false;
    loop {
        match rest {
            [] => return prints_something,
            [b'{', b'{', tail @ ..] => {
                prints_something = true;
                rest = tail;
            }
            [b'{', tail @ ..] => {
                let Some(end) = tail.iter().position(|byte| *byte == b'}') else { return false };
                match &tail[..end] {
                    b"title" | b"server-mode" | b"unixsocket" | b"config-file" => {}
                    b"listen-addr" | b"port" | b"tls-port" => prints_something = true,
                    _ => return false,
                }
                rest = &tail[end + 1..];
            }
            [byte, tail @ ..] => {
                prints_something |= *byte != b' ';
                rest = tail;
            }
        }
    }
}

impl Rule for Line {
    type Value = Text;

    fn assign(&self, value: &mut Text, words: &[&[u8]]) -> Result<(), Refusal> {
        let word = single(words)?;
        (self.check)(word)?;
        *value = Text(word.to_vec());
        Ok(())
    }

    fn print(&self, value: &Text) -> Vec<u8> {
        value.0.clone()
    }

    fn wants(&self) -> String {
        self.wants.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::OomScoreAdj;
    use super::*;

    /// Assigns one word and gives what CONFIG GET would show, or the refusal.
    fn set<R: Rule>(rule: &R, mut value: R::Value, word: &str) -> Result<String, String> {
        rule.assign(&mut value, &[word.as_bytes()]).map_err(|refusal| refusal.to_string())?;
        Ok(String::from_utf8(rule.print(&value)).unwrap())
    }

    #[test]
    fn a_switch_is_yes_or_no_in_any_case() {
        assert_eq!(set(&YesNo, false, "YES"), Ok("yes".to_owned()));
        assert_eq!(set(&YesNo, true, "no"), Ok("no".to_owned()));
        for word in ["", "1", "on", "true", "yes "] {
            assert_eq!(set(&YesNo, true, word), Err("argument must be 'yes' or 'no'".to_owned()), "{word}");
        }
    }

    #[test]
    fn a_number_stays_between_its_bounds() {
        let rule = number::<u16>(1, 65535);
        assert_eq!(set(&rule, 7, "65535"), Ok("65535".to_owned()));
        for word in ["0", "65536", "-1"] {
            let expected = "argument must be between 1 and 65535 inclusive";
            assert_eq!(set(&rule, 7, word), Err(expected.to_owned()), "{word}");
        }
        for word in ["", "x", "01", "1.5"] {
            assert_eq!(set(&rule, 7, word), Err("argument couldn't be parsed into an integer".to_owned()), "{word}");
        }
    }

    #[test]
    fn a_number_may_be_pulled_into_a_narrower_range() {
        let rule = number::<u16>(0, i32::MAX as i64).kept_within(1, 500);
        assert_eq!(set(&rule, 10, "0"), Ok("1".to_owned()));
        assert_eq!(set(&rule, 10, "2147483647"), Ok("500".to_owned()));
    }

    #[test]
    fn memory_prints_as_bytes() {
        let rule = memory(1024, u64::MAX);
        assert_eq!(set(&rule, 0, "1mb"), Ok("1048576".to_owned()));
        assert_eq!(set(&rule, 0, "1k"), Err(format!("argument must be between 1024 and {} inclusive", u64::MAX)));
        assert_eq!(set(&rule, 0, "-1"), Err("argument must be a memory value".to_owned()));
    }

    #[test]
    fn memory_may_be_raised_to_what_makes_sense() {
        assert_eq!(set(&memory(1, u64::MAX).kept_at_least(16_384), 0, "1"), Ok("16384".to_owned()));
    }

    #[test]
    fn strings_for_system_calls_hold_no_nul_and_passwords_may() {
        for rule in [ANY_TEXT, FOLDER, DB_FILE_NAME] {
            assert_eq!(set(&rule, Text::default(), "a\0b"), Err("argument can't contain a NUL byte".to_owned()));
        }
        assert_eq!(set(&ANY_BYTES, Text::default(), "a\0b"), Ok("a\0b".to_owned()));
    }

    #[test]
    fn memory_or_percent_keeps_what_was_said() {
        let none = MemoryOrPercent::default;
        for (word, shown) in [("5%", "5%"), ("100%", "100%"), ("0%", "0"), ("1kb", "1024")] {
            assert_eq!(set(&MemoryShare, none(), word), Ok(shown.to_owned()), "{word}");
        }
        for word in ["%", "-5%", "010%", "-1", "5 %"] {
            let expected = "argument must be a memory or percent value";
            assert_eq!(set(&MemoryShare, none(), word), Err(expected.to_owned()), "{word}");
        }
        let expected = "percentage argument must be less or equal to 100";
        assert_eq!(set(&MemoryShare, none(), "101%"), Err(expected.to_owned()));
    }

    #[test]
    fn a_choice_is_named_in_any_case_and_lists_its_names_when_wrong() {
        let rule = one_of::<OomScoreAdj>();
        assert_eq!(set(&rule, OomScoreAdj::No, "RELATIVE"), Ok("yes".to_owned()));
        let expected = "argument(s) must be one of the following: no, yes, relative, absolute";
        assert_eq!(set(&rule, OomScoreAdj::No, "maybe"), Err(expected.to_owned()));
    }

    #[test]
    fn a_mode_is_octal_and_at_most_777() {
        assert_eq!(set(&FileMode, 0, "0700"), Ok("700".to_owned()));
        assert_eq!(set(&FileMode, 0, "1000"), Err("argument must be between 0 and 777 inclusive".to_owned()));
        assert_eq!(set(&FileMode, 0, "rwx"), Err("argument couldn't be parsed as an octal number".to_owned()));
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let mut value = 7;
        number::<u16>(0, 9).assign(&mut value, &[b"10"]).unwrap_err();
        assert_eq!(value, 7);
    }

    #[test]
    fn titles_need_known_variables_and_something_to_show() {
        for good in ["x", "{title} {listen-addr} {server-mode}", "{unixsocket}{port}", "{title}}", "{{title}"] {
            assert!(title_is_sound(good.as_bytes()), "{good}");
        }
        for bad in ["", " ", "{title}", "{bogus}", "x{title", "a{pid}", "x{}"] {
            assert!(!title_is_sound(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn file_names_are_not_paths() {
        for name in ["a/b", "a\\b"] {
            assert!(set(&DB_FILE_NAME, Text::default(), name).is_err(), "{name}");
            assert!(set(&AOF_FILE_NAME, Text::default(), name).is_err(), "{name}");
        }
        assert!(set(&DB_FILE_NAME, Text::default(), "").is_ok());
        assert!(set(&AOF_FOLDER_NAME, Text::default(), "").is_err());
    }
}
