//! The row of one value: a string or counter, or the field of a hash.
//!
//! Its Value entries are *siblings*. The one of the greatest (timestamp, dot) shows. Only a write that had seen another sibling removes it: two
//! concurrent SETs leave both, and the next SET replaces them. Where the shown value is an integer, or there is none, the counter runs
//! that count are added to it (see [`super::counter`]); to any other text nothing can be added, and it shows alone.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::command::Refusal;
use super::counter::{self, Run};
use super::delta::{Decision, Entry, Payload, Row, RowAddress};
use super::dot::Dot;
use super::draft::Draft;
use super::expiry::Expiry;
use super::token::Token;
use crate::config::MAX_VALUE;

/// What is to be seen in a value row at one time.
#[derive(Clone, Debug, Default)]
pub struct ValueView {
    /// The siblings that show, the one that stands for the value first.
    siblings: Vec<(Dot, Entry, Bytes)>,
    /// The counter runs that count.
    runs: Vec<(Run, Entry)>,
    hides_data: bool,
}

impl ValueView {
    /// Reads a value row.
    #[must_use]
    pub fn of(row: &Row, expiry: &Expiry) -> Self {
        let mut view = Self::default();
        for (dot, entry) in row {
            if let Payload::Value(bytes) = &entry.payload {
                if expiry.hides(entry) {
                    view.hides_data = true;
                } else {
                    view.siblings.push((*dot, entry.clone(), bytes.clone()));
                }
            }
        }
        view.siblings.sort_by_key(|(dot, entry, _)| std::cmp::Reverse((entry.timestamp, *dot)));
        for run in counter::runs(row).into_iter().filter(|run| run.counts.is_some()) {
            match row.get(&run.latest) {
                Some(entry) if !expiry.hides(entry) => view.runs.push((run, entry.clone())),
                _ => view.hides_data = true,
            }
        }
        view
    }

    /// Whether there is a value.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.siblings.is_empty() || !self.runs.is_empty()
    }

    /// The value; `None` where there is none.
    #[must_use]
    pub fn shown(&self) -> Option<Bytes> {
        let base = self.siblings.first().map(|(_, _, bytes)| bytes);
        match (base, self.number()) {
            (None, _) if self.runs.is_empty() => None,
            (Some(base), None) => Some(base.clone()),
            (Some(base), Some(_)) if self.runs.is_empty() => Some(base.clone()),
            (_, number) => number.map(|number| number.to_string().into()),
        }
    }

    /// The counter's value, 0 where there is no value; `None` where it is no integer.
    #[must_use]
    pub fn number(&self) -> Option<i128> {
        let base = match self.siblings.first() {
            Some((_, _, bytes)) => i128::from(counter::parse(bytes)?),
            None => 0,
        };
        Some(self.runs.iter().filter_map(|(run, _)| run.counts).fold(base, i128::wrapping_add))
    }

    /// Every value that concurrent writes left, the one that shows first.
    #[must_use]
    pub fn values(&self) -> Vec<Bytes> {
        self.shown().into_iter().chain(self.siblings.iter().skip(1).map(|(_, _, bytes)| bytes.clone())).collect()
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

    /// The dot of the sibling that shows.
    #[must_use]
    pub fn shown_dot(&self) -> Option<Dot> {
        self.siblings.first().map(|(dot, _, _)| *dot)
    }

    /// The dots of the runs that count.
    fn run_dots(&self) -> impl Iterator<Item = Dot> {
        self.runs.iter().map(|(run, _)| run.latest)
    }

    /// Names what is to be seen of a row, of which this is the view.
    #[must_use]
    pub fn token(&self, row: &Row) -> Token {
        let mut dots: BTreeSet<Dot> = self.siblings.iter().map(|(dot, _, _)| *dot).chain(self.run_dots()).collect();
        let floors: Vec<Dot> = counter::floors_of_removed(row, |dot| dots.contains(dot)).collect();
        dots.extend(floors);
        let observed = counter::observed(row, |dot| dots.contains(dot));
        Token { dots, observed }
    }
}

/// A value row that a write is about.
pub(super) struct ValueRow<'v> {
    pub(super) address: RowAddress,
    pub(super) row: Row,
    /// What shows of it.
    pub(super) view: &'v ValueView,
    pub(super) expiry: &'v Expiry,
}

impl ValueRow<'_> {
    /// Writes a value in place of exactly the sibling that shows and the runs that were added to it. Other siblings stay.
    ///
    /// # Errors
    /// Where the value exceeds its limit.
    pub(super) fn set_shown(&self, draft: &mut Draft<'_, '_>, decision: Option<Decision>, value: Bytes) -> Result<(), Refusal> {
        if value.len() > MAX_VALUE {
            return Err(Refusal::TooBig);
        }
        if self.view.exists() {
            let named = self.view.shown_dot().into_iter().chain(self.view.run_dots()).collect();
            self.replace(draft, named, &Token::default());
        }
        draft.add(self.address.clone(), decision, Payload::Value(value));
        Ok(())
    }

    /// The value that shows with a tail.
    ///
    /// # Errors
    /// Where it would exceed its limit.
    pub(super) fn appended(&self, tail: &Bytes) -> Result<Bytes, Refusal> {
        match self.view.shown() {
            head if head.as_ref().map_or(0, Bytes::len) + tail.len() > MAX_VALUE => Err(Refusal::TooBig),
            None => Ok(tail.clone()),
            Some(head) => {
                let mut value = BytesMut::with_capacity(head.len() + tail.len());
                value.extend_from_slice(&head);
                value.extend_from_slice(tail);
                Ok(value.freeze())
            }
        }
    }

    /// Replaces these live dots of the row, with the floors that they need, and what a token names beside them.
    pub(super) fn replace(&self, draft: &mut Draft<'_, '_>, mut named: BTreeSet<Dot>, token: &Token) {
        let floors: Vec<Dot> = counter::floors_of_removed(&self.row, |dot| named.contains(dot)).collect();
        named.extend(floors);
        let mut observed = counter::observed(&self.row, |dot| named.contains(dot));
        for (run, seen) in &token.observed {
            let floor = observed.entry(*run).or_insert(*seen);
            *floor = (*floor).max(*seen);
        }
        let keeps = self.row.keys().filter(|dot| !named.contains(dot)).copied().collect();
        draft.replace_row(self.address.clone(), &self.row, keeps, &token.clock());
        draft.add_floors(&self.address, observed);
    }

    /// Adds to the counter: replaces nothing but the entry of the run that it continues.
    ///
    /// # Errors
    /// Where the value is no integer, or the sum does not fit 64 bits.
    pub(super) fn increment(
        &self,
        draft: &mut Draft<'_, '_>,
        decision: Option<Decision>,
        amount: i64,
        not_an_integer: Refusal,
    ) -> Result<i64, Refusal> {
        let value = self.view.number().ok_or(not_an_integer)?;
        let sum = i64::try_from(value.saturating_add(i128::from(amount))).map_err(|_| Refusal::Overflow)?;
        counter::continue_run(draft, &self.address, &self.row, self.expiry, decision, i128::from(amount))?;
        Ok(sum)
    }
}
