//! The commands of one connection that run at the same time.
//!
//! Clients send many commands without waiting for replies. Running them one after the other would cost a round trip to
//! the replicas each, so they are started as they come, in order, and their replies are given out in that same order. Two
//! rules keep what a client sees as if they had run one by one:
//!
//! * A read waits for earlier writes of the same key and a write for earlier reads, each until everything under way is
//!   done. Write after write needs no waiting, since a peer queues writes in the order in which they are started.
//! * Commands that look at everything (`WAIT`, `DBSIZE`, …) run alone.
//!
//! How many run at once adapts to the length of the replies, so that a client that asks for many long values and never
//! reads them is held to about [`MAX_OUTPUT`].

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::stream::{self, FuturesOrdered};
use futures::{FutureExt, StreamExt};

use super::announcing::Notice;
use super::commands::{Action, Gather, Next, Operation, Patience, Shape, Take, Work, partly_done, within_limits};
use super::lines::{Queued, Unblocked};
use super::reply::{Protocol, Reply};
use super::session::{Receipts, Session};
use super::shared::Shared;
use super::taking::Taker;
use crate::config::{MAX_GATHERED, MAX_OUTPUT, MAX_RUNNING};
use crate::crdt::command::Answer;
use crate::crdt::delta::Kind;
use crate::env::message::Publication;
use crate::held::{Held, Share};
use crate::node::{Node, OperationError, Receipt};
use crate::types::Level;

/// Commands that may run at once before anything is known about the length of their replies.
const FIRST_WINDOW: usize = 16;
/// Replies up to this length don't narrow the window, in bytes.
const SHORT: usize = 16 * 1024;
/// Keys of one command that are asked at the same time, where their values are gathered.
const GATHERED_AT_ONCE: usize = 32;
/// Keys that are remembered for finding conflicts; a command that names more of them runs alone.
const REMEMBERED_KEYS: usize = 1024;
/// How often WAIT asks.
const WAIT_PAUSE: Duration = Duration::from_millis(5);

/// The reply of a command, and what else it left.
pub(crate) struct Finished {
    /// The reply.
    pub(crate) reply: Reply,
    /// The version of the protocol that was spoken when the command was started.
    pub(crate) protocol: Protocol,
    /// Its writes.
    pub(crate) receipts: Vec<Receipt>,
    /// Writes of which WAIT found that every replica has them.
    pub(crate) complete: Vec<Receipt>,
    /// Commands that run next, and whose replies are the elements of this one.
    pub(crate) script: Vec<Vec<Bytes>>,
    keys: usize,
    /// Of the memory of all clients, what a long reply takes until it is given out.
    _share: Option<Share>,
}

/// The commands that run.
pub(crate) struct Pipeline {
    running: FuturesOrdered<BoxFuture<'static, Finished>>,
    /// Hash of each key that running commands name, and whether it is written; in the order of the commands.
    keys: VecDeque<(u64, bool)>,
    /// Whether the last command started has to run alone.
    alone: bool,
    /// Whether WAIT runs.
    waiting: bool,
    /// Whether a command runs that may wait for something to take.
    blocked: bool,
    window: usize,
    /// What all clients have in memory.
    held: Held,
}

impl Pipeline {
    /// Nothing runs yet.
    pub(crate) fn new(held: Held) -> Self {
        Self {
            held,
            running: FuturesOrdered::new(),
            keys: VecDeque::new(),
            alone: false,
            waiting: false,
            blocked: false,
            window: FIRST_WINDOW,
        }
    }

    /// Whether nothing runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether nothing but WAIT runs, which nobody needs once the client is gone.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether a command runs that may wait for something to take. It must not be dropped: what it has taken would be lost.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether one more command may be looked at.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < self.window && !self.alone
    }

    /// Whether a command may be started now: beside what runs already, or since nothing runs.
    pub(crate) fn admits(&self, action: &Action) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let conflicts = |operation: &Operation| {
            let (hash, writes) = footprint(operation);
            self.keys.iter().any(|(known, written)| *known == hash && *written != writes)
        };
        match action {
            Action::Reply(_) | Action::Quit(_) | Action::Transaction(_) | Action::HangUp => true,
            Action::Key(operation, _) => self.keys.len() < REMEMBERED_KEYS && !conflicts(operation),
            Action::Keys(operations, _) => {
                operations.len() <= MAX_RUNNING && self.keys.len() < REMEMBERED_KEYS && !operations.iter().any(conflicts)
            }
            // Whoever hears of a write must be able to read it.
            Action::Publish(_) => self.keys.is_empty(),
            Action::First(..)
            | Action::Take(_)
            | Action::Alone(_)
            | Action::Then(_)
            | Action::Wait { .. }
            | Action::Subscribe(..)
            | Action::Unsubscribe(..) => false,
        }
    }

    /// Queues a reply behind those of the commands that run.
    pub(crate) fn push_reply(&mut self, reply: Reply, protocol: Protocol) {
        self.push(0, protocol, futures::future::ready((reply, Vec::new(), Vec::new())));
    }

    /// Starts a command on keys: its writes are queued at the peer when this returns.
    pub(crate) fn start_key(&mut self, operation: Operation, shape: Shape, session: &Session, node: &Node) {
        self.keys.push_back(footprint(&operation));
        let answer = perform(node, session.level, operation);
        self.push(1, session.protocol, async move {
            match answer.await {
                Ok((answer, receipt)) => (shape(answer), receipt.into_iter().collect(), Vec::new()),
                Err(error) => (error.into(), Vec::new(), Vec::new()),
            }
        });
    }

    /// Starts a command on several keys: where they are few, its writes are queued at the peer when this returns.
    pub(crate) fn start_keys(&mut self, operations: Vec<Operation>, gather: Gather, session: &Session, node: &Node) {
        let (level, protocol) = (session.level, session.protocol);
        let written = written_keys(&operations);
        let writes = !written.is_empty();
        if operations.len() > MAX_RUNNING {
            self.alone = true;
            let node = node.clone();
            let at_once = if writes { MAX_RUNNING } else { GATHERED_AT_ONCE };
            self.push(0, protocol, async move {
                let answers = stream::iter(operations).map(|operation| perform(&node, level, operation)).buffered(at_once);
                gathered(answers, written, gather).await
            });
            return;
        }
        let keys = operations.len();
        self.keys.extend(operations.iter().map(footprint));
        let answers: Vec<_> = operations.into_iter().map(|operation| perform(node, level, operation)).collect();
        if writes {
            self.push(keys, protocol, async move { gathered(stream::iter(join_all(answers).await), written, gather).await });
        } else {
            let answers = stream::iter(answers).buffered(GATHERED_AT_ONCE);
            self.push(keys, protocol, gathered(answers, written, gather));
        }
    }

    /// Starts a command that asks keys first and then does what follows from their answers.
    pub(crate) fn start_first(&mut self, operations: Vec<Operation>, next: Next, session: &Session, node: &Node) {
        self.alone = true;
        let (level, protocol, node, held) = (session.level, session.protocol, node.clone(), self.held.clone());
        let work = async move {
            let (mut operations, mut next, mut receipts, mut script) = (operations, next, Vec::new(), Vec::new());
            let reply = loop {
                let answers = stream::iter(operations).map(|operation| perform(&node, level, operation)).buffered(GATHERED_AT_ONCE);
                let (answers, written) = collect(answers).await;
                receipts.extend(written);
                let mut action = match answers {
                    Ok(answers) => next(answers),
                    Err(reply) => Action::Reply(reply),
                };
                while let Action::Then(work) = action {
                    action = work.await;
                }
                break match within_limits(action).unwrap_or_else(|error| Action::Reply(error.into())) {
                    Action::First(more, after) => {
                        (operations, next) = (more, after);
                        continue;
                    }
                    Action::Reply(reply) => reply,
                    Action::Transaction(commands) => {
                        script = commands;
                        Reply::ArrayHead(script.len())
                    }
                    Action::Key(operation, shape) => match perform(&node, level, operation).await {
                        Ok((answer, receipt)) => {
                            receipts.extend(receipt);
                            shape(answer)
                        }
                        Err(error) => error.into(),
                    },
                    Action::Keys(operations, gather) => {
                        let keys = written_keys(&operations);
                        let answers = stream::iter(operations).map(|operation| perform(&node, level, operation)).buffered(MAX_RUNNING);
                        let (reply, written, _) = gathered(answers, keys, gather).await;
                        receipts.extend(written);
                        reply
                    }
                    _ => Reply::Error("ERR this does not follow from any keys".to_owned()),
                };
            };
            let (reply, share) = bounded(reply, receipts.is_empty(), &held);
            Finished { reply, protocol, receipts, complete: Vec::new(), script, keys: 0, _share: share }
        };
        self.running.push_back(work.boxed());
    }

    /// Starts to take something out of the first of some keys.
    pub(crate) fn start_take(&mut self, take: Take, session: &Session, shared: &Arc<Shared>) {
        self.alone = true;
        self.blocked = take.patience != Patience::None;
        let (client, level) = (session.client.id, session.level);
        let taker = Taker { client, level, node: shared.node.clone(), lines: shared.lines.clone() };
        self.push(0, session.protocol, async move {
            let (reply, receipts) = taker.take(take).await;
            (reply, receipts, Vec::new())
        });
    }

    /// Publishes a message: it is on its way when this returns.
    pub(crate) fn start_publish(&mut self, publication: Publication, protocol: Protocol, node: &Node) {
        let published = node.pubsub().publish(publication);
        self.push(0, protocol, async move { (Reply::count(published.await), Vec::new(), Vec::new()) });
    }

    /// Starts something that runs alone.
    pub(crate) fn start_alone(&mut self, work: BoxFuture<'static, Reply>, protocol: Protocol) {
        self.alone = true;
        self.push(0, protocol, async move { (work.await, Vec::new(), Vec::new()) });
    }

    /// Starts WAIT.
    pub(crate) fn start_wait(&mut self, replicas: i64, timeout: Option<Duration>, session: &Session, shared: &Arc<Shared>) {
        self.alone = true;
        self.waiting = true;
        let (receipts, node) = (session.receipts.clone(), shared.node.clone());
        let queued = shared.lines.join(session.client.id, Kind::Value, &[]);
        self.push(0, session.protocol, async move {
            let unblocked = || queued.as_ref().and_then(Queued::unblocked);
            let (reached, complete) = wait(&node, &receipts, replicas, timeout, || unblocked().is_some()).await;
            let reply = if unblocked() == Some(Unblocked::Refused) { Reply::unblocked() } else { Reply::count(reached) };
            (reply, Vec::new(), complete)
        });
    }

    fn push(&mut self, keys: usize, protocol: Protocol, work: impl Future<Output = (Reply, Vec<Receipt>, Vec<Receipt>)> + Send + 'static) {
        let held = self.held.clone();
        let finished = work.map(move |(reply, receipts, complete)| {
            let (reply, share) = bounded(reply, receipts.is_empty(), &held);
            Finished { reply, protocol, receipts, complete, script: Vec::new(), keys, _share: share }
        });
        self.running.push_back(finished.boxed());
    }

    /// The next command that is done, in the order of their start. Never resolves where none runs.
    pub(crate) async fn next(&mut self) -> Finished {
        match self.running.next().await {
            None => std::future::pending().await,
            Some(finished) => {
                self.keys.drain(..finished.keys.min(self.keys.len()));
                if self.running.is_empty() {
                    (self.alone, self.waiting, self.blocked) = (false, false, false);
                }
                finished
            }
        }
    }

    /// Learns how long a reply was.
    pub(crate) fn note_length(&mut self, length: usize) {
        self.window = if length <= SHORT { (self.window + 1).min(MAX_RUNNING) } else { (MAX_OUTPUT / length).clamp(1, self.window) };
    }
}

/// A long reply takes its share of the memory of all clients. Where there is no room, and nothing was done of which it tells, an error takes its place.
fn bounded(reply: Reply, only_read: bool, held: &Held) -> (Reply, Option<Share>) {
    let weight = reply.weight();
    if weight <= SHORT {
        return (reply, None);
    }
    match held.take(weight) {
        None if only_read => (OperationError::Busy.into(), None),
        None => (reply, Some(held.take_anyway(weight))),
        share => (reply, share),
    }
}

/// The hash of an operation's key, and whether it writes. Two keys with one hash only wait for each other in vain.
fn footprint(operation: &Operation) -> (u64, bool) {
    let mut hasher = DefaultHasher::new();
    operation.key.hash(&mut hasher);
    (hasher.finish(), matches!(operation.work, Work::Write(_)))
}

/// Starts one operation.
fn perform(node: &Node, level: Level, operation: Operation) -> BoxFuture<'static, Result<(Answer, Option<Receipt>), OperationError>> {
    let Operation { key, work, event } = operation;
    match work {
        Work::Read(query) => node.read(level, key, query).map(|result| result.map(|answer| (answer, None))).boxed(),
        Work::Write(mutation) => {
            let (notice, mutation) = Notice::of(node, &key, mutation, event);
            let written = node.write(level, key, mutation);
            written.map(|result| result.map(|written| (Notice::tell(notice, written.answer), Some(written.receipt)))).boxed()
        }
    }
}

/// The keys of operations that all write, else none.
fn written_keys(operations: &[Operation]) -> Vec<Bytes> {
    let key = |operation: &Operation| matches!(operation.work, Work::Write(_)).then(|| operation.key.clone());
    operations.iter().map(key).collect::<Option<_>>().unwrap_or_default()
}

/// Shapes the answers of several keys, unless they are too long together, or some keys were written and others not.
async fn gathered(
    answers: impl stream::Stream<Item = Result<(Answer, Option<Receipt>), OperationError>>,
    written: Vec<Bytes>,
    gather: Gather,
) -> (Reply, Vec<Receipt>, Vec<Receipt>) {
    let (results, receipts) = collect(answers).await;
    let reply = match results {
        Ok(results) => partly_done(&written, &results).unwrap_or_else(|| gather(results)),
        Err(reply) => reply,
    };
    (reply, receipts, Vec::new())
}

/// Collects the answers of several keys. Where they are too long together, an error takes their place.
async fn collect(
    answers: impl stream::Stream<Item = Result<(Answer, Option<Receipt>), OperationError>>,
) -> (Result<Vec<Result<Answer, OperationError>>, Reply>, Vec<Receipt>) {
    let (mut results, mut receipts, mut length) = (Vec::new(), Vec::new(), 0);
    let mut answers = std::pin::pin!(answers);
    while let Some(result) = answers.next().await {
        length += result.as_ref().map_or(0, |(answer, _)| answer.weight());
        if length > MAX_GATHERED {
            return (Err(Reply::Error("TOOBIG reply would exceed 256 MiB".to_owned())), receipts);
        }
        results.push(result.map(|(answer, receipt)| {
            receipts.extend(receipt);
            answer
        }));
    }
    (Ok(results), receipts)
}

/// Asks until so many replicas have all writes, or the time is over, or the wait is ended. Also tells the writes that every replica has.
async fn wait(
    node: &Node,
    receipts: &Receipts,
    replicas: i64,
    timeout: Option<Duration>,
    is_ended: impl Fn() -> bool,
) -> (usize, Vec<Receipt>) {
    let writes = receipts.to_vec();
    // A time beyond what the clock can show is for ever.
    let deadline = timeout.and_then(|timeout| tokio::time::Instant::now().checked_add(timeout));
    loop {
        let reached = node.replicated(&writes).await;
        let enough = i64::try_from(reached).is_ok_and(|reached| reached >= replicas);
        if enough || is_ended() || deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
            let complete = if reached >= node.status().replicas { writes } else { Vec::new() };
            return (reached, complete);
        }
        tokio::time::sleep(WAIT_PAUSE).await;
    }
}
