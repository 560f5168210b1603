//! Partitions go to a peer that joins, or are started anew where rows were damaged: who confirms has everything durably, and who counts
//! knows all that a quorum has acknowledged. What moves comes without a pause, and slowly while clients are busy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{BUSY_COMMANDS, BUSY_FOR, Durability, HANDOFF_INTERVAL, HEARTBEAT_INTERVAL};
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::sim::cluster::SimCluster;
use ringtide::sim::network::{CALM, Weather};
use ringtide::sim::storage::{Crash, SimDisk};
use ringtide::types::Level;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(120);

/// The storage keys of all rows on a disk.
fn rows(disk: &SimDisk) -> BTreeSet<Vec<u8>> {
    let mut rows = BTreeSet::new();
    disk.visit(b"r", b"s", &mut |row_key, _| {
        rows.insert(row_key.to_vec());
        ControlFlow::Continue(())
    });
    rows
}

fn set(value: &'static str) -> Mutation {
    let value = Bytes::from_static(value.as_bytes());
    Mutation::Set { value, expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }
}

/// Three peers with 64 keys each, and a fourth that has not joined.
async fn with_64_keys() -> SimCluster {
    let cluster = SimCluster::start(4, 3, 1, Durability::System).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    let node = cluster.peers[0].node.clone().unwrap();
    for number in 0..64 {
        node.write(Level::All, Bytes::from(format!("key {number}")), set("value")).await.unwrap();
    }
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_damaged_replica_counts_again_when_a_holder_that_was_away_is_back() {
    let mut cluster = SimCluster::start(3, 3, 1, Durability::System).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    let (key, node, damaged) = (Bytes::from_static(b"key"), cluster.peers[0].node.clone().unwrap(), cluster.peers[1].node.clone().unwrap());
    node.write(Level::All, key.clone(), set("old")).await.unwrap();
    cluster.crash(2, Crash::Process);
    sleep(Duration::from_secs(15)).await;
    let row_key = rows(&cluster.peers[1].disk).pop_first().unwrap();
    cluster.peers[1].disk.lose(&row_key);
    node.write(Level::Quorum, key.clone(), set("new")).await.unwrap();
    sleep(PATIENCE).await;
    assert_eq!(damaged.status().syncing, 1, "what a quorum of it and the absent one had acknowledged may be at that one alone");
    cluster.restart(2).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    assert_eq!(damaged.status().syncing, 0);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_crashes_while_it_introduces_itself_is_still_one() {
    for seed in 0..8 {
        let mut cluster = SimCluster::start(4, 3, seed, Durability::System).await.unwrap();
        cluster.converge(PATIENCE).await.unwrap();
        cluster.join_next().await.unwrap();
        let know_each_other = |cluster: &SimCluster, peer: usize| cluster.peers[peer].node.as_ref().unwrap().status().members == 4;
        while !(0..3).any(|founder| know_each_other(&cluster, founder)) {
            sleep(Duration::from_millis(1)).await;
        }
        cluster.crash(3, Crash::Process);
        cluster.restart(3).await.unwrap();
        while !know_each_other(&cluster, 3) {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(cluster.peers[3].node.as_ref().unwrap().status().syncing > 0, "seed {seed}: it has nothing and would count for reads");
        cluster.converge(PATIENCE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_drops_rows_before_the_newcomer_has_them_durably() {
    // No disk is synced but where the node asks for it by itself.
    let mut cluster = with_64_keys().await;
    let copies = |cluster: &SimCluster| cluster.peers.iter().map(|peer| rows(&peer.disk).len()).sum::<usize>();
    assert_eq!(copies(&cluster), 3 * 64);
    assert!(cluster.join_next().await.unwrap());
    cluster.converge(PATIENCE).await.unwrap();
    let confirmed = rows(&cluster.peers[3].disk);
    assert!(confirmed.len() > 16 && copies(&cluster) == 3 * 64, "what it took over was dropped elsewhere");
    cluster.crash(3, Crash::Machine);
    assert_eq!(rows(&cluster.peers[3].disk), confirmed);
}

#[tokio::test(start_paused = true)]
async fn hints_come_home_without_a_pause_however_large_they_are() {
    let mut cluster = SimCluster::start(3, 3, 2, Durability::System).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    cluster.crash(2, Crash::Process);
    sleep(Duration::from_secs(30)).await;
    let node = cluster.peers[0].node.clone().unwrap();
    // Three to a message.
    let large = Bytes::from(vec![b'v'; 400 * 1024]);
    for number in 0..60 {
        let set = Mutation::Set { value: large.clone(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false };
        node.write(Level::Sloppy, Bytes::from(format!("key {number}")), set).await.unwrap();
    }
    while node.status().hints < 60 {
        sleep(Duration::from_secs(1)).await;
    }
    cluster.restart(2).await.unwrap();
    sleep(3 * HANDOFF_INTERVAL).await;
    assert_eq!(node.status().hints, 0);
}

/// How long the first sync of a newcomer takes over a slow network, while clients do so many commands a second.
async fn first_sync(commands: u64) -> Duration {
    let mut cluster = SimCluster::start(3, 2, 3, Durability::System).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    let node = cluster.peers[0].node.clone().unwrap();
    let key = |number: u64| Bytes::from(format!("key {number}"));
    for number in 0..200 {
        node.write(Level::Sloppy, key(number), set("value")).await.unwrap();
    }
    cluster.converge(PATIENCE).await.unwrap();
    cluster.network.set_weather(Weather { latency_ms: (100, 120), ..CALM });
    let clients = tokio::spawn(async move {
        loop {
            for number in 0..commands {
                node.read(Level::Local, key(number), Query::Get).await.unwrap();
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    sleep(BUSY_FOR).await;
    cluster.join_next().await.unwrap();
    let (began, newcomer) = (Instant::now(), cluster.peers[2].node.clone().unwrap());
    while (newcomer.status().members, newcomer.status().syncing) != (3, 0) {
        sleep(Duration::from_millis(10)).await;
    }
    clients.abort();
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn rows_move_slowly_while_anybodys_clients_are_busy() {
    let (quiet, busy) = (first_sync(1).await, first_sync(2 * BUSY_COMMANDS).await);
    // A rest after each answer, not only after what a pull begins with.
    assert!(busy > 25 * quiet, "{busy:?} while clients are busy, {quiet:?} else");
}

#[tokio::test(start_paused = true)]
async fn what_is_sealed_is_offered_only_to_those_who_have_not_confirmed_it() {
    let mut cluster = with_64_keys().await;
    let node = cluster.peers[0].node.clone().unwrap();
    cluster.join_next().await.unwrap();
    while node.status().handing_over == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // It never confirms that it has what the others have sealed.
    cluster.crash(1, Crash::Process);
    sleep(Duration::from_secs(60)).await;
    let before = cluster.network.delivered();
    sleep(60 * HEARTBEAT_INTERVAL).await;
    let frames = cluster.network.delivered() - before;
    assert!(node.status().handing_over > 0);
    let heartbeats = 60 * 3 * 2;
    assert!(frames < heartbeats * 3 / 2, "{frames} frames in a minute: the same partitions are compared again and again");
}
