//! One seed, one run: faults and clients for a while, then everything is mended and the checker has its say; then all is deleted
//! while one peer is away, and must be gone when it is back.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::checker;
use super::cluster::SimCluster;
use super::faults::{Mixture, mend};
use super::storage::Crash;
use super::workload::Clients;
use crate::config::Durability;

/// What a run was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash over everything that was delivered and answered.
    pub trace: String,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that failed.
    pub failed: u64,
    /// Simulated time, for all peers together.
    pub peer_time: Duration,
}

/// Runs a seed in a runtime of its own, on a paused clock.
///
/// # Errors
/// The first violation, in words.
pub fn run(seed: u64, peers: usize) -> Result<Report, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().map_err(|error| error.to_string())?;
    runtime.block_on(simulate(seed, peers))
}

async fn simulate(seed: u64, peers: usize) -> Result<Report, String> {
    let started = Instant::now();
    let mut random = SmallRng::seed_from_u64(seed);
    let mixture = Mixture::draw(&mut random);
    let durability = if mixture.lossy_crashes { Durability::Always } else { Durability::Every(Duration::from_millis(50)) };
    let mut cluster = SimCluster::start(peers, random.random(), durability).await.map_err(|error| error.to_string())?;
    let clients = Clients::new(cluster.network.clone());

    let strikes = random.random_range(5..25);
    for _ in 0..strikes {
        for _ in 0..random.random_range(1..25) {
            let index = random.random_range(0..peers);
            if let Some(node) = &cluster.peers[index].node {
                clients.send(node, &mut random);
            }
            sleep(Duration::from_millis(random.random_range(0..120))).await;
        }
        mixture.strike(&mut cluster, &mut random).await.map_err(|error| format!("a peer did not start: {error}"))?;
    }
    // Every command gets its answer, or is given up, before the cluster is mended.
    sleep(Duration::from_secs(15)).await;
    mend(&mut cluster).await.map_err(|error| format!("a peer did not start: {error}"))?;
    let history = std::mem::take(&mut *clients.history());
    checker::check(&mut cluster, &history).await?;

    let away = random.random_range(0..peers);
    let witness = (away + 1) % peers;
    cluster.crash(away, Crash::Process);
    sleep(Duration::from_secs(12)).await;
    if let Some(node) = cluster.peers[witness].node.clone() {
        let keys = checker::delete_all(&node, &history).await?;
        sleep(Duration::from_secs(30)).await;
        cluster.restart(away).await.map_err(|error| format!("a peer did not start: {error}"))?;
        checker::check_gone(&cluster, &keys).await?;
    }
    let peer_time = started.elapsed() * u32::try_from(peers).unwrap_or(1);
    Ok(Report { trace: cluster.network.trace(), acknowledged: history.acknowledged, failed: history.failed, peer_time })
}
