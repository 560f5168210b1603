//! A small world of replicas over the real kernel: commands, deltas that travel as they like, pulls step by step, crashes, deaths, restored
//! backups, replicas that leave and return. Beside each replica's real state stands what the oracle needs to know: which
//! operations it knows, and the effects of which it has observed.
//!
//! A history is a list of numbers ([`Event`]), so a failing one is shrunk by leaving events out.

pub(crate) mod collections;
pub(crate) mod commands;
pub(crate) mod graph;
mod mishaps;
pub(crate) mod pulls;
pub(crate) mod random;
mod trace;
mod whole;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use ringtide::crdt::answer::{self, KeyView};
use ringtide::crdt::command::{Answer, Query};
use ringtide::crdt::delta::{Delta, Kind, RowAddress, Rows, join};
use ringtide::crdt::list::ItemName;
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::merge::{Voice, merge};
use ringtide::hlc::Hlc;
use ringtide::types::{Actor, Timestamp};

use graph::{Effects, Graph, Operations};
use pulls::Session;
use random::Random;
use trace::describe;

/// What happens, and a number that tells where and how.
pub(crate) type Event = (u8, u32);
/// Kinds of events.
pub(crate) const EVENTS: u8 = 40;
/// The kinds that lose for good what was acknowledged: a backup is restored, a row is lost.
pub(crate) const LOSSES: [u8; 2] = [32, 38];

/// The key of a string and counter.
pub(crate) const COUNTER: Bytes = Bytes::from_static(b"c");
/// The key of a set, at times overwritten by a string.
pub(crate) const SET: Bytes = Bytes::from_static(b"s");
/// The key of a hash.
pub(crate) const HASH: Bytes = Bytes::from_static(b"h");
/// The key of a sorted set.
pub(crate) const SCORES: Bytes = Bytes::from_static(b"z");
/// The key of a list.
pub(crate) const LIST: Bytes = Bytes::from_static(b"l");
/// The key of a HyperLogLog.
pub(crate) const LOG: Bytes = Bytes::from_static(b"p");
/// Every key, each in a leaf of its own.
pub(crate) static KEYS: [Bytes; 6] = [COUNTER, SET, HASH, SCORES, LIST, LOG];

/// A replica's state with what the oracle keeps beside it.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) state: MemoryState,
    /// Operations whose deltas were joined here.
    pub(crate) known: Operations,
    /// Effects that were seen here.
    pub(crate) observed: Effects,
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) now: Snapshot,
    /// What a crash leaves.
    pub(crate) durable: Snapshot,
    backup: Option<Snapshot>,
    /// New at every start that may have lost something.
    pub(crate) state_id: u64,
    actor: Actor,
    next: u64,
    runs_since: u64,
    clock: Hlc,
    /// Whether it holds the partition.
    pub(crate) present: bool,
    /// Whether it is leaving, and takes no writes.
    pub(crate) sealed: bool,
    pub(crate) sealed_at: u64,
    /// Who has confirmed to hold everything since it was sealed.
    pub(crate) confirmed: u32,
}

/// A delta on its way.
struct Message {
    to: usize,
    delta: Rc<Delta>,
    operation: Option<usize>,
}

/// An answer to a quorum read.
struct Answered {
    replica: usize,
    key: Bytes,
    voice: Voice,
}

/// The world.
pub(crate) struct World {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) graph: Graph,
    pub(crate) sessions: Vec<Session>,
    messages: Vec<Message>,
    answers: Vec<Answered>,
    /// Every delta that was sent.
    pub(crate) deltas: Vec<Rc<Delta>>,
    /// What those knew who left in good order.
    pub(crate) left: Operations,
    /// The dots of the coordinator that holds no replica.
    fallback_next: u64,
    increments: u32,
    /// What the order of the list must be: an item, and one that stands behind it.
    pub(crate) order: Vec<(usize, usize)>,
    /// The operation that made each position in the list.
    origins: BTreeMap<Bytes, usize>,
    /// The names of items that were ever in the list.
    names: Vec<ItemName>,
    actors: u64,
    pub(crate) time: u64,
    /// What every pull goes through.
    steps: Rc<[pulls::Step]>,
    trace: Option<String>,
}

impl World {
    /// A world in which a pull compares row by row, where `fine`, or a key's rows at once.
    pub(crate) fn new(replicas: usize, absent: usize, fine: bool, traced: bool) -> Self {
        let replica = |index: usize| Replica {
            now: Snapshot::default(),
            durable: Snapshot::default(),
            backup: None,
            state_id: index as u64,
            actor: Actor(index as u64 + 1),
            next: 1,
            runs_since: 1,
            clock: Hlc::start(Timestamp::default()),
            present: index >= absent,
            sealed: false,
            sealed_at: 0,
            confirmed: 0,
        };
        Self {
            replicas: (0..replicas).map(replica).collect(),
            graph: Graph::default(),
            sessions: Vec::new(),
            messages: Vec::new(),
            answers: Vec::new(),
            deltas: Vec::new(),
            left: 0,
            fallback_next: 1,
            increments: 0,
            order: Vec::new(),
            origins: BTreeMap::new(),
            names: Vec::new(),
            actors: 100,
            time: 1,
            steps: pulls::steps(fine).into(),
            trace: traced.then(String::new),
        }
    }

    pub(crate) fn tell(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let text = text(self);
            if let Some(trace) = &mut self.trace {
                let _ = writeln!(trace, "   {text}");
            }
        }
    }

    pub(crate) fn trace(self) -> String {
        self.trace.unwrap_or_default()
    }

    /// Lets one thing happen.
    pub(crate) fn step(&mut self, (kind, number): Event) {
        self.time += 1;
        let count = self.replicas.len();
        let (here, there) = (number as usize % count, (number >> 8) as usize % count);
        match kind {
            0..=9 => {
                let replica = &self.replicas[here];
                if replica.present && !replica.sealed {
                    self.operate(here, number >> 8);
                }
            }
            10..=17 => self.deliver_one(number),
            18 => drop(pick(&mut self.messages, number)),
            19 if self.sessions.len() < 4 => self.start_pull(here, there, number >> 16),
            20..=27 => self.step_pull(number),
            28 => drop(pick(&mut self.sessions, number)),
            29 => self.full_pull(here, there),
            30 => self.replicas[here].durable = self.replicas[here].now.clone(),
            31 => self.crash(here),
            32 => self.back_up_or_restore(here, number >> 12 & 1 == 0),
            33 => self.appear(here),
            34 => self.seal(here),
            35 => self.operate_blind(number >> 4),
            36 => self.ask(here, number >> 8),
            37 => self.repair(),
            38 => self.lose_a_row(here, number >> 8),
            39 => self.clear_floors(here),
            _ => {}
        }
    }

    fn send(&mut self, from: Option<usize>, delta: Delta, operation: Option<usize>) {
        let delta = Rc::new(delta);
        self.deltas.push(Rc::clone(&delta));
        for to in (0..self.replicas.len()).filter(|to| Some(*to) != from) {
            self.messages.push(Message { to, delta: Rc::clone(&delta), operation });
        }
    }

    fn deliver_one(&mut self, number: u32) {
        if self.messages.is_empty() {
            return;
        }
        let index = number as usize % self.messages.len();
        let Message { to, ref delta, operation } = self.messages[index];
        let delta = Rc::clone(delta);
        if !self.replicas[to].present || self.replicas[to].sealed {
            return;
        }
        // One in eight comes again later.
        if number >> 16 & 7 != 0 {
            self.messages.swap_remove(index);
        }
        self.deliver(to, &delta, operation);
    }

    fn deliver(&mut self, to: usize, delta: &Delta, operation: Option<usize>) {
        self.tell(|_| format!("{to} gets {operation:?}: {}", describe(delta)));
        let sessions: Vec<&Session> = self.sessions.iter().filter(|session| session.to == to && session.is_valid(&self.replicas)).collect();
        let slips = |address: &RowAddress, dot| sessions.iter().any(|session| session.slips(address, dot));
        let now = &mut self.replicas[to].now;
        let Ok(()) = join(&mut now.state.rows, &mut now.state.causal, delta, slips);
        now.known |= operation.map_or(0, |number| 1 << number);
        for (_, dot, entry) in &delta.adds {
            self.replicas[to].now.observed |= self.graph.covers(*dot);
            let _ = self.replicas[to].clock.observe(entry.timestamp, self.time);
        }
    }

    /// Joins everything that is still on its way: the latest of hints.
    pub(crate) fn deliver_all(&mut self, alive: u32) {
        for Message { to, delta, operation } in std::mem::take(&mut self.messages) {
            if alive >> to & 1 == 1 && self.replicas[to].present {
                self.deliver(to, &delta, operation);
            }
        }
    }

    /// A replica answers a quorum read of a key: rows and clock from one snapshot.
    fn ask(&mut self, here: usize, choice: u32) {
        if !self.replicas[here].present || self.answers.len() >= 4 {
            return;
        }
        let key = self.answers.first().map_or(KEYS[choice as usize % KEYS.len()].clone(), |first| first.key.clone());
        let state = &self.replicas[here].now.state;
        let rows = state.rows_of(&key).unwrap_or_else(|never| match never {});
        self.answers.push(Answered { replica: here, voice: Voice { rows, causal: state.causal.clone() }, key });
    }

    /// Merges the answers of a quorum read, and sends each replica exactly what it lacks.
    fn repair(&mut self) {
        if self.answers.len() < 2 {
            return;
        }
        let answers = std::mem::take(&mut self.answers);
        let voices: Vec<Voice> = answers.iter().map(|answer| answer.voice.clone()).collect();
        for repair in merge(&voices).repairs {
            if !repair.adds.is_empty() {
                let to = answers[repair.voice].replica;
                self.tell(|_| format!("a read sends {to} what it lacks: {}", describe(&repair.adds)));
                self.messages.push(Message { to, delta: Rc::new(repair.adds), operation: None });
            }
        }
    }

    /// Breaks off all pulls; who was leaving stays.
    pub(crate) fn stop_everything(&mut self) {
        self.sessions.clear();
        for replica in &mut self.replicas {
            replica.sealed = false;
        }
    }

    /// Lets everybody who lives pull from everybody else, again and again.
    pub(crate) fn heal(&mut self, alive: u32) {
        let trace = self.trace.take();
        let lives = |index: usize| alive >> index & 1 == 1;
        for _ in 0..3 {
            for to in (0..self.replicas.len()).filter(|to| lives(*to)) {
                for from in (0..self.replicas.len()).filter(|from| lives(*from)) {
                    self.full_pull(to, from);
                }
            }
        }
        self.trace = trace;
    }
}

/// Deltas of a random history, in random order, some left out.
pub(crate) fn random_deltas(random: &mut Random) -> Vec<Rc<Delta>> {
    let mut world = World::new(4, 0, random.below(2) == 0, false);
    for event in random.history() {
        world.step(event);
    }
    let mut deltas = world.deltas;
    deltas.retain(|_| random.below(4) != 0);
    random.shuffle(&mut deltas);
    deltas
}

/// What a replica answers at a moment.
pub(crate) fn answer(state: &MemoryState, key: &Bytes, query: &Query, now: Timestamp) -> Answer {
    let rows = state.rows_of(key).unwrap_or_else(|never| match never {});
    let view = KeyView { rows };
    answer::answer(&view, now, key, query).unwrap_or(Answer::Nil)
}

/// Addresses between which rows are compared, in order of their keys as [`KEYS`] has them: those that every history touches, and for the others one
/// in their midst.
pub(crate) fn addresses() -> Vec<RowAddress> {
    let element = |key: &Bytes, kind, element: &'static [u8]| RowAddress::element(key, kind, &Bytes::from_static(element));
    let [counter, set, hash, scores, list, log] = KEYS.each_ref().map(RowAddress::expiry);
    vec![
        counter,
        RowAddress::value(&COUNTER),
        set,
        RowAddress::value(&SET),
        element(&SET, Kind::Member, b"m1"),
        element(&SET, Kind::Member, b"m2"),
        hash,
        field("f1"),
        field("f2"),
        scores,
        scored("m1"),
        scored("m2"),
        list,
        element(&LIST, Kind::Item, &[0x80]),
        element(&LIST, Kind::Item, &[0x86]),
        log,
        element(&LOG, Kind::Register, &[0x20]),
    ]
}

/// The row of a field of [`HASH`].
pub(crate) fn field(name: &'static str) -> RowAddress {
    RowAddress::element(&HASH, Kind::Field, &Bytes::from_static(name.as_bytes()))
}

/// The row of a member of [`SCORES`].
pub(crate) fn scored(name: &'static str) -> RowAddress {
    RowAddress::element(&SCORES, Kind::Score, &Bytes::from_static(name.as_bytes()))
}

/// The rows that increments are added up in.
pub(crate) fn counters() -> Vec<RowAddress> {
    addresses().into_iter().filter(|address| matches!(address.kind, Kind::Value | Kind::Field | Kind::Score)).collect()
}

/// Takes one out, told by a number.
fn pick<T>(items: &mut Vec<T>, number: u32) -> Option<T> {
    if items.is_empty() { None } else { Some(items.swap_remove(number as usize % items.len())) }
}
