//! What becomes of a store in which something can't be read while it is open.
//!
//! A row that can't be read says nothing about whether it is there, and fjall can't give up a part of a table: whoever merges that table with another meets
//! the same damage. So nothing more is written, the peer stops, and a file beside the store tells the next start to read every table in full and
//! to refuse, naming the one that is damaged. Where they all turn out to be whole (it was the controller, not the disk), the peer goes on.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fjall::LsmError;

use super::failure::explain;
use super::suspect;
use crate::env::storage::StorageError;

/// Whether something of a store could not be read since it was opened. Shared by all its snapshots.
pub(super) struct Suspicion {
    folder: PathBuf,
    failure: OnceLock<StorageError>,
}

impl Suspicion {
    /// Nothing is suspected of a store that has just been opened.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), failure: OnceLock::new() }
    }

    /// What the error of a read means. Damage is noted for the next start.
    pub(super) fn explain(&self, error: &fjall::Error) -> StorageError {
        if !is_damage(error) {
            return explain(error);
        }
        self.failure
            .get_or_init(|| {
                let store = self.folder.join("store");
                let failure = format!(
                    "something in {} is not what was written ({error}); start again, and the file that is damaged will be named",
                    store.display()
                );
                tracing::error!("{failure}");
                suspect::raise(&self.folder);
                StorageError::Failed(failure)
            })
            .clone()
    }

    /// Fails once damage was met.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Storage(LsmError::Io(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        fjall::Error::Storage(_) | fjall::Error::Decompress(_) | fjall::Error::InvalidTrailer | fjall::Error::InvalidTag(_) => true,
        _ => false,
    }
}
