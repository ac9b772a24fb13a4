//! The shape of a command's row, and the index over all rows.
//!
//! One row says everything about a command: COMMAND and its kin, arity and flag checks, routing, ACL categories, HELP texts
//! and the differential tests read it, and nothing is said twice. Rows are constants beside their handlers; the index is
//! built once, is never written to again and is shared by all cores.

use std::sync::OnceLock;

use super::docs::Group;
use super::keys::KeySpec;
use crate::base::ShardId;
use crate::metrics::CommandId;
use crate::resp::CommandError;
use crate::resp::Reply;
use crate::resp::{Args, OwnedArgs};
use crate::session::{Merge, Session};
use crate::shard::Shard;
use crate::shard::cx::{DataFn, ServiceFn};
use crate::shard::reservations::Access;
use crate::txn::{Coordinator, Plan};

/// A handler that works on the connection's state. It runs at once on the connection's core.
pub type SessionFn = fn(&mut SessionCx<'_>, Args<'_>, &mut Reply) -> Result<(), CommandError>;
/// A handler that returns a plan: a future whose steps run on other shards.
pub type PlanFn = fn(Coordinator, OwnedArgs) -> Plan;

/// The other shards that a command concerns, whatever its keys.
pub type OthersFn = fn(&mut Shard, Args<'_>) -> Vec<ShardId>;

/// What a session command may touch: its own connection, and its core's shard.
pub struct SessionCx<'a> {
    /// The connection.
    pub session: &'a mut Session,
    /// The core's shard; the session is not in its table meanwhile.
    pub shard: &'a mut Shard,
    /// The command itself.
    pub row: &'static Command,
}

/// Where a command runs, and so what it may touch. See the design's table.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the shard that owns the first key, to completion.
    Data(DataFn),
    /// As `Data` where all keys have one owner; otherwise key by key on the owners, and the parts are joined.
    Split(DataFn, Merge),
    /// As `Data` where all keys have one owner; otherwise a plan of hops.
    Hops(DataFn, PlanFn),
    /// As `Data` where all keys are on the client's own shard and hold few elements, and in EXEC on the only shard there is;
    /// otherwise a plan, which decides by sizes or options whether one data call on the owner does. Its keys are reserved meanwhile.
    Steps(DataFn, PlanFn),
    /// On the connection's core and on the other shards that it concerns; the parts' integers are summed. As a plan where a
    /// transaction runs it.
    Spread(ServiceFn, OthersFn, PlanFn),
    /// On the connection's core.
    Session(SessionFn),
    /// A plan over services and all shards.
    Server(PlanFn),
    /// EXEC: what the connection has queued, as one step. Only `dispatch` knows how to run other commands.
    Exec,
    /// A container: it has subcommands and does nothing by itself.
    Container,
}

/// Which keys a command may touch, for reservations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Those that its key specifications name.
    Named,
    /// Those, and with one of these words behind the first key any others: which ones, only data tell.
    Pointed(&'static [&'static str], Access),
    /// All keys of all shards at one instant.
    Everything(Access),
    /// All keys, shard by shard and slice by slice, and not at one instant unless inside a transaction.
    Walk(Access),
}

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$flag_doc:meta])* $flag:ident = $bit:expr, $text:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name(pub $int);
        impl $name {
            $($(#[$flag_doc])* pub const $flag: $name = $name(1 << $bit);)*
            /// None set.
            pub const NONE: $name = $name(0);
            /// Each flag with the name that clients see, in the order in which they see it.
            pub const NAMES: &'static [($name, &'static str)] = &[$(($name::$flag, $text)),*];
            /// Both.
            pub const fn and(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
            /// Whether all of `other` is set.
            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }
            /// The names of those set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().filter(move |(f, _)| self.has(*f)).map(|(_, n)| *n)
            }
        }
    };
}

flags! {
    /// What a command does and when it may run, as COMMAND INFO names it and in its order.
    Flags: u32 {
        /// May change data.
        WRITE = 0, "write";
        /// Only reads data.
        READONLY = 1, "readonly";
        /// Refused when memory is full.
        DENYOOM = 2, "denyoom";
        /// For operators.
        ADMIN = 3, "admin";
        /// Concerns publish and subscribe.
        PUBSUB = 4, "pubsub";
        /// Not from scripts.
        NOSCRIPT = 5, "noscript";
        /// May wait for data.
        BLOCKING = 6, "blocking";
        /// Allowed while data is loaded.
        LOADING = 7, "loading";
        /// Allowed on a replica that lost its master.
        STALE = 8, "stale";
        /// Not shown to MONITOR.
        SKIP_MONITOR = 9, "skip_monitor";
        /// Not in the slow log.
        SKIP_SLOWLOG = 10, "skip_slowlog";
        /// Allowed on an importing slot.
        ASKING = 11, "asking";
        /// Constant or logarithmic time.
        FAST = 12, "fast";
        /// Needs no authentication.
        NO_AUTH = 13, "no_auth";
        /// May be replicated though it writes no key.
        MAY_REPLICATE = 14, "may_replicate";
        /// Has keys only with some arguments.
        NO_MANDATORY_KEYS = 15, "no_mandatory_keys";
        /// Not while data is loaded in the background.
        NO_ASYNC_LOADING = 16, "no_async_loading";
        /// Not inside MULTI.
        NO_MULTI = 17, "no_multi";
        /// Allowed while a script is over its time.
        ALLOW_BUSY = 18, "allow_busy";
        /// Touches keys it does not name.
        TOUCHES_ARBITRARY_KEYS = 19, "touches_arbitrary_keys";
    }
}

/// One command or subcommand: the facts of its row.
#[derive(Clone, Copy)]
pub struct Row {
    /// In lower case; a subcommand's own name without its container's.
    pub name: &'static str,
    /// The arguments, in the notation of redis.io: `key [NX | XX] [EX seconds | PX milliseconds]`. COMMAND DOCS parses it.
    pub usage: &'static str,
    /// One sentence, in our words.
    pub summary: &'static str,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// As COMMAND DOCS tells it.
    pub complexity: &'static str,
    /// The family.
    pub group: Group,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i16,
    /// See [`Flags`].
    pub flags: Flags,
    /// ACL categories beyond those that flags and family imply.
    pub acl: &'static [&'static str],
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Hints for cluster proxies.
    pub tips: &'static [&'static str],
    /// Deprecated since which version, and in favour of what.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// How it runs.
    pub run: Run,
    /// Which keys it may touch.
    pub reach: Reach,
    /// For containers.
    pub subcommands: &'static [Row],
}

impl Row {
    /// To be completed with `..Row::DEFAULT`.
    pub const DEFAULT: Row = Row {
        name: "",
        usage: "",
        summary: "",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        arity: 1,
        flags: Flags::NONE,
        acl: &[],
        keys: &[],
        tips: &[],
        deprecated: None,
        run: Run::Container,
        reach: Reach::Named,
        subcommands: &[],
    };
}

/// Which arguments are channels that a user must be allowed to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channels {
    /// The first argument: PUBLISH.
    First,
    /// All of them: SUBSCRIBE.
    All,
    /// All of them, and they are patterns: PSUBSCRIBE.
    Patterns,
}

impl Channels {
    /// Their positions among so many arguments.
    pub fn positions(self, argc: usize) -> std::ops::Range<usize> {
        1..if self == Channels::First { argc.min(2) } else { argc }
    }

    /// Leaving a channel is free to all.
    fn of(row: &Row) -> Option<Channels> {
        match row.name {
            "publish" | "spublish" => Some(Channels::First),
            "subscribe" | "ssubscribe" => Some(Channels::All),
            "psubscribe" => Some(Channels::Patterns),
            _ => None,
        }
    }
}

/// A row in the index.
pub struct Command {
    /// Dense number over commands and subcommands.
    pub id: CommandId,
    /// The facts.
    pub row: &'static Row,
    /// By what name clients call it: the row's, unless `rename-command` gave it another. Empty if it was taken away.
    pub name: String,
    /// `get`, or `client|list` for a subcommand.
    pub full_name: String,
    /// The container, for a subcommand.
    pub parent: Option<CommandId>,
    /// The subcommands, for a container.
    pub children: Vec<CommandId>,
    /// Whether it is answered by what stands among messages (SUBSCRIBE, MONITOR): in their order, and whatever CLIENT REPLY says.
    pub listens: bool,
    /// Whether some of its arguments reach what a node of a cluster does not have: other databases, keys by pattern.
    pub beyond_node: bool,
    /// Whether it is known to be short with few arguments, so that its time need not be measured alone.
    brief: bool,
    /// Whether some of its arguments may be secrets.
    pub has_secrets: bool,
    /// Its channels, for access control.
    pub channels: Option<Channels>,
    /// What runs it where all its keys are on one shard, if that works on keys alone: nothing that the gate asks for is another thing
    /// behind it.
    pub plain: Option<DataFn>,
    /// Position of the first key, 0 if there is none at a fixed place.
    pub first_key: usize,
    /// Whether every key stands at a fixed distance: first, last, step; else they need [`super::keys`].
    pub key_range: Option<(i32, i32, i32)>,
}

/// With more arguments a command of constant time for each of them is not known to be short.
const BRIEF_ARGS_MAX: usize = 8;

/// Flagged as fast, and yet as long as a count in their arguments says.
const NOT_BRIEF: &[&str] =
    &["lpop", "rpop", "lmpop", "spop", "zpopmin", "zpopmax", "zmpop", "xadd", "xread", "xreadgroup", "publish"];

/// Not flagged as fast, since what they replace may be large. Here that is freed in slices.
const BRIEF: &[&str] = &["set", "setex", "psetex", "getset"];

impl Command {
    /// Whether it is known to be short with this many arguments: see `shard::timing`.
    #[inline]
    pub fn is_brief(&self, argc: usize) -> bool {
        self.brief && argc <= BRIEF_ARGS_MAX
    }

    /// Whether it works on data and nothing else.
    pub fn is_data(&self) -> bool {
        matches!(self.row.run, Run::Data(_) | Run::Split(..) | Run::Hops(..) | Run::Steps(..))
    }

    /// Whether this many arguments (the name included, and the container's) will do.
    #[inline]
    pub fn accepts(&self, argc: usize) -> bool {
        let arity = self.row.arity;
        if arity >= 0 { argc == arity as usize } else { argc >= usize::from(arity.unsigned_abs()) }
    }
}

/// All commands.
pub struct Table {
    commands: Vec<Command>,
    /// Open addressing over `commands`, by name. Only top-level commands.
    buckets: Vec<Bucket>,
    top_level: Vec<CommandId>,
}

/// A place for a name.
#[derive(Clone, Copy)]
struct Bucket {
    /// Its [`fold`].
    word: u64,
    len: u32,
    /// An index into the commands, or `EMPTY`.
    id: u16,
    /// Whether a name of this word and length is this one, without looking at it: it is of letters alone, and short.
    is_certain: bool,
}

const EMPTY: u16 = u16::MAX;

impl Bucket {
    const EMPTY: Bucket = Bucket { word: 0, len: 0, id: EMPTY, is_certain: false };
}

/// The first eight bytes of a name with bit 5 set, zeros behind shorter ones: letters in lower case. Letters come from nothing but
/// letters; a few other bytes are not told apart.
#[inline]
fn fold(name: &[u8]) -> u64 {
    let word = match (name.first_chunk::<8>(), name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(word), ..) => u64::from_le_bytes(*word),
        // Two halves that overlap.
        (None, Some(first), Some(last)) => {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            u64::from(first) | u64::from(last) << (8 * (name.len() - 4))
        }
        _ => match *name {
            [] => 0,
            [a] => u64::from(a),
            [a, ref rest @ ..] => {
                let (b, c) = (rest[0], rest.get(1).copied().unwrap_or(0));
                u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16
            }
        },
    };
    word | 0x2020_2020_2020_2020
}

/// Buckets per name: names are few and a miss must be as quick as a hit.
const BUCKETS_PER_NAME: usize = 8;

impl Table {
    /// Builds the index over these families, with some commands under other names.
    pub fn build(families: &[&'static [Row]], renames: &[Rename]) -> Table {
        let mut commands: Vec<Command> = Vec::new();
        let mut top_level = Vec::new();
        let mut rows: Vec<&'static Row> = families.iter().flat_map(|f| f.iter()).collect();
        rows.sort_by_key(|r| r.name);
        for row in rows {
            let id = push(&mut commands, row, row.name.to_owned(), None);
            top_level.push(id);
            let mut children = Vec::new();
            for sub in row.subcommands {
                children.push(push(&mut commands, sub, format!("{}|{}", row.name, sub.name), Some(id)));
            }
            commands[usize::from(id.0)].children = children;
        }
        for rename in renames {
            // `rename` has checked that the command is there.
            for command in commands.iter_mut().filter(|c| c.parent.is_none() && c.name == rename.from) {
                command.name.clone_from(&rename.to);
            }
        }
        let buckets = (top_level.len() * BUCKETS_PER_NAME).next_power_of_two();
        let mut table = Table { commands, buckets: vec![Bucket::EMPTY; buckets], top_level };
        // What was renamed to nothing is gone for clients; its row stays, since others are named by their place.
        let commands = &table.commands;
        table.top_level.retain(|id| !commands[usize::from(id.0)].name.is_empty());
        for id in table.top_level.clone() {
            let name = table.get(id).name.as_bytes();
            let word = fold(name);
            let mut at = table.bucket_of(word, name.len());
            while table.buckets[at].id != EMPTY {
                assert_ne!(
                    table.commands[usize::from(table.buckets[at].id)].row.name.as_bytes(),
                    name,
                    "one row a command"
                );
                at = (at + 1) & (table.buckets.len() - 1);
            }
            let is_certain = name.len() <= 8 && name.iter().all(u8::is_ascii_alphabetic);
            table.buckets[at] = Bucket { word, len: name.len() as u32, id: id.0, is_certain };
        }
        table
    }

    /// The first eight letters and the length decide the bucket.
    #[inline]
    fn bucket_of(&self, word: u64, len: usize) -> usize {
        let hash = (word ^ len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    /// The command of this name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Command> {
        let word = fold(name);
        let mut at = self.bucket_of(word, name.len());
        loop {
            let bucket = &self.buckets[at];
            if bucket.id == EMPTY {
                return None;
            }
            if bucket.word == word && bucket.len as usize == name.len() {
                let command = &self.commands[usize::from(bucket.id)];
                if bucket.is_certain || command.name.as_bytes().eq_ignore_ascii_case(name) {
                    return Some(command);
                }
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// The subcommand of this name, in any case.
    pub fn find_sub(&self, container: &Command, name: &[u8]) -> Option<&Command> {
        container.children.iter().map(|id| self.get(*id)).find(|c| c.row.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The command or subcommand that a client would run with these arguments; a container if it is called by its name alone.
    pub fn lookup(&self, args: Args<'_>) -> Option<&Command> {
        let command = self.find(args.get(0))?;
        if command.children.is_empty() || args.len() == 1 { Some(command) } else { self.find_sub(command, args.get(1)) }
    }

    /// The command of a full name such as `client|list`.
    pub fn find_full(&self, name: &[u8]) -> Option<&Command> {
        match memchr::memchr(b'|', name) {
            None => self.find(name),
            Some(bar) => self.find_sub(self.find(&name[..bar])?, &name[bar + 1..]),
        }
    }

    /// By number.
    pub fn get(&self, id: CommandId) -> &Command {
        &self.commands[usize::from(id.0)]
    }

    /// Top-level commands by name.
    pub fn top_level(&self) -> impl ExactSizeIterator<Item = &Command> {
        self.top_level.iter().map(|id| self.get(*id))
    }

    /// Commands and subcommands, by number.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Command> {
        self.commands.iter()
    }
}

/// See [`Command::beyond_node`].
const BEYOND_NODE: [&str; 6] = ["copy", "move", "select", "sort", "sort_ro", "swapdb"];

fn push(commands: &mut Vec<Command>, row: &'static Row, full_name: String, parent: Option<CommandId>) -> CommandId {
    let id = CommandId(u16::try_from(commands.len()).expect("a few hundred commands"));
    let key_range = row.keys.first().and_then(KeySpec::as_range).filter(|_| row.keys.len() == 1);
    let first_key = row.keys.first().and_then(KeySpec::first_position).unwrap_or(0);
    let has_secrets = super::monitor::has_secrets(&full_name);
    let plain = match row.run {
        Run::Data(f) | Run::Split(f, _) | Run::Hops(f, _) if !matches!(f, DataFn::Service(_)) => Some(f),
        _ => None,
    };
    commands.push(Command {
        id,
        row,
        name: row.name.to_owned(),
        full_name,
        parent,
        children: Vec::new(),
        listens: row.name == "monitor" || (row.flags.has(Flags::PUBSUB) && row.name.ends_with("subscribe")),
        beyond_node: parent.is_none() && BEYOND_NODE.contains(&row.name),
        brief: BRIEF.contains(&row.name) || (row.flags.has(Flags::FAST) && !NOT_BRIEF.contains(&row.name)),
        has_secrets,
        channels: Channels::of(row),
        plain: plain.filter(|_| row.subcommands.is_empty() && !row.flags.has(Flags::BLOCKING)),
        first_key,
        key_range,
    });
    id
}

/// One `rename-command` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    /// The name in the row, in lower case.
    pub from: String,
    /// The new one, in lower case; empty to take the command away.
    pub to: String,
}

static RENAMES: OnceLock<Vec<Rename>> = OnceLock::new();

/// Gives commands other names. To be called before the table is first used, once; later calls change nothing. Err with the
/// offending line's words if there is no such command or the new name is taken.
pub fn rename(renames: Vec<Rename>) -> Result<(), String> {
    let mut names: Vec<&str> = super::FAMILIES.iter().flat_map(|f| f.iter()).map(|row| row.name).collect();
    for Rename { from, to } in &renames {
        let Some(at) = names.iter().position(|name| name == from) else {
            return Err(format!("rename-command: there is no command '{from}'"));
        };
        if !to.is_empty() && names.contains(&to.as_str()) {
            return Err(format!("rename-command: there is a command '{to}' already"));
        }
        names[at] = to;
    }
    // A second caller would be a test; the first one's table stands.
    let _ = RENAMES.set(renames);
    Ok(())
}

/// As [`table`], but every command has the name in its row, whatever clients call it: so logs are read. Numbers of commands are the same.
pub fn original_table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::build(super::FAMILIES, &[]))
}

/// The index over every family, built on first use.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::build(super::FAMILIES, RENAMES.get().map_or(&[], Vec::as_slice)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_nothing_else_is() {
        for command in table().top_level() {
            let upper = command.row.name.to_ascii_uppercase();
            assert_eq!(table().find(upper.as_bytes()).unwrap().id, command.id);
            let mut longer = command.row.name.to_owned();
            longer.push('x');
            assert!(table().find(longer.as_bytes()).is_none_or(|c| c.row.name == longer));
            for sub in &command.children {
                let sub = table().get(*sub);
                assert_eq!(table().find_full(sub.full_name.to_uppercase().as_bytes()).unwrap().id, sub.id);
            }
        }
        for name in ["", "\0", "ge", "gett", "get ", "nosuchcommand"] {
            assert!(table().find(name.as_bytes()).is_none(), "{name:?}");
        }
        assert!(table().find(&[b'g'; 100_000]).is_none());
    }

    #[test]
    fn a_renamed_command_goes_by_its_new_name_only() {
        static ROWS: &[Row] = &[Row { name: "flushall", ..Row::DEFAULT }, Row { name: "get", ..Row::DEFAULT }];
        let renames =
            [Rename { from: "flushall".into(), to: String::new() }, Rename { from: "get".into(), to: "fetch".into() }];
        let table = Table::build(&[ROWS], &renames);
        assert!(table.find(b"flushall").is_none() && table.find(b"get").is_none() && table.find(b"").is_none());
        assert_eq!(table.find(b"FETCH").unwrap().row.name, "get");
    }

    #[test]
    fn rows_say_what_they_must() {
        for command in table().all() {
            let row = command.row;
            let name = &command.full_name;
            assert!(!row.summary.is_empty(), "{name} has a summary");
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b"-_|".contains(&b)), "{name} is in lower case");
            assert!(row.arity != 0, "{name} has an arity");
            assert!(matches!(row.run, Run::Container) || row.subcommands.is_empty() || row.name == "command");
            if let Run::Split(..) = row.run {
                assert!(command.key_range.is_some(), "{name}: a split command has its keys at a fixed distance");
            }
            if let Run::Data(f) = row.run {
                let writes = matches!(f, DataFn::Write(_));
                assert!(!row.keys.is_empty(), "{name}: a data command has a key to be routed by");
                assert!(
                    !row.flags.has(Flags::WRITE) || writes,
                    "{name} is flagged as a write and gets no write context"
                );
            }
            assert!(!(row.flags.has(Flags::WRITE) && row.flags.has(Flags::READONLY)), "{name} is one of both");
        }
    }
}
