//! Invalidations: from the shard that owns a key to the shards of its readers, and from there into their output.
//!
//! ```text
//!   owner            reader's home                 home of the client it is redirected to     writer's home
//!   step changes k ─► into its output ─────────────► into that one's output ──────────────────► reply leaves
//! ```
//!
//! The rule that this serves, and why it holds, is told in [`tracking`](crate::tracking). Frames are those of Redis: a push
//! `invalidate` with the keys in RESP3; for a client in RESP2 that others redirect to, and that is subscribed to something, a message on
//! the channel `__redis__:invalidate`; null in place of the keys when a database was emptied. A client in RESP2 that is not
//! redirected is told nothing.
//!
//! Belongs to its shard. A session that runs a command just now is out of its table: whoever runs it hands it in as [`Running`], and
//! puts what it is told behind the command's reply.

use std::sync::Arc;

use super::Shard;
use super::message::KeysFn;
use super::subscribers::push;
use crate::metrics::CommandId;
use crate::resp::{Args, Reply, Resp};
use crate::session::{Closing, Session, SessionKey};
use crate::tracking::{Broadcast, Cause, ChangedKeys, Client, Due, Fence};

/// The channel of invalidations for clients in RESP2.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// The session that runs a command just now, and what is to follow the reply.
pub type Running<'r> = Option<(&'r mut Session, &'r mut Reply)>;

/// Keys of one frame; none if all have gone.
type Keys = Option<Vec<Arc<[u8]>>>;

/// A frame for a client that another is redirected to.
pub struct Detour {
    /// The client that is told.
    pub to: Client,
    to_id: u64,
    tracked: Client,
    keys: Keys,
}

/// As a client of this kind reads it; nothing if there is no way to tell it.
fn frame(receiver: &Session, redirected: bool, keys: &Keys) -> Option<Reply> {
    let mut frame = Reply::with_proto(receiver.proto);
    if receiver.proto == Resp::V3 {
        frame.push(2);
        frame.bulk(b"invalidate");
    } else if redirected && receiver.subscriptions.any() {
        frame.array(3);
        frame.bulk(b"message");
        frame.bulk(CHANNEL);
    } else {
        return None;
    }
    match keys {
        None => frame.null(),
        Some(keys) => {
            frame.array(keys.len());
            keys.iter().for_each(|key| frame.bulk(key));
        }
    }
    Some(frame)
}

/// The session of this key: in its table, or running.
fn find<'s>(
    sessions: &'s mut crate::session::Sessions,
    running: &'s mut Running<'_>,
    key: SessionKey,
) -> Option<(&'s mut Session, Option<&'s mut Reply>)> {
    if let Some((session, behind)) = running
        && session.key == key
    {
        return Some((session, Some(behind)));
    }
    sessions.get_mut(key).filter(|session| session.closing == Closing::No).map(|session| (session, None))
}

/// Puts a frame where it belongs in a client's output: see the third point of the rule.
fn hand(found: (&mut Session, Option<&mut Reply>), frame: &Reply, cause: Cause, disturbed: &mut Vec<SessionKey>) {
    match found {
        (_, Some(behind)) => behind.append_copy(frame),
        (session, None) if session.pending.is_empty() => push(session, frame, disturbed),
        (session, None) => {
            if cause == Cause::Other {
                push(session, frame, disturbed);
            }
            // A wait for data shows nothing old.
            if cause != Cause::Other || session.blocked.is_none() {
                session.push_behind_pending(frame);
                disturbed.push(session.key);
            }
        }
    }
}

impl Shard {
    /// The client of this step has read these keys. What the table has no room for is forgotten.
    #[cold]
    pub fn remember(&mut self, keys: KeysFn, command: CommandId, args: Args<'_>) {
        let Some(client) = self.tracking.actor else { return };
        keys(command, args, &mut |key| self.tracking.remember(client, key));
        self.trim_tracking();
    }

    /// The same by names.
    pub fn remember_keys(&mut self, keys: &[Vec<u8>]) {
        let Some(client) = self.tracking.actor else { return };
        keys.iter().for_each(|key| self.tracking.remember(client, key));
        self.trim_tracking();
    }

    /// Each shard has its part of what is allowed in all.
    fn trim_tracking(&mut self) {
        if let Ok(keys_max @ 1..) = usize::try_from(self.config.tracking_table_max_keys) {
            self.tracking.trim(keys_max.div_ceil(usize::from(self.slots.shards())), &mut self.rng);
        }
    }

    /// A step is over: whoever has read what it has changed is told. Returns how many shards will acknowledge that for `fence`.
    #[cold]
    pub fn send_invalidations(&mut self, fence: Option<Fence>, mut running: Running<'_>) -> u32 {
        let mut awaited = self.tracking.end_step(self.id, fence);
        let mut due = self.tracking.take_due();
        due.sort_by_key(|due| due.reader.home);
        for of_home in due.chunk_by(|a, b| a.reader.home == b.reader.home) {
            let home = of_home[0].reader.home;
            if home == self.id {
                let detours = self.invalidate(of_home, &mut running);
                if !detours.is_empty() {
                    awaited += 1;
                    self.go_round(detours, fence.into_iter().collect());
                }
            } else {
                awaited += 1;
                let of_home = of_home.to_vec();
                self.tell(home, move |home| {
                    let detours = home.invalidate(&of_home, &mut None);
                    home.go_round(detours, fence.into_iter().collect());
                });
            }
        }
        awaited
    }

    /// Tells clients of this shard of keys that they have read. Returns what is to be told to clients of other shards.
    fn invalidate(&mut self, due: &[Due], running: &mut Running<'_>) -> Vec<Detour> {
        let mut detours = Vec::new();
        for Due { reader, key, cause } in due {
            let Some((session, _)) = find(&mut self.sessions, running, reader.session) else { continue };
            let Some(tracking) = session.tracking.as_ref().filter(|tracking| !tracking.bcast) else { continue };
            if !(tracking.noloop && *cause == Cause::Own) {
                detours.extend(self.invalidate_one(*reader, Some(vec![key.clone()]), *cause, running));
            }
        }
        detours
    }

    /// Tells one tracked client of this shard, or who stands in for it.
    fn invalidate_one(
        &mut self,
        client: Client,
        keys: Keys,
        cause: Cause,
        running: &mut Running<'_>,
    ) -> Option<Detour> {
        let found = find(&mut self.sessions, running, client.session)?;
        match found.0.tracking.as_ref()?.redirect {
            None => {
                if let Some(frame) = frame(found.0, false, &keys) {
                    hand(found, &frame, cause, &mut self.disturbed);
                }
                None
            }
            Some(redirect) => {
                let to = Client { home: redirect.shard, session: redirect.session };
                let detour = Detour { to, to_id: redirect.id, tracked: client, keys };
                if to.home != self.id {
                    return Some(detour);
                }
                self.finish_detour(&detour, running);
                None
            }
        }
    }

    /// Tells a client of this shard what it is told for another.
    fn finish_detour(&mut self, detour: &Detour, running: &mut Running<'_>) {
        if let Some(found) = find(&mut self.sessions, running, detour.to.session) {
            if let Some(frame) = frame(found.0, true, &detour.keys) {
                match found {
                    (_, Some(behind)) => behind.append_copy(&frame),
                    (session, None) => push(session, &frame, &mut self.disturbed),
                }
            }
            return;
        }
        let (tracked, id) = (detour.tracked, detour.to_id);
        if tracked.home == self.id {
            self.note_broken(tracked.session, id, running);
        } else {
            self.tell(tracked.home, move |home| home.note_broken(tracked.session, id, &mut None));
        }
    }

    /// Who was to be told for a client of this shard has gone.
    fn note_broken(&mut self, key: SessionKey, id: u64, running: &mut Running<'_>) {
        let Some((session, behind)) = find(&mut self.sessions, running, key) else { return };
        let Some(tracking) = &mut session.tracking else { return };
        tracking.broken = true;
        if session.proto == Resp::V3 {
            let mut frame = Reply::with_proto(Resp::V3);
            frame.push(2);
            frame.bulk(b"tracking-redir-broken");
            frame.int(id as i64);
            hand((session, behind), &frame, Cause::Own, &mut self.disturbed);
        }
    }

    /// Goes from shard to shard with what clients there are told for others, and acknowledges when all have been.
    fn go_round(&mut self, mut detours: Vec<Detour>, fences: Vec<Fence>) {
        let Some(to) = detours.last().map(|detour| detour.to.home) else {
            for fence in fences {
                self.tell(fence.home, move |home| home.tracking.acknowledged.push((fence.reply, 1)));
            }
            return;
        };
        let (there, rest): (Vec<_>, Vec<_>) = detours.drain(..).partition(|detour| detour.to.home == to);
        self.tell(to, move |shard| {
            shard.finish_detours(&there);
            shard.go_round(rest, fences);
        });
    }

    /// Tells those who follow prefixes what has changed since the last time. To be called once a turn, after the commands.
    #[cold]
    pub fn broadcast_changes(&mut self) {
        for (home, Broadcast { changes, fences }) in self.tracking.take_broadcast() {
            self.tell(home, move |home| {
                let detours = changes.iter().flat_map(|(prefix, keys)| home.follow_changes(prefix, keys)).collect();
                home.go_round(detours, fences);
            });
        }
    }

    /// Tells the clients of this shard that follow a prefix.
    fn follow_changes(&mut self, prefix: &[u8], changed: &ChangedKeys) -> Vec<Detour> {
        let all: Vec<Arc<[u8]>> = changed.keys().map(|key| Arc::from(&key[..])).collect();
        let mut detours = Vec::new();
        for session in self.tracking.followers_of(prefix) {
            let client = Client { home: self.id, session };
            let Some(tracking) = self.sessions.get(session).and_then(|session| session.tracking.as_ref()) else {
                continue;
            };
            let is_own = |by: &Option<Client>| *by == Some(client);
            let keys = match tracking.noloop {
                false => all.clone(),
                true => {
                    changed.iter().zip(&all).filter(|((_, by), _)| !is_own(by)).map(|(_, key)| key.clone()).collect()
                }
            };
            if !keys.is_empty() {
                let cause = if changed.values().all(is_own) { Cause::Own } else { Cause::Other };
                detours.extend(self.invalidate_one(client, Some(keys), cause, &mut None));
            }
        }
        detours
    }

    /// Tells all tracked clients of this shard that keys have gone which they need not know by name. Returns what is to be told to
    /// clients of other shards.
    pub fn invalidate_all(&mut self, by: Client) -> Vec<Detour> {
        let tracked = self.sessions.iter().filter(|session| session.tracking.is_some()).map(|session| session.key);
        let tracked: Vec<SessionKey> = tracked.collect();
        let tell = |session| {
            let client = Client { home: self.id, session };
            let cause = if client == by { Cause::Own } else { Cause::Other };
            self.invalidate_one(client, None, cause, &mut None)
        };
        tracked.into_iter().filter_map(tell).collect()
    }

    /// Tells clients of this shard what they are told for others.
    pub fn finish_detours(&mut self, detours: &[Detour]) {
        detours.iter().for_each(|detour| self.finish_detour(detour, &mut None));
    }

    /// A session is not tracked any more, or goes.
    pub fn stop_tracking(&mut self, session: &mut Session) {
        let Some(tracking) = session.tracking.take() else { return };
        self.tracking.clients -= 1;
        self.tracking.led_away -= usize::from(tracking.leads_away(self.id));
        let here = self.id;
        for prefix in tracking.prefixes {
            self.tracking.unfollow(&prefix, session.key);
            self.tell_follower(here, &prefix, false);
        }
    }

    /// Tells all shards that one client more or less of a shard follows a prefix; nobody waits for it.
    pub fn tell_follower(&mut self, home: super::ShardId, prefix: &[u8], follows: bool) {
        for shard in self.slots.all() {
            let prefix = prefix.to_vec();
            self.tell(shard, move |shard| shard.tracking.note_follower(&prefix, home, follows));
        }
    }
}
