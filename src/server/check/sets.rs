//! Checking files that belong together: what a manifest names, and whether it is one point of the store.
//!
//! ```text
//!   appendonlydir ──> its manifest ──┬──> each base and each log, as if alone
//!                                    └──> the epoch that all logs hold, and what stands behind it
//!   dump.rdb.manifest ───────────────┬──> each file, as if alone
//!                                    └──> size and checksum as the manifest says
//! ```
//!
//! Runs where its parent runs. A manifest without a head is that of Redis, one stream and no epochs. Logs that are all whole but end at
//! different epochs are whole: a crash leaves them so, and what is dropped then is told.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Kind, Source, Verdict, aof, check_file, counted};
use crate::base::time::Millis;
use crate::persist::aof::epochs::{FileSum, common_cut};
use crate::persist::aof::manifest::Manifest;
use crate::persist::manifest_lines::{FileName, ManifestError};
use crate::persist::snapshot_set::{self, SnapshotSet};
use crate::server::instant;

/// The manifests in a folder, sorted.
pub(in crate::server) fn manifests(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".manifest") && !text.starts_with("temp-") {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Checks all manifests of a folder.
pub(super) fn check_folder(folder: &Path, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let found = manifests(folder)?;
    if found.is_empty() {
        writeln!(out, "{}: a folder without a manifest", folder.display())?;
        return Ok(Verdict::NotWhole);
    }
    let mut verdict = Verdict::Whole;
    for path in found {
        verdict = verdict.and(check_manifest(&path, now, out)?);
    }
    Ok(verdict)
}

/// Checks a manifest and what it names.
pub(super) fn check_manifest(path: &Path, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let text = fs::read(path)?;
    let checked = if snapshot_set::is_manifest(&text) {
        SnapshotSet::parse(&text).map(|set| check_snapshot(path, &set, now, out))
    } else {
        Manifest::parse(&text).map(|manifest| check_logs(path, &manifest, now, out))
    };
    checked.unwrap_or_else(|error: ManifestError| {
        writeln!(out, "{}: {error}", path.display())?;
        Ok(Verdict::NotWhole)
    })
}

fn check_logs(path: &Path, manifest: &Manifest, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let shards = counted(manifest.shards() as u64, "shard", "shards");
    match manifest.set {
        Some(set) => writeln!(
            out,
            "{}: logs of {shards}, generation {}, which continue epoch {}",
            path.display(),
            set.generation,
            set.epoch
        )?,
        None => writeln!(out, "{}: one log, as Redis writes it", path.display())?,
    }
    let mut verdict = Verdict::Whole;
    let mut logs: Vec<Vec<FileSum>> = Vec::new();
    for stream in &manifest.streams {
        if let Some(base) = &stream.base {
            verdict = verdict.and(check_named(folder, &base.name, now, out)?);
        }
        let mut sums = Vec::new();
        for file in &stream.incremental {
            let path = file.name.in_folder(folder);
            match Source::open(&path) {
                Ok(mut source) => {
                    let sum = aof::sum(&mut source, 0)?;
                    verdict = verdict.and(aof::write_sum(&sum, &path, 0, out)?);
                    sums.push(sum);
                }
                Err(error) => {
                    // What follows a file that is missing cannot be kept either.
                    verdict = verdict.and(missing(&path, error, out)?);
                    break;
                }
            }
        }
        logs.push(sums);
    }
    let Some(set) = manifest.set else { return Ok(verdict) };
    let cut = match common_cut(set.epoch, &logs, None) {
        Ok(cut) => cut,
        Err(error) => {
            writeln!(out, "{}: {error}", path.display())?;
            return Ok(Verdict::NotWhole);
        }
    };
    let closed = cut
        .unix_ms
        .map_or_else(|| ", that of the bases".to_owned(), |ms| format!(", closed at {}", instant::print(ms)));
    writeln!(out, "All shards have epoch {} in common{closed}", cut.epoch)?;
    for (shard, (sums, place)) in logs.iter().zip(&cut.places).enumerate() {
        let dropped: u64 = sums.iter().skip(place.file).map(|sum| sum.len).sum::<u64>() - place.end;
        if dropped > 0 {
            let bytes = counted(dropped, "byte", "bytes");
            writeln!(out, "  of shard {shard}, {bytes} behind it would be dropped")?;
        }
    }
    Ok(verdict)
}

fn check_snapshot(path: &Path, set: &SnapshotSet, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let shards = counted(set.parts.len() as u64, "shard", "shards");
    let (path, at) = (path.display(), instant::print(set.unix_ms));
    writeln!(out, "{path}: a snapshot of {shards}, generation {}, of {at}", set.generation)?;
    let mut verdict = Verdict::Whole;
    for part in &set.parts {
        let path = part.name.in_folder(folder);
        verdict = verdict.and(check_named(folder, &part.name, now, out)?);
        let Ok(file) = fs::File::open(&path) else { continue };
        let (size, crc64) = size_and_sum(&file)?;
        if (size, crc64) != (part.size, part.crc64) {
            writeln!(
                out,
                "{} is of another snapshot: the manifest wants {} and checksum {:016x}, it has {size} and {crc64:016x}",
                path.display(),
                counted(part.size, "byte", "bytes"),
                part.crc64
            )?;
            verdict = Verdict::NotWhole;
        }
    }
    Ok(verdict)
}

/// The length of an RDB, and the checksum that it ends with; zero in a file that is too short for one.
pub(in crate::server) fn size_and_sum(file: &fs::File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::FileExt;
    let size = file.metadata()?.len();
    let mut sum = [0; 8];
    if let Some(at) = size.checked_sub(8) {
        file.read_exact_at(&mut sum, at)?;
    }
    Ok((size, u64::from_le_bytes(sum)))
}

fn check_named(folder: &Path, name: &FileName, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let path = name.in_folder(folder);
    match Source::open(&path) {
        Ok(mut source) => {
            let kind = Kind::of(source.piece(), &path);
            // A base of commands may be empty.
            check_file(if kind == Kind::Rdb { kind } else { Kind::Commands }, &mut source, &path, now, out)
        }
        Err(error) => missing(&path, error, out),
    }
}

fn missing(path: &Path, error: io::Error, out: &mut Vec<u8>) -> io::Result<Verdict> {
    writeln!(out, "{}: cannot be read: {error}", path.display())?;
    Ok(Verdict::NotWhole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::aof::annotation::{Epoch, push_epoch};
    use crate::persist::aof::effect::push_command;

    /// A folder with these files, gone with its value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &[u8])]) -> Folder {
            let folder = std::env::temp_dir().join(format!("annulus-sets-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).expect("the temporary folder is writable");
            for (name, content) in files {
                fs::write(folder.join(name), content).expect("the folder is writable");
            }
            Folder(folder)
        }

        fn checked(&self, name: &str) -> (Verdict, String) {
            let mut out = Vec::new();
            let verdict = super::super::check(&self.0.join(name), Millis(1_000_000), &mut out).expect("it can be read");
            let words = String::from_utf8(out).expect("words");
            (verdict, words.replace(&format!("{}/", self.0.display()), ""))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // What stays behind is litter in the temporary folder, not a failed test.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const RDB: &[u8] = b"REDIS0009\xff\0\0\0\0\0\0\0\0";

    fn log(epochs: &[u64]) -> Vec<u8> {
        let mut log = Vec::new();
        for number in epochs {
            push_command(&mut log, [&b"SET"[..], b"k", b"v"]);
            push_epoch(&mut log, Epoch { number: *number, unix_ms: 1_700_000_000_000 + number * 100 });
        }
        log
    }

    const MANIFEST: &[u8] = b"# annulus shards 2 generation 3 epoch 5 files 3\nfile base seq 3 type b shard 0\n\
        file one seq 3 type i shard 0\nfile two seq 3 type i shard 1\n";

    #[test]
    fn logs_are_told_with_the_epoch_that_all_hold() {
        let files =
            [("m.manifest", MANIFEST), ("base", RDB), ("one", &log(&[6, 7, 8])[..]), ("two", &log(&[6, 7])[..])];
        let folder = Folder::new("logs", &files);
        let (verdict, words) = folder.checked("m.manifest");
        assert_eq!(verdict, Verdict::Whole, "{words}");
        assert_eq!(
            words,
            "m.manifest: logs of 2 shards, generation 3, which continue epoch 5
base: RDB of version REDIS0009, 18 bytes
  no keys
  it has no checksum
base is whole
one: commands, 153 bytes
  3 commands
  epochs 6 to 8, the last closed at 2023-11-14T22:13:20.8Z
one is whole
two: commands, 102 bytes
  2 commands
  epochs 6 to 7, the last closed at 2023-11-14T22:13:20.7Z
two is whole
All shards have epoch 7 in common, closed at 2023-11-14T22:13:20.7Z
  of shard 0, 51 bytes behind it would be dropped
"
        );
        assert_eq!(folder.checked(""), (verdict, words), "the folder stands for its manifest");
    }

    #[test]
    fn what_is_missing_or_damaged_in_a_set_is_told() {
        let mut cut = log(&[6, 7]);
        cut.pop();
        let folder = Folder::new("cut", &[("m.manifest", MANIFEST), ("one", &log(&[6, 7])), ("two", &cut)]);
        let (verdict, words) = folder.checked("m.manifest");
        assert_eq!(verdict, Verdict::NotWhole);
        assert!(words.contains("base: cannot be read: No such file"), "{words}");
        assert!(words.contains("two ends in the middle of what begins at byte 78\n"), "{words}");
        assert!(words.contains("All shards have epoch 6 in common"), "{words}");
        assert!(words.ends_with("of shard 1, 50 bytes behind it would be dropped\n"), "{words}");
        let folder =
            Folder::new("order", &[("m.manifest", MANIFEST), ("base", RDB), ("one", &log(&[5])), ("two", b"")]);
        let (verdict, words) = folder.checked("m.manifest");
        assert_eq!(verdict, Verdict::NotWhole);
        assert!(words.ends_with("m.manifest: epoch 5 of shard 0 does not come after epoch 5\n"), "{words}");
    }

    #[test]
    fn a_manifest_that_is_none_is_told_with_its_line() {
        let folder = Folder::new("none", &[("m.manifest", b"file a seq 1\n")]);
        let expected = "m.manifest: line 1: 'type' is missing\n".to_owned();
        assert_eq!(folder.checked("m.manifest"), (Verdict::NotWhole, expected));
        let folder = Folder::new("empty", &[("temp-m.manifest", b"file a seq 1\n")]);
        let (verdict, words) = folder.checked("");
        assert_eq!(verdict, Verdict::NotWhole);
        assert!(words.ends_with(": a folder without a manifest\n"), "{words}");
    }

    #[test]
    fn files_of_a_snapshot_are_held_against_their_manifest() {
        let manifest = |size: u64| {
            format!(
                "# annulus shards 1 generation 3 unix_ms 1700000000000\n\
                 file a.rdb shard 0 size {size} crc64 0000000000000000\n"
            )
        };
        let folder = Folder::new("snapshot", &[("d.rdb.manifest", manifest(18).as_bytes()), ("a.rdb", RDB)]);
        let (verdict, words) = folder.checked("d.rdb.manifest");
        assert_eq!(verdict, Verdict::Whole, "{words}");
        assert!(words.starts_with("d.rdb.manifest: a snapshot of 1 shard, generation 3, of 2023-11-14T22:13:20Z\n"));
        let folder = Folder::new("other", &[("d.rdb.manifest", manifest(19).as_bytes()), ("a.rdb", RDB)]);
        let (verdict, words) = folder.checked("d.rdb.manifest");
        assert_eq!(verdict, Verdict::NotWhole);
        assert!(words.contains("a.rdb is of another snapshot: the manifest wants 19 bytes"), "{words}");
    }
}
