//! One user: whether it may come in, with which passwords, and what it may do then.
//!
//! Plain data. A user that is in the table is never changed: rules are applied to a copy, which takes its place when all of them
//! were right. Absent on purpose: who is connected as this user.

use super::password::PasswordHash;
use super::rule::{RuleError, SetUserError, merge_selectors};
use super::selector::Selector;
use super::vocabulary::Vocabulary;

/// See the module.
#[derive(Clone, Debug)]
pub struct User {
    /// Without blanks; not necessarily UTF-8.
    pub name: Vec<u8>,
    /// Tells it from an earlier user of the same name.
    pub birth: u64,
    /// Whether it may log in.
    pub enabled: bool,
    /// Whether every password is right.
    pub nopass: bool,
    /// Whether payloads of RESTORE are to be checked in depth. All are, whatever this says; it is kept and shown.
    pub sanitize_payload: bool,
    /// Whether nothing is forbidden: the one thing that its commands ask.
    pub unrestricted: bool,
    passwords: Vec<PasswordHash>,
    /// The root first.
    selectors: Vec<Selector>,
}

impl User {
    /// A user that was just made: it is off, has no password and may do nothing, but for channels if `acl-pubsub-default` says so.
    pub fn new(name: &[u8], birth: u64, all_channels: bool) -> User {
        User {
            name: name.to_vec(),
            birth,
            enabled: false,
            nopass: false,
            sanitize_payload: true,
            unrestricted: false,
            passwords: Vec::new(),
            selectors: vec![Selector::new(all_channels)],
        }
    }

    /// The rules that are its own, and those of its selectors.
    pub fn selectors(&self) -> (&Selector, &[Selector]) {
        self.selectors.split_first().expect("a user has a root")
    }

    /// All of them, the root first.
    pub fn all_selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The hashes of its passwords.
    pub fn passwords(&self) -> &[PasswordHash] {
        &self.passwords
    }

    /// Whether this password is one of its own.
    pub fn takes_password(&self, password: &[u8]) -> bool {
        self.nopass || PasswordHash::any_is_of(&self.passwords, password)
    }

    /// Gives it this password and no other, or lets everybody in if it is empty: what `requirepass` means for `default`.
    pub fn set_only_password(&mut self, password: &[u8]) {
        self.nopass = password.is_empty();
        self.passwords = if password.is_empty() { Vec::new() } else { vec![PasswordHash::of(password)] };
    }

    /// Changes it by rules as ACL SETUSER takes them, one after the other. If one is wrong, those before it have been applied: this
    /// is for a copy.
    pub fn apply_all<'a>(
        &mut self,
        rules: impl Iterator<Item = &'a [u8]>,
        all_channels: bool,
        words: &Vocabulary,
    ) -> Result<(), SetUserError> {
        for rule in merge_selectors(rules)? {
            self.apply(&rule, all_channels, words).map_err(|error| SetUserError::Rule(rule, error))?;
        }
        Ok(())
    }

    /// Changes it by one rule; the words of a selector are together in it. Nothing has changed if it is wrong.
    pub fn apply(&mut self, rule: &[u8], all_channels: bool, words: &Vocabulary) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") => self.enabled = true,
            _ if is("off") => self.enabled = false,
            _ if is("sanitize-payload") => self.sanitize_payload = true,
            _ if is("skip-sanitize-payload") => self.sanitize_payload = false,
            _ if is("nopass") => self.set_only_password(b""),
            _ if is("resetpass") => (self.nopass, self.passwords) = (false, Vec::new()),
            _ if is("clearselectors") => self.selectors.truncate(1),
            _ if is("reset") => *self = User::new(&self.name, self.birth, all_channels),
            [b'>', password @ ..] => self.add_password(PasswordHash::of(password)),
            [b'#', hex @ ..] => self.add_password(PasswordHash::parse(hex).ok_or(RuleError::BadHash)?),
            [b'<', password @ ..] => self.remove_password(PasswordHash::of(password))?,
            [b'!', hex @ ..] => self.remove_password(PasswordHash::parse(hex).ok_or(RuleError::BadHash)?)?,
            [b'(', rules @ .., b')'] => self.selectors.push(Selector::parse(rules, all_channels, words)?),
            _ => self.selectors[0].apply(rule, words)?,
        }
        self.unrestricted = self.selectors.iter().any(Selector::allows_everything);
        Ok(())
    }

    fn add_password(&mut self, hash: PasswordHash) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.nopass = false;
    }

    fn remove_password(&mut self, hash: PasswordHash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| *known == hash).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    /// The words that ACL GETUSER shows as flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        [
            Some(if self.enabled { "on" } else { "off" }),
            self.nopass.then_some("nopass"),
            Some(if self.sanitize_payload { "sanitize-payload" } else { "skip-sanitize-payload" }),
        ]
        .into_iter()
        .flatten()
    }

    /// Its line in ACL LIST and in a file: said to a new user, it makes the same one.
    pub fn print(&self) -> Vec<u8> {
        let mut out = [b"user ", &self.name[..]].concat();
        for flag in self.flags() {
            out.push(b' ');
            out.extend_from_slice(flag.as_bytes());
        }
        for hash in &self.passwords {
            out.extend_from_slice(b" #");
            out.extend_from_slice(hash.hex().as_bytes());
        }
        for (at, selector) in self.selectors.iter().enumerate() {
            let (open, close): (&[u8], &[u8]) = if at == 0 { (b" ", b"") } else { (b" (", b")") };
            out.extend_from_slice(open);
            out.extend_from_slice(&selector.print());
            out.extend_from_slice(close);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::tests::sample;
    use super::*;

    fn set(user: &mut User, rules: &[&str]) -> Result<(), String> {
        let rules = rules.iter().map(|rule| rule.as_bytes());
        user.apply_all(rules, false, &sample()).map_err(|error| String::from_utf8(error.text()).unwrap())
    }

    fn printed(rules: &[&str]) -> String {
        let mut user = User::new(b"u", 1, false);
        set(&mut user, rules).unwrap();
        String::from_utf8(user.print()).unwrap()
    }

    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn users_are_printed_as_redis_7_2_prints_them() {
        for (rules, wanted) in [
            (&[][..], "user u off sanitize-payload resetchannels -@all".to_owned()),
            (&["on", "nopass", "~*", "&*", "+@all"], "user u on nopass sanitize-payload ~* &* +@all".to_owned()),
            (
                &[">secret", "skip-sanitize-payload", "on", ""],
                format!("user u on skip-sanitize-payload #{SECRET} resetchannels -@all"),
            ),
            (
                &["(+get", "~a)", "()", "(&* -@all)"],
                "user u off sanitize-payload resetchannels -@all (~a resetchannels -@all +get) (resetchannels -@all) \
                 (&* -@all)"
                    .to_owned(),
            ),
            (&["(+get)", "on", "reset"], "user u off sanitize-payload resetchannels -@all".to_owned()),
            (&["(+get)", "clearselectors"], "user u off sanitize-payload resetchannels -@all".to_owned()),
        ] {
            assert_eq!(printed(rules), wanted, "{rules:?}");
            let again: Vec<&str> = wanted.split(' ').skip(2).collect();
            assert_eq!(printed(&again), wanted, "{rules:?}, read again");
        }
    }

    #[test]
    fn passwords_come_and_go() {
        let mut user = User::new(b"u", 1, false);
        set(&mut user, &[">secret", ">other", ">secret"]).unwrap();
        assert_eq!(user.passwords().len(), 2);
        assert!(user.takes_password(b"secret") && !user.takes_password(b"Secret") && !user.takes_password(b""));
        set(&mut user, &[&format!("!{SECRET}")]).unwrap();
        assert!(!user.takes_password(b"secret") && user.takes_password(b"other"));
        assert_eq!(
            set(&mut user, &["<secret"]),
            Err("Error in ACL SETUSER modifier '<secret': The password you are trying to remove from the user does not exist"
                .to_owned())
        );
        assert!(set(&mut user, &["#12"]).is_err() && set(&mut user, &["!12"]).is_err());
        set(&mut user, &["nopass"]).unwrap();
        assert!(user.takes_password(b"anything"));
        set(&mut user, &["resetpass"]).unwrap();
        assert!(!user.takes_password(b"") && !user.takes_password(b"other"));
        set(&mut user, &["nopass", ">x"]).unwrap();
        assert!(!user.nopass);
    }

    #[test]
    fn everything_must_be_allowed_by_one_selector() {
        for (rules, unrestricted) in [
            (&["~*", "&*", "+@all"][..], true),
            (&["~*", "&*"], false),
            (&["(~* &* +@all)"], true),
            (&["~*", "&*", "(+@all)"], false),
            (&["~*", "&*", "+@all", "-get", "+get"], false),
        ] {
            let mut user = User::new(b"u", 1, false);
            set(&mut user, rules).unwrap();
            assert_eq!(user.unrestricted, unrestricted, "{rules:?}");
        }
    }

    #[test]
    fn cve_2024_51741_malformed_selectors_are_errors_and_change_nothing_that_stays() {
        for (rules, error) in [
            (&["(%~)", "()"][..], "Error in ACL SETUSER modifier '(%~)': Syntax error"),
            (&["on", "(+get", "~a"], "Unmatched parenthesis in acl selector starting at '(+get'."),
            (&["("], "Unmatched parenthesis in acl selector starting at '('."),
            (&[")"], "Error in ACL SETUSER modifier ')': Syntax error"),
            (&["(%R)"], "Error in ACL SETUSER modifier '(%R)': Syntax error"),
            (&["(+get (~x))"], "Error in ACL SETUSER modifier '(+get (~x))': Syntax error"),
            (
                &["(+get +nosuch )"],
                "Error in ACL SETUSER modifier '(+get +nosuch )': Unknown command or category name in ACL",
            ),
        ] {
            let mut user = User::new(b"u", 1, false);
            assert_eq!(set(&mut user, rules), Err(error.to_owned()), "{rules:?}");
        }
    }

    #[test]
    fn a_new_user_has_the_channels_that_the_setting_says() {
        assert_eq!(User::new(b"u", 1, true).print(), b"user u off sanitize-payload &* -@all");
        let mut user = User::new(b"u", 1, false);
        user.apply(b"reset", true, &sample()).unwrap();
        assert_eq!(user.print(), b"user u off sanitize-payload &* -@all");
    }
}
