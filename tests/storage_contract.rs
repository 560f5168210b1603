//! What the layers above may rely on in a storage, asked of the real one and of the simulated one alike.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ringtide::backend::{FjallOptions, FjallStorage, OpenError};
use ringtide::env::storage::{MAX_STORAGE_KEY, MAX_STORAGE_VALUE};
use ringtide::env::{Batch, Snapshot, Storage, StorageError};
use ringtide::sim::storage::SimDisk;
use tempfile::TempDir;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A disk that can be opened again after everything of the last opening was dropped.
trait Disk {
    fn open(&self) -> Arc<dyn Storage>;
}

struct FjallDisk(TempDir);

impl FjallDisk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

fn small() -> FjallOptions {
    FjallOptions { memory_bytes: 16 << 20, memtable_bytes: 16 << 10 }
}

impl Disk for FjallDisk {
    fn open(&self) -> Arc<dyn Storage> {
        Arc::new(FjallStorage::open(self.0.path(), small()).unwrap())
    }
}

impl Disk for SimDisk {
    fn open(&self) -> Arc<dyn Storage> {
        Self::open(self)
    }
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod fjall {
            $(#[test] fn $name() { super::$name(&super::FjallDisk::new()); })*
        }
        mod simulated {
            $(#[test] fn $name() { super::$name(&super::SimDisk::default()); })*
        }
    };
}

contract! {
    a_batch_shows_as_a_whole_and_its_last_change_counts
    snapshots_do_not_move
    scans_are_ordered_bounded_and_stop_when_told
    keys_of_every_shape_come_back
    limits_are_checked_before_anything_is_written
    everything_is_there_after_reopening
    the_lease_is_what_was_put_last
    readers_never_see_half_a_batch
    tasks_run_with_timers_and_can_block
    does_what_a_map_does
}

fn batch(changes: &[(&[u8], Option<&[u8]>)]) -> Batch {
    Batch { changes: changes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect() }
}

/// Every row between two bounds, in order; both directions must show the same.
fn rows_between(snapshot: &dyn Snapshot, from: &[u8], until: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut rows, mut rows_back) = (Vec::new(), Vec::new());
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    snapshot.scan(from, until, visit).unwrap();
    let visit_back = &mut |key: &[u8], value: &[u8]| {
        rows_back.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    snapshot.scan_back(from, until, visit_back).unwrap();
    rows_back.reverse();
    assert_eq!(rows, rows_back, "{from:?} to {until:?} and back");
    rows
}

fn all_rows(storage: &dyn Storage) -> Rows {
    rows_between(&*storage.snapshot(), &[], &[0xff; MAX_STORAGE_KEY + 1]).into_iter().collect()
}

fn a_batch_shows_as_a_whole_and_its_last_change_counts(disk: &dyn Disk) {
    let storage = disk.open();
    storage.commit(batch(&[(b"b", Some(b"1")), (b"a", Some(b"1")), (b"b", Some(b"2")), (b"c", Some(b"1")), (b"c", None)])).unwrap();
    let expected = Rows::from([(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(all_rows(&*storage), expected);
    storage.commit(batch(&[(b"a", None), (b"a", Some(b"3")), (b"b", None), (b"absent", None)])).unwrap();
    storage.commit(Batch::default()).unwrap();
    assert_eq!(all_rows(&*storage), Rows::from([(b"a".to_vec(), b"3".to_vec())]));
    assert_eq!(storage.snapshot().get(b"a").unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(storage.snapshot().get(b"b").unwrap(), None);
}

fn snapshots_do_not_move(disk: &dyn Disk) {
    let storage = disk.open();
    let mut held = Vec::new();
    let mut model = Rows::new();
    for round in 0..60u8 {
        let (key, other) = ([round % 7], [100 + round % 5]);
        let value = vec![round; 2000];
        storage.commit(batch(&[(&key, Some(&value)), (&other, None), (&[100 + (round + 1) % 5], Some(&[round]))])).unwrap();
        model.insert(key.to_vec(), value);
        model.remove(&other[..]);
        model.insert(vec![100 + (round + 1) % 5], vec![round]);
        held.push((storage.snapshot(), model.clone()));
        if round % 3 == 0 {
            held.remove(usize::from(round) % held.len());
        }
    }
    for (snapshot, expected) in &held {
        assert_eq!(rows_between(&**snapshot, &[], &[0xff; 9]).into_iter().collect::<Rows>(), *expected);
        for key in 0..=255 {
            assert_eq!(snapshot.get(&[key]).unwrap().as_deref(), expected.get(&[key][..]).map(Vec::as_slice));
        }
    }
}

fn scans_are_ordered_bounded_and_stop_when_told(disk: &dyn Disk) {
    let storage = disk.open();
    let keys: Vec<Vec<u8>> = (0..200u8).rev().map(|number| vec![1, number]).collect();
    for half in keys.chunks(100) {
        storage.commit(Batch { changes: half.iter().map(|key| (key.clone(), Some(key.clone()))).collect() }).unwrap();
    }
    let snapshot = storage.snapshot();
    let keys_between = |from: &[u8], until: &[u8]| rows_between(&*snapshot, from, until).into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(keys_between(&[], &[2]), keys.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(keys_between(&[1, 5], &[1, 8]), [vec![1, 5], vec![1, 6], vec![1, 7]]);
    assert_eq!(keys_between(&[1, 5, 0], &[1, 7, 0]), [vec![1, 6], vec![1, 7]]);
    for (from, until) in [(&[2][..], &[3][..]), (&[1, 5], &[1, 5]), (&[1, 9], &[1, 8]), (&[0], &[1]), (&[9], &[]), (&[], &[])] {
        assert_eq!(keys_between(from, until), Vec::<Vec<u8>>::new(), "{from:?} to {until:?}");
    }
    assert_eq!(keys_between(&[0; 70_000], &vec![0xff; 70_000]).len(), 200);
    for limit in [1, 31, 32, 33, 64, 200] {
        let (mut visited, mut visited_back) = (0, Vec::new());
        let visit = &mut |_: &[u8], _: &[u8]| {
            visited += 1;
            if visited == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        snapshot.scan(&[], &[2], visit).unwrap();
        assert_eq!(visited, limit);
        let visit_back = &mut |key: &[u8], _: &[u8]| {
            visited_back.push(key.to_vec());
            if visited_back.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        snapshot.scan_back(&[], &[2], visit_back).unwrap();
        assert_eq!(visited_back, keys[..limit]);
    }
}

fn keys_of_every_shape_come_back(disk: &dyn Disk) {
    let bytes = [0x00, 0x01, 0x7f, 0xfe, 0xff];
    let mut model = Rows::new();
    for first in bytes {
        model.insert(vec![first], vec![]);
        model.insert(vec![first; MAX_STORAGE_KEY], vec![first; 3]);
        for second in bytes {
            model.insert(vec![first, second], vec![1]);
            model.insert(vec![first, second, 0], vec![2]);
        }
    }
    let storage = disk.open();
    storage.commit(Batch { changes: model.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect() }).unwrap();
    assert_eq!(all_rows(&*storage), model);
    for from in model.keys() {
        for until in model.keys().step_by(7) {
            let expected: Vec<_> = if from < until { model.range(from.clone()..until.clone()).collect() } else { vec![] };
            let found = rows_between(&*storage.snapshot(), from, until);
            assert_eq!(found.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>(), expected);
        }
    }
    drop(storage);
    assert_eq!(all_rows(&*disk.open()), model);
}

fn limits_are_checked_before_anything_is_written(disk: &dyn Disk) {
    let storage = disk.open();
    let long = vec![1; MAX_STORAGE_KEY + 1];
    assert_eq!(storage.commit(batch(&[(b"a", Some(b"1")), (b"", Some(b"1"))])), Err(StorageError::KeyLength(0)));
    assert_eq!(storage.commit(batch(&[(b"a", Some(b"1")), (&long, None)])), Err(StorageError::KeyLength(long.len())));
    assert_eq!(storage.commit(batch(&[(&vec![1; 70_000], Some(b"1"))])), Err(StorageError::KeyLength(70_000)));
    let heavy = vec![0; MAX_STORAGE_VALUE + 1];
    assert_eq!(storage.commit(batch(&[(b"a", Some(&heavy))])), Err(StorageError::ValueLength(heavy.len())));
    assert_eq!(storage.snapshot().get(b""), Err(StorageError::KeyLength(0)));
    assert_eq!(storage.snapshot().get(&long), Err(StorageError::KeyLength(long.len())));
    assert_eq!(all_rows(&*storage), Rows::new());
    storage.commit(batch(&[(b"a", Some(b"1"))])).unwrap();
    storage.sync().unwrap();
}

fn everything_is_there_after_reopening(disk: &dyn Disk) {
    let mut model = Rows::new();
    for round in 0..5u8 {
        let storage = disk.open();
        assert_eq!(all_rows(&*storage), model, "before round {round}");
        for step in 0..40u8 {
            let key = vec![step % 16, round % 2];
            let value = vec![step; 1000];
            storage.commit(batch(&[(&key, Some(&value)), (&[step % 5, 9], None), (&[step % 3, 9], Some(&[round]))])).unwrap();
            model.insert(key, value);
            model.remove(&[step % 5, 9][..]);
            model.insert(vec![step % 3, 9], vec![round]);
        }
        assert_eq!(all_rows(&*storage), model);
    }
}

fn the_lease_is_what_was_put_last(disk: &dyn Disk) {
    let storage = disk.open();
    assert_eq!(storage.lease().unwrap(), None);
    for record in [&b"one"[..], b"two", b"", b"three"] {
        storage.put_lease(record).unwrap();
        assert_eq!(storage.lease().unwrap().as_deref(), Some(record));
    }
    drop(storage);
    let storage = disk.open();
    assert_eq!(storage.lease().unwrap().as_deref(), Some(&b"three"[..]));
    assert_eq!(all_rows(&*storage), Rows::new());
}

fn readers_never_see_half_a_batch(disk: &dyn Disk) {
    let storage = disk.open();
    let rounds = 600u32;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < rounds {
                    let rows = rows_between(&*storage.snapshot(), &[], &[0xff]);
                    let values: Vec<&[u8]> = rows.iter().map(|(_, value)| value.as_slice()).collect();
                    assert!(values.is_empty() || values.len() == 20, "{} rows of 20", values.len());
                    assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
                    let seen = values.first().map_or(0, |value| u32::from_be_bytes(value[..4].try_into().unwrap()));
                    assert!(seen >= last, "a later snapshot shows an older state");
                    last = seen;
                }
            });
        }
        for round in 1..=rounds {
            let value = [&round.to_be_bytes()[..], &[7; 60]].concat();
            storage.commit(Batch { changes: (0..20).map(|key| (vec![key], Some(value.clone()))).collect() }).unwrap();
        }
    });
}

fn tasks_run_with_timers_and_can_block(disk: &dyn Disk) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let storage = disk.open();
    let answered = runtime.block_on(async {
        let (commands, mut queue) = tokio::sync::mpsc::channel::<(u8, tokio::sync::oneshot::Sender<()>)>(8);
        let writer = Arc::clone(&storage);
        storage.spawn(
            "writer",
            Box::pin(async move {
                while let Some((number, done)) = queue.recv().await {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    writer.commit(batch(&[(&[number], Some(b"1"))])).unwrap();
                    writer.sync().unwrap();
                    done.send(()).unwrap();
                }
            }),
        );
        let mut answered = 0;
        for number in 0..10 {
            let (done, finished) = tokio::sync::oneshot::channel();
            commands.send((number, done)).await.unwrap();
            finished.await.unwrap();
            answered += 1;
        }
        answered
    });
    assert_eq!((answered, all_rows(&*storage).len()), (10, 10));
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u16>)>),
    Hold,
    Release,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (any::<u8>(), proptest::option::weighted(0.7, 0..3000u16));
    prop_oneof![
        20 => proptest::collection::vec(change, 1..12).prop_map(Step::Commit),
        3 => Just(Step::Hold),
        3 => Just(Step::Release),
        1 => Just(Step::Reopen),
    ]
}

/// The key of a number: with long ones, and such that begin with the bytes that the backend treats in a special way.
fn key(number: u8) -> Vec<u8> {
    match number % 8 {
        0 => vec![0xff, number],
        1 => vec![0xff],
        2 => vec![number; usize::from(number) * 16 + 1],
        _ => vec![number / 64, number],
    }
}

fn does_what_a_map_does(disk: &dyn Disk) {
    // All cases go to the same disk, so that tables and journals build up.
    let state = std::cell::RefCell::new((Some(disk.open()), Rows::new()));
    let config = ProptestConfig { cases: 24, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..60))| {
        let mut state = state.borrow_mut();
        let (opened, model) = &mut *state;
        let mut held: Vec<(Arc<dyn Snapshot>, Rows)> = Vec::new();
        for step in steps {
            let storage = opened.as_ref().unwrap();
            match step {
                Step::Commit(changes) => {
                    let mut batch = Batch::default();
                    for (number, value) in changes {
                        let value = value.map(|length| vec![length as u8; usize::from(length)]);
                        match &value {
                            Some(value) => model.insert(key(number), value.clone()),
                            None => model.remove(&key(number)),
                        };
                        batch.changes.push((key(number), value));
                    }
                    storage.commit(batch).unwrap();
                }
                Step::Hold => held.push((storage.snapshot(), model.clone())),
                Step::Release => drop(held.pop()),
                Step::Reopen => {
                    for (snapshot, rows) in held.drain(..) {
                        prop_assert_eq!(rows_between(&*snapshot, &[], &[0xff; 9]).into_iter().collect::<Rows>(), rows);
                    }
                    *opened = None;
                    *opened = Some(disk.open());
                }
            }
        }
        prop_assert_eq!(&all_rows(&**opened.as_ref().unwrap()), &*model);
        for number in 0..=255 {
            let found = opened.as_ref().unwrap().snapshot().get(&key(number)).unwrap();
            prop_assert_eq!(found.as_deref(), model.get(&key(number)).map(Vec::as_slice));
        }
    });
}

fn open(folder: &Path) -> FjallStorage {
    FjallStorage::open(folder, small()).unwrap()
}

#[test]
fn a_second_opening_is_refused_with_a_clear_sentence() {
    let disk = FjallDisk::new();
    let first = open(disk.0.path());
    let Err(error) = FjallStorage::open(disk.0.path(), small()) else { panic!("opened twice") };
    assert!(matches!(&error, OpenError::InUse { folder } if folder == disk.0.path()));
    assert!(error.to_string().contains(&disk.0.path().display().to_string()), "{error}");
    drop(first);
    open(disk.0.path());
}

#[test]
fn a_snapshot_that_outlives_the_store_is_not_read_and_keeps_nobody_from_opening_it() {
    let disk = FjallDisk::new();
    let first = open(disk.0.path());
    let held = first.snapshot();
    let mut batch = Batch::default();
    batch.put(key(3), vec![1]);
    first.commit(batch).unwrap();
    drop(first);
    let second = open(disk.0.path());
    assert_eq!(second.snapshot().get(&key(3)).unwrap().as_deref(), Some(&[1][..]));
    let visited = held.scan(&[0], &[0xff], &mut |_, _| panic!("a closed store was read"));
    assert!(visited.is_err() && held.get(&key(3)).is_err());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a reader in another thread takes its time")]
fn closing_a_store_waits_for_who_reads_at_that_moment() {
    let disk = FjallDisk::new();
    let store = open(disk.0.path());
    let mut batch = Batch::default();
    batch.put(key(3), vec![1]);
    store.commit(batch).unwrap();
    let (snapshot, (begun, has_begun)) = (store.snapshot(), std::sync::mpsc::channel());
    let reader = std::thread::spawn(move || {
        let visited = snapshot.scan(&[0], &[0xff], &mut |_, _| {
            begun.send(()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
            ControlFlow::Continue(())
        });
        visited.unwrap();
    });
    has_begun.recv().unwrap();
    drop(store);
    assert!(FjallStorage::open(disk.0.path(), small()).is_ok(), "the reader still had the store open");
    reader.join().unwrap();
}

#[test]
fn a_folder_that_can_not_be_used_is_named() {
    let disk = FjallDisk::new();
    let file = disk.0.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for path in [file.clone(), file.join("below")] {
        let Err(error) = FjallStorage::open(&path, small()) else { panic!("opened {}", path.display()) };
        assert!(matches!(error, OpenError::Unusable { .. }));
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            assert!(std::fs::copy(entry.path(), target).is_ok())
        }
    }
}

#[test]
fn a_copied_folder_has_the_rows_and_no_lease() {
    let disk = FjallDisk::new();
    let (original, copied) = (disk.0.path().join("original"), disk.0.path().join("copied"));
    let storage = open(&original);
    storage.put_lease(b"lease").unwrap();
    storage.commit(batch(&[(b"a", Some(b"1"))])).unwrap();
    drop(storage);
    copy(&original, &copied);
    let storage = open(&copied);
    assert_eq!(all_rows(&storage).len(), 1);
    assert_eq!(storage.lease().unwrap(), None);
    assert!(!storage.lost_tail());
    assert_eq!(open(&original).lease().unwrap().as_deref(), Some(&b"lease"[..]));
}
