//! One read of one connection: its bytes become commands, and these are run one after the other.
//!
//! ```text
//!   bytes ── kept from before? ── parser, or what was seen ahead ──┬── plain ── the handler, or the batch for the owner
//!                                                                  └── else ── gate, transaction, route (`engine`)
//! ```
//!
//! Most commands of most connections read or write one key, on behalf of a client about whom there is nothing special, while nothing
//! special goes on. That there is nothing is found out once for many of them: see [`Engine::is_plain`].
//!
//! Part of the [`Engine`]: belongs to its core. Invariants: a session that runs commands is out of its table; what was not run is kept,
//! from the first byte of a command on. Absent on purpose: what a command is allowed to (`gate`), and where it runs (`engine`).

use super::engine::{COMMANDS_PER_TURN, Engine, Flow};
use super::limits::parse_limits;
use crate::base::ShardId;
use crate::config::PipelineOrder;
use crate::resp::{Args, BigBulk, Step};
use crate::session::{Closing, ReplyMode, Session};

/// An input buffer larger than this is not kept when it is empty. Bytes.
const INPUT_KEPT_BYTES_MAX: usize = 4 * 1024;

impl Engine {
    pub(super) fn take_in(&mut self, session: &mut Session, mut data: &[u8]) {
        let mut supplied = false;
        if let Some(big) = &mut session.big {
            let taken = big.fill(data);
            data = &data[taken..];
            if !big.is_complete() {
                return;
            }
            let big = session.big.take().expect("it was just there");
            session.parser.supply_blob(big.into_blob());
            supplied = true;
        }
        if session.waits() {
            session.input.extend_from_slice(data);
        } else if session.input.is_empty() && !supplied {
            let kept = self.run_input(session, data);
            if let Some((from, to)) = kept {
                session.input.extend_from_slice(&data[from..to]);
            }
        } else {
            session.input.extend_from_slice(data);
            self.run_kept_input(session);
        }
    }

    /// Goes on with the input that a session has kept.
    pub(super) fn run_kept_input(&mut self, session: &mut Session) {
        if session.stalled() || session.big.is_some() {
            return;
        }
        let mut input = std::mem::take(&mut session.input);
        match self.run_input(session, &input) {
            None => input.clear(),
            Some((from, to)) => {
                input.truncate(to);
                input.drain(..from);
            }
        }
        if input.is_empty() && input.capacity() > INPUT_KEPT_BYTES_MAX {
            input = Vec::new();
        }
        session.input = input;
    }

    /// Parses and runs commands from the start of `input`. Returns the part of it that is to be kept: what was not run yet.
    fn run_input(&mut self, session: &mut Session, input: &[u8]) -> Option<(usize, usize)> {
        let mut at = 0;
        let mut left = COMMANDS_PER_TURN;
        let mut end = input.len();
        // The parser is taken out so that a command's arguments can be borrowed from it while the session changes.
        let mut parser = std::mem::take(&mut session.parser);
        let mut ahead = self.ahead.take().unwrap_or_default();
        ahead.begin();
        let slots = (!session.node && self.shard.slots.shards() > 1).then_some(self.shard.slots);
        // Where the last command stands in the input.
        let mut last = (0, 0);
        let mut plain = self.is_plain(session);
        loop {
            if !plain && session.stalled() {
                break;
            }
            let mut taken = None;
            let step = match session.held_command.take() {
                Some(consumed) => Step::Command { consumed },
                None => {
                    if left == 0 {
                        self.queue(session);
                        break;
                    }
                    taken = ahead.take();
                    match taken {
                        Some(number) => Step::Command { consumed: ahead.taken(number).bytes() },
                        None => match parser.short(&input[at..]) {
                            Some(consumed) => Step::Command { consumed },
                            None => parser.step(&input[at..], &parse_limits(session, &self.shard)),
                        },
                    }
                }
            };
            match step {
                Step::Command { consumed } => {
                    left = left.saturating_sub(1);
                    let owner = taken.map(|number| ahead.owner(number));
                    if at + consumed < input.len() {
                        ahead.look(input, at + consumed, self.shard.keyspace.db(session.db), slots, self.shard.id);
                    }
                    let args = match taken {
                        Some(number) => {
                            parser.let_go();
                            ahead.taken(number).args(&input[at..at + consumed])
                        }
                        None => parser.args(&input[at..at + consumed]),
                    };
                    let flow = if plain && self.run_plain(session, args, owner) {
                        Flow::Next
                    } else {
                        let flow = self.command(session, args);
                        plain = self.is_plain(session);
                        flow
                    };
                    match flow {
                        Flow::Next => {
                            if self.run.is_due() {
                                self.measure(session, args, &input[last.0..last.1]);
                            }
                            last = (at, at + consumed);
                            at += consumed;
                        }
                        Flow::Hold => {
                            if taken.is_some() {
                                // It comes again out of the parser.
                                let held = parser.short(&input[at..]);
                                debug_assert_eq!(held, Some(consumed));
                            }
                            session.held_command = Some(consumed);
                            break;
                        }
                    }
                }
                Step::Nothing { consumed } => at += consumed,
                Step::Incomplete => break,
                Step::BigBulk { consumed, len } => {
                    let mut big = BigBulk::new(len);
                    let taken = big.fill(&input[at + consumed..]);
                    debug_assert_eq!(at + consumed + taken, input.len(), "a big bulk is not whole in the input");
                    session.big = Some(big);
                    end = at + consumed;
                    break;
                }
                Step::Error(error) => {
                    tracing::debug!("protocol error from client {}: {error}", session.peer);
                    self.shard.metrics.count_error("ERR");
                    let silent = self.silent(session);
                    self.reply_here(session, silent, |reply| reply.protocol_error(&error));
                    session.close_after_reply();
                    at = end;
                    break;
                }
            }
        }
        session.parser = parser;
        self.ahead = Some(ahead);
        if self.run.is_open() {
            self.measure_last(session, &input[last.0..last.1]);
        }
        self.seal(session);
        if session.closing != Closing::No || at >= end { None } else { Some((at, end)) }
    }

    /// Whether nothing stands between the commands of this session on keys and their handlers: all that the gate and [`Engine::data`]
    /// would ask has the usual answer. It stays so until a command that is not [`Command::plain`] has run, since nothing else happens
    /// on this core before the read ends.
    fn is_plain(&self, session: &Session) -> bool {
        let (shard, config) = (&self.shard, &self.shard.config);
        let of_session = !session.is_checked()
            && !session.node
            && session.transaction.is_none()
            && session.tracking.is_none()
            && session.reply_mode == ReplyMode::On
            && !session.subscriptions.any()
            && session.held_command.is_none()
            && !session.stalled();
        let of_shard = config.maxmemory == 0
            && shard.storage.status.write_error.is_none()
            && shard.storage.status.loading_since.is_none()
            && shard.pause.is_none()
            && shard.tracking.is_idle()
            && shard.reservations.is_empty()
            && !shard.pubsub.is_watched();
        let in_any_order = config.pipeline_order != PipelineOrder::Strict || shard.slots.shards() == 1;
        of_session && of_shard && in_any_order && self.granted.is_none()
    }

    /// Runs a command of a session that [`Engine::is_plain`], or sends it to where it runs; false if it has to go the long way.
    /// `owner`: that of the first argument, if it has been found out.
    #[inline]
    fn run_plain(&mut self, session: &mut Session, args: Args<'_>, owner: Option<ShardId>) -> bool {
        let Some(command) = self.table.find(args.get(0)) else { return false };
        let Some(f) = command.plain.filter(|_| command.accepts(args.len())) else { return false };
        let owner = match command.key_range {
            _ if self.shard.slots.shards() == 1 => self.shard.id,
            Some((first, last, _)) if first == last && args.len() > first as usize => match owner {
                Some(owner) if first == 1 => owner,
                _ => self.shard.slots.shard_of(args.get(first as usize)),
            },
            _ => return false,
        };
        self.count(session, command);
        if owner == self.shard.id {
            self.run_here(session, command, f, args);
        } else {
            self.send(session, command, f, owner, args, false, None);
        }
        true
    }

    /// One command.
    #[inline]
    fn command(&mut self, session: &mut Session, args: Args<'_>) -> Flow {
        match self.granted.take() {
            None => self.command_at(session, args, None),
            Some(order) => {
                let flow = self.command_at(session, args, Some(order));
                self.shard.release(order);
                self.serve_ready();
                flow
            }
        }
    }
}
