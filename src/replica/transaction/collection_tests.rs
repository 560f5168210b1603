//! What is derived of collections, held against what the rows say after each of many random batches.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::crdt::delta::{Decision, Entry, Payload};
use crate::crdt::dot::Dot;
use crate::crdt::memory::MemoryState;
use crate::env::Storage;
use crate::sim::derived;
use crate::sim::storage::SimDisk;
use crate::types::{Actor, Timestamp};

const KEY: Bytes = Bytes::from_static(b"collection");
const KINDS: [Kind; 4] = [Kind::Member, Kind::Field, Kind::Score, Kind::Item];

/// What becomes of one row: of which kind, which element, and its new content.
#[derive(Clone, Debug)]
struct Change {
    kind: Kind,
    element: usize,
    content: Option<Row>,
}

fn address(kind: Kind, element: usize) -> RowAddress {
    // Some are too long to stand in a storage key as they are, but for positions, which never are.
    let long = if element % 7 == 6 && kind != Kind::Item { 1200 } else { 1 };
    RowAddress::element(&KEY, kind, &format!("{element}").repeat(long).into())
}

fn changes() -> impl Strategy<Value = Change> {
    let content = (0..4u8, -3..3i32, proptest::option::of(0..50u64), 1..9u64);
    (0..KINDS.len(), 0..14usize, proptest::option::of(content)).prop_map(|(kind, element, content)| {
        let kind = KINDS[kind];
        let content = content.map(|(form, score, end, counter)| {
            let dot = Dot { actor: Actor(1), counter };
            let decision = end.map(|end| Decision { time: Some(end), timestamp: Timestamp(1), since: Timestamp(1) });
            let payload = match (kind, form) {
                (Kind::Member, _) => Payload::Present,
                // A trace of a counter that is gone, which is no data.
                (Kind::Field | Kind::Score, 0) => Payload::Floor { run: dot, upto: counter, total: 3.into() },
                (Kind::Field | Kind::Score, 1) => Payload::Run { run: dot, total: i64::from(score).into() },
                (Kind::Score, _) => Payload::Score(Score::new(f64::from(score) / 2.0)),
                _ => Payload::Value(Bytes::from(vec![b'v'; usize::from(form)])),
            };
            Row::from([(dot, Entry { timestamp: Timestamp(5), decision, field_decision: None, payload })])
        });
        Change { kind, element, content }
    })
}

/// What is told of the key, read in every way that needs not read all.
fn told<R: Rows>(rows: &R, from_hash: u64) -> Vec<String>
where
    R::Error: std::fmt::Debug,
{
    let summary = rows.summary(&KEY).unwrap();
    let mut told = vec![format!("{:?}", (summary.counts, summary.ending))];
    for kind in [Kind::Member, Kind::Field, Kind::Score] {
        rows.visit_hashed(&KEY, kind, from_hash, &mut |address, row| {
            told.push(format!("{address:?} {row:?}"));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    told
}

fn ranked<R: Rows>(rows: &R, order: sorted_set::Order, from: Option<Score>, most: usize) -> Option<Vec<(Bytes, Score)>>
where
    R::Error: std::fmt::Debug,
{
    let mut members = Vec::new();
    let is_known = rows.visit_ranked(&KEY, order, from, &mut |member, score| {
        members.push((member.clone(), score));
        if members.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    is_known.unwrap().then_some(members)
}

proptest! {
    #[test]
    fn what_is_derived_follows_the_rows(
        batches in proptest::collection::vec((proptest::collection::vec(changes(), 0..8), any::<u64>(), -2..3i32), 1..12),
    ) {
        let disk = SimDisk::default();
        let storage = disk.open();
        let partitions = [PartitionState::empty(1, 1)];
        let mut model = MemoryState::default();
        for (changes, from_hash, from) in batches {
            let mut transaction = Transaction::begin(&partitions, storage.snapshot());
            for Change { kind, element, content } in changes {
                let row = content.unwrap_or_default();
                transaction.put(address(kind, element), row.clone());
                model.put(address(kind, element), row);
            }
            prop_assert_eq!(told(&transaction, from_hash), told(&model, from_hash));
            for (order, most) in [(sorted_set::Order::Ascending, 1), (sorted_set::Order::Descending, 2), (sorted_set::Order::Ascending, 99)] {
                for from in [None, Some(Score::new(f64::from(from) / 2.0))] {
                    let expected = ranked(&model, order, from, most).unwrap();
                    match ranked(&transaction, order, from, most) {
                        Some(found) => prop_assert_eq!(found, expected),
                        // Only where a member is too long.
                        None => prop_assert!(ranked(&model, order, None, 99).unwrap().iter().any(|(member, _)| member.len() > layout::LONGEST_INLINE)),
                    }
                }
            }
            storage.commit(transaction.finish().unwrap().batch).unwrap();
            prop_assert_eq!(derived::check(&disk, 1), Ok(()));
        }
    }
}

/// Damages what is derived, and tells what the check says.
fn after(damage: impl FnOnce(&mut crate::env::Batch, &BTreeMap<Vec<u8>, Vec<u8>>)) -> Result<(), String> {
    let disk = SimDisk::default();
    let storage = disk.open();
    let partitions = [PartitionState::empty(1, 1)];
    let mut transaction = Transaction::begin(&partitions, storage.snapshot());
    for (element, score) in [(1, 1.0), (2, 2.0)] {
        let entry = Entry { timestamp: Timestamp(5), decision: None, field_decision: None, payload: Payload::Score(Score::new(score)) };
        let dot = Dot { actor: Actor(1), counter: element as u64 };
        transaction.put(address(Kind::Score, element), Row::from([(dot, entry)]));
    }
    storage.commit(transaction.finish().unwrap().batch).unwrap();
    assert_eq!(derived::check(&disk, 1), Ok(()));
    let mut derived = BTreeMap::new();
    for (start, end) in layout::derived_ranges(Partition(0)) {
        disk.visit(&start, &end, &mut |key, value| {
            derived.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        });
    }
    assert_eq!(derived.len(), 3);
    let mut batch = crate::env::Batch::default();
    damage(&mut batch, &derived);
    storage.commit(batch).unwrap();
    derived::check(&disk, 1)
}

#[test]
fn a_row_that_was_taken_for_none_is_not_counted_as_well_as_what_is_written_over_it() {
    let disk = SimDisk::default();
    let storage = disk.open();
    let partitions = [PartitionState::empty(1, 1)];
    let address = address(Kind::Member, 1);
    for counter in [1, 2] {
        let mut transaction = Transaction::begin(&partitions, storage.snapshot());
        transaction.visit_from(&KEY, Kind::Expiry, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let entry = Entry { timestamp: Timestamp(5), decision: None, field_decision: None, payload: Payload::Present };
        transaction.put(address.clone(), Row::from([(Dot { actor: Actor(1), counter }, entry)]));
        storage.commit(transaction.finish().unwrap().batch).unwrap();
        assert_eq!(derived::check(&disk, 1), Ok(()));
        // The record is lost, and so the row is not looked for.
        disk.lose(&layout::collection_key(Place::of(&KEY, 1), &KEY));
    }
}

#[test]
fn the_check_notices_what_is_not_so() {
    assert!(after(|batch, derived| batch.delete(derived.keys().next().unwrap().clone())).is_err());
    assert!(after(|batch, derived| batch.delete(derived.keys().last().unwrap().clone())).is_err());
    assert!(after(|batch, derived| batch.put(derived.keys().last().unwrap().clone(), vec![0; 8])).is_err());
    assert!(after(|batch, derived| batch.put([derived.keys().last().unwrap().as_slice(), b"x"].concat(), vec![0; 8])).is_err());
    assert!(
        after(|batch, derived| {
            let (key, value) = derived.first_key_value().unwrap();
            let mut record = crate::replica::collection::Collection::from_bytes(&value.clone().into()).unwrap();
            record.summary.counts[2] += 1;
            batch.put(key.clone(), record.to_bytes());
        })
        .is_err()
    );
}
