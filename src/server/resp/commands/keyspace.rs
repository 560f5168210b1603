//! The keys of the whole cluster: walking, listing and removing them.

use bytes::Bytes;
use futures::stream;
use futures::{FutureExt, TryStreamExt};

use super::Call;
use super::action::{Action, CommandError};
use super::options::{integer, is};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::config::{MAX_GATHERED, MAX_RUNNING, MAX_SCANNED};
use crate::crdt::key;
use crate::glob;
use crate::node::{Node, OperationError};
use crate::server::resp::reply::Reply;
use crate::types::Level;

const fn row(
    name: &'static str,
    arity: i64,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&[Bytes], &mut Call<'_>) -> Parsed,
) -> Spec {
    Spec { name, arity, flags, group: Group::Generic, keys: (0, 0, 0), summary, since, run: Run::Local(run) }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("scan", -2, Flags::READONLY, "Iterate over the keys of the whole cluster", "2.8.0", scan),
    row("keys", 2, Flags::READONLY, "Find all keys of the whole cluster that match a pattern", "1.0.0", keys),
    row("randomkey", 1, Flags::READONLY, "Return a random key of the whole cluster", "1.0.0", random_key),
    Spec { group: Group::Server, ..row("flushall", -1, Flags::WRITE, "Remove every key that any peer can see", "1.0.0", flush) },
    Spec { group: Group::Server, ..row("flushdb", -1, Flags::WRITE, "Remove every key that any peer can see", "1.0.0", flush) },
];

/// What a SCAN looks for.
#[derive(Default)]
struct Wanted {
    pattern: Option<Bytes>,
    data_type: Option<Bytes>,
}

fn scan(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let cursor = std::str::from_utf8(&arguments[1]).ok().and_then(|text| text.parse().ok());
    let cursor: u64 = cursor.ok_or_else(|| CommandError::other("ERR invalid cursor"))?;
    let (mut wanted, mut count) = (Wanted::default(), 10);
    for option in arguments[2..].chunks(2) {
        match option {
            [name, pattern] if is(name, "match") => wanted.pattern = Some(pattern.clone()),
            [name, number] if is(name, "count") => {
                let number = integer(number)?;
                count = usize::try_from(number).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
            }
            [name, data_type] if is(name, "type") => wanted.data_type = Some(data_type.clone()),
            _ => return Err(CommandError::Syntax),
        }
    }
    let (node, level) = (call.shared.node.clone(), call.session.level);
    let scanning = async move {
        let scanned = match node.scan(level, cursor, count).await {
            Ok(scanned) => scanned,
            Err(error) => return error.into(),
        };
        let matches = |pattern: &Bytes, key: &Bytes| glob::matches(pattern, key);
        let keys = scanned.keys.into_iter().filter(|(key, data_type)| {
            wanted.pattern.as_ref().is_none_or(|pattern| matches(pattern, key))
                && wanted.data_type.as_ref().is_none_or(|name| is(name, data_type.name()))
        });
        let keys = keys.map(|(key, _)| Reply::Bulk(key)).collect();
        Reply::Array(vec![Reply::Bulk(scanned.next.unwrap_or(0).to_string().into()), Reply::Array(keys)])
    };
    Ok(Action::Alone(scanning.boxed()))
}

fn keys(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let (node, level, pattern) = (call.shared.node.clone(), call.session.level, arguments[1].clone());
    let listing = async move {
        let (mut keys, mut size, mut cursor) = (Vec::new(), 0, Some(0));
        while let Some(from) = cursor {
            let scanned = match node.scan(level, from, MAX_SCANNED).await {
                Ok(scanned) => scanned,
                Err(error) => return error.into(),
            };
            for (key, _) in scanned.keys.into_iter().filter(|(key, _)| glob::matches(&pattern, key)) {
                size += key.len() + 64;
                keys.push(Reply::Bulk(key));
            }
            if size > MAX_GATHERED {
                return Reply::Error("TOOBIG the keys exceed 256 MiB: use SCAN".to_owned());
            }
            cursor = scanned.next;
        }
        Reply::Array(keys)
    };
    Ok(Action::Alone(listing.boxed()))
}

fn random_key(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let (node, level) = (call.shared.node.clone(), call.session.level);
    let seeking = async move {
        let from = node.random_hash();
        for cursor in [from, 0] {
            match first_from(&node, level, cursor).await {
                Ok(Some(key)) => return Reply::Bulk(key),
                Ok(None) => {}
                Err(error) => return error.into(),
            }
        }
        Reply::Null
    };
    Ok(Action::Alone(seeking.boxed()))
}

/// The first key from a cursor on.
async fn first_from(node: &Node, level: Level, cursor: u64) -> Result<Option<Bytes>, OperationError> {
    let mut next = Some(cursor);
    while let Some(from) = next {
        let scanned = node.scan(level, from, 1).await?;
        if let Some((key, _)) = scanned.keys.into_iter().next() {
            return Ok(Some(key));
        }
        next = scanned.next;
    }
    Ok(None)
}

fn flush(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    match &arguments[1..] {
        [] => {}
        [mode] if is(mode, "async") || is(mode, "sync") => {}
        _ => return Err(CommandError::Syntax),
    }
    let (node, level) = (call.shared.node.clone(), call.session.level);
    Ok(Action::Alone(async move { flush_all(&node, level).await.map_or_else(Reply::from, |()| Reply::OK) }.boxed()))
}

/// Deletes every key that is there, each as DEL does: what was seen goes, everywhere, also at a peer that is away; what is written
/// meanwhile stays.
async fn flush_all(node: &Node, level: Level) -> Result<(), OperationError> {
    let mut next = Some(0);
    while let Some(from) = next {
        let scanned = node.scan(level, from, MAX_SCANNED).await?;
        next = scanned.next;
        let deletes = scanned.keys.into_iter().map(|(key, _)| Ok(node.write(level, key, key::Mutation::Delete)));
        stream::iter(deletes).try_for_each_concurrent(MAX_RUNNING, |delete| delete.map(|done| done.map(drop))).await?;
    }
    Ok(())
}
