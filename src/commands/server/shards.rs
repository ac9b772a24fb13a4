//! SHARDS: what each core has and does, as a map for each. What INFO shards says in lines, for programs.
//!
//! ```text
//!   shard            its number                       hops-out, hops-in      commands and calls sent and received
//!   slots            how many of the 16384            mailbox, mailbox-max   messages that a turn of its loop found
//!   keys, expires    over all databases               transactions           that hold or wait for keys
//!   memory           bytes of its data                busy-share             of its time, of about the last second
//!   clients          connections it serves            asleep                 whether it slept before it was asked
//!   ops-per-sec      of about the last second         state, snapshot, log   loading or serving; what its files do
//! ```
//!
//! Counters begin anew with CONFIG RESETSTAT. Absent on purpose: anything that takes more than a look at each shard.

use super::memory::data_bytes;
use super::{NONDETERMINISTIC, SERVER};
use crate::commands::table::{Flags, Row, Run};
use crate::resp::{OwnedArgs, Reply};
use crate::shard::Shard;
use crate::shard::storage::WriteError;
use crate::txn::{Coordinator, Plan};

/// See the module.
pub const ROW: Row = Row {
    name: "shards",
    summary: "What each shard has and does: keys, memory, clients, load, messages.",
    since: "7.2.0",
    complexity: "O(N) with N shards",
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    tips: &[NONDETERMINISTIC, "request_policy:all_shards", "response_policy:special"],
    run: Run::Server(shards),
    ..SERVER
};

/// What one shard says of itself, in the order in which it is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct ShardView {
    /// Its number.
    pub shard: u16,
    /// How many slots it owns.
    pub slots: u64,
    /// Keys of all databases.
    pub keys: u64,
    /// Those with an end.
    pub expires: u64,
    /// Bytes of its data.
    pub memory: u64,
    /// Connections.
    pub clients: u64,
    /// Operations per second.
    pub ops_per_sec: u64,
    /// Operations.
    pub commands: u64,
    /// Sent to other shards, and received.
    pub hops: (u64, u64),
    /// Messages that the last turn with any has found, and the most that one did.
    pub mailbox: (u64, u64),
    /// Entries in its table of reservations.
    pub transactions: u64,
    /// Turns of its loop, and the time that it worked, microseconds.
    pub turns: (u64, u64),
    /// The share of its time that it works.
    pub busy_share: f64,
    /// Whether it slept when it was asked.
    pub asleep: bool,
    /// What it does for its clients.
    pub state: &'static str,
    /// Whether it writes a snapshot.
    pub snapshot: &'static str,
    /// What its log does.
    pub log: &'static str,
}

impl ShardView {
    /// What there is to say of a shard.
    pub fn of(shard: &Shard) -> ShardView {
        let (metrics, mono_us, status) = (&shard.metrics, shard.now.mono_us, &shard.storage.status);
        let dbs = shard.keyspace.dbs();
        ShardView {
            shard: shard.id.0,
            slots: shard.slots.slots_of(shard.id) as u64,
            keys: dbs.iter().map(|db| db.len() as u64).sum(),
            expires: dbs.iter().map(|db| db.expires_len() as u64).sum(),
            memory: data_bytes(&shard.keyspace),
            clients: shard.sessions.len() as u64,
            ops_per_sec: metrics.ops_rate.per_second(mono_us).round() as u64,
            commands: metrics.commands_processed,
            hops: (metrics.hops_out, metrics.hops_in),
            mailbox: (metrics.mailbox, metrics.mailbox_max),
            transactions: shard.reservations.len() as u64,
            turns: (metrics.loop_turns, metrics.loop_busy_us),
            busy_share: metrics.busy_share(mono_us),
            asleep: metrics.slept,
            state: match (status.loading_since, &status.write_error) {
                (Some(_), _) => "loading",
                (None, Some(_)) => "refusing-writes",
                (None, None) => "serving",
            },
            snapshot: if shard.storage.sink.is_some() { "writing" } else { "idle" },
            log: match &status.write_error {
                Some(WriteError::Log(_)) => "failing",
                _ if shard.effects.is_active() => "on",
                _ => "off",
            },
        }
    }

    fn write(&self, reply: &mut Reply) {
        let ints = [
            ("shard", u64::from(self.shard)),
            ("slots", self.slots),
            ("keys", self.keys),
            ("expires", self.expires),
            ("memory", self.memory),
            ("clients", self.clients),
            ("ops-per-sec", self.ops_per_sec),
            ("commands", self.commands),
            ("hops-out", self.hops.0),
            ("hops-in", self.hops.1),
            ("mailbox", self.mailbox.0),
            ("mailbox-max", self.mailbox.1),
            ("transactions", self.transactions),
            ("turns", self.turns.0),
            ("busy-usec", self.turns.1),
        ];
        let words = [("state", self.state), ("snapshot", self.snapshot), ("log", self.log)];
        reply.map(ints.len() + words.len() + 2);
        for (name, value) in ints {
            reply.bulk(name.as_bytes());
            reply.int(i64::try_from(value).unwrap_or(i64::MAX));
        }
        reply.bulk(b"busy-share");
        reply.double((self.busy_share * 1000.0).round() / 1000.0);
        reply.bulk(b"asleep");
        reply.bool(self.asleep);
        for (name, value) in words {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    }

    /// The line of INFO shards, without the shard's name.
    pub fn line(&self) -> String {
        format!(
            "clients={},keys={},expires={},bytes={},ops_per_sec={},commands={},hops_in={},hops_out={},mailbox={},mailbox_max={},\
             transactions={},turns={},busy_usec={},busy_share={:.3},slots={},state={},snapshot={},log={}",
            self.clients,
            self.keys,
            self.expires,
            self.memory,
            self.ops_per_sec,
            self.commands,
            self.hops.1,
            self.hops.0,
            self.mailbox.0,
            self.mailbox.1,
            self.transactions,
            self.turns.0,
            self.turns.1,
            self.busy_share,
            self.slots,
            self.state,
            self.snapshot,
            self.log,
        )
    }
}

fn shards(coordinator: Coordinator, _: OwnedArgs) -> Plan {
    Box::pin(async move {
        let views = coordinator.call_all(|shard| ShardView::of(shard)).await;
        let mut reply = coordinator.reply();
        reply.array(views.len());
        views.iter().for_each(|view| view.write(&mut reply));
        Ok(reply)
    })
}
