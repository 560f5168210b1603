//! A running peer: owns every task, dispatches what peers ask, and is the embedded API.

pub mod arriving;
mod dispatch;
mod failure;
pub mod leaving;
mod origin;
pub mod report;
pub mod taking;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use self::dispatch::{Dispatch, Serving, Sink};
use self::failure::Failure;
use self::origin::{holders_before, known_members, seed};
pub use self::report::{PeerState, PeerStatus, SetAside, Status, SyncReport};
use self::tasks::{scrub, spread_wakes, start, sweep, tell_expired};
use crate::absences::Absences;
use crate::anti_entropy::{AntiEntropy, serve};
use crate::config::{HINT_QUEUE, NodeConfig, PULL_PATIENCE};
use crate::coordinator::Coordinator;
pub use crate::coordinator::keys::Scanned;
use crate::coordinator::moving::Turns;
pub use crate::coordinator::operation::{OperationError, Receipt, Written};
use crate::coordinator::replication::{Replication, Ticket};
use crate::crdt::command::{Answer, Mutation, Query};
use crate::detector::State;
use crate::env::message::{Reply, Request, Standing as Counting};
use crate::env::{Clock, Lane, Network, NetworkEvent, Storage, StorageError};
use crate::exchange::Exchange;
use crate::handoff::Handoff;
use crate::listeners::Listeners;
use crate::members::{Member, Standing};
use crate::membership::{Beats, Membership, MembershipEvent, SharedLiveness};
use crate::newcomer::FormerHolders;
use crate::pace::Pace;
use crate::pubsub::Pubsub;
use crate::replica::layout::Damaged;
use crate::replica::owner::Writer;
use crate::replica::{OpenError, Replica};
use crate::skew::Skew;
use crate::tasks::Tasks;
use crate::topology::Topology;
use crate::types::{Digest, Level, Partition, PeerId};

/// How long a stop waits for writes that are on their way.
const DRAIN: Duration = Duration::from_secs(3);
/// Events between the tasks of a node that wait at most.
const EVENTS: usize = 4096;

/// A running peer. Clones are handles to the same peer.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: NodeConfig,
    coordinator: Coordinator,
    anti_entropy: AntiEntropy<Ticket>,
    membership: mpsc::Sender<MembershipEvent>,
    pubsub: Pubsub,
    expired_count: Arc<AtomicU64>,
    liveness: SharedLiveness,
    failure: Arc<Failure>,
    /// The node's one source of randomness. Short: a number is drawn.
    random: Mutex<SmallRng>,
    tasks: Tasks,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The member list in the store is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

impl Node {
    /// Starts a peer on its backends. Returns once it can serve clients.
    ///
    /// # Errors
    /// Where the storage cannot be used.
    pub async fn start(
        config: NodeConfig,
        network: Arc<dyn Network>,
        events: mpsc::Receiver<NetworkEvent>,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let mut random = SmallRng::seed_from_u64(seed(config.seed, network.local(), clock.wall_ms()));
        let mut replica = Replica::open(Arc::clone(&storage), Arc::clone(&clock), config.partitions, random.random())?;
        let members = known_members(&replica, &config, &*network, clock.wall_ms())?;
        let topology = Topology::new(network.local(), config.replicas, config.partitions, members.clone());
        let roles = match holders_before(&replica, &config)? {
            Some(before) => replica.adopt_members(Replica::inherit(), network.local(), &topology.cluster().ring, &before),
            None => replica.take_roles(network.local(), &topology.cluster().ring, &FormerHolders::new()),
        };
        roles.map_err(OpenError::from)?;
        replica.prove().map_err(OpenError::from)?;
        replica.forget_former(&members.forgotten().collect()).map_err(OpenError::from)?;

        let exchange = Exchange::new(network, random.random());
        let listeners = Listeners::new(clock.wall_ms());
        let pubsub = Pubsub::new(topology.clone(), exchange.clone(), listeners.clone());
        let (view, awaited) = (replica.view(), replica.awaited());
        let failure = Arc::new(Failure::default());
        let (hints, new_hints) = mpsc::channel(HINT_QUEUE);
        let (stale, stale_peers) = mpsc::channel(EVENTS);
        let (wake, woken) = mpsc::channel(EVENTS);
        let (expired, expired_keys) = mpsc::channel(EVENTS);
        let (membership_events, for_membership) = mpsc::channel(EVENTS);
        let replication = Replication::new(topology.clone(), exchange.clone(), config.request_timeout, hints, Arc::clone(&view));
        let sink = Sink {
            replication: replication.clone(),
            exchange: exchange.clone(),
            topology: topology.clone(),
            failure: Arc::clone(&failure),
            told: BTreeMap::new(),
        };
        let writer = Writer::start(replica, config.durability, &storage, sink);
        let (patience, pace, skew, tasks) = (config.request_timeout, Pace::default(), Skew::default(), Tasks::default());
        let coordinator = Coordinator {
            topology: topology.clone(),
            exchange: exchange.clone(),
            writer: writer.clone(),
            view: Arc::clone(&view),
            replication,
            clock: Arc::clone(&clock),
            patience,
            stale,
            expired,
            reads: Arc::default(),
            awaited,
            turns: Turns::default(),
            pace: pace.clone(),
            skew: skew.clone(),
            tasks: tasks.clone(),
        };
        let anti_entropy =
            AntiEntropy::new(topology.clone(), exchange.clone(), writer.clone(), Arc::clone(&view), patience, pace.clone(), tasks.clone());
        let handoff = Handoff::new(topology.clone(), exchange.clone(), writer.clone(), Arc::clone(&view), patience, tasks.clone());
        let beats = Beats { listeners, absences: Absences::new(config.rebuild_after), pace: pace.clone(), clock, skew };
        let membership = Membership::new(topology.clone(), exchange.clone(), writer.clone(), Arc::clone(&view), members, beats, wake);
        let liveness = membership.liveness();
        let server = serve::Server::new(topology, writer, pace);
        let serving = Serving {
            coordinator: coordinator.clone(),
            anti_entropy: anti_entropy.clone(),
            server: server.clone(),
            handoff: handoff.clone(),
        };
        let dispatch = Dispatch::new(serving, pubsub.clone(), membership_events.clone(), Arc::clone(&failure), tasks.clone());

        let expired_count = Arc::new(AtomicU64::new(0));
        let (for_anti_entropy, pull_wake) = mpsc::channel(EVENTS);
        let (for_handoff, hint_wake) = mpsc::channel(EVENTS);
        start(&tasks, &failure, "membership", membership.run(for_membership));
        start(&tasks, &failure, "wakes", spread_wakes(woken, for_anti_entropy, for_handoff));
        start(&tasks, &failure, "anti-entropy", anti_entropy.clone().run(pull_wake, stale_peers, config.anti_entropy_interval));
        start(&tasks, &failure, "handoff", handoff.run(new_hints, hint_wake));
        start(&tasks, &failure, "replication", sweep(coordinator.replication.clone()));
        start(&tasks, &failure, "expired keys", coordinator.clone().sweep_expired());
        start(&tasks, &failure, "floors", coordinator.clone().sweep_floors());
        start(&tasks, &failure, "notifications", tell_expired(expired_keys, pubsub.clone(), Arc::clone(&expired_count)));
        start(&tasks, &failure, "scrub", scrub(coordinator.clone(), server, config.scrub_period));
        start(&tasks, &failure, "dispatch", dispatch.run(events));
        let (random, membership) = (Mutex::new(random), membership_events);
        let inner = Inner { config, coordinator, anti_entropy, membership, pubsub, expired_count, liveness, failure, random, tasks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Changes a key. The command is queued before this returns, so commands of one caller on one key keep their order.
    ///
    /// # Errors
    /// See [`OperationError`]; after `NoQuorum` and `Stopped` the outcome is unknown.
    pub fn write<M: Into<Mutation>>(
        &self,
        level: Level,
        key: Bytes,
        mutation: M,
    ) -> impl Future<Output = Result<Written, OperationError>> + Send + use<M> {
        self.inner.coordinator.write(level, key, mutation.into())
    }

    /// Asks something about a key.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub fn read<Q: Into<Query>>(
        &self,
        level: Level,
        key: Bytes,
        query: Q,
    ) -> impl Future<Output = Result<Answer, OperationError>> + Send + use<Q> {
        self.inner.coordinator.read(level, key, query.into())
    }

    /// Channels and who subscribes to them.
    #[must_use]
    pub fn pubsub(&self) -> &Pubsub {
        &self.inner.pubsub
    }

    /// How many expired keys this peer has removed since its start: each is removed by one of its holders.
    #[must_use]
    pub fn expired_keys(&self) -> u64 {
        self.inner.expired_count.load(Ordering::Relaxed)
    }

    /// How many reads of clients of this peer found something, and how many nothing, since its start.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        self.inner.coordinator.reads.counts()
    }

    /// How many replicas have all of these writes.
    pub async fn replicated(&self, writes: &[Receipt]) -> usize {
        self.inner.coordinator.replicated(writes).await
    }

    /// The wall clock of this peer, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.coordinator.clock.wall_ms()
    }

    /// What this peer tells about itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let Inner { config, coordinator, .. } = &*self.inner;
        let cluster = coordinator.topology.cluster();
        let view = coordinator.view.load();
        let held = || view.partitions().iter().filter(|partition| partition.holder);
        Status {
            peer: coordinator.topology.local(),
            cluster: config.cluster.clone(),
            standing: cluster.standing(coordinator.topology.local()).unwrap_or(Standing::Joined),
            members: cluster.members.joined().count(),
            up: cluster.reachable.len() + 1,
            partitions: config.partitions,
            replicas: config.replicas,
            keys: held().map(|partition| partition.keys).sum(),
            hints: view.shown.hints,
            syncing: held().filter(|partition| partition.standing != Counting::Counted).count(),
            handing_over: view.partitions().iter().filter(|partition| !partition.holder && partition.standing != Counting::Absent).count(),
            protected: config.protected,
            damage: view.shown.damage,
            has_room: view.shown.has_room,
            clock_ahead_ms: coordinator.skew.ms(),
        }
    }

    /// Every member that this peer knows, itself included.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let cluster = self.inner.coordinator.topology.cluster();
        let local = self.inner.coordinator.topology.local();
        let liveness = self.inner.liveness.load();
        let status = |member: &Member| {
            let known = liveness.get(&member.peer);
            let state = match (member.standing, known.map(|known| known.state)) {
                (Standing::Left | Standing::Forgotten, _) => PeerState::Left,
                _ if member.peer == local => PeerState::Up,
                (Standing::Joined, Some(State::Up)) => PeerState::Up,
                (Standing::Joined, Some(State::Suspect)) => PeerState::Suspect,
                (Standing::Joined, Some(State::Down) | None) => PeerState::Down,
            };
            PeerStatus {
                peer: member.peer,
                state,
                zone: member.zone.clone(),
                capacity: member.capacity,
                address: member.addresses.first().cloned(),
                partitions: cluster.ring.copies(member.peer),
                last_seen_ms: if member.peer == local { Some(0) } else { known.and_then(|known| known.silent_ms) },
            }
        };
        cluster.members.iter().map(status).collect()
    }

    /// The holders of every partition, in order of preference.
    #[must_use]
    pub fn ring(&self) -> Vec<Vec<PeerId>> {
        let topology = &self.inner.coordinator.topology;
        let cluster = topology.cluster();
        topology.every_partition().map(|partition| cluster.ring.holders(partition).to_vec()).collect()
    }

    /// The holders of a key, in order of preference.
    #[must_use]
    pub fn owners(&self, key: &[u8]) -> Vec<PeerId> {
        self.inner.coordinator.topology.cluster().ring.holders(self.partition(key)).to_vec()
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition(&self, key: &[u8]) -> Partition {
        self.inner.coordinator.topology.place(key).partition
    }

    /// The member that an author of dots belongs to, where it is known.
    #[must_use]
    pub fn author(&self, actor: u64) -> Option<PeerId> {
        self.inner.coordinator.topology.cluster().members.author_of(actor)
    }

    /// Whether all owners that are up report the same digest, for the key's partition or for every partition of this peer.
    pub async fn converged(&self, key: Option<&[u8]>) -> bool {
        let Coordinator { topology, view, exchange, patience, .. } = &self.inner.coordinator;
        let cluster = topology.cluster();
        let partitions: Vec<Partition> = match key {
            Some(key) => vec![self.partition(key)],
            None => topology.every_partition().filter(|partition| cluster.ring.is_holder(*partition, topology.local())).collect(),
        };
        let mut digests: BTreeMap<Partition, BTreeSet<Digest>> = BTreeMap::new();
        let mut shared: BTreeMap<PeerId, Vec<Partition>> = BTreeMap::new();
        for partition in partitions {
            if cluster.ring.is_holder(partition, topology.local()) {
                digests.entry(partition).or_default().insert(view.load().partition(partition).digest);
            }
            for peer in cluster.reachable_holders(partition) {
                shared.entry(peer).or_default().push(partition);
            }
        }
        for (peer, partitions) in shared {
            match exchange.ask(peer, Lane::Bulk, Request::Digests(partitions), *patience).await {
                Ok(Reply::Digests(told)) => told.into_iter().for_each(|(partition, digest)| {
                    digests.entry(partition).or_default().insert(digest);
                }),
                // Whoever went down meanwhile is not asked.
                _ if !topology.cluster().reachable.contains(&peer) => {}
                _ => return false,
            }
        }
        digests.values().all(|digests| digests.len() == 1)
    }

    /// The digest of the live rows of every partition that this peer holds.
    pub async fn digests(&self) -> Vec<(Partition, Digest)> {
        let view = self.inner.coordinator.view.load();
        let held = view.partitions().iter().zip(0..).filter(|(partition, _)| partition.holder);
        held.map(|(partition, index)| (Partition(index), partition.digest)).collect()
    }

    /// Keys of the whole cluster from a cursor on, 0 at first: about `count` of them, and the cursor to go on with.
    ///
    /// # Errors
    /// Where too few replicas of a partition could be asked.
    pub async fn scan(&self, level: Level, cursor: u64, count: usize) -> Result<Scanned, OperationError> {
        self.inner.coordinator.scan(level, cursor, count).await
    }

    /// A random cursor for [`Node::scan`].
    #[must_use]
    pub fn random_hash(&self) -> u64 {
        self.inner.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Keys in the whole cluster, each partition counted at one of its holders that are up.
    pub async fn key_count(&self) -> u64 {
        let Coordinator { topology, view, exchange, patience, .. } = &self.inner.coordinator;
        let cluster = topology.cluster();
        let mut count = 0;
        let mut elsewhere: BTreeMap<PeerId, Vec<Partition>> = BTreeMap::new();
        for partition in topology.every_partition() {
            if cluster.ring.is_holder(partition, topology.local()) {
                count += view.load().partition(partition).keys;
            } else if let Some(holder) = cluster.reachable_holders(partition).next() {
                elsewhere.entry(holder).or_default().push(partition);
            }
        }
        for (peer, partitions) in elsewhere {
            if let Ok(Reply::KeyCounts(counts)) = exchange.ask(peer, Lane::Bulk, Request::KeyCounts(partitions), *patience).await {
                count += counts.into_iter().map(|(_, keys)| keys).sum::<u64>();
            }
        }
        count
    }

    /// Runs anti-entropy with every reachable co-replica now, in both directions.
    pub async fn sync(&self) -> SyncReport {
        let Coordinator { topology, exchange, .. } = &self.inner.coordinator;
        let (started, before) = (Instant::now(), exchange.traffic());
        let cluster = topology.cluster();
        let mut report = SyncReport::default();
        let local = topology.local();
        for peer in cluster.reachable.iter().copied() {
            let shared = topology
                .every_partition()
                .filter(|partition| cluster.ring.is_holder(*partition, peer) && cluster.ring.is_holder(*partition, local));
            let shared: Vec<Partition> = shared.collect();
            let pulled = self.inner.anti_entropy.pull_from(peer, None).await;
            report.partitions += pulled.partitions;
            report.rows_received += pulled.rows;
            if let Ok(Reply::Pulled(rows)) = exchange.ask(peer, Lane::Bulk, Request::PullFromMe(shared), PULL_PATIENCE).await {
                report.rows_sent += rows;
            }
        }
        let after = exchange.traffic();
        report.bytes_sent = after.0 - before.0;
        report.bytes_received = after.1 - before.1;
        report.duration = started.elapsed();
        report
    }

    /// Bytes of frames sent to other peers and received from them, since the start.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        self.inner.coordinator.exchange.traffic()
    }

    /// Stops the peer: lets writes that are on their way arrive, makes all durable, ends all tasks. To be called after the servers have stopped
    /// taking commands; whatever comes later fails.
    pub async fn stop(&self) {
        let replication = &self.inner.coordinator.replication;
        let drained = timeout(DRAIN, async {
            while !replication.is_idle() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some writes were not acknowledged by every replica yet; anti-entropy will deliver them");
        }
        if let Err(error) = self.inner.coordinator.writer.stop().await {
            tracing::error!(%error, "the store could not be closed cleanly");
        }
        self.inner.end();
        self.inner.tasks.stop().await;
    }
}

impl Inner {
    /// Ends all tasks, and what callers of this peer wait for: nobody would ever tell them.
    fn end(&self) {
        self.tasks.end();
        self.coordinator.exchange.end();
        self.coordinator.replication.end();
    }
}

impl Drop for Inner {
    /// A peer whose last handle is gone ends at once, as by a crash: nothing acknowledged is lost.
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod stop_tests;
#[cfg(test)]
mod tests;
