//! From one replica's commit to the others: whole batches travel, and each write is answered when its level is reached.
//!
//! The writer hands over what it committed. Everything that goes to one peer is one frame, acknowledged as one. When a write has
//! reached its level its client is answered; the rest is delivered in the background, and what cannot be delivered becomes a hint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

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
use crate::topology::{Cluster, Topology};
use crate::types::{Level, PeerId};

/// Batches whose spread is remembered after everything was delivered, for WAIT.
const REMEMBERED: usize = 4096;
/// Deltas that one frame carries, in bytes, so that a frame holds up the others for a moment only.
const FRAME_BYTES: usize = MAX_FRAME / 8;

/// What comes back of a write: done, or not here.
pub type WriteResult = Result<Written, NotWritten>;

/// Why a write was not done here.
#[derive(Debug)]
pub enum NotWritten {
    /// This peer turned out not to hold the key; nothing was done.
    NotHolder,
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
    /// Everybody that it was sent to: nobody is a fallback twice.
    asked: BTreeSet<PeerId>,
    waiting: Option<(oneshot::Sender<WriteResult>, Answer)>,
}

struct Batch {
    sent: Arc<Vec<Sent>>,
    writes: Vec<Pending>,
    /// Frames that no peer has acknowledged yet.
    frames: usize,
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
    delivered: BTreeMap<u64, usize>,
}

/// Spreads what this peer has written.
#[derive(Clone)]
pub struct Replication {
    topology: Topology,
    exchange: Exchange,
    patience: Duration,
    hints: mpsc::Sender<(PeerId, Hint)>,
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
    pub fn new(topology: Topology, exchange: Exchange, patience: Duration, hints: mpsc::Sender<(PeerId, Hint)>) -> Self {
        Self { topology, exchange, patience, hints, in_flight: Arc::default() }
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
                        NotExecuted::NotHolder => NotWritten::NotHolder,
                        NotExecuted::Refused(refusal) => NotWritten::Failed(refusal.into()),
                        NotExecuted::Failed(what) => NotWritten::Failed(OperationError::Stopped(what)),
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
            let mut tally = Tally::new(quorum::needed_for_write(ticket.level, self.topology.replicas(), cluster.reachable.len() + 1));
            tally.record(local);
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
            let mut pending = Pending { tally, level: ticket.level, replicas: usize::from(holds), asked, waiting };
            pending.give_up_unless(possible);
            sent.push(Sent { partition: executed.partition, delta: executed.delta, hint_for: None });
            writes.push(pending);
        }
        let sent = Arc::new(sent);
        let batch = self.track(&plan, Arc::clone(&sent), writes);
        for (home, place) in unreachable {
            self.keep_hint(home, &sent[place]);
        }
        self.send(batch, &plan, &sent);
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
        let mut batch = Batch { sent, writes, frames: plan.len() };
        for pending in &mut batch.writes {
            pending.answer_if_reached(self.topology.local(), id);
        }
        if batch.frames == 0 {
            in_flight.finish(id, &batch);
        } else {
            in_flight.batches.insert(id, batch);
        }
        id
    }

    fn send(&self, batch: u64, plan: &Plan, sent: &Arc<Vec<Sent>>) {
        // Mostly the same writes go to every peer: then they are encoded once.
        let mut encoded: Option<(&Items, bytes::Bytes)> = None;
        for (peer, items) in plan {
            let frame = match &encoded {
                Some((same, frame)) if *same == items => frame.clone(),
                _ => {
                    let deltas = items.iter().map(|(place, hint_for)| Sent { hint_for: *hint_for, ..sent[*place].clone() }).collect();
                    let frame = Message::Deltas { frame: batch, deltas }.to_frame();
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
        let refused: BTreeSet<usize> = refused.iter().filter_map(|(place, _)| usize::try_from(*place).ok()).collect();
        let Some(batch) = in_flight.batches.get_mut(&frame.batch) else { return };
        for (position, (place, hint_for)) in frame.items.iter().enumerate() {
            if let (false, Some(pending)) = (refused.contains(&position), batch.writes.get_mut(*place)) {
                pending.replicas += usize::from(hint_for.is_none());
                pending.tally.record(peer);
                pending.answer_if_reached(self.topology.local(), frame.batch);
            }
        }
        in_flight.frame_ended(frame.batch);
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
                    let mut possible = pending.tally.reached() + expected.get(place).copied().unwrap_or(0);
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
            self.send(id, &fallbacks, &sent);
        }
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

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight().frames.is_empty()
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
            if batch.frames == 0
                && let Some(batch) = self.batches.remove(&id)
            {
                self.finish(id, &batch);
            }
        }
    }

    fn finish(&mut self, id: u64, batch: &Batch) {
        self.delivered.insert(id, batch.writes.iter().map(|pending| pending.replicas).min().unwrap_or(0));
        if self.delivered.len() > REMEMBERED {
            self.delivered.pop_first();
        }
    }
}
