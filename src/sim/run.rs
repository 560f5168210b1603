//! One seed, one run: a few peers begin, the others join while faults and clients go on; then everything is mended and the checker has its
//! say; then rows of one peer are damaged, which must harm nothing; then all is deleted while one peer is away, and must be gone when it is back.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::cluster::SimCluster;
use super::faults::Adversary;
use super::kinds::{Kind, Met, Reached};
use super::mixture::Mixture;
use super::storage::Crash;
use super::workload::Clients;
use super::{checker, damage};
use crate::config::NodeConfig;
use crate::node::{Node, StartError};

/// In which time every stored row is looked at once: within a run, unlike by default.
const SCRUB_PERIOD: Duration = Duration::from_secs(120);

/// What a run was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash over everything that was delivered and answered.
    pub trace: String,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that failed.
    pub failed: u64,
    /// The kinds of faults that met.
    pub met: Met,
    /// How often faults reached what they are meant for.
    pub reached: Reached,
    /// Simulated time, for all peers together.
    pub peer_time: Duration,
}

/// Runs a seed in a runtime of its own, on a paused clock.
///
/// # Errors
/// The first violation, in words.
pub fn run(seed: u64, peers: usize) -> Result<Report, String> {
    run_with(seed, peers, |drawn| drawn)
}

/// As [`run`], with what is `made` of the mixture that the seed draws.
///
/// # Errors
/// The first violation, in words.
pub fn run_with(seed: u64, peers: usize, made: impl FnOnce(Mixture) -> Mixture) -> Result<Report, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().map_err(|error| error.to_string())?;
    runtime.block_on(simulate(seed, peers, made))
}

fn not_started(error: StartError) -> String {
    format!("a peer did not start: {error}")
}

/// Whoever has not joined does now, all at once or a little after each other.
async fn join_all(cluster: &mut SimCluster, random: &mut SmallRng) -> Result<(), String> {
    while cluster.join_next().await.map_err(not_started)? {
        if random.random_bool(0.5) {
            sleep(Duration::from_millis(random.random_range(0..3_000))).await;
        }
    }
    Ok(())
}

async fn simulate(seed: u64, peers: usize, made: impl FnOnce(Mixture) -> Mixture) -> Result<Report, String> {
    let started = Instant::now();
    let mut random = SmallRng::seed_from_u64(seed);
    let mixture = made(Mixture::draw(&mut random));
    let founders = [2, 3, 3, 3, peers][random.random_range(0..5)].min(peers);
    let config = NodeConfig { scrub_period: Some(SCRUB_PERIOD), ..SimCluster::config(mixture.durability) };
    let mut cluster = SimCluster::start_with(vec![config; peers], founders, random.random()).await.map_err(not_started)?;
    let clients = Clients::new(cluster.network.clone(), cluster.truth.clone(), mixture.most_apart_ms(), mixture.lingers());
    let far_ahead = mixture.has(Kind::ClockFarAhead);
    let mut adversary = Adversary::new(mixture, clients.clone(), peers, &mut random);

    let strikes = random.random_range(5..40);
    for _ in 0..strikes {
        for _ in 0..random.random_range(1..25) {
            let peer = &cluster.peers[random.random_range(0..peers)];
            let twin = peer.twin.as_ref().map(|twin| &twin.process.node);
            let processes: Vec<&Node> = peer.node.iter().chain(twin).collect();
            if let Some(node) = processes.get(random.random_range(0..processes.len().max(1))) {
                clients.send(node, &mut random);
            }
            sleep(Duration::from_millis(random.random_range(0..120))).await;
        }
        adversary.strike(&mut cluster, &mut random).await.map_err(not_started)?;
        if random.random_bool(0.1) {
            // Time for hints, handovers, pulls and the failure detector to get somewhere before the next fault.
            sleep(Duration::from_secs(random.random_range(1..15))).await;
        }
    }
    // Commands so far apart that their order is sure by every clock.
    for _ in 0..random.random_range(1..4) {
        sleep(Duration::from_millis(clients.doubt_ms)).await;
        let running: Vec<Node> = cluster.running().cloned().collect();
        if let Some(node) = running.get(random.random_range(0..running.len().max(1))) {
            clients.send_expiring(node, &mut random);
        }
    }
    // Every command gets its answer, or is given up, before the cluster is mended.
    sleep(Duration::from_secs(15)).await;
    let joins_after_healing = random.random_bool(0.3);
    if !joins_after_healing {
        join_all(&mut cluster, &mut random).await?;
    }
    adversary.mend(&mut cluster, &mut random).await?;
    let mut history = std::mem::take(&mut *clients.history());
    if far_ahead {
        // A peer whose clock nobody believes ends keys when it thinks fit.
        history.open.extend(history.expiring.keys().cloned());
    }
    checker::check(&mut cluster, &history, clients.doubt_ms).await?;
    if cluster.joined() < peers {
        join_all(&mut cluster, &mut random).await?;
        checker::watch(&mut cluster, &history, &mut random).await?;
        adversary.mend(&mut cluster, &mut random).await?;
        checker::check(&mut cluster, &history, clients.doubt_ms).await?;
    }

    adversary.check_undamaged(&cluster)?;
    if peers > 2 && random.random_bool(0.6) {
        damage::strike(&cluster, &mut history, &mut random).await?;
        sleep(Duration::from_secs(random.random_range(0..30))).await;
        if random.random_bool(0.3) {
            let index = random.random_range(0..peers);
            cluster.crash(index, Crash::Process);
            cluster.restart(index).await.map_err(not_started)?;
        }
        checker::check(&mut cluster, &history, clients.doubt_ms).await?;
    }

    checker::check_swept(&cluster, &history, clients.doubt_ms).await?;

    let away = random.random_range(0..peers);
    let witness = (away + 1) % peers;
    cluster.crash(away, Crash::Process);
    sleep(Duration::from_secs(12)).await;
    if let Some(node) = cluster.peers[witness].node.clone() {
        let keys = checker::delete_all(&node, &history).await?;
        sleep(Duration::from_secs(30)).await;
        cluster.restart(away).await.map_err(not_started)?;
        checker::check_gone(&cluster, &keys).await?;
    }
    let peer_time = started.elapsed() * u32::try_from(peers).unwrap_or(1);
    let (trace, met, reached) = (cluster.network.trace(), adversary.met().clone(), adversary.reached(&cluster));
    Ok(Report { trace, acknowledged: history.acknowledged, failed: history.failed, met, reached, peer_time })
}
