//! The pulling side of anti-entropy: the steps that must see this replica's rows and clock of one moment.
//!
//! A session (`anti_entropy`) talks to the other peer and hands each answer to one of these steps, which the writer runs
//! between two batches. What a step compares is compared with the rows of that moment, and from then on every late add for
//! these rows is judged as if the pull had ended already.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::layout;
use super::transaction::{ReplicaError, Transaction};
use super::{Replica, partition::Role};
use crate::crdt::delta::{Causal, Row, RowAddress, Rows, RowsMut};
use crate::crdt::dot::Dot;
use crate::crdt::pull::{Pull, compare_row};
use crate::env::message::{RowRange, RowsThere};
use crate::merkle::{LEAVES_PER_NODE, NODES};
use crate::types::{Digest, Partition, PeerId, Place};

/// Whom a pull is from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The peer.
    pub peer: PeerId,
    /// When it was asked: what was recorded here later, the pull need not have seen there.
    pub began: Instant,
}

/// Names a running pull.
pub type PullId = u64;

/// The pulls that are under way.
#[derive(Default)]
pub struct Pulls {
    running: BTreeMap<PullId, Running>,
    next: PullId,
}

struct Running {
    partition: Partition,
    from: Source,
    their_state_id: u64,
    pull: Pull<Vec<u8>>,
    /// Partitions of the key space, to tell where a key lies.
    count: u16,
}

impl Pulls {
    /// Whether an add would slip past a running pull that has compared its row already.
    #[must_use]
    pub fn slips(&self, partition: Partition, address: &RowAddress, dot: Dot) -> bool {
        self.running.values().filter(|running| running.partition == partition).any(|running| running.slips(address, dot))
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

/// What comparing a range gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// The range is done; so many rows changed here.
    Done(u64),
    /// The contents of these rows are needed.
    Needs(Vec<RowAddress>),
}

/// The step cannot be taken: the pull is void, since a replica has started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pull is void")]
pub struct Void;

type Step<T> = Result<Result<T, Void>, ReplicaError>;

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
        nodes: &[Digest],
    ) -> Result<Begun, ReplicaError> {
        self.notice_own_dots(partition, &theirs)?;
        let state = self.partition_mut(partition);
        state.waiting.without_given_up(&mut theirs);
        let mut pull = Pull::new(theirs, state.state_id, their_state_id);
        let equal = state.tree.root() == root;
        let mut differing = Vec::new();
        for node in 0..NODES {
            if equal || nodes.get(node).is_some_and(|digest| *digest == state.tree.node(node)) {
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

    /// Compares the leaves of a node; answers with those that differ.
    ///
    /// # Errors
    /// `Void` where the pull is none any more.
    pub fn compare_leaves(&mut self, id: PullId, node: u8, digests: &[Digest]) -> Result<Vec<u16>, Void> {
        let running = self.pulls.running.get_mut(&id).ok_or(Void)?;
        let state = &mut self.partitions[usize::from(running.partition.0)];
        let first = usize::from(node) * LEAVES_PER_NODE;
        let mut differing = Vec::new();
        for offset in 0..LEAVES_PER_NODE {
            let leaf = first + offset;
            if digests.get(offset) == Some(&state.tree.leaf(leaf)) {
                running.pull.leaf_compared(leaf);
            } else {
                differing.push(u16::try_from(leaf).unwrap_or(u16::MAX));
            }
        }
        Ok(differing)
    }

    /// Compares number and digest of a range of rows; where they are equal the range counts as compared.
    ///
    /// # Errors
    /// Where the rows could not be read.
    pub fn range_is_equal(&mut self, id: PullId, range: &RowRange, count: u64, digest: Digest) -> Step<bool> {
        let Some(running) = self.pulls.running.get(&id) else { return Ok(Err(Void)) };
        let (start, end) = bounds(running.partition, range);
        let (mut own_count, mut own) = (0, Digest::default());
        self.begin().visit_range(&start, &end, &mut |_, _, _, digest| {
            own_count += 1;
            own = own.plus(digest);
            std::ops::ControlFlow::Continue(())
        })?;
        let equal = own_count == count && own == digest;
        if equal {
            self.mark(id, range);
        }
        Ok(Ok(equal))
    }

    /// Compares a range row by row, in one step: `listing` names every row that the other peer has there, `contents` holds
    /// those that were fetched. Where a row differs whose content is not at hand, nothing is done and the missing are named.
    ///
    /// # Errors
    /// Where rows could not be read or written.
    pub fn compare_rows(
        &mut self,
        id: PullId,
        range: &RowRange,
        listing: &BTreeMap<RowAddress, Digest>,
        contents: &RowsThere,
    ) -> Step<Compared> {
        let Some(running) = self.pulls.running.get(&id) else { return Ok(Err(Void)) };
        let partition = running.partition;
        if self.partition(partition).role == Role::Absent {
            return Ok(Err(Void));
        }
        let theirs = running.pull.theirs().clone();
        let (start, end) = bounds(partition, range);
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        let mut mine: BTreeMap<RowAddress, (Row, Digest)> = BTreeMap::new();
        transaction.visit_range(&start, &end, &mut |_, address, row, digest| {
            mine.insert(address.clone(), (row.clone(), digest));
            std::ops::ControlFlow::Continue(())
        })?;
        let differs = |(address, digest): &(&RowAddress, &Digest)| mine.get(address).is_none_or(|(_, own)| own != *digest);
        let differing: Vec<&RowAddress> = listing.iter().filter(differs).map(|(address, _)| address).collect();
        let missing: Vec<RowAddress> =
            differing.iter().filter(|address| !contents.rows.contains_key(address)).map(|address| (*address).clone()).collect();
        if !missing.is_empty() {
            return Ok(Ok(Compared::Needs(missing)));
        }
        let nothing = Row::new();
        let gone = mine.keys().filter(|address| !listing.contains_key(address));
        let mut changed = 0;
        for address in differing.into_iter().chain(gone) {
            let own = mine.get(address).map_or(&nothing, |(row, _)| row);
            let other = contents.rows.get(address).unwrap_or(&nothing);
            let judge = contents.causal.as_deref().filter(|_| address.kind == crate::crdt::delta::Kind::Expiry).unwrap_or(&theirs);
            for entry in other.values() {
                if self.minter.observe(entry.timestamp, self.clock.wall_ms()).is_err() {
                    tracing::warn!(peer = %running.from.peer, "a pull met a timestamp too far in the future and was broken off");
                    return Ok(Err(Void));
                }
            }
            let slips = |address: &RowAddress, dot: Dot| {
                let others = self.pulls.running.iter().filter(|(other, running)| **other != id && running.partition == partition);
                others.into_iter().any(|(_, running)| running.slips(address, dot))
            };
            let change = compare_row(own, transaction.causal(partition), address, other, judge, slips);
            if change.is_empty() {
                continue;
            }
            change.apply(address, transaction.causal_mut(partition));
            if let Some(row) = change.row {
                // Loads the row, so that the transaction knows what it replaces.
                transaction.row(address)?;
                transaction.put(address.clone(), row);
                changed += 1;
            }
        }
        let prepared = transaction.finish()?;
        self.commit(prepared)?;
        self.mark(id, range);
        Ok(Ok(Compared::Done(changed)))
    }

    fn mark(&mut self, id: PullId, range: &RowRange) {
        if let Some(running) = self.pulls.running.get_mut(&id) {
            let leaf = usize::from(range.leaf);
            match (&range.from, &range.until) {
                (None, None) => running.pull.leaf_compared(leaf),
                (from, until) => {
                    running.pull.rows_compared(leaf, from.as_ref().map(|key| key.to_vec()), until.as_ref().map(|key| key.to_vec()))
                }
            }
        }
    }

    /// Notes that every range of a leaf was compared.
    pub fn leaf_compared(&mut self, id: PullId, leaf: u16) {
        self.mark(id, &RowRange { leaf, from: None, until: None });
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
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        if running.pull.finish(transaction.causal_mut(partition), state_id, running.their_state_id).is_err() {
            return Ok(Err(Void));
        }
        let mut first_sync_done = false;
        if let Some(mut first_sync) = transaction.first_sync(partition).cloned() {
            first_sync.pulled.insert(running.from.peer);
            first_sync_done = first_sync.is_done();
            transaction.set_first_sync(partition, (!first_sync_done).then_some(first_sync));
        }
        let unchanged = !first_sync_done && *transaction.causal(partition) == *self.partition(partition).causal;
        if !unchanged || self.partition(partition).first_sync.is_some() {
            let prepared = transaction.finish()?;
            self.commit(prepared)?;
        }
        self.give_up_waiting(partition, running.from)?;
        let holder = self.partition(partition).role == Role::Holder;
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
        let state = self.partition(partition);
        let Some(mut first_sync) = state.first_sync.clone() else { return Ok(Some(Ended { holder: true, first_sync_done: false })) };
        first_sync.pulled.insert(from.peer);
        let done = first_sync.is_done();
        let mut transaction = self.begin();
        transaction.set_first_sync(partition, (!done).then_some(first_sync));
        let prepared = transaction.finish()?;
        self.commit(prepared)?;
        Ok(Some(Ended { holder: true, first_sync_done: done }))
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
