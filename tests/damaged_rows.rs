//! Rows that are lost or changed on one peer's disk behind its back: noticed without being asked for, mended from the others, and in nobody's way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{Durability, NodeConfig};
use ringtide::crdt::command::Answer;
use ringtide::crdt::delta::Kind;
use ringtide::crdt::key::{self, ExpireCondition};
use ringtide::crdt::sorted_set::{self, AddCondition, Score};
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::node::Node;
use ringtide::replica::layout;
use ringtide::sim::clock::SimClock;
use ringtide::sim::network::SimNetwork;
use ringtide::sim::storage::SimDisk;
use ringtide::types::{Level, PeerId, Place};
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
        scrub_period: Some(PERIOD),
        seed: index as u64,
        ..NodeConfig::default()
    };
    let (process, links, events) = network.join(id(index));
    (process, Node::start(config, links, events, disk.open(), Arc::new(SimClock::new())).await.unwrap())
}

fn numbered(number: u32) -> Bytes {
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
            nodes[0].write(Level::All, numbered(number), set(format!("value {number}"))).await.unwrap();
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
        let struck = cluster.row_of(&numbered(17));
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
async fn a_read_that_meets_a_damaged_row_is_answered_by_the_others_and_has_it_mended() {
    let cluster = Cluster::filled().await;
    let before = cluster.rows();
    cluster.disks[1].spoil(&cluster.row_of(&numbered(17)), 0x155);
    let victim = &cluster.nodes[1];
    assert!(victim.read(Level::Local, numbered(17), Query::Get).await.is_err_and(|error| error.to_string().contains("damaged")));
    for level in [Level::One, Level::Sloppy, Level::Quorum] {
        assert_eq!(victim.read(level, numbered(17), Query::Get).await, Ok(Answer::Bytes("value 17".into())));
    }
    // Long before the search for damage comes there.
    let is_mended = || cluster.rows() == before && victim.status().syncing == 0;
    cluster.wait_until("the row is there again", Duration::from_secs(10), is_mended).await;
    assert_eq!(victim.status().damage.partitions, 1);
    let shown = victim.set_aside(&numbered(17)).unwrap();
    assert!(matches!(shown.as_slice(), [row] if row.kind == Some(Kind::Value)), "{shown:?}");
    assert_eq!(victim.read(Level::Local, numbered(17), Query::Get).await, Ok(Answer::Bytes("value 17".into())));
}

/// Storage keys of what is derived of rows, with their values.
fn derived(disk: &SimDisk) -> Vec<(Vec<u8>, Bytes)> {
    let mut found = Vec::new();
    for tag in [b"c", b"x", b"z"] {
        disk.visit(tag, &[tag[0] + 1], &mut |key, value| {
            found.push((key.to_vec(), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        });
    }
    found
}

#[tokio::test(start_paused = true)]
async fn what_is_derived_of_rows_is_derived_anew_where_it_is_lost_or_wrong() {
    let cluster = Cluster::filled().await;
    let board = Bytes::from_static(b"board");
    for (score, member) in [(1.0, "one"), (2.0, "two"), (3.0, "three")] {
        let members = vec![(Bytes::from(member), Score::new(score))];
        let add = sorted_set::Mutation::Add { members, condition: AddCondition::default(), changed: false };
        cluster.nodes[0].write(Level::All, board.clone(), add).await.unwrap();
    }
    let at_ms = i64::try_from(cluster.nodes[0].now_ms()).unwrap() + 24 * 60 * 60 * 1000;
    let expire = key::Mutation::Expire { at_ms, condition: ExpireCondition::Always };
    cluster.nodes[0].write(Level::All, board.clone(), expire).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let (victim, disk) = (&cluster.nodes[1], &cluster.disks[1]);
    let (rows, whole) = (cluster.rows(), derived(disk));
    assert_eq!(whole.len(), 5, "a record, an end and three ranks");
    let mut mended = 0;
    let mut is_mended = async || {
        mended += 1;
        cluster.wait_until("it is right again", PERIOD + Duration::from_secs(15), || derived(disk) == whole).await;
        assert_eq!((victim.status().damage.derived, victim.status().damage.partitions), (mended, 0));
        assert_eq!(cluster.rows(), rows, "the rows were whole");
    };
    for (key, value) in &whole {
        disk.lose(key);
        is_mended().await;
        // An entry of the index says all in its key.
        if !value.is_empty() {
            let mut wrong = value.to_vec();
            *wrong.last_mut().unwrap() ^= 1;
            disk.set_back(key, wrong.into());
            is_mended().await;
        }
    }
    let place = |key: &[u8]| Place::of(key, PARTITIONS);
    for stray in [layout::rank_key(place(&board), &board, Score::new(4.0), b"four"), layout::collection_key(place(b"nothing"), b"nothing")]
    {
        disk.set_back(&stray, whole[0].1.clone());
        is_mended().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whole_rows_are_never_taken_for_damaged_while_they_change() {
    let cluster = Cluster::filled().await;
    for round in 0..3 * PERIOD.as_secs() {
        let number = u32::try_from(round % u64::from(KEYS)).unwrap();
        cluster.nodes[usize::try_from(round % 3).unwrap()].write(Level::One, numbered(number), set(round.to_string())).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    for node in &cluster.nodes {
        assert_eq!(node.status().damage.partitions, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_no_write_can_be_joined_to_is_set_aside_and_stops_nobody() {
    let mut cluster = Cluster::filled().await;
    let struck = cluster.row_of(&numbered(17));
    cluster.disks[1].spoil(&struck, 0x155);
    // Another peer's write reaches the damaged row, and the peer's own clients write to it and beside it.
    cluster.nodes[0].write(Level::Quorum, numbered(17), set("from another".to_owned())).await.unwrap();
    cluster.disks[1].spoil(&cluster.row_of(&numbered(23)), 0x155);
    cluster.nodes[1].write(Level::Quorum, numbered(23), set("from its own client".to_owned())).await.unwrap();
    cluster.nodes[1].write(Level::Quorum, numbered(24), set("beside it".to_owned())).await.unwrap();
    let victim = &cluster.nodes[1];
    cluster.wait_until("it is synced anew", Duration::from_secs(60), || victim.status().syncing == 0).await;
    assert_eq!(victim.status().damage.rows_aside, 2);
    for (number, value) in [(17, "from another"), (23, "from its own client"), (24, "beside it")] {
        assert_eq!(victim.read(Level::Local, numbered(number), Query::Get).await, Ok(Answer::Bytes(value.into())));
    }
    // What was set aside is there after a start, and in nobody's way.
    cluster.network.leave(cluster.processes[1]);
    cluster.nodes.remove(1);
    let (_, again) = start(&cluster.network, &cluster.disks[1], 1).await;
    assert_eq!(again.status().damage.rows_aside, 2);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(again.read(Level::Quorum, numbered(17), Query::Get).await, Ok(Answer::Bytes("from another".into())));
}
