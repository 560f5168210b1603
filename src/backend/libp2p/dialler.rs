//! Whom to dial, and when.
//!
//! Three kinds of targets: *bootstrap* addresses, behind which an unknown peer sits; *sought* peers, which are members; and
//! *discovered* peers, which anybody on the network can make up, so they are capped and tried with more patience. Every
//! target is tried again with a wait that doubles up to a limit and is spread at random, so that a hundred peers that lost the
//! same one don't come back all at once. Nothing is dialled while the peer is connected.
//!
//! Pure: time and chance are arguments, and the dials it returns are carried out by the swarm's task.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::config::{
    DIAL_WAIT_FIRST, DIAL_WAIT_LONGEST, DISCOVERED_PEERS, DISCOVERED_WAIT_FIRST, DISCOVERED_WAIT_LONGEST, PEER_ADDRESSES,
    PENDING_CONNECTIONS,
};

/// What a dial is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    /// Whoever answers at this address, or only the peer that it names at its end.
    Bootstrap(Multiaddr),
    /// This peer.
    Peer(PeerId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bootstrap(address) => address.fmt(f),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

/// A dial that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dial {
    pub(super) target: Target,
    /// Whom to expect there, where it is known.
    pub(super) peer: Option<PeerId>,
    pub(super) addresses: Vec<Multiaddr>,
}

#[derive(Debug)]
struct Plan {
    /// The peer that is there, as far as known.
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    /// Bootstrap addresses and sought peers; the others are dropped when they are not heard of.
    wanted: bool,
    due: Instant,
    wait: Duration,
}

impl Plan {
    fn first_wait(&self) -> Duration {
        if self.wanted { DIAL_WAIT_FIRST } else { DISCOVERED_WAIT_FIRST }
    }

    fn longest_wait(&self) -> Duration {
        if self.wanted { DIAL_WAIT_LONGEST } else { DISCOVERED_WAIT_LONGEST }
    }
}

/// The plan of all dials.
#[derive(Debug, Default)]
pub(super) struct Dialler {
    plans: BTreeMap<Target, Plan>,
    connected: BTreeSet<PeerId>,
    in_flight: BTreeMap<ConnectionId, Target>,
}

impl Dialler {
    /// An address to dial for ever. With `/p2p/ID` at its end, only that peer counts.
    pub(super) fn bootstrap(&mut self, address: Multiaddr, now: Instant) {
        let (plain, peer) = split_peer(address.clone());
        let plan = Plan { peer, addresses: vec![plain], wanted: true, due: now, wait: DIAL_WAIT_FIRST };
        self.plans.insert(Target::Bootstrap(address), plan);
    }

    /// A member and its addresses; without addresses it is no longer sought.
    pub(super) fn seek(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let addresses: Vec<_> = addresses.into_iter().map(|address| split_peer(address).0).take(PEER_ADDRESSES).collect();
        let target = Target::Peer(peer);
        if addresses.is_empty() {
            self.plans.remove(&target);
            return;
        }
        let plan = self.plans.entry(target).or_insert_with(|| Plan {
            peer: Some(peer),
            addresses: Vec::new(),
            wanted: true,
            due: now,
            wait: DIAL_WAIT_FIRST,
        });
        let news = plan.addresses != addresses || !plan.wanted;
        plan.wanted = true;
        if news {
            plan.addresses = addresses;
            plan.wait = DIAL_WAIT_FIRST;
            plan.due = plan.due.min(now + DIAL_WAIT_FIRST);
        }
    }

    /// Somebody says that there is a peer.
    pub(super) fn discovered(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        let address = split_peer(address).0;
        if let Some(plan) = self.plans.get_mut(&Target::Peer(peer)) {
            if !plan.addresses.contains(&address) && plan.addresses.len() < PEER_ADDRESSES {
                plan.addresses.push(address);
            }
            return;
        }
        if self.plans.values().filter(|plan| !plan.wanted).count() < DISCOVERED_PEERS {
            let plan = Plan { peer: Some(peer), addresses: vec![address], wanted: false, due: now, wait: DISCOVERED_WAIT_FIRST };
            self.plans.insert(Target::Peer(peer), plan);
        }
    }

    /// A discovered peer was not heard of for long.
    pub(super) fn lost(&mut self, peer: PeerId) {
        let target = Target::Peer(peer);
        if self.plans.get(&target).is_some_and(|plan| !plan.wanted) {
            self.plans.remove(&target);
        }
    }

    /// What is to be dialled now. `chance` gives a number between 0 and 1 for each.
    pub(super) fn due(&mut self, now: Instant, mut chance: impl FnMut() -> f64) -> Vec<Dial> {
        let free = PENDING_CONNECTIONS.saturating_sub(self.in_flight.len());
        let (connected, in_flight) = (&self.connected, &self.in_flight);
        let ready = self.plans.iter_mut().filter(|(target, plan)| {
            plan.due <= now
                && !plan.peer.is_some_and(|peer| connected.contains(&peer))
                && !in_flight.values().any(|dialled| dialled == *target)
        });
        let dial = |(target, plan): (&Target, &mut Plan)| {
            plan.due = now + plan.wait.mul_f64(0.5 + chance());
            plan.wait = (plan.wait * 2).min(plan.longest_wait());
            let peer = match target {
                Target::Peer(peer) => Some(*peer),
                // Whoever was there last time need not be there now, unless the address says so.
                Target::Bootstrap(address) => split_peer(address.clone()).1,
            };
            Dial { target: target.clone(), peer, addresses: plan.addresses.clone() }
        };
        ready.take(free).map(dial).collect()
    }

    /// A dial was begun.
    pub(super) fn began(&mut self, connection: ConnectionId, target: Target) {
        self.in_flight.insert(connection, target);
    }

    /// A dial failed; says what it was for.
    pub(super) fn failed(&mut self, connection: ConnectionId) -> Option<Target> {
        self.in_flight.remove(&connection)
    }

    /// Whether a target is a bootstrap address or a member.
    pub(super) fn is_wanted(&self, target: &Target) -> bool {
        self.plans.get(target).is_some_and(|plan| plan.wanted)
    }

    /// A peer is connected, by a dial of ours or by one of its own.
    pub(super) fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(plan) = self.in_flight.remove(&connection).and_then(|target| self.plans.get_mut(&target)) {
            plan.peer = Some(peer);
        }
        self.connected.insert(peer);
    }

    /// The last connection to a peer is gone. A link that broke is worth an early try, though not at the same instant at
    /// both ends.
    pub(super) fn disconnected(&mut self, peer: PeerId, now: Instant, chance: f64) {
        self.connected.remove(&peer);
        for plan in self.plans.values_mut().filter(|plan| plan.peer == Some(peer)) {
            plan.wait = plan.first_wait();
            plan.due = now + plan.wait.mul_f64(chance);
        }
    }
}

/// Takes a `/p2p/ID` at the end of an address apart.
pub(super) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    use libp2p::multiaddr::Protocol;
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (address, Some(peer))
        }
        _ => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn dial_all(dialler: &mut Dialler, now: Instant) -> Vec<Dial> {
        dialler.due(now, || 0.5)
    }

    #[test]
    fn a_bootstrap_address_is_dialled_for_ever_with_growing_waits() {
        let (start, mut dialler) = (Instant::now(), Dialler::default());
        dialler.bootstrap(address(1), start);
        let mut tries = Vec::new();
        for second in 0..300 {
            if !dial_all(&mut dialler, start + Duration::from_secs(second)).is_empty() {
                tries.push(second);
            }
        }
        assert_eq!(tries[..6], [0, 1, 3, 7, 15, 31]);
        assert!(tries.windows(2).skip(6).all(|pair| pair[1] - pair[0] == DIAL_WAIT_LONGEST.as_secs()));
    }

    #[test]
    fn nothing_is_dialled_while_its_peer_is_connected_whoever_dialled() {
        let (now, mut dialler, peer) = (Instant::now(), Dialler::default(), PeerId::random());
        dialler.bootstrap(address(1), now);
        dialler.seek(peer, vec![address(2)], now);
        let dials = dial_all(&mut dialler, now);
        assert_eq!(dials.len(), 2);
        let id = ConnectionId::new_unchecked;
        for (number, dial) in dials.into_iter().enumerate() {
            dialler.began(id(number), dial.target);
        }
        let later = now + Duration::from_secs(3600);
        assert_eq!(dial_all(&mut dialler, later), [], "both are under way");
        dialler.connected(peer, id(0));
        dialler.connected(peer, id(1));
        assert_eq!(dial_all(&mut dialler, later), [], "both are the same peer");
        dialler.disconnected(peer, later, 1.0);
        assert_eq!(dial_all(&mut dialler, later), []);
        assert_eq!(dial_all(&mut dialler, later + DIAL_WAIT_FIRST).len(), 2);
    }

    #[test]
    fn made_up_peers_are_capped_and_never_displace_members() {
        let (now, mut dialler) = (Instant::now(), Dialler::default());
        for _ in 0..DISCOVERED_PEERS * 2 {
            dialler.discovered(PeerId::random(), address(1), now);
        }
        let member = PeerId::random();
        dialler.seek(member, vec![address(2)], now);
        assert_eq!(dialler.plans.len(), DISCOVERED_PEERS + 1);
        let dials = dial_all(&mut dialler, now);
        assert_eq!(dials.len(), PENDING_CONNECTIONS);
        for port in 0..100 {
            dialler.discovered(member, address(port), now);
        }
        assert_eq!(dialler.plans[&Target::Peer(member)].addresses.len(), PEER_ADDRESSES);
    }

    #[test]
    fn an_expired_record_ends_the_search_for_a_stranger_but_not_for_a_member() {
        let (now, mut dialler) = (Instant::now(), Dialler::default());
        let (stranger, member) = (PeerId::random(), PeerId::random());
        dialler.discovered(stranger, address(1), now);
        dialler.discovered(member, address(2), now);
        dialler.seek(member, vec![address(2)], now);
        dialler.lost(stranger);
        dialler.lost(member);
        assert_eq!(dial_all(&mut dialler, now).len(), 1);
        dialler.seek(member, vec![], now);
        assert_eq!(dial_all(&mut dialler, now + Duration::from_secs(60)), []);
    }

    #[test]
    fn a_peer_id_at_the_end_of_an_address_is_taken_apart() {
        let peer = PeerId::random();
        let full: Multiaddr = format!("{}/p2p/{peer}", address(1)).parse().unwrap();
        assert_eq!(split_peer(full), (address(1), Some(peer)));
        assert_eq!(split_peer(address(1)), (address(1), None));
    }
}
