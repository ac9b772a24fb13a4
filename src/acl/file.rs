//! The file of users: a line for each, as ACL LIST shows it.
//!
//! ```text
//!   user default on nopass sanitize-payload ~* &* +@all
//!   user worker on #2bb80d… ~jobs:* resetchannels &events.* -@all +@list (%R~config resetchannels -@all +get)
//! ```
//!
//! Words end at single blanks; there are no quotes and no comments, since ACL SAVE would lose them. All lines are looked at, and each that
//! is wrong is named. Absent on purpose: reading and writing (`commands::acl`, `server`).

use super::rule::{RuleError, SetUserError, has_blanks};
use super::user::User;
use super::users::Users;
use super::vocabulary::Vocabulary;
use crate::resp::words::push_quoted;

/// What is wrong with a file: a sentence for each line that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileErrors(pub Vec<String>);

impl FileErrors {
    /// All of it in one line.
    pub fn text(&self) -> String {
        format!(
            "{} WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
            self.0.join(" ")
        )
    }
}

/// The users that a text declares, or everything that is wrong with it. `source` names it. Passwords do not get into errors.
pub fn parse_file(source: &str, text: &[u8], all_channels: bool, words: &Vocabulary) -> Result<Vec<User>, FileErrors> {
    let mut users: Vec<User> = Vec::new();
    let mut errors = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = at + 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        // As in Redis: two blanks have an empty word between them, which as a rule does nothing.
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(b"user"), Some(name)) = (parts.next(), parts.next()) else {
            errors.push(format!("{source}:{number}: should start with user keyword followed by the username."));
            continue;
        };
        let shown = name.escape_ascii();
        if has_blanks(name) {
            errors.push(format!("{source}:{number}: username '{shown}' contains invalid characters."));
            continue;
        }
        if users.iter().any(|user| user.name == name) {
            errors.push(format!("{source}:{number}: Duplicate user '{shown}' found."));
            continue;
        }
        // Numbered when it gets into a table.
        let mut user = User::new(name, 0, all_channels);
        match user.apply_all(parts, all_channels, words) {
            Ok(()) => users.push(user),
            Err(error) => errors.push(format!("{source}:{number}: {}.", without_secrets(&error))),
        }
    }
    if errors.is_empty() { Ok(users) } else { Err(FileErrors(errors)) }
}

/// What is wrong with the rules of a user, for a log: the rule itself is repeated only where it names commands.
pub fn without_secrets(error: &SetUserError) -> String {
    match error {
        SetUserError::Unmatched(_) => "Unmatched parenthesis in selector definition".to_owned(),
        SetUserError::Rule(rule, RuleError::Unknown) => {
            format!("Error in applying operation '{}': {}", rule.escape_ascii(), RuleError::Unknown)
        }
        SetUserError::Rule(_, error) => error.to_string(),
    }
}

/// The text that declares these users.
pub fn print_file(users: &Users) -> Vec<u8> {
    let mut out = Vec::new();
    for user in users.iter() {
        out.extend_from_slice(&user.print());
        out.push(b'\n');
    }
    out
}

/// What stands behind `user` on the lines of a configuration file that declare these users; words may be in quotes there. None if there is
/// `default` alone and it is as `requirepass` makes it: that line would hide what is said of the password later.
pub fn print_config_lines(users: &Users, requirepass: &[u8]) -> Vec<Vec<u8>> {
    if print_file(users) == print_file(&Users::default().with_default_password(requirepass)) {
        return Vec::new();
    }
    let one = |user: &std::sync::Arc<User>| {
        let mut line = Vec::new();
        for word in user.print().split(|byte| *byte == b' ').skip(1) {
            if !line.is_empty() {
                line.push(b' ');
            }
            if word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(byte)) && !word.is_empty() {
                line.extend_from_slice(word);
            } else {
                push_quoted(&mut line, word);
            }
        }
        line
    };
    users.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::tests::sample;
    use super::*;
    use crate::resp::OwnedArgs;
    use crate::resp::words::split_words;

    fn parse(text: &str) -> Result<Users, Vec<String>> {
        let users = parse_file("users.acl", text.as_bytes(), false, &sample()).map_err(|errors| errors.0)?;
        Ok(Users::default().replaced_by(users))
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let text = "user a on sanitize-payload #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~a* resetchannels \
                    &x -@all +get (~b resetchannels -@all +set) ()\n\n\t user default off\r\nuser b  on nopass\n";
        let users = parse(text).unwrap();
        let printed = String::from_utf8(print_file(&users)).unwrap();
        assert_eq!(printed.lines().count(), 3);
        assert_eq!(print_file(&parse(&printed).unwrap()), printed.as_bytes());
    }

    #[test]
    fn every_line_that_is_wrong_is_named_and_no_password_is() {
        let errors = parse(
            "user a on\nuser\n# no comments\nuser a off\nuser b +nosuch\nuser c <secret\nuser d (+get\nuser e on",
        )
        .unwrap_err();
        assert_eq!(
            errors,
            [
                "users.acl:2: should start with user keyword followed by the username.",
                "users.acl:3: should start with user keyword followed by the username.",
                "users.acl:4: Duplicate user 'a' found.",
                "users.acl:5: Error in applying operation '+nosuch': Unknown command or category name in ACL.",
                "users.acl:6: The password you are trying to remove from the user does not exist.",
                "users.acl:7: Unmatched parenthesis in selector definition.",
            ]
        );
    }

    #[test]
    fn lines_of_a_configuration_file_are_read_as_such() {
        let users = Users::default()
            .set(b"a\"b", [&b"~it's"[..], b"~\xff\\", b"(~x", b"+get)"].into_iter(), false, &sample())
            .unwrap();
        let lines = print_config_lines(&users, b"");
        assert_eq!(lines[1], b"default on nopass sanitize-payload ~* &* +@all");
        assert!(print_config_lines(&Users::default(), b"").is_empty());
        assert_eq!(print_config_lines(&Users::default(), b"pw").len(), 1, "requirepass is not what is in force");
        let mut words = OwnedArgs::new();
        split_words(&lines[0], &mut words).unwrap();
        let (name, rules) = (words.as_args().get(0), words.as_args().slice(1));
        let again = Users::default().set(name, rules.iter(), false, &sample()).unwrap();
        assert_eq!(print_file(&again), print_file(&users));
    }

    #[test]
    fn an_empty_file_declares_nobody() {
        assert_eq!(print_file(&parse("").unwrap()), b"user default on nopass sanitize-payload ~* &* +@all\n");
    }
}
