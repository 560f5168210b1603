//! A whole peer in one value: settings in, a running peer out. The program and programs that embed a peer start it here,
//! so that there is one wiring of node, backends and servers.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::config::NodeConfig;
use crate::node::Node;
use crate::types::PeerId;

/// The secret that all peers of a cluster share. Never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A secret as it was typed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a peer is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder for identity and data. One peer at a time.
    pub data_dir: PathBuf,
    /// Settings of the node itself. `protected` has to say whether there is no secret.
    pub node: NodeConfig,
    /// Only peers that know the same secret are let in; without one, only peers of this machine.
    pub secret: Option<Secret>,
    /// Where other peers reach this one.
    pub listen: Vec<Multiaddr>,
    /// Peers to dial first.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether peers are looked for on the local network.
    pub mdns: bool,
    /// Where the Redis protocol is served, if at all.
    pub resp: Option<SocketAddr>,
    /// Where health check and metrics are served, if at all.
    pub http: Option<SocketAddr>,
    /// Budget for caches and write buffers together, in bytes.
    pub memory_bytes: u64,
}

impl Settings {
    /// A peer for this machine alone, with its data in a folder: no secret, any free port, no servers.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            node: NodeConfig::default(),
            secret: None,
            listen: vec![Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(0))],
            bootstrap: Vec::new(),
            mdns: false,
            resp: None,
            http: None,
            memory_bytes: 256 << 20,
        }
    }
}

/// Why a peer did not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartFailure(String);

/// A running peer with its backends and servers.
pub struct Peer {
    node: Node,
}

impl Peer {
    /// Starts a peer. Returns once it serves clients.
    ///
    /// # Errors
    /// Where the data folder, an address or the network cannot be used.
    pub async fn start(_settings: Settings) -> Result<Self, StartFailure> {
        Err(StartFailure("the backends are not there yet".to_owned()))
    }

    /// The node: reads, writes, and what it tells about itself.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The identity of this peer.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.node.status().peer
    }

    /// Where the Redis protocol is served, if it is.
    #[must_use]
    pub fn resp(&self) -> Option<SocketAddr> {
        None
    }

    /// Where health check and metrics are served, if they are.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        None
    }

    /// The multiaddresses at which other peers reach this one.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        Vec::new()
    }

    /// Resolves when the peer has stopped by itself, with the reason.
    pub async fn failed(&self) -> String {
        self.node.failed().await
    }

    /// Stops the peer: takes no more commands, finishes those under way, makes all durable.
    pub async fn stop(&self) {
        self.node.stop().await;
    }
}
