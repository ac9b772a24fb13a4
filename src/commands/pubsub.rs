//! Publish and subscribe: messages between clients, kept for nobody who is not there.
//!
//! Who listens to what is `pubsub`'s to know; here is what clients say and read. SUBSCRIBE is a plan: all shards hear of it before
//! the client does. UNSUBSCRIBE is done at once. PUBLISH runs on its client's core and on those other cores that have subscribers
//! for the channel, as parts of the batches that a pipeline makes anyway.
//!
//! Shard channels are channels with a table of their own. Where a shard is a node of a cluster, a client of its port is sent to the node
//! that has the channel's slot, and PUBSUB tells it of the clients of that core alone; messages reach whoever listens on any port.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::docs::Group;
use super::help::help;
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::table::{Flags, Row, Run, SessionCx};
use crate::base::glob;
use crate::pubsub::{Kind, Name, Payload};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::shard::Shard;
use crate::shard::subscribers::confirmed;
use crate::txn::{Coordinator, Plan};

const OPEN: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE);
const LISTEN: Flags = OPEN.and(Flags::NOSCRIPT);
const SEND: Flags = OPEN.and(Flags::FAST);

const PUBSUB: Row = Row { group: Group::Pubsub, since: "2.0.0", ..Row::DEFAULT };

/// Shard channels are routed like keys in cluster mode, and are none.
const fn shard_channels(last: i32) -> KeySpec {
    KeySpec { flags: KeyFlags::NOT_KEY, begin: Begin::Index(1), find: Find::Range { last, step: 1, limit: 0 } }
}

/// See the module.
pub const ROWS: &[Row] = &[
    Row {
        name: "psubscribe",
        usage: "pattern [pattern ...]",
        summary: "Listens to all channels that match a pattern.",
        complexity: "O(N) with N patterns",
        arity: -2,
        flags: LISTEN,
        run: Run::Server(|coordinator, args| subscribe(coordinator, args, Kind::Pattern)),
        ..PUBSUB
    },
    Row {
        name: "publish",
        usage: "channel message",
        summary: "Sends a message to those who listen to the channel, and says how many they were.",
        complexity: "O(N+M) with N subscribers and M patterns that begin like the channel",
        arity: 3,
        flags: SEND,
        run: Run::Spread(
            |shard, args, reply| deliver(shard, args, reply, Kind::Channel),
            |shard, args| shard.pubsub.interested(Kind::Channel, args.get(1)),
            |coordinator, args| publish(coordinator, args, Kind::Channel),
        ),
        ..PUBSUB
    },
    Row {
        name: "pubsub",
        summary: "A container for commands about who listens.",
        since: "2.8.0",
        complexity: "Depends on the subcommand.",
        arity: -2,
        subcommands: SUBCOMMANDS,
        ..PUBSUB
    },
    Row {
        name: "punsubscribe",
        usage: "[pattern [pattern ...]]",
        summary: "Ends PSUBSCRIBE, for these patterns or for all.",
        complexity: "O(N) with N patterns",
        arity: -1,
        flags: LISTEN,
        run: Run::Session(|cx, args, reply| unsubscribe(cx, args, reply, Kind::Pattern)),
        ..PUBSUB
    },
    Row {
        name: "spublish",
        usage: "shardchannel message",
        summary: "Sends a message to those who listen to the shard channel, and says how many they were.",
        since: "7.0.0",
        complexity: "O(N) with N subscribers",
        arity: 3,
        flags: SEND,
        keys: &[shard_channels(0)],
        run: Run::Spread(
            |shard, args, reply| deliver(shard, args, reply, Kind::Shard),
            |shard, args| shard.pubsub.interested(Kind::Shard, args.get(1)),
            |coordinator, args| publish(coordinator, args, Kind::Shard),
        ),
        ..PUBSUB
    },
    Row {
        name: "ssubscribe",
        usage: "shardchannel [shardchannel ...]",
        summary: "Listens to shard channels.",
        since: "7.0.0",
        complexity: "O(N) with N channels",
        arity: -2,
        flags: LISTEN,
        keys: &[shard_channels(-1)],
        run: Run::Server(|coordinator, args| subscribe(coordinator, args, Kind::Shard)),
        ..PUBSUB
    },
    Row {
        name: "subscribe",
        usage: "channel [channel ...]",
        summary: "Listens to channels.",
        complexity: "O(N) with N channels",
        arity: -2,
        flags: LISTEN,
        run: Run::Server(|coordinator, args| subscribe(coordinator, args, Kind::Channel)),
        ..PUBSUB
    },
    Row {
        name: "sunsubscribe",
        usage: "[shardchannel [shardchannel ...]]",
        summary: "Ends SSUBSCRIBE, for these shard channels or for all.",
        since: "7.0.0",
        complexity: "O(N) with N channels",
        arity: -1,
        flags: LISTEN,
        keys: &[shard_channels(-1)],
        run: Run::Session(|cx, args, reply| unsubscribe(cx, args, reply, Kind::Shard)),
        ..PUBSUB
    },
    Row {
        name: "unsubscribe",
        usage: "[channel [channel ...]]",
        summary: "Ends SUBSCRIBE, for these channels or for all.",
        complexity: "O(N) with N channels",
        arity: -1,
        flags: LISTEN,
        run: Run::Session(|cx, args, reply| unsubscribe(cx, args, reply, Kind::Channel)),
        ..PUBSUB
    },
];

const SUB: Row = Row { since: "2.8.0", flags: OPEN, ..PUBSUB };

const SUBCOMMANDS: &[Row] = &[
    Row {
        name: "channels",
        usage: "[pattern]",
        summary: "Channels that somebody listens to, all or those that match.",
        complexity: "O(N) with N channels",
        arity: -2,
        run: Run::Server(|coordinator, args| channels(coordinator, args, Kind::Channel)),
        ..SUB
    },
    Row {
        name: "help",
        summary: "Prints this help.",
        since: "6.2.0",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        run: Run::Session(help),
        ..SUB
    },
    Row {
        name: "numpat",
        summary: "How many patterns somebody listens to.",
        complexity: "O(N) with N patterns",
        arity: 2,
        run: Run::Server(numpat),
        ..SUB
    },
    Row {
        name: "numsub",
        usage: "[channel [channel ...]]",
        summary: "How many clients listen to each of the channels, patterns not counted.",
        complexity: "O(N) with N channels asked for",
        arity: -2,
        run: Run::Server(|coordinator, args| numsub(coordinator, args, Kind::Channel)),
        ..SUB
    },
    Row {
        name: "shardchannels",
        usage: "[pattern]",
        summary: "Shard channels that somebody listens to, all or those that match.",
        since: "7.0.0",
        complexity: "O(N) with N channels",
        arity: -2,
        run: Run::Server(|coordinator, args| channels(coordinator, args, Kind::Shard)),
        ..SUB
    },
    Row {
        name: "shardnumsub",
        usage: "[shardchannel [shardchannel ...]]",
        summary: "How many clients listen to each of the shard channels.",
        since: "7.0.0",
        complexity: "O(N) with N channels asked for",
        arity: -2,
        run: Run::Server(|coordinator, args| numsub(coordinator, args, Kind::Shard)),
        ..SUB
    },
];

fn subscribe(coordinator: Coordinator, args: OwnedArgs, kind: Kind) -> Plan {
    Box::pin(async move {
        let names: Vec<Name> = args.as_args().slice(1).iter().map(Name::from).collect();
        let mut reply = coordinator.reply();
        for (name, count, _) in listen(&coordinator, kind, names).await {
            confirm(&mut reply, kind.subscribed(), Some(&name), count);
        }
        Ok(reply)
    })
}

/// Tells all shards of the interest, then makes the client a subscriber, in one step on its core that nothing comes between and the
/// reply. Returns the names, with the client's count after each and whether it was new; nothing if the client has gone.
pub(super) async fn listen(coordinator: &Coordinator, kind: Kind, names: Vec<Name>) -> Vec<(Name, u32, bool)> {
    let (home, session) = (coordinator.origin().shard, coordinator.origin().session);
    let held = names.clone();
    let (unknown, others) = coordinator
        .call(home, move |shard| {
            let unknown = shard.pubsub.hold(kind, held.iter().map(|name| &name[..]));
            (unknown, shard.others().collect::<Vec<_>>())
        })
        .await;
    if !unknown.is_empty() {
        let tell = |other| {
            let unknown = unknown.clone();
            coordinator.call(other, move |shard| {
                unknown.iter().for_each(|name| shard.pubsub.note_interest(kind, name, home, true));
            })
        };
        let calls: Vec<_> = others.into_iter().map(tell).collect();
        for call in calls {
            call.await;
        }
    }
    coordinator.call(home, move |shard| shard.subscribe(kind, names, session)).await
}

fn confirm(reply: &mut Reply, word: &[u8], name: Option<&[u8]>, count: u32) {
    reply.push(3);
    reply.bulk(word);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(i64::from(count));
}

fn unsubscribe(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply, kind: Kind) -> Result<(), CommandError> {
    let names: Vec<Name> = match args.len() {
        1 => cx.shard.pubsub.names_of(kind, cx.session.key),
        _ => args.slice(1).iter().map(Name::from).collect(),
    };
    for name in &names {
        cx.shard.unsubscribe(kind, name, cx.session);
        confirm(reply, kind.unsubscribed(), Some(name), confirmed(cx.session.subscriptions, kind));
    }
    if names.is_empty() {
        confirm(reply, kind.unsubscribed(), None, confirmed(cx.session.subscriptions, kind));
    }
    Ok(())
}

/// Hands a message to this shard's subscribers; how many there were.
fn send(shard: &mut Shard, args: Args<'_>, kind: Kind) -> i64 {
    let payload = match args.blob(2) {
        Some(blob) => Payload::Blob(blob),
        None => Payload::Bytes(args.get(2)),
    };
    shard.deliver(kind, args.get(1), payload) as i64
}

/// One shard's part of PUBLISH.
fn deliver(shard: &mut Shard, args: Args<'_>, reply: &mut Reply, kind: Kind) -> Result<(), CommandError> {
    reply.int(send(shard, args, kind));
    Ok(())
}

/// PUBLISH as a step of a transaction.
fn publish(coordinator: Coordinator, args: OwnedArgs, kind: Kind) -> Plan {
    Box::pin(async move {
        let args = Arc::new(args);
        let sent = args.clone();
        let (mut receivers, others) = coordinator
            .call(coordinator.origin().shard, move |shard| {
                let others = shard.pubsub.interested(kind, sent.as_args().get(1));
                (send(shard, sent.as_args(), kind), others)
            })
            .await;
        let calls: Vec<_> = others
            .into_iter()
            .map(|other| {
                let sent = args.clone();
                coordinator.call(other, move |shard| send(shard, sent.as_args(), kind))
            })
            .collect();
        for call in calls {
            receivers += call.await;
        }
        let mut reply = coordinator.reply();
        reply.int(receivers);
        Ok(reply)
    })
}

/// The union over the shards that the client sees of the names that clients there listen to.
async fn listened(coordinator: &Coordinator, kind: Kind) -> BTreeSet<Name> {
    let names = coordinator.call_seen(move |shard| shard.pubsub.names(kind).cloned().collect::<Vec<Name>>()).await;
    names.into_iter().flatten().collect()
}

fn channels(coordinator: Coordinator, args: OwnedArgs, kind: Kind) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        if args.len() > 3 {
            let word = String::from_utf8_lossy(args.get(1));
            return Err(CommandError::Message(format!(
                "ERR unknown subcommand or wrong number of arguments for '{word}'. Try PUBSUB HELP."
            )));
        }
        let mut names = listened(&coordinator, kind).await;
        if args.len() == 3 {
            names.retain(|name| glob::matches(args.get(2), name, false));
        }
        let mut reply = coordinator.reply();
        reply.array(names.len());
        names.iter().for_each(|name| reply.bulk(name));
        Ok(reply)
    })
}

fn numpat(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let patterns = listened(&coordinator, Kind::Pattern).await;
        let mut reply = coordinator.reply();
        reply.int(patterns.len() as i64);
        Ok(reply)
    })
}

fn numsub(coordinator: Coordinator, args: OwnedArgs, kind: Kind) -> Plan {
    Box::pin(async move {
        let names: Vec<Name> = args.as_args().slice(2).iter().map(Name::from).collect();
        let asked = names.clone();
        let counts = coordinator
            .call_seen(move |shard| {
                asked.iter().map(|name| shard.pubsub.subscribers(kind, name)).collect::<Vec<usize>>()
            })
            .await;
        let mut reply = coordinator.reply();
        reply.array(names.len() * 2);
        for (at, name) in names.iter().enumerate() {
            reply.bulk(name);
            reply.int(counts.iter().map(|shard| shard[at] as i64).sum());
        }
        Ok(reply)
    })
}
