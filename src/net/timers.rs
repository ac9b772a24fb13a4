//! What a core does because time has passed: expires keys, frees databases that were emptied, packs strings, closes idle clients.
//!
//! All of it in bounded slices between turns, and none of it wakes a core that has nothing due: the loop sleeps until
//! [`Timers::next_us`], which is never when no key can expire and no client can time out.

use super::packing::Packing;
use crate::base::DbIndex;
use crate::base::time::{Millis, Now};
use crate::config::EventClass;
use crate::dispatch::Engine;
use crate::keyspace::Parts;
use crate::metrics::latency::Event;
use crate::rt::clock::Clock;
use crate::rt::service;
use crate::session::{Closing, Subscriptions};
use crate::shard::cx::Observers;
use crate::shard::{Shard, Stop};

/// Time one active expiry cycle may take, microseconds, at `active-expire-effort` 1 and more for each step above. With the
/// pause below that is a quarter of a core at most, as in Redis, in pieces that no client notices: a reply may have to wait for two of
/// them, and for what the machine makes of that.
const EXPIRE_CYCLE_US: u64 = 500;
/// See above.
const EXPIRE_CYCLE_US_PER_EFFORT: u64 = 75;
/// Pause after a cycle that left work behind, microseconds.
const EXPIRE_PAUSE_US: u64 = 1_500;
/// Records that one step of a cycle looks at before it reads the clock.
const EXPIRE_STEP: usize = 128;
/// Time that freeing values and emptied databases may take in one turn, microseconds. A request that comes in meanwhile is answered
/// after this slice and the next, so it is a few times shorter than what a client may notice; a turn itself takes some two.
const FREE_SLICE_US: u64 = 200;
/// Records or elements freed between two looks at the clock.
const FREE_STEP: usize = 128;
/// How often idle clients are looked for, microseconds.
const IDLE_CHECK_US: u64 = 1_000_000;
/// The same complaint about accepting is logged at most this often, microseconds.
const ACCEPT_LOG_US: u64 = 1_000_000;
/// Turns that replies in flight may hold up the end of the loop.
const STOPPING_TURNS_MAX: u32 = 100;

/// One core's timers.
#[derive(Default)]
pub struct Timers {
    expire_from_us: u64,
    expire_db: usize,
    idle_from_us: u64,
    beat_from_us: u64,
    accept_logged_us: Option<u64>,
    stopping_turns: u32,
    packing: Packing,
}

impl Timers {
    /// Does what is due. True if there is more to do at once.
    pub fn run(&mut self, engine: &mut Engine, now: Now, clock: &Clock) -> bool {
        let busy = free_dropped(engine, clock);
        if engine.shard.active_expire && now.mono_us >= self.expire_from_us && engine.shard.keyspace.has_expiry() {
            self.expire(engine, now, clock);
            engine.serve_ready();
            engine.broadcast();
            engine.notice_disturbed();
        }
        self.packing.run(&mut engine.shard, now, clock);
        if engine.shard.config.timeout > 0 && now.mono_us >= self.idle_from_us {
            self.idle_from_us = now.mono_us + IDLE_CHECK_US;
            close_idle(engine, now);
        }
        if engine.next_soft_limit_us().is_some_and(|at| now.mono_us >= at) {
            engine.check_soft_limits(now);
        }
        if let Some(every_us) = service::beat_every_us()
            && now.mono_us >= self.beat_from_us
        {
            self.beat_from_us = now.mono_us + every_us;
            service::beat(engine.shard.id, now.mono_us);
        }
        busy
    }

    /// The monotonic time, in microseconds, at which something will be due; none if nothing will.
    pub fn next_us(&self, engine: &Engine, mono_us: u64) -> Option<u64> {
        let shard = &engine.shard;
        let expiry = earliest_expiry(shard).filter(|_| shard.active_expire).map(|due| {
            let in_ms = u64::try_from(due.0.saturating_sub(shard.now.millis().0)).unwrap_or(0);
            // One millisecond later the key is due beyond doubt.
            mono_us.saturating_add(in_ms.saturating_add(1).saturating_mul(1000)).max(self.expire_from_us)
        });
        let idle = (shard.config.timeout > 0 && !shard.sessions.is_empty()).then_some(self.idle_from_us);
        let beat = service::beat_every_us().map(|_| self.beat_from_us);
        [expiry, idle, beat, engine.next_soft_limit_us(), self.packing.next_us(shard)].into_iter().flatten().min()
    }

    /// One active expiry cycle over all databases, from where the last one stopped.
    fn expire(&mut self, engine: &mut Engine, now: Now, clock: &Clock) {
        let shard = &mut engine.shard;
        let databases = shard.keyspace.dbs().len();
        let mut observers = Observers {
            waiters: &mut shard.waiters,
            watched: &mut shard.watched,
            tracking: &mut shard.tracking,
            effects: &mut shard.effects,
        };
        let begun_us = clock.mono_us();
        let effort = u64::from(shard.config.active_expire_effort.max(1)) - 1;
        let cycle_us = EXPIRE_CYCLE_US + effort * EXPIRE_CYCLE_US_PER_EFFORT;
        let mut behind = false;
        'databases: for _ in 0..databases {
            let index = DbIndex((self.expire_db % databases) as u16);
            let (events, config) = (&mut shard.events, &shard.config);
            let db = shard.keyspace.db_mut(index);
            while let Some(Parts { key, result: expired, dead }) = db.expire_parts(now.millis(), |key, object| {
                observers.expire_fields(index, key, object, now.millis(), EXPIRE_STEP)
            }) {
                if expired > 0 {
                    events.note(config, EventClass::HASH, "hexpired", index, &key);
                }
                if dead {
                    events.note(config, EventClass::GENERIC, "del", index, &key);
                }
                shard.metrics.expired_fields += expired as u64;
                shard.metrics.changes += expired as u64;
                if clock.mono_us().saturating_sub(begun_us) > cycle_us {
                    behind = true;
                    shard.metrics.expire_cycles_capped += 1;
                    break 'databases;
                }
            }
            loop {
                let progress = db.expire_due(now.millis(), EXPIRE_STEP, |record| {
                    observers.expired(index, record.key());
                    events.note(config, EventClass::EXPIRED, "expired", index, record.key());
                });
                shard.metrics.expired_keys += progress.expired as u64;
                shard.metrics.changes += progress.expired as u64;
                if !progress.more {
                    break;
                }
                if clock.mono_us().saturating_sub(begun_us) > cycle_us {
                    behind = true;
                    shard.metrics.expire_cycles_capped += 1;
                    break 'databases;
                }
            }
            self.expire_db = (self.expire_db + 1) % databases;
        }
        let took_us = clock.mono_us().saturating_sub(begun_us);
        shard.metrics.expire_cycles_us += took_us;
        shard.note_latency(Event::ExpireCycle, took_us);
        let pause = if behind { EXPIRE_PAUSE_US } else { 1_000_000 / u64::from(shard.config.hz.max(1)) };
        self.expire_from_us = clock.mono_us() + pause;
    }

    /// Logs that accepting failed, but not with every try.
    pub fn log_accept_error(&mut self, mono_us: u64, error: &std::io::Error) {
        if self.accept_logged_us.is_none_or(|at| mono_us >= at + ACCEPT_LOG_US) {
            self.accept_logged_us = Some(mono_us);
            tracing::warn!("Accepting client connection: {error}");
        }
    }

    /// Counts a turn of a loop that is about to end; false when it has waited long enough.
    pub fn stopping_turn(&mut self) -> bool {
        self.stopping_turns += 1;
        self.stopping_turns < STOPPING_TURNS_MAX
    }
}

/// A lower bound on when the next key of any database is due.
fn earliest_expiry(shard: &Shard) -> Option<Millis> {
    let dbs = shard.keyspace.dbs().iter();
    dbs.flat_map(|db| [db.earliest_expiry(), db.next_part_expiry()]).flatten().min()
}

fn free_dropped(engine: &mut Engine, clock: &Clock) -> bool {
    let shard = &mut engine.shard;
    if shard.dropped.is_empty() && !shard.keyspace.has_buried() {
        return false;
    }
    let begun_us = clock.mono_us();
    while shard.keyspace.free_buried(FREE_STEP) {
        if clock.mono_us().saturating_sub(begun_us) > FREE_SLICE_US {
            shard.metrics.lazyfreed_objects += shard.keyspace.take_freed();
            return shard.stop == Stop::No;
        }
    }
    shard.metrics.lazyfreed_objects += shard.keyspace.take_freed();
    while let Some(db) = shard.dropped.last_mut() {
        let more = db.free_slice(FREE_STEP);
        shard.metrics.lazyfreed_objects += db.take_freed();
        if !more {
            shard.dropped.pop();
        }
        if clock.mono_us().saturating_sub(begun_us) > FREE_SLICE_US {
            break;
        }
    }
    !shard.dropped.is_empty() && shard.stop == Stop::No
}

fn close_idle(engine: &mut Engine, now: Now) {
    let idle_us = u64::try_from(engine.shard.config.timeout).unwrap_or(0) * 1_000_000;
    let mut closed = Vec::new();
    for session in engine.shard.sessions.iter_mut() {
        // Who listens is silent by nature, as in Redis.
        let listens = session.subscriptions != Subscriptions::default();
        let busy = listens || session.plan_running || session.paused || session.parked || !session.pending.is_empty();
        if !busy && now.mono_us.saturating_sub(session.active_us) > idle_us {
            tracing::debug!("Closing idle client {}", session.peer);
            session.closing = Closing::Now;
            closed.push(session.key);
        }
    }
    for key in closed {
        engine.mark_dirty(key);
    }
}
