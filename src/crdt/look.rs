//! What a key shows at a moment: its type, and whether anything is there at all.
//!
//! Two peers that create one key with different types at the same time keep both sets of rows. The type of the lowest [`Kind`] shows, the
//! same everywhere; the other is kept, and told by EXPLAIN.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::command::DataType;
use super::counter;
use super::delta::{Decision, Kind, Payload, Row, RowAddress, Rows};
use super::expiry::Decisions;
use crate::types::Timestamp;

/// What a key shows.
#[derive(Clone, Debug)]
pub struct Look {
    /// The moment at which expiry was judged.
    pub now: Timestamp,
    /// The decisions that stand.
    pub decisions: Decisions,
    /// The type that shows; `None`: the key does not exist.
    pub shown: Option<DataType>,
    /// Whether rows are there that are hidden.
    pub hidden: bool,
    /// The row of the string or counter.
    pub value: Row,
}

/// The type that rows of a kind belong to.
fn type_of(kind: Kind) -> Option<DataType> {
    match kind {
        Kind::Expiry => None,
        Kind::Value => Some(DataType::String),
        Kind::Member => Some(DataType::Set),
    }
}

/// Whether a row has something to show at a moment.
#[must_use]
pub fn row_shows(row: &Row, decisions: &Decisions, now: Timestamp) -> bool {
    let mut visible = row.values().filter(|entry| !decisions.hides(entry, now));
    visible.any(|entry| matches!(entry.payload, Payload::Value(_) | Payload::Present)) || counter::sum(row, decisions, now).is_some()
}

impl Look {
    fn nothing(now: Timestamp) -> Self {
        Self { now, decisions: Decisions::default(), shown: None, hidden: false, value: Row::new() }
    }

    /// Takes the next row in order; `false` once enough was seen.
    fn take(&mut self, address: &RowAddress, row: &Row) -> bool {
        let Some(data_type) = type_of(address.kind) else {
            self.decisions = Decisions::of(row);
            return true;
        };
        if address.kind == Kind::Value {
            self.value = row.clone();
        }
        if row_shows(row, &self.decisions, self.now) {
            self.shown = Some(data_type);
            return false;
        }
        // Floors alone are nothing that a decision could hide.
        self.hidden |= row.values().any(|entry| !matches!(entry.payload, Payload::Floor { .. }));
        true
    }

    /// Looks at a key, and reads no further than to the first row that shows.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn at<R: Rows>(rows: &R, key: &Bytes, now: Timestamp) -> Result<Self, R::Error> {
        let mut look = Self::nothing(now);
        rows.visit(key, &mut |address, row| if look.take(address, row) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })?;
        Ok(look)
    }

    /// Looks at rows of a key that were read already.
    #[must_use]
    pub fn of(rows: &BTreeMap<RowAddress, Row>, now: Timestamp) -> Self {
        let mut look = Self::nothing(now);
        for (address, row) in rows {
            if !look.take(address, row) {
                break;
            }
        }
        look
    }

    /// Whether the key exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.shown.is_some()
    }

    /// The decision that a write to the key as it is now stands under.
    #[must_use]
    pub fn governing(&self) -> Option<Decision> {
        if self.exists() { self.decisions.governing(self.now) } else { None }
    }

    /// When the key expires, in milliseconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.governing().and_then(|decision| decision.time)
    }
}
