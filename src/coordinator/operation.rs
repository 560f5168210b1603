//! What a command on a key gives, and why it may fail.

use crate::crdt::command::{Answer, Refusal};
use crate::env::message::Failed;
use crate::types::PeerId;

/// Why a command on a key failed. The text is the error that a Redis client gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// Refused for what the key holds. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too few replicas answered in time. A write may have been stored at some, and then spreads.
    #[error("NOQUORUM {reached} of {needed} replicas answered")]
    NoQuorum {
        /// Replicas that answered.
        reached: usize,
        /// Replicas that the level asks for.
        needed: usize,
    },
    /// Level `local`, and this peer holds no replica of the key. Nothing was done.
    #[error("NOREPLICA this peer holds no replica of the key")]
    NoReplica,
    /// No replica that has finished its first sync could be asked. Nothing was done.
    #[error("SYNCING the first sync of this key's partition is not done, and no other replica can be reached")]
    Syncing,
    /// This peer was taken out of the ring while it was away, and has not joined again. Nothing was done.
    #[error(
        "ERR this peer was taken out of the ring by RINGTIDE FORGET while it was away, and serves no keys: it hands over what it alone has; \
         started again after that, it joins again"
    )]
    Forgotten,
    /// A key or value exceeds its limit. Nothing was done.
    #[error("TOOBIG {0}")]
    TooBig(String),
    /// A queue is full. Nothing was done.
    #[error("BUSY too much is waiting already, try again")]
    Busy,
    /// The disk is full. Nothing was stored.
    #[error("DISKFULL the disk of this peer is full")]
    DiskFull,
    /// A row of the key can't be read here, and no other replica could be asked. Nothing was done.
    #[error("ERR {0}; it is synced anew from the other replicas, try again")]
    Damaged(String),
    /// The peer is stopping or its storage failed. Whether a write took effect is unknown.
    #[error("ERR this peer has stopped: {0}")]
    Stopped(String),
}

/// Names a write, so that its spread can be asked for with [`crate::node::Node::replicated`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The replica that executed the write.
    pub executor: PeerId,
    /// The executor's name for the batch it was part of.
    pub batch: u64,
}

/// A write that reached its level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// What the mutation answers.
    pub answer: Answer,
    /// The write's name.
    pub receipt: Receipt,
}

impl From<OperationError> for Failed {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Refused(refusal) => Self::Refused(refusal),
            OperationError::NoQuorum { reached, needed } => Self::NoQuorum { reached, needed },
            OperationError::Busy => Self::Busy,
            OperationError::NoReplica | OperationError::Syncing | OperationError::Forgotten | OperationError::Damaged(_) => Self::NotHolder,
            OperationError::TooBig(what) | OperationError::Stopped(what) => Self::Stopped(what),
            OperationError::DiskFull => Self::NoRoom,
        }
    }
}
