//! The side that is pulled from: tells digests and rows, and checks that its own rows are whole before it does.
//!
//! Absence is only believed from a replica whose rows are whole: whoever lists a leaf first adds up its rows, in one snapshot,
//! and compares the sum with the digest in its tree. If they differ, rows were lost, and the pull ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Replica;
use super::aside::{MOST_ASIDE, aside_key};
use super::collection::Deriving;
use super::damage::Spoiled;
use super::derived;
use super::layout;
use super::leaf::Leaf;
use super::partition::{self, FirstSync, PartitionChange, Role};
use super::transaction::{ReplicaError, counts_for_key};
use crate::crdt::delta::Causal;
use crate::crdt::dot::Clock;
use crate::crdt::encode;
use crate::env::message::PullStart;
use crate::merkle::{LEAVES_PER_NODE, NODES, short};
use crate::types::{Digest, LEAVES, Partition, PeerId, Place};

impl Replica {
    /// Tells what pulls of these partitions begin with. Clock and pending are read before any digest, in the same step.
    pub fn pull_starts(&mut self, asked: &[(Partition, Digest, u64)]) -> Vec<(Partition, PullStart)> {
        let mut starts = Vec::with_capacity(asked.len());
        for (partition, root, clock_hash) in asked {
            let Some(state) = self.partitions.get_mut(usize::from(partition.0)) else { continue };
            let seal = match &state.role {
                Role::Absent => {
                    starts.push((*partition, PullStart::Nothing));
                    continue;
                }
                Role::Holder => None,
                Role::Sealed { seal, .. } => Some(*seal),
            };
            let causal = Box::new((*state.causal).clone());
            let own_root = state.tree.root();
            let equal = own_root == *root;
            if equal && seal.is_none() && causal_hash(&causal) == *clock_hash {
                starts.push((*partition, PullStart::Equal));
                continue;
            }
            let nodes = if equal { Vec::new() } else { (0..NODES).map(|node| short(state.tree.node(node), state.state_id)).collect() };
            starts.push((*partition, PullStart::Open { state_id: state.state_id, seal, causal, root: own_root, nodes }));
        }
        starts
    }

    /// The root and the hash of clock and pending of a partition, to begin a pull with.
    pub fn pull_offer(&mut self, partition: Partition) -> (Partition, Digest, u64) {
        let state = self.partition_mut(partition);
        (partition, state.tree.root(), causal_hash(&state.causal))
    }

    /// The short digests of the leaves below nodes; `None` where the state is another than the pull began with.
    pub fn leaves(&mut self, partition: Partition, state_id: u64, nodes: &[u8]) -> Option<Vec<(u8, Vec<u64>)>> {
        let state = self.serving(partition, state_id)?;
        let told = |leaf| short(state.tree.leaf(leaf), state_id);
        let leaves = |node: usize| (node * LEAVES_PER_NODE..(node + 1) * LEAVES_PER_NODE).map(told).collect();
        Some(nodes.iter().filter(|node| usize::from(**node) < NODES).map(|node| (*node, leaves(usize::from(*node)))).collect())
    }

    /// Leaves with their digests and rows, all of this moment; `None` where the state is another than the pull began with.
    pub fn open_leaves(&mut self, partition: Partition, state_id: u64, leaves: &[u16]) -> Option<Vec<Leaf>> {
        let snapshot = self.storage.snapshot();
        let state = self.serving(partition, state_id)?;
        let is_empty = |leaf: u16| state.tree.leaf(usize::from(leaf)) == Digest::default();
        let mut before = None;
        let opened = leaves.iter().map(|leaf| {
            let number = u16::try_from(usize::from(*leaf).min(LEAVES - 1)).unwrap_or(u16::MAX);
            let adjoins = before.replace(number).is_some_and(|before| before < number && (before + 1..number).all(is_empty));
            let digest = state.tree.leaf(usize::from(number));
            Leaf { partition, number, snapshot: Arc::clone(&snapshot), causal: Arc::clone(&state.causal), digest, adjoins }
        });
        Some(opened.collect())
    }

    fn serving(&mut self, partition: Partition, state_id: u64) -> Option<&mut partition::PartitionState> {
        let state = self.partitions.get_mut(usize::from(partition.0))?;
        (state.role != Role::Absent && state.state_id == state_id).then_some(state)
    }

    /// Rows of a partition were lost or damaged: keeps those that verify, takes their dots as all that was seen, and starts anew
    /// from the other holders. Says so loudly.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn restart_damaged(&mut self, partition: Partition, others: impl IntoIterator<Item = PeerId>) -> Result<(), ReplicaError> {
        let (start, end) = layout::partition_range(partition);
        let partitions = self.partition_count();
        let mut clock = Clock::new();
        let mut leaves: BTreeMap<u16, Digest> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        let mut lost: Vec<Spoiled> = Vec::new();
        let mut deriving = Deriving::default();
        self.storage.snapshot().scan(&start, &end, &mut |row_key, value| {
            match derived::whole(row_key, value, partitions) {
                Ok((address, row, content)) => {
                    let digest = encode::stored_row_digest(&address, &content);
                    deriving.take_in(Place::of(&address.key, partitions), &address, &row, &content);
                    row.keys().for_each(|dot| clock.insert(*dot));
                    let leaf = leaves.entry(u16::try_from(layout::leaf_of(row_key)).unwrap_or(u16::MAX)).or_default();
                    *leaf = leaf.plus(digest);
                    if counts_for_key(&address, &row) {
                        keys.insert(*blake3::hash(&address.key).as_bytes());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "a row is set aside");
                    lost.push((row_key.to_vec(), Bytes::copy_from_slice(value)));
                }
            }
            ControlFlow::Continue(())
        })?;
        tracing::error!(%partition, unreadable = lost.len(), "rows of a partition were lost or damaged: it is synced anew from the other holders");
        let mut transaction = self.begin();
        let room = usize::try_from(MOST_ASIDE.saturating_sub(self.damage.rows_aside)).unwrap_or(usize::MAX);
        let aside = lost.len().min(room);
        lost.iter().take(room).for_each(|(row_key, value)| transaction.put_record(aside_key(row_key), value.to_vec()));
        transaction.drop_damaged(partition, lost.into_iter().map(|(row_key, _)| row_key), deriving.finish())?;
        let mut prepared = transaction.finish()?;
        let others: BTreeSet<PeerId> = others.into_iter().collect();
        // What it awaited before it awaits still.
        let FirstSync { mut former, gone, mut met, .. } = self.partition(partition).first_sync.clone().unwrap_or_default();
        // The ring is the same as before, so nobody acknowledges anything without this peer that it could not learn later.
        met.extend(&others);
        former.insert(others);
        let first_sync = FirstSync { former, gone, met, ..FirstSync::default() };
        prepared.changes.push(PartitionChange {
            partition,
            causal: Causal { clock, ..Causal::default() },
            keys: keys.len() as u64,
            first_sync: (!first_sync.is_done()).then_some(first_sync),
            leaves,
            emptied: true,
        });
        self.damage.partitions += 1;
        self.damage.rows_aside += aside as u64;
        self.commit(prepared)?;
        self.new_state(partition);
        Ok(())
    }
}

/// Names clock and pending as a whole.
fn causal_hash(causal: &Causal) -> u64 {
    let hash = blake3::hash(&encode::causal_to_bytes(causal));
    hash.as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl Replica {
    /// Gives a partition a new state id: nothing learned of the state before is applied to it, and no counter run is continued. Pulls that are under
    /// way end here, and with them what they say of late adds: they compared rows that may be gone.
    pub(super) fn new_state(&mut self, partition: Partition) {
        use rand::RngExt;
        let runs_since = self.minter.next_counter(partition);
        let state_id = self.random.random();
        let state = self.partition_mut(partition);
        state.state_id = state_id;
        state.runs_since = runs_since;
        self.floors.forget(partition);
        self.pulls.end(partition);
    }

    /// Notices that another peer has seen dots of this author that it never minted; then it goes on as a new author.
    pub(super) fn notice_own_dots(&mut self, partition: Partition, theirs: &Causal) -> Result<(), ReplicaError> {
        if self.minter.is_impersonated(partition, &theirs.clock) {
            tracing::error!(
                %partition,
                "another peer has seen writes of this peer that it never made: its disk fell back or its identity is used twice; it goes on as a new author"
            );
            self.minter.renew(&mut self.random)?;
            for index in 0..self.partition_count() {
                self.new_state(Partition(index));
            }
            self.distrust()?;
        }
        Ok(())
    }
}
