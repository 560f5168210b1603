//! Picks at random, as a pure function of a seed: whoever asks draws the seed.

/// A sequence of numbers from a seed: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound; 0 where the bound is.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper half of the product is spread evenly, but for a bias of less than bound / 2^64.
        let product = u128::from(mixed) * (bound as u128);
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
