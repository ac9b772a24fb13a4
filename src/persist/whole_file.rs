//! Small files that are replaced as a whole: after a crash there is the old one or the new one, never a part of either.
//!
//! ```text
//!   write temp-NAME  >  sync it  >  rename it to NAME  >  sync the folder
//! ```
//!
//! Manifests change this way, and at the end of it the change is durable. Runs on the shard that owns the folder's files; nobody else
//! may replace the same name at the same time. Absent on purpose: locks; the temporary file of a crash is written over by the next
//! replacement.

use std::io;
use std::path::Path;

use crate::rt::disk::{Disk, DiskFile, Open};

/// The longest file that [`read`] takes, bytes: a manifest of 256 shards has 100 KiB.
const BYTES_MAX: u64 = 64 << 20;

/// Gives `path` this content. After an error it has the old content or the new one, and a crash may still change which.
pub async fn replace(disk: &impl Disk, path: &Path, content: Vec<u8>) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut temporary = std::ffi::OsString::from("temp-");
    temporary.push(name);
    let temporary = folder.join(temporary);
    let file = disk.open(&temporary, Open::Replace).await?;
    let written = match file.write_at(content, 0).await.1 {
        Ok(()) => file.sync_data().await,
        Err(error) => Err(error),
    };
    file.close().await;
    let renamed = match written {
        Ok(()) => disk.rename(&temporary, path).await,
        Err(error) => Err(error),
    };
    if let Err(error) = renamed {
        // In the way of nothing: the next replacement writes over it.
        let _ = disk.remove(&temporary).await;
        return Err(error);
    }
    disk.sync_dir(folder).await
}

/// The content of a small file.
pub async fn read(disk: &impl Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read).await?;
    let len = file.len().await;
    let content = match len {
        Ok(len) if len > BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(len) => file.read_at(0, len as usize).await,
        Err(error) => Err(error),
    };
    file.close().await;
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::sim_disk::{Call, EIO, ENOSPC, SimDisk};

    const PATH: &str = "d/m";

    async fn replaced(disk: &SimDisk, content: &[u8]) -> io::Result<()> {
        replace(disk, PATH.as_ref(), content.to_vec()).await
    }

    #[test]
    fn a_crash_at_any_call_leaves_the_old_or_the_new_file() {
        let (old, new) = (vec![b'o'; 3000], vec![b'n'; 2000]);
        let mut seen = [0; 2];
        for seed in 0..100 {
            for calls in 0..12 {
                let disk = SimDisk::new(seed);
                disk.put(PATH, &old);
                disk.set_delays(2);
                disk.halt_after(calls);
                let done = disk.drive(replaced(&disk, &new));
                let after = if seed % 4 == 0 { disk.kill() } else { disk.crash() };
                let content = after.content(PATH).expect("one of the two");
                assert!(content == old || content == new, "seed {seed}, {calls} calls: {}", content.escape_ascii());
                if let Some(done) = done {
                    assert!(done.is_ok() && content == new, "seed {seed}, {calls} calls: not durable");
                }
                seen[usize::from(content == new)] += 1;
                let content = after.drive(async { replaced(&after, b"x").await.map(|()| after.content(PATH)) });
                assert_eq!(content.unwrap().unwrap(), Some(b"x".to_vec()), "what a crash left is in nobody's way");
            }
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }

    #[test]
    fn a_disk_that_fails_leaves_the_old_file() {
        for (call, errno) in [(Call::Write, ENOSPC), (Call::Sync, EIO), (Call::Open, EIO), (Call::Name, EIO)] {
            let disk = SimDisk::new(1);
            disk.put(PATH, b"old");
            disk.fail(call, 0, 1, errno);
            let error = disk.drive(replaced(&disk, b"new")).unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{call:?}");
            assert_eq!((disk.content(PATH), disk.files().len()), (Some(b"old".to_vec()), 1), "{call:?}");
        }
    }

    #[test]
    fn what_was_replaced_is_read() {
        let disk = SimDisk::new(1);
        disk.put(PATH, b"");
        let content = disk.drive(async {
            replaced(&disk, b"content").await?;
            read(&disk, PATH.as_ref()).await
        });
        assert_eq!(content.unwrap().unwrap(), b"content");
        assert_eq!(disk.drive(read(&disk, "none".as_ref())).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
