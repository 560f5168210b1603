//! What simulated clients do.
//!
//! Each key has one kind of life, so that what must be true at the end can be told from the acknowledgements alone:
//!
//! | key | clients do | at the end |
//! |---|---|---|
//! | `counter n` | `INCRBY` | every acknowledged increment counts once, every other at most once |
//! | `set n` | `SADD` of members never used before, `SREM` of some | what was added and not removed is there |
//! | `string n` | one writer, a new value each time | the last acknowledged value, or one written after it, is among the siblings |
//! | `expiring n` | one writer, `SET`s with and without an end, `EXPIRE`, `PERSIST` | see [`super::expiry`] |
//! | `expiring field n` | the same with the only field of a hash: `HSETEX`, `HEXPIRE`, `HPERSIST` | the same |
//! | `ranked n`, `list n` | `ZADD`, `ZINCRBY`, `ZREM`, `ZPOPMIN`; pushes and pops; `EXPIRE` | what each peer derived is what its rows say |

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::clock::SimClock;
use super::expiry::{BRIEF_MS, Command, Outcome, Step};
use super::history::{History, Value};
use super::network::SimNetwork;
use crate::crdt::command::{Answer, Mutation};
use crate::crdt::hash;
use crate::crdt::key::{self, ExpireCondition};
use crate::crdt::list::{self, Side};
use crate::crdt::set;
use crate::crdt::sorted_set::{self, AddCondition, Order, Score};
use crate::crdt::string::{self, SetCondition, SetExpiry};
use crate::env::Clock;
use crate::node::{Node, OperationError, Written};
use crate::types::Level;

/// Keys of each kind: few, so that writes meet.
const KEYS: u64 = 6;
/// Hashes of which a field expires.
const HASHES: u64 = 3;
/// What the keys of these hashes begin with.
const HASH: &str = "expiring field";
/// Their field.
const FIELD: Bytes = Bytes::from_static(b"f");

/// What many restarts may put a peer's clock ahead of its wall time, since each goes on after a lease; and the time that a command may
/// still be on its way after its client gave it up.
const RESTARTS_AHEAD_MS: u64 = 6_000;

/// Whether a key that may expire is a hash, of which the field expires.
#[must_use]
pub fn is_of_field(key: &Bytes) -> bool {
    key.starts_with(HASH.as_bytes())
}

fn field_mutation(step: Step) -> Mutation {
    let (fields, millis) = (vec![FIELD], |end: u64| i64::try_from(end).unwrap_or(i64::MAX));
    match step {
        Step::Set(value, end) => {
            let expiry = end.map_or(SetExpiry::Clear, |end| SetExpiry::At(millis(end)));
            hash::Mutation::SetExpiring { pairs: vec![(FIELD, value)], expiry, condition: SetCondition::Always }.into()
        }
        Step::Decide(Some(end)) => hash::Mutation::Expire { fields, at_ms: millis(end), condition: ExpireCondition::Always }.into(),
        Step::Decide(None) => hash::Mutation::Persist(fields).into(),
    }
}

fn mutation(step: Step) -> Mutation {
    let millis = |end: u64| i64::try_from(end).unwrap_or(i64::MAX);
    match step {
        Step::Set(value, end) => {
            let expiry = end.map_or(SetExpiry::Clear, |end| SetExpiry::At(millis(end)));
            string::Mutation::Set { value, expiry, condition: SetCondition::Always, get: false }.into()
        }
        Step::Decide(Some(end)) => key::Mutation::Expire { at_ms: millis(end), condition: ExpireCondition::Always }.into(),
        Step::Decide(None) => key::Mutation::Persist.into(),
    }
}

/// The clients of a run. Clones share the history.
#[derive(Clone)]
pub struct Clients {
    network: SimNetwork,
    truth: SimClock,
    /// By how much two peers may disagree about when something was: brief ends lie a few times as far away, or very near.
    pub doubt_ms: u64,
    history: Arc<Mutex<History>>,
}

impl Clients {
    /// Clients whose answers belong to the network's trace. They know the true time; what peers say of it may differ by `most_apart_ms`. Where
    /// a command `lingers`, it may be executed long after it was given up.
    #[must_use]
    pub fn new(network: SimNetwork, truth: SimClock, most_apart_ms: u64, lingers: bool) -> Self {
        let history = History { lingers, ..History::default() };
        Self { network, truth, doubt_ms: most_apart_ms + RESTARTS_AHEAD_MS, history: Arc::new(Mutex::new(history)) }
    }

    /// What was promised so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one command to a peer, in a task of its own.
    pub fn send(&self, node: &Node, random: &mut SmallRng) {
        let level = [Level::Sloppy, Level::Sloppy, Level::Quorum, Level::All][random.random_range(0..4)];
        let key = |kind: &str, number: u64| Bytes::from(format!("{kind} {number}"));
        let number = random.random_range(0..KEYS);
        match random.random_range(0..17) {
            0..3 => self.increment(node, level, key("counter", number), random.random_range(-3..10)),
            3..5 => self.add(node, level, key("set", number), random),
            5 => self.remove(node, level, &key("set", number), random),
            6..8 => self.set(node, level, key("string", number), random.random()),
            8..11 => self.expire(node, "expiring", number, random),
            11..13 => self.expire(node, HASH, number % HASHES, random),
            13 => self.rank(node, level, key("ranked", number), random),
            14 => self.list(node, level, key("list", number), random),
            _ => self.read(node, level, key("string", number)),
        }
    }

    fn spawn(
        &self,
        writing: impl Future<Output = Result<Written, OperationError>> + Send + 'static,
        learn: impl FnOnce(&mut History, bool, bool) + Send + 'static,
    ) {
        let clients = self.clone();
        tokio::spawn(async move {
            let result = writing.await;
            clients.network.note(&format!("{:?}", result.as_ref().map(|written| &written.answer)));
            // A refusal changes nothing; any other failure leaves the outcome unknown.
            let (done, nothing) = (result.is_ok(), matches!(result, Err(OperationError::Refused(_) | OperationError::Busy)));
            let mut history = clients.history();
            history.count(done);
            learn(&mut history, done, nothing);
        });
    }

    fn increment(&self, node: &Node, level: Level, key: Bytes, by: i64) {
        let writing = node.write(level, key.clone(), string::Mutation::Increment(by));
        // A crash of the client's peer leaves no answer: until there is one, the outcome is unknown.
        self.history().counters.entry(key.clone()).or_default().unknown += by.abs();
        self.spawn(writing, move |history, done, nothing| {
            let counted = history.counters.entry(key).or_default();
            if done || nothing {
                counted.unknown -= by.abs();
            }
            if done {
                counted.acknowledged += by;
            }
        });
    }

    fn add(&self, node: &Node, level: Level, key: Bytes, random: &mut SmallRng) {
        let member = Bytes::from(format!("{:016x}", random.random::<u64>()));
        self.history().sets.entry(key.clone()).or_default().entry(member.clone()).or_default();
        let writing = node.write(level, key.clone(), set::Mutation::Add(vec![member.clone()]));
        self.spawn(writing, move |history, done, _| {
            history.sets.entry(key).or_default().entry(member).or_default().added = done;
        });
    }

    fn remove(&self, node: &Node, level: Level, key: &Bytes, random: &mut SmallRng) {
        let member = {
            let mut history = self.history();
            let Some(set) = history.sets.get_mut(key) else { return };
            let chosen = random.random_range(0..set.len().max(1));
            let Some((member, known)) = set.iter_mut().nth(chosen) else { return };
            known.removal_sent = true;
            member.clone()
        };
        self.spawn(node.write(level, key.clone(), set::Mutation::Remove(vec![member])), |_, _, _| {});
    }

    /// Changes a sorted set of which nothing is promised.
    fn rank(&self, node: &Node, level: Level, key: Bytes, random: &mut SmallRng) {
        let member = Bytes::from(format!("m{}", random.random_range(0..8)));
        let (score, condition) = (Score::new(f64::from(random.random_range(-4..5))), AddCondition::default());
        let mutation = match random.random_range(0..9) {
            0..4 => sorted_set::Mutation::Add { members: vec![(member, score)], condition, changed: false }.into(),
            4..6 => sorted_set::Mutation::Increment { member, amount: score, condition }.into(),
            6 => sorted_set::Mutation::Remove(vec![member]).into(),
            7 => sorted_set::Mutation::Pop { count: 1, order: Order::Ascending }.into(),
            _ => self.brief_end(random),
        };
        self.spawn(node.write(level, key, mutation), |_, _, _| {});
    }

    /// Changes a list of which nothing is promised.
    fn list(&self, node: &Node, level: Level, key: Bytes, random: &mut SmallRng) {
        let side = if random.random_bool(0.5) { Side::Left } else { Side::Right };
        let items = (0..random.random_range(1..4)).map(|number| Bytes::from(format!("{number}"))).collect();
        let mutation = match random.random_range(0..9) {
            0..5 => list::Mutation::Push { side, items, only_existing: false }.into(),
            5..7 => list::Mutation::Pop { side, count: 2 }.into(),
            7 => list::Mutation::Trim { start: 1, stop: -2 }.into(),
            _ => self.brief_end(random),
        };
        self.spawn(node.write(level, key, mutation), |_, _, _| {});
    }

    /// An end that comes soon.
    fn brief_end(&self, random: &mut SmallRng) -> Mutation {
        mutation(Step::Decide(Some(self.truth.wall_ms() + random.random_range(500..4_000))))
    }

    fn set(&self, node: &Node, level: Level, key: Bytes, value: u64) {
        let value = Bytes::from(format!("{value:016x}"));
        let place = {
            let mut history = self.history();
            if !history.writing.insert(key.clone()) {
                return;
            }
            let written = history.strings.entry(key.clone()).or_default();
            written.push(Value { bytes: value.clone(), acknowledged: false, lost: false });
            written.len() - 1
        };
        let mutation = string::Mutation::Set { value, expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false };
        self.spawn(node.write(level, key.clone(), mutation), move |history, done, _| {
            history.writing.remove(&key);
            if let Some(value) = history.strings.get_mut(&key).and_then(|written| written.get_mut(place)) {
                value.acknowledged = done;
            }
        });
    }

    /// Sends one command to each key that may expire.
    pub fn send_expiring(&self, node: &Node, random: &mut SmallRng) {
        (0..KEYS).for_each(|number| self.expire(node, "expiring", number, random));
        (0..HASHES).for_each(|number| self.expire(node, HASH, number, random));
    }

    /// A third of the keys is only ever made to end soon, a third never, a third either way.
    fn expire(&self, node: &Node, kind: &str, number: u64, random: &mut SmallRng) {
        let key = Bytes::from(format!("{kind} {number}"));
        let sent_ms = self.truth.wall_ms();
        let brief = match number % 3 {
            0 => true,
            1 => false,
            _ => random.random_bool(0.5),
        };
        let end = match (brief, random.random_bool(0.5)) {
            (true, false) => Some(sent_ms + random.random_range(500..4_000)),
            (true, true) => Some(sent_ms + random.random_range(self.doubt_ms..4 * self.doubt_ms)),
            (false, false) => Some(sent_ms + 2 * BRIEF_MS),
            (false, true) => None,
        };
        let value = Bytes::from(format!("{:016x}", random.random::<u64>()));
        let step = if random.random_bool(0.5) { Step::Set(value, end) } else { Step::Decide(end) };
        let level = [Level::Sloppy, Level::Quorum, Level::Quorum, Level::All][random.random_range(0..4)];
        let place = {
            let mut history = self.history();
            if !history.writing.insert(key.clone()) {
                return;
            }
            let place = history.expiring.get(&key).map_or(0, Vec::len);
            let outcome = history.unanswered();
            let command = Command { step: step.clone(), level, sent_ms, settled_ms: None, outcome };
            history.expiring.entry(key.clone()).or_default().push(command);
            place
        };
        let clients = self.clone();
        let mutation = if is_of_field(&key) { field_mutation(step) } else { mutation(step) };
        let writing = node.write(level, key.clone(), mutation);
        tokio::spawn(async move {
            let result = writing.await;
            clients.network.note(&format!("{:?}", result.as_ref().map(|written| &written.answer)));
            let outcome = match &result {
                Ok(Written { answer: Answer::Numbers(told), .. }) if told.iter().all(|told| *told <= 0) => Outcome::Nothing,
                Ok(Written { answer: Answer::Integer(0), .. }) | Err(OperationError::Refused(_) | OperationError::Busy) => Outcome::Nothing,
                Ok(written) => Outcome::Done(written.receipt.executor),
                Err(_) => clients.history().unanswered(),
            };
            let settled_ms = Some(clients.truth.wall_ms());
            let mut history = clients.history();
            history.count(result.is_ok());
            history.writing.remove(&key);
            if let Some(command) = history.expiring.get_mut(&key).and_then(|commands| commands.get_mut(place)) {
                *command = Command { settled_ms, outcome, ..command.clone() };
            }
        });
    }

    fn read(&self, node: &Node, level: Level, key: Bytes) {
        let reading = node.read(level, key, string::Query::Get);
        let network = self.network.clone();
        tokio::spawn(async move { network.note(&format!("{:?}", reading.await)) });
    }
}
