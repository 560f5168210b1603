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

use super::libp2p::Libp2pNetwork;
use crate::env::{Storage, StorageError};
use crate::replica::whose::{self, Taken};
use crate::types::PeerId;

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
    /// The data beside the file are another peer's.
    #[error(
        "the data beside {} are those of peer {owner}, and the file names another: put the right file back, or take it away to start as a new peer that brings \
         these data along",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose data they are.
        owner: PeerId,
    },
    /// The data folder can't be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads the key from the file `identity` of a data folder, or makes one where there is none, and takes the data beside it for the peer that it names.
/// The folder has to be locked by this process (see [`crate::backend::FjallStorage::open`]).
///
/// # Errors
/// Where the key can't be had, or the data are another peer's; nothing is replaced then.
pub fn load_or_create(folder: &Path, data: &dyn Storage) -> Result<Keypair, IdentityError> {
    let path = folder.join("identity");
    let unusable = |source| IdentityError::Unusable { path: path.clone(), source };
    let known = match File::open(&path) {
        Ok(file) => Some(load(&path, file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(error)),
    };
    let is_new = known.is_none();
    let key = known.unwrap_or_else(Keypair::generate_ed25519);
    let peer = Libp2pNetwork::peer_id(&key).map_err(|_| IdentityError::Invalid { path: path.clone() })?;
    match whose::take(data, peer, is_new)? {
        Taken::Refused(owner) => return Err(IdentityError::Foreign { path, owner }),
        Taken::Inherited(former) => tracing::warn!(
            %former,
            "the data in {} are those of another peer, whose file 'identity' is gone: this is a new peer, which brings them along. Where that was not meant, \
             stop it and put the file back; else take the other peer out of the ring by RINGTIDE FORGET",
            folder.display()
        ),
        Taken::Own => {}
    }
    if is_new {
        create(folder, &path, &key).map_err(unusable)?;
    }
    Ok(key)
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

fn create(folder: &Path, path: &Path, key: &Keypair) -> io::Result<()> {
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
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::storage::SimDisk;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let (folder, data) = (tempfile::tempdir().unwrap(), SimDisk::default().open());
        fs::write(folder.path().join("identity.new"), "left behind by a crash").unwrap();
        let made = load_or_create(folder.path(), &*data).unwrap();
        let loaded = load_or_create(folder.path(), &*data).unwrap();
        assert_eq!(made.public(), loaded.public());
        let mode = fs::metadata(folder.path().join("identity")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!folder.path().join("identity.new").exists());
    }

    #[test]
    fn an_exposed_file_is_refused_by_name() {
        let (folder, data) = (tempfile::tempdir().unwrap(), SimDisk::default().open());
        load_or_create(folder.path(), &*data).unwrap();
        let path = folder.path().join("identity");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(folder.path(), &*data).unwrap_err();
            assert!(matches!(error, IdentityError::Exposed { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&path.display().to_string()) && error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn garbage_is_refused_by_name_and_left_alone() {
        let (folder, data) = (tempfile::tempdir().unwrap(), SimDisk::default().open());
        let path = folder.path().join("identity");
        let key = load_or_create(folder.path(), &*data).unwrap().to_protobuf_encoding().unwrap();
        let mut half_wrong = key.clone();
        half_wrong[40] ^= 1;
        for garbage in [vec![], b"garbage".to_vec(), key[..30].to_vec(), half_wrong, vec![7; 10_000]] {
            fs::write(&path, &garbage).unwrap();
            let error = load_or_create(folder.path(), &*data).unwrap_err();
            assert!(matches!(error, IdentityError::Invalid { .. }), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()));
            assert_eq!(fs::read(&path).unwrap(), garbage);
        }
    }

    #[test]
    fn data_of_another_peer_are_refused_and_without_the_file_a_new_peer_takes_them() {
        let (folder, data) = (tempfile::tempdir().unwrap(), SimDisk::default().open());
        let path = folder.path().join("identity");
        let own = load_or_create(folder.path(), &*data).unwrap();
        let right = fs::read(&path).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        load_or_create(elsewhere.path(), &*SimDisk::default().open()).unwrap();
        fs::copy(elsewhere.path().join("identity"), &path).unwrap();
        let refused = load_or_create(folder.path(), &*data).unwrap_err().to_string();
        let owner = Libp2pNetwork::peer_id(&own).unwrap().to_string();
        assert!(
            refused.contains(&owner) && refused.contains(&path.display().to_string()) && refused.contains("put the right file back"),
            "{refused}"
        );
        fs::write(&path, right).unwrap();
        assert_eq!(load_or_create(folder.path(), &*data).unwrap().public(), own.public());
        fs::remove_file(&path).unwrap();
        let new = load_or_create(folder.path(), &*data).unwrap();
        assert_ne!(new.public(), own.public());
        assert_eq!(load_or_create(folder.path(), &*data).unwrap().public(), new.public(), "from now on the data are its own");
    }
}
