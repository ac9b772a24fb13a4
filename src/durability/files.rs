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
//! each rewrite begins one; all generations of a manifest have the same number of shards. A snapshot counts if the manifest names it,
//! and between the two kinds the later.
//!
//! Absent on purpose: reading and writing (the conductor asks drivers), what is in the files (`persist`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::ShardId;
use crate::config::Config;
use crate::shard::storage::{FileKind, Written};

/// One generation of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// How many shards it has.
    pub shards: u16,
    /// Whether snapshots stand at its beginning.
    pub has_base: bool,
}

/// The files of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AofFiles {
    /// In their order.
    pub generations: Vec<Generation>,
    /// The highest number that was given out.
    last: u64,
}

impl AofFiles {
    /// The folder they are in.
    pub fn folder(&self, config: &Config) -> PathBuf {
        folder(config)
    }

    /// The file that names them.
    pub fn manifest_path(config: &Config) -> PathBuf {
        let mut name = config.appendfilename.to_string();
        name.push_str(".manifest");
        folder(config).join(name)
    }

    /// The number of a generation that is to come.
    pub fn next_generation(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A shard's snapshot in a generation.
    pub fn base(&self, config: &Config, generation: u64, shard: ShardId) -> PathBuf {
        folder(config).join(format!("{}.{generation}.shard-{shard}.base.rdb", config.appendfilename))
    }

    /// A shard's log in a generation.
    pub fn log(&self, config: &Config, generation: u64, shard: ShardId) -> PathBuf {
        folder(config).join(format!("{}.{generation}.shard-{shard}.incr.aof", config.appendfilename))
    }

    /// Adds a generation without snapshots.
    pub fn add_logs(&mut self, number: u64, shards: u16) {
        self.last = self.last.max(number);
        self.generations.push(Generation { number, shards, has_base: false });
    }

    /// A generation with snapshots takes the place of all others. Gives the files that count no more.
    pub fn replace_all(&mut self, config: &Config, number: u64, shards: u16) -> Vec<PathBuf> {
        let old: Vec<PathBuf> = self
            .generations
            .iter()
            .filter(|generation| generation.number != number)
            .flat_map(|generation| self.files_of(config, *generation))
            .collect();
        self.generations = vec![Generation { number, shards, has_base: true }];
        self.last = self.last.max(number);
        old
    }

    fn files_of(&self, config: &Config, generation: Generation) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for shard in (0..generation.shards).map(ShardId) {
            if generation.has_base {
                files.push(self.base(config, generation.number, shard));
            }
            files.push(self.log(config, generation.number, shard));
        }
        files
    }
}

fn folder(config: &Config) -> PathBuf {
    PathBuf::from(config.appenddirname.to_string())
}

/// The files of one snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetFiles {
    /// `dbfilename`.
    name: String,
    /// When the cut was, milliseconds since the Unix epoch.
    at_ms: i64,
}

impl SetFiles {
    /// Of a snapshot that is cut at this time, milliseconds since the Unix epoch.
    pub fn new(config: &Config, at_ms: i64) -> SetFiles {
        SetFiles { name: config.dbfilename.to_string(), at_ms }
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
        PathBuf::from(format!("{}.{}.shard-{shard}.rdb", self.stem(), self.at_ms))
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
        PathBuf::from(format!("{}.manifest", self.name))
    }

    /// Whether a file belongs to an older snapshot, now that this one is complete.
    pub fn outdated(&self, name: &OsStr, merged: bool) -> Option<PathBuf> {
        let text = name.to_str()?;
        let path = || Some(Path::new(".").join(name));
        if merged && text == format!("{}.manifest", self.name) {
            return path();
        }
        if !merged && text == self.name {
            return path();
        }
        let (time, rest) = text.strip_prefix(self.stem())?.strip_prefix('.')?.split_once('.')?;
        let is_part = rest == "tmp" || (rest.starts_with("shard-") && rest.ends_with(".rdb"));
        let old = time.parse::<i64>().is_ok_and(|time| time < self.at_ms || (merged && time == self.at_ms));
        if is_part && old { path() } else { None }
    }
}

/// What a manifest in the log's folder names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Existing {
    /// Our generations.
    Ours(AofFiles),
    /// The files of another server, which had one log.
    Redis(Vec<(PathBuf, FileKind)>),
}

impl AofFiles {
    /// The manifest's text.
    pub fn manifest(&self, config: &Config) -> Vec<u8> {
        let mut text = String::from("# annulus\n");
        for generation in &self.generations {
            text.push_str(&format!("# {} {} {}\n", generation.number, generation.shards, generation.has_base));
        }
        let _ = config;
        text.into_bytes()
    }

    /// Reads a manifest.
    pub fn parse(_config: &Config, text: &[u8]) -> Result<Existing, String> {
        let mut files = AofFiles::default();
        for line in String::from_utf8_lossy(text).lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = words[1].parse().map_err(|_| "bad")?;
            files.last = files.last.max(number);
            files.generations.push(Generation {
                number,
                shards: words[2].parse().map_err(|_| "bad")?,
                has_base: words[3] == "true",
            });
        }
        Ok(Existing::Ours(files))
    }
}

impl SetFiles {
    /// The manifest's text.
    pub fn manifest(&self, shards: u16, _written: &[Written], at_ms: i64) -> Vec<u8> {
        format!("{shards} {at_ms}\n").into_bytes()
    }

    /// The parts that a manifest names, by shard.
    pub fn parse(&self, text: &[u8]) -> Result<Vec<PathBuf>, String> {
        let text = String::from_utf8_lossy(text);
        let (shards, at_ms) = text.trim().split_once(' ').ok_or("bad")?;
        let set = SetFiles { name: self.name.clone(), at_ms: at_ms.parse().map_err(|_| "bad")? };
        Ok((0..shards.parse::<u16>().map_err(|_| "bad")?).map(|shard| set.part(ShardId(shard))).collect())
    }
}
