//! The pulling side of anti-entropy: the steps that must see this replica's rows and clock of one moment.
//!
//! A session (`anti_entropy`) talks to the other peer and hands each answer to one of these steps, which the writer runs
//! between two batches. What a step compares is compared with the rows of that moment, and from then on every late add for
//! these rows is judged as if the pull had ended already.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::layout;
use super::transaction::{ReplicaError, Transaction};
use super::{Replica, partition::Role};
use crate::crdt::delta::{Causal, RowAddress};
use crate::crdt::dot::Dot;
use crate::crdt::pull::Pull;
use crate::env::message::{Awaits, RowRange};
use crate::merkle::{LEAVES_PER_NODE, NODES, short};
use crate::types::{Digest, Partition, PeerId, Place};

/// Whom a pull is from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The peer.
    pub peer: PeerId,
    /// When it was asked: what was recorded here later, the pull need not have seen there.
    pub began: Instant,
    /// Whether it saw this peer's ring when it was asked: then it has acknowledged nothing since that it does not tell of.
    pub sees_ring: bool,
}

/// Names a running pull.
pub type PullId = u64;

/// The pulls that are under way.
#[derive(Default)]
pub struct Pulls {
    running: BTreeMap<PullId, Running>,
    next: PullId,
}

/// One of them.
pub(super) struct Running {
    pub(super) partition: Partition,
    pub(super) from: Source,
    their_state_id: u64,
    pub(super) pull: Pull<Vec<u8>>,
    /// Partitions of the key space, to tell where a key lies.
    count: u16,
}

impl Pulls {
    /// Whether an add would slip past a running pull that has compared its row already.
    #[must_use]
    pub fn slips(&self, partition: Partition, address: &RowAddress, dot: Dot) -> bool {
        self.running.values().filter(|running| running.partition == partition).any(|running| running.slips(address, dot))
    }

    /// Whether an add that pull `id` brings would slip past another one.
    pub(super) fn slips_past_others(&self, id: PullId, partition: Partition, address: &RowAddress, dot: Dot) -> bool {
        let others = self.running.iter().filter(|(other, running)| **other != id && running.partition == partition);
        others.into_iter().any(|(_, running)| running.slips(address, dot))
    }

    /// Ends all pulls of a partition.
    pub(super) fn end(&mut self, partition: Partition) {
        self.running.retain(|_, running| running.partition != partition);
    }

    /// A pull that is under way.
    pub(super) fn get(&self, id: PullId) -> Option<&Running> {
        self.running.get(&id)
    }
}

impl Running {
    fn slips(&self, address: &RowAddress, dot: Dot) -> bool {
        let key = layout::row_key(Place::of(&address.key, self.count), address);
        self.pull.slips(layout::leaf_of(&key), &key, address, dot)
    }
}

/// What a pull begins with at this side.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// The roots were equal: the pull has ended already.
    Equal(Ended),
    /// These nodes differ.
    Differs {
        /// Names the pull.
        pull: PullId,
        /// The nodes to ask for.
        nodes: Vec<u8>,
    },
}

/// A pull that was completed.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether this peer held the partition when it took the clock over: whether it may confirm a handover.
    pub holder: bool,
    /// Whether this pull ended a first sync.
    pub first_sync_done: bool,
}

/// The step cannot be taken: the pull is void, since a replica has started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pull is void")]
pub struct Void;

/// What a step gives: its result, or that the pull is void.
pub(super) type Step<T> = Result<Result<T, Void>, ReplicaError>;

impl Replica {
    /// Begins a pull: compares the roots, and the nodes where the roots differ.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn begin_pull(
        &mut self,
        partition: Partition,
        from: Source,
        their_state_id: u64,
        mut theirs: Causal,
        root: Digest,
        nodes: &[u64],
    ) -> Result<Begun, ReplicaError> {
        self.notice_own_dots(partition, &theirs)?;
        let state = self.partition_mut(partition);
        state.waiting.without_given_up(&mut theirs);
        let mut pull = Pull::new(theirs, state.state_id, their_state_id);
        let equal = state.tree.root() == root;
        let mut differing = Vec::new();
        for node in 0..NODES {
            if equal || nodes.get(node).is_some_and(|digest| *digest == short(state.tree.node(node), their_state_id)) {
                (node * LEAVES_PER_NODE..(node + 1) * LEAVES_PER_NODE).for_each(|leaf| pull.leaf_compared(leaf));
            } else {
                differing.push(u8::try_from(node).unwrap_or(u8::MAX));
            }
        }
        let id = self.pulls.next;
        self.pulls.next += 1;
        self.pulls.running.insert(id, Running { partition, from, their_state_id, pull, count: self.partition_count() });
        if !differing.is_empty() {
            return Ok(Begun::Differs { pull: id, nodes: differing });
        }
        match self.end_pull(id)? {
            Ok(ended) => Ok(Begun::Equal(ended)),
            Err(Void) => Ok(Begun::Differs { pull: id, nodes: Vec::new() }),
        }
    }

    /// Compares the leaves of a node by their short digests; answers with those that differ.
    ///
    /// # Errors
    /// `Void` where the pull is none any more.
    pub fn compare_leaves(&mut self, id: PullId, node: u8, digests: &[u64]) -> Result<Vec<u16>, Void> {
        let running = self.pulls.running.get_mut(&id).ok_or(Void)?;
        let state = &mut self.partitions[usize::from(running.partition.0)];
        let first = usize::from(node) * LEAVES_PER_NODE;
        let mut differing = Vec::new();
        for offset in 0..LEAVES_PER_NODE {
            let leaf = first + offset;
            if digests.get(offset) == Some(&short(state.tree.leaf(leaf), running.their_state_id)) {
                running.pull.leaf_compared(leaf);
            } else {
                differing.push(u16::try_from(leaf).unwrap_or(u16::MAX));
            }
        }
        Ok(differing)
    }

    /// Notes that the rows of a range were compared, with both replicas' rows of this moment.
    pub(super) fn mark(&mut self, id: PullId, range: &RowRange) {
        if let Some(running) = self.pulls.running.get_mut(&id) {
            let bound = |key: &Option<bytes::Bytes>| key.as_ref().map(|key| key.to_vec());
            running.pull.rows_compared(usize::from(range.leaf), bound(&range.from), bound(&range.until));
        }
    }

    /// Leaves dots out of a pull that could not be joined here.
    pub(super) fn leave_out(&mut self, id: PullId, dots: Vec<Dot>) {
        if let Some(running) = self.pulls.running.get_mut(&id) {
            running.pull.leave_out(dots);
        }
    }

    /// Ends a pull: takes the other replica's clock over. To be made durable before anything is confirmed.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn end_pull(&mut self, id: PullId) -> Step<Ended> {
        let Some(running) = self.pulls.running.remove(&id) else { return Ok(Err(Void)) };
        let partition = running.partition;
        let state_id = self.partition(partition).state_id;
        if !running.pull.is_complete() || self.partition(partition).role == Role::Absent {
            return Ok(Err(Void));
        }
        let has_left_out = running.pull.has_left_out();
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        if running.pull.finish(transaction.causal_mut(partition), state_id, running.their_state_id).is_err() {
            return Ok(Err(Void));
        }
        let mut first_sync_done = false;
        if let (true, Some(mut first_sync)) = (running.from.sees_ring, transaction.first_sync(partition).cloned()) {
            first_sync.pulled.insert(running.from.peer);
            first_sync_done = first_sync.is_done();
            transaction.set_first_sync(partition, (!first_sync_done).then_some(first_sync));
        }
        let unchanged = !first_sync_done && *transaction.causal(partition) == *self.partition(partition).causal;
        if !unchanged || running.from.sees_ring && self.partition(partition).first_sync.is_some() {
            let prepared = transaction.finish()?;
            self.commit(prepared)?;
        }
        self.give_up_waiting(partition, running.from)?;
        let holder = self.partition(partition).role == Role::Holder && !has_left_out;
        Ok(Ok(Ended { holder, first_sync_done }))
    }

    /// Drops what is pending and, after this completed pull, nobody can have any more.
    fn give_up_waiting(&mut self, partition: Partition, from: Source) -> Result<(), ReplicaError> {
        let state = self.partition_mut(partition);
        let over = state.waiting.pulled(from.peer, from.began, &state.causal.pending, &state.co_holders);
        if over.is_empty() {
            return Ok(());
        }
        tracing::info!(%partition, scopes = over.len(), "writes that others superseded never came, and nobody has them: they are given up");
        let mut transaction = self.begin();
        over.iter().for_each(|scope| drop(transaction.causal_mut(partition).pending.remove(scope)));
        let prepared = transaction.finish()?;
        self.commit(prepared)
    }

    /// A peer turned out to have nothing that this one lacks: counts as a pull that has ended.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn nothing_to_pull(&mut self, partition: Partition, from: Source) -> Result<Option<Ended>, ReplicaError> {
        if self.partitions.get(usize::from(partition.0)).is_none_or(|state| state.role != Role::Holder) {
            return Ok(None);
        }
        self.give_up_waiting(partition, from)?;
        let ended = Ended { holder: true, first_sync_done: false };
        let (true, Some(mut first_sync)) = (from.sees_ring, self.partition(partition).first_sync.clone()) else { return Ok(Some(ended)) };
        first_sync.pulled.insert(from.peer);
        let done = first_sync.is_done();
        let mut transaction = self.begin();
        transaction.set_first_sync(partition, (!done).then_some(first_sync));
        let prepared = transaction.finish()?;
        self.commit(prepared)?;
        Ok(Some(Ended { holder: true, first_sync_done: done }))
    }

    /// Notes that a peer sees this peer's ring: one more of the holders before it that can't acknowledge anything without it. Whose first sync is
    /// not done either tells which holders it awaits itself. Only of the partitions that it was asked about: of the others it has not told that.
    pub fn meet(&mut self, local: PeerId, peer: PeerId, awaits: &[Awaits], asked: &BTreeSet<Partition>) {
        let awaits: BTreeMap<Partition, &Vec<Vec<PeerId>>> = awaits.iter().map(|(partition, holders)| (*partition, holders)).collect();
        let mut news = false;
        for (state, index) in self.partitions.iter_mut().zip(0..) {
            let Some(first_sync) = state.first_sync.as_mut().filter(|_| asked.contains(&Partition(index))) else { continue };
            news |= first_sync.met.insert(peer);
            if first_sync.former.iter().any(|holders| holders.contains(&peer)) {
                let further = awaits.get(&Partition(index)).into_iter().copied().flatten();
                let others = |holders: &Vec<PeerId>| holders.iter().copied().filter(|holder| *holder != local).collect::<BTreeSet<_>>();
                first_sync.former.extend(further.map(others));
            }
        }
        if news {
            self.publish();
        }
    }

    /// Of the partitions whose first sync is not done: a majority of whom it awaits.
    #[must_use]
    pub fn awaits(&self, of: &[(Partition, Digest, u64)]) -> Vec<Awaits> {
        let first_sync = |partition: Partition| self.partitions.get(usize::from(partition.0)).and_then(|state| state.first_sync.as_ref());
        let awaits = |partition: Partition| {
            first_sync(partition)
                .map(|first_sync| (partition, first_sync.former.iter().map(|holders| holders.iter().copied().collect()).collect()))
        };
        of.iter().filter_map(|(partition, _, _)| awaits(*partition)).collect()
    }

    /// Makes everything committed so far durable.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn sync(&self) -> Result<(), ReplicaError> {
        Ok(self.storage.sync()?)
    }

    /// Forgets a pull that was broken off. The clock stays as it was.
    pub fn abandon_pull(&mut self, id: PullId) {
        self.pulls.running.remove(&id);
    }
}

/// The storage keys of a range, kept within its leaf.
pub(super) fn bounds(partition: Partition, range: &RowRange) -> (Vec<u8>, Vec<u8>) {
    let (start, end) = layout::leaf_range(partition, usize::from(range.leaf).min(crate::types::LEAVES - 1));
    let from = range.from.as_ref().map_or(start.clone(), |key| key.to_vec()).max(start.clone());
    let until = range.until.as_ref().map_or(end.clone(), |key| key.to_vec()).min(end);
    (from.clone(), until.max(from))
}
