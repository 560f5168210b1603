//! Damaged rows: what is done about those that a write, a delta or a pull met, and the slow search for those that nobody meets.
//!
//! Whoever lists a leaf to a peer that pulls finds out whether it is whole ([`listing`](super::listing)). That leaves the rows of replicas that are equal by their
//! trees, which nobody lists: there damage at rest would wait until the other replicas are gone. So each partition is read from time to time, row by row, and
//! compared with its tree as it was at that moment, and with what is derived of its rows ([`derived`](super::derived)).
//!
//! A row that can't be read is set aside: its bytes go to a place of their own, for people to look at, and its partition is synced anew.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::derived::Comparing;
use super::leaf::NotTold;
use super::partition::Role;
use super::transaction::ReplicaError;
use super::{Replica, layout};
use crate::crdt::delta::RowAddress;
use crate::crdt::dot::Dot;
use crate::crdt::encode;
use crate::env::Snapshot;
use crate::panics::{Panicked, caught};
use crate::types::{Digest, LEAVES, Partition, Place};

/// What was found since the start, and what is left of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Times that a partition was found not to be whole.
    pub partitions: u64,
    /// Rows that were set aside, at earlier starts too.
    pub rows_aside: u64,
    /// Rows that could not be joined.
    pub rows_unjoined: u64,
    /// Records that are derived of rows and were lost or wrong.
    pub derived: u64,
}

impl Replica {
    /// Notes that a row could not be joined with the dots that came for it; or, without an address, a key on which a command failed.
    pub(super) fn note_unjoined(&mut self, key: &[u8], address: Option<RowAddress>, dots: Vec<Dot>, why: &Panicked) {
        self.unjoined.note(Place::of(key, self.partition_count()), key, address, dots, why.clone());
        self.damage.rows_unjoined = self.unjoined.count();
        self.publish();
    }

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

    /// Has a partition started anew in which somebody who read met a row that can't be read, unless it is being synced already.
    pub fn met_damage(&mut self, partition: Partition) {
        if self.partitions.get(usize::from(partition.0)).is_some_and(|state| state.first_sync.is_none()) {
            self.suspect(partition);
        }
    }

    /// Begins to read a partition, as it is at this moment. `None` where there is nothing to read.
    #[must_use]
    pub fn begin_scrub(&self, partition: Partition) -> Option<Scrub> {
        let state = self.partitions.get(usize::from(partition.0)).filter(|state| state.role != Role::Absent)?;
        let [records, ranks] = layout::derived_ranges(partition);
        let digests = (0..LEAVES).map(|leaf| state.tree.leaf(leaf)).collect();
        Some(Scrub {
            snapshot: self.storage.snapshot(),
            partitions: self.partition_count(),
            digests,
            ranges: vec![ranks, records, layout::partition_range(partition)],
            leaf: 0,
            sum: Digest::default(),
            derived: Comparing::default(),
        })
    }
}

/// A partition that is being read. Holds old versions of its rows alive.
pub struct Scrub {
    snapshot: Arc<dyn Snapshot>,
    partitions: u16,
    digests: Vec<Digest>,
    /// What is left to be read: the ranks, before them the records, before those the rows.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    /// The leaf that is being added up, and its sum so far.
    leaf: usize,
    sum: Digest,
    derived: Comparing,
}

impl Scrub {
    /// Reads on, about `room` bytes. Whether that was the end.
    ///
    /// # Errors
    /// `NotWhole` where rows are missing or damaged.
    pub fn read_on(&mut self, room: usize) -> Result<bool, NotTold> {
        let Some((start, end)) = self.ranges.pop() else { return Ok(true) };
        let snapshot = Arc::clone(&self.snapshot);
        let (mut used, mut goes_on, mut read) = (0, None, Ok(()));
        snapshot.scan(&start, &end, &mut |key, value| {
            if used >= room {
                goes_on = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            used += key.len() + value.len();
            if key.first() == Some(&b'r') {
                read = self.take_in(key, value);
            } else {
                self.derived.count();
            }
            if read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        read?;
        match goes_on {
            Some(start) => self.ranges.push((start, end)),
            None if start.first() == Some(&b'r') => {
                self.check_rest()?;
                self.derived.settle(&*snapshot)?;
            }
            None => {}
        }
        Ok(self.ranges.is_empty())
    }

    /// Whether what is derived of the rows is right, once all was read.
    #[must_use]
    pub fn is_derived_right(&self) -> bool {
        self.derived.is_right()
    }

    fn take_in(&mut self, row_key: &[u8], value: &[u8]) -> Result<(), NotTold> {
        while self.leaf < layout::leaf_of(row_key) {
            if self.digests.get(self.leaf) != Some(&self.sum) {
                return Err(NotTold::NotWhole);
            }
            (self.leaf, self.sum) = (self.leaf + 1, Digest::default());
        }
        let (address, row, content) = layout::read_row(row_key, &Bytes::copy_from_slice(value)).map_err(|_| NotTold::NotWhole)?;
        self.sum = self.sum.plus(encode::stored_row_digest(&address, &content));
        let Self { snapshot, derived, partitions, .. } = self;
        // A row of which nothing can be derived is found once more and set aside where the partition starts anew; this reading ends here.
        let derived = caught(|| derived.take_in(&**snapshot, *partitions, row_key, (&address, &row, &content)));
        Ok(derived.map_err(|_| NotTold::NotWhole)??)
    }

    /// Of all leaves that are left, the first has the last sum, and the others are empty.
    fn check_rest(&self) -> Result<(), NotTold> {
        let empty = Digest::default();
        let sums = std::iter::once(&self.sum).chain(std::iter::repeat_n(&empty, LEAVES - 1 - self.leaf));
        if self.digests.iter().skip(self.leaf).eq(sums) { Ok(()) } else { Err(NotTold::NotWhole) }
    }
}

/// A damaged row as it lay in storage.
pub(super) type Spoiled = (Vec<u8>, Bytes);
