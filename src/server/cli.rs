//! The command line, in the syntax of redis-server.
//!
//! ```text
//! annulus [FILE.conf] [-] [--directive value ...]
//!
//! annulus --port 7000 --save '' --appendonly yes --dir /data --shards 4
//! annulus /etc/annulus.conf --loglevel verbose
//! echo 'port 7000' | annulus -
//!
//! annulus check PATH
//! annulus restore --to TIME FROM TO
//! annulus convert FROM TO [--shards N]
//! ```
//!
//! The file comes first, then standard input, then the directives in their order; the last one wins. The words after
//! `--name` up to the next `--` are its values. The first value may itself start with `--` (a password can), `--save`
//! without a value means `--save ''`, and `"--port 7000"` may be one argument: scripts in the wild rely on all three.
//!
//! `check`, `restore` and `convert` as the first word are subcommands; a configuration file of that name is `./check`.
//!
//! clap lays out the text of `--help`; it does not parse, because none of the above is syntax that it knows.
//!
//! This is where the configuration meets the machine: `dir` becomes an absolute path, `shards 0` the number of CPUs
//! that this process may use. Nothing is changed here: no folder entered, no file made. Exit codes are the caller's.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

use super::convert::Convert;
use super::instant;
use super::restore::Restore;
use super::sample::sample;
use crate::base::num::parse_u64;
use crate::config::{
    Config, ConfigError, DIRECTIVES, Effect, FILE_ONLY, Files, Loader, Place, SHARDS_MAX, Sight, Text, When,
};
use crate::resp::OwnedArgs;
use crate::resp::words::split_words;
use crate::rt::owned_file::MachineFiles;

/// What the command line asks for.
#[derive(Debug)]
pub enum Cli {
    /// Run the server.
    Run(Box<Run>),
    /// Check the file at this path and leave.
    Check(PathBuf),
    /// Write data in another form and leave.
    Convert(Convert),
    /// Write what the store was at an instant and leave.
    Restore(Restore),
    /// Print the sample configuration and leave.
    Sample(String),
    /// Print this text and leave.
    Help(String),
    /// Print this text and leave.
    Version(String),
}

/// A server to run.
#[derive(Debug)]
pub struct Run {
    /// The configuration: `dir` is absolute, `shards` at least 1.
    pub config: Config,
    /// One line for each directive that was given and has no effect, to be logged at start.
    pub warnings: Vec<String>,
    /// The absolute path of the configuration file, if there is one.
    pub config_file: Option<PathBuf>,
}

/// Why the server cannot be run as the command line asks. `Display` is one line.
#[derive(Debug)]
pub enum CliError {
    /// A directive is wrong, in a file or on the command line.
    Config(ConfigError),
    /// `check` does not have one path behind it.
    CheckWhat,
    /// What follows `convert` is not two paths.
    ConvertWhat,
    /// What follows `restore` is not `--to`, a time, and two paths.
    RestoreWhat,
    /// This is no point in time.
    NoTime(OsString),
    /// A value stands where a directive should.
    NoDirective(OsString),
    /// Standard input could not be read.
    StandardInput(io::Error),
    /// The working folder could not be found out.
    WorkingFolder(io::Error),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Config(error) => write!(f, "{error}"),
            CliError::CheckWhat => write!(
                f,
                "check wants one path: annulus check PATH; to read a configuration file of this name, write ./check"
            ),
            CliError::ConvertWhat => write!(
                f,
                "convert wants two paths: annulus convert FROM TO [--shards N], N from 1 to {SHARDS_MAX}; to read a configuration \
                 file of this name, write ./convert"
            ),
            CliError::RestoreWhat => write!(
                f,
                "restore wants a time and two paths: annulus restore --to TIME FROM TO; to read a configuration file of this \
                 name, write ./restore"
            ),
            CliError::NoTime(text) => write!(
                f,
                "'{}' is no time: write Unix seconds, Unix milliseconds, or RFC 3339 such as 2023-11-14T22:13:20Z",
                text.as_bytes().escape_ascii()
            ),
            CliError::NoDirective(word) => write!(
                f,
                "command line: '{}' does not belong to a directive; write FILE.conf first, then --directive value",
                word.as_bytes().escape_ascii()
            ),
            CliError::StandardInput(error) => write!(f, "standard input cannot be read: {error}"),
            CliError::WorkingFolder(error) => write!(f, "the working folder cannot be found: {error}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        CliError::Config(error)
    }
}

/// Understands the arguments of this process (without its own name), reading the files they name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, CliError> {
    let working_folder = std::env::current_dir().map_err(CliError::WorkingFolder)?;
    parse_on(
        &Machine { files: &MachineFiles, working_folder: &working_folder, cpus: cpus_allowed() },
        &mut io::stdin(),
        args,
    )
}

/// What parsing needs to know of the machine.
struct Machine<'a> {
    files: &'a dyn Files,
    working_folder: &'a Path,
    cpus: usize,
}

/// The CPUs that affinity and control groups leave to this process.
fn cpus_allowed() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn parse_on(
    machine: &Machine<'_>,
    stdin: &mut dyn Read,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Cli, CliError> {
    let args: Vec<Vec<u8>> = args.into_iter().map(OsString::into_vec).collect();
    // Redis looks at these only when they stand alone or first; a value such as `--requirepass -h` is no call for help.
    match args.first().map(Vec::as_slice) {
        Some(b"-h" | b"--help") => return Ok(Cli::Help(help())),
        Some(b"--print-config") => return Ok(Cli::Sample(sample())),
        Some(b"-v" | b"--version") => return Ok(Cli::Version(version())),
        Some(b"check") => return check(&args[1..]),
        Some(b"restore") => return restore(&args[1..]),
        Some(b"convert") => return convert(&args[1..]),
        _ => {}
    }

    let mut loader = Loader::new(machine.files);
    let mut rest = args.as_slice();
    let mut config_file = None;
    if let [first, tail @ ..] = rest
        && !first.starts_with(b"-")
    {
        let path = Path::new(OsStr::from_bytes(first));
        loader.file(path)?;
        config_file = Some(machine.working_folder.join(path));
        rest = tail;
    }

    // A lone dash stands first or last.
    let from_stdin = match rest {
        [first, tail @ ..] if first == b"-" => {
            rest = tail;
            true
        }
        [head @ .., last] if last == b"-" => {
            rest = head;
            true
        }
        _ => false,
    };
    if from_stdin {
        let mut text = Vec::new();
        stdin.read_to_end(&mut text).map_err(CliError::StandardInput)?;
        loader.text("standard input", &text)?;
    }

    for (name, values) in directives(rest)? {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        loader.directive(&Place::command_line(), &name, &values)?;
    }

    let (mut config, warnings) = loader.finish();
    settle(&mut config, machine);
    Ok(Cli::Run(Box::new(Run { config, warnings, config_file })))
}

/// What follows `check`.
fn check(args: &[Vec<u8>]) -> Result<Cli, CliError> {
    match args {
        [flag] if flag == b"-h" || flag == b"--help" => Ok(Cli::Help(check_help())),
        [path] if !path.starts_with(b"-") => Ok(Cli::Check(PathBuf::from(OsStr::from_bytes(path)))),
        _ => Err(CliError::CheckWhat),
    }
}

/// What follows `restore`. `--to TIME` may stand anywhere.
fn restore(args: &[Vec<u8>]) -> Result<Cli, CliError> {
    if let [flag] = args
        && (flag == b"-h" || flag == b"--help")
    {
        return Ok(Cli::Help(restore_help()));
    }
    let (mut time, mut paths) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_slice() {
            b"--to" if time.is_none() => time = args.next(),
            option if option.starts_with(b"-") => return Err(CliError::RestoreWhat),
            path => paths.push(PathBuf::from(OsStr::from_bytes(path))),
        }
    }
    let (Some(time), Ok([from, to])) = (time, <[PathBuf; 2]>::try_from(paths)) else {
        return Err(CliError::RestoreWhat);
    };
    let unix_ms = std::str::from_utf8(time).ok().and_then(instant::parse);
    let unix_ms = unix_ms.ok_or_else(|| CliError::NoTime(OsString::from_vec(time.clone())))?;
    Ok(Cli::Restore(Restore { unix_ms, from, to }))
}

/// What follows `convert`. `--shards N` may stand anywhere.
fn convert(args: &[Vec<u8>]) -> Result<Cli, CliError> {
    if let [flag] = args
        && (flag == b"-h" || flag == b"--help")
    {
        return Ok(Cli::Help(convert_help()));
    }
    let (mut shards, mut paths) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_slice() {
            b"--shards" if shards.is_none() => {
                let number =
                    args.next().and_then(|number| parse_u64(number)).and_then(|number| u16::try_from(number).ok());
                shards = Some(number.filter(|number| (1..=SHARDS_MAX).contains(number)).ok_or(CliError::ConvertWhat)?);
            }
            option if option.starts_with(b"-") => return Err(CliError::ConvertWhat),
            path => paths.push(PathBuf::from(OsStr::from_bytes(path))),
        }
    }
    let [from, to] = <[PathBuf; 2]>::try_from(paths).map_err(|_| CliError::ConvertWhat)?;
    Ok(Cli::Convert(Convert { shards, from, to }))
}

/// A directive of the command line: its name without the dashes, and its values.
type Given = (Vec<u8>, Vec<Vec<u8>>);

/// The words of one argument that holds a name and perhaps values. When a quote in it does not close, all of it is
/// taken for the name, and will be refused as such.
fn words_of(option: &[u8]) -> Vec<Vec<u8>> {
    let mut words = OwnedArgs::new();
    match split_words(option, &mut words) {
        Ok(()) => words.as_args().iter().map(<[u8]>::to_vec).collect(),
        Err(_) => vec![option.to_vec()],
    }
}

/// Cuts the arguments into directives.
fn directives(args: &[Vec<u8>]) -> Result<Vec<Given>, CliError> {
    let mut given: Vec<Given> = Vec::new();
    // Whether the last name still waits for its first value, which may look like a name itself.
    let mut wants_value = false;
    for (at, arg) in args.iter().enumerate() {
        match arg.strip_prefix(b"--") {
            Some(option) if !wants_value => {
                // "--port 7000" in one argument, or just a name.
                let mut words = words_of(option).into_iter();
                let name = words.next().unwrap_or_default();
                let mut values: Vec<Vec<u8>> = words.collect();
                let next_is_option = args.get(at + 1).is_none_or(|next| next.starts_with(b"--"));
                if values.is_empty() && name.eq_ignore_ascii_case(b"save") && next_is_option {
                    values.push(Vec::new());
                }
                wants_value = values.is_empty();
                given.push((name, values));
            }
            _ => match given.last_mut() {
                Some((_, values)) => {
                    values.push(arg.clone());
                    wants_value = false;
                }
                None => return Err(CliError::NoDirective(OsString::from_vec(arg.clone()))),
            },
        }
    }
    Ok(given)
}

/// Replaces what depends on the machine by what it is on this one.
fn settle(config: &mut Config, machine: &Machine<'_>) {
    if config.shards == 0 {
        let cpus = if config.shard_cpus.is_empty() { machine.cpus } else { config.shard_cpus.len() };
        config.shards = u16::try_from(cpus).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX);
    }
    let dir = machine.working_folder.join(config.dir.to_path().unwrap_or_default());
    // A folder that does not exist stays as it was written; entering it will fail and say so.
    let dir = fs::canonicalize(&dir).unwrap_or(dir);
    config.dir = Text(dir.into_os_string().into_vec());
}

/// The text of `--version`.
fn version() -> String {
    format!("Annulus server v={} bits={}\n", env!("CARGO_PKG_VERSION"), usize::BITS)
}

/// The text of `--help`: how to call the server, and every directive of the table.
fn help() -> String {
    let command = Command::new("annulus")
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .override_usage("annulus [FILE.conf] [-] [--directive value ...]\n       annulus check PATH\n       annulus restore --to TIME FROM TO\n       annulus convert FROM TO \
             [--shards N]")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(Arg::new("FILE.conf").help("A configuration file in the format of redis.conf"))
        .arg(Arg::new("-").help("Read more directives from standard input"))
        .arg(Arg::new("help").short('h').long("help").num_args(0).help("Print this text"))
        .arg(Arg::new("sample").long("print-config").num_args(0).help("Print a configuration file with all directives"))
        .arg(Arg::new("version").short('v').long("version").num_args(0).help("Print the version"))
        .after_help(format!(
            "Examples:\n  annulus --port 7000 --save '' --dir /data --shards 4\n  annulus /etc/annulus.conf --loglevel \
             verbose\n  echo 'port 7000' | annulus -\n\n{}",
            directive_list()
        ));
    let mut command = command;
    command.render_help().to_string()
}

/// The text of `check --help`.
fn check_help() -> String {
    let path = "An RDB file (of this server, of Redis up to 8.8 or of Valkey), an append-only file, or a manifest or the folder it is in";
    let mut command = Command::new("annulus check")
        .about("Says what is in files of data, and where damage starts; changes nothing")
        .disable_help_flag(true)
        .arg(Arg::new("PATH").required(true).help(path))
        .arg(Arg::new("help").short('h').long("help").num_args(0).help("Print this text"))
        .after_help("Exit code: 0 if the file is whole and would be loaded, 1 if not.");
    command.render_help().to_string()
}

/// The text of `restore --help`.
fn restore_help() -> String {
    let mut command = Command::new("annulus restore")
        .about("Writes what logs say the store was at an instant, as new files; the old ones stay as they are")
        .override_usage("annulus restore --to TIME FROM TO")
        .disable_help_flag(true)
        .arg(Arg::new("TIME").long("to").required(true).help("Unix seconds, Unix milliseconds, or RFC 3339"))
        .arg(
            Arg::new("FROM")
                .required(true)
                .help("A folder of append-only files, its manifest, or one append-only file"),
        )
        .arg(Arg::new("TO").required(true).help("The new folder or file, which must not be there yet"))
        .arg(Arg::new("help").short('h').long("help").num_args(0).help("Print this text"))
        .after_help("Start a server with the new folder as its appenddirname to have the store of that time.");
    command.render_help().to_string()
}

/// The text of `convert --help`.
fn convert_help() -> String {
    let mut command = Command::new("annulus convert")
        .about("Writes data in another form, as new files; the old ones stay as they are")
        .override_usage("annulus convert FROM TO [--shards N]")
        .disable_help_flag(true)
        .arg(Arg::new("FROM").required(true).help(
            "A snapshot's manifest (TO: one RDB), an RDB (TO: a folder with a file per shard and a manifest), or the manifest or \
             folder of append-only files per shard (TO: a folder that redis-server 7 loads)",
        ))
        .arg(Arg::new("TO").required(true).help("The new file or folder, which must not be there yet"))
        .arg(Arg::new("N").long("shards").help("From an RDB: for how many shards"))
        .arg(Arg::new("help").short('h').long("help").num_args(0).help("Print this text"));
    command.render_help().to_string()
}

/// Two lists: what works, with its values and defaults, and what is accepted and does nothing, with the reason.
fn directive_list() -> String {
    use std::fmt::Write as _;
    let mut text = String::from("Directives, in a file without the dashes (* can be changed by CONFIG SET):\n");
    let shown = || DIRECTIVES.iter().filter(|directive| directive.sight != Sight::Hidden);
    for directive in shown().filter(|directive| directive.effect == Effect::Works) {
        let live = if directive.when == When::AtStart { " " } else { "*" };
        let default = if directive.default.is_empty() { "\"\"" } else { directive.default };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{live} --{}\n      {}", directive.name, directive.about);
        let _ = writeln!(text, "      {}; default {default}", directive.wants());
    }
    for directive in FILE_ONLY.iter().filter(|directive| directive.effect == Effect::Works) {
        let _ = writeln!(text, "  --{}\n      {}", directive.name, directive.about);
    }
    text.push_str("\nDirectives that are read and shown by CONFIG GET, and have no effect in this version:\n");
    let settings = shown().map(|directive| (directive.name, directive.effect));
    let file_only = FILE_ONLY.iter().map(|directive| (directive.name, directive.effect));
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, effect) in settings.chain(file_only) {
        let Effect::Accepted(reason) = effect else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    for (reason, names) in reasons {
        let _ = writeln!(text, "  {reason}:\n      {}", names.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with one folder of files in memory and three CPUs.
    struct Shelf(&'static [(&'static str, &'static str)]);

    impl Files for Shelf {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let file = self.0.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn names(&self, _: &Path) -> io::Result<Vec<OsString>> {
            Ok(self.0.iter().map(|(name, _)| OsString::from(name)).collect())
        }
    }

    const SHELF: Shelf = Shelf(&[("a.conf", "port 1111\nsave 900 1\nhz 20")]);

    fn parsed(args: &[&str], stdin: &str) -> Result<Cli, String> {
        let machine = Machine { files: &SHELF, working_folder: Path::new("/nowhere"), cpus: 3 };
        let args = args.iter().map(OsString::from);
        parse_on(&machine, &mut stdin.as_bytes(), args).map_err(|error| error.to_string())
    }

    fn run(args: &[&str]) -> Run {
        match parsed(args, "") {
            Ok(Cli::Run(run)) => *run,
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    fn value(config: &Config, name: &str) -> String {
        String::from_utf8(config.get(&[name.as_bytes()]).remove(0).1).unwrap()
    }

    fn check(args: &[&str], name: &str, expected: &str) {
        assert_eq!(value(&run(args).config, name), expected, "{args:?}");
    }

    fn refused(args: &[&str], expected: &str) {
        assert_eq!(parsed(args, "").map(|_| ()), Err(expected.to_owned()), "{args:?}");
    }

    #[test]
    fn directives_take_the_words_up_to_the_next_one() {
        let args = ["--port", "7000", "--save", "", "--appendonly", "yes", "--dir", "/data", "--shards", "4"];
        for (name, expected) in
            [("port", "7000"), ("save", ""), ("appendonly", "yes"), ("dir", "/data"), ("shards", "4")]
        {
            check(&args, name, expected);
        }
        check(&["--save", "3600", "1", "300", "100"], "save", "3600 1 300 100");
        check(&["--bind", "127.0.0.1", "::1", "--port", "1"], "bind", "127.0.0.1 ::1");
        check(&["--PORT", "1"], "port", "1");
    }

    #[test]
    fn the_last_one_wins_and_the_command_line_comes_after_the_file() {
        check(&["--port", "1", "--port", "2"], "port", "2");
        check(&["a.conf"], "port", "1111");
        check(&["a.conf", "--port", "2"], "port", "2");
        check(&["a.conf", "--port", "2"], "hz", "20");
    }

    #[test]
    fn save_may_be_empty_in_every_way_that_scripts_write_it() {
        for args in [
            &["--save", ""][..],
            &["--save"],
            &["--save", "--port", "1"],
            &["--save "],
            &["--save \"\""],
            &["--save ''"],
            &["a.conf", "--save", ""],
        ] {
            check(args, "save", "");
        }
        check(&["--save", "--port", "1"], "port", "1");
        check(&["--save", "1", "2", "--save", "3", "4"], "save", "1 2 3 4");
        check(&["--save", "3600 1"], "save", "3600 1");
    }

    #[test]
    fn name_and_value_may_be_one_argument() {
        check(&["--port 7000", "--hz", "33"], "port", "7000");
        check(&["--port 7000", "--hz", "33"], "hz", "33");
        check(&["--client-output-buffer-limit normal 1 2 3"], "client-output-buffer-limit", NORMAL_LIMITED);
    }

    const NORMAL_LIMITED: &str = "normal 1 2 3 slave 268435456 67108864 60 pubsub 33554432 8388608 60";

    #[test]
    fn a_first_value_may_look_like_a_name() {
        check(&["--requirepass", "--secret", "--port", "1"], "requirepass", "--secret");
        check(&["--requirepass", "-h"], "requirepass", "-h");
    }

    #[test]
    fn values_are_taken_as_they_are() {
        check(&["--requirepass", "a \"b' c"], "requirepass", "a \"b' c");
        check(&["--logfile", ""], "logfile", "");
    }

    #[test]
    fn a_lone_dash_reads_standard_input() {
        for args in [&["-"][..], &["a.conf", "-"], &["-", "--hz", "33"], &["--hz", "33", "-"]] {
            match parsed(args, "port 3333\n") {
                Ok(Cli::Run(run)) => assert_eq!(run.config.port, 3333, "{args:?}"),
                other => panic!("{args:?} gave {other:?}"),
            }
        }
        let error = parsed(&["-"], "\nport x").unwrap_err();
        assert_eq!(error, "standard input:2: 'port' wants a number from 0 to 65535, got 'x'");
    }

    #[test]
    fn errors_say_what_is_allowed() {
        refused(&["--port", "x"], "command line: 'port' wants a number from 0 to 65535, got 'x'");
        refused(&["--port"], "command line: 'port' wants a number from 0 to 65535, got nothing");
        refused(&["--prot", "1"], "command line: 'prot' is not a directive; did you mean 'port'?");
        refused(&["b.conf"], "b.conf: cannot be read: entity not found");
        refused(
            &["a.conf", "b.conf"],
            "command line: 'b.conf' does not belong to a directive; write FILE.conf first, then --directive value",
        );
    }

    #[test]
    fn words_of_subcommands_are_no_files_unless_they_are_paths() {
        refused(&["./check"], "./check: cannot be read: entity not found");
        refused(&["./convert"], "./convert: cannot be read: entity not found");
    }

    #[test]
    fn restore_wants_a_time_and_two_paths() {
        for args in [&["restore", "--to", "1700000000", "a", "b"][..], &["restore", "a", "--to", "1700000000000", "b"]]
        {
            let Ok(Cli::Restore(asked)) = parsed(args, "") else { panic!("{args:?}") };
            assert_eq!(asked.unix_ms, 1_700_000_000_000);
            assert_eq!((asked.from, asked.to), (PathBuf::from("a"), PathBuf::from("b")));
        }
        for args in [
            &["restore"][..],
            &["restore", "a", "b"],
            &["restore", "--to", "1", "a"],
            &["restore", "--at", "1", "a", "b"],
        ] {
            let error = parsed(args, "").unwrap_err();
            assert!(error.starts_with("restore wants a time and two paths"), "{error}");
        }
        let error = parsed(&["restore", "--to", "now", "a", "b"], "").unwrap_err();
        assert!(error.starts_with("'now' is no time: "), "{error}");
        let Ok(Cli::Help(text)) = parsed(&["restore", "-h"], "") else { panic!("no help") };
        assert!(text.contains("annulus restore --to TIME FROM TO"), "{text}");
    }

    #[test]
    fn convert_wants_two_paths() {
        for (args, shards) in [(&["convert", "a", "b"][..], None), (&["convert", "--shards", "4", "a", "b"], Some(4))] {
            let Ok(Cli::Convert(asked)) = parsed(args, "") else { panic!("{args:?}") };
            assert_eq!((asked.shards, asked.from, asked.to), (shards, PathBuf::from("a"), PathBuf::from("b")));
        }
        for args in
            [&["convert"][..], &["convert", "a"], &["convert", "a", "b", "--shards", "0"], &["convert", "a", "b", "c"]]
        {
            let error = parsed(args, "").unwrap_err();
            assert!(error.starts_with("convert wants two paths"), "{error}");
        }
        let Ok(Cli::Help(text)) = parsed(&["convert", "-h"], "") else { panic!("no help") };
        assert!(text.contains("annulus convert FROM TO"), "{text}");
    }

    #[test]
    fn check_takes_one_path() {
        let path = |args: &[&str]| match parsed(args, "") {
            Ok(Cli::Check(path)) => path,
            other => panic!("{args:?} gave {other:?}"),
        };
        assert_eq!(path(&["check", "x.rdb"]), PathBuf::from("x.rdb"));
        for args in [&["check"][..], &["check", "a", "b"], &["check", "--port", "1"], &["check", "-x"]] {
            let error = parsed(args, "").unwrap_err();
            assert!(error.starts_with("check wants one path: annulus check PATH"), "{error}");
        }
        let Ok(Cli::Help(text)) = parsed(&["check", "--help"], "") else { panic!("no help") };
        assert!(text.contains("annulus check <PATH>"), "{text}");
    }

    #[test]
    fn warnings_name_the_directives_without_effect() {
        let warnings = run(&["--activerehashing", "no", "--save", "", "--port", "1"]).warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("command line: 'activerehashing' has no effect: "), "{warnings:?}");
    }

    #[test]
    fn shards_and_dir_are_settled_on_this_machine() {
        check(&[], "shards", "3");
        check(&["--shards", "64"], "shards", "64");
        check(&["--shard-cpus", "0-1"], "shards", "2");
        check(&[], "dir", "/nowhere/.");
        check(&["--dir", "/"], "dir", "/");
        refused(&["--shards", "257"], "command line: 'shards' wants a number from 0 to 256, got '257'");
    }

    #[test]
    fn the_path_of_the_file_is_kept_absolute() {
        assert_eq!(run(&["a.conf"]).config_file, Some(PathBuf::from("/nowhere/a.conf")));
        assert_eq!(run(&[]).config_file, None);
    }

    #[test]
    fn help_lists_every_directive_that_is_not_hidden() {
        for flag in ["-h", "--help"] {
            let Ok(Cli::Help(text)) = parsed(&[flag], "") else { panic!("{flag} gave no help") };
            for directive in DIRECTIVES.iter().filter(|directive| directive.sight != Sight::Hidden) {
                assert!(text.contains(directive.name), "{} is missing", directive.name);
            }
            assert!(text.contains("annulus [FILE.conf]"), "{text}");
        }
    }

    #[test]
    fn print_config_prints_the_sample() {
        let Ok(Cli::Sample(text)) = parsed(&["--print-config"], "") else { panic!("no sample") };
        assert!(text.contains("\n#port 6379\n"), "{text}");
    }

    #[test]
    fn version_has_the_form_that_tools_read() {
        for flag in ["-v", "--version"] {
            let Ok(Cli::Version(text)) = parsed(&[flag], "") else { panic!("{flag} gave no version") };
            assert!(text.starts_with("Annulus server v="), "{text}");
        }
    }
}
