//! May this process run here? Asked once, before anything starts: glommio panics with "kernel too old" whatever the
//! reason is, and a ring that fails on a shard's thread is too late for a clear word.
//!
//! Every [`ProbeError`] is one line that names the cause and the remedy. What is merely worse than it could be goes to
//! [`Report::warnings`]. Runs on the starting thread; its rings are gone when it returns.

use std::fs;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};

use crate::rt::process;
use crate::rt::ring::{Completion, Ring, RingConfig, Setup, Token};

/// glommio 0.9 refuses to make an executor below this limit on locked memory (`sys/uring.rs`, `Reactor::new`).
pub const MEMLOCK_MIN: u64 = 512 * 1024;

/// Descriptors the server needs for itself: per shard four rings, eventfds, log files; listeners; standard streams.
const DESCRIPTORS_PER_SHARD: u64 = 16;
const DESCRIPTORS_BASE: u64 = 32;

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kernel's release, as it calls itself.
    pub kernel: String,
    /// The best set of ring flags it takes.
    pub setup: Setup,
    /// The soft limit on locked memory in bytes, `u64::MAX` for none.
    pub memlock: u64,
    /// The soft limit on open descriptors, after raising it.
    pub descriptors: u64,
    /// Clients for which there are descriptors: at most as many as asked for.
    pub clients_max: u64,
    /// What an operator should know, one line each.
    pub warnings: Vec<String>,
}

/// Why the server cannot run here.
#[derive(Debug)]
pub enum ProbeError {
    /// The kernel has no io_uring, or something pretends so.
    Missing {
        /// The kernel's release.
        kernel: String,
    },
    /// `kernel.io_uring_disabled` forbids it.
    Disabled {
        /// 1: for all but members of a group; 2: for everybody.
        sysctl: u8,
    },
    /// A seccomp profile or a security module forbids it.
    Denied {
        /// Whether a seccomp filter is active on this process.
        seccomp: bool,
    },
    /// No descriptor was left for a ring.
    Descriptors {
        /// The soft limit.
        limit: u64,
    },
    /// No memory for a ring.
    Memory {
        /// The soft limit on locked memory in bytes.
        memlock: u64,
    },
    /// The limit on locked memory is too low for glommio.
    Memlock {
        /// The hard limit in bytes.
        hard: u64,
    },
    /// io_uring works, and cannot do what we need.
    Feature {
        /// The kernel's release.
        kernel: String,
        /// What is missing.
        feature: &'static str,
    },
    /// Something else.
    Other {
        /// What was tried.
        attempt: &'static str,
        /// What came of it.
        error: io::Error,
    },
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProbeError::Missing { kernel } => write!(
                f,
                "this kernel ({kernel}) offers no io_uring: Linux 6.0 or later is needed; in a container whose host is \
                 new enough, a seccomp profile hides it: run with one that allows io_uring_setup, io_uring_enter and \
                 io_uring_register"
            ),
            ProbeError::Disabled { sysctl: 1 } => write!(
                f,
                "io_uring is reserved for a group on this machine: add the user to the group named by \
                 kernel.io_uring_group, or run sysctl -w kernel.io_uring_disabled=0"
            ),
            ProbeError::Disabled { sysctl } => write!(
                f,
                "io_uring is switched off on this machine (kernel.io_uring_disabled={sysctl}): run \
                 sysctl -w kernel.io_uring_disabled=0"
            ),
            ProbeError::Denied { seccomp: true } => write!(
                f,
                "a seccomp profile forbids io_uring: allow io_uring_setup, io_uring_enter and io_uring_register (docker \
                 run --security-opt seccomp=PROFILE; in a systemd unit, SystemCallFilter=@aio)"
            ),
            ProbeError::Denied { seccomp: false } => {
                write!(
                    f,
                    "the kernel denies io_uring to this process: a security module (SELinux, AppArmor) forbids it"
                )
            }
            ProbeError::Descriptors { limit } => {
                write!(f, "no descriptor is left for a ring (limit {limit}): raise it with ulimit -n or LimitNOFILE=")
            }
            ProbeError::Memory { memlock } => write!(
                f,
                "no memory for a ring (memlock {memlock} bytes): raise it with ulimit -l or LimitMEMLOCK=, or raise the \
                 memory limit of the container"
            ),
            ProbeError::Memlock { hard } => write!(
                f,
                "the limit on locked memory is {hard} bytes, at least {MEMLOCK_MIN} are needed: ulimit -l 512, \
                 LimitMEMLOCK=512K, or docker run --ulimit memlock=524288"
            ),
            ProbeError::Feature { kernel, feature } => {
                write!(f, "io_uring of this kernel ({kernel}) lacks {feature}: Linux 6.0 or later is needed")
            }
            ProbeError::Other { attempt, error } => {
                write!(f, "io_uring: cannot {attempt}: {error}")
            }
        }
    }
}

impl std::error::Error for ProbeError {}

/// Looks at kernel and limits, and raises the soft limits as far as `clients` and `shards` need.
pub fn probe(shards: usize, clients: u64) -> Result<Report, ProbeError> {
    let kernel = kernel_release();
    let mut warnings = Vec::new();

    let own = DESCRIPTORS_BASE + DESCRIPTORS_PER_SHARD * shards as u64;
    let descriptors = process::raise_descriptor_limit(own + clients)
        .map_err(|error| ProbeError::Other { attempt: "raise the limit on descriptors", error })?;
    let clients_max = clients.min(descriptors.saturating_sub(own));
    if clients_max < clients {
        warnings.push(format!(
            "the limit of {descriptors} descriptors leaves room for {clients_max} clients instead of {clients}: raise it \
             with ulimit -n or LimitNOFILE="
        ));
    }

    let memlock = process::raise_memlock_limit(MEMLOCK_MIN)
        .map_err(|error| ProbeError::Other { attempt: "read the limit on locked memory", error })?;
    let operations = operations(&kernel)?;
    if memlock < MEMLOCK_MIN {
        return Err(ProbeError::Memlock { hard: memlock });
    }
    for (code, feature) in NEEDED {
        if !operations.is_supported(code) {
            return Err(ProbeError::Feature { kernel, feature });
        }
    }
    let setup = try_multishot(&kernel)?;
    if setup != Setup::DeferTaskrun {
        warnings.push(format!("this kernel ({kernel}) cannot defer task work: Linux 6.1 or later is faster"));
    }
    Ok(Report { kernel, setup, memlock, descriptors, clients_max, warnings })
}

/// Operations without which nothing works, and what to call them. They are all older than multishot receive, which has
/// no operation code of its own and is tried in earnest.
const NEEDED: [(u8, &str); 7] = [
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::RecvMulti::CODE, "receive"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "vectored send"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::Close::CODE, "close"),
    (opcode::MsgRingData::CODE, "messages between rings"),
];

/// Makes a small ring and asks which operations it knows.
fn operations(kernel: &str) -> Result<Probe, ProbeError> {
    let ring = IoUring::new(4).map_err(|error| explain(error, kernel))?;
    let mut probe = Probe::new();
    match ring.submitter().register_probe(&mut probe) {
        Ok(()) => Ok(probe),
        Err(_) => Err(ProbeError::Feature { kernel: kernel.to_owned(), feature: "a list of its operations" }),
    }
}

/// Says what an errno of `io_uring_setup` means here.
fn explain(error: io::Error, kernel: &str) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => ProbeError::Missing { kernel: kernel.to_owned() },
        Some(libc::EPERM | libc::EACCES) => denied(
            &fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default(),
            &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            ProbeError::Descriptors { limit: process::descriptor_limit().map_or(0, |(soft, _)| soft) }
        }
        Some(libc::ENOMEM) => ProbeError::Memory { memlock: process::memlock_limit().map_or(0, |(soft, _)| soft) },
        _ => ProbeError::Other { attempt: "set up a ring", error },
    }
}

/// EPERM has two causes; the sysctl tells them apart.
fn denied(sysctl: &str, status: &str) -> ProbeError {
    match sysctl.trim().parse() {
        Ok(sysctl @ 1..) => ProbeError::Disabled { sysctl },
        _ => {
            let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
            ProbeError::Denied { seccomp: mode == Some("2") }
        }
    }
}

/// Receives twice from one submission, into a provided buffer ring.
fn try_multishot(kernel: &str) -> Result<Setup, ProbeError> {
    let missing = |feature| ProbeError::Feature { kernel: kernel.to_owned(), feature };
    let other = |attempt| move |error| ProbeError::Other { attempt, error };
    let config = RingConfig { entries: 8, cq_entries: 16, buffers: 4, buffer_bytes: 4096, buffers_first: 4 };
    let mut ring = Ring::new(config).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => missing("provided buffer rings"),
        _ => explain(error, kernel),
    })?;
    let (ours, mut theirs) = UnixStream::pair().map_err(other("make a socket pair"))?;
    ring.recv_multi(ours.as_fd(), Token::new(1));
    let buffers = ring.buffers();
    for _ in 0..2 {
        theirs.write_all(b"?").map_err(other("write to a socket pair"))?;
        ring.wait(Some(Duration::from_secs(1))).map_err(other("wait for a completion"))?;
        match ring.next() {
            Some(Completion::Received { buffer, more, .. }) => {
                buffers.recycle(buffer);
                if !more {
                    return Err(missing("multishot receive"));
                }
            }
            _ => return Err(missing("multishot receive")),
        }
    }
    Ok(ring.setup())
}

/// The kernel's release, such as `6.1.0-13-amd64`.
fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_run_the_server() {
        let report = probe(2, 100).unwrap();
        assert!(report.descriptors >= 100 && report.memlock >= MEMLOCK_MIN, "{report:?}");
        assert_eq!(report.clients_max, 100);
    }

    #[test]
    fn clients_beyond_the_descriptor_limit_are_a_warning_that_says_how_many_fit() {
        let report = probe(1, u64::MAX / 4).unwrap();
        assert!(report.clients_max < u64::MAX / 4);
        assert!(report.warnings.iter().any(|line| line.contains("ulimit -n")), "{:?}", report.warnings);
    }

    #[test]
    fn a_denied_ring_is_blamed_on_the_sysctl_the_group_or_the_seccomp_profile() {
        let text = |sysctl, status| denied(sysctl, status).to_string();
        assert!(text("2\n", "").contains("io_uring_disabled=2"));
        assert!(text("1\n", "").contains("io_uring_group"));
        assert!(text("0\n", "Name:\tx\nSeccomp:\t2\n").contains("seccomp profile"));
        assert!(text("", "Seccomp:\t0\n").contains("security module"));
    }

    #[test]
    fn every_message_is_one_line_with_a_remedy() {
        let kernel = "5.4.0".to_owned();
        let errno = |code| explain(io::Error::from_raw_os_error(code), "5.4.0").to_string();
        let lines = [
            errno(libc::ENOSYS),
            errno(libc::EPERM),
            errno(libc::EMFILE),
            errno(libc::ENOMEM),
            ProbeError::Memlock { hard: 65536 }.to_string(),
            ProbeError::Feature { kernel, feature: "multishot receive" }.to_string(),
        ];
        for line in lines {
            assert!(!line.contains('\n') && line.len() > 40, "{line}");
        }
    }
}
