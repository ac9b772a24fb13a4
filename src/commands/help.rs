//! The HELP subcommand of every container: its rows, told to a person.
//!
//! The shape is Redis's, a line with the call and indented lines with the explanation; the texts are the rows' own usages and
//! summaries, so a subcommand that has a row has its help.

use super::table::{Row, SessionCx, table};
use crate::resp::args::Args;
use crate::resp::error::CommandError;
use crate::resp::reply::Reply;

/// Columns after which an explanation goes on in the next line.
const COLUMNS: usize = 76;

/// HELP of the container whose subcommand this is.
pub fn help(cx: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let parent = table().get(cx.row.parent.expect("HELP is a subcommand"));
    let lines = lines(parent.row.name, parent.row.subcommands);
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    Ok(())
}

/// The lines of a container's help, HELP itself last.
pub fn lines(container: &str, subcommands: &[Row]) -> Vec<String> {
    let mut lines =
        vec![format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", container.to_ascii_uppercase())];
    let mut rows: Vec<&Row> = subcommands.iter().collect();
    rows.sort_by_key(|row| (row.name == "help", row.name));
    for row in rows {
        lines.push(format!("{} {}", row.name.to_ascii_uppercase(), row.usage).trim_end().to_owned());
        wrap(row.summary, &mut lines);
    }
    lines
}

fn wrap(text: &str, lines: &mut Vec<String>) {
    let mut line = String::from("   ");
    for word in text.split_ascii_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS && line.len() > 3 {
            lines.push(std::mem::replace(&mut line, String::from("   ")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_usage_and_summary_with_help_at_the_end() {
        let rows = [
            Row { name: "help", summary: "Prints this help.", ..Row::DEFAULT },
            Row { name: "get", usage: "pattern", summary: "Finds settings.", ..Row::DEFAULT },
        ];
        assert_eq!(
            lines("config", &rows),
            [
                "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "GET pattern",
                "    Finds settings.",
                "HELP",
                "    Prints this help.",
            ]
        );
    }

    #[test]
    fn long_summaries_are_wrapped() {
        let summary = "word ".repeat(40);
        let mut lines = Vec::new();
        wrap(&summary, &mut lines);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|l| l.len() <= COLUMNS && l.starts_with("    word")));
    }
}
