//! From rows to an answer.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;

use super::command::{Answer, DataType, Query, Refusal, Selection};
use super::delta::{Kind, Row, RowAddress};
use super::expiry::Expiry;
use super::shown::{RowShown, Shown};
use super::{hash, hyperloglog, key, list, set, sorted_set, string};
use crate::types::Timestamp;

/// What a reader holds of one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyView {
    /// Its rows, as far as the query's [`Selection`] goes.
    pub rows: BTreeMap<RowAddress, Row>,
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
    let rows = &view.rows;
    let Ok(shown) = Shown::read(rows, key, now);
    // A member that was asked for by name may show although no row before it does; no type contradicts that.
    let Ok::<_, Infallible>(answer) = match query {
        Query::Key(query) => key::answer(rows, &shown, key, query),
        Query::HyperLogLog(query) => hyperloglog::answer(rows, &shown, key, query)?,
        Query::String(query) => {
            string::expect_readable(&shown, query)?;
            string::answer(rows, &shown, key, query)
        }
        Query::Set(query) => {
            shown.expect(DataType::Set)?;
            set::answer(rows, &shown, key, query)
        }
        Query::Hash(query) => {
            shown.expect(DataType::Hash)?;
            hash::answer(rows, &shown, key, query)
        }
        Query::SortedSet(query) => {
            shown.expect(DataType::SortedSet)?;
            sorted_set::answer(rows, &shown, key, query)
        }
        Query::List(query) => {
            shown.expect(DataType::List)?;
            list::answer(rows, &shown, key, query)
        }
    };
    Ok(answer)
}
