//! ACL: the users, what they may do, and what they were refused.
//!
//! Users change on shard 0 first, which numbers the change; the new table then goes to all shards, and each takes it into force if it is
//! newer than what it has: the way of CONFIG SET. When the command replies, every core goes by the new rules. CONFIG SET of
//! `requirepass` comes here, too: it is the password of the user `default`.
//!
//! ACL LOG notes stand on the shard of the connection that was refused, and are joined when somebody asks.
//!
//! Absent on purpose: what rules mean (`acl`), and whether a command is allowed (`permission`). Files are read and written by the driver
//! of shard 0's core, so nobody waits for the disk but who asked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::categories::{CATEGORIES, in_category};
use super::client;
use super::docs::Group;
use super::help::help;
use super::permission::{check, vocabulary};
use super::table::{Flags, Row, Run, SessionCx, table};
use crate::acl::{
    Context, DEFAULT_USER, Denial, Entry, Reason, Selector, Users, has_blanks, merged, parse_file, print_file,
};
use crate::base::{ShardId, num};
use crate::config::AclPubsubDefault;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::{entropy, process};
use crate::session::{Session, SessionKey};
use crate::shard::Shard;
use crate::shard::storage::{Job, Told};
use crate::shard::waiters::{WaitEvent, WaiterId};
use crate::txn::{Coordinator, Plan};

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = FLAGS.and(Flags::ADMIN);
const TO_ALL: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

/// The shard on which users change first.
const HOME: ShardId = ShardId(0);

const SUB: Row = Row { group: Group::Server, since: "6.0.0", ..Row::DEFAULT };

/// See the module.
pub const ROWS: &[Row] = &[Row {
    name: "acl",
    summary: "A container for commands about users and what they may do.",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: &[
        Row {
            name: "cat",
            usage: "[category]",
            summary: "The categories of commands, or the commands in one.",
            complexity: "O(1), or O(N) with N commands",
            arity: -2,
            flags: FLAGS,
            run: Run::Session(cat),
            ..SUB
        },
        Row {
            name: "deluser",
            usage: "username [username ...]",
            summary: "Removes users, and closes their connections.",
            complexity: "O(N) with N connections",
            arity: -3,
            flags: ADMIN,
            tips: TO_ALL,
            run: Run::Server(deluser),
            ..SUB
        },
        Row {
            name: "dryrun",
            usage: "username command [arg [arg ...]]",
            summary: "Whether a user may run a command, without running it.",
            since: "7.0.0",
            arity: -4,
            flags: ADMIN,
            run: Run::Session(dryrun),
            ..SUB
        },
        Row {
            name: "genpass",
            usage: "[bits]",
            summary: "Makes up a password from the kernel's randomness.",
            arity: -2,
            flags: FLAGS,
            run: Run::Session(genpass),
            ..SUB
        },
        Row {
            name: "getuser",
            usage: "username",
            summary: "What a user may do.",
            complexity: "O(N) with N rules of the user",
            arity: 3,
            flags: ADMIN,
            run: Run::Session(getuser),
            ..SUB
        },
        Row {
            name: "help",
            summary: "Prints this help.",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            run: Run::Session(help),
            ..SUB
        },
        Row {
            name: "list",
            summary: "All users with their rules, as they stand in a file.",
            complexity: "O(N) with N users",
            arity: 2,
            flags: ADMIN,
            run: Run::Session(list),
            ..SUB
        },
        Row {
            name: "load",
            summary: "Takes the users of the ACL file into force, all or none.",
            complexity: "O(N) with N users",
            arity: 2,
            flags: ADMIN,
            run: Run::Server(load),
            ..SUB
        },
        Row {
            name: "log",
            usage: "[count | RESET]",
            summary: "What was refused lately, or forgets it.",
            complexity: "O(N) with N entries shown",
            arity: -2,
            flags: ADMIN,
            run: Run::Server(log),
            ..SUB
        },
        Row {
            name: "save",
            summary: "Writes the users into the ACL file.",
            complexity: "O(N) with N users",
            arity: 2,
            flags: ADMIN,
            tips: TO_ALL,
            run: Run::Server(save),
            ..SUB
        },
        Row {
            name: "setuser",
            usage: "username [rule [rule ...]]",
            summary: "Makes a user, or changes what it may do.",
            complexity: "O(N) with N rules",
            arity: -3,
            flags: ADMIN,
            tips: TO_ALL,
            run: Run::Server(setuser),
            ..SUB
        },
        Row {
            name: "users",
            summary: "The names of all users.",
            complexity: "O(N) with N users",
            arity: 2,
            flags: ADMIN,
            run: Run::Session(users),
            ..SUB
        },
        Row {
            name: "whoami",
            summary: "As whom this connection runs its commands.",
            arity: 2,
            flags: FLAGS,
            run: Run::Session(whoami),
            ..SUB
        },
    ],
    ..SUB
}];

type Done = Result<(), CommandError>;

// Telling.

fn cat(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    match args.len() {
        2 => {
            reply.array(CATEGORIES.len());
            CATEGORIES.iter().for_each(|category| reply.bulk(category.as_bytes()));
        }
        3 => {
            let asked = args.get(2);
            let category =
                CATEGORIES.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(asked)).ok_or_else(|| {
                    CommandError::of_pieces(&[b"ERR Unknown category '", &asked[..asked.len().min(128)], b"'"])
                })?;
            let members: Vec<_> = table().all().filter(|command| in_category(command.row, category)).collect();
            reply.array(members.len());
            members.iter().for_each(|command| reply.bulk(command.full_name.as_bytes()));
        }
        _ => return Err(CommandError::subcommand_syntax("ACL", args.get(1))),
    }
    Ok(())
}

fn list(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let users = &cx.shard.acl.users;
    reply.array(users.iter().len());
    users.iter().for_each(|user| reply.bulk(&user.print()));
    Ok(())
}

fn users(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let users = &cx.shard.acl.users;
    reply.array(users.iter().len());
    users.iter().for_each(|user| reply.bulk(&user.name));
    Ok(())
}

fn whoami(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    reply.bulk(&cx.session.user().name);
    Ok(())
}

fn getuser(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let Some(user) = cx.shard.acl.users.get(args.get(2)) else {
        reply.null();
        return Ok(());
    };
    let (root, selectors) = user.selectors();
    reply.map(6);
    reply.bulk(b"flags");
    let flags: Vec<_> = user.flags().collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords().len());
    user.passwords().iter().for_each(|hash| reply.bulk(hash.hex().as_bytes()));
    describe(root, reply);
    reply.bulk(b"selectors");
    reply.array(selectors.len());
    for selector in selectors {
        reply.map(3);
        describe(selector, reply);
    }
    Ok(())
}

/// Three pairs of a map.
fn describe(selector: &Selector, reply: &mut Reply) {
    reply.bulk(b"commands");
    reply.bulk(&selector.print_commands());
    reply.bulk(b"keys");
    reply.bulk(&selector.print_keys());
    reply.bulk(b"channels");
    reply.bulk(&selector.print_channels());
}

fn dryrun(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let name = args.get(2);
    let user = cx.shard.acl.users.get(name);
    let user = user.ok_or_else(|| CommandError::of_pieces(&[b"ERR User '", name, b"' not found"]))?;
    let args = args.slice(3);
    let command = table().lookup(args);
    let command = command.ok_or_else(|| CommandError::of_pieces(&[b"ERR Command '", args.get(0), b"' not found"]))?;
    if !command.accepts(args.len()) {
        return Err(CommandError::WrongArity(&command.full_name));
    }
    match check(user, command, args) {
        Ok(()) => reply.ok(),
        Err(denied) => reply.bulk(&denied.explanation(user, command, args)),
    }
    Ok(())
}

/// The most bits that ACL GENPASS makes.
const GENPASS_BITS_MAX: i64 = 4096;

fn genpass(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let bits = match args.len() {
        2 => 256,
        3 => num::parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?,
        _ => return Err(CommandError::subcommand_syntax("ACL", args.get(1))),
    };
    if !(1..=GENPASS_BITS_MAX).contains(&bits) {
        return Err(CommandError::Custom(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    entropy::fill(&mut bytes);
    let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    reply.bulk(&password.as_bytes()[..digits]);
    Ok(())
}

// Changing.

fn setuser(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let has_blank_name = has_blanks(args.as_args().get(2));
        if has_blank_name {
            return Err(CommandError::Custom("ERR Usernames can't contain spaces or null characters"));
        }
        change(&coordinator, move |users, all_channels| {
            let args = args.as_args();
            let next = users.set(args.get(2), args.slice(3).iter(), all_channels, vocabulary());
            next.map(|next| (next, ())).map_err(|error| CommandError::of_pieces(&[b"ERR ", &error.text()]))
        })
        .await?;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

fn deluser(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        if args.as_args().slice(2).iter().any(|name| name == DEFAULT_USER) {
            return Err(CommandError::Custom("ERR The 'default' user cannot be removed"));
        }
        let removed = change(&coordinator, move |users, _| Ok(users.without(args.as_args().slice(2).iter()))).await?;
        let mut reply = coordinator.reply();
        reply.int(removed as i64);
        Ok(reply)
    })
}

/// Makes another table of users on shard 0, then has all shards take it into force.
async fn change<T: Send + 'static>(
    coordinator: &Coordinator,
    make: impl FnOnce(&Users, bool) -> Result<(Users, T), CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    let asking = (coordinator.origin().shard, coordinator.origin().session);
    let changed = move |shard: &mut Shard| {
        let (next, result) = make(&shard.acl.users, all_channels(shard))?;
        Ok((result, replace_users(shard, next, asking)))
    };
    let (result, change) = coordinator.call(HOME, changed).await?;
    change.spread(coordinator).await;
    Ok(result)
}

fn all_channels(shard: &Shard) -> bool {
    shard.config.acl_pubsub_default == AclPubsubDefault::AllChannels
}

/// A change of users that shard 0 has made.
pub struct UsersChange {
    users: Users,
    version: u64,
    asking: (ShardId, SessionKey),
}

impl UsersChange {
    /// Has all shards take it into force.
    pub async fn spread(self, coordinator: &Coordinator) {
        let UsersChange { users, version, asking } = self;
        coordinator.call_all(move |shard| take_into_force(shard, &users, version, asking)).await;
    }
}

/// Numbers a new table and takes it into force on shard 0.
pub fn replace_users(shard: &mut Shard, users: Users, asking: (ShardId, SessionKey)) -> UsersChange {
    debug_assert_eq!(shard.id, HOME);
    let version = shard.acl.version + 1;
    take_into_force(shard, &users, version, asking);
    UsersChange { users, version, asking }
}

fn take_into_force(shard: &mut Shard, users: &Users, version: u64, (home, asking): (ShardId, SessionKey)) {
    shard.take_users(users, version, (home == shard.id).then_some(asking));
    // Who waits for data with a command that its user may not run any more is told so now; nothing was taken for it.
    for session in shard.sessions.iter().filter(|session| session.is_checked()) {
        let (Some(plan), Some(waits)) = (session.blocked, session.waits_with.as_deref()) else { continue };
        let (command, args) = (table().get(waits.0), waits.1.as_args());
        if let Err(denied) = check(session.user(), command, args) {
            shard.wait_events.push((plan, WaitEvent::Refused(denied.error(session.user(), command))));
        }
    }
}

// Files.

const NO_FILE: CommandError = CommandError::Custom(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and \
     then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis \
     configuration.",
);

/// The ACL file and the users in force.
async fn file_and_users(coordinator: &Coordinator) -> Result<(PathBuf, Users), CommandError> {
    let look = |shard: &mut Shard| (shard.config.aclfile.to_path(), shard.acl.users.clone());
    let (path, users) = coordinator.call(HOME, look).await;
    Ok((path.ok_or(NO_FILE)?, users))
}

fn waiter(coordinator: &Coordinator) -> WaiterId {
    WaiterId { home: coordinator.origin().shard, plan: coordinator.origin().plan }
}

/// Waits until something is told that is what is waited for.
async fn told<T>(coordinator: &Coordinator, wanted: impl Fn(Told) -> Option<T>) -> T {
    loop {
        if let WaitEvent::Told(told) = coordinator.next_told().await
            && let Some(told) = wanted(*told)
        {
            return told;
        }
    }
}

/// Has shard 0's driver do something with a file, and waits for it.
async fn job<T: 'static>(coordinator: &Coordinator, job: Job) -> T {
    let me = waiter(coordinator);
    coordinator.call(HOME, move |shard| shard.storage.jobs.push_back((me, 0, job))).await;
    let answer = told(coordinator, |told| if let Told::JobDone(_, answer) = told { Some(answer) } else { None }).await;
    *answer.downcast::<T>().expect("a job's answer has its type")
}

/// A name that stands for itself has a folder, too.
fn with_folder(path: &Path) -> PathBuf {
    if path.parent().is_some_and(|folder| folder.as_os_str().is_empty()) {
        Path::new(".").join(path)
    } else {
        path.into()
    }
}

fn load(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let (path, _) = file_and_users(&coordinator).await?;
        let shown = path.display().to_string();
        let failed = |reason: String| {
            CommandError::of_pieces(&[
                b"ERR Error loading ACLs, opening file '",
                shown.as_bytes(),
                b"': ",
                reason.as_bytes(),
            ])
        };
        let text = job::<io::Result<Option<Vec<u8>>>>(&coordinator, Job::Read(with_folder(&path))).await;
        let text = text.map_err(|error| failed(process::reason(&error)))?;
        let text = text.ok_or_else(|| failed("No such file or directory".to_owned()))?;
        let source = shown.clone();
        change(&coordinator, move |users, all_channels| {
            let declared = parse_file(&source, &text, all_channels, vocabulary());
            let declared = declared.map_err(|errors| CommandError::Message(format!("ERR {}", errors.text())))?;
            Ok((users.replaced_by(declared), ()))
        })
        .await?;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

fn save(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        // One after the other: each writes the users that are in force when its turn has come, and none another's half.
        let me = waiter(&coordinator);
        let is_first = move |shard: &mut Shard| {
            shard.acl_savers.push_back(me);
            shard.acl_savers.len() == 1
        };
        if !coordinator.call(HOME, is_first).await {
            told(&coordinator, |told| matches!(told, Told::Answer(_)).then_some(())).await;
        }
        let saved = file_and_users(&coordinator).await;
        let written = match &saved {
            Ok((path, users)) => {
                job::<io::Result<()>>(&coordinator, Job::Replace(with_folder(path), print_file(users))).await
            }
            Err(_) => Ok(()),
        };
        coordinator
            .call(HOME, |shard| {
                shard.acl_savers.pop_front();
                if let Some(next) = shard.acl_savers.front() {
                    shard.tell_plan(*next, Told::Answer(Ok("OK")));
                }
            })
            .await;
        let (path, _) = saved?;
        if let Err(error) = written {
            tracing::warn!("ACL SAVE: {} cannot be written: {}", path.display(), process::reason(&error));
            return Err(CommandError::Custom(
                "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
            ));
        }
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

// The log.

/// Notes something that was refused to a connection.
pub fn note_denial(shard: &mut Shard, session: &Session, reason: Reason, context: Context, object: &[u8], user: &[u8]) {
    let denial = Denial {
        reason,
        context,
        object: object.to_vec(),
        user: user.to_vec(),
        client: client::describe(session, shard),
    };
    let (at, len_max) = (shard.now.millis(), log_len_max(shard));
    let numbers = (u64::from(shard.id.0), u64::from(shard.slots.shards()));
    shard.acl.log.add(denial, at, len_max, numbers);
}

fn log_len_max(shard: &Shard) -> usize {
    usize::try_from(shard.config.acllog_max_len).unwrap_or(0)
}

/// Entries that ACL LOG shows unless it is told how many.
const LOG_SHOWN: usize = 10;

fn log(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let mut reply = coordinator.reply();
        let count = match args.len() {
            2 => LOG_SHOWN,
            3 if args.get(2).eq_ignore_ascii_case(b"RESET") => {
                coordinator.call_all(|shard| shard.acl.log.clear()).await;
                reply.ok();
                return Ok(reply);
            }
            3 => {
                let count = num::parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
                usize::try_from(count).unwrap_or(0)
            }
            _ => return Err(CommandError::subcommand_syntax("ACL", args.get(1))),
        };
        // All of them are asked for: of entries that are alike on several shards one may be old.
        let notes = coordinator.call_all(|shard| (shard.acl.log.newest(usize::MAX), log_len_max(shard))).await;
        let len_max = notes.iter().map(|(_, len_max)| *len_max).max().unwrap_or(0);
        let mut entries = merged(notes.into_iter().map(|(notes, _)| notes).collect());
        entries.truncate(count.min(len_max));
        let now = coordinator.call(coordinator.origin().shard, |shard| shard.now.millis()).await;
        reply.array(entries.len());
        entries.iter().for_each(|entry| show_entry(entry, now.0, &mut reply));
        Ok(reply)
    })
}

fn show_entry(entry: &Entry, now_ms: i64, reply: &mut Reply) {
    let bulk = |name: &str, value: &[u8], reply: &mut Reply| {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    };
    let int = |name: &str, value: i64, reply: &mut Reply| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    reply.map(10);
    int("count", entry.count as i64, reply);
    bulk("reason", entry.last.reason.name().as_bytes(), reply);
    bulk("context", entry.last.context.name().as_bytes(), reply);
    bulk("object", &entry.last.object, reply);
    bulk("username", &entry.last.user, reply);
    reply.bulk(b"age-seconds");
    // Clocks of two shards may be a turn apart.
    reply.double((now_ms - entry.updated.0).max(0) as f64 / 1000.0);
    bulk("client-info", &entry.last.client, reply);
    int("entry-id", entry.id as i64, reply);
    int("timestamp-created", entry.created.0, reply);
    int("timestamp-last-updated", entry.updated.0, reply);
}

// Coming in.

/// Logs a connection in, if this is a password of the user and it may come in; `object` is what ACL LOG says of an attempt that failed.
pub(super) fn log_in(cx: &mut SessionCx<'_>, name: &[u8], password: &[u8], object: &[u8]) -> Done {
    if let Some(user) = cx.shard.acl.authenticate(name, password) {
        cx.session.log_in(Arc::clone(user));
        return Ok(());
    }
    cx.shard.metrics.auth_failures += 1;
    let in_multi = cx.session.in_exec || cx.session.transaction.is_some();
    let context = if in_multi { Context::Multi } else { Context::Toplevel };
    note_denial(cx.shard, cx.session, Reason::Auth, context, object, name);
    Err(CommandError::WrongPass)
}
