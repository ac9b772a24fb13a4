//! MEMORY: what keys cost, and what the server takes as a whole. USAGE runs on the owner of the key and tells allocated bytes, name and
//! pointer included; the others are plans that add up the shards and look at the allocator.
//!
//! ```text
//!   used       = overhead + dataset                              what the allocator has handed out
//!   overhead   = at start + tables + clients + logs + snapshot   each counted where it is
//!   dataset    = the rest: records with their keys and values
//! ```
//!
//! INFO's memory section is made of the same figures ([`Overview`]). Absent on purpose: figures that only Redis's own structures have;
//! fields of that kind are there and 0 (replicas, scripts, a table of expiries: eight bytes in the records of keys that expire).

use super::{NONDETERMINISTIC, SERVER};
use crate::base::{DbIndex, num};
use crate::commands::help::help;
use crate::commands::keys::{KeyFlags, KeySpec};
use crate::commands::table::{Flags, Row, Run};
use crate::keyspace::Keyspace;
use crate::metrics::ShardMemory;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::memory::Allocator;
use crate::rt::{memory, process};
use crate::shard::Shard;
use crate::shard::cx::{DataFn, ReadCx};
use crate::txn::{Coordinator, Plan};

/// See the module.
pub const ROW: Row = Row {
    name: "memory",
    summary: "A container for commands about memory.",
    since: "4.0.0",
    complexity: "Depends on the subcommand.",
    arity: -2,
    subcommands: &[
        Row {
            name: "doctor",
            summary: "Says what is remarkable about the server's memory.",
            since: "4.0.0",
            arity: 2,
            tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
            run: Run::Server(doctor),
            ..SERVER
        },
        Row {
            name: "help",
            summary: "Prints this help.",
            since: "4.0.0",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            run: Run::Session(help),
            ..SERVER
        },
        Row {
            name: "malloc-stats",
            summary: "The memory allocator's own report.",
            since: "4.0.0",
            complexity: "Depends on how much memory is allocated.",
            arity: 2,
            tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
            run: Run::Server(malloc_stats),
            ..SERVER
        },
        Row {
            name: "purge",
            summary: "Has the memory allocator give pages that hold nothing back to the kernel.",
            since: "4.0.0",
            complexity: "Depends on how much memory is allocated.",
            arity: 2,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            run: Run::Server(purge),
            ..SERVER
        },
        Row {
            name: "stats",
            summary: "What memory is spent on.",
            since: "4.0.0",
            arity: 2,
            tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
            run: Run::Server(stats),
            ..SERVER
        },
        Row {
            name: "usage",
            usage: "key [SAMPLES count]",
            summary: "Bytes that a key takes with its name and value; large values are counted in full.",
            since: "4.0.0",
            complexity: "O(1)",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            run: Run::Data(DataFn::Read(usage)),
            ..SERVER
        },
    ],
    ..SERVER
};

/// The pointer to a record in its segment, bytes.
const SLOT_BYTES: usize = 8;

fn usage(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let mut at = 3;
    while at < args.len() {
        if !args.get(at).eq_ignore_ascii_case(b"SAMPLES") || at + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        // Every type knows what it has allocated, so there is nothing to take samples of; the number is only checked.
        let samples = num::parse_i64(args.get(at + 1)).ok_or(CommandError::NotAnInteger)?;
        if samples < 0 {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    match cx.peek(args.get(2)) {
        Some(entry) => reply.int((entry.memory_bytes() + SLOT_BYTES) as i64),
        None => reply.null(),
    }
    Ok(())
}

/// What the keys of one shard take, but for the insides of lists, sets, hashes, sorted sets and streams.
pub fn data_bytes(keyspace: &Keyspace) -> u64 {
    let memory = keyspace.memory();
    (memory.table_bytes + memory.record_bytes) as u64
}

/// What the server takes as a whole, and on what it is spent.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Overview {
    /// The allocator.
    pub allocator: Allocator,
    /// Resident memory of the process.
    pub resident: u64,
    /// All shards together.
    pub shards: ShardMemory,
}

impl Overview {
    /// What does not hold the data.
    pub fn overhead(&self) -> u64 {
        let ShardMemory { tables, clients, log, snapshot, .. } = self.shards;
        (self.allocator.startup + tables + clients + log + snapshot).min(self.allocator.allocated)
    }

    /// What does.
    pub fn dataset(&self) -> u64 {
        self.allocator.allocated - self.overhead()
    }

    /// What was taken since the start; never 0, so that it can be divided by.
    pub fn since_start(&self) -> u64 {
        self.allocator.allocated.saturating_sub(self.allocator.startup).max(1)
    }
}

/// One database of all shards together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct DbOverhead {
    keys: u64,
    table_bytes: u64,
}

fn stats(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let told = coordinator
            .call_all(|shard| {
                let dbs = shard
                    .keyspace
                    .dbs()
                    .iter()
                    .map(|db| DbOverhead { keys: db.len() as u64, table_bytes: db.memory().table_bytes as u64 });
                (shard.memory_now(), dbs.collect::<Vec<_>>())
            })
            .await;
        let mut shards = ShardMemory::default();
        let mut dbs: Vec<DbOverhead> = Vec::new();
        for (memory, overheads) in told {
            shards.absorb(&memory);
            dbs.resize(overheads.len(), DbOverhead::default());
            for (sum, part) in dbs.iter_mut().zip(overheads) {
                sum.keys += part.keys;
                sum.table_bytes += part.table_bytes;
            }
        }
        let overview = Overview { allocator: memory::sample(), resident: process::resident_bytes(), shards };
        let mut reply = coordinator.reply();
        write_stats(&overview, &dbs, &mut reply);
        Ok(reply)
    })
}

/// One figure of MEMORY STATS.
enum Figure {
    Bytes(u64),
    Signed(i64),
    Ratio(f64),
}

fn ratio(part: u64, whole: u64) -> Figure {
    Figure::Ratio(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
}

fn percentage(part: u64, whole: u64) -> Figure {
    Figure::Ratio(if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

fn difference(a: u64, b: u64) -> Figure {
    Figure::Signed(a.cast_signed().wrapping_sub(b.cast_signed()))
}

fn write_stats(overview: &Overview, dbs: &[DbOverhead], reply: &mut Reply) {
    use Figure::Bytes;
    let Allocator { allocated, active, resident, muzzy, peak, startup } = overview.allocator;
    let keys: u64 = dbs.iter().map(|db| db.keys).sum();
    let before = [
        ("peak.allocated", Bytes(peak)),
        ("total.allocated", Bytes(allocated)),
        ("startup.allocated", Bytes(startup)),
        ("replication.backlog", Bytes(0)),
        ("clients.slaves", Bytes(0)),
        ("clients.normal", Bytes(overview.shards.clients)),
        ("cluster.links", Bytes(0)),
        ("aof.buffer", Bytes(overview.shards.log)),
        ("lua.caches", Bytes(0)),
        ("functions.caches", Bytes(0)),
    ];
    let after = [
        ("overhead.total", Bytes(overview.overhead())),
        ("keys.count", Bytes(keys)),
        ("keys.bytes-per-key", Bytes(overview.since_start().checked_div(keys).unwrap_or(0))),
        ("dataset.bytes", Bytes(overview.dataset())),
        ("dataset.percentage", percentage(overview.dataset(), overview.since_start())),
        ("peak.percentage", percentage(allocated, peak)),
        ("allocator.allocated", Bytes(allocated)),
        ("allocator.active", Bytes(active)),
        ("allocator.resident", Bytes(resident)),
        ("allocator.muzzy", Bytes(muzzy)),
        ("allocator-fragmentation.ratio", ratio(active, allocated)),
        ("allocator-fragmentation.bytes", difference(active, allocated)),
        ("allocator-rss.ratio", ratio(resident, active)),
        ("allocator-rss.bytes", difference(resident, active)),
        ("rss-overhead.ratio", ratio(overview.resident, resident)),
        ("rss-overhead.bytes", difference(overview.resident, resident)),
        ("fragmentation", ratio(overview.resident, allocated)),
        ("fragmentation.bytes", difference(overview.resident, allocated)),
    ];
    let full = dbs.iter().enumerate().filter(|(_, db)| db.keys > 0);
    reply.map(before.len() + full.clone().count() + after.len());
    let write = |reply: &mut Reply, name: &str, figure: Figure| {
        reply.bulk(name.as_bytes());
        match figure {
            Figure::Bytes(bytes) => reply.int(bytes.cast_signed()),
            Figure::Signed(bytes) => reply.int(bytes),
            Figure::Ratio(ratio) => reply.double(ratio),
        }
    };
    for (name, figure) in before {
        write(reply, name, figure);
    }
    for (at, db) in full {
        reply.bulk(format!("db.{}", DbIndex(at as u16).0).as_bytes());
        reply.map(3);
        write(reply, "overhead.hashtable.main", Bytes(db.table_bytes));
        write(reply, "overhead.hashtable.expires", Bytes(0));
        write(reply, "overhead.hashtable.slot-to-keys", Bytes(0));
    }
    for (name, figure) in after {
        write(reply, name, figure);
    }
}

fn purge(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        coordinator.call_all(|_| memory::flush_thread()).await;
        coordinator.call(coordinator.origin().shard, |_| memory::purge()).await;
        let mut reply = coordinator.reply();
        reply.ok();
        Ok(reply)
    })
}

fn malloc_stats(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let text = coordinator.call(coordinator.origin().shard, |_| memory::malloc_stats()).await;
        let mut reply = coordinator.reply();
        reply.verbatim("txt", text.as_bytes());
        Ok(reply)
    })
}

/// Below this much memory in use ratios say nothing, bytes.
const SMALL_BYTES: u64 = 5 * 1024 * 1024;
/// Gaps below this are not worth a word, bytes. Redis's number, as are the ratios.
const GAPS_BYTES_MIN: u64 = 10 * 1024 * 1024;
/// What clients take on average without anybody wondering, bytes.
const CLIENT_BYTES_MAX: u64 = 200 * 1024;

/// What the doctor looks at.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Facts {
    overview: Overview,
    clients: u64,
    maxmemory: u64,
    /// Whether no shard has anything that may be evicted.
    is_full: bool,
}

fn doctor(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let look = |shard: &mut Shard| {
            (shard.memory_now(), shard.sessions.len() as u64, shard.config.maxmemory, shard.eviction.is_full)
        };
        let mut facts = Facts::default();
        for (memory, clients, maxmemory, is_full) in coordinator.call_all(look).await {
            facts.overview.shards.absorb(&memory);
            facts.clients += clients;
            facts.maxmemory = maxmemory;
            facts.is_full |= is_full;
        }
        facts.overview.allocator = memory::sample();
        facts.overview.resident = process::resident_bytes();
        let mut reply = coordinator.reply();
        reply.verbatim("txt", diagnosis(&facts).as_bytes());
        Ok(reply)
    })
}

fn diagnosis(facts: &Facts) -> String {
    let Overview { allocator, resident, shards } = &facts.overview;
    if allocator.allocated.saturating_sub(allocator.startup) < SMALL_BYTES && !facts.is_full {
        return "There is too little data here to judge memory by. Fill the server and ask again.\n".to_owned();
    }
    let mut findings = Vec::new();
    let percent = |part: u64, whole: u64| part * 100 / whole.max(1);
    if facts.is_full {
        findings.push(
            "Full: maxmemory is reached and nothing may be evicted. Commands that want memory are refused. Raise maxmemory, delete \
             something, or choose another maxmemory-policy.",
        );
    }
    if percent(allocator.peak, allocator.allocated) > 150 {
        findings.push(
            "Peak: the server once used more than one and a half times what it uses now. The allocator may keep some of that \
             memory; it is used again before more is asked for. MEMORY PURGE gives back what can be given.",
        );
    }
    if percent(allocator.active, allocator.allocated) > 140 && allocator.active - allocator.allocated > GAPS_BYTES_MIN {
        findings.push(
            "Fragmentation: more than two fifths of the memory in use lie in gaps between allocations. Values that change \
             their size often do this; a restart with the data loaded anew closes the gaps.",
        );
    }
    if percent(allocator.resident, allocator.active) > 110
        && allocator.resident.saturating_sub(allocator.active) > GAPS_BYTES_MIN
    {
        findings.push(
            "Pages: the allocator keeps pages that hold nothing. It gives them back within seconds, or at once on MEMORY PURGE.",
        );
    }
    if percent(*resident, allocator.resident) > 130 && resident.saturating_sub(allocator.resident) > GAPS_BYTES_MIN {
        findings.push("Overhead: much of the resident memory is not the allocator's. Thread stacks and rings are small; look for other libraries.");
    }
    if facts.clients > 0 && shards.clients / facts.clients > CLIENT_BYTES_MAX {
        findings.push(
            "Clients: they take more than 200 KiB each on average. CLIENT LIST says who (tot-mem); client-output-buffer-limit and \
             maxmemory-clients hold them in check.",
        );
    }
    if findings.is_empty() {
        return "Nothing remarkable: memory is used for what is stored.\n".to_owned();
    }
    findings.into_iter().map(|finding| format!("* {finding}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn facts(allocator: Allocator, resident: u64) -> Facts {
        Facts { overview: Overview { allocator, resident, ..Overview::default() }, clients: 1, ..Facts::default() }
    }

    #[test]
    fn the_doctor_speaks_of_what_it_finds() {
        let healthy = Allocator {
            allocated: 100 * MIB,
            active: 105 * MIB,
            resident: 110 * MIB,
            peak: 100 * MIB,
            ..Allocator::default()
        };
        let small = Allocator { allocated: 2 * MIB, ..healthy };
        assert!(diagnosis(&facts(small, 110 * MIB)).contains("too little"));
        assert!(diagnosis(&facts(healthy, 112 * MIB)).contains("Nothing remarkable"));
        let gaps = Allocator { active: 160 * MIB, resident: 170 * MIB, ..healthy };
        let text = diagnosis(&facts(gaps, 170 * MIB));
        assert!(text.contains("Fragmentation") && !text.contains("Peak"), "{text}");
        let kept = Allocator { resident: 200 * MIB, ..healthy };
        assert!(diagnosis(&facts(kept, 200 * MIB)).contains("Pages"));
        let full = Facts { is_full: true, ..facts(small, 3 * MIB) };
        assert!(diagnosis(&full).contains("Full"));
        let shards = ShardMemory { clients: MIB, ..ShardMemory::default() };
        let greedy = Facts {
            overview: Overview { shards, ..facts(healthy, 112 * MIB).overview },
            clients: 2,
            ..Facts::default()
        };
        assert!(diagnosis(&greedy).contains("Clients"));
    }

    #[test]
    fn overhead_and_dataset_are_what_is_used() {
        let shards = ShardMemory { tables: 10, clients: 20, log: 5, snapshot: 1, ..ShardMemory::default() };
        let allocator = Allocator { allocated: 1000, startup: 100, ..Allocator::default() };
        let overview = Overview { allocator, resident: 0, shards };
        assert_eq!((overview.overhead(), overview.dataset(), overview.since_start()), (136, 864, 900));
        // More is counted than is allocated only while figures of different instants are put together.
        let odd = Overview { allocator: Allocator { allocated: 50, ..allocator }, ..overview };
        assert_eq!((odd.overhead(), odd.dataset(), odd.since_start()), (50, 0, 1));
    }
}
