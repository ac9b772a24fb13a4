//! The gate: may this client run this command now? Asked once for every command, on the client's core, before anything is run or
//! sent to another shard.
//!
//! The order of the checks is Redis's, because clients see which error comes first: the name, the subcommand, the number of
//! arguments, authentication, what may not be in a transaction, the rules of the user, which node of a cluster has the keys, then what the
//! state of the server and of the connection forbids.

use super::node;
use crate::commands::permission::{self, Denied};
use crate::commands::table::{Command, Flags, Run, Table};
use crate::metrics::CommandId;
use crate::resp::Args;
use crate::resp::CommandError;
use crate::session::Session;
use crate::shard::Shard;
use crate::shard::storage::WriteError;

/// What the gate says.
pub enum Verdict {
    /// Run it.
    Run(&'static Command),
    /// Reply with this. The command, if it is known, counts as rejected.
    Refuse(CommandError, Option<CommandId>),
    /// The rules of the user forbid it.
    Deny(&'static Command, Denied),
    /// Keep it until the pause of the server is over.
    Hold,
    /// A web browser was tricked into talking to us: close without a word.
    CrossProtocol,
}

const NOT_IN_TRANSACTION: CommandError = CommandError::Custom("ERR Command not allowed inside a transaction");

/// Checks one command of one client.
#[inline]
pub fn admit(session: &Session, shard: &Shard, table: &'static Table, args: Args<'_>) -> Verdict {
    let name = args.get(0);
    let Some(mut command) = table.find(name) else {
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Verdict::CrossProtocol;
        }
        return Verdict::Refuse(unknown_command(args), None);
    };
    // A container with arguments means its subcommand; COMMAND also runs by itself.
    if !command.children.is_empty() && args.len() > 1 {
        match table.find_sub(command, args.get(1)) {
            Some(sub) => command = sub,
            None => return Verdict::Refuse(unknown_subcommand(command, args), Some(command.id)),
        }
    }
    if !command.accepts(args.len()) || matches!(command.row.run, Run::Container) {
        return Verdict::Refuse(CommandError::WrongArity(&command.full_name), Some(command.id));
    }
    if session.is_checked() && session.must_authenticate(&shard.acl) && !command.row.flags.has(Flags::NO_AUTH) {
        return Verdict::Refuse(CommandError::NoAuth, Some(command.id));
    }
    if session.transaction.is_some() && command.row.flags.has(Flags::NO_MULTI) {
        return Verdict::Refuse(NOT_IN_TRANSACTION, Some(command.id));
    }
    if session.is_checked()
        && let Err(denied) = permission::check(session.user(), command, args)
    {
        return Verdict::Deny(command, denied);
    }
    if session.node
        && let Err(error) = node::admit(session, shard, table, command, args)
    {
        return Verdict::Refuse(error, Some(command.id));
    }
    let storage = &shard.storage.status;
    if shard.eviction.is_full && shard.config.maxmemory > 0 && wants_memory(session, command) {
        return Verdict::Refuse(CommandError::Oom, Some(command.id));
    }
    if let Some(error) = &storage.write_error
        && may_write(session, command)
    {
        return Verdict::Refuse(misconf(error), Some(command.id));
    }
    if session.only_listens() && !may_run_while_listening(command) {
        return Verdict::Refuse(only_listens(command), Some(command.id));
    }
    if storage.loading_since.is_some() && !command.row.flags.has(Flags::LOADING) {
        return Verdict::Refuse(CommandError::Loading, Some(command.id));
    }
    if let Some(pause) = &shard.pause {
        let holds = !pause.writes_only || may_write(session, command);
        if holds && shard.now.millis() < pause.until {
            return Verdict::Hold;
        }
    }
    Verdict::Run(command)
}

/// Whether it writes, or runs what does.
fn may_write(session: &Session, command: &Command) -> bool {
    command.row.flags.has(Flags::WRITE)
        || (matches!(command.row.run, Run::Exec) && session.transaction.as_ref().is_some_and(|t| t.writes))
}

/// Whether it is refused when memory is full. What is queued takes memory, whatever it does; what ends a transaction gives some back.
#[cold]
fn wants_memory(session: &Session, command: &Command) -> bool {
    let ends = command.parent.is_none() && ["discard", "exec", "quit", "reset"].contains(&command.row.name);
    command.row.flags.has(Flags::DENYOOM)
        || (matches!(command.row.run, Run::Exec) && session.transaction.as_ref().is_some_and(|t| t.wants_memory))
        || (session.transaction.is_some() && !ends)
}

#[cold]
fn misconf(error: &WriteError) -> CommandError {
    match error {
        WriteError::Log(error) => CommandError::Message(format!("MISCONF Errors writing to the AOF file: {error}")),
        WriteError::Snapshot => CommandError::Custom(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
             modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
             snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.",
        ),
    }
}

fn may_run_while_listening(command: &Command) -> bool {
    // MONITOR goes on among replies.
    (command.listens && command.row.name != "monitor") || ["ping", "quit", "reset"].contains(&command.row.name)
}

#[cold]
fn only_listens(command: &Command) -> CommandError {
    CommandError::Message(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        command.full_name
    ))
}

#[cold]
fn unknown_command(args: Args<'_>) -> CommandError {
    CommandError::unknown_command(args)
}

#[cold]
fn unknown_subcommand(container: &Command, args: Args<'_>) -> CommandError {
    CommandError::unknown_subcommand(container.row.name, args.get(1))
}
