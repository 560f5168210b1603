//! What goes wrong in a simulated run: faults strike and are mended, as the run's [mixture](super::mixture) and its seed say.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::cluster::SimCluster;
use super::damage::{self, Damaged, Harm, StoredRow};
use super::kinds::{self, Kind, Met, Reached};
use super::losses::Held;
use super::mixture::Mixture;
use super::network::{CALM, Clog, Weather};
use super::storage::{Crash, Faults, SimDisk};
use super::workload::Clients;
use crate::config::{DOWN_AFTER, Durability};
use crate::node::StartError;
use crate::replica::damage::Damage;

/// How long a peer that leaves may take to hand over what it held.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a fault counts as there after it was mended, for what it leaves behind.
const AFTERMATH: Duration = Duration::from_secs(5);
/// How far ahead a clock may be that nobody believes, in milliseconds: once it is right again the others wait so long for what was written by it.
const FAR_AHEAD_MS: i64 = 240_000;

/// A fault that has struck.
struct Ongoing {
    kind: Kind,
    /// At which peer, where it is at one.
    peer: Option<usize>,
    /// From when on it counts as over.
    until: Option<Instant>,
}

/// Lets things go wrong, and keeps account of it.
pub struct Adversary {
    mixture: Mixture,
    clients: Clients,
    weather: Weather,
    ongoing: Vec<Ongoing>,
    met: Met,
    /// Earlier copies of disks.
    copies: Vec<(usize, SimDisk)>,
    /// What stood in a row earlier.
    earlier: Vec<(usize, StoredRow)>,
    /// Rows that are damaged, all at one peer.
    damaged: Vec<Damaged>,
    /// The peer whose rows are damaged, and the one whose clock runs far ahead: only one of each, since a quorum must be left.
    victims: (usize, usize),
    disasters_left: u32,
    /// Whether rows of the one were damaged.
    has_damaged: bool,
}

impl Adversary {
    /// One that strikes as a mixture says.
    pub fn new(mixture: Mixture, clients: Clients, peers: usize, random: &mut SmallRng) -> Self {
        let victims = (random.random_range(0..peers), random.random_range(0..peers));
        let disasters_left = mixture.disasters;
        Self {
            mixture,
            clients,
            weather: CALM,
            ongoing: Vec::new(),
            met: Met::new(),
            copies: Vec::new(),
            earlier: Vec::new(),
            damaged: Vec::new(),
            victims,
            disasters_left,
            has_damaged: false,
        }
    }

    /// The pairs of kinds that met.
    #[must_use]
    pub fn met(&self) -> &Met {
        &self.met
    }

    /// How often faults reached what they are meant for.
    #[must_use]
    pub fn reached(&self, cluster: &SimCluster) -> Reached {
        let mut reached = cluster.network.reached();
        for peer in &cluster.peers {
            kinds::add(&mut reached, peer.disk.reached());
            kinds::add(&mut reached, Reached::from([(Kind::ClockFreeze, peer.clock.read_behind())]));
        }
        kinds::add(&mut reached, Reached::from([(Kind::Forget, cluster.forgotten_came_back)]));
        reached
    }

    /// Demands that no peer has found damage but the one whose rows were damaged: rows that don't add up are a bug elsewhere, which starting anew from the
    /// others would hide.
    ///
    /// # Errors
    /// The peer that has, in words.
    pub fn check_undamaged(&self, cluster: &SimCluster) -> Result<(), String> {
        for (index, peer) in cluster.peers.iter().enumerate().filter(|(index, _)| !self.has_damaged || *index != self.victims.0) {
            let damage = peer.node.as_ref().map(|node| node.status().damage).unwrap_or_default();
            if damage != Damage::default() {
                return Err(format!("node {index} found damage that nobody did: {damage:?}"));
            }
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, peer: Option<usize>) {
        let now = Instant::now();
        self.ongoing.retain(|other| other.until.is_none_or(|until| until > now));
        self.met.extend(self.ongoing.iter().map(|other| (kind.min(other.kind), kind.max(other.kind))));
        // What changes a cluster or a row once is there for as long as its aftermath.
        let passes = matches!(kind, Kind::BitFlip | Kind::LostRow | Kind::StaleRow | Kind::Join | Kind::Leave);
        self.ongoing.push(Ongoing { kind, peer, until: passes.then(|| now + AFTERMATH) });
    }

    fn end(&mut self, is_over: impl Fn(&Ongoing) -> bool) {
        let until = Instant::now() + AFTERMATH;
        for fault in self.ongoing.iter_mut().filter(|fault| fault.until.is_none() && is_over(fault)) {
            fault.until = Some(until);
        }
    }

    /// Lets one thing go wrong, or mends one. Never takes down more than all peers but one.
    ///
    /// # Errors
    /// Where a node did not start.
    pub async fn strike(&mut self, cluster: &mut SimCluster, random: &mut SmallRng) -> Result<(), StartError> {
        self.end_failed(cluster, random);
        let index = random.random_range(0..cluster.peers.len());
        if random.random_bool(0.3) && cluster.peers[index].joined {
            // The past of a disk, or of a row of it, for whoever goes back to it.
            self.copies.push((index, cluster.peers[index].disk.copy()));
            let row = damage::choose_row(&cluster.peers[self.victims.0].disk, &self.clients.history(), random);
            self.earlier.extend(row.map(|row| (self.victims.0, row)));
        }
        let Some(kind) = self.mixture.draw_kind(random) else { return self.mend_one(cluster, index, random).await };
        let struck = match kind {
            Kind::Loss | Kind::Duplicates | Kind::Reordering | Kind::Delay => self.change_weather(cluster, kind, random),
            Kind::OneWayCut | Kind::PartialCut | Kind::Split | Kind::Clog => Self::cut(cluster, kind, index, random),
            Kind::Kill | Kind::PowerLoss => self.kill(cluster, kind, index, random),
            Kind::Pause => {
                cluster.pause(index);
                cluster.peers[index].node.is_some()
            }
            Kind::Wipe | Kind::Restore => self.replace_disk(cluster, kind, index, random).await?,
            Kind::Twin => self.start_twin(cluster, index).await?,
            Kind::WriteError | Kind::ReadError | Kind::FullDisk => Self::break_disk(cluster, kind, index, random),
            Kind::BitFlip | Kind::LostRow | Kind::StaleRow => self.damage(cluster, kind, random),
            Kind::ClockStep | Kind::ClockFreeze | Kind::ClockFarAhead => self.upset_clock(cluster, kind, index, random),
            Kind::Join => cluster.join_next().await?,
            Kind::Leave => cluster.leave(index),
            Kind::Forget => self.forget(cluster, index).await,
        };
        if struck {
            let everywhere = matches!(kind, Kind::Loss | Kind::Duplicates | Kind::Reordering | Kind::Delay | Kind::Split | Kind::Join);
            let peer = match kind {
                Kind::BitFlip | Kind::LostRow | Kind::StaleRow => self.victims.0,
                Kind::ClockFarAhead => self.victims.1,
                _ => index,
            };
            self.begin(kind, (!everywhere).then_some(peer));
        }
        Ok(())
    }

    /// Ends every process that has stopped by itself: with a disk whose writes fail, what was not synced may be gone.
    fn end_failed(&mut self, cluster: &mut SimCluster, random: &mut SmallRng) {
        for index in 0..cluster.peers.len() {
            if cluster.has_failed(index) {
                let crash = if self.mixture.lossy_crashes { Crash::Midway(random.random()) } else { Crash::Process };
                self.crash(cluster, index, crash);
            }
        }
    }

    /// Ends a process. Where every write is synced before it is acknowledged, nothing is excused by that.
    fn crash(&self, cluster: &mut SimCluster, index: usize, crash: Crash) {
        if crash == Crash::Process || self.mixture.durability == Durability::Always {
            cluster.crash(index, crash);
        } else {
            self.fall_back(cluster, index, |cluster| cluster.crash(index, crash));
        }
    }

    /// Lets a disk fall back, and excuses what only it held.
    fn fall_back(&self, cluster: &mut SimCluster, index: usize, fall: impl FnOnce(&mut SimCluster)) {
        let before = Held::by([&cluster.peers[index].disk]);
        fall(cluster);
        self.clients.history().excuse(&before, &Held::by(cluster.disks()));
    }

    fn change_weather(&mut self, cluster: &SimCluster, kind: Kind, random: &mut SmallRng) -> bool {
        match kind {
            Kind::Loss => self.weather.lost = random.random_range(1..60),
            Kind::Duplicates => self.weather.doubled = random.random_range(1..60),
            Kind::Reordering => self.weather.overtaking = true,
            _ => self.weather.latency_ms = (1, random.random_range(50..400)),
        }
        cluster.network.set_weather(self.weather);
        true
    }

    fn cut(cluster: &SimCluster, kind: Kind, index: usize, random: &mut SmallRng) -> bool {
        let peers = &cluster.peers;
        let (from, to) = (peers[index].id, peers[random.random_range(0..peers.len())].id);
        match kind {
            Kind::Split => {
                let is_here: Vec<bool> = peers.iter().map(|_| random.random_bool(0.5)).collect();
                let pairs = (0..peers.len()).flat_map(|one| (0..peers.len()).map(move |other| (one, other)));
                for (one, other) in pairs.filter(|(one, other)| is_here[*one] != is_here[*other]) {
                    cluster.network.cut(peers[one].id, peers[other].id);
                }
                return is_here.contains(&true) && is_here.contains(&false);
            }
            _ if from == to => return false,
            Kind::Clog => {
                let clog = if random.random_bool(0.5) {
                    Clog::Stuck
                } else {
                    Clog::Trickle(Duration::from_millis(random.random_range(20..2_000)))
                };
                cluster.network.clog(from, to, clog);
                if random.random_bool(0.5) {
                    cluster.network.clog(to, from, clog);
                }
            }
            Kind::PartialCut => {
                cluster.network.cut(from, to);
                cluster.network.cut(to, from);
            }
            _ => cluster.network.cut(from, to),
        }
        true
    }

    fn kill(&self, cluster: &mut SimCluster, kind: Kind, index: usize, random: &mut SmallRng) -> bool {
        if cluster.running().count() < 2 || cluster.peers[index].node.is_none() {
            return false;
        }
        let crash = match (kind, self.mixture.lossy_crashes) {
            (Kind::PowerLoss, true) => [Crash::Machine, Crash::Midway(random.random())][random.random_range(0..2)],
            // With nothing that a sync would have to keep, the end of the machine is that of the process.
            _ => Crash::Process,
        };
        self.crash(cluster, index, crash);
        true
    }

    /// Gives a peer a blank disk or an earlier copy of its own, and mostly starts it on that.
    async fn replace_disk(
        &mut self,
        cluster: &mut SimCluster,
        kind: Kind,
        index: usize,
        random: &mut SmallRng,
    ) -> Result<bool, StartError> {
        let copies: Vec<&SimDisk> = self.copies.iter().filter(|(of, _)| *of == index).map(|(_, copy)| copy).collect();
        let copy = match kind {
            Kind::Wipe => None,
            _ if copies.is_empty() => return Ok(false),
            _ => Some(copies[random.random_range(0..copies.len())].clone()),
        };
        if self.disasters_left == 0 || !cluster.peers[index].joined || cluster.running().count() < 2 {
            return Ok(false);
        }
        self.disasters_left -= 1;
        self.fall_back(cluster, index, |cluster| {
            cluster.crash(index, Crash::Process);
            cluster.peers[index].disk.replace(copy.as_ref());
        });
        if random.random_bool(0.7) {
            self.restart(cluster, index).await?;
        }
        Ok(true)
    }

    async fn start_twin(&mut self, cluster: &mut SimCluster, index: usize) -> Result<bool, StartError> {
        let peer = &cluster.peers[index];
        if self.disasters_left == 0 || !peer.joined || peer.twin.is_some() {
            return Ok(false);
        }
        self.disasters_left -= 1;
        cluster.start_twin(index).await?;
        Ok(true)
    }

    fn end_twin(&mut self, cluster: &mut SimCluster, index: usize) {
        let Some(twin) = &cluster.peers[index].twin else { return };
        let before = Held::by([&twin.disk]);
        cluster.end_twin(index);
        self.clients.history().excuse(&before, &Held::by(cluster.disks()));
        self.end(|fault| fault.kind == Kind::Twin && fault.peer == Some(index));
    }

    fn break_disk(cluster: &SimCluster, kind: Kind, index: usize, random: &mut SmallRng) -> bool {
        let disk = &cluster.peers[index].disk;
        if !cluster.peers[index].joined {
            return false;
        }
        let faults = disk.faults();
        disk.set_faults(match kind {
            Kind::WriteError => Faults { next: Some(random.random_bool(0.5)), ..faults },
            Kind::ReadError => Faults { reads: Some(random.random_range(0..200)), ..faults },
            _ if random.random_bool(0.5) => Faults { short: true, ..faults },
            _ => Faults { full: true, ..faults },
        });
        true
    }

    fn damage(&mut self, cluster: &mut SimCluster, kind: Kind, random: &mut SmallRng) -> bool {
        let victim = self.victims.0;
        let disk = cluster.peers[victim].disk.clone();
        let found = {
            let history = self.clients.history();
            let earlier = self.earlier.iter().filter(|(of, row)| *of == victim && damage::can_be_set_back(&disk, &history, row));
            match kind {
                Kind::BitFlip => damage::choose_row(&disk, &history, random).map(|row| (row, Harm::Spoilt(random.random()))),
                Kind::LostRow => damage::choose_row(&disk, &history, random).map(|row| (row, Harm::Lost)),
                _ => earlier.last().map(|(_, row)| (row.clone(), Harm::SetBack(row.clone()))),
            }
        };
        let Some((row, harm)) = found else { return false };
        let mut damaged = None;
        self.fall_back(cluster, victim, |cluster| damaged = Some(damage::harm(cluster, victim, &row, harm)));
        self.damaged.extend(damaged);
        self.has_damaged = true;
        true
    }

    fn upset_clock(&self, cluster: &SimCluster, kind: Kind, index: usize, random: &mut SmallRng) -> bool {
        let most = self.mixture.most_skew_ms;
        match kind {
            Kind::ClockStep => cluster.peers[index].clock.set_skew(random.random_range(-most..=most)),
            Kind::ClockFreeze => cluster.peers[index].clock.freeze(true),
            _ => cluster.peers[self.victims.1].clock.set_skew(random.random_range(90_000..=FAR_AHEAD_MS)),
        }
        true
    }

    async fn forget(&self, cluster: &mut SimCluster, index: usize) -> bool {
        if cluster.running().count() < 4 || cluster.peers[index].out || !cluster.peers[index].joined {
            return false;
        }
        if cluster.peers[index].node.is_some() {
            cluster.crash(index, Crash::Process);
            sleep(DOWN_AFTER + Duration::from_secs(2)).await;
        }
        cluster.forget(index).await
    }

    /// Starts the process of a peer. Where its disk is broken that may fail, and is tried again another time.
    async fn restart(&mut self, cluster: &mut SimCluster, index: usize) -> Result<(), StartError> {
        let faults = cluster.peers[index].disk.faults();
        match cluster.restart(index).await {
            Err(error) if faults == Faults::default() => return Err(error),
            Err(_) => {}
            Ok(()) => self.end(|fault| {
                let is_down = matches!(fault.kind, Kind::Kill | Kind::PowerLoss | Kind::Wipe | Kind::Restore | Kind::Forget);
                fault.peer == Some(index) && is_down
            }),
        }
        Ok(())
    }

    async fn mend_one(&mut self, cluster: &mut SimCluster, index: usize, random: &mut SmallRng) -> Result<(), StartError> {
        match random.random_range(0..9) {
            0..4 if cluster.peers[index].joined => self.restart(cluster, index).await?,
            0..4 => {}
            4 => self.calm(cluster),
            5 => self.unclog(cluster),
            6 => {
                self.repair(cluster, index);
                self.restart_failed(cluster, index).await?;
            }
            7 => self.set_clock(cluster, index),
            _ => self.end_twin(cluster, index),
        }
        Ok(())
    }

    /// Starts again who has stopped by itself.
    async fn restart_failed(&mut self, cluster: &mut SimCluster, index: usize) -> Result<(), StartError> {
        if cluster.has_failed(index) {
            cluster.crash(index, Crash::Process);
            self.restart(cluster, index).await?;
        }
        Ok(())
    }

    fn calm(&mut self, cluster: &SimCluster) {
        self.weather = CALM;
        cluster.network.set_weather(CALM);
        cluster.network.heal();
        self.end(|fault| fault.kind < Kind::Clog);
    }

    fn unclog(&mut self, cluster: &SimCluster) {
        cluster.network.unclog();
        (0..cluster.peers.len()).for_each(|index| cluster.resume(index));
        self.end(|fault| matches!(fault.kind, Kind::Clog | Kind::Pause));
    }

    fn repair(&mut self, cluster: &SimCluster, index: usize) {
        cluster.peers[index].disk.set_faults(Faults::default());
        self.end(|fault| matches!(fault.kind, Kind::WriteError | Kind::ReadError | Kind::FullDisk) && fault.peer == Some(index));
    }

    fn set_clock(&mut self, cluster: &SimCluster, index: usize) {
        cluster.peers[index].clock.freeze(false);
        cluster.peers[index].clock.set_skew(0);
        self.end(|fault| matches!(fault.kind, Kind::ClockStep | Kind::ClockFreeze | Kind::ClockFarAhead) && fault.peer == Some(index));
    }

    /// Mends everything: all peers that have joined run, each once, on disks that work; nothing is cut or clogged, every clock is right, whoever
    /// has left is back, and what was damaged has been written to.
    ///
    /// # Errors
    /// Where a node did not start, somebody who leaves can't hand over what it held, or a damaged row can't be written to.
    pub async fn mend(&mut self, cluster: &mut SimCluster, random: &mut SmallRng) -> Result<(), String> {
        self.calm(cluster);
        self.unclog(cluster);
        for index in 0..cluster.peers.len() {
            self.end_twin(cluster, index);
            self.repair(cluster, index);
            self.set_clock(cluster, index);
        }
        self.end_failed(cluster, random);
        for index in 0..cluster.peers.len() {
            if cluster.peers[index].joined {
                self.restart(cluster, index).await.map_err(|error| format!("a peer did not start: {error}"))?;
            }
        }
        if self.mixture.has(Kind::ClockFarAhead) {
            // What was stamped by a clock that nobody believed is taken in once its time has come.
            sleep(Duration::from_millis(FAR_AHEAD_MS.unsigned_abs())).await;
        }
        cluster.bring_back(PATIENCE).await?;
        for damaged in std::mem::take(&mut self.damaged) {
            let mut history = std::mem::take(&mut *self.clients.history());
            let touched = damage::touch(cluster, &mut history, &damaged, random).await;
            *self.clients.history() = history;
            touched?;
        }
        Ok(())
    }
}
