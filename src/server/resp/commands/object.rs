//! OBJECT: how Redis would keep a value, which clients look at to guess its cost. Here every element is a row; so this tells only of the content.

use bytes::Bytes;

use super::action::{Action, Operation};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::Answer;
use crate::crdt::content::Content;
use crate::crdt::key::Query;
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;

/// The longest string that Redis keeps in one piece with its head, in bytes.
const EMBEDDED: usize = 44;
/// The most entries of a compact hash, or of a set of integers, and of a compact sorted set; the longest entry, in bytes.
const COMPACT: usize = 512;
/// See [`COMPACT`].
const COMPACT_SORTED: usize = 128;
/// See [`COMPACT`].
const COMPACT_ENTRY: usize = 64;
/// Integers below this are there once for all.
const SHARED: i64 = 10_000;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "object",
    arity: -2,
    flags: Flags::NONE,
    group: Group::Generic,
    keys: (0, 0, 0),
    summary: "A container for object introspection commands",
    since: "2.2.3",
    run: Run::Container(SUBCOMMANDS, None),
}];

const fn row(name: &'static str, summary: &'static str, since: &'static str, parse: fn(&[Bytes], i64) -> Parsed) -> Spec {
    Spec { keys: (2, 2, 1), ..Group::Generic.row(name, 3, Flags::READONLY, summary, since, parse) }
}

const SUBCOMMANDS: &[Spec] = &[
    row("encoding", "Inspect the internal encoding of a Redis object", "2.2.3", |arguments, _| {
        Ok(of_content(arguments, |content| Reply::bulk(encoding(content))))
    }),
    row("freq", "Get the logarithmic access frequency counter of a Redis object", "4.0.0", |arguments, _| {
        let text = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
        Ok(of_type(arguments, Reply::Error(text.to_owned())))
    }),
    row("idletime", "Get the time since a Redis object was last accessed; not tracked here", "2.2.3", |arguments, _| {
        Ok(of_type(arguments, Reply::Integer(0)))
    }),
    row("refcount", "Get the number of references to the value of the key", "2.2.3", |arguments, _| {
        Ok(of_content(arguments, |content| Reply::Integer(references(content))))
    }),
    Spec {
        keys: (0, 0, 0),
        ..Group::Generic.row(
            "help",
            2,
            Flags::LOADING.and(Flags::STALE),
            "Show helpful text about the different subcommands",
            "6.2.0",
            help,
        )
    },
];

/// Asks what a key holds, and tells something of it where there is one.
fn of_content(arguments: &[Bytes], tell: fn(&Content) -> Reply) -> Action {
    Operation::read(&arguments[2], Query::Content { with_token: false }).shaped(move |answer| match answer {
        Answer::Content { content: Some(content), .. } => tell(&content),
        _ => Reply::Null,
    })
}

/// Replies where there is a key.
fn of_type(arguments: &[Bytes], reply: Reply) -> Action {
    Operation::read(&arguments[2], Query::Type).shaped(move |answer| if answer == Answer::Type(None) { Reply::Null } else { reply })
}

/// The encoding that Redis 7.0 with its own settings has for new content of this size.
fn encoding(content: &Content) -> &'static str {
    let is_short = content.longest() <= COMPACT_ENTRY;
    match content {
        Content::String(values) => match values.first() {
            Some(value) if parse_integer(value).is_some() => "int",
            Some(value) if value.len() > EMBEDDED => "raw",
            _ => "embstr",
        },
        Content::Set(members) if members.len() <= COMPACT && members.iter().all(|member| parse_integer(member).is_some()) => "intset",
        Content::Hash(pairs) if pairs.len() <= COMPACT && is_short => "listpack",
        Content::Set(_) | Content::Hash(_) => "hashtable",
        Content::SortedSet(members) if members.len() <= COMPACT_SORTED && is_short => "listpack",
        Content::SortedSet(_) => "skiplist",
        Content::List(_) => "quicklist",
        Content::HyperLogLog(_) => "raw",
    }
}

fn references(content: &Content) -> i64 {
    let number = if let Content::String(values) = content { values.first().and_then(|value| parse_integer(value)) } else { None };
    if number.is_some_and(|number| (0..SHARED).contains(&number)) { i64::from(i32::MAX) } else { 1 }
}

fn help(_arguments: &[Bytes], _now_ms: i64) -> Parsed {
    const LINES: [&str; 14] = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
    ];
    let lines = LINES.into_iter().chain(["    Prints this help."]);
    Ok(Action::Reply(Reply::Array(lines.map(Reply::simple).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crdt::content::Field;
    use crate::crdt::sorted_set::Score;

    #[test]
    fn encodings_change_where_those_of_redis_do() {
        let string = |text: String| encoding(&Content::String(vec![text.into()]));
        assert_eq!((string("12".to_owned()), string("012".to_owned()), string(String::new())), ("int", "embstr", "embstr"));
        assert_eq!((string("x".repeat(44)), string("x".repeat(45))), ("embstr", "raw"));
        let numbers = |count: usize| (0..count).map(|number| Bytes::from(number.to_string()));
        assert_eq!(encoding(&Content::Set(numbers(512).collect())), "intset");
        assert_eq!(encoding(&Content::Set(numbers(513).collect())), "hashtable");
        assert_eq!(encoding(&Content::Set(vec!["x".into()])), "hashtable");
        let field = |name, value| Field { name, value, expires_at_ms: None };
        let pairs = |count| Content::Hash(numbers(count).map(|name| field(name, Bytes::new())).collect());
        assert_eq!((encoding(&pairs(512)), encoding(&pairs(513))), ("listpack", "hashtable"));
        assert_eq!(encoding(&Content::Hash(vec![field("f".into(), "v".repeat(65).into())])), "hashtable");
        let scored = |count| Content::SortedSet(numbers(count).map(|member| (member, Score::new(1.0))).collect());
        assert_eq!((encoding(&scored(128)), encoding(&scored(129))), ("listpack", "skiplist"));
        assert_eq!(encoding(&Content::List(vec!["x".into()])), "quicklist");
    }
}
