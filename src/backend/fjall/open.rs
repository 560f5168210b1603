//! Opening a data folder: what is checked, in which order, and what is made of what is found.
//!
//! ```text
//! DIR/lock      held by the process that has the folder open
//! DIR/lease     how far this peer may have used its dots   (lease_file)
//! DIR/reach     how far the log must reach                 (reach)
//! DIR/store/    fjall's                                    (tables, journal)
//! DIR/suspect   there where something of the store could not be read while it was open
//! ```

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable};

use super::FjallOptions;
use super::failure::{OpenError, explain_open};
use super::journal::{self, Log, Unreadable};
use super::keys::COMMIT_NUMBER;
use super::reach::{Promise, Reach};
use super::{suspect, tables};
use crate::backend::lease_file::LeaseFile;
use crate::config;

/// Everything that an open store consists of.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) lease: LeaseFile,
    pub(super) reach: Reach,
    pub(super) database: Database,
    pub(super) keyspace: Keyspace,
    /// The number of the last commit.
    pub(super) number: u64,
    /// Whether commits are missing that had been promised to survive.
    pub(super) lost: bool,
}

pub(super) fn open(folder: &Path, options: &FjallOptions) -> Result<Opened, OpenError> {
    let lock = lock(folder)?;
    let (store, reach_path, lease_path) = (folder.join("store"), folder.join("reach"), folder.join("lease"));
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Unusable { path, source }
    };
    let lease = LeaseFile::open(&lease_path).map_err(unusable(&lease_path))?;
    let (mut reach, mut promise) = Reach::open(&reach_path).map_err(unusable(&reach_path))?;
    if !store.try_exists().map_err(unusable(&store))? {
        if promise.is_none() {
            promise = Some(Promise::default());
            reach.settle(Promise::default()).map_err(unusable(&reach_path))?;
        }
        create(folder, &store, options)?;
        suspect::forget(folder);
    }
    let explain = |error| match error {
        Unreadable::Io(path, source) => OpenError::Unusable { path, source },
        Unreadable::Damaged(cause) => OpenError::Damaged { path: store.clone(), cause },
    };
    tables::check(&store).map_err(explain)?;
    if suspect::stands(folder) {
        tables::check_in_full(&store).map_err(explain)?;
        suspect::forget(folder);
    }
    let log = journal::check(&store).map_err(explain)?;
    // What fjall says names no file. Damage that it finds is looked for.
    let named = |error| {
        if matches!(error, OpenError::Damaged { .. }) {
            tables::check_in_full(&store).map_err(explain).err().unwrap_or(error)
        } else {
            error
        }
    };
    let (database, keyspace) = open_database(&store, options).map_err(named)?;
    let number = verified_number(&store, &database, &keyspace, log).map_err(named)?;
    let lost = promise.is_none_or(|promise| promise.lost || number < promise.number);
    if lost {
        let promised = promise.map_or("an unknown number".to_owned(), |promise| promise.number.to_string());
        tracing::error!("{} ends at commit {number}, but had reached {promised}: a fresh incarnation is taken", store.display());
        reach.settle(Promise { number, lost }).map_err(unusable(&reach_path))?;
    }
    Ok(Opened { lock, lease, reach, database, keyspace, number, lost })
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Unusable { path: folder.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Makes an empty store under another name first: fjall can't open what it had not finished making when it was killed.
fn create(folder: &Path, store: &Path, options: &FjallOptions) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Unusable { path: store.to_owned(), source };
    let unfinished = folder.join("store.new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    drop(open_database(&unfinished, options)?);
    fs::rename(&unfinished, store).map_err(unusable)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)
}

fn open_database(store: &Path, options: &FjallOptions) -> Result<(Database, Keyspace), OpenError> {
    let open = || {
        let database = Database::builder(store)
            .cache_size(options.cache_bytes())
            .max_cached_files(Some(config::STORAGE_FILES))
            // The journal check reads what it can't unpack, and values hardly shrink for the short time they stay there.
            .journal_compression(CompressionType::None)
            // One for flushes, one for compactions.
            .worker_threads(2)
            .open()?;
        // Never sealed by fjall itself: see `rotation`.
        let keyspace = database.keyspace("data", || KeyspaceCreateOptions::default().max_memtable_size(u64::MAX))?;
        Ok((database, keyspace))
    };
    // fjall asserts here and there while it reads, and what it reads may be damaged.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| explain_open(error, store)),
        Err(panic) => Err(OpenError::Damaged { path: store.to_owned(), cause: text_of(&*panic) }),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    text.unwrap_or("fjall panicked").lines().next().unwrap_or_default().to_owned()
}

/// The number of the last commit, once it is certain that no commit before it is missing.
fn verified_number(store: &Path, database: &Database, keyspace: &Keyspace, log: Log) -> Result<u64, OpenError> {
    let path = || store.to_owned();
    let number_of = |value: Option<fjall::Slice>| match value {
        None => Ok(0),
        Some(value) => match value.first_chunk() {
            Some(number) if value.len() == 8 => Ok(u64::from_be_bytes(*number)),
            _ => Err(OpenError::Damaged { path: path(), cause: "its commit number can't be read".to_owned() }),
        },
    };
    let last = database.snapshot().get(keyspace, COMMIT_NUMBER).map_err(|error| explain_open(error, store))?;
    let number = number_of(last)?;
    let (Some(first), Some(last)) = (log.first, log.last) else { return Ok(number) };
    if number != last.number {
        let cause = format!("its tables reach commit {number}, its journal {}", last.number);
        return Err(OpenError::Damaged { path: path(), cause });
    }
    // What the tables hold must lead up to the journals. Where they overlap, they do; else they meet.
    let flushed = keyspace.tree.get_highest_persisted_seqno();
    if flushed.is_none_or(|flushed| flushed < first.sequence) {
        let before = keyspace.tree.get(COMMIT_NUMBER, first.sequence).map_err(|error| explain_open(error.into(), store))?;
        let before = number_of(before)?;
        if before + 1 != first.number {
            let cause = format!("its tables reach commit {before}, and its journals begin at {}", first.number);
            return Err(OpenError::Damaged { path: path(), cause });
        }
    }
    Ok(number)
}
