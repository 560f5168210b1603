//! COMMAND: the table of commands, told to clients. And HELP of the commands that have subcommands.

use bytes::Bytes;

use super::action::{Action, CommandError, bulks};
use super::options::is;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, all, find, find_within, help};
use crate::glob;
use crate::server::resp::reply::Reply;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);

const fn row(name: &'static str, arity: i64, summary: &'static str, since: &'static str, parse: fn(&[Bytes], i64) -> Parsed) -> Spec {
    Spec { name, arity, flags: FLAGS, group: Group::Server, keys: (0, 0, 0), summary, since, run: Run::Pure(parse) }
}

pub(super) const SUBCOMMANDS: &[Spec] = &[
    row("count", 2, "Get total number of commands", "2.8.13", |_, _| Ok(Action::Reply(Reply::count(all().count())))),
    row("docs", -2, "Get array of specific command documentation", "7.0.0", docs),
    row("getkeys", -4, "Extract keys given a full command", "2.8.13", |arguments, _| {
        let keys = keys_of(&arguments[2..])?.1;
        Ok(Action::Reply(bulks(keys)))
    }),
    row("getkeysandflags", -4, "Extract keys and access flags given a full command", "7.0.0", |arguments, _| {
        let (spec, keys) = keys_of(&arguments[2..])?;
        let pair = |key| Reply::Array(vec![Reply::Bulk(key), access(spec)]);
        Ok(Action::Reply(Reply::Array(keys.into_iter().map(pair).collect())))
    }),
    row("info", -2, "Get array of specific command details, or all when no argument is given.", "2.8.13", info),
    row("list", -2, "Get an array of command names", "7.0.0", list),
    row("help", 2, "Show helpful text about the different subcommands", "5.0.0", |_, _| Ok(Action::Reply(lines(help::COMMAND)))),
];

/// COMMAND without a subcommand.
pub(super) fn command(_arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    Ok(Action::Reply(Reply::Array(all().map(|spec| details(spec, None)).collect())))
}

/// The command of a name such as `get` or `client|id`, with the command it belongs to.
fn lookup(name: &[u8]) -> Option<(&'static Spec, Option<&'static Spec>)> {
    match name.iter().position(|byte| *byte == b'|') {
        None => find(name).map(|spec| (spec, None)),
        Some(bar) => {
            let container = find(&name[..bar])?;
            find_within(container.subcommands(), &name[bar + 1..]).map(|spec| (spec, Some(container)))
        }
    }
}

fn full_name(spec: &Spec, container: Option<&Spec>) -> Reply {
    match container {
        None => Reply::bulk(spec.name),
        Some(container) => Reply::text(format_args!("{}|{}", container.name, spec.name)),
    }
}

fn info(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let rows = match &arguments[2..] {
        [] => all().map(|spec| details(spec, None)).collect(),
        names => names.iter().map(|name| lookup(name).map_or(Reply::Null, |(spec, container)| details(spec, container))).collect(),
    };
    Ok(Action::Reply(Reply::Array(rows)))
}

/// A row of COMMAND INFO.
fn details(spec: &'static Spec, container: Option<&'static Spec>) -> Reply {
    let words = |words: Vec<&'static str>| Reply::Set(words.into_iter().map(Reply::simple).collect());
    let (first, last, step) = spec.keys;
    Reply::Array(vec![
        full_name(spec, container),
        Reply::Integer(spec.arity),
        words(spec.flags.names().collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        words(spec.categories()),
        Reply::Set(Vec::new()),
        Reply::Set(key_specification(spec).into_iter().collect()),
        Reply::Set(spec.subcommands().iter().map(|sub| details(sub, Some(spec))).collect()),
    ])
}

/// Where the keys are, in the words of Redis 7; `None` where there are none.
fn key_specification(spec: &Spec) -> Option<Reply> {
    let (first, last, step) = spec.keys;
    if step == 0 {
        return None;
    }
    let search = |kind: &'static str, spec: Reply| Reply::map([("type", Reply::bulk(kind)), ("spec", spec)]);
    // Counted from the first key, unless from the end.
    let last = if last < 0 { last } else { last - first };
    let range = [("lastkey", Reply::Integer(last)), ("keystep", Reply::Integer(step)), ("limit", Reply::Integer(0))];
    Some(Reply::map([
        ("flags", access(spec)),
        ("begin_search", search("index", Reply::map([("index", Reply::Integer(first))]))),
        ("find_keys", search("range", Reply::map(range))),
    ]))
}

/// What a command does to its keys.
fn access(spec: &Spec) -> Reply {
    let flags = if spec.flags.has(Flags::WRITE) { ["RW", "update"] } else { ["RO", "access"] };
    Reply::Set(flags.into_iter().map(Reply::simple).collect())
}

/// The keys of a command line, and its row.
fn keys_of(line: &[Bytes]) -> Result<(&'static Spec, Vec<Bytes>), CommandError> {
    let command = line.first().and_then(|name| find(name)).ok_or_else(|| CommandError::other("ERR Invalid command specified"))?;
    let subcommand = line.get(1).and_then(|name| find_within(command.subcommands(), name));
    let spec = subcommand.unwrap_or(command);
    let (first, last, step) = spec.keys;
    if step == 0 {
        return Err(CommandError::other("ERR The command has no key arguments"));
    }
    if !spec.accepts(line.len()) {
        return Err(CommandError::other("ERR Invalid number of arguments specified for command"));
    }
    let place = |place: i64| usize::try_from(place).unwrap_or(0);
    let last = if last < 0 { line.len().saturating_sub(place(-last)) } else { place(last) };
    let keys = (place(first)..=last).step_by(place(step)).filter_map(|place| line.get(place).cloned());
    Ok((spec, keys.collect()))
}

fn docs(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let pair = |(spec, container)| (full_name(spec, container), document(spec));
    let pairs = match &arguments[2..] {
        [] => all().map(|spec| pair((spec, None))).collect(),
        names => names.iter().filter_map(|name| lookup(name)).map(pair).collect(),
    };
    Ok(Action::Reply(Reply::Map(pairs)))
}

fn document(spec: &'static Spec) -> Reply {
    let mut pairs = vec![
        (Reply::bulk("summary"), Reply::bulk(spec.summary)),
        (Reply::bulk("since"), Reply::bulk(spec.since)),
        (Reply::bulk("group"), Reply::bulk(spec.group.name())),
    ];
    if !spec.subcommands().is_empty() {
        let subcommands = spec.subcommands().iter().map(|sub| (full_name(sub, Some(spec)), document(sub)));
        pairs.push((Reply::bulk("subcommands"), Reply::Map(subcommands.collect())));
    }
    Reply::Map(pairs)
}

/// `COMMAND LIST [FILTERBY (MODULE name | ACLCAT category | PATTERN pattern)]`: subcommands too.
fn list(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let names = |wanted: &dyn Fn(&Spec, &str) -> bool| {
        let rows = all().flat_map(|command| std::iter::once(command).chain(command.subcommands()).map(move |spec| (command, spec)));
        let named = rows.map(|(command, spec)| (spec, super::full_name(command, spec)));
        Ok(Action::Reply(Reply::Array(named.filter(|(spec, name)| wanted(spec, name)).map(|(_, name)| Reply::bulk(name)).collect())))
    };
    match &arguments[2..] {
        [] => names(&|_, _| true),
        [word, kind, pattern] if is(word, "filterby") && is(kind, "pattern") => {
            names(&|_, name| glob::matches_in_any_case(pattern, name.as_bytes()))
        }
        [word, kind, category] if is(word, "filterby") && is(kind, "aclcat") => names(&|spec, _| spec.is_in(category)),
        [word, kind, _module] if is(word, "filterby") && is(kind, "module") => names(&|_, _| false),
        _ => Err(CommandError::Syntax),
    }
}

/// Lines as an array.
pub(super) fn lines(text: &'static str) -> Reply {
    Reply::Array(text.lines().map(Reply::simple).collect())
}

/// What HELP of a command of our own replies.
pub(super) fn offered(command: &'static str, subcommands: &'static [Spec]) -> Reply {
    let mut lines = vec![Reply::simple(format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"))];
    for spec in subcommands {
        lines.push(Reply::simple(spec.name.to_uppercase()));
        lines.push(Reply::simple(format!("    {}", spec.summary)));
    }
    Reply::Array(lines)
}
