//! The side that is pulled from: tells digests and rows, and checks that its own rows are whole before it does.
//!
//! Absence is only believed from a replica whose rows are whole: whoever lists a leaf first adds up its rows, in one snapshot,
//! and compares the sum with the digest in its tree. If they differ, rows were lost, and the pull ends.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Replica;
use super::layout::{self, Damaged};
use super::partition::{self, FirstSync, PartitionChange, Role};
use super::pulling::bounds;
use super::transaction::ReplicaError;
use crate::crdt::delta::{Causal, Kind, Row, RowAddress};
use crate::crdt::dot::Clock;
use crate::crdt::encode;
use crate::env::Snapshot;
use crate::env::message::{PullStart, RangeContent, RowRange, RowsThere};
use crate::merkle::{LEAVES_PER_NODE, NODES};
use crate::types::{Digest, Partition, PeerId, Place};

/// A range of this many bytes is sent with its rows, a longer one is listed first.
const ROWS_AT_ONCE: usize = 2048;
/// A range of this many rows is listed row by row, a longer one in parts.
const LISTED_ROWS: usize = 256;
/// Parts that a long range is told in: more of them cost bytes, fewer cost rounds.
const PARTS: usize = 32;

/// One leaf as it was when it was found whole: later requests of the same pull read from it.
#[derive(Clone)]
pub struct Leaf {
    partition: Partition,
    snapshot: Arc<dyn Snapshot>,
    causal: Arc<Causal>,
    digest: Digest,
}

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
            let nodes = if equal { Vec::new() } else { (0..NODES).map(|node| state.tree.node(node)).collect() };
            starts.push((*partition, PullStart::Open { state_id: state.state_id, seal, causal, root: own_root, nodes }));
        }
        starts
    }

    /// The root and the hash of clock and pending of a partition, to begin a pull with.
    pub fn pull_offer(&mut self, partition: Partition) -> (Partition, Digest, u64) {
        let state = self.partition_mut(partition);
        (partition, state.tree.root(), causal_hash(&state.causal))
    }

    /// The digests of the leaves below nodes; `None` where the state is another than the pull began with.
    pub fn leaves(&mut self, partition: Partition, state_id: u64, nodes: &[u8]) -> Option<Vec<(u8, Vec<Digest>)>> {
        let state = self.serving(partition, state_id)?;
        let leaves = |node: usize| (node * LEAVES_PER_NODE..(node + 1) * LEAVES_PER_NODE).map(|leaf| state.tree.leaf(leaf)).collect();
        Some(nodes.iter().filter(|node| usize::from(**node) < NODES).map(|node| (*node, leaves(usize::from(*node)))).collect())
    }

    /// A leaf with its digest and its rows of one moment.
    pub fn leaf(&mut self, partition: Partition, state_id: u64, leaf: u16) -> Option<Leaf> {
        let snapshot = self.storage.snapshot();
        let state = self.serving(partition, state_id)?;
        let digest = state.tree.leaf(usize::from(leaf).min(crate::types::LEAVES - 1));
        Some(Leaf { partition, snapshot, causal: Arc::clone(&state.causal), digest })
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
        let mut clock = Clock::new();
        let mut leaves: BTreeMap<u16, Digest> = BTreeMap::new();
        let mut keys = std::collections::BTreeSet::new();
        let mut lost = Vec::new();
        self.storage.snapshot().scan(&start, &end, &mut |row_key, value| {
            match read(row_key, value) {
                Ok((address, row, digest)) => {
                    row.keys().for_each(|dot| clock.insert(*dot));
                    let leaf = leaves.entry(u16::try_from(layout::leaf_of(row_key)).unwrap_or(u16::MAX)).or_default();
                    *leaf = leaf.plus(digest);
                    if address.kind != Kind::Expiry {
                        keys.insert(*blake3::hash(&address.key).as_bytes());
                    }
                }
                Err(_) => lost.push(row_key.to_vec()),
            }
            ControlFlow::Continue(())
        })?;
        tracing::error!(%partition, unreadable = lost.len(), "rows of a partition were lost or damaged: it is synced anew from the other holders");
        let mut transaction = self.begin();
        transaction.drop_damaged(partition, lost)?;
        let mut prepared = transaction.finish()?;
        let first_sync = FirstSync { former: others.into_iter().collect(), ..FirstSync::default() };
        prepared.record.changes.push(PartitionChange {
            partition,
            causal: Causal { clock, ..Causal::default() },
            keys: keys.len() as u64,
            first_sync: (!first_sync.is_done()).then_some(first_sync),
            leaves,
            emptied: true,
        });
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

fn read(row_key: &[u8], value: &[u8]) -> Result<(RowAddress, Row, Digest), Damaged> {
    let (address, row, content) = layout::read_row(row_key, &Bytes::copy_from_slice(value))?;
    let digest = encode::stored_row_digest(&address, &content);
    Ok((address, row, digest))
}

/// A leaf's rows do not add up to its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rows of a leaf do not add up to its digest")]
pub struct NotWhole;

impl Leaf {
    /// Whether the rows add up to the digest. To be asked once, before anything is told.
    ///
    /// # Errors
    /// `NotWhole` where rows are missing or damaged.
    pub fn verify(&self, leaf: u16) -> Result<Result<(), NotWhole>, ReplicaError> {
        let (start, end) = layout::leaf_range(self.partition, usize::from(leaf).min(crate::types::LEAVES - 1));
        let (mut sum, mut readable) = (Digest::default(), true);
        self.snapshot.scan(&start, &end, &mut |row_key, value| {
            match read(row_key, value) {
                Ok((_, _, digest)) => sum = sum.plus(digest),
                Err(_) => readable = false,
            }
            ControlFlow::Continue(())
        })?;
        Ok(if readable && sum == self.digest { Ok(()) } else { Err(NotWhole) })
    }

    /// What a range of the leaf holds: its rows where they are small, a listing where there are few, parts otherwise.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn content(&self, range: &RowRange) -> Result<RangeContent, ReplicaError> {
        let (start, end) = bounds(self.partition, range);
        let mut rows = BTreeMap::new();
        let mut listing = Vec::new();
        let mut parts = Parts::default();
        let mut size = 0;
        let mut failure = None;
        self.snapshot.scan(&start, &end, &mut |row_key, value| match read(row_key, value) {
            Ok((address, row, digest)) => {
                size += row_key.len() + value.len();
                parts.add(row_key, digest);
                if listing.len() <= LISTED_ROWS {
                    listing.push((address.clone(), digest));
                }
                if size <= ROWS_AT_ONCE {
                    rows.insert(address, row);
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        Ok(if size <= ROWS_AT_ONCE {
            RangeContent::Rows(self.judged(rows))
        } else if listing.len() <= LISTED_ROWS {
            RangeContent::Listing(listing)
        } else {
            RangeContent::Parts(parts.finish())
        })
    }

    /// The content of rows.
    ///
    /// # Errors
    /// Where they could not be read.
    pub fn rows(&self, addresses: &[RowAddress], partitions: u16) -> Result<RowsThere, ReplicaError> {
        let mut rows = BTreeMap::new();
        for address in addresses {
            let row_key = layout::row_key(Place::of(&address.key, partitions), address);
            let row = match self.snapshot.get(&row_key)? {
                Some(value) => read(&row_key, &value)?.1,
                None => Row::new(),
            };
            rows.insert(address.clone(), row);
        }
        Ok(self.judged(rows))
    }

    /// Rows together with this snapshot's clock, where that is what judges them.
    fn judged(&self, rows: BTreeMap<RowAddress, Row>) -> RowsThere {
        let decisions = rows.keys().any(|address| address.kind == Kind::Expiry);
        RowsThere { rows, causal: decisions.then(|| Box::new((*self.causal).clone())) }
    }
}

/// Gathers a range into at most [`PARTS`] parts of about equal length in one pass: when there are twice as many, neighbours melt.
#[derive(Default)]
struct Parts {
    /// First key, rows and digest of each part.
    parts: Vec<(Vec<u8>, u64, Digest)>,
    rows_per_part: u64,
}

impl Parts {
    fn add(&mut self, row_key: &[u8], digest: Digest) {
        self.rows_per_part = self.rows_per_part.max(8);
        match self.parts.last_mut() {
            Some((_, count, sum)) if *count < self.rows_per_part => {
                *count += 1;
                *sum = sum.plus(digest);
            }
            _ => self.parts.push((row_key.to_vec(), 1, digest)),
        }
        if self.parts.len() > 2 * PARTS {
            let melted = self.parts.chunks(2).filter_map(|pair| {
                let (first, count, digest) = pair.first()?.clone();
                Some(pair.get(1).map_or((first.clone(), count, digest), |next| (first, count + next.1, digest.plus(next.2))))
            });
            self.parts = melted.collect();
            self.rows_per_part *= 2;
        }
    }

    /// Each part with the key at which it ends, excluded.
    fn finish(self) -> Vec<(Option<Bytes>, u64, Digest)> {
        let ends = self.parts.iter().skip(1).map(|(first, _, _)| Some(Bytes::from(first.clone()))).chain([None]).collect::<Vec<_>>();
        self.parts.into_iter().zip(ends).map(|((_, count, digest), end)| (end, count, digest)).collect()
    }
}

impl Replica {
    /// Gives a partition a new state id: nothing learned of the state before is applied to it, and no counter run is continued.
    pub(super) fn new_state(&mut self, partition: Partition) {
        use rand::RngExt;
        let runs_since = self.minter.next_counter(partition);
        let state_id = self.random.random();
        let state = self.partition_mut(partition);
        state.state_id = state_id;
        state.runs_since = runs_since;
        self.floors.forget(partition);
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
        }
        Ok(())
    }
}
