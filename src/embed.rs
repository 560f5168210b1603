//! A whole peer in one value: settings in, a running peer out. The program and programs that embed a peer start it here,
//! so that there is one wiring of node, backends and servers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ringtide::embed::{Peer, Settings};
//!
//! let peer = Peer::start(Settings::new("/var/lib/my-program/ringtide")).await?;
//! peer.set("greeting", "hello").await?;
//! assert_eq!(peer.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
//! peer.stop().await;
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use crate::backend::libp2p::{Multiaddr, Secret};

use crate::backend::clock::SystemClock;
use crate::backend::fjall::{FjallOptions, FjallStorage, OpenError};
use crate::backend::identity::{self, IdentityError};
use crate::backend::libp2p::{Libp2pNetwork, NetworkConfig, NetworkError};
use crate::config::{FIRST_WORD, NodeConfig};
use crate::crdt::command::Answer;
use crate::crdt::string::{self, SetCondition, SetExpiry};
use crate::env::{Clock, Network};
use crate::node::{Node, OperationError, StartError};
use crate::server::http::HttpServer;
use crate::server::resp::{Options, RespServer};
use crate::types::{Level, PeerId, Process};

/// What a peer is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder for identity and data. One peer at a time.
    pub data_dir: PathBuf,
    /// Settings of the node itself. `protected` has to say whether there is no secret; `seed` is drawn anew at every start.
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
pub enum StartFailure {
    /// The data folder can't be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The peer has no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An address can't be listened at.
    #[error("cannot listen on {address} ({flag}): {reason}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// The program's flag that sets it.
        flag: &'static str,
        /// What the operating system says.
        reason: io::Error,
    },
    /// Other peers can't be reached.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The operating system gives no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(String),
    /// The node refuses.
    #[error(transparent)]
    Node(#[from] StartError),
}

/// A server that runs until it is told to stop.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        // Fails where the server has ended already.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// A running peer with its backends and servers. Dropping it ends it without waiting for anything; [`Peer::stop`] ends it cleanly.
pub struct Peer {
    resp: Option<Running>,
    http: Option<Running>,
    node: Node,
    network: Arc<Libp2pNetwork>,
    storage: Arc<FjallStorage>,
}

impl Peer {
    /// Starts a peer. Returns once it serves clients.
    ///
    /// Clients are served only once another member has told who belongs, or has not been found for a moment: this peer may have been taken
    /// out of the ring while it was away. The data folder is locked and ports are taken before other peers hear of this one, so that a second start by mistake
    /// leaves no trace in the cluster.
    ///
    /// # Errors
    /// Where the data folder, an address or the network cannot be used. Nothing runs then.
    pub async fn start(settings: Settings) -> Result<Self, StartFailure> {
        let resp_listener = listen(settings.resp, "--resp").await?;
        let http_listener = listen(settings.http, "--http").await?;
        let storage = Arc::new(FjallStorage::open(&settings.data_dir, FjallOptions::new(settings.memory_bytes))?);
        let keypair = identity::load_or_create(&settings.data_dir, &*storage)?;
        // Actors are drawn from this generator, and two peers with one actor would take each other's writes for their own.
        let seed = random_number()?;
        let looks_for_others = !settings.bootstrap.is_empty();
        let (network, events) = Libp2pNetwork::start(NetworkConfig {
            process: Process { started_ms: SystemClock.wall_ms(), number: random_number()? },
            keypair,
            cluster: settings.node.cluster.clone(),
            secret: settings.secret,
            partitions: settings.node.partitions,
            listen: settings.listen,
            bootstrap: settings.bootstrap,
            mdns: settings.mdns,
            protected: settings.node.protected,
        })
        .await?;
        let node_config = NodeConfig { seed, ..settings.node };
        let started = Node::start(node_config, network.clone(), events, storage.clone(), Arc::new(SystemClock)).await;
        let node = match started {
            Ok(node) => node,
            Err(error) => {
                network.stop().await;
                return Err(error.into());
            }
        };
        node.arrive(looks_for_others, FIRST_WORD).await;
        let mut peer = Self { resp: None, http: None, node, network, storage };
        let served = peer.serve(resp_listener, http_listener);
        if let Err(failure) = served {
            peer.stop().await;
            return Err(failure);
        }
        Ok(peer)
    }

    fn serve(&mut self, resp: Option<TcpListener>, http: Option<TcpListener>) -> Result<(), StartFailure> {
        let mut statistics = None;
        if let Some(listener) = resp {
            let server = RespServer::on(listener, self.node.clone(), Options::default()).map_err(|error| nameless("--resp", error))?;
            statistics = Some(server.statistics());
            self.resp = Some(run(server.local_addr(), |shutdown| server.serve(shutdown)));
        }
        if let Some(listener) = http {
            let server = HttpServer::on(listener, self.node.clone(), statistics).map_err(|error| nameless("--http", error))?;
            self.http = Some(run(server.local_addr(), |shutdown| server.serve(shutdown)));
        }
        Ok(())
    }

    /// The node: reads, writes, and what it tells about itself.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Writes a string at the default level. Every other command: [`Node::write`].
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), OperationError> {
        let (expiry, condition) = (SetExpiry::Clear, SetCondition::Always);
        let mutation = string::Mutation::Set { value: value.into(), expiry, condition, get: false };
        self.node.write(Level::default(), key.into(), mutation).await.map(drop)
    }

    /// Reads a string at the default level; `None` where there is none. Every other question: [`Node::read`].
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, OperationError> {
        match self.node.read(Level::default(), key.into(), string::Query::Get).await? {
            Answer::Bytes(value) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// The identity of this peer.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.network.local()
    }

    /// Where the Redis protocol is served, if it is.
    #[must_use]
    pub fn resp(&self) -> Option<SocketAddr> {
        self.resp.as_ref().map(|server| server.address)
    }

    /// Where health check and metrics are served, if they are.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|server| server.address)
    }

    /// The multiaddresses at which other peers reach this one.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.network.addresses()
    }

    /// Resolves when the peer has to stop, with the reason: its storage failed, or another process has its identity.
    pub async fn failed(&self) -> String {
        self.node.failed().await
    }

    /// Whether it has stopped since its disk was full. It can be started again once [`crate::backend::fjall::has_room`] says so.
    #[must_use]
    pub fn failed_for_room(&self) -> bool {
        self.storage.failed_for_room()
    }

    /// Stops the peer: takes no more commands, finishes those under way, hands hints over where it can, makes all durable.
    /// When it returns, the data folder can be opened again.
    pub async fn stop(self) {
        let Self { resp, http, node, network, storage } = self;
        let servers = [resp, http].into_iter().flatten().map(Running::stop);
        futures::future::join_all(servers).await;
        node.stop().await;
        network.stop().await;
        drop((node, network));
        // Closing the store waits for its tasks and for the disk, which must not block the runtime that these tasks need.
        let (closed, wait) = oneshot::channel();
        std::thread::spawn(move || {
            storage.join_tasks();
            drop(storage);
            // Nobody waits where this future was dropped.
            let _ = closed.send(());
        });
        // Fails where no thread could be had; dropping the store then closed it.
        let _ = wait.await;
    }
}

fn random_number() -> Result<u64, StartFailure> {
    getrandom::u64().map_err(|error| StartFailure::Randomness(error.to_string()))
}

async fn listen(address: Option<SocketAddr>, flag: &'static str) -> Result<Option<TcpListener>, StartFailure> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|reason| StartFailure::Address { address, flag, reason })?;
    Ok(Some(listener))
}

/// The failure of a listener that cannot even tell its address.
fn nameless(flag: &'static str, reason: io::Error) -> StartFailure {
    StartFailure::Address { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), flag, reason }
}

fn run<Served>(address: SocketAddr, serve: impl FnOnce(Shutdown) -> Served) -> Running
where
    Served: Future<Output = ()> + Send + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(Box::pin(async {
        // A sender that is gone means the same: the peer was dropped.
        let _ = stopped.await;
    })));
    Running { address, stop, task }
}

/// Resolves when a server is to stop.
type Shutdown = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
