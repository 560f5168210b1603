//! Replicas of one partition in memory, for the tests of this module: each test says who writes, who hears of it, and when.

use bytes::Bytes;

use super::answer::{self, KeyView};
use super::command::{Mutation, Query};
use super::condition::{ExpireCondition, SetCondition, SetExpiry};
use super::delta::Delta;
use super::dot::Dot;
use super::execute::{Author, execute, execute_blind};
use super::key;
use super::memory::MemoryState;
use super::outcome::Answer;
use super::refusal::{ExecuteError, Refusal};
use super::set;
use super::string;
use crate::types::{Actor, Timestamp};

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn key() -> Bytes {
    bytes("k")
}

pub(super) fn text(value: &str) -> Answer {
    Answer::Bytes(bytes(value))
}

pub(super) const DELETE: Mutation = Mutation::Key(key::Mutation::Delete);
pub(super) const PERSIST: Mutation = Mutation::Key(key::Mutation::Persist);
pub(super) const GET: Query = Query::String(string::Query::Get);
pub(super) const TYPE: Query = Query::Key(key::Query::Type);
pub(super) const ONE: Mutation = increment(1);

pub(super) fn set(value: &str) -> Mutation {
    set_with(value, SetExpiry::Clear)
}

pub(super) fn set_until(value: &str, at_ms: i64) -> Mutation {
    set_with(value, SetExpiry::At(at_ms))
}

pub(super) fn set_with(value: &str, expiry: SetExpiry) -> Mutation {
    string::Mutation::Set { value: bytes(value), expiry, condition: SetCondition::Always, get: false }.into()
}

pub(super) const fn increment(amount: i64) -> Mutation {
    Mutation::String(string::Mutation::Increment(amount))
}

pub(super) fn add(members: &[&str]) -> Mutation {
    set::Mutation::Add(members.iter().map(|member| bytes(member)).collect()).into()
}

pub(super) fn remove(members: &[&str]) -> Mutation {
    set::Mutation::Remove(members.iter().map(|member| bytes(member)).collect()).into()
}

pub(super) fn expire(at_ms: i64) -> Mutation {
    key::Mutation::Expire { at_ms, condition: ExpireCondition::Always }.into()
}

/// One replica and its clocks.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) state: MemoryState,
    pub(super) actor: Actor,
    pub(super) counter: u64,
    pub(super) runs_since: u64,
    latest: Timestamp,
    pub(super) wall_ms: u64,
}

impl Replica {
    pub(super) fn new(actor: u64) -> Self {
        Self { state: MemoryState::default(), actor: Actor(actor), counter: 0, runs_since: 1, latest: Timestamp(actor), wall_ms: 1 }
    }

    /// Moves the clock.
    pub(super) fn at(&mut self, wall_ms: u64) -> &mut Self {
        self.wall_ms = wall_ms;
        self
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms).max(self.latest)
    }

    /// Calls `f` as the author of the next write.
    pub(super) fn author<T>(&mut self, f: impl FnOnce(&MemoryState, &mut Author<'_>) -> T) -> T {
        self.latest = Timestamp(self.now().0 + 8);
        let Self { state, actor, counter, runs_since, latest, .. } = self;
        let mut mint = || {
            *counter += 1;
            Dot { actor: *actor, counter: *counter }
        };
        f(state, &mut Author { actor: *actor, now: *latest, mint: &mut mint, runs_since: *runs_since })
    }

    /// Executes a command and joins its delta here.
    pub(super) fn attempt(&mut self, mutation: &Mutation) -> Result<(Delta, Answer), Refusal> {
        let executed = self.author(|state, author| execute(state, &state.causal, author, &key(), mutation));
        let executed = executed.map_err(|error| match error {
            ExecuteError::Refused(refusal) => refusal,
            ExecuteError::Rows(never) => match never {},
        })?;
        self.hear(&executed.delta);
        Ok((executed.delta, executed.answer))
    }

    pub(super) fn write(&mut self, mutation: &Mutation) -> Delta {
        self.attempt(mutation).unwrap().0
    }

    pub(super) fn ask(&mut self, mutation: &Mutation) -> Answer {
        self.attempt(mutation).unwrap().1
    }

    pub(super) fn blind(&mut self, mutation: &Mutation) -> Result<Delta, Refusal> {
        self.author(|_, author| execute_blind(author, &key(), mutation)).map(|executed| executed.delta)
    }

    /// Joins another's delta.
    pub(super) fn hear(&mut self, delta: &Delta) {
        self.state.join(delta);
        let newest = delta.adds.iter().map(|(_, _, entry)| entry.timestamp).max().unwrap_or_default();
        self.latest = self.latest.max(newest);
        assert_eq!(self.state.violation(), None);
    }

    /// Takes in everything that another replica knows.
    pub(super) fn pull(&mut self, other: &Self) {
        crdts::CvRDT::merge(&mut self.state, other.state.clone());
        self.latest = self.latest.max(other.latest);
        assert_eq!(self.state.violation(), None);
    }

    pub(super) fn query(&self, query: &Query) -> Result<Answer, Refusal> {
        answer::answer(&KeyView { rows: self.state.rows.clone(), next_hash: None }, self.now(), &key(), query)
    }

    pub(super) fn get(&self) -> Answer {
        self.query(&GET).unwrap()
    }

    pub(super) fn members(&self) -> Vec<String> {
        let Answer::Members(members) = self.query(&set::Query::Members.into()).unwrap() else { panic!("members were asked for") };
        members.iter().map(|member| String::from_utf8(member.to_vec()).unwrap()).collect()
    }

    pub(super) fn end(&self) -> i64 {
        let Answer::Integer(end) = self.query(&key::Query::ExpireTime.into()).unwrap() else { panic!("a time was asked for") };
        end
    }

    pub(super) fn siblings(&self) -> (Bytes, Vec<String>) {
        let Answer::Siblings { token, values, .. } = self.query(&string::Query::Siblings.into()).unwrap() else {
            panic!("siblings were asked for")
        };
        (token, values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect())
    }
}

/// Lets all replicas pull from all others.
pub(super) fn settle(replicas: &mut [&mut Replica]) {
    for _ in 0..2 {
        for left in 0..replicas.len() {
            for right in 0..replicas.len() {
                let other = replicas[right].clone();
                replicas[left].pull(&other);
            }
        }
    }
    for replica in &*replicas {
        assert_eq!(replica.state.rows, replicas[0].state.rows, "replicas differ");
    }
}
