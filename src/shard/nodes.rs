//! The shards of this server as nodes of a Redis Cluster (`cluster-shard-nodes`): their names, their ports, and what a client is told
//! of them.
//!
//! Node n is shard n. It owns that shard's slots for as long as the server runs, and listens on a port of its own. A connection that
//! came in there ([`Session::node`]) is served by that shard's core and is told of other shards' keys where they are; one of the main
//! port sees all keys. Both may ask about the nodes.
//!
//! Belongs to nobody: names and ports are facts of the process ([`super::About`]), the rest is made of settings and of the address
//! that the client connected to. Invariant: a client that follows what it is told here meets each key on one node.
//! Absent on purpose: the cluster bus, replicas, and slots that move. Which commands a node refuses: `dispatch::node`.

use std::borrow::Cow;

use super::{About, Shard};
use crate::base::ShardId;
use crate::config::{Config, EndpointType};
use crate::resp::CommandError;
use crate::session::Session;

/// One node: what does not change while the server runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Forty hexadecimal digits: the name that CLUSTER MYID tells.
    pub id: String,
    /// As many: the name of the node with its replicas, of which there are none. CLUSTER MYSHARDID.
    pub group: String,
    /// Where it listens.
    pub port: u16,
}

/// The text for keys of several slots.
pub const CROSS_SLOT: CommandError = CommandError::Custom("CROSSSLOT Keys in request don't hash to the same slot");

/// Where a client without an address of the network is told to connect to: it sits on this machine.
const THIS_MACHINE: &str = "127.0.0.1";

/// The nodes as one client is told of them. See the module.
pub struct Announced<'a> {
    about: &'a About,
    config: &'a Config,
    /// The address that the client connected to.
    local: &'a str,
}

impl<'a> Announced<'a> {
    /// What is told to the client of this session.
    pub fn to(session: &'a Session, shard: &'a Shard) -> Announced<'a> {
        let host = session.local.rsplit_once(':').map_or("", |(host, _)| host);
        let local = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let local = if session.unix || ["", "?"].contains(&local) { THIS_MACHINE } else { local };
        Announced { about: &shard.about, config: &shard.config, local }
    }

    /// All nodes, by shard.
    pub fn nodes(&self) -> &'a [Node] {
        &self.about.nodes
    }

    /// Their address.
    pub fn ip(&self) -> Cow<'a, str> {
        match self.config.cluster_announce_ip.as_bytes() {
            b"" => Cow::Borrowed(self.local),
            ip => String::from_utf8_lossy(ip),
        }
    }

    /// Their host name, if they have one.
    pub fn hostname(&self) -> Option<Cow<'a, str>> {
        let name = self.config.cluster_announce_hostname.as_bytes();
        (!name.is_empty()).then(|| String::from_utf8_lossy(name))
    }

    /// What clients are to connect to: none if it is what they connected to before.
    pub fn endpoint(&self) -> Option<Cow<'a, str>> {
        match self.config.cluster_preferred_endpoint_type {
            EndpointType::Ip => Some(self.ip()),
            EndpointType::Hostname => Some(self.hostname().unwrap_or(Cow::Borrowed("?"))),
            EndpointType::UnknownEndpoint => None,
        }
    }

    /// The port of one of them. An announced port is that of the first; the others follow.
    pub fn port(&self, node: ShardId) -> u16 {
        match self.config.cluster_announce_port {
            0 => self.about.nodes[node.index()].port,
            first => first.saturating_add(node.0),
        }
    }

    /// What a client is told that asked another node for a key of this slot.
    #[cold]
    pub fn moved(&self, slot: u16, owner: ShardId) -> CommandError {
        let endpoint = self.endpoint().unwrap_or_default();
        CommandError::Message(format!("MOVED {slot} {endpoint}:{}", self.port(owner)))
    }
}
