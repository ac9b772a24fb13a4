//! What a shard knows of its files, and what it asks of whoever moves bytes between it and the disk.
//!
//! ```text
//!   plans (SAVE, the conductor)  ── Job ──>  the driver of the core  ── background tasks ──>  files
//!                                <─ told ──                          <─────────────────────
//! ```
//!
//! A shard touches no file. It keeps a list of jobs that plans have left with it; the driver of its core (`durability::driver`) takes
//! them, and tells the plan that asked when one is done. The conductor, a plan on shard 0, decides when epochs of the log are closed,
//! when snapshots begin, and what the manifests say; it tells every shard what INFO shows and what the gate goes by: [`Status`].
//!
//! Belongs to its shard; the conductor's status is the same on all, within a message's time. Absent on purpose: files, times, the
//! effects themselves (`effects`).

use std::any::Any;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::Shard;
use super::waiters::{WaitEvent, WaiterId};
use crate::base::time::Millis;
use crate::base::{Epoch, ShardId};
use crate::keyspace::EntrySink;
use crate::persist::aof::annotation;
use crate::persist::rdb::RdbSink;

/// A plan's question to the disk of a shard. Each is answered by [`Told::JobDone`].
#[derive(Debug)]
pub enum Job {
    /// The bytes of a file; none if there is no such file. Answer: `io::Result<Option<Vec<u8>>>`.
    Read(PathBuf),
    /// The names in a folder; none if there is no such folder. Answer: `io::Result<Vec<OsString>>`.
    List(PathBuf),
    /// Makes a folder. Answer: `io::Result<()>`.
    CreateFolder(PathBuf),
    /// Gives a file this content in one step, which is on the disk when it is answered. Answer: `io::Result<()>`.
    Replace(PathBuf, Vec<u8>),
    /// Makes the names of a folder durable. Answer: `io::Result<()>`.
    SyncFolder(PathBuf),
    /// Renames files one after the other, then makes the names durable. Answer: `io::Result<()>`.
    Rename(Vec<(PathBuf, PathBuf)>),
    /// Cuts what remains of files to their lengths, writes what may not be on the disk again, and has all of it there. Answer:
    /// `io::Result<()>`.
    Settle(Vec<Remainder>),
    /// Removes files; those that are not there are passed over. Answer: `io::Result<()>`.
    Remove(Vec<PathBuf>),
    /// Makes a file that the log goes to from the next cut with [`Cut::switch`] on. Answer: `io::Result<()>`.
    OpenLog(PathBuf),
    /// Writes the snapshot that the last cut has begun to this file, and has it on the disk. Answer: `io::Result<Written>`.
    WriteSnapshot(SnapshotFile),
    /// Puts the parts of a snapshot behind one another into one file, which is on the disk then. Answer: `io::Result<Written>`.
    Merge {
        /// The parts, as [`Job::WriteSnapshot`] wrote them with `whole` false.
        parts: Vec<(PathBuf, Written)>,
        /// The file.
        into: SnapshotFile,
    },
    /// Gives up the snapshot that is being written, if one is. Answer: `()`; the answer to the job that writes it is an error.
    AbandonSnapshot,
    /// Keeps no log any more. Answer: `()`.
    CloseLog,
    /// Loads one part of what is on the disk, and gives its keys to their owners. Answer: `Result<Loaded, String>`.
    Load(LoadPart),
    /// Sums up what a log holds. Answer: `Result<FileSum, String>`.
    Scan(PathBuf),
    /// Calls what would hold up the loop, beside it. Answer: what it gives.
    Call(BlockingCall),
}

/// What [`Job::Call`] calls.
pub struct BlockingCall(pub Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>);

impl std::fmt::Debug for BlockingCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockingCall")
    }
}

/// What remains of a log that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remainder {
    /// The file.
    pub path: PathBuf,
    /// What is before this is known to be on the disk.
    pub from: u64,
    /// How long it is to be.
    pub len: u64,
}

/// Where and how a snapshot is written.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// The file.
    pub path: PathBuf,
    /// Whether it has a beginning and an end of its own; else it is a part to be merged.
    pub whole: bool,
    /// Whether a checksum stands at its end.
    pub checksum: bool,
    /// Whether it is the base of an AOF.
    pub aof_base: bool,
    /// When the cut was, seconds since the Unix epoch.
    pub unix_secs: i64,
}

/// A snapshot that is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Its length.
    pub bytes: u64,
    /// The checksum that it ends with, 0 if checksums are off; of a part without an end, the sum of all of it.
    pub checksum: u64,
    /// The version of the format that it needs.
    pub version: u16,
}

/// One shard's part of what is loaded: the files of one former shard, in their order.
#[derive(Clone, Debug)]
pub struct LoadPart {
    /// Which former shard this was, of how many.
    pub shard: ShardId,
    /// See above.
    pub shards: u16,
    /// The files.
    pub files: Vec<LoadFile>,
}

/// One file of a part.
#[derive(Clone, Debug)]
pub struct LoadFile {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Nothing from here on is loaded, if it is said.
    pub until: Option<u64>,
    /// Whether a last record that is cut off is dropped; else it is an error.
    pub may_be_cut: bool,
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A snapshot.
    Rdb,
    /// A log, which may begin with a snapshot.
    Aof,
}

/// What was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Keys that are there.
    pub keys: u64,
    /// Keys whose time had come meanwhile.
    pub expired: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes at the end that were dropped.
    pub dropped: u64,
}

/// How an epoch is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Its number.
    pub epoch: Epoch,
    /// The wall clock, milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// Whether the log is forced to the disk then.
    pub sync: bool,
    /// What follows goes to the file that was opened last.
    pub switch: bool,
    /// A snapshot begins here.
    pub snapshot: bool,
}

/// What the conductor, or a plan that has asked for a job, is told.
#[derive(Debug)]
pub enum Told {
    /// A job is done; its number and its answer.
    JobDone(u64, Box<dyn Any + Send>),
    /// A shard's open epoch has content.
    Dirty,
    /// Something has changed on a shard since its last snapshot.
    Unsaved,
    /// A client of a shard waits for this epoch.
    Wanted(Epoch),
    /// All of a shard's log up to this epoch is on its disk.
    Synced(ShardId, Epoch),
    /// A shard's log could not be written.
    LogFailed(LogFailure),
    /// It can be again.
    LogWorks(ShardId),
    /// A plan asks the conductor for something; it is told [`Told::Answer`].
    Request(Request, WaiterId),
    /// The conductor's answer to a request.
    Answer(Result<&'static str, String>),
    /// Nobody waits for the answer to this request.
    Wish(Request),
}

/// A shard's log could not be written.
#[derive(Clone, Debug)]
pub struct LogFailure {
    /// Whose.
    pub shard: ShardId,
    /// The operating system's words.
    pub error: String,
    /// Whether what was written is in doubt, so that the file must not be gone on with.
    pub in_doubt: bool,
    /// The last epoch that was to be on the disk with it.
    pub upto: Option<Epoch>,
}

/// What the conductor is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// A snapshot: SAVE and BGSAVE.
    Save {
        /// One file that any server loads.
        merged: bool,
        /// Answer when it is done; else when it has begun.
        wait: bool,
        /// Begin after what runs now, instead of refusing.
        schedule: bool,
    },
    /// BGREWRITEAOF.
    Rewrite,
    /// `appendonly` has become yes or no.
    AppendOnly(bool),
    /// `appendfsync` has changed, or a client has asked for more than it says.
    Settings,
    /// SHUTDOWN, or a signal.
    Shutdown {
        /// Save before, whether or not there are save points; none: if there are some.
        save: Option<bool>,
        /// Go even if saving fails.
        force: bool,
    },
}

/// What INFO and the gate know of the files. The conductor keeps it, and all shards have a copy.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Since when data is being loaded, seconds since the Unix epoch; none if it is there.
    pub loading_since: Option<i64>,
    /// What the last load found.
    pub loaded: Loaded,
    /// Why writes are refused.
    pub write_error: Option<WriteError>,
    /// A snapshot is being written, since this second.
    pub save_since: Option<i64>,
    /// When the last one was complete, seconds since the Unix epoch.
    pub last_save: i64,
    /// Whether the last one succeeded.
    pub last_save_failed: bool,
    /// How long the last one took, seconds; -1 if there was none.
    pub last_save_secs: i64,
    /// Snapshots so far.
    pub saves: u64,
    /// Whether a log is kept.
    pub aof_on: bool,
    /// Whether clients want the log to be on the disk within a second, whatever `appendfsync` says.
    pub everysec_wanted: bool,
    /// A log is being rewritten, since this second.
    pub rewrite_since: Option<i64>,
    /// A rewrite begins when the running snapshot is done.
    pub rewrite_scheduled: bool,
    /// Whether the last one succeeded.
    pub last_rewrite_failed: bool,
    /// How long the last one took, seconds; -1 if there was none.
    pub last_rewrite_secs: i64,
    /// Rewrites so far.
    pub rewrites: u64,
    /// Rewrites that failed since the last that did not.
    pub rewrite_failures: u64,
    /// Length of all files of the log after the last rewrite or load.
    pub aof_base_bytes: u64,
}

/// Why writes are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// The log cannot be written, in the operating system's words.
    Log(String),
    /// The last snapshot failed, and `stop-writes-on-bgsave-error` is yes.
    Snapshot,
}

/// See the module.
#[derive(Default)]
pub struct Storage {
    /// Jobs that the driver has not taken yet: who asked, the number to answer with, and what.
    pub jobs: VecDeque<(WaiterId, u64, Job)>,
    /// Epochs that were closed and not handed to the writer yet, and whether each is to be forced to the disk.
    pub closed: VecDeque<(Epoch, bool)>,
    /// On shard 0: the conductor's plan.
    pub conductor: Option<u32>,
    /// As the conductor has it.
    pub status: Status,
    /// Bytes in the files of this shard's log.
    pub log_bytes: u64,
    /// Bytes in this shard's base file.
    pub base_bytes: u64,
    /// Bytes of the log that are being written now.
    pub writing_bytes: usize,
    /// What `changes` was at the last snapshot that succeeded.
    pub saved_changes: u64,
    /// What it was at the cut of the one that is being written.
    pub cut_changes: u64,
    /// Whether the conductor knows that something has changed since the last snapshot.
    pub told_unsaved: bool,
    /// Whether the log could not be written the last time.
    pub log_failed: bool,
    /// What makes bytes of the snapshot that is being written.
    pub sink: Option<Arc<RdbSink>>,
    /// Keys that other shards have loaded and given to this one.
    pub arrived: u64,
    /// Bytes that this shard has loaded so far, and that it is to load.
    pub loading: (u64, u64),
    /// Shown the shard as it is at each cut.
    #[cfg(test)]
    pub on_cut: Option<fn(&Shard, Epoch)>,
}

impl Shard {
    /// Tells a plan of any shard something, which comes to it as an event.
    pub fn tell_plan(&mut self, plan: WaiterId, told: Told) {
        if plan.home == self.id {
            self.wait_events.push((plan.plan, WaitEvent::Told(Box::new(told))));
        } else {
            let event = Box::new(told);
            self.told.push((
                plan.home,
                Box::new(move |home: &mut Shard| home.wait_events.push((plan.plan, WaitEvent::Told(event)))),
            ));
        }
    }

    /// Tells the conductor something. Nothing if there is none: it has yet to begin, or is over.
    pub fn tell_conductor(&mut self, told: Told) {
        self.tell(ShardId(0), move |shard| {
            if let Some(plan) = shard.storage.conductor {
                shard.wait_events.push((plan, WaitEvent::Told(Box::new(told))));
            }
        });
    }

    /// Closes an epoch. One step of a transaction that claims everything on all shards.
    pub fn cut(&mut self, cut: Cut) {
        let mut line = Vec::new();
        let unix_ms = u64::try_from(cut.unix_ms).unwrap_or(0);
        annotation::push_epoch(&mut line, annotation::Epoch { number: cut.epoch, unix_ms });
        if self.config.aof_timestamp_enabled {
            annotation::push_time(&mut line, unix_ms / 1000);
        }
        if self.effects.is_news_synced() {
            annotation::push_synced(&mut line, self.effects.synced_epoch());
        }
        self.effects.close_epoch(cut.epoch, &line);
        if cut.switch {
            self.effects.begin_file();
        }
        self.storage.closed.push_back((cut.epoch, cut.sync));
        if cut.snapshot {
            self.storage.cut_changes = self.metrics.changes;
            let sink = Arc::new(RdbSink::new(&self.config, Millis(cut.unix_ms)));
            let entries: Arc<dyn EntrySink> = sink.clone();
            self.begin_snapshot(Millis(cut.unix_ms), &entries);
            self.storage.sink = Some(sink);
        }
        #[cfg(test)]
        if let Some(look) = self.storage.on_cut {
            look(self, cut.epoch);
        }
    }

    /// Changes since the last snapshot.
    pub fn unsaved_changes(&self) -> u64 {
        self.metrics.changes - self.storage.saved_changes
    }
}
