//! DUMP and RESTORE: a value as bytes, and back. Rows first, then the handlers.
//!
//! The bytes are those of `persist::dump`. A payload is read to its end before anything changes, into a value of our own: one that is
//! refused leaves the key as it was. RESTORE-ASKING is RESTORE for a cluster's migrations.
//!
//! Absent: MIGRATE, which needs connections to other servers.

use std::sync::Arc;

use super::docs::Group;
use super::keys::{KeyFlags, KeySpec};
use super::table::{Flags, Row, Run};
use crate::base::num::{format_i64, parse_i64};
use crate::base::time::Millis;
use crate::base::{BLOB_BYTES_MIN, Blob};
use crate::config::EventClass;
use crate::keyspace::NewValue;
use crate::keyspace::access::{lfu_access, lru_access_idle_for};
use crate::persist::dump::{self, PayloadError};
use crate::persist::rdb::{Decoded, Limits};
use crate::resp::{Args, CommandError, Reply};
use crate::shard::access::AccessPolicy;
use crate::shard::cx::{DataFn, ReadCx, Ttl, WriteCx};

const RESTORE: Row = Row {
    group: Group::Generic,
    usage: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    complexity: "O(N) where N is the length of the payload; O(N*log(N)) for sorted sets.",
    arity: -4,
    flags: Flags::WRITE.and(Flags::DENYOOM),
    acl: &["dangerous"],
    keys: &[KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE))],
    run: Run::Data(DataFn::Write(restore)),
    ..Row::DEFAULT
};

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "dump",
        usage: "key",
        summary: "Replies with the value at a key as bytes that RESTORE takes.",
        since: "2.6.0",
        complexity: "O(N) where N is the size of the value.",
        group: Group::Generic,
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        tips: &["nondeterministic_output"],
        run: Run::Data(DataFn::Read(dump_key)),
        ..Row::DEFAULT
    },
    Row { name: "restore", summary: "Makes a key out of what DUMP replied.", since: "2.6.0", ..RESTORE },
    Row {
        name: "restore-asking",
        summary: "RESTORE into a slot that is being imported.",
        since: "3.0.0",
        group: Group::Server,
        flags: RESTORE.flags.and(Flags::ASKING),
        acl: &["keyspace", "dangerous"],
        ..RESTORE
    },
];

type Done = Result<(), CommandError>;

fn dump_key(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (now, compress) = (cx.now().millis(), cx.config().rdbcompression);
    match cx.get(args.get(1)).and_then(|entry| dump::dump(entry.value(), now, compress)) {
        None => reply.null(),
        Some(payload) if payload.len() < BLOB_BYTES_MIN => reply.bulk(&payload),
        Some(payload) => reply.blob(&Blob::new(payload)),
    }
    Ok(())
}

/// What follows the payload.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_secs: Option<u32>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 4;
        while at < args.len() {
            let word = args.get(at);
            let value = args.iter().nth(at + 1);
            if word.eq_ignore_ascii_case(b"replace") {
                options.replace = true;
            } else if word.eq_ignore_ascii_case(b"absttl") {
                options.absolute = true;
            } else if word.eq_ignore_ascii_case(b"idletime")
                && let Some(value) = value
                && options.frequency.is_none()
            {
                let secs = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
                if secs < 0 {
                    return Err(CommandError::Custom("ERR Invalid IDLETIME value, must be >= 0"));
                }
                options.idle_secs = Some(u32::try_from(secs).unwrap_or(u32::MAX));
                at += 1;
            } else if word.eq_ignore_ascii_case(b"freq")
                && let Some(value) = value
                && options.idle_secs.is_none()
            {
                let frequency = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
                let frequency = u8::try_from(frequency);
                let wrong = CommandError::Custom("ERR Invalid FREQ value, must be >= 0 and <= 255");
                options.frequency = Some(frequency.map_err(|_| wrong)?);
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// The access word of the new key; each policy takes what it understands.
    fn access(&self, policy: AccessPolicy, now: Millis) -> u32 {
        match (policy, self.idle_secs, self.frequency) {
            (AccessPolicy::Lru, Some(secs), _) => lru_access_idle_for(secs, now),
            (AccessPolicy::Lfu { .. }, _, Some(frequency)) => lfu_access(frequency, now),
            _ => policy.fresh(now),
        }
    }
}

fn restore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let options = Options::parse(args)?;
    let key = args.get(1);
    if !options.replace && cx.lookup(key).is_some() {
        return Err(CommandError::BusyKey);
    }
    let ttl = parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
    if ttl < 0 {
        return Err(CommandError::Custom("ERR Invalid TTL value, must be >= 0"));
    }
    cx.note_payload();
    let value = dump::restore(args.get(3), &Limits::of(cx.config())).map_err(|error| match error {
        PayloadError::VersionOrChecksum => CommandError::Custom("ERR DUMP payload version or checksum are wrong"),
        PayloadError::Value(_) => CommandError::Custom("ERR Bad data format"),
    })?;
    let now = cx.now().millis();
    let due = match ttl {
        0 => None,
        _ if options.absolute => Some(Millis(ttl)),
        _ => Some(Millis(now.0.saturating_add(ttl))),
    };
    reply.ok();
    if due.is_some_and(|due| due <= now) {
        // It has expired on the way; what it was to replace is gone.
        if cx.remove(key) {
            cx.effect(key, &[b"DEL", key]);
        }
        return Ok(());
    }
    let ttl = due.map_or(Ttl::Clear, Ttl::At);
    if cx.peek(key).is_some() {
        // What is replaced goes first.
        cx.notify(EventClass::NEW, "new", key);
    }
    match value {
        Decoded::Object(object) if object.is_dead() => {
            if cx.remove(key) {
                cx.effect(key, &[b"DEL", key]);
            }
            return Ok(());
        }
        Decoded::Object(object) => cx.set(key, NewValue::Object(Box::new(object)), ttl),
        Decoded::String(text) if text.len() < BLOB_BYTES_MIN => cx.set(key, NewValue::string(&text), ttl),
        Decoded::String(text) => cx.set(key, NewValue::Blob(Arc::new(text)), ttl),
    }
    let access = options.access(cx.access_policy(), now);
    cx.set_access(key, access);
    cx.notify(EventClass::GENERIC, "restore", key);
    let due = format_i64(due.map_or(0, |due| due.0));
    cx.effect(key, &[b"RESTORE", key, due.as_bytes(), args.get(3), b"REPLACE", b"ABSTTL"]);
    Ok(())
}
