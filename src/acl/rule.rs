//! What is wrong with a rule, in Redis's words, and how the words of a selector that was written with blanks are put together.
//!
//! Pure functions. What a rule does is told where it is done: `user` and `selector`.

use std::fmt;

/// Why a rule was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleError {
    /// No such command or category.
    Unknown,
    /// Not in the notation.
    Syntax,
    /// A key pattern behind `allkeys`.
    KeysAfterAll,
    /// A channel pattern behind `allchannels`.
    ChannelsAfterAll,
    /// A password is to be removed that the user does not have.
    NoSuchPassword,
    /// Not the hash of a password.
    BadHash,
    /// A first argument of a subcommand.
    FirstArgOfSubcommand,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
                 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. \
                 Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

/// Why a list of rules was refused, with the offending one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetUserError {
    /// A selector is not closed.
    Unmatched(Vec<u8>),
    /// This rule is wrong.
    Rule(Vec<u8>, RuleError),
}

impl SetUserError {
    /// The text that ACL SETUSER replies with, without its code. It repeats the rule.
    pub fn text(&self) -> Vec<u8> {
        match self {
            SetUserError::Unmatched(rule) => {
                [b"Unmatched parenthesis in acl selector starting at '", &rule[..], b"'."].concat()
            }
            SetUserError::Rule(rule, error) => {
                [b"Error in ACL SETUSER modifier '", &rule[..], b"': ", error.to_string().as_bytes()].concat()
            }
        }
    }
}

/// Puts the words of each selector together: `(+get ~a*)` may come as one argument or as two. Err with the word that opens a
/// parenthesis which is not closed.
pub fn merge_selectors<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, SetUserError> {
    let mut merged: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        match &mut open {
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if word.ends_with(b")") {
                    merged.extend(open.take().map(|(_, selector)| selector));
                }
            }
            None if word.starts_with(b"(") && !word.ends_with(b")") => open = Some((word, word.to_vec())),
            None => merged.push(word.to_vec()),
        }
    }
    match open {
        Some((first, _)) => Err(SetUserError::Unmatched(first.to_vec())),
        None => Ok(merged),
    }
}

/// Whether a name or pattern has something in it that would not be read back as a part of one word.
pub fn has_blanks(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(words: &[&str]) -> Result<Vec<String>, String> {
        let words = merge_selectors(words.iter().map(|word| word.as_bytes()));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        words.map(|words| words.into_iter().map(text).collect()).map_err(|error| text(error.text()))
    }

    #[test]
    fn a_selector_may_come_in_several_words() {
        assert_eq!(merged(&["on", "(+get", "~a", "&b)", "()"]).unwrap(), ["on", "(+get ~a &b)", "()"]);
        assert_eq!(merged(&["( +get", "~a )"]).unwrap(), ["( +get ~a )"]);
        assert_eq!(merged(&["", "+get)", ")"]).unwrap(), ["", "+get)", ")"]);
    }

    #[test]
    fn an_open_parenthesis_is_an_error() {
        let error = "Unmatched parenthesis in acl selector starting at '(+get'.";
        assert_eq!(merged(&["on", "(+get", "~a"]), Err(error.to_owned()));
        assert!(merged(&["("]).is_err() && merged(&["(", "(", "x"]).is_err());
    }
}
