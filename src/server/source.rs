//! A file that a subcommand reads from its beginning to its end, in pieces, with a progress bar if it is long.
//!
//! Plain blocking reads on the thread that started the program: subcommands have no executor. The bar is drawn on standard error, and
//! only if that is a terminal. Absent on purpose: reading again; who wants to opens the file anew.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;
/// From this size on a progress bar is worth its lines.
const LONG_FILE_BYTES: u64 = 256 << 20;

/// A file, piece by piece. The first one is there from the start.
pub(super) struct Source {
    file: File,
    len: u64,
    piece: Vec<u8>,
    read: u64,
    bar: ProgressBar,
}

impl Source {
    pub(super) fn open(path: &Path) -> io::Result<Source> {
        Source::open_at(path, 0)
    }

    /// From this offset on.
    pub(super) fn open_at(path: &Path, offset: u64) -> io::Result<Source> {
        let mut file = File::open(path)?;
        file.seek(io::SeekFrom::Start(offset))?;
        let len = file.metadata()?.len();
        let bar = match len {
            LONG_FILE_BYTES.. => progress_bar(len),
            _ => ProgressBar::hidden(),
        };
        let mut source = Source { file, len, piece: vec![0; PIECE_BYTES], read: offset, bar };
        source.advance()?;
        Ok(source)
    }

    /// How long the file was when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The piece that is at hand; empty at the end of the file.
    pub(super) fn piece(&self) -> &[u8] {
        &self.piece
    }

    /// Goes on to the next piece.
    pub(super) fn advance(&mut self) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_in_pieces() {
        let bytes: Vec<u8> = (0..PIECE_BYTES + 10).map(|n| n as u8).collect();
        let path = std::env::temp_dir().join(format!("annulus-source-{}", std::process::id()));
        std::fs::write(&path, &bytes).expect("the temporary folder is writable");
        let mut source = Source::open(&path).expect("it can be read");
        let mut read = Vec::new();
        while !source.piece().is_empty() {
            read.extend_from_slice(source.piece());
            source.advance().expect("it can be read");
        }
        std::fs::remove_file(&path).expect("it was written");
        assert!(read == bytes);
        assert_eq!((source.len(), source.read), (bytes.len() as u64, bytes.len() as u64));
    }
}
