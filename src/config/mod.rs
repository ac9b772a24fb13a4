//! Everything an operator can set: the directives of redis.conf, the command line and CONFIG.
//!
//! ```text
//! redis.conf, stdin, --port 7000 ──> load ──┐
//!                                           ├──> rule of the row ──> field of Config
//! CONFIG SET port 7000 ──> Config::set ─────┘
//! CONFIG GET po* <── Config::get <── rule of the row <── field of Config
//! CONFIG REWRITE ──> rewrite: the old text and the fields of Config give the new text
//! ```
//!
//! [`Config`] is plain data. Each shard owns a copy and reads its fields; the server makes a changed copy, tries to
//! apply it (listen on the new port, enter the new folder) and only then hands it to every shard, so nobody ever sees
//! half of a change. [`DIRECTIVES`] is the table behind all of it.
//!
//! Invariant: a [`Config`] is always legal; every way into it goes through a rule, and what a rule refuses changes
//! nothing.
//!
//! Absent on purpose: files and clocks (`load` is given a way to read files), the quoting of words (a line of a file
//! shares it with inline commands: `resp::words`), and the side effects of a change.

mod load;
mod rewrite;
mod rule;
mod rule_lists;
mod shapes;
mod table;
mod units;
mod values;

pub use load::{ConfigError, Files, Loader, Place};
pub use rewrite::{CannotSay, rewrite};
pub use table::{Config, DIRECTIVES, Directive, Effect, FILE_ONLY, FileOnly, SHARDS_MAX, Sight, When};
pub use values::{
    AclPubsubDefault, AppendFsync, Choice, DisklessLoad, EndpointType, EventClass, EventClasses, LogLevel,
    MasterAddress, MaxmemoryPolicy, MemoryOrPercent, OomScoreAdj, OutputLimit, OutputLimits, PipelineOrder,
    PropagationError, ProtectedAction, RenamedCommand, SanitizeDump, SavePoint, ShutdownFlags, Supervised,
    SyslogFacility, Text, TlsAuthClients, TlsClientUser, UserLine,
};

use std::fmt;

use crate::base::glob;

/// One name of a directive: its own or its old one. Redis keeps the two apart, in what CONFIG GET lists and in what
/// counts as a duplicate, though both lead to the same value.
#[derive(Clone, Copy)]
struct Named {
    name: &'static str,
    directive: &'static Directive,
}

/// Every name with its directive, in the order of the table.
fn names() -> impl Iterator<Item = Named> {
    DIRECTIVES.iter().flat_map(|directive| {
        let names = [Some(directive.name), directive.alias];
        names.into_iter().flatten().map(move |name| Named { name, directive })
    })
}

fn find(name: &[u8]) -> Option<Named> {
    names().find(|named| named.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The directive of this name or old name, in any case.
pub fn directive(name: &[u8]) -> Option<&'static Directive> {
    find(name).map(|named| named.directive)
}

/// Whether the value of this directive must be kept out of logs, MONITOR and SLOWLOG.
pub fn is_secret(name: &[u8]) -> bool {
    directive(name).is_some_and(|directive| directive.sight == Sight::Secret)
}

impl Config {
    /// CONFIG GET: name and value of each directive that one of the patterns matches, in any case, each once. A name
    /// that is no pattern comes back as it was asked for; hidden directives answer to their exact name only.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |shown: &[u8], named: Named| {
            if !found.iter().any(|(name, _)| name.eq_ignore_ascii_case(shown)) {
                found.push((shown.to_vec(), (named.directive.print)(self)));
            }
        };
        for pattern in patterns {
            if pattern.iter().any(|byte| b"[*?".contains(byte)) {
                let visible = names().filter(|named| named.directive.sight != Sight::Hidden);
                for named in visible.filter(|named| glob::matches(pattern, named.name.as_bytes(), true)) {
                    add(named.name.as_bytes(), named);
                }
            } else if let Some(named) = find(pattern) {
                add(pattern, named);
            }
        }
        found
    }

    /// Gives these settings the values that they have in `other`.
    pub fn take_from(&mut self, other: &Config, names: &[&'static str]) {
        for directive in DIRECTIVES.iter().filter(|directive| names.contains(&directive.name)) {
            let value = (directive.print)(other);
            (directive.assign)(self, &directive.words(&value)).expect("a test checks that what is printed can be read");
        }
    }

    /// CONFIG SET: takes all of the pairs or none. `client_is_local` says whether the client came over the loopback
    /// or a Unix socket, which is what the value `local` of `enable-protected-configs` asks for.
    ///
    /// Gives the names of the directives whose value is now another one, in the order of the pairs. What must happen
    /// besides (listening on another port, entering another folder) is the caller's; when that fails, the caller keeps
    /// the old `Config` and reports [`ConfigSetError::Failed`].
    pub fn set(
        &mut self,
        pairs: &[(&[u8], &[u8])],
        client_is_local: bool,
    ) -> Result<Vec<&'static str>, ConfigSetError> {
        let protected_allowed = match self.enable_protected_configs {
            ProtectedAction::No => false,
            ProtectedAction::Yes => true,
            ProtectedAction::Local => client_is_local,
        };
        let mut chosen: Vec<Named> = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let Some(named) = find(name) else { return Err(ConfigSetError::Unknown(Text(name.to_vec()))) };
            let reason = match named.directive.when {
                When::AtStart => Some("can't set immutable config"),
                When::Protected if !protected_allowed => Some("can't set protected config"),
                _ if chosen.iter().any(|earlier| earlier.name == named.name) => Some("duplicate parameter"),
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(ConfigSetError::Failed { name: Text(name.to_vec()), reason: reason.to_owned() });
            }
            chosen.push(named);
        }

        let mut next = self.clone();
        for (named, (_, value)) in chosen.iter().zip(pairs) {
            let words = named.directive.words(value);
            if let Err(refusal) = (named.directive.assign)(&mut next, &words) {
                return Err(ConfigSetError::failed(named.name, refusal));
            }
        }
        let mut changed = Vec::new();
        for named in chosen {
            let name = named.directive.name;
            if !changed.contains(&name) && (named.directive.print)(self) != (named.directive.print)(&next) {
                changed.push(name);
            }
        }
        *self = next;
        Ok(changed)
    }
}

/// Why CONFIG SET changed nothing. `Display` is the error line that clients get, without its leading `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigSetError {
    /// There is no such directive.
    Unknown(Text),
    /// A value was refused, or what it asks for could not be done.
    Failed {
        /// The directive, as the client named it or as it stands in the table.
        name: Text,
        /// Why, in the words of Redis; may be empty.
        reason: String,
    },
}

impl ConfigSetError {
    /// The error for a directive whose new value could not be taken or applied.
    pub fn failed(name: &str, reason: impl Into<String>) -> Self {
        ConfigSetError::Failed { name: Text::from(name), reason: reason.into() }
    }
}

impl fmt::Display for ConfigSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigSetError::Unknown(name) => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{}'", one_line(name))
            }
            ConfigSetError::Failed { name, reason } => {
                write!(f, "ERR CONFIG SET failed (possibly related to argument '{}')", one_line(name))?;
                if reason.is_empty() { Ok(()) } else { write!(f, " - {reason}") }
            }
        }
    }
}

/// A name that came from a client, without line ends: an error is one line on the wire.
fn one_line(name: &Text) -> String {
    name.to_string().replace(['\r', '\n'], " ")
}

impl std::error::Error for ConfigSetError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        config.get(&patterns).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        config.set(&pairs, false).map_err(|error| error.to_string())
    }

    fn refused(pairs: &[(&str, &str)], expected: &str) {
        let mut config = Config::default();
        let before = get(&config, &["*"]);
        assert_eq!(set(&mut config, pairs), Err(expected.to_owned()), "{pairs:?}");
        assert_eq!(get(&config, &["*"]), before, "{pairs:?} was refused and changed something");
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn get_takes_names_and_patterns_and_gives_each_name_once() {
        let config = Config::default();
        assert_eq!(get(&config, &["port"]), owned(&[("port", "6379")]));
        assert_eq!(get(&config, &["PORT", "por?", "port"]), owned(&[("PORT", "6379")]));
        assert_eq!(get(&config, &["nothing", "*nothing*"]), []);
        assert_eq!(
            get(&config, &["hash-max-*-entries"]),
            owned(&[("hash-max-listpack-entries", "512"), ("hash-max-ziplist-entries", "512")])
        );
    }

    #[test]
    fn get_shows_hidden_directives_to_who_knows_their_name() {
        let config = Config::default();
        assert_eq!(get(&config, &["watchdog-p*"]), []);
        assert_eq!(get(&config, &["watchdog-period"]), owned(&[("watchdog-period", "0")]));
    }

    #[test]
    fn set_takes_several_pairs_and_tells_what_changed() {
        let mut config = Config::default();
        let changed = set(&mut config, &[("Maxmemory", "1gb"), ("timeout", "0"), ("lua-time-limit", "1")]);
        assert_eq!(changed, Ok(vec!["maxmemory", "busy-reply-threshold"]));
        assert_eq!((config.maxmemory, config.busy_reply_threshold), (1 << 30, 1));
    }

    #[test]
    fn set_takes_all_or_nothing() {
        let reason = "ERR CONFIG SET failed (possibly related to argument 'hz') - \
                      argument couldn't be parsed into an integer";
        refused(&[("timeout", "7"), ("hz", "x")], reason);
        refused(&[("timeout", "7"), ("foo", "1")], "ERR Unknown option or number of arguments for CONFIG SET - 'foo'");
    }

    #[test]
    fn set_names_what_cannot_change_as_the_client_named_it() {
        let failed = |name, reason| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        refused(&[("DataBases", "3")], &failed("DataBases", "can't set immutable config"));
        refused(&[("DIR", "/")], &failed("DIR", "can't set protected config"));
        refused(&[("timeout", "1"), ("TIMEOUT", "2")], &failed("TIMEOUT", "duplicate parameter"));
        refused(&[("Timeout", "x")], &failed("timeout", "argument couldn't be parsed into an integer"));
    }

    #[test]
    fn an_old_name_and_its_new_one_are_no_duplicates() {
        let mut config = Config::default();
        let changed = set(&mut config, &[("slave-priority", "1"), ("replica-priority", "2")]);
        assert_eq!(changed, Ok(vec!["replica-priority"]));
        assert_eq!(config.replica_priority, 2);
    }

    #[test]
    fn protected_directives_open_to_those_who_were_named() {
        for (who, local, allowed) in [("yes", false, true), ("local", true, true), ("local", false, false)] {
            let mut config = Config::default();
            let directive = directive(b"enable-protected-configs").unwrap();
            (directive.assign)(&mut config, &[who.as_bytes()]).unwrap();
            let done = config.set(&[(b"dbfilename", b"x.rdb")], local);
            assert_eq!(done.is_ok(), allowed, "{who} {local}");
        }
    }

    #[test]
    fn secrets_are_known_by_any_name() {
        assert!(is_secret(b"requirepass") && is_secret(b"REQUIREPASS") && is_secret(b"masterauth"));
        assert!(!is_secret(b"port") && !is_secret(b"no-such-thing"));
    }

    #[test]
    fn a_config_can_go_to_another_thread() {
        fn check<T: Clone + Send + 'static>() {}
        check::<Config>();
    }
}
