//! The manifest of a snapshot with a file per shard: `dump.rdb.manifest` beside the files, which are legal RDBs.
//!
//! ```text
//!   # annulus shards 2 generation 7 epoch 1234 unix_ms 1700000000000 files 2
//!   file dump.7.shard-0.rdb shard 0 size 4711 crc64 0123456789abcdef
//!   file dump.7.shard-1.rdb shard 1 size 815 crc64 fedcba9876543210
//! ```
//!
//! All files hold one cut of the whole store. Sizes are bytes. `crc64` is what the RDB itself ends with (zeros if checksums are off):
//! it ties a file to its manifest, so that a file of another snapshot under the same name is seen. Lines are read as told
//! in `manifest_lines`, with the words of Redis's manifests.
//!
//! Invariant of what was parsed: one file for each shard, in order. Plain values. Absent on purpose: reading the files.

use super::manifest_lines::{FileName, Lines, ManifestError, Printer, Problem};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSet {
    /// Part of the files' names, so that no two snapshots share one.
    pub generation: u64,
    /// The epoch at whose end the cut was made; 0 if there are none.
    pub epoch: u64,
    /// When the cut was made: milliseconds since 1970.
    pub unix_ms: u64,
    /// The files, by shard.
    pub parts: Vec<Part>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// In the manifest's folder.
    pub name: FileName,
    /// Its length in bytes.
    pub size: u64,
    /// The checksum that it ends with.
    pub crc64: u64,
}

impl SnapshotSet {
    /// Reads a manifest.
    pub fn parse(text: &[u8]) -> Result<SnapshotSet, ManifestError> {
        let lines = Lines::parse(text)?;
        let names = lines.names()?;
        let (Some(head), Some(shards)) = (&lines.head, lines.shards()?) else {
            return Err(ManifestError { line: 1, problem: Problem::NoHead });
        };
        let mut parts = vec![None; usize::from(shards)];
        for (fields, name) in lines.files.iter().zip(names) {
            let part = &mut parts[usize::from(fields.shard(shards)?)];
            if part.is_some() {
                return Err(fields.error(Problem::Wrong("shard")));
            }
            let crc64 = fields.get("crc64").ok_or_else(|| fields.error(Problem::Missing("crc64")))?;
            let crc64 = parse_hex(crc64).ok_or_else(|| fields.error(Problem::Wrong("crc64")))?;
            *part = Some(Part { name, size: fields.needed("size")?, crc64 });
        }
        lines.check_count()?;
        let missing = |shard: usize| ManifestError { line: lines.count + 1, problem: Problem::NoFile(shard as u16) };
        let parts = parts.into_iter().enumerate().map(|(shard, part)| part.ok_or_else(|| missing(shard)));
        Ok(SnapshotSet {
            generation: head.needed("generation")?,
            epoch: head.number("epoch")?.unwrap_or(0),
            unix_ms: head.needed("unix_ms")?,
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// The text of the manifest.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Printer::default();
        out.head().number("shards", self.parts.len() as u64).number("generation", self.generation);
        out.number("epoch", self.epoch).number("unix_ms", self.unix_ms).number("files", self.parts.len() as u64).end();
        for (shard, part) in self.parts.iter().enumerate() {
            out.file(&part.name).number("shard", shard as u64).number("size", part.size);
            out.word("crc64", &format!("{:016x}", part.crc64)).end();
        }
        out.finish()
    }
}

/// Whether a manifest, which may be damaged, is one of a snapshot rather than of logs.
pub fn is_manifest(text: &[u8]) -> bool {
    let head = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    head.starts_with(b"# annulus ") && memchr::memmem::find(head, b" unix_ms ").is_some()
}

/// The name of the manifest of a set. `name` is `dbfilename`.
pub fn manifest_name(name: &str) -> String {
    format!("{name}.manifest")
}

/// The name of a shard's file: `dump.rdb` gives `dump.7.shard-0.rdb`.
pub fn part_name(name: &str, generation: u64, shard: usize) -> String {
    let stem = name.strip_suffix(".rdb").unwrap_or(name);
    format!("{stem}.{generation}.shard-{shard}.rdb")
}

fn parse_hex(text: &[u8]) -> Option<u64> {
    let is_hex = text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_hex)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SnapshotSet {
        let part =
            |shard, size, crc64| Part { name: FileName::new(part_name("dump.rdb", 7, shard)).unwrap(), size, crc64 };
        let parts = vec![part(0, 4711, 0x0123_4567_89ab_cdef), part(1, 815, 0)];
        SnapshotSet { generation: 7, epoch: 1234, unix_ms: 1_700_000_000_000, parts }
    }

    #[test]
    fn the_text_is_the_one_that_is_documented_and_is_read_back() {
        let text = "# annulus shards 2 generation 7 epoch 1234 unix_ms 1700000000000 files 2\n\
                    file dump.7.shard-0.rdb shard 0 size 4711 crc64 0123456789abcdef\n\
                    file dump.7.shard-1.rdb shard 1 size 815 crc64 0000000000000000\n";
        assert_eq!(String::from_utf8(set().print()).unwrap(), text);
        assert_eq!(SnapshotSet::parse(text.as_bytes()), Ok(set()));
        for cut in 0..text.len() {
            assert!(SnapshotSet::parse(&text.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_set_that_is_not_whole_is_refused() {
        const HEAD: &str = "# annulus shards 2 generation 7 unix_ms 5\n";
        let check = |text: &str, expected: &str| {
            assert_eq!(SnapshotSet::parse(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
        };
        let file = "file a shard 0 size 1 crc64 0000000000000000\n";
        check(file, "line 1: a file of a shard, but no '# annulus shards' says how many there are");
        check(&format!("{HEAD}{file}"), "line 3: shard 1 has no file");
        check(
            &format!("{HEAD}{file}{}", file.replace(" a ", " b ")),
            "line 3: 'shard' has a value that it cannot have",
        );
        check(&format!("{HEAD}{file}{file}"), "line 3: this file is there already");
        check(&format!("{HEAD}file a shard 0 size 1 crc64 1\n"), "line 2: 'crc64' has a value that it cannot have");
        check(&format!("{HEAD}file a shard 0 crc64 0000000000000000\n"), "line 2: 'size' is missing");
    }
}
