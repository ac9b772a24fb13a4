//! Reading a log piece by piece: which records and annotations it holds, how far it is whole, and where it is damaged.
//!
//! ```text
//!   scanner.feed(piece)
//!   loop { match scanner.next_item()? { NeedMore => feed the next piece, or stop at the end of the file;  Record, Annotation => … } }
//!   scanner.end()                        what stands at the end: nothing, half a record, or an open transaction
//! ```
//!
//! All offsets are the file's. [`Scanner::valid_up_to`] is where the file may be cut: behind the last record that is whole and is
//! not part of a transaction that has no EXEC yet. A `#TXN` line belongs to the record below it, and is not valid without.
//!
//! A scanner keeps the bytes of the record it is in, or with [`Keep::Nothing`] only the line it is in, so that finding epochs in a log
//! with arguments of any size takes no memory. [`Scanner::next_run`] passes over as many records as were fed and gives
//! their bytes as one slice: what a dispatch engine takes as if a client had sent it.
//!
//! Strict: arrays of bulk strings whose numbers are digits alone and whose lines end in CRLF; that is what Redis and we write. A line
//! of annotation may end in LF alone, as in Redis. Each byte is looked at once. Memory is bounded by what was fed, never by what
//! a header announces. After damage the scanner stays where it is. Owned by whoever reads the log.
//!
//! Absent on purpose: what commands mean, except MULTI and EXEC; repair. [`Damage`] says where and what was expected; whether bytes
//! behind it are a torn tail that may be dropped is for the reader, who knows which epochs were durable.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

use super::annotation::{Annotation, LINE_BYTES_MAX};
use crate::resp::parse::ARGS_MAX;

/// The most bytes of a command's name that are remembered: no command that Redis or we log has a longer one.
const NAME_BYTES_MAX: usize = 32;

/// The most digits of a number of arguments or a length.
const DIGITS_MAX: usize = 19;

/// What a scanner may meet before it calls it damage.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument, bytes: `proto-max-bulk-len`, 512 MiB unless configured.
    pub bulk_bytes_max: u64,
    /// The most arguments of a record.
    pub args_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bulk_bytes_max: 512 << 20, args_max: u64::from(ARGS_MAX) }
    }
}

/// Which bytes a scanner keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those of whole records, until they were handed out and more is fed.
    Records,
    /// None that it does not need itself. [`Scanner::bytes`] cannot be asked.
    Nothing,
}

/// What comes next in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Nothing whole is left of what was fed.
    NeedMore,
    /// A line that begins with `#`.
    Annotation {
        /// Its bytes, line end included.
        at: Range<u64>,
        /// What it says.
        annotation: Annotation,
        /// Whether it stands between a MULTI and its EXEC.
        in_transaction: bool,
    },
    /// A command.
    Record {
        /// Its bytes.
        at: Range<u64>,
        /// How many arguments, the name included.
        argc: u64,
        /// The name as it was written; the first 32 bytes of one that is longer.
        name: &'a [u8],
        /// What it has to do with transactions.
        role: Role,
    },
}

/// What a record has to do with transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It stands alone.
    Alone,
    /// It is a MULTI.
    Multi,
    /// It stands between MULTI and EXEC.
    Inside,
    /// It is the EXEC.
    Exec,
}

/// Records that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their bytes; [`Scanner::bytes`] has them until the next feed.
    pub at: Range<u64>,
    /// How many records.
    pub records: u64,
}

/// What [`Scanner::next_run`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing whole is left of what was fed.
    NeedMore,
    /// At least one record.
    Run(Run),
    /// A line that begins with `#`.
    Annotation {
        /// Its bytes, line end included.
        at: Range<u64>,
        /// What it says.
        annotation: Annotation,
        /// Whether it stands between a MULTI and its EXEC.
        in_transaction: bool,
    },
}

/// Bytes that are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the first byte that does not fit stands, or the number that is too large begins.
    pub offset: u64,
    /// What should stand there.
    pub expected: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.offset, self.expected)
    }
}

impl std::error::Error for Damage {}

/// What stands at the end of what was fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end of a record or an annotation, outside of transactions.
    Whole,
    /// A record or an annotation that is not whole and begins here.
    Cut {
        /// Its first byte.
        at: u64,
    },
    /// A transaction without EXEC, whole records otherwise.
    OpenTransaction {
        /// The first byte of its MULTI.
        at: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    keep: Keep,
    limits: Limits,
    buffer: Vec<u8>,
    /// The offset of the buffer's first byte.
    base: u64,
    /// The offset behind the last byte that was fed.
    fed: u64,
    /// The offset of what is looked at next; beyond `fed` while an argument is skipped.
    at: u64,
    state: State,
    record: Record,
    /// Where the open transaction's MULTI begins.
    multi: Option<u64>,
    valid_up_to: u64,
    damage: Option<Damage>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At the first byte of a record or an annotation.
    Between,
    /// At the header of an argument.
    Header,
    /// In an argument that ends here.
    Argument { end: u64 },
}

/// The record that the scanner is in.
#[derive(Clone, Copy, Debug)]
struct Record {
    at: u64,
    argc: u64,
    missing: u64,
    name: [u8; NAME_BYTES_MAX],
    name_len: usize,
}

/// Why the scanner stops short of an item.
enum Stop {
    NeedMore,
    Damage(Damage),
}

enum Step {
    Annotation { end: u64, annotation: Annotation },
    Record(Role),
}

impl Scanner {
    /// Reads a log from this offset of its file on, where a record or an annotation begins.
    pub fn new(offset: u64, keep: Keep, limits: Limits) -> Scanner {
        Scanner {
            keep,
            limits,
            buffer: Vec::new(),
            base: offset,
            fed: offset,
            at: offset,
            state: State::Between,
            record: Record { at: offset, argc: 0, missing: 0, name: [0; NAME_BYTES_MAX], name_len: 0 },
            multi: None,
            valid_up_to: offset,
            damage: None,
        }
    }

    /// The file's next bytes. Best after [`Item::NeedMore`]; bytes that were handed out are let go of.
    pub fn feed(&mut self, bytes: &[u8]) {
        let keep_from = match (self.keep, self.state) {
            (Keep::Records, State::Between) => self.at,
            (Keep::Records, _) => self.record.at,
            (Keep::Nothing, _) => self.at,
        };
        let gone = (keep_from - self.base).min(self.buffer.len() as u64);
        self.buffer.drain(..gone as usize);
        self.base += gone;
        self.fed += bytes.len() as u64;
        // The rest of an argument that nobody wants.
        let unwanted = (keep_from - self.base).min(bytes.len() as u64) as usize;
        let skipped = if self.buffer.is_empty() { unwanted } else { 0 };
        self.base += skipped as u64;
        self.buffer.extend_from_slice(&bytes[skipped..]);
    }

    /// The next record or annotation.
    pub fn next_item(&mut self) -> Result<Item<'_>, Damage> {
        match self.step() {
            Err(Stop::NeedMore) => Ok(Item::NeedMore),
            Err(Stop::Damage(damage)) => Err(damage),
            Ok(Step::Annotation { end, annotation }) => {
                let at = self.annotation_from(end, annotation);
                Ok(Item::Annotation { at, annotation, in_transaction: self.multi.is_some() })
            }
            Ok(Step::Record(role)) => Ok(Item::Record {
                at: self.record.at..self.at,
                argc: self.record.argc,
                name: &self.record.name[..self.record.name_len],
                role,
            }),
        }
    }

    /// The next records, as many as were fed but no more than make up `bytes_max` bytes (one may be longer), up to the next
    /// annotation. Ends between records, also inside of a transaction.
    pub fn next_run(&mut self, bytes_max: u64) -> Result<Found, Damage> {
        assert_eq!(self.keep, Keep::Records, "a run's bytes are to be looked at");
        let (mut from, mut end, mut records) = (self.at, self.at, 0);
        if !matches!(self.state, State::Between) {
            from = self.record.at;
        }
        loop {
            // What stops a run is found again by the next call: an annotation, damage, or that more is needed.
            if records > 0 && (end - from >= bytes_max || self.peek() != Some(b'*')) {
                break;
            }
            match self.step() {
                Ok(Step::Record(_)) => {
                    records += 1;
                    end = self.at;
                }
                Ok(Step::Annotation { end, annotation }) => {
                    let at = self.annotation_from(end, annotation);
                    return Ok(Found::Annotation { at, annotation, in_transaction: self.multi.is_some() });
                }
                Err(_) if records > 0 => break,
                Err(Stop::NeedMore) => return Ok(Found::NeedMore),
                Err(Stop::Damage(damage)) => return Err(damage),
            }
        }
        Ok(Found::Run(Run { at: from..end, records }))
    }

    /// Bytes of records and annotations that were handed out since the last feed.
    pub fn bytes(&self, at: Range<u64>) -> &[u8] {
        assert_eq!(self.keep, Keep::Records, "nothing is kept");
        &self.buffer[(at.start - self.base) as usize..(at.end - self.base) as usize]
    }

    /// Where the file may be cut so that it holds whole records and no open transaction.
    pub fn valid_up_to(&self) -> u64 {
        self.valid_up_to
    }

    /// Whether a MULTI waits for its EXEC.
    pub fn in_transaction(&self) -> bool {
        self.multi.is_some()
    }

    /// The offset behind the last byte that was fed.
    pub fn fed_up_to(&self) -> u64 {
        self.fed
    }

    /// What stands at the end, if what was fed is all and [`Scanner::next`] has given all of it.
    pub fn end(&self) -> End {
        let cut = match self.state {
            State::Between if self.at == self.fed => None,
            State::Between => Some(self.at),
            _ => Some(self.record.at),
        };
        match (cut, self.multi) {
            (Some(at), _) => End::Cut { at },
            (None, Some(at)) => End::OpenTransaction { at },
            (None, None) => End::Whole,
        }
    }

    fn annotation_from(&mut self, end: u64, annotation: Annotation) -> Range<u64> {
        let at = self.at..end;
        self.at = end;
        if self.multi.is_none() && !matches!(annotation, Annotation::Transaction { .. }) {
            self.valid_up_to = end;
        }
        at
    }

    /// The bytes from `at` on.
    fn rest(&self) -> &[u8] {
        &self.buffer[(self.at - self.base) as usize..]
    }

    fn peek(&self) -> Option<u8> {
        if self.at < self.fed { self.rest().first().copied() } else { None }
    }

    fn step(&mut self) -> Result<Step, Stop> {
        if let Some(damage) = self.damage {
            return Err(Stop::Damage(damage));
        }
        let step = self.advance();
        if let Err(Stop::Damage(damage)) = step {
            self.damage = Some(damage);
        }
        step
    }

    fn advance(&mut self) -> Result<Step, Stop> {
        loop {
            match self.state {
                State::Between => match self.peek().ok_or(Stop::NeedMore)? {
                    b'#' => return self.annotation(),
                    b'*' => {
                        let (argc, len) = self.header(self.limits.args_max, "a number of arguments", 1)?;
                        self.record = Record { at: self.at, argc, missing: argc, ..self.record };
                        self.at += len;
                        self.state = State::Header;
                    }
                    _ => return Err(self.damaged(0, "'*' of a command or '#' of an annotation")),
                },
                State::Header => {
                    match self.peek().ok_or(Stop::NeedMore)? {
                        b'$' => {}
                        _ => return Err(self.damaged(0, "'$' of an argument")),
                    }
                    let (len, header) = self.header(self.limits.bulk_bytes_max, "the length of an argument", 0)?;
                    // The name has to be whole before the state moves on: what is skipped cannot be looked at again.
                    if self.record.missing == self.record.argc && !self.take_name(header, len) {
                        return Err(Stop::NeedMore);
                    }
                    self.at += header + len;
                    self.state = State::Argument { end: self.at };
                }
                State::Argument { end } => {
                    debug_assert_eq!(self.at, end);
                    if self.fed < end + 2 {
                        // A wrong first byte is damage, however the file ends.
                        return match self.peek() {
                            Some(b'\r') | None => Err(Stop::NeedMore),
                            Some(_) => Err(self.damaged(0, "the line end behind an argument")),
                        };
                    }
                    if !self.rest().starts_with(b"\r\n") {
                        return Err(self.damaged(0, "the line end behind an argument"));
                    }
                    self.at += 2;
                    self.record.missing -= 1;
                    if self.record.missing > 0 {
                        self.state = State::Header;
                    } else {
                        return self.finish().map(Step::Record);
                    }
                }
            }
        }
    }

    /// Behind the last argument of a record.
    fn finish(&mut self) -> Result<Role, Stop> {
        let name = &self.record.name[..self.record.name_len];
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        let role = match self.multi {
            Some(_) if is(b"MULTI") => return Err(self.damaged_record("EXEC before the next MULTI")),
            None if is(b"EXEC") => return Err(self.damaged_record("MULTI before an EXEC")),
            Some(_) if is(b"EXEC") => {
                self.multi = None;
                Role::Exec
            }
            None if is(b"MULTI") => {
                self.multi = Some(self.record.at);
                Role::Multi
            }
            Some(_) => Role::Inside,
            None => Role::Alone,
        };
        self.state = State::Between;
        if self.multi.is_none() {
            self.valid_up_to = self.at;
        }
        Ok(role)
    }

    fn annotation(&self) -> Result<Step, Stop> {
        let rest = self.rest();
        let shown = &rest[..rest.len().min(LINE_BYTES_MAX)];
        let Some(end) = memchr(b'\n', shown) else {
            return if shown.len() < LINE_BYTES_MAX {
                Err(Stop::NeedMore)
            } else {
                Err(self.damaged(0, "an annotation of at most 1024 bytes"))
            };
        };
        let line = &shown[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Step::Annotation { end: self.at + end as u64 + 1, annotation: Annotation::parse(line) })
    }

    /// The number of the header at hand, and the header's length.
    fn header(&self, most: u64, expected: &'static str, least: u64) -> Result<(u64, u64), Stop> {
        let digits = &self.rest()[1..];
        let mut number = 0u64;
        for (at, byte) in digits.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at < DIGITS_MAX => number = number * 10 + u64::from(byte - b'0'),
                b'\r' if at > 0 => {
                    match digits.get(at + 1) {
                        None => return Err(Stop::NeedMore),
                        Some(b'\n') => {}
                        Some(_) => return Err(self.damaged(at + 2, "a line end")),
                    }
                    let has_leading_zero = digits[0] == b'0' && at > 1;
                    if number < least || number > most || has_leading_zero {
                        return Err(self.damaged(1, expected));
                    }
                    return Ok((number, at as u64 + 3));
                }
                _ => return Err(self.damaged(at + 1, expected)),
            }
        }
        Err(Stop::NeedMore)
    }

    /// Remembers the name behind a header. False: its bytes have not all come.
    fn take_name(&mut self, header: u64, len: u64) -> bool {
        let len = len.min(NAME_BYTES_MAX as u64) as usize;
        let from = (self.at + header - self.base) as usize;
        let Some(name) = self.buffer.get(from..from + len) else { return false };
        self.record.name[..len].copy_from_slice(name);
        self.record.name_len = len;
        true
    }

    fn damaged(&self, behind: usize, expected: &'static str) -> Stop {
        Stop::Damage(Damage { offset: self.at + behind as u64, expected })
    }

    fn damaged_record(&self, expected: &'static str) -> Stop {
        Stop::Damage(Damage { offset: self.record.at, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::persist::aof::annotation::{Epoch, push_epoch, push_time, push_transaction};
    use crate::persist::aof::effect::{EXEC, MULTI, push_command};

    /// Everything a scanner says about a log that comes in pieces of these lengths, one line each.
    fn told(log: &[u8], keep: Keep, mut piece: impl FnMut() -> usize) -> Vec<String> {
        let mut scanner = Scanner::new(0, keep, Limits::default());
        let (mut lines, mut rest) = (Vec::new(), log);
        loop {
            let text = match scanner.next_item() {
                Ok(Item::NeedMore) if rest.is_empty() => break,
                Ok(Item::NeedMore) => {
                    let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
                    scanner.feed(now);
                    rest = later;
                    continue;
                }
                Ok(Item::Annotation { at, annotation, in_transaction }) => {
                    format!("{at:?} {annotation:?} {in_transaction}")
                }
                Ok(Item::Record { at, argc, name, role }) => {
                    format!("{at:?} {argc} {} {role:?}", name.escape_ascii())
                }
                Err(damage) => {
                    lines.push(damage.to_string());
                    break;
                }
            };
            lines.push(format!("{text}, valid up to {}", scanner.valid_up_to()));
        }
        lines.push(format!("{:?}", scanner.end()));
        lines
    }

    fn told_at_once(log: &[u8]) -> Vec<String> {
        told(log, Keep::Records, || usize::MAX)
    }

    #[track_caller]
    fn check(log: &[u8], expected: &[&str]) {
        assert_eq!(told_at_once(log), expected, "{}", log.escape_ascii());
        assert_eq!(told(log, Keep::Nothing, || 1), expected, "byte by byte: {}", log.escape_ascii());
    }

    #[test]
    fn records_and_annotations_are_found_where_they_are() {
        check(
            b"#TS:5\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#EPOCH:1:2\r\n# odd\n*1\r\n$0\r\n\r\n",
            &[
                "0..7 Time { unix_s: 5 } false, valid up to 7",
                "7..30 2 SELECT Alone, valid up to 30",
                "30..42 Epoch(Epoch { number: 1, unix_ms: 2 }) false, valid up to 42",
                "42..48 Other false, valid up to 48",
                "48..58 1  Alone, valid up to 58",
                "Whole",
            ],
        );
        check(b"", &["Whole"]);
    }

    #[test]
    fn a_transaction_counts_when_its_exec_is_there() {
        let mut log = Vec::new();
        push_transaction(&mut log, 0, 5);
        log.extend_from_slice(MULTI);
        push_command(&mut log, [&b"set"[..], b"a"]);
        push_time(&mut log, 5);
        log.extend_from_slice(EXEC);
        check(
            &log,
            &[
                "0..10 Transaction { home: 0, number: 5 } false, valid up to 0",
                "10..25 1 MULTI Multi, valid up to 0",
                "25..45 2 set Inside, valid up to 0",
                "45..52 Time { unix_s: 5 } true, valid up to 0",
                "52..66 1 EXEC Exec, valid up to 66",
                "Whole",
            ],
        );
        assert_eq!(told_at_once(&log[..52]).last().unwrap(), "OpenTransaction { at: 10 }");
        assert_eq!(told_at_once(&log[..53]).last().unwrap(), "Cut { at: 52 }");
        check(b"*1\r\n$4\r\nexec\r\n", &["at byte 0: expected MULTI before an EXEC", "Cut { at: 0 }"]);
        check(
            &[MULTI, MULTI].concat(),
            &[
                "0..15 1 MULTI Multi, valid up to 0",
                "at byte 15: expected EXEC before the next MULTI",
                "Cut { at: 15 }",
            ],
        );
    }

    #[test]
    fn damage_is_where_the_first_wrong_byte_is() {
        let check = |log: &[u8], expected: &str| {
            assert_eq!(told_at_once(log)[0], expected, "{}", log.escape_ascii());
            assert_eq!(told(log, Keep::Nothing, || 1)[0], expected, "byte by byte: {}", log.escape_ascii());
        };
        check(b"SET a b\r\n", "at byte 0: expected '*' of a command or '#' of an annotation");
        check(b"\0\0\0", "at byte 0: expected '*' of a command or '#' of an annotation");
        check(b"*x\r\n", "at byte 1: expected a number of arguments");
        check(b"*\r\n", "at byte 1: expected a number of arguments");
        check(b"*0\r\n", "at byte 1: expected a number of arguments");
        check(b"*-1\r\n", "at byte 1: expected a number of arguments");
        check(b"*01\r\n", "at byte 1: expected a number of arguments");
        check(b"*1048577\r\n", "at byte 1: expected a number of arguments");
        check(b"*12345678901234567890\r\n", "at byte 20: expected a number of arguments");
        check(b"*1\n$1\r\nx\r\n", "at byte 2: expected a number of arguments");
        check(b"*1\rx", "at byte 3: expected a line end");
        check(b"*1\r\n:1\r\n", "at byte 4: expected '$' of an argument");
        check(b"*1\r\n$-1\r\n", "at byte 5: expected the length of an argument");
        check(b"*1\r\n$536870913\r\n", "at byte 5: expected the length of an argument");
        check(b"*1\r\n$1\r\nabc", "at byte 9: expected the line end behind an argument");
        check(b"*1\r\n$1\r\na\rc", "at byte 9: expected the line end behind an argument");
        check(&[b'#'; 1024], "at byte 0: expected an annotation of at most 1024 bytes");
    }

    #[test]
    fn a_file_that_ends_early_is_cut_and_not_damaged() {
        let log = b"*2\r\n$3\r\nGET\r\n$12\r\n\r\n*1\r\n$1\r\nxx\r\n#TS:5\r\n";
        for end in 0..log.len() {
            let last = told_at_once(&log[..end]).pop().unwrap();
            let expected = match end {
                0 | 32 => "Whole".to_owned(),
                1..32 => "Cut { at: 0 }".to_owned(),
                _ => "Cut { at: 32 }".to_owned(),
            };
            assert_eq!(last, expected, "cut at {end}");
        }
    }

    fn some_log(rng: &mut Rng) -> Vec<u8> {
        let mut log = Vec::new();
        for n in 0..rng.below(12) {
            match rng.below(5) {
                0 => push_epoch(&mut log, Epoch { number: n, unix_ms: 7 }),
                1 => {
                    log.extend_from_slice(MULTI);
                    push_command(&mut log, [&b"INCR"[..], b"k"]);
                    log.extend_from_slice(EXEC);
                }
                _ => {
                    let long = vec![b'\n'; rng.below(300) as usize];
                    let argv = [&b"APPEND"[..], b"key", &long];
                    push_command(&mut log, argv.into_iter().take(1 + rng.below(3) as usize));
                }
            }
        }
        log
    }

    #[test]
    fn where_pieces_end_changes_nothing() {
        for seed in 0..300 {
            let mut rng = Rng::seed(seed);
            let mut log = some_log(&mut rng);
            if rng.chance(1, 3) && !log.is_empty() {
                let at = rng.below(log.len() as u64) as usize;
                log[at] ^= 1 << rng.below(8);
            }
            let expected = told_at_once(&log);
            let most = *rng.pick(&[1, 3, 50, 400]);
            for keep in [Keep::Records, Keep::Nothing] {
                let pieces = told(&log, keep, || 1 + rng.below(most) as usize);
                assert_eq!(pieces, expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn runs_are_the_bytes_of_all_records_and_of_nothing_else() {
        for seed in 0..300 {
            let mut rng = Rng::seed(seed);
            let log = some_log(&mut rng);
            let (most, piece) = (*rng.pick(&[1, 100, 10_000]), *rng.pick(&[1, 7, 200, 100_000]));
            let mut scanner = Scanner::new(1000, Keep::Records, Limits::default());
            let (mut rest, mut records, mut seen, mut annotations) = (&log[..], 0, Vec::new(), 0);
            loop {
                match scanner.next_run(most).expect("a log") {
                    Found::NeedMore if rest.is_empty() => break,
                    Found::NeedMore => {
                        let (now, later) = rest.split_at(rest.len().min(piece));
                        scanner.feed(now);
                        rest = later;
                    }
                    Found::Run(run) => {
                        let bytes = scanner.bytes(run.at.clone());
                        assert_eq!(
                            bytes,
                            &log[run.at.start as usize - 1000..run.at.end as usize - 1000],
                            "seed {seed}"
                        );
                        assert!(run.records == 1 || run.at.end - run.at.start < most + 350, "seed {seed}: {run:?}");
                        seen.extend_from_slice(bytes);
                        records += run.records;
                    }
                    Found::Annotation { at, .. } => {
                        assert!(scanner.bytes(at).starts_with(b"#EPOCH"));
                        annotations += 1;
                    }
                }
            }
            let told = told_at_once(&log);
            assert_eq!(annotations, told.iter().filter(|line| line.contains("Epoch(")).count(), "seed {seed}");
            assert_eq!(records as usize, told.len() - 1 - annotations, "seed {seed}");
            assert_eq!(told_at_once(&seen).len(), records as usize + 1, "seed {seed}");
            assert_eq!(scanner.valid_up_to(), 1000 + log.len() as u64, "seed {seed}");
        }
    }

    #[test]
    fn long_arguments_that_nobody_wants_are_not_kept() {
        let mut scanner = Scanner::new(0, Keep::Nothing, Limits::default());
        scanner.feed(b"*2\r\n$3\r\nSET\r\n$500000000\r\n");
        for _ in 0..500 {
            assert_eq!(scanner.next_item(), Ok(Item::NeedMore));
            scanner.feed(&[7; 1_000_000]);
            assert!(scanner.buffer.capacity() < 3_000_000, "{}", scanner.buffer.capacity());
        }
        scanner.feed(b"\r\n");
        assert!(matches!(scanner.next_item(), Ok(Item::Record { argc: 2, .. })));
    }
}
