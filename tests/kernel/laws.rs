//! The laws of the kernel: over random deltas from random histories, join gives the same state in whatever order, however often, by delta or by
//! whole state; equal rows have equal bytes and digests.

use std::rc::Rc;

use crdts::CvRDT;
use ringtide::crdt::delta::Delta;
use ringtide::crdt::encode::{
    causal_from_bytes, causal_to_bytes, delta_from_bytes, delta_to_bytes, row_digest, row_from_bytes, row_to_bytes,
};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::wire::{rows_from_bytes, rows_to_bytes};
use ringtide::types::Digest;

use crate::history::random::Random;
use crate::history::random_deltas;

const HISTORIES: u64 = 2_000;

fn joined<'a>(deltas: impl IntoIterator<Item = &'a Rc<Delta>>) -> MemoryState {
    let mut state = MemoryState::default();
    for delta in deltas {
        state.join(delta);
    }
    assert_eq!(state.violation(), None);
    state
}

fn merged(mut left: MemoryState, right: &MemoryState) -> MemoryState {
    left.merge(right.clone());
    left
}

#[test]
fn join_is_idempotent_commutative_and_associative() {
    for seed in 0..HISTORIES {
        let random = &mut Random::new(seed);
        let deltas = random_deltas(random);
        let whole = joined(&deltas);
        let mut shuffled = deltas.clone();
        shuffled.extend(deltas.iter().filter(|_| random.below(2) == 0).cloned());
        random.shuffle(&mut shuffled);
        assert_eq!(joined(&shuffled), whole, "seed {seed}: order or repetition matters");
        // Three groups, each joined for itself and then merged: the same as all deltas one by one.
        let mut parts: [Vec<Rc<Delta>>; 3] = Default::default();
        for delta in &deltas {
            for _ in 0..=random.below(2) {
                parts[random.below(3) as usize].push(Rc::clone(delta));
            }
        }
        let [a, b, c] = parts.map(|part| joined(&part));
        let left = merged(merged(a.clone(), &b), &c);
        assert_eq!(left, whole, "seed {seed}: states merged are not deltas joined");
        assert_eq!(merged(a.clone(), &merged(b.clone(), &c)), left, "seed {seed}: merging is not associative");
        assert_eq!(merged(b.clone(), &a), merged(a.clone(), &b), "seed {seed}: merging is not commutative");
        assert_eq!(merged(a.clone(), &a), a, "seed {seed}: merging is not idempotent");
    }
}

#[test]
fn equal_rows_have_equal_bytes_and_digests_in_whatever_order_they_came() {
    for seed in 0..HISTORIES / 4 {
        let random = &mut Random::new(seed);
        let mut deltas = random_deltas(random);
        let one = joined(&deltas);
        random.shuffle(&mut deltas);
        let other = joined(&deltas);
        assert_eq!(rows_to_bytes(&one.rows), rows_to_bytes(&other.rows));
        assert_eq!(causal_to_bytes(&one.causal), causal_to_bytes(&other.causal));
        let digest =
            |state: &MemoryState| state.rows.iter().fold(Digest::default(), |sum, (address, row)| sum.plus(row_digest(address, row)));
        assert_eq!(digest(&one), digest(&other));
    }
}

#[test]
fn whatever_a_history_holds_is_read_as_it_was_written() {
    for seed in 0..HISTORIES / 4 {
        let deltas = random_deltas(&mut Random::new(seed));
        for delta in &deltas {
            assert_eq!(delta_from_bytes(&delta_to_bytes(delta).into()).as_ref(), Ok(&**delta));
        }
        let state = joined(&deltas);
        assert_eq!(causal_from_bytes(&causal_to_bytes(&state.causal).into()).as_ref(), Ok(&state.causal));
        assert_eq!(rows_from_bytes(&rows_to_bytes(&state.rows).into()).as_ref(), Ok(&state.rows));
        for row in state.rows.values() {
            assert_eq!(row_from_bytes(&row_to_bytes(row).into()).as_ref(), Ok(row));
        }
    }
}
