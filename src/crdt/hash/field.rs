//! One field of a hash and when it ends. Its row holds the decisions on that beside its values, and is judged by them as a key is by its own (see
//! [`super::super::expiry`]): HSET is its SET, HDEL its DEL, HINCRBY its INCR.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::condition::{ExpireCondition, SetCondition, SetExpiry};
use super::super::content;
use super::super::delta::Delta;
use super::super::draft::Draft;
use super::super::expiry::{Ends, Expiry, Subject, future};
use super::super::kind::Kind;
use super::super::outcome::{Answer, Outcome};
use super::super::refusal::{ExecuteError, Refusal};
use super::super::row::{Decision, Payload, Terms};
use super::super::rows::Rows;
use super::super::shown::Shown;
use super::super::target::Target;
use super::super::value::ValueView;
use super::{address, distinct};
use crate::types::Timestamp;

/// There is no such field.
const ABSENT: i64 = -2;
/// The field does not expire.
const ENDLESS: i64 = -1;
/// A condition did not hold.
const REFUSED: i64 = 0;
/// The end of the field was changed.
const DONE: i64 = 1;
/// The field was removed, since the time has passed.
const REMOVED: i64 = 2;

/// One field as a write finds it.
pub(super) struct Field<'f> {
    pub(super) view: &'f ValueView,
    /// The decisions on its end.
    expiry: Expiry,
    target: Target<'f, Bytes>,
}

impl<'f> Field<'f> {
    /// Lets a write see one field.
    pub(super) fn on<R: Rows, T>(
        rows: &R,
        shown: &Shown,
        draft: &mut Draft<'_, '_>,
        field: &Bytes,
        write: impl FnOnce(&Field<'_>, &mut Draft<'_, '_>) -> T,
    ) -> Result<T, ExecuteError<R::Error>> {
        let address = address(draft.key, field);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        let view = ValueView::of(&row, &shown.expiry);
        let expiry = Expiry::about(Subject::Field, &row, draft.author.now);
        let target = Target { address, row, view: &view, expiry: &shown.expiry };
        Ok(write(&Field { view: &view, expiry, target }, draft))
    }

    /// What is written.
    pub(super) fn target(&self) -> &Target<'f, Bytes> {
        &self.target
    }

    /// When it expires, in milliseconds since 1970; `None`: never, or there is none.
    fn end(&self) -> Option<u64> {
        self.expiry.end_of_all(self.view.entries())
    }

    /// What a new entry of the field is written under: the decision on its key, and that on itself by the rules of [`Shown::write_under`].
    pub(super) fn terms(&self, draft: &mut Draft<'_, '_>, key: Option<Decision>) -> Terms {
        let Target { address, row, .. } = &self.target;
        let field = match () {
            () if self.view.exists() => self.expiry.governing_any(self.view.entries()),
            () if draft.is_behind(address) => self.expiry.governing(),
            () => {
                if !self.view.hides_data() && self.expiry.standing().any(|decision| !self.expiry.has_passed(decision)) {
                    draft.replace_decisions(address.clone(), row);
                }
                None
            }
        };
        Terms { key, field }
    }

    /// Puts a decision in place of those that have not passed.
    fn decide(&self, draft: &mut Draft<'_, '_>, time: Option<u64>) {
        let Target { address, row, .. } = &self.target;
        draft.replace_decisions(address.clone(), row);
        draft.add(address.clone(), None, Payload::Decision(self.expiry.decide(time)));
    }

    /// Changes when the field expires, as GETEX does with a key. A time that has passed already removes it.
    fn set_end(&self, draft: &mut Draft<'_, '_>, expiry: SetExpiry) {
        match expiry {
            SetExpiry::Keep => {}
            SetExpiry::Clear if self.end().is_none() => {}
            SetExpiry::Clear => self.decide(draft, None),
            SetExpiry::At(at_ms) => match future(at_ms, draft.author.now) {
                Some(time) => self.decide(draft, Some(time)),
                None => self.target.clear(draft),
            },
        }
    }

    /// Writes a value in place of the field, and leaves a decision by the rules of [`Shown::renew`].
    fn renew(&self, draft: &mut Draft<'_, '_>, key: Option<Decision>, value: Payload, time: Option<u64>) {
        let decision = self.expiry.renew(time);
        self.target.set(draft, Terms { key, field: time.and(decision) }, value);
        if let Some(decision) = decision {
            draft.add(self.target.address.clone(), None, Payload::Decision(decision));
        }
    }

    /// Writes a value in place of the field, which then expires as `expiry` says. A time that has passed already removes it.
    pub(super) fn set(&self, draft: &mut Draft<'_, '_>, key: Option<Decision>, value: &Bytes, expiry: SetExpiry) {
        let value = Payload::Value(value.clone());
        match expiry {
            SetExpiry::Keep if self.view.exists() => {
                let terms = self.terms(draft, key);
                self.target.set_beside_decisions(draft, terms, value);
            }
            SetExpiry::Keep | SetExpiry::Clear => self.renew(draft, key, value, None),
            SetExpiry::At(at_ms) => match future(at_ms, draft.author.now) {
                Some(time) => self.renew(draft, key, value, Some(time)),
                None if self.view.exists() => self.target.clear(draft),
                None => {}
            },
        }
    }
}

/// When fields expire: for each the milliseconds since 1970, -1 without expiry, -2 where there is no such field.
pub(super) fn ends<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, fields: &[Bytes]) -> Result<Answer, R::Error> {
    let end = |field| {
        let row = rows.row(&address(key, field))?;
        let view = ValueView::of(&row, &shown.expiry);
        Ok(match Ends::of(&row, &shown.expiry).field().end_of_all(view.entries()) {
            _ if !view.exists() => ABSENT,
            None => ENDLESS,
            Some(end) => i64::try_from(end).unwrap_or(i64::MAX),
        })
    };
    Ok(Answer::Numbers(fields.iter().map(end).collect::<Result<_, _>>()?))
}

/// Answers for fields in the order in which they were named; of one that was named before with what is true of it `again`.
fn each<'m, T: Clone, E>(
    fields: &'m [Bytes],
    mut first: impl FnMut(&'m Bytes) -> Result<T, E>,
    again: impl Fn(&T) -> T,
) -> Result<Vec<T>, E> {
    let mut told: BTreeMap<&Bytes, T> = BTreeMap::new();
    let mut answers = Vec::with_capacity(fields.len());
    for field in fields {
        let answer = match told.get(field) {
            Some(before) => again(before),
            None => first(field)?,
        };
        told.insert(field, answer.clone());
        answers.push(answer);
    }
    Ok(answers)
}

/// Every field that shows, as a whole.
pub(in crate::crdt) fn contents<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<Vec<content::Field>, R::Error> {
    let mut contents = Vec::new();
    rows.visit_from(key, Kind::Field, &mut |address, row| {
        if address.kind != Kind::Field {
            return ControlFlow::Break(());
        }
        let view = ValueView::of(row, &shown.expiry);
        let expires_at_ms = Ends::of(row, &shown.expiry).field().end_of_all(view.entries());
        contents.extend(view.shown().map(|value| content::Field { name: address.element.clone(), value, expires_at_ms }));
        ControlFlow::Continue(())
    })?;
    Ok(contents)
}

/// Writes a field of which nothing is left; one whose time has passed already is not written.
pub(in crate::crdt) fn write_content(draft: &mut Draft<'_, '_>, key: Option<Decision>, field: &content::Field) {
    let (address, now) = (address(draft.key, &field.name), draft.author.now);
    let decision = match field.expires_at_ms {
        None => None,
        Some(time) if Timestamp::from_millis(time) > now => Some(begin(time, now)),
        Some(_) => return,
    };
    let dot = (draft.author.mint)();
    draft.add_under(dot, address.clone(), Terms { key, field: decision }, Payload::Value(field.value.clone()));
    if let Some(decision) = decision {
        draft.add(address, None, Payload::Decision(decision));
    }
}

/// HEXPIRE and its like.
pub(super) fn expire<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    fields: &[Bytes],
    (at_ms, condition): (i64, ExpireCondition),
) -> Outcome<R::Error> {
    let time = future(at_ms, draft.author.now);
    let change = |field: &Field<'_>, draft: &mut Draft<'_, '_>| match time {
        _ if !field.view.exists() => ABSENT,
        _ if !condition.holds(at_ms, field.end()) => REFUSED,
        Some(_) => {
            field.decide(draft, time);
            DONE
        }
        None => {
            field.target.clear(draft);
            REMOVED
        }
    };
    let again = |before: &i64| match *before {
        DONE if !condition.holds(at_ms, time) => REFUSED,
        REMOVED => ABSENT,
        before => before,
    };
    let told = each(fields, |field| Field::on(rows, shown, &mut draft, field, change), again)?;
    Ok((draft.finish(), Answer::Numbers(told)))
}

/// HPERSIST.
pub(super) fn persist<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, fields: &[Bytes]) -> Outcome<R::Error> {
    let change = |field: &Field<'_>, draft: &mut Draft<'_, '_>| match field.end() {
        _ if !field.view.exists() => ABSENT,
        None => ENDLESS,
        Some(_) => {
            field.decide(draft, None);
            DONE
        }
    };
    let again = |before: &i64| if *before == DONE { ENDLESS } else { *before };
    let told = each(fields, |field| Field::on(rows, shown, &mut draft, field, change), again)?;
    Ok((draft.finish(), Answer::Numbers(told)))
}

/// HGETEX.
pub(super) fn get_expire<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    fields: &[Bytes],
    expiry: SetExpiry,
) -> Outcome<R::Error> {
    let goes = matches!(expiry, SetExpiry::At(at_ms) if future(at_ms, draft.author.now).is_none());
    let take = |field: &Field<'_>, draft: &mut Draft<'_, '_>| {
        if field.view.exists() {
            field.set_end(draft, expiry);
        }
        field.view.shown()
    };
    let again = |before: &Option<Bytes>| if goes { None } else { before.clone() };
    let values = each(fields, |field| Field::on(rows, shown, &mut draft, field, take), again)?;
    Ok((draft.finish(), Answer::Values(values)))
}

/// HGETDEL.
pub(super) fn get_remove<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, fields: &[Bytes]) -> Outcome<R::Error> {
    let take = |field: &Field<'_>, draft: &mut Draft<'_, '_>| {
        if field.view.exists() {
            field.target.clear(draft);
        }
        field.view.shown()
    };
    let values = each(fields, |field| Field::on(rows, shown, &mut draft, field, take), |_| None)?;
    Ok((draft.finish(), Answer::Values(values)))
}

/// HSETEX: all fields or none.
pub(super) fn set_expiring<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    pairs: &[(Bytes, Bytes)],
    (expiry, condition): (SetExpiry, SetCondition),
) -> Outcome<R::Error> {
    if condition != SetCondition::Always {
        for (field, _) in pairs {
            let exists = Field::on(rows, shown, &mut draft, field, |field, _| field.view.exists())?;
            if exists != (condition == SetCondition::Present) {
                return Ok((Delta::default(), Answer::flag(false)));
            }
        }
    }
    let decision = shown.write_under(&mut draft);
    for (field, value) in distinct(pairs) {
        Field::on(rows, shown, &mut draft, field, |field, draft| field.set(draft, decision, value, expiry))?;
    }
    Ok((draft.finish(), Answer::flag(true)))
}

/// HSETEX having observed nothing: values and decisions beside whatever there is.
pub(super) fn set_expiring_blind(
    draft: &mut Draft<'_, '_>,
    pairs: &[(Bytes, Bytes)],
    (expiry, condition): (SetExpiry, SetCondition),
) -> Result<Answer, Refusal> {
    let now = draft.author.now;
    let decision = match expiry {
        SetExpiry::Clear => None,
        SetExpiry::At(at_ms) => Some(begin(future(at_ms, now).ok_or(Refusal::NeedsReplica)?, now)),
        SetExpiry::Keep => return Err(Refusal::NeedsReplica),
    };
    if condition != SetCondition::Always {
        return Err(Refusal::NeedsReplica);
    }
    for (field, value) in distinct(pairs) {
        let (address, dot) = (address(draft.key, field), (draft.author.mint)());
        draft.add_under(dot, address.clone(), Terms { key: None, field: decision }, Payload::Value(value.clone()));
        if let Some(decision) = decision {
            draft.add(address, None, Payload::Decision(decision));
        }
    }
    Ok(Answer::flag(true))
}

/// A decision that begins a life.
fn begin(time: u64, now: Timestamp) -> Decision {
    Decision { time: Some(time), timestamp: now, since: now }
}

#[cfg(test)]
mod tests;
