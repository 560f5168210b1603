//! From the rows of a list to its items.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::super::expiry::Expiry;
use super::super::row::{Payload, Row, RowAddress};
use super::super::rows::Rows;
use super::{ITEM, Side};

/// The item that a row shows: what was written last. `None` where nothing shows.
pub(super) fn item(row: &Row, expiry: &Expiry) -> Option<Bytes> {
    let shows = row.iter().filter(|(_, entry)| !expiry.hides(entry));
    let (_, latest) = shows.max_by_key(|(dot, entry)| (entry.timestamp, **dot))?;
    if let Payload::Value(value) = &latest.payload { Some(value.clone()) } else { None }
}

/// Visits the rows of a list from an end, those that do not show included, until the visitor breaks.
pub(super) fn visit<R: Rows>(
    rows: &R,
    key: &Bytes,
    from: Side,
    visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
) -> Result<(), R::Error> {
    match from {
        Side::Left => rows.visit_from(key, ITEM, &mut |address, row| {
            if address.kind == ITEM { visitor(address, row) } else { ControlFlow::Break(()) }
        }),
        Side::Right => rows.visit_back(key, ITEM, visitor),
    }
}

/// Every item that shows, from the front.
pub(in crate::crdt) fn values<R: Rows>(rows: &R, key: &Bytes, expiry: &Expiry) -> Result<Vec<Bytes>, R::Error> {
    let mut values = Vec::new();
    visit(rows, key, Side::Left, &mut |_, row| {
        values.extend(item(row, expiry));
        ControlFlow::Continue(())
    })?;
    Ok(values)
}

/// How many items show. Read one by one only while the removal of expired ones is due.
pub(super) fn length<R: Rows>(rows: &R, expiry: &Expiry, key: &Bytes) -> Result<usize, R::Error> {
    let summary = rows.summary(key)?;
    if summary.stands(expiry) {
        return Ok(usize::try_from(summary.count(ITEM)).unwrap_or(usize::MAX));
    }
    let mut length = 0;
    visit(rows, key, Side::Left, &mut |_, row| {
        length += usize::from(item(row, expiry).is_some());
        ControlFlow::Continue(())
    })?;
    Ok(length)
}

/// The items that show between two indexes, both included, read from the end that is nearer.
pub(super) fn between<R: Rows>(rows: &R, key: &Bytes, expiry: &Expiry, start: i64, stop: i64) -> Result<Vec<Bytes>, R::Error> {
    let length = length(rows, expiry, key)?;
    let wanted = range(start, stop, length);
    let (side, mut skipped) =
        if wanted.start <= length - wanted.end { (Side::Left, wanted.start) } else { (Side::Right, length - wanted.end) };
    let mut items = Vec::new();
    if wanted.is_empty() {
        return Ok(items);
    }
    visit(rows, key, side, &mut |_, row| {
        match item(row, expiry) {
            Some(_) if skipped > 0 => skipped -= 1,
            item => items.extend(item),
        }
        if items.len() < wanted.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if side == Side::Right {
        items.reverse();
    }
    Ok(items)
}

/// What two indexes, both included, name among so many items.
pub(super) fn range(start: i64, stop: i64, length: usize) -> Range<usize> {
    let resolved = |index: i64| if index < 0 { index.saturating_add(i64::try_from(length).unwrap_or(i64::MAX)) } else { index };
    let start = usize::try_from(resolved(start).max(0)).unwrap_or(usize::MAX).min(length);
    let stop = usize::try_from(resolved(stop).saturating_add(1)).unwrap_or(0).min(length);
    start..stop.max(start)
}

/// Where items stand that equal one, by the rules of LPOS.
pub(super) fn find(items: &[Bytes], item: &Bytes, rank: i64, count: u64, most: u64) -> Vec<i64> {
    let limit = |number: u64| if number == 0 { usize::MAX } else { usize::try_from(number).unwrap_or(usize::MAX) };
    let skipped = usize::try_from(rank.unsigned_abs().saturating_sub(1)).unwrap_or(usize::MAX);
    let equals = |index: &usize| items.get(*index) == Some(item);
    let indexes: Vec<usize> = if rank < 0 {
        (0..items.len()).rev().take(limit(most)).filter(equals).skip(skipped).take(limit(count)).collect()
    } else {
        (0..items.len()).take(limit(most)).filter(equals).skip(skipped).take(limit(count)).collect()
    };
    indexes.into_iter().filter_map(|index| i64::try_from(index).ok()).collect()
}
