//! What one shard's memory is spent on, as it tells INFO, MEMORY STATS and whoever else asks.
//!
//! A snapshot made by its shard (`Shard::memory_now`); sums over shards are right for every field. Absent on purpose: what the process
//! as a whole has taken, which is the allocator's to say; and what a core has allocated, since what one allocates another may free.

/// See the module. Bytes, but for the counts at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardMemory {
    /// Directories, segments and slots of its keys.
    pub tables: u64,
    /// Records with their keys, short values and long strings; of other values the head alone.
    pub records: u64,
    /// The insides of those other values, as estimated from a sample of keys.
    pub insides: u64,
    /// Its clients: buffers, queued commands, what they watch and follow.
    pub clients: u64,
    /// What waits to be written to its log, or is being written.
    pub log: u64,
    /// What a snapshot has written and the disk has not.
    pub snapshot: u64,
    /// Keys that it has evicted.
    pub evicted_keys: u64,
    /// Clients that it has closed to save memory.
    pub evicted_clients: u64,
}

impl ShardMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.tables + self.records + self.insides + self.clients + self.log + self.snapshot
    }

    /// Adds another shard's figures to these.
    pub fn absorb(&mut self, other: &ShardMemory) {
        self.tables += other.tables;
        self.records += other.records;
        self.insides += other.insides;
        self.clients += other.clients;
        self.log += other.log;
        self.snapshot += other.snapshot;
        self.evicted_keys += other.evicted_keys;
        self.evicted_clients += other.evicted_clients;
    }
}
