//! The report of a crash: what an operator, and whoever is sent it, needs to know when the process ends by a panic or a fault.
//!
//! ```text
//!   panic ─────────> hook ────┐                       ┌─> the log file, and standard error
//!   SIGSEGV, BUS,             ├─> one report, once ───┤
//!   FPE, ILL, ABRT ─> handler ┘                       └─> then the end that the signal has by itself: a core, a status
//! ```
//!
//! What a report is made of lies in statics that shards write now and then, without locks: the last commands of each ([`Trace`]), a few
//! counts, the settings that are not defaults. A report names commands and says how many arguments of what size they had; it never
//! holds a key, a value or a password, so that it can be handed on.
//!
//! What a shard notes is the first of each run of equal commands in a turn of its loop: there the clock is read anyway, and the path of
//! a command that equals the one before is as it was.
//!
//! A fault may have struck in the middle of anything, in the allocator too. So the handler first writes, with plain `write` calls from
//! its stack, what needs no memory; then it tries the backtrace, which does, and is ended by SIGALRM or by a second fault if that goes
//! wrong. It runs on a stack of its own, since the thread's may be what has overflowed.
//!
//! Absent on purpose: a test of the memory (`crash-memcheck-enabled` of Redis), registers and the stack's bytes (a core has them).
#![expect(unsafe_code, reason = "sigaction, sigaltstack and write, and a fault for tests")]

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt::{self, Write};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::base::ShardId;
use crate::config::{Config, DIRECTIVES, SHARDS_MAX, Sight};
use crate::metrics::CommandId;
use crate::resp::Args;
use crate::rt::memory;

/// Commands that are remembered for each shard.
const REMEMBERED: usize = 16;
/// Arguments whose sizes are added up; a command may have a million.
const SIZED_ARGS_MAX: usize = 16;
/// Bytes of a shard thread's stack for handling faults: a backtrace reads tables of symbols with it. Touched when it is used only.
const STACK_BYTES: usize = 512 * 1024;
/// Seconds that a backtrace may take in the handler of a fault.
const BACKTRACE_SECS: u32 = 20;

/// What one shard leaves for a report. Written by its thread, read by whichever thread crashes.
pub struct Trace {
    /// Commands, packed, the next place to write last.
    commands: [AtomicU64; REMEMBERED],
    next: AtomicUsize,
    /// When the counts were taken, monotonic microseconds; 0: never.
    counted_us: AtomicU64,
    clients: AtomicU64,
    keys: AtomicU64,
    processed: AtomicU64,
}

static TRACES: [Trace; SHARDS_MAX as usize] = [const {
    Trace {
        commands: [const { AtomicU64::new(0) }; REMEMBERED],
        next: AtomicUsize::new(0),
        counted_us: AtomicU64::new(0),
        clients: AtomicU64::new(0),
        keys: AtomicU64::new(0),
        processed: AtomicU64::new(0),
    }
}; SHARDS_MAX as usize];

/// The trace of a shard.
pub fn trace(shard: ShardId) -> &'static Trace {
    &TRACES[shard.index() % TRACES.len()]
}

impl Trace {
    /// A command begins, and is another than the one before. Out of line, so that the path of one like the one before stays short.
    #[inline(never)]
    pub fn note(&self, id: CommandId, args: Args<'_>) {
        let bytes: usize = args.iter().take(SIZED_ARGS_MAX).map(<[u8]>::len).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Twenty bits hold the most arguments that a command can have; a table of commands is far from 4,095.
        let packed = (u64::from(id.0) + 1) << 52 | (args.len() as u64 & 0xf_ffff) << 32 | u64::from(bytes);
        let at = self.next.load(Ordering::Relaxed);
        self.commands[at % REMEMBERED].store(packed, Ordering::Relaxed);
        self.next.store(at.wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes counts for a report.
    pub fn count(&self, mono_us: u64, clients: usize, keys: usize, processed: u64) {
        self.clients.store(clients as u64, Ordering::Relaxed);
        self.keys.store(keys as u64, Ordering::Relaxed);
        self.processed.store(processed, Ordering::Relaxed);
        self.counted_us.store(mono_us.max(1), Ordering::Relaxed);
    }

    /// The remembered commands, the latest first: id, number of arguments, bytes of the first ones.
    fn last(&self) -> impl Iterator<Item = (u16, u64, u64)> {
        let next = self.next.load(Ordering::Relaxed);
        let packed = (1..=REMEMBERED)
            .map(move |back| self.commands[next.wrapping_sub(back) % REMEMBERED].load(Ordering::Relaxed));
        packed.filter(|packed| *packed != 0).map(|packed| {
            let id = (packed >> 52) as u16 - 1;
            (id, packed >> 32 & 0xf_ffff, packed & u64::from(u32::MAX))
        })
    }
}

/// What a report says of the program, once it is known.
pub struct About {
    /// Version and build.
    pub version: String,
    /// Shards.
    pub shards: u16,
    /// The name of a command.
    pub command_name: fn(CommandId) -> &'static str,
}

static VERSION: OnceLock<&'static str> = OnceLock::new();
static ABOUT: OnceLock<About> = OnceLock::new();
static SETTINGS: Mutex<String> = Mutex::new(String::new());
static ENABLED: AtomicBool = AtomicBool::new(true);
static REPORTED: AtomicBool = AtomicBool::new(false);
/// The log file's descriptor; -1: none.
static LOG: AtomicI32 = AtomicI32::new(-1);

/// Makes a panic on any thread print a report. `version` is printed with it. Stopping the process is `panic = "abort"` in release builds
/// and `executor::start` elsewhere.
pub fn install_panic_report(version: &'static str) {
    // The first caller's.
    let _ = VERSION.set(version);
    std::panic::set_hook(Box::new(|info| {
        let message = message_of(info.payload());
        if !ENABLED.load(Ordering::Relaxed) {
            let mut out = Out::new(true);
            // Writing to descriptors that have gone is nobody's loss.
            let _ = writeln!(out, "\n=== {message}");
            return out.flush();
        }
        // One report: a panic while reporting, or on another thread meanwhile, must not tear it apart.
        if REPORTED.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut out = Out::new(false);
        let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
        // As above.
        let _ = begin(&mut out).and_then(|()| {
            writeln!(out, "place: {place}\nmessage: {message}")?;
            known(&mut out)?;
            writeln!(out, "stack:\n{}", Backtrace::force_capture())?;
            end(&mut out)
        });
        out.flush();
    }));
}

/// Makes faults print a report. Gives every thread that calls [`stack_for_faults`] a full one.
pub fn install_fault_report(about: About) -> std::io::Result<()> {
    // The first caller's.
    let _ = ABOUT.set(about);
    for signal in FAULTS {
        // SAFETY: an all-zero sigaction is valid; the handler has the signature that SA_SIGINFO asks for, and lives as long as the
        // process.
        let done = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
            // One report: a second fault, in the handler too, ends the process as it would without us.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(signal, &raw const action, ptr::null_mut())
        };
        if done != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives the calling thread a stack on which faults are handled, for as long as the process lives.
pub fn stack_for_faults() {
    if HAS_STACK.get() {
        return;
    }
    // SAFETY: a private mapping of our own, at least as large as the kernel wants; it is never unmapped.
    let given = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let memory = libc::mmap(ptr::null_mut(), STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return;
        }
        let stack = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: STACK_BYTES };
        libc::sigaltstack(&raw const stack, ptr::null_mut())
    };
    HAS_STACK.set(given == 0);
}

/// Where the log goes, so that reports go there too. Called each time it is opened anew.
pub fn log_goes_to(descriptor: i32) {
    LOG.store(descriptor, Ordering::Relaxed);
}

/// Takes over what reports depend on: `crash-log-enabled`, and the settings that they show.
pub fn take_in_config(config: &Config) {
    ENABLED.store(config.crash_log_enabled, Ordering::Relaxed);
    let default = Config::default();
    let mut text = String::new();
    let open = DIRECTIVES.iter().filter(|directive| directive.sight != Sight::Secret);
    for directive in open {
        let value = config.get(&[directive.name.as_bytes()]);
        if value != default.get(&[directive.name.as_bytes()])
            && let [(_, value)] = value.as_slice()
        {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {} {}", directive.name, value.escape_ascii());
        }
    }
    *SETTINGS.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

/// Ends the process as a bad memory access does, for tests.
#[inline(never)]
pub fn segfault() -> ! {
    // SAFETY: none; it is a fault on purpose, at an address that is never mapped, and nothing is done after it.
    unsafe { ptr::write_volatile(ptr::without_provenance_mut::<u8>(8), 1) };
    std::process::abort()
}

const FAULTS: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

thread_local! {
    static HAS_STACK: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if ENABLED.load(Ordering::Relaxed) && !REPORTED.swap(true, Ordering::AcqRel) {
        let mut out = Out::new(false);
        // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO; an address is there for faults, and for other signals
        // a number that is not used.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
        // Writing to descriptors that have gone is nobody's loss.
        let _ = begin(&mut out).and_then(|()| {
            let name = match signal {
                libc::SIGSEGV => "SIGSEGV",
                libc::SIGBUS => "SIGBUS",
                libc::SIGFPE => "SIGFPE",
                libc::SIGILL => "SIGILL",
                _ => "SIGABRT",
            };
            write!(out, "signal: {signal} {name}, code {code}")?;
            // Codes up to zero are signals that somebody has sent.
            match code > 0 {
                true => writeln!(out, ", address {address:p}")?,
                false => writeln!(out, ", sent by a process")?,
            }
            known(&mut out)
        });
        out.flush();
        if HAS_STACK.get() {
            // SAFETY: plain system calls. From here on memory is asked for, which may never come in a broken process.
            unsafe {
                libc::signal(libc::SIGALRM, libc::SIG_DFL);
                libc::alarm(BACKTRACE_SECS);
            }
            let _ = writeln!(out, "stack:\n{}", Backtrace::force_capture());
        } else {
            let _ = writeln!(out, "stack: this thread has no room for it; a core has it");
        }
        let _ = end(&mut out);
        out.flush();
    }
    // SAFETY: plain system calls. The signal has its default meaning again, and comes when this handler returns.
    unsafe { libc::raise(signal) };
}

/// The head of a report: who and where.
fn begin(out: &mut Out) -> fmt::Result {
    let version = ABOUT.get().map(|about| about.version.as_str()).or_else(|| VERSION.get().copied());
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most sixteen bytes, the last of them zero.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    writeln!(out, "\n=== CRASH REPORT: {}", version.unwrap_or("annulus"))?;
    writeln!(out, "process: {}, up {} s", std::process::id(), now_us() / 1_000_000)?;
    writeln!(out, "thread: {}", std::str::from_utf8(&name[..len]).unwrap_or("?"))
}

/// What needs no memory to be said.
fn known(out: &mut Out) -> fmt::Result {
    if let Some(about) = ABOUT.get() {
        writeln!(out, "memory: {} bytes allocated at the last look", memory::last_allocated())?;
        for (shard, trace) in TRACES.iter().enumerate().take(usize::from(about.shards)) {
            write!(out, "shard {shard}:")?;
            match trace.counted_us.load(Ordering::Relaxed) {
                0 => writeln!(out, " has not begun")?,
                at => {
                    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
                    let (clients, keys) = (load(&trace.clients), load(&trace.keys));
                    let ago = now_us().saturating_sub(at) / 1000;
                    writeln!(
                        out,
                        " {clients} clients, {keys} keys, {} commands, {ago} ms before",
                        load(&trace.processed)
                    )?;
                }
            }
            for (id, args, bytes) in trace.last() {
                let more = if args > SIZED_ARGS_MAX as u64 { "at least " } else { "" };
                writeln!(out, "  {} {args} arguments of {more}{bytes} bytes", (about.command_name)(CommandId(id)))?;
            }
        }
    }
    // Held by a thread that is changing it: then it is not said.
    if let Ok(settings) = SETTINGS.try_lock() {
        writeln!(out, "settings that are not defaults (without passwords):")?;
        out.write_str(&settings)?;
    }
    Ok(())
}

fn end(out: &mut Out) -> fmt::Result {
    writeln!(out, "=== END")
}

/// Since the process's first clock.
fn now_us() -> u64 {
    crate::rt::clock::mono_ns() / 1000
}

/// The text of a panic: a literal, or a formatted string.
fn message_of(payload: &(dyn std::any::Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// Writes to the log and to standard error, from a buffer on the stack.
struct Out {
    buffer: [u8; 1024],
    len: usize,
    error_only: bool,
}

impl Out {
    fn new(error_only: bool) -> Out {
        Out { buffer: [0; 1024], len: 0, error_only }
    }

    fn flush(&mut self) {
        let log = if self.error_only { -1 } else { LOG.load(Ordering::Relaxed) };
        for descriptor in [log, libc::STDERR_FILENO] {
            let mut rest = &self.buffer[..self.len];
            while descriptor >= 0 && !rest.is_empty() {
                // SAFETY: the buffer is ours and as long as is said; a descriptor that has been closed is an error.
                let written = unsafe { libc::write(descriptor, rest.as_ptr().cast(), rest.len()) };
                match usize::try_from(written) {
                    Ok(some) if some > 0 => rest = &rest[some..],
                    _ => break,
                }
            }
        }
        self.len = 0;
    }
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for chunk in text.as_bytes().chunks(self.buffer.len()) {
            if self.len + chunk.len() > self.buffer.len() {
                self.flush();
            }
            self.buffer[self.len..self.len + chunk.len()].copy_from_slice(chunk);
            self.len += chunk.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn a_trace_remembers_the_last_commands_the_latest_first() {
        let trace = trace(ShardId(SHARDS_MAX - 1));
        for n in 0..REMEMBERED as u16 + 5 {
            let args = OwnedArgs::from_slices(&vec!["ab"; usize::from(n) + 1]);
            trace.note(CommandId(n), args.as_args());
        }
        let last: Vec<_> = trace.last().collect();
        assert_eq!(last.len(), REMEMBERED);
        assert_eq!(last[0], (20, 21, 32), "sizes of sixteen arguments are added up");
        assert_eq!(last[REMEMBERED - 1], (5, 6, 12));
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let mut config = Config::default();
        config.set(&[(b"requirepass", b"geheim"), (b"timeout", b"77"), (b"masterauth", b"geheim")], true).unwrap();
        take_in_config(&config);
        let text = SETTINGS.lock().unwrap().clone();
        assert!(text.contains("  timeout 77\n") && !text.contains("geheim") && !text.contains("port"), "{text}");
    }

    #[test]
    fn long_text_leaves_in_pieces() {
        let mut out = Out::new(true);
        out.write_str(&"x".repeat(1000)).unwrap();
        assert_eq!(out.len, 1000);
    }
}
