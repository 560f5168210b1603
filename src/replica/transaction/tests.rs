//! Visits of a batch in the making, held against a plain map of what it should show.

use std::collections::BTreeMap;

use super::super::partition::PartitionState;
use super::*;
use crate::crdt::delta::{Entry, Payload};
use crate::env::Storage;
use crate::sim::storage::SimDisk;
use crate::types::{Actor, Timestamp};

const KEY: Bytes = Bytes::from_static(b"list");

fn row(counter: u64) -> Row {
    let entry = Entry { timestamp: Timestamp(counter), decision: None, payload: Payload::Present };
    Row::from([(Dot { actor: Actor(1), counter }, entry)])
}

fn address(key: &Bytes, number: usize) -> RowAddress {
    // Two kinds beside each other, and elements of several lengths.
    let kind = if number.is_multiple_of(3) { Kind::Field } else { Kind::Member };
    RowAddress::element(key, kind, &vec![b'e'; number % 7].into_iter().chain(number.to_string().into_bytes()).collect())
}

fn store(batch: &mut Batch, place: Place, address: &RowAddress, row: &Row) {
    let key = layout::row_key(place, address);
    let value = layout::row_value(&key, address, &encode::row_to_bytes(row));
    batch.put(key, value);
}

/// Visits forward from a kind, or back within it, until so many rows were seen.
fn visited(transaction: &Transaction<'_>, kind: Kind, order: Order, most: usize) -> Vec<(RowAddress, Row)> {
    let mut seen = Vec::new();
    let mut visitor = |address: &RowAddress, row: &Row| {
        seen.push((address.clone(), row.clone()));
        if seen.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match order {
        Order::Forward => transaction.visit_from(&KEY, kind, &mut visitor).unwrap(),
        Order::Back => transaction.visit_back(&KEY, kind, &mut visitor).unwrap(),
    }
    seen
}

#[test]
fn visits_both_ways_show_what_is_stored_and_what_the_batch_changed() {
    let partitions = [PartitionState::empty(1, 1)];
    let place = Place::of(&KEY, 1);
    for round in 0..40usize {
        let storage = SimDisk::default().open();
        let mut stored = Batch::default();
        let mut model: BTreeMap<Vec<u8>, (RowAddress, Row)> = BTreeMap::new();
        for number in (0..90).filter(|number| number * 7 % 11 < round % 12) {
            let (address, row) = (address(&KEY, number), row(number as u64 + 1));
            store(&mut stored, place, &address, &row);
            model.insert(layout::row_key(place, &address), (address, row));
        }
        // Rows of other keys on both sides are not to be seen.
        for key in [&b"lis"[..], b"lists", b"lisz", b"a", b"z"].map(Bytes::from_static) {
            let address = address(&key, 1);
            store(&mut stored, Place::of(&key, 1), &address, &row(7));
        }
        storage.commit(stored).unwrap();
        let mut transaction = Transaction::begin(&partitions, storage.snapshot());
        for number in (0..90).filter(|number| number * 5 % 13 < round % 5) {
            let address = address(&KEY, number);
            let changed = if number % 2 == 0 { Row::new() } else { row(1000 + number as u64) };
            if changed.is_empty() {
                model.remove(&layout::row_key(place, &address));
            } else {
                model.insert(layout::row_key(place, &address), (address.clone(), changed.clone()));
            }
            transaction.put(address, changed);
        }
        let all: Vec<_> = model.into_values().collect();
        let of = |kind: Kind| all.iter().filter(move |(address, _)| address.kind == kind).cloned();
        // The visits keep rows in the cache, so each is tried before and after others.
        for most in [1, 3, usize::MAX, 2] {
            for kind in [Kind::Field, Kind::Member] {
                assert_eq!(visited(&transaction, kind, Order::Back, most), of(kind).rev().take(most).collect::<Vec<_>>(), "round {round}");
                let forward: Vec<_> = all.iter().filter(|(address, _)| address.kind >= kind).take(most).cloned().collect();
                assert_eq!(visited(&transaction, kind, Order::Forward, most), forward, "round {round}");
            }
            assert_eq!(visited(&transaction, Kind::Expiry, Order::Forward, most), all.iter().take(most).cloned().collect::<Vec<_>>());
        }
    }
}
