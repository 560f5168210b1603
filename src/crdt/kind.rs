//! What rows are for, and which of the types that clients know they make up.

use serde::{Deserialize, Serialize};

/// What a row is for. The order is the order of rows under one key, in storage and on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// The decisions on when the key expires. One row a key.
    Expiry = 0,
    /// The value of a string or counter. One row a key.
    Value = 1,
    /// A member of a set: the element is the member.
    Member = 2,
    /// A field of a hash: the element is its name, the content that of a string or counter, and the decisions on when the field expires.
    Field = 3,
    /// The score of a member of a sorted set: the element is the member.
    Score = 4,
    /// An item of a list: the element is its position.
    Item = 5,
    /// A register of a HyperLogLog.
    Register = 6,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 7] = [Self::Expiry, Self::Value, Self::Member, Self::Field, Self::Score, Self::Item, Self::Register];

    /// The kind of a number, as it is stored and sent.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether a key has several rows of this kind, told apart by their elements.
    #[must_use]
    pub fn has_elements(self) -> bool {
        self > Self::Value
    }

    /// Whether rows of this kind may hold counters.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, Self::Value | Self::Field | Self::Score)
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Value => "value",
            Self::Member => "member",
            Self::Field => "field",
            Self::Score => "score",
            Self::Item => "item",
            Self::Register => "register",
        }
    }
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
