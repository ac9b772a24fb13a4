//! The table of users: shared by all shards, replaced as a whole.
//!
//! A clone is a count of references. Invariant: there is a user `default`, whose [`User::birth`] is 0.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::rule::SetUserError;
use super::user::User;
use super::vocabulary::Vocabulary;

/// The user that connections begin as, and that cannot be removed.
pub const DEFAULT_USER: &[u8] = b"default";

/// See the module.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: Arc<BTreeMap<Vec<u8>, Arc<User>>>,
    default: Arc<User>,
    /// What the next new user is told from earlier ones by.
    next_birth: u64,
}

impl Default for Users {
    /// Everybody is `default`, who may do everything.
    fn default() -> Users {
        let default = Arc::clone(anybody());
        let by_name = Arc::new(BTreeMap::from([(DEFAULT_USER.to_vec(), Arc::clone(&default))]));
        Users { by_name, default, next_birth: 1 }
    }
}

/// The user `default` as it is before anybody has said a word about it.
pub fn anybody() -> &'static Arc<User> {
    static ANYBODY: OnceLock<Arc<User>> = OnceLock::new();
    ANYBODY.get_or_init(|| {
        let mut user = User::new(DEFAULT_USER, 0, true);
        // Of no command in particular, so the vocabulary does not matter.
        for rule in [&b"+@all"[..], b"~*", b"on", b"nopass"] {
            user.apply(rule, true, &Vocabulary::default()).expect("these rules are right");
        }
        Arc::new(user)
    })
}

impl Users {
    /// The user of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// The one that is always there.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// As ACL SETUSER: the user of this name, or a new one, changed by these rules.
    pub fn set<'a>(
        &self,
        name: &[u8],
        rules: impl Iterator<Item = &'a [u8]>,
        all_channels: bool,
        words: &Vocabulary,
    ) -> Result<Users, SetUserError> {
        let mut user = match self.get(name) {
            Some(user) => User::clone(user),
            None => User::new(name, self.next_birth, all_channels),
        };
        user.apply_all(rules, all_channels, words)?;
        Ok(self.with(user))
    }

    /// As ACL DELUSER: without these users, and how many of them there were. `default` stays.
    pub fn without<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> (Users, usize) {
        let mut by_name = BTreeMap::clone(&self.by_name);
        let removed = names.filter(|name| *name != DEFAULT_USER && by_name.remove(*name).is_some()).count();
        (Users { by_name: Arc::new(by_name), ..self.clone() }, removed)
    }

    /// `requirepass` has changed.
    pub fn with_default_password(&self, password: &[u8]) -> Users {
        let mut user = User::clone(&self.default);
        user.set_only_password(password);
        self.with(user)
    }

    /// These users and no others, as a file declares them; `default` is open to all if it is not among them. A user that was there
    /// before goes on.
    pub fn replaced_by(&self, users: Vec<User>) -> Users {
        let mut next = Users { next_birth: self.next_birth, ..Users::default() };
        for mut user in users {
            user.birth = self.get(&user.name).map_or(next.next_birth, |known| known.birth);
            next = next.with(user);
        }
        next
    }

    /// With this user in the place of any of its name.
    pub fn with(&self, user: User) -> Users {
        let mut by_name = BTreeMap::clone(&self.by_name);
        let next_birth = self.next_birth.max(user.birth + 1);
        let user = Arc::new(user);
        by_name.insert(user.name.clone(), Arc::clone(&user));
        let default = if user.name == DEFAULT_USER { user } else { Arc::clone(&self.default) };
        Users { by_name: Arc::new(by_name), default, next_birth }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::tests::sample;
    use super::*;

    fn set(users: &Users, name: &str, rules: &str) -> Users {
        users.set(name.as_bytes(), rules.split(' ').map(str::as_bytes), false, &sample()).unwrap()
    }

    fn printed(users: &Users) -> Vec<String> {
        users.iter().map(|user| String::from_utf8(user.print()).unwrap()).collect()
    }

    #[test]
    fn at_first_everybody_may_do_everything() {
        let users = Users::default();
        assert_eq!(printed(&users), ["user default on nopass sanitize-payload ~* &* +@all"]);
        assert!(users.default_user().unrestricted);
    }

    #[test]
    fn users_are_made_changed_and_removed_in_another_table() {
        let before = Users::default();
        let users = set(&set(&before, "b", "on +get"), "a", "+set");
        assert_eq!(before.iter().len(), 1, "a table does not change");
        let names: Vec<_> = users.iter().map(|user| user.name.clone()).collect();
        assert_eq!(names, [&b"a"[..], b"b", b"default"]);
        let (fewer, removed) = users.without([&b"a"[..], b"nobody", b"default", b"a"].into_iter());
        assert_eq!((fewer.iter().len(), removed), (2, 1));
        let birth = |users: &Users, name: &[u8]| users.get(name).unwrap().birth;
        let again = set(&fewer, "a", "on");
        assert_ne!(birth(&again, b"a"), birth(&users, b"a"), "one that was removed and made again is another");
        assert_eq!(birth(&set(&users, "a", "off"), b"a"), birth(&users, b"a"), "one that was changed is the same");
        assert!(users.set(b"a", [&b"on"[..], b"nonsense"].into_iter(), false, &sample()).is_err());
    }

    #[test]
    fn a_password_of_default_is_that_of_requirepass() {
        let users = Users::default().with_default_password(b"secret");
        assert!(!users.default_user().nopass && users.default_user().takes_password(b"secret"));
        assert!(users.get(DEFAULT_USER).unwrap().takes_password(b"secret"), "both ways to it lead to the same user");
        assert!(users.with_default_password(b"").default_user().nopass);
    }

    #[test]
    fn a_file_replaces_all_and_who_was_there_before_goes_on() {
        let users = set(&set(&Users::default(), "a", "on"), "b", "on").with_default_password(b"x");
        let mut c = User::new(b"c", 0, false);
        c.apply(b"on", false, &sample()).unwrap();
        let next = users.replaced_by(vec![User::new(b"b", 0, false), c]);
        let names: Vec<_> = next.iter().map(|user| user.name.clone()).collect();
        assert_eq!(names, [&b"b"[..], b"c", b"default"]);
        assert_eq!(next.get(b"b").unwrap().birth, users.get(b"b").unwrap().birth);
        assert!(next.default_user().nopass, "as in Redis: a file that does not name it opens it");
        let births: std::collections::BTreeSet<u64> = next.iter().map(|user| user.birth).collect();
        assert_eq!(births.len(), 3);
        assert!(!births.contains(&users.get(b"a").unwrap().birth));
    }
}
