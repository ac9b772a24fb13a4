//! Files that belong to an operator and are replaced as a whole: the configuration file.
//!
//! ```text
//!   follow links  >  write NAME.PID.tmp beside it  >  owner, mode  >  sync  >  rename  >  sync the folder
//! ```
//!
//! Plain blocking calls; a shard has them made on its helper thread. Invariants: after a crash or an error there is the old file or the
//! new one; a link stays a link; mode and, where that is allowed, owner are those of the old file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use crate::config::Files;

/// The files of this machine, for whoever reads configurations.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineFiles;

impl Files for MachineFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }
}

/// Gives the file at `path` this content. If there is none it is made with mode 0644, less the umask.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        resolved => resolved?,
    };
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(temporary);
    let replaced = write(&temporary, &target, content).and_then(|()| fs::rename(&temporary, &target));
    if let Err(error) = replaced {
        // It may not have been made.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn write(temporary: &Path, target: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let mut file = match options.open(temporary) {
        // A crash has left it, and our number has come round.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(temporary)?;
            options.open(temporary)?
        }
        opened => opened?,
    };
    match fs::metadata(target) {
        Ok(old) => {
            // Before there is anything to read in it. Only root may give files away; the mode then still keeps strangers out.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_a_link_and_a_mode_a_mode() {
        let folder = std::env::temp_dir().join(format!("annulus-owned-{}", std::process::id()));
        fs::create_dir_all(folder.join("real")).unwrap();
        let (real, link) = (folder.join("real/a.conf"), folder.join("a.conf"));
        replace(&real, b"new").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new", "one that was not there is made");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real/a.conf", &link).unwrap();
        replace(&link, b"newer").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"newer");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.join("real")).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(replace(&folder.join("gone/a"), b"").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&folder).unwrap();
    }
}
