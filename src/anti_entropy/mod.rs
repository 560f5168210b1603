//! Anti-entropy: replicas compare what they hold and take from each other what they lack.
//!
//! A *pull* is one-sided: this peer asks another for digests, descends where they differ, and takes its clock over at the very end.
//! The other pulls for itself. Equal partitions cost one message for all of them together.
//!
//! [`session`] pulls, [`serve`] is pulled from, [`scrub`] looks for damage that no pull meets; what must see rows and clock of one moment is done by the writer (`replica::pulling`).

pub mod scrub;
pub mod serve;
pub mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use tokio::sync::{Mutex as Turn, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::{FIRST_SYNC_RETRY, PULLS_AT_ONCE};
use crate::env::Lane;
use crate::env::message::{Awaits, PullStart, Reply, Request, Standing};
use crate::exchange::Exchange;
use crate::pace::Pace;
use crate::replica::owner::{Ended, Writer};
use crate::replica::pulling::{Begun, Ended as PullEnded, Source};
use crate::replica::view::View;
use crate::tasks::Tasks;
use crate::topology::Topology;
use crate::types::{Partition, PeerId};

/// What pulling from one peer moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Partitions that were compared to the end.
    pub partitions: u64,
    /// Rows that changed here.
    pub rows: u64,
}

/// A partition whose pull has begun: its seal and state at the other peer, and what it begins with.
type Opened = (Partition, Option<u64>, u64, Begun);

/// Pulls from other peers.
pub struct AntiEntropy<T> {
    topology: Topology,
    exchange: Exchange,
    writer: Writer<T>,
    view: Arc<ArcSwap<View>>,
    patience: Duration,
    pace: Pace,
    tasks: Tasks,
    /// One pull at a time from each peer: two would only do the same work twice.
    turns: Arc<Mutex<BTreeMap<PeerId, Arc<Turn<()>>>>>,
}

impl<T> Clone for AntiEntropy<T> {
    fn clone(&self) -> Self {
        Self {
            topology: self.topology.clone(),
            exchange: self.exchange.clone(),
            writer: self.writer.clone(),
            view: Arc::clone(&self.view),
            patience: self.patience,
            pace: self.pace.clone(),
            tasks: self.tasks.clone(),
            turns: Arc::clone(&self.turns),
        }
    }
}

impl<T: Send + 'static> AntiEntropy<T> {
    /// Over the parts of a node.
    #[must_use]
    pub fn new(
        topology: Topology,
        exchange: Exchange,
        writer: Writer<T>,
        view: Arc<ArcSwap<View>>,
        patience: Duration,
        pace: Pace,
        tasks: Tasks,
    ) -> Self {
        Self { topology, exchange, writer, view, patience, pace, tasks, turns: Arc::default() }
    }

    /// Runs until the channels end: pulls from a peer when told to, from every co-replica at an interval, and what has to be synced before it counts
    /// more often.
    pub async fn run(self, mut wake: mpsc::Receiver<PeerId>, mut stale: mpsc::Receiver<(PeerId, Partition)>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retries = interval(FIRST_SYNC_RETRY);
        retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut queued: BTreeMap<PeerId, Option<BTreeSet<Partition>>> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                peer = wake.recv() => match peer {
                    Some(peer) => { queued.insert(peer, None); }
                    None => return,
                },
                Some((peer, partition)) = stale.recv() => {
                    if let Some(partitions) = queued.entry(peer).or_insert_with(|| Some(BTreeSet::new())) {
                        partitions.insert(partition);
                    }
                }
                _ = ticks.tick() => queued.extend(self.topology.cluster().reachable.iter().map(|peer| (*peer, None))),
                _ = retries.tick() => self.queue_first_syncs(&mut queued),
            }
            // What else has come meanwhile is one round.
            while let Ok(peer) = wake.try_recv() {
                queued.insert(peer, None);
            }
            for (peer, partitions) in std::mem::take(&mut queued) {
                // Reads may find something as often as they come. What they find meanwhile waits here, at most until the next tick, and no crowd of tasks for the turn.
                if partitions.is_some() && self.is_pulling_from(peer) {
                    queued.insert(peer, partitions);
                    continue;
                }
                let anti_entropy = self.clone();
                self.tasks.spawn(async move {
                    anti_entropy.pull_from(peer, partitions.map(|partitions| partitions.into_iter().collect())).await;
                });
            }
        }
    }

    /// What this peer holds and does not count for, from whoever may have it and is not pulled from already: a partition that turned out to be damaged
    /// would wait for the interval, as one whose pull was broken off.
    fn queue_first_syncs(&self, queued: &mut BTreeMap<PeerId, Option<BTreeSet<Partition>>>) {
        let view = self.view.load();
        let syncing = |partition: &Partition| {
            let here = view.partition(*partition);
            here.holder && here.standing == Standing::Extra
        };
        let cluster = self.topology.cluster();
        for partition in self.topology.every_partition().filter(syncing) {
            for peer in cluster.reachable_holders(partition).filter(|peer| !self.is_pulling_from(*peer)) {
                if let Some(partitions) = queued.entry(peer).or_insert_with(|| Some(BTreeSet::new())) {
                    partitions.insert(partition);
                }
            }
        }
    }

    /// Whether a pull from this peer is under way.
    #[must_use]
    pub fn is_pulling_from(&self, peer: PeerId) -> bool {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).is_some_and(|turn| turn.try_lock().is_err())
    }

    /// Pulls partitions from a peer; without a choice all those that both hold, or that this peer is to learn from it.
    pub async fn pull_from(&self, peer: PeerId, partitions: Option<Vec<Partition>>) -> Pulled {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(peer).or_default())
        };
        let _turn = turn.lock().await;
        let mut pulled = Pulled::default();
        match self.pull_all(peer, partitions, &mut pulled).await {
            Ok(()) => {}
            Err(session::PullError::Ended(Ended)) => {}
            Err(error) => tracing::debug!(%peer, %error, "a pull was broken off"),
        }
        if pulled.rows > 0 {
            tracing::info!(%peer, rows = pulled.rows, partitions = pulled.partitions, "pulled what this peer lacked");
        }
        pulled
    }

    /// Which of these partitions, or of all, this peer has to pull from another.
    fn pulled_from(&self, peer: PeerId, partitions: Option<Vec<Partition>>) -> Vec<Partition> {
        let (cluster, view, local) = (self.topology.cluster(), self.view.load(), self.topology.local());
        let chosen = partitions.is_some();
        let candidates: Vec<Partition> = partitions.unwrap_or_else(|| self.topology.every_partition().collect());
        let known = candidates.into_iter().filter(|partition| usize::from(partition.0) < view.partitions().len());
        let asked = known.filter(|partition| {
            let here = view.partition(*partition);
            here.holder
                && cluster.ring.is_holder(*partition, local)
                && (chosen || here.standing == Standing::Extra || cluster.ring.is_holder(*partition, peer))
        });
        asked.collect()
    }

    async fn pull_all(&self, peer: PeerId, partitions: Option<Vec<Partition>>, pulled: &mut Pulled) -> Result<(), session::PullError> {
        let mut asked = self.pulled_from(peer, partitions);
        while !asked.is_empty() {
            let later = asked.split_off(asked.len().min(self.pace.step_partitions()));
            self.pull_together(peer, asked, pulled).await?;
            asked = later;
        }
        Ok(())
    }

    /// Pulls some partitions, that one message begins with.
    async fn pull_together(&self, peer: PeerId, asked: Vec<Partition>, pulled: &mut Pulled) -> Result<(), session::PullError> {
        let begun = self.pace.paced(self.open(peer, asked)).await?;
        let mut ended: Vec<(Partition, Option<u64>, PullEnded)> = Vec::new();
        let mut sessions = Vec::new();
        for (partition, seal, state_id, begun) in begun {
            match begun {
                Begun::Equal(end) => ended.push((partition, seal, end)),
                Begun::Differs { pull, nodes } => {
                    sessions.push((partition, seal, session::Session { peer, partition, state_id, pull, nodes }))
                }
            }
        }
        let mut running = futures::stream::iter(sessions.into_iter().map(|(partition, seal, session)| async move {
            let (rows, end) = self.pull_partition(session).await;
            (partition, seal, rows, end)
        }))
        .buffer_unordered(PULLS_AT_ONCE);
        while let Some((partition, seal, rows, end)) = running.next().await {
            pulled.rows += rows;
            match end {
                Ok(end) => ended.push((partition, seal, end)),
                Err(error) => tracing::debug!(%peer, %partition, %error, "a pull of one partition was broken off"),
            }
        }
        pulled.partitions += ended.len() as u64;
        self.confirm(peer, &ended).await
    }

    /// Asks what differs, and begins to pull that. Nothing where the disk is full, since that takes nothing in.
    async fn open(&self, peer: PeerId, asked: Vec<Partition>) -> Result<Vec<Opened>, session::PullError> {
        let began = Instant::now();
        let offers = self
            .writer
            .step(move |replica| {
                let asked = if replica.has_room() { asked } else { Vec::new() };
                Ok(asked.into_iter().map(|partition| replica.pull_offer(partition)).collect::<Vec<_>>())
            })
            .await?;
        if offers.is_empty() {
            return Ok(Vec::new());
        }
        let Reply::PullStarts { ring, awaits, starts } =
            self.exchange.ask(peer, Lane::Bulk, Request::PullOpen(offers), self.patience).await?
        else {
            return Err(session::PullError::Unexpected);
        };
        self.begin(peer, began, (ring, awaits), starts).await
    }

    /// Begins the pulls of these partitions in one step, from a peer whose ring has this name, and which itself awaits these.
    async fn begin(
        &self,
        peer: PeerId,
        began: Instant,
        (ring, awaits): (u64, Vec<Awaits>),
        starts: Vec<(Partition, PullStart)>,
    ) -> Result<Vec<Opened>, session::PullError> {
        let (local, forgotten) = (self.topology.local(), self.topology.cluster().members.forgotten().collect());
        let begin = move |replica: &mut crate::replica::Replica| {
            let mut begun = Vec::new();
            let source = Source { peer, began, sees_ring: ring == replica.ring() };
            if source.sees_ring {
                replica.meet(local, peer, &awaits, &starts.iter().map(|(partition, _)| *partition).collect());
                replica.forget_former(&forgotten)?;
            }
            for (partition, start) in starts {
                match start {
                    PullStart::Equal | PullStart::Nothing => {
                        if let Some(end) = replica.nothing_to_pull(partition, source)? {
                            begun.push((partition, None, 0, Begun::Equal(end)));
                        }
                    }
                    PullStart::Open { state_id, seal, causal, root, nodes } => {
                        if usize::from(partition.0) < usize::from(replica.partition_count()) {
                            let start = replica.begin_pull(partition, source, state_id, *causal, root, &nodes)?;
                            begun.push((partition, seal, state_id, start));
                        }
                    }
                }
            }
            Ok(begun)
        };
        Ok(self.writer.step(begin).await?)
    }

    /// Tells a former holder that everything of its sealed partitions is held here, durably.
    async fn confirm(&self, peer: PeerId, ended: &[(Partition, Option<u64>, PullEnded)]) -> Result<(), session::PullError> {
        let sealed = ended.iter().filter(|(_, _, end)| end.holder);
        let seals: Vec<(Partition, u64)> = sealed.filter_map(|(partition, seal, _)| seal.map(|seal| (*partition, seal))).collect();
        if seals.is_empty() {
            return Ok(());
        }
        self.writer.step(|replica| replica.sync()).await?;
        self.exchange.ask(peer, Lane::Bulk, Request::Confirm { seals }, self.patience).await?;
        Ok(())
    }
}
