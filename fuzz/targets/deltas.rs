//! Any deltas that a peer could send, in any order, with repetitions, or merged as whole states: all of it gives what the definition of
//! a delta says, computed here from sets alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdts::CvRDT;
use ringtide::crdt::delta::{Delta, Entry, Row, RowAddress, Scope};
use ringtide::crdt::dot::{Clock, Dot};
use ringtide::crdt::encode;
use ringtide::crdt::memory::MemoryState;

/// The most deltas of one run.
const DELTAS: usize = 4;

/// Each delta stands behind two bytes with its length, the highest first.
pub(crate) fn run(data: &[u8]) {
    let mut deltas = Vec::new();
    let mut rest = data;
    while let (Some((length, after)), true) = (rest.split_first_chunk::<2>(), deltas.len() < DELTAS) {
        let (bytes, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes(*length))));
        rest = after;
        let bytes = Bytes::copy_from_slice(bytes);
        if let Ok(delta) = encode::delta_from_bytes(&bytes) {
            assert_eq!(encode::delta_to_bytes(&delta), bytes, "a second form of one delta was taken");
            deltas.push(delta);
        }
    }
    if dots_are_unique(&deltas) {
        check(&deltas);
    }
}

/// Whether each dot names one write: one address, one entry. Nothing holds for peers that break this.
fn dots_are_unique(deltas: &[Delta]) -> bool {
    let mut homes: BTreeMap<Dot, &RowAddress> = BTreeMap::new();
    let mut entries: BTreeMap<Dot, &Entry> = BTreeMap::new();
    deltas.iter().all(|delta| {
        delta
            .removes
            .iter()
            .map(|(address, dot)| (address, dot))
            .chain(delta.adds.iter().map(|(address, dot, _)| (address, dot)))
            .all(|(address, dot)| *homes.entry(*dot).or_insert(address) == address)
            && delta.adds.iter().all(|(_, dot, entry)| *entries.entry(*dot).or_insert(entry) == entry)
    })
}

fn check(deltas: &[Delta]) {
    let joined = |order: &mut dyn Iterator<Item = &Delta>| {
        let mut state = MemoryState::default();
        order.for_each(|delta| state.join(delta));
        state
    };
    let forward = joined(&mut deltas.iter());
    let backward = joined(&mut deltas.iter().rev());
    let doubled = joined(&mut deltas.iter().flat_map(|delta| [delta, &deltas[0], delta]));
    assert_eq!(forward, backward, "the order of deltas matters");
    assert_eq!(forward, doubled, "a delta that comes again matters");
    assert_eq!(forward.violation(), None);
    let mut merged = MemoryState::default();
    for delta in deltas {
        merged.merge(joined(&mut std::iter::once(delta)));
    }
    assert_eq!(forward, merged, "states merged are not deltas joined");
    let bytes: Vec<Vec<u8>> = [&forward, &backward].map(|state| ringtide::crdt::wire::rows_to_bytes(&state.rows)).into();
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(forward.rows, live(deltas), "join is not what a delta means");
    assert_eq!(forward.causal.clock, named(deltas));
}

/// Every dot that some delta adds or removes.
fn named(deltas: &[Delta]) -> Clock {
    let removed = deltas.iter().flat_map(|delta| delta.removes.iter().map(|(_, dot)| *dot));
    removed.chain(deltas.iter().flat_map(|delta| delta.adds.iter().map(|(_, dot, _)| *dot))).collect()
}

/// What the definition leaves live: what was added, and neither removed nor seen by the writer of a delta that replaced it.
fn live(deltas: &[Delta]) -> BTreeMap<RowAddress, Row> {
    let removed: BTreeSet<Dot> = deltas.iter().flat_map(|delta| delta.removes.iter().map(|(_, dot)| *dot)).collect();
    let mut rows: BTreeMap<RowAddress, Row> = BTreeMap::new();
    for (address, dot, entry) in deltas.iter().flat_map(|delta| &delta.adds) {
        let superseded = deltas.iter().any(|delta| {
            !delta.adds.iter().any(|(_, own, _)| own == dot)
                && delta.replaces.iter().any(|replacement| {
                    let in_scope = match &replacement.scope {
                        Scope::Row(replaced) => replaced == address,
                        Scope::Key(key) => *key == address.key,
                    };
                    let seen = delta.seen.contains(*dot) || replacement.pending.contains(*dot);
                    in_scope && seen && !replacement.keeps.contains(dot)
                })
        });
        if !superseded && !removed.contains(dot) {
            rows.entry(address.clone()).or_default().insert(*dot, entry.clone());
        }
    }
    rows
}
