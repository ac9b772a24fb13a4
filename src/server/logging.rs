//! The log: one line per event, in the shape that process managers and test harnesses know from Redis.
//!
//! ```text
//! 4711:M 22 Nov 2026 22:01:32.123 * Ready to accept connections
//! pid  │ day, UTC    time         │ message
//!      role, always M             level: . debug   - verbose   * notice   # warning
//! ```
//!
//! The rest of the program logs through `tracing`: `error!` and `warn!` are warnings, `info!` is notice, `debug!` is
//! verbose and `trace!` is debug. Fields of an event follow its message as `name=value`.
//!
//! Times are UTC. Local time would need `localtime_r`, which reads the environment while other threads may change it
//! and has no safe interface; and logs of several machines are easier to lay side by side in UTC.
//!
//! Used from every thread without a lock across threads' work: a line is put together on the stack of its thread and
//! leaves in one `write` on a descriptor in append mode, so lines never mix. A line that cannot be written (full disk,
//! closed pipe) is dropped and counted, and the count is logged once a line gets through again; logging never panics
//! and never retries.
//!
//! Limits: a pipe that nobody reads blocks the writer once it is full, as it does with Redis. Lines are cut at
//! [`LINE_BYTES_MAX`], which is what Linux writes to a pipe in one piece. Bytes that could forge a line or drive a
//! terminal are escaped.
//!
//! A file that was moved away or removed is made anew under its name before the next line, so that any way of rotating
//! works: a plain rename, with or without a signal ([`Log::reopen`]). With `syslog-enabled` every line goes to syslog, too,
//! which keeps its own time; a syslog that does not take it is passed over.
//!
//! Absent on purpose: spans, buffering and a logging thread (a crash must not take the last lines with it).

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::config::{LogLevel, SyslogFacility};
use crate::rt::crash;

/// Longest line, its newline included: `PIPE_BUF` of Linux, so that even a pipe takes a line in one piece.
pub const LINE_BYTES_MAX: usize = 4096;

/// The target of events that belong to the server; others are let through from warnings up.
const OWN_TARGET: &str = env!("CARGO_PKG_NAME");

/// A log file could not be opened.
#[derive(Debug)]
pub struct LogError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open the log file '{}': {}", self.path.display(), self.error)
    }
}

impl std::error::Error for LogError {}

/// The log of this process. Clones are handles to the same log.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    pid: u32,
    /// `None` for standard output.
    path: Option<PathBuf>,
    sink: RwLock<Arc<Sink>>,
    syslog: OnceLock<Syslog>,
    level: AtomicU8,
    lost: AtomicU64,
}

/// Where lines go.
struct Sink {
    file: File,
    /// Device and inode, to see when the name leads elsewhere.
    identity: Option<(u64, u64)>,
}

impl Sink {
    fn of(file: File) -> Sink {
        let identity = file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        Sink { file, identity }
    }

    /// Whether this is no longer the file of that name.
    fn has_moved(&self, path: &Path) -> bool {
        let there = std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        there != self.identity
    }
}

/// The system's log.
struct Syslog {
    socket: UnixDatagram,
    ident: String,
    facility: u8,
}

/// Where it listens.
const SYSLOG_PATH: &str = "/dev/log";

impl Log {
    /// Opens `path` (made with mode 0644 if it is missing, appended to otherwise), or standard output without one.
    pub fn open(path: Option<&Path>, level: LogLevel) -> Result<Log, LogError> {
        let sink = match path {
            Some(path) => open_file(path)?,
            None => standard_output(),
        };
        Ok(Log(Arc::new(Inner {
            pid: std::process::id(),
            path: path.map(Path::to_owned),
            sink: RwLock::new(Arc::new(Sink::of(sink))),
            syslog: OnceLock::new(),
            level: AtomicU8::new(rank(level)),
            lost: AtomicU64::new(0),
        })))
    }

    /// Makes this the log of the whole process. Once per process: later calls change nothing and give `false`.
    pub fn install(&self) -> bool {
        tracing::subscriber::set_global_default(Lines(self.clone())).is_ok()
    }

    /// Changes how much is logged from now on.
    pub fn set_level(&self, level: LogLevel) {
        self.0.level.store(rank(level), Ordering::Relaxed);
        // Call sites remember whether they are wanted, so that a silent one costs one load; make them ask again.
        tracing::callsite::rebuild_interest_cache();
    }

    /// Opens the file anew under its path, after it was moved away. On an error the old file stays in use. Does
    /// nothing for standard output.
    pub fn reopen(&self) -> Result<(), LogError> {
        if let Some(path) = &self.0.path {
            self.put_sink(open_file(path)?);
        }
        Ok(())
    }

    /// Lines go to syslog as well from now on.
    pub fn to_syslog(&self, ident: &str, facility: SyslogFacility) -> io::Result<()> {
        self.to_syslog_at(Path::new(SYSLOG_PATH), ident, facility)
    }

    fn to_syslog_at(&self, path: &Path, ident: &str, facility: SyslogFacility) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A line that syslog does not take now is not worth a core that waits.
        socket.set_nonblocking(true)?;
        let facility = match facility {
            SyslogFacility::User => 1,
            local => 16 + (local as u8 - SyslogFacility::Local0 as u8),
        };
        // Once per process; a second call changes nothing.
        let _ = self.0.syslog.set(Syslog { socket, ident: ident.to_owned(), facility });
        Ok(())
    }

    /// Lines that would go to standard output go nowhere from now on: the terminal belongs to others. A log file stays.
    pub fn let_go_of_terminal(&self) {
        if self.0.path.is_none()
            && let Ok(null) = OpenOptions::new().write(true).open("/dev/null")
        {
            self.put_sink(null);
        }
    }

    /// Has reports of crashes go to the same file.
    pub fn take_crash_reports(&self) {
        if self.0.path.is_some() {
            crash::log_goes_to(self.0.sink.read().unwrap_or_else(PoisonError::into_inner).file.as_raw_fd());
        }
    }

    fn put_sink(&self, file: File) {
        *self.0.sink.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Sink::of(file));
        self.take_crash_reports();
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = *metadata.level();
        let own = metadata.target().split("::").next() == Some(OWN_TARGET);
        depth(level) <= self.0.level.load(Ordering::Relaxed) && (own || level <= Level::WARN)
    }

    fn write(&self, level: Level, now: SystemTime, fill: impl FnOnce(&mut Line)) {
        let mut line = Line::new(self.0.pid, level, now);
        let body_at = line.len;
        fill(&mut line);
        if let Some(syslog) = self.0.syslog.get() {
            syslog.send(self.0.pid, level, &line.bytes[body_at..line.len]);
        }
        if !self.put(line.finish()) {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        } else if self.0.lost.load(Ordering::Relaxed) > 0 {
            let lost = self.0.lost.swap(0, Ordering::Relaxed);
            let mut note = Line::new(self.0.pid, Level::WARN, now);
            // Writing to a line cannot fail.
            let _ = write!(note, "{lost} lines before this one could not be written to the log");
            if lost > 0 && !self.put(note.finish()) {
                self.0.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }

    /// Whether the line went out whole. One write: the rest of a line that did not fit is not worth a line torn in two.
    fn put(&self, line: &[u8]) -> bool {
        let sink = Arc::clone(&self.0.sink.read().unwrap_or_else(PoisonError::into_inner));
        if let Some(path) = &self.0.path
            && sink.has_moved(path)
        {
            // Where it cannot be made anew, the old file goes on taking lines.
            let _ = self.reopen();
            let sink = Arc::clone(&self.0.sink.read().unwrap_or_else(PoisonError::into_inner));
            return matches!((&sink.file).write(line), Ok(written) if written == line.len());
        }
        matches!((&sink.file).write(line), Ok(written) if written == line.len())
    }
}

impl Syslog {
    fn send(&self, pid: u32, level: Level, message: &[u8]) {
        let severity = match level {
            Level::ERROR | Level::WARN => 4,
            Level::INFO => 5,
            Level::DEBUG => 6,
            Level::TRACE => 7,
        };
        let head = format!("<{}>{}[{pid}]: ", self.facility << 3 | severity, self.ident);
        // The log of this process has the line; see the module.
        let _ = self.socket.send(&[head.as_bytes(), message].concat());
    }
}

fn open_file(path: &Path) -> Result<File, LogError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    opened.map_err(|error| LogError { path: path.to_owned(), error })
}

/// Standard output without the buffer and the lock that `std` puts in front of it.
fn standard_output() -> File {
    let own = io::stdout().as_fd().try_clone_to_owned();
    // Without a descriptor left there is nothing to log to; the server finds that out by itself and says so.
    let own = own.or_else(|_| File::open("/dev/null").map(OwnedFd::from));
    File::from(own.expect("a process that just started has descriptors left"))
}

/// How many levels a setting lets through, counted from the most important.
fn rank(level: LogLevel) -> u8 {
    match level {
        LogLevel::Nothing => 0,
        LogLevel::Warning => 1,
        LogLevel::Notice => 2,
        LogLevel::Verbose => 3,
        LogLevel::Debug => 4,
    }
}

/// Which of those levels an event is on.
fn depth(level: Level) -> u8 {
    match level {
        Level::ERROR | Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        Level::TRACE => 4,
    }
}

fn mark(level: Level) -> char {
    ['#', '*', '-', '.'][usize::from(depth(level)) - 1]
}

/// What `tracing` hands events to.
struct Lines(Log);

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.0.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let filters = [LevelFilter::OFF, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];
        Some(filters[usize::from(self.0.0.level.load(Ordering::Relaxed))])
    }

    fn event(&self, event: &Event<'_>) {
        self.0.write(*event.metadata().level(), SystemTime::now(), |line| event.record(line));
    }

    // Spans are not logged; every one of them is the same to us.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// One line while it is put together.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

impl Line {
    fn new(pid: u32, level: Level, now: SystemTime) -> Self {
        let mut line = Line { bytes: [0; LINE_BYTES_MAX], len: 0 };
        // Writing to a line cannot fail; what does not fit is cut off.
        let _ = write!(line, "{pid}:M {} {} ", Timestamp::of(now), mark(level));
        line
    }

    /// The bytes to write, newline included.
    fn finish(&mut self) -> &[u8] {
        self.bytes[self.len] = b'\n';
        &self.bytes[..=self.len]
    }

    /// Appends as much as fits in front of the newline.
    fn push(&mut self, text: &str) {
        let mut fits = text.len().min(LINE_BYTES_MAX - 1 - self.len);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|letter: char| letter.is_control() && letter != '\t') {
            self.push(&rest[..at]);
            let control = rest[at..].chars().next().expect("`find` stopped at a character");
            for escaped in control.escape_default() {
                self.push(escaped.encode_utf8(&mut [0; 4]));
            }
            rest = &rest[at + control.len_utf8()..];
        }
        self.push(rest);
        Ok(())
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a line cannot fail; a `Debug` that fails leaves what it wrote so far.
        let _ = match field.name() {
            "message" => write!(self, "{value:?}"),
            name => write!(self, " {name}={value:?}"),
        };
    }
}

/// A point in time as `22 Nov 2026 22:01:32.123`, in UTC.
struct Timestamp {
    day: u64,
    month: &'static str,
    year: u64,
    seconds_of_day: u64,
    millis: u32,
}

impl Timestamp {
    fn of(time: SystemTime) -> Self {
        // A clock before 1970 is a broken clock; it shows as the first of January 1970.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds_of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);

        // Days are counted in years that begin in March, so that the leap day is the last day of a year and the
        // lengths of months follow 31 30 31 30 31 | 31 30 31 30 31 | 31 28: (153 * month + 2) / 5 days before each.
        const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;
        const DAYS_IN_400_YEARS: u64 = 146_097;
        let days = days + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
        let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let next_calendar_year = u64::from(month_from_march >= 10);

        const FROM_MARCH: [&str; 12] =
            ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
        Timestamp {
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            month: FROM_MARCH[month_from_march as usize],
            year: era * 400 + year_of_era + next_calendar_year,
            seconds_of_day,
            millis: since.subsec_millis(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) =
            (self.seconds_of_day / 3600, self.seconds_of_day / 60 % 60, self.seconds_of_day % 60);
        write!(
            f,
            "{:02} {} {} {hours:02}:{minutes:02}:{seconds:02}.{:03}",
            self.day, self.month, self.year, self.millis
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    /// A folder of this test's own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("annulus-logging-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn with_log(name: &str, level: LogLevel, body: impl FnOnce(&Log)) -> String {
        let folder = Folder::new(name);
        let log = Log::open(Some(&folder.path("log")), level).unwrap();
        tracing::subscriber::with_default(Lines(log.clone()), || body(&log));
        fs::read_to_string(folder.path("log")).unwrap()
    }

    /// The lines without process id and time.
    fn messages(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.splitn(6, ' ').nth(5).unwrap()).collect()
    }

    fn stamp(seconds: u64, millis: u64) -> String {
        Timestamp::of(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis)).to_string()
    }

    #[test]
    fn times_are_utc_days_of_the_calendar() {
        for (seconds, expected) in [
            (0, "01 Jan 1970 00:00:00"),
            (951_782_399, "28 Feb 2000 23:59:59"),
            (951_782_400, "29 Feb 2000 00:00:00"),
            (951_868_800, "01 Mar 2000 00:00:00"),
            (1_709_164_800, "29 Feb 2024 00:00:00"),
            (1_735_689_599, "31 Dec 2024 23:59:59"),
            (1_795_384_892, "22 Nov 2026 22:01:32"),
            (4_107_542_400, "01 Mar 2100 00:00:00"),
        ] {
            assert_eq!(stamp(seconds, 7), format!("{expected}.007"));
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut before = Timestamp::of(UNIX_EPOCH);
        for day in 1..146_097 {
            let next = Timestamp::of(UNIX_EPOCH + Duration::from_secs(day * 86_400));
            let same_month = next.month == before.month && next.year == before.year && next.day == before.day + 1;
            let new_month = next.day == 1 && before.day >= 28 && next.month != before.month;
            assert!(same_month || new_month, "{before} is followed by {next}");
            before = next;
        }
        assert_eq!(before.to_string(), "31 Dec 2369 00:00:00.000");
    }

    #[test]
    fn a_line_has_the_shape_of_redis() {
        let text = with_log("shape", LogLevel::Notice, |_| tracing::info!("Ready to accept connections"));
        let parts: Vec<&str> = text.trim_end().splitn(6, ' ').collect();
        assert_eq!(parts[0], format!("{}:M", std::process::id()));
        assert_eq!((parts[1].len(), parts[2].len(), parts[3].len(), parts[4].len()), (2, 3, 4, 12), "{text}");
        assert_eq!(parts[5], "* Ready to accept connections");
        assert!(text.ends_with("connections\n"));
    }

    #[test]
    fn levels_have_their_marks_and_the_setting_cuts_them_off() {
        let log_all = || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
        };
        for (level, expected) in [
            (LogLevel::Debug, "# e # w * i - d . t"),
            (LogLevel::Verbose, "# e # w * i - d"),
            (LogLevel::Notice, "# e # w * i"),
            (LogLevel::Warning, "# e # w"),
            (LogLevel::Nothing, ""),
        ] {
            let text = with_log(&format!("level-{level:?}"), level, |_| log_all());
            assert_eq!(messages(&text).join(" "), expected, "{level:?}");
        }
    }

    #[test]
    fn the_level_can_change_while_running() {
        let text = with_log("change", LogLevel::Warning, |log| {
            let say = |what: u8| tracing::info!("{what}");
            say(1);
            log.set_level(LogLevel::Notice);
            say(2);
            log.set_level(LogLevel::Nothing);
            say(3);
        });
        assert_eq!(messages(&text), ["* 2"]);
    }

    #[test]
    fn libraries_are_heard_from_warnings_up() {
        let text = with_log("libraries", LogLevel::Debug, |_| {
            tracing::info!(target: "glommio::executor", "chatter");
            tracing::warn!(target: "glommio::executor", "trouble");
            tracing::info!(target: "annulus_other", "chatter");
        });
        assert_eq!(messages(&text), ["# trouble"]);
    }

    #[test]
    fn fields_follow_the_message() {
        let text = with_log("fields", LogLevel::Notice, |_| tracing::info!(shard = 3, name = "x y", "moved"));
        assert_eq!(messages(&text), ["* moved shard=3 name=x y"]);
    }

    #[test]
    fn a_message_cannot_forge_a_line_or_drive_a_terminal() {
        let text = with_log("forge", LogLevel::Notice, |_| tracing::info!("{}", "a\r\n1:M fake \x1b[2J ü\tb\0"));
        assert_eq!(messages(&text), ["* a\\r\\n1:M fake \\u{1b}[2J ü\tb\\u{0}"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = with_log("long", LogLevel::Notice, |_| tracing::info!("{}", "ü".repeat(LINE_BYTES_MAX)));
        assert!(text.len() == LINE_BYTES_MAX || text.len() == LINE_BYTES_MAX - 1, "{}", text.len());
        assert!(text.ends_with("ü\n"));
    }

    #[test]
    fn a_file_is_made_readable_appended_to_and_reopened() {
        let folder = Folder::new("rotate");
        let (path, moved) = (folder.path("log"), folder.path("log.1"));
        fs::write(&path, "before\n").unwrap();
        let log = Log::open(Some(&path), LogLevel::Notice).unwrap();
        tracing::subscriber::with_default(Lines(log.clone()), || {
            tracing::info!("one");
            fs::rename(&path, &moved).unwrap();
            tracing::info!("two");
            log.reopen().unwrap();
            tracing::info!("three");
        });
        let (old, new) = (fs::read_to_string(&moved).unwrap(), fs::read_to_string(&path).unwrap());
        assert!(old.starts_with("before\n") && old.ends_with("* one\n"), "{old}");
        assert_eq!(messages(&new), ["* two", "* three"], "a plain rename is enough");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !0o644, 0, "mode {mode:o} is wider than 644");
    }

    #[test]
    fn lines_go_to_syslog_as_well() {
        let folder = Folder::new("syslog");
        let socket = UnixDatagram::bind(folder.path("dev-log")).unwrap();
        let log = Log::open(Some(&folder.path("log")), LogLevel::Notice).unwrap();
        log.to_syslog_at(&folder.path("dev-log"), "name", SyslogFacility::Local3).unwrap();
        tracing::subscriber::with_default(Lines(log.clone()), || tracing::warn!("a {}", "b\nc"));
        let mut line = [0; 200];
        let len = socket.recv(&mut line).unwrap();
        let expected = format!("<{}>name[{}]: a b\\nc", 19 << 3 | 4, std::process::id());
        assert_eq!(std::str::from_utf8(&line[..len]), Ok(expected.as_str()));
        assert_eq!(messages(&fs::read_to_string(folder.path("log")).unwrap()), ["# a b\\nc"]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_names_the_file() {
        let error = Log::open(Some(Path::new("/nonexistent/x.log")), LogLevel::Notice).err().unwrap();
        let expected = "cannot open the log file '/nonexistent/x.log': No such file or directory (os error 2)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_full_disk_loses_lines_which_are_counted_when_there_is_room_again() {
        let folder = Folder::new("full");
        let path = folder.path("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let log = Log::open(Some(&path), LogLevel::Notice).unwrap();
        tracing::subscriber::with_default(Lines(log.clone()), || {
            tracing::info!("one");
            tracing::info!("two");
            fs::remove_file(&path).unwrap();
            log.reopen().unwrap();
            tracing::info!("three");
            tracing::info!("four");
        });
        let text = fs::read_to_string(&path).unwrap();
        let expected = ["* three", "# 2 lines before this one could not be written to the log", "* four"];
        assert_eq!(messages(&text), expected);
    }

    #[test]
    fn lines_of_many_threads_do_not_mix() {
        let folder = Folder::new("threads");
        let log = Log::open(Some(&folder.path("log")), LogLevel::Notice).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let log = log.clone();
                scope.spawn(move || {
                    tracing::subscriber::with_default(Lines(log), || {
                        for _ in 0..100 {
                            tracing::info!("{}", char::from(b'a' + thread).to_string().repeat(200));
                        }
                    });
                });
            }
        });
        let text = fs::read_to_string(folder.path("log")).unwrap();
        assert_eq!(text.lines().count(), 800);
        for message in messages(&text) {
            let letters = message.strip_prefix("* ").unwrap();
            assert!(letters.len() == 200 && letters.bytes().all(|byte| byte == letters.as_bytes()[0]), "{message}");
        }
    }
}
