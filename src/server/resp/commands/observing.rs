//! SLOWLOG and MEMORY: what the peer tells about its own work.

use bytes::Bytes;
use futures::FutureExt;

use super::action::{Action, CommandError, Operation};
use super::introspection::lines;
use super::options::{integer, is};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, help};
use crate::crdt::command::{Answer, Explained};
use crate::crdt::key::Query;
use crate::crdt::sorted_set::Score;
use crate::server::process::Usage;
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;
use crate::server::resp::slow_log::Entry;

const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE);
const HELP: Flags = Flags::LOADING.and(Flags::STALE);
/// What a row costs beside what it holds, about: its address, dot and timestamp.
const ROW_COST: usize = 64;

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, since: &'static str, run: Run) -> Spec {
    Spec { name, arity, flags, group: Group::Server, keys: (0, 0, 0), summary, since, run }
}

pub(super) const SLOWLOG: &[Spec] = &[
    row("get", -2, ADMIN, "Get the slow log's entries", "2.2.12", Run::Local(slow_commands)),
    row(
        "len",
        2,
        ADMIN,
        "Get the slow log's length",
        "2.2.12",
        Run::Local(|_, call| Ok(Action::Reply(Reply::count(call.shared.slow_log.len())))),
    ),
    row(
        "reset",
        2,
        ADMIN,
        "Clear all entries from the slow log",
        "2.2.12",
        Run::Local(|_, call| {
            call.shared.slow_log.reset();
            Ok(Action::Reply(Reply::OK))
        }),
    ),
    row(
        "help",
        2,
        HELP,
        "Show helpful text about the different subcommands",
        "6.2.0",
        Run::Pure(|_, _| Ok(Action::Reply(lines(help::SLOWLOG)))),
    ),
];

pub(super) const MEMORY: &[Spec] = &[
    Spec { keys: (2, 2, 1), ..row("usage", -3, Flags::READONLY, "Estimate the memory usage of a key", "4.0.0", Run::Pure(usage)) },
    row("stats", 2, Flags::NONE, "Show memory usage details", "4.0.0", Run::Local(statistics)),
    row(
        "doctor",
        2,
        Flags::NONE,
        "Outputs memory problems report",
        "4.0.0",
        Run::Pure(|_, _| {
            Ok(Action::Reply(Reply::Text("What this peer keeps in memory are caches and write buffers, bounded by --memory.\n".to_owned())))
        }),
    ),
    row("purge", 2, Flags::NONE, "Ask the allocator to release memory", "4.0.0", Run::Pure(|_, _| Ok(Action::Reply(Reply::OK)))),
    row(
        "malloc-stats",
        2,
        Flags::NONE,
        "Show allocator internal stats",
        "4.0.0",
        Run::Pure(|_, _| Ok(Action::Reply(Reply::bulk("Stats not supported for the current allocator")))),
    ),
    row(
        "help",
        2,
        HELP,
        "Show helpful text about the different subcommands",
        "4.0.0",
        Run::Pure(|_, _| Ok(Action::Reply(lines(help::MEMORY)))),
    ),
];

/// `SLOWLOG GET [count]`: the latest ten, or as many as are asked for; -1 is all.
fn slow_commands(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let count = match &arguments[2..] {
        [] => 10,
        [count] => match parse_integer(count) {
            Some(-1) => usize::MAX,
            Some(count @ 0..) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => return Err(CommandError::other("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(CommandError::subcommand_syntax(arguments, "SLOWLOG")),
    };
    let entry = |entry: Entry| {
        let Entry { id, at_s, took, arguments, address, name } = entry;
        let arguments = Reply::Array(arguments.into_iter().map(Reply::Bulk).collect());
        let took = Reply::count(took.as_micros());
        Reply::Array(vec![Reply::Integer(id), Reply::Integer(at_s), took, arguments, Reply::bulk(address), Reply::bulk(name)])
    };
    Ok(Action::Reply(Reply::Array(call.shared.slow_log.latest(count).into_iter().map(entry).collect())))
}

/// `MEMORY USAGE key [SAMPLES count]`: what the key's rows hold, all of them, about.
fn usage(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    for option in arguments[3..].chunks(2) {
        match option {
            [name, count] if is(name, "samples") => {
                integer(count)?;
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    let key_length = arguments[2].len();
    let row = move |row: &Explained| key_length + row.element.len() + row.content.len() + ROW_COST;
    Ok(Operation::read(&arguments[2], Query::Explain).shaped(move |answer| match answer {
        Answer::Explained(rows) if rows.iter().any(|row| row.shows) => Reply::count(rows.iter().map(row).sum::<usize>()),
        Answer::Explained(_) => Reply::Null,
        other => super::action::plain(other),
    }))
}

fn statistics(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let shared = call.shared.clone();
    let telling = async move {
        let (usage, keys) = (Usage::now(), shared.node.status().keys);
        let clients: usize = shared.clients.list().iter().map(|client| client.buffers.held().1).sum();
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let peak = usage.resident_bytes as f64 / usage.peak_bytes.max(1) as f64 * 100.0;
        Reply::map([
            ("peak.allocated", Reply::count(usage.peak_bytes)),
            ("total.allocated", Reply::count(usage.resident_bytes)),
            ("startup.allocated", Reply::Integer(0)),
            ("replication.backlog", Reply::Integer(0)),
            ("clients.slaves", Reply::Integer(0)),
            ("clients.normal", Reply::count(clients)),
            ("aof.buffer", Reply::Integer(0)),
            ("overhead.total", Reply::count(clients)),
            ("keys.count", Reply::count(keys)),
            ("keys.bytes-per-key", Reply::count(usage.resident_bytes / keys.max(1))),
            ("dataset.bytes", Reply::count(usage.resident_bytes)),
            ("peak.percentage", Reply::Double(Score::new(peak))),
        ])
    };
    Ok(Action::Alone(telling.boxed()))
}
