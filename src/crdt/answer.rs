//! Rows become answers: what a reader gets of one key.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{Answer, DataType, Explained, Query, Refusal, Selection};
use super::counter;
use super::delta::{Entry, Kind, Payload, Row, RowAddress};
use super::dot::{Clock, Dot};
use super::encode;
use super::expiry::Decisions;
use super::look::{Look, row_shows};
use super::string;
use crate::types::Timestamp;

/// The version of sibling tokens.
const TOKEN: u8 = 1;

/// What a reader holds of one key.
#[derive(Clone, Debug, Default)]
pub struct KeyView {
    /// Its rows, merged from all that were asked.
    pub rows: BTreeMap<RowAddress, Row>,
    /// What counts as seen for its value row.
    pub seen: Clock,
}

/// Which rows a query needs.
#[must_use]
pub fn selection(query: &Query) -> Selection {
    match query {
        Query::Get | Query::Length | Query::Type | Query::ExpireTime | Query::Siblings => Selection::Head,
        Query::Contains(elements) => Selection::Elements(elements.clone()),
        Query::Members | Query::Cardinality | Query::Explain => Selection::All,
    }
}

/// Whether the row at an address has something to show, judged by the expiry row among `rows`.
#[must_use]
pub fn shows(rows: &BTreeMap<RowAddress, Row>, address: &RowAddress, now: Timestamp) -> bool {
    let decisions = rows.get(&RowAddress::expiry(&address.key)).map(Decisions::of).unwrap_or_default();
    rows.get(address).is_some_and(|row| row_shows(row, &decisions, now))
}

/// Answers a query.
///
/// # Errors
/// Where the key shows another type than the query is about.
pub fn answer(view: &KeyView, now: Timestamp, key: &Bytes, query: &Query) -> Result<Answer, Refusal> {
    let look = Look::of(&view.rows, now);
    Ok(match query {
        Query::Get => look.string()?.value.map_or(Answer::Nil, Answer::Bytes),
        Query::Length => Answer::Integer(look.string()?.value.map_or(0, |value| i64::try_from(value.len()).unwrap_or(i64::MAX))),
        Query::Type => Answer::Type(look.shown),
        Query::Members => Answer::Members(members(view, &look)?),
        Query::Cardinality => Answer::Integer(i64::try_from(members(view, &look)?.len()).unwrap_or(i64::MAX)),
        Query::Contains(elements) => {
            require_set(&look)?;
            let is_member = |element: &Bytes| look.exists() && shows(&view.rows, &RowAddress::member(key, element), now);
            Answer::Flags(elements.iter().map(is_member).collect())
        }
        Query::ExpireTime => Answer::Integer(match (look.exists(), look.expires_at()) {
            (false, _) => -2,
            (true, None) => -1,
            (true, Some(at)) => i64::try_from(at).unwrap_or(i64::MAX),
        }),
        Query::Siblings => {
            let shown = look.string()?;
            let mut token = vec![TOKEN];
            token.extend(encode::clock_to_bytes(&view.seen));
            Answer::Siblings { token: token.into(), values: shown.value.into_iter().chain(shown.siblings).collect() }
        }
        Query::Explain => Answer::Explained(explain(&view.rows, &look)),
    })
}

/// What the reader of a sibling token had seen.
pub(super) fn seen_of(token: &Bytes) -> Option<Clock> {
    let (version, _) = token.split_first()?;
    (*version == TOKEN).then(|| encode::clock_from_bytes(&token.slice(1..)).ok()).flatten()
}

fn require_set(look: &Look) -> Result<(), Refusal> {
    match look.shown {
        None | Some(DataType::Set) => Ok(()),
        Some(DataType::String) => Err(Refusal::WrongType),
    }
}

fn members(view: &KeyView, look: &Look) -> Result<Vec<Bytes>, Refusal> {
    require_set(look)?;
    let rows = view.rows.iter().filter(|(address, row)| address.kind == Kind::Member && row_shows(row, &look.decisions, look.now));
    Ok(rows.map(|(address, _)| address.element.clone()).collect())
}

fn explain(rows: &BTreeMap<RowAddress, Row>, look: &Look) -> Vec<Explained> {
    let mut explained = Vec::new();
    for (address, row) in rows {
        let shown = string::shown(row, &look.decisions, look.now);
        let counts = counter::sum(row, &look.decisions, look.now).is_some();
        for (dot, entry) in row {
            let (shows, reason) = judge(address, *dot, entry, look, shown.dot, counts);
            explained.push(Explained {
                kind: kind_name(address.kind).to_owned(),
                element: address.element.clone(),
                dot: format!("{}:{}", dot.actor, dot.counter),
                actor: dot.actor.0,
                written_ms: entry.timestamp.millis(),
                content: content(&entry.payload),
                shows,
                reason: reason.to_owned(),
            });
        }
    }
    explained
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Expiry => "expiry",
        Kind::Value => "value",
        Kind::Member => "member",
    }
}

fn judge(address: &RowAddress, dot: Dot, entry: &Entry, look: &Look, shown: Option<Dot>, counts: bool) -> (bool, &'static str) {
    let type_shows = match address.kind {
        Kind::Expiry => true,
        Kind::Value => look.shown == Some(DataType::String),
        Kind::Member => look.shown == Some(DataType::Set),
    };
    if !matches!(entry.payload, Payload::Decision(_)) && look.decisions.hides(entry, look.now) {
        return (false, "expired");
    }
    if !type_shows {
        return (false, "the key shows another type");
    }
    match &entry.payload {
        Payload::Value(_) if shown == Some(dot) => (true, "the latest value"),
        Payload::Value(_) => (false, "a sibling: a concurrent value is later"),
        Payload::Run { .. } if counts => (true, "increments add up"),
        Payload::Run { .. } => (false, "these increments were reset"),
        Payload::Floor { .. } => (false, "marks increments that were reset"),
        Payload::Present => (true, "a member"),
        Payload::Decision(decision) if decision.is_past(look.now) => (false, "an expiry that is past"),
        Payload::Decision(decision) if look.governing() == Some(*decision) => (true, "the expiry in force"),
        Payload::Decision(_) => (false, "a later decision is in force"),
    }
}

fn content(payload: &Payload) -> String {
    match payload {
        Payload::Value(value) => String::from_utf8_lossy(value).into_owned(),
        Payload::Run { run, total } => format!("increments since {}:{}, together {total}", run.actor, run.counter),
        Payload::Floor { run, total, .. } => format!("reset of {total} of the increments since {}:{}", run.actor, run.counter),
        Payload::Present => "present".to_owned(),
        Payload::Decision(decision) => decision.time.map_or_else(|| "never expires".to_owned(), |time| format!("expires at {time}")),
    }
}
