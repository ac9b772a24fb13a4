//! CONFIG: settings, read and changed while the server runs.
//!
//! Every shard has its own copy of the settings. A change is made on shard 0, which checks it, does what it asks of the process,
//! and numbers it; then the whole new [`Config`] goes to the other shards, and each keeps the one with the highest number. So
//! whatever order the copies of two changes arrive in, all shards end with the same settings, and they are those of shard 0.

use std::any::Any;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::SERVER;
use crate::acl::print_config_lines;
use crate::base::ShardId;
use crate::commands::acl::{UsersChange, replace_users};
use crate::commands::help::help;
use crate::commands::persistence::settings_changed;
use crate::commands::table::{Flags, Row, Run, SessionCx};
use crate::config::{self, CannotSay, Config, ConfigSetError, Text, directive};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::owned_file::{self, MachineFiles};
use crate::rt::process;
use crate::rt::socket::{BindError, TcpDoors, TcpOptions};
use crate::session::SessionKey;
use crate::shard::Shard;
use crate::shard::storage::{BlockingCall, Job, Told};
use crate::shard::waiters::{WaitEvent, WaiterId};
use crate::tls;
use crate::txn::{Coordinator, Plan};

const FLAGS: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);
const TO_ALL: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

/// The shard on which settings change first.
const HOME: ShardId = ShardId(0);

/// See the module.
pub const ROW: Row = Row {
    name: "config",
    summary: "A container for commands about settings.",
    since: "2.0.0",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: &[
        Row {
            name: "get",
            usage: "parameter [parameter ...]",
            summary: "Settings by name or glob pattern, with their values.",
            since: "2.0.0",
            complexity: "O(N) with N patterns",
            arity: -3,
            flags: FLAGS,
            run: Run::Session(get),
            ..SERVER
        },
        Row {
            name: "help",
            summary: "Prints this help.",
            since: "5.0.0",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            run: Run::Session(help),
            ..SERVER
        },
        Row {
            name: "resetstat",
            summary: "Sets the counters of INFO back to zero.",
            since: "2.0.0",
            arity: 2,
            flags: FLAGS,
            tips: TO_ALL,
            run: Run::Server(resetstat),
            ..SERVER
        },
        Row {
            name: "rewrite",
            summary: "Writes the settings in force into the configuration file.",
            since: "2.8.0",
            arity: 2,
            flags: FLAGS,
            tips: TO_ALL,
            run: Run::Server(rewrite),
            ..SERVER
        },
        Row {
            name: "set",
            usage: "parameter value [parameter value ...]",
            summary: "Changes settings, all that are named or none.",
            since: "2.0.0",
            complexity: "O(N) with N settings",
            arity: -4,
            flags: FLAGS,
            tips: TO_ALL,
            run: Run::Server(set),
            ..SERVER
        },
    ],
    ..SERVER
};

fn get(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let patterns: Vec<&[u8]> = args.slice(2).iter().collect();
    let found = cx.shard.config.get(&patterns);
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(&name);
        reply.bulk(&value);
    }
    Ok(())
}

fn resetstat(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        coordinator.call_all(|shard| shard.metrics.reset()).await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

fn rewrite(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let me = WaiterId { home: coordinator.origin().shard, plan: coordinator.origin().plan };
        let begun = coordinator.call(HOME, move |shard| {
            let path = PathBuf::from(&shard.about.config_file);
            let running = shard.config.clone();
            if path.as_os_str().is_empty() {
                return false;
            }
            // With a file of their own, users are none of this file's business.
            let users = running
                .aclfile
                .is_empty()
                .then(|| print_config_lines(&shard.acl.users, running.requirepass.as_bytes()));
            let call = move || -> Box<dyn Any + Send> { Box::new(rewrite_file(&path, &running, users.as_deref())) };
            shard.storage.jobs.push_back((me, 0, Job::Call(BlockingCall(Box::new(call)))));
            true
        });
        if !begun.await {
            return Err(CommandError::Custom("ERR The server is running without a config file"));
        }
        let result = loop {
            if let WaitEvent::Told(told) = coordinator.next_told().await
                && let Told::JobDone(_, answer) = *told
            {
                break answer.downcast::<Result<(), String>>().expect("it is what the call gives");
            }
        };
        match *result {
            Ok(()) => tracing::info!("CONFIG REWRITE executed with success."),
            Err(error) => {
                tracing::warn!("CONFIG REWRITE failed: {error}");
                return Err(CommandError::Message(format!("ERR Rewriting config file: {error}")));
            }
        }
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

/// Has the file say what is in force.
fn rewrite_file(path: &Path, running: &Config, users: Option<&[Vec<u8>]>) -> Result<(), String> {
    let old = match std::fs::read(path) {
        // It has gone; as in Redis it is made anew.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| process::reason(&error))?,
    };
    let new = config::rewrite(&old, path, running, &MachineFiles, users)
        .map_err(|CannotSay(name)| format!("'{name}' would not be read again as it is in force"))?;
    if new == old {
        return Ok(());
    }
    owned_file::replace(path, &new).map_err(|error| process::reason(&error))
}

fn set(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        if !args.len().is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        let local = super::client_is_local(&coordinator).await;
        let asking = (coordinator.origin().shard, coordinator.origin().session);
        let changed = coordinator.call(HOME, move |shard| {
            let changed = change(shard, args.as_args(), local)?;
            let users = password_changed(shard, &changed.2, asking);
            Ok::<_, ConfigSetError>((changed, users))
        });
        let ((before, changed, names), users) =
            changed.await.map_err(|error| CommandError::Message(error.to_string()))?;
        let appendonly = changed.1.appendonly;
        spread(&coordinator, changed, users).await;
        if let Err(error) = settings_changed(&coordinator, &names, appendonly).await {
            // All or nothing: what was changed goes back.
            let restored = coordinator.call(HOME, move |shard| {
                let restored = restore(shard, before, &names);
                (restored, password_changed(shard, &names, asking))
            });
            let (restored, users) = restored.await;
            spread(&coordinator, restored, users).await;
            return Err(error);
        }
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

/// The number of a change, and the settings that it leads to.
type Change = (u64, Config);

/// What was in force before a change: settings, and what TLS connections are made from.
type Before = (Config, Option<tls::Context>);

/// The password of `default` follows the setting, if that is among those that have changed.
fn password_changed(shard: &mut Shard, changed: &[&'static str], asking: (ShardId, SessionKey)) -> Option<UsersChange> {
    changed.contains(&"requirepass").then(|| {
        let users = shard.acl.users.with_default_password(shard.config.requirepass.as_bytes());
        replace_users(shard, users, asking)
    })
}

/// Gives all shards the settings and users of a change, unless they have those of a later one.
async fn spread(coordinator: &Coordinator, (version, config): Change, users: Option<UsersChange>) {
    coordinator
        .call_all(move |shard| {
            if version > shard.config_version {
                shard.config_version = version;
                shard.config = config.clone();
            }
        })
        .await;
    if let Some(users) = users {
        users.spread(coordinator).await;
    }
}

/// Takes the pairs behind `CONFIG SET` into force on shard 0. Returns what was before it, the change, and what it changes.
fn change(
    shard: &mut Shard,
    args: Args<'_>,
    local: bool,
) -> Result<(Before, Change, Vec<&'static str>), ConfigSetError> {
    debug_assert_eq!(shard.id, HOME);
    let words: Vec<&[u8]> = args.slice(2).iter().collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let mut next = shard.config.clone();
    let changed = next.set(&pairs, local)?;
    let reloaded = reload_tls(&next, &pairs, shard.clock_ns)?;
    apply(&shard.config, &next, &changed, (&mut shard.tcp_doors, &mut shard.tls_doors))?;
    for name in &changed {
        if let Some(reason) = directive(name.as_bytes()).and_then(|directive| next.no_effect(directive)) {
            tracing::warn!("CONFIG SET: '{name}' has no effect: {reason}");
        }
    }
    if changed.contains(&"dir")
        && let Ok(here) = std::env::current_dir()
    {
        // What was said may have been relative to the folder before.
        next.dir = Text(here.into_os_string().into_vec());
    }
    shard.config_version += 1;
    let before = (std::mem::replace(&mut shard.config, next.clone()), shard.tls.clone());
    if reloaded.is_some() {
        shard.tls = reloaded;
    }
    Ok((before, (shard.config_version, next), changed))
}

/// Certificates and keys are read again when a directive of theirs is named, also with the value it has: the file behind a name may
/// be another now. `None` if nothing of that is named, or nobody is served over TLS.
fn reload_tls(
    next: &Config,
    pairs: &[(&[u8], &[u8])],
    clock_ns: fn() -> u64,
) -> Result<Option<tls::Context>, ConfigSetError> {
    let named = pairs.iter().filter_map(|(name, _)| directive(name)).find(|named| named.name.starts_with("tls-"));
    let Some(named) = named.filter(|_| next.tls_port != 0) else { return Ok(None) };
    let loaded = tls::Context::load(next, clock_ns).map_err(|error| {
        tracing::warn!("{error}");
        let reason = format!("Unable to update TLS configuration. {error}");
        ConfigSetError::failed(named.name, reason.replace(['\r', '\n'], " "))
    });
    let (context, remarks) = loaded?;
    remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    Ok(Some(context))
}

/// Takes a change back that could not be brought to its end; what others have changed since stays.
fn restore(shard: &mut Shard, (before, tls): Before, names: &[&'static str]) -> Change {
    let mut next = shard.config.clone();
    next.take_from(&before, names);
    if names.iter().any(|name| name.starts_with("tls-")) {
        shard.tls = tls;
    }
    if let Err(error) = apply(&shard.config, &next, names, (&mut shard.tcp_doors, &mut shard.tls_doors)) {
        tracing::error!("A change of settings failed and cannot be taken back: {error}");
    }
    shard.config_version += 1;
    shard.config = next.clone();
    (shard.config_version, next)
}

/// What listens in plain text, and over TLS.
type Doors<'a> = (&'a mut TcpDoors, &'a mut TcpDoors);

/// Does to the process what a change asks for, all of it or nothing.
fn apply(old: &Config, new: &Config, changed: &[&'static str], doors: Doors<'_>) -> Result<(), ConfigSetError> {
    for name in changed {
        match *name {
            "maxclients" if new.maxclients > old.maxclients => {
                let more = u64::from(new.maxclients - old.maxclients);
                let reachable = process::descriptor_limit().and_then(|(soft, _)| {
                    process::raise_descriptor_limit(soft.saturating_add(more)).map(|now| now.saturating_sub(soft))
                });
                let reachable = reachable.unwrap_or(0);
                if reachable < more {
                    let possible = u64::from(old.maxclients) + reachable;
                    return Err(ConfigSetError::failed(
                        name,
                        format!(
                            "The operating system is not able to handle the specified number of clients, try with {possible}"
                        ),
                    ));
                }
            }
            _ => {}
        }
    }
    if changed.contains(&"dir")
        && let Some(folder) = new.dir.to_path()
    {
        std::env::set_current_dir(folder).map_err(|error| ConfigSetError::failed("dir", process::reason(&error)))?;
    }
    let done = score(new, changed).and_then(|()| move_doors(old, new, changed, doors));
    if done.is_err() {
        if changed.contains(&"dir")
            && let Some(folder) = old.dir.to_path()
            && let Err(error) = std::env::set_current_dir(&folder)
        {
            tracing::error!("cannot go back to the folder '{}': {error}", folder.display());
        }
        // What could be changed can be changed back; if not, it was logged.
        let _ = score(old, changed);
    }
    done
}

/// Sets the out-of-memory score.
fn score(config: &Config, changed: &[&'static str]) -> Result<(), ConfigSetError> {
    let Some(name) = changed.iter().find(|name| name.starts_with("oom-score-adj")) else { return Ok(()) };
    process::set_oom_score(config).map_err(|error| {
        tracing::warn!("Unable to write oom_score_adj: {}", process::reason(&error));
        ConfigSetError::failed(name, "Failed to set current oom_score_adj. Check server logs.")
    })
}

/// Listens where the new settings say: everywhere, or where it did.
fn move_doors(
    old: &Config,
    new: &Config,
    changed: &[&'static str],
    (plain, secure): Doors<'_>,
) -> Result<(), ConfigSetError> {
    let named = |port: &'static str| changed.iter().find(|name| [port, "bind"].contains(name));
    let failed = |name: &str, error: BindError| {
        tracing::warn!("{error}");
        let reason = match name {
            "port" | "tls-port" => "Unable to listen on this port. Check server logs.",
            _ => "Failed to bind to specified addresses.",
        };
        ConfigSetError::failed(name, reason)
    };
    if let Some(name) = named("port") {
        plain.move_to(&new.bind, new.port, options(new)).map_err(|error| failed(name, error))?;
    }
    if let Some(name) = named("tls-port")
        && let Err(error) = secure.move_to(&new.bind, new.tls_port, options(new))
    {
        if named("port").is_some()
            && let Err(error) = plain.move_to(&old.bind, old.port, options(old))
        {
            tracing::error!("cannot go back to where it listened: {error}");
        }
        return Err(failed(name, error));
    }
    if changed.contains(&"tcp-keepalive") {
        let secs = options(new).keepalive_secs;
        let set = plain.set_keepalive(secs).and_then(|()| secure.set_keepalive(secs));
        return set.map_err(|error| ConfigSetError::failed("tcp-keepalive", process::reason(&error)));
    }
    Ok(())
}

fn options(config: &Config) -> TcpOptions {
    let backlog = u32::try_from(config.tcp_backlog).unwrap_or(0);
    TcpOptions { backlog, keepalive_secs: u32::try_from(config.tcp_keepalive).unwrap_or(0), share_port: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_redis_prints_them() {
        assert_eq!(process::reason(&std::io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
    }

    #[test]
    fn a_change_that_cannot_be_done_leaves_the_folder_as_it_was() {
        let here = std::env::current_dir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let mut old = Config::default();
        let folder = here.display().to_string();
        let protected = directive(b"enable-protected-configs").unwrap();
        assert_eq!(protected.default, "no");
        old.enable_protected_configs = crate::config::ProtectedAction::Yes;
        old.dir = crate::config::Text::from(folder.as_str());
        let mut new = old.clone();
        let pairs = [(&b"port"[..], port.as_bytes()), (b"bind", b"127.0.0.1"), (b"dir", b"/")];
        let changed = new.set(&pairs, true).unwrap();
        let error =
            apply(&old, &new, &changed, (&mut TcpDoors::default(), &mut TcpDoors::default())).unwrap_err().to_string();
        let reason = "Unable to listen on this port. Check server logs.";
        assert_eq!(error, format!("ERR CONFIG SET failed (possibly related to argument 'port') - {reason}"));
        assert_eq!(std::env::current_dir().unwrap(), here);
    }
}
