//! Messages to the clients of this shard that have subscribed, and what the other shards are told of their subscriptions.
//!
//! A message is appended to what its receiver is sent next. Whole replies lie there and nothing else, so a message comes between two
//! replies, and may come before one that waits for another shard: RESP3 knows a push by its first byte, and a RESP2 client that is
//! subscribed awaits no other replies. A session that runs its commands just now is out of its table; its messages wait in
//! [`Shard::late`] until the command is over, so that they follow the reply of a PUBLISH which the client sent to itself.
//!
//! Belongs to its shard. Absent on purpose: output limits. Who gets a message is listed as disturbed, and the dispatcher looks at
//! each of those before the turn ends; so what a client leaves unread is bounded by its limit and one turn's messages.

use super::Shard;
use crate::base::{Blob, ShardId};
use crate::pubsub::{Kind, Message, Name, Payload};
use crate::resp::{Reply, Resp};
use crate::session::{Closing, Session, SessionKey, Subscriptions};

/// Unread bytes from which on a client's limit is looked at with each message.
const CHECKED_FROM_BYTES: usize = 16 * 1024;

impl Shard {
    /// Delivers a message to the subscribers of this shard. Returns how many there were.
    pub fn deliver(&mut self, kind: Kind, channel: &[u8], payload: Payload<'_>) -> usize {
        self.deliver_to(kind, channel, payload, true)
    }

    /// Delivers what has happened to a key of another shard. Clients that see this shard alone, as a node of a cluster, hear nothing.
    pub fn deliver_from_elsewhere(&mut self, channel: &[u8], payload: Payload<'_>) {
        self.deliver_to(Kind::Channel, channel, payload, false);
    }

    fn deliver_to(&mut self, kind: Kind, channel: &[u8], payload: Payload<'_>, nodes: bool) -> usize {
        let Shard { pubsub, sessions, disturbed, late, .. } = self;
        pubsub.deliver(kind, channel, payload, |key, message: &mut Message<'_>| {
            let Some(session) = sessions.get_mut(key) else {
                for proto in [Resp::V2, Resp::V3] {
                    late[proto as usize].append_copy(message.frame(proto));
                }
                return;
            };
            if session.closing == Closing::No && (nodes || !session.node) {
                push(session, message.frame(session.proto), disturbed);
            }
        })
    }

    /// Sends what this turn's commands have left for watchers of any shard to them, in one piece each.
    pub fn show_commands(&mut self) {
        let lines = std::mem::take(&mut self.shown);
        let here = self.deliver(Kind::Monitor, b"", Payload::Bytes(&lines));
        debug_assert!(here == 0 || self.pubsub.is_watched());
        let lines = Blob::new(lines);
        for shard in self.pubsub.interested(Kind::Monitor, b"") {
            let lines = lines.clone();
            self.told.push((
                shard,
                Box::new(move |other: &mut Shard| {
                    other.deliver(Kind::Monitor, b"", Payload::Bytes(&lines));
                }),
            ));
        }
    }

    /// Gives a session what has come for it while it ran. To be called between two of its commands, and at their end.
    #[inline]
    pub fn catch_up(&mut self, session: &mut Session) {
        if !self.late[0].is_empty() {
            session.out.append(&mut self.late[session.proto as usize]);
            self.late.iter_mut().for_each(Reply::clear);
        }
    }

    /// What a plan of this shard has held becomes a subscription of its client. Returns the names, with the client's count after
    /// each and whether it was new; nothing if the client has gone meanwhile.
    pub fn subscribe(&mut self, kind: Kind, names: Vec<Name>, key: SessionKey) -> Vec<(Name, u32, bool)> {
        let Some(session) = self.sessions.get_mut(key) else {
            for name in &names {
                if self.pubsub.release(kind, name) {
                    self.tell_of_end(kind, name);
                }
            }
            return Vec::new();
        };
        let mut subscribe = |name: Name| {
            let new = self.pubsub.subscribe(kind, &name, key);
            *count(&mut session.subscriptions, kind) += u32::from(new);
            session.subscriptions.name_bytes += if new { name.len() as u64 } else { 0 };
            (name, confirmed(session.subscriptions, kind), new)
        };
        names.into_iter().map(&mut subscribe).collect()
    }

    /// Ends a subscription; false if there was none.
    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8], session: &mut Session) -> bool {
        let Some(ended) = self.pubsub.unsubscribe(kind, name, session.key) else { return false };
        *count(&mut session.subscriptions, kind) -= 1;
        session.subscriptions.name_bytes -= name.len() as u64;
        if ended {
            self.tell_of_end(kind, name);
        }
        true
    }

    /// Ends all subscriptions of a session that goes, or that begins anew.
    pub fn unsubscribe_all(&mut self, key: SessionKey) {
        for (kind, name) in self.pubsub.forget(key) {
            self.tell_of_end(kind, &name);
        }
    }

    fn tell_of_end(&mut self, kind: Kind, name: &[u8]) {
        let here = self.id;
        for shard in self.slots.all().filter(|shard| *shard != here) {
            let name = name.to_vec();
            self.told
                .push((shard, Box::new(move |other: &mut Shard| other.pubsub.note_interest(kind, &name, here, false))));
        }
    }

    /// The shards that are not this one.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let here = self.id;
        self.slots.all().filter(move |shard| *shard != here)
    }
}

/// Appends a message to what a session is sent next.
pub fn push(session: &mut Session, frame: &Reply, disturbed: &mut Vec<SessionKey>) {
    // If something lies there already, the session is listed, or will be when what it is being sent has gone out.
    if session.out.is_empty() || session.out.total_bytes() > CHECKED_FROM_BYTES {
        disturbed.push(session.key);
    }
    session.out.append_copy(frame);
}

fn count(subscriptions: &mut Subscriptions, kind: Kind) -> &mut u32 {
    match kind {
        Kind::Channel => &mut subscriptions.channels,
        Kind::Pattern => &mut subscriptions.patterns,
        Kind::Shard => &mut subscriptions.shard_channels,
        Kind::Monitor => &mut subscriptions.monitor,
    }
}

/// The number in a confirmation: shard channels are counted by themselves.
pub fn confirmed(subscriptions: Subscriptions, kind: Kind) -> u32 {
    match kind {
        Kind::Channel | Kind::Pattern => subscriptions.channels + subscriptions.patterns,
        Kind::Shard => subscriptions.shard_channels,
        Kind::Monitor => subscriptions.monitor,
    }
}
