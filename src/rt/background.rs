//! Work beside the loop: tasks of the same executor with a small share of the core (snapshots, log rewriting, loading).
//!
//! A shard's loop would like to block in its own ring, where waking is cheapest; but then glommio runs nothing else. So
//! this module counts the tasks that are in flight on its executor, and `park` blocks in the ring only at zero.
//!
//! **How a task behaves.** It works in slices of about a hundred microseconds and calls [`give_way`] between them, or
//! awaits a file, a timer ([`sleep`]) or a blocking call ([`blocking`]). A slice is the longest that a client of this
//! shard waits because of it. The loop runs one turn between two slices, however many clients that turn serves, so a
//! busy loop leaves a task a small part of the core and an idle loop leaves it all.
//!
//! **Why giving way is a tiny timer and not a yield.** glommio collects completions only when no task is runnable, or
//! when its preemption timer has fired. A task that yields stays runnable: the loop's wake-up and everybody's files
//! would wait for that timer. And the timer is not to be relied on: if it fires between arming and the first task (the
//! thread lost its core at that moment), glommio 0.9 goes to sleep with runnable tasks in its queues. So the preemption
//! timer is as good as off (`executor::PREEMPT`), and whoever gives way stops being runnable for two microseconds. By
//! the time glommio has looked at its rings they are over.
//!
//! Invariants: a task is never cancelled and never dropped before its end: glommio 0.9 leaks the future of a dropped
//! `Task`. A task that may be stopped early looks at a flag and returns. A task belongs to the shard it was spawned on.
//! Absent on purpose: handles. Who wants a result passes a cell or a channel in.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use glommio::{Latency, Shares, TaskQueueHandle};

/// Shares of background tasks; the loop's queue has glommio's default of 1000. They decide who is first when both are
/// runnable at once.
const SHARES: usize = 100;

/// How long [`give_way`] is not runnable: longer than it takes to register the timer, shorter than it takes glommio to
/// come round to its timers.
const PAUSE: Duration = Duration::from_micros(2);

thread_local! {
    static QUEUE: RefCell<Option<(usize, TaskQueueHandle)>> = const { RefCell::new(None) };
    static IN_FLIGHT: Cell<usize> = const { Cell::new(0) };
    static CALLED: Cell<bool> = const { Cell::new(false) };
    static WATCHER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Runs a future on this shard, beside its loop. Panics outside a shard's executor.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let executor = glommio::executor();
    let queue = QUEUE.with(|queue| {
        let mut queue = queue.borrow_mut();
        match *queue {
            // A thread can run one executor after another (tests do); each has its own queues.
            Some((owner, handle)) if owner == executor.id() => handle,
            _ => {
                let handle = executor.create_task_queue(Shares::Static(SHARES), Latency::NotImportant, "background");
                *queue = Some((executor.id(), handle));
                handle
            }
        }
    });
    let counted = Counted { task: Box::pin(task), _entry: Entry::new() };
    // Detached: the handle may go, the task runs to its end.
    glommio::spawn_local_into(counted, queue).expect("the queue was made on this executor").detach();
}

/// Tasks of this thread that have not ended.
pub fn in_flight() -> usize {
    IN_FLIGHT.get()
}

/// Ends a slice: the shard's loop and other tasks run, and glommio collects what is complete, before this returns.
pub async fn give_way() {
    let mut timer = Timer::new(PAUSE);
    let mut waited = false;
    std::future::poll_fn(|cx| {
        loop {
            match Pin::new(&mut timer).poll(cx) {
                Poll::Pending => {
                    waited = true;
                    return Poll::Pending;
                }
                Poll::Ready(_) if waited => return Poll::Ready(()),
                // The pause was over before it was registered (the thread lost its core): that is no pause.
                Poll::Ready(_) => timer = Timer::new(PAUSE * 10),
            }
        }
    })
    .await;
}

/// Waits. glommio's timers have a resolution of about a millisecond.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Runs a blocking call on the executor's helper thread: for the file system calls that io_uring does not have.
pub async fn blocking<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> R {
    glommio::executor().spawn_blocking(call).await
}

/// Says when a slice of work is over.
#[derive(Debug)]
pub struct Slice {
    started: Instant,
    length: Duration,
}

impl Slice {
    /// A slice that starts now. 100 µs is a good length: giving way costs about five.
    pub fn new(length: Duration) -> Slice {
        Slice { started: Instant::now(), length }
    }

    /// Gives way if the slice is used up, and starts the next one. About 25 ns when it is not: call it every few
    /// entries, not for every byte.
    pub async fn give_way_if_over(&mut self) {
        if self.started.elapsed() >= self.length {
            give_way().await;
            self.started = Instant::now();
        }
    }
}

/// Has the loop of this shard look for results: it sleeps no longer.
pub fn call_loop() {
    CALLED.set(true);
    if let Some(waker) = WATCHER.with(|watcher| watcher.borrow_mut().take()) {
        waker.wake();
    }
}

/// Whether a task has called since the last time.
pub(super) fn take_call() -> bool {
    CALLED.take()
}

/// Ready when the last background task of this thread has ended, or one has called. One watcher per thread.
pub(super) fn poll_idle(cx: &mut Context<'_>) -> Poll<()> {
    if in_flight() == 0 || take_call() {
        return Poll::Ready(());
    }
    WATCHER.with(|watcher| *watcher.borrow_mut() = Some(cx.waker().clone()));
    Poll::Pending
}

struct Entry;

impl Entry {
    fn new() -> Entry {
        IN_FLIGHT.set(IN_FLIGHT.get() + 1);
        Entry
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        IN_FLIGHT.set(IN_FLIGHT.get() - 1);
        if IN_FLIGHT.get() == 0
            && let Some(waker) = WATCHER.with(|watcher| watcher.borrow_mut().take())
        {
            waker.wake();
        }
    }
}

struct Counted<F> {
    task: Pin<Box<F>>,
    _entry: Entry,
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.task.as_mut().poll(cx)
    }
}
