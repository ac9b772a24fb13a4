//! May this user run this command with these arguments: the command table asked in the terms of access control.
//!
//! The keys are those that [`keys::each_key_used`](super::keys::each_key_used) finds, so those that are checked are those that the command is routed by and
//! that COMMAND GETKEYSANDFLAGS tells. Pure functions, for users that may not do everything; nothing here allocates unless something
//! is refused.
//!
//! Absent on purpose: whether somebody has logged in at all (`dispatch::gate`), and what was refused (`acl::Log`).

use std::sync::OnceLock;

use super::categories::{CATEGORIES, in_category};
use super::keys::{KeyFlags, each_key_used};
use super::table::{Channels, Command, Flags, original_table};
use crate::acl::{KeyNeed, Reason, Selector, User, Vocabulary, Word};
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError};

/// The names that rules can say.
pub fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let table = original_table();
        let word = |command: &Command| Word {
            full_name: command.full_name.clone(),
            parent: command.parent,
            children: command.children.clone(),
        };
        let words = table.all().map(word).collect();
        Vocabulary::new(words, &CATEGORIES, |id, category| in_category(table.get(id).row, category))
    })
}

/// Why a command is refused, and the argument that is the reason: 0 for the command itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Of commands, keys and channels.
    pub reason: Reason,
    /// The argument.
    pub at: usize,
}

impl Denied {
    const COMMAND: Denied = Denied { reason: Reason::Command, at: 0 };

    /// What a client reads.
    pub fn error(self, user: &User, command: &'static Command) -> CommandError {
        match self.reason {
            Reason::Key => CommandError::NoKeyPermission,
            Reason::Channel => CommandError::NoChannelPermission,
            Reason::Command | Reason::Auth => {
                CommandError::NoPermission(Box::new((user.name.clone(), &command.full_name)))
            }
        }
    }

    /// As EXEC says it of a command that was allowed when it was queued.
    pub fn error_in_exec(self) -> CommandError {
        CommandError::Message(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no \
             longer allowed for the following reason: {}",
            match self.reason {
                Reason::Key => "no permission to touch the specified keys",
                Reason::Channel => "no permission to access one of the channels used as arguments to the command",
                Reason::Command | Reason::Auth => "no permission to execute the command or subcommand",
            }
        ))
    }

    /// As ACL DRYRUN says it.
    pub fn explanation(self, user: &User, command: &Command, args: Args<'_>) -> Vec<u8> {
        let user = &user.name[..];
        let at = args.get(self.at);
        match self.reason {
            Reason::Key => [b"User ", user, b" has no permissions to access the '", at, b"' key"].concat(),
            Reason::Channel => [b"User ", user, b" has no permissions to access the '", at, b"' channel"].concat(),
            Reason::Command | Reason::Auth => {
                let name = command.full_name.as_bytes();
                [b"User ", user, b" has no permissions to run the '", name, b"' command"].concat()
            }
        }
    }
}

/// Whether the user may run this. One selector has to allow all of it; else the reason that is told is the one furthest on: a channel
/// before a key, a key before the command, and the last of the arguments.
pub fn check(user: &User, command: &Command, args: Args<'_>) -> Result<(), Denied> {
    if user.unrestricted {
        return Ok(());
    }
    let mut told = Denied::COMMAND;
    for selector in user.all_selectors() {
        match check_selector(selector, command, args) {
            Ok(()) => return Ok(()),
            Err(denied) => {
                let rank = |denied: Denied| (denied.reason as usize, denied.at);
                if rank(denied) > rank(told) {
                    told = denied;
                }
            }
        }
    }
    Err(told)
}

// The order of reasons that [`check`] counts on.
const _: () =
    assert!((Reason::Command as usize) < Reason::Key as usize && (Reason::Key as usize) < Reason::Channel as usize);

fn check_selector(selector: &Selector, command: &Command, args: Args<'_>) -> Result<(), Denied> {
    if !command.row.flags.has(Flags::NO_AUTH) {
        let first_arg = if command.parent.is_some() { 2 } else { 1 };
        let first_arg = (args.len() > first_arg).then(|| args.get(first_arg));
        if !selector.allows_command(command.id, first_arg) {
            return Err(Denied::COMMAND);
        }
    }
    if !selector.all_keys() && !command.row.keys.is_empty() {
        let mut denied = None;
        // If the arguments contradict the specification, what was found before is checked; the handler will refuse the rest.
        let _ = each_key_used(command, args, |at, flags| {
            if denied.is_none() && !selector.allows_key(args.get(at), need(flags)) {
                denied = Some(Denied { reason: Reason::Key, at });
            }
        });
        denied.map_or(Ok(()), Err)?;
    }
    if let Some(channels) = command.channels
        && !selector.all_channels()
    {
        for at in channels.positions(args.len()) {
            if !selector.allows_channel(args.get(at), channels == Channels::Patterns) {
                return Err(Denied { reason: Reason::Channel, at });
            }
        }
    }
    Ok(())
}

/// What the user must be allowed to do with a key of these flags. To learn whether a key is there, or its type, no more than a pattern
/// that names it is needed, whatever it allows.
pub fn need(flags: KeyFlags) -> KeyNeed {
    KeyNeed {
        read: flags.has(KeyFlags::ACCESS),
        write: flags.has(KeyFlags::INSERT) || flags.has(KeyFlags::DELETE) || flags.has(KeyFlags::UPDATE),
    }
}

/// SORT reads keys that only its data name, so BY with a pattern and GET need a user that may read all keys. The error that it ends in,
/// if it gets that far in its arguments.
pub fn check_patterns(user: &User, command: &Command, args: Args<'_>) -> Option<CommandError> {
    if user.unrestricted || !matches!(command.row.name, "sort" | "sort_ro") {
        return None;
    }
    let may_read_all =
        |selector: &Selector| selector.allows_any_key(KeyNeed::READ) && check_selector(selector, command, args).is_ok();
    if user.all_selectors().iter().any(may_read_all) {
        return None;
    }
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        let is = |word: &str| args.get(at).eq_ignore_ascii_case(word.as_bytes());
        at += match () {
            () if is("asc") || is("desc") || is("alpha") => 1,
            () if is("limit") && left >= 2 => {
                // A limit that is none is an error of its own.
                parse_i64(args.get(at + 1)).and(parse_i64(args.get(at + 2)))?;
                3
            }
            () if is("store") && left >= 1 && command.row.name == "sort" => 2,
            () if is("by") && left >= 1 => {
                if args.get(at + 1).contains(&b'*') {
                    return Some(CommandError::Custom(
                        "ERR BY option of SORT denied due to insufficient ACL permissions.",
                    ));
                }
                2
            }
            () if is("get") && left >= 1 => {
                return Some(CommandError::Custom(
                    "ERR GET option of SORT denied due to insufficient ACL permissions.",
                ));
            }
            () => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::table::table;
    use super::*;
    use crate::acl::Users;
    use crate::resp::OwnedArgs;

    fn user(rules: &str) -> User {
        let users = Users::default().set(b"u", rules.split(' ').map(str::as_bytes), false, vocabulary()).unwrap();
        User::clone(users.get(b"u").unwrap())
    }

    fn asked(user: &User, line: &str) -> String {
        let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
        let args = args.as_args();
        let mut command = table().find(args.get(0)).unwrap();
        if !command.children.is_empty() && args.len() > 1 {
            command = table().find_sub(command, args.get(1)).unwrap();
        }
        match check(user, command, args).and_then(|()| match check_patterns(user, command, args) {
            Some(_) => Err(Denied { reason: Reason::Auth, at: 99 }),
            None => Ok(()),
        }) {
            Ok(()) => "yes".to_owned(),
            Err(Denied { at: 99, .. }) => "patterns".to_owned(),
            Err(denied) => format!("{} {}", denied.reason.name(), denied.at),
        }
    }

    #[test]
    fn commands_keys_and_channels_are_checked() {
        let user = user("+@all -flushall ~a* %R~r* %W~w* &ch*");
        for (line, answer) in [
            ("get a", "yes"),
            ("GET r1", "yes"),
            ("get w1", "key 1"),
            ("get b", "key 1"),
            ("flushall", "command 0"),
            ("auth x", "yes"),
            ("set w1 x", "yes"),
            ("set w1 x get", "key 1"),
            ("set w1 x IFEQ y", "key 1"),
            ("set r1 x", "key 1"),
            ("bitfield r1 get u8 0", "yes"),
            ("bitfield r1 get u8 0 incrby u8 0 1", "key 1"),
            ("exists w1 b", "key 2"),
            ("exists w1 r1", "yes"),
            ("ttl w1", "key 1"),
            ("copy r1 w1", "yes"),
            ("copy w1 r1", "key 1"),
            ("bitop and w1 r1 a1", "yes"),
            ("mset a1 1 b 2", "key 3"),
            ("publish ch1 x", "yes"),
            ("publish x ch1", "channel 1"),
            ("spublish x ch1", "channel 1"),
            ("subscribe ch1 x", "channel 2"),
            ("ssubscribe ch1 x", "channel 2"),
            ("psubscribe ch* c*", "channel 2"),
            ("unsubscribe x", "yes"),
            ("punsubscribe x", "yes"),
            ("sort a by nosort", "yes"),
            ("sort a by b*", "patterns"),
            ("sort_ro a limit 0 1 get #", "patterns"),
            ("sort a limit x 1 get #", "yes"),
            ("sort a store a2 get #", "patterns"),
            ("sort a store b", "key 3"),
            ("georadius r1 1 2 3 km store b store a", "yes"),
            ("georadius r1 1 2 3 km store a store b", "key 9"),
            ("georadius r1 1 2 3 km store a storedist b", "key 9"),
            ("xread count 1 streams a b 0 0", "key 5"),
            ("xreadgroup count 1 group STREAMS c STREAMS b >", "key 7"),
            ("xreadgroup count 1 group STREAMS c STREAMS r1 >", "yes"),
            ("memory usage b", "key 2"),
            ("object freq w1", "yes"),
            ("zunionstore b 99 a", "key 1"),
            ("lmpop 9 b left", "yes"),
        ] {
            assert_eq!(asked(&user, line), answer, "{line}");
        }
        let all = self::user("+@all %R~*");
        assert_eq!(asked(&all, "sort_ro a by b* get c*"), "yes");
    }

    #[test]
    fn one_selector_has_to_allow_all_and_the_reason_furthest_on_is_told() {
        let user = user("+get ~a (+set ~b) (+publish +mget ~c ~d &x)");
        for (line, answer) in [
            ("get a", "yes"),
            ("set a x", "key 1"),
            ("set b x", "yes"),
            ("mget c d", "yes"),
            ("mget c a", "key 2"),
            ("del a", "command 0"),
            ("publish y m", "channel 1"),
        ] {
            assert_eq!(asked(&user, line), answer, "{line}");
        }
    }

    #[test]
    fn subcommands_and_first_arguments_are_checked() {
        let user = user("+config|get +select|0 +@connection -client|kill -client|id allkeys");
        for (line, answer) in [
            ("config get x", "yes"),
            ("config set x y", "command 0"),
            ("client id", "command 0"),
            ("client kill x", "command 0"),
            ("client list", "yes"),
            ("select 5", "yes"),
        ] {
            assert_eq!(asked(&user, line), answer, "{line}");
        }
        let user = self::user("+select|0");
        assert_eq!((asked(&user, "select 0"), asked(&user, "select 1")), ("yes".into(), "command 0".into()));
    }

    #[test]
    fn categories_are_the_same_wherever_they_are_asked_for() {
        for category in CATEGORIES {
            let (_, members) = vocabulary().category(category.as_bytes()).unwrap();
            for command in table().all() {
                let of_container = command.parent.is_some_and(|parent| in_category(table().get(parent).row, category));
                let expected = in_category(command.row, category) || of_container;
                assert_eq!(members.contains(&command.id), expected, "@{category} {}", command.full_name);
            }
        }
    }
}
