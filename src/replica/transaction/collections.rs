//! What a batch makes of collections: follows each changed row in what is derived of its key, and writes that with the rows.
//!
//! What is on record of a key is read once a batch, when the first of its elements changes or its number is asked for. Where there is no record, or none that
//! can be read, the rows are looked at: usually there are none; else all that is derived of the key is derived anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::visiting::{Merging, Order};
use super::{Cached, ReplicaError, Transaction};
use crate::crdt::delta::{Kind, Row, RowAddress};
use crate::crdt::rows::VisitRanked;
use crate::crdt::sorted_set::{self, Score};
use crate::crdt::summary::Summary;
use crate::env::{Batch, Snapshot};
use crate::replica::collection::{self, Collection, Content, rank_value};
use crate::replica::layout;
use crate::types::Partition;

/// A collection as a batch knows it.
#[derive(Clone, Default)]
struct Known {
    /// What was on record.
    stored: Option<Collection>,
    /// What is so now; without what [`Met`] knows better.
    now: Collection,
    /// Whether anything changed.
    is_dirty: bool,
    /// Whether the record was lost, so that it has to be written in any case.
    was_lost: bool,
}

/// From a storage key, included, to another, excluded.
type StorageRange = (Vec<u8>, Vec<u8>);

/// The first position that visits met, and the last: no row is left before and behind these.
type Met = (Option<Bytes>, Option<Bytes>);

/// What a batch knows of collections, each under the storage key of its record.
#[derive(Default)]
pub(super) struct Collections {
    /// What is on record, as far as it was looked up.
    stored: RefCell<BTreeMap<Vec<u8>, Option<Collection>>>,
    known: RefCell<BTreeMap<Vec<u8>, Known>>,
    met: RefCell<BTreeMap<Vec<u8>, Met>>,
    /// Ranks that appeared or, without a score, vanished.
    ranks: RefCell<BTreeMap<Vec<u8>, Option<Score>>>,
}

impl Collections {
    /// Notes the outermost item that a visit from one end met.
    pub(super) fn note_outermost(&self, collection_key: Vec<u8>, order: Order, position: &Bytes) {
        let mut met = self.met.borrow_mut();
        let (first, last) = met.entry(collection_key).or_default();
        *(if order == Order::Forward { first } else { last }) = Some(position.clone());
    }

    /// Follows a row from what it held to what it holds.
    fn follow(&mut self, collection_key: &[u8], address: &RowAddress, before: &Row, after: &Row) {
        let Some(known) = self.known.get_mut().get_mut(collection_key) else { return };
        known.now.follow(address, before, after);
        known.is_dirty = true;
        if address.kind == Kind::Item
            && !after.is_empty()
            && let Some((first, last)) = self.met.get_mut().get_mut(collection_key)
        {
            let position = &address.element;
            first.iter_mut().for_each(|first| *first = position.min(first).clone());
            last.iter_mut().for_each(|last| *last = position.max(last).clone());
        }
    }

    /// Follows digest and bytes of a row.
    pub(super) fn follow_content(&mut self, collection_key: &[u8], before: Content, after: Content) {
        if let Some(known) = self.known.get_mut().get_mut(collection_key) {
            known.now.follow_content(before, after);
        }
    }

    /// Whether any element of a key held data before the batch, and holds some now; `None` where that is not known.
    pub(super) fn had_and_has_data(&self, collection_key: &[u8]) -> Option<(bool, bool)> {
        let known = self.known.borrow();
        let known = known.get(collection_key)?;
        let had = known.stored.as_ref().is_some_and(|stored| stored.summary.total() > 0);
        Some((had, known.now.summary.total() > 0))
    }

    /// Takes everything that is derived in a partition away: what becomes of its rows is not told one by one.
    pub(super) fn forget(&mut self, partition: Partition, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), ReplicaError> {
        let ranges = layout::derived_ranges(partition);
        for (start, end) in &ranges {
            snapshot.scan(start, end, &mut |key, _| {
                batch.delete(key.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        let stays = |key: &Vec<u8>| ranges.iter().all(|(start, end)| !(start.as_slice()..end.as_slice()).contains(&key.as_slice()));
        self.stored.get_mut().retain(|key, _| stays(key));
        self.known.get_mut().retain(|key, _| stays(key));
        self.met.get_mut().retain(|key, _| stays(key));
        self.ranks.get_mut().retain(|key, _| stays(key));
        Ok(())
    }

    /// Writes what changed.
    pub(super) fn write(self, batch: &mut Batch) {
        let mut met = self.met.into_inner();
        for (key, Known { stored, mut now, is_dirty, was_lost }) in self.known.into_inner() {
            if !is_dirty && !was_lost {
                continue;
            }
            if !now.first.is_empty() {
                let (first, last) = met.remove(&key).unwrap_or_default();
                now.first = first.unwrap_or(now.first);
                now.last = last.unwrap_or(now.last);
            }
            if now.is_empty() {
                batch.delete(key);
            } else if was_lost || stored.as_ref() != Some(&now) {
                batch.put(key, now.to_bytes());
            }
        }
        for (key, score) in self.ranks.into_inner() {
            match score {
                Some(score) => batch.put(key, rank_value(score)),
                None => batch.delete(key),
            }
        }
    }
}

impl Transaction<'_> {
    /// What is on record of a key's elements in storage.
    fn on_record(&self, key: &Bytes, collection_key: &[u8]) -> Result<Option<Collection>, ReplicaError> {
        if let Some(stored) = self.collections.stored.borrow().get(collection_key) {
            return Ok(stored.clone());
        }
        let stored = Collection::read(&*self.snapshot, self.place(key), key)?;
        self.collections.stored.borrow_mut().insert(collection_key.to_vec(), stored.clone());
        Ok(stored)
    }

    /// Makes sure that it is known what is derived of a key's elements. To be called before the first of them changes.
    fn know(&self, key: &Bytes, collection_key: &[u8]) -> Result<(), ReplicaError> {
        if self.collections.known.borrow().contains_key(collection_key) {
            return Ok(());
        }
        let known = match self.on_record(key, collection_key)? {
            Some(stored) => Known { now: stored.clone(), stored: Some(stored), ..Known::default() },
            None => self.derive_anew(key)?,
        };
        self.collections.known.borrow_mut().insert(collection_key.to_vec(), known);
        Ok(())
    }

    /// Reads all rows of a key that has no elements on record, by their addresses: most keys are strings, and to search for elements that they might have
    /// costs several times as much.
    pub(super) fn read_without_elements(&self, key: &Bytes, start: &[u8]) -> Result<(), ReplicaError> {
        if self.whole.borrow().contains(start) {
            return Ok(());
        }
        let collection_key = layout::collection_key(self.place(key), key);
        let known = self.collections.known.borrow().get(&collection_key).map(|known| known.stored.is_none());
        let has_none = known.map_or_else(|| self.on_record(key, &collection_key).map(|stored| stored.is_none()), Ok)?;
        if has_none {
            for address in [RowAddress::expiry(key), RowAddress::value(key)] {
                self.row_at(&layout::row_key(self.place(key), &address), &address)?;
            }
            self.whole.borrow_mut().insert(start.to_vec());
        }
        Ok(())
    }

    /// Derives from the rows of a key what has no record, which is nothing but for keys of which it was lost.
    fn derive_anew(&self, key: &Bytes) -> Result<Known, ReplicaError> {
        let place = self.place(key);
        let (start, end) = layout::rows_of_elements(place, key);
        let mut now = Collection::default();
        let mut ranks = BTreeMap::new();
        let mut failure = None;
        // Without a record the batch took some rows for none without looking ([`Self::read_without_elements`]): they are about to be written over.
        let is_written_over = |row_key: &[u8]| self.rows.borrow().get(row_key).is_some_and(|cached| cached.stored.is_none());
        self.snapshot.scan(&start, &end, &mut |row_key, value| match layout::read_row(row_key, &Bytes::copy_from_slice(value)) {
            Ok(_) if is_written_over(row_key) => ControlFlow::Continue(()),
            Ok((address, row, content)) => {
                now.take_in(&address, &row, &content);
                ranks.extend(collection::rank(place, &address, &row).map(|(rank_key, score)| (rank_key, Some(score))));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        if now.is_empty() {
            return Ok(Known::default());
        }
        let (start, end) = layout::ranks_of_key(place, key);
        self.snapshot.scan(&start, &end, &mut |rank_key, _| {
            ranks.entry(rank_key.to_vec()).or_insert(None);
            ControlFlow::Continue(())
        })?;
        self.collections.ranks.borrow_mut().append(&mut ranks);
        // As if it had been on record: keys are counted by what was there before.
        Ok(Known { stored: Some(now.clone()), now, was_lost: true, ..Known::default() })
    }

    /// Follows an element from what it held to what it holds.
    pub(super) fn follow_element(&mut self, address: &RowAddress, before: &Row, after: &Row) {
        let place = self.place(&address.key);
        let collection_key = layout::collection_key(place, &address.key);
        if let Err(error) = self.know(&address.key, &collection_key) {
            self.failure.get_or_insert(error);
        }
        self.collections.follow(&collection_key, address, before, after);
        let (rank_before, rank_after) = (collection::rank(place, address, before), collection::rank(place, address, after));
        if rank_before != rank_after {
            let ranks = self.collections.ranks.get_mut();
            ranks.extend(rank_before.map(|(rank_key, _)| (rank_key, None)));
            ranks.extend(rank_after.map(|(rank_key, score)| (rank_key, Some(score))));
        }
    }

    /// What can be told of a key's elements, as this transaction left them.
    pub(super) fn summarize(&self, key: &Bytes) -> Result<Summary, ReplicaError> {
        let collection_key = layout::collection_key(self.place(key), key);
        self.know(key, &collection_key)?;
        Ok(self.collections.known.borrow().get(&collection_key).map(|known| known.now.summary).unwrap_or_default())
    }

    /// Whether any element of a key held data before the batch, and holds some now.
    pub(super) fn had_and_has_elements(&self, key: &Bytes) -> Result<(bool, bool), ReplicaError> {
        let collection_key = layout::collection_key(self.place(key), key);
        self.know(key, &collection_key)?;
        Ok(self.collections.had_and_has_data(&collection_key).unwrap_or_default())
    }

    /// Visits the ranks of a sorted set as this transaction left them; tells whether every member has one.
    pub(super) fn visit_ranks(
        &self,
        key: &Bytes,
        order: sorted_set::Order,
        from: Option<Score>,
        visitor: &mut VisitRanked<'_>,
    ) -> Result<bool, ReplicaError> {
        let place = self.place(key);
        let collection_key = layout::collection_key(place, key);
        self.know(key, &collection_key)?;
        if self.collections.known.borrow().get(&collection_key).is_some_and(|known| known.now.unranked > 0) {
            return Ok(false);
        }
        let changed = self.collections.ranks.borrow();
        collection::visit_ranks(&*self.snapshot, place, key, order, from, &changed, visitor)?;
        Ok(true)
    }

    /// Walks over a range within the rows of a key as [`Self::merged`] does, and steps over the ends of its list where nothing is left.
    pub(super) fn merged_of_key(
        &self,
        key: &Bytes,
        (start, end): (&[u8], &[u8]),
        order: Order,
        visit: &mut Merging<'_>,
    ) -> Result<(), ReplicaError> {
        let place = self.place(key);
        let items = layout::rows_of_items(place, key);
        let overlaps = start < items.1.as_slice() && items.0.as_slice() < end;
        let collection_key = layout::collection_key(place, key);
        let bounds = if overlaps { self.bounds_of_items(key, &collection_key)? } else { None };
        let Some((from_items, until_items)) = bounds else {
            // Most keys are no lists: one search finds all of their rows.
            return self.merged(start, end, order, visit);
        };
        let mut is_over = false;
        let mut part = |from: &[u8], until: &[u8]| -> Result<(), ReplicaError> {
            let (from, until) = (from.max(start), until.min(end));
            if is_over || from >= until {
                return Ok(());
            }
            self.merged(from, until, order, &mut |key, stored, cached| {
                let flow = visit(key, stored, cached)?;
                is_over = flow.is_break();
                Ok(flow)
            })
        };
        if order == Order::Forward {
            part(start, &items.0)?
        } else {
            part(&items.1, end)?
        }
        part(&from_items, &until_items)?;
        if order == Order::Forward { part(&items.1, end) } else { part(start, &items.0) }
    }

    /// The range of storage keys in which the items of a key lie as this transaction left them; `None` where it has none, or nothing is known.
    fn bounds_of_items(&self, key: &Bytes, collection_key: &[u8]) -> Result<Option<StorageRange>, ReplicaError> {
        let known = self.collections.known.borrow().get(collection_key).map(|known| known.now.clone());
        let known = if known.is_some() { known } else { self.on_record(key, collection_key)? };
        let Some(mut now) = known.filter(|now| !now.first.is_empty()) else { return Ok(None) };
        if let Some((first, last)) = self.collections.met.borrow().get(collection_key).cloned() {
            now.first = first.unwrap_or(now.first);
            now.last = last.unwrap_or(now.last);
        }
        Ok(Some(now.range_of_items(self.place(key), key)))
    }
}

/// Content of a row that the transaction knows: as it was read, and as it is.
pub(super) fn content_before(cached: &Cached) -> Content {
    cached.stored.as_ref().map_or_else(Content::default, |stored| Content::of(&cached.address, stored))
}
