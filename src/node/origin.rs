//! What a peer begins with: the seed of its randomness, and the members that it knew at its last stop.

use super::StartError;
use crate::config::NodeConfig;
use crate::env::Network;
use crate::members::{Member, Members, Standing};
use crate::membership::MEMBERS_RECORD;
use crate::replica::{OpenError, Replica, partition};
use crate::types::PeerId;

/// Seeds a node's one generator. Identity and time are mixed in, so that not even peers that were all started with one seed draw
/// the same author, nor one peer the same twice.
pub(super) fn seed(configured: u64, local: PeerId, now_ms: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&configured.to_be_bytes()).update(&local.0).update(&now_ms.to_be_bytes());
    hasher.finalize().as_bytes().first_chunk().map_or(configured, |first| u64::from_be_bytes(*first))
}

/// The members that this peer knew at its last stop, with itself among them.
pub(super) fn known_members(replica: &Replica, config: &NodeConfig, network: &dyn Network, now_ms: u64) -> Result<Members, StartError> {
    let mut members: Members = match replica.named(MEMBERS_RECORD).map_err(OpenError::from)? {
        Some(bytes) => partition::from_bytes("the member list", &bytes)?,
        None => Members::default(),
    };
    let known = members.get(network.local());
    let own = Member {
        peer: network.local(),
        zone: config.zone.clone(),
        capacity: config.capacity,
        addresses: network.addresses(),
        actors: known.map(|known| known.actors.clone()).unwrap_or_default(),
        tenure: known.map_or(0, |known| known.tenure),
        absences: known.map_or(0, |known| known.absences),
        born_ms: known.map_or(now_ms, |known| known.born_ms),
        standing: known.map_or(Standing::Joined, |known| known.standing),
    };
    if known != Some(&own) {
        members.put_own(own);
    }
    Ok(members)
}
