//! A file system that fails when a test says so, mounted by FUSE from inside the test: the real server writes to it by real system calls.
//!
//! ```text
//!   the server ── write, fsync, rename ──> kernel ──> FaultyDisk's thread ──> Tree: files and folders in memory
//!   the test ──── fail, heal, lose_unsynced, files_at ─────────────────────────^
//! ```
//!
//! Each file has two contents: what whoever reads it sees, and what is on the "disk". An fsync that succeeds carries the ranges that were
//! written since the last one to the disk. One that fails forgets these ranges, as the kernel does: readers see them still, and no later
//! fsync carries them. Names have the same two states, and the fsync of the folder carries them. `lose_unsynced` is a power cut.
//!
//! Files are opened for direct I/O, so that each `write` arrives as it was made and no page cache answers for the disk. A trap of that,
//! seen on Linux 6.18: a read through io_uring that asks for more than the file has is repeated at the same place. Ask for what is there.
//! Absent on purpose: permissions, links, times, file locks, mapped files, holes; the server uses none of them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// What is asked of a disk and can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Open,
    Write,
    Sync,
    SyncFolder,
    Rename,
    CreateFolder,
}

/// What comes of a call that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An error by its number, such as `libc::EIO`.
    Error(i32),
    /// A write takes this many of its bytes, at most all, and says so.
    Short(usize),
}

/// A fault that waits for its call.
#[derive(Clone, Debug)]
pub struct Fault {
    call: Call,
    /// Files whose names contain this.
    name: &'static str,
    /// Calls that go well before it.
    spared: usize,
    /// How many calls fail from there on.
    times: usize,
    outcome: Outcome,
}

impl Fault {
    /// The next call on a file whose name contains `name` fails.
    pub fn next(call: Call, name: &'static str, outcome: Outcome) -> Fault {
        Fault { call, name, spared: 0, times: 1, outcome }
    }

    /// So many calls go well before it.
    pub fn after(self, spared: usize) -> Fault {
        Fault { spared, ..self }
    }

    /// All calls from there on fail, until the disk is healed.
    pub fn for_good(self) -> Fault {
        Fault { times: usize::MAX, ..self }
    }
}

/// A mounted file system. It is gone with its value: the server that uses it has to go first.
pub struct FaultyDisk {
    folder: PathBuf,
    tree: Arc<Mutex<Tree>>,
    /// Taken when it is unmounted.
    session: Option<BackgroundSession>,
}

impl FaultyDisk {
    /// Mounts one, or says why that is skipped. In CI it is a failure.
    pub fn mount() -> Option<FaultyDisk> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-faulty-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let tree = Arc::new(Mutex::new(Tree::new()));
        let mut options = fuser::Config::default();
        options.mount_options = vec![MountOption::FSName("annulus-faulty-disk".to_owned())];
        match fuser::spawn_mount(Mounted(Arc::clone(&tree)), &folder, &options) {
            Ok(session) => Some(FaultyDisk { folder, tree, session: Some(session) }),
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                assert!(
                    !super::in_ci(),
                    "FUSE cannot be mounted (root and /dev/fuse are needed), and in CI that may not be: {error}"
                );
                println!("SKIPPED: FUSE cannot be mounted: {error}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// Arms a fault.
    pub fn fail(&self, fault: Fault) {
        self.tree().faults.push(fault);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut tree = self.tree();
        tree.faults.clear();
        tree.read_only = false;
    }

    /// Every call that would change something gives EROFS.
    pub fn make_read_only(&self) {
        self.tree().read_only = true;
    }

    /// How many calls have failed, or were short, so far.
    pub fn failures(&self) -> usize {
        self.tree().failures
    }

    /// Counts failures from zero again.
    pub fn forget_failures(&self) {
        self.tree().failures = 0;
    }

    /// Nothing that is asked of it is answered before this is dropped.
    pub fn stall(&self) -> Stalled<'_> {
        Stalled(self.tree())
    }

    /// A power cut: what was not synced is gone, contents and names.
    pub fn lose_unsynced(&self) {
        self.tree().lose_unsynced();
    }

    /// The names in a folder, sorted, and what is in the files. `""` is the folder at the top.
    pub fn files_at(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let tree = self.tree();
        let mut at = ROOT;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            match tree.child(at, OsStr::new(name)) {
                Some(below) => at = below,
                None => return BTreeMap::new(),
            }
        }
        let names = &tree.folder(at).names;
        let file = |(name, node): (&OsString, &u64)| match &tree.nodes[node] {
            Node::File(file) => Some((name.to_string_lossy().into_owned(), file.seen.clone())),
            Node::Folder(_) => None,
        };
        names.iter().filter_map(file).collect()
    }
}

/// A disk that does not answer; faults can be armed meanwhile.
pub struct Stalled<'d>(MutexGuard<'d, Tree>);

impl Stalled<'_> {
    /// As [`FaultyDisk::fail`].
    pub fn fail(&mut self, fault: Fault) {
        self.0.faults.push(fault);
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // Lazily, since a server of a test that failed may have its files open still.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        if let Some(session) = self.session.take() {
            // Its thread ends when the last open file is closed; nobody has to wait for that.
            drop(session);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().expect("nobody panics while it is locked")
}

const ROOT: u64 = 1;

#[derive(Default)]
struct File {
    seen: Vec<u8>,
    disk: Vec<u8>,
    /// What was written since the last fsync.
    dirty: Vec<Range<usize>>,
}

#[derive(Default)]
struct Folder {
    names: BTreeMap<OsString, u64>,
    disk: BTreeMap<OsString, u64>,
}

enum Node {
    File(File),
    Folder(Folder),
}

/// Nodes are never removed: a test writes little, and a file that has lost its name may be open.
struct Tree {
    nodes: HashMap<u64, Node>,
    /// The name under which a node was created or to which it was renamed, for faults.
    names: HashMap<u64, OsString>,
    faults: Vec<Fault>,
    failures: usize,
    read_only: bool,
}

impl Tree {
    fn new() -> Tree {
        let nodes = HashMap::from([(ROOT, Node::Folder(Folder::default()))]);
        Tree { nodes, names: HashMap::new(), faults: Vec::new(), failures: 0, read_only: false }
    }

    /// What is to come of a call instead of what would: the first fault that waits for it decides.
    fn fault(&mut self, call: Call, name: &OsStr) -> Option<Outcome> {
        let text = name.to_string_lossy();
        for at in 0..self.faults.len() {
            let fault = &mut self.faults[at];
            if fault.call != call || !text.contains(fault.name) {
                continue;
            }
            if fault.spared > 0 {
                fault.spared -= 1;
                continue;
            }
            let outcome = fault.outcome;
            fault.times -= 1;
            if fault.times == 0 {
                self.faults.remove(at);
            }
            self.failures += 1;
            return Some(outcome);
        }
        None
    }

    /// The same for calls that cannot be short.
    fn error(&mut self, call: Call, name: &OsStr) -> Result<(), Errno> {
        match self.fault(call, name) {
            Some(Outcome::Error(number)) => Err(Errno::from_i32(number)),
            Some(Outcome::Short(_)) => panic!("{call:?} cannot be short"),
            None => Ok(()),
        }
    }

    fn writable(&mut self) -> Result<(), Errno> {
        if self.read_only {
            self.failures += 1;
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    fn name(&self, node: u64) -> OsString {
        self.names.get(&node).cloned().unwrap_or_default()
    }

    fn file(&mut self, node: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn folder(&self, node: u64) -> &Folder {
        match &self.nodes[&node] {
            Node::Folder(folder) => folder,
            Node::File(_) => panic!("the kernel looks for names in folders"),
        }
    }

    fn folder_mut(&mut self, node: u64) -> &mut Folder {
        match self.nodes.get_mut(&node) {
            Some(Node::Folder(folder)) => folder,
            _ => panic!("the kernel changes names in folders"),
        }
    }

    fn child(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.folder(parent).names.get(name).copied()
    }

    fn add(&mut self, parent: u64, name: &OsStr, node: Node) -> u64 {
        let number = self.nodes.len() as u64 + ROOT;
        self.nodes.insert(number, node);
        self.names.insert(number, name.to_owned());
        self.folder_mut(parent).names.insert(name.to_owned(), number);
        number
    }

    fn attributes(&self, node: u64) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = match self.nodes.get(&node).ok_or(Errno::ENOENT)? {
            Node::File(file) => (FileType::RegularFile, 0o644, file.seen.len() as u64),
            Node::Folder(_) => (FileType::Directory, 0o755, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(node),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn write(&mut self, node: u64, at: usize, data: &[u8]) -> Result<usize, Errno> {
        self.writable()?;
        let name = self.name(node);
        let data = match self.fault(Call::Write, &name) {
            Some(Outcome::Error(number)) => return Err(Errno::from_i32(number)),
            Some(Outcome::Short(bytes)) => &data[..bytes.min(data.len())],
            None => data,
        };
        let file = self.file(node)?;
        let end = at + data.len();
        if file.seen.len() < end {
            file.seen.resize(end, 0);
        }
        file.seen[at..end].copy_from_slice(data);
        file.dirty.push(at..end);
        Ok(data.len())
    }

    fn sync(&mut self, node: u64) -> Result<(), Errno> {
        let name = self.name(node);
        let failed = self.error(Call::Sync, &name);
        let file = self.file(node)?;
        let dirty = std::mem::take(&mut file.dirty);
        failed?;
        file.disk.resize(file.seen.len(), 0);
        for range in dirty {
            // The file may have been cut since.
            let range = range.start.min(file.seen.len())..range.end.min(file.seen.len());
            file.disk[range.clone()].copy_from_slice(&file.seen[range]);
        }
        Ok(())
    }

    fn lose_unsynced(&mut self) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => (file.seen, file.dirty) = (file.disk.clone(), Vec::new()),
                Node::Folder(folder) => folder.names = folder.disk.clone(),
            }
        }
    }
}

/// The kernel's side.
struct Mounted(Arc<Mutex<Tree>>);

/// The kernel asks each time: contents change behind its back at a power cut.
const NOT_KEPT: Duration = Duration::ZERO;

impl Mounted {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.0)
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&NOT_KEPT, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attributes(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&NOT_KEPT, &attributes),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.tree();
        let found = tree.child(parent.0, name).ok_or(Errno::ENOENT);
        entry(reply, found.and_then(|node| tree.attributes(node)));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        attributes(reply, self.tree().attributes(ino.0));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let result = tree.writable().and_then(|()| {
            if let Some(size) = size {
                tree.file(ino.0)?.seen.resize(size as usize, 0);
            }
            tree.attributes(ino.0)
        });
        attributes(reply, result);
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let mut tree = self.tree();
        let result = tree.writable().and_then(|()| {
            tree.error(Call::CreateFolder, name)?;
            let node = tree.add(parent.0, name, Node::Folder(Folder::default()));
            tree.attributes(node)
        });
        entry(reply, result);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut tree = self.tree();
        let result = tree.writable().and_then(|()| {
            tree.folder_mut(parent.0).names.remove(name).ok_or(Errno::ENOENT)?;
            Ok(())
        });
        empty(reply, result);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut tree = self.tree();
        let result = tree.writable().and_then(|()| {
            tree.error(Call::Rename, newname)?;
            let node = tree.folder_mut(parent.0).names.remove(name).ok_or(Errno::ENOENT)?;
            tree.names.insert(node, newname.to_owned());
            tree.folder_mut(newparent.0).names.insert(newname.to_owned(), node);
            Ok(())
        });
        empty(reply, result);
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut tree = self.tree();
        let name = tree.name(ino.0);
        let reads = flags.0 & libc::O_ACCMODE == libc::O_RDONLY;
        let result = if reads { Ok(()) } else { tree.writable() };
        match result.and_then(|()| tree.error(Call::Open, &name)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut tree = self.tree();
        let result = tree.writable().and_then(|()| {
            tree.error(Call::Open, name)?;
            let node = tree.child(parent.0, name);
            let node = node.unwrap_or_else(|| tree.add(parent.0, name, Node::File(File::default())));
            tree.attributes(node)
        });
        match result {
            Ok(attributes) => {
                reply.created(&NOT_KEPT, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.tree().file(ino.0) {
            Ok(file) => {
                let from = file.seen.len().min(offset as usize);
                let until = file.seen.len().min(from + size as usize);
                reply.data(&file.seen[from..until]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.tree().write(ino.0, offset as usize, data) {
            Ok(bytes) => reply.written(bytes as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(reply, self.tree().sync(ino.0));
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut tree = self.tree();
        let name = tree.name(ino.0);
        let result = tree.error(Call::SyncFolder, &name).map(|()| {
            let folder = tree.folder_mut(ino.0);
            folder.disk = folder.names.clone();
        });
        empty(reply, result);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let tree = self.tree();
        for (at, (name, node)) in tree.folder(ino.0).names.iter().enumerate().skip(offset as usize) {
            let kind = match tree.nodes[node] {
                Node::File(_) => FileType::RegularFile,
                Node::Folder(_) => FileType::Directory,
            };
            if reply.add(INodeNo(*node), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
