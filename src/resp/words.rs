//! A line of text split into words, with Redis's quoting: inline commands and lines of a configuration file.
//!
//! ```text
//!   SET  "a key\n"  'it\'s'  x\x41      ->  [SET] [a key⏎] [it's] [x\x41]
//! ```
//!
//! - Words are separated by blanks: space, tab, line feed, vertical tab, form feed, carriage return. Inside a word only
//!   space, tab, line feed and carriage return end it: vertical tab and form feed then belong to the word, as in Redis.
//! - `"…"` knows `\n \r \t \b \a`, `\xHH`, and takes any other escaped byte as itself; `'…'` knows `\'` alone.
//! - A quote may open inside a word; where it closes, the word ends, and a blank or the end of the line must follow.
//!
//! Every byte sequence without quotes is legal. Absent on purpose: NUL, which in Redis ends the line; whoever calls this
//! has cut the line before.

use super::args::OwnedArgs;

/// A quote that never closes, or that closes in front of something other than a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Appends the words of `line` to `words`. On error the words in front of the bad one have been appended.
pub fn split_words(line: &[u8], words: &mut OwnedArgs) -> Result<(), UnbalancedQuotes> {
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&b| is_blank(b)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(());
        }
        words.push_with(|word| {
            rest = read_word(rest, word)?;
            Ok(())
        })?;
    }
}

/// Appends a string in double quotes, as redis-cli prints it: one word, which [`split_words`] reads back.
pub fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// C's `isspace`, which knows more blanks than a word ends at.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends one word to `word` and returns what follows it. `line` is not empty and begins with no blank.
fn read_word<'a>(line: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' => return read_double_quoted(&line[at + 1..], word),
            b'\'' => return read_single_quoted(&line[at + 1..], word),
            _ => word.push(byte),
        }
        at += 1;
    }
    Ok(&line[at..])
}

/// Behind an opening `"`.
fn read_double_quoted<'a>(quoted: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    let mut rest = quoted;
    loop {
        match *rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', ref behind @ ..] => return closed(behind),
            [b'\\', b'x', high, low, ref behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_digit(high) << 4 | hex_digit(low));
                rest = behind;
            }
            [b'\\', escaped, ref behind @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                rest = behind;
            }
            [byte, ref behind @ ..] => {
                word.push(byte);
                rest = behind;
            }
        }
    }
}

/// Behind an opening `'`.
fn read_single_quoted<'a>(quoted: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    let mut rest = quoted;
    loop {
        match *rest {
            [] => return Err(UnbalancedQuotes),
            [b'\'', ref behind @ ..] => return closed(behind),
            [b'\\', b'\'', ref behind @ ..] => {
                word.push(b'\'');
                rest = behind;
            }
            [byte, ref behind @ ..] => {
                word.push(byte);
                rest = behind;
            }
        }
    }
}

fn closed(behind: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match behind.first() {
        Some(&byte) if !is_blank(byte) => Err(UnbalancedQuotes),
        _ => Ok(behind),
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &[u8], expected: &[&[u8]]) {
        let mut words = OwnedArgs::new();
        assert_eq!(split_words(line, &mut words), Ok(()), "{}", line.escape_ascii());
        assert_eq!(words.as_args().iter().collect::<Vec<_>>(), expected, "{}", line.escape_ascii());
    }

    #[test]
    fn words_are_what_redis_makes_of_the_same_line() {
        // Lines and words as observed on redis-server 7.0.15.
        check(b"", &[]);
        check(b" \t\r\n\x0b\x0c ", &[]);
        check(b"  GET   a ", &[b"GET", b"a"]);
        check(b"ECHO\ra", &[b"ECHO", b"a"]);
        check(b"\t\x0b\x0cECHO\ta", &[b"ECHO", b"a"]);
        check(b"a\x0bb", &[b"a\x0bb"]);
        check(br#"ECHO "a\x41\n\r\t\b\a\q\"b""#, &[b"ECHO", b"aA\n\r\t\x08\x07q\"b"]);
        check(br#"ECHO "\xfF\x0a""#, &[b"ECHO", b"\xff\n"]);
        check(br#"ECHO "\xg1\x4""#, &[b"ECHO", b"xg1x4"]);
        check(br"ECHO 'a\'b\nc'", &[b"ECHO", br"a'b\nc"]);
        check(br#"ECHO ab"cd e""#, &[b"ECHO", b"abcd e"]);
        check(b"ECHO \"\"", &[b"ECHO", b""]);
        check(b"ECHO \xa0\x85\xff", &[b"ECHO", b"\xa0\x85\xff"]);
        check(b"\"a\"\x0bb", &[b"a", b"b"]);
    }

    #[test]
    fn quotes_must_close_at_the_end_of_a_word() {
        for line in [
            &br#"ECHO "abc"#[..],
            br#"ECHO "abc"d"#,
            br"ECHO 'abc'd",
            br#"ECHO "abc\"#,
            br"ECHO 'abc\'",
            br#"""#,
            br#"'"#,
            br#""a""b""#,
        ] {
            let mut words = OwnedArgs::new();
            assert_eq!(split_words(line, &mut words), Err(UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn the_words_before_a_bad_one_stay_and_nothing_of_it_does() {
        let mut words = OwnedArgs::new();
        assert_eq!(split_words(b"one two \"three", &mut words), Err(UnbalancedQuotes));
        words.push(b"end");
        assert_eq!(words.as_args().iter().collect::<Vec<_>>(), [&b"one"[..], b"two", b"end"]);
    }

    #[test]
    fn bytes_that_do_not_print_are_escaped() {
        let mut out = Vec::new();
        push_quoted(&mut out, b"a\"\\\n\r\t\x07\x08\0\x7f\xffz ");
        assert_eq!(out, br#""a\"\\\n\r\t\a\b\x00\x7f\xffz ""#);
        let mut words = OwnedArgs::new();
        assert_eq!(split_words(&out, &mut words), Ok(()));
        assert_eq!(words.as_args().get(0), b"a\"\\\n\r\t\x07\x08\0\x7f\xffz ");
    }
}
