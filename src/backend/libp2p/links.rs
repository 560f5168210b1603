//! Makes links out of connections: a link is one connection with both lanes open in both directions.
//!
//! Each lane is two streams, one each way, so no stream is ever read by one task and written by another. Which connection
//! becomes the link is decided by [`super::election`]; this file opens, collects and hands out streams, and keeps to what a
//! swarm's behaviour may do: decide at once and never wait.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream};
use tokio::time::Instant;
use tracing::debug;

use super::election::{Election, Step};
use super::handler::{Handler, LANES, OpenLanes, Opened};
use crate::env::Lane;

/// One lane of a link.
#[derive(Debug)]
pub(super) struct LaneStreams {
    pub(super) lane: Lane,
    /// Opened by us: only written.
    pub(super) writing: Stream,
    /// Opened by the other peer: only read.
    pub(super) reading: Stream,
}

/// What the swarm's task is told.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A link can begin.
    Ready { peer: PeerId, connection: ConnectionId, endpoint: ConnectedPoint, lanes: Vec<LaneStreams> },
    /// This connection is a link no longer.
    Abandoned { peer: PeerId, connection: ConnectionId },
}

/// The streams of a connection that is becoming a link.
#[derive(Debug)]
struct Forming {
    endpoint: ConnectedPoint,
    /// In the order of [`LANES`].
    writing: [Option<Stream>; 2],
    reading: [Option<Stream>; 2],
}

impl Forming {
    /// Hands the streams out once there are all four.
    fn complete(&mut self) -> Option<Vec<LaneStreams>> {
        if self.writing.iter().chain(&self.reading).any(Option::is_none) {
            return None;
        }
        let streams = self.writing.iter_mut().zip(&mut self.reading).zip(LANES);
        streams.map(|((writing, reading), lane)| Some(LaneStreams { lane, writing: writing.take()?, reading: reading.take()? })).collect()
    }
}

/// The behaviour that makes links.
pub(super) struct Links {
    local: PeerId,
    elections: BTreeMap<PeerId, Election>,
    forming: BTreeMap<ConnectionId, Forming>,
    actions: VecDeque<ToSwarm<LinkEvent, OpenLanes>>,
}

impl Links {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, elections: BTreeMap::new(), forming: BTreeMap::new(), actions: VecDeque::new() }
    }

    /// Closes what has waited for too long. Called about every second.
    pub(super) fn tick(&mut self, now: Instant) {
        let steps: Vec<_> = self.elections.iter().map(|(peer, election)| (*peer, election.tick(now))).collect();
        for (peer, steps) in steps {
            self.carry_out(peer, steps);
        }
    }

    fn carry_out(&mut self, peer_id: PeerId, steps: Vec<Step>) {
        for step in steps {
            self.actions.push_back(match step {
                Step::Open(connection) => ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event: OpenLanes },
                Step::Abandon(connection) => ToSwarm::GenerateEvent(LinkEvent::Abandoned { peer: peer_id, connection }),
                Step::Close(connection) => ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) },
            });
        }
    }

    /// Keeps a stream until the link is complete. A second one for the same lane is dropped, which closes it.
    fn keep(&mut self, peer: PeerId, connection: ConnectionId, opened: Opened) {
        let Some(forming) = self.forming.get_mut(&connection) else {
            return;
        };
        let slot = |lane: Lane| usize::from(lane == Lane::Bulk);
        match opened {
            Opened::ByUs(lane, stream) => forming.writing[slot(lane)].get_or_insert(stream),
            Opened::ByRemote(lane, stream) => forming.reading[slot(lane)].get_or_insert(stream),
            Opened::Failed(_) => return,
        };
        if let Some(lanes) = forming.complete() {
            let endpoint = forming.endpoint.clone();
            self.forming.remove(&connection);
            if let Some(election) = self.elections.get_mut(&peer) {
                election.complete(connection);
            }
            self.actions.push_back(ToSwarm::GenerateEvent(LinkEvent::Ready { peer, connection, endpoint, lanes }));
        }
    }
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                let forming = Forming { endpoint: endpoint.clone(), writing: [None, None], reading: [None, None] };
                self.forming.insert(connection_id, forming);
                let leads = self.local < peer_id;
                let election = self.elections.entry(peer_id).or_insert_with(|| Election::new(leads));
                let steps = election.established(connection_id, Instant::now());
                self.carry_out(peer_id, steps);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.forming.remove(&connection_id);
                let Some(election) = self.elections.get_mut(&peer_id) else {
                    return;
                };
                let steps = election.closed(connection_id, Instant::now());
                if election.is_empty() {
                    self.elections.remove(&peer_id);
                }
                self.carry_out(peer_id, steps);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, opened: THandlerOutEvent<Self>) {
        match &opened {
            Opened::ByUs(..) => {}
            Opened::ByRemote(..) => {
                let Some(election) = self.elections.get_mut(&peer) else {
                    return;
                };
                let (accepted, steps) = election.invited(connection, Instant::now());
                self.carry_out(peer, steps);
                if !accepted {
                    return;
                }
            }
            Opened::Failed(reason) => {
                debug!(%peer, reason, "a lane could not be opened; closing the connection");
                self.carry_out(peer, vec![Step::Close(connection)]);
            }
        }
        self.keep(peer, connection, opened);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Filled by the methods above and by `tick`, after all of which the swarm polls again.
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
