//! Who belongs to the cluster, who can be reached, and what follows when that changes: the ring, and this peer's roles in it.
//!
//! The member list is a replicated value of its own, small and gossiped whole. One task takes every event in turn, so the ring, the
//! replica's roles and what others read change in one order: roles first, then the ring is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::absences::Absences;
use crate::config::HEARTBEAT_INTERVAL;
use crate::detector::{Detector, State};
use crate::env::message::{Message, Standing as Worth};
use crate::env::{Clock, Lane};
use crate::exchange::Exchange;
use crate::listeners::Listeners;
use crate::members::{Members, Standing};
use crate::newcomer::{Change, FormerHolders};
use crate::pace::Pace;
use crate::replica::owner::{Ended, Writer};
use crate::replica::view::View;
use crate::replica::{Replica, partition};
use crate::skew::{Offsets, Skew};
use crate::topology::{Cluster, Topology};
use crate::types::{Actor, Partition, PeerId};

/// The name of the record that keeps the member list.
pub const MEMBERS_RECORD: &str = "members";

/// What membership is told.
#[derive(Debug)]
pub enum MembershipEvent {
    /// A peer is connected.
    Connected(PeerId),
    /// Its connection is gone.
    Disconnected(PeerId),
    /// The peer is there, and named the digest of its member list.
    Heartbeat {
        /// Who.
        peer: PeerId,
        /// The digest.
        members: u64,
        /// The partitions that it has sealed.
        sealed: Vec<Partition>,
        /// Whom it would replace.
        missed: Vec<PeerId>,
        /// What its clock says, in milliseconds since 1970.
        wall_ms: u64,
    },
    /// The peer's member list.
    Members(PeerId, Box<Members>),
    /// A member leaves the ring by its own will, or was found to be gone for good.
    TakeOut(PeerId, Standing),
}

/// What a peer knows of another's liveness, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Liveness {
    /// Up, suspect or down.
    pub state: State,
    /// Milliseconds since it was last heard.
    pub silent_ms: Option<u64>,
    /// Whether it has told who belongs since this peer was started.
    pub told: bool,
}

/// Where the liveness of every peer is published.
pub type SharedLiveness = Arc<ArcSwap<BTreeMap<PeerId, Liveness>>>;

/// What heartbeats tell beside who belongs.
pub struct Beats {
    /// Whether anybody listens here.
    pub listeners: Listeners,
    /// Who is missed.
    pub absences: Absences,
    /// Whether clients keep this peer busy.
    pub pace: Pace,
    /// What this peer's clock says.
    pub clock: Arc<dyn Clock>,
    /// By how much it is off.
    pub skew: Skew,
}

/// The task's state.
pub struct Membership<T> {
    topology: Topology,
    exchange: Exchange,
    listeners: Listeners,
    writer: Writer<T>,
    view: Arc<ArcSwap<View>>,
    members: Members,
    detector: Detector,
    absences: Absences,
    pace: Pace,
    clock: Arc<dyn Clock>,
    skew: Skew,
    offsets: Offsets,
    connected: BTreeSet<PeerId>,
    /// Who has told its member list since this peer was started.
    told: BTreeSet<PeerId>,
    /// Who said last that it knows the same members as this peer.
    agreeing: BTreeSet<PeerId>,
    started: Instant,
    /// Whether this peer was out at its start, and joins again once it has handed over what it held before.
    returns: bool,
    /// Told of peers that anti-entropy and handoff should turn to now.
    wake: mpsc::Sender<PeerId>,
    liveness: SharedLiveness,
}

impl<T: Send + 'static> Membership<T> {
    /// Begins with the members that this peer knew at its last stop, itself included.
    #[must_use]
    pub fn new(
        topology: Topology,
        exchange: Exchange,
        writer: Writer<T>,
        view: Arc<ArcSwap<View>>,
        members: Members,
        beats: Beats,
        wake: mpsc::Sender<PeerId>,
    ) -> Self {
        let Beats { listeners, absences, pace, clock, skew } = beats;
        let (connected, started, liveness) = (BTreeSet::new(), Instant::now(), SharedLiveness::default());
        let (detector, returns) = (Detector::default(), !topology.cluster().is_member(topology.local()));
        let (agreeing, told) = (BTreeSet::new(), BTreeSet::new());
        Self {
            topology,
            exchange,
            listeners,
            writer,
            view,
            members,
            detector,
            absences,
            pace,
            clock,
            skew,
            offsets: Offsets::default(),
            connected,
            told,
            agreeing,
            started,
            returns,
            wake,
            liveness,
        }
    }

    /// Where the liveness of every peer is published.
    #[must_use]
    pub fn liveness(&self) -> SharedLiveness {
        Arc::clone(&self.liveness)
    }

    /// Runs until the events end or the writer does.
    pub async fn run(mut self, mut events: mpsc::Receiver<MembershipEvent>) {
        let mut ticks = interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.seek_all();
        loop {
            let turn = tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                _ = ticks.tick() => self.tick().await,
            };
            if turn == Err(Ended) {
                return;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn take(&mut self, event: MembershipEvent) -> Result<(), Ended> {
        let now_ms = self.now_ms();
        match event {
            MembershipEvent::Connected(peer) => {
                self.detector.connected(peer, now_ms);
                self.connected.insert(peer);
                self.judge();
                self.send_members(peer);
                self.show_reachable();
                let _ = self.wake.try_send(peer);
            }
            MembershipEvent::Disconnected(peer) => {
                self.detector.disconnected(peer);
                self.offsets.forget(peer);
                self.connected.remove(&peer);
                self.judge();
                self.show_reachable();
            }
            MembershipEvent::Heartbeat { peer, members, sealed, missed, wall_ms } => {
                self.detector.heard(peer, now_ms);
                self.offsets.told(peer, wall_ms, self.clock.wall_ms());
                self.absences.told(peer, missed);
                let agrees = members == self.members.digest();
                if !agrees {
                    self.agreeing.remove(&peer);
                    self.send_members(peer);
                } else if self.agreeing.insert(peer) && self.is_syncing() {
                    // A first sync counts pulls only from who sees the same ring.
                    let _ = self.wake.try_send(peer);
                }
                self.take_sealed(peer, sealed, agrees);
            }
            MembershipEvent::Members(peer, members) => {
                self.detector.heard(peer, now_ms);
                self.merge(peer, *members).await?;
                if self.told.insert(peer) {
                    self.show_reachable();
                }
            }
            MembershipEvent::TakeOut(peer, standing) => {
                self.returns &= peer != self.topology.local();
                let mut members = self.members.clone();
                if members.take_out(peer, standing) {
                    tracing::warn!(%peer, ?standing, "a member is taken out of the ring");
                    return self.adopt_own(members).await;
                }
            }
        }
        Ok(())
    }

    /// Says "I am here" to everybody, and notices who has fallen silent.
    async fn tick(&mut self) -> Result<(), Ended> {
        let (sealed, hints, actor) = {
            let view = self.view.load();
            (view.sealed(), view.shown.hints, view.actor())
        };
        let may_return = sealed.is_empty() && hints == 0;
        let missed = self.absences.missed(self.now_ms());
        let (members, listening) = (self.members.digest(), self.listeners.own());
        let (busy, wall_ms) = (self.pace.was_busy(), self.clock.wall_ms());
        let heartbeat = Message::Heartbeat { members, sealed, missed, busy, listening, wall_ms }.to_frame();
        for peer in &self.connected {
            let _ = self.exchange.send_frame(*peer, Lane::Operations, heartbeat.clone());
        }
        self.judge();
        self.judge_clock();
        self.show_reachable();
        self.renew_own(actor).await?;
        self.replace_the_missed().await?;
        if self.returns && may_return {
            self.returns = false;
            let mut members = self.members.clone();
            if members.join_again(self.topology.local()) {
                tracing::info!("this peer was out of the ring, and joins again");
                return self.adopt_own(members).await;
            }
        }
        Ok(())
    }

    /// Builds the ring without a member that a majority misses.
    async fn replace_the_missed(&mut self) -> Result<(), Ended> {
        let (local, now_ms) = (self.topology.local(), self.now_ms());
        for member in self.members.joined().filter(|member| member.peer != local) {
            self.absences.observe(member.peer, self.detector.state(member.peer) == State::Down, member.absences, now_ms);
        }
        let up = self.members.joined().map(|member| member.peer).filter(|peer| self.detector.state(*peer) == State::Up).collect();
        let Some(missed) = self.absences.to_replace(local, &self.members, &up, self.topology.replicas(), now_ms) else { return Ok(()) };
        let mut members = self.members.clone();
        if members.replace(missed) {
            tracing::warn!(peer = %missed, "a majority of the members misses this peer: others take its place until it is back");
            return self.adopt_own(members).await;
        }
        Ok(())
    }

    /// Adopts a list that this peer has changed itself.
    async fn adopt_own(&mut self, members: Members) -> Result<(), Ended> {
        let former = self.former_holders(&self.members, &self.members, &members);
        self.adopt(members, former, None).await
    }

    /// Whether the first sync of any partition is not done here.
    fn is_syncing(&self) -> bool {
        self.view.load().partitions().iter().any(|partition| partition.holder && partition.standing == Worth::Extra)
    }

    /// Notes which partitions a peer has sealed.
    fn take_sealed(&self, peer: PeerId, sealed: Vec<Partition>, agrees: bool) {
        let cluster = self.topology.cluster();
        let known = sealed.into_iter().filter(|partition| partition.0 < self.topology.partitions()).collect();
        let mut former = cluster.former.clone();
        former.told(peer, known, agrees);
        if former != cluster.former {
            self.topology.publish(Cluster { former, ..(*cluster).clone() });
        }
    }

    /// Notices whose state has changed. Whoever is up again is turned to, whichever event it was noticed at.
    fn judge(&mut self) {
        for (peer, state) in self.detector.tick(self.now_ms()) {
            tracing::info!(%peer, ?state, "a peer's state has changed");
            if state == State::Up {
                let _ = self.wake.try_send(peer);
            }
        }
    }

    /// Notices whether this peer's clock can be believed.
    fn judge_clock(&self) {
        let ahead_ms = self.offsets.judge(&self.members.joined().map(|member| member.peer).collect::<Vec<_>>());
        match (self.skew.judged(ahead_ms), ahead_ms) {
            (false, _) => {}
            (true, 0) => tracing::info!("the clock of this peer agrees with those of the others again"),
            (true, _) => tracing::error!(
                ahead_ms,
                "the clock of this peer is not that of most others: they carry out what its clients write until it is set right"
            ),
        }
    }

    /// Keeps this peer's own record true: where it is reached, and under which names it writes.
    async fn renew_own(&mut self, actor: Actor) -> Result<(), Ended> {
        let local = self.topology.local();
        let Some(own) = self.members.get(local) else { return Ok(()) };
        let mut renewed = own.clone();
        let addresses = self.exchange.network().addresses();
        if !addresses.is_empty() {
            renewed.addresses = addresses;
        }
        if renewed.actors.last() != Some(&actor.0) {
            renewed.actors.retain(|known| *known != actor.0);
            renewed.actors.push(actor.0);
        }
        if !own.settled && self.members.joined().count() > 1 && !self.is_syncing() {
            // After all that were here before, whatever this peer's clock said.
            let others = self.members.iter().filter(|member| member.settled).map(|member| member.born_ms.saturating_add(1));
            renewed.born_ms = others.fold(own.born_ms, u64::max);
            renewed.settled = true;
        }
        if renewed == *own {
            return Ok(());
        }
        let mut members = self.members.clone();
        if !members.put_own(renewed) {
            return Ok(());
        }
        self.adopt(members, FormerHolders::new(), None).await
    }

    async fn merge(&mut self, from: PeerId, theirs: Members) -> Result<(), Ended> {
        let mut merged = self.members.clone();
        if !merged.merge_from(&theirs) {
            return Ok(());
        }
        let mut put_back = merged.clone();
        if put_back.put_back(self.topology.local()) {
            tracing::warn!("this peer was away for so long that others took its place: it pulls what it missed");
            // Whatever was acknowledged until then, those who hold it by their list know: it is a newcomer to them, whichever rings were before.
            let former = self.former_holders(&merged, &theirs, &put_back);
            return self.adopt(put_back, former, None).await;
        }
        let former = self.former_holders(&self.members, &theirs, &merged);
        self.adopt(merged, former, Some(from)).await
    }

    fn former_holders(&self, before: &Members, theirs: &Members, after: &Members) -> FormerHolders {
        let change = Change { known: &self.members, before, theirs, after };
        change.former_holders(self.topology.local(), self.topology.partitions(), self.topology.replicas())
    }

    /// Makes another member list this peer's own: durable, then the roles that follow, then everybody sees it and hears of it.
    async fn adopt(&mut self, members: Members, former: FormerHolders, heard_from: Option<PeerId>) -> Result<(), Ended> {
        let local = self.topology.local();
        let ring = Cluster::ring_of(&members, self.topology.partitions(), self.topology.replicas());
        let (record, roles) = (partition::to_bytes(&members), ring.clone());
        let forgotten: BTreeSet<PeerId> = members.forgotten().collect();
        let adopt = move |replica: &mut Replica| {
            replica.adopt_members((MEMBERS_RECORD, record), local, &roles, &former)?;
            replica.forget_former(&forgotten)
        };
        self.writer.step(adopt).await?;
        let was_member = self.topology.cluster().is_member(local);
        if was_member && members.get(local).is_some_and(|own| own.standing == Standing::Forgotten) {
            tracing::warn!(
                "this peer was taken out of the ring by RINGTIDE FORGET: it hands over what it has; start it again to join again"
            );
        }
        let cluster = self.topology.cluster();
        let ring_changed = ring != cluster.ring;
        let mut former = cluster.former.clone();
        former.ring_changed(&cluster.ring, &ring, self.topology.every_partition());
        self.members = members;
        self.agreeing.clear();
        self.topology.publish(Cluster {
            ring,
            members: self.members.clone(),
            reachable: self.reachable(),
            leaving: self.leaving(),
            former,
        });
        self.seek_all();
        for peer in self.connected.clone() {
            if Some(peer) != heard_from {
                self.send_members(peer);
            }
            if ring_changed {
                let _ = self.wake.try_send(peer);
            }
        }
        Ok(())
    }

    fn reachable(&self) -> BTreeSet<PeerId> {
        self.connected_and(|standing| standing == Standing::Joined)
    }

    fn leaving(&self) -> BTreeSet<PeerId> {
        self.connected_and(|standing| standing != Standing::Joined)
    }

    /// The peers of some standings that are connected and not down.
    fn connected_and(&self, wanted: impl Fn(Standing) -> bool) -> BTreeSet<PeerId> {
        let members = self.members.iter().filter(|member| wanted(member.standing)).map(|member| member.peer);
        members.filter(|peer| self.connected.contains(peer) && self.detector.state(*peer) != State::Down).collect()
    }

    /// Shows everybody who can be reached, and people how everybody is.
    fn show_reachable(&self) {
        let cluster = self.topology.cluster();
        let (reachable, leaving) = (self.reachable(), self.leaving());
        if reachable != cluster.reachable || leaving != cluster.leaving {
            self.topology.publish(Cluster { reachable, leaving, ..(*cluster).clone() });
        }
        let now_ms = self.now_ms();
        let liveness = |peer: PeerId| Liveness {
            state: self.detector.state(peer),
            silent_ms: self.detector.last_heard(peer).map(|heard| now_ms.saturating_sub(heard)),
            told: self.told.contains(&peer),
        };
        self.liveness.store(Arc::new(self.members.iter().map(|member| (member.peer, liveness(member.peer))).collect()));
    }

    fn send_members(&self, peer: PeerId) {
        let message = Message::Members(Box::new(self.members.clone()));
        if let Err(error) = self.exchange.tell(peer, Lane::Bulk, &message) {
            tracing::debug!(%peer, %error, "the member list was not sent");
        }
    }

    /// Asks the network to keep looking for every member.
    fn seek_all(&self) {
        for member in self.members.joined().filter(|member| member.peer != self.topology.local()) {
            self.exchange.network().seek(member.peer, member.addresses.clone());
        }
    }
}
