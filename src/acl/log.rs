//! What was refused, for ACL LOG: the last cases, like ones counted together.
//!
//! Each shard notes what it refuses to its own connections, the newest first; [`merged`] joins the notes of all shards. Two cases
//! are alike if reason, context, object and user are the same and they are at most a minute apart.
//!
//! Absent on purpose: a clock; counters of INFO are in `metrics`.

use std::collections::VecDeque;

use crate::base::time::Millis;

/// Why something was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// The password.
    Auth,
}

impl Reason {
    /// Its word in ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

/// Where it was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// A command by itself.
    Toplevel,
    /// One in a transaction.
    Multi,
}

impl Context {
    /// Its word in ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Context::Toplevel => "toplevel",
            Context::Multi => "multi",
        }
    }
}

/// One case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The user.
    pub user: Vec<u8>,
    /// The connection's line in CLIENT LIST.
    pub client: Vec<u8>,
}

/// Cases that are alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The last of them.
    pub last: Denial,
    /// How many.
    pub count: u64,
    /// Different for every entry since the server was started.
    pub id: u64,
    /// When the first was.
    pub created: Millis,
    /// When the last was.
    pub updated: Millis,
}

impl Entry {
    fn is_like(&self, denial: &Denial, at: Millis) -> bool {
        let (mine, other) = (&self.last, denial);
        mine.reason == other.reason
            && mine.context == other.context
            && self.updated.0.abs_diff(at.0) <= ALIKE_MS
            && mine.object == other.object
            && mine.user == other.user
    }
}

/// How far apart cases may be that are counted together. Milliseconds.
const ALIKE_MS: u64 = 60_000;
/// Entries that are looked at for a like one.
const LOOKED_AT: usize = 10;

/// One shard's notes, the newest first.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// Entries that were made so far.
    made: u64,
}

impl Log {
    /// Notes a case; `step` and `offset` keep the numbers of the shards' entries apart.
    pub fn add(&mut self, denial: Denial, at: Millis, len_max: usize, (offset, step): (u64, u64)) {
        let alike = self.entries.iter().take(LOOKED_AT).position(|entry| entry.is_like(&denial, at));
        if len_max > 0 {
            let entry = match alike.and_then(|found| self.entries.remove(found)) {
                Some(known) => Entry { last: denial, count: known.count + 1, updated: at, ..known },
                None => {
                    self.made += 1;
                    let id = (self.made - 1) * step + offset;
                    Entry { last: denial, count: 1, id, created: at, updated: at }
                }
            };
            self.entries.push_front(entry);
        }
        self.entries.truncate(len_max);
    }

    /// The newest entries.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.iter().take(count).cloned().collect()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// The notes of all shards as one: the newest first, and like ones together.
pub fn merged(notes: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut all: Vec<Entry> = notes.into_iter().flatten().collect();
    // Stable: entries of one shard in one millisecond stay in their order.
    all.sort_by_key(|entry| std::cmp::Reverse(entry.updated));
    let mut merged: Vec<Entry> = Vec::with_capacity(all.len());
    for entry in all {
        match merged.iter_mut().find(|known| known.is_like(&entry.last, entry.updated)) {
            Some(known) => {
                known.count += entry.count;
                known.created = known.created.min(entry.created);
                known.id = known.id.min(entry.id);
            }
            None => merged.push(entry),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(object: &str) -> Denial {
        let (reason, context) = (Reason::Key, Context::Toplevel);
        Denial { reason, context, object: object.into(), user: b"u".to_vec(), client: object.into() }
    }

    fn shown(entries: &[Entry]) -> Vec<(String, u64)> {
        entries.iter().map(|entry| (String::from_utf8(entry.last.object.clone()).unwrap(), entry.count)).collect()
    }

    fn log(cases: &[(&str, i64)], offset: u64) -> Log {
        let mut log = Log::default();
        for (object, at) in cases {
            log.add(denial(object), Millis(*at), 100, (offset, 2));
        }
        log
    }

    #[test]
    fn like_cases_within_a_minute_are_one_entry_which_moves_to_the_front() {
        let log = log(&[("a", 0), ("b", 1), ("a", 60_000), ("b", 60_002)], 0);
        assert_eq!(shown(&log.newest(10)), [("b".into(), 1), ("a".into(), 2), ("b".into(), 1)]);
        let other = Denial { context: Context::Multi, ..denial("a") };
        let mut log = log;
        log.add(other, Millis(60_000), 100, (0, 2));
        assert_eq!(log.newest(1)[0].count, 1, "another context is another entry");
    }

    #[test]
    fn the_log_is_as_long_as_the_setting_says() {
        let mut log = Log::default();
        for at in 0..20 {
            log.add(denial(&at.to_string()), Millis(at), 3, (0, 1));
        }
        assert_eq!(shown(&log.newest(10)), [("19".into(), 1), ("18".into(), 1), ("17".into(), 1)]);
        assert_eq!(log.newest(2).len(), 2);
        log.add(denial("x"), Millis(21), 0, (0, 1));
        assert!(log.newest(10).is_empty());
    }

    #[test]
    fn only_the_newest_entries_are_looked_at() {
        let mut log = Log::default();
        for object in ["x", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "x"] {
            log.add(denial(object), Millis(0), 100, (0, 1));
        }
        assert_eq!(log.newest(100).len(), 12);
    }

    #[test]
    fn notes_of_several_shards_are_joined() {
        let (a, b) = (log(&[("k", 1), ("l", 5)], 0), log(&[("k", 3), ("m", 4)], 1));
        let all = merged(vec![a.newest(10), b.newest(10)]);
        assert_eq!(shown(&all), [("l".into(), 1), ("m".into(), 1), ("k".into(), 2)]);
        assert_eq!((all[2].created, all[2].updated, all[2].id), (Millis(1), Millis(3), 0));
        let ids: std::collections::BTreeSet<u64> =
            a.newest(10).iter().chain(&b.newest(10)).map(|entry| entry.id).collect();
        assert_eq!(ids.len(), 4, "numbers of entries are different on all shards");
    }
}
