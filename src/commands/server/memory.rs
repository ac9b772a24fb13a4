//! MEMORY: what keys cost. USAGE runs on the owner of the key and tells allocated bytes, name and pointer included; DOCTOR is a
//! plan that adds up the shards and looks at the allocator.
//!
//! Absent so far: STATS, PURGE and MALLOC-STATS.

use super::{NONDETERMINISTIC, SERVER};
use crate::base::num;
use crate::commands::help::help;
use crate::commands::keys::{KeyFlags, KeySpec};
use crate::commands::table::{Flags, Row, Run};
use crate::keyspace::Keyspace;
use crate::resp::{Args, CommandError, OwnedArgs, Reply};
use crate::rt::{memory, process};
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

/// Below this much data ratios say nothing, bytes.
const SMALL_BYTES: u64 = 5 * 1024 * 1024;

fn doctor(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let data = coordinator.call_all(|shard| data_bytes(&shard.keyspace)).await;
        let text = diagnosis(data.into_iter().sum(), &memory::sample(), process::resident_bytes());
        let mut reply = coordinator.reply();
        reply.verbatim("txt", text.as_bytes());
        Ok(reply)
    })
}

/// What the keys of one shard take.
pub fn data_bytes(keyspace: &Keyspace) -> u64 {
    let memory = keyspace.memory();
    (memory.table_bytes + memory.record_bytes) as u64
}

fn diagnosis(data: u64, allocator: &memory::Allocator, resident: u64) -> String {
    if data < SMALL_BYTES {
        return "There is too little data here to judge memory by. Fill the server and ask again.\n".to_owned();
    }
    let mut findings = Vec::new();
    let percent = |part: u64, whole: u64| part * 100 / whole.max(1);
    if percent(allocator.peak, allocator.allocated) > 150 {
        findings.push(
            "Peak: the server once used more than one and a half times what it uses now. The allocator may keep some of that \
             memory; it is used again before more is asked for.",
        );
    }
    if percent(allocator.active, allocator.allocated) > 140 {
        findings.push(
            "Fragmentation: more than two fifths of the memory in use lie in gaps between allocations. Values that change \
             their size often do this; a restart with the data loaded anew closes the gaps.",
        );
    }
    if percent(resident, allocator.resident) > 130 {
        findings.push("Overhead: much of the resident memory is not the allocator's. Thread stacks and rings are small; look for other libraries.");
    }
    if findings.is_empty() {
        return "Nothing remarkable: memory is used for what is stored.\n".to_owned();
    }
    findings.into_iter().map(|finding| format!("* {finding}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_speaks_of_what_it_finds() {
        let healthy = memory::Allocator {
            allocated: 100 << 20,
            active: 105 << 20,
            resident: 110 << 20,
            peak: 100 << 20,
            startup: 0,
        };
        assert!(diagnosis(1 << 10, &healthy, 110 << 20).contains("too little"));
        assert!(diagnosis(90 << 20, &healthy, 112 << 20).contains("Nothing remarkable"));
        let gaps = memory::Allocator { active: 160 << 20, resident: 170 << 20, ..healthy };
        let text = diagnosis(90 << 20, &gaps, 170 << 20);
        assert!(text.contains("Fragmentation") && !text.contains("Peak"), "{text}");
    }
}
