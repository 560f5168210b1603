//! Brings home what lies in the wrong place: hints to the peers they wait for, sealed partitions to their new holders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{HANDOFF_INTERVAL, HINTS_AT_ONCE, PULL_PATIENCE};
use crate::env::Lane;
use crate::env::message::{Refused, Reply, Request, Sent};
use crate::exchange::Exchange;
use crate::replica::execution::{Outcome, Work};
use crate::replica::hints::Hint;
use crate::replica::owner::{Ended, Writer};
use crate::replica::transaction::ReplicaError;
use crate::replica::view::View;
use crate::tasks::Tasks;
use crate::topology::Topology;
use crate::types::{Partition, PeerId};

/// Bytes of hints that one message carries.
const HINT_BYTES: usize = 1024 * 1024;

/// Delivers hints and hands partitions over.
pub struct Handoff<T> {
    topology: Topology,
    exchange: Exchange,
    writer: Writer<T>,
    view: Arc<ArcSwap<View>>,
    patience: Duration,
    tasks: Tasks,
}

impl<T> Clone for Handoff<T> {
    fn clone(&self) -> Self {
        Self {
            topology: self.topology.clone(),
            exchange: self.exchange.clone(),
            writer: self.writer.clone(),
            view: Arc::clone(&self.view),
            patience: self.patience,
            tasks: self.tasks.clone(),
        }
    }
}

impl<T: Send + 'static> Handoff<T> {
    /// Over the parts of a node.
    #[must_use]
    pub fn new(
        topology: Topology,
        exchange: Exchange,
        writer: Writer<T>,
        view: Arc<ArcSwap<View>>,
        patience: Duration,
        tasks: Tasks,
    ) -> Self {
        Self { topology, exchange, writer, view, patience, tasks }
    }

    /// Runs until the channels end or the writer does: stores new hints, delivers old ones, offers sealed partitions.
    pub async fn run(self, mut new_hints: mpsc::Receiver<(PeerId, Hint)>, mut wake: mpsc::Receiver<PeerId>) {
        let mut ticks = interval(HANDOFF_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let turn = tokio::select! {
                biased;
                hint = new_hints.recv() => match hint {
                    Some(hint) => self.store(hint, &mut new_hints).await,
                    None => return,
                },
                peer = wake.recv() => match peer {
                    Some(peer) => self.deliver(peer).await,
                    None => return,
                },
                _ = ticks.tick() => self.all().await,
            };
            if turn == Err(Ended) {
                return;
            }
        }
    }

    /// Stores a hint and all that wait with it, in one commit.
    async fn store(&self, first: (PeerId, Hint), more: &mut mpsc::Receiver<(PeerId, Hint)>) -> Result<(), Ended> {
        let mut hints = vec![first];
        while let (true, Ok(hint)) = (hints.len() < HINTS_AT_ONCE, more.try_recv()) {
            hints.push(hint);
        }
        self.writer.step(move |replica| replica.keep_hints(&hints)).await
    }

    async fn all(&self) -> Result<(), Ended> {
        let peers = self.view.load().hinted_peers();
        match peers {
            Ok(peers) => {
                for peer in peers {
                    self.deliver(peer).await?;
                }
            }
            Err(error) => tracing::error!(%error, "hints can't be read"),
        }
        self.offer_sealed().await
    }

    /// Delivers hints for a peer, oldest first, until none is left or one message made no progress.
    async fn deliver(&self, home: PeerId) -> Result<(), Ended> {
        loop {
            let hints = match self.view.load().hints_for(home, HINTS_AT_ONCE, HINT_BYTES) {
                Ok(hints) => hints,
                Err(error) => {
                    tracing::error!(%error, %home, "hints can't be read");
                    return Ok(());
                }
            };
            let done = self.deliver_some(home, hints).await?;
            if done.is_empty() {
                return Ok(());
            }
            self.writer.step(move |replica| replica.drop_hints(home, &done)).await?;
        }
    }

    /// Tries to deliver; answers with the numbers of those that need not be kept.
    async fn deliver_some(&self, home: PeerId, hints: Vec<(u64, Hint)>) -> Result<Vec<u64>, Ended> {
        let cluster = self.topology.cluster();
        let mut by_target: BTreeMap<PeerId, Vec<(u64, Sent)>> = BTreeMap::new();
        let mut missing: BTreeMap<u64, usize> = BTreeMap::new();
        for (number, hint) in hints {
            let holders = cluster.ring.holders(hint.partition);
            // A peer that is no holder any more has no use for it, but those that are may lack it.
            let targets: Vec<PeerId> = if holders.contains(&home) { vec![home] } else { holders.to_vec() };
            missing.insert(number, targets.len());
            for target in targets {
                let sent = Sent { partition: hint.partition, delta: hint.delta.clone(), hint_for: None };
                by_target.entry(target).or_default().push((number, sent));
            }
        }
        for (target, batch) in by_target {
            let (numbers, deltas): (Vec<u64>, Vec<Sent>) = batch.into_iter().unzip();
            let Some(refused) = self.hand(target, deltas).await? else { continue };
            for (place, number) in numbers.into_iter().enumerate() {
                let keep = refused.iter().any(|(refused, why)| {
                    usize::try_from(*refused) == Ok(place) && matches!(why, Refused::NotHolder | Refused::Failed | Refused::TooFarAhead)
                });
                if let (false, Some(left)) = (keep, missing.get_mut(&number)) {
                    *left = left.saturating_sub(1);
                }
            }
        }
        Ok(missing.into_iter().filter(|(_, left)| *left == 0).map(|(number, _)| number).collect())
    }

    /// Hands deltas to a peer; `None` where it could not be reached.
    async fn hand(&self, target: PeerId, deltas: Vec<Sent>) -> Result<Option<Vec<(u32, Refused)>>, Ended> {
        if target == self.topology.local() {
            return self.join_own(deltas).await.map(Some);
        }
        if !self.topology.cluster().reachable.contains(&target) {
            return Ok(None);
        }
        match self.exchange.ask(target, Lane::Bulk, Request::Deliver(deltas), self.patience).await {
            Ok(Reply::Delivered(refused)) => Ok(Some(refused)),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Joins deltas that came home to this peer. A peer's own hints do not count as seen in its own clock: it joins them like anyone's.
    ///
    /// # Errors
    /// Where the writer has ended.
    pub async fn join_own(&self, deltas: Vec<Sent>) -> Result<Vec<(u32, Refused)>, Ended> {
        let join = move |replica: &mut crate::replica::Replica| -> Result<Vec<(u32, Refused)>, ReplicaError> {
            let work: Vec<Work> = deltas.into_iter().map(Work::Receive).collect();
            let outcomes = replica.apply(&work)?;
            replica.sync()?;
            let refused = outcomes.into_iter().enumerate().filter_map(|(place, outcome)| match outcome {
                Outcome::Received(Some(refused)) => Some((u32::try_from(place).unwrap_or(u32::MAX), refused)),
                Outcome::Received(None) | Outcome::Executed(_) => None,
            });
            Ok(refused.collect())
        };
        self.writer.step(join).await
    }

    /// Asks the holders of sealed partitions to pull them from here: those that have not confirmed it, since what others go on writing makes every
    /// comparison find something.
    async fn offer_sealed(&self) -> Result<(), Ended> {
        let sealed = self.writer.step(|replica| Ok(replica.sealed())).await?;
        let cluster = self.topology.cluster();
        let mut offers: BTreeMap<PeerId, Vec<Partition>> = BTreeMap::new();
        for (partition, _, confirmed) in sealed {
            for holder in cluster.reachable_holders(partition).filter(|holder| !confirmed.contains(holder)) {
                offers.entry(holder).or_default().push(partition);
            }
        }
        for (holder, partitions) in offers {
            let exchange = self.exchange.clone();
            // The holder pulls and confirms by itself; nobody waits for the answer.
            self.tasks.spawn(async move {
                let _ = exchange.ask(holder, Lane::Bulk, Request::Offer(partitions), PULL_PATIENCE).await;
            });
        }
        Ok(())
    }
}
