//! The real network: libp2p over TCP, with encryption (noise), admission, and streams (yamux).
//!
//! The path of a frame: [`Network::send`] puts it into the [`outbox`] of its peer and lane; the [`link`]'s writer gathers what
//! waits into one write; at the other end the link's reader cuts the stream into frames ([`frame`]) and hands them to the node,
//! waiting where the node is busy. The swarm's own task ([`driver`]) sees none of it: it makes connections
//! ([`dialler`], [`discovery`]), lets peers in ([`admission`], [`door`], [`transport`]), notices who is there twice ([`twins`]) and picks the connection that becomes the link
//! ([`election`], [`links`]).

mod address;
pub mod admission;
mod dialler;
mod discovery;
mod door;
mod driver;
mod election;
pub mod frame;
mod handler;
mod link;
mod links;
mod listen;
mod outbox;
mod pending;
mod quiet;
mod transport;
mod twins;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Swarm, swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub use admission::Secret;
pub use libp2p::Multiaddr;
pub use libp2p::identity::Keypair;

use admission::Terms;
use door::Door;
use driver::{Behaviour, Driver, Shared, Wishes};
use link::Routes;
use links::Links;
use pending::Pending;
use quiet::Quiet;
use twins::Twins;

use crate::config::{CONNECTIONS_PER_PEER, LINK_DRAIN, NETWORK_EVENTS, PEER_CONNECTIONS, PENDING_CONNECTIONS};
use crate::env::{Lane, Network, NetworkEvent, SendError};
use crate::tasks::Tasks;
use crate::types::{PeerId, Process};

/// A connection without streams is closed after this long; links always have streams.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How a peer takes part in the network.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The identity: an ed25519 key.
    pub keypair: Keypair,
    /// Name of the cluster.
    pub cluster: String,
    /// What proves that a peer belongs to the cluster.
    pub secret: Option<Secret>,
    /// Partitions of the key space; peers with another number are refused.
    pub partitions: u16,
    /// Where to listen: `/ip4/IP/tcp/PORT` or `/ip6/IP/tcp/PORT`, port 0 for any.
    pub listen: Vec<Multiaddr>,
    /// Peers to dial until they are connected; `/p2p/ID` at the end is optional.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether peers on the local network are looked for.
    pub mdns: bool,
    /// Whether only peers of this machine are taken.
    pub protected: bool,
    /// Tells this process from any other that has the same identity.
    pub process: Process,
}

impl NetworkConfig {
    /// Whether peers on the local network are looked for: in protected mode nothing is sent to any network.
    fn looks_around(&self) -> bool {
        self.mdns && !self.protected
    }
}

impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keypair, cluster, secret, partitions, listen, bootstrap, mdns, protected, process } = self;
        f.debug_struct("NetworkConfig")
            .field("peer", &keypair.public().to_peer_id())
            .field("cluster", cluster)
            .field("secret", secret)
            .field("partitions", partitions)
            .field("listen", listen)
            .field("bootstrap", bootstrap)
            .field("mdns", mdns)
            .field("protected", protected)
            .field("process", process)
            .finish()
    }
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another process listens there.
    #[error("cannot listen on {0}: another process listens on this port")]
    PortTaken(Multiaddr),
    /// Listening failed.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// The key is of another kind.
    #[error("the identity of this peer is not an ed25519 key")]
    Identity,
    /// The name cannot be part of a protocol's name.
    #[error("'{0}' cannot be the name of a cluster: {1}")]
    Cluster(String, String),
    /// Setting up encryption failed.
    #[error("cannot set up encryption: {0}")]
    Encryption(String),
}

impl NetworkError {
    fn listen(address: &Multiaddr, reason: impl fmt::Display) -> Self {
        Self::Listen { address: address.clone(), reason: reason.to_string() }
    }
}

/// The running network of one peer. Dropping it ends it too, without waiting for anything.
pub struct Libp2pNetwork {
    local: PeerId,
    listening: Arc<ArcSwap<Vec<Multiaddr>>>,
    routes: Arc<Routes>,
    wishes: Arc<Wishes>,
    /// Held for a few instructions at a time, never across an await.
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
    /// What the swarm has running beside its own task.
    tasks: Tasks,
}

impl Libp2pNetwork {
    /// Starts the network. Returns once it listens on every address, with the channel on which the node is told what happens.
    ///
    /// # Errors
    /// Where it cannot listen, or where the configuration makes no sense. Nothing runs then.
    pub async fn start(config: NetworkConfig) -> Result<(Arc<Self>, mpsc::Receiver<NetworkEvent>), NetworkError> {
        let terms = Terms::new(&config.cluster, config.secret.as_ref(), config.partitions, config.protected);
        Self::start_on_terms(config, terms).await
    }

    /// Starts the network with other terms of admission than the configuration's. For tests of what other versions do.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on_terms(config: NetworkConfig, terms: Terms) -> Result<(Arc<Self>, mpsc::Receiver<NetworkEvent>), NetworkError> {
        let local = Self::peer_id(&config.keypair)?;
        let libp2p_id = config.keypair.public().to_peer_id();
        let (met_sender, met) = mpsc::channel(PEER_CONNECTIONS);
        let (events, node_events) = mpsc::channel(NETWORK_EVENTS);
        let listening = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let door = Arc::new(Door {
            terms: terms.with_process(config.process),
            process: config.process,
            local: libp2p_id,
            listening: Arc::clone(&listening),
            met: met_sender,
            quiet: Mutex::new(Quiet::default()),
            twins: Mutex::new(Twins::default()),
        });
        let transport =
            transport::build(&config.keypair, door, config.protected).map_err(|error| NetworkError::Encryption(error.to_string()))?;
        let behaviour = Behaviour {
            limits: connection_limits::Behaviour::new(limits()),
            pending: Pending::default(),
            links: Links::new(libp2p_id),
            kademlia: discovery::kademlia(libp2p_id, &config.cluster)
                .map_err(|error| NetworkError::Cluster(config.cluster.clone(), error.to_string()))?,
            mdns: Toggle::from(None),
        };
        let tasks = Tasks::default();
        let executor = tasks.clone();
        let swarm_config = swarm::Config::with_executor(move |task| executor.spawn(task)).with_idle_connection_timeout(IDLE_TIMEOUT);
        let mut swarm = Swarm::new(transport, behaviour, libp2p_id, swarm_config);
        let listeners = listen::listen(&mut swarm, &config.listen).await?;

        let (routes, wishes) = (Arc::new(Routes::default()), Arc::new(Wishes::default()));
        let shared = Shared {
            wishes: Arc::clone(&wishes),
            met,
            events,
            routes: Arc::clone(&routes),
            listening: Arc::clone(&listening),
            tasks: tasks.clone(),
        };
        let looks_around = config.looks_around();
        let driver = Driver::new(swarm, shared, listeners, config.bootstrap, looks_around);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(driver.run(stopped));
        let network = Self { local, listening, routes, wishes, running: Mutex::new(Some((stop, task))), tasks };
        Ok((Arc::new(network), node_events))
    }

    /// The id of the peer with this identity.
    ///
    /// # Errors
    /// Where the key is not an ed25519 key.
    pub fn peer_id(keypair: &Keypair) -> Result<PeerId, NetworkError> {
        let key = keypair.public().try_into_ed25519().map_err(|_| NetworkError::Identity)?;
        Ok(PeerId(key.to_bytes()))
    }

    /// Stops the network: gives what is queued a moment to be written, then closes everything. A second call does nothing.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, mut task)) = running else {
            return;
        };
        let deadline = Instant::now() + LINK_DRAIN;
        while Instant::now() < deadline && !self.routes.load().values().all(|route| route.is_empty()) {
            sleep(Duration::from_millis(5)).await;
        }
        // Fails where the task is already over.
        let _ = stop.send(());
        if timeout(LINK_DRAIN * 2, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
        self.tasks.stop().await;
    }
}

fn limits() -> ConnectionLimits {
    let limit = |count: usize| u32::try_from(count).ok();
    ConnectionLimits::default()
        .with_max_pending_incoming(limit(PENDING_CONNECTIONS))
        .with_max_pending_outgoing(limit(PENDING_CONNECTIONS))
        .with_max_established(limit(PEER_CONNECTIONS))
        .with_max_established_per_peer(limit(CONNECTIONS_PER_PEER))
}

impl Network for Libp2pNetwork {
    fn local(&self) -> PeerId {
        self.local
    }

    fn addresses(&self) -> Vec<String> {
        self.listening.load().iter().map(ToString::to_string).collect()
    }

    fn send(&self, to: PeerId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        match self.routes.load().get(&to) {
            Some(route) => route.outbox(lane).push(frame),
            None => Err(SendError::Unconnected),
        }
    }

    fn seek(&self, peer: PeerId, addresses: Vec<String>) {
        self.wishes.seek(peer, addresses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_protected_mode_nobody_is_looked_for() {
        let looks = |mdns, protected| {
            let config = NetworkConfig {
                keypair: Keypair::generate_ed25519(),
                cluster: "c".to_owned(),
                secret: None,
                partitions: 1,
                listen: Vec::new(),
                bootstrap: Vec::new(),
                mdns,
                protected,
                process: Process::default(),
            };
            config.looks_around()
        };
        assert!(looks(true, false) && !looks(false, false) && !looks(true, true));
    }
}
