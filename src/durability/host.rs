//! Where a server's drivers run: the shard's executor, and this machine's disk. Belongs to its core. Absent on purpose: the
//! simulated one, which is with the tests.

use std::future::Future;
use std::rc::Rc;

use super::driver::Host;
use crate::rt::background;
use crate::rt::disk::GlommioDisk;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ShardHost {
    disk: Rc<GlommioDisk>,
}

impl Host for ShardHost {
    type Disk = GlommioDisk;

    fn disk(&self) -> Rc<GlommioDisk> {
        Rc::clone(&self.disk)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        background::spawn(async move {
            task.await;
            background::call_loop();
        });
    }

    fn pause(&self) -> impl Future<Output = ()> + 'static {
        background::give_way()
    }
}
