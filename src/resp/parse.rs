//! The request parser: bytes as they arrive become commands. One per connection, on the connection's core.
//!
//! # The contract with the connection
//!
//! The connection shows the parser the bytes of the current command, from its first byte on, and asks for a [`Step`]:
//!
//! ```text
//!   input   *2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n*1\r\n$4\r\nPI
//!           └───────── one command ───────┘└─ the next ──   Command { consumed: 22 }: run args(input), then go on
//!                                                           with input[22..], which gives
//!                                          └────────────    Incomplete: keep these bytes, append to them, show them all
//! ```
//!
//! After `Incomplete` the parser remembers how far it came, so no byte is looked at twice, however small the pieces are;
//! in return the input must begin with the same bytes again. Where one piece ends and the next begins never changes what
//! the commands are.
//!
//! # Large arguments
//!
//! An argument of [`BLOB_BYTES_MIN`] or more that is not whole in the input is not collected in the connection's buffer.
//! It goes straight into the allocation in which it may later be stored, and is **cut out of the command's bytes**:
//!
//! ```text
//!   wire    *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n xxxxxxxx…xxxxxxxx \r\n *1\r\n…
//!           └─────────── consumed: 29 ─────────────┘└────── elsewhere ──────┘
//!
//!   step(input)            -> BigBulk { consumed: 29, len: 100000 }
//!   let mut bulk = BigBulk::new(len);
//!   input: keep [..29], give [29..] to bulk.fill(), which says how many bytes it took
//!   …receive until bulk.is_complete(): by fill(), or straight into spare()…
//!   supply_blob(bulk.into_blob())
//!   step(input[..29] ++ whatever came behind the bulk's CRLF)    -> Command { consumed: 29 }
//! ```
//!
//! `step` must follow `supply_blob` at once, even when nothing came behind the bulk: the command may be complete. It may
//! also announce the next large argument of the same command; `consumed` then counts from the command's first byte
//! again, without what was cut out. An argument that is whole in the input, whatever its length, is an ordinary range.
//!
//! # What is accepted
//!
//! What redis-server 7.0 accepts, with its habits: the byte behind a CR is not looked at, and neither are the two bytes
//! behind an argument; numbers are strict (no sign but `-`, no leading zero, no blank); `*0`, `*-1` and empty lines are
//! skipped without a reply; a NUL in front of a line's end hides that end, so that such a line can only grow until it is
//! too long. One difference: a line may have 64 KiB, always. In Redis a longer one passes when it happens to arrive
//! inside one read.
//!
//! Invariants: memory is bounded by what arrived, never by what was announced (at most [`SPANS_RESERVED_MAX`] spans are
//! reserved on the word of a count); whether a command begins with `*` is decided anew at each command; after an error
//! the connection is closed and the parser not used again before [`Parser::reset`].
//!
//! Absent on purpose: the query buffer's limit and all reading, which are the connection's, and the detection of HTTP
//! requests, which is the gate's.

use super::args::{Args, COMMAND_BYTES_MAX, OwnedArgs, Span};
use super::error::ProtocolError;
use super::short::{self, ARG_BYTES_BOUND, Short};
use super::words::split_words;
use crate::base::num::parse_i64;
use crate::base::{BLOB_BYTES_MIN, Blob};

/// The longest line, in bytes without its end: a header or an inline command (Redis's `PROTO_INLINE_MAX_SIZE`).
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most arguments that a command may have (`args_max` of an ordinary client): Redis's documented limit.
pub const ARGS_MAX: u32 = 1024 * 1024;

/// The most arguments of a client that has not authenticated.
pub const UNAUTHENTICATED_ARGS_MAX: u32 = 10;

/// The longest argument of a client that has not authenticated, in bytes.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: u64 = 16_384;

/// How many spans are reserved at most when a count is announced; more grow as arguments arrive. Also how many are kept
/// for the next command.
pub const SPANS_RESERVED_MAX: usize = 1024;

/// How much memory of an inline command is kept for the next one, in bytes.
const INLINE_KEPT_BYTES_MAX: usize = 4096;

/// What this client may send. Passed with every step, since AUTH and CONFIG SET change it in between.
#[derive(Clone, Copy, Debug)]
pub struct ParseLimits {
    /// The longest argument, in bytes: `proto-max-bulk-len`.
    pub bulk_bytes_max: u64,
    /// The most arguments of one command, its name included.
    pub args_max: u32,
    /// False while a password is required and was not given: at most 10 arguments of at most 16 KiB.
    pub authenticated: bool,
}

impl Default for ParseLimits {
    /// Redis's defaults, for an authenticated client.
    fn default() -> ParseLimits {
        ParseLimits { bulk_bytes_max: 512 << 20, args_max: ARGS_MAX, authenticated: true }
    }
}

/// What the input holds. Offsets count from the input's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A command. [`Parser::args`] shows it until the next step; the next command begins at `consumed`.
    Command {
        /// Length of the command, without what was cut out of it.
        consumed: usize,
    },
    /// An empty command, which gets no reply. The next one begins at `consumed`.
    Nothing {
        /// Its length.
        consumed: usize,
    },
    /// The command goes on. Ask again with the same bytes and more behind them.
    Incomplete,
    /// The next argument is large: see the module's page.
    BigBulk {
        /// Length of the command so far; the argument's first byte is here.
        consumed: usize,
        /// Length of the argument, in bytes, without the CRLF behind it.
        len: usize,
    },
    /// These bytes are not RESP. Say so and close.
    Error(ProtocolError),
}

/// Where the parser is in the current command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At its first byte. Also behind a complete command, whose arguments are kept until the next step.
    Fresh,
    /// In the line with the number of arguments.
    Count,
    /// In the line with the length of an argument.
    Header,
    /// In an argument of this length.
    Body(usize),
    /// The next argument, of this length, is being received elsewhere.
    Elsewhere(usize),
    /// In an inline command.
    Inline,
}

/// Where the arguments of the current command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In `short`.
    Short,
    /// In `spans` and `blobs`.
    Array,
    /// In `words`.
    Inline,
}

/// The state of one connection's incoming bytes.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Which way the current command has come.
    kind: Kind,
    /// Arguments that have not come yet.
    missing: u32,
    /// Offset of the first byte that is not yet understood: the start of a line or of an argument.
    at: usize,
    /// How many bytes from `at` on are known to hold no line end.
    scanned: usize,
    short: Short,
    spans: Vec<Span>,
    blobs: Vec<Blob>,
    /// Words of an inline command, unquoted.
    words: OwnedArgs,
}

/// Why parsing stops short of a command.
enum Stop {
    Incomplete,
    Error(ProtocolError),
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// At the first byte of a connection. Holds no memory until a command comes.
    pub fn new() -> Parser {
        Parser {
            state: State::Fresh,
            kind: Kind::Array,
            missing: 0,
            at: 0,
            scanned: 0,
            short: Short::default(),
            spans: Vec::new(),
            blobs: Vec::new(),
            words: OwnedArgs::new(),
        }
    }

    /// Looks at the next part of `input`, which begins at the current command's first byte. See the module's page. Lets
    /// go of the previous command's large arguments, also when `input` is empty.
    #[inline]
    pub fn step(&mut self, input: &[u8], limits: &ParseLimits) -> Step {
        if limits.bulk_bytes_max >= ARG_BYTES_BOUND
            && limits.args_max >= short::ARGS_MAX as u32
            && let Some(consumed) = self.short(input)
        {
            return Step::Command { consumed };
        }
        // Spans cannot point further than this. Only a command that is still incomplete there is in trouble.
        let input = &input[..input.len().min(COMMAND_BYTES_MAX)];
        match self.advance(input, limits) {
            Ok(step) => step,
            Err(Stop::Incomplete) if input.len() < COMMAND_BYTES_MAX => Step::Incomplete,
            Err(Stop::Incomplete) => Step::Error(ProtocolError::TooBigRequest),
            Err(Stop::Error(error)) => Step::Error(error),
        }
    }

    /// The short way of [`Parser::step`], for all clients whose limits are not lower than those of one that has not authenticated:
    /// where the command ends, if it begins here and is short and whole. If not, nothing has happened.
    #[inline]
    pub fn short(&mut self, input: &[u8]) -> Option<usize> {
        if self.state != State::Fresh {
            return None;
        }
        self.let_go();
        if !self.short.read(input) {
            return None;
        }
        self.kind = Kind::Short;
        Some(self.short.bytes())
    }

    /// Lets go of the previous command's large arguments, and of the room for very many.
    #[inline]
    pub fn let_go(&mut self) {
        if !self.blobs.is_empty() {
            self.blobs = Vec::new();
        }
        if self.spans.capacity() > SPANS_RESERVED_MAX {
            self.spans = Vec::new();
        }
    }

    /// The command that the last step found in `input`.
    #[inline]
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        debug_assert!(self.state == State::Fresh, "there is no command before `Step::Command`");
        match self.kind {
            Kind::Short => self.short.args(input),
            Kind::Array => Args::new(input, &self.spans, &self.blobs),
            Kind::Inline => self.words.as_args(),
        }
    }

    /// Hands over the argument that [`Step::BigBulk`] announced. Panics when none was, or at another length.
    pub fn supply_blob(&mut self, blob: Blob) {
        assert_eq!(self.state, State::Elsewhere(blob.len()), "a blob is supplied when one of its length was announced");
        self.spans.push(Span::blob(self.blobs.len()));
        self.blobs.push(blob);
        self.missing -= 1;
        self.state = State::Header;
    }

    /// Whether the last step left a command half-way: the input's bytes up to its end are needed again.
    pub fn is_mid_command(&self) -> bool {
        self.state != State::Fresh
    }

    /// Forgets the current command and all memory, for the next connection.
    pub fn reset(&mut self) {
        *self = Parser::new();
    }

    /// Gives memory back while the connection is idle. Between commands only; does nothing in the middle of one.
    pub fn release_memory(&mut self) {
        if self.state == State::Fresh {
            self.reset();
        }
    }

    /// Bytes of memory held, large arguments included, for the connection's account.
    pub fn allocated_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
            + self.blobs.capacity() * size_of::<Blob>()
            + self.blobs.iter().map(|blob| blob.capacity()).sum::<usize>()
            + self.words.allocated_bytes()
    }

    #[inline]
    fn advance(&mut self, input: &[u8], limits: &ParseLimits) -> Result<Step, Stop> {
        if self.state == State::Fresh {
            self.let_go();
            let Some(&first) = input.first() else { return Err(Stop::Incomplete) };
            self.begin(first);
        }
        if self.state == State::Count {
            let args_max = if limits.authenticated { limits.args_max } else { UNAUTHENTICATED_ARGS_MAX };
            let count = match short_line(input, 0, b'*') {
                Some((count, end)) if count <= u64::from(args_max.min(limits.args_max)) => {
                    self.at = end;
                    count as u32
                }
                _ => self.count(input, limits)?,
            };
            self.scanned = 0;
            if count == 0 {
                self.state = State::Fresh;
                return Ok(Step::Nothing { consumed: self.at });
            }
            self.spans.reserve((count as usize).min(SPANS_RESERVED_MAX));
            self.missing = count;
            self.state = State::Header;
        }
        if self.state == State::Inline {
            return self.inline(input);
        }
        self.arguments(input, limits)
    }

    /// Lets go of the previous command and decides what kind the next one is.
    #[inline]
    fn begin(&mut self, first: u8) {
        self.at = 0;
        self.scanned = 0;
        self.spans.clear();
        (self.kind, self.state) =
            if first == b'*' { (Kind::Array, State::Count) } else { (Kind::Inline, State::Inline) };
    }

    /// The arguments from `at` on.
    #[inline]
    fn arguments(&mut self, input: &[u8], limits: &ParseLimits) -> Result<Step, Stop> {
        let bulk_bytes_max = if limits.authenticated {
            limits.bulk_bytes_max
        } else {
            limits.bulk_bytes_max.min(UNAUTHENTICATED_BULK_BYTES_MAX)
        };
        let mut at = self.at;
        let mut missing = self.missing;
        let mut pending = match self.state {
            State::Body(len) => Some(len),
            State::Elsewhere(_) => unreachable!("the announced argument is supplied before the next step"),
            _ => None,
        };
        while missing > 0 {
            let len = if let Some(len) = pending.take() {
                len
            } else if let Some((len, body)) = short_line(input, at, b'$').filter(|&(len, _)| len <= bulk_bytes_max) {
                at = body;
                len as usize
            } else {
                // What was scanned belongs to the line at `self.at`, which may be an earlier one.
                if self.at != at {
                    (self.at, self.scanned) = (at, 0);
                }
                (self.missing, self.state) = (missing, State::Header);
                let len = self.header(input, limits)?;
                at = self.at;
                len
            };
            // No overflow: an announced length is an i64.
            let end = at + len + 2;
            if end > input.len() {
                (self.at, self.missing, self.scanned) = (at, missing, 0);
                if len >= BLOB_BYTES_MIN {
                    self.state = State::Elsewhere(len);
                    return Ok(Step::BigBulk { consumed: at, len });
                }
                self.state = State::Body(len);
                return Err(Stop::Incomplete);
            }
            self.spans.push(Span::range(at, len));
            missing -= 1;
            at = end;
        }
        self.state = State::Fresh;
        Ok(Step::Command { consumed: at })
    }

    /// The number of arguments, from a line that is not the usual short one; 0 for none or fewer. Moves `at` behind it.
    #[cold]
    #[inline(never)]
    fn count(&mut self, input: &[u8], limits: &ParseLimits) -> Result<u32, Stop> {
        let line = self.header_line(input, ProtocolError::TooBigMultibulkCount)?;
        // Redis asks in this order, so a client that has not authenticated hears of that even past `args_max`.
        let count = parse_i64(&line[1..]).filter(|&count| count <= i64::from(i32::MAX));
        let count = count.ok_or(Stop::Error(ProtocolError::InvalidMultibulkLength))?.max(0) as u32;
        if !limits.authenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err(Stop::Error(ProtocolError::UnauthenticatedMultibulkLength));
        }
        if count > limits.args_max {
            return Err(Stop::Error(ProtocolError::InvalidMultibulkLength));
        }
        Ok(count)
    }

    /// The length of an argument, from a line that is not the usual short one. Moves `at` behind the line.
    #[cold]
    #[inline(never)]
    fn header(&mut self, input: &[u8], limits: &ParseLimits) -> Result<usize, Stop> {
        let line = self.header_line(input, ProtocolError::TooBigBulkCount)?;
        // An empty line begins, for Redis, with the CR that ends it.
        let first = line.first().copied().unwrap_or(b'\r');
        if first != b'$' {
            return Err(Stop::Error(ProtocolError::ExpectedDollar(first)));
        }
        let len = parse_i64(&line[1..]).and_then(|len| u64::try_from(len).ok());
        let len = len.filter(|&len| len <= limits.bulk_bytes_max);
        let len = len.ok_or(Stop::Error(ProtocolError::InvalidBulkLength))?;
        if !limits.authenticated && len > UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(Stop::Error(ProtocolError::UnauthenticatedBulkLength));
        }
        Ok(len as usize)
    }

    /// The line at `at` up to its CR, once CR and the byte behind it are in. Moves `at` behind both.
    fn header_line<'a>(&mut self, input: &'a [u8], too_long: ProtocolError) -> Result<&'a [u8], Stop> {
        let cr = self.find_line_end(input, b'\r', too_long)?;
        if cr + 1 == input.len() {
            return Err(Stop::Incomplete);
        }
        let line = &input[self.at..cr];
        self.at = cr + 2;
        self.scanned = 0;
        Ok(line)
    }

    /// An inline command: its words go to `words`.
    #[cold]
    #[inline(never)]
    fn inline(&mut self, input: &[u8]) -> Result<Step, Stop> {
        let newline = self.find_line_end(input, b'\n', ProtocolError::TooBigInline)?;
        if self.words.allocated_bytes() > INLINE_KEPT_BYTES_MAX {
            self.words = OwnedArgs::new();
        }
        self.words.clear();
        // A CR in front of the newline is a blank to `split_words`, unless it is inside quotes: there it makes the
        // difference between an unbalanced quote and a byte of the word, so it goes first.
        let line = &input[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        split_words(line, &mut self.words).map_err(|_| Stop::Error(ProtocolError::UnbalancedQuotes))?;
        self.state = State::Fresh;
        let consumed = newline + 1;
        Ok(if self.words.is_empty() { Step::Nothing { consumed } } else { Step::Command { consumed } })
    }

    /// The offset of the line's `end` byte. What was scanned for it before is not scanned again.
    fn find_line_end(&mut self, input: &[u8], end: u8, too_long: ProtocolError) -> Result<usize, Stop> {
        let from = self.at + self.scanned;
        assert!(from <= input.len(), "after an incomplete step the same bytes are shown again");
        let window = &input[from..input.len().min(self.at + LINE_BYTES_MAX + 1)];
        // A NUL stops the search for good: the next one begins at it again.
        let stop = window.iter().position(|&b| b == end || b == 0).unwrap_or(window.len());
        self.scanned += stop;
        match window.get(stop) {
            Some(&b) if b == end => Ok(from + stop),
            _ if input.len() - self.at > LINE_BYTES_MAX => Err(Stop::Error(too_long)),
            _ => Err(Stop::Incomplete),
        }
    }
}

/// Reads `tag`, a plain number of up to 9 digits and its line end at `at`, and returns the number and the offset behind
/// the line. `None` for anything else, be it wrong, unusual or incomplete: the slow path tells which.
#[inline(always)]
fn short_line(input: &[u8], at: usize, tag: u8) -> Option<(u64, usize)> {
    let line = input.get(at..)?;
    let (&first, digits) = line.split_first()?;
    if first != tag {
        return None;
    }
    let mut number = 0;
    for (i, &byte) in digits.iter().enumerate().take(10) {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            number = number * 10 + u64::from(digit);
            continue;
        }
        let leading_zero = i > 1 && digits[0] == b'0';
        let complete = digits.len() > i + 1;
        return (byte == b'\r' && i > 0 && !leading_zero && complete).then_some((number, at + i + 3));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::BigBulk;
    use ProtocolError::*;

    type Command = Vec<Vec<u8>>;

    /// Plays a connection that receives `wire` in pieces of `piece` bytes; what came, and how it ended.
    fn receive(wire: &[u8], piece: usize, limits: &ParseLimits) -> (Vec<Command>, Option<ProtocolError>) {
        let mut parser = Parser::new();
        let (mut buffer, mut commands, mut bulk): (Vec<u8>, _, Option<BigBulk>) = (Vec::new(), Vec::new(), None);
        for mut piece in wire.chunks(piece) {
            if let Some(receiver) = &mut bulk {
                let taken = receiver.fill(piece);
                piece = &piece[taken..];
                if !receiver.is_complete() {
                    continue;
                }
                parser.supply_blob(bulk.take().expect("it is being filled").into_blob());
            }
            buffer.extend_from_slice(piece);
            loop {
                let consumed = match parser.step(&buffer, limits) {
                    Step::Command { consumed } => {
                        commands.push(parser.args(&buffer).iter().map(<[u8]>::to_vec).collect());
                        consumed
                    }
                    Step::Nothing { consumed } => consumed,
                    Step::Incomplete => break,
                    Step::BigBulk { consumed, len } => {
                        let mut receiver = BigBulk::new(len);
                        let taken = receiver.fill(&buffer[consumed..]);
                        buffer.drain(consumed..consumed + taken);
                        if receiver.is_complete() {
                            parser.supply_blob(receiver.into_blob());
                            continue;
                        }
                        assert_eq!(buffer.len(), consumed);
                        bulk = Some(receiver);
                        break;
                    }
                    Step::Error(error) => return (commands, Some(error)),
                };
                buffer.drain(..consumed);
            }
        }
        (commands, None)
    }

    /// The words of each command, and the error that ended the stream, for every way to cut it into equal pieces.
    #[track_caller]
    fn check_with(limits: &ParseLimits, wire: &[u8], commands: &[&[&[u8]]], error: Option<ProtocolError>) {
        let pieces = if wire.len() < 2000 { 1..wire.len() + 1 } else { wire.len()..wire.len() + 1 };
        for piece in pieces {
            let (got, ended) = receive(wire, piece, limits);
            let shown = wire[..wire.len().min(100)].escape_ascii();
            assert_eq!(got, commands, "commands of {shown} in pieces of {piece}");
            assert_eq!(ended, error, "end of {shown} in pieces of {piece}");
        }
    }

    #[track_caller]
    fn check(wire: &[u8], commands: &[&[&[u8]]], error: Option<ProtocolError>) {
        check_with(&ParseLimits::default(), wire, commands, error);
    }

    const PING: &[&[u8]] = &[b"PING"];

    // The rows of the next tests are raw bytes and what redis-server 7.0.15 made of them.

    #[test]
    fn commands_arrive_as_their_arguments() {
        check(b"*1\r\n$4\r\nPING\r\n", &[PING], None);
        check(
            b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\r\n\0b\r\n*1\r\n$4\r\nPING\r\n",
            &[&[b"SET", b"", b"a\r\n\0b"], PING],
            None,
        );
        check(b"*12\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1\r\nh\r\n$1\r\ni\r\n$1\r\nj\r\n$1\r\nk\r\n$10\r\nllllllllll\r\n",
            &[&[b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i", b"j", b"k", b"llllllllll"]], None);
        check(b"PING\r\n*1\r\n$4\r\nPING\r\nPING\n", &[PING, PING, PING], None);
    }

    #[test]
    fn a_command_is_incomplete_up_to_its_last_byte() {
        for wire in [&b"*1\r\n$4\r\nPING\r\n"[..], b"PING\r\n", b"*0\r\n", b"*2\r\n$1\r\na\r\n$11\r\nhello world\r\n"] {
            for end in 0..wire.len() {
                assert_eq!(Parser::new().step(&wire[..end], &ParseLimits::default()), Step::Incomplete, "{end}");
            }
        }
    }

    #[test]
    fn bytes_behind_a_carriage_return_and_behind_an_argument_are_not_looked_at() {
        check(b"*1\rX$4\r\nPING\r\n", &[PING], None);
        check(b"*1\r\n$4\rXPING\r\n", &[PING], None);
        check(b"*1\r\n$4\r\nPINGXX*1\r\n$4\r\nPING\r\n", &[PING, PING], None);
    }

    #[test]
    fn empty_requests_are_skipped_and_the_next_is_judged_anew() {
        check(b"*0\r\n*-1\r\n\r\n\n  \r\nPING\r\n*0\r\n*1\r\n$4\r\nPING\r\n", &[PING, PING], None);
        check(b"*-5\r\nPING\r\n", &[PING], None);
        check(b"*-9223372036854775808\r\nPING\r\n", &[PING], None);
    }

    #[test]
    fn a_bad_count_ends_the_connection() {
        for line in ["*abc", "* 1", "*+1", "*01", "*-0", "*", "*1 ", "*2147483648", "*99999999999999999999", "*1\n$4"] {
            check(format!("PING\r\n{line}\r\n").as_bytes(), &[PING], Some(InvalidMultibulkLength));
        }
        check(b"*1048576\r\n", &[], None);
        check(b"*1048577\r\n", &[], Some(InvalidMultibulkLength));
    }

    #[test]
    fn a_bad_length_ends_the_connection() {
        for line in ["$abc", "$-1", "$536870913", "$", "$+4", "$04", "$-0", "$99999999999999999999", "$ 4"] {
            check(format!("*2\r\n$1\r\nx\r\n{line}\r\n").as_bytes(), &[], Some(InvalidBulkLength));
        }
        check(b"*1\r\n$536870912\r\n", &[], None);
        for first in [b'x', 1, 0xff, b'\n', b'\'', b'\\', b'*'] {
            check(&[b"*1\r\n", &[first][..], b"yz\r\n"].concat(), &[], Some(ExpectedDollar(first)));
        }
        check(b"*1\r\n\r\n", &[], Some(ExpectedDollar(b'\r')));
        check(b"*1\r\r\n$4\r\nPING\r\n", &[], Some(ExpectedDollar(b'\n')));
        // Said once the line is complete, not before.
        check(b"*1\r\nx", &[], None);
    }

    #[test]
    fn a_line_may_have_64_kib() {
        let line = |head: &str, bytes: usize| [head.as_bytes(), &vec![b'1'; bytes - head.len()]].concat();
        for (before, head, error) in
            [("", "*", TooBigMultibulkCount), ("*1\r\n", "$", TooBigBulkCount), ("", "a", TooBigInline)]
        {
            for (bytes, expected) in [(LINE_BYTES_MAX, None), (LINE_BYTES_MAX + 1, Some(error))] {
                let wire = [before.as_bytes(), &line(head, bytes)].concat();
                for piece in [1, 1000, 65_536, 100_000] {
                    let (commands, ended) = receive(&wire, piece, &ParseLimits::default());
                    assert_eq!((commands, ended), (vec![], expected), "{head} {bytes} in pieces of {piece}");
                }
            }
            // However it arrives: the end of a line that is too long does not help.
            let wire = [before.as_bytes(), &line(head, 70_000), b"\r\n"].concat();
            check(&wire, &[], Some(error));
        }
        let name = line("a", LINE_BYTES_MAX - 1);
        check(&[&name[..], b"\r\n"].concat(), &[&[&name]], None);
    }

    #[test]
    fn a_nul_hides_the_end_of_its_line() {
        check(b"ECHO a\0b\r\nPING\r\n", &[], None);
        check(b"*1\0\r\n$4\r\nPING\r\n", &[], None);
        check(b"*1\r\n$4\0\r\nPING\r\n", &[], None);
        check(&[&b"\0\r\n"[..], &[b'a'; LINE_BYTES_MAX]].concat(), &[], Some(TooBigInline));
    }

    #[test]
    fn inline_commands_are_split_by_quotes() {
        check(b"  SET \"a \\x41\"\t'b\\'' \r\n", &[&[b"SET", b"a A", b"b'"]], None);
        check(b"PING\r\r\n", &[PING], None);
        check(b"ECHO \"abc\r\"\r\n", &[&[b"ECHO", b"abc\r"]], None);
        check(b"ECHO \"abc\r\nPING\r\n", &[], Some(UnbalancedQuotes));
        check(b"PING\r\nECHO 'abc'd\r\n", &[PING], Some(UnbalancedQuotes));
    }

    #[test]
    fn a_client_that_has_not_authenticated_is_held_short() {
        let limits = ParseLimits { authenticated: false, ..ParseLimits::default() };
        check_with(&limits, b"*10\r\n", &[], None);
        check_with(&limits, b"*11\r\n", &[], Some(UnauthenticatedMultibulkLength));
        check_with(&limits, b"*1048577\r\n", &[], Some(UnauthenticatedMultibulkLength));
        check_with(&limits, b"*2147483648\r\n", &[], Some(InvalidMultibulkLength));
        check_with(&limits, b"*1\r\n$16384\r\n", &[], None);
        check_with(&limits, b"*1\r\n$16385\r\n", &[], Some(UnauthenticatedBulkLength));
        check_with(&limits, b"*1\r\n$536870913\r\n", &[], Some(InvalidBulkLength));
        check_with(
            &limits,
            b"PING a b c d e f g h i j k\n",
            &[&[b"PING", b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i", b"j", b"k"]],
            None,
        );
        let small = ParseLimits { bulk_bytes_max: 3, args_max: 2, authenticated: true };
        check_with(
            &small,
            b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*2\r\n$4\r\n",
            &[&[b"GET", b"key"]],
            Some(InvalidBulkLength),
        );
        check_with(&small, b"*3\r\n", &[], Some(InvalidMultibulkLength));
    }

    #[test]
    fn several_large_arguments_of_one_command_arrive_as_blobs() {
        let values: [Vec<u8>; 3] = [20_000, BLOB_BYTES_MIN, 100_000].map(|n| (0..n).map(|i| (i % 251) as u8).collect());
        let keys = [&b"MSET"[..], b"a", &values[0], b"b", &values[1], b"c", b"small", b"d", &values[2]];
        let mut wire = b"*9\r\n".to_vec();
        for arg in keys {
            wire.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            wire.extend_from_slice(arg);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        for piece in [1, 7, 4096, 16_386, 65_536, 1_000_000] {
            let (commands, error) = receive(&wire, piece, &ParseLimits::default());
            assert!(error.is_none());
            assert_eq!(commands.len(), 2);
            assert!(commands[0] == keys, "pieces of {piece}");
            assert_eq!(commands[1], PING);
        }
    }

    #[test]
    fn a_large_argument_is_shared_and_let_go_with_the_next_step() {
        let head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n";
        let mut parser = Parser::new();
        let limits = ParseLimits::default();
        assert_eq!(parser.step(&head[..20], &limits), Step::Incomplete);
        assert_eq!(parser.step(head, &limits), Step::BigBulk { consumed: head.len(), len: 100_000 });
        assert!(parser.is_mid_command());
        let blob = Blob::new(vec![b'x'; 100_000]);
        parser.supply_blob(blob.clone());
        assert_eq!(parser.step(head, &limits), Step::Command { consumed: head.len() });
        let args = parser.args(head);
        assert_eq!((args.get(0), args.get(1)), (&b"SET"[..], &b"k"[..]));
        assert!(Blob::ptr_eq(args.blob(2).expect("received as a blob"), &blob));
        assert!(args.blob(1).is_none());
        assert_eq!(parser.step(b"", &limits), Step::Incomplete);
        assert_eq!(Blob::strong_count(&blob), 1);
        assert!(!parser.is_mid_command());
    }

    #[test]
    fn a_large_argument_that_is_whole_stays_in_the_input() {
        let wire = [&b"*1\r\n$20000\r\n"[..], &[b'x'; 20_000], b"\r\n"].concat();
        let mut parser = Parser::new();
        assert_eq!(parser.step(&wire, &ParseLimits::default()), Step::Command { consumed: wire.len() });
        assert!(parser.args(&wire).blob(0).is_none());
        assert_eq!(parser.args(&wire).get(0).len(), 20_000);
        // Body and all, but one byte of the CRLF is missing: the receiver gets 20,001 bytes at once.
        let short = &wire[..wire.len() - 1];
        assert_eq!(Parser::new().step(short, &ParseLimits::default()), Step::BigBulk { consumed: 12, len: 20_000 });
    }

    #[test]
    fn announced_counts_reserve_little_and_a_quiet_parser_holds_nothing() {
        let mut parser = Parser::new();
        let limits = ParseLimits::default();
        assert_eq!(parser.allocated_bytes(), 0);
        assert_eq!(parser.step(b"*1048576\r\n$1\r\n", &limits), Step::Incomplete);
        assert!(parser.allocated_bytes() <= SPANS_RESERVED_MAX * size_of::<Span>());
        parser.release_memory();
        assert!(parser.is_mid_command());
        parser.reset();
        assert_eq!(parser.step(b"PING\r\n", &limits), Step::Command { consumed: 6 });
        parser.release_memory();
        assert_eq!(parser.allocated_bytes(), 0);
    }

    #[test]
    fn a_million_arguments_in_small_pieces_cost_one_pass() {
        let count = 1_000_000;
        let wire = [format!("*{count}\r\n").as_bytes(), &b"$1\r\nx\r\n".repeat(count)].concat();
        let mut parser = Parser::new();
        let started = std::time::Instant::now();
        // The buffer only grows here, so what is timed is the parser.
        for end in (4096..wire.len()).step_by(4096) {
            assert_eq!(parser.step(&wire[..end], &ParseLimits::default()), Step::Incomplete);
        }
        assert_eq!(parser.step(&wire, &ParseLimits::default()), Step::Command { consumed: wire.len() });
        assert_eq!(parser.args(&wire).len(), count);
        // A second pass per piece would take minutes.
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        assert_eq!(parser.step(b"*1\r\n$1\r\nx\r\n", &ParseLimits::default()), Step::Command { consumed: 11 });
        assert!(parser.allocated_bytes() <= SPANS_RESERVED_MAX * size_of::<Span>());
    }

    #[test]
    #[should_panic(expected = "one of its length")]
    fn a_blob_of_another_length_is_refused() {
        let mut parser = Parser::new();
        parser.step(b"*1\r\n$100000\r\n", &ParseLimits::default());
        parser.supply_blob(Blob::new(vec![0; 99_999]));
    }
}
