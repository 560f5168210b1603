//! Limits how many connections one other machine may be making to this peer at once.
//!
//! The limits of libp2p count all pending connections together: a stranger that opens thirty and says nothing would keep
//! members out for as long as it likes. Peers of this machine are not counted: they share one address, and whoever is on it can
//! do worse.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::address::ip;
use crate::config::PENDING_PER_ADDRESS;

/// An address has too many connections in the making.
#[derive(Debug, thiserror::Error)]
#[error("{0} is making too many connections at once")]
pub(super) struct TooMany(IpAddr);

/// Counts connections in the making.
#[derive(Debug, Default)]
pub(super) struct Pending {
    from: BTreeMap<ConnectionId, IpAddr>,
}

impl Pending {
    fn begin(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), TooMany> {
        let Some(ip) = ip(remote).filter(|ip| !ip.is_loopback()) else {
            return Ok(());
        };
        if self.from.values().filter(|from| **from == ip).count() >= PENDING_PER_ADDRESS {
            return Err(TooMany(ip));
        }
        self.from.insert(connection, ip);
        Ok(())
    }

    fn end(&mut self, connection: ConnectionId) {
        self.from.remove(&connection);
    }
}

impl NetworkBehaviour for Pending {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.begin(connection, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => self.end(established.connection_id),
            FromSwarm::ListenFailure(failure) => self.end(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_hold_all_places_and_gets_them_back() {
        let id = ConnectionId::new_unchecked;
        let (stranger, member): (Multiaddr, Multiaddr) = ("/ip4/10.0.0.1/tcp/1".parse().unwrap(), "/ip4/10.0.0.2/tcp/1".parse().unwrap());
        let mut pending = Pending::default();
        let held = (0..100).filter(|n| pending.begin(id(*n), &stranger).is_ok()).count();
        assert_eq!(held, PENDING_PER_ADDRESS);
        assert!(pending.begin(id(200), &member).is_ok());
        pending.end(id(0));
        assert!(pending.begin(id(201), &stranger).is_ok());
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert!((300..400).all(|n| pending.begin(id(n), &local).is_ok()));
    }
}
