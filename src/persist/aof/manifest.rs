//! The manifest of append-only files: which files, in which order, make up the log; or the logs of all shards.
//!
//! ```text
//!   Redis 7, one stream                                     ours, a stream per shard
//!
//!   file appendonly.aof.2.base.rdb seq 2 type b             # annulus shards 2 generation 7 epoch 1234 files 4
//!   file appendonly.aof.1.incr.aof seq 1 type h             file appendonly.aof.7.shard-0.base.rdb seq 7 type b shard 0
//!   file appendonly.aof.2.incr.aof seq 2 type i             file appendonly.aof.7.shard-1.base.rdb seq 7 type b shard 1
//!                                                           file appendonly.aof.7.shard-0.incr.aof seq 7 type i shard 0
//!                                                           file appendonly.aof.7.shard-1.incr.aof seq 7 type i shard 1
//! ```
//!
//! Type `b` is the base, at most one per stream: an RDB or an AOF, told apart by its first bytes. `i` are commands since then, in the
//! order of `seq`. `h` are files that are no longer needed and will be removed.
//!
//! The head of a set says that all bases hold the state at the end of that epoch; the first epoch of each log is a later one. The
//! bases of a set belong to one generation; while a log is rewritten, a stream has incremental files of two.
//!
//! A Redis that is pointed at a set of several shards refuses it: it knows one base, and one row of numbers. A set of one shard it
//! loads. Lines are read as told in `manifest_lines`. A manifest without head is Redis's, and has one stream.
//!
//! Invariants of what was parsed: at least one stream; in a set every stream has a file; `seq` grows within a stream. Plain values.
//! Absent on purpose: whether the files are there.

use super::super::manifest_lines::{FileName, Lines, ManifestError, Printer, Problem};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the head of a set with a stream per shard says; none in Redis's.
    pub set: Option<Set>,
    /// The streams, by shard.
    pub streams: Vec<Stream>,
}

/// What all streams of a set share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// How often the logs were rewritten: part of the files' names, so that no two generations share one.
    pub generation: u64,
    /// The bases hold everything up to the end of this epoch.
    pub epoch: u64,
}

/// The files of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// What the log begins with; none if it begins with nothing.
    pub base: Option<LogFile>,
    /// Commands, in their order.
    pub incremental: Vec<LogFile>,
    /// Files to be removed.
    pub history: Vec<LogFile>,
}

/// A file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// In the manifest's folder.
    pub name: FileName,
    /// Its number, from 1.
    pub seq: u64,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let lines = Lines::parse(text)?;
        let names = lines.names()?;
        let shards = lines.shards()?;
        let mut manifest = Manifest { set: None, streams: vec![Stream::default(); usize::from(shards.unwrap_or(1))] };
        if let Some(head) = &lines.head {
            manifest.set = Some(Set { generation: head.needed("generation")?, epoch: head.needed("epoch")? });
        }
        for (fields, name) in lines.files.iter().zip(names) {
            let seq = fields.needed("seq")?;
            if seq == 0 {
                return Err(fields.error(Problem::Wrong("seq")));
            }
            let kind = fields.get("type").ok_or_else(|| fields.error(Problem::Missing("type")))?;
            let shard = match shards {
                Some(shards) => fields.shard(shards)?,
                None if fields.get("shard").is_some() => return Err(fields.error(Problem::NoHead)),
                None => 0,
            };
            let (stream, file) = (&mut manifest.streams[usize::from(shard)], LogFile { name, seq });
            match kind {
                b"b" if stream.base.is_some() => return Err(fields.error(Problem::SecondBase)),
                b"b" => stream.base = Some(file),
                b"i" if stream.incremental.last().is_some_and(|last| last.seq >= seq) => {
                    return Err(fields.error(Problem::NotMonotonic));
                }
                b"i" => stream.incremental.push(file),
                b"h" => stream.history.push(file),
                _ => return Err(fields.error(Problem::Wrong("type"))),
            }
        }
        lines.check_count()?;
        let is_empty = |stream: &Stream| stream.base.is_none() && stream.incremental.is_empty();
        match manifest.streams.iter().position(is_empty) {
            Some(shard) if shards.is_some() => {
                Err(ManifestError { line: lines.count + 1, problem: Problem::NoFile(shard as u16) })
            }
            _ => Ok(manifest),
        }
    }

    /// The text of the manifest: bases, then files to be removed, then incremental ones, as Redis orders them.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Printer::default();
        let shards = self.streams.len() as u64;
        assert!(shards == 1 || self.set.is_some(), "several streams are a set");
        if let Some(set) = &self.set {
            let count =
                |stream: &Stream| usize::from(stream.base.is_some()) + stream.incremental.len() + stream.history.len();
            let files: usize = self.streams.iter().map(count).sum();
            out.head().number("shards", shards).number("generation", set.generation).number("epoch", set.epoch);
            out.number("files", files as u64).end();
        }
        let mut all = |kind: &str, of: fn(&Stream) -> &[LogFile]| {
            for (shard, stream) in self.streams.iter().enumerate() {
                for file in of(stream) {
                    out.file(&file.name).number("seq", file.seq).word("type", kind);
                    if self.set.is_some() {
                        out.number("shard", shard as u64);
                    }
                    out.end();
                }
            }
        };
        all("b", |stream| stream.base.as_slice());
        all("h", |stream| &stream.history);
        all("i", |stream| &stream.incremental);
        out.finish()
    }

    /// How many shards wrote it: 1 for Redis's.
    pub fn shards(&self) -> usize {
        self.streams.len()
    }
}

/// The name of the manifest. `name` is `appendfilename`.
pub fn manifest_name(name: &str) -> String {
    format!("{name}.manifest")
}

/// The name of a shard's base: an RDB, or commands if `aof-use-rdb-preamble` is off.
pub fn base_name(name: &str, generation: u64, shard: usize, is_rdb: bool) -> String {
    format!("{name}.{generation}.shard-{shard}.base.{}", if is_rdb { "rdb" } else { "aof" })
}

/// The name of a shard's incremental file.
pub fn incremental_name(name: &str, generation: u64, shard: usize) -> String {
    format!("{name}.{generation}.shard-{shard}.incr.aof")
}

/// Whether a file, or the base of a log, begins as an RDB: what Redis calls a preamble, with commands behind it.
pub fn begins_as_rdb(bytes: &[u8]) -> bool {
    bytes.starts_with(b"REDIS") || bytes.starts_with(b"VALKEY")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn file(name: &str, seq: u64) -> LogFile {
        LogFile { name: FileName::new(name).unwrap(), seq }
    }

    #[test]
    fn what_redis_writes_is_read_and_written_the_same() {
        let text = b"file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n\
                     file appendonly.aof.2.incr.aof seq 2 type i\nfile \"my \\\"log\\\".3.incr.aof\" seq 3 type i\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.set, None);
        assert_eq!(
            manifest.streams,
            [Stream {
                base: Some(file("appendonly.aof.2.base.rdb", 2)),
                incremental: vec![file("appendonly.aof.2.incr.aof", 2), file("my \"log\".3.incr.aof", 3)],
                history: vec![file("appendonly.aof.1.incr.aof", 1)],
            }]
        );
        assert_eq!(manifest.print().escape_ascii().to_string(), text.escape_ascii().to_string());
    }

    #[test]
    fn a_set_has_a_stream_per_shard() {
        let text = b"# annulus shards 2 generation 7 epoch 1234 files 4\n\
                     file a.7.shard-0.base.rdb seq 7 type b shard 0\nfile a.7.shard-1.base.rdb seq 7 type b shard 1\n\
                     file a.7.shard-0.incr.aof seq 7 type i shard 0\nfile a.7.shard-1.incr.aof seq 7 type i shard 1\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.set, Some(Set { generation: 7, epoch: 1234 }));
        let stream = |shard| Stream {
            base: Some(file(&base_name("a", 7, shard, true), 7)),
            incremental: vec![file(&incremental_name("a", 7, shard), 7)],
            history: Vec::new(),
        };
        assert_eq!(manifest.streams, [stream(0), stream(1)]);
        assert_eq!(manifest.print().escape_ascii().to_string(), text.escape_ascii().to_string());
    }

    /// What redis-server 7.0 takes.
    #[test]
    fn lines_may_look_otherwise_than_they_are_written() {
        for text in [
            &b"file a seq 1 type i\n"[..],
            b"FILE a Seq 1 TYPE i\n",
            b"  file  a\tseq 1 type i \r\n",
            b"# remark\nfile 'a' seq 1 type i\n#\n",
            b"file \"\\x61\" seq 1 type i\n",
            b"type i file a seq 1\n",
            b"file b seq 9 type i seq 1 file a\n",
            b"file a seq 1 type i color red\n",
        ] {
            let manifest = Manifest::parse(text).unwrap_or_else(|error| panic!("{}: {error}", text.escape_ascii()));
            assert_eq!(manifest.streams[0].incremental, [file("a", 1)], "{}", text.escape_ascii());
        }
        assert_eq!(Manifest::parse(b"# nothing\n").unwrap().streams, [Stream::default()]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
        };
        let format = "line 1: not in the form 'file <name> <field> <value> ...'";
        check("", "line 1: the manifest is empty");
        check("\n", format);
        check("file a seq 1 type i", "line 1: the line is too long, or the file ends in it");
        check(&format!("#{}\n", "x".repeat(1023)), "line 1: the line is too long, or the file ends in it");
        check("file a seq 1 type i\n # no remark x\n", "line 2: 'file' is missing");
        check("file \"a seq 1 type i\n", format);
        check("file a seq 1 type i shard\n", format);
        check("file a\0 seq 1 type i\n", format);
        check("file a seq 1\n", "line 1: 'type' is missing");
        check("seq 1 type i\n", "line 1: 'file' is missing");
        check("file a type i\n", "line 1: 'seq' is missing");
        check("file a seq 0 type i\n", "line 1: 'seq' has a value that it cannot have");
        check("file a seq -1 type i\n", "line 1: 'seq' has a value that it cannot have");
        check("file a seq 1x type i\n", "line 1: 'seq' has a value that it cannot have");
        check("file a seq 1 type x\n", "line 1: 'type' has a value that it cannot have");
        check("file a/b seq 1 type i\n", "line 1: 'file' is a name and no path");
        check("file .. seq 1 type i\n", "line 1: 'file' is a name and no path");
        check("file \"\" seq 1 type i\n", "line 1: 'file' is a name and no path");
        check("file a seq 1 type i\nfile b seq 1 type i\n", "line 2: 'seq' is not larger than the one before");
        check("file a seq 1 type b\nfile b seq 2 type b\n", "line 2: there is a base already");
        check("file a seq 1 type i\nfile a seq 2 type i\n", "line 2: this file is there already");
    }

    #[test]
    fn a_set_that_is_not_whole_is_refused() {
        const HEAD: &str = "# annulus shards 2 generation 1 epoch 0\n";
        let check = |text: &str, expected: &str| {
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
        };
        let no_head = "line 1: a file of a shard, but no '# annulus shards' says how many there are";
        let twice = "line 2: '# annulus' stands once, before the first file";
        check("file a seq 1 type i shard 0\n", no_head);
        check(&format!("{HEAD}file a seq 1 type i\n"), "line 2: 'shard' is missing");
        check(&format!("{HEAD}file a seq 1 type i shard 2\n"), "line 2: 'shard' has a value that it cannot have");
        check(&format!("{HEAD}file a seq 1 type i shard 1\n"), "line 3: shard 0 has no file");
        check(&format!("{HEAD}{HEAD}"), twice);
        check("# annulus generation 1 epoch 0\n", "line 1: 'shards' is missing");
        check("# annulus shards 2 generation 1\n", "line 1: 'epoch' is missing");
        check("# annulus shards 0 generation 1 epoch 0\n", "line 1: 'shards' has a value that it cannot have");
        check("# annulus shards 257 generation 1 epoch 0\n", "line 1: 'shards' has a value that it cannot have");
        let counted = "# annulus shards 1 generation 1 epoch 0 files 2\nfile a seq 1 type i shard 0\n";
        check(counted, "line 1: not as many files as '# annulus' says");
        check(&format!("file a seq 1 type i\n{HEAD}"), twice);
    }

    #[test]
    fn what_is_printed_is_parsed() {
        for seed in 0..500 {
            let mut rng = Rng::seed(seed);
            let mut count = 0;
            let mut some_file = |rng: &mut Rng, seq| {
                count += 1;
                let mut name = format!("{count}-").into_bytes();
                name.extend((0..rng.below(8)).map(|_| *rng.pick(b"a. \"'\\\n\t\x01\x7f\xff\xc3#")));
                LogFile { name: FileName::new(name).unwrap(), seq }
            };
            let set = rng.chance(2, 3).then(|| Set { generation: rng.below(1000), epoch: rng.next_u64() });
            let shards = if set.is_some() { 1 + rng.below(5) } else { 1 };
            let streams = (0..shards)
                .map(|_| Stream {
                    base: rng.chance(1, 2).then(|| some_file(&mut rng, 1)),
                    incremental: (0..1 + rng.below(3)).map(|seq| some_file(&mut rng, seq * 3 + 1)).collect(),
                    history: (0..rng.below(3)).map(|_| some_file(&mut rng, 5)).collect(),
                })
                .collect();
            let manifest = Manifest { set, streams };
            let text = manifest.print();
            assert_eq!(Manifest::parse(&text), Ok(manifest), "seed {seed}: {}", text.escape_ascii());
            let cut = &text[..rng.below(text.len() as u64) as usize];
            if set.is_some() {
                assert!(Manifest::parse(cut).is_err(), "seed {seed}: {}", cut.escape_ascii());
            }
        }
    }

    #[test]
    fn an_rdb_is_known_by_its_first_bytes() {
        assert!(begins_as_rdb(b"REDIS0011...") && begins_as_rdb(b"VALKEY080"));
        assert!(!begins_as_rdb(b"*2\r\n") && !begins_as_rdb(b"REDI") && !begins_as_rdb(b""));
    }
}
