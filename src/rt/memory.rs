//! What the allocator says of this process's memory, and what shards tell each other of theirs. Process-wide: any core may ask.
//!
//! jemalloc keeps its counts per thread and adds them up when it is asked to begin an epoch; that costs some microseconds, so
//! [`sample`] is for INFO and for a timer, not for every command. What the calling thread has taken and given back costs two loads
//! ([`thread_bytes`]).
//!
//! ```text
//!   shard 0, each turn    own counters ──> post 0 ┐
//!   shard 1, each turn    own counters ──> post 1 ┼─> Board ──> what all use: the posts and what is beside them
//!   shard 0, each 100 ms  the allocator's sum ────┘             (threads that are no shards, caches of the allocator)
//! ```
//!
//! A [`Board`] is how `maxmemory` holds for the whole process without a counter that all cores write to: each shard writes to its own
//! cache line, once a turn, and reads the others' once a turn while there is a limit. What a block costs is counted by the core that
//! allocates it and taken off by the one that frees it, so a single post says little (it may be negative), and the sum is right.
//!
//! The board, the largest sample and the first one are the only state that cores share here. Nothing is ordered by it: a figure that
//! is a turn old makes a shard evict a turn later.
#![expect(unsafe_code, reason = "the allocator is told to give pages back by a call that has no safe wrapper")]

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tikv_jemalloc_ctl::thread::ThreadLocal;
use tikv_jemalloc_ctl::{epoch, stats, stats_print, thread};

static PEAK: AtomicU64 = AtomicU64::new(0);
/// When the peak is to be looked at again, monotonic microseconds.
static NOTE_AT_US: AtomicU64 = AtomicU64::new(0);
/// How often it is, microseconds: as often as Redis does.
const NOTE_EVERY_US: u64 = 100_000;
/// What the last sample found.
static LAST: AtomicU64 = AtomicU64::new(0);
static STARTUP: AtomicU64 = AtomicU64::new(0);

/// One look at the allocator. Bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allocator {
    /// Handed out to the program.
    pub allocated: u64,
    /// In pages that hold something which is handed out.
    pub active: u64,
    /// In pages that the kernel has backed with memory.
    pub resident: u64,
    /// What the allocator keeps and the kernel may take back when it wants to.
    pub muzzy: u64,
    /// The most that any sample found allocated.
    pub peak: u64,
    /// What the first sample found.
    pub startup: u64,
}

/// Looks now. Whoever wants a peak that means something calls this from time to time.
pub fn sample() -> Allocator {
    let read = |value: Result<usize, tikv_jemalloc_ctl::Error>| value.map_or(0, |bytes| bytes as u64);
    // Without an epoch the counts are those of the last one, which is still an answer.
    let _ = epoch::advance();
    let allocated = read(stats::allocated::read());
    LAST.store(allocated, Ordering::Relaxed);
    let peak = PEAK.fetch_max(allocated, Ordering::Relaxed).max(allocated);
    let startup = match STARTUP.compare_exchange(0, allocated, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => allocated,
        Err(first) => first,
    };
    // SAFETY: the control is read as what it is, a size_t.
    let muzzy_pages = unsafe { tikv_jemalloc_ctl::raw::read::<usize>(ALL_ARENAS_MUZZY) };
    Allocator {
        allocated,
        active: read(stats::active::read()),
        resident: read(stats::resident::read()),
        muzzy: read(muzzy_pages) * super::process::page_bytes(),
        peak,
        startup,
    }
}

/// What the last sample found allocated, bytes. For a report of a crash, which must not ask the allocator.
pub fn last_allocated() -> u64 {
    LAST.load(Ordering::Relaxed)
}

/// The number of all arenas together, in names of controls.
const ALL_ARENAS_MUZZY: &[u8] = b"stats.arenas.4096.pmuzzy\0";
/// See above.
const ALL_ARENAS_PURGE: &[u8] = b"arena.4096.purge\0";
/// What the calling thread has freed and the allocator keeps at hand for it.
const THREAD_FLUSH: &[u8] = b"thread.tcache.flush\0";

/// Samples for the sake of the peak, if the last time is long enough ago, and has the board learn what is beside its posts. One shard
/// calls it once a turn, so that an idle server is not woken for it.
#[inline]
pub fn note_peak(board: &Board, shard: usize, mono_us: u64) {
    if mono_us >= NOTE_AT_US.load(Ordering::Relaxed) {
        NOTE_AT_US.store(mono_us + NOTE_EVERY_US, Ordering::Relaxed);
        // What is taken for the length of a turn is not beside its post.
        board.post_own(shard);
        board.note_whole(sample().allocated);
    }
}

/// Has the allocator give up what it keeps for the calling thread alone.
pub fn flush_thread() {
    call(THREAD_FLUSH);
}

/// Has the allocator give pages that hold nothing back to the kernel.
pub fn purge() {
    call(ALL_ARENAS_PURGE);
}

/// Calls a control that takes nothing and returns nothing. That it fails means that this allocator has no such control.
fn call(name: &[u8]) {
    debug_assert_eq!(name.last(), Some(&0));
    let none = std::ptr::null_mut();
    // SAFETY: the name ends with a zero byte and lives through the call, and no place for a value, old or new, is given.
    let _ = unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr().cast(), none, none.cast(), none, 0) };
}

/// The allocator's own report, as text.
pub fn malloc_stats() -> String {
    let mut text = Vec::new();
    match stats_print::stats_print(&mut text, stats_print::Options::default()) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("the allocator gives no report: {error}\n"),
    }
}

thread_local! {
    /// Where this thread's two counters are; nowhere if the allocator is another.
    static COUNTERS: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> =
        Some((thread::allocatedp::read().ok()?, thread::deallocatedp::read().ok()?));
}

/// Bytes that the calling thread has taken from the allocator less those that it has given back. Below zero on a thread that frees
/// what others have allocated.
#[inline]
pub fn thread_bytes() -> i64 {
    COUNTERS.with(|counters| {
        counters.as_ref().map_or(0, |(taken, given)| taken.get().wrapping_sub(given.get()).cast_signed())
    })
}

/// What one shard tells the others, in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Post {
    bytes: AtomicI64,
    uncounted: AtomicI64,
    keys: AtomicU64,
    key_bytes: AtomicU64,
    coldest: AtomicU64,
    owed: AtomicI64,
    clients: AtomicU64,
}

/// What a shard says of its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Posted {
    /// [`thread_bytes`] of its core.
    pub bytes: i64,
    /// What of it does not count: what waits to be written to the log, and what is already being freed.
    pub uncounted: i64,
    /// Keys that may be evicted.
    pub keys: u64,
    /// What one of them takes on average, as far as is known; 0 is not at all.
    pub key_bytes: u64,
    /// How cold its coldest is, in the words of the policy; lower is colder, 0 is not known.
    pub coldest: u64,
    /// What it has been asked to free and has not freed yet.
    pub owed: i64,
    /// What its clients take.
    pub clients: u64,
}

/// What all shards tell each other. See the module.
#[derive(Debug)]
pub struct Board {
    posts: Box<[Post]>,
    /// What the allocator has handed out beside what the posts say.
    beside: AtomicI64,
    /// Whether all shards have said something, so that `beside` is about what it says.
    settled: AtomicBool,
    thread_bytes: fn() -> i64,
}

impl Default for Board {
    /// A board for nobody, which says that nothing was taken.
    fn default() -> Board {
        Board::new(0, || 0)
    }
}

/// How much one look at the whole moves what is thought to be beside the posts: the others' posts are a turn old, and the error would
/// be taken for memory.
const BESIDE_WEIGHT: i64 = 8;

impl Board {
    /// A board for so many shards, which count their bytes so: [`thread_bytes`], unless it is a test.
    pub fn new(shards: usize, thread_bytes: fn() -> i64) -> Board {
        let posts = (0..shards).map(|_| Post::default()).collect();
        Board { posts, beside: AtomicI64::new(0), settled: AtomicBool::new(false), thread_bytes }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.posts.len()
    }

    /// What the calling shard's core has taken.
    #[inline]
    pub fn own_bytes(&self) -> i64 {
        (self.thread_bytes)()
    }

    /// Says what a shard's core has taken, and what of that does not count.
    #[inline]
    pub fn post_bytes(&self, shard: usize, bytes: i64, uncounted: i64) {
        let Some(post) = self.posts.get(shard) else { return };
        post.bytes.store(bytes, Ordering::Relaxed);
        post.uncounted.store(uncounted, Ordering::Relaxed);
    }

    /// Says what the calling shard's core has taken, and nothing else.
    #[inline]
    pub fn post_own(&self, shard: usize) {
        if let Some(post) = self.posts.get(shard) {
            post.bytes.store(self.own_bytes(), Ordering::Relaxed);
        }
    }

    /// Says how many keys of a shard may be evicted, what one takes, and how cold the coldest is.
    pub fn post_keys(&self, shard: usize, keys: u64, key_bytes: u64, coldest: u64) {
        let Some(post) = self.posts.get(shard) else { return };
        post.keys.store(keys, Ordering::Relaxed);
        post.key_bytes.store(key_bytes, Ordering::Relaxed);
        post.coldest.store(coldest, Ordering::Relaxed);
    }

    /// Says what a shard's clients take.
    pub fn post_clients(&self, shard: usize, bytes: u64) {
        if let Some(post) = self.posts.get(shard) {
            post.clients.store(bytes, Ordering::Relaxed);
        }
    }

    /// Asks a shard to free so much, or (below zero) takes off what it has freed. What it is asked for in all.
    pub fn owe(&self, shard: usize, bytes: i64) -> i64 {
        self.posts.get(shard).map_or(0, |post| post.owed.fetch_add(bytes, Ordering::Relaxed) + bytes)
    }

    /// Asks a shard for nothing any more.
    pub fn forgive(&self, shard: usize) {
        if let Some(post) = self.posts.get(shard) {
            post.owed.store(0, Ordering::Relaxed);
        }
    }

    /// What a shard has said.
    pub fn posted(&self, shard: usize) -> Posted {
        let read =
            |of: fn(&Post) -> &AtomicU64| self.posts.get(shard).map_or(0, |post| of(post).load(Ordering::Relaxed));
        let signed = |of: fn(&Post) -> &AtomicI64| self.posts.get(shard).map_or(0, |p| of(p).load(Ordering::Relaxed));
        Posted {
            bytes: signed(|post| &post.bytes),
            uncounted: signed(|post| &post.uncounted),
            keys: read(|post| &post.keys),
            key_bytes: read(|post| &post.key_bytes),
            coldest: read(|post| &post.coldest),
            owed: signed(|post| &post.owed),
            clients: read(|post| &post.clients),
        }
    }

    /// What counts of everything but this shard's own memory.
    pub fn others(&self, shard: usize) -> i64 {
        let posts = self.posts.iter().enumerate().filter(|(at, _)| *at != shard);
        let counted =
            posts.map(|(_, post)| post.bytes.load(Ordering::Relaxed) - post.uncounted.load(Ordering::Relaxed));
        counted.sum::<i64>() + self.beside.load(Ordering::Relaxed)
    }

    /// What all clients take.
    pub fn clients(&self) -> u64 {
        self.posts.iter().map(|post| post.clients.load(Ordering::Relaxed)).sum()
    }

    /// The allocator has been asked what it has handed out in all.
    pub fn note_whole(&self, allocated: u64) {
        let posts: i64 = self.posts.iter().map(|post| post.bytes.load(Ordering::Relaxed)).sum();
        let found = i64::try_from(allocated).unwrap_or(i64::MAX) - posts;
        let before = self.beside.load(Ordering::Relaxed);
        let all = self.posts.iter().all(|post| post.bytes.load(Ordering::Relaxed) != 0);
        let settled = self.settled.swap(all, Ordering::Relaxed);
        let now = if settled { before + (found - before) / BESIDE_WEIGHT } else { found };
        self.beside.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_never_falls_and_the_start_never_changes() {
        let first = sample();
        let block = std::hint::black_box(vec![1u8; 1 << 20]);
        let second = sample();
        drop(block);
        let third = sample();
        assert!(second.peak >= first.peak && third.peak >= second.peak);
        assert!(third.peak >= third.allocated);
        assert_eq!(first.startup, third.startup);
    }

    #[test]
    fn what_all_use_is_the_sum_of_the_posts_and_what_is_beside_them() {
        let board = Board::new(3, || 0);
        board.post_bytes(0, 500, 0);
        board.note_whole(3000);
        board.post_bytes(1, -200, 0);
        board.post_bytes(2, 700, 50);
        board.note_whole(2000);
        assert_eq!((board.others(0), board.others(1), board.others(2)), (1450, 2150, 1300));
        // Once all have said something, what is beside the posts is learned little by little.
        board.note_whole(2800);
        assert_eq!(board.others(0), 1450 + 100);
    }

    #[test]
    fn what_a_shard_owes_is_asked_for_by_all_and_paid_by_itself() {
        let board = Board::new(2, || 0);
        assert_eq!((board.owe(1, 300), board.owe(1, 200), board.owe(1, -100)), (300, 500, 400));
        board.forgive(1);
        assert_eq!(board.posted(1), Posted::default());
        assert_eq!(board.posted(7), Posted::default(), "a shard that is not there says nothing");
    }

    #[test]
    fn the_allocator_reports_and_gives_back() {
        flush_thread();
        purge();
        assert!(malloc_stats().contains("jemalloc"), "{}", malloc_stats());
    }
}
