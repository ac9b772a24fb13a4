//! `annulus check PATH`: looks at a file of data without loading it, and says what is in it and where damage starts.
//!
//! ```text
//!   PATH ──> kind ──┬──> rdb     each checker reads the file through a Source, piece by piece,
//!                   ├──> aof     and writes what it finds for people
//!                   └──> sets    a manifest, or a folder with one: checks what it names
//! ```
//!
//! An offline tool: it runs on the thread that started the program, with plain blocking reads; no executor, no ring, no shard, and
//! nothing is changed. A file of any size takes the memory of its largest value, and some bytes for each key. On a terminal, long files
//! have a progress bar.
//!
//! Exit code 0 if all is whole, 1 if something is damaged, of no use here, or cannot be read. Absent on purpose: repair.

mod aof;
mod rdb;
pub(super) mod sets;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::source::Source;
use crate::base::time::Millis;

/// Checks what is at this path. `now` says what has expired.
pub fn run(path: &Path, now: Millis) -> ExitCode {
    let mut out = Vec::new();
    let verdict = check(path, now, &mut out);
    // A closed pipe is the reader's wish.
    let _ = io::stdout().write_all(&out);
    match verdict {
        Ok(Verdict::Whole) => ExitCode::SUCCESS,
        Ok(Verdict::NotWhole) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: cannot be read: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// How a check ended, if it could be made at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Whole,
    /// Damaged, or not loaded by this server for another reason that was written.
    NotWhole,
}

impl Verdict {
    fn and(self, other: Verdict) -> Verdict {
        if self == Verdict::Whole { other } else { self }
    }
}

/// What kinds of files there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rdb,
    Commands,
    Manifest,
    Unknown,
}

impl Kind {
    /// By its first bytes; what may be empty, or begin with a remark, also by its name.
    fn of(start: &[u8], path: &Path) -> Kind {
        let is_called = |end: &str| path.to_string_lossy().ends_with(end);
        match start {
            [b'R', b'E', b'D', b'I', b'S', ..] | [b'V', b'A', b'L', b'K', b'E', b'Y', ..] => Kind::Rdb,
            _ if is_called(".manifest") => Kind::Manifest,
            [b'*', ..] => Kind::Commands,
            [] | [b'#', ..] if is_called(".aof") => Kind::Commands,
            _ if [&b"#EPOCH:"[..], b"#TS:", b"#TXN:"].iter().any(|line| start.starts_with(line)) => Kind::Commands,
            _ => Kind::Unknown,
        }
    }
}

fn check(path: &Path, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    if path.is_dir() {
        return sets::check_folder(path, now, out);
    }
    let mut source = Source::open(path)?;
    let kind = Kind::of(source.piece(), path);
    check_file(kind, &mut source, path, now, out)
}

fn check_file(kind: Kind, source: &mut Source, path: &Path, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    match kind {
        Kind::Rdb => rdb::check(source, path, now, out),
        Kind::Commands => aof::check(source, path, 0, out),
        Kind::Manifest => sets::check_manifest(path, now, out),
        Kind::Unknown => {
            writeln!(
                out,
                "{}: of no kind that can be checked: an RDB file begins with REDIS and four digits, or VALKEY and three; an \
                 append-only file with '*'; and the name of a manifest ends with .manifest",
                path.display()
            )?;
            Ok(Verdict::NotWhole)
        }
    }
}

/// A number with its thing in the singular or plural: `1 key`, `2 keys`.
fn counted(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A file that goes away with its value.
    pub(super) struct Sample(PathBuf);

    impl Sample {
        pub(super) fn new(name: &str, bytes: &[u8]) -> Sample {
            let path = std::env::temp_dir().join(format!("annulus-check-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).expect("the temporary folder is writable");
            Sample(path)
        }
    }

    impl Drop for Sample {
        fn drop(&mut self) {
            // What stays behind is litter in the temporary folder, not a failed test.
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// The verdict and the words, with the path as PATH.
    pub(super) fn checked(name: &str, bytes: &[u8]) -> (Verdict, String) {
        let sample = Sample::new(name, bytes);
        let mut out = Vec::new();
        let verdict = check(&sample.0, Millis(1_000_000), &mut out).expect("it can be read");
        let words = String::from_utf8(out).expect("words");
        (verdict, words.replace(&sample.0.display().to_string(), "PATH"))
    }

    #[test]
    fn what_is_of_no_known_kind_is_said_to_be_so() {
        for (name, bytes) in [("empty", &b""[..]), ("text", b"hello"), ("short", b"REDI")] {
            let (verdict, words) = checked(name, bytes);
            assert_eq!(verdict, Verdict::NotWhole);
            assert!(words.starts_with("PATH: of no kind that can be checked"), "{words}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(check(Path::new("/nowhere/at/all"), Millis(0), &mut Vec::new()).is_err());
    }
}
