//! A command becomes a delta: reads the rows that it names, decides, and says what is to be joined, here and everywhere.

use bytes::Bytes;

use super::command::{Answer, Mutation, Refusal, SetCondition, SetExpiry};
use super::delta::{Causal, Delta, Payload, RowAddress, Rows};
use super::dot::Dot;
use super::write::Write;
use super::{key as keys, set, string};
use crate::types::{Actor, Timestamp};

/// Who writes, and when.
pub struct Author<'a> {
    /// The author of the dots.
    pub actor: Actor,
    /// The time of the write, taken first: later than every entry stored here, and the moment at which expiry is judged.
    pub now: Timestamp,
    /// Names a new write event.
    pub mint: &'a mut dyn FnMut() -> Dot,
    /// Own counter runs whose first dot has this counter or a greater one were begun in this state, and may be continued.
    pub runs_since: u64,
}

/// What executing a command gives. Nothing is joined yet.
#[derive(Debug)]
pub struct Executed {
    /// What is to be joined; empty where nothing changes.
    pub delta: Delta,
    /// What the client is answered.
    pub answer: Answer,
}

/// Why a command was not executed.
#[derive(Debug)]
pub enum ExecuteError<E> {
    /// Refused for what the key holds.
    Refused(Refusal),
    /// Rows could not be read.
    Rows(E),
}

impl<E> From<Refusal> for ExecuteError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Executes a command on the rows of a replica.
///
/// # Errors
/// Where it is refused, or rows could not be read.
pub fn execute<R: Rows>(
    rows: &R,
    causal: &Causal,
    author: &mut Author<'_>,
    key: &Bytes,
    mutation: &Mutation,
) -> Result<Executed, ExecuteError<R::Error>> {
    let write = Write::new(author, causal, key);
    match mutation {
        Mutation::Set { value, expiry, condition, get } => {
            string::set(rows, write, &string::Set { value, expiry: *expiry, condition: *condition, get: *get })
        }
        Mutation::Append(suffix) => string::append(rows, write, suffix),
        Mutation::Increment(by) => string::increment(rows, write, *by),
        Mutation::Delete => keys::delete(rows, write),
        Mutation::GetDelete => string::get_delete(rows, write),
        Mutation::GetExpire(expiry) => string::get_expire(rows, write, *expiry),
        Mutation::Add(members) => set::add(rows, write, members),
        Mutation::Remove(members) => set::remove(rows, write, members),
        Mutation::Expire { at_ms, condition } => keys::expire(rows, write, *at_ms, *condition),
        Mutation::Persist => keys::persist(rows, write),
        Mutation::Resolve { token, value } => string::resolve(rows, write, token, value),
    }
}

/// Executes a command at a peer that holds no replica of the key: having observed nothing, it adds and never removes.
///
/// # Errors
/// Where the command must know what is there.
pub fn execute_blind(author: &mut Author<'_>, key: &Bytes, mutation: &Mutation) -> Result<Executed, Refusal> {
    let causal = Causal::default();
    let now = author.now;
    let mut write = Write::new(author, &causal, key);
    match mutation {
        Mutation::Set { value, expiry: expiry @ (SetExpiry::Clear | SetExpiry::At(_)), condition: SetCondition::Always, get: false } => {
            let decision = match expiry {
                SetExpiry::At(at) => {
                    let time = u64::try_from(*at).unwrap_or(0);
                    if Timestamp::from_millis(time) <= now {
                        return Err(Refusal::NeedsReplica);
                    }
                    let decision = super::delta::Decision { time: Some(time), timestamp: now, since: now };
                    write.add(RowAddress::expiry(key), Payload::Decision(decision), None);
                    Some(decision)
                }
                SetExpiry::Clear | SetExpiry::Keep => None,
            };
            write.add(RowAddress::value(key), Payload::Value(value.clone()), decision);
            Ok(write.done(Answer::Ok))
        }
        Mutation::Add(members) => {
            for member in members {
                write.add(RowAddress::member(key, member), Payload::Present, None);
            }
            Ok(write.done(Answer::Integer(i64::try_from(members.len()).unwrap_or(i64::MAX))))
        }
        _ => Err(Refusal::NeedsReplica),
    }
}
