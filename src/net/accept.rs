//! Accepting connections and dealing them out, on shard 0.
//!
//! One core accepts for all: with SO_REUSEPORT the kernel would spread connections by a hash, which leaves cores idle when
//! clients are few (8 connections on 4 cores miss one core four times in ten). A new connection goes to the core that has the
//! fewest, or, if it came through a shard's own port (`cluster-shard-nodes`), to that shard. The accepting core counts; the others tell
//! it when a connection is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::base::ShardId;

/// What connections speak before they speak RESP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Nothing, over TCP.
    Tcp,
    /// TLS, over TCP.
    Tls,
    /// Nothing, over a Unix socket.
    Unix,
}

/// A socket that listens.
pub struct Listener {
    /// The descriptor.
    pub socket: OwnedFd,
    /// What it listens on, for the log and for CLIENT LIST of Unix-socket clients.
    pub name: String,
    /// What its connections speak.
    pub transport: Transport,
    /// The shard that serves whoever connects here, as a node of a cluster; none deals them out.
    pub node: Option<ShardId>,
}

impl Listener {
    /// Whether CONFIG SET of port, tls-port and bind concerns it, as one of this kind.
    fn moves_as(&self, transport: Transport) -> bool {
        self.transport == transport && self.node.is_none()
    }
}

/// Time after a failed accept (no descriptors left, no memory) before the next try. Milliseconds. Clients that are being
/// served notice nothing; the kernel's backlog holds new ones meanwhile.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// The books of shard 0.
pub struct Acceptor {
    /// All listeners; a listener's number is its place, which is empty when it has gone.
    pub listeners: Vec<Option<Listener>>,
    /// Listeners that failed, and the monotonic time from which on they are to be tried again, in microseconds.
    pub retry_at_us: Option<u64>,
    /// Whether a listener is armed, by number.
    pub armed: Vec<bool>,
    /// Whether it is to go as soon as it is not armed any more, by number.
    retired: Vec<bool>,
    next_id: u64,
}

impl Acceptor {
    /// Books for these listeners.
    pub fn new(listeners: Vec<Listener>) -> Acceptor {
        let mut acceptor =
            Acceptor { listeners: Vec::new(), retry_at_us: None, armed: Vec::new(), retired: Vec::new(), next_id: 0 };
        acceptor.add(listeners);
        acceptor
    }

    fn add(&mut self, listeners: impl IntoIterator<Item = Listener>) {
        self.listeners.extend(listeners.into_iter().map(Some));
        self.armed.resize(self.listeners.len(), false);
        self.retired.resize(self.listeners.len(), false);
    }

    /// The sockets of all listeners of one kind, but for those of nodes.
    pub fn sockets(&self, transport: Transport) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listeners = self.listeners.iter().flatten().filter(move |listener| listener.moves_as(transport));
        listeners.map(|listener| listener.socket.as_fd())
    }

    /// These take the place of those, which listen no more and go when nothing is in flight on them.
    pub fn move_to(&mut self, transport: Transport, next: impl IntoIterator<Item = Listener>) {
        for number in 0..self.listeners.len() {
            if self.listeners[number].as_ref().is_some_and(|listener| listener.moves_as(transport)) {
                self.retired[number] = true;
                self.let_go(number);
            }
        }
        self.add(next);
    }

    /// Nothing is in flight on a listener any more. Whether it stays.
    pub fn disarmed(&mut self, number: usize) -> bool {
        self.armed[number] = false;
        self.let_go(number);
        self.listeners[number].is_some()
    }

    fn let_go(&mut self, number: usize) {
        if self.retired[number] && !self.armed[number] {
            self.listeners[number] = None;
        }
    }

    /// The next client's number.
    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// The shard with the fewest connections; of equals the first.
pub fn least_loaded(connections: &[u32]) -> ShardId {
    let least = connections.iter().enumerate().min_by_key(|(_, n)| **n).map_or(0, |(shard, _)| shard);
    ShardId(least as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_connections_leave_none_of_four_shards_idle() {
        let mut counts = [0u32; 4];
        for _ in 0..8 {
            counts[least_loaded(&counts).index()] += 1;
        }
        assert_eq!(counts, [2, 2, 2, 2]);
    }

    #[test]
    fn a_shard_that_lost_connections_gets_the_next_ones() {
        let mut counts = [5u32, 1, 5, 5];
        for _ in 0..4 {
            counts[least_loaded(&counts).index()] += 1;
        }
        assert_eq!(counts, [5, 5, 5, 5]);
    }
}
