//! What clients ask of one key, free of any protocol: mutations, queries, and their answers.
//!
//! What can be asked of a type stands beside the type: [`string::Mutation`], [`set::Query`] and so on. Here is only what they have in common.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::delta::Kind;
use super::list::ItemName;
use super::sorted_set::Score;
use super::{hash, hyperloglog, key, list, set, sorted_set, string};
use crate::config::{MAX_KEY, MAX_VALUE};

/// A change of one key, executed by one replica (or a fallback, which has observed nothing).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Of a key of any type.
    Key(key::Mutation),
    /// Of a string or counter.
    String(string::Mutation),
    /// Of a set.
    Set(set::Mutation),
    /// Of a hash.
    Hash(hash::Mutation),
    /// Of a sorted set.
    SortedSet(sorted_set::Mutation),
    /// Of a list.
    List(list::Mutation),
    /// Of a HyperLogLog.
    HyperLogLog(hyperloglog::Mutation),
    /// Any other, of which somebody wants to know what came of it: answered with [`Answer::Watched`].
    Watched(Box<Mutation>),
}

/// A question about one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// About a key of any type.
    Key(key::Query),
    /// About a string or counter.
    String(string::Query),
    /// About a set.
    Set(set::Query),
    /// About a hash.
    Hash(hash::Query),
    /// About a sorted set.
    SortedSet(sorted_set::Query),
    /// About a list.
    List(list::Query),
    /// About a HyperLogLog.
    HyperLogLog(hyperloglog::Query),
}

impl Mutation {
    /// The length of the longest value or element that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Key(mutation) => mutation.longest(),
            Self::String(mutation) => mutation.longest(),
            Self::Set(mutation) => mutation.longest(),
            Self::Hash(mutation) => mutation.longest(),
            Self::SortedSet(mutation) => mutation.longest(),
            Self::List(mutation) => mutation.longest(),
            Self::HyperLogLog(mutation) => mutation.longest(),
            Self::Watched(mutation) => mutation.longest(),
        }
    }
}

impl Query {
    /// The length of the longest element that it names, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Key(_) | Self::String(_) | Self::HyperLogLog(_) => 0,
            Self::Set(query) => query.longest(),
            Self::Hash(query) => query.longest(),
            Self::SortedSet(query) => query.longest(),
            Self::List(query) => query.longest(),
        }
    }
}

macro_rules! one_of_each_type {
    ($($variant:ident: $module:ident),*) => {
        $(impl From<$module::Mutation> for Mutation {
            fn from(mutation: $module::Mutation) -> Self {
                Self::$variant(mutation)
            }
        }

        impl From<$module::Query> for Query {
            fn from(query: $module::Query) -> Self {
                Self::$variant(query)
            }
        })*
    };
}

one_of_each_type!(
    Key: key,
    String: string,
    Set: set,
    Hash: hash,
    SortedSet: sorted_set,
    List: list,
    HyperLogLog: hyperloglog
);

/// What of a command exceeds its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooLong {
    /// The key: [`MAX_KEY`].
    Key,
    /// A value or element: [`MAX_VALUE`].
    Value,
}

/// Checks the limits of a command on one key: of the key itself, and of the longest value or element.
///
/// # Errors
/// Names what is too long.
pub fn check_lengths(key: &Bytes, longest: usize) -> Result<(), TooLong> {
    match () {
        () if key.len() > MAX_KEY => Err(TooLong::Key),
        () if longest > MAX_VALUE => Err(TooLong::Value),
        () => Ok(()),
    }
}

/// The length of the longest of some elements.
pub(super) fn longest_of<'a>(elements: impl IntoIterator<Item = &'a Bytes>) -> usize {
    elements.into_iter().map(Bytes::len).max().unwrap_or(0)
}

/// Which rows of a key a query needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Selection {
    /// Expiry, value, and for every other kind its first rows up to one that shows: enough to tell the type.
    Head,
    /// The head and the rows of these elements.
    Elements {
        /// The kind of their rows.
        kind: Kind,
        /// The elements.
        elements: Vec<Bytes>,
    },
    /// Every row.
    All,
}

/// The type that a key shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DataType {
    /// A string or counter.
    String,
    /// A set.
    Set,
    /// A hash.
    Hash,
    /// A sorted set.
    SortedSet,
    /// A list.
    List,
    /// The registers of a HyperLogLog. Redis calls it a string.
    HyperLogLog,
}

impl DataType {
    /// The type that rows of a kind make up; `None` where they are no data.
    #[must_use]
    pub fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Expiry => None,
            Kind::Value => Some(Self::String),
            Kind::Member => Some(Self::Set),
            Kind::Field => Some(Self::Hash),
            Kind::Score => Some(Self::SortedSet),
            Kind::Item => Some(Self::List),
            Kind::Register => Some(Self::HyperLogLog),
        }
    }

    /// What TYPE calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String | Self::HyperLogLog => "string",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::SortedSet => "zset",
            Self::List => "list",
        }
    }
}

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
    /// Members, in the order of their bytes.
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
    /// Yes or no for each element asked for.
    Flags(Vec<bool>),
    /// The value of each field asked for; `None` where there is none.
    Values(Vec<Option<Bytes>>),
    /// Fields and their values, in the order of the fields' bytes.
    Pairs(Vec<(Bytes, Bytes)>),
    /// A score.
    Score(Score),
    /// The score of each member asked for; `None` where it is none.
    Scores(Vec<Option<Score>>),
    /// Members and their scores, in the order asked for.
    Scored(Vec<(Bytes, Score)>),
    /// The type; `None` where there is no key.
    Type(Option<DataType>),
    /// The siblings of a string, and what else the key has.
    Siblings {
        /// Names exactly what was read; for [`string::Mutation::Resolve`].
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
    /// What a [`Mutation::Watched`] answers, and what came of it.
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

impl Answer {
    /// About how many bytes it takes: where many are gathered, that has to be bounded.
    #[must_use]
    pub fn size(&self) -> usize {
        let sum = |elements: &[Bytes]| elements.iter().map(Bytes::len).sum();
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Members(elements) | Self::Items(elements) | Self::Siblings { values: elements, .. } => sum(elements),
            Self::Values(values) => values.iter().flatten().map(Bytes::len).sum(),
            Self::Pairs(pairs) => pairs.iter().map(|(field, value)| field.len() + value.len()).sum(),
            Self::Scored(members) => members.iter().map(|(member, _)| member.len()).sum(),
            Self::Content { content, token, .. } => content.as_ref().map_or(0, Content::size) + token.len(),
            _ => 0,
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

/// Why a command on one key was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The key holds a string that is no HyperLogLog.
    #[error("WRONGTYPE Key is not a valid HyperLogLog string value.")]
    NotHyperLogLog,
    /// The string is no integer of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The string or increment is no number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The field of a hash is no integer of 64 bits.
    #[error("ERR hash value is not an integer")]
    FieldNotAnInteger,
    /// The field of a hash is no number.
    #[error("ERR hash value is not a float")]
    FieldNotAFloat,
    /// The sum is infinite, or infinite ones of both signs were added.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// Infinite scores of both signs were added.
    #[error("ERR resulting score is not a number (NaN)")]
    NotAScore,
    /// The sum does not fit 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A value would grow past its limit.
    #[error("TOOBIG value would exceed 16 MiB")]
    TooBig,
    /// The key holds more counters than one write may reset.
    #[error("TOOBIG the key holds too many counters to be overwritten at once, remove some of them first")]
    TooManyCounters,
    /// There is no such key, and the command needs one.
    #[error("ERR no such key")]
    NoSuchKey,
    /// The list has no item of this index.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// A list has no room between two of its items.
    #[error("TOOBIG too many items were inserted at this place of the list")]
    NoRoom,
    /// More items would go than one write can name.
    #[error("TOOBIG too many items to be removed at once, remove some of them first")]
    TooManyItems,
    /// The token was not given out by SIBLINGS.
    #[error("ERR invalid sibling token")]
    InvalidToken,
    /// The mutation needs to know what is there, and no replica could be asked.
    #[error("NOQUORUM no replica of this key can be reached, and this command needs to read one")]
    NeedsReplica,
}
