//! A network in memory, for the simulator: seeded latency, cuts, and frames that are lost, doubled or overtaken.
//!
//! Any two peers that run and are not cut apart are connected after a moment, as on a LAN. A cut swallows frames at once and is noticed
//! some time later. Everything passes through one queue ordered by time, so a seed gives the same run each time; a hash over all that was
//! delivered is the run's trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::dots::Dots;
use super::storage::SimDisk;
use crate::config::MAX_FRAME;
use crate::env::{Lane, Network, NetworkEvent, SendError};
use crate::types::PeerId;

/// Events that wait for one node; a node that takes none for so long loses its connections.
const EVENTS: usize = 64 * 1024;

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

enum Step {
    Connect(PeerId, PeerId),
    Break(PeerId, PeerId),
    Deliver { from: PeerId, to: PeerId, lane: Lane, frame: Bytes, link: u64 },
}

struct State {
    random: SmallRng,
    weather: Weather,
    ports: BTreeMap<PeerId, mpsc::Sender<NetworkEvent>>,
    /// Connected pairs, the smaller id first, with a number that names this connection.
    links: BTreeMap<(PeerId, PeerId), u64>,
    /// Directions in which nothing gets through.
    cut: BTreeSet<(PeerId, PeerId)>,
    queue: BTreeMap<(Instant, u64), Step>,
    /// When the last frame of a lane arrives: the next arrives no earlier.
    arrivals: BTreeMap<(PeerId, PeerId, Lane), Instant>,
    next: u64,
    trace: blake3::Hasher,
    dots: Dots,
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
            queue: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next: 0,
            trace: blake3::Hasher::new(),
            dots: Dots::new(partitions),
            started: Instant::now(),
        };
        let network = Self { state: Arc::new(Mutex::new(state)), changed: Arc::default() };
        tokio::spawn(network.clone().run());
        network
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a peer onto the network.
    #[must_use]
    pub fn join(&self, local: PeerId) -> (Arc<dyn Network>, mpsc::Receiver<NetworkEvent>) {
        let (events, received) = mpsc::channel(EVENTS);
        let mut state = self.state();
        state.ports.insert(local, events);
        let others: Vec<PeerId> = state.ports.keys().copied().filter(|peer| *peer != local).collect();
        for other in others {
            state.connect_soon(local, other);
        }
        drop(state);
        self.changed.notify_one();
        (Arc::new(Port { local, network: self.clone() }), received)
    }

    /// Takes a peer off the network: its process has ended, and the others notice at once.
    pub fn leave(&self, peer: PeerId) {
        let mut state = self.state();
        state.ports.remove(&peer);
        let others: Vec<PeerId> = state.ports.keys().copied().collect();
        for other in others {
            state.break_link(peer, other);
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

    fn tell(&mut self, peer: PeerId, event: NetworkEvent) -> bool {
        self.ports.get(&peer).is_some_and(|port| port.try_send(event).is_ok())
    }

    fn break_link(&mut self, one: PeerId, other: PeerId) {
        if self.links.remove(&pair(one, other)).is_some() {
            for (peer, gone) in [(one, other), (other, one)] {
                self.tell(peer, NetworkEvent::Disconnected { peer: gone });
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect(one, other) => {
                let cut = self.cut.contains(&(one, other)) || self.cut.contains(&(other, one));
                let there = self.ports.contains_key(&one) && self.ports.contains_key(&other);
                if cut || !there || self.links.contains_key(&pair(one, other)) {
                    return;
                }
                self.next += 1;
                self.links.insert(pair(one, other), self.next);
                for (peer, new) in [(one, other), (other, one)] {
                    self.tell(peer, NetworkEvent::Connected { peer: new, address: "/memory".to_owned() });
                }
            }
            Step::Break(one, other) => {
                if self.cut.contains(&(one, other)) {
                    self.break_link(one, other);
                }
            }
            Step::Deliver { from, to, lane, frame, link } => {
                if self.links.get(&pair(from, to)) != Some(&link) || self.cut.contains(&(from, to)) {
                    return;
                }
                let passed = self.started.elapsed().as_micros();
                self.trace.update(&passed.to_be_bytes()).update(&from.0).update(&to.0).update(&frame);
                if !self.tell(to, NetworkEvent::Frame { peer: from, lane, frame }) {
                    self.break_link(from, to);
                }
            }
        }
    }

    fn send(&mut self, from: PeerId, to: PeerId, lane: Lane, frame: &Bytes) -> Result<(), SendError> {
        let link = *self.links.get(&pair(from, to)).ok_or(SendError::Unconnected)?;
        if frame.len() > MAX_FRAME {
            return Err(SendError::TooLong);
        }
        self.dots.see_frame(frame);
        let weather = self.weather;
        let copies = if self.random.random_range(0..1000) < weather.lost {
            0
        } else {
            1 + u32::from(self.random.random_range(0..1000) < weather.doubled)
        };
        for _ in 0..copies {
            let latency = Duration::from_micros(self.random.random_range(weather.latency_ms.0 * 1000..=weather.latency_ms.1 * 1000));
            let mut due = Instant::now() + latency;
            if !weather.overtaking {
                let last = self.arrivals.entry((from, to, lane)).or_insert(due);
                due = due.max(*last);
                *last = due;
            }
            self.next += 1;
            self.queue.insert((due, self.next), Step::Deliver { from, to, lane, frame: frame.clone(), link });
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
        let sent = self.network.state().send(self.local, to, lane, &frame);
        self.network.changed.notify_one();
        sent
    }

    fn seek(&self, _peer: PeerId, _addresses: Vec<String>) {}
}
