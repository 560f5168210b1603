//! From the commands on a list to their deltas.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::delta::Delta;
use super::super::dot::Dot;
use super::super::draft::Draft;
use super::super::outcome::{Answer, Outcome};
use super::super::position::{Growth, Position};
use super::super::refusal::{ExecuteError, Refusal};
use super::super::row::{Decision, Payload, Row, RowAddress};
use super::super::rows::Rows;
use super::super::shown::Shown;
use super::read::{self, item, range, visit};
use super::{ITEM, Side};
use crate::config::{MAX_REMOVED_BYTES, MAX_VALUE};

/// About how many bytes it takes to name a removed row, beside key and element.
const NAMING_BYTES: usize = 64;

/// A row of a list that shows.
pub(super) struct Item {
    pub(super) address: RowAddress,
    pub(super) row: Row,
    pub(super) value: Bytes,
}

/// The position that a row stands at. One that can't be read was refused when it came.
fn position(address: &RowAddress) -> Option<Position> {
    Position::from_bytes(&address.element).ok()
}

/// The position of the outermost row of a list, one that does not show included.
fn outermost<R: Rows>(rows: &R, key: &Bytes, side: Side) -> Result<Option<Position>, R::Error> {
    let mut outermost = None;
    visit(rows, key, side, &mut |address, _| {
        outermost = position(address);
        ControlFlow::Break(())
    })?;
    Ok(outermost)
}

/// How many items show.
fn length<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<i64, R::Error> {
    Ok(i64::try_from(read::length(rows, &shown.expiry, key)?).unwrap_or(i64::MAX))
}

/// The items between which one stands, each missing where there is none.
type Neighbours = (Option<Position>, Option<Position>);

/// Between what an item stands that is put at an end.
pub(super) fn beyond<R: Rows>(rows: &R, key: &Bytes, side: Side) -> Result<Neighbours, R::Error> {
    let neighbour = outermost(rows, key, side)?;
    Ok(if side == Side::Right { (neighbour, None) } else { (None, neighbour) })
}

/// Writes an item between two neighbours; where it stands, and its dot.
pub(super) fn put_one(
    draft: &mut Draft<'_, '_>,
    (before, after): &Neighbours,
    growth: Growth,
    decision: Option<Decision>,
    item: &Bytes,
) -> Result<(Position, Dot), Refusal> {
    if item.len() > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let dot = (draft.author.mint)();
    let position = Position::between(before.as_ref(), after.as_ref(), growth, dot).ok_or(Refusal::NoRoom)?;
    draft.add_as(dot, RowAddress::element(draft.key, ITEM, &position.to_bytes()), decision, Payload::Value(item.clone()));
    Ok((position, dot))
}

/// Writes items one after the other between two neighbours.
fn put(
    draft: &mut Draft<'_, '_>,
    mut neighbours: Neighbours,
    growth: Growth,
    decision: Option<Decision>,
    items: &[Bytes],
) -> Result<(), Refusal> {
    for item in items {
        let (position, _) = put_one(draft, &neighbours, growth, decision, item)?;
        *(if growth == Growth::Up { &mut neighbours.0 } else { &mut neighbours.1 }) = Some(position);
    }
    Ok(())
}

/// Writes a list of which nothing is left anew.
///
/// # Errors
/// Where an item exceeds its limit.
pub(in crate::crdt) fn write_all(draft: &mut Draft<'_, '_>, decision: Option<Decision>, items: &[Bytes]) -> Result<(), Refusal> {
    put(draft, (None, None), Growth::Up, decision, items)
}

/// LPUSH, RPUSH, LPUSHX, RPUSHX.
pub(super) fn push<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    side: Side,
    items: &[Bytes],
    only_existing: bool,
) -> Outcome<R::Error> {
    if only_existing && shown.data_type.is_none() {
        return Ok((Delta::default(), Answer::Integer(0)));
    }
    let length = length(rows, shown, draft.key).map_err(ExecuteError::Rows)?.saturating_add_unsigned(items.len() as u64);
    let neighbours = beyond(rows, draft.key, side).map_err(ExecuteError::Rows)?;
    let decision = shown.write_under(&mut draft);
    put(&mut draft, neighbours, side.growth(), decision, items)?;
    Ok((draft.finish(), Answer::Integer(length)))
}

/// Writes an item at an end of a list that was not seen; where it stands, and its dot.
pub(super) fn put_unseen(draft: &mut Draft<'_, '_>, side: Side, item: &Bytes) -> Result<(Position, Dot), Refusal> {
    if item.len() > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let dot = (draft.author.mint)();
    let position = Position::unseen(side.growth(), draft.author.now, dot);
    draft.add_as(dot, RowAddress::element(draft.key, ITEM, &position.to_bytes()), None, Payload::Value(item.clone()));
    Ok((position, dot))
}

/// A push that has not seen the list.
pub(super) fn push_unseen(draft: &mut Draft<'_, '_>, side: Side, items: &[Bytes]) -> Result<Answer, Refusal> {
    if let Some((first, others)) = items.split_first() {
        let (position, _) = put_unseen(draft, side, first)?;
        let neighbours = if side == Side::Right { (Some(position), None) } else { (None, Some(position)) };
        put(draft, neighbours, side.growth(), None, others)?;
    }
    Ok(Answer::count(items.len()))
}

/// Items that show, from an end, until `takes` says no.
pub(super) fn items<R: Rows>(
    rows: &R,
    shown: &Shown,
    key: &Bytes,
    side: Side,
    mut takes: impl FnMut(usize) -> bool,
) -> Result<Vec<Item>, ExecuteError<R::Error>> {
    let mut items = Vec::new();
    if !takes(0) {
        return Ok(items);
    }
    visit(rows, key, side, &mut |address, row| {
        if let Some(value) = item(row, &shown.expiry) {
            items.push(Item { address: address.clone(), row: row.clone(), value });
        }
        if takes(items.len()) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(ExecuteError::Rows)?;
    Ok(items)
}

/// Removes the rows of items as they were observed.
fn remove_all<'i>(draft: &mut Draft<'_, '_>, items: impl IntoIterator<Item = &'i Item>) -> Result<i64, Refusal> {
    let (mut removed, mut bytes) = (0, 0);
    for Item { address, row, .. } in items {
        removed += 1;
        bytes += address.key.len() + (1 + row.len()) * (address.element.len() + NAMING_BYTES);
        if bytes > MAX_REMOVED_BYTES {
            return Err(Refusal::TooManyItems);
        }
        draft.replace_row(address.clone(), row, Vec::new());
    }
    Ok(removed)
}

/// LPOP, RPOP.
pub(super) fn pop<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, side: Side, count: u64) -> Outcome<R::Error> {
    if shown.data_type.is_none() {
        return Ok((Delta::default(), Answer::Nil));
    }
    let popped = items(rows, shown, draft.key, side, |taken| (taken as u64) < count && taken * NAMING_BYTES <= MAX_REMOVED_BYTES)?;
    remove_all(&mut draft, &popped)?;
    Ok((draft.finish(), Answer::Items(popped.into_iter().map(|item| item.value).collect())))
}

/// LSET.
pub(super) fn set<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, index: i64, value: &Bytes) -> Outcome<R::Error> {
    if shown.data_type.is_none() {
        return Err(Refusal::NoSuchKey.into());
    }
    if value.len() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let (side, mut skipped) = if index < 0 { (Side::Right, index.unsigned_abs() - 1) } else { (Side::Left, index.unsigned_abs()) };
    let mut found: Option<(RowAddress, Row)> = None;
    visit(rows, draft.key, side, &mut |address, row| match (item(row, &shown.expiry), skipped) {
        (None, _) => ControlFlow::Continue(()),
        (Some(_), 0) => {
            found = Some((address.clone(), row.clone()));
            ControlFlow::Break(())
        }
        (Some(_), _) => {
            skipped -= 1;
            ControlFlow::Continue(())
        }
    })
    .map_err(ExecuteError::Rows)?;
    let (address, row) = found.ok_or(Refusal::IndexOutOfRange)?;
    let decision = shown.write_under(&mut draft);
    draft.replace_row(address.clone(), &row, Vec::new());
    draft.add(address, decision, Payload::Value(value.clone()));
    Ok((draft.finish(), Answer::Ok))
}

/// LINSERT.
pub(super) fn insert<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    pivot: &Bytes,
    new: &Bytes,
    before: bool,
) -> Outcome<R::Error> {
    if shown.data_type.is_none() {
        return Ok((Delta::default(), Answer::Integer(0)));
    }
    let (mut last, mut neighbours) = (None, None);
    visit(rows, draft.key, Side::Left, &mut |address, row| {
        let here = position(address);
        if let Some((_, after @ None)) = &mut neighbours {
            // The row behind the pivot.
            *after = here;
            return ControlFlow::Break(());
        }
        let is_pivot = item(row, &shown.expiry).is_some_and(|value| value == *pivot);
        if is_pivot {
            neighbours = Some(if before { (last.take(), here.clone()) } else { (here.clone(), None) });
        }
        last = here;
        if is_pivot && before { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(ExecuteError::Rows)?;
    let Some(neighbours) = neighbours else { return Ok((Delta::default(), Answer::Integer(-1))) };
    let length = length(rows, shown, draft.key).map_err(ExecuteError::Rows)?.saturating_add(1);
    let decision = shown.write_under(&mut draft);
    // What is inserted before a pivot time and again comes one behind the other, what is inserted behind it one before the other.
    let growth = if before { Growth::Up } else { Growth::Down };
    put(&mut draft, neighbours, growth, decision, std::slice::from_ref(new))?;
    Ok((draft.finish(), Answer::Integer(length)))
}

/// LREM.
pub(super) fn remove<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, count: i64, unwanted: &Bytes) -> Outcome<R::Error> {
    let side = if count < 0 { Side::Right } else { Side::Left };
    let most = if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
    let all = items(rows, shown, draft.key, side, |_| true)?;
    let removed = remove_all(&mut draft, all.iter().filter(|item| item.value == *unwanted).take(most))?;
    Ok((draft.finish(), Answer::Integer(removed)))
}

/// LTRIM. A list of which nothing stays is deleted.
pub(super) fn trim<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, start: i64, stop: i64) -> Outcome<R::Error> {
    let length = read::length(rows, &shown.expiry, draft.key).map_err(ExecuteError::Rows)?;
    let kept = range(start, stop, length);
    if kept.is_empty() {
        return Ok((shown.delete(rows, draft)?.0, Answer::Ok));
    }
    let (before, behind) = (kept.start, length - kept.end);
    if before.saturating_add(behind).saturating_mul(NAMING_BYTES) > MAX_REMOVED_BYTES {
        return Err(Refusal::TooManyItems.into());
    }
    let mut unwanted = items(rows, shown, draft.key, Side::Left, |taken| taken < before)?;
    unwanted.extend(items(rows, shown, draft.key, Side::Right, |taken| taken < behind)?);
    remove_all(&mut draft, &unwanted)?;
    Ok((draft.finish(), Answer::Ok))
}
