//! `annulus convert FROM TO`: the same data in another form, as new files. The old ones are not touched.
//!
//! ```text
//!   FROM                                        TO
//!   dump.rdb.manifest, a file per shard    ──>  one RDB                                        rdb
//!   one RDB, --shards N                    ──>  a folder: a file per shard, dump.rdb.manifest  rdb
//!   appendonly.aof.manifest, or its folder ──>  a folder: one base, one log, Redis's manifest  logs
//! ```
//!
//! What is written loads in a redis-server that knows the types: records are copied as they are, whoever wrote them. Nothing is
//! held in memory but the record at hand. Logs end at the epoch that all of them hold.
//!
//! An offline tool on the thread that started the program. Absent on purpose: one log to a log per shard (start a server with it), and
//! commands to RDB: both need the commands to be run.

mod logs;
mod rdb;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::files::{At, ToolError, manifest_at, refused};
use super::source::Source;
use crate::base::time::Millis;
use crate::persist::aof::manifest::begins_as_rdb;
use crate::persist::manifest_lines::FileName;
use crate::persist::snapshot_set::{self, SnapshotSet};

/// What was asked for.
#[derive(Debug)]
pub struct Convert {
    /// For how many shards, from one RDB.
    pub shards: Option<u16>,
    /// What there is.
    pub from: PathBuf,
    /// The new file or folder.
    pub to: PathBuf,
}

/// Writes the new files. `now` goes into the manifest of a snapshot.
pub fn run(asked: &Convert, now: Millis) -> ExitCode {
    match convert(asked, now) {
        Ok(words) => {
            // A closed pipe is the reader's wish.
            let _ = io::stdout().write_all(words.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn convert(asked: &Convert, now: Millis) -> Result<String, ToolError> {
    let from = manifest_at(&asked.from)?;
    let is_rdb = begins_as_rdb(Source::open(&from).at(&from)?.piece());
    let to = asked.to.display();
    match asked.shards {
        Some(shards) if is_rdb => {
            rdb::split(&from, &asked.to, shards, now)?;
            Ok(format!("{to}: a snapshot for {shards} shards\n"))
        }
        None if is_rdb => refused(&from, "an RDB becomes a file per shard: say for how many with --shards N"),
        Some(_) => refused(&from, "--shards goes with one RDB"),
        None => {
            let text = fs::read(&from).at(&from)?;
            if snapshot_set::is_manifest(&text) {
                let set = SnapshotSet::parse(&text).map_err(|error| ToolError::Manifest(from.clone(), error))?;
                let folder = from.parent().unwrap_or(Path::new(""));
                rdb::check_parts(&set, folder)?;
                let parts: Vec<PathBuf> = set.parts.iter().map(|part| part.name.in_folder(folder)).collect();
                rdb::merge(&parts, &asked.to, |_, _| true)?;
                Ok(format!("{to}: one RDB of {} files\n", parts.len()))
            } else {
                logs::merge(&from, &asked.to)
            }
        }
    }
}

/// A name that is made here.
fn file_name(name: String) -> Result<FileName, ToolError> {
    FileName::new(name.clone()).ok_or_else(|| ToolError::Refused(name.into(), "no name for a file".to_owned()))
}
