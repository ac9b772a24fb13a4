//! Commands about what is on the disk: SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF, WAITAOF, and CLIENT DURABILITY.
//!
//! They ask the conductor (`durability::conductor`), or look at what it has told their shard. Absent on purpose: files.

use super::docs::Group;
use super::table::{Flags, Row, Run, SessionCx};
use crate::base::num;
use crate::durability::request::ask;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::Durability;
use crate::shard::storage::Request;
use crate::shard::waiters::{WaitEvent, WaiterId};
use crate::txn::{Coordinator, Plan};

const FILES: Row = Row { group: Group::Server, ..Row::DEFAULT };
const FLAGS: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING);

/// The rows of this family.
pub const ROWS: &[Row] = &[
    Row {
        name: "bgrewriteaof",
        summary: "Begins to write the append-only file anew.",
        complexity: "O(1)",
        flags: FLAGS,
        run: Run::Server(bgrewriteaof),
        ..FILES
    },
    Row {
        name: "bgsave",
        usage: "[SCHEDULE]",
        summary: "Begins to write a snapshot of all keys.",
        complexity: "O(1)",
        arity: -1,
        flags: FLAGS,
        run: Run::Server(bgsave),
        ..FILES
    },
    Row {
        name: "lastsave",
        summary: "When the last snapshot was complete, in seconds since the epoch.",
        complexity: "O(1)",
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        acl: &["admin", "dangerous"],
        tips: &["nondeterministic_output"],
        run: Run::Session(lastsave),
        ..FILES
    },
    Row {
        name: "save",
        usage: "[MERGED]",
        summary: "Writes a snapshot of all keys and waits until it is on the disk.",
        complexity: "O(N) with N keys",
        arity: -1,
        flags: FLAGS.and(Flags::NO_MULTI),
        run: Run::Server(save),
        ..FILES
    },
    Row {
        name: "waitaof",
        usage: "numlocal numreplicas timeout",
        summary: "Waits until the client's writes are on the disk, here and on so many replicas.",
        since: "7.2.0",
        complexity: "O(1)",
        arity: 4,
        group: Group::Generic,
        flags: Flags::BLOCKING,
        acl: &["connection"],
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        run: Run::Server(waitaof),
        ..FILES
    },
];

fn lastsave(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.int(cx.shard.storage.status.last_save);
    Ok(())
}

fn simple(coordinator: &Coordinator, text: &'static str) -> Result<Reply, CommandError> {
    let mut reply = coordinator.reply();
    reply.simple(text);
    Ok(reply)
}

fn save(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let merged = match args.len() {
            1 => false,
            2 if args.as_args().get(1).eq_ignore_ascii_case(b"merged") => true,
            2 => return Err(CommandError::Syntax),
            _ => return Err(CommandError::WrongArity("save")),
        };
        let answer = ask(&coordinator, Request::Save { merged, wait: true, schedule: false }, "OK").await?;
        simple(&coordinator, answer)
    })
}

fn bgsave(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let schedule = match args.len() {
            1 => false,
            2 if args.as_args().get(1).eq_ignore_ascii_case(b"schedule") => true,
            _ => return Err(CommandError::Syntax),
        };
        let answer =
            ask(&coordinator, Request::Save { merged: false, wait: false, schedule }, "Background saving started")
                .await?;
        simple(&coordinator, answer)
    })
}

fn bgrewriteaof(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let answer = ask(&coordinator, Request::Rewrite, "Background append only file rewriting started").await?;
        simple(&coordinator, answer)
    })
}

/// What WAITAOF is asked for.
struct Wait {
    local: bool,
    replicas: i64,
    timeout_ms: u64,
}

impl Wait {
    fn parse(args: Args<'_>) -> Result<Wait, CommandError> {
        let integer = |at: usize| num::parse_i64(args.get(at)).ok_or(CommandError::NotAnInteger);
        let local = integer(1)?;
        if !(0..=1).contains(&local) {
            return Err(CommandError::NotBetween(0, 1));
        }
        let replicas = integer(2)?;
        if replicas < 0 {
            return Err(CommandError::MustBePositive);
        }
        let timeout =
            num::parse_i64(args.get(3)).ok_or(CommandError::Custom("ERR timeout is not an integer or out of range"))?;
        let timeout_ms = u64::try_from(timeout).map_err(|_| CommandError::Custom("ERR timeout is negative"))?;
        Ok(Wait { local: local == 1, replicas, timeout_ms })
    }
}

fn waitaof(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let wait = Wait::parse(args.as_args())?;
        let (home, key) = (coordinator.origin().shard, coordinator.origin().session);
        let me = WaiterId { home, plan: coordinator.origin().plan };
        let may_wait = !coordinator.is_held();
        let (on, epoch) = coordinator
            .call(home, move |shard| {
                let epoch = shard.sessions.get(key).map_or(0, |session| session.last_epoch);
                let on = shard.effects.is_active();
                if on && may_wait && !shard.effects.is_safe(epoch) {
                    shard.effects.want(epoch);
                    shard.effects.tell_when_durable(epoch, me);
                }
                (on, epoch)
            })
            .await;
        if wait.local && !on {
            return Err(CommandError::Custom(
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            ));
        }
        let is_safe = move |shard: &mut crate::shard::Shard| shard.effects.is_safe(epoch);
        let mut safe = coordinator.call(home, is_safe).await;
        if may_wait && ((wait.local && !safe) || wait.replicas > 0) {
            let until = match wait.timeout_ms {
                0 => None,
                ms => coordinator.origin().now.mono_us.checked_add(ms.saturating_mul(1000)),
            };
            coordinator.wait_until(until);
            loop {
                match coordinator.next_told().await {
                    WaitEvent::Told(_) => {
                        safe = true;
                        if wait.replicas == 0 {
                            break;
                        }
                    }
                    WaitEvent::Unblocked { with_error: true } => {
                        coordinator.end_wait_until();
                        return Err(CommandError::Unblocked);
                    }
                    WaitEvent::Refused(error) => {
                        coordinator.end_wait_until();
                        return Err(error);
                    }
                    WaitEvent::TimedOut | WaitEvent::Gone | WaitEvent::Unblocked { .. } => break,
                    WaitEvent::Offered(_) | WaitEvent::Served(_) => unreachable!("it waits for no key"),
                }
            }
            coordinator.end_wait_until();
        }
        let mut reply = coordinator.reply();
        reply.array(2);
        reply.int(i64::from(safe));
        reply.int(0);
        Ok(reply)
    })
}

/// CLIENT DURABILITY. Its row is among those of CLIENT.
pub fn durability(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let (home, key) = (coordinator.origin().shard, coordinator.origin().session);
        if args.len() == 2 {
            let now =
                coordinator.call(home, move |shard| shard.sessions.get(key).map(|session| session.durability)).await;
            let mut reply = coordinator.reply();
            reply.bulk(name(now.unwrap_or_default()).as_bytes());
            return Ok(reply);
        }
        let word = args.as_args().get(2).to_ascii_lowercase();
        let all = [Durability::Default, Durability::None, Durability::EverySec, Durability::Always];
        let Some(wish) = all.into_iter().find(|durability| name(*durability).as_bytes() == word) else {
            return Err(CommandError::Syntax);
        };
        let wants_log = matches!(wish, Durability::EverySec | Durability::Always);
        let taken = coordinator
            .call(home, move |shard| {
                if wants_log && !shard.effects.is_active() {
                    return false;
                }
                if let Some(session) = shard.sessions.get_mut(key) {
                    session.durability = wish;
                }
                true
            })
            .await;
        if !taken {
            return Err(CommandError::Custom(
                "ERR without an append-only file nothing is durable; set appendonly to yes",
            ));
        }
        ask(&coordinator, Request::Settings, "OK").await?;
        simple(&coordinator, "OK")
    })
}

fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::Default => "default",
        Durability::None => "none",
        Durability::EverySec => "everysec",
        Durability::Always => "always",
    }
}

/// Tells the conductor of settings that have changed, and waits until they are in force.
pub async fn settings_changed(
    coordinator: &Coordinator,
    changed: &[&'static str],
    appendonly: bool,
) -> Result<(), CommandError> {
    if changed.contains(&"appendonly") {
        ask(coordinator, Request::AppendOnly(appendonly), "OK").await?;
    }
    if changed.iter().any(|name| ["appendfsync", "save", "stop-writes-on-bgsave-error"].contains(name)) {
        ask(coordinator, Request::Settings, "OK").await?;
    }
    Ok(())
}

/// Ends the server, once what is to be saved is saved. Returns if that cannot be.
pub async fn shut_down(
    coordinator: &Coordinator,
    save: Option<bool>,
    force: bool,
) -> Result<&'static str, CommandError> {
    let loading =
        coordinator.call(coordinator.origin().shard, |shard| shard.storage.status.loading_since.is_some()).await;
    if loading {
        // Nothing has been taken that could be lost.
        coordinator.call_all(|shard| shard.stop = crate::shard::Stop::Shutdown).await;
        std::future::pending::<()>().await;
    }
    ask(coordinator, Request::Shutdown { save, force }, "OK").await
}
