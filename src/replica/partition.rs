//! What a replica keeps in memory of one partition, and how that survives a restart without reading the rows.
//!
//! Every batch writes one journal record with what it changed in clocks and trees ([`journal`](super::journal)); a checkpoint now and
//! then folds the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::layout::Damaged;
use super::waiting::Waiting;
use crate::crdt::delta::Causal;
use crate::crdt::dot::Dot;
use crate::merkle::Tree;
use crate::types::{Actor, Digest, LEAVES, Partition, PeerId};

/// What this peer is to a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// It holds neither rows nor a claim.
    Absent,
    /// It is one of the holders by its own view of the ring.
    Holder,
    /// It is none any more but still has rows: it takes nothing in, serves pulls, and waits for the holders to have it all.
    Sealed {
        /// Names this sealing: a confirmation for an earlier one does not count.
        seal: u64,
        /// Holders that pulled everything since the seal, durably.
        confirmed: BTreeSet<PeerId>,
    },
}

/// What a new holder has to do before majorities count it.
///
/// A majority of the holders before it may still take writes among themselves, until they see the ring in which it is a holder. Once a majority of them does
/// (it *met* them), they can't any more, and the new holder counts for writes. Once it has pulled from a majority of them since, it has all that they
/// ever acknowledged together, and counts for reads. Where one of them is a new holder itself that has not done so yet, the same is asked of those before
/// that one: else two changes of the ring, one soon after the other, would make a majority of peers that know nothing.
///
/// "The holders before" are many sets, one for each ring that this peer may have missed and each time that it became a holder: a majority of each is
/// needed, since a majority of all of them together need not be one of any.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FirstSync {
    /// Each set of holders before, of which a majority is needed.
    pub former: BTreeSet<BTreeSet<PeerId>>,
    /// Those that were pulled from after they saw this peer's ring.
    pub pulled: BTreeSet<PeerId>,
    /// Holders before that are gone for good: nobody waits for them, and yet a majority of the others alone may be too few.
    #[serde(default)]
    pub gone: BTreeSet<PeerId>,
    /// Those that see this peer's ring. Asked anew after a start.
    #[serde(skip)]
    pub met: BTreeSet<PeerId>,
}

impl FirstSync {
    /// Whether enough of the former holders were pulled from.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_enough(&self.pulled)
    }

    /// Whether the former holders can't acknowledge anything any more without this peer's ring.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.is_enough(&self.met)
    }

    fn is_enough(&self, peers: &BTreeSet<PeerId>) -> bool {
        self.former.iter().all(|holders| {
            // The other side of a majority that was counted before may be gone.
            let left = holders.difference(&self.gone).count();
            holders.intersection(peers).count() >= (holders.len() / 2 + 1).min(left)
        })
    }
}

/// One partition at this peer. Only the writer changes it.
#[derive(Debug)]
pub struct PartitionState {
    /// Clock and pending.
    pub causal: Arc<Causal>,
    /// Digests of the rows.
    pub tree: Tree,
    /// The digest of all rows.
    pub total: Digest,
    /// Keys with at least one row that is not about expiry.
    pub keys: u64,
    /// What this peer is to the partition.
    pub role: Role,
    /// The other holders, by this peer's view of the ring.
    pub co_holders: BTreeSet<PeerId>,
    /// What stays pending.
    pub waiting: Waiting,
    /// The first sync, where one is under way.
    pub first_sync: Option<FirstSync>,
    /// Names this state: new at every start and at every emptying, so that nothing learned of an older one is applied to it.
    pub state_id: u64,
    /// The counter of the next dot.
    pub next_counter: u64,
    /// Own counter runs that began with this counter or later were begun since the state id was made.
    pub runs_since: u64,
    /// Whether the checkpoint is older than the state.
    pub changed: bool,
}

impl PartitionState {
    /// A partition of which nothing is known.
    #[must_use]
    pub fn empty(state_id: u64, next_counter: u64) -> Self {
        Self {
            causal: Arc::default(),
            tree: Tree::new(),
            total: Digest::default(),
            keys: 0,
            role: Role::Absent,
            co_holders: BTreeSet::new(),
            waiting: Waiting::default(),
            first_sync: None,
            state_id,
            next_counter,
            runs_since: next_counter,
            changed: false,
        }
    }

    /// Whether anything was ever seen here.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.causal.clock.is_empty() && self.total == Digest::default()
    }

    /// Whether this peer holds the partition and has finished its first sync.
    #[must_use]
    pub fn counts_for_reads(&self) -> bool {
        self.role == Role::Holder && self.first_sync.is_none()
    }

    /// Whether a majority may count what is written here.
    #[must_use]
    pub fn counts_writes(&self) -> bool {
        self.role == Role::Holder && self.first_sync.as_ref().is_none_or(FirstSync::is_fenced)
    }

    /// Names a new dot of `actor`.
    pub fn mint(&mut self, actor: Actor) -> Dot {
        let counter = self.next_counter;
        self.next_counter += 1;
        Dot { actor, counter }
    }
}

/// What one batch changed in one partition, in absolute values.
#[derive(Clone, Debug)]
pub struct PartitionChange {
    /// Which one.
    pub partition: Partition,
    /// Its clock and pending after the batch.
    pub causal: Causal,
    /// Its number of keys after the batch.
    pub keys: u64,
    /// Its first sync after the batch.
    pub first_sync: Option<FirstSync>,
    /// The leaves that changed, with their digests after the batch.
    pub leaves: BTreeMap<u16, Digest>,
    /// Whether the partition was emptied before: all other leaves are empty.
    pub emptied: bool,
}

/// The checkpoint of one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    causal: Causal,
    keys: u64,
    first_sync: Option<FirstSync>,
    tree: Bytes,
}

/// Encodes a record of this module.
#[must_use]
pub fn to_bytes<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and these types hold nothing that CBOR lacks.
    let _ = ciborium::into_writer(record, &mut bytes);
    bytes
}

/// Decodes a record of this module.
///
/// # Errors
/// Where the bytes are not one, or more than one.
pub fn from_bytes<T: for<'a> Deserialize<'a>>(what: &str, bytes: &[u8]) -> Result<T, Damaged> {
    let mut rest = bytes;
    let record = ciborium::from_reader(&mut rest).map_err(|error| Damaged(format!("{what}: {error}")))?;
    if rest.is_empty() { Ok(record) } else { Err(Damaged(format!("{what}: bytes follow its end"))) }
}

impl PartitionState {
    /// The checkpoint of this state.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            causal: (*self.causal).clone(),
            keys: self.keys,
            first_sync: self.first_sync.clone(),
            tree: self.tree.to_bytes().into(),
        }
    }

    /// Takes the state over from a checkpoint.
    ///
    /// # Errors
    /// Where the tree in it does not decode.
    pub fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), Damaged> {
        self.tree = Tree::from_bytes(&checkpoint.tree).map_err(|error| Damaged(format!("checkpoint: {error}")))?;
        self.total = self.tree.total();
        self.causal = Arc::new(checkpoint.causal);
        self.keys = checkpoint.keys;
        self.first_sync = checkpoint.first_sync;
        Ok(())
    }

    /// Applies what a batch changed. A leaf that no tree has is passed over.
    pub fn apply(&mut self, change: PartitionChange) {
        if change.emptied {
            self.tree = Tree::new();
            self.total = Digest::default();
        }
        for (leaf, digest) in change.leaves {
            let leaf = usize::from(leaf);
            if leaf >= LEAVES {
                continue;
            }
            let before = self.tree.leaf(leaf);
            self.tree.change(leaf, before, digest);
            self.total = self.total.minus(before).plus(digest);
        }
        self.causal = Arc::new(change.causal);
        self.keys = change.keys;
        self.first_sync = change.first_sync;
        self.changed = true;
    }
}
