//! A shard's own io_uring for its sockets: the data path. One per shard, made and used on the shard's thread only.
//!
//! # How it is used
//!
//! Calls such as [`Ring::send`] only write a submission entry; nothing reaches the kernel until [`Ring::poll`] or
//! [`Ring::wait`], which submit everything queued and collect what is complete in one `io_uring_enter`. Then
//! [`Ring::next`] hands out completions one by one. So one turn of a shard's loop costs one system call, whatever the
//! number of clients that it served.
//!
//! # What the caller must know
//!
//! - A [`Token`] is the caller's name for a connection and comes back with each of its completions. Completions of a
//!   closed connection may still arrive: put a generation into the token and ignore the ones that are past.
//! - At most one `send` per socket may be in flight, or their bytes may mix. `Sent` comes once everything is out or
//!   nothing more will go out; short sends are finished in here.
//! - A multishot `recv_multi` or `accept_multi` stays armed while its completions say `more`. Without it, or after
//!   `RecvNoBuffers`, `RecvCancelled`, `RecvFailed` or `Eof`, it is over; arm it again if more is wanted. At
//!   `RecvNoBuffers` nothing is lost (the bytes wait in the socket): arm it again at once, the ring has made more
//!   buffers circulate, or will have them back when the caller has recycled those it holds.
//! - A descriptor that was given to the ring must be closed by [`Ring::close`] and nothing else. An entry that is
//!   still queued names a number; if that number is closed and given out again meanwhile, the entry hits a stranger.
//! - Sockets must be in blocking mode: with O_NONBLOCK the kernel answers EAGAIN instead of waiting.
//!
//! # Invariants
//!
//! - Memory the kernel may touch is owned by the ring from the call to the completion (`flight`, and the buffer ring),
//!   also when the ring is dropped: `Drop` cancels everything and collects it; if the kernel does not give something
//!   back within a second, that memory is leaked on purpose.
//! - A queued entry is never lost: what does not fit into the submission queue waits, in order, in `backlog`.
//! - The hot completions (receive, send) are routed without a hash lookup: `user_data` carries the kind of operation
//!   and either the token itself or the operation's index in `flight`.
//!
//! Why each flag is there, and what happens without it, is in `io_uring_notes.md`.
#![expect(unsafe_code, reason = "submission entries name memory; who owns it until completion is this module's job")]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use crate::base::ShardId;
use crate::rt::buffers::BufferRing;
pub use crate::rt::completion::{Completion, Payload, RingStats, Token};
use crate::rt::peers::PeerBoard;
use crate::rt::segments::Gather;
pub use crate::rt::segments::{Segments, Unsent};

/// How large a ring is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingConfig {
    /// Submission queue entries: how many operations one enter can submit. More are queued behind it.
    pub entries: u32,
    /// Completion queue entries. More are kept by the kernel, at a price.
    pub cq_entries: u32,
    /// Receive buffers, a power of two. An upper bound: they become resident as bursts need them.
    pub buffers: u16,
    /// Size of a receive buffer in bytes.
    pub buffer_bytes: u32,
    /// How many receive buffers circulate at first.
    pub buffers_first: u16,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        // 16 KiB: what Redis reads at once. 512 of them bound the memory of one shard's bursts to 8 MiB.
        RingConfig { entries: 512, cq_entries: 4096, buffers: 512, buffer_bytes: 16 * 1024, buffers_first: 32 }
    }
}

impl RingConfig {
    /// Smaller queues: since Linux 6.14 they count against `memlock`, and 64 shards must fit the usual 8 MiB. What
    /// overflows them is kept by the kernel or by us, at a price.
    pub fn for_many_shards() -> RingConfig {
        RingConfig { entries: 128, cq_entries: 1024, buffers: 256, ..RingConfig::default() }
    }
}

/// Above the 56 bits of a token.
const KIND_SHIFT: u32 = 56;
const KIND_ACCEPT: u64 = 1;
const KIND_RECV: u64 = 2;
const KIND_FLIGHT: u64 = 3;
const KIND_CLOSE: u64 = 4;
const KIND_CANCEL: u64 = 5;
const KIND_WAKE: u64 = 6;
const KIND_WOKEN: u64 = 7;

const BUFFER_GROUP: u16 = 0;

/// The most one send or receive operation asks for. The kernel caps at just under 2 GiB; what is larger goes in turns.
pub(super) const OPERATION_BYTES_MAX: usize = 1 << 30;

/// How long `Drop` waits for the kernel to give memory back before it leaks it.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// An operation that owns memory the kernel may touch.
#[derive(Debug)]
enum Flight {
    /// `prompt`: it was to be taken at once, and whether it was is not known yet.
    Send {
        token: Token,
        fd: RawFd,
        bytes: Vec<u8>,
        sent: usize,
        prompt: bool,
    },
    Gather(Box<Gather>),
    RecvInto {
        token: Token,
        fd: RawFd,
        buf: Vec<u8>,
        want: usize,
        got: usize,
        cancelled: bool,
    },
}

/// How the kernel was asked to run completions, best first. An older kernel refuses with EINVAL.
const SETUPS: [Setup; 4] = [Setup::DeferTaskrun, Setup::SingleIssuer, Setup::CoopTaskrun, Setup::Plain];

/// Which set of flags the ring was made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// SINGLE_ISSUER, DEFER_TASKRUN: kernel 6.1.
    DeferTaskrun,
    /// SINGLE_ISSUER, COOP_TASKRUN: kernel 6.0.
    SingleIssuer,
    /// COOP_TASKRUN: kernel 5.19.
    CoopTaskrun,
    /// None.
    Plain,
}

/// See the module's text.
pub struct Ring {
    io: IoUring,
    setup: Setup,
    /// What `io_uring_enter` is called with: the registered index, or the descriptor.
    enter_fd: i32,
    enter_flags: u32,
    buffers: Rc<BufferRing>,
    /// Completions fetched from the queue and not handed out yet.
    fetched: Vec<cqueue::Entry>,
    fetched_at: usize,
    /// Completions that never were in the kernel: empty sends.
    immediate: VecDeque<Completion>,
    /// Entries for which the submission queue had no room, oldest first.
    backlog: VecDeque<squeue::Entry>,
    flight: Slab<Flight>,
    /// Prompt sends that the kernel has not been told of for certain, and those that it has. No completion comes of one that was
    /// taken as a whole, so what is still here when all completions were read has gone out.
    prompt_queued: Vec<usize>,
    prompt_issued: Vec<usize>,
    /// Multishot operations the kernel still has.
    armed: usize,
    /// Whether more buffers were given out since the last enter: once per turn is enough.
    grown: bool,
    peers: Option<(Arc<PeerBoard>, ShardId)>,
    eventfd_attached: bool,
    stats: RingStats,
}

impl Ring {
    /// Makes the ring, on the thread that will use it.
    /// Errors are those of `io_uring_setup`, `mmap` and `io_uring_register`; `rt::probe` says what they mean.
    pub fn new(config: RingConfig) -> io::Result<Ring> {
        Ring::with_setups(config, &SETUPS)
    }

    /// As [`Ring::new`], trying only these sets of flags.
    pub fn with_setups(config: RingConfig, setups: &[Setup]) -> io::Result<Ring> {
        let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
        for &setup in setups {
            let mut builder = IoUring::builder();
            builder.dontfork().setup_clamp().setup_cqsize(config.cq_entries.max(config.entries));
            match setup {
                Setup::DeferTaskrun => {
                    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
                }
                Setup::SingleIssuer => {
                    builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
                }
                Setup::CoopTaskrun => {
                    builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
                }
                Setup::Plain => {}
            }
            match builder.build(config.entries) {
                Ok(io) => return Ring::with_io(io, setup, config),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    fn with_io(io: IoUring, setup: Setup, config: RingConfig) -> io::Result<Ring> {
        assert!(io.params().is_feature_nodrop(), "kernels since 5.5 keep completions that do not fit");
        let buffers = Rc::new(BufferRing::new(config.buffers, config.buffer_bytes, config.buffers_first)?);
        // SAFETY: the descriptors and buffers stay mapped until `Drop` has unregistered them, or for ever.
        unsafe {
            io.submitter().register_buf_ring_with_flags(buffers.descriptors(), buffers.count(), BUFFER_GROUP, 0)?;
        }
        // The index saves a descriptor lookup per enter (kernel 5.18). Without it the descriptor serves.
        let (enter_fd, enter_flags) = match register_ring_fd(io.as_raw_fd()) {
            Ok(index) => (index, ENTER_REGISTERED_RING),
            Err(_) => (io.as_raw_fd(), 0),
        };
        Ok(Ring {
            io,
            setup,
            enter_fd,
            enter_flags,
            buffers,
            fetched: Vec::with_capacity(FETCH),
            fetched_at: 0,
            immediate: VecDeque::new(),
            backlog: VecDeque::new(),
            flight: Slab::with_capacity(64),
            prompt_queued: Vec::new(),
            prompt_issued: Vec::new(),
            armed: 0,
            grown: false,
            peers: None,
            eventfd_attached: false,
            stats: RingStats::default(),
        })
    }

    /// Which flags this kernel took.
    pub fn setup(&self) -> Setup {
        self.setup
    }

    /// What the ring has done so far.
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// The receive buffers: a handle of its own, so that received bytes can be read while the ring is used.
    pub fn buffers(&self) -> Rc<BufferRing> {
        Rc::clone(&self.buffers)
    }

    /// Operations that own memory and have not completed.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Multishot operations that are armed.
    pub fn armed(&self) -> usize {
        self.armed
    }

    // ------------------------------------------------------------------------------------------ operations

    /// Accepts connections until cancelled or failed.
    pub fn accept_multi(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.armed += 1;
        self.push(entry.user_data(pack(KIND_ACCEPT, token.0)));
    }

    /// Ends [`Ring::accept_multi`]; the last `Accepted` carries ECANCELED and no `more`.
    pub fn cancel_accept(&mut self, token: Token) {
        self.cancel(pack(KIND_ACCEPT, token.0));
    }

    /// Receives into the ring's buffers until cancelled, finished or failed. One per token at a time.
    pub fn recv_multi(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), BUFFER_GROUP).build();
        self.armed += 1;
        self.push(entry.user_data(pack(KIND_RECV, token.0)));
    }

    /// Ends [`Ring::recv_multi`]. What arrived before comes first; the end is `RecvCancelled`, or any other end of
    /// receiving if that was faster. When no receive was armed, nothing follows.
    pub fn cancel_recv(&mut self, token: Token) {
        self.cancel(pack(KIND_RECV, token.0));
    }

    /// Receives exactly `want` bytes behind what `buf` holds: a large value straight into its final allocation. No
    /// `recv_multi` may be armed on the socket, or the two would share the stream between them.
    pub fn recv_into(&mut self, socket: BorrowedFd<'_>, token: Token, mut buf: Vec<u8>, want: usize) {
        if want == 0 {
            self.immediate.push_back(Completion::ReceivedInto { token, buf, result: Ok(0) });
            return;
        }
        buf.reserve(want);
        let flight = Flight::RecvInto { token, fd: socket.as_raw_fd(), buf, want, got: 0, cancelled: false };
        let index = self.flight.insert(flight);
        self.launch(index);
    }

    /// Ends all [`Ring::recv_into`] of this token: they complete with what has arrived.
    pub fn cancel_recv_into(&mut self, token: Token) {
        let mut indices = Vec::new();
        for (index, flight) in &mut self.flight {
            match flight {
                Flight::RecvInto { token: of, cancelled, .. } if *of == token => {
                    // Remembered, because what has arrived hides ECANCELED: the kernel reports a short receive.
                    *cancelled = true;
                    indices.push(index);
                }
                _ => {}
            }
        }
        for index in indices {
            self.cancel(pack(KIND_FLIGHT, index as u64));
        }
    }

    /// Sends all bytes. They come back in `Sent`, for their capacity.
    pub fn send(&mut self, socket: BorrowedFd<'_>, token: Token, bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.immediate.push_back(Completion::Sent { token, payload: Payload::Bytes(bytes), result: Ok(()) });
            return;
        }
        let fd = socket.as_raw_fd();
        let index = self.flight.insert(Flight::Send { token, fd, bytes, sent: 0, prompt: false });
        self.launch(index);
    }

    /// As [`Ring::send`], for bytes that the socket most likely takes at once: then their `Sent` is no event that ends a wait, but
    /// comes with the next turn, whatever that is for. What is not taken at once goes on as any other send. So a loop that has answered
    /// sleeps in the enter that sends, instead of being told what it knows.
    pub fn send_prompt(&mut self, socket: BorrowedFd<'_>, token: Token, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return self.send(socket, token, bytes);
        }
        let fd = socket.as_raw_fd();
        let index = self.flight.insert(Flight::Send { token, fd, bytes, sent: 0, prompt: true });
        self.prompt_queued.push(index);
        self.launch(index);
    }

    /// Sends bytes and the values spliced into them, without copying the values.
    pub fn send_segments(&mut self, socket: BorrowedFd<'_>, token: Token, segments: Segments) {
        if segments.is_empty() {
            let payload = Payload::Segments(segments);
            self.immediate.push_back(Completion::Sent { token, payload, result: Ok(()) });
            return;
        }
        let gather = Gather::new(token, socket.as_raw_fd(), segments);
        let index = self.flight.insert(Flight::Gather(Box::new(gather)));
        self.launch(index);
    }

    /// Closes a connection: everything in flight on it ends, then `Closed` follows. Bytes already in the kernel's send
    /// queue still go out.
    ///
    /// `shutdown(2)` is called at once rather than through the ring: io_uring runs that operation on a worker thread,
    /// and cancelling by descriptor instead would walk all armed operations of the ring.
    pub fn close(&mut self, socket: OwnedFd, token: Token) {
        let fd = socket.into_raw_fd();
        // SAFETY: plain system call on a descriptor we own. ENOTCONN (the peer is gone already) may be ignored: then
        // whatever was in flight has ended by itself.
        unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        self.close_unannounced(fd, token);
    }

    /// Closes a descriptor without ending what is in flight on it: for listeners, which other shards may share, after
    /// [`Ring::cancel_accept`].
    pub fn close_listener(&mut self, listener: OwnedFd, token: Token) {
        self.close_unannounced(listener.into_raw_fd(), token);
    }

    fn close_unannounced(&mut self, fd: RawFd, token: Token) {
        self.push(opcode::Close::new(types::Fd(fd)).build().user_data(pack(KIND_CLOSE, token.0)));
    }

    /// Makes this ring the shard's address on the board: others can wake it, and it can wake them.
    pub fn join(&mut self, board: Arc<PeerBoard>, shard: ShardId) {
        assert!(self.peers.is_none(), "a ring belongs to one shard");
        board.publish(shard, self.io.as_raw_fd());
        self.peers = Some((board, shard));
    }

    /// Rings another shard's bell: its [`Ring::wait`] returns and it sees `Woken`. False when it has no ring (yet, or
    /// any more). Needs [`Ring::join`].
    pub fn wake(&mut self, shard: ShardId) -> bool {
        let (board, _) = self.peers.as_ref().expect("only a ring that has joined the board knows its peers");
        let Some(fd) = board.ring(shard) else {
            return false;
        };
        let entry = opcode::MsgRingData::new(types::Fd(fd), 0, pack(KIND_WOKEN, 0), None).build();
        self.stats.wakes_sent += 1;
        self.push(entry.user_data(pack(KIND_WAKE, 0)).flags(squeue::Flags::SKIP_SUCCESS));
        true
    }

    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build().user_data(pack(KIND_CANCEL, 0));
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
    }

    /// Submits the next step of an operation in `flight`.
    fn launch(&mut self, index: usize) {
        let entry = match &mut self.flight[index] {
            Flight::Send { fd, bytes, sent, prompt, .. } => {
                let rest = &bytes[*sent..];
                let len = rest.len().min(OPERATION_BYTES_MAX) as u32;
                let entry = opcode::Send::new(types::Fd(*fd), rest.as_ptr(), len);
                if *prompt {
                    // `MSG_WAITALL` makes a part that was taken a failure, and so a completion.
                    entry.flags(SEND_FLAGS | libc::MSG_DONTWAIT).build().flags(squeue::Flags::SKIP_SUCCESS)
                } else {
                    entry.flags(SEND_FLAGS).build()
                }
            }
            Flight::Gather(gather) => {
                gather.aim();
                opcode::SendMsg::new(types::Fd(gather.fd), &raw const gather.header).flags(SEND_FLAGS as u32).build()
            }
            Flight::RecvInto { fd, buf, want, got, .. } => {
                let rest = &mut buf.spare_capacity_mut()[..*want - *got];
                let len = rest.len().min(OPERATION_BYTES_MAX) as u32;
                opcode::Recv::new(types::Fd(*fd), rest.as_mut_ptr().cast(), len).flags(libc::MSG_WAITALL).build()
            }
        };
        self.push(entry.user_data(pack(KIND_FLIGHT, index as u64)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() && try_push(&mut self.io, &entry) {
            return;
        }
        // Full: submit what is there without collecting anything, then go on. The kernel may refuse (EBUSY while
        // completions wait to be collected); then the entry waits in the backlog for the next enter.
        self.stats.sq_full += 1;
        self.backlog.push_back(entry);
        self.drain_backlog();
        if !self.backlog.is_empty() && self.enter(0, 0, None).is_ok() {
            self.drain_backlog();
        }
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            if !try_push(&mut self.io, entry) {
                return;
            }
            self.backlog.pop_front();
        }
    }

    // ------------------------------------------------------------------------------------------ entering

    /// Submits everything queued and collects what is complete, without waiting. Costs nothing when there is nothing.
    pub fn poll(&mut self) -> io::Result<()> {
        self.drain_backlog();
        let queue = self.io.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(());
        }
        drop(queue);
        self.turn(0, None)
    }

    /// Submits everything queued and waits until something is complete or the time is over (`None`: no limit).
    /// Returns at once when [`Ring::next`] has something already. Being interrupted by a signal counts as done.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.has_completions() {
            return self.poll();
        }
        match timeout {
            Some(Duration::ZERO) => self.turn(0, None),
            limit => self.turn(1, limit),
        }
    }

    /// Whether [`Ring::next`] would return something without another enter.
    pub fn has_completions(&mut self) -> bool {
        !self.immediate.is_empty() || self.fetched_at < self.fetched.len() || !self.io.completion().is_empty()
    }

    /// Whether there is something to collect: completions, or work the kernel has put off until the next enter.
    pub fn is_ready(&mut self) -> bool {
        self.has_completions() || {
            let queue = self.io.submission();
            queue.taskrun() || queue.cq_overflow()
        }
    }

    fn turn(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let result = self.turn_once(want, timeout);
        if !self.prompt_queued.is_empty() && self.backlog.is_empty() && self.io.submission().is_empty() {
            self.prompt_issued.append(&mut self.prompt_queued);
        }
        result
    }

    fn turn_once(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.grown = false;
        loop {
            self.drain_backlog();
            let more = !self.backlog.is_empty();
            // With a backlog left, first get it in; wait only with the last of it.
            let want_now = if more { 0 } else { want };
            match self.enter(want_now, ENTER_GETEVENTS, timeout) {
                Ok(0) if more => return Ok(()),
                Ok(_) if more => {}
                Ok(_) => return Ok(()),
                Err(error) => {
                    return match error.raw_os_error() {
                        Some(libc::EINTR | libc::ETIME) => Ok(()),
                        // Completions must be collected before the kernel takes more: the caller does that now.
                        Some(libc::EBUSY) => {
                            self.stats.busy += 1;
                            Ok(())
                        }
                        // No memory for requests just now. Everything is still queued; do not burn the core.
                        Some(libc::EAGAIN) => {
                            self.stats.busy += 1;
                            if want > 0 && !self.has_completions() {
                                std::thread::sleep(Duration::from_millis(1));
                            }
                            Ok(())
                        }
                        _ => Err(error),
                    };
                }
            }
        }
    }

    /// One `io_uring_enter` with everything in the submission queue.
    fn enter(&mut self, want: u32, flags: u32, timeout: Option<Duration>) -> io::Result<usize> {
        let submit = self.io.submission().len() as u32;
        let time = timeout.map(types::Timespec::from);
        let args = time.as_ref().map(|time| types::SubmitArgs::new().timespec(time));
        let (extended, arg, size) = match &args {
            Some(args) if want > 0 => {
                (ENTER_EXT_ARG, std::ptr::from_ref(args).cast::<libc::c_void>(), size_of::<types::SubmitArgs<'_, '_>>())
            }
            _ => (0, std::ptr::null(), 0),
        };
        self.stats.enters += 1;
        // SAFETY: 1. `enter_fd` is our ring, by index or descriptor as `enter_flags` says. 2. `arg` is null, or points
        // to arguments (and through them to a timespec) that live until the call returns. 3. the memory named by the
        // entries being submitted is owned by `flight` or `buffers`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                submit,
                want,
                flags | extended | self.enter_flags,
                arg,
                size,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.stats.sqes += result as u64;
        Ok(result as usize)
    }

    // ------------------------------------------------------------------------------------------ completions

    /// The next thing that has happened, if any.
    #[expect(clippy::should_implement_trait, reason = "a for loop over a ring would hold it borrowed")]
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            if self.fetched_at == self.fetched.len() && !self.fetch() {
                return self.immediate.pop_front().or_else(|| self.next_prompt());
            }
            let entry = self.fetched[self.fetched_at].clone();
            self.fetched_at += 1;
            if let Some(completion) = self.translate(&entry) {
                return Some(completion);
            }
        }
    }

    /// What the completion after so many more will have received, if it is known already; nothing if it is of another kind.
    pub fn upcoming(&self, after: usize) -> Option<&[u8]> {
        let entry = self.fetched.get(self.fetched_at + after)?;
        let received = entry.user_data() >> KIND_SHIFT == KIND_RECV && entry.result() > 0;
        let buffer = cqueue::buffer_select(entry.flags()).filter(|_| received);
        Some(buffer.map_or(&[], |id| self.buffers.peek(id, entry.result() as u32)))
    }

    /// A prompt send that went out as a whole: nothing was heard of it, and everything was heard.
    fn next_prompt(&mut self) -> Option<Completion> {
        if self.prompt_issued.is_empty() || self.io.submission().cq_overflow() {
            return None;
        }
        let index = self.prompt_issued.pop()?;
        let Flight::Send { token, bytes, .. } = self.flight.remove(index) else {
            unreachable!("only sends are prompt");
        };
        Some(Completion::Sent { token, payload: Payload::Bytes(bytes), result: Ok(()) })
    }

    /// Fetches completions from the queue in one go, which costs one load and one store for all of them.
    fn fetch(&mut self) -> bool {
        self.fetched.clear();
        self.fetched_at = 0;
        let mut got = self.io.completion().fill(self.fetched.spare_capacity_mut()).len();
        if got == 0 && self.io.submission().cq_overflow() {
            // The kernel keeps what did not fit, and hands it over when asked.
            self.stats.cq_overflow += 1;
            // An error leaves everything where it is, for the next enter.
            if self.enter(0, ENTER_GETEVENTS, None).is_ok() {
                got = self.io.completion().fill(self.fetched.spare_capacity_mut()).len();
            }
        }
        // SAFETY: `fill` has initialised that many entries from the start of the spare capacity, which started at 0.
        unsafe { self.fetched.set_len(got) };
        self.stats.cqes += got as u64;
        got > 0
    }

    fn translate(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (kind, value) = (entry.user_data() >> KIND_SHIFT, entry.user_data() & Token::MAX);
        let result = entry.result();
        match kind {
            KIND_RECV => self.received(Token(value), entry),
            KIND_FLIGHT => self.landed(value as usize, result),
            KIND_ACCEPT => {
                let more = cqueue::more(entry.flags());
                if !more {
                    self.armed -= 1;
                }
                // SAFETY: a fresh descriptor that the kernel made for us; nobody else knows it.
                let result = check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
                Some(Completion::Accepted { token: Token(value), result, more })
            }
            // A failed close (EIO, EINTR) still has released the descriptor.
            KIND_CLOSE => Some(Completion::Closed { token: Token(value) }),
            KIND_WOKEN => {
                self.stats.wakes_received += 1;
                Some(Completion::Woken)
            }
            KIND_WAKE => {
                self.stats.wakes_failed += 1;
                None
            }
            // Nothing was found to cancel: its own completion was faster.
            KIND_CANCEL => None,
            kind => panic!("a completion of kind {kind}, which was never submitted"),
        }
    }

    fn received(&mut self, token: Token, entry: &cqueue::Entry) -> Option<Completion> {
        let more = cqueue::more(entry.flags());
        if !more {
            self.armed -= 1;
        }
        let result = entry.result();
        let taken = cqueue::buffer_select(entry.flags()).map(|id| self.buffers.take(id, result.max(0) as u32));
        match (result, taken) {
            (1.., Some(buffer)) => Some(Completion::Received { token, buffer, more }),
            (1.., None) => panic!("bytes were received into no buffer"),
            (_, taken) => {
                // A buffer that came with the end of the stream is empty: straight back.
                if let Some(buffer) = taken {
                    self.buffers.recycle(buffer);
                }
                assert!(!more, "a receive goes on after its end or an error");
                Some(match -result {
                    0 => Completion::Eof { token },
                    libc::ENOBUFS => {
                        self.stats.enobufs += 1;
                        if !self.grown {
                            self.grown = self.buffers.grow();
                        }
                        Completion::RecvNoBuffers { token }
                    }
                    libc::ECANCELED => Completion::RecvCancelled { token },
                    errno => Completion::RecvFailed { token, error: io::Error::from_raw_os_error(errno) },
                })
            }
        }
    }

    /// A step of an operation in `flight` is over: report it, or launch its next step.
    fn landed(&mut self, index: usize, result: i32) -> Option<Completion> {
        let outcome = check(result);
        let late = match &mut self.flight[index] {
            Flight::Send { prompt, .. } => std::mem::take(prompt),
            _ => false,
        };
        if late {
            self.stats.late_sends += 1;
            self.prompt_queued.retain(|at| *at != index);
            self.prompt_issued.retain(|at| *at != index);
        }
        // Of a send that was to wait, EAGAIN means a socket in non-blocking mode, and trying again would spin.
        let again = matches!(&outcome, Err(error)
            if error.raw_os_error() == Some(libc::EINTR) || (late && error.raw_os_error() == Some(libc::EAGAIN)));
        let (step, failed) = match outcome {
            Ok(bytes) => (bytes, None),
            Err(_) if again => (0, None),
            Err(error) => (0, Some(error)),
        };
        let over = match &mut self.flight[index] {
            Flight::Send { bytes, sent, .. } => {
                *sent += step;
                assert!(*sent <= bytes.len(), "the kernel sent more than there was");
                *sent == bytes.len()
            }
            Flight::Gather(gather) => {
                gather.unsent.advance(step);
                gather.unsent.left() == 0
            }
            Flight::RecvInto { buf, want, got, cancelled, .. } => {
                *got += step;
                assert!(*got <= *want, "the kernel received more than was wanted");
                // SAFETY: the kernel has written `step` bytes behind `len`, into capacity that was reserved.
                unsafe { buf.set_len(buf.len() + step) };
                *got == *want || *cancelled || (step == 0 && !again)
            }
        };
        if !over && failed.is_none() {
            // Zero bytes for a send that has bytes left is no progress; treating it as short would spin.
            let stuck = step == 0 && !again;
            if !stuck {
                if !matches!(self.flight[index], Flight::RecvInto { .. }) {
                    self.stats.short_sends += 1;
                }
                self.launch(index);
                return None;
            }
        }
        let flight = self.flight.remove(index);
        let sent = |failed| match failed {
            Some(error) => Err(error),
            None if over => Ok(()),
            None => Err(io::Error::from(io::ErrorKind::WriteZero)),
        };
        Some(match flight {
            Flight::Send { token, bytes, .. } => {
                Completion::Sent { token, payload: Payload::Bytes(bytes), result: sent(failed) }
            }
            Flight::Gather(gather) => {
                let token = gather.token;
                let payload = Payload::Segments(gather.unsent.into_segments());
                Completion::Sent { token, payload, result: sent(failed) }
            }
            Flight::RecvInto { token, buf, got, .. } => {
                let result = match failed {
                    Some(error) if error.raw_os_error() != Some(libc::ECANCELED) => Err(error),
                    _ => Ok(got),
                };
                Completion::ReceivedInto { token, buf, result }
            }
        })
    }

    // ------------------------------------------------------------------------------------------ eventfd

    /// Lets completions count up `eventfd` while [`Ring::announce`] is on. Starts switched off.
    pub(super) fn attach_eventfd(&mut self, eventfd: RawFd) -> io::Result<()> {
        assert!(!self.eventfd_attached, "a ring has one eventfd");
        self.io.submitter().register_eventfd(eventfd)?;
        self.eventfd_attached = true;
        self.announce(false);
        Ok(())
    }

    /// Whether an eventfd is attached.
    pub(super) fn announces(&self) -> bool {
        self.eventfd_attached
    }

    /// Switches the eventfd on or off: a store to shared memory, no system call.
    pub(super) fn announce(&mut self, on: bool) {
        let queue = self.io.completion();
        if on {
            queue.enable_eventfd();
        } else {
            queue.disable_eventfd();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Some((board, shard)) = self.peers.take() {
            board.withdraw(shard);
        }
        let deadline = Instant::now() + DROP_PATIENCE;
        let everything = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.push(everything.user_data(pack(KIND_CANCEL, 0)));
        loop {
            // Bytes, buffers and accepted sockets that arrive now go back or are closed as they are dropped. A failed
            // wait leaves memory behind, which the leak below covers.
            let failed = self.wait(Some(Duration::from_millis(10))).is_err();
            while let Some(completion) = self.next() {
                if let Completion::Received { buffer, .. } = completion {
                    self.buffers.recycle(buffer);
                }
            }
            if self.flight.is_empty() && self.armed == 0 {
                break;
            }
            if failed || Instant::now() > deadline {
                mem::forget(mem::take(&mut self.flight));
                mem::forget(Rc::clone(&self.buffers));
                return;
            }
            // Whatever was launched again by a short step since.
            let everything = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
            self.push(everything.user_data(pack(KIND_CANCEL, 0)));
        }
        if self.io.submitter().unregister_buf_ring(BUFFER_GROUP).is_err() {
            mem::forget(Rc::clone(&self.buffers));
        }
        if self.enter_flags & ENTER_REGISTERED_RING != 0 {
            unregister_ring_fd(self.io.as_raw_fd(), self.enter_fd);
        }
    }
}

const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Completions fetched at once.
const FETCH: usize = 64;

// Values of the kernel's interface (include/uapi/linux/io_uring.h).
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

/// `struct io_uring_rsrc_update`: which slot, and which descriptor goes there.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

fn register_ring_fd(ring: RawFd) -> io::Result<i32> {
    let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, data: ring as u64 };
    // SAFETY: one update, which outlives the call; the kernel writes the chosen slot into `offset`.
    let done = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_RING_FDS, &raw mut update, 1) };
    if done == 1 { Ok(update.offset as i32) } else { Err(io::Error::last_os_error()) }
}

fn unregister_ring_fd(ring: RawFd, index: i32) {
    let mut update = RingFdUpdate { offset: index as u32, reserved: 0, data: 0 };
    // SAFETY: as above. A failure leaves the slot taken until the thread ends, which is all it could do.
    unsafe { libc::syscall(libc::SYS_io_uring_register, ring, UNREGISTER_RING_FDS, &raw mut update, 1) };
}

fn try_push(io: &mut IoUring, entry: &squeue::Entry) -> bool {
    // SAFETY: memory named by the entry stays valid until its completion: it is in `Ring::flight` or belongs to the
    // buffer ring, and both outlive the operation (see `Drop`).
    unsafe { io.submission().push(entry) }.is_ok()
}

fn pack(kind: u64, value: u64) -> u64 {
    debug_assert!(value <= Token::MAX, "56 bits");
    kind << KIND_SHIFT | value
}

fn check(result: i32) -> io::Result<usize> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) }
}
