//! What clients ask of one key, free of any protocol: mutations, queries, and their answers.
//!
//! What can be asked of a type stands beside the type: [`string::Mutation`], [`set::Query`] and so on. Here they become one; what the types themselves
//! need, answers and refusals among it, stands in files below theirs and is named here once more.

use serde::{Deserialize, Serialize};

pub use super::kind::DataType;
pub use super::length::{TooLong, check_lengths};
pub use super::outcome::{Answer, Explained};
pub use super::refusal::Refusal;
pub use super::selection::Selection;
use super::{hash, hyperloglog, key, list, set, sorted_set, string};

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
