//! What must hold for any bytes that reach the request parser, whoever makes them up: the seeded generator beside this
//! file, or a coverage-guided fuzzer.
//!
//! The same bytes go through a model, which reads them whole and slowly, and through a connection, which receives them
//! in pieces as the parser's contract says. Both must see the same commands and the same end, and the connection's
//! memory must follow the bytes it received.

use annulus::base::Blob;
use annulus::resp::bulk::FIRST_BYTES;
use annulus::resp::parse::{LINE_BYTES_MAX, SPANS_RESERVED_MAX};
use annulus::resp::{BigBulk, ParseLimits, Parser, ProtocolError, Span, Step};

/// A command as its arguments.
pub type Command = Vec<Vec<u8>>;

/// How a stream of bytes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Behind a complete command.
    Between,
    /// Inside a command.
    Within,
    /// At bytes that are not RESP.
    Error(ProtocolError),
}

/// Receives `wire` in pieces and by turns of `pieces` (lengths, repeated as needed) and compares with the model.
pub fn check(wire: &[u8], pieces: &[usize], limits: &ParseLimits) {
    let (expected, expected_end) = model(wire, limits);
    let (commands, end) = receive(wire, pieces, limits);
    assert_eq!(end, expected_end, "end, in pieces of {pieces:?}");
    assert_eq!(commands.len(), expected.len(), "number of commands, in pieces of {pieces:?}");
    for (i, (command, expected)) in commands.iter().zip(&expected).enumerate() {
        assert!(command == expected, "command {i}, in pieces of {pieces:?}");
    }
}

/// A connection without a socket.
pub fn receive(wire: &[u8], pieces: &[usize], limits: &ParseLimits) -> (Vec<Command>, End) {
    let mut parser = Parser::new();
    let mut buffer = Vec::new();
    let mut bulk: Option<BigBulk> = None;
    let mut commands = Vec::new();
    let mut received = 0;
    let mut turns = pieces.iter().copied().cycle();
    while received < wire.len() {
        let turn = turns.next().unwrap_or(wire.len()).max(1);
        let mut piece = &wire[received..wire.len().min(received + turn)];
        if let Some(receiver) = &mut bulk {
            // Every other length of piece goes the way of a receive into the final allocation.
            if turn % 2 == 1 && receiver.body_remaining() > 0 {
                let spare = receiver.spare();
                let room = (spare.capacity() - spare.len()).min(piece.len());
                assert!(room > 0, "an incomplete body has room for more");
                spare.extend_from_slice(&piece[..room]);
                piece = &piece[..room];
                received += room;
                assert_eq!(receiver.fill(b""), 0);
            } else {
                received += piece.len();
                let taken = receiver.fill(piece);
                piece = &piece[taken..];
                assert!(piece.is_empty() || receiver.is_complete());
            }
            assert!(receiver.allocated_bytes() <= FIRST_BYTES.max(received * 2));
            if !receiver.is_complete() {
                continue;
            }
            parser.supply_blob(bulk.take().map(BigBulk::into_blob).expect("it is being received"));
        } else {
            received += piece.len();
        }
        buffer.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let input = &buffer[start..];
            let step = parser.step(input, limits);
            check_memory(&parser, received);
            match step {
                Step::Command { consumed } => {
                    let args = parser.args(input);
                    assert!(!args.is_empty() && consumed > 0 && consumed <= input.len());
                    commands.push(args.iter().map(<[u8]>::to_vec).collect());
                    start += consumed;
                }
                Step::Nothing { consumed } => {
                    assert!(consumed > 0 && consumed <= input.len());
                    start += consumed;
                }
                Step::Incomplete => break,
                Step::BigBulk { consumed, len } => {
                    assert!(len >= annulus::base::BLOB_BYTES_MIN && len as u64 <= limits.bulk_bytes_max);
                    assert!(input.len() < consumed + len + 2, "a whole argument is a range");
                    let mut receiver = BigBulk::new(len);
                    let from = start + consumed;
                    let taken = receiver.fill(&buffer[from..]);
                    assert_eq!(taken, buffer.len() - from);
                    buffer.truncate(from);
                    bulk = Some(receiver);
                    break;
                }
                Step::Error(error) => return (commands, End::Error(error)),
            }
        }
        buffer.drain(..start);
    }
    (commands, if parser.is_mid_command() { End::Within } else { End::Between })
}

/// A span costs 8 bytes, the shortest argument on the wire 6, a vector may be twice as large as needed. Blobs count at
/// their own length.
fn check_memory(parser: &Parser, received: usize) {
    let bound = SPANS_RESERVED_MAX * size_of::<Span>() + received * 4 + 16 * size_of::<Blob>();
    let allocated = parser.allocated_bytes();
    assert!(allocated <= bound, "{allocated} bytes held for {received} received");
}

/// The protocol, read with all bytes at hand and without any care for speed.
pub fn model(wire: &[u8], limits: &ParseLimits) -> (Vec<Command>, End) {
    let mut commands = Vec::new();
    let mut at = 0;
    while at < wire.len() {
        match model_command(&wire[at..], limits) {
            Ok(Some((command, len))) => {
                if !command.is_empty() {
                    commands.push(command);
                }
                at += len;
            }
            Ok(None) => return (commands, End::Within),
            Err(error) => return (commands, End::Error(error)),
        }
    }
    (commands, End::Between)
}

/// One command and its length; `None` when it goes on behind the end of `wire`.
fn model_command(wire: &[u8], limits: &ParseLimits) -> Result<Option<(Command, usize)>, ProtocolError> {
    if wire[0] != b'*' {
        let Some(end) = model_line_end(wire, b'\n', ProtocolError::TooBigInline)? else { return Ok(None) };
        let line = if end > 0 && wire[end - 1] == b'\r' { &wire[..end - 1] } else { &wire[..end] };
        return Ok(Some((model_words(line)?, end + 1)));
    }
    let Some((line, mut at)) = model_header(wire, ProtocolError::TooBigMultibulkCount)? else { return Ok(None) };
    let count = match model_number(&line[1..]) {
        Some(count) if count <= i128::from(i32::MAX) => count,
        _ => return Err(ProtocolError::InvalidMultibulkLength),
    };
    if count > 10 && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedMultibulkLength);
    }
    if count > i128::from(limits.args_max) {
        return Err(ProtocolError::InvalidMultibulkLength);
    }
    let mut command = Vec::new();
    for _ in 0..count {
        let Some((line, behind)) = model_header(&wire[at..], ProtocolError::TooBigBulkCount)? else { return Ok(None) };
        if wire[at] != b'$' {
            return Err(ProtocolError::ExpectedDollar(wire[at]));
        }
        let len = match model_number(&line[1..]) {
            Some(len) if len >= 0 && len <= i128::from(limits.bulk_bytes_max) => len as usize,
            _ => return Err(ProtocolError::InvalidBulkLength),
        };
        if len > 16_384 && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        at += behind;
        if wire.len() < at + len + 2 {
            return Ok(None);
        }
        command.push(wire[at..at + len].to_vec());
        at += len + 2;
    }
    Ok(Some((command, at)))
}

/// A header line and the offset behind its end.
fn model_header(wire: &[u8], too_long: ProtocolError) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let cr = model_line_end(wire, b'\r', too_long)?;
    Ok(cr.filter(|cr| cr + 1 < wire.len()).map(|cr| (&wire[..cr], cr + 2)))
}

fn model_line_end(wire: &[u8], end: u8, too_long: ProtocolError) -> Result<Option<usize>, ProtocolError> {
    let searched = wire.split(|&b| b == 0).next().unwrap_or(wire);
    match searched.iter().position(|&b| b == end) {
        Some(at) if at <= LINE_BYTES_MAX => Ok(Some(at)),
        _ if wire.len() > LINE_BYTES_MAX => Err(too_long),
        _ => Ok(None),
    }
}

/// A number counts when it is written as we would write it.
fn model_number(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 20)?;
    let number: i128 = text.parse().ok()?;
    (i64::try_from(number).is_ok() && number.to_string() == text).then_some(number)
}

/// Words of an inline command, byte by byte with C's habit of a NUL behind the end.
fn model_words(line: &[u8]) -> Result<Command, ProtocolError> {
    let byte = |at: usize| line.get(at).copied().unwrap_or(0);
    let blank = |b: u8| [b' ', b'\t', b'\n', 0x0b, 0x0c, b'\r'].contains(&b);
    let hex = |b: u8| char::from(b).to_digit(16);
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while blank(byte(at)) {
            at += 1;
        }
        if byte(at) == 0 {
            return Ok(words);
        }
        let mut word = Vec::new();
        let mut quote = 0;
        loop {
            let b = byte(at);
            if quote != 0 && b == 0 {
                return Err(ProtocolError::UnbalancedQuotes);
            }
            if quote != 0 && b == quote {
                if byte(at + 1) != 0 && !blank(byte(at + 1)) {
                    return Err(ProtocolError::UnbalancedQuotes);
                }
                at += 1;
                break;
            }
            let escaped = quote == b'"' && b == b'\\';
            if escaped
                && byte(at + 1) == b'x'
                && let (Some(high), Some(low)) = (hex(byte(at + 2)), hex(byte(at + 3)))
            {
                word.push((high * 16 + low) as u8);
                at += 4;
                continue;
            }
            if escaped && byte(at + 1) != 0 {
                let escaped = byte(at + 1);
                let known = [(b'n', 10), (b'r', 13), (b't', 9), (b'b', 8), (b'a', 7)];
                word.push(known.iter().find(|(name, _)| *name == escaped).map_or(escaped, |(_, value)| *value));
                at += 2;
                continue;
            }
            if quote == b'\'' && b == b'\\' && byte(at + 1) == b'\'' {
                word.push(b'\'');
                at += 2;
                continue;
            }
            if quote == 0 {
                if [b' ', b'\n', b'\r', b'\t', 0].contains(&b) {
                    break;
                }
                if b == b'"' || b == b'\'' {
                    quote = b;
                    at += 1;
                    continue;
                }
            }
            word.push(b);
            at += 1;
        }
        words.push(word);
    }
}
