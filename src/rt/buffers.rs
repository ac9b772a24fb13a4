//! The buffers a shard's ring receives into, handed to the kernel through a provided buffer ring.
//!
//! One mapping holds the ring of descriptors and, behind it, all buffers:
//!
//! ```text
//!   | descriptor ring (count x 16 bytes, page aligned) | buffer 0 | buffer 1 | ... | buffer count-1 |
//! ```
//!
//! A buffer is in one of three hands, and the three always add up to `count`:
//!
//! ```text
//!   resting ──offer──► kernel ──Received──► caller (a `Buffer` value) ──recycle──► kernel, or resting when trimming
//! ```
//!
//! **Why not give the kernel all of them at once.** The descriptor ring is first in, first out: whatever was offered
//! is used in turn, so every offered buffer becomes resident sooner or later, even when one client sends one byte at a
//! time. So the kernel starts with a few, and each time it runs dry (ENOBUFS) the number doubles, up to `count`. What
//! was never offered was never touched and costs no memory; a small working set also stays in the CPU's cache.
//! [`BufferRing::trim`] goes back to the first few and returns their pages to the system.
//!
//! Belongs to one ring and its thread. A `Buffer` is not `Copy`, not `Clone` and not `Send`: who holds it may read it,
//! and giving it back ends every borrow of its bytes, so the kernel never writes what somebody reads.
#![expect(unsafe_code, reason = "memory shared with the kernel: the mapping, and the descriptor ring inside it")]

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// One received buffer, owned by whoever holds this value until [`BufferRing::recycle`].
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the ring"]
pub struct Buffer {
    id: u16,
    len: u32,
    /// Which `BufferRing` it came from: two rings of one thread must not mix theirs.
    owner: u32,
    not_send: PhantomData<*const u8>,
}

impl Buffer {
    /// How many bytes the kernel wrote into it.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the kernel wrote nothing. It never delivers such a buffer; the method completes `len`.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// All receive buffers of one ring. See the module's text.
#[derive(Debug)]
pub struct BufferRing {
    map: NonNull<u8>,
    map_bytes: usize,
    buffers_at: usize,
    count: u16,
    buffer_bytes: u32,
    owner: u32,
    /// The tail we published: free running, the kernel masks it.
    tail: Cell<u16>,
    /// Buffers in the kernel's hands.
    offered: Cell<u16>,
    /// Buffers in the caller's hands.
    held: Cell<u16>,
    /// How many buffers circulate (kernel and caller) when nothing is scarce.
    target: Cell<u16>,
    first_target: u16,
    resting: RefCell<Vec<u16>>,
}

thread_local! {
    static OWNERS: Cell<u32> = const { Cell::new(0) };
}

impl BufferRing {
    /// Maps `count` (a power of two, at most 32,768) buffers of `buffer_bytes` each and offers the first `first`.
    /// Errors: ENOMEM from `mmap`; `InvalidInput` for a count the kernel would refuse.
    pub fn new(count: u16, buffer_bytes: u32, first: u16) -> io::Result<BufferRing> {
        if !count.is_power_of_two() || count > 32_768 || buffer_bytes == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{count} receive buffers of {buffer_bytes} bytes: the count must be a power of two up to 32768"
                ),
            ));
        }
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let buffers_at = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(page);
        let map_bytes = buffers_at + usize::from(count) * buffer_bytes as usize;
        // SAFETY: a fresh anonymous private mapping at an address of the kernel's choice touches nothing of ours.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast::<u8>()).expect("mmap does not map the null page");
        let owner = OWNERS.with(|owners| {
            owners.set(owners.get() + 1);
            owners.get()
        });
        let first_target = first.clamp(1, count);
        let ring = BufferRing {
            map,
            map_bytes,
            buffers_at,
            count,
            buffer_bytes,
            owner,
            tail: Cell::new(0),
            offered: Cell::new(0),
            held: Cell::new(0),
            target: Cell::new(first_target),
            first_target,
            // Taken from the end: low addresses first.
            resting: RefCell::new((0..count).rev().collect()),
        };
        ring.fill_to_target();
        Ok(ring)
    }

    /// The bytes the kernel wrote. The borrow ends before [`BufferRing::recycle`] can take the buffer.
    pub fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8] {
        self.check(buffer);
        // SAFETY: 1. in bounds: `check` saw that the id is ours and the length fits one buffer. 2. initialised: mmap
        // gives zeroed pages. 3. not written meanwhile: the kernel writes only to offered buffers; this one is in the
        // caller's hands (the `Buffer` exists) and goes back only through `recycle`, which takes it by value and so
        // waits for this borrow to end.
        unsafe { std::slice::from_raw_parts(self.address(buffer.id), buffer.len as usize) }
    }

    /// What the kernel has written into a buffer that has not been taken yet.
    pub(super) fn peek(&self, id: u16, len: u32) -> &[u8] {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names buffers of this ring");
        // SAFETY: as in `bytes`; the kernel's completion says that it writes there no more, and nothing offers the buffer to it again
        // before it was taken and recycled, which needs the ring that this borrow came through.
        unsafe { std::slice::from_raw_parts(self.address(id), len as usize) }
    }

    /// Gives a buffer back to the kernel, or lets it rest when fewer are wanted than circulate.
    pub fn recycle(&self, buffer: Buffer) {
        self.check(&buffer);
        self.held.set(self.held.get() - 1);
        if self.offered.get() + self.held.get() >= self.target.get() {
            self.rest(buffer.id);
        } else {
            self.offer(buffer.id);
        }
    }

    /// Shrinks what circulates to the first few again: buffers come to rest as they are recycled, and their pages go
    /// back to the system. For a timer, some seconds after the last burst.
    pub fn trim(&self) {
        self.target.set(self.first_target);
    }

    /// Buffers in the hands of the kernel, of the caller, and at rest.
    pub fn hands(&self) -> (u16, u16, u16) {
        (self.offered.get(), self.held.get(), self.count - self.offered.get() - self.held.get())
    }

    /// The size of one buffer in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes as usize
    }

    /// How many buffers there are in all hands.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The kernel ran dry: lets twice as many buffers circulate. False when all do already.
    pub(super) fn grow(&self) -> bool {
        let wanted = self.target.get().saturating_mul(2).min(self.count);
        if wanted == self.target.get() {
            return false;
        }
        self.target.set(wanted);
        self.fill_to_target();
        true
    }

    /// The kernel wrote `len` bytes into buffer `id` and handed it to us.
    pub(super) fn take(&self, id: u16, len: u32) -> Buffer {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names buffer {id} with {len} bytes");
        self.offered.set(self.offered.get() - 1);
        self.held.set(self.held.get() + 1);
        Buffer { id, len, owner: self.owner, not_send: PhantomData }
    }

    /// Where the descriptor ring starts, for registration.
    pub(super) fn descriptors(&self) -> u64 {
        self.map.as_ptr() as u64
    }

    fn check(&self, buffer: &Buffer) {
        assert_eq!(buffer.owner, self.owner, "a buffer went to a ring that it is not from");
        assert!(buffer.id < self.count && buffer.len <= self.buffer_bytes, "a buffer that was never handed out");
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: `id < count` at every caller, so the offset stays inside the mapping.
        unsafe { self.map.as_ptr().add(self.buffers_at + usize::from(id) * self.buffer_bytes as usize) }
    }

    fn fill_to_target(&self) {
        while self.offered.get() + self.held.get() < self.target.get() {
            let Some(id) = self.resting.borrow_mut().pop() else {
                return;
            };
            self.offer(id);
        }
    }

    fn offer(&self, id: u16) {
        let at = self.tail.get() & (self.count - 1);
        let ring = self.map.as_ptr().cast::<BufRingEntry>();
        // SAFETY: 1. in bounds: `at < count`, and the descriptors lie at the start of the mapping. 2. aligned: the
        // mapping is page aligned. 3. not shared: the kernel reads a descriptor only once the tail has passed it, which
        // the Release store below does; the setters touch address, length and id, never the 16 bits of the tail
        // that share descriptor 0.
        unsafe {
            let entry = &mut *ring.add(usize::from(at));
            entry.set_addr(self.address(id) as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(id);
        }
        self.tail.set(self.tail.get().wrapping_add(1));
        // SAFETY: `tail` points at the 16-bit tail inside descriptor 0 of our mapping; both sides access it atomically.
        let tail = unsafe { &*BufRingEntry::tail(ring).cast::<AtomicU16>() };
        tail.store(self.tail.get(), Ordering::Release);
        self.offered.set(self.offered.get() + 1);
    }

    fn rest(&self, id: u16) {
        // Buffers smaller than a page would take their neighbours along.
        if self.buffer_bytes.is_multiple_of(4096) {
            // SAFETY: the range is one buffer of our mapping, nobody holds it any more (`recycle` took the `Buffer`),
            // and dropping its pages leaves zeroes.
            unsafe { libc::madvise(self.address(id).cast(), self.buffer_bytes as usize, libc::MADV_DONTNEED) };
        }
        self.resting.borrow_mut().push(id);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it: the ring unregisters it before it lets go (or leaks
        // a reference so that this never runs), and `bytes` borrows cannot outlive `self`.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
    }
}
