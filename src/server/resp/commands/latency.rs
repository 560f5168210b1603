//! LATENCY: how long commands take. Single events are not recorded; the distribution of each command is.

use bytes::Bytes;

use super::action::{Action, CommandError};
use super::introspection::lines;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, full_names, help, row_of, rows_of};
use crate::server::resp::reply::Reply;

const FLAGS: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

const fn row(
    name: &'static str,
    arity: i64,
    summary: &'static str,
    since: &'static str,
    run: fn(&[Bytes], &mut Call<'_>) -> Parsed,
) -> Spec {
    Spec { name, arity, flags: FLAGS, group: Group::Server, keys: (0, 0, 0), summary, since, run: Run::Local(run) }
}

pub(super) const SUBCOMMANDS: &[Spec] = &[
    row("latest", 2, "Return the latest latency samples for all events.", "2.8.13", |_, _| Ok(Action::Reply(Reply::Array(Vec::new())))),
    row("history", 3, "Return timestamp-latency samples for the event.", "2.8.13", |_, _| Ok(Action::Reply(Reply::Array(Vec::new())))),
    row("reset", -2, "Reset latency data for one or more events.", "2.8.13", |_, _| Ok(Action::Reply(Reply::Integer(0)))),
    row("doctor", 2, "Return a human readable latency analysis report.", "2.8.13", |_, _| {
        Ok(Action::Reply(Reply::Text(DOCTOR.to_owned())))
    }),
    row("graph", 3, "Return a latency graph for the event.", "2.8.13", graph),
    row("histogram", -2, "Return the cumulative distribution of latencies of a subset of commands or all.", "7.0.0", histogram),
    Spec {
        flags: Flags::LOADING.and(Flags::STALE),
        ..row("help", 2, "Show helpful text about the different subcommands", "2.8.13", |_, _| Ok(Action::Reply(lines(help::LATENCY))))
    },
];

const DOCTOR: &str = "Single slow events are not recorded. LATENCY HISTOGRAM tells how long each command takes, SLOWLOG GET which ones took longest, \
                      and GET /metrics has more.\n";

fn graph(arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    Err(CommandError::Other(format!("ERR No samples available for event '{}'", String::from_utf8_lossy(&arguments[2]))))
}

/// `LATENCY HISTOGRAM [command…]`: of a container all subcommands that were called.
fn histogram(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let rows: Vec<usize> = match &arguments[2..] {
        [] => (0..full_names().count()).collect(),
        names => names.iter().filter_map(|name| row_of(name)).flat_map(rows_of).collect(),
    };
    let names: Vec<String> = full_names().collect();
    let shown = rows.into_iter().filter_map(|row| {
        let figures = call.shared.tallies.figures(row).filter(|figures| figures.calls > 0)?;
        let powers = figures.by_powers().into_iter().map(|(within, calls)| (Reply::count(within), Reply::count(calls)));
        let histogram = Reply::map([("calls", Reply::count(figures.calls)), ("histogram_usec", Reply::Map(powers.collect()))]);
        Some((Reply::bulk(names.get(row)?.clone()), histogram))
    });
    Ok(Action::Reply(Reply::Map(shown.collect())))
}
