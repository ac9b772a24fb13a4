//! What is on the disk becomes keys again.
//!
//! ```text
//!   part: the files of one former shard ──> snapshot: keys go straight into a keyspace ─┐
//!                                       └─> log: commands are run on it, in order ──────┴──> arrivals ──> the owners
//! ```
//!
//! Each part is loaded into a keyspace of its own, by a background task of one core, as if its former shard were the whole server: what
//! stands in its log concerns its own keys alone. If the server has as many shards as then, the whole keyspace becomes that of its
//! shard; else the keys move one by one to their owners. Nothing of it is seen before all is there, and clients are told to wait.
//!
//! Nothing expires while a log is run: a key whose time has come since is removed by a DEL in the log, or afterwards. Keys of a snapshot
//! alone that have expired are not loaded.
//!
//! Invariant: what cannot be read is an error with the file, the place and what to do, and nothing is loaded; the files stay as they
//! are. Absent on purpose: which files count ([`super::files`]), what a command means (`dispatch`, through [`Replayer`]).

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use super::driver::Host;
use crate::base::time::Millis;
use crate::base::{BLOB_BYTES_MIN, Blob, DbIndex, ShardId};
use crate::config::Config;
use crate::keyspace::access::{lfu_access, lru_access_idle_for};
use crate::keyspace::{Keyspace, Lookup, NewValue, Record};
use crate::persist::aof::epochs::{FileScan, FileSum};
use crate::persist::aof::manifest::begins_as_rdb;
use crate::persist::aof::scan::{End, Found, Keep, Limits as LogLimits, Scanner};
use crate::persist::rdb::file::Used;
use crate::persist::rdb::file_reader::{Entry, Step};
use crate::persist::rdb::{Decoded, FileReader, Limits, PACKED_NEXT};
use crate::rt::disk::{Disk, DiskFile, Open};
use crate::shard::Shard;
use crate::shard::storage::{FileKind, LoadFile, LoadPart, Loaded};
use crate::types::{Object, Packed};

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// Bytes of commands that are run, or of a snapshot that are decoded, before clients have their turn.
const SLICE_BYTES: usize = 64 * 1024;
/// Entries of a snapshot that are decoded before clients have their turn.
const SLICE_ENTRIES: usize = 512;
/// Keys that are handed to other shards in one turn.
const HANDED_OUT: usize = 16 * 1024;
/// Bytes after which the log tells how far it is.
const TOLD_BYTES: u64 = 1 << 30;

/// Runs commands as if a client had sent them, on a keyspace that is nobody's yet.
pub trait Replayer {
    /// Runs whole commands. The error says which was refused, and how.
    fn run(&mut self, commands: &[u8]) -> Result<(), String>;

    /// What has come of it so far.
    fn keyspace(&mut self) -> &mut Keyspace;

    /// What has come of it.
    fn finish(self: Box<Self>) -> Keyspace;
}

/// Makes what runs the commands of one part.
pub type MakeReplayer = Rc<dyn Fn(&Config) -> Box<dyn Replayer>>;

/// Keys that were loaded and are not where they belong yet.
pub struct Arrivals {
    shard: ShardId,
    shards: u16,
    keyspace: Keyspace,
    db: u16,
    /// What was found.
    pub loaded: Loaded,
}

impl Arrivals {
    /// Gives keys to their owners, as many as one turn allows. True when all are.
    pub fn hand_out(&mut self, shard: &mut Shard) -> bool {
        if self.shards == shard.slots.shards() && self.shard == shard.id {
            shard.storage.arrived += self.loaded.keys;
            std::mem::swap(&mut shard.keyspace, &mut self.keyspace);
            return true;
        }
        let mut by_owner: Vec<Vec<(DbIndex, Record)>> = shard.slots.all().map(|_| Vec::new()).collect();
        let mut left = HANDED_OUT;
        let databases = self.keyspace.dbs().len() as u16;
        while left > 0 && self.db < databases {
            let db = DbIndex(self.db);
            match self.keyspace.db_mut(db).take_any() {
                Some(record) => {
                    by_owner[shard.slots.shard_of(record.key()).index()].push((db, record));
                    left -= 1;
                }
                None => self.db += 1,
            }
        }
        for (owner, records) in shard.slots.all().zip(by_owner) {
            if !records.is_empty() {
                shard.tell(owner, move |shard| {
                    shard.storage.arrived += records.len() as u64;
                    for (db, record) in records {
                        shard.keyspace.db_mut(db).insert_record(record);
                    }
                });
            }
        }
        self.db >= databases
    }
}

/// Loads a part.
pub async fn part<H: Host>(
    host: &H,
    make: &MakeReplayer,
    config: &Config,
    now: Millis,
    progress: &Cell<(u64, u64)>,
    part: LoadPart,
) -> Result<Arrivals, String> {
    let mut into = Into { replayer: make(config), config, now, progress, loaded: Loaded::default(), told: TOLD_BYTES };
    let last = part.files.len().saturating_sub(1);
    for file in &part.files {
        let alone = last == 0;
        into.file(host, file, alone).await.map_err(|error| format!("{}: {error}", file.path.display()))?;
    }
    let mut keyspace = into.replayer.finish();
    into.loaded.keys = (0..keyspace.dbs().len()).map(|db| keyspace.db_mut(DbIndex(db as u16)).len() as u64).sum();
    Ok(Arrivals { shard: part.shard, shards: part.shards, keyspace, db: 0, loaded: into.loaded })
}

/// Where a part goes.
struct Into<'c> {
    replayer: Box<dyn Replayer>,
    config: &'c Config,
    now: Millis,
    progress: &'c Cell<(u64, u64)>,
    loaded: Loaded,
    told: u64,
}

impl Into<'_> {
    async fn file<H: Host>(&mut self, host: &H, file: &LoadFile, alone: bool) -> Result<(), String> {
        let disk = host.disk();
        let source = disk.open(&file.path, Open::Read).await.map_err(|error| error.to_string())?;
        let len = source.len().await.map_err(|error| error.to_string())?;
        let until = file.until.unwrap_or(len).min(len);
        let (read, total) = self.progress.get();
        self.progress.set((read, total + until));
        let mut source = Source { file: source, at: 0, until };
        let first = source.peek(6).await?;
        let begins_with_rdb = begins_as_rdb(&first);
        match file.kind {
            FileKind::Rdb => {
                self.rdb(host, &mut source, alone).await?;
            }
            FileKind::Aof if begins_with_rdb => {
                let (at, rest) = self.rdb(host, &mut source, false).await?;
                self.aof(host, &mut source, at, rest, file.may_be_cut && file.until.is_none()).await?;
            }
            FileKind::Aof => {
                self.aof(host, &mut source, 0, Vec::new(), file.may_be_cut && file.until.is_none()).await?
            }
        }
        self.loaded.dropped += len - until;
        Ok(())
    }

    fn has_read(&mut self, bytes: usize, source: &str) {
        self.loaded.bytes += bytes as u64;
        let (read, total) = self.progress.get();
        self.progress.set((read + bytes as u64, total));
        if self.loaded.bytes >= self.told {
            self.told += TOLD_BYTES;
            tracing::info!("{source}: {} MB loaded so far", self.loaded.bytes >> 20);
        }
    }

    /// A snapshot. `alone`: no log goes on from it. Gives where it ends and what was read behind it.
    async fn rdb<H: Host, F: DiskFile>(
        &mut self,
        host: &H,
        source: &mut Source<F>,
        alone: bool,
    ) -> Result<(u64, Vec<u8>), String> {
        // What was once stored is loaded, however long strings of clients may be today.
        let limits = Limits { string_bytes_max: usize::MAX, ..Limits::of(self.config) };
        let mut reader = FileReader::new(limits, self.config.rdbchecksum);
        let mut entries = 0;
        let mut packed = false;
        loop {
            match reader.next().map_err(|damage| format!("{damage}; see `annulus check`"))? {
                Step::NeedMore => {
                    let bytes = source.next(READ_BYTES).await?;
                    self.has_read(bytes.len(), "snapshot");
                    match bytes.is_empty() {
                        true => reader.end_of_input(),
                        false => reader.feed(&bytes),
                    }
                }
                Step::Aux(name, _) if name == PACKED_NEXT => packed = true,
                Step::Entry(entry) => {
                    self.insert(entry, alone, std::mem::take(&mut packed))?;
                    entries += 1;
                    if entries % SLICE_ENTRIES == 0 {
                        host.pause().await;
                    }
                }
                Step::Function(_) => {
                    return Err(
                        "it holds a library of functions, which this server does not have yet; remove them with \
                                FUNCTION FLUSH where it was written, and save again"
                            .to_owned(),
                    );
                }
                Step::End(_) => return Ok((reader.offset(), reader.rest().to_vec())),
                _ => {}
            }
        }
    }

    /// `packed` says that its string was kept compressed.
    fn insert(&mut self, entry: Entry<'_>, alone: bool, packed: bool) -> Result<(), String> {
        if alone && entry.expires.is_some_and(|due| due <= self.now) {
            self.loaded.expired += 1;
            return Ok(());
        }
        let keyspace = self.replayer.keyspace();
        if entry.db.index() >= keyspace.dbs().len() {
            return Err(format!("at byte {}: database {} is beyond `databases`", entry.offset, entry.db.0));
        }
        let access = match entry.used {
            Used::Unsaid => lru_access_idle_for(0, self.now),
            Used::SecsAgo(secs) => lru_access_idle_for(u32::try_from(secs).unwrap_or(u32::MAX), self.now),
            Used::Often(count) => lfu_access(count, self.now),
        };
        let bytes;
        let larger_than = usize::try_from(self.config.compress_values_larger_than).unwrap_or(usize::MAX);
        let pack = |text: &[u8]| {
            let wanted = packed || larger_than > 0 && text.len() > larger_than;
            wanted
                .then(|| Packed::pack(text))
                .flatten()
                .map(|packed| NewValue::Object(Box::new(Object::Packed(packed))))
        };
        let value = match entry.value {
            Decoded::String(text) => match pack(&text) {
                Some(packed) => packed,
                None if text.len() >= BLOB_BYTES_MIN => NewValue::Blob(Blob::new(text)),
                None => {
                    bytes = text;
                    NewValue::string(&bytes)
                }
            },
            Decoded::Object(object) => NewValue::Object(Box::new(object)),
        };
        match keyspace.db_mut(entry.db).lookup(&entry.key) {
            Lookup::Vacant(place) => {
                place.insert(value, entry.expires, access);
                Ok(())
            }
            Lookup::Found(_) => {
                let key = entry.key.escape_ascii();
                Err(format!("at byte {}: key '{key}' is there twice; see `annulus check`", entry.offset))
            }
        }
    }

    /// A log from this place on, of which this much was read.
    async fn aof<H: Host, F: DiskFile>(
        &mut self,
        host: &H,
        source: &mut Source<F>,
        at: u64,
        read: Vec<u8>,
        may_be_cut: bool,
    ) -> Result<(), String> {
        let limits = LogLimits { bulk_bytes_max: u64::MAX, ..LogLimits::default() };
        let mut scanner = Scanner::new(at, Keep::Records, limits);
        scanner.feed(&read);
        let mut transaction = Vec::new();
        loop {
            let found = scanner.next_run(SLICE_BYTES as u64).map_err(|damage| {
                format!("{damage}; a log that is damaged before its end is not loaded: see `annulus check`")
            })?;
            match found {
                Found::NeedMore => {
                    let bytes = source.next(READ_BYTES).await?;
                    if bytes.is_empty() {
                        break;
                    }
                    self.has_read(bytes.len(), "log");
                    scanner.feed(&bytes);
                }
                Found::Run(run) => {
                    let bytes = scanner.bytes(run.at.clone());
                    // A transaction that turns out to have no end must not have begun.
                    let whole = scanner.valid_up_to().clamp(run.at.start, run.at.end) - run.at.start;
                    let (whole, begun) = bytes.split_at(usize::try_from(whole).unwrap_or(usize::MAX));
                    if !whole.is_empty() {
                        let ran = if transaction.is_empty() {
                            self.replayer.run(whole)
                        } else {
                            transaction.extend_from_slice(whole);
                            let ran = self.replayer.run(&transaction);
                            transaction.clear();
                            ran
                        };
                        ran.map_err(|error| refused(&run.at, &error))?;
                    }
                    transaction.extend_from_slice(begun);
                    host.pause().await;
                }
                Found::Annotation { .. } => {}
            }
        }
        let (cut, at) = match scanner.end() {
            End::Whole => return Ok(()),
            End::Cut { at } => ("its last record is not whole", at),
            End::OpenTransaction { at } => ("its last transaction has no EXEC", at),
        };
        if !may_be_cut {
            return Err(format!(
                "at byte {at}: {cut}. Set aof-load-truncated to yes to go on without it, or cut the file: see `annulus check`"
            ));
        }
        let dropped = scanner.fed_up_to() - scanner.valid_up_to();
        self.loaded.dropped += dropped;
        tracing::warn!(
            "!!! Warning: short read while loading the AOF: {cut}; {dropped} bytes from byte {at} on are dropped"
        );
        Ok(())
    }
}

fn refused(at: &std::ops::Range<u64>, error: &str) -> String {
    format!("between bytes {} and {}: a command was refused: {error}", at.start, at.end)
}

/// A file that is read from its start to some place.
struct Source<F> {
    file: F,
    at: u64,
    until: u64,
}

impl<F: DiskFile> Source<F> {
    async fn peek(&mut self, len: usize) -> Result<Vec<u8>, String> {
        self.file.read_at(0, len).await.map_err(|error| error.to_string())
    }

    /// The next bytes; none at the end.
    async fn next(&mut self, len: usize) -> Result<Vec<u8>, String> {
        let left = usize::try_from(self.until - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.file.read_at(self.at, len.min(left)).await.map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Err("it has become shorter while it was read".to_owned());
        }
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}

/// Sums up what a log holds.
pub async fn scan<H: Host>(host: &H, path: &Path) -> Result<FileSum, String> {
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let disk = host.disk();
    let file = disk.open(path, Open::Read).await.map_err(text)?;
    let until = file.len().await.map_err(text)?;
    let mut source = Source { file, at: 0, until };
    // Whatever a client was once allowed to send is in order.
    let mut scan = FileScan::new(0, LogLimits { bulk_bytes_max: u64::MAX, ..LogLimits::default() });
    loop {
        let bytes = source.next(READ_BYTES).await.map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes.is_empty() {
            return Ok(scan.finish());
        }
        scan.feed(&bytes);
        host.pause().await;
    }
}
