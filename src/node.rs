//! A running peer: owns every task, dispatches what peers ask, and is the embedded API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::NodeConfig;
use crate::crdt::command::{Answer, Mutation, Query, Refusal};
use crate::env::{Clock, Network, NetworkEvent, Storage, StorageError};
use crate::types::{Digest, Level, Partition, PeerId};

/// A running peer. Clones are handles to the same peer.
#[derive(Clone)]
pub struct Node {}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The storage could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store was made with other settings.
    #[error("{0}")]
    Mismatch(String),
}

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
    /// A key or value exceeds its limit. Nothing was done.
    #[error("TOOBIG {0}")]
    TooBig(String),
    /// A queue is full. Nothing was done.
    #[error("BUSY too much is waiting already, try again")]
    Busy,
    /// The disk is full. Nothing was stored.
    #[error("DISKFULL the disk of this peer is full")]
    DiskFull,
    /// The peer is stopping or its storage failed. Whether a write took effect is unknown.
    #[error("ERR this peer has stopped: {0}")]
    Stopped(String),
}

/// Names a write, so that its spread can be asked for with [`Node::replicated`].
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

/// What a peer tells about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This peer.
    pub peer: PeerId,
    /// Its cluster.
    pub cluster: String,
    /// Members of the ring, this peer included.
    pub members: usize,
    /// Members that are up.
    pub up: usize,
    /// Partitions of the key space.
    pub partitions: u16,
    /// Configured copies of each partition.
    pub replicas: usize,
    /// Keys on this peer.
    pub keys: u64,
    /// Hints that wait here for other peers.
    pub hints: u64,
    /// Partitions whose first sync is not done here.
    pub syncing: usize,
    /// Whether only peers of this machine are taken.
    pub protected: bool,
}

/// Whether a member can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It answers.
    Up,
    /// It has not answered for a while.
    Suspect,
    /// It has not answered for long.
    Down,
    /// It has left the ring.
    Left,
}

/// What a peer knows of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerId,
    /// Whether it can be reached.
    pub state: PeerState,
    /// Its zone.
    pub zone: Option<String>,
    /// Its share of the ring.
    pub capacity: u32,
    /// Where it is reached.
    pub address: Option<String>,
    /// How many partition copies it holds.
    pub partitions: usize,
    /// Milliseconds since it was last heard; 0 for this peer itself, `None` where it never was.
    pub last_seen_ms: Option<u64>,
}

/// What one round of anti-entropy moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SyncReport {
    /// Pairs of partition and co-replica that were compared.
    pub partitions: u64,
    /// Rows sent to others.
    pub rows_sent: u64,
    /// Rows received and different from ours.
    pub rows_received: u64,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Bytes of frames received.
    pub bytes_received: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Node {
    /// Starts a peer on its backends. Returns once it can serve clients.
    ///
    /// # Errors
    /// Where the storage cannot be used.
    pub async fn start(
        _config: NodeConfig,
        _network: Arc<dyn Network>,
        _events: mpsc::Receiver<NetworkEvent>,
        _storage: Arc<dyn Storage>,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// Changes a key. The command is queued before this returns, so commands of one caller on one key keep their order.
    ///
    /// # Errors
    /// See [`OperationError`]; after `NoQuorum` and `Stopped` the outcome is unknown.
    pub fn write(
        &self,
        _level: Level,
        _key: Bytes,
        _mutation: Mutation,
    ) -> impl Future<Output = Result<Written, OperationError>> + Send + use<> {
        async { unimplemented!() }
    }

    /// Asks something about a key.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub fn read(&self, _level: Level, _key: Bytes, _query: Query) -> impl Future<Output = Result<Answer, OperationError>> + Send + use<> {
        async { unimplemented!() }
    }

    /// How many replicas have all of these writes.
    pub async fn replicated(&self, _writes: &[Receipt]) -> usize {
        unimplemented!()
    }

    /// The wall clock of this peer, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        unimplemented!()
    }

    /// What this peer tells about itself.
    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Every member that this peer knows, itself included.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        unimplemented!()
    }

    /// The holders of every partition, in order of preference.
    #[must_use]
    pub fn ring(&self) -> Vec<Vec<PeerId>> {
        unimplemented!()
    }

    /// The holders of a key, in order of preference.
    #[must_use]
    pub fn owners(&self, _key: &[u8]) -> Vec<PeerId> {
        unimplemented!()
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition(&self, _key: &[u8]) -> Partition {
        unimplemented!()
    }

    /// The member that an author of dots belongs to, where it is known.
    #[must_use]
    pub fn author(&self, _actor: u64) -> Option<PeerId> {
        unimplemented!()
    }

    /// Whether all owners that are up report the same digest, for the key's partition or for every partition of this peer.
    pub async fn converged(&self, _key: Option<&[u8]>) -> bool {
        unimplemented!()
    }

    /// The digest of the live rows of every partition that this peer holds.
    pub async fn digests(&self) -> Vec<(Partition, Digest)> {
        unimplemented!()
    }

    /// Keys in the whole cluster, each partition counted at one of its holders that are up.
    pub async fn key_count(&self) -> u64 {
        unimplemented!()
    }

    /// Runs anti-entropy with every reachable co-replica now.
    pub async fn sync(&self) -> SyncReport {
        unimplemented!()
    }

    /// Resolves when the peer has stopped by itself, with the reason: its storage failed.
    pub async fn failed(&self) -> String {
        unimplemented!()
    }

    /// Stops the peer: takes no more commands, finishes those under way, hands hints over where it can, makes all durable.
    pub async fn stop(&self) {
        unimplemented!()
    }
}
