//! A peer whose file with its identity is gone starts as a new peer on the old data. It has other partitions by the ring than the data are of.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{Durability, NodeConfig};
use ringtide::crdt::command::Answer;
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::node::Node;
use ringtide::replica::whose::{self, Taken};
use ringtide::sim::clock::SimClock;
use ringtide::sim::network::SimNetwork;
use ringtide::sim::storage::SimDisk;
use ringtide::types::{Level, PeerId};
use tokio::time::{Instant, sleep};

const PARTITIONS: u16 = 16;
const KEYS: u32 = 60;

fn id(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("key {number}"))
}

async fn start(network: &SimNetwork, disk: &SimDisk, number: u8, is_new: bool) -> (Taken, u64, Node) {
    let config = NodeConfig { partitions: PARTITIONS, durability: Durability::System, seed: u64::from(number), ..NodeConfig::default() };
    let storage = disk.open();
    let taken = whose::take(&*storage, id(number), is_new).unwrap();
    let (process, links, events) = network.join(id(number));
    (taken, process, Node::start(config, links, events, storage, Arc::new(SimClock::new())).await.unwrap())
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < limit, "not within two minutes: {what}");
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_peer_on_old_data_counts_for_nothing_that_these_data_lack() {
    let network = SimNetwork::new(7, PARTITIONS);
    let disks: Vec<SimDisk> = (0..5).map(|_| SimDisk::default()).collect();
    let (mut processes, mut nodes) = (Vec::new(), Vec::new());
    for (number, disk) in (1..).zip(&disks) {
        let (taken, process, node) = start(&network, disk, number, true).await;
        assert_eq!(taken, Taken::Own);
        processes.push(process);
        nodes.push(node);
    }
    wait_until("all are there", || nodes.iter().all(|node| node.status().up == 5 && node.status().syncing == 0)).await;
    for number in 0..KEYS {
        let set = Mutation::Set { value: key(number), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false };
        nodes[0].write(Level::All, key(number), set).await.unwrap();
    }
    network.leave(processes[4]);
    nodes.pop();
    wait_until("the others notice", || nodes.iter().all(|node| node.status().up == 4)).await;

    let (taken, _, new) = start(&network, &disks[4], 9, true).await;
    assert_eq!(taken, Taken::Inherited(id(5)));
    let holds = new.ring().iter().filter(|holders| holders.contains(&id(9))).count();
    assert!(holds > 0);
    assert_eq!(new.status().syncing, holds, "nobody has told it anything yet");
    wait_until("it is synced, though the peer that it was is gone", || new.status().up == 5 && new.status().syncing == 0).await;
    wait_until("the others have what it held before", || nodes.iter().all(|node| node.status().syncing == 0)).await;
    for number in 0..KEYS {
        assert_eq!(new.read(Level::Quorum, key(number), Query::Get).await, Ok(Answer::Bytes(key(number))));
    }
}
