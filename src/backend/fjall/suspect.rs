//! The file beside a store that tells the next start to read every table in full: see [`super::suspicion`] for when.

use std::fs::{self, File};
use std::path::Path;

const NAME: &str = "suspect";

/// Tells the next start to read everything in full.
pub(super) fn raise(folder: &Path) {
    if let Err(error) = File::create(folder.join(NAME)).and_then(|file| file.sync_all()) {
        tracing::error!("the next start won't know that the store in {} is to be checked: {error}", folder.display());
    }
}

/// Whether an earlier run met damage that nobody has looked for since.
pub(super) fn stands(folder: &Path) -> bool {
    folder.join(NAME).exists()
}

/// The store is whole, or another one.
pub(super) fn forget(folder: &Path) {
    // Where it stays, the next start looks once more.
    let _ = fs::remove_file(folder.join(NAME));
}
