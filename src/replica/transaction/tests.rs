//! Visits of a batch in the making, held against a plain map of what it should show.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::super::collection::{Collection, Deriving};
use super::super::partition::PartitionState;
use super::*;
use crate::crdt::delta::{Entry, Payload};
use crate::env::Storage;
use crate::env::storage::Visitor;
use crate::sim::storage::SimDisk;
use crate::types::{Actor, Timestamp};

const KEY: Bytes = Bytes::from_static(b"list");

fn row(counter: u64) -> Row {
    let entry = Entry { timestamp: Timestamp(counter), decision: None, field_decision: None, payload: Payload::Present };
    Row::from([(Dot { actor: Actor(1), counter }, entry)])
}

fn address(key: &Bytes, number: usize) -> RowAddress {
    // Two kinds beside each other, and elements of several lengths.
    let kind = [Kind::Field, Kind::Member, Kind::Item][number % 3];
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
        let (mut stored, mut deriving) = (Batch::default(), Deriving::default());
        let mut model: BTreeMap<Vec<u8>, (RowAddress, Row)> = BTreeMap::new();
        for number in (0..90).filter(|number| number * 7 % 11 < round % 12) {
            let (address, row) = (address(&KEY, number), row(number as u64 + 1));
            store(&mut stored, place, &address, &row);
            deriving.take_in(place, &address, &row, &encode::row_to_bytes(&row).into());
            model.insert(layout::row_key(place, &address), (address, row));
        }
        // Rows of other keys on both sides are not to be seen.
        for key in [&b"lis"[..], b"lists", b"lisz", b"a", b"z"].map(Bytes::from_static) {
            let address = address(&key, 1);
            store(&mut stored, Place::of(&key, 1), &address, &row(7));
        }
        stored.changes.extend(deriving.finish().changes);
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
            for kind in [Kind::Field, Kind::Member, Kind::Item] {
                assert_eq!(visited(&transaction, kind, Order::Back, most), of(kind).rev().take(most).collect::<Vec<_>>(), "round {round}");
                let forward: Vec<_> = all.iter().filter(|(address, _)| address.kind >= kind).take(most).cloned().collect();
                assert_eq!(visited(&transaction, kind, Order::Forward, most), forward, "round {round}");
            }
            assert_eq!(visited(&transaction, Kind::Expiry, Order::Forward, most), all.iter().take(most).cloned().collect::<Vec<_>>());
        }
    }
}

fn item(number: u64) -> RowAddress {
    RowAddress::element(&KEY, Kind::Item, &Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// Changes items in one batch, asks before and after if told to, and commits. Tells how many items are on record then.
fn change(storage: &dyn Storage, put: &[u64], remove: &[u64], asks: Option<(u64, u64)>) -> Option<u64> {
    let partitions = [PartitionState::empty(1, 1)];
    let mut transaction = Transaction::begin(&partitions, storage.snapshot());
    asks.inspect(|(before, _)| assert_eq!(transaction.summary(&KEY).map(items), Ok(*before)));
    put.iter().for_each(|number| transaction.put(item(*number), row(*number + 1)));
    remove.iter().for_each(|number| transaction.put(item(*number), Row::new()));
    asks.inspect(|(_, after)| assert_eq!(transaction.summary(&KEY).map(items), Ok(*after)));
    storage.commit(transaction.finish().unwrap().batch).unwrap();
    on_record(storage)
}

fn items(summary: Summary) -> u64 {
    summary.count(Kind::Item)
}

fn on_record(storage: &dyn Storage) -> Option<u64> {
    Collection::read(&*storage.snapshot(), Place::of(&KEY, 1), &KEY).unwrap().map(|collection| items(collection.summary))
}

#[test]
fn the_number_of_items_is_kept_with_the_rows_and_counted_where_it_is_not_known() {
    let storage = SimDisk::default().open();
    assert_eq!(change(&*storage, &[1, 2, 3], &[], None), Some(3));
    assert_eq!(change(&*storage, &[4], &[1, 9], Some((3, 3))), Some(3));
    assert_eq!(change(&*storage, &[5, 6, 6], &[2], None), Some(4));
    assert_eq!(change(&*storage, &[6], &[], Some((4, 4))), Some(4));
    assert_eq!(change(&*storage, &[], &[3, 4, 5, 6], Some((4, 0))), None);
    assert_eq!(change(&*storage, &[1, 2], &[], Some((0, 2))), Some(2));
    // What is lost is derived anew with the next change.
    let mut lost = crate::env::Batch::default();
    lost.delete(layout::collection_key(Place::of(&KEY, 1), &KEY));
    storage.commit(lost).unwrap();
    assert_eq!((on_record(&*storage), change(&*storage, &[3], &[2], None)), (None, Some(2)));
    let partitions = [PartitionState::empty(1, 1)];
    let mut transaction = Transaction::begin(&partitions, storage.snapshot());
    let damaged = vec![layout::row_key(Place::of(&KEY, 1), &item(1))];
    transaction.drop_damaged(Partition(0), damaged, crate::env::Batch::default()).unwrap();
    storage.commit(transaction.finish().unwrap().batch).unwrap();
    assert_eq!((on_record(&*storage), change(&*storage, &[7], &[], Some((1, 2)))), (None, Some(2)));
    let mut transaction = Transaction::begin(&partitions, storage.snapshot());
    transaction.empty(Partition(0)).unwrap();
    storage.commit(transaction.finish().unwrap().batch).unwrap();
    assert_eq!((on_record(&*storage), change(&*storage, &[7], &[], Some((0, 1)))), (None, Some(1)));
}

/// Counts what is scanned.
struct Scanned(Arc<dyn Snapshot>, Arc<AtomicUsize>);

impl Snapshot for Scanned {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.1.fetch_add(usize::from(from == layout::rows_of_items(Place::of(&KEY, 1), &KEY).0), Ordering::Relaxed);
        self.0.scan(from, until, visit)
    }

    fn scan_back(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.1.fetch_add(usize::from(until == layout::rows_of_items(Place::of(&KEY, 1), &KEY).1), Ordering::Relaxed);
        self.0.scan_back(from, until, visit)
    }
}

proptest! {
    #[test]
    fn visits_find_every_item_though_they_step_over_the_ends(
        batches in proptest::collection::vec((proptest::collection::vec((0..24u64, any::<bool>()), 0..5), 0..6u8), 1..30),
    ) {
        let storage = SimDisk::default().open();
        let partitions = [PartitionState::empty(1, 1)];
        let mut model: BTreeMap<u64, Row> = BTreeMap::new();
        for (changes, asks) in batches {
            let mut transaction = Transaction::begin(&partitions, storage.snapshot());
            let visit = |transaction: &Transaction<'_>, model: &BTreeMap<u64, Row>| {
                let all: Vec<_> = model.iter().map(|(number, row)| (item(*number), row.clone())).collect();
                let most = if asks % 2 == 0 { 1 } else { usize::MAX };
                match asks / 2 {
                    0 => prop_assert_eq!(visited(transaction, Kind::Expiry, Order::Forward, most), all.into_iter().take(most).collect::<Vec<_>>()),
                    1 => prop_assert_eq!(visited(transaction, Kind::Item, Order::Back, most), all.into_iter().rev().take(most).collect::<Vec<_>>()),
                    _ => prop_assert_eq!(transaction.summary(&KEY).map(items), Ok(all.len() as u64)),
                }
                Ok(())
            };
            visit(&transaction, &model)?;
            for (number, put) in changes {
                let changed = if put { row(number + 1) } else { Row::new() };
                transaction.put(item(number), changed.clone());
                if put { model.insert(number, changed); } else { model.remove(&number); }
            }
            visit(&transaction, &model)?;
            storage.commit(transaction.finish().unwrap().batch).unwrap();
        }
    }
}

#[test]
fn a_queue_is_not_searched_for_its_front_nor_a_stack_for_its_top() {
    let storage = SimDisk::default().open();
    let partitions = [PartitionState::empty(1, 1)];
    assert_eq!(change(&*storage, &(0..200).collect::<Vec<_>>(), &[], Some((0, 200))), Some(200));
    let from_the_ends = Arc::new(AtomicUsize::new(0));
    for turn in 0..80u64 {
        let snapshot = Scanned(storage.snapshot(), Arc::clone(&from_the_ends));
        let mut transaction = Transaction::begin(&partitions, Arc::new(snapshot));
        let (order, expected) = if turn % 2 == 0 { (Order::Forward, turn / 2) } else { (Order::Back, 199 - turn / 2) };
        let (found, _) = visited(&transaction, if order == Order::Forward { Kind::Expiry } else { Kind::Item }, order, 1).remove(0);
        assert_eq!(found, item(expected));
        transaction.put(found, Row::new());
        storage.commit(transaction.finish().unwrap().batch).unwrap();
    }
    assert_eq!(from_the_ends.load(Ordering::Relaxed), 0);
}
