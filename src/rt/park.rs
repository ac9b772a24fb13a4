//! How a shard waits when it has nothing to do.
//!
//! There are two places to sleep, and a thread can be in only one of them:
//!
//! ```text
//!   no background task in flight  ──►  block in our own ring: one enter, woken by a completion or another shard's bell
//!   some in flight                ──►  sleep inside glommio; our ring counts up an eventfd that glommio reads
//! ```
//!
//! The first is the hot path and never goes near glommio, whose own park costs several system calls (a `membarrier`
//! among them). With tasks in flight, a loop that has work goes round by itself and lets glommio have a turn every
//! [`ROUND`]; a loop without work sleeps, and the tasks have the core until a client comes (see `background`).
//!
//! The eventfd stays attached to the ring but switched off while we block in the ring: otherwise each completion would
//! also complete glommio's pending read and interrupt the wait for nothing. At most one such read exists; it is kept
//! across calls and not dropped, because a dropped read has to be cancelled in the kernel.
//!
//! A [`Parker`] belongs to one shard. It owns the order of the steps before sleeping: publish mail (the caller, before),
//! announce the sleep, look once more, sleep.
#![expect(unsafe_code, reason = "eventfd(2), and handing it to glommio")]

use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use glommio::timer::Timer;

use crate::rt::background;
use crate::rt::mesh::Inbox;
use crate::rt::ring::Ring;

/// How long a busy loop keeps glommio waiting when background tasks are in flight. A round of glommio costs about five
/// microseconds.
const ROUND: Duration = Duration::from_micros(200);

/// The longest sleep inside glommio. Nothing depends on it as far as we know; should glommio's scheduler lose a wake-up
/// after all, this is how long it lasts.
const NAP_MAX: Duration = Duration::from_millis(100);

/// See the module's text.
pub struct Parker {
    busy_poll: Duration,
    /// When glommio last had a turn.
    round: Instant,
    eventfd: Option<Eventfd>,
    slept: bool,
}

struct Eventfd {
    /// Ours to close. glommio's file would leave closing to its ring, which is not entered again when a shard ends.
    descriptor: OwnedFd,
    file: Rc<ManuallyDrop<BufferedFile>>,
    /// The one outstanding read.
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Parker {
    /// `busy_poll`: how long to look for work before sleeping. Zero: not at all.
    pub fn new(busy_poll: Duration) -> Parker {
        Parker { busy_poll, round: Instant::now(), eventfd: None, slept: false }
    }

    /// Whether it slept the last time.
    pub fn slept(&self) -> bool {
        self.slept
    }

    /// Changes the time spent looking for work before sleeping.
    pub fn set_busy_poll(&mut self, busy_poll: Duration) {
        self.busy_poll = busy_poll;
    }

    /// Submits everything the ring has queued; then, if neither the ring nor the inbox has anything, waits until one
    /// has or the time is over (`None`: no limit; zero: do not wait). Lets background tasks run if there are any.
    /// May return early with nothing: the caller's loop just turns once more.
    /// Errors: those of `io_uring_enter` that are not part of normal life; the shard cannot go on.
    pub async fn park(&mut self, ring: &mut Ring, inbox: &impl Inbox, timeout: Option<Duration>) -> io::Result<()> {
        let hurry = timeout == Some(Duration::ZERO);
        self.slept = false;
        if background::take_call() {
            return ring.poll();
        }
        if background::in_flight() > 0 {
            return self.park_beside_tasks(ring, inbox, timeout).await;
        }
        if hurry || ring.has_completions() || inbox.has_mail() {
            return ring.poll();
        }
        if !self.busy_poll.is_zero() {
            ring.poll()?;
            let limit = timeout.map_or(self.busy_poll, |timeout| timeout.min(self.busy_poll));
            if spin(ring, inbox, limit) {
                return ring.poll();
            }
        }
        if !inbox.announce_sleep() {
            return ring.poll();
        }
        let result = ring.wait(timeout);
        self.slept = true;
        inbox.awake();
        result
    }

    async fn park_beside_tasks(
        &mut self,
        ring: &mut Ring,
        inbox: &impl Inbox,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        ring.poll()?;
        if timeout == Some(Duration::ZERO) || ring.is_ready() || inbox.has_mail() {
            if self.round.elapsed() < ROUND {
                return Ok(());
            }
            background::give_way().await;
            self.round = Instant::now();
            return ring.poll();
        }
        let eventfd = match &mut self.eventfd {
            Some(eventfd) => eventfd,
            none => none.insert(Eventfd::new()?),
        };
        if !ring.announces() {
            ring.attach_eventfd(eventfd.descriptor.as_raw_fd())?;
        }
        ring.announce(true);
        // Once more, now that nothing can come in unannounced.
        ring.poll()?;
        if !ring.is_ready() && inbox.announce_sleep() {
            eventfd.wait(timeout.map_or(NAP_MAX, |timeout| timeout.min(NAP_MAX))).await;
            inbox.awake();
            self.slept = true;
            self.round = Instant::now();
        }
        ring.announce(false);
        ring.poll()
    }
}

/// Looks for work for at most `limit`. True when there is some.
fn spin(ring: &mut Ring, inbox: &impl Inbox, limit: Duration) -> bool {
    let start = Instant::now();
    loop {
        // The clock costs more than the two looks.
        for _ in 0..32 {
            if ring.is_ready() || inbox.has_mail() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= limit {
            return false;
        }
    }
}

impl Eventfd {
    fn new() -> io::Result<Eventfd> {
        // Blocking mode: a ring's read of a non-blocking eventfd would fail at once instead of waiting.
        // SAFETY: plain system call.
        let fd: RawFd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else knows.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the file only borrows the descriptor: it never closes it (`ManuallyDrop`), and both live as long.
        let file = Rc::new(ManuallyDrop::new(unsafe { BufferedFile::from_raw_fd(fd) }));
        Ok(Eventfd { descriptor, file, read: None })
    }

    /// Until the ring counts up the eventfd, the last background task ends, or the time is over.
    async fn wait(&mut self, timeout: Duration) {
        let mut timer = Timer::new(timeout);
        let read = self.read.get_or_insert_with(|| {
            let file = Rc::clone(&self.file);
            // A failed read counts as a wake-up: the loop looks for itself and comes back.
            Box::pin(async move { drop(file.read_at(0, 8).await) })
        });
        let read_done = std::future::poll_fn(|cx| {
            if read.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if Pin::new(&mut timer).poll(cx).is_ready() || background::poll_idle(cx).is_ready() {
                return Poll::Ready(false);
            }
            Poll::Pending
        })
        .await;
        if read_done {
            self.read = None;
        }
    }
}

impl std::fmt::Debug for Parker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parker").field("busy_poll", &self.busy_poll).finish_non_exhaustive()
    }
}
