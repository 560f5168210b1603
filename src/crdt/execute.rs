//! From a command to its delta: the one door through which clients change anything.
//!
//! A replica reads the rows that the command names, decides, and builds a delta. Nothing is changed here: the caller joins the delta
//! into its own rows and sends the same delta to the other replicas. See [`super::answer`] for the way back, from rows to an answer.

use bytes::Bytes;

use super::command::{Answer, ExpireCondition, Mutation, Refusal, SetCondition, SetExpiry};
use super::delta::{Causal, Decision, Delta, Payload, RowAddress, Rows};
use super::draft::Draft;
use super::shown::Shown;
use super::{set, string};
use crate::config::MAX_VALUE;

pub use super::answer::{KeyView, answer, selection, shows};
pub use super::draft::Author;

/// A command carried out on paper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    /// What it changes; empty where it changes nothing.
    pub delta: Delta,
    /// What the client is told.
    pub answer: Answer,
}

/// Why a command was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// For what the key holds.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rows could not be read.
    #[error("the rows could not be read: {0}")]
    Rows(E),
}

/// Executes a mutation on the rows of a replica. Builds the delta and does not join it.
///
/// # Errors
/// Where the key holds something that the command does not fit, or the rows could not be read.
pub fn execute<R: Rows>(
    rows: &R,
    causal: &Causal,
    author: &mut Author<'_>,
    key: &Bytes,
    mutation: &Mutation,
) -> Result<Executed, ExecuteError<R::Error>> {
    let shown = Shown::read(rows, key, author.now).map_err(ExecuteError::Rows)?;
    let draft = Draft::new(key, causal, author);
    let (delta, answer) = match mutation {
        Mutation::Set { value, expiry, condition, get } => {
            string::set(rows, &shown, draft, &string::Set { value, expiry: *expiry, condition: *condition, get: *get })?
        }
        Mutation::Append(tail) => string::append(rows, &shown, draft, tail)?,
        Mutation::Increment(amount) => string::increment(rows, &shown, draft, *amount)?,
        Mutation::Delete => {
            let (delta, existed) = string::delete(rows, &shown, draft)?;
            (delta, flag(existed))
        }
        Mutation::GetDelete => string::get_delete(rows, &shown, draft)?,
        Mutation::GetExpire(expiry) => string::get_expire(rows, &shown, draft, *expiry)?,
        Mutation::Add(members) => set::add(rows, &shown, draft, members)?,
        Mutation::Remove(members) => set::remove(rows, &shown, draft, members)?,
        Mutation::Expire { at_ms, condition } => expire(rows, &shown, draft, *at_ms, *condition)?,
        Mutation::Persist => persist(&shown, draft),
        Mutation::Resolve { token, value } => string::resolve(rows, &shown, draft, token, value)?,
    };
    Ok(Executed { delta, answer })
}

fn flag(yes: bool) -> Answer {
    Answer::Integer(i64::from(yes))
}

/// EXPIRE. A time that has passed already deletes.
fn expire<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    at_ms: i64,
    condition: ExpireCondition,
) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    let until = shown.end().map(|end| i64::try_from(end).unwrap_or(i64::MAX));
    let takes_effect = match condition {
        ExpireCondition::Always => true,
        ExpireCondition::NoExpiry => until.is_none(),
        ExpireCondition::HasExpiry => until.is_some(),
        ExpireCondition::Later => until.is_some_and(|until| at_ms > until),
        ExpireCondition::Earlier => until.is_none_or(|until| at_ms < until),
        ExpireCondition::HasExpiryAndEarlier => until.is_some_and(|until| at_ms < until),
    };
    if shown.data_type.is_none() || !takes_effect {
        return Ok((Delta::default(), flag(false)));
    }
    match string::future(at_ms, draft.author.now) {
        None => Ok((string::delete(rows, shown, draft)?.0, flag(true))),
        Some(time) => {
            shown.decide(&mut draft, Some(time));
            Ok((draft.finish(), flag(true)))
        }
    }
}

/// PERSIST: a decision for *never*.
fn persist(shown: &Shown, mut draft: Draft<'_, '_>) -> (Delta, Answer) {
    if shown.end().is_none() {
        return (Delta::default(), flag(false));
    }
    shown.decide(&mut draft, None);
    (draft.finish(), flag(true))
}

/// Executes a mutation for replicas that cannot be reached, at a peer that holds none. It has observed nothing, so it may add and
/// never remove or replace: a SET becomes a sibling that shows for being latest, an increment a run of its own. Its answers say what would be true
/// were the key new: the amount for an increment, the number of distinct members for an add.
///
/// # Errors
/// [`Refusal::NeedsReplica`] where the command has to know what is there.
pub fn execute_blind(author: &mut Author<'_>, key: &Bytes, mutation: &Mutation) -> Result<Executed, Refusal> {
    let causal = Causal::default();
    let now = author.now;
    let mut draft = Draft::new(key, &causal, author);
    let answer = match mutation {
        Mutation::Set { value, expiry, condition: SetCondition::Always, get: false } => {
            if value.len() > MAX_VALUE {
                return Err(Refusal::TooBig);
            }
            let decision = match expiry {
                SetExpiry::Clear => None,
                SetExpiry::Keep => return Err(Refusal::NeedsReplica),
                SetExpiry::At(at_ms) => {
                    let time = string::future(*at_ms, now).ok_or(Refusal::NeedsReplica)?;
                    Some(Decision { time: Some(time), timestamp: now, since: now })
                }
            };
            if let Some(decision) = decision {
                draft.decide(decision);
            }
            draft.add(RowAddress::value(key), decision, Payload::Value(value.clone()));
            Answer::Ok
        }
        Mutation::Increment(amount) => {
            string::begin_run(&mut draft, None, *amount);
            Answer::Integer(*amount)
        }
        Mutation::Add(members) => {
            if members.iter().any(|member| member.len() > MAX_VALUE) {
                return Err(Refusal::TooBig);
            }
            let members: std::collections::BTreeSet<&Bytes> = members.iter().collect();
            for member in &members {
                draft.add(RowAddress::member(key, member), None, Payload::Present);
            }
            Answer::Integer(i64::try_from(members.len()).unwrap_or(i64::MAX))
        }
        _ => return Err(Refusal::NeedsReplica),
    };
    Ok(Executed { delta: draft.finish(), answer })
}
