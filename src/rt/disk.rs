//! Files, as whoever writes logs and snapshots sees them: a trait, and its implementation on this machine's disk.
//!
//! ```text
//!   log writer, snapshot writer, loader ──> Disk, DiskFile ──┬── GlommioDisk    here: glommio's ring, and its helper thread
//!                                                            └── SimDisk        `persist::sim_disk`: memory, crashes, full disks
//! ```
//!
//! A disk and its files belong to one shard and stay on its thread; every call is a future of its executor. A file's writes and
//! syncs that are awaited one after the other happen in that order; what runs at the same time has no order.
//!
//! # What is durable when
//!
//! - Bytes of a file: when a [`DiskFile::sync_data`] that began after their write has succeeded. If one fails, nobody knows what of
//!   the file's unsynced bytes is on the disk, and a later success says nothing about them: the kernel forgets dirty pages that it
//!   failed to write. Write them again, to another place, or stop.
//! - A name (a file that was created, renamed or removed): when a [`Disk::sync_dir`] of its folder has succeeded.
//!
//! # Why descriptors are the standard library's
//!
//! glommio's `BufferedFile` closes by a ring that is not entered again when a shard ends, and asks for a file's length by its path,
//! which is another file's after a rename. So the descriptor is ours and glommio's file only borrows it. Reads, writes and syncs
//! go over glommio's ring; opening, truncating, closing (it may free gigabytes of blocks) and everything with names is a blocking
//! call on the executor's helper thread, one at a time.
//!
//! Invariant: a write is whole or an error. Absent on purpose: buffering, knowledge of what is written, and direct I/O: a log's small
//! writes and a loader's single pass over a file both gain from the page cache.
#![expect(unsafe_code, reason = "glommio's file borrows a descriptor")]

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use glommio::GlommioError;
use glommio::io::BufferedFile;

use crate::rt::background::blocking;

/// The most bytes that one request to the kernel carries: bounds the copy of a write and the buffer of a read.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// How a file is opened. All ways but the first give a file that can be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To read. NotFound if there is none.
    Read,
    /// One that is there, to go on writing it. NotFound if there is none.
    Write,
    /// One that must not be there yet: AlreadyExists if it is.
    CreateNew,
    /// Empty, whether it was there or not.
    Replace,
}

/// Where files are. All errors are the operating system's, with their numbers (ENOSPC, EIO) kept.
pub trait Disk {
    /// An open file.
    type File: DiskFile;

    /// Opens a file. A new one's name is durable after [`Disk::sync_dir`].
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = io::Result<Self::File>>;

    /// Gives a file another name, in place of what had that name before.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Removes a file's name. Who has it open goes on with it.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// The names in a folder, sorted.
    fn list(&self, folder: &Path) -> impl Future<Output = io::Result<Vec<OsString>>>;

    /// Creates a folder, and those above it, unless they are there.
    fn create_dir_all(&self, folder: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes the names of a folder durable.
    fn sync_dir(&self, folder: &Path) -> impl Future<Output = io::Result<()>>;

    /// Whether the name exists.
    fn exists(&self, path: &Path) -> impl Future<Output = io::Result<bool>>;
}

/// An open file. A future that is dropped may have done its work or not.
#[expect(clippy::len_without_is_empty, reason = "a question to the disk, which nobody would ask instead")]
pub trait DiskFile {
    /// Writes all bytes at this offset and gives the buffer back, as it was, also beside an error: then any part of the bytes
    /// may have been written.
    fn write_at(&self, bytes: Vec<u8>, offset: u64) -> impl Future<Output = (Vec<u8>, io::Result<()>)>;

    /// Reads `len` bytes at this offset; fewer only where the file ends.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Vec<u8>>>;

    /// Makes what was written, and the file's length, durable. See the module's text for what a failure means.
    fn sync_data(&self) -> impl Future<Output = io::Result<()>>;

    /// The file's length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>>;

    /// Cuts the file, or fills it with zeros, to this length.
    fn set_len(&self, len: u64) -> impl Future<Output = io::Result<()>>;

    /// Closes the file without syncing it. Dropping it does the same on the shard's own thread, which may take long.
    fn close(self) -> impl Future<Output = ()>;
}

/// The files of this machine. Lives on a shard's executor.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlommioDisk;

/// A file of [`GlommioDisk`].
#[derive(Debug)]
pub struct GlommioFile {
    // Before the descriptor, which it borrows: fields are dropped in this order.
    ring: Rc<ManuallyDrop<BufferedFile>>,
    descriptor: Arc<fs::File>,
}

impl Disk for GlommioDisk {
    type File = GlommioFile;

    async fn open(&self, path: &Path, how: Open) -> io::Result<GlommioFile> {
        let path = path.to_owned();
        let opened = blocking(move || {
            let mut options = fs::OpenOptions::new();
            options.read(true).write(how != Open::Read);
            options.create_new(how == Open::CreateNew).create(how == Open::Replace).truncate(how == Open::Replace);
            options.open(path)
        });
        let descriptor = Arc::new(opened.await?);
        // SAFETY: the file only borrows the descriptor: it never closes it (`ManuallyDrop`), and whoever uses it holds the owner.
        let ring = Rc::new(ManuallyDrop::new(unsafe { BufferedFile::from_raw_fd(descriptor.as_raw_fd()) }));
        Ok(GlommioFile { ring, descriptor })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let folder = folder.to_owned();
        blocking(move || {
            let mut names: Vec<OsString> =
                fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        let folder = folder.to_owned();
        blocking(move || fs::create_dir_all(folder)).await
    }

    async fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let folder = folder.to_owned();
        blocking(move || fs::File::open(folder)?.sync_all()).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        let path = path.to_owned();
        blocking(move || path.try_exists()).await
    }
}

impl DiskFile for GlommioFile {
    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            let end = bytes.len().min(written + REQUEST_BYTES_MAX);
            // A copy, since glommio does not give a buffer back, and what a short write left or an error refused is still needed.
            let part = bytes[written..end].to_vec();
            match self.ring.write_at(part, offset + written as u64).await.map_err(plain) {
                Ok(0) => return (bytes, Err(io::ErrorKind::WriteZero.into())),
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (bytes, Err(error)),
            }
        }
        (bytes, Ok(()))
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len.min(REQUEST_BYTES_MAX));
        while bytes.len() < len {
            let wanted = (len - bytes.len()).min(REQUEST_BYTES_MAX);
            match self.ring.read_at(offset + bytes.len() as u64, wanted).await.map_err(plain) {
                Ok(part) if part.is_empty() => break,
                Ok(part) => bytes.extend_from_slice(&part),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    async fn sync_data(&self) -> io::Result<()> {
        loop {
            match self.ring.fdatasync().await.map_err(plain) {
                // Nothing was tried yet.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    async fn len(&self) -> io::Result<u64> {
        // What the kernel holds of an open file in memory: this does not wait for the disk.
        Ok(self.descriptor.metadata()?.len())
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        let descriptor = Arc::clone(&self.descriptor);
        blocking(move || descriptor.set_len(len)).await
    }

    async fn close(self) {
        let GlommioFile { ring, descriptor } = self;
        drop(ring);
        blocking(move || drop(descriptor)).await;
    }
}

/// The operating system's error, with its number. glommio's own conversion makes a text of it.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}
