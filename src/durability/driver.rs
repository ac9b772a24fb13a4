//! One core's way to the disk: takes the log's bytes from the shard and writes them, walks on with a snapshot and writes what comes
//! out, and does the jobs that plans have left.
//!
//! Belongs to its core's loop, which gives it a turn after each of its own. What takes time runs as background tasks beside the loop;
//! a task owns what it works on and hands its outcome in for the next turn. At most one task writes to the log at a time, so its
//! writes are in order.
//!
//! ```text
//!   effects ──> [ the log's task: write, write, fdatasync ] ──> Synced(epoch) to the conductor
//!   walk ─────> queue ──> [ the snapshot's task: write …, fdatasync ] ──> JobDone to who asked
//!   jobs ─────> [ a task each ] ──> JobDone
//! ```
//!
//! Invariants: bytes that could not be written are kept and written again at the same place, and nothing is written behind them;
//! after an fsync that failed nothing is written to that file any more. The walk pauses while more than [`SNAPSHOT_QUEUE_BYTES`] wait
//! for the disk. Absent on purpose: decisions (the conductor's), formats (`persist`).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::load::{self, Arrivals, MakeReplayer};
use crate::base::Epoch;
use crate::base::time::Now;
use crate::config::AppendFsync;
use crate::keyspace::{SnapshotBudget, SnapshotProgress};
use crate::metrics::latency::Event;
use crate::persist::rdb::{self, Sum};
use crate::persist::whole_file;
use crate::rt::disk::{Disk, DiskFile, Open};
use crate::rt::{background, process};
use crate::shard::Shard;
use crate::shard::storage::{Job, LogFailure, Remainder, SnapshotFile, Told, Written};
use crate::shard::waiters::WaiterId;

/// Bytes of the log that are written without waiting for the end of the epoch.
const LOG_WRITE_BYTES: usize = 256 * 1024;
/// A buffer that grew past this is not kept for the next write. Bytes.
const LOG_KEPT_BYTES_MAX: usize = 4 << 20;
/// How long after a failure writing is tried again. Microseconds.
const RETRY_US: u64 = 500_000;
/// Bytes of a snapshot that wait for the disk before the walk pauses.
const SNAPSHOT_QUEUE_BYTES: usize = 4 << 20;
/// Bytes of a snapshot's pieces.
const SNAPSHOT_PIECE_BYTES: usize = 256 * 1024;
/// Bytes that are copied at a time.
const COPIED_BYTES: usize = 1 << 20;
/// How long the walk may hold up one turn of the loop. Nanoseconds.
const SNAPSHOT_SLICE_NS: u64 = 100_000;
/// Bytes after which a snapshot that is being written is forced to the disk (`rdb-save-incremental-fsync`).
const SNAPSHOT_SYNC_BYTES: u64 = 4 << 20;

/// Where tasks run, and on which disk: the shard's executor, or a simulation.
pub trait Host {
    /// The disk.
    type Disk: Disk + 'static;

    /// Its files.
    fn disk(&self) -> Rc<Self::Disk>;

    /// Runs a task beside the loop, to its end. The loop is to have a turn soon after it.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// What a task that works for long awaits between two slices.
    fn pause(&self) -> impl Future<Output = ()> + 'static;
}

type FileOf<H> = <<H as Host>::Disk as Disk>::File;

/// What a task hands in.
enum Done<F> {
    Log(LogWritten<F>),
    Job(WaiterId, u64, Box<dyn Any + Send>),
    /// A file that the log is to go to.
    LogOpened(WaiterId, u64, io::Result<F>),
    SnapshotEnded(WaiterId, u64, io::Result<Written>),
    Arrived(WaiterId, u64, Result<Arrivals, String>),
}

/// A log's task is over.
struct LogWritten<F> {
    write: LogWrite<F>,
    error: Option<(io::Error, bool)>,
}

/// What one task writes.
struct LogWrite<F> {
    /// What remains of the last file, which is synced then.
    sealed: Option<(Rc<F>, u64, Vec<u8>)>,
    file: Rc<F>,
    at: u64,
    bytes: Vec<u8>,
    upto: Option<Epoch>,
    sync: bool,
    /// When it began, monotonic microseconds.
    begun_us: u64,
}

struct LogFile<F> {
    file: Rc<F>,
    len: u64,
}

/// The pieces of a snapshot on their way to its task.
#[derive(Default)]
struct Pieces {
    queue: RefCell<VecDeque<Vec<u8>>>,
    waiting_bytes: Cell<usize>,
    /// How it ends: complete, with the version it needs; or given up.
    end: Cell<Option<Result<u16, ()>>>,
    waker: RefCell<Option<Waker>>,
}

impl Pieces {
    fn push(&self, piece: Vec<u8>) {
        self.waiting_bytes.set(self.waiting_bytes.get() + piece.len());
        self.queue.borrow_mut().push_back(piece);
        self.wake();
    }

    fn finish(&self, end: Result<u16, ()>) {
        self.end.set(Some(end));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next piece, or how it ends.
    async fn next(&self) -> Result<Vec<u8>, Result<u16, ()>> {
        poll_fn(|cx| {
            if self.end.get() == Some(Err(())) {
                return Poll::Ready(Err(Err(())));
            }
            if let Some(piece) = self.queue.borrow_mut().pop_front() {
                self.waiting_bytes.set(self.waiting_bytes.get() - piece.len());
                return Poll::Ready(Ok(piece));
            }
            if let Some(end) = self.end.get() {
                return Poll::Ready(Err(end));
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// What is left to do after a turn of the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ahead {
    /// The next turn is to come at once.
    pub more: bool,
    /// Else at this time, monotonic microseconds.
    pub at_us: Option<u64>,
}

/// See the module.
pub struct Driver<H: Host> {
    host: Rc<H>,
    replayers: MakeReplayer,
    done: Rc<RefCell<Vec<Done<FileOf<H>>>>>,
    log: Option<LogFile<FileOf<H>>>,
    next_log: Option<FileOf<H>>,
    log_busy: bool,
    /// What could not be written, and when it is tried again.
    again: Option<(LogWrite<FileOf<H>>, u64)>,
    /// An fsync of the log has failed.
    in_doubt: bool,
    told_dirty: Epoch,
    told_wanted: Epoch,
    spare: Vec<u8>,
    snapshot: Option<Rc<Pieces>>,
    /// A snapshot was given up, and may have left something to be cleaned up.
    sweeping: bool,
    /// Bytes that were loaded and that are to be.
    progress: Rc<Cell<(u64, u64)>>,
    /// Keys that were loaded and are on their way to their owners.
    arrivals: VecDeque<(WaiterId, u64, Arrivals)>,
}

impl<H: Host + 'static> Driver<H> {
    /// A driver that has nothing to do.
    pub fn new(host: H, replayers: MakeReplayer) -> Driver<H> {
        Driver {
            host: Rc::new(host),
            replayers,
            done: Rc::default(),
            log: None,
            next_log: None,
            log_busy: false,
            again: None,
            in_doubt: false,
            told_dirty: 0,
            told_wanted: 0,
            spare: Vec::new(),
            snapshot: None,
            sweeping: false,
            progress: Rc::default(),
            arrivals: VecDeque::new(),
        }
    }

    /// Does what is to be done. To be called in every turn of the loop, with no session out of its table.
    pub fn turn(&mut self, shard: &mut Shard, now: Now) -> Ahead {
        while let Some(done) = { self.done.borrow_mut().pop() } {
            self.take_in(shard, now, done);
        }
        while let Some((asker, number, job)) = shard.storage.jobs.pop_front() {
            self.begin(shard, now, asker, number, job);
        }
        if !shard.storage.told_unsaved && shard.unsaved_changes() > 0 {
            shard.storage.told_unsaved = true;
            shard.tell_conductor(Told::Unsaved);
        }
        if shard.effects.is_active() {
            self.announce(shard);
            self.write_log(shard, now);
        }
        shard.storage.loading = self.progress.get();
        let mut ahead = Ahead { more: self.walk(shard), at_us: None };
        if let Some((asker, number, mut arrivals)) = self.arrivals.pop_front() {
            match arrivals.hand_out(shard) {
                false => self.arrivals.push_front((asker, number, arrivals)),
                true => shard.tell_plan(asker, Told::JobDone(number, Box::new(Ok::<_, String>(arrivals.loaded)))),
            }
            ahead.more = true;
        }
        ahead.at_us = self.again.as_ref().filter(|_| !self.log_busy).map(|(_, at_us)| *at_us);
        ahead
    }

    /// Whether tasks are in flight that the end of the process would cut off.
    pub fn is_busy(&self) -> bool {
        self.log_busy || self.snapshot.is_some()
    }

    // ---- the log

    /// Tells the conductor of the first content of an epoch, and of the first who waits for it.
    fn announce(&mut self, shard: &mut Shard) {
        let open = shard.effects.open_epoch();
        if self.told_dirty < open && shard.effects.has_content() {
            self.told_dirty = open;
            shard.tell_conductor(Told::Dirty);
        }
        if let Some(wanted) = shard.effects.wanted()
            && wanted > self.told_wanted
        {
            self.told_wanted = wanted;
            shard.tell_conductor(Told::Wanted(wanted));
        }
    }

    fn write_log(&mut self, shard: &mut Shard, now: Now) {
        if self.log_busy {
            return;
        }
        if self.in_doubt {
            // Only another file helps; what is missing in this one is in the snapshot that the other goes on from.
            if self.next_log.is_none() || shard.effects.take_sealed().is_none() {
                return;
            }
            (self.in_doubt, self.log, self.again) = (false, None, None);
        }
        if let Some((_, at_us)) = &self.again {
            if now.mono_us >= *at_us {
                let (write, _) = self.again.take().expect("it was just there");
                self.start_writing(LogWrite { begun_us: now.mono_us, ..write });
            }
            return;
        }
        let effects = &mut shard.effects;
        if shard.storage.closed.is_empty() && effects.waiting_bytes() < LOG_WRITE_BYTES {
            return;
        }
        let sealed = effects.take_sealed().and_then(|bytes| self.log.take().map(|log| (log.file, log.len, bytes)));
        if self.log.is_none() {
            let Some(file) = self.next_log.take() else { return };
            self.log = Some(LogFile { file: Rc::new(file), len: 0 });
            shard.storage.log_bytes = 0;
        }
        let log = self.log.as_ref().expect("it was just there");
        let (file, at) = (Rc::clone(&log.file), log.len);
        let bytes = effects.take(std::mem::take(&mut self.spare));
        let sync = shard.storage.closed.iter().any(|(_, sync)| *sync);
        let upto = shard.storage.closed.back().map(|(epoch, _)| *epoch);
        shard.storage.closed.clear();
        shard.storage.writing_bytes = bytes.len();
        self.start_writing(LogWrite { sealed, file, at, bytes, upto, sync, begun_us: now.mono_us });
    }

    /// The log goes to this file from the next cut that switches on.
    fn goes_next(&mut self, shard: &Shard, file: FileOf<H>) -> io::Result<()> {
        if shard.effects.is_active() && self.next_log.is_some() {
            if shard.effects.has_sealed() {
                return Err(io::Error::other("the log before this one is still being written"));
            }
            // Nothing was written to the file that the log goes to now.
            if self.log.is_none() {
                self.log = self.next_log.take().map(|file| LogFile { file: Rc::new(file), len: 0 });
            }
        }
        self.next_log = Some(file);
        Ok(())
    }

    fn start_writing(&mut self, mut write: LogWrite<FileOf<H>>) {
        self.log_busy = true;
        let done = Rc::clone(&self.done);
        self.host.spawn(async move {
            let error = write.run().await.err();
            done.borrow_mut().push(Done::Log(LogWritten { write, error }));
        });
    }

    fn log_written(&mut self, shard: &mut Shard, now: Now, written: LogWritten<FileOf<H>>) {
        self.log_busy = false;
        shard.storage.writing_bytes = 0;
        let LogWritten { write, error } = written;
        // As clients see it: until the loop has heard of it.
        let event = match (write.sync, shard.config.appendfsync) {
            (true, AppendFsync::Always) => Event::AofFsyncAlways,
            (true, _) => Event::AofFsync,
            (false, _) => Event::AofWrite,
        };
        shard.note_latency(event, now.mono_us.saturating_sub(write.begun_us));
        if self.log.is_none() {
            // It was closed meanwhile, and nobody counts on it.
            return;
        }
        match error {
            None => {
                if let Some(log) = &mut self.log {
                    log.len = write.at + write.bytes.len() as u64;
                    shard.storage.log_bytes = log.len;
                }
                if shard.storage.log_failed {
                    shard.storage.log_failed = false;
                    shard.tell_conductor(Told::LogWorks(shard.id));
                }
                if let Some(epoch) = write.upto.filter(|_| write.sync) {
                    shard.tell_conductor(Told::Synced(shard.id, epoch));
                }
                self.spare = write.bytes;
                self.spare.clear();
                if self.spare.capacity() > LOG_KEPT_BYTES_MAX {
                    self.spare = Vec::new();
                }
            }
            Some((error, in_doubt)) => {
                tracing::error!("shard {}: the append-only file cannot be written: {error}", shard.id);
                self.in_doubt = in_doubt;
                let write_upto = write.upto;
                if !in_doubt {
                    self.again = Some((write, now.mono_us + RETRY_US));
                }
                if in_doubt || !shard.storage.log_failed {
                    shard.storage.log_failed = true;
                    let failure =
                        LogFailure { shard: shard.id, error: process::reason(&error), in_doubt, upto: write_upto };
                    shard.tell_conductor(Told::LogFailed(failure));
                }
            }
        }
    }

    // ---- snapshots

    /// Walks on with a snapshot, if one runs and the disk keeps up. True if there is more to do at once.
    fn walk(&mut self, shard: &mut Shard) -> bool {
        let Some(pieces) = &self.snapshot else {
            self.sweeping = self.sweeping && shard.snapshot_step(SLICE) == SnapshotProgress::More;
            return self.sweeping;
        };
        if pieces.end.get().is_some() {
            return false;
        }
        let full = pieces.waiting_bytes.get() >= SNAPSHOT_QUEUE_BYTES;
        let begun_ns = if shard.config.latency_monitor_threshold > 0 { (shard.clock_ns)() } else { 0 };
        let progress = if full { SnapshotProgress::More } else { shard.snapshot_step(SLICE) };
        if begun_ns > 0 {
            let took_us = (shard.clock_ns)().saturating_sub(begun_ns) / 1000;
            shard.note_latency(Event::SnapshotSlice, took_us);
        }
        let over = progress == SnapshotProgress::Done;
        if over || shard.snapshot_waiting_bytes() >= SNAPSHOT_PIECE_BYTES {
            for piece in shard.take_snapshot_output() {
                pieces.push(piece);
            }
        }
        if over {
            pieces.finish(Ok(shard.storage.sink.take().map_or(rdb::VERSION_MIN, |sink| sink.version_min())));
        }
        !over && !full
    }

    fn begin_snapshot(&mut self, shard: &mut Shard, asker: WaiterId, number: u64, file: SnapshotFile) {
        let pieces = Rc::new(Pieces::default());
        self.snapshot = Some(Rc::clone(&pieces));
        let (disk, done) = (self.host.disk(), Rc::clone(&self.done));
        let config = &shard.config;
        let incremental =
            if file.aof_base { config.aof_rewrite_incremental_fsync } else { config.rdb_save_incremental_fsync };
        self.host.spawn(async move {
            let result = write_snapshot(&*disk, &pieces, &file, incremental).await;
            done.borrow_mut().push(Done::SnapshotEnded(asker, number, result));
        });
    }

    // ---- jobs

    fn begin(&mut self, shard: &mut Shard, now: Now, asker: WaiterId, number: u64, job: Job) {
        let (disk, done) = (self.host.disk(), Rc::clone(&self.done));
        match job {
            Job::OpenLog(path) => self.host.spawn(async move {
                let opened = disk.open(&path, Open::Replace).await;
                done.borrow_mut().push(Done::LogOpened(asker, number, opened));
            }),
            Job::WriteSnapshot(file) => self.begin_snapshot(shard, asker, number, file),
            Job::AbandonSnapshot => {
                if let Some(pieces) = &self.snapshot {
                    pieces.finish(Err(()));
                }
                shard.abort_snapshot();
                self.sweeping = true;
                shard.tell_plan(asker, Told::JobDone(number, Box::new(())));
            }
            Job::CloseLog => {
                shard.effects.set_active(false, shard.effects.open_epoch());
                shard.storage.closed.clear();
                (self.log, self.next_log, self.again, self.in_doubt) = (None, None, None, false);
                shard.storage.log_failed = false;
                shard.tell_plan(asker, Told::JobDone(number, Box::new(())));
            }
            Job::Load(part) => {
                let (host, replayers) = (Rc::clone(&self.host), Rc::clone(&self.replayers));
                let progress = Rc::clone(&self.progress);
                let (config, now) = (shard.config.clone(), now.millis());
                self.host.spawn(async move {
                    let arrived = load::part(&*host, &replayers, &config, now, &progress, part).await;
                    done.borrow_mut().push(Done::Arrived(asker, number, arrived));
                });
            }
            Job::Scan(path) => {
                let host = Rc::clone(&self.host);
                self.host.spawn(async move {
                    let found = load::scan(&*host, &path).await;
                    done.borrow_mut().push(Done::Job(asker, number, Box::new(found)));
                });
            }
            Job::Call(call) => self.host.spawn(async move {
                let answer = background::blocking(call.0).await;
                done.borrow_mut().push(Done::Job(asker, number, answer));
            }),
            job => self.host.spawn(async move {
                let answer = simple(&*disk, job).await;
                done.borrow_mut().push(Done::Job(asker, number, answer));
            }),
        }
    }

    fn take_in(&mut self, shard: &mut Shard, now: Now, done: Done<FileOf<H>>) {
        match done {
            Done::Log(written) => self.log_written(shard, now, written),
            Done::Job(asker, number, answer) => shard.tell_plan(asker, Told::JobDone(number, answer)),
            Done::LogOpened(asker, number, opened) => {
                let answer = opened.and_then(|file| self.goes_next(shard, file));
                shard.tell_plan(asker, Told::JobDone(number, Box::new(answer)));
            }
            Done::SnapshotEnded(asker, number, result) => {
                self.snapshot = None;
                if result.is_err() {
                    shard.abort_snapshot();
                    self.sweeping = true;
                }
                shard.tell_plan(asker, Told::JobDone(number, Box::new(result)));
            }
            Done::Arrived(asker, number, Ok(arrivals)) => self.arrivals.push_back((asker, number, arrivals)),
            Done::Arrived(asker, number, Err(error)) => {
                let answer: Result<crate::shard::storage::Loaded, String> = Err(error);
                shard.tell_plan(asker, Told::JobDone(number, Box::new(answer)));
            }
        }
    }
}

/// What the walk may do in one turn.
const SLICE: SnapshotBudget = SnapshotBudget { entries: usize::MAX, bytes: usize::MAX, nanos: SNAPSHOT_SLICE_NS };

impl<F: DiskFile> LogWrite<F> {
    /// Writes what is not written yet. The error says whether what was written is in doubt.
    async fn run(&mut self) -> Result<(), (io::Error, bool)> {
        if let Some((file, at, bytes)) = &mut self.sealed {
            let (given_back, result) = file.write_at(std::mem::take(bytes), *at).await;
            *bytes = given_back;
            result.map_err(|error| (error, false))?;
            file.sync_data().await.map_err(|error| (error, true))?;
            self.sealed = None;
        }
        let (given_back, result) = self.file.write_at(std::mem::take(&mut self.bytes), self.at).await;
        self.bytes = given_back;
        result.map_err(|error| (error, false))?;
        if self.sync {
            self.file.sync_data().await.map_err(|error| (error, true))?;
        }
        Ok(())
    }
}

/// Writes a snapshot as its pieces come.
async fn write_snapshot<D: Disk>(
    disk: &D,
    pieces: &Pieces,
    file: &SnapshotFile,
    incremental: bool,
) -> io::Result<Written> {
    let result = write_pieces(disk, pieces, file, incremental).await;
    if result.is_err() {
        // Nobody will miss what is not complete; if it cannot be removed it is removed before the next.
        let _ = disk.remove(&file.path).await;
    }
    result
}

async fn write_pieces<D: Disk>(
    disk: &D,
    pieces: &Pieces,
    file: &SnapshotFile,
    incremental: bool,
) -> io::Result<Written> {
    let out = disk.open(&file.path, Open::Replace).await?;
    let mut at = 0;
    let mut opening = rdb::BodyWriter::new(false);
    if file.whole {
        opening.origin(&rdb::Origin {
            redis_version: rdb::REDIS_VERSION,
            now: crate::base::time::Millis(file.unix_secs.saturating_mul(1000)),
            used_memory: 0,
            aof_base: file.aof_base,
        });
        let mut bytes = rdb::version(rdb::VERSION_MIN).to_vec();
        opening.take_into(&mut bytes);
        at = write(&out, bytes, at).await?;
    }
    let mut body = Sum::default();
    let mut synced = 0;
    let version = loop {
        match pieces.next().await {
            Ok(piece) => {
                body.update(&piece);
                at = write(&out, piece, at).await?;
                if incremental && at - synced >= SNAPSHOT_SYNC_BYTES {
                    out.sync_data().await?;
                    synced = at;
                }
            }
            Err(Ok(version)) => break version,
            Err(Err(())) => return Err(io::Error::other("it was given up")),
        }
    };
    let mut checksum = body.crc64();
    if file.whole {
        let version = rdb::version(version);
        let end = rdb::end(Sum::of(&version).then(opening.sum()).then(body), file.checksum);
        write(&out, version.to_vec(), 0).await?;
        at = write(&out, end.to_vec(), at).await?;
        checksum = stored(&end);
    }
    out.sync_data().await?;
    out.close().await;
    Ok(Written { bytes: at, checksum, version })
}

async fn write<F: DiskFile>(file: &F, bytes: Vec<u8>, at: u64) -> io::Result<u64> {
    let end = at + bytes.len() as u64;
    file.write_at(bytes, at).await.1?;
    Ok(end)
}

/// Jobs that are a few calls to the disk.
async fn simple<D: Disk>(disk: &D, job: Job) -> Box<dyn Any + Send> {
    match job {
        Job::Read(path) => Box::new(read(disk, &path).await),
        Job::List(folder) => Box::new(match disk.list(&folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }),
        Job::CreateFolder(folder) => Box::new(create_folder(disk, &folder).await),
        Job::Replace(path, bytes) => Box::new(whole_file::replace(disk, &path, bytes).await),
        Job::SyncFolder(folder) => Box::new(disk.sync_dir(&folder).await),
        Job::Settle(files) => Box::new(settle(disk, files).await),
        Job::Rename(pairs) => Box::new(rename(disk, pairs).await),
        Job::Remove(paths) => Box::new(remove(disk, paths).await),
        Job::Merge { parts, into } => Box::new(merge(disk, parts, into).await),
        Job::OpenLog(_)
        | Job::WriteSnapshot(_)
        | Job::AbandonSnapshot
        | Job::CloseLog
        | Job::Load(_)
        | Job::Scan(_)
        | Job::Call(_) => unreachable!("the driver does these itself"),
    }
}

async fn read<D: Disk>(disk: &D, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Open::Read).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.len().await?;
    let bytes = file.read_at(0, usize::try_from(len).unwrap_or(usize::MAX)).await?;
    file.close().await;
    Ok(Some(bytes))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder whose name is durable: what is made durable inside of one that is not goes with it.
async fn create_folder<D: Disk>(disk: &D, folder: &Path) -> io::Result<()> {
    disk.create_dir_all(folder).await?;
    disk.sync_dir(folder_of(folder)).await
}

async fn rename<D: Disk>(disk: &D, pairs: Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    for (from, to) in &pairs {
        disk.rename(from, to).await?;
    }
    for (_, to) in &pairs {
        disk.sync_dir(folder_of(to)).await?;
    }
    Ok(())
}

/// What was read from a file need not be on the disk: whoever wrote it was killed before it was synced, or after an fsync had failed, which
/// no later one makes good. So it is written again before anything counts on it.
async fn settle<D: Disk>(disk: &D, files: Vec<Remainder>) -> io::Result<()> {
    for Remainder { path, from, len } in files {
        let file = disk.open(&path, Open::Write).await?;
        file.set_len(len).await?;
        let mut at = from;
        while at < len {
            let most = usize::try_from(len - at).unwrap_or(COPIED_BYTES).min(COPIED_BYTES);
            let bytes = file.read_at(at, most).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at = write(&file, bytes, at).await?;
        }
        file.sync_data().await?;
        file.close().await;
    }
    Ok(())
}

async fn remove<D: Disk>(disk: &D, paths: Vec<PathBuf>) -> io::Result<()> {
    for path in paths {
        match disk.remove(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Puts parts of a snapshot into one file.
async fn merge<D: Disk>(disk: &D, parts: Vec<(PathBuf, Written)>, into: SnapshotFile) -> io::Result<Written> {
    let out = disk.open(&into.path, Open::Replace).await?;
    let version = parts.iter().map(|(_, written)| written.version).max().unwrap_or(rdb::VERSION_MIN);
    let mut opening = rdb::BodyWriter::new(false);
    opening.origin(&rdb::Origin {
        redis_version: rdb::REDIS_VERSION,
        now: crate::base::time::Millis(into.unix_secs.saturating_mul(1000)),
        used_memory: 0,
        aof_base: false,
    });
    let mut head = rdb::version(version).to_vec();
    opening.take_into(&mut head);
    let mut sum = Sum::of(&head);
    let mut at = write(&out, head, 0).await?;
    let mut synced = 0;
    for (path, written) in &parts {
        let part = disk.open(path, Open::Read).await?;
        let mut from = 0;
        // Not until the file ends: where it has to end is known.
        while from < written.bytes {
            let most = usize::try_from(written.bytes - from).unwrap_or(COPIED_BYTES).min(COPIED_BYTES);
            let bytes = part.read_at(from, most).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            from += bytes.len() as u64;
            sum.update(&bytes);
            at = write(&out, bytes, at).await?;
            if at - synced >= SNAPSHOT_SYNC_BYTES {
                out.sync_data().await?;
                synced = at;
            }
        }
        part.close().await;
    }
    let end = rdb::end(sum, into.checksum);
    at = write(&out, end.to_vec(), at).await?;
    out.sync_data().await?;
    out.close().await;
    Ok(Written { bytes: at, checksum: stored(&end), version })
}

/// The checksum that a file ends with: it sums up the mark in front of it too.
fn stored(end: &[u8; rdb::file_writer::END_BYTES]) -> u64 {
    let (_, sum) = end.split_last_chunk().expect("eight bytes behind the mark");
    u64::from_le_bytes(*sum)
}
