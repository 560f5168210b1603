//! From one replica's commit to the others: whole batches travel, and each write is answered when its level is reached.
//!
//! The writer hands over what it committed. Everything that goes to one peer is one frame, acknowledged as one. When a write has
//! reached its level its client is answered; the rest is delivered in the background, and what cannot be delivered becomes a hint.
//!
//! A majority is counted within one ring: of peers that saw the same members when they joined the write, and none of which holders before
//! may contradict. While the ring changes some store a write and may not be counted; then it is sent again, by the ring of that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::operation::{OperationError, Receipt, Written};
use crate::config::{HINT_QUEUE_BYTES, MAX_FRAME};
use crate::crdt::command::Answer;
use crate::crdt::delta::Delta;
use crate::env::Lane;
use crate::env::message::{Message, Refused, Sent};
use crate::exchange::Exchange;
use crate::quorum::{self, Tally};
use crate::replica::execution::{Executed, NotExecuted};
use crate::replica::hints::Hint;
use crate::replica::view::View;
use crate::topology::{Cluster, Topology};
use crate::types::{Level, Partition, PeerId};

/// Batches whose spread is remembered after everything was delivered, for WAIT.
const REMEMBERED: usize = 4096;
/// Deltas that one frame carries, in bytes, so that a frame holds up the others for a moment only.
const FRAME_BYTES: usize = MAX_FRAME / 8;
/// How long to wait before a write is sent again that could not be counted: news of members needs about as long.
const UNCOUNTED_PAUSE: Duration = Duration::from_millis(20);

/// What comes back of a write: done, or not here.
pub type WriteResult = Result<Written, NotWritten>;

/// Why a write was not done here.
#[derive(Debug)]
pub enum NotWritten {
    /// Nothing was done here, and another holder may do it. Where there is none, this is what to tell.
    Elsewhere(OperationError),
    /// It failed.
    Failed(OperationError),
}

/// Goes with a command through the writer.
#[derive(Debug)]
pub struct Ticket {
    /// How many replicas the client waits for.
    pub level: Level,
    /// Where the client waits.
    pub reply: oneshot::Sender<WriteResult>,
}

/// A write that is on its way to other replicas.
struct Pending {
    tally: Tally,
    level: Level,
    /// Replicas that have it, hints not counted.
    replicas: usize,
    /// Holders that can't be counted before they and this peer see the same ring.
    uncounted: usize,
    /// Everybody that it was sent to: nobody is a fallback twice.
    asked: BTreeSet<PeerId>,
    waiting: Option<(oneshot::Sender<WriteResult>, Answer)>,
}

struct Batch {
    sent: Arc<Vec<Sent>>,
    writes: Vec<Pending>,
    /// Frames that no peer has acknowledged yet.
    frames: usize,
    /// Until when it is tried to have its writes counted.
    until: Instant,
}

struct Frame {
    batch: u64,
    items: Items,
    deadline: Instant,
}

#[derive(Default)]
struct InFlight {
    next: u64,
    batches: BTreeMap<u64, Batch>,
    frames: BTreeMap<(PeerId, u64), Frame>,
    /// Batches of which everything was acknowledged, and some not to be counted.
    uncounted: BTreeSet<u64>,
    delivered: BTreeMap<u64, usize>,
}

/// Spreads what this peer has written.
#[derive(Clone)]
pub struct Replication {
    topology: Topology,
    exchange: Exchange,
    patience: Duration,
    hints: mpsc::Sender<(PeerId, Hint)>,
    /// What this peer itself counts for.
    view: Arc<ArcSwap<View>>,
    /// Told where something has to be sent again.
    again: Arc<Notify>,
    /// Short: never held across an await, nor while something is encoded.
    in_flight: Arc<Mutex<InFlight>>,
}

/// Writes of a batch by their places, and for whom a hint is to be kept instead of joining.
type Items = Vec<(usize, Option<PeerId>)>;

/// What is to be sent: to whom, and which writes.
type Plan = BTreeMap<PeerId, Items>;

impl Replication {
    /// Spreads over `exchange`; what cannot be delivered goes into `hints`.
    #[must_use]
    pub fn new(
        topology: Topology,
        exchange: Exchange,
        patience: Duration,
        hints: mpsc::Sender<(PeerId, Hint)>,
        view: Arc<ArcSwap<View>>,
    ) -> Self {
        Self { topology, exchange, patience, hints, view, again: Arc::default(), in_flight: Arc::default() }
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the writer committed.
    pub fn spread(&self, results: Vec<(Ticket, Result<Executed, NotExecuted>)>) {
        let cluster = self.topology.cluster();
        let (mut batch, mut size) = (Vec::new(), 0);
        for (ticket, result) in results {
            match result {
                Err(error) => {
                    let _ = ticket.reply.send(Err(match error {
                        NotExecuted::NotHolder => NotWritten::Elsewhere(OperationError::NoReplica),
                        NotExecuted::NoRoom => NotWritten::Elsewhere(OperationError::DiskFull),
                        NotExecuted::Refused(refusal) => NotWritten::Failed(refusal.into()),
                        NotExecuted::Damaged(what) => NotWritten::Elsewhere(OperationError::Damaged(what)),
                    }));
                }
                Ok(executed) if executed.delta.is_empty() => {
                    let receipt = Receipt { executor: self.topology.local(), batch: 0 };
                    let _ = ticket.reply.send(Ok(Written { answer: executed.answer, receipt }));
                }
                Ok(executed) => {
                    size += length_of(&executed.delta);
                    batch.push((ticket, executed));
                    if size >= FRAME_BYTES {
                        self.spread_batch(&cluster, std::mem::take(&mut batch));
                        size = 0;
                    }
                }
            }
        }
        if !batch.is_empty() {
            self.spread_batch(&cluster, batch);
        }
    }

    fn spread_batch(&self, cluster: &Cluster, batch: Vec<(Ticket, Executed)>) {
        let local = self.topology.local();
        let mut plan = Plan::new();
        let mut unreachable = Vec::new();
        let (mut sent, mut writes) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (place, (ticket, executed)) in batch.into_iter().enumerate() {
            let holders = cluster.ring.holders(executed.partition);
            let (tally, uncounted) = self.tally(cluster, executed.partition, ticket.level);
            let holds = holders.contains(&local);
            let mut absent = None;
            let mut asked = BTreeSet::from([local]);
            for holder in holders.iter().filter(|holder| **holder != local) {
                if cluster.reachable.contains(holder) {
                    plan.entry(*holder).or_default().push((place, None));
                    asked.insert(*holder);
                } else {
                    absent = Some(*holder);
                    // A write that was executed blind has become hints for every holder already, in the same commit.
                    if holds {
                        unreachable.push((*holder, place));
                    }
                }
            }
            if ticket.level == Level::Sloppy && asked.len() < tally.needed() {
                // With no holder absent the hint is for this peer itself: should its disk be lost, the write is not.
                let home = absent.unwrap_or(local);
                if let Some(fallback) = cluster.reachable.iter().find(|peer| !holders.contains(peer)) {
                    plan.entry(*fallback).or_default().push((place, Some(home)));
                    asked.insert(*fallback);
                }
            }
            let possible = asked.len();
            let waiting = Some((ticket.reply, executed.answer));
            let mut pending = Pending { tally, level: ticket.level, replicas: usize::from(holds), uncounted, asked, waiting };
            pending.give_up_unless(possible);
            sent.push(Sent { partition: executed.partition, delta: executed.delta, hint_for: None });
            writes.push(pending);
        }
        let sent = Arc::new(sent);
        let batch = self.track(&plan, Arc::clone(&sent), writes);
        for (home, place) in unreachable {
            self.keep_hint(home, &sent[place]);
        }
        self.send(batch, &plan, &sent, cluster);
    }

    /// Begins to count who has a write, with this peer where it counts; and whether it does not.
    fn tally(&self, cluster: &Cluster, partition: Partition, level: Level) -> (Tally, usize) {
        let mut tally = Tally::new(quorum::needed_for_write(level, self.topology.replicas(), cluster.reachable.len() + 1));
        let view = self.view.load();
        let counts = level < Level::Quorum || view.ring == cluster.ring.name() && view.partition(partition).counts_writes;
        if counts {
            tally.record(self.topology.local());
        }
        (tally, usize::from(!counts))
    }

    /// Notes what is about to be sent, so that no acknowledgement comes too early, and answers those who wait for nobody.
    fn track(&self, plan: &Plan, sent: Arc<Vec<Sent>>, writes: Vec<Pending>) -> u64 {
        let mut guard = self.in_flight();
        let in_flight = &mut *guard;
        in_flight.next += 1;
        let id = in_flight.next;
        let deadline = Instant::now() + self.patience;
        for (peer, items) in plan {
            in_flight.frames.insert((*peer, id), Frame { batch: id, items: items.clone(), deadline });
        }
        let mut batch = Batch { sent, writes, frames: plan.len(), until: deadline };
        for pending in &mut batch.writes {
            pending.answer_if_reached(self.topology.local(), id);
        }
        in_flight.batches.insert(id, batch);
        in_flight.settle(id);
        drop(guard);
        self.again_if_uncounted();
        id
    }

    fn again_if_uncounted(&self) {
        if !self.in_flight().uncounted.is_empty() {
            self.again.notify_one();
        }
    }

    /// Resolves when something has to be sent again.
    pub async fn uncounted(&self) {
        self.again.notified().await;
        sleep(UNCOUNTED_PAUSE).await;
    }

    /// Sends writes again that could not be counted, by the ring of this moment. Whoever has them joins them once more, which changes nothing.
    pub fn spread_again(&self) {
        let cluster = self.topology.cluster();
        let batches = std::mem::take(&mut self.in_flight().uncounted);
        for batch in batches {
            let Some((frame, plan, sent)) = self.track_again(&cluster, batch) else { continue };
            self.send(frame, &plan, &sent, &cluster);
        }
        self.again_if_uncounted();
    }

    fn track_again(&self, cluster: &Cluster, id: u64) -> Option<(u64, Plan, Arc<Vec<Sent>>)> {
        let mut guard = self.in_flight();
        let in_flight = &mut *guard;
        in_flight.next += 1;
        let (frame, deadline) = (in_flight.next, Instant::now() + self.patience);
        let batch = in_flight.batches.get_mut(&id)?;
        let mut plan = Plan::new();
        for (place, pending) in batch.writes.iter_mut().enumerate().filter(|(_, pending)| pending.waiting.is_some()) {
            let partition = batch.sent[place].partition;
            (pending.tally, pending.uncounted) = self.tally(cluster, partition, pending.level);
            pending.replicas = usize::from(cluster.ring.is_holder(partition, self.topology.local()));
            let mut possible = 1;
            for holder in cluster.reachable_holders(partition) {
                plan.entry(holder).or_default().push((place, None));
                possible += 1;
            }
            pending.answer_if_reached(self.topology.local(), id);
            pending.give_up_unless(possible);
        }
        batch.frames = plan.len();
        let sent = Arc::clone(&batch.sent);
        for (peer, items) in &plan {
            in_flight.frames.insert((*peer, frame), Frame { batch: id, items: items.clone(), deadline });
        }
        in_flight.settle(id);
        Some((frame, plan, sent))
    }

    fn send(&self, batch: u64, plan: &Plan, sent: &Arc<Vec<Sent>>, cluster: &Cluster) {
        // Mostly the same writes go to every peer: then they are encoded once.
        let mut encoded: Option<(&Items, bytes::Bytes)> = None;
        for (peer, items) in plan {
            let frame = match &encoded {
                Some((same, frame)) if *same == items => frame.clone(),
                _ => {
                    let deltas = items.iter().map(|(place, hint_for)| Sent { hint_for: *hint_for, ..sent[*place].clone() }).collect();
                    let frame = Message::Deltas { frame: batch, ring: cluster.ring.name(), deltas }.to_frame();
                    encoded = Some((items, frame.clone()));
                    frame
                }
            };
            if let Err(error) = self.exchange.send_frame(*peer, Lane::Operations, frame) {
                tracing::debug!(?peer, %error, "deltas were not sent and become hints");
                self.undelivered(&[(*peer, batch)]);
            }
        }
    }

    /// A peer has stored the deltas of a frame, all but those refused.
    pub fn acknowledged(&self, peer: PeerId, frame: u64, refused: &[(u32, Refused)]) {
        let mut guard = self.in_flight();
        let in_flight = &mut *guard;
        let Some(frame) = in_flight.frames.remove(&(peer, frame)) else { return };
        let refused: BTreeMap<u32, Refused> = refused.iter().copied().collect();
        let Some(batch) = in_flight.batches.get_mut(&frame.batch) else { return };
        for (position, (place, hint_for)) in (0..).zip(&frame.items) {
            let Some(pending) = batch.writes.get_mut(*place) else { continue };
            let why = refused.get(&position);
            let counts = why.is_none_or(|why| *why == Refused::Uncounted && pending.level < Level::Quorum);
            let is_stored = counts || why == Some(&Refused::Uncounted);
            pending.replicas += usize::from(is_stored && hint_for.is_none());
            if counts {
                pending.tally.record(peer);
                pending.answer_if_reached(self.topology.local(), frame.batch);
            } else if is_stored || why == Some(&Refused::NotHolder) {
                pending.uncounted += 1;
            }
        }
        in_flight.frame_ended(frame.batch);
        drop(guard);
        self.again_if_uncounted();
    }

    /// A peer's connection broke: what it has not acknowledged becomes hints.
    pub fn lost(&self, peer: PeerId) {
        let frames: Vec<(PeerId, u64)> = self.in_flight().frames.range((peer, 0)..=(peer, u64::MAX)).map(|(key, _)| *key).collect();
        self.undelivered(&frames);
    }

    /// Gives up on frames that were not acknowledged in time.
    pub fn sweep(&self) {
        let now = Instant::now();
        let late: Vec<(PeerId, u64)> =
            self.in_flight().frames.iter().filter(|(_, frame)| frame.deadline <= now).map(|(key, _)| *key).collect();
        self.undelivered(&late);
    }

    /// Frames that will not be acknowledged: their deltas become hints, and writes that wait for them look for others.
    fn undelivered(&self, frames: &[(PeerId, u64)]) {
        let cluster = self.topology.cluster();
        for key in frames {
            let mut hints = Vec::new();
            let mut fallbacks = Plan::new();
            let (id, sent) = {
                let mut guard = self.in_flight();
                let in_flight = &mut *guard;
                let Some(frame) = in_flight.frames.remove(key) else { continue };
                let expected: BTreeMap<usize, usize> = in_flight.expected(frame.batch);
                let Some(batch) = in_flight.batches.get_mut(&frame.batch) else { continue };
                for (place, hint_for) in &frame.items {
                    hints.push((hint_for.unwrap_or(key.0), *place));
                    let Some(pending) = batch.writes.get_mut(*place) else { continue };
                    let mut possible = pending.tally.reached() + pending.uncounted + expected.get(place).copied().unwrap_or(0);
                    if pending.level == Level::Sloppy && pending.waiting.is_some() {
                        pending.tally.lower(quorum::needed_for_write(Level::Sloppy, self.topology.replicas(), cluster.reachable.len() + 1));
                        let fallback = cluster.reachable.iter().find(|peer| !pending.asked.contains(peer));
                        if let (true, Some(fallback)) = (possible < pending.tally.needed(), fallback) {
                            pending.asked.insert(*fallback);
                            fallbacks.entry(*fallback).or_default().push((*place, Some(key.0)));
                            possible += 1;
                        }
                    }
                    pending.answer_if_reached(self.topology.local(), frame.batch);
                    pending.give_up_unless(possible);
                }
                let sent = Arc::clone(&batch.sent);
                batch.frames += fallbacks.len();
                in_flight.next += 1;
                let id = in_flight.next;
                let deadline = Instant::now() + self.patience;
                for (peer, items) in &fallbacks {
                    in_flight.frames.insert((*peer, id), Frame { batch: frame.batch, items: items.clone(), deadline });
                }
                in_flight.frame_ended(frame.batch);
                (id, sent)
            };
            for (home, place) in hints {
                self.keep_hint(home, &sent[place]);
            }
            self.send(id, &fallbacks, &sent, &cluster);
        }
        self.again_if_uncounted();
    }

    fn keep_hint(&self, home: PeerId, sent: &Sent) {
        // Counted as if all that wait were as long as this one.
        let waiting = self.hints.max_capacity() - self.hints.capacity();
        let bytes = length_of(&sent.delta).saturating_mul(waiting);
        let hint = Hint { partition: sent.partition, delta: sent.delta.clone() };
        if bytes > HINT_QUEUE_BYTES || self.hints.try_send((home, hint)).is_err() {
            // The executing replica has the write; anti-entropy brings it home.
            tracing::debug!(?home, "too many hints wait to be stored; anti-entropy will deliver this write");
        }
    }

    /// How many replicas have every write of a batch.
    #[must_use]
    pub fn replicated(&self, batch: u64) -> usize {
        let in_flight = self.in_flight();
        match in_flight.batches.get(&batch) {
            Some(batch) => batch.writes.iter().map(|pending| pending.replicas).min().unwrap_or(0),
            None => in_flight.delivered.get(&batch).copied().unwrap_or(0),
        }
    }

    /// Counts no more: whoever waits for a write learns no outcome.
    pub fn end(&self) {
        *self.in_flight() = InFlight::default();
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let in_flight = self.in_flight();
        in_flight.frames.is_empty() && in_flight.uncounted.is_empty()
    }
}

/// About how many bytes a delta takes.
pub(super) fn length_of(delta: &Delta) -> usize {
    let added = delta.adds.iter().map(|(address, _, entry)| address.key.len() + address.element.len() + entry.size());
    64 + added.sum::<usize>()
}

impl Pending {
    fn answer_if_reached(&mut self, executor: PeerId, batch: u64) {
        if self.tally.is_reached()
            && let Some((reply, answer)) = self.waiting.take()
        {
            let _ = reply.send(Ok(Written { answer, receipt: Receipt { executor, batch } }));
        }
    }

    /// Tells the client where even all that were asked are too few.
    fn give_up_unless(&mut self, possible: usize) {
        if possible < self.tally.needed()
            && let Some((reply, _)) = self.waiting.take()
        {
            let error = OperationError::NoQuorum { reached: self.tally.reached(), needed: self.tally.needed() };
            let _ = reply.send(Err(NotWritten::Failed(error)));
        }
    }
}

impl InFlight {
    /// For each write of a batch, how many frames it is still part of.
    fn expected(&self, batch: u64) -> BTreeMap<usize, usize> {
        let mut expected = BTreeMap::new();
        for (place, _) in self.frames.values().filter(|frame| frame.batch == batch).flat_map(|frame| &frame.items) {
            *expected.entry(*place).or_default() += 1;
        }
        expected
    }

    fn frame_ended(&mut self, id: u64) {
        if let Some(batch) = self.batches.get_mut(&id) {
            batch.frames = batch.frames.saturating_sub(1);
            self.settle(id);
        }
    }

    /// A batch of which nothing is on its way is done with, unless some of its writes may be counted when they are sent again.
    fn settle(&mut self, id: u64) {
        let Some(batch) = self.batches.get_mut(&id).filter(|batch| batch.frames == 0) else { return };
        let is_over = batch.until <= Instant::now();
        for pending in &mut batch.writes {
            pending.give_up_unless(if is_over { 0 } else { pending.tally.reached() + pending.uncounted });
        }
        if batch.writes.iter().any(|pending| pending.waiting.is_some()) {
            self.uncounted.insert(id);
        } else if let Some(batch) = self.batches.remove(&id) {
            self.finish(id, &batch);
        }
    }

    fn finish(&mut self, id: u64, batch: &Batch) {
        self.delivered.insert(id, batch.writes.iter().map(|pending| pending.replicas).min().unwrap_or(0));
        if self.delivered.len() > REMEMBERED {
            self.delivered.pop_first();
        }
    }
}
