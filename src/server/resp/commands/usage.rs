//! The arguments of commands as COMMAND DOCS tells them, from the text that stands for them in `reference.txt`.
//!
//! ```text
//! numkeys:integer key:key@0* where:oneof(left=LEFT right=RIGHT) count:integer=COUNT?
//! ```

use crate::server::resp::reply::Reply;

/// What may stand behind the name and type of an argument.
const MARKS: [char; 7] = ['@', '=', '>', '<', '?', '*', '+'];

/// The arguments that a text stands for.
pub(super) fn arguments(text: &'static str) -> Reply {
    Reply::Array(list(&mut { text }))
}

/// Arguments up to the end, or to a parenthesis that closes.
fn list(rest: &mut &'static str) -> Vec<Reply> {
    let mut arguments = Vec::new();
    loop {
        *rest = rest.trim_start_matches(' ');
        let (head, behind) = rest.split_at(rest.find([' ', '(', ')']).unwrap_or(rest.len()));
        if head.is_empty() {
            return arguments;
        }
        *rest = behind;
        let parts = rest.strip_prefix('(').map(|inside| {
            *rest = inside;
            let parts = list(rest);
            *rest = rest.strip_prefix(')').unwrap_or(rest);
            parts
        });
        arguments.push(argument(head, parts));
    }
}

/// An argument: its head, and what it consists of.
fn argument(head: &'static str, parts: Option<Vec<Reply>>) -> Reply {
    let (named, mut marks) = head.split_at(head.find(MARKS).unwrap_or(head.len()));
    let (name, sort) = named.rsplit_once(':').unwrap_or((named, "pure-token"));
    let (mut pairs, mut flags) = (vec![(Reply::bulk("name"), Reply::bulk(name)), (Reply::bulk("type"), Reply::bulk(sort))], Vec::new());
    while let Some(mark) = marks.chars().next() {
        let behind = &marks[1..];
        let (value, rest) = behind.split_at(behind.find(MARKS).unwrap_or(behind.len()));
        marks = rest;
        let told = match mark {
            '@' => ("key_spec_index", value.parse().map_or(Reply::Null, Reply::Integer)),
            '=' => ("token", Reply::bulk(value)),
            '>' => ("since", Reply::bulk(value)),
            '<' => ("deprecated_since", Reply::bulk(value)),
            flag => {
                flags.push(Reply::simple(match flag {
                    '?' => "optional",
                    '*' => "multiple",
                    _ => "multiple_token",
                }));
                continue;
            }
        };
        pairs.push((Reply::bulk(told.0), told.1));
    }
    if !flags.is_empty() {
        pairs.push((Reply::bulk("flags"), Reply::Set(flags)));
    }
    pairs.extend(parts.map(|parts| (Reply::bulk("arguments"), Reply::Array(parts))));
    Reply::Map(pairs)
}
