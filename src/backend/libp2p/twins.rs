//! Two live processes with one identity, and how whoever stands between them notices.
//!
//! A data folder that was copied and is run beside the original gives two processes with one key. They may never see each other, but
//! others see both, one after the other. An exchange of admission proves that a process was alive after the exchange began, since it answers
//! a number drawn then. So of each process it is remembered when it was first let in and when it was last proven alive, in one order:
//!
//! ```text
//! original   let in 1 ── its connection gives way at 2 ── dials again: alive at 3
//! copy                   let in 2 ───────────────────────────────────── dials again: is told of the original
//! ```
//!
//! The original was alive after the copy was let in: both live. A process that took the place of one that crashed never sees that, however
//! soon it comes: the former is not proven alive after it. What lay in a buffer proves nothing, since an exchange counts from its
//! beginning. For the order to show, the one that was let in last takes the connections of the identity: whoever lives on dials again.
//!
//! The process that is told decides for itself (`door`): the younger one stops.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::config::PEER_CONNECTIONS;
use crate::types::Process;

/// How long a proof that a process is alive is held against another: several times the longest wait between two dials.
const RIVAL_FOR: Duration = Duration::from_secs(120);
/// Processes of one peer, and peers, that are remembered.
const REMEMBERED: (usize, usize) = (8, 2 * PEER_CONNECTIONS);

/// A process that was let in.
#[derive(Debug)]
struct Seen {
    process: Process,
    address: Multiaddr,
    /// The turn at which it was let in first.
    let_in: u64,
    /// A turn at which it was alive, the latest known, and when that was.
    proven: u64,
    proven_at: Instant,
}

/// The processes that were let in, by their identity.
#[derive(Debug, Default)]
pub(super) struct Twins {
    turn: u64,
    /// Each list in the order in which they were let in last.
    peers: BTreeMap<PeerId, Vec<Seen>>,
}

impl Twins {
    /// Names the moment: later than all that were named before.
    pub(super) fn turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Notes that a process was let in by an exchange that began at a turn. Whether the one before it was another.
    pub(super) fn let_in(&mut self, peer: PeerId, process: Process, address: &Multiaddr, began: u64, now: Instant) -> bool {
        let turn = self.turn();
        if self.peers.len() >= REMEMBERED.1 && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, seen)| seen.last().map(|seen| seen.proven)).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
        let seen = self.peers.entry(peer).or_default();
        let takes_over = seen.last().is_some_and(|last| last.process != process);
        let known = seen.iter().position(|seen| seen.process == process).map(|place| seen.remove(place));
        let let_in = known.as_ref().map_or(turn, |known| known.let_in);
        let proven = known.map_or(began, |known| known.proven.max(began));
        seen.push(Seen { process, address: address.clone(), let_in, proven, proven_at: now });
        seen.drain(..seen.len().saturating_sub(REMEMBERED.0));
        takes_over
    }

    /// The eldest other process with this identity that was alive after this one was let in first, and where it was seen.
    pub(super) fn rival(&self, peer: PeerId, process: Process, now: Instant) -> Option<(Process, Multiaddr)> {
        let seen = self.peers.get(&peer)?;
        let let_in = seen.iter().find(|seen| seen.process == process)?.let_in;
        let is_rival = |other: &&Seen| {
            other.process != process && other.proven > let_in && now.saturating_duration_since(other.proven_at) <= RIVAL_FOR
        };
        seen.iter().filter(is_rival).min_by_key(|rival| rival.process).map(|rival| (rival.process, rival.address.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Process = Process { started_ms: 1, number: 9 };
    const NEW: Process = Process { started_ms: 2, number: 1 };

    struct Seer {
        twins: Twins,
        peer: PeerId,
        now: Instant,
    }

    impl Seer {
        fn new() -> Self {
            Self { twins: Twins::default(), peer: PeerId::random(), now: Instant::now() }
        }

        fn finish(&mut self, process: Process, began: u64) -> bool {
            self.twins.let_in(self.peer, process, &"/ip4/127.0.0.1/tcp/1".parse().unwrap(), began, self.now)
        }

        fn let_in(&mut self, process: Process) -> bool {
            let began = self.twins.turn();
            self.finish(process, began)
        }

        fn rival(&self, process: Process) -> Option<Process> {
            self.twins.rival(self.peer, process, self.now).map(|(rival, _)| rival)
        }
    }

    #[test]
    fn two_that_live_are_told_of_each_other_once_the_first_has_come_again() {
        let mut seer = Seer::new();
        assert!(!seer.let_in(OLD) && seer.let_in(NEW));
        assert_eq!((seer.rival(NEW), seer.rival(OLD)), (None, Some(NEW)));
        assert!(seer.let_in(OLD));
        assert_eq!(seer.rival(NEW), Some(OLD));
    }

    #[test]
    fn a_process_that_came_after_a_crash_has_no_rival_however_often_it_dials() {
        let mut seer = Seer::new();
        seer.let_in(OLD);
        assert!(seer.let_in(NEW), "it gets the connections of the one before it");
        for _ in 0..5 {
            assert!(!seer.let_in(NEW));
            assert_eq!(seer.rival(NEW), None);
        }
    }

    #[test]
    fn an_exchange_that_ends_late_proves_nothing_of_the_time_after_its_beginning() {
        let mut seer = Seer::new();
        seer.let_in(OLD);
        // The last word of the old process lay in a buffer while it crashed and its successor was let in.
        let began = seer.twins.turn();
        seer.let_in(NEW);
        seer.finish(OLD, began);
        assert_eq!(seer.rival(NEW), None);
    }

    #[test]
    fn a_rival_that_has_not_been_seen_for_long_is_none() {
        let mut seer = Seer::new();
        for process in [OLD, NEW, OLD] {
            seer.let_in(process);
        }
        seer.now += RIVAL_FOR;
        assert_eq!(seer.rival(NEW), Some(OLD));
        seer.now += Duration::from_millis(1);
        assert_eq!(seer.rival(NEW), None);
    }

    #[test]
    fn of_several_rivals_the_eldest_is_told() {
        let mut seer = Seer::new();
        let third = Process { started_ms: 3, number: 0 };
        for process in [third, OLD, NEW] {
            seer.let_in(process);
        }
        assert_eq!(seer.rival(third), Some(OLD));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_stay() {
        let mut seer = Seer::new();
        for number in 0..100 {
            seer.let_in(Process { started_ms: 5, number });
        }
        assert_eq!(seer.twins.peers[&seer.peer].len(), REMEMBERED.0);
        assert!(!seer.let_in(Process { started_ms: 5, number: 99 }));
        let first = seer.peer;
        for _ in 0..REMEMBERED.1 {
            seer.peer = PeerId::random();
            seer.let_in(OLD);
        }
        assert_eq!(seer.twins.peers.len(), REMEMBERED.1);
        assert!(!seer.twins.peers.contains_key(&first));
    }
}
