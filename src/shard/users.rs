//! What a change of users means for the connections of a shard.
//!
//! ```text
//!   the user is gone, or made anew      the connection is closed
//!   a channel that it listens to is     the connection is closed, as in Redis: it would go on hearing what it may not
//!     not allowed any more
//!   anything else                       the rules are in force with its next command
//! ```
//!
//! Belongs to its shard. To be called between two commands, when every session is in its place. Absent on purpose: what waits for data
//! (`commands::acl` looks whether it still may), and passwords: who is in stays in.

use std::sync::Arc;

use super::Shard;
use crate::acl::{self, User, Users};
use crate::pubsub::{Kind, PubSub};
use crate::session::{Closing, Session, SessionKey};

impl Shard {
    /// Takes another table of users into force, if it is newer than what is here. `asking` is the connection that has changed it: it
    /// is told before it is closed.
    pub fn take_users(&mut self, users: &Users, version: u64, asking: Option<SessionKey>) {
        if version <= self.acl.version {
            return;
        }
        self.acl.version = version;
        self.acl.users = users.clone();
        let Shard { acl, sessions, pubsub, disturbed, .. } = self;
        for session in sessions.iter_mut() {
            let now = acl.users.get(&session.user().name).filter(|user| user.birth == session.user().birth);
            match now {
                Some(now) if Arc::ptr_eq(now, session.user()) => {}
                Some(now) if !hears_too_much(session, now, pubsub) => session.set_user(Arc::clone(now)),
                _ => {
                    session.shut_out(acl);
                    if asking == Some(session.key) {
                        session.close_after_reply();
                    } else {
                        session.closing = Closing::Now;
                    }
                    disturbed.push(session.key);
                }
            }
        }
    }
}

/// Whether a connection listens to something that the new rules of its user do not allow. Rules that take nothing away are not looked
/// at closer, so that who listens as its rules once were is left alone until they shrink.
fn hears_too_much(session: &Session, now: &User, pubsub: &PubSub) -> bool {
    if !session.subscriptions.any() || now.all_selectors().iter().any(|selector| selector.all_channels()) {
        return false;
    }
    let allowed: Vec<Vec<u8>> =
        now.all_selectors().iter().flat_map(|selector| selector.channels().iter().cloned()).collect();
    let was = session.user().all_selectors();
    let shrinks = was
        .iter()
        .any(|selector| selector.all_channels() || selector.channels().iter().any(|known| !allowed.contains(known)));
    let hears = |kind: Kind| pubsub.names_of(kind, session.key);
    shrinks
        && [Kind::Channel, Kind::Pattern, Kind::Shard]
            .into_iter()
            .any(|kind| hears(kind).iter().any(|name| !acl::allows_channel(&allowed, name, kind == Kind::Pattern)))
}
