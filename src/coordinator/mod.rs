//! Takes commands at any peer: executes them here where this peer holds the key, else at a holder, else keeps them as hints.

pub mod agreement;
pub mod awaiting;
pub mod floors;
pub mod keys;
pub mod moving;
pub mod operation;
pub mod read;
pub mod removal;
pub mod replication;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use self::moving::Turns;
use self::operation::{OperationError, Receipt, Written};
use self::replication::{NotWritten, Replication, Ticket, WriteResult};
use crate::config::{MAX_KEY, MAX_VALUE};
use crate::crdt::command::{self, Answer, Mutation, Query, TooLong};
use crate::env::message::{Failed, Reply, Request, Standing};
use crate::env::{Clock, Lane};
use crate::exchange::{AskError, Exchange};
use crate::hlc::Hlc;
use crate::members;
use crate::pace::Pace;
use crate::quorum;
use crate::replica::awaited::Awaited;
use crate::replica::execution::{Change, Command};
use crate::replica::owner::{NotQueued, Writer};
use crate::replica::view::View;
use crate::skew::Skew;
use crate::tasks::Tasks;
use crate::topology::Topology;
use crate::types::{Level, Partition, PeerId};

/// Peers that one write is tried at before it fails: holders may change while it is on its way.
const MOST_TRIES: usize = 4;

/// Routes commands. Clones share everything.
#[derive(Clone)]
pub struct Coordinator {
    /// Who holds what, and who can be reached.
    pub topology: Topology,
    /// The way to other peers.
    pub exchange: Exchange,
    /// The writer of this peer's replica.
    pub writer: Writer<Ticket>,
    /// What this peer has committed.
    pub view: Arc<ArcSwap<View>>,
    /// How writes get from here to the other replicas.
    pub replication: Replication,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// How long to wait for other peers.
    pub patience: Duration,
    /// Where peers are named of whom this one is to pull a partition: a read, or a look for damage, found something wrong with it here.
    pub stale: mpsc::Sender<(PeerId, Partition)>,
    /// Where keys are named that expired and were removed here.
    pub expired: mpsc::Sender<Bytes>,
    /// What reads at this peer found.
    pub reads: Arc<Reads>,
    /// Who waits for what this peer commits.
    pub awaited: Awaited,
    /// Who may take items of which list.
    pub turns: Turns,
    /// Told of every command, so that what else this peer does makes room for them.
    pub pace: Pace,
    /// By how much this peer's clock is off.
    pub skew: Skew,
    /// What goes on when whoever asked is answered.
    pub tasks: Tasks,
}

/// How many reads found something, and how many nothing.
#[derive(Debug, Default)]
pub struct Reads {
    found: AtomicU64,
    missed: AtomicU64,
}

impl Reads {
    fn count(&self, answer: &Answer) {
        let counter = if answer.tells_something() { &self.found } else { &self.missed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads that found something, and reads that found nothing.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.found.load(Ordering::Relaxed), self.missed.load(Ordering::Relaxed))
    }
}

/// A write that was started.
enum Started {
    Here(oneshot::Receiver<WriteResult>),
    There(PeerId, BoxFuture<'static, Result<Reply, AskError>>),
    Over(OperationError),
}

impl Coordinator {
    /// Changes a key. It is queued before this returns.
    pub fn write(
        &self,
        level: Level,
        key: Bytes,
        mutation: Mutation,
    ) -> impl Future<Output = Result<Written, OperationError>> + Send + use<> {
        self.pace.count_command();
        let mut started = match self.check_standing().and_then(|()| check_lengths(&key, mutation.longest())) {
            Ok(()) => self.start(level, &key, &mutation, &[]),
            Err(error) => Started::Over(error),
        };
        let coordinator = self.clone();
        async move {
            let mut tried = Vec::new();
            loop {
                let failure = match started {
                    Started::Over(error) => return Err(error),
                    Started::Here(result) => match result.await {
                        Ok(Ok(written)) => return Ok(written),
                        Ok(Err(NotWritten::Failed(error))) => return Err(error),
                        Ok(Err(NotWritten::Elsewhere(error))) => {
                            tried.push(coordinator.topology.local());
                            error
                        }
                        Err(_) => return Err(OperationError::Stopped("its storage failed or it is stopping".to_owned())),
                    },
                    Started::There(peer, reply) => {
                        tried.push(peer);
                        match settle(peer, reply.await) {
                            Settled::Done(result) => return result,
                            Settled::Elsewhere(error) => error,
                        }
                    }
                };
                if tried.len() >= MOST_TRIES {
                    return Err(failure);
                }
                started = match coordinator.start(level, &key, &mutation, &tried) {
                    // Nothing was done anywhere, and this says why.
                    Started::Over(_) if matches!(failure, OperationError::DiskFull | OperationError::Damaged(_)) => return Err(failure),
                    started => started,
                };
            }
        }
    }

    /// Executes a command for another peer's client: here, or not at all. It is queued before this returns.
    pub fn execute_for(
        &self,
        level: Level,
        key: &Bytes,
        mutation: &Mutation,
    ) -> impl Future<Output = Result<(Answer, u64), Failed>> + Send + use<> {
        let is_last = || self.topology.cluster().reachable_holders(self.topology.place(key).partition).next().is_none();
        let started = match check_lengths(key, mutation.longest()) {
            Ok(()) if self.stamps_well() || is_last() => self.execute_here(level, key, mutation, None),
            Ok(()) => Started::Over(OperationError::NoReplica),
            Err(error) => Started::Over(error),
        };
        async move {
            match started {
                Started::Here(result) => match result.await {
                    Ok(Ok(written)) => Ok((written.answer, written.receipt.batch)),
                    Ok(Err(NotWritten::Elsewhere(error) | NotWritten::Failed(error))) => Err(error.into()),
                    Err(_) => Err(Failed::Stopped("its storage failed or it is stopping".to_owned())),
                },
                Started::Over(error) => Err(error.into()),
                Started::There(..) => Err(Failed::NotHolder),
            }
        }
    }

    /// Asks something about a key.
    pub fn read(&self, level: Level, key: Bytes, query: Query) -> impl Future<Output = Result<Answer, OperationError>> + Send + use<> {
        self.pace.count_command();
        let coordinator = self.clone();
        async move {
            coordinator.check_standing()?;
            check_lengths(&key, query.longest())?;
            let answer = coordinator.read_at(level, key, query).await?;
            coordinator.reads.count(&answer);
            Ok(answer)
        }
    }

    /// How many replicas have all of these writes.
    pub async fn replicated(&self, writes: &[Receipt]) -> usize {
        let mut least = self.topology.replicas();
        for receipt in writes.iter().filter(|receipt| receipt.batch != 0) {
            let count = if receipt.executor == self.topology.local() {
                self.replication.replicated(receipt.batch)
            } else {
                let request = Request::Replicated { batch: receipt.batch };
                match self.exchange.ask(receipt.executor, Lane::Operations, request, self.patience).await {
                    Ok(Reply::Count(count)) => usize::try_from(count).unwrap_or(usize::MAX),
                    Ok(_) | Err(_) => 0,
                }
            };
            least = least.min(count);
        }
        least
    }

    /// Nobody is served by what a peer knew before it was forgotten.
    fn check_standing(&self) -> Result<(), OperationError> {
        match self.topology.cluster().standing(self.topology.local()) {
            Some(members::Standing::Forgotten) => Err(OperationError::Forgotten),
            _ => Ok(()),
        }
    }

    fn start(&self, level: Level, key: &Bytes, mutation: &Mutation, tried: &[PeerId]) -> Started {
        let partition = self.topology.place(key).partition;
        let cluster = self.topology.cluster();
        let local = self.topology.local();
        let holders = cluster.ring.holders(partition);
        let next = || cluster.reachable_holders(partition).find(|peer| !tried.contains(peer));
        // A holder whose first sync is under way would decide on half of what there is; another holder knows more.
        let standing = self.view.load().partition(partition).standing;
        let holds = holders.contains(&local) && !tried.contains(&local);
        if holds && (standing == Standing::Counted && self.stamps_well() || level == Level::Local || next().is_none()) {
            return self.execute_here(level, key, mutation, None);
        }
        match next() {
            Some(peer) if level != Level::Local => {
                let request = Request::Execute { level, key: key.clone(), mutation: mutation.clone() };
                Started::There(peer, Box::pin(self.exchange.ask(peer, Lane::Operations, request, self.patience)))
            }
            _ if level <= Level::Sloppy && tried.is_empty() => self.execute_here(level, key, mutation, Some(holders.to_vec())),
            _ => {
                Started::Over(OperationError::NoQuorum { reached: 0, needed: quorum::needed_for_write(level, self.topology.replicas(), 1) })
            }
        }
    }

    /// Whether others take what is stamped here: not where this peer's clock is far ahead, nor where it was and has been set right since.
    fn stamps_well(&self) -> bool {
        let wall_ms = self.clock.wall_ms();
        self.skew.ms() == 0 && Hlc::too_far_ahead(self.view.load().now(wall_ms), wall_ms).is_none()
    }

    fn execute_here(&self, level: Level, key: &Bytes, mutation: &Mutation, blind_for: Option<Vec<PeerId>>) -> Started {
        self.command(level, Command { key: key.clone(), change: Change::Mutation(mutation.clone()), blind_for })
    }

    fn command(&self, level: Level, command: Command) -> Started {
        let (reply, result) = oneshot::channel();
        match self.writer.execute(command, Ticket { level, reply }) {
            Ok(()) => Started::Here(result),
            Err(NotQueued::Full(_)) => Started::Over(OperationError::Busy),
            Err(NotQueued::Ended(_)) => Started::Over(OperationError::Stopped("its storage failed or it is stopping".to_owned())),
        }
    }
}

enum Settled {
    Done(Result<Written, OperationError>),
    Elsewhere(OperationError),
}

/// What another peer's answer means: an end, or a try elsewhere. A command that may have been heard is never tried again: a second
/// execution would be a second write event, and a later DEL that saw one of the two would leave the other.
fn settle(peer: PeerId, reply: Result<Reply, AskError>) -> Settled {
    let unknown = OperationError::NoQuorum { reached: 0, needed: 1 };
    match reply {
        Ok(Reply::Executed(Ok((answer, batch)))) => Settled::Done(Ok(Written { answer, receipt: Receipt { executor: peer, batch } })),
        Ok(Reply::Executed(Err(failed))) => match failed {
            Failed::Refused(refusal) => Settled::Done(Err(refusal.into())),
            Failed::NotHolder => Settled::Elsewhere(OperationError::NoReplica),
            Failed::NoRoom => Settled::Elsewhere(OperationError::DiskFull),
            Failed::Busy => Settled::Done(Err(OperationError::Busy)),
            Failed::NoQuorum { reached, needed } => Settled::Done(Err(OperationError::NoQuorum { reached, needed })),
            Failed::Stopped(what) => Settled::Done(Err(OperationError::Stopped(what))),
        },
        Err(AskError::NotSent(_)) => Settled::Elsewhere(unknown),
        Ok(_) | Err(AskError::Lost | AskError::TimedOut) => Settled::Done(Err(unknown)),
    }
}

/// Every limit is checked before anything is done.
fn check_lengths(key: &Bytes, longest: usize) -> Result<(), OperationError> {
    command::check_lengths(key, longest).map_err(|what| {
        OperationError::TooBig(match what {
            TooLong::Key => format!("a key is at most {MAX_KEY} bytes long"),
            TooLong::Value => format!("a value or element is at most {MAX_VALUE} bytes long"),
        })
    })
}
