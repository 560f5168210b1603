//! Peers leave, are forgotten, and come back: whoever goes has brought everything home first, and whoever returns brings what it alone has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::Durability;
use ringtide::crdt::command::Answer;
use ringtide::crdt::string::{Mutation, Query};
use ringtide::crdt::{key, set};
use ringtide::members::Standing;
use ringtide::node::leaving::LeaveError;
use ringtide::node::{Node, OperationError, PeerState, PeerStatus};
use ringtide::sim::cluster::SimCluster;
use ringtide::sim::storage::Crash;
use ringtide::types::{Level, Partition};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: i64 = 100;

fn key_of(number: i64) -> Bytes {
    Bytes::from(format!("key {number}"))
}

/// Peers of which each key is known: its number is its value.
async fn cluster(peers: usize, founders: usize) -> SimCluster {
    let cluster = SimCluster::start(peers, founders, 1, Durability::System).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    for number in 1..=KEYS {
        node(&cluster, 0).write(Level::Quorum, key_of(number), Mutation::Increment(number)).await.unwrap();
    }
    cluster.converge(PATIENCE).await.unwrap();
    cluster
}

fn node(cluster: &SimCluster, index: usize) -> Node {
    cluster.peers[index].node.clone().unwrap()
}

/// How many rows lie on a peer's disk.
fn rows(cluster: &SimCluster, index: usize) -> usize {
    let mut rows = 0;
    cluster.peers[index].disk.visit(b"r", b"s", &mut |_, _| {
        rows += 1;
        ControlFlow::Continue(())
    });
    rows
}

/// Every key has its value, by a quorum, asked at one peer.
async fn expect_all(cluster: &SimCluster, index: usize) {
    for number in 1..=KEYS {
        let answer = node(cluster, index).read(Level::Quorum, key_of(number), Query::Get).await;
        assert_eq!(answer, Ok(Answer::Bytes(number.to_string().into())), "{number} at {index}");
    }
}

fn copies(cluster: &SimCluster) -> usize {
    (0..cluster.peers.len()).map(|index| rows(cluster, index)).sum()
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_has_brought_everything_home() {
    let mut cluster = cluster(4, 4).await;
    assert!(rows(&cluster, 1) > 0);
    timeout(PATIENCE, node(&cluster, 1).leave(false)).await.unwrap().unwrap();
    cluster.peers[1].out = true;
    assert_eq!(rows(&cluster, 1), 0, "it keeps nothing");
    assert_eq!(copies(&cluster), 3 * 100, "every key has its copies at the others");
    cluster.converge(PATIENCE).await.unwrap();
    for index in 0..4 {
        assert!(node(&cluster, index).ring().iter().flatten().all(|holder| *holder != cluster.peers[1].id));
        // It serves clients still, out of what the others hold.
        expect_all(&cluster, index).await;
    }
    node(&cluster, 1).write(Level::Quorum, key_of(1), Mutation::Increment(4)).await.unwrap();
    assert_eq!(node(&cluster, 2).read(Level::Quorum, key_of(1), Query::Get).await, Ok(Answer::Bytes("5".into())));
    let seen = node(&cluster, 0).peers().into_iter().find(|peer| peer.peer == cluster.peers[1].id).unwrap();
    assert_eq!((seen.state, seen.partitions), (PeerState::Left, 0));
    assert_eq!(node(&cluster, 1).leave(false).await, Ok(()), "it has left already");
}

#[tokio::test(start_paused = true)]
async fn too_few_remain_only_if_forced_and_the_last_one_stays() {
    let mut cluster = cluster(3, 3).await;
    assert_eq!(node(&cluster, 0).leave(false).await, Err(LeaveError::TooFew { remaining: 2, replicas: 3 }));
    expect_all(&cluster, 0).await;
    timeout(PATIENCE, node(&cluster, 0).leave(true)).await.unwrap().unwrap();
    cluster.peers[0].out = true;
    assert_eq!([0, 1, 2].map(|index| rows(&cluster, index)), [0, 100, 100]);
    timeout(PATIENCE, node(&cluster, 1).leave(true)).await.unwrap().unwrap();
    cluster.peers[1].out = true;
    assert_eq!([0, 1, 2].map(|index| rows(&cluster, index)), [0, 0, 100]);
    assert_eq!(node(&cluster, 2).leave(true).await, Err(LeaveError::Alone));
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_before_a_new_holder_that_is_down_is_back() {
    let mut cluster = cluster(5, 5).await;
    cluster.crash(4, Crash::Process);
    sleep(Duration::from_secs(30)).await;
    node(&cluster, 1).write(Level::Sloppy, key_of(7), Mutation::Increment(1)).await.unwrap();
    let leaving = node(&cluster, 1);
    let leave = tokio::spawn(async move { leaving.leave(false).await });
    sleep(PATIENCE).await;
    assert!(!leave.is_finished() && rows(&cluster, 1) > 0);
    cluster.restart(4).await.unwrap();
    timeout(PATIENCE, leave).await.unwrap().unwrap().unwrap();
    assert_eq!((rows(&cluster, 1), copies(&cluster)), (0, 3 * 100));
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_leaving_loses_nothing_and_the_peer_can_leave_still() {
    for crash in [Crash::Process, Crash::Machine] {
        let mut cluster = cluster(4, 4).await;
        let leaving = node(&cluster, 1);
        tokio::spawn(async move { leaving.leave(false).await });
        while node(&cluster, 1).status().handing_over == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        cluster.crash(1, crash);
        cluster.restart(1).await.unwrap();
        // Whoever lost its disk knows nobody at first.
        while node(&cluster, 1).status().members < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        timeout(PATIENCE, node(&cluster, 1).leave(false)).await.unwrap().unwrap();
        cluster.peers[1].out = true;
        cluster.converge(PATIENCE).await.unwrap();
        sleep(PATIENCE).await;
        assert!(node(&cluster, 0).status().members == 3, "who leaves does not join again by itself");
        assert_eq!((rows(&cluster, 1), copies(&cluster)), (0, 3 * 100));
        expect_all(&cluster, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_left_joins_again_at_its_next_start_and_counts_once_it_has_everything() {
    let mut cluster = cluster(4, 4).await;
    timeout(PATIENCE, node(&cluster, 1).leave(false)).await.unwrap().unwrap();
    cluster.crash(1, Crash::Process);
    node(&cluster, 0).write(Level::All, key_of(3), key::Mutation::Delete).await.unwrap();
    node(&cluster, 0).write(Level::All, key_of(3), Mutation::Increment(3)).await.unwrap();
    cluster.restart(1).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    assert!(rows(&cluster, 1) > 0 && copies(&cluster) == 3 * 100);
    expect_all(&cluster, 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_partitions_of_a_forgotten_peer_are_copied_again() {
    let mut cluster = cluster(4, 4).await;
    let gone = cluster.peers[3].id;
    assert_eq!(node(&cluster, 0).forget(gone).await, Err(LeaveError::NotDown));
    assert_eq!(node(&cluster, 0).forget(cluster.peers[0].id).await, Err(LeaveError::Oneself));
    let lost = rows(&cluster, 3);
    cluster.crash(3, Crash::Process);
    cluster.peers[3].out = true;
    while node(&cluster, 0).peers().iter().any(|peer| peer.peer == gone && peer.state != PeerState::Down) {
        sleep(Duration::from_secs(1)).await;
    }
    node(&cluster, 0).forget(gone).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    assert!(lost > 0);
    assert_eq!(copies(&cluster) - lost, 3 * 100, "each key has all its copies again");
    assert_eq!(node(&cluster, 1).ring()[0].len(), 3);
    for index in 0..3 {
        assert_eq!(node(&cluster, index).status().syncing, 0);
        expect_all(&cluster, index).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_two_that_are_both_gone_for_good() {
    let mut cluster = cluster(5, 5).await;
    let gone = [cluster.peers[3].id, cluster.peers[4].id];
    for index in [3, 4] {
        cluster.crash(index, Crash::Process);
        cluster.peers[index].out = true;
    }
    let is_gone = |peer: &PeerStatus| gone.contains(&peer.peer) && peer.state != PeerState::Down;
    while node(&cluster, 0).peers().iter().any(is_gone) {
        sleep(Duration::from_secs(1)).await;
    }
    for peer in gone {
        node(&cluster, 0).forget(peer).await.unwrap();
    }
    cluster.converge(PATIENCE).await.unwrap();
    for index in 0..3 {
        assert_eq!((node(&cluster, index).status().syncing, rows(&cluster, index)), (0, 100));
        expect_all(&cluster, index).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_peer_that_returns_brings_what_it_alone_has_and_nothing_that_was_deleted() {
    let mut cluster = cluster(4, 4).await;
    let (forgotten, held) = (cluster.peers[3].id, node(&cluster, 3));
    let mine = (1..).map(key_of).find(|key| held.owners(key).contains(&forgotten)).unwrap();
    // Cut off, it takes a write that nobody else sees.
    for index in 0..3 {
        cluster.network.cut(cluster.peers[index].id, forgotten);
        cluster.network.cut(forgotten, cluster.peers[index].id);
    }
    while node(&cluster, 0).peers().iter().any(|peer| peer.peer == forgotten && peer.state != PeerState::Down) {
        sleep(Duration::from_secs(1)).await;
    }
    let unseen = Bytes::from_static(b"unseen");
    held.write(Level::Sloppy, unseen.clone(), set::Mutation::Add(vec!["only here".into()])).await.unwrap();
    held.write(Level::Sloppy, mine.clone(), Mutation::Increment(1000)).await.unwrap();
    node(&cluster, 0).forget(forgotten).await.unwrap();
    node(&cluster, 0).write(Level::Sloppy, mine.clone(), key::Mutation::Delete).await.unwrap();
    cluster.peers[3].out = true;
    cluster.converge(PATIENCE).await.unwrap();
    cluster.network.heal();
    while held.status().handing_over > 0 || held.status().hints > 0 || held.status().members != 3 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rows(&cluster, 3), 0);
    let expect_merged = async |cluster: &SimCluster, index: usize| {
        let at = node(cluster, index);
        let members = at.read(Level::Quorum, unseen.clone(), set::Query::Members).await;
        assert_eq!(members, Ok(Answer::Members(vec!["only here".into()])), "at {index}");
        assert_eq!(at.read(Level::Quorum, mine.clone(), Query::Get).await, Ok(Answer::Bytes("1000".into())), "at {index}");
    };
    for index in 0..3 {
        expect_merged(&cluster, index).await;
    }
    // It says what it is, and serves nobody.
    assert_eq!(held.status().standing, Standing::Forgotten);
    assert_eq!(held.read(Level::Local, mine.clone(), Query::Get).await, Err(OperationError::Forgotten));
    assert_eq!(held.write(Level::One, mine.clone(), Mutation::Increment(1)).await.unwrap_err(), OperationError::Forgotten);
    assert_eq!(held.scan(Level::Sloppy, 0, 10).await, Err(OperationError::Forgotten));
    // Started again, it joins again.
    drop(held);
    cluster.crash(3, Crash::Process);
    cluster.restart(3).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    assert!(rows(&cluster, 3) > 0 && node(&cluster, 0).status().members == 4);
    expect_merged(&cluster, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_forgotten_while_it_was_off_hands_over_when_it_starts() {
    let mut cluster = cluster(4, 4).await;
    let (forgotten, mine) = (cluster.peers[3].id, Bytes::from_static(b"mine"));
    for index in 0..3 {
        cluster.crash(index, Crash::Process);
    }
    sleep(Duration::from_secs(30)).await;
    node(&cluster, 3).write(Level::Sloppy, mine.clone(), Mutation::Increment(7)).await.unwrap();
    cluster.crash(3, Crash::Process);
    cluster.peers[3].out = true;
    for index in 0..3 {
        cluster.restart(index).await.unwrap();
    }
    sleep(Duration::from_secs(30)).await;
    node(&cluster, 0).forget(forgotten).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    cluster.restart(3).await.unwrap();
    cluster.peers[3].out = true;
    let back = node(&cluster, 3);
    while back.status().members != 3 || back.status().handing_over > 0 || back.status().hints > 0 {
        sleep(Duration::from_secs(1)).await;
    }
    cluster.converge(PATIENCE).await.unwrap();
    assert_eq!(node(&cluster, 0).read(Level::Quorum, mine, Query::Get).await, Ok(Answer::Bytes("7".into())));
    expect_all(&cluster, 1).await;
    assert_eq!((rows(&cluster, 3), node(&cluster, 0).ring()[usize::from(Partition(0).0)].contains(&forgotten)), (0, false));
}
