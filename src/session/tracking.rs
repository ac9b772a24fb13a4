//! How a connection is tracked for client-side caching: what CLIENT TRACKING and CLIENT CACHING have asked for.
//!
//! Belongs to its session. Absent on purpose: the keys that it has read, which are remembered where they are (`tracking`).

use std::collections::BTreeSet;

use super::SessionKey;
use crate::base::ShardId;

/// The connection that invalidations are sent to instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// CLIENT ID.
    pub id: u64,
    /// Its shard.
    pub shard: ShardId,
    /// Its place there.
    pub session: SessionKey,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackedSession {
    /// It is told of all keys with its prefixes, whether it has read them or not.
    pub bcast: bool,
    /// Only what is read behind CLIENT CACHING YES is remembered.
    pub optin: bool,
    /// What is read behind CLIENT CACHING NO is not.
    pub optout: bool,
    /// It is not told of what it changes itself.
    pub noloop: bool,
    /// CLIENT CACHING, for the next command or transaction.
    pub caching: bool,
    /// Whether the connection of `redirect` has gone.
    pub broken: bool,
    /// Who is told in its place.
    pub redirect: Option<Redirect>,
    /// What it follows in `bcast` mode.
    pub prefixes: BTreeSet<Vec<u8>>,
}

impl TrackedSession {
    /// Whether a client of another shard than this one is told in its place.
    pub fn leads_away(&self, here: ShardId) -> bool {
        self.redirect.is_some_and(|redirect| redirect.shard != here)
    }

    /// Whether the keys that the next command reads are to be remembered.
    pub fn remembers(&self) -> bool {
        match (self.optin, self.optout) {
            _ if self.bcast => false,
            (true, _) => self.caching,
            (_, true) => !self.caching,
            (false, false) => true,
        }
    }
}
