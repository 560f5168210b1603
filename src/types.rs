//! The vocabulary that every layer shares: who, where, when, and which part of the key space.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The identity of a peer: its ed25519 public key.
///
/// Shown as the peer id that libp2p uses (`12D3KooW…`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub [u8; 32]);

/// What libp2p puts before an ed25519 key: identity multihash, length 36, protobuf key type and length.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "PeerId(…{})", &text[text.len().saturating_sub(6)..])
    }
}

/// A text that is not the id of an ed25519 peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a peer id (expected the form 12D3KooW…)")]
pub struct InvalidPeerId(pub String);

impl FromStr for PeerId {
    type Err = InvalidPeerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPeerId(text.chars().take(64).collect());
        let mut bytes = [0; 38];
        let length = bs58::decode(text).onto(&mut bytes[..]).map_err(|_| invalid())?;
        match bytes.strip_prefix(&PEER_ID_PREFIX) {
            Some(key) if length == 38 => key.try_into().map(PeerId).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }
}

/// One incarnation of one peer: the author of dots. Drawn at random, never used again once retired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor(pub u64);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({self})")
    }
}

/// One run of the program under a peer's identity. Of two at the same time the greater one is the younger, and one too many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// When it was started, in milliseconds since 1970 by its own clock.
    pub started_ms: u64,
    /// Drawn at random at its start.
    pub number: u64,
}

/// One of the Q equal parts of the key hash space, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The time of a hybrid logical clock: 48 bits of milliseconds since 1970, then 16 bits that count within one millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The first timestamp of a millisecond. Times past the 48-bit range (the year 10889) stand at its end.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min((1 << 48) - 1) << 16)
    }

    /// The millisecond this timestamp lies in.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }
}

/// The sum of the hashes of a set of rows: equal sets have equal digests, whatever the order they came in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of the union of two disjoint sets.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The digest of this set without a subset of it.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Where a key lies: its partition, and its position within that partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The partition that holds the key.
    pub partition: Partition,
    /// The key's hash, scaled so that the partition spans all of `u64`. Its upper bits name the leaf of the Merkle tree.
    pub position: u64,
}

/// Leaves of one partition's Merkle tree.
pub const LEAVES: usize = 1024;

/// The hash of a key (BLAKE3, its first 64 bits). All keys lie in its order: by partition, then by position.
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(key).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

impl Place {
    /// Hashes a key into one of `partitions` equal parts.
    #[must_use]
    pub fn of(key: &[u8], partitions: u16) -> Self {
        Self::at(key_hash(key), partitions)
    }

    /// Where keys of this hash lie among `partitions` equal parts.
    #[must_use]
    pub fn at(hash: u64, partitions: u16) -> Self {
        let scaled = u128::from(hash) * u128::from(partitions);
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is below `partitions`, the lower half is taken on purpose")]
        Self { partition: Partition((scaled >> 64) as u16), position: scaled as u64 }
    }

    /// The first hash of a partition.
    #[must_use]
    pub fn first_hash(partition: Partition, partitions: u16) -> u64 {
        let whole = (u128::from(partition.0) << 64).div_ceil(u128::from(partitions.max(1)));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    /// The leaf of the partition's Merkle tree that the key falls into, below [`LEAVES`].
    #[must_use]
    pub fn leaf(self) -> usize {
        usize::try_from(self.position >> 54).unwrap_or(0)
    }
}

/// How many replicas a command waits for; see README for the promise of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Level {
    /// This peer's own replica alone.
    Local,
    /// One replica.
    One,
    /// Two distinct peers where two are reachable, as replica or as hint.
    #[default]
    Sloppy,
    /// A majority of the configured number of replicas.
    Quorum,
    /// Every replica.
    All,
}

impl Level {
    /// Every level with its name in the protocol.
    pub const NAMES: [(&'static str, Self); 5] =
        [("local", Self::Local), ("one", Self::One), ("sloppy", Self::Sloppy), ("quorum", Self::Quorum), ("all", Self::All)];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, level)| level == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_survives_its_text_form() {
        let peer = PeerId([7; 32]);
        assert!(peer.to_string().starts_with("12D3KooW"));
        assert_eq!(peer.to_string().parse(), Ok(peer));
        assert!("12D3KooW".parse::<PeerId>().is_err());
        assert!("nonsense!".parse::<PeerId>().is_err());
    }

    #[test]
    fn partitions_lie_in_the_order_of_hashes() {
        for partitions in [1, 7, 256, 4096] {
            for index in 0..partitions {
                let first = Place::first_hash(Partition(index), partitions);
                assert_eq!(Place::at(first, partitions).partition, Partition(index));
                assert!(index == 0 || Place::at(first - 1, partitions).partition == Partition(index - 1));
            }
        }
    }

    #[test]
    fn keys_spread_over_every_partition_and_leaf() {
        let places: Vec<Place> = (0..20_000u32).map(|n| Place::of(&n.to_be_bytes(), 7)).collect();
        for partition in 0..7 {
            assert!(places.iter().filter(|place| place.partition == Partition(partition)).count() > 2_500);
        }
        assert!(places.iter().all(|place| place.leaf() < LEAVES));
    }
}
