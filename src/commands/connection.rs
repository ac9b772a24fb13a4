//! Commands about the connection that sends them: who it is, how it is answered, which database it uses.
//!
//! All of them work on the [`Session`](crate::session::Session) and run at once on its core. CLIENT has a file of its own.

use std::sync::Arc;

use super::acl::log_in;
use super::client;
use super::docs::Group;
use super::server::REDIS_VERSION;
use super::table::{Flags, Row, Run, SessionCx};
use super::transaction::forget_watches;
use crate::acl::{Acl, DEFAULT_USER};
use crate::base::{DbIndex, num};
use crate::resp::args::Args;
use crate::resp::error::CommandError;
use crate::resp::reply::{Reply, Resp};
use crate::session::Session;
use crate::shard::Shard;

/// What may be sent before authentication, at any time.
const HANDSHAKE: Flags =
    Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);

/// See the module.
pub const ROWS: &[Row] = &[
    Row {
        name: "auth",
        usage: "[username] password",
        summary: "Authenticates the connection.",
        complexity: "O(N) with N the length of the password",
        group: Group::Connection,
        arity: -2,
        flags: HANDSHAKE,
        run: Run::Session(auth),
        ..Row::DEFAULT
    },
    Row {
        name: "client",
        summary: "A container for commands about connections.",
        since: "2.4.0",
        complexity: "Depends on the subcommand.",
        group: Group::Connection,
        arity: -2,
        subcommands: client::SUBCOMMANDS,
        ..Row::DEFAULT
    },
    Row {
        name: "echo",
        usage: "message",
        summary: "Returns the message.",
        group: Group::Connection,
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        run: Run::Session(echo),
        ..Row::DEFAULT
    },
    Row {
        name: "hello",
        usage: "[protover [AUTH username password] [SETNAME clientname]]",
        summary: "Agrees on the protocol version, and may authenticate and name the connection at once.",
        since: "6.0.0",
        group: Group::Connection,
        arity: -1,
        flags: HANDSHAKE,
        run: Run::Session(hello),
        ..Row::DEFAULT
    },
    Row {
        name: "ping",
        usage: "[message]",
        summary: "Answers with PONG or the message.",
        group: Group::Connection,
        arity: -1,
        flags: Flags::FAST,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: Run::Session(ping),
        ..Row::DEFAULT
    },
    Row {
        name: "quit",
        summary: "Closes the connection when everything before it has been answered.",
        group: Group::Connection,
        arity: -1,
        flags: HANDSHAKE,
        run: Run::Session(quit),
        ..Row::DEFAULT
    },
    Row {
        name: "reset",
        summary: "Makes the connection as if it had just been opened.",
        since: "6.2.0",
        group: Group::Connection,
        arity: 1,
        flags: HANDSHAKE,
        run: Run::Session(reset),
        ..Row::DEFAULT
    },
    Row {
        name: "select",
        usage: "index",
        summary: "Changes the database that the connection works on.",
        group: Group::Connection,
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        run: Run::Session(select),
        ..Row::DEFAULT
    },
];

/// A client has shown a certificate that names this user (`tls-auth-clients-user`). False if there is no such user, or it is off; the
/// client stays who it was then.
pub fn certified(acl: &Acl, session: &mut Session, user: &[u8]) -> bool {
    let Some(user) = acl.enabled(user) else { return false };
    session.log_in(Arc::clone(user));
    true
}

fn auth(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let (user, password) = match args.len() {
        2 if cx.shard.acl.default_user().nopass => return Err(CommandError::NoPasswordSet),
        2 => (DEFAULT_USER, args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(CommandError::Syntax),
    };
    log_in(cx, user, password, args.get(0))?;
    reply.ok();
    Ok(())
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`. Everything is checked before anything is changed.
fn hello(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let proto = match args.len() {
        1 => cx.session.proto,
        _ => match num::parse_i64(args.get(1)) {
            None => return Err(CommandError::Custom("ERR Protocol version is not an integer or out of range")),
            Some(2) => Resp::V2,
            Some(3) => Resp::V3,
            Some(_) => return Err(CommandError::NoProto),
        },
    };
    let mut credentials = None;
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        let more = args.len() - at - 1;
        let option = args.get(at);
        if option.eq_ignore_ascii_case(b"AUTH") && more >= 2 {
            credentials = Some((args.get(at + 1), args.get(at + 2)));
            at += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && more >= 1 {
            client::check_name(args.get(at + 1))?;
            name = Some(args.get(at + 1));
            at += 2;
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::Message(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    match credentials {
        Some((user, password)) => log_in(cx, user, password, args.get(0))?,
        None if cx.session.must_authenticate(&cx.shard.acl) => return Err(CommandError::NoAuthHello),
        None => {}
    }
    let session = &mut *cx.session;
    if let Some(name) = name {
        session.name = name.to_vec();
    }
    session.proto = proto;
    reply.set_proto(proto);
    reply.map(7);
    let pair = |key: &str, value: &str, reply: &mut Reply| {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    };
    pair("server", "redis", reply);
    pair("version", REDIS_VERSION, reply);
    reply.bulk(b"proto");
    reply.int(if proto == Resp::V3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(session.id as i64);
    pair("mode", if session.node { "cluster" } else { "standalone" }, reply);
    pair("role", "master", reply);
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn ping(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    match args.len() {
        // Between messages an answer has to look like one.
        1 | 2 if cx.session.only_listens() => {
            reply.array(2);
            reply.bulk(b"pong");
            match args.len() {
                1 => reply.bulk(b""),
                _ => write_argument(args, 1, reply),
            }
        }
        1 => reply.simple("PONG"),
        2 => write_argument(args, 1, reply),
        _ => return Err(CommandError::WrongArity("ping")),
    }
    Ok(())
}

fn echo(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    write_argument(args, 1, reply);
    Ok(())
}

/// An argument as it came; a large one is not copied.
fn write_argument(args: Args<'_>, at: usize, reply: &mut Reply) {
    match args.blob(at) {
        Some(blob) => reply.blob(blob),
        None => reply.bulk(args.get(at)),
    }
}

fn quit(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    cx.session.close_after_reply();
    reply.ok();
    Ok(())
}

fn reset(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    cx.shard.unsubscribe_all(cx.session.key);
    forget_watches(cx.session, cx.shard);
    cx.shard.stop_tracking(cx.session);
    cx.session.reset();
    cx.session.log_out(&cx.shard.acl);
    reply.set_proto(cx.session.proto);
    reply.simple("RESET");
    Ok(())
}

fn select(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let index = num::parse_i64(args.get(1)).ok_or(CommandError::NotAnInteger)?;
    if i32::try_from(index).is_err() {
        return Err(CommandError::NotBetween(i64::from(i32::MIN), i64::from(i32::MAX)));
    }
    cx.session.db = db_index(index, cx.shard)?;
    reply.ok();
    Ok(())
}

/// The database of this number.
fn db_index(index: i64, shard: &Shard) -> Result<DbIndex, CommandError> {
    match usize::try_from(index) {
        Ok(i) if i < shard.keyspace.dbs().len() => Ok(DbIndex(u16::try_from(i).expect("databases are few"))),
        _ => Err(CommandError::DbIndexOutOfRange),
    }
}
