//! Quorum reads: one view out of what several replicas hold of a key.
//!
//! Each voice brings its rows and what it had seen, from one snapshot. A dot stays *unless some voice has seen it and does not have it
//! live*: that voice knows that it was overwritten or removed. Asking "have you seen it?" only after a row was read would lose writes that came
//! in between, so a voice's clock may be older than its rows, never newer.
//!
//! ```text
//! voice 1  live a1, b1   seen a1, b1
//! voice 2  live a2       seen a1, a2
//! merged   live b1, a2                 a1 is gone: voice 2 has seen it
//! repairs  voice 1: add a2, and a1 should go; voice 2: add b1
//! ```
//!
//! Repairs add exactly what a voice lacks. They never remove: reads are not checked for whole leaves, so where a dot should go, the voice
//! has to pull.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::KeyView;
use super::delta::{Causal, Delta};
use super::dot::Dot;
use super::row::{Row, RowAddress};

/// What one replica told of a key. All voices that are merged must have told of the same rows: one that they left out is
/// taken for empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Voice {
    /// The rows that are not empty.
    pub rows: BTreeMap<RowAddress, Row>,
    /// The clock, and what is pending for the key and its rows, from the same snapshot or an earlier one.
    pub causal: Causal,
}

/// What the voices say together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// The rows that count.
    pub view: KeyView,
    /// One for each voice that was behind.
    pub repairs: Vec<Repair>,
}

/// What brings one voice up to the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// Which voice, counted from 0.
    pub voice: usize,
    /// The entries that it lacks. It has not seen them.
    pub adds: Delta,
    /// Whether it holds dots that should go.
    pub must_pull: bool,
}

/// Merges what replicas told of one key.
#[must_use]
pub fn merge(voices: &[Voice]) -> Merged {
    let mut repairs: Vec<Repair> = (0..voices.len()).map(|voice| Repair { voice, adds: Delta::default(), must_pull: false }).collect();
    let mut view = KeyView::default();
    let addresses: BTreeSet<&RowAddress> = voices.iter().flat_map(|voice| voice.rows.keys()).collect();
    for address in addresses {
        let all: Row =
            voices.iter().filter_map(|voice| voice.rows.get(address)).flatten().map(|(dot, entry)| (*dot, entry.clone())).collect();
        let mut kept = Row::new();
        for (dot, entry) in all {
            let stays = !voices.iter().any(|voice| !is_live(voice, address, dot) && voice.causal.has_seen(address, dot));
            for (voice, repair) in voices.iter().zip(&mut repairs) {
                match (is_live(voice, address, dot), stays) {
                    (false, true) => repair.adds.adds.push((address.clone(), dot, entry.clone())),
                    (true, false) => repair.must_pull = true,
                    _ => {}
                }
            }
            if stays {
                kept.insert(dot, entry);
            }
        }
        if !kept.is_empty() {
            view.rows.insert(address.clone(), kept);
        }
    }
    repairs.retain(|repair| repair.must_pull || !repair.adds.is_empty());
    Merged { view, repairs }
}

fn is_live(voice: &Voice, address: &RowAddress, dot: Dot) -> bool {
    voice.rows.get(address).is_some_and(|row| row.contains_key(&dot))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DELETE, Replica, add, key, remove, set};
    use super::*;

    fn voice(replica: &Replica) -> Voice {
        Voice { rows: replica.state.rows.clone(), causal: replica.state.causal.clone() }
    }

    fn value(merged: &Merged) -> Row {
        merged.view.rows.get(&RowAddress::value(&key())).cloned().unwrap_or_default()
    }

    #[test]
    fn a_dot_that_a_voice_has_seen_go_is_gone() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("old"));
        b.pull(&a);
        a.write(&set("new"));
        let merged = merge(&[voice(&a), voice(&b)]);
        assert_eq!(value(&merged), a.state.rows[&RowAddress::value(&key())]);
        let [repair] = merged.repairs.as_slice() else { panic!("one voice was behind") };
        assert!(repair.voice == 1 && repair.must_pull && repair.adds.adds.len() == 1);
        b.hear(&repair.adds);
        assert_eq!(b.get(), a.get());
    }

    #[test]
    fn what_no_voice_has_seen_go_stays_and_repairs_add_exactly_what_is_lacking() {
        let (mut a, mut b, c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        a.write(&add(&["x"]));
        b.write(&add(&["y"]));
        let merged = merge(&[voice(&a), voice(&b), voice(&c)]);
        assert_eq!(merged.view.rows.len(), 2);
        let adds: Vec<(usize, usize, bool)> =
            merged.repairs.iter().map(|repair| (repair.voice, repair.adds.adds.len(), repair.must_pull)).collect();
        assert_eq!(adds, [(0, 1, false), (1, 1, false), (2, 2, false)]);
        assert!(merged.repairs.iter().all(|repair| repair.adds.removes.is_empty() && repair.adds.replaces.is_empty()));
        assert!(merge(&[voice(&a), voice(&a)]).repairs.is_empty());
    }

    #[test]
    fn a_deletion_known_only_as_pending_counts() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        let lost = a.write(&add(&["x", "y"]));
        b.hear(&lost);
        a.write(&remove(&["x"]));
        // The removal of x never reached c by itself; it is in the clock of a whole-key write.
        c.hear(&a.write(&DELETE));
        let merged = merge(&[voice(&b), voice(&c)]);
        assert!(merged.view.rows.is_empty());
        assert!(merged.repairs[0].must_pull);
    }
}
