//! Visiting many rows of a batch in the making: what storage holds and what the batch has read or changed, as one ordered whole.
//!
//! A visit goes forward or back, and costs what it visits: neither end of a list of a million items is far away.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::super::layout;
use super::{Cached, ReplicaError, Transaction};
use crate::crdt::delta::{Kind, Row, RowAddress};
use crate::crdt::encode;
use crate::types::Digest;

/// Rows that one visit keeps for later reads at most: a visit of a huge collection must not hold it in memory.
const KEPT_ROWS: usize = 1024;

/// Which way rows are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// In order of their storage keys.
    Forward,
    /// Against it.
    Back,
}

impl Order {
    /// Whether a storage key comes after another.
    fn is_behind(self, key: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Forward => key > other,
            Self::Back => key < other,
        }
    }
}

/// Takes a row's storage key, address, content and digest.
type VisitRow<'v> = dyn FnMut(&[u8], &RowAddress, &Row, Digest) -> ControlFlow<()> + 'v;

/// Takes a storage key with what storage holds there, or what the transaction knows of it.
pub(super) type Merging<'v> = dyn FnMut(&[u8], Option<Bytes>, Option<&Cached>) -> Result<ControlFlow<()>, ReplicaError> + 'v;

impl Transaction<'_> {
    /// Visits every row with a storage key from `start` (included) to `end` (excluded), in order, with its canonical bytes' digest.
    ///
    /// # Errors
    /// Where a row could not be read.
    pub fn visit_range(&self, start: &[u8], end: &[u8], visit: &mut VisitRow<'_>) -> Result<(), ReplicaError> {
        self.merged(start, end, Order::Forward, &mut |key, stored, cached| {
            if let Some(cached) = cached {
                if cached.row.is_empty() {
                    return Ok(ControlFlow::Continue(()));
                }
                return Ok(visit(key, &cached.address, &cached.row, encode::row_digest(&cached.address, &cached.row)));
            }
            let Some(stored) = stored else { return Ok(ControlFlow::Continue(())) };
            let (address, row, content) = layout::read_row(key, &stored)?;
            Ok(visit(key, &address, &row, encode::stored_row_digest(&address, &content)))
        })
    }

    /// Walks storage and cache side by side, in order of storage keys or against it.
    pub(super) fn merged(&self, start: &[u8], end: &[u8], order: Order, visit: &mut Merging<'_>) -> Result<(), ReplicaError> {
        let mut cached_key = self.next_cached(start, end, order);
        let mut outcome = Ok(ControlFlow::Continue(()));
        // Visits what is cached before a key of storage; tells whether the key itself is, and so was visited.
        let mut catch_up = |key: Option<&[u8]>, visit: &mut Merging<'_>| -> Result<ControlFlow<(), bool>, ReplicaError> {
            while let Some(next) = cached_key.take_if(|next| key.is_none_or(|key| !order.is_behind(next, key))) {
                let flow =
                    self.rows.borrow().get(&next).map_or(Ok(ControlFlow::Continue(())), |cached| visit(&next, None, Some(cached)))?;
                if flow.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                cached_key = match order {
                    Order::Forward => self.next_cached(&[&next, &[0][..]].concat(), end, order),
                    Order::Back => self.next_cached(start, &next, order),
                };
                if key.is_some_and(|key| key == next) {
                    return Ok(ControlFlow::Continue(true));
                }
            }
            Ok(ControlFlow::Continue(false))
        };
        let mut step = |key: &[u8], value: &[u8]| {
            outcome = match catch_up(Some(key), visit) {
                Ok(ControlFlow::Continue(false)) => visit(key, Some(Bytes::copy_from_slice(value)), None),
                caught_up => caught_up.map(|flow| flow.map_continue(drop)),
            };
            if matches!(outcome, Ok(ControlFlow::Continue(()))) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        match order {
            Order::Forward => self.snapshot.scan(start, end, &mut step)?,
            Order::Back => self.snapshot.scan_back(start, end, &mut step)?,
        }
        if outcome?.is_continue() {
            let _ = catch_up(None, visit)?;
        }
        Ok(())
    }

    /// The first storage key of the cache in a range; against the order the last.
    fn next_cached(&self, start: &[u8], end: &[u8], order: Order) -> Option<Vec<u8>> {
        if start >= end {
            return None;
        }
        let rows = self.rows.borrow();
        let mut keys = rows.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))).map(|(key, _)| key);
        match order {
            Order::Forward => keys.next(),
            Order::Back => keys.next_back(),
        }
        .cloned()
    }

    /// Visits rows of a key in a range of storage keys, and keeps the first of those that were read. Tells whether all were visited and are kept.
    pub(super) fn visit_rows(
        &self,
        key: &Bytes,
        start: &[u8],
        end: &[u8],
        order: Order,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<bool, ReplicaError> {
        let mut read: Vec<(Vec<u8>, Cached)> = Vec::new();
        let (mut wanted, mut whole) = (true, true);
        let mut outermost = None;
        self.merged_of_key(key, (start, end), order, &mut |row_key, stored, cached| {
            // Most keys have one row. To look one row further than the visitor wants tells so, and spares the next visit its search.
            if !wanted {
                whole = false;
                return Ok(ControlFlow::Break(()));
            }
            if let Some(cached) = cached {
                if outermost.is_none() && cached.address.kind == Kind::Item && !cached.row.is_empty() {
                    outermost = Some(cached.address.element.clone());
                }
                wanted = cached.row.is_empty() || visitor(&cached.address, &cached.row).is_continue();
            } else if let Some(value) = stored {
                let (address, row, content) = layout::read_row(row_key, &value)?;
                if outermost.is_none() && address.kind == Kind::Item {
                    outermost = Some(address.element.clone());
                }
                wanted = visitor(&address, &row).is_continue();
                if read.len() < KEPT_ROWS {
                    read.push((row_key.to_vec(), Cached::read(address, row, Some(content))));
                } else {
                    whole = false;
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.rows.borrow_mut().extend(read);
        if let Some(position) = outermost {
            self.collections.note_outermost(layout::collection_key(self.place(key), key), order, &position);
        }
        Ok(whole)
    }
}
