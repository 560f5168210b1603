//! Real nodes on simulated backends: started, crashed and restarted at will.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::clock::SimClock;
use super::network::SimNetwork;
use super::storage::{Crash, SimDisk};
use crate::config::{Durability, NodeConfig};
use crate::members::Standing;
use crate::node::leaving::LeaveError;
use crate::node::{Node, PeerState, StartError};
use crate::types::PeerId;

/// Partitions of a simulated cluster: few, so that many seeds can be run.
const PARTITIONS: u16 = 16;
/// How long a peer may take to forget another.
const FORGETTING: Duration = Duration::from_secs(3);

/// A running process, and where it stands on the network.
pub struct SimProcess {
    /// The node.
    pub node: Node,
    /// The number by which the network knows the process.
    number: u64,
}

/// A second process under a peer's identity, on a copy of its disk.
pub struct Twin {
    /// The copy.
    pub disk: SimDisk,
    /// The process.
    pub process: SimProcess,
}

/// One simulated peer: its disk and clock outlive its processes.
pub struct SimPeer {
    /// Whether it was ever started: before, nobody has heard of it.
    pub joined: bool,
    /// Whether it has left the ring, or was taken out of it, and was not started since.
    pub out: bool,
    /// Who.
    pub id: PeerId,
    /// Its disk.
    pub disk: SimDisk,
    /// Its wall clock.
    pub clock: SimClock,
    /// Its process, while it runs.
    pub node: Option<Node>,
    /// The number by which the network knows that process.
    number: u64,
    /// A second process under the same identity, while there is one.
    pub twin: Option<Twin>,
    /// Its settings; the seed is drawn at each start.
    pub config: NodeConfig,
    /// What makes it leave the ring, while it does: ends with its process.
    leaving: Option<JoinHandle<Result<(), LeaveError>>>,
}

/// Some peers and what lies between them.
pub struct SimCluster {
    /// What lies between them.
    pub network: SimNetwork,
    /// The peers.
    pub peers: Vec<SimPeer>,
    /// A clock that is always right.
    pub truth: SimClock,
    /// How many peers came back that had been taken out for good, and knew it.
    pub forgotten_came_back: u64,
    random: SmallRng,
}

impl SimCluster {
    /// Starts the first `founders` of some peers, that know nothing of each other yet; the others join later.
    ///
    /// # Errors
    /// Where a node did not start.
    pub async fn start(peers: usize, founders: usize, seed: u64, durability: Durability) -> Result<Self, StartError> {
        Self::start_with(vec![Self::config(durability); peers], founders, seed).await
    }

    /// The settings that a simulated peer has where nothing else is said.
    #[must_use]
    pub fn config(durability: Durability) -> NodeConfig {
        NodeConfig {
            partitions: PARTITIONS,
            durability,
            request_timeout: Duration::from_secs(2),
            anti_entropy_interval: Duration::from_secs(20),
            ..NodeConfig::default()
        }
    }

    /// Starts the first `founders` of peers with these settings, [that](Self::config) of a simulated peer with changes; the others join later.
    ///
    /// # Errors
    /// Where a node did not start.
    pub async fn start_with(configs: Vec<NodeConfig>, founders: usize, seed: u64) -> Result<Self, StartError> {
        let mut random = SmallRng::seed_from_u64(seed);
        let network = SimNetwork::new(random.random(), PARTITIONS);
        let peer = |config: NodeConfig, random: &mut SmallRng| SimPeer {
            joined: false,
            out: false,
            id: PeerId(random.random()),
            disk: SimDisk::default(),
            clock: SimClock::new(),
            node: None,
            number: 0,
            twin: None,
            config,
            leaving: None,
        };
        let peers = configs.into_iter().map(|config| peer(config, &mut random)).collect();
        let mut cluster = Self { network, peers, truth: SimClock::new(), forgotten_came_back: 0, random };
        for _ in 0..founders {
            cluster.join_next().await?;
        }
        Ok(cluster)
    }

    /// Starts the next peer that has not joined yet, if there is one. Whether there was.
    ///
    /// # Errors
    /// Where the node did not start.
    pub async fn join_next(&mut self) -> Result<bool, StartError> {
        let Some(index) = self.peers.iter().position(|peer| !peer.joined) else { return Ok(false) };
        self.restart(index).await?;
        Ok(true)
    }

    /// Starts the process of a peer on its disk, if none runs. A peer that had not joined has from now on.
    ///
    /// # Errors
    /// Where the node did not start.
    pub async fn restart(&mut self, index: usize) -> Result<(), StartError> {
        if self.peers[index].node.is_some() {
            return Ok(());
        }
        let disk = self.peers[index].disk.clone();
        let started = self.begin(index, &disk).await?;
        let peer = &mut self.peers[index];
        (peer.joined, peer.out) = (true, false);
        (peer.node, peer.number) = (Some(started.node), started.number);
        Ok(())
    }

    /// Starts a process of a peer on a disk.
    async fn begin(&mut self, index: usize, disk: &SimDisk) -> Result<SimProcess, StartError> {
        let peer = &self.peers[index];
        let config = NodeConfig { seed: self.random.random(), ..peer.config.clone() };
        let (number, network, events) = self.network.join(peer.id);
        match Node::start(config, network, events, disk.open(), Arc::new(peer.clock.clone())).await {
            Ok(node) => Ok(SimProcess { node, number }),
            Err(error) => {
                self.network.leave(number);
                Err(error)
            }
        }
    }

    /// Starts a second process of a peer on a copy of its disk, if none runs.
    ///
    /// # Errors
    /// Where the node did not start.
    pub async fn start_twin(&mut self, index: usize) -> Result<(), StartError> {
        if self.peers[index].twin.is_none() {
            let disk = self.peers[index].disk.copy();
            let process = self.begin(index, &disk).await?;
            self.peers[index].twin = Some(Twin { disk, process });
        }
        Ok(())
    }

    /// Ends the second process of a peer, if there is one, and throws its disk away.
    pub fn end_twin(&mut self, index: usize) {
        if let Some(Twin { disk, process }) = self.peers[index].twin.take() {
            self.network.leave(process.number);
            disk.crash(Crash::Process);
        }
    }

    /// Ends the process of a peer without asking it.
    pub fn crash(&mut self, index: usize, crash: Crash) {
        let peer = &mut self.peers[index];
        self.network.leave(peer.number);
        self.network.resume(peer.id);
        peer.node = None;
        if let Some(leaving) = peer.leaving.take() {
            leaving.abort();
        }
        peer.disk.crash(crash);
    }

    /// Lets a peer stand still until [`Self::resume`]: nothing is written there, and nothing goes out or comes in. Its timers run on, so
    /// it learns by and by that it hears nobody.
    pub fn pause(&self, index: usize) {
        let peer = &self.peers[index];
        self.network.pause(peer.id);
        peer.disk.pause();
    }

    /// Lets a peer go on.
    pub fn resume(&self, index: usize) {
        let peer = &self.peers[index];
        self.network.resume(peer.id);
        peer.disk.resume();
    }

    /// Whether the process of a peer has stopped by itself, since its disk failed.
    #[must_use]
    pub fn has_failed(&self, index: usize) -> bool {
        self.peers[index].node.as_ref().is_some_and(|node| node.failed().now_or_never().is_some())
    }

    /// Every disk there is.
    pub fn disks(&self) -> impl Iterator<Item = &SimDisk> {
        self.peers.iter().flat_map(|peer| std::iter::once(&peer.disk).chain(peer.twin.as_ref().map(|twin| &twin.disk)))
    }

    /// Has a peer that is down taken out of the ring by one that knows it is, where enough others remain. Whether it was.
    pub async fn forget(&mut self, index: usize) -> bool {
        let peer = &self.peers[index];
        if peer.node.is_some() || !peer.joined || peer.out || self.joined() < 4 {
            return false;
        }
        let id = peer.id;
        let nodes: Vec<Node> = self.running().cloned().collect();
        for node in nodes {
            if timeout(FORGETTING, node.forget(id)).await.is_ok_and(|forgotten| forgotten.is_ok()) {
                self.peers[index].out = true;
                return true;
            }
        }
        false
    }

    /// Lets a peer begin to leave the ring, where it runs and enough others remain. Whether it does.
    pub fn leave(&mut self, index: usize) -> bool {
        let remaining = self.joined().saturating_sub(1);
        let peer = &mut self.peers[index];
        let (Some(node), false, true) = (peer.node.clone(), peer.out, remaining >= 3) else { return false };
        peer.out = true;
        peer.leaving = Some(tokio::spawn(async move { node.leave(false).await }));
        true
    }

    /// Starts everybody again who is out of the ring and has handed over what it held, until nobody is.
    ///
    /// # Errors
    /// Where a node did not start, or somebody can't hand over.
    pub async fn bring_back(&mut self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        let mut quiet_since = Instant::now();
        // Whoever was away hears of its leave only now.
        while quiet_since.elapsed() < Duration::from_secs(20) {
            if Instant::now() >= deadline {
                return Err("somebody who left does not get rid of what it held".to_owned());
            }
            sleep(Duration::from_secs(1)).await;
            for index in 0..self.peers.len() {
                let peer = &mut self.peers[index];
                if let Some(leaving) = peer.leaving.take_if(|leaving| leaving.is_finished()) {
                    // By its own view too few would have remained.
                    peer.out = leaving.await.is_ok_and(|left| left.is_ok());
                }
                let Some(node) = &peer.node else { continue };
                let is_out = node.peers().iter().any(|known| known.peer == peer.id && known.state == PeerState::Left);
                if !is_out && !peer.out {
                    continue;
                }
                quiet_since = Instant::now();
                let status = node.status();
                if is_out && status.handing_over == 0 && status.hints == 0 {
                    self.forgotten_came_back += u64::from(status.standing == Standing::Forgotten);
                    self.crash(index, Crash::Process);
                    self.restart(index).await.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// The nodes that run and are in the ring.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.peers.iter().filter(|peer| !peer.out).filter_map(|peer| peer.node.as_ref())
    }

    /// The number of peers that have joined and are in the ring.
    #[must_use]
    pub fn joined(&self) -> usize {
        self.peers.iter().filter(|peer| peer.joined && !peer.out).count()
    }

    /// Waits until every running node knows and reaches all the others and all owners report the same digests.
    ///
    /// # Errors
    /// Where that did not come about in time: what was missing.
    pub async fn converge(&self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            let missing = self.difference().await;
            match missing {
                None => return Ok(()),
                Some(missing) if Instant::now() >= deadline => return Err(missing),
                Some(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// What keeps the cluster from being converged, if anything.
    async fn difference(&self) -> Option<String> {
        let count = self.running().count();
        for (index, node) in self.running().enumerate() {
            let status = node.status();
            if (status.members, status.up) != (self.joined(), count) {
                return Some(format!("node {index} knows {} members and reaches {} of {count}", status.members, status.up));
            }
            if status.syncing + status.handing_over > 0 || status.hints > 0 {
                let (syncing, handing_over, hints) = (status.syncing, status.handing_over, status.hints);
                return Some(format!("node {index} has {syncing} partitions syncing, {handing_over} to hand over, and {hints} hints"));
            }
        }
        for (index, node) in self.running().enumerate() {
            if !node.converged(None).await {
                return Some(format!("node {index} holds other rows than its co-replicas"));
            }
        }
        None
    }
}
