//! What a peer tells about itself and the others.

use std::time::Duration;

use super::Node;
use crate::members::Standing;
pub use crate::replica::aside::SetAside;
use crate::replica::damage::Damage;
use crate::types::PeerId;

/// What a peer tells about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This peer.
    pub peer: PeerId,
    /// Its cluster.
    pub cluster: String,
    /// Whether it takes part in the ring.
    pub standing: Standing,
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
    /// Partitions that this peer no longer holds, and keeps until their new holders have them durably.
    pub handing_over: usize,
    /// Whether only peers of this machine are taken.
    pub protected: bool,
    /// Damage that was found in its storage.
    pub damage: Damage,
    /// Whether its disk has room for more than deletes.
    pub has_room: bool,
    /// By how many milliseconds its clock is ahead of those of most members; below 0: behind. 0 where it is off by no more than clocks may differ.
    pub clock_ahead_ms: i64,
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
    /// The rows of a key that are set aside at this peer: they could not be read, or not be joined.
    ///
    /// # Errors
    /// Where the storage could not be read; in words.
    pub fn set_aside(&self, key: &[u8]) -> Result<Vec<SetAside>, String> {
        self.inner.coordinator.view.load().set_aside(key).map_err(|error| format!("ERR {error}"))
    }
}
