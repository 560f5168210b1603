//! What goes wrong in a simulated run: drawn from the seed, in differing mixtures.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::cluster::SimCluster;
use super::network::{CALM, Weather};
use super::storage::Crash;
use crate::config::Durability;
use crate::node::StartError;

/// How long a peer that leaves may take to hand over what it held.
const PATIENCE: Duration = Duration::from_secs(300);

/// How likely each kind of fault is in one run; some runs have only a few kinds, so that each is also seen by itself.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    crash: u32,
    cut: u32,
    storm: u32,
    skew: u32,
    join: u32,
    leave: u32,
    /// By how much a clock is wrong at most, in milliseconds. Two that are wrong both ways stay within the drift that peers allow.
    pub most_skew_ms: i64,
    /// Whether a crash may lose what was not synced.
    lossy_crashes: bool,
    /// When a write counts as stored.
    pub durability: Durability,
}

impl Mixture {
    /// Draws a mixture.
    pub fn draw(random: &mut SmallRng) -> Self {
        let mut weight = || if random.random_bool(0.6) { random.random_range(1..10) } else { 0 };
        let (crash, cut, storm, skew, join, leave) = (weight(), weight(), weight(), weight(), weight(), weight());
        let most_skew_ms = if skew == 0 { 0 } else { [500, 5_000, 20_000, 25_000][random.random_range(0..4)] };
        let every = Durability::Every(Duration::from_millis(50));
        let (lossy_crashes, durability) =
            [(false, every), (false, every), (true, Durability::Always), (true, Durability::Always), (true, every)]
                [random.random_range(0..5)];
        Self { crash, cut, storm, skew, join, leave, most_skew_ms, lossy_crashes, durability }
    }

    /// Whether crashes may lose writes that were acknowledged: then nothing is promised of single writes, and everything else all the same.
    #[must_use]
    pub fn loses_writes(&self) -> bool {
        self.lossy_crashes && self.durability != Durability::Always
    }

    /// Lets one thing go wrong, or mends one. Never takes down more than all peers but one.
    ///
    /// # Errors
    /// Where a node did not start.
    pub async fn strike(&self, cluster: &mut SimCluster, random: &mut SmallRng) -> Result<(), StartError> {
        let index = random.random_range(0..cluster.peers.len());
        let other = random.random_range(0..cluster.peers.len());
        let kinds = self.crash + self.cut + self.storm + self.skew + self.join + self.leave;
        let mut roll = random.random_range(0..kinds + 4);
        let mut falls = |weight: u32| {
            let within = roll < weight;
            roll = roll.saturating_sub(weight);
            within
        };
        if falls(self.crash) {
            if cluster.running().count() > 1 && cluster.peers[index].node.is_some() {
                cluster.crash(index, self.crash(random));
            }
        } else if falls(self.cut) {
            let (from, to) = (cluster.peers[index].id, cluster.peers[other].id);
            if from != to {
                cluster.network.cut(from, to);
                if random.random_bool(0.5) {
                    cluster.network.cut(to, from);
                }
            }
        } else if falls(self.storm) {
            cluster.network.set_weather(Weather {
                latency_ms: (1, random.random_range(2..400)),
                lost: random.random_range(0..60),
                doubled: random.random_range(0..60),
                overtaking: random.random_bool(0.5),
            });
        } else if falls(self.skew) {
            cluster.peers[index].clock.set_skew(random.random_range(-self.most_skew_ms..=self.most_skew_ms));
        } else if falls(self.join) {
            cluster.join_next().await?;
        } else if falls(self.leave) {
            cluster.leave(index);
        } else if random.random_bool(0.5) {
            if cluster.peers[index].joined {
                cluster.restart(index).await?;
            }
        } else {
            cluster.network.set_weather(CALM);
            cluster.network.heal();
        }
        Ok(())
    }

    fn crash(&self, random: &mut SmallRng) -> Crash {
        match (self.lossy_crashes, random.random_range(0..3)) {
            (false, _) | (true, 0) => Crash::Process,
            (true, 1) => Crash::Machine,
            (true, _) => Crash::Midway(random.random()),
        }
    }
}

/// Mends everything: all peers that have joined run, nothing is cut, every clock is right, and whoever has left is back.
///
/// # Errors
/// Where a node did not start, or somebody who leaves can't hand over what it held.
pub async fn mend(cluster: &mut SimCluster) -> Result<(), String> {
    cluster.network.set_weather(CALM);
    cluster.network.heal();
    for index in 0..cluster.peers.len() {
        cluster.peers[index].clock.set_skew(0);
        if cluster.peers[index].joined {
            cluster.restart(index).await.map_err(|error| error.to_string())?;
        }
    }
    cluster.bring_back(PATIENCE).await
}
