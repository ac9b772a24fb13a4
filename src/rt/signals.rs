//! Signals, taken by one thread instead of interrupting whichever shard happens to run.
//!
//! [`block`] is the first thing the process does: threads inherit the mask, so none of them is ever interrupted. One
//! thread then waits for signals and hands them over ([`Blocked::watch`]). A handler function would run on any thread at
//! any instruction and could do next to nothing there.
//!
//! SIGPIPE is ignored: a peer that has gone is an error of the send. Faults (SIGSEGV…) keep their meaning.
#![expect(unsafe_code, reason = "signal masks and sigwait(3)")]

use std::io;
use std::mem;
use std::thread::{Builder, JoinHandle};

/// A signal that the server reacts to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM: stop in good order.
    Terminate,
    /// SIGINT: the same, from a terminal. A second one means at once.
    Interrupt,
    /// SIGHUP: files that are written to are to be opened anew. Redis ignores it.
    HangUp,
    /// SIGUSR1: the same, by the name that other log rotations use.
    UserOne,
}

const WATCHED: [(libc::c_int, Signal); 4] = [
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGHUP, Signal::HangUp),
    (libc::SIGUSR1, Signal::UserOne),
];

/// Proof that the watched signals are blocked on the thread that called [`block`], and on those it makes later.
#[derive(Debug)]
#[must_use = "blocked signals must be watched, or nothing stops the process"]
pub struct Blocked(());

/// Blocks the watched signals on this thread and its future children, and ignores SIGPIPE.
pub fn block() -> io::Result<Blocked> {
    let set = watched_set();
    // SAFETY: the set is initialised. Dispositions: the default instead of an inherited "ignored" (nohup, a shell's
    // background job), which would throw the signal away before anybody can wait for it.
    unsafe {
        for (number, _) in WATCHED {
            libc::signal(number, libc::SIG_DFL);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(Blocked(())),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Blocked {
    /// Waits for the next signal.
    pub fn wait(&self) -> Signal {
        let set = watched_set();
        loop {
            let mut number = 0;
            // SAFETY: both point to initialised locals.
            let errno = unsafe { libc::sigwait(&raw const set, &raw mut number) };
            assert_eq!(errno, 0, "sigwait fails only for a set with invalid signals");
            if let Some((_, signal)) = WATCHED.iter().find(|(watched, _)| *watched == number) {
                return *signal;
            }
        }
    }

    /// Calls `handle` for each signal, on a thread of its own that lives as long as the process.
    pub fn watch(self, mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<JoinHandle<()>> {
        Builder::new().name("signals".to_owned()).spawn(move || {
            loop {
                handle(self.wait());
            }
        })
    }
}

fn watched_set() -> libc::sigset_t {
    // SAFETY: `sigemptyset` initialises the set; the signals are valid, so `sigaddset` cannot fail.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for (number, _) in WATCHED {
            libc::sigaddset(&raw mut set, number);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_until_it_is_taken() {
        std::thread::spawn(|| {
            let blocked = block().unwrap();
            for (number, signal) in WATCHED {
                // SAFETY: sent to this very thread, which has blocked it.
                unsafe { libc::pthread_kill(libc::pthread_self(), number) };
                assert_eq!(blocked.wait(), signal);
            }
        })
        .join()
        .unwrap();
    }
}
