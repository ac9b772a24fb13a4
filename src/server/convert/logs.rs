//! The logs of all shards, one behind the other in one.
//!
//! ```text
//!   shard 0   base 0   a a a a │ FLUSHALL │ a a               ──>  base 0 and 1 in one RDB
//!   shard 1   base 1   b b     │ FLUSHALL │ b b b b                a a a a b b  FLUSHALL  a a b b b b
//! ```
//!
//! Shards have different keys, so commands of different shards do not notice in which order they run. The exceptions are commands that
//! concern all keys: they stand in every log, and divide all of them at the same points. A log ends at the largest epoch that all hold.
//!
//! Each part of a log is put behind a SELECT of the database that was chosen there. Annotations are left out: epochs of several shards
//! in one log mean nothing. Runs where its parent runs, with one transaction in memory.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::files::{
    At, ToolError, finish_with, manifest_at, new_file, new_folder, read_manifest, refused, sum_file,
};
use super::super::rdb_end;
use super::super::source::Source;
use super::{file_name, rdb};
use crate::persist::aof::effect::push_select;
use crate::persist::aof::epochs::{FileSum, common_cut};
use crate::persist::aof::manifest::{LogFile, Manifest, Stream, begins_as_rdb};
use crate::persist::aof::scan::{End, Item, Keep, Limits, Role, Scanner};

/// Commands that concern all keys.
const OF_ALL_KEYS: [&[u8]; 4] = [b"FLUSHALL", b"FLUSHDB", b"SWAPDB", b"FUNCTION"];

/// Writes a folder that Redis loads.
pub(super) fn merge(from: &Path, to: &Path) -> Result<String, ToolError> {
    let manifest_path = manifest_at(from)?;
    let manifest = read_manifest(&manifest_path)?;
    let Some(set) = manifest.set else {
        return refused(&manifest_path, "one log already, as Redis writes it");
    };
    let folder = manifest_path.parent().unwrap_or(Path::new(""));
    let (mut bases, mut logs, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for stream in &manifest.streams {
        let mut files: Vec<PathBuf> = Vec::new();
        if let Some(base) = &stream.base {
            let path = base.name.in_folder(folder);
            let source = Source::open(&path).at(&path)?;
            if !begins_as_rdb(source.piece()) {
                files.push(path);
            } else if rdb_end::find(&path)? == source.len() {
                bases.push(path);
            } else {
                return refused(&path, "commands follow the RDB in a base");
            }
        }
        files.extend(stream.incremental.iter().map(|file| file.name.in_folder(folder)));
        sums.push(files.iter().map(|file| sum_file(file, 0)).collect::<Result<Vec<FileSum>, ToolError>>()?);
        logs.push(files);
    }
    let cut = common_cut(set.epoch, &sums, None).or_else(|error| refused(&manifest_path, error.to_string()))?;
    let mut cursors = Vec::new();
    for (shard, (files, place)) in logs.into_iter().zip(&cut.places).enumerate() {
        let mut ends: Vec<(PathBuf, u64)> = files.into_iter().zip(sums[shard].iter().map(|sum| sum.len)).collect();
        if cut.unix_ms.is_some() {
            ends.truncate(place.file + 1);
            ends[place.file].1 = place.end;
        } else {
            // A base of commands is all that is kept.
            ends.truncate(ends.len() - manifest.streams[shard].incremental.len());
        }
        cursors.push(Cursor::new(ends));
    }

    let name = manifest_path.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
    let stem = name.strip_suffix(".manifest").unwrap_or("appendonly.aof");
    new_folder(to)?;
    let mut stream = Stream::default();
    if !bases.is_empty() {
        let base = LogFile { name: file_name(format!("{stem}.1.base.rdb"))?, seq: 1 };
        rdb::merge(&bases, &base.name.in_folder(to))?;
        stream.base = Some(base);
    }
    let log = LogFile { name: file_name(format!("{stem}.1.incr.aof"))?, seq: 1 };
    let path = log.name.in_folder(to);
    let mut out = BufWriter::with_capacity(1 << 18, new_file(&path)?);
    join(&mut cursors, &mut |bytes| out.write_all(bytes).at(&path))?;
    let file = out.into_inner().map_err(|error| ToolError::Io(path.clone(), error.into_error()))?;
    file.sync_all().at(&path)?;
    stream.incremental.push(log);
    finish_with(&to.join(&name), &Manifest { set: None, streams: vec![stream] }.print())?;
    Ok(format!("{}: one log of {} shards, up to epoch {}\n", to.display(), cursors.len(), cut.epoch))
}

/// Writes all parts in front of each command that concerns all keys, then the command, once.
fn join(cursors: &mut [Cursor], out: &mut dyn FnMut(&[u8]) -> Result<(), ToolError>) -> Result<(), ToolError> {
    loop {
        let mut divided: Option<Option<Vec<u8>>> = None;
        for cursor in &mut *cursors {
            let divides = cursor.part(out)?;
            match &divided {
                Some(first) if *first != divides => {
                    return refused(
                        cursor.path(),
                        "a command that concerns all keys is not in all logs; have the server rewrite them (BGREWRITEAOF)",
                    );
                }
                _ => divided = Some(divides),
            }
        }
        match divided.flatten() {
            Some(command) => out(&command)?,
            None => return Ok(()),
        }
    }
}

/// A place in the log of one shard.
struct Cursor {
    /// Its files, and how much of each is read.
    files: Vec<(PathBuf, u64)>,
    at: usize,
    source: Option<Source>,
    fed: u64,
    scanner: Scanner,
    /// The choice of the database at this place.
    select: Vec<u8>,
}

impl Cursor {
    fn new(files: Vec<(PathBuf, u64)>) -> Cursor {
        let mut select = Vec::new();
        push_select(&mut select, 0);
        Cursor { files, at: 0, source: None, fed: 0, scanner: scanner(), select }
    }

    fn path(&self) -> &Path {
        self.files.get(self.at.min(self.files.len().saturating_sub(1))).map_or(Path::new(""), |(path, _)| path)
    }

    /// Writes what comes before the next command that concerns all keys, and gives that command, or none at the end.
    fn part(&mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), ToolError>) -> Result<Option<Vec<u8>>, ToolError> {
        let mut has_select = false;
        // Records of the open transaction, and whether one of them concerns all keys.
        let (mut transaction, mut inner, mut divides) = (Vec::new(), 0, None);
        let mut select_before = Vec::new();
        while self.at < self.files.len() {
            let (at, name, role) = match self.scanner.next_item() {
                Ok(Item::NeedMore) => {
                    self.feed()?;
                    continue;
                }
                Ok(Item::Annotation { .. }) => continue,
                Ok(Item::Record { at, name, role, .. }) => (at, name.to_ascii_uppercase(), role),
                Err(damage) => return refused(self.path(), format!("damaged {damage}")),
            };
            let bytes = self.scanner.bytes(at);
            let is_of_all = OF_ALL_KEYS.contains(&name.as_slice());
            let is_select = name == b"SELECT";
            if role == Role::Alone && is_of_all {
                return Ok(Some(dividing(&name, &self.select, bytes)));
            }
            if role == Role::Alone && is_select {
                // Written in front of the next command, if one follows.
                self.select = bytes.to_vec();
                has_select = false;
                continue;
            }
            if role == Role::Multi {
                (transaction, inner, divides) = (Vec::new(), 0, None);
                select_before.clone_from(&self.select);
            }
            let mut unit = bytes.to_vec();
            if role != Role::Alone {
                transaction.extend_from_slice(bytes);
                if is_of_all {
                    divides = Some(name);
                }
                inner += u32::from(role == Role::Inside && !is_select);
                if is_select {
                    self.select = bytes.to_vec();
                }
                if role != Role::Exec {
                    continue;
                }
                unit = std::mem::take(&mut transaction);
                if divides.is_some() && inner > 1 {
                    return refused(
                        self.path(),
                        "a command that concerns all keys is part of a transaction; have the server rewrite the logs \
                         (BGREWRITEAOF)",
                    );
                }
                if let Some(name) = divides {
                    return Ok(Some(dividing(&name, &select_before, &unit)));
                }
            }
            if !has_select {
                out(if role == Role::Alone { &self.select } else { &select_before })?;
                has_select = true;
            }
            out(&unit)?;
        }
        Ok(None)
    }

    /// Goes on to the next piece, or the next file.
    fn feed(&mut self) -> Result<(), ToolError> {
        let (path, end) = &self.files[self.at];
        if self.fed == *end && self.scanner.end() != End::Whole {
            return refused(path, "not whole");
        }
        if self.fed == *end {
            self.at += 1;
            (self.source, self.fed, self.scanner) = (None, 0, scanner());
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

/// A command that concerns all keys, with the choice of the database if it concerns those of one.
fn dividing(name: &[u8], select: &[u8], unit: &[u8]) -> Vec<u8> {
    if name == b"FLUSHDB" { [select, unit].concat() } else { unit.to_vec() }
}

fn scanner() -> Scanner {
    Scanner::new(0, Keep::Records, Limits { bulk_bytes_max: u64::from(u32::MAX), ..Limits::default() })
}
