//! The disk of a real peer: fjall, an LSM tree with a journal, and two small files beside it.
//!
//! One keyspace holds everything, since rows and clocks must fall back together when the end of the journal is lost. What must
//! *not* fall back with it, the lease of dots, lies beside it. Around fjall stand, each in a file of its own:
//!
//! - `rotation`: memtables are sealed by us, because fjall's own way deadlocks under load;
//! - `journal` and `reach`: a log that ends early, or has a hole, does not pass for a complete one;
//! - `tables`: files of the LSM tree that are missing or damaged are noticed before fjall meets them, and named;
//! - `open`: the order of checks at the start; `failure`: what errors mean; `suspicion`: what follows where reading fails;
//! - `room`: a full disk is noticed before fjall meets it;
//! - `keys`, `snapshot`: one key is kept for ourselves, and reads see whole batches only;
//! - `tasks`: threads for those who block.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arc_swap::ArcSwap;
use fjall::{Database, Keyspace, PersistMode};

mod failure;
mod journal;
mod keys;
mod open;
mod reach;
mod room;
mod rotation;
mod snapshot;
mod suspect;
mod suspicion;
mod tables;
mod tasks;

pub use failure::OpenError;
pub use room::has_room;

use self::failure::{explain_io, explain_write};
use self::reach::Reach;
use self::room::Room;
use self::rotation::Stalled;
use self::snapshot::{FjallSnapshot, READERS_PATIENCE, Readers};
use self::suspicion::Suspicion;
use self::tasks::Tasks;
use super::lease_file::LeaseFile;
use crate::config;
use crate::env::storage::{Batch, Snapshot, Storage, StorageError, Task};

/// How much memory a store takes, and how it divides it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FjallOptions {
    /// Budget for cached blocks and memtables together, in bytes.
    pub memory_bytes: u64,
    /// Size at which a memtable is sealed and flushed, in bytes.
    pub memtable_bytes: u64,
}

const MIB: u64 = 1 << 20;

impl FjallOptions {
    /// Divides a budget: about a quarter for memtables, the rest for cached blocks.
    #[must_use]
    pub fn new(memory_bytes: u64) -> Self {
        Self { memory_bytes, memtable_bytes: (memory_bytes / 16).clamp(MIB, 32 * MIB) }
    }

    fn cache_bytes(&self) -> u64 {
        let memtables = self.memtable_bytes.saturating_mul(config::SEALED_MEMTABLES as u64 + 1);
        self.memory_bytes.saturating_sub(memtables).max(MIB)
    }
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self::new(256 * MIB)
    }
}

/// An open data folder.
///
/// Dropping it waits for the tasks it runs and, for a while, for those who read at that moment, makes everything durable, and closes the folder. Snapshots that
/// are still held then can't be read any more.
pub struct FjallStorage {
    tasks: Tasks,
    /// The state after the last commit: see `snapshot`.
    latest: ArcSwap<FjallSnapshot>,
    readers: Arc<Readers>,
    keyspace: Keyspace,
    database: Database,
    options: FjallOptions,
    folder: PathBuf,
    /// Held while a batch is written, for seconds where the disk does not keep up.
    committing: Mutex<()>,
    /// The number of the last commit.
    number: AtomicU64,
    /// Held while a few bytes are written.
    reach: Mutex<Reach>,
    /// Held while a few bytes are written and synced.
    lease: Mutex<LeaseFile>,
    /// Set once nothing may be written any more.
    failure: OnceLock<StorageError>,
    /// Set once something could not be read.
    suspicion: Arc<Suspicion>,
    room: Room,
    /// Whether this start found commits missing.
    lost_tail: bool,
    /// Whether no lease has been written since commits were found missing.
    lease_void: AtomicBool,
    /// Released last, when all else is closed.
    _lock: std::fs::File,
}

impl FjallStorage {
    /// Opens a data folder, or makes it.
    ///
    /// # Errors
    /// Where another process has it open, where it can't be used, or where it is damaged beyond a lost end.
    pub fn open(folder: &Path, options: FjallOptions) -> Result<Self, OpenError> {
        let opened = open::open(folder, &options)?;
        let suspicion = Arc::new(Suspicion::new(folder));
        let readers = Arc::new(Readers::new(&opened.keyspace, &suspicion));
        Ok(Self {
            tasks: Tasks::default(),
            latest: ArcSwap::from_pointee(FjallSnapshot::new(&opened.database, &readers)),
            readers,
            keyspace: opened.keyspace,
            database: opened.database,
            options,
            folder: folder.to_owned(),
            committing: Mutex::default(),
            number: AtomicU64::new(opened.number),
            reach: Mutex::new(opened.reach),
            lease: Mutex::new(opened.lease),
            failure: OnceLock::new(),
            suspicion,
            room: Room::default(),
            lost_tail: opened.lost,
            lease_void: AtomicBool::new(opened.lost),
            _lock: opened.lock,
        })
    }

    /// Whether this start found that commits are missing which had been promised to survive. The lease is void then, so that
    /// the peer takes a fresh incarnation.
    #[must_use]
    pub fn lost_tail(&self) -> bool {
        self.lost_tail
    }

    /// Whether it takes no more writes since the disk was full.
    #[must_use]
    pub fn failed_for_room(&self) -> bool {
        matches!(self.failure.get(), Some(StorageError::Full(_)))
    }

    /// Waits until every task that was given to [`Storage::spawn`] has ended, except the one that this is called from.
    pub fn join_tasks(&self) {
        self.tasks.join();
    }

    /// Memtables that wait to be flushed, and the bytes in all of them with the active one. fjall takes a flushed memtable
    /// off the second a little after the first.
    #[must_use]
    pub fn unflushed(&self) -> (usize, u64) {
        use fjall::AbstractTree;
        (self.keyspace.tree.sealed_memtable_count(), self.database.write_buffer_size())
    }

    fn alive(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))?;
        self.suspicion.check()
    }

    /// Remembers the first failure, after which nothing is written any more.
    fn fail(&self, failure: StorageError) -> StorageError {
        self.failure.get_or_init(|| {
            tracing::error!("the storage in {} takes no more writes: {failure}", self.folder.display());
            failure
        });
        self.failure.get().cloned().unwrap_or_else(|| StorageError::Failed("unknown".to_owned()))
    }

    fn write(&self, mut batch: Batch) -> Result<(), StorageError> {
        let explained = |error| explain_write(&error, &self.folder);
        self.make_room()?;
        let number = self.number.load(Ordering::Relaxed) + 1;
        let mut written = self.database.batch();
        written.insert(&self.keyspace, keys::COMMIT_NUMBER, number.to_be_bytes());
        // All changes of a batch get one sequence number, so fjall must see each key once: as it was changed last.
        batch.changes.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut changes = batch.changes.into_iter().peekable();
        while let Some((key, value)) = changes.next() {
            if changes.peek().is_some_and(|(next, _)| *next == key) {
                continue;
            }
            match value {
                Some(value) => written.insert(&self.keyspace, keys::stored(key), value),
                None => written.remove(&self.keyspace, keys::stored(key)),
            }
        }
        written.commit().map_err(explained)?;
        self.number.store(number, Ordering::Release);
        self.latest.store(Arc::new(FjallSnapshot::new(&self.database, &self.readers)));
        Ok(())
    }

    /// Seals a full memtable. What it holds is promised to survive first, so that tables never know more than `reach`.
    fn make_room(&self) -> Result<(), StorageError> {
        let is_sealed = rotation::make_room(&self.database, &self.keyspace, self.options.memtable_bytes, || self.promise());
        is_sealed.map_err(|stalled| match stalled {
            Stalled::Timeout => StorageError::Failed(format!("the disk took no data for {} s", config::STORAGE_STALL.as_secs())),
            Stalled::Fjall(error) => explain_write(&error, &self.folder),
            Stalled::Promise(error) => error,
        })
    }

    /// Makes every commit so far durable, and remembers that durably.
    fn promise(&self) -> Result<(), StorageError> {
        self.persist()?;
        locked(&self.reach)?.sync().map_err(|error| explain_io(&error))
    }

    fn persist(&self) -> Result<(), StorageError> {
        let number = self.number.load(Ordering::Acquire);
        self.database.persist(PersistMode::SyncData).map_err(|error| explain_write(&error, &self.folder))?;
        locked(&self.reach)?.reached(number).map_err(|error| explain_io(&error))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, StorageError> {
    mutex.lock().map_err(|_| StorageError::Failed("an earlier write panicked".to_owned()))
}

impl Storage for FjallStorage {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.latest.load_full()
    }

    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        batch.check()?;
        if batch.changes.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = locked(&self.committing)?;
        self.alive()?;
        self.write(batch).map_err(|error| self.fail(error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.alive()?;
        self.persist().map_err(|error| self.fail(error))
    }

    fn lease(&self) -> Result<Option<Vec<u8>>, StorageError> {
        if self.lease_void.load(Ordering::Acquire) { Ok(None) } else { Ok(locked(&self.lease)?.record()) }
    }

    fn put_lease(&self, record: &[u8]) -> Result<(), StorageError> {
        locked(&self.lease)?.replace(record).map_err(|error| explain_io(&error))?;
        locked(&self.reach)?.forgive().map_err(|error| explain_io(&error))?;
        self.lease_void.store(false, Ordering::Release);
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.room.is_there(&self.folder, &self.options)
    }

    fn spawn(&self, name: &'static str, task: Task) {
        self.tasks.spawn(name, task);
    }
}

impl Drop for FjallStorage {
    fn drop(&mut self) {
        self.tasks.join();
        if self.alive().is_ok()
            && let Err(error) = self.promise()
        {
            tracing::error!("the storage in {} could not be closed cleanly: {error}", self.folder.display());
        }
        self.readers.close(READERS_PATIENCE);
    }
}
