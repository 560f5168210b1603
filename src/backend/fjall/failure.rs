//! What fjall's errors mean to the layers above, and to whoever starts a peer.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::suspect;
use crate::env::StorageError;

/// Why a data folder can't be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error("another process is using {}; stop it first, or choose another data folder", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// The operating system doesn't let the folder or a file in it be used.
    #[error("{} can't be used: {source}", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The store was written by another version of this program.
    #[error("the store in {} was written by another version of this program ({found}); start that one, or move this folder away", path.display())]
    Version {
        /// The store's folder.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The store can't be read in full.
    #[error("the store in {} is damaged ({cause}); move this folder away and start again, and the other peers give the data back", path.display())]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
}

/// The error of an operation on an open store.
pub(super) fn explain(error: &fjall::Error) -> StorageError {
    if cause_of(error).is_some_and(is_full) { StorageError::Full(error.to_string()) } else { StorageError::Failed(error.to_string()) }
}

/// The error of writing one of the small files beside fjall.
pub(super) fn explain_io(error: &io::Error) -> StorageError {
    if is_full(error) { StorageError::Full(error.to_string()) } else { StorageError::Failed(error.to_string()) }
}

/// As [`explain`], where fjall may have poisoned itself earlier and forgotten why: a full disk shows when something small
/// is written to it.
pub(super) fn explain_write(error: &fjall::Error, folder: &Path) -> StorageError {
    match explain(error) {
        StorageError::Failed(text) if matches!(error, fjall::Error::Poisoned) && probe(folder).is_err_and(|error| is_full(&error)) => {
            StorageError::Full(text)
        }
        // A flush or compaction gave up, perhaps since it met damage.
        failed if matches!(error, fjall::Error::Poisoned) => {
            suspect::raise(folder);
            failed
        }
        other => other,
    }
}

/// The error of opening a store.
pub(super) fn explain_open(error: fjall::Error, store: &Path) -> OpenError {
    let path = store.to_owned();
    match error {
        fjall::Error::Locked => OpenError::InUse { folder: path },
        fjall::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => OpenError::Unusable { path, source },
        fjall::Error::InvalidVersion(found) => OpenError::Version { path, found: found.map_or("unknown".to_owned(), |v| format!("{v:?}")) },
        error => OpenError::Damaged { path, cause: error.to_string() },
    }
}

fn cause_of(error: &fjall::Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the disk still takes a little.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| file.write_all(&[0; 256 * 1024]).and_then(|()| file.sync_all()));
    // What could not be written leaves nothing behind that matters.
    let _ = std::fs::remove_file(&path);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error(kind: io::ErrorKind) -> fjall::Error {
        fjall::Error::Io(kind.into())
    }

    #[test]
    fn only_a_full_disk_is_called_full() {
        assert!(matches!(explain(&io_error(io::ErrorKind::StorageFull)), StorageError::Full(_)));
        assert!(matches!(explain(&io_error(io::ErrorKind::QuotaExceeded)), StorageError::Full(_)));
        let nested = fjall::Error::Storage(fjall::LsmError::Io(io::ErrorKind::StorageFull.into()));
        assert!(matches!(explain(&nested), StorageError::Full(_)));
        assert!(matches!(explain(&io_error(io::ErrorKind::PermissionDenied)), StorageError::Failed(_)));
        assert!(matches!(explain(&fjall::Error::Poisoned), StorageError::Failed(_)));
    }

    #[test]
    fn a_poisoned_store_on_a_disk_with_room_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(explain_write(&fjall::Error::Poisoned, folder.path()), StorageError::Failed(_)));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["suspect"], "the next start is told to look for damage, and nothing else is left");
    }
}
