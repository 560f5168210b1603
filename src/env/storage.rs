//! The seam to the disk: one ordered map of bytes with atomic batches and snapshots, and one small record beside it.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// The longest key that a backend takes, in bytes. Keys are never empty.
pub const MAX_STORAGE_KEY: usize = 4096;

/// The longest value that a backend takes, in bytes: the longest of a client, several times over, for what stands around it.
pub const MAX_STORAGE_VALUE: usize = 64 * 1024 * 1024;

/// Changes that become visible and durable together. A later change of the same key beats an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys with their new values; `None` takes the key away.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Puts a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Takes a key away.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// Checks every key and value against the limits.
    ///
    /// # Errors
    /// For the first that exceeds them.
    pub fn check(&self) -> Result<(), StorageError> {
        for (key, value) in &self.changes {
            if key.is_empty() || key.len() > MAX_STORAGE_KEY {
                return Err(StorageError::KeyLength(key.len()));
            }
            if let Some(value) = value.as_ref().filter(|value| value.len() > MAX_STORAGE_VALUE) {
                return Err(StorageError::ValueLength(value.len()));
            }
        }
        Ok(())
    }
}

/// Why the disk did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The disk is full. A batch that fails so may all the same be there after a restart.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Reading or writing failed. A batch that fails so may all the same be there after a restart.
    #[error("the storage failed: {0}")]
    Failed(String),
    /// A key is too long or empty. Nothing was written.
    #[error("a key of {0} bytes is not between 1 and {MAX_STORAGE_KEY}")]
    KeyLength(usize),
    /// A value is too long. Nothing was written.
    #[error("a value of {0} bytes exceeds {MAX_STORAGE_VALUE}")]
    ValueLength(usize),
}

/// What is called with each key and value of a scan, until it breaks.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// One unchanging view of the map. Holds old versions alive: keep it short.
pub trait Snapshot: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// Where it could not be read; never in place of absence.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Visits keys in order, from `from` (included) to `until` (excluded), until the visitor breaks.
    ///
    /// # Errors
    /// Where a key could not be read; the visit ends there.
    fn scan(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError>;

    /// As [`Self::scan`], the other way: from the last key before `until` down to `from` (included).
    ///
    /// # Errors
    /// Where a key could not be read; the visit ends there.
    fn scan_back(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError>;
}

/// A future that a backend runs where its blocking calls harm nobody.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The disk of one peer.
///
/// Only the node's writer calls [`Storage::commit`]; anybody may take snapshots at any time.
pub trait Storage: Send + Sync + 'static {
    /// The state after the last commit.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Applies a batch as a whole. When it returns, snapshots show it and it survives the end of this process, though not yet
    /// the end of the machine. May block.
    ///
    /// # Errors
    /// Where a key or value exceeds the limits, and nothing was done. Otherwise the outcome is unknown until a restart, and
    /// every later commit fails too.
    fn commit(&self, batch: Batch) -> Result<(), StorageError>;

    /// Returns once every commit before it survives the end of the machine. May block.
    ///
    /// # Errors
    /// Where that could not be had; it is never to be tried again.
    fn sync(&self) -> Result<(), StorageError>;

    /// Reads the lease record: a small file beside the map that does not fall back when the map's journal does.
    /// `None` where there is none, or where it is not provably the file that [`Storage::put_lease`] last wrote here (it was
    /// copied or restored).
    ///
    /// # Errors
    /// Where it could not be read.
    fn lease(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces the lease record, durably when it returns. May block.
    ///
    /// # Errors
    /// Where the record may or may not have been replaced.
    fn put_lease(&self, record: &[u8]) -> Result<(), StorageError>;

    /// Whether the disk has room for more than deletes and bookkeeping. Where it has not, nothing that grows is to be committed; what was
    /// committed can be read, and it may have room again at any time.
    fn has_room(&self) -> bool {
        true
    }

    /// Runs a long-lived task that calls the blocking methods: on a thread of its own, or in the simulator as any other task.
    fn spawn(&self, name: &'static str, task: Task);
}
