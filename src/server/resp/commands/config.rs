//! CONFIG: the settings that clients and dashboards ask for. A peer is configured at its start; what can be changed
//! while it runs is the limit of clients and their idle time, which events are announced, and what goes into the slow log.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::action::{Action, CommandError};
use super::introspection::lines;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, help};
use crate::config::{HIGH_MAILBOX, MAILBOX_PATIENCE, MAX_MAILBOX, MAX_VALUE};
use crate::glob;
use crate::notifications::Classes;
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;
use crate::server::resp::shared::Shared;

const FLAGS: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

const fn row(name: &'static str, arity: i64, summary: &'static str, run: fn(&[Bytes], &mut Call<'_>) -> Parsed) -> Spec {
    Spec { name, arity, flags: FLAGS, group: Group::Server, keys: (0, 0, 0), summary, since: "2.0.0", run: Run::Local(run) }
}

pub(super) const SUBCOMMANDS: &[Spec] = &[
    row("get", -3, "Get the values of configuration parameters", get),
    row("set", -4, "Set configuration parameters to the given values", set),
    row("resetstat", 2, "Reset the stats returned by INFO", reset_statistics),
    Spec {
        since: "2.8.0",
        ..row("rewrite", 2, "Refused: a peer does not write its configuration", |_, _| {
            Err(CommandError::other("ERR The server is running without a config file"))
        })
    },
    Spec {
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        ..row("help", 2, "Show helpful text about the different subcommands", |_, _| Ok(Action::Reply(lines(help::CONFIG))))
    },
];

/// The settings in the order of their names, as text.
fn settings(shared: &Shared) -> Vec<(&'static str, String)> {
    let text = str::to_owned;
    vec![
        ("activedefrag", text("no")),
        ("appendfsync", text("everysec")),
        // Every write goes to a log before it is acknowledged.
        ("appendonly", text("yes")),
        ("bind", shared.address.ip().to_string()),
        (
            "client-output-buffer-limit",
            format!("normal 0 0 0 slave 268435456 67108864 60 pubsub {MAX_MAILBOX} {HIGH_MAILBOX} {}", MAILBOX_PATIENCE.as_secs()),
        ),
        ("cluster-enabled", text("no")),
        ("databases", text("1")),
        ("latency-monitor-threshold", text("0")),
        ("lfu-decay-time", text("1")),
        ("lfu-log-factor", text("10")),
        ("maxclients", shared.max_clients().to_string()),
        ("maxmemory", text("0")),
        ("maxmemory-policy", text("noeviction")),
        ("notify-keyspace-events", shared.node.pubsub().classes().to_string()),
        ("port", shared.address.port().to_string()),
        ("proto-max-bulk-len", MAX_VALUE.to_string()),
        ("save", String::new()),
        ("slowlog-log-slower-than", shared.slow_log.threshold_us.load(Ordering::Relaxed).to_string()),
        ("slowlog-max-len", shared.slow_log.length.load(Ordering::Relaxed).to_string()),
        ("tcp-backlog", text("511")),
        ("tcp-keepalive", text("300")),
        ("timeout", shared.idle_timeout_s().to_string()),
    ]
}

fn get(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let wanted = |name: &str| arguments[2..].iter().any(|pattern| glob::matches_in_any_case(pattern, name.as_bytes()));
    let pairs = settings(call.shared).into_iter().filter(|(name, _)| wanted(name));
    Ok(Action::Reply(Reply::Map(pairs.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect())))
}

/// A setting that can be changed while the peer runs.
enum Change {
    MaxClients(usize),
    IdleTimeout(u64),
    Events(Classes),
    SlowerThan(i64),
    SlowLogLength(usize),
    /// It has this value already.
    None,
}

/// `CONFIG SET name value …`: all of it or nothing.
fn set(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let pairs = arguments[2..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(CommandError::WrongArity("config|set".to_owned()));
    }
    let settings = settings(call.shared);
    let mut named: Vec<String> = Vec::new();
    for pair in pairs.clone() {
        let name = String::from_utf8_lossy(&pair[0]).to_lowercase();
        if named.contains(&name) && settings.iter().any(|(known, _)| *known == name) {
            return Err(failed(&name, "duplicate parameter"));
        }
        named.push(name);
    }
    let changes: Vec<Change> = pairs.map(|pair| change(&pair[0], &pair[1], &settings)).collect::<Result<_, _>>()?;
    for change in changes {
        match change {
            Change::MaxClients(limit) => call.shared.max_clients.store(limit, Ordering::Relaxed),
            Change::IdleTimeout(seconds) => call.shared.idle_timeout_s.store(seconds, Ordering::Relaxed),
            Change::Events(classes) => call.shared.node.pubsub().set_classes(classes),
            Change::SlowerThan(threshold_us) => call.shared.slow_log.threshold_us.store(threshold_us, Ordering::Relaxed),
            Change::SlowLogLength(length) => call.shared.slow_log.length.store(length, Ordering::Relaxed),
            Change::None => {}
        }
    }
    Ok(Action::Reply(Reply::OK))
}

fn failed(name: &str, why: &str) -> CommandError {
    CommandError::Other(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

fn change(name: &[u8], value: &[u8], settings: &[(&'static str, String)]) -> Result<Change, CommandError> {
    let Some((name, current)) = settings.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)) else {
        let name = String::from_utf8_lossy(name);
        return Err(CommandError::Other(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")));
    };
    let failed = |why| failed(name, why);
    let number = || parse_integer(value).ok_or_else(|| failed("argument couldn't be parsed into an integer"));
    match *name {
        "maxclients" => match usize::try_from(number()?) {
            Ok(limit) if limit > 0 => Ok(Change::MaxClients(limit)),
            _ => Err(failed("argument must be between 1 and 4294967295 inclusive")),
        },
        "timeout" => {
            u64::try_from(number()?).map(Change::IdleTimeout).map_err(|_| failed("argument must be between 0 and 2147483647 inclusive"))
        }
        "slowlog-log-slower-than" => match number()? {
            threshold_us @ -1.. => Ok(Change::SlowerThan(threshold_us)),
            _ => Err(failed("argument must be between -1 and 9223372036854775807 inclusive")),
        },
        "slowlog-max-len" => {
            let length = usize::try_from(number()?).map(Change::SlowLogLength);
            length.map_err(|_| failed("argument must be between 0 and 9223372036854775807 inclusive"))
        }
        "notify-keyspace-events" => {
            let classes = Classes::parse(value).map(Change::Events);
            classes.ok_or_else(|| failed("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."))
        }
        _ if current.as_bytes().eq_ignore_ascii_case(value) => Ok(Change::None),
        _ => Err(failed("can't set immutable config")),
    }
}

fn reset_statistics(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.shared.statistics.reset();
    call.shared.tallies.reset();
    Ok(Action::Reply(Reply::OK))
}
