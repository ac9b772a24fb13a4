//! The names of one kind that somebody listens to, with who does. A table of patterns is also searched by channel.
//!
//! Belongs to one shard's [`PubSub`](super::PubSub). Invariant: a topic without subscribers, interest elsewhere and holds is not in
//! the table, and the index of patterns holds exactly the names of the table.

use std::collections::HashMap;
use std::sync::Arc;

use super::patterns::PatternIndex;
use crate::base::ShardId;
use crate::session::SessionKey;

/// A channel or a pattern, shared by the tables that speak of it.
pub type Name = Arc<[u8]>;

/// One name.
#[derive(Default)]
pub struct Topic {
    /// The clients of this shard.
    pub subscribers: Vec<SessionKey>,
    /// Other shards where somebody listens.
    pub elsewhere: Vec<ShardId>,
    /// Plans of this shard that are about to subscribe somebody.
    pub holds: u32,
}

impl Topic {
    /// Whether the other shards are to know of this name.
    pub fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty() || self.holds > 0
    }
}

/// See the module.
#[derive(Default)]
pub struct Topics {
    by_name: HashMap<Name, Topic, ahash::RandomState>,
    /// In the table of patterns.
    patterns: Option<PatternIndex>,
    /// Names with subscribers on this shard.
    pub here: usize,
}

impl Topics {
    /// A table whose names are patterns.
    pub fn of_patterns() -> Topics {
        Topics { patterns: Some(PatternIndex::default()), ..Topics::default() }
    }

    /// Whether there is no name at all.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// A name's topic, if it has one.
    pub fn get(&self, name: &[u8]) -> Option<&Topic> {
        if self.by_name.is_empty() { None } else { self.by_name.get(name) }
    }

    /// As [`Topics::get`], to change it; [`Topics::tidy`] must follow if that can have emptied it.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// A name's topic, made if there is none.
    pub fn entry(&mut self, name: &[u8]) -> (Name, &mut Topic) {
        let shared: Name = match self.by_name.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => {
                let shared: Name = Arc::from(name);
                if let Some(patterns) = &mut self.patterns {
                    patterns.add(&shared);
                }
                shared
            }
        };
        (shared.clone(), self.by_name.entry(shared).or_default())
    }

    /// Removes a topic that nobody needs.
    pub fn tidy(&mut self, name: &[u8]) {
        if self.by_name.get(name).is_some_and(|topic| !topic.is_wanted() && topic.elsewhere.is_empty()) {
            self.by_name.remove(name);
            if let Some(patterns) = &mut self.patterns {
                patterns.remove(name);
            }
        }
    }

    /// Shows each pattern that matches a channel.
    pub fn matching(&self, channel: &[u8], mut show: impl FnMut(&Name, &Topic)) {
        if let Some(patterns) = &self.patterns {
            patterns.matching(channel, |name| show(name, &self.by_name[name]));
        }
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Topic)> {
        self.by_name.iter()
    }

    /// Panics if an invariant is broken.
    pub fn check_invariants(&self) {
        assert!(self.patterns.as_ref().is_none_or(|patterns| patterns.len() == self.by_name.len()));
        assert_eq!(self.here, self.by_name.values().filter(|topic| !topic.subscribers.is_empty()).count());
        assert!(self.by_name.values().all(|topic| topic.is_wanted() || !topic.elsewhere.is_empty()));
    }
}
