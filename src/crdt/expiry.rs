//! Expiry: when a key ends, decided by replicas that may not hold what they decide about.
//!
//! A [`Decision`] `(time, timestamp, since)` stands under a dot in the key's expiry row. It says when the key ends, when that was
//! decided, and from when on this life of the key is unbroken. A later decision *overtakes* an earlier one if it was about the same
//! life: its `since` lies before the earlier one's time. A write to a key that shows copies the decision that governs it into its own
//! entry, so that each entry knows by itself what rules it, whatever rows its replica holds.
//!
//! ```text
//! 10: SET k          entry e1@10
//! 20: EXPIRE k 90    d = (time 90, timestamp 20, since 20): rules e1, which is stamped before it
//! 30: INCR k         entry e2@30 carries d
//! 95:                e1 and e2 are hidden: 90 is past, and nothing overtakes d
//! 96: SADD k x       entry e3@96 carries nothing: a new life, which d does not reach
//! ```
//!
//! Hiding is all that a single replica may do. Rows go only when a quorum agrees that a decision is past by a grace time: a fast clock may
//! hide a value for a moment, and never destroys it for others. Simpler rules each lost live values within a few events.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::delta::{Causal, Decision, Delta, Entry, Kind, Payload, Replacement, Row, RowAddress, Rows, Scope};
use super::dot::Dot;
use crate::types::Timestamp;

impl Decision {
    /// The first moment at which the key has ended; `None` where it never does.
    fn end(&self) -> Option<Timestamp> {
        self.time.map(Timestamp::from_millis)
    }

    /// Whether the decision's time is past.
    #[must_use]
    pub fn is_past(&self, now: Timestamp) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// Whether the decision's time comes after a moment.
    fn ends_after(&self, moment: Timestamp) -> bool {
        self.end().is_none_or(|end| moment < end)
    }

    /// Whether this decision was taken after another.
    fn is_later_than(&self, other: &Self) -> bool {
        (self.timestamp, *self) > (other.timestamp, *other)
    }

    /// Whether this decision takes another's place: it is later, and about the same life of the key.
    #[must_use]
    pub fn overtakes(&self, other: &Self) -> bool {
        self.is_later_than(other) && other.ends_after(self.since)
    }

    /// Whether this decision is about an entry: the entry carries it, or was written before it, or carries one that it overtakes.
    fn rules(&self, entry: &Entry) -> bool {
        entry.timestamp < self.timestamp || entry.decision.is_some_and(|carried| carried == *self || self.overtakes(&carried))
    }
}

/// The decisions that stand in a key's expiry row.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    standing: Vec<(Dot, Decision)>,
}

impl Decisions {
    /// Those of an expiry row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let decision = |(dot, entry): (&Dot, &Entry)| match entry.payload {
            Payload::Decision(decision) => Some((*dot, decision)),
            Payload::Value(_) | Payload::Run { .. } | Payload::Floor { .. } | Payload::Present => None,
        };
        Self { standing: row.iter().filter_map(decision).collect() }
    }

    /// Whether no decision stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.standing.iter().map(|(_, decision)| decision)
    }

    /// The dots of decisions that were past at a moment: only a removal takes these away.
    #[must_use]
    pub fn past(&self, now: Timestamp) -> Vec<Dot> {
        self.standing.iter().filter(|(_, decision)| decision.is_past(now)).map(|(dot, _)| *dot).collect()
    }

    /// The dots of decisions that were not past at a moment: what a SET, DEL, EXPIRE or PERSIST takes away.
    #[must_use]
    pub fn ahead(&self, now: Timestamp) -> Vec<Dot> {
        self.standing.iter().filter(|(_, decision)| !decision.is_past(now)).map(|(dot, _)| *dot).collect()
    }

    /// Every dot.
    #[must_use]
    pub fn dots(&self) -> Vec<Dot> {
        self.standing.iter().map(|(dot, _)| *dot).collect()
    }

    /// The decision that a write at this moment stands under: the latest, if its time is still to come.
    #[must_use]
    pub fn governing(&self, now: Timestamp) -> Option<Decision> {
        let latest = self.iter().copied().reduce(|latest, next| if next.is_later_than(&latest) { next } else { latest })?;
        (!latest.is_past(now)).then_some(latest)
    }

    /// From when on this life of the key is unbroken, as a decision taken now has to say.
    #[must_use]
    pub fn since(&self, now: Timestamp) -> Timestamp {
        let broken = |decision: &&Decision| self.iter().any(|past| past.is_past(now) && past.is_later_than(decision));
        let unbroken = self.iter().filter(|decision| !decision.is_past(now)).filter(|decision| !broken(decision));
        unbroken.map(|decision| decision.since).min().unwrap_or(now).min(now)
    }

    fn is_overtaken(&self, decision: &Decision, carried: Option<&Decision>) -> bool {
        self.iter().chain(carried).any(|other| other.overtakes(decision))
    }

    /// Whether an entry is hidden at a moment: a decision that rules it is past, and nothing overtakes that.
    #[must_use]
    pub fn hides(&self, entry: &Entry, now: Timestamp) -> bool {
        let carried = entry.decision.as_ref();
        let mut ruling = self.iter().chain(carried).filter(|decision| decision.rules(entry));
        ruling.any(|decision| decision.is_past(now) && decision.ends_after(entry.timestamp) && !self.is_overtaken(decision, carried))
    }

    /// Whether a removal of what `decision` hides takes an entry.
    fn removes(&self, decision: &Decision, entry: &Entry) -> bool {
        let carried = entry.decision.as_ref();
        let stands = self.iter().any(|standing| standing == decision) || carried == Some(decision);
        stands && decision.rules(entry) && decision.ends_after(entry.timestamp) && !self.is_overtaken(decision, carried)
    }
}

/// Whether a decision reaches a replica so late that a quorum may already have agreed on a removal it should have prevented:
/// it is joined, and not acknowledged.
#[must_use]
pub fn is_late(decision: Timestamp, now: Timestamp, grace: Duration) -> bool {
    now >= after_grace(decision.millis(), grace)
}

fn after_grace(time_ms: u64, grace: Duration) -> Timestamp {
    Timestamp::from_millis(time_ms.saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)))
}

/// A decision of a key whose removal may be asked for: past by the grace time, overtaken by nothing that is known here, and nothing is
/// pending for the expiry row.
#[must_use]
pub fn removable(key: &Bytes, rows: &BTreeMap<RowAddress, Row>, causal: &Causal, now: Timestamp, grace: Duration) -> Option<Decision> {
    let address = RowAddress::expiry(key);
    let decisions = rows.get(&address).map(Decisions::of).unwrap_or_default();
    let carried = rows
        .iter()
        .filter(|(address, _)| address.kind != Kind::Expiry)
        .flat_map(|(_, row)| row.values())
        .filter_map(|entry| entry.decision);
    let mut candidates = decisions.iter().copied().chain(carried);
    candidates.find(|decision| attests(&address, rows.get(&address), causal, decision, now, grace))
}

/// What a replica confirms to one that wants to remove what a decision hides: by its own clock the decision is past by the grace time,
/// nothing that it knows of overtakes it, it has not seen it superseded, and nothing is pending for the row.
#[must_use]
pub fn attests(address: &RowAddress, row: Option<&Row>, causal: &Causal, decision: &Decision, now: Timestamp, grace: Duration) -> bool {
    let decisions = row.map(Decisions::of).unwrap_or_default();
    let past = decision.time.is_some_and(|time| now >= after_grace(time, grace));
    past && !decisions.is_overtaken(decision, None)
        && causal.pending_for(&Scope::Row(address.clone())).is_empty()
        && causal.pending_for(&Scope::Key(address.key.clone())).is_empty()
}

/// Removes exactly the observed entries that a decision hides, the decision itself, and what it overtook. `None` where there is nothing
/// to remove. To be called once a quorum has confirmed.
///
/// # Errors
/// Where the key's rows could not be read.
pub fn removal<R: Rows>(rows: &R, causal: &Causal, key: &Bytes, decision: &Decision) -> Result<Option<Delta>, R::Error> {
    let decisions = Decisions::of(&rows.row(&RowAddress::expiry(key))?);
    let stands = decisions.iter().any(|standing| standing == decision);
    let mut delta = Delta::default();
    let mut keeps = Vec::new();
    for (address, row) in rows.rows_of(key)? {
        for (dot, entry) in row {
            let goes = match entry.payload {
                Payload::Decision(other) => other == *decision || stands && decision.overtakes(&other),
                Payload::Value(_) | Payload::Run { .. } | Payload::Floor { .. } | Payload::Present => decisions.removes(decision, &entry),
            };
            if goes {
                delta.removes.push((address.clone(), dot));
            } else {
                keeps.push(dot);
            }
        }
    }
    if delta.removes.is_empty() {
        return Ok(None);
    }
    let scope = Scope::Key(key.clone());
    delta.replaces.push(Replacement { pending: causal.pending_for(&scope), scope, keeps });
    delta.seen = causal.clock.clone();
    Ok(Some(delta))
}
