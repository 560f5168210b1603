//! Expiry: which entries a decision hides, and the decisions that EXPIRE, PERSIST and SET take.
//!
//! A [`Decision`] says when a key dies. It stands in the key's expiry row, and each entry that was written while the key showed
//! under it carries a copy. An EXPIRE speaks of data that its replica may not hold, and may meet a PERSIST that it never heard of; so
//! a decision is judged for each entry on its own:
//!
//! ```text
//! d rules e        e carries d, or is stamped before d, or carries a decision that d overtakes
//! d' overtakes d   d' is later, and about the same life: d'.since < d.time
//! d hides e        d rules e, e was written before d.time, and nothing in the row or in e overtakes d
//! ```
//!
//! An entry is hidden once a decision that hides it has passed. A worked example: SADD `x`, EXPIRE at 50, SADD `y` (which carries the decision).
//! Both are hidden from 50 on. A PERSIST at 40, with since 10, overtakes the decision (10 < 50), and both stay. SADD `z` at 60, when nothing
//! shows, begins a new life: no decision rules `z`. A PERSIST at 61 has since 61, and does not reach back to raise `x`.
//!
//! Nothing here removes anything: see [`super::removal`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::delta::{Decision, Entry, Payload, Row};
use crate::types::Timestamp;

/// The time of a decision as a timestamp; the end of all time for *never*.
#[must_use]
pub fn deadline(decision: &Decision) -> Timestamp {
    decision.time.map_or(Timestamp(u64::MAX), Timestamp::from_millis)
}

/// The order of decisions. Decisions with equal ranks are equal, and do the same.
fn rank(decision: &Decision) -> (Timestamp, u64, Timestamp) {
    (decision.timestamp, decision.time.unwrap_or(u64::MAX), decision.since)
}

/// Whether a decision is later than another, and about the same life of the key.
#[must_use]
pub fn overtakes(later: &Decision, decision: &Decision) -> bool {
    rank(later) > rank(decision) && later.since < deadline(decision)
}

/// Whether a decision is about this entry.
fn rules(decision: &Decision, entry: &Entry) -> bool {
    decision.timestamp > entry.timestamp || entry.decision.is_some_and(|carried| carried == *decision || overtakes(decision, &carried))
}

/// Whether a decision reached a replica so late that others may have agreed on a removal that it should have prevented. It is joined
/// all the same, but not acknowledged. `now` is the replica's own clock, which never steps back.
#[must_use]
pub fn is_late(decision_timestamp: Timestamp, now: Timestamp, grace: Duration) -> bool {
    later_by(decision_timestamp, grace) <= now
}

/// A timestamp moved into the future.
pub(super) fn later_by(timestamp: Timestamp, duration: Duration) -> Timestamp {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Timestamp(timestamp.0.saturating_add(millis.saturating_mul(1 << 16)))
}

/// The decisions in a key's expiry row, judged at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expiry {
    standing: BTreeSet<Decision>,
    now: Timestamp,
}

impl Expiry {
    /// Reads an expiry row at a time. An empty row holds no decision.
    #[must_use]
    pub fn of(row: &Row, now: Timestamp) -> Self {
        let decision = |entry: &Entry| if let Payload::Decision(decision) = entry.payload { Some(decision) } else { None };
        Self { standing: row.values().filter_map(decision).collect(), now }
    }

    /// The decisions that stand in the row.
    pub fn standing(&self) -> impl Iterator<Item = &Decision> {
        self.standing.iter()
    }

    /// Whether a decision stands in the row.
    #[must_use]
    pub fn holds(&self, decision: &Decision) -> bool {
        self.standing.contains(decision)
    }

    /// Whether the time of a decision has come.
    #[must_use]
    pub fn has_passed(&self, decision: &Decision) -> bool {
        deadline(decision) <= self.now
    }

    /// Whether a decision in the row overtakes this one.
    #[must_use]
    pub fn is_overtaken(&self, decision: &Decision) -> bool {
        self.standing.iter().any(|other| overtakes(other, decision))
    }

    /// Whether a decision hides an entry from its time on, passed or not.
    #[must_use]
    pub fn is_hidden_by(&self, entry: &Entry, decision: &Decision) -> bool {
        let carried = entry.decision.as_ref();
        (self.holds(decision) || carried == Some(decision))
            && rules(decision, entry)
            && entry.timestamp < deadline(decision)
            && !self.is_overtaken(decision)
            && !carried.is_some_and(|carried| overtakes(carried, decision))
    }

    /// The decisions that hide an entry from their time on.
    fn hiders<'e>(&'e self, entry: &'e Entry) -> impl Iterator<Item = &'e Decision> {
        let carried = entry.decision.as_ref();
        self.standing.iter().chain(carried).filter(move |decision| self.is_hidden_by(entry, decision))
    }

    /// The passed decision that hides an entry, the last to pass where there are several.
    #[must_use]
    pub fn hider(&self, entry: &Entry) -> Option<Decision> {
        self.hiders(entry).filter(|decision| self.has_passed(decision)).max_by_key(|decision| deadline(decision)).copied()
    }

    /// Whether an entry does not show at this time.
    #[must_use]
    pub fn hides(&self, entry: &Entry) -> bool {
        self.hider(entry).is_some()
    }

    /// When an entry that shows will be hidden, in milliseconds since 1970; `None`: never, as things stand.
    #[must_use]
    pub fn end_of(&self, entry: &Entry) -> Option<u64> {
        self.hiders(entry).filter_map(|decision| decision.time).min()
    }

    /// The decision that a new entry is written under: the latest, unless it has passed.
    #[must_use]
    pub fn governing(&self) -> Option<Decision> {
        self.standing.iter().max_by_key(|decision| rank(decision)).filter(|decision| !self.has_passed(decision)).copied()
    }

    /// The decision that new entries copy where these entries show: what governs, if it is about any of them.
    #[must_use]
    pub fn governing_any<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Option<Decision> {
        let governing = self.governing()?;
        let is_about = |entry: &Entry| rules(&governing, entry) && entry.timestamp < deadline(&governing);
        entries.into_iter().any(is_about).then_some(governing)
    }

    /// A decision taken now, in place of those that have not passed. It continues the life that they were about.
    #[must_use]
    pub fn decide(&self, time: Option<u64>) -> Decision {
        let ends_before =
            |decision: &Decision| self.standing.iter().any(|later| self.has_passed(later) && later.timestamp > decision.timestamp);
        let continued = self.standing.iter().filter(|decision| !self.has_passed(decision) && !ends_before(decision));
        let since = continued.map(|decision| decision.since).min().map_or(self.now, |since| since.min(self.now));
        Decision { time, timestamp: self.now, since }
    }
}
