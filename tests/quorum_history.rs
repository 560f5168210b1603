//! A recorded history: clients add and read at `quorum` through any peer while peers join, leave, crash, are replaced, forgotten and cut off. No read
//! misses what had been acknowledged before it began.
//!
//! Each key is a set, each member is added once and nobody removes any, so a read must show every member whose add was acknowledged before.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use ringtide::config::{Durability, NodeConfig};
use ringtide::crdt::command::Answer;
use ringtide::crdt::set;
use ringtide::node::{Node, PeerState};
use ringtide::sim::cluster::SimCluster;
use ringtide::sim::storage::Crash;
use ringtide::types::Level;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Keys: enough that every step of the ring moves some of their partitions.
const KEYS: u64 = 24;
const PEERS: usize = 7;
/// How long a peer may be down before it is replaced.
const REBUILD_AFTER: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

/// What was acknowledged, and what went wrong.
#[derive(Default)]
struct History {
    acknowledged: BTreeMap<Bytes, BTreeSet<Bytes>>,
    reads: u64,
    writes: u64,
    refused: u64,
    /// What changed, in order: told with a violation.
    changes: Vec<String>,
    violations: Vec<String>,
}

type Shared = Arc<Mutex<History>>;

fn add(node: &Node, key: Bytes, member: Bytes, history: &Shared) -> JoinHandle<()> {
    let writing = node.write(Level::Quorum, key.clone(), set::Mutation::Add(vec![member.clone()]));
    let history = Arc::clone(history);
    tokio::spawn(async move {
        let done = writing.await.is_ok();
        let mut history = history.lock().unwrap();
        if done {
            history.writes += 1;
            history.acknowledged.entry(key).or_default().insert(member);
        } else {
            history.refused += 1;
        }
    })
}

fn read(node: &Node, at: usize, key: Bytes, history: &Shared) -> JoinHandle<()> {
    let before = history.lock().unwrap().acknowledged.get(&key).cloned().unwrap_or_default();
    let reading = node.read(Level::Quorum, key.clone(), set::Query::Members);
    let history = Arc::clone(history);
    tokio::spawn(async move {
        let answer = reading.await;
        let mut history = history.lock().unwrap();
        match answer {
            Ok(Answer::Members(members)) => {
                history.reads += 1;
                let members: BTreeSet<Bytes> = members.into_iter().collect();
                let missed: Vec<&Bytes> = before.difference(&members).collect();
                if !missed.is_empty() {
                    let what = format!("a read of {key:?} at peer {at} misses {missed:?} after {}", history.changes.join(", "));
                    history.violations.push(what);
                }
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => history.refused += 1,
        }
    })
}

/// Whether a peer has heard of the cluster that the others are. Before, it may have met another newcomer and make up a cluster of two with it.
fn has_met(cluster: &SimCluster, founders: usize, node: &Node) -> bool {
    node.peers().iter().any(|known| cluster.peers[..founders].iter().any(|founder| founder.id == known.peer))
}

/// One change of the cluster.
async fn strike(cluster: &mut SimCluster, random: &mut SmallRng) -> String {
    let (index, other) = (random.random_range(0..PEERS), random.random_range(0..PEERS));
    let away = cluster.peers.iter().filter(|peer| peer.joined && peer.node.is_none()).count();
    match random.random_range(0..13) {
        0..2 => {
            cluster.join_next().await.unwrap();
            "a join".to_owned()
        }
        2 => {
            cluster.leave(index);
            format!("leave {index}")
        }
        3 if away == 0 && cluster.joined() > 4 && cluster.peers[index].joined => {
            cluster.crash(index, Crash::Process);
            format!("crash {index}")
        }
        4 => {
            forget_one(cluster, index).await;
            format!("forget {index}")
        }
        5..8 => {
            let (from, to) = (cluster.peers[index].id, cluster.peers[other].id);
            if from != to {
                cluster.network.cut(from, to);
                if random.random_bool(0.7) {
                    cluster.network.cut(to, from);
                }
            }
            format!("cut {index} {other}")
        }
        8..10 => {
            cluster.network.heal();
            "heal".to_owned()
        }
        10 => {
            let seconds = random.random_range(5..2 * REBUILD_AFTER.as_secs());
            sleep(Duration::from_secs(seconds)).await;
            format!("{seconds} s")
        }
        _ => {
            restart_all(cluster).await;
            "restart".to_owned()
        }
    }
}

async fn restart_all(cluster: &mut SimCluster) {
    for index in 0..PEERS {
        if cluster.peers[index].joined {
            cluster.restart(index).await.unwrap();
        }
    }
}

/// Takes out a peer that has crashed, after all others had everything: of what a quorum has, one copy may go with it, and no more.
async fn forget_one(cluster: &mut SimCluster, index: usize) {
    let gone = cluster.peers[index].id;
    if cluster.peers.iter().any(|peer| peer.out) || cluster.joined() <= 4 || !cluster.peers[index].joined {
        return;
    }
    cluster.network.heal();
    restart_all(cluster).await;
    if cluster.converge(PATIENCE).await.is_err() {
        return;
    }
    cluster.crash(index, Crash::Process);
    let Some(node) = cluster.running().next().cloned() else { return };
    for _ in 0..30 {
        sleep(Duration::from_secs(1)).await;
        if node.peers().iter().any(|peer| peer.peer == gone && peer.state == PeerState::Down) {
            cluster.peers[index].out = node.forget(gone).await.is_ok();
            return;
        }
    }
}

fn run(seed: u64) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut random = SmallRng::seed_from_u64(seed);
        let config = NodeConfig { rebuild_after: Some(REBUILD_AFTER), ..SimCluster::config(Durability::System) };
        let founders = random.random_range(3..6);
        let mut cluster = SimCluster::start_with(vec![config; PEERS], founders, random.random()).await.unwrap();
        cluster.converge(PATIENCE).await.unwrap();
        let history = Shared::default();
        let mut member = 0_u64;
        for _ in 0..random.random_range(10..30) {
            for _ in 0..random.random_range(10..60) {
                let index = random.random_range(0..PEERS);
                let key = Bytes::from(format!("set {}", random.random_range(0..KEYS)));
                if let Some(node) = cluster.peers[index].node.as_ref().filter(|node| has_met(&cluster, founders, node)) {
                    if random.random_bool(0.5) {
                        member += 1;
                        add(node, key, Bytes::from(member.to_string()), &history);
                    } else {
                        read(node, index, key, &history);
                    }
                }
                sleep(Duration::from_millis(random.random_range(0..60))).await;
            }
            for _ in 0..random.random_range(1..4) {
                let change = strike(&mut cluster, &mut random).await;
                history.lock().unwrap().changes.push(change);
            }
        }
        sleep(Duration::from_secs(10)).await;
        std::mem::take(&mut *history.lock().unwrap())
    })
}

#[test]
fn no_read_at_quorum_misses_what_a_quorum_acknowledged() {
    let count = std::env::var("RINGTIDE_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let first = std::env::var("RINGTIDE_HISTORY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (mut reads, mut writes, mut refused, mut failures) = (0, 0, 0, Vec::new());
    for seed in first..first + count {
        let history = run(seed);
        reads += history.reads;
        writes += history.writes;
        refused += history.refused;
        failures.extend(history.violations.first().map(|what| format!("{what}; RINGTIDE_HISTORY_SEED={seed}")));
    }
    println!("{reads} reads, {writes} writes, {refused} refused");
    assert!(failures.is_empty(), "{} of {count} histories failed:\n{}", failures.len(), failures.join("\n"));
    assert!(refused < (reads + writes) / 2, "{refused} of {} commands were refused", reads + writes + refused);
}
