//! A start, or a moment, at which a replica can't be sure any more to have everything that it acknowledged.
//!
//! The store fell back: its journal lost an end that had been promised to survive, or it was restored from a copy. Rows and clock fell back together, so
//! nothing is taken for deleted, and a fresh author mints no dot twice. But this replica was one of those that a quorum counted for a write, and that write
//! may be at one other peer only. Were it to go on counting for reads, a quorum of it and a third could miss what was acknowledged by a quorum:
//!
//! ```text
//! A B C    SET at A and B    B falls back    GET at B and C: nothing
//! ```
//!
//! So it counts again once it has pulled from so many of the other holders that each quorum of them and itself has one that was asked: a majority of
//! the others, as a newcomer does ([`FirstSync`]). That this is due is on disk before the fresh lease is: a crash between the two must not forget it.

use super::Replica;
use super::layout;
use super::partition::{FirstSync, Role};
use super::transaction::{ReplicaError, Transaction};
use crate::env::{Batch, Storage, StorageError};
use crate::types::Partition;

/// Where it is noted.
const RECORD: &str = "unproven";

/// Notes, durably, that what the store holds may not be all.
pub(super) fn note(storage: &dyn Storage) -> Result<(), StorageError> {
    let mut batch = Batch::default();
    batch.put(layout::named_key(RECORD), Vec::new());
    storage.commit(batch)?;
    storage.sync()
}

impl Replica {
    /// If the store may have fallen back, has every partition that this peer holds synced anew from its other holders before it counts for reads.
    /// To be called once the roles of a start are taken.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn prove(&mut self) -> Result<(), ReplicaError> {
        if self.named(RECORD)?.is_some() { self.distrust() } else { Ok(()) }
    }

    /// Has every partition that this peer holds synced anew.
    pub(super) fn distrust(&mut self) -> Result<(), ReplicaError> {
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        let mut count = 0;
        for (state, index) in self.partitions.iter().zip(0..).filter(|(state, _)| state.role == Role::Holder) {
            let mut first_sync = state.first_sync.clone().unwrap_or_default();
            first_sync.former.extend((!state.co_holders.is_empty()).then(|| state.co_holders.clone()));
            if !first_sync.former.is_empty() {
                let FirstSync { former, gone, .. } = first_sync;
                transaction.set_first_sync(Partition(index), Some(FirstSync { former, gone, ..FirstSync::default() }));
                count += 1;
            }
        }
        transaction.delete_record(layout::named_key(RECORD));
        let prepared = transaction.finish()?;
        self.commit(prepared)?;
        if count > 0 {
            tracing::error!(partitions = count, "this peer may lack what it had acknowledged: it syncs before it counts for reads again");
        }
        Ok(())
    }
}
