//! Rust source as the tidy test reads it: tokens with their lines, and the paths that they name.
//!
//! This is a reader, not a compiler. It knows comments, string and character literals, lifetimes, `use`
//! trees, paths in expressions and inline modules; that is enough to say which layer a line leans on.
//! Deliberately absent: macro expansion, name resolution of aliases, `#[path]` on modules.

/// One token that is neither comment nor literal, and the line (from 1) where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path as written after `use`, or in an expression when it starts at `crate`, `$crate` or `super`.
/// `crate` and `super` are resolved: the first segment is then a module of the crate root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathName {
    pub segments: Vec<String>,
    pub line: usize,
    /// The path starts at our own crate root, rather than at another crate.
    pub ours: bool,
    /// It stands inside `#[cfg(test)] mod … { }`.
    pub in_tests: bool,
}

/// Splits source text into tokens. `::` is one token, every other punctuation mark is one character.
/// Literals leave one token, `""`, so that `name("x")` keeps its shape.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let start = at;
        let starts_on = line;
        let c = chars[at];
        if c == '/' && peek(at + 1) == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && peek(at + 1) == '*' {
            at = end_of_block_comment(&chars, at);
        } else if let Some(end) = end_of_string(&chars, at) {
            at = end;
            tokens.push(Token { text: "\"\"".into(), line: starts_on });
        } else if c == '\'' {
            at = end_of_quote(&chars, at);
        } else if c.is_alphanumeric() || c == '_' {
            while peek(at).is_alphanumeric() || peek(at) == '_' {
                at += 1;
            }
            tokens.push(Token { text: chars[start..at].iter().collect(), line: starts_on });
        } else if c == ':' && peek(at + 1) == ':' {
            at += 2;
            tokens.push(Token { text: "::".into(), line: starts_on });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.into(), line: starts_on });
            }
        }
        line += chars[start..at].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// Block comments nest in Rust.
fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of a string literal that starts at `at` (plain, byte, C or raw), if one does.
fn end_of_string(chars: &[char], at: usize) -> Option<usize> {
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let mut open = at;
    while open < at + 2 && matches!(peek(open), 'b' | 'c' | 'r') {
        open += 1;
    }
    let raw = open > at && peek(open - 1) == 'r';
    let hashes = if raw { chars[open..].iter().take_while(|&&c| c == '#').count() } else { 0 };
    open += hashes;
    if peek(open) != '"' {
        return None;
    }
    let mut end = open + 1;
    while end < chars.len() {
        match chars[end] {
            '\\' if !raw => end += 1,
            '"' if chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes => {
                return Some(end + 1 + hashes);
            }
            _ => {}
        }
        end += 1;
    }
    Some(chars.len())
}

/// From a `'`: past a character literal, or past the mark alone when it opens a lifetime or label.
fn end_of_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let mut end = at + 3;
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            end + 1
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Every path that `tokens` name; `module` is the file's own module path, for `super`.
pub fn paths(tokens: &[Token], module: &[String]) -> Vec<PathName> {
    let mut reader = Reader { tokens, at: 0, module, inline: Vec::new(), depth: 0, found: Vec::new() };
    reader.run();
    reader.found
}

struct Inline {
    name: String,
    depth: usize,
    is_test: bool,
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    module: &'a [String],
    inline: Vec<Inline>,
    depth: usize,
    found: Vec<PathName>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn run(&mut self) {
        let mut test_attribute = false;
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "#" if ["[", "cfg", "(", "test"].iter().enumerate().all(|(i, t)| self.text(self.at + 1 + i) == *t) => {
                    test_attribute = true;
                    self.at += 1;
                }
                "{" => {
                    self.depth += 1;
                    self.at += 1;
                }
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    self.inline.pop_if(|inline| inline.depth > self.depth);
                    self.at += 1;
                }
                "mod" if self.text(self.at + 2) == "{" => {
                    self.depth += 1;
                    self.inline.push(Inline {
                        name: self.text(self.at + 1).into(),
                        depth: self.depth,
                        is_test: std::mem::take(&mut test_attribute),
                    });
                    self.at += 3;
                }
                // `use<'a>` in a return type captures lifetimes and imports nothing.
                "use" if self.text(self.at + 1) != "<" => {
                    self.at += 1;
                    self.use_tree(&mut Vec::new());
                    test_attribute = false;
                }
                "crate" | "super" if self.text(self.at + 1) == "::" => self.expression_path(),
                "fn" | "struct" | "enum" | "impl" | "const" | "static" => {
                    test_attribute = false;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Reads one branch of a `use` tree; `prefix` holds the segments before it.
    fn use_tree(&mut self, prefix: &mut Vec<String>) {
        let before = prefix.len();
        loop {
            match self.text(self.at) {
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(self.at), "}" | "") {
                        self.use_tree(prefix);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    break;
                }
                "::" | "$" => self.at += 1,
                "," | "}" | ";" | "" => {
                    self.record(prefix.clone());
                    break;
                }
                "as" => {
                    self.record(prefix.clone());
                    self.at += 2;
                    break;
                }
                segment => {
                    prefix.push(segment.into());
                    self.at += 1;
                }
            }
        }
        prefix.truncate(before);
    }

    fn expression_path(&mut self) {
        let mut segments = vec![self.text(self.at).to_string()];
        let line = self.at;
        self.at += 1;
        while self.text(self.at) == "::" && is_name(self.text(self.at + 1)) {
            segments.push(self.text(self.at + 1).into());
            self.at += 2;
        }
        let after = std::mem::replace(&mut self.at, line + 1);
        self.record(segments);
        self.at = after;
    }

    /// The line of a path is that of its last token, which inside a brace group is the one to change.
    fn record(&mut self, written: Vec<String>) {
        let line = self.tokens.get(self.at.saturating_sub(1)).map_or(0, |token| token.line);
        let in_tests = self.inline.iter().any(|inline| inline.is_test);
        let Some(first) = written.first() else { return };
        let (segments, ours) = match first.as_str() {
            "crate" => (written[1..].to_vec(), true),
            "super" | "self" => {
                let mut home: Vec<String> = self.module.to_vec();
                home.extend(self.inline.iter().map(|inline| inline.name.clone()));
                let ups = written.iter().take_while(|s| *s == "super" || *s == "self").count();
                let supers = written[..ups].iter().filter(|s| *s == "super").count();
                home.truncate(home.len().saturating_sub(supers));
                home.extend_from_slice(&written[ups..]);
                (home, true)
            }
            _ => (written, false),
        };
        self.found.push(PathName { segments, line, ours, in_tests });
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        paths(&tokens(text), &["types".into(), "list".into()])
            .into_iter()
            .map(|path| format!("{}{}@{}", if path.ours { "crate::" } else { "" }, path.segments.join("::"), path.line))
            .collect()
    }

    #[test]
    fn brace_groups_are_read_to_their_leaves() {
        assert_eq!(
            named("use crate::{base::{self, Clock as C},\n keyspace::*};"),
            ["crate::base::self@1", "crate::base::Clock@1", "crate::keyspace::*@2"]
        );
    }

    #[test]
    fn paths_in_expressions_count_and_comments_and_strings_do_not() {
        let text = "/* crate::a::b /* c */ */ let x = \"crate::d::e\"; // crate::f\nlet c = '\"'; crate::net::listen(r#\"crate::\"q\"#)";
        assert_eq!(named(text), ["crate::net::listen@2"]);
    }

    #[test]
    fn super_is_resolved_through_inline_modules() {
        assert_eq!(
            named("use super::super::net; mod tests { use super::*; }"),
            ["crate::net@1", "crate::types::list::*@1"]
        );
    }

    #[test]
    fn lifetimes_do_not_swallow_what_follows() {
        assert_eq!(named("fn f<'a>(x: &'a str) { crate::rt::go('a') }"), ["crate::rt::go@1"]);
    }

    #[test]
    fn test_modules_are_known_as_such() {
        let found = paths(&tokens("#[cfg(test)] mod tests { use std::fs; } use std::net;"), &[]);
        assert_eq!(found.iter().map(|path| path.in_tests).collect::<Vec<_>>(), [true, false]);
    }
}
