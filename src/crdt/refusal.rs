//! Why a command on one key was not carried out.

use serde::{Deserialize, Serialize};

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

/// Why a command was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// For what the key holds.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rows could not be read.
    #[error("the rows could not be read: {0}")]
    Rows(E),
}
