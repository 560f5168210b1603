//! Reading: one unchanging view, by way of fjall's own snapshots.
//!
//! fjall's plain `get` and `range` read the newest state item by item, and so see half batches. Its snapshots should not, but
//! in version 3.1.13 those do too that are taken while a batch is being written: a flush or compaction that ends in that
//! moment takes the next sequence number and declares everything up to it visible, the half batch below it included. So
//! only the committing thread takes snapshots, after each commit, and readers share the latest of them.
//!
//! fjall keeps its folder locked as long as anybody has a keyspace of it. So the snapshots of a store share one, which is taken from
//! them when the store is closed: whoever still holds a snapshot then can't read it any more, and keeps nobody from opening the folder.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, Readable};

use super::keys;
use super::suspicion::Suspicion;
use crate::env::storage::{MAX_STORAGE_KEY, Snapshot, StorageError, Visitor};

/// How often it is looked whether the last reader has finished.
const LOOK: Duration = Duration::from_millis(1);
/// How long readers are waited for: a disk that answers no more must not keep a peer from ending.
pub(super) const READERS_PATIENCE: Duration = Duration::from_secs(30);

/// What all snapshots of a store read from, as long as it is open.
pub(super) struct Readers {
    keyspace: ArcSwapOption<Keyspace>,
    suspicion: Arc<Suspicion>,
}

impl Readers {
    pub(super) fn new(keyspace: &Keyspace, suspicion: &Arc<Suspicion>) -> Self {
        Self { keyspace: ArcSwapOption::from_pointee(keyspace.clone()), suspicion: Arc::clone(suspicion) }
    }

    /// Lets those finish who read at this moment, and nobody read after them. Whoever is not done in time keeps the folder in use until it is.
    #[expect(clippy::disallowed_methods, reason = "closing blocks anyway, and no simulated store is closed by threads")]
    pub(super) fn close(&self, patience: Duration) {
        let Some(keyspace) = self.keyspace.swap(None) else { return };
        let begun = Instant::now();
        while Arc::strong_count(&keyspace) > 1 {
            if begun.elapsed() >= patience {
                return tracing::warn!("a read of the storage does not end: its folder is in use until it does");
            }
            thread::sleep(LOOK);
        }
    }

    fn keyspace(&self) -> Result<Arc<Keyspace>, StorageError> {
        self.keyspace.load_full().ok_or_else(|| StorageError::Failed("it is closed".to_owned()))
    }
}

/// A view of the keyspace at one commit.
pub(super) struct FjallSnapshot {
    readers: Arc<Readers>,
    view: fjall::Snapshot,
}

impl FjallSnapshot {
    /// Shows every batch that was committed. No batch may be on its way.
    pub(super) fn new(database: &Database, readers: &Arc<Readers>) -> Self {
        Self { readers: Arc::clone(readers), view: database.snapshot() }
    }

    /// Shows a visitor what of these is not this backend's own, until it breaks.
    fn each(&self, entries: impl Iterator<Item = Guard>, visit: Visitor<'_>) -> Result<(), StorageError> {
        for entry in entries {
            let (key, value) = entry.into_inner().map_err(|error| self.readers.suspicion.explain(&error))?;
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
        let keyspace = self.readers.keyspace()?;
        let value = self.view.get(&*keyspace, keys::stored_ref(key)).map_err(|error| self.readers.suspicion.explain(&error))?;
        // Copied, since fjall's slices keep the whole block that they lie in.
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        // fjall panics at a range that ends before it begins.
        if from >= until {
            return Ok(());
        }
        let keyspace = self.readers.keyspace()?;
        self.each(self.view.range(&*keyspace, keys::bound(from)..keys::bound(until)), visit)
    }

    fn scan_back(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        if from >= until {
            return Ok(());
        }
        let keyspace = self.readers.keyspace()?;
        self.each(self.view.range(&*keyspace, keys::bound(from)..keys::bound(until)).rev(), visit)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::mpsc;

    use super::*;
    use crate::backend::fjall::{FjallOptions, FjallStorage};
    use crate::env::storage::{Batch, Storage};

    #[test]
    fn a_read_that_does_not_end_is_not_waited_for_without_end_and_ends_as_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FjallStorage::open(folder.path(), FjallOptions::default()).unwrap();
        let mut batch = Batch::default();
        (0..3).for_each(|number| batch.put(vec![number], vec![number]));
        storage.commit(batch).unwrap();
        let (snapshot, readers) = (storage.snapshot(), Arc::clone(&storage.readers));
        let ((begun, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
        let reading = thread::spawn(move || {
            let mut rows = 0;
            let read = snapshot.scan(&[0], &[9], &mut |_, _| {
                rows += 1;
                let _ = begun.send(());
                let _ = may_go_on.recv();
                ControlFlow::Continue(())
            });
            read.map(|()| rows)
        });
        has_begun.recv().unwrap();
        readers.close(Duration::from_millis(20));
        drop(go_on);
        assert_eq!(reading.join().unwrap(), Ok(3));
        assert!(storage.snapshot().get(&[0]).is_err(), "nobody reads after that");
    }
}
