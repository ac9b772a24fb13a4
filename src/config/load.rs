//! From redis.conf and the command line to a [`Config`].
//!
//! A [`Loader`] takes directives one after the other, from files, from standard input and from the command line; the
//! last one wins. Two directives add up instead, as in Redis: `client-output-buffer-limit` per class of client, and
//! `save`, whose first line replaces the default and whose later lines add points, until `save ""` clears them again.
//!
//! The file format: one directive a line, words as `resp::words` splits them, `#` at the start of a line for a comment,
//! `\r\n` or `\n`, `include` for other files at this place (a pattern that matches no file is fine, a plain name that
//! cannot be read is not).
//!
//! The loader reads no file by itself: it is given [`Files`], so that tests and fuzzers run without a disk.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::table::{Config, DIRECTIVES, Directive, Effect, FILE_ONLY, FileOnly, Sight};
use super::values::{RenamedCommand, Text, UserLine};
use super::{directive, names};
use crate::base::glob;
use crate::resp::OwnedArgs;
use crate::resp::words::split_words;

/// How deep files may include each other. Deeper than any real set of files, so it is a loop that hits it.
const INCLUDE_DEPTH_MAX: usize = 16;

/// The way to configuration files.
pub trait Files {
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names of what lies in a folder, in any order.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;
}

/// Where a directive stood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    source: Rc<str>,
    /// Counted from 1; `None` for the command line and for a file as a whole.
    line: Option<usize>,
}

impl Place {
    /// The command line of this process.
    pub fn command_line() -> Self {
        Place { source: "command line".into(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => write!(f, "{}", self.source),
        }
    }
}

/// What is wrong with the configuration, and where. `Display` is one line that says what is allowed instead.
#[derive(Debug)]
pub struct ConfigError {
    /// Where the directive stood.
    pub place: Place,
    /// What is wrong with it, on one line.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Collects directives into a [`Config`].
pub struct Loader<'files> {
    files: &'files dyn Files,
    config: Config,
    save_was_given: bool,
    /// The last place of each directive that was given and has no effect, in the order in which they first came.
    idle: Vec<(Idle, Place)>,
}

/// A directive that was given though it has no effect.
#[derive(Clone, Copy)]
enum Idle {
    Setting(&'static Directive),
    FileOnly(&'static FileOnly, &'static str),
}

impl Idle {
    fn name(self) -> &'static str {
        match self {
            Idle::Setting(directive) => directive.name,
            Idle::FileOnly(directive, _) => directive.name,
        }
    }
}

impl<'files> Loader<'files> {
    /// A loader that has seen nothing yet: all settings have their defaults.
    pub fn new(files: &'files dyn Files) -> Self {
        Loader { files, config: Config::default(), save_was_given: false, idle: Vec::new() }
    }

    /// Reads a file and all that it includes.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.file_at_depth(path, None, 0)
    }

    /// Reads text in the format of redis.conf; `source` names it in messages.
    pub fn text(&mut self, source: &str, text: &[u8]) -> Result<(), ConfigError> {
        self.text_at_depth(source, text, 0)
    }

    /// Takes one directive: its name and the words behind it.
    pub fn directive(&mut self, place: &Place, name: &[u8], words: &[&[u8]]) -> Result<(), ConfigError> {
        self.directive_at_depth(place, name, words, 0)
    }

    /// The configuration, and one warning line for each directive that was given a value and has no effect here.
    ///
    /// A value that is the default, or empty, asks for nothing and is passed over: the redis.conf that distributions
    /// ship spells out some fifty defaults, and fifty warnings hide the one that matters.
    pub fn finish(self) -> (Config, Vec<String>) {
        let warning = |(idle, place): &(Idle, Place)| {
            let reason = match idle {
                Idle::Setting(directive) => self.config.no_effect(directive)?,
                Idle::FileOnly(_, reason) => reason,
            };
            Some(format!("{place}: '{}' has no effect: {reason}", idle.name()))
        };
        let warnings = self.idle.iter().filter_map(warning).collect();
        (self.config, warnings)
    }

    fn file_at_depth(&mut self, path: &Path, from: Option<&Place>, depth: usize) -> Result<(), ConfigError> {
        let source = path.display().to_string();
        let text = self.files.read(path).map_err(|error| match from {
            Some(place) => ConfigError { place: place.clone(), problem: format!("cannot include '{source}': {error}") },
            None => ConfigError {
                place: Place { source: source.as_str().into(), line: None },
                problem: format!("cannot be read: {error}"),
            },
        })?;
        self.text_at_depth(&source, &text, depth)
    }

    fn text_at_depth(&mut self, source: &str, text: &[u8], depth: usize) -> Result<(), ConfigError> {
        let source: Rc<str> = source.into();
        // A byte order mark, which some editors put at the start of a file.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = Place { source: Rc::clone(&source), line: Some(at + 1) };
            let mut split = OwnedArgs::new();
            split_words(line, &mut split).map_err(|_| ConfigError {
                place: place.clone(),
                problem: "a quote is not closed, or something stands right behind a closing quote".to_owned(),
            })?;
            let split: Vec<&[u8]> = split.as_args().iter().collect();
            if let [name, words @ ..] = split.as_slice() {
                self.directive_at_depth(&place, name, words, depth)?;
            }
        }
        Ok(())
    }

    fn directive_at_depth(
        &mut self,
        place: &Place,
        name: &[u8],
        words: &[&[u8]],
        depth: usize,
    ) -> Result<(), ConfigError> {
        if let Some(directive) = directive(name) {
            return self.setting(place, directive, words);
        }
        let file_only = FILE_ONLY.iter().find(|known| known.name.as_bytes().eq_ignore_ascii_case(name));
        let Some(file_only) = file_only else {
            return Err(ConfigError { place: place.clone(), problem: unknown(name) });
        };
        let (words_min, words_max) = file_only.words;
        if words.len() < words_min || words.len() > words_max {
            let problem = match (words_min, words_max) {
                (1, 1) => format!("'{}' wants one word, got {}", file_only.name, words.len()),
                (min, max) if min == max => format!("'{}' wants {min} words, got {}", file_only.name, words.len()),
                (min, _) => format!("'{}' wants at least {min} word(s), got {}", file_only.name, words.len()),
            };
            return Err(ConfigError { place: place.clone(), problem });
        }
        if let Effect::Accepted(reason) = file_only.effect {
            self.remember_idle(Idle::FileOnly(file_only, reason), place);
        }
        match (file_only.name, words) {
            ("include", [path]) => self.include(place, path, depth + 1),
            ("rename-command", [from, to]) => {
                let from = Text(from.to_ascii_lowercase());
                self.config.renamed_commands.push(RenamedCommand { from, to: Text(to.to_vec()) });
                Ok(())
            }
            // What its rules mean is for those to say who know the commands.
            ("user", words) => {
                let words = words.iter().map(|word| word.to_vec()).collect();
                self.config.users.push(UserLine { place: place.to_string(), words });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn setting(&mut self, place: &Place, directive: &'static Directive, words: &[&[u8]]) -> Result<(), ConfigError> {
        // A list may also come as one quoted word, as CONFIG SET takes it.
        let words = match words {
            [word] => directive.words(word),
            _ if directive.many && words.is_empty() => return Err(wrong_value(place, directive, words)),
            _ => words.to_vec(),
        };
        let points_before = std::mem::take(&mut self.config.save);
        let assigned = (directive.assign)(&mut self.config, &words);
        if directive.name == "save" && assigned.is_ok() {
            if self.save_was_given && !words.is_empty() {
                self.config.save.splice(0..0, points_before);
            }
            self.save_was_given = true;
        } else {
            self.config.save = points_before;
        }
        assigned.map_err(|_| wrong_value(place, directive, &words))?;
        if directive.effect != Effect::Works {
            self.remember_idle(Idle::Setting(directive), place);
        }
        Ok(())
    }

    fn remember_idle(&mut self, idle: Idle, place: &Place) {
        match self.idle.iter_mut().find(|(known, _)| known.name() == idle.name()) {
            Some((_, last)) => *last = place.clone(),
            None => self.idle.push((idle, place.clone())),
        }
    }

    fn include(&mut self, place: &Place, path: &[u8], depth: usize) -> Result<(), ConfigError> {
        if depth > INCLUDE_DEPTH_MAX {
            let problem = format!("files include each other more than {INCLUDE_DEPTH_MAX} deep; is this a loop?");
            return Err(ConfigError { place: place.clone(), problem });
        }
        let path = Path::new(OsStr::from_bytes(path));
        if !is_pattern(path.as_os_str()) {
            return self.file_at_depth(path, Some(place), depth);
        }
        for path in matching_files(self.files, path) {
            self.file_at_depth(&path, Some(place), depth)?;
        }
        Ok(())
    }
}

impl Config {
    /// Why the current value of this directive changes nothing, if somebody asked for something: `None` when the
    /// directive works, or has its default value or none at all.
    pub fn no_effect(&self, directive: &Directive) -> Option<&'static str> {
        let Effect::Accepted(reason) = directive.effect else { return None };
        let value = (directive.print)(self);
        let default = (directive.print)(&Config::default());
        (value != default && !value.is_empty()).then_some(reason)
    }
}

fn wrong_value(place: &Place, directive: &Directive, words: &[&[u8]]) -> ConfigError {
    let got = match words {
        [] => "nothing".to_owned(),
        _ if directive.sight == Sight::Secret => format!("{} words", words.len()),
        _ => format!("'{}'", words.join(&b' ').escape_ascii()),
    };
    let problem = format!("'{}' wants {}, got {got}", directive.name, directive.wants());
    ConfigError { place: place.clone(), problem }
}

/// What to say about a name that stands nowhere in the tables.
fn unknown(name: &[u8]) -> String {
    let shown = name.escape_ascii();
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    if name == "sentinel" {
        return "'sentinel' is a directive of Redis Sentinel, which this server is not".to_owned();
    }
    let known = names().map(|named| named.name).chain(FILE_ONLY.iter().map(|directive| directive.name));
    let nearest = known.map(|known| (edits(&name, known), known)).min();
    match nearest {
        Some((edits, known)) if edits <= 1 + known.len() / 4 => {
            format!("'{shown}' is not a directive; did you mean '{known}'?")
        }
        _ => format!("'{shown}' is not a directive; --help lists the {} that are", DIRECTIVES.len() + FILE_ONLY.len()),
    }
}

/// How many bytes must be inserted, removed or replaced to turn one name into the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, byte) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

fn is_pattern(name: &OsStr) -> bool {
    name.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

/// The files that a pattern matches, in the order of their names. A folder that cannot be listed matches nothing, and
/// names that start with a dot are matched by a pattern that does.
fn matching_files(files: &dyn Files, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let mut after_a_pattern = false;
    for component in pattern.components() {
        let Component::Normal(wanted) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        if !is_pattern(wanted) && !after_a_pattern {
            found.iter_mut().for_each(|path| path.push(wanted));
            continue;
        }
        after_a_pattern = true;
        let mut next = Vec::new();
        for folder in found {
            let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
            let mut names = files.names(listed).unwrap_or_default();
            names.sort();
            let hidden = wanted.as_bytes().starts_with(b".");
            let fits = |name: &OsString| {
                let name = name.as_bytes();
                name.starts_with(b".") == hidden && glob::matches(wanted.as_bytes(), name, false)
            };
            next.extend(names.iter().filter(|name| fits(name)).map(|name| folder.join(name)));
        }
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Files in memory, by their whole path.
    #[derive(Default)]
    struct Shelf(BTreeMap<PathBuf, &'static str>);

    impl Files for Shelf {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            self.0.get(path).map(|text| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
            let inside = self.0.keys().filter_map(|path| path.strip_prefix(folder).ok()?.components().next());
            Ok(inside.map(|component| component.as_os_str().to_owned()).collect())
        }
    }

    fn shelf(files: &[(&str, &'static str)]) -> Shelf {
        Shelf(files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect())
    }

    fn load(text: &str) -> Result<(Config, Vec<String>), String> {
        let shelf = Shelf::default();
        let mut loader = Loader::new(&shelf);
        loader.text("/etc/x.conf", text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(loader.finish())
    }

    fn value(config: &Config, name: &str) -> String {
        let (_, value) = config.get(&[name.as_bytes()]).remove(0);
        String::from_utf8(value).unwrap()
    }

    fn check(text: &str, name: &str, expected: &str) {
        let (config, _) = load(text).unwrap();
        assert_eq!(value(&config, name), expected, "{text}");
    }

    fn refused(text: &str, expected: &str) {
        match load(text) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => assert_eq!(error, expected, "{text}"),
        }
    }

    #[test]
    fn lines_may_hold_blanks_comments_quotes_and_any_line_end() {
        check("# port 1\r\n\r\n  PORT\t7000 \r\n", "port", "7000");
        check("\u{feff}port 7000", "port", "7000");
        check("maxmemory 2gb\n", "maxmemory", "2147483648");
        check("requirepass \"a # b\\x21\"\n", "requirepass", "a # b!");
        check("logfile \"\"", "logfile", "");
        check("bind 127.0.0.1 ::1", "bind", "127.0.0.1 ::1");
        check("slaveof 10.0.0.1 6380", "replicaof", "10.0.0.1 6380");
        check("port 1\nport 2", "port", "2");
    }

    #[test]
    fn save_lines_add_up_after_the_first() {
        check("", "save", "3600 1 300 100 60 10000");
        check("save 900 1", "save", "900 1");
        check("save 900 1\nport 1\nsave 300 10 60 100", "save", "900 1 300 10 60 100");
        check("save \"900 1 300 10\"", "save", "900 1 300 10");
        check("save ''", "save", "");
        check("save 900 1\nsave \"\"", "save", "");
        check("save ''\nsave 5 6", "save", "5 6");
    }

    #[test]
    fn output_limits_add_up_by_class() {
        let text = "client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit replica 4mb 5 6";
        let expected = "normal 1 2 3 slave 4194304 5 6 pubsub 33554432 8388608 60";
        check(text, "client-output-buffer-limit", expected);
    }

    #[test]
    fn errors_name_file_line_and_what_is_allowed() {
        refused("\n\nport abc", "/etc/x.conf:3: 'port' wants a number from 0 to 65535, got 'abc'");
        refused("port", "/etc/x.conf:1: 'port' wants a number from 0 to 65535, got nothing");
        refused("port 1 2", "/etc/x.conf:1: 'port' wants a number from 0 to 65535, got '1 2'");
        refused("appendonly on", "/etc/x.conf:1: 'appendonly' wants yes or no, got 'on'");
        refused("slaveof x", "/etc/x.conf:1: 'replicaof' wants a host and a port, or no one, got 'x'");
        refused("bind", &format!("/etc/x.conf:1: 'bind' wants {}, got nothing", directive(b"bind").unwrap().wants()));
        refused("port \"1", "/etc/x.conf:1: a quote is not closed, or something stands right behind a closing quote");
        refused("rename-command get", "/etc/x.conf:1: 'rename-command' wants 2 words, got 1");
    }

    #[test]
    fn passwords_stay_out_of_errors() {
        refused(
            "requirepass se cret",
            "/etc/x.conf:1: 'requirepass' wants one word (put quotes around blanks), got 2 words",
        );
    }

    #[test]
    fn unknown_directives_are_errors_with_the_nearest_name() {
        refused("prot 7000", "/etc/x.conf:1: 'prot' is not a directive; did you mean 'port'?");
        refused("max-memory 1", "/etc/x.conf:1: 'max-memory' is not a directive; did you mean 'maxmemory'?");
        assert!(load("flux-capacitor on").unwrap_err().contains("'flux-capacitor' is not a directive; --help lists"));
        assert!(load("sentinel monitor a b 1 1").unwrap_err().contains("Redis Sentinel"));
    }

    #[test]
    fn a_refused_save_line_keeps_the_points() {
        let shelf = Shelf::default();
        let mut loader = Loader::new(&shelf);
        loader.directive(&Place::command_line(), b"save", &[b"1"]).unwrap_err();
        assert_eq!(value(&loader.finish().0, "save"), "3600 1 300 100 60 10000");
    }

    #[test]
    fn what_has_no_effect_is_warned_about_once_and_only_if_it_asks_for_something() {
        let (_, warnings) = load("activerehashing no\nactiverehashing no\ntls-port 0\nsave \"\"\nport 1").unwrap();
        let expected =
            "/etc/x.conf:2: 'activerehashing' has no effect: tables grow in small segments and are never rehashed";
        assert_eq!(warnings, [expected]);
        let (_, warnings) = load("activerehashing no\nactiverehashing yes").unwrap();
        assert_eq!(warnings, [""; 0]);
        let (_, warnings) = load("loadmodule /x.so\nlua-replicate-commands yes").unwrap();
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn users_are_kept_with_their_places_and_not_shown() {
        let (config, warnings) = load("user default on\n\nuser a on >secret \"~a b\"").unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(config.users[1].place, "/etc/x.conf:3");
        assert_eq!(config.users[1].words, [&b"a"[..], b"on", b">secret", b"~a b"]);
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn renamed_commands_are_kept_in_order() {
        let (config, _) = load("rename-command FLUSHALL \"\"\nrename-command config secret").unwrap();
        let renamed: Vec<(String, String)> =
            config.renamed_commands.iter().map(|command| (command.from.to_string(), command.to.to_string())).collect();
        let expected = [("flushall", ""), ("config", "secret")];
        assert_eq!(renamed, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
    }

    #[test]
    fn includes_are_read_in_place() {
        let shelf = shelf(&[("/etc/a.conf", "port 1\ninclude /etc/b.conf\nhz 50"), ("/etc/b.conf", "port 2\nhz 40")]);
        let mut loader = Loader::new(&shelf);
        loader.file(Path::new("/etc/a.conf")).unwrap();
        let (config, _) = loader.finish();
        assert_eq!((config.port, config.hz), (2, 50));
    }

    #[test]
    fn includes_may_be_patterns_which_may_match_nothing() {
        let shelf = shelf(&[
            ("/etc/a.conf", "include /etc/conf.d/*.conf\ninclude /etc/none/*.conf\ninclude /etc/*/x/[ab].conf"),
            ("/etc/conf.d/10.conf", "port 10"),
            ("/etc/conf.d/20.conf", "port 20"),
            ("/etc/conf.d/.30.conf", "port 30"),
            ("/etc/conf.d/40.conf.bak", "port 40"),
            ("/etc/one/x/a.conf", "hz 33"),
        ]);
        let mut loader = Loader::new(&shelf);
        loader.file(Path::new("/etc/a.conf")).unwrap();
        let (config, _) = loader.finish();
        assert_eq!((config.port, config.hz), (20, 33));
    }

    #[test]
    fn errors_in_an_included_file_name_that_file() {
        let shelf = shelf(&[("/a", "include /b"), ("/b", "\nport x")]);
        let error = Loader::new(&shelf).file(Path::new("/a")).unwrap_err();
        assert_eq!(error.to_string(), "/b:2: 'port' wants a number from 0 to 65535, got 'x'");
    }

    #[test]
    fn an_included_file_that_is_missing_is_an_error_at_the_include() {
        let shelf = shelf(&[("/a", "# x\ninclude /b")]);
        let error = Loader::new(&shelf).file(Path::new("/a")).unwrap_err();
        assert_eq!(error.to_string(), "/a:2: cannot include '/b': entity not found");
        let error = Loader::new(&shelf).file(Path::new("/c")).unwrap_err();
        assert_eq!(error.to_string(), "/c: cannot be read: entity not found");
    }

    #[test]
    fn files_that_include_each_other_for_ever_are_an_error() {
        let shelf = shelf(&[("/a", "include /b"), ("/b", "include /a")]);
        let error = Loader::new(&shelf).file(Path::new("/a")).unwrap_err();
        assert!(error.to_string().ends_with("more than 16 deep; is this a loop?"), "{error}");
    }

    #[test]
    fn edits_count_what_must_change() {
        for (from, to, expected) in [("", "abc", 3), ("port", "port", 0), ("prot", "port", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }
}
