//! From rows to an answer.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;

use super::command::{Answer, DataType, Query, Refusal, Selection};
use super::delta::{Kind, Row, RowAddress, Rows};
use super::expiry::Expiry;
use super::shown::Shown;
use super::string::{StringView, length};
use super::{explain, set};
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
        Query::Get | Query::Length | Query::Type | Query::ExpireTime | Query::Siblings => Selection::Head,
        Query::Contains(elements) => Selection::Elements(elements.clone()),
        Query::Members | Query::Cardinality | Query::Explain => Selection::All,
    }
}

/// Whether a row shows at a time, alone and judged by the expiry row among `rows`. A reader of the head may stop behind such a row.
#[must_use]
pub fn shows(rows: &BTreeMap<RowAddress, Row>, address: &RowAddress, now: Timestamp) -> bool {
    let Some(row) = rows.get(address) else { return false };
    let none = Row::new();
    let expiry = Expiry::of(rows.get(&RowAddress::expiry(&address.key)).unwrap_or(&none), now);
    match address.kind {
        Kind::Expiry => false,
        Kind::Value => StringView::of(row, &expiry).shown().is_some(),
        Kind::Member => row.values().any(|entry| !expiry.hides(entry)),
    }
}

/// Answers a query from the rows that its selection names.
///
/// # Errors
/// Where the key holds another type than the query is about.
pub fn answer(view: &KeyView, now: Timestamp, key: &Bytes, query: &Query) -> Result<Answer, Refusal> {
    let Ok(answer) = answer_from(&view.rows, now, key, query);
    answer
}

fn answer_from<R: Rows<Error = Infallible>>(
    rows: &R,
    now: Timestamp,
    key: &Bytes,
    query: &Query,
) -> Result<Result<Answer, Refusal>, Infallible> {
    let shown = Shown::read(rows, key, now)?;
    let needed = match query {
        Query::Get | Query::Length | Query::Siblings => Some(DataType::String),
        Query::Members | Query::Cardinality | Query::Contains(_) => Some(DataType::Set),
        Query::Type | Query::ExpireTime | Query::Explain => None,
    };
    // A member that was asked for by name may show although no row before it does; no type contradicts that.
    if needed.is_some() && shown.data_type.is_some() && shown.data_type != needed {
        return Ok(Err(Refusal::WrongType));
    }
    Ok(Ok(match query {
        Query::Get => shown.string.shown().map_or(Answer::Nil, Answer::Bytes),
        Query::Length => length(shown.string.shown().as_ref()),
        Query::Type => Answer::Type(shown.data_type),
        Query::Members => Answer::Members(set::members(rows, key, &shown.expiry)?),
        Query::Cardinality => Answer::Integer(i64::try_from(set::members(rows, key, &shown.expiry)?.len()).unwrap_or(i64::MAX)),
        Query::Contains(elements) => Answer::Flags(set::contains(rows, key, &shown.expiry, elements)?),
        Query::ExpireTime => Answer::Integer(match (shown.data_type, shown.end()) {
            (None, _) => -2,
            (Some(_), None) => -1,
            (Some(_), Some(end)) => i64::try_from(end).unwrap_or(i64::MAX),
        }),
        Query::Siblings => {
            let row = rows.row(&RowAddress::value(key))?;
            Answer::Siblings { token: shown.string.token(&row).to_bytes(), values: shown.string.values() }
        }
        Query::Explain => Answer::Explained(explain::explain(rows, key, &shown)?),
    }))
}
