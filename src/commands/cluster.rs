//! CLUSTER and its kin: the shards as nodes of a Redis Cluster (`cluster-shard-nodes`), told in the shapes of Redis 7.
//!
//! Nearly all of it is known to every core and answered on the connection's: slots, names and ports stand for as long as the server
//! runs. A connection of the main port is told of the same nodes, the core that serves it is "myself", and slots are looked into
//! wherever they are; one of a node's port looks into its own, as in Redis Cluster. Without the mode every command says that there
//! is no cluster: redis-cli and client libraries ask and go on.
//!
//! No index says which keys a slot has: COUNTKEYSINSLOT and GETKEYSINSLOT walk over the shard's keys in slices, between which other
//! clients have their turn, and see each key that is there from their beginning to their end.
//!
//! Absent on purpose: changing the cluster. What would do so is refused with an error that says why.

use super::docs::Group;
use super::help;
use super::table::{Flags, Reach, Row, Run, SessionCx};
use super::walk;
use crate::base::ShardId;
use crate::base::crc::{SLOTS, key_slot};
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::shard::nodes::{Announced, Node};
use crate::shard::reservations::Access;
use crate::txn::{Coordinator, Plan};

const ADMIN: Flags = Flags::ADMIN.and(Flags::STALE).and(Flags::NO_ASYNC_LOADING);
const ANY: Flags = Flags::STALE;
const VARIES: &[&str] = &["nondeterministic_output"];

const CLUSTER: Row = Row { group: Group::Cluster, since: "3.0.0", run: Run::Session(unchangeable), ..Row::DEFAULT };

/// A row for a connection's mode.
const fn mode(name: &'static str, summary: &'static str, flags: Flags) -> Row {
    Row { name, summary, flags, acl: &["connection"], run: Run::Session(mode_is_set), ..CLUSTER }
}

/// A row of CLUSTER.
const fn sub(
    name: &'static str,
    usage: &'static str,
    since: &'static str,
    arity: i16,
    flags: Flags,
    tips: &'static [&'static str],
    summary: &'static str,
) -> Row {
    Row { name, usage, since, arity, flags, tips, summary, ..CLUSTER }
}

/// See the module.
pub const ROWS: &[Row] = &[
    mode("asking", "Lets the next command use a slot that is being imported.", Flags::FAST),
    Row {
        name: "cluster",
        summary: "A container for commands about the cluster.",
        since: "3.0.0",
        complexity: "Depends on the subcommand.",
        group: Group::Cluster,
        arity: -2,
        subcommands: SUBCOMMANDS,
        ..Row::DEFAULT
    },
    mode("readonly", "Allows reads on a replica of a cluster.", Flags::LOADING.and(Flags::STALE).and(Flags::FAST)),
    mode("readwrite", "Ends READONLY.", Flags::LOADING.and(Flags::STALE).and(Flags::FAST)),
];

const SUBCOMMANDS: &[Row] = &[
    sub("addslots", "slot [slot ...]", "3.0.0", -3, ADMIN, &[], "Gives slots to this node."),
    sub(
        "addslotsrange",
        "start-slot end-slot [start-slot end-slot ...]",
        "7.0.0",
        -4,
        ADMIN,
        &[],
        "Gives ranges of slots to this node.",
    ),
    sub("bumpepoch", "", "3.0.0", 2, ADMIN, VARIES, "Advances the configuration's epoch."),
    Row {
        run: Run::Session(failure_reports),
        ..sub(
            "count-failure-reports",
            "node-id",
            "3.0.0",
            3,
            ANY.and(Flags::ADMIN),
            VARIES,
            "How many nodes report another as failing.",
        )
    },
    Row {
        run: Run::Server(count_keys),
        reach: Reach::Walk(Access::Shared),
        complexity: "O(N) with N keys of the node",
        ..sub("countkeysinslot", "slot", "3.0.0", 3, ANY, &[], "How many keys a slot has.")
    },
    sub("delslots", "slot [slot ...]", "3.0.0", -3, ADMIN, &[], "Takes slots from this node."),
    sub(
        "delslotsrange",
        "start-slot end-slot [start-slot end-slot ...]",
        "7.0.0",
        -4,
        ADMIN,
        &[],
        "Takes ranges of slots from this node.",
    ),
    sub("failover", "[FORCE | TAKEOVER]", "3.0.0", -2, ADMIN, &[], "Makes a replica take its master's place."),
    sub("flushslots", "", "3.0.0", 2, ADMIN, &[], "Takes all slots from this node."),
    sub("forget", "node-id", "3.0.0", 3, ADMIN, &[], "Removes a node from the cluster."),
    Row {
        run: Run::Server(get_keys),
        reach: Reach::Walk(Access::Shared),
        complexity: "O(N) with N keys of the node",
        ..sub("getkeysinslot", "slot count", "3.0.0", 4, ANY, VARIES, "Keys of a slot.")
    },
    Row {
        run: Run::Session(help),
        ..sub("help", "", "5.0.0", 2, Flags::LOADING.and(Flags::STALE), &[], "Prints this help.")
    },
    Row { run: Run::Session(info), ..sub("info", "", "3.0.0", 2, ANY, VARIES, "The state of the cluster.") },
    Row { run: Run::Session(keyslot), ..sub("keyslot", "key", "3.0.0", 3, ANY, &[], "The slot of a key.") },
    Row { run: Run::Session(links), ..sub("links", "", "7.0.0", 2, ANY, VARIES, "Links to other nodes.") },
    sub("meet", "ip port [cluster-bus-port]", "3.0.0", -4, ADMIN, &[], "Makes two nodes know each other."),
    Row { run: Run::Session(myid), ..sub("myid", "", "3.0.0", 2, ANY, &[], "This node's name.") },
    Row {
        run: Run::Session(myshardid),
        ..sub("myshardid", "", "7.2.0", 2, ANY, VARIES, "The name of this node's group of replicas.")
    },
    Row { run: Run::Session(nodes), ..sub("nodes", "", "3.0.0", 2, ANY, VARIES, "The nodes of the cluster.") },
    Row {
        run: Run::Session(replicas),
        ..sub("replicas", "node-id", "5.0.0", 3, ANY.and(Flags::ADMIN), VARIES, "The replicas of a node.")
    },
    sub("replicate", "node-id", "3.0.0", 3, ADMIN, &[], "Makes this node a replica."),
    sub(
        "reset",
        "[HARD | SOFT]",
        "3.0.0",
        -2,
        Flags::ADMIN.and(Flags::STALE).and(Flags::NOSCRIPT),
        &[],
        "Makes this node forget the cluster.",
    ),
    Row {
        run: Run::Session(saveconfig),
        ..sub("saveconfig", "", "3.0.0", 2, ADMIN, &[], "Writes the cluster's configuration to disk.")
    },
    sub("set-config-epoch", "config-epoch", "3.0.0", 3, ADMIN, &[], "Sets the epoch of a new node."),
    sub(
        "setslot",
        "slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>",
        "3.0.0",
        -4,
        ADMIN,
        &[],
        "Ties a slot to a node.",
    ),
    Row {
        run: Run::Session(shards),
        ..sub(
            "shards",
            "",
            "7.0.0",
            2,
            Flags::LOADING.and(Flags::STALE),
            VARIES,
            "Slots and nodes by group of replicas.",
        )
    },
    Row {
        deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
        run: Run::Session(replicas),
        ..sub("slaves", "node-id", "3.0.0", 3, ANY.and(Flags::ADMIN), VARIES, "The replicas of a node.")
    },
    Row {
        deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")),
        run: Run::Session(slots),
        ..sub("slots", "", "3.0.0", 2, Flags::LOADING.and(Flags::STALE), VARIES, "Slots and the nodes that serve them.")
    },
];

type Done = Result<(), CommandError>;

// Word for word: redis-cli goes on only after this text.
const DISABLED: CommandError = CommandError::Custom("ERR This instance has cluster support disabled");

/// The nodes as the client is told of them; an error without the mode.
fn announced<'a>(cx: &'a SessionCx<'_>) -> Result<Announced<'a>, CommandError> {
    if cx.shard.about.nodes.is_empty() { Err(DISABLED) } else { Ok(Announced::to(cx.session, cx.shard)) }
}

/// ASKING, READONLY and READWRITE: no slot is on its way and no node is a replica, so they change nothing.
fn mode_is_set(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    announced(cx)?;
    reply.ok();
    Ok(())
}

fn unchangeable(cx: &mut SessionCx<'_>, _: Args<'_>, _: &mut Reply) -> Done {
    announced(cx)?;
    let name = cx.row.full_name.replace('|', " ").to_ascii_uppercase();
    Err(CommandError::Message(format!(
        "ERR {name} is not possible: the nodes are the shards of one server (cluster-shard-nodes)"
    )))
}

/// What it saves in Redis is on the disk since the server began.
fn saveconfig(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    announced(cx)?;
    reply.ok();
    Ok(())
}

fn help(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    announced(cx)?;
    help::help(cx, args, reply)
}

fn keyslot(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    announced(cx)?;
    reply.int(i64::from(key_slot(args.get(2))));
    Ok(())
}

/// There are none: nodes of one process talk over queues in memory.
fn links(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    announced(cx)?;
    reply.array(0);
    Ok(())
}

fn myid(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let here = cx.shard.id.index();
    reply.bulk(announced(cx)?.nodes()[here].id.as_bytes());
    Ok(())
}

fn myshardid(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let here = cx.shard.id.index();
    reply.bulk(announced(cx)?.nodes()[here].group.as_bytes());
    Ok(())
}

/// Checks that argument 2 names a node.
fn named(cx: &SessionCx<'_>, args: Args<'_>) -> Done {
    let id = args.get(2);
    match announced(cx)?.nodes().iter().any(|node| node.id.as_bytes() == id) {
        true => Ok(()),
        false => Err(CommandError::echo("Unknown node ", id)),
    }
}

fn replicas(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    named(cx, args)?;
    reply.array(0);
    Ok(())
}

fn failure_reports(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    named(cx, args)?;
    reply.int(0);
    Ok(())
}

/// The configuration epoch of a node: they differ, as in a cluster that redis-cli has made.
fn epoch(shard: ShardId) -> u32 {
    u32::from(shard.0) + 1
}

fn info(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let nodes = announced(cx)?.nodes().len();
    let text = format!(
        "cluster_state:ok\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{nodes}\r\ncluster_current_epoch:{nodes}\r\n\
         cluster_my_epoch:{}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        epoch(cx.shard.id),
    );
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Each node with its shard and its slots.
fn each<'a>(
    cx: &SessionCx<'_>,
    announced: &Announced<'a>,
) -> impl ExactSizeIterator<Item = (ShardId, (u16, u16), &'a Node)> + use<'a> {
    let slots = cx.shard.slots;
    slots.all().zip(announced.nodes()).map(move |(shard, node)| (shard, slots.range(shard), node))
}

fn nodes(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let announced = announced(cx)?;
    let ip = announced.ip();
    let hostname = announced.hostname().map_or_else(String::new, |name| format!(",{name}"));
    let now = cx.shard.now.millis().0;
    let mut text = String::new();
    for (shard, (first, last), node) in each(cx, &announced) {
        let (myself, heard) = if shard == cx.shard.id { ("myself,", 0) } else { ("", now) };
        // The port of the bus is 0: there is none.
        text.push_str(&format!(
            "{} {ip}:{}@0{hostname} {myself}master - 0 {heard} {} connected {first}-{last}\n",
            node.id,
            announced.port(shard),
            epoch(shard),
        ));
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn slots(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let announced = announced(cx)?;
    let (endpoint, ip, hostname) = (announced.endpoint(), announced.ip(), announced.hostname());
    // What the first field does not tell.
    let told = |name: &str| endpoint.as_deref() == Some(name);
    let more: Vec<(&str, &str)> = [("ip", Some(&ip)), ("hostname", hostname.as_ref())]
        .into_iter()
        .filter_map(|(field, value)| value.filter(|value| !told(value)).map(|value| (field, &**value)))
        .collect();
    let nodes = each(cx, &announced);
    reply.array(nodes.len());
    for (shard, (first, last), node) in nodes {
        reply.array(3);
        reply.int(i64::from(first));
        reply.int(i64::from(last));
        reply.array(4);
        match &endpoint {
            Some(endpoint) => reply.bulk(endpoint.as_bytes()),
            None => reply.null(),
        }
        reply.int(i64::from(announced.port(shard)));
        reply.bulk(node.id.as_bytes());
        reply.map(more.len());
        for (field, value) in &more {
            reply.bulk(field.as_bytes());
            reply.bulk(value.as_bytes());
        }
    }
    Ok(())
}

fn shards(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Done {
    let announced = announced(cx)?;
    let (endpoint, ip, hostname) = (announced.endpoint().unwrap_or_default(), announced.ip(), announced.hostname());
    let nodes = each(cx, &announced);
    reply.array(nodes.len());
    for (shard, (first, last), node) in nodes {
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(2);
        reply.int(i64::from(first));
        reply.int(i64::from(last));
        reply.bulk(b"nodes");
        reply.array(1);
        reply.map(7 + usize::from(hostname.is_some()));
        let pair = |field: &str, value: &str, reply: &mut Reply| {
            reply.bulk(field.as_bytes());
            reply.bulk(value.as_bytes());
        };
        pair("id", &node.id, reply);
        reply.bulk(b"port");
        reply.int(i64::from(announced.port(shard)));
        pair("ip", &ip, reply);
        pair("endpoint", &endpoint, reply);
        if let Some(hostname) = &hostname {
            pair("hostname", hostname, reply);
        }
        pair("role", "master", reply);
        reply.bulk(b"replication-offset");
        reply.int(0);
        pair("health", "online", reply);
    }
    Ok(())
}

/// The slot in argument 2, if it is one.
fn slot(args: Args<'_>) -> Result<Option<u16>, CommandError> {
    let slot = parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
    Ok(u16::try_from(slot).ok().filter(|slot| *slot < SLOTS))
}

fn count_keys(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        check_enabled(&coordinator).await?;
        let slot = slot(args.as_args())?.ok_or(CommandError::Custom("ERR Invalid slot"))?;
        let keys = walk::keys_of_slot(&coordinator, slot, usize::MAX).await;
        let mut reply = coordinator.reply();
        reply.int(keys.len() as i64);
        Ok(reply)
    })
}

fn get_keys(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        check_enabled(&coordinator).await?;
        let args = args.as_args();
        let slot = slot(args)?;
        let count = parse_i64(args.get(3)).ok_or(CommandError::NotAnInteger)?;
        let (Some(slot), Ok(count)) = (slot, usize::try_from(count)) else {
            return Err(CommandError::Custom("ERR Invalid slot or number of keys"));
        };
        let keys = walk::keys_of_slot(&coordinator, slot, count).await;
        let mut reply = coordinator.reply();
        reply.array(keys.len());
        keys.as_args().iter().for_each(|key| reply.bulk(key));
        Ok(reply)
    })
}

/// As [`announced`], for a plan.
async fn check_enabled(coordinator: &Coordinator) -> Done {
    let home = coordinator.origin().shard;
    match coordinator.call(home, |shard| shard.about.nodes.is_empty()).await {
        true => Err(DISABLED),
        false => Ok(()),
    }
}
