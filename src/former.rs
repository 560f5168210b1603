//! Who still has rows of partitions that it no longer holds.
//!
//! A former holder keeps what it has until the new holders have it durably, and until then may have the only copy of a write. So readers
//! ask it too, as a voice that does not count. Peers tell with their heartbeats what they have sealed; between a change of the ring and the next
//! heartbeat, whoever lost a partition is taken to have it still.

use std::collections::{BTreeMap, BTreeSet};

use crate::ring::Ring;
use crate::types::{Partition, PeerId};

/// The former holders that this peer knows of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Former {
    sealed: BTreeMap<PeerId, BTreeSet<Partition>>,
}

impl Former {
    /// A peer told which partitions it has sealed. Where it does not see the ring as this peer does (`agrees` is false), that is not all:
    /// it may still take itself for a holder of others.
    pub fn told(&mut self, peer: PeerId, partitions: BTreeSet<Partition>, agrees: bool) {
        if agrees && partitions.is_empty() {
            self.sealed.remove(&peer);
        } else if agrees {
            self.sealed.insert(peer, partitions);
        } else if !partitions.is_empty() {
            self.sealed.entry(peer).or_default().extend(partitions);
        }
    }

    /// The ring changed: whoever held a partition before and does not now is a former holder of it.
    pub fn ring_changed(&mut self, before: &Ring, after: &Ring, partitions: impl Iterator<Item = Partition>) {
        for partition in partitions {
            for peer in before.holders(partition).iter().filter(|peer| !after.is_holder(partition, **peer)) {
                self.sealed.entry(*peer).or_default().insert(partition);
            }
        }
    }

    /// The former holders of a partition.
    pub fn of(&self, partition: Partition) -> impl Iterator<Item = PeerId> + '_ {
        self.sealed.iter().filter(move |(_, partitions)| partitions.contains(&partition)).map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingMember;

    fn ring(peers: &[u8]) -> Ring {
        let member = |name: &u8| RingMember { peer: PeerId([*name; 32]), zone: None, capacity: 1 };
        Ring::build(&peers.iter().map(member).collect::<Vec<_>>(), 8, 1)
    }

    fn partitions() -> impl Iterator<Item = Partition> {
        (0..8).map(Partition)
    }

    #[test]
    fn whoever_lost_a_partition_has_it_until_it_says_otherwise() {
        let (alone, both) = (ring(&[1]), ring(&[1, 2]));
        let lost: BTreeSet<Partition> = partitions().filter(|partition| !both.is_holder(*partition, PeerId([1; 32]))).collect();
        assert!(!lost.is_empty() && lost.len() < 8);
        let mut former = Former::default();
        former.ring_changed(&alone, &both, partitions());
        let has_lost = |former: &Former| partitions().filter(|partition| former.of(*partition).next().is_some()).collect::<BTreeSet<_>>();
        assert_eq!(has_lost(&former), lost);
        // It has not heard of the new ring yet, and says nothing of what it lost.
        former.told(PeerId([1; 32]), BTreeSet::new(), false);
        assert_eq!(has_lost(&former), lost);
        let rest: BTreeSet<Partition> = lost.iter().copied().take(1).collect();
        former.told(PeerId([1; 32]), rest.clone(), true);
        assert_eq!(has_lost(&former), rest);
        former.told(PeerId([1; 32]), BTreeSet::new(), true);
        assert_eq!(former, Former::default());
    }
}
