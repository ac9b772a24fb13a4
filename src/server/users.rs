//! The users with which the server starts: those of the ACL file, or those of `user` lines, or `default` alone.
//!
//! Blocking calls on the thread that starts the program. Everything that is wrong is told at once, with file, line and reason; passwords are
//! not. Absent on purpose: changes while the server runs (`commands::acl`).

use std::collections::HashSet;
use std::fs;

use crate::acl::{DEFAULT_USER, Users, has_blanks, parse_file, without_secrets};
use crate::commands::permission::vocabulary;
use crate::config::{AclPubsubDefault, Config, UserLine};
use crate::rt::process;

/// Makes the table of users from the settings, and takes the `user` lines out of them.
pub(super) fn declared(config: &mut Config) -> Result<Users, String> {
    let users = Users::default().with_default_password(config.requirepass.as_bytes());
    let all_channels = config.acl_pubsub_default == AclPubsubDefault::AllChannels;
    let lines = std::mem::take(&mut config.users);
    let users = match config.aclfile.to_path() {
        None => of_lines(users, &lines, all_channels)?,
        Some(_) if !lines.is_empty() => {
            return Err("Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. \
                        This setup is very likely to lead to configuration errors and security holes, please define either an ACL \
                        file or declare users directly in your redis.conf, but not both."
                .to_owned());
        }
        Some(path) => {
            let source = path.display().to_string();
            let refused = "Aborting startup because of ACL errors:";
            let text = fs::read(&path).map_err(|error| {
                format!("{refused} Error loading ACLs, opening file '{source}': {}", process::reason(&error))
            })?;
            let declared = parse_file(&source, &text, all_channels, vocabulary());
            let declared = declared.map_err(|errors| format!("{refused} {}", errors.0.join(" ")))?;
            let open = !declared.iter().any(|user| user.name == DEFAULT_USER);
            if open && !config.requirepass.is_empty() {
                tracing::warn!(
                    "requirepass has no effect: {source} does not declare 'default', who needs no password then"
                );
            }
            users.replaced_by(declared)
        }
    };
    for user in users.iter().filter(|user| !user.enabled) {
        tracing::info!(
            "The user '{}' is disabled (there is no 'on' modifier in the user description). Make sure this is not a \
             configuration error.",
            user.name.escape_ascii()
        );
    }
    Ok(users)
}

/// As `user` lines of the configuration file declare them.
fn of_lines(mut users: Users, lines: &[UserLine], all_channels: bool) -> Result<Users, String> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for UserLine { place, words } in lines {
        let (name, rules) = words.split_first().expect("a `user` line has a name");
        if has_blanks(name) {
            errors.push(format!("{place}: Spaces not allowed in ACL usernames."));
            continue;
        }
        if !seen.insert(name) {
            let shown = name.escape_ascii();
            errors.push(format!(
                "{place}: Duplicate user '{shown}' found. A user can only be defined once in config files."
            ));
            continue;
        }
        // `default` is there already, and begins anew.
        let rules = std::iter::once(&b"reset"[..]).chain(rules.iter().map(Vec::as_slice));
        match users.set(name, rules, all_channels, vocabulary()) {
            Ok(next) => users = next,
            Err(error) => errors.push(format!("{place}: {}.", without_secrets(&error))),
        }
    }
    if errors.is_empty() { Ok(users) } else { Err(format!("Error in user declarations: {}", errors.join(" "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, text: &str) -> UserLine {
        let words = text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        UserLine { place: format!("x.conf:{number}"), words }
    }

    fn printed(config: &mut Config) -> Result<Vec<String>, String> {
        let users = declared(config)?;
        Ok(users.iter().map(|user| String::from_utf8(user.print()).unwrap()).collect())
    }

    #[test]
    fn lines_declare_users_and_win_over_requirepass() {
        let users = vec![line(1, "worker on nopass ~jobs:* (+get ~config) +@list"), line(2, "default on +ping")];
        let mut config = Config { requirepass: "pw".into(), users, ..Config::default() };
        assert_eq!(
            printed(&mut config).unwrap(),
            [
                "user default on sanitize-payload resetchannels -@all +ping",
                "user worker on nopass sanitize-payload ~jobs:* resetchannels -@all +@list (~config resetchannels -@all +get)",
            ]
        );
        assert!(config.users.is_empty(), "settings are shown and copied; passwords are not among them");
        let mut config = Config { requirepass: "pw".into(), ..Config::default() };
        assert!(printed(&mut config).unwrap()[0].starts_with("user default on sanitize-payload #"));
    }

    #[test]
    fn everything_that_is_wrong_with_lines_is_told_but_no_password() {
        let users =
            vec![line(1, "a <secret"), line(3, "a on"), line(4, "b +nosuch"), line(5, "c (+get"), line(6, "d on")];
        let mut config = Config { users, ..Config::default() };
        let error = printed(&mut config).unwrap_err();
        assert_eq!(
            error,
            "Error in user declarations: x.conf:1: The password you are trying to remove from the user does not exist. x.conf:3: \
             Duplicate user 'a' found. A user can only be defined once in config files. x.conf:4: Error in applying operation \
             '+nosuch': Unknown command or category name in ACL. x.conf:5: Unmatched parenthesis in selector definition."
        );
    }

    #[test]
    fn a_file_and_lines_together_are_refused() {
        let mut config = Config { aclfile: "users.acl".into(), users: vec![line(1, "a on")], ..Config::default() };
        assert!(printed(&mut config).unwrap_err().contains("but not both"));
    }
}
