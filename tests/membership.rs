//! Peers leave, are forgotten, and come back: whoever goes has brought everything home first, and whoever returns brings what it alone has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{Durability, NodeConfig};
use ringtide::crdt::command::Answer;
use ringtide::crdt::string::{Mutation, Query};
use ringtide::crdt::{key, set};
use ringtide::members::Standing;
use ringtide::node::leaving::LeaveError;
use ringtide::node::{Node, OperationError, PeerState, PeerStatus};
use ringtide::sim::cluster::SimCluster;
use ringtide::sim::storage::Crash;
use ringtide::types::{Level, Partition, PeerId};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: i64 = 100;
/// How long a peer may be down before it is replaced.
const REBUILD_AFTER: Duration = Duration::from_secs(300);

fn key_of(number: i64) -> Bytes {
    Bytes::from(format!("key {number}"))
}

/// Peers of which each key is known: its number is its value.
async fn cluster(peers: usize, founders: usize) -> SimCluster {
    let config = NodeConfig { rebuild_after: Some(REBUILD_AFTER), ..SimCluster::config(Durability::System) };
    let cluster = SimCluster::start_with(vec![config; peers], founders, 1).await.unwrap();
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
    let held = node(&cluster, 0).peers().into_iter().find(|peer| peer.peer == gone).unwrap().partitions;
    let forgotten = node(&cluster, 0).forget(gone).await.unwrap();
    assert_eq!((forgotten.partitions, forgotten.unsure), (held, 0));
    assert!(forgotten.silent_seconds.unwrap() >= 10);
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
    let ring = node(&cluster, 0).ring();
    for index in [3, 4] {
        cluster.crash(index, Crash::Process);
        cluster.peers[index].out = true;
    }
    let is_gone = |peer: &PeerStatus| gone.contains(&peer.peer) && peer.state != PeerState::Down;
    while node(&cluster, 0).peers().iter().any(is_gone) {
        sleep(Duration::from_secs(1)).await;
    }
    let both: Vec<&Vec<PeerId>> = ring.iter().filter(|holders| gone.iter().all(|peer| holders.contains(peer))).collect();
    let first = node(&cluster, 0).forget(gone[0]).await.unwrap();
    assert!(!both.is_empty() && first.unsure == both.len() && first.unsure < first.partitions, "{first}");
    assert_eq!(node(&cluster, 0).forget(gone[1]).await.map(|forgotten| forgotten.partitions > 0), Ok(true));
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

/// Four peers, of which the last was forgotten while it was off.
async fn with_one_forgotten() -> SimCluster {
    let mut cluster = cluster(4, 4).await;
    let forgotten = cluster.peers[3].id;
    cluster.crash(3, Crash::Process);
    sleep(Duration::from_secs(30)).await;
    node(&cluster, 0).forget(forgotten).await.unwrap();
    cluster
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

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_forgotten_while_it_was_off_learns_so_before_it_serves_anybody() {
    let mut cluster = with_one_forgotten().await;
    cut_apart(&cluster, &[0, 1, 2], &[3]);
    cluster.restart(3).await.unwrap();
    assert!(!node(&cluster, 3).arrive(false, Duration::from_secs(3)).await, "whoever finds nobody goes on alone");
    cluster.crash(3, Crash::Process);
    cluster.network.heal();
    cluster.restart(3).await.unwrap();
    let returned = node(&cluster, 3);
    assert!(returned.arrive(false, PATIENCE).await);
    assert_eq!(returned.read(Level::Local, key_of(1), Query::Get).await, Err(OperationError::Forgotten));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_forgotten_joins_again_only_once_others_have_what_it_held() {
    let mut cluster = with_one_forgotten().await;
    cluster.restart(3).await.unwrap();
    let standing = |cluster: &SimCluster| (node(cluster, 3).status().standing, node(cluster, 3).status().handing_over > 0);
    while standing(&cluster) != (Standing::Forgotten, true) {
        sleep(Duration::from_millis(1)).await;
    }
    // It learnt so and crashed, and its next start meets nobody who could take what it holds.
    cluster.crash(3, Crash::Process);
    cut_apart(&cluster, &[0, 1, 2], &[3]);
    cluster.restart(3).await.unwrap();
    sleep(PATIENCE).await;
    assert_eq!(standing(&cluster), (Standing::Forgotten, true));
    cluster.network.heal();
    cluster.converge(PATIENCE).await.unwrap();
    assert_eq!(standing(&cluster), (Standing::Joined, false));
    expect_all(&cluster, 3).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_left_and_was_stopped_before_it_had_handed_over_can_be_forgotten_and_is_told_so() {
    let mut cluster = cluster(4, 4).await;
    let leaving = node(&cluster, 1);
    tokio::spawn(async move { leaving.leave(false).await });
    while is_placed(&cluster, 0, 1) {
        sleep(Duration::from_millis(1)).await;
    }
    cluster.crash(1, Crash::Process);
    sleep(Duration::from_secs(30)).await;
    node(&cluster, 0).forget(cluster.peers[1].id).await.unwrap();
    cluster.restart(1).await.unwrap();
    let is_told = async || {
        while node(&cluster, 1).status().standing != Standing::Forgotten {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, is_told()).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    expect_all(&cluster, 1).await;
}

fn cut_apart(cluster: &SimCluster, here: &[usize], there: &[usize]) {
    for (one, other) in here.iter().flat_map(|one| there.iter().map(move |other| (*one, *other))) {
        let (one, other) = (cluster.peers[one].id, cluster.peers[other].id);
        cluster.network.cut(one, other);
        cluster.network.cut(other, one);
    }
}

/// Whether a peer has a place in the ring that another sees.
fn is_placed(cluster: &SimCluster, at: usize, peer: usize) -> bool {
    node(cluster, at).ring().iter().any(|holders| holders.contains(&cluster.peers[peer].id))
}

#[tokio::test(start_paused = true)]
async fn whoever_is_down_for_long_is_replaced_and_takes_its_place_again_when_it_is_back() {
    let mut cluster = cluster(5, 5).await;
    let (away, ring) = (node(&cluster, 4), node(&cluster, 0).ring());
    // Cut off, it takes writes that nobody else sees, one of them to a key that the others delete.
    cut_apart(&cluster, &[0, 1, 2, 3], &[4]);
    sleep(Duration::from_secs(20)).await;
    let mine = (1..).map(key_of).find(|key| away.owners(key).contains(&cluster.peers[4].id)).unwrap();
    away.write(Level::Sloppy, mine.clone(), Mutation::Increment(1000)).await.unwrap();
    drop(away);
    cluster.crash(4, Crash::Process);
    sleep(REBUILD_AFTER - Duration::from_secs(30)).await;
    assert_eq!(node(&cluster, 0).ring(), ring, "it is waited for");
    sleep(Duration::from_secs(60)).await;
    for index in 0..4 {
        assert!(!is_placed(&cluster, index, 4) && node(&cluster, index).status().members == 5);
        expect_all(&cluster, index).await;
    }
    let copies_of_four = |cluster: &SimCluster| (0..4).map(|index| rows(cluster, index)).sum::<usize>();
    assert_eq!(copies_of_four(&cluster), 3 * 100, "every key has all its copies again");
    node(&cluster, 0).write(Level::All, mine.clone(), key::Mutation::Delete).await.unwrap();
    node(&cluster, 0).write(Level::All, key_of(101), Mutation::Increment(101)).await.unwrap();
    cluster.network.heal();
    cluster.restart(4).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    for index in 0..5 {
        assert_eq!(node(&cluster, index).ring(), ring);
        let at = node(&cluster, index);
        assert_eq!(at.read(Level::Quorum, mine.clone(), Query::Get).await, Ok(Answer::Bytes("1000".into())), "at {index}");
        assert_eq!(at.read(Level::Quorum, key_of(101), Query::Get).await, Ok(Answer::Bytes("101".into())), "at {index}");
    }
    assert_eq!(copies(&cluster), 3 * 101, "who stood in keeps nothing");
}

/// A guest joins while one of three is cut off, takes a place of it, acknowledges a write that only one of the others sees too, and leaves again.
#[tokio::test(start_paused = true)]
async fn whoever_missed_two_rings_in_which_it_lost_and_regained_a_partition_is_a_newcomer_to_it() {
    let mut cluster = cluster(4, 3).await;
    let (one, other, away, guest) = (0, 1, 2, 3);
    cut_apart(&cluster, &[one, other, guest], &[away]);
    assert!(cluster.join_next().await.unwrap());
    while !is_placed(&cluster, other, guest) || [one, other, guest].iter().any(|index| node(&cluster, *index).status().syncing > 0) {
        sleep(Duration::from_secs(1)).await;
    }
    let gives_way = |key: &Bytes| !node(&cluster, other).owners(key).contains(&cluster.peers[away].id);
    let number = (1..=KEYS).find(|number| gives_way(&key_of(*number))).unwrap();
    let key = key_of(number);
    cut_apart(&cluster, &[one], &[other, guest]);
    sleep(Duration::from_secs(20)).await;
    node(&cluster, other).write(Level::Quorum, key.clone(), Mutation::Increment(1000)).await.unwrap();
    let leaving = node(&cluster, guest);
    let leave = tokio::spawn(async move { leaving.leave(false).await });
    while is_placed(&cluster, other, guest) {
        sleep(Duration::from_millis(1)).await;
    }
    // The list gets to whoever was away, and nothing else does.
    cluster.network.heal();
    cut_apart(&cluster, &[one, guest], &[other, away]);
    cut_apart(&cluster, &[one], &[guest]);
    let knows_guest = |peer: &PeerStatus| peer.peer == cluster.peers[guest].id;
    while !node(&cluster, away).peers().iter().any(knows_guest) {
        sleep(Duration::from_millis(1)).await;
    }
    cluster.network.heal();
    cut_apart(&cluster, &[one, away], &[other, guest]);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(node(&cluster, one).ring(), node(&cluster, away).ring());
    assert!(node(&cluster, one).owners(&key).contains(&cluster.peers[away].id));
    let missed = node(&cluster, one).read(Level::Quorum, key.clone(), Query::Get).await;
    assert!(matches!(missed, Err(OperationError::NoQuorum { .. })), "{missed:?}");
    cluster.network.heal();
    timeout(PATIENCE, leave).await.unwrap().unwrap().unwrap();
    cluster.peers[guest].out = true;
    cluster.converge(PATIENCE).await.unwrap();
    for index in 0..4 {
        let seen = node(&cluster, index).read(Level::Quorum, key.clone(), Query::Get).await;
        assert_eq!(seen, Ok(Answer::Bytes((number + 1000).to_string().into())), "at {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_majority_replaces_and_never_are_there_two_majorities() {
    let cluster = cluster(5, 5).await;
    let (majority, minority) = ([0, 1, 2], [3, 4]);
    cut_apart(&cluster, &majority, &minority);
    let mut at_minority = 0;
    for moment in 0..8 {
        sleep(REBUILD_AFTER / 4).await;
        for number in 1..=KEYS {
            let write = async |index: usize| {
                let member = Bytes::from(format!("{moment} {index}"));
                node(&cluster, index).write(Level::Quorum, Bytes::from(format!("set {number}")), set::Mutation::Add(vec![member])).await
            };
            let (here, there) = tokio::join!(write(moment % 3), write(3 + moment % 2));
            at_minority += usize::from(there.is_ok());
            let name =
                |peers: &[PeerId]| peers.iter().map(|peer| cluster.peers.iter().position(|known| known.id == *peer)).collect::<Vec<_>>();
            let holders = |at: usize| name(&node(&cluster, at).owners(format!("set {number}").as_bytes()));
            assert!(
                here.is_err() || there.is_err(),
                "both sides have a majority of key {number} at moment {moment}: {:?} and {:?}",
                [0, 1, 2].map(holders),
                [3, 4].map(holders)
            );
        }
    }
    assert!(at_minority > 0, "of some partitions two holders are there");
    assert!(!is_placed(&cluster, 0, 3) && !is_placed(&cluster, 2, 4));
    assert!((0..5).all(|peer| is_placed(&cluster, 3, peer)), "two of five replace nobody");
    cluster.network.heal();
    cluster.converge(PATIENCE).await.unwrap();
    assert!((0..5).all(|peer| is_placed(&cluster, 0, peer)));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_and_goes_does_not_make_data_move_to_and_fro() {
    let mut cluster = cluster(5, 5).await;
    let mut changes = Vec::new();
    for (down, up, rounds) in [(280, 20, 5), (400, 60, 5)] {
        for _ in 0..rounds {
            cluster.crash(4, Crash::Process);
            for second in 0..down + up {
                if second == down {
                    cluster.restart(4).await.unwrap();
                }
                sleep(Duration::from_secs(1)).await;
                let placed = is_placed(&cluster, 0, 4);
                if changes.last().is_some_and(|(before, _)| *before != placed) || changes.is_empty() {
                    changes.push((placed, (down, second / 10 * 10)));
                }
            }
        }
    }
    // Replaced once, after five minutes; after that ten minutes are waited for, which it is never down for.
    assert_eq!(changes, [(true, (280, 0)), (false, (400, 310)), (true, (400, 400))]);
}
