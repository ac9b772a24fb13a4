//! Hostile bytes for the readers of manifests, of logs and of snapshot sets: real manifests, changed.
//!
//! What is taken must print to a text that is read as the same, name files of its folder alone, and keep the promises of its type.

mod campaign;

use std::path::Path;

use annulus::base::rng::Rng;
use annulus::persist::aof::manifest::{LogFile, Manifest, Stream};
use annulus::persist::manifest_lines::FileName;
use annulus::persist::snapshot_set::SnapshotSet;

const INTERESTING: &[u8] = b" \n\r\t\"'\\#/.\0\x0b0192bihx\xff";

const SAMPLES: &[&str] = &[
    "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n",
    "file \"a b\" seq 1 type h\nfile 'c' seq 1 type b\nfile \"\\x01\\n\" seq 1 type i\nfile d seq 3 type i\n",
    "# annulus shards 1 generation 3 epoch 7 files 1\nfile a.3.shard-0.incr.aof seq 3 type i shard 0\n",
    "# annulus shards 2 generation 7 epoch 1234 files 5\nfile a.7.shard-0.base.rdb seq 7 type b shard 0\n\
     file a.7.shard-1.base.rdb seq 7 type b shard 1\nfile old seq 6 type h shard 0\n\
     file a.7.shard-0.incr.aof seq 7 type i shard 0\nfile a.7.shard-1.incr.aof seq 7 type i shard 1\n",
    "# annulus shards 2 generation 7 epoch 3 unix_ms 5 files 2\n\
     file dump.7.shard-0.rdb shard 0 size 4711 crc64 0123456789abcdef\n\
     file dump.7.shard-1.rdb shard 1 size 815 crc64 fedcba9876543210\n",
];

fn check_name(name: &FileName) {
    let folder = Path::new("/folder");
    assert_eq!(name.in_folder(folder).parent(), Some(folder), "{name}");
    assert!(name.in_folder(folder).file_name().is_some(), "{name}");
}

fn check_stream(stream: &Stream) {
    let files = || stream.base.iter().chain(&stream.incremental).chain(&stream.history);
    files().for_each(|file: &LogFile| check_name(&file.name));
    assert!(files().all(|file| file.seq > 0));
    assert!(stream.incremental.is_sorted_by(|one, next| one.seq < next.seq));
}

fn case(rng: &mut Rng) -> String {
    let mut text = rng.pick(SAMPLES).as_bytes().to_vec();
    if rng.chance(1, 4) {
        text.extend_from_slice(rng.pick(SAMPLES).as_bytes());
    }
    campaign::mutate(rng, &mut text, INTERESTING);
    let shown = text.escape_ascii().to_string();
    let lines = text.split_inclusive(|byte| *byte == b'\n').count();
    let mut outcome = match Manifest::parse(&text) {
        Ok(manifest) => {
            manifest.streams.iter().for_each(check_stream);
            assert!(!manifest.streams.is_empty());
            if !manifest.print().is_empty() {
                assert_eq!(Manifest::parse(&manifest.print()), Ok(manifest), "{shown}");
            }
            "log".to_owned()
        }
        Err(error) => {
            assert!((1..=lines + 1).contains(&error.line), "{error}: {shown}");
            format!("{:?}", error.problem)
        }
    };
    match SnapshotSet::parse(&text) {
        Ok(set) => {
            set.parts.iter().for_each(|part| check_name(&part.name));
            assert_eq!(SnapshotSet::parse(&set.print()), Ok(set), "{shown}");
            outcome = "snapshot".to_owned();
        }
        Err(error) => assert!((1..=lines + 1).contains(&error.line), "{error}: {shown}"),
    }
    outcome
}

#[test]
fn changed_manifests_are_refused_or_say_what_they_print() {
    campaign::run(case);
}

#[test]
fn the_cases_reach_most_problems() {
    let outcomes: std::collections::BTreeSet<String> = (0..20_000).map(|seed| case(&mut Rng::seed(seed))).collect();
    assert!(outcomes.contains("log") && outcomes.contains("snapshot"), "{outcomes:#?}");
    assert!(outcomes.len() >= 14, "{outcomes:#?}");
}
