//! What is on disk: files of ours and of a real redis-server, read and written both ways, whole and damaged. One module per kind of
//! file.
//!
//! Contents are compared key by key, as commands show them. A test whose oracle is not installed says that it was skipped; in CI that is
//! a failure.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../fuzz/values.rs"]
mod values;

mod aof;
mod check;
mod crash;
mod disk_faults;
mod faulty_disk;
mod rdb_files;
mod rdb_samples;
mod restart;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use annulus::config::Config;
use annulus::persist::rdb::file::{Damage, Used, Version};
use annulus::persist::rdb::file_reader::{Checksum, Step};
use annulus::persist::rdb::{Decoded, FileReader, Limits};
use harness::{Client, Server, Value, in_ci};

/// A key by database and name.
type Name = (u16, Vec<u8>);

/// What a file says of a key.
struct Found {
    expires: Option<i64>,
    used: Used,
    type_byte: u8,
    value: Decoded,
}

/// All that a file holds.
struct Contents {
    version: Version,
    aux: Vec<(String, String)>,
    functions: Vec<Vec<u8>>,
    keys: BTreeMap<Name, Found>,
    /// Keys of modules, if they were not to be refused.
    of_modules: Vec<(String, String)>,
    checksum: Checksum,
    /// Where the file ends in its bytes.
    end: u64,
}

fn limits() -> Limits {
    Limits::of(&Config::default())
}

/// Reads a file that is fed in pieces of this many bytes.
fn read_rdb(file: &[u8], piece: usize) -> Result<Contents, Damage> {
    read_rdb_by(FileReader::new(limits(), true), file, piece)
}

fn read_rdb_by(mut reader: FileReader, file: &[u8], piece: usize) -> Result<Contents, Damage> {
    let mut pieces = file.chunks(piece);
    let (mut version, mut aux, mut functions, mut keys) = (Version::Redis(0), Vec::new(), Vec::new(), BTreeMap::new());
    let mut of_modules = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    loop {
        match reader.next()? {
            Step::NeedMore => match pieces.next() {
                Some(bytes) => reader.feed(bytes),
                None => reader.end_of_input(),
            },
            Step::Header(found) => version = found,
            Step::Aux(name, value) => aux.push((text(&name), text(&value))),
            Step::Function(source) => functions.push(source.into_owned()),
            Step::Entry(entry) => {
                let found = Found {
                    expires: entry.expires.map(|due| due.0),
                    used: entry.used,
                    type_byte: entry.type_byte,
                    value: entry.value,
                };
                assert!(keys.insert((entry.db.0, entry.key.into_owned()), found).is_none(), "a key is there twice");
            }
            Step::ModuleKey(_, key, name) => of_modules.push((text(&key), text(&name))),
            Step::End(checksum) => {
                return Ok(Contents { version, aux, functions, keys, of_modules, checksum, end: reader.offset() });
            }
            Step::SelectDb(_) | Step::ResizeDb { .. } | Step::EmptyKey(..) | Step::Skipped(_) => {}
        }
    }
}

/// The value of a key in the selected database as commands show it: its type, then its strings, those of sets and hashes sorted, and
/// scores in front of their members.
fn by_commands(client: &mut Client, key: &[u8]) -> values::Content {
    fn bytes(value: &Value) -> Vec<u8> {
        value.bytes().unwrap_or_else(|| panic!("a string, not {value}")).to_vec()
    }
    fn all(client: &mut Client, argv: &[&[u8]]) -> Vec<Vec<u8>> {
        let reply = client.command(argv);
        reply.elements().unwrap_or_else(|| panic!("an array, not {reply}")).iter().map(bytes).collect()
    }
    match client.command(&[b"TYPE", key]).text().as_str() {
        "string" => ("string", vec![bytes(&client.command(&[b"GET", key]))]),
        "list" => ("list", all(client, &[b"LRANGE", key, b"0", b"-1"])),
        "set" => {
            let mut members = all(client, &[b"SMEMBERS", key]);
            members.sort();
            ("set", members)
        }
        "hash" => {
            let fields = all(client, &[b"HGETALL", key]);
            let mut pairs: Vec<_> = fields.chunks(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
            pairs.sort();
            // No field of redis-server 7.0 has a deadline.
            ("hash", pairs.into_iter().flat_map(|[field, value]| [field, value, b"0".to_vec()]).collect())
        }
        "zset" => {
            let members = all(client, &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]);
            let scored = members.chunks(2).flat_map(|pair| {
                let score: f64 = String::from_utf8_lossy(&pair[1]).parse().expect("a score");
                [format!("{:?}", score + 0.0).into_bytes(), pair[0].clone()]
            });
            ("zset", scored.collect())
        }
        "stream" => (
            "stream",
            vec![client.command(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]).to_string().into_bytes()],
        ),
        other => panic!("{} is a {other}", key.escape_ascii()),
    }
}

/// An integer reply.
fn integer(reply: &Value) -> i64 {
    match reply {
        Value::Int(number) => *number,
        other => panic!("an integer, not {other}"),
    }
}

/// Starts the server again with this file as its `dump.rdb`.
fn load_into(server: &mut Server, file: &[u8]) -> Client {
    server.stop();
    fs::write(server.dir().join("dump.rdb"), file).expect("the folder is writable");
    server.restart();
    server.connect()
}

/// What a tool that belongs to redis-server (`redis-check-rdb`, say) says about a file: whether it was content, and its words. None if
/// the tool is not installed.
fn redis_tool(name: &str, args: &[&str]) -> Option<(bool, String)> {
    let beside = std::env::var_os("REDIS_BIN").map(|server| std::path::Path::new(&server).with_file_name(name));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into());
    match Command::new(&program).args(args).output() {
        Ok(output) => {
            let words = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&words).into_owned()))
        }
        Err(_) => {
            assert!(!in_ci(), "{name} is not installed, and in CI an oracle may not be missing");
            println!("SKIPPED: {name} is not installed");
            None
        }
    }
}
