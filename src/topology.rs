//! What a peer knows of the cluster at this moment: the ring, the members, and who can be reached.
//!
//! Membership changes it; everybody else reads it, as one value, without waiting.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::former::Former;
use crate::members::{Members, Standing};
use crate::ring::Ring;
use crate::types::{Partition, PeerId, Place};

/// The cluster at one moment.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Who holds what.
    pub ring: Ring,
    /// Everybody that was ever heard of.
    pub members: Members,
    /// Members, other than this peer, that are connected and not down.
    pub reachable: BTreeSet<PeerId>,
    /// Peers that are no members any more, and connected and not down: what they still hold can be had.
    pub leaving: BTreeSet<PeerId>,
    /// Who still has rows of partitions that it no longer holds.
    pub former: Former,
}

/// Where the current [`Cluster`] is found.
#[derive(Clone)]
pub struct Topology {
    local: PeerId,
    replicas: usize,
    partitions: u16,
    current: Arc<ArcSwap<Cluster>>,
}

impl Topology {
    /// Begins with what this peer knows at its start.
    #[must_use]
    pub fn new(local: PeerId, replicas: usize, partitions: u16, members: Members) -> Self {
        let ring = Cluster::ring_of(&members, partitions, replicas);
        let cluster = Cluster { ring, members, reachable: BTreeSet::new(), leaving: BTreeSet::new(), former: Former::default() };
        Self { local, replicas, partitions, current: Arc::new(ArcSwap::from_pointee(cluster)) }
    }

    /// This peer.
    #[must_use]
    pub fn local(&self) -> PeerId {
        self.local
    }

    /// The configured number of copies of each partition (N).
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// The number of partitions (Q).
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The cluster at this moment.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        self.current.load_full()
    }

    /// Puts another cluster in place. Only membership does.
    pub fn publish(&self, cluster: Cluster) {
        self.current.store(Arc::new(cluster));
    }

    /// Where a key lies.
    #[must_use]
    pub fn place(&self, key: &[u8]) -> Place {
        Place::of(key, self.partitions)
    }

    /// Every partition.
    pub fn every_partition(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }
}

impl Cluster {
    /// The ring of a list of members.
    #[must_use]
    pub fn ring_of(members: &Members, partitions: u16, replicas: usize) -> Ring {
        Ring::build(&members.ring_members(), partitions, replicas).named(members.ring_name())
    }

    /// The holders of a partition that can be reached, this peer left out, in order of preference.
    pub fn reachable_holders(&self, partition: Partition) -> impl Iterator<Item = PeerId> + '_ {
        self.ring.holders(partition).iter().copied().filter(|peer| self.reachable.contains(peer))
    }

    /// The former holders of a partition that can be reached: each may have the only copy of a write.
    pub fn reachable_former(&self, partition: Partition) -> impl Iterator<Item = PeerId> + '_ {
        let is_heard = |peer: &PeerId| self.reachable.contains(peer) || self.leaving.contains(peer);
        self.former.of(partition).filter(move |peer| is_heard(peer) && !self.ring.is_holder(partition, *peer))
    }

    /// Whether a peer is in the ring.
    #[must_use]
    pub fn is_member(&self, peer: PeerId) -> bool {
        self.standing(peer) == Some(Standing::Joined)
    }

    /// Whether a peer takes part in the ring, if it was ever heard of.
    #[must_use]
    pub fn standing(&self, peer: PeerId) -> Option<Standing> {
        self.members.get(peer).map(|member| member.standing)
    }

    /// How many holders must have everything of a partition before a former holder may drop it: N, or all members where they are fewer. While
    /// this peer is a member itself, fewer than N hold all there is, and none of them is a former holder.
    #[must_use]
    pub fn copies_before_drop(&self, replicas: usize) -> usize {
        replicas.min(self.members.joined().count()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Member;

    #[test]
    fn what_is_dropped_lies_at_as_many_as_are_configured_or_at_all_members_where_they_are_fewer() {
        let id = |peer| PeerId([peer; 32]);
        let mut members = Members::default();
        for peer in 1..=4 {
            members.put_own(Member::sample(id(peer)));
        }
        let copies = |members: &Members| Topology::new(id(1), 3, 4, members.clone()).cluster().copies_before_drop(3);
        assert_eq!(copies(&members), 3);
        assert!(members.replace(id(3)) && members.replace(id(4)));
        assert_eq!(copies(&members), 3, "whoever is replaced is a member still: two holders are too few");
        assert!(members.take_out(id(3), Standing::Forgotten) && members.take_out(id(4), Standing::Left));
        assert_eq!(copies(&members), 2);
        assert!(members.take_out(id(1), Standing::Left) && members.take_out(id(2), Standing::Left));
        assert_eq!(copies(&members), 1, "nobody drops what nobody else has");
    }
}
