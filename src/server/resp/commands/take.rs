//! What a command comes down to that takes something out of the first of some keys that has something, and may wait where none has.

use std::time::Duration;

use bytes::Bytes;

use crate::crdt::command::{Answer, Mutation};
use crate::crdt::delta::Kind;
use crate::crdt::list::Side;
use crate::server::resp::reply::Reply;

/// Takes something out of the first of some keys that has something.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    /// The keys, in the order in which they are looked at.
    pub(crate) keys: Vec<Bytes>,
    /// What is done with a key.
    pub(crate) work: Taking,
    /// What to do where none has anything.
    pub(crate) patience: Patience,
    /// The reply of a key, and what was taken out of it.
    pub(crate) shape: fn(Bytes, Answer) -> Reply,
    /// The reply where there is nothing, and no time to wait. Where it was waited for in vain, it is no array.
    pub(crate) nothing: Reply,
}

/// What is done with a key that has something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Taking {
    /// Elements are removed.
    Pop(Mutation),
    /// An item is moved to another list.
    Move {
        /// From which end.
        from: Side,
        /// Into which list.
        destination: Bytes,
        /// At which end.
        to: Side,
    },
}

/// What to do where no key has anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Reply at once.
    None,
    /// Wait for so long.
    Brief(Duration),
    /// Wait for ever.
    Endless,
}

impl Take {
    /// The kind of the rows that something is taken from.
    pub(crate) fn kind(&self) -> Kind {
        match self.work {
            Taking::Pop(Mutation::SortedSet(_)) => Kind::Score,
            Taking::Pop(_) | Taking::Move { .. } => Kind::Item,
        }
    }

    /// The same, but without waiting.
    pub(crate) fn at_once(self) -> Self {
        Self { patience: Patience::None, ..self }
    }

    /// Every key that is named.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Bytes> {
        let destination = match &self.work {
            Taking::Move { destination, .. } => Some(destination),
            Taking::Pop(_) => None,
        };
        self.keys.iter().chain(destination)
    }
}
