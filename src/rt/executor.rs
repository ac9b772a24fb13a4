//! One thread per shard, pinned to a core, each with a glommio executor of its own.
//!
//! The threads are made here rather than by glommio's `spawn`, for three reasons: they are called `shard-N`; a denied
//! pin (some containers and service managers forbid `sched_setaffinity`) is a warning and not the end; and an executor
//! that cannot be made is an error with a cause, not a panic in a thread. All executors are made at the same time, and
//! no shard starts its work before all of them exist.
//!
//! A panic in a shard must not leave the others serving half of the keys: it is reported and the process stops, also in
//! builds that unwind. See [`crash`](super::crash).
//!
//! The shard count and the cores are decided by the caller; more shards than cores wrap around.
#![expect(unsafe_code, reason = "sched_getaffinity, sched_setaffinity and membarrier")]

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};

use crate::base::ShardId;
use crate::rt::{crash, probe, process};

/// glommio's preemption timer: as good as off, because glommio 0.9 sleeps on runnable tasks if it fires at the wrong
/// moment. What it was for, `background` does with slices.
const PREEMPT: Duration = Duration::from_secs(3600);

/// Memory that each executor registers with the kernel for direct disk I/O: glommio's smallest (it takes no less).
/// Registered pages are resident and count against `memlock`: the default of 10 MiB a shard would cost 640 MiB at 64.
/// What does not fit comes from the allocator and works the same.
const IO_MEMORY: usize = 64 * 1024;

/// Entries of each of an executor's three rings. They count against `memlock` too: at this depth 24 KiB an executor.
const RING_DEPTH: usize = 32;

/// How shards are laid over cores.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// How many shards.
    pub shards: usize,
    /// Whether each shard's thread is pinned to a core.
    pub pin: bool,
    /// The cores to pin to, in the order of the shards; with fewer cores than shards they wrap around. Empty: those this
    /// process may run on.
    pub cores: Vec<usize>,
}

/// Why the shards could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The thread could not be made.
    Thread {
        /// Whose thread.
        shard: ShardId,
        /// EAGAIN: limit on processes or threads.
        error: io::Error,
    },
    /// glommio could not make the executor.
    Executor {
        /// Whose executor.
        shard: ShardId,
        /// glommio's words.
        message: String,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Thread { shard, error } => {
                write!(f, "cannot start the thread of shard {shard}: {error} (raise the limit on processes, ulimit -u)")
            }
            StartError::Executor { shard, message } => {
                write!(f, "cannot start the executor of shard {shard}: {message} (io_uring and memlock, see ulimit -l)")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// The running shards.
#[derive(Debug)]
pub struct Shards<T> {
    threads: Vec<JoinHandle<Option<T>>>,
    /// The core each shard is pinned to, `None` where it is not.
    pub cores: Vec<Option<usize>>,
}

impl<T> Shards<T> {
    /// Waits until every shard's future has returned, and gives the results in the order of the shards.
    pub fn join(self) -> Vec<T> {
        let outcome = |thread: JoinHandle<Option<T>>| thread.join().ok().flatten();
        self.threads.into_iter().map(|thread| outcome(thread).expect("a shard that panics aborts")).collect()
    }
}

/// The cores this process may run on, in ascending order. At least one: if the kernel does not say, core 0 is assumed.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: a zeroed cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size it is told.
    let done = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if done != 0 {
        return vec![0];
    }
    // SAFETY: every index below CPU_SETSIZE is inside the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Starts one shard per seed and runs `run(shard, seed)` on each. The seed is what a shard takes along: its mailboxes,
/// its part of the configuration. The future is made on the shard's thread and never leaves it.
pub fn start<S, T, R, F>(config: &ExecutorConfig, seeds: Vec<S>, run: R) -> Result<Shards<T>, StartError>
where
    S: Send + 'static,
    T: Send + 'static,
    R: FnOnce(ShardId, S) -> F + Clone + Send + 'static,
    F: Future<Output = T> + 'static,
{
    assert_eq!(seeds.len(), config.shards, "one seed per shard");
    prepare_membarrier();
    // See `make_executor`. Where the limits cannot be changed, glommio's appetite is not bounded, and may fail below.
    let _ = process::bound_memlock(Some(probe::MEMLOCK_MIN));
    let cores = if config.cores.is_empty() { allowed_cores() } else { config.cores.clone() };
    let (made, making) = mpsc::channel();
    let mut threads = Vec::with_capacity(seeds.len());
    let mut gates = Vec::with_capacity(seeds.len());
    for (index, seed) in seeds.into_iter().enumerate() {
        let shard = ShardId(index as u16);
        let core = config.pin.then(|| cores[index % cores.len()]);
        let (run, made) = (run.clone(), made.clone());
        let (gate, go) = mpsc::channel();
        gates.push(gate);
        let body = move || {
            let pinned = core.filter(|&core| pin(core));
            crash::stack_for_faults();
            let executor = make_executor();
            let executor = match executor {
                Ok(executor) => executor,
                Err(error) => {
                    // The starter has gone away only if it failed too.
                    let _ = made.send((shard, Err(error)));
                    return None;
                }
            };
            let _ = made.send((shard, Ok(pinned)));
            drop(made);
            // A closed gate: another shard could not start.
            go.recv().ok()?;
            match catch_unwind(AssertUnwindSafe(|| executor.run(run(shard, seed)))) {
                Ok(result) => Some(result),
                // The panic hook has reported it. The other shards must not go on without this one's keys.
                Err(_) => std::process::abort(),
            }
        };
        match Builder::new().name(format!("shard-{index}")).spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(error) => return Err(StartError::Thread { shard, error }),
        }
    }
    drop(made);
    let mut pinned = vec![None; config.shards];
    for (shard, outcome) in making {
        match outcome {
            Ok(core) => pinned[shard.index()] = core,
            Err(message) => return Err(StartError::Executor { shard, message }),
        }
    }
    // The shards' own rings come next, and have no use for a bound.
    let _ = process::bound_memlock(None);
    if config.pin && pinned.contains(&None) {
        tracing::warn!(
            "shards are not pinned to cores: sched_setaffinity is denied (seccomp, SystemCallFilter, cpuset)"
        );
    }
    for gate in gates {
        // Every shard waits at its gate: all have reported.
        let _ = gate.send(());
    }
    Ok(Shards { threads, cores: pinned })
}

/// Makes this thread's executor without letting it lock more memory than it needs.
///
/// glommio registers a buffer of 64 KiB with each of an executor's three rings, which counts against `memlock` three
/// times, and does without where the kernel refuses; but a ring that the kernel refuses is the end. Of 8 MiB, the usual
/// limit of an unprivileged user, 40 executors would take all and the next ones fail. So the soft limit begins at the
/// least that glommio accepts and is raised, one executor at a time, by just what its rings need: then the rings fit and
/// the buffers, beyond the first few, do not.
fn make_executor() -> Result<LocalExecutor, String> {
    /// Room for one executor's rings, and less than one buffer more.
    const STEP: u64 = 32 * 1024;
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let made = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .make();
        let error = match made {
            Ok(executor) => return Ok(executor),
            Err(error) => error,
        };
        let no_memory = matches!(&error, GlommioError::IoError(e) if e.raw_os_error() == Some(libc::ENOMEM));
        let soft = process::memlock_limit().map_or(u64::MAX, |(soft, _)| soft);
        let raised = process::raise_memlock_limit(soft.saturating_add(STEP)).unwrap_or(soft);
        if !no_memory || raised <= soft {
            return Err(error.to_string());
        }
    }
}

/// Pins the calling thread.
fn pin(core: usize) -> bool {
    // SAFETY: a zeroed cpu_set_t is the empty set; the core came from the kernel's own set; the call reads the set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0
    }
}

/// glommio registers the process for expedited membarriers when an executor first goes to sleep. In a process that has
/// threads already, the kernel then waits for all cores to pass a quiet point: tens of milliseconds in the middle of a
/// client's request. Before the threads exist it costs microseconds, and registering again is free.
fn prepare_membarrier() {
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;
    // SAFETY: no memory is involved. A kernel that refuses is dealt with by glommio's own fallback.
    unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0) };
}
