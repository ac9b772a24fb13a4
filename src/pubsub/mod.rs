//! Publish and subscribe: who listens to what on this shard, and which other shards have somebody who does.
//!
//! Every shard has one [`PubSub`]. It knows its own clients' subscriptions exactly, and of each other shard one thing: which
//! channels and patterns have a subscriber there. So the shard of a publisher knows where a message has to go, sends it to each
//! of these shards once, and each delivers it to its own clients, encoded once per protocol.
//!
//! ```text
//!   shard 0                                   shard 1
//!   news    [conn 3, conn 9]  elsewhere: 1    news    [conn 4]  elsewhere: 0
//!   log.*   []                elsewhere: 1    log.*   [conn 7]  elsewhere: none
//! ```
//!
//! How a subscription comes to be: its shard *holds* the name, tells all others of the interest, and makes the client a subscriber
//! when all have answered; only then the client reads that it is subscribed. So a message that is published after that is never
//! missed, and none comes before. When the last subscriber of a name has gone and nobody holds it, the others are told so; until
//! they hear it they send a message in vain. What one shard tells another arrives in order, and an end of interest is only told
//! while nobody holds the name: so what another shard believes in the end is what is true.
//!
//! Invariants: a name is in a table while it has subscribers here, interest elsewhere or a hold; a session's names and the tables'
//! subscribers say the same ([`PubSub::check_invariants`]).
//!
//! Absent on purpose: messages between shards (`shard`), and what a client reads (`commands`).

mod patterns;
mod topics;

use std::collections::HashMap;

pub use topics::Name;
use topics::{Topic, Topics};

use crate::base::{Blob, ShardId};
use crate::resp::{Reply, Resp};
use crate::session::SessionKey;

/// What a subscription names. Each kind has names of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// A channel (SUBSCRIBE).
    Channel,
    /// A pattern of channels (PSUBSCRIBE).
    Pattern,
    /// A shard channel (SSUBSCRIBE).
    Shard,
    /// All commands of all clients (MONITOR). Its one name is empty, and its messages are sent as they are.
    Monitor,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Channel, Kind::Pattern, Kind::Shard, Kind::Monitor];

    /// The first word of the confirmation that a client is subscribed.
    pub fn subscribed(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"subscribe",
            Kind::Pattern => b"psubscribe",
            Kind::Shard => b"ssubscribe",
            Kind::Monitor => b"monitor",
        }
    }

    /// The first word of the confirmation that it is not any more.
    pub fn unsubscribed(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"unsubscribe",
            Kind::Pattern => b"punsubscribe",
            Kind::Shard => b"sunsubscribe",
            Kind::Monitor => b"reset",
        }
    }
}

/// One client's subscriptions: names and its place among each name's subscribers.
type Places = HashMap<Name, u32, ahash::RandomState>;

/// The subscriptions of one shard. See the module.
pub struct PubSub {
    topics: [Topics; 4],
    sessions: HashMap<SessionKey, [Places; 4], ahash::RandomState>,
    /// Reused for each message, by protocol.
    frames: [Reply; 2],
}

impl Default for PubSub {
    fn default() -> PubSub {
        let topics = [Topics::default(), Topics::of_patterns(), Topics::default(), Topics::default()];
        PubSub { topics, sessions: HashMap::default(), frames: Default::default() }
    }
}

/// Memory of a message's frame that is kept for the next message. Bytes.
const FRAME_KEPT_BYTES_MAX: usize = 16 * 1024;

/// What is published.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Copied to each subscriber.
    Bytes(&'a [u8]),
    /// Sent from where it is.
    Blob(&'a Blob),
}

/// A message to the subscribers of one name, encoded at most once per protocol.
pub struct Message<'m> {
    kind: Kind,
    /// The pattern that matched, for subscribers of one.
    pattern: Option<&'m [u8]>,
    channel: &'m [u8],
    payload: Payload<'m>,
    frames: &'m mut [Reply; 2],
}

impl Message<'_> {
    /// As a client of this protocol reads it.
    pub fn frame(&mut self, proto: Resp) -> &Reply {
        let frame = &mut self.frames[proto as usize];
        if frame.is_empty() {
            frame.set_proto(proto);
            if self.kind == Kind::Monitor {
                match self.payload {
                    Payload::Bytes(lines) => frame.raw(lines),
                    Payload::Blob(lines) => frame.raw(lines),
                }
                return frame;
            }
            frame.push(if self.pattern.is_some() { 4 } else { 3 });
            match self.pattern {
                Some(pattern) => {
                    frame.bulk(b"pmessage");
                    frame.bulk(pattern);
                }
                None => frame.bulk(if self.kind == Kind::Shard { b"smessage" } else { b"message" }),
            }
            frame.bulk(self.channel);
            match self.payload {
                Payload::Bytes(bytes) => frame.bulk(bytes),
                Payload::Blob(blob) => frame.blob(blob),
            }
        }
        frame
    }
}

impl PubSub {
    /// Whether nobody anywhere listens to anything, so that there is nowhere to publish to.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.topics.iter().all(Topics::is_empty)
    }

    /// Whether somebody anywhere watches all commands.
    #[inline]
    pub fn is_watched(&self) -> bool {
        !self.topics[Kind::Monitor as usize].is_empty()
    }

    /// A plan of this shard is about to subscribe to these names: they count as wanted until [`PubSub::subscribe`] or
    /// [`PubSub::release`]. Returns those that the other shards have to be told of.
    pub fn hold<'n>(&mut self, kind: Kind, names: impl Iterator<Item = &'n [u8]>) -> Vec<Name> {
        let topics = &mut self.topics[kind as usize];
        let mut to_announce = Vec::new();
        for name in names {
            let (name, topic) = topics.entry(name);
            topic.holds += 1;
            if topic.subscribers.is_empty() {
                to_announce.push(name);
            }
        }
        to_announce
    }

    /// Gives a hold up without subscribing. True if the other shards have to be told that interest has ended.
    pub fn release(&mut self, kind: Kind, name: &[u8]) -> bool {
        let topics = &mut self.topics[kind as usize];
        let topic = topics.get_mut(name).expect("a held name is in the table");
        topic.holds -= 1;
        let ended = !topic.is_wanted();
        topics.tidy(name);
        ended
    }

    /// Turns a hold into a subscription. False if the session had it already.
    pub fn subscribe(&mut self, kind: Kind, name: &[u8], session: SessionKey) -> bool {
        let (name, topic) = self.topics[kind as usize].entry(name);
        topic.holds = topic.holds.checked_sub(1).expect("a subscription begins with a hold");
        let places = &mut self.sessions.entry(session).or_default()[kind as usize];
        if places.contains_key(&name) {
            return false;
        }
        places.insert(name, topic.subscribers.len() as u32);
        topic.subscribers.push(session);
        if topic.subscribers.len() == 1 {
            self.topics[kind as usize].here += 1;
        }
        true
    }

    /// Ends a subscription. None if the session had none; else whether the other shards have to be told that interest has ended.
    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8], session: SessionKey) -> Option<bool> {
        let places = self.sessions.get_mut(&session)?;
        let place = places[kind as usize].remove(name)?;
        if places.iter().all(HashMap::is_empty) {
            self.sessions.remove(&session);
        }
        Some(self.leave(kind, name, place))
    }

    /// Takes the subscriber at this place out of a name's list; the last one takes its place.
    fn leave(&mut self, kind: Kind, name: &[u8], place: u32) -> bool {
        let topics = &mut self.topics[kind as usize];
        let topic = topics.get_mut(name).expect("a subscriber's name is in the table");
        topic.subscribers.swap_remove(place as usize);
        if let Some(moved) = topic.subscribers.get(place as usize)
            && let Some(places) = self.sessions.get_mut(moved)
            && let Some(of_moved) = places[kind as usize].get_mut(name)
        {
            *of_moved = place;
        }
        let ended = !topic.is_wanted();
        topics.here -= usize::from(topic.subscribers.is_empty());
        topics.tidy(name);
        ended
    }

    /// Ends all subscriptions of a session that goes. Returns the names whose end the other shards have to be told of.
    pub fn forget(&mut self, session: SessionKey) -> Vec<(Kind, Name)> {
        let mut ended = Vec::new();
        let Some(mut all) = self.sessions.remove(&session) else { return ended };
        for kind in Kind::ALL {
            for (name, place) in all[kind as usize].drain() {
                if self.leave(kind, &name, place) {
                    ended.push((kind, name));
                }
            }
        }
        ended
    }

    /// The names of one kind that a session is subscribed to, in no order.
    pub fn names_of(&self, kind: Kind, session: SessionKey) -> Vec<Name> {
        self.sessions.get(&session).map_or_else(Vec::new, |all| all[kind as usize].keys().cloned().collect())
    }

    /// Another shard tells that somebody there listens to a name, or that nobody does any more.
    pub fn note_interest(&mut self, kind: Kind, name: &[u8], shard: ShardId, wanted: bool) {
        let topics = &mut self.topics[kind as usize];
        if wanted {
            let (_, topic) = topics.entry(name);
            if !topic.elsewhere.contains(&shard) {
                topic.elsewhere.push(shard);
            }
        } else if let Some(topic) = topics.get_mut(name) {
            topic.elsewhere.retain(|other| *other != shard);
            topics.tidy(name);
        }
    }

    /// The other shards that a message on this channel has to go to.
    pub fn interested(&mut self, kind: Kind, channel: &[u8]) -> Vec<ShardId> {
        let mut shards = Vec::new();
        if let Some(topic) = self.topics[kind as usize].get(channel) {
            shards.extend_from_slice(&topic.elsewhere);
        }
        let patterns = &self.topics[Kind::Pattern as usize];
        if kind == Kind::Channel && !patterns.is_empty() {
            patterns.matching(channel, |_, topic| {
                for shard in &topic.elsewhere {
                    if !shards.contains(shard) {
                        shards.push(*shard);
                    }
                }
            });
        }
        shards
    }

    /// The other shards that have told of interest in a name itself.
    pub fn interested_in(&self, kind: Kind, name: &[u8]) -> &[ShardId] {
        self.topics[kind as usize].get(name).map_or(&[], |topic| &topic.elsewhere)
    }

    /// Hands a message to each subscriber of this shard, once for the channel and once for each pattern that matches, and says
    /// how often that was.
    pub fn deliver(
        &mut self,
        kind: Kind,
        channel: &[u8],
        payload: Payload<'_>,
        mut hand: impl FnMut(SessionKey, &mut Message<'_>),
    ) -> usize {
        let PubSub { topics, frames, .. } = self;
        let mut receivers = 0;
        let mut to = |topic: &Topic, pattern: Option<&[u8]>| {
            if !topic.subscribers.is_empty() {
                frames.iter_mut().for_each(Reply::clear);
                let mut message = Message { kind, pattern, channel, payload, frames: &mut *frames };
                topic.subscribers.iter().for_each(|session| hand(*session, &mut message));
                receivers += topic.subscribers.len();
            }
        };
        if let Some(topic) = topics[kind as usize].get(channel) {
            to(topic, None);
        }
        let patterns = &topics[Kind::Pattern as usize];
        if kind == Kind::Channel && patterns.here > 0 {
            patterns.matching(channel, |name, topic| to(topic, Some(name)));
        }
        // A large message is not to be held until the next one comes.
        frames.iter_mut().for_each(|frame| frame.shrink_after_use(FRAME_KEPT_BYTES_MAX));
        receivers
    }

    /// The names of one kind that have subscribers here.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.topics[kind as usize].iter().filter(|(_, topic)| !topic.subscribers.is_empty()).map(|(name, _)| name)
    }

    /// Names with subscribers on this shard and on no shard before it: their sum over all shards counts each name once.
    pub fn counted_here(&self, kind: Kind, here: ShardId) -> usize {
        let topics = self.topics[kind as usize].iter();
        topics.filter(|(_, t)| !t.subscribers.is_empty() && t.elsewhere.iter().all(|other| *other > here)).count()
    }

    /// How many clients of this shard are subscribed to a name.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.topics[kind as usize].get(name).map_or(0, |topic| topic.subscribers.len())
    }

    /// Panics if a table and the sessions' names do not say the same. Costs as much as there are subscriptions.
    pub fn check_invariants(&self) {
        for kind in Kind::ALL {
            let topics = &self.topics[kind as usize];
            topics.check_invariants();
            for (name, topic) in topics.iter() {
                for (place, session) in topic.subscribers.iter().enumerate() {
                    assert_eq!(self.sessions[session][kind as usize][name] as usize, place, "{kind:?} {name:?}");
                }
            }
            let listed: usize = topics.iter().map(|(_, topic)| topic.subscribers.len()).sum();
            let known: usize = self.sessions.values().map(|all| all[kind as usize].len()).sum();
            assert_eq!(listed, known, "{kind:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::collections::BTreeSet;

    fn key(index: u32) -> SessionKey {
        SessionKey { index, generation: 1 }
    }

    fn join(pubsub: &mut PubSub, kind: Kind, name: &[u8], session: u32) -> bool {
        pubsub.hold(kind, [name].into_iter());
        pubsub.subscribe(kind, name, key(session))
    }

    fn delivered(pubsub: &mut PubSub, kind: Kind, channel: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut got = Vec::new();
        let receivers = pubsub.deliver(kind, channel, Payload::Bytes(b"m"), |session, message| {
            got.push((session.index, message.frame(Resp::V3).to_vec()));
        });
        assert_eq!(receivers, got.len());
        got
    }

    #[test]
    fn a_channel_comes_first_and_then_each_pattern_that_matches() {
        let mut pubsub = PubSub::default();
        assert!(join(&mut pubsub, Kind::Pattern, b"ne*", 1));
        assert!(join(&mut pubsub, Kind::Channel, b"news", 1));
        assert!(join(&mut pubsub, Kind::Pattern, b"x*", 1));
        assert!(join(&mut pubsub, Kind::Shard, b"news", 2));
        let got = delivered(&mut pubsub, Kind::Channel, b"news");
        let message = b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nm\r\n".to_vec();
        let pmessage = b">4\r\n$8\r\npmessage\r\n$3\r\nne*\r\n$4\r\nnews\r\n$1\r\nm\r\n".to_vec();
        assert_eq!(got, [(1, message), (1, pmessage)]);
        let smessage = b">3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$1\r\nm\r\n".to_vec();
        assert_eq!(delivered(&mut pubsub, Kind::Shard, b"news"), [(2, smessage)]);
    }

    #[test]
    fn interest_ends_with_the_last_subscriber_and_the_last_hold() {
        let mut pubsub = PubSub::default();
        assert_eq!(pubsub.hold(Kind::Channel, [&b"a"[..]].into_iter()).len(), 1);
        assert_eq!(pubsub.hold(Kind::Channel, [&b"a"[..]].into_iter()).len(), 1, "nobody is subscribed yet");
        pubsub.subscribe(Kind::Channel, b"a", key(1));
        assert_eq!(pubsub.unsubscribe(Kind::Channel, b"a", key(1)), Some(false), "the other plan holds it");
        assert_eq!(pubsub.unsubscribe(Kind::Channel, b"a", key(1)), None);
        assert!(pubsub.release(Kind::Channel, b"a"));
        assert!(pubsub.is_silent());
        join(&mut pubsub, Kind::Channel, b"a", 1);
        assert!(pubsub.hold(Kind::Channel, [&b"a"[..]].into_iter()).is_empty(), "the others know already");
    }

    #[test]
    fn a_message_goes_to_each_interested_shard_once() {
        let mut pubsub = PubSub::default();
        pubsub.note_interest(Kind::Channel, b"ab", ShardId(1), true);
        pubsub.note_interest(Kind::Pattern, b"a*", ShardId(1), true);
        pubsub.note_interest(Kind::Pattern, b"?b", ShardId(2), true);
        pubsub.note_interest(Kind::Pattern, b"?b", ShardId(2), true);
        pubsub.note_interest(Kind::Shard, b"ab", ShardId(3), true);
        assert_eq!(pubsub.interested(Kind::Channel, b"ab"), [ShardId(1), ShardId(2)]);
        assert_eq!(pubsub.interested(Kind::Shard, b"ab"), [ShardId(3)]);
        pubsub.note_interest(Kind::Pattern, b"?b", ShardId(2), false);
        assert_eq!(pubsub.interested(Kind::Channel, b"ab"), [ShardId(1)]);
    }

    #[test]
    fn tables_stay_whole_while_subscribers_come_and_go() {
        for seed in 0..20 {
            let mut rng = Rng::seed(seed);
            let mut pubsub = PubSub::default();
            let mut model: BTreeSet<(u8, u64, u32)> = BTreeSet::new();
            for _ in 0..2000 {
                let kind = Kind::ALL[rng.below(4) as usize];
                let (n, session) = (rng.below(8), rng.below(20) as u32);
                let name = format!("n{n}*");
                match rng.below(10) {
                    0 => {
                        pubsub.forget(key(session));
                        model.retain(|(_, _, s)| *s != session);
                    }
                    1..6 => {
                        let new = join(&mut pubsub, kind, name.as_bytes(), session);
                        assert_eq!(new, model.insert((kind as u8, n, session)), "seed {seed}");
                    }
                    _ => {
                        let had = pubsub.unsubscribe(kind, name.as_bytes(), key(session)).is_some();
                        assert_eq!(had, model.remove(&(kind as u8, n, session)), "seed {seed}");
                    }
                }
            }
            pubsub.check_invariants();
            for kind in Kind::ALL {
                for n in 0..8 {
                    let wanted = model.iter().filter(|(k, m, _)| *k == kind as u8 && *m == n).count();
                    assert_eq!(pubsub.subscribers(kind, format!("n{n}*").as_bytes()), wanted, "seed {seed}");
                }
            }
            for session in 0..20 {
                pubsub.forget(key(session));
            }
            assert!(pubsub.is_silent(), "seed {seed}: nothing is left behind");
            pubsub.check_invariants();
        }
    }
}
