//! The logs of all shards, one behind the other in one.
//!
//! ```text
//!   shard 0   base 0   a a a a  FLUSHDB  a a │ SWAPDB │ a     ──>   base 1, and what of base 0 lies in other databases
//!   shard 1   base 1   b b                   │ SWAPDB │ b b         a a  b b  SWAPDB  a  b b
//! ```
//!
//! Shards have different keys, so commands of different shards do not notice in which order they run. The exceptions:
//!
//! - SWAPDB stands in every log and divides all of them at the same points; between two of them the logs take turns.
//! - FLUSHDB stands in the logs of those shards that had keys in the database, and must not touch the keys of others. It is not written.
//!   Instead, what a shard did in that database before, and what its base has there, is left out. FLUSHALL is a FLUSHDB of each.
//! - MOVE, and COPY to another database, could carry a key past a FLUSHDB: a log that has both is refused.
//!
//! A log ends at the largest epoch that all hold, where every transaction is whole; so MULTI and EXEC are left out, and annotations
//! too: epochs of several shards in one log mean nothing. What a shard does is put behind a SELECT of its database. Each file begins
//! in database 0, as Redis reads it.
//!
//! Logs are read twice. Runs where its parent runs, with one command in memory.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::files::{
    At, ToolError, finish_with, manifest_at, new_file, new_folder, read_manifest, refused, sum_file,
};
use super::super::rdb_end;
use super::super::source::Source;
use super::{file_name, rdb};
use crate::base::num::parse_u64;
use crate::persist::aof::effect::push_select;
use crate::persist::aof::epochs::{FileSum, common_cut};
use crate::persist::aof::manifest::{LogFile, Manifest, Stream, begins_as_rdb};
use crate::persist::aof::scan::{End, Item, Keep, Limits, Role, Scanner};

/// Writes a folder that Redis loads.
pub(super) fn merge(from: &Path, to: &Path) -> Result<String, ToolError> {
    let manifest_path = manifest_at(from)?;
    let manifest = read_manifest(&manifest_path)?;
    let Some(set) = manifest.set else {
        return refused(&manifest_path, "one log already, as Redis writes it");
    };
    let folder = manifest_path.parent().unwrap_or(Path::new(""));
    let (mut bases, mut base_shards, mut logs, mut sums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (shard, stream) in manifest.streams.iter().enumerate() {
        let mut files: Vec<PathBuf> = Vec::new();
        if let Some(base) = &stream.base {
            let path = base.name.in_folder(folder);
            let source = Source::open(&path).at(&path)?;
            if !begins_as_rdb(source.piece()) {
                files.push(path);
            } else if rdb_end::find(&path)? == source.len() {
                bases.push(path);
                base_shards.push(shard);
            } else {
                return refused(&path, "commands follow the RDB in a base");
            }
        }
        files.extend(stream.incremental.iter().map(|file| file.name.in_folder(folder)));
        sums.push(files.iter().map(|file| sum_file(file, 0)).collect::<Result<Vec<FileSum>, ToolError>>()?);
        logs.push(files);
    }
    let cut = common_cut(set.epoch, &sums, None).or_else(|error| refused(&manifest_path, error.to_string()))?;
    let mut logs_to_end = Vec::new();
    for (shard, (files, place)) in logs.into_iter().zip(&cut.places).enumerate() {
        let mut ends: Vec<(PathBuf, u64)> = files.into_iter().zip(sums[shard].iter().map(|sum| sum.len)).collect();
        if cut.unix_ms.is_some() {
            ends.truncate(place.file + 1);
            ends[place.file].1 = place.end;
        } else {
            // A base of commands is all that is kept.
            ends.truncate(ends.len() - manifest.streams[shard].incremental.len());
        }
        logs_to_end.push(ends);
    }

    let lives: Vec<Life> = logs_to_end.iter().map(|files| Life::of(files)).collect::<Result<_, _>>()?;
    if let Some(shard) = lives.iter().position(|life| life.swaps != lives[0].swaps) {
        return refused(&manifest_path, format!("the logs of shards 0 and {shard} do not hold the same SWAPDBs"));
    }

    let name = manifest_path.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
    let stem = name.strip_suffix(".manifest").unwrap_or("appendonly.aof");
    new_folder(to)?;
    let mut stream = Stream::default();
    if !bases.is_empty() {
        let base = LogFile { name: file_name(format!("{stem}.1.base.rdb"))?, seq: 1 };
        rdb::merge(&bases, &base.name.in_folder(to), |at, db| !lives[base_shards[at]].is_flushed(db))?;
        stream.base = Some(base);
    }
    let log = LogFile { name: file_name(format!("{stem}.1.incr.aof"))?, seq: 1 };
    let path = log.name.in_folder(to);
    let mut out = BufWriter::with_capacity(1 << 18, new_file(&path)?);
    let mut cursors: Vec<Cursor> = logs_to_end.iter().map(|files| Cursor::new(files)).collect();
    for swap in 0..=lives[0].swaps.len() {
        for (cursor, life) in cursors.iter_mut().zip(&lives) {
            write_until_swap(cursor, life, swap, &mut |bytes| out.write_all(bytes).at(&path))?;
        }
        if let Some(words) = lives[0].swaps.get(swap) {
            out.write_all(words).at(&path)?;
        }
    }
    let file = out.into_inner().map_err(|error| ToolError::Io(path.clone(), error.into_error()))?;
    file.sync_all().at(&path)?;
    stream.incremental.push(log);
    finish_with(&to.join(&name), &Manifest { set: None, streams: vec![stream] }.print())?;
    Ok(format!("{}: one log of {} shards, up to epoch {}\n", to.display(), lives.len(), cut.epoch))
}

/// Writes what a shard does up to its next SWAPDB, but for what a FLUSHDB removes.
fn write_until_swap(
    cursor: &mut Cursor,
    life: &Life,
    swap: usize,
    out: &mut dyn FnMut(&[u8]) -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let mut written_db = None;
    while let Some(Command { number, name, db, bytes, .. }) = cursor.next_command()? {
        match name.as_slice() {
            b"SWAPDB" => return Ok(()),
            b"FLUSHDB" | b"FLUSHALL" => continue,
            _ => {}
        }
        if life.is_removed(number, swap, db) {
            continue;
        }
        if written_db != Some(db) {
            let mut select = Vec::new();
            push_select(&mut select, db);
            out(&select)?;
            written_db = Some(db);
        }
        out(bytes)?;
    }
    Ok(())
}

/// What a shard's log says about whole databases. Databases are told apart by the index that they had at its beginning.
struct Life {
    /// The commands SWAPDB, in their order.
    swaps: Vec<Vec<u8>>,
    /// After so many of them, which databases have changed their index: where they are, and where they were.
    places: Vec<BTreeMap<u16, u16>>,
    /// The number of the last command that empties a database.
    flushed: BTreeMap<u16, u64>,
    /// The last that empties all.
    all_flushed: Option<u64>,
}

impl Life {
    fn of(files: &[(PathBuf, u64)]) -> Result<Life, ToolError> {
        let mut life =
            Life { swaps: Vec::new(), places: vec![BTreeMap::new()], flushed: BTreeMap::new(), all_flushed: None };
        let mut carries = false;
        let mut cursor = Cursor::new(files);
        while let Some(Command { number, name, db, argc, bytes }) = cursor.next_command()? {
            match name.as_slice() {
                b"SWAPDB" => {
                    let numbers = swapped(bytes);
                    let mut places = life.places.last().cloned().unwrap_or_default();
                    let bytes = bytes.to_vec();
                    let Some((one, other)) = numbers else {
                        return refused(cursor.path(), "a SWAPDB without two databases");
                    };
                    let was = |index: u16| places.get(&index).copied().unwrap_or(index);
                    let (first, second) = (was(one), was(other));
                    places.insert(one, second);
                    places.insert(other, first);
                    life.places.push(places);
                    life.swaps.push(bytes);
                }
                b"FLUSHDB" => {
                    let first = life.first_index(life.swaps.len(), db);
                    life.flushed.insert(first, number);
                }
                b"FLUSHALL" => life.all_flushed = Some(number),
                b"MOVE" => carries = true,
                b"COPY" if argc > 4 => carries = true,
                b"FUNCTION" => {
                    return refused(cursor.path(), "it holds function libraries, which belong to all shards");
                }
                _ => {}
            }
        }
        if carries && (life.all_flushed.is_some() || !life.flushed.is_empty()) {
            return refused(
                cursor.path(),
                "it moves keys between databases and empties some; have the server rewrite its logs (BGREWRITEAOF) first",
            );
        }
        Ok(life)
    }

    /// The index that a database had at first.
    fn first_index(&self, swap: usize, db: u16) -> u16 {
        self.places[swap].get(&db).copied().unwrap_or(db)
    }

    /// Whether what a command did in a database is removed later.
    fn is_removed(&self, number: u64, swap: usize, db: u16) -> bool {
        let flushed = self.flushed.get(&self.first_index(swap, db));
        flushed.is_some_and(|last| number < *last) || self.all_flushed.is_some_and(|last| number < last)
    }

    /// Whether what the base has in a database is removed.
    fn is_flushed(&self, db: u16) -> bool {
        self.all_flushed.is_some() || self.flushed.contains_key(&db)
    }
}

/// The two databases of a SWAPDB: the second and third of its arguments.
fn swapped(record: &[u8]) -> Option<(u16, u16)> {
    let number = |line: &[u8]| parse_u64(line.strip_suffix(b"\r")?).and_then(|number| u16::try_from(number).ok());
    let lines: Vec<&[u8]> = record.split(|byte| *byte == b'\n').collect();
    Some((number(lines.get(4)?)?, number(lines.get(6)?)?))
}

/// A command of a log, other than SELECT, MULTI and EXEC.
struct Command<'a> {
    /// How many there were before it.
    number: u64,
    /// Its name in capitals.
    name: Vec<u8>,
    db: u16,
    argc: u64,
    bytes: &'a [u8],
}

/// A place in the log of one shard.
struct Cursor<'f> {
    /// Its files, and how much of each is read.
    files: &'f [(PathBuf, u64)],
    at: usize,
    source: Option<Source>,
    fed: u64,
    scanner: Scanner,
    db: u16,
    number: u64,
}

impl<'f> Cursor<'f> {
    fn new(files: &'f [(PathBuf, u64)]) -> Cursor<'f> {
        Cursor { files, at: 0, source: None, fed: 0, scanner: scanner(), db: 0, number: 0 }
    }

    fn path(&self) -> &Path {
        self.files.get(self.at.min(self.files.len().saturating_sub(1))).map_or(Path::new(""), |(path, _)| path)
    }

    fn next_command(&mut self) -> Result<Option<Command<'_>>, ToolError> {
        loop {
            if self.at == self.files.len() {
                return Ok(None);
            }
            let (at, name, argc, role) = match self.scanner.next_item() {
                Ok(Item::NeedMore) => {
                    self.feed()?;
                    continue;
                }
                Ok(Item::Annotation { .. }) => continue,
                Ok(Item::Record { at, name, role, argc }) => (at, name.to_ascii_uppercase(), argc, role),
                Err(damage) => return refused(self.path(), format!("damaged {damage}")),
            };
            match (name.as_slice(), role) {
                (_, Role::Multi | Role::Exec) => continue,
                (b"SELECT", _) => {
                    let lines = self.scanner.bytes(at).split(|byte| *byte == b'\n').nth(4);
                    let db = lines.and_then(|line| parse_u64(line.strip_suffix(b"\r")?));
                    let Some(db) = db.and_then(|db| u16::try_from(db).ok()) else {
                        return refused(self.path(), "a SELECT without a database");
                    };
                    self.db = db;
                }
                _ => {
                    self.number += 1;
                    let bytes = self.scanner.bytes(at);
                    return Ok(Some(Command { number: self.number, name, db: self.db, argc, bytes }));
                }
            }
        }
    }

    /// Goes on to the next piece, or the next file.
    fn feed(&mut self) -> Result<(), ToolError> {
        let (path, end) = &self.files[self.at];
        if self.fed == *end && self.scanner.end() != End::Whole {
            return refused(path, "not whole");
        }
        if self.fed == *end {
            self.at += 1;
            (self.source, self.fed, self.scanner, self.db) = (None, 0, scanner(), 0);
            return Ok(());
        }
        let source = match &mut self.source {
            Some(source) => source,
            none => none.insert(Source::open(path).at(path)?),
        };
        let some = (source.piece().len() as u64).min(end - self.fed);
        if some == 0 {
            return refused(path, "it has become shorter");
        }
        self.scanner.feed(&source.piece()[..some as usize]);
        self.fed += some;
        source.advance().at(path)
    }
}

fn scanner() -> Scanner {
    Scanner::new(0, Keep::Records, Limits { bulk_bytes_max: u64::from(u32::MAX), ..Limits::default() })
}
