//! Moves an item from one list to another, whichever peers hold the two.
//!
//! No commit spans two keys, so the order of the steps decides what a crash between them costs: the item is named at the source, placed at the destination at
//! the client's level, and only then taken from the source. Whoever stops in the middle leaves it at the source or at both, never in neither. Where somebody
//! else took it from the source meanwhile, what was placed is taken back, and the move begins anew.
//!
//! Moves from one source at one peer run one after the other, and so do pops that wait for their turn: clients of one peer never take each other's item from
//! under them. Peers that move the same item at the same time may both have moved it, as both may have popped it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};

use super::Coordinator;
use super::operation::{OperationError, Receipt, Written};
use crate::crdt::command::{Answer, Mutation};
use crate::crdt::list::{self, ItemName, Side};
use crate::types::{Level, Place};

/// Items of which somebody else was quicker before a move gives up.
const MOST_TRIES: usize = 16;
/// Turns of one peer. Sources that share one wait for each other in vain.
const TURNS: usize = 64;

/// From where an item is to be moved to where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The list that it is taken from.
    pub source: Bytes,
    /// From which end.
    pub from: Side,
    /// The list that it is put into.
    pub destination: Bytes,
    /// At which end.
    pub to: Side,
    /// Whether to find out what becomes of the two lists.
    pub watched: bool,
}

/// What a move came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The item; `None` where the source has none.
    pub item: Option<Bytes>,
    /// Its writes.
    pub receipts: Vec<Receipt>,
    /// Whether the destination was not there before; only of a watched move.
    pub created: bool,
    /// Whether the source is empty now; only of a watched move.
    pub emptied: bool,
}

/// What a step of a move answered, and what is known of the list then.
struct Step {
    answer: Answer,
    created: bool,
    emptied: bool,
}

/// Why nothing was moved, or not for sure.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotMoved {
    /// The source could not be asked or changed. After [`OperationError::NoQuorum`] and [`OperationError::Stopped`] the item may stand in both lists.
    #[error(transparent)]
    Source(OperationError),
    /// The item could not be put into the destination: it stands in the source.
    #[error(transparent)]
    Destination(OperationError),
}

/// Who may take items of which list. Clones share them.
#[derive(Clone)]
pub struct Turns(Arc<[Mutex<()>; TURNS]>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new([const { Mutex::const_new(()) }; TURNS]))
    }
}

impl Turns {
    /// Waits for the turn of a list; the first to come is the first to have it.
    async fn of(&self, place: Place) -> MutexGuard<'_, ()> {
        self.0[place.position as usize % TURNS].lock().await
    }
}

impl Coordinator {
    /// Moves an item.
    ///
    /// # Errors
    /// See [`NotMoved`]. [`OperationError::Busy`] of the source also where somebody else was quicker time and again.
    pub async fn move_item(&self, level: Level, moving: &Move) -> Result<Moved, NotMoved> {
        let Move { source, from, destination, to, watched } = moving;
        let _turn = self.turns.of(self.topology.place(source)).await;
        let mut receipts = Vec::new();
        let moved = |item, receipts| Moved { item, receipts, created: false, emptied: false };
        if source == destination {
            let rotate = list::Mutation::Rotate { from: *from, to: *to };
            let item = match self.noted(level, source, rotate, false, &mut receipts).await.map_err(NotMoved::Source)?.answer {
                Answer::Bytes(item) => Some(item),
                _ => None,
            };
            return Ok(moved(item, receipts));
        }
        for _ in 0..MOST_TRIES {
            let peek = list::Mutation::Peek(*from);
            let peeked = self.noted(level, source, peek, false, &mut receipts).await.map_err(NotMoved::Source)?.answer;
            let Answer::Named { item, name } = peeked else { return Ok(moved(None, receipts)) };
            let place = list::Mutation::Place { side: *to, item: item.clone() };
            let placed = self.noted(level, destination, place, *watched, &mut receipts).await.map_err(NotMoved::Destination)?;
            let failure = match self.noted(level, source, list::Mutation::Take(name), *watched, &mut receipts).await {
                Ok(Step { answer: Answer::Integer(1), emptied, .. }) => {
                    return Ok(Moved { item: Some(item), receipts, created: placed.created, emptied });
                }
                Ok(_) => None,
                Err(error) if is_without_effect(&error) => Some(error),
                Err(error) => return Err(NotMoved::Source(error)),
            };
            let Answer::Named { name, .. } = placed.answer else { return Ok(moved(Some(item), receipts)) };
            let is_gone = self.take_back(level, destination, name, &mut receipts).await.map_err(NotMoved::Source)?;
            match failure {
                Some(error) => return Err(NotMoved::Source(error)),
                // Whoever took it there has it by this move, whatever became of the one at the source.
                None if is_gone => return Ok(moved(Some(item), receipts)),
                None => {}
            }
        }
        Err(NotMoved::Source(OperationError::Busy))
    }

    /// Changes a list, but not while an item of it is being moved.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn write_in_turn(&self, level: Level, key: Bytes, mutation: Mutation) -> Result<Written, OperationError> {
        let _turn = self.turns.of(self.topology.place(&key)).await;
        self.write(level, key, mutation).await
    }

    /// Takes back what was placed; whether somebody else took it already.
    async fn take_back(&self, level: Level, key: &Bytes, name: ItemName, receipts: &mut Vec<Receipt>) -> Result<bool, OperationError> {
        Ok(self.noted(level, key, list::Mutation::Take(name), false, receipts).await?.answer != Answer::Integer(1))
    }

    /// Writes, and notes the receipt.
    async fn noted(
        &self,
        level: Level,
        key: &Bytes,
        mutation: list::Mutation,
        watched: bool,
        receipts: &mut Vec<Receipt>,
    ) -> Result<Step, OperationError> {
        let mutation = Mutation::List(mutation);
        let mutation = if watched { Mutation::Watched(Box::new(mutation)) } else { mutation };
        let Written { answer, receipt } = self.write(level, key.clone(), mutation).await?;
        receipts.push(receipt);
        Ok(match answer {
            Answer::Watched { answer, was, is, .. } => Step { answer: *answer, created: !was && is, emptied: was && !is },
            answer => Step { answer, created: false, emptied: false },
        })
    }
}

/// Whether a write that failed so changed nothing for sure.
fn is_without_effect(error: &OperationError) -> bool {
    !matches!(error, OperationError::NoQuorum { .. } | OperationError::Stopped(_))
}
