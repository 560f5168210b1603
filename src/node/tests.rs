//! What only the inside of a node shows.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::crdt::command::Selection;
use crate::crdt::delta::Delta;
use crate::crdt::scan::Scan;
use crate::crdt::{set, string};
use crate::env::message::Sent;
use crate::former::Former;
use crate::ring::{Ring, RingMember};
use crate::sim::cluster::SimCluster;
use crate::sim::network::{CALM, Weather};
use crate::topology::Cluster;

const KEY: Bytes = Bytes::from_static(b"key");

#[tokio::test(start_paused = true)]
async fn a_read_hears_a_former_holder_that_has_the_only_copy() {
    let cluster = SimCluster::start(2, 2, 7, crate::config::Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let [one, other] = [0, 1].map(|index| cluster.peers[index].node.clone().unwrap());
    cluster.network.set_weather(Weather { lost: 1000, ..CALM });
    one.write(Level::One, KEY, string::Mutation::Increment(5)).await.unwrap();
    // As `other` sees it, `one` holds nothing any more, and has not handed over yet.
    let topology = &other.inner.coordinator.topology;
    let mut former = Former::default();
    former.told(one.inner.coordinator.topology.local(), topology.every_partition().collect(), true);
    let alone = RingMember { peer: topology.local(), zone: None, capacity: 1 };
    let ring = Ring::build(&[alone], topology.partitions(), topology.replicas());
    topology.publish(Cluster { ring, former, ..(*topology.cluster()).clone() });
    cluster.network.set_weather(CALM);
    assert_eq!(other.read(Level::One, KEY, string::Query::Get).await, Ok(Answer::Nil), "the nearest replica alone");
    assert_eq!(other.read(Level::Sloppy, KEY, string::Query::Get).await, Ok(Answer::Bytes("5".into())));
    // Also where it is no member any more.
    let leaving = topology.cluster().reachable.clone();
    topology.publish(Cluster { reachable: BTreeSet::new(), leaving, ..(*topology.cluster()).clone() });
    assert_eq!(other.read(Level::Sloppy, KEY, string::Query::Get).await, Ok(Answer::Bytes("5".into())));
    topology.publish(Cluster { leaving: BTreeSet::new(), ..(*topology.cluster()).clone() });
    // Whoever is down is not asked.
    topology.publish(Cluster { reachable: BTreeSet::new(), ..(*topology.cluster()).clone() });
    assert_eq!(other.inner.coordinator.topology.cluster().reachable_former(Partition(0)).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_holds_what_others_have_seen_go_pulls_from_them() {
    let cluster = SimCluster::start(3, 3, 7, crate::config::Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let nodes = [0, 1, 2].map(|index| cluster.peers[index].node.clone().unwrap());
    let shown = |node: &Node| {
        let view = node.inner.coordinator.view.load();
        view.read(&KEY, &Selection::All, None, view.now(node.inner.coordinator.clock.wall_ms())).unwrap().rows
    };
    nodes[0].write(Level::All, KEY, string::Mutation::Increment(5)).await.unwrap();
    let (address, row) = shown(&nodes[2]).pop_first().unwrap();
    // What was deleted at both others has not come here, nor will by itself.
    let removes = row.keys().map(|dot| (address.clone(), *dot)).collect();
    let partition = nodes[0].inner.coordinator.topology.place(&KEY).partition;
    let sent = Sent { partition, delta: Delta { removes, ..Delta::default() }, hint_for: None };
    for node in &nodes[..2] {
        assert!(node.inner.coordinator.writer.receive(cluster.peers[2].id, 0, 0, vec![sent.clone()], 1));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes.each_ref().map(|node| shown(node).len()), [0, 0, 1]);
    assert_eq!(nodes[2].read(Level::Quorum, KEY, string::Query::Get).await, Ok(Answer::Nil));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(shown(&nodes[2]).len(), 0);
}

/// Walks all keys from one peer; `meanwhile` is called between two steps.
async fn scan(node: &Node, mut meanwhile: impl AsyncFnMut()) -> Vec<Bytes> {
    let (mut keys, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let scanned = node.scan(Level::Sloppy, from, 7).await.unwrap();
        keys.extend(scanned.keys.into_iter().map(|(key, _)| key));
        cursor = scanned.next;
        meanwhile().await;
    }
    keys
}

#[tokio::test(start_paused = true)]
async fn a_walk_over_the_keys_meets_each_once_at_whatever_peer_it_begins() {
    let mut cluster = SimCluster::start(5, 5, 7, crate::config::Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let written: BTreeSet<Bytes> = (0..300).map(|number| Bytes::from(format!("key {number}"))).collect();
    let node = cluster.peers[0].node.clone().unwrap();
    for key in &written {
        node.write(Level::Sloppy, key.clone(), string::Mutation::Increment(1)).await.unwrap();
    }
    for index in 0..5 {
        let met = scan(cluster.peers[index].node.as_ref().unwrap(), async || ()).await;
        assert_eq!(met.len(), written.len());
        assert_eq!(met.into_iter().collect::<BTreeSet<_>>(), written);
    }
    // A peer goes away in the middle.
    let mut steps = 0;
    let met = scan(&node, async || {
        steps += 1;
        if steps == 20 {
            cluster.crash(3, crate::sim::storage::Crash::Process);
        }
    });
    assert_eq!(met.await.into_iter().collect::<BTreeSet<_>>(), written);
}

#[tokio::test(start_paused = true)]
async fn a_walk_over_the_keys_meets_each_while_a_peer_leaves() {
    let cluster = SimCluster::start(5, 5, 7, crate::config::Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let written: BTreeSet<Bytes> = (0..300).map(|number| Bytes::from(format!("key {number}"))).collect();
    let [node, leaver] = [0, 3].map(|index| cluster.peers[index].node.clone().unwrap());
    for key in &written {
        node.write(Level::Sloppy, key.clone(), string::Mutation::Increment(1)).await.unwrap();
    }
    let (mut steps, mut steps_meanwhile, mut leaving) = (0, 0, None);
    let met = scan(&node, async || {
        steps += 1;
        if steps == 5 {
            let leaver = leaver.clone();
            leaving = Some(tokio::spawn(async move { leaver.leave(false).await }));
        }
        steps_meanwhile += usize::from(leaving.as_ref().is_some_and(|leaving| !leaving.is_finished()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    });
    assert_eq!(met.await.into_iter().collect::<BTreeSet<_>>(), written);
    let leaving = leaving.unwrap();
    assert!(steps_meanwhile > 3 && leaving.is_finished(), "it left while {steps_meanwhile} of {steps} steps were walked");
    leaving.await.unwrap().unwrap();
    assert!(node.owners(&KEY).iter().all(|owner| *owner != leaver.status().peer));
}

/// Three peers that all have a set of so many members.
async fn with_members(count: usize) -> (SimCluster, [Node; 3]) {
    let cluster = SimCluster::start(3, 3, 11, crate::config::Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let nodes = [0, 1, 2].map(|index| cluster.peers[index].node.clone().unwrap());
    let members = (0..count).map(|number| Bytes::from(format!("member:{number}"))).collect();
    nodes[0].write(Level::All, KEY, set::Mutation::Add(members)).await.unwrap();
    (cluster, nodes)
}

#[tokio::test(start_paused = true)]
async fn replicas_that_have_the_same_rows_send_their_digest_and_no_rows() {
    let (cluster, [one, other, _]) = with_members(3000).await;
    let received = one.traffic().1;
    for (query, number) in [(set::Query::Members, 3000), (set::Query::Cardinality, 3000)] {
        match one.read(Level::All, KEY, query).await.unwrap() {
            Answer::Members(members) => assert_eq!(members.len(), number),
            answer => assert_eq!(answer, Answer::Integer(number as i64)),
        }
    }
    assert!(one.traffic().1 - received < 2048, "{} bytes came", one.traffic().1 - received);
    // What one of them has not heard of counts all the same: then the rows are merged.
    cluster.network.set_weather(Weather { lost: 1000, ..CALM });
    other.write(Level::One, KEY, set::Mutation::Add(vec!["late".into()])).await.unwrap();
    cluster.network.set_weather(CALM);
    assert_eq!(one.read(Level::One, KEY, set::Query::Cardinality).await, Ok(Answer::Integer(3000)));
    assert_eq!(one.read(Level::All, KEY, set::Query::Cardinality).await, Ok(Answer::Integer(3001)));
}

#[tokio::test(start_paused = true)]
async fn a_scan_of_elements_goes_on_at_any_peer() {
    let (_cluster, nodes) = with_members(1000).await;
    let (mut met, mut from_hash) = (BTreeSet::new(), 0);
    for step in 0.. {
        let scan = Scan { from_hash, count: 40 };
        let level = [Level::One, Level::Sloppy, Level::All][step % 3];
        let answer = nodes[step % 2].read(level, KEY, set::Query::Scan(scan)).await.unwrap();
        let Answer::Scanned { next, elements } = answer else { panic!("a scan was asked for") };
        let Answer::Members(members) = *elements else { panic!("members were asked for") };
        assert!(members.len() <= 40);
        met.extend(members);
        from_hash = next;
        if next == 0 {
            break;
        }
    }
    assert_eq!(met.len(), 1000);
}
