//! What every key has, whatever its type: it can be there or not, be deleted, expire.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{Answer, Selection};
use super::delta::{Delta, Rows};
use super::draft::Draft;
use super::execute::{ExecuteError, Outcome};
use super::explain;
use super::shown::Shown;
use crate::types::Timestamp;

/// A change of a key of any type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Removes the key. Answers 1 where it existed, else 0.
    Delete,
    /// Sets when the key expires, in milliseconds since 1970. A time already past deletes it. Answers 1 where it took effect, else 0.
    Expire {
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// When the command takes effect at all.
        condition: ExpireCondition,
    },
    /// Takes the expiry away. Answers 1 where there was one, else 0.
    Persist,
}

/// When an EXPIRE takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only where the key has no expiry.
    NoExpiry,
    /// XX: only where the key has an expiry.
    HasExpiry,
    /// GT: only where the new time is later. A key without expiry never expires, so it counts as latest.
    Later,
    /// LT: only where the new time is earlier.
    Earlier,
    /// XX and LT: only where the key has an expiry and the new time is earlier.
    HasExpiryAndEarlier,
}

impl ExpireCondition {
    /// Whether a new end takes effect where there is this one, in milliseconds since 1970; `None`: never.
    pub(super) fn holds(self, at_ms: i64, until: Option<u64>) -> bool {
        let until = until.map(|end| i64::try_from(end).unwrap_or(i64::MAX));
        match self {
            Self::Always => true,
            Self::NoExpiry => until.is_none(),
            Self::HasExpiry => until.is_some(),
            Self::Later => until.is_some_and(|until| at_ms > until),
            Self::Earlier => until.is_none_or(|until| at_ms < until),
            Self::HasExpiryAndEarlier => until.is_some_and(|until| at_ms < until),
        }
    }
}

/// A question about a key of any type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// Which type the key shows: [`Answer::Type`].
    Type,
    /// When the key expires: milliseconds since 1970, -1 without expiry, -2 where there is no key.
    ExpireTime,
    /// Every row of the key with its live dots, for people: [`Answer::Explained`].
    Explain,
}

/// Which rows of a key a query needs.
pub(super) fn selection(query: &Query) -> Selection {
    match query {
        Query::Type | Query::ExpireTime => Selection::Head,
        Query::Explain => Selection::All,
    }
}

/// Answers a query.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    Ok(match query {
        Query::Type => Answer::Type(shown.data_type),
        Query::ExpireTime => Answer::Integer(match (shown.data_type, shown.end()) {
            (None, _) => -2,
            (Some(_), None) => -1,
            (Some(_), Some(end)) => i64::try_from(end).unwrap_or(i64::MAX),
        }),
        Query::Explain => Answer::Explained(explain::explain(rows, key, shown)?),
    })
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    match mutation {
        Mutation::Delete => {
            let (delta, existed) = delete(rows, shown, draft)?;
            Ok((delta, Answer::flag(existed)))
        }
        Mutation::Expire { at_ms, condition } => expire(rows, shown, draft, *at_ms, *condition),
        Mutation::Persist => Ok(persist(shown, draft)),
    }
}

/// A time of expiry as it is stored; `None` where it has passed.
pub(super) fn future(at_ms: i64, now: Timestamp) -> Option<u64> {
    u64::try_from(at_ms).ok().filter(|at| Timestamp::from_millis(*at) > now)
}

/// DEL: whether there was something to delete.
pub(super) fn delete<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>) -> Result<(Delta, bool), ExecuteError<R::Error>> {
    if shown.data_type.is_none() {
        return Ok((Delta::default(), false));
    }
    draft.overwrite(rows, false)?;
    Ok((draft.finish(), true))
}

/// EXPIRE. A time that has passed already deletes.
fn expire<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, at_ms: i64, condition: ExpireCondition) -> Outcome<R::Error> {
    if shown.data_type.is_none() || !condition.holds(at_ms, shown.end()) {
        return Ok((Delta::default(), Answer::flag(false)));
    }
    match future(at_ms, draft.author.now) {
        None => Ok((delete(rows, shown, draft)?.0, Answer::flag(true))),
        Some(time) => {
            shown.decide(&mut draft, Some(time));
            Ok((draft.finish(), Answer::flag(true)))
        }
    }
}

/// PERSIST: a decision for *never*.
fn persist(shown: &Shown, mut draft: Draft<'_, '_>) -> (Delta, Answer) {
    if shown.end().is_none() {
        return (Delta::default(), Answer::flag(false));
    }
    shown.decide(&mut draft, None);
    (draft.finish(), Answer::flag(true))
}
