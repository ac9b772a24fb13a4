//! Running the commands of a log as if a client had sent them: a dispatcher over a shard that is nobody's yet.
//!
//! One for each part that is loaded, made and used by one background task. The shard owns all slots, whatever it owned when its log was
//! written: what stands in the log concerns its keys alone. Its clock stands at the beginning of time, so nothing expires by itself;
//! the commands of a log name points in time, not spans. It keeps no log of its own, and its client has no limits.
//!
//! Absent on purpose: files and their formats (`durability::load`).

use std::sync::Arc;

use super::engine::Engine;
use crate::acl;
use crate::base::ShardId;
use crate::base::time::Now;
use crate::commands::table::original_table;
use crate::config::{Config, OutputLimits};
use crate::durability::load::{MakeReplayer, Replayer};
use crate::keyspace::Keyspace;
use crate::session::{Session, SessionKey};
use crate::shard::access::AccessPolicy;
use crate::shard::{About, Shard, ShardSeed};

/// Makes replayers for the shards of one process, which all hash keys alike.
pub fn replayers(hasher: ahash::RandomState, clock_ns: fn() -> u64, now: fn() -> Now) -> MakeReplayer {
    std::rc::Rc::new(move |config: &Config| Box::new(EngineReplayer::new(config, &hasher, clock_ns, now())))
}

struct EngineReplayer {
    engine: Engine,
    session: SessionKey,
}

impl EngineReplayer {
    fn new(config: &Config, hasher: &ahash::RandomState, clock_ns: fn() -> u64, now: Now) -> EngineReplayer {
        let mut config = config.clone();
        config.client_query_buffer_limit = u64::MAX;
        config.client_output_buffer_limit = OutputLimits::default();
        config.requirepass = Default::default();
        // A setting that was lowered must not keep out what is there.
        config.proto_max_bulk_len = config.proto_max_bulk_len.max(1 << 40);
        config.latency_tracking = false;
        // What was stored is loaded; the server makes room when it serves.
        config.maxmemory = 0;
        config.maxmemory_clients = Default::default();
        config.notify_keyspace_events = Default::default();
        let policy = AccessPolicy::of(&config);
        let mut shard = Shard::new(ShardSeed {
            id: ShardId(0),
            shards: 1,
            config,
            seed: 0,
            hasher: hasher.clone(),
            board: Default::default(),
            about: Arc::new(About::default()),
            now: Now::default(),
            clock_ns,
        });
        shard.access = Some(AccessPolicy::Fixed(policy.fresh(now.millis())));
        shard.active_expire = false;
        let session = shard.sessions.insert(|key| {
            let mut session = Session::new(key, 0, -1, String::new(), String::new(), false, Now::default());
            session.log_in(Arc::clone(acl::anybody()));
            session
        });
        let mut engine = Engine::new(shard);
        // A log names commands as everybody knows them, whatever names this server's clients use.
        engine.table = original_table();
        EngineReplayer { engine, session }
    }
}

impl Replayer for EngineReplayer {
    fn run(&mut self, commands: &[u8]) -> Result<(), String> {
        let errors = self.engine.shard.metrics.errors_total();
        self.engine.begin_turn(Now::default());
        self.engine.receive(self.session, commands);
        let mut turns = 0_u32;
        loop {
            let session = self.engine.shard.sessions.get_mut(self.session).ok_or("its connection was closed")?;
            let refused = self.engine.shard.metrics.errors_total() > errors;
            if refused {
                let reply = String::from_utf8_lossy(&session.out.to_vec()).into_owned();
                let line = reply.lines().find(|line| line.starts_with('-')).unwrap_or("-ERR");
                return Err(line[1..].to_owned());
            }
            session.out.clear();
            if session.input.is_empty() && !session.waits() && session.big.is_none() {
                break;
            }
            turns += 1;
            if turns > MAX_TURNS {
                return Err("a command waits for something that does not come".to_owned());
            }
            self.engine.run_waiting();
        }
        let mut dirty = Vec::new();
        self.engine.take_dirty(&mut dirty);
        debug_assert!(!self.engine.has_outgoing(), "there is no other shard");
        Ok(())
    }

    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.engine.shard.keyspace
    }

    fn finish(self: Box<Self>) -> Keyspace {
        self.engine.shard.keyspace
    }
}

/// Turns that the commands of one slice may take. Each makes progress; this only ends what cannot.
const MAX_TURNS: u32 = 10_000_000;
