//! Rows that hold a base and what was added to it: strings, counters, the fields of hashes, the scores of sorted sets.
//!
//! The entries that set the row as a whole are *siblings*. The one of the greatest (timestamp, dot) is the base. Only a write that had seen another
//! sibling removes it: two concurrent SETs leave both, and the next SET replaces them. The counter runs that count are added to the
//! base (see [`super::counter`]).

use std::collections::{BTreeMap, BTreeSet};

use super::dot::Dot;
use super::expiry::{Ends, Expiry};
use super::number::Number;
use super::row::{Entry, Payload, Row};
use super::runs;
use super::runs::{Observed, Run};

/// What sets such a row as a whole.
pub trait Base: Sized {
    /// The base that an entry holds, if any.
    fn of(payload: &Payload) -> Option<Self>;
}

/// What is to be seen in a row at one time.
#[derive(Clone, Debug)]
pub struct Additive<B> {
    /// The siblings that show, the base first.
    pub(super) siblings: Vec<(Dot, Entry, B)>,
    /// The counter runs that count.
    runs: Vec<(Run, Entry)>,
    hides_data: bool,
}

impl<B> Default for Additive<B> {
    fn default() -> Self {
        Self { siblings: Vec::new(), runs: Vec::new(), hides_data: false }
    }
}

impl<B: Base> Additive<B> {
    /// Reads a row of a key whose decisions are these.
    #[must_use]
    pub fn of(row: &Row, expiry: &Expiry) -> Self {
        let ends = Ends::of(row, expiry);
        let mut view = Self::default();
        for (dot, entry) in row {
            if let Some(base) = B::of(&entry.payload) {
                if ends.hides(entry) {
                    view.hides_data = true;
                } else {
                    view.siblings.push((*dot, entry.clone(), base));
                }
            }
        }
        view.siblings.sort_by_key(|(dot, entry, _)| std::cmp::Reverse((entry.timestamp, *dot)));
        for run in runs::runs(row).into_iter().filter(|run| run.counts.is_some()) {
            match row.get(&run.latest) {
                Some(entry) if !ends.hides(entry) => view.runs.push((run, entry.clone())),
                _ => view.hides_data = true,
            }
        }
        view
    }
}

impl<B> Additive<B> {
    /// Whether anything shows.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.siblings.is_empty() || self.has_runs()
    }

    /// Whether anything was added.
    #[must_use]
    pub fn has_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// The base; `None` where there is none.
    #[must_use]
    pub fn base(&self) -> Option<&B> {
        self.siblings.first().map(|(_, _, base)| base)
    }

    /// A base and all that was added to it.
    #[must_use]
    pub fn sum(&self, base: Number) -> Number {
        self.runs.iter().filter_map(|(run, _)| run.counts.as_ref()).fold(base, |sum, counts| sum.plus(counts))
    }

    /// The entries that show.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.siblings.iter().map(|(_, entry, _)| entry).chain(self.runs.iter().map(|(_, entry)| entry))
    }

    /// Whether the row has data that does not show.
    #[must_use]
    pub fn hides_data(&self) -> bool {
        self.hides_data
    }

    /// The dot of the base.
    #[must_use]
    pub fn base_dot(&self) -> Option<Dot> {
        self.siblings.first().map(|(dot, _, _)| *dot)
    }

    /// The dots of the runs that count.
    pub(super) fn run_dots(&self) -> impl Iterator<Item = Dot> {
        self.runs.iter().map(|(run, _)| run.latest)
    }

    /// The dots of what is to be seen of a row, of which this is the view, and how much of each run is in it.
    pub(super) fn seen(&self, row: &Row) -> (BTreeSet<Dot>, BTreeMap<Dot, Observed>) {
        let mut dots: BTreeSet<Dot> = self.siblings.iter().map(|(dot, _, _)| *dot).chain(self.run_dots()).collect();
        let floors: Vec<Dot> = runs::floors_of_removed(row, |dot| dots.contains(dot)).collect();
        dots.extend(floors);
        let observed = runs::observed(row, |dot| dots.contains(dot));
        (dots, observed)
    }
}
