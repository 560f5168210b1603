//! How many places each member offers, and how many copies of one partition a zone takes.
//!
//! A member's fair share is in proportion to its capacity, as far as it can be: nobody can hold more than one copy of each
//! partition, nor a zone more than its part of them. What one cannot take is divided among the others, again by capacity.
//!
//! ```text
//! 256 partitions, 3 copies, capacities 10, 1, 1, 1:  shares 256, 170.7, 170.7, 170.7
//! the same with zones a, b, b, c and capacities 1:   shares 256, 128,   128,   256
//! ```
//!
//! Numbers are fixed-point with 32 fractional bits, so that every machine computes the same.

use std::collections::BTreeMap;

use super::{RingMember, tokens};

/// What the members may take.
#[derive(Debug)]
pub(super) struct Shares {
    /// Copies of each partition.
    pub copies: usize,
    /// Per member the index of its zone.
    pub zone: Vec<usize>,
    /// Copies of one partition that a zone takes at most.
    pub per_zone: usize,
    /// Per member the copies that it takes at most. Never below its fair share, so that all copies find a place.
    pub places: Vec<usize>,
}

impl Shares {
    /// Divides all copies among the members.
    pub(super) fn of(members: &[&RingMember], partitions: u16, replicas: usize) -> Self {
        let copies = replicas.min(members.len());
        let (zone, zones) = zones(members);
        let mut sizes = vec![0_usize; zones];
        for zone in &zone {
            sizes[*zone] += 1;
        }
        let fits = |per_zone: usize| sizes.iter().map(|size| per_zone.min(*size)).sum::<usize>() >= copies;
        let per_zone = (1..copies).find(|per_zone| fits(*per_zone)).unwrap_or(copies.max(1));

        let fixed = |count: usize| (count as u128 * u128::from(partitions)) << 32;
        let weight = |member: usize| u128::from(members[member].capacity.max(1));
        let mut weights = vec![0; zones];
        for (member, zone) in zone.iter().enumerate() {
            weights[*zone] += weight(member);
        }
        let of_zones = divide(fixed(copies), &weights, &sizes.iter().map(|size| fixed(per_zone.min(*size))).collect::<Vec<_>>());
        let mut places = vec![0; members.len()];
        for (index, share) in of_zones.into_iter().enumerate() {
            let here: Vec<usize> = (0..members.len()).filter(|member| zone[*member] == index).collect();
            let weights: Vec<u128> = here.iter().map(|member| weight(*member)).collect();
            for (member, share) in here.iter().zip(divide(share, &weights, &vec![fixed(1); weights.len()])) {
                places[*member] = round(share, tokens::rounding(members[*member].peer)).min(usize::from(partitions));
            }
        }
        Self { copies, zone, per_zone, places }
    }
}

/// Names the zones by numbers. A member without a zone is one of its own.
fn zones(members: &[&RingMember]) -> (Vec<usize>, usize) {
    let mut names = BTreeMap::new();
    let mut zones = 0;
    let zone = members
        .iter()
        .map(|member| {
            let mut new = || {
                zones += 1;
                zones - 1
            };
            match &member.zone {
                Some(name) => *names.entry(name).or_insert_with(new),
                None => new(),
            }
        })
        .collect();
    (zone, zones)
}

/// Divides an amount in proportion to the weights, none above its limit. The limits together are not below the amount.
fn divide(amount: u128, weights: &[u128], limits: &[u128]) -> Vec<u128> {
    let mut shares: Vec<Option<u128>> = vec![None; weights.len()];
    let (mut amount, mut weight) = (amount, weights.iter().sum::<u128>());
    loop {
        let part = |index: usize| (amount * weights[index]).checked_div(weight).unwrap_or(0);
        let full: Vec<usize> = (0..weights.len()).filter(|index| shares[*index].is_none() && part(*index) >= limits[*index]).collect();
        if full.is_empty() {
            return (0..weights.len()).map(|index| shares[index].unwrap_or_else(|| part(index))).collect();
        }
        for index in full {
            shares[index] = Some(limits[index]);
            amount = amount.saturating_sub(limits[index]);
            weight -= weights[index];
        }
    }
}

/// The places for a share: 1.10 times as many. Whether a fraction becomes a place is a matter of the peer's id, not of all alike:
/// otherwise the next member to join could take a place from everybody at once, and all would move.
fn round(share: u128, rounding: u32) -> usize {
    let whole = share.div_ceil(1 << 32);
    usize::try_from(whole.max((share * 11 / 10 + u128::from(rounding)) >> 32)).unwrap_or(usize::MAX)
}
