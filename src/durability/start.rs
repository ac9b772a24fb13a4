//! The start of a server: what is on the disk is found, loaded, and gone on from. The conductor's first work, before anybody is served.
//!
//! ```text
//!   appendonly yes    the manifest's generations, cut at the last epoch that all logs hold; else Redis's log; else a snapshot
//!   appendonly no     the snapshot: the manifest's parts, or one file
//! ```
//!
//! A log of ours with as many shards as now is gone on from: its end is cut off where it does not count, written again and synced, and a new
//! generation of logs follows it. From everything else a log is begun by a rewrite, and nobody is served before that is complete.
//!
//! Invariant: a load that fails changes nothing on the disk. Absent on purpose: reading files (`load`), which of them count (`files`).

use std::path::PathBuf;

use super::conductor::Conductor;
use super::files::{self, AofFiles, SetFiles};
use crate::base::ShardId;
use crate::base::time::Now;
use crate::persist::aof::epochs::FileSum;
use crate::persist::aof::manifest::Manifest;
use crate::rt::service;
use crate::shard::Stop;
use crate::shard::storage::{FileKind, Job, LoadFile, LoadPart, Loaded, Told};

/// What is on the disk, and is to be loaded.
struct Found {
    /// In words, for the log.
    what: String,
    parts: Vec<LoadPart>,
    /// The log may go on from it without a snapshot first.
    goes_on: bool,
}

impl Conductor {
    /// Loads what is on the disk, and has a log that goes on from it if one is to be kept. Ends the process if that cannot be.
    pub(super) async fn start(&mut self) {
        let now = self.look().await;
        self.status.last_save = now.unix_secs();
        self.status.loading_since = Some(now.unix_secs());
        self.publish().await;
        let result = self.load(now).await;
        if let Err(error) = result {
            tracing::error!("Fatal error loading the DB: {error}. Exiting.");
            eprintln!("annulus: cannot load the data: {error}");
            self.c.call_all(|shard| shard.stop = Stop::Failed).await;
            // The loops end now, and this with them.
            std::future::pending::<()>().await;
        }
        self.status.loading_since = None;
        self.status.last_save_failed = false;
        self.publish().await;
        // Clients are connected already; now they are served.
        if self.config.port != 0 {
            tracing::info!("Ready to accept connections tcp");
        }
        if !self.config.unixsocket.is_empty() {
            tracing::info!("Ready to accept connections unix");
        }
        if self.config.tls_port != 0 {
            tracing::info!("Ready to accept connections tls");
        }
        service::ready();
        let mono_us = self.mono_us();
        (self.closed_us, self.synced_us, self.looked_us) = (mono_us, mono_us, mono_us);
    }

    async fn load(&mut self, now: Now) -> Result<(), String> {
        let found = if self.config.appendonly {
            match self.find_log().await? {
                Some(found) => Some(found),
                None => self.find_snapshot().await?,
            }
        } else {
            self.find_snapshot().await?
        };
        let goes_on = found.as_ref().is_some_and(|found| found.goes_on);
        let mut has_data = false;
        if let Some(found) = found {
            has_data = true;
            self.load_parts(found, now).await?;
            // Whoever renamed what was loaded may have been killed before that was on the disk.
            let folder = SetFiles::new(&self.config, 0).folder();
            let synced: std::io::Result<()> = self.job(self.c.origin().shard, Job::SyncFolder(folder)).await;
            if let Err(error) = synced {
                tracing::warn!("The working folder cannot be synced: {error}");
            }
        }
        // What was loaded is no change.
        self.c.call_all(|shard| shard.storage.saved_changes = shard.metrics.changes).await;
        if !self.config.appendonly {
            return Ok(());
        }
        if goes_on || !has_data {
            self.trim().await?;
            let generation = self.files.next_generation();
            self.open_generation(generation, false).await?;
            // Epochs go on from the last that counts.
            let since = self.epoch - 1;
            self.c
                .call_all(move |shard| {
                    shard.effects.set_active(true, since + 1);
                    shard.effects.set_durable(since);
                })
                .await;
            self.durable = since;
            self.status.aof_on = true;
            self.take_in_settings().await;
            return Ok(());
        }
        // Nothing is taken before a log holds what was loaded.
        self.begin_rewrite(None, false, true).await;
        while self.task.is_some() {
            match self.told().await {
                Some(Told::JobDone(number, answer)) => self.task_goes_on(number, answer).await,
                Some(Told::Synced(shard, epoch)) => self.synced(shard, epoch).await,
                Some(told) => self.backlog.push_back(told),
                None => {}
            }
        }
        if self.status.last_rewrite_failed {
            return Err("the append-only file cannot be begun; see the log".to_owned());
        }
        Ok(())
    }

    pub(super) async fn read(&mut self, path: PathBuf) -> Result<Option<Vec<u8>>, String> {
        let name = path.display().to_string();
        let read: std::io::Result<Option<Vec<u8>>> = self.job(self.c.origin().shard, Job::Read(path)).await;
        read.map_err(|error| format!("{name}: {error}"))
    }

    /// Whether there is a file in the working folder.
    async fn is_there(&mut self, path: &std::path::Path) -> Result<bool, String> {
        let listed: std::io::Result<Vec<std::ffi::OsString>> =
            self.job(self.c.origin().shard, Job::List(PathBuf::from("."))).await;
        let names = listed.map_err(|error| format!("the working folder: {error}"))?;
        Ok(names.iter().any(|name| *name == *path.as_os_str()))
    }

    /// The log, if there is one.
    async fn find_log(&mut self) -> Result<Option<Found>, String> {
        let path = files::manifest_path(&self.config);
        let what = path.display().to_string();
        if let Some(text) = self.read(path).await? {
            let manifest = Manifest::parse(&text).map_err(|error| format!("{what}: {error}"))?;
            if manifest.set.is_some() {
                self.files = AofFiles::new(manifest);
                return self.find_own_log().await.map(Some);
            }
            let parts = vec![files::redis_part(&self.config, &manifest)];
            self.files = AofFiles::new(manifest);
            return Ok(Some(Found { what, parts, goes_on: false }));
        }
        // Before version 7 a log was one file beside the snapshot.
        let single = PathBuf::from(self.config.appendfilename.to_string());
        if !self.is_there(&single).await? {
            return Ok(None);
        }
        let may_be_cut = self.config.aof_load_truncated;
        let file = LoadFile { path: single.clone(), kind: FileKind::Aof, until: None, may_be_cut };
        let part = LoadPart { shard: ShardId(0), shards: 1, files: vec![file] };
        Ok(Some(Found { what: single.display().to_string(), parts: vec![part], goes_on: false }))
    }

    async fn find_own_log(&mut self) -> Result<Found, String> {
        let mut numbers = Vec::new();
        for (shard, logs) in self.files.logs(&self.config).into_iter().enumerate() {
            let by = ShardId(shard as u16 % self.shards);
            let mut of_shard = Vec::new();
            for path in logs {
                of_shard.push(self.begin_job(by, Job::Scan(path)).await);
            }
            numbers.push(of_shard);
        }
        let mut found = Vec::new();
        for of_shard in numbers {
            let mut sums = Vec::new();
            for number in of_shard {
                let sum: Result<FileSum, String> = self.answer(number).await;
                sums.push(sum?);
            }
            found.push(sums);
        }
        let cut = self.files.cut(&self.config, &found)?;
        let parts = self.files.parts(&self.config, &cut);
        let goes_on = parts.len() == usize::from(self.shards);
        let what = format!("{}, up to epoch {}", files::manifest_path(&self.config).display(), cut.epoch);
        // Numbers of epochs are not used twice, not even those of epochs that do not count.
        let epochs = found.iter().flatten().flat_map(|sum| sum.epochs.iter().map(|closed| closed.epoch.number));
        self.epoch = epochs.max().unwrap_or(0).max(cut.epoch) + 1;
        self.durable = self.epoch - 1;
        self.behind = Some((cut, found));
        Ok(Found { what, parts, goes_on })
    }

    /// What was loaded is in memory: what lies behind the last epoch that counts goes, so that nobody ever takes it for a part of the log.
    async fn trim(&mut self) -> Result<(), String> {
        let Some((cut, found)) = self.behind.take() else { return Ok(()) };
        let home = self.c.origin().shard;
        let mut files = self.files.clone();
        let (remain, gone) = files.trim(&self.config, &cut, &found);
        // Before what is in front of them ends whole, and they seem to go on from it.
        if !gone.is_empty() {
            self.write_manifest(&files).await?;
            let done: std::io::Result<()> = self.job(home, Job::Remove(gone)).await;
            done.map_err(|error| error.to_string())?;
        }
        if !remain.is_empty() {
            let done: std::io::Result<()> = self.job(home, Job::Settle(remain)).await;
            done.map_err(|error| format!("the end of the log cannot be cut off and written again: {error}"))?;
        }
        self.files = files;
        Ok(())
    }

    /// The last snapshot, if there is one: of parts, or one file.
    async fn find_snapshot(&mut self) -> Result<Option<Found>, String> {
        let set = SetFiles::new(&self.config, 0);
        let path = set.manifest_path();
        let what = path.display().to_string();
        if let Some(text) = self.read(path).await? {
            let parts = SetFiles::parts(&text).map_err(|error| format!("{what}: {error}"))?;
            return Ok(Some(Found { what, parts, goes_on: false }));
        }
        let path = set.merged();
        if !self.is_there(&path).await? {
            return Ok(None);
        }
        Ok(Some(Found { what: path.display().to_string(), parts: vec![set.merged_part()], goes_on: false }))
    }

    async fn load_parts(&mut self, found: Found, began: Now) -> Result<(), String> {
        tracing::info!("Loading {}", found.what);
        service::status(&format!("Loading {}", found.what));
        let mut numbers = Vec::new();
        let former = found.parts.len();
        for part in found.parts {
            let by = ShardId(part.shard.0 % self.shards);
            numbers.push(self.begin_job(by, Job::Load(part)).await);
        }
        let mut sum = Loaded::default();
        let mut failed = None;
        for (shard, number) in numbers.into_iter().enumerate() {
            match self.answer::<Result<Loaded, String>>(number).await {
                Ok(loaded) => {
                    if former == usize::from(self.shards) {
                        let to = ShardId(shard as u16);
                        self.c.call(to, move |shard| shard.storage.base_bytes = loaded.bytes).await;
                    }
                    sum.keys += loaded.keys;
                    sum.expired += loaded.expired;
                    sum.bytes += loaded.bytes;
                    sum.dropped += loaded.dropped;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        // Keys that were handed to other shards are there when those have taken them in.
        while self.c.call_all(|shard| shard.storage.arrived).await.iter().sum::<u64>() < sum.keys {
            self.c.yield_core().await;
        }
        if sum.dropped > 0 {
            tracing::warn!("{} bytes behind the last complete epoch were dropped", sum.dropped);
        }
        self.status.loaded = sum;
        self.status.aof_base_bytes = sum.bytes;
        let now = self.look().await;
        tracing::info!(
            "DB loaded from disk: {} keys, {} expired, {:.3} seconds",
            sum.keys,
            sum.expired,
            (now.mono_us - began.mono_us) as f64 / 1e6
        );
        Ok(())
    }
}
