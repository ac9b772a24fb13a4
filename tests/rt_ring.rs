//! The shard's ring against real sockets: what arrives is what was sent, whatever sizes, speeds and cut connections the
//! clients come with, and afterwards every buffer and every descriptor is back.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::base::ShardId;
use annulus::base::rng::Rng;
use annulus::rt::ring::Setup;
use annulus::rt::socket::{Address, TcpOptions, bind_tcp};
use annulus::rt::{Completion, Payload, PeerBoard, Ring, RingConfig, RingStats, Segments, Token, process};

const SMALL: RingConfig = RingConfig { entries: 8, cq_entries: 16, buffers: 8, buffer_bytes: 4096, buffers_first: 2 };

/// Descriptors and memory are counted per process: the tests of this file take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits for the next completion, at most five seconds.
fn next(ring: &mut Ring) -> Completion {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(completion) = ring.next() {
            return completion;
        }
        assert!(Instant::now() < deadline, "nothing completes: {:?}", ring.stats());
        ring.wait(Some(Duration::from_millis(100))).unwrap();
    }
}

fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), theirs)
}

// ------------------------------------------------------------------------------------------------ an echo server

struct Conn {
    socket: Option<OwnedFd>,
    out: Vec<u8>,
    spare: Vec<u8>,
    sending: bool,
    receiving: bool,
    finished: bool,
}

/// An echo server over one ring. Closes a connection when its client has finished sending and everything is echoed.
struct Echo {
    ring: Ring,
    conns: HashMap<u64, Conn>,
    next_token: u64,
    accepted: usize,
    closed: usize,
    blob_echo: bool,
}

const LISTENER: u64 = 0;

impl Echo {
    fn run(config: RingConfig, setups: &[Setup], listener: OwnedFd, clients: usize, blob_echo: bool) -> RingStats {
        let ring = Ring::with_setups(config, setups).unwrap();
        let mut echo = Echo { ring, conns: HashMap::new(), next_token: 1, accepted: 0, closed: 0, blob_echo };
        echo.ring.accept_multi(listener.as_fd(), Token::new(LISTENER));
        let deadline = Instant::now() + Duration::from_secs(60);
        while echo.closed < clients {
            assert!(Instant::now() < deadline, "{} of {clients} closed, {:?}", echo.closed, echo.ring.stats());
            echo.ring.wait(Some(Duration::from_millis(500))).unwrap();
            let mut dirty = Vec::new();
            while let Some(completion) = echo.ring.next() {
                echo.handle(completion, &mut dirty, listener.as_fd());
            }
            dirty.sort_unstable();
            dirty.dedup();
            for id in dirty {
                echo.flush(id);
            }
        }
        assert_eq!(echo.accepted, clients);
        // The listener is still armed; everything else is over once what was cancelled by closing has come in.
        let deadline = Instant::now() + Duration::from_secs(5);
        while echo.ring.in_flight() > 0 || echo.ring.armed() > 1 {
            assert!(Instant::now() < deadline, "{} in flight, {} armed", echo.ring.in_flight(), echo.ring.armed());
            echo.ring.wait(Some(Duration::from_millis(20))).unwrap();
            while let Some(completion) = echo.ring.next() {
                if let Completion::Received { buffer, .. } = completion {
                    echo.ring.buffers().recycle(buffer);
                }
            }
        }
        let (offered, held, resting) = echo.ring.buffers().hands();
        assert_eq!(held, 0, "every buffer is back");
        assert_eq!(offered + resting, config.buffers);
        echo.ring.cancel_accept(Token::new(LISTENER));
        loop {
            if let Completion::Accepted { result: Err(error), more: false, .. } = next(&mut echo.ring) {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                break;
            }
        }
        echo.ring.close_listener(listener, Token::new(LISTENER));
        assert!(matches!(next(&mut echo.ring), Completion::Closed { .. }));
        echo.ring.stats()
    }

    fn handle(&mut self, completion: Completion, dirty: &mut Vec<u64>, listener: std::os::fd::BorrowedFd<'_>) {
        match completion {
            Completion::Accepted { result, more, .. } => {
                let socket = result.unwrap();
                let token = self.next_token;
                self.next_token += 1;
                self.accepted += 1;
                self.ring.recv_multi(socket.as_fd(), Token::new(token));
                let conn = Conn {
                    socket: Some(socket),
                    out: Vec::new(),
                    spare: Vec::new(),
                    sending: false,
                    receiving: true,
                    finished: false,
                };
                self.conns.insert(token, conn);
                if !more {
                    self.ring.accept_multi(listener, Token::new(LISTENER));
                }
            }
            Completion::Received { token, buffer, more } => {
                let buffers = self.ring.buffers();
                if let Some(conn) = self.conns.get_mut(&token.value()) {
                    conn.out.extend_from_slice(buffers.bytes(&buffer));
                    conn.receiving = more;
                    dirty.push(token.value());
                }
                buffers.recycle(buffer);
            }
            Completion::Eof { token } | Completion::RecvFailed { token, .. } => {
                if let Some(conn) = self.conns.get_mut(&token.value()) {
                    // Armed again below otherwise.
                    conn.receiving = true;
                    conn.finished = true;
                    dirty.push(token.value());
                }
            }
            Completion::RecvNoBuffers { token } | Completion::RecvCancelled { token } => {
                if let Some(conn) = self.conns.get_mut(&token.value()) {
                    conn.receiving = false;
                    dirty.push(token.value());
                }
            }
            Completion::Sent { token, payload, result } => {
                if let Some(conn) = self.conns.get_mut(&token.value()) {
                    conn.sending = false;
                    if let Payload::Bytes(mut bytes) = payload {
                        bytes.clear();
                        conn.spare = bytes;
                    }
                    if result.is_err() {
                        conn.finished = true;
                        conn.out.clear();
                    }
                    dirty.push(token.value());
                }
            }
            Completion::Closed { .. } => self.closed += 1,
            Completion::ReceivedInto { .. } | Completion::Woken => panic!("{completion:?}"),
        }
    }

    fn flush(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let socket = conn.socket.as_ref().unwrap();
        if !conn.receiving && !conn.finished {
            conn.receiving = true;
            self.ring.recv_multi(socket.as_fd(), Token::new(id));
        }
        if conn.sending {
            return;
        }
        if conn.out.is_empty() {
            if conn.finished {
                let socket = self.conns.remove(&id).unwrap().socket.unwrap();
                self.ring.close(socket, Token::new(id));
            }
            return;
        }
        conn.sending = true;
        let bytes = std::mem::replace(&mut conn.out, std::mem::take(&mut conn.spare));
        if !self.blob_echo && !conn.finished && bytes.len() % 2 == 1 {
            // Nothing depends on hearing of it soon: there is more to come.
            self.ring.send_prompt(socket.as_fd(), Token::new(id), bytes);
        } else if self.blob_echo {
            self.ring.send_segments(socket.as_fd(), Token::new(id), cut_into_segments(bytes, id));
        } else {
            self.ring.send(socket.as_fd(), Token::new(id), bytes);
        }
    }
}

/// The same bytes, every other stretch of them as a blob.
fn cut_into_segments(bytes: Vec<u8>, seed: u64) -> Segments {
    let mut rng = Rng::seed(seed);
    let mut segments = Segments::default();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + rng.below(700) as usize));
        rest = behind;
        if rng.chance(1, 2) {
            segments.blobs.push((segments.bytes.len(), Arc::new(piece.to_vec())));
        } else {
            segments.bytes.extend_from_slice(piece);
        }
    }
    assert_eq!(segments.len(), bytes.len());
    segments
}

/// One client: sends random bytes in random pieces, reads them back slowly or fast, or cuts the connection half-way.
fn client(address: SocketAddr, seed: u64, bytes_max: u64) {
    let mut rng = Rng::seed(seed);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length_max = if rng.chance(1, 4) { bytes_max } else { 3000 };
    let length = 1 + rng.below(length_max) as usize;
    let mut sent = vec![0; length];
    rng.fill(&mut sent);
    let cut = rng.chance(1, 4).then(|| rng.below(length as u64) as usize);
    let abort = rng.chance(1, 2);
    let slow = rng.chance(1, 4);

    let mut writer = stream.try_clone().unwrap();
    let to_send = sent[..cut.unwrap_or(length)].to_vec();
    let mut pieces = Rng::seed(seed ^ 1);
    let writing = thread::spawn(move || {
        let mut rest = &to_send[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(1 + pieces.below(60_000) as usize));
            if writer.write_all(piece).is_err() {
                return;
            }
            rest = behind;
            if pieces.chance(1, 20) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        if cut.is_none() {
            writer.shutdown(Shutdown::Write).unwrap();
        }
    });
    if cut.is_some() {
        let mut some = vec![0; 1 + rng.below(2000) as usize];
        // Reads a little of it or nothing, then leaves: half of the time with unread bytes, which resets.
        if !abort {
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let _ = stream.read(&mut some);
        }
        stream.shutdown(Shutdown::Both).ok();
        writing.join().unwrap();
        return;
    }
    let mut got = Vec::with_capacity(length);
    let mut chunk = vec![0; if slow { 2048 } else { 65_536 }];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&chunk[..n]),
            Err(error) => panic!("seed {seed}: after {} of {length} bytes: {error}", got.len()),
        }
        if slow && got.len() % 7 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    writing.join().unwrap();
    assert!(got == sent, "seed {seed}: {} bytes came back of {length}", got.len());
}

fn listen() -> (OwnedFd, SocketAddr) {
    let options = TcpOptions { backlog: 511, keepalive_secs: 300, share_port: false };
    let listener = bind_tcp(&["127.0.0.1"], 0, options).unwrap().remove(0);
    let Address::Tcp(address) = listener.address else { panic!("a TCP listener") };
    (listener.socket, address)
}

fn echo_storm(config: RingConfig, setups: &'static [Setup], clients: usize, bytes_max: u64, blobs: bool) -> RingStats {
    let seed = 0x5eed + u64::from(config.buffers) + clients as u64;
    println!("seed {seed}");
    let before = process::open_descriptors();
    let (listener, address) = listen();
    let server = thread::spawn(move || Echo::run(config, setups, listener, clients, blobs));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            thread::spawn(move || {
                for n in (worker..clients).step_by(8) {
                    client(address, seed * 1000 + n as u64, bytes_max);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let stats = server.join().unwrap();
    println!("{stats:?}");
    assert_eq!(process::open_descriptors(), before, "every descriptor is closed");
    stats
}

#[test]
fn many_clients_get_back_what_they_sent() {
    let _turn = turn();
    let stats = echo_storm(RingConfig::default(), &[Setup::DeferTaskrun], 200, 2_000_000, false);
    assert!(stats.enters > 0 && stats.sqes > 0 && stats.cqes > 0);
}

#[test]
fn many_clients_get_back_what_they_sent_as_spliced_segments() {
    let _turn = turn();
    echo_storm(RingConfig::default(), &[Setup::DeferTaskrun], 100, 1_000_000, true);
}

#[test]
fn a_tiny_ring_with_tiny_buffers_loses_nothing() {
    let _turn = turn();
    let stats = echo_storm(SMALL, &[Setup::DeferTaskrun], 120, 300_000, false);
    assert!(stats.enobufs > 0, "8 buffers were meant to run out");
}

#[test]
fn older_ring_setups_serve_the_same() {
    let _turn = turn();
    for setup in [&[Setup::SingleIssuer], &[Setup::CoopTaskrun], &[Setup::Plain]] {
        echo_storm(RingConfig::default(), setup, 40, 500_000, false);
        echo_storm(SMALL, setup, 40, 100_000, true);
    }
}

// ------------------------------------------------------------------------------------------------ one thing at a time

#[test]
fn a_full_submission_queue_loses_no_entry() {
    let _turn = turn();
    let mut ring = Ring::new(SMALL).unwrap();
    let pairs: Vec<_> = (0..200).map(|_| pair()).collect();
    for (id, (ours, _)) in pairs.iter().enumerate() {
        ring.send(ours.as_fd(), Token::new(id as u64), vec![id as u8; 3]);
    }
    let mut sent = vec![false; pairs.len()];
    for _ in &pairs {
        let Completion::Sent { token, result: Ok(()), .. } = next(&mut ring) else { panic!("sent") };
        assert!(!std::mem::replace(&mut sent[token.value() as usize], true), "once each");
    }
    assert!(ring.stats().sq_full > 0 && ring.stats().sqes == 200, "{:?}", ring.stats());
    for (id, (_, mut theirs)) in pairs.into_iter().enumerate() {
        let mut got = [0; 3];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got, [id as u8; 3]);
    }
}

#[test]
fn an_overflowing_completion_queue_loses_no_completion() {
    let _turn = turn();
    let config = RingConfig { entries: 64, cq_entries: 64, buffers: 1024, buffer_bytes: 4096, buffers_first: 1024 };
    let mut ring = Ring::new(config).unwrap();
    let buffers = ring.buffers();
    let mut pairs: Vec<_> = (0..300).map(|_| pair()).collect();
    for (id, (ours, _)) in pairs.iter().enumerate() {
        ring.recv_multi(ours.as_fd(), Token::new(id as u64));
    }
    ring.poll().unwrap();
    for (_, theirs) in &mut pairs {
        theirs.write_all(b"x").unwrap();
    }
    // Everything completes at once, with room for 64.
    ring.wait(None).unwrap();
    let mut got = vec![0; pairs.len()];
    while got.contains(&0) {
        match next(&mut ring) {
            Completion::Received { token, buffer, more } => {
                got[token.value() as usize] += buffer.len();
                buffers.recycle(buffer);
                // The kernel ends a multishot whose completion did not fit; the bytes are there.
                if !more {
                    ring.recv_multi(pairs[token.value() as usize].0.as_fd(), token);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got.iter().all(|&bytes| bytes == 1));
    println!("{:?}", ring.stats());
}

#[test]
fn a_receive_that_finds_no_buffer_is_armed_again_and_gets_everything() {
    let _turn = turn();
    let config = RingConfig { buffers: 4, buffer_bytes: 4096, buffers_first: 1, ..RingConfig::default() };
    let mut ring = Ring::new(config).unwrap();
    let buffers = ring.buffers();
    let (ours, mut theirs) = pair();
    let token = Token::new(9);
    theirs.write_all(&vec![7; 100_000]).unwrap();
    ring.recv_multi(ours.as_fd(), token);
    let (mut got, mut dry) = (0, 0);
    while got < 100_000 {
        match next(&mut ring) {
            Completion::Received { buffer, more, .. } => {
                assert!(buffers.bytes(&buffer).iter().all(|&byte| byte == 7));
                got += buffer.len();
                buffers.recycle(buffer);
                if !more {
                    ring.recv_multi(ours.as_fd(), token);
                }
            }
            Completion::RecvNoBuffers { .. } => {
                dry += 1;
                ring.recv_multi(ours.as_fd(), token);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(dry > 0 && ring.stats().enobufs == dry);
    assert_eq!(buffers.hands().1, 0);
    assert_eq!(buffers.hands().0, 4, "all of them circulate after the shortage");
    buffers.trim();
    for _ in 0..4 {
        theirs.write_all(b"y").unwrap();
        match next(&mut ring) {
            Completion::Received { buffer, more, .. } => {
                buffers.recycle(buffer);
                if !more {
                    ring.recv_multi(ours.as_fd(), token);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(buffers.hands(), (1, 0, 3), "after trimming, one circulates again");
    theirs.write_all(b"z").unwrap();
    assert!(matches!(next(&mut ring), Completion::Received { .. } | Completion::RecvNoBuffers { .. }));
}

#[test]
fn buffers_that_were_never_needed_are_not_resident() {
    let _turn = turn();
    let before = process::resident_bytes();
    let config = RingConfig { buffers: 8192, buffer_bytes: 16 * 1024, buffers_first: 16, ..RingConfig::default() };
    let mut ring = Ring::new(config).unwrap();
    let buffers = ring.buffers();
    let (ours, mut theirs) = pair();
    ring.recv_multi(ours.as_fd(), Token::new(1));
    for _ in 0..5000 {
        theirs.write_all(b"PING\r\n").unwrap();
        let Completion::Received { buffer, more: true, .. } = next(&mut ring) else { panic!("received") };
        buffers.recycle(buffer);
    }
    let grown = process::resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "128 MiB of buffers, 16 in use: {grown} bytes became resident");
}

#[test]
fn a_large_value_is_received_straight_into_its_own_memory() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, mut theirs) = pair();
    let mut value = vec![0; 8_000_000];
    Rng::seed(4).fill(&mut value);
    let expected = value.clone();
    let writing = thread::spawn(move || {
        for piece in value.chunks(77_777) {
            theirs.write_all(piece).unwrap();
        }
        theirs.write_all(b"rest").unwrap();
        theirs
    });
    let mut buf = Vec::with_capacity(8_000_100);
    buf.extend_from_slice(b"head");
    let place = buf.as_ptr();
    ring.recv_into(ours.as_fd(), Token::new(5), buf, 8_000_000);
    let Completion::ReceivedInto { token, buf, result } = next(&mut ring) else { panic!("received into") };
    assert_eq!((token.value(), result.unwrap(), buf.as_ptr()), (5, 8_000_000, place));
    assert!(&buf[..4] == b"head" && buf[4..] == expected[..]);

    // The end of the stream comes short.
    drop(writing.join().unwrap());
    ring.recv_into(ours.as_fd(), Token::new(5), Vec::new(), 100);
    let Completion::ReceivedInto { buf, result, .. } = next(&mut ring) else { panic!("received into") };
    assert_eq!((&buf[..], result.unwrap()), (&b"rest"[..], 4));
}

#[test]
fn a_cancelled_receive_into_memory_gives_back_what_has_arrived() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"abc").unwrap();
    ring.recv_into(ours.as_fd(), Token::new(5), Vec::new(), 1000);
    ring.poll().unwrap();
    assert!(ring.next().is_none());
    ring.cancel_recv_into(Token::new(5));
    let Completion::ReceivedInto { buf, result, .. } = next(&mut ring) else { panic!("received into") };
    assert_eq!((&buf[..], result.unwrap()), (&b"abc"[..], 3));
}

#[test]
fn a_cancelled_multishot_says_so_after_what_came_before() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, mut theirs) = pair();
    let token = Token::new(Token::MAX);
    ring.recv_multi(ours.as_fd(), token);
    ring.poll().unwrap();
    theirs.write_all(b"before").unwrap();
    ring.cancel_recv(token);
    let mut got = Vec::new();
    loop {
        match next(&mut ring) {
            Completion::Received { buffer, .. } => {
                got.extend_from_slice(ring.buffers().bytes(&buffer));
                ring.buffers().recycle(buffer);
            }
            Completion::RecvCancelled { token: cancelled } => {
                assert_eq!(cancelled, token);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // Whatever was not received before the end is still in the socket.
    ring.recv_into(ours.as_fd(), token, got, 6 - "before".len().min(6));
    let Completion::ReceivedInto { mut buf, .. } = next(&mut ring) else { panic!("received into") };
    if buf.is_empty() {
        ring.recv_into(ours.as_fd(), token, buf, 6);
        let Completion::ReceivedInto { buf: rest, .. } = next(&mut ring) else { panic!("received into") };
        buf = rest;
    }
    assert_eq!(buf, b"before");
    // Nothing is armed: cancelling again is silence.
    ring.cancel_recv(token);
    ring.wait(Some(Duration::from_millis(20))).unwrap();
    assert!(ring.next().is_none());
}

#[test]
fn a_reader_that_stops_reading_holds_the_send_until_it_reads_or_is_closed() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, mut theirs) = pair();
    let megabytes = vec![3; 5_000_000];
    ring.send(ours.as_fd(), Token::new(1), megabytes.clone());
    ring.wait(Some(Duration::from_millis(30))).unwrap();
    assert!(ring.next().is_none() && ring.in_flight() == 1);
    let reading = thread::spawn(move || {
        let mut got = vec![0; 5_000_000];
        theirs.read_exact(&mut got).unwrap();
        (got, theirs)
    });
    let Completion::Sent { payload: Payload::Bytes(bytes), result, .. } = next(&mut ring) else { panic!("sent") };
    result.unwrap();
    let (got, theirs) = reading.join().unwrap();
    assert!(got == bytes && got == megabytes);

    // The second time it is cut off: memory and token come back with an error.
    let blob = Arc::new(vec![4; 5_000_000]);
    let segments = Segments { bytes: b"$5000000\r\n\r\n".to_vec(), blobs: vec![(10, Arc::clone(&blob))] };
    ring.send_segments(ours.as_fd(), Token::new(2), segments);
    ring.recv_multi(ours.as_fd(), Token::new(2));
    ring.wait(Some(Duration::from_millis(30))).unwrap();
    assert!(ring.next().is_none() && Arc::strong_count(&blob) == 2);
    ring.close(ours, Token::new(2));
    let (mut sent, mut closed, mut ended) = (false, false, false);
    while !(sent && closed && ended) {
        match next(&mut ring) {
            Completion::Sent { result: Err(_), .. } => sent = true,
            Completion::Closed { .. } => closed = true,
            Completion::Eof { .. } | Completion::RecvFailed { .. } => ended = true,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(Arc::strong_count(&blob), 1);
    drop(theirs);
}

#[test]
fn a_prompt_send_ends_no_wait_and_is_told_of_with_the_next_turn() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, mut theirs) = pair();
    ring.send_prompt(ours.as_fd(), Token::new(1), b"hello".to_vec());
    assert!(ring.next().is_none(), "it has not been submitted");
    assert_eq!(ring.in_flight(), 1);
    ring.wait(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(ring.stats().cqes, 0);
    assert!(!ring.has_completions(), "and so a loop would go on sleeping");
    let Some(Completion::Sent { token, payload: Payload::Bytes(bytes), result }) = ring.next() else { panic!("sent") };
    result.unwrap();
    assert_eq!((token, &bytes[..], ring.in_flight()), (Token::new(1), &b"hello"[..], 0));
    let mut got = [0; 5];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    assert!(ring.next().is_none());
    assert_eq!(ring.stats().late_sends, 0);
}

#[test]
fn prompt_sends_that_the_socket_does_not_take_at_once_arrive_whole_and_in_order() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (listener, address) = listen();
    let mut theirs = TcpStream::connect(address).unwrap();
    let (ours, _) = std::net::TcpListener::from(listener).accept().unwrap();
    let ours = OwnedFd::from(ours);
    let piece = |number: u32| -> Vec<u8> { (0..40_001u32).map(|at| (number.wrapping_mul(31) ^ at) as u8).collect() };
    // Nobody reads: the socket takes some of them, then a part of one, then none.
    let mut sent = 0;
    let mut told = 0;
    let mut pending = false;
    while ring.stats().late_sends == 0 {
        assert!(sent < 10_000, "the socket takes everything");
        ring.send_prompt(ours.as_fd(), Token::new(1), piece(sent));
        (sent, pending) = (sent + 1, true);
        ring.poll().unwrap();
        while let Some(Completion::Sent { result, .. }) = ring.next() {
            result.unwrap();
            (told, pending) = (told + 1, false);
        }
    }
    assert!(pending, "what was not taken is not said to be sent");
    let reading = thread::spawn(move || {
        for number in 0..sent + 1 {
            let mut got = vec![0; 40_001];
            theirs.read_exact(&mut got).unwrap();
            assert!(got == piece(number), "piece {number} of {sent}");
        }
    });
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(()), .. }));
    assert_eq!(told + 1, sent);
    ring.send(ours.as_fd(), Token::new(1), piece(sent));
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(()), .. }));
    reading.join().unwrap();
    assert_eq!((ring.stats().late_sends, ring.in_flight()), (1, 0));
}

#[test]
fn sending_to_a_peer_that_has_gone_is_an_error_and_no_signal() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, theirs) = pair();
    drop(theirs);
    ring.send(ours.as_fd(), Token::new(1), b"hello".to_vec());
    let Completion::Sent { result: Err(error), .. } = next(&mut ring) else { panic!("not sent") };
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    ring.send_prompt(ours.as_fd(), Token::new(1), b"hello".to_vec());
    let Completion::Sent { result: Err(error), .. } = next(&mut ring) else { panic!("not sent") };
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    // Nothing to send is done at once.
    ring.send(ours.as_fd(), Token::new(2), Vec::with_capacity(10));
    ring.send_segments(ours.as_fd(), Token::new(3), Segments::default());
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(()), .. }));
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(()), .. }));
}

#[test]
fn a_thousand_blobs_in_one_reply_arrive_in_their_places() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let (ours, mut theirs) = pair();
    let mut segments = Segments::default();
    let mut expected = Vec::new();
    for n in 0..1000usize {
        let blob = Arc::new(vec![n as u8; n]);
        segments.bytes.extend_from_slice(format!("${n}\r\n").as_bytes());
        expected.extend_from_slice(format!("${n}\r\n").as_bytes());
        segments.blobs.push((segments.bytes.len(), Arc::clone(&blob)));
        expected.extend_from_slice(&blob);
        segments.bytes.extend_from_slice(b"\r\n");
        expected.extend_from_slice(b"\r\n");
    }
    let length = expected.len();
    let reading = thread::spawn(move || {
        let mut got = vec![0; length];
        theirs.read_exact(&mut got).unwrap();
        got
    });
    ring.send_segments(ours.as_fd(), Token::new(1), segments);
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(()), .. }));
    assert!(reading.join().unwrap() == expected);
    assert!(ring.stats().short_sends >= 7, "2001 pieces, 256 at a time");
}

#[test]
fn a_ring_dropped_in_the_middle_of_everything_gives_back_memory_and_descriptors() {
    let _turn = turn();
    let before = process::open_descriptors();
    let blob = Arc::new(vec![1; 3_000_000]);
    {
        let (listener, address) = listen();
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        ring.accept_multi(listener.as_fd(), Token::new(0));
        ring.poll().unwrap();
        let late = TcpStream::connect(address).unwrap();
        let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
        for (id, (ours, theirs)) in pairs.iter().enumerate() {
            let token = Token::new(id as u64);
            match id % 3 {
                0 => {
                    (&*theirs).write_all(b"unread").unwrap();
                    ring.recv_multi(ours.as_fd(), token);
                }
                1 => ring.recv_into(ours.as_fd(), token, Vec::new(), 100),
                _ => {
                    let segments = Segments { bytes: Vec::new(), blobs: vec![(0, Arc::clone(&blob))] };
                    ring.send_segments(ours.as_fd(), token, segments);
                }
            }
        }
        ring.poll().unwrap();
        assert!(Arc::strong_count(&blob) > 5);
        let started = Instant::now();
        drop(ring);
        assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
        assert_eq!(Arc::strong_count(&blob), 1, "everything in flight is back");
        drop(late);
    }
    assert_eq!(process::open_descriptors(), before);
}

#[test]
fn one_ring_wakes_another_and_a_ring_that_has_gone_cannot_be_woken() {
    let _turn = turn();
    let board = PeerBoard::new(2);
    let theirs = Arc::clone(&board);
    let woken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&woken);
    let sleeper = thread::spawn(move || {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        ring.join(theirs, ShardId(1));
        for _ in 0..100 {
            let started = Instant::now();
            ring.wait(Some(Duration::from_secs(5))).unwrap();
            assert!(matches!(ring.next(), Some(Completion::Woken)));
            assert!(ring.next().is_none());
            assert!(started.elapsed() < Duration::from_secs(4));
            counted.fetch_add(1, Ordering::Release);
        }
        assert_eq!(ring.stats().wakes_received, 100);
    });
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    ring.join(Arc::clone(&board), ShardId(0));
    while board.reachable() < 2 {
        thread::yield_now();
    }
    for number in 0..100 {
        // One at a time: the sleeper may have lost its core, and two wakes would reach it as one.
        while woken.load(Ordering::Acquire) < number {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(1));
        assert!(ring.wake(ShardId(1)));
        ring.poll().unwrap();
        assert!(ring.next().is_none(), "success is silent");
    }
    sleeper.join().unwrap();
    assert!(!ring.wake(ShardId(1)));
    assert_eq!((ring.stats().wakes_sent, ring.stats().wakes_failed), (100, 0));
}

#[test]
fn waiting_ends_at_its_time_and_costs_no_cpu() {
    let _turn = turn();
    let mut ring = Ring::new(RingConfig::default()).unwrap();
    let cpu = process::cpu_time(process::Whose::Thread).total();
    let started = Instant::now();
    for _ in 0..5 {
        ring.wait(Some(Duration::from_millis(60))).unwrap();
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(900), "{took:?}");
    let cpu = process::cpu_time(process::Whose::Thread).total() - cpu;
    assert!(cpu < Duration::from_millis(20), "{cpu:?}");
    assert_eq!(ring.stats().enters, 5);
    ring.poll().unwrap();
    assert_eq!(ring.stats().enters, 5, "polling with nothing to do is no system call");
}
