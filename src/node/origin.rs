//! What a peer begins with: the seed of its randomness, and the members that it knew at its last stop.

use std::collections::BTreeSet;

use super::StartError;
use crate::config::NodeConfig;
use crate::env::Network;
use crate::members::{Member, Members, Standing};
use crate::membership::MEMBERS_RECORD;
use crate::newcomer::FormerHolders;
use crate::replica::{OpenError, Replica, partition};
use crate::topology::Cluster;
use crate::types::{Partition, PeerId};

/// Seeds a node's one generator. Identity and time are mixed in, so that not even peers that were all started with one seed draw
/// the same author, nor one peer the same twice.
pub(super) fn seed(configured: u64, local: PeerId, now_ms: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&configured.to_be_bytes()).update(&local.0).update(&now_ms.to_be_bytes());
    hasher.finalize().as_bytes().first_chunk().map_or(configured, |first| u64::from_be_bytes(*first))
}

/// Where this is a new peer that goes on with another's data: the holders of each partition as that one knew them, without itself. It is a newcomer to all that
/// it holds by the ring, and most of that it lacks.
pub(super) fn holders_before(replica: &Replica, config: &NodeConfig) -> Result<Option<FormerHolders>, StartError> {
    let Some(owner) = replica.inherited().map_err(OpenError::from)? else { return Ok(None) };
    let ring = Cluster::ring_of(&stored_members(replica)?, config.partitions, config.replicas);
    let others = |partition| ring.holders(partition).iter().copied().filter(|peer| *peer != owner).collect::<BTreeSet<_>>();
    let former = |partition| (partition, BTreeSet::from([others(partition)]));
    Ok(Some((0..config.partitions).map(Partition).map(former).collect()))
}

fn stored_members(replica: &Replica) -> Result<Members, StartError> {
    Ok(match replica.named(MEMBERS_RECORD).map_err(OpenError::from)? {
        Some(bytes) => partition::from_bytes("the member list", &bytes)?,
        None => Members::default(),
    })
}

/// The members that this peer knew at its last stop, with itself among them.
pub(super) fn known_members(replica: &Replica, config: &NodeConfig, network: &dyn Network, now_ms: u64) -> Result<Members, StartError> {
    let mut members = stored_members(replica)?;
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
        settled: known.is_some_and(|known| known.settled),
        standing: known.map_or(Standing::Joined, |known| known.standing),
    };
    if known != Some(&own) {
        members.put_own(own);
    }
    Ok(members)
}
