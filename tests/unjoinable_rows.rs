//! A row whose join panics at one peer: it is set aside there and shown, its partition and everybody else go on, and nothing of it is lost.
//!
//! The panic comes out of the storage, which these tests put in the place of the real one: where a marked row is looked up, the join that needs it panics.
//! And so does anything else that reads or writes, where that is what is wrong: then nobody waits in vain, and a peer without its writer stops and says why.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{FutureExt, join_all};
use ringtide::config::{Durability, NodeConfig};
use ringtide::crdt::command::Answer;
use ringtide::crdt::delta::RowAddress;
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::crdt::{key, set};
use ringtide::env::storage::{Batch, Snapshot, Storage, StorageError, Task, Visitor};
use ringtide::node::{Node, OperationError};
use ringtide::replica::layout;
use ringtide::sim::clock::SimClock;
use ringtide::sim::network::SimNetwork;
use ringtide::sim::storage::SimDisk;
use ringtide::types::{Level, PeerId, Place};
use tokio::time::{Instant, sleep, timeout};

const PARTITIONS: u16 = 4;
const POISON: Bytes = Bytes::from_static(b"poison");

/// What a storage panics at.
#[derive(Default)]
struct Wrong {
    /// Keys that can't be looked up.
    keys: BTreeSet<Vec<u8>>,
    /// Whether no row can be read.
    rows: bool,
    /// Whether nothing can be written.
    commits: bool,
}

type Marked = Arc<Mutex<Wrong>>;

/// A storage that panics.
struct Panicking {
    storage: Arc<dyn Storage>,
    marked: Marked,
}

struct PanickingSnapshot {
    snapshot: Arc<dyn Snapshot>,
    marked: Marked,
}

impl PanickingSnapshot {
    fn read(&self, key: &[u8]) {
        let fails = key.starts_with(b"r") && self.marked.lock().unwrap().rows;
        assert!(!fails, "no row can be read");
    }
}

impl Storage for Panicking {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(PanickingSnapshot { snapshot: self.storage.snapshot(), marked: Arc::clone(&self.marked) })
    }

    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        let fails = self.marked.lock().unwrap().commits;
        assert!(!fails, "nothing can be written");
        self.storage.commit(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.storage.sync()
    }

    fn lease(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.lease()
    }

    fn put_lease(&self, record: &[u8]) -> Result<(), StorageError> {
        self.storage.put_lease(record)
    }

    fn spawn(&self, name: &'static str, task: Task) {
        self.storage.spawn(name, task);
    }
}

impl Snapshot for PanickingSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let is_marked = self.marked.lock().unwrap().keys.contains(key);
        assert!(!is_marked, "a row that no join survives");
        self.read(key);
        self.snapshot.get(key)
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.read(from);
        self.snapshot.scan(from, until, visit)
    }

    fn scan_back(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.read(from);
        self.snapshot.scan_back(from, until, visit)
    }
}

/// Three peers; the last one has marked rows.
struct Cluster {
    network: SimNetwork,
    disk: SimDisk,
    marked: Marked,
    nodes: Vec<Node>,
    /// What names the last one's process on the network.
    process: u64,
}

async fn start(network: &SimNetwork, storage: Arc<dyn Storage>, index: u8) -> (u64, Node) {
    let config = NodeConfig {
        partitions: PARTITIONS,
        durability: Durability::System,
        anti_entropy_interval: Duration::from_secs(60),
        seed: u64::from(index),
        ..NodeConfig::default()
    };
    let (process, links, events) = network.join(PeerId([index + 1; 32]));
    (process, Node::start(config, links, events, storage, Arc::new(SimClock::new())).await.unwrap())
}

fn value_row(key: &Bytes) -> Vec<u8> {
    layout::row_key(Place::of(key, PARTITIONS), &RowAddress::value(key))
}

/// Keys that lie in the same partition as the poisoned one.
fn neighbours() -> impl Iterator<Item = Bytes> {
    let partition = Place::of(&POISON, PARTITIONS).partition;
    (0..).map(|number| Bytes::from(format!("key {number}"))).filter(move |key| Place::of(key, PARTITIONS).partition == partition)
}

fn string(value: &'static str) -> Mutation {
    Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }
}

fn is(value: &'static str) -> Result<Answer, OperationError> {
    Ok(Answer::Bytes(value.into()))
}

impl Cluster {
    async fn start() -> Self {
        let network = SimNetwork::new(7, PARTITIONS);
        let (disk, marked) = (SimDisk::default(), Marked::default());
        let mut nodes = Vec::new();
        for index in 0..2 {
            nodes.push(start(&network, SimDisk::default().open(), index).await.1);
        }
        let mut cluster = Self { network, disk, marked, nodes, process: 0 };
        cluster.start_last().await;
        cluster
    }

    async fn start_last(&mut self) {
        let storage = Arc::new(Panicking { storage: self.disk.open(), marked: Arc::clone(&self.marked) });
        let (process, node) = start(&self.network, storage, 2).await;
        self.process = process;
        self.nodes.push(node);
        let nodes = &self.nodes;
        self.wait_until("everybody is synced", || nodes.iter().all(|node| node.status().up == 3 && node.status().syncing == 0)).await;
    }

    async fn stop_last(&mut self) {
        self.network.leave(self.process);
        self.nodes.pop();
        let nodes = &self.nodes;
        self.wait_until("the others notice", || nodes.iter().all(|node| node.status().up == 2)).await;
    }

    fn mark(&self) {
        self.marked.lock().unwrap().keys.insert(value_row(&POISON));
    }

    async fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(120);
        while !condition() {
            assert!(Instant::now() < limit, "not within two minutes: {what}");
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_join_panics_is_set_aside_and_shown_and_nothing_beside_it_is_refused() {
    let cluster = Cluster::start().await;
    cluster.mark();
    // In one batch with others, whose writes it must not take along.
    let neighbours: Vec<Bytes> = neighbours().take(20).collect();
    let writes = neighbours.iter().map(|key| cluster.nodes[0].write(Level::All, key.clone(), string("beside it")));
    let poisoned = cluster.nodes[0].write(Level::Quorum, POISON, string("value"));
    let (beside, poisoned) = futures::join!(join_all(writes), poisoned);
    assert!(poisoned.is_ok(), "the two others have it: {poisoned:?}");
    assert!(beside.iter().all(Result::is_ok), "{beside:?}");

    let last = &cluster.nodes[2];
    assert!(last.write(Level::Local, POISON, string("its own")).await.is_err());
    assert!(last.write(Level::Quorum, POISON, string("elsewhere")).await.is_ok(), "another holder executes it");
    assert_eq!(cluster.nodes[1].read(Level::Quorum, POISON, Query::Get).await, is("elsewhere"));
    assert_eq!(last.read(Level::Local, neighbours[0].clone(), Query::Get).await, is("beside it"));
    assert!(last.status().damage.rows_unjoined > 0);
    assert_eq!([0, 1].map(|index: usize| cluster.nodes[index].status().damage.rows_unjoined), [0, 0], "nobody else is concerned");
    let shown = last.set_aside(&POISON).unwrap();
    assert!(shown.iter().any(|row| row.reason.contains("a row that no join survives")), "{shown:?}");
    assert_eq!(last.set_aside(&neighbours[0]).unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_pull_leaves_out_a_row_whose_join_panics_and_nobody_takes_it_for_deleted() {
    let mut cluster = Cluster::start().await;
    for key in neighbours().take(20).chain([POISON]) {
        cluster.nodes[0].write(Level::All, key, string("before")).await.unwrap();
    }
    // With a blank disk it has everything from pulls.
    cluster.stop_last().await;
    cluster.disk.replace(None);
    cluster.mark();
    cluster.start_last().await;
    let last = &cluster.nodes[2];
    for _ in 0..3 {
        last.sync().await;
    }
    for key in neighbours().take(20) {
        assert_eq!(last.read(Level::Local, key, Query::Get).await, is("before"));
    }
    assert!(last.set_aside(&POISON).unwrap().iter().any(|row| row.kind.is_some()), "it is known which row it is");
    let pulls = cluster.nodes[0].sync().await;
    assert_eq!(pulls.rows_received, 0, "what was left out there is not missing here");
    assert_eq!(cluster.nodes[1].read(Level::Quorum, POISON, Query::Get).await, is("before"));

    // What was wrong with it is mended, and the peer started again: it takes the row like any other.
    cluster.stop_last().await;
    cluster.marked.lock().unwrap().keys.clear();
    cluster.start_last().await;
    let last = &cluster.nodes[2];
    last.sync().await;
    assert_eq!(last.read(Level::Local, POISON, Query::Get).await, is("before"));
    assert!(last.converged(None).await);
    last.write(Level::All, POISON, key::Mutation::Delete).await.unwrap();
    assert!(cluster.nodes[0].converged(None).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_a_peer_that_panics_is_told_at_once_and_the_peer_goes_on() {
    let cluster = Cluster::start().await;
    let members = set::Mutation::Add(vec!["member".into()]);
    cluster.nodes[0].write(Level::All, POISON, members).await.unwrap();
    let contains = || cluster.nodes[0].read(Level::All, POISON, set::Query::Contains(vec!["member".into()]));
    let seen = contains().await;
    assert!(seen.is_ok());
    cluster.marked.lock().unwrap().rows = true;
    // What takes microseconds is answered where frames are taken in, everything else beside that.
    let begun = Instant::now();
    assert!(contains().await.is_err(), "all are asked, and one can't read");
    assert!(cluster.nodes[0].scan(Level::All, 0, 10).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(500), "it need not be waited for: {:?}", begun.elapsed());
    cluster.marked.lock().unwrap().rows = false;
    assert_eq!(contains().await, seen);
    assert_eq!(cluster.nodes[2].failed().now_or_never(), None);
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_writer_panics_stops_and_says_why() {
    let cluster = Cluster::start().await;
    cluster.marked.lock().unwrap().commits = true;
    let last = &cluster.nodes[2];
    let written = last.write(Level::Local, POISON, string("value")).await;
    assert!(matches!(&written, Err(OperationError::Stopped(_))), "{written:?}");
    let reason = timeout(Duration::from_secs(1), last.failed()).await.unwrap();
    assert!(reason.contains("nothing can be written"), "{reason}");
    assert!(cluster.nodes[0].write(Level::Quorum, POISON, string("value")).await.is_ok());
}
