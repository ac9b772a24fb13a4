//! `annulus restore --to TIME FROM TO`: what the logs say the store was at an instant, as new files. The old ones are not touched.
//!
//! ```text
//!   FROM/  base  #EPOCH:7  #EPOCH:8 │ #EPOCH:9          TO/  base  #EPOCH:7  #EPOCH:8
//!          base  #EPOCH:7  #EPOCH:8 │ #EPOCH:9               base  #EPOCH:7  #EPOCH:8
//!                                   └ TIME
//! ```
//!
//! Logs of a set are cut behind the largest epoch that all of them hold and that was closed at or before the instant: one point of the
//! whole store, to a tenth of a second. A log of Redis with `aof-timestamp-enabled` is cut before the first of its lines with a later
//! time, to a second; FROM and TO are then folders, or both a single file.
//!
//! The state cannot be older than the bases: if the instant comes before the first epoch, or the first line of time, nobody knows
//! whether the bases do too, and it is refused. Damage behind the cut does not matter.
//!
//! An offline tool on the thread that started the program. Absent on purpose: changing a folder in place; a server may be using it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::files::{
    At, ToolError, copy_beginning, finish_with, manifest_at, new_folder, read_manifest, refused, sum_file, sync_folder,
};
use super::source::Source;
use super::{instant, rdb_end};
use crate::persist::aof::epochs::{Ending, FileSum, Place, common_cut};
use crate::persist::aof::manifest::{Manifest, begins_as_rdb};

/// What was asked for.
#[derive(Debug)]
pub struct Restore {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// A folder of logs, its manifest, or one file.
    pub from: std::path::PathBuf,
    /// The new folder or file.
    pub to: std::path::PathBuf,
}

/// Writes the new files.
pub fn run(asked: &Restore) -> ExitCode {
    match restore(asked) {
        Ok(words) => {
            // A closed pipe is the reader's wish.
            let _ = io::stdout().write_all(words.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn restore(asked: &Restore) -> Result<String, ToolError> {
    let from = manifest_at(&asked.from)?;
    if Source::open(&from).at(&from)?.len() == 0 {
        return refused(&from, "empty: there is nothing to go back to");
    }
    let is_file = from == asked.from && from.extension().is_none_or(|extension| extension != "manifest");
    if is_file { restore_file(asked) } else { restore_folder(&from, asked) }
}

fn restore_folder(manifest_path: &Path, asked: &Restore) -> Result<String, ToolError> {
    let manifest = read_manifest(manifest_path)?;
    let folder = manifest_path.parent().unwrap_or(Path::new(""));
    let mut logs = Vec::new();
    for stream in &manifest.streams {
        let sums = stream.incremental.iter().map(|file| sum_file(&file.name.in_folder(folder), 0));
        logs.push(sums.collect::<Result<Vec<FileSum>, ToolError>>()?);
    }
    let (places, words) = match manifest.set {
        Some(set) => {
            let cut = common_cut(set.epoch, &logs, Some(asked.unix_ms))
                .or_else(|error| refused(manifest_path, error.to_string()))?;
            let Some(closed) = cut.unix_ms else {
                let first = logs.iter().filter_map(|files| files.iter().flat_map(|sum| &sum.epochs).next());
                return too_early(manifest_path, first.map(|closed| closed.epoch.unix_ms).min());
            };
            (cut.places, format!("epoch {}, closed at {}", cut.epoch, instant::print(closed)))
        }
        None => {
            let place = place_in_stream(&logs[0], asked.unix_ms, manifest_path)?;
            (vec![place], format!("what was written by {}", instant::print(asked.unix_ms)))
        }
    };

    let name = manifest_path.file_name().expect("it was read").to_owned();
    let mut restored = Manifest { set: manifest.set, streams: Vec::new() };
    new_folder(&asked.to)?;
    for ((stream, sums), place) in manifest.streams.into_iter().zip(&logs).zip(&places) {
        let mut stream = stream;
        stream.history.clear();
        stream.incremental.truncate(place.file + 1);
        if let Some(base) = &stream.base {
            let from = base.name.in_folder(folder);
            let len = Source::open(&from).at(&from)?.len();
            copy_beginning(&from, &base.name.in_folder(&asked.to), len)?;
        }
        for (at, file) in stream.incremental.iter().enumerate() {
            let len = if at == place.file { place.end } else { sums[at].len };
            copy_beginning(&file.name.in_folder(folder), &file.name.in_folder(&asked.to), len)?;
        }
        restored.streams.push(stream);
    }
    finish_with(&asked.to.join(name), &restored.print())?;
    if let Some(parent) = asked.to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_folder(parent)?;
    }
    Ok(format!("{}: {words}\n", asked.to.display()))
}

fn restore_file(asked: &Restore) -> Result<String, ToolError> {
    let is_rdb = begins_as_rdb(Source::open(&asked.from).at(&asked.from)?.piece());
    let offset = if is_rdb { rdb_end::find(&asked.from)? } else { 0 };
    let sum = sum_file(&asked.from, offset)?;
    let epochs = sum.epochs.iter().rfind(|closed| closed.epoch.unix_ms <= asked.unix_ms);
    let (end, words) = match epochs {
        Some(closed) => {
            let words = format!("epoch {}, closed at {}", closed.epoch.number, instant::print(closed.epoch.unix_ms));
            (closed.end, words)
        }
        None if !sum.epochs.is_empty() => {
            return too_early(&asked.from, sum.epochs.first().map(|closed| closed.epoch.unix_ms));
        }
        None => {
            let place = place_in_stream(&[sum], asked.unix_ms, &asked.from)?;
            (place.end, format!("what was written by {}", instant::print(asked.unix_ms)))
        }
    };
    copy_beginning(&asked.from, &asked.to, end)?;
    Ok(format!("{}: {words}\n", asked.to.display()))
}

/// Where the log of a Redis comes to a later time.
fn place_in_stream(sums: &[FileSum], unix_ms: u64, path: &Path) -> Result<Place, ToolError> {
    let first = sums.iter().flat_map(|sum| &sum.times).next();
    match first.map(|time| time.unix_s.saturating_mul(1000)) {
        None => {
            return refused(path, "there is no line of time in it (aof-timestamp-enabled was off), so nowhere to cut");
        }
        Some(first) if first > unix_ms => return too_early(path, Some(first)),
        Some(_) => {}
    }
    let mut place = Place { file: 0, end: 0 };
    for (file, sum) in sums.iter().enumerate() {
        let later = sum.times.iter().find(|time| time.unix_s.saturating_mul(1000) > unix_ms);
        place = Place { file, end: later.map_or(sum.valid_up_to, |time| time.at) };
        if later.is_some() || sum.ending != Ending::Whole {
            break;
        }
    }
    Ok(place)
}

fn too_early<T>(path: &Path, first_ms: Option<u64>) -> Result<T, ToolError> {
    let first = first_ms.map_or_else(|| "nothing".to_owned(), instant::print);
    refused(path, format!("the logs go back to {first} and no further"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::aof::annotation::{Epoch, push_epoch, push_time};
    use crate::persist::aof::effect::push_command;
    use std::fs;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &[u8])]) -> Folder {
            let folder = std::env::temp_dir().join(format!("annulus-restore-{}-{name}", std::process::id()));
            fs::create_dir_all(folder.join("from")).expect("the temporary folder is writable");
            for (name, content) in files {
                fs::write(folder.join("from").join(name), content).expect("the folder is writable");
            }
            Folder(folder)
        }

        fn restored(&self, from: &str, to: &str, unix_ms: u64) -> Result<String, String> {
            let asked = Restore { unix_ms, from: self.0.join(from), to: self.0.join(to) };
            let shown = format!("{}/", self.0.display());
            restore(&asked)
                .map_err(|error| error.to_string().replace(&shown, ""))
                .map(|words| words.replace(&shown, ""))
        }

        fn read(&self, path: &str) -> Vec<u8> {
            fs::read(self.0.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // What stays behind is litter in the temporary folder, not a failed test.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A command and an epoch for each number; epoch n is closed at 1000 + n milliseconds.
    fn log(epochs: &[u64]) -> Vec<u8> {
        let mut log = Vec::new();
        for number in epochs {
            push_command(&mut log, [&b"SET"[..], b"k", number.to_string().as_bytes()]);
            push_epoch(&mut log, Epoch { number: *number, unix_ms: 1000 + number });
        }
        log
    }

    fn timed(seconds: &[u64]) -> Vec<u8> {
        let mut log = Vec::new();
        for second in seconds {
            push_time(&mut log, *second);
            push_command(&mut log, [&b"SET"[..], b"k", second.to_string().as_bytes()]);
        }
        log
    }

    #[test]
    fn a_set_goes_back_to_the_last_epoch_by_then() {
        let manifest = b"# annulus shards 2 generation 3 epoch 5 files 6\nfile base seq 3 type b shard 0\n\
            file gone seq 1 type h shard 1\nfile one seq 3 type i shard 0\nfile one-more seq 4 type i shard 0\n\
            file two seq 3 type i shard 1\nfile two-more seq 4 type i shard 1\n";
        let mut damaged = log(&[8, 9]);
        damaged.extend_from_slice(b"rot");
        let files: [(&str, &[u8]); 6] = [
            ("m.manifest", manifest),
            ("base", b"REDIS..."),
            ("one", &log(&[6, 7, 8])),
            ("one-more", &log(&[9])),
            ("two", &log(&[6, 7])),
            ("two-more", &damaged),
        ];
        let folder = Folder::new("set", &files);
        let words = folder.restored("from", "to8", 1008).unwrap();
        assert_eq!(words, "to8: epoch 8, closed at 1970-01-01T00:00:01.008Z\n");
        assert_eq!(folder.read("to8/base"), b"REDIS...");
        assert_eq!(folder.read("to8/one"), log(&[6, 7, 8]));
        assert_eq!((folder.read("to8/two"), folder.read("to8/two-more")), (log(&[6, 7]), log(&[8])));
        let manifest = Manifest::parse(&folder.read("to8/m.manifest")).unwrap();
        assert_eq!(manifest.streams.iter().map(|stream| stream.incremental.len()).collect::<Vec<_>>(), [1, 2]);
        assert!(manifest.streams[1].history.is_empty());

        folder.restored("from/m.manifest", "to7", 1007).unwrap();
        assert_eq!((folder.read("to7/one"), folder.read("to7/two")), (log(&[6, 7]), log(&[6, 7])));
        folder.restored("from", "to9", 99_999).unwrap();
        assert_eq!((folder.read("to9/one-more"), folder.read("to9/two-more")), (log(&[9]), log(&[8, 9])));
        for (name, content) in files {
            assert_eq!(folder.read(&format!("from/{name}")), content, "the old files are as they were");
        }

        let early = "from/m.manifest: the logs go back to 1970-01-01T00:00:01.006Z and no further";
        assert_eq!(folder.restored("from", "to5", 1005), Err(early.to_owned()));
        assert!(!folder.0.join("to5").exists());
        assert!(folder.restored("from", "to8", 1008).unwrap_err().starts_with("to8: File exists"));
    }

    #[test]
    fn a_log_of_redis_goes_back_to_its_lines_of_time() {
        let manifest = b"file a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\n";
        let (first, second) = (timed(&[100, 102]), timed(&[103, 105]));
        let folder = Folder::new(
            "redis",
            &[("m.manifest", manifest), ("a.1.incr.aof", &first), ("a.2.incr.aof", &second), ("one.aof", &first)],
        );
        folder.restored("from", "to", 104_999).unwrap();
        assert_eq!((folder.read("to/a.1.incr.aof"), folder.read("to/a.2.incr.aof")), (first.clone(), timed(&[103])));
        assert_eq!(folder.read("to/m.manifest"), manifest);
        folder.restored("from", "earlier", 101_000).unwrap();
        assert_eq!(folder.read("earlier/a.1.incr.aof"), timed(&[100]));
        assert_eq!(folder.read("earlier/m.manifest"), b"file a.1.incr.aof seq 1 type i\n");

        folder.restored("from/one.aof", "one.aof", 101_999).unwrap();
        assert_eq!(folder.read("one.aof"), timed(&[100]));
        let early = "from/one.aof: the logs go back to 1970-01-01T00:01:40Z and no further".to_owned();
        assert_eq!(folder.restored("from/one.aof", "none", 99_999), Err(early));
    }

    #[test]
    fn a_log_without_times_and_epochs_is_refused() {
        let mut log = Vec::new();
        push_command(&mut log, [&b"SET"[..], b"k", b"v"]);
        let rdb = b"REDIS0009\xff\0\0\0\0\0\0\0\0";
        let timed = [&rdb[..], &timed(&[5, 7])].concat();
        let folder = Folder::new("none", &[("a.aof", &log), ("empty.aof", b""), ("rdb.aof", &timed)]);
        assert!(folder.restored("from/a.aof", "to", 1).unwrap_err().contains("no line of time"));
        assert!(folder.restored("from/empty.aof", "to", 1).unwrap_err().contains("empty"));
        assert!(folder.restored("from", "to", 1).unwrap_err().contains("a folder without a manifest"));
        assert!(folder.restored("nowhere", "to", 1).unwrap_err().starts_with("nowhere: "));
        folder.restored("from/rdb.aof", "rdb.aof", 6000).unwrap();
        assert_eq!(folder.read("rdb.aof"), [&rdb[..], &super::tests::timed(&[5])].concat());
    }
}
