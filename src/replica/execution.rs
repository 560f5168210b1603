//! Commands and deltas, many in one batch: each becomes a delta, is joined, and all of them are committed once.

use std::sync::Arc;

use bytes::Bytes;

use super::aside::{self, MOST_NAMED};
use super::transaction::{Prepared, ReplicaError, Transaction};
use super::{Replica, hints};
use crate::config::EXPIRY_GRACE;
use crate::crdt::command::{Answer, Mutation, Refusal};
use crate::crdt::delta::{Delta, Payload, RowAddress, Rows};
use crate::crdt::dot::{Clock, Dot};
use crate::crdt::execute::{self, Author, ExecuteError};
use crate::crdt::removal::{self, Passed};
use crate::crdt::shown::Shown;
use crate::crdt::{counter, expiry};
use crate::env::message::{Refused, Sent};
use crate::panics::{Panicked, caught};
use crate::types::{Partition, PeerId, Place, Timestamp};

use super::minter::Minter;
use super::partition::{PartitionState, Role};
use super::pulling::Pulls;

/// What to do with a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// What a client asks for.
    Mutation(Mutation),
    /// Remove what this decision hides, on which a quorum has agreed. Answers how many entries went: there may be more.
    RemoveExpired(Passed),
    /// Take away floors of this peer's own counter runs.
    ClearFloors {
        /// The row, one of the key.
        address: RowAddress,
        /// Every replica's durable clock.
        durable: Arc<[Clock]>,
    },
}

/// A command to execute here.
#[derive(Clone, Debug)]
pub struct Command {
    /// The key.
    pub key: Bytes,
    /// What to do with it.
    pub change: Change,
    /// Where this peer holds no replica of the key: the holders that the write becomes hints for. A command for which
    /// this is `None` is only executed by a holder.
    pub blind_for: Option<Vec<PeerId>>,
}

/// What executing a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The key's partition.
    pub partition: Partition,
    /// What the other replicas are to join; empty where nothing changed.
    pub delta: Delta,
    /// The answer for the client.
    pub answer: Answer,
}

/// Why a command was not executed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotExecuted {
    /// Refused for what the key holds.
    Refused(Refusal),
    /// This peer does not hold the key.
    NotHolder,
    /// The disk of this peer is full.
    NoRoom,
    /// A row of the key is damaged, and its partition is synced anew; or it can't be joined.
    Damaged(String),
}

/// One piece of a batch.
#[derive(Clone, Debug)]
pub enum Work {
    /// A client's command.
    Execute(Command),
    /// A delta of another peer.
    Receive(Sent),
}

/// What a piece of a batch gave.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of a command.
    Executed(Result<Executed, NotExecuted>),
    /// Of a delta: why it must not be counted, if so.
    Received(Option<Refused>),
}

impl Replica {
    /// Executes and joins a batch, and commits it once. Where the batch cannot be applied as a whole since a record is
    /// damaged or can't be joined, its pieces are tried one by one, so that one such row does not refuse the others.
    ///
    /// # Errors
    /// Where the storage failed: what was committed is unknown until a restart.
    pub fn apply(&mut self, batch: &[Work]) -> Result<Vec<Outcome>, ReplicaError> {
        match self.apply_once(batch) {
            Err(error @ (ReplicaError::Damaged(_) | ReplicaError::Unjoinable(_))) if batch.len() > 1 => {
                tracing::error!(%error, "a batch met a row that fails and is applied piece by piece");
                let mut outcomes = Vec::with_capacity(batch.len());
                for piece in batch {
                    outcomes.extend(self.apply(std::slice::from_ref(piece))?);
                }
                Ok(outcomes)
            }
            Err(ReplicaError::Damaged(damaged)) => {
                for piece in batch {
                    self.suspect(match piece {
                        Work::Execute(command) => Place::of(&command.key, self.partition_count()).partition,
                        Work::Receive(sent) => sent.partition,
                    });
                }
                Ok(batch.iter().map(|piece| Outcome::failed(piece, &damaged.clone().into())).collect())
            }
            Err(ReplicaError::Unjoinable(panicked)) => {
                batch.iter().for_each(|piece| self.set_aside(piece, &panicked));
                Ok(batch.iter().map(|piece| Outcome::failed(piece, &panicked.clone().into())).collect())
            }
            applied => applied,
        }
    }

    fn apply_once(&mut self, batch: &[Work]) -> Result<Vec<Outcome>, ReplicaError> {
        let has_room = self.has_room();
        // What a panic leaves behind are dots and timestamps that nobody uses; all else is in the transaction, which goes with it.
        let attempt = caught(|| self.attempt(batch, has_room)).map_err(ReplicaError::from)??;
        self.next_hint = attempt.next_hint;
        self.hints += attempt.added_hints;
        self.commit(attempt.prepared)?;
        Ok(attempt.outcomes)
    }

    /// Sets aside what a piece of a batch was about: it can't be joined.
    fn set_aside(&mut self, piece: &Work, why: &Panicked) {
        match piece {
            Work::Execute(command) => self.note_unjoined(&command.key, None, Vec::new(), why),
            Work::Receive(sent) => {
                for ((key, address), dots) in aside::named(&sent.delta).into_iter().take(MOST_NAMED) {
                    self.note_unjoined(&key, address, dots, why);
                }
            }
        }
    }

    /// Executes and joins a batch in a transaction, which is not committed.
    fn attempt(&mut self, batch: &[Work], has_room: bool) -> Result<Attempt, ReplicaError> {
        let wall_ms = self.clock.wall_ms();
        let (mut next_hint, mut added_hints) = (self.next_hint, 0);
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        let mut outcomes = Vec::with_capacity(batch.len());
        for piece in batch {
            outcomes.push(match piece {
                Work::Execute(command) => {
                    let place = transaction.place(&command.key);
                    let state = &self.partitions[usize::from(place.partition.0)];
                    Outcome::Executed(match (&state.role, &command.blind_for) {
                        (Role::Holder, _) => execute_here(&mut transaction, &mut self.minter, state, command, (wall_ms, has_room))?,
                        (_, Some(_)) if !has_room => Err(NotExecuted::NoRoom),
                        (_, Some(holders)) => {
                            let executed = execute_blind(&mut self.minter, place, &command.key, &command.change, wall_ms)?;
                            if let Ok(executed) = &executed {
                                for holder in holders {
                                    hints::keep(&mut transaction, &mut next_hint, *holder, executed.partition, &executed.delta);
                                    added_hints += 1;
                                }
                            }
                            executed
                        }
                        (_, None) => Err(NotExecuted::NotHolder),
                    })
                }
                Work::Receive(sent) if !has_room && (sent.hint_for.is_some() || grows(&sent.delta)) => {
                    Outcome::Received(Some(Refused::Failed))
                }
                Work::Receive(sent) => {
                    let refused = if let Some(home) = sent.hint_for {
                        hints::keep(&mut transaction, &mut next_hint, home, sent.partition, &sent.delta);
                        added_hints += 1;
                        None
                    } else {
                        receive(
                            &mut transaction,
                            &self.minter,
                            &self.pulls,
                            self.partitions.get(usize::from(sent.partition.0)),
                            sent,
                            wall_ms,
                        )?
                    };
                    Outcome::Received(refused)
                }
            });
        }
        Ok(Attempt { prepared: transaction.finish()?, outcomes, next_hint, added_hints })
    }
}

/// A batch that is ready to be committed.
struct Attempt {
    prepared: Prepared,
    outcomes: Vec<Outcome>,
    next_hint: u64,
    added_hints: u64,
}

impl Outcome {
    /// Of a piece that a row made fail.
    fn failed(piece: &Work, why: &ReplicaError) -> Self {
        match piece {
            Work::Execute(_) => Self::Executed(Err(NotExecuted::Damaged(why.to_string()))),
            Work::Receive(_) => Self::Received(Some(Refused::Failed)),
        }
    }
}

/// Whether a delta adds anything but the traces of what it takes away.
fn grows(delta: &Delta) -> bool {
    delta.adds.iter().any(|(_, _, entry)| !matches!(entry.payload, Payload::Floor { .. }))
}

/// Executes a command on the rows of this replica; where the disk has no room, only one that takes away.
fn execute_here(
    transaction: &mut Transaction<'_>,
    minter: &mut Minter,
    state: &PartitionState,
    command: &Command,
    (wall_ms, has_room): (u64, bool),
) -> Result<Result<Executed, NotExecuted>, ReplicaError> {
    let now = minter.timestamp(wall_ms)?;
    minter.reserve()?;
    let partition = transaction.place(&command.key).partition;
    let actor = minter.actor();
    let mut mint = || minter.mint(partition);
    let mut author = Author { actor, now, mint: &mut mint, runs_since: state.runs_since };
    let causal = transaction.causal(partition);
    let key = &command.key;
    let watched = matches!(command.change, Change::Mutation(Mutation::Watched(_)));
    let was = watched && is_there(transaction, key, now)?;
    let executed = match &command.change {
        Change::Mutation(mutation) => execute::execute(transaction, causal, &mut author, key, mutation),
        Change::RemoveExpired(passed) => removal::removal(transaction, causal, &mut author, passed, EXPIRY_GRACE)
            .map(|delta| upkeep(delta.unwrap_or_default()))
            .map_err(ExecuteError::Rows),
        Change::ClearFloors { address, durable } => {
            let cleared = transaction.row(address).map(|row| counter::clear_floors(address, &row, actor, state.runs_since, durable));
            cleared.map(upkeep).map_err(ExecuteError::Rows)
        }
    };
    let mut executed = match executed {
        Ok(executed) => executed,
        Err(ExecuteError::Refused(refusal)) => return Ok(Err(NotExecuted::Refused(refusal))),
        Err(ExecuteError::Rows(error)) => return Err(error),
    };
    if !has_room && grows(&executed.delta) {
        return Ok(Err(NotExecuted::NoRoom));
    }
    if !executed.delta.is_empty() {
        // The dots are new, so no running pull can have seen them.
        transaction.join(partition, &executed.delta, |_, _| false)?;
    }
    if watched {
        let (changed, is) = (!executed.delta.is_empty(), is_there(transaction, key, now)?);
        executed.answer = Answer::Watched { answer: Box::new(executed.answer), changed, was, is };
    }
    Ok(Ok(Executed { partition, delta: executed.delta, answer: executed.answer }))
}

/// Whether a key shows.
fn is_there(transaction: &Transaction<'_>, key: &Bytes, now: Timestamp) -> Result<bool, ReplicaError> {
    Ok(Shown::read(transaction, key, now)?.data_type.is_some())
}

/// What is not done for a client answers with how many entries it takes away.
fn upkeep(delta: Delta) -> execute::Executed {
    let answer = Answer::Integer(i64::try_from(delta.removes.len()).unwrap_or(i64::MAX));
    execute::Executed { delta, answer }
}

/// Executes a command for holders that cannot be reached: having observed nothing, it may only add.
fn execute_blind(
    minter: &mut Minter,
    place: Place,
    key: &Bytes,
    change: &Change,
    wall_ms: u64,
) -> Result<Result<Executed, NotExecuted>, ReplicaError> {
    let Change::Mutation(mutation) = change else { return Ok(Err(NotExecuted::NotHolder)) };
    let now = minter.timestamp(wall_ms)?;
    minter.reserve()?;
    let partition = place.partition;
    let actor = minter.actor();
    let mut mint = || minter.mint(partition);
    let mut author = Author { actor, now, mint: &mut mint, runs_since: u64::MAX };
    Ok(match execute::execute_blind(&mut author, key, mutation) {
        Ok(executed) => Ok(Executed { partition, delta: executed.delta, answer: executed.answer }),
        Err(refusal) => Err(NotExecuted::Refused(refusal)),
    })
}

/// Joins another peer's delta, unless it must be refused.
fn receive(
    transaction: &mut Transaction<'_>,
    minter: &Minter,
    pulls: &Pulls,
    state: Option<&PartitionState>,
    sent: &Sent,
    wall_ms: u64,
) -> Result<Option<Refused>, ReplicaError> {
    let delta = &sent.delta;
    if !addresses(delta).all(|key| transaction.place(key).partition == sent.partition) {
        return Ok(Some(Refused::Misplaced));
    }
    if state.is_none_or(|state| state.role != Role::Holder) {
        return Ok(Some(Refused::NotHolder));
    }
    let newest = delta.adds.iter().map(|(_, _, entry)| entry.timestamp).max().unwrap_or_default();
    if minter.observe(newest, wall_ms).is_err() {
        return Ok(Some(Refused::TooFarAhead));
    }
    let slips = |address: &RowAddress, dot: Dot| pulls.slips(sent.partition, address, dot);
    transaction.join(sent.partition, delta, slips)?;
    Ok(is_late(delta, minter.physical(wall_ms)).then_some(Refused::Late))
}

/// Every key that a delta names.
fn addresses(delta: &Delta) -> impl Iterator<Item = &Bytes> {
    use crate::crdt::delta::Scope;
    let replaced = delta.replaces.iter().map(|replacement| match &replacement.scope {
        Scope::Row(address) => &address.key,
        Scope::Key(key) => key,
    });
    let removed = delta.removes.iter().map(|(address, _)| &address.key);
    let added = delta.adds.iter().map(|(address, _, _)| &address.key);
    replaced.chain(removed).chain(added)
}

/// Whether a delta brings an expiry decision so late that others may have agreed on a removal it should have prevented.
fn is_late(delta: &Delta, now: Timestamp) -> bool {
    let decisions = delta.adds.iter().filter(|(_, _, entry)| matches!(entry.payload, Payload::Decision(_)));
    decisions.into_iter().any(|(_, _, entry)| expiry::is_late(entry.timestamp, now, EXPIRY_GRACE))
}
