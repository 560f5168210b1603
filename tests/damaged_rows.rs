//! Rows that are lost or changed on one peer's disk behind its back: noticed without being asked for, mended from the others, and in nobody's way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{Durability, NodeConfig};
use ringtide::crdt::command::Answer;
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::node::Node;
use ringtide::replica::layout;
use ringtide::sim::clock::SimClock;
use ringtide::sim::network::SimNetwork;
use ringtide::sim::storage::SimDisk;
use ringtide::types::{Level, PeerId};
use tokio::time::sleep;

const PARTITIONS: u16 = 8;
const KEYS: u32 = 40;
const PERIOD: Duration = Duration::from_secs(120);

struct Cluster {
    network: SimNetwork,
    disks: Vec<SimDisk>,
    nodes: Vec<Node>,
    /// What names their processes on the network.
    processes: Vec<u64>,
}

fn id(index: usize) -> PeerId {
    PeerId([u8::try_from(index).unwrap() + 1; 32])
}

async fn start(network: &SimNetwork, disk: &SimDisk, index: usize) -> (u64, Node) {
    let config = NodeConfig {
        partitions: PARTITIONS,
        durability: Durability::System,
        // So seldom that only the search for damage can find it.
        anti_entropy_interval: Duration::from_secs(24 * 60 * 60),
        scrub_period: PERIOD,
        seed: index as u64,
        ..NodeConfig::default()
    };
    let (process, links, events) = network.join(id(index));
    (process, Node::start(config, links, events, disk.open(), Arc::new(SimClock::new())).await.unwrap())
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("key {number}"))
}

fn set(value: String) -> Mutation {
    Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }
}

impl Cluster {
    /// Three peers that have everything.
    async fn filled() -> Self {
        let network = SimNetwork::new(7, PARTITIONS);
        let disks = vec![SimDisk::default(), SimDisk::default(), SimDisk::default()];
        let (mut processes, mut nodes) = (Vec::new(), Vec::new());
        for (index, disk) in disks.iter().enumerate() {
            let (process, node) = start(&network, disk, index).await;
            processes.push(process);
            nodes.push(node);
        }
        while nodes.iter().any(|node| node.status().up < 3 || node.status().syncing > 0) {
            sleep(Duration::from_secs(1)).await;
        }
        for number in 0..KEYS {
            nodes[0].write(Level::All, key(number), set(format!("value {number}"))).await.unwrap();
        }
        sleep(Duration::from_secs(5)).await;
        Self { network, disks, nodes, processes }
    }

    /// The stored rows of the second peer.
    fn rows(&self) -> Vec<(Vec<u8>, Bytes)> {
        let mut rows = Vec::new();
        self.disks[1].visit(b"r", b"s", &mut |row_key, value| {
            rows.push((row_key.to_vec(), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        });
        rows
    }

    fn row_of(&self, wanted: &Bytes) -> Vec<u8> {
        let is_wanted =
            |(row_key, value): &(Vec<u8>, Bytes)| layout::parse_row(row_key, value).is_ok_and(|(address, _)| address.key == *wanted);
        self.rows().into_iter().find(is_wanted).unwrap().0
    }

    async fn wait_until(&self, what: &str, limit: Duration, condition: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + limit;
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
            sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_lost_or_changed_at_rest_is_found_within_a_period_and_mended() {
    for is_lost in [true, false] {
        let cluster = Cluster::filled().await;
        let before = cluster.rows();
        let struck = cluster.row_of(&key(17));
        if is_lost {
            cluster.disks[1].lose(&struck)
        } else {
            cluster.disks[1].spoil(&struck, 0x155)
        }
        assert_ne!(cluster.rows(), before);
        let victim = &cluster.nodes[1];
        // One period after the strike every partition was read; a pull takes moments.
        cluster.wait_until("the row is there again", PERIOD + Duration::from_secs(15), || cluster.rows() == before).await;
        cluster.wait_until("it counts again", Duration::from_secs(5), || victim.status().syncing == 0).await;
        let damage = victim.status().damage;
        assert_eq!((damage.partitions, damage.rows_aside), (1, u64::from(!is_lost)));
        assert!(victim.converged(None).await);
        assert_eq!([0, 2].map(|index: usize| cluster.nodes[index].status().damage.partitions), [0, 0], "nobody else is concerned");
    }
}

#[tokio::test(start_paused = true)]
async fn whole_rows_are_never_taken_for_damaged_while_they_change() {
    let cluster = Cluster::filled().await;
    for round in 0..3 * PERIOD.as_secs() {
        let number = u32::try_from(round % u64::from(KEYS)).unwrap();
        cluster.nodes[usize::try_from(round % 3).unwrap()].write(Level::One, key(number), set(round.to_string())).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    for node in &cluster.nodes {
        assert_eq!(node.status().damage.partitions, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_no_write_can_be_joined_to_is_set_aside_and_stops_nobody() {
    let mut cluster = Cluster::filled().await;
    let struck = cluster.row_of(&key(17));
    cluster.disks[1].spoil(&struck, 0x155);
    // Another peer's write reaches the damaged row, and the peer's own clients write to it and beside it.
    cluster.nodes[0].write(Level::Quorum, key(17), set("from another".to_owned())).await.unwrap();
    cluster.disks[1].spoil(&cluster.row_of(&key(23)), 0x155);
    cluster.nodes[1].write(Level::Quorum, key(23), set("from its own client".to_owned())).await.unwrap();
    cluster.nodes[1].write(Level::Quorum, key(24), set("beside it".to_owned())).await.unwrap();
    let victim = &cluster.nodes[1];
    cluster.wait_until("it is synced anew", Duration::from_secs(60), || victim.status().syncing == 0).await;
    assert_eq!(victim.status().damage.rows_aside, 2);
    for (number, value) in [(17, "from another"), (23, "from its own client"), (24, "beside it")] {
        assert_eq!(victim.read(Level::Local, key(number), Query::Get).await, Ok(Answer::Bytes(value.into())));
    }
    // What was set aside is there after a start, and in nobody's way.
    cluster.network.leave(cluster.processes[1]);
    cluster.nodes.remove(1);
    let (_, again) = start(&cluster.network, &cluster.disks[1], 1).await;
    assert_eq!(again.status().damage.rows_aside, 2);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(again.read(Level::Quorum, key(17), Query::Get).await, Ok(Answer::Bytes("from another".into())));
}
