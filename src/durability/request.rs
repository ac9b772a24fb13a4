//! How commands, and whoever else asks, talk to the conductor.
//!
//! Plans of any shard leave a request with the conductor and wait for its answer. Belongs to no core. Absent on purpose: what becomes
//! of a request (the conductor's).

use crate::base::ShardId;
use crate::resp::CommandError;
use crate::shard::storage::{Request, Told};
use crate::shard::waiters::{WaitEvent, WaiterId};
use crate::txn::Coordinator;

/// Asks the conductor, and waits for its answer: what to reply, or the whole text of an error. A command of a transaction does not
/// wait, since the conductor may be waiting for the transaction to end; it is answered with `in_transaction`.
pub async fn ask(
    coordinator: &Coordinator,
    request: Request,
    in_transaction: &'static str,
) -> Result<&'static str, CommandError> {
    if coordinator.is_held() {
        coordinator.call(ShardId(0), move |shard| shard.tell_conductor(Told::Wish(request))).await;
        return Ok(in_transaction);
    }
    let me = WaiterId { home: coordinator.origin().shard, plan: coordinator.origin().plan };
    coordinator.call(ShardId(0), move |shard| shard.tell_conductor(Told::Request(request, me))).await;
    loop {
        if let WaitEvent::Told(told) = coordinator.next_told().await
            && let Told::Answer(answer) = *told
        {
            return answer.map_err(CommandError::Message);
        }
    }
}
