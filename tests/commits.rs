//! One replica over a simulated disk, without a node around it: what becomes visible and durable together, and what it tells others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ringtide::crdt::command::Selection;
use ringtide::crdt::delta::{Causal, RowAddress};
use ringtide::crdt::string::{Mutation, SetCondition, SetExpiry};
use ringtide::env::message::{Message, Reply};
use ringtide::env::storage::Task;
use ringtide::env::{Batch, Snapshot, Storage, StorageError};
use ringtide::members::Members;
use ringtide::replica::Replica;
use ringtide::replica::execution::{Change, Command, Work};
use ringtide::replica::journal;
use ringtide::replica::partition::{PartitionChange, PartitionState, from_bytes, to_bytes};
use ringtide::ring::{Ring, RingMember};
use ringtide::sim::clock::SimClock;
use ringtide::sim::storage::{SimDisk, SimStorage};
use ringtide::types::{Digest, Partition, PeerId, Place, Timestamp};

const PARTITIONS: u16 = 4;
const LOCAL: PeerId = PeerId([1; 32]);
const KEY: Bytes = Bytes::from_static(b"key");

/// Counts commits.
struct Counted {
    disk: Arc<SimStorage>,
    commits: AtomicUsize,
}

impl Storage for Counted {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.disk.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.disk.commit(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.disk.sync()
    }

    fn lease(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.disk.lease()
    }

    fn put_lease(&self, record: &[u8]) -> Result<(), StorageError> {
        self.disk.put_lease(record)
    }

    fn spawn(&self, name: &'static str, task: Task) {
        self.disk.spawn(name, task);
    }
}

fn open() -> (Arc<Counted>, Replica) {
    let storage = Arc::new(Counted { disk: SimDisk::default().open(), commits: AtomicUsize::new(0) });
    let mut replica = Replica::open(storage.clone(), Arc::new(SimClock::new()), PARTITIONS, 7).unwrap();
    let ring = Ring::build(&[RingMember { peer: LOCAL, zone: None, capacity: 1 }], PARTITIONS, 1);
    replica.take_roles(LOCAL, &ring, &BTreeMap::new()).unwrap();
    (storage, replica)
}

fn execute(mutation: Mutation) -> Work {
    Work::Execute(Command { key: KEY, change: Change::Mutation(mutation.into()), blind_for: None })
}

fn set(value: &'static str) -> Work {
    execute(Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false })
}

#[tokio::test(start_paused = true)]
async fn rows_clock_and_tree_of_a_batch_are_one_commit() {
    let (storage, mut replica) = open();
    let before = storage.commits.load(Ordering::Relaxed);
    replica.apply(&[set("one"), set("two"), execute(Mutation::Increment(1))]).unwrap();
    assert_eq!(storage.commits.load(Ordering::Relaxed), before + 1, "what is committed apart can be lost apart");
    let view = replica.view().load_full();
    let page = view.read(&KEY, &Selection::All, None, Timestamp::from_millis(1)).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert!(page.rows.values().flat_map(BTreeMap::keys).all(|dot| page.causal.clock.contains(*dot)));
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_gone_since_they_were_listed_are_left_out() {
    let (_, mut replica) = open();
    replica.apply(&[set("one")]).unwrap();
    let place = Place::of(&KEY, PARTITIONS);
    let state_id = replica.partition(place.partition).state_id;
    let leaf = replica.open_leaves(place.partition, state_id, &[u16::try_from(place.leaf()).unwrap()]).unwrap().remove(0);
    let gone = RowAddress::member(&KEY, &Bytes::from_static(b"gone"));
    let (answered, rows, _) = leaf.tell_rows(&[gone, RowAddress::value(&KEY)], PARTITIONS, usize::MAX).unwrap();
    assert_eq!(answered, 2);
    assert_eq!(rows.rows.keys().collect::<Vec<_>>(), [&RowAddress::value(&KEY)]);
    let frame = Message::Reply { id: 1, reply: Box::new(Reply::Rows(vec![(answered, rows)])) }.to_frame();
    assert!(Message::from_frame(&frame).is_ok(), "nobody would understand the answer");
}

#[test]
fn a_record_with_something_behind_it_is_damaged() {
    let record = to_bytes(&Members::default());
    assert!(from_bytes::<Members>("the member list", &record).is_ok());
    assert!(from_bytes::<Members>("the member list", &[record, vec![0]].concat()).is_err());
    let record = journal::to_bytes(&[], &[]);
    assert!(journal::replay(&record.clone().into(), &mut []).is_ok());
    assert!(journal::replay(&[record, vec![0]].concat().into(), &mut []).is_err());
}

#[test]
fn a_leaf_that_no_tree_has_does_not_break_the_sum() {
    let mut state = PartitionState::empty(1, 1);
    let leaves = [(7, Digest(5)), (u16::MAX, Digest(6))].into();
    let (causal, partition) = (Causal::default(), Partition(0));
    state.apply(PartitionChange { partition, causal, keys: 1, first_sync: None, leaves, emptied: false });
    assert_eq!((state.total, state.tree.total()), (Digest(5), Digest(5)));
}
