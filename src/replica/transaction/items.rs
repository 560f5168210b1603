//! How many items a list has and where they lie, without reading it: a push answers with the number, and a pop must not search for the front.
//!
//! Both are local and derived, never replicated. They stand in a record of their own that changes in the batch that changes the rows:
//!
//! ```text
//! number (8)   length of the first bound (2), the bound   the last bound       every row of an item lies between the bounds, both included
//! ```
//!
//! An LSM tree has to walk over what was deleted and is not compacted yet. A queue from which a million items were popped has a million such marks before its
//! front; the bounds let a visit begin behind them. Where there is no record, nothing is known: the rows are counted once, and the number is written then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::visiting::{Merging, Order};
use super::{ReplicaError, Transaction};
use crate::env::{Batch, Snapshot, StorageError};
use crate::replica::layout;
use crate::types::{Partition, Place};

/// What is on record of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    /// How many rows of items there are.
    number: u64,
    /// No row lies before this position.
    first: Bytes,
    /// No row lies behind this position; empty: not known.
    last: Bytes,
}

impl Record {
    fn to_bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.first.len()).unwrap_or(u16::MAX);
        [&self.number.to_be_bytes()[..], &length.to_be_bytes(), &self.first, &self.last].concat()
    }

    /// Reads a record; one that is none counts as not there.
    fn from_bytes(bytes: &Bytes) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (first, last) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        Some(Self { number: u64::from_be_bytes(*number), first: Bytes::copy_from_slice(first), last: Bytes::copy_from_slice(last) })
    }
}

/// What a batch did to the items of one list.
#[derive(Default)]
struct Change {
    /// How many rows appeared less those that vanished.
    number: i64,
    /// The first position of a row that appeared, and the last.
    appeared: Option<(Bytes, Bytes)>,
}

/// The first position that visits met, and the last.
type Met = (Option<Bytes>, Option<Bytes>);

/// What a batch knows of the items of lists, each under the storage key of its record.
#[derive(Default)]
pub(super) struct Items {
    /// What is on record in storage, as far as it was looked up.
    stored: RefCell<BTreeMap<Vec<u8>, Option<Record>>>,
    /// How many there were before the batch, where that was not on record and was counted.
    counted: RefCell<BTreeMap<Vec<u8>, u64>>,
    /// Positions before and behind which no row is left, as visits have found: the first and the last that they met.
    met: RefCell<BTreeMap<Vec<u8>, Met>>,
    changes: BTreeMap<Vec<u8>, Change>,
}

impl Items {
    /// Notes that a row of an item appeared or vanished.
    pub(super) fn note(&mut self, items_key: Vec<u8>, position: &Bytes, appeared: bool) {
        let change = self.changes.entry(items_key.clone()).or_default();
        change.number += if appeared { 1 } else { -1 };
        if appeared {
            let (first, last) = change.appeared.get_or_insert_with(|| (position.clone(), position.clone()));
            *first = position.min(first).clone();
            *last = position.max(last).clone();
            if let Some((first, last)) = self.met.get_mut().get_mut(&items_key) {
                first.iter_mut().for_each(|first| *first = position.min(first).clone());
                last.iter_mut().for_each(|last| *last = position.max(last).clone());
            }
        }
    }

    /// Notes the outermost row that a visit from one end met.
    pub(super) fn note_outermost(&self, items_key: Vec<u8>, order: Order, position: &Bytes) {
        let mut met = self.met.borrow_mut();
        let (first, last) = met.entry(items_key).or_default();
        *(if order == Order::Forward { first } else { last }) = Some(position.clone());
    }

    /// Takes every record of a partition away: what becomes of its rows is not told one by one.
    pub(super) fn forget(&mut self, partition: Partition, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), ReplicaError> {
        let (start, end) = layout::items_range(partition);
        let stored = self.stored.get_mut();
        snapshot.scan(&start, &end, &mut |key, _| {
            batch.delete(key.to_vec());
            stored.insert(key.to_vec(), None);
            ControlFlow::Continue(())
        })?;
        let stays = |key: &Vec<u8>| !(start.as_slice()..end.as_slice()).contains(&key.as_slice());
        self.counted.get_mut().retain(|key, _| stays(key));
        self.met.get_mut().retain(|key, _| stays(key));
        self.changes.retain(|key, _| stays(key));
        Ok(())
    }

    /// Writes the records of lists that changed or were counted.
    pub(super) fn write(mut self, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), ReplicaError> {
        for key in self.counted.get_mut().keys() {
            self.changes.entry(key.clone()).or_default();
        }
        for (key, Change { number, appeared }) in std::mem::take(&mut self.changes) {
            let stored = self.stored(snapshot, &key)?;
            let Some(before) = stored.as_ref().map(|record| record.number).or_else(|| self.counted.get_mut().get(&key).copied()) else {
                continue;
            };
            let number = before.saturating_add_signed(number);
            if number == 0 {
                stored.into_iter().for_each(|_| batch.delete(key.clone()));
                continue;
            }
            let (first, last) = match appeared {
                Some(appeared) if before == 0 => appeared,
                appeared => {
                    let (first_met, last_met) = self.met.get_mut().remove(&key).unwrap_or_default();
                    let (first, last) = bounds(stored.as_ref(), appeared.as_ref());
                    (first_met.unwrap_or(first), last_met.unwrap_or(last))
                }
            };
            let record = Record { number, first, last };
            if stored.as_ref() != Some(&record) {
                batch.put(key, record.to_bytes());
            }
        }
        Ok(())
    }

    fn stored(&self, snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Record>, ReplicaError> {
        if let Some(record) = self.stored.borrow().get(key) {
            return Ok(record.clone());
        }
        let record = snapshot.get(key)?.as_ref().and_then(Record::from_bytes);
        self.stored.borrow_mut().insert(key.to_vec(), record.clone());
        Ok(record)
    }
}

/// The first and last position that a row may have, by what was on record before a batch and what appeared in it. An empty last one is not known.
fn bounds(stored: Option<&Record>, appeared: Option<&(Bytes, Bytes)>) -> (Bytes, Bytes) {
    let (first, last) = stored.map(|record| (record.first.clone(), record.last.clone())).unwrap_or_default();
    match appeared {
        Some((first_new, _)) if last.is_empty() => (first.min(first_new.clone()), last),
        Some((first_new, last_new)) => (first.min(first_new.clone()), last.max(last_new.clone())),
        None => (first, last),
    }
}

/// The storage keys from one position to another, which is empty where it is not known.
fn range_between((items_start, items_end): &(Vec<u8>, Vec<u8>), first: &[u8], last: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let behind_last = if last.is_empty() { items_end.clone() } else { [items_start, last, &[0]].concat() };
    ([items_start, first].concat(), behind_last)
}

/// The range of storage keys in which the items of a key's list lie in a snapshot.
pub(in crate::replica) fn range_on_record(snapshot: &dyn Snapshot, place: Place, key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StorageError> {
    let record = snapshot.get(&layout::items_key(place, key))?.as_ref().and_then(Record::from_bytes);
    let (first, last) = bounds(record.as_ref(), None);
    Ok(range_between(&layout::rows_of_items(place, key), &first, &last))
}

impl Transaction<'_> {
    /// How many rows of items a key has, as this transaction left it.
    pub(super) fn count_items(&self, key: &Bytes) -> Result<u64, ReplicaError> {
        let items_key = layout::items_key(self.place(key), key);
        let change = self.items.changes.get(&items_key).map_or(0, |change| change.number);
        let stored = self.items.stored(&*self.snapshot, &items_key)?.map(|record| record.number);
        let before = stored.or_else(|| self.items.counted.borrow().get(&items_key).copied());
        if let Some(before) = before {
            return Ok(before.saturating_add_signed(change));
        }
        let mut number = 0u64;
        let (start, end) = layout::rows_of_items(self.place(key), key);
        self.visit_rows(key, &start, &end, Order::Forward, &mut |_, _| {
            number += 1;
            ControlFlow::Continue(())
        })?;
        self.items.counted.borrow_mut().insert(items_key, number.saturating_sub_signed(change));
        Ok(number)
    }

    /// Walks over a range within the rows of a key as [`Self::merged`] does, and steps over the ends of its list where there is nothing; `left_only`: where
    /// this batch has left nothing either.
    pub(super) fn merged_of_key(
        &self,
        key: &Bytes,
        (start, end): (&[u8], &[u8]),
        order: Order,
        left_only: bool,
        visit: &mut Merging<'_>,
    ) -> Result<(), ReplicaError> {
        let items = layout::rows_of_items(self.place(key), key);
        let items_key = layout::items_key(self.place(key), key);
        let overlaps = start < items.1.as_slice() && items.0.as_slice() < end;
        let stored = if overlaps { self.items.stored(&*self.snapshot, &items_key)? } else { None };
        let appeared = self.items.changes.get(&items_key).and_then(|change| change.appeared.as_ref());
        let met = self.items.met.borrow().get(&items_key).cloned().filter(|_| left_only).unwrap_or_default();
        if !overlaps || (stored.is_none() && appeared.is_none() && met == Met::default()) {
            // Most keys are no lists: one search finds all of their rows.
            return self.merged(start, end, order, visit);
        }
        let (first, last) = bounds(stored.as_ref(), appeared);
        let (from_items, until_items) = range_between(&items, &met.0.unwrap_or(first), &met.1.unwrap_or(last));
        let mut is_over = false;
        let mut part = |from: &[u8], until: &[u8]| -> Result<(), ReplicaError> {
            let (from, until) = (from.max(start), until.min(end));
            if is_over || from >= until {
                return Ok(());
            }
            self.merged(from, until, order, &mut |key, stored, cached| {
                let flow = visit(key, stored, cached)?;
                is_over = flow.is_break();
                Ok(flow)
            })
        };
        if order == Order::Forward {
            part(start, &items.0)?
        } else {
            part(&items.1, end)?
        }
        part(&from_items, &until_items)?;
        if order == Order::Forward { part(&items.1, end) } else { part(start, &items.0) }
    }
}
