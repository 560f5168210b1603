//! What the parts of messages weigh, where they stand in lists: see [`super::bounds`].

use super::bounds::Weigh;
use super::message::{Attestation, ListedKey, Publication, PullStart, RangeContent, RowRange, RowsThere, Sent};
use crate::crdt::weight;
use crate::types::Partition;

impl Weigh for Publication {}
impl Weigh for Attestation {}
impl Weigh for ListedKey {}
impl Weigh for RowRange {}

impl Weigh for Sent {
    fn weight(&self) -> usize {
        weight::of_delta(&self.delta)
    }
}

impl Weigh for (Partition, PullStart) {
    fn weight(&self) -> usize {
        match &self.1 {
            PullStart::Open { causal, .. } => weight::of_causal(causal),
            PullStart::Equal | PullStart::Nothing => 0,
        }
    }
}

fn of_rows(there: &RowsThere) -> usize {
    there.rows.values().map(weight::of_row).sum::<usize>() + there.causal.as_deref().map_or(0, weight::of_causal)
}

impl Weigh for (u64, RowsThere) {
    fn weight(&self) -> usize {
        of_rows(&self.1)
    }
}

impl Weigh for RangeContent {
    fn weight(&self) -> usize {
        match self {
            Self::Rows(there) => of_rows(there),
            Self::Listing(_) | Self::Parts(_) => 0,
        }
    }
}
