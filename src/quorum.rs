//! Counting a quorum: how many distinct peers a level needs, and whether they have answered.

use std::collections::BTreeSet;

use crate::types::{Level, PeerId};

/// A majority of the configured number of replicas: never of a ring that has shrunk, else two halves of a cluster would both have one.
#[must_use]
pub fn majority(replicas: usize) -> usize {
    replicas / 2 + 1
}

/// How many distinct peers must have a write, as replica or (at `sloppy`) as hint. `reachable` counts this peer too.
#[must_use]
pub fn needed_for_write(level: Level, replicas: usize, reachable: usize) -> usize {
    match level {
        Level::Local | Level::One => 1,
        Level::Sloppy => reachable.clamp(1, 2),
        Level::Quorum => majority(replicas),
        Level::All => replicas,
    }
}

/// How many replicas a read must hear. `reachable` counts those that hold the key and have finished their first sync.
#[must_use]
pub fn needed_for_read(level: Level, replicas: usize, reachable: usize) -> usize {
    match level {
        // What replicas do not exist can't be heard.
        Level::Sloppy => reachable.clamp(1, 2).min(replicas),
        level => needed_for_write(level, replicas, reachable),
    }
}

/// Peers that have answered, each counted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    needed: usize,
    peers: BTreeSet<PeerId>,
}

impl Tally {
    /// Waits for a number of peers.
    #[must_use]
    pub fn new(needed: usize) -> Self {
        Self { needed, peers: BTreeSet::new() }
    }

    /// Counts a peer.
    pub fn record(&mut self, peer: PeerId) {
        self.peers.insert(peer);
    }

    /// Asks for fewer, since fewer can be reached. Never for more.
    pub fn lower(&mut self, needed: usize) {
        self.needed = self.needed.min(needed);
    }

    /// How many are needed.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// How many have answered.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.peers.len()
    }

    /// Whether enough have.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.reached() >= self.needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_majorities_always_meet() {
        for replicas in 1..=9 {
            assert!(2 * majority(replicas) > replicas);
            assert!(majority(replicas) <= replicas);
        }
    }

    #[test]
    fn levels_count_from_the_configured_number() {
        assert_eq!(needed_for_write(Level::Quorum, 3, 1), 2);
        assert_eq!(needed_for_write(Level::All, 3, 2), 3);
        assert_eq!([0, 1, 2, 5].map(|reachable| needed_for_write(Level::Sloppy, 3, reachable)), [1, 1, 2, 2]);
        assert_eq!(needed_for_write(Level::Sloppy, 1, 5), 2);
        assert_eq!(needed_for_read(Level::Sloppy, 1, 5), 1);
        assert_eq!(needed_for_read(Level::One, 3, 3), 1);
    }

    #[test]
    fn a_peer_counts_once() {
        let mut tally = Tally::new(2);
        tally.record(PeerId([1; 32]));
        tally.record(PeerId([1; 32]));
        assert_eq!((tally.reached(), tally.is_reached()), (1, false));
        tally.record(PeerId([2; 32]));
        assert!(tally.is_reached());
        tally.lower(5);
        assert_eq!(tally.needed(), 2);
    }
}
