//! The types of settings that are more than a number or a switch.
//!
//! Plain values: the server reads them, only the rules of this layer build them from text.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A value picked from a fixed list of names. Several names may stand for one value; the first of them is printed.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every name with its value, in the order in which error messages list them.
    const NAMES: &'static [(&'static str, Self)];

    /// The name that CONFIG GET prints.
    fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, value)| *value == self);
        known.expect("every value of a choice has a name in its list").0
    }
}

macro_rules! choices {
    ($(
        $(#[$doc:meta])* $type:ident { $first_name:literal => $first:ident $(, $name:literal => $value:ident)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[expect(missing_docs, reason = "the values are the words of redis.conf, explained at the directive")]
        pub enum $type { #[default] $first, $($value),* }

        impl Choice for $type {
            const NAMES: &'static [(&'static str, Self)] =
                &[($first_name, $type::$first) $(, ($name, $type::$value))*];
        }
    )*};
}

choices! {
    /// How much is logged: each level includes those that are more important.
    LogLevel { "debug" => Debug, "verbose" => Verbose, "notice" => Notice, "warning" => Warning, "nothing" => Nothing }
    /// What is thrown out when memory is full.
    MaxmemoryPolicy {
        "volatile-lru" => VolatileLru, "volatile-lfu" => VolatileLfu, "volatile-random" => VolatileRandom,
        "volatile-ttl" => VolatileTtl, "allkeys-lru" => AllkeysLru, "allkeys-lfu" => AllkeysLfu,
        "allkeys-random" => AllkeysRandom, "noeviction" => NoEviction
    }
    /// When the append-only file is forced to the disk.
    AppendFsync { "everysec" => Everysec, "always" => Always, "no" => No }
    /// Who may use a dangerous feature.
    ProtectedAction { "no" => No, "yes" => Yes, "local" => Local }
    /// Whether commands of one pipeline that go to different shards may overtake each other.
    PipelineOrder { "relaxed" => Relaxed, "strict" => Strict }
    /// Which service manager started the server.
    Supervised { "upstart" => Upstart, "systemd" => Systemd, "auto" => Auto, "no" => No }
    /// Whether payloads of RESTORE are checked in depth.
    SanitizeDump { "no" => No, "yes" => Yes, "clients" => Clients }
    /// Which channels a new user may use.
    AclPubsubDefault { "allchannels" => AllChannels, "resetchannels" => ResetChannels }
    /// What a cluster node calls itself to clients.
    EndpointType { "ip" => Ip, "hostname" => Hostname, "unknown-endpoint" => UnknownEndpoint }
    /// How a replica loads a snapshot that comes over the network.
    DisklessLoad { "disabled" => Disabled, "on-empty-db" => OnEmptyDb, "swapdb" => Swapdb }
    /// What happens when a replicated command fails.
    PropagationError { "ignore" => Ignore, "panic" => Panic, "panic-on-replicas" => PanicOnReplicas }
    /// Whether TLS clients must show a certificate.
    TlsAuthClients { "no" => No, "yes" => Yes, "optional" => Optional }
    /// Which field of its certificate says what user a TLS client is.
    TlsClientUser { "off" => Off, "CN" => CommonName }
    /// The facility that a message to syslog carries.
    SyslogFacility {
        "user" => User, "local0" => Local0, "local1" => Local1, "local2" => Local2, "local3" => Local3,
        "local4" => Local4, "local5" => Local5, "local6" => Local6, "local7" => Local7
    }
}

/// Whether and how the kernel's out-of-memory score of the process is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OomScoreAdj {
    /// Left alone.
    #[default]
    No,
    /// Added to the score the process started with.
    Relative,
    /// Set as it is.
    Absolute,
}

impl Choice for OomScoreAdj {
    // `yes` and `relative` are one value, and Redis prints the first of the two.
    const NAMES: &'static [(&'static str, Self)] =
        &[("no", Self::No), ("yes", Self::Relative), ("relative", Self::Relative), ("absolute", Self::Absolute)];
}

/// A string of bytes: a path, a password, a name. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// Nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes as they were given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as a path, or `None` when it is empty.
    pub fn to_path(&self) -> Option<PathBuf> {
        (!self.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&self.0)))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Save when at least `changes` writes happened and `seconds` have passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavePoint {
    /// At least 1.
    pub seconds: i64,
    /// At least 0.
    pub changes: i32,
}

/// When a client that reads too slowly is cut off. Zero means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputLimit {
    /// Cut off at once above this many bytes.
    pub hard_bytes: u64,
    /// Cut off when above this many bytes for `soft_seconds`.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded, in seconds.
    pub soft_seconds: u32,
}

/// The output limits of each class of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputLimits {
    /// Ordinary clients, MONITOR included.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Clients with at least one subscription.
    pub pubsub: OutputLimit,
}

/// A size that may be given in percent of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryOrPercent {
    /// Bytes.
    Bytes(u64),
    /// Percent of `maxmemory`, 1 to 100.
    Percent(u8),
}

impl Default for MemoryOrPercent {
    fn default() -> Self {
        MemoryOrPercent::Bytes(0)
    }
}

/// What a shutdown by a signal does besides stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShutdownFlags {
    /// Save even when no save points are set.
    pub save: bool,
    /// Do not save even when save points are set.
    pub nosave: bool,
    /// Do not wait for lagging replicas.
    pub now: bool,
    /// Stop even when something went wrong.
    pub force: bool,
}

/// The server to replicate from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MasterAddress {
    /// Name or address.
    pub host: Text,
    /// TCP port.
    pub port: u16,
}

/// Which keyspace events are published, as the set of letters of `notify-keyspace-events` in canonical order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventClasses(pub(super) u16);

/// A class of keyspace events, as the bit of its letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventClass(u16);

impl EventClass {
    /// `g`: commands for keys of any type.
    pub const GENERIC: EventClass = EventClass(1);
    /// `$`
    pub const STRING: EventClass = EventClass(1 << 1);
    /// `l`
    pub const LIST: EventClass = EventClass(1 << 2);
    /// `s`
    pub const SET: EventClass = EventClass(1 << 3);
    /// `h`
    pub const HASH: EventClass = EventClass(1 << 4);
    /// `z`
    pub const ZSET: EventClass = EventClass(1 << 5);
    /// `x`: a key's time has come.
    pub const EXPIRED: EventClass = EventClass(1 << 6);
    /// `e`: a key was removed to save memory.
    pub const EVICTED: EventClass = EventClass(1 << 7);
    /// `t`
    pub const STREAM: EventClass = EventClass(1 << 8);
    /// `m`: a read found no key.
    pub const MISS: EventClass = EventClass(1 << 12);
    /// `n`: a key was made.
    pub const NEW: EventClass = EventClass(1 << 13);
}

const BY_KEY: u16 = 1 << 10;
const BY_EVENT: u16 = 1 << 11;

impl EventClasses {
    /// Whether events of this class are published at all.
    #[inline]
    pub fn publishes(self, class: EventClass) -> bool {
        self.0 & class.0 != 0 && self.0 & (BY_KEY | BY_EVENT) != 0
    }

    /// `K`: on the channel of the key.
    pub fn by_key(self) -> bool {
        self.0 & BY_KEY != 0
    }

    /// `E`: on the channel of the event.
    pub fn by_event(self) -> bool {
        self.0 & BY_EVENT != 0
    }
}

/// `rename-command OLD NEW`; an empty new name removes the command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenamedCommand {
    /// The name the command has in the table, lower case.
    pub from: Text,
    /// What clients must say instead; empty when they may not say it at all.
    pub to: Text,
}

/// A `user` line: who it declares, by which rules, and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct UserLine {
    /// The file and the line, for messages.
    pub place: String,
    /// The name, then the rules.
    pub words: Vec<Vec<u8>>,
}

impl fmt::Debug for UserLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There may be passwords among the rules.
        write!(f, "UserLine({}: {} words)", self.place, self.words.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_prints_the_first_of_its_names() {
        assert_eq!(OomScoreAdj::Relative.name(), "yes");
        assert_eq!(LogLevel::Notice.name(), "notice");
    }

    #[test]
    fn an_empty_text_is_no_path() {
        assert_eq!(Text::default().to_path(), None);
        assert_eq!(Text::from("/x").to_path(), Some(PathBuf::from("/x")));
    }
}
