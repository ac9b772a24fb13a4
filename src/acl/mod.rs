//! Access control: who the users are, what each may do, and what was refused.
//!
//! ```text
//!   ACL SETUSER, aclfile, `user` lines ──> rules ──> User ──┐
//!                                                           ├──> Users, one table, the same on every shard
//!   requirepass ──> the password of the user `default` ─────┘         │
//!                                                                     └──> each session holds its own User
//! ```
//!
//! Every shard has an [`Acl`]. Its [`Users`] are shared and never written to: a change makes another table, on shard 0, which numbers
//! it and gives it to all (`commands::acl`). A session points at its user, so that a command of a user who may do everything costs
//! the test of one flag. What is refused is noted on the session's shard ([`Log`]), and the notes are joined when somebody asks.
//!
//! Invariants: there is always a user `default`; a table is replaced as a whole; a user keeps its [`User::birth`] however its rules
//! change, so one that was removed and made again is another.
//!
//! Absent on purpose: the names of commands and categories (a [`Vocabulary`] has them), the positions of keys in arguments
//! (`commands::permission`), files, clocks, and what becomes of sessions (`shard::users`).

mod file;
mod log;
mod password;
mod rule;
mod selector;
mod user;
mod users;
mod vocabulary;

pub use file::{FileErrors, parse_file, print_config_lines, print_file, without_secrets};
pub use log::{Context, Denial, Entry, Log, Reason, merged};
pub use password::PasswordHash;
pub use rule::{RuleError, SetUserError, has_blanks, merge_selectors};
pub use selector::{KeyNeed, Selector, allows_channel};
pub use user::User;
pub use users::{DEFAULT_USER, Users, anybody};
pub use vocabulary::{Vocabulary, Word};

use std::sync::Arc;

/// What one shard knows of users. See the module.
#[derive(Default)]
pub struct Acl {
    /// All users.
    pub users: Users,
    /// Orders concurrent changes: the number of the last one that was applied here (on shard 0: handed out).
    pub version: u64,
    /// What was refused here.
    pub log: Log,
}

impl Acl {
    /// The user that connections begin as.
    pub fn default_user(&self) -> &Arc<User> {
        self.users.default_user()
    }

    /// Whether a connection that has given no password is let in as `default`.
    pub fn lets_strangers_in(&self) -> bool {
        let user = self.default_user();
        user.enabled && user.nopass
    }

    /// The user of this name, if it may come in: for who has shown by other means than a password that this is who it is.
    pub fn enabled(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(name).filter(|user| user.enabled)
    }

    /// The user of this name, if this is one of its passwords and it may come in.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        self.enabled(name).filter(|user| user.takes_password(password))
    }
}
