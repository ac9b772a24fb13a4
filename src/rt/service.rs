//! Who has started the process, and what is told to them: a service manager, or the parent that waits while a daemon starts.
//!
//! ```text
//!   fork ──> parent: waits ────────────────────────────────> its exit status is the child's success
//!      └───> child: setsid, boot, load ... ready() ──┬─> the parent; the terminal is let go
//!                                                    └─> READY=1 to systemd, SIGSTOP for upstart
//! ```
//!
//! State of the process as a whole, in statics, since it is told from boot, from the conductor (loading, ready) and at the end. Whoever
//! tells something need not know whether anybody listens: without a manager every call does nothing, as in the simulator.
//!
//! The watchdog: systemd wants a sign of life in each period. A shard stamps its own beat in its loop ([`beat`]); one thread sends the
//! sign while all beats are young. A shard that hangs ends the process, by the hand of systemd.
//!
//! Absent on purpose: which settings ask for what (`server`).
#![expect(unsafe_code, reason = "fork, setsid, dup2, raise and waitpid")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::base::ShardId;
use crate::config::{SHARDS_MAX, Supervised};
use crate::rt::clock;

static NOTIFIES_SYSTEMD: AtomicBool = AtomicBool::new(false);
static STOPS_FOR_UPSTART: AtomicBool = AtomicBool::new(false);
/// The pipe to the parent that waits.
static PARENT: Mutex<Option<File>> = Mutex::new(None);
/// How old a beat may be, microseconds; 0: there is no watchdog.
static WATCHDOG_US: AtomicU64 = AtomicU64::new(0);
static BEATS: [AtomicU64; SHARDS_MAX as usize] = [const { AtomicU64::new(0) }; SHARDS_MAX as usize];

/// What is to be done when the terminal is let go.
static DETACHED: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Which process this is after [`fork`].
pub enum Side {
    /// The one that was started: the exit code to leave with.
    Parent(u8),
    /// The one that goes on.
    Child,
}

/// Goes on in a child that belongs to no terminal. To be called while there is one thread. In the parent it returns when the child is
/// ready, or has gone: what the child writes to standard error until then is seen by whoever started the parent.
pub fn fork() -> io::Result<Side> {
    let (mut reader, writer) = pipe()?;
    // SAFETY: there is one thread, so that the child has all of the process.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            // SAFETY: a plain system call. It fails for a process that leads a group, which a child that was just made does not.
            unsafe { libc::setsid() };
            *PARENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            Ok(Side::Child)
        }
        child => {
            drop(writer);
            let mut told = [0];
            if reader.read_exact(&mut told).is_ok() {
                return Ok(Side::Parent(0));
            }
            let mut status = 0;
            // SAFETY: our own child; the call writes its status.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1 };
            Ok(Side::Parent(u8::try_from(code).unwrap_or(1).max(1)))
        }
    }
}

fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: the call writes two descriptors, which are ours then.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((File::from(OwnedFd::from_raw_fd(ends[0])), File::from(OwnedFd::from_raw_fd(ends[1]))))
    }
}

/// What [`begin`] has found.
pub struct Supervision {
    /// There is a manager that is told.
    pub found: bool,
    /// A word for the log: somebody was asked for who is not there.
    pub warning: Option<&'static str>,
}

/// Finds out who is to be told: `supervised`.
pub fn begin(supervised: Supervised) -> Supervision {
    let systemd = std::env::var_os("NOTIFY_SOCKET").is_some();
    let upstart = std::env::var_os("UPSTART_JOB").is_some();
    let (asks_systemd, asks_upstart) = match supervised {
        Supervised::No => (false, false),
        Supervised::Systemd => (true, false),
        Supervised::Upstart => (false, true),
        Supervised::Auto => (systemd, upstart && !systemd),
    };
    NOTIFIES_SYSTEMD.store(asks_systemd && systemd, Ordering::Relaxed);
    STOPS_FOR_UPSTART.store(asks_upstart && upstart, Ordering::Relaxed);
    let warning = match () {
        () if asks_systemd && !systemd => Some("systemd supervision requested, but NOTIFY_SOCKET not found"),
        () if asks_upstart && !upstart => Some("upstart supervision requested, but UPSTART_JOB not found"),
        () => None,
    };
    Supervision { found: (asks_systemd && systemd) || (asks_upstart && upstart), warning }
}

/// Has this done when a daemon lets go of the terminal that it was started from.
pub fn when_detached(call: Box<dyn FnOnce() + Send>) {
    *DETACHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
}

/// Clients are served from now on.
pub fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("Ready to accept connections")]);
    if STOPS_FOR_UPSTART.swap(false, Ordering::Relaxed) {
        // SAFETY: a plain system call. Upstart sees the process stop, takes it for ready, and has it go on.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
    if let Some(mut parent) = PARENT.lock().unwrap_or_else(PoisonError::into_inner).take() {
        if let Some(detached) = DETACHED.lock().unwrap_or_else(PoisonError::into_inner).take() {
            detached();
        }
        let_go_of_terminal();
        // A parent that was killed waits for nothing.
        let _ = parent.write_all(&[0]);
    }
}

/// The end begins.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
}

/// What the process does, in words.
pub fn status(words: &str) {
    notify(&[NotifyState::Status(words)]);
}

/// Something is read anew, in response to SIGHUP, and now has been.
pub fn reloaded() {
    if NOTIFIES_SYSTEMD.load(Ordering::Relaxed)
        && let Ok(now) = NotifyState::monotonic_usec_now()
    {
        notify(&[NotifyState::Reloading, now]);
        notify(&[NotifyState::Ready]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if NOTIFIES_SYSTEMD.load(Ordering::Relaxed)
        && let Err(error) = sd_notify::notify(states)
    {
        tracing::warn!("systemd could not be told: {error}");
    }
}

/// Standard input, output and error lead nowhere from now on.
fn let_go_of_terminal() {
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for standard in 0..3 {
        // SAFETY: both are open descriptors, and nobody owns the standard ones.
        unsafe { libc::dup2(null.as_raw_fd(), standard) };
    }
}

/// Begins to send signs of life if systemd asks for them (`WatchdogSec=`), from a thread of its own.
pub fn watch(shards: u16) -> io::Result<()> {
    let Some(period) = sd_notify::watchdog_enabled().filter(|_| NOTIFIES_SYSTEMD.load(Ordering::Relaxed)) else {
        return Ok(());
    };
    let period_us = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(4);
    WATCHDOG_US.store(period_us, Ordering::Relaxed);
    let beats = &BEATS[..usize::from(shards)];
    Builder::new().name("watchdog".to_owned()).spawn(move || {
        loop {
            let now_us = clock::mono_ns() / 1000;
            // A shard that has not begun has no beat yet; a boot that hangs is not ready either, and systemd has a limit for that.
            let is_young = |beat: &AtomicU64| match beat.load(Ordering::Relaxed) {
                0 => true,
                at => now_us.saturating_sub(at) < period_us,
            };
            if beats.iter().all(is_young) {
                notify(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(Duration::from_micros(period_us / 4));
        }
    })?;
    Ok(())
}

/// How often a shard has to stamp its beat, microseconds; none: never.
#[inline]
pub fn beat_every_us() -> Option<u64> {
    match WATCHDOG_US.load(Ordering::Relaxed) {
        0 => None,
        period => Some(period / 4),
    }
}

/// A shard's loop goes round.
pub fn beat(shard: ShardId, mono_us: u64) {
    BEATS[shard.index()].store(mono_us.max(1), Ordering::Relaxed);
}

/// Sockets that the service manager listens on for us (`LISTEN_FDS`).
pub fn inherited_sockets() -> io::Result<Vec<OwnedFd>> {
    let descriptors = sd_notify::listen_fds()?;
    // SAFETY: the manager has opened them for this process, and nobody else in it knows of them; this is called once.
    Ok(descriptors.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect())
}
