//! A glance at commands that have not been parsed yet, to know which memory they will want.
//!
//! In a pipeline the time of a short command goes to two cache misses: the slot of its key and the record behind it. Both can be
//! asked for while the commands before it run, if its key is known by then. Owned by nobody; it reads a connection's input on
//! the connection's core.
//!
//! Invariant: nothing depends on what is found here. A wrong guess asks for memory that nobody needs; the parser decides what the
//! bytes mean, and finds every error.

/// Arguments of a command beyond which it is not looked at: long commands hide their misses themselves.
const ARGS_MAX: usize = 6;

/// One command ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glance<'a> {
    /// Its first argument behind the name.
    pub key: &'a [u8],
    /// Where the next command begins.
    pub len: usize,
}

/// Looks at the command at the start of `input`. None if it is not whole, not short, has no argument or is not RESP.
#[inline]
pub fn glance(input: &[u8]) -> Option<Glance<'_>> {
    let (count, mut at) = number(input, b'*')?;
    if !(2..=ARGS_MAX).contains(&count) {
        return None;
    }
    let mut key: &[u8] = &[];
    for i in 0..count {
        let (len, header) = number(input.get(at..)?, b'$')?;
        let start = at + header;
        let body = input.get(start..start.checked_add(len)?)?;
        if i == 1 {
            key = body;
        }
        at = start + len + 2;
    }
    (at <= input.len()).then_some(Glance { key, len: at })
}

/// Reads `tag`, at most five digits and the end of the line; returns the number and the length of it all.
#[inline]
fn number(input: &[u8], tag: u8) -> Option<(usize, usize)> {
    if *input.first()? != tag {
        return None;
    }
    let mut n = 0;
    for (i, &byte) in input.iter().enumerate().skip(1).take(6) {
        match byte {
            b'0'..=b'9' => n = n * 10 + usize::from(byte - b'0'),
            b'\r' if i > 1 => return Some((n, i + 2)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_command_shows_its_key_and_its_end() {
        let input = b"*3\r\n$3\r\nSET\r\n$4\r\nkey1\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let first = glance(input).unwrap();
        assert_eq!(first.key, b"key1");
        let second = glance(&input[first.len..]).unwrap();
        assert_eq!((second.key, first.len + second.len), (&b"k"[..], input.len()));
    }

    #[test]
    fn what_is_cut_long_or_strange_shows_nothing() {
        let whole = b"*2\r\n$3\r\nGET\r\n$4\r\nkey1\r\n";
        for cut in 0..whole.len() {
            assert_eq!(glance(&whole[..cut]), None, "cut at {cut}");
        }
        for bytes in [
            &b"PING\r\n"[..],
            b"*1\r\n$4\r\nPING\r\n",
            b"*-1\r\n",
            b"*\r\n",
            b"*7\r\n$1\r\na\r\n",
            b"*2\r\n$99999999999\r\n",
            b"*2\r\n$99999\r\nx\r\n",
            b"*2\r\n:3\r\nGET\r\n",
        ] {
            assert_eq!(glance(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
