//! Picks at random, as a pure function of a seed: whoever asks draws the seed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::row::{Row, RowAddress};
use super::rows::Rows;
use super::shown::Shown;

/// Collections of so many elements are read as a whole, and each element is picked with the same chance. Of greater ones a pick reads so many rows from a
/// random hash on, and takes one of them: about the same chance, since the gaps between so many hashes even each other out.
const WINDOW: usize = 64;

/// How many elements are picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Pick {
    /// One, told without an array.
    One,
    /// So many, each once; all where there are fewer.
    Distinct(usize),
    /// So many, the same one as often as it comes.
    Repeated(usize),
}

impl Pick {
    /// How many there are at most.
    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Distinct(count) | Self::Repeated(count) => count,
        }
    }

    /// What is picked of some items.
    #[must_use]
    pub fn of<T: Clone>(self, items: Vec<T>, seed: u64) -> Vec<T> {
        let sequence = Sequence::new(seed);
        match self {
            Self::One => sequence.pick(items, 1),
            Self::Distinct(count) => sequence.pick(items, count),
            Self::Repeated(count) => sequence.pick_repeatedly(&items, count),
        }
    }

    /// What is picked of the elements of one kind that show, with what is asked of each.
    pub(super) fn of_rows<R: Rows, T: Clone>(
        self,
        seed: u64,
        (rows, shown, key, kind): (&R, &Shown, &Bytes, Kind),
        ask: impl Fn(&RowAddress, &Row) -> Option<T>,
    ) -> Result<Vec<T>, R::Error> {
        let summary = rows.summary(key)?;
        let number = usize::try_from(summary.count(kind)).unwrap_or(usize::MAX);
        if !summary.stands(&shown.expiry) || self.count().saturating_mul(WINDOW) >= number {
            let mut all = Vec::new();
            rows.visit_hashed(key, kind, 0, &mut |address, row| {
                all.extend(ask(address, row));
                ControlFlow::Continue(())
            })?;
            return Ok(self.of(all, seed));
        }
        let (mut sequence, mut picked, mut known) = (Sequence::new(seed), Vec::new(), BTreeSet::new());
        while picked.len() < self.count() {
            let mut window: Vec<(Bytes, T)> = Vec::with_capacity(WINDOW);
            for from in [sequence.next(), 0] {
                rows.visit_hashed(key, kind, from, &mut |address, row| {
                    window.extend(ask(address, row).map(|told| (address.element.clone(), told)));
                    if window.len() < WINDOW { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                if window.len() == WINDOW {
                    break;
                }
            }
            if window.is_empty() {
                break;
            }
            let (element, told) = window.swap_remove(sequence.below(window.len()));
            if known.insert(element) || matches!(self, Self::Repeated(_)) {
                picked.push(told);
            }
        }
        Ok(picked)
    }
}

/// A sequence of numbers from a seed: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound; 0 where the bound is.
    pub fn below(&mut self, bound: usize) -> usize {
        // The upper half of the product is spread evenly, but for a bias of less than bound / 2^64.
        let product = u128::from(self.next()) * (bound as u128);
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// So many items, each once; all where there are fewer.
    #[must_use]
    pub fn pick<T>(mut self, mut items: Vec<T>, count: usize) -> Vec<T> {
        let count = count.min(items.len());
        for place in 0..count {
            let other = place + self.below(items.len() - place);
            items.swap(place, other);
        }
        items.truncate(count);
        items
    }

    /// So many items, the same one as often as it comes; none where there are none.
    #[must_use]
    pub fn pick_repeatedly<T: Clone>(mut self, items: &[T], count: usize) -> Vec<T> {
        (0..count).filter_map(|_| items.get(self.below(items.len())).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_picked_about_as_often_as_any_other() {
        let mut times = [0; 5];
        for seed in 0..5000 {
            let picked = Sequence::new(seed).pick((0..5).collect(), 2);
            assert_eq!(picked.len(), 2);
            assert_ne!(picked[0], picked[1]);
            picked.into_iter().for_each(|item| times[item] += 1);
        }
        assert!(times.iter().all(|times| (1800..2200).contains(times)), "{times:?}");
    }

    #[test]
    fn no_more_is_picked_than_there_is() {
        assert!(Sequence::new(1).pick(Vec::<u8>::new(), 3).is_empty());
        assert_eq!(Sequence::new(1).pick(vec![7], 3), [7]);
        assert_eq!(Sequence::new(1).pick_repeatedly(&[7], 3), [7, 7, 7]);
        assert!(Sequence::new(1).pick_repeatedly::<u8>(&[], 3).is_empty());
    }
}
