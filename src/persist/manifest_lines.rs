//! The lines of a manifest: what those of logs and those of snapshots have in common.
//!
//! ```text
//!   # annulus shards 2 generation 7 …                        head: only in sets with a file per shard; Redis skips it
//!   # any other remark
//!   file "a name.aof" seq 7 type i shard 0                   a file: names and values in turn
//! ```
//!
//! The format is that of Redis 7's manifests of append-only files, as its server reads them: a line has at most 1024 bytes with its
//! end, and the last one has an end too (a manifest that was cut short is refused); blanks around it do not count; words are
//! quoted as in redis.conf; the names of fields take any case; of a field that is there twice the last counts; a field that is not
//! known is passed over. An empty line, and a remark that does not begin in the first column, are errors there and here.
//!
//! Stricter than Redis: numbers are digits alone, a name is there once, and a file cannot be called `.` or `..`.
//!
//! Plain values, no owner. Absent on purpose: what the fields mean (see `aof::manifest` and `snapshot_set`), and files.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::num::{parse_u64, push_u64};
use crate::config::SHARDS_MAX;
use crate::resp::OwnedArgs;
use crate::resp::words::{push_quoted, split_words};

/// The longest line, its end included.
const LINE_BYTES_MAX: usize = 1024;

/// The beginning of a head.
const HEAD: &[u8] = b"# annulus ";

/// Why a text is no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The line, from 1; the one behind the last if something is missing.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is nothing in the file.
    Empty,
    /// It has no end, or more than 1024 bytes.
    LongLine,
    /// It is no pairs of a name and a value, or a quote does not close.
    Format,
    /// A field is missing.
    Missing(&'static str),
    /// The value of a field is not what it should be.
    Wrong(&'static str),
    /// The name has a slash, or is `.` or `..`.
    Path,
    /// A file has no number that is larger than the one before.
    NotMonotonic,
    /// A log has two bases.
    SecondBase,
    /// A name is there twice.
    SameName,
    /// There are two heads, or one behind the first file.
    SecondHead,
    /// A file belongs to a shard, but no head says how many there are.
    NoHead,
    /// A shard has no file.
    NoFile(u16),
    /// The head counts other files than there are.
    Count,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.problem {
            Problem::Empty => write!(f, "the manifest is empty"),
            Problem::LongLine => write!(f, "the line is too long, or the file ends in it"),
            Problem::Format => write!(f, "not in the form 'file <name> <field> <value> ...'"),
            Problem::Missing(field) => write!(f, "'{field}' is missing"),
            Problem::Wrong(field) => write!(f, "'{field}' has a value that it cannot have"),
            Problem::Path => write!(f, "'file' is a name and no path"),
            Problem::NotMonotonic => write!(f, "'seq' is not larger than the one before"),
            Problem::SecondBase => write!(f, "there is a base already"),
            Problem::SameName => write!(f, "this file is there already"),
            Problem::SecondHead => write!(f, "'# annulus' stands once, before the first file"),
            Problem::NoHead => write!(f, "a file of a shard, but no '# annulus shards' says how many there are"),
            Problem::NoFile(shard) => write!(f, "shard {shard} has no file"),
            Problem::Count => write!(f, "not as many files as '# annulus' says"),
        }
    }
}

impl std::error::Error for ManifestError {}

/// The name of a file in the manifest's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(Vec<u8>);

impl FileName {
    /// A name. It is not empty, no path, and no longer than Linux allows.
    pub fn new(name: impl Into<Vec<u8>>) -> Option<FileName> {
        let name = name.into();
        let is_name = !matches!(name.as_slice(), b"" | b"." | b"..") && name.len() <= 255;
        (is_name && !name.iter().any(|byte| matches!(byte, b'/' | b'\0'))).then_some(FileName(name))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the file is.
    pub fn in_folder(&self, folder: &Path) -> PathBuf {
        folder.join(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A manifest before it is understood.
pub(super) struct Lines {
    /// Its head, if it has one.
    pub head: Option<Fields>,
    /// Its files.
    pub files: Vec<Fields>,
    /// How many lines there are.
    pub count: usize,
}

/// The fields of one line.
pub(super) struct Fields {
    pub line: usize,
    words: OwnedArgs,
}

impl Lines {
    pub fn parse(text: &[u8]) -> Result<Lines, ManifestError> {
        let mut lines = Lines { head: None, files: Vec::new(), count: 0 };
        let at = |line, problem| ManifestError { line, problem };
        for (index, text) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            lines.count = line;
            if text.len() > LINE_BYTES_MAX || !text.ends_with(b"\n") {
                return Err(at(line, Problem::LongLine));
            }
            if let Some(pairs) = text.strip_prefix(HEAD) {
                if lines.head.is_some() || !lines.files.is_empty() {
                    return Err(at(line, Problem::SecondHead));
                }
                lines.head = Some(Fields::parse(line, pairs)?);
            } else if !text.starts_with(b"#") {
                lines.files.push(Fields::parse(line, text)?);
            }
        }
        if lines.count == 0 { Err(at(1, Problem::Empty)) } else { Ok(lines) }
    }

    /// How many shards the head says; none without a head.
    pub fn shards(&self) -> Result<Option<u16>, ManifestError> {
        let Some(head) = &self.head else { return Ok(None) };
        let shards = head.needed("shards")?;
        match u16::try_from(shards) {
            Ok(shards @ 1..=SHARDS_MAX) => Ok(Some(shards)),
            _ => Err(head.error(Problem::Wrong("shards"))),
        }
    }

    /// Holds the count of the head against the files.
    pub fn check_count(&self) -> Result<(), ManifestError> {
        let Some(head) = &self.head else { return Ok(()) };
        match head.number("files")? {
            Some(count) if count != self.files.len() as u64 => Err(head.error(Problem::Count)),
            _ => Ok(()),
        }
    }

    /// The names of all files; none may be there twice.
    pub fn names(&self) -> Result<Vec<FileName>, ManifestError> {
        let mut names = Vec::with_capacity(self.files.len());
        let mut seen = std::collections::BTreeSet::new();
        for file in &self.files {
            let name = file.get("file").ok_or_else(|| file.error(Problem::Missing("file")))?;
            let name = FileName::new(name).ok_or_else(|| file.error(Problem::Path))?;
            if !seen.insert(name.clone()) {
                return Err(file.error(Problem::SameName));
            }
            names.push(name);
        }
        Ok(names)
    }
}

impl Fields {
    fn parse(line: usize, text: &[u8]) -> Result<Fields, ManifestError> {
        let mut words = OwnedArgs::new();
        let is_split = split_words(text, &mut words).is_ok() && !text.contains(&0);
        if !is_split || words.is_empty() || !words.len().is_multiple_of(2) {
            return Err(ManifestError { line, problem: Problem::Format });
        }
        Ok(Fields { line, words })
    }

    pub fn error(&self, problem: Problem) -> ManifestError {
        ManifestError { line: self.line, problem }
    }

    pub fn get(&self, field: &str) -> Option<&[u8]> {
        let words = self.words.as_args();
        let at = (0..words.len()).step_by(2).rfind(|at| words.get(*at).eq_ignore_ascii_case(field.as_bytes()))?;
        Some(words.get(at + 1))
    }

    pub fn number(&self, field: &'static str) -> Result<Option<u64>, ManifestError> {
        let wrong = || self.error(Problem::Wrong(field));
        self.get(field).map(|value| parse_u64(value).ok_or_else(wrong)).transpose()
    }

    pub fn needed(&self, field: &'static str) -> Result<u64, ManifestError> {
        self.number(field)?.ok_or_else(|| self.error(Problem::Missing(field)))
    }

    /// The shard of a file, which is below `shards`.
    pub fn shard(&self, shards: u16) -> Result<u16, ManifestError> {
        let shard = self.needed("shard")?;
        let known = u16::try_from(shard).ok().filter(|shard| *shard < shards);
        known.ok_or_else(|| self.error(Problem::Wrong("shard")))
    }
}

/// Writes lines.
#[derive(Default)]
pub(super) struct Printer {
    out: Vec<u8>,
}

impl Printer {
    /// Begins a head.
    pub fn head(&mut self) -> &mut Printer {
        self.out.extend_from_slice(&HEAD[..HEAD.len() - 1]);
        self
    }

    /// Begins a file's line.
    pub fn file(&mut self, name: &FileName) -> &mut Printer {
        self.out.extend_from_slice(b"file ");
        // Redis's rule for when to quote: whatever is a blank, does not print, or is special inside of quotes.
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"');
        if name.0.iter().all(is_plain) && !name.0.contains(&b'\'') {
            self.out.extend_from_slice(&name.0);
        } else {
            push_quoted(&mut self.out, &name.0);
        }
        self
    }

    /// A field with a number.
    pub fn number(&mut self, field: &str, number: u64) -> &mut Printer {
        self.word(field, "");
        push_u64(&mut self.out, number);
        self
    }

    /// A field with a word that needs no quotes.
    pub fn word(&mut self, field: &str, word: &str) -> &mut Printer {
        for part in [" ", field, " ", word] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }

    /// Ends a line.
    pub fn end(&mut self) {
        self.out.push(b'\n');
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}
