//! Rows, entries and deltas: the one algebra under every data type.
//!
//! A *row* maps dots to *entries*. A replica's state is its rows, the [`Clock`] of every dot that it has seen, and
//! what is *pending*. One rule judges everything that arrives: **seen and not live means deleted**, so deletes leave
//! nothing behind and a replica that was away for a year may come back.
//!
//! A worked example. Replica 1 holds member `x` of a set under dot `a1`. It removes it: delta `{removes: a1}`, and
//! `a1` stays in its clock. Replica 2 never heard of `a1`; when the add arrives late, after the remove, `a1` is in its
//! clock already (the remove put it there) and the add is ignored.
//!
//! `replaces` and `seen` say the same for writes that the receiver never heard of: whatever stood in the replaced
//! rows and was seen by the writer is gone. Dots of `seen` that the receiver does not know yet stay *pending* for those
//! rows, so that their late adds are ignored too.
//!
//! Sources: delta state CRDTs (Almeida, Shoker, Baquero, 2018); `DottedDB` (Gonçalves et al., 2017); Big(ger) sets
//! (Brown et al., 2016).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::dot::{Clock, Dot};
pub use super::kind::Kind;
pub use super::row::{Decision, Entry, Payload, Row, RowAddress, Terms};
pub use super::rows::{Rows, RowsMut};

/// A row, or all rows of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// One row.
    Row(RowAddress),
    /// Every row of a key.
    Key(Bytes),
}

/// One row or key that a write replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// What was replaced.
    pub scope: Scope,
    /// What was pending for exactly this scope at the writer. Pendings of several rows are never united: the write
    /// would drop an entry that nobody had observed.
    pub pending: Clock,
    /// Live dots in the scope that the writer had seen and leaves standing.
    pub keeps: Vec<Dot>,
}

impl Replacement {
    /// Replaces everything in the scope that the writer had seen.
    #[must_use]
    pub fn of(scope: Scope, pending: Clock) -> Self {
        Self { scope, pending, keeps: Vec::new() }
    }
}

/// One write, as it travels: to the own replica, the others, a hint. All of them [`join`] it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delta {
    /// What the write overwrote as a whole.
    pub replaces: Vec<Replacement>,
    /// The writer's clock; empty where nothing was replaced.
    pub seen: Clock,
    /// Live dots that the writer replaced.
    pub removes: Vec<(RowAddress, Dot)>,
    /// What it wrote.
    pub adds: Vec<(RowAddress, Dot, Entry)>,
}

impl Delta {
    /// Whether the delta changes nothing anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replaces.is_empty() && self.removes.is_empty() && self.adds.is_empty()
    }

    /// Whether the writer of this delta had seen a dot of a scope that it replaced.
    fn had_seen(&self, replacement: &Replacement, dot: Dot) -> bool {
        self.seen.contains(dot) || replacement.pending.contains(dot)
    }
}

/// Dots that a replaced row's or key's writer had seen and this replica has not. Normally empty.
pub type Pending = BTreeMap<Scope, Clock>;

/// What a replica has seen of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Causal {
    /// Every dot seen.
    pub clock: Clock,
    /// Dots known to be superseded in some row or key before they were seen.
    pub pending: Pending,
}

impl Causal {
    /// Whether a dot is pending for a row or for the row's key.
    #[must_use]
    pub fn is_pending(&self, address: &RowAddress, dot: Dot) -> bool {
        !self.pending.is_empty()
            && (self.pending.get(&Scope::Row(address.clone())).is_some_and(|clock| clock.contains(dot))
                || self.pending.get(&Scope::Key(address.key.clone())).is_some_and(|clock| clock.contains(dot)))
    }

    /// Whether a dot counts as seen for a row: in the clock, or pending for the row or its key.
    #[must_use]
    pub fn has_seen(&self, address: &RowAddress, dot: Dot) -> bool {
        self.clock.contains(dot) || self.is_pending(address, dot)
    }

    /// What counts as seen for a row, as one clock.
    #[must_use]
    pub fn seen_for(&self, address: &RowAddress) -> Clock {
        let mut seen = self.clock.clone();
        for scope in [Scope::Row(address.clone()), Scope::Key(address.key.clone())] {
            if let Some(pending) = self.pending.get(&scope) {
                seen.extend(pending);
            }
        }
        seen
    }

    /// What is pending for exactly this scope.
    #[must_use]
    pub fn pending_for(&self, scope: &Scope) -> Clock {
        self.pending.get(scope).cloned().unwrap_or_default()
    }

    /// Records that dots of a scope are superseded: those that are not in the clock become pending.
    pub fn supersede(&mut self, scope: &Scope, seen: &Clock) {
        let unseen = seen.minus(&self.clock);
        if !unseen.is_empty() {
            self.pending.entry(scope.clone()).or_default().extend(&unseen);
        }
    }

    /// Drops from pending what the clock has just taken in. Nothing else is looked for: while a first sync is under way, whatever is written has what it
    /// superseded pending, the clock is full of gaps, and this is done for every row.
    pub fn settle(&mut self, seen: impl IntoIterator<Item = Dot>) {
        if self.pending.is_empty() {
            return;
        }
        for dot in seen {
            self.pending.values_mut().for_each(|pending| pending.remove(dot));
        }
        self.pending.retain(|_, pending| !pending.is_empty());
    }

    /// Drops from pending whatever the clock holds, after it was united with another.
    pub fn settle_all(&mut self) {
        let clock = &self.clock;
        self.pending.retain(|_, pending| {
            pending.subtract(clock);
            !pending.is_empty()
        });
    }
}

/// Joins a delta into rows and clock. Idempotent, commutative and associative over any set of deltas in any order.
///
/// `slips` tells whether an add would slip past a running pull: its leaf was compared with a replica that had seen
/// the dot (`KERNEL` section 5, step 4). Such an add is taken as seen and superseded.
///
/// Rows, clock and pending change together or not at all: on an error the caller drops all three.
///
/// # Errors
/// Where a row that the delta names could not be read.
pub fn join<R: RowsMut>(
    rows: &mut R,
    causal: &mut Causal,
    delta: &Delta,
    slips: impl Fn(&RowAddress, Dot) -> bool,
) -> Result<(), R::Error> {
    let added: BTreeSet<Dot> = delta.adds.iter().map(|(_, dot, _)| *dot).collect();
    for replacement in &delta.replaces {
        let keeps: BTreeSet<Dot> = replacement.keeps.iter().copied().collect();
        let superseded = |dot: Dot| delta.had_seen(replacement, dot) && !keeps.contains(&dot) && !added.contains(&dot);
        match &replacement.scope {
            Scope::Row(address) => drop_superseded(rows, address.clone(), rows.row(address)?, superseded),
            Scope::Key(key) => {
                for (address, row) in rows.rows_of(key)? {
                    drop_superseded(rows, address, row, superseded);
                }
            }
        }
    }
    for (address, dot) in &delta.removes {
        let mut row = rows.row(address)?;
        if row.remove(dot).is_some() {
            rows.put(address.clone(), row);
        }
        causal.clock.insert(*dot);
    }
    for (address, dot, entry) in &delta.adds {
        if causal.clock.contains(*dot) {
            continue;
        }
        if !causal.is_pending(address, *dot) && !slips(address, *dot) {
            let mut row = rows.row(address)?;
            row.insert(*dot, entry.clone());
            rows.put(address.clone(), row);
        }
        causal.clock.insert(*dot);
    }
    let unseen = delta.seen.minus(&causal.clock);
    for replacement in &delta.replaces {
        let mut superseded = unseen.clone();
        superseded.extend(&replacement.pending);
        for dot in &replacement.keeps {
            superseded.remove(*dot);
        }
        causal.supersede(&replacement.scope, &superseded);
    }
    causal.settle(delta.removes.iter().map(|(_, dot)| *dot).chain(added));
    Ok(())
}

fn drop_superseded<R: RowsMut>(rows: &mut R, address: RowAddress, mut row: Row, superseded: impl Fn(Dot) -> bool) {
    let before = row.len();
    row.retain(|dot, _| !superseded(*dot));
    if row.len() != before {
        rows.put(address, row);
    }
}
