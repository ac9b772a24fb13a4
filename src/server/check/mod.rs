//! `annulus check PATH`: looks at a file of data without loading it, and says what is in it and where damage starts.
//!
//! ```text
//!   PATH ──> kind (by its first bytes) ──> rdb       each checker reads the file through a Source, piece by piece,
//!                                                    and writes what it finds for people
//! ```
//!
//! An offline tool: it runs on the thread that started the program, with plain blocking reads; no executor, no ring, no shard, and
//! nothing is changed. A file of any size takes the memory of its largest value, and some bytes for each key. On a terminal, long files
//! have a progress bar.
//!
//! Exit code 0 if all is whole, 1 if something is damaged, of no use here, or cannot be read. Absent on purpose: repair.

mod rdb;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::time::Millis;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;
/// From this size on a progress bar is worth its lines.
const LONG_FILE_BYTES: u64 = 256 << 20;

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

/// What kinds of files there are, by their first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rdb,
    Unknown,
}

impl Kind {
    fn of(start: &[u8]) -> Kind {
        match start {
            [b'R', b'E', b'D', b'I', b'S', ..] | [b'V', b'A', b'L', b'K', b'E', b'Y', ..] => Kind::Rdb,
            _ => Kind::Unknown,
        }
    }
}

fn check(path: &Path, now: Millis, out: &mut Vec<u8>) -> io::Result<Verdict> {
    let mut source = Source::open(path)?;
    match Kind::of(source.piece()) {
        Kind::Rdb => rdb::check(&mut source, path, now, out),
        Kind::Unknown => {
            writeln!(
                out,
                "{}: of no kind that can be checked: an RDB file begins with REDIS and four digits, or VALKEY and three",
                path.display()
            )?;
            Ok(Verdict::NotWhole)
        }
    }
}

/// A file, piece by piece. The first one is there from the start.
struct Source {
    file: File,
    len: u64,
    piece: Vec<u8>,
    read: u64,
    bar: ProgressBar,
}

impl Source {
    fn open(path: &Path) -> io::Result<Source> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let bar = match len {
            LONG_FILE_BYTES.. => progress_bar(len),
            _ => ProgressBar::hidden(),
        };
        let mut source = Source { file, len, piece: vec![0; PIECE_BYTES], read: 0, bar };
        source.advance()?;
        Ok(source)
    }

    /// How long the file was when it was opened.
    fn len(&self) -> u64 {
        self.len
    }

    /// The piece that is at hand; empty at the end of the file.
    fn piece(&self) -> &[u8] {
        &self.piece
    }

    /// Goes on to the next piece.
    fn advance(&mut self) -> io::Result<()> {
        self.piece.resize(PIECE_BYTES, 0);
        let len = loop {
            match self.file.read(&mut self.piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.piece.truncate(len);
        self.read += len as u64;
        self.bar.set_position(self.read);
        if len == 0 {
            self.bar.finish_and_clear();
        }
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// On standard error, and only if that is a terminal.
fn progress_bar(len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
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
        assert!(check(Path::new("/"), Millis(0), &mut Vec::new()).is_err());
    }

    #[test]
    fn a_file_comes_in_pieces() {
        let bytes: Vec<u8> = (0..PIECE_BYTES + 10).map(|n| n as u8).collect();
        let sample = Sample::new("pieces", &bytes);
        let mut source = Source::open(&sample.0).expect("it can be read");
        let mut read = Vec::new();
        while !source.piece().is_empty() {
            read.extend_from_slice(source.piece());
            source.advance().expect("it can be read");
        }
        assert!(read == bytes);
        assert_eq!((source.len(), source.read), (bytes.len() as u64, bytes.len() as u64));
    }
}
