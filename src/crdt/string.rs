//! Strings and counters: one row a key, as [`super::value`] reads it. RINGTIDE SIBLINGS tells all of its siblings.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bits::{self, FieldChange};
pub use super::condition::{SetCondition, SetExpiry};
use super::counter;
use super::delta::Delta;
use super::draft::Draft;
use super::expiry::future;
use super::kind::DataType;
use super::length::longest_of;
use super::number::Number;
use super::outcome::{Answer, Outcome};
use super::refusal::{ExecuteError, Refusal};
use super::row::{Decision, Payload, RowAddress};
use super::rows::Rows;
use super::selection::Selection;
use super::shown::Shown;
use super::target::Target;
use super::token::Token;
use super::{hyperloglog, target};
use crate::config::MAX_VALUE;

/// A change of a string or counter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Writes a string in place of whatever the key holds.
    Set {
        /// The new value.
        value: Bytes,
        /// What becomes of the key's expiry.
        expiry: SetExpiry,
        /// When the write takes place at all.
        condition: SetCondition,
        /// Answer with the value before, [`Answer::Nil`] where there was none, instead of [`Answer::Ok`].
        get: bool,
    },
    /// Appends to the string that shows; its siblings stay. Answers with the new length.
    Append(Bytes),
    /// Writes over the string that shows from an offset on, padded with zeros up to there; its siblings stay. Answers with the new length.
    SetRange {
        /// Where, in bytes.
        offset: u64,
        /// What. Nothing changes nothing.
        value: Bytes,
    },
    /// Changes numbers of some bits in the string that shows; its siblings stay. Answers with [`Answer::Fields`].
    Fields(Vec<FieldChange>),
    /// Adds to a counter. Answers with the new value.
    Increment(i64),
    /// Adds a number with a fraction, in decimal, as Redis reads, rounds and prints it. Answers with the new value.
    IncrementFloat(Bytes),
    /// Removes a string and answers with it.
    GetDelete,
    /// Answers with a string and changes its expiry.
    GetExpire(SetExpiry),
    /// Writes a string in place of exactly what the reader of the token saw, of whatever type.
    Resolve {
        /// The token of [`Answer::Siblings`].
        token: Bytes,
        /// The new value.
        value: Bytes,
    },
}

/// A question about a string or counter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// The string. [`Answer::Bytes`] or [`Answer::Nil`].
    Get,
    /// The length of the string, 0 where there is none.
    Length,
    /// Every value that concurrent writes left, the types beside them, and a token that names it all: of a key of any type.
    Siblings,
}

impl Mutation {
    /// The length of the value that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::Append(value) | Self::SetRange { value, .. } | Self::Resolve { value, .. } => {
                longest_of([value])
            }
            Self::Fields(_) | Self::Increment(_) | Self::IncrementFloat(_) | Self::GetDelete | Self::GetExpire(_) => 0,
        }
    }
}

/// Which rows of a key a query needs.
pub(super) fn selection(query: &Query) -> Selection {
    if *query == Query::Siblings { Selection::All } else { Selection::Head }
}

/// Answers a query of a key that shows no other type.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    Ok(match query {
        Query::Get => string(rows, shown, key)?.map_or(Answer::Nil, Answer::Bytes),
        Query::Length => length(string(rows, shown, key)?.as_ref()),
        Query::Siblings => {
            Answer::Siblings { token: shown.token(rows, key)?.to_bytes(), values: shown.string.values(), types: shown.types(rows, key)? }
        }
    })
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    match mutation {
        Mutation::Set { value, expiry, condition, get } => {
            set(rows, shown, draft, &Set { value, expiry: *expiry, condition: *condition, get: *get })
        }
        Mutation::Append(tail) => append(rows, shown, draft, tail),
        Mutation::SetRange { offset, value } => set_range(rows, shown, draft, *offset, value),
        Mutation::Fields(changes) => change_fields(rows, shown, draft, changes),
        Mutation::Increment(amount) => increment(rows, shown, draft, *amount),
        Mutation::IncrementFloat(amount) => increment_float(rows, shown, draft, amount),
        Mutation::GetDelete => get_delete(rows, shown, draft),
        Mutation::GetExpire(expiry) => get_expire(rows, shown, draft, *expiry),
        Mutation::Resolve { token, value } => resolve(rows, shown, draft, token, value),
    }
}

/// Executes a mutation having observed nothing: a SET becomes a sibling that shows for being latest, an increment a run of its own.
pub(super) fn execute_blind(draft: &mut Draft<'_, '_>, mutation: &Mutation) -> Result<Answer, Refusal> {
    match mutation {
        Mutation::Set { value, expiry, condition: SetCondition::Always, get: false } => {
            if value.len() > MAX_VALUE {
                return Err(Refusal::TooBig);
            }
            let now = draft.author.now;
            let decision = match expiry {
                SetExpiry::Clear => None,
                SetExpiry::Keep => return Err(Refusal::NeedsReplica),
                SetExpiry::At(at_ms) => {
                    let time = future(*at_ms, now).ok_or(Refusal::NeedsReplica)?;
                    Some(Decision { time: Some(time), timestamp: now, since: now })
                }
            };
            if let Some(decision) = decision {
                draft.decide(decision);
            }
            draft.add(RowAddress::value(draft.key), decision, Payload::Value(value.clone()));
            Ok(Answer::Ok)
        }
        Mutation::Increment(amount) => {
            counter::begin_run(draft, RowAddress::value(draft.key), None, Number::from(*amount));
            Ok(Answer::Integer(*amount))
        }
        Mutation::IncrementFloat(amount) => {
            let (amount, printed) = target::alone(amount)?;
            counter::begin_run(draft, RowAddress::value(draft.key), None, amount);
            Ok(Answer::Bytes(printed))
        }
        _ => Err(Refusal::NeedsReplica),
    }
}

/// The row of the string, for a write.
fn row<'v, R: Rows>(rows: &R, shown: &'v Shown, draft: &Draft<'_, '_>) -> Result<Target<'v, Bytes>, ExecuteError<R::Error>> {
    let address = RowAddress::value(draft.key);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    Ok(Target { address, row, view: &shown.string, expiry: &shown.expiry })
}

/// The string, or what Redis makes of a HyperLogLog.
fn string<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<Option<Bytes>, R::Error> {
    if shown.data_type == Some(DataType::HyperLogLog) {
        return Ok(Some(hyperloglog::registers(rows, key, &shown.expiry)?.to_dense()));
    }
    Ok(shown.string.shown())
}

/// Refuses a query where the key shows a type of which it cannot be asked.
pub(super) fn expect_readable(shown: &Shown, query: &Query) -> Result<(), Refusal> {
    match (shown.data_type, query) {
        (_, Query::Siblings) | (Some(DataType::HyperLogLog), Query::Get | Query::Length) => Ok(()),
        _ => shown.expect(DataType::String),
    }
}

/// The length of a string as an answer, 0 where there is none.
fn length(string: Option<&Bytes>) -> Answer {
    Answer::count(string.map_or(0, Bytes::len))
}

/// The old value for SET … GET and its like: refused where the key shows another type.
fn old_value<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<Answer, ExecuteError<R::Error>> {
    expect_readable(shown, &Query::Get)?;
    Ok(string(rows, shown, key).map_err(ExecuteError::Rows)?.map_or(Answer::Nil, Answer::Bytes))
}

/// SET and its relatives.
struct Set<'m> {
    value: &'m Bytes,
    expiry: SetExpiry,
    condition: SetCondition,
    get: bool,
}

fn set<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, set: &Set<'_>) -> Outcome<R::Error> {
    let old = if set.get { Some(old_value(rows, shown, draft.key)?) } else { None };
    let exists = shown.data_type.is_some();
    let takes_place = match set.condition {
        SetCondition::Always => true,
        SetCondition::Absent => !exists,
        SetCondition::Present => exists,
    };
    if !takes_place {
        return Ok((Delta::default(), old.unwrap_or(Answer::Nil)));
    }
    let answer = old.unwrap_or(Answer::Ok);
    if set.value.len() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let key = draft.key;
    let decision = match set.expiry {
        SetExpiry::Keep if exists => {
            draft.overwrite(rows, true)?;
            shown.write_under(&mut draft)
        }
        SetExpiry::Keep | SetExpiry::Clear => {
            draft.overwrite(rows, false)?;
            shown.renew(&mut draft, None)
        }
        SetExpiry::At(at_ms) => {
            let Some(time) = future(at_ms, draft.author.now) else {
                return Ok((shown.delete(rows, draft)?.0, answer));
            };
            draft.overwrite(rows, false)?;
            shown.renew(&mut draft, Some(time))
        }
    };
    draft.add(RowAddress::value(key), decision, Payload::Value(set.value.clone()));
    Ok((draft.finish(), answer))
}

fn get_delete<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>) -> Outcome<R::Error> {
    let old = old_value(rows, shown, draft.key)?;
    Ok((shown.delete(rows, draft)?.0, old))
}

fn get_expire<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, expiry: SetExpiry) -> Outcome<R::Error> {
    let value = old_value(rows, shown, draft.key)?;
    if value == Answer::Nil {
        return Ok((Delta::default(), value));
    }
    match expiry {
        SetExpiry::Keep => {}
        SetExpiry::Clear if shown.end().is_none() => {}
        SetExpiry::Clear => shown.decide(&mut draft, None),
        SetExpiry::At(at_ms) => match future(at_ms, draft.author.now) {
            Some(time) => shown.decide(&mut draft, Some(time)),
            None => return Ok((shown.delete(rows, draft)?.0, value)),
        },
    }
    Ok((draft.finish(), value))
}

/// APPEND: replaces exactly the sibling that shows and the runs that were added to it. Other siblings stay.
fn append<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, tail: &Bytes) -> Outcome<R::Error> {
    shown.expect(DataType::String)?;
    if tail.is_empty() && shown.string.exists() {
        return Ok((Delta::default(), length(shown.string.shown().as_ref())));
    }
    let row = row(rows, shown, &draft)?;
    let value = row.appended(tail)?;
    let answer = length(Some(&value));
    let decision = shown.write_under(&mut draft);
    row.set_shown(&mut draft, decision, Payload::Value(value));
    Ok((draft.finish(), answer))
}

/// SETRANGE. Nothing is written by nothing.
fn set_range<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, offset: u64, part: &Bytes) -> Outcome<R::Error> {
    shown.expect(DataType::String)?;
    if part.is_empty() {
        return Ok((Delta::default(), length(shown.string.shown().as_ref())));
    }
    rewrite(rows, shown, draft, |old| bits::overwritten(old, offset, part).map(|value| (Answer::count(value.len()), value)))
}

/// SETBIT and BITFIELD.
fn change_fields<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, changes: &[FieldChange]) -> Outcome<R::Error> {
    rewrite(rows, shown, draft, |old| bits::changed(old, changes).map(|(answers, value)| (Answer::Fields(answers), value)))
}

/// Writes the string that shows anew, with siblings as APPEND; nothing where it stays what it was.
fn rewrite<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    change: impl FnOnce(&[u8]) -> Result<(Answer, Vec<u8>), Refusal>,
) -> Outcome<R::Error> {
    shown.expect(DataType::String)?;
    let before = shown.string.shown();
    let (answer, value) = change(before.as_deref().unwrap_or_default())?;
    if before.is_some_and(|before| before == value) {
        return Ok((Delta::default(), answer));
    }
    let row = row(rows, shown, &draft)?;
    let decision = shown.write_under(&mut draft);
    row.set_shown(&mut draft, decision, Payload::Value(value.into()));
    Ok((draft.finish(), answer))
}

fn increment<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, amount: i64) -> Outcome<R::Error> {
    shown.expect(DataType::String)?;
    let row = row(rows, shown, &draft)?;
    let decision = shown.write_under(&mut draft);
    let sum = row.increment(&mut draft, decision, amount, Refusal::NotAnInteger)?;
    Ok((draft.finish(), Answer::Integer(sum)))
}

fn increment_float<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, amount: &Bytes) -> Outcome<R::Error> {
    shown.expect(DataType::String)?;
    let row = row(rows, shown, &draft)?;
    let decision = shown.write_under(&mut draft);
    let sum = row.increment_float(&mut draft, decision, amount, Refusal::NotAFloat)?;
    Ok((draft.finish(), Answer::Bytes(sum)))
}

/// RESOLVE: replaces exactly what the reader of the token saw, as SET replaces what its own replica saw: of whatever type. What was written meanwhile stays beside it.
fn resolve<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, token: &Bytes, value: &Bytes) -> Outcome<R::Error> {
    let token = Token::from_bytes(token).map_err(|_| Refusal::InvalidToken)?;
    if value.len() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let decision = shown.write_under(&mut draft);
    draft.remove_seen(rows, &token, true)?;
    draft.add(RowAddress::value(draft.key), decision, Payload::Value(value.clone()));
    Ok((draft.finish(), Answer::Ok))
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::super::dot::Dot;
    use super::super::testing::{DELETE, ONE, Replica, add, bytes, increment, set, settle, text};
    use super::*;

    const GET_DELETE: command::Mutation = command::Mutation::String(Mutation::GetDelete);

    fn append(tail: &str) -> command::Mutation {
        Mutation::Append(bytes(tail)).into()
    }

    fn resolve(token: &Bytes, value: &str) -> command::Mutation {
        Mutation::Resolve { token: token.clone(), value: bytes(value) }.into()
    }

    fn conditional(value: &str, condition: SetCondition, get: bool) -> command::Mutation {
        Mutation::Set { value: bytes(value), expiry: SetExpiry::Clear, condition, get }.into()
    }

    #[test]
    fn concurrent_sets_are_siblings_until_a_set_has_seen_both() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("one"));
        b.at(5).write(&set("two"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), a.siblings().1), (text("two"), vec!["two".to_owned(), "one".to_owned()]));
        a.write(&set("three"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((b.get(), b.siblings().1), (text("three"), vec!["three".to_owned()]));
    }

    #[test]
    fn conditions_and_old_values_are_those_of_redis() {
        let mut a = Replica::new(1);
        assert_eq!(a.ask(&conditional("x", SetCondition::Present, false)), Answer::Nil);
        assert_eq!(a.get(), Answer::Nil);
        assert_eq!(a.ask(&conditional("x", SetCondition::Absent, true)), Answer::Nil);
        assert_eq!(a.ask(&conditional("y", SetCondition::Absent, true)), text("x"));
        assert_eq!(a.ask(&conditional("y", SetCondition::Absent, false)), Answer::Nil);
        assert_eq!(a.ask(&conditional("z", SetCondition::Present, true)), text("x"));
        assert_eq!((a.get(), a.query(&Query::Length.into())), (text("z"), Ok(Answer::Integer(1))));
        assert_eq!(a.ask(&GET_DELETE), text("z"));
        assert!(a.write(&GET_DELETE).is_empty());
        assert!(a.write(&DELETE).is_empty());
        a.write(&add(&["m"]));
        assert_eq!(a.attempt(&conditional("x", SetCondition::Always, true)), Err(Refusal::WrongType));
        assert_eq!(a.attempt(&GET_DELETE), Err(Refusal::WrongType));
        assert_eq!(a.attempt(&append("x")), Err(Refusal::WrongType));
        assert_eq!(a.ask(&set("x")), Answer::Ok);
        assert_eq!(a.state.rows.len(), 1);
    }

    #[test]
    fn an_append_replaces_what_shows_and_leaves_siblings_and_later_increments() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        assert_eq!(a.ask(&append("1")), Answer::Integer(1));
        b.at(5).write(&set("20"));
        settle(&mut [&mut a, &mut b]);
        b.write(&ONE);
        a.pull(&b);
        assert_eq!(a.ask(&append("5")), Answer::Integer(3));
        assert_eq!(a.siblings().1, ["215", "1"]);
        b.write(&ONE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.siblings().1, ["216", "1"]);
        assert!(a.write(&append("")).is_empty());
        let full = Mutation::Append(vec![b'x'; MAX_VALUE].into()).into();
        assert_eq!(a.attempt(&full), Err(Refusal::TooBig));
    }

    #[test]
    fn a_resolve_replaces_exactly_what_its_reader_saw() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        a.write(&set("one"));
        let two = b.write(&set("two"));
        a.hear(&two);
        let (token, _) = a.siblings();
        // c writes beside them, and resolves though it has never heard of b's value.
        c.write(&set("three"));
        c.at(9).write(&resolve(&token, "both"));
        c.hear(&two);
        assert_eq!(c.siblings().1, ["both", "three"]);
        settle(&mut [&mut a, &mut b, &mut c]);
        assert_eq!(a.siblings().1, ["both", "three"]);
    }

    #[test]
    fn a_resolve_keeps_increments_that_its_reader_had_not_seen() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&increment(5));
        b.pull(&a);
        let (token, values) = b.siblings();
        assert_eq!(values, ["5"]);
        a.write(&increment(2));
        b.pull(&a);
        b.write(&resolve(&token, "100"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("102"), text("102")));
    }

    #[test]
    fn a_token_has_no_power_beyond_its_row() {
        let mut a = Replica::new(1);
        a.write(&set("x"));
        let future = Dot { actor: a.actor, counter: 3 };
        let forged = Token { dots: [future].into(), ..Token::default() }.to_bytes();
        a.write(&resolve(&forged, "y"));
        assert!(!a.state.causal.clock.contains(future));
        assert_eq!(a.attempt(&resolve(&bytes("nonsense"), "z")), Err(Refusal::InvalidToken));
    }

    #[test]
    fn a_deletion_is_not_undone_by_a_value_that_only_one_replica_had() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        let first = a.write(&set("old"));
        b.hear(&first);
        // The next two writes reach c alone; then a is gone for good.
        a.write(&set("new"));
        c.hear(&a.write(&DELETE));
        c.hear(&first);
        settle(&mut [&mut b, &mut c]);
        assert_eq!((b.get(), c.get()), (Answer::Nil, Answer::Nil));
    }

    #[test]
    fn the_pending_of_one_row_drops_no_entry_of_another() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        let unheard = a.write(&set("unheard"));
        // c has seen a's write and replaces a member's row: for that row alone the dot is pending at b.
        c.state.causal.clock = unheard.adds.iter().map(|(_, dot, _)| *dot).collect();
        b.hear(&c.write(&add(&["m"])));
        b.at(9).write(&set("b"));
        b.hear(&unheard);
        assert_eq!(b.siblings().1, ["b", "unheard"]);
    }
}
