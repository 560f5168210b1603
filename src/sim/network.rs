//! A network in memory, for the simulator: seeded latency, cuts, clogged links, and frames that are lost, doubled or overtaken.
//!
//! Any two peers that run and are not cut apart are connected after a moment, as on a LAN. A cut swallows frames at once and is noticed
//! some time later. A clogged link stays open: what is sent over it waits, or trickles. Everything passes through one queue ordered by time,
//! so a seed gives the same run each time; a hash over all that was delivered is the run's trace.
//!
//! Two processes may run under one identity, as where a data folder was copied: another peer is connected to one of the two, whichever it
//! met, and to the other once that one's connection is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::dots::Dots;
use super::kinds::{Kind, Reached};
use super::storage::SimDisk;
use crate::config::MAX_FRAME;
use crate::env::{Lane, Network, NetworkEvent, SendError};
use crate::types::PeerId;

/// Events that wait for one node; a node that takes none for so long loses its connections.
const EVENTS: usize = 64 * 1024;
/// Frames that wait on a link that moves nothing; more are not taken.
const MOST_HELD: usize = 4096;
/// How far behind a link that trickles may fall; a queue that would take longer to empty is full.
const MOST_BEHIND: Duration = Duration::from_secs(20);

/// How frames fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest and longest time that a frame takes, in milliseconds.
    pub latency_ms: (u64, u64),
    /// Of a thousand frames, how many are lost without the connection breaking: more than a real backend would do.
    pub lost: u32,
    /// Of a thousand frames, how many arrive twice.
    pub doubled: u32,
    /// Whether frames of one lane may overtake each other.
    pub overtaking: bool,
}

/// Calm: nothing is lost.
pub const CALM: Weather = Weather { latency_ms: (1, 5), lost: 0, doubled: 0, overtaking: false };

/// How a clogged link fares: it moves nothing, or one frame each so often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clog {
    /// Nothing moves.
    Stuck,
    /// One frame in so long a time.
    Trickle(Duration),
}

/// A frame on its way over a connection.
struct Carried {
    from: PeerId,
    to: PeerId,
    lane: Lane,
    frame: Bytes,
    link: u64,
}

enum Step {
    Connect(PeerId, PeerId),
    Break(PeerId, PeerId),
    Deliver(Carried),
}

/// One process on the network.
struct Joined {
    peer: PeerId,
    events: mpsc::Sender<NetworkEvent>,
}

/// A connection between two peers, the one with the smaller id first.
#[derive(Clone, Copy)]
struct Link {
    /// Names this connection.
    number: u64,
    /// Which process of either it ends at.
    ends: (u64, u64),
}

struct State {
    random: SmallRng,
    weather: Weather,
    /// By the number of the process.
    ports: BTreeMap<u64, Joined>,
    /// Connected pairs, the smaller id first.
    links: BTreeMap<(PeerId, PeerId), Link>,
    /// Directions in which nothing gets through.
    cut: BTreeSet<(PeerId, PeerId)>,
    /// Directions in which little or nothing moves, over links that stay open.
    clogged: BTreeMap<(PeerId, PeerId), Clog>,
    /// Peers that neither send nor take anything, and whose connections stay open.
    paused: BTreeSet<PeerId>,
    /// What waits for a link to move again, in order.
    held: BTreeMap<(PeerId, PeerId), Vec<Carried>>,
    queue: BTreeMap<(Instant, u64), Step>,
    /// When the last frame of a lane arrives: the next arrives no earlier.
    arrivals: BTreeMap<(PeerId, PeerId, Lane), Instant>,
    next: u64,
    trace: blake3::Hasher,
    delivered: u64,
    dots: Dots,
    reached: Reached,
    started: Instant,
}

/// The network that all simulated peers share.
#[derive(Clone)]
pub struct SimNetwork {
    /// Never held while other code runs.
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// One peer's side of a [`SimNetwork`].
struct Port {
    local: PeerId,
    process: u64,
    network: SimNetwork,
}

fn pair(one: PeerId, other: PeerId) -> (PeerId, PeerId) {
    (one.min(other), one.max(other))
}

impl SimNetwork {
    /// A calm network between peers that share so many partitions. To be made inside the simulation's runtime, in which it runs a task of
    /// its own.
    #[must_use]
    pub fn new(seed: u64, partitions: u16) -> Self {
        let state = State {
            random: SmallRng::seed_from_u64(seed),
            weather: CALM,
            ports: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            clogged: BTreeMap::new(),
            paused: BTreeSet::new(),
            held: BTreeMap::new(),
            queue: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next: 0,
            trace: blake3::Hasher::new(),
            delivered: 0,
            dots: Dots::new(partitions),
            reached: Reached::new(),
            started: Instant::now(),
        };
        let network = Self { state: Arc::new(Mutex::new(state)), changed: Arc::default() };
        tokio::spawn(network.clone().run());
        network
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a process of a peer onto the network. The number names it.
    #[must_use]
    pub fn join(&self, local: PeerId) -> (u64, Arc<dyn Network>, mpsc::Receiver<NetworkEvent>) {
        let (events, received) = mpsc::channel(EVENTS);
        let mut state = self.state();
        state.next += 1;
        let process = state.next;
        state.ports.insert(process, Joined { peer: local, events });
        state.connect_to_all(local);
        drop(state);
        self.changed.notify_one();
        (process, Arc::new(Port { local, process, network: self.clone() }), received)
    }

    /// Takes a process off the network: it has ended, and the others notice at once. Where another runs under the same identity, they find that.
    pub fn leave(&self, process: u64) {
        let mut state = self.state();
        let Some(Joined { peer, .. }) = state.ports.remove(&process) else { return };
        let ended = |(pair, link): (&(PeerId, PeerId), &Link)| (link.ends.0 == process || link.ends.1 == process).then_some(*pair);
        let links: Vec<(PeerId, PeerId)> = state.links.iter().filter_map(ended).collect();
        for (one, other) in links {
            state.break_link(one, other);
        }
        if state.ports.values().any(|joined| joined.peer == peer) {
            state.connect_to_all(peer);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Sets how frames fare from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Cuts one direction between two peers. It is noticed some time later.
    pub fn cut(&self, from: PeerId, to: PeerId) {
        let mut state = self.state();
        state.cut.insert((from, to));
        let notice = Duration::from_millis(state.random.random_range(0..8_000));
        state.at(notice, Step::Break(from, to));
        drop(state);
        self.changed.notify_one();
    }

    /// Clogs one direction between two peers, over a link that stays open.
    pub fn clog(&self, from: PeerId, to: PeerId, clog: Clog) {
        self.state().clogged.insert((from, to), clog);
    }

    /// Holds up all that a peer sends and all that is sent to it, while its connections stay open.
    pub fn pause(&self, peer: PeerId) {
        self.state().paused.insert(peer);
    }

    /// Lets a peer that was held up go on: what waited moves, in order.
    pub fn resume(&self, peer: PeerId) {
        let mut state = self.state();
        state.paused.remove(&peer);
        state.release();
        drop(state);
        self.changed.notify_one();
    }

    /// Lets every clogged link move again: what waited does, in order.
    pub fn unclog(&self) {
        let mut state = self.state();
        state.clogged.clear();
        state.release();
        drop(state);
        self.changed.notify_one();
    }

    /// Heals every cut.
    pub fn heal(&self) {
        let mut state = self.state();
        let cut = std::mem::take(&mut state.cut);
        for (from, to) in cut {
            // Frames were swallowed, so this connection can't go on.
            state.break_link(from, to);
            state.connect_soon(from, to);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A hash over everything that was delivered so far, with its time.
    #[must_use]
    pub fn trace(&self) -> String {
        self.state().trace.finalize().to_hex().to_string()
    }

    /// Frames that were delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.state().delivered
    }

    /// How often frames met faults of the network, or a peer that is paused.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.state().reached.clone()
    }

    /// Looks at rows on a disk beside those that travel, and tells the first dot of the run that was given to two writes.
    ///
    /// # Errors
    /// The dot with both writes, in words.
    pub fn check_dots<'d>(&self, disks: impl IntoIterator<Item = &'d SimDisk>) -> Result<(), String> {
        let dots = &mut self.state().dots;
        disks.into_iter().for_each(|disk| dots.see_disk(disk));
        dots.violation().map_or(Ok(()), |violation| Err(violation.to_owned()))
    }

    /// Notes something else that belongs to the trace: a client's answer.
    pub fn note(&self, what: &str) {
        let mut state = self.state();
        let passed = state.started.elapsed().as_micros();
        state.trace.update(&passed.to_be_bytes()).update(what.as_bytes());
    }

    async fn run(self) {
        loop {
            let next = self.state().queue.keys().next().copied();
            let due = match next {
                None => {
                    self.changed.notified().await;
                    continue;
                }
                Some((due, _)) => due,
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => continue,
                () = sleep_until(due) => {}
            }
            let mut state = self.state();
            while let Some(entry) = state.queue.first_entry().filter(|entry| entry.key().0 <= Instant::now()) {
                let step = entry.remove();
                state.take(step);
            }
        }
    }
}

impl State {
    fn at(&mut self, after: Duration, step: Step) {
        self.next += 1;
        self.queue.insert((Instant::now() + after, self.next), step);
    }

    fn connect_soon(&mut self, one: PeerId, other: PeerId) {
        let after = Duration::from_millis(self.random.random_range(1..500));
        self.at(after, Step::Connect(one, other));
    }

    fn connect_to_all(&mut self, peer: PeerId) {
        let others: BTreeSet<PeerId> = self.ports.values().map(|joined| joined.peer).filter(|other| *other != peer).collect();
        for other in others {
            self.connect_soon(peer, other);
        }
    }

    /// A process that runs under an identity: one of them, where there are several.
    fn process_of(&mut self, peer: PeerId) -> Option<u64> {
        let processes: Vec<u64> = self.ports.iter().filter(|(_, joined)| joined.peer == peer).map(|(process, _)| *process).collect();
        match processes[..] {
            [] => None,
            [only] => Some(only),
            _ => Some(processes[self.random.random_range(0..processes.len())]),
        }
    }

    fn tell(&mut self, process: u64, event: NetworkEvent) -> bool {
        self.ports.get(&process).is_some_and(|joined| joined.events.try_send(event).is_ok())
    }

    fn break_link(&mut self, one: PeerId, other: PeerId) {
        let (one, other) = pair(one, other);
        if let Some(link) = self.links.remove(&(one, other)) {
            self.tell(link.ends.0, NetworkEvent::Disconnected { peer: other });
            self.tell(link.ends.1, NetworkEvent::Disconnected { peer: one });
        }
    }

    fn connect(&mut self, one: PeerId, other: PeerId) {
        let (one, other) = pair(one, other);
        if self.cut.contains(&(one, other)) || self.cut.contains(&(other, one)) || self.links.contains_key(&(one, other)) {
            return;
        }
        let (Some(first), Some(second)) = (self.process_of(one), self.process_of(other)) else { return };
        self.next += 1;
        self.links.insert((one, other), Link { number: self.next, ends: (first, second) });
        for (process, peer) in [(first, other), (second, one)] {
            self.tell(process, NetworkEvent::Connected { peer, address: "/memory".to_owned() });
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect(one, other) => self.connect(one, other),
            Step::Break(one, other) => {
                if self.cut.contains(&(one, other)) {
                    self.break_link(one, other);
                }
            }
            Step::Deliver(carried) if self.paused.contains(&carried.to) => {
                self.reach(Kind::Pause);
                self.held.entry((carried.from, carried.to)).or_default().push(carried);
            }
            Step::Deliver(Carried { from, to, lane, frame, link }) => {
                let (one, other) = pair(from, to);
                let Some(open) = self.links.get(&(one, other)).filter(|open| open.number == link).copied() else { return };
                if self.cut.contains(&(from, to)) {
                    return;
                }
                let passed = self.started.elapsed().as_micros();
                self.trace.update(&passed.to_be_bytes()).update(&from.0).update(&to.0).update(&frame);
                self.delivered += 1;
                let process = if to == one { open.ends.0 } else { open.ends.1 };
                if !self.tell(process, NetworkEvent::Frame { peer: from, lane, frame }) {
                    self.break_link(from, to);
                }
            }
        }
    }

    fn is_held_up(&self, from: PeerId, to: PeerId) -> bool {
        let is_paused = self.paused.contains(&from) || self.paused.contains(&to);
        is_paused || self.clogged.get(&(from, to)) == Some(&Clog::Stuck)
    }

    fn reach(&mut self, kind: Kind) {
        *self.reached.entry(kind).or_default() += 1;
    }

    /// Sends on what waited for a link that moves again.
    fn release(&mut self) {
        for ((from, to), waiting) in std::mem::take(&mut self.held) {
            if self.is_held_up(from, to) {
                self.held.insert((from, to), waiting);
            } else {
                waiting.into_iter().for_each(|carried| self.carry(carried));
            }
        }
    }

    /// Puts a frame on its way.
    fn carry(&mut self, carried: Carried) {
        let Weather { latency_ms: (least, most), overtaking, .. } = self.weather;
        let latency = Duration::from_micros(self.random.random_range(least * 1000..=most * 1000));
        let mut due = Instant::now() + latency;
        let pace = match self.clogged.get(&(carried.from, carried.to)) {
            Some(Clog::Trickle(pace)) => Some(*pace),
            Some(Clog::Stuck) | None => None,
        };
        if !overtaking || pace.is_some() {
            let last = self.arrivals.entry((carried.from, carried.to, carried.lane)).or_insert(due);
            due = due.max(*last + pace.unwrap_or_default());
            *last = due;
        }
        self.next += 1;
        self.queue.insert((due, self.next), Step::Deliver(carried));
    }

    fn send(&mut self, process: u64, from: PeerId, to: PeerId, lane: Lane, frame: &Bytes) -> Result<(), SendError> {
        let (one, other) = pair(from, to);
        let open = *self.links.get(&(one, other)).ok_or(SendError::Unconnected)?;
        if process != if from == one { open.ends.0 } else { open.ends.1 } {
            return Err(SendError::Unconnected);
        }
        if frame.len() > MAX_FRAME {
            return Err(SendError::TooLong);
        }
        let is_held_up = self.is_held_up(from, to);
        let is_behind = self.clogged.contains_key(&(from, to))
            && self.arrivals.get(&(from, to, lane)).is_some_and(|last| *last > Instant::now() + MOST_BEHIND);
        if is_behind || is_held_up && self.held.get(&(from, to)).is_some_and(|waiting| waiting.len() >= MOST_HELD) {
            return Err(SendError::Full);
        }
        self.dots.see_frame(frame);
        let weather = self.weather;
        let copies = if self.random.random_range(0..1000) < weather.lost {
            0
        } else {
            1 + u32::from(self.random.random_range(0..1000) < weather.doubled)
        };
        match copies {
            0 => self.reach(Kind::Loss),
            1 => {}
            _ => self.reach(Kind::Duplicates),
        }
        if self.clogged.contains_key(&(from, to)) {
            self.reach(Kind::Clog);
        } else if is_held_up {
            self.reach(Kind::Pause);
        }
        for _ in 0..copies {
            let carried = Carried { from, to, lane, frame: frame.clone(), link: open.number };
            if is_held_up {
                self.held.entry((from, to)).or_default().push(carried);
            } else {
                self.carry(carried);
            }
        }
        Ok(())
    }
}

impl Network for Port {
    fn local(&self) -> PeerId {
        self.local
    }

    fn addresses(&self) -> Vec<String> {
        vec!["/memory".to_owned()]
    }

    fn send(&self, to: PeerId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        let sent = self.network.state().send(self.process, self.local, to, lane, &frame);
        self.network.changed.notify_one();
        sent
    }

    fn seek(&self, _peer: PeerId, _addresses: Vec<String>) {}
}
