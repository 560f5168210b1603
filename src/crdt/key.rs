//! What every key has, whatever its type: it can be there or not, be deleted, expire.

use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::condition::ExpireCondition;
use super::content::Content;
use super::copying;
use super::delta::Delta;
use super::draft::Draft;
use super::expiry::future;
use super::explain;
use super::kind::DataType;
use super::outcome::{Answer, Outcome};
use super::refusal::Refusal;
use super::row::{Entry, Payload};
use super::rows::Rows;
use super::selection::Selection;
use super::shown::Shown;
use super::token::Token;
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
    /// Puts content in place of whatever the key holds, in one delta; nothing deletes the key. Answers 1 where it did, else 0.
    Replace {
        /// What.
        content: Content,
        /// When the key expires, in milliseconds since 1970; `None`: never. A time already past deletes it.
        expires_at_ms: Option<u64>,
        /// Only where the executing replica knows of no such key.
        only_new: bool,
    },
    /// Removes exactly what the reader of [`Answer::Content`] saw: what was written meanwhile stays. Answers 1 where anything of it was there, else 0.
    RemoveSeen {
        /// The token of that answer.
        token: Bytes,
    },
}

impl Mutation {
    /// The length of the longest element that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Replace { content, .. } => content.longest(),
            Self::Delete | Self::Expire { .. } | Self::Persist | Self::RemoveSeen { .. } => 0,
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
    /// All that the key shows: [`Answer::Content`].
    Content {
        /// Whether it has to be named, for [`Mutation::RemoveSeen`].
        with_token: bool,
    },
    /// A digest of what the key shows, [`Answer::Bytes`], or [`Answer::Nil`] where there is no key: equal as long as nothing that shows was written or taken
    /// away, and the decision on its end is the same.
    Digest,
}

/// Which rows of a key a query needs.
pub(super) fn selection(query: &Query) -> Selection {
    match query {
        Query::Type | Query::ExpireTime => Selection::Head,
        Query::Explain | Query::Content { .. } | Query::Digest => Selection::All,
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
        Query::Content { with_token } => Answer::Content {
            content: copying::read(rows, shown, key)?,
            expires_at_ms: shown.end(),
            token: if *with_token { shown.token(rows, key)?.to_bytes() } else { Bytes::new() },
        },
        Query::Digest => digest(rows, shown, key)?,
    })
}

/// What shows is told by its dots, since an entry never changes. Floors and what is hidden go in the background without a change of what shows.
fn digest<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<Answer, R::Error> {
    if shown.data_type.is_none() {
        return Ok(Answer::Nil);
    }
    let mut hasher = blake3::Hasher::new();
    for decision in shown.expiry.standing().filter(|decision| !shown.expiry.has_passed(decision)) {
        // 0 is no time that has not passed.
        for number in [decision.time.unwrap_or(0), decision.timestamp.0, decision.since.0] {
            hasher.update(&number.to_be_bytes());
        }
    }
    rows.visit(key, &mut |address, row| {
        let shows = |entry: &Entry| !shown.expiry.hides(entry) && !matches!(entry.payload, Payload::Floor { .. });
        if DataType::of(address.kind) == shown.data_type {
            for (dot, _) in row.iter().filter(|(_, entry)| shows(entry)) {
                hasher.update(&dot.actor.0.to_be_bytes()).update(&dot.counter.to_be_bytes());
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(Answer::Bytes(Bytes::copy_from_slice(hasher.finalize().as_bytes())))
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    match mutation {
        Mutation::Delete => {
            let (delta, existed) = shown.delete(rows, draft)?;
            Ok((delta, Answer::flag(existed)))
        }
        Mutation::Expire { at_ms, condition } => expire(rows, shown, draft, *at_ms, *condition),
        Mutation::Persist => Ok(persist(shown, draft)),
        Mutation::Replace { content, expires_at_ms, only_new } => replace(rows, shown, draft, content, *expires_at_ms, *only_new),
        Mutation::RemoveSeen { token } => remove_seen(rows, draft, token),
    }
}

/// EXPIRE. A time that has passed already deletes.
fn expire<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, at_ms: i64, condition: ExpireCondition) -> Outcome<R::Error> {
    if shown.data_type.is_none() || !condition.holds(at_ms, shown.end()) {
        return Ok((Delta::default(), Answer::flag(false)));
    }
    match future(at_ms, draft.author.now) {
        None => Ok((shown.delete(rows, draft)?.0, Answer::flag(true))),
        Some(time) => {
            shown.decide(&mut draft, Some(time));
            Ok((draft.finish(), Answer::flag(true)))
        }
    }
}

/// Puts content in place of the whole key.
fn replace<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    content: &Content,
    expires_at_ms: Option<u64>,
    only_new: bool,
) -> Outcome<R::Error> {
    if only_new && shown.data_type.is_some() {
        return Ok((Delta::default(), Answer::flag(false)));
    }
    let now = draft.author.now;
    if content.is_empty() || expires_at_ms.is_some_and(|at| Timestamp::from_millis(at) <= now) {
        return Ok((shown.delete(rows, draft)?.0, Answer::flag(true)));
    }
    draft.overwrite(rows, false)?;
    let decision = shown.renew(&mut draft, expires_at_ms);
    copying::write(&mut draft, decision, content)?;
    Ok((draft.finish(), Answer::flag(true)))
}

/// Removes what was read.
fn remove_seen<R: Rows>(rows: &R, mut draft: Draft<'_, '_>, token: &Bytes) -> Outcome<R::Error> {
    let token = Token::from_bytes(token).map_err(|_| Refusal::InvalidToken)?;
    if token.dots.is_empty() {
        return Ok((Delta::default(), Answer::flag(false)));
    }
    let went = draft.remove_seen(rows, &token, false)?;
    Ok((draft.finish(), Answer::flag(went)))
}

/// PERSIST: a decision for *never*.
fn persist(shown: &Shown, mut draft: Draft<'_, '_>) -> (Delta, Answer) {
    if shown.end().is_none() {
        return (Delta::default(), Answer::flag(false));
    }
    shown.decide(&mut draft, None);
    (draft.finish(), Answer::flag(true))
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::super::testing::{DELETE, ONE, Replica, add, bytes, expire, remove, set, settle};
    use super::*;
    use crate::crdt::list;

    fn digest(replica: &Replica) -> Answer {
        replica.query(&Query::Digest.into()).unwrap()
    }

    fn push(item: &str) -> command::Mutation {
        list::Mutation::Push { side: list::Side::Right, items: vec![bytes(item)], only_existing: false }.into()
    }

    #[test]
    fn every_write_that_shows_changes_the_digest_and_reading_does_not() {
        let mut a = Replica::new(1);
        assert_eq!(digest(&a), Answer::Nil);
        let histories: [&[command::Mutation]; 3] =
            [&[set("v"), set("v"), expire(900), set("v")], &[ONE, ONE, set("1"), ONE], &[push("x"), push("x"), expire(900), expire(901)]];
        for history in histories {
            let mut before = digest(&a);
            for mutation in history {
                a.write(mutation);
                assert_ne!(digest(&a), before, "{mutation:?}");
                before = digest(&a);
                assert_eq!(digest(&a), before);
            }
            a.write(&DELETE);
            assert_eq!(digest(&a), Answer::Nil);
        }
        a.write(&add(&["m", "n"]));
        let both = digest(&a);
        a.write(&add(&["m"]));
        a.write(&remove(&["o"]));
        a.write(&remove(&["n"]));
        assert_ne!(digest(&a), both);
    }

    #[test]
    fn replicas_that_hold_the_same_tell_the_same_and_what_expired_is_gone() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&ONE);
        b.write(&ONE);
        assert_ne!(digest(&a), digest(&b));
        settle(&mut [&mut a, &mut b]);
        assert_eq!(digest(&a), digest(&b));
        a.at(10).write(&expire(50));
        assert_ne!(digest(&a), digest(&b));
        assert_eq!(digest(a.at(50)), Answer::Nil);
    }

    #[test]
    fn what_another_type_hides_is_not_part_of_it() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("v"));
        b.write(&push("x"));
        let alone = digest(&a);
        a.pull(&b);
        assert_eq!(digest(&a), alone);
    }
}
