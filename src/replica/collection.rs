//! What is derived of the elements of one key, and kept beside them: local, never replicated, and changed in the batch that changes the rows.
//!
//! ```text
//! record     how many rows there are of each kind, their digest and bytes, the earliest end that one names, between which positions items lie
//! ranks      score, member  →  score         of each member of a sorted set, as if nothing of it had ended
//! ```
//!
//! So counting a collection reads one record, the ends of a sorted set are found where they lie, and two replicas find out by their digests that they have
//! the same rows. Where a key has no record it has no elements, or the record was lost: whoever changes the key looks, and derives all of it anew.
//!
//! An LSM tree has to walk over what was deleted and is not compacted yet. A queue from which a million items were popped has a million such marks before its
//! front; the positions in the record let a visit begin behind them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::layout::{self, LONGEST_INLINE};
use crate::crdt::codec::{DecodeError, Reader, Writer};
use crate::crdt::delta::{Kind, Row, RowAddress};
use crate::crdt::encode;
use crate::crdt::expiry::Expiry;
use crate::crdt::rows::VisitRanked;
use crate::crdt::sorted_set::{Order, Score, ScoreView};
use crate::crdt::summary::Summary;
use crate::env::{Batch, Snapshot, StorageError};
use crate::types::{Digest, Place};

const VERSION: u8 = 1;

/// What is on record of a collection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collection {
    /// How many rows there are, and when the first may end.
    pub summary: Summary,
    /// Members of a sorted set that are too long to stand among the ranks.
    pub unranked: u64,
    /// Elements and contents of all rows, in bytes.
    pub bytes: u64,
    /// The sum of the digests of all rows.
    pub digest: Digest,
    /// No item lies before this position.
    pub first: Bytes,
    /// No item lies behind this position.
    pub last: Bytes,
}

impl Collection {
    /// Reads what is on record of a key; `None` where there is no record, or none that can be read.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn read(snapshot: &dyn Snapshot, place: Place, key: &[u8]) -> Result<Option<Self>, StorageError> {
        Ok(snapshot.get(&layout::collection_key(place, key))?.and_then(|bytes| Self::from_bytes(&bytes).ok()))
    }

    /// The record as it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION);
        let Summary { counts, ending, earliest_end } = &self.summary;
        for number in counts.iter().chain([ending, earliest_end, &self.unranked, &self.bytes]) {
            writer.number(*number);
        }
        writer.raw(&self.digest.0.to_be_bytes());
        writer.bytes(&self.first);
        writer.bytes(&self.last);
        writer.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::versioned(bytes, "a collection", VERSION)?;
        let mut collection = Self::default();
        for count in &mut collection.summary.counts {
            *count = reader.number("a number of rows")?;
        }
        collection.summary.ending = reader.number("a number of ends")?;
        collection.summary.earliest_end = reader.number("an end")?;
        collection.unranked = reader.number("a number of members")?;
        collection.bytes = reader.number("a number of bytes")?;
        let mut digest = [0; 16];
        for byte in &mut digest {
            *byte = reader.byte("a digest")?;
        }
        collection.digest = Digest(u128::from_be_bytes(digest));
        collection.first = reader.bytes("a position", LONGEST_INLINE)?;
        collection.last = reader.bytes("a position", LONGEST_INLINE)?;
        reader.finish()?;
        Ok(collection)
    }

    /// Whether the key has no element at all, not even a trace of one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.digest == Digest::default() && self.summary == Summary::default()
    }

    /// Follows a row from what it held to what it holds, but for its digest and bytes.
    pub fn follow(&mut self, address: &RowAddress, before: &Row, after: &Row) {
        self.summary.follow(address.kind, before, after);
        if self.summary.ending == 0 {
            self.summary.earliest_end = 0;
        }
        match address.kind {
            Kind::Score if address.element.len() > LONGEST_INLINE => {
                let is_ranked = |row: &Row| u64::from(score(row).is_some());
                self.unranked = self.unranked.saturating_sub(is_ranked(before)).saturating_add(is_ranked(after));
            }
            Kind::Item if before.is_empty() != after.is_empty() => self.follow_item(&address.element, before.is_empty()),
            _ => {}
        }
    }

    fn follow_item(&mut self, position: &Bytes, appeared: bool) {
        match (self.summary.count(Kind::Item), appeared) {
            (0, _) => (self.first, self.last) = (Bytes::new(), Bytes::new()),
            (1, true) => (self.first, self.last) = (position.clone(), position.clone()),
            (_, true) => {
                self.first = self.first.clone().min(position.clone());
                self.last = self.last.clone().max(position.clone());
            }
            (_, false) => {}
        }
    }

    /// Follows digest and bytes of a row from what they were to what they are.
    pub fn follow_content(&mut self, before: Content, after: Content) {
        self.digest = self.digest.minus(before.digest).plus(after.digest);
        self.bytes = self.bytes.saturating_sub(before.bytes).saturating_add(after.bytes);
    }

    /// Adds a row that is there to what is derived anew.
    pub fn take_in(&mut self, address: &RowAddress, row: &Row, content: &Bytes) {
        self.follow(address, &Row::new(), row);
        self.follow_content(Content::default(), Content::of(address, content));
    }

    /// The range of storage keys in which items lie.
    #[must_use]
    pub fn range_of_items(&self, place: Place, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (start, _) = layout::rows_of_items(place, key);
        if self.summary.count(Kind::Item) == 0 {
            return (start.clone(), start);
        }
        ([&start[..], &self.first].concat(), [&start[..], &self.last, &[0]].concat())
    }

    /// Whether a record says what is so: bounds may be wider than what lies between them. `self` is derived anew.
    #[must_use]
    pub fn agrees_with(&self, record: &Self) -> bool {
        let encloses = self.summary.count(Kind::Item) == 0 || (record.first <= self.first && self.last <= record.last);
        let precedes = self.summary.ending == 0 || record.summary.earliest_end <= self.summary.earliest_end;
        let bounds = Summary { earliest_end: self.summary.earliest_end, ..record.summary };
        let record = Self { summary: bounds, first: self.first.clone(), last: self.last.clone(), ..record.clone() };
        encloses && precedes && record == *self
    }
}

/// Digest and bytes of a row; of none where there is none.
#[derive(Clone, Copy, Default)]
pub struct Content {
    /// The digest.
    pub digest: Digest,
    /// Element and content, in bytes.
    pub bytes: u64,
}

impl Content {
    /// Of the canonical bytes of a row.
    #[must_use]
    pub fn of(address: &RowAddress, content: &[u8]) -> Self {
        let bytes = u64::try_from(address.element.len() + content.len()).unwrap_or(u64::MAX);
        Self { digest: encode::stored_row_digest(address, content), bytes }
    }
}

/// The score of a member as if nothing of it had ended.
fn score(row: &Row) -> Option<Score> {
    ScoreView::of(row, &Expiry::default()).score().map(Score::new)
}

/// The rank that a row of a sorted set's member stands at: its storage key, and the score; `None` where it has none.
pub(super) fn rank(place: Place, address: &RowAddress, row: &Row) -> Option<(Vec<u8>, Score)> {
    if address.kind != Kind::Score || address.element.len() > LONGEST_INLINE {
        return None;
    }
    score(row).map(|score| (layout::rank_key(place, &address.key, score, &address.element), score))
}

/// The value of a rank.
pub(super) fn rank_value(score: Score) -> Vec<u8> {
    score.to_bits().to_be_bytes().to_vec()
}

/// The score in the value of a rank.
pub(super) fn score_of_rank(value: &[u8]) -> Option<Score> {
    Score::from_bits(u64::from_be_bytes(value.try_into().ok()?))
}

/// Derives anew what belongs to rows that come in order of storage.
#[derive(Default)]
pub struct Deriving {
    current: Option<(Vec<u8>, Collection)>,
    /// Puts what was derived.
    pub batch: Batch,
}

impl Deriving {
    /// Takes a row in.
    pub fn take_in(&mut self, place: Place, address: &RowAddress, row: &Row, content: &Bytes) {
        if !address.kind.has_elements() {
            return;
        }
        let key = layout::collection_key(place, &address.key);
        if self.current.as_ref().is_none_or(|(current, _)| *current != key) {
            self.settle();
        }
        self.current.get_or_insert_with(|| (key, Collection::default())).1.take_in(address, row, content);
        if let Some((rank_key, score)) = rank(place, address, row) {
            self.batch.put(rank_key, rank_value(score));
        }
    }

    fn settle(&mut self) {
        if let Some((key, collection)) = self.current.take() {
            self.batch.put(key, collection.to_bytes());
        }
    }

    /// Everything that was derived.
    #[must_use]
    pub fn finish(mut self) -> Batch {
        self.settle();
        self.batch
    }
}

/// Visits the ranks of a sorted set from either end and a score on, as a snapshot shows them with what has changed since. A rank that can't be read is passed over.
pub(super) fn visit_ranks(
    snapshot: &dyn Snapshot,
    place: Place,
    key: &[u8],
    order: Order,
    from: Option<Score>,
    changed: &BTreeMap<Vec<u8>, Option<Score>>,
    visitor: &mut VisitRanked<'_>,
) -> Result<(), StorageError> {
    let (first, end) = layout::ranks_of_key(place, key);
    let (start, end) = match (from.map(|from| layout::rank_key(place, key, from, &[])), order) {
        (None, _) => (first.clone(), end),
        (Some(from), Order::Ascending) => (from, end),
        (Some(from), Order::Descending) => (first.clone(), layout::end_of(&from)),
    };
    let mut changes = changed.range(start.clone()..end.clone());
    let mut next_change = || if order == Order::Ascending { changes.next() } else { changes.next_back() };
    let mut change = next_change();
    let mut tell = |rank_key: &[u8], score: Option<Score>| match (score, layout::ranked_member(rank_key, &first)) {
        (Some(score), Some(member)) => visitor(&member, score),
        _ => ControlFlow::Continue(()),
    };
    let comes_first = |one: &[u8], other: &[u8]| if order == Order::Ascending { one < other } else { one > other };
    let mut flow = ControlFlow::Continue(());
    let mut step = |rank_key: &[u8], value: &[u8]| {
        while let Some((changed_key, score)) = change.take_if(|(changed_key, _)| !comes_first(rank_key, changed_key)) {
            flow = tell(changed_key, *score);
            change = next_change();
            if flow.is_break() || changed_key == rank_key {
                return flow;
            }
        }
        flow = tell(rank_key, score_of_rank(value));
        flow
    };
    match order {
        Order::Ascending => snapshot.scan(&start, &end, &mut step)?,
        Order::Descending => snapshot.scan_back(&start, &end, &mut step)?,
    }
    while let Some((changed_key, score)) = change.filter(|_| flow.is_continue()) {
        flow = tell(changed_key, *score);
        change = next_change();
    }
    Ok(())
}
