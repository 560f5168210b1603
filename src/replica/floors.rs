//! Remembers where floors of this peer's own counter runs stand, so that they can be cleared once every replica has seen the runs end.
//!
//! Only runs begun since the partition's state id count: of older ones this peer can't tell that they are over, and their floors stay.
//! Such runs were begun by this process, so nothing has to be remembered on disk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Replica;
use crate::config::FLOORS_REMEMBERED;
use crate::crdt::dot::{Clock, Dot};
use crate::types::Partition;

/// Keys that hold floors of this peer's own runs.
#[derive(Debug, Default)]
pub struct OwnFloors {
    keys: BTreeMap<Partition, BTreeSet<Bytes>>,
}

impl OwnFloors {
    /// Notes whether a value row that was written holds such floors.
    pub(super) fn note(&mut self, partition: Partition, key: Bytes, holds: bool) {
        if !holds {
            if let Some(keys) = self.keys.get_mut(&partition) {
                keys.remove(&key);
            }
            return;
        }
        let keys = self.keys.entry(partition).or_default();
        if keys.len() < FLOORS_REMEMBERED {
            keys.insert(key);
        }
    }

    /// Forgets a partition whose state id is new: its runs are older now.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.keys.remove(&partition);
    }
}

impl Replica {
    /// The keys of each held partition that hold floors of this peer's own runs.
    #[must_use]
    pub fn own_floors(&self) -> Vec<(Partition, Vec<Bytes>)> {
        let held = self.floors.keys.iter().filter(|(partition, keys)| !keys.is_empty() && self.partition(**partition).counts_for_reads());
        held.map(|(partition, keys)| (*partition, keys.iter().cloned().collect())).collect()
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
