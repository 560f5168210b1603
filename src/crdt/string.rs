//! Strings and counters: one row, whose Value entries are *siblings*, and whose counter runs are added to the one that shows.
//!
//! The sibling of the greatest (timestamp, dot) shows. Only a write that had seen another sibling removes it: two concurrent SETs leave both,
//! RINGTIDE SIBLINGS tells them all, and the next SET replaces them. Where the shown value is an integer, or there is none, the runs
//! that count are added to it (see [`super::counter`]); to any other text nothing can be added, and it shows alone.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::command::{Answer, DataType, Refusal, SetCondition, SetExpiry};
use super::counter::{self, Run};
use super::delta::{Decision, Delta, Entry, Payload, Row, RowAddress, Rows};
use super::dot::Dot;
use super::draft::Draft;
use super::execute::ExecuteError;
use super::expiry::Expiry;
use super::shown::Shown;
use super::token::Token;
use crate::config::MAX_VALUE;
use crate::types::Timestamp;

/// What is to be seen in a value row at one time.
#[derive(Clone, Debug, Default)]
pub struct StringView {
    /// The siblings that show, the one that stands for the string first.
    siblings: Vec<(Dot, Entry, Bytes)>,
    /// The counter runs that count.
    runs: Vec<(Run, Entry)>,
    hides_data: bool,
}

impl StringView {
    /// Reads a value row.
    #[must_use]
    pub fn of(row: &Row, expiry: &Expiry) -> Self {
        let mut view = Self::default();
        for (dot, entry) in row {
            if let Payload::Value(bytes) = &entry.payload {
                if expiry.hides(entry) {
                    view.hides_data = true;
                } else {
                    view.siblings.push((*dot, entry.clone(), bytes.clone()));
                }
            }
        }
        view.siblings.sort_by_key(|(dot, entry, _)| std::cmp::Reverse((entry.timestamp, *dot)));
        for run in counter::runs(row).into_iter().filter(|run| run.counts.is_some()) {
            match row.get(&run.latest) {
                Some(entry) if !expiry.hides(entry) => view.runs.push((run, entry.clone())),
                _ => view.hides_data = true,
            }
        }
        view
    }

    /// The string; `None` where there is none.
    #[must_use]
    pub fn shown(&self) -> Option<Bytes> {
        let base = self.siblings.first().map(|(_, _, bytes)| bytes);
        match (base, self.number()) {
            (None, _) if self.runs.is_empty() => None,
            (Some(base), None) => Some(base.clone()),
            (Some(base), Some(_)) if self.runs.is_empty() => Some(base.clone()),
            (_, number) => number.map(|number| number.to_string().into()),
        }
    }

    /// The counter's value, 0 where there is no string; `None` where the string is no integer.
    #[must_use]
    pub fn number(&self) -> Option<i128> {
        let base = match self.siblings.first() {
            Some((_, _, bytes)) => i128::from(counter::parse(bytes)?),
            None => 0,
        };
        Some(self.runs.iter().filter_map(|(run, _)| run.counts).fold(base, i128::wrapping_add))
    }

    /// Every value that concurrent writes left, the one that shows first.
    #[must_use]
    pub fn values(&self) -> Vec<Bytes> {
        self.shown().into_iter().chain(self.siblings.iter().skip(1).map(|(_, _, bytes)| bytes.clone())).collect()
    }

    /// The entries that show.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.siblings.iter().map(|(_, entry, _)| entry).chain(self.runs.iter().map(|(_, entry)| entry))
    }

    /// Whether the row has data that does not show.
    #[must_use]
    pub fn hides_data(&self) -> bool {
        self.hides_data
    }

    /// The dot of the sibling that shows.
    #[must_use]
    pub fn shown_dot(&self) -> Option<Dot> {
        self.siblings.first().map(|(dot, _, _)| *dot)
    }

    /// The dots of the runs that count.
    fn run_dots(&self) -> impl Iterator<Item = Dot> {
        self.runs.iter().map(|(run, _)| run.latest)
    }

    /// Names what is to be seen of a row, of which this is the view.
    #[must_use]
    pub fn token(&self, row: &Row) -> Token {
        let mut dots: BTreeSet<Dot> = self.siblings.iter().map(|(dot, _, _)| *dot).chain(self.run_dots()).collect();
        let floors: Vec<Dot> = counter::floors_of_removed(row, |dot| dots.contains(dot)).collect();
        dots.extend(floors);
        let observed = counter::observed(row, |dot| dots.contains(dot));
        Token { dots, observed }
    }
}

/// The old value for SET … GET and its like: refused where the key shows another type.
fn old_value(shown: &Shown) -> Result<Answer, Refusal> {
    match shown.data_type {
        Some(DataType::Set) => Err(Refusal::WrongType),
        _ => Ok(shown.string.shown().map_or(Answer::Nil, Answer::Bytes)),
    }
}

/// A time of expiry as it is stored; `None` where it has passed.
pub(super) fn future(at_ms: i64, now: Timestamp) -> Option<u64> {
    u64::try_from(at_ms).ok().filter(|at| Timestamp::from_millis(*at) > now)
}

/// SET and its relatives.
pub(super) struct Set<'m> {
    pub(super) value: &'m Bytes,
    pub(super) expiry: SetExpiry,
    pub(super) condition: SetCondition,
    pub(super) get: bool,
}

pub(super) fn set<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    set: &Set<'_>,
) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    let old = if set.get { Some(old_value(shown)?) } else { None };
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
            draft.overwrite(rows, true).map_err(ExecuteError::Rows)?;
            shown.write_under(&mut draft)
        }
        SetExpiry::Keep | SetExpiry::Clear => {
            draft.overwrite(rows, false).map_err(ExecuteError::Rows)?;
            None
        }
        SetExpiry::At(at_ms) => {
            let Some(time) = future(at_ms, draft.author.now) else {
                return Ok((delete(rows, shown, draft)?.0, answer));
            };
            draft.overwrite(rows, false).map_err(ExecuteError::Rows)?;
            let decision = Decision { time: Some(time), timestamp: draft.author.now, since: draft.author.now };
            draft.decide(decision);
            Some(decision)
        }
    };
    draft.add(RowAddress::value(key), decision, Payload::Value(set.value.clone()));
    Ok((draft.finish(), answer))
}

/// DEL: whether there was something to delete.
pub(super) fn delete<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>) -> Result<(Delta, bool), ExecuteError<R::Error>> {
    if shown.data_type.is_none() {
        return Ok((Delta::default(), false));
    }
    draft.overwrite(rows, false).map_err(ExecuteError::Rows)?;
    Ok((draft.finish(), true))
}

pub(super) fn get_delete<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    let old = old_value(shown)?;
    Ok((delete(rows, shown, draft)?.0, old))
}

pub(super) fn get_expire<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    expiry: SetExpiry,
) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    let value = old_value(shown)?;
    if value == Answer::Nil {
        return Ok((Delta::default(), value));
    }
    match expiry {
        SetExpiry::Keep => {}
        SetExpiry::Clear if shown.end().is_none() => {}
        SetExpiry::Clear => shown.decide(&mut draft, None),
        SetExpiry::At(at_ms) => match future(at_ms, draft.author.now) {
            Some(time) => shown.decide(&mut draft, Some(time)),
            None => return Ok((delete(rows, shown, draft)?.0, value)),
        },
    }
    Ok((draft.finish(), value))
}

/// APPEND: replaces exactly the sibling that shows and the runs that were added to it. Other siblings stay.
pub(super) fn append<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    tail: &Bytes,
) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    if shown.data_type == Some(DataType::Set) {
        return Err(Refusal::WrongType.into());
    }
    let address = RowAddress::value(draft.key);
    let head = shown.string.shown();
    if tail.is_empty() && head.is_some() {
        return Ok((Delta::default(), length(head.as_ref())));
    }
    if head.as_ref().map_or(0, Bytes::len) + tail.len() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let decision = shown.write_under(&mut draft);
    let value = match &head {
        None => tail.clone(),
        Some(head) => {
            let mut value = BytesMut::with_capacity(head.len() + tail.len());
            value.extend_from_slice(head);
            value.extend_from_slice(tail);
            let row = rows.row(&address).map_err(ExecuteError::Rows)?;
            let named = shown.string.shown_dot().into_iter().chain(shown.string.run_dots()).collect();
            replace_named(&mut draft, &row, named, &Token::default());
            value.freeze()
        }
    };
    let answer = length(Some(&value));
    draft.add(address, decision, Payload::Value(value));
    Ok((draft.finish(), answer))
}

/// Replaces these live dots of the value row, with the floors that they need, and what a token names beside them.
fn replace_named(draft: &mut Draft<'_, '_>, row: &Row, mut named: BTreeSet<Dot>, token: &Token) {
    let floors: Vec<Dot> = counter::floors_of_removed(row, |dot| named.contains(dot)).collect();
    named.extend(floors);
    let mut observed = counter::observed(row, |dot| named.contains(dot));
    for (run, seen) in &token.observed {
        let floor = observed.entry(*run).or_insert(*seen);
        *floor = (*floor).max(*seen);
    }
    let keeps = row.keys().filter(|dot| !named.contains(dot)).copied().collect();
    draft.replace_row(RowAddress::value(draft.key), row, keeps, &token.clock());
    draft.add_floors(observed);
}

/// The length of a string as an answer, 0 where there is none.
pub(super) fn length(string: Option<&Bytes>) -> Answer {
    Answer::Integer(string.map_or(0, |string| i64::try_from(string.len()).unwrap_or(i64::MAX)))
}

/// INCR: replaces nothing but the entry of the run that it continues.
pub(super) fn increment<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    amount: i64,
) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    if shown.data_type == Some(DataType::Set) {
        return Err(Refusal::WrongType.into());
    }
    let value = shown.string.number().ok_or(Refusal::NotAnInteger)?;
    let sum = i64::try_from(value.saturating_add(i128::from(amount))).map_err(|_| Refusal::Overflow)?;
    let address = RowAddress::value(draft.key);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    let decision = shown.write_under(&mut draft);
    let (actor, since) = (draft.author.actor, draft.author.runs_since);
    match counter::continued(&row, actor, since, |entry| shown.expiry.hides(entry)) {
        Some(run) => {
            let total = run.total.checked_add(i128::from(amount)).ok_or(Refusal::Overflow)?;
            for (dot, entry) in &row {
                if matches!(entry.payload, Payload::Run { run: name, .. } if name == run.name) {
                    draft.remove(address.clone(), *dot);
                }
            }
            draft.add(address, decision, Payload::Run { run: run.name, total });
        }
        None => begin_run(&mut draft, decision, amount),
    }
    Ok((draft.finish(), Answer::Integer(sum)))
}

/// Begins a run, named by the dot of this increment.
pub(super) fn begin_run(draft: &mut Draft<'_, '_>, decision: Option<Decision>, amount: i64) {
    let run = (draft.author.mint)();
    draft.add_as(run, RowAddress::value(draft.key), decision, Payload::Run { run, total: i128::from(amount) });
}

/// RESOLVE: replaces exactly what the reader of the token saw. What was written meanwhile stays beside it.
pub(super) fn resolve<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    token: &Bytes,
    value: &Bytes,
) -> Result<(Delta, Answer), ExecuteError<R::Error>> {
    let token = Token::from_bytes(token).map_err(|_| Refusal::InvalidToken)?;
    if shown.data_type == Some(DataType::Set) {
        return Err(Refusal::WrongType.into());
    }
    if value.len() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let address = RowAddress::value(draft.key);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    let decision = shown.write_under(&mut draft);
    let named = row.keys().filter(|dot| token.dots.contains(dot)).copied().collect();
    replace_named(&mut draft, &row, named, &token);
    draft.add(address, decision, Payload::Value(value.clone()));
    Ok((draft.finish(), Answer::Ok))
}

#[cfg(test)]
mod tests {
    use super::super::command::{Mutation, Query};
    use super::super::testing::{Replica, add, bytes, set, settle, text};
    use super::*;

    fn append(tail: &str) -> Mutation {
        Mutation::Append(bytes(tail))
    }

    fn resolve(token: &Bytes, value: &str) -> Mutation {
        Mutation::Resolve { token: token.clone(), value: bytes(value) }
    }

    fn conditional(value: &str, condition: SetCondition, get: bool) -> Mutation {
        Mutation::Set { value: bytes(value), expiry: SetExpiry::Clear, condition, get }
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
        assert_eq!((a.get(), a.query(&Query::Length)), (text("z"), Ok(Answer::Integer(1))));
        assert_eq!(a.ask(&Mutation::GetDelete), text("z"));
        assert!(a.write(&Mutation::GetDelete).is_empty());
        assert!(a.write(&Mutation::Delete).is_empty());
        a.write(&add(&["m"]));
        assert_eq!(a.attempt(&conditional("x", SetCondition::Always, true)), Err(Refusal::WrongType));
        assert_eq!(a.attempt(&Mutation::GetDelete), Err(Refusal::WrongType));
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
        b.write(&Mutation::Increment(1));
        a.pull(&b);
        assert_eq!(a.ask(&append("5")), Answer::Integer(3));
        assert_eq!(a.siblings().1, ["215", "1"]);
        b.write(&Mutation::Increment(1));
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.siblings().1, ["216", "1"]);
        assert!(a.write(&append("")).is_empty());
        let full = Mutation::Append(vec![b'x'; MAX_VALUE].into());
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
        a.write(&Mutation::Increment(5));
        b.pull(&a);
        let (token, values) = b.siblings();
        assert_eq!(values, ["5"]);
        a.write(&Mutation::Increment(2));
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
        c.hear(&a.write(&Mutation::Delete));
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
