//! A disk in memory that forgets what was not synced, tears writes, fails and fills up: for tests and simulations.
//!
//! What a file holds is kept twice: as the process sees it (the page cache), and as a power cut would leave it (the platter).
//!
//! ```text
//!   write_at, set_len ──> cache ──┐                         create, rename, remove ──> names ──┐
//!                                 ├─ pending ─ sync_data ──> platter                           ├─ pending ─ sync_dir ──> durable names
//!   crash() ──> a new disk: platter + some of what is pending; durable names + some of the pending ones
//! ```
//!
//! - A crash draws for each pending write whether it is there, is not, is there up to some byte, or in some of its 512-byte sectors;
//!   what a later write reached and an earlier one did not is zeros. Which writes are there does not depend on their order.
//! - Each pending change of names is there or not, also regardless of order; a rename is atomic. POSIX promises no more.
//! - A sync covers what was written before it began. A failed one draws at once what of the pending bytes reached the platter; the
//!   cache goes on showing all of them, and no later sync writes them again, as with Linux.
//! - [`SimDisk::kill`] is the death of the process alone: what was written is there, synced or not.
//! - With [`SimDisk::set_delays`] a call takes a drawn number of polls, and a write may be half done in between, so that a simulation
//!   can interleave and cut anywhere.
//!
//! Clones are the same disk. Owned by one thread. Equal seeds and equal calls give equal disks. Compiled into the library, since the
//! tests that need it are inside and outside of it; the server does not touch it.
//!
//! Absent on purpose: permissions, links, open files that keep a removed folder alive, and damage to bytes that were synced (tests
//! change bytes with [`SimDisk::put`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::rng::Rng;
use crate::rt::disk::{Disk, DiskFile, Open};

/// What a disk that loses power writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// Error numbers of Linux, for [`SimDisk::fail`].
pub const EIO: i32 = 5;
/// No space left on the device.
pub const ENOSPC: i32 = 28;
const EBADF: i32 = 9;

/// Calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Disk::open`].
    Open,
    /// [`DiskFile::write_at`]. A drawn part of the bytes is written before the error.
    Write,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::set_len`].
    SetLen,
    /// [`Disk::rename`] and [`Disk::remove`].
    Name,
    /// [`Disk::sync_dir`].
    SyncDir,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

/// A file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: usize,
    writable: bool,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    /// With the number of the change that made it so; `None`: removed.
    durable_names: BTreeMap<PathBuf, (u64, Option<Node>)>,
    renamings: Vec<Renaming>,
    /// Numbers changes of names and of bytes, so that a sync knows what was before it.
    next_change: u64,
    faults: Vec<Fault>,
    space_max: Option<u64>,
    delay_max: u32,
    calls: u64,
    halt_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    pending: Vec<(u64, Change)>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// A change of names that is not durable: what each name means after it.
#[derive(Clone, Debug)]
struct Renaming {
    change: u64,
    names: Vec<(PathBuf, Option<Node>)>,
}

#[derive(Clone, Debug)]
struct Fault {
    call: Call,
    /// How many of these calls still succeed.
    after: u64,
    /// How many fail then.
    times: u64,
    errno: i32,
}

/// How a crash treats what is pending.
#[derive(Clone, Copy, Debug)]
enum Fate {
    AllKept,
    AllLost,
    Drawn,
}

impl SimDisk {
    /// An empty disk. The folders `/` and the current one are there.
    pub fn new(seed: u64) -> SimDisk {
        let root = [PathBuf::from("/"), PathBuf::new()];
        SimDisk {
            state: Rc::new(RefCell::new(State {
                rng: Rng::seed(seed),
                inodes: Vec::new(),
                names: root.iter().map(|path| (path.clone(), Node::Folder)).collect(),
                durable_names: root.iter().map(|path| (path.clone(), (0, Some(Node::Folder)))).collect(),
                renamings: Vec::new(),
                next_change: 1,
                faults: Vec::new(),
                space_max: None,
                delay_max: 0,
                calls: 0,
                halt_at: None,
            })),
        }
    }

    /// What is there after a power cut at this moment. Drawn: a second call gives another outcome. The new disk has no faults, and
    /// this one goes on as if nothing had happened.
    pub fn crash(&self) -> SimDisk {
        let mut state = self.state.borrow_mut();
        let mut rng = Rng::seed(state.rng.next_u64());
        // The pure outcomes are the ones that most code expects, and the most frequent ones in life.
        let fate = match rng.below(6) {
            0 => Fate::AllKept,
            1 => Fate::AllLost,
            _ => Fate::Drawn,
        };
        state.after(fate, rng)
    }

    /// What is there after the process was killed: everything that was written, but not what was still going on.
    pub fn kill(&self) -> SimDisk {
        let mut state = self.state.borrow_mut();
        let rng = Rng::seed(state.rng.next_u64());
        let dead = state.after(Fate::AllKept, rng);
        // The kernel lives on, and with it what it has not written yet.
        let mut heir = dead.state.borrow_mut();
        heir.inodes.clone_from(&state.inodes);
        heir.names.clone_from(&state.names);
        heir.durable_names.clone_from(&state.durable_names);
        heir.renamings.clone_from(&state.renamings);
        heir.next_change = state.next_change;
        drop(heir);
        dead
    }

    /// Makes calls of this kind fail with this error: after `after` more that succeed, `times` of them (`u64::MAX`: all).
    pub fn fail(&self, call: Call, after: u64, times: u64, errno: i32) {
        self.state.borrow_mut().faults.push(Fault { call, after, times, errno });
    }

    /// Calls succeed again.
    pub fn heal(&self) {
        self.state.borrow_mut().faults.clear();
    }

    /// How many bytes fit into all files together. What is too long is written as far as it fits, and ENOSPC.
    pub fn set_space(&self, bytes_max: Option<u64>) {
        self.state.borrow_mut().space_max = bytes_max;
    }

    /// How many polls a call takes at most beyond the first. Zero: every call is ready at once.
    pub fn set_delays(&self, polls_max: u32) {
        self.state.borrow_mut().delay_max = polls_max;
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.state.borrow().calls
    }

    /// Lets this many more calls through; those after them never return. For a crash at every single call.
    pub fn halt_after(&self, calls: u64) {
        let mut state = self.state.borrow_mut();
        state.halt_at = Some(state.calls + calls);
    }

    /// Whether a call was halted.
    pub fn is_halted(&self) -> bool {
        let state = self.state.borrow();
        state.halt_at.is_some_and(|at| state.calls > at)
    }

    /// Runs a future that waits for this disk alone. `None`: the disk was halted.
    pub fn drive<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut cx) {
                Poll::Ready(value) => return Some(value),
                Poll::Pending if self.is_halted() => return None,
                Poll::Pending => {}
            }
        }
    }

    /// Puts a file with this content there, durable, with the folders above it.
    pub fn put(&self, path: impl AsRef<Path>, content: &[u8]) {
        let mut state = self.state.borrow_mut();
        let path = path.as_ref();
        let mut entries: Vec<(PathBuf, Node)> =
            path.ancestors().skip(1).map(|folder| (folder.to_owned(), Node::Folder)).collect();
        state.inodes.push(Inode { cache: content.to_vec(), platter: content.to_vec(), pending: Vec::new() });
        entries.push((path.to_owned(), Node::File(state.inodes.len() - 1)));
        for (path, node) in entries {
            let change = state.number();
            state.names.insert(path.clone(), node);
            state.durable_names.insert(path, (change, Some(node)));
        }
    }

    /// What a file holds as the process sees it.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        match state.names.get(path.as_ref()) {
            Some(Node::File(inode)) => Some(state.inodes[*inode].cache.clone()),
            _ => None,
        }
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state.borrow();
        let files = state.names.iter().filter(|(_, node)| **node != Node::Folder);
        files.map(|(path, _)| path.clone()).collect()
    }

    /// The beginning of every call: counts it, lets polls go by, and fails it if that is its lot. Effects come after it.
    async fn begin(&self, call: Option<Call>) -> io::Result<()> {
        let fault = {
            let mut state = self.state.borrow_mut();
            state.calls += 1;
            call.and_then(|call| state.fault(call))
        };
        self.pause().await;
        fault.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Pending for a drawn number of polls; for ever on a halted disk.
    async fn pause(&self) {
        let mut left = {
            let mut state = self.state.borrow_mut();
            let most = u64::from(state.delay_max);
            if most == 0 { 0 } else { state.rng.below(most + 1) }
        };
        std::future::poll_fn(|cx| {
            if self.is_halted() {
                return Poll::Pending;
            }
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// The current folder has one name here.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

impl Disk for SimDisk {
    type File = SimFile;

    async fn open(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        let path = plain(path);
        self.begin(Some(Call::Open)).await?;
        let mut state = self.state.borrow_mut();
        state.folder_of(path)?;
        let inode = match (state.names.get(path), how) {
            (Some(Node::Folder), Open::Read) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::Folder), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (None, Open::Read | Open::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Node::File(inode)), _) => *inode,
            (None, Open::CreateNew | Open::Replace) => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.rename(vec![(path.to_owned(), Some(Node::File(inode)))]);
                inode
            }
        };
        if how == Open::Replace {
            state.change(inode, Change::SetLen(0));
        }
        drop(state);
        Ok(SimFile { disk: self.clone(), inode, writable: how != Open::Read })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let from = plain(from);
        let to = plain(to);
        self.begin(Some(Call::Name)).await?;
        let mut state = self.state.borrow_mut();
        state.folder_of(to)?;
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if node == Node::Folder || state.names.get(to) == Some(&Node::Folder) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from != to {
            state.rename(vec![(from.to_owned(), None), (to.to_owned(), Some(node))]);
        }
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        self.begin(Some(Call::Name)).await?;
        let mut state = self.state.borrow_mut();
        match state.names.get(path) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) => {
                state.rename(vec![(path.to_owned(), None)]);
                Ok(())
            }
        }
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let folder = plain(folder);
        self.begin(None).await?;
        let state = self.state.borrow();
        match state.names.get(folder) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Some(Node::Folder) => {
                let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
                Ok(inside.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect())
            }
        }
    }

    async fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        let folder = plain(folder);
        self.begin(None).await?;
        let mut state = self.state.borrow_mut();
        let mut all: Vec<&Path> = folder.ancestors().collect();
        all.reverse();
        for folder in all {
            match state.names.get(folder) {
                Some(Node::Folder) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => state.rename(vec![(folder.to_owned(), Some(Node::Folder))]),
            }
        }
        Ok(())
    }

    async fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let folder = plain(folder);
        let before = self.state.borrow().next_change;
        self.begin(Some(Call::SyncDir)).await?;
        let mut state = self.state.borrow_mut();
        if state.names.get(folder) != Some(&Node::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |renaming: &Renaming| renaming.names.iter().any(|(path, _)| path.parent() == Some(folder));
        let (covered, left) = std::mem::take(&mut state.renamings)
            .into_iter()
            .partition(|renaming| renaming.change < before && inside(renaming));
        state.renamings = left;
        for renaming in covered {
            renaming.apply(&mut state.durable_names);
        }
        Ok(())
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        let path = plain(path);
        self.begin(None).await?;
        Ok(self.state.borrow().names.contains_key(path))
    }
}

impl DiskFile for SimFile {
    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
        let failed = self.disk.begin(Some(Call::Write)).await.err();
        if !self.writable {
            return (bytes, Err(io::Error::from_raw_os_error(EBADF)));
        }
        let at = usize::try_from(offset).expect("an offset in memory");
        let (half, whole) = {
            let mut state = self.disk.state.borrow_mut();
            let whole = match failed {
                Some(_) => state.rng.below(bytes.len() as u64 + 1) as usize,
                None => bytes.len().min(state.room_at(self.inode, at)),
            };
            let half = if state.delay_max == 0 { whole } else { state.rng.below(whole as u64 + 1) as usize };
            state.write(self.inode, at, &bytes[..half]);
            (half, whole)
        };
        if half < whole {
            self.disk.pause().await;
            self.disk.state.borrow_mut().write(self.inode, at + half, &bytes[half..whole]);
        }
        match failed {
            Some(error) => (bytes, Err(error)),
            None if whole < bytes.len() => (bytes, Err(io::Error::from_raw_os_error(ENOSPC))),
            None => (bytes, Ok(())),
        }
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.begin(Some(Call::Read)).await?;
        let state = self.disk.state.borrow();
        let content = &state.inodes[self.inode].cache;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        Ok(content[from..content.len().min(from.saturating_add(len))].to_vec())
    }

    async fn sync_data(&self) -> io::Result<()> {
        let before = self.disk.state.borrow().next_change;
        let outcome = self.disk.begin(Some(Call::Sync)).await;
        let mut state = self.disk.state.borrow_mut();
        let state = &mut *state;
        let inode = &mut state.inodes[self.inode];
        let covered = inode.pending.iter().take_while(|(change, _)| *change < before).count();
        for (_, change) in inode.pending.drain(..covered) {
            match outcome {
                Ok(()) => change.apply(&mut inode.platter),
                Err(_) => change.apply_some(&mut inode.platter, &mut state.rng),
            }
        }
        outcome
    }

    async fn len(&self) -> io::Result<u64> {
        self.disk.begin(None).await?;
        Ok(self.disk.state.borrow().inodes[self.inode].cache.len() as u64)
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.begin(Some(Call::SetLen)).await?;
        if !self.writable {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        let len = usize::try_from(len).expect("a length in memory");
        self.disk.state.borrow_mut().change(self.inode, Change::SetLen(len));
        Ok(())
    }

    async fn close(self) {
        // Cannot fail: there is nothing to flush.
        let _ = self.disk.begin(None).await;
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next_change += 1;
        self.next_change - 1
    }

    fn fault(&mut self, call: Call) -> Option<i32> {
        let fault = self.faults.iter_mut().find(|fault| fault.call == call && fault.times > 0)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        if fault.times != u64::MAX {
            fault.times -= 1;
        }
        Some(fault.errno)
    }

    fn folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|folder| self.names.get(folder)) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&mut self, names: Vec<(PathBuf, Option<Node>)>) {
        for (path, node) in &names {
            match node {
                Some(node) => drop(self.names.insert(path.clone(), *node)),
                None => drop(self.names.remove(path)),
            }
        }
        let change = self.number();
        self.renamings.push(Renaming { change, names });
    }

    fn change(&mut self, inode: usize, change: Change) {
        let number = self.number();
        let inode = &mut self.inodes[inode];
        change.apply(&mut inode.cache);
        inode.pending.push((number, change));
    }

    fn write(&mut self, inode: usize, offset: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.change(inode, Change::Write { offset, bytes: bytes.to_vec() });
        }
    }

    /// How many bytes can be written to a file at this offset.
    fn room_at(&self, inode: usize, offset: usize) -> usize {
        let Some(most) = self.space_max else { return usize::MAX };
        let others: usize = self
            .names
            .values()
            .filter_map(|node| match node {
                Node::File(other) if *other != inode => Some(self.inodes[*other].cache.len()),
                _ => None,
            })
            .sum();
        let len = self.inodes[inode].cache.len();
        let longest = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(others).max(len);
        longest.saturating_sub(offset)
    }

    fn after(&self, fate: Fate, mut rng: Rng) -> SimDisk {
        let mut inodes = self.inodes.clone();
        for inode in &mut inodes {
            for (_, change) in inode.pending.drain(..) {
                match fate {
                    Fate::AllKept => change.apply(&mut inode.platter),
                    Fate::AllLost => {}
                    Fate::Drawn => change.apply_some(&mut inode.platter, &mut rng),
                }
            }
            inode.cache.clone_from(&inode.platter);
        }
        let mut durable = self.durable_names.clone();
        for renaming in &self.renamings {
            match fate {
                Fate::AllLost => {}
                Fate::Drawn if rng.chance(1, 2) => {}
                Fate::AllKept | Fate::Drawn => renaming.clone().apply(&mut durable),
            }
        }
        let there: BTreeMap<PathBuf, Node> =
            durable.iter().filter_map(|(path, (_, node))| node.map(|node| (path.clone(), node))).collect();
        // What was in a folder that is not there is not there either.
        let is_reachable = |path: &Path| path.ancestors().skip(1).all(|above| there.get(above) == Some(&Node::Folder));
        let names: BTreeMap<PathBuf, Node> =
            there.iter().filter(|(path, _)| is_reachable(path)).map(|(path, node)| (path.clone(), *node)).collect();
        SimDisk {
            state: Rc::new(RefCell::new(State {
                rng,
                inodes,
                durable_names: names.iter().map(|(path, node)| (path.clone(), (0, Some(*node)))).collect(),
                names,
                renamings: Vec::new(),
                next_change: 1,
                faults: Vec::new(),
                space_max: self.space_max,
                delay_max: self.delay_max,
                calls: 0,
                halt_at: None,
            })),
        }
    }
}

impl Renaming {
    /// Newer changes of the same names may be durable already.
    fn apply(self, durable: &mut BTreeMap<PathBuf, (u64, Option<Node>)>) {
        for (path, node) in self.names {
            let entry = durable.entry(path).or_insert((0, None));
            if entry.0 < self.change {
                *entry = (self.change, node);
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::SetLen(len) => content.resize(*len, 0),
            Change::Write { offset, bytes } => write_into(content, *offset, bytes),
        }
    }

    /// Some drawn part of it.
    fn apply_some(&self, content: &mut Vec<u8>, rng: &mut Rng) {
        let (offset, bytes) = match self {
            Change::SetLen(_) if rng.chance(1, 2) => return,
            Change::SetLen(_) => return self.apply(content),
            Change::Write { offset, bytes } => (*offset, bytes),
        };
        match rng.below(4) {
            0 => {}
            1 => write_into(content, offset, bytes),
            2 => write_into(content, offset, &bytes[..rng.below(bytes.len() as u64 + 1) as usize]),
            _ => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = bytes.len().min(from + SECTOR - (offset + from) % SECTOR);
                    if rng.chance(1, 2) {
                        write_into(content, offset + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: u64 = 200;

    /// The outcomes of a crash after `life`, over many seeds.
    fn outcomes<T: Ord>(
        life: impl AsyncFn(&SimDisk) -> io::Result<()>,
        see: impl Fn(&SimDisk) -> T,
    ) -> std::collections::BTreeSet<T> {
        (0..SEEDS)
            .map(|seed| {
                let disk = SimDisk::new(seed);
                disk.drive(life(&disk)).unwrap().unwrap();
                see(&disk.crash())
            })
            .collect()
    }

    async fn write(disk: &SimDisk, path: &str, how: Open, bytes: &[u8], offset: u64) -> io::Result<SimFile> {
        let file = disk.open(path.as_ref(), how).await?;
        file.write_at(bytes.to_vec(), offset).await.1?;
        Ok(file)
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_torn() {
        let old = [b'o'; 1500];
        let seen = outcomes(
            async |disk| {
                disk.put("f", &old);
                let file = write(disk, "f", Open::Write, &[b'n'; 1024], 1500).await?;
                file.sync_data().await?;
                file.write_at(vec![b'l'; 2000], 2524).await.1
            },
            |disk| disk.content("f").unwrap(),
        );
        assert!(seen.iter().all(|content| content.starts_with(&[&old[..], &[b'n'; 1024]].concat())));
        assert!(seen.iter().any(|content| content.len() == 2524), "lost");
        assert!(seen.iter().any(|content| content.ends_with(&[b'l'; 2000])), "kept");
        assert!(seen.iter().any(|content| content[2524..].contains(&0)), "a sector is missing before others");
        assert!(seen.iter().any(|content| (2525..4524).contains(&content.len()) && !content.contains(&0)), "cut");
    }

    #[test]
    fn unsynced_writes_may_arrive_in_another_order() {
        let seen = outcomes(
            async |disk| {
                disk.put("f", b"");
                let file = write(disk, "f", Open::Write, b"first", 0).await?;
                file.write_at(b"second".to_vec(), 5).await.1
            },
            |disk| disk.content("f").unwrap(),
        );
        assert!(seen.contains(&b"\0\0\0\0\0second"[..]), "{seen:?}");
        assert!(seen.contains(&b"first"[..]) && seen.contains(&b"firstsecond"[..]) && seen.contains(&b""[..]));
    }

    #[test]
    fn names_need_the_sync_of_their_folder() {
        let life = async |disk: &SimDisk| {
            disk.put("d/old", b"before");
            write(disk, "d/new", Open::CreateNew, b"after", 0).await?.sync_data().await?;
            disk.rename("d/new".as_ref(), "d/old".as_ref()).await
        };
        let seen = outcomes(life, |disk| (disk.content("d/old"), disk.content("d/new")));
        let (before, after) = (Some(b"before".to_vec()), Some(b"after".to_vec()));
        // A rename is atomic, and its new name needs no old one.
        let allowed = [(before.clone(), None), (before, after.clone()), (after.clone(), None)];
        assert_eq!(seen, allowed.into());
        let synced = async |disk: &SimDisk| {
            life(disk).await?;
            disk.sync_dir("d".as_ref()).await
        };
        assert_eq!(outcomes(synced, |disk| (disk.content("d/old"), disk.content("d/new"))), [(after, None)].into());
    }

    #[test]
    fn a_folder_that_was_not_synced_takes_its_files_along() {
        let life = async |disk: &SimDisk| {
            disk.create_dir_all("a/b".as_ref()).await?;
            write(disk, "a/b/f", Open::CreateNew, b"x", 0).await?.sync_data().await?;
            disk.sync_dir("a/b".as_ref()).await?;
            disk.sync_dir("a".as_ref()).await
        };
        assert_eq!(outcomes(life, |disk| disk.content("a/b/f")), [None, Some(b"x".to_vec())].into());
        let synced = async |disk: &SimDisk| {
            life(disk).await?;
            disk.sync_dir("".as_ref()).await
        };
        assert_eq!(outcomes(synced, |disk| disk.content("a/b/f")), [Some(b"x".to_vec())].into());
    }

    #[test]
    fn a_failed_sync_leaves_doubt_that_no_later_one_removes() {
        let seen = outcomes(
            async |disk| {
                disk.put("f", b"");
                disk.fail(Call::Sync, 0, 1, EIO);
                let file = write(disk, "f", Open::Write, b"doubtful", 0).await?;
                assert_eq!(file.sync_data().await.unwrap_err().raw_os_error(), Some(EIO));
                assert_eq!(file.read_at(0, 100).await?, b"doubtful", "the cache knows nothing of it");
                file.write_at(b" sure".to_vec(), 8).await.1?;
                file.sync_data().await
            },
            |disk| disk.content("f").unwrap(),
        );
        assert!(seen.iter().all(|content| content.ends_with(b" sure")));
        assert!(seen.contains(&b"\0\0\0\0\0\0\0\0 sure"[..]) && seen.contains(&b"doubtful sure"[..]), "{seen:?}");
    }

    #[test]
    fn a_killed_process_loses_nothing_that_was_written_until_power_is_lost_too() {
        let disk = SimDisk::new(1);
        disk.drive(write(&disk, "f", Open::CreateNew, b"x", 0)).unwrap().unwrap();
        let disk = disk.kill();
        assert_eq!(disk.content("f"), Some(b"x".to_vec()));
        let seen: std::collections::BTreeSet<_> = (0..SEEDS).map(|_| disk.crash().content("f")).collect();
        assert!(seen.contains(&None) && seen.contains(&Some(Vec::new())) && seen.contains(&Some(b"x".to_vec())));
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_room_comes_back_with_removing() {
        let disk = SimDisk::new(1);
        disk.put("other", &[0; 60]);
        disk.set_space(Some(100));
        disk.drive(async {
            let file = disk.open("f".as_ref(), Open::CreateNew).await.unwrap();
            let (bytes, refused) = file.write_at(vec![7; 50], 0).await;
            assert_eq!((bytes.len(), refused.unwrap_err().raw_os_error()), (50, Some(ENOSPC)));
            assert_eq!(file.len().await.unwrap(), 40);
            file.write_at(vec![8; 10], 30).await.1.unwrap();
            disk.remove("other".as_ref()).await.unwrap();
            file.write_at(vec![7; 60], 40).await.1.unwrap();
        })
        .unwrap();
    }

    #[test]
    fn the_nth_call_fails_as_often_as_it_was_told() {
        let disk = SimDisk::new(1);
        disk.fail(Call::Write, 1, 2, EIO);
        disk.drive(async {
            let file = disk.open("f".as_ref(), Open::CreateNew).await.unwrap();
            let mut outcomes = Vec::new();
            for _ in 0..4 {
                outcomes.push(file.write_at(b"x".to_vec(), 0).await.1.is_ok());
            }
            assert_eq!(outcomes, [true, false, false, true]);
        })
        .unwrap();
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut lost = 0;
        for seed in 0..SEEDS {
            let disk = SimDisk::new(seed);
            disk.put("f", b"");
            disk.set_delays(8);
            let crashed = disk.drive(async {
                let file = disk.open("f".as_ref(), Open::Write).await.unwrap();
                file.write_at(b"a".to_vec(), 0).await.1.unwrap();
                // The two at once: whichever is faster.
                let (mut sync, mut write) = (pin!(file.sync_data()), pin!(file.write_at(b"b".to_vec(), 1)));
                let (mut synced, mut written) = (false, false);
                std::future::poll_fn(|cx| {
                    synced = synced || sync.as_mut().poll(cx).is_ready();
                    written = written || write.as_mut().poll(cx).is_ready();
                    if synced && written { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                disk.crash()
            });
            let content = crashed.unwrap().content("f").unwrap();
            assert!(content.starts_with(b"a"), "seed {seed}");
            lost += u32::from(content.len() == 1);
        }
        assert!(lost > 0);
    }

    #[test]
    fn a_halted_disk_never_answers_and_its_crash_is_that_of_the_moment() {
        let disk = SimDisk::new(3);
        disk.put("f", b"");
        disk.halt_after(3);
        let end = disk.drive(async {
            let file = disk.open("f".as_ref(), Open::Write).await.unwrap();
            for at in 0..10 {
                file.write_at(b"x".to_vec(), at).await.1.unwrap();
            }
        });
        assert_eq!((end, disk.content("f")), (None, Some(b"xx".to_vec())));
        assert_eq!(disk.kill().content("f"), Some(b"xx".to_vec()));
    }

    #[test]
    fn equal_seeds_give_equal_disks() {
        let life = |seed| {
            let disk = SimDisk::new(seed);
            disk.set_delays(3);
            disk.drive(write(&disk, "f", Open::CreateNew, &[1; 5000], 3)).unwrap().unwrap();
            disk.crash().content("f")
        };
        assert!((0..50).all(|seed| life(seed) == life(seed)));
        assert!((0..50).any(|seed| life(seed) != life(seed + 1)));
    }
}
