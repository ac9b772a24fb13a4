//! Glob patterns as KEYS, SCAN, PSUBSCRIBE, CONFIG GET and ACL rules understand them.
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any bytes, or none |
//! | `?` | one byte |
//! | `[abc]` `[a-z]` `[^a-z]` | one byte of the class, or not of it; the ends of a range may come in either order |
//! | `\x` | the byte `x` itself, also inside a class |
//!
//! Odd ends that clients have come to rely on are kept as redis-server 7.0 has them: a class that never closes ends
//! with the pattern; a lone `\` at the very end is itself; `]` can be the far end of a range (`[a-]` does not close);
//! ranges compare bytes as signed numbers; without case, a range is lowered *after* its ends were put in order, and
//! an escaped byte inside a class still wants its exact case; the empty text is matched by the empty pattern alone, not
//! even by `*` (KEYS and SCAN do list an empty key for a lone `*`, because they do not ask the matcher then).
//!
//! **Why no pattern can take exponential time or deep recursion** (CVE-2022-36021, CVE-2024-31228). Everything that
//! is not a star matches exactly one byte, so a pattern is a list of fixed-length segments with stars between. If the
//! segments so far match at all, then placing each at its leftmost place leaves the most text for the rest: an earlier
//! choice never needs to be taken back. The first segment is tied to the start, the last to the end and costs one
//! comparison; a segment between two stars is searched for once, from where the previous one ended. That is
//! `O(pattern × text)` for a segment with wildcards and linear for a plain one, with no state but two positions.
//!
//! Absent on purpose: a compiled form. Patterns are short and finding the next star is cheaper than keeping one.

use memchr::memmem;

/// Whether the whole text matches the pattern. With `nocase`, ASCII letters match in either case.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let head = Segment::at(pattern, 0);
    if head.end == pattern.len() {
        return head.elements == text.len() && head.fits(pattern, text, nocase);
    }
    if head.elements > text.len() || !head.fits(pattern, &text[..head.elements], nocase) {
        return false;
    }
    let mut text = &text[head.elements..];
    let mut at = head.end;
    loop {
        while pattern.get(at) == Some(&b'*') {
            at += 1;
        }
        let segment = Segment::at(pattern, at);
        if segment.elements > text.len() {
            return false;
        }
        if segment.end == pattern.len() {
            return segment.fits(pattern, &text[text.len() - segment.elements..], nocase);
        }
        match segment.find(pattern, text, nocase) {
            Some(place) => text = &text[place + segment.elements..],
            None => return false,
        }
        at = segment.end;
    }
}

/// A run of pattern elements without a star; each element matches exactly one byte.
struct Segment {
    start: usize,
    /// Where the next star is, or the length of the pattern.
    end: usize,
    /// How many bytes of text it covers.
    elements: usize,
}

impl Segment {
    fn at(pattern: &[u8], start: usize) -> Segment {
        let (mut end, mut elements) = (start, 0);
        while end < pattern.len() && pattern[end] != b'*' {
            end = match pattern[end] {
                b'[' => class(pattern, end + 1, 0, false).1,
                b'\\' if end + 1 < pattern.len() => end + 2,
                _ => end + 1,
            };
            elements += 1;
        }
        Segment { start, end, elements }
    }

    /// Whether the segment matches this text, whose length is that of the segment.
    fn fits(&self, pattern: &[u8], text: &[u8], nocase: bool) -> bool {
        debug_assert_eq!(text.len(), self.elements);
        let mut at = self.start;
        text.iter().all(|&byte| {
            let (hit, next) = match pattern[at] {
                b'?' => (true, at + 1),
                b'[' => class(pattern, at + 1, byte, nocase),
                b'\\' if at + 1 < pattern.len() => (same(pattern[at + 1], byte, nocase), at + 2),
                literal => (same(literal, byte, nocase), at + 1),
            };
            at = next;
            hit
        })
    }

    /// The leftmost place in the text where the segment fits.
    fn find(&self, pattern: &[u8], text: &[u8], nocase: bool) -> Option<usize> {
        let source = &pattern[self.start..self.end];
        let plain = !nocase && !source.iter().any(|byte| matches!(byte, b'?' | b'[' | b'\\'));
        if plain {
            return memmem::find(text, source);
        }
        text.windows(self.elements).position(|window| self.fits(pattern, window, nocase))
    }
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    if nocase { a.eq_ignore_ascii_case(&b) } else { a == b }
}

/// Reads the class that begins after its `[`: whether the byte is in it, and where the pattern goes on.
fn class(pattern: &[u8], start: usize, byte: u8, nocase: bool) -> (bool, usize) {
    let negated = pattern.get(start) == Some(&b'^');
    let mut at = start + usize::from(negated);
    let mut hit = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                hit |= escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                hit |= in_range(from, to, byte, nocase);
                at += 3;
            }
            [single, ..] => {
                hit |= same(single, byte, nocase);
                at += 1;
            }
        }
    }
    (hit != negated, at)
}

fn in_range(from: u8, to: u8, byte: u8, nocase: bool) -> bool {
    let (low, high) = if from as i8 > to as i8 { (to, from) } else { (from, to) };
    let fold = |byte: u8| (if nocase { byte.to_ascii_lowercase() } else { byte }) as i8;
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn patterns_match_as_in_redis() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("", &[""], &["a"]),
            ("abc", &["abc"], &["ab", "abcd", "Abc", ""]),
            ("*", &["a", "abc"], &[""]),
            ("**", &["a", "abc"], &[""]),
            ("a*", &["a", "ab", "a*"], &["", "ba"]),
            ("*a", &["a", "ba", "aa"], &["", "ab"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
            ("*abc*", &["abc", "ababc", "xabcx"], &["ab", "axbc"]),
            ("a**?b", &["axb", "aaxb"], &["ab", "b"]),
            ("h?llo", &["hello", "h?llo"], &["hllo", "heello"]),
            ("?*", &["a", "ab"], &[""]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo", "h^llo"], &["hello"]),
            ("[a-c]", &["a", "b", "c"], &["d", "-", "A"]),
            ("[c-a]", &["a", "b", "c"], &["d", "-"]),
            ("[a-]", &["a", "^", "_"], &["-", "b"]),
            ("[a-]x]", &["a", "x", "`"], &["-", "ax", "x]"]),
            ("[-a]", &["-", "a"], &["b"]),
            ("[]", &[], &["]", "", "a"]),
            ("[]a]", &[], &["]a]", "aa]", "a"]),
            ("[^]", &["a", "]"], &["", "ab"]),
            ("[^]a]", &["xa]"], &["b", "a"]),
            ("[abc", &["a", "c"], &["d", "[abc", "aa"]),
            ("[", &[], &["[", ""]),
            ("[^", &["a", "["], &["", "aa"]),
            ("[a*", &["a", "*"], &["ab"]),
            ("[\\]]", &["]"], &["\\", "\\]"]),
            ("[\\", &["\\"], &["a"]),
            ("[a\\-c]", &["a", "-", "c"], &["b"]),
            ("[*]", &["*"], &["a"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("a\\", &["a\\"], &["a"]),
            ("\\", &["\\"], &["", "a"]),
            ("\\a", &["a"], &["\\a"]),
            ("*\\**", &["a*b", "*"], &["ab"]),
            ("*[0-9]?*z", &["x12yz", "11z"], &["1z", "x1"]),
        ];
        for (pattern, yes, no) in rows {
            for text in *yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} should match {text}");
            }
            for text in *no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} should not match {text}");
            }
        }
    }

    #[test]
    fn without_case_letters_match_either_way_but_escapes_in_classes_do_not() {
        let rows: &[(&str, &str, bool)] = &[
            ("MAX*", "maxmemory", true),
            ("*MEM*", "maxmemory", true),
            ("[A-C]x", "bX", true),
            ("[a-c]", "B", true),
            ("[X]", "x", true),
            ("[\\A]", "a", false),
            ("\\A", "a", true),
            // The ends are ordered as Z < a, then lowered to z and a: nothing lies between.
            ("[a-Z]", "m", false),
            ("[é]", "É", false),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), true), *expected, "{pattern} {text}");
        }
    }

    #[test]
    fn ranges_compare_signed_bytes() {
        assert!(matches(b"[\x80-\xff]", b"\x90", false));
        assert!(matches(b"[a-\xff]", b"\0", false));
        assert!(!matches(b"[a-\xff]", b"b", false));
        assert!(matches(b"[\x00-\x7f]", b"~", false));
    }

    /// A pattern's own meaning, by trying everything: exponential, for small inputs only.
    fn matches_by_definition(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|skip| matches_by_definition(&pattern[1..], &text[skip..], nocase)),
            Some(_) => {
                let element = Segment { start: 0, end: pattern.len(), elements: 1 };
                let next = match pattern[0] {
                    b'[' => class(pattern, 1, 0, false).1,
                    b'\\' if pattern.len() > 1 => 2,
                    _ => 1,
                };
                !text.is_empty()
                    && element.fits(pattern, &text[..1], nocase)
                    && matches_by_definition(&pattern[next..], &text[1..], nocase)
            }
        }
    }

    #[test]
    fn leftmost_placement_finds_every_match_that_trying_everything_finds() {
        let seed = 0x910b;
        println!("seed {seed:#x}");
        let mut rng = crate::base::rng::Rng::seed(seed);
        let mut draw =
            |alphabet: &[u8], len: u64| -> Vec<u8> { (0..rng.below(len)).map(|_| *rng.pick(alphabet)).collect() };
        let mut hits = 0;
        for round in 0..60_000 {
            let (pattern, text) = (draw(b"aab**?[]^-\\B", 9), draw(b"aabbA]^-", 8));
            let nocase = round % 4 == 0;
            let expected = (pattern.is_empty() || !text.is_empty()) && matches_by_definition(&pattern, &text, nocase);
            hits += u32::from(expected);
            assert_eq!(
                matches(&pattern, &text, nocase),
                expected,
                "{} against {}",
                String::from_utf8_lossy(&pattern),
                String::from_utf8_lossy(&text)
            );
        }
        assert!(hits > 3_000, "{hits} matches are too few to mean anything");
    }

    fn finishes_within(limit: Duration, pattern: &[u8], text: &[u8], expected: bool) {
        let start = Instant::now();
        assert_eq!(matches(pattern, text, false), expected);
        assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    }

    #[test]
    fn cve_2022_36021_many_stars_do_not_take_exponential_time() {
        let mut pattern = b"*a".repeat(512 * 1024);
        pattern.extend_from_slice(b"*b");
        let limit = Duration::from_secs(2);
        finishes_within(limit, &pattern, &b"a".repeat(100), false);
        finishes_within(limit, &pattern, &b"a".repeat(1024 * 1024), false);
        let mut text = b"a".repeat(1024 * 1024);
        text.push(b'b');
        finishes_within(limit, &pattern, &text, true);
        finishes_within(limit, &[&b"*aaa?".repeat(100)[..], b"*b"].concat(), &b"a".repeat(64 * 1024), false);
    }

    #[test]
    fn cve_2024_31228_a_megabyte_of_stars_and_brackets_does_not_recurse() {
        let limit = Duration::from_secs(2);
        let megabyte = 1024 * 1024;
        finishes_within(limit, &b"*".repeat(megabyte), b"abc", true);
        finishes_within(limit, &b"*?".repeat(megabyte / 2), &b"a".repeat(megabyte), true);
        finishes_within(limit, &b"*?".repeat(megabyte / 2), &b"a".repeat(megabyte / 2 - 1), false);
        finishes_within(limit, &b"*[".repeat(megabyte / 2), &b"a".repeat(megabyte), false);
        finishes_within(limit, &b"*[^b]".repeat(megabyte / 5), &b"a".repeat(megabyte), true);
        finishes_within(limit, &b"\\".repeat(megabyte), &b"\\".repeat(megabyte / 2), true);
        // Half a megabyte of plain text between two stars, in a text where it almost fits everywhere.
        let needle = [b"*", &b"a".repeat(megabyte / 2)[..], b"b*"].concat();
        finishes_within(limit, &needle, &b"a".repeat(megabyte), false);
    }
}
