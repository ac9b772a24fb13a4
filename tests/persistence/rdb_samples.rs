//! RDB files of many servers, from Redis 2.2 to 8.6 (`samples/`): each is read, or refused with a reason.
//!
//! Those that redis-server 7.0 loads are compared with what it shows; what later servers wrote is compared with what was put there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::harness::Server;
use super::values::content_of;
use super::{by_commands, integer, limits, load_into, read_rdb, read_rdb_by};
use annulus::persist::rdb::FileReader;
use annulus::persist::rdb::file::{Reason, Version};

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/persistence/samples");
    let entries = fs::read_dir(&folder).expect("the samples are there").map(|entry| entry.expect("an entry").path());
    let mut all: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "rdb")).collect();
    all.sort();
    all
}

fn sample(name: &str) -> Vec<u8> {
    let path = samples().into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
    fs::read(path.unwrap_or_else(|| panic!("no {name}"))).expect("it can be read")
}

#[test]
fn every_sample_is_read_or_refused_with_a_reason() {
    let (mut read, mut refused) = (0, 0);
    for path in samples() {
        let file = fs::read(&path).expect("it can be read");
        for piece in [file.len(), 100, 1] {
            match read_rdb(&file, piece) {
                Ok(_) => read += 1,
                Err(damage) => {
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    assert!(
                        matches!(&name[..], "redis_stack_7_4_modules.rdb" | "redis_8_6_all_types.rdb"),
                        "{name}: {damage}"
                    );
                    assert_eq!(damage.reason, Reason::Module(*b"ReJSON-RL"), "{damage}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((read, refused), (29 * 3, 2 * 3));
}

#[test]
fn what_redis_7_loads_it_shows_as_it_is_read_here() {
    let Some(mut server) = Server::redis(&[]) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let mut compared = 0;
    for path in samples() {
        let file = fs::read(&path).expect("it can be read");
        let Ok(contents) = read_rdb(&file, 1 << 16) else { continue };
        if matches!(contents.version, Version::Redis(11..)) {
            continue;
        }
        let mut client = load_into(&mut server, &file);
        // What has expired since, Redis leaves out.
        let alive = || contents.keys.iter().filter(|(_, found)| found.expires.is_none_or(|due| due > now));
        for db in 0..16u16 {
            client.line(&format!("SELECT {db}"));
            let there = alive().filter(|((of, _), _)| *of == db).count();
            assert_eq!(integer(&client.line("DBSIZE")), there as i64, "{} database {db}", path.display());
        }
        for ((db, key), found) in alive() {
            client.line(&format!("SELECT {db}"));
            let shown = by_commands(&mut client, key);
            assert!(content_of(&found.value) == shown, "{} of {}", key.escape_ascii(), path.display());
            compared += 1;
        }
    }
    assert!(compared >= 80, "{compared} keys");
}

#[test]
fn files_of_redis_7_4_and_8_6_hold_what_was_put_there() {
    let strings = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    for (name, version) in [("redis_7_4_all_types", 12), ("redis_8_6_all_types", 13), ("redis_stack_7_4_modules", 12)] {
        let reader = FileReader::new(limits(), true).skipping_modules();
        let contents = read_rdb_by(reader, &sample(name), 1000).unwrap_or_else(|damage| panic!("{name}: {damage}"));
        assert_eq!(contents.version, Version::Redis(version));
        assert_eq!(contents.functions.len(), 1);
        let of = |key: &str| content_of(&contents.keys[&(0, key.as_bytes().to_vec())].value);
        assert_eq!(of("str"), ("string", strings(&["hello"])));
        assert_eq!(of("list"), ("list", strings(&["a", "b", "c"])));
        assert_eq!(of("set"), ("set", strings(&["x", "y", "z"])));
        assert_eq!(of("zset"), ("zset", strings(&["1.0", "a", "2.0", "b"])));
        let numbers = [
            "-1",
            "-5000",
            "-4096",
            "4095",
            "100000",
            "-100000",
            "8388607",
            "-8388608",
            "2147483647",
            "-9223372036854775808",
            "127",
            "0",
        ];
        assert_eq!(of("lp_ints"), ("list", strings(&numbers)));
        let (kind, fields) = of("hfe_small");
        assert_eq!((kind, fields.len()), ("hash", 9));
        let fields: Vec<_> = fields.chunks(3).map(|field| [&field[0][..], &field[1]].concat()).collect();
        assert_eq!(fields, strings(&["f1v1", "f2v2", "f3v3"]));
        let (_, big) = of("hfe_big");
        assert!(big.len() > 300 && big.chunks(3).any(|field| field[2] != b"0"), "some fields have deadlines");
        assert!(contents.keys[&(0, b"ttl_str".to_vec())].expires.is_some());
        let of_modules: Vec<_> = contents.of_modules.iter().map(|(key, name)| (&key[..], &name[..])).collect();
        assert_eq!(of_modules, if name == "redis_7_4_all_types" { vec![] } else { vec![("doc", "ReJSON-RL")] });
        let (kind, stream) = of("stream");
        let id = |at: usize| String::from_utf8_lossy(&stream[at]).into_owned();
        let (first, last) = (id(1), id(6));
        assert_eq!((kind, id(0)), ("stream", format!("{last} {first} 0-0 2")));
        assert_eq!(stream[2..6], strings(&["a", "1", "b", "2"]));
        assert_eq!(stream[7..11], strings(&["a", "3", "grp", &format!("{first} Some(1)")]));
        assert_eq!(stream[11], b"alice");
        assert!(id(13).starts_with(&first) && stream.len() == 14, "one entry is pending with one consumer");
        assert_eq!(of("empty_stream").1.len(), 1);
        let type_byte = contents.keys[&(0, b"stream".to_vec())].type_byte;
        assert_eq!(type_byte, if version == 13 { 26 } else { 21 }, "the newest form");
    }
}
