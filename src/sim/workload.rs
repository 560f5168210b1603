//! What simulated clients do, and what they were promised.
//!
//! Each key has one kind of life, so that what must be true at the end can be told from the acknowledgements alone:
//!
//! | key | clients do | at the end |
//! |---|---|---|
//! | `counter n` | `INCRBY` | every acknowledged increment counts once, every other at most once |
//! | `set n` | `SADD` of members never used before, `SREM` of some | what was added and not removed is there |
//! | `string n` | one writer, a new value each time | the last acknowledged value, or one written after it, is among the siblings |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::network::SimNetwork;
use crate::crdt::set;
use crate::crdt::string::{self, SetCondition, SetExpiry};
use crate::node::{Node, OperationError, Written};
use crate::types::Level;

/// Keys of each kind: few, so that writes meet.
const KEYS: u64 = 6;

/// What clients know of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The sum of acknowledged increments.
    pub acknowledged: i64,
    /// The sum of increments whose outcome is unknown.
    pub unknown: i64,
}

/// What clients know of one member of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its add was acknowledged.
    pub added: bool,
    /// A remove of it was sent.
    pub removal_sent: bool,
}

/// What clients were promised.
#[derive(Debug, Default)]
pub struct History {
    /// By key.
    pub counters: BTreeMap<Bytes, Counted>,
    /// By key and member.
    pub sets: BTreeMap<Bytes, BTreeMap<Bytes, Membership>>,
    /// By key: values in the order they were written, and whether each was acknowledged.
    pub strings: BTreeMap<Bytes, Vec<(Bytes, bool)>>,
    /// Strings that a write is under way for: each has one writer at a time.
    writing: BTreeSet<Bytes>,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that failed or whose outcome is unknown.
    pub failed: u64,
}

/// The clients of a run. Clones share the history.
#[derive(Clone)]
pub struct Clients {
    network: SimNetwork,
    history: Arc<Mutex<History>>,
}

impl Clients {
    /// Clients whose answers belong to the network's trace.
    #[must_use]
    pub fn new(network: SimNetwork) -> Self {
        Self { network, history: Arc::default() }
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
        match random.random_range(0..10) {
            0..3 => self.increment(node, level, key("counter", number), random.random_range(-3..10)),
            3..5 => self.add(node, level, key("set", number), random),
            5 => self.remove(node, level, &key("set", number), random),
            6..8 => self.set(node, level, key("string", number), random.random()),
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
            if done {
                history.acknowledged += 1;
            } else {
                history.failed += 1;
            }
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

    fn set(&self, node: &Node, level: Level, key: Bytes, value: u64) {
        let value = Bytes::from(format!("{value:016x}"));
        let place = {
            let mut history = self.history();
            if !history.writing.insert(key.clone()) {
                return;
            }
            let written = history.strings.entry(key.clone()).or_default();
            written.push((value.clone(), false));
            written.len() - 1
        };
        let mutation = string::Mutation::Set { value, expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false };
        self.spawn(node.write(level, key.clone(), mutation), move |history, done, _| {
            history.writing.remove(&key);
            if let Some((_, acknowledged)) = history.strings.get_mut(&key).and_then(|written| written.get_mut(place)) {
                *acknowledged = done;
            }
        });
    }

    fn read(&self, node: &Node, level: Level, key: Bytes) {
        let reading = node.read(level, key, string::Query::Get);
        let network = self.network.clone();
        tokio::spawn(async move { network.note(&format!("{:?}", reading.await)) });
    }
}
