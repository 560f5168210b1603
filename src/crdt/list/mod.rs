//! Lists: a row an item, whose element is the item's [`Position`](position::Position). The item is in the list while its row has a live entry that shows.
//!
//! ```text
//! RPUSH k a b     rows  (8, x1, 0): x1 "a"    (8, x1, 1): x2 "b"
//! LSET k 1 c            (8, x1, 0): x1 "a"    (8, x1, 1): x3 "c"
//! LPOP k                                      (8, x1, 1): x3 "c"
//! ```
//!
//! Every removal is observed-remove: it takes away what its replica had seen, so across a partition both sides may pop the same item. Two LSETs that
//! did not see each other leave siblings in the item's row, of which the latest shows; an LSET wins over a concurrent pop of its item.
//!
//! Pushing and popping read the end that they are about, and no more of the list.

mod moving;
mod read;
mod write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::kind::{DataType, Kind};
use super::length::longest_of;
use super::outcome::{Answer, Outcome};
use super::position::Growth;
pub use super::position::{self, ItemName};
use super::refusal::Refusal;
use super::rows::Rows;
use super::selection::Selection;
use super::shown::Shown;
pub(super) use read::values;
pub(super) use write::write_all;

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Side {
    /// The front, index 0.
    Left,
    /// The back, index -1.
    Right,
}

impl Side {
    /// Where pushes to this end go on.
    fn growth(self) -> Growth {
        match self {
            Self::Left => Growth::Down,
            Self::Right => Growth::Up,
        }
    }
}

/// A change of a list. Indexes count from 0 at the front, negative ones from -1 at the back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Puts items at an end, one after the other. Answers with the new length.
    Push {
        /// At which end.
        side: Side,
        /// The items.
        items: Vec<Bytes>,
        /// LPUSHX, RPUSHX: only where there is a list. Answers 0 where there is none.
        only_existing: bool,
    },
    /// Takes items from an end. Answers with them, [`Answer::Nil`] where there is no list.
    Pop {
        /// From which end.
        side: Side,
        /// How many at most.
        count: u64,
    },
    /// Puts a value in place of an item.
    Set {
        /// Which.
        index: i64,
        /// The new value.
        value: Bytes,
    },
    /// Puts an item beside the first one that equals the pivot. Answers with the new length, -1 where there is no such item, 0 where there is no list.
    Insert {
        /// The item to look for.
        pivot: Bytes,
        /// The new one.
        item: Bytes,
        /// Before the pivot, else behind it.
        before: bool,
    },
    /// Removes items that equal one. Answers how many.
    Remove {
        /// The first so many; where negative the last so many; where 0 all.
        count: i64,
        /// The item.
        item: Bytes,
    },
    /// Removes all items but those between two indexes, both included.
    Trim {
        /// The first that stays.
        start: i64,
        /// The last that stays.
        stop: i64,
    },
    /// Changes nothing: answers with the item at an end, [`Answer::Named`], or [`Answer::Nil`]. No query, since only the replica that would take the item
    /// away knows what it would take.
    Peek(Side),
    /// Puts one item at an end. Answers with it, [`Answer::Named`].
    Place {
        /// At which end.
        side: Side,
        /// The item.
        item: Bytes,
    },
    /// Removes an item if it stands here as it was named. Answers 1 where it did, else 0.
    Take(ItemName),
    /// Takes the item at one end and puts it at another, as one write. Answers with it: [`Answer::Bytes`], or [`Answer::Nil`] where there is no list.
    Rotate {
        /// From which end.
        from: Side,
        /// To which.
        to: Side,
    },
}

/// A question about a list. Indexes count from 0 at the front, negative ones from -1 at the back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// How many items there are.
    Length,
    /// The items between two indexes, both included: [`Answer::Items`].
    Range {
        /// The first.
        start: i64,
        /// The last.
        stop: i64,
    },
    /// One item. [`Answer::Bytes`] or [`Answer::Nil`].
    Index(i64),
    /// Where the items stand that equal one: [`Answer::Indexes`].
    Find {
        /// The item.
        item: Bytes,
        /// Which of them is the first to be told, from 1; negative: from the back, and in that order. Not 0.
        rank: i64,
        /// How many to tell at most; 0 for all.
        count: u64,
        /// How many items to compare at most; 0 for all.
        most: u64,
    },
}

impl Mutation {
    /// The length of the longest item that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Push { items, .. } => longest_of(items),
            Self::Set { value: item, .. } | Self::Remove { item, .. } | Self::Place { item, .. } => item.len(),
            Self::Take(name) => name.position.len(),
            Self::Insert { pivot, item, .. } => longest_of([pivot, item]),
            Self::Pop { .. } | Self::Trim { .. } | Self::Peek(_) | Self::Rotate { .. } => 0,
        }
    }
}

impl Query {
    /// The length of the longest item that it names, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Find { item, .. } => item.len(),
            Self::Length | Self::Range { .. } | Self::Index(_) => 0,
        }
    }
}

/// Which rows of a key a query needs.
pub(super) fn selection(_query: &Query) -> Selection {
    Selection::All
}

/// Answers a query of a key that shows no other type.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    Ok(match query {
        Query::Length => Answer::count(read::length(rows, &shown.expiry, key)?),
        Query::Range { start, stop } => Answer::Items(read::between(rows, key, &shown.expiry, *start, *stop)?),
        Query::Index(index) => {
            read::between(rows, key, &shown.expiry, *index, *index)?.into_iter().next().map_or(Answer::Nil, Answer::Bytes)
        }
        Query::Find { item, rank, count, most } => {
            Answer::Indexes(read::find(&read::values(rows, key, &shown.expiry)?, item, *rank, *count, *most))
        }
    })
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    shown.expect(DataType::List)?;
    match mutation {
        Mutation::Push { side, items, only_existing } => write::push(rows, shown, draft, *side, items, *only_existing),
        Mutation::Pop { side, count } => write::pop(rows, shown, draft, *side, *count),
        Mutation::Set { index, value } => write::set(rows, shown, draft, *index, value),
        Mutation::Insert { pivot, item, before } => write::insert(rows, shown, draft, pivot, item, *before),
        Mutation::Remove { count, item } => write::remove(rows, shown, draft, *count, item),
        Mutation::Trim { start, stop } => write::trim(rows, shown, draft, *start, *stop),
        Mutation::Peek(side) => moving::peek(rows, shown, &draft, *side),
        Mutation::Place { side, item } => moving::place(rows, shown, draft, *side, item),
        Mutation::Take(name) => moving::take(rows, shown, draft, name),
        Mutation::Rotate { from, to } => moving::rotate(rows, shown, draft, *from, *to),
    }
}

/// Executes a mutation having observed nothing: items can be pushed. They stand beyond everything that was pushed otherwise.
pub(super) fn execute_blind(draft: &mut Draft<'_, '_>, mutation: &Mutation) -> Result<Answer, Refusal> {
    match mutation {
        Mutation::Push { side, items, only_existing: false } => write::push_unseen(draft, *side, items),
        Mutation::Place { side, item } => moving::place_unseen(draft, *side, item),
        _ => Err(Refusal::NeedsReplica),
    }
}

/// The kind of a list's rows.
const ITEM: Kind = Kind::Item;

#[cfg(test)]
mod tests;
