//! The sample configuration: every directive with what it is for, what it takes, and its default. Printed by `--print-config`, and kept
//! as `tuning/annulus.conf`, which a test holds in step.
//!
//! Made from the table, like `--help`. Everything in it is commented out, so that a server that starts with the file as it is has the
//! defaults, also those of a later version. Absent on purpose: hidden directives, and advice that would have to be kept true by hand.

use std::fmt::Write as _;

use crate::config::{DIRECTIVES, Directive, Effect, FILE_ONLY, Sight, When};

/// Headings, each in front of the first directive of its part. The order is that of the table.
const PARTS: &[(&str, &str)] = &[
    ("shards", "Shards"),
    ("port", "Network"),
    ("databases", "General"),
    ("requirepass", "Permissions"),
    ("slowlog-log-slower-than", "Observation"),
    ("active-expire-effort", "Expiry, memory, deletion"),
    ("hash-max-listpack-entries", "How data types are stored"),
    ("save", "Persistence"),
    ("replicaof", "Replication"),
    ("cluster-enabled", "Cluster"),
    ("tls-port", "TLS"),
];

/// The whole file.
pub(super) fn sample() -> String {
    let mut text = String::from(
        "# Annulus: all directives with their defaults. Written by `annulus --print-config`.\n\
         #\n\
         # The format is that of redis.conf. One directive a line; words with blanks in them in quotes; \"\" is an empty\n\
         # word. Sizes may have units: 1k is 1000 bytes, 1kb 1024, and so with m, mb, g, gb, in any case. Of two lines for\n\
         # one directive the last wins; save and client-output-buffer-limit add up. A directive marked live can be changed\n\
         # by CONFIG SET, and CONFIG REWRITE then writes it here.\n",
    );
    for directive in DIRECTIVES {
        if let Some((_, heading)) = PARTS.iter().find(|(first, _)| *first == directive.name) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n\n# {}\n# {heading}\n# {0}\n", "-".repeat(77));
        }
        if directive.sight != Sight::Hidden {
            push(&mut text, directive);
        }
    }
    let _ = write!(text, "\n\n# {}\n# Lines of a file that are no settings\n# {0}\n", "-".repeat(77));
    for directive in FILE_ONLY {
        let _ = write!(text, "\n# {}: {}\n", directive.name, directive.about);
        if let Effect::Accepted(reason) = directive.effect {
            let _ = writeln!(text, "# No effect: {reason}");
        }
    }
    text
}

fn push(text: &mut String, directive: &Directive) {
    let when = match directive.when {
        When::Live => "live",
        When::AtStart => "at the start",
        When::Protected => "live, if enable-protected-configs allows it",
    };
    // Writing to a string cannot fail.
    let _ = write!(text, "\n# {}\n# Takes {}; {when}", directive.about, directive.wants());
    if let Some(alias) = directive.alias {
        let _ = write!(text, "; once called {alias}");
    }
    text.push('\n');
    if let Effect::Accepted(reason) = directive.effect {
        let _ = writeln!(text, "# No effect: {reason}");
    }
    let default = match directive.default {
        "" => "\"\"",
        // One word that has blanks in it.
        default if !directive.many && default.contains(' ') => {
            return push_line(text, directive, &format!("\"{default}\""));
        }
        default => default,
    };
    push_line(text, directive, default);
}

fn push_line(text: &mut String, directive: &Directive, value: &str) {
    let _ = writeln!(text, "#{} {value}", directive.name);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Loader};
    use crate::rt::owned_file::MachineFiles;

    #[test]
    fn every_heading_stands_in_front_of_a_directive() {
        let text = sample();
        for (first, heading) in PARTS {
            assert!(DIRECTIVES.iter().any(|directive| directive.name == *first), "{first}");
            assert!(text.contains(&format!("# {heading}\n")), "{heading}");
        }
    }

    #[test]
    fn with_every_line_switched_on_the_defaults_are_in_force() {
        let files = MachineFiles;
        let mut loader = Loader::new(&files);
        let mut lines = 0;
        for line in sample().lines() {
            if let Some(directive) =
                line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            {
                loader.text("sample", directive.as_bytes()).unwrap_or_else(|error| panic!("{directive}: {error}"));
                lines += 1;
            }
        }
        assert!(lines > 180, "{lines}");
        let (config, warnings) = loader.finish();
        assert_eq!(config.get(&[b"*"]), Config::default().get(&[b"*"]));
        assert_eq!(warnings, [""; 0], "a default asks for nothing");
    }

    #[test]
    fn the_sample_in_tuning_is_in_step() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/annulus.conf");
        let wanted = sample();
        if std::env::var_os("ANNULUS_UPDATE_SAMPLE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            now == wanted,
            "tuning/annulus.conf is stale; ANNULUS_UPDATE_SAMPLE=1 cargo test --lib sample makes it anew"
        );
    }
}
