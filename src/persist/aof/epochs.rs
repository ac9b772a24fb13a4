//! Which epochs a log holds, and the one to which all logs of a set return.
//!
//! Every shard closes an epoch by a line in its own log. What stands above the line of epoch e, on all shards, is one consistent
//! cut. After a crash the logs end at different places:
//!
//! ```text
//!   shard 0   … #EPOCH:7 … #EPOCH:8 … #EPOCH:9 …            cut behind 8
//!   shard 1   … #EPOCH:7 … #EPOCH:8 … half a record         cut behind 8    the largest epoch that is in all of them
//!   shard 2   … #EPOCH:7 … #EPOCH:8 … #EPOCH:9              cut behind 8
//! ```
//!
//! A shard's log is a list of files (while it is rewritten there are two). Each is summed up by a [`FileScan`], which keeps nothing of
//! the file but places, and [`common_cut`] compares the sums. Offline tools and loading use the same two steps.
//!
//! Bytes behind damage: [`Behind`] says what they look like. A power cut can leave zeros or a missing sector between bytes that were
//! not synced, and whole epochs behind it; rot can do the same to old bytes. Which it was, only who knows what was synced can tell.
//!
//! Invariants: numbers of epochs grow along a log; a line inside of a transaction closes nothing. Plain values, no owner. Absent on
//! purpose: reading and cutting files.

use std::fmt;

use memchr::memmem;

use super::annotation::{Annotation, Epoch};
use super::scan::{Damage, End, Item, Keep, Limits, Scanner};

/// An epoch that a file closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub epoch: Epoch,
    /// Behind its line: where to cut the file to return to it.
    pub end: u64,
}

/// Redis's line of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// What follows was written from this second on.
    pub unix_s: u64,
    /// The first byte of its line: where to cut to return to the time before.
    pub at: u64,
}

/// What a file of a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSum {
    /// Its epochs, growing.
    pub epochs: Vec<Closed>,
    /// Its lines of time outside of transactions, in the file's order.
    pub times: Vec<Time>,
    /// The latest epoch that it says is on the disks of all shards, also behind damage; 0 if none.
    pub synced: u64,
    /// Commands, also those of a transaction that has no end; MULTI and EXEC are commands.
    pub records: u64,
    /// Where it may be cut to be whole.
    pub valid_up_to: u64,
    /// Its length.
    pub len: u64,
    /// How it ends.
    pub ending: Ending,
}

/// How a file of a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a whole record or annotation, outside of a transaction.
    Whole,
    /// In the middle of a record or an annotation that begins here.
    Cut {
        /// Its first byte.
        at: u64,
    },
    /// In a transaction, behind a whole record.
    OpenTransaction {
        /// The first byte of its MULTI.
        at: u64,
    },
    /// Not as a log.
    Damaged(Damage, Behind),
}

/// What stands behind the first damage of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// How many bytes, the damaged one included.
    pub bytes: u64,
    /// Whether they are all zero: space that a file system gave and never filled.
    pub zeros: bool,
    /// The first and the last line that closes an epoch. Arguments may look like such lines; a log that goes on without damage up
    /// to its last epoch does not.
    pub epochs: Option<(Epoch, Epoch)>,
}

/// Sums up one file that comes in pieces. Small, however long the file is, but for the places that it remembers.
#[derive(Debug)]
pub struct FileScan {
    scanner: Scanner,
    limits: Limits,
    sum: FileSum,
    damage: Option<(Damage, Behind)>,
    /// Behind damage: the last bytes in which the beginning of a line may stand.
    carry: Vec<u8>,
    /// Behind damage: reads on where a line was found.
    again: Option<Scanner>,
}

/// To where all logs of a set return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The epoch; that of the bases if no log holds a later one that all hold.
    pub epoch: u64,
    /// When it was closed, the latest of the logs' times; none for that of the bases.
    pub unix_ms: Option<u64>,
    /// For each log, the file in which the cut lies and where to cut it. Files behind it go.
    pub places: Vec<Place>,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of its files, from 0.
    pub file: usize,
    /// The offset in it.
    pub end: u64,
}

/// Logs that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// Which log.
    pub log: usize,
    /// Which of its files.
    pub file: usize,
    /// The first epoch in it that is not larger than the one before, or than that of the bases.
    pub epoch: Epoch,
    /// The one before.
    pub before: u64,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of shard {} does not come after epoch {}", self.epoch.number, self.log, self.before)
    }
}

impl std::error::Error for OutOfOrder {}

impl FileScan {
    /// Begins at this offset of the file: 0, or where the RDB in front of an old log ends.
    pub fn new(offset: u64, limits: Limits) -> FileScan {
        FileScan {
            scanner: Scanner::new(offset, Keep::Nothing, limits),
            limits,
            sum: FileSum {
                epochs: Vec::new(),
                times: Vec::new(),
                synced: 0,
                records: 0,
                valid_up_to: offset,
                len: offset,
                ending: Ending::Whole,
            },
            damage: None,
            carry: Vec::new(),
            again: None,
        }
    }

    /// The file's next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let from = self.sum.len;
        self.sum.len += bytes.len() as u64;
        if self.damage.is_some() {
            return self.look_behind(bytes);
        }
        self.scanner.feed(bytes);
        if let Err(damage) = self.advance() {
            // The number that is wrong may have come with the piece before; it is not zero, then.
            self.damage = Some((damage, Behind { bytes: 0, zeros: damage.offset >= from, epochs: None }));
            self.look_behind(&bytes[damage.offset.saturating_sub(from) as usize..]);
        }
    }

    /// What was found, if what was fed is all.
    pub fn finish(mut self) -> FileSum {
        self.sum.valid_up_to = self.scanner.valid_up_to();
        self.sum.ending = match (self.damage, self.scanner.end()) {
            (Some((damage, behind)), _) => {
                Ending::Damaged(damage, Behind { bytes: self.sum.len - damage.offset, ..behind })
            }
            (None, End::Whole) => Ending::Whole,
            (None, End::Cut { at }) => Ending::Cut { at },
            (None, End::OpenTransaction { at }) => Ending::OpenTransaction { at },
        };
        self.sum
    }

    fn advance(&mut self) -> Result<(), Damage> {
        loop {
            match self.scanner.next_item()? {
                Item::NeedMore => return Ok(()),
                Item::Record { .. } => self.sum.records += 1,
                Item::Annotation { in_transaction: true, .. } => {}
                Item::Annotation { at, annotation: Annotation::Epoch(epoch), .. } => {
                    self.sum.epochs.push(Closed { epoch, end: at.end });
                }
                Item::Annotation { annotation: Annotation::Synced { number }, .. } => {
                    self.sum.synced = self.sum.synced.max(number);
                }
                Item::Annotation { at, annotation: Annotation::Time { unix_s }, .. } => {
                    self.sum.times.push(Time { unix_s, at: at.start });
                }
                Item::Annotation { .. } => {}
            }
        }
    }

    /// Looks for epochs that are whole again.
    fn look_behind(&mut self, bytes: &[u8]) {
        const LINE: &[u8] = b"\n#EPOCH:";
        let Some((_, behind)) = &mut self.damage else { return };
        behind.zeros &= bytes.iter().all(|byte| *byte == 0);
        let mut piece = std::mem::take(&mut self.carry);
        piece.extend_from_slice(bytes);
        let mut rest = piece.as_slice();
        loop {
            let Some(scanner) = &mut self.again else {
                let Some(at) = memmem::find(rest, LINE) else {
                    self.carry = rest[rest.len().saturating_sub(LINE.len() - 1)..].to_vec();
                    return;
                };
                rest = &rest[at + 1..];
                self.again = Some(Scanner::new(0, Keep::Nothing, self.limits));
                continue;
            };
            let before = scanner.fed_up_to();
            scanner.feed(rest);
            let damage = loop {
                match scanner.next_item() {
                    Ok(Item::NeedMore) => return,
                    Ok(Item::Annotation { annotation: Annotation::Epoch(epoch), in_transaction: false, .. }) => {
                        behind.epochs = Some((behind.epochs.map_or(epoch, |(first, _)| first), epoch));
                    }
                    Ok(Item::Annotation { annotation: Annotation::Synced { number }, .. }) => {
                        self.sum.synced = self.sum.synced.max(number);
                    }
                    Ok(_) => {}
                    Err(damage) => break damage,
                }
            };
            // It was no line, or there is more damage: search on in what is still at hand.
            rest = &rest[damage.offset.saturating_sub(before) as usize..];
            self.again = None;
        }
    }
}

/// The largest epoch that every log holds, no later than `unix_ms_max` in any of them. `base` is the epoch that the logs continue.
/// Each log is the list of its files; one that does not end whole ends the log.
pub fn common_cut(base: u64, logs: &[Vec<FileSum>], unix_ms_max: Option<u64>) -> Result<Cut, OutOfOrder> {
    let mut all = Vec::with_capacity(logs.len());
    for (log, files) in logs.iter().enumerate() {
        let mut epochs: Vec<(Epoch, Place)> = Vec::new();
        for (file, sum) in files.iter().enumerate() {
            for closed in &sum.epochs {
                let before = epochs.last().map_or(base, |(epoch, _)| epoch.number);
                if closed.epoch.number <= before {
                    return Err(OutOfOrder { log, file, epoch: closed.epoch, before });
                }
                epochs.push((closed.epoch, Place { file, end: closed.end }));
            }
            if sum.ending != Ending::Whole {
                break;
            }
        }
        all.push(epochs);
    }
    // From the back: the smallest of the last ones is the only candidate; a log that does not hold it goes back further.
    let mut ends: Vec<usize> = all.iter().map(Vec::len).collect();
    loop {
        let last = |log: usize| ends[log].checked_sub(1).map(|at| all[log][at]);
        let candidate = (0..all.len()).map(|log| last(log).map(|(epoch, _)| epoch.number)).min().flatten();
        let Some(candidate) = candidate else {
            let places = vec![Place { file: 0, end: 0 }; logs.len()];
            return Ok(Cut { epoch: base, unix_ms: None, places });
        };
        let found: Vec<(Epoch, Place)> = (0..all.len()).filter_map(last).collect();
        let is_early = |epoch: &Epoch| unix_ms_max.is_none_or(|max| epoch.unix_ms <= max);
        if found.iter().all(|(epoch, _)| epoch.number == candidate && is_early(epoch)) {
            return Ok(Cut {
                epoch: candidate,
                unix_ms: found.iter().map(|(epoch, _)| epoch.unix_ms).max(),
                places: found.into_iter().map(|(_, place)| place).collect(),
            });
        }
        for (end, (epoch, _)) in ends.iter_mut().zip(&found) {
            if epoch.number > candidate || found.iter().all(|(epoch, _)| epoch.number == candidate) {
                *end -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::persist::aof::annotation::{push_epoch, push_time};
    use crate::persist::aof::effect::{EXEC, MULTI, push_command};

    fn epoch(number: u64) -> Epoch {
        Epoch { number, unix_ms: 1000 + number * 100 }
    }

    /// A log in words: `7` closes epoch 7, `t7` is the second 7, `[` and `]` are MULTI and EXEC, `x` is a command.
    fn log(words: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for word in words.split_whitespace() {
            match word {
                "[" => out.extend_from_slice(MULTI),
                "]" => out.extend_from_slice(EXEC),
                "x" => push_command(&mut out, [&b"SET"[..], b"key", b"\n#EPOCH:99:99\r\n*1\r\n"]),
                _ => match word.strip_prefix('t') {
                    Some(second) => push_time(&mut out, second.parse().unwrap()),
                    None => push_epoch(&mut out, epoch(word.parse().unwrap())),
                },
            }
        }
        out
    }

    fn sum_in_pieces(bytes: &[u8], piece: usize) -> FileSum {
        let mut scan = FileScan::new(0, Limits::default());
        bytes.chunks(piece).for_each(|piece| scan.feed(piece));
        scan.finish()
    }

    fn sum(bytes: &[u8]) -> FileSum {
        let whole = sum_in_pieces(bytes, usize::MAX);
        for piece in [1, 3, 20] {
            assert_eq!(sum_in_pieces(bytes, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn numbers(sum: &FileSum) -> Vec<u64> {
        sum.epochs.iter().map(|closed| closed.epoch.number).collect()
    }

    #[test]
    fn a_file_is_summed_up() {
        let bytes = log("t5 x 7 [ x t6 x 8 ] t9 x 9");
        let sum = sum(&bytes);
        assert_eq!(numbers(&sum), [7, 9], "a line inside of a transaction closes nothing");
        assert_eq!(sum.epochs[0].end as usize, log("t5 x 7").len());
        let times: Vec<_> = sum.times.iter().map(|time| (time.unix_s, time.at as usize)).collect();
        assert_eq!(times, [(5, 0), (9, log("t5 x 7 [ x t6 x 8 ]").len())]);
        assert_eq!((sum.records, sum.valid_up_to, sum.len), (6, bytes.len() as u64, bytes.len() as u64));
        assert_eq!(sum.ending, Ending::Whole);
    }

    #[test]
    fn what_stands_behind_damage_is_told() {
        let before = log("x 7 x");
        let at = before.len() as u64;
        let with = |behind: &[u8]| sum(&[&before, behind].concat());
        let expected = "'*' of a command or '#' of an annotation";
        let damaged = |bytes: usize, zeros, epochs| {
            Ending::Damaged(Damage { offset: at, expected }, Behind { bytes: bytes as u64, zeros, epochs })
        };
        assert_eq!(with(&[0; 900]).ending, damaged(900, true, None));
        assert_eq!(with(b"garbage\n#EPOCHS").ending, damaged(15, false, None));
        let rest = [b"garbage\r\n", &log("8 x 9 x")[..]].concat();
        assert_eq!(with(&rest).ending, damaged(rest.len(), false, Some((epoch(8), epoch(9)))));
        let rest = [&[0; 512][..], b"\r\n", &log("8 x 9"), b"more", b"\n", &log("12")].concat();
        assert_eq!(with(&rest).ending, damaged(rest.len(), false, Some((epoch(8), epoch(12)))));
        assert_eq!(numbers(&with(&rest)), [7]);
        assert_eq!(with(&rest).valid_up_to, at);
    }

    #[test]
    fn a_file_that_ends_early_says_where_it_began_to() {
        assert_eq!(sum(&log("x [ x")).ending, Ending::OpenTransaction { at: log("x").len() as u64 });
        let mut bytes = log("x 7 x");
        bytes.pop();
        assert_eq!(sum(&bytes).ending, Ending::Cut { at: log("x 7").len() as u64 });
    }

    #[track_caller]
    fn check(base: u64, logs: &[&[&str]], unix_ms_max: Option<u64>, expected: (u64, &[(usize, &str)])) {
        let sums: Vec<Vec<FileSum>> =
            logs.iter().map(|files| files.iter().map(|words| sum(&log(words))).collect()).collect();
        let cut = common_cut(base, &sums, unix_ms_max).expect("logs in order");
        let places: Vec<Place> =
            expected.1.iter().map(|(file, words)| Place { file: *file, end: log(words).len() as u64 }).collect();
        assert_eq!((cut.epoch, cut.places), (expected.0, places));
    }

    #[test]
    fn logs_return_to_the_largest_epoch_that_all_hold() {
        check(
            0,
            &[&["x 7 x 8 x 9"], &["7 x 8 x"], &["x 7 8 9 x"]],
            None,
            (8, &[(0, "x 7 x 8"), (0, "7 x 8"), (0, "x 7 8")]),
        );
        check(0, &[&["7 9"], &["7 8 9"]], None, (9, &[(0, "7 9"), (0, "7 8 9")]));
        // A number that one of them lacks is none.
        check(0, &[&["7 9"], &["7 8"]], None, (7, &[(0, "7"), (0, "7")]));
        check(0, &[&["x"]], None, (0, &[(0, "")]));
        check(6, &[&["x 7 x"], &["x"]], None, (6, &[(0, ""), (0, "")]));
        check(5, &[], None, (5, &[]));
    }

    #[test]
    fn a_log_of_several_files_is_one_log() {
        check(6, &[&["x 7", "x 8 x"], &["7 8", "9"]], None, (8, &[(1, "x 8"), (0, "7 8")]));
        // What follows a file that is not whole is not there.
        check(6, &[&["7 x [", "8"], &["7", "8"]], None, (7, &[(0, "7"), (0, "7")]));
    }

    #[test]
    fn an_instant_takes_the_last_epoch_that_was_closed_by_then() {
        let logs: &[&[&str]] = &[&["x 7 x 8 x 9"], &["7 8 9"]];
        check(0, logs, Some(1899), (8, &[(0, "x 7 x 8"), (0, "7 8")]));
        check(0, logs, Some(1800), (8, &[(0, "x 7 x 8"), (0, "7 8")]));
        check(0, logs, Some(1799), (7, &[(0, "x 7"), (0, "7")]));
        check(6, logs, Some(1), (6, &[(0, ""), (0, "")]));
    }

    #[test]
    fn epochs_that_do_not_grow_are_refused() {
        let fails = |base: u64, files: &[&str]| {
            let sums = vec![files.iter().map(|words| sum(&log(words))).collect()];
            common_cut(base, &sums, None).unwrap_err().to_string()
        };
        assert_eq!(fails(0, &["7 x 7"]), "epoch 7 of shard 0 does not come after epoch 7");
        assert_eq!(fails(0, &["7", "6"]), "epoch 6 of shard 0 does not come after epoch 7");
        assert_eq!(fails(7, &["7"]), "epoch 7 of shard 0 does not come after epoch 7");
    }

    /// Against the definition: the largest number in the intersection.
    #[test]
    fn the_common_cut_is_the_largest_of_the_intersection() {
        for seed in 0..2000 {
            let mut rng = Rng::seed(seed);
            let count = 1 + rng.below(4);
            let sets: Vec<Vec<u64>> = (0..count).map(|_| (1..10).filter(|_| rng.chance(2, 3)).collect()).collect();
            let sums: Vec<Vec<FileSum>> = sets
                .iter()
                .map(|set| {
                    let words: Vec<String> = set.iter().map(u64::to_string).collect();
                    vec![sum_in_pieces(&log(&words.join(" x ")), usize::MAX)]
                })
                .collect();
            let best = (1..10).filter(|number| sets.iter().all(|set| set.contains(number))).max().unwrap_or(0);
            let cut = common_cut(0, &sums, None).expect("logs in order");
            assert_eq!(cut.epoch, best, "seed {seed}: {sets:?}");
            for (set, place) in sets.iter().zip(&cut.places) {
                let words: Vec<String> = set.iter().filter(|n| **n <= best).map(u64::to_string).collect();
                let expected = if best == 0 { 0 } else { log(&words.join(" x ")).len() };
                assert_eq!(place.end as usize, expected, "seed {seed}: {sets:?}");
            }
        }
    }
}
