//! What one shard counts about its own work: plain integers, bumped on the hot path and read by INFO.
//!
//! Each shard owns one [`ShardMetrics`] and nobody else touches it; INFO asks every shard for a copy and adds them up
//! ([`ShardMetrics::absorb`]). Times are durations that the caller measured.
//!
//! Absent on purpose: atomics and locks (nothing here is shared), and any clock.

mod commands;
pub mod hot_keys;
pub mod latency;
mod memory;
mod rate;
pub mod slowlog;

pub use commands::{CommandId, CommandStats, CommandTimes, LATENCY_NS_MAX};
pub use memory::ShardMemory;
pub use rate::{Rate, RateSample, Recent};

use std::collections::BTreeMap;

/// Everything one shard counts. All fields only grow until [`ShardMetrics::reset`], unless they say otherwise.
#[derive(Clone, Default)]
pub struct ShardMetrics {
    /// Connections accepted and dealt to this shard.
    pub connections_received: u64,
    /// Connections turned away because `maxclients` was reached. Counted on the accepting shard.
    pub connections_rejected: u64,
    /// Commands that this shard ran for its own connections or for other shards (parts of one command count once).
    pub commands_processed: u64,
    /// Bytes read from sockets.
    pub net_input_bytes: u64,
    /// Bytes written to sockets.
    pub net_output_bytes: u64,
    /// Error replies by their first word (`ERR`, `WRONGTYPE`…). Bounded: see [`ShardMetrics::count_error`].
    pub errors: BTreeMap<String, u64>,
    /// All error replies.
    pub error_replies: u64,
    /// Connections closed because their unparsed input passed `client-query-buffer-limit` or its limit before AUTH.
    pub query_buffer_disconnects: u64,
    /// Connections closed because their replies passed `client-output-buffer-limit` or the limit before AUTH.
    pub output_buffer_disconnects: u64,
    /// Read lookups that found a live key.
    pub keyspace_hits: u64,
    /// Read lookups that found none.
    pub keyspace_misses: u64,
    /// Keys removed because their time had come, on access or by the active cycle.
    pub expired_keys: u64,
    /// Fields of hashes that were removed because their time had come.
    pub expired_fields: u64,
    /// Active expiry cycles that stopped at their budget with work left.
    pub expire_cycles_capped: u64,
    /// Time that active expiry cycles took, microseconds.
    pub expire_cycles_us: u64,
    /// Payloads of DUMP that were checked in depth.
    pub payloads_checked: u64,
    /// Times that bytes came from a socket.
    pub reads: u64,
    /// Times that bytes were handed to a socket.
    pub writes: u64,
    /// Keys removed because memory was full.
    pub evicted_keys: u64,
    /// Connections closed because clients together passed `maxmemory-clients`.
    pub evicted_clients: u64,
    /// Large values and records of emptied databases that were freed in slices.
    pub lazyfreed_objects: u64,
    /// For how long the process was over `maxmemory`, as this shard saw it, in microseconds; the present time over it not included.
    pub over_memory_us: u64,
    /// Changes to the keyspace since the last save: not reset by CONFIG RESETSTAT.
    pub changes: u64,
    /// Failed AUTH and HELLO attempts.
    pub auth_failures: u64,
    /// Commands that a user was not allowed to run.
    pub denied_commands: u64,
    /// Commands that were refused because of a key.
    pub denied_keys: u64,
    /// Commands that were refused because of a channel.
    pub denied_channels: u64,
    /// Commands that were sent to another shard.
    pub hops_out: u64,
    /// Commands and calls that came from another shard.
    pub hops_in: u64,
    /// Turns of the event loop.
    pub loop_turns: u64,
    /// Time spent outside waiting, in microseconds. A turn that found nothing to do does not count.
    pub loop_busy_us: u64,
    /// Messages that the last turn found in the mailboxes, of those turns that found any.
    pub mailbox: u64,
    /// Whether the core slept before this turn.
    pub slept: bool,
    /// The most that any turn found there.
    pub mailbox_max: u64,
    /// The largest query buffer of a client, bytes.
    pub input_max: Recent,
    /// The most that waited for a client to read it, bytes.
    pub output_max: Recent,
    /// Per-command calls, time and latency histograms.
    pub commands: CommandStats,
    /// Commands per second over the last samples. Not summed by time, but by value.
    pub ops_rate: Rate,
    /// Input bytes per second.
    pub input_rate: Rate,
    /// Output bytes per second.
    pub output_rate: Rate,
    /// Turns of the event loop per second.
    pub turn_rate: Rate,
    /// Microseconds per second that the event loop works.
    pub busy_rate: Rate,
}

/// Distinct error codes kept apart. Redis caps the table too, since a script may invent codes.
const ERROR_CODES_MAX: usize = 128;

impl ShardMetrics {
    /// How many errors were counted.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Counts one error reply under its code, the first word of its text. Codes past the cap are counted as `ERR`.
    pub fn count_error(&mut self, code: &str) {
        self.error_replies += 1;
        if let Some(n) = self.errors.get_mut(code) {
            *n += 1;
        } else {
            let code = if self.errors.len() < ERROR_CODES_MAX { code } else { "ERR" };
            *self.errors.entry(code.to_owned()).or_insert(0) += 1;
        }
    }

    /// What CONFIG RESETSTAT does: everything to zero but what describes the data rather than the traffic.
    pub fn reset(&mut self) {
        let changes = self.changes;
        *self = ShardMetrics { changes, ..ShardMetrics::default() };
    }

    /// Takes the once-per-tenth-of-a-second samples behind the `instantaneous_*` fields. Called once per turn.
    pub fn sample_rates(&mut self, mono_us: u64) {
        self.ops_rate.sample(mono_us, self.commands_processed);
        self.input_rate.sample(mono_us, self.net_input_bytes);
        self.output_rate.sample(mono_us, self.net_output_bytes);
        self.turn_rate.sample(mono_us, self.loop_turns);
        self.busy_rate.sample(mono_us, self.loop_busy_us);
        self.input_max.turn(mono_us);
        self.output_max.turn(mono_us);
    }

    /// A turn has found so many messages.
    pub fn found_mail(&mut self, messages: u64) {
        self.mailbox = messages;
        self.mailbox_max = self.mailbox_max.max(messages);
    }

    /// The share of its time that the event loop works, of about the last second.
    pub fn busy_share(&self, mono_us: u64) -> f64 {
        (self.busy_rate.per_second(mono_us) / 1e6).min(1.0)
    }

    /// A copy for another core; latency histograms are large and only taken along if they are asked for.
    pub fn copy(&self, latencies: bool) -> ShardMetrics {
        ShardMetrics {
            errors: self.errors.clone(),
            commands: self.commands.copy(latencies),
            ops_rate: self.ops_rate.clone(),
            input_rate: self.input_rate.clone(),
            output_rate: self.output_rate.clone(),
            turn_rate: self.turn_rate.clone(),
            busy_rate: self.busy_rate.clone(),
            ..*self
        }
    }

    /// Adds another shard's figures to these.
    pub fn absorb(&mut self, other: &ShardMetrics) {
        self.connections_received += other.connections_received;
        self.connections_rejected += other.connections_rejected;
        self.commands_processed += other.commands_processed;
        self.net_input_bytes += other.net_input_bytes;
        self.net_output_bytes += other.net_output_bytes;
        for (code, n) in &other.errors {
            *self.errors.entry(code.clone()).or_insert(0) += n;
        }
        self.error_replies += other.error_replies;
        self.query_buffer_disconnects += other.query_buffer_disconnects;
        self.output_buffer_disconnects += other.output_buffer_disconnects;
        self.keyspace_hits += other.keyspace_hits;
        self.keyspace_misses += other.keyspace_misses;
        self.expired_keys += other.expired_keys;
        self.expired_fields += other.expired_fields;
        self.expire_cycles_capped += other.expire_cycles_capped;
        self.expire_cycles_us += other.expire_cycles_us;
        self.payloads_checked += other.payloads_checked;
        self.reads += other.reads;
        self.writes += other.writes;
        self.evicted_keys += other.evicted_keys;
        self.evicted_clients += other.evicted_clients;
        self.lazyfreed_objects += other.lazyfreed_objects;
        // All shards see the same.
        self.over_memory_us = self.over_memory_us.max(other.over_memory_us);
        self.changes += other.changes;
        self.auth_failures += other.auth_failures;
        self.denied_commands += other.denied_commands;
        self.denied_keys += other.denied_keys;
        self.denied_channels += other.denied_channels;
        self.hops_out += other.hops_out;
        self.hops_in += other.hops_in;
        self.loop_turns += other.loop_turns;
        self.loop_busy_us += other.loop_busy_us;
        self.mailbox += other.mailbox;
        self.mailbox_max = self.mailbox_max.max(other.mailbox_max);
        self.input_max.absorb(other.input_max);
        self.output_max.absorb(other.output_max);
        self.commands.absorb(&other.commands);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_are_counted_apart_up_to_the_cap() {
        let mut m = ShardMetrics::default();
        for i in 0..ERROR_CODES_MAX + 10 {
            m.count_error(&format!("CODE{i}"));
        }
        assert_eq!(m.error_replies, (ERROR_CODES_MAX + 10) as u64);
        assert!(m.errors.len() <= ERROR_CODES_MAX + 1);
        assert_eq!(m.errors["ERR"], 10);
    }

    #[test]
    fn reset_keeps_the_changes_since_the_last_save() {
        let mut m = ShardMetrics { changes: 7, keyspace_hits: 9, ..ShardMetrics::default() };
        m.reset();
        assert_eq!((m.changes, m.keyspace_hits), (7, 0));
    }

    #[test]
    fn absorbing_a_shard_adds_its_counts() {
        let mut a = ShardMetrics { expired_keys: 2, ..ShardMetrics::default() };
        a.count_error("ERR");
        let mut b = ShardMetrics { expired_keys: 3, ..ShardMetrics::default() };
        b.count_error("ERR");
        b.count_error("OOM");
        a.absorb(&b);
        assert_eq!(a.expired_keys, 5);
        assert_eq!(a.errors["ERR"], 2);
        assert_eq!(a.errors["OOM"], 1);
    }
}
