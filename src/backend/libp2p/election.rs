//! Which of several connections between two peers carries their frames.
//!
//! When two peers dial each other at once there are two connections, and both must end up using the same one, without frames
//! overtaking each other. So one of the two decides: the peer with the smaller id *leads*. It opens its lanes on one
//! connection, and the other *follows* by opening its own on the same. There is never anything to agree on:
//!
//! ```text
//! smaller id                 larger id
//!   opens both lanes   →       takes this connection, whatever it used before
//!        complete      ←       opens both lanes
//! ```
//!
//! The leader keeps to its connection until that is closed. Connections that carry nothing are closed after a grace time.
//! This file holds the decisions for one other peer; `links` carries them out.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use crate::config::{LANES_TIMEOUT, SPARE_CONNECTION_GRACE};

/// What is to be done about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Open both lanes on it.
    Open(ConnectionId),
    /// It carries frames no longer.
    Abandon(ConnectionId),
    /// Close it.
    Close(ConnectionId),
}

/// The connections to one other peer.
#[derive(Debug)]
pub(super) struct Election {
    leads: bool,
    /// Each open connection, since when.
    connections: BTreeMap<ConnectionId, Instant>,
    chosen: Option<Chosen>,
}

#[derive(Clone, Copy, Debug)]
struct Chosen {
    connection: ConnectionId,
    since: Instant,
    complete: bool,
}

impl Election {
    /// Nothing is connected yet.
    pub(super) fn new(leads: bool) -> Self {
        Self { leads, connections: BTreeMap::new(), chosen: None }
    }

    /// Whether no connection is left.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// A connection was made.
    pub(super) fn established(&mut self, connection: ConnectionId, now: Instant) -> Vec<Step> {
        self.connections.insert(connection, now);
        self.choose(now)
    }

    /// The other peer opened a lane. Whether it may, and what follows.
    pub(super) fn invited(&mut self, connection: ConnectionId, now: Instant) -> (bool, Vec<Step>) {
        let current = self.chosen.map(|chosen| chosen.connection);
        if current == Some(connection) {
            return (true, Vec::new());
        }
        if self.leads || !self.connections.contains_key(&connection) {
            return (false, Vec::new());
        }
        self.chosen = Some(Chosen { connection, since: now, complete: false });
        // The leader left the former connection, which it does only when that is closed at its end.
        let mut steps: Vec<Step> = current.into_iter().flat_map(|old| [Step::Abandon(old), Step::Close(old)]).collect();
        steps.push(Step::Open(connection));
        (true, steps)
    }

    /// All lanes of a connection are open.
    pub(super) fn complete(&mut self, connection: ConnectionId) {
        if let Some(chosen) = self.chosen.as_mut().filter(|chosen| chosen.connection == connection) {
            chosen.complete = true;
        }
    }

    /// A connection is closed.
    pub(super) fn closed(&mut self, connection: ConnectionId, now: Instant) -> Vec<Step> {
        self.connections.remove(&connection);
        if self.chosen.is_some_and(|chosen| chosen.connection == connection) {
            self.chosen = None;
            let mut steps = vec![Step::Abandon(connection)];
            steps.extend(self.choose(now));
            return steps;
        }
        Vec::new()
    }

    /// Time has passed.
    pub(super) fn tick(&self, now: Instant) -> Vec<Step> {
        let overdue = |(connection, since): (&ConnectionId, &Instant)| {
            let (since, patience) = match self.chosen {
                Some(chosen) if chosen.connection == *connection && chosen.complete => return None,
                Some(chosen) if chosen.connection == *connection => (chosen.since, LANES_TIMEOUT),
                // Only the leader knows what is spare; the follower gives it time to decide.
                _ if self.leads => (*since, SPARE_CONNECTION_GRACE),
                _ => (*since, LANES_TIMEOUT + SPARE_CONNECTION_GRACE),
            };
            (elapsed(since, now) > patience).then_some(Step::Close(*connection))
        };
        self.connections.iter().filter_map(overdue).collect()
    }

    fn choose(&mut self, now: Instant) -> Vec<Step> {
        if !self.leads || self.chosen.is_some() {
            return Vec::new();
        }
        let oldest = self.connections.iter().min_by_key(|(_, since)| **since);
        let Some((&connection, _)) = oldest else {
            return Vec::new();
        };
        self.chosen = Some(Chosen { connection, since: now, complete: false });
        vec![Step::Open(connection)]
    }
}

fn elapsed(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn the_leader_takes_the_first_connection_and_closes_the_spare_one() {
        let (now, mut leader) = (Instant::now(), Election::new(true));
        assert_eq!(leader.established(id(1), now), [Step::Open(id(1))]);
        assert_eq!(leader.established(id(2), now), []);
        leader.complete(id(1));
        assert_eq!(leader.tick(now + SPARE_CONNECTION_GRACE), []);
        assert_eq!(leader.tick(now + SPARE_CONNECTION_GRACE * 2), [Step::Close(id(2))]);
        assert_eq!(leader.closed(id(2), now), []);
        assert!(!leader.is_empty());
    }

    #[test]
    fn the_leader_goes_to_another_connection_only_when_its_own_is_closed() {
        let (now, mut leader) = (Instant::now(), Election::new(true));
        leader.established(id(1), now);
        leader.established(id(2), now);
        assert_eq!(leader.invited(id(2), now), (false, vec![]));
        assert_eq!(leader.closed(id(1), now), [Step::Abandon(id(1)), Step::Open(id(2))]);
        assert_eq!(leader.closed(id(2), now), [Step::Abandon(id(2))]);
        assert!(leader.is_empty());
    }

    #[test]
    fn the_follower_opens_nothing_of_its_own_and_goes_where_the_leader_goes() {
        let (now, mut follower) = (Instant::now(), Election::new(false));
        assert_eq!(follower.established(id(1), now), []);
        assert_eq!(follower.established(id(2), now), []);
        assert_eq!(follower.invited(id(2), now), (true, vec![Step::Open(id(2))]));
        assert_eq!(follower.invited(id(2), now), (true, vec![]), "the second lane");
        follower.complete(id(2));
        assert_eq!(follower.invited(id(1), now), (true, vec![Step::Abandon(id(2)), Step::Close(id(2)), Step::Open(id(1))]));
    }

    #[test]
    fn a_connection_whose_lanes_never_open_is_closed() {
        let (now, mut leader, mut follower) = (Instant::now(), Election::new(true), Election::new(false));
        leader.established(id(1), now);
        follower.established(id(1), now);
        let late = now + LANES_TIMEOUT + SPARE_CONNECTION_GRACE * 2;
        assert_eq!(leader.tick(late), [Step::Close(id(1))]);
        assert_eq!(follower.tick(late), [Step::Close(id(1))]);
        follower.invited(id(1), now);
        follower.complete(id(1));
        assert_eq!(follower.tick(late), []);
    }
}
