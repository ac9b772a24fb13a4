//! What is in an RDB file, without keeping it: versions, fields, how many keys of each type each database has, and where damage starts.
//!
//! The bytes go in piece by piece, through a [`FileReader`]; each value is decoded as if it were loaded, and dropped. Of each key a
//! fingerprint stays, 16 bytes of a hash with secret seeds, so that a key that is there twice is found: 20 to 40 bytes of memory a key.
//! That two keys out of a billion share one is less likely than a fault of the machine.
//!
//! A survey belongs to the tool that checks one file. Absent on purpose: files, words for people, and what follows the end (an AOF that
//! begins with RDB).

use std::collections::{BTreeMap, HashSet};

use super::file::{Damage, Reason, Version};
use super::file_reader::{Checksum, Entry, Step};
use super::{Decoded, FileReader, Limits, PACKED_NEXT};
use crate::base::DbIndex;
use crate::base::time::Millis;

/// Fields with names are kept up to this number, and up to this length; a file that lies may have any number of them.
const AUX_MAX: usize = 64;
const AUX_BYTES_MAX: usize = 256;

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The version, once it was read.
    pub version: Option<Version>,
    /// Fields with names, in their order; the first [`AUX_MAX`].
    pub aux: Vec<(Vec<u8>, Vec<u8>)>,
    /// Function libraries.
    pub libraries: u64,
    /// The databases that have keys.
    pub databases: BTreeMap<DbIndex, Database>,
    /// Keys that have an empty value and are not loaded.
    pub empty_keys: u64,
    /// Keys of modules, by the name of their type. They cannot be loaded here.
    pub of_modules: BTreeMap<[u8; 9], u64>,
    /// What is of no use here, by its kind.
    pub skipped: BTreeMap<&'static str, u64>,
}

impl Findings {
    /// Keys of all databases.
    pub fn keys(&self) -> u64 {
        self.databases.values().flat_map(|database| database.types.values()).sum()
    }
}

/// The keys of one database.
#[derive(Clone, Debug, Default)]
pub struct Database {
    /// How many of each type, by what TYPE replies.
    pub types: BTreeMap<&'static str, u64>,
    /// How many expire.
    pub expiring: u64,
    /// How many of those have expired by now.
    pub expired: u64,
}

/// See the module.
pub struct Survey {
    reader: FileReader,
    now: Millis,
    hashers: [ahash::RandomState; 2],
    seen: HashSet<u128, ahash::RandomState>,
    findings: Findings,
    end: Option<Checksum>,
}

impl Survey {
    /// A survey of a file from its first byte. The hashers have seeds that nobody else knows.
    pub fn new(limits: Limits, now: Millis, hashers: [ahash::RandomState; 2]) -> Survey {
        Survey {
            reader: FileReader::new(limits, true).skipping_modules(),
            now,
            seen: HashSet::with_hasher(hashers[0].clone()),
            hashers,
            findings: Findings::default(),
            end: None,
        }
    }

    /// What was found so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The checksum, once the end was read.
    pub fn end(&self) -> Option<Checksum> {
        self.end
    }

    /// Up to where whole records were read; after the end, behind it.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Takes the next bytes, unless the end was read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        if self.end.is_none() {
            self.reader.feed(bytes);
        }
        self.read()
    }

    /// Says that there are no more.
    pub fn end_of_input(&mut self) -> Result<(), Damage> {
        self.reader.end_of_input();
        self.read()
    }

    fn read(&mut self) -> Result<(), Damage> {
        while self.end.is_none() {
            let findings = &mut self.findings;
            match self.reader.next()? {
                Step::NeedMore => break,
                Step::Header(version) => findings.version = Some(version),
                Step::Aux(name, _) if name == PACKED_NEXT => {}
                Step::Aux(name, value) => {
                    if findings.aux.len() < AUX_MAX {
                        let short = |text: &[u8]| text[..text.len().min(AUX_BYTES_MAX)].to_vec();
                        findings.aux.push((short(&name), short(&value)));
                    }
                }
                Step::Function(_) => findings.libraries += 1,
                Step::EmptyKey(..) => findings.empty_keys += 1,
                Step::ModuleKey(_, _, name) => *findings.of_modules.entry(name).or_default() += 1,
                Step::Skipped(what) => *findings.skipped.entry(what).or_default() += 1,
                Step::SelectDb(_) | Step::ResizeDb { .. } => {}
                Step::End(checksum) => self.end = Some(checksum),
                Step::Entry(entry) => {
                    let [low, high] = &self.hashers;
                    let halves = [low, high].map(|hasher| u128::from(hasher.hash_one((entry.db, &entry.key))));
                    if !self.seen.insert(halves[0] << 64 | halves[1]) {
                        return Err(Damage::at(entry.offset, Reason::KeyTwice));
                    }
                    findings.count(&entry, self.now);
                }
            }
        }
        Ok(())
    }
}

impl Findings {
    fn count(&mut self, entry: &Entry<'_>, now: Millis) {
        let database = self.databases.entry(entry.db).or_default();
        let type_name = match &entry.value {
            Decoded::String(_) => "string",
            Decoded::Object(object) => object.type_name(),
        };
        *database.types.entry(type_name).or_default() += 1;
        database.expiring += u64::from(entry.expires.is_some());
        database.expired += u64::from(entry.expires.is_some_and(|due| due <= now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn survey(file: &[u8], piece: usize) -> (Survey, Result<(), Damage>) {
        let hashers = [1, 2].map(|seed| ahash::RandomState::with_seeds(seed, 3, 4, 5));
        let mut survey = Survey::new(Limits::of(&Config::default()), Millis(1000), hashers);
        let read = file.chunks(piece).try_for_each(|bytes| survey.feed(bytes)).and_then(|()| survey.end_of_input());
        (survey, read)
    }

    const FILE: &[u8] = b"REDIS0009\xfa\x01a\x01b\xf5\x01l\x00\x01k\x01v\x01\x01l\x01\x01x\
        \xfc\xe8\x03\0\0\0\0\0\0\x00\x01m\x01v\xfe\x05\xfc\xe9\x03\0\0\0\0\0\0\x00\x01k\x01v\x01\x01e\x00\
        \x07\x01j\x81\x90\x0e\x2a\x5c\x9a\x6e\xd4\x01\x02\x01\x00\xff\0\0\0\0\0\0\0\0";

    #[test]
    fn everything_is_counted_whatever_the_pieces_are() {
        for piece in [1, 10, 1000] {
            let (survey, read) = survey(FILE, piece);
            assert_eq!(read, Ok(()));
            assert_eq!((survey.end(), survey.offset()), (Some(Checksum::Absent), FILE.len() as u64));
            let findings = survey.findings();
            assert_eq!((findings.version, findings.libraries, findings.empty_keys), (Some(Version::Redis(9)), 1, 1));
            assert_eq!(findings.aux, [(b"a".to_vec(), b"b".to_vec())]);
            assert_eq!(findings.of_modules, BTreeMap::from([(*b"kA4qXJpu1", 1)]));
            assert_eq!(findings.keys(), 4);
            let database = |number| &findings.databases[&DbIndex(number)];
            assert_eq!(database(0).types, BTreeMap::from([("string", 2), ("list", 1)]));
            assert_eq!((database(0).expiring, database(0).expired), (1, 1));
            assert_eq!((database(5).expiring, database(5).expired), (1, 0));
        }
    }

    #[test]
    fn a_key_that_is_there_twice_in_one_database_is_damage() {
        let file = b"REDIS0009\x00\x01k\x01v\x00\x01l\x01v\x00\x01k\x01w\xff\0\0\0\0\0\0\0\0";
        let (survey, read) = survey(file, 4);
        assert_eq!(read, Err(Damage::at(19, Reason::KeyTwice)));
        assert_eq!(survey.findings().keys(), 2);
    }

    #[test]
    fn what_follows_the_end_is_not_read() {
        let file = [FILE, b"*1\r\n$4\r\nPING\r\n".repeat(100).as_slice()].concat();
        let (survey, read) = survey(&file, 50);
        assert_eq!((read, survey.offset()), (Ok(()), FILE.len() as u64));
    }
}
