//! The machine: everything that talks to the kernel, to a clock or to another core lives here and nowhere else.
//!
//! ```text
//!   probe      may we run at all, and what does this kernel offer        (before anything starts)
//!   executor   one pinned thread per shard, with a glommio executor      background  low-share tasks beside the loop
//!   ring       the shard's own io_uring for sockets                      buffers     what it receives into
//!   completion what the ring reports                                    segments    large values sent without a copy
//!   mesh       bounded mailboxes between shards                          peers       how a shard rings another's bell
//!   park       how a shard waits: in its ring, or inside glommio
//!   socket     listeners, addresses, socket options                      disk        files, and what is durable when
//!   crash      what is said when the process dies           service   who started it: systemd, a daemon's parent
//!   clock signals entropy process memory            owned_file  the configuration file, replaced
//! ```
//!
//! One turn of a shard's loop, as the net layer writes it:
//!
//! ```text
//!   loop {
//!       now = clock.now();
//!       while let Some(completion) = ring.next() { ... run commands, queue sends ... }
//!       while let Some((from, mail)) = endpoint.next() { ... run hops, place replies ... }
//!       endpoint.notify(|shard| ring.wake(shard));          // publish what was sent to others
//!       parker.park(&mut ring, &endpoint, timeout).await?;  // submits everything, waits if there is nothing to do
//!   }
//! ```
//!
//! Invariant: a [`ring::Ring`], a [`park::Parker`] and a [`mesh::Endpoint`] belong to one shard and stay on its thread.
//! Absent on purpose: any knowledge of RESP, keys or connections. glommio's sockets and channels are not used: they
//! are readiness-style (see `io_uring_notes.md`), and its channel mesh has no room set aside for replies.

pub mod background;
pub mod buffers;
pub mod clock;
pub mod completion;
pub mod crash;
pub mod disk;
pub mod entropy;
pub mod executor;
pub mod http;
pub mod memory;
pub mod mesh;
pub mod owned_file;
pub mod park;
pub mod peers;
pub mod probe;
pub mod process;
pub mod ring;
pub mod segments;
pub mod service;
pub mod signals;
pub mod socket;

pub use buffers::{Buffer, BufferRing};
pub use clock::Clock;
pub use mesh::{Endpoint, Inbox, Mail, Mesh};
pub use park::Parker;
pub use peers::PeerBoard;
pub use ring::{Completion, Payload, Ring, RingConfig, RingStats, Segments, Token};
