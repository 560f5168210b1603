//! Damage in what is derived of rows: noticed while the rows are looked over, and derived anew.
//!
//! Counts, ends and ranges are answered from what stands beside the rows ([`collection`](super::collection)), and expired rows are found by an index. No
//! tree covers these, since every replica has its own. Where one is lost or wrong, rows and trees are whole and answers are wrong all the same. So the
//! search for damage compares them too, within the snapshot that it reads:
//!
//! ```text
//! rows          for each key the record that they make, for each member its rank, for each end its place in the index     must be there
//! records, ranks                                                         as many as that: so none stands for nothing
//! ```
//!
//! An index entry of a row that is gone leads nowhere, and is left alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::collection::{self, Collection, Deriving, rank_value};
use super::layout::Damaged;
use super::transaction::{Prepared, ReplicaError, counts_for_key};
use super::{Replica, layout};
use crate::crdt::delta::{Row, RowAddress};
use crate::crdt::expiry::earliest_end;
use crate::env::{Batch, Snapshot, StorageError};
use crate::panics::caught;
use crate::types::{Partition, Place};

/// Compares what is derived with rows that are read in the order of storage.
#[derive(Default)]
pub(super) struct Comparing {
    /// The key whose rows are being read, where it lies, and what is derived of them.
    current: Option<(Bytes, Place, Collection)>,
    /// Records and ranks that there should be, less those that there are.
    excess: i64,
    /// Whether something was lacking or wrong.
    is_wrong: bool,
}

impl Comparing {
    /// Compares what is derived of a row.
    pub(super) fn take_in(
        &mut self,
        snapshot: &dyn Snapshot,
        partitions: u16,
        row_key: &[u8],
        (address, row, content): (&RowAddress, &Row, &Bytes),
    ) -> Result<(), StorageError> {
        if let Some(end) = earliest_end(row) {
            self.is_wrong |= snapshot.get(&layout::ending_key(end, row_key))?.is_none();
        }
        if !address.kind.has_elements() {
            return Ok(());
        }
        if self.current.as_ref().is_none_or(|(key, _, _)| *key != address.key) {
            self.settle(snapshot)?;
        }
        let (_, place, collection) =
            self.current.get_or_insert_with(|| (address.key.clone(), Place::of(&address.key, partitions), Collection::default()));
        collection.take_in(address, row, content);
        if let Some((rank_key, score)) = collection::rank(*place, address, row) {
            self.is_wrong |= snapshot.get(&rank_key)?.is_none_or(|value| value != rank_value(score));
            self.excess += 1;
        }
        Ok(())
    }

    /// Compares the record of the key whose rows were read.
    pub(super) fn settle(&mut self, snapshot: &dyn Snapshot) -> Result<(), StorageError> {
        let Some((key, place, derived)) = self.current.take() else { return Ok(()) };
        self.is_wrong |= Collection::read(snapshot, place, &key)?.is_none_or(|record| !derived.agrees_with(&record));
        self.excess += 1;
        Ok(())
    }

    /// Counts a record or rank that is there.
    pub(super) fn count(&mut self) {
        self.excess -= 1;
    }

    /// Whether all that is derived is right, once everything was read.
    pub(super) fn is_right(&self) -> bool {
        !self.is_wrong && self.excess == 0
    }
}

impl Replica {
    /// Derives anew what is derived of a partition's rows, in one step, and writes what was lacking or wrong. Answers with how much that was.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn derive_anew(&mut self, partition: Partition) -> Result<u64, ReplicaError> {
        let snapshot = self.storage.snapshot();
        let (mut deriving, mut ends, mut is_whole) = (Deriving::default(), Vec::new(), true);
        let (start, end) = layout::partition_range(partition);
        let partitions = self.partition_count();
        snapshot.scan(&start, &end, &mut |row_key, value| match whole(row_key, value, partitions) {
            Ok((address, row, content)) => {
                deriving.take_in(Place::of(&address.key, partitions), &address, &row, &content);
                ends.extend(earliest_end(&row).map(|end| layout::ending_key(end, row_key)));
                ControlFlow::Continue(())
            }
            Err(_) => {
                is_whole = false;
                ControlFlow::Break(())
            }
        })?;
        if !is_whole {
            // It starts anew, and with it what is derived.
            self.suspect(partition);
            return Ok(0);
        }
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> =
            deriving.finish().changes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let mut batch = Batch::default();
        for (start, end) in layout::derived_ranges(partition) {
            snapshot.scan(&start, &end, &mut |key, told| {
                match expected.remove(key) {
                    Some(value) if agrees(&value, told) => {}
                    Some(value) => batch.put(key.to_vec(), value),
                    None => batch.delete(key.to_vec()),
                }
                ControlFlow::Continue(())
            })?;
        }
        expected.into_iter().for_each(|(key, value)| batch.put(key, value));
        for ending_key in ends {
            if snapshot.get(&ending_key)?.is_none() {
                batch.put(ending_key, Vec::new());
            }
        }
        let mended = batch.changes.len() as u64;
        if mended > 0 {
            tracing::error!(%partition, mended, "what is derived of the rows of a partition was lost or wrong, and was derived anew");
            self.damage.derived += mended;
            self.commit(Prepared { batch, changes: Vec::new(), floors: Vec::new() })?;
        }
        Ok(mended)
    }
}

/// A row as it lies in storage, if it can be read, and all can be computed that is derived of it.
pub(super) fn whole(row_key: &[u8], value: &[u8], partitions: u16) -> Result<(RowAddress, Row, Bytes), Damaged> {
    let (address, row, content) = layout::read_row(row_key, &Bytes::copy_from_slice(value))?;
    let derived = caught(|| {
        let mut deriving = Deriving::default();
        deriving.take_in(Place::of(&address.key, partitions), &address, &row, &content);
        let _ = (deriving.finish(), counts_for_key(&address, &row));
    });
    derived.map_err(|panicked| Damaged(format!("row {}: {panicked}", layout::hex(row_key))))?;
    Ok((address, row, content))
}

/// Whether what is stored says the same as what was derived: two records also where the bounds of one are wider.
fn agrees(derived: &[u8], told: &[u8]) -> bool {
    let record = |bytes: &[u8]| Collection::from_bytes(&Bytes::copy_from_slice(bytes)).ok();
    derived == told || record(derived).zip(record(told)).is_some_and(|(derived, told)| derived.agrees_with(&told))
}
