//! The text of every error that a client can see.
//!
//! Clients match on these strings, so they are Redis's, word for word (checked against redis-server 7.0.15). A
//! [`CommandError`] belongs to one command and travels from its handler by `?`; a [`ProtocolError`] belongs to the
//! connection, which says it and closes.
//!
//! Text is bytes: an error may repeat what the client sent, and that need not be UTF-8. `append_to` gives the exact
//! bytes, `Display` the same for people. Neither begins with the `-` of the wire, and neither takes care of line breaks:
//! [`Reply::error`](super::Reply::error) is the one place through which errors reach the wire, and it lets no line
//! break through.
//!
//! Absent on purpose: errors that one family alone raises. It says them with `Custom` or `Message`, next to the code
//! that raises them.

use std::fmt;

use super::args::Args;

/// Why a command was refused. The first word is a code that clients and INFO errorstats group by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The key holds another type.
    WrongType,
    /// Not a signed 64-bit integer in Redis's strict form.
    NotAnInteger,
    /// Not a floating point number.
    NotAFloat,
    /// An option that does not exist, or options that exclude each other.
    Syntax,
    /// The key must exist and does not (RENAME, LSET).
    NoSuchKey,
    /// An index into a list that is out of its range.
    IndexOutOfRange,
    /// An integer that does not fit what the argument means.
    ValueOutOfRange,
    /// An integer that must not be negative.
    MustBePositive,
    /// An integer that must lie between these two.
    NotBetween(i64, i64),
    /// SETRANGE with a negative offset.
    OffsetOutOfRange,
    /// SETBIT and GETBIT with a bad offset.
    BitOffset,
    /// A bit that is neither 0 nor 1.
    NotABit,
    /// An expiry that is zero, negative or too far away, with the command's name in lower case.
    InvalidExpire(&'static str),
    /// With the command's full name in lower case: `get`, `client|kill`.
    WrongArity(&'static str),
    /// The name is not in the table. Made by [`CommandError::unknown_command`].
    UnknownCommand(Box<UnknownCommand>),
    /// The container exists and has no such subcommand. Made by [`CommandError::unknown_subcommand`].
    UnknownSubcommand(Box<UnknownSubcommand>),
    /// A password is required and was not given.
    NoAuth,
    /// HELLO before authentication, without AUTH in it.
    NoAuthHello,
    /// Wrong password, or no such user.
    WrongPass,
    /// AUTH with a password only, while none is set.
    NoPasswordSet,
    /// HELLO with a version other than 2 and 3.
    NoProto,
    /// The user may not run this command: the user's name and the command's full name. Boxed, since errors are small.
    NoPermission(Box<(Vec<u8>, &'static str)>),
    /// A key that the user may not use so.
    NoKeyPermission,
    /// A channel that the user may not use.
    NoChannelPermission,
    /// The memory limit is reached and nothing can be evicted.
    Oom,
    /// The data set is still being read.
    Loading,
    /// A script runs for too long.
    BusyScript,
    /// A function runs for too long.
    BusyFunction,
    /// RESTORE and others refuse to overwrite.
    BusyKey,
    /// The last snapshot failed and writes must stop (`stop-writes-on-bgsave-error`).
    MisConfSnapshot,
    /// The log cannot be written, with the operating system's reason.
    MisConfAof(String),
    /// This server follows another one.
    ReadOnlyReplica,
    /// The link to the primary is down and stale data must not be served.
    MasterDown,
    /// Fewer good replicas than `min-replicas-to-write`.
    NoReplicas,
    /// An error was found while the transaction was queued.
    ExecAbort,
    /// EVALSHA of a script that is not cached.
    NoScript,
    /// A blocked client was woken by CLIENT UNBLOCK … ERROR.
    Unblocked,
    /// SELECT, COPY, MOVE and SWAPDB with a number past `databases`.
    DbIndexOutOfRange,
    /// SWAPDB whose first argument is not a number.
    InvalidFirstDbIndex,
    /// SWAPDB whose second argument is not a number.
    InvalidSecondDbIndex,
    /// INCR and its family past 64 bits.
    Overflow,
    /// DECRBY by the one number that has no negative.
    DecrementOverflow,
    /// INCRBYFLOAT beyond the finite numbers.
    NanOrInfinity,
    /// A string would grow past `proto-max-bulk-len`.
    StringTooLong,
    /// COPY and MOVE onto themselves.
    SameObject,
    /// A cursor that SCAN did not give out.
    InvalidCursor,
    /// A timeout that is not a number of seconds.
    TimeoutNotAFloat,
    /// A timeout that is not a number of milliseconds.
    TimeoutNotAnInteger,
    /// A timeout below zero.
    TimeoutNegative,
    /// The whole text, its code included.
    Custom(&'static str),
    /// The whole text, its code included, made for this reply.
    Message(String),
    /// As `Message`, where it repeats bytes of the client's. Made by [`CommandError::echo`].
    Bytes(Vec<u8>),
}

// Every handler returns this in a `Result`: it stays within three words and a tag.
const _: () = assert!(size_of::<CommandError>() <= 32);

/// What an unknown command repeats of the request, cut as Redis cuts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCommand {
    /// At most 128 bytes of the name.
    name: Vec<u8>,
    /// `'a' 'b' `, about 128 bytes of it.
    args: Vec<u8>,
}

/// What an unknown subcommand repeats of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSubcommand {
    /// At most 128 bytes of the subcommand.
    name: Vec<u8>,
    /// The container's name in upper case.
    container: String,
}

/// How many bytes of a client's text an error repeats.
const ECHO_BYTES_MAX: usize = 128;

/// C's `%.Ns` of a byte string: at most `max` bytes, and none from the first NUL on.
fn c_string(bytes: &[u8], max: usize) -> &[u8] {
    let end = bytes.iter().take(max).position(|&b| b == 0).unwrap_or(bytes.len().min(max));
    &bytes[..end]
}

impl CommandError {
    /// No command has the name in argument 0. Repeats name and arguments as Redis does: names up to 128 bytes, quoted
    /// arguments until their text reaches 128 bytes, where the last one is cut.
    pub fn unknown_command(args: Args<'_>) -> CommandError {
        let mut echo = Vec::new();
        for arg in args.slice(1).iter() {
            if echo.len() >= ECHO_BYTES_MAX {
                break;
            }
            let shown = c_string(arg, ECHO_BYTES_MAX - echo.len());
            echo.push(b'\'');
            echo.extend_from_slice(shown);
            echo.extend_from_slice(b"' ");
        }
        let name = c_string(args.get(0), ECHO_BYTES_MAX).to_vec();
        CommandError::UnknownCommand(Box::new(UnknownCommand { name, args: echo }))
    }

    /// `ERR `, a text, and behind it what the client sent, up to its first NUL as C's `%s` prints it, and without line breaks
    /// at its end.
    pub fn echo(text: &str, word: &[u8]) -> CommandError {
        let mut whole = [b"ERR ", text.as_bytes(), c_string(word, usize::MAX)].concat();
        whole.truncate(whole.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1));
        CommandError::Bytes(whole)
    }

    /// A whole text, its code included, put together from pieces. What a client sent counts up to its first NUL, as with
    /// [`CommandError::echo`].
    pub fn of_pieces(pieces: &[&[u8]]) -> CommandError {
        CommandError::Bytes(pieces.iter().flat_map(|piece| c_string(piece, usize::MAX)).copied().collect())
    }

    /// `container` (in upper case) has a subcommand of this name, which does not take such arguments.
    pub fn subcommand_syntax(container: &str, subcommand: &[u8]) -> CommandError {
        CommandError::of_pieces(&[
            b"ERR unknown subcommand or wrong number of arguments for '",
            &subcommand[..subcommand.len().min(ECHO_BYTES_MAX)],
            b"'. Try ",
            container.as_bytes(),
            b" HELP.",
        ])
    }

    /// `container` (any case) has no subcommand of this name.
    pub fn unknown_subcommand(container: &str, subcommand: &[u8]) -> CommandError {
        let name = c_string(subcommand, ECHO_BYTES_MAX).to_vec();
        CommandError::UnknownSubcommand(Box::new(UnknownSubcommand { name, container: container.to_ascii_uppercase() }))
    }

    /// The first word, which INFO errorstats counts by: `ERR`, `WRONGTYPE`…
    pub fn code(&self) -> &str {
        match self {
            CommandError::NoPermission(_) => "NOPERM",
            CommandError::MisConfAof(_) => "MISCONF",
            CommandError::Message(text) => first_word(text),
            CommandError::Bytes(text) => {
                let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
                std::str::from_utf8(&text[..end]).unwrap_or("ERR")
            }
            other => other.fixed_text().map_or("ERR", first_word),
        }
    }

    /// Appends the text as it goes over the wire, without the leading `-` and without a line end.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        if let Some(text) = self.fixed_text() {
            return out.extend_from_slice(text.as_bytes());
        }
        let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        match self {
            CommandError::NotBetween(min, max) => {
                let text = format!("ERR value is out of range, value must between {min} and {max}");
                add(&[text.as_bytes()]);
            }
            CommandError::InvalidExpire(name) => {
                add(&[b"ERR invalid expire time in '", name.as_bytes(), b"' command"]);
            }
            CommandError::WrongArity(name) => {
                add(&[b"ERR wrong number of arguments for '", name.as_bytes(), b"' command"]);
            }
            CommandError::UnknownCommand(what) => {
                add(&[b"ERR unknown command '", &what.name, b"', with args beginning with: ", &what.args]);
            }
            CommandError::UnknownSubcommand(what) => {
                add(&[b"ERR unknown subcommand '", &what.name, b"'. Try ", what.container.as_bytes(), b" HELP."]);
            }
            CommandError::NoPermission(what) => {
                let (user, command) = &**what;
                add(&[b"NOPERM User ", user, b" has no permissions to run the '", command.as_bytes(), b"' command"]);
            }
            CommandError::MisConfAof(reason) => {
                add(&[b"MISCONF Errors writing to the AOF file: ", reason.as_bytes()]);
            }
            CommandError::Message(text) => add(&[text.as_bytes()]),
            CommandError::Bytes(text) => add(&[text]),
            _ => unreachable!("every other variant has a fixed text"),
        }
    }

    /// The text of the variants that are not put together at run time.
    fn fixed_text(&self) -> Option<&'static str> {
        use CommandError as E;
        Some(match self {
            E::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            E::NotAnInteger => "ERR value is not an integer or out of range",
            E::NotAFloat => "ERR value is not a valid float",
            E::Syntax => "ERR syntax error",
            E::NoSuchKey => "ERR no such key",
            E::IndexOutOfRange => "ERR index out of range",
            E::ValueOutOfRange => "ERR value is out of range",
            E::MustBePositive => "ERR value is out of range, must be positive",
            E::OffsetOutOfRange => "ERR offset is out of range",
            E::BitOffset => "ERR bit offset is not an integer or out of range",
            E::NotABit => "ERR bit is not an integer or out of range",
            E::NoAuth => "NOAUTH Authentication required.",
            E::NoAuthHello => {
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                 same time"
            }
            E::WrongPass => "WRONGPASS invalid username-password pair or user is disabled.",
            E::NoKeyPermission => "NOPERM No permissions to access a key",
            E::NoChannelPermission => "NOPERM No permissions to access a channel",
            E::NoPasswordSet => {
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?"
            }
            E::NoProto => "NOPROTO unsupported protocol version",
            E::Oom => "OOM command not allowed when used memory > 'maxmemory'.",
            E::Loading => "LOADING Redis is loading the dataset in memory",
            E::BusyScript => "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            E::BusyFunction => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
            }
            E::BusyKey => "BUSYKEY Target key name already exists.",
            E::MisConfSnapshot => {
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                 Commands that may modify the data set are disabled, because this instance is configured to report \
                 errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
                 the Redis logs for details about the RDB error."
            }
            E::ReadOnlyReplica => "READONLY You can't write against a read only replica.",
            E::MasterDown => "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            E::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            E::ExecAbort => "EXECABORT Transaction discarded because of previous errors.",
            E::NoScript => "NOSCRIPT No matching script. Please use EVAL.",
            E::Unblocked => "UNBLOCKED client unblocked via CLIENT UNBLOCK",
            E::DbIndexOutOfRange => "ERR DB index is out of range",
            E::InvalidFirstDbIndex => "ERR invalid first DB index",
            E::InvalidSecondDbIndex => "ERR invalid second DB index",
            E::Overflow => "ERR increment or decrement would overflow",
            E::DecrementOverflow => "ERR decrement would overflow",
            E::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            E::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            E::SameObject => "ERR source and destination objects are the same",
            E::InvalidCursor => "ERR invalid cursor",
            E::TimeoutNotAFloat => "ERR timeout is not a float or out of range",
            E::TimeoutNotAnInteger => "ERR timeout is not an integer or out of range",
            E::TimeoutNegative => "ERR timeout is negative",
            E::Custom(text) => text,
            E::NotBetween(..)
            | E::InvalidExpire(_)
            | E::WrongArity(_)
            | E::UnknownCommand(_)
            | E::UnknownSubcommand(_)
            | E::NoPermission(_)
            | E::MisConfAof(_)
            | E::Message(_)
            | E::Bytes(_) => return None,
        })
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.append_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::error::Error for CommandError {}

/// Bytes that are not RESP. The connection sends `-ERR `, this text, and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number behind `*` is not one, or is larger than allowed.
    InvalidMultibulkLength,
    /// No line end within 64 KiB behind a `*`.
    TooBigMultibulkCount,
    /// A client that has not authenticated announced more than 10 arguments.
    UnauthenticatedMultibulkLength,
    /// An argument begins with this byte instead of `$`.
    ExpectedDollar(u8),
    /// The number behind `$` is not one, is negative, or is larger than `proto-max-bulk-len`.
    InvalidBulkLength,
    /// No line end within 64 KiB where an argument begins.
    TooBigBulkCount,
    /// A client that has not authenticated announced an argument of more than 16 KiB.
    UnauthenticatedBulkLength,
    /// No line end within 64 KiB of an inline command.
    TooBigInline,
    /// An inline command whose quotes do not close, or close inside a word.
    UnbalancedQuotes,
    /// The command's small arguments are longer than 4 GiB together. Ours alone: in Redis the query buffer limit, which
    /// is lower by default, closes such a connection without a word.
    TooBigRequest,
}

impl ProtocolError {
    /// Appends the text as it goes over the wire behind `-ERR `, without a line end.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let text = match self {
            ProtocolError::InvalidMultibulkLength => "invalid multibulk length",
            ProtocolError::TooBigMultibulkCount => "too big mbulk count string",
            ProtocolError::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            ProtocolError::ExpectedDollar(got) => {
                out.extend_from_slice(b"Protocol error: expected '$', got '");
                return out.extend_from_slice(&[*got, b'\'']);
            }
            ProtocolError::InvalidBulkLength => "invalid bulk length",
            ProtocolError::TooBigBulkCount => "too big bulk count string",
            ProtocolError::UnauthenticatedBulkLength => "unauthenticated bulk length",
            ProtocolError::TooBigInline => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::TooBigRequest => "too big request",
        };
        out.extend_from_slice(b"Protocol error: ");
        out.extend_from_slice(text.as_bytes());
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.append_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn unknown(args: &[&[u8]]) -> String {
        CommandError::unknown_command(OwnedArgs::from_slices(args).as_args()).to_string()
    }

    #[test]
    fn an_unknown_command_is_repeated_as_redis_cuts_it() {
        // Each line is what redis-server 7.0.15 answered to the same arguments.
        let (a, b) = ("a".repeat(200), "b".repeat(100));
        let head = "ERR unknown command 'foo', with args beginning with: ";
        assert_eq!(unknown(&[b"foo"]), head);
        assert_eq!(unknown(&[b"foo", b"a", b"b"]), format!("{head}'a' 'b' "));
        assert_eq!(unknown(&[b"foo", a.as_bytes(), b"b"]), format!("{head}'{}' ", &a[..128]));
        assert_eq!(
            unknown(&[b"foo", &a.as_bytes()[..100], b.as_bytes(), b"c"]),
            format!("{head}'{}' '{}' ", &a[..100], &b[..25])
        );
        assert_eq!(unknown(&[b"foo", &a.as_bytes()[..124], b"b", b"c"]), format!("{head}'{}' 'b' ", &a[..124]));
        assert_eq!(unknown(&[b"foo", &a.as_bytes()[..125], b"b"]), format!("{head}'{}' ", &a[..125]));
        assert_eq!(
            unknown(&[a.as_bytes(), b"a"]),
            format!("ERR unknown command '{}', with args beginning with: 'a' ", &a[..128])
        );
        assert_eq!(unknown(&[b"fo\0o", b"a\0b", b"c"]), "ERR unknown command 'fo', with args beginning with: 'a' 'c' ");
    }

    #[test]
    fn an_unknown_subcommand_points_to_the_help_of_its_container() {
        let error = CommandError::unknown_subcommand("client", b"fOo");
        assert_eq!(error.to_string(), "ERR unknown subcommand 'fOo'. Try CLIENT HELP.");
        let error = CommandError::unknown_subcommand("CLIENT", &[b'x'; 200]);
        assert_eq!(error.to_string(), format!("ERR unknown subcommand '{}'. Try CLIENT HELP.", "x".repeat(128)));
    }

    #[test]
    fn bytes_that_are_no_text_are_repeated_as_they_came() {
        let mut text = Vec::new();
        ProtocolError::ExpectedDollar(0xff).append_to(&mut text);
        assert_eq!(text, b"Protocol error: expected '$', got '\xff'");
        text.clear();
        CommandError::unknown_command(OwnedArgs::from_slices(&[&b"fo\xff"[..], b"\xfe\xfd"]).as_args())
            .append_to(&mut text);
        assert_eq!(text, b"ERR unknown command 'fo\xff', with args beginning with: '\xfe\xfd' ");
    }

    #[test]
    fn names_stand_inside_the_sentence() {
        for (error, text) in [
            (CommandError::InvalidExpire("set"), "ERR invalid expire time in 'set' command"),
            (CommandError::WrongArity("client|kill"), "ERR wrong number of arguments for 'client|kill' command"),
            (
                CommandError::NotBetween(i64::from(i32::MIN), i64::from(i32::MAX)),
                "ERR value is out of range, value must between -2147483648 and 2147483647",
            ),
            (
                CommandError::NoPermission(Box::new((b"ann".to_vec(), "get"))),
                "NOPERM User ann has no permissions to run the 'get' command",
            ),
            (CommandError::Message("WRONGKIND of text".into()), "WRONGKIND of text"),
            (CommandError::Custom("ERR just so"), "ERR just so"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn the_code_is_the_first_word() {
        for (error, code) in [
            (CommandError::WrongType, "WRONGTYPE"),
            (CommandError::Syntax, "ERR"),
            (CommandError::WrongArity("get"), "ERR"),
            (CommandError::Oom, "OOM"),
            (CommandError::NoPermission(Box::new((b"ann".to_vec(), "get"))), "NOPERM"),
            (CommandError::MisConfAof("No space left on device".into()), "MISCONF"),
            (CommandError::Custom("BUSYGROUP Consumer Group name already exists"), "BUSYGROUP"),
            (CommandError::Message("EXECABORT".into()), "EXECABORT"),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
