//! RINGTIDE EXPLAIN: every live dot of a key told for people, with why it shows or does not.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::additive::Additive;
use super::dot::Dot;
use super::expiry::{Ends, Expiry};
use super::kind::{DataType, Kind};
use super::outcome::Explained;
use super::row::{Decision, Entry, Payload, Row};
use super::rows::Rows;
use super::runs;
use super::score_view::ScoreView;
use super::shown::Shown;
use super::value::ValueView;

/// Most bytes of a value that are told.
const TOLD_BYTES: usize = 64;

/// Why an entry does not show beside another one.
const SIBLING: &str = "a sibling: written concurrently, and earlier than the one that shows";

/// Tells of every live dot of a key.
pub(super) fn explain<R: Rows>(rows: &R, key: &Bytes, shown: &Shown) -> Result<Vec<Explained>, R::Error> {
    let mut told = Vec::new();
    rows.visit(key, &mut |address, row| {
        for (dot, entry) in row {
            let (shows, reason) = match address.kind {
                Kind::Expiry => judge_decision(entry, &shown.expiry, "key"),
                Kind::Field if matches!(entry.payload, Payload::Decision(_)) => {
                    judge_decision(entry, Ends::of(row, &shown.expiry).field(), "field")
                }
                kind if shown.data_type.is_some() && DataType::of(kind) != shown.data_type => judge_other_type(row, entry, shown),
                Kind::Value | Kind::Field => {
                    let view = ValueView::of(row, &shown.expiry);
                    judge_additive(row, *dot, entry, shown, &view, view.number().is_some())
                }
                Kind::Score => judge_additive(row, *dot, entry, shown, &ScoreView::of(row, &shown.expiry), true),
                Kind::Item => judge_item(row, *dot, entry, shown),
                kind => judge_element(kind, row, entry, shown),
            };
            told.push(Explained {
                kind: address.kind.name().to_owned(),
                element: address.element.clone(),
                dot: name(*dot),
                actor: dot.actor.0,
                written_ms: entry.timestamp.millis(),
                content: content(entry),
                shows,
                reason,
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok(told)
}

fn name(dot: Dot) -> String {
    format!("{}:{}", dot.actor, dot.counter)
}

fn content(entry: &Entry) -> String {
    let what = match &entry.payload {
        Payload::Value(bytes) => {
            let start = bytes.get(..TOLD_BYTES).unwrap_or(bytes);
            let more = if start.len() < bytes.len() { format!(" and {} bytes more", bytes.len() - start.len()) } else { String::new() };
            format!("\"{}\"{more}", start.escape_ascii())
        }
        Payload::Run { run, total } => format!("increments since {}: {total:+}", name(*run)),
        Payload::Floor { run, upto, total } => format!("reset of the increments since {} up to counter {upto}: {total:+}", name(*run)),
        Payload::Score(score) => format!("score {:?}", score),
        Payload::Present => "present".to_owned(),
        Payload::Decision(decision) => term(decision),
    };
    let carried = |decision: Option<Decision>, whose| decision.map(|decision| format!(", {whose}{}", term(&decision))).unwrap_or_default();
    format!("{what}{}{}", carried(entry.decision, ""), carried(entry.field_decision, "as a field "))
}

fn term(decision: &Decision) -> String {
    decision.time.map_or_else(|| "never expires".to_owned(), |time| format!("expires at {time}"))
}

fn hidden_by(row: &Row, entry: &Entry, shown: &Shown) -> Option<(bool, String)> {
    let decision = Ends::of(row, &shown.expiry).hider(entry)?;
    Some((false, format!("hidden: it expired at {}", decision.time.unwrap_or_default())))
}

/// Judges a decision on a key or field.
fn judge_decision(entry: &Entry, expiry: &Expiry, subject: &str) -> (bool, String) {
    let Payload::Decision(decision) = &entry.payload else { return (false, "no decision".to_owned()) };
    if expiry.is_overtaken(decision) {
        (false, format!("overtaken by a later decision on the same life of the {subject}"))
    } else if expiry.has_passed(decision) {
        (true, "its time has passed: what it hides is to be removed".to_owned())
    } else {
        (true, "stands".to_owned())
    }
}

/// Judges an entry of a row that holds a base and what was added to it; `adds_up` tells whether anything can be added to the base.
fn judge_additive<B>(row: &Row, dot: Dot, entry: &Entry, shown: &Shown, view: &Additive<B>, adds_up: bool) -> (bool, String) {
    if let Some(hidden) = hidden_by(row, entry, shown) {
        return hidden;
    }
    match &entry.payload {
        Payload::Value(_) | Payload::Score(_) if view.base_dot() == Some(dot) => (true, "written last".to_owned()),
        Payload::Value(_) | Payload::Score(_) => (false, SIBLING.to_owned()),
        Payload::Run { run, .. } => match runs::runs(row).into_iter().find(|other| other.name == *run) {
            Some(other) if other.latest != dot => (false, "a later entry of the same run stands beside it".to_owned()),
            Some(other) if other.counts.is_none() => (false, "reset by a SET or DEL".to_owned()),
            _ if !adds_up => (false, "the value is no number: nothing can be added to it".to_owned()),
            _ => (true, "added to the value".to_owned()),
        },
        _ => (false, "keeps increments that a SET or DEL has observed from counting again".to_owned()),
    }
}

fn judge_item(row: &Row, dot: Dot, entry: &Entry, shown: &Shown) -> (bool, String) {
    let latest = row.iter().filter(|(_, other)| !shown.expiry.hides(other)).max_by_key(|(other, entry)| (entry.timestamp, **other));
    match latest {
        Some((latest, _)) if *latest != dot && !shown.expiry.hides(entry) => (false, SIBLING.to_owned()),
        _ => judge_element(Kind::Item, row, entry, shown),
    }
}

fn judge_element(kind: Kind, row: &Row, entry: &Entry, shown: &Shown) -> (bool, String) {
    hidden_by(row, entry, shown).unwrap_or_else(|| (true, format!("{} {}", if kind == Kind::Item { "an" } else { "a" }, kind.name())))
}

/// Judges an entry of a row that does not belong to the type which shows.
fn judge_other_type(row: &Row, entry: &Entry, shown: &Shown) -> (bool, String) {
    let other = shown.data_type.map_or("nothing", DataType::name);
    hidden_by(row, entry, shown).unwrap_or_else(|| (false, format!("the key shows a {other}, written concurrently")))
}
