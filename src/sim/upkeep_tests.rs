//! What goes away without a client's command: expired keys, floors, and only those.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::cluster::SimCluster;
use super::storage::Crash;
use crate::config::{Durability, EXPIRY_GRACE, EXPIRY_SWEEP, FLOOR_SWEEP};
use crate::crdt::command::{Answer, Mutation};
use crate::crdt::string::{SetCondition, SetExpiry};
use crate::crdt::{hash, key, set, string};
use crate::node::Node;
use crate::types::{Digest, Level};

const KEY: Bytes = Bytes::from_static(b"key");
/// Longer than it takes from the end of a key's grace time to its removal, also where a sweep has looked at it in vain before.
const SWEPT: Duration = Duration::from_secs(8 * EXPIRY_SWEEP.as_secs());

async fn cluster(peers: usize) -> SimCluster {
    let cluster = SimCluster::start(peers, peers, 7, Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    cluster
}

fn node(cluster: &SimCluster, index: usize) -> Node {
    cluster.peers[index].node.clone().unwrap()
}

async fn write(node: &Node, mutation: impl Into<Mutation>) -> Answer {
    node.write(Level::Quorum, KEY, mutation).await.unwrap().answer
}

async fn set_for(node: &Node, lifetime: Duration) {
    let at_ms = node.now_ms() + u64::try_from(lifetime.as_millis()).unwrap();
    let expiry = SetExpiry::At(i64::try_from(at_ms).unwrap());
    let set = string::Mutation::Set { value: "v".into(), expiry, condition: SetCondition::Always, get: false };
    node.write(Level::Sloppy, KEY, set).await.unwrap();
}

/// Whether a peer has no row at all.
async fn is_empty(node: &Node) -> bool {
    node.digests().await.iter().all(|(_, digest)| *digest == Digest::default())
}

#[tokio::test(start_paused = true)]
async fn an_expired_key_is_hidden_at_its_time_and_gone_everywhere_after_the_grace_time() {
    let cluster = cluster(3).await;
    let one = node(&cluster, 0);
    set_for(&one, Duration::from_secs(20)).await;
    sleep(Duration::from_secs(21)).await;
    assert_eq!(one.read(Level::Quorum, KEY, string::Query::Get).await, Ok(Answer::Nil));
    sleep(EXPIRY_GRACE - Duration::from_secs(10)).await;
    assert!(!is_empty(&one).await, "nobody may remove it yet");
    sleep(SWEPT).await;
    for node in cluster.running() {
        assert!(is_empty(node).await);
        assert_eq!(node.status().keys, 0);
    }
    cluster.converge(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_expired_field_goes_everywhere_and_the_others_of_its_hash_stay() {
    let mut cluster = cluster(3).await;
    let (one, other) = (node(&cluster, 0), node(&cluster, 1));
    let at_ms = i64::try_from(one.now_ms()).unwrap() + 20_000;
    let set = |field: &'static str, expiry| {
        let pairs = vec![(field.into(), "v".into())];
        hash::Mutation::SetExpiring { pairs, expiry, condition: SetCondition::Always }
    };
    write(&one, set("ends", SetExpiry::At(at_ms))).await;
    write(&one, set("kept", SetExpiry::At(at_ms))).await;
    write(&one, set("lasts", SetExpiry::Clear)).await;
    assert_eq!(write(&other, hash::Mutation::Persist(vec!["kept".into()])).await, Answer::Numbers(vec![1]));
    let rows = |cluster: &SimCluster, index: usize| {
        let mut rows = 0;
        cluster.peers[index].disk.visit(b"r", b"s", &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        });
        rows
    };
    cluster.crash(1, Crash::Process);
    cluster.crash(2, Crash::Process);
    sleep(EXPIRY_GRACE + SWEPT).await;
    let fields = vec!["ends".into(), "kept".into(), "lasts".into()];
    let shown = Answer::Values(vec![None, Some("v".into()), Some("v".into())]);
    assert_eq!(one.read(Level::One, KEY, hash::Query::Get(fields)).await, Ok(shown));
    assert_eq!(rows(&cluster, 0), 3, "two of three could not be asked");
    cluster.restart(1).await.unwrap();
    cluster.restart(2).await.unwrap();
    sleep(2 * SWEPT).await;
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    assert_eq!((0..3).map(|index| rows(&cluster, index)).collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_without_a_quorum_and_all_of_it_with_one() {
    let mut cluster = cluster(3).await;
    set_for(&node(&cluster, 0), Duration::from_secs(1)).await;
    sleep(Duration::from_secs(2)).await;
    cluster.crash(1, Crash::Process);
    cluster.crash(2, Crash::Process);
    sleep(EXPIRY_GRACE + SWEPT).await;
    assert!(!is_empty(&node(&cluster, 0)).await, "two of three could not be asked");
    cluster.restart(1).await.unwrap();
    sleep(2 * SWEPT).await;
    assert!(is_empty(&node(&cluster, 0)).await && is_empty(&node(&cluster, 1)).await);
    cluster.restart(2).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    assert!(is_empty(&node(&cluster, 2)).await);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_always_alone_needs_nobodys_consent() {
    let cluster = cluster(1).await;
    set_for(&node(&cluster, 0), Duration::from_secs(1)).await;
    sleep(EXPIRY_GRACE + SWEPT).await;
    assert!(is_empty(&node(&cluster, 0)).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_persisted_or_written_anew_stays() {
    let cluster = cluster(3).await;
    let (one, other) = (node(&cluster, 0), node(&cluster, 1));
    set_for(&one, Duration::from_secs(30)).await;
    assert_eq!(write(&other, key::Mutation::Persist).await, Answer::Integer(1));
    sleep(EXPIRY_GRACE + SWEPT).await;
    assert_eq!(one.read(Level::Quorum, KEY, string::Query::Get).await, Ok(Answer::Bytes("v".into())));
    // A new life begins while the former one is hidden and not removed yet.
    set_for(&one, Duration::from_secs(1)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(write(&other, string::Mutation::Increment(5)).await, Answer::Integer(5));
    sleep(EXPIRY_GRACE + SWEPT).await;
    assert_eq!(one.read(Level::Quorum, KEY, string::Query::Get).await, Ok(Answer::Bytes("5".into())));
}

#[tokio::test(start_paused = true)]
async fn a_large_set_goes_whole() {
    let cluster = cluster(3).await;
    let one = node(&cluster, 0);
    write(&one, set::Mutation::Add((0..5_000).map(|number| Bytes::from(number.to_string())).collect())).await;
    let at_ms = i64::try_from(one.now_ms()).unwrap() + 1_000;
    write(&one, key::Mutation::Expire { at_ms, condition: key::ExpireCondition::Always }).await;
    sleep(EXPIRY_GRACE + SWEPT).await;
    for node in cluster.running() {
        assert!(is_empty(node).await);
    }
}

#[tokio::test(start_paused = true)]
async fn floors_go_once_every_replica_has_seen_the_runs_end_and_not_before() {
    let mut cluster = cluster(3).await;
    for round in 0..30 {
        write(&node(&cluster, round % 2), string::Mutation::Increment(1)).await;
        write(&node(&cluster, (round + 1) % 2), key::Mutation::Delete).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert!(cluster.running().all(|node| node.status().keys == 0), "floors are no key");
    cluster.crash(2, Crash::Process);
    sleep(3 * FLOOR_SWEEP).await;
    assert!(!is_empty(&node(&cluster, 0)).await, "one of the replicas could not be asked");
    cluster.restart(2).await.unwrap();
    sleep(3 * FLOOR_SWEEP).await;
    for node in cluster.running() {
        assert!(is_empty(node).await);
    }
    write(&node(&cluster, 0), string::Mutation::Increment(3)).await;
    for node in cluster.running() {
        assert_eq!(node.read(Level::Quorum, KEY, string::Query::Get).await, Ok(Answer::Bytes("3".into())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_does_not_keep_other_expired_keys() {
    let cluster = cluster(1).await;
    let one = node(&cluster, 0);
    set_for(&one, Duration::from_secs(1)).await;
    let disk = &cluster.peers[0].disk;
    let rows = || {
        let mut rows = Vec::new();
        disk.visit(b"r", b"s", &mut |row_key, _| {
            rows.push(row_key.to_vec());
            std::ops::ControlFlow::Continue(())
        });
        rows
    };
    let damaged = rows();
    damaged.iter().for_each(|row_key| disk.spoil(row_key, 0b10_0010));
    let expiry = SetExpiry::At(i64::try_from(one.now_ms()).unwrap() + 2_000);
    let set = string::Mutation::Set { value: "v".into(), expiry, condition: SetCondition::Always, get: false };
    one.write(Level::Sloppy, "other".into(), set).await.unwrap();
    assert_eq!(rows().len(), damaged.len() + 2);
    sleep(EXPIRY_GRACE + SWEPT).await;
    assert_eq!(rows(), damaged);
}
