//! What a row tells of counter runs: how far each has come, how much of it counts, and what a removal has observed. [`super::counter`] says what they are for.

use std::collections::BTreeMap;

use super::dot::Dot;
use super::number::Number;
use super::row::{Entry, Payload, Row};
use crate::types::Actor;

/// What is live of one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The dot of its first increment, its name.
    pub name: Dot,
    /// Its latest live entry.
    pub latest: Dot,
    /// The total in that entry.
    pub total: Number,
    /// What the run adds to the counter; `None` where a SET or DEL had observed its latest entry.
    pub counts: Option<Number>,
}

/// How much of a run was observed by whoever removed it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Observed {
    /// The greatest counter of the run's actor that was observed in the run.
    pub upto: u64,
    /// The total at that dot.
    pub total: Number,
}

/// Every run that has a live entry, in order of name.
#[must_use]
pub fn runs(row: &Row) -> Vec<Run> {
    let mut latest: BTreeMap<Dot, (Dot, &Number)> = BTreeMap::new();
    let mut floors: BTreeMap<Dot, (u64, &Number)> = BTreeMap::new();
    for (dot, entry) in row {
        match &entry.payload {
            // Dots of one run have one actor, and a row is in order of dots: the last is the greatest.
            Payload::Run { run, total } => drop(latest.insert(*run, (*dot, total))),
            Payload::Floor { run, upto, total } => raise(&mut floors, *run, (*upto, total)),
            Payload::Value(_) | Payload::Score(_) | Payload::Present | Payload::Decision(_) => {}
        }
    }
    let counted = |name: &Dot, latest: Dot, total: &Number| match floors.get(name) {
        None => Some(total.clone()),
        Some((upto, observed)) => (latest.counter > *upto).then(|| total.minus(observed)),
    };
    let run =
        |(name, (latest, total)): (Dot, (Dot, &Number))| Run { name, latest, total: total.clone(), counts: counted(&name, latest, total) };
    latest.into_iter().map(run).collect()
}

fn raise<'r>(floors: &mut BTreeMap<Dot, (u64, &'r Number)>, run: Dot, observed: (u64, &'r Number)) {
    let floor = floors.entry(run).or_insert(observed);
    *floor = (*floor).max(observed);
}

/// What the removal of some dots of a row has observed of each run: to be left behind as floors.
#[must_use]
pub fn observed(row: &Row, is_removed: impl Fn(&Dot) -> bool) -> BTreeMap<Dot, Observed> {
    let mut floors = BTreeMap::new();
    for (dot, entry) in row.iter().filter(|(dot, _)| is_removed(dot)) {
        match &entry.payload {
            Payload::Run { run, total } => raise(&mut floors, *run, (dot.counter, total)),
            Payload::Floor { run, upto, total } => raise(&mut floors, *run, (*upto, total)),
            Payload::Value(_) | Payload::Score(_) | Payload::Present | Payload::Decision(_) => {}
        }
    }
    floors.into_iter().map(|(run, (upto, total))| (run, Observed { upto, total: total.clone() })).collect()
}

/// What the removal of a whole row leaves of its runs: new floors for those that have a live entry, and the dots of the floors of
/// all others, which may stay as they are.
pub(super) fn reset(row: &Row) -> (BTreeMap<Dot, Observed>, Vec<Dot>) {
    let is_live = |run: &Dot| row.values().any(|entry| matches!(&entry.payload, Payload::Run { run: name, .. } if name == run));
    let mut ended = observed(row, |_| true);
    ended.retain(|run, _| is_live(run));
    let stays = |entry: &Entry| matches!(&entry.payload, Payload::Floor { run, .. } if !ended.contains_key(run));
    let kept = row.iter().filter(|(_, entry)| stays(entry)).map(|(dot, _)| *dot).collect();
    (ended, kept)
}

/// The dots of live floors of runs that `is_removed` removes an entry of: a new floor takes their place.
pub(super) fn floors_of_removed<'a>(row: &'a Row, is_removed: impl Fn(&Dot) -> bool + 'a) -> impl Iterator<Item = Dot> + 'a {
    let removed_runs = observed(row, is_removed);
    row.iter().filter_map(move |(dot, entry)| match &entry.payload {
        Payload::Floor { run, .. } if removed_runs.contains_key(run) => Some(*dot),
        _ => None,
    })
}

/// The run that this actor may continue: its own, begun since the dot counter `since`, and not hidden.
#[must_use]
pub fn continued(row: &Row, actor: Actor, since: u64, is_hidden: impl Fn(&Entry) -> bool) -> Option<Run> {
    let is_own = |run: &Run| run.name.actor == actor && run.name.counter >= since;
    let shows = |run: &Run| row.get(&run.latest).is_some_and(|entry| !is_hidden(entry));
    runs(row).into_iter().filter(|run| is_own(run) && shows(run)).max_by_key(|run| run.latest)
}

/// The runs that a row holds floors of.
#[must_use]
pub fn floored_runs(row: &Row) -> Vec<Dot> {
    let run = |entry: &Entry| if let Payload::Floor { run, .. } = entry.payload { Some(run) } else { None };
    row.values().filter_map(run).collect()
}

/// Whether a row holds anything but decisions and the traces of counters that are gone: floors, and runs that they have observed in full.
#[must_use]
pub fn holds_data(row: &Row) -> bool {
    let is_trace = |entry: &Entry| matches!(entry.payload, Payload::Run { .. } | Payload::Floor { .. } | Payload::Decision(_));
    row.values().any(|entry| !is_trace(entry)) || runs(row).iter().any(|run| run.counts.is_some())
}
