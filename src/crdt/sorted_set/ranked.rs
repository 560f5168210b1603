//! Ranges, numbers and ranks that are counted off from an end of a sorted set, and from its rows where these don't all show.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::kind::Kind;
use super::super::rows::{Rows, scored};
use super::super::score::{Order, Score, Scored};
use super::super::shown::Shown;
use super::range::{Range, Span};

/// The members of a range with their scores.
pub(super) fn range<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, range: &Range) -> Result<Scored, R::Error> {
    let mut told = Vec::new();
    let counted_off = count_off(rows, shown, key, range, &mut |member, score| told.push((member.clone(), score)))?;
    match counted_off {
        None => Ok(range.of(scored(rows, &shown.expiry, key)?)),
        Some(order) => Ok(if order == range.order { told } else { told.into_iter().rev().collect() }),
    }
}

/// How many members a range has.
pub(super) fn number<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, range: &Range) -> Result<usize, R::Error> {
    if *range == Range::all() {
        let summary = rows.summary(key)?;
        if summary.stands(&shown.expiry) {
            return Ok(usize::try_from(summary.count(Kind::Score)).unwrap_or(usize::MAX));
        }
    }
    let mut number = 0;
    match count_off(rows, shown, key, range, &mut |_, _| number += 1)? {
        None => Ok(range.of(scored(rows, &shown.expiry, key)?).len()),
        Some(_) => Ok(number),
    }
}

/// The place of a member in an order, from 0; `None` where it is none.
pub(super) fn rank<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, member: &Bytes, order: Order) -> Result<Option<usize>, R::Error> {
    if rows.summary(key)?.stands(&shown.expiry) {
        if super::score_of(rows, shown, key, member)?.is_none() {
            return Ok(None);
        }
        let (mut place, mut found) = (0, None);
        let counted_off = rows.visit_ranked(key, order, None, &mut |other, _| {
            if other == member {
                found = Some(place);
                return ControlFlow::Break(());
            }
            place += 1;
            ControlFlow::Continue(())
        })?;
        if counted_off {
            return Ok(found);
        }
    }
    Ok(order.of(scored(rows, &shown.expiry, key)?).iter().position(|(other, _)| other == member))
}

/// What is counted off, and how.
struct Count {
    order: Order,
    from: Option<Score>,
    skipped: usize,
    most: usize,
}

/// Tells the members of a range from the end that is nearer, and which order that was; `None` where they can't be counted off, and none was told.
fn count_off<R: Rows>(
    rows: &R,
    shown: &Shown,
    key: &Bytes,
    range: &Range,
    tell: &mut dyn FnMut(&Bytes, Score),
) -> Result<Option<Order>, R::Error> {
    let summary = rows.summary(key)?;
    if !summary.stands(&shown.expiry) {
        return Ok(None);
    }
    let Some(Count { order, from, skipped, most }) = counts(range, summary.count(Kind::Score)) else { return Ok(Some(range.order)) };
    let (mut is_within, mut left_out, mut told) = (false, 0, 0);
    let counted_off = rows.visit_ranked(key, order, from, &mut |member, score| {
        is_within = is_within || range.begins(member, score);
        if !is_within {
            return ControlFlow::Continue(());
        }
        if !range.goes_on(member, score) {
            return ControlFlow::Break(());
        }
        if left_out < skipped {
            left_out += 1;
            return ControlFlow::Continue(());
        }
        tell(member, score);
        told += 1;
        if told == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(counted_off.then_some(order))
}

/// From where a range is counted off among so many members, and how far; `None` where it has none.
fn counts(range: &Range, number: u64) -> Option<Count> {
    let (offset, count) = match range.limit {
        None => (0, usize::MAX),
        Some((offset, count)) => (usize::try_from(offset).ok()?, usize::try_from(count).unwrap_or(usize::MAX)),
    };
    let order = range.order;
    let count = match &range.span {
        Span::Places(start, stop) => {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            let place = |place: i64| if place < 0 { place.saturating_add(number) } else { place };
            let start = usize::try_from(place(*start).max(0)).ok()?.saturating_add(offset);
            let end = usize::try_from(place(*stop).min(number - 1).checked_add(1)?).ok()?.min(start.saturating_add(count));
            let behind = usize::try_from(number).ok()?.saturating_sub(end);
            let most = end.saturating_sub(start);
            if start <= behind {
                Count { order, from: None, skipped: start, most }
            } else {
                Count { order: order.reversed(), from: None, skipped: behind, most }
            }
        }
        Span::Scores(least, greatest) => {
            let begin = if order == Order::Ascending { least } else { greatest };
            Count { order, from: Some(begin.score), skipped: offset, most: count }
        }
        Span::Members(..) => Count { order, from: None, skipped: offset, most: count },
    };
    (count.most > 0).then_some(count)
}
