//! A replica's state of one partition in plain memory: what tests, models and small tools hold deltas against.
//!
//! Both ways of replication stand here in their shortest form. An operation is a [`Delta`], applied by [`join`] (a
//! `CmRDT`). Two whole states merge as a pull does when nothing interrupts it (a `CvRDT`): a dot stays unless the side
//! that lacks it has seen it.
//!
//! ```
//! use ringtide::crdt::memory::MemoryState;
//!
//! let (left, mut right) = (MemoryState::default(), MemoryState::default());
//! crdts::CvRDT::merge(&mut right, left.clone());
//! assert_eq!(left, right);
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use bytes::Bytes;
use crdts::{CmRDT, CvRDT};

use super::delta::{Causal, Delta, join};
use super::dot::Dot;
use super::kind::Kind;
use super::row::{Row, RowAddress};
use super::rows::{Rows, RowsMut};

impl Rows for BTreeMap<RowAddress, Row> {
    type Error = Infallible;

    fn row(&self, address: &RowAddress) -> Result<Row, Infallible> {
        Ok(self.get(address).cloned().unwrap_or_default())
    }

    fn visit_from(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Infallible> {
        let first = RowAddress { key: key.clone(), kind, element: Bytes::new() };
        for (address, row) in self.range(first..).take_while(|(address, _)| address.key == *key) {
            if visitor(address, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn visit_back(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Infallible> {
        let first = RowAddress { key: key.clone(), kind, element: Bytes::new() };
        // Elements have no end, but the next key, if only a zero longer, has a beginning.
        let mut next = key.to_vec();
        next.push(0);
        let end = RowAddress { key: next.into(), kind: Kind::Expiry, element: Bytes::new() };
        for (address, row) in self.range(first..end).rev().filter(|(address, _)| address.kind == kind) {
            if visitor(address, row).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl RowsMut for BTreeMap<RowAddress, Row> {
    fn put(&mut self, address: RowAddress, row: Row) {
        if row.is_empty() {
            self.remove(&address);
        } else {
            self.insert(address, row);
        }
    }
}

/// Rows, clock and pending of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryState {
    /// Every row that is not empty.
    pub rows: BTreeMap<RowAddress, Row>,
    /// What has been seen.
    pub causal: Causal,
}

impl MemoryState {
    /// Joins a delta.
    pub fn join(&mut self, delta: &Delta) {
        let Ok(()) = join(&mut self.rows, &mut self.causal, delta, |_, _| false);
    }

    /// The first invariant of the algebra that does not hold, in words: live dots are in the clock, a dot is live in one
    /// row at most, no row is empty, and nothing is pending that has been seen.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        let mut homes: BTreeMap<Dot, &RowAddress> = BTreeMap::new();
        for (address, row) in &self.rows {
            if row.is_empty() {
                return Some(format!("the row {address:?} is empty"));
            }
            for dot in row.keys() {
                if !self.causal.clock.contains(*dot) {
                    return Some(format!("{dot:?} is live in {address:?} and not in the clock"));
                }
                if let Some(other) = homes.insert(*dot, address) {
                    return Some(format!("{dot:?} is live in {address:?} and in {other:?}"));
                }
            }
        }
        let settled = |pending: &super::dot::Clock| !pending.is_empty() && pending.minus(&self.causal.clock) == *pending;
        self.causal.pending.iter().find(|(_, pending)| !settled(pending)).map(|(scope, _)| format!("{scope:?} has seen dots pending"))
    }
}

impl Rows for MemoryState {
    type Error = Infallible;

    fn row(&self, address: &RowAddress) -> Result<Row, Infallible> {
        self.rows.row(address)
    }

    fn visit_from(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Infallible> {
        self.rows.visit_from(key, kind, visitor)
    }

    fn visit_back(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Infallible> {
        self.rows.visit_back(key, kind, visitor)
    }
}

impl RowsMut for MemoryState {
    fn put(&mut self, address: RowAddress, row: Row) {
        self.rows.put(address, row);
    }
}

impl CmRDT for MemoryState {
    type Op = Delta;
    type Validation = Infallible;

    fn validate_op(&self, _delta: &Delta) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&mut self, delta: Delta) {
        self.join(&delta);
    }
}

impl CvRDT for MemoryState {
    type Validation = Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    /// Takes in everything that `other` knows, as an uninterrupted pull from it does.
    fn merge(&mut self, other: Self) {
        for (address, row) in &mut self.rows {
            let theirs = other.rows.get(address);
            row.retain(|dot, _| theirs.is_some_and(|row| row.contains_key(dot)) || !other.causal.has_seen(address, *dot));
        }
        self.rows.retain(|_, row| !row.is_empty());
        for (address, row) in other.rows {
            for (dot, entry) in row {
                if !self.causal.has_seen(&address, dot) {
                    self.rows.entry(address.clone()).or_default().insert(dot, entry);
                }
            }
        }
        self.causal.clock.extend(&other.causal.clock);
        for (scope, pending) in other.causal.pending {
            self.causal.supersede(&scope, &pending);
        }
        self.causal.settle_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::dot::Dot;
    use super::super::row::{Entry, Payload};
    use super::*;
    use crate::types::{Actor, Timestamp};

    fn member(counter: u64) -> (RowAddress, Dot, Entry) {
        let address = RowAddress::member(&Bytes::from_static(b"k"), &Bytes::from_static(b"m"));
        (
            address,
            Dot { actor: Actor(1), counter },
            Entry { timestamp: Timestamp(counter), decision: None, field_decision: None, payload: Payload::Present },
        )
    }

    #[test]
    fn a_removed_dot_does_not_come_back_by_delta_or_merge() {
        let (address, dot, entry) = member(1);
        let add = Delta { adds: vec![(address.clone(), dot, entry)], ..Delta::default() };
        let remove = Delta { removes: vec![(address, dot)], ..Delta::default() };
        let mut holder = MemoryState::default();
        holder.apply(add.clone());
        let mut remover = MemoryState::default();
        remover.apply(remove);
        remover.apply(add);
        assert!(remover.rows.is_empty());
        let mut merged = remover.clone();
        merged.merge(holder.clone());
        holder.merge(remover);
        assert_eq!(merged, holder);
        assert!(merged.rows.is_empty());
    }

    #[test]
    fn a_broken_invariant_is_told() {
        let (address, dot, entry) = member(1);
        let mut state = MemoryState::default();
        assert_eq!(state.violation(), None);
        state.put(address, Row::from([(dot, entry)]));
        assert!(state.violation().is_some_and(|text| text.contains("not in the clock")));
    }
}
