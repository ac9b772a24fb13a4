//! CONFIG: settings, read and changed while the server runs.
//!
//! Every shard has its own copy of the settings. A change is made on shard 0, which checks it, does what it asks of the process,
//! and numbers it; then the whole new [`Config`] goes to the other shards, and each keeps the one with the highest number. So
//! whatever order the copies of two changes arrive in, all shards end with the same settings, and they are those of shard 0.

use super::SERVER;
use crate::base::ShardId;
use crate::commands::help::help;
use crate::commands::persistence::settings_changed;
use crate::commands::table::{Flags, Row, Run, SessionCx};
use crate::config::{Config, ConfigSetError, directive};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::process;
use crate::shard::Shard;
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
            run: Run::Session(rewrite),
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

fn rewrite(cx: &mut SessionCx<'_>, _: Args<'_>, _: &mut Reply) -> Result<(), CommandError> {
    Err(CommandError::Custom(if cx.shard.about.config_file.is_empty() {
        "ERR The server is running without a config file"
    } else {
        "ERR Rewriting config file: not available in this version"
    }))
}

fn set(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        if !args.len().is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        let local = super::client_is_local(&coordinator).await;
        let changed = coordinator.call(HOME, move |shard| change(shard, args.as_args(), local)).await;
        let (version, config, names) = changed.map_err(|error| CommandError::Message(error.to_string()))?;
        let appendonly = config.appendonly;
        coordinator
            .call_all(move |shard| {
                if version > shard.config_version {
                    shard.config_version = version;
                    shard.config = config.clone();
                }
            })
            .await;
        settings_changed(&coordinator, &names, appendonly).await?;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

/// Takes the pairs behind `CONFIG SET` into force on shard 0. Returns the number of the change, the settings it leads to, and which have changed.
fn change(shard: &mut Shard, args: Args<'_>, local: bool) -> Result<(u64, Config, Vec<&'static str>), ConfigSetError> {
    debug_assert_eq!(shard.id, HOME);
    let words: Vec<&[u8]> = args.slice(2).iter().collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let mut next = shard.config.clone();
    let changed = next.set(&pairs, local)?;
    apply(&shard.config, &next, &changed)?;
    for name in &changed {
        if let Some(reason) = directive(name.as_bytes()).and_then(|directive| next.no_effect(directive)) {
            tracing::warn!("CONFIG SET: '{name}' has no effect: {reason}");
        }
    }
    shard.config_version += 1;
    shard.config = next.clone();
    Ok((shard.config_version, next, changed))
}

/// Does to the process what a change asks for. What can fail comes before what cannot be taken back.
fn apply(old: &Config, new: &Config, changed: &[&'static str]) -> Result<(), ConfigSetError> {
    for name in changed {
        match *name {
            "port" | "bind" => {
                return Err(ConfigSetError::failed(name, "listeners cannot change while the server runs"));
            }
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_redis_prints_them() {
        assert_eq!(process::reason(&std::io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
    }

    #[test]
    fn a_listener_cannot_move() {
        let old = Config::default();
        let mut new = old.clone();
        let changed = new.set(&[(&b"port"[..], &b"1"[..])], true).unwrap();
        let error = apply(&old, &new, &changed).unwrap_err().to_string();
        assert!(error.starts_with("ERR CONFIG SET failed (possibly related to argument 'port') - "), "{error}");
    }
}
