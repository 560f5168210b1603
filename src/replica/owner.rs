//! The writer: the one task that changes a replica. It takes whatever waits as one batch, commits once, and answers all.
//!
//! Group commit is where speed comes from: the longer a commit takes, the more waits for the next, and the more it carries.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Replica;
use super::execution::{Command, Executed, NotExecuted, Outcome, Work};
use super::transaction::ReplicaError;
use crate::config::{Durability, WRITER_BATCH, WRITER_BYTES, WRITER_QUEUE};
use crate::env::message::{Refused, Sent};
use crate::env::{Storage, StorageError};
use crate::held::{Held, Share};
use crate::panics::Panicked;
use crate::types::PeerId;

/// Where the writer hands its results. Called on the writer's thread: must not wait.
pub trait Outlet<T>: Send + 'static {
    /// Commands were executed and committed, in this order.
    fn executed(&mut self, results: Vec<(T, Result<Executed, NotExecuted>)>);
    /// The deltas of a frame were committed, all but those refused.
    fn received(&mut self, from: PeerId, frame: u64, refused: Vec<(u32, Refused)>);
    /// The storage failed; nothing is executed any more.
    fn failed(&mut self, reason: &str);
}

type Step = Box<dyn FnOnce(&mut Replica) -> Result<(), ReplicaError> + Send>;

enum Item<T> {
    Execute(Command, T),
    Receive { from: PeerId, frame: u64, ring: u64, deltas: Vec<Sent>, _share: Share },
    Step(Step),
    Stop(oneshot::Sender<Result<(), ReplicaError>>),
}

/// The queue is full, or the writer has ended; the ticket comes back.
#[derive(Debug)]
pub enum NotQueued<T> {
    /// Too much waits already.
    Full(T),
    /// The writer has ended.
    Ended(T),
}

/// A handle to the writer. `T` is whatever the caller wants back with a command's result.
pub struct Writer<T> {
    queue: mpsc::Sender<Item<T>>,
    /// Deltas of others that wait.
    held: Held,
}

impl<T> Clone for Writer<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), held: self.held.clone() }
    }
}

/// The writer has ended: its storage failed, or the peer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the storage of this peer has failed or it is stopping")]
pub struct Ended;

impl<T: Send + 'static> Writer<T> {
    /// Starts the writer.
    pub fn start(replica: Replica, durability: Durability, storage: &Arc<dyn Storage>, outlet: impl Outlet<T>) -> Self {
        let (queue, items) = mpsc::channel(WRITER_QUEUE);
        storage.spawn("writer", Box::pin(run_to_the_end(replica, durability, Arc::clone(storage), items, outlet)));
        Self { queue, held: Held::new(WRITER_BYTES) }
    }

    /// Queues a command.
    ///
    /// # Errors
    /// Where nothing was queued.
    pub fn execute(&self, command: Command, ticket: T) -> Result<(), NotQueued<T>> {
        self.queue.try_send(Item::Execute(command, ticket)).map_err(|error| {
            let full = matches!(error, TrySendError::Full(_));
            match error.into_inner() {
                Item::Execute(_, ticket) if full => NotQueued::Full(ticket),
                Item::Execute(_, ticket) => NotQueued::Ended(ticket),
                Item::Receive { .. } | Item::Step(_) | Item::Stop(_) => unreachable!("what was queued comes back"),
            }
        })
    }

    /// Queues the deltas of a frame of so many bytes, and the name of the ring in which its sender counts. `false` where too much waits: the frame is not
    /// acknowledged, and comes again as hints.
    #[must_use]
    pub fn receive(&self, from: PeerId, frame: u64, ring: u64, deltas: Vec<Sent>, bytes: usize) -> bool {
        let Some(share) = self.held.take(bytes) else { return false };
        self.queue.try_send(Item::Receive { from, frame, ring, deltas, _share: share }).is_ok()
    }

    /// Runs a step between two batches and waits for its result.
    ///
    /// # Errors
    /// Where the writer has ended, or the step met a storage error that ended it.
    pub async fn step<R: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Replica) -> Result<R, ReplicaError> + Send + 'static,
    ) -> Result<R, Ended> {
        let (reply, result) = oneshot::channel();
        let run: Step = Box::new(move |replica| {
            let outcome = step(replica)?;
            let _ = reply.send(outcome);
            Ok(())
        });
        self.queue.send(Item::Step(run)).await.map_err(|_| Ended)?;
        result.await.map_err(|_| Ended)
    }

    /// Ends the writer after everything queued before: makes all durable.
    ///
    /// # Errors
    /// Where the disk failed.
    pub async fn stop(&self) -> Result<(), ReplicaError> {
        let (reply, result) = oneshot::channel();
        if self.queue.send(Item::Stop(reply)).await.is_err() {
            return Ok(());
        }
        result.await.unwrap_or(Ok(()))
    }
}

/// Runs the writer. Where it panics, which no row alone makes it do, its replica may be half-changed: the peer is told that its storage failed, instead of
/// going on without a writer.
async fn run_to_the_end<T: Send + 'static>(
    replica: Replica,
    durability: Durability,
    storage: Arc<dyn Storage>,
    items: mpsc::Receiver<Item<T>>,
    mut outlet: impl Outlet<T>,
) {
    // Nothing that the writer changed is looked at again.
    if let Err(carried) = AssertUnwindSafe(run(replica, durability, storage, items, &mut outlet)).catch_unwind().await {
        end(&mut outlet, &StorageError::Failed(format!("the writer: {}", Panicked::of(&*carried))).into());
    }
}

/// The writer's loop.
async fn run<T: Send + 'static>(
    mut replica: Replica,
    durability: Durability,
    storage: Arc<dyn Storage>,
    mut items: mpsc::Receiver<Item<T>>,
    outlet: &mut impl Outlet<T>,
) {
    let mut next = None;
    let mut sync_at = None;
    loop {
        if sync_at.is_some_and(|at| at <= Instant::now()) {
            sync_at = None;
            if let Err(error) = storage.sync() {
                return end(outlet, &error.into());
            }
        }
        let item = match (next.take(), sync_at) {
            (Some(item), _) => Some(item),
            (None, None) => items.recv().await,
            (None, Some(at)) => tokio::select! {
                biased;
                item = items.recv() => item,
                () = sleep_until(at) => continue,
            },
        };
        let worked = match item {
            None => return,
            Some(Item::Stop(reply)) => {
                let _ = reply.send(replica.close());
                return;
            }
            Some(Item::Step(step)) => step(&mut replica),
            Some(first) => {
                let mut batch = Batch::with_room_for(1 + items.len().min(WRITER_BATCH));
                next = gather(first, &mut items, &mut batch);
                batch.apply(&mut replica, durability, &storage, outlet)
            }
        };
        if let Err(error @ (ReplicaError::Damaged(_) | ReplicaError::Unjoinable(_))) = &worked {
            tracing::error!(%error, "a step met a row that fails");
        }
        replica.has_room();
        for done in [worked, replica.restart_suspects()] {
            if let Err(error @ ReplicaError::Storage(_)) = done {
                return end(outlet, &error);
            }
        }
        if let (Durability::Every(interval), None) = (durability, sync_at) {
            sync_at = Some(Instant::now() + interval);
        }
    }
}

fn end<T>(outlet: &mut impl Outlet<T>, error: &ReplicaError) {
    tracing::error!(%error, "the storage failed; this peer takes no more writes");
    outlet.failed(&error.to_string());
}

/// Takes what waits into a batch; what can't be part of one comes back.
fn gather<T>(first: Item<T>, items: &mut mpsc::Receiver<Item<T>>, batch: &mut Batch<T>) -> Option<Item<T>> {
    let mut item = first;
    loop {
        match item {
            Item::Execute(command, ticket) => {
                batch.work.push(Work::Execute(command));
                batch.parts.push(Part::Command(ticket));
            }
            Item::Receive { from, frame, ring, deltas, .. } => {
                batch.parts.push(Part::Frame { from, frame, ring, deltas: deltas.len() });
                batch.work.extend(deltas.into_iter().map(Work::Receive));
            }
            Item::Step(_) | Item::Stop(_) => return Some(item),
        }
        if batch.work.len() >= WRITER_BATCH {
            return None;
        }
        item = items.try_recv().ok()?;
    }
}

/// Commands and deltas that are committed together, and to whom each result goes.
struct Batch<T> {
    work: Vec<Work>,
    parts: Vec<Part<T>>,
}

enum Part<T> {
    Command(T),
    Frame { from: PeerId, frame: u64, ring: u64, deltas: usize },
}

/// Whether a majority of a ring may count what was just joined here; a hint is not counted as a replica anyway.
fn counts(replica: &Replica, ring: u64, sent: &Sent) -> bool {
    sent.hint_for.is_some() || replica.ring() == ring && replica.partition(sent.partition).counts_writes()
}

impl<T> Batch<T> {
    /// An empty batch. Commands are large, and a list that grows one by one moves them again and again.
    fn with_room_for(items: usize) -> Self {
        Self { work: Vec::with_capacity(items), parts: Vec::with_capacity(items) }
    }

    fn apply(
        self,
        replica: &mut Replica,
        durability: Durability,
        storage: &Arc<dyn Storage>,
        outlet: &mut impl Outlet<T>,
    ) -> Result<(), ReplicaError> {
        let mut outcomes = replica.apply(&self.work)?.into_iter().zip(&self.work);
        if durability == Durability::Always {
            storage.sync().map_err(|error: StorageError| ReplicaError::from(error))?;
        }
        let mut executed = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            match part {
                Part::Command(ticket) => {
                    if let Some((Outcome::Executed(result), _)) = outcomes.next() {
                        executed.push((ticket, result));
                    }
                }
                Part::Frame { from, frame, ring, deltas } => {
                    let refused = outcomes.by_ref().take(deltas).zip(0..).filter_map(|((outcome, work), place)| match (outcome, work) {
                        (Outcome::Received(Some(refused)), _) => Some((place, refused)),
                        (Outcome::Received(None), Work::Receive(sent)) if !counts(replica, ring, sent) => Some((place, Refused::Uncounted)),
                        (Outcome::Received(None) | Outcome::Executed(_), _) => None,
                    });
                    outlet.received(from, frame, refused.collect());
                }
            }
        }
        if !executed.is_empty() {
            outlet.executed(executed);
        }
        Ok(())
    }
}
