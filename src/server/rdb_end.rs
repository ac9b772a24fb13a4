//! Where the RDB ends that a file begins with: a snapshot is nothing else, a base or an old log goes on with commands.
//!
//! The whole RDB is read and checked for that, since nothing in it says how long it is. Used by the subcommands, offline. Absent on
//! purpose: its contents.

use std::path::Path;

use super::files::{At, ToolError, refused};
use super::source::Source;
use crate::config::Config;
use crate::persist::rdb::file_reader::Step;
use crate::persist::rdb::{FileReader, Limits};

/// The longest string that a file may hold here, bytes: a damaged length makes us wait for so many.
const STRING_BYTES_MAX: usize = 4 << 30;

/// A reader for files that other servers, with other limits, may have written.
pub(super) fn reader() -> FileReader {
    let limits = Limits { string_bytes_max: STRING_BYTES_MAX, ..Limits::of(&Config::default()) };
    FileReader::new(limits, true).skipping_modules()
}

/// The offset behind the checksum.
pub(super) fn find(path: &Path) -> Result<u64, ToolError> {
    let mut source = Source::open(path).at(path)?;
    let mut reader = reader();
    loop {
        match reader.next() {
            Ok(Step::NeedMore) if source.piece().is_empty() => reader.end_of_input(),
            Ok(Step::NeedMore) => {
                reader.feed(source.piece());
                source.advance().at(path)?;
            }
            Ok(Step::End(_)) => return Ok(reader.offset()),
            Ok(_) => {}
            Err(damage) => return refused(path, format!("damaged {damage}")),
        }
    }
}
