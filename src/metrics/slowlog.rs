//! SLOWLOG: commands that took long, and how the logs of all shards read as one.
//!
//! An entry is written on the core of its client, which knows name and address, and stays there without a number until somebody
//! looks. Whoever looks asks every shard for its entries and takes them to shard 0, whose [`NumberedLog`] numbers those that it has
//! not seen, oldest first, and keeps them:
//!
//! ```text
//!   shard 0   SlowLog  [ #7 #8 ]  ─┐ copies                 NumberedLog on shard 0
//!   shard 1   SlowLog  [ #3 ]     ─┴──> sorted by time ──>  id 12, 11, 10 | 9, 8 …     seen upto: #8, #3
//! ```
//!
//! So a slow command costs no message, and still numbers are unique, never change, and are larger for what is shown first. Two
//! clients that look at once carry the same entries to shard 0, where the second finds them seen. Entries that a shard has dropped
//! before anybody looked have used up their numbers, as in Redis: the distance of two numbers says how many commands were slow.
//!
//! Invariant: no log is longer than `slowlog-max-len`. Absent on purpose: what is slow (`shard::timing`), and what is secret
//! (`commands::monitor`): arguments come here as they may be shown.

use std::collections::VecDeque;

/// Arguments of one command that are kept; the last of them then says how many more there were. As in Redis.
const ARGS_MAX: usize = 32;
/// Bytes of one argument that are kept, as in Redis.
const ARG_BYTES_MAX: usize = 128;

/// The arguments of a command as the log shows them: cut short.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Argv {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Argv {
    /// Takes over the arguments of a command that has `argc` of them.
    pub fn fill<'a>(&mut self, argc: usize, arg: impl Fn(usize) -> &'a [u8]) {
        self.bytes.clear();
        self.ends.clear();
        let whole = if argc > ARGS_MAX { ARGS_MAX - 1 } else { argc };
        (0..whole).for_each(|at| self.push(arg(at)));
        if argc > whole {
            self.push(format!("... ({} more arguments)", argc - whole).as_bytes());
        }
    }

    /// Those of a command.
    pub fn of<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> Argv {
        let mut argv = Argv::default();
        argv.fill(argc, arg);
        argv
    }

    fn push(&mut self, arg: &[u8]) {
        let kept = arg.len().min(ARG_BYTES_MAX);
        self.bytes.extend_from_slice(&arg[..kept]);
        if arg.len() > kept {
            self.bytes.extend_from_slice(format!("... ({} more bytes)", arg.len() - kept).as_bytes());
        }
        self.ends.push(self.bytes.len() as u32);
    }

    /// The arguments.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|at| {
            let start = if at == 0 { 0 } else { self.ends[at - 1] };
            &self.bytes[start as usize..self.ends[at] as usize]
        })
    }

    /// Memory that it holds.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// A command that took long.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlowCommand {
    /// When it was over, microseconds since the Unix epoch.
    pub unix_us: i64,
    /// How long it took, microseconds.
    pub us: u64,
    /// What it was.
    pub argv: Argv,
    /// The client's address; empty if it had gone.
    pub peer: String,
    /// The client's name.
    pub name: Vec<u8>,
}

/// What one shard has logged and nobody has looked at, or what was looked at and not yet forgotten here.
#[derive(Clone, Debug, Default)]
pub struct SlowLog {
    /// Oldest first; the last one's place is `logged - 1`.
    entries: VecDeque<SlowCommand>,
    logged: u64,
}

/// Entries of one shard on their way to shard 0.
#[derive(Debug, Default)]
pub struct Unnumbered {
    /// Oldest first.
    pub entries: Vec<SlowCommand>,
    /// How many there were on this shard so far, with those that are not here any more.
    pub logged: u64,
}

impl SlowLog {
    /// Adds an entry; at most so many are kept.
    pub fn push(&mut self, entry: SlowCommand, len_max: usize) {
        self.logged += 1;
        self.entries.push_back(entry);
        self.cut(len_max);
    }

    fn cut(&mut self, len_max: usize) {
        let over = self.entries.len().saturating_sub(len_max);
        self.entries.drain(..over);
    }

    /// A copy of what is here.
    pub fn copy(&self) -> Unnumbered {
        Unnumbered { entries: self.entries.iter().cloned().collect(), logged: self.logged }
    }

    /// Forgets entries that shard 0 has: all but those behind the first `seen` that there were.
    pub fn forget(&mut self, seen: u64) {
        self.cut(usize::try_from(self.logged.saturating_sub(seen)).unwrap_or(usize::MAX));
    }

    /// Forgets all; says how many there were so far.
    pub fn reset(&mut self) -> u64 {
        self.entries.clear();
        self.logged
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The log as clients see it. On shard 0.
#[derive(Clone, Debug, Default)]
pub struct NumberedLog {
    /// Newest first.
    entries: VecDeque<(u64, SlowCommand)>,
    next_id: u64,
    /// By shard: how many of its entries have a number.
    seen: Vec<u64>,
}

impl NumberedLog {
    /// Numbers what is new in these copies, which are in the order of shards, and keeps it.
    pub fn take_in(&mut self, parts: Vec<Unnumbered>, len_max: usize) {
        self.seen.resize(self.seen.len().max(parts.len()), 0);
        let mut new = Vec::new();
        for (seen, part) in self.seen.iter_mut().zip(parts) {
            // What was reset, or carried here by somebody else meanwhile, is not new.
            let unseen = part.logged.saturating_sub(*seen);
            let here = (part.entries.len() as u64).min(unseen);
            self.next_id += unseen - here;
            let known = part.entries.len() - here as usize;
            new.extend(part.entries.into_iter().skip(known));
            *seen = (*seen).max(part.logged);
        }
        // Stable: what one shard has logged in the same microsecond stays in its order.
        new.sort_by_key(|entry| entry.unix_us);
        for entry in new {
            self.entries.push_front((self.next_id, entry));
            self.next_id += 1;
        }
        self.entries.truncate(len_max);
    }

    /// Forgets all. So many entries of each shard are not to come back.
    pub fn reset(&mut self, logged: &[u64]) {
        self.seen.resize(self.seen.len().max(logged.len()), 0);
        self.seen.iter_mut().zip(logged).for_each(|(seen, logged)| *seen = (*seen).max(*logged));
        self.entries.clear();
    }

    /// By shard, how many entries are known here.
    pub fn seen(&self) -> &[u64] {
        &self.seen
    }

    /// The newest entries with their numbers, newest first.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &(u64, SlowCommand)> {
        self.entries.iter().take(count)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(args: &[&[u8]]) -> Vec<String> {
        let argv = Argv::of(args.len(), |at| args[at]);
        argv.iter().map(|arg| String::from_utf8(arg.to_vec()).unwrap()).collect()
    }

    fn slow(unix_us: i64) -> SlowCommand {
        SlowCommand { unix_us, ..SlowCommand::default() }
    }

    fn ids(log: &NumberedLog) -> Vec<(u64, i64)> {
        log.newest(usize::MAX).map(|(id, entry)| (*id, entry.unix_us)).collect()
    }

    #[test]
    fn long_arguments_and_many_are_cut_short_in_the_words_of_redis() {
        let long = vec![b'x'; 130];
        let shown = argv(&[b"SET", &long]);
        assert_eq!(shown[1], format!("{}... (2 more bytes)", "x".repeat(128)));
        assert_eq!(argv(&[&long[..128]])[0], "x".repeat(128));
        assert_eq!(argv(&[&b"a"[..]; 32]).len(), 32);
        let many = argv(&[&b"a"[..]; 33]);
        assert_eq!((many.len(), many[31].as_str()), (32, "... (2 more arguments)"));
    }

    #[test]
    fn entries_of_all_shards_are_numbered_by_time_and_once() {
        let (mut a, mut b, mut log) = (SlowLog::default(), SlowLog::default(), NumberedLog::default());
        a.push(slow(10), 128);
        b.push(slow(5), 128);
        log.take_in(vec![a.copy(), b.copy()], 128);
        assert_eq!(ids(&log), [(1, 10), (0, 5)]);
        log.take_in(vec![a.copy(), b.copy()], 128);
        assert_eq!(ids(&log).len(), 2, "what was seen is not new");
        b.push(slow(7), 128);
        b.push(SlowCommand { us: 1, ..slow(7) }, 128);
        a.forget(log.seen()[0]);
        assert!(a.is_empty());
        log.take_in(vec![a.copy(), b.copy()], 128);
        assert_eq!(ids(&log)[..2], [(3, 7), (2, 7)], "a number once given stays");
        assert_eq!(log.newest(1).next().map(|(_, entry)| entry.us), Some(1), "and so does the order");
    }

    #[test]
    fn what_nobody_saw_has_used_up_its_number() {
        let (mut a, mut log) = (SlowLog::default(), NumberedLog::default());
        (0..10).for_each(|at| a.push(slow(at), 3));
        log.take_in(vec![a.copy()], 3);
        assert_eq!(ids(&log), [(9, 9), (8, 8), (7, 7)]);
        a.push(slow(20), 0);
        log.take_in(vec![a.copy()], 2);
        assert_eq!(ids(&log), [(9, 9), (8, 8)]);
    }

    #[test]
    fn a_reset_log_stays_empty_when_an_old_copy_arrives() {
        let (mut a, mut log) = (SlowLog::default(), NumberedLog::default());
        a.push(slow(1), 128);
        let late = a.copy();
        log.reset(&[a.reset()]);
        log.take_in(vec![late], 128);
        assert!(log.is_empty());
        a.push(slow(2), 128);
        log.take_in(vec![a.copy()], 128);
        assert_eq!(log.len(), 1);
    }
}
