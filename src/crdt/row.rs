//! Rows and what they hold: entries, each under the dot of the write that made it.
//!
//! A row maps dots to entries. What becomes of it when others write is decided in [`super::delta`]; this file only says what stands in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::dot::Dot;
use super::kind::Kind;
use super::number::Number;
use super::score::Score;
use crate::types::Timestamp;

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
