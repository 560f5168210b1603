//! What clients ask of one key, free of any protocol: mutations, queries, and their answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A change of one key, executed by one replica (or a fallback, which has observed nothing).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Writes a string in place of whatever the key holds.
    Set {
        /// The new value.
        value: Bytes,
        /// What becomes of the key's expiry.
        expiry: SetExpiry,
        /// When the write takes place at all.
        condition: SetCondition,
        /// Answer with the value before, [`Answer::Nil`] where there was none, instead of [`Answer::Ok`].
        get: bool,
    },
    /// Appends to the string that shows; its siblings stay. Answers with the new length.
    Append(Bytes),
    /// Adds to a counter. Answers with the new value.
    Increment(i64),
    /// Removes the key. Answers 1 where it existed, else 0.
    Delete,
    /// Removes a string and answers with it.
    GetDelete,
    /// Answers with a string and changes its expiry.
    GetExpire(SetExpiry),
    /// Adds members to a set. Answers how many were new.
    Add(Vec<Bytes>),
    /// Removes members from a set. Answers how many there were.
    Remove(Vec<Bytes>),
    /// Sets when the key expires, in milliseconds since 1970. A time already past deletes it. Answers 1 where it took effect, else 0.
    Expire {
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// When the command takes effect at all.
        condition: ExpireCondition,
    },
    /// Takes the expiry away. Answers 1 where there was one, else 0.
    Persist,
    /// Writes a string in place of exactly what the reader of the token saw.
    Resolve {
        /// The token of [`Answer::Siblings`].
        token: Bytes,
        /// The new value.
        value: Bytes,
    },
}

/// What a SET or GETEX does to the key's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SetExpiry {
    /// SET: the key no longer expires. GETEX: PERSIST.
    #[default]
    Clear,
    /// The expiry stays as it is.
    Keep,
    /// The key expires at this time, in milliseconds since 1970.
    At(i64),
}

/// When a SET takes place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SetCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only where the executing replica knows of no such key.
    Absent,
    /// XX: only where the executing replica has the key.
    Present,
}

/// When an EXPIRE takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only where the key has no expiry.
    NoExpiry,
    /// XX: only where the key has an expiry.
    HasExpiry,
    /// GT: only where the new time is later. A key without expiry never expires, so it counts as latest.
    Later,
    /// LT: only where the new time is earlier.
    Earlier,
    /// XX and LT: only where the key has an expiry and the new time is earlier.
    HasExpiryAndEarlier,
}

/// A question about one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// The string. [`Answer::Bytes`] or [`Answer::Nil`].
    Get,
    /// The length of the string, 0 where there is none.
    Length,
    /// Which type the key shows: [`Answer::Type`].
    Type,
    /// Every member of the set.
    Members,
    /// How many members the set has.
    Cardinality,
    /// For each element whether it is a member: [`Answer::Flags`].
    Contains(Vec<Bytes>),
    /// When the key expires: milliseconds since 1970, -1 without expiry, -2 where there is no key.
    ExpireTime,
    /// Every value that concurrent writes left, and a token that names them all.
    Siblings,
    /// Every row of the key with its live dots, for people: [`Answer::Explained`].
    Explain,
}

/// Which rows of a key a query needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Selection {
    /// Expiry, value, and for every other kind its first rows up to one that shows: enough to tell the type.
    Head,
    /// The head and the rows of these members.
    Elements(Vec<Bytes>),
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
}

/// One live dot of a row, told for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// What the row is for: `value`, `member`, `expiry`.
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
    /// Yes or no for each element asked for.
    Flags(Vec<bool>),
    /// The type; `None` where there is no key.
    Type(Option<DataType>),
    /// The siblings of a string, the one that shows first.
    Siblings {
        /// Names exactly what was read; for [`Mutation::Resolve`].
        token: Bytes,
        /// The values.
        values: Vec<Bytes>,
    },
    /// The rows of a key.
    Explained(Vec<Explained>),
}

/// Why a command on one key was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The string is no integer of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The sum does not fit 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A value would grow past its limit.
    #[error("TOOBIG value would exceed 16 MiB")]
    TooBig,
    /// The token was not given out by SIBLINGS.
    #[error("ERR invalid sibling token")]
    InvalidToken,
    /// The mutation needs to know what is there, and no replica could be asked.
    #[error("NOQUORUM no replica of this key can be reached, and this command needs to read one")]
    NeedsReplica,
}
