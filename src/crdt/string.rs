//! Strings: the entry with the greatest (timestamp, dot) shows, the other live entries are its siblings.
//!
//! Increments stand in the same row, so a string that is a number is a counter too: what shows is the visible value plus the runs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{Answer, DataType, Refusal, SetCondition, SetExpiry};
use super::counter;
use super::delta::{Decision, Entry, Payload, Row, RowAddress, Rows};
use super::dot::Dot;
use super::execute::{ExecuteError, Executed};
use super::expiry::Decisions;
use super::look::Look;
use super::write::Write;
use crate::config::MAX_VALUE;
use crate::types::Timestamp;

/// What a string's row shows at a moment.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// What a reader gets, if anything.
    pub value: Option<Bytes>,
    /// The values that concurrent writes left beside it, the newest first.
    pub siblings: Vec<Bytes>,
    /// The entry that shows.
    pub dot: Option<Dot>,
}

/// The number that a string is, if it is one: 64 bits, in the one way to write it that Redis takes.
#[must_use]
pub fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// What a row shows.
#[must_use]
pub fn shown(row: &Row, decisions: &Decisions, now: Timestamp) -> Shown {
    let visible = |(dot, entry): (&Dot, &Entry)| match &entry.payload {
        Payload::Value(value) if !decisions.hides(entry, now) => Some((entry.timestamp, *dot, value.clone())),
        _ => None,
    };
    let mut values: Vec<(Timestamp, Dot, Bytes)> = row.iter().filter_map(visible).collect();
    values.sort_unstable_by_key(|(timestamp, dot, _)| Reverse((*timestamp, *dot)));
    let mut values = values.into_iter();
    let first = values.next();
    let siblings = values.map(|(_, _, value)| value).collect();
    let dot = first.as_ref().map(|(_, dot, _)| *dot);
    let base = first.map(|(_, _, value)| value);
    let value = match (counter::sum(row, decisions, now), base) {
        (None, base) => base,
        (Some(sum), None) => Some(sum.to_string().into()),
        (Some(sum), Some(base)) => Some(match integer(&base) {
            Some(number) => sum.wrapping_add(i128::from(number)).to_string().into(),
            // Increments concurrent with a SET of something else: the SET shows.
            None => base,
        }),
    };
    Shown { value, siblings, dot }
}

impl Look {
    /// What the key's string shows; refused where the key holds another type.
    pub(super) fn string(&self) -> Result<Shown, Refusal> {
        match self.shown {
            None => Ok(Shown::default()),
            Some(DataType::String) => Ok(shown(&self.value, &self.decisions, self.now)),
            Some(_) => Err(Refusal::WrongType),
        }
    }

    /// The value row among the rows of a key.
    pub(super) fn value_of(&self, rows: &BTreeMap<RowAddress, Row>, key: &Bytes) -> Row {
        rows.get(&RowAddress::value(key)).cloned().unwrap_or_default()
    }
}

fn bytes_or_nil(value: Option<Bytes>) -> Answer {
    value.map_or(Answer::Nil, Answer::Bytes)
}

/// The arguments of a SET.
pub(super) struct Set<'s> {
    pub(super) value: &'s Bytes,
    pub(super) expiry: SetExpiry,
    pub(super) condition: SetCondition,
    pub(super) get: bool,
}

/// SET: in place of whatever the key holds.
pub(super) fn set<R: Rows>(rows: &R, mut write: Write<'_, '_>, set: &Set<'_>) -> Result<Executed, ExecuteError<R::Error>> {
    let observed = rows.rows_of(write.key).map_err(ExecuteError::Rows)?;
    let look = Look::of(&observed, write.now());
    let before = if set.get { bytes_or_nil(look.string()?.value) } else { Answer::Nil };
    let goes = match set.condition {
        SetCondition::Always => true,
        SetCondition::Absent => !look.exists(),
        SetCondition::Present => look.exists(),
    };
    if !goes {
        return Ok(write.done(before));
    }
    let answer = if set.get { before } else { Answer::Ok };
    let at = match set.expiry {
        SetExpiry::At(at) => Some(u64::try_from(at).unwrap_or(0)),
        SetExpiry::Clear | SetExpiry::Keep => None,
    };
    let keep = set.expiry == SetExpiry::Keep && look.exists();
    write.replace_key(&observed, &look, keep);
    if at.is_some_and(|at| Timestamp::from_millis(at) <= write.now()) {
        // A value that has expired already is a deletion.
        return Ok(write.done(answer));
    }
    let now = write.now();
    let decision = at.map(|at| Decision { time: Some(at), timestamp: now, since: now });
    if let Some(decision) = decision {
        write.add(RowAddress::expiry(write.key), Payload::Decision(decision), None);
    }
    let carried = if keep { look.governing() } else { decision };
    write.add(RowAddress::value(write.key), Payload::Value(set.value.clone()), carried);
    Ok(write.done(answer))
}

/// APPEND: in place of exactly what shows; the siblings stay, for they were written beside it and nobody has chosen yet.
pub(super) fn append<R: Rows>(rows: &R, mut write: Write<'_, '_>, suffix: &Bytes) -> Result<Executed, ExecuteError<R::Error>> {
    let look = Look::at(rows, write.key, write.now()).map_err(ExecuteError::Rows)?;
    let shown = look.string()?;
    let before = shown.value.unwrap_or_default();
    if before.len() + suffix.len() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let value: Bytes = [before.as_ref(), suffix.as_ref()].concat().into();
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let address = RowAddress::value(write.key);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    let expiry_row = rows.row(&RowAddress::expiry(write.key)).map_err(ExecuteError::Rows)?;
    let carried = write.carry(&look, &expiry_row);
    let is_sibling = |(dot, entry): &(&Dot, &Entry)| matches!(entry.payload, Payload::Value(_)) && Some(**dot) != shown.dot;
    let keeps: Vec<Dot> = row.iter().filter(is_sibling).map(|(dot, _)| *dot).collect();
    let removed: Row = row.iter().filter(|(dot, _)| !keeps.contains(dot)).map(|(dot, entry)| (*dot, entry.clone())).collect();
    write.replace_row(&address, &row, keeps);
    write.leave_floors(&removed);
    write.add(address, Payload::Value(value), carried);
    Ok(write.done(Answer::Integer(length)))
}

/// INCRBY: adds beside whatever others add.
pub(super) fn increment<R: Rows>(rows: &R, mut write: Write<'_, '_>, by: i64) -> Result<Executed, ExecuteError<R::Error>> {
    let look = Look::at(rows, write.key, write.now()).map_err(ExecuteError::Rows)?;
    let before = match look.string()?.value {
        None => 0,
        Some(value) => integer(&value).ok_or(Refusal::NotAnInteger)?,
    };
    let after = before.checked_add(by).ok_or(Refusal::Overflow)?;
    let row = rows.row(&RowAddress::value(write.key)).map_err(ExecuteError::Rows)?;
    let expiry_row = rows.row(&RowAddress::expiry(write.key)).map_err(ExecuteError::Rows)?;
    let carried = write.carry(&look, &expiry_row);
    write.increment(&row, &look, by, carried);
    Ok(write.done(Answer::Integer(after)))
}

/// GETDEL: removes a string and tells it.
pub(super) fn get_delete<R: Rows>(rows: &R, mut write: Write<'_, '_>) -> Result<Executed, ExecuteError<R::Error>> {
    let observed = rows.rows_of(write.key).map_err(ExecuteError::Rows)?;
    let look = Look::of(&observed, write.now());
    let value = look.string()?.value;
    if value.is_some() {
        write.replace_key(&observed, &look, false);
    }
    Ok(write.done(bytes_or_nil(value)))
}

/// GETEX: tells a string and changes its expiry.
pub(super) fn get_expire<R: Rows>(rows: &R, mut write: Write<'_, '_>, expiry: SetExpiry) -> Result<Executed, ExecuteError<R::Error>> {
    let observed = rows.rows_of(write.key).map_err(ExecuteError::Rows)?;
    let look = Look::of(&observed, write.now());
    let value = look.string()?.value;
    let expiry_row = observed.get(&RowAddress::expiry(write.key)).cloned().unwrap_or_default();
    if value.is_some() {
        match expiry {
            SetExpiry::Keep => {}
            SetExpiry::Clear if look.expires_at().is_none() => {}
            SetExpiry::Clear => write.decide(None, &look, &expiry_row),
            SetExpiry::At(at) => match u64::try_from(at) {
                Ok(at) if Timestamp::from_millis(at) > write.now() => write.decide(Some(at), &look, &expiry_row),
                _ => write.replace_key(&observed, &look, false),
            },
        }
    }
    Ok(write.done(bytes_or_nil(value)))
}

/// RESOLVE: in place of exactly what the token's reader saw.
pub(super) fn resolve<R: Rows>(
    rows: &R,
    mut write: Write<'_, '_>,
    token: &Bytes,
    value: &Bytes,
) -> Result<Executed, ExecuteError<R::Error>> {
    let seen = super::answer::seen_of(token).ok_or(Refusal::InvalidToken)?;
    let look = Look::at(rows, write.key, write.now()).map_err(ExecuteError::Rows)?;
    look.string()?;
    let address = RowAddress::value(write.key);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    let carried = look.governing();
    write.replace_seen(address.clone(), &row, seen);
    write.add(address, Payload::Value(value.clone()), carried);
    Ok(write.done(Answer::Ok))
}
