//! CLIENT: what the server knows of its connections, and what can be done with them.
//!
//! Subcommands about one's own connection run on the session; those about all connections ask every shard for the lines, or
//! let it do the work on its own sessions, since a session never leaves its core.

use super::client_tracking::{caching, getredir, redirection, tracking, trackinginfo};
use super::docs::Group;
use super::help::help;
use super::table::{Flags, Row, Run, SessionCx, table};
use crate::acl::Users;
use crate::base::num;
use crate::base::time::{Millis, Now};
use crate::resp::BigBulk;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::error::CommandError;
use crate::resp::reply::{Reply, Resp};
use crate::session::{Closing, INPUT_BYTES_WAITING_MAX, ReplyMode, Session, SessionKey};
use crate::shard::waiters::WaitEvent;
use crate::shard::{Pause, Shard};
use crate::txn::{Coordinator, Plan};

const OWN: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = OWN.and(Flags::ADMIN);
const TO_ALL: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const SUB: Row = Row { group: Group::Connection, flags: OWN, ..Row::DEFAULT };

/// The subcommands of CLIENT.
pub const SUBCOMMANDS: &[Row] = &[
    Row {
        name: "caching",
        usage: "<YES | NO>",
        summary: "Says whether the keys of the next command are to be tracked.",
        since: "6.0.0",
        arity: 3,
        run: Run::Session(caching),
        ..SUB
    },
    Row {
        name: "getname",
        summary: "The connection's name.",
        since: "2.6.9",
        arity: 2,
        run: Run::Session(getname),
        ..SUB
    },
    Row {
        name: "getredir",
        summary: "The connection to which invalidations are sent, -1 if this one is not tracked.",
        since: "6.0.0",
        arity: 2,
        run: Run::Session(getredir),
        ..SUB
    },
    Row {
        name: "help",
        summary: "Prints this help.",
        since: "5.0.0",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        run: Run::Session(help),
        ..SUB
    },
    Row {
        name: "id",
        summary: "The connection's number: larger for later connections, never used twice.",
        since: "5.0.0",
        arity: 2,
        run: Run::Session(id),
        ..SUB
    },
    Row {
        name: "info",
        summary: "What CLIENT LIST says of this connection.",
        since: "6.2.0",
        arity: 2,
        tips: &["nondeterministic_output"],
        run: Run::Session(info),
        ..SUB
    },
    Row {
        name: "kill",
        usage: "<ip:port | <ID client-id | TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB> | USER username | \
                ADDR ip:port | LADDR ip:port | SKIPME yes/no | MAXAGE maxage> ...>",
        summary: "Closes the connection with this address, or all that pass every filter.",
        since: "2.4.0",
        complexity: "O(N) with N connections",
        arity: -3,
        flags: ADMIN,
        run: Run::Server(kill),
        ..SUB
    },
    Row {
        name: "list",
        usage: "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
        summary: "A line about each connection.",
        since: "2.4.0",
        complexity: "O(N) with N connections",
        arity: -2,
        flags: ADMIN,
        tips: &["nondeterministic_output"],
        run: Run::Server(list),
        ..SUB
    },
    Row {
        name: "no-evict",
        usage: "<ON | OFF>",
        summary: "Keeps the connection when clients are closed to save memory.",
        since: "7.0.0",
        arity: 3,
        flags: ADMIN,
        run: Run::Session(no_evict),
        ..SUB
    },
    Row {
        name: "no-touch",
        usage: "<ON | OFF>",
        summary: "Leaves keys' last access alone when this connection uses them.",
        since: "7.2.0",
        arity: 3,
        run: Run::Session(no_touch),
        ..SUB
    },
    Row {
        name: "pause",
        usage: "timeout [WRITE | ALL]",
        summary: "Holds all commands back for so many milliseconds, or only those that may write.",
        since: "3.0.0",
        arity: -3,
        flags: ADMIN,
        run: Run::Server(pause),
        ..SUB
    },
    Row {
        name: "reply",
        usage: "<ON | OFF | SKIP>",
        summary: "Answers commands, or does not, or does not answer the next one.",
        since: "3.2.0",
        arity: 3,
        run: Run::Session(reply_mode),
        ..SUB
    },
    Row {
        name: "setinfo",
        usage: "<LIB-NAME libname | LIB-VER libver>",
        summary: "Tells the client library's name or version.",
        since: "7.2.0",
        arity: 4,
        tips: TO_ALL,
        run: Run::Session(setinfo),
        ..SUB
    },
    Row {
        name: "setname",
        usage: "connection-name",
        summary: "Gives the connection a name.",
        since: "2.6.9",
        arity: 3,
        tips: TO_ALL,
        run: Run::Session(setname),
        ..SUB
    },
    Row {
        name: "tracking",
        usage: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        summary: "Switches server-assisted client-side caching.",
        since: "6.0.0",
        arity: -3,
        run: Run::Server(tracking),
        ..SUB
    },
    Row {
        name: "trackinginfo",
        summary: "How this connection is tracked.",
        since: "6.2.0",
        arity: 2,
        run: Run::Session(trackinginfo),
        ..SUB
    },
    Row {
        name: "unblock",
        usage: "client-id [TIMEOUT | ERROR]",
        summary: "Ends the wait of a blocked connection.",
        since: "5.0.0",
        complexity: "O(log N) with N connections",
        arity: -3,
        flags: ADMIN,
        run: Run::Server(unblock),
        ..SUB
    },
    Row {
        name: "durability",
        usage: "[DEFAULT | NONE | EVERYSEC | ALWAYS]",
        summary: "How long replies to this connection wait for what they tell of to be on the disk.",
        since: "7.2.0",
        complexity: "O(1)",
        arity: -2,
        flags: OWN,
        run: Run::Server(super::persistence::durability),
        ..SUB
    },
    Row {
        name: "unpause",
        summary: "Ends CLIENT PAUSE.",
        since: "6.2.0",
        complexity: "O(N) with N held connections",
        arity: 2,
        flags: ADMIN,
        run: Run::Server(unpause),
        ..SUB
    },
];

/// Whether these bytes are printable and without blanks, so that a line of CLIENT LIST stays one word per field.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|b| (b'!'..=b'~').contains(b))
}

/// The rule for names in CLIENT SETNAME and HELLO.
pub fn check_name(name: &[u8]) -> Result<(), CommandError> {
    if is_plain(name) {
        Ok(())
    } else {
        Err(CommandError::Custom("ERR Client names cannot contain spaces, newlines or special characters."))
    }
}

fn setname(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    check_name(args.get(2))?;
    cx.session.name = args.get(2).to_vec();
    reply.ok();
    Ok(())
}

fn getname(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    if cx.session.name.is_empty() {
        reply.null()
    } else {
        reply.bulk(&cx.session.name)
    }
    Ok(())
}

fn setinfo(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let (attribute, value) = (args.get(2), args.get(3));
    let field = if attribute.eq_ignore_ascii_case(b"lib-name") {
        &mut cx.session.lib_name
    } else if attribute.eq_ignore_ascii_case(b"lib-ver") {
        &mut cx.session.lib_ver
    } else {
        return Err(message("ERR Unrecognized option '", attribute, "'"));
    };
    if !is_plain(value) {
        return Err(message("ERR ", attribute, " cannot contain spaces, newlines or special characters."));
    }
    *field = value.to_vec();
    reply.ok();
    Ok(())
}

fn message(before: &str, said: &[u8], after: &str) -> CommandError {
    CommandError::Message(format!("{before}{}{after}", String::from_utf8_lossy(said)))
}

fn id(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.int(cx.session.id as i64);
    Ok(())
}

fn info(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let mut line = describe(cx.session, cx.shard);
    line.push(b'\n');
    reply.verbatim("txt", &line);
    Ok(())
}

fn reply_mode(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let mode = args.get(2);
    if mode.eq_ignore_ascii_case(b"ON") {
        cx.session.reply_mode = ReplyMode::On;
        reply.ok();
    } else if mode.eq_ignore_ascii_case(b"OFF") {
        cx.session.reply_mode = ReplyMode::Off;
    } else if mode.eq_ignore_ascii_case(b"SKIP") {
        if cx.session.reply_mode != ReplyMode::Off {
            cx.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

/// The argument of a switch.
pub(super) fn on_or_off(word: &[u8]) -> Result<bool, CommandError> {
    match word {
        _ if word.eq_ignore_ascii_case(b"ON") => Ok(true),
        _ if word.eq_ignore_ascii_case(b"OFF") => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

fn no_evict(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    cx.session.no_evict = on_or_off(args.get(2))?;
    reply.ok();
    Ok(())
}

fn no_touch(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    cx.session.no_touch = on_or_off(args.get(2))?;
    reply.ok();
    Ok(())
}

fn unblock(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let with_error = args.len() > 3 && args.get(3).eq_ignore_ascii_case(b"ERROR");
        if args.len() > 3 && !with_error && !args.get(3).eq_ignore_ascii_case(b"TIMEOUT") {
            return Err(CommandError::Custom("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
        let id = num::parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
        let unblocked = coordinator
            .call_all(move |shard| {
                let waiting = shard.sessions.iter().find(|s| i64::try_from(s.id) == Ok(id)).and_then(|s| s.blocked);
                if let Some(plan) = waiting {
                    shard.wait_events.push((plan, WaitEvent::Unblocked { with_error }));
                }
                waiting.is_some()
            })
            .await;
        let mut reply = coordinator.reply();
        reply.int(i64::from(unblocked.contains(&true)));
        Ok(reply)
    })
}

/// The class of a connection, as CLIENT LIST TYPE and CLIENT KILL TYPE ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ClientType {
    Normal,
    Master,
    Replica,
    Pubsub,
}

impl ClientType {
    fn parse(name: &[u8]) -> Result<ClientType, CommandError> {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("normal") => Ok(ClientType::Normal),
            () if is("master") => Ok(ClientType::Master),
            () if is("slave") || is("replica") => Ok(ClientType::Replica),
            () if is("pubsub") => Ok(ClientType::Pubsub),
            () => Err(message("ERR Unknown client type '", name, "'")),
        }
    }

    /// Who is subscribed to something is a subscriber, and everybody else a normal client until there are replicas.
    fn of(session: &Session) -> ClientType {
        if session.subscriptions.any() { ClientType::Pubsub } else { ClientType::Normal }
    }
}

/// What CLIENT LIST is asked for.
#[derive(Clone, Debug)]
enum Listed {
    All,
    Type(ClientType),
    Ids(Vec<u64>),
}

impl Listed {
    fn parse(args: Args<'_>) -> Result<Listed, CommandError> {
        if args.len() == 2 {
            return Ok(Listed::All);
        }
        let option = args.get(2);
        if args.len() == 4 && option.eq_ignore_ascii_case(b"TYPE") {
            return Ok(Listed::Type(ClientType::parse(args.get(3))?));
        }
        if args.len() > 3 && option.eq_ignore_ascii_case(b"ID") {
            let id = |arg| num::parse_i64(arg).ok_or(CommandError::Custom("ERR Invalid client ID"));
            let ids: Result<Vec<i64>, _> = args.slice(3).iter().map(id).collect();
            return Ok(Listed::Ids(ids?.into_iter().filter_map(|id| u64::try_from(id).ok()).collect()));
        }
        Err(CommandError::Syntax)
    }

    fn has(&self, session: &Session) -> bool {
        match self {
            Listed::All => true,
            Listed::Type(kind) => ClientType::of(session) == *kind,
            Listed::Ids(ids) => ids.contains(&session.id),
        }
    }
}

fn list(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let listed = Listed::parse(args.as_args())?;
        let lines = coordinator
            .call_all(move |shard| {
                let sessions = shard.sessions.iter().filter(|s| listed.has(s));
                sessions.map(|s| (s.id, describe(s, shard))).collect::<Vec<_>>()
            })
            .await;
        let mut lines: Vec<_> = lines.into_iter().flatten().collect();
        lines.sort_unstable_by_key(|(id, _)| *id);
        let mut text = Vec::new();
        for (_, line) in lines {
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        let mut reply = coordinator.reply();
        reply.verbatim("txt", &text);
        Ok(reply)
    })
}

/// A connection's line in CLIENT LIST, without its end: the fields of Redis 8, and the shard that serves it. What they mean here:
///
/// - `qbuf` is what was received and not run yet, `qbuf-free` the room behind it; `argv-mem` what is kept of a command that has not come
///   whole beside that, `multi-mem` what MULTI has queued.
/// - `rbs` is the room of the reply buffer, `rbp` the most that was sent in one go of late; `obl` what waits in it, `oll` and `omem` the
///   replies that wait behind it, for other shards or the socket.
/// - `events` says `r` unless the connection has sent so much that it is not read for now, and `w` while something waits to be sent.
/// - `io-thread` is 0: every shard does its own input and output.
pub fn describe(session: &Session, shard: &Shard) -> Vec<u8> {
    let seconds_since = |us: u64| shard.now.mono_us.saturating_sub(us) / 1_000_000;
    let mut flags = String::new();
    for (set, letter) in [
        (session.subscriptions.monitor > 0, 'O'),
        (session.subscriptions.any(), 'P'),
        (session.transaction.is_some(), 'x'),
        (session.blocked.is_some(), 'b'),
        (session.tracking.is_some(), 't'),
        (session.tracking.as_ref().is_some_and(|t| t.broken), 'R'),
        (session.tracking.as_ref().is_some_and(|t| t.bcast), 'B'),
        (session.closing == Closing::AfterReply, 'c'),
        (session.closing == Closing::Now, 'A'),
        (session.unix, 'U'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ] {
        if set {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let (input, input_free) = (session.input.len(), session.input.capacity() - session.input.len());
    let parsed = if session.parser.is_mid_command() { session.parser.allocated_bytes() } else { 0 };
    let argv = session.big.as_ref().map_or(0, BigBulk::allocated_bytes) + parsed;
    let transaction = session.transaction.as_deref();
    let queued = transaction.map_or(0, |t| t.bytes);
    let output = session.out.total_bytes();
    let output_room = session.out.allocated_bytes();
    let behind = session.output_held() - output;
    let reads = !(session.waits() && input >= INPUT_BYTES_WAITING_MAX);
    let writes = output + session.sending_bytes > 0;
    let command = session.last_command.map_or("NULL", |id| table().get(id).full_name.as_str());
    let mut line = Vec::with_capacity(320);
    let mut field = |name: &str, value: &[u8]| {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(value);
    };
    let n = |n: u64| n.to_string().into_bytes();
    field("id", &n(session.id));
    field("addr", session.peer.as_bytes());
    field("laddr", session.local.as_bytes());
    field("fd", session.fd.to_string().as_bytes());
    field("name", &session.name);
    field("age", &n(seconds_since(session.created.mono_us)));
    field("idle", &n(seconds_since(session.active_us)));
    field("flags", flags.as_bytes());
    field("db", &n(u64::from(session.db.0)));
    field("sub", &n(u64::from(session.subscriptions.channels)));
    field("psub", &n(u64::from(session.subscriptions.patterns)));
    field("ssub", &n(u64::from(session.subscriptions.shard_channels)));
    field("multi", &transaction.map_or_else(|| b"-1".to_vec(), |t| n(t.commands.len() as u64)));
    field("watch", &n(session.watches.len() as u64));
    field("qbuf", &n(input as u64));
    field("qbuf-free", &n(input_free as u64));
    field("argv-mem", &n(argv as u64));
    field("multi-mem", &n(queued as u64));
    field("rbs", &n(output_room as u64));
    field("rbp", &n(session.output_peak.0.max(output) as u64));
    field("obl", &n(output as u64));
    field("oll", &n(session.pending.len() as u64));
    field("omem", &n(behind as u64));
    field("tot-mem", &n(session.memory_bytes() as u64));
    let events: &[u8] = match (reads, writes) {
        (true, true) => b"rw",
        (true, false) => b"r",
        (false, true) => b"w",
        (false, false) => b"",
    };
    field("events", events);
    field("cmd", command.as_bytes());
    field("user", &session.user().name);
    field("redir", redirection(session).to_string().as_bytes());
    field("resp", if session.proto == Resp::V3 { b"3" } else { b"2" });
    field("lib-name", &session.lib_name);
    field("lib-ver", &session.lib_ver);
    field("io-thread", b"0");
    field("tot-net-in", &n(session.input_bytes));
    field("tot-net-out", &n(session.output_bytes));
    field("tot-cmds", &n(session.commands));
    field("shard", &n(u64::from(shard.id.0)));
    line
}

/// What a connection must be to be killed.
#[derive(Clone, Debug, Default)]
struct Victims {
    id: Option<u64>,
    kind: Option<ClientType>,
    addr: Option<Vec<u8>>,
    laddr: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    max_age_secs: Option<u64>,
    skip_me: bool,
}

impl Victims {
    /// `CLIENT KILL ip:port` kills whoever has the address, oneself included.
    fn by_address(address: &[u8]) -> Victims {
        Victims { addr: Some(address.to_vec()), ..Victims::default() }
    }

    fn parse(args: Args<'_>, users: &Users) -> Result<Victims, CommandError> {
        let mut victims = Victims { skip_me: true, ..Victims::default() };
        let mut at = 2;
        while at < args.len() {
            if at + 1 == args.len() {
                return Err(CommandError::Syntax);
            }
            let (filter, value) = (args.get(at), args.get(at + 1));
            let is = |word: &str| filter.eq_ignore_ascii_case(word.as_bytes());
            match () {
                () if is("ID") => {
                    let id = num::parse_i64(value).filter(|id| *id > 0);
                    let id = id.ok_or(CommandError::Custom("ERR client-id should be greater than 0"))?;
                    victims.id = Some(id.unsigned_abs());
                }
                () if is("TYPE") => victims.kind = Some(ClientType::parse(value)?),
                () if is("ADDR") => victims.addr = Some(value.to_vec()),
                () if is("LADDR") => victims.laddr = Some(value.to_vec()),
                () if is("USER") && users.get(value).is_some() => victims.user = Some(value.to_vec()),
                () if is("USER") => return Err(message("ERR No such user '", value, "'")),
                () if is("SKIPME") && value.eq_ignore_ascii_case(b"yes") => victims.skip_me = true,
                () if is("SKIPME") && value.eq_ignore_ascii_case(b"no") => victims.skip_me = false,
                () if is("MAXAGE") => {
                    let age = num::parse_i64(value);
                    let age = age.ok_or(CommandError::Custom("ERR maxage is not an integer or out of range"))?;
                    if age <= 0 {
                        return Err(CommandError::Custom("ERR maxage should be greater than 0"));
                    }
                    victims.max_age_secs = Some(age.unsigned_abs());
                }
                () => return Err(CommandError::Syntax),
            }
            at += 2;
        }
        Ok(victims)
    }

    fn has(&self, session: &Session, now: Now) -> bool {
        self.id.is_none_or(|id| id == session.id)
            && self.kind.is_none_or(|kind| kind == ClientType::of(session))
            && self.addr.as_ref().is_none_or(|addr| addr == session.peer.as_bytes())
            && self.laddr.as_ref().is_none_or(|addr| addr == session.local.as_bytes())
            && self.user.as_ref().is_none_or(|user| *user == session.user().name)
            && self
                .max_age_secs
                .is_none_or(|max| now.mono_us.saturating_sub(session.created.mono_us) / 1_000_000 >= max)
    }

    /// Closes them on one shard, the asking connection only after it has been told. Returns how many there were.
    fn close_on(&self, shard: &mut Shard, asking: Option<SessionKey>) -> i64 {
        let now = shard.now;
        let mut closed = Vec::new();
        for session in shard.sessions.iter_mut() {
            let itself = asking == Some(session.key);
            if (itself && self.skip_me) || session.closing == Closing::Now || !self.has(session, now) {
                continue;
            }
            if itself {
                session.close_after_reply();
            } else {
                session.closing = Closing::Now;
            }
            closed.push(session.key);
        }
        let count = closed.len() as i64;
        shard.disturbed.extend(closed);
        count
    }
}

fn kill(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let args = args.as_args();
        let by_address = args.len() == 3;
        let (home, session) = (coordinator.origin().shard, coordinator.origin().session);
        let users = coordinator.call(home, |shard| shard.acl.users.clone()).await;
        let victims = if by_address { Victims::by_address(args.get(2)) } else { Victims::parse(args, &users)? };
        let killed = coordinator
            .call_all(move |shard| {
                let asking = (shard.id == home).then_some(session);
                victims.close_on(shard, asking)
            })
            .await;
        let killed: i64 = killed.into_iter().sum();
        let mut reply = coordinator.reply();
        match (by_address, killed) {
            (true, 0) => return Err(CommandError::Custom("ERR No such client")),
            (true, _) => reply.ok(),
            (false, _) => reply.int(killed),
        }
        Ok(reply)
    })
}

fn parse_pause(args: Args<'_>, now: Now) -> Result<Pause, CommandError> {
    let writes_only = match args.len() {
        3 => false,
        4 if args.get(3).eq_ignore_ascii_case(b"WRITE") => true,
        4 if args.get(3).eq_ignore_ascii_case(b"ALL") => false,
        4 => return Err(CommandError::Custom("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => {
            return Err(message(
                "ERR unknown subcommand or wrong number of arguments for '",
                args.get(1),
                "'. Try CLIENT HELP.",
            ));
        }
    };
    let ms = num::parse_i64(args.get(2)).ok_or(CommandError::TimeoutNotAnInteger)?;
    if ms < 0 {
        return Err(CommandError::TimeoutNegative);
    }
    let until = now.millis().0.checked_add(ms).ok_or(CommandError::TimeoutNotAnInteger)?;
    Ok(Pause { until: Millis(until), writes_only })
}

/// A pause on top of one that is in force: whichever lasts longer and holds more back, as in Redis.
fn joined(old: Option<Pause>, new: Pause, now: Millis) -> Pause {
    match old.filter(|old| old.until > now) {
        Some(old) => Pause { until: old.until.max(new.until), writes_only: old.writes_only && new.writes_only },
        None => new,
    }
}

fn pause(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move {
        let new = parse_pause(args.as_args(), coordinator.origin().now)?;
        coordinator.call_all(move |shard| shard.pause = Some(joined(shard.pause, new, shard.now.millis()))).await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

fn unpause(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        coordinator.call_all(|shard| shard.pause = None).await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> OwnedArgs {
        OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn names_are_printable_words() {
        assert!(check_name(b"worker-7:a/b").is_ok());
        assert!(check_name(b"").is_ok());
        for name in [&b"a b"[..], b"a\n", b"\x7f", b"\xc3\xa9"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn kill_filters_are_refused_in_redis_words() {
        for (line, error) in [
            ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL TYPE foo", "ERR Unknown client type 'foo'"),
            ("CLIENT KILL USER nobody", "ERR No such user 'nobody'"),
            ("CLIENT KILL ADDR a LADDR", "ERR syntax error"),
            ("CLIENT KILL SKIPME maybe", "ERR syntax error"),
            ("CLIENT KILL MAXAGE 0", "ERR maxage should be greater than 0"),
        ] {
            assert_eq!(
                Victims::parse(words(line).as_args(), &Users::default()).unwrap_err().to_string(),
                error,
                "{line}"
            );
        }
    }

    #[test]
    fn kill_spares_the_asking_connection_unless_told_otherwise() {
        assert!(Victims::parse(words("CLIENT KILL ID 3 TYPE normal").as_args(), &Users::default()).unwrap().skip_me);
        assert!(!Victims::parse(words("CLIENT KILL ID 3 SKIPME no").as_args(), &Users::default()).unwrap().skip_me);
        assert!(!Victims::by_address(b"1.2.3.4:5").skip_me);
    }

    #[test]
    fn list_takes_a_type_or_ids() {
        assert!(matches!(Listed::parse(words("CLIENT LIST").as_args()), Ok(Listed::All)));
        assert!(matches!(
            Listed::parse(words("CLIENT LIST TYPE pubsub").as_args()),
            Ok(Listed::Type(ClientType::Pubsub))
        ));
        assert!(matches!(Listed::parse(words("CLIENT LIST ID 3 9").as_args()), Ok(Listed::Ids(ids)) if ids == [3, 9]));
        for (line, error) in [
            ("CLIENT LIST ID", "ERR syntax error"),
            ("CLIENT LIST ID 3 x", "ERR Invalid client ID"),
            ("CLIENT LIST TYPE foo", "ERR Unknown client type 'foo'"),
            ("CLIENT LIST TYPE normal x", "ERR syntax error"),
        ] {
            assert_eq!(Listed::parse(words(line).as_args()).unwrap_err().to_string(), error, "{line}");
        }
    }

    #[test]
    fn a_pause_only_grows() {
        let now = Millis(1000);
        let writes = Pause { until: Millis(2000), writes_only: true };
        let all = Pause { until: Millis(1500), writes_only: false };
        assert_eq!(joined(None, writes, now), writes);
        assert_eq!(joined(Some(writes), all, now), Pause { until: Millis(2000), writes_only: false });
        assert_eq!(joined(Some(all), writes, Millis(1600)), writes, "a pause that is over does not count");
    }

    #[test]
    fn pause_arguments_are_refused_in_redis_words() {
        for (line, error) in [
            ("CLIENT PAUSE x", "ERR timeout is not an integer or out of range"),
            ("CLIENT PAUSE -1", "ERR timeout is negative"),
            ("CLIENT PAUSE 9223372036854775807", "ERR timeout is not an integer or out of range"),
            ("CLIENT PAUSE 1 foo", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
            (
                "CLIENT PAUSE 1 WRITE x",
                "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.",
            ),
        ] {
            assert_eq!(
                parse_pause(words(line).as_args(), Now { unix_us: 1_000_000, mono_us: 0 }).unwrap_err().to_string(),
                error,
                "{line}"
            );
        }
    }
}
