//! DEBUG: what tests and bug reports need. Off unless `enable-debug-command` says otherwise.
//!
//! Not a container in Redis and so not here: the subcommand is an argument, and a wrong number of arguments is the same error as
//! an unknown subcommand.

use std::time::Duration;

use super::SERVER;
use crate::base::{float, glob, num};
use crate::commands::table::{Flags, Row, Run};
use crate::config::ProtectedAction;
use crate::keyspace::access::lru_idle_secs;
use crate::keyspace::{Entry, NewValue, Value};
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::crash;
use crate::shard::cx::{Ttl, WriteCx};
use crate::txn::{Coordinator, Plan};

/// See the module.
pub const ROW: Row = Row {
    name: "debug",
    usage: "subcommand [arg [arg ...]]",
    summary: "Looks at the server's inside, or disturbs it, for tests.",
    complexity: "Depends on the subcommand.",
    arity: -2,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    run: Run::Server(debug),
    ..SERVER
};

const HELP: &[(&str, &str)] = &[
    ("CHANGE-REPL-ID", "Accepted and without effect: there is no replication."),
    ("ERROR <text>", "Replies with an error of this text."),
    ("HTSTATS <dbid>", "Keys and bytes of a database on each shard."),
    ("JMAP", "Accepted and without effect."),
    ("LOG <message>", "Writes a message to the log."),
    ("OBJECT <key>", "How a key's value is stored."),
    ("PANIC", "Ends the server by a failed assertion."),
    ("POPULATE <count> [<prefix>] [<size>]", "Makes keys <prefix>:<n> that are not there yet."),
    (
        "PROTOCOL <type>",
        "Replies with a value of this type: string, integer, double, bignum, null, array, set, map, attrib, push, verbatim, \
         true, false.",
    ),
    ("QUICKLIST-PACKED-THRESHOLD <size>", "Accepted and without effect."),
    ("SDSLEN <key>", "The lengths of a key and its value."),
    ("SEGFAULT", "Ends the server by a bad memory access."),
    (
        "RESERVATIONS <ON|OFF>",
        "Off: commands over several shards are not isolated any more, for tests that have to see it.",
    ),
    ("SET-ACTIVE-EXPIRE <0|1>", "Stops or resumes the removal of expired keys that nobody asks for."),
    ("SLEEP <seconds>", "Stops every core for so long; decimals are allowed."),
    ("STRINGMATCH-LEN <pattern> <text>", "Whether the glob pattern matches the text."),
    ("HELP", "Prints this help."),
];

/// The largest pause that DEBUG SLEEP makes, seconds.
const SLEEP_SECS_MAX: f64 = 86_400.0;
/// Keys that DEBUG POPULATE makes in one step on each shard.
const KEYS_PER_STEP: u64 = 4096;

fn debug(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        check_allowed(&coordinator).await?;
        let mut reply = coordinator.reply();
        run(&coordinator, args, &mut reply).await?;
        Ok(reply)
    })
}

async fn check_allowed(coordinator: &Coordinator) -> Result<(), CommandError> {
    let home = coordinator.origin().shard;
    let allowed = match coordinator.call(home, |shard| shard.config.enable_debug_command).await {
        ProtectedAction::No => false,
        ProtectedAction::Yes => true,
        ProtectedAction::Local => super::client_is_local(coordinator).await,
    };
    if allowed {
        return Ok(());
    }
    Err(CommandError::Custom(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
         connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    ))
}

async fn run(coordinator: &Coordinator, owned: OwnedArgs, reply: &mut Reply) -> Result<(), CommandError> {
    let args = owned.as_args();
    let name = args.get(1).to_ascii_lowercase();
    match (name.as_slice(), args.len()) {
        (b"help", 2) => help(reply),
        (b"jmap" | b"change-repl-id", 2) | (b"quicklist-packed-threshold", 3) => reply.ok(),
        (b"error", 3) => return Err(CommandError::Message(String::from_utf8_lossy(args.get(2)).into_owned())),
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.get(2)));
            reply.ok();
        }
        (b"protocol", 3) => protocol(args.get(2), reply)?,
        (b"stringmatch-len", 4) => reply.int(i64::from(glob::matches(args.get(2), args.get(3), false))),
        (b"panic", 2) => panic!("DEBUG PANIC"),
        (b"segfault", 2) => crash::segfault(),
        (b"sleep", 3) => {
            // Read as C's strtod does it: what is no number is none.
            let seconds = float::parse_f64_lenient(args.get(2)).unwrap_or(0.0).clamp(0.0, SLEEP_SECS_MAX);
            let pause = Duration::from_secs_f64(seconds);
            // To be without an answer is what this is for, so it stops the cores and not just this plan.
            coordinator.call_all(move |_| std::thread::sleep(pause)).await;
            reply.ok();
        }
        (b"set-active-expire", 3) => {
            let active = num::parse_i64(args.get(2)).unwrap_or(0) != 0;
            coordinator.call_all(move |shard| shard.active_expire = active).await;
            reply.ok();
        }
        (b"reservations", 3) => {
            let enforced = match args.get(2).to_ascii_lowercase().as_slice() {
                b"on" => true,
                b"off" => false,
                _ => return Err(CommandError::Syntax),
            };
            coordinator.call_all(move |shard| shard.reservations.enforce(enforced)).await;
            reply.ok();
        }
        (b"object", 3) => {
            let key = args.get(2).to_vec();
            let text = coordinator.with_key(args.get(2), move |cx| describe_key(cx, &key, describe_object)).await;
            reply.simple(&text.ok_or(CommandError::NoSuchKey)?);
        }
        (b"sdslen", 3) => {
            let key = args.get(2).to_vec();
            let text = coordinator.with_key(args.get(2), move |cx| describe_key(cx, &key, describe_lengths)).await;
            reply.simple(&text.ok_or(CommandError::NoSuchKey)?);
        }
        (b"htstats", 3) => {
            let text = table_stats(coordinator, args.get(2)).await?;
            reply.verbatim("txt", text.as_bytes());
        }
        (b"populate", 3..=5) => {
            populate(coordinator, args).await?;
            reply.ok();
        }
        _ => {
            return Err(CommandError::Message(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
                String::from_utf8_lossy(&args.get(1)[..args.get(1).len().min(128)])
            )));
        }
    }
    Ok(())
}

fn help(reply: &mut Reply) {
    reply.array(1 + 2 * HELP.len());
    reply.simple("DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for (call, meaning) in HELP {
        reply.simple(call);
        reply.simple(&format!("    {meaning}"));
    }
}

/// Exact in its shortest form, and far from a whole number.
#[expect(clippy::approx_constant, reason = "it is the value that Redis sends, not a bad pi")]
const SOME_DOUBLE: f64 = 3.141;

/// A value of each type of the protocol, for the tests of client libraries: the values are those that Redis has.
fn protocol(kind: &[u8], reply: &mut Reply) -> Result<(), CommandError> {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.int(12345),
        b"double" => reply.double(SOME_DOUBLE),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|n| reply.int(n));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|n| reply.int(n));
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.int(n);
                reply.bool(n == 1);
            }
        }
        b"attrib" => {
            if reply.attribute(1) {
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if reply.proto() == crate::resp::Resp::V2 {
                return Err(CommandError::Custom("ERR RESP2 is not supported by this command"));
            }
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.bool(true),
        b"false" => reply.bool(false),
        _ => {
            return Err(CommandError::Custom(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn describe_key(cx: &mut WriteCx<'_>, key: &[u8], describe: fn(Entry<'_>, u32) -> String) -> Option<String> {
    let now = cx.now().millis();
    let entry = cx.peek(key)?;
    Some(describe(entry, lru_idle_secs(entry.access(), now)))
}

fn describe_object(entry: Entry<'_>, idle_secs: u32) -> String {
    let value = entry.value();
    let (address, references) = match value {
        Value::Blob(blob) => (blob.as_ptr(), std::sync::Arc::strong_count(blob)),
        Value::Inline { bytes, .. } => (bytes.as_ptr(), 1),
        Value::Int(_) => (entry.key().as_ptr(), 1),
        Value::Packed(packed) => (std::ptr::from_ref(packed).cast(), 1),
        Value::Object(object) => (std::ptr::from_ref(object).cast(), 1),
    };
    format!(
        "Value at:{address:p} refcount:{references} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_secs}",
        value.encoding_name(),
        serialized_len(value),
        entry.access(),
    )
}

/// Bytes of a string in a snapshot file, uncompressed. Format: Redis's `rdb.c`, length-encoded strings and integers.
fn serialized_len(value: Value<'_>) -> usize {
    match value {
        Value::Object(object) => object.allocated_bytes(),
        Value::Int(n) if i8::try_from(n).is_ok() => 2,
        Value::Int(n) if i16::try_from(n).is_ok() => 3,
        Value::Int(n) if i32::try_from(n).is_ok() => 5,
        other => {
            let len = other.len();
            let header = match len {
                0..=63 => 1,
                64..=16_383 => 2,
                16_384..=0xffff_ffff => 5,
                _ => 9,
            };
            header + len
        }
    }
}

fn describe_lengths(entry: Entry<'_>, _: u32) -> String {
    let (key, value) = (entry.key().len(), entry.value().len());
    format!(
        "key_sds_len:{key}, key_sds_avail:0, key_zmalloc: {key}, val_sds_len:{value}, val_sds_avail:0, val_zmalloc: {value}"
    )
}

async fn table_stats(coordinator: &Coordinator, db: &[u8]) -> Result<String, CommandError> {
    let number = num::parse_i64(db).ok_or(CommandError::NotAnInteger)?;
    let index = u16::try_from(number).map_err(|_| CommandError::Custom("ERR Out of range database"))?;
    let lines = coordinator
        .call_all(move |shard| {
            let db = shard.keyspace.dbs().get(usize::from(index))?;
            let memory = db.memory();
            Some(format!(
                "[Shard {}]\n table bytes: {}\n record bytes: {}\n number of elements: {}\n elements with expiry: {}\n",
                shard.id,
                memory.table_bytes,
                memory.record_bytes,
                db.len(),
                db.expires_len()
            ))
        })
        .await;
    lines.into_iter().collect::<Option<String>>().ok_or(CommandError::Custom("ERR Out of range database"))
}

async fn populate(coordinator: &Coordinator, args: Args<'_>) -> Result<(), CommandError> {
    let number = |at: usize| {
        let number = num::parse_i64(args.get(at)).and_then(|n| u64::try_from(n).ok());
        number.ok_or(CommandError::MustBePositive)
    };
    let count = number(2)?;
    let prefix = if args.len() > 3 { args.get(3).to_vec() } else { b"key".to_vec() };
    let size = if args.len() > 4 { Some(number(4)?) } else { None };
    if size.is_some_and(|size| size > u64::from(u32::MAX)) {
        return Err(CommandError::MustBePositive);
    }
    let db = coordinator.origin().db;
    let mut from = 0;
    while from < count {
        let to = count.min(from + KEYS_PER_STEP);
        let prefix = prefix.clone();
        // Every shard counts through the names and makes those that are its own.
        coordinator
            .call_all(move |shard| {
                let (id, slots) = (shard.id, shard.slots);
                let mut cx = WriteCx::new(shard.data_cx(db, true));
                for n in from..to {
                    let key = [&prefix[..], b":", n.to_string().as_bytes()].concat();
                    if slots.shard_of(&key) == id && cx.peek(&key).is_none() {
                        let mut value = format!("value:{n}").into_bytes();
                        if let Some(size) = size {
                            value.resize(size as usize, 0);
                        }
                        cx.set(&key, NewValue::string(&value), Ttl::Clear);
                    }
                }
            })
            .await;
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Resp;

    #[test]
    fn serialized_lengths_are_those_of_snapshots() {
        // As DEBUG OBJECT of redis-server 7.0.15 tells them.
        assert_eq!(serialized_len(Value::Int(12)), 2);
        assert_eq!(serialized_len(Value::Int(1000)), 3);
        assert_eq!(serialized_len(Value::Int(100_000)), 5);
        assert_eq!(serialized_len(Value::Int(10_000_000_000)), 12);
        assert_eq!(serialized_len(Value::Inline { bytes: b"hello", raw: false }), 6);
        assert_eq!(serialized_len(Value::Inline { bytes: &[b'x'; 64], raw: true }), 66);
    }

    #[test]
    fn protocol_has_a_value_of_each_type() {
        let mut reply = Reply::with_proto(Resp::V3);
        for (kind, bytes) in [
            ("double", ",3.141\r\n"),
            ("null", "_\r\n"),
            ("true", "#t\r\n"),
            ("map", "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n"),
            ("verbatim", "=29\r\ntxt:This is a verbatim\nstring\r\n"),
        ] {
            protocol(kind.as_bytes(), &mut reply).unwrap();
            assert_eq!(String::from_utf8(reply.to_vec()).unwrap(), bytes);
            reply.clear();
        }
        assert!(protocol(b"nope", &mut reply).is_err());
        assert!(protocol(b"push", &mut Reply::new()).is_err());
    }
}
