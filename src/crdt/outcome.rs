//! What comes of a command on one key: what is answered, and the delta beside it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::delta::Delta;
use super::kind::DataType;
use super::position::ItemName;
use super::refusal::ExecuteError;
use super::score::Score;

/// One live dot of a row, told for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// What the row is for: `value`, `member`, `field`, `expiry` and so on.
    pub kind: String,
    /// The row's element; empty where its kind has one row a key.
    pub element: Bytes,
    /// The dot, as `actor:counter`.
    pub dot: String,
    /// The author of the dot.
    pub actor: u64,
    /// When it was written, in milliseconds since 1970.
    pub written_ms: u64,
    /// What was written.
    pub content: String,
    /// Whether it takes part in what the key shows.
    pub shows: bool,
    /// Why it shows or not, in a few words.
    pub reason: String,
}

/// What a mutation or query answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Ok,
    /// There is no such value, or the condition did not hold.
    Nil,
    /// A number.
    Integer(i64),
    /// A string.
    Bytes(Bytes),
    /// Members, in no particular order.
    Members(Vec<Bytes>),
    /// Items of a list, in the order of the list.
    Items(Vec<Bytes>),
    /// An item of a list, and what names exactly it.
    Named {
        /// The item.
        item: Bytes,
        /// Its name.
        name: ItemName,
    },
    /// Places in a list, counted from 0.
    Indexes(Vec<i64>),
    /// Numbers of fields, `None` for one that was not changed since it would not fit.
    Fields(Vec<Option<i64>>),
    /// A number for each element asked for.
    Numbers(Vec<i64>),
    /// Yes or no for each element asked for.
    Flags(Vec<bool>),
    /// The value of each field asked for; `None` where there is none.
    Values(Vec<Option<Bytes>>),
    /// Fields and their values, in no particular order.
    Pairs(Vec<(Bytes, Bytes)>),
    /// A score.
    Score(Score),
    /// The score of each member asked for; `None` where it is none.
    Scores(Vec<Option<Score>>),
    /// Members and their scores, in the order asked for.
    Scored(Vec<(Bytes, Score)>),
    /// Some elements of a collection.
    Scanned {
        /// Where to go on; 0 where every element was met.
        next: u64,
        /// The elements, as the answer for all of them would tell them.
        elements: Box<Answer>,
    },
    /// The type; `None` where there is no key.
    Type(Option<DataType>),
    /// The siblings of a string, and what else the key has.
    Siblings {
        /// Names exactly what was read; for [`string::Mutation::Resolve`](super::string::Mutation::Resolve).
        token: Bytes,
        /// The values of the string, the one that shows first; none where the key is no string.
        values: Vec<Bytes>,
        /// The types that concurrent writes gave the key, the one that shows first.
        types: Vec<DataType>,
    },
    /// All that a key shows.
    Content {
        /// What it shows; `None` where there is no key.
        content: Option<Content>,
        /// When the key expires, in milliseconds since 1970; `None`: never.
        expires_at_ms: Option<u64>,
        /// Names exactly what was read, where that was asked for.
        token: Bytes,
    },
    /// The rows of a key.
    Explained(Vec<Explained>),
    /// What a [`Mutation::Watched`](super::command::Mutation::Watched) answers, and what came of it.
    Watched {
        /// The answer.
        answer: Box<Answer>,
        /// Whether anything was changed.
        changed: bool,
        /// Whether the key was there before.
        was: bool,
        /// Whether it is there now.
        is: bool,
    },
}

/// About how many bytes stand around one element of an answer, in a frame and in what it is decoded to.
const AROUND: usize = 32;

impl Answer {
    /// About how many bytes the answer takes on its way, and in what bounds a frame's memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let of = |bytes: &Bytes| bytes.len() + AROUND;
        match self {
            Self::Ok | Self::Nil | Self::Integer(_) | Self::Score(_) | Self::Type(_) => AROUND,
            Self::Bytes(bytes) => of(bytes),
            Self::Members(all) | Self::Items(all) => all.iter().map(of).sum(),
            Self::Indexes(all) | Self::Numbers(all) => all.len() * AROUND,
            Self::Fields(all) => all.len() * AROUND,
            Self::Flags(all) => all.len() * AROUND,
            Self::Scores(all) => all.len() * AROUND,
            Self::Values(all) => all.iter().map(|value| value.as_ref().map_or(AROUND, of)).sum(),
            Self::Pairs(all) => all.iter().map(|(field, value)| of(field) + of(value)).sum(),
            Self::Scored(all) => all.iter().map(|(member, _)| of(member) + AROUND).sum(),
            Self::Scanned { elements, .. } => elements.weight(),
            Self::Siblings { token, values, .. } => of(token) + values.iter().map(of).sum::<usize>(),
            Self::Content { content, token, .. } => of(token) + content.as_ref().map_or(0, Content::size),
            Self::Named { item, name } => of(item) + name.dots.len() * AROUND,
            Self::Watched { answer, .. } => answer.weight() + AROUND,
            Self::Explained(all) => all.iter().map(|told| told.element.len() + told.content.len() + 16 * AROUND).sum(),
        }
    }

    /// A count. One that no `i64` holds stands at its end.
    pub(super) fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Whether this is more than zero, or nothing.
    #[must_use]
    pub fn tells_something(&self) -> bool {
        match self {
            Self::Nil | Self::Type(None) => false,
            Self::Integer(number) => *number > 0,
            Self::Members(found) | Self::Items(found) => !found.is_empty(),
            Self::Pairs(found) => !found.is_empty(),
            Self::Scored(found) => !found.is_empty(),
            Self::Values(found) => found.iter().any(Option::is_some),
            Self::Scores(found) => found.iter().any(Option::is_some),
            Self::Flags(found) => found.contains(&true),
            _ => true,
        }
    }

    /// 1 for yes, 0 for no.
    pub(super) fn flag(yes: bool) -> Self {
        Self::Integer(i64::from(yes))
    }
}

/// What a type's own `execute` gives: the delta and the answer.
pub(super) type Outcome<E> = Result<(Delta, Answer), ExecuteError<E>>;
