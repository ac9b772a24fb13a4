//! What older snapshots, and snapshots and rewrites that have failed, leave behind, and when it may be removed.
//!
//! Part of the conductor. The rule: a file goes only if no manifest names it, neither the one that is there nor one that a power cut
//! could bring back. A manifest that could not be written at all names nothing; one that was renamed to its place, and whose folder
//! could not be synced then, is there, and its files stay. What is not removed here goes with the next attempt that succeeds.

use std::path::PathBuf;

use super::super::files::{self, AofFiles, SetFiles};
use super::{Conductor, Kind, Task};
use crate::shard::storage::Job;

impl Conductor {
    /// Whether a manifest is not there as it was to be written. False if nobody can say.
    async fn is_not_there(&mut self, path: PathBuf, text: &[u8]) -> bool {
        self.read(path).await.is_ok_and(|found| found.as_deref() != Some(text))
    }

    async fn remove(&mut self, paths: Vec<PathBuf>) {
        let removed: std::io::Result<()> = self.job(self.c.origin().shard, Job::Remove(paths)).await;
        if let Err(error) = removed {
            tracing::warn!("What an attempt that failed has left cannot be removed: {error}");
        }
    }

    /// What an older snapshot has left, now that there is a newer one.
    pub(super) async fn remove_old_sets(&mut self, set: &SetFiles, merged: bool) {
        let home = self.c.origin().shard;
        let listed: std::io::Result<Vec<std::ffi::OsString>> = self.job(home, Job::List(set.folder())).await;
        let old: Vec<PathBuf> =
            listed.unwrap_or_default().iter().filter_map(|name| set.outdated(name, merged)).collect();
        if !old.is_empty() {
            let removed: std::io::Result<()> = self.job(home, Job::Remove(old)).await;
            if let Err(error) = removed {
                tracing::warn!("An old snapshot cannot be removed: {error}");
            }
        }
    }

    /// After a snapshot has failed.
    pub(super) async fn remove_failed_set(&mut self, task: &Task, set: &SetFiles) {
        let merged = matches!(task.kind, Kind::Save { merged: true, .. });
        // No manifest names the parts of what was to become one file.
        let is_unnamed = task.failed.is_some()
            || merged
            || self.is_not_there(set.manifest_path(), &set.manifest(&task.written, task.cut)).await;
        if is_unnamed {
            let parts = self.c.slots().all().map(|shard| set.part(shard));
            let paths = parts.chain([set.merged_temporary()]).collect();
            self.remove(paths).await;
        }
    }

    /// After a rewrite has failed. The logs that it began are in use, unless it was the first.
    pub(super) async fn remove_failed_rewrite(&mut self, task: &Task, generation: u64, first: bool) {
        let mut files = self.files.clone();
        files.replace_all(&self.config, generation, task.cut, self.shards);
        let path = files::manifest_path(&self.config);
        if task.failed.is_some() || self.is_not_there(path, &files.manifest.print()).await {
            let paths = self.c.slots().all().map(|shard| files::base_path(&self.config, generation, shard)).collect();
            self.remove(paths).await;
            if first {
                self.remove_logs(generation).await;
            }
        }
    }

    /// After logs could not be begun that nobody was to know of yet.
    pub(super) async fn remove_logs(&mut self, generation: u64) {
        let paths = self.c.slots().all().map(|shard| files::log_path(&self.config, generation, shard)).collect();
        self.remove(paths).await;
    }

    /// After logs could not be begun that this manifest was to name.
    pub(super) async fn remove_logs_unless_named(&mut self, generation: u64, files: &AofFiles) {
        if self.is_not_there(files::manifest_path(&self.config), &files.manifest.print()).await {
            self.remove_logs(generation).await;
        }
    }
}
