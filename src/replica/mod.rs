//! One peer's partitions: their rows, clocks and trees, changed together in one atomic batch.
//!
//! Only the writer ([`owner`]) holds a [`Replica`]; everybody else reads the last published [`view`]. Every change, wherever
//! it comes from, ends in the same join and the same commit.

pub mod answering;
pub mod aside;
pub mod awaited;
pub mod collection;
pub mod comparing;
pub mod damage;
pub mod derived;
pub mod execution;
pub mod expired;
pub mod floors;
pub mod hints;
pub mod journal;
pub mod keys;
pub mod layout;
pub mod leaf;
pub mod lease;
pub mod listing;
pub mod minter;
pub mod owner;
pub mod partition;
pub mod pulling;
pub mod roles;
pub mod transaction;
pub mod unproven;
pub mod view;
pub mod waiting;
pub mod whose;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::aside::Unjoined;
use self::awaited::Awaited;
use self::damage::Damage;
use self::floors::OwnFloors;
use self::layout::Damaged;
use self::minter::Minter;
use self::partition::{Checkpoint, PartitionState};
use self::pulling::Pulls;
use self::transaction::{Prepared, ReplicaError, Transaction};
use self::view::{Shown, View};
use crate::env::{Batch, Clock, Storage, StorageError};
use crate::types::Partition;

/// Batches after which the journal is folded into checkpoints: bounds what a start replays.
const CHECKPOINT_RECORDS: u64 = 4096;
/// Journal bytes after which the journal is folded into checkpoints.
const CHECKPOINT_BYTES: usize = 8 * 1024 * 1024;

/// Why a replica could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed, or holds something else than was written.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The store was made for another number of partitions.
    #[error(
        "the data folder was made with {stored} partitions and can't be used with {asked}: start with --partitions {stored}, or with another folder"
    )]
    Partitions {
        /// What the store was made for.
        stored: u16,
        /// What was asked for.
        asked: u16,
    },
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        Self::Replica(error.into())
    }
}

impl From<Damaged> for OpenError {
    fn from(error: Damaged) -> Self {
        Self::Replica(error.into())
    }
}

/// All partitions of one peer. Lives with the writer.
pub struct Replica {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    partitions: Vec<PartitionState>,
    /// The name of the ring that the roles follow from.
    ring: u64,
    minter: Minter,
    pulls: Pulls,
    floors: OwnFloors,
    awaited: Awaited,
    view: Arc<ArcSwap<View>>,
    journal: Journal,
    next_hint: u64,
    hints: u64,
    random: SmallRng,
    /// Partitions in which a row was met that can't be read.
    suspects: BTreeSet<Partition>,
    unjoined: Unjoined,
    damage: Damage,
    /// What readers were told last of the disk's room.
    had_room: bool,
}

/// Where the journal of batches stands.
struct Journal {
    next: u64,
    first: u64,
    bytes: usize,
}

impl Replica {
    /// Opens what the storage holds: checkpoints and the journal since, never the rows.
    ///
    /// # Errors
    /// Where the storage cannot be read, or was made for another number of partitions.
    pub fn open(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, partitions: u16, seed: u64) -> Result<Self, OpenError> {
        let mut random = SmallRng::seed_from_u64(seed);
        let snapshot = storage.snapshot();
        let settings_key = layout::named_key("partitions");
        let settings = snapshot.get(&settings_key)?;
        let lease = minter::last_lease(&*storage)?;
        if settings.is_some() && lease.is_none() {
            unproven::note(&*storage)?;
        }
        match settings {
            Some(bytes) => {
                let stored: u16 = partition::from_bytes("the number of partitions", &bytes)?;
                if stored != partitions {
                    return Err(OpenError::Partitions { stored, asked: partitions });
                }
            }
            None => {
                let mut batch = Batch::default();
                batch.put(settings_key, partition::to_bytes(&partitions));
                storage.commit(batch)?;
            }
        }
        let minter = Minter::open(Arc::clone(&storage), lease, Arc::clone(&clock), partitions, &mut random)?;
        let mut states: Vec<PartitionState> =
            (0..partitions).map(|index| PartitionState::empty(random.random(), minter.next_counter(Partition(index)))).collect();
        for (index, state) in states.iter_mut().enumerate() {
            let key = layout::checkpoint_key(Partition(u16::try_from(index).unwrap_or(u16::MAX)));
            if let Some(bytes) = snapshot.get(&key)? {
                state.restore(partition::from_bytes::<Checkpoint>("a checkpoint", &bytes)?)?;
            }
        }
        let journal = replay(&*snapshot, &mut states)?;
        let (next_hint, hints) = hints::count(&*snapshot)?;
        let damage = Damage { rows_aside: aside::count(&*snapshot)?, ..Damage::default() };
        drop(snapshot);
        let had_room = storage.has_room();
        let view = View::new(storage.snapshot(), &states, 0, &minter, (Shown { hints, damage, has_room: had_room }, Unjoined::default()));
        let view = Arc::new(ArcSwap::from_pointee(view));
        let mut replica = Self {
            storage,
            clock,
            partitions: states,
            ring: 0,
            minter,
            pulls: Pulls::default(),
            floors: OwnFloors::default(),
            awaited: Awaited::default(),
            view,
            journal,
            next_hint,
            hints,
            random,
            suspects: BTreeSet::new(),
            unjoined: Unjoined::default(),
            damage,
            had_room,
        };
        replica.minter.check_clocks(&replica.partitions, &mut replica.random)?;
        Ok(replica)
    }

    /// Where others read what was committed last.
    #[must_use]
    pub fn view(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.view)
    }

    /// Who waits for what is committed.
    #[must_use]
    pub fn awaited(&self) -> Awaited {
        self.awaited.clone()
    }

    /// The state of one partition.
    #[must_use]
    pub fn partition(&self, partition: Partition) -> &PartitionState {
        &self.partitions[usize::from(partition.0)]
    }

    /// The state of one partition; its tree answers only to a mutable borrow, since it computes what it is asked for.
    pub fn partition_mut(&mut self, partition: Partition) -> &mut PartitionState {
        &mut self.partitions[usize::from(partition.0)]
    }

    /// The name of the ring that this peer's roles follow from.
    #[must_use]
    pub fn ring(&self) -> u64 {
        self.ring
    }

    /// The number of partitions.
    #[must_use]
    pub fn partition_count(&self) -> u16 {
        u16::try_from(self.partitions.len()).unwrap_or(u16::MAX)
    }

    /// Commits a transaction and publishes it. On an error nothing in memory has changed.
    fn commit(&mut self, prepared: Prepared) -> Result<(), ReplicaError> {
        let Prepared { mut batch, changes, floors } = prepared;
        if batch.changes.is_empty() && changes.is_empty() {
            return Ok(());
        }
        if !changes.is_empty() {
            let bytes = journal::to_bytes(&changes, &self.partitions);
            self.journal.bytes += bytes.len();
            batch.put(layout::journal_key(self.journal.next), bytes);
            self.journal.next += 1;
        }
        self.minter.lease_time(self.clock.wall_ms())?;
        let touched = self.awaited.touched(&batch);
        self.storage.commit(batch)?;
        for change in changes {
            self.partitions[usize::from(change.partition.0)].apply(change);
        }
        for (partition, address, runs) in floors {
            let holds = runs.iter().any(|run| self.is_own_run(partition, run));
            self.floors.note(partition, address, holds);
        }
        self.publish();
        self.awaited.wake(&touched);
        if self.journal.next - self.journal.first >= CHECKPOINT_RECORDS || self.journal.bytes >= CHECKPOINT_BYTES {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Shows readers what was committed last.
    fn publish(&self) {
        let shown = Shown { hints: self.hints, damage: self.damage, has_room: self.had_room };
        self.view.store(Arc::new(View::new(
            self.storage.snapshot(),
            &self.partitions,
            self.ring,
            &self.minter,
            (shown, self.unjoined.clone()),
        )));
    }

    /// Whether the disk has room for what grows. Says so where that has changed.
    pub fn has_room(&mut self) -> bool {
        let has_room = self.storage.has_room();
        if has_room != self.had_room {
            self.had_room = has_room;
            self.publish();
            if has_room {
                tracing::warn!("the disk has room again: this peer takes writes");
            } else {
                tracing::error!("the disk is full: this peer takes deletes and no other writes, and answers reads, until there is room");
            }
        }
        has_room
    }

    /// Folds the journal into checkpoints of the partitions that changed.
    fn checkpoint(&mut self) -> Result<(), ReplicaError> {
        let mut batch = Batch::default();
        for (index, state) in self.partitions.iter().enumerate().filter(|(_, state)| state.changed) {
            let partition = Partition(u16::try_from(index).unwrap_or(u16::MAX));
            batch.put(layout::checkpoint_key(partition), partition::to_bytes(&state.checkpoint()));
        }
        for number in self.journal.first..self.journal.next {
            batch.delete(layout::journal_key(number));
        }
        self.storage.commit(batch)?;
        self.partitions.iter_mut().for_each(|state| state.changed = false);
        self.journal.first = self.journal.next;
        self.journal.bytes = 0;
        Ok(())
    }

    /// Makes everything durable and notes that nothing was lost, so that the next start goes on exactly here.
    ///
    /// # Errors
    /// Where the disk failed; the next start then leaves a gap in its dots, and loses nothing else.
    pub fn close(&mut self) -> Result<(), ReplicaError> {
        self.checkpoint()?;
        self.storage.sync()?;
        self.minter.close()?;
        Ok(())
    }

    fn begin(&self) -> Transaction<'_> {
        Transaction::begin(&self.partitions, self.storage.snapshot())
    }
}

/// Applies the journal records to the checkpoints.
fn replay(snapshot: &dyn crate::env::Snapshot, states: &mut [PartitionState]) -> Result<Journal, ReplicaError> {
    let mut journal = Journal { next: 1, first: 1, bytes: 0 };
    let mut first = None;
    let mut records: Vec<(u64, Bytes)> = Vec::new();
    snapshot.scan(b"j", b"k", &mut |key, value| {
        if let Some(number) = key.get(1..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes) {
            records.push((number, Bytes::copy_from_slice(value)));
        }
        ControlFlow::Continue(())
    })?;
    for (number, bytes) in records {
        first.get_or_insert(number);
        journal.next = number.saturating_add(1);
        journal.bytes += bytes.len();
        journal::replay(&bytes, states).map_err(|Damaged(what)| Damaged(format!("journal record {number}: {what}")))?;
    }
    journal.first = first.unwrap_or(journal.next);
    Ok(journal)
}

#[cfg(test)]
mod tests;
