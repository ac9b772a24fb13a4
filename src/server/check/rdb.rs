//! Checking an RDB file: what is in it, and whether this server would load it.
//!
//! ```text
//!   dump.rdb: RDB of version REDIS0010, 4711 bytes
//!     redis-ver = 7.0.15
//!     database 0: 3 keys, 1 expires
//!       list 1, string 2
//!     the checksum is right
//!   dump.rdb is whole
//! ```
//!
//! Every value is decoded as it would be for loading, and counted by `persist::rdb::survey`; here are only the words. Runs where its
//! parent runs. Invariant: what is written about the part before damage is what a load up to there would give.

use std::io::{self, Write};
use std::path::Path;

use super::{Source, Verdict, aof, counted};
use crate::base::time::Millis;
use crate::config::Config;
use crate::persist::rdb::Limits;
use crate::persist::rdb::file::{Damage, Reason};
use crate::persist::rdb::file_reader::Checksum;
use crate::persist::rdb::survey::{Findings, Survey};
use crate::rt::entropy;

/// A string may be as long as the file, in case the server that wrote it allows more than ours does by default; but not longer than
/// this, since a damaged length makes us wait for so many bytes. Bytes.
const STRING_BYTES_MAX: u64 = 4 << 30;

/// Reads the file from its first piece on.
pub(super) fn check(source: &mut Source, path: &Path, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let mut limits = Limits::of(&Config::default());
    let longest = source.len().min(STRING_BYTES_MAX);
    limits.string_bytes_max = limits.string_bytes_max.max(usize::try_from(longest).unwrap_or(usize::MAX));
    let hashers = [(); 2]
        .map(|()| ahash::RandomState::with_seeds(entropy::u64(), entropy::u64(), entropy::u64(), entropy::u64()));
    let mut survey = Survey::new(limits, now, hashers);
    let read = read(source, &mut survey)?;
    let (file, path) = (path, path.display());

    let findings = survey.findings();
    if let Some(version) = findings.version {
        writeln!(out, "{path}: RDB of version {version}, {}", counted(source.len(), "byte", "bytes"))?;
    }
    write_findings(findings, out)?;
    if let Err(damage) = read {
        writeln!(out, "{path} is damaged {damage}")?;
        if matches!(damage.reason, Reason::Checksum { .. }) {
            writeln!(out, "All of it could be read, but something in it is not what was written; nobody can say what")?;
        } else if findings.version.is_some() {
            let keys = counted(findings.keys(), "key", "keys");
            writeln!(out, "What stands before byte {} can be kept: {keys}, as counted above", damage.record)?;
        }
        return Ok(Verdict::NotWhole);
    }
    match survey.end() {
        Some(Checksum::Absent) => writeln!(out, "  it has no checksum")?,
        _ => writeln!(out, "  the checksum is right")?,
    }
    if !findings.of_modules.is_empty() {
        writeln!(out, "{path} is whole, and is not loaded here because of its modules")?;
        return Ok(Verdict::NotWhole);
    }
    let end = survey.offset();
    if source.len() > end {
        // An append-only file of a server before Redis 7 may begin with RDB; so may a base.
        writeln!(out, "{path}: the RDB part is whole and ends at byte {end}")?;
        return aof::check(&mut Source::open_at(file, end)?, file, end, out);
    }
    writeln!(out, "{path} is whole")?;
    Ok(Verdict::Whole)
}

fn read(source: &mut Source, survey: &mut Survey) -> io::Result<Result<(), Damage>> {
    while !source.piece().is_empty() && survey.end().is_none() {
        if let Err(damage) = survey.feed(source.piece()) {
            return Ok(Err(damage));
        }
        source.advance()?;
    }
    Ok(survey.end_of_input())
}

fn write_findings(findings: &Findings, out: &mut Vec<u8>) -> io::Result<()> {
    for (name, value) in &findings.aux {
        writeln!(out, "  {} = {}", name.escape_ascii(), value.escape_ascii())?;
    }
    if findings.libraries > 0 {
        writeln!(out, "  {}", counted(findings.libraries, "function library", "function libraries"))?;
    }
    for (db, database) in &findings.databases {
        let keys = counted(database.types.values().sum(), "key", "keys");
        write!(out, "  database {}: {keys}", db.0)?;
        if database.expiring > 0 {
            write!(out, ", {}", counted(database.expiring, "expires", "expire"))?;
        }
        if database.expired > 0 {
            write!(out, " ({} already)", database.expired)?;
        }
        let types: Vec<String> = database.types.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "\n    {}", types.join(", "))?;
    }
    if findings.databases.is_empty() && findings.version.is_some() {
        writeln!(out, "  no keys")?;
    }
    if findings.empty_keys > 0 {
        let keys = counted(findings.empty_keys, "key has", "keys have");
        writeln!(out, "  {keys} an empty value and would not be loaded")?;
    }
    for (name, count) in &findings.of_modules {
        let keys = counted(*count, "key belongs", "keys belong");
        writeln!(out, "  {keys} to the module type '{}'", name.escape_ascii())?;
    }
    for (what, count) in &findings.skipped {
        writeln!(out, "  of no use here: {what} ({})", counted(*count, "time", "times"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::checked;
    use super::*;
    use crate::persist::rdb::Sum;

    const BODY: &[u8] = b"REDIS0009\xfa\x09redis-ver\x055.0.7\xfe\x00\x00\x01k\x01v\x01\x01l\x01\x01x\xfc\xe8\x03\0\0\0\0\0\0\x00\x01m\x01v\
        \xfe\x03\x02\x01s\x01\x01x";

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut file = [body, b"\xff"].concat();
        let sum = Sum::of(&file).crc64();
        file.extend(sum.to_le_bytes());
        file
    }

    const FOUND: &str = "  redis-ver = 5.0.7
  database 0: 3 keys, 1 expires (1 already)
    list 1, string 2
  database 3: 1 key
    set 1
";

    #[test]
    fn a_whole_file_is_told_in_full() {
        let (verdict, words) = checked("whole", &sealed(BODY));
        assert_eq!(verdict, Verdict::Whole);
        assert_eq!(
            words,
            format!("PATH: RDB of version REDIS0009, 70 bytes\n{FOUND}  the checksum is right\nPATH is whole\n")
        );
        let (verdict, words) = checked("absent", b"REDIS0009\xff\0\0\0\0\0\0\0\0");
        assert_eq!(verdict, Verdict::Whole);
        assert!(words.contains("  no keys\n  it has no checksum\nPATH is whole"), "{words}");
    }

    #[test]
    fn damage_is_told_with_its_place_and_what_can_be_kept() {
        let (verdict, words) = checked("cut", &BODY[..BODY.len() - 1]);
        assert_eq!(verdict, Verdict::NotWhole);
        assert_eq!(
            words,
            "PATH: RDB of version REDIS0009, 60 bytes
  redis-ver = 5.0.7
  database 0: 3 keys, 1 expires (1 already)
    list 1, string 2
PATH is damaged at byte 60 (in what begins at byte 55): expected more bytes; the file ends here
What stands before byte 55 can be kept: 3 keys, as counted above
"
        );
        let mut file = sealed(BODY);
        file[BODY.len() - 1] ^= 1;
        let (verdict, words) = checked("sum", &file);
        assert_eq!(verdict, Verdict::NotWhole);
        assert!(words.contains("PATH is damaged at byte 62: expected the checksum "), "{words}");
        assert!(words.ends_with("nobody can say what\n"), "{words}");
        let (_, words) = checked("twice", &sealed(&[BODY, b"\x02\x01s\x01\x01y"].concat()));
        assert!(words.contains("PATH is damaged at byte 61: expected a key that is not there yet"), "{words}");
        let (verdict, words) = checked("later", b"REDIS0099\xff");
        assert_eq!((verdict, words.lines().count()), (Verdict::NotWhole, 1), "{words}");
    }

    #[test]
    fn what_is_whole_and_of_no_use_here_is_told_apart() {
        let module = b"\x07\x01j\x81\x90\x0e\x2a\x5c\x9a\x6e\xd4\x01\x02\x01\x00";
        let (verdict, words) = checked("module", &sealed(&[BODY, module].concat()));
        assert_eq!(verdict, Verdict::NotWhole);
        assert!(words.contains("  1 key belongs to the module type 'kA4qXJpu1'\n"), "{words}");
        assert!(words.ends_with("PATH is whole, and is not loaded here because of its modules\n"), "{words}");
        let (verdict, words) = checked("more", &[&sealed(BODY)[..], b"*1\r\n"].concat());
        assert_eq!(verdict, Verdict::NotWhole);
        let more = "PATH: the RDB part is whole and ends at byte 70\nPATH: commands from byte 70 on, 4 bytes\n";
        assert!(words.contains(more), "{words}");
    }
}
