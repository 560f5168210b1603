//! What other peers send: every frame is decoded here and brought to the part that it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::failure::Failure;
use crate::anti_entropy::{AntiEntropy, serve};
use crate::config::{HEARTBEAT_INTERVAL, MAX_AWAITED, REQUESTS_AT_ONCE};
use crate::coordinator::Coordinator;
use crate::coordinator::replication::{Replication, Ticket};
use crate::crdt::command::Selection;
use crate::crdt::delta::Kind;
use crate::env::message::{Message, Refused, Reply, Request};
use crate::env::{Lane, NetworkEvent};
use crate::exchange::Exchange;
use crate::handoff::Handoff;
use crate::membership::MembershipEvent;
use crate::panics::{Panicked, caught};
use crate::pubsub::Pubsub;
use crate::replica::execution::{Executed, NotExecuted};
use crate::replica::owner::Outlet;
use crate::tasks::Tasks;
use crate::topology::Topology;
use crate::types::{Partition, PeerId};

/// Takes the writer's results.
pub(super) struct Sink {
    pub(super) replication: Replication,
    pub(super) exchange: Exchange,
    pub(super) topology: Topology,
    pub(super) failure: Arc<Failure>,
    /// When peers whose deltas were refused were last told who belongs.
    pub(super) told: BTreeMap<PeerId, Instant>,
}

impl Sink {
    /// Tells a peer, which sees another ring, who belongs: not more often than heartbeats would.
    fn tell_members(&mut self, peer: PeerId) {
        let now = Instant::now();
        if self.told.get(&peer).is_some_and(|told| now - *told < HEARTBEAT_INTERVAL) {
            return;
        }
        self.told.insert(peer, now);
        let members = Message::Members(Box::new(self.topology.cluster().members.clone()));
        if let Err(error) = self.exchange.tell(peer, Lane::Bulk, &members) {
            tracing::debug!(%peer, %error, "the member list was not sent");
        }
    }
}

impl Outlet<Ticket> for Sink {
    fn executed(&mut self, results: Vec<(Ticket, Result<Executed, NotExecuted>)>) {
        self.replication.spread(results);
    }

    fn received(&mut self, from: PeerId, frame: u64, refused: Vec<(u32, Refused)>) {
        if from == self.topology.local() {
            return;
        }
        if refused.iter().any(|(_, why)| matches!(why, Refused::NotHolder | Refused::Uncounted)) {
            self.tell_members(from);
        }
        // Repairs carry no frame number: nobody waits for them.
        if frame != 0
            && let Err(error) = self.exchange.tell(from, Lane::Operations, &Message::Acknowledge { frame, refused })
        {
            tracing::debug!(peer = %from, %error, "an acknowledgement was not sent; the deltas will come again");
        }
    }

    fn failed(&mut self, reason: &str) {
        self.failure.tell(reason);
    }
}

/// Commands of other peers that were taken: one that comes twice is executed once.
#[derive(Default)]
struct Taken {
    ids: BTreeMap<PeerId, BTreeSet<u64>>,
}

impl Taken {
    /// Commands remembered of each peer: far more than a network holds back.
    const REMEMBERED: usize = 4096;

    /// Whether this one comes for the first time.
    fn is_new(&mut self, peer: PeerId, id: u64) -> bool {
        let ids = self.ids.entry(peer).or_default();
        if ids.len() >= Self::REMEMBERED {
            // Numbers grow, so the least is the oldest.
            ids.pop_first();
        }
        ids.insert(id)
    }
}

/// Brings frames to where they belong.
pub(super) struct Dispatch {
    serving: Serving,
    pubsub: Pubsub,
    membership: mpsc::Sender<MembershipEvent>,
    /// Bounds what strangers among the members can make this peer do at once.
    permits: Arc<Semaphore>,
    /// The same for requests that wait for something to happen.
    waits: Arc<Semaphore>,
    taken: Taken,
    failure: Arc<Failure>,
    /// Where requests are served that take longer.
    tasks: Tasks,
}

impl Dispatch {
    pub(super) fn new(
        serving: Serving,
        pubsub: Pubsub,
        membership: mpsc::Sender<MembershipEvent>,
        failure: Arc<Failure>,
        tasks: Tasks,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        let waits = Arc::new(Semaphore::new(MAX_AWAITED));
        Self { serving, pubsub, membership, permits, waits, taken: Taken::default(), failure, tasks }
    }

    pub(super) async fn run(mut self, mut events: mpsc::Receiver<NetworkEvent>) {
        while let Some(event) = events.recv().await {
            let told = match event {
                NetworkEvent::Connected { peer, address } => {
                    tracing::info!(%peer, address, "a peer is connected");
                    self.pubsub.forget(peer);
                    self.membership.send(MembershipEvent::Connected(peer)).await
                }
                NetworkEvent::Disconnected { peer } => {
                    tracing::info!(%peer, "the connection to a peer is gone");
                    let told = self.membership.send(MembershipEvent::Disconnected(peer)).await;
                    self.serving.coordinator.exchange.lost(peer);
                    self.pubsub.forget(peer);
                    self.serving.coordinator.replication.lost(peer);
                    told
                }
                NetworkEvent::Doubled { reason } => {
                    tracing::error!("{reason}");
                    self.failure.tell(&reason);
                    Ok(())
                }
                NetworkEvent::Frame { peer, lane, frame } => {
                    // What a frame leads to is queued or answered as a whole, and no lock that is held meanwhile guards more than one change.
                    let taken = AssertUnwindSafe(self.take(peer, lane, &frame)).catch_unwind().await;
                    taken.unwrap_or_else(|carried| {
                        tracing::error!(%peer, why = %Panicked::of(&*carried), "a frame of a peer was dropped: taking it in failed");
                        Ok(())
                    })
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, peer: PeerId, lane: Lane, frame: &Bytes) -> Result<(), mpsc::error::SendError<MembershipEvent>> {
        self.serving.coordinator.exchange.count_received(frame.len());
        let message = match Message::from_frame(frame) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%peer, %error, "a frame of a peer was dropped");
                return Ok(());
            }
        };
        match message {
            Message::Heartbeat { members, sealed, missed, busy, listening, wall_ms } => {
                if busy {
                    self.serving.coordinator.pace.told_busy();
                }
                self.pubsub.told(peer, listening);
                return self.membership.send(MembershipEvent::Heartbeat { peer, members, sealed, missed, wall_ms }).await;
            }
            Message::Members(members) => return self.membership.send(MembershipEvent::Members(peer, members)).await,
            Message::Deltas { frame: number, ring, deltas } => {
                if !self.serving.coordinator.writer.receive(peer, number, ring, deltas, frame.len()) {
                    tracing::debug!(%peer, "too much waits for the writer: deltas were not taken and will come again");
                }
            }
            Message::Acknowledge { frame, refused } => self.serving.coordinator.replication.acknowledged(peer, frame, &refused),
            Message::Reply { id, reply } => self.serving.coordinator.exchange.answered(peer, id, *reply),
            Message::Request { id, request } => {
                // Whoever asks need not wait until its patience ends.
                if let Err(panicked) = caught(|| self.serve(peer, lane, id, *request)) {
                    tracing::error!(%peer, why = %panicked, "serving a request failed");
                    self.serving.coordinator.exchange.answer(peer, lane, id, Reply::Unavailable(panicked.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Serves a request: at once where that takes microseconds, else in a task of its own. Commands are queued here, so that they keep
    /// their order.
    fn serve(&mut self, peer: PeerId, lane: Lane, id: u64, request: Request) {
        let exchange = self.serving.coordinator.exchange.clone();
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return exchange.answer(peer, lane, id, Reply::Unavailable("too many requests are being served".to_owned()));
        };
        let later = match request {
            Request::Read { key, selection, after } if selection != Selection::All => {
                return exchange.answer(peer, lane, id, self.read(&key, &selection, after.as_deref()));
            }
            // Without a question only a record and a row or two are read.
            Request::Answer { key, query: None } => {
                return exchange.answer(peer, lane, id, self.serving.coordinator.answer_alone(&key, None));
            }
            Request::Digests(partitions) => return exchange.answer(peer, lane, id, self.digests(&partitions)),
            Request::KeyCounts(partitions) => return exchange.answer(peer, lane, id, self.key_counts(&partitions)),
            Request::Replicated { batch } => {
                let count = self.serving.coordinator.replication.replicated(batch);
                return exchange.answer(peer, lane, id, Reply::Count(count as u64));
            }
            Request::Listening(number) => {
                self.pubsub.told(peer, number);
                return exchange.answer(peer, lane, id, Reply::Done);
            }
            Request::Publish(publications) => {
                // Handed out here, so that messages keep their order; and once, whatever a network may do.
                let receivers = if self.taken.is_new(peer, id) { self.pubsub.take(&publications) } else { 0 };
                return exchange.answer(peer, lane, id, Reply::Count(receivers as u64));
            }
            Request::Subscriptions(inquiry) => return exchange.answer(peer, lane, id, self.pubsub.answer(&inquiry)),
            Request::Execute { level, key, mutation } => {
                if !self.taken.is_new(peer, id) {
                    return;
                }
                let executing = self.serving.coordinator.execute_for(level, &key, &mutation);
                self.tasks.spawn(async move {
                    exchange.answer(peer, lane, id, Reply::Executed(executing.await));
                    drop(permit);
                });
                return;
            }
            Request::Await { key, kind } => {
                // It does nothing but wait, and must not keep others from being served.
                drop(permit);
                return self.serve_wait(peer, lane, id, key, kind);
            }
            later => later,
        };
        let serving = self.serving.clone();
        self.tasks.spawn(async move {
            let reply = AssertUnwindSafe(serving.reply(peer, later)).catch_unwind().await;
            let reply = reply.unwrap_or_else(|carried| Reply::Unavailable(Panicked::of(&*carried).to_string()));
            exchange.answer(peer, lane, id, reply);
            drop(permit);
        });
    }

    fn serve_wait(&self, peer: PeerId, lane: Lane, id: u64, key: Bytes, kind: Kind) {
        let coordinator = self.serving.coordinator.clone();
        let Ok(permit) = Arc::clone(&self.waits).try_acquire_owned() else {
            return coordinator.exchange.answer(peer, lane, id, Reply::Unavailable("too much is waited for".to_owned()));
        };
        self.tasks.spawn(async move {
            let reply = match coordinator.content_here(&key, kind).await {
                true => Reply::Done,
                false => Reply::Unavailable("not a holder of this key".to_owned()),
            };
            coordinator.exchange.answer(peer, lane, id, reply);
            drop(permit);
        });
    }

    fn read(&self, key: &Bytes, selection: &Selection, after: Option<&[u8]>) -> Reply {
        read(&self.serving.coordinator, key, selection, after)
    }

    fn digests(&self, partitions: &[Partition]) -> Reply {
        let view = self.serving.coordinator.view.load();
        let known = partitions.iter().filter(|partition| usize::from(partition.0) < view.partitions().len());
        Reply::Digests(known.map(|partition| (*partition, view.partition(*partition).digest)).collect())
    }

    fn key_counts(&self, partitions: &[Partition]) -> Reply {
        let view = self.serving.coordinator.view.load();
        let known = partitions.iter().filter(|partition| usize::from(partition.0) < view.partitions().len());
        Reply::KeyCounts(known.map(|partition| (*partition, view.partition(*partition).keys)).collect())
    }
}

fn read(coordinator: &Coordinator, key: &Bytes, selection: &Selection, after: Option<&[u8]>) -> Reply {
    let view = coordinator.view.load();
    let now = view.now(coordinator.clock.wall_ms());
    match view.read(key, selection, after, now) {
        Ok(page) => Reply::Page(Box::new(page)),
        Err(error) => {
            let error = coordinator.unreadable(key, error);
            tracing::error!(%error, "a read for another peer failed");
            Reply::Unavailable(error.to_string())
        }
    }
}

/// What serving requests needs.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) coordinator: Coordinator,
    pub(super) anti_entropy: AntiEntropy<Ticket>,
    pub(super) server: serve::Server<Ticket>,
    pub(super) handoff: Handoff<Ticket>,
}

impl Serving {
    async fn reply(self, peer: PeerId, request: Request) -> Reply {
        let writer = &self.coordinator.writer;
        let reply = match request {
            Request::Read { key, selection, after } => return read(&self.coordinator, &key, &selection, after.as_deref()),
            Request::Answer { key, query } => return self.coordinator.answer_alone(&key, query.as_ref()),
            Request::PullOpen(asked) => {
                let starts = move |replica: &mut crate::replica::Replica| {
                    Ok(Reply::PullStarts { ring: replica.ring(), awaits: replica.awaits(&asked), starts: replica.pull_starts(&asked) })
                };
                writer.step(starts).await
            }
            Request::PullLeaves { partition, state_id, nodes } => {
                let leaves = writer.step(move |replica| Ok(replica.leaves(partition, state_id, &nodes)));
                leaves.await.map(|leaves| leaves.map_or(Reply::StateChanged, Reply::PullLeaves))
            }
            Request::PullRanges { partition, state_id, ranges } => Ok(self.server.ranges(peer, partition, state_id, ranges).await),
            Request::PullRows { partition, state_id, wanted } => Ok(self.server.rows(peer, partition, state_id, wanted).await),
            Request::Confirm { seals } => {
                let topology = self.coordinator.topology.clone();
                let confirm = move |replica: &mut crate::replica::Replica| {
                    let cluster = topology.cluster();
                    for (partition, seal) in seals {
                        let copies = cluster.copies_before_drop(topology.replicas());
                        replica.confirmed(partition, seal, peer, cluster.ring.holders(partition), copies)?;
                    }
                    Ok(Reply::Done)
                };
                writer.step(confirm).await
            }
            Request::Keys { partition, from_hash, most } => return self.coordinator.own_keys(partition, from_hash, most),
            Request::Attest { ring, asked } => return Reply::Attested(self.coordinator.attest(ring, &asked)),
            Request::DurableClocks(partitions) => {
                writer.step(move |replica| Ok(Reply::DurableClocks(replica.durable_clocks(&partitions)?))).await
            }
            Request::Deliver(deltas) => self.handoff.join_own(deltas).await.map(Reply::Delivered),
            Request::Offer(_) if self.anti_entropy.is_pulling_from(peer) => return Reply::Done,
            Request::Offer(partitions) => {
                self.anti_entropy.pull_from(peer, Some(partitions)).await;
                return Reply::Done;
            }
            Request::PullFromMe(partitions) => Ok(Reply::Pulled(self.anti_entropy.pull_from(peer, Some(partitions)).await.rows)),
            Request::Execute { .. }
            | Request::Replicated { .. }
            | Request::Digests(_)
            | Request::KeyCounts(_)
            | Request::Listening(_)
            | Request::Publish(_)
            | Request::Subscriptions(_)
            | Request::Await { .. } => Ok(Reply::Unavailable("this request is served at once".to_owned())),
        };
        reply.unwrap_or_else(|error| Reply::Unavailable(error.to_string()))
    }
}
