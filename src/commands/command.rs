//! COMMAND and its subcommands: the table, told to clients.
//!
//! Clients read it to find keys in arguments (cluster libraries), to complete and explain (redis-cli), to choose which
//! commands exist. Everything here is computed from the rows; replies have the shape and the order of Redis 7.0.

use super::categories::{KeyRange, categories, in_category};
use super::docs::{Argument, Group, parse_usage};
use super::help::help;
use super::keys::{BadKeys, Begin, Find, KeyFlags, KeySpec, each_key_used, has_keys, keys_are_optional};
use super::table::{Command, Flags, Row, Run, SessionCx, table};
use crate::base::glob;
use crate::resp::args::Args;
use crate::resp::error::CommandError;
use crate::resp::reply::Reply;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);
const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];

const SUB: Row = Row { group: Group::Server, flags: FLAGS, acl: &["connection"], ..Row::DEFAULT };

/// See the module.
pub const ROWS: &[Row] = &[Row {
    name: "command",
    summary: "Tells about all commands.",
    since: "2.8.13",
    complexity: "O(N) with N commands",
    arity: -1,
    tips: ANY_ORDER,
    run: Run::Session(command),
    subcommands: &[
        Row {
            name: "count",
            summary: "How many commands there are, subcommands not counted.",
            since: "2.8.13",
            arity: 2,
            run: Run::Session(count),
            ..SUB
        },
        Row {
            name: "docs",
            usage: "[command-name [command-name ...]]",
            summary: "What commands do and which arguments they take; of all commands if none is named.",
            since: "7.0.0",
            complexity: "O(N) with N commands asked for",
            arity: -2,
            tips: ANY_ORDER,
            run: Run::Session(docs),
            ..SUB
        },
        Row {
            name: "getkeys",
            usage: "command [arg [arg ...]]",
            summary: "The keys in a whole command.",
            since: "2.8.13",
            complexity: "O(N) with N arguments",
            arity: -3,
            run: Run::Session(getkeys),
            ..SUB
        },
        Row {
            name: "getkeysandflags",
            usage: "command [arg [arg ...]]",
            summary: "The keys in a whole command, and what it would do with each.",
            since: "7.0.0",
            complexity: "O(N) with N arguments",
            arity: -3,
            run: Run::Session(getkeysandflags),
            ..SUB
        },
        Row { name: "help", summary: "Prints this help.", since: "5.0.0", arity: 2, run: Run::Session(help), ..SUB },
        Row {
            name: "info",
            usage: "[command-name [command-name ...]]",
            summary: "Arity, flags, key positions, ACL categories and subcommands of commands; of all if none is named.",
            since: "2.8.13",
            complexity: "O(N) with N commands asked for",
            arity: -2,
            tips: ANY_ORDER,
            run: Run::Session(info),
            ..SUB
        },
        Row {
            name: "list",
            usage: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
            summary: "The names of all commands and subcommands, or of those that a filter lets through.",
            since: "7.0.0",
            complexity: "O(N) with N commands",
            arity: -2,
            tips: ANY_ORDER,
            run: Run::Session(list),
            ..SUB
        },
    ],
    ..SUB
}];

fn command(_: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let commands = table().top_level();
    reply.array(commands.len());
    commands.for_each(|command| write_info(command, reply));
    Ok(())
}

fn count(_: &mut SessionCx<'_>, _: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    reply.int(table().top_level().len() as i64);
    Ok(())
}

fn info(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    if args.len() == 2 {
        return command(cx, args, reply);
    }
    reply.array(args.len() - 2);
    for name in args.slice(2).iter() {
        match table().find_full(name) {
            Some(command) => write_info(command, reply),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn docs(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let found: Vec<&Command> = if args.len() == 2 {
        table().top_level().collect()
    } else {
        args.slice(2).iter().filter_map(|name| table().find_full(name)).collect()
    };
    reply.map(found.len());
    for command in found {
        write_docs(command, reply);
    }
    Ok(())
}

fn list(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let is = |i: usize, word: &str| args.get(i).eq_ignore_ascii_case(word.as_bytes());
    let names = |keep: &dyn Fn(&Command) -> bool, reply: &mut Reply| {
        let with_subs = |c: &'static Command| std::iter::once(c).chain(c.children.iter().map(|id| table().get(*id)));
        let kept: Vec<&Command> = table().top_level().flat_map(with_subs).filter(|c| keep(c)).collect();
        reply.array(kept.len());
        kept.iter().for_each(|c| reply.bulk(c.full_name.as_bytes()));
    };
    match args.len() {
        2 => names(&|_| true, reply),
        5 if is(2, "filterby") && is(3, "aclcat") => {
            let category = String::from_utf8_lossy(args.get(4)).to_ascii_lowercase();
            names(&|c| in_category(c.row, &category), reply);
        }
        5 if is(2, "filterby") && is(3, "pattern") => {
            names(&|c| glob::matches(args.get(4), c.full_name.as_bytes(), true), reply);
        }
        // There are no modules, so none has commands.
        5 if is(2, "filterby") && is(3, "module") => reply.array(0),
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

fn getkeys(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let args = args.slice(2);
    let (_, found) = find_keys(args)?;
    reply.array(found.len());
    found.iter().for_each(|(at, _)| reply.bulk(args.get(*at)));
    Ok(())
}

fn getkeysandflags(_: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    let args = args.slice(2);
    let (_, found) = find_keys(args)?;
    reply.array(found.len());
    for (at, flags) in found {
        reply.array(2);
        reply.bulk(args.get(at));
        let names: Vec<_> = flags.names().collect();
        reply.set(names.len());
        names.iter().for_each(|name| reply.simple(name));
    }
    Ok(())
}

/// Positions of keys, and what is done with each.
type FoundKeys = Vec<(usize, KeyFlags)>;

/// The command that these arguments are, and its keys.
fn find_keys(args: Args<'_>) -> Result<(&'static Command, FoundKeys), CommandError> {
    let command = table().lookup(args).ok_or(CommandError::Custom("ERR Invalid command specified"))?;
    if !has_keys(command) {
        return Err(CommandError::Custom("ERR The command has no key arguments"));
    }
    if !command.accepts(args.len()) {
        return Err(CommandError::Custom("ERR Invalid number of arguments specified for command"));
    }
    let mut found = Vec::new();
    match each_key_used(command, args, |at, flags| found.push((at, flags))) {
        Ok(()) if !found.is_empty() || keys_are_optional(command) => Ok((command, found)),
        Err(BadKeys) if keys_are_optional(command) => Ok((command, Vec::new())),
        _ => Err(CommandError::Custom("ERR Invalid arguments specified for command")),
    }
}

/// Writes an element of COMMAND's reply.
fn write_info(command: &Command, reply: &mut Reply) {
    let row = command.row;
    let range = KeyRange::of(row);
    reply.array(10);
    reply.bulk(command.full_name.as_bytes());
    reply.int(i64::from(row.arity));
    let flags = flag_names(row.flags, range.movable);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    for n in [range.first, range.last, range.step] {
        reply.int(i64::from(n));
    }
    let categories: Vec<_> = categories(row).collect();
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(&format!("@{category}")));
    reply.set(row.tips.len());
    row.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(row.keys.len());
    row.keys.iter().for_each(|spec| write_key_spec(spec, reply));
    // Redis answers a set if there are none and an array otherwise, and clients have learnt to take both.
    if command.children.is_empty() {
        reply.set(0)
    } else {
        reply.array(command.children.len())
    }
    command.children.iter().for_each(|id| write_info(table().get(*id), reply));
}

/// The names of a command's flags; `movablekeys` is computed and stands where Redis has it.
fn flag_names(flags: Flags, movable: bool) -> Vec<&'static str> {
    let mut names: Vec<_> = flags.names().filter(|name| *name != "allow_busy").collect();
    if movable {
        names.push("movablekeys");
    }
    if flags.has(Flags::ALLOW_BUSY) {
        names.push("allow_busy");
    }
    names
}

fn write_key_spec(spec: &KeySpec, reply: &mut Reply) {
    let bulk = |text: &str, reply: &mut Reply| reply.bulk(text.as_bytes());
    let pair = |name: &str, n: i32, reply: &mut Reply| {
        reply.bulk(name.as_bytes());
        reply.int(i64::from(n));
    };
    let typed = |name: &str, pairs: usize, reply: &mut Reply| {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(name.as_bytes());
        reply.bulk(b"spec");
        reply.map(pairs);
    };
    reply.map(3);
    bulk("flags", reply);
    let flags: Vec<_> = spec.flags.names().collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    bulk("begin_search", reply);
    match spec.begin {
        Begin::Index(at) => {
            typed("index", 1, reply);
            pair("index", i32::try_from(at).expect("positions are small"), reply);
        }
        Begin::Keyword(word, from) | Begin::OptionKeyword { told: (word, from), .. } => {
            typed("keyword", 2, reply);
            bulk("keyword", reply);
            bulk(word, reply);
            pair("startfrom", from, reply);
        }
        Begin::Option(..) | Begin::Unknown => typed("unknown", 0, reply),
    }
    bulk("find_keys", reply);
    match spec.find {
        _ if matches!(spec.begin, Begin::Option(..)) => typed("unknown", 0, reply),
        Find::Range { last, step, limit } => {
            typed("range", 3, reply);
            pair("lastkey", last, reply);
            pair("keystep", step, reply);
            pair("limit", limit, reply);
        }
        Find::Count { count_at, first, step } => {
            typed("keynum", 3, reply);
            pair("keynumidx", count_at, reply);
            pair("firstkey", first, reply);
            pair("keystep", step, reply);
        }
        Find::Unknown => typed("unknown", 0, reply),
    }
}

/// Writes a pair of COMMAND DOCS: the name and the map.
fn write_docs(command: &Command, reply: &mut Reply) {
    let row = command.row;
    let arguments = arguments_of(command);
    let deprecated = if row.deprecated.is_some() { 3 } else { 0 };
    let fields = 4 + deprecated + usize::from(!arguments.is_empty()) + usize::from(!command.children.is_empty());
    reply.bulk(command.full_name.as_bytes());
    reply.map(fields);
    for (name, value) in
        [("summary", row.summary), ("since", row.since), ("group", row.group.name()), ("complexity", row.complexity)]
    {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if let Some((since, instead)) = row.deprecated {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.simple("deprecated");
        reply.bulk(b"deprecated_since");
        reply.bulk(since.as_bytes());
        reply.bulk(b"replaced_by");
        reply.bulk(instead.as_bytes());
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        write_arguments(&arguments, reply);
    }
    if !command.children.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(command.children.len());
        command.children.iter().for_each(|id| write_docs(table().get(*id), reply));
    }
}

fn arguments_of(command: &Command) -> Vec<Argument> {
    let row = command.row;
    // A test reads every usage, so that this cannot fail when a client asks.
    parse_usage(&command.full_name, row.usage, row.keys.len()).expect("usages are checked by a test")
}

fn write_arguments(arguments: &[Argument], reply: &mut Reply) {
    reply.array(arguments.len());
    for argument in arguments {
        let flags: Vec<_> = argument.flags().collect();
        let fields = 2
            + usize::from(argument.key_spec.is_some())
            + usize::from(argument.token.is_some())
            + usize::from(!flags.is_empty())
            + usize::from(!argument.parts.is_empty());
        reply.map(fields);
        reply.bulk(b"name");
        reply.bulk(argument.name.as_bytes());
        reply.bulk(b"type");
        reply.bulk(argument.kind.name().as_bytes());
        if let Some(spec) = argument.key_spec {
            reply.bulk(b"key_spec_index");
            reply.int(spec as i64);
        }
        if let Some(token) = &argument.token {
            reply.bulk(b"token");
            reply.bulk(token.as_bytes());
        }
        if !flags.is_empty() {
            reply.bulk(b"flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
        if !argument.parts.is_empty() {
            reply.bulk(b"arguments");
            write_arguments(&argument.parts, reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;

    #[test]
    fn every_usage_in_the_table_is_in_the_notation() {
        for command in table().all() {
            if let Err(error) = parse_usage(&command.full_name, command.row.usage, command.row.keys.len()) {
                panic!("{}: {error}", command.full_name);
            }
        }
    }

    #[test]
    fn movablekeys_stands_in_front_of_allow_busy() {
        let flags = Flags::WRITE.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY);
        assert_eq!(flag_names(flags, true), ["write", "no_multi", "movablekeys", "allow_busy"]);
        assert_eq!(flag_names(flags, false), ["write", "no_multi", "allow_busy"]);
    }

    fn keys_error(words: &[&str]) -> String {
        let args = OwnedArgs::from_slices(words);
        find_keys(args.as_args()).map(|_| ()).expect_err("no keys can be found").to_string()
    }

    #[test]
    fn commands_without_keys_are_refused_in_redis_words() {
        assert_eq!(keys_error(&["nope", "x"]), "ERR Invalid command specified");
        assert_eq!(keys_error(&["ping", "x"]), "ERR The command has no key arguments");
        assert_eq!(keys_error(&["config", "get", "x"]), "ERR The command has no key arguments");
        assert_eq!(keys_error(&["config", "nope"]), "ERR Invalid command specified");
        assert_eq!(keys_error(&["memory", "usage"]), "ERR Invalid number of arguments specified for command");
    }

    #[test]
    fn keys_of_subcommands_are_found() {
        let args = OwnedArgs::from_slices(&["memory", "usage", "k"]);
        let (command, found) = find_keys(args.as_args()).unwrap();
        assert_eq!(command.full_name, "memory|usage");
        assert_eq!(found, [(2, KeyFlags::RO)]);
    }
}
