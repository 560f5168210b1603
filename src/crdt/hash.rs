//! Hashes: a row a field, each a value of its own as [`super::value`] reads it: a string with siblings, or a counter.
//!
//! A field is in the hash while its row shows something. So of concurrent writes to one field the latest shows and increments add up, and a
//! write of a field wins over a concurrent HDEL of it. A field may have an end of its own (see [`field`]). Changing one field of a hash of a million reads and writes the row of
//! that field, and the first row that shows.

mod field;
mod siblings;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::condition::{ExpireCondition, SetCondition, SetExpiry};
use super::counter;
use super::delta::Delta;
use super::draft::Draft;
use super::kind::{DataType, Kind};
use super::length::longest_of;
use super::number::Number;
use super::outcome::{Answer, Outcome};
use super::random::Pick;
use super::refusal::Refusal;
use super::row::{Payload, Row, RowAddress};
use super::rows::Rows;
use super::scan::Scan;
use super::selection::Selection;
use super::shown::Shown;
use super::target;
use super::value::ValueView;
use crate::config::MAX_VALUE;

use field::Field;
pub(super) use field::{contents, write_content};

/// A change of a hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Sets fields to values. Answers how many fields were new.
    Set(Vec<(Bytes, Bytes)>),
    /// Sets a field that the executing replica does not know of. Answers 1 where it did, else 0.
    SetNew {
        /// The field.
        field: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Sets fields to values with an end of their own. Answers 1, or 0 where the condition did not hold for all of them.
    SetExpiring {
        /// Fields and values.
        pairs: Vec<(Bytes, Bytes)>,
        /// When the fields expire.
        expiry: SetExpiry,
        /// What is demanded of every field.
        condition: SetCondition,
    },
    /// Removes fields. Answers how many there were.
    Remove(Vec<Bytes>),
    /// Removes fields and answers with their values.
    GetRemove(Vec<Bytes>),
    /// Sets when fields expire. Answers for each 1, 0 where the condition did not hold, 2 where it was removed since the time has
    /// passed, -2 where there is no such field.
    Expire {
        /// The fields.
        fields: Vec<Bytes>,
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// When the command takes effect on a field at all.
        condition: ExpireCondition,
    },
    /// Takes the end of fields away. Answers for each 1, -1 where it had none, -2 where there is no such field.
    Persist(Vec<Bytes>),
    /// Answers with the values of fields and changes when they expire.
    GetExpire {
        /// The fields.
        fields: Vec<Bytes>,
        /// When they expire.
        expiry: SetExpiry,
    },
    /// Adds to a field as to a counter. Answers with the new value.
    Increment {
        /// The field.
        field: Bytes,
        /// How much.
        amount: i64,
    },
    /// Adds a number with a fraction to a field, as Redis reads, rounds and prints it. Answers with the new value.
    IncrementFloat {
        /// The field.
        field: Bytes,
        /// How much, in decimal.
        amount: Bytes,
    },
    /// Sets a field in place of exactly what the reader of a token saw of it. Answers [`Answer::Ok`].
    Resolve {
        /// The field.
        field: Bytes,
        /// The token of [`Query::Siblings`].
        token: Bytes,
        /// Its new value.
        value: Bytes,
    },
}

/// A question about a hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// The values of some fields: [`Answer::Values`].
    Get(Vec<Bytes>),
    /// Every field with its value: [`Answer::Pairs`].
    Pairs,
    /// Fields picked at random, with their values: [`Answer::Pairs`].
    Pick {
        /// How many.
        pick: Pick,
        /// What they are picked by.
        seed: u64,
    },
    /// Fields with their values from a hash on: [`Answer::Scanned`].
    Scan(Scan),
    /// How many fields there are.
    Length,
    /// When fields expire, in milliseconds since 1970: -1 without expiry, -2 where there is no such field. [`Answer::Numbers`].
    Ends(Vec<Bytes>),
    /// Every value that concurrent writes left of a field, and a token that names them: [`Answer::Siblings`]. Of a key of any type.
    Siblings(Bytes),
}

impl Mutation {
    /// The length of the longest field or value that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Set(pairs) | Self::SetExpiring { pairs, .. } => longest_of(pairs.iter().flat_map(|(field, value)| [field, value])),
            Self::SetNew { field, value } | Self::Resolve { field, value, .. } => longest_of([field, value]),
            Self::Remove(fields)
            | Self::GetRemove(fields)
            | Self::Persist(fields)
            | Self::Expire { fields, .. }
            | Self::GetExpire { fields, .. } => longest_of(fields),
            Self::Increment { field, .. } | Self::IncrementFloat { field, .. } => field.len(),
        }
    }
}

impl Query {
    /// The length of the longest field that it names, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Get(fields) | Self::Ends(fields) => longest_of(fields),
            Self::Siblings(field) => field.len(),
            Self::Pairs | Self::Pick { .. } | Self::Scan(_) | Self::Length => 0,
        }
    }
}

/// Which rows of a key a query needs.
pub(super) fn selection(query: &Query) -> Selection {
    match query {
        Query::Get(fields) | Query::Ends(fields) => Selection::Elements { kind: Kind::Field, elements: fields.clone() },
        Query::Siblings(field) => Selection::Elements { kind: Kind::Field, elements: vec![field.clone()] },
        Query::Scan(scan) => scan.selection(Kind::Field),
        Query::Pairs | Query::Pick { .. } | Query::Length => Selection::All,
    }
}

/// Refuses a query where the key shows a type of which it cannot be asked.
pub(super) fn expect_readable(shown: &Shown, query: &Query) -> Result<(), Refusal> {
    if matches!(query, Query::Siblings(_)) { Ok(()) } else { shown.expect(DataType::Hash) }
}

/// Answers a query of a key that shows no other type.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    Ok(match query {
        Query::Get(fields) => {
            let value = |field| Ok(ValueView::of(&rows.row(&address(key, field))?, &shown.expiry).shown());
            Answer::Values(fields.iter().map(value).collect::<Result<_, _>>()?)
        }
        Query::Ends(fields) => field::ends(rows, shown, key, fields)?,
        Query::Siblings(field) => siblings::siblings(rows, shown, key, field)?,
        Query::Pairs => Answer::Pairs(fields(rows, shown, key, |view| view.shown())?),
        Query::Pick { pick, seed } => {
            Answer::Pairs(pick.of_rows(*seed, (rows, shown, key, Kind::Field), |address, row| pair(shown, address, row))?)
        }
        Query::Scan(scan) => scan.answer((rows, key, Kind::Field), |address, row| pair(shown, address, row), Answer::Pairs)?,
        Query::Length => {
            let summary = rows.summary(key)?;
            let number = usize::try_from(summary.count(Kind::Field)).unwrap_or(usize::MAX);
            let shows = |view: &ValueView| view.exists().then_some(());
            Answer::count(if summary.stands(&shown.expiry) { number } else { fields(rows, shown, key, shows)?.len() })
        }
    })
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    shown.expect(DataType::Hash)?;
    if mutation.longest() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    match mutation {
        Mutation::Set(pairs) => set(rows, shown, draft, pairs),
        Mutation::SetNew { field, value } => on_field(rows, shown, draft, field, |field, draft| {
            if field.view.exists() {
                return Ok(Answer::flag(false));
            }
            let decision = shown.write_under(draft);
            field.set(draft, decision, value, SetExpiry::Clear);
            Ok(Answer::flag(true))
        }),
        Mutation::SetExpiring { pairs, expiry, condition } => field::set_expiring(rows, shown, draft, pairs, (*expiry, *condition)),
        Mutation::Remove(fields) => remove(rows, shown, draft, fields),
        Mutation::GetRemove(fields) => field::get_remove(rows, shown, draft, fields),
        Mutation::Expire { fields, at_ms, condition } => field::expire(rows, shown, draft, fields, (*at_ms, *condition)),
        Mutation::Persist(fields) => field::persist(rows, shown, draft, fields),
        Mutation::GetExpire { fields, expiry } => field::get_expire(rows, shown, draft, fields, *expiry),
        Mutation::Increment { field, amount } => on_field(rows, shown, draft, field, |field, draft| {
            let decision = shown.write_under(draft);
            let terms = field.terms(draft, decision);
            field.target().increment(draft, terms, *amount, Refusal::FieldNotAnInteger).map(Answer::Integer)
        }),
        Mutation::IncrementFloat { field, amount } => on_field(rows, shown, draft, field, |field, draft| {
            let decision = shown.write_under(draft);
            let terms = field.terms(draft, decision);
            field.target().increment_float(draft, terms, amount, Refusal::FieldNotAFloat).map(Answer::Bytes)
        }),
        Mutation::Resolve { field, token, value } => siblings::resolve(rows, shown, draft, field, token, value),
    }
}

/// Executes a mutation having observed nothing: a value becomes a sibling, an increment a run of its own.
pub(super) fn execute_blind(draft: &mut Draft<'_, '_>, mutation: &Mutation) -> Result<Answer, Refusal> {
    if mutation.longest() > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    match mutation {
        Mutation::Set(pairs) => {
            let pairs = distinct(pairs);
            for (field, value) in &pairs {
                draft.add(address(draft.key, field), None, Payload::Value((*value).clone()));
            }
            Ok(Answer::count(pairs.len()))
        }
        Mutation::Increment { field, amount } => {
            counter::begin_run(draft, address(draft.key, field), None, Number::from(*amount));
            Ok(Answer::Integer(*amount))
        }
        Mutation::IncrementFloat { field, amount } => {
            let (amount, shown) = target::alone(amount)?;
            counter::begin_run(draft, address(draft.key, field), None, amount);
            Ok(Answer::Bytes(shown))
        }
        Mutation::SetExpiring { pairs, expiry, condition } => field::set_expiring_blind(draft, pairs, (*expiry, *condition)),
        Mutation::SetNew { .. }
        | Mutation::Remove(_)
        | Mutation::GetRemove(_)
        | Mutation::Expire { .. }
        | Mutation::Persist(_)
        | Mutation::GetExpire { .. }
        | Mutation::Resolve { .. } => Err(Refusal::NeedsReplica),
    }
}

/// The row of a field.
fn address(key: &Bytes, field: &Bytes) -> RowAddress {
    RowAddress::element(key, Kind::Field, field)
}

/// The fields with their last values, each once.
fn distinct(pairs: &[(Bytes, Bytes)]) -> BTreeMap<&Bytes, &Bytes> {
    pairs.iter().map(|(field, value)| (field, value)).collect()
}

/// The field of a row with its value, where it shows.
fn pair(shown: &Shown, address: &RowAddress, row: &Row) -> Option<(Bytes, Bytes)> {
    ValueView::of(row, &shown.expiry).shown().map(|value| (address.element.clone(), value))
}

/// The fields that show, with what is asked of each.
pub(super) fn fields<R: Rows, T>(
    rows: &R,
    shown: &Shown,
    key: &Bytes,
    of: impl Fn(&ValueView) -> Option<T>,
) -> Result<Vec<(Bytes, T)>, R::Error> {
    let mut fields = Vec::new();
    rows.visit_from(key, Kind::Field, &mut |address, row| {
        if address.kind != Kind::Field {
            return ControlFlow::Break(());
        }
        fields.extend(of(&ValueView::of(row, &shown.expiry)).map(|told| (address.element.clone(), told)));
        ControlFlow::Continue(())
    })?;
    Ok(fields)
}

/// Changes one field.
fn on_field<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    field: &Bytes,
    change: impl FnOnce(&Field<'_>, &mut Draft<'_, '_>) -> Result<Answer, Refusal>,
) -> Outcome<R::Error> {
    let answer = Field::on(rows, shown, &mut draft, field, change)??;
    Ok((draft.finish(), answer))
}

/// HSET.
fn set<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, pairs: &[(Bytes, Bytes)]) -> Outcome<R::Error> {
    if pairs.is_empty() {
        return Ok((Delta::default(), Answer::Integer(0)));
    }
    let decision = shown.write_under(&mut draft);
    let mut new = 0;
    for (field, value) in distinct(pairs) {
        new += Field::on(rows, shown, &mut draft, field, |field, draft| {
            field.set(draft, decision, value, SetExpiry::Clear);
            usize::from(!field.view.exists())
        })?;
    }
    Ok((draft.finish(), Answer::count(new)))
}

/// HDEL. A field that does not show is not there, and is left to the removal of what its decision hides.
fn remove<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, fields: &[Bytes]) -> Outcome<R::Error> {
    let mut removed = 0;
    for field in fields.iter().collect::<BTreeSet<&Bytes>>() {
        removed += Field::on(rows, shown, &mut draft, field, |field, draft| {
            if field.view.exists() {
                field.target().clear(draft);
            }
            usize::from(field.view.exists())
        })?;
    }
    Ok((draft.finish(), Answer::count(removed)))
}

#[cfg(test)]
mod tests;
