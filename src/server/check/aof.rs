//! Checking commands: an append-only file, or the part of one that stands behind an RDB.
//!
//! ```text
//!   a.aof: commands, 4711 bytes
//!     12 commands
//!     epochs 7 to 9, the last closed at 2023-11-14T22:13:20.9Z
//!   a.aof ends in the middle of what begins at byte 4700
//!   What stands before byte 4700 can be kept
//! ```
//!
//! What a file holds is found by `persist::aof::epochs`; here are only the words. Runs where its parent runs. Whether a command is one
//! that this server knows is not looked at.

use std::io::{self, Write};
use std::path::Path;

use super::{Source, Verdict, counted};
use crate::persist::aof::epochs::{Behind, Ending, FileScan, FileSum};
use crate::persist::aof::scan::Limits;
use crate::server::instant;

/// Reads what the source holds from this offset of its file on.
pub(super) fn sum(source: &mut Source, offset: u64) -> io::Result<FileSum> {
    // The longest argument is what the server that wrote the file allowed; the file is there, whatever ours allows.
    let mut scan = FileScan::new(offset, Limits { bulk_bytes_max: u64::from(u32::MAX), ..Limits::default() });
    while !source.piece().is_empty() {
        scan.feed(source.piece());
        source.advance()?;
    }
    Ok(scan.finish())
}

/// Reads and tells.
pub(super) fn check(source: &mut Source, path: &Path, offset: u64, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let sum = sum(source, offset)?;
    write_sum(&sum, path, offset, out)
}

/// Tells what was found in a file from this offset on.
pub(super) fn write_sum(sum: &FileSum, path: &Path, offset: u64, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let path = path.display();
    let bytes = counted(sum.len - offset, "byte", "bytes");
    match offset {
        0 => writeln!(out, "{path}: commands, {bytes}")?,
        _ => writeln!(out, "{path}: commands from byte {offset} on, {bytes}")?,
    }
    writeln!(out, "  {}", counted(sum.records, "command", "commands"))?;
    if let (Some(first), Some(last)) = (sum.epochs.first(), sum.epochs.last()) {
        let (first, last) = (first.epoch, last.epoch);
        writeln!(
            out,
            "  epochs {} to {}, the last closed at {}",
            first.number,
            last.number,
            instant::print(last.unix_ms)
        )?;
    }
    if let (Some(first), Some(last)) = (sum.times.first(), sum.times.last()) {
        let [first, last] = [first, last].map(|time| instant::print(time.unix_s.saturating_mul(1000)));
        writeln!(out, "  times from {first} to {last}")?;
    }
    match sum.ending {
        Ending::Whole => {
            writeln!(out, "{path} is whole")?;
            return Ok(Verdict::Whole);
        }
        Ending::Cut { at } => writeln!(out, "{path} ends in the middle of what begins at byte {at}")?,
        Ending::OpenTransaction { at } => {
            writeln!(out, "{path} ends inside of the transaction that begins at byte {at}")?;
        }
        Ending::Damaged(damage, behind) => {
            writeln!(out, "{path} is damaged {damage}")?;
            write_behind(behind, out)?;
        }
    }
    writeln!(out, "What stands before byte {} can be kept", sum.valid_up_to)?;
    Ok(Verdict::NotWhole)
}

fn write_behind(behind: Behind, out: &mut Vec<u8>) -> io::Result<()> {
    let bytes = counted(behind.bytes, "byte stands", "bytes stand");
    match behind.epochs {
        _ if behind.zeros => writeln!(out, "  {bytes} from there on, all of them zero, as a power cut leaves them"),
        None => writeln!(out, "  {bytes} from there on, and no epoch is closed in them"),
        Some((first, last)) => {
            let (first, last) = (first.number, last.number);
            writeln!(out, "  {bytes} from there on; epochs {first} to {last} are closed in them, and cannot be kept")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::checked;
    use super::*;

    const LOG: &[u8] = b"#TS:1700000000\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#EPOCH:7:1700000000100\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n\
        #EPOCH:8:1700000000200\r\n";

    const FOUND: &str = "  2 commands
  epochs 7 to 8, the last closed at 2023-11-14T22:13:20.2Z
  times from 2023-11-14T22:13:20Z to 2023-11-14T22:13:20Z
";

    #[test]
    fn a_whole_log_is_told_in_full() {
        assert_eq!(checked("log", LOG), (Verdict::Whole, format!("PATH: commands, 114 bytes\n{FOUND}PATH is whole\n")));
    }

    #[test]
    fn where_it_ends_and_what_can_be_kept_is_told() {
        let (verdict, words) = checked("log-cut", &[LOG, b"*1\r\n$4"].concat());
        let ends = "PATH ends in the middle of what begins at byte 114\nWhat stands before byte 114 can be kept\n";
        assert_eq!((verdict, words), (Verdict::NotWhole, format!("PATH: commands, 120 bytes\n{FOUND}{ends}")));
        let (_, words) = checked("log-open", &[LOG, b"*1\r\n$5\r\nMULTI\r\n"].concat());
        let ends =
            "PATH ends inside of the transaction that begins at byte 114\nWhat stands before byte 114 can be kept\n";
        assert!(words.ends_with(ends), "{words}");
    }

    #[test]
    fn damage_is_told_with_what_stands_behind_it() {
        let behind = |bytes: &[u8]| {
            let (verdict, words) = checked("log-damaged", &[LOG, bytes].concat());
            assert_eq!(verdict, Verdict::NotWhole);
            let at = words.find("PATH is damaged").expect("damage");
            words[at..].to_owned()
        };
        const DAMAGED: &str = "PATH is damaged at byte 114: expected '*' of a command or '#' of an annotation\n";
        const KEPT: &str = "What stands before byte 114 can be kept\n";
        let expected = "  8 bytes stand from there on, all of them zero, as a power cut leaves them\n";
        assert_eq!(behind(&[0; 8]), format!("{DAMAGED}{expected}{KEPT}"));
        let expected = "  1 byte stands from there on, and no epoch is closed in them\n";
        assert_eq!(behind(b"x"), format!("{DAMAGED}{expected}{KEPT}"));
        let expected = "  17 bytes stand from there on; epochs 9 to 9 are closed in them, and cannot be kept\n";
        assert_eq!(behind(b"rot\r\n#EPOCH:9:1\r\n"[..].into()), format!("{DAMAGED}{expected}{KEPT}"));
    }

    #[test]
    fn commands_behind_an_rdb_are_read_too() {
        let rdb = b"REDIS0009\xff\0\0\0\0\0\0\0\0";
        let (verdict, words) = checked("preamble", &[&rdb[..], LOG].concat());
        assert_eq!(verdict, Verdict::Whole, "{words}");
        assert!(
            words.ends_with(&format!("PATH: commands from byte 18 on, 114 bytes\n{FOUND}PATH is whole\n")),
            "{words}"
        );
        let (verdict, words) = checked("preamble-cut", &[&rdb[..], &LOG[..113]].concat());
        assert_eq!(verdict, Verdict::NotWhole, "{words}");
        assert!(words.ends_with("begins at byte 108\nWhat stands before byte 108 can be kept\n"), "{words}");
    }
}
