//! How much of a client's input and output this server holds before it closes the connection.
//!
//! Checked on the client's core each time it has sent something or been answered. What waits between cores counts as output.
//! Absent on purpose: a limit over all clients together.

use crate::base::time::Now;
use crate::config::{Config, OutputLimit};
use crate::resp::ParseLimits;
use crate::session::Session;
use crate::shard::Shard;

/// Input that a client may have waiting before it has authenticated. Bytes.
const INPUT_BYTES_MAX_BEFORE_AUTH: usize = 1024 * 1024;
/// Replies that a client may leave unread before it has authenticated. Bytes. The replies themselves are short then; only a client
/// that reads nothing comes here.
const OUTPUT_BYTES_MAX_BEFORE_AUTH: usize = 512 * 1024;
/// Replies that no configured limit counts. Bytes; the size of the buffer that every client of Redis has.
const OUTPUT_BYTES_FREE: usize = 16 * 1024;
/// Input that is taken in while a connection's commands have to wait; past it the socket is not read. Bytes.
pub const INPUT_BYTES_WAITING_MAX: usize = 1024 * 1024;

/// Which limit a connection has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// Input, in bytes held and allowed.
    Input(usize, usize),
    /// Output, in bytes held and allowed.
    Output(usize, usize),
}

/// Checks one connection. `soft_since_us` remembers since when it has been over its soft output limit.
pub fn check(session: &mut Session, config: &Config, now: Now) -> Option<Passed> {
    let input = session.input_held();
    let mut input_max = usize::try_from(config.client_query_buffer_limit).unwrap_or(usize::MAX);
    let stranger = session.must_authenticate(config);
    if stranger {
        input_max = input_max.min(INPUT_BYTES_MAX_BEFORE_AUTH);
    }
    if input > input_max {
        return Some(Passed::Input(input, input_max));
    }
    let output = session.output_held();
    if stranger && output > OUTPUT_BYTES_MAX_BEFORE_AUTH {
        return Some(Passed::Output(output, OUTPUT_BYTES_MAX_BEFORE_AUTH));
    }
    // As in Redis, what fits a client's fixed buffer does not count.
    let output = output.saturating_sub(OUTPUT_BYTES_FREE);
    let limits = &config.client_output_buffer_limit;
    let listens = session.subscriptions.any() || session.subscriptions.monitor > 0;
    let limit = if listens { limits.pubsub } else { limits.normal };
    let OutputLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
    if hard_bytes > 0 && output as u64 > hard_bytes {
        return Some(Passed::Output(output, hard_bytes as usize));
    }
    if soft_bytes > 0 && output as u64 > soft_bytes {
        let since = *session.over_soft_limit_since_us.get_or_insert(now.mono_us);
        if now.mono_us.saturating_sub(since) > u64::from(soft_seconds) * 1_000_000 {
            return Some(Passed::Output(output, soft_bytes as usize));
        }
    } else {
        session.over_soft_limit_since_us = None;
    }
    None
}

/// What the parser may take in from a client.
pub fn parse_limits(session: &Session, shard: &Shard) -> ParseLimits {
    ParseLimits {
        bulk_bytes_max: shard.config.proto_max_bulk_len,
        authenticated: !session.must_authenticate(&shard.config),
        ..ParseLimits::default()
    }
}
