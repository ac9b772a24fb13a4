//! Files as a shard uses them: written and read over glommio's ring, named by blocking calls, beside a loop that goes on.
//! Errors keep the operating system's numbers.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus::rt::disk::{Disk, DiskFile, GlommioDisk, Open};
use annulus::rt::executor::{ExecutorConfig, start};

fn on_one_shard<T: Send + 'static, F: Future<Output = T> + 'static>(run: impl FnOnce() -> F + Send + 'static) -> T {
    let config = ExecutorConfig { shards: 1, pin: false, cores: Vec::new() };
    start(&config, vec![run], |_, run| run()).map_err(|error| error.to_string()).unwrap().join().remove(0)
}

/// A folder of its own that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("annulus-disk-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_written_is_read_and_the_buffer_comes_back() {
    let folder = Folder::new();
    let path = folder.0.join("log");
    let (there, at) = (path.clone(), path.clone());
    // More than one request's worth, and not a multiple of it.
    let bytes: Vec<u8> = (0..2_500_001u32).map(|n| (n % 251) as u8).collect();
    let expected = bytes.clone();
    on_one_shard(move || async move {
        let file = GlommioDisk.open(&at, Open::CreateNew).await.unwrap();
        let (back, written) = file.write_at(bytes, 0).await;
        written.unwrap();
        assert_eq!(back, expected);
        let (_, written) = file.write_at(b"tail".to_vec(), 2_500_001).await;
        written.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 2_500_005);
        assert_eq!(file.read_at(0, 2_500_001).await.unwrap(), expected);
        assert_eq!(file.read_at(2_500_000, 100).await.unwrap(), [expected[2_500_000], b't', b'a', b'i', b'l']);
        assert_eq!(file.read_at(2_500_005, 100).await.unwrap(), []);
        assert_eq!(file.read_at(9_000_000, 1).await.unwrap(), []);
        file.set_len(2_500_001).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 2_500_001);
        file.close().await;
    });
    assert_eq!(fs::metadata(there).unwrap().len(), 2_500_001);
}

#[test]
fn the_four_ways_to_open_differ_in_what_they_want_and_leave() {
    let folder = Folder::new();
    let at = folder.0.join("f");
    on_one_shard(move || async move {
        let kind = async |how| GlommioDisk.open(&at, how).await.map(drop).map_err(|error| error.kind());
        assert_eq!(kind(Open::Read).await, Err(io::ErrorKind::NotFound));
        assert_eq!(kind(Open::Write).await, Err(io::ErrorKind::NotFound));
        assert_eq!(kind(Open::CreateNew).await, Ok(()));
        assert_eq!(kind(Open::CreateNew).await, Err(io::ErrorKind::AlreadyExists));
        fs::write(&at, "old").unwrap();
        assert_eq!(kind(Open::Read).await, Ok(()));
        assert_eq!(kind(Open::Write).await, Ok(()));
        assert_eq!(fs::read(&at).unwrap(), b"old");
        assert_eq!(kind(Open::Replace).await, Ok(()));
        assert_eq!(fs::read(&at).unwrap(), b"");
        let file = GlommioDisk.open(&at, Open::Read).await.unwrap();
        let (bytes, refused) = file.write_at(b"x".to_vec(), 0).await;
        assert_eq!((bytes.as_slice(), refused.unwrap_err().raw_os_error()), (&b"x"[..], Some(9)), "EBADF");
    });
}

#[test]
fn names_change_and_a_file_keeps_its_length_under_another_name() {
    let folder = Folder::new();
    let home = folder.0.clone();
    on_one_shard(move || async move {
        let disk = GlommioDisk;
        let inner = home.join("a/b");
        disk.create_dir_all(&inner).await.unwrap();
        disk.create_dir_all(&inner).await.unwrap();
        let (old, new) = (inner.join("old"), inner.join("new"));
        let file = disk.open(&old, Open::CreateNew).await.unwrap();
        file.write_at(b"seven b".to_vec(), 0).await.1.unwrap();
        fs::write(&new, "in the way").unwrap();
        assert_eq!(disk.list(&inner).await.unwrap(), ["new", "old"]);
        disk.rename(&old, &new).await.unwrap();
        fs::write(&old, "another file").unwrap();
        disk.sync_dir(&inner).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 7);
        assert!(disk.exists(&new).await.unwrap());
        disk.remove(&new).await.unwrap();
        assert!(!disk.exists(&new).await.unwrap());
        // Its name is gone; the file is not.
        assert_eq!(file.read_at(0, 7).await.unwrap(), b"seven b");
        assert_eq!(disk.remove(&new).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.list(&new).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.sync_dir(&new).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_full_disk_says_so_and_nothing_is_lost_from_the_buffer() {
    on_one_shard(|| async {
        // The kernel's device that is always full.
        let file = GlommioDisk.open("/dev/full".as_ref(), Open::Write).await.unwrap();
        let (bytes, refused) = file.write_at(b"whole".to_vec(), 0).await;
        assert_eq!((bytes.as_slice(), refused.unwrap_err().raw_os_error()), (&b"whole"[..], Some(28)), "ENOSPC");
    });
}
