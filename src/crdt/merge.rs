//! Reads at several replicas: one view out of many voices, and what each of them lacked.
//!
//! A dot stays unless some voice has seen it and does not have it live. Each voice brings its rows and the clock that judges them from
//! one snapshot; a clock that was asked for later would call live what its replica was only about to lose.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::answer::KeyView;
use super::delta::{Causal, Delta, Row, RowAddress};
use super::dot::{Clock, Dot};

/// What one replica said of a key.
#[derive(Clone, Debug, Default)]
pub struct Voice {
    /// Its rows.
    pub rows: BTreeMap<RowAddress, Row>,
    /// Its clock, and what is pending for the key and its rows.
    pub causal: Causal,
}

/// What many voices say together.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The key as all of them know it.
    pub view: KeyView,
    /// One for each voice that was behind.
    pub repairs: Vec<Repair>,
}

/// What one voice lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Which voice, counted from 0.
    pub voice: usize,
    /// Exactly the entries that it has never seen.
    pub adds: Delta,
    /// Whether it holds what should be gone. A read does not remove it: reads are not checked for whole leaves, so the replica pulls.
    pub must_pull: bool,
}

/// Merges voices. Every voice speaks of every row that any of them names.
#[must_use]
pub fn merge(key: &Bytes, voices: &[Voice]) -> Merged {
    let mut merged = Merged::default();
    let mut repairs: Vec<Repair> = (0..voices.len()).map(|voice| Repair { voice, adds: Delta::default(), must_pull: false }).collect();
    let addresses: BTreeSet<&RowAddress> = voices.iter().flat_map(|voice| voice.rows.keys()).collect();
    let value = RowAddress::value(key);
    merged.view.seen = voices.iter().fold(Clock::new(), |mut seen, voice| {
        seen.extend(&voice.causal.seen_for(&value));
        seen
    });
    for address in addresses {
        let mut row = Row::new();
        let dots: BTreeSet<Dot> = voices.iter().filter_map(|voice| voice.rows.get(address)).flat_map(|row| row.keys().copied()).collect();
        for dot in dots {
            let live = |voice: &Voice| voice.rows.get(address).and_then(|row| row.get(&dot)).cloned();
            let superseded = voices.iter().any(|voice| live(voice).is_none() && voice.causal.has_seen(address, dot));
            let Some(entry) = voices.iter().find_map(live) else { continue };
            for (voice, repair) in voices.iter().zip(&mut repairs) {
                match (live(voice).is_some(), superseded) {
                    (true, true) => repair.must_pull = true,
                    (false, false) => repair.adds.adds.push((address.clone(), dot, entry.clone())),
                    (true, false) | (false, true) => {}
                }
            }
            if !superseded {
                row.insert(dot, entry);
            }
        }
        if !row.is_empty() {
            merged.view.rows.insert(address.clone(), row);
        }
    }
    merged.repairs = repairs.into_iter().filter(|repair| repair.must_pull || !repair.adds.is_empty()).collect();
    merged
}

#[cfg(test)]
mod tests {
    use super::super::delta::{Entry, Payload};
    use super::*;
    use crate::types::{Actor, Timestamp};

    fn dot(counter: u64) -> Dot {
        Dot { actor: Actor(1), counter }
    }

    fn voice(seen: &[u64], live: &[u64]) -> Voice {
        let entry = Entry { timestamp: Timestamp(1), decision: None, payload: Payload::Value(Bytes::from_static(b"v")) };
        let row: Row = live.iter().map(|counter| (dot(*counter), entry.clone())).collect();
        let rows = if row.is_empty() { BTreeMap::new() } else { BTreeMap::from([(RowAddress::value(&key()), row)]) };
        Voice { rows, causal: Causal { clock: seen.iter().map(|counter| dot(*counter)).collect(), ..Causal::default() } }
    }

    fn key() -> Bytes {
        Bytes::from_static(b"k")
    }

    #[test]
    fn a_dot_stays_unless_a_voice_has_seen_it_go() {
        let merged = merge(&key(), &[voice(&[1, 2], &[1, 2]), voice(&[1, 3], &[3])]);
        let live: Vec<Dot> = merged.view.rows[&RowAddress::value(&key())].keys().copied().collect();
        assert_eq!(live, [dot(2), dot(3)]);
        let [first, second] = merged.repairs.as_slice() else { panic!("both were behind") };
        assert!(first.must_pull && !second.must_pull);
        assert_eq!((first.adds.adds[0].1, second.adds.adds[0].1), (dot(3), dot(2)));
    }

    #[test]
    fn equal_voices_need_no_repair() {
        let merged = merge(&key(), &[voice(&[1, 2], &[2]), voice(&[1, 2], &[2]), voice(&[2], &[2])]);
        assert!(merged.repairs.is_empty());
        assert_eq!(merged.view.seen, [dot(1), dot(2)].into_iter().collect());
    }
}
