//! Hints: deltas that wait here for a peer that could not be reached.

use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::layout;
use super::partition;
use super::transaction::ReplicaError;
use super::view::View;
use super::{Replica, Transaction};
use crate::crdt::delta::Delta;
use crate::env::{Snapshot, StorageError};
use crate::types::{Partition, PeerId};

/// A delta that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The partition that the delta belongs to.
    pub partition: Partition,
    /// What the peer is to join.
    pub delta: Delta,
}

/// Counts the stored hints and finds the number for the next one.
pub(super) fn count(snapshot: &dyn Snapshot) -> Result<(u64, u64), StorageError> {
    let (mut next, mut count) = (1, 0);
    snapshot.scan(b"h", b"i", &mut |key, _| {
        if let Some((_, number)) = layout::parse_hint_key(key) {
            next = next.max(number.saturating_add(1));
            count += 1;
        }
        ControlFlow::Continue(())
    })?;
    Ok((next, count))
}

/// Adds a hint to a transaction.
pub(super) fn keep(transaction: &mut Transaction<'_>, next: &mut u64, home: PeerId, partition: Partition, delta: &Delta) {
    transaction.put_record(layout::hint_key(home, *next), partition::to_bytes(&Hint { partition, delta: delta.clone() }));
    *next += 1;
}

impl View {
    /// The oldest hints for a peer with their numbers, up to a number and a size in bytes, and how many bytes they take.
    /// A hint that does not decode is left out and named in the log.
    ///
    /// # Errors
    /// Where they could not be read.
    pub fn hints_for(&self, home: PeerId, most: usize, most_bytes: usize) -> Result<Vec<(u64, Hint)>, ReplicaError> {
        let start = layout::hints_of(home);
        let (mut found, mut size) = (Vec::new(), 0);
        self.snapshot.scan(&start, &layout::end_of(&start), &mut |key, value| {
            if let Some((_, number)) = layout::parse_hint_key(key) {
                match partition::from_bytes("a hint", value) {
                    Ok(hint) => found.push((number, hint)),
                    Err(error) => tracing::error!(%error, "a hint can't be read and stays where it is"),
                }
            }
            size += value.len();
            if found.len() >= most || size >= most_bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Every peer that hints wait for.
    ///
    /// # Errors
    /// Where they could not be read.
    pub fn hinted_peers(&self) -> Result<Vec<PeerId>, ReplicaError> {
        let mut peers = Vec::new();
        let mut from = b"h".to_vec();
        loop {
            let mut found = None;
            self.snapshot.scan(&from, b"i", &mut |key, _| {
                found = layout::parse_hint_key(key).map(|(peer, _)| peer);
                ControlFlow::Break(())
            })?;
            let Some(peer) = found else { return Ok(peers) };
            peers.push(peer);
            from = layout::end_of(&layout::hints_of(peer));
        }
    }
}

impl Replica {
    /// Keeps hints.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn keep_hints(&mut self, hints: &[(PeerId, Hint)]) -> Result<(), ReplicaError> {
        let mut next = self.next_hint;
        let mut transaction = self.begin();
        for (home, hint) in hints {
            keep(&mut transaction, &mut next, *home, hint.partition, &hint.delta);
        }
        let prepared = transaction.finish()?;
        self.next_hint = next;
        self.hints += hints.len() as u64;
        self.commit(prepared)
    }

    /// Drops hints that their peer has.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn drop_hints(&mut self, home: PeerId, numbers: &[u64]) -> Result<(), ReplicaError> {
        let mut transaction = self.begin();
        for number in numbers {
            transaction.delete_record(layout::hint_key(home, *number));
        }
        let prepared = transaction.finish()?;
        self.hints = self.hints.saturating_sub(numbers.len() as u64);
        self.commit(prepared)
    }

    /// Reads a named record.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn named(&self, name: &str) -> Result<Option<Bytes>, ReplicaError> {
        Ok(self.storage.snapshot().get(&layout::named_key(name))?)
    }
}
