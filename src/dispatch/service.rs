//! Plans of the server's own: they run like a command's, and reply to nobody.
//!
//! Part of the [`Engine`]: belongs to its core. Absent on purpose: what they do (`durability::conductor`).

use super::engine::Engine;
use super::plans::{NOBODY, RunningPlan};
use crate::base::DbIndex;
use crate::commands::table::original_table;
use crate::resp::Resp;
use crate::txn::{Coordinator, Driver, Origin, Plan};

impl Engine {
    /// Starts a plan that claims nothing by itself. Gives its number.
    pub fn start_service(&mut self, start: impl FnOnce(Coordinator) -> Plan) -> u32 {
        let id = self.next_plan;
        self.next_plan = (self.next_plan + 1) % u32::MAX;
        // No connection has this key.
        let session = NOBODY;
        let origin = Origin {
            plan: id,
            session,
            client: 0,
            shard: self.shard.id,
            db: DbIndex(0),
            proto: Resp::V2,
            touch: true,
            remembers: false,
            node: false,
            now: self.shard.now,
            clock_ns: self.clock_ns,
        };
        let plan = RunningPlan {
            driver: Driver::new(origin, self.shard.slots, Vec::new(), start),
            session,
            command: original_table().find(b"ping").expect("it is in the table"),
            silent: true,
            argv: None,
            started_ns: (self.clock_ns)(),
            acknowledged: 0,
            held: None,
            gone: false,
            deadline_us: None,
        };
        self.plans.insert(id, plan);
        self.go_on(id);
        id
    }
}
