//! The conductor: one plan on shard 0, from the start of the server to its end, that decides what happens to files and when.
//!
//! ```text
//!   start ──> load ──> (a first rewrite, if the log does not fit what was loaded) ──> serve ──────> end
//!                                                                                      │
//!        close an epoch   when one has content: every 100 ms, at once if somebody waits for it
//!        force it         when somebody waits; every second under `everysec`
//!        snapshot         SAVE, BGSAVE, save points
//!        rewrite          BGREWRITEAOF, growth, a log that came in doubt
//! ```
//!
//! It works one event at a time, and what takes long (writing a snapshot, merging its parts) runs on while it closes epochs. At most one
//! snapshot is written at a time: a rewrite is one whose cut also sends the log to a new file.
//!
//! The order of steps of a rewrite, each of which is on the disk before the next begins: new, empty logs; a manifest that names them
//! behind the old ones; the cut; the snapshots; a manifest that names only these and the new logs; the old files are removed. A crash
//! between any two of them finds a manifest whose files hold everything.
//!
//! Absent on purpose: files and bytes (the drivers'), formats (`persist`).

mod cleanup;

use std::any::Any;
use std::collections::VecDeque;

use super::files::{self, AofFiles, SetFiles};
use crate::base::time::Now;
use crate::base::{Epoch, ShardId};
use crate::config::{AppendFsync, Config};
use crate::persist::aof::epochs::FileSum;
use crate::rt::service;
use crate::session::Durability;
use crate::shard::reservations::Access;
use crate::shard::storage::{Cut, Job, LogFailure, Request, SnapshotFile, Status, Told, WriteError, Written};
use crate::shard::waiters::{WaitEvent, WaiterId};
use crate::shard::{Pause, Stop};
use crate::txn::{Coordinator, Plan};

/// How long content waits for the end of its epoch when nobody waits for it. Microseconds. A process that is killed loses this much.
const EPOCH_US: u64 = 100_000;
/// How long `everysec` waits. Microseconds.
const SYNC_US: u64 = 1_000_000;
/// How often save points and the growth of the log are looked at, while something changes. Microseconds.
const LOOK_US: u64 = 1_000_000;
/// How long after a snapshot that failed the save points try again, as in Redis. Microseconds.
const SAVE_RETRY_US: u64 = 5_000_000;
/// How long after a rewrite that was to rescue the log, and failed, it is tried again. Microseconds.
const RESCUE_RETRY_US: u64 = 1_000_000;

/// The plan. It never ends.
pub fn plan(coordinator: Coordinator) -> Plan {
    Box::pin(async move {
        let mut conductor = Conductor::new(coordinator);
        conductor.start().await;
        conductor.serve().await
    })
}

/// What runs in the background.
pub(super) struct Task {
    kind: Kind,
    /// Who is told when it is done.
    asker: Option<WaiterId>,
    began: Now,
    cut: Epoch,
    /// Jobs that have not been answered, by number, and whose they are.
    waiting: Vec<(u64, ShardId)>,
    written: Vec<Written>,
    failed: Option<String>,
    /// The parts are being merged: under this number.
    merging: Option<u64>,
    /// An fsync of a log that begins at its cut has failed.
    doubted: bool,
}

#[derive(Clone)]
pub(super) enum Kind {
    Save {
        merged: bool,
        set: SetFiles,
    },
    /// `rescue`: the log before it is in doubt. `first`: no log was kept before it.
    Rewrite {
        generation: u64,
        rescue: bool,
        first: bool,
    },
}

/// An epoch that is on its way to the disks.
pub(super) struct Syncing {
    epoch: Epoch,
    waiting: Vec<ShardId>,
}

pub(super) struct Conductor {
    pub(super) c: Coordinator,
    /// The same, claiming all keys for reading.
    pub(super) all: Coordinator,
    pub(super) shards: u16,
    pub(super) config: Config,
    pub(super) status: Status,
    pub(super) backlog: VecDeque<Told>,
    pub(super) next_job: u64,
    pub(super) files: AofFiles,
    /// The next epoch to be closed.
    pub(super) epoch: Epoch,
    pub(super) durable: Epoch,
    pub(super) wanted: Epoch,
    pub(super) dirty: bool,
    /// Something was closed and not forced to the disk.
    pub(super) unsynced: bool,
    pub(super) closed_us: u64,
    pub(super) synced_us: u64,
    pub(super) syncing: Option<Syncing>,
    pub(super) task: Option<Task>,
    pub(super) queued: VecDeque<(Request, Option<WaiterId>)>,
    pub(super) unsaved: bool,
    pub(super) looked_us: u64,
    pub(super) save_failed_us: Option<u64>,
    /// Shards whose log cannot be written.
    pub(super) failing: Vec<ShardId>,
    pub(super) in_doubt: bool,
    pub(super) rescue_us: u64,
    /// What of the log that was found does not count, until it is cut off.
    pub(super) behind: Option<(crate::persist::aof::epochs::Cut, Vec<Vec<FileSum>>)>,
    /// Somebody asked for the end of the server.
    pub(super) ending: Option<(bool, Option<WaiterId>)>,
}

impl Conductor {
    fn new(c: Coordinator) -> Conductor {
        let all = c.claiming_everything(Access::Shared);
        Conductor {
            shards: c.slots().shards(),
            c,
            all,
            config: Config::default(),
            status: Status { last_save_secs: -1, last_rewrite_secs: -1, ..Status::default() },
            backlog: VecDeque::new(),
            next_job: 0,
            files: AofFiles::default(),
            epoch: 1,
            durable: 0,
            wanted: 0,
            dirty: false,
            unsynced: false,
            closed_us: 0,
            synced_us: 0,
            syncing: None,
            task: None,
            queued: VecDeque::new(),
            unsaved: false,
            looked_us: 0,
            save_failed_us: None,
            failing: Vec::new(),
            in_doubt: false,
            rescue_us: 0,
            behind: None,
            ending: None,
        }
    }

    fn id(&self) -> WaiterId {
        WaiterId { home: self.c.origin().shard, plan: self.c.origin().plan }
    }

    pub(super) fn mono_us(&self) -> u64 {
        (self.c.origin().clock_ns)() / 1000
    }

    /// The settings and the time, as shard 0 has them now.
    pub(super) async fn look(&mut self) -> Now {
        let (config, now) = self.c.call(self.c.origin().shard, |shard| (shard.config.clone(), shard.now)).await;
        self.config = config;
        now
    }

    // ---- talking to drivers

    /// Leaves a job with a shard's driver. Its answer comes as an event.
    pub(super) async fn begin_job(&mut self, shard: ShardId, job: Job) -> u64 {
        self.next_job += 1;
        let (number, asker) = (self.next_job, self.id());
        self.c.call(shard, move |shard| shard.storage.jobs.push_back((asker, number, job))).await;
        number
    }

    /// Waits for the answer to a job; other events wait meanwhile.
    pub(super) async fn answer<T: 'static>(&mut self, number: u64) -> T {
        let is_it = |told: &Told| matches!(told, Told::JobDone(done, _) if *done == number);
        if let Some(at) = self.backlog.iter().position(is_it)
            && let Some(Told::JobDone(_, answer)) = self.backlog.remove(at)
        {
            return *answer.downcast::<T>().expect("a job's answer has its type");
        }
        loop {
            let told = self.told().await;
            match told {
                Some(Told::JobDone(done, answer)) if done == number => {
                    return *answer.downcast::<T>().expect("a job's answer has its type");
                }
                Some(told) => self.backlog.push_back(told),
                None => {}
            }
        }
    }

    pub(super) async fn job<T: 'static>(&mut self, shard: ShardId, job: Job) -> T {
        let number = self.begin_job(shard, job).await;
        self.answer(number).await
    }

    /// Does a job on every shard at once. The first error, if there is one.
    async fn job_on_all(&mut self, job: impl Fn(ShardId) -> Job) -> Result<(), String> {
        let mut numbers = Vec::new();
        for shard in self.c.slots().all() {
            numbers.push(self.begin_job(shard, job(shard)).await);
        }
        let mut result = Ok(());
        for number in numbers {
            let answer: std::io::Result<()> = self.answer(number).await;
            result = result.and(answer.map_err(|error| error.to_string()));
        }
        result
    }

    /// The next event; none for a nudge.
    pub(super) async fn told(&mut self) -> Option<Told> {
        match self.c.next_told().await {
            WaitEvent::Told(told) => Some(*told),
            _ => None,
        }
    }

    /// Gives every shard the state of things.
    pub(super) async fn publish(&mut self) {
        let status = self.status.clone();
        self.c
            .call_all(move |shard| {
                shard.storage.status = status.clone();
            })
            .await;
    }

    // ---- serving

    async fn serve(&mut self) -> ! {
        loop {
            let due = self.act().await;
            let told = match self.backlog.pop_front() {
                Some(told) => Some(told),
                None => {
                    self.c.wait_until(due);
                    let told = self.told().await;
                    self.c.end_wait_until();
                    told
                }
            };
            if let Some(told) = told {
                self.take_in(told).await;
            }
        }
    }

    async fn take_in(&mut self, told: Told) {
        match told {
            Told::Dirty => self.dirty = true,
            Told::Unsaved => self.unsaved = true,
            Told::Wanted(epoch) => self.wanted = self.wanted.max(epoch),
            Told::Synced(shard, epoch) => self.synced(shard, epoch).await,
            Told::LogFailed(failure) => self.log_failed(failure).await,
            Told::LogWorks(shard) => self.log_works(shard).await,
            Told::JobDone(number, answer) => self.task_goes_on(number, answer).await,
            Told::Request(request, asker) => self.requested(request, Some(asker)).await,
            Told::Wish(request) => self.requested(request, None).await,
            Told::Answer(_) => unreachable!("the conductor answers and does not ask"),
        }
    }

    async fn tell(&mut self, asker: Option<WaiterId>, answer: Result<&'static str, String>) {
        if let Some(asker) = asker {
            let home = self.c.origin().shard;
            self.c.call(home, move |shard| shard.tell_plan(asker, Told::Answer(answer))).await;
        }
    }

    /// Does what is due, and says when something will be; monotonic microseconds.
    async fn act(&mut self) -> Option<u64> {
        let mut now_us = self.mono_us();
        if self.looks() && now_us >= self.looked_us + LOOK_US {
            self.looked_us = now_us;
            self.look_at_sizes().await;
        }
        if self.task.is_none() {
            if self.in_doubt && now_us >= self.rescue_us {
                self.rescue_us = now_us + RESCUE_RETRY_US;
                self.begin_rewrite(None, true, false).await;
            } else if let Some((request, asker)) = self.queued.pop_front() {
                self.begin(request, asker).await;
            } else if let Some((_, asker)) = self.ending {
                self.end(asker).await;
            }
        }
        if self.may_close() {
            now_us = self.mono_us();
            let sync = self.must_sync(now_us);
            if sync || (self.dirty && now_us >= self.closed_us + EPOCH_US) {
                self.close(sync, false, false).await;
            }
        }
        self.next_due()
    }

    /// Whether an epoch may be closed now.
    fn may_close(&self) -> bool {
        self.status.aof_on && self.syncing.is_none() && !self.in_doubt
    }

    fn must_sync(&self, now_us: u64) -> bool {
        if self.wanted >= self.epoch || (self.wanted > self.durable && self.unsynced) {
            return true;
        }
        let timely = self.config.appendfsync != AppendFsync::No || self.status.everysec_wanted;
        let paused = self.config.no_appendfsync_on_rewrite && self.task.is_some();
        timely && !paused && (self.dirty || self.unsynced) && now_us >= self.synced_us + SYNC_US
    }

    /// Whether save points or the growth of the log have to be looked at.
    fn looks(&self) -> bool {
        (self.unsaved && !self.config.save.is_empty()) || (self.status.aof_on && (self.dirty || self.unsynced))
    }

    fn next_due(&self) -> Option<u64> {
        let mut due = Vec::new();
        if self.may_close() && self.dirty {
            due.push(self.closed_us + EPOCH_US);
        }
        if self.may_close() && self.unsynced {
            due.push(self.synced_us + SYNC_US);
        }
        if self.looks() {
            due.push(self.looked_us + LOOK_US);
        }
        if self.in_doubt && self.task.is_none() {
            due.push(self.rescue_us);
        }
        due.into_iter().min()
    }

    // ---- epochs

    /// Closes the open epoch on all shards at one point of the serial order.
    async fn close(&mut self, sync: bool, switch: bool, snapshot: bool) -> Epoch {
        let now = self.look().await;
        let epoch = self.epoch;
        let cut = Cut { epoch, unix_ms: now.millis().0, sync, switch, snapshot };
        self.all.transact_all(move |shard| shard.cut(cut)).await;
        self.epoch = epoch + 1;
        self.dirty = false;
        self.closed_us = self.mono_us();
        self.unsynced = !sync;
        if sync {
            self.synced_us = self.closed_us;
            self.syncing = Some(Syncing { epoch, waiting: self.c.slots().all().collect() });
        }
        epoch
    }

    pub(super) async fn synced(&mut self, shard: ShardId, epoch: Epoch) {
        let Some(syncing) = &mut self.syncing else { return };
        if epoch < syncing.epoch {
            return;
        }
        syncing.waiting.retain(|waiting| *waiting != shard);
        if syncing.waiting.is_empty() {
            let epoch = syncing.epoch;
            self.syncing = None;
            // What was written before the log came in doubt is safe when the rewrite is.
            if !self.in_doubt {
                self.set_durable(epoch);
            }
        }
    }

    fn set_durable(&mut self, epoch: Epoch) {
        self.durable = epoch;
        for shard in self.c.slots().all() {
            drop(self.c.call(shard, move |shard| shard.epoch_is_durable(epoch)));
        }
    }

    async fn log_failed(&mut self, failure: LogFailure) {
        // It was switched off meanwhile.
        if !self.status.aof_on {
            return;
        }
        if !self.failing.contains(&failure.shard) {
            self.failing.push(failure.shard);
        }
        if failure.in_doubt {
            self.in_doubt = true;
            self.syncing = None;
            if let Some(task) = &mut self.task {
                task.doubted |= failure.upto >= Some(task.cut);
            }
        }
        self.status.write_error = Some(WriteError::Log(failure.error));
        self.publish().await;
    }

    async fn log_works(&mut self, shard: ShardId) {
        self.failing.retain(|failing| *failing != shard);
        if self.failing.is_empty() && !self.in_doubt && matches!(self.status.write_error, Some(WriteError::Log(_))) {
            tracing::warn!("The append-only file can be written again; writes are taken");
            self.status.write_error = None;
            self.publish().await;
        }
    }

    // ---- requests

    async fn requested(&mut self, request: Request, asker: Option<WaiterId>) {
        match request {
            Request::Save { schedule, wait, .. } => match &self.task {
                None => self.begin(request, asker).await,
                Some(Task { kind: Kind::Save { .. }, .. }) => {
                    self.tell(asker, Err("ERR Background save already in progress".to_owned())).await;
                }
                Some(_) if schedule => {
                    let asker = if wait { asker } else { None };
                    self.queued.push_back((request, asker));
                    if !wait {
                        self.tell(asker, Ok("Background saving scheduled")).await;
                    }
                }
                Some(_) => {
                    let text = "ERR Another child process is active (AOF?): can't BGSAVE right now. \
                                Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.";
                    self.tell(asker, Err(text.to_owned())).await;
                }
            },
            Request::Rewrite => match &self.task {
                None => self.begin(request, asker).await,
                Some(Task { kind: Kind::Rewrite { .. }, .. }) => {
                    let text = "ERR Background append only file rewriting already in progress";
                    self.tell(asker, Err(text.to_owned())).await;
                }
                Some(_) => {
                    self.status.rewrite_scheduled = true;
                    self.publish().await;
                    self.queued.push_back((request, None));
                    self.tell(asker, Ok("Background append only file rewriting scheduled")).await;
                }
            },
            Request::AppendOnly(on) => self.append_only(on, asker).await,
            Request::Settings => {
                self.look().await;
                self.take_in_settings().await;
                self.tell(asker, Ok("OK")).await;
            }
            Request::Shutdown { save, force } => self.shut_down(save, force, asker).await,
        }
    }

    async fn begin(&mut self, request: Request, asker: Option<WaiterId>) {
        match request {
            Request::Save { merged, wait, .. } => self.begin_save(merged, wait, asker).await,
            Request::Rewrite => self.begin_rewrite(asker, self.in_doubt, !self.status.aof_on).await,
            _ => unreachable!("these are not put off"),
        }
    }

    /// What the settings, and clients that have asked for more than they say, ask of the log.
    pub(super) async fn take_in_settings(&mut self) {
        let wishes = self
            .c
            .call_all(|shard| {
                let has = |wish| shard.sessions.iter().any(|session| session.durability == wish);
                (has(Durability::EverySec), has(Durability::Always))
            })
            .await;
        self.status.everysec_wanted = wishes.iter().any(|(everysec, _)| *everysec);
        let watches = self.config.appendfsync == AppendFsync::Always || wishes.iter().any(|(_, always)| *always);
        self.c.call_all(move |shard| shard.effects.watch_reads(watches)).await;
        if !self.config.stop_writes_on_bgsave_error && self.status.write_error == Some(WriteError::Snapshot) {
            self.status.write_error = None;
            self.publish().await;
        }
    }

    async fn append_only(&mut self, on: bool, asker: Option<WaiterId>) {
        self.look().await;
        if on == self.status.aof_on {
            return self.tell(asker, Ok("OK")).await;
        }
        if on {
            if self.task.is_some() {
                self.queued.push_back((Request::Rewrite, None));
            } else {
                self.begin_rewrite(None, false, true).await;
            }
            let begun = self.status.aof_on || !self.queued.is_empty();
            let failed = || Err("ERR Unable to turn on AOF. Check server logs.".to_owned());
            self.tell(asker, if begun { Ok("OK") } else { failed() }).await;
        } else {
            if let Some(Task { kind: Kind::Rewrite { .. }, .. }) = &self.task {
                self.abandon("appendonly was turned off").await;
            }
            self.queued.retain(|(request, _)| *request != Request::Rewrite);
            // Who waits for the disk is not told of what is not there.
            if self.status.aof_on && !self.in_doubt && self.failing.is_empty() {
                self.log_all().await;
            }
            for shard in self.c.slots().all() {
                let _: () = self.job(shard, Job::CloseLog).await;
            }
            self.status.aof_on = false;
            self.status.rewrite_scheduled = false;
            self.failing.clear();
            self.in_doubt = false;
            self.syncing = None;
            if matches!(self.status.write_error, Some(WriteError::Log(_))) {
                self.status.write_error = None;
            }
            self.publish().await;
            self.tell(asker, Ok("OK")).await;
        }
    }

    /// Gives up the task that runs.
    async fn abandon(&mut self, why: &str) {
        let Some(task) = self.task.take() else { return };
        for shard in self.c.slots().all() {
            let _: () = self.job(shard, Job::AbandonSnapshot).await;
        }
        for (number, _) in &task.waiting {
            let _: std::io::Result<Written> = self.answer(*number).await;
        }
        tracing::warn!("Gave up a snapshot: {why}");
        self.status.save_since = None;
        self.status.rewrite_since = None;
        self.tell(task.asker, Err(format!("ERR {why}"))).await;
    }

    // ---- snapshots

    async fn begin_save(&mut self, merged: bool, wait: bool, asker: Option<WaiterId>) {
        let now = self.look().await;
        let merged = merged || self.config.rdb_single_file;
        let (later, at_once) = if wait { (asker, None) } else { (None, asker) };
        let set = SetFiles::new(&self.config, now.millis().0);
        // Whoever hears that it has begun finds it begun.
        self.status.save_since = Some(now.unix_secs());
        self.publish().await;
        // Before the cut: whoever asks may be a transaction that the cut has to wait for.
        self.tell(at_once, Ok("Background saving started")).await;
        let cut = self.close(self.status.aof_on && !self.in_doubt, false, true).await;
        let mut waiting = Vec::new();
        for shard in self.c.slots().all() {
            let file = SnapshotFile {
                path: set.part(shard),
                whole: !merged,
                checksum: self.config.rdbchecksum,
                aof_base: false,
                unix_secs: now.unix_secs(),
            };
            waiting.push((self.begin_job(shard, Job::WriteSnapshot(file)).await, shard));
        }
        let written = vec![Written::default(); usize::from(self.shards)];
        let kind = Kind::Save { merged, set };
        self.task = Some(Task {
            kind,
            asker: later,
            began: now,
            cut,
            waiting,
            written,
            failed: None,
            merging: None,
            doubted: false,
        });
        tracing::info!("Background saving started");
    }

    pub(super) async fn begin_rewrite(&mut self, asker: Option<WaiterId>, rescue: bool, first: bool) {
        let now = self.look().await;
        self.status.rewrite_scheduled = false;
        let generation = self.files.next_generation();
        let opened = self.open_generation(generation, rescue || first).await;
        if let Err(error) = opened {
            tracing::error!("Cannot begin to rewrite the append-only file: {error}");
            self.status.last_rewrite_failed = true;
            self.status.rewrite_failures += 1;
            self.publish().await;
            return self.tell(asker, Err(format!("ERR {error}"))).await;
        }
        self.status.rewrite_since = Some(now.unix_secs());
        self.publish().await;
        // As for a snapshot: before the cut.
        self.tell(asker, Ok("Background append only file rewriting started")).await;
        let cut = self.close(true, true, true).await;
        self.status.aof_on = true;
        self.take_in_settings().await;
        self.publish().await;
        let mut waiting = Vec::new();
        for shard in self.c.slots().all() {
            let file = SnapshotFile {
                path: files::base_path(&self.config, generation, shard),
                whole: true,
                checksum: self.config.rdbchecksum,
                aof_base: true,
                unix_secs: now.unix_secs(),
            };
            waiting.push((self.begin_job(shard, Job::WriteSnapshot(file)).await, shard));
        }
        let written = vec![Written::default(); usize::from(self.shards)];
        let kind = Kind::Rewrite { generation, rescue, first };
        self.task = Some(Task {
            kind,
            asker: None,
            began: now,
            cut,
            waiting,
            written,
            failed: None,
            merging: None,
            doubted: false,
        });
        tracing::info!("Background append only file rewriting started");
    }

    /// Makes the logs of a new generation, and names them in the manifest behind those that are there, unless the manifest must not
    /// change before the snapshots are complete.
    pub(super) async fn open_generation(&mut self, generation: u64, hidden: bool) -> Result<(), String> {
        let mut files = self.files.clone();
        if !hidden {
            files.add_logs(&self.config, generation, self.shards);
        }
        let opened = self.open_logs(generation, (!hidden).then_some(&files)).await;
        match opened {
            Ok(()) => self.files = files,
            Err(_) if hidden => self.remove_logs(generation).await,
            Err(_) => self.remove_logs_unless_named(generation, &files).await,
        }
        opened
    }

    async fn open_logs(&mut self, generation: u64, files: Option<&AofFiles>) -> Result<(), String> {
        let home = self.c.origin().shard;
        let folder = files::log_folder(&self.config);
        let what = folder.display().to_string();
        let made: std::io::Result<()> = self.job(home, Job::CreateFolder(folder.clone())).await;
        made.map_err(|error| format!("{what}: {error}"))?;
        let config = self.config.clone();
        let opened = self.job_on_all(|shard| Job::OpenLog(files::log_path(&config, generation, shard))).await;
        opened.map_err(|error| format!("a new file in {what}: {error}"))?;
        let synced: std::io::Result<()> = self.job(home, Job::SyncFolder(folder)).await;
        synced.map_err(|error| format!("{what}: {error}"))?;
        match files {
            Some(files) => self.write_manifest(files).await,
            None => Ok(()),
        }
    }

    pub(super) async fn write_manifest(&mut self, files: &AofFiles) -> Result<(), String> {
        let home = self.c.origin().shard;
        let path = files::manifest_path(&self.config);
        let what = path.display().to_string();
        let replaced: std::io::Result<()> = self.job(home, Job::Replace(path, files.manifest.print())).await;
        replaced.map_err(|error| format!("{what}: {error}"))
    }

    /// One of the jobs of the task is done.
    pub(super) async fn task_goes_on(&mut self, number: u64, answer: Box<dyn Any + Send>) {
        let Some(task) = &mut self.task else { return };
        let answer = *answer.downcast::<std::io::Result<Written>>().expect("the task's jobs write");
        if task.merging == Some(number) {
            let result = answer.map_err(|error| error.to_string());
            let mut task = self.task.take().expect("it was just there");
            match result {
                Ok(written) => task.written = vec![written],
                Err(error) => task.failed = Some(error),
            }
            return self.finish(task).await;
        }
        let Some(at) = task.waiting.iter().position(|(waiting, _)| *waiting == number) else { return };
        let (_, shard) = task.waiting.swap_remove(at);
        match answer {
            Ok(written) => task.written[shard.index()] = written,
            Err(error) => {
                tracing::error!("shard {shard}: a snapshot cannot be written: {error}");
                task.failed = task.failed.take().or(Some(error.to_string()));
            }
        }
        if !task.waiting.is_empty() {
            return;
        }
        let mut task = self.task.take().expect("it was just there");
        if let Kind::Save { merged: true, set } = &task.kind
            && task.failed.is_none()
        {
            let parts = self.c.slots().all().map(|s| (set.part(s), task.written[s.index()])).collect();
            let into = SnapshotFile {
                path: set.merged_temporary(),
                whole: true,
                checksum: self.config.rdbchecksum,
                aof_base: false,
                unix_secs: task.began.unix_secs(),
            };
            let home = self.c.origin().shard;
            task.merging = Some(self.begin_job(home, Job::Merge { parts, into }).await);
            self.task = Some(task);
            return;
        }
        self.finish(task).await;
    }

    /// All that the task had to write is written, or it has failed.
    async fn finish(&mut self, task: Task) {
        let result = match (&task.failed, task.kind.clone()) {
            (Some(error), _) => Err(error.clone()),
            (None, Kind::Save { merged, set }) => self.publish_set(&task, &set, merged).await,
            (None, Kind::Rewrite { generation, .. }) => self.publish_rewrite(&task, generation).await,
        };
        let now = self.look().await;
        let took = i64::try_from((now.mono_us - task.began.mono_us) / 1_000_000).unwrap_or(i64::MAX);
        match &task.kind {
            Kind::Save { set, .. } => {
                self.status.save_since = None;
                self.status.last_save_secs = took;
                self.status.last_save_failed = result.is_err();
                self.save_failed_us = result.is_err().then_some(now.mono_us);
                match &result {
                    Ok(()) => {
                        self.status.saves += 1;
                        self.status.last_save = task.began.unix_secs();
                        self.unsaved = false;
                        self.c
                            .call_all(|shard| {
                                shard.storage.saved_changes = shard.storage.cut_changes;
                                shard.storage.told_unsaved = false;
                            })
                            .await;
                        if self.status.write_error == Some(WriteError::Snapshot) {
                            self.status.write_error = None;
                        }
                        tracing::info!("DB saved on disk");
                    }
                    Err(error) => {
                        tracing::error!("Saving failed: {error}");
                        self.remove_failed_set(&task, set).await;
                        if self.config.stop_writes_on_bgsave_error
                            && !self.config.save.is_empty()
                            && self.status.write_error.is_none()
                        {
                            self.status.write_error = Some(WriteError::Snapshot);
                        }
                    }
                }
            }
            Kind::Rewrite { generation, rescue, first } => {
                self.status.rewrite_since = None;
                self.status.last_rewrite_secs = took;
                self.status.last_rewrite_failed = result.is_err();
                match &result {
                    Ok(()) => {
                        self.status.rewrites += 1;
                        self.status.rewrite_failures = 0;
                        if *first {
                            self.c.call_all(|shard| shard.log_is_whole()).await;
                        }
                        if *rescue {
                            self.set_durable(task.cut);
                        }
                        // Else the logs that go on from it need rescue in their turn.
                        if *rescue && !task.doubted {
                            self.in_doubt = false;
                            self.failing.clear();
                            self.status.write_error = None;
                            self.syncing = None;
                        }
                        tracing::info!("Background AOF rewrite finished successfully");
                    }
                    Err(error) => {
                        self.status.rewrite_failures += 1;
                        tracing::error!("Background AOF rewrite failed: {error}");
                        if *first {
                            // Nothing names these logs, and nobody counts on them.
                            for shard in self.c.slots().all() {
                                let _: () = self.job(shard, Job::CloseLog).await;
                            }
                            self.status.aof_on = false;
                            self.syncing = None;
                            self.queued.push_back((Request::Rewrite, None));
                        }
                        self.remove_failed_rewrite(&task, *generation, *first).await;
                    }
                }
            }
        }
        self.publish().await;
        let answer = result.map(|()| "OK").map_err(|error| format!("ERR {error}"));
        self.tell(task.asker, answer).await;
    }

    /// The parts of a snapshot are complete: it takes the place of the last one.
    async fn publish_set(&mut self, task: &Task, set: &SetFiles, merged: bool) -> Result<(), String> {
        let home = self.c.origin().shard;
        let text = |result: std::io::Result<()>| result.map_err(|error| error.to_string());
        if merged {
            text(self.job(home, Job::Rename(vec![(set.merged_temporary(), set.merged())])).await)?;
            // While the manifest of an older snapshot is there, or may come back, that one counts.
            text(self.job(home, Job::Remove(vec![set.manifest_path()])).await)?;
            text(self.job(home, Job::SyncFolder(set.folder())).await)?;
            let parts = self.c.slots().all().map(|s| set.part(s)).collect();
            text(self.job(home, Job::Remove(parts)).await)?;
        } else {
            text(self.job(home, Job::SyncFolder(set.folder())).await)?;
            let manifest = set.manifest(&task.written, task.cut);
            text(self.job(home, Job::Replace(set.manifest_path(), manifest)).await)?;
        }
        self.remove_old_sets(set, merged).await;
        Ok(())
    }

    async fn publish_rewrite(&mut self, task: &Task, generation: u64) -> Result<(), String> {
        let home = self.c.origin().shard;
        let folder = files::log_folder(&self.config);
        let synced: std::io::Result<()> = self.job(home, Job::SyncFolder(folder)).await;
        synced.map_err(|error| error.to_string())?;
        let mut files = self.files.clone();
        let mut old = files.replace_all(&self.config, generation, task.cut, self.shards);
        self.write_manifest(&files).await?;
        self.files = files;
        for (shard, written) in self.c.slots().all().zip(task.written.clone()) {
            let bytes = written.bytes;
            self.c.call(shard, move |shard| shard.storage.base_bytes = bytes).await;
        }
        self.status.aof_base_bytes = task.written.iter().map(|written| written.bytes).sum();
        let listed: std::io::Result<Vec<std::ffi::OsString>> =
            self.job(home, Job::List(files::log_folder(&self.config))).await;
        for name in listed.unwrap_or_default().iter().filter(|name| self.files.is_stray(&self.config, name)) {
            old.push(files::log_folder(&self.config).join(name));
        }
        old.sort();
        old.dedup();
        if !self.config.aof_disable_auto_gc {
            let removed: std::io::Result<()> = self.job(home, Job::Remove(old)).await;
            if let Err(error) = removed {
                tracing::warn!("An old append-only file cannot be removed: {error}");
            }
        }
        Ok(())
    }

    async fn look_at_sizes(&mut self) {
        let now = self.look().await;
        let sums = self
            .c
            .call_all(|shard| (shard.unsaved_changes(), shard.storage.log_bytes + shard.storage.base_bytes))
            .await;
        let changes: u64 = sums.iter().map(|(changes, _)| changes).sum();
        let bytes: u64 = sums.iter().map(|(_, bytes)| bytes).sum();
        if self.task.is_some() || self.ending.is_some() {
            return;
        }
        let since = now.unix_secs().saturating_sub(self.status.last_save);
        let due = |point: &crate::config::SavePoint| {
            changes >= u64::try_from(point.changes).unwrap_or(0) && since > point.seconds
        };
        let recently = self.save_failed_us.is_some_and(|at| now.mono_us < at + SAVE_RETRY_US);
        if !recently && let Some(point) = self.config.save.iter().find(|point| due(point)) {
            tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            return self.begin_save(false, false, None).await;
        }
        let percentage = u64::try_from(self.config.auto_aof_rewrite_percentage).unwrap_or(0);
        if self.status.aof_on && percentage > 0 && bytes > self.config.auto_aof_rewrite_min_size && !self.in_doubt {
            let base = self.status.aof_base_bytes.max(1);
            let growth = (bytes.saturating_mul(100) / base).saturating_sub(100);
            if growth >= percentage {
                tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
                self.begin_rewrite(None, false, false).await;
            }
        }
    }

    // ---- the end

    async fn shut_down(&mut self, save: Option<bool>, force: bool, asker: Option<WaiterId>) {
        self.look().await;
        // What is acknowledged from now on would be lost.
        self.c
            .call_all(|shard| {
                shard.pause = Some(Pause { until: crate::base::time::Millis(i64::MAX), writes_only: false });
            })
            .await;
        self.queued.clear();
        if self.task.is_some() {
            self.abandon("the server is shutting down").await;
        }
        self.ending = Some((force, asker));
        if save.unwrap_or(!self.config.save.is_empty()) {
            self.begin_save(false, false, None).await;
        }
    }

    /// Ends the server: what was to be saved is saved, or could not be.
    async fn end(&mut self, asker: Option<WaiterId>) {
        let Some((force, _)) = self.ending.take() else { return };
        let saved = !self.status.last_save_failed;
        // Twice: the second says of the first that it is safe.
        let is_logged = self.status.aof_on && !self.in_doubt;
        let logged = if is_logged { self.log_all().await && self.log_all().await } else { !self.in_doubt };
        if (saved && logged) || force {
            service::stopping();
            self.c.call_all(|shard| shard.stop = Stop::Shutdown).await;
            return;
        }
        tracing::error!("Error trying to save the DB, can't exit.");
        self.c.call_all(|shard| shard.pause = None).await;
        self.tell(asker, Err("ERR Errors trying to SHUTDOWN. Check logs.".to_owned())).await;
    }

    /// Has the whole log on the disks. False if that fails.
    async fn log_all(&mut self) -> bool {
        let mut closed = false;
        while self.syncing.is_some() || !closed {
            if self.syncing.is_none() {
                self.close(true, false, false).await;
                closed = true;
            }
            match self.told().await {
                Some(Told::LogFailed(failure)) => {
                    self.log_failed(failure).await;
                    return false;
                }
                Some(Told::Synced(shard, epoch)) => self.synced(shard, epoch).await,
                Some(told) => self.backlog.push_back(told),
                None => {}
            }
        }
        true
    }
}
