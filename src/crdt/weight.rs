//! About how much memory decoded state takes, so that a frame of many tiny things does not become more than a peer can hold.
//!
//! A row of a set is 24 bytes on the wire and a kibibyte in memory, a replaced key 4 bytes and 128: thirty times and more. Lengths
//! and counts alone don't bound that, since honest frames are made of the same rows. So what is decoded is weighed as it comes, in
//! units of a quarter kibibyte, and a frame that weighs more than [`MAX_WEIGHT`] altogether is refused.

use super::codec::DecodeError;
use super::delta::{Causal, Delta, Replacement};
use super::dot::Clock;
use super::row::Row;
use crate::config::MAX_WEIGHT;

/// A row beside its entries: its address, its place among the rows, and room for eleven entries even where it has one.
const ROW: usize = 7;
/// An author in a clock that stands alone, as those of pending rows do.
const LONE_AUTHOR: usize = 2;

/// What a row weighs.
#[must_use]
pub fn of_row(row: &Row) -> usize {
    ROW + row.len()
}

/// What a replaced row or key weighs.
#[must_use]
pub fn of_replacement(replacement: &Replacement) -> usize {
    1 + of_pending(&replacement.pending) + replacement.keeps.len().div_ceil(8)
}

/// What a delta weighs.
#[must_use]
pub fn of_delta(delta: &Delta) -> usize {
    let replaces: usize = delta.replaces.iter().map(of_replacement).sum();
    1 + replaces + of_clock(&delta.seen) + delta.removes.len() + delta.adds.len()
}

/// What a clock with all that is pending weighs.
#[must_use]
pub fn of_causal(causal: &Causal) -> usize {
    1 + of_clock(&causal.clock) + causal.pending.values().map(|pending| 1 + of_pending(pending)).sum::<usize>()
}

/// What is pending for one row or key.
pub(super) fn of_pending(pending: &Clock) -> usize {
    pending.ranges().map(|(_, ranges)| LONE_AUTHOR + ranges.len() / 8).sum()
}

/// What a clock weighs.
#[must_use]
pub fn of_clock(clock: &Clock) -> usize {
    clock.ranges().map(|(_, ranges)| 1 + ranges.len() / 8).sum()
}

/// Weighs what is decoded, piece by piece.
#[derive(Debug)]
pub struct Scale {
    left: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Self { left: MAX_WEIGHT }
    }
}

impl Scale {
    /// Adds a piece.
    ///
    /// # Errors
    /// Where all pieces together weigh more than [`MAX_WEIGHT`].
    pub fn put(&mut self, weight: usize) -> Result<(), DecodeError> {
        let too_much = DecodeError::Limit { what: "what was decoded", found: (MAX_WEIGHT - self.left + weight) as u64, limit: MAX_WEIGHT };
        self.left = self.left.checked_sub(weight).ok_or(too_much)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_limit_by_one_is_too_much() {
        let mut scale = Scale::default();
        assert_eq!(scale.put(MAX_WEIGHT - 1), Ok(()));
        assert_eq!(scale.put(1), Ok(()));
        let too_much = DecodeError::Limit { what: "what was decoded", found: MAX_WEIGHT as u64 + 1, limit: MAX_WEIGHT };
        assert_eq!(scale.put(1), Err(too_much));
    }
}
