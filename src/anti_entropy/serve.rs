//! The side that is pulled from: answers out of leaves that were found whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::config::{LEAF_KEPT_FOR, LEAVES_KEPT};
use crate::crdt::delta::RowAddress;
use crate::env::message::{RangeContent, Reply, RowRange, RowsThere};
use crate::pace::Pace;
use crate::replica::leaf::{self, Leaf, NotTold};
use crate::replica::owner::Writer;
use crate::topology::Topology;
use crate::types::{Partition, PeerId};

type Kept = BTreeMap<(PeerId, Partition, u16), (Leaf, Instant)>;

/// Answers those who pull from this peer.
pub struct Server<T> {
    topology: Topology,
    writer: Writer<T>,
    pace: Pace,
    /// Leaves that were found whole and are too large for one answer: later questions of the same pull read from them.
    kept: Arc<Mutex<Kept>>,
}

impl<T> Clone for Server<T> {
    fn clone(&self) -> Self {
        Self { topology: self.topology.clone(), writer: self.writer.clone(), pace: self.pace.clone(), kept: Arc::clone(&self.kept) }
    }
}

impl<T: Send + 'static> Server<T> {
    /// Over the parts of a node.
    #[must_use]
    pub fn new(topology: Topology, writer: Writer<T>, pace: Pace) -> Self {
        Self { topology, writer, pace, kept: Arc::default() }
    }

    /// What ranges hold: as many as fit one answer.
    pub async fn ranges(&self, peer: PeerId, partition: Partition, state_id: u64, ranges: Vec<RowRange>) -> Reply {
        let numbers = ranges.iter().map(|range| range.leaf).collect();
        let Some(leaves) = self.open(partition, state_id, numbers).await else { return Reply::StateChanged };
        match self.tell_ranges(peer, partition, &ranges, &leaves) {
            Ok(contents) => Reply::Ranges(contents),
            Err(error) => self.not_told(partition, error).await,
        }
    }

    fn tell_ranges(&self, peer: PeerId, partition: Partition, ranges: &[RowRange], leaves: &[Leaf]) -> Result<Vec<RangeContent>, NotTold> {
        let is_whole = |range: &RowRange| range.from.is_none() && range.until.is_none();
        let (mut contents, mut used, room) = (Vec::with_capacity(ranges.len()), 0, self.pace.answer_bytes());
        while contents.len() < ranges.len() && used < room {
            let (ranges, leaves) = (&ranges[contents.len()..], &leaves[contents.len()..]);
            let whole = ranges.iter().take_while(|range| is_whole(range)).count();
            if whole > 0 {
                let (mut told, bytes) = leaf::tell_whole(&leaves[..whole], room - used)?;
                self.keep(peer, partition, told.iter().zip(leaves));
                contents.append(&mut told);
                used += bytes;
            } else if let ([range, ..], [fresh, ..]) = (ranges, leaves) {
                let (content, bytes) = self.verified(peer, partition, fresh)?.tell(range)?;
                contents.push(content);
                used += bytes;
            }
        }
        Ok(contents)
    }

    /// The contents of rows that were listed before: as many as fit one answer.
    pub async fn rows(&self, peer: PeerId, partition: Partition, state_id: u64, wanted: Vec<(u16, Vec<RowAddress>)>) -> Reply {
        let numbers = wanted.iter().map(|(leaf, _)| *leaf).collect();
        let Some(leaves) = self.open(partition, state_id, numbers).await else { return Reply::StateChanged };
        match self.tell_rows(peer, partition, &wanted, &leaves) {
            Ok(rows) => Reply::Rows(rows),
            Err(error) => self.not_told(partition, error).await,
        }
    }

    fn tell_rows(
        &self,
        peer: PeerId,
        partition: Partition,
        wanted: &[(u16, Vec<RowAddress>)],
        leaves: &[Leaf],
    ) -> Result<Vec<(u64, RowsThere)>, NotTold> {
        let (mut told, mut used, room) = (Vec::with_capacity(wanted.len()), 0, self.pace.answer_bytes());
        for ((_, addresses), fresh) in wanted.iter().zip(leaves) {
            if used >= room {
                break;
            }
            let leaf = self.verified(peer, partition, fresh)?;
            let (answered, rows, bytes) = leaf.tell_rows(addresses, self.topology.partitions(), room - used)?;
            told.push((answered, rows));
            used += bytes;
        }
        Ok(told)
    }

    async fn open(&self, partition: Partition, state_id: u64, numbers: Vec<u16>) -> Option<Vec<Leaf>> {
        self.writer.step(move |replica| Ok(replica.open_leaves(partition, state_id, &numbers))).await.ok().flatten()
    }

    /// A leaf that was found whole before, or else this one, if it is.
    fn verified(&self, peer: PeerId, partition: Partition, fresh: &Leaf) -> Result<Leaf, NotTold> {
        if let Some(kept) = self.kept(peer, partition, fresh.number()) {
            return Ok(kept);
        }
        fresh.verify()?;
        Ok(fresh.clone())
    }

    async fn not_told(&self, partition: Partition, why: NotTold) -> Reply {
        if why == NotTold::NotWhole {
            self.restart_damaged(partition).await;
        }
        Reply::Unavailable(why.to_string())
    }

    /// This peer's rows do not add up: it must not be believed, and syncs the partition anew.
    pub(super) async fn restart_damaged(&self, partition: Partition) {
        // Those too that can't be reached now: a quorum of this peer and one of them may have the only copies of a write.
        let local = self.topology.local();
        let others: Vec<PeerId> = self.topology.cluster().ring.holders(partition).iter().copied().filter(|peer| *peer != local).collect();
        let restarted = self.writer.step(move |replica| replica.restart_damaged(partition, others));
        if restarted.await.is_err() {
            tracing::error!(%partition, "a damaged partition could not be started anew");
        }
    }

    fn kept(&self, peer: PeerId, partition: Partition, leaf: u16) -> Option<Leaf> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(peer, partition, leaf)).filter(|(_, until)| *until > Instant::now()).map(|(leaf, _)| leaf.clone())
    }

    /// Keeps the leaves of which more will be asked. They take the place of those that an earlier pull left: its rows are older than the
    /// clock that this pull began with, and a write between the two would pass for deleted.
    fn keep<'l>(&self, peer: PeerId, partition: Partition, told: impl Iterator<Item = (&'l RangeContent, &'l Leaf)>) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| *until > now);
        for (content, leaf) in told {
            let name = (peer, partition, leaf.number());
            kept.remove(&name);
            if !matches!(content, RangeContent::Rows(_)) && kept.len() < LEAVES_KEPT {
                kept.insert(name, (leaf.clone(), now + LEAF_KEPT_FOR));
            }
        }
    }
}
