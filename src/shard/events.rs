//! Keyspace events: what happens to keys, for those who have asked for it with `notify-keyspace-events`.
//!
//! A command notes what it does while it runs; when it is over, the shard that owns the key publishes it like any other message, in
//! the order of what was done: `__keyspace@<db>__:<key>` tells the event and `__keyevent@<db>__:<event>` the key. Other shards that
//! have subscribers are told without waiting, so events of one key arrive in their order, and those of keys on several shards in no
//! particular one. A client of a node's port is told of its shard's keys alone, as by Redis Cluster: who wants all listens on all nodes.
//!
//! Belongs to its shard. Noting costs one comparison when the event's class is off. Invariant: between two messages no event waits to
//! be published.

use super::Shard;
use crate::base::{Blob, DbIndex};
use crate::config::{Config, EventClass};
use crate::pubsub::{Kind, Payload};

struct KeyEvent {
    db: DbIndex,
    event: &'static str,
    key: Vec<u8>,
}

/// Events that were noted and not published yet, in order.
#[derive(Default)]
pub struct KeyEvents {
    queue: Vec<KeyEvent>,
}

impl KeyEvents {
    /// Notes an event if somebody has asked for its class.
    #[inline]
    pub fn note(&mut self, config: &Config, class: EventClass, event: &'static str, db: DbIndex, key: &[u8]) {
        if config.notify_keyspace_events.publishes(class) {
            self.keep(event, db, key);
        }
    }

    #[cold]
    fn keep(&mut self, event: &'static str, db: DbIndex, key: &[u8]) {
        self.queue.push(KeyEvent { db, event, key: key.to_vec() });
    }

    /// Whether there is nothing to publish.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Shard {
    /// Publishes what the command that is over has noted.
    #[cold]
    pub fn publish_events(&mut self) {
        let classes = self.config.notify_keyspace_events;
        for KeyEvent { db, event, key } in std::mem::take(&mut self.events.queue) {
            if self.pubsub.is_silent() {
                continue;
            }
            if classes.by_key() {
                let channel = [format!("__keyspace@{}__:", db.0).as_bytes(), &key].concat();
                self.broadcast(channel, event.as_bytes().to_vec());
            }
            if classes.by_event() {
                self.broadcast(format!("__keyevent@{}__:{event}", db.0).into_bytes(), key);
            }
        }
    }

    /// Publishes a message of the server's own to the subscribers of all shards; nobody waits for them.
    fn broadcast(&mut self, channel: Vec<u8>, message: Vec<u8>) {
        self.deliver(Kind::Channel, &channel, Payload::Bytes(&message));
        let others = self.pubsub.interested(Kind::Channel, &channel);
        if others.is_empty() {
            return;
        }
        let channel = Blob::new(channel);
        let message = Blob::new(message);
        for shard in others {
            let (channel, message) = (channel.clone(), message.clone());
            self.told.push((
                shard,
                Box::new(move |other: &mut Shard| {
                    other.deliver_from_elsewhere(&channel, Payload::Bytes(&message));
                }),
            ));
        }
    }
}
