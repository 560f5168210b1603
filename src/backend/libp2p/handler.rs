//! The handler of one connection: opens the lanes when told to, and passes on what the other peer opens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};

use crate::env::Lane;

const OPERATIONS: StreamProtocol = StreamProtocol::new("/ringtide/operations/1");
const BULK: StreamProtocol = StreamProtocol::new("/ringtide/bulk/1");

/// Both lanes, in the order in which they are kept.
pub(super) const LANES: [Lane; 2] = [Lane::Operations, Lane::Bulk];

fn protocol(lane: Lane) -> StreamProtocol {
    match lane {
        Lane::Operations => OPERATIONS,
        Lane::Bulk => BULK,
    }
}

/// Takes a stream of either lane and tells which it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct EitherLane;

impl UpgradeInfo for EitherLane {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        LANES.map(protocol)
    }
}

impl InboundUpgrade<Stream> for EitherLane {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        ready(Ok((if info == OPERATIONS { Lane::Operations } else { Lane::Bulk }, stream)))
    }
}

/// Tells a handler to open its lanes.
#[derive(Debug)]
pub(super) struct OpenLanes;

/// What a handler reports.
#[derive(Debug)]
pub(super) enum Opened {
    /// A lane that this peer opened.
    ByUs(Lane, Stream),
    /// A lane that the other peer opened.
    ByRemote(Lane, Stream),
    /// A lane could not be opened.
    Failed(String),
}

/// The handler of one connection.
#[derive(Default)]
pub(super) struct Handler {
    opening: VecDeque<Lane>,
    opened: VecDeque<Opened>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenLanes;
    type ToBehaviour = Opened;
    type InboundProtocol = EitherLane;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, ()> {
        SubstreamProtocol::new(EitherLane, ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Lane, Opened>> {
        // Both queues are filled by the methods below only, after each of which the connection polls again.
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        match self.opening.pop_front() {
            Some(lane) => {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol(lane)), lane);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, OpenLanes: OpenLanes) {
        self.opening.extend(LANES);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (lane, stream), .. }) => {
                self.opened.push_back(Opened::ByRemote(lane, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: lane }) => {
                self.opened.push_back(Opened::ByUs(lane, stream));
            }
            ConnectionEvent::DialUpgradeError(error) => self.opened.push_back(Opened::Failed(error.error.to_string())),
            _ => {}
        }
    }
}
