//! The swarm's task. It routes and never waits: what could take time (reading, writing, telling the node) is the business of
//! the links' own tasks, because a swarm that stands still stands still for every stream of every connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, connection_limits, kad, mdns};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::{debug, info, warn};

use super::address::is_loopback;
use super::dialler::{Dial, Dialler};
use super::discovery;
use super::door::{Admitted, Met};
use super::link::{Link, LinkEnd, Routes};
use super::links::{LaneStreams, LinkEvent, Links};
use super::pending::Pending;
use super::quiet::Quiet;
use crate::config::{DISCOVERED_PEERS, LINK_DRAIN, PEER_CONNECTIONS};
use crate::env::NetworkEvent;
use crate::tasks::Tasks;
use crate::types;

/// How often waits are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Everything that runs on the connections.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) pending: Pending,
    pub(super) links: Links,
    pub(super) kademlia: kad::Behaviour<MemoryStore>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
}

/// What the node asks for, the newest for each peer, until the swarm's task sees to it.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Held for a few instructions at a time, never across an await.
    sought: Mutex<BTreeMap<types::PeerId, Vec<String>>>,
    changed: Notify,
}

impl Wishes {
    pub(super) fn seek(&self, peer: types::PeerId, addresses: Vec<String>) {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, addresses);
        self.changed.notify_one();
    }
}

/// What the task shares with the rest of the process.
pub(super) struct Shared {
    pub(super) wishes: Arc<Wishes>,
    pub(super) met: mpsc::Receiver<Met>,
    pub(super) events: mpsc::Sender<NetworkEvent>,
    pub(super) routes: Arc<Routes>,
    pub(super) listening: Arc<ArcSwap<Vec<Multiaddr>>>,
    pub(super) tasks: Tasks,
}

/// A link whose end was not told yet.
struct Running {
    connection: ConnectionId,
    /// Dropped to end the link.
    keep: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

/// The swarm's task and what it knows.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Shared,
    dialler: Dialler,
    running: BTreeMap<PeerId, Running>,
    links: JoinSet<LinkEnd>,
    /// Addresses that admitted peers told of themselves.
    told: BTreeMap<PeerId, Vec<Multiaddr>>,
    listeners: Vec<(ListenerId, Multiaddr)>,
    mdns: bool,
    quiet: Quiet,
}

impl Driver {
    /// Takes over a swarm that listens.
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        shared: Shared,
        listeners: Vec<(ListenerId, Multiaddr)>,
        bootstrap: Vec<Multiaddr>,
        mdns: bool,
    ) -> Self {
        let mut dialler = Dialler::default();
        for address in bootstrap {
            dialler.bootstrap(address, Instant::now());
        }
        let (running, links, told, quiet) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new(), Quiet::default());
        let mut driver = Self { swarm, shared, dialler, running, links, told, listeners, mdns, quiet };
        driver.publish_addresses();
        driver.start_mdns();
        driver
    }

    /// Runs until told to stop, or until nobody is left to tell so.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                _ = tick.tick() => self.tick(),
                () = self.shared.wishes.changed.notified() => self.take_wishes(),
                Some(met) = self.shared.met.recv() => match met {
                    Met::Admitted(admitted) => self.on_admitted(admitted),
                    Met::Elder { reason } => self.tell_doubled(reason),
                },
                Some(end) = self.links.join_next(), if !self.links.is_empty() => {
                    if let Ok(end) = end {
                        self.on_link_end(&end);
                    }
                }
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
            }
        }
        // Connections that are closed in order write first what their streams hold.
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // Fails where the peer has just gone by itself.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(LINK_DRAIN, closed).await;
        self.links.shutdown().await;
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.swarm.behaviour_mut().links.tick(now);
        for dial in self.dialler.due(now, chance) {
            self.dial(dial);
        }
        let flooded = |mdns: &mdns::tokio::Behaviour| mdns.discovered_nodes().len() > DISCOVERED_PEERS;
        if self.swarm.behaviour().mdns.as_ref().is_some_and(flooded) {
            warn!("mDNS told of more than {DISCOVERED_PEERS} peers: somebody makes them up; starting it anew");
            self.start_mdns();
        }
    }

    fn take_wishes(&mut self) {
        let sought = std::mem::take(&mut *self.shared.wishes.sought.lock().unwrap_or_else(PoisonError::into_inner));
        for (peer, addresses) in sought {
            let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
            if let Ok(peer) = peer.to_string().parse::<PeerId>()
                && peer != *self.swarm.local_peer_id()
            {
                self.dialler.seek(peer, addresses, Instant::now());
            }
        }
    }

    fn dial(&mut self, Dial { target, peer, addresses }: Dial) {
        let options: DialOpts = match (peer, addresses) {
            (Some(peer), addresses) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .extend_addresses_through_behaviour()
                .build(),
            (None, mut addresses) => match addresses.pop() {
                Some(address) => DialOpts::unknown_peer_id().address(address).build(),
                None => return,
            },
        };
        let connection = options.connection_id();
        self.dialler.began(connection, target);
        if let Err(error) = self.swarm.dial(options) {
            self.dialler.failed(connection);
            debug!(?peer, %error, "not dialled");
        }
    }

    /// The node has to stop. It is told by a task of its own, since it may be busy.
    fn tell_doubled(&self, reason: String) {
        let events = self.shared.events.clone();
        self.shared.tasks.spawn(async move {
            // Fails where the node is gone, as it was to be.
            let _ = events.send(NetworkEvent::Doubled { reason }).await;
        });
    }

    fn on_admitted(&mut self, Admitted { peer, addresses, takes_over }: Admitted) {
        if takes_over {
            // Either the former process is gone, and its connection has not noticed yet; or it lives, and dials again.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        if self.told.len() > 2 * PEER_CONNECTIONS {
            let swarm = &self.swarm;
            self.told.retain(|peer, _| swarm.is_connected(peer));
        }
        self.told.insert(peer, addresses);
        if self.swarm.is_connected(&peer) {
            self.make_known(&peer);
        }
    }

    /// Lets others learn of a connected peer. Of a peer that is admitted but not the one that was dialled, nobody does.
    fn make_known(&mut self, peer: &PeerId) {
        for address in self.told.get(peer).into_iter().flatten() {
            self.swarm.behaviour_mut().kademlia.add_address(peer, address.clone());
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Links(LinkEvent::Ready { peer, connection, endpoint, lanes })) => {
                self.start_link(peer, connection, &endpoint, lanes);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Links(LinkEvent::Abandoned { peer, connection })) => {
                if let Some(running) = self.running.get_mut(&peer).filter(|running| running.connection == connection) {
                    running.keep = None;
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(peers))) => {
                for (peer, address) in peers {
                    self.dialler.discovered(peer, address, Instant::now());
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Expired(peers))) => {
                for (peer, _) in peers {
                    self.dialler.lost(peer);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.dialler.connected(peer_id, connection_id);
                self.make_known(&peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                debug!(peer = %peer_id, ?cause, "disconnected");
                self.dialler.disconnected(peer_id, Instant::now(), chance());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.on_dial_error(connection_id, &error),
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                debug!(address = %send_back_addr, %error, "a connection from outside failed");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listeners.push((listener_id, address));
                self.publish_addresses();
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                self.listeners.retain(|(listener, kept)| *listener != listener_id || *kept != address);
                self.publish_addresses();
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                warn!(?addresses, ?reason, "no longer listening there");
                self.listeners.retain(|(listener, _)| *listener != listener_id);
                self.publish_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "a listener failed to take a connection"),
            _ => {}
        }
    }

    fn on_dial_error(&mut self, connection: ConnectionId, error: &DialError) {
        let target = self.dialler.failed(connection);
        let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // Strangers that mDNS told of are nobody's concern; members and bootstrap addresses are.
        match target.filter(|target| self.dialler.is_wanted(target)) {
            Some(target) if self.quiet.may_say(target.to_string(), Instant::now()) => {
                info!(%target, "not reached, trying again later: {line}");
            }
            _ => debug!("a dial failed: {line}"),
        }
    }

    fn start_link(&mut self, remote: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint, lanes: Vec<LaneStreams>) {
        let Ok(peer) = remote.to_string().parse::<types::PeerId>() else {
            debug!(peer = %remote, "its identity is not an ed25519 key; closing the connection");
            self.swarm.close_connection(connection);
            return;
        };
        let (keep, abandoned) = oneshot::channel();
        let (tell_end, ended) = oneshot::channel();
        let former = self.running.insert(remote, Running { connection, keep: Some(keep), ended });
        let link = Link {
            peer,
            connection,
            address: self.address_of(&remote, endpoint).to_string(),
            lanes,
            former: former.map(|former| former.ended),
            abandoned,
            ended: tell_end,
            events: self.shared.events.clone(),
            routes: Arc::clone(&self.shared.routes),
        };
        self.links.spawn(link.run());
    }

    fn on_link_end(&mut self, end: &LinkEnd) {
        let LinkEnd { peer, connection, error } = end;
        if let Some(error) = error {
            info!(%peer, "the link to a peer broke: {error}");
        }
        self.running.retain(|_, running| running.connection != *connection);
        self.swarm.close_connection(*connection);
    }

    /// Where a connected peer can be dialled: where we dialled it, or else what it told, on the machine that it dialled from first.
    fn address_of(&self, peer: &PeerId, endpoint: &ConnectedPoint) -> Multiaddr {
        match endpoint {
            ConnectedPoint::Dialer { address, .. } => super::dialler::split_peer(address.clone()).0,
            ConnectedPoint::Listener { send_back_addr, .. } => {
                let told = self.told.get(peer).map(Vec::as_slice).unwrap_or_default();
                let same_machine = |address: &&Multiaddr| address.iter().next() == send_back_addr.iter().next();
                told.iter().find(same_machine).or_else(|| told.first()).unwrap_or(send_back_addr).clone()
            }
        }
    }

    fn publish_addresses(&self) {
        let mut addresses: Vec<Multiaddr> = self.listeners.iter().map(|(_, address)| address.clone()).collect();
        addresses.sort_by_key(is_loopback);
        self.shared.listening.store(Arc::new(addresses));
    }

    fn start_mdns(&mut self) {
        if !self.mdns {
            return;
        }
        let local = *self.swarm.local_peer_id();
        let made = discovery::local_network(local, &self.listeners)
            .inspect_err(|error| warn!(%error, "no mDNS: peers on the local network are not found by themselves"));
        self.swarm.behaviour_mut().mdns = Toggle::from(made.ok());
    }
}

/// A number between 0 and 1, to spread what would otherwise happen at once. Its quality does not matter.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}
