//! RDB files joined and split, record by record.
//!
//! ```text
//!   version  fields  libraries  [ SELECTDB  key … ]  end and checksum
//! ```
//!
//! Every file is read as for loading and its checksum compared; what is written are the bytes of its records as they were. Which
//! database a key belongs to is written anew, as records change their neighbours. Hints of sizes, and what modules keep beside their
//! keys, are left out. The version of what is written is the highest of what was read, and at least the first with checksums.
//!
//! Runs where its parent runs. Invariant: a file that is read beyond its damage is not written to its end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::check::sets::size_and_sum;
use super::super::files::{At, ToolError, finish_with, new_file, new_folder, refused};
use super::super::rdb_end;
use super::super::source::Source;
use super::file_name;
use crate::base::DbIndex;
use crate::base::time::Millis;
use crate::persist::rdb::file::{VERSION_BYTES, VERSION_OF_CHECKSUMS, Version};
use crate::persist::rdb::file_reader::Step;
use crate::persist::rdb::{Sum, Writer, file_writer};
use crate::persist::snapshot_set::{Part, SnapshotSet, manifest_name, part_name};
use crate::shard::slots::SlotMap;

/// The opcode in front of a database's number.
const SELECT_DB: u8 = 254;

/// What a record is.
enum Record {
    Version(Version),
    Field,
    Library,
    Key(DbIndex, Vec<u8>),
}

/// Holds the files of a snapshot against its manifest.
pub(super) fn check_parts(set: &SnapshotSet, folder: &Path) -> Result<(), ToolError> {
    for part in &set.parts {
        let path = part.name.in_folder(folder);
        let file = File::open(&path).at(&path)?;
        if size_and_sum(&file).at(&path)? != (part.size, part.crc64) {
            return refused(&path, "of another snapshot than its manifest");
        }
    }
    Ok(())
}

/// Writes the keys of all files into one, but for databases of a file that are not wanted.
pub(super) fn merge(parts: &[PathBuf], to: &Path, is_wanted: impl Fn(usize, u16) -> bool) -> Result<(), ToolError> {
    let mut out = Output::new(to)?;
    let mut libraries = BTreeSet::new();
    for (at, part) in parts.iter().enumerate() {
        walk(part, |record, bytes| match record {
            Record::Version(version) => out.raise_version(version, part),
            Record::Field if at == 0 => out.write(bytes),
            Record::Field => Ok(()),
            // The shards may all have them.
            Record::Library if libraries.insert(bytes.to_vec()) => out.write(bytes),
            Record::Library => Ok(()),
            Record::Key(db, _) if is_wanted(at, db.0) => out.key(db, bytes),
            Record::Key(..) => Ok(()),
        })?;
    }
    out.finish()?;
    Ok(())
}

/// Writes the keys of one file into a file for each shard, and their manifest, into a new folder.
pub(super) fn split(from: &Path, to: &Path, shards: u16, now: Millis) -> Result<(), ToolError> {
    let end = rdb_end::find(from)?;
    if end < Source::open(from).at(from)?.len() {
        return refused(from, "commands follow the RDB: this is an append-only file; start a server with it");
    }
    let name = from.file_name().map_or_else(|| "dump.rdb".to_owned(), |name| name.to_string_lossy().into_owned());
    new_folder(to)?;
    let names: Vec<_> =
        (0..usize::from(shards)).map(|shard| file_name(part_name(&name, 1, shard))).collect::<Result<_, _>>()?;
    let mut outs: Vec<Output> = names.iter().map(|name| Output::new(&name.in_folder(to))).collect::<Result<_, _>>()?;
    let map = SlotMap::new(shards);
    walk(from, |record, bytes| match record {
        Record::Version(version) => outs.iter_mut().try_for_each(|out| out.raise_version(version, from)),
        Record::Field => outs.iter_mut().try_for_each(|out| out.write(bytes)),
        Record::Library => outs[0].write(bytes),
        Record::Key(db, key) => outs[map.shard_of(&key).index()].key(db, bytes),
    })?;
    let mut parts = Vec::new();
    for (out, name) in outs.into_iter().zip(names) {
        let (size, crc64) = out.finish()?;
        parts.push(Part { name, size, crc64 });
    }
    let set = SnapshotSet { generation: 1, epoch: 0, unix_ms: u64::try_from(now.0).unwrap_or(0), parts };
    finish_with(&to.join(manifest_name(&name)), &set.print())
}

/// A file that is written.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    version: Version,
    /// Of all but the version.
    sum: Sum,
    db: Option<DbIndex>,
}

impl Output {
    fn new(path: &Path) -> Result<Output, ToolError> {
        let mut file = BufWriter::with_capacity(1 << 18, new_file(path)?);
        // The version comes last: see `finish`.
        file.write_all(&[0; VERSION_BYTES]).at(path)?;
        let version = Version::Redis(VERSION_OF_CHECKSUMS);
        Ok(Output { path: path.to_owned(), file, version, sum: Sum::default(), db: None })
    }

    fn raise_version(&mut self, version: Version, of: &Path) -> Result<(), ToolError> {
        self.version = match (self.version, version) {
            (Version::Redis(one), Version::Redis(other)) => Version::Redis(one.max(other)),
            (Version::Valkey(one), Version::Valkey(other)) => Version::Valkey(one.max(other)),
            // What was there at first, or a part without a version of its own.
            (Version::Redis(VERSION_OF_CHECKSUMS), valkey) if self.sum == Sum::default() => valkey,
            _ => return refused(of, "some files are of Redis and others of Valkey"),
        };
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        self.sum.update(bytes);
        self.file.write_all(bytes).at(&self.path)
    }

    fn key(&mut self, db: DbIndex, bytes: &[u8]) -> Result<(), ToolError> {
        if self.db != Some(db) {
            self.db = Some(db);
            let mut select = vec![SELECT_DB];
            Writer::new(&mut select, false).length(u64::from(db.0));
            self.write(&select)?;
        }
        self.write(bytes)
    }

    /// Ends the file and makes it durable. Its length and its checksum.
    fn finish(mut self) -> Result<(u64, u64), ToolError> {
        let version = self.version.to_string();
        assert_eq!(version.len(), VERSION_BYTES, "all versions have one length");
        let before = Sum::of(version.as_bytes()).then(self.sum);
        let end = file_writer::end(before, true);
        self.file.write_all(&end).at(&self.path)?;
        let file = self.file.into_inner().map_err(|error| ToolError::Io(self.path.clone(), error.into_error()))?;
        file.write_all_at(version.as_bytes(), 0).at(&self.path)?;
        file.sync_all().at(&self.path)?;
        size_and_sum(&file_to_read(&self.path)?).at(&self.path)
    }
}

fn file_to_read(path: &Path) -> Result<File, ToolError> {
    File::open(path).at(path)
}

/// Gives away each record that is kept, with its bytes.
fn walk(path: &Path, mut each: impl FnMut(Record, &[u8]) -> Result<(), ToolError>) -> Result<(), ToolError> {
    let mut source = Source::open(path).at(path)?;
    let mut reader = rdb_end::reader();
    // What was fed from this offset on.
    let (mut window, mut window_at, mut last) = (Vec::new(), 0, 0);
    loop {
        let step = reader.next().or_else(|damage| refused(path, format!("damaged {damage}")))?;
        let record = match step {
            Step::NeedMore if source.piece().is_empty() => {
                reader.end_of_input();
                continue;
            }
            Step::NeedMore => {
                window.drain(..(last - window_at) as usize);
                window_at = last;
                window.extend_from_slice(source.piece());
                reader.feed(source.piece());
                source.advance().at(path)?;
                continue;
            }
            Step::Header(version) => Some(Record::Version(version)),
            Step::Aux(..) => Some(Record::Field),
            Step::Function(_) => Some(Record::Library),
            Step::Entry(entry) => Some(Record::Key(entry.db, entry.key.into_owned())),
            Step::ModuleKey(db, key, _) => Some(Record::Key(db, key.into_owned())),
            Step::SelectDb(_) | Step::ResizeDb { .. } | Step::EmptyKey(..) | Step::Skipped(_) => None,
            Step::End(_) => return Ok(()),
        };
        let end = reader.offset();
        if let Some(record) = record {
            each(record, &window[(last - window_at) as usize..(end - window_at) as usize])?;
        }
        last = end;
    }
}
