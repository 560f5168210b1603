//! Whose data a store holds: the peer that ran on it last.
//!
//! What a replica may be counted for follows from who it is: a ring gives its partitions to a peer, and a peer that comes back counts at once for those that
//! it had. Another peer on the same store has other partitions, and nothing in them. So the store names its peer, and a start says which peer it is:
//!
//! ```text
//! the store names   the identity is   then
//! nobody, the same  any               it goes on
//! another peer      there             refused: one of the two files is not where it belongs
//! another peer      new               a new peer, which brings the data along; what it holds by the ring it syncs before it counts
//! ```
//!
//! What the former peer had acknowledged is in the store, so nobody has to wait for that peer, which will not come back.

use super::transaction::ReplicaError;
use super::{Replica, layout, partition};
use crate::env::{Batch, Storage, StorageError};
use crate::types::PeerId;

/// Where a store names its peer.
const PEER: &str = "peer";
/// Where a new peer notes whose data it goes on with, until it has taken its roles.
const INHERITED: &str = "inherited";

/// What a peer found that wanted to take a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Its own data, or none.
    Own,
    /// The data of this peer, with which it goes on.
    Inherited(PeerId),
    /// The data of this peer, which are not for it: nothing was changed.
    Refused(PeerId),
}

/// Takes a store for a peer, durably. `is_new` says that the peer has no file with its identity yet; it is to be written after this.
///
/// # Errors
/// Where the disk failed.
pub fn take(storage: &dyn Storage, peer: PeerId, is_new: bool) -> Result<Taken, StorageError> {
    let named = storage.snapshot().get(&layout::named_key(PEER))?;
    let former = named.as_deref().and_then(|bytes| Some(PeerId(bytes.try_into().ok()?)));
    let taken = match former {
        Some(former) if former == peer => return Ok(Taken::Own),
        Some(former) if !is_new => return Ok(Taken::Refused(former)),
        Some(former) => Taken::Inherited(former),
        None => Taken::Own,
    };
    let mut batch = Batch::default();
    batch.put(layout::named_key(PEER), peer.0.to_vec());
    if let Some(former) = former {
        batch.put(layout::named_key(INHERITED), partition::to_bytes(&former));
    }
    storage.commit(batch)?;
    storage.sync()?;
    Ok(taken)
}

impl Replica {
    /// The peer whose data this one has gone on with, until [`Replica::inherit`] is done.
    ///
    /// # Errors
    /// Where it could not be read.
    pub fn inherited(&self) -> Result<Option<PeerId>, ReplicaError> {
        let noted = self.named(INHERITED)?.filter(|bytes| !bytes.is_empty());
        Ok(noted.map(|bytes| partition::from_bytes("whose data these were", &bytes)).transpose()?)
    }

    /// What [`Replica::adopt_members`] is to write with the roles of a new peer, so that its first syncs are known at every later start.
    #[must_use]
    pub fn inherit() -> (&'static str, Vec<u8>) {
        (INHERITED, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::storage::SimDisk;

    const ONE: PeerId = PeerId([1; 32]);
    const OTHER: PeerId = PeerId([2; 32]);

    #[test]
    fn a_store_is_taken_by_its_own_peer_or_by_a_new_one() {
        let disk = SimDisk::default();
        let storage = disk.open();
        for is_new in [true, false, false] {
            assert_eq!(take(&*storage, ONE, is_new), Ok(Taken::Own), "it was nobody's, then its own");
        }
        assert_eq!(take(&*storage, OTHER, false), Ok(Taken::Refused(ONE)));
        assert_eq!(take(&*storage, ONE, false), Ok(Taken::Own), "a refusal changes nothing");
        assert_eq!(take(&*storage, OTHER, true), Ok(Taken::Inherited(ONE)));
        assert_eq!(take(&*storage, OTHER, false), Ok(Taken::Own));
        assert_eq!(take(&*storage, ONE, false), Ok(Taken::Refused(OTHER)));
    }
}
