//! CLIENT TRACKING and what belongs to it: a client says how it wants to be told that what it has cached is old.
//!
//! What is remembered, and when who is told, is `tracking`'s and `shard`'s to know. CLIENT TRACKING is a plan: the connection that it
//! redirects to may be on any core, and every core has to know of a prefix before the client is told that it is tracked.

use std::collections::BTreeSet;

use super::keys::each_key;
use super::table::{SessionCx, table};
use crate::base::num;
use crate::metrics::CommandId;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::session::{Redirect, Session, SessionKey, TrackedSession};
use crate::shard::Shard;
use crate::txn::{Coordinator, Plan};

/// Hands each key of a command to the visitor: see [`KeysFn`](crate::shard::message::KeysFn).
pub fn keys_of(command: CommandId, args: Args<'_>, visit: &mut dyn FnMut(&[u8])) {
    // A command whose arguments contradict its specification has read nothing.
    let _ = each_key(table().get(command), args, |at, _| visit(args.get(at)));
}

/// What CLIENT TRACKING is asked for, the redirection not yet looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    on: bool,
    mode: TrackedSession,
    prefixes: Vec<Vec<u8>>,
}

/// Finds the connection of a number on all shards.
async fn find_client(coordinator: &Coordinator, id: i64) -> Option<Redirect> {
    let id = u64::try_from(id).ok()?;
    let found = coordinator
        .call_all(move |shard| {
            let session = shard.sessions.iter().find(|session| session.id == id)?;
            Some(Redirect { id, shard: shard.id, session: session.key })
        })
        .await;
    found.into_iter().flatten().next()
}

/// Reads the options in their order: an unknown client is complained about before a wrong word behind it.
async fn parse(coordinator: &Coordinator, args: Args<'_>) -> Result<Asked, CommandError> {
    let mut asked = Asked::default();
    let mode = &mut asked.mode;
    let mut at = 3;
    while at < args.len() {
        let option = args.get(at);
        let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
        let has_more = at + 1 < args.len();
        match () {
            () if is("REDIRECT") && has_more => {
                if mode.redirect.is_some() {
                    return Err(CommandError::Custom("ERR A client can only redirect to a single other client"));
                }
                at += 1;
                let id = num::parse_i64(args.get(at)).ok_or(CommandError::NotAnInteger)?;
                mode.redirect = find_client(coordinator, id).await;
                if mode.redirect.is_none() {
                    return Err(CommandError::Custom("ERR The client ID you want redirect to does not exist"));
                }
            }
            () if is("PREFIX") && has_more => {
                at += 1;
                asked.prefixes.push(args.get(at).to_vec());
            }
            () if is("BCAST") => mode.bcast = true,
            () if is("OPTIN") => mode.optin = true,
            () if is("OPTOUT") => mode.optout = true,
            () if is("NOLOOP") => mode.noloop = true,
            () => return Err(CommandError::Syntax),
        }
        at += 1;
    }
    asked.on = super::client::on_or_off(args.get(2))?;
    Ok(asked)
}

/// Refuses prefixes of which one begins like another.
fn check_prefixes(known: &BTreeSet<Vec<u8>>, new: &[Vec<u8>]) -> Result<(), CommandError> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let error = |prefix: &[u8], what: &str, other: &[u8]| {
        CommandError::Message(format!(
            "ERR Prefix '{}' overlaps with {what} prefix '{}'. Prefixes for a single client must not overlap.",
            String::from_utf8_lossy(prefix),
            String::from_utf8_lossy(other)
        ))
    };
    for (at, prefix) in new.iter().enumerate() {
        if let Some(other) = known.iter().find(|other| overlap(prefix, other)) {
            return Err(error(prefix, "an existing", other));
        }
        if let Some(other) = new[at + 1..].iter().find(|other| overlap(prefix, other)) {
            return Err(error(prefix, "another provided", other));
        }
    }
    Ok(())
}

/// Holds what is asked for against itself and against how the client is tracked now.
fn check(asked: &Asked, now: Option<&TrackedSession>) -> Result<(), CommandError> {
    let mode = &asked.mode;
    if !mode.bcast && !asked.prefixes.is_empty() {
        return Err(CommandError::Custom("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if now.is_some_and(|now| now.bcast != mode.bcast) {
        return Err(CommandError::Custom(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
             different mode.",
        ));
    }
    if mode.bcast && (mode.optin || mode.optout) {
        return Err(CommandError::Custom("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if mode.optin && mode.optout {
        return Err(CommandError::Custom("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    if now.is_some_and(|now| (mode.optin && now.optout) || (mode.optout && now.optin)) {
        return Err(CommandError::Custom(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
             different mode.",
        ));
    }
    match mode.bcast {
        true => check_prefixes(now.map_or(&BTreeSet::new(), |now| &now.prefixes), &asked.prefixes),
        false => Ok(()),
    }
}

/// The prefixes that a client follows in addition when it is tracked as asked.
fn new_prefixes(asked: &Asked, now: Option<&TrackedSession>) -> Vec<Vec<u8>> {
    match (asked.mode.bcast, asked.prefixes.is_empty()) {
        (false, _) => Vec::new(),
        (true, false) => asked.prefixes.clone(),
        (true, true) if now.is_some_and(|now| now.prefixes.contains(&b""[..])) => Vec::new(),
        (true, true) => vec![Vec::new()],
    }
}

/// Tracks a client as asked, from now on.
fn enable(shard: &mut Shard, key: SessionKey, asked: Asked, prefixes: Vec<Vec<u8>>) {
    let here = shard.id;
    let Some(session) = shard.sessions.get_mut(key) else {
        // It has gone, and all shards have just heard of its prefixes.
        prefixes.iter().for_each(|prefix| shard.tell_follower(here, prefix, false));
        return;
    };
    let before = session.tracking.take();
    let led_away = before.as_ref().is_some_and(|before| before.leads_away(here));
    shard.tracking.clients += usize::from(before.is_none());
    shard.tracking.led_away += usize::from(asked.mode.leads_away(here));
    shard.tracking.led_away -= usize::from(led_away);
    let mut mode = asked.mode;
    (mode.prefixes, mode.caching) = before.map_or_else(Default::default, |before| (before.prefixes, before.caching));
    prefixes.iter().for_each(|prefix| shard.tracking.follow(prefix, key));
    mode.prefixes.extend(prefixes);
    session.tracking = Some(Box::new(mode));
}

/// CLIENT TRACKING.
pub fn tracking(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let asked = parse(&coordinator, args.as_args()).await?;
        let (home, key) = (coordinator.origin().shard, coordinator.origin().session);
        let mut reply = coordinator.reply();
        reply.ok();
        if !asked.on {
            coordinator
                .call(home, move |shard| {
                    if let Some(mut session) = shard.sessions.take(key) {
                        shard.stop_tracking(&mut session);
                        shard.sessions.give_back(session);
                    }
                })
                .await;
            return Ok(reply);
        }
        let wanted = asked.clone();
        let look = move |shard: &mut Shard| {
            let now = shard.sessions.get(key).and_then(|session: &Session| session.tracking.as_deref());
            check(&wanted, now).map(|()| new_prefixes(&wanted, now))
        };
        let prefixes = coordinator.call(home, look).await?;
        if !prefixes.is_empty() {
            let told = prefixes.clone();
            coordinator
                .call_all(move |shard| told.iter().for_each(|prefix| shard.tracking.note_follower(prefix, home, true)))
                .await;
        }
        coordinator.call(home, move |shard| enable(shard, key, asked, prefixes)).await;
        Ok(reply)
    })
}

/// CLIENT CACHING.
pub fn caching(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let Some(tracking) = &mut cx.session.tracking else {
        return Err(CommandError::Custom(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let word = args.get(2);
    if word.eq_ignore_ascii_case(b"YES") {
        if !tracking.optin {
            return Err(CommandError::Custom(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if word.eq_ignore_ascii_case(b"NO") {
        if !tracking.optout {
            return Err(CommandError::Custom(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(CommandError::Syntax);
    }
    tracking.caching = true;
    reply.ok();
    Ok(())
}

/// What GETREDIR, TRACKINGINFO and CLIENT LIST tell: 0 if nobody stands in, -1 if the client is not tracked.
pub fn redirection(session: &Session) -> i64 {
    session.tracking.as_ref().map_or(-1, |tracking| tracking.redirect.map_or(0, |redirect| redirect.id as i64))
}

/// CLIENT GETREDIR.
pub fn getredir(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.int(redirection(cx.session));
    Ok(())
}

/// CLIENT TRACKINGINFO.
pub fn trackinginfo(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let off = TrackedSession::default();
    let tracking = cx.session.tracking.as_deref();
    let is_on = tracking.is_some();
    let tracking = tracking.unwrap_or(&off);
    let flags: Vec<&str> = [
        (!is_on, "off"),
        (is_on, "on"),
        (tracking.bcast, "bcast"),
        (tracking.optin, "optin"),
        (tracking.optin && tracking.caching, "caching-yes"),
        (tracking.optout, "optout"),
        (tracking.optout && tracking.caching, "caching-no"),
        (tracking.noloop, "noloop"),
        (tracking.broken, "broken_redirect"),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .collect();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.int(redirection(cx.session));
    reply.bulk(b"prefixes");
    reply.array(tracking.prefixes.len());
    tracking.prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
