//! How much of a client's input and output this server holds before it closes the connection.
//!
//! Checked on the client's core each time it has sent something or been answered, and when a soft limit has been passed for as long as it
//! may be. What is on its way to other cores counts as input, what comes back from them as output.
//! Absent on purpose: a limit over all clients together.

use crate::acl::Acl;
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

/// Which limit a connection has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// Input, in bytes held and allowed.
    Input(usize, usize),
    /// Output, in bytes held and allowed.
    Output(usize, usize),
    /// Output, just now, by a limit that may be passed for so many microseconds.
    Soft(u64),
}

/// Checks one connection. `soft_since_us` remembers since when it has been over its soft output limit.
pub fn check(session: &mut Session, acl: &Acl, config: &Config, now: Now) -> Option<Passed> {
    let input = session.input_held();
    let mut input_max = usize::try_from(config.client_query_buffer_limit).unwrap_or(usize::MAX);
    let stranger = session.must_authenticate(acl);
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
        let may_last_us = u64::from(soft_seconds) * 1_000_000;
        let Some(since) = session.over_soft_limit_since_us else {
            session.over_soft_limit_since_us = Some(now.mono_us);
            return Some(Passed::Soft(may_last_us));
        };
        if now.mono_us.saturating_sub(since) > may_last_us {
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
        authenticated: !session.must_authenticate(&shard.acl),
        ..ParseLimits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Pending, PendingBatch, SessionKey, Sessions};

    fn seated(sessions: &mut Sessions) -> SessionKey {
        sessions.insert(|key| Session::new(key, 1, -1, String::new(), String::new(), false, Now::default()))
    }

    #[test]
    fn what_is_on_its_way_to_other_cores_counts_as_input() {
        let mut sessions = Sessions::default();
        let key = seated(&mut sessions);
        let session = sessions.get_mut(key).unwrap();
        let acl = Acl::default();
        let config = Config { client_query_buffer_limit: 1000, ..Config::default() };
        let batch = |sent_bytes, outstanding| {
            Pending::Batch(PendingBatch { sent_bytes, outstanding, ..PendingBatch::default() })
        };
        session.pending.push_back(batch(600, 2));
        session.pending.push_back(batch(700, 0));
        assert_eq!(check(session, &acl, &config, Now::default()), None, "what came back is no input any more");
        session.pending.push_back(batch(600, 1));
        assert_eq!(check(session, &acl, &config, Now::default()), Some(Passed::Input(1200, 1000)));
    }

    #[test]
    fn a_soft_limit_is_told_once_and_passed_after_its_time() {
        let mut sessions = Sessions::default();
        let key = seated(&mut sessions);
        let session = sessions.get_mut(key).unwrap();
        let (acl, mut config) = (Acl::default(), Config::default());
        config.client_output_buffer_limit.normal = OutputLimit { hard_bytes: 0, soft_bytes: 10, soft_seconds: 2 };
        session.sending_bytes = OUTPUT_BYTES_FREE + 11;
        let at = |secs: u64| Now { mono_us: secs * 1_000_000 + 1, ..Now::default() };
        assert_eq!(check(session, &acl, &config, at(1)), Some(Passed::Soft(2_000_000)));
        assert_eq!(check(session, &acl, &config, at(3)), None);
        assert_eq!(check(session, &acl, &config, at(4)), Some(Passed::Output(11, 10)));
        session.sending_bytes = 0;
        assert_eq!(check(session, &acl, &config, at(4)), None);
        assert_eq!(session.over_soft_limit_since_us, None, "who has read begins anew");
    }
}
