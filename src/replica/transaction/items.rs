//! How many items a list has, without reading it: a push answers with that number.
//!
//! The number is local and derived, never replicated. It stands in a record of its own that changes in the batch that changes the rows. Where
//! there is no record, nothing is known and the rows are counted: once, since the number is written then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::{ReplicaError, Transaction};
use crate::crdt::delta::{Kind, Row, RowAddress};
use crate::env::{Batch, Snapshot};
use crate::replica::layout;
use crate::types::Partition;

use super::visiting::Order;

/// What a batch knows of the numbers of items, each under its storage key.
#[derive(Default)]
pub(super) struct Items {
    /// The numbers before the batch, as far as they were asked for.
    before: RefCell<BTreeMap<Vec<u8>, u64>>,
    /// How many rows of items appeared less those that vanished.
    changes: BTreeMap<Vec<u8>, i64>,
}

impl Items {
    /// Notes that a row of an item appeared or vanished.
    pub(super) fn note(&mut self, items_key: Vec<u8>, appeared: bool) {
        *self.changes.entry(items_key).or_default() += if appeared { 1 } else { -1 };
    }

    /// Takes every number of a partition away: what becomes of its rows is not told one by one.
    pub(super) fn forget(&mut self, partition: Partition, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), ReplicaError> {
        let (start, end) = layout::items_range(partition);
        snapshot.scan(&start, &end, &mut |key, _| {
            batch.delete(key.to_vec());
            ControlFlow::Continue(())
        })?;
        let stays = |key: &Vec<u8>| !(start.as_slice()..end.as_slice()).contains(&key.as_slice());
        self.before.get_mut().retain(|key, _| stays(key));
        self.changes.retain(|key, _| stays(key));
        Ok(())
    }

    /// Writes the numbers that changed or were counted.
    pub(super) fn write(self, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), ReplicaError> {
        let (before, mut changes) = (self.before.into_inner(), self.changes);
        for key in before.keys() {
            changes.entry(key.clone()).or_default();
        }
        for (key, change) in changes {
            let stored = stored(snapshot, &key)?;
            let Some(number) = before.get(&key).copied().or(stored) else { continue };
            let number = number.saturating_add_signed(change);
            match number {
                0 if stored.is_some() => batch.delete(key),
                _ if number == 0 || stored == Some(number) => {}
                _ => batch.put(key, number.to_be_bytes().to_vec()),
            }
        }
        Ok(())
    }
}

fn stored(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<u64>, ReplicaError> {
    // A record that is none counts as not there.
    Ok(snapshot.get(key)?.and_then(|bytes| bytes.as_ref().try_into().ok()).map(u64::from_be_bytes))
}

impl Transaction<'_> {
    /// How many rows of items a key has, as this transaction left it.
    pub(super) fn count_items(&self, key: &Bytes) -> Result<u64, ReplicaError> {
        let place = self.place(key);
        let items_key = layout::items_key(place, key);
        let change = self.items.changes.get(&items_key).copied().unwrap_or(0);
        if let Some(before) = self.items.before.borrow().get(&items_key) {
            return Ok(before.saturating_add_signed(change));
        }
        let before = match stored(&*self.snapshot, &items_key)? {
            Some(before) => before,
            None => {
                let mut start = layout::rows_of_key(place, key);
                start.push(Kind::Item as u8);
                let mut number = 0u64;
                let mut count = |_: &RowAddress, _: &Row| {
                    number += 1;
                    ControlFlow::Continue(())
                };
                self.visit_rows(&start, &layout::end_of(&start), Order::Forward, &mut count)?;
                number.saturating_sub_signed(change)
            }
        };
        self.items.before.borrow_mut().insert(items_key, before);
        Ok(before.saturating_add_signed(change))
    }
}
