//! Who this peer is: an ed25519 key that is made once and kept in the data folder.
//!
//! Whoever holds the key is the peer, so the file is readable by its owner alone, and a file that others can read is
//! refused: it may have been copied already. The key appears whole or not at all: it is written beside its final name,
//! synced, and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p::identity::{KeyType, Keypair};

/// Longest file that is read. A key in its protobuf encoding has 68 bytes.
const MAX_LENGTH: u64 = 4096;

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read or made.
    #[error("the identity in {} can't be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Others than the owner may use the file.
    #[error("the identity in {} may be read by other users (mode {mode:03o}); run 'chmod 600' on it if it can be trusted still", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else than a key.
    #[error("{} holds no ed25519 key; put the right file back, or take it away to start as a new peer", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key from the file `identity` of a data folder, or makes one where there is none.
/// The folder has to be locked by this process (see [`crate::backend::FjallStorage::open`]).
///
/// # Errors
/// Where the key can't be had; nothing is replaced then.
pub fn load_or_create(folder: &Path) -> Result<Keypair, IdentityError> {
    let path = folder.join("identity");
    let unusable = |source| IdentityError::Unusable { path: path.clone(), source };
    match File::open(&path) {
        Ok(file) => load(&path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(folder, &path).map_err(unusable),
        Err(error) => Err(unusable(error)),
    }
}

fn load(path: &Path, file: File) -> Result<Keypair, IdentityError> {
    let unusable = |source| IdentityError::Unusable { path: path.to_owned(), source };
    let mode = file.metadata().map_err(unusable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut bytes).map_err(unusable)?;
    Keypair::from_protobuf_encoding(&bytes)
        .ok()
        .filter(|key| key.key_type() == KeyType::Ed25519)
        .ok_or_else(|| IdentityError::Invalid { path: path.to_owned() })
}

fn create(folder: &Path, path: &Path) -> io::Result<Keypair> {
    let key = Keypair::generate_ed25519();
    let bytes = key.to_protobuf_encoding().map_err(io::Error::other)?;
    let unfinished = folder.join("identity.new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.new"), "left behind by a crash").unwrap();
        let made = load_or_create(folder.path()).unwrap();
        let loaded = load_or_create(folder.path()).unwrap();
        assert_eq!(made.public(), loaded.public());
        let mode = fs::metadata(folder.path().join("identity")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!folder.path().join("identity.new").exists());
    }

    #[test]
    fn an_exposed_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        load_or_create(folder.path()).unwrap();
        let path = folder.path().join("identity");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(folder.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Exposed { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&path.display().to_string()) && error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn garbage_is_refused_by_name_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let key = load_or_create(folder.path()).unwrap().to_protobuf_encoding().unwrap();
        let mut half_wrong = key.clone();
        half_wrong[40] ^= 1;
        for garbage in [vec![], b"garbage".to_vec(), key[..30].to_vec(), half_wrong, vec![7; 10_000]] {
            fs::write(&path, &garbage).unwrap();
            let error = load_or_create(folder.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Invalid { .. }), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()));
            assert_eq!(fs::read(&path).unwrap(), garbage);
        }
    }
}
