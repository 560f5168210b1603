//! The side that is pulled from: answers out of leaves that were found whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::config::{LEAF_KEPT_FOR, LEAVES_KEPT, MAX_FRAME};
use crate::crdt::delta::RowAddress;
use crate::env::message::{RangeContent, Reply, RowRange};
use crate::replica::listing::Leaf;
use crate::replica::owner::Writer;
use crate::topology::Topology;
use crate::types::{Partition, PeerId};

/// Bytes of rows in one answer, about; one range may exceed it alone.
const ANSWER_BYTES: usize = MAX_FRAME / 16;

type Kept = BTreeMap<(PeerId, Partition, u16), (Leaf, Instant)>;

/// Answers those who pull from this peer.
pub struct Server<T> {
    topology: Topology,
    writer: Writer<T>,
    /// Leaves that were found whole and are too large for one answer: later questions of the same pull read from them.
    kept: Arc<Mutex<Kept>>,
}

impl<T> Clone for Server<T> {
    fn clone(&self) -> Self {
        Self { topology: self.topology.clone(), writer: self.writer.clone(), kept: Arc::clone(&self.kept) }
    }
}

impl<T: Send + 'static> Server<T> {
    /// Over the parts of a node.
    #[must_use]
    pub fn new(topology: Topology, writer: Writer<T>) -> Self {
        Self { topology, writer, kept: Arc::default() }
    }

    /// What ranges hold: as many as fit one answer.
    pub async fn ranges(&self, peer: PeerId, partition: Partition, state_id: u64, ranges: Vec<RowRange>) -> Reply {
        let leaves: Vec<u16> = ranges.iter().map(|range| range.leaf).collect();
        let fresh = self
            .writer
            .step(move |replica| Ok(leaves.into_iter().map(|leaf| replica.leaf(partition, state_id, leaf)).collect::<Option<Vec<_>>>()));
        let Ok(Some(fresh)) = fresh.await else { return Reply::StateChanged };
        let (mut contents, mut size) = (Vec::new(), 0);
        for (range, fresh) in ranges.into_iter().zip(fresh) {
            let whole = range.from.is_none() && range.until.is_none();
            let kept = if whole { None } else { self.kept(peer, partition, range.leaf) };
            let leaf = match kept {
                Some(leaf) => leaf,
                None => match fresh.verify(range.leaf) {
                    Ok(Ok(())) => fresh,
                    Ok(Err(error)) => return self.damaged(partition, &error.to_string()).await,
                    Err(error) => return Reply::Unavailable(error.to_string()),
                },
            };
            match leaf.content(&range) {
                Ok(content) => {
                    size += match &content {
                        RangeContent::Rows(rows) => {
                            64 + rows.rows.keys().map(|address| address.key.len() + address.element.len() + 128).sum::<usize>()
                        }
                        RangeContent::Listing(_) | RangeContent::Parts(_) => {
                            self.keep(peer, partition, range.leaf, leaf);
                            ANSWER_BYTES / 64
                        }
                    };
                    contents.push(content);
                }
                Err(error) => return Reply::Unavailable(error.to_string()),
            }
            if size >= ANSWER_BYTES {
                break;
            }
        }
        Reply::Ranges(contents)
    }

    /// The content of rows of a leaf that was listed before.
    pub async fn rows(&self, peer: PeerId, partition: Partition, state_id: u64, leaf: u16, addresses: Vec<RowAddress>) -> Reply {
        let kept = match self.kept(peer, partition, leaf) {
            Some(kept) => kept,
            None => match self.writer.step(move |replica| Ok(replica.leaf(partition, state_id, leaf))).await {
                Ok(Some(fresh)) if matches!(fresh.verify(leaf), Ok(Ok(()))) => fresh,
                _ => return Reply::StateChanged,
            },
        };
        match kept.rows(&addresses, self.topology.partitions()) {
            Ok(rows) => Reply::Rows(rows),
            Err(error) => Reply::Unavailable(error.to_string()),
        }
    }

    /// This peer's rows do not add up: it must not be believed, and syncs the partition anew.
    async fn damaged(&self, partition: Partition, what: &str) -> Reply {
        // Those too that can't be reached now: a quorum of this peer and one of them may have the only copies of a write.
        let local = self.topology.local();
        let others: Vec<PeerId> = self.topology.cluster().ring.holders(partition).iter().copied().filter(|peer| *peer != local).collect();
        let restarted = self.writer.step(move |replica| replica.restart_damaged(partition, others));
        if restarted.await.is_err() {
            tracing::error!(%partition, "a damaged partition could not be started anew");
        }
        Reply::Unavailable(what.to_owned())
    }

    fn kept(&self, peer: PeerId, partition: Partition, leaf: u16) -> Option<Leaf> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(peer, partition, leaf)).filter(|(_, until)| *until > Instant::now()).map(|(leaf, _)| leaf.clone())
    }

    fn keep(&self, peer: PeerId, partition: Partition, number: u16, leaf: Leaf) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| *until > now);
        if kept.len() < LEAVES_KEPT {
            kept.entry((peer, partition, number)).or_insert((leaf, now + LEAF_KEPT_FOR));
        }
    }
}
