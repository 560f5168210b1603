//! The ring: which peers hold which partition.
//!
//! The key space is a circle. Each peer stands on it with 64 tokens (times its capacity), drawn from the hash of its id, and each
//! partition is a point on it. All partitions walk clockwise at one speed; whoever meets a token takes a place at its peer, as long
//! as the peer has one left, until it has N of them. A peer has 1.10 times its fair share of places, so nobody is overloaded, and
//! a peer that comes or goes changes only who meets whom near its tokens.
//!
//! ```text
//!      partition 0          1          2          3
//!          |----a--b-----c--|--a---b---|-c---a----|--b----c--   tokens of the peers a, b, c
//!          0: a, b          1: a, b    2: c, a    3: b, c       with two copies and room for three at each peer
//! ```
//!
//! The assignment is a pure function of the member set: peers that know the same members compute the same ring, whatever the order
//! in which they learnt of them. Copies go to different zones where there are enough ([`shares`] tells what zones do to the shares).
//!
//! Source: consistent hashing (Karger et al., 1997) with fixed partitions (Dynamo, 2007) and bounded loads (Mirrokni, Thorup,
//! Zadimoghaddam, 2016). Here the walks run at the same time, so that no partition comes before another.

mod assign;
mod shares;
mod tokens;

use std::collections::BTreeMap;

use crate::types::{Partition, PeerId};

/// A peer as far as the ring is concerned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RingMember {
    /// Who.
    pub peer: PeerId,
    /// Where it stands; copies of a partition go to different zones. A peer without a zone is a zone of its own.
    pub zone: Option<String>,
    /// Its share relative to other peers; 0 counts as 1.
    pub capacity: u32,
}

/// Who holds which partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ring {
    holders: Vec<Vec<PeerId>>,
    copies: BTreeMap<PeerId, usize>,
    name: u64,
}

impl Ring {
    /// Places `replicas` copies of each of `partitions` at distinct members; with fewer members, one copy at each.
    #[must_use]
    pub fn build(members: &[RingMember], partitions: u16, replicas: usize) -> Self {
        let members: BTreeMap<PeerId, &RingMember> = members.iter().map(|member| (member.peer, member)).collect();
        let members: Vec<&RingMember> = members.into_values().collect();
        let shares = shares::Shares::of(&members, partitions, replicas);
        let tokens = tokens::tokens(&members);
        let holders: Vec<Vec<PeerId>> = assign::assign(&tokens, &shares, partitions)
            .into_iter()
            .map(|holders| holders.into_iter().map(|member| members[member].peer).collect())
            .collect();
        let mut copies: BTreeMap<PeerId, usize> = members.iter().map(|member| (member.peer, 0)).collect();
        for peer in holders.iter().flatten() {
            *copies.entry(*peer).or_default() += 1;
        }
        Self { holders, copies, name: 0 }
    }

    /// This ring under a name. Two rings of one name follow from one history of members: majorities are counted within one name only.
    #[must_use]
    pub fn named(self, name: u64) -> Self {
        Self { name, ..self }
    }

    /// Its name; 0 where it was given none.
    #[must_use]
    pub fn name(&self) -> u64 {
        self.name
    }

    /// The peers that hold a partition, distinct, in order of preference. Empty for a partition that does not exist.
    #[must_use]
    pub fn holders(&self, partition: Partition) -> &[PeerId] {
        self.holders.get(usize::from(partition.0)).map_or(&[], Vec::as_slice)
    }

    /// How many partitions a peer holds.
    #[must_use]
    pub fn copies(&self, peer: PeerId) -> usize {
        self.copies.get(&peer).copied().unwrap_or(0)
    }

    /// Whether a peer holds a partition.
    #[must_use]
    pub fn is_holder(&self, partition: Partition, peer: PeerId) -> bool {
        self.holders(partition).contains(&peer)
    }

    /// The partitions that a peer holds, in order.
    pub fn partitions_of(&self, peer: PeerId) -> impl Iterator<Item = Partition> + '_ {
        (0..).zip(&self.holders).filter(move |(_, holders)| holders.contains(&peer)).map(|(partition, _)| Partition(partition))
    }

    /// Every member, in order of id.
    pub fn members(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.copies.keys().copied()
    }
}

#[cfg(test)]
mod tests;
