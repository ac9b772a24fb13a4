//! The latency monitor: when something held a core up for at least `latency-monitor-threshold` milliseconds, by kind of event.
//!
//! Each shard keeps its own series and notes an event where it happens; LATENCY asks all shards and joins the series
//! ([`LatencyMonitor::absorb`]). As in Redis a series has 160 samples, and one second has one sample, its worst.
//!
//! Absent on purpose: the clock, and the threshold's meaning for commands (`shard::timing`).

use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept of an event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// What is watched. The names are Redis's where it has the event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Event {
    /// A command.
    Command,
    /// A command that takes constant or logarithmic time.
    FastCommand,
    /// Expired keys were removed.
    ExpireCycle,
    /// Keys were chosen and removed to make room.
    EvictionCycle,
    /// The log was written.
    AofWrite,
    /// The log was written and forced to the disk, and clients waited for that.
    AofFsyncAlways,
    /// The log was forced to the disk once a second.
    AofFsync,
    /// A snapshot's walk held the core up.
    SnapshotSlice,
    /// A turn of the event loop, whatever it did.
    EventLoop,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 9] = [
        Event::Command,
        Event::FastCommand,
        Event::ExpireCycle,
        Event::EvictionCycle,
        Event::AofWrite,
        Event::AofFsyncAlways,
        Event::AofFsync,
        Event::SnapshotSlice,
        Event::EventLoop,
    ];

    /// As clients name it.
    pub fn name(self) -> &'static str {
        match self {
            Event::Command => "command",
            Event::FastCommand => "fast-command",
            Event::ExpireCycle => "expire-cycle",
            Event::EvictionCycle => "eviction-cycle",
            Event::AofWrite => "aof-write",
            Event::AofFsyncAlways => "aof-fsync-always",
            Event::AofFsync => "aof-fsync",
            Event::SnapshotSlice => "snapshot-slice",
            Event::EventLoop => "eventloop",
        }
    }

    /// By its name, in any case.
    pub fn named(name: &[u8]) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The worst of an event in one second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Spike {
    /// The second, since the Unix epoch.
    pub unix_secs: i64,
    /// How long it took, milliseconds.
    pub ms: u64,
}

/// The spikes of one kind of event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spikes {
    samples: VecDeque<Spike>,
    max_ms: u64,
}

impl Spikes {
    fn note(&mut self, spike: Spike) {
        self.max_ms = self.max_ms.max(spike.ms);
        match self.samples.back_mut() {
            Some(last) if last.unix_secs == spike.unix_secs => last.ms = last.ms.max(spike.ms),
            _ => {
                self.samples.push_back(spike);
                if self.samples.len() > SAMPLES_MAX {
                    self.samples.pop_front();
                }
            }
        }
    }

    /// Those that are kept, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Spike> + DoubleEndedIterator {
        self.samples.iter()
    }

    /// The last one.
    pub fn latest(&self) -> Option<Spike> {
        self.samples.back().copied()
    }

    /// The worst since the series was last reset, milliseconds.
    pub fn max_ms(&self) -> u64 {
        self.max_ms
    }

    /// What is to be said of them as a whole; none if there is none.
    pub fn summary(&self, now_secs: i64) -> Option<Summary> {
        let first = self.samples.front()?;
        let count = self.samples.len() as f64;
        let mean_ms = self.samples.iter().map(|spike| spike.ms as f64).sum::<f64>() / count;
        let deviation_ms = self.samples.iter().map(|spike| (spike.ms as f64 - mean_ms).abs()).sum::<f64>() / count;
        let since_secs = (now_secs - first.unix_secs).max(0) as f64;
        Some(Summary {
            count: self.samples.len(),
            low_ms: self.samples.iter().map(|spike| spike.ms).min()?,
            high_ms: self.samples.iter().map(|spike| spike.ms).max()?,
            mean_ms,
            deviation_ms,
            period_secs: since_secs / count,
        })
    }
}

/// See [`Spikes::summary`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// How many there are.
    pub count: usize,
    /// The least, milliseconds.
    pub low_ms: u64,
    /// The worst, milliseconds.
    pub high_ms: u64,
    /// Their mean, milliseconds.
    pub mean_ms: f64,
    /// The mean distance from it, milliseconds.
    pub deviation_ms: f64,
    /// One comes about so often, seconds.
    pub period_secs: f64,
}

/// All events of one shard, or of all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LatencyMonitor {
    events: BTreeMap<Event, Spikes>,
}

impl LatencyMonitor {
    /// Notes an event, which the caller knows to be above the threshold.
    #[cold]
    pub fn note(&mut self, event: Event, unix_secs: i64, ms: u64) {
        self.events.entry(event).or_default().note(Spike { unix_secs, ms });
    }

    /// The series that are there, by kind.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Event, &Spikes)> {
        self.events.iter().map(|(event, spikes)| (*event, spikes))
    }

    /// One of them.
    pub fn get(&self, event: Event) -> Option<&Spikes> {
        self.events.get(&event)
    }

    /// Forgets a series.
    pub fn reset(&mut self, event: Event) {
        self.events.remove(&event);
    }

    /// Joins the series of another shard.
    pub fn absorb(&mut self, other: &LatencyMonitor) {
        for (event, theirs) in &other.events {
            let ours = self.events.entry(*event).or_default();
            let mut all: Vec<Spike> = ours.samples.iter().chain(&theirs.samples).copied().collect();
            all.sort_unstable();
            let max_ms = ours.max_ms.max(theirs.max_ms);
            ours.samples.clear();
            all.into_iter().for_each(|spike| ours.note(spike));
            ours.max_ms = max_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spikes: &[(i64, u64)]) -> LatencyMonitor {
        let mut monitor = LatencyMonitor::default();
        spikes.iter().for_each(|(secs, ms)| monitor.note(Event::Command, *secs, *ms));
        monitor
    }

    fn shown(monitor: &LatencyMonitor) -> Vec<(i64, u64)> {
        monitor.get(Event::Command).unwrap().iter().map(|spike| (spike.unix_secs, spike.ms)).collect()
    }

    #[test]
    fn a_second_has_one_sample_and_a_series_has_160() {
        assert_eq!(shown(&of(&[(1, 10), (1, 30), (1, 20), (2, 5)])), [(1, 30), (2, 5)]);
        let many: Vec<(i64, u64)> = (0..200).map(|at| (at, if at == 3 { 999 } else { 1 })).collect();
        let monitor = of(&many);
        assert_eq!(shown(&monitor).len(), SAMPLES_MAX);
        assert_eq!(monitor.get(Event::Command).unwrap().max_ms(), 999, "the worst is remembered");
    }

    #[test]
    fn shards_are_joined_by_time() {
        let mut all = of(&[(1, 10), (3, 30)]);
        all.absorb(&of(&[(1, 40), (2, 20)]));
        assert_eq!(shown(&all), [(1, 40), (2, 20), (3, 30)]);
    }

    #[test]
    fn a_summary_tells_mean_and_period() {
        let monitor = of(&[(10, 100), (20, 200)]);
        let summary = monitor.get(Event::Command).unwrap().summary(30).unwrap();
        assert_eq!((summary.low_ms, summary.high_ms, summary.mean_ms), (100, 200, 150.0));
        assert_eq!((summary.deviation_ms, summary.period_secs), (50.0, 10.0));
    }

    #[test]
    fn every_event_is_found_by_its_name() {
        for event in Event::ALL {
            assert_eq!(Event::named(event.name().to_uppercase().as_bytes()), Some(event));
        }
        assert_eq!(Event::named(b"nope"), None);
    }
}
