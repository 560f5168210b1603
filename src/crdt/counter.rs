//! Counters: the visible SET (or 0) plus every increment that no SET and no DEL had observed, each counted once.
//!
//! An actor's increments are one *run*: an entry with their sum, replaced under a new dot at each further one. Whoever resets a counter
//! removes the runs that it sees and leaves a *floor* for each: how far it had seen the run, and its total there. Increments that the
//! reset had not seen arrive as a later entry of the same run and count from the floor on.
//!
//! ```text
//! a: INCR 5            run a1: total 5 (dot a1)
//! a: INCR 2            run a1: total 7 (dot a2, a1 is gone)
//! b: DEL, saw dot a1   floor of a1: upto a1, total 5
//! merged               run a1 total 7 at a2 > a1, so 7 - 5 = 2 counts: the increment that b had not seen
//! ```
//!
//! A run is never continued across a crash, an emptying or a restore, and never from a floor: the entries that would say how far it had come
//! may be lost. Running totals that their owner re-bases, or folding old increments under new dots, lose or repeat increments.

use std::collections::BTreeMap;

use super::delta::{Entry, Payload, Row};
use super::dot::Dot;
use super::expiry::Decisions;
use crate::types::{Actor, Timestamp};

/// What a row says of one run.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The live entry of the greatest dot: its counter and total.
    latest: Option<(u64, i128)>,
    /// The floor that reaches furthest: its counter and total.
    floor: Option<(u64, i128)>,
}

impl Seen {
    /// What the run adds, if it counts.
    fn counts(&self) -> Option<i128> {
        match (self.latest, self.floor) {
            (None, _) => None,
            (Some((_, total)), None) => Some(total),
            (Some((dot, total)), Some((upto, floor))) => (dot > upto).then(|| total.wrapping_sub(floor)),
        }
    }
}

fn runs<'a>(entries: impl Iterator<Item = (&'a Dot, &'a Entry)>) -> BTreeMap<Dot, Seen> {
    let mut runs: BTreeMap<Dot, Seen> = BTreeMap::new();
    for (dot, entry) in entries {
        match entry.payload {
            Payload::Run { run, total } => {
                let seen = runs.entry(run).or_default();
                seen.latest = seen.latest.max(Some((dot.counter, total)));
            }
            Payload::Floor { run, upto, total } => {
                let seen = runs.entry(run).or_default();
                seen.floor = seen.floor.max(Some((upto, total)));
            }
            Payload::Value(_) | Payload::Present | Payload::Decision(_) => {}
        }
    }
    runs
}

/// The sum of the runs that count at a moment, `None` where none does. Floors hold whether they are hidden or not.
#[must_use]
pub fn sum(row: &Row, decisions: &Decisions, now: Timestamp) -> Option<i128> {
    let shows = |(_, entry): &(&Dot, &Entry)| matches!(entry.payload, Payload::Floor { .. }) || !decisions.hides(entry, now);
    let counting = runs(row.iter().filter(shows)).into_values().filter_map(|seen| seen.counts());
    counting.reduce(i128::wrapping_add)
}

/// The floors that a write leaves which removes these entries: one for each run, as far as it was seen.
#[must_use]
pub fn floors<'a>(removed: impl Iterator<Item = (&'a Dot, &'a Entry)>) -> Vec<Payload> {
    let floor = |(run, seen): (Dot, Seen)| seen.latest.max(seen.floor).map(|(upto, total)| Payload::Floor { run, upto, total });
    runs(removed).into_iter().filter_map(floor).collect()
}

/// An increment as an entry: the next of the actor's own run, whose entries it replaces, or the first of a new one.
#[must_use]
pub fn increment(
    row: &Row,
    decisions: &Decisions,
    now: Timestamp,
    actor: Actor,
    runs_since: u64,
    dot: Dot,
    by: i64,
) -> (Payload, Vec<Dot>) {
    let own = row.iter().filter_map(|(at, entry)| match entry.payload {
        Payload::Run { run, total } if at.actor == actor && run.actor == actor && run.counter >= runs_since => {
            Some((*at, run, total, entry))
        }
        _ => None,
    });
    let Some((_, run, total, _)) = own.clone().filter(|(_, _, _, entry)| !decisions.hides(entry, now)).max_by_key(|(at, ..)| *at) else {
        return (Payload::Run { run: dot, total: i128::from(by) }, Vec::new());
    };
    let replaced = own.filter(|(_, other, _, _)| *other == run).map(|(at, ..)| at).collect();
    (Payload::Run { run, total: total.wrapping_add(i128::from(by)) }, replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Actor = Actor(1);
    const NOW: Timestamp = Timestamp(1 << 20);

    fn dot(counter: u64) -> Dot {
        Dot { actor: A, counter }
    }

    fn entry(payload: Payload) -> Entry {
        Entry { timestamp: Timestamp(1), decision: None, payload }
    }

    fn run(first: u64, total: i128) -> Entry {
        entry(Payload::Run { run: dot(first), total })
    }

    fn floor(first: u64, upto: u64, total: i128) -> Entry {
        entry(Payload::Floor { run: dot(first), upto, total })
    }

    fn sum_of<const N: usize>(entries: [(u64, Entry); N]) -> Option<i128> {
        let row: Row = entries.into_iter().map(|(counter, entry)| (Dot { actor: A, counter }, entry)).collect();
        sum(&row, &Decisions::default(), NOW)
    }

    #[test]
    fn a_floor_takes_away_what_was_seen_and_nothing_else() {
        assert_eq!(sum_of([(2, run(1, 7))]), Some(7));
        assert_eq!(sum_of([(2, run(1, 7)), (9, floor(1, 1, 5))]), Some(2));
        assert_eq!(sum_of([(2, run(1, 7)), (9, floor(1, 2, 7))]), None);
        assert_eq!(sum_of([(2, run(1, 7)), (9, floor(1, 3, 8))]), None);
        assert_eq!(sum_of([(9, floor(1, 3, 8))]), None);
        assert_eq!(sum_of([(2, run(1, 7)), (9, floor(1, 1, 5)), (8, floor(1, 2, 7))]), None);
        assert_eq!(sum_of([(2, run(1, 7)), (4, run(4, -3))]), Some(4));
    }

    #[test]
    fn a_run_goes_on_only_where_it_was_begun_in_this_state() {
        let row: Row = [(dot(5), run(3, 7))].into_iter().collect();
        let next = |since| increment(&row, &Decisions::default(), NOW, A, since, dot(6), 2);
        assert_eq!(next(3), (Payload::Run { run: dot(3), total: 9 }, vec![dot(5)]));
        assert_eq!(next(4), (Payload::Run { run: dot(6), total: 2 }, vec![]));
        let floors: Row = [(dot(5), floor(3, 5, 7))].into_iter().collect();
        assert_eq!(increment(&floors, &Decisions::default(), NOW, A, 1, dot(6), 2).0, Payload::Run { run: dot(6), total: 2 });
    }

    #[test]
    fn a_reset_leaves_one_floor_for_each_run() {
        let row: Row = [(dot(5), run(3, 7)), (dot(8), floor(3, 4, 6)), (dot(9), floor(1, 2, 1))].into_iter().collect();
        let expected = vec![Payload::Floor { run: dot(1), upto: 2, total: 1 }, Payload::Floor { run: dot(3), upto: 5, total: 7 }];
        assert_eq!(floors(row.iter()), expected);
    }
}
