//! What the subcommands that write files share: reading manifests, copying beginnings of files, and errors that name the file.
//!
//! Plain blocking calls on the thread that started the program. Invariants: nothing that is there is changed or replaced; what was
//! written is on the disk before its manifest is, and the manifest comes last, so a folder without one is one that was not finished.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::check::sets::manifests;
use super::source::Source;
use crate::persist::aof::epochs::{FileScan, FileSum};
use crate::persist::aof::manifest::Manifest;
use crate::persist::aof::scan::Limits;
use crate::persist::manifest_lines::ManifestError;

/// Why a subcommand gave up. `Display` is one line.
#[derive(Debug)]
pub(super) enum ToolError {
    /// The operating system refused.
    Io(PathBuf, io::Error),
    /// A manifest is none.
    Manifest(PathBuf, ManifestError),
    /// What is there cannot be used for what was asked.
    Refused(PathBuf, String),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            ToolError::Manifest(path, error) => write!(f, "{}: {error}", path.display()),
            ToolError::Refused(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for ToolError {}

/// Names the file of an error.
pub(super) trait At<T> {
    fn at(self, path: &Path) -> Result<T, ToolError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, ToolError> {
        self.map_err(|error| ToolError::Io(path.to_owned(), error))
    }
}

/// Refuses, with a reason.
pub(super) fn refused<T>(path: &Path, why: impl Into<String>) -> Result<T, ToolError> {
    Err(ToolError::Refused(path.to_owned(), why.into()))
}

/// The manifest that a path means: itself, or the only one of a folder.
pub(super) fn manifest_at(path: &Path) -> Result<PathBuf, ToolError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    match manifests(path).at(path)?.as_slice() {
        [one] => Ok(one.clone()),
        [] => refused(path, "a folder without a manifest"),
        _ => refused(path, "there is more than one manifest in this folder; name the one you mean"),
    }
}

/// Reads a manifest of logs.
pub(super) fn read_manifest(path: &Path) -> Result<Manifest, ToolError> {
    Manifest::parse(&fs::read(path).at(path)?).map_err(|error| ToolError::Manifest(path.to_owned(), error))
}

/// Sums up the commands of a file from this offset on.
pub(super) fn sum_file(path: &Path, offset: u64) -> Result<FileSum, ToolError> {
    let mut source = Source::open_at(path, offset).at(path)?;
    // As in `check`: the file is there, whatever our server would allow.
    let mut scan = FileScan::new(offset, Limits { bulk_bytes_max: u64::from(u32::MAX), ..Limits::default() });
    while !source.piece().is_empty() {
        scan.feed(source.piece());
        source.advance().at(path)?;
    }
    Ok(scan.finish())
}

/// Makes a folder that must not be there yet.
pub(super) fn new_folder(path: &Path) -> Result<(), ToolError> {
    fs::create_dir(path).at(path)
}

/// Makes a file that must not be there yet.
pub(super) fn new_file(path: &Path) -> Result<File, ToolError> {
    OpenOptions::new().write(true).create_new(true).open(path).at(path)
}

/// Gives each piece of `from` in this range away.
pub(super) fn each_piece(
    from: &Path,
    range: std::ops::Range<u64>,
    mut each: impl FnMut(&[u8]) -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let mut source = Source::open_at(from, range.start).at(from)?;
    let mut left = range.end - range.start;
    while left > 0 {
        if source.piece().is_empty() {
            return Err(ToolError::Io(from.to_owned(), io::ErrorKind::UnexpectedEof.into()));
        }
        let some = (source.piece().len() as u64).min(left);
        each(&source.piece()[..some as usize])?;
        left -= some;
        source.advance().at(from)?;
    }
    Ok(())
}

/// Copies the first bytes of a file to a new one, and makes them durable.
pub(super) fn copy_beginning(from: &Path, to: &Path, len: u64) -> Result<(), ToolError> {
    let mut file = new_file(to)?;
    each_piece(from, 0..len, |piece| file.write_all(piece).at(to))?;
    file.sync_all().at(to)
}

/// Writes a small new file, and makes it and all names of its folder durable.
pub(super) fn finish_with(path: &Path, content: &[u8]) -> Result<(), ToolError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // First the names of what it tells of.
    sync_folder(folder)?;
    let mut file = new_file(path)?;
    file.write_all(content).at(path)?;
    file.sync_all().at(path)?;
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), ToolError> {
    File::open(folder).and_then(|folder| folder.sync_all()).at(folder)
}
