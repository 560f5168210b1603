//! From rows to an answer.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;

use super::command::Query;
use super::expiry::Expiry;
use super::kind::{DataType, Kind};
use super::outcome::Answer;
use super::refusal::Refusal;
use super::row::{Row, RowAddress};
use super::rows::Rows;
use super::selection::Selection;
use super::shown::{RowShown, Shown};
use super::{hash, hyperloglog, key, list, set, sorted_set, string};
use crate::types::Timestamp;

/// What a reader holds of one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyView {
    /// Its rows, as far as the query's [`Selection`] goes.
    pub rows: BTreeMap<RowAddress, Row>,
    /// The hash from which on elements were left out, where rows were read in the order of hashes.
    pub next_hash: Option<u64>,
}

/// Which rows of a key a query needs.
#[must_use]
pub fn selection(query: &Query) -> Selection {
    match query {
        Query::Key(query) => key::selection(query),
        Query::String(query) => string::selection(query),
        Query::Set(query) => set::selection(query),
        Query::Hash(query) => hash::selection(query),
        Query::SortedSet(query) => sorted_set::selection(query),
        Query::List(query) => list::selection(query),
        Query::HyperLogLog(query) => hyperloglog::selection(query),
    }
}

/// Whether a query needs every row of a key although its [`selection`] is smaller: a HyperLogLog is asked for as the string that Redis makes of it.
#[must_use]
pub fn needs_all(view: &KeyView, query: &Query) -> bool {
    let has_registers = || view.rows.last_key_value().is_some_and(|(address, _)| address.kind == Kind::Register);
    matches!(query, Query::String(string::Query::Get | string::Query::Length)) && has_registers()
}

/// Whether a row shows at a time, alone and judged by the expiry row among `rows`. A reader of the head may stop behind such a row.
#[must_use]
pub fn shows(rows: &BTreeMap<RowAddress, Row>, address: &RowAddress, now: Timestamp) -> bool {
    let Some(row) = rows.get(address) else { return false };
    let none = Row::new();
    let expiry = Expiry::of(rows.get(&RowAddress::expiry(&address.key)).unwrap_or(&none), now);
    RowShown::of(address.kind, row, &expiry).exists()
}

/// Answers a query from the rows that its selection names.
///
/// # Errors
/// Where the key holds another type than the query is about.
pub fn answer(view: &KeyView, now: Timestamp, key: &Bytes, query: &Query) -> Result<Answer, Refusal> {
    let Ok::<_, Infallible>(answer) = answer_from(&view.rows, now, key, query);
    match answer? {
        Answer::Scanned { next: 0, elements } => Ok(Answer::Scanned { next: view.next_hash.unwrap_or(0), elements }),
        answer => Ok(answer),
    }
}

/// Answers a query from a key's rows, and reads no more of them than it needs.
///
/// # Errors
/// Where the rows could not be read. Within: where the key holds another type than the query is about.
pub fn answer_from<R: Rows>(rows: &R, now: Timestamp, key: &Bytes, query: &Query) -> Result<Result<Answer, Refusal>, R::Error> {
    let shown = Shown::read(rows, key, now)?;
    // A member that was asked for by name may show although no row before it does; no type contradicts that.
    let fits = match query {
        Query::Key(_) => Ok(()),
        Query::HyperLogLog(_) => hyperloglog::expect(&shown),
        Query::String(query) => string::expect_readable(&shown, query),
        Query::Set(_) => shown.expect(DataType::Set),
        Query::Hash(query) => hash::expect_readable(&shown, query),
        Query::SortedSet(_) => shown.expect(DataType::SortedSet),
        Query::List(_) => shown.expect(DataType::List),
    };
    if let Err(refusal) = fits {
        return Ok(Err(refusal));
    }
    Ok(Ok(match query {
        Query::Key(query) => key::answer(rows, &shown, key, query)?,
        Query::HyperLogLog(query) => hyperloglog::answer(rows, &shown, key, query)?,
        Query::String(query) => string::answer(rows, &shown, key, query)?,
        Query::Set(query) => set::answer(rows, &shown, key, query)?,
        Query::Hash(query) => hash::answer(rows, &shown, key, query)?,
        Query::SortedSet(query) => sorted_set::answer(rows, &shown, key, query)?,
        Query::List(query) => list::answer(rows, &shown, key, query)?,
    }))
}
