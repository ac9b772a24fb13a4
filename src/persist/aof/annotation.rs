//! Annotations: lines between records that begin with `#`, which Redis skips when it loads a log.
//!
//! ```text
//!   #EPOCH:<number>:<unix milliseconds>\r\n    closes an epoch: all records above belong to epochs up to this one
//!   #TS:<unix seconds>\r\n                     Redis's own (aof-timestamp-enabled): records below were written from then on
//!   #TXN:<home shard>-<number>\r\n             the record below (a MULTI) is the part of this shard in a transaction over several
//! ```
//!
//! Further fields behind these are allowed, each after a `:`, and ignored: a later version may say more. What is not understood is
//! [`Annotation::Other`], as Redis takes any line. Invariant: what is written here is read back as it was.

use crate::base::num::{parse_u64, push_u64};

/// The longest line, its end included: Redis reads lines of a log into a buffer of this size.
pub const LINE_BYTES_MAX: usize = 1024;

/// What an annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// `#EPOCH`: closes an epoch.
    Epoch(Epoch),
    /// `#TS`: Unix seconds.
    Time {
        /// Since 1970.
        unix_s: u64,
    },
    /// `#TXN`: the next record is part of this transaction.
    Transaction {
        /// The shard that coordinated it.
        home: u16,
        /// Its number there.
        number: u64,
    },
    /// `#SYNCED`: this epoch is on the disks of all shards.
    Synced {
        /// Which.
        number: u64,
    },
    /// Anything else.
    Other,
}

/// A closed epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// Epochs count up; numbers may be left out.
    pub number: u64,
    /// When it was closed: milliseconds since 1970.
    pub unix_ms: u64,
}

impl Annotation {
    /// Reads a line, without its end. The line begins with `#`.
    pub fn parse(line: &[u8]) -> Annotation {
        let known = match line.split(|byte| *byte == b':').next() {
            Some(b"#EPOCH") => parse_epoch(line),
            Some(b"#TS") => field(line, 1).and_then(parse_u64).map(|unix_s| Annotation::Time { unix_s }),
            Some(b"#TXN") => parse_transaction(line),
            Some(b"#SYNCED") => field(line, 1).and_then(parse_u64).map(|number| Annotation::Synced { number }),
            _ => None,
        };
        known.unwrap_or(Annotation::Other)
    }
}

/// Appends the line that closes an epoch.
pub fn push_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    out.extend_from_slice(b"#EPOCH:");
    push_u64(out, epoch.number);
    out.push(b':');
    push_u64(out, epoch.unix_ms);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that says which epoch is on the disks of all shards.
pub fn push_synced(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(format!("#SYNCED:{number}\r\n").as_bytes());
}

/// Appends Redis's line of the time.
pub fn push_time(out: &mut Vec<u8>, unix_s: u64) {
    out.extend_from_slice(b"#TS:");
    push_u64(out, unix_s);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line in front of a transaction over several shards.
pub fn push_transaction(out: &mut Vec<u8>, home: u16, number: u64) {
    out.extend_from_slice(b"#TXN:");
    push_u64(out, u64::from(home));
    out.push(b'-');
    push_u64(out, number);
    out.extend_from_slice(b"\r\n");
}

fn field(line: &[u8], n: usize) -> Option<&[u8]> {
    line.split(|byte| *byte == b':').nth(n)
}

fn parse_epoch(line: &[u8]) -> Option<Annotation> {
    let (number, unix_ms) = (parse_u64(field(line, 1)?)?, parse_u64(field(line, 2)?)?);
    Some(Annotation::Epoch(Epoch { number, unix_ms }))
}

fn parse_transaction(line: &[u8]) -> Option<Annotation> {
    let mut halves = field(line, 1)?.splitn(2, |byte| *byte == b'-');
    let home = u16::try_from(parse_u64(halves.next()?)?).ok()?;
    Some(Annotation::Transaction { home, number: parse_u64(halves.next()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(write: impl Fn(&mut Vec<u8>)) -> Annotation {
        let mut out = Vec::new();
        write(&mut out);
        assert!(out.len() <= LINE_BYTES_MAX);
        Annotation::parse(out.strip_suffix(b"\r\n").unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        for n in [0, 1, 41, u64::MAX] {
            let epoch = Epoch { number: n, unix_ms: u64::MAX - n };
            assert_eq!(read_back(|out| push_epoch(out, epoch)), Annotation::Epoch(epoch));
            assert_eq!(read_back(|out| push_time(out, n)), Annotation::Time { unix_s: n });
            let transaction = Annotation::Transaction { home: 255, number: n };
            assert_eq!(read_back(|out| push_transaction(out, 255, n)), transaction);
        }
    }

    #[test]
    fn the_text_is_the_one_that_is_documented() {
        let mut out = Vec::new();
        push_epoch(&mut out, Epoch { number: 41, unix_ms: 1_700_000_000_100 });
        push_time(&mut out, 1_700_000_000);
        push_transaction(&mut out, 0, 5);
        assert_eq!(out, b"#EPOCH:41:1700000000100\r\n#TS:1700000000\r\n#TXN:0-5\r\n");
    }

    #[test]
    fn fields_of_a_later_version_are_ignored_and_odd_lines_are_other() {
        let epoch = Annotation::Epoch(Epoch { number: 7, unix_ms: 9 });
        assert_eq!(Annotation::parse(b"#EPOCH:7:9:6"), epoch);
        assert_eq!(Annotation::parse(b"#TXN:1-2:x"), Annotation::Transaction { home: 1, number: 2 });
        for line in [
            &b"#"[..],
            b"#EPOCH",
            b"#EPOCH:7",
            b"#EPOCH:7:",
            b"#EPOCH:-7:9",
            b"#EPOCH:7: 9",
            b"#EPOCHS:7:9",
            b"#TS:x",
            b"#TS:18446744073709551616",
            b"#TXN:1",
            b"#TXN:65536-1",
            b"# a remark",
        ] {
            assert_eq!(Annotation::parse(line), Annotation::Other, "{}", line.escape_ascii());
        }
    }
}
