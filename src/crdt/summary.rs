//! What can be told of a collection without reading it: how many rows of each kind hold data, and when the first of them may end.
//!
//! Until the first end that anything of a key names has come, every row that holds data shows. So while a summary [stands](Summary::stands), its numbers
//! are those of the elements, and what lies in order (the scores of members, the positions of items) may be counted off from either end.

use super::expiry::{Expiry, earliest_end};
use super::kind::Kind;
use super::row::Row;
use super::runs;
use crate::types::Timestamp;

/// Kinds whose rows are elements: those from [`Kind::Member`] on.
const KINDS: usize = Kind::ALL.len() - Kind::Member as usize;

/// What is told of the rows of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Rows of each kind that hold data, from [`Kind::Member`] on.
    pub counts: [u64; KINDS],
    /// Rows that name an end.
    pub ending: u64,
    /// No row names an earlier end, in milliseconds since 1970. Means nothing where no row names one.
    pub earliest_end: u64,
}

impl Summary {
    /// How many rows of a kind hold data; 0 for a kind of which a key has no more than one.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        index(kind).map_or(0, |index| self.counts[index])
    }

    /// How many rows hold data.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Follows a row of a kind from what it held to what it holds.
    pub fn follow(&mut self, kind: Kind, before: &Row, after: &Row) {
        let Some(index) = index(kind) else { return };
        let count = &mut self.counts[index];
        *count = count.saturating_sub(u64::from(runs::holds_data(before))).saturating_add(u64::from(runs::holds_data(after)));
        self.ending = self.ending.saturating_sub(u64::from(earliest_end(before).is_some()));
        if let Some(end) = earliest_end(after) {
            self.earliest_end = if self.ending == 0 { end } else { self.earliest_end.min(end) };
            self.ending += 1;
        }
    }

    /// Whether nothing of the key may have ended by the time that its expiry is judged at: then all that holds data shows.
    #[must_use]
    pub fn stands(&self, expiry: &Expiry) -> bool {
        let is_past = |end| Timestamp::from_millis(end) <= expiry.now();
        let an_entry_may_have_ended = self.ending > 0 && is_past(self.earliest_end);
        !an_entry_may_have_ended && !expiry.standing().any(|decision| expiry.has_passed(decision))
    }
}

/// Where the number of a kind stands.
fn index(kind: Kind) -> Option<usize> {
    (kind as usize).checked_sub(Kind::Member as usize)
}

#[cfg(test)]
mod tests {
    use super::super::dot::Dot;
    use super::super::row::{Decision, Entry, Payload};
    use super::*;
    use crate::types::Actor;

    fn row(end: Option<u64>) -> Row {
        let decision = end.map(|end| Decision { time: Some(end), timestamp: Timestamp(1), since: Timestamp(1) });
        Row::from([(
            Dot { actor: Actor(1), counter: 1 },
            Entry { timestamp: Timestamp(9), decision, field_decision: None, payload: Payload::Present },
        )])
    }

    #[test]
    fn a_summary_follows_rows_and_stands_until_the_first_end() {
        let (mut summary, none) = (Summary::default(), Row::new());
        let stands_at = |summary: &Summary, ms| summary.stands(&Expiry::of(&Row::new(), Timestamp::from_millis(ms)));
        summary.follow(Kind::Member, &none, &row(None));
        summary.follow(Kind::Member, &none, &row(Some(50)));
        summary.follow(Kind::Member, &none, &row(Some(70)));
        assert_eq!((summary.count(Kind::Member), summary.count(Kind::Field), summary.total()), (3, 0, 3));
        assert!(stands_at(&summary, 49) && !stands_at(&summary, 50));
        // Of rows that are gone the earliest end is not forgotten before all ends are.
        summary.follow(Kind::Member, &row(Some(50)), &none);
        assert!(!stands_at(&summary, 60));
        summary.follow(Kind::Member, &row(Some(70)), &none);
        assert!(stands_at(&summary, 60) && summary.total() == 1);
        let decision = Decision { time: Some(40), timestamp: Timestamp(1), since: Timestamp(1) };
        let decided = Entry { timestamp: Timestamp(1), decision: None, field_decision: None, payload: Payload::Decision(decision) };
        let expiry = Expiry::of(&Row::from([(Dot { actor: Actor(1), counter: 2 }, decided)]), Timestamp::from_millis(40));
        assert!(!summary.stands(&expiry));
    }
}
