//! Shards as the server runs them: executors start together, sleep without using the core, wake each other, share the
//! core with background work, and a panic in one of them is the end of all.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use annulus::base::ShardId;
use annulus::rt::crash::install_panic_report;
use annulus::rt::executor::{ExecutorConfig, allowed_cores, start};
use annulus::rt::process::{self, Whose};
use annulus::rt::{
    Completion, Endpoint, Inbox, Mail, Mesh, Parker, Payload, PeerBoard, Ring, RingConfig, Token, background,
};

/// Time and memory are measured per process: the tests of this file take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn on_one_shard<T: Send + 'static, F: Future<Output = T> + 'static>(run: impl FnOnce() -> F + Send + 'static) -> T {
    let config = ExecutorConfig { shards: 1, pin: true, cores: Vec::new() };
    start(&config, vec![run], |_, run| run()).unwrap().join().remove(0)
}

#[test]
fn sixty_four_executors_start_together_and_are_small() {
    let _turn = turn();
    let (memory, started) = (process::resident_bytes(), Instant::now());
    let config = ExecutorConfig { shards: 64, pin: true, cores: Vec::new() };
    let (ready, running) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let seeds: Vec<_> = (0..64).map(|_| (ready.clone(), Arc::clone(&gate))).collect();
    let shards = start(&config, seeds, |shard, (ready, gate)| async move {
        let ring = Ring::new(RingConfig::default()).unwrap();
        ready.send(thread::current().name().unwrap().to_owned()).unwrap();
        let _ = gate.lock().unwrap().recv();
        drop(ring);
        shard
    })
    .unwrap();
    let names: Vec<String> = running.iter().take(64).collect();
    let took = started.elapsed();
    let grown = process::resident_bytes().saturating_sub(memory);
    println!("64 executors and rings: {took:?}, {} KiB resident each", grown / 64 / 1024);
    assert!(names.contains(&"shard-63".to_owned()));
    assert_eq!(shards.cores.iter().flatten().count(), 64, "more shards than cores wrap around");
    let cores = allowed_cores();
    assert_eq!(shards.cores[cores.len()], Some(cores[0]));
    drop(go);
    assert_eq!(shards.join(), (0..64).map(ShardId).collect::<Vec<_>>());
    // Generous: the machine may be busy. The bound on memory is the one that says whether 10 MiB a shard were pinned.
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes");
}

#[test]
fn an_idle_shard_uses_no_cpu_and_wakes_for_a_client() {
    let _turn = turn();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let client = thread::spawn(move || {
        let mut worst = Duration::ZERO;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(15));
            let started = Instant::now();
            theirs.write_all(b"?").unwrap();
            theirs.read_exact(&mut [0]).unwrap();
            worst = worst.max(started.elapsed());
        }
        worst
    });
    let (cpu, enters) = on_one_shard(move || async move {
        let cpu = process::cpu_time(Whose::Thread).total();
        let mut echo = Echo::new(ours.into());
        let mut parker = Parker::new(Duration::ZERO);
        while !echo.over {
            echo.turn();
            parker.park(&mut echo.ring, &(), Some(Duration::from_secs(1))).await.unwrap();
        }
        (process::cpu_time(Whose::Thread).total() - cpu, echo.ring.stats().enters)
    });
    println!("worst wake-up {:?}, {cpu:?} of CPU, {enters} enters", client.join().unwrap());
    assert!(cpu < Duration::from_millis(60), "{cpu:?} in 300 ms of mostly silence");
    assert!(enters < 100, "{enters}");
}

/// Echoes single bytes until its peer has finished.
struct Echo {
    ring: Ring,
    socket: OwnedFd,
    over: bool,
    echoed: u64,
}

const PEER: u64 = 1;

impl Echo {
    fn new(socket: OwnedFd) -> Echo {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        ring.recv_multi(socket.as_fd(), Token::new(PEER));
        Echo { ring, socket, over: false, echoed: 0 }
    }

    fn turn(&mut self) {
        while let Some(completion) = self.ring.next() {
            match completion {
                Completion::Received { buffer, token, more } => {
                    assert!(more);
                    let buffers = self.ring.buffers();
                    self.ring.send(self.socket.as_fd(), token, buffers.bytes(&buffer).to_vec());
                    self.echoed += buffer.len() as u64;
                    buffers.recycle(buffer);
                }
                Completion::Sent { payload: Payload::Bytes(_), result, .. } => result.unwrap(),
                Completion::Eof { .. } => self.over = true,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Pings from another thread until the clients have `pings` answers; returns the latencies, sorted.
fn pinger(mut theirs: UnixStream, pings: usize, pause: Duration) -> thread::JoinHandle<Vec<Duration>> {
    thread::spawn(move || {
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut latencies = Vec::with_capacity(pings);
        for _ in 0..pings {
            thread::sleep(pause);
            let started = Instant::now();
            theirs.write_all(b"?").unwrap();
            theirs.read_exact(&mut [0]).unwrap();
            latencies.push(started.elapsed());
        }
        latencies.sort();
        latencies
    })
}

#[test]
fn a_client_is_served_while_background_work_wants_the_whole_core() {
    let _turn = turn();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = pinger(theirs, 200, Duration::from_micros(500));
    let slices = on_one_shard(move || async move {
        let (stop, slices) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0u64)));
        let (stopped, counted) = (Rc::clone(&stop), Rc::clone(&slices));
        background::spawn(async move {
            let mut slice = background::Slice::new(Duration::from_micros(50));
            while !stopped.get() {
                for _ in 0..100 {
                    std::hint::spin_loop();
                }
                counted.set(counted.get() + 1);
                slice.give_way_if_over().await;
            }
        });
        assert_eq!(background::in_flight(), 1);
        let mut echo = Echo::new(ours.into());
        let mut parker = Parker::new(Duration::ZERO);
        while !echo.over {
            echo.turn();
            parker.park(&mut echo.ring, &(), None).await.unwrap();
        }
        stop.set(true);
        while background::in_flight() > 0 {
            parker.park(&mut echo.ring, &(), Some(Duration::from_millis(1))).await.unwrap();
        }
        slices.get()
    });
    let latencies = client.join().unwrap();
    println!("p50 {:?}, p99 {:?}, {slices} slices of work", latencies[100], latencies[198]);
    assert!(slices > 1000, "{slices}");
    assert!(latencies[100] < Duration::from_millis(3), "{:?}", latencies[100]);
}

#[test]
fn a_shard_sleeps_while_its_background_work_waits_and_wakes_for_a_client() {
    let _turn = turn();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = pinger(theirs, 50, Duration::from_millis(5));
    let (cpu, took, naps) = on_one_shard(move || async move {
        let (cpu, started) = (process::cpu_time(Whose::Thread).total(), Instant::now());
        let (stop, naps) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0u64)));
        let (stopped, counted) = (Rc::clone(&stop), Rc::clone(&naps));
        background::spawn(async move {
            while !stopped.get() {
                background::sleep(Duration::from_millis(10)).await;
                counted.set(counted.get() + 1);
            }
        });
        let mut echo = Echo::new(ours.into());
        let mut parker = Parker::new(Duration::ZERO);
        while !echo.over {
            echo.turn();
            parker.park(&mut echo.ring, &(), None).await.unwrap();
        }
        stop.set(true);
        while background::in_flight() > 0 {
            parker.park(&mut echo.ring, &(), None).await.unwrap();
        }
        (process::cpu_time(Whose::Thread).total() - cpu, started.elapsed(), naps.get())
    });
    let latencies = client.join().unwrap();
    println!("p50 {:?}, worst {:?}; {naps} naps, {cpu:?} of CPU in {took:?}", latencies[25], latencies[49]);
    assert!(naps >= 10, "{naps}");
    assert!(cpu < took / 3, "{cpu:?} of CPU in {took:?}");
    assert!(latencies[25] < Duration::from_millis(5), "{:?}", latencies[25]);
}

#[test]
fn a_timeout_ends_the_wait_in_both_places() {
    let _turn = turn();
    on_one_shard(|| async {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        let mut parker = Parker::new(Duration::ZERO);
        let started = Instant::now();
        parker.park(&mut ring, &(), Some(Duration::from_millis(30))).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(30));

        // A file read that never ends would do as well; a long nap is simpler.
        background::spawn(background::sleep(Duration::from_millis(400)));
        let started = Instant::now();
        let mut turns = 0;
        while started.elapsed() < Duration::from_millis(200) {
            parker.park(&mut ring, &(), Some(Duration::from_millis(20))).await.unwrap();
            turns += 1;
        }
        assert!(turns <= 12, "{turns} turns in 200 ms");
        // The end of the last task ends the wait, too.
        while background::in_flight() > 0 {
            parker.park(&mut ring, &(), None).await.unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn a_blocking_call_and_a_file_are_awaited_without_stopping_the_loop() {
    let _turn = turn();
    on_one_shard(|| async {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        let mut parker = Parker::new(Duration::ZERO);
        let result = Rc::new(RefCell::new(None));
        let cell = Rc::clone(&result);
        background::spawn(async move {
            let name = background::blocking(|| {
                thread::sleep(Duration::from_millis(20));
                thread::current().name().map(str::to_owned)
            })
            .await;
            let path = std::env::temp_dir().join(format!("annulus-rt-{}", std::process::id()));
            let file = glommio::io::BufferedFile::create(&path).await.unwrap();
            assert_eq!(file.write_at(b"written".to_vec(), 0).await.unwrap(), 7);
            file.close().await.unwrap();
            *cell.borrow_mut() = Some((name, std::fs::read(&path).unwrap()));
            std::fs::remove_file(path).unwrap();
        });
        let started = Instant::now();
        while background::in_flight() > 0 {
            assert!(started.elapsed() < Duration::from_secs(5));
            parker.park(&mut ring, &(), Some(Duration::from_secs(1))).await.unwrap();
        }
        assert_eq!(result.borrow().as_ref().unwrap().1, b"written");
    });
}

#[test]
fn the_parker_leaks_nothing_over_many_changes_of_place() {
    let _turn = turn();
    // glommio's own leavings: what an executor leaves behind that has done nothing.
    let settled = || {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut least = usize::MAX;
        // Its helper threads end by themselves, a little later.
        while Instant::now() < deadline {
            least = least.min(process::open_descriptors());
            thread::sleep(Duration::from_millis(20));
        }
        least
    };
    on_one_shard(|| async {});
    let start = settled();
    on_one_shard(|| async {});
    let leavings = settled() - start;
    let before = start + leavings;
    on_one_shard(|| async {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        let mut parker = Parker::new(Duration::ZERO);
        let round = async |parker: &mut Parker, ring: &mut Ring, rounds: usize| {
            for _ in 0..rounds {
                background::spawn(background::sleep(Duration::from_micros(200)));
                while background::in_flight() > 0 {
                    parker.park(ring, &(), Some(Duration::from_millis(1))).await.unwrap();
                }
                parker.park(ring, &(), Some(Duration::from_micros(50))).await.unwrap();
            }
        };
        round(&mut parker, &mut ring, 100).await;
        let (memory, descriptors) = (process::resident_bytes(), process::open_descriptors());
        round(&mut parker, &mut ring, 400).await;
        let grown = process::resident_bytes().saturating_sub(memory);
        println!("{grown} bytes in 400 rounds");
        assert!(grown < 512 * 1024, "{grown} bytes in 400 rounds");
        assert_eq!(process::open_descriptors(), descriptors);
    });
    assert!(settled() <= before + leavings, "{} descriptors, {before} before, {leavings} by glommio", settled());
}

// ------------------------------------------------------------------------------------------------ two shards

/// Shards that ask each other in turn, one question at a time, so that both sleep for every answer.
fn ping_pong(rounds: u64, busy_poll: Duration, with_background: bool) -> (Duration, u64) {
    let board = PeerBoard::new(2);
    let seeds: Vec<_> = Mesh::build::<u64>(2, 8).into_iter().map(|endpoint| (endpoint, Arc::clone(&board))).collect();
    let config = ExecutorConfig { shards: 2, pin: true, cores: Vec::new() };
    let started = Instant::now();
    let shards =
        start(&config, seeds, move |shard, (mut endpoint, board): (Endpoint<u64>, Arc<PeerBoard>)| async move {
            let mut ring = Ring::new(RingConfig::default()).unwrap();
            ring.join(board, shard);
            let mut parker = Parker::new(busy_poll);
            if with_background {
                background::spawn(background::sleep(Duration::from_millis(50)));
            }
            let peer = ShardId(1 - shard.0);
            let (mut asked, mut answered, mut served) = (0, 0, 0);
            loop {
                while ring.next().is_some() {}
                while let Some((from, mail)) = endpoint.next() {
                    match mail {
                        Mail::Request(n) => {
                            assert_eq!(n, served);
                            served += 1;
                            endpoint.reply(from, n + 1);
                        }
                        Mail::Reply(n) => {
                            answered += 1;
                            assert_eq!(n, answered);
                        }
                    }
                }
                if asked == answered && asked < rounds {
                    endpoint.send(peer, asked).unwrap();
                    asked += 1;
                }
                endpoint.notify(|shard| {
                    assert!(ring.wake(shard), "who sleeps has a ring");
                });
                if answered == rounds && served == rounds {
                    break;
                }
                let asleep = Instant::now();
                parker.park(&mut ring, &endpoint, Some(Duration::from_secs(5))).await.unwrap();
                assert!(asleep.elapsed() < Duration::from_secs(4), "a wake-up was lost: {endpoint:?}");
            }
            // The last bells still have to be rung.
            ring.poll().unwrap();
            assert!(!endpoint.has_mail());
            ring.stats().wakes_sent
        })
        .unwrap();
    let wakes = shards.join().into_iter().sum();
    (started.elapsed(), wakes)
}

#[test]
fn shards_wake_each_other_for_every_question() {
    let _turn = turn();
    for busy_poll in [Duration::ZERO, Duration::from_micros(50)] {
        let (took, wakes) = ping_pong(5000, busy_poll, false);
        println!("busy poll {busy_poll:?}: 5000 questions each way in {took:?}, {wakes} wake-ups");
    }
}

#[test]
fn shards_with_background_work_wake_each_other_too() {
    let _turn = turn();
    let (took, wakes) = ping_pong(2000, Duration::ZERO, true);
    println!("2000 questions each way in {took:?}, {wakes} wake-ups");
}

// ------------------------------------------------------------------------------------------------ the end

/// Not a test of its own: what the next one runs in a process that is meant to die.
#[test]
#[ignore = "run by a_panic_in_a_shard_is_reported_and_stops_the_process"]
fn panics_in_a_background_task_of_a_shard() {
    install_panic_report("annulus test build");
    let config = ExecutorConfig { shards: 2, pin: false, cores: Vec::new() };
    let shards = start(&config, vec![(), ()], |shard, ()| async move {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        let mut parker = Parker::new(Duration::ZERO);
        if shard == ShardId(1) {
            background::spawn(async {
                background::sleep(Duration::from_millis(5)).await;
                let broken: Option<u8> = std::hint::black_box(None);
                broken.expect("an invariant was broken on purpose");
            });
        }
        loop {
            parker.park(&mut ring, &(), Some(Duration::from_secs(1))).await.unwrap();
        }
    });
    let _: Vec<()> = shards.unwrap().join();
}

#[test]
fn a_panic_in_a_shard_is_reported_and_stops_the_process() {
    let _turn = turn();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "panics_in_a_background_task_of_a_shard"])
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(libc::SIGABRT), "{text}");
    for part in ["CRASH REPORT: annulus test build", "thread: shard-1", "rt_shards.rs", "broken on purpose"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}
