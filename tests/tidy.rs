//! The rules of the source tree, as a test: a rule that nothing checks rots.
//!
//! Layers are data (`LAYERS`, top row first): a file may name `crate::` modules of rows before its own, and
//! its own module; modules of one row do not name each other. Each failure says which file and line, what
//! that layer may use, and where such a line belongs. The other rules are one test each below.
//! Deliberately absent: anything that `cargo fmt`, clippy or the compiler already checks.

#[path = "tidy/source.rs"]
mod source;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One row of layers, and for each of its modules what lives there.
type Row = &'static [(&'static str, &'static str)];

const LAYERS: &[Row] = &[
    &[("base", "std only: numbers as Redis parses and prints them, glob, crc, rng, Clock")],
    &[
        ("resp", "how bytes are framed: bytes to argv, replies to bytes, and the text of every error"),
        ("types", "how a value is stored: data structures and their encodings"),
    ],
    &[
        ("config", "directives, their values and the file they come from"),
        ("metrics", "what an operator reads: counters, histograms, the sections of INFO"),
    ],
    &[("keyspace", "how a key is found, dies or is evicted on one shard")],
    &[("rt", "glommio, io_uring, system calls, pinned threads, timers, signals")],
    &[("tls", "certificates and keys, and the records of one TLS connection: bytes in, bytes out")],
    &[("persist", "what values and logs look like outside of the process: RDB, AOF and the payloads of DUMP")],
    &[("acl", "who the users are, what each may do, and what was refused")],
    &[("session", "one connection's state and its outbox")],
    &[
        ("pubsub", "who listens to which channel, here and on which other shards"),
        ("tracking", "which clients may have copies of which keys, and how none of them is stale"),
    ],
    &[("shard", "one per core: keyspace, mailbox, and every message that crosses cores")],
    &[("txn", "which shards a command needs, in what order, how it waits")],
    &[("durability", "logs, snapshots and loading: who moves bytes to and from the disk, and who decides when")],
    &[("commands", "the command table and the handlers: what a client sees")],
    &[("dispatch", "may this client run it at all; then here, elsewhere, or coordinated")],
    &[("net", "listeners, sockets, connections")],
    &[("server", "boot, load, shutdown: the only place that knows everything")],
];

/// Layers that are plain Rust: no async, no files, no sockets, no threads, no clock.
const PLAIN: &[&str] = &["base", "resp", "types", "keyspace"];

/// Layers that may read a clock by themselves. Everyone else is handed `now`.
const CLOCK: &[&str] = &["rt", "server", "main"];

/// Past this a file holds more than one idea.
const FILE_LINES_MAX: usize = 1200;

/// A file of at most this many lines may open with two lines of documentation instead of three.
const TINY_FILE_LINES: usize = 60;

#[test]
fn a_layer_uses_only_the_layers_above_it() {
    let mut faults = Vec::new();
    for file in rust_files("src") {
        faults.extend(layer_faults(&file.name, &file.text));
    }
    report(faults);
}

#[test]
fn every_folder_of_src_has_a_layer() {
    let mut faults = Vec::new();
    for file in rust_files("src") {
        let layer = layer_of(&file.name);
        if rank(layer).is_none() && !is_root(&file.name) {
            faults.push(format!("{}: {layer} is in no layer; give it a row of LAYERS in tests/tidy.rs", file.name));
        }
    }
    faults.dedup();
    report(faults);
}

#[test]
fn the_runtime_crates_are_named_in_rt_alone() {
    let mut faults = Vec::new();
    for file in rust_files("src").filter(|file| layer_of(&file.name) != "rt") {
        faults.extend(runtime_faults(&file.name, &file.text));
    }
    report(faults);
}

#[test]
fn what_is_below_the_runtime_is_plain_rust() {
    let mut faults = Vec::new();
    for file in rust_files("src") {
        faults.extend(plainness_faults(&file.name, &file.text));
    }
    report(faults);
}

#[test]
fn every_source_file_opens_with_its_documentation() {
    let mut faults = Vec::new();
    for file in rust_files("src").chain(rust_files("tests")).chain(rust_files("benches")) {
        let opening = file.text.lines().take_while(|line| line.starts_with("//!")).count();
        let lines = file.text.lines().count();
        let wanted = if lines <= TINY_FILE_LINES || !file.name.starts_with("src/") { 2 } else { 3 };
        if opening < wanted {
            faults.push(format!(
                "{}:1: opens with {opening} lines of `//!`, needs {wanted}: what it is, who owns it and on which core, \
                 invariants, what is deliberately absent",
                file.name
            ));
        }
    }
    report(faults);
}

#[test]
fn no_module_is_a_drawer_for_the_rest() {
    let mut faults = Vec::new();
    for file in rust_files("src").chain(rust_files("tests")).chain(rust_files("benches")) {
        let tokens = source::tokens(&file.text);
        let in_name =
            Path::new(&file.name).iter().any(|part| is_drawer(part.to_string_lossy().trim_end_matches(".rs")));
        let declared = tokens.windows(2).find(|pair| pair[0].text == "mod" && is_drawer(&pair[1].text));
        if in_name || declared.is_some() {
            faults.push(format!(
                "{}:{}: modules are named after what they hold; put each piece into the lowest layer that can state it \
                 without naming its users",
                file.name,
                declared.map_or(1, |pair| pair[0].line)
            ));
        }
    }
    report(faults);
}

#[test]
fn nothing_is_left_to_be_written_later() {
    let mut faults = Vec::new();
    for file in rust_files("src") {
        for pair in source::tokens(&file.text).windows(2) {
            if matches!(pair[0].text.as_str(), "todo" | "unimplemented") && pair[1].text == "!" {
                faults
                    .push(format!("{}:{}: {}! stands for code that is missing", file.name, pair[0].line, pair[0].text));
            }
        }
    }
    report(faults);
}

#[test]
fn no_file_holds_more_than_one_reader_can() {
    let faults = rust_files("src")
        .chain(rust_files("tests"))
        .filter(|file| file.text.lines().count() > FILE_LINES_MAX)
        .map(|file| {
            format!("{}: {} lines, over {FILE_LINES_MAX}: split it by idea", file.name, file.text.lines().count())
        })
        .collect();
    report(faults);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut faults = Vec::new();
    for page in files("").filter(|file| file.name.ends_with(".md")) {
        for (line, target) in links(&page.text) {
            let path = target.split(['#', '?']).next().unwrap_or("");
            let home = root().join(&page.name);
            let there = home.parent().map(|folder| folder.join(path));
            if !path.is_empty() && !there.is_some_and(|there| there.exists()) {
                faults.push(format!("{}:{line}: {target} does not exist", page.name));
            }
        }
    }
    report(faults);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // Spelled in halves, so that this list does not find itself.
    let places = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Use", "rs/"), concat!("/wo", "rk/")];
    let mut faults = Vec::new();
    for file in files("") {
        for (at, line) in file.text.lines().enumerate() {
            for place in places {
                // Only as the start of a path: `src/work/` or a URL are something else.
                let starts_path = |at: usize| {
                    line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !"._-/}~".contains(c))
                };
                if line.match_indices(place).any(|(at, _)| starts_path(at)) {
                    faults.push(format!("{}:{}: names a folder of one machine: {}", file.name, at + 1, line.trim()));
                }
            }
        }
    }
    report(faults);
}

#[test]
fn what_a_person_starts_is_executable() {
    let mut faults = Vec::new();
    for file in files("").filter(|file| file.text.starts_with("#!") && !file.text.starts_with("#![")) {
        let mode = fs::metadata(root().join(&file.name)).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o111 == 0 {
            faults.push(format!("{}: starts with #! and is not executable: chmod +x", file.name));
        }
    }
    report(faults);
}

fn layer_faults(name: &str, text: &str) -> Vec<String> {
    let layer = layer_of(name);
    if is_root(name) {
        return Vec::new();
    }
    let Some(own) = rank(layer) else { return Vec::new() };
    let mut faults = Vec::new();
    for path in source::paths(&source::tokens(text), &module_of(name)) {
        let Some(named) = path.segments.first().filter(|_| path.ours) else { continue };
        if named == layer {
            continue;
        }
        let allowed: Vec<_> = LAYERS[..own].iter().flat_map(|row| row.iter()).map(|(layer, _)| *layer).collect();
        if allowed.contains(&named.as_str()) {
            continue;
        }
        let whole = path.segments.join("::");
        let allowed = if allowed.is_empty() { "nothing of this crate".to_string() } else { allowed.join(", ") };
        faults.push(match belongs(named) {
            Some(holds) => format!(
                "{name}:{}: {layer} names crate::{whole}, which is not above it. {layer} may use: {allowed}. A line that \
                 needs it belongs in {named} ({holds}) or in a layer after it; or pass what {layer} needs in as a value",
                path.line
            ),
            None => format!(
                "{name}:{}: crate::{whole} is in no layer; the crate root holds modules alone. {layer} may use: {allowed}",
                path.line
            ),
        });
    }
    faults
}

fn runtime_faults(name: &str, text: &str) -> Vec<String> {
    let tokens = source::tokens(text);
    let mut faults: Vec<String> = Vec::new();
    let mut say = |krate: &str, line: usize| {
        faults.push(format!(
            "{name}:{line}: names {krate}, which is rt's alone: give src/rt a function that says what is needed, and a \
             paragraph in io_uring_notes.md when it is a ring flag"
        ));
    };
    for path in source::paths(&tokens, &module_of(name)).iter().filter(|path| !path.ours) {
        if let Some(krate) = path.segments.first().filter(|first| matches!(first.as_str(), "glommio" | "io_uring")) {
            say(krate, path.line);
        }
    }
    // In expressions a path to another crate starts anywhere; `paths` has read the imports.
    let mut in_use = false;
    for (at, token) in tokens.iter().enumerate() {
        let text_at = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        match token.text.as_str() {
            "use" => in_use = true,
            ";" => in_use = false,
            krate @ ("glommio" | "io_uring")
                if !in_use && text_at(at + 1) == "::" && (at == 0 || text_at(at - 1) != "::") =>
            {
                say(krate, token.line);
            }
            _ => {}
        }
    }
    faults
}

fn plainness_faults(name: &str, text: &str) -> Vec<String> {
    let layer = layer_of(name);
    let tokens = source::tokens(text);
    let tests_from = tokens
        .windows(5)
        .find(|five| five.iter().map(|token| token.text.as_str()).eq(["#", "[", "cfg", "(", "test"]))
        .map_or(usize::MAX, |five| five[0].line);
    let mut faults = Vec::new();
    for window in tokens.windows(3).filter(|window| window[0].line < tests_from) {
        let [first, second, third] = [&window[0].text, &window[1].text, &window[2].text].map(String::as_str);
        let line = window[0].line;
        if second == "::" && third == "now" && matches!(first, "Instant" | "SystemTime") && !CLOCK.contains(&layer) {
            faults.push(format!(
                "{name}:{line}: {layer} reads a clock by itself; be handed `now`, which rt's clock gives"
            ));
        }
        let outside = match (first, second, third) {
            ("async" | "await", ..) => "async",
            ("std", "::", "fs" | "net" | "thread" | "process") => third,
            _ => continue,
        };
        if PLAIN.contains(&layer) {
            faults.push(format!(
                "{name}:{line}: {layer} is plain Rust and names {outside}: that belongs in rt or after it"
            ));
        }
    }
    faults
}

/// Markdown links `[text](target)` to files of this tree, outside of code, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every other piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for piece in prose.split("](").skip(1) {
                let target = piece.split(')').next().unwrap_or("");
                if !target.contains("://") && !target.starts_with("mailto:") {
                    found.push((at + 1, target.to_string()));
                }
            }
        }
    }
    found
}

struct SourceFile {
    /// From the root of the tree, with `/`.
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file under `folder` that belongs to the tree; what a build or an install made does not.
fn files(folder: &str) -> impl Iterator<Item = SourceFile> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | "node_modules" | "__pycache__" | ".git" | ".venv") {
                    folders.push(path);
                }
            } else if path.is_file() && !matches!(name.as_str(), "Cargo.lock" | ".git") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.into_iter().filter_map(read)
}

fn read(path: PathBuf) -> Option<SourceFile> {
    let name = path.strip_prefix(root()).ok()?.to_string_lossy().into_owned();
    // What is not text is not ours to judge.
    fs::read_to_string(&path).ok().map(|text| SourceFile { name, text })
}

fn rust_files(folder: &str) -> impl Iterator<Item = SourceFile> {
    files(folder).filter(|file| file.name.ends_with(".rs"))
}

/// `src/types/list.rs` is `types::list`; a `mod.rs` is its folder.
fn module_of(name: &str) -> Vec<String> {
    let inner = name.strip_prefix("src/").unwrap_or(name).trim_end_matches(".rs");
    inner.split('/').filter(|part| *part != "mod").map(String::from).collect()
}

fn layer_of(name: &str) -> &str {
    let inner = name.strip_prefix("src/").unwrap_or(name);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

/// `lib.rs` lists the layers and `main.rs` starts the server; neither is in a layer.
fn is_root(name: &str) -> bool {
    matches!(name, "src/lib.rs" | "src/main.rs") || name.starts_with("src/bin/")
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.iter().any(|(name, _)| *name == layer))
}

fn belongs(layer: &str) -> Option<&'static str> {
    let holds: HashMap<_, _> = LAYERS.iter().flat_map(|row| row.iter().copied()).collect();
    holds.get(layer).copied()
}

fn is_drawer(name: &str) -> bool {
    matches!(name, "util" | "utils" | "common" | "helper" | "helpers" | "misc")
}

/// Fails with every fault at once, so that one run tells the whole work.
fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

mod the_rules_themselves {
    use super::*;

    #[test]
    fn a_line_in_the_wrong_layer_is_told_where_to_go() {
        let faults = layer_faults("src/types/list.rs", "//! x\nuse crate::{base::Clock, keyspace::Db};\n");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("src/types/list.rs:2: types names crate::keyspace::Db"), "{faults:?}");
        assert!(faults[0].contains("types may use: base.") && faults[0].contains("belongs in keyspace"), "{faults:?}");
    }

    #[test]
    fn neighbours_of_one_row_stay_apart_and_the_layers_above_are_open() {
        assert_eq!(layer_faults("src/config/mod.rs", "use crate::metrics::Counter;").len(), 1);
        assert_eq!(layer_faults("src/config/mod.rs", "use crate::resp::Reply; use crate::config::x;").len(), 0);
        assert_eq!(layer_faults("src/server/mod.rs", "use crate::{net, dispatch, base};").len(), 0);
    }

    #[test]
    fn super_is_no_way_around() {
        assert_eq!(layer_faults("src/rt/ring.rs", "fn f() { super::super::net::listen() }").len(), 1);
    }

    #[test]
    fn the_ring_is_found_in_imports_and_in_expressions() {
        assert_eq!(runtime_faults("src/net/mod.rs", "use io_uring::opcode;").len(), 1);
        assert_eq!(runtime_faults("src/net/mod.rs", "fn f() { glommio::executor() }").len(), 1);
        assert_eq!(
            runtime_faults("src/net/mod.rs", "// io_uring::x\nlet io_uring = crate::rt::io_uring::probe();").len(),
            0
        );
    }

    #[test]
    fn plain_layers_have_no_clock_and_no_files_but_their_tests_may() {
        assert_eq!(plainness_faults("src/keyspace/db.rs", "let t = Instant::now();").len(), 1);
        assert_eq!(plainness_faults("src/types/list.rs", "use std::fs::File; async fn f() {}").len(), 2);
        assert_eq!(plainness_faults("src/types/list.rs", "#[cfg(test)] mod tests { use std::fs::File; }").len(), 0);
        assert_eq!(plainness_faults("src/rt/clock.rs", "let t = Instant::now();").len(), 0);
    }

    #[test]
    fn links_in_code_and_to_other_sites_are_not_followed() {
        let text = "[a](x.md) `[b](y.md)` [c](https://example.org)\n```\n[d](z.md)\n```\n[e](w.md#part)";
        assert_eq!(links(text), [(1, "x.md".to_string()), (5, "w.md#part".to_string())]);
    }
}
