//! One batch of changes in the making: reads its own writes, and becomes one atomic batch of storage.
//!
//! Rows, clock and tree of a partition change together: everything that a transaction did becomes durable and visible
//! in one commit, or nothing does.

mod collections;
mod visiting;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use self::collections::{Collections, content_before};
use self::visiting::Order;
use super::collection::Content;
use super::layout::{self, Damaged};
use super::partition::{FirstSync, PartitionChange, PartitionState};
use crate::crdt::delta::{Causal, Delta, Kind, Row, RowAddress, Rows, RowsMut, join};
use crate::crdt::dot::Dot;
use crate::crdt::expiry::earliest_end;
use crate::crdt::rows::VisitRanked;
use crate::crdt::sorted_set::{self, Score};
use crate::crdt::summary::Summary;
use crate::crdt::{encode, runs};
use crate::env::{Batch, Snapshot, StorageError};
use crate::panics::Panicked;
use crate::types::{Digest, Partition, Place};

/// Why rows could not be read or changed. The whole transaction is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A stored record is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A row can't be joined: the attempt panicked, and nothing of it was kept.
    #[error("a row can't be joined: {0}")]
    Unjoinable(#[from] Panicked),
}

/// A row as the transaction knows it.
struct Cached {
    address: RowAddress,
    row: Row,
    /// The canonical bytes in storage, `None` where there is no such row.
    stored: Option<Bytes>,
    /// The end that the row stands under in the index.
    ending: Option<u64>,
    /// Whether the row counted for its key when it was read.
    counted: bool,
    dirty: bool,
}

impl Cached {
    /// A row as it was read.
    fn read(address: RowAddress, row: Row, stored: Option<Bytes>) -> Self {
        Self { ending: earliest_end(&row), counted: counts_for_key(&address, &row), address, row, stored, dirty: false }
    }
}

/// Whether a key is there by virtue of a row: one that holds more than decisions, or than the traces of counters that are gone.
pub(super) fn counts_for_key(address: &RowAddress, row: &Row) -> bool {
    address.kind != Kind::Expiry && runs::holds_data(row)
}

/// What the transaction did to one partition besides its rows.
struct Touched {
    causal: Causal,
    first_sync: Option<FirstSync>,
    emptied: bool,
}

/// A batch in the making.
pub struct Transaction<'a> {
    partitions: &'a [PartitionState],
    count: u16,
    snapshot: Arc<dyn Snapshot>,
    rows: RefCell<BTreeMap<Vec<u8>, Cached>>,
    /// Starts of keys of which every row is in `rows`.
    whole: RefCell<BTreeSet<Vec<u8>>>,
    touched: BTreeMap<Partition, Touched>,
    collections: Collections,
    batch: Batch,
    /// The key whose place was asked for last: one command asks for it many times.
    last_place: RefCell<Option<(Vec<u8>, Place)>>,
    /// The first error of a change that could not report it.
    failure: Option<ReplicaError>,
}

/// A finished transaction: what to commit, and what then to apply to the partitions in memory.
pub struct Prepared {
    /// What to commit, without its journal record.
    pub batch: Batch,
    /// What changed in the partitions.
    pub changes: Vec<PartitionChange>,
    /// Rows of counters that were written, and the runs that they hold floors of.
    pub floors: Vec<(Partition, RowAddress, Vec<Dot>)>,
}

impl<'a> Transaction<'a> {
    /// Begins a batch on the state of `partitions`, whose rows `snapshot` shows.
    #[must_use]
    pub fn begin(partitions: &'a [PartitionState], snapshot: Arc<dyn Snapshot>) -> Self {
        Self {
            partitions,
            count: u16::try_from(partitions.len()).unwrap_or(u16::MAX),
            snapshot,
            rows: RefCell::default(),
            whole: RefCell::default(),
            touched: BTreeMap::new(),
            collections: Collections::default(),
            batch: Batch::default(),
            last_place: RefCell::default(),
            failure: None,
        }
    }

    /// Where a key lies.
    #[must_use]
    pub fn place(&self, key: &[u8]) -> Place {
        let mut last = self.last_place.borrow_mut();
        match &*last {
            Some((last, place)) if last.as_slice() == key => *place,
            _ => last.insert((key.to_vec(), Place::of(key, self.count))).1,
        }
    }

    /// Clock and pending of a partition as this transaction left them.
    #[must_use]
    pub fn causal(&self, partition: Partition) -> &Causal {
        self.touched.get(&partition).map_or(&self.partitions[usize::from(partition.0)].causal, |touched| &touched.causal)
    }

    fn touch(&mut self, partition: Partition) -> &mut Touched {
        let state = &self.partitions[usize::from(partition.0)];
        self.touched.entry(partition).or_insert_with(|| Touched {
            causal: (*state.causal).clone(),
            first_sync: state.first_sync.clone(),
            emptied: false,
        })
    }

    /// Changes clock and pending of a partition directly: the end of a pull.
    pub fn causal_mut(&mut self, partition: Partition) -> &mut Causal {
        &mut self.touch(partition).causal
    }

    /// Sets how far a partition's first sync is.
    pub fn set_first_sync(&mut self, partition: Partition, first_sync: Option<FirstSync>) {
        self.touch(partition).first_sync = first_sync;
    }

    /// The first sync of a partition as this transaction left it.
    #[must_use]
    pub fn first_sync(&self, partition: Partition) -> Option<&FirstSync> {
        self.touched
            .get(&partition)
            .map_or_else(|| self.partitions[usize::from(partition.0)].first_sync.as_ref(), |touched| touched.first_sync.as_ref())
    }

    /// Adds a record that is no row: a hint, a setting.
    pub fn put_record(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.batch.put(key, value);
    }

    /// Takes a record away that is no row.
    pub fn delete_record(&mut self, key: Vec<u8>) {
        self.batch.delete(key);
    }

    /// Joins a delta into a partition. On an error the transaction must be dropped.
    ///
    /// # Errors
    /// Where a row could not be read.
    pub fn join(&mut self, partition: Partition, delta: &Delta, slips: impl Fn(&RowAddress, Dot) -> bool) -> Result<(), ReplicaError> {
        let mut causal = std::mem::take(&mut self.touch(partition).causal);
        let joined = join(self, &mut causal, delta, slips);
        self.touch(partition).causal = causal;
        joined
    }

    /// Takes rows of a partition away that do not decode, and puts in place of all that is derived what was derived from the others.
    ///
    /// # Errors
    /// Where what is derived could not be listed.
    pub fn drop_damaged(
        &mut self,
        partition: Partition,
        row_keys: impl IntoIterator<Item = Vec<u8>>,
        mut derived: Batch,
    ) -> Result<(), ReplicaError> {
        row_keys.into_iter().for_each(|row_key| self.batch.delete(row_key));
        self.collections.forget(partition, &*self.snapshot, &mut self.batch)?;
        self.batch.changes.append(&mut derived.changes);
        Ok(())
    }

    /// Drops every row of a partition, its clock and its pending.
    ///
    /// # Errors
    /// Where the rows could not be listed.
    pub fn empty(&mut self, partition: Partition) -> Result<(), ReplicaError> {
        let (start, end) = layout::partition_range(partition);
        let batch = &mut self.batch;
        self.snapshot.scan(&start, &end, &mut |key, value| {
            batch.delete(key.to_vec());
            // What can't be read leaves its index entry behind, which then leads nowhere.
            if let Ok(Some(end)) = layout::read_row(key, &Bytes::copy_from_slice(value)).map(|(_, row, _)| earliest_end(&row)) {
                batch.delete(layout::ending_key(end, key));
            }
            ControlFlow::Continue(())
        })?;
        self.rows.get_mut().retain(|key, _| !(start.as_slice()..end.as_slice()).contains(&key.as_slice()));
        self.collections.forget(partition, &*self.snapshot, &mut self.batch)?;
        let touched = self.touch(partition);
        touched.causal = Causal::default();
        touched.first_sync = None;
        touched.emptied = true;
        Ok(())
    }

    /// The row at an address whose storage key is at hand.
    ///
    /// # Errors
    /// Where the row could not be read.
    pub fn row_at(&self, key: &[u8], address: &RowAddress) -> Result<Row, ReplicaError> {
        if let Some(cached) = self.rows.borrow().get(key) {
            return Ok(cached.row.clone());
        }
        let whole =
            !self.whole.borrow().is_empty() && self.whole.borrow().contains(&layout::rows_of_key(self.place(&address.key), &address.key));
        let stored = if whole { None } else { self.snapshot.get(key)? };
        let (row, stored) = match stored {
            None => (Row::new(), None),
            Some(value) => {
                let (found, row, content) = layout::read_row(key, &value)?;
                if found != *address {
                    return Err(Damaged(format!("row {}: holds another row", layout::hex(key))).into());
                }
                (row, Some(content))
            }
        };
        let cached = Cached::read(address.clone(), row.clone(), stored);
        self.rows.borrow_mut().insert(key.to_vec(), cached);
        Ok(row)
    }

    /// Puts a row at an address whose storage key is at hand.
    pub fn put_at(&mut self, key: Vec<u8>, address: RowAddress, row: Row) {
        // What stands in storage must be known, for the digest. Rows of huge collections may have been read without being kept.
        if !self.rows.get_mut().contains_key(&key)
            && let Err(error) = self.row_at(&key, &address)
        {
            self.failure.get_or_insert(error);
        }
        let before = self.rows.get_mut().get_mut(&key).map(|cached| {
            cached.dirty = true;
            std::mem::replace(&mut cached.row, row.clone())
        });
        if let Some(before) = before.filter(|_| address.kind.has_elements()) {
            self.follow_element(&address, &before, &row);
        }
    }

    /// Turns the transaction into what is to be committed.
    ///
    /// # Errors
    /// Where a row that was changed, or one needed to count keys, could not be read.
    pub fn finish(mut self) -> Result<Prepared, ReplicaError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut keys: BTreeMap<Partition, i64> = BTreeMap::new();
        let mut leaves: BTreeMap<Partition, BTreeMap<u16, Digest>> = BTreeMap::new();
        let appeared = self.appearances()?;
        for (partition, change) in appeared {
            *keys.entry(partition).or_default() += change;
        }
        let rows = std::mem::take(self.rows.get_mut());
        let mut floors = Vec::new();
        for (key, cached) in rows.into_iter().filter(|(_, cached)| cached.dirty) {
            let partition = layout::partition_of(&key);
            let state = &self.partitions[usize::from(partition.0)];
            let emptied = self.touch(partition).emptied;
            let leaf = layout::leaf_of(&key);
            let before = content_before(&cached);
            let ending = earliest_end(&cached.row);
            if ending != cached.ending {
                cached.ending.into_iter().for_each(|end| self.batch.delete(layout::ending_key(end, &key)));
                ending.into_iter().for_each(|end| self.batch.put(layout::ending_key(end, &key), Vec::new()));
            }
            if cached.address.kind.counts() {
                floors.push((partition, cached.address.clone(), runs::floored_runs(&cached.row)));
            }
            let mut after = Content::default();
            let collection_key =
                cached.address.kind.has_elements().then(|| layout::collection_key(self.place(&cached.address.key), &cached.address.key));
            if cached.row.is_empty() {
                self.batch.delete(key);
            } else {
                let content = encode::row_to_bytes(&cached.row);
                after = Content::of(&cached.address, &content);
                let value = layout::row_value(&key, &cached.address, &content);
                self.batch.put(key, value);
            }
            let index = u16::try_from(leaf).unwrap_or(u16::MAX);
            let digest = leaves
                .entry(partition)
                .or_default()
                .entry(index)
                .or_insert_with(|| if emptied { Digest::default() } else { state.tree.leaf(leaf) });
            *digest = digest.minus(before.digest).plus(after.digest);
            if let Some(collection_key) = collection_key {
                self.collections.follow_content(&collection_key, before, after);
            }
        }
        let changes = std::mem::take(&mut self.touched).into_iter().map(|(partition, touched)| {
            let before = if touched.emptied { 0 } else { self.partitions[usize::from(partition.0)].keys };
            PartitionChange {
                partition,
                causal: touched.causal,
                keys: before.saturating_add_signed(keys.get(&partition).copied().unwrap_or(0)),
                first_sync: touched.first_sync,
                leaves: leaves.remove(&partition).unwrap_or_default(),
                emptied: touched.emptied,
            }
        });
        let changes = changes.collect();
        std::mem::take(&mut self.collections).write(&mut self.batch);
        Ok(Prepared { batch: self.batch, changes, floors })
    }

    /// For every key of which a row appeared or vanished: 1 if the key is new, -1 if it is gone.
    fn appearances(&self) -> Result<Vec<(Partition, i64)>, ReplicaError> {
        let was_and_is = |cached: &Cached| (cached.counted, counts_for_key(&cached.address, &cached.row));
        let changes = |cached: &&Cached| {
            let (was, is) = was_and_is(cached);
            cached.dirty && was != is
        };
        let changed: BTreeSet<Bytes> = self.rows.borrow().values().filter(changes).map(|cached| cached.address.key.clone()).collect();
        let mut counts = Vec::new();
        for key in changed {
            let place = self.place(&key);
            let start = layout::rows_of_key(place, &key);
            let (mut before, mut after) = (false, false);
            if self.whole.borrow().contains(&start) {
                let rows = self.rows.borrow();
                for (_, cached) in rows.range(start.clone()..layout::end_of(&start)) {
                    let (was, is) = was_and_is(cached);
                    (before, after) = (before || was, after || is);
                }
            } else {
                (before, after) = self.had_and_has_elements(&key)?;
                let value = RowAddress::value(&key);
                let row_key = layout::row_key(place, &value);
                self.row_at(&row_key, &value)?;
                if let Some(cached) = self.rows.borrow().get(&row_key) {
                    let (was, is) = was_and_is(cached);
                    (before, after) = (before || was, after || is);
                }
            }
            counts.push((place.partition, i64::from(after) - i64::from(before)));
        }
        Ok(counts)
    }
}

impl Rows for Transaction<'_> {
    type Error = ReplicaError;

    fn row(&self, address: &RowAddress) -> Result<Row, ReplicaError> {
        self.row_at(&layout::row_key(self.place(&address.key), address), address)
    }

    fn visit_from(
        &self,
        key: &Bytes,
        kind: Kind,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), ReplicaError> {
        let start = layout::rows_of_key(self.place(key), key);
        let end = layout::end_of(&start);
        let mut first = start.clone();
        first.push(kind as u8);
        self.read_without_elements(key, &start)?;
        if self.whole.borrow().contains(&start) {
            for (_, cached) in self.rows.borrow().range(first..end).filter(|(_, cached)| !cached.row.is_empty()) {
                if visitor(&cached.address, &cached.row).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        if self.visit_rows(key, &first, &end, Order::Forward, visitor)? && kind == Kind::Expiry {
            self.whole.borrow_mut().insert(start);
        }
        Ok(())
    }

    fn summary(&self, key: &Bytes) -> Result<Summary, ReplicaError> {
        self.summarize(key)
    }

    fn visit_hashed(
        &self,
        key: &Bytes,
        kind: Kind,
        from_hash: u64,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), ReplicaError> {
        let (start, end) = layout::rows_from_hash(self.place(key), key, kind, from_hash);
        self.visit_rows(key, &start, &end, Order::Forward, visitor).map(drop)
    }

    fn visit_ranked(
        &self,
        key: &Bytes,
        order: sorted_set::Order,
        from: Option<Score>,
        visitor: &mut VisitRanked<'_>,
    ) -> Result<bool, ReplicaError> {
        self.visit_ranks(key, order, from, visitor)
    }

    fn visit_back(
        &self,
        key: &Bytes,
        kind: Kind,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), ReplicaError> {
        let mut start = layout::rows_of_key(self.place(key), key);
        start.push(kind as u8);
        self.visit_rows(key, &start, &layout::end_of(&start), Order::Back, visitor).map(drop)
    }
}

impl RowsMut for Transaction<'_> {
    fn put(&mut self, address: RowAddress, row: Row) {
        self.put_at(layout::row_key(self.place(&address.key), &address), address, row);
    }
}

#[cfg(test)]
mod collection_tests;
#[cfg(test)]
mod tests;
