//! What the rules of a user forbid: noted for ACL LOG, counted for INFO, and said to the client; and EXEC for a user that may not do
//! everything.
//!
//! A command is asked about when it comes (`gate`), which in a transaction is when it is queued. EXEC asks again about all of them, since
//! rules, or the user, may have changed meanwhile; one that is not allowed any more leaves an error in its place, and the others run.
//! What was admitted and is on its way to another core is run there as any command that the change of rules came after.
//!
//! Part of the [`Engine`]: belongs to its core. Absent on purpose: the rules (`acl`) and how they are asked (`commands::permission`).

use std::sync::Arc;

use super::engine::Engine;
use crate::acl::{Context, Reason, User};
use crate::commands::acl::note_denial;
use crate::commands::permission::{self, Denied};
use crate::commands::table::{Command, table};
use crate::resp::{Args, CommandError};
use crate::session::{Queued, Session, SessionKey};
use crate::shard::Shard;

impl Engine {
    /// Notes that a command was refused. Returns what the client reads.
    #[cold]
    pub(super) fn deny(
        &mut self,
        session: &Session,
        command: &'static Command,
        denied: Denied,
        args: Args<'_>,
    ) -> CommandError {
        let context = if session.transaction.is_some() { Context::Multi } else { Context::Toplevel };
        note(&mut self.shard, session, command, denied, args, context);
        denied.error(session.user(), command)
    }

    /// Whether a SORT ends because of the keys that only its data name, which its user may not read. It has replied then.
    #[cold]
    pub(super) fn fails_on_patterns(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
    ) -> bool {
        let Some(error) = permission::check_patterns(session.user(), command, args) else { return false };
        self.count(session, command);
        let metrics = &mut self.shard.metrics;
        metrics.commands_processed += 1;
        metrics.commands.record_run(command.id, 1, 0, self.shard.config.latency_tracking);
        metrics.commands.record_failed(command.id);
        metrics.count_error(error.code());
        let silent = self.silent(session);
        self.reply_here(session, silent, |reply| reply.error(&error));
        true
    }
}

/// Whether all commands of a transaction are still allowed.
pub(super) fn allows_all(user: &User, commands: &[Queued]) -> bool {
    user.unrestricted
        || commands.iter().all(|queued| {
            let (command, args) = (table().get(queued.id), queued.args.as_args());
            permission::check(user, command, args).is_ok() && permission::check_patterns(user, command, args).is_none()
        })
}

/// The error that stands in place of a queued command's reply, if its user may not run it. The client may have gone.
pub(super) fn refused_in_exec(
    shard: &mut Shard,
    key: SessionKey,
    command: &'static Command,
    args: Args<'_>,
) -> Option<CommandError> {
    let session = shard.sessions.take(key)?;
    let user = Arc::clone(session.user());
    let error = match permission::check(&user, command, args) {
        Ok(()) => permission::check_patterns(&user, command, args),
        Err(denied) => {
            note(shard, &session, command, denied, args, Context::Multi);
            Some(denied.error_in_exec())
        }
    };
    shard.sessions.give_back(session);
    if let Some(error) = &error {
        shard.metrics.count_error(error.code());
    }
    error
}

fn note(
    shard: &mut Shard,
    session: &Session,
    command: &'static Command,
    denied: Denied,
    args: Args<'_>,
    context: Context,
) {
    let metrics = &mut shard.metrics;
    let (count, object) = match denied.reason {
        Reason::Key => (&mut metrics.denied_keys, args.get(denied.at)),
        Reason::Channel => (&mut metrics.denied_channels, args.get(denied.at)),
        Reason::Command | Reason::Auth => (&mut metrics.denied_commands, command.full_name.as_bytes()),
    };
    *count += 1;
    note_denial(shard, session, denied.reason, context, object, &session.user().name);
}
