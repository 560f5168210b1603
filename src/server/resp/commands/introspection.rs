//! COMMAND: the table of commands, told to clients. And HELP of the commands that have subcommands.

use bytes::Bytes;

use super::action::{Action, CommandError, bulks};
use super::options::is;
use super::reference::{Begin, Find, KeyRow, Reference};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, all, find, find_within, help, reference, usage};
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
        Ok(Action::Reply(bulks(keys_of(&arguments[2..])?.into_iter().map(|(key, _)| key))))
    }),
    row("getkeysandflags", -4, "Extract keys and access flags given a full command", "7.0.0", |arguments, _| {
        let pair = |(key, flags)| Reply::Array(vec![Reply::Bulk(key), words(flags)]);
        Ok(Action::Reply(Reply::Array(keys_of(&arguments[2..])?.into_iter().map(pair).collect())))
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

/// The name of a command, or of a subcommand as `client|id`.
fn full_name(spec: &Spec, container: Option<&Spec>) -> String {
    super::full_name(container.unwrap_or(spec), spec)
}

/// Words as a set of short texts.
fn words(words: impl IntoIterator<Item = &'static str>) -> Reply {
    Reply::Set(words.into_iter().map(Reply::simple).collect())
}

/// The categories of a command of this name, each with its `@`.
fn categories(name: &str, spec: &Spec) -> Vec<String> {
    let told = reference::of(name).map(|reference| &reference.categories).filter(|told| !told.is_empty());
    told.map_or_else(|| spec.categories(), |told| told.clone()).into_iter().map(|category| format!("@{category}")).collect()
}

/// Whether a command of this name belongs to a category, named in any case.
pub(super) fn is_in(name: &str, spec: &Spec, category: &[u8]) -> bool {
    categories(name, spec).iter().any(|known| known.as_bytes()[1..].eq_ignore_ascii_case(category))
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
    let name = full_name(spec, container);
    let reference = reference::of(&name);
    let (first, last, step) = spec.keys;
    let hints = reference.map(|reference| &reference.hints[..]).unwrap_or_default();
    let keys = match reference {
        Some(reference) => reference.keys.iter().map(key_row).collect(),
        None => own_key_row(spec).as_ref().map(key_row).into_iter().collect(),
    };
    Reply::Array(vec![
        Reply::bulk(name.clone()),
        Reply::Integer(spec.arity),
        words(spec.flags.names()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(categories(&name, spec).into_iter().map(Reply::simple).collect()),
        Reply::Set(hints.iter().map(|hint| Reply::bulk(*hint)).collect()),
        Reply::Set(keys),
        Reply::Set(spec.subcommands().iter().map(|sub| details(sub, Some(spec))).collect()),
    ])
}

/// Where the keys of a command are that Redis does not have; `None` where there are none.
fn own_key_row(spec: &Spec) -> Option<KeyRow> {
    let (first, last, step) = spec.keys;
    // Counted from the first key, unless from the end.
    let last = if last < 0 { last } else { last - first };
    let flags = if spec.flags.has(Flags::WRITE) { vec!["RW", "update"] } else { vec!["RO", "access"] };
    (step > 0).then_some(KeyRow { flags, begin: Begin::Index(first), find: Find::Range(last, step, 0), notes: None })
}

/// Where keys are, in the words of Redis 7.
fn key_row(row: &KeyRow) -> Reply {
    let search = |kind: &'static str, pairs: Vec<(&'static str, Reply)>| {
        let pairs = pairs.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect();
        Reply::map([("type", Reply::bulk(kind)), ("spec", Reply::Map(pairs))])
    };
    let begin = match row.begin {
        Begin::Index(place) => search("index", vec![("index", Reply::Integer(place))]),
        Begin::Keyword(word, from) => search("keyword", vec![("keyword", Reply::bulk(word)), ("startfrom", Reply::Integer(from))]),
        Begin::Unknown => search("unknown", Vec::new()),
    };
    let find = match row.find {
        Find::Range(last, step, limit) => {
            let numbers = [("lastkey", last), ("keystep", step), ("limit", limit)];
            search("range", numbers.map(|(name, number)| (name, Reply::Integer(number))).into())
        }
        Find::Counted(place, first, step) => {
            let numbers = [("keynumidx", place), ("firstkey", first), ("keystep", step)];
            search("keynum", numbers.map(|(name, number)| (name, Reply::Integer(number))).into())
        }
        Find::Unknown => search("unknown", Vec::new()),
    };
    let mut pairs: Vec<(Reply, Reply)> = row.notes.iter().map(|notes| (Reply::bulk("notes"), Reply::bulk(*notes))).collect();
    pairs.push((Reply::bulk("flags"), words(row.flags.iter().copied())));
    pairs.push((Reply::bulk("begin_search"), begin));
    pairs.push((Reply::bulk("find_keys"), find));
    Reply::Map(pairs)
}

/// The keys of a command line, and what happens to each.
fn keys_of(line: &[Bytes]) -> Result<Vec<(Bytes, Vec<&'static str>)>, CommandError> {
    let command = line.first().and_then(|name| find(name)).ok_or_else(|| CommandError::other("ERR Invalid command specified"))?;
    let subcommand = line.get(1).and_then(|name| find_within(command.subcommands(), name));
    let spec = subcommand.unwrap_or(command);
    let own = Reference { keys: own_key_row(spec).into_iter().collect(), ..Reference::default() };
    let reference = reference::of(&super::full_name(command, spec)).unwrap_or(&own);
    if !reference.has_keys() {
        return Err(CommandError::other("ERR The command has no key arguments"));
    }
    if !spec.accepts(line.len()) {
        return Err(CommandError::other("ERR Invalid number of arguments specified for command"));
    }
    let keys = reference.keys_of(line).filter(|keys| !keys.is_empty());
    keys.ok_or_else(|| CommandError::other("ERR Invalid arguments specified for command"))
}

fn docs(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let pair = |(spec, container)| (Reply::bulk(full_name(spec, container)), document(spec, container));
    let pairs = match &arguments[2..] {
        [] => all().map(|spec| pair((spec, None))).collect(),
        names => names.iter().filter_map(|name| lookup(name)).map(pair).collect(),
    };
    Ok(Action::Reply(Reply::Map(pairs)))
}

fn document(spec: &'static Spec, container: Option<&'static Spec>) -> Reply {
    let mut pairs = vec![
        (Reply::bulk("summary"), Reply::bulk(spec.summary)),
        (Reply::bulk("since"), Reply::bulk(spec.since)),
        (Reply::bulk("group"), Reply::bulk(spec.group.name())),
    ];
    if let Some(Reference { cost, gone, arguments, .. }) = reference::of(&full_name(spec, container)) {
        pairs.extend(cost.map(|cost| (Reply::bulk("complexity"), Reply::bulk(cost))));
        if let Some((since, instead)) = gone {
            pairs.push((Reply::bulk("doc_flags"), words(["deprecated"])));
            pairs.push((Reply::bulk("deprecated_since"), Reply::bulk(*since)));
            pairs.push((Reply::bulk("replaced_by"), Reply::bulk(*instead)));
        }
        pairs.extend(arguments.map(|text| (Reply::bulk("arguments"), usage::arguments(text))));
    }
    if !spec.subcommands().is_empty() {
        let subcommands = spec.subcommands().iter().map(|sub| (Reply::bulk(full_name(sub, Some(spec))), document(sub, Some(spec))));
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
        [word, kind, category] if is(word, "filterby") && is(kind, "aclcat") => names(&|spec, name| is_in(name, spec, category)),
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
