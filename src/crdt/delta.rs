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
use serde::{Deserialize, Serialize};

use super::dot::{Clock, Dot};
use super::number::Number;
pub use super::rows::{Rows, RowsMut};
use super::sorted_set::Score;
use crate::types::Timestamp;

/// What a row is for. The order is the order of rows under one key, in storage and on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// The decisions on when the key expires. One row a key.
    Expiry = 0,
    /// The value of a string or counter. One row a key.
    Value = 1,
    /// A member of a set: the element is the member.
    Member = 2,
    /// A field of a hash: the element is its name, the content that of a string or counter, and the decisions on when the field expires.
    Field = 3,
    /// The score of a member of a sorted set: the element is the member.
    Score = 4,
    /// An item of a list: the element is its position.
    Item = 5,
    /// A register of a HyperLogLog.
    Register = 6,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 7] = [Self::Expiry, Self::Value, Self::Member, Self::Field, Self::Score, Self::Item, Self::Register];

    /// The kind of a number, as it is stored and sent.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether a key has several rows of this kind, told apart by their elements.
    #[must_use]
    pub fn has_elements(self) -> bool {
        self > Self::Value
    }

    /// Whether rows of this kind may hold counters.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, Self::Value | Self::Field | Self::Score)
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Value => "value",
            Self::Member => "member",
            Self::Field => "field",
            Self::Score => "score",
            Self::Item => "item",
            Self::Register => "register",
        }
    }
}

/// Names one row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowAddress {
    /// The client's key.
    pub key: Bytes,
    /// What the row is for.
    pub kind: Kind,
    /// Which of the rows of its kind; empty where a key has only one.
    pub element: Bytes,
}

impl RowAddress {
    /// The row of a key's string or counter.
    #[must_use]
    pub fn value(key: &Bytes) -> Self {
        Self { key: key.clone(), kind: Kind::Value, element: Bytes::new() }
    }

    /// The row of a key's expiry decisions.
    #[must_use]
    pub fn expiry(key: &Bytes) -> Self {
        Self { key: key.clone(), kind: Kind::Expiry, element: Bytes::new() }
    }

    /// The row of one element of a collection.
    #[must_use]
    pub fn element(key: &Bytes, kind: Kind, element: &Bytes) -> Self {
        Self { key: key.clone(), kind, element: element.clone() }
    }

    /// The row of one member of a set.
    #[must_use]
    pub fn member(key: &Bytes, member: &Bytes) -> Self {
        Self::element(key, Kind::Member, member)
    }
}

/// A decision on when a key, or a field of a hash, expires; see [`super::expiry`] for the rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// When it expires, in milliseconds since 1970; `None`: never.
    pub time: Option<u64>,
    /// When the decision was taken.
    pub timestamp: Timestamp,
    /// From when on this life of the key or field is unbroken.
    pub since: Timestamp,
}

/// The decisions that an entry is written under.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// On its key.
    pub key: Option<Decision>,
    /// On its field.
    pub field: Option<Decision>,
}

impl From<Option<Decision>> for Terms {
    fn from(key: Option<Decision>) -> Self {
        Self { key, field: None }
    }
}

/// What one write put into a row. Belongs to its dot for ever and never changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Entry {
    /// When it was written. Chooses the sibling that shows, never what is deleted.
    pub timestamp: Timestamp,
    /// The decision on the key's expiry that the entry was written under.
    pub decision: Option<Decision>,
    /// The decision on the field's own expiry that it was written under (rows of [`Kind::Field`] only).
    pub field_decision: Option<Decision>,
    /// What was written.
    pub payload: Payload,
}

impl Entry {
    /// About how many bytes the entry takes on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        let value = match &self.payload {
            Payload::Value(value) => value.len(),
            Payload::Run { total, .. } | Payload::Floor { total, .. } => total.size(),
            Payload::Score(_) | Payload::Present | Payload::Decision(_) => 0,
        };
        value + 64
    }

    /// Whether rows of a kind hold such entries.
    #[must_use]
    pub fn fits(&self, kind: Kind) -> bool {
        self.payload.fits(kind) && (self.field_decision.is_none() || kind == Kind::Field)
    }
}

/// The content of an entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Payload {
    /// A string, or the base of a counter.
    Value(Bytes),
    /// All increments of one actor since the run began.
    Run {
        /// The dot of the run's first increment.
        run: Dot,
        /// Their sum.
        total: Number,
    },
    /// Marks how much of a run a SET or DEL has observed, and so reset.
    Floor {
        /// The run that was observed.
        run: Dot,
        /// The greatest counter of the run's actor that was observed in this run.
        upto: u64,
        /// The run's total at that dot.
        total: Number,
    },
    /// The score of a member of a sorted set, to which runs may be added.
    Score(Score),
    /// A member of a set is present.
    Present,
    /// A decision on the expiry of the key, or of the field whose row it stands in.
    Decision(Decision),
}

impl Payload {
    /// Whether rows of a kind hold such entries.
    #[must_use]
    pub fn fits(&self, kind: Kind) -> bool {
        match self {
            Self::Value(_) => matches!(kind, Kind::Value | Kind::Field | Kind::Item | Kind::Register),
            Self::Run { total, .. } | Self::Floor { total, .. } => total.fits(kind),
            Self::Score(_) => kind == Kind::Score,
            Self::Present => kind == Kind::Member,
            Self::Decision(_) => matches!(kind, Kind::Expiry | Kind::Field),
        }
    }
}

/// The content of a row: its live dots and what each wrote. An empty row is no row.
pub type Row = BTreeMap<Dot, Entry>;

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

    /// Drops from pending what the clock holds by now.
    pub fn settle(&mut self) {
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
    causal.settle();
    Ok(())
}

fn drop_superseded<R: RowsMut>(rows: &mut R, address: RowAddress, mut row: Row, superseded: impl Fn(Dot) -> bool) {
    let before = row.len();
    row.retain(|dot, _| !superseded(*dot));
    if row.len() != before {
        rows.put(address, row);
    }
}
