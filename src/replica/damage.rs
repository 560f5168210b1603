//! Damaged rows: what is done about those that a write, a delta or a pull met, and the slow search for those that nobody meets.
//!
//! Whoever lists a leaf to a peer that pulls finds out whether it is whole ([`listing`](super::listing)). That leaves the rows of replicas that are equal by their
//! trees, which nobody lists: there damage at rest would wait until the other replicas are gone. So each partition is read from time to time, row by row, and
//! compared with its tree as it was at that moment.
//!
//! A row that can't be read is set aside: its bytes go to a place of their own, for people to look at, and its partition is synced anew.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::collection::Deriving;
use super::layout::Damaged;
use super::leaf::{self, NotTold};
use super::partition::Role;
use super::transaction::{ReplicaError, counts_for_key};
use super::{Replica, layout};
use crate::crdt::delta::{Row, RowAddress};
use crate::env::{Snapshot, StorageError};
use crate::panics::caught;
use crate::types::{Digest, LEAVES, Partition, Place};

/// Damaged rows that are kept at most: more of them are one damage, and tell no more.
pub(super) const MOST_ASIDE: u64 = 1024;

/// What was found since the start, and what is left of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Times that a partition was found not to be whole.
    pub partitions: u64,
    /// Rows that were set aside, at earlier starts too.
    pub rows_aside: u64,
    /// Rows that could not be joined.
    pub rows_unjoined: u64,
}

/// Counts the rows that were set aside.
pub(super) fn count_aside(snapshot: &dyn Snapshot) -> Result<u64, StorageError> {
    let mut count = 0;
    snapshot.scan(b"d", b"e", &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

impl Replica {
    /// Notes that a row of a partition can't be read.
    pub(super) fn suspect(&mut self, partition: Partition) {
        if usize::from(partition.0) < self.partitions.len() {
            self.suspects.insert(partition);
        }
    }

    /// Starts the partitions anew in which somebody met a row that can't be read.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn restart_suspects(&mut self) -> Result<(), ReplicaError> {
        for partition in std::mem::take(&mut self.suspects) {
            let others: BTreeSet<_> = self.partition(partition).co_holders.clone();
            self.restart_damaged(partition, others)?;
        }
        Ok(())
    }

    /// Begins to read a partition, as it is at this moment. `None` where there is nothing to read.
    #[must_use]
    pub fn begin_scrub(&self, partition: Partition) -> Option<Scrub> {
        let state = self.partitions.get(usize::from(partition.0)).filter(|state| state.role != Role::Absent)?;
        let (next, end) = layout::partition_range(partition);
        let digests = (0..LEAVES).map(|leaf| state.tree.leaf(leaf)).collect();
        Some(Scrub { snapshot: self.storage.snapshot(), digests, next, end, leaf: 0, sum: Digest::default() })
    }
}

/// A partition that is being read. Holds old versions of its rows alive.
pub struct Scrub {
    snapshot: Arc<dyn Snapshot>,
    digests: Vec<Digest>,
    next: Vec<u8>,
    end: Vec<u8>,
    /// The leaf that is being added up, and its sum so far.
    leaf: usize,
    sum: Digest,
}

impl Scrub {
    /// Reads on, about `room` bytes. Whether that was the end.
    ///
    /// # Errors
    /// `NotWhole` where rows are missing or damaged.
    pub fn read_on(&mut self, room: usize) -> Result<bool, NotTold> {
        let Self { snapshot, digests, next, end, leaf, sum } = self;
        let (mut used, mut is_whole, mut goes_on) = (0, true, None);
        snapshot.scan(next, end, &mut |row_key, value| {
            if used >= room {
                goes_on = Some(row_key.to_vec());
                return ControlFlow::Break(());
            }
            used += row_key.len() + value.len();
            while *leaf < layout::leaf_of(row_key) && is_whole {
                is_whole = digests.get(*leaf) == Some(sum);
                (*leaf, *sum) = (*leaf + 1, Digest::default());
            }
            match leaf::read(row_key, value) {
                Ok((_, _, digest)) => *sum = sum.plus(digest),
                Err(_) => is_whole = false,
            }
            if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if is_whole && goes_on.is_none() {
            // Of all leaves that are left, the first has this sum, and the others are empty.
            is_whole =
                digests.iter().skip(*leaf).eq(std::iter::once(&*sum).chain(std::iter::repeat_n(&Digest::default(), LEAVES - 1 - *leaf)));
        }
        let is_end = goes_on.is_none();
        *next = goes_on.unwrap_or_default();
        if is_whole { Ok(is_end) } else { Err(NotTold::NotWhole) }
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

/// The key under which a damaged row is set aside.
pub(super) fn aside_key(row_key: &[u8]) -> Vec<u8> {
    [b"d", row_key].concat()
}

/// A damaged row as it lay in storage.
pub(super) type Spoiled = (Vec<u8>, Bytes);
