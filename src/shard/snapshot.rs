//! The snapshot of one shard, as its driver sees it. How it works is told in [`crate::keyspace::snapshot`].
//!
//! The driver begins it inside one step of a transaction on every shard, so that all have the same cut; then calls
//! [`Shard::snapshot_step`] between turns and takes the output to the disk. Owned by the shard, on its core. Invariant: a
//! database that was emptied is freed, once it is written. Absent on purpose: files, and when to take a snapshot.

use std::sync::Arc;

use super::Shard;
use crate::base::time::Millis;
use crate::keyspace::{EntrySink, SnapshotBudget, SnapshotProgress};

impl Shard {
    /// This moment is the cut. All shards are told the same time, at which keys have expired or not. Panics if a snapshot runs.
    pub fn begin_snapshot(&mut self, at: Millis, sink: &Arc<dyn EntrySink>) {
        self.keyspace.begin_snapshot(at, sink);
    }

    /// Goes on with the snapshot, or with cleaning up after one that was given up; to be called until it is done.
    pub fn snapshot_step(&mut self, budget: SnapshotBudget) -> SnapshotProgress {
        let progress = self.keyspace.snapshot_step(budget, self.clock_ns);
        self.dropped.append(&mut self.keyspace.take_released());
        progress
    }

    /// Gives the snapshot up, if one runs. Its output is lost.
    pub fn abort_snapshot(&mut self) {
        self.keyspace.abort_snapshot();
        self.dropped.append(&mut self.keyspace.take_released());
    }

    /// Bytes that were written and that nobody has taken. They grow with every command that changes what is not written yet: a
    /// driver that sees too many may pause the walk or hold clients up.
    pub fn snapshot_waiting_bytes(&self) -> usize {
        self.keyspace.snapshot_waiting_bytes()
    }

    /// Takes what was written, in pieces of any order. To be called once more after the last step.
    pub fn take_snapshot_output(&mut self) -> Vec<Vec<u8>> {
        self.keyspace.take_snapshot_output()
    }
}
