//! Remembers where floors of this peer's own counter runs stand, so that they can be cleared once every replica has seen the runs end.
//!
//! Only runs begun since the partition's state id count: of older ones this peer can't tell that they are over, and their floors stay.
//! Such runs were begun by this process, so nothing has to be remembered on disk.

use std::collections::{BTreeMap, BTreeSet};

use super::Replica;
use crate::config::FLOORS_REMEMBERED;
use crate::crdt::delta::RowAddress;
use crate::crdt::dot::{Clock, Dot};
use crate::types::Partition;

/// Rows that hold floors of this peer's own runs.
#[derive(Debug, Default)]
pub struct OwnFloors {
    rows: BTreeMap<Partition, BTreeSet<RowAddress>>,
}

impl OwnFloors {
    /// Notes whether a row that was written holds such floors.
    pub(super) fn note(&mut self, partition: Partition, address: RowAddress, holds: bool) {
        if !holds {
            if let Some(rows) = self.rows.get_mut(&partition) {
                rows.remove(&address);
            }
            return;
        }
        let rows = self.rows.entry(partition).or_default();
        if rows.len() < FLOORS_REMEMBERED {
            rows.insert(address);
        }
    }

    /// Forgets a partition whose state id is new: its runs are older now.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.rows.remove(&partition);
    }
}

impl Replica {
    /// The rows of each held partition that hold floors of this peer's own runs.
    #[must_use]
    pub fn own_floors(&self) -> Vec<(Partition, Vec<RowAddress>)> {
        let held = self.floors.rows.iter().filter(|(partition, rows)| !rows.is_empty() && self.partition(**partition).counts_for_reads());
        held.map(|(partition, rows)| (*partition, rows.iter().cloned().collect())).collect()
    }

    /// The clocks of partitions that this peer holds, durable: nothing in them can be lost any more.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn durable_clocks(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Clock)>, super::transaction::ReplicaError> {
        self.sync()?;
        let held = partitions.iter().filter(|partition| {
            self.partitions.get(usize::from(partition.0)).is_some_and(super::partition::PartitionState::counts_for_reads)
        });
        Ok(held.map(|partition| (*partition, self.partition(*partition).causal.clock.clone())).collect())
    }

    /// Whether a run is this peer's own and was begun since the partition's state id was made.
    pub(super) fn is_own_run(&self, partition: Partition, run: &Dot) -> bool {
        run.actor == self.minter.actor() && run.counter >= self.partition(partition).runs_since
    }
}
