//! One replica that executes, joins and merges, with the time of each write told by the test.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringtide::crdt::command::{Answer, Mutation, Query};
use ringtide::crdt::delta::{Delta, Row, RowAddress};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::execute::{Author, execute};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::crdt::{key, set};
use ringtide::types::{Actor, Timestamp};

use crate::history::answer;

/// A key.
pub(crate) const KEY: Bytes = Bytes::from_static(b"k");

/// A replica.
pub(crate) struct Peer {
    pub(crate) state: MemoryState,
    pub(crate) actor: Actor,
    /// The next free counter.
    pub(crate) next: u64,
    /// The first counter of runs that may be continued.
    pub(crate) runs_since: u64,
}

impl Peer {
    /// A replica that has seen nothing.
    pub(crate) fn new(actor: u64) -> Self {
        Self { state: MemoryState::default(), actor: Actor(actor), next: 1, runs_since: 1 }
    }

    /// Executes a command at a time and joins its delta.
    pub(crate) fn write(&mut self, now: Timestamp, key: &Bytes, mutation: &Mutation) -> Delta {
        let (actor, next) = (self.actor, &mut self.next);
        let mut mint = || {
            *next += 1;
            Dot { actor, counter: *next - 1 }
        };
        let mut author = Author { actor, now, mint: &mut mint, runs_since: self.runs_since };
        let Ok(executed) = execute(&self.state, &self.state.causal, &mut author, key, mutation) else { panic!("{mutation:?} was refused") };
        self.state.join(&executed.delta);
        executed.delta
    }

    /// Executes a command on [`KEY`] at a time in milliseconds.
    pub(crate) fn at(&mut self, now_ms: u64, mutation: &Mutation) -> Delta {
        self.write(Timestamp::from_millis(now_ms), &KEY, mutation)
    }

    /// Joins deltas, one after the other.
    pub(crate) fn join<'a>(&mut self, deltas: impl IntoIterator<Item = &'a Delta>) {
        deltas.into_iter().for_each(|delta| self.state.join(delta));
        assert_eq!(self.state.violation(), None);
    }

    /// What a query of [`KEY`] gets at a time in milliseconds.
    pub(crate) fn answer(&self, now_ms: u64, query: &Query) -> Answer {
        answer(&self.state, &KEY, query, Timestamp::from_millis(now_ms))
    }

    /// What GET shows, as text.
    pub(crate) fn get(&self, now_ms: u64) -> Option<String> {
        match self.answer(now_ms, &string::Query::Get.into()) {
            Answer::Bytes(value) => Some(String::from_utf8_lossy(&value).into_owned()),
            _ => None,
        }
    }

    /// Whether a member of [`KEY`] shows.
    pub(crate) fn has(&self, now_ms: u64, member: &'static str) -> bool {
        self.answer(now_ms, &set::Query::Contains(vec![Bytes::from_static(member.as_bytes())]).into()) == Answer::Flags(vec![true])
    }

    /// A row, empty where there is none.
    pub(crate) fn row(&self, address: &RowAddress) -> Row {
        self.state.rows.get(address).cloned().unwrap_or_default()
    }

    /// Every row.
    pub(crate) fn rows(&self) -> &BTreeMap<RowAddress, Row> {
        &self.state.rows
    }
}

/// DEL key.
pub(crate) const DELETE: Mutation = Mutation::Key(key::Mutation::Delete);
/// PERSIST key.
pub(crate) const PERSIST: Mutation = Mutation::Key(key::Mutation::Persist);

/// INCRBY key amount.
pub(crate) fn increment(amount: i64) -> Mutation {
    string::Mutation::Increment(amount).into()
}

/// SET key value.
pub(crate) fn set(value: &'static str) -> Mutation {
    string::Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }.into()
}

/// SADD key member.
pub(crate) fn add(member: &'static str) -> Mutation {
    set::Mutation::Add(vec![member.into()]).into()
}

/// SREM key member.
pub(crate) fn remove(member: &'static str) -> Mutation {
    set::Mutation::Remove(vec![member.into()]).into()
}

/// The row of a member of [`KEY`].
pub(crate) fn member(name: &'static str) -> RowAddress {
    RowAddress::member(&KEY, &Bytes::from_static(name.as_bytes()))
}
