//! What the kernel says about this process: memory, CPU time, descriptors.
//!
//! Plain reads, for INFO and for tests; each is a system call or a file of /proc, so none belongs on a hot path.
#![expect(unsafe_code, reason = "getrusage, getrlimit, setrlimit, sysconf and prctl")]

use std::fs;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use crate::config::{Config, OomScoreAdj};

/// Resident memory in bytes, from `/proc/self/statm`; 0 if that cannot be read.
pub fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes()
}

/// Size of a page of memory in bytes.
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Memory of the machine in bytes; 0 if the kernel does not say.
pub fn system_memory_bytes() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) }).unwrap_or(0) * page_bytes()
}

/// CPU time in user and kernel mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTime {
    /// Time in user mode.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
}

impl CpuTime {
    /// Both together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// Whose CPU time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// All threads of this process.
    Process,
    /// Child processes that have ended.
    Children,
    /// The calling thread.
    Thread,
}

/// CPU time used so far.
pub fn cpu_time(whose: Whose) -> CpuTime {
    let who = match whose {
        Whose::Process => libc::RUSAGE_SELF,
        Whose::Children => libc::RUSAGE_CHILDREN,
        Whose::Thread => libc::RUSAGE_THREAD,
    };
    // SAFETY: an rusage of zeroes is valid, and the call fills it in. It fails for unknown `who` only.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &raw mut usage);
        usage
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    CpuTime { user: duration(usage.ru_utime), system: duration(usage.ru_stime) }
}

/// Descriptors this process has open, from `/proc/self/fd`; 0 if that cannot be read.
pub fn open_descriptors() -> usize {
    // The listing itself holds one.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// The soft and hard limit on open descriptors.
pub fn descriptor_limit() -> io::Result<(u64, u64)> {
    limit(libc::RLIMIT_NOFILE)
}

/// Raises the soft limit on open descriptors to `wanted`, or as far towards it as the hard limit allows; with privilege
/// the hard limit as well. Returns the soft limit in force, which is never lowered.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = descriptor_limit()?;
    if soft >= wanted {
        return Ok(soft);
    }
    // Above the hard limit needs privilege, and may be denied even then (fs.nr_open, seccomp).
    if wanted > hard && set_limit(libc::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    let reachable = wanted.min(hard);
    if reachable > soft {
        set_limit(libc::RLIMIT_NOFILE, reachable, hard)?;
    }
    Ok(reachable.max(soft))
}

/// The soft and hard limit on locked memory, in bytes; `u64::MAX` is none.
pub fn memlock_limit() -> io::Result<(u64, u64)> {
    limit(libc::RLIMIT_MEMLOCK)
}

/// Raises the soft limit on locked memory to `wanted` if it is lower and the hard limit, or privilege, allows. Returns
/// the soft limit in force.
pub fn raise_memlock_limit(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = memlock_limit()?;
    if soft >= wanted {
        return Ok(soft);
    }
    if set_limit(libc::RLIMIT_MEMLOCK, wanted, hard.max(wanted)).is_ok() {
        return Ok(wanted);
    }
    // Denied: as far as it goes is too little, and the caller says so.
    Ok(soft)
}

/// Lowers the soft limit on locked memory to `bound`, or raises it to the hard limit where there is no bound. The hard limit
/// stays as it is.
pub fn bound_memlock(bound: Option<u64>) -> io::Result<()> {
    let (soft, hard) = memlock_limit()?;
    let wanted = bound.map_or(hard, |bound| bound.min(soft));
    if wanted == soft { Ok(()) } else { set_limit(libc::RLIMIT_MEMLOCK, wanted, hard) }
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills in the struct.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call reads the struct.
    if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps transparent huge pages away from this process: with them more is resident than is stored, and compaction pauses a core.
pub fn disable_huge_pages() -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the system gives huge pages to everybody, asked for or not.
pub fn huge_pages_are_forced() -> bool {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").is_ok_and(|text| text.contains("[always]"))
}

/// Sets the kernel's out-of-memory score of this process as `oom-score-adj` says; with `no`, to what it was at the start if it was ever
/// changed.
pub fn set_oom_score(config: &Config) -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    /// What it was before the first change.
    static FIRST: OnceLock<i32> = OnceLock::new();
    if config.oom_score_adj == OomScoreAdj::No && FIRST.get().is_none() {
        return Ok(());
    }
    let found = || fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let first = *FIRST.get_or_init(found);
    // The scores of replicas and of background processes follow it.
    let [master, ..] = config.oom_score_adj_values;
    let wanted = match config.oom_score_adj {
        OomScoreAdj::No => first,
        OomScoreAdj::Absolute => master,
        OomScoreAdj::Relative => first.saturating_add(master),
    };
    fs::write(FILE, wanted.clamp(-1000, 1000).to_string())
}

/// Kernel name, release and machine, as INFO's `os` field shows them: `Linux 6.1.0 x86_64`.
pub fn system_name() -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    format!("{} {} {}", read("ostype").trim(), read("osrelease").trim(), std::env::consts::ARCH)
}

/// What the system says of an error, without Rust's own addition of its number: as Redis prints it.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_becomes_resident() {
        let before = resident_bytes();
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = resident_bytes();
        assert!(after >= before + (24 << 20), "{before} then {after}");
        drop(block);
        assert!(system_memory_bytes() > after);
    }

    #[test]
    fn cpu_time_of_a_busy_thread_grows() {
        let before = cpu_time(Whose::Thread);
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        assert!(cpu_time(Whose::Thread).total() > before.total());
        assert!(cpu_time(Whose::Process).total() >= before.total());
    }

    #[test]
    fn the_descriptor_limit_is_never_lowered() {
        let (soft, hard) = descriptor_limit().unwrap();
        assert_eq!(raise_descriptor_limit(1).unwrap(), soft);
        assert!(raise_descriptor_limit(soft).unwrap() >= soft);
        assert!(hard >= soft);
    }

    #[test]
    fn an_opened_file_is_counted() {
        let before = open_descriptors();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close files meanwhile.
        assert!(open_descriptors() + 25 >= before + files.len(), "{before} before");
    }
}
