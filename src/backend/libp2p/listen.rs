//! Listening, or a clear word why not.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use tokio::time::timeout;

use super::NetworkError;
use super::driver::Behaviour;

/// How long the system may take to tell the addresses of a listener.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for more addresses of a listener on all interfaces; they come together.
const MORE_ADDRESSES: Duration = Duration::from_millis(50);

/// Listens on every address. Returns the concrete ones.
pub(super) async fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[Multiaddr]) -> Result<Vec<(ListenerId, Multiaddr)>, NetworkError> {
    for address in addresses {
        check_free(address)?;
    }
    let mut waiting = Vec::new();
    for address in addresses {
        let listener = swarm.listen_on(address.clone()).map_err(|error| NetworkError::listen(address, error))?;
        waiting.push((listener, address));
    }
    let mut listeners = Vec::new();
    loop {
        let patience = if waiting.is_empty() { MORE_ADDRESSES } else { LISTEN_TIMEOUT };
        match (timeout(patience, swarm.select_next_some()).await, waiting.first()) {
            (Ok(SwarmEvent::NewListenAddr { listener_id, address }), _) => {
                waiting.retain(|(listener, _)| *listener != listener_id);
                listeners.push((listener_id, address));
            }
            (Ok(SwarmEvent::ListenerClosed { listener_id, reason, .. }), _) => {
                let reason = reason.err().map_or_else(|| "it was closed at once".to_owned(), |error| error.to_string());
                if let Some((_, address)) = waiting.iter().find(|(listener, _)| *listener == listener_id) {
                    return Err(NetworkError::listen(address, reason));
                }
                listeners.retain(|(listener, _)| *listener != listener_id);
            }
            (Ok(_), _) => {}
            (Err(_), Some((_, address))) => return Err(NetworkError::listen(address, "the system told no address for it")),
            (Err(_), None) => return Ok(listeners),
        }
    }
}

/// Fails where another process listens on the same port.
///
/// libp2p lets two processes share a port, and the system then deals connections out to both.
fn check_free(address: &Multiaddr) -> Result<(), NetworkError> {
    let Some(socket) = socket_address(address) else {
        return Err(NetworkError::listen(address, "it is not of the form /ip4/IP/tcp/PORT or /ip6/IP/tcp/PORT"));
    };
    if socket.port() == 0 {
        return Ok(());
    }
    match TcpListener::bind(socket) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(NetworkError::PortTaken(address.clone())),
        Err(error) => Err(NetworkError::listen(address, error)),
    }
}

fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
