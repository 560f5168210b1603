//! Dots name write events; clocks are sets of dots.
//!
//! A clock keeps, per actor, the ranges of counters that it holds. Counters of one actor in one partition are dense
//! (`KERNEL` section 6), so a clock is normally one range an actor: a version vector. A gap is a range more, a few bytes.
//!
//! Source: dotted version vectors (Preguiça et al., 2012); interval version vectors (Almeida et al., 2018).

use std::collections::BTreeMap;

use crdts::CvRDT;
use serde::{Deserialize, Serialize};

use crate::types::Actor;

/// The name of one write event in one partition. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// The actor's how-manieth write in this partition, from 1.
    pub counter: u64,
}

/// A set of dots: what a replica has seen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Clock {
    /// Per actor the inclusive ranges of counters, sorted, disjoint and never adjacent; never an empty list.
    actors: BTreeMap<Actor, Vec<(u64, u64)>>,
}

impl Clock {
    /// The clock that holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { actors: BTreeMap::new() }
    }

    /// Whether the clock holds no dot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// Whether the clock holds this dot.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.actors.get(&dot.actor).is_some_and(|ranges| {
            let next = ranges.partition_point(|&(start, _)| start <= dot.counter);
            next > 0 && ranges[next - 1].1 >= dot.counter
        })
    }

    /// Adds one dot.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_range(dot.actor, dot.counter, dot.counter);
    }

    /// Adds the dots of `actor` from `first` to `last`, both included. An empty range adds nothing.
    pub fn insert_range(&mut self, actor: Actor, first: u64, last: u64) {
        if first > last {
            return;
        }
        let ranges = self.actors.entry(actor).or_default();
        // Every range that touches or adjoins the new one melts into it.
        let from = ranges.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = ranges.partition_point(|&(start, _)| start <= last.saturating_add(1));
        let merged = ranges[from..to].iter().fold((first, last), |(low, high), &(start, end)| (low.min(start), high.max(end)));
        ranges.splice(from..to, [merged]);
    }

    /// Takes one dot out.
    pub fn remove(&mut self, dot: Dot) {
        let Some(ranges) = self.actors.get_mut(&dot.actor) else { return };
        let at = ranges.partition_point(|&(_, end)| end < dot.counter);
        let Some(&(start, end)) = ranges.get(at).filter(|range| range.0 <= dot.counter) else { return };
        let left = (start < dot.counter).then(|| (start, dot.counter - 1));
        let right = (dot.counter < end).then(|| (dot.counter + 1, end));
        ranges.splice(at..=at, left.into_iter().chain(right));
        if ranges.is_empty() {
            self.actors.remove(&dot.actor);
        }
    }

    /// Takes out every dot that `other` holds.
    pub fn subtract(&mut self, other: &Self) {
        self.actors.retain(|actor, ranges| {
            if let Some(holes) = other.actors.get(actor) {
                *ranges = without(ranges, holes);
            }
            !ranges.is_empty()
        });
    }

    /// The dots of this clock that `other` does not hold.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let rest = self.actors.iter().map(|(actor, ranges)| match other.actors.get(actor) {
            Some(holes) => (*actor, without(ranges, holes)),
            None => (*actor, ranges.clone()),
        });
        Self { actors: rest.filter(|(_, ranges)| !ranges.is_empty()).collect() }
    }

    /// The greatest counter seen of an actor, 0 where none was.
    #[must_use]
    pub fn latest(&self, actor: Actor) -> u64 {
        self.actors.get(&actor).and_then(|ranges| ranges.last()).map_or(0, |&(_, end)| end)
    }

    /// Whether every dot of `other` is in this clock.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.minus(self).is_empty()
    }

    /// Every actor of which something was seen, with the inclusive ranges of its counters, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (Actor, &[(u64, u64)])> {
        self.actors.iter().map(|(actor, ranges)| (*actor, ranges.as_slice()))
    }
}

impl CvRDT for Clock {
    type Validation = std::convert::Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Self::Validation> {
        Ok(())
    }

    /// The union of both sets.
    fn merge(&mut self, other: Self) {
        self.extend(&other);
    }
}

impl Clock {
    /// Adds every dot of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (actor, ranges) in other.ranges() {
            for &(first, last) in ranges {
                self.insert_range(actor, first, last);
            }
        }
    }
}

impl FromIterator<Dot> for Clock {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut clock = Self::new();
        for dot in dots {
            clock.insert(dot);
        }
        clock
    }
}

/// The sorted ranges `from` without the sorted ranges `holes`.
fn without(from: &[(u64, u64)], holes: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    for &(start, end) in from {
        let first = start;
        let mut start = start;
        let mut spent = false;
        for &(hole_start, hole_end) in holes.iter().skip_while(|hole| hole.1 < first).take_while(|hole| hole.0 <= end) {
            if hole_start > start {
                rest.push((start, hole_start - 1));
            }
            if hole_end >= end {
                spent = true;
                break;
            }
            start = start.max(hole_end + 1);
        }
        if !spent {
            rest.push((start, end));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn dots() -> impl Strategy<Value = BTreeSet<(u64, u64)>> {
        proptest::collection::btree_set((0..3u64, 1..24u64), 0..40)
    }

    fn clock(dots: &BTreeSet<(u64, u64)>) -> Clock {
        dots.iter().map(|&(actor, counter)| Dot { actor: Actor(actor), counter }).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_dots(left in dots(), right in dots()) {
            let mut union = clock(&left);
            union.merge(clock(&right));
            prop_assert_eq!(&union, &clock(&left.union(&right).copied().collect()));
            prop_assert_eq!(clock(&left).minus(&clock(&right)), clock(&left.difference(&right).copied().collect()));
            prop_assert_eq!(clock(&left).covers(&clock(&right)), right.is_subset(&left));
            for actor in 0..3 {
                for counter in 1..24 {
                    let dot = Dot { actor: Actor(actor), counter };
                    prop_assert_eq!(clock(&left).contains(dot), left.contains(&(actor, counter)));
                    let (mut without, mut rest) = (clock(&left), left.clone());
                    without.remove(dot);
                    rest.remove(&(actor, counter));
                    prop_assert_eq!(without, clock(&rest));
                }
                let latest = left.iter().filter(|dot| dot.0 == actor).map(|dot| dot.1).max().unwrap_or(0);
                prop_assert_eq!(clock(&left).latest(Actor(actor)), latest);
            }
        }

        #[test]
        fn covers_the_version_vector_of_the_crdts_crate(left in proptest::collection::vec((0..4u64, 1..9u64), 0..12), right in proptest::collection::vec((0..4u64, 1..9u64), 0..12)) {
            let ours = |writes: &[(u64, u64)]| { let mut c = Clock::new(); for &(a, n) in writes { c.insert_range(Actor(a), 1, n); } c };
            let theirs = |writes: &[(u64, u64)]| -> crdts::VClock<u64> { let mut c = crdts::VClock::new(); for &(a, n) in writes { crdts::CmRDT::apply(&mut c, crdts::Dot::new(a, n)); } c };
            let (mut a, mut b) = (ours(&left), theirs(&left));
            a.merge(ours(&right));
            b.merge(theirs(&right));
            for actor in 0..4 {
                prop_assert_eq!(a.latest(Actor(actor)), b.get(&actor));
            }
            prop_assert_eq!(ours(&left).covers(&ours(&right)), theirs(&left) >= theirs(&right));
        }
    }

    #[test]
    fn the_ends_of_the_number_range_do_not_overflow() {
        let mut clock = Clock::new();
        clock.insert_range(Actor(1), u64::MAX - 1, u64::MAX);
        clock.insert_range(Actor(1), 0, 0);
        clock.remove(Dot { actor: Actor(1), counter: u64::MAX });
        assert_eq!(clock.latest(Actor(1)), u64::MAX - 1);
    }
}
