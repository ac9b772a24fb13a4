//! Cluster commands, while cluster mode is off: each answers that it is, on the connection's core. redis-cli and client
//! libraries ask and go on.
//!
//! Absent on purpose: the cluster. The rows are here so that arity, unknown subcommands and COMMAND are right already.

use super::docs::Group;
use super::table::{Flags, Row, Run, SessionCx};
use crate::resp::{Args, CommandError, Reply};

const ADMIN: Flags = Flags::ADMIN.and(Flags::STALE).and(Flags::NO_ASYNC_LOADING);
const ANY: Flags = Flags::STALE;
const VARIES: &[&str] = &["nondeterministic_output"];

const CLUSTER: Row = Row { group: Group::Cluster, since: "3.0.0", run: Run::Session(disabled), ..Row::DEFAULT };

/// A row for a connection's mode.
const fn mode(name: &'static str, summary: &'static str, flags: Flags) -> Row {
    Row { name, summary, flags, acl: &["connection"], ..CLUSTER }
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
    sub(
        "count-failure-reports",
        "node-id",
        "3.0.0",
        3,
        ANY.and(Flags::ADMIN),
        VARIES,
        "How many nodes report another as failing.",
    ),
    sub("countkeysinslot", "slot", "3.0.0", 3, ANY, &[], "How many keys a slot has."),
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
    sub("getkeysinslot", "slot count", "3.0.0", 4, ANY, VARIES, "Keys of a slot."),
    sub("help", "", "5.0.0", 2, Flags::LOADING.and(Flags::STALE), &[], "Prints this help."),
    sub("info", "", "3.0.0", 2, ANY, VARIES, "The state of the cluster."),
    sub("keyslot", "key", "3.0.0", 3, ANY, &[], "The slot of a key."),
    sub("links", "", "7.0.0", 2, ANY, VARIES, "Links to other nodes."),
    sub("meet", "ip port [cluster-bus-port]", "3.0.0", -4, ADMIN, &[], "Makes two nodes know each other."),
    sub("myid", "", "3.0.0", 2, ANY, &[], "This node's name."),
    sub("myshardid", "", "7.2.0", 2, ANY, VARIES, "The name of this node's group of replicas."),
    sub("nodes", "", "3.0.0", 2, ANY, VARIES, "The nodes of the cluster."),
    sub("replicas", "node-id", "5.0.0", 3, ANY.and(Flags::ADMIN), VARIES, "The replicas of a node."),
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
    sub("saveconfig", "", "3.0.0", 2, ADMIN, &[], "Writes the cluster's configuration to disk."),
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
    sub("shards", "", "7.0.0", 2, Flags::LOADING.and(Flags::STALE), VARIES, "Slots and nodes by group of replicas."),
    Row {
        deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
        ..sub("slaves", "node-id", "3.0.0", 3, ANY.and(Flags::ADMIN), VARIES, "The replicas of a node.")
    },
    Row {
        deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")),
        ..sub("slots", "", "3.0.0", 2, Flags::LOADING.and(Flags::STALE), VARIES, "Slots and the nodes that serve them.")
    },
];

fn disabled(_: &mut SessionCx<'_>, _: Args<'_>, _: &mut Reply) -> Result<(), CommandError> {
    // Word for word: redis-cli goes on only after this text.
    Err(CommandError::Custom("ERR This instance has cluster support disabled"))
}
