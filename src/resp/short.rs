//! Short commands, read in one go: what nearly all commands are, whole in the input and with few, short arguments.
//!
//! The parser is asked for what it cannot do otherwise: to go on where the input ended, to say what is wrong, to receive what is
//! large. None of that concerns a command like this one, whose headers are told from a few bytes each, eight at a time:
//!
//! ```text
//!   *2\r\n        one word: the number of arguments has one digit
//!   $3\r\n GET…   one word: the length is what stands between the `$` and the first CRLF
//! ```
//!
//! Owned by nobody; it reads a connection's input on the connection's core. Invariant: what is read here is what the parser would make
//! of the same bytes, under any limits that a client may have. Absent on purpose: errors. Whatever is unusual, wrong or not here yet is
//! left to the parser.

use super::args::{Args, Span};

/// The most arguments that are looked for.
pub const ARGS_MAX: usize = 6;
/// Digits of the longest argument.
const LEN_DIGITS_MAX: usize = 4;
/// An upper bound of an argument's length, in bytes: even a client that has not authenticated may send it.
pub const ARG_BYTES_BOUND: u64 = 10_000;

const _: () = assert!(ARG_BYTES_BOUND <= super::parse::UNAUTHENTICATED_BULK_BYTES_MAX);
const _: () = assert!(ARGS_MAX <= super::parse::UNAUTHENTICATED_ARGS_MAX as usize);

const CRLF: u16 = u16::from_le_bytes(*b"\r\n");

/// Where the arguments of a command lie.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    spans: [Span; ARGS_MAX],
    argc: u32,
    len: u32,
}

impl Default for Short {
    fn default() -> Short {
        Short { spans: [Span::range(0, 0); ARGS_MAX], argc: 0, len: 0 }
    }
}

impl Short {
    /// Reads the command at the start of `input`; false, and then there is none here, if it is not a short one or not whole.
    #[inline]
    pub fn read(&mut self, input: &[u8]) -> bool {
        const HEAD: u32 = u32::from_le_bytes(*b"*\0\r\n");
        let Some(head) = input.first_chunk::<4>() else { return false };
        let head = u32::from_le_bytes(*head);
        let argc = (head >> 8 & 0xff).wrapping_sub(u32::from(b'0')) as usize;
        if head & 0xffff_00ff != HEAD || argc == 0 || argc > ARGS_MAX {
            return false;
        }
        let mut at = 4;
        for span in &mut self.spans[..argc] {
            let Some((len, header)) = input.get(at..).and_then(length) else { return false };
            *span = Span::range(at + header, len);
            // Like the parser, this does not look at the two bytes behind an argument.
            at += header + len + 2;
        }
        (self.argc, self.len) = (argc as u32, at as u32);
        at <= input.len()
    }

    /// Length of the command that was read, in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.len as usize
    }

    /// Its arguments; `command` is what it was read from.
    #[inline]
    pub fn args<'a>(&'a self, command: &'a [u8]) -> Args<'a> {
        Args::new(command, &self.spans[..self.argc as usize], &[])
    }
}

/// The length of the argument whose header this is, and the header's own.
#[inline]
fn length(input: &[u8]) -> Option<(usize, usize)> {
    let word = match input.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => last_word(input),
    };
    if word as u8 != b'$' {
        return None;
    }
    let (mut len, mut least) = (0, 0);
    for digits in 1..=LEN_DIGITS_MAX {
        let digit = ((word >> (8 * digits)) as u8).wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        len = len * 10 + usize::from(digit);
        if (word >> (8 * digits + 8)) as u16 == CRLF {
            // A number does not begin with a zero, unless it is one.
            return (len >= least).then_some((len, digits + 3));
        }
        least = if least == 0 { 10 } else { least * 10 };
    }
    None
}

/// Fewer than eight bytes, with zeros behind them.
#[cold]
fn last_word(input: &[u8]) -> u64 {
    input.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
        let mut short = Short::default();
        short.read(input).then(|| (short.args(input).iter().map(<[u8]>::to_vec).collect(), short.bytes()))
    }

    #[test]
    fn a_short_command_shows_its_arguments_and_its_end() {
        let input = b"*3\r\n$3\r\nSET\r\n$4\r\nkey1\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
        let (args, first) = read(input).unwrap();
        assert_eq!(args, [&b"SET"[..], b"key1", b""]);
        let (args, second) = read(&input[first..]).unwrap();
        assert_eq!(args, [&b"GET"[..], b"k"]);
        let (args, third) = read(&input[first + second..]).unwrap();
        assert_eq!(args, [&b"PING"[..]]);
        assert_eq!(first + second + third, input.len());
    }

    #[test]
    fn lengths_of_one_to_four_digits_are_read() {
        for len in [0, 1, 9, 10, 99, 100, 999, 1000, 9999] {
            let mut input = format!("*2\r\n$4\r\nECHO\r\n${len}\r\n").into_bytes();
            input.resize(input.len() + len, b'x');
            assert_eq!(read(&input), None, "{len}: the end is missing");
            input.extend_from_slice(b"\r\n");
            let (args, read) = read(&input).unwrap();
            assert_eq!((args[1].len(), read), (len, input.len()));
        }
    }

    #[test]
    fn what_is_cut_long_or_strange_is_left_to_the_parser() {
        let whole = b"*2\r\n$3\r\nGET\r\n$4\r\nkey1\r\n";
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "cut at {cut}");
        }
        for bytes in [
            &b"PING\r\n"[..],
            b"*-1\r\n",
            b"*0\r\n",
            b"*\r\n",
            b"*7\r\n$1\r\na\r\n",
            b"*02\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$03\r\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$00\r\n\r\n$1\r\nk\r\n",
            b"*2\r\n$3\rxGET\r\n$1\r\nk\r\n",
            b"*2\r\n$3\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$-3\r\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$\r\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$99999999999\r\n",
            b"*2\r\n$99999\r\nx\r\n",
            b"*2\r\n:3\r\nGET\r\n",
        ] {
            assert_eq!(read(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
