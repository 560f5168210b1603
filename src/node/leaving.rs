//! Leaving the ring, and taking out of it who is gone for good.

use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::Node;
use crate::coordinator::Coordinator;
use crate::detector::State;
use crate::env::Lane;
use crate::env::message::{Reply, Request, Standing as Counting};
use crate::members::Standing;
use crate::membership::MembershipEvent;
use crate::quorum;
use crate::topology::Cluster;
use crate::types::{Partition, PeerId};

/// How often a peer that leaves looks whether all is handed over.
const LOOK: Duration = Duration::from_millis(50);
/// How often it tells how far it is.
const TELL: Duration = Duration::from_secs(5);

/// Why a peer does not leave, or is not taken out. The text is the error that a Redis client gets.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaveError {
    /// Fewer peers than copies would remain.
    #[error("ERR only {remaining} peers would remain for {replicas} copies of each partition; LEAVE FORCE goes on")]
    TooFew {
        /// Peers that would remain.
        remaining: usize,
        /// Configured copies.
        replicas: usize,
    },
    /// Nobody would remain who could take over what this peer holds.
    #[error("ERR nobody else is in the ring: what this peer holds would be lost")]
    Alone,
    /// No such member.
    #[error("ERR no member has this peer id")]
    Unknown,
    /// It answers, so it is not gone.
    #[error("ERR this peer is not down: let it LEAVE, or stop it first")]
    NotDown,
    /// One does not forget oneself.
    #[error("ERR a peer can't forget itself: use LEAVE")]
    Oneself,
    /// The peer is stopping.
    #[error("ERR this peer has stopped")]
    Stopped,
}

/// What was taken out of the ring, and what may have gone with it. The text is what `RINGTIDE FORGET peer REPORT` answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forgotten {
    /// Partitions that it held.
    pub partitions: usize,
    /// Those of them for which so many other holders are not up and synced that what a quorum acknowledged may be at the forgotten peer alone.
    pub unsure: usize,
    /// How long ago it was last heard here, in seconds; `None` where it never was since this peer's start.
    pub silent_seconds: Option<u64>,
}

impl fmt::Display for Forgotten {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partitions, unsure, silent_seconds } = self;
        let heard = silent_seconds.map_or_else(|| "it was never heard".to_owned(), |seconds| format!("it was last heard {seconds} s ago"));
        write!(
            formatter,
            "OK; of the {partitions} partitions it held, {unsure} have too few other holders up and synced to be sure of all that a quorum \
             acknowledged; what it took below quorum and told nobody ({heard}) it has alone, and brings if it ever comes back"
        )
    }
}

impl Node {
    /// Takes this peer out of the ring: returns once every partition that it held is durably at all its new holders, and every hint where it
    /// belongs: a peer that is down has to come back first, or be forgotten. Until then it goes on serving clients, and so it does after that,
    /// out of what the others hold. With fewer members than copies left, `force` makes it go all the same. A peer that is started again joins
    /// again.
    ///
    /// Waits as long as it takes; dropping the future does not make the peer stay.
    ///
    /// # Errors
    /// See [`LeaveError`]; then it stays.
    pub async fn leave(&self, force: bool) -> Result<(), LeaveError> {
        let topology = &self.inner.coordinator.topology;
        let (cluster, replicas) = (topology.cluster(), topology.replicas());
        if cluster.is_member(topology.local()) {
            let remaining = cluster.members.joined().count() - 1;
            match () {
                () if remaining == 0 => return Err(LeaveError::Alone),
                () if remaining < replicas && !force => return Err(LeaveError::TooFew { remaining, replicas }),
                () => {}
            }
        }
        // Also where it is out already: it may be about to join again.
        self.take_out(topology.local(), Standing::Left).await?;
        let mut told_at = Instant::now();
        loop {
            let status = self.status();
            if status.handing_over == 0 && status.hints == 0 && !topology.cluster().is_member(topology.local()) {
                return Ok(());
            }
            if told_at.elapsed() >= TELL {
                told_at = Instant::now();
                tracing::info!(partitions = status.handing_over, hints = status.hints, "still to be handed over");
            }
            if self.inner.failure.reason.get().is_some() {
                return Err(LeaveError::Stopped);
            }
            sleep(LOOK).await;
        }
    }

    /// Takes a member out of the ring that is gone for good: its partitions are copied again from all who hold them. What it alone has is
    /// lost unless it comes back: then it hands over what it has, and joins again at its next start. Of one that has left and is down, says that it will
    /// not hand over any more.
    ///
    /// # Errors
    /// See [`LeaveError`]; then nothing was changed.
    pub async fn forget(&self, peer: PeerId) -> Result<Forgotten, LeaveError> {
        let topology = &self.inner.coordinator.topology;
        let cluster = topology.cluster();
        let liveness = self.inner.liveness.load().get(&peer).copied();
        let is_down = liveness.is_none_or(|liveness| liveness.state == State::Down);
        match cluster.members.get(peer) {
            _ if peer == topology.local() => Err(LeaveError::Oneself),
            None => Err(LeaveError::Unknown),
            // It may have left and been stopped before it had handed over what it held: then first syncs wait for it no longer.
            Some(member) if member.standing != Standing::Joined => {
                if is_down {
                    self.take_out(peer, Standing::Forgotten).await?;
                }
                Ok(Forgotten::default())
            }
            Some(_) if !is_down => Err(LeaveError::NotDown),
            Some(_) => {
                let held: Vec<Partition> = cluster.ring.partitions_of(peer).collect();
                let unsure = self.unsure_without(peer, &held, &cluster).await;
                self.take_out(peer, Standing::Forgotten).await?;
                let silent_seconds = liveness.and_then(|liveness| liveness.silent_ms).map(|silent_ms| silent_ms / 1000);
                Ok(Forgotten { partitions: held.len(), unsure, silent_seconds })
            }
        }
    }

    /// For how many of these partitions too few holders other than this one are up and synced to have, together, all that a majority has.
    async fn unsure_without(&self, gone: PeerId, held: &[Partition], cluster: &Cluster) -> usize {
        let Coordinator { topology, view, exchange, patience, .. } = &self.inner.coordinator;
        // Of these, every majority has at least one.
        let needed = topology.replicas() + 1 - quorum::majority(topology.replicas());
        let is_synced = async |peer: PeerId, partition: Partition| {
            if peer == topology.local() {
                return view.load().partition(partition).standing == Counting::Counted;
            }
            let request = Request::Keys { partition, from_hash: 0, most: 0 };
            let asking = exchange.ask(peer, Lane::Bulk, request, *patience);
            matches!(asking.await, Ok(Reply::Keys(page)) if page.standing == Counting::Counted)
        };
        let is_unsure = async |partition: Partition| {
            let others = cluster.ring.holders(partition).iter().copied().filter(|holder| *holder != gone);
            let asked = others.filter(|holder| *holder == topology.local() || cluster.reachable.contains(holder));
            let synced = join_all(asked.map(|holder| is_synced(holder, partition))).await;
            synced.into_iter().filter(|synced| *synced).count() < needed
        };
        let unsure = join_all(held.iter().map(|partition| is_unsure(*partition))).await;
        unsure.into_iter().filter(|unsure| *unsure).count()
    }

    /// Returns once this peer's own ring is without the other.
    async fn take_out(&self, peer: PeerId, standing: Standing) -> Result<(), LeaveError> {
        let event = MembershipEvent::TakeOut(peer, standing);
        self.inner.membership.send(event).await.map_err(|_| LeaveError::Stopped)?;
        while self.inner.coordinator.topology.cluster().is_member(peer) {
            if self.inner.membership.is_closed() {
                return Err(LeaveError::Stopped);
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}
