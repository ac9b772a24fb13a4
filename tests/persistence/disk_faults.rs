//! Disks that fail under a running server: writes, fsyncs, renames and new files, by what clients and INFO say, by what lies in the
//! folder, and by what is there after a kill and a power cut.

use std::thread;
use std::time::Duration;

use super::faulty_disk::{Call, Fault, FaultyDisk, Outcome};
use super::harness::{Client, Server, Value};

/// One client's writes are acknowledged in order; this is how many tests make before the disk fails.
const BEFORE: usize = 40;

fn start(disk: &FaultyDisk, directives: &[&str]) -> Server {
    let dir = disk.path().to_string_lossy().into_owned();
    let mut all = vec!["--dir", &dir];
    all.extend(directives);
    Server::annulus(2, &all)
}

fn with_log(disk: &FaultyDisk, policy: &str) -> Server {
    start(disk, &["--appendonly", "yes", "--appendfsync", policy])
}

/// Writes keys to both shards, all of which must be acknowledged.
fn write_all(client: &mut Client, prefix: &str, keys: usize) {
    for n in 0..keys {
        assert_eq!(client.line(&format!("SET {prefix}:{n} {n}")).text(), "OK");
    }
}

#[track_caller]
fn assert_all(client: &mut Client, prefix: &str, keys: usize) {
    for n in 0..keys {
        assert_eq!(
            client.line(&format!("GET {prefix}:{n}")).text(),
            n.to_string(),
            "{prefix}:{n} was acknowledged and is gone"
        );
    }
}

fn info(client: &mut Client, line: &str) -> bool {
    client.line("INFO persistence").text().lines().any(|found| found == line)
}

/// Waits until it is so. That it takes too long is a failure, however slow the machine is: these waits are for what never comes.
#[track_caller]
fn wait_until(server: &Server, what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("it never happens: {what}\n{}", server.log());
}

#[track_caller]
fn wait_for_info(server: &Server, client: &mut Client, line: &str) {
    wait_until(server, line, || info(client, line));
}

/// Waits until a write is acknowledged.
#[track_caller]
fn wait_until_taken(server: &Server, client: &mut Client, key: &str) {
    wait_until(server, "a write is taken", || client.line(&format!("SET {key} 1")).text() == "OK");
}

/// Cuts the power: whoever holds the files is killed, and what was not synced is gone.
fn cut_power(server: &mut Server, disk: &FaultyDisk) {
    server.kill();
    disk.heal();
    disk.lose_unsynced();
}

/// A write fails under `always`, for both reasons that disks give and at several places of the log.
#[test]
fn a_write_that_fails_stops_writes_until_it_succeeds() {
    for (policy, errno, text) in [
        ("always", libc::ENOSPC, "No space left on device"),
        ("always", libc::EIO, "Input/output error"),
        ("everysec", libc::ENOSPC, "No space left on device"),
    ] {
        let Some(disk) = FaultyDisk::mount() else { return };
        let mut server = with_log(&disk, policy);
        let mut client = server.connect();
        write_all(&mut client, "before", BEFORE);
        // Half of a record, and then nothing: what is written later must replace that half.
        disk.fail(Fault::next(Call::Write, ".incr.aof", Outcome::Short(7)));
        disk.fail(Fault::next(Call::Write, ".incr.aof", Outcome::Error(errno)).for_good());
        let mut waiting = server.connect();
        waiting.send(&["SET", "during", "1"]);
        wait_for_info(&server, &mut client, "aof_last_write_status:err");
        for n in 0..4 {
            let reply = client.line(&format!("SET refused:{n} 1")).text();
            assert_eq!(reply, format!("MISCONF Errors writing to the AOF file: {text}"));
        }
        assert_all(&mut client, "before", BEFORE);
        assert!(disk.failures() >= 2);
        disk.heal();
        wait_until_taken(&server, &mut client, "healed");
        assert_eq!(waiting.reply().text(), "OK");
        wait_for_info(&server, &mut client, "aof_last_write_status:ok");
        write_all(&mut client, "after", BEFORE);
        if policy != "always" {
            assert_eq!(client.line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
        }
        cut_power(&mut server, &disk);
        server.restart();
        let mut client = server.connect();
        assert_all(&mut client, "before", BEFORE);
        assert_all(&mut client, "after", BEFORE);
        for key in ["during", "healed"] {
            assert_eq!(client.line(&format!("GET {key}")).text(), "1", "{key} was acknowledged and is gone");
        }
        assert_eq!(client.line("EXISTS refused:0 refused:1 refused:2 refused:3").to_string(), "(integer) 0");
    }
}

#[test]
fn a_short_write_is_nobodys_concern() {
    let Some(disk) = FaultyDisk::mount() else { return };
    let mut server = with_log(&disk, "always");
    let mut client = server.connect();
    for n in 0..BEFORE {
        disk.fail(Fault::next(Call::Write, ".incr.aof", Outcome::Short(1 + n)));
        assert_eq!(client.line(&format!("SET short:{n} {n}")).text(), "OK");
    }
    assert!(disk.failures() >= BEFORE, "{}", disk.failures());
    assert!(info(&mut client, "aof_last_write_status:ok"));
    cut_power(&mut server, &disk);
    server.restart();
    assert_all(&mut server.connect(), "short", BEFORE);
}

#[test]
fn after_an_fsync_that_failed_the_log_goes_on_in_new_files() {
    for policy in ["always", "everysec"] {
        let Some(disk) = FaultyDisk::mount() else { return };
        let mut server = with_log(&disk, policy);
        let mut client = server.connect();
        write_all(&mut client, "before", BEFORE);
        let in_doubt = || disk.files_at("appendonlydir").into_iter().filter(|(name, _)| name.ends_with(".incr.aof"));
        let old: Vec<String> = in_doubt().map(|(name, _)| name).collect();
        // No new files either, for now, so that writes stay refused.
        disk.fail(Fault::next(Call::Open, ".incr.aof", Outcome::Error(libc::ENOSPC)).for_good());
        disk.fail(Fault::next(Call::Sync, ".incr.aof", Outcome::Error(libc::EIO)));
        let mut waiting = server.connect();
        waiting.send(&["SET", "during", "1"]);
        wait_for_info(&server, &mut client, "aof_last_write_status:err");
        let sizes: Vec<_> = in_doubt().map(|(name, bytes)| (name, bytes.len())).collect();
        for n in 0..4 {
            let reply = client.line(&format!("SET refused:{n} 1")).text();
            assert_eq!(reply, "MISCONF Errors writing to the AOF file: Input/output error");
        }
        wait_for_info(&server, &mut client, "aof_last_bgrewrite_status:err");
        assert_all(&mut client, "before", BEFORE);
        assert!(client.line("SET refused:4 1").text().starts_with("MISCONF"));
        assert_eq!(
            in_doubt().map(|(name, bytes)| (name, bytes.len())).collect::<Vec<_>>(),
            sizes,
            "it was gone on with"
        );
        disk.heal();
        wait_until_taken(&server, &mut client, "healed");
        assert_eq!(waiting.reply().text(), "OK");
        wait_for_info(&server, &mut client, "aof_last_bgrewrite_status:ok");
        assert!(in_doubt().all(|(name, _)| !old.contains(&name)), "{old:?}");
        write_all(&mut client, "after", BEFORE);
        if policy != "always" {
            assert_eq!(client.line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
        }
        cut_power(&mut server, &disk);
        server.restart();
        let mut client = server.connect();
        assert_all(&mut client, "before", BEFORE);
        assert_all(&mut client, "after", BEFORE);
        assert_eq!(client.line("GET during").text(), "1");
        assert_eq!(client.line("GET healed").text(), "1");
        assert_eq!(client.line("EXISTS refused:0 refused:1 refused:2 refused:3 refused:4").to_string(), "(integer) 0");
    }
}

/// The files that were to rescue the log fail in their turn: at their first fsync, or with more of them.
#[test]
fn an_fsync_that_fails_while_the_log_is_rescued_is_not_forgotten() {
    for spared in 0..3 {
        let Some(disk) = FaultyDisk::mount() else { return };
        let mut server = with_log(&disk, "always");
        let mut client = server.connect();
        write_all(&mut client, "before", BEFORE);
        disk.fail(Fault::next(Call::Sync, ".incr.aof", Outcome::Error(libc::EIO)));
        disk.fail(Fault::next(Call::Sync, ".incr.aof", Outcome::Error(libc::EIO)).after(spared));
        client.send(&["SET", "during", "1"]);
        assert_eq!(client.reply().text(), "OK");
        wait_until(&server, "both fsyncs fail", || {
            let _ = client.line("SET more 1");
            disk.failures() == 2
        });
        wait_until_taken(&server, &mut client, "healed");
        for n in 0..BEFORE {
            wait_until_taken(&server, &mut client, &format!("after:{n}"));
        }
        cut_power(&mut server, &disk);
        server.restart();
        let mut client = server.connect();
        assert_all(&mut client, "before", BEFORE);
        for key in
            ["during".to_owned(), "healed".to_owned()].into_iter().chain((0..BEFORE).map(|n| format!("after:{n}")))
        {
            assert_eq!(
                client.line(&format!("GET {key}")).text(),
                "1",
                "spared {spared}: {key} was acknowledged and is gone"
            );
        }
    }
}

/// What else a cut finds that comes while the log is in doubt.
#[test]
fn while_the_log_is_in_doubt_a_power_cut_loses_nothing_acknowledged() {
    for (call, name) in
        [(Call::Open, ".incr.aof"), (Call::Write, ".base.rdb"), (Call::Sync, ".base.rdb"), (Call::Rename, ".manifest")]
    {
        let Some(disk) = FaultyDisk::mount() else { return };
        let mut server = with_log(&disk, "always");
        let mut client = server.connect();
        write_all(&mut client, "before", BEFORE);
        disk.fail(Fault::next(call, name, Outcome::Error(libc::EIO)).for_good());
        disk.fail(Fault::next(Call::Sync, ".incr.aof", Outcome::Error(libc::EIO)));
        client.send(&["SET", "during", "1"]);
        let mut other = server.connect();
        wait_for_info(&server, &mut other, "aof_last_bgrewrite_status:err");
        // A rewrite that somebody asks for now rescues as well, or fails as well.
        let _ = other.line("BGREWRITEAOF");
        thread::sleep(Duration::from_millis(50));
        cut_power(&mut server, &disk);
        server.restart();
        let mut client = server.connect();
        assert_all(&mut client, "before", BEFORE);
        write_all(&mut client, "after", BEFORE);
        cut_power(&mut server, &disk);
        server.restart();
        assert_all(&mut server.connect(), "after", BEFORE);
    }
}

#[test]
fn a_log_that_is_switched_off_while_it_fails_is_forgotten() {
    for outcome in [Outcome::Error(libc::ENOSPC), Outcome::Error(libc::EIO)] {
        for call in [Call::Write, Call::Sync] {
            let Some(disk) = FaultyDisk::mount() else { return };
            let mut server = with_log(&disk, "everysec");
            let mut client = server.connect();
            write_all(&mut client, "before", BEFORE);
            assert_eq!(client.line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
            let mut waiting = server.connect();
            {
                // The write is on its way when the log is to be closed, and fails.
                let mut stalled = disk.stall();
                stalled.fail(Fault::next(call, ".incr.aof", outcome));
                assert_eq!(waiting.line("SET during 1").text(), "OK");
                waiting.send(&["WAITAOF", "1", "0", "0"]);
                thread::sleep(Duration::from_millis(100));
                client.send(&["CONFIG", "SET", "appendonly", "no"]);
            }
            assert_eq!(client.reply().text(), "OK");
            wait_until(&server, "it fails", || disk.failures() == 1);
            for n in 0..10 {
                thread::sleep(Duration::from_millis(5));
                assert_eq!(client.line(&format!("SET unlogged:{n} {n}")).text(), "OK", "{call:?} {outcome:?}");
            }
            assert_eq!(client.line("CONFIG SET appendonly yes").text(), "OK");
            wait_for_info(&server, &mut client, "aof_rewrite_in_progress:0");
            write_all(&mut client, "after", BEFORE);
            assert_eq!(client.line("WAITAOF 1 0 0").to_string(), "[(integer) 1, (integer) 0]");
            cut_power(&mut server, &disk);
            server.restart_with(&["--appendonly", "yes"]);
            let mut client = server.connect();
            assert_all(&mut client, "before", BEFORE);
            assert_all(&mut client, "unlogged", 10);
            assert_all(&mut client, "after", BEFORE);
        }
    }
}

#[test]
fn a_merged_snapshot_that_fails_leaves_the_last_one() {
    let faults = [
        Fault::next(Call::Sync, "shard-1.rdb", Outcome::Error(libc::EIO)),
        Fault::next(Call::Write, ".tmp", Outcome::Error(libc::ENOSPC)).after(1),
        Fault::next(Call::Sync, ".tmp", Outcome::Error(libc::EIO)),
        Fault::next(Call::Rename, "dump.rdb", Outcome::Error(libc::EIO)),
    ];
    let Some(disk) = FaultyDisk::mount() else { return };
    let mut server = start(&disk, &[]);
    let mut client = server.connect();
    write_all(&mut client, "kept", BEFORE);
    assert_eq!(client.line("SAVE").text(), "OK");
    for fault in faults {
        let what = format!("{fault:?}");
        let last = of_snapshots(&disk);
        disk.fail(fault);
        assert!(matches!(client.line("SAVE MERGED"), Value::Error(_)), "{what}");
        assert_eq!(disk.failures(), 1, "{what}");
        assert_eq!(
            of_snapshots(&disk),
            last,
            "{what}: what was being written is still there, or what was there is gone"
        );
        cut_power(&mut server, &disk);
        server.restart();
        client = server.connect();
        assert_all(&mut client, "kept", BEFORE);
        assert_eq!(client.line("SAVE MERGED").text(), "OK", "{what}");
        assert_eq!(of_snapshots(&disk), ["dump.rdb"], "{what}");
        cut_power(&mut server, &disk);
        server.restart();
        client = server.connect();
        assert_all(&mut client, "kept", BEFORE);
        disk.forget_failures();
    }
}

/// The files of snapshots, without the server's log.
fn of_snapshots(disk: &FaultyDisk) -> Vec<String> {
    disk.files_at("").into_keys().filter(|name| name.starts_with("dump")).collect()
}

fn bgsave(server: &Server, client: &mut Client) {
    wait_for_info(server, client, "rdb_bgsave_in_progress:0");
    assert_eq!(client.line("BGSAVE").text(), "Background saving started");
    wait_for_info(server, client, "rdb_bgsave_in_progress:0");
}

#[test]
fn a_snapshot_that_fails_leaves_the_last_one_and_stops_writes() {
    let faults = [
        Fault::next(Call::Open, ".rdb", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Write, ".rdb", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Write, ".rdb", Outcome::Error(libc::EIO)).after(3),
        Fault::next(Call::Sync, "shard-0.rdb", Outcome::Error(libc::EIO)),
        Fault::next(Call::Sync, "shard-1.rdb", Outcome::Error(libc::EIO)),
        Fault::next(Call::Open, "manifest", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Write, "manifest", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Sync, "manifest", Outcome::Error(libc::EIO)),
        Fault::next(Call::Rename, "manifest", Outcome::Error(libc::EIO)),
        Fault::next(Call::SyncFolder, "", Outcome::Error(libc::EIO)),
    ];
    let Some(disk) = FaultyDisk::mount() else { return };
    // A save point that never comes due: with one, a failure stops writes.
    let mut server = start(&disk, &["--save", "3600", "1000000"]);
    let mut client = server.connect();
    let mut kept = 0;
    write_all(&mut client, "kept", BEFORE);
    bgsave(&server, &mut client);
    for fault in faults {
        let what = format!("{fault:?}");
        let last = of_snapshots(&disk);
        assert_eq!(client.line("SET unsaved 1").text(), "OK", "{what}");
        disk.fail(fault);
        let failed_before = disk.failures();
        bgsave(&server, &mut client);
        assert_eq!(disk.failures(), failed_before + 1, "{what}");
        wait_for_info(&server, &mut client, "rdb_last_bgsave_status:err");
        let refused = client.line("SET unsaved 2").text();
        assert!(refused.starts_with("MISCONF Redis is configured to save RDB snapshots"), "{what}: {refused}");
        assert_eq!(client.line("GET kept:1").text(), "1");
        assert_eq!(
            of_snapshots(&disk),
            last,
            "{what}: what was being written is still there, or what was there is gone"
        );
        cut_power(&mut server, &disk);
        server.restart();
        client = server.connect();
        assert_all(&mut client, "kept", BEFORE);
        assert_eq!(client.line("EXISTS unsaved").to_string(), "(integer) 0", "{what}");
        // The next one is as good as any.
        disk.fail(Fault::next(Call::Sync, ".rdb", Outcome::Error(libc::EIO)));
        bgsave(&server, &mut client);
        assert!(client.line("SET unsaved 3").text().starts_with("MISCONF"), "{what}");
        bgsave(&server, &mut client);
        assert!(info(&mut client, "rdb_last_bgsave_status:ok"), "{what}");
        kept += 1;
        assert_eq!(client.line(&format!("SET later {kept}")).text(), "OK", "{what}");
        bgsave(&server, &mut client);
        cut_power(&mut server, &disk);
        server.restart();
        client = server.connect();
        assert_all(&mut client, "kept", BEFORE);
        assert_eq!(client.line("GET later").text(), kept.to_string(), "{what}");
    }
}

#[test]
fn a_rewrite_that_fails_leaves_the_log_whole() {
    let faults = [
        Fault::next(Call::Open, ".incr.aof", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Open, ".base.rdb", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Write, ".base.rdb", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Write, ".base.rdb", Outcome::Error(libc::EIO)).after(3),
        Fault::next(Call::Sync, "shard-1.base.rdb", Outcome::Error(libc::EIO)),
        Fault::next(Call::Write, "manifest", Outcome::Error(libc::ENOSPC)),
        Fault::next(Call::Write, "manifest", Outcome::Error(libc::ENOSPC)).after(1),
        Fault::next(Call::Sync, "manifest", Outcome::Error(libc::EIO)),
        Fault::next(Call::Rename, "manifest", Outcome::Error(libc::EIO)),
        Fault::next(Call::Rename, "manifest", Outcome::Error(libc::EIO)).after(1),
        Fault::next(Call::SyncFolder, "appendonlydir", Outcome::Error(libc::EIO)),
        Fault::next(Call::SyncFolder, "appendonlydir", Outcome::Error(libc::EIO)).after(1),
        Fault::next(Call::SyncFolder, "appendonlydir", Outcome::Error(libc::EIO)).after(3),
    ];
    let Some(disk) = FaultyDisk::mount() else { return };
    let mut server = with_log(&disk, "always");
    let mut client = server.connect();
    write_all(&mut client, "kept", BEFORE);
    for (round, fault) in faults.into_iter().enumerate() {
        let what = format!("{fault:?}");
        disk.fail(fault);
        let failed_before = disk.failures();
        // Whether it says that it has begun depends on the fault.
        let _ = client.line("BGREWRITEAOF");
        wait_for_info(&server, &mut client, "aof_last_bgrewrite_status:err");
        assert_eq!(disk.failures(), failed_before + 1, "{what}");
        let temporary: Vec<String> = disk
            .files_at("appendonlydir")
            .into_keys()
            .filter(|name| name.ends_with(".tmp") || name.starts_with("temp-"))
            .collect();
        assert!(temporary.is_empty(), "{what}: {temporary:?}");
        // The log goes on.
        write_all(&mut client, &format!("round:{round}"), 4);
        cut_power(&mut server, &disk);
        server.restart();
        client = server.connect();
        assert_all(&mut client, "kept", BEFORE);
        assert_all(&mut client, &format!("round:{round}"), 4);
        assert!(!matches!(client.line("BGREWRITEAOF"), Value::Error(_)), "{what}");
        wait_for_info(&server, &mut client, "aof_rewrite_in_progress:0");
        assert!(info(&mut client, "aof_last_bgrewrite_status:ok"), "{what}");
        let files: Vec<String> = disk.files_at("appendonlydir").into_keys().collect();
        assert_eq!(files.len(), 5, "{what}: a base and a log of each shard and the manifest, and not {files:?}");
    }
    cut_power(&mut server, &disk);
    server.restart();
    assert_all(&mut server.connect(), "kept", BEFORE);
    for round in 0..13 {
        assert_all(&mut server.connect(), &format!("round:{round}"), 4);
    }
}

#[test]
fn a_log_that_cannot_be_begun_is_said_at_the_start() {
    let Some(disk) = FaultyDisk::mount() else { return };
    let mut server = with_log(&disk, "always");
    write_all(&mut server.connect(), "kept", BEFORE);
    server.kill();
    let files = disk.files_at("appendonlydir");
    disk.make_read_only();
    let status = server.restart_refused();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    let said = server.log();
    assert!(said.contains("appendonlydir") && said.contains("Read-only file system"), "{said}");
    assert_eq!(disk.files_at("appendonlydir"), files);
    disk.heal();
    for (call, name) in [(Call::Open, ".incr.aof"), (Call::Rename, ".manifest"), (Call::SyncFolder, "appendonlydir")] {
        disk.fail(Fault::next(call, name, Outcome::Error(libc::EIO)).for_good());
        let status = server.restart_refused();
        assert_eq!(status.code(), Some(1), "{call:?}: {}", server.log());
        assert!(server.log().contains("Input/output error"), "{call:?}: {}", server.log());
        disk.heal();
    }
    server.restart();
    assert_all(&mut server.connect(), "kept", BEFORE);
}

#[test]
fn without_its_folder_a_log_cannot_be_begun() {
    let Some(disk) = FaultyDisk::mount() else { return };
    let mut server = start(&disk, &[]);
    server.kill();
    server.args(&["--appendonly", "yes"]);
    disk.fail(Fault::next(Call::CreateFolder, "appendonlydir", Outcome::Error(libc::EROFS)));
    let status = server.restart_refused();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("appendonlydir: Read-only file system"), "{}", server.log());
    server.restart();
    write_all(&mut server.connect(), "kept", BEFORE);
}
