//! Writing records: a command as a client would send it, an array of bulk strings.
//!
//! Called on the shard's core for every write that is logged, so it appends to a buffer that it is given and allocates nothing else.
//! Invariant: what is written is one whole record. Absent on purpose: what the effect of a command is, and when it is written.

use crate::base::num::format_u64;

/// The record in front of several that belong together.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";

/// The record behind them.
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Appends one command. `argv` has at least its name.
pub fn push_command<'a, I>(out: &mut Vec<u8>, argv: I)
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: ExactSizeIterator + Clone,
{
    let argv = argv.into_iter();
    assert!(argv.len() > 0, "a command has a name");
    // Once, for the longest form of each header: `$`, 20 digits, and two line ends.
    out.reserve(argv.clone().map(|arg| arg.len() + 25).sum::<usize>() + 23);
    push_header(out, b'*', argv.len());
    for arg in argv {
        push_header(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the choice of a database.
pub fn push_select(out: &mut Vec<u8>, db: u16) {
    push_command(out, [&b"SELECT"[..], format_u64(u64::from(db)).as_bytes()]);
}

fn push_header(out: &mut Vec<u8>, kind: u8, n: usize) {
    out.push(kind);
    match n {
        // Nearly all: one digit, no division.
        0..=9 => out.push(b'0' + n as u8),
        _ => out.extend_from_slice(format_u64(n as u64).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(argv: &[&[u8]]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        push_command(&mut out, argv.iter().copied());
        out.split_off(6)
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(written(&[b"SET", b"", b"\r\n$1"]), b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n$1\r\n");
        let mut many: Vec<&[u8]> = vec![b"x"; 12];
        many[11] = b"twelve bytes";
        let end = b"$12\r\ntwelve bytes\r\n";
        assert!(written(&many).starts_with(b"*12\r\n$1\r\nx\r\n") && written(&many).ends_with(end));
        assert_eq!(written(&[b"MULTI"]), MULTI);
        assert_eq!(written(&[b"EXEC"]), EXEC);
    }

    #[test]
    fn a_database_is_chosen_by_its_number() {
        let mut out = Vec::new();
        push_select(&mut out, 15);
        assert_eq!(out, b"*2\r\n$6\r\nSELECT\r\n$2\r\n15\r\n");
    }
}
