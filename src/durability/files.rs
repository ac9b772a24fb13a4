//! What the files are called, and which of them count.
//!
//! ```text
//!   appendonlydir/appendonly.aof.manifest              names the files below, in the order in which they are loaded
//!   appendonlydir/appendonly.aof.7.shard-0.base.rdb    shard 0 as it was at the cut of generation 7
//!   appendonlydir/appendonly.aof.7.shard-0.incr.aof    what has happened to it since
//!   dump.rdb.manifest                                  names the parts of the last snapshot
//!   dump.1700000000123.shard-0.rdb                     one of them; the number is the time of the cut, in milliseconds
//!   dump.rdb                                           a snapshot in one file: SAVE MERGED, or another server's
//! ```
//!
//! A *generation* is a set of logs, one for each shard, with or without snapshots that they go on from. Each start of the server and
//! each rewrite begins one; all generations of a manifest have the same number of shards. Of the two kinds of snapshots there is
//! one at a time: each removes what is left of the other when it is complete.
//!
//! Absent on purpose: reading and writing (the conductor asks drivers), what is in the files (`persist`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::{Epoch, ShardId};
use crate::config::Config;
use crate::persist::aof::epochs::{Cut, Ending, FileSum, common_cut};
use crate::persist::aof::manifest::{self as aof, LogFile, Manifest, Set, Stream};
use crate::persist::manifest_lines::FileName;
use crate::persist::snapshot_set::{self, Part, SnapshotSet};
use crate::shard::storage::{FileKind, LoadFile, LoadPart, Remainder, Written};

/// The files of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AofFiles {
    /// What the manifest says.
    pub manifest: Manifest,
    /// The highest number that was given out.
    last: u64,
}

/// The folder of the log.
pub fn log_folder(config: &Config) -> PathBuf {
    PathBuf::from(config.appenddirname.to_string())
}

/// The file that names the files of the log.
pub fn manifest_path(config: &Config) -> PathBuf {
    log_folder(config).join(aof::manifest_name(&config.appendfilename.to_string()))
}

/// A shard's snapshot in a generation.
pub fn base_path(config: &Config, generation: u64, shard: ShardId) -> PathBuf {
    log_folder(config).join(aof::base_name(&config.appendfilename.to_string(), generation, shard.index(), true))
}

/// A shard's log in a generation.
pub fn log_path(config: &Config, generation: u64, shard: ShardId) -> PathBuf {
    log_folder(config).join(aof::incremental_name(&config.appendfilename.to_string(), generation, shard.index()))
}

fn named(path: &Path, generation: u64) -> LogFile {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    LogFile { name: FileName::new(name).expect("appendfilename was checked"), seq: generation }
}

impl Default for AofFiles {
    fn default() -> AofFiles {
        AofFiles { manifest: Manifest { set: None, streams: Vec::new() }, last: 0 }
    }
}

impl AofFiles {
    /// As a manifest names them.
    pub fn new(manifest: Manifest) -> AofFiles {
        let files = |stream: &Stream| {
            let all = stream.base.iter().chain(&stream.incremental).chain(&stream.history);
            all.map(|file| file.seq).max().unwrap_or(0)
        };
        let last = manifest.streams.iter().map(files).max().unwrap_or(0);
        let named = manifest.set.map_or(0, |set| set.generation);
        AofFiles { manifest, last: last.max(named) }
    }

    /// The number of a generation that is to come.
    pub fn next_generation(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Logs of a new generation follow those that are there.
    pub fn add_logs(&mut self, config: &Config, generation: u64, shards: u16) {
        self.manifest.set.get_or_insert(Set { generation, epoch: 0 });
        self.manifest.streams.resize_with(usize::from(shards), Stream::default);
        for (shard, stream) in self.manifest.streams.iter_mut().enumerate() {
            stream.incremental.push(named(&log_path(config, generation, ShardId(shard as u16)), generation));
        }
    }

    /// A generation whose snapshots hold everything up to an epoch takes the place of all others. Gives the files that count no more.
    pub fn replace_all(&mut self, config: &Config, generation: u64, epoch: Epoch, shards: u16) -> Vec<PathBuf> {
        let old = std::mem::take(&mut self.manifest.streams);
        let stream = |shard: u16| Stream {
            base: Some(named(&base_path(config, generation, ShardId(shard)), generation)),
            incremental: vec![named(&log_path(config, generation, ShardId(shard)), generation)],
            history: Vec::new(),
        };
        self.manifest = Manifest { set: Some(Set { generation, epoch }), streams: (0..shards).map(stream).collect() };
        self.last = self.last.max(generation);
        let still = |file: &LogFile| {
            self.manifest
                .streams
                .iter()
                .any(|stream| stream.base.iter().chain(&stream.incremental).any(|f| f.name == file.name))
        };
        let all =
            old.into_iter().flat_map(|stream| stream.base.into_iter().chain(stream.incremental).chain(stream.history));
        all.filter(|file| !still(file)).map(|file| file.name.in_folder(&log_folder(config))).collect()
    }

    /// Whether a file in the folder has a name like ours and is none of ours: what a rewrite that failed has left.
    pub fn is_stray(&self, config: &Config, name: &OsStr) -> bool {
        let text = name.as_encoded_bytes();
        let prefix = format!("{}.", config.appendfilename);
        let is_like = text.starts_with(prefix.as_bytes())
            && memchr::memmem::find(text, b".shard-").is_some()
            && (text.ends_with(b".incr.aof") || text.ends_with(b".base.rdb"));
        let ours = |stream: &Stream| {
            let mut all = stream.base.iter().chain(&stream.incremental).chain(&stream.history);
            all.any(|file| file.name.as_bytes() == text)
        };
        is_like && !self.manifest.streams.iter().any(ours)
    }

    /// The paths of each shard's logs, in their order.
    pub fn logs(&self, config: &Config) -> Vec<Vec<PathBuf>> {
        let folder = log_folder(config);
        let of = |stream: &Stream| stream.incremental.iter().map(|file| file.name.in_folder(&folder)).collect();
        self.manifest.streams.iter().map(of).collect()
    }

    /// Decides how much of the logs counts, from what was found in them. The error says what is wrong with which file.
    pub fn cut(&self, config: &Config, found: &[Vec<FileSum>]) -> Result<Cut, String> {
        let base = self.manifest.set.map_or(0, |set| set.epoch);
        let cut = common_cut(base, found, None).map_err(|error| error.to_string())?;
        let paths = self.logs(config);
        let synced = found.iter().flatten().map(|sum| sum.synced).max().unwrap_or(0);
        for (log, (files, place)) in found.iter().zip(&cut.places).enumerate() {
            for (at, sum) in files.iter().enumerate().filter(|(_, sum)| sum.ending != Ending::Whole) {
                let path = paths[log][at].display();
                if cut.epoch < synced {
                    let what = match &sum.ending {
                        Ending::Damaged(damage, _) => damage.to_string(),
                        _ => format!("at byte {}: it ends in the middle of a record", sum.valid_up_to),
                    };
                    return Err(format!(
                        "{path}: {what}. Epoch {synced} was on the disks of all shards, and what is left of the logs reaches \
                         epoch {} only. Nothing was loaded or changed: see `annulus check`, and `annulus restore` for what can \
                         be kept",
                        cut.epoch
                    ));
                }
                if !config.aof_load_truncated && at >= place.file {
                    return Err(format!(
                        "{path}: it does not end with a whole record, from byte {} on. Set aof-load-truncated to yes to go on \
                         without that, or see `annulus check`",
                        sum.valid_up_to
                    ));
                }
            }
        }
        if cut.epoch < synced {
            return Err(format!(
                "epoch {synced} was on the disks of all shards, and what is left of the logs in {} reaches epoch {} only: a file was \
                 cut or exchanged. Nothing was loaded or changed: see `annulus check`",
                log_folder(config).display(),
                cut.epoch
            ));
        }
        Ok(cut)
    }

    /// What is to be loaded of it.
    pub fn parts(&self, config: &Config, cut: &Cut) -> Vec<LoadPart> {
        let folder = log_folder(config);
        let shards = self.manifest.streams.len() as u16;
        let part = |(shard, stream): (usize, &Stream)| {
            let file = |path, kind, until| LoadFile { path, kind, until, may_be_cut: false };
            let base = stream.base.iter().map(|base| file(base.name.in_folder(&folder), FileKind::Aof, None));
            let place = cut.places[shard];
            let logs = stream.incremental.iter().enumerate().take(place.file + 1).map(|(at, log)| {
                let until = (at == place.file).then_some(place.end);
                file(log.name.in_folder(&folder), FileKind::Aof, until)
            });
            LoadPart { shard: ShardId(shard as u16), shards, files: base.chain(logs).collect() }
        };
        self.manifest.streams.iter().enumerate().map(part).collect()
    }

    /// What lies behind the cut is to go: gives the files that remain, and those that are to be removed and are named no more.
    pub fn trim(&mut self, config: &Config, cut: &Cut, found: &[Vec<FileSum>]) -> (Vec<Remainder>, Vec<PathBuf>) {
        let folder = log_folder(config);
        let synced = found.iter().flatten().map(|sum| sum.synced).max().unwrap_or(0);
        let (mut remain, mut gone) = (Vec::new(), Vec::new());
        for ((stream, place), sums) in self.manifest.streams.iter_mut().zip(&cut.places).zip(found) {
            let behind = stream.incremental.split_off((place.file + 1).min(stream.incremental.len()));
            gone.extend(behind.iter().map(|file| file.name.in_folder(&folder)));
            for (at, (file, sum)) in stream.incremental.iter().zip(sums).enumerate() {
                let len = if at == place.file { place.end } else { sum.len };
                let safe = sum.epochs.iter().rfind(|closed| closed.epoch.number <= synced);
                let from = safe.map_or(0, |closed| closed.end).min(len);
                // Also if it seems to be so long: whoever was killed before may have cut it and not synced that.
                remain.push(Remainder { path: file.name.in_folder(&folder), from, len });
            }
        }
        (remain, gone)
    }
}

/// The files of another server's log, which is one.
pub fn redis_part(config: &Config, manifest: &Manifest) -> LoadPart {
    let folder = log_folder(config);
    let stream = &manifest.streams[0];
    let all: Vec<&LogFile> = stream.base.iter().chain(&stream.incremental).collect();
    let last = all.len().saturating_sub(1);
    let file = |(at, file): (usize, &&LogFile)| LoadFile {
        path: file.name.in_folder(&folder),
        kind: FileKind::Aof,
        until: None,
        may_be_cut: at == last && config.aof_load_truncated,
    };
    LoadPart { shard: ShardId(0), shards: 1, files: all.iter().enumerate().map(file).collect() }
}

/// The files of one snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetFiles {
    /// `dbfilename`.
    name: String,
    /// When the cut was, milliseconds since the Unix epoch.
    at_ms: u64,
}

impl SetFiles {
    /// Of a snapshot that is cut at this time, milliseconds since the Unix epoch.
    pub fn new(config: &Config, at_ms: i64) -> SetFiles {
        SetFiles { name: config.dbfilename.to_string(), at_ms: u64::try_from(at_ms).unwrap_or(0) }
    }

    fn stem(&self) -> &str {
        self.name.strip_suffix(".rdb").unwrap_or(&self.name)
    }

    /// Where they are.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(".")
    }

    /// One shard's part.
    pub fn part(&self, shard: ShardId) -> PathBuf {
        PathBuf::from(snapshot_set::part_name(&self.name, self.at_ms, shard.index()))
    }

    /// The snapshot as one file.
    pub fn merged(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }

    /// The same, while it is being written.
    pub fn merged_temporary(&self) -> PathBuf {
        PathBuf::from(format!("{}.{}.tmp", self.stem(), self.at_ms))
    }

    /// The file that names the parts.
    pub fn manifest_path(&self) -> PathBuf {
        PathBuf::from(snapshot_set::manifest_name(&self.name))
    }

    /// The manifest's text, when all parts are written. The log's epoch at the cut is said for whoever compares.
    pub fn manifest(&self, written: &[Written], epoch: Epoch) -> Vec<u8> {
        let part = |(shard, written): (usize, &Written)| Part {
            name: FileName::new(self.part(ShardId(shard as u16)).as_os_str().as_encoded_bytes())
                .expect("dbfilename was checked"),
            size: written.bytes,
            crc64: written.checksum,
        };
        let parts = written.iter().enumerate().map(part).collect();
        SnapshotSet { generation: self.at_ms, epoch, unix_ms: self.at_ms, parts }.print()
    }

    /// What the manifest names, to be loaded.
    pub fn parts(text: &[u8]) -> Result<Vec<LoadPart>, String> {
        let set = SnapshotSet::parse(text).map_err(|error| error.to_string())?;
        let shards = set.parts.len() as u16;
        let part = |(shard, part): (usize, &Part)| LoadPart {
            shard: ShardId(shard as u16),
            shards,
            files: vec![LoadFile {
                path: part.name.in_folder(Path::new(".")),
                kind: FileKind::Rdb,
                until: None,
                may_be_cut: false,
            }],
        };
        Ok(set.parts.iter().enumerate().map(part).collect())
    }

    /// The snapshot in one file, to be loaded.
    pub fn merged_part(&self) -> LoadPart {
        let file = LoadFile { path: self.merged(), kind: FileKind::Rdb, until: None, may_be_cut: false };
        LoadPart { shard: ShardId(0), shards: 1, files: vec![file] }
    }

    /// Whether a file belongs to an older snapshot, now that this one is complete.
    pub fn outdated(&self, name: &OsStr, merged: bool) -> Option<PathBuf> {
        let text = name.to_str()?;
        let path = || Some(Path::new(".").join(name));
        if merged && text == snapshot_set::manifest_name(&self.name) {
            return path();
        }
        if !merged && text == self.name {
            return path();
        }
        let (time, rest) = text.strip_prefix(self.stem())?.strip_prefix('.')?.split_once('.')?;
        let is_part = rest == "tmp" || (rest.starts_with("shard-") && rest.ends_with(".rdb"));
        let old = time.parse::<u64>().is_ok_and(|time| time < self.at_ms || (merged && time == self.at_ms));
        if is_part && old { path() } else { None }
    }
}
