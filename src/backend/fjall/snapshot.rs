//! Reading: one unchanging view, by way of fjall's own snapshots.
//!
//! fjall's plain `get` and `range` read the newest state item by item, and so see half batches. Its snapshots should not, but
//! in version 3.1.13 those do too that are taken while a batch is being written: a flush or compaction that ends in that
//! moment takes the next sequence number and declares everything up to it visible, the half batch below it included. So
//! only the committing thread takes snapshots, after each commit, and readers share the latest of them.

use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, Readable};

use super::keys;
use super::suspicion::Suspicion;
use crate::env::storage::{MAX_STORAGE_KEY, Snapshot, StorageError, Visitor};

/// A view of the keyspace at one commit.
pub(super) struct FjallSnapshot {
    keyspace: Keyspace,
    view: fjall::Snapshot,
    suspicion: Arc<Suspicion>,
}

impl FjallSnapshot {
    /// Shows every batch that was committed. No batch may be on its way.
    pub(super) fn new(database: &Database, keyspace: &Keyspace, suspicion: &Arc<Suspicion>) -> Self {
        Self { keyspace: keyspace.clone(), view: database.snapshot(), suspicion: Arc::clone(suspicion) }
    }

    /// Shows a visitor what of these is not this backend's own, until it breaks.
    fn each(&self, entries: impl Iterator<Item = Guard>, visit: Visitor<'_>) -> Result<(), StorageError> {
        for entry in entries {
            let (key, value) = entry.into_inner().map_err(|error| self.suspicion.explain(&error))?;
            let Some(key) = keys::seam(&key) else { continue };
            if visit(key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Snapshot for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        if key.is_empty() || key.len() > MAX_STORAGE_KEY {
            return Err(StorageError::KeyLength(key.len()));
        }
        let value = self.view.get(&self.keyspace, keys::stored_ref(key)).map_err(|error| self.suspicion.explain(&error))?;
        // Copied, since fjall's slices keep the whole block that they lie in.
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        // fjall panics at a range that ends before it begins.
        if from >= until { Ok(()) } else { self.each(self.view.range(&self.keyspace, keys::bound(from)..keys::bound(until)), visit) }
    }

    fn scan_back(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        if from >= until { Ok(()) } else { self.each(self.view.range(&self.keyspace, keys::bound(from)..keys::bound(until)).rev(), visit) }
    }
}
